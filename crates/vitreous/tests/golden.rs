//! Presets against PyTorch: intermediate outputs, logits, every gradient, ten losses under their optimiser.
//!
//! The golden files are made by `golden/make_golden.py`. First the plain loops are compared in f64, where nothing but
//! the order of sums differs: that proves the graph, the gradient rules and the files. Then the engine, in f32.

#[path = "golden/expected.rs"]
mod expected;

use std::collections::BTreeMap;

use vitreous::config::ResolvedConfig;
use vitreous::config::layers::Layers;
use vitreous::config::model::{ImageFacts, ModelSpec};
use vitreous::config::train::{Optimizer, TrainConfig};
use vitreous::models::{Model, build_for_training};
use vitreous::train::optimizer;
use vitreous_engine::autodiff::differentiate;
use vitreous_engine::graph::Node;
use vitreous_engine::random::Key;
use vitreous_engine::reference::{Mode, Reference};
use vitreous_engine::{Examples, Graph, Isa, NodeId, Parameters, Session, Step};

use expected::{CONVOLUTION, F32, F64, Found, Golden, Tolerance};

const fn images(image_size: usize, channels: usize, num_classes: usize) -> ImageFacts {
    ImageFacts { image_size, channels, num_classes }
}

const MNIST: (&str, ImageFacts) = ("mnist-vit", images(28, 1, 10));
const CIFAR: (&str, ImageFacts) = ("cifar-vit-64", images(32, 3, 10));
const FLAT: (&str, ImageFacts) = ("cifar-vit-64-flat", images(32, 3, 10));
const COSINE: (&str, ImageFacts) = ("cifar-vit-cosine-6b8h8d", images(32, 3, 5));
const LEARNED: (&str, ImageFacts) = ("cifar-vit-learned-4b6h12d-tanh", images(32, 3, 5));
const DECODER: (&str, ImageFacts) = ("cifar-vit-learned-4b6h12d-decoder", images(32, 3, 5));
const CNN4: (&str, ImageFacts) = ("cifar-cnn4", images(32, 3, 10));
const VGG16: (&str, ImageFacts) = ("cifar-vgg16", images(32, 3, 10));
/// Images of 16x16: the model takes any size.
const ATTENTION_CNN: (&str, ImageFacts) = ("cifar-attention-cnn", images(16, 3, 10));
const PHOTOS: (&str, ImageFacts) = ("photos-vit-52m", images(64, 3, 5));

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
    /// Takes a preset as the golden file has it: without dropout, whose random numbers PyTorch does not share.
    fn without_dropout(preset: (&str, ImageFacts)) -> Case {
        let changes: &[&str] = match preset.0 {
            "mnist-vit" => &["model.dropout=0"],
            // What golden_models.py says of them.
            "cifar-vgg16" => &["train.lr=1e-6"],
            "cifar-attention-cnn" => &["train.lr=1e-5"],
            _ => &[],
        };
        Case::new(preset, changes)
    }

    fn new((preset, facts): (&str, ImageFacts), changes: &[&str]) -> Case {
        let mut layers = Layers::preset(preset).expect("a preset");
        for change in changes {
            layers.set(change).expect("a key");
        }
        let config = layers.finish().and_then(|config| config.resolve(facts)).expect("a good config");
        let model = build_for_training(&config).expect("a checked config");
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
        let is_output = |node: &Node| {
            let end = if node.name.starts_with("decoder.") { ".add3" } else { ".add2" };
            let of_stack =
                node.op.name() == "conv2d" || (node.name.starts_with("layers.") && node.name.ends_with(".add"));
            node.name.ends_with(end) || of_stack || node.name == "patch_embed.proj" || node.name == "pos_embed"
        };
        self.graph().ids().filter(|&id| is_output(self.graph().node(id))).collect()
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
        let mut plain = PlainOptimizer::new(&self.config.train, &reference.params);
        let mut gradients = first.gradients.clone();
        while losses.len() < steps {
            plain.step(&mut reference.params, &gradients);
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
        session.start_training(self.model.loss, &[self.model.correct], optimizer(train));
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

/// Adam (Kingma and Ba 2015), AdamW (Loshchilov and Hutter 2019) and gradient descent, value by value in f64.
struct PlainOptimizer<'a> {
    train: &'a TrainConfig,
    steps: u64,
    moments: Vec<Vec<[f64; 2]>>,
}

impl<'a> PlainOptimizer<'a> {
    fn new(train: &'a TrainConfig, params: &[Vec<f64>]) -> Self {
        let moments = params.iter().map(|param| vec![[0.0; 2]; param.len()]).collect();
        PlainOptimizer { train, steps: 0, moments }
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
                    Optimizer::Adam | Optimizer::Sgd => gradient += decay * *x,
                    Optimizer::Adamw => *x -= lr * decay * *x,
                }
                let [first, second] = &mut self.moments[p][i];
                if self.train.opt == Optimizer::Sgd {
                    *first = self.train.momentum * *first + gradient;
                    *x -= lr * *first;
                    continue;
                }
                *first = betas[0] * *first + (1.0 - betas[0]) * gradient;
                *second = betas[1] * *second + (1.0 - betas[1]) * gradient * gradient;
                *x -= lr * (*first / corrections[0]) / ((*second / corrections[1]).sqrt() + eps);
            }
        }
    }
}

/// Compares the plain loops with PyTorch; `steps` losses, of which each takes as long as all the rest.
#[track_caller]
fn assert_plain_loops_are_pytorchs(preset: (&str, ImageFacts), steps: usize) {
    let case = Case::without_dropout(preset);
    assert_eq!(case.golden.complaints(&case.run_reference(steps), F64), Vec::<String>::new());
}

/// Compares the engine with PyTorch, on every instruction set and on one and two threads in turns.
#[track_caller]
fn assert_engine_is_pytorchs(preset: (&str, ImageFacts), tolerance: Tolerance) {
    let case = Case::without_dropout(preset);
    for (threads, isa) in [1, 2].into_iter().cycle().zip(Isa::available()) {
        let complaints = case.golden.complaints(&case.run_engine(isa, threads), tolerance);
        assert_eq!(complaints, Vec::<String>::new(), "{} with {} on {threads} threads", preset.0, isa.name());
    }
}

/// Two tests of one preset: the plain loops in f64, and the engine.
macro_rules! is_pytorchs {
    ($plain:ident, $engine:ident, $preset:expr, $steps:expr, $tolerance:expr) => {
        #[test]
        fn $plain() {
            assert_plain_loops_are_pytorchs($preset, $steps);
        }

        #[test]
        fn $engine() {
            assert_engine_is_pytorchs($preset, $tolerance);
        }
    };
}

is_pytorchs!(mnist_vit_in_f64_is_pytorchs, mnist_vit_is_pytorchs, MNIST, 10, F32);
is_pytorchs!(cifar_vit_64_in_f64_is_pytorchs, cifar_vit_64_is_pytorchs, CIFAR, 10, F32);
is_pytorchs!(flat_tokens_in_f64_are_pytorchs, flat_tokens_are_pytorchs, FLAT, 3, F32);
is_pytorchs!(cosine_vit_in_f64_is_pytorchs, cosine_vit_is_pytorchs, COSINE, 10, F32);
is_pytorchs!(learned_vit_in_f64_is_pytorchs, learned_vit_is_pytorchs, LEARNED, 10, F32);
is_pytorchs!(decoder_in_f64_is_pytorchs, decoder_is_pytorchs, DECODER, 10, F32);
is_pytorchs!(cnn4_in_f64_is_pytorchs, cnn4_is_pytorchs, CNN4, 2, CONVOLUTION);
is_pytorchs!(vgg16_in_f64_is_pytorchs, vgg16_is_pytorchs, VGG16, 2, CONVOLUTION);
is_pytorchs!(attention_cnn_in_f64_is_pytorchs, attention_cnn_is_pytorchs, ATTENTION_CNN, 1, CONVOLUTION);
is_pytorchs!(photos_vit_in_f64_is_pytorchs, photos_vit_is_pytorchs, PHOTOS, 1, CONVOLUTION);

#[test]
fn a_wrong_layer_norm_epsilon_is_seen_within_the_tolerance_of_f32() {
    for preset in [MNIST, CIFAR] {
        let case = Case::new(preset, &["model.dropout=0", "model.norm_eps=1e-6"]);
        let complaints = case.golden.complaints(&case.run_reference(1), F32);
        assert!(complaints.len() > 10, "{}: {complaints:#?}", preset.0);
    }
}

/// PyTorch draws other numbers, so dropout is compared with the plain loops: every value of every gradient.
#[test]
fn the_engines_dropout_is_that_of_the_plain_loops() {
    let case = Case::new(MNIST, &[]);
    assert!(matches!(case.config.model.spec(), ModelSpec::Vit(spec) if spec.dropout == 0.1));
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
