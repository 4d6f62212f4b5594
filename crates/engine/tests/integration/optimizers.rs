//! Optimizers with weight decay and clipping over five steps of a small network: Adam, AdamW and SGD against the formulas
//! in f64, others against weights files that `golden/make_optimizers.py` computed from the formulas.

use vitreous_engine::graph::{Graph, GraphError, Init, NodeId};
use vitreous_engine::ops::{Activation, LinearInit};
use vitreous_engine::{
    Adam, Average, Inference, Isa, Key, Lion, Muon, Optimizer, Parameters, Rule, Session, Sgd, Step, WideRule,
};

const STEPS: i32 = 5;
const IMAGES: usize = 23;

/// Decay acts on some parameters only, and there is a statistic, which nothing changes.
fn network() -> Result<(Graph, NodeId), GraphError> {
    let mut graph = Graph::new();
    let x = graph.input("x", [7])?;
    let label = graph.input("label", [])?;
    let x = graph.linear("fc1", x, 67, LinearInit::pytorch(7))?;
    let x = graph.activation("act", x, Activation::Gelu)?;
    graph.new_statistic("mean", [19], Init::Constant(0.25))?;
    let x = graph.linear("fc2", x, 31, LinearInit::pytorch(67))?;
    let x = graph.activation("act2", x, Activation::Tanh)?;
    let logits = graph.linear("head", x, 3, LinearInit::pytorch(31))?;
    let loss = graph.cross_entropy("loss", logits, label, 0.1)?;
    for name in ["fc1.bias", "fc2.weight"] {
        graph.set_decay(graph.find_parameter(name).expect("it was made"), false);
    }
    Ok((graph, loss))
}

/// All values one after the other.
fn flat(graph: &Graph, parameters: &Parameters) -> Vec<f64> {
    let ids = graph.parameters().iter().map(|param| graph.find_parameter(&param.name).expect("its own"));
    ids.flat_map(|id| parameters.get(id).iter().map(|&x| f64::from(x)).collect::<Vec<_>>()).collect()
}

/// Whether each value is trained, and whether it decays.
fn treatment(graph: &Graph) -> Vec<[bool; 2]> {
    let trained = |name: &str| name != "mean";
    let decays = |name: &str| !["fc1.bias", "fc2.weight"].contains(&name);
    let params = graph.parameters().iter();
    params.flat_map(|param| vec![[trained(&param.name), decays(&param.name)]; param.shape.len()]).collect()
}

/// Gives inputs and labels that do not depend on the session.
fn fill(input: usize, example: usize, values: &mut [f32]) {
    for (i, value) in values.iter_mut().enumerate() {
        let draw = Key::new(4).with(example as u64).range(i as u64, -1.0, 1.0);
        *value = if input == 0 { draw as f32 } else { (example % 3) as f32 };
    }
}

/// What the optimizer does to one value: gradient (clipped), decay, learning rate, step, and what it keeps.
type Formula<'a> = &'a dyn Fn(&mut f64, &mut [f64; 2], f64, f64, f64, i32);

/// Weight decay and max norm.
type Common = [f64; 2];

const NEITHER: Common = [0.0, f64::MAX];

/// Five steps as `torch.optim` takes them, each with the gradient that the session has at the same point.
fn check(rule: impl Into<Rule>, threads: usize, [decay, clip]: Common, formula: Formula) {
    let optimizer = Optimizer { weight_decay: decay, clip: (clip < f64::MAX).then_some(clip), ..rule.into().into() };
    let (graph, loss) = network().expect("the shapes fit");
    let mut session =
        Session::new(graph.clone(), Parameters::initialize(&graph, Key::new(3)), threads).expect("a model");
    session.start_training(loss, &[], optimizer);
    let mut values = flat(&graph, session.parameters());
    let mut kept = vec![[0.0; 2]; values.len()];
    for t in 1..=STEPS {
        let learning_rate = 0.01 / f64::from(t);
        let step = Step::new(IMAGES, &fill, learning_rate);
        let (gradient, loss) = session.gradients(&step);
        let gradient = flat(&graph, &gradient);
        let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        let factor = (clip / (norm + 1e-6)).min(1.0);
        for (i, [_, decays]) in treatment(&graph).into_iter().enumerate().filter(|(_, [trained, _])| *trained) {
            let decay = if decays { decay } else { 0.0 };
            formula(&mut values[i], &mut kept[i], factor * gradient[i], decay, learning_rate, t);
        }
        let report = session.train_step(&step);
        assert_eq!(report.loss, loss);
        assert!((report.gradient_norm / norm - 1.0).abs() < 1e-6, "norm {} is not {norm}", report.gradient_norm);
        for (i, (found, expected)) in flat(&graph, session.parameters()).iter().zip(&values).enumerate() {
            // A value is below 1 and is rounded once a step; so are the moments of an update of at most 0.01.
            assert!((found - expected).abs() < 4e-7, "{optimizer:?}, step {t}: value {i} is {found}, not {expected}");
        }
    }
}

fn check_adam(adam: Adam, threads: usize, with: Common) {
    let [beta1, beta2] = adam.betas;
    check(adam, threads, with, &|value, moments, g, decay, lr, t| {
        let mut g = g;
        if adam.decoupled {
            *value *= 1.0 - lr * decay;
        } else {
            g += decay * *value;
        }
        moments[0] = beta1 * moments[0] + (1.0 - beta1) * g;
        moments[1] = beta2 * moments[1] + (1.0 - beta2) * g * g;
        let corrected = moments[0] / (1.0 - beta1.powi(t));
        let root = (moments[1] / (1.0 - beta2.powi(t))).sqrt();
        *value -= lr * corrected / (root + adam.eps);
    });
}

fn check_sgd(sgd: Sgd, threads: usize, with: Common) {
    check(sgd, threads, with, &|value, kept, g, decay, lr, t| {
        let g = g + decay * *value;
        let mut along = g;
        if sgd.momentum != 0.0 {
            kept[0] = if t == 1 { g } else { sgd.momentum * kept[0] + g };
            along = if sgd.nesterov { g + sgd.momentum * kept[0] } else { kept[0] };
        }
        *value -= lr * along;
    });
}

#[test]
fn adam_without_decay() {
    check_adam(Adam::default(), 1, NEITHER);
}

#[test]
fn weight_decay_coupled_and_decoupled() {
    for decoupled in [false, true] {
        check_adam(Adam { decoupled, ..Adam::default() }, 2, [0.3, f64::MAX]);
    }
}

#[test]
fn clipping_where_the_norm_is_above_the_limit_and_where_it_is_not() {
    for limit in [0.01, 100.0] {
        // The update forgets the gradient's length but for eps.
        let adam = Adam { eps: 1e-3, betas: [0.8, 0.95], decoupled: false };
        check_adam(adam, 3, [0.0, limit]);
        check_adam(Adam { decoupled: true, ..adam }, 1, [0.1, limit]);
    }
}

#[test]
fn sgd_with_and_without_momentum_decay_and_clipping() {
    for (momentum, nesterov) in [(0.0, false), (0.9, false), (0.9, true)] {
        let sgd = Sgd { momentum, nesterov };
        check_sgd(sgd, 1, NEITHER);
        check_sgd(sgd, 2, [0.3, 0.05]);
    }
}

#[test]
fn the_average_follows_the_parameters_and_does_not_change_them() {
    let average = Some(Average { decay: 0.6 });
    let adam = Optimizer { clip: Some(0.5), weight_decay: 0.1, ..Adam::default().into() };
    let optimizers = [adam, Sgd { momentum: 0.9, nesterov: false }.into(), Sgd::default().into()];
    let pairs = optimizers.map(|plain| [plain, Optimizer { average, ..plain }]);
    // Also where a gradient is made right before the update.
    let wide = WideRule { min_values: 300, min_values_per_activation: 0, min_fraction: 0.0 };
    for ([plain, averaged], rule) in pairs.into_iter().flat_map(|pair| [(pair, WideRule::default()), (pair, wide)]) {
        let [mut plain, mut averaged] = [plain, averaged].map(|optimizer| {
            let (graph, loss) = network().expect("the shapes fit");
            let parameters = Parameters::initialize(&graph, Key::new(3));
            let mut session = Session::new(graph, parameters, 2).expect("a model");
            session.set_wide_rule(rule);
            session.start_training(loss, &[], optimizer);
            session
        });
        let statistic = averaged.graph().find_parameter("mean").expect("it was made");
        let mut expected = vec![0.0; flat(averaged.graph(), averaged.parameters()).len()];
        for k in 1..=STEPS {
            // Statistics move in the forward pass; here by hand.
            for session in [&mut plain, &mut averaged] {
                session.parameter_mut(statistic).fill(k as f32);
                session.train_step(&Step::new(IMAGES, &fill, 0.01));
            }
            let values = flat(averaged.graph(), averaged.parameters());
            assert_eq!(values, flat(plain.graph(), plain.parameters()));
            let keep = f64::min(0.6, 1.0 - f64::from(k).powf(-2.0 / 3.0));
            expected
                .iter_mut()
                .zip(&values)
                .for_each(|(average, value)| *average = keep * *average + (1.0 - keep) * value);
            let found = averaged.with_average(|session| flat(session.graph(), session.parameters()));
            for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert!(
                    (found - expected).abs() <= 2e-7 * expected.abs().max(1.0),
                    "step {k}: average {i} is {found}, not {expected}"
                );
            }
            let logits =
                averaged.graph().ids().find(|&id| averaged.graph().node(id).name == "head").expect("it was made");
            let of = |session: &mut Inference| session.infer(&[logits], 3, &fill).remove(0);
            // The first update keeps nothing.
            assert_eq!(averaged.with_average(of) == of(&mut averaged.inference()), k == 1);
            assert_eq!(
                of(&mut averaged.inference()),
                of(&mut plain.inference()),
                "the parameters are back, and what was packed of them"
            );
        }
    }
}

#[test]
fn the_loss_is_divided_by_the_targets_of_the_step() {
    let (graph, loss) = network().expect("the shapes fit");
    let mut session = Session::new(graph.clone(), Parameters::initialize(&graph, Key::new(3)), 2).expect("a model");
    session.start_training(loss, &[], Sgd::default());
    let step = Step::new(IMAGES, &fill, 0.1);
    let (mean, mean_loss) = session.gradients(&step);
    let (shared, shared_loss) = session.gradients(&Step { targets: Some(61.0), ..step });
    let ratio = IMAGES as f64 / 61.0;
    assert!((shared_loss / mean_loss - ratio).abs() < 1e-12);
    for (found, mean) in flat(&graph, &shared).iter().zip(flat(&graph, &mean)) {
        assert!((found - ratio * mean).abs() < 1e-8, "{found} is not {ratio} of {mean}");
    }
}

#[test]
fn parameters_are_restored_after_a_panic_in_with_average() {
    let (graph, loss) = network().expect("the shapes fit");
    let mut session = Session::new(graph.clone(), Parameters::initialize(&graph, Key::new(3)), 2).expect("a model");
    session.start_training(loss, &[], Optimizer { average: Some(Average { decay: 0.9 }), ..Adam::default().into() });
    for _ in 0..3 {
        session.train_step(&Step::new(IMAGES, &fill, 0.01));
    }
    let [values, average] = both(&mut session);
    assert_ne!(values, average);
    let look = || session.with_average(|_| panic!("it goes wrong"));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(look)).is_err());
    assert_eq!(both(&mut session), [values, average]);
    session.train_step(&Step::new(IMAGES, &fill, 0.01));
}

/// The parameters and their average.
fn both(session: &mut Session) -> [Vec<f64>; 2] {
    let of = |session: &mut Inference| flat(session.graph(), session.parameters());
    let values = of(&mut session.inference());
    [values, session.with_average(of)]
}

/// Layers of the network of the golden files, see `golden/make_optimizers.py`.
const SIZES: [usize; 5] = [5, 13, 11, 17, 3];

/// Numbers in [-1, 1), as the script draws them.
fn draw(stream: usize, i: usize) -> f32 {
    (((i * 7919 + stream * 104_729) % 2003) as f64 / 2003.0 * 2.0 - 1.0) as f32
}

/// Takes five steps of the golden network; returns all parameters.
fn golden_run(optimizer: Optimizer, threads: usize, isa: Isa, rule: WideRule) -> Vec<f64> {
    let build = || -> Result<(Graph, NodeId), GraphError> {
        let mut graph = Graph::new();
        let mut x = graph.input("x", [SIZES[0]])?;
        let label = graph.input("label", [])?;
        for (layer, &width) in SIZES.iter().enumerate().skip(1) {
            x = graph.linear(&format!("fc{layer}"), x, width, LinearInit::pytorch(1))?;
            if layer + 1 < SIZES.len() {
                x = graph.activation(&format!("act{layer}"), x, Activation::Tanh)?;
            }
        }
        let loss = graph.cross_entropy("loss", x, label, 0.0)?;
        Ok((graph, loss))
    };
    let (graph, loss) = build().expect("the shapes fit");
    let mut parameters = Parameters::zeros(&graph);
    for (stream, param) in graph.parameters().iter().enumerate() {
        let id = graph.find_parameter(&param.name).expect("its own");
        parameters.get_mut(id).iter_mut().enumerate().for_each(|(i, value)| *value = draw(stream, i));
    }
    let mut session = Session::with_isa(graph.clone(), parameters, threads, isa).expect("a model");
    session.set_wide_rule(rule);
    session.start_training(loss, &[], optimizer);
    let examples = |input: usize, example: usize, values: &mut [f32]| {
        for (i, value) in values.iter_mut().enumerate() {
            *value = if input == 0 { draw(100, example * SIZES[0] + i) } else { (example % 3) as f32 };
        }
    };
    for t in 1..=STEPS {
        session.train_step(&Step::new(IMAGES, &examples, 0.01 / f64::from(t)));
    }
    flat(&graph, session.parameters())
}

/// Compares the weights after five steps with a golden file, and the bits of 1, 2 and 5 threads with each other.
fn check_golden(rule: impl Into<Rule>, golden: &str, tolerance: f64) {
    let optimizer = Optimizer { weight_decay: 0.1, clip: Some(0.5), ..rule.into().into() };
    let expected: Vec<f64> = golden.lines().map(|line| line.parse().expect("a number")).collect();
    let wide = WideRule { min_values: 100, min_values_per_activation: 0, min_fraction: 0.0 };
    for (isa, rule) in Isa::available().into_iter().flat_map(|isa| [(isa, WideRule::default()), (isa, wide)]) {
        let found = golden_run(optimizer, 1, isa, rule);
        assert_eq!(found.len(), expected.len());
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!((found - expected).abs() < tolerance, "{isa:?}, {rule:?}: value {i} is {found}, not {expected}");
        }
        for threads in [2, 5] {
            assert_eq!(golden_run(optimizer, threads, isa, rule), found, "{isa:?}, {rule:?}, {threads} threads");
        }
    }
}

#[test]
fn adamw_gives_the_golden_weights() {
    check_golden(Adam { decoupled: true, ..Adam::default() }, include_str!("../golden/adamw.txt"), 1e-6);
}

#[test]
fn lion_gives_the_golden_weights() {
    check_golden(Lion::default(), include_str!("../golden/lion.txt"), 1e-6);
}

#[test]
fn muon_gives_the_golden_weights() {
    // Newton-Schulz multiplies rounding errors in small singular values by up to 3.4445^5 = 485.
    check_golden(Muon::default(), include_str!("../golden/muon.txt"), 2e-5);
}

#[test]
fn the_norm_of_each_gradient_is_that_of_the_step_and_measuring_it_changes_no_bit() {
    let wide = WideRule { min_values: 300, min_values_per_activation: 0, min_fraction: 0.0 };
    let optimizers: [Optimizer; 3] = [
        Adam::default().into(),
        Optimizer { clip: Some(0.1), average: Some(Average { decay: 0.9 }), ..Lion::default().into() },
        Muon::default().into(),
    ];
    let ways = [(1, WideRule::default()), (3, wide)];
    for (optimizer, (threads, rule)) in optimizers.into_iter().flat_map(|one| ways.map(|way| (one, way))) {
        let (graph, loss) = network().expect("the shapes fit");
        let session = || {
            let parameters = Parameters::initialize(&graph, Key::new(3));
            let mut session = Session::new(graph.clone(), parameters, threads).expect("a model");
            session.set_wide_rule(rule);
            session.start_training(loss, &[], optimizer);
            session
        };
        let (mut measured, mut plain) = (session(), session());
        for _ in 0..STEPS {
            let step = Step::new(IMAGES, &fill, 0.01);
            let mut apart = session();
            apart.restore(plain.parameters(), &plain.optimizer_state());
            let (gradient, _) = apart.gradients(&step);
            let report = measured.train_step(&Step { gradient_norms: true, ..step });
            assert_eq!(report, plain.train_step(&Step::new(IMAGES, &fill, 0.01)), "{optimizer:?}, {rule:?}");
            let norms = measured.gradient_norms();
            for (param, &norm) in graph.parameters().iter().zip(norms) {
                let values = gradient.get(graph.find_parameter(&param.name).expect("its own"));
                let expected = values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
                let same = (norm - expected).abs() <= 1e-6 * expected;
                assert!(same, "{optimizer:?}, {rule:?}, {}: {norm}, not {expected}", param.name);
            }
            let all = norms.iter().map(|norm| norm * norm).sum::<f64>().sqrt();
            assert!((all / report.gradient_norm - 1.0).abs() < 1e-6, "{all}, not {}", report.gradient_norm);
        }
        assert!(plain.gradient_norms().is_empty());
        let [a, b] = [&measured, &plain].map(|session| {
            let moments = session.optimizer_state().moments;
            [session.parameters()].into_iter().chain(&moments).map(|set| flat_kept(&graph, set)).collect::<Vec<_>>()
        });
        assert!(a == b, "{optimizer:?}, {rule:?}");
    }
}

/// As [`flat`], of parameters of which some may have no values.
fn flat_kept(graph: &Graph, parameters: &Parameters) -> Vec<u32> {
    let ids = graph.parameters().iter().map(|param| graph.find_parameter(&param.name).expect("its own"));
    ids.flat_map(|id| parameters.get(id).iter().map(|x| x.to_bits()).collect::<Vec<_>>()).collect()
}
