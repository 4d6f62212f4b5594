//! Multi-head attention with masks. Source: Vaswani et al. 2017, sections 3.2.2 and 3.2.3.

use vitreous_engine::ops::{AttentionOptions, LinearInit};
use vitreous_engine::{Graph, GraphError, Init, NodeId};

use super::TransformerOptions;

/// Which keys a query may see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mask {
    /// Only those up to its own place: what comes later is not known yet.
    pub causal: bool,
    /// Only those where this input of `[keys]` is positive: the others are padding.
    pub keys: Option<NodeId>,
}

/// Lets every query token gather from the key tokens that it may see.
///
/// # Shapes
/// - `queries`: `[queries, embed_dim]`; `keys`: `[keys, embed_dim]`; returned: `[queries, embed_dim]`
///
/// # Errors
/// When the shapes do not fit or a name is taken.
pub fn multi_head_attention(
    graph: &mut Graph,
    name: &str,
    queries: NodeId,
    keys: NodeId,
    mask: Mask,
    options: &TransformerOptions,
) -> Result<NodeId, GraphError> {
    let width = options.embed_dim;
    // Xavier weights, as the paper's own code (tensor2tensor) has them, and no biases at the start.
    let init = LinearInit { weight: Init::xavier_uniform(width, width), bias: Some(Init::Constant(0.0)) };
    let q = graph.linear(&format!("{name}.q"), queries, width, init)?;
    let k = graph.linear(&format!("{name}.k"), keys, width, init)?;
    let v = graph.linear(&format!("{name}.v"), keys, width, init)?;
    let attention = AttentionOptions {
        dropout_rate: options.dropout,
        causal: mask.causal,
        ..AttentionOptions::new(options.num_heads, options.attention_scale)
    };
    let context = graph.attend(&format!("{name}.context"), q, k, v, attention, mask.keys)?;
    graph.linear(&format!("{name}.proj"), context, width, init)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{OPTIONS, infer};
    use super::*;

    /// Attention of 5 queries over 5 keys, as a function of the keys' values; the queries are fixed.
    fn attended(mask: Mask, keys: &[f32], shown: &[f32]) -> Vec<f32> {
        let mut graph = Graph::new();
        let queries = graph.input("queries", [5, 6]).unwrap();
        let tokens = graph.input("keys", [5, 6]).unwrap();
        let shown_keys = graph.input("shown", [5]).unwrap();
        let mask = Mask { keys: mask.keys.map(|_| shown_keys), ..mask };
        let out = multi_head_attention(&mut graph, "attn", queries, tokens, mask, &OPTIONS).unwrap();
        let fixed: Vec<f32> = (0..30).map(|i| (i as f32 * 0.7).sin()).collect();
        infer(graph, out, &[&fixed, keys, shown])
    }

    fn keys(changed: Option<usize>) -> Vec<f32> {
        let mut keys: Vec<f32> = (0..30).map(|i| (i as f32 * 1.3).cos()).collect();
        changed.into_iter().for_each(|token| keys[token * 6..][..6].fill(0.9));
        keys
    }

    /// The queries whose result changes when one key changes.
    fn touched(mask: Mask, shown: &[f32], token: usize) -> Vec<usize> {
        let (before, after) = (attended(mask, &keys(None), shown), attended(mask, &keys(Some(token)), shown));
        (0..5).filter(|&query| before[query * 6..][..6] != after[query * 6..][..6]).collect()
    }

    #[test]
    fn without_a_mask_every_query_sees_every_key() {
        for token in 0..5 {
            assert_eq!(touched(Mask::default(), &[1.0; 5], token), [0, 1, 2, 3, 4]);
        }
    }

    #[test]
    fn a_causal_query_sees_nothing_that_comes_later() {
        let causal = Mask { causal: true, keys: None };
        for token in 0..5 {
            assert_eq!(touched(causal, &[1.0; 5], token), (token..5).collect::<Vec<_>>());
        }
    }

    #[test]
    fn padding_is_seen_by_nobody() {
        let mut graph = Graph::new();
        let any = graph.input("any", [5]).unwrap();
        let padded = Mask { causal: false, keys: Some(any) };
        let shown = [1.0, 1.0, 0.0, 1.0, 0.0];
        assert_eq!(touched(padded, &shown, 2), Vec::<usize>::new());
        assert_eq!(touched(padded, &shown, 4), Vec::<usize>::new());
        assert_eq!(touched(padded, &shown, 3), [0, 1, 2, 3, 4]);
    }
}
