//! From a checked config to a training that can start: the data is inspected, the config is matched with it, memory is
//! checked, and images are loaded. Nothing is written.

use std::time::Instant;

use vitreous_engine::Memory;

use super::initial::initial_weights;
use super::{Event, ExperimentError, Listener};
use crate::config::layers::Layers;
use crate::config::model::{ImageFacts, Task};
use crate::config::{CheckedConfig, Config, ResolvedConfig};
use crate::data::strips::check_digits;
use crate::data::{self, DataError, Facts, ImageShape, Wanted};
use crate::models::{self, Model};
use crate::record::Run;
use crate::train::{
    Job, Work, available_memory, check_decoding, check_memory, checkpoint_bytes, memory_needed, threads,
};
use crate::{durations, numbers};

/// The config that a run saved, and the same filled in; that one is absent where the config does not say the sizes that
/// the data decides, as every config that was saved with a run does.
///
/// # Errors
/// When it cannot be read.
pub(super) fn saved_config(run: &Run) -> Result<(CheckedConfig, Option<ResolvedConfig>), ExperimentError> {
    let mut layers = Layers::new();
    layers.add_file(&run.config_path())?;
    let checked = layers.finish()?;
    let model = &checked.config().model;
    let sizes = model.image_size().zip(model.channels()).zip(model.num_classes());
    let resolved = sizes.and_then(|((image_size, channels), num_classes)| {
        checked.resolve(ImageFacts { image_size, channels, num_classes }).ok()
    });
    Ok((checked, resolved))
}

/// A config that agrees with its data, before any image is decoded.
pub struct Prepared {
    checked: CheckedConfig,
    /// What is known of the data.
    pub facts: Facts,
    /// The config, filled in.
    pub config: ResolvedConfig,
    model: Model,
    /// What the engine needs for it, and the bytes of its images.
    pub needed: (Memory, u64),
    /// Adjusted values, and what is unusual.
    pub notes: Vec<String>,
    /// A note that holds only if all images can be decoded.
    batch_note: Option<String>,
    /// Whether the training starts, so that its first weights may come from a file.
    starts: bool,
}

impl Prepared {
    /// Inspects the data of a config and makes every check that needs no decoded image.
    ///
    /// # Errors
    /// When the data cannot be read, the config does not match it, or there is too little memory.
    pub fn new(checked: &CheckedConfig, listener: Listener) -> Result<Prepared, ExperimentError> {
        let clock = Instant::now();
        let prepared = Prepared::of_inspected(checked, inspect(checked, listener)?)?;
        let seconds = durations::duration(clock.elapsed().as_secs_f64());
        listener(Event::Detail(&format!("{}: listed and checked in {seconds}", prepared.facts.name)));
        Ok(prepared)
    }

    /// As [`Prepared::new`], for data that was inspected before.
    ///
    /// # Errors
    /// As there.
    pub fn of_inspected(checked: &CheckedConfig, facts: Facts) -> Result<Prepared, ExperimentError> {
        let threads = threads(checked.config().train.threads);
        let (mut prepared, decoding) = Prepared::unchecked(checked, facts, threads)?;
        let available = available_memory(threads);
        check_decoding(prepared.needed.1, decoding, available)?;
        check_memory(Work::Training, prepared.needed, prepared.facts.is_folder(), available)?;
        prepared.decode_first(decoding);
        Ok(prepared)
    }

    /// As [`Prepared::of_inspected`], for a machine that may have more memory than this one, and has so many processors.
    ///
    /// # Errors
    /// As there, except for memory.
    pub fn elsewhere(checked: &CheckedConfig, facts: Facts, processors: usize) -> Result<Prepared, ExperimentError> {
        let threads = match checked.config().train.threads {
            0 => processors,
            threads => threads,
        };
        let (mut prepared, decoding) = Prepared::unchecked(checked, facts, threads)?;
        prepared.decode_first(decoding);
        Ok(prepared)
    }

    /// Bytes of one checkpoint, and of the weights that are saved with it.
    pub fn checkpoint_bytes(&self) -> u64 {
        checkpoint_bytes(&self.config.train, &self.model)
    }

    /// Images are decoded before the engine allocates its memory.
    fn decode_first(&mut self, decoding: u64) {
        self.needed.1 += decoding.saturating_sub(self.needed.0.total());
    }

    /// Makes every check but those of memory. Returns the bytes that decoding needs too.
    fn unchecked(checked: &CheckedConfig, facts: Facts, threads: usize) -> Result<(Prepared, u64), ExperimentError> {
        let mut config = checked.resolve(square_facts(&facts)?)?;
        let mut notes = checked.notes().to_vec();
        let mut batch_note = checked.fit_batch(&mut config, facts.train);
        if !config.data.skip_bad_images {
            notes.extend(batch_note.take());
        }
        notes.extend(unused_files(&facts));
        notes.extend(facts.no_validation(&config.data));
        Job::check_batch(&config, facts.train)?;
        let model = models::build_for_training(&config)?;
        let needed = memory_needed(&config, &model, &facts, threads);
        let decoding = facts.decoding_bytes(Wanted::TrainAndValidation, threads);
        Ok((
            Prepared { checked: checked.clone(), facts, config, model, needed, notes, batch_note, starts: true },
            decoding,
        ))
    }

    /// Has the training continue from a checkpoint, so that the file with its first weights is not read.
    #[must_use]
    pub fn resumed(self) -> Self {
        Prepared { starts: false, ..self }
    }

    /// Loads the weights to start with, where the config names some, and the images.
    ///
    /// # Errors
    /// When the weights do not fit, an image cannot be decoded, or too few are left for a batch.
    pub fn load(self, listener: Listener) -> Result<Job, ExperimentError> {
        let Prepared { checked, facts, mut config, model, batch_note, starts, .. } = self;
        let initial = if starts { initial_weights(&config, &model)? } else { None };
        let initial = initial.map(|(initial, lines)| {
            lines.iter().for_each(|line| listener(Event::Note(line)));
            initial
        });
        let (clock, threads) = (Instant::now(), threads(config.train.threads));
        let progress = |done, total| listener(Event::Reading { done, total });
        let loaded = data::load(&checked.config().data, &facts, Wanted::TrainAndValidation, threads, &progress)?;
        // Without the files that cannot be decoded, fewer than a batch may be left.
        let fitted = loaded.train.as_ref().and_then(|train| checked.fit_batch(&mut config, train.len()));
        fitted.or(batch_note).iter().for_each(|note| listener(Event::Note(note)));
        let job = Job::new(config, model, &facts, loaded)?.with_initial(initial);
        let (images, seconds) =
            (job.data().train + job.data().validation, durations::duration(clock.elapsed().as_secs_f64()));
        listener(Event::Detail(&format!(
            "{}: {} images loaded in {seconds}",
            facts.name,
            numbers::count(images as u64)
        )));
        Ok(job)
    }

    /// Whether the data has images that are not used for training, by which a run can be evaluated.
    pub fn has_held_out(&self) -> bool {
        self.facts.has_test() || self.facts.validation > 0
    }

    /// The config of a run: a default or preset batch size is reduced to the number of decoded training images.
    pub fn config_of(&self, run: &Run) -> ResolvedConfig {
        fitted_config(&self.checked, &self.config, run)
    }
}

/// The config of a run, whose batch size may have been adjusted to the images that could be decoded.
pub fn fitted_config(checked: &CheckedConfig, config: &ResolvedConfig, run: &Run) -> ResolvedConfig {
    let mut config = config.clone();
    if !run.manifest().data.skipped.is_empty() {
        checked.fit_batch(&mut config, run.manifest().data.train);
    }
    config
}

/// Inspects the data of a config, up to the number of training images.
///
/// # Errors
/// When the data cannot be read.
pub fn inspect(checked: &CheckedConfig, listener: Listener) -> Result<Facts, ExperimentError> {
    let Config { data, train, .. } = checked.config();
    let mut facts = data::inspect(data).map_err(|error| match error {
        DataError::UnknownName { .. } | DataError::NoFolder { .. } if !checked.is_written("data", "name") => {
            ExperimentError::NoFolder
        }
        error => error.into(),
    })?;
    if checked.config().model.kind().task() == Task::ReadStrips {
        check_digits(&facts.name, &facts.class_names)?;
    }
    facts.divide(data, threads(train.threads), &|done, total| listener(Event::Reading { done, total }));
    Ok(facts)
}

/// What a model must be made for, from the data itself.
///
/// # Errors
/// When its images are not square.
pub fn square_facts(facts: &Facts) -> Result<ImageFacts, ExperimentError> {
    let ImageShape { channels, height, width } = facts.shape;
    if height != width {
        return Err(ExperimentError::NotSquare { name: facts.name.clone(), width, height });
    }
    Ok(ImageFacts { image_size: height, channels, num_classes: facts.class_names.len() })
}

/// A note for everything in the data's folder that is not used.
pub fn unused_files(facts: &Facts) -> impl Iterator<Item = String> {
    let runs = facts.run_folders.iter();
    let runs = runs.map(|folder| format!("{} is ignored: it contains runs, not images", folder.display()));
    let folders = facts.ignored_folders.iter();
    let loose = (facts.loose_pictures > 0).then(|| {
        let count = numbers::count(facts.loose_pictures as u64);
        format!("images outside the class folders are ignored: {count}")
    });
    folders
        .map(|folder| format!("{} is ignored: splits are called train/, val/ and test/", folder.display()))
        .chain(runs)
        .chain(loose)
}
