//! A custom network of the engine's operations: two linear layers that learn exclusive or.
use vitreous_engine::ops::{Activation, LinearInit};
use vitreous_engine::{Adam, Graph, Key, Parameters, Session, Step};

pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut graph = Graph::new();
    let (bits, label) = (graph.input("bits", [2])?, graph.input("label", [])?);
    let hidden = graph.linear("fc1", bits, 8, LinearInit::pytorch(2))?;
    let hidden = graph.activation("act", hidden, Activation::Tanh)?;
    let logits = graph.linear("fc2", hidden, 2, LinearInit::pytorch(8))?;
    let loss = graph.cross_entropy("loss", logits, label, 0.0)?;
    let correct = graph.correct("correct", logits, label)?;

    let examples = |input: usize, i: usize, values: &mut [f32]| match input {
        0 => values.copy_from_slice(&[(i % 2) as f32, (i / 2 % 2) as f32]),
        _ => values[0] = ((i % 2) ^ (i / 2 % 2)) as f32,
    };
    let mut session = Session::new(graph.clone(), Parameters::initialize(&graph, Key::new(1)), 1)?;
    session.start_training(loss, &[correct], Adam::default());
    (0..300).for_each(|_| _ = session.train_step(&Step::new(4, &examples, 0.05)));
    println!("accuracy on the four cases: {}", session.metric_mean(0, 4));
    if session.metric_mean(0, 4) == 1.0 { Ok(()) } else { Err("exclusive or is not learned".into()) }
}
