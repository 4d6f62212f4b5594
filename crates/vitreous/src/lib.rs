//! Trains, compares and looks inside small image classifiers.
//!
//! A module uses the layers above it in this list, never those below (ARCHITECTURE.md has the reasons).

#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod csv;
pub mod durations;
pub mod numbers;
pub mod parallel;
pub mod random;
pub mod spelling;
pub mod system_errors;
pub mod text;

pub mod advice;
pub mod data_sets;
pub mod layout;
pub mod regular;

pub mod config;

pub mod data;
pub mod models;

pub mod record;

pub mod checkpoint;
pub mod fetch;

pub mod evaluate;

pub mod train;

pub mod predict;

pub mod compare;

pub mod experiment;

pub mod sweep;
pub mod verify;

pub mod cli;

pub use evaluate::Classifier;
pub use experiment::Experiment;
