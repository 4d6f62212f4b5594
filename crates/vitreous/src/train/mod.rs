//! Training: epochs of steps, validation after each, records of all of it. Prints nothing; the caller passes a
//! listener.
//!
//! A run is a function of config, seed and data. What happens outside (a signal, a limit of steps) decides only where
//! it ends.

mod board;
mod epoch;
mod error;
mod event;
mod examples;
mod job;
mod memory;
mod nonfinite;
mod optimizer;
mod position;
mod preflight;
mod rehearsal;
mod training;
mod writer;

#[cfg(test)]
mod tests;

pub use board::{confusion, graph_nodes, weights};
pub use error::{TrainError, Work};
pub use event::{EpochTimes, Event, StepEvent};
pub use examples::{Augmented, BufferPool, StepExamples, changes_of_epoch, order_of_epoch};
pub use job::{Initial, Job, limit_processors, threads};
pub use memory::{available_memory, check_decoding, check_memory, memory_needed, peak_bytes};
pub use nonfinite::{NonfiniteStep, ROLLBACKS};
pub use optimizer::optimizer;
pub use preflight::{Preflight, checkpoint_bytes};
pub use rehearsal::Rehearsal;
pub use training::{CheckpointInfo, Limits, Outcome, SaveEvery, Training};
