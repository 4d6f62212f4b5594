//! The transformer of 2017 from its parts, trained to copy four digits: positional encoding, encoder, masked decoder.
use vitreous::models::layers::embedding::sine_cosine as positional_encoding;
use vitreous::models::transformer::{TransformerOptions, decoder, encoder};
use vitreous_engine::{Adam, Graph, Init, Key, Parameters, Session, Step, ops::LinearInit};

pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut graph, words, length, width) = (Graph::new(), 11, 4, 32);
    let options = TransformerOptions::new(width, 4);
    let [source, target, given] = ["source", "target", "given"].map(|name| graph.input(name, [length]));
    let (mut tokens, target) = ([source?, given?], target?);
    for (name, token) in ["source_words", "given_words"].into_iter().zip(&mut tokens) {
        *token = graph.embedding(name, *token, words, width, Init::Normal { std: 0.2 })?;
        *token = graph.add_constant(&format!("{name}.pos"), *token, positional_encoding(length, width).into())?;
    }
    let memory = encoder(&mut graph, "encoder", tokens[0], 1, None, &options)?;
    let written = decoder(&mut graph, "decoder", tokens[1], memory, 1, None, &options)?;
    let logits = graph.linear("head", written, words, LinearInit::pytorch(width))?;
    let loss = graph.cross_entropy_tokens("loss", logits, target, 0.0)?;
    let correct = graph.correct_sequence("correct", logits, target)?;
    let digit = |i: usize, place: usize| (i * 7919 / 10usize.pow(place as u32) % 10) as f32;
    let given = |i: usize, at: usize| if at == 0 { 10.0 } else { digit(i, at - 1) };
    let copies = |input: usize, i: usize, values: &mut [f32]| {
        (0..length).for_each(|at| values[at] = if input == 2 { given(i, at) } else { digit(i, at) });
    };
    let mut session = Session::new(graph.clone(), Parameters::initialize(&graph, Key::new(1)), 1)?;
    session.start_training(loss, &[correct], Adam::default());
    (0..150).for_each(|_| _ = session.train_step(&Step::new(64, &copies, 3e-3)));
    if session.metric_mean(0, 64) > 0.9 { Ok(()) } else { Err("the transformer has not learned to copy".into()) }
}
