//! The `vitreous` command: the only place that prints, exits and reads the environment.
//!
//! Data goes to stdout, progress and messages to stderr. Exit status: 0 for success, 2 for errors the user can
//! fix, 130 after Ctrl-C, SIGTERM, SIGUSR1 or SIGUSR2 (with a checkpoint saved), 124 after `--max-time`, 1 for anything else.

/// Writes a message to stderr, unless `--quiet` is given.
macro_rules! say {
    ($($words:tt)*) => {
        if $crate::cli::verbosity::verbosity() > $crate::cli::verbosity::Verbosity::Quiet {
            complain!($($words)*);
        }
    };
}

/// Writes a detail to stderr, with `--verbose`.
macro_rules! detail {
    ($($words:tt)*) => {
        if $crate::cli::verbosity::verbosity() == $crate::cli::verbosity::Verbosity::Verbose {
            complain!($($words)*);
        }
    };
}

/// Writes an error to stderr.
macro_rules! complain {
    ($($words:tt)*) => { $crate::cli::screen::say(&format!($($words)*)) };
}

/// Makes one line of text: names in it can neither start another line nor control the terminal.
macro_rules! line {
    ($($words:tt)*) => { $crate::text::visible(&format!($($words)*)).into_owned() + "\n" };
}

mod advice;
mod advise;
mod bench;
mod class_scores;
mod compare;
mod data;
mod data_show;
mod dry_run;
mod error;
mod evaluate;
mod export;
mod fetch;
mod flags;
mod half_blocks;
mod import;
mod models;
mod output;
mod pages;
mod plot;
mod plots;
mod predict;
mod presets;
mod profile;
mod progress;
mod reading;
#[cfg(test)]
mod reference;
mod report;
mod runs;
mod screen;
mod settings;
mod slurm;
mod status;
mod strips;
mod summary;
mod sweep;
mod sweeps;
mod train;
mod usage;
mod verbosity;
mod verify;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use advice::{Context, asks_for_json};
use error::CliError;

use crate::{spelling, text};

/// The exit statuses, printed below the help pages.
const EXIT_STATUS: &str = "\
Exit status:
  0    success
  1    an error at run time, such as a full disk or a NaN loss
  2    invalid arguments, config or data
  124  stopped by --max-time; `vitreous train --resume RUN` continues
  130  interrupted (Ctrl-C, SIGTERM, SIGUSR1, SIGUSR2) after saving a checkpoint";

/// Names that other programs use for these commands.
const OTHER_NAMES: [(&str, &str); 37] = [
    ("architecture", "advise"),
    ("benchmark", "bench"),
    ("classify", "predict"),
    ("clean", "runs clean"),
    ("complete", "completions"),
    ("convert", "import"),
    ("datasets", "data list"),
    ("diff", "compare"),
    ("download", "data fetch"),
    ("eval", "evaluate"),
    ("fetch", "data fetch"),
    ("fit", "train"),
    ("grid", "sweep"),
    ("improve", "advise"),
    ("infer", "predict"),
    ("inference", "predict"),
    ("info", "summary"),
    ("list", "runs"),
    ("load", "import"),
    ("ls", "runs"),
    ("nas", "advise"),
    ("pretrained", "import --pretrained"),
    ("resume", "train --resume RUN"),
    ("run", "train"),
    ("sbatch", "slurm train"),
    ("scancel", "slurm cancel"),
    ("score", "evaluate"),
    ("search", "sweep"),
    ("show", "summary"),
    ("squeue", "slurm status"),
    ("start", "train"),
    ("tensorboard", "export tensorboard"),
    ("test", "evaluate"),
    ("tune", "sweep"),
    ("val", "evaluate"),
    ("validate", "evaluate"),
    ("validation", "evaluate"),
];

/// Trains, compares and inspects small image classifiers.
#[derive(Parser)]
#[command(name = "vitreous", version, about, after_help = EXIT_STATUS)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    verbosity: verbosity::VerbosityArgs,
}

/// What to do; one module for each.
#[derive(Subcommand)]
enum Verb {
    Train(train::Args),
    Evaluate(evaluate::Args),
    Predict(predict::Args),
    Compare(compare::Args),
    Plot(plot::Args),
    Report(report::Args),
    Sweep(Box<sweep::Args>),
    Runs(runs::Args),
    Export(export::Args),
    Import(import::Args),
    Presets(presets::Args),
    Models(models::Args),
    Sweeps(sweeps::Args),
    Summary(summary::Args),
    Data(data::Args),
    Bench(bench::Args),
    Profile(Box<profile::Args>),
    Advise(Box<advise::Args>),
    Verify(Box<verify::Args>),
    Slurm(slurm::Args),
    Completions(pages::CompletionsArgs),
    Man(pages::ManArgs),
}

/// Runs the command line and returns the exit status.
pub fn main() -> ExitCode {
    let started = Instant::now();
    survive_file_size_limits();
    let parsed = command().try_get_matches_from(words_given()).and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command()))?;
        Ok((cli, matches))
    });
    match parsed {
        Ok((cli, matches)) => {
            cli.verbosity.apply(asks_for_json(std::env::args_os()));
            run(cli, started).unwrap_or_else(|error| error.report(&Context::new(&matches)))
        }
        Err(error) if !error.use_stderr() => error.exit(),
        Err(error) => {
            let context = Context::new(&clap::ArgMatches::default());
            match unknown_command(&error).or_else(|| unknown_flag(&error)) {
                Some(unknown) => unknown.report(&context),
                None if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
                None => usage::usage_error(&error).report(&context),
            }
        }
    }
}

/// The error for an unknown command, with a suggestion.
fn unknown_command(error: &clap::Error) -> Option<CliError> {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else { return None };
    // For subcommands, clap lists the known ones.
    if std::env::args().nth(1).as_deref() != Some(word) {
        return None;
    }
    Some(CliError::user(format!("unknown command `{word}`"), Some(instead_of(word))))
}

/// The hint for an unknown command.
fn instead_of(word: &str) -> String {
    let parser = Cli::command();
    let verbs = || parser.get_subcommands().map(clap::Command::get_name);
    let other = OTHER_NAMES.iter().find(|(other, _)| *other == word).map(|(_, verb)| *verb);
    match other.or_else(|| spelling::nearest(word, verbs())) {
        Some(verb) => format!("did you mean `vitreous {verb}`?"),
        None if presets::is_preset(word) => format!("train a preset with `vitreous train {word}`"),
        None => "`vitreous --help` lists the commands".to_string(),
    }
}

/// The words of the command line. A number behind a flag that takes its value only after `=` becomes that value.
fn words_given() -> Vec<OsString> {
    joined(std::env::args_os())
}

/// Flags that need no value, and take one only after `=`.
const OPTIONAL_VALUE: [&str; 2] = ["--simulate", "--watch"];

fn joined(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut joined: Vec<OsString> = Vec::new();
    for word in words {
        let is_number = !word.is_empty() && word.as_encoded_bytes().iter().all(u8::is_ascii_digit);
        let is_behind = |last: &&mut OsString| OPTIONAL_VALUE.iter().any(|flag| last.as_os_str() == *flag);
        match joined.last_mut().filter(|last| is_number && is_behind(last)) {
            Some(last) => {
                last.push("=");
                last.push(word);
            }
            None => joined.push(word),
        }
    }
    joined
}

/// The clap command, with help pages that fit the terminal.
pub fn command() -> clap::Command {
    with_negative_numbers(Cli::command().term_width(screen::help_columns()))
}

/// Takes negative numbers as values everywhere, so that an error says what is wrong with them.
fn with_negative_numbers(command: clap::Command) -> clap::Command {
    let takes_value = |arg: &clap::Arg| arg.get_action().takes_values() && !arg.is_positional();
    let command = command.mut_args(|arg| if takes_value(&arg) { arg.allow_negative_numbers(true) } else { arg });
    command.mut_subcommands(with_negative_numbers)
}

/// Turns a write beyond `ulimit -f` into an error, as for a full disk; otherwise the signal would end the program.
#[cfg(unix)]
fn survive_file_size_limits() {
    // The flag is never read: catching the signal is enough. If that fails, the signal ends the program as before.
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
}

#[cfg(not(unix))]
fn survive_file_size_limits() {}

/// An unknown flag as an error of ours, with what to use instead.
fn unknown_flag(error: &clap::Error) -> Option<CliError> {
    let (ErrorKind::UnknownArgument, Some(ContextValue::String(flag))) =
        (error.kind(), error.get(ContextKind::InvalidArg))
    else {
        return None;
    };
    let words: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let (mut command, mut path) = (Cli::command(), Vec::new());
    for word in &words {
        if let Some(inner) = command.find_subcommand(word) {
            (command, _) = (inner.clone(), path.push(word.as_str()));
        }
    }
    let command = command.bin_name(path.join(" "));
    let name = flag.split('=').next().unwrap_or(flag);
    let at = words.iter().position(|word| word.split('=').next() == Some(name));
    let value = at.and_then(|at| match words[at].split_once('=') {
        Some((_, value)) => Some(value),
        None => words.get(at + 1).map(String::as_str).filter(|next| !next.starts_with("--")),
    });
    Some(CliError::user(format!("unknown argument {name}"), Some(flags::for_unknown(name, value, &command))))
}

fn run(cli: Cli, started: Instant) -> Result<ExitCode, CliError> {
    let allocation = slurm::use_allocation();
    if matches!(cli.verb, Verb::Train(_) | Verb::Sweep(_) | Verb::Evaluate(_) | Verb::Advise(_) | Verb::Verify(_)) {
        allocation.iter().for_each(|note| say!("note: {note}"));
    }
    match cli.verb {
        Verb::Train(args) => return train::run(args, started),
        Verb::Sweep(args) => return sweep::run(*args),
        Verb::Advise(args) => return advise::run(*args),
        Verb::Slurm(args) => return slurm::run(args),
        Verb::Evaluate(args) => evaluate::run(args)?,
        Verb::Predict(args) => predict::run(args)?,
        Verb::Compare(args) => compare::run(args)?,
        Verb::Plot(args) => plot::run(args)?,
        Verb::Report(args) => report::run(args)?,
        Verb::Runs(args) => runs::run(args)?,
        Verb::Export(args) => export::run(args)?,
        Verb::Import(args) => import::run(args)?,
        Verb::Presets(args) => presets::run(args)?,
        Verb::Models(args) => models::run(args)?,
        Verb::Sweeps(args) => sweeps::run(args)?,
        Verb::Completions(args) => pages::completions(&args)?,
        Verb::Man(args) => pages::man(&args)?,
        Verb::Summary(args) => summary::run(args)?,
        Verb::Data(args) => data::run(args)?,
        Verb::Verify(args) => verify::run(*args)?,
        Verb::Bench(args) => bench::run(args)?,
        Verb::Profile(args) => profile::run(*args)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A result as one line of JSON; NaN and infinite numbers become `null`.
fn json(value: &impl serde::Serialize) -> String {
    let json = serde_json::to_string(value).expect("results are plain numbers, texts and lists");
    text::visible_json(&json).into_owned() + "\n"
}

/// Writes a result to stdout. All line breaks in it are intended, because names in it went through [`line!`] or a
/// table. If the reader (such as `head`) stops early, the program ends with success.
fn show(text: &str) -> Result<(), CliError> {
    show_as_is(&text::visible_lines(text))
}

/// As [`show`], for text that controls the terminal: names in it are already visible, as [`text::shortened`] makes them.
fn show_as_is(text: &str) -> Result<(), CliError> {
    if !write_as_is(text)? {
        std::process::exit(0);
    }
    Ok(())
}

/// Writes to stdout; returns whether anything still reads it.
fn write_to_stdout(text: &str) -> Result<bool, CliError> {
    write_as_is(&text::visible_lines(text))
}

/// As [`write_to_stdout`], for text that controls the terminal.
fn write_as_is(text: &str) -> Result<bool, CliError> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => {
            let reason = crate::system_errors::system_error(&error);
            Err(CliError::failure(format!("cannot write to stdout: {reason}"), None))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_command_gets_the_one_that_is_meant() {
        assert_eq!(instead_of("test"), "did you mean `vitreous evaluate`?");
        assert_eq!(instead_of("ls"), "did you mean `vitreous runs`?");
        assert_eq!(instead_of("trian"), "did you mean `vitreous train`?");
        assert_eq!(instead_of("mnist-vit"), "train a preset with `vitreous train mnist-vit`");
        assert_eq!(instead_of("zebra"), "`vitreous --help` lists the commands");
        let parser = Cli::command();
        let verbs: Vec<&str> = parser.get_subcommands().map(clap::Command::get_name).collect();
        for (other, verb) in OTHER_NAMES {
            assert!(!verbs.contains(&other), "{other} is a command");
            assert!(verbs.contains(&verb.split(' ').next().unwrap()), "{verb} is not a command");
        }
    }

    #[test]
    fn a_number_behind_a_flag_with_an_optional_value_is_that_value() {
        let joined = |line: &str| {
            let words = joined(line.split(' ').map(OsString::from));
            words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(joined("slurm train --simulate 20 -j 2"), "slurm train --simulate=20 -j 2");
        assert_eq!(joined("slurm status --watch runs 5"), "slurm status --watch runs 5");
        assert_eq!(joined("slurm status --watch=3 5"), "slurm status --watch=3 5");
    }

    #[test]
    fn help_pages_fit_into_80_columns() {
        fn check(command: &mut clap::Command, name: &str) {
            for page in [command.render_help(), command.render_long_help()] {
                for line in page.to_string().lines() {
                    assert!(text::width(line) <= 80, "{name}: {line}");
                }
            }
            // Examples are not wrapped: they would no longer be commands to copy.
            let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in examples.lines() {
                assert!(text::width(line) <= 80, "{name}: {line}");
            }
            for inner in command.get_subcommands_mut() {
                check(&mut inner.clone().term_width(80), &format!("{name} {}", inner.get_name()));
            }
        }
        let mut command = Cli::command().term_width(80);
        command.build();
        check(&mut command, "vitreous");
    }
}
