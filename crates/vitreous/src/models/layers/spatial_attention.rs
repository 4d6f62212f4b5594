//! Self-attention between the positions of a map, added to the map. Source: experiment E3, after Zhang et al. 2019
//! (self-attention GAN), without its factor before the sum.

use vitreous_engine::ops::{AttentionOptions, Convolution, Pool};
use vitreous_engine::{Graph, GraphError, NodeId};

use super::init;
use crate::config::model::StackInit;

/// Lets every position gather from all positions; keys and values are max-pooled 2x2.
///
/// # Shapes
/// - `map`: `[height, width, channels]`, and the same is returned; `channels` is a multiple of `reduction`
///
/// # Errors
/// When a name is taken, or the map is smaller than 2x2.
pub fn spatial_attention(
    graph: &mut Graph,
    name: &str,
    map: NodeId,
    reduction: usize,
    rule: StackInit,
) -> Result<NodeId, GraphError> {
    let shape = graph.node(map).shape.clone();
    let (channels, positions) = (shape.features(), shape.rows());
    let narrow = channels / reduction;
    let project = |graph: &mut Graph, part: &str| {
        let conv = Convolution::new(narrow, 1);
        graph.conv2d(&format!("{name}.{part}"), map, conv, init::convolution(rule, conv, channels))
    };
    let pooled = |graph: &mut Graph, part: &str| {
        let wide = project(graph, part)?;
        let pooled = graph.max_pool2d(&format!("{name}.{part}.pool"), wide, Pool::new(2))?;
        let positions = graph.node(pooled).shape.rows();
        graph.reshape(&format!("{name}.{part}.tokens"), pooled, [positions, narrow])
    };
    let theta = project(graph, "theta")?;
    let queries = graph.reshape(&format!("{name}.theta.tokens"), theta, [positions, narrow])?;
    let (keys, values) = (pooled(graph, "phi")?, pooled(graph, "g")?);
    let options = AttentionOptions::new(1, 1.0);
    let context = graph.attend(&format!("{name}.context"), queries, keys, values, options, None)?;
    let context = graph.reshape(&format!("{name}.context.map"), context, shape.with_features(narrow))?;
    let conv = Convolution::new(channels, 1);
    let out = graph.conv2d(&format!("{name}.o"), context, conv, init::convolution(rule, conv, narrow))?;
    graph.add(&format!("{name}.add"), map, out)
}
