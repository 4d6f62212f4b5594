//! Where the time of a training step or an inference goes: by layer, by kind of operation, by call and by phase, measured on
//! this machine and set against what the machine can do at most.
//!
//! Steps with and without a profiler alternate, which gives the profiler's cost. The time of a row in a step is the time
//! that all threads together spend on it, divided by the number of threads: so all rows, with waiting and idle threads
//! among them, make up the time that passes. Each row is the median over the steps, so no single bad step carries it. Other
//! programs interrupt another row in each step; what the median step takes beyond all rows is a row of its own.

mod counters;
mod difference;
mod epoch;
mod error;
mod figures;
mod machine;
mod measure;
mod memory;
mod reasons;
mod rows;
mod trace;
mod words;

#[cfg(test)]
mod tests;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use counters::Counts;
pub use difference::{Difference, LayerDifference, difference};
pub use epoch::EpochProfile;
pub use error::ProfileError;
pub use figures::figures;
pub use machine::{Machine, Roof};
pub use measure::{Options, Profiler, alternate, measure};
pub use memory::MemoryProfile;
pub use reasons::Reason;

use crate::record::{RecordError, write_atomically};
use crate::regular;

/// Largest profile that is read.
const BYTES_MAX: u64 = 64 << 20;

/// Version of the file.
const VERSION: u32 = 1;

/// Deviation of the sum of the rows from the step that is still right.
pub const SUM_ERROR: f64 = 0.02;

/// Cost of the profiler that is still right.
pub const COST: f64 = 0.03;

/// Ratio of the 90th and the 10th percentile from which on times vary a lot.
const WIDE: f64 = 1.6;

/// The file of a profile in a run folder.
pub const FILE: &str = "profile.json";

/// What was profiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A training step.
    TrainingStep,
    /// The logits of a batch.
    Inference,
}

/// The profile of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Version of this description.
    pub version: u32,
    /// What was profiled.
    pub what: What,
    /// The name of the preset, file or run.
    pub model: String,
    /// Where.
    pub machine: Machine,
    /// Threads.
    pub threads: usize,
    /// Images in a step.
    pub batch: usize,
    /// Maximum number of images of a chunk.
    pub chunk: usize,
    /// Trained values.
    pub params: usize,
    /// Pairs of steps, with and without the profiler.
    pub pairs: usize,
    /// Steps without the profiler, in ms.
    pub step: Spread,
    /// The steps without the profiler one by one, in ms.
    #[serde(default)]
    pub steps_ms: Vec<f64>,
    /// How much slower the profiler makes a step.
    pub cost: Cost,
    /// Pieces of work that were not recorded, because there was no room for them; they count as waiting.
    #[serde(default)]
    pub dropped: usize,
    /// What the processor and the kernel counted in the steps without the profiler, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counters: Option<Counts>,
    /// The sum of the rows, in ms: the median step with the profiler.
    pub sum_ms: f64,
    /// What the machine can do at most.
    pub roof: Roof,
    /// By layer.
    pub layers: Vec<Row>,
    /// By kind of operation.
    pub kinds: Vec<Row>,
    /// By call.
    pub calls: Vec<Row>,
    /// By phase of a step.
    pub phases: Vec<Row>,
    /// Memory.
    pub memory: MemoryProfile,
}

/// The median of some measurements, and how they spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The median; earlier versions wrote a mean.
    #[serde(alias = "mean")]
    pub median: f64,
    /// The 10th percentile.
    pub p10: f64,
    /// The 90th percentile.
    pub p90: f64,
}

impl Spread {
    /// Whether slow measurements take much longer than fast ones.
    pub fn is_wide(&self) -> bool {
        self.p90 >= WIDE * self.p10
    }
}

/// The time of a step with the profiler divided by that of the one next to it without, minus 1: 0.01 is 1 % slower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// The median over the pairs.
    pub median: f64,
    /// Its 95 % interval; none with fewer than 6 pairs.
    pub interval: Option<[f64; 2]>,
}

impl Cost {
    /// The interval; without one, all that is up to the median.
    pub fn range(&self) -> [f64; 2] {
        self.interval.unwrap_or([f64::NEG_INFINITY, self.median])
    }
}

/// A row of a profile. All amounts are for one step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The names of what it covers, the main one first.
    pub names: Vec<String>,
    /// The main operation; empty for what belongs to no layer.
    pub op: String,
    /// What it computes, in the words of a config, such as `conv 32 + relu`; empty where `op` is, and in early profiles.
    #[serde(default)]
    pub operation: String,
    /// The shape of the main operation's result, without the batch axis; only rows by layer have it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shape: Vec<usize>,
    /// Its time in ms.
    pub ms: Spread,
    /// Its time in each step, in ms; only rows by layer have it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps_ms: Vec<f64>,
    /// Part of that in the forward pass.
    pub forward_ms: f64,
    /// Part of that in the backward pass.
    pub backward_ms: f64,
    /// Its part of the step.
    pub share: f64,
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes read and written, if no cache kept any.
    pub bytes: u64,
    /// How often its calls ran.
    pub runs: u64,
    /// Floating-point operations per second, in 10^9.
    pub gflops: f64,
    /// Floating-point operations per byte.
    pub intensity: f64,
    /// Time that the roof would take, divided by the time taken.
    pub roof_share: Option<f64>,
    /// What limits it.
    pub limit: Option<Limit>,
    /// Why it stays below half of the roof.
    pub reason: Option<Reason>,
    /// Bytes of activations that its forward pass stores, all threads together.
    pub held_bytes: u64,
    /// The layer and pass that uses them last.
    pub held_until: Option<String>,
}

/// What limits a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Floating-point operations.
    Compute,
    /// The traffic of memory.
    Memory,
    /// Neither: the row takes more than twice the time that both allow.
    Overhead,
}

impl Limit {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Limit::Compute => "compute",
            Limit::Memory => "memory",
            Limit::Overhead => "overhead",
        }
    }
}

impl Row {
    /// All names, those after the first without what they have in common with it.
    pub fn name(&self) -> String {
        let Some((first, others)) = self.names.split_first() else { return String::new() };
        let own = others.iter().map(|name| {
            let shared = first.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
            &name[first[..shared].rfind('.').map_or(0, |end| end + 1)..]
        });
        [first.as_str()].into_iter().chain(own).collect::<Vec<_>>().join(" + ")
    }

    /// Whether it belongs to a layer.
    pub fn is_layer(&self) -> bool {
        !self.op.is_empty()
    }
}

impl Profile {
    /// How far the sum of the rows is from the step without the profiler: 0.01 is 1 % more.
    pub fn sum_error(&self) -> f64 {
        self.sum_ms / self.step.median - 1.0
    }

    /// Whether the checks of the profile fail, so that its times need not be those of a quiet machine.
    pub fn is_doubtful(&self) -> bool {
        self.step.is_wide() || self.sum_error().abs() > SUM_ERROR || self.cost.range()[1] > COST
    }

    /// Reads a profile.
    ///
    /// # Errors
    /// When the file cannot be read, or is not a profile of this version.
    pub fn read(path: &Path) -> Result<Profile, ProfileError> {
        let bytes = regular::read(path, BYTES_MAX).map_err(|error| RecordError::read(path, &error))?;
        let wrong = |reason: String| ProfileError::File { path: path.to_path_buf(), reason };
        let profile: Profile = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        match profile.version {
            VERSION => Ok(profile),
            other => Err(wrong(format!("version {other}, but this program reads version {VERSION}"))),
        }
    }

    /// Writes it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ProfileError> {
        let text = serde_json::to_vec(self).expect("a profile has no other keys than strings");
        Ok(write_atomically(path, &text)?)
    }
}
