//! The transformer as parts: masked attention, MLP, encoder and decoder blocks, and stacks of them. Vision transformers
//! and readers are made of these; each part adds nodes to a graph under a name and can be used alone.
//! Source: Vaswani et al. 2017, section 3, and Dosovitskiy et al. 2021, section 3.1; [`Block`] says where the norms are.
//!
//! Positions are in [`super::layers::embedding`].

mod attention;
mod block;
mod mlp;

use vitreous_engine::ops::Activation;

pub use attention::{Mask, Projections, attention};
pub use block::{decoder, decoder_block, encoder, encoder_block};
pub use mlp::mlp;

use super::layers::init::Rule;
use crate::config::model::{Attention, Block};

/// Sizes and options that the blocks of a transformer share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TransformerOptions {
    /// Length of one token vector. A multiple of `num_heads`.
    pub embed_dim: usize,
    /// Number of attention heads.
    pub num_heads: usize,
    /// Width of the MLP's hidden layer.
    pub hidden_dim: usize,
    /// Activation function of the MLP.
    pub activation: Activation,
    /// Where the norms are.
    pub block: Block,
    /// Added to the variance in layer norms.
    pub norm_eps: f32,
    /// Which channels a head's query, key and value are computed from.
    pub attention: Attention,
    /// How query, key and value are projected.
    pub projections: Projections,
    /// Whether query, key and value have biases.
    pub qkv_bias: bool,
    /// The factor of attention scores: `1 / sqrt(head_dim)` in the paper.
    pub attention_scale: f32,
    /// Where dropout acts.
    pub dropout: Dropout,
    /// Probability that half of a block is skipped for an image.
    pub drop_path: f32,
    /// Initial values of the parameters.
    pub init: Rule,
}

/// Probability that dropout zeroes a value, for each place in a block.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Dropout {
    /// On the attention weights, after softmax.
    pub attention: f32,
    /// After the MLP's activation.
    pub activation: f32,
    /// After the MLP's second linear layer.
    pub mlp: f32,
    /// On the result of attention and of the MLP, before it is added to the tokens.
    pub residual: f32,
}

impl TransformerOptions {
    /// The options of the 2017 paper: norms after each half, ReLU, a hidden layer four times as wide, no dropout.
    pub fn new(embed_dim: usize, num_heads: usize) -> TransformerOptions {
        TransformerOptions {
            embed_dim,
            num_heads,
            hidden_dim: 4 * embed_dim,
            activation: Activation::Relu,
            block: Block::PostNorm,
            norm_eps: 1e-5,
            attention: Attention::MultiHead,
            projections: Projections::Separate,
            qkv_bias: true,
            attention_scale: ((embed_dim / num_heads) as f32).sqrt().recip(),
            dropout: Dropout::default(),
            drop_path: 0.0,
            init: Rule::Xavier,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vitreous_engine::random::Key;
    use vitreous_engine::{Graph, NodeId, Parameters, Session};

    pub fn options(block: Block) -> TransformerOptions {
        let dropout = Dropout { attention: 0.1, residual: 0.1, ..Dropout::default() };
        let activation = Activation::Gelu;
        TransformerOptions { hidden_dim: 11, activation, block, dropout, ..TransformerOptions::new(6, 2) }
    }

    /// Computes a node for one example, with random parameters.
    pub fn infer(graph: Graph, node: NodeId, inputs: &[&[f32]]) -> Vec<f32> {
        let parameters = Parameters::initialize(&graph, Key::new(3));
        let fill = |input: usize, _: usize, values: &mut [f32]| values.copy_from_slice(inputs[input]);
        Session::new(graph, parameters, 1).expect("its own").infer(&[node], 1, &fill).swap_remove(0)
    }
}
