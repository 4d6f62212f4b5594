//! throwaway
use std::time::Instant;
use vitreous::config::model::*;
use vitreous::config::vit::ImageFacts;
use vitreous_engine::{random::Key, *};
struct Noise { len: usize, classes: usize, data: Vec<f32> }
impl Examples for Noise {
    fn fill(&self, input: usize, i: usize, v: &mut [f32]) {
        if input == 0 { v.copy_from_slice(&self.data[(i % 128) * self.len..][..self.len]) } else { v[0] = (i % self.classes) as f32 }
    }
}
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let threads: usize = args[2].parse().unwrap();
    let secs: f64 = args[3].parse().unwrap();
    let (spec, facts, batch) = match args[1].as_str() {
        "mnist" | "mnist0" => (VitSpec { embed_dim: 64, depth: 3, num_heads: 4, mlp_ratio: 2.0, block: Block::SharedNorm, num_positions: Some(65), dropout: if args[1]=="mnist" {0.1} else {0.0}, init: Init::PytorchMha, token_init_std: 1.0, ..VitSpec::default() }, (28, 1), 128),
        "cifar" => (VitSpec { embed_dim: 64, depth: 3, num_heads: 4, mlp_ratio: 4.0, activation: Activation::Relu, block: Block::NormActivation, final_norm: false, init: Init::Pytorch, ..VitSpec::default() }, (32, 3), 100),
        "fashion" => (VitSpec { embed_dim: 128, depth: 6, num_heads: 8, mlp_ratio: 2.0, ..VitSpec::default() }, (28, 1), 128),
        _ => (VitSpec { embed_dim: 256, depth: 7, num_heads: 4, mlp_ratio: 2.0, qkv_bias: false, ..VitSpec::default() }, (32, 3), 128),
    };
    let config = spec.with_facts(ImageFacts { image_size: facts.0, channels: facts.1, num_classes: 10 }).unwrap();
    let model = vitreous::models::vit::vit(&config, 0.0).unwrap();
    let params = Parameters::initialise(&model.graph, Key::new(1));
    println!("params {}", model.graph.parameter_count());
    println!("{:?}", training_memory(&model.graph, model.loss, &[model.correct], batch, threads));
    let isa = match args.get(4).map(|s| s.as_str()) { Some("avx2") => Isa::Avx2, Some("portable") => Isa::Portable, _ => Isa::best() };
    let mut s = Session::with_isa(model.graph.clone(), params, threads, isa);
    s.start_training(model.loss, &[model.correct], Adam::default());
    let len = facts.0 * facts.0 * facts.1;
    let noise = Noise { len, classes: 10, data: (0..128 * len).map(|i| Key::new(5).normal(i as u64) as f32).collect() };
    let mut times = vec![];
    let start = Instant::now();
    let mut n = 0;
    while start.elapsed().as_secs_f64() < secs || n < 3 {
        let t = Instant::now();
        let r = s.train_step(&Step { images: batch, examples: &noise, learning_rate: 1e-3, dropout: Key::new(2), first: 128 * n });
        times.push(t.elapsed().as_secs_f64() * 1e3);
        if n < 3 || n == 50 { println!("{n} {r:?}"); }
        n += 1;
    }
    let mut t = times.clone(); t.sort_by(f64::total_cmp);
    println!("median {:.2} min {:.2} n {}", t[t.len() / 2], t[0], t.len());
}
