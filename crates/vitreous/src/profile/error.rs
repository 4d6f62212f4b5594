//! Why there is no profile.

use std::path::PathBuf;

use thiserror::Error;

use super::Machine;
use crate::advice::{Explain, Fault, Suggestion};
use crate::record::RecordError;
use crate::timing::TimingError;

/// Why there is no profile.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum ProfileError {
    /// A step cannot be timed.
    #[error(transparent)]
    Timing(#[from] TimingError),
    /// A file cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A file is damaged, or of another kind.
    #[error("invalid profile: {reason} ({})", path.display())]
    File { path: PathBuf, reason: String },
    /// Two profiles cannot be compared.
    #[error("profiles of different machines cannot be compared: {} ({first}), {} ({second})", machines[0], machines[1])]
    Machines { first: String, second: String, machines: Box<[Machine; 2]> },
    /// Two profiles cannot be compared.
    #[error("a training step ({training}) and an inference ({inference}) cannot be compared")]
    Kinds { training: String, inference: String },
    /// An early version wrote it.
    #[error("the profile has no times of single steps ({model})")]
    NoSteps { model: String },
}

impl Explain for ProfileError {
    fn suggestion(&self) -> Option<Suggestion> {
        match self {
            ProfileError::Timing(error) => error.suggestion(),
            ProfileError::Record(error) => error.suggestion(),
            ProfileError::File { .. } | ProfileError::NoSteps { .. } => {
                Some(Suggestion::new().text("profile the run or the preset again"))
            }
            ProfileError::Machines { .. } => {
                Some(Suggestion::new().text("times of one machine say little about another: profile both on this one"))
            }
            ProfileError::Kinds { .. } => Some(Suggestion::new().text("profile both in the same way")),
        }
    }

    fn fault(&self) -> Fault {
        match self {
            ProfileError::Timing(error) => error.fault(),
            ProfileError::Record(error) => error.fault(),
            _ => Fault::Input,
        }
    }
}
