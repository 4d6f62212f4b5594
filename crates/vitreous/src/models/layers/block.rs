//! Blocks: attention, then the MLP, each with a norm and a residual connection around it. A decoder's also look at what
//! the encoder made. Source: Dosovitskiy et al. 2021, section 3.1, and Vaswani et al. 2017, section 3.1; [`Block`] says
//! where a style differs.

use vitreous_engine::{Graph, GraphError, NodeId, ParamId};

use super::{attention, mlp};
use crate::config::model::{Block, VitConfig};

/// Mixes the tokens, then works on each of them. `index` counts blocks from the first of the model.
///
/// # Shapes
/// - `tokens`: `[tokens, embed_dim]`, and the same is returned
///
/// # Errors
/// When a name is taken.
pub fn encoder_block(
    graph: &mut Graph,
    name: &str,
    index: usize,
    tokens: NodeId,
    config: &VitConfig,
) -> Result<NodeId, GraphError> {
    let mut part = Part::new(graph, name, index, config)?;
    let tokens = part
        .apply(graph, tokens, |graph, seen| attention::self_attention(graph, &format!("{name}.attn"), seen, config))?;
    part.apply(graph, tokens, |graph, seen| mlp::mlp(graph, &format!("{name}.mlp"), seen, config))
}

/// Mixes the queries, lets them look at the memory, then works on each of them. `index` counts blocks from the first of
/// the model.
///
/// # Shapes
/// - `queries`: `[queries, embed_dim]`, and the same is returned; `memory`: `[tokens, embed_dim]`
///
/// # Errors
/// When a name is taken.
pub fn decoder_block(
    graph: &mut Graph,
    name: &str,
    index: usize,
    queries: NodeId,
    memory: NodeId,
    config: &VitConfig,
) -> Result<NodeId, GraphError> {
    let mut part = Part::new(graph, name, index, config)?;
    let queries = part
        .apply(graph, queries, |graph, seen| attention::self_attention(graph, &format!("{name}.attn"), seen, config))?;
    let queries = part.apply(graph, queries, |graph, seen| {
        attention::cross_attention(graph, &format!("{name}.cross_attn"), seen, memory, config)
    })?;
    part.apply(graph, queries, |graph, seen| mlp::mlp(graph, &format!("{name}.mlp"), seen, config))
}

/// The parts of a block, one after the other.
struct Part<'a> {
    block: &'a str,
    config: &'a VitConfig,
    /// Probability that the part is left out for an image.
    drop_path: f32,
    /// The first part's norm, which others may share.
    first: [ParamId; 2],
    /// Parts done.
    done: usize,
}

impl<'a> Part<'a> {
    fn new(graph: &mut Graph, block: &'a str, index: usize, config: &'a VitConfig) -> Result<Self, GraphError> {
        let first = graph.layer_norm_parameters(&format!("{block}.norm1"), config.spec().embed_dim)?;
        Ok(Part { block, config, drop_path: config.spec().drop_path_at(index), first, done: 0 })
    }

    /// Adds what `inner` makes of `x` to it, with the norm where the block's style has it.
    fn apply(
        &mut self,
        graph: &mut Graph,
        x: NodeId,
        inner: impl FnOnce(&mut Graph, NodeId) -> Result<NodeId, GraphError>,
    ) -> Result<NodeId, GraphError> {
        self.done += 1;
        let (block, number, config) = (self.block, self.done, self.config);
        let style = config.spec().block;
        let name = format!("{block}.norm{number}");
        let norm = match style {
            _ if number == 1 => self.first,
            Block::SharedNorm => self.first,
            Block::PreNorm | Block::PostNorm | Block::NormActivation => {
                graph.layer_norm_parameters(&name, config.spec().embed_dim)?
            }
        };
        let seen = match style {
            Block::PostNorm => x,
            Block::PreNorm | Block::SharedNorm => graph.layer_norm(&name, x, norm, config.spec().norm_eps as f32)?,
            Block::NormActivation => {
                let normed = graph.layer_norm(&name, x, norm, config.spec().norm_eps as f32)?;
                graph.activation(&format!("{name}.act"), normed, config.spec().activation.into())?
            }
        };
        let mut made = inner(graph, seen)?;
        if self.drop_path > 0.0 {
            made = graph.drop_path(&format!("{block}.drop_path{number}"), made, self.drop_path)?;
        }
        let sum = graph.add(&format!("{block}.add{number}"), x, made)?;
        if style == Block::PostNorm {
            graph.layer_norm(&name, sum, norm, config.spec().norm_eps as f32)
        } else {
            Ok(sum)
        }
    }
}
