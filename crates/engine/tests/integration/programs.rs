//! Whole programs against the reference: random models on every instruction set, number of threads and batch size.
//!
//! The random numbers are the same in every run: a failure stays until it is understood.

use std::num::NonZeroUsize;

use crate::common::{Data, Model, Spec, is_near_a_kink, reference_infer, reference_step, spec, step};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use vitreous_engine::graph::{Graph, GraphError, Init, NodeId, ParameterKind};
use vitreous_engine::ops::{Activation, Convolution, LinearInit};
use vitreous_engine::random::Key;
use vitreous_engine::reference::{Mode, Reference};
use vitreous_engine::{Adam, Isa, Optimizer, Parameters, Session, Step, StepReport, WideRule};

/// Largest error, as part of a tensor's largest value: f32 rounds to 6e-8, and sums, divisions and deep models add.
const TOLERANCE: f64 = 2e-5;
/// The same as part of the largest of all gradients: some are differences that should be 0.
const FLOOR: f64 = 1e-6;
/// The same where batch norms follow each other, which cancel nearly all of a bias's gradient.
const BATCH_NORM_FLOOR: f64 = 4e-6;

/// Cuts all layers by columns but the smallest, so that programs have regions.
const WIDE: WideRule = WideRule { min_values: 50, min_values_per_activation: 0, min_fraction: 0.0 };

fn check(cases: u32, seed: u64, test: impl Fn(Spec, usize) -> Result<(), TestCaseError>) {
    let config = Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 2000,
        ..Config::default()
    };
    let result = TestRunner::new(config).run(&(spec(), 1usize..=37), |(spec, images)| test(spec, images));
    if let Err(error) = result {
        panic!("{error}");
    }
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |a, b| a.max(b.abs()))
}

fn close(what: &str, found: &[f32], expected: &[f64], floor: f64) -> Result<(), TestCaseError> {
    prop_assert_eq!(found.len(), expected.len(), "{}", what);
    let allowed = TOLERANCE * largest(expected) + floor;
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs();
        prop_assert!(error <= allowed, "{what}[{i}]: {found} is not {expected}, {error:e} > {allowed:e}");
    }
    Ok(())
}

fn session(model: &Model, threads: usize, isa: Isa) -> Session {
    let parameters = Parameters::initialize(&model.graph, Key::new(5));
    Session::with_isa(model.graph.clone(), parameters, threads, isa).expect("a model")
}

/// The parameters' ids with their names.
fn parameters_of(model: &Model) -> Vec<(vitreous_engine::ParamId, &str)> {
    let params = model.graph.parameters().iter();
    params.map(|param| (model.graph.find_parameter(&param.name).expect("its own"), param.name.as_str())).collect()
}

/// The mean of a node's values over all images.
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn losses_and_gradients_equal_the_reference() {
    check_gradients(400, 1, WideRule::default());
}

#[test]
fn losses_and_gradients_of_layers_cut_by_columns_equal_the_reference() {
    check_gradients(200, 5, WIDE);
}

fn check_gradients(cases: u32, seed: u64, rule: WideRule) {
    check(cases, seed, |spec, images| {
        let model = spec.build();
        let data = Data::new(&model, images);
        let parameters = Parameters::initialize(&model.graph, Key::new(5));
        let step = step(&data, images);
        let expected = reference_step(&model, &parameters, &data, &step);
        prop_assume!(!is_near_a_kink(&model, &expected));
        let loss = mean(expected.of(model.loss));
        let cancels = model.graph.nodes().iter().any(|node| node.op.name() == "batch_norm");
        let floor = if cancels { BATCH_NORM_FLOOR } else { FLOOR }
            * expected.gradients.iter().map(|gradient| largest(gradient)).fold(0.0, f64::max);
        for (i, isa) in Isa::available().into_iter().enumerate() {
            let threads = 1 + (images + i) % 5;
            let mut session = session(&model, threads, isa);
            session.set_wide_rule(rule);
            let mut metrics: Vec<NodeId> = vec![model.correct];
            metrics.extend(model.taps.iter().filter(|&&tap| expected.of(tap).len() >= images));
            session.start_training(model.loss, &metrics, Adam::default());
            // The second time nothing is left of the first.
            for _ in 0..2 {
                let (gradients, found) = session.gradients(&step);
                prop_assert!((found - loss).abs() <= TOLERANCE * loss.abs(), "{isa:?}: loss {found} is not {loss}");
                for (id, name) in parameters_of(&model) {
                    let what = format!("{isa:?} on {threads} threads: gradient of {name}");
                    close(&what, gradients.get(id), &expected.gradients[id.index()], floor)?;
                }
                for (metric, &tap) in metrics.iter().enumerate() {
                    let values = expected.of(tap);
                    let (found, expected) = (session.metric_mean(metric, images), mean(values));
                    let allowed = TOLERANCE * largest(values) + 1e-12;
                    let name = &model.graph.node(tap).name;
                    prop_assert!((found - expected).abs() <= allowed, "{isa:?}: {name} {found} is not {expected}");
                }
            }
        }
        Ok(())
    });
}

#[test]
fn inferred_values_equal_the_reference() {
    check(300, 2, |spec, images| {
        let model = spec.build();
        let data = Data::new(&model, images);
        let parameters = Parameters::initialize(&model.graph, Key::new(5));
        let expected = reference_infer(&model, &parameters, &data);
        let mut nodes = vec![model.logits, model.correct];
        nodes.extend(&model.taps);
        for (i, isa) in Isa::available().into_iter().enumerate() {
            let threads = 1 + (images + i) % 5;
            let mut session = session(&model, threads, isa);
            for asked in [&nodes[..1], &nodes] {
                let found = session.infer(asked, images, &data);
                for (&id, found) in asked.iter().zip(&found) {
                    let what = format!("{isa:?} on {threads} threads: {}", model.graph.node(id).name);
                    close(&what, found, expected.of(id), 1e-12)?;
                }
            }
        }
        Ok(())
    });
}

/// Takes three steps of different sizes; returns reports and parameters as bits.
fn train(
    model: &Model,
    data: &Data,
    images: usize,
    (threads, isa): (usize, Isa),
    (rule, clip): (WideRule, Option<f64>),
) -> (Vec<StepReport>, Vec<u32>) {
    let mut session = session(model, threads, isa);
    session.set_wide_rule(rule);
    session.start_training(model.loss, &[], Optimizer { clip, weight_decay: 0.1, ..Adam::default().into() });
    let sizes = [images, images.div_ceil(2), images];
    let reports = sizes.map(|images| session.train_step(&Step { images, ..step(data, images) })).to_vec();
    let bits = |(id, _)| session.parameters().get(id).iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    (reports, parameters_of(model).into_iter().flat_map(bits).collect())
}

#[test]
fn any_number_of_threads_gives_the_same_bits_and_so_do_avx2_and_avx512() {
    check(70, 3, |spec, images| {
        // More images than otherwise, so that there are up to 16 parts.
        let images = 3 * images;
        let model = spec.build();
        let data = Data::new(&model, images);
        for how in [(WideRule::default(), Some(0.5)), (WIDE, None)] {
            for isa in Isa::available() {
                let one = train(&model, &data, images, (1, isa), how);
                for threads in [2, 3, 5, 7] {
                    let many = train(&model, &data, images, (threads, isa), how);
                    prop_assert!(many == one, "{isa:?}: {threads} threads, {how:?}");
                }
                if isa != Isa::Portable {
                    let best = train(&model, &data, images, (1, Isa::best()), how);
                    prop_assert!(best == one, "{isa:?} against the best, {how:?}");
                }
            }
        }
        Ok(())
    });
}

#[test]
fn updates_are_the_same_whether_or_not_late_gradients_are_stored() {
    check(40, 6, |spec, images| {
        let model = spec.build();
        let data = Data::new(&model, images);
        let [kept, late] = [Some(1e30), None].map(|clip| train(&model, &data, images, (2, Isa::best()), (WIDE, clip)));
        prop_assert!(kept == late);
        Ok(())
    });
}

#[test]
fn inference_does_not_depend_on_threads_or_earlier_calls() {
    check(70, 4, |spec, images| {
        let model = spec.build();
        let data = Data::new(&model, images);
        let one = session(&model, 1, Isa::best()).infer(&[model.logits], images, &data);
        for threads in [2, 3] {
            let mut session = session(&model, threads, Isa::best());
            session.start_training(model.loss, &[], Adam::default());
            session.gradients(&step(&data, images));
            session.infer(&[model.correct], images.div_ceil(3), &data);
            let found = session.infer(&[model.logits], images, &data);
            prop_assert!(found == one, "{threads} threads");
        }
        Ok(())
    });
}

/// A table that a sequence of 4 tokens reads first and one of 3 last, so that its gradient starts with the fewer rows.
fn table_read_by_two_lengths() -> Result<Model, GraphError> {
    let mut graph = Graph::new();
    let x = graph.input("x", [3, 5])?;
    let label = graph.input("label", [])?;
    let token = graph.new_parameter("token", [5], Init::Constant(0.5))?;
    let table = graph.new_parameter("table", [4, 5], Init::Normal { std: 0.3 })?;
    let longer = graph.prepend_token("prepend", x, token)?;
    let longer = graph.add_table("longer", longer, table)?;
    let longer = graph.activation("act1", longer, Activation::Tanh)?;
    let longer = graph.mean_tokens("mean1", longer)?;
    let shorter = graph.add_table("shorter", x, table)?;
    let shorter = graph.activation("act2", shorter, Activation::Gelu)?;
    let shorter = graph.mean_tokens("mean2", shorter)?;
    let sum = graph.add("sum", longer, shorter)?;
    let logits = graph.linear("head", sum, 2, LinearInit::pytorch(5))?;
    let loss = graph.cross_entropy("loss", logits, label, 0.0)?;
    let correct = graph.correct("correct", logits, label)?;
    Ok(Model { graph, logits, loss, correct, taps: vec![] })
}

#[test]
fn a_table_that_two_lengths_read_starts_from_zero_at_every_part() {
    let model = table_read_by_two_lengths().expect("the shapes fit");
    let images = 37;
    let data = Data::new(&model, images);
    let step = step(&data, images);
    let expected = reference_step(&model, &Parameters::initialize(&model.graph, Key::new(5)), &data, &step);
    let mut session = session(&model, 1, Isa::best());
    session.start_training(model.loss, &[], Adam::default());
    for _ in 0..2 {
        let (gradients, _) = session.gradients(&step);
        for (id, name) in parameters_of(&model) {
            close(name, gradients.get(id), &expected.gradients[id.index()], 1e-9).expect("the gradients agree");
        }
    }
}

/// Two convolutions with batch norms, one of them on maps of few pixels.
fn network_with_batch_norms() -> Result<Model, GraphError> {
    let mut graph = Graph::new();
    let image = graph.input("image", [2, 5, 4])?;
    let label = graph.input("label", [])?;
    let mut x = graph.channels_last("map", image)?;
    for (i, channels) in [17, 6].into_iter().enumerate() {
        let convolution = Convolution::new(channels, 3).padding(1).stride(1 + i);
        let init = LinearInit { bias: None, ..LinearInit::pytorch(18) };
        x = graph.conv2d(&format!("conv{i}"), x, convolution, init)?;
        x = graph.batch_norm(&format!("norm{i}"), x, 1e-2, 0.3)?;
        x = graph.activation(&format!("act{i}"), x, Activation::Gelu)?;
    }
    let x = graph.global_avg_pool("pool", x)?;
    let logits = graph.linear("head", x, 3, LinearInit::pytorch(6))?;
    let loss = graph.cross_entropy("loss", logits, label, 0.0)?;
    let correct = graph.correct("correct", logits, label)?;
    Ok(Model { graph, logits, loss, correct, taps: vec![] })
}

#[test]
fn batch_norm_sees_one_micro_batch_at_a_time_and_updates_its_statistics() {
    let model = network_with_batch_norms().expect("the shapes fit");
    let images = 23;
    let data = Data::new(&model, images);
    let training = vitreous_engine::autodiff::differentiate(&model.graph, model.loss).graph;
    for micro_batches in [1, 2, 5, 40] {
        let parameters = Parameters::initialize(&model.graph, Key::new(5));
        let wide = |id| parameters.get(id).iter().map(|&x| f64::from(x)).collect();
        let mut values: Vec<Vec<f64>> = parameters_of(&model).iter().map(|&(id, _)| wide(id)).collect();
        let mut expected: Vec<Vec<f64>> = values.iter().map(|value| vec![0.0; value.len()]).collect();
        for number in 0..micro_batches {
            let [start, end] = [number, number + 1].map(|number| number * images / micro_batches);
            if start == end {
                continue;
            }
            let of = |values: &Vec<f64>| values[start * values.len() / images..end * values.len() / images].to_vec();
            let inputs: Vec<Vec<f64>> = data.inputs[..2].iter().map(of).collect();
            let mode = Mode::Train { image_keys: None, batch: images };
            let found = Reference::new(&training, values.clone()).run(&inputs, mode);
            for (sum, more) in expected.iter_mut().zip(&found.gradients) {
                sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
            }
            for (value, new) in values.iter_mut().zip(found.statistics).filter(|(_, new)| !new.is_empty()) {
                *value = new;
            }
        }
        for isa in Isa::available() {
            let mut bits: Option<Vec<u32>> = None;
            for threads in [1, 2, 3, 7] {
                let mut session = session(&model, threads, isa);
                session.start_training(model.loss, &[], Adam::default());
                let step =
                    Step { micro_batches: NonZeroUsize::new(micro_batches).expect("some"), ..step(&data, images) };
                let (gradients, _) = session.gradients(&step);
                let statistics = |id| model.graph.parameter(id).kind == ParameterKind::Statistic;
                for (id, name) in parameters_of(&model).into_iter().filter(|&(id, _)| statistics(id)) {
                    assert_eq!(session.parameters().get(id), parameters.get(id), "{name} without a step");
                }
                session.train_step(&step);
                let mut found = Vec::new();
                for (id, name) in parameters_of(&model) {
                    let what = format!("{isa:?}, {micro_batches} micro-batches: {name}");
                    let (of, expected) =
                        if statistics(id) { (session.parameters(), &values) } else { (&gradients, &expected) };
                    close(&what, of.get(id), &expected[id.index()], 1e-7).expect("they agree");
                    found.extend(of.get(id).iter().map(|x| x.to_bits()));
                }
                assert_eq!(*bits.get_or_insert_with(|| found.clone()), found, "{isa:?}: {threads} threads");
            }
        }
    }
}
