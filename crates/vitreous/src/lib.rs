//! Trains, evaluates and compares small image classifiers on a CPU.
//!
//! Start with [`Experiment`]: a preset or a config file, some keys, then [`Experiment::train`]. The run folder that it
//! writes can be evaluated ([`Trained::evaluate`](experiment::Trained::evaluate), [`experiment::evaluate`]), used
//! ([`Classifier::load`], then [`Classifier::predict`] names the classes of image files) and compared ([`compare`]). The
//! `examples` folder has whole programs.
//!
//! ```
//! use vitreous::{Classifier, Experiment};
//! use vitreous::experiment::{EvaluateOptions, Event};
//! use vitreous::train;
//!
//! # fn main() -> Result<(), vitreous::experiment::ExperimentError> {
//! # let folder = std::env::temp_dir().join(format!("vitreous-example-{}", std::process::id()));
//! let run = Experiment::preset("digits")?
//!     .set("data.limit_train", 60)?
//!     .set("train.batch_size", 20)?
//!     .set("train.epochs", 1)?
//!     .out(&folder)
//!     .train(&|event| match event {
//!         Event::Training(train::Event::Epoch { row, .. }) => println!("loss {}", row.train_loss),
//!         _ => {}
//!     })?;
//! let evaluated = run.evaluate(&EvaluateOptions::default(), &|_| ())?;
//! println!("test accuracy {}", evaluated.report.reached.accuracy());
//!
//! for answer in Classifier::load(run.folder())?.predict(&["photo.png"]) {
//!     match answer {
//!         Ok(answer) => println!("{} {:?}", answer.value[0].class, answer.warning),
//!         Err(error) => println!("{error}"),
//!     }
//! }
//! # let _ = std::fs::remove_dir_all(folder);
//! # Ok(())
//! # }
//! ```
//!
//! Errors have two parts: what is wrong (`Display`), and what to do about it ([`advice`]).
//!
//! A module uses the layers above it in the list below, never those under it (ARCHITECTURE.md has the reasons).

#![deny(unsafe_code)]
#![warn(missing_docs)]

pub(crate) mod csv;
pub(crate) mod durations;
#[doc(hidden)]
pub mod numbers;
pub(crate) mod parallel;
pub(crate) mod random;
pub(crate) mod spelling;
pub(crate) mod system_errors;
pub(crate) mod text;

pub mod advice;
pub mod data_sets;
pub(crate) mod layout;
pub mod plot;
pub(crate) mod regular;

pub mod config;
pub mod report;

pub mod data;
pub mod models;

pub mod record;

pub mod checkpoint;
pub mod fetch;
pub mod tensorboard;

pub mod evaluate;
pub mod import;

pub mod plots;
pub mod train;

pub mod predict;

pub mod compare;

pub mod timing;

pub mod profile;

pub mod experiment;

pub mod sweep;
pub mod verify;

pub mod advise;
pub mod slurm;

#[doc(hidden)]
pub mod cli;

pub use evaluate::Classifier;
pub use experiment::Experiment;
