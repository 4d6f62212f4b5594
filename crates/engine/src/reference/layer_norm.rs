//! Layer norm and its gradients, row by row.

/// A row's (x - mean) / sqrt(variance + eps), and 1 / sqrt(variance + eps); the variance divides by n.
fn normalize(row: &[f64], eps: f64) -> (Vec<f64>, f64) {
    let n = row.len() as f64;
    let mean = row.iter().sum::<f64>() / n;
    let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
    let inverse_std = 1.0 / (variance + eps).sqrt();
    (row.iter().map(|x| (x - mean) * inverse_std).collect(), inverse_std)
}

/// y = normalized * weight + bias
pub(crate) fn forward(x: &[f64], weight: &[f64], bias: &[f64], eps: f64) -> Vec<f64> {
    let mut y = Vec::with_capacity(x.len());
    for row in x.chunks_exact(weight.len()) {
        let (normalized, _) = normalize(row, eps);
        for i in 0..row.len() {
            y.push(normalized[i] * weight[i] + bias[i]);
        }
    }
    y
}

/// dx = (g - mean(g) - normalized * mean(g * normalized)) / sqrt(variance + eps), with g = dy * weight
pub(crate) fn input_grad(dy: &[f64], x: &[f64], weight: &[f64], eps: f64) -> Vec<f64> {
    let features = weight.len();
    let mut dx = Vec::with_capacity(x.len());
    for (dy, row) in dy.chunks_exact(features).zip(x.chunks_exact(features)) {
        let (normalized, inverse_std) = normalize(row, eps);
        let g: Vec<f64> = dy.iter().zip(weight).map(|(dy, weight)| dy * weight).collect();
        let mean = g.iter().sum::<f64>() / features as f64;
        let slope = g.iter().zip(&normalized).map(|(g, n)| g * n).sum::<f64>() / features as f64;
        for i in 0..features {
            dx.push((g[i] - mean - normalized[i] * slope) * inverse_std);
        }
    }
    dx
}

/// dweight = sum over rows of dy * normalized; dbias = sum over rows of dy
pub(crate) fn param_grads(dy: &[f64], x: &[f64], features: usize, eps: f64) -> [Vec<f64>; 2] {
    let (mut dweight, mut dbias) = (vec![0.0; features], vec![0.0; features]);
    for (dy, row) in dy.chunks_exact(features).zip(x.chunks_exact(features)) {
        let (normalized, _) = normalize(row, eps);
        for i in 0..features {
            dweight[i] += dy[i] * normalized[i];
            dbias[i] += dy[i];
        }
    }
    [dweight, dbias]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_centered_and_divided_by_its_biased_deviation() {
        // Mean 4, variance (9 + 1 + 16) / 3 = 26 / 3.
        let y = forward(&[1.0, 3.0, 8.0], &[1.0, 2.0, 3.0], &[0.5, 0.0, -0.5], 1.0 / 3.0);
        for (y, expected) in y.iter().zip([-3.0 / 3.0 + 0.5, -2.0 / 3.0, 12.0 / 3.0 - 0.5]) {
            assert!((y - expected).abs() < 1e-15, "{y} {expected}");
        }
    }
}
