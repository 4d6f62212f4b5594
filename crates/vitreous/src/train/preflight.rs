//! Checks before the first step: the memory and disk space that a run needs and that are available, and problems with
//! its images.

use std::path::{Path, PathBuf};

use serde::Serialize;
use vitreous_engine::Memory;

use super::memory::{available_memory, peak_bytes};
use super::{Job, TrainError, error, optimizer};
use crate::config::train::{Keep, OnNonfinite, TrainSpec};
use crate::data::{DataCheck, Problem};
use crate::models::Model;
use crate::numbers;

/// Checkpoints that are kept, and the one being written.
const STATES: u64 = 3;

/// Maximum bytes of a weights file's header, without the class names.
const HEADER_BYTES: u64 = 64 << 10;

/// The memory and disk space that a run needs, in bytes; available space is absent where it is unknown.
#[derive(Clone, Debug, Serialize)]
pub struct Preflight {
    /// Memory at the peak of the training: the engine's plan, and the images.
    pub memory_needed: u64,
    /// Available memory.
    pub memory_available: Option<u64>,
    /// All files of the run: weights, and the states from which it can go on.
    pub disk_needed: u64,
    /// The part of it without which there is no result: weights, and one such file being written.
    pub disk_needed_for_weights: u64,
    /// Space that is left where runs are.
    pub disk_available: Option<u64>,
    /// The folder in which runs are.
    #[serde(serialize_with = "crate::text::lossy")]
    pub out: PathBuf,
    /// What is doubtful about the images.
    pub images: DataCheck,
    /// A last batch that is left out.
    pub dropped_batch: Option<Problem>,
}

impl Preflight {
    /// Checks a job whose run is created in the folder `out`, or is resumed and is that folder; `needed` is the memory
    /// of the engine, and of the images.
    ///
    /// # Errors
    /// When the weights will not fit on the disk.
    pub fn new(job: &Job, needed: (Memory, u64), out: &Path) -> Result<Preflight, TrainError> {
        // A resumed run already has a part of it.
        let there: u64 = ["weights", "state"].iter().map(|folder| bytes_in(&out.join(folder))).sum();
        let [disk_needed, disk_needed_for_weights] = disk_bytes(job).map(|bytes| bytes.saturating_sub(there));
        let preflight = Preflight {
            memory_needed: peak_bytes(needed),
            memory_available: available_memory(job.threads()),
            disk_needed,
            disk_needed_for_weights,
            disk_available: available_disk(out),
            out: out.to_path_buf(),
            images: images(job),
            dropped_batch: job.dropped_batch(),
        };
        preflight.check_disk().map(|()| preflight)
    }

    /// What is doubtful, and what can be done about it.
    pub fn problems(&self) -> Vec<Problem> {
        let left = self.disk_available.filter(|available| *available < self.disk_needed);
        let disk = left.map(|available| {
            let [needed, available] = [self.disk_needed, available].map(numbers::bytes);
            let out = self.out.display();
            Problem {
                what: format!("the run's files take up to {needed}, but {available} are left on the disk ({out})"),
                fix: error::more_disk(),
            }
        });
        disk.into_iter().chain(self.dropped_batch.clone()).chain(self.images.problems()).collect()
    }

    fn check_disk(&self) -> Result<(), TrainError> {
        match self.disk_available {
            Some(available) if available < self.disk_needed_for_weights => {
                let needed = self.disk_needed_for_weights;
                Err(TrainError::Disk { needed, available, path: self.out.clone() })
            }
            _ => Ok(()),
        }
    }
}

/// Checks the images. Strips are new in each epoch, so their digits are not checked.
fn images(job: &Job) -> DataCheck {
    let Some(train) = job.train.split() else { return DataCheck::default() };
    let validation = job.validation.as_ref().and_then(|set| set.split());
    DataCheck::new(train, validation, &job.data().class_names, job.validation_source, &job.ignored)
}

/// Bytes of one checkpoint, and of the weights that are saved with it.
pub fn checkpoint_bytes(recipe: &TrainSpec, model: &Model) -> u64 {
    let parameters: usize = model.graph.parameters().iter().map(|parameter| parameter.shape.len()).sum();
    file_bytes(moments_in_time(recipe) * (parameters + optimizer(recipe).moment_values(&model.graph)), 0)
        + file_bytes(parameters, 0)
}

/// Bytes of a file with so many values, and names of so many bytes.
fn file_bytes(values: usize, names: usize) -> u64 {
    4 * values as u64 + HEADER_BYTES + 4 * names as u64
}

/// A rollback needs the start of the epoch in addition to the current position.
fn moments_in_time(recipe: &TrainSpec) -> usize {
    if recipe.on_nonfinite == OnNonfinite::Rollback { 2 } else { 1 }
}

/// Bytes of all files of a run, and of those without which it has no result.
fn disk_bytes(job: &Job) -> [u64; 2] {
    let keep = job.config.train.keep;
    let names: usize = job.data().class_names.iter().map(String::len).sum();
    let parameters: usize = job.model.graph.parameters().iter().map(|parameter| parameter.shape.len()).sum();
    let file = |values: usize| file_bytes(values, names);
    let has_best = match keep {
        Keep::Best => job.validation.is_some(),
        Keep::Last => false,
        Keep::LowestTrainLoss => true,
    };
    let moments = optimizer(&job.config.train).moment_values(&job.model.graph);
    // Weights of the lowest loss may wait for the end of the epoch.
    let waiting = if keep == Keep::LowestTrainLoss { parameters } else { 0 };
    let moments_in_time = moments_in_time(&job.config.train);
    let weights = (1 + u64::from(has_best)) * file(parameters);
    // Kept checkpoints may refer to replaced best weights.
    let named = (STATES - 1) * u64::from(has_best) * file(parameters);
    [weights + named + STATES * file(moments_in_time * (parameters + moments) + waiting), weights + file(parameters)]
}

/// Bytes of the files in a folder.
fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| entry.metadata().ok()).filter(|file| file.is_file()).map(|file| file.len()).sum()
}

/// Free space on the disk of a folder, or of its nearest existing parent.
#[cfg(unix)]
fn available_disk(folder: &Path) -> Option<u64> {
    let nearest = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    let disk = rustix::fs::statvfs(nearest).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Unknown on other systems.
#[cfg(not(unix))]
fn available_disk(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advice::Explain;
    use crate::config::Config;
    use crate::config::data::DataSpec;
    use crate::config::layers::Layers;
    use crate::data::{self, Wanted};
    use crate::models;

    fn job(lines: &str) -> Job {
        let mut layers = Layers::new();
        layers.add_toml(&format!("[data]\nlimit_train = 97\n{lines}"), "my.toml").unwrap();
        let checked = layers.finish().unwrap();
        let Config { data, .. } = checked.config();
        let facts = data::inspect(&DataSpec { ..data.clone() }).unwrap();
        let image = crate::config::model::ImageFacts { image_size: 28, channels: 1, num_classes: 10 };
        let config = checked.resolve(image).unwrap();
        let model = models::build_for_training(&config).unwrap();
        let loaded = data::load(data, &facts, Wanted::TrainAndValidation, 1, &|_, _| ()).unwrap();
        Job::new(config, model, &facts, loaded).unwrap()
    }

    #[test]
    fn files_are_counted_by_what_is_kept_and_by_the_optimizer() {
        let tensors = |lines: &str| {
            let job = job(lines);
            let one = 4 * job.model().graph.parameter_count() as u64;
            disk_bytes(&job).map(|bytes| bytes / one)
        };
        let checkpoint = |lines: &str| {
            let job = job(lines);
            checkpoint_bytes(&job.config().train, job.model()) / (4 * job.model().graph.parameter_count() as u64)
        };
        let batch = "[train]\nbatch_size = 13\n";
        // Weights and two moments, and the last weights.
        assert_eq!([checkpoint(batch), checkpoint(&format!("{batch}on_nonfinite = \"rollback\""))], [3 + 1, 6 + 1]);
        // Best and last weights, two that were the best, three states of weights and two moments; of the weights, one more
        // while writing.
        assert_eq!(tensors(batch), [4 + 9, 3]);
        assert_eq!(tensors(&format!("{batch}keep = \"last\"")), [1 + 9, 2]);
        assert_eq!(tensors(&format!("{batch}keep = \"lowest-train-loss\"")), [4 + 12, 3]);
        assert_eq!(tensors(&format!("val_fraction = 0.0\n{batch}opt = \"sgd\"\nmomentum = 0.0")), [1 + 3, 2]);
        assert_eq!(tensors(&format!("{batch}opt = \"sgd\"\nmomentum = 0.5")), [4 + 6, 3]);
        assert_eq!(tensors(&format!("{batch}on_nonfinite = \"rollback\"")), [4 + 18, 3]);
        let batch = format!("{batch}model_ema_decay = 0.9\n");
        assert_eq!(tensors(&batch), [4 + 12, 3], "the average is one more moment");
        assert_eq!(tensors(&format!("{batch}on_nonfinite = \"rollback\"")), [4 + 24, 3]);
    }

    #[test]
    fn a_disk_too_small_for_the_weights_is_refused_and_one_too_small_for_the_states_told() {
        let with = |available| Preflight {
            memory_needed: 0,
            memory_available: None,
            disk_needed: 7_000_000,
            disk_needed_for_weights: 2_000_000,
            disk_available: available,
            out: PathBuf::from("runs"),
            images: DataCheck::default(),
            dropped_batch: None,
        };
        let error = with(Some(1_900_000)).check_disk().unwrap_err();
        assert_eq!(error.to_string(), "the weights need 2.0 MB on the disk, but 1.9 MB are free (runs)");
        assert_eq!(error.hint().unwrap(), "free some of it, or name a folder on another disk with out");
        let problems = with(Some(6_900_000)).problems();
        let expected = "the run's files take up to 7.0 MB, but 6.9 MB are left on the disk (runs)";
        assert_eq!((problems.len(), problems[0].what.as_str()), (1, expected));
        for enough in [Some(7_000_000), None] {
            assert_eq!((with(enough).check_disk(), with(enough).problems()), (Ok(()), Vec::new()));
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_is_not_there_yet_has_the_space_of_the_one_above() {
        let folder = tempfile::tempdir().unwrap();
        let [here, inside] =
            [folder.path().to_path_buf(), folder.path().join("a/b")].map(|at| available_disk(&at).unwrap());
        assert!(here > 0 && here.abs_diff(inside) < 1 << 30, "{here} {inside}");
        assert!(available_disk(Path::new("nowhere")).is_some());
    }
}
