//! Why no advice can be given.

use std::path::PathBuf;

use thiserror::Error;

use super::rules::RULES;
use crate::advice::{Argument, Explain, Fault, Place, Suggestion};
use crate::config::error::ConfigError;
use crate::durations::duration;
use crate::experiment::ExperimentError;
use crate::record::RecordError;
use crate::sweep::SweepError;
use crate::timing::TimingError;
use crate::train::{TrainError, Work};

/// Why no advice can be given.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum AdviseError {
    /// There is no rule of that name.
    #[error("unknown rule `{name}`")]
    UnknownRule { name: String },
    /// A part that is to stay is not one of the model's.
    #[error("the model has no part `{name}`")]
    UnknownPart { name: String, known: Vec<String> },
    /// The rules make no other model of this one.
    #[error("no rule can change this model ({kind})")]
    NoCandidates { kind: String, is_limited: bool },
    /// The budget is too small even for the base.
    #[error(
        "the budget of {} is too small: an epoch of this model takes about {} here, and three runs each of it and of a change, with the runs that find the change, about {}",
        duration(*budget_s), duration(*epoch_s), duration(*needed_s)
    )]
    Budget { budget_s: f64, epoch_s: f64, needed_s: f64 },
    /// The folder has the state of another command.
    #[error("the folder was made with another {what} ({})", path.display())]
    Other { path: PathBuf, what: &'static str },
    /// The state cannot be read.
    #[error("cannot read the state of an earlier start: {reason} ({})", path.display())]
    State { path: PathBuf, reason: String },
    /// Nothing can be compared with a base that does not train.
    #[error("the base cannot be trained: {0}")]
    Base(Box<ExperimentError>),
    /// Steps cannot be timed.
    #[error(transparent)]
    Timing(#[from] TimingError),
    /// A run cannot be prepared, trained or evaluated.
    #[error(transparent)]
    Experiment(#[from] ExperimentError),
    /// The runs of a round cannot be planned.
    #[error(transparent)]
    Sweep(#[from] SweepError),
    /// A file cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl From<ConfigError> for AdviseError {
    fn from(error: ConfigError) -> Self {
        AdviseError::Experiment(error.into())
    }
}

impl AdviseError {
    /// Whether runs that each fit into memory do not fit together.
    pub(super) fn is_side_by_side(&self) -> bool {
        let AdviseError::Experiment(ExperimentError::Train(error)) = self else { return false };
        matches!(error, TrainError::Memory { work: Work::SideBySide, .. })
    }

    /// The error of another module that this one is.
    fn inner(&self) -> Option<&dyn Explain> {
        match self {
            AdviseError::Timing(error) => Some(error),
            AdviseError::Base(error) => Some(&**error),
            AdviseError::Experiment(error) => Some(error),
            AdviseError::Sweep(error) => Some(error),
            AdviseError::Record(error) => Some(error),
            _ => None,
        }
    }
}

impl Explain for AdviseError {
    fn key(&self) -> Option<String> {
        self.inner().and_then(Explain::key)
    }

    fn place(&self) -> Option<Place> {
        match self {
            AdviseError::UnknownRule { .. } => Some(Place::Argument(Argument::Rules)),
            AdviseError::UnknownPart { .. } => Some(Place::Argument(Argument::Keep)),
            AdviseError::Budget { .. } => Some(Place::Argument(Argument::Budget)),
            AdviseError::Other { path, .. } | AdviseError::State { path, .. } => Some(Place::Path(path.clone())),
            _ => self.inner().and_then(Explain::place),
        }
    }

    fn fault(&self) -> Fault {
        self.inner().map_or(Fault::Input, Explain::fault)
    }

    fn suggestion(&self) -> Option<Suggestion> {
        let new = Suggestion::new;
        Some(match self {
            AdviseError::UnknownRule { name } => {
                Suggestion::nearest(name, RULES.iter().map(|rule| rule.name), "the rules are")
            }
            AdviseError::UnknownPart { name, known } => {
                Suggestion::nearest(name, known.iter().map(String::as_str), "its parts are")
            }
            AdviseError::NoCandidates { is_limited: true, .. } => {
                let more = new().using("more").argument(Argument::Rules).or().text("keep fewer parts with");
                more.argument(Argument::Keep).or().using("a larger").argument(Argument::MaxParams)
            }
            AdviseError::NoCandidates { .. } => {
                new().text("models of kind \"stack\", \"vit\" and \"sequence-vit\" can be changed")
            }
            AdviseError::Budget { needed_s, .. } => {
                let minutes = (needed_s * 1.1 / 60.0).ceil();
                let larger = new().with(Argument::Budget, format!("{minutes}m"));
                larger.or().text("use fewer training images with").key("data.limit_train")
            }
            AdviseError::Other { path, .. } => {
                new().text("choose another").argument(Argument::Name).or().remove_file(path)
            }
            // Its runs were chosen by it.
            AdviseError::State { path, .. } => {
                let folder = path.parent().unwrap_or(path);
                new().text("choose another").argument(Argument::Name).or().remove_file(folder)
            }
            _ => return self.inner().and_then(Explain::suggestion),
        })
    }
}
