//! Networks: pure functions from a checked config to a graph. Nothing else in the program builds model graphs.
//!
//! Names of nodes and parameters are timm's, so that the name in a table is the name on disk.

pub mod convnet;
pub mod layers;
pub mod list;
pub mod modules;
pub mod reader;
pub mod sequence_vit;
pub mod stack;
pub mod summary;
pub mod torch_text;
pub mod transformer;
pub mod vit;

use vitreous_engine::{Graph, GraphError, NodeId, ParamId};

use crate::config::ResolvedConfig;
use crate::config::model::{ModelConfig, model_kinds};
use crate::config::train::Decay;

/// A network's graph and the nodes that the rest of the program needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// All operations, from the image to the loss.
    pub graph: Graph,
    /// Input: the normalized image, `[channels, height, width]`.
    pub image: NodeId,
    /// Input: the number of the image's class, `[]`; of a reader, the target words, `[positions]`.
    pub label: NodeId,
    /// Logits: `[num_classes]`; of a reader, `[positions, words]`.
    pub logits: NodeId,
    /// Cross-entropy of one image, or its sum over the words of a strip: `[]`.
    pub loss: NodeId,
    /// 1 if the label has the largest logit (of a reader: if every word has), else 0: `[]`.
    pub correct: NodeId,
    /// Of a reader, the encoder's output: `[tokens, embed_dim]`.
    pub memory: Option<NodeId>,
}

/// A checked config of one kind of model, from which its network is built.
pub trait BuildModel {
    /// Builds the network and its loss.
    ///
    /// `smoothing` is the fraction of the target probability that is spread evenly over all classes, in [0, 1).
    ///
    /// # Errors
    /// When `smoothing` is out of range; a checked config has no other.
    fn build(&self, smoothing: f32) -> Result<Model, GraphError>;
}

/// Builds a network of any kind and its loss, see [`BuildModel::build`].
///
/// # Errors
/// When `smoothing` is out of range; a checked config has no other.
pub fn build(config: &ModelConfig, smoothing: f32) -> Result<Model, GraphError> {
    macro_rules! build_any {
        ($($kind:ident $name:literal $spec:ident,)+) => {
            match config { $(ModelConfig::$kind(config) => config.build(smoothing),)+ }
        };
    }
    model_kinds!(build_any)
}

/// Builds the network of a run, with the parameters that its config excludes from weight decay.
///
/// # Errors
/// None for a checked config.
pub fn build_for_training(config: &ResolvedConfig) -> Result<Model, GraphError> {
    let mut model = build(&config.model, config.train.smoothing as f32)?;
    if config.train.decay == Decay::Weights {
        exclude_from_decay(&mut model.graph);
    }
    Ok(model)
}

/// Excludes all parameters but matrices and kernels from weight decay.
///
/// # Source
/// timm's `param_group_weight_decay`, and `no_weight_decay` of its vision transformer.
fn exclude_from_decay(graph: &mut Graph) {
    let is_excluded = |name: &str, axes: usize| axes <= 1 || name.ends_with(".bias") || name.ends_with("_token");
    let ids: Vec<ParamId> = (graph.parameters().iter())
        .filter(|param| is_excluded(&param.name, param.shape.0.len()) || param.name == "pos_embed")
        .filter_map(|param| graph.find_parameter(&param.name))
        .collect();
    ids.into_iter().for_each(|id| graph.set_decay(id, false));
}

impl Model {
    /// Completes a graph that computes logits with the loss and the count of correct answers.
    fn classifier(
        mut graph: Graph,
        image: NodeId,
        label: NodeId,
        logits: NodeId,
        smoothing: f32,
    ) -> Result<Model, GraphError> {
        let loss = graph.cross_entropy("loss", logits, label, smoothing)?;
        let correct = graph.correct("correct", logits, label)?;
        Ok(Model { graph, image, label, logits, loss, correct, memory: None })
    }
}

#[cfg(test)]
mod tests;
