//! Two presets against PyTorch: intermediate outputs, logits, every gradient, ten losses under their optimiser.
//!
//! The golden files are made by `golden/make_golden.py`. First the plain loops are compared in f64, where nothing but
//! the order of sums differs: that proves the graph, the gradient rules and the files. Then the engine, in f32.

#[path = "golden/expected.rs"]
mod expected;

use std::collections::BTreeMap;

use vitreous::config::ResolvedConfig;
use vitreous::config::layers::Layers;
use vitreous::config::train::{Optimizer, TrainConfig};
use vitreous::config::vit::ImageFacts;
use vitreous::models::{Model, vit};
use vitreous_engine::autodiff::differentiate;
use vitreous_engine::random::Key;
use vitreous_engine::reference::{Mode, Reference};
use vitreous_engine::{Adam, Examples, Graph, Isa, NodeId, Parameters, Session, Step};

use expected::{F32, F64, Found, Golden};

const MNIST: (&str, ImageFacts) = ("mnist-vit", ImageFacts { image_size: 28, channels: 1, num_classes: 10 });
const CIFAR: (&str, ImageFacts) = ("cifar-vit-64", ImageFacts { image_size: 32, channels: 3, num_classes: 10 });

/// Place of the batch's first image in its epoch; with the key it decides what dropout drops.
const FIRST: u64 = 1009;

fn dropout_key() -> Key {
    Key::new(7)
}

/// A preset's graph and recipe, and what PyTorch made of them.
struct Case {
    config: ResolvedConfig,
    model: Model,
    golden: Golden,
}

impl Case {
    /// Takes a preset without its dropout, whose random numbers PyTorch does not share.
    fn without_dropout(preset: (&str, ImageFacts)) -> Case {
        Case::new(preset, &["model.dropout=0"])
    }

    fn new((preset, facts): (&str, ImageFacts), changes: &[&str]) -> Case {
        let mut layers = Layers::preset(preset).expect("a preset");
        for change in changes {
            layers.set(change).expect("a key");
        }
        let config = layers.finish().and_then(|config| config.resolve(facts)).expect("a good config");
        let model = vit(&config.model, config.train.smoothing as f32).expect("a checked config");
        Case { config, model, golden: Golden::load(preset) }
    }

    fn graph(&self) -> &Graph {
        &self.model.graph
    }

    fn images(&self) -> Vec<f32> {
        self.golden.images(self.graph().node(self.model.image).shape.len())
    }

    /// The nodes whose values the golden files hold.
    fn outputs(&self) -> Vec<NodeId> {
        let is_output = |name: &str| name == "patch_embed.proj" || name == "pos_embed" || name.ends_with(".add2");
        self.graph().ids().filter(|&id| is_output(&self.graph().node(id).name)).collect()
    }

    fn name(&self, node: NodeId) -> String {
        self.graph().node(node).name.clone()
    }

    /// Names the values of all parameters.
    fn named(&self, values: impl IntoIterator<Item = Vec<f64>>) -> BTreeMap<String, Vec<f64>> {
        self.graph().parameters().iter().map(|param| param.name.clone()).zip(values).collect()
    }

    /// Computes everything with the plain loops, and the first `steps` of the losses.
    fn run_reference(&self, steps: usize) -> Found {
        let training = differentiate(self.graph(), self.model.loss);
        let params = (self.graph().parameters().iter())
            .map(|param| to_f64(&self.golden.parameter(&param.name, &param.shape.0)))
            .collect();
        let mut reference = Reference::new(&training.graph, params);
        let labels = self.golden.labels().iter().map(|&label| label as f64).collect();
        let inputs = [to_f64(&self.images()), labels];
        let keys: Vec<Key> = (FIRST..).take(self.golden.batch).map(|place| dropout_key().with(place)).collect();
        let mode = Mode::Train { image_keys: Some(&keys), batch: self.golden.batch };
        let first = reference.run(&inputs, mode);
        let mut losses = vec![mean(first.of(self.model.loss))];
        let mut adam = PlainAdam::new(&self.config.train, &reference.params);
        let mut gradients = first.gradients.clone();
        while losses.len() < steps {
            adam.step(&mut reference.params, &gradients);
            let values = reference.run(&inputs, mode);
            losses.push(mean(values.of(self.model.loss)));
            gradients = values.gradients;
        }
        Found {
            outputs: self.outputs().iter().map(|&id| (self.name(id), first.of(id).to_vec())).collect(),
            logits: first.of(self.model.logits).to_vec(),
            gradients: self.named(first.gradients),
            losses,
        }
    }

    /// Computes everything with the engine.
    fn run_engine(&self, isa: Isa, threads: usize) -> Found {
        let mut params = Parameters::zeros(self.graph());
        for param in self.graph().parameters() {
            let id = self.graph().find_parameter(&param.name).expect("it is there");
            params.get_mut(id).copy_from_slice(&self.golden.parameter(&param.name, &param.shape.0));
        }
        let mut session = Session::with_isa(self.graph().clone(), params, threads, isa);
        let batch = Batch { images: self.images(), labels: self.golden.labels() };
        let nodes = [self.outputs(), vec![self.model.logits]].concat();
        let mut values: Vec<Vec<f64>> =
            session.infer(&nodes, self.golden.batch, &batch).iter().map(|values| to_f64(values)).collect();
        let logits = values.pop().expect("the last node's");
        let train = &self.config.train;
        let adam = Adam {
            betas: train.betas,
            eps: train.opt_eps,
            weight_decay: train.weight_decay,
            decoupled: train.opt == Optimizer::Adamw,
            clip: train.clip_grad,
        };
        session.start_training(self.model.loss, &[self.model.correct], adam);
        let step = |number: u64| Step {
            dropout: dropout_key(),
            first: FIRST,
            ..Step::new(self.golden.batch, &batch, train.learning_rate(number, 1))
        };
        let (gradients, loss) = session.gradients(&step(0));
        let gradients = self.graph().parameters().iter().map(|param| {
            let id = self.graph().find_parameter(&param.name).expect("it is there");
            to_f64(gradients.get(id))
        });
        let losses: Vec<f64> =
            (0..self.golden.steps()).map(|number| session.train_step(&step(number as u64)).loss).collect();
        assert_eq!(loss, losses[0], "two ways to the same loss");
        Found {
            outputs: nodes.iter().map(|&id| self.name(id)).zip(values).collect(),
            logits,
            gradients: self.named(gradients),
            losses,
        }
    }
}

struct Batch {
    images: Vec<f32>,
    labels: Vec<usize>,
}

impl Examples for Batch {
    fn fill(&self, input: usize, example: usize, values: &mut [f32]) {
        match input {
            0 => values.copy_from_slice(&self.images[example * values.len()..][..values.len()]),
            _ => values[0] = self.labels[example] as f32,
        }
    }
}

fn to_f64(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019), value by value in f64.
struct PlainAdam<'a> {
    train: &'a TrainConfig,
    steps: u64,
    moments: Vec<Vec<[f64; 2]>>,
}

impl<'a> PlainAdam<'a> {
    fn new(train: &'a TrainConfig, params: &[Vec<f64>]) -> Self {
        PlainAdam { train, steps: 0, moments: params.iter().map(|param| vec![[0.0; 2]; param.len()]).collect() }
    }

    fn step(&mut self, params: &mut [Vec<f64>], gradients: &[Vec<f64>]) {
        let (betas, eps, decay) = (self.train.betas, self.train.opt_eps, self.train.weight_decay);
        let lr = self.train.learning_rate(self.steps, 1);
        self.steps += 1;
        let corrections = betas.map(|beta| 1.0 - beta.powi(self.steps as i32));
        for (p, param) in params.iter_mut().enumerate() {
            for (i, x) in param.iter_mut().enumerate() {
                let mut gradient = gradients[p][i];
                match self.train.opt {
                    Optimizer::Adam => gradient += decay * *x,
                    Optimizer::Adamw => *x -= lr * decay * *x,
                }
                let [first, second] = &mut self.moments[p][i];
                *first = betas[0] * *first + (1.0 - betas[0]) * gradient;
                *second = betas[1] * *second + (1.0 - betas[1]) * gradient * gradient;
                *x -= lr * (*first / corrections[0]) / ((*second / corrections[1]).sqrt() + eps);
            }
        }
    }
}

#[test]
fn mnist_vit_in_f64_is_pytorchs() {
    let case = Case::without_dropout(MNIST);
    assert_eq!(case.golden.complaints(&case.run_reference(case.golden.steps()), F64), Vec::<String>::new());
}

#[test]
fn cifar_vit_64_in_f64_is_pytorchs() {
    let case = Case::without_dropout(CIFAR);
    assert_eq!(case.golden.complaints(&case.run_reference(case.golden.steps()), F64), Vec::<String>::new());
}

#[test]
fn a_wrong_layer_norm_epsilon_is_seen_within_the_tolerance_of_f32() {
    for preset in [MNIST, CIFAR] {
        let case = Case::new(preset, &["model.dropout=0", "model.norm_eps=1e-6"]);
        let complaints = case.golden.complaints(&case.run_reference(1), F32);
        assert!(complaints.len() > 10, "{}: {complaints:#?}", preset.0);
    }
}

#[test]
fn the_engine_is_pytorchs_within_f32_on_every_instruction_set() {
    for preset in [MNIST, CIFAR] {
        let case = Case::without_dropout(preset);
        for (threads, isa) in [1, 2].into_iter().cycle().zip(Isa::available()) {
            let complaints = case.golden.complaints(&case.run_engine(isa, threads), F32);
            assert_eq!(complaints, Vec::<String>::new(), "{} with {} on {threads} threads", preset.0, isa.name());
        }
    }
}

/// PyTorch draws other numbers, so dropout is compared with the plain loops: every value of every gradient.
#[test]
fn the_engines_dropout_is_that_of_the_plain_loops() {
    let case = Case::new(MNIST, &[]);
    assert_eq!(case.config.model.spec().dropout, 0.1);
    let expected = case.run_reference(case.golden.steps());
    for isa in Isa::available() {
        let found = case.run_engine(isa, 2);
        for (name, values) in &expected.gradients {
            let largest = values.iter().fold(0.0f64, |a, x| a.max(x.abs()));
            let near = |(x, y): (&f64, &f64)| (x - y).abs() <= F32.value * largest;
            assert!(values.iter().zip(&found.gradients[name]).all(near), "{name} with {}", isa.name());
        }
        for (a, b) in expected.losses.iter().zip(&found.losses) {
            assert!((a - b).abs() <= F32.loss, "{} gives {b}, not {a}", isa.name());
        }
    }
}

#[test]
fn threads_beyond_the_parts_of_a_step_change_nothing() {
    let case = Case::without_dropout(MNIST);
    let few = case.run_engine(Isa::best(), 1);
    for threads in [3, 5] {
        let many = case.run_engine(Isa::best(), threads);
        assert_eq!(many.losses, few.losses, "{threads} threads");
        assert_eq!(many.gradients, few.gradients, "{threads} threads");
    }
}
