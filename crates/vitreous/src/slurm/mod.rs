//! Jobs on a Slurm cluster: the batch scripts, the records of submitted jobs, what Slurm's commands say about them, and a
//! rehearsal without Slurm.
//!
//! A [`Script`] is text that a person can read and submit by hand. [`SubmittedJob`]s are noted in the folder `slurm/` of a
//! run or sweep. `queue.rs` reads the output of `squeue` and `sacct`; [`rows`] puts jobs and run folders together.

mod error;
mod jobs;
mod progress;
mod queue;
mod quote;
mod rehearse;
mod script;
mod status;

pub use error::{SlurmError, check_save};
pub use jobs::{JobFolder, SubmittedJob, find_jobs};
pub use progress::Progress;
pub use queue::{
    Found, JobState, Queue, SACCT_FORMAT, SQUEUE_FORMAT, Version, changed_by_cluster, parse_sacct, parse_squeue,
    parse_squeue_json,
};
pub use quote::{directive, quoted};
pub use rehearse::{BatchScript, Budget, Chain, ChainEvent, EqualRun, Rehearsed, rehearse};
pub use script::{Array, Script, Staged, Work, limit_text, memory_mebibytes, unicode};
pub use status::{Row, Shown, rows};
