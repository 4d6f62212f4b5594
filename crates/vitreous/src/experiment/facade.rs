//! An experiment in a few calls: choose a config, train it, evaluate and use the result.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use toml::Value;

use super::{EvaluateOptions, Evaluated, Event, ExperimentError, Listener, Prepared, TrainingRun, evaluate};
use crate::config::layers::Layers;
use crate::plots::PlotChoice;
use crate::record::Place;
use crate::train::{Limits, Outcome, Preflight, SaveEvery};

/// The source of values in errors.
const SOURCE: &str = "Experiment";

/// A config to train, and the folder for its run.
///
/// ```
/// use vitreous::Experiment;
///
/// # fn main() -> Result<(), vitreous::experiment::ExperimentError> {
/// # let folder = std::env::temp_dir().join(format!("vitreous-doc-{}", std::process::id()));
/// let run = Experiment::preset("digits")?
///     .set("data.limit_train", 40)?
///     .set("train.batch_size", 20)?
///     .set("train.max_steps", 2)?
///     .out(&folder)
///     .train(&|_| ())?;
/// assert_eq!(run.outcome().results.steps, 2);
/// # let _ = std::fs::remove_dir_all(folder);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Experiment {
    layers: Layers,
    base: String,
    out: PathBuf,
    name: Option<String>,
    plots: Option<PlotChoice>,
}

/// A run that was trained.
#[derive(Clone, Debug)]
pub struct Trained {
    folder: PathBuf,
    outcome: Outcome,
}

impl Experiment {
    /// Starts from a preset.
    ///
    /// # Errors
    /// When there is no preset of this name.
    pub fn preset(name: &str) -> Result<Experiment, ExperimentError> {
        Ok(Experiment::new(Layers::preset(name)?, name))
    }

    /// Starts from a config file.
    ///
    /// # Errors
    /// When it cannot be read or has an unknown key.
    pub fn from_file(path: &Path) -> Result<Experiment, ExperimentError> {
        let mut layers = Layers::new();
        layers.add_file(path)?;
        let stem = path.file_stem().map_or("run".to_string(), |stem| stem.to_string_lossy().into_owned());
        Ok(Experiment::new(layers, &stem))
    }

    fn new(layers: Layers, base: &str) -> Experiment {
        Experiment { layers, base: base.to_string(), out: PathBuf::from("runs"), name: None, plots: None }
    }

    /// Sets one key of the config, such as `train.epochs`.
    ///
    /// # Errors
    /// When there is no such key, or the value has another type.
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Result<Experiment, ExperimentError> {
        self.layers.put(key, value, SOURCE)?;
        Ok(self)
    }

    /// Chooses the data: a known data set, or a folder with one folder of images per class. What the preset or file says
    /// of the images of other data (classes, normalization, size) is dropped, so call it before [`Experiment::set`].
    ///
    /// # Errors
    /// When the name is invalid.
    pub fn data(mut self, name: &str) -> Result<Experiment, ExperimentError> {
        self.base = name.to_string();
        self.layers.data(name, SOURCE)?;
        Ok(self)
    }

    /// Chooses the folder that contains the data sets.
    ///
    /// # Errors
    /// When the path is not Unicode.
    pub fn data_dir(self, dir: &Path) -> Result<Experiment, ExperimentError> {
        self.set("data.dir", unicode(dir)?)
    }

    /// Chooses the folder for runs; `runs` where this is not called.
    pub fn out(mut self, dir: &Path) -> Experiment {
        self.out = dir.to_path_buf();
        self
    }

    /// Chooses the run's name; the next free name of the preset or file where this is not called.
    pub fn name(mut self, name: &str) -> Experiment {
        self.name = Some(name.to_string());
        self
    }

    /// Has plots of the training drawn in the run folder; without this call there are none.
    pub fn draw(mut self, choice: PlotChoice) -> Experiment {
        self.plots = Some(choice);
        self
    }

    /// Trains a model and writes the run folder.
    ///
    /// # Errors
    /// When the config or the data is wrong, the loss becomes NaN or infinite, or the folder cannot be written.
    pub fn train(self, listener: Listener) -> Result<Trained, ExperimentError> {
        let started = Instant::now();
        let checked = self.layers.finish()?;
        let place = Place::choose(&self.out, self.name.as_deref(), &self.base)?;
        let prepared = Prepared::new(&checked, listener)?;
        prepared.notes.iter().for_each(|note| listener(Event::Note(note)));
        let needed = prepared.needed;
        let job = prepared.load(listener)?;
        let preflight = Preflight::new(&job, needed, &self.out)?;
        for problem in preflight.problems() {
            listener(Event::Note(&format!("{}; {}", problem.what, problem.fix)));
        }
        let mut run = TrainingRun::start(place, job, Vec::new())?;
        if let Some(choice) = self.plots {
            run.draw(choice);
        }
        let stop = AtomicBool::new(false);
        let limits = Limits { stop: &stop, until: None, save_every: SaveEvery::Time(Duration::from_secs(300)) };
        let outcome = run.train(started, &limits, &mut |event| listener(Event::Training(event)))?;
        Ok(Trained { folder: run.run().folder().to_path_buf(), outcome })
    }
}

/// The text of a path that a config is to hold.
///
/// # Errors
/// When the path is not Unicode.
pub(crate) fn unicode(path: &Path) -> Result<&str, ExperimentError> {
    path.to_str().ok_or_else(|| ExperimentError::NotUnicode { path: path.to_path_buf() })
}

impl Trained {
    /// The run folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How the training ended, and what it reached.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Evaluates the run's weights and keeps the report in the run folder.
    ///
    /// # Errors
    /// When the data cannot be read, or has no such split.
    pub fn evaluate(&self, options: &EvaluateOptions, listener: Listener) -> Result<Evaluated, ExperimentError> {
        evaluate(&self.folder, options, listener)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_data_drops_what_the_config_says_of_its_images() {
        let toml = "[data]\nname = 'a'\nimage_size = 16\nchannels = 1\nmean = [0.5]\nstd = [0.25]\nclasses = 'even'";
        let data = |name: &str| {
            let mut layers = Layers::new();
            layers.add_toml(toml, "my.toml").unwrap();
            let data = Experiment::new(layers, "my").data(name).unwrap().layers.finish().unwrap().config().data.clone();
            assert_eq!(data.name, name);
            (data.classes.is_some(), data.mean, data.std, data.image_size, data.channels)
        };
        assert_eq!(data("mnist"), (false, None, None, None, None));
        // Between folders of images they stay.
        let (mean, std) = (Some(vec![0.5]), Some(vec![0.25]));
        assert_eq!(data("b"), (true, mean.clone(), std.clone(), Some(16), Some(1)));
        assert_eq!(data("a"), (true, mean, std, Some(16), Some(1)));
    }

    #[cfg(unix)]
    #[test]
    fn a_data_folder_whose_path_is_not_unicode_is_refused() {
        use std::os::unix::ffi::OsStrExt;
        let path = Path::new(std::ffi::OsStr::from_bytes(b"a\xff"));
        let error = Experiment::preset("digits").unwrap().data_dir(path).err();
        assert!(matches!(error, Some(ExperimentError::NotUnicode { .. })));
    }
}
