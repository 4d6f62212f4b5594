//! A step whose loss is NaN changes nothing.

use vitreous_engine::graph::{Graph, GraphError, NodeId};
use vitreous_engine::ops::{Activation, Convolution, LinearInit};
use vitreous_engine::{Adam, Key, Parameters, Session, Step};

/// A network with statistics that its forward pass moves.
fn network() -> Result<(Graph, NodeId), GraphError> {
    let mut graph = Graph::new();
    let image = graph.input("image", [2, 5, 7])?;
    let label = graph.input("label", [])?;
    let x = graph.channels_last("map", image)?;
    let x = graph.conv2d("conv1", x, Convolution::new(19, 3), LinearInit::pytorch(18))?;
    let x = graph.batch_norm("norm1", x, 1e-5, 0.1)?;
    let x = graph.activation("act1", x, Activation::Relu)?;
    let x = graph.conv2d("conv2", x, Convolution::new(5, 3), LinearInit::pytorch(171))?;
    let x = graph.batch_norm("norm2", x, 1e-5, 0.3)?;
    let x = graph.channels_first_flat("flat", x)?;
    let logits = graph.linear("head", x, 3, LinearInit::pytorch(15))?;
    let loss = graph.cross_entropy("loss", logits, label, 0.0)?;
    Ok((graph, loss))
}

/// The bits of all parameters and statistics.
fn bits(session: &Session) -> Vec<Vec<u32>> {
    let graph = session.graph();
    let ids = graph.parameters().iter().map(|param| graph.find_parameter(&param.name).expect("its own"));
    ids.map(|id| session.parameters().get(id).iter().map(|x| x.to_bits()).collect()).collect()
}

/// Images of which one is not finite where `wrong` is not.
fn images(wrong: f32) -> impl Fn(usize, usize, &mut [f32]) + Sync {
    move |input, example, values| {
        for (i, value) in values.iter_mut().enumerate() {
            let draw = Key::new(4).with(example as u64).range(i as u64, -1.0, 1.0) as f32;
            *value = if input == 1 { (example % 3) as f32 } else { draw };
        }
        if input == 0 && example == 6 && !wrong.is_finite() {
            values[3] = wrong;
        }
    }
}

#[test]
fn a_step_with_a_nonfinite_loss_changes_no_parameter_and_no_statistic() {
    for threads in [1, 2] {
        for only_finite in [false, true] {
            let (graph, loss) = network().expect("the shapes fit");
            let parameters = Parameters::initialize(&graph, Key::new(3));
            let mut session = Session::new(graph, parameters, threads).expect("a model");
            session.start_training(loss, &[], Adam::default());
            let good = images(0.0);
            let before = bits(&session);
            session.train_step(&Step { only_finite, ..Step::new(11, &good, 0.01) });
            let after = bits(&session);
            assert!(before.iter().zip(&after).all(|(before, after)| before != after), "a good step changes all");
            for wrong in [f32::NAN, f32::INFINITY] {
                let bad = images(wrong);
                let report = session.train_step(&Step { only_finite, ..Step::new(11, &bad, 0.01) });
                assert!(!report.loss.is_finite(), "{report:?}");
                assert_eq!(bits(&session), after, "{threads} threads, only finite {only_finite}, {wrong}");
            }
        }
    }
}
