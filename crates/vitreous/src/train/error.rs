//! Errors of training, and what to do about them.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::NonfiniteStep;
use crate::advice::{Argument, Command, Explain, Fault, Place, Suggestion};
use crate::checkpoint::StateError;
use crate::numbers;
use crate::record::{RAISE_FILE_SIZE, RecordError};

/// What needs memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "their text says what they are")]
pub enum Work {
    Decoding,
    Training,
    SideBySide,
    Evaluating,
    ReadingWeights,
    ReadingImages,
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Work::Decoding => "decoding the images",
            Work::Training => "training",
            Work::SideBySide => "training side by side",
            Work::Evaluating => "evaluating",
            Work::ReadingWeights => "reading the weights",
            Work::ReadingImages => "reading the images",
        })
    }
}

/// An error of training.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum TrainError {
    /// A step needs more images than there are.
    #[error("{} is more than the {images} training images ([train])", step(*batch_size, *grad_accum_steps))]
    Batch {
        /// Images that go through the model together.
        batch_size: usize,
        /// Batches of a step.
        grad_accum_steps: usize,
        /// Training images.
        images: usize,
    },
    /// A batch norm would give the same result for every image.
    #[error(
        "batch_size 1 gives the batchnorm at {layer} one value for each channel, from which it cannot learn ([train])"
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
        work: Work,
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that are available.
        available: u64,
        /// The part of `needed` that grows with the batch.
        activations: u64,
        /// Whether fewer images would take less.
        fewer_images: bool,
    },
    /// There is not enough space for the weights.
    #[error(
        "the weights need {} on the disk, but {} are free ({})",
        numbers::bytes(*needed),
        numbers::bytes(*available),
        path.display()
    )]
    Disk {
        /// Bytes that they take.
        needed: u64,
        /// Bytes that are free.
        available: u64,
        /// Where runs are.
        path: PathBuf,
    },
    /// The loss or the gradient is NaN or infinite.
    #[error("{0}")]
    NotFinite(NonfiniteStep),
    /// Every step of an epoch was skipped.
    #[error("every step of epoch {epoch} was skipped: all had NaN or infinite losses or gradients (up to step {step})")]
    AllSkipped {
        /// Counted from 1.
        epoch: u64,
        /// Counted from 1.
        step: u64,
    },
    /// A checkpoint lacks what a training needs.
    #[error("the checkpoint is not that of a training: {reason} ({})", path.display())]
    State {
        /// Its tensors' file.
        path: PathBuf,
        /// The parser's message.
        reason: String,
    },
    /// A checkpoint cannot be used.
    #[error(transparent)]
    SavedState(#[from] StateError),
    /// The validation loss is NaN or infinite.
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
        /// The configured learning rate.
        base_lr: f64,
    },
    /// A step made weights NaN or infinite.
    #[error("`{tensor}` holds NaN or infinite values after step {step} (learning rate {})", numbers::number(*lr))]
    WeightsNotFinite {
        /// The first tensor that does.
        tensor: String,
        /// Counted from 1.
        step: u64,
        /// Learning rate of the step.
        lr: f64,
        /// The configured learning rate.
        base_lr: f64,
    },
    /// The thread that writes cannot be started.
    #[error("cannot start a thread: {reason}")]
    Thread {
        /// The system's message.
        reason: String,
    },
    /// A record cannot be written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// An error in a run that can be resumed.
    #[error("{error}")]
    InRun {
        /// The run folder.
        run: PathBuf,
        /// What happened.
        error: Box<TrainError>,
    },
}

fn step(batch_size: usize, grad_accum_steps: usize) -> String {
    match grad_accum_steps {
        1 => format!("batch_size {batch_size}"),
        _ => format!("batch_size {batch_size} times grad_accum_steps {grad_accum_steps}"),
    }
}

impl Explain for TrainError {
    fn key(&self) -> Option<String> {
        match self {
            TrainError::Batch { .. } | TrainError::OneValue { .. } => Some("train.batch_size".to_string()),
            TrainError::InRun { error, .. } => error.key(),
            _ => None,
        }
    }

    fn place(&self) -> Option<Place> {
        match self {
            TrainError::Disk { path, .. } | TrainError::State { path, .. } => Some(Place::Path(path.clone())),
            TrainError::SavedState(error) => error.place(),
            TrainError::Record(error) => error.place(),
            TrainError::InRun { error, .. } => error.place(),
            _ => None,
        }
    }

    fn suggestion(&self) -> Option<Suggestion> {
        let new = Suggestion::new;
        Some(match self {
            TrainError::Batch { images, grad_accum_steps, .. } if grad_accum_steps > images => {
                let less = new().set("train.grad_accum_steps", *images).text("or less, with");
                less.set("train.batch_size", 1)
            }
            TrainError::Batch { images, grad_accum_steps, .. } => {
                new().set("train.batch_size", images / grad_accum_steps).text("or less")
            }
            TrainError::OneValue { .. } => {
                let more = new().set("train.batch_size", 2);
                let more = more.text("or more (statistics are those of one batch, also with grad_accum_steps)");
                more.or().text("leave out that batchnorm")
            }
            TrainError::Memory { work, needed, activations, fewer_images, .. } => {
                less_memory(*work, *activations > needed / 2, *fewer_images)
            }
            TrainError::Disk { .. } => more_disk(),
            TrainError::NotFinite(NonfiniteStep { base_lr, .. })
            | TrainError::ValidationNotFinite { base_lr, .. }
            | TrainError::WeightsNotFinite { base_lr, .. } => smaller_steps(*base_lr),
            TrainError::AllSkipped { .. } => {
                new().using("a smaller").key("train.lr").or().text("look for invalid values in the data")
            }
            TrainError::State { .. } => new().text("the file was changed by hand or by another version"),
            TrainError::SavedState(error) => return error.suggestion(),
            TrainError::Thread { .. } => {
                new().text("raise the limits for threads and memory (ulimit -u, ulimit -v, or the container's)")
            }
            TrainError::Record(error) => return error.suggestion(),
            TrainError::InRun { run, error } => match &**error {
                TrainError::NotFinite(NonfiniteStep { base_lr, .. }) => {
                    let skip = Command::resume(run).set("train.on_nonfinite", "skip");
                    smaller_steps(*base_lr).or().text("skip such steps:").run(skip)
                }
                TrainError::Record(RecordError::Write { kind: ErrorKind::FileTooLarge, .. }) => {
                    new().text(RAISE_FILE_SIZE).text("; then run").run(Command::resume(run))
                }
                _ => {
                    let room = new().text("make room, or let this user write there; then run");
                    room.run(Command::resume(run))
                }
            },
        })
    }

    fn fault(&self) -> Fault {
        match self {
            // Hours of work may come before these: they are not bad input.
            TrainError::InRun { .. }
            | TrainError::NotFinite(_)
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
    /// Adds the run in which the error happened: it can be resumed.
    pub(super) fn in_run(self, run: &Path) -> TrainError {
        match self {
            TrainError::NotFinite(_) | TrainError::Record(RecordError::Write { .. }) => {
                TrainError::InRun { run: run.to_path_buf(), error: Box::new(self) }
            }
            error => error,
        }
    }
}

/// What to do about a disk that is too full.
pub(super) fn more_disk() -> Suggestion {
    let other = Suggestion::new().text("free some of it").or();
    other.text("name a folder on another disk with").argument(Argument::Out)
}

/// What to do about a training that diverges with this configured learning rate.
fn smaller_steps(base_lr: f64) -> Suggestion {
    let smaller =
        Suggestion::new().using("a smaller").key("train.lr").text(format!("than {}", numbers::number(base_lr)));
    smaller.or().using("a longer").key("train.warmup_epochs").or().set("train.clip_grad", 1)
}

fn less_memory(work: Work, is_for_the_batch: bool, fewer_images: bool) -> Suggestion {
    let new = Suggestion::new;
    let fewer_threads = |ways: Suggestion| ways.using("fewer").key("train.threads");
    let smaller_model = |ways: Suggestion| ways.using("a smaller model (embed_dim, depth)");
    match (work, is_for_the_batch, fewer_images) {
        (Work::Decoding, ..) => fewer_threads(new()).or().using("smaller images"),
        (Work::SideBySide, ..) => new().using("fewer").argument(Argument::Jobs).or().text("end other programs"),
        (Work::Training, true, _) => {
            let smaller = fewer_threads(new().using("a smaller").key("train.batch_size").or());
            smaller.or().using("a smaller model")
        }
        (Work::Training, false, true) => {
            smaller_model(new()).or().using("fewer images with a smaller").key("data.limit_train")
        }
        (Work::Training, false, false) => smaller_model(new()).or().text("end other programs"),
        // A command without threads ends other programs.
        (Work::Evaluating, true, _) => fewer_threads(new()).or().text("end other programs"),
        (Work::Evaluating | Work::ReadingWeights | Work::ReadingImages, ..) => {
            new().text("end other programs").or().using("a machine with more memory")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_of_memory_fits_the_work() {
        let hint = |work, activations, fewer_images| {
            let error = TrainError::Memory { work, needed: 100, available: 7, activations, fewer_images };
            error.hint().expect("there is a hint")
        };
        assert_eq!(hint(Work::Evaluating, 97, true), "use fewer train.threads, or end other programs");
        let elsewhere = "end other programs, or use a machine with more memory";
        for work in [Work::Evaluating, Work::ReadingWeights, Work::ReadingImages] {
            assert_eq!(hint(work, 3, true), elsewhere);
        }
        let of_batch = "use a smaller train.batch_size, fewer train.threads, or a smaller model";
        assert_eq!([hint(Work::Training, 97, false), hint(Work::Training, 97, true)], [of_batch, of_batch]);
        let images = "use a smaller model (embed_dim, depth), or fewer images with a smaller data.limit_train";
        assert_eq!(hint(Work::Training, 3, true), images);
        assert_eq!(hint(Work::SideBySide, 97, true), "use fewer jobs, or end other programs");
    }

    #[test]
    fn a_hint_of_batches_says_the_largest_that_will_do() {
        let hint = |grad_accum_steps, images| {
            TrainError::Batch { batch_size: 64, grad_accum_steps, images }.hint().expect("there is a hint")
        };
        let whole = ["use train.batch_size = 97 or less", "use train.batch_size = 32 or less"];
        assert_eq!([hint(1, 97), hint(3, 97)], whole);
        assert_eq!(hint(5, 3), "use train.grad_accum_steps = 3 or less, with train.batch_size = 1");
    }

    #[test]
    fn a_training_that_diverges_in_the_warm_up_is_to_use_less_than_the_configured_learning_rate() {
        let hint = |error: TrainError| error.hint().expect("there is a hint");
        let expected = "use a smaller train.lr than 0.5, a longer train.warmup_epochs, or train.clip_grad = 1";
        let (step, lr, base_lr) = (7, 0.01, 0.5);
        let bad_step = NonfiniteStep { step, epoch: 1, lr, base_lr, loss: f64::NAN, gradient_norm: 1.0, first: None };
        assert_eq!(hint(TrainError::NotFinite(bad_step)), expected);
        assert_eq!(hint(TrainError::WeightsNotFinite { tensor: "a".to_string(), step, lr, base_lr }), expected);
    }

    #[test]
    fn an_error_in_a_run_says_how_that_run_is_resumed() {
        let write = |kind| RecordError::Write { path: "runs/a/weights".into(), kind, reason: "full".to_string() };
        let hint = |error: TrainError| error.in_run(Path::new("runs/a")).hint().expect("there is a hint");
        let full = "make room, or let this user write there; then run train resume = runs/a";
        assert_eq!(hint(write(ErrorKind::StorageFull).into()), full);
        let limit = "raise the file size limit: ulimit -f unlimited; then run train resume = runs/a";
        assert_eq!(hint(write(ErrorKind::FileTooLarge).into()), limit);
    }
}
