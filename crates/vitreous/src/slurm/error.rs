//! What can go wrong around jobs on a cluster.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::advice::{Argument, Explain, Fault, Place, Suggestion};
use crate::config::slurm::SIGNAL_SECONDS_MAX;
use crate::durations::duration;
use crate::numbers::bytes;
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
    /// A checkpoint is not saved before the time limit.
    #[error(
        "a checkpoint of {} takes about {} to save, but slurm.signal_seconds {signal_s} are kept for it ({})",
        bytes(*size), duration(*seconds), path.display()
    )]
    Save { size: u64, seconds: f64, signal_s: u64, path: PathBuf },
    /// The rehearsal's folder exists.
    #[error("the folder exists already ({})", path.display())]
    Exists { path: PathBuf },
    /// A shell cannot be started.
    #[error("cannot start {what}: {reason}")]
    Start { what: String, reason: String },
    /// The script ended with an error.
    #[error("the script ended with status {status} after {starts} starts")]
    Failed { status: String, starts: u32, log: PathBuf },
    /// The chain ended with other weights.
    #[error("the requeued run differs from the uninterrupted one in {file} ({})", path.display())]
    Differ { file: String, path: PathBuf },
}

impl Explain for SlurmError {
    fn place(&self) -> Option<Place> {
        match self {
            SlurmError::Record(error) => error.place(),
            SlurmError::Exists { path } | SlurmError::Differ { path, .. } | SlurmError::Save { path, .. } => {
                Some(Place::Path(path.clone()))
            }
            _ => None,
        }
    }

    fn suggestion(&self) -> Option<Suggestion> {
        let text = |text: String| Some(Suggestion::new().text(text));
        match self {
            SlurmError::Characters { .. } => text("rename it".to_string()),
            SlurmError::Record(error) => error.suggestion(),
            SlurmError::Staging { .. } => Some(Suggestion::new().set("slurm.scratch", false)),
            // Half as much more, since the disk may be busy.
            SlurmError::Save { seconds, .. } => {
                let enough = ((1.5 * seconds / 60.0).ceil() * 60.0) as u64;
                let suggestion = Suggestion::new();
                let suggestion = match enough <= SIGNAL_SECONDS_MAX {
                    true => suggestion.set("slurm.signal_seconds", enough as i64).or(),
                    false => suggestion,
                };
                Some(suggestion.text("name a folder on a faster disk with").argument(Argument::Out))
            }
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

/// Checks that a checkpoint is saved in the seconds between the signal and the time limit.
///
/// # Errors
/// When it is not.
pub fn check_save(size: u64, seconds: f64, signal_s: u64, folder: &Path) -> Result<(), SlurmError> {
    match seconds > signal_s as f64 {
        true => Err(SlurmError::Save { size, seconds, signal_s, path: folder.to_path_buf() }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_that_is_not_saved_before_the_limit_is_refused_with_what_would_be_enough() {
        let check = |seconds| check_save(3_400_000_000, seconds, 120, Path::new("runs/a"));
        assert_eq!(check(120.0), Ok(()));
        let error = check(171.0).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a checkpoint of 3.4 GB takes about 2 min 51 s to save, but slurm.signal_seconds 120 are kept for it (runs/a)"
        );
        let hint = "use slurm.signal_seconds = 300, or name a folder on a faster disk with out";
        assert_eq!(error.hint().unwrap(), hint);
        assert_eq!(check(9000.0).unwrap_err().hint().unwrap(), "name a folder on a faster disk with out");
    }
}
