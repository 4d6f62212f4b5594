//! Why a training cannot start or go on.

use std::path::PathBuf;

use thiserror::Error;

use super::NonfiniteStep;
use crate::advice::{Explain, Fault, Suggestion};
use crate::checkpoint::StateError;
use crate::record::{RAISE_FILE_SIZE, RecordError};
use crate::{numbers, system_errors};

/// The work of a sweep with --jobs, as errors call it.
pub const SIDE_BY_SIDE: &str = "training side by side";

/// The work of loading a folder of pictures, as errors call it.
pub(super) const DECODING: &str = "decoding the pictures";

/// What to do about a disk that is too full.
pub(super) const MORE_DISK: &str = "free some of it, or name a folder on another disk with --out";

/// Says why a training cannot start or go on.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum TrainError {
    /// A step needs more images than there are.
    #[error("{} is more than the {images} images that train ([train])", step(*batch_size, *grad_accum_steps))]
    Batch {
        /// Images that go through the model together.
        batch_size: usize,
        /// Batches of a step.
        grad_accum_steps: usize,
        /// Images that train.
        images: usize,
    },
    /// A batch norm would give the same for every image.
    #[error(
        "batch_size 1 gives the batchnorm at {layer} one value for each channel, from which nothing is learned ([train])"
    )]
    OneValue {
        /// Its place in the model.
        layer: String,
    },
    /// There is not enough memory.
    #[error(
        "{work} needs {} of memory, but {} are available",
        numbers::bytes(*needed),
        numbers::bytes(*available)
    )]
    Memory {
        /// What needs it.
        work: &'static str,
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that there are.
        available: u64,
        /// The part of `needed` that grows with the batch.
        activations: u64,
        /// Whether fewer images would take less.
        fewer_images: bool,
    },
    /// There is not enough space for the weights.
    #[error(
        "the weights need {} on the disk, but {} are left ({})",
        numbers::bytes(*needed),
        numbers::bytes(*available),
        path.display()
    )]
    Disk {
        /// Bytes that they take.
        needed: u64,
        /// Bytes that are left.
        available: u64,
        /// Where runs are.
        path: PathBuf,
    },
    /// The loss or the gradient is no number any more.
    #[error("{0}")]
    NotFinite(NonfiniteStep),
    /// No step of an epoch came to a finite number.
    #[error("every step of epoch {epoch} was left out: none came to a finite number (up to step {step})")]
    AllSkipped {
        /// Counted from 1.
        epoch: u64,
        /// Counted from 1.
        step: u64,
    },
    /// A state does not say what a training says.
    #[error("the state is none of a training: {reason} ({})", path.display())]
    State {
        /// Its tensors' file.
        path: PathBuf,
        /// What the parser says.
        reason: String,
    },
    /// A state cannot be used.
    #[error(transparent)]
    SavedState(#[from] StateError),
    /// The loss on the validation split is no number: the last steps went astray.
    #[error("the validation loss is {loss} after step {step} (epoch {epoch}, learning rate {})", numbers::number(*lr))]
    ValidationNotFinite {
        /// The loss.
        loss: f64,
        /// Counted from 1.
        step: u64,
        /// Counted from 1.
        epoch: u64,
        /// Learning rate of the step.
        lr: f64,
    },
    /// A step left weights that are no numbers.
    #[error("`{tensor}` holds values that are not finite after step {step} (learning rate {})", numbers::number(*lr))]
    WeightsNotFinite {
        /// The first tensor that does.
        tensor: String,
        /// Counted from 1.
        step: u64,
        /// Learning rate of the step.
        lr: f64,
    },
    /// The thread that writes cannot be started.
    #[error("cannot start a thread: {reason}")]
    Thread {
        /// What the system says.
        reason: String,
    },
    /// A record cannot be written.
    #[error(transparent)]
    Record(#[from] RecordError),
}

fn step(batch_size: usize, grad_accum_steps: usize) -> String {
    match grad_accum_steps {
        1 => format!("batch_size {batch_size}"),
        _ => format!("batch_size {batch_size} times grad_accum_steps {grad_accum_steps}"),
    }
}

/// Names only what the command of that work has: `evaluate` has --threads alone, `predict` not even that.
fn memory_hint(work: &str, is_for_the_batch: bool, fewer_images: bool) -> &'static str {
    match (work, is_for_the_batch, fewer_images) {
        (DECODING, ..) => "use fewer --threads, or smaller pictures",
        (SIDE_BY_SIDE, ..) => "use fewer --jobs, or end other programs",
        ("training" | "the epoch" | "the bench", true, _) => {
            "use a smaller --batch-size, fewer --threads, or a smaller model"
        }
        ("training", false, true) => "use a smaller model (embed_dim, depth), or fewer images with --limit-train",
        ("the epoch", false, true) => {
            "use a smaller model (embed_dim, depth), or fewer images with --set data.limit_train=N"
        }
        ("training" | "the epoch" | "the bench", false, _) => {
            "use a smaller model (embed_dim, depth), or end other programs"
        }
        ("evaluating", true, _) => "use fewer --threads, or end other programs",
        _ => "end other programs, or use a machine with more memory",
    }
}

impl Explain for TrainError {
    fn suggestion(&self) -> Option<Suggestion> {
        self.hint().map(|hint| Suggestion::new().text(hint))
    }

    fn fault(&self) -> Fault {
        match self {
            // Hours of work may lie before these: that is no bad input.
            TrainError::NotFinite(_)
            | TrainError::AllSkipped { .. }
            | TrainError::ValidationNotFinite { .. }
            | TrainError::WeightsNotFinite { .. }
            | TrainError::Record(_) => Fault::Work,
            TrainError::Batch { .. }
            | TrainError::Memory { .. }
            | TrainError::Disk { .. }
            | TrainError::Thread { .. }
            | TrainError::State { .. }
            | TrainError::OneValue { .. }
            | TrainError::SavedState(_) => Fault::Input,
        }
    }
}

impl TrainError {
    /// Says what to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            // `bench epoch` has no --grad-accum-steps.
            TrainError::Batch { images, grad_accum_steps, .. } if grad_accum_steps > images => {
                format!("use --set train.grad_accum_steps={images} or less, with --batch-size 1")
            }
            TrainError::Batch { images, grad_accum_steps, .. } => {
                format!("use --batch-size {} or less", images / grad_accum_steps)
            }
            TrainError::OneValue { .. } => {
                "use --batch-size 2 or more (statistics are those of one batch, also with grad_accum_steps), or leave \
                 that batchnorm out"
                    .to_string()
            }
            TrainError::Memory { work, needed, activations, fewer_images, .. } => {
                memory_hint(work, *activations > needed / 2, *fewer_images).to_string()
            }
            TrainError::Disk { .. } => MORE_DISK.to_string(),
            TrainError::NotFinite(NonfiniteStep { lr, .. }) => format!(
                "use a smaller --lr than {}, a longer --warmup-epochs, or --clip-grad 1; or go on without such steps: \
                 --resume RUN --on-nonfinite skip",
                numbers::number(*lr)
            ),
            TrainError::ValidationNotFinite { lr, .. } | TrainError::WeightsNotFinite { lr, .. } => {
                format!("use a smaller --lr than {}, a longer --warmup-epochs, or --clip-grad 1", numbers::number(*lr))
            }
            TrainError::AllSkipped { .. } => {
                "use a smaller --lr, or look for values in the data that are no pictures".to_string()
            }
            TrainError::State { .. } => "the file was changed by hand or by another version".to_string(),
            TrainError::SavedState(error) => return error.hint(),
            TrainError::Thread { .. } => {
                "raise the limits for threads and memory (ulimit -u, ulimit -v, or the container's)".to_string()
            }
            TrainError::Record(RecordError::Write { reason, .. }) if reason == system_errors::FILE_SIZE_LIMIT => {
                format!("{RAISE_FILE_SIZE}; then go on with vitreous train --resume RUN")
            }
            TrainError::Record(RecordError::Write { .. }) => {
                "make room, or let this user write there; then go on with vitreous train --resume RUN".to_string()
            }
            TrainError::Record(error) => return error.hint(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_of_memory_names_only_flags_that_the_command_has() {
        let hint = |work, activations, fewer_images| {
            let error = TrainError::Memory { work, needed: 100, available: 7, activations, fewer_images };
            error.hint().expect("there is a way out")
        };
        assert_eq!(hint("evaluating", 97, true), "use fewer --threads, or end other programs");
        let elsewhere = "end other programs, or use a machine with more memory";
        for (work, activations) in
            [("evaluating", 3), ("predicting", 97), ("predicting", 3), ("reading the weights", 3)]
        {
            assert_eq!(hint(work, activations, true), elsewhere, "{work}");
        }
        let of_batch = "use a smaller --batch-size, fewer --threads, or a smaller model";
        assert_eq!([hint("the bench", 97, false), hint("the epoch", 97, true)], [of_batch, of_batch]);
        let images = "use a smaller model (embed_dim, depth), or fewer images with --set data.limit_train=N";
        assert_eq!(hint("the epoch", 3, true), images);
        assert_eq!(hint(SIDE_BY_SIDE, 97, true), "use fewer --jobs, or end other programs");
    }

    #[test]
    fn a_hint_of_batches_says_the_largest_that_will_do() {
        let hint = |grad_accum_steps, images| {
            TrainError::Batch { batch_size: 64, grad_accum_steps, images }.hint().expect("there is a way out")
        };
        assert_eq!([hint(1, 97), hint(3, 97)], ["use --batch-size 97 or less", "use --batch-size 32 or less"]);
        assert_eq!(hint(5, 3), "use --set train.grad_accum_steps=3 or less, with --batch-size 1");
    }
}
