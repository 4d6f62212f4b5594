//! The convolution and its gradients; maps are `[height, width, channels]`, `weight` is
//! `[out, in / groups, kernel, kernel]`.

use crate::ops::Convolution;

/// One multiplication of a convolution: the numbers of a result, of an input value and of a weight.
struct Term {
    y: usize,
    x: usize,
    weight: usize,
}

/// Calls `each` for every multiplication with a pixel inside the map.
fn for_each_term(convolution: Convolution, input: &[usize], output: &[usize], mut each: impl FnMut(Term)) {
    let Convolution { out_channels, kernel, stride, padding, groups } = convolution;
    let (in_group, out_group) = (input[2] / groups, out_channels / groups);
    for out_row in 0..output[0] {
        for out_column in 0..output[1] {
            for out in 0..out_channels {
                let y = (out_row * output[1] + out_column) * out_channels + out;
                for channel in 0..in_group {
                    for ky in 0..kernel {
                        for kx in 0..kernel {
                            let (row, column) = (out_row * stride + ky, out_column * stride + kx);
                            let inside = |at: usize, len: usize| at >= padding && at < padding + len;
                            if !inside(row, input[0]) || !inside(column, input[1]) {
                                continue;
                            }
                            let pixel = (row - padding) * input[1] + column - padding;
                            let x = pixel * input[2] + out / out_group * in_group + channel;
                            let weight = ((out * in_group + channel) * kernel + ky) * kernel + kx;
                            each(Term { y, x, weight });
                        }
                    }
                }
            }
        }
    }
}

/// y[pixel][o] = bias[o] + sum over channels and taps of x * weight
pub(crate) fn forward(
    x: &[f64],
    weight: &[f64],
    bias: Option<&[f64]>,
    convolution: Convolution,
    [input, output]: [&[usize]; 2],
) -> Vec<f64> {
    let len: usize = output.iter().product();
    let mut y: Vec<f64> = (0..len).map(|i| bias.map_or(0.0, |bias| bias[i % convolution.out_channels])).collect();
    for_each_term(convolution, input, output, |term| y[term.y] += x[term.x] * weight[term.weight]);
    y
}

/// dx: each result's gradient goes back to the values that it is a sum of.
pub(crate) fn input_grad(
    dy: &[f64],
    weight: &[f64],
    convolution: Convolution,
    [input, output]: [&[usize]; 2],
) -> Vec<f64> {
    let mut dx = vec![0.0; input.iter().product()];
    for_each_term(convolution, input, output, |term| dx[term.x] += dy[term.y] * weight[term.weight]);
    dx
}

/// dweight: the sum over pixels of the result's gradient times the value that the weight was multiplied with.
pub(crate) fn weight_grad(dy: &[f64], x: &[f64], convolution: Convolution, [input, output]: [&[usize]; 2]) -> Vec<f64> {
    let Convolution { out_channels, kernel, groups, .. } = convolution;
    let mut dweight = vec![0.0; out_channels * input[2] / groups * kernel * kernel];
    for_each_term(convolution, input, output, |term| dweight[term.weight] += dy[term.y] * x[term.x]);
    dweight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_equal_those_of_pytorch() {
        // torch.nn.functional.conv2d(arange(16).view(1, 2, 2, 4), arange(-9, 9).view(1, 2, 3, 3), stride=2, padding=1)
        // is [[[248, 356]]]; here the map has its channels last.
        let x: Vec<f64> = (0..16).map(|i| f64::from(i % 2 * 8 + i / 2)).collect();
        let weight: Vec<f64> = (-9..9).map(f64::from).collect();
        let convolution = Convolution::new(1, 3).stride(2).padding(1);
        let y = forward(&x, &weight, None, convolution, [&[2, 4, 2], &[1, 2, 1]]);
        assert_eq!(y, [248.0, 356.0]);
    }
}
