//! Experiments as a program uses them: a config becomes a run, an earlier run is resumed, a run is evaluated.
//!
//! [`Experiment`] does all of it in a few calls. The parts behind it, which the command line uses, are [`Prepared`] (a
//! config that agrees with its data), [`TrainingRun`] and [`EarlierRun`] (a run that is being trained or resumed), and
//! [`evaluate`]. Nothing here prints: what happens is passed to a [`Listener`].

mod activations;
mod choice;
mod error;
mod evaluation;
mod export;
mod facade;
mod initial;
mod plotting;
mod prepare;
mod reporting;
mod run;
mod samples;

pub use activations::{ActivationReport, compare_activations};
pub use choice::{first_layer, run_base, without_mnist};
pub use error::ExperimentError;
pub use evaluation::{EvaluateOptions, Evaluated, evaluate, load_weights, machine};
pub use export::{Exported, export_tensorboard};
pub(crate) use facade::unicode;
pub use facade::{Experiment, Trained};
pub use initial::{ImportOptions, Imported, adopt_source, import};
pub use plotting::{plot, plot_comparison};
use prepare::saved_config;
pub use prepare::{Prepared, fitted_config, inspect, square_facts, unused_files};
pub use reporting::{Words, bundled, report, report_comparison};
pub use run::{EarlierRun, TrainingRun};
pub use samples::{CLASSES_MAX, Sample, Samples, SamplesOptions, View, samples};

use crate::train;

/// Something that happens in an experiment.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// An adjusted value, or something unusual: a sentence.
    Note(&'a str),
    /// What was done, and what it took: a sentence for those who want to know more.
    Detail(&'a str),
    /// Image files are being read.
    Reading {
        /// Files read so far.
        done: usize,
        /// All of them.
        total: usize,
    },
    /// Images are being evaluated.
    Evaluating {
        /// Images evaluated so far.
        done: usize,
        /// All of them.
        total: usize,
    },
    /// A training makes progress.
    Training(train::Event<'a>),
}

/// Receives events, from any thread. `&|_| ()` ignores them.
pub type Listener<'a> = &'a (dyn Fn(Event) + Sync);
