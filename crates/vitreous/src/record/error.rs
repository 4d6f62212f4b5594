//! What can be wrong with a run folder, and the way out.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::Holder;
use crate::advice::{Explain, Fault, Suggestion};
use crate::system_errors;

/// What to do about a file that cannot grow.
pub(crate) const RAISE_FILE_SIZE: &str = "raise the limit for files: ulimit -f unlimited";

/// Says what is wrong with a run folder.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The name is no name of a folder.
    #[error("`{name}` is no name of a run (--name)")]
    Name {
        /// The name.
        name: String,
    },
    /// There is a run of that name.
    #[error("a run named `{name}` exists ({})", path.display())]
    Exists {
        /// The name.
        name: String,
        /// Its folder.
        path: PathBuf,
        /// Whether it ended with an error.
        has_failed: bool,
    },
    /// A file or folder cannot be written.
    #[error("cannot write: {reason} ({})", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// A file cannot be read.
    #[error("cannot read: {reason} ({})", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// A file that grows has lost what it had.
    #[error("the file has {found} of the {expected} bytes that it had when the state was written ({})", path.display())]
    Short {
        /// The file.
        path: PathBuf,
        /// Bytes that it has.
        found: u64,
        /// Bytes that it had.
        expected: u64,
    },
    /// Another process trains in the folder.
    #[error("{holder} trains in this folder ({})", path.display())]
    Busy {
        /// The run folder.
        path: PathBuf,
        /// The other process.
        holder: Holder,
    },
    /// The run may still be resumed.
    #[error("the run is not finished: its checkpoints are needed to resume it ({})", path.display())]
    Unfinished {
        /// The run folder.
        path: PathBuf,
    },
    /// Another process changes something in the folder, and takes long.
    #[error("{holder} has been changing this folder for too long ({})", path.display())]
    Changing {
        /// The folder of a run or of runs.
        path: PathBuf,
        /// The other process.
        holder: Holder,
    },
    /// The folder is not where it was.
    #[error("the folder is gone: it was moved or deleted ({})", path.display())]
    Gone {
        /// Where it was.
        path: PathBuf,
    },
    /// This process has no claim on the folder any more.
    #[error("the folder is no longer this process's: `.lock` in it was deleted or taken over ({})", path.display())]
    Unclaimed {
        /// The run folder.
        path: PathBuf,
    },
    /// The folder is none of a run.
    #[error("{} ({})", if path.exists() { format!("this is no run folder: it has no {file}") } else { "there is no such folder".to_string() }, path.display())]
    NoRun {
        /// The folder.
        path: PathBuf,
        /// The file it lacks.
        file: &'static str,
    },
    /// A manifest is damaged.
    #[error("the manifest is damaged: {reason} ({})", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What the parser says.
        reason: String,
    },
    /// A manifest of a later version.
    #[error("the run was made by a later version, {version}: its manifest has format {format} ({})", path.display())]
    Later {
        /// The manifest.
        path: PathBuf,
        /// The program's version.
        version: String,
        /// The version of the layout.
        format: u32,
    },
    /// The run kept weights as the best, and they are not there.
    #[error("the best weights of the run are missing ({})", path.display())]
    LostBest {
        /// Where they should be.
        path: PathBuf,
    },
    /// The run has no weights of that kind.
    #[error("the run has no {file} ({})", path.display())]
    NoWeights {
        /// The run folder.
        path: PathBuf,
        /// The file it lacks.
        file: String,
    },
}

impl Explain for RecordError {
    fn suggestion(&self) -> Option<Suggestion> {
        self.hint().map(|hint| Suggestion::new().text(hint))
    }

    fn fault(&self) -> Fault {
        if self.is_final() { Fault::Work } else { Fault::Input }
    }
}

impl RecordError {
    /// Says what to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            RecordError::Name { .. } => {
                "use at most 255 letters, digits, `-`, `_` and `.`, such as --name deeper".to_string()
            }
            RecordError::Exists { path, has_failed: true, .. } => {
                format!("that run has failed: remove {}, or choose another --name", path.display())
            }
            RecordError::Exists { .. } => "choose another --name, or leave it out for the next free one".to_string(),
            RecordError::Write { reason, .. } if reason == system_errors::FILE_SIZE_LIMIT => {
                RAISE_FILE_SIZE.to_string()
            }
            RecordError::Write { .. } => "choose another folder with --out DIR, or make room in this one".to_string(),
            RecordError::Read { .. } => return None,
            RecordError::Short { .. } => {
                "the file was changed by hand or lost: train again under another --name".to_string()
            }
            RecordError::Busy { .. } => "wait for it, or end it first".to_string(),
            RecordError::Unfinished { path } => format!("finish it with vitreous train --resume {}", path.display()),
            RecordError::Changing { .. } => "see whether that process hangs, and end it if so".to_string(),
            RecordError::Gone { .. } => {
                "if it was moved, go on from its last state with vitreous train --resume and its new place".to_string()
            }
            RecordError::Unclaimed { path } => format!(
                "see that no other process trains there, then go on with vitreous train --resume {}",
                path.display()
            ),
            RecordError::NoRun { .. } => "name a folder that `vitreous train` made, such as runs/digits".to_string(),
            RecordError::Manifest { .. } => "the file was changed by hand or by another version".to_string(),
            RecordError::Later { version, .. } => format!("use version {version} or later for it"),
            RecordError::LostBest { .. } => "use --weights last".to_string(),
            RecordError::NoWeights { file, .. } if file.contains("best") => "use --weights last".to_string(),
            RecordError::NoWeights { .. } => "the run ended before its first weights were saved".to_string(),
        })
    }

    /// Whether the run's folder is out of this process's hands: trying again changes nothing.
    pub fn is_final(&self) -> bool {
        matches!(self, RecordError::Gone { .. } | RecordError::Unclaimed { .. })
    }

    pub(crate) fn write(path: &Path, error: &io::Error) -> RecordError {
        RecordError::Write { path: path.to_path_buf(), reason: system_errors::system_error(error) }
    }

    pub(crate) fn read(path: &Path, error: &io::Error) -> RecordError {
        RecordError::Read { path: path.to_path_buf(), reason: system_errors::system_error(error) }
    }
}
