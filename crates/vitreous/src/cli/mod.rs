//! The `vitreous` command: the only place that prints, exits and reads the environment.
//!
//! Data goes to stdout, progress and messages to stderr. Exit status: 0 for success, 2 for what the user can mend,
//! 1 for anything else.

mod error;

use std::process::ExitCode;

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
enum Verb {}

/// Runs the command line and returns the exit status.
pub fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

fn run(cli: Cli) -> Result<(), CliError> {
    match cli.verb {}
}
