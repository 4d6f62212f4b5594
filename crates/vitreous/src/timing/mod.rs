//! How long a training step or inference takes: single timed steps on random images in memory, and two models timed in
//! alternation.
//!
//! A timed step has every part: zero gradients, forward, loss, backward, the config's optimizer, and reading the loss.

mod error;
mod paired;
mod random_images;

use std::time::Instant;

use vitreous_engine::{Memory, Parameters, Session, Step, inference_memory, training_memory};

pub use error::TimingError;
pub use paired::{Paired, Precision, alternate, median, median_interval};
pub use random_images::RandomImages;

use crate::config::ResolvedConfig;
use crate::models::{self, Model};
use crate::random::{Purpose, stream};
use crate::train::{Work, available_memory, check_memory, optimizer, threads};

/// Untimed steps before the first timed one, and the minimum number of timed steps.
pub const STEPS_MIN: usize = 3;

/// Learning rate of timed steps.
const LEARNING_RATE: f64 = 1e-4;

/// Seed of images, labels and weights.
const SEED: u64 = 42;

/// A model whose steps are timed.
pub struct StepTimer {
    session: Session,
    model: Model,
    images: RandomImages,
    memory: Memory,
    batch: usize,
    is_training: bool,
    first: u64,
}

impl StepTimer {
    /// Prepares training steps of one batch.
    ///
    /// # Errors
    /// When the config makes no graph, or there is too little memory.
    pub fn training(config: &ResolvedConfig) -> Result<StepTimer, TimingError> {
        StepTimer::new(config, true)
    }

    /// Prepares training steps of one batch that also augment their images.
    ///
    /// # Errors
    /// As [`StepTimer::training`].
    pub fn augmented_training(config: &ResolvedConfig) -> Result<StepTimer, TimingError> {
        let mut timer = StepTimer::new(config, true)?;
        timer.images.augment(&timer.model, config.augment.clone());
        Ok(timer)
    }

    /// Prepares the inference of one batch, without dropout.
    ///
    /// # Errors
    /// As [`StepTimer::training`].
    pub fn inference(config: &ResolvedConfig) -> Result<StepTimer, TimingError> {
        StepTimer::new(config, false)
    }

    fn new(config: &ResolvedConfig, is_training: bool) -> Result<StepTimer, TimingError> {
        let batch = config.train.batch_size;
        let model = models::build_for_training(config)?;
        let (threads, update) = (threads(config.train.threads), optimizer(&config.train));
        let memory = if is_training {
            training_memory(&model.graph, model.loss, &[], &update, batch, threads)
        } else {
            inference_memory(&model.graph, &[model.logits], batch, threads)
        };
        let activations = memory.activations + RandomImages::bytes(&model, batch);
        check_memory(Work::Training, (Memory { activations, ..memory }, 0), false, available_memory(threads))?;
        let parameters = Parameters::initialize(&model.graph, stream(SEED, Purpose::Initialize));
        let mut session =
            Session::new(model.graph.clone(), parameters, threads).expect("a model with its own parameters");
        if is_training {
            session.start_training(model.loss, &[], update);
        }
        let images = RandomImages::new(&model, batch, SEED);
        Ok(StepTimer { session, model, images, memory, batch, is_training, first: 0 })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The session that takes the steps.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// The memory of the session.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// Images in a step.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Takes a step and returns its time, in seconds.
    pub fn time(&mut self) -> f64 {
        let begin = Instant::now();
        self.step();
        begin.elapsed().as_secs_f64()
    }

    /// Takes a step.
    pub fn step(&mut self) {
        if self.is_training {
            let dropout = stream(SEED, Purpose::Dropout);
            let step = Step { dropout, first: self.first, ..Step::new(self.batch, &self.images, LEARNING_RATE) };
            std::hint::black_box(self.session.train_step(&step).loss);
            self.first += self.batch as u64;
        } else {
            std::hint::black_box(self.session.infer(&[self.model.logits], self.batch, &self.images));
        }
    }
}

/// Returns a quantile of sorted values.
///
/// # Panics
/// When there are none.
pub fn quantile(sorted: &[f64], part: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * part).round() as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let sorted: Vec<f64> = (0..11).map(f64::from).collect();
        assert_eq!([0.0, 0.1, 0.5, 1.0].map(|part| quantile(&sorted, part)), [0.0, 1.0, 5.0, 10.0]);
        assert_eq!(quantile(&[7.0], 0.5), 7.0);
    }
}
