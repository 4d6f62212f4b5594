//! Multi-head self-attention and its gradient, one head and one query at a time.

use crate::ops::Attention;
use crate::random::Key;
use crate::reference::dropout;

/// Where query, key and value of one head lie in the rows of `qkv`, and how often each weight counts.
struct Head<'a> {
    attention: Attention,
    image: Option<Key>,
    qkv: &'a [f64],
    embed_dim: usize,
    head: usize,
}

impl Head<'_> {
    fn tokens(&self) -> usize {
        self.qkv.len() / (3 * self.embed_dim)
    }

    fn head_dim(&self) -> usize {
        self.embed_dim / self.attention.heads
    }

    /// The column of the head's first value, in rows of `embed_dim`.
    fn first_column(&self) -> usize {
        self.head * self.head_dim()
    }

    /// The place in `qkv` of a token's query (`which` 0), key (1) or value (2).
    fn place(&self, which: usize, token: usize, column: usize) -> usize {
        token * 3 * self.embed_dim + which * self.embed_dim + self.first_column() + column
    }

    fn at(&self, which: usize, token: usize, column: usize) -> f64 {
        self.qkv[self.place(which, token, column)]
    }

    /// weights[key] = exp(s[key]) / sum over j of exp(s[j]), with s[key] = scale * (q . k[key])
    fn weights(&self, query: usize) -> Vec<f64> {
        let scores: Vec<f64> = (0..self.tokens())
            .map(|key| {
                let product: f64 = (0..self.head_dim()).map(|c| self.at(0, query, c) * self.at(1, key, c)).sum();
                f64::from(self.attention.scale) * product
            })
            .collect();
        let greatest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let exponentials: Vec<f64> = scores.iter().map(|score| (score - greatest).exp()).collect();
        let sum: f64 = exponentials.iter().sum();
        exponentials.iter().map(|e| e / sum).collect()
    }

    /// What dropout multiplies the weight of `key` by.
    fn factor(&self, query: usize, key: usize) -> f64 {
        let row = self.head * self.tokens() + query;
        self.attention.dropout.map_or(1.0, |dropout| dropout::factor(dropout, self.image, row, self.tokens(), key))
    }
}

/// context[query] = sum over keys of factor[key] * weights[key] * v[key]
///
/// # Shapes
/// - `qkv`: `[tokens, 3 * embed_dim]`; returned: `[tokens, embed_dim]`
pub(crate) fn forward(attention: Attention, image: Option<Key>, qkv: &[f64], embed_dim: usize) -> Vec<f64> {
    let mut context = vec![0.0; qkv.len() / 3];
    for number in 0..attention.heads {
        let head = Head { attention, image, qkv, embed_dim, head: number };
        for query in 0..head.tokens() {
            for (key, weight) in head.weights(query).iter().enumerate() {
                for column in 0..head.head_dim() {
                    context[query * embed_dim + head.first_column() + column] +=
                        head.factor(query, key) * weight * head.at(2, key, column);
                }
            }
        }
    }
    context
}

/// The gradient of query, key and value.
///
/// - dv[key] = sum over queries of factor * weight * dy[query]
/// - dweight[key] = factor * (dy[query] . v[key])
/// - ds[key] = weight[key] * (dweight[key] - sum over j of weight[j] * dweight[j])
/// - dq[query] = scale * sum over keys of ds * k[key]; dk[key] = scale * sum over queries of ds * q[query]
///
/// # Shapes
/// - `dy`: `[tokens, embed_dim]`; `qkv`: `[tokens, 3 * embed_dim]`, and the same is returned
pub(crate) fn grad(attention: Attention, image: Option<Key>, dy: &[f64], qkv: &[f64], embed_dim: usize) -> Vec<f64> {
    let mut dqkv = vec![0.0; qkv.len()];
    let scale = f64::from(attention.scale);
    for number in 0..attention.heads {
        let head = Head { attention, image, qkv, embed_dim, head: number };
        let columns = 0..head.head_dim();
        for query in 0..head.tokens() {
            let weights = head.weights(query);
            let dy = |column: usize| dy[query * embed_dim + head.first_column() + column];
            let dweights: Vec<f64> = (0..head.tokens())
                .map(|key| head.factor(query, key) * columns.clone().map(|c| dy(c) * head.at(2, key, c)).sum::<f64>())
                .collect();
            let mean: f64 = weights.iter().zip(&dweights).map(|(weight, dweight)| weight * dweight).sum();
            for key in 0..head.tokens() {
                let ds = weights[key] * (dweights[key] - mean);
                for c in columns.clone() {
                    dqkv[head.place(0, query, c)] += scale * ds * head.at(1, key, c);
                    dqkv[head.place(1, key, c)] += scale * ds * head.at(0, query, c);
                    dqkv[head.place(2, key, c)] += head.factor(query, key) * weights[key] * dy(c);
                }
            }
        }
    }
    dqkv
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
        let attention = Attention { heads, scale: 0.0, dropout: Some(dropout) };
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
