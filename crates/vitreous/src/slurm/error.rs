//! What can go wrong around jobs on a cluster.

use std::path::PathBuf;

use thiserror::Error;

use crate::advice::{Explain, Fault, Place, Suggestion};
use crate::record::RecordError;

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum SlurmError {
    /// A name that no script can hold.
    #[error("{what} `{text}` has {characters}, which a batch script cannot hold there")]
    Characters { what: &'static str, text: String, characters: &'static str },
    /// A script or the record of a job cannot be written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The copy of data to a node's disk.
    #[error("{name} cannot be copied to the node's disk: {why}")]
    Staging { name: String, why: &'static str },
    /// The rehearsal's folder exists.
    #[error("the folder exists already ({})", path.display())]
    Exists { path: PathBuf },
    /// A shell cannot be started.
    #[error("cannot start {what}: {reason}")]
    Start { what: String, reason: String },
    /// The script ended with an error.
    #[error("the script ended with status {status} after {lives} starts")]
    Failed { status: String, lives: u32, log: PathBuf },
    /// The chain ended with other weights.
    #[error("the requeued run differs from the uninterrupted one in {file} ({})", path.display())]
    Differ { file: String, path: PathBuf },
}

impl Explain for SlurmError {
    fn place(&self) -> Option<Place> {
        match self {
            SlurmError::Record(error) => error.place(),
            SlurmError::Exists { path } | SlurmError::Differ { path, .. } => Some(Place::Path(path.clone())),
            _ => None,
        }
    }

    fn suggestion(&self) -> Option<Suggestion> {
        let text = |text: String| Some(Suggestion::new().text(text));
        match self {
            SlurmError::Characters { .. } => text("rename it".to_string()),
            SlurmError::Record(error) => error.suggestion(),
            SlurmError::Staging { .. } => Some(Suggestion::new().set("slurm.scratch", false)),
            SlurmError::Exists { path } => Some(Suggestion::new().remove_file(path)),
            SlurmError::Start { .. } => None,
            SlurmError::Failed { log, .. } => text(format!("its messages are in {}", log.display())),
            SlurmError::Differ { .. } => text("both runs are kept there; please report this".to_string()),
        }
    }

    fn fault(&self) -> Fault {
        match self {
            SlurmError::Record(error) => error.fault(),
            SlurmError::Failed { .. } | SlurmError::Differ { .. } | SlurmError::Start { .. } => Fault::Work,
            _ => Fault::Input,
        }
    }
}
