//! Sweeps: runs of variations of one config, from a list, a grid or both; their state and their results.
//!
//! A [`SweepFile`] is the file as written; [`expand`](SweepFile::expand) makes its settings. The run folders alone show
//! which runs are done ([`state_of`]), so an interrupted sweep resumes where it stopped. [`winner`] is the best setting
//! by the validation split; [`analysis`] describes the results in words.

mod analysis;
mod builtin;
mod conclude;
mod error;
mod file;
mod plan;
mod ranking;
mod run;
mod state;

pub use analysis::{AnalysisContext, analysis};
pub use builtin::{names, text};
pub use conclude::{Conclusion, Ended};
pub use error::{Origin, SweepError};
pub use file::{Each, RunEntry, SweepFile, Variation, folder_name};
pub use plan::{PlannedRun, RunsOn, Sweep, SweepOptions};
pub use ranking::{Setting, winner};
pub use run::{ClaimedSweep, FailedRun, SweepEvent, SweepListener};
pub use state::{State, state_of};
