//! Two presets against PyTorch: intermediate outputs, logits, every gradient, ten losses under their optimiser.
//!
//! The golden files are made by `golden/make_golden.py`. Here the graph, the gradient rules and the files are compared
//! in f64, where nothing but the order of sums differs.

#[path = "golden/expected.rs"]
mod expected;

use vitreous::config::model::{Activation, Block, Init, VitSpec};
use vitreous::config::train::{Optimizer, TrainSpec};
use vitreous::config::vit::ImageFacts;
use vitreous::models::{Model, vit};
use vitreous_engine::Graph;
use vitreous_engine::autodiff::differentiate;
use vitreous_engine::reference::{Mode, Reference};

use expected::{F32, F64, Found, Golden};

/// A preset without its dropout, whose random numbers PyTorch does not share.
struct Preset {
    name: &'static str,
    model: VitSpec,
    train: TrainSpec,
    facts: ImageFacts,
}

fn mnist_vit() -> Preset {
    let model = VitSpec {
        patch_size: 4,
        embed_dim: 64,
        depth: 3,
        num_heads: 4,
        mlp_ratio: 2.0,
        activation: Activation::Gelu,
        block: Block::SharedNorm,
        num_positions: Some(65),
        init: Init::PytorchMha,
        token_init_std: 1.0,
        ..VitSpec::default()
    };
    let train = TrainSpec { opt: Optimizer::Adamw, lr: 3e-4, weight_decay: 0.01, ..TrainSpec::default() };
    let facts = ImageFacts { image_size: 28, channels: 1, num_classes: 10 };
    Preset { name: "mnist-vit", model, train, facts }
}

fn cifar_vit_64() -> Preset {
    let model = VitSpec {
        patch_size: 4,
        embed_dim: 64,
        depth: 3,
        num_heads: 4,
        mlp_ratio: 4.0,
        activation: Activation::Relu,
        block: Block::NormActivation,
        final_norm: false,
        init: Init::Pytorch,
        token_init_std: 1.0,
        ..VitSpec::default()
    };
    let train = TrainSpec { opt: Optimizer::Adam, lr: 1e-3, weight_decay: 0.0, ..TrainSpec::default() };
    let facts = ImageFacts { image_size: 32, channels: 3, num_classes: 10 };
    Preset { name: "cifar-vit-64", model, train, facts }
}

impl Preset {
    fn build(&self) -> Model {
        let config = self.model.with_facts(self.facts).expect("a preset is a good spec");
        vit(&config, self.train.smoothing as f32).expect("a checked config")
    }
}

/// Computes everything a golden file holds with the plain loops, and `steps` of the losses.
fn run_reference(preset: &Preset, golden: &Golden, steps: usize) -> Found {
    let model = preset.build();
    let training = differentiate(&model.graph, model.loss);
    let params =
        (model.graph.parameters().iter()).map(|param| to_f64(&golden.parameter(&param.name, &param.shape.0))).collect();
    let mut reference = Reference::new(&training.graph, params);
    let images = to_f64(&golden.images(model.graph.node(model.image).shape.len()));
    let labels = golden.labels().iter().map(|&label| label as f64).collect();
    let inputs = [images, labels];
    let mode = Mode::Train { image_keys: None, batch: golden.batch };
    let first = reference.run(&inputs, mode);
    let mean_loss = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let mut losses = vec![mean_loss(first.of(model.loss))];
    let mut adam = Adam::new(&preset.train, &reference.params);
    let mut gradients = first.gradients.clone();
    while losses.len() < steps {
        adam.step(&mut reference.params, &gradients);
        let values = reference.run(&inputs, mode);
        losses.push(mean_loss(values.of(model.loss)));
        gradients = values.gradients;
    }
    let is_output = |name: &str| name == "patch_embed.proj" || name == "pos_embed" || name.ends_with(".add2");
    let outputs = (model.graph.ids())
        .map(|id| (model.graph.node(id).name.clone(), first.of(id).to_vec()))
        .filter(|(name, _)| is_output(name));
    Found {
        outputs: Some(outputs.collect()),
        logits: first.of(model.logits).to_vec(),
        gradients: named(&model.graph, first.gradients.clone()),
        losses,
    }
}

fn named(graph: &Graph, gradients: Vec<Vec<f64>>) -> std::collections::BTreeMap<String, Vec<f64>> {
    graph.parameters().iter().map(|param| param.name.clone()).zip(gradients).collect()
}

fn to_f64(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

/// Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019), value by value in f64.
struct Adam<'a> {
    spec: &'a TrainSpec,
    steps: i32,
    moments: Vec<Vec<[f64; 2]>>,
}

impl<'a> Adam<'a> {
    fn new(spec: &'a TrainSpec, params: &[Vec<f64>]) -> Self {
        Adam { spec, steps: 0, moments: params.iter().map(|param| vec![[0.0; 2]; param.len()]).collect() }
    }

    fn step(&mut self, params: &mut [Vec<f64>], gradients: &[Vec<f64>]) {
        let TrainSpec { opt, lr, betas, opt_eps, weight_decay, .. } = *self.spec;
        self.steps += 1;
        let corrections = betas.map(|beta| 1.0 - beta.powi(self.steps));
        for (p, param) in params.iter_mut().enumerate() {
            for (i, x) in param.iter_mut().enumerate() {
                let gradient = match opt {
                    Optimizer::Adam => gradients[p][i] + weight_decay * *x,
                    Optimizer::Adamw => {
                        *x -= lr * weight_decay * *x;
                        gradients[p][i]
                    }
                };
                let [mean, square] = &mut self.moments[p][i];
                *mean = betas[0] * *mean + (1.0 - betas[0]) * gradient;
                *square = betas[1] * *square + (1.0 - betas[1]) * gradient * gradient;
                *x -= lr * (*mean / corrections[0]) / ((*square / corrections[1]).sqrt() + opt_eps);
            }
        }
    }
}

#[test]
fn mnist_vit_in_f64_is_pytorchs() {
    let golden = Golden::load("mnist-vit");
    let found = run_reference(&mnist_vit(), &golden, golden.steps());
    assert_eq!(golden.complaints(&found, F64), Vec::<String>::new());
}

#[test]
fn cifar_vit_64_in_f64_is_pytorchs() {
    let golden = Golden::load("cifar-vit-64");
    let found = run_reference(&cifar_vit_64(), &golden, golden.steps());
    assert_eq!(golden.complaints(&found, F64), Vec::<String>::new());
}

#[test]
fn a_wrong_layer_norm_epsilon_is_seen_within_the_tolerance_of_f32() {
    for mut preset in [mnist_vit(), cifar_vit_64()] {
        preset.model.norm_eps = 1e-6;
        let golden = Golden::load(preset.name);
        let complaints = golden.complaints(&run_reference(&preset, &golden, 1), F32);
        assert!(complaints.len() > 10, "{}: {complaints:#?}", preset.name);
    }
}
