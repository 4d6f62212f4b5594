//! Multi-head attention and its gradient, one head at a time.

use crate::ops::{Attention, Over};
use crate::random::Key;
use crate::reference::dropout;

/// What an attention reads for one example: rows of `embed_dim` values, and a number for each key that is positive
/// where the key may be seen.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'a> {
    pub q: &'a [f64],
    pub k: &'a [f64],
    pub v: &'a [f64],
    pub mask: Option<&'a [f64]>,
    pub embed_dim: usize,
}

/// One head of an attention.
struct Head<'a> {
    attention: Attention,
    image: Option<Key>,
    of: Operands<'a>,
    head: usize,
}

impl Head<'_> {
    fn queries(&self) -> usize {
        self.of.q.len() / self.of.embed_dim
    }

    fn keys(&self) -> usize {
        self.of.k.len() / self.of.embed_dim
    }

    fn head_dim(&self) -> usize {
        self.of.embed_dim / self.attention.heads
    }

    /// The place of a head's value in rows of `embed_dim`.
    fn place(&self, row: usize, column: usize) -> usize {
        row * self.of.embed_dim + self.head * self.head_dim() + column
    }

    /// Whether a query may see a key.
    fn sees(&self, query: usize, key: usize) -> bool {
        self.of.mask.is_none_or(|mask| mask[key] > 0.0) && (!self.attention.causal || key <= query)
    }

    /// s[query][key] = scale * (q[query] . k[key])
    fn score(&self, query: usize, key: usize) -> f64 {
        let (q, k) = (self.place(query, 0), self.place(key, 0));
        let product: f64 = (0..self.head_dim()).map(|c| self.of.q[q + c] * self.of.k[k + c]).sum();
        f64::from(self.attention.scale) * product
    }

    /// weights[query][key] = exp(s[query][key]) / sum of exp(s), over the keys that the query sees or over the queries
    /// that see the key; 0 where a query does not see a key.
    fn weights(&self) -> Vec<Vec<f64>> {
        let (queries, keys) = (self.queries(), self.keys());
        let mut weights = vec![vec![0.0; keys]; queries];
        let groups: Vec<Vec<(usize, usize)>> = match self.attention.softmax {
            Over::Keys => (0..queries).map(|query| (0..keys).map(|key| (query, key)).collect()).collect(),
            Over::Queries => (0..keys).map(|key| (0..queries).map(|query| (query, key)).collect()).collect(),
        };
        for group in groups {
            let seen: Vec<(usize, usize)> = group.into_iter().filter(|&(query, key)| self.sees(query, key)).collect();
            let scores: Vec<f64> = seen.iter().map(|&(query, key)| self.score(query, key)).collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
            for (&(query, key), score) in seen.iter().zip(&scores) {
                weights[query][key] = (score - largest).exp() / sum;
            }
        }
        weights
    }

    /// What dropout and the last scale multiply a weight by.
    fn factor(&self, query: usize, key: usize) -> f64 {
        let (row, keys) = (self.head * self.queries() + query, self.keys());
        let kept = self.attention.dropout.map_or(1.0, |dropout| dropout::factor(dropout, self.image, row, keys, key));
        f64::from(self.attention.out_scale) * kept
    }
}

/// context[query] = sum over keys of factor * weight * v[key]
///
/// # Shapes
/// - returned: `[queries, embed_dim]`
pub(crate) fn attend(attention: Attention, image: Option<Key>, of: Operands) -> Vec<f64> {
    let mut context = vec![0.0; of.q.len()];
    for number in 0..attention.heads {
        let head = Head { attention, image, of, head: number };
        for (query, weights) in head.weights().iter().enumerate() {
            for (key, weight) in weights.iter().enumerate() {
                for column in 0..head.head_dim() {
                    context[head.place(query, column)] +=
                        head.factor(query, key) * weight * of.v[head.place(key, column)];
                }
            }
        }
    }
    context
}

/// The gradients of queries, keys and values.
///
/// - dv[key] = sum over queries of factor * weight * dy[query]
/// - dweight = factor * (dy[query] . v[key])
/// - ds = weight * (dweight - sum of weight * dweight), the sum over the axis of softmax
/// - dq[query] = scale * sum over keys of ds * k[key]; dk[key] = scale * sum over queries of ds * q[query]
///
/// # Shapes
/// - `dy`: `[queries, embed_dim]`; returned: as the operands
pub(crate) fn attend_grad(attention: Attention, image: Option<Key>, dy: &[f64], of: Operands) -> [Vec<f64>; 3] {
    let (mut dq, mut dk, mut dv) = (vec![0.0; of.q.len()], vec![0.0; of.k.len()], vec![0.0; of.v.len()]);
    let scale = f64::from(attention.scale);
    for number in 0..attention.heads {
        let head = Head { attention, image, of, head: number };
        let (queries, keys, columns) = (head.queries(), head.keys(), 0..head.head_dim());
        let weights = head.weights();
        let dweight = |query: usize, key: usize| {
            let product = columns.clone().map(|c| dy[head.place(query, c)] * of.v[head.place(key, c)]);
            head.factor(query, key) * product.sum::<f64>()
        };
        let dweights: Vec<Vec<f64>> =
            (0..queries).map(|query| (0..keys).map(|key| dweight(query, key)).collect()).collect();
        let product = |query: usize, key: usize| weights[query][key] * dweights[query][key];
        for query in 0..queries {
            for key in 0..keys {
                let mean: f64 = match attention.softmax {
                    Over::Keys => (0..keys).map(|key| product(query, key)).sum(),
                    Over::Queries => (0..queries).map(|query| product(query, key)).sum(),
                };
                let ds = weights[query][key] * (dweights[query][key] - mean);
                for c in columns.clone() {
                    let (at_query, at_key) = (head.place(query, c), head.place(key, c));
                    dq[at_query] += scale * ds * of.k[at_key];
                    dk[at_key] += scale * ds * of.q[at_query];
                    dv[at_key] += head.factor(query, key) * weights[query][key] * dy[at_query];
                }
            }
        }
    }
    [dq, dk, dv]
}

/// Query, key and value that lie side by side in rows of `3 * embed_dim`.
fn split(qkv: &[f64], embed_dim: usize) -> [Vec<f64>; 3] {
    [0, 1, 2].map(|part| {
        qkv.chunks_exact(3 * embed_dim).flat_map(|row| &row[part * embed_dim..][..embed_dim]).copied().collect()
    })
}

/// Attention of fused queries, keys and values.
///
/// # Shapes
/// - `qkv`: `[tokens, 3 * embed_dim]`; returned: `[tokens, embed_dim]`
pub(crate) fn forward(attention: Attention, image: Option<Key>, qkv: &[f64], embed_dim: usize) -> Vec<f64> {
    let [q, k, v] = split(qkv, embed_dim);
    attend(attention, image, Operands { q: &q, k: &k, v: &v, mask: None, embed_dim })
}

/// The gradient of fused queries, keys and values.
///
/// # Shapes
/// - `dy`: `[tokens, embed_dim]`; `qkv`: `[tokens, 3 * embed_dim]`, and the same is returned
pub(crate) fn grad(attention: Attention, image: Option<Key>, dy: &[f64], qkv: &[f64], embed_dim: usize) -> Vec<f64> {
    let [q, k, v] = split(qkv, embed_dim);
    let parts = attend_grad(attention, image, dy, Operands { q: &q, k: &k, v: &v, mask: None, embed_dim });
    let rows = 0..qkv.len() / (3 * embed_dim);
    rows.flat_map(|row| parts.iter().flat_map(move |part| &part[row * embed_dim..][..embed_dim])).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Dropout;

    #[test]
    fn equal_scores_give_the_sum_of_kept_values_over_the_tokens() {
        let (tokens, embed_dim, heads) = (37, 6, 2);
        let qkv: Vec<f64> = (0..tokens * 3 * embed_dim).map(|i| (i * i % 101) as f64).collect();
        let dropout = Dropout { rate: 0.25, stream: 5 };
        // A scale of 0 makes all scores equal.
        let attention = Attention::new(heads, 0.0, Some(dropout));
        let image = Key::new(11);
        let context = forward(attention, Some(image), &qkv, embed_dim);
        let keys = dropout.keys(image);
        for query in 0..tokens {
            for column in 0..embed_dim {
                let row = column / 3 * tokens + query;
                let kept: f64 = (0..tokens)
                    .filter(|&key| dropout.keeps(keys, row, tokens, key))
                    .map(|key| qkv[key * 3 * embed_dim + 2 * embed_dim + column])
                    .sum();
                let expected = f64::from(dropout.scale()) * kept / tokens as f64;
                assert!((context[query * embed_dim + column] - expected).abs() < 1e-12 * expected.abs());
            }
        }
        let all = forward(attention, None, &qkv, embed_dim);
        let first: f64 = (0..tokens).map(|key| qkv[key * 3 * embed_dim + 2 * embed_dim]).sum();
        assert!((all[0] - first / tokens as f64).abs() < 1e-12 * first);
    }
}
