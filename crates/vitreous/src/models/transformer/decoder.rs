//! The decoder: written tokens look back at each other, then at what the encoder made; three norms a block.
//! Source: Vaswani et al. 2017, section 3.1.

use vitreous_engine::{Graph, GraphError, NodeId};

use super::{Mask, TransformerOptions, end, feed_forward, half, multi_head_attention};

/// Adds a stack of decoder blocks, named `<name>.blocks.0` and so on.
///
/// # Shapes
/// - `tokens`: `[tokens, embed_dim]`, and the same is returned; `memory`: `[keys, embed_dim]`
/// - `padding`: `[keys]`, positive where a token of the memory is real
///
/// # Errors
/// When the shapes do not fit or a name is taken.
pub fn decoder(
    graph: &mut Graph,
    name: &str,
    mut tokens: NodeId,
    memory: NodeId,
    depth: usize,
    padding: Option<NodeId>,
    options: &TransformerOptions,
) -> Result<NodeId, GraphError> {
    for i in 0..depth {
        tokens = decoder_block(graph, &format!("{name}.blocks.{i}"), tokens, memory, padding, options)?;
    }
    end(graph, name, tokens, options)
}

/// Adds one decoder block: masked self-attention, attention to the memory, feed-forward.
///
/// # Shapes
/// - `tokens`: `[tokens, embed_dim]`, and the same is returned; `memory`: `[keys, embed_dim]`
///
/// # Errors
/// When the shapes do not fit or a name is taken.
pub fn decoder_block(
    graph: &mut Graph,
    name: &str,
    tokens: NodeId,
    memory: NodeId,
    padding: Option<NodeId>,
    options: &TransformerOptions,
) -> Result<NodeId, GraphError> {
    let own = Mask { causal: true, keys: None };
    let tokens = half(graph, [name, "norm1", "attn"], tokens, options, |graph, name, seen| {
        multi_head_attention(graph, name, seen, seen, own, options)
    })?;
    let all = Mask { causal: false, keys: padding };
    let tokens = half(graph, [name, "norm2", "cross_attn"], tokens, options, |graph, name, seen| {
        multi_head_attention(graph, name, seen, memory, all, options)
    })?;
    half(graph, [name, "norm3", "mlp"], tokens, options, |graph, name, seen| feed_forward(graph, name, seen, options))
}

#[cfg(test)]
mod tests {
    use super::super::NormPlace;
    use super::super::tests::{OPTIONS, infer};
    use super::*;

    /// Two blocks over 5 tokens and a memory of 3, of which the last is padding.
    fn decoded(norm: NormPlace, tokens: &[f32], memory: &[f32]) -> Vec<f32> {
        let mut graph = Graph::new();
        let input = graph.input("tokens", [5, 6]).unwrap();
        let kept = graph.input("memory", [3, 6]).unwrap();
        let padding = graph.input("padding", [3]).unwrap();
        let options = TransformerOptions { norm, ..OPTIONS };
        let out = decoder(&mut graph, "decoder", input, kept, 2, Some(padding), &options).unwrap();
        infer(graph, out, &[tokens, memory, &[1.0, 1.0, 0.0]])
    }

    fn wave(len: usize, step: f32) -> Vec<f32> {
        (0..len).map(|i| (i as f32 * step).sin()).collect()
    }

    #[test]
    fn a_token_depends_on_those_before_it_and_on_all_of_the_memory_but_padding() {
        for norm in [NormPlace::Pre, NormPlace::Post] {
            let (tokens, memory) = (wave(30, 0.7), wave(18, 1.9));
            let before = decoded(norm, &tokens, &memory);
            let mut changed = tokens.clone();
            changed[3 * 6..][..6].fill(0.5);
            let after = decoded(norm, &changed, &memory);
            assert_eq!(before[..3 * 6], after[..3 * 6], "earlier tokens do not see the change");
            assert_ne!(before[3 * 6..4 * 6], after[3 * 6..4 * 6]);
            assert_ne!(before[4 * 6..], after[4 * 6..]);
            for (token, seen) in [(0, true), (1, true), (2, false)] {
                let mut changed = memory.clone();
                changed[token * 6..][..6].fill(0.5);
                let after = decoded(norm, &tokens, &changed);
                assert!((0..5).all(|row| (before[row * 6..][..6] != after[row * 6..][..6]) == seen), "memory {token}");
            }
        }
    }
}
