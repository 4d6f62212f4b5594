//! Errors of run folders, and what to do about them.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::{Holder, find_runs};
use crate::advice::{Argument, Command, Explain, Fault, Place, Suggestion, Verb};
use crate::system_errors;

/// What to do when a file cannot grow.
pub(crate) const RAISE_FILE_SIZE: &str = "raise the file size limit: ulimit -f unlimited";

/// An error of a run folder.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The name is not a folder name.
    #[error("invalid run name `{name}`")]
    Name {
        /// The name.
        name: String,
    },
    /// A run of that name exists.
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
        /// The kind of the system's error.
        kind: io::ErrorKind,
        /// The system's message.
        reason: String,
    },
    /// A file cannot be read.
    #[error("cannot read: {reason} ({})", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's message.
        reason: String,
    },
    /// A file that grows is shorter than before.
    #[error("the file has {found} bytes, but had {expected} when the checkpoint was written ({})", path.display())]
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
    /// Another process has been changing something in the folder for too long.
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
    /// This process has lost its claim on the folder.
    #[error("this process no longer owns the folder: its `.lock` was deleted or replaced ({})", path.display())]
    Unclaimed {
        /// The run folder.
        path: PathBuf,
    },
    /// The folder is not a run folder.
    #[error("{found} ({})", path.display())]
    NoRun {
        /// The folder.
        path: PathBuf,
        /// What is there.
        found: InsteadOfRun,
    },
    /// Nothing has the name of the run.
    #[error("no run has the name `{name}` (looked for {})", out.join(name).display())]
    UnknownRun {
        /// The name.
        name: String,
        /// The folder of runs.
        out: PathBuf,
        /// A run there with a similar name.
        nearest: Option<String>,
    },
    /// A manifest is damaged.
    #[error("the manifest is damaged: {reason} ({})", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// The parser's message.
        reason: String,
    },
    /// The saved results of an evaluation are damaged.
    #[error("the saved evaluation is damaged: {reason} ({})", path.display())]
    Evaluation {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A manifest of a later version.
    #[error("the run was made by the later version {version}: its manifest has format {format} ({})", path.display())]
    Later {
        /// The manifest.
        path: PathBuf,
        /// The program's version.
        version: String,
        /// The version of the layout.
        format: u32,
    },
    /// The run's best weights are missing.
    #[error("the best weights of the run are missing ({})", path.display())]
    LostBest {
        /// Where they should be.
        path: PathBuf,
        /// Whether it has its last weights.
        has_last: bool,
    },
    /// The run has no such weights.
    #[error("the run has no {file} ({})", path.display())]
    NoWeights {
        /// The run folder.
        path: PathBuf,
        /// The missing file.
        file: String,
        /// Why it has none.
        why: NoWeights,
    },
}

/// What is in a folder that is not that of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsteadOfRun {
    /// There is no such folder.
    Nothing,
    /// It is a file.
    File,
    /// A folder of runs.
    Runs,
    /// Something else.
    Other,
}

impl InsteadOfRun {
    pub(super) fn at(path: &Path) -> InsteadOfRun {
        match () {
            () if !path.exists() => InsteadOfRun::Nothing,
            () if !path.is_dir() => InsteadOfRun::File,
            () if !find_runs(path).is_empty() => InsteadOfRun::Runs,
            () => InsteadOfRun::Other,
        }
    }
}

impl fmt::Display for InsteadOfRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InsteadOfRun::Nothing => "no such folder",
            InsteadOfRun::File => "this is a file, not a run folder",
            InsteadOfRun::Runs => "this is a folder of runs, not a run",
            InsteadOfRun::Other => "not a run folder: manifest.json is missing",
        })
    }
}

/// Why a run has no weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoWeights {
    /// It has only the last ones.
    OnlyLast,
    /// A process trains it, and has not saved any yet.
    InTraining,
    /// It was killed or failed before any were saved.
    Early,
    /// It had some.
    Lost,
}

impl Explain for RecordError {
    fn place(&self) -> Option<Place> {
        Some(match self {
            RecordError::Name { .. } => Place::Argument(Argument::Name),
            RecordError::UnknownRun { name, out, .. } => Place::Path(out.join(name)),
            RecordError::Exists { path, .. }
            | RecordError::Write { path, .. }
            | RecordError::Read { path, .. }
            | RecordError::Short { path, .. }
            | RecordError::Busy { path, .. }
            | RecordError::Unfinished { path }
            | RecordError::Changing { path, .. }
            | RecordError::Gone { path }
            | RecordError::Unclaimed { path }
            | RecordError::NoRun { path, .. }
            | RecordError::Manifest { path, .. }
            | RecordError::Evaluation { path, .. }
            | RecordError::Later { path, .. }
            | RecordError::LostBest { path, .. }
            | RecordError::NoWeights { path, .. } => Place::Path(path.clone()),
        })
    }

    fn suggestion(&self) -> Option<Suggestion> {
        let new = Suggestion::new;
        let other_name = || new().text("choose another").argument(Argument::Name);
        Some(match self {
            RecordError::Name { .. } => {
                new().text("use at most 255 letters, digits, `-`, `_` and `.`, such as").with(Argument::Name, "deeper")
            }
            RecordError::Exists { path, has_failed: true, .. } => {
                let removed = new().text("that run failed:").remove_file(path);
                removed.or().text("choose another").argument(Argument::Name)
            }
            RecordError::Exists { .. } => other_name().or().text("leave it out for the next free one"),
            RecordError::Write { kind: io::ErrorKind::FileTooLarge, .. } => new().text(RAISE_FILE_SIZE),
            RecordError::Write { kind, .. } => {
                let other = new().text("choose another folder with").argument(Argument::Out);
                other.or().text(match kind {
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "let this user write there",
                    io::ErrorKind::NotFound => "make the folder first",
                    io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => "move that file away",
                    _ => "make room on that disk",
                })
            }
            RecordError::Read { .. } => return None,
            RecordError::Short { .. } => {
                new().text("the file was changed or replaced: train again under another").argument(Argument::Name)
            }
            RecordError::Busy { .. } => new().text("wait for it, or end it first"),
            RecordError::Unfinished { path } => new().text("finish it with").run(Command::resume(path)),
            RecordError::Changing { .. } => new().text("if that process hangs, end it"),
            RecordError::Gone { .. } => {
                new().text("if it was moved, resume it from its new place with").run(Command::resume(Path::new("RUN")))
            }
            RecordError::Unclaimed { path } => {
                new().text("make sure that no other process trains there, then run").run(Command::resume(path))
            }
            RecordError::NoRun { path, found: InsteadOfRun::Runs } => {
                new().text("name one of its runs; list them with").run(Command::new(Verb::Runs).operand(path))
            }
            RecordError::UnknownRun { nearest: Some(name), .. } => new().text(format!("did you mean `{name}`?")),
            RecordError::UnknownRun { out, .. } if out != Path::new("runs") => {
                new().text("list the runs with").run(Command::new(Verb::Runs).operand(out))
            }
            RecordError::NoRun { .. } | RecordError::UnknownRun { .. } => {
                new().text("list the runs with").run(Command::new(Verb::Runs))
            }
            RecordError::Manifest { .. } => new().text("the file was changed by hand or by another version"),
            RecordError::Evaluation { .. } => new().text("evaluate the run again"),
            RecordError::Later { version, .. } => new().text(format!("use version {version} or later")),
            RecordError::LostBest { has_last: true, .. } => {
                new().text("restore the file").or().with(Argument::Weights, "last")
            }
            RecordError::LostBest { .. } | RecordError::NoWeights { why: NoWeights::Lost, .. } => {
                new().text("restore the file").or().text("train the model again")
            }
            RecordError::NoWeights { why: NoWeights::OnlyLast, .. } => new().with(Argument::Weights, "last"),
            RecordError::NoWeights { why: NoWeights::InTraining, .. } => {
                new().text("the run is being trained: wait until its first epoch is done")
            }
            RecordError::NoWeights { path, why: NoWeights::Early, .. } => {
                let early = new().text("the run ended before its first weights were saved: continue it with");
                early.run(Command::resume(path))
            }
        })
    }

    fn fault(&self) -> Fault {
        let is_full = |kind: &io::ErrorKind| {
            use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
            matches!(kind, StorageFull | QuotaExceeded | FileTooLarge)
        };
        match self {
            RecordError::Write { kind, .. } if is_full(kind) => Fault::Work,
            _ if self.is_final() => Fault::Work,
            _ => Fault::Input,
        }
    }
}

impl RecordError {
    /// Whether the run's folder is out of this process's hands: trying again changes nothing.
    pub fn is_final(&self) -> bool {
        matches!(self, RecordError::Gone { .. } | RecordError::Unclaimed { .. })
    }

    pub(crate) fn write(path: &Path, error: &io::Error) -> RecordError {
        RecordError::Write { path: path.to_path_buf(), kind: error.kind(), reason: system_errors::system_error(error) }
    }

    pub(crate) fn read(path: &Path, error: &io::Error) -> RecordError {
        RecordError::Read { path: path.to_path_buf(), reason: system_errors::system_error(error) }
    }
}
