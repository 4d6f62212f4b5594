//! Event files for TensorBoard: a run's scalars, histograms, images, graph and hyperparameters. Plain records in, files
//! out; nothing here knows the engine.
//!
//! The series have the names that PyTorch Lightning's users give theirs (`train_loss`, `val_acc`, `lr`). An event has the
//! time at which it happened, so two equal runs have equal files but for their times.

mod events;
mod file;
mod history;
mod hyperparameters;
mod messages;
mod pictures;
mod records;

pub use events::{
    GraphNode, Stamp, encoded, end, graph, histograms, hyperparameters as hyperparameters_event, image, scalars, tags,
};
pub use file::{EventFile, Subject, has_events, key, read, replace};
pub use history::{TimedHistory, epoch_event, line_event};
pub use hyperparameters::hyperparameters;
pub use messages::Event;
pub use pictures::enlarged;

/// The series with the confusion matrix of the validation split, epoch by epoch.
pub const VALIDATION_MATRIX: &str = "confusion_matrix/val";

#[cfg(test)]
mod tests;
