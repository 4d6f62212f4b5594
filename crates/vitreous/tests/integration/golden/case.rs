//! A preset's graph and recipe, PyTorch's results, and two ways to compute them: reference and engine.

use std::collections::BTreeMap;

use vitreous::config::ResolvedConfig;
use vitreous::config::layers::Layers;
use vitreous::config::model::{ImageFacts, ModelSpec};
use vitreous::config::optimizer::Optimizer;
use vitreous::config::presets;
use vitreous::config::strips::words;
use vitreous::config::train::TrainConfig;
use vitreous::models::{Model, build_for_training};
use vitreous::train::optimizer;
use vitreous_engine::autodiff::differentiate;
use vitreous_engine::graph::{Node, ParameterKind};
use vitreous_engine::random::Key;
use vitreous_engine::reference::{Mode, Reference};
use vitreous_engine::{Examples, Graph, Isa, NodeId, Parameters, Session, Step};

use super::expected::{Found, Golden, Tolerance};

/// What is compared with PyTorch.
#[derive(Clone, Copy)]
pub struct Subject {
    /// Name of the golden file.
    pub golden: &'static str,
    /// The preset, or the name of a model, for which the recipe is that of golden_convnet.py.
    pub preset: &'static str,
    pub facts: ImageFacts,
    /// Made to the preset: without dropout, whose random numbers PyTorch does not share.
    pub changes: &'static [&'static str],
    /// What the engine is allowed.
    pub tolerance: Tolerance,
}

/// Position of the batch's first image in its epoch; with the key it determines the dropout masks.
const FIRST: u64 = 1009;

fn dropout_key() -> Key {
    Key::new(7)
}

/// A preset's graph and recipe, and what PyTorch made of them.
pub struct Case {
    pub config: ResolvedConfig,
    pub golden: Golden,
    model: Model,
}

impl Case {
    pub fn new(subject: &Subject) -> Case {
        Case::changed(subject, subject.changes)
    }

    /// Takes the preset with other changes than its golden file has.
    pub fn changed(subject: &Subject, changes: &[&str]) -> Case {
        let mut layers = Layers::new();
        match presets::text(subject.preset) {
            // A stack's dropout is part of a list, so no change can turn it off.
            Some(text) => {
                let text = text.replace("\"dropout 0.2\"", "\"dropout 0\"");
                layers.add_toml(&text, subject.preset).expect("a good preset");
            }
            None => {
                layers.model(subject.preset, "--model").expect("a named model");
                for change in ["opt=adam", "lr=1e-3", "weight_decay=0", "sched=constant", "warmup_epochs=0"] {
                    layers.set(&format!("train.{change}"), vitreous::advice::Source::Default).expect("a key");
                }
            }
        }
        for change in changes {
            layers.set(change, vitreous::advice::Source::Default).expect("a key");
        }
        let config = layers.finish().and_then(|config| config.resolve(subject.facts)).expect("a good config");
        let model = build_for_training(&config).expect("a checked config");
        Case { config, model, golden: Golden::load(subject.golden) }
    }

    fn graph(&self) -> &Graph {
        &self.model.graph
    }

    /// The values of each input of the graph, for all examples.
    fn batch(&self) -> Batch {
        let batch = self.golden.batch;
        let images = self.golden.images(self.graph().node(self.model.image).shape.len());
        if !matches!(self.config.model.spec(), ModelSpec::Reader(_)) {
            let classes = self.graph().node(self.model.logits).shape.len();
            let labels = (0..batch).map(|i| ((7 * i + 3) % classes) as f32).collect();
            return Batch { inputs: vec![images, labels], targets: batch };
        }
        // Strips of 1, 4, 2, 5 and 3 digits, and so on.
        let digits = |i: usize| -> Vec<u8> { (0..1 + 3 * i % 5).map(|j| ((7 * i + 3 * j) % 10) as u8).collect() };
        let strips: Vec<Vec<u8>> = (0..batch).map(digits).collect();
        let targets: Vec<_> = strips.iter().flat_map(|digits| words::targets(digits)).collect();
        let given = strips.iter().flat_map(|digits| words::given(digits)).map(f32::from).collect();
        let labels = targets.iter().map(|target| target.map_or(-1.0, f32::from)).collect();
        Batch { inputs: vec![images, labels, given], targets: targets.iter().flatten().count() }
    }

    /// The nodes whose values the golden files hold.
    fn outputs(&self) -> Vec<NodeId> {
        let is_convnet = matches!(self.config.model.spec(), ModelSpec::Convnet(_));
        let is_output = |node: &Node| {
            let name = node.name.as_str();
            let end = if name.starts_with("decoder.") { ".add3" } else { ".add2" };
            let is_placed = name.starts_with("layers.") || name.starts_with("patch_embed.proj.") || is_convnet;
            let of_stack = is_placed && ["conv2d", "batch_norm", "add"].contains(&node.op.name());
            let is_embedded = ["patch_embed.proj", "pos_embed", "words.pos_encoding"].contains(&name);
            name.ends_with(end) || of_stack || is_embedded
        };
        self.graph().ids().filter(|&id| is_output(self.graph().node(id))).collect()
    }

    fn name(&self, node: NodeId) -> String {
        self.graph().node(node).name.clone()
    }

    /// Names the values of the parameters of a kind.
    fn named(&self, kind: ParameterKind, values: impl IntoIterator<Item = Vec<f64>>) -> BTreeMap<String, Vec<f64>> {
        let params = self.graph().parameters().iter().zip(values).filter(|(param, _)| param.kind == kind);
        params.map(|(param, values)| (param.name.clone(), values)).collect()
    }

    /// The values of parameters, or of their gradients, in the graph's order.
    fn values(&self, params: &Parameters) -> Vec<Vec<f64>> {
        let values = |name: &str| to_f64(params.get(self.graph().find_parameter(name).expect("it is there")));
        self.graph().parameters().iter().map(|param| values(&param.name)).collect()
    }

    /// Computes everything with the plain loops, and the first `steps` of the losses.
    pub fn run_reference(&self, steps: usize) -> Found {
        let training = differentiate(self.graph(), self.model.loss);
        let params: Vec<Vec<f64>> = (self.graph().parameters().iter())
            .map(|param| to_f64(&self.golden.parameter(&param.name, &param.shape.0)))
            .collect();
        let inferring = Reference::new(self.graph(), params.clone());
        let mut reference = Reference::new(&training.graph, params);
        let Batch { inputs, targets } = self.batch();
        let inputs: Vec<Vec<f64>> = inputs.iter().map(|values| to_f64(values)).collect();
        let keys: Vec<Key> = (FIRST..).take(self.golden.batch).map(|place| dropout_key().with(place)).collect();
        let mode = Mode::Train { image_keys: Some(&keys), batch: targets };
        let inferred = inferring.run(&inputs, Mode::Infer);
        let mean = |losses: &[f64]| losses.iter().sum::<f64>() / targets as f64;
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
            outputs: self.outputs().iter().map(|&id| (self.name(id), inferred.of(id).to_vec())).collect(),
            logits: inferred.of(self.model.logits).to_vec(),
            gradients: self.named(ParameterKind::Trained, first.gradients),
            statistics: self.named(ParameterKind::Statistic, first.statistics),
            losses,
        }
    }

    /// Computes everything with the engine, and the first `steps` of the losses.
    pub fn run_engine(&self, isa: Isa, threads: usize, steps: usize) -> Found {
        let mut params = Parameters::zeros(self.graph());
        for param in self.graph().parameters() {
            let id = self.graph().find_parameter(&param.name).expect("it is there");
            params.get_mut(id).copy_from_slice(&self.golden.parameter(&param.name, &param.shape.0));
        }
        let mut session = Session::with_isa(self.graph().clone(), params, threads, isa).expect("a model");
        let batch = self.batch();
        let nodes = [self.outputs(), vec![self.model.logits]].concat();
        let mut values: Vec<Vec<f64>> =
            session.infer(&nodes, self.golden.batch, &batch).iter().map(|values| to_f64(values)).collect();
        let logits = values.pop().expect("the last node's");
        let train = &self.config.train;
        session.start_training(self.model.loss, &[self.model.correct], optimizer(train));
        let step = |number: u64| Step {
            dropout: dropout_key(),
            first: FIRST,
            targets: Some(batch.targets as f64),
            ..Step::new(self.golden.batch, &batch, train.learning_rate(number, 1))
        };
        let (gradients, loss) = session.gradients(&step(0));
        let gradients = self.named(ParameterKind::Trained, self.values(&gradients));
        let mut losses = vec![session.train_step(&step(0)).loss];
        assert_eq!(loss, losses[0], "two ways to the same loss");
        let statistics = self.named(ParameterKind::Statistic, self.values(session.parameters()));
        losses.extend((1..steps).map(|number| session.train_step(&step(number as u64)).loss));
        Found {
            outputs: nodes.iter().map(|&id| self.name(id)).zip(values).collect(),
            logits,
            gradients,
            statistics,
            losses,
        }
    }
}

/// The examples of the one step.
struct Batch {
    /// For each input of the graph the values of all examples, one after the other.
    inputs: Vec<Vec<f32>>,
    /// By what the sum of the losses is divided: images, or the words to be read.
    targets: usize,
}

impl Examples for Batch {
    fn fill(&self, input: usize, example: usize, values: &mut [f32]) {
        values.copy_from_slice(&self.inputs[input][example * values.len()..][..values.len()]);
    }
}

fn to_f64(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
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
        assert!(matches!(train.opt, Optimizer::Adam | Optimizer::Adamw | Optimizer::Sgd), "no formula for this one");
        PlainOptimizer { train, steps: 0, moments }
    }

    fn step(&mut self, params: &mut [Vec<f64>], gradients: &[Vec<f64>]) {
        let (betas, eps, decay) = (self.train.betas, self.train.opt_eps, self.train.weight_decay);
        let lr = self.train.learning_rate(self.steps, 1);
        self.steps += 1;
        let factor = self.train.clip_grad.map_or(1.0, |limit| {
            let norm = gradients.iter().flatten().map(|x| x * x).sum::<f64>().sqrt();
            // PyTorch's clip_grad_norm_ adds the same small number.
            (limit / (norm + 1e-6)).min(1.0)
        });
        let corrections = betas.map(|beta| 1.0 - beta.powi(self.steps as i32));
        for (p, param) in params.iter_mut().enumerate() {
            for (i, x) in param.iter_mut().enumerate() {
                let mut gradient = factor * gradients[p][i];
                if self.train.opt == Optimizer::Adamw {
                    *x -= lr * decay * *x;
                } else {
                    gradient += decay * *x;
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
