//! What can be wrong with a saved state, and the way out.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::CheckpointError;
use crate::advice::{Explain, Suggestion};
use crate::record::RecordError;
use crate::system_errors;

/// Says what is wrong with a saved state.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StateError {
    /// A file cannot be read.
    #[error("cannot read the state: {reason} ({})", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// A file is not as it was written.
    #[error("the state is damaged: {reason} ({})", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A state of a later version.
    #[error("the state was written by a later version, {version}: it has format {format} ({})", path.display())]
    Later {
        /// The file.
        path: PathBuf,
        /// The program's version.
        version: String,
        /// The version of the layout.
        format: u64,
    },
    /// The best weights that the state names are neither in their place nor kept.
    #[error("the best weights are not those of the state, which are lost ({})", path.display())]
    LostBest {
        /// Where they should be.
        path: PathBuf,
    },
    /// The tensors are those of another model.
    #[error(transparent)]
    Tensors(#[from] CheckpointError),
    /// What belongs to a state cannot be put in its place.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl Explain for StateError {
    fn suggestion(&self) -> Option<Suggestion> {
        self.hint().map(|hint| Suggestion::new().text(hint))
    }
}

impl StateError {
    /// Says what to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            StateError::Later { version, .. } => format!("use version {version} or later for it"),
            StateError::Tensors(error) => return error.hint(),
            StateError::Record(error) => return error.hint(),
            StateError::LostBest { .. } => {
                "put back the file that was there, or train again under another --name".to_string()
            }
            StateError::Read { .. } | StateError::Damaged { .. } => {
                "there is no other state to go on from: train again under another --name".to_string()
            }
        })
    }

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
