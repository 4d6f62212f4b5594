//! Networks: pure functions from a checked config to a graph. Nothing else in the program builds model graphs.
//!
//! Names of nodes and parameters are timm's, so that the name in a table is the name on disk.

pub mod layers;
pub mod summary;
pub mod vit;

use vitreous_engine::{Graph, GraphError, NodeId};

use crate::config::vit::VitConfig;

pub use vit::vit;

/// Says in a few words what a network is.
pub fn describe(config: &VitConfig) -> String {
    let (depth, heads) = (config.depth(), config.num_heads());
    let [blocks, heads_word] =
        [(depth, "block"), (heads, "head")].map(|(n, word)| if n == 1 { word.to_string() } else { format!("{word}s") });
    format!("ViT {depth} {blocks}, {heads} {heads_word}, width {}", config.embed_dim())
}

/// A classifier's graph and the nodes that the rest of the program asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// All operations, from the image to the loss.
    pub graph: Graph,
    /// Input: the normalised image, `[channels, height, width]`.
    pub image: NodeId,
    /// Input: the number of the image's class, `[]`.
    pub label: NodeId,
    /// One number for each class, before softmax: `[num_classes]`.
    pub logits: NodeId,
    /// Cross-entropy of one image: `[]`.
    pub loss: NodeId,
    /// 1 where the greatest logit is the label's, else 0: `[]`.
    pub correct: NodeId,
}

impl Model {
    /// Ends a graph that computes logits with the loss and the count of right answers.
    fn classifier(
        mut graph: Graph,
        image: NodeId,
        label: NodeId,
        logits: NodeId,
        smoothing: f32,
    ) -> Result<Model, GraphError> {
        let loss = graph.cross_entropy("loss", logits, label, smoothing)?;
        let correct = graph.correct("correct", logits, label)?;
        Ok(Model { graph, image, label, logits, loss, correct })
    }
}
