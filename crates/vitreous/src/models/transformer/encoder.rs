//! The encoder: every token gathers from all others, then is worked on by itself; two norms a block.
//! Source: Vaswani et al. 2017, section 3.1.

use vitreous_engine::{Graph, GraphError, NodeId};

use super::{Mask, TransformerOptions, end, feed_forward, half, multi_head_attention};

/// Adds a stack of encoder blocks, named `<name>.blocks.0` and so on.
///
/// # Shapes
/// - `tokens`: `[tokens, embed_dim]`, and the same is returned
/// - `padding`: `[tokens]`, positive where a token is real
///
/// # Errors
/// When the shapes do not fit or a name is taken.
pub fn encoder(
    graph: &mut Graph,
    name: &str,
    mut tokens: NodeId,
    depth: usize,
    padding: Option<NodeId>,
    options: &TransformerOptions,
) -> Result<NodeId, GraphError> {
    for i in 0..depth {
        tokens = encoder_block(graph, &format!("{name}.blocks.{i}"), tokens, padding, options)?;
    }
    end(graph, name, tokens, options)
}

/// Adds one encoder block.
///
/// # Shapes
/// - `tokens`: `[tokens, embed_dim]`, and the same is returned
///
/// # Errors
/// When the shapes do not fit or a name is taken.
pub fn encoder_block(
    graph: &mut Graph,
    name: &str,
    tokens: NodeId,
    padding: Option<NodeId>,
    options: &TransformerOptions,
) -> Result<NodeId, GraphError> {
    let mask = Mask { causal: false, keys: padding };
    let tokens = half(graph, [name, "norm1", "attn"], tokens, options, |graph, name, seen| {
        multi_head_attention(graph, name, seen, seen, mask, options)
    })?;
    half(graph, [name, "norm2", "mlp"], tokens, options, |graph, name, seen| feed_forward(graph, name, seen, options))
}

#[cfg(test)]
mod tests {
    use super::super::NormPlace;
    use super::super::tests::{OPTIONS, infer, params, rows_are_normed};
    use super::*;

    fn tokens() -> Vec<f32> {
        (0..42).map(|i| (i as f32 * 0.9).sin() * 3.0).collect()
    }

    fn encoded(norm: NormPlace) -> (Vec<f32>, Vec<String>) {
        let mut graph = Graph::new();
        let input = graph.input("tokens", [7, 6]).unwrap();
        let options = TransformerOptions { norm, ..OPTIONS };
        let out = encoder(&mut graph, "encoder", input, 2, None, &options).unwrap();
        let names = params(&graph);
        (infer(graph, out, &[&tokens()]), names)
    }

    #[test]
    fn both_forms_end_normed_but_only_pre_norm_needs_a_norm_for_it() {
        let (pre, pre_names) = encoded(NormPlace::Pre);
        let (post, post_names) = encoded(NormPlace::Post);
        assert!(rows_are_normed(&pre, 6) && rows_are_normed(&post, 6));
        assert_ne!(pre, post);
        assert_eq!(pre_names.iter().filter(|name| name.contains("norm")).count(), 2 * (2 * 2 + 1));
        assert_eq!(post_names.iter().filter(|name| name.contains("norm")).count(), 2 * 2 * 2);
        assert!(pre_names.contains(&"encoder.blocks.1.attn.q.weight".to_string()), "{pre_names:?}");
    }

    #[test]
    fn without_positions_an_encoder_does_not_know_the_order_of_its_tokens() {
        let mut graph = Graph::new();
        let input = graph.input("tokens", [7, 6]).unwrap();
        let out = encoder(&mut graph, "encoder", input, 2, None, &OPTIONS).unwrap();
        let turned: Vec<f32> = tokens().chunks(6).rev().flatten().copied().collect();
        let straight = infer(graph.clone(), out, &[&tokens()]);
        let back: Vec<f32> = infer(graph, out, &[&turned]).chunks(6).rev().flatten().copied().collect();
        assert!(straight.iter().zip(&back).all(|(a, b)| (a - b).abs() < 1e-5), "{straight:?} {back:?}");
    }
}
