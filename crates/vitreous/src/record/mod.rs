//! The run folder: config, records and results of a run. Each file is written whole or not at all.
//!
//! `runs/<name>/{config.toml, manifest.json, metrics.jsonl, timing.jsonl, results.csv, ledger.csv, plots/, slurm/,
//! state/, weights/{best,last}.safetensors}`.
//! Clocks are read into `timing.jsonl`, the manifest and TensorBoard's event file only: everything else is equal bit for
//! bit between equal runs.

mod claim;
mod error;
mod faults;
mod files;
mod folder;
mod history;
mod journal;
mod leftovers;
mod listing;
mod lock;
mod manifest;
mod place;
mod run;
mod time;

pub use claim::Claim;
pub(crate) use error::RAISE_FILE_SIZE;
pub use error::{InsteadOfRun, NoWeights, RecordError};
#[cfg(test)]
pub use faults::Faults;
pub use files::{Output, replace_file, seconds_to_write, sha256_of, sha256_of_bytes, write_atomically};
pub(crate) use files::{sha256_of_file, sync_folder};
pub use folder::Folder;
pub use history::{History, json_lines};
pub(crate) use journal::Lines;
pub use journal::{EpochRow, Journal, JournalLengths, MetricsLine, Validation, WeightsHashes};
pub use leftovers::was_begun;
pub use listing::{ListedRun, find_runs, remove_checkpoints, status_in_words};
pub use lock::Holder;
pub use manifest::{
    DataRecord, EvaluationRecord, FlopsRecord, InitialRecord, MachineRecord, Manifest, Piece, Results, Status,
};
pub use place::{Place, base_name, is_name};
pub(crate) use run::STATE;
pub use run::{NamedRun, PLOTS, Run, SLURM, Weights, find_run, is_run};
pub use time::{now_utc, seconds_of};
