//! An encoder and a decoder with a loss over tokens, against the reference, on every instruction set.

use vitreous_engine::autodiff::differentiate;
use vitreous_engine::graph::{Graph, GraphError, Init, NodeId};
use vitreous_engine::ops::{Activation, AttentionOptions, LinearInit};
use vitreous_engine::random::Key;
use vitreous_engine::reference::{Mode, Reference};
use vitreous_engine::{Adam, Isa, Parameters, Session, Step};

const IMAGES: usize = 23;
const SOURCE: usize = 19;
const TARGET: usize = 7;
const WORDS: usize = 11;
/// Largest error, as part of the largest of all gradients.
const TOLERANCE: f64 = 2e-5;

/// Source tokens, which of them are real, words so far, words to come.
fn model(heads: usize, width: usize) -> Result<(Graph, [NodeId; 2]), GraphError> {
    let mut graph = Graph::new();
    let source = graph.input("source", [SOURCE, 5])?;
    let real = graph.input("real", [SOURCE])?;
    let words = graph.input("words", [TARGET])?;
    let labels = graph.input("labels", [TARGET])?;
    let memory = graph.linear("embed", source, width, LinearInit::pytorch(5))?;
    let maps = graph.per_head_linear("encoder", memory, heads, 3, LinearInit::pytorch(width / heads))?;
    let context = graph.attention("self", maps, heads, 0.7, 0.0)?;
    let memory = graph.add("encoded", memory, context)?;

    let positions = graph.trained_constant("positions", [TARGET, width], Init::Normal { std: 0.5 })?;
    let x = graph.embedding("words_embed", words, WORDS, width, Init::Normal { std: 0.5 })?;
    let x = graph.add("decoder", x, positions)?;
    let options = AttentionOptions { causal: true, dropout_rate: 0.2, ..AttentionOptions::new(heads, 0.7) };
    let y = graph.attend("masked", x, x, x, options, None)?;
    let y = graph.drop_path("path", y, 0.3)?;
    let x = graph.add("sum1", x, y)?;
    let q = graph.linear("q", x, width, LinearInit::pytorch(width))?;
    let k = graph.linear("k", memory, width, LinearInit::pytorch(width))?;
    let v = graph.linear("v", memory, width, LinearInit::pytorch(width))?;
    let y = graph.attend("across", q, k, v, AttentionOptions::new(heads, 0.7), Some(real))?;
    let seen = graph.attend("across_all", q, k, v, AttentionOptions::new(heads, 0.7), None)?;
    let y = graph.concat_features("both", &[y, seen])?;
    let x = graph.linear("join", y, width, LinearInit::pytorch(2 * width))?;
    let x = graph.activation("act", x, Activation::Tanh)?;
    let logits = graph.linear("head", x, WORDS, LinearInit::pytorch(width))?;
    let loss = graph.cross_entropy_tokens("loss", logits, labels, 0.1)?;
    let correct = graph.correct_sequence("correct", logits, labels)?;
    Ok((graph, [loss, correct]))
}

/// The inputs of all images; sequences have different lengths, at least one token and one word.
fn inputs() -> [Vec<f64>; 4] {
    let range = |seed: u64, n: usize| (0..n as u64).map(move |i| (i, Key::new(seed)));
    let source = range(1, IMAGES * SOURCE * 5).map(|(i, key)| f64::from(key.range(i, -1.0, 1.0) as f32)).collect();
    let real = (0..IMAGES * SOURCE).map(|i| f64::from(u8::from(i % SOURCE <= i / SOURCE % SOURCE))).collect();
    let words = range(2, IMAGES * TARGET).map(|(i, key)| key.below(i, WORDS as u64) as f64).collect();
    let label = |(i, key): (u64, Key)| {
        let place = (i as usize % TARGET, i as usize / TARGET % TARGET);
        if place.0 <= place.1 { key.below(i, WORDS as u64) as f64 } else { -1.0 }
    };
    [source, real, words, range(3, IMAGES * TARGET).map(label).collect()]
}

#[test]
fn losses_hits_and_gradients_equal_the_reference_for_any_number_of_threads() {
    let inputs = inputs();
    let lens = [SOURCE * 5, SOURCE, TARGET, TARGET];
    let examples = |input: usize, example: usize, values: &mut [f32]| {
        let own = &inputs[input][example * lens[input]..];
        values.iter_mut().zip(own).for_each(|(value, &x)| *value = x as f32);
    };
    let targets = inputs[3].iter().filter(|&&label| label != -1.0).count();
    let step = Step { targets: Some(targets as f64), ..Step::new(IMAGES, &examples, 0.01) };
    let keys: Vec<Key> = (0..IMAGES as u64).map(|i| step.dropout.with(step.first + i)).collect();
    for (heads, width) in [(1, 5), (8, 8), (6, 12), (3, 9), (2, 34)] {
        let (graph, [loss, correct]) = model(heads, width).expect("the shapes fit");
        let parameters = Parameters::initialize(&graph, Key::new(5));
        let id = |name: &str| graph.find_parameter(name).expect("its own");
        let names: Vec<&str> = graph.parameters().iter().map(|param| param.name.as_str()).collect();
        let values = names.iter().map(|name| parameters.get(id(name)).iter().map(|&x| f64::from(x)).collect());
        let training = differentiate(&graph, loss);
        let mode = Mode::Train { image_keys: Some(&keys), batch: targets };
        let expected = Reference::new(&training.graph, values.collect()).run(&inputs, mode);
        let all = expected.gradients.iter().flatten();
        let allowed = TOLERANCE * all.fold(0.0f64, |a, b| a.max(b.abs()));
        let sum = |of: NodeId| expected.of(of).iter().sum::<f64>();
        for isa in Isa::available() {
            let mut bits: Option<Vec<u32>> = None;
            for threads in [1, 2, 5] {
                let mut session = Session::with_isa(graph.clone(), parameters.clone(), threads, isa).expect("a model");
                session.start_training(loss, &[correct], Adam::default());
                let (gradients, found) = session.gradients(&step);
                let mean = sum(loss) / targets as f64;
                assert!((found - mean).abs() <= 1e-6 * mean, "{isa:?} {heads}: loss {found} is not {mean}");
                let hits = session.metric_mean(0, IMAGES) * IMAGES as f64;
                assert!((hits - sum(correct)).abs() < 1e-6, "{isa:?} {heads}: {hits} hits, not {}", sum(correct));
                for (name, expected) in names.iter().zip(&expected.gradients) {
                    for (i, (&x, &exact)) in gradients.get(id(name)).iter().zip(expected).enumerate() {
                        let agrees = (f64::from(x) - exact).abs() <= allowed;
                        assert!(agrees, "{isa:?} {heads}: {name}[{i}] is {x}, not {exact} within {allowed:e}");
                    }
                }
                let own = names.iter().flat_map(|name| gradients.get(id(name)).iter().map(|x| x.to_bits())).collect();
                assert!(bits.get_or_insert_with(|| Vec::clone(&own)) == &own, "{isa:?} {heads}: {threads} threads");
            }
        }
    }
}
