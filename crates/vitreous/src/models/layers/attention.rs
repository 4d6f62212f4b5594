//! Multi-head self-attention, the only ViT layer in which tokens see each other.
//! Source: Vaswani et al. 2017, section 3.2.2. Weight names and query-key-value order as in timm.

use vitreous_engine::{Graph, GraphError, NodeId};

use super::init;
use crate::config::model::DropoutPlace;
use crate::config::vit::VitConfig;

/// Lets every token gather from all tokens of its image.
///
/// # Shapes
/// - `tokens`: `[tokens, embed_dim]`, and the same is returned
///
/// # Errors
/// When a name is taken.
pub fn self_attention(graph: &mut Graph, name: &str, tokens: NodeId, config: &VitConfig) -> Result<NodeId, GraphError> {
    let width = config.embed_dim();
    let qkv_init = init::qkv(config.init(), width, config.qkv_bias());
    let qkv = graph.linear(&format!("{name}.qkv"), tokens, 3 * width, qkv_init)?;
    // Unscaled scores grow with head_dim and push softmax towards one-hot.
    let scale = (config.head_dim() as f32).sqrt().recip();
    let dropout = config.dropout_at(DropoutPlace::Attention);
    let context = graph.attention(&format!("{name}.context"), qkv, config.num_heads(), scale, dropout)?;
    graph.linear(&format!("{name}.proj"), context, width, init::attention_proj(config.init(), width))
}
