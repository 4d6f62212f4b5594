//! A batch of random images with labels, or of strips, that lies ready in memory.

use vitreous_engine::Examples;

use crate::models::Model;
use crate::random::Key;

/// A batch of random images with labels, or token sequences.
pub struct RandomImages {
    pixels: Vec<f32>,
    labels: Vec<f32>,
}

impl RandomImages {
    /// Size of a batch's images, in bytes.
    pub fn bytes(model: &Model, batch: usize) -> u64 {
        (batch * model.graph.node(model.image).shape.len() * size_of::<f32>()) as u64
    }

    /// Draws a batch.
    pub fn new(model: &Model, batch: usize, seed: u64) -> RandomImages {
        let len = model.graph.node(model.image).shape.len();
        let classes = model.graph.node(model.logits).shape.features() as u64;
        let answers = batch * model.graph.node(model.label).shape.len();
        let key = Key::new(seed);
        let (pixels, labels) = (key.with(0), key.with(1));
        RandomImages {
            pixels: (0..(batch * len) as u64).map(|i| pixels.normal(i) as f32).collect(),
            labels: (0..answers as u64).map(|i| labels.below(i, classes) as f32).collect(),
        }
    }
}

impl Examples for RandomImages {
    fn fill(&self, input: usize, example: usize, values: &mut [f32]) {
        let from = if input == 0 { &self.pixels } else { &self.labels };
        values.copy_from_slice(&from[example * values.len()..][..values.len()]);
    }
}
