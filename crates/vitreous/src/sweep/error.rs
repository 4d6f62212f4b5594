//! What can be wrong with a sweep, and the way out.

use std::path::PathBuf;

use thiserror::Error;

use crate::advice::{Explain, Suggestion};
use crate::record::RecordError;
use crate::{numbers, spelling};

/// Says what is wrong with a sweep.
#[derive(Clone, Debug, PartialEq, Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum SweepError {
    /// There is neither a sweep nor a file of that name.
    #[error("no sweep or file is called `{name}`")]
    Unknown { name: String },
    /// The file cannot be read.
    #[error("cannot read the sweep: {reason} ({path})")]
    Read { path: String, reason: String, hint: Option<String> },
    /// The text is no sweep.
    #[error("{message} ({source_name}, line {line})")]
    Syntax { message: String, source_name: String, line: usize },
    /// Nothing varies.
    #[error("the sweep varies nothing")]
    Nothing,
    /// A varied key has no values.
    #[error("`{text}` is not a key and its values (--set-each)")]
    Each { text: String },
    /// Nobody has the time for so many.
    #[error("the sweep has more than {} runs", numbers::count(*most as u64))]
    TooMany { most: usize },
    /// Every run would be measured on the test split, and a choice made among them.
    #[error("a sweep chooses by the validation split and does not measure every run on the test split (evaluate)")]
    TestSplit,
    /// Nothing can be chosen.
    #[error("run {run} has no validation split, so the sweep cannot rank its settings (data.val_fraction)")]
    NoValidation { run: String, reproduces: Option<String> },
    /// The file does not say which table it reproduces.
    #[error("`reproduces` is empty ({source_name})")]
    Reproduces { source_name: String },
    /// What is chosen cannot be tested.
    #[error("the data of run {run} has no test split (--test-winner)")]
    NoTest { run: String },
    /// Accuracies on different images choose nothing.
    #[error(
        "runs {} are validated on different images, so the sweep cannot choose between them ({})",
        runs.join(" and "), keys.join(", ")
    )]
    OtherImages { runs: [String; 2], keys: Vec<&'static str> },
    /// More runs side by side than threads.
    #[error("jobs {jobs} is not between 1 and {threads}, the number of threads (--jobs)")]
    Jobs { jobs: usize, threads: usize },
    /// Two runs would have one folder.
    #[error("two runs of the sweep are called `{name}`")]
    Twice { name: String },
    /// A run's name is no name of a folder.
    #[error("`{name}` is no name of a run ({source_name})")]
    Name { name: String, source_name: String },
    /// A seed stands twice.
    #[error("seed {seed} stands twice ({source_name})")]
    SeedTwice { seed: u64, source_name: String },
    /// A seed is larger than configs can say.
    #[error("seed {seed} is not at most {} ({source_name})", i64::MAX)]
    Seed { seed: u64, source_name: String },
    /// The folder of a run holds a run with other settings.
    #[error("the run was made with other settings: {changes} ({})", path.display())]
    Other { path: PathBuf, changes: String },
    /// Something else lies where a run should.
    #[error("this is no run, but lies where one should be ({})", path.display())]
    InTheWay { path: PathBuf },
    /// The folder of the sweep is that of a run.
    #[error("this is a run, but lies where the sweep should be ({})", path.display())]
    IsRun { path: PathBuf },
    /// A record cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl Explain for SweepError {
    fn suggestion(&self) -> Option<Suggestion> {
        self.hint().map(|hint| Suggestion::new().text(hint))
    }
}

impl SweepError {
    /// Says what to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            SweepError::Unknown { name } => match spelling::nearest(name, super::names()) {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => format!("the sweeps are {}; or name a TOML file", super::names().collect::<Vec<_>>().join(", ")),
            },
            SweepError::Read { hint, .. } => return hint.clone(),
            SweepError::Syntax { message, .. } => {
                let names = if message.starts_with("unknown ") { spelling::quoted(message) } else { Vec::new() };
                let near = names.split_first().and_then(|(name, known)| spelling::nearest(name, known.iter().copied()));
                match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "a sweep has preset, config, set, each, seeds, evaluate, reproduces, and [[run]] with name, why, preset, config, set, seeds".to_string(),
                }
            }
            SweepError::Nothing => {
                "name a sweep, vary a key with --set-each train.lr=1e-3,3e-4, or repeat with --seeds 1,2,3".to_string()
            }
            SweepError::Each { .. } => "write it as --set-each train.lr=1e-3,3e-4".to_string(),
            SweepError::TooMany { .. } => {
                "vary fewer keys, or use fewer values or seeds: each seed of a setting is a run".to_string()
            }
            SweepError::TestSplit => {
                "measure the setting that was chosen with --test-winner; the file of a sweep that reproduces a published \
                 table says so with reproduces = \"...\""
                    .to_string()
            }
            SweepError::Reproduces { .. } => {
                "name the published table, or leave `reproduces` out: the sweep then ranks its settings by validation"
                    .to_string()
            }
            SweepError::NoValidation { reproduces: Some(table), .. } => {
                format!("the sweep reproduces {table} and chooses nothing: leave out --test-winner")
            }
            SweepError::NoValidation { .. } => {
                "use --val-fraction 0.1; the file of a sweep that reproduces a published table, and chooses nothing, says \
                 so with reproduces = \"...\""
                    .to_string()
            }
            SweepError::NoTest { .. } => "leave out --test-winner: the runs are ranked by validation".to_string(),
            SweepError::OtherImages { keys, .. } => format!(
                "do not vary {}, or leave out --test-winner: the runs are then made without a choice between them",
                keys.join(", ")
            ),
            SweepError::Jobs { jobs, threads } => format!("use --jobs {}", jobs.clamp(&1, threads)),
            SweepError::Twice { .. } => "give each a name of its own".to_string(),
            SweepError::Name { source_name, .. } if source_name == "[[run]]" => {
                "use at most 255 letters, digits, `-`, `_` and `.`".to_string()
            }
            SweepError::Name { .. } => {
                "it may have 255 bytes: in a file of a sweep, a [[run]] has a name of its own".to_string()
            }
            SweepError::SeedTwice { .. } => "give each seed once".to_string(),
            SweepError::Seed { .. } => "use seeds such as 1,2,3".to_string(),
            SweepError::Other { .. } => {
                "give the flags with which it was made (analysis.md names them), choose another --name, or remove that folder"
                    .to_string()
            }
            SweepError::InTheWay { .. } => "choose another --name for this sweep, or move it away".to_string(),
            SweepError::IsRun { .. } => "choose another --name for this sweep".to_string(),
            SweepError::Record(error) => return error.hint(),
        })
    }
}
