//! What a training is made of: everything is checked and loaded, nothing has begun and nothing was written.

use std::path::Path;

use vitreous_engine::Isa;

use super::TrainError;
use crate::checkpoint::Metadata;
use crate::config::data::DataSpec;
use crate::config::train::TrainSpec;
use crate::config::{Config, ResolvedConfig};
use crate::data::{Facts, ImageSet, ImageShape, Loaded, Normalization, Split, SplitName};
use crate::models::Model;
use crate::models::summary::summarise;
use crate::record::{DataRecord, FlopsRecord, MachineRecord, Manifest, Status, now_utc};

/// A model, its recipe and its images.
pub struct Job {
    pub(super) config: ResolvedConfig,
    pub(super) model: Model,
    pub(super) train: ImageSet,
    pub(super) validation: Option<ImageSet>,
    pub(super) threads: usize,
    data: DataRecord,
}

impl Job {
    /// Puts a job together.
    ///
    /// # Errors
    /// When a step takes more images than were loaded.
    ///
    /// # Panics
    /// When `loaded` has no train split.
    pub fn new(config: ResolvedConfig, model: Model, facts: &Facts, loaded: Loaded) -> Result<Self, TrainError> {
        let train = loaded.train.expect("the train split was asked for");
        Job::check_batch(&config, train.len())?;
        let data = DataRecord {
            name: facts.name.clone(),
            fingerprint: loaded.fingerprint,
            class_names: facts.class_names.clone(),
            train: train.len(),
            validation: loaded.validation.as_ref().map_or(0, Split::len),
            test: facts.test,
            normalization: Normalization::new(&config.data, &train),
            skipped: loaded.skipped,
        };
        let threads = threads(config.train.threads);
        let set =
            |split: Split, name: SplitName| ImageSet::new(split, name, &config.model, &config.data, config.train.seed);
        let train = set(train, SplitName::Train);
        let validation = loaded.validation.map(|split| set(split, SplitName::Validation));
        Ok(Job { config, model, train, validation, threads, data })
    }

    /// Checks the batch against the number of images, which is known before one is loaded.
    ///
    /// # Errors
    /// When a step takes more images than there are.
    pub fn check_batch(config: &ResolvedConfig, images: usize) -> Result<(), TrainError> {
        let TrainSpec { batch_size, grad_accum_steps, .. } = *config.train;
        if config.train.step_images() > images {
            return Err(TrainError::Batch { batch_size, grad_accum_steps, images });
        }
        Ok(())
    }

    /// The images.
    pub fn data(&self) -> &DataRecord {
        &self.data
    }

    /// Shape of the images that the model is given.
    pub fn image_shape(&self) -> ImageShape {
        self.train.shape()
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The recipe.
    pub fn config(&self) -> &ResolvedConfig {
        &self.config
    }

    /// Threads that will compute.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Optimiser steps of an epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        let (images, batch) = (self.train.len(), self.config.train.step_images());
        (if self.config.train.drop_last { images / batch } else { images.div_ceil(batch) }) as u64
    }

    /// Steps with as many images as the validation split has; a look at it mostly takes less, having no backward pass.
    pub fn validation_steps(&self) -> f64 {
        self.validation.as_ref().map_or(0.0, |set| set.len() as f64 / self.config.train.step_images() as f64)
    }

    /// Optimiser steps of the whole run.
    pub fn steps(&self) -> u64 {
        let all = (self.config.train.epochs as u64).saturating_mul(self.steps_per_epoch());
        all.min(self.config.train.max_steps.unwrap_or(u64::MAX))
    }

    /// The manifest of a run that starts now, by this command.
    pub fn manifest(&self, command: Vec<String>) -> Manifest {
        let summary = summarise(&self.model);
        Manifest {
            format: Manifest::FORMAT,
            version: env!("CARGO_PKG_VERSION").to_string(),
            command,
            status: Status::Running,
            started: now_utc(),
            finished: None,
            seed: self.config.train.seed,
            model: Some(self.config.model.describe()),
            parameters: self.model.graph.parameter_count(),
            flops: Some(FlopsRecord { forward: summary.flops_forward, backward: summary.flops_backward }),
            data: self.data.clone(),
            machine: self.machine(),
            resumed: Vec::new(),
            results: None,
            test_evaluations: 0,
            evaluations: Vec::new(),
        }
    }

    /// Where it runs.
    pub fn machine(&self) -> MachineRecord {
        MachineRecord {
            os: std::env::consts::OS.to_string(),
            arch: std::env::consts::ARCH.to_string(),
            instruction_set: Isa::best().name().to_string(),
            threads: self.threads,
            processors: threads(0),
        }
    }

    /// What files of weights say of themselves.
    pub(super) fn metadata(&self) -> Metadata {
        let ResolvedConfig { data, augment, model, train } = self.config.clone();
        // Where the images lie and how many threads there were is no part of the model: `photos` is `a/photos/`.
        let name = Path::new(&data.name).file_name().map(|name| name.to_string_lossy().into_owned());
        let data = DataSpec { dir: None, name: name.unwrap_or(data.name), ..data };
        // Nor is where it was stopped: a run that goes on is the one that was never stopped.
        let train = TrainSpec { threads: 0, max_steps: None, ..(*train).clone() };
        let config = Config { data, augment, model: model.spec(), train };
        Metadata {
            class_names: self.data.class_names.clone(),
            normalization: self.data.normalization.clone(),
            config: config.to_toml(),
            epoch: 0,
            step: 0,
        }
    }
}

/// Returns the number of threads asked for; 0 asks for one for each processor.
pub fn threads(asked: usize) -> usize {
    if asked > 0 { asked } else { std::thread::available_parallelism().map_or(1, usize::from) }
}
