//! What happens in a training, for those who watch.

use crate::record::EpochRow;

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
    },
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
