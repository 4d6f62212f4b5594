//! Finds the smallest change of an architecture that makes training faster and the model more accurate.
//!
//! `rules` make the neighbors of a model, `candidates.rs` checks and combines them. Speed is measured first, because it is
//! cheap: each neighbor's step in alternation with the base's. Accuracy is measured by successive halving
//! (`choosing.rs`, `search.rs`): rounds of sweeps with growing numbers of images, on the validation split alone.
//! `finalists.rs` compares the finalists with the base by seeds and by images; only when one is chosen, the test split is
//! looked at. `answer.rs` says what came out.
//!
//! # Source
//! Successive halving: Jamieson and Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter
//! optimization".

mod answer;
mod base;
mod budget;
mod candidates;
mod choosing;
mod error;
mod finalists;
mod profiles;
mod record;
mod rules;
mod search;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use answer::{Answer, Outcome, Tried};
pub use base::Base;
pub use candidates::{Candidate, Distance, Neighborhood};
pub use error::AdviseError;
pub use finalists::Finalist;
pub use record::{Round, RoundKind};
pub use rules::{RULES, Rule};
pub use search::{AdviseEvent, AdviseListener, Advised, advise};

use crate::config::ResolvedConfig;
use crate::profile::{self, Profile, Profiler};
use crate::timing::{StepTimer, TimingError};

/// What may be changed, and what counts as a gain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scope {
    /// Names of the rules that are used; all where none are named.
    pub rules: Vec<String>,
    /// Layers or keys that must stay.
    pub keep: Vec<String>,
    /// Maximum number of parameters.
    pub max_params: Option<usize>,
    /// Maximum number of edits.
    pub max_edits: usize,
    /// The part of a step's time that a change is to save.
    pub faster: f64,
    /// By how much accuracy is to rise, as a fraction of 1.
    pub better: f64,
}

impl Default for Scope {
    fn default() -> Self {
        Scope { rules: Vec::new(), keep: Vec::new(), max_params: None, max_edits: 2, faster: 0.15, better: 0.015 }
    }
}

impl Scope {
    /// Whether both goals are met, by a step's time divided by the base's and a gain of accuracy.
    fn is_met(&self, ratio: f64, gain: f64) -> bool {
        1.0 - ratio >= self.faster && gain >= self.better
    }

    /// How well both goals are met. Below 1, a goal is missed by that part. Beyond the goals, what is gained counts less
    /// and less, and accuracy twice as much as time, because it is the less certain.
    fn score(&self, ratio: f64, gain: f64) -> f64 {
        let (time, accuracy) = ((1.0 - ratio) / self.faster, gain / self.better);
        let beyond = (time.max(1.0).ln() + 2.0 * accuracy.max(1.0).ln()) / 3.0;
        time.min(accuracy).min(1.0) * (1.0 + beyond)
    }
}

/// Options of a search that do not change what it looks for.
#[derive(Clone, Debug)]
pub struct AdviseOptions {
    /// The folder of the search.
    pub folder: PathBuf,
    /// Wall-clock time of the whole search, with all its starts.
    pub budget: Duration,
    /// Runs side by side.
    pub jobs: usize,
    /// The command, for the manifests.
    pub command: Vec<String>,
}

/// What measures for a search: timed steps, the time, and profiles. Tests have one of their own.
pub trait Stopwatch: Sync {
    /// A function that takes a training step of a config, with its augmentation, and returns its time, in seconds.
    ///
    /// # Errors
    /// When there is too little memory.
    fn steps(&self, config: &ResolvedConfig) -> Result<Box<dyn FnMut() -> f64>, TimingError>;

    /// Seconds since the search began.
    fn now(&self) -> f64;

    /// Profiles of two configs, which have these names; none where the machine cannot make them.
    fn profiles(&self, configs: [(&str, &ResolvedConfig); 2]) -> Option<[Profile; 2]>;
}

/// The clock of this machine.
pub struct Clock(Instant);

impl Clock {
    /// The search begins now.
    pub fn new() -> Self {
        Clock(Instant::now())
    }
}

impl Default for Clock {
    fn default() -> Self {
        Clock::new()
    }
}

impl Stopwatch for Clock {
    fn steps(&self, config: &ResolvedConfig) -> Result<Box<dyn FnMut() -> f64>, TimingError> {
        let mut timer = StepTimer::augmented_training(config)?;
        Ok(Box::new(move || timer.time()))
    }

    fn now(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }

    fn profiles(&self, configs: [(&str, &ResolvedConfig); 2]) -> Option<[Profile; 2]> {
        let options = |name: &str| profile::Options { name: name.to_string(), ..profile::Options::default() };
        let profilers = configs.map(|(name, config)| Profiler::new(config, options(name)).ok());
        let [Some(mut base), Some(mut own)] = profilers else { return None };
        Some(profile::alternate([&mut base, &mut own]))
    }
}
