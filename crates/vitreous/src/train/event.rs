//! Events of a training, for its listener.

use super::NonfiniteStep;
use crate::record::{EpochRow, RecordError};

/// Something that happens in a training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// A step was taken.
    Step(StepEvent),
    /// Validation makes progress.
    Validated {
        /// Images validated so far.
        done: usize,
        /// All of them.
        total: usize,
    },
    /// An epoch ended.
    Epoch {
        /// Its results.
        row: &'a EpochRow,
        /// Whether no earlier epoch did better on the validation split.
        best: bool,
        /// Whether it was cut short, so that it cannot be the best.
        is_cut: bool,
        /// What it took.
        times: EpochTimes,
    },
    /// A step with a NaN or infinite loss was skipped.
    Skipped(&'a NonfiniteStep),
    /// A step had a NaN or infinite loss, and the training rolled back to the start of the epoch.
    RolledBack {
        /// The step.
        step: &'a NonfiniteStep,
        /// Roll-backs so far.
        rollbacks: u32,
        /// The factor of learning rates from now on.
        lr_factor: f64,
    },
    /// Something cannot be written and will be tried again.
    CannotWrite(&'a RecordError),
    /// Everything that waited is written.
    WritesRecovered,
    /// The plots of the run cannot be written; it is complete in all other respects.
    NoPlots(&'a RecordError),
    /// The event file for TensorBoard cannot be written; the training does not depend on it.
    CannotWriteEvents(&'a RecordError),
}

/// Wall-clock times of an epoch, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EpochTimes {
    /// Its steps.
    pub train_s: f64,
    /// Validation.
    pub validation_s: f64,
    /// Copying the weights; they are written meanwhile.
    pub save_s: f64,
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
