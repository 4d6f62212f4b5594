//! What happens in a training, for those who watch.

use super::NonfiniteStep;
use crate::record::{EpochRow, RecordError};

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// A step was taken.
    Step(StepEvent),
    /// So many images of the validation split are done.
    Validated {
        /// Images done.
        done: usize,
        /// All of them.
        total: usize,
    },
    /// An epoch is over.
    Epoch {
        /// What it came to.
        row: &'a EpochRow,
        /// Whether no earlier epoch did better on the validation split.
        best: bool,
        /// Whether it was cut short and so cannot be the best, where the best is kept.
        is_cut: bool,
    },
    /// A step came to no finite number and was left out.
    Skipped(&'a NonfiniteStep),
    /// A step came to no finite number, and the training went back to the start of the epoch.
    RolledBack {
        /// The step.
        step: &'a NonfiniteStep,
        /// How often it has gone back.
        rollbacks: u32,
        /// What learning rates are multiplied by from now on.
        lr_factor: f64,
    },
    /// Something cannot be written, and is tried again.
    CannotWrite(&'a RecordError),
    /// All that could not be written is.
    WritesRecovered,
}

/// A step that was taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepEvent {
    /// Since the start of the run, counted from 1.
    pub step: u64,
    /// Counted from 1.
    pub epoch: u64,
    /// Its images.
    pub images: usize,
    /// Mean over the epoch so far.
    pub train_loss: f64,
    /// As `train_loss`.
    pub train_acc: f64,
}
