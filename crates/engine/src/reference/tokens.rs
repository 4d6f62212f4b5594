//! Pooling of a sequence `[tokens, features]`.

/// Zeros, but `dy` at one token.
pub(super) fn select_grad(dy: &[f64], index: usize, tokens: usize) -> Vec<f64> {
    let mut dx = vec![0.0; tokens * dy.len()];
    dx[index * dy.len()..][..dy.len()].copy_from_slice(dy);
    dx
}

/// y[i] = sum over tokens of x[token][i] / tokens
pub(super) fn mean(x: &[f64], features: usize) -> Vec<f64> {
    let tokens = x.len() / features;
    (0..features).map(|i| (0..tokens).map(|token| x[token * features + i]).sum::<f64>() / tokens as f64).collect()
}

/// dx[token][i] = dy[i] / tokens
pub(super) fn mean_grad(dy: &[f64], tokens: usize) -> Vec<f64> {
    (0..tokens).flat_map(|_| dy.iter().map(move |dy| dy / tokens as f64)).collect()
}
