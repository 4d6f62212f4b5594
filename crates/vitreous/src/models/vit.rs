//! The vision transformer: patches as tokens, encoder blocks, a head. Source: Dosovitskiy et al. 2021.

use vitreous_engine::{Graph, GraphError, Init, NodeId};

use super::layers::{embedding, head};
use super::transformer::{Dropout, Mask, Projections, TransformerOptions, decoder_block, encoder_block};
use super::{BuildModel, Model};
use crate::config::model::{DropoutPlace, VitConfig, VitSpec};

impl BuildModel for VitConfig {
    fn build(&self, smoothing: f32) -> Result<Model, GraphError> {
        let mut graph = Graph::new();
        let facts = self.facts();
        let image = graph.input("image", [facts.channels, facts.image_size, facts.image_size])?;
        let label = graph.input("label", [])?;
        let spec = self.spec();
        let mut tokens = embedding::embedding(&mut graph, image, self)?;
        for i in 0..spec.depth {
            tokens = encoder_block(&mut graph, &format!("blocks.{i}"), tokens, Mask::default(), &options(spec, i))?;
        }
        if spec.decoder {
            tokens = decode(&mut graph, tokens, spec)?;
        }
        let logits = head::classification_head(&mut graph, tokens, self)?;
        Model::classifier(graph, image, label, logits, smoothing)
    }
}

/// Adds a decoder whose only token is the class token, which attends to the encoder's output.
fn decode(graph: &mut Graph, memory: NodeId, spec: &VitSpec) -> Result<NodeId, GraphError> {
    let init = Init::Normal { std: spec.token_init_std as f32 };
    let mut query = graph.trained_constant("cls_token", [1, spec.embed_dim], init)?;
    for i in 0..spec.depth {
        let options = options(spec, spec.depth + i);
        query = decoder_block(graph, &format!("decoder.{i}"), query, memory, [Mask::default(); 2], &options)?;
    }
    Ok(query)
}

/// The options of block number `index`, counted from the first of the model.
fn options(spec: &VitSpec, index: usize) -> TransformerOptions {
    TransformerOptions {
        embed_dim: spec.embed_dim,
        num_heads: spec.num_heads,
        hidden_dim: spec.hidden_dim(),
        activation: spec.activation.into(),
        block: spec.block,
        norm_eps: spec.norm_eps as f32,
        attention: spec.attention,
        projections: Projections::Joint,
        qkv_bias: spec.qkv_bias,
        attention_scale: spec.scale(),
        dropout: Dropout {
            attention: spec.dropout_at(DropoutPlace::Attention),
            activation: spec.dropout_at(DropoutPlace::Activation),
            mlp: spec.dropout_at(DropoutPlace::Mlp),
            residual: 0.0,
        },
        drop_path: spec.drop_path_at(index),
        init: spec.init.into(),
    }
}

#[cfg(test)]
mod tests;
