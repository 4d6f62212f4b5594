//! Multi-head attention, the only ViT layer in which tokens see each other.
//! Source: Vaswani et al. 2017, section 3.2.2; weight names and query-key-value order as in timm. Heads that see only
//! their own channels are experiment E1's.

use vitreous_engine::ops::AttentionOptions;
use vitreous_engine::{Graph, GraphError, NodeId};

use super::init;
use crate::config::model::{Attention, DropoutPlace, VitConfig};

/// Lets every token gather from all tokens of its image.
///
/// # Shapes
/// - `tokens`: `[tokens, embed_dim]`, and the same is returned
///
/// # Errors
/// When a name is taken.
pub fn self_attention(graph: &mut Graph, name: &str, tokens: NodeId, config: &VitConfig) -> Result<NodeId, GraphError> {
    let qkv = project(graph, &format!("{name}.qkv"), tokens, 3, config)?;
    let (heads, dropout) = (config.spec().num_heads, config.spec().dropout_at(DropoutPlace::Attention));
    let context = graph.attention(&format!("{name}.context"), qkv, heads, config.spec().scale(), dropout)?;
    mix_heads(graph, name, context, config)
}

/// Lets every query gather from all tokens of another sequence.
///
/// # Shapes
/// - `queries`: `[queries, embed_dim]`, and the same is returned; `memory`: `[tokens, embed_dim]`
///
/// # Errors
/// When a name is taken.
pub fn cross_attention(
    graph: &mut Graph,
    name: &str,
    queries: NodeId,
    memory: NodeId,
    config: &VitConfig,
) -> Result<NodeId, GraphError> {
    let width = config.spec().embed_dim;
    let q = project(graph, &format!("{name}.q"), queries, 1, config)?;
    let kv = project(graph, &format!("{name}.kv"), memory, 2, config)?;
    let k = graph.slice_features(&format!("{name}.k"), kv, 0, width)?;
    let v = graph.slice_features(&format!("{name}.v"), kv, width, width)?;
    let options = AttentionOptions {
        dropout_rate: config.spec().dropout_at(DropoutPlace::Attention),
        ..AttentionOptions::new(config.spec().num_heads, config.spec().scale())
    };
    let context = graph.attend(&format!("{name}.context"), q, k, v, options, None)?;
    mix_heads(graph, name, context, config)
}

/// Projects each token to `count` of query, key and value.
fn project(
    graph: &mut Graph,
    name: &str,
    tokens: NodeId,
    count: usize,
    config: &VitConfig,
) -> Result<NodeId, GraphError> {
    let (rule, width, bias) = (config.spec().init, config.spec().embed_dim, config.spec().qkv_bias);
    match config.spec().attention {
        Attention::MultiHead => graph.linear(name, tokens, count * width, init::qkv(rule, width, count, bias)),
        Attention::PerHead => {
            let init = init::per_head(rule, config.spec().head_dim(), bias);
            graph.per_head_linear(name, tokens, config.spec().num_heads, count, init)
        }
    }
}

fn mix_heads(graph: &mut Graph, name: &str, context: NodeId, config: &VitConfig) -> Result<NodeId, GraphError> {
    let width = config.spec().embed_dim;
    match config.spec().attention {
        Attention::MultiHead => {
            graph.linear(&format!("{name}.proj"), context, width, init::attention_proj(config.spec().init, width))
        }
        Attention::PerHead => Ok(context),
    }
}
