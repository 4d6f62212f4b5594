//! The transformer of 2017 from its parts, trained to copy four digits: positional encoding, encoder, and a decoder whose
//! attention is masked.

use vitreous::models::layers::embedding::sine_cosine as positional_encoding;
use vitreous::models::transformer::{NormPlace, TransformerOptions, decoder, encoder};
use vitreous_engine::{Adam, Graph, Init, Key, Parameters, Session, Step, ops::Activation, ops::LinearInit};

pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (words, length, embed_dim, num_heads, hidden_dim) = (11, 4, 32, 4, 64);
    let (activation, norm, norm_eps, dropout) = (Activation::Relu, NormPlace::Post, 1e-5, 0.0);
    let attention_scale = ((embed_dim / num_heads) as f32).sqrt().recip();
    let options =
        TransformerOptions { embed_dim, num_heads, hidden_dim, activation, norm, norm_eps, dropout, attention_scale };
    let mut graph = Graph::new();
    let [source, target, given] = ["source", "target", "given"].map(|name| graph.input(name, [length]));
    let (mut tokens, target) = ([source?, given?], target?);
    for (name, token) in ["source_words", "given_words"].into_iter().zip(&mut tokens) {
        *token = graph.embedding(name, *token, words, embed_dim, Init::Normal { std: 0.2 })?;
        *token = graph.add_constant(&format!("{name}.pos"), *token, positional_encoding(length, embed_dim).into())?;
    }
    let memory = encoder(&mut graph, "encoder", tokens[0], 1, None, &options)?;
    let written = decoder(&mut graph, "decoder", tokens[1], memory, 1, None, &options)?;
    let logits = graph.linear("head", written, words, LinearInit::pytorch(embed_dim))?;
    let loss = graph.cross_entropy_tokens("loss", logits, target, 0.0)?;
    let correct = graph.correct_sequence("correct", logits, target)?;

    // Word 10 starts a sequence; each other one is a digit of the example's number.
    let digit = |i: usize, place: usize| (i * 7919 / 10usize.pow(place as u32) % 10) as f32;
    let copies = |input: usize, i: usize, values: &mut [f32]| match input {
        2 => (0..length).for_each(|at| values[at] = if at == 0 { 10.0 } else { digit(i, at - 1) }),
        _ => (0..length).for_each(|at| values[at] = digit(i, at)),
    };
    let mut session = Session::new(graph.clone(), Parameters::initialise(&graph, Key::new(1)), 1)?;
    session.start_training(loss, &[correct], Adam::default());
    (0..150).for_each(|_| _ = session.train_step(&Step::new(64, &copies, 3e-3)));
    let accuracy = session.metric_mean(0, 64);
    println!("{:.0} % of the sequences are copied without a mistake", 100.0 * accuracy);
    assert!(accuracy > 0.9, "{accuracy}");
    Ok(())
}
