//! A block's two linear layers, which work on each token by itself.
//! Source: Vaswani et al. 2017, section 3.3; the norm in the middle is experiment E3's.

use vitreous_engine::ops::Activation;
use vitreous_engine::{Graph, GraphError, NodeId};

use super::TransformerOptions;
use crate::config::model::{self, Block};
use crate::models::layers::init;

impl From<model::Activation> for Activation {
    fn from(written: model::Activation) -> Self {
        match written {
            model::Activation::Relu => Activation::Relu,
            model::Activation::Gelu => Activation::Gelu,
            model::Activation::GeluTanh => Activation::GeluTanh,
            model::Activation::Tanh => Activation::Tanh,
        }
    }
}

/// Widens each token, applies the activation and narrows it again.
///
/// # Shapes
/// - `tokens`: `[tokens, embed_dim]`, and the same is returned
///
/// # Errors
/// When a name is taken.
pub fn mlp(graph: &mut Graph, name: &str, tokens: NodeId, options: &TransformerOptions) -> Result<NodeId, GraphError> {
    let (width, hidden_width) = (options.embed_dim, options.hidden_dim);
    let mut hidden = graph.linear(&format!("{name}.fc1"), tokens, hidden_width, init::linear(options.init, width))?;
    if options.block == Block::NormActivation {
        let norm = format!("{name}.norm");
        let params = graph.layer_norm_parameters(&norm, hidden_width)?;
        hidden = graph.layer_norm(&norm, hidden, params, options.norm_eps)?;
    }
    hidden = graph.activation(&format!("{name}.act"), hidden, options.activation)?;
    hidden = graph.dropout(&format!("{name}.drop1"), hidden, options.dropout.activation)?;
    let narrow = graph.linear(&format!("{name}.fc2"), hidden, width, init::linear(options.init, hidden_width))?;
    graph.dropout(&format!("{name}.drop2"), narrow, options.dropout.mlp)
}
