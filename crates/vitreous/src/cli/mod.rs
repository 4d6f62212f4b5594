//! The `vitreous` command: the only place that prints, exits and reads the environment.
//!
//! Data goes to stdout, progress and messages to stderr. Exit status: 0 for success, 2 for what the user can mend,
//! 130 after Ctrl-C, SIGTERM or SIGUSR1, when what was reached is saved, 124 when `--max-time` is up, 1 for anything else.

/// Writes a message to stderr.
macro_rules! say {
    ($($words:tt)*) => { $crate::cli::screen::say(&format!($($words)*)) };
}

/// Makes one line of text: names in it can neither start another line nor control the terminal.
macro_rules! line {
    ($($words:tt)*) => { $crate::text::visible(&format!($($words)*)).into_owned() + "\n" };
}

mod advice;
mod bench;
mod class_scores;
mod compare;
mod data;
mod dry_run;
mod error;
mod evaluate;
mod fetch;
mod flags;
mod predict;
mod presets;
mod progress;
mod reading;
mod screen;
mod settings;
mod status;
mod strips;
mod summary;
mod sweep;
mod train;
mod verify;

use std::borrow::Cow;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use advice::Context;
use error::CliError;

use crate::text;

/// Trains, compares and looks inside small image classifiers.
#[derive(Parser)]
#[command(name = "vitreous", version, about)]
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
    Compare(compare::Args),
    Sweep(Box<sweep::Args>),
    Presets(presets::Args),
    Summary(summary::Args),
    Data(data::Args),
    Bench(bench::Args),
    Verify(Box<verify::Args>),
}

/// Runs the command line and returns the exit status.
pub fn main() -> ExitCode {
    let started = Instant::now();
    survive_file_size_limits();
    let parsed = command().try_get_matches().and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command()))?;
        Ok((cli, matches))
    });
    match parsed {
        Ok((cli, matches)) => run(cli, started).unwrap_or_else(|error| error.report(&Context::new(&matches))),
        Err(error) => refuse(&error),
    }
}

/// The command line as clap knows it, with help pages that fit into the terminal.
fn command() -> clap::Command {
    Cli::command().term_width(screen::help_columns())
}

/// Makes a write beyond `ulimit -f` an error like that of a full disk; else the signal ends the program.
#[cfg(unix)]
fn survive_file_size_limits() {
    // Nobody reads the flag: a signal that is caught ends nothing. Where it cannot be caught, all is as before.
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
}

#[cfg(not(unix))]
fn survive_file_size_limits() {}

/// Prints what is wrong with the command line, in colours unless an argument in it has to be escaped.
fn refuse(error: &clap::Error) -> ExitCode {
    let plain = error.render().to_string();
    match text::visible_lines(&plain) {
        Cow::Borrowed(_) => error.exit(),
        Cow::Owned(escaped) => {
            let _ = std::io::stderr().write_all(escaped.as_bytes());
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
    }
}

fn run(cli: Cli, started: Instant) -> Result<ExitCode, CliError> {
    match cli.verb {
        Verb::Train(args) => return train::run(args, started).map_err(|error| error.in_flags(true)),
        Verb::Sweep(args) => return sweep::run(*args).map_err(|error| error.in_flags(true)),
        Verb::Evaluate(args) => evaluate::run(args)?,
        Verb::Predict(args) => predict::run(args)?,
        Verb::Compare(args) => compare::run(args)?,
        Verb::Presets(args) => presets::run(args)?,
        Verb::Summary(args) => summary::run(args).map_err(|error| error.in_flags(false))?,
        Verb::Data(args) => data::run(args).map_err(|error| error.in_flags(false))?,
        Verb::Verify(args) => verify::run(*args).map_err(|error| error.in_flags(true))?,
        Verb::Bench(args) => bench::run(args).map_err(|error| error.in_flags(false))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A result as one line of JSON; what is no number becomes `null`.
fn json(value: &impl serde::Serialize) -> String {
    let json = serde_json::to_string(value).expect("results are plain numbers, texts and lists");
    text::visible_json(&json).into_owned() + "\n"
}

/// Writes a result to stdout; its line breaks are its own, as names in it went through [`line!`] or a table. Who reads it may stop early, as `head` does: the program then ends without complaint.
fn show(text: &str) -> Result<(), CliError> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text::visible_lines(text).as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        written => written.map_err(|error| {
            CliError::failure(format!("cannot write to stdout: {}", crate::system_errors::system_error(&error)), None)
        }),
    }
}
