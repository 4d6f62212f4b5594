//! `manifest.json`: the facts under which a run was made, and what came of it.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Weights;
use crate::data::{ContentHashes, Forced, Normalization, PixelRanges, SkippedImage, SplitName};

/// The facts of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this file's layout.
    pub format: u32,
    /// Version of the program.
    pub version: String,
    /// The command line.
    pub command: Vec<String>,
    /// The preset from which its config was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// How far the run is.
    pub status: Status,
    /// When it started, UTC.
    pub started: String,
    /// When it ended, UTC.
    pub finished: Option<String>,
    /// Seed of everything random.
    pub seed: u64,
    /// The network in a few words.
    #[serde(default)]
    pub model: Option<String>,
    /// Number of trained values.
    pub parameters: usize,
    /// Floating-point operations of one image.
    #[serde(default)]
    pub flops: Option<FlopsRecord>,
    /// Optimizer steps of an epoch; absent where an earlier version started the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps_per_epoch: Option<u64>,
    /// The images.
    pub data: DataRecord,
    /// Where it ran.
    pub machine: MachineRecord,
    /// The weights that it started with, of a run that did not start from random values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<InitialRecord>,
    /// The pieces after the first, of a run that was resumed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resumed: Vec<Piece>,
    /// What it reached.
    pub results: Option<Results>,
    /// How many different results of the test split were seen: evaluating the same weights on the same images again does
    /// not count.
    pub test_evaluations: u64,
    /// What `evaluate` found, the last time for each split, kind of weights and data set.
    #[serde(default)]
    pub evaluations: Vec<EvaluationRecord>,
}

/// Floating-point operations of one image; a multiply-add is two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlopsRecord {
    /// Of the forward pass.
    pub forward: u64,
    /// Of the backward pass.
    pub backward: u64,
}

/// What `evaluate` found. Accuracies are fractions of 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// Which images.
    pub split: SplitName,
    /// Which weights.
    pub weights: Weights,
    /// SHA-256 of the weights file; absent where an earlier version noted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_sha256: Option<String>,
    /// The step after which they were these; absent where an earlier version noted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// The data set's name or folder.
    pub data: String,
    /// SHA-256 of the split's images; absent where an earlier version noted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Number of images.
    pub images: u64,
    /// Mean cross-entropy; absent if NaN or infinite.
    pub loss: Option<f64>,
    /// Fraction of images whose class has the largest logit, or of strips read correctly.
    pub top1: f64,
    /// Part of the images whose class is among the five largest logits; strips have no such thing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top5: Option<f64>,
    /// Of a reader, the width of the beam; 1 is greedy decoding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beam: Option<u64>,
}

impl Manifest {
    /// The version of the layout that this program writes.
    pub const FORMAT: u32 = 1;

    /// Finds an accuracy outside 0 to 1, with its key: this program did not write it.
    pub(super) fn impossible_accuracy(&self) -> Option<(&'static str, f64)> {
        let results = self.results.iter().flat_map(|results| {
            let Results { train_acc, val_acc, best_val_acc, .. } = *results;
            [("train_acc", train_acc), ("val_acc", val_acc), ("best_val_acc", best_val_acc)]
        });
        let found = self.evaluations.iter().flat_map(|found| [("top1", Some(found.top1)), ("top5", found.top5)]);
        let mut known = results.chain(found).filter_map(|(key, value)| Some((key, value?)));
        known.find(|(_, value)| !(0.0..=1.0).contains(value))
    }

    /// Notes an evaluation in the place of an earlier one of the same split and weights: of the run's own data, or of the
    /// same other images. Folders may share a name.
    pub fn note_evaluation(&mut self, evaluation: EvaluationRecord) {
        let own = self.data.name.clone();
        let images = |one: &EvaluationRecord| (one.data != own).then(|| one.fingerprint.clone());
        let key = |one: &EvaluationRecord| (one.split, one.weights, one.data.clone(), images(one), one.beam);
        self.evaluations.retain(|earlier| key(earlier) != key(&evaluation));
        self.evaluations.push(evaluation);
    }

    /// Returns what `evaluate` found on a split of the run's own data: of the best weights if it evaluated them, and
    /// of a reader with the smallest beam width.
    pub fn evaluation(&self, split: SplitName) -> Option<&EvaluationRecord> {
        self.evaluation_of(split, Weights::Best).or_else(|| self.evaluation_of(split, Weights::Last))
    }

    /// As [`Manifest::evaluation`], of these weights only. Results from before a resumed run changed the weights do not
    /// count.
    pub fn evaluation_of(&self, split: SplitName, weights: Weights) -> Option<&EvaluationRecord> {
        let own = self.evaluations.iter().filter(|one| one.split == split && one.data == self.data.name);
        let now = self.results.as_ref().and_then(|results| results.step_of(weights));
        let is_now = |one: &&EvaluationRecord| one.step.is_none() || now.is_none() || one.step == now;
        own.filter(|one| one.weights == weights).filter(is_now).min_by_key(|one| one.beam)
    }
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It has started. A run with this status but no process was killed.
    Running,
    /// All epochs are done.
    Finished,
    /// It stopped at its step limit.
    MaxSteps,
    /// It stopped at its time limit.
    MaxTime,
    /// It was interrupted, and has saved what it had reached.
    Interrupted,
    /// It stopped with an error.
    Failed,
}

impl Status {
    /// Whether the run reached the end that its config gives it: all epochs, or `max_steps`. Such a run is called finished:
    /// nothing is left to train, it can be compared, and its checkpoints are of no use but for training it further.
    pub fn is_finished(self) -> bool {
        matches!(self, Status::Finished | Status::MaxSteps)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Running => "running",
            Status::Finished => "finished",
            Status::MaxSteps => "step limit",
            Status::MaxTime => "time limit",
            Status::Interrupted => "interrupted",
            Status::Failed => "failed",
        })
    }
}

/// The images of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataRecord {
    /// The data set's name or folder.
    pub name: String,
    /// SHA-256 of the images and labels that were loaded.
    pub fingerprint: String,
    /// Names of the classes, by label.
    pub class_names: Vec<String>,
    /// Images that trained.
    pub train: usize,
    /// Images that validated.
    pub validation: usize,
    /// Images of the test split, which `train` does not open; absent without one, or where that leaves them uncounted.
    pub test: Option<usize>,
    /// How bytes became numbers.
    pub normalization: Normalization,
    /// Pictures that could not be decoded.
    pub skipped: Vec<SkippedImage>,
    /// Hashes without the names, of a folder's images; absent where an earlier version noted the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<ContentHashes>,
    /// Of a folder that was split by its files' bytes, the images that are not on the side of their hash. Earlier
    /// versions split by the files' places in their list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forced: Option<Forced>,
    /// Which pixels are usual in training images; absent where an earlier version noted the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixels: Option<PixelRanges>,
}

impl DataRecord {
    /// Whether these are the images of the run, split as they were, though files may have other names.
    pub fn are_same_images(&self, fingerprint: &str, content: Option<&ContentHashes>) -> bool {
        let in_order = |content: &ContentHashes| content.in_order.clone();
        let is_renamed = self.content.is_some() && self.content.as_ref().map(in_order) == content.map(in_order);
        self.fingerprint == fingerprint || is_renamed
    }
}

/// The weights file that a run started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitialRecord {
    /// The file.
    #[serde(serialize_with = "crate::text::lossy")]
    pub file: PathBuf,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Number of tensors that had the file's values.
    pub loaded: usize,
}

/// Where a run was made: on one kind of machine, equal runs give equal bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineRecord {
    /// Operating system.
    pub os: String,
    /// Kind of processor.
    pub arch: String,
    /// Instruction set of the kernels.
    pub instruction_set: String,
    /// Threads that computed.
    pub threads: usize,
    /// Processors that there are.
    pub processors: usize,
}

/// What a run reached. Accuracies are fractions of 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Epochs that were completed.
    pub epochs: u64,
    /// Optimizer steps.
    pub steps: u64,
    /// Mean loss over the steps of the last epoch.
    pub train_loss: Option<f64>,
    /// Mean accuracy over the steps of the last epoch.
    pub train_acc: Option<f64>,
    /// Accuracy on the validation split, last.
    pub val_acc: Option<f64>,
    /// Best accuracy on the validation split, where it chose `weights/best.safetensors`.
    pub best_val_acc: Option<f64>,
    /// The epoch that reached it, counted from 1.
    pub best_epoch: Option<u64>,
    /// The step after which it was reached.
    #[serde(default)]
    pub best_step: Option<u64>,
    /// Lowest mean training loss of `log_interval` steps, or of all where there were fewer, where it chose `weights/best.safetensors`.
    pub lowest_train_loss: Option<f64>,
    /// The step after which it was reached, counted from 1.
    pub lowest_step: Option<u64>,
    /// SHA-256 of `weights/last.safetensors`.
    pub last_sha256: Option<String>,
    /// SHA-256 of the names and values of its tensors, without the header; see `record::WeightsHashes`.
    #[serde(default)]
    pub last_tensors_sha256: Option<String>,
    /// Steps skipped because of a NaN or infinite value (`on_nonfinite = "skip"`).
    #[serde(default)]
    pub skipped_steps: u64,
    /// Returns to the start of an epoch (`on_nonfinite = "rollback"`).
    #[serde(default)]
    pub rollbacks: u32,
    /// Wall-clock time of the training, in seconds; of a run that was resumed, of all its pieces.
    pub seconds: f64,
}

impl Results {
    /// Whether weights were kept as the best.
    pub(super) fn kept_best(&self) -> bool {
        self.best_epoch.or(self.best_step).or(self.lowest_step).is_some()
    }

    /// The step after which weights were what they are now, where that is known.
    fn step_of(&self, weights: Weights) -> Option<u64> {
        match weights {
            Weights::Best => self.best_step.or(self.lowest_step),
            Weights::Last => Some(self.steps),
        }
    }
}

/// A piece of a run that was resumed: from one start of the program to its end, or to the next piece.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// When it started, UTC.
    pub started: String,
    /// Version of the program.
    pub version: String,
    /// The command line.
    pub command: Vec<String>,
    /// Steps that the run had before.
    pub from_step: u64,
    /// Where it ran.
    pub machine: MachineRecord,
    /// Settings that were changed, as `train.epochs 10, now 20`.
    pub changes: Vec<String>,
}
