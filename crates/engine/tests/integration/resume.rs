//! A restored training continues bit for bit. A step with a nonfinite loss changes nothing; with `only_finite`, neither
//! does one with nonfinite gradients.

use vitreous_engine::graph::{Graph, GraphError, NodeId};
use vitreous_engine::ops::{Activation, Convolution, LinearInit};
use vitreous_engine::{Adam, Average, Key, Lion, Muon, Optimizer, OptimizerState, Parameters, Session, Sgd, Step};

const IMAGES: usize = 23;
const SIDE: usize = 5;

/// With batch norm, whose statistics the forward pass moves, or without, and dropout, whose masks depend on the place.
fn network(has_norm: bool) -> Result<(Graph, NodeId), GraphError> {
    let mut graph = Graph::new();
    let image = graph.input("image", [3, SIDE, SIDE])?;
    let label = graph.input("label", [])?;
    let x = graph.channels_last("map", image)?;
    let x = graph.conv2d("conv", x, Convolution::new(19, 3).padding(1), LinearInit::pytorch(27))?;
    let x = if has_norm { graph.batch_norm("norm", x, 1e-5, 0.1)? } else { x };
    let x = graph.conv2d("hidden", x, Convolution::new(19, 1), LinearInit::pytorch(19))?;
    let x = if has_norm { graph.batch_norm("norm2", x, 1e-5, 0.3)? } else { x };
    let x = graph.activation("act", x, Activation::Relu)?;
    let x = graph.global_avg_pool("pool", x)?;
    let x = graph.dropout("drop", x, 0.3)?;
    let logits = graph.linear("head", x, 7, LinearInit::pytorch(19))?;
    let loss = graph.cross_entropy("loss", logits, label, 0.1)?;
    Ok((graph, loss))
}

fn session(has_norm: bool, optimizer: Optimizer, threads: usize) -> Session {
    let (graph, loss) = network(has_norm).expect("the shapes fit");
    let parameters = Parameters::initialize(&graph, Key::new(3));
    let mut session = Session::new(graph, parameters, threads).expect("a model");
    session.start_training(loss, &[], optimizer);
    session
}

/// Takes training steps. In step number `bad`, counted from 0, one pixel is NaN or infinite.
fn train(
    session: &mut Session,
    steps: std::ops::Range<u64>,
    bad: Option<(u64, f32)>,
    only_finite: bool,
) -> Vec<[f64; 2]> {
    let mut reports = Vec::new();
    for step in steps {
        let fill = |input: usize, example: usize, values: &mut [f32]| {
            let key = Key::new(4).with(step).with(example as u64);
            for (i, value) in values.iter_mut().enumerate() {
                *value = if input == 0 { key.range(i as u64, -1.0, 1.0) as f32 } else { (example % 7) as f32 };
            }
            if let Some((_, pixel)) = bad.filter(|(at, _)| *at == step && input == 0 && example == 11) {
                values[13] = pixel;
            }
        };
        let more = Step { dropout: Key::new(5), first: step * 23, only_finite, ..Step::new(IMAGES, &fill, 0.01) };
        let report = session.train_step(&more);
        reports.push([report.loss, report.gradient_norm]);
    }
    reports
}

/// The state of a training, as bits.
fn bits(session: &Session) -> (u64, Vec<u32>) {
    let OptimizerState { updates, moments } = session.optimizer_state();
    let names: Vec<String> = session.graph().parameters().iter().map(|param| param.name.clone()).collect();
    let ids = names.iter().map(|name| session.graph().find_parameter(name).expect("its own"));
    let all = ids.flat_map(|id| [session.parameters()].into_iter().chain(&moments).map(move |values| (id, values)));
    (updates, all.flat_map(|(id, values)| values.get(id).iter().map(|value| value.to_bits())).collect())
}

fn optimizers() -> [Optimizer; 7] {
    let average = Some(Average { decay: 0.6 });
    [
        Optimizer { weight_decay: 0.1, ..Adam { decoupled: true, ..Adam::default() }.into() },
        Optimizer { clip: Some(0.5), ..Adam::default().into() },
        Optimizer { average, ..Adam::default().into() },
        Optimizer { average, ..Sgd { momentum: 0.9, nesterov: true }.into() },
        Sgd::default().into(),
        Optimizer { average, ..Lion::default().into() },
        Optimizer { average, clip: Some(0.5), weight_decay: 0.1, ..Muon::default().into() },
    ]
}

#[test]
fn a_restored_session_continues_bit_for_bit_with_any_number_of_threads() {
    for optimizer in optimizers() {
        let mut original = session(true, optimizer, 2);
        train(&mut original, 0..4, None, false);
        let (parameters, state) = (original.parameters().clone(), original.optimizer_state());
        let rest = train(&mut original, 4..9, None, false);
        for threads in [1, 3] {
            let mut other = session(true, optimizer, threads);
            // Whatever it has done before is forgotten.
            train(&mut other, 0..2, None, false);
            other.restore(&parameters, &state);
            assert_eq!(train(&mut other, 4..9, None, false), rest, "{optimizer:?}");
            assert_eq!(bits(&other), bits(&original), "{optimizer:?}");
        }
    }
}

#[test]
fn a_nonfinite_step_changes_nothing_with_only_finite() {
    for optimizer in optimizers() {
        // The last leaves a finite loss, and gradients whose squares are beyond all bounds.
        for (has_norm, pixel) in [(true, f32::NAN), (false, f32::INFINITY), (false, 1e30)] {
            let mut guarded = session(has_norm, optimizer, 2);
            train(&mut guarded, 0..3, None, true);
            let before = bits(&guarded);
            let [loss, norm] = train(&mut guarded, 3..4, Some((3, pixel)), true)[0];
            assert_eq!((loss.is_finite(), norm.is_finite()), (pixel == 1e30, false), "{pixel}: {loss}, {norm}");
            assert!(bits(&guarded) == before, "{optimizer:?}, {pixel}");
            train(&mut guarded, 4..6, None, true);
            // The others never took that step.
            let mut plain = session(has_norm, optimizer, 2);
            train(&mut plain, 0..3, None, false);
            train(&mut plain, 4..6, None, false);
            assert!(bits(&guarded) == bits(&plain), "{optimizer:?}, {pixel}");
        }
    }
}

#[test]
fn a_step_with_a_nonfinite_loss_changes_no_parameter_statistic_or_moment() {
    for (optimizer, threads) in optimizers().into_iter().zip([1, 2].into_iter().cycle()) {
        for pixel in [f32::NAN, f32::INFINITY] {
            let mut session = session(true, optimizer, threads);
            let start = bits(&session);
            train(&mut session, 0..1, None, false);
            let before = bits(&session);
            assert_ne!(start, before, "a good step changes them");
            let [loss, norm] = train(&mut session, 1..2, Some((1, pixel)), false)[0];
            assert!(!loss.is_finite() && !norm.is_finite(), "{pixel}: {loss}, {norm}");
            assert!(bits(&session) == before, "{optimizer:?}, {pixel}, {threads} threads");
        }
    }
}
