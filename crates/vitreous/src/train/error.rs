//! Why a training cannot start or go on.

use thiserror::Error;

use crate::record::RecordError;
use crate::units;

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
    /// There is not enough memory.
    #[error(
        "{work} needs {} of memory, but {} are available",
        units::bytes(*needed),
        units::bytes(*available)
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
    /// The loss or the gradient is no number any more.
    #[error("the loss is {loss} at step {step} (epoch {epoch}, learning rate {})", units::number(*lr))]
    NotFinite {
        /// The loss.
        loss: f64,
        /// Counted from 1.
        step: u64,
        /// Counted from 1.
        epoch: u64,
        /// Learning rate of the step.
        lr: f64,
    },
    /// The gradient is no number any more, the loss still is.
    #[error("the gradient's norm is {norm} at step {step} (epoch {epoch}, learning rate {})", units::number(*lr))]
    GradientNotFinite {
        /// The norm.
        norm: f64,
        /// Counted from 1.
        step: u64,
        /// Counted from 1.
        epoch: u64,
        /// Learning rate of the step.
        lr: f64,
    },
    /// The loss on the validation split is no number: the last steps went astray.
    #[error("the validation loss is {loss} after step {step} (epoch {epoch}, learning rate {})", units::number(*lr))]
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
    #[error("`{tensor}` holds values that are not finite after step {step} (learning rate {})", units::number(*lr))]
    WeightsNotFinite {
        /// The first tensor that does.
        tensor: String,
        /// Counted from 1.
        step: u64,
        /// Learning rate of the step.
        lr: f64,
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

impl TrainError {
    /// Says what to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            TrainError::Batch { images, grad_accum_steps: 2.., .. } => {
                format!("use a --batch-size and --grad-accum-steps whose product is at most {images}")
            }
            TrainError::Batch { images, .. } => {
                format!("use --batch-size {images} or less")
            }
            TrainError::Memory { needed, activations, .. } if *activations > needed / 2 => {
                "use a smaller --batch-size, fewer --threads, or a smaller model".to_string()
            }
            TrainError::Memory { fewer_images: false, .. } => {
                "use a smaller model (embed_dim, depth), or end other programs".to_string()
            }
            TrainError::Memory { .. } => {
                "use a smaller model (embed_dim, depth), or fewer images with --limit-train".to_string()
            }
            TrainError::NotFinite { lr, .. }
            | TrainError::GradientNotFinite { lr, .. }
            | TrainError::ValidationNotFinite { lr, .. }
            | TrainError::WeightsNotFinite { lr, .. } => {
                format!("use a smaller --lr than {}, a longer --warmup-epochs, or --clip-grad 1", units::number(*lr))
            }
            TrainError::Record(error) => return error.hint(),
        })
    }
}
