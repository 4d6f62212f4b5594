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

/// Neighboring values of a row: `len` of them from `start` on, of each row of `of` values.
pub(super) fn slice(x: &[f64], of: usize, start: usize, len: usize) -> Vec<f64> {
    x.chunks_exact(of).flat_map(|row| &row[start..start + len]).copied().collect()
}

/// Zeros, but `dy` at these values: what [`slice`] takes is put back.
pub(super) fn slice_grad(dy: &[f64], of: usize, start: usize, len: usize) -> Vec<f64> {
    let mut dx = vec![0.0; dy.len() / len * of];
    for (row, dy) in dx.chunks_exact_mut(of).zip(dy.chunks_exact(len)) {
        row[start..start + len].copy_from_slice(dy);
    }
    dx
}

/// The rows of several values, of these lengths, side by side.
pub(super) fn concat(parts: &[&[f64]], features: &[usize]) -> Vec<f64> {
    let rows = 0..parts[0].len() / features[0];
    rows.flat_map(|row| parts.iter().zip(features).flat_map(move |(part, n)| &part[row * n..][..*n])).copied().collect()
}

/// y[token] = table[ids[token]]
pub(super) fn embedding(ids: &[f64], table: &[f64], width: usize) -> Vec<f64> {
    ids.iter().flat_map(|&id| &table[id as usize * width..][..width]).copied().collect()
}

/// dtable[id] = sum of dy[token] over the tokens with that id
pub(super) fn embedding_grad(dy: &[f64], ids: &[f64], len: usize) -> Vec<f64> {
    let (mut dtable, width) = (vec![0.0; len], dy.len() / ids.len());
    for (dy, &id) in dy.chunks_exact(width).zip(ids) {
        for (sum, dy) in dtable[id as usize * width..].iter_mut().zip(dy) {
            *sum += dy;
        }
    }
    dtable
}
