//! Blocks: attention, then the MLP, each with a norm and a residual connection. A decoder's block also attends to the
//! encoder's output. Source: Vaswani et al. 2017, section 3.1, and Dosovitskiy et al. 2021, section 3.1; [`Block`] says
//! where a style differs.

use vitreous_engine::{Graph, GraphError, NodeId, ParamId};

use super::{Mask, TransformerOptions, attention, mlp};
use crate::config::model::Block;

/// Adds a stack of encoder blocks, named `<name>.blocks.0` and so on, and its final norm.
///
/// # Shapes
/// - `tokens`: `[tokens, embed_dim]`, and the same is returned
/// - `padding`: `[tokens]`, positive where a token is not padding
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
    let mask = Mask { causal: false, keys: padding };
    for i in 0..depth {
        tokens = encoder_block(graph, &format!("{name}.blocks.{i}"), tokens, mask, options)?;
    }
    final_norm(graph, name, tokens, options)
}

/// Adds a stack of decoder blocks whose tokens see only earlier ones, named `<name>.blocks.0` and so on, and its final
/// norm.
///
/// # Shapes
/// - `tokens`: `[tokens, embed_dim]`, and the same is returned; `memory`, the encoder's output: `[keys, embed_dim]`
/// - `padding`: `[keys]`, positive where a token of the memory is not padding
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
    let masks = [Mask { causal: true, keys: None }, Mask { causal: false, keys: padding }];
    for i in 0..depth {
        tokens = decoder_block(graph, &format!("{name}.blocks.{i}"), tokens, memory, masks, options)?;
    }
    final_norm(graph, name, tokens, options)
}

/// Adds one encoder block: self-attention, MLP.
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
    mask: Mask,
    options: &TransformerOptions,
) -> Result<NodeId, GraphError> {
    let mut halves = Halves::new(graph, name, options)?;
    let tokens =
        halves.add(graph, "attn", tokens, |graph, name, seen| attention(graph, name, seen, seen, mask, options))?;
    halves.add(graph, "mlp", tokens, |graph, name, seen| mlp(graph, name, seen, options))
}

/// Adds one decoder block: self-attention, attention to the memory, MLP. The first mask is that of the self-attention,
/// the second that of the memory.
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
    [own, other]: [Mask; 2],
    options: &TransformerOptions,
) -> Result<NodeId, GraphError> {
    let mut halves = Halves::new(graph, name, options)?;
    let tokens =
        halves.add(graph, "attn", tokens, |graph, name, seen| attention(graph, name, seen, seen, own, options))?;
    let tokens = halves
        .add(graph, "cross_attn", tokens, |graph, name, seen| attention(graph, name, seen, memory, other, options))?;
    halves.add(graph, "mlp", tokens, |graph, name, seen| mlp(graph, name, seen, options))
}

/// The halves (in a decoder, thirds) of a block: each has a norm and a residual connection.
struct Halves<'a> {
    block: &'a str,
    options: &'a TransformerOptions,
    /// The first norm, which all share with [`Block::SharedNorm`].
    first: [ParamId; 2],
    /// Halves that were added.
    count: usize,
}

impl<'a> Halves<'a> {
    fn new(graph: &mut Graph, block: &'a str, options: &'a TransformerOptions) -> Result<Self, GraphError> {
        let first = graph.layer_norm_parameters(&format!("{block}.norm1"), options.embed_dim)?;
        Ok(Halves { block, options, first, count: 0 })
    }

    /// Adds `inner`'s result for `x` to `x`, with the norm where the block's style has it.
    fn add(
        &mut self,
        graph: &mut Graph,
        part: &str,
        x: NodeId,
        inner: impl FnOnce(&mut Graph, &str, NodeId) -> Result<NodeId, GraphError>,
    ) -> Result<NodeId, GraphError> {
        self.count += 1;
        let (block, number, options) = (self.block, self.count, self.options);
        let norm_name = format!("{block}.norm{number}");
        let norm = match options.block {
            _ if number == 1 => self.first,
            Block::SharedNorm => self.first,
            Block::PreNorm | Block::PostNorm | Block::NormActivation => {
                graph.layer_norm_parameters(&norm_name, options.embed_dim)?
            }
        };
        let seen = match options.block {
            Block::PostNorm => x,
            Block::PreNorm | Block::SharedNorm => graph.layer_norm(&norm_name, x, norm, options.norm_eps)?,
            Block::NormActivation => {
                let normed = graph.layer_norm(&norm_name, x, norm, options.norm_eps)?;
                graph.activation(&format!("{norm_name}.act"), normed, options.activation)?
            }
        };
        let part = format!("{block}.{part}");
        let mut made = inner(graph, &part, seen)?;
        made = graph.dropout(&format!("{part}.drop"), made, options.dropout.residual)?;
        made = graph.drop_path(&format!("{block}.drop_path{number}"), made, options.drop_path)?;
        let sum = graph.add(&format!("{block}.add{number}"), x, made)?;
        match options.block {
            Block::PostNorm => graph.layer_norm(&norm_name, sum, norm, options.norm_eps),
            Block::PreNorm | Block::SharedNorm | Block::NormActivation => Ok(sum),
        }
    }
}

/// Ends a stack of blocks: where norms come before each half, the last sum has not been normalized.
fn final_norm(
    graph: &mut Graph,
    name: &str,
    tokens: NodeId,
    options: &TransformerOptions,
) -> Result<NodeId, GraphError> {
    if options.block == Block::PostNorm {
        return Ok(tokens);
    }
    let norm = format!("{name}.norm");
    let params = graph.layer_norm_parameters(&norm, options.embed_dim)?;
    graph.layer_norm(&norm, tokens, params, options.norm_eps)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{infer, options};
    use super::*;

    fn wave(len: usize, step: f32) -> Vec<f32> {
        (0..len).map(|i| (i as f32 * step).sin() * 3.0).collect()
    }

    fn rows_are_normed(values: &[f32], width: usize) -> bool {
        values.chunks_exact(width).all(|row| {
            let mean = row.iter().sum::<f32>() / width as f32;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / width as f32;
            mean.abs() < 1e-4 && (variance - 1.0).abs() < 1e-3
        })
    }

    /// Two encoder blocks over 7 tokens, and the names of their parameters.
    fn encoded(block: Block) -> (Vec<f32>, Vec<String>) {
        let mut graph = Graph::new();
        let input = graph.input("tokens", [7, 6]).unwrap();
        let out = encoder(&mut graph, "encoder", input, 2, None, &options(block)).unwrap();
        let names = graph.parameters().iter().map(|param| param.name.clone()).collect();
        (infer(graph, out, &[&wave(42, 0.9)]), names)
    }

    #[test]
    fn both_forms_end_normed_but_only_pre_norm_needs_a_norm_for_it() {
        let (pre, pre_names) = encoded(Block::PreNorm);
        let (post, post_names) = encoded(Block::PostNorm);
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
        let out = encoder(&mut graph, "encoder", input, 2, None, &options(Block::PreNorm)).unwrap();
        let tokens = wave(42, 0.9);
        let turned: Vec<f32> = tokens.chunks(6).rev().flatten().copied().collect();
        let straight = infer(graph.clone(), out, &[&tokens]);
        let back: Vec<f32> = infer(graph, out, &[&turned]).chunks(6).rev().flatten().copied().collect();
        assert!(straight.iter().zip(&back).all(|(a, b)| (a - b).abs() < 1e-5), "{straight:?} {back:?}");
    }

    /// Two decoder blocks over 5 tokens and a memory of 3, of which the last is padding.
    fn decoded(block: Block, tokens: &[f32], memory: &[f32]) -> Vec<f32> {
        let mut graph = Graph::new();
        let input = graph.input("tokens", [5, 6]).unwrap();
        let kept = graph.input("memory", [3, 6]).unwrap();
        let padding = graph.input("padding", [3]).unwrap();
        let out = decoder(&mut graph, "decoder", input, kept, 2, Some(padding), &options(block)).unwrap();
        infer(graph, out, &[tokens, memory, &[1.0, 1.0, 0.0]])
    }

    #[test]
    fn a_token_depends_on_those_before_it_and_on_all_of_the_memory_but_padding() {
        for block in [Block::PreNorm, Block::PostNorm, Block::SharedNorm, Block::NormActivation] {
            let (tokens, memory) = (wave(30, 0.7), wave(18, 1.9));
            let before = decoded(block, &tokens, &memory);
            let mut changed = tokens.clone();
            changed[3 * 6..][..6].fill(0.5);
            let after = decoded(block, &changed, &memory);
            assert_eq!(before[..3 * 6], after[..3 * 6], "earlier tokens do not see the change");
            assert_ne!(before[3 * 6..4 * 6], after[3 * 6..4 * 6]);
            assert_ne!(before[4 * 6..], after[4 * 6..]);
            for (token, seen) in [(0, true), (1, true), (2, false)] {
                let mut changed = memory.clone();
                changed[token * 6..][..6].fill(0.5);
                let after = decoded(block, &tokens, &changed);
                assert!((0..5).all(|row| (before[row * 6..][..6] != after[row * 6..][..6]) == seen), "memory {token}");
            }
        }
    }

    #[test]
    fn half_a_block_is_the_identity_when_its_result_is_zero_and_norms_come_before() {
        let mut graph = Graph::new();
        let tokens = graph.input("tokens", [3, 6]).unwrap();
        let options = options(Block::PreNorm);
        let mut halves = Halves::new(&mut graph, "b", &options).unwrap();
        let out = halves.add(&mut graph, "nothing", tokens, |graph, name, seen| {
            let zero = vitreous_engine::Init::Constant(0.0);
            graph.linear(name, seen, 6, vitreous_engine::ops::LinearInit { weight: zero, bias: None })
        });
        let values: Vec<f32> = (0..18).map(|i| i as f32).collect();
        assert_eq!(infer(graph, out.unwrap(), &[&values]), values);
    }
}
