//! The vision transformer: patches as tokens, encoder blocks, a head. Source: Dosovitskiy et al. 2021.

use vitreous_engine::{Graph, GraphError, Init, NodeId};

use super::Model;
use super::layers::{block, embedding, head};
use crate::config::model::VitConfig;

/// Builds a vision transformer and its loss.
///
/// `smoothing` is the part of the target probability that the loss spreads evenly over all classes, in [0, 1).
///
/// # Errors
/// When `smoothing` is out of range; a checked config has no other.
pub fn vit(config: &VitConfig, smoothing: f32) -> Result<Model, GraphError> {
    let mut graph = Graph::new();
    let image = graph.input("image", [config.channels(), config.image_size(), config.image_size()])?;
    let label = graph.input("label", [])?;
    let mut tokens = embedding::embedding(&mut graph, image, config)?;
    for i in 0..config.depth() {
        tokens = block::encoder_block(&mut graph, &format!("blocks.{i}"), i, tokens, config)?;
    }
    if config.decoder() {
        tokens = decoded(&mut graph, tokens, config)?;
    }
    let logits = head::classification_head(&mut graph, tokens, config)?;
    Model::classifier(graph, image, label, logits, smoothing)
}

/// Lets the class token ask for what the encoder made, in as many blocks again.
fn decoded(graph: &mut Graph, memory: NodeId, config: &VitConfig) -> Result<NodeId, GraphError> {
    let init = Init::Normal { std: config.token_init_std() };
    let mut query = graph.trained_constant("cls_token", [1, config.embed_dim()], init)?;
    for i in 0..config.depth() {
        query = block::decoder_block(graph, &format!("decoder.{i}"), config.depth() + i, query, memory, config)?;
    }
    Ok(query)
}

#[cfg(test)]
mod tests;
