//! A job: a training with its config checked and its data loaded, before it starts and before anything is written.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use vitreous_engine::{Isa, Parameters, Session};

use super::{TrainError, optimizer};
use crate::advice::Suggestion;
use crate::checkpoint::Metadata;
use crate::config::data::DataSpec;
use crate::config::train::TrainSpec;
use crate::config::{Config, ResolvedConfig};
use crate::data::augment::Augment;
use crate::data::{
    Facts, Ignored, ImageSet, ImageShape, Loaded, Normalization, PixelRanges, Problem, Split, SplitName,
    ValidationSource, image_set,
};
use crate::models::Model;
use crate::models::summary::summarise;
use crate::random::{Purpose, stream};
use crate::record::{DataRecord, FlopsRecord, InitialRecord, MachineRecord, Manifest, Status, now_utc};

/// A model, its recipe and its images.
pub struct Job {
    pub(super) config: ResolvedConfig,
    pub(super) model: Model,
    pub(super) train: Box<dyn ImageSet>,
    pub(super) validation: Option<Box<dyn ImageSet>>,
    pub(super) threads: usize,
    pub(super) ignored: Ignored,
    pub(super) validation_source: ValidationSource,
    data: DataRecord,
    initial: Option<Initial>,
}

/// The weights that a training starts with, which come from a file.
pub struct Initial {
    /// All parameters of the model.
    pub parameters: Parameters,
    /// What the manifest says of them.
    pub record: InitialRecord,
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
            content: loaded.content,
            forced: loaded.forced,
            pixels: None,
        };
        let threads = threads(config.train.threads);
        let (task, seed) = (config.model.task(), config.train.seed);
        let set = |split: Split, name: SplitName| image_set(split, name, task, &config.data, seed);
        let train = set(train, SplitName::Train);
        let validation = loaded.validation.map(|split| set(split, SplitName::Validation));
        let ignored = facts.ignored.clone();
        let validation_source = facts.validation_source();
        Ok(Job { config, model, train, validation, threads, ignored, validation_source, data, initial: None })
    }

    /// Has the training start with these weights instead of random ones.
    #[must_use]
    pub fn with_initial(self, initial: Option<Initial>) -> Self {
        Job { initial, ..self }
    }

    /// Checks the batch against the number of images, which is known before one is loaded, and against the model.
    ///
    /// # Errors
    /// When a step takes more images than there are, or a batch norm has one value for each channel in every batch.
    pub fn check_batch(config: &ResolvedConfig, images: usize) -> Result<(), TrainError> {
        let TrainSpec { batch_size, grad_accum_steps, .. } = *config.train;
        if config.train.step_images() > images {
            return Err(TrainError::Batch { batch_size, grad_accum_steps, images });
        }
        match config.model.batch_norm_of_one_place().filter(|_| batch_size == 1) {
            Some(layer) => Err(TrainError::OneValue { layer: layer.to_string() }),
            None => Ok(()),
        }
    }

    /// How many of so many images an epoch takes, and whether the last one is left out because a batch norm would have
    /// one value for each channel in its batch.
    pub fn images_of_epoch(config: &ResolvedConfig, images: usize) -> (usize, bool) {
        let (step, rest) = (config.train.step_images(), images % config.train.step_images());
        if config.train.drop_last {
            return (images - rest, false);
        }
        // The batches of a step have equal shares of its images, so only the last step has smaller ones.
        let smallest = rest / rest.div_ceil(config.train.batch_size).max(1);
        let is_alone = smallest == 1 && step > 1 && config.model.batch_norm_of_one_place().is_some();
        (images - usize::from(is_alone), is_alone)
    }

    /// Images per epoch.
    pub fn epoch_images(&self) -> usize {
        Job::images_of_epoch(&self.config, self.train.len()).0
    }

    /// The note that the last batch of each epoch is skipped, and how to change that.
    pub fn dropped_batch(&self) -> Option<Problem> {
        let layer = self.config.model.batch_norm_of_one_place()?;
        let (_, is_dropped) = Job::images_of_epoch(&self.config, self.train.len());
        let batch = self.config.train.batch_size;
        is_dropped.then(|| Problem {
            what: format!(
                "the last batch of each epoch is dropped: it has one image, which gives the batchnorm at {layer} one \
                 value for each channel"
            ),
            fix: Suggestion::new()
                .using("another")
                .key("train.batch_size")
                .text(format!("than {batch} to train on it")),
        })
    }

    /// The images.
    pub fn data(&self) -> &DataRecord {
        &self.data
    }

    /// Shape of the model's input images.
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

    /// The training images.
    pub fn train_set(&self) -> &dyn ImageSet {
        &*self.train
    }

    /// The validation images, if there are any.
    pub fn validation_set(&self) -> Option<&dyn ImageSet> {
        self.validation.as_deref()
    }

    /// The augmentation of training images, which also normalizes all images.
    pub fn augment(&self) -> Augment {
        let (shape, Normalization { mean, std }) = (self.train.shape(), &self.data.normalization);
        Augment::new(self.config.augment.clone(), shape.channels, shape.height, shape.width, mean, std)
    }

    /// A session with initial weights, ready for training steps.
    pub fn session(&self) -> Session {
        let (model, recipe) = (&self.model, &self.config.train);
        let parameters = match &self.initial {
            Some(initial) => initial.parameters.clone(),
            None => Parameters::initialize(&model.graph, stream(recipe.seed, Purpose::Initialize)),
        };
        let mut session =
            Session::new(model.graph.clone(), parameters, self.threads).expect("a model with its own parameters");
        session.start_training(model.loss, &[model.correct], optimizer(recipe));
        session
    }

    /// Threads that will compute.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Optimizer steps of an epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        self.epoch_images().div_ceil(self.config.train.step_images()) as u64
    }

    /// Steps with as many images as the validation split; a validation mostly takes less time, without a backward pass.
    pub fn validation_steps(&self) -> f64 {
        self.validation.as_ref().map_or(0.0, |set| set.len() as f64 / self.config.train.step_images() as f64)
    }

    /// Optimizer steps of the whole run.
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
            preset: self.config.preset.map(str::to_string),
            status: Status::Running,
            started: now_utc(),
            finished: None,
            seed: self.config.train.seed,
            model: Some(self.config.model.describe()),
            parameters: self.model.graph.parameter_count(),
            flops: Some(FlopsRecord { forward: summary.flops_forward, backward: summary.flops_backward }),
            steps_per_epoch: Some(self.steps_per_epoch()),
            data: DataRecord { pixels: PixelRanges::of(&*self.train), ..self.data.clone() },
            machine: self.machine(),
            initial: self.initial.as_ref().map(|initial| initial.record.clone()),
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

    /// The metadata of weights files.
    pub(super) fn metadata(&self) -> Metadata {
        let ResolvedConfig { data, augment, model, train, .. } = self.config.clone();
        // The folder of the images and the number of threads do not belong to the model: `photos` equals `a/photos/`.
        let name = Path::new(&data.name).file_name().map(|name| name.to_string_lossy().into_owned());
        let data = DataSpec { dir: None, name: name.unwrap_or(data.name), ..data };
        // Neither do the step at which it stopped (a resumed run equals one that never stopped), its event file, and the file
        // that it started from.
        let elsewhere = TrainSpec { threads: 0, max_steps: None, tensorboard: None, ..(*train).clone() };
        let train = TrainSpec { init_from: None, partial: None, ..elsewhere };
        let config = Config { data, augment, model: model.spec(), train, ..Config::default() };
        Metadata {
            class_names: self.data.class_names.clone(),
            normalization: self.data.normalization.clone(),
            config: config.to_toml(),
            epoch: 0,
            step: 0,
        }
    }
}

/// The most processors that [`threads`] counts; set once, when the program starts.
static PROCESSORS_MAX: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Limits the processors that count, as the allocation of a scheduler does; numbers of threads that are asked for stay.
pub fn limit_processors(processors: usize) {
    PROCESSORS_MAX.store(processors.max(1), Ordering::Relaxed);
}

/// Returns the number of threads; 0 means one per processor: of those that the system lets this process use (its affinity,
/// its control group), and of those allocated to it ([`limit_processors`]).
pub fn threads(asked: usize) -> usize {
    let visible = || std::thread::available_parallelism().map_or(1, usize::from);
    if asked > 0 { asked } else { visible().min(PROCESSORS_MAX.load(Ordering::Relaxed)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advice::Explain;
    use crate::config::layers::Layers;
    use crate::config::model::ImageFacts;

    fn config(layers: &str, train: &str) -> ResolvedConfig {
        let mut written = Layers::new();
        let model = format!("[model]\nkind = 'stack'\nlayers = [{layers}, 'linear classes']\n[train]\n{train}");
        written.add_toml(&model, "my.toml").unwrap();
        let facts = ImageFacts { image_size: 7, channels: 3, num_classes: 5 };
        written.finish().unwrap().resolve(facts).unwrap()
    }

    const ONE_PLACE: &str = "'globalpool', 'linear 11', 'batchnorm'";
    const MAP: &str = "'conv 11', 'batchnorm', 'globalpool'";

    #[test]
    fn a_batch_norm_of_one_value_is_refused_with_key_value_and_fix() {
        for train in ["batch_size = 1", "batch_size = 1\ngrad_accum_steps = 4"] {
            let error = Job::check_batch(&config(ONE_PLACE, train), 97).unwrap_err();
            let expected = "batch_size 1 gives the batchnorm at layers.2 one value for each channel, from which it \
                            cannot learn ([train])";
            assert_eq!(error.to_string(), expected);
            assert!(error.hint().unwrap().starts_with("use train.batch_size = 2 or more"));
            assert_eq!(Job::check_batch(&config(MAP, train), 97), Ok(()));
        }
        assert_eq!(Job::check_batch(&config(ONE_PLACE, "batch_size = 2"), 97), Ok(()));
    }

    #[test]
    fn a_last_batch_of_one_image_is_left_out_where_a_batch_norm_has_one_value_of_it() {
        let of = |layers: &str, train: &str, images| Job::images_of_epoch(&config(layers, train), images);
        assert_eq!(of(ONE_PLACE, "batch_size = 6", 25), (24, true));
        assert_eq!(of(ONE_PLACE, "batch_size = 6", 26), (26, false));
        assert_eq!(of(ONE_PLACE, "batch_size = 6", 24), (24, false));
        assert_eq!(of(MAP, "batch_size = 6", 25), (25, false));
        assert_eq!(of(ONE_PLACE, "batch_size = 6\ndrop_last = true", 25), (24, false));
        // Two batches of 2 and 1 images make the last step; of 3 and 2, or 2 and 2, no one is alone.
        assert_eq!(of(ONE_PLACE, "batch_size = 2\ngrad_accum_steps = 4", 19), (18, true));
        assert_eq!(of(ONE_PLACE, "batch_size = 3\ngrad_accum_steps = 4", 29), (29, false));
        assert_eq!(of(ONE_PLACE, "batch_size = 3\ngrad_accum_steps = 4", 28), (28, false));
    }
}
