//! `vitreous verify`: shows that killed runs and other numbers of threads give the same bytes.

use std::path::PathBuf;
use std::process::Command;

use super::flags::Flags;
use super::reading::watched;
use super::screen::{Align, table};
use super::settings::SettingsArgs;
use super::{CliError, json, show};
use crate::config::CheckedConfig;
use crate::config::train::THREADS_MAX;
use crate::experiment::Prepared;
use crate::verify::{Resumed, Training, VerifyEvent, verify_resume, verify_threads};
use crate::{durations, numbers, system_errors};

/// Shows that killed runs and other numbers of threads give the same bytes
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Kills a run at random moments, resumes it, and compares it with an uninterrupted one
    Resume(ResumeArgs),
    /// Trains a run with several numbers of threads and compares the results
    Threads(ThreadsArgs),
}

#[derive(clap::Args)]
struct ResumeArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    flags: Flags,
    /// Number of kills; if a run finishes first, another one is started
    #[arg(long, value_name = "N", default_value_t = 20)]
    kills: u32,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(clap::Args)]
struct ThreadsArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    flags: Flags,
    /// Numbers of threads
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,2,3,4,7")]
    counts: Vec<usize>,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(clap::Args)]
struct PlaceArgs {
    /// Folder for the runs, removed when all are equal
    #[arg(long, value_name = "DIR", default_value = "runs/verify")]
    out: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), CliError> {
    match args.verb {
        Verb::Resume(args) => resume(&args),
        Verb::Threads(args) => threads(&args),
    }
}

/// Checks the config, with its data.
fn checked(settings: &SettingsArgs, flags: &Flags) -> Result<CheckedConfig, CliError> {
    let checked = settings.layers(flags.values())?.finish()?;
    watched(|listener| Prepared::new(&checked, listener))?;
    Ok(checked)
}

/// A function that makes the command line of a training.
fn trainings() -> Result<impl Fn(&Training) -> Command, CliError> {
    let failed = |error: std::io::Error| {
        CliError::failure(format!("cannot start a training: {}", system_errors::system_error(&error)), None)
    };
    let program = std::env::current_exe().map_err(failed)?;
    Ok(move |training: &Training| {
        let mut command = Command::new(&program);
        command.args(["train", "--no-plots", "--config"]).arg(training.config).arg("--out").arg(training.out);
        command.args(["--name", training.name, "--json"]);
        if training.is_resumed {
            command.args(["--resume", "auto"]);
        }
        if let Some(time) = training.save_every {
            command.arg("--save-every").arg(format!("{:.3}s", time.as_secs_f64()));
        }
        if let Some(threads) = training.threads {
            command.arg("--threads").arg(threads.to_string());
        }
        command
    })
}

fn say_event(event: VerifyEvent) {
    match event {
        VerifyEvent::Uninterrupted => say!("training an uninterrupted run"),
        VerifyEvent::UninterruptedEnded { seconds, sha256 } => {
            say!("took {}: {sha256}", durations::duration(seconds));
        }
        VerifyEvent::KilledEnded { run, kills } => {
            say!("{run} equals the uninterrupted run ({} so far)", numbers::counted(kills as usize, "kill"));
        }
        VerifyEvent::ThreadsEnded { threads, .. } => say!("trained with {}", numbers::counted(threads, "thread")),
    }
}

fn resume(args: &ResumeArgs) -> Result<(), CliError> {
    if args.kills == 0 {
        return Err(CliError::user(
            "invalid kills 0: must be at least 1 (--kills)",
            Some("use --kills 20".to_string()),
        ));
    }
    let checked = checked(&args.settings, &args.flags)?;
    let found = verify_resume(&checked, &args.place.out, args.kills, &trainings()?, &say_event)?;
    show(&if args.place.json { json(&found) } else { text(&found) })
}

fn text(found: &Resumed) -> String {
    format!(
        "{} at random moments of {}, {} during a write, {} before the first checkpoint, in {}\n\
         all ended with the weights, results, metrics and ledger of the uninterrupted run\n\
         SHA-256 of the last weights: {}\n\
         SHA-256 of their tensors:    {}\n",
        numbers::counted(found.kills as usize, "kill"),
        numbers::counted(found.runs as usize, "run"),
        found.during_writes,
        found.before_checkpoints,
        durations::duration(found.seconds),
        found.sha256,
        found.tensors_sha256
    )
}

fn threads(args: &ThreadsArgs) -> Result<(), CliError> {
    if let Some(count) = args.counts.iter().find(|count| !(1..=THREADS_MAX).contains(*count)) {
        let error = format!("counts {count} is not between 1 and {THREADS_MAX} (--counts)");
        return Err(CliError::user(error, Some("use --counts 1,2,3,4,7".to_string())));
    }
    let checked = checked(&args.settings, &args.flags)?;
    let found = verify_threads(&checked, &args.place.out, &args.counts, &trainings()?, &say_event)?;
    if args.place.json {
        return show(&json(&found));
    }
    let mut rows = vec![["threads", "time", "SHA-256 of the last weights"].map(str::to_string)];
    rows.extend(
        found.iter().map(|one| [one.threads.to_string(), durations::duration(one.seconds), one.ended.sha256.clone()]),
    );
    show(&format!(
        "{}equal, and so are results, metrics and ledger\nSHA-256 of the tensors alone: {}\n",
        table(&rows, &[Align::Right, Align::Right, Align::Left]),
        found.first().map_or("", |one| &one.ended.tensors_sha256)
    ))
}
