//! Pooling of maps `[height, width, channels]` and its gradients.

use crate::ops::Pool;

/// The pixels of the map in the window of one pixel of the result, row by row.
fn window(pool: Pool, input: &[usize], [row, column]: [usize; 2]) -> Vec<usize> {
    let Pool { kernel, stride, padding } = pool;
    let mut pixels = Vec::new();
    for y in row * stride..row * stride + kernel {
        for x in column * stride..column * stride + kernel {
            if (padding..padding + input[0]).contains(&y) && (padding..padding + input[1]).contains(&x) {
                pixels.push((y - padding) * input[1] + x - padding);
            }
        }
    }
    pixels
}

/// Calls `each` with the number of each result and those of the values in its window.
fn for_each_window(pool: Pool, [input, output]: [&[usize]; 2], mut each: impl FnMut(usize, &[usize])) {
    let channels = input[2];
    for row in 0..output[0] {
        for column in 0..output[1] {
            let pixels = window(pool, input, [row, column]);
            for channel in 0..channels {
                let values: Vec<usize> = pixels.iter().map(|pixel| pixel * channels + channel).collect();
                each((row * output[1] + column) * channels + channel, &values);
            }
        }
    }
}

/// The first of the largest.
fn largest(x: &[f64], window: &[usize]) -> usize {
    window.iter().copied().reduce(|best, at| if x[at] > x[best] { at } else { best }).expect("a window has values")
}

/// y = the largest of the window
pub(crate) fn max(x: &[f64], pool: Pool, axes: [&[usize]; 2]) -> Vec<f64> {
    let mut y = vec![0.0; axes[1].iter().product()];
    for_each_window(pool, axes, |i, window| y[i] = x[largest(x, window)]);
    y
}

/// dx: each result's gradient goes to the value it was.
pub(crate) fn max_grad(dy: &[f64], x: &[f64], pool: Pool, axes: [&[usize]; 2]) -> Vec<f64> {
    let mut dx = vec![0.0; x.len()];
    for_each_window(pool, axes, |i, window| dx[largest(x, window)] += dy[i]);
    dx
}

/// y = the sum of the window / kernel^2
pub(crate) fn mean(x: &[f64], pool: Pool, axes: [&[usize]; 2]) -> Vec<f64> {
    let mut y = vec![0.0; axes[1].iter().product()];
    let share = 1.0 / (pool.kernel * pool.kernel) as f64;
    for_each_window(pool, axes, |i, window| y[i] = window.iter().map(|&at| x[at]).sum::<f64>() * share);
    y
}

/// dx: each value gets dy / kernel^2 of each window it is in.
pub(crate) fn mean_grad(dy: &[f64], pool: Pool, axes: [&[usize]; 2]) -> Vec<f64> {
    let mut dx = vec![0.0; axes[0].iter().product()];
    let share = 1.0 / (pool.kernel * pool.kernel) as f64;
    for_each_window(pool, axes, |i, window| window.iter().for_each(|&at| dx[at] += dy[i] * share));
    dx
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equals_gets_the_gradient_and_padding_counts_in_means() {
        // One channel: 3 3 1 / 3 2 1.
        let x = [3.0, 3.0, 1.0, 3.0, 2.0, 1.0];
        let pool = Pool::new(2);
        let axes: [&[usize]; 2] = [&[2, 3, 1], &[1, 1, 1]];
        assert_eq!(max_grad(&[5.0], &x, pool, axes), [5.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let padded = Pool { kernel: 2, stride: 2, padding: 1 };
        let axes: [&[usize]; 2] = [&[2, 3, 1], &[2, 2, 1]];
        assert_eq!(mean(&x, padded, axes), [0.75, 1.0, 0.75, 0.75]);
        assert_eq!(max(&x, padded, axes), [3.0, 3.0, 3.0, 2.0]);
    }
}
