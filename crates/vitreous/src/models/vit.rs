//! The vision transformer: patches as tokens, encoder blocks, a head. Source: Dosovitskiy et al. 2021.

use vitreous_engine::{Graph, GraphError, Init, NodeId};

use super::layers::{block, embedding, head};
use super::{BuildModel, Model};
use crate::config::model::VitConfig;

impl BuildModel for VitConfig {
    fn build(&self, smoothing: f32) -> Result<Model, GraphError> {
        let mut graph = Graph::new();
        let facts = self.facts();
        let image = graph.input("image", [facts.channels, facts.image_size, facts.image_size])?;
        let label = graph.input("label", [])?;
        let mut tokens = embedding::embedding(&mut graph, image, self)?;
        for i in 0..self.spec().depth {
            tokens = block::encoder_block(&mut graph, &format!("blocks.{i}"), i, tokens, self)?;
        }
        if self.spec().decoder {
            tokens = decoded(&mut graph, tokens, self)?;
        }
        let logits = head::classification_head(&mut graph, tokens, self)?;
        Model::classifier(graph, image, label, logits, smoothing)
    }
}

/// Lets the class token ask for what the encoder made, in as many blocks again.
fn decoded(graph: &mut Graph, memory: NodeId, config: &VitConfig) -> Result<NodeId, GraphError> {
    let init = Init::Normal { std: config.spec().token_init_std as f32 };
    let mut query = graph.trained_constant("cls_token", [1, config.spec().embed_dim], init)?;
    for i in 0..config.spec().depth {
        query = block::decoder_block(graph, &format!("decoder.{i}"), config.spec().depth + i, query, memory, config)?;
    }
    Ok(query)
}

#[cfg(test)]
mod tests;
