//! The transformer of the 2017 paper as parts: positions, attention with masks, encoder, decoder.
//! Source: Vaswani et al. 2017, section 3. Norms stand after each half as in the paper (`post`), or before it (`pre`).
//!
//! Each part adds nodes to a graph under a name and can be used alone; [`super::reader`] is all of them.

mod attention;
mod decoder;
mod encoder;

use vitreous_engine::ops::{Activation, LinearInit};
use vitreous_engine::{Graph, GraphError, NodeId};

pub use attention::{Mask, multi_head_attention};
pub use decoder::{decoder, decoder_block};
pub use encoder::{encoder, encoder_block};

/// Sizes and options that all blocks of a transformer share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TransformerOptions {
    /// Length of one token vector. A multiple of `num_heads`.
    pub embed_dim: usize,
    /// Number of attention heads.
    pub num_heads: usize,
    /// Width of the feed-forward's hidden layer.
    pub hidden_dim: usize,
    /// Activation function of the feed-forward.
    pub activation: Activation,
    /// Where norms stand.
    pub norm: NormPlace,
    /// Added to the variance in layer norms.
    pub norm_eps: f32,
    /// Probability that dropout zeroes a value: of attention weights and at the end of each half of a block.
    pub dropout: f32,
    /// What attention scores are multiplied by: `1 / sqrt(head_dim)` in the paper.
    pub attention_scale: f32,
}

/// Where the norm of half a block stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlace {
    /// `x + f(norm(x))`; the stack ends with a norm of its own.
    Pre,
    /// `norm(x + f(x))`, as in the paper.
    Post,
}

/// Adds half a block around `inner`, with its norm, dropout and residual connection.
///
/// # Shapes
/// - `tokens`: `[tokens, embed_dim]`, and the same is returned
fn half(
    graph: &mut Graph,
    [block, norm, part]: [&str; 3],
    tokens: NodeId,
    options: &TransformerOptions,
    inner: impl FnOnce(&mut Graph, &str, NodeId) -> Result<NodeId, GraphError>,
) -> Result<NodeId, GraphError> {
    let norm = format!("{block}.{norm}");
    let params = graph.layer_norm_parameters(&norm, options.embed_dim)?;
    let seen = match options.norm {
        NormPlace::Pre => graph.layer_norm(&norm, tokens, params, options.norm_eps)?,
        NormPlace::Post => tokens,
    };
    let part = format!("{block}.{part}");
    let worked = inner(graph, &part, seen)?;
    let worked = graph.dropout(&format!("{part}.drop"), worked, options.dropout)?;
    let sum = graph.add(&format!("{part}.add"), tokens, worked)?;
    match options.norm {
        NormPlace::Pre => Ok(sum),
        NormPlace::Post => graph.layer_norm(&norm, sum, params, options.norm_eps),
    }
}

/// Adds the feed-forward: the same two linear layers for every token.
fn feed_forward(
    graph: &mut Graph,
    name: &str,
    tokens: NodeId,
    options: &TransformerOptions,
) -> Result<NodeId, GraphError> {
    let (width, hidden_dim) = (options.embed_dim, options.hidden_dim);
    let hidden = graph.linear(&format!("{name}.fc1"), tokens, hidden_dim, LinearInit::pytorch(width))?;
    let hidden = graph.activation(&format!("{name}.act"), hidden, options.activation)?;
    graph.linear(&format!("{name}.fc2"), hidden, width, LinearInit::pytorch(hidden_dim))
}

/// Ends a stack of blocks: with norms before each half, the sum itself was never normed.
fn end(graph: &mut Graph, name: &str, tokens: NodeId, options: &TransformerOptions) -> Result<NodeId, GraphError> {
    match options.norm {
        NormPlace::Post => Ok(tokens),
        NormPlace::Pre => {
            let norm = format!("{name}.norm");
            let params = graph.layer_norm_parameters(&norm, options.embed_dim)?;
            graph.layer_norm(&norm, tokens, params, options.norm_eps)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vitreous_engine::random::Key;
    use vitreous_engine::{Parameters, Session};

    pub const OPTIONS: TransformerOptions = TransformerOptions {
        embed_dim: 6,
        num_heads: 2,
        hidden_dim: 11,
        activation: Activation::Gelu,
        norm: NormPlace::Pre,
        norm_eps: 1e-5,
        dropout: 0.1,
        attention_scale: 0.577,
    };

    /// Computes a node for one example, with parameters drawn anew.
    pub fn infer(graph: Graph, node: NodeId, inputs: &[&[f32]]) -> Vec<f32> {
        let parameters = Parameters::initialise(&graph, Key::new(3));
        let fill = |input: usize, _: usize, values: &mut [f32]| values.copy_from_slice(inputs[input]);
        Session::new(graph, parameters, 1).expect("its own").infer(&[node], 1, &fill).swap_remove(0)
    }

    pub fn params(graph: &Graph) -> Vec<String> {
        graph.parameters().iter().map(|param| param.name.clone()).collect()
    }

    pub fn rows_are_normed(values: &[f32], width: usize) -> bool {
        values.chunks_exact(width).all(|row| {
            let mean = row.iter().sum::<f32>() / width as f32;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / width as f32;
            mean.abs() < 1e-4 && (variance - 1.0).abs() < 1e-3
        })
    }

    #[test]
    fn half_a_block_is_the_identity_when_its_work_is_nothing_and_norms_stand_before() {
        let mut graph = Graph::new();
        let tokens = graph.input("tokens", [3, 6]).unwrap();
        let out = half(&mut graph, ["b", "norm1", "nothing"], tokens, &OPTIONS, |graph, name, seen| {
            graph.linear(name, seen, 6, LinearInit { weight: vitreous_engine::Init::Constant(0.0), bias: None })
        });
        let values: Vec<f32> = (0..18).map(|i| i as f32).collect();
        assert_eq!(infer(graph, out.unwrap(), &[&values]), values);
    }
}
