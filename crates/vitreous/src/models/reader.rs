//! The strip reader: an encoder over patches of the image, and a decoder that writes one digit after the other.
//! Source: Vaswani et al. 2017, for images instead of sentences. Experiment E5.

use vitreous_engine::ops::LinearInit;
use vitreous_engine::{Graph, GraphError, Init, NodeId};

use super::layers::embedding::{projected_patches, sine_cosine};
use super::transformer::{Dropout, TransformerOptions, decoder, encoder};
use super::{BuildModel, Model};
use crate::config::model::{ReaderConfig, ReaderSpec};
use crate::config::strips::{HEIGHT, WIDTH, words};

/// The decoder of a reader, which runs once per word on the encoder's output.
#[derive(Clone, Debug, PartialEq)]
pub struct ReaderDecoder {
    /// From the encoder's output and words to logits; parameters are named as in the whole reader.
    pub graph: Graph,
    /// One row of logits per input word: `[positions, words]`.
    pub logits: NodeId,
}

/// For teacher forcing: all words of a target are learned at once. Inputs, in this order: the normalized image
/// `[1, height, width]`; the target words `[positions]`, -1 where there is none; the input words `[positions]`.
impl BuildModel for ReaderConfig {
    fn build(&self, smoothing: f32) -> Result<Model, GraphError> {
        let mut graph = Graph::new();
        let image = graph.input("image", [1, HEIGHT, WIDTH])?;
        let label = graph.input("targets", [words::POSITIONS])?;
        let given = graph.input("given", [words::POSITIONS])?;
        let memory = encode(&mut graph, image, self)?;
        let logits = decode(&mut graph, memory, given, self)?;
        let loss = graph.cross_entropy_tokens("loss", logits, label, smoothing)?;
        let correct = graph.correct_sequence("correct", logits, label)?;
        Ok(Model { graph, image, label, logits, loss, correct, memory: Some(memory) })
    }
}

/// Builds the decoder of a reader alone. Inputs: the encoder's output `[tokens, embed_dim]`, the words `[positions]`.
///
/// # Errors
/// None for a checked config.
pub fn reader_decoder(config: &ReaderConfig) -> Result<ReaderDecoder, GraphError> {
    let mut graph = Graph::new();
    let memory = graph.input("memory", [tokens(config), config.spec().embed_dim])?;
    let given = graph.input("given", [words::POSITIONS])?;
    let logits = decode(&mut graph, memory, given, config)?;
    Ok(ReaderDecoder { graph, logits })
}

/// Number of patches of a strip.
pub fn tokens(config: &ReaderConfig) -> usize {
    let patch_size = config.spec().patch_size;
    (HEIGHT / patch_size) * (WIDTH / patch_size)
}

/// Encodes the image: `[tokens, embed_dim]`.
fn encode(graph: &mut Graph, image: NodeId, config: &ReaderConfig) -> Result<NodeId, GraphError> {
    let spec = config.spec();
    let init = LinearInit::pytorch(graph.node(image).shape.0[0] * spec.patch_size.pow(2));
    let patches = projected_patches(graph, image, spec.patch_size, spec.embed_dim, init)?;
    let patches = graph.add_constant("pos_encoding", patches, sine_cosine(tokens(config), spec.embed_dim).into())?;
    let patches = graph.dropout("pos_drop", patches, spec.dropout as f32)?;
    encoder(graph, "encoder", patches, spec.depth, None, &options(spec))
}

/// Predicts the word after each input word: `[positions, words]`.
fn decode(graph: &mut Graph, memory: NodeId, given: NodeId, config: &ReaderConfig) -> Result<NodeId, GraphError> {
    let spec = config.spec();
    let width = spec.embed_dim;
    // Initialized small and scaled up, so that words have the scale of their positions (section 3.4).
    let scale = (width as f32).sqrt();
    let given = graph.embedding("words", given, words::COUNT, width, Init::Normal { std: scale.recip() })?;
    let given = graph.scale("words.scale", given, scale)?;
    let given = graph.add_constant("words.pos_encoding", given, sine_cosine(words::POSITIONS, width).into())?;
    let given = graph.dropout("words.drop", given, spec.dropout as f32)?;
    let written = decoder(graph, "decoder", given, memory, spec.decoder_depth, None, &options(spec))?;
    graph.linear("head", written, words::COUNT, LinearInit::pytorch(width))
}

fn options(spec: &ReaderSpec) -> TransformerOptions {
    let rate = spec.dropout as f32;
    TransformerOptions {
        hidden_dim: spec.hidden_dim(),
        activation: spec.activation.into(),
        block: spec.block,
        norm_eps: spec.norm_eps as f32,
        attention_scale: spec.scale(),
        dropout: Dropout { attention: rate, residual: rate, ..Dropout::default() },
        ..TransformerOptions::new(spec.embed_dim, spec.num_heads)
    }
}
