//! Why an experiment cannot be prepared, trained, resumed or evaluated.

use std::path::{Path, PathBuf};

use thiserror::Error;
use vitreous_engine::GraphError;

use crate::advice::{Argument, Explain, Fault, Place, Suggestion};
use crate::checkpoint::{CheckpointError, StateError};
use crate::config::error::ConfigError;
use crate::data::{DataError, SplitName};
use crate::evaluate::EvaluateError;
use crate::import::ImportError;
use crate::numbers;
use crate::record::RecordError;
use crate::train::TrainError;

/// Why an experiment cannot be prepared, trained, resumed or evaluated.
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
    /// Weights cannot be imported.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The model cannot be evaluated.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// No checkpoint of a run can be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// A config is text, so it cannot hold such a path.
    #[error("the path of the data folder is not valid Unicode ({})", path.display())]
    NotUnicode { path: PathBuf },
    /// The default data of a preset for folders.
    #[error("the preset needs a folder of images")]
    NoFolder,
    /// Models take square images.
    #[error("the images of {name} have {width}x{height} pixels, but models need square images")]
    NotSquare { name: String, width: usize, height: usize },
    /// All checkpoints of a run are gone.
    #[error("the run has no checkpoint to resume from, though it had taken {} steps ({})", numbers::count(*steps), path.display())]
    NoCheckpoint { steps: u64, path: PathBuf },
    /// The checkpoints of a finished run were removed.
    #[error("the checkpoints of the run were removed: it cannot be trained further ({})", path.display())]
    Cleaned { path: PathBuf },
    /// A key that decides what a run computes.
    #[error("the run was made with another {change} ({})", path.display())]
    OtherConfig { change: String, path: PathBuf },
    /// Fewer epochs than the run was started with.
    #[error("a run cannot get shorter: {change} ({})", path.display())]
    Shorter { change: String, path: PathBuf },
    /// More epochs for a run that was killed within an epoch.
    #[error("{change} is not possible yet: the run did not end normally ({})", path.display())]
    NotEnded { change: String, path: PathBuf },
    /// More epochs would change the warm-up that has been trained.
    #[error("{epochs} would change the warm-up: {change} ({})", path.display())]
    OtherWarmup { epochs: String, change: String, own: toml::Value, path: PathBuf },
    /// Roll-back needs the weights at the start of the epoch.
    #[error("{change} is no longer possible: the checkpoint is mid-epoch, and rollback needs the start of that epoch ({})", path.display())]
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
    #[error("the run was trained on `{name}`, which was not found")]
    DataElsewhere { name: String },
    /// Other data without a class of the run.
    #[error("no class of {data} is one that {run} was trained on")]
    NoCommonClass { data: String, run: String, known: Vec<String> },
    /// A split that the data does not have.
    #[error("{name} has no {split} split{}", looked_for(file.as_deref()))]
    NoSplit { name: String, split: SplitName, available: Vec<SplitName>, file: Option<PathBuf> },
    /// Nothing but training images.
    #[error("{name} has neither a test split nor a validation split")]
    OnlyTraining { name: String },
    /// An option of readers, for another model.
    #[error("{option} is only for readers, but this model is a classifier")]
    NotAReader { option: &'static str },
}

impl Explain for ExperimentError {
    fn key(&self) -> Option<String> {
        self.inner().and_then(Explain::key)
    }

    fn place(&self) -> Option<Place> {
        match self {
            ExperimentError::NotUnicode { path }
            | ExperimentError::NoCheckpoint { path, .. }
            | ExperimentError::Cleaned { path }
            | ExperimentError::OtherConfig { path, .. }
            | ExperimentError::Shorter { path, .. }
            | ExperimentError::NotEnded { path, .. }
            | ExperimentError::OtherWarmup { path, .. }
            | ExperimentError::NoEpochStart { path, .. } => Some(Place::Path(path.clone())),
            ExperimentError::NoSplit { file, .. } => file.clone().map(Place::Path),
            _ => self.inner().and_then(Explain::place),
        }
    }

    fn fault(&self) -> Fault {
        match self {
            ExperimentError::NoResults => Fault::Work,
            _ => self.inner().map_or(Fault::Input, Explain::fault),
        }
    }

    fn suggestion(&self) -> Option<Suggestion> {
        if let Some(error) = self.inner() {
            return error.suggestion();
        }
        let new = Suggestion::new;
        let anew = |ways: Suggestion| ways.text("train again under another").argument(Argument::Name);
        Some(match self {
            ExperimentError::Config(_)
            | ExperimentError::Data(_)
            | ExperimentError::Train(_)
            | ExperimentError::Record(_)
            | ExperimentError::Checkpoint(_)
            | ExperimentError::Evaluate(_)
            | ExperimentError::Import(_)
            | ExperimentError::State(_)
            | ExperimentError::Graph(_)
            | ExperimentError::NoResults => return None,
            ExperimentError::NotUnicode { .. } => new().text("rename the folder, or use a link to it"),
            ExperimentError::NoFolder => new().text("name it with").set("data.name", "FOLDER"),
            ExperimentError::NotSquare { .. } => new().text("resize them to squares, such as 28x28"),
            ExperimentError::NoCheckpoint { .. } => anew(new()),
            ExperimentError::Cleaned { .. } => {
                anew(new().text("`vitreous runs clean` removes the checkpoints of finished runs:"))
            }
            ExperimentError::OtherConfig { .. } => anew(new().text("leave it unchanged").or()),
            ExperimentError::Shorter { .. } => new().text("stop it early with").key("train.max_steps"),
            ExperimentError::NotEnded { .. } => {
                new().text("resume it unchanged first; add epochs when it is finished or interrupted")
            }
            ExperimentError::OtherWarmup { own, .. } => {
                new().set("train.warmup_epochs", own.clone()).text(", as before")
            }
            ExperimentError::NoEpochStart { .. } => new().set("train.on_nonfinite", "skip"),
            ExperimentError::LogInterval => new().text("leave it unchanged"),
            ExperimentError::DataChanged { .. } => anew(new().text("restore the data").or()),
            ExperimentError::OldSplit { .. } => anew(new()).or().text("resume with the version that started it"),
            ExperimentError::DataElsewhere { .. } => {
                let folder = new().text("name its folder with").key("data.dir");
                folder.or().text("use other images with").set("data.name", "FOLDER")
            }
            ExperimentError::NoCommonClass { known, .. } => new().text(format!("its classes are {}", known.join(", "))),
            ExperimentError::NoSplit { available, .. } if available.contains(&SplitName::All) => {
                let whole = new().text("it has no splits: leave out").argument(Argument::Split);
                whole.text("to evaluate all of it")
            }
            ExperimentError::NoSplit { available, file, .. } => {
                let added = file.as_ref().map(|file| new().add_file(file));
                available.iter().fold(added, |ways, &split| {
                    let way = ways.map_or_else(new, Suggestion::or);
                    Some(way.with(Argument::Split, flag_value(split)))
                })?
            }
            ExperimentError::OnlyTraining { .. } => new().with(Argument::Split, "train"),
            ExperimentError::NotAReader { option } => new().text(format!("leave out {option}")),
        })
    }
}

impl ExperimentError {
    /// The error of another module that this one is.
    fn inner(&self) -> Option<&dyn Explain> {
        match self {
            ExperimentError::Config(error) => Some(error),
            ExperimentError::Data(error) => Some(error),
            ExperimentError::Train(error) => Some(error),
            ExperimentError::Record(error) => Some(error),
            ExperimentError::Checkpoint(error) => Some(error),
            ExperimentError::Evaluate(error) => Some(error),
            ExperimentError::Import(error) => Some(error),
            ExperimentError::State(error) => Some(error),
            _ => None,
        }
    }
}

fn looked_for(file: Option<&Path>) -> String {
    file.map_or_else(String::new, |file| format!(" (looked for {})", file.display()))
}

/// A split as the command line names it.
fn flag_value(split: SplitName) -> String {
    if split == SplitName::Validation { "val".to_string() } else { split.to_string() }
}
