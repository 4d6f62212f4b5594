//! Multi-head attention with masks, the only layer in which tokens see each other.
//! Source: Vaswani et al. 2017, sections 3.2.2 and 3.2.3. Heads that see only their own channels are experiment E1's.

use vitreous_engine::ops::AttentionOptions;
use vitreous_engine::{Graph, GraphError, NodeId};

use super::TransformerOptions;
use crate::config::model::Attention;
use crate::models::layers::init;

/// Which keys a query may see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mask {
    /// Only those up to its own position.
    pub causal: bool,
    /// Only those where this input of `[keys]` is positive: the others are padding.
    pub keys: Option<NodeId>,
}

/// How query, key and value are projected. It decides the names of the parameters and their initial values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Projections {
    /// By one linear layer `qkv`, or by `q` and `kv` where queries and keys are different tokens, as in timm.
    Joint,
    /// By the linear layers `q`, `k` and `v`.
    Separate,
}

/// Lets every query token gather from the key tokens that it may see; self-attention where both are the same.
///
/// # Shapes
/// - `queries`: `[queries, embed_dim]`; `keys`: `[keys, embed_dim]`; returned: `[queries, embed_dim]`
///
/// # Errors
/// When the shapes do not fit or a name is taken.
pub fn attention(
    graph: &mut Graph,
    name: &str,
    queries: NodeId,
    keys: NodeId,
    mask: Mask,
    options: &TransformerOptions,
) -> Result<NodeId, GraphError> {
    let (width, heads, scale) = (options.embed_dim, options.num_heads, options.attention_scale);
    let project = |graph: &mut Graph, layer: &str, tokens: NodeId, count: usize| {
        let (name, bias) = (format!("{name}.{layer}"), options.qkv_bias);
        match options.attention {
            Attention::MultiHead => {
                graph.linear(&name, tokens, count * width, init::qkv(options.init, width, count, bias))
            }
            Attention::PerHead => {
                graph.per_head_linear(&name, tokens, heads, count, init::per_head(options.init, width / heads, bias))
            }
        }
    };
    let slice = |graph: &mut Graph, part: &str, joint: NodeId, place: usize| {
        graph.slice_features(&format!("{name}.{part}"), joint, place * width, width)
    };
    let context = format!("{name}.context");
    let attend = |graph: &mut Graph, [q, k, v]: [NodeId; 3]| {
        let attention = AttentionOptions {
            dropout_rate: options.dropout.attention,
            causal: mask.causal,
            ..AttentionOptions::new(heads, scale)
        };
        graph.attend(&context, q, k, v, attention, mask.keys)
    };
    let context = match options.projections {
        Projections::Joint if queries == keys => {
            let qkv = project(graph, "qkv", queries, 3)?;
            if mask == Mask::default() {
                graph.attention(&context, qkv, heads, scale, options.dropout.attention)?
            } else {
                let parts = [slice(graph, "q", qkv, 0)?, slice(graph, "k", qkv, 1)?, slice(graph, "v", qkv, 2)?];
                attend(graph, parts)?
            }
        }
        Projections::Joint => {
            let q = project(graph, "q", queries, 1)?;
            let kv = project(graph, "kv", keys, 2)?;
            let parts = [q, slice(graph, "k", kv, 0)?, slice(graph, "v", kv, 1)?];
            attend(graph, parts)?
        }
        Projections::Separate => {
            let q = project(graph, "q", queries, 1)?;
            let parts = [q, project(graph, "k", keys, 1)?, project(graph, "v", keys, 1)?];
            attend(graph, parts)?
        }
    };
    match options.attention {
        Attention::MultiHead => {
            graph.linear(&format!("{name}.proj"), context, width, init::attention_proj(options.init, width))
        }
        Attention::PerHead => Ok(context),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{infer, options};
    use super::*;
    use crate::config::model::Block;

    /// Attention of 5 queries over 5 keys, as a function of the keys' values; the queries are fixed, or are the keys.
    fn attended(own: bool, projections: Projections, mask: Mask, keys: &[f32], shown: &[f32]) -> Vec<f32> {
        let mut graph = Graph::new();
        let queries = graph.input("queries", [5, 6]).unwrap();
        let tokens = graph.input("keys", [5, 6]).unwrap();
        let shown_keys = graph.input("shown", [5]).unwrap();
        let mask = Mask { keys: mask.keys.map(|_| shown_keys), ..mask };
        let queries = if own { tokens } else { queries };
        let options = TransformerOptions { projections, ..options(Block::PreNorm) };
        let out = attention(&mut graph, "attn", queries, tokens, mask, &options).unwrap();
        let fixed: Vec<f32> = (0..30).map(|i| (i as f32 * 0.7).sin()).collect();
        infer(graph, out, &[&fixed, keys, shown])
    }

    fn keys(changed: Option<usize>) -> Vec<f32> {
        let mut keys: Vec<f32> = (0..30).map(|i| (i as f32 * 1.3).cos()).collect();
        changed.into_iter().for_each(|token| keys[token * 6..][..6].fill(0.9));
        keys
    }

    /// The queries whose result changes when one key changes; in self-attention, that token's own query does anyway.
    fn touched(own: bool, mask: Mask, shown: &[f32], token: usize) -> Vec<usize> {
        let of = |projections| {
            let attended = |keys: &[f32]| attended(own, projections, mask, keys, shown);
            let (before, after) = (attended(&keys(None)), attended(&keys(Some(token))));
            (0..5).filter(|&query| before[query * 6..][..6] != after[query * 6..][..6]).collect::<Vec<usize>>()
        };
        let joint = of(Projections::Joint);
        assert_eq!(joint, of(Projections::Separate));
        joint
    }

    #[test]
    fn without_a_mask_every_query_sees_every_key() {
        for (own, token) in [(false, 0), (false, 4), (true, 0), (true, 4)] {
            assert_eq!(touched(own, Mask::default(), &[1.0; 5], token), [0, 1, 2, 3, 4]);
        }
    }

    #[test]
    fn a_causal_query_sees_no_later_key() {
        let causal = Mask { causal: true, keys: None };
        for (own, token) in [false, true].into_iter().flat_map(|own| (0..5).map(move |token| (own, token))) {
            assert_eq!(touched(own, causal, &[1.0; 5], token), (token..5).collect::<Vec<_>>());
        }
    }

    #[test]
    fn padding_is_seen_by_no_query() {
        let mut graph = Graph::new();
        let any = graph.input("any", [5]).unwrap();
        let padded = Mask { causal: false, keys: Some(any) };
        let shown = [1.0, 1.0, 0.0, 1.0, 0.0];
        assert_eq!(touched(false, padded, &shown, 2), Vec::<usize>::new());
        assert_eq!(touched(false, padded, &shown, 4), Vec::<usize>::new());
        assert_eq!(touched(false, padded, &shown, 3), [0, 1, 2, 3, 4]);
        // A padding token's own query still changes with it.
        assert_eq!(touched(true, padded, &shown, 2), [2]);
    }
}
