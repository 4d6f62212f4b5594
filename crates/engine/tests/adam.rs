//! Adam and AdamW with weight decay and clipping against the formulas in f64, over five steps of a small network.

use vitreous_engine::graph::{Graph, GraphError, NodeId};
use vitreous_engine::ops::{Activation, LinearInit};
use vitreous_engine::{Adam, Key, Parameters, Session, Step};

const STEPS: i32 = 5;
const IMAGES: usize = 23;

fn network() -> Result<(Graph, NodeId), GraphError> {
    let mut graph = Graph::new();
    let x = graph.input("x", [7])?;
    let label = graph.input("label", [])?;
    let x = graph.linear("fc1", x, 67, LinearInit::pytorch(7))?;
    let x = graph.activation("act", x, Activation::Gelu)?;
    let x = graph.linear("fc2", x, 31, LinearInit::pytorch(67))?;
    let x = graph.activation("act2", x, Activation::Tanh)?;
    let logits = graph.linear("head", x, 3, LinearInit::pytorch(31))?;
    let loss = graph.cross_entropy("loss", logits, label, 0.1)?;
    Ok((graph, loss))
}

/// All values one after the other.
fn flat(graph: &Graph, parameters: &Parameters) -> Vec<f64> {
    let ids = graph.parameters().iter().map(|param| graph.find_parameter(&param.name).expect("its own"));
    ids.flat_map(|id| parameters.get(id).iter().map(|&x| f64::from(x)).collect::<Vec<_>>()).collect()
}

/// Five steps as `torch.optim` takes them, each with the gradient that the session has at the same point.
fn check(adam: Adam, threads: usize) {
    let (graph, loss) = network().expect("the shapes fit");
    let mut session = Session::new(graph.clone(), Parameters::initialise(&graph, Key::new(3)), threads);
    session.start_training(loss, &[], adam);
    let examples = |input: usize, example: usize, values: &mut [f32]| {
        for (i, value) in values.iter_mut().enumerate() {
            let draw = Key::new(4).with(example as u64).range(i as u64, -1.0, 1.0);
            *value = if input == 0 { draw as f32 } else { (example % 3) as f32 };
        }
    };
    let mut values = flat(&graph, session.parameters());
    let (mut first, mut second) = (vec![0.0; values.len()], vec![0.0; values.len()]);
    for t in 1..=STEPS {
        let learning_rate = 0.01 / f64::from(t);
        let step = Step::new(IMAGES, &examples, learning_rate);
        let (gradient, loss) = session.gradients(&step);
        let gradient = flat(&graph, &gradient);
        let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        let factor = adam.clip.map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0));
        let [beta1, beta2] = adam.betas;
        for i in 0..values.len() {
            let mut g = factor * gradient[i];
            if adam.decoupled {
                values[i] *= 1.0 - learning_rate * adam.weight_decay;
            } else {
                g += adam.weight_decay * values[i];
            }
            first[i] = beta1 * first[i] + (1.0 - beta1) * g;
            second[i] = beta2 * second[i] + (1.0 - beta2) * g * g;
            let corrected = first[i] / (1.0 - beta1.powi(t));
            let root = (second[i] / (1.0 - beta2.powi(t))).sqrt();
            values[i] -= learning_rate * corrected / (root + adam.eps);
        }
        let report = session.train_step(&step);
        assert_eq!(report.loss, loss);
        assert!((report.gradient_norm / norm - 1.0).abs() < 1e-6, "norm {} is not {norm}", report.gradient_norm);
        for (i, (found, expected)) in flat(&graph, session.parameters()).iter().zip(&values).enumerate() {
            // A value is below 1 and is rounded once a step; so are the moments of an update of at most 0.01.
            assert!((found - expected).abs() < 4e-7, "{adam:?}, step {t}: value {i} is {found}, not {expected}");
        }
    }
}

#[test]
fn adam_without_decay() {
    check(Adam::default(), 1);
}

#[test]
fn weight_decay_in_the_gradient_and_apart_from_it() {
    for decoupled in [false, true] {
        check(Adam { weight_decay: 0.3, decoupled, ..Adam::default() }, 2);
    }
}

#[test]
fn clipping_where_the_norm_is_above_the_limit_and_where_it_is_not() {
    for limit in [0.01, 100.0] {
        // The update forgets the gradient's length but for eps.
        let adam = Adam { clip: Some(limit), eps: 1e-3, betas: [0.8, 0.95], ..Adam::default() };
        check(adam, 3);
        check(Adam { weight_decay: 0.1, decoupled: true, ..adam }, 1);
    }
}
