//! The `vitreous` command: the only place that prints, exits and reads the environment.
//!
//! Data goes to stdout, progress and messages to stderr. Exit status: 0 for success, 2 for what the user can mend,
//! 130 after Ctrl-C or SIGTERM, when what was reached is saved, 1 for anything else.

mod bench;
mod data;
mod error;
mod evaluate;
mod flags;
mod predict;
mod progress;
mod reading;
mod settings;
mod summary;
mod table;
mod train;

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};

use error::CliError;

/// Trains, compares and looks inside small image classifiers.
#[derive(Parser)]
#[command(name = "vitreous", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

/// What to do; one module for each.
#[derive(Subcommand)]
enum Verb {
    Train(train::Args),
    Evaluate(evaluate::Args),
    Predict(predict::Args),
    Summary(summary::Args),
    Data(data::Args),
    Bench(bench::Args),
}

/// Runs the command line and returns the exit status.
pub fn main() -> ExitCode {
    let started = Instant::now();
    run(Cli::parse(), started).unwrap_or_else(|error| error.report())
}

fn run(cli: Cli, started: Instant) -> Result<ExitCode, CliError> {
    match cli.verb {
        Verb::Train(args) => return train::run(args, started),
        Verb::Evaluate(args) => evaluate::run(args)?,
        Verb::Predict(args) => predict::run(args)?,
        Verb::Summary(args) => summary::run(args)?,
        Verb::Data(args) => data::run(args)?,
        Verb::Bench(args) => bench::run(args)?,
    }
    Ok(ExitCode::SUCCESS)
}
