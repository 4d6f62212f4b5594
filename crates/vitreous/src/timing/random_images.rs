//! A batch of random images with labels, or of strips, that lies ready in memory, or is augmented from bytes there.

use std::sync::{Mutex, PoisonError};

use vitreous_engine::Examples;

use crate::config::augment::AugmentSpec;
use crate::data::augment::{Augment, Scratch};
use crate::models::Model;
use crate::random::Key;

/// A batch of random images with labels, or token sequences.
pub struct RandomImages {
    pixels: Vec<f32>,
    labels: Vec<f32>,
    changes: Option<Changes>,
}

/// Images as bytes, and what is done to them.
struct Changes {
    bytes: Vec<u8>,
    augment: Augment,
    key: Key,
    /// As many as threads have worked at once.
    free: Mutex<Vec<Scratch>>,
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
            changes: None,
        }
    }

    /// Makes the images anew in each step, by augmenting bytes.
    pub fn augment(&mut self, model: &Model, spec: AugmentSpec) {
        let [channels, height, width] = model.graph.node(model.image).shape.0[..] else { return };
        let augment = Augment::new(spec, channels, height, width, &vec![0.5; channels], &vec![0.25; channels]);
        let key = Key::new(self.pixels.len() as u64);
        let bytes = (0..self.pixels.len() as u64).map(|i| key.below(i, 256) as u8).collect();
        self.changes = Some(Changes { bytes, augment, key, free: Mutex::default() });
    }
}

impl Examples for RandomImages {
    fn fill(&self, input: usize, example: usize, values: &mut [f32]) {
        if let (0, Some(Changes { bytes, augment, key, free })) = (input, &self.changes) {
            let taken = free.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut scratch = taken.unwrap_or_else(|| augment.scratch());
            let pixels = &bytes[example * values.len()..][..values.len()];
            augment.apply(pixels, key.with(example as u64), &mut scratch, values);
            return free.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
        }
        let from = if input == 0 { &self.pixels } else { &self.labels };
        values.copy_from_slice(&from[example * values.len()..][..values.len()]);
    }
}
