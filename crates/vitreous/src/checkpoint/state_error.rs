//! Errors of checkpoints, and what to do about them.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::CheckpointError;
use crate::advice::{Argument, Explain, Place, Suggestion};
use crate::record::RecordError;
use crate::system_errors;

/// An error of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StateError {
    /// A file cannot be read.
    #[error("cannot read the checkpoint: {reason} ({})", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's message.
        reason: String,
    },
    /// A file was changed or truncated after it was written.
    #[error("the checkpoint is damaged: {reason} ({})", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A checkpoint of a later version.
    #[error("the checkpoint was written by the later version {version}: it has format {format} ({})", path.display())]
    Later {
        /// The file.
        path: PathBuf,
        /// The program's version.
        version: String,
        /// The version of the format.
        format: u64,
    },
    /// The best weights that the checkpoint refers to are missing.
    #[error("the best weights are not those of the checkpoint, which are missing ({})", path.display())]
    LostBest {
        /// Where they should be.
        path: PathBuf,
    },
    /// The tensors are those of another model.
    #[error(transparent)]
    Tensors(#[from] CheckpointError),
    /// A file of the checkpoint cannot be restored.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl Explain for StateError {
    fn place(&self) -> Option<Place> {
        match self {
            StateError::Read { path, .. }
            | StateError::Damaged { path, .. }
            | StateError::Later { path, .. }
            | StateError::LostBest { path } => Some(Place::Path(path.clone())),
            StateError::Tensors(error) => error.place(),
            StateError::Record(error) => error.place(),
        }
    }

    fn suggestion(&self) -> Option<Suggestion> {
        let new = Suggestion::new;
        Some(match self {
            StateError::Later { version, .. } => new().text(format!("use version {version} or later")),
            StateError::Tensors(error) => return error.suggestion(),
            StateError::Record(error) => return error.suggestion(),
            StateError::LostBest { .. } => {
                let back = new().text("restore the file that was there");
                back.or().text("train again under another").argument(Argument::Name)
            }
            StateError::Read { .. } | StateError::Damaged { .. } => {
                new().text("there is no other checkpoint: train again under another").argument(Argument::Name)
            }
        })
    }
}

impl StateError {
    pub(super) fn read(path: &Path, error: &io::Error) -> StateError {
        let (path, reason) = (path.to_path_buf(), system_errors::system_error(error));
        match error.kind() {
            io::ErrorKind::InvalidData => StateError::Damaged { path, reason },
            _ => StateError::Read { path, reason },
        }
    }

    pub(super) fn damaged(path: &Path, reason: &str) -> StateError {
        StateError::Damaged { path: path.to_path_buf(), reason: reason.to_string() }
    }
}
