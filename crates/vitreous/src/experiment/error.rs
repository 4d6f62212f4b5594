//! Why an experiment cannot be prepared, trained, resumed or evaluated.

use std::path::PathBuf;

use thiserror::Error;
use vitreous_engine::GraphError;

use crate::advice::Explain;
use crate::checkpoint::{CheckpointError, StateError};
use crate::config::error::ConfigError;
use crate::data::{DataError, SplitName};
use crate::evaluate::EvaluateError;
use crate::numbers;
use crate::record::RecordError;
use crate::train::TrainError;

/// Says why an experiment cannot be prepared, trained, resumed or evaluated.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum ExperimentError {
    /// The config is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The config makes no graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The training cannot start, or failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A run folder cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A weights file cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The model cannot be evaluated.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// No checkpoint of a run can be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The default data of a preset for folders.
    #[error("the preset is for a folder of pictures, and no folder was named")]
    NoFolder,
    /// Models take square images.
    #[error("the images of {name} have {width}x{height} pixels, a model takes square ones")]
    NotSquare { name: String, width: usize, height: usize },
    /// All checkpoints of a run are gone.
    #[error("the run has no checkpoint to resume from, though it had taken {} steps ({})", numbers::count(*steps), path.display())]
    NoCheckpoint { steps: u64, path: PathBuf },
    /// A key that decides what a run computes.
    #[error("the run was made with another {change} ({})", path.display())]
    OtherConfig { change: String, path: PathBuf },
    /// Fewer epochs than the run was started with.
    #[error("a run cannot get shorter: {change} ({})", path.display())]
    Shorter { change: String, path: PathBuf },
    /// More epochs for a run that was killed within an epoch.
    #[error("{change} comes too early: the run did not end in order ({})", path.display())]
    NotEnded { change: String, path: PathBuf },
    /// More epochs would change the warm-up that has been trained.
    #[error("{epochs} would change the warm-up: {change} ({})", path.display())]
    OtherWarmup { epochs: String, change: String, own: String, path: PathBuf },
    /// Roll-back needs the weights at the start of the epoch.
    #[error("{change} comes too late: the checkpoint is mid-epoch, and rollback needs the start of that epoch ({})", path.display())]
    NoEpochStart { change: String, path: PathBuf },
    /// The lines of the metrics decide which weights are kept.
    #[error("log_interval cannot change in a run that keeps the weights of its lowest training loss")]
    LogInterval,
    /// Other images than those of the run.
    #[error("the data has changed since the run began: {what} ({name})")]
    DataChanged { what: String, name: String },
    /// A split that this version does not draw.
    #[error(
        "the run was started by an earlier version, which split folders by file order instead of file content: its \
         validation split cannot be drawn again ({name})"
    )]
    OldSplit { name: String },
    /// A finished run without results.
    #[error("a finished run has no results in its manifest")]
    NoResults,
    /// The run's data is named by a path that means nothing here.
    #[error("the run was trained on `{name}`, which is not here")]
    DataElsewhere { name: String },
    /// Other data without a class of the run.
    #[error("no class of {data} is one that {run} was trained on")]
    NoCommonClass { data: String, run: String, known: Vec<String> },
    /// A split that the data does not have.
    #[error("{name} has no {split} split")]
    NoSplit { name: String, split: SplitName, available: Vec<SplitName> },
    /// Nothing but training images.
    #[error("{name} has neither a test split nor a validation split")]
    OnlyTraining { name: String },
    /// An option of readers, for another model.
    #[error("{option} is only for readers, but this model is a classifier")]
    NotAReader { option: &'static str },
}

impl ExperimentError {
    /// Says what to do about it.
    pub fn hint(&self) -> Option<String> {
        let anew = "train anew under another --name";
        Some(match self {
            ExperimentError::Config(error) => return error.suggestion().map(|suggestion| suggestion.to_string()),
            ExperimentError::Data(error) => return error.hint(),
            ExperimentError::Train(error) => return error.hint(),
            ExperimentError::Record(error) => return error.hint(),
            ExperimentError::Checkpoint(error) => return error.hint(),
            ExperimentError::Evaluate(error) => return error.hint(),
            ExperimentError::State(error) => return error.hint(),
            ExperimentError::Graph(_) | ExperimentError::NoResults => return None,
            ExperimentError::NoFolder => "name it with --data FOLDER".to_string(),
            ExperimentError::NotSquare { .. } => "bring them to a square, 28x28 for instance".to_string(),
            ExperimentError::NoCheckpoint { .. } => anew.to_string(),
            ExperimentError::OtherConfig { .. } => format!("leave it as it was, or {anew}"),
            ExperimentError::Shorter { .. } => "use --max-steps to stop it early".to_string(),
            ExperimentError::NotEnded { .. } => {
                "resume it as it was first; when it is done, or was interrupted, give it more epochs".to_string()
            }
            ExperimentError::OtherWarmup { own, .. } => format!("use --warmup-epochs {own}, as before"),
            ExperimentError::NoEpochStart { .. } => "use --on-nonfinite skip".to_string(),
            ExperimentError::LogInterval => "leave it as it was".to_string(),
            ExperimentError::DataChanged { .. } => format!("bring it back to what it was, or {anew}"),
            ExperimentError::OldSplit { .. } => format!("{anew}, or resume with the version that started it"),
            ExperimentError::DataElsewhere { .. } => {
                "say in which folder it lies with --data-dir, or name other pictures with --data FOLDER".to_string()
            }
            ExperimentError::NoCommonClass { known, .. } => format!("its classes are {}", known.join(", ")),
            ExperimentError::NoSplit { available, .. } if available.contains(&SplitName::All) => {
                "it has no splits: leave --split out to evaluate all of it".to_string()
            }
            ExperimentError::NoSplit { available, .. } => {
                let flags: Vec<String> =
                    available.iter().map(|split| format!("--split {}", flag_value(*split))).collect();
                format!("use {}", flags.join(" or "))
            }
            ExperimentError::OnlyTraining { .. } => "use --split train".to_string(),
            ExperimentError::NotAReader { option } => format!("leave out {option}"),
        })
    }
}

/// A split as the command line names it.
fn flag_value(split: SplitName) -> String {
    if split == SplitName::Validation { "val".to_string() } else { split.to_string() }
}
