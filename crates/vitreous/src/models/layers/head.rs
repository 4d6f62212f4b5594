//! The classification head: from the tokens of an image to its logits.
//!
//! The class token is selected before the final norm, which normalizes each token by itself.

use vitreous_engine::{Graph, GraphError, NodeId};

use super::init;
use crate::config::model::{Pooling, VitConfig};

/// Computes the logits from the tokens.
///
/// # Shapes
/// - `tokens`: `[tokens, embed_dim]`; returned: `[num_classes]`
///
/// # Errors
/// When a name is taken.
pub fn classification_head(graph: &mut Graph, tokens: NodeId, config: &VitConfig) -> Result<NodeId, GraphError> {
    let pooled = match config.spec().pooling {
        Pooling::Cls => {
            let token = graph.select_token("pool", tokens, 0)?;
            final_norm(graph, token, config)?
        }
        Pooling::Mean => {
            let normed = final_norm(graph, tokens, config)?;
            graph.mean_tokens("pool", normed)?
        }
    };
    let init = init::linear(config.spec().init.into(), config.spec().embed_dim);
    let logits = graph.linear("head", pooled, config.facts().num_classes, init)?;
    if config.spec().head_softmax { graph.softmax("head.softmax", logits) } else { Ok(logits) }
}

fn final_norm(graph: &mut Graph, x: NodeId, config: &VitConfig) -> Result<NodeId, GraphError> {
    if !config.spec().final_norm {
        return Ok(x);
    }
    let params = graph.layer_norm_parameters("norm", config.spec().embed_dim)?;
    graph.layer_norm("norm", x, params, config.spec().norm_eps as f32)
}
