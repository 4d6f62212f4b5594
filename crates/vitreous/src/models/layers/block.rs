//! An encoder block: attention, then the MLP, each with a norm before it and a residual connection around it.
//! Source: Dosovitskiy et al. 2021, section 3.1; [`Block`] says where a style differs.

use vitreous_engine::{Graph, GraphError, NodeId};

use super::{attention, mlp};
use crate::config::model::Block;
use crate::config::vit::VitConfig;

/// Mixes the tokens, then works on each of them.
///
/// # Shapes
/// - `tokens`: `[tokens, embed_dim]`, and the same is returned
///
/// # Errors
/// When a name is taken.
pub fn encoder_block(graph: &mut Graph, name: &str, tokens: NodeId, config: &VitConfig) -> Result<NodeId, GraphError> {
    let width = config.embed_dim();
    let first = graph.layer_norm_parameters(&format!("{name}.norm1"), width)?;
    let seen = normed(graph, &format!("{name}.norm1"), tokens, first, config)?;
    let mixed = attention::self_attention(graph, &format!("{name}.attn"), seen, config)?;
    let tokens = graph.add(&format!("{name}.add1"), tokens, mixed)?;

    let second = match config.block() {
        Block::SharedNorm => first,
        Block::PreNorm | Block::NormActivation => graph.layer_norm_parameters(&format!("{name}.norm2"), width)?,
    };
    let seen = normed(graph, &format!("{name}.norm2"), tokens, second, config)?;
    let worked = mlp::mlp(graph, &format!("{name}.mlp"), seen, config)?;
    graph.add(&format!("{name}.add2"), tokens, worked)
}

/// What one half of the block sees of the tokens.
fn normed(
    graph: &mut Graph,
    name: &str,
    tokens: NodeId,
    params: [vitreous_engine::ParamId; 2],
    config: &VitConfig,
) -> Result<NodeId, GraphError> {
    let normed = graph.layer_norm(name, tokens, params, config.norm_eps())?;
    match config.block() {
        Block::NormActivation => graph.activation(&format!("{name}.act"), normed, config.activation().into()),
        Block::PreNorm | Block::SharedNorm => Ok(normed),
    }
}
