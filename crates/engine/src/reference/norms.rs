//! Norms of maps `[..., channels]` over more than one pixel: group norm and batch norm, and their gradients.
//!
//! Both normalize sets of values, and both scale and shift by channel.

/// Sets of values that are normalized together: by group of channels, or by channel.
fn sets(len: usize, channels: usize, groups: usize) -> Vec<Vec<usize>> {
    let group = channels / groups;
    (0..groups).map(|g| (0..len).filter(|i| i % channels / group == g).collect()).collect()
}

/// A set's mean and its variance, which divides by n.
fn mean_and_variance(x: &[f64], set: &[usize]) -> [f64; 2] {
    let n = set.len() as f64;
    let mean = set.iter().map(|&i| x[i]).sum::<f64>() / n;
    [mean, set.iter().map(|&i| (x[i] - mean) * (x[i] - mean)).sum::<f64>() / n]
}

/// y = (x - mean) / sqrt(variance + eps) * weight + bias, for groups of channels over all of `x`
pub(crate) fn forward(x: &[f64], weight: &[f64], bias: &[f64], groups: usize, eps: f64) -> Vec<f64> {
    let channels = weight.len();
    let mut y = vec![0.0; x.len()];
    for set in sets(x.len(), channels, groups) {
        let [mean, variance] = mean_and_variance(x, &set);
        for i in set {
            y[i] = (x[i] - mean) / (variance + eps).sqrt() * weight[i % channels] + bias[i % channels];
        }
    }
    y
}

/// The gradients of x, weight and bias.
///
/// dx = (g - mean(g) - n * mean(g n)) / sqrt(variance + eps), with n = (x - mean) / sqrt(variance + eps) and
/// g = dy * weight; dweight = sum of dy n; dbias = sum of dy.
pub(crate) fn grads(dy: &[f64], x: &[f64], weight: &[f64], groups: usize, eps: f64) -> [Vec<f64>; 3] {
    let channels = weight.len();
    let (mut dx, mut dweight, mut dbias) = (vec![0.0; x.len()], vec![0.0; channels], vec![0.0; channels]);
    for set in sets(x.len(), channels, groups) {
        let [mean, variance] = mean_and_variance(x, &set);
        let inverse_std = 1.0 / (variance + eps).sqrt();
        let normalized = |i: usize| (x[i] - mean) * inverse_std;
        let g = |i: usize| dy[i] * weight[i % channels];
        let count = set.len() as f64;
        let g_mean = set.iter().map(|&i| g(i)).sum::<f64>() / count;
        let slope = set.iter().map(|&i| g(i) * normalized(i)).sum::<f64>() / count;
        for i in set {
            dx[i] = (g(i) - g_mean - normalized(i) * slope) * inverse_std;
            dweight[i % channels] += dy[i] * normalized(i);
            dbias[i % channels] += dy[i];
        }
    }
    [dx, dweight, dbias]
}

/// Batch norm in inference: the same with given means and variances.
pub(crate) fn with_statistics(x: &[f64], [weight, bias, mean, variance]: [&[f64]; 4], eps: f64) -> Vec<f64> {
    let channels = weight.len();
    let value = |(i, x): (usize, &f64)| {
        let c = i % channels;
        (x - mean[c]) / (variance[c] + eps).sqrt() * weight[c] + bias[c]
    };
    x.iter().enumerate().map(value).collect()
}

/// The gradients of x, weight and bias of batch norm with given means and variances.
///
/// dx = dy * weight / sqrt(variance + eps); dweight = sum of dy (x - mean) / sqrt(variance + eps); dbias = sum of dy.
pub(crate) fn grads_with_statistics(
    dy: &[f64],
    x: &[f64],
    [weight, mean, variance]: [&[f64]; 3],
    eps: f64,
) -> [Vec<f64>; 3] {
    let channels = weight.len();
    let (mut dx, mut dweight, mut dbias) = (vec![0.0; x.len()], vec![0.0; channels], vec![0.0; channels]);
    for (i, (dy, x)) in dy.iter().zip(x).enumerate() {
        let c = i % channels;
        let inverse_std = 1.0 / (variance[c] + eps).sqrt();
        dx[i] = dy * weight[c] * inverse_std;
        dweight[c] += dy * (x - mean[c]) * inverse_std;
        dbias[c] += dy;
    }
    [dx, dweight, dbias]
}

/// The running mean and variance after a step: old ones, moved by the fraction `momentum` towards those of the step, of
/// which the variance divides by n - 1 here.
pub(crate) fn new_statistics(x: &[f64], [mean, variance]: [&[f64]; 2], momentum: f64) -> [Vec<f64>; 2] {
    let channels = mean.len();
    let n = (x.len() / channels) as f64;
    let (mut mean, mut variance) = (mean.to_vec(), variance.to_vec());
    for (c, set) in sets(x.len(), channels, channels).iter().enumerate() {
        let [now, biased] = mean_and_variance(x, set);
        mean[c] += momentum * (now - mean[c]);
        variance[c] += momentum * (biased * n / (n - 1.0).max(1.0) - variance[c]);
    }
    [mean, variance]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_normalized_separately_and_statistics_move_towards_those_of_the_step() {
        // Two pixels of three channels: means 2, 5, 4; biased variances 1, 0, 9; over n - 1: 2, 0, 18.
        let x = [1.0, 5.0, 1.0, 3.0, 5.0, 7.0];
        let y = forward(&x, &[2.0, 1.0, 1.0], &[0.5, 0.0, 0.0], 3, 1e-12);
        for (y, expected) in y.iter().zip([-1.5, 0.0, -1.0, 2.5, 0.0, 1.0]) {
            assert!((y - expected).abs() < 1e-9, "{y} {expected}");
        }
        let [mean, variance] = new_statistics(&x, [&[0.0; 3], &[1.0; 3]], 0.1);
        for (found, expected) in mean.iter().chain(&variance).zip([0.2, 0.5, 0.4, 1.1, 0.9, 2.7]) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
        // One group for all: mean 11 / 3.
        let y = forward(&x, &[1.0; 3], &[0.0; 3], 1, 1e-12);
        assert!((y.iter().sum::<f64>()).abs() < 1e-9 && y[0] == y[2], "{y:?}");
    }
}
