//! Errors of sweeps, and what to do about them.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use super::file;
use crate::advice::{Argument, Explain, Place, Suggestion};
use crate::record::RecordError;
use crate::{numbers, spelling};

/// An error of a sweep.
#[derive(Clone, Debug, PartialEq, Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum SweepError {
    /// There is neither a sweep nor a file of that name.
    #[error("no sweep or file is called `{name}`")]
    Unknown { name: String },
    /// The file cannot be read.
    #[error("cannot read the sweep: {reason} ({path})")]
    Read { path: String, reason: String, hint: Option<String> },
    /// The text is not a sweep.
    #[error("{message} ({source_name}, line {line})")]
    Syntax { message: String, source_name: String, line: usize },
    /// The file has a key that sweeps do not have.
    #[error("unknown key `{key}` ({source_name}, line {line})")]
    UnknownKey { key: String, known: &'static [&'static str], source_name: String, line: usize },
    /// A name in `evaluate` is not that of a split.
    #[error("unknown split `{name}` ({source_name}, line {line})")]
    UnknownSplit { name: String, source_name: String, line: usize },
    /// Nothing varies.
    #[error("the sweep varies nothing")]
    Nothing,
    /// Seeds would be set twice.
    #[error("train.seed varies, and the sweep has seeds too")]
    SeedsVary,
    /// A varied key has no values.
    #[error("`{text}` is not a key with values")]
    Each { text: String },
    /// Too many runs.
    #[error("the sweep has more than {} runs", numbers::count(*most as u64))]
    TooMany { most: usize },
    /// Every run would be measured on the test split, and a choice made among them.
    #[error("a sweep chooses by the validation split and does not measure every run on the test split")]
    TestSplit,
    /// Nothing can be chosen.
    #[error("run {run} has no validation split, so the sweep cannot rank its settings (data.val_fraction)")]
    NoValidation { run: String, reproduces: Option<String> },
    /// The file does not state which table it reproduces.
    #[error("`reproduces` is empty ({source_name})")]
    Reproduces { source_name: String },
    /// What is chosen cannot be tested.
    #[error("the data of run {run} has no test split")]
    NoTest { run: String },
    /// Accuracies on different images choose nothing.
    #[error(
        "runs {} are validated on different images, so the sweep cannot choose between them ({})",
        runs.join(" and "), keys.join(", ")
    )]
    OtherImages { runs: [String; 2], keys: Vec<&'static str> },
    /// More runs side by side than threads.
    #[error("jobs {jobs} is not between 1 and {threads}, the number of threads")]
    Jobs { jobs: usize, threads: usize },
    /// Two runs would have one folder.
    #[error("two runs of the sweep have the name `{name}`")]
    Twice { name: String },
    /// A run's name is not a folder name.
    #[error("invalid run name `{name}`{origin}")]
    Name { name: String, origin: Origin },
    /// A duplicate seed.
    #[error("duplicate seed {seed}{origin}")]
    SeedTwice { seed: u64, origin: Origin },
    /// A seed is larger than configs allow.
    #[error("seed {seed} is more than {}{origin}", i64::MAX)]
    Seed { seed: u64, origin: Origin },
    /// The folder of a run holds a run with other settings.
    #[error("the run was made with other settings: {changes} ({})", path.display())]
    Other { path: PathBuf, changes: String },
    /// A run folder exists but is not a run.
    #[error("the run folder exists but is not a run ({})", path.display())]
    InTheWay { path: PathBuf },
    /// The folder of the sweep is that of a run.
    #[error("the sweep's folder is a run ({})", path.display())]
    IsRun { path: PathBuf },
    /// A record cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Where names and seeds of runs are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Values of varied keys.
    SetEach,
    /// Seeds of the whole sweep.
    Seeds,
    /// A `[[run]]` of the list.
    Run,
    /// The seeds of the run of this name.
    SeedsOf(String),
}

impl Origin {
    /// The source that errors of a config name.
    pub fn source(&self) -> String {
        match self {
            Origin::SeedsOf(run) => format!("seeds of run {run}"),
            Origin::Run | Origin::SetEach | Origin::Seeds => "seeds".to_string(),
        }
    }

    fn argument(&self) -> Option<Place> {
        match self {
            Origin::SetEach => Some(Place::Argument(Argument::SetEach)),
            Origin::Seeds => Some(Place::Argument(Argument::Seeds)),
            Origin::Run | Origin::SeedsOf(_) => None,
        }
    }
}

/// The end of a message; arguments are added by `cli`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::SetEach | Origin::Seeds => Ok(()),
            Origin::Run => f.write_str(" ([[run]])"),
            Origin::SeedsOf(run) => write!(f, " (seeds of run {run})"),
        }
    }
}

impl Explain for SweepError {
    fn place(&self) -> Option<Place> {
        match self {
            SweepError::Read { path, .. } => Some(Place::Path(path.into())),
            SweepError::Syntax { source_name, line, .. }
            | SweepError::UnknownSplit { source_name, line, .. }
            | SweepError::UnknownKey { source_name, line, .. } => Some(Place::Line(source_name.clone(), *line)),
            SweepError::Each { .. } => Some(Place::Argument(Argument::SetEach)),
            SweepError::NoTest { .. } => Some(Place::Argument(Argument::TestWinner)),
            SweepError::Jobs { .. } => Some(Place::Argument(Argument::Jobs)),
            SweepError::TestSplit => Some(Place::Argument(Argument::Evaluate)),
            SweepError::Name { origin, .. }
            | SweepError::SeedTwice { origin, .. }
            | SweepError::Seed { origin, .. } => origin.argument(),
            SweepError::Other { path, .. } | SweepError::InTheWay { path } | SweepError::IsRun { path } => {
                Some(Place::Path(path.clone()))
            }
            SweepError::Record(error) => error.place(),
            SweepError::Unknown { .. }
            | SweepError::Nothing
            | SweepError::SeedsVary
            | SweepError::TooMany { .. }
            | SweepError::NoValidation { .. }
            | SweepError::Reproduces { .. }
            | SweepError::OtherImages { .. }
            | SweepError::Twice { .. } => None,
        }
    }

    fn suggestion(&self) -> Option<Suggestion> {
        let new = Suggestion::new;
        let reproduces = "in the file of a sweep that reproduces a published table, set reproduces = \"...\"";
        Some(match self {
            SweepError::Unknown { name } => match spelling::nearest(name, super::names()) {
                Some(nearest) => new().text(format!("did you mean `{nearest}`?")),
                None => {
                    let names = super::names().collect::<Vec<_>>().join(", ");
                    new().text(format!("the sweeps are {names}; or name a TOML file"))
                }
            },
            SweepError::Read { hint, .. } => return hint.clone().map(|hint| new().text(hint)),
            SweepError::UnknownKey { key, known, .. } => {
                Suggestion::nearest(key, known.iter().copied(), "the keys are")
            }
            SweepError::UnknownSplit { name, .. } => {
                Suggestion::nearest(name, ["train", "validation", "test"], "the splits are")
            }
            SweepError::Syntax { .. } => new().text(format!(
                "a sweep has the keys {}, and [[run]] with {}",
                file::KEYS.join(", "),
                file::RUN_KEYS.join(", ")
            )),
            SweepError::Nothing => {
                let vary = new().text("name a sweep, vary a key with").with(Argument::SetEach, "train.lr=1e-3,3e-4");
                vary.or().text("repeat with").with(Argument::Seeds, "1,2,3")
            }
            SweepError::SeedsVary => new().text("give the seeds only once, with").argument(Argument::Seeds),
            SweepError::Each { .. } => new().text("write it as").with(Argument::SetEach, "train.lr=1e-3,3e-4"),
            SweepError::TooMany { .. } => {
                new().text("vary fewer keys, or use fewer values or seeds: each seed of a setting is a run")
            }
            SweepError::TestSplit => {
                let winner = new().text("measure only the best setting with").argument(Argument::TestWinner);
                winner.text(format!("; {reproduces}"))
            }
            SweepError::Reproduces { .. } => {
                new().text("name the published table, or remove `reproduces`: validation then ranks the settings")
            }
            SweepError::NoValidation { reproduces: Some(table), .. } => {
                let text = format!("the sweep reproduces {table} and selects nothing: leave out");
                new().text(text).argument(Argument::TestWinner)
            }
            SweepError::NoValidation { .. } => new().set("data.val_fraction", 0.1).text(format!("; {reproduces}")),
            SweepError::NoTest { .. } => {
                new().text("leave out").argument(Argument::TestWinner).text(": validation ranks the runs")
            }
            SweepError::OtherImages { keys, .. } => {
                let fixed = new().text(format!("do not vary {}", keys.join(", ")));
                fixed
                    .or()
                    .text("leave out")
                    .argument(Argument::TestWinner)
                    .text("to train the runs without selecting one")
            }
            SweepError::Jobs { jobs, threads } => new().with(Argument::Jobs, *jobs.clamp(&1, threads)),
            SweepError::Twice { .. } => new().text("give each run its own name"),
            SweepError::Name { origin: Origin::Run, .. } => {
                new().text("use at most 255 letters, digits, `-`, `_` and `.`")
            }
            SweepError::Name { .. } => {
                new().text("names have at most 255 bytes: in a sweep file, give each [[run]] a name")
            }
            SweepError::SeedTwice { .. } => new().text("give each seed once"),
            SweepError::Seed { .. } => new().text("use seeds such as 1,2,3"),
            SweepError::Other { path, .. } => {
                let same = new().text("repeat the arguments it was made with (see analysis.md)");
                same.or().text("choose another").argument(Argument::Name).or().remove_file(path)
            }
            SweepError::InTheWay { .. } => {
                new().text("choose another").argument(Argument::Name).text("for this sweep").or().text("move it away")
            }
            SweepError::IsRun { .. } => new().text("choose another").argument(Argument::Name).text("for this sweep"),
            SweepError::Record(error) => return error.suggestion(),
        })
    }
}
