//! `vitreous train`: trains a run from a config. Everything is checked and loaded before its folder is created.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use vitreous_engine::Average;

use super::advice::Context;
use super::export::viewer;
use super::flags::Flags;
use super::import::PRETRAINED;
use super::plots::{PlotArgs, plots_of};
use super::presets::preset_of;
use super::progress::{TrainProgress, line_steps};
use super::reading::{noted, watched};
use super::runs::run_folder;
use super::screen::sentence;
use super::settings::{SettingsArgs, shell_word};
use super::slurm::wait_for_earlier_start;
use super::verbosity::beyond_results;
use super::{CliError, EXIT_STATUS, dry_run, json, show, write_to_stdout};
use crate::advice::Verb;
use crate::data::ImageShape;
use crate::evaluate::Accuracy;
use crate::experiment::{
    EarlierRun, ExperimentError, Prepared, TrainingRun, adopt_source, machine, run_base, without_mnist,
};
use crate::record::{Place, Run, Status, base_name};
use crate::train::{Job, Limits, Outcome, Preflight, SaveEvery};
use crate::{durations, numbers, system_errors};

/// Exit status of a run that was interrupted after its checkpoint was saved: the status that shells use for SIGINT.
pub const INTERRUPTED: u8 = 130;

/// Exit status of a run stopped by `--max-time`, as for `timeout`; it can be resumed.
const TIME_UP: u8 = 124;

/// How often a checkpoint is saved within an epoch.
pub const SAVE_EVERY: SaveEvery = SaveEvery::Time(Duration::from_secs(300));

/// The value of `--resume` for a run that may not exist yet.
pub const AUTO: &str = "auto";

/// Trains a model and saves it in a run folder; without arguments, a small model on built-in digits
///
/// The first Ctrl-C ends the training after its checkpoint is saved, a second one ends it at once. If stdout is closed, as by
/// `| head`, the training continues and says where its result is. If stderr is closed too, as by `2>&1 | head`, it ends as on
/// Ctrl-C. `--resume` continues it.
#[derive(clap::Args)]
#[command(after_help = EXIT_STATUS)]
pub struct Args {
    /// The preset to start from, such as mnist-vit (the same as --preset)
    #[arg(value_name = "PRESET", conflicts_with = "preset")]
    pub start: Option<String>,
    #[command(flatten)]
    pub settings: SettingsArgs,
    #[command(flatten)]
    pub flags: Flags,
    /// Name of the run, which must be new [default: the preset's or the data's, with the next free number]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Folder for runs
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub out: PathBuf,
    /// Check everything, time a few steps, and write nothing
    #[arg(long, conflicts_with = "resume")]
    pub dry_run: bool,
    /// Resume a run from its last checkpoint, bit for bit; auto resumes the run of this name or, if there is none, starts it
    #[arg(long, value_name = "RUN|auto")]
    pub resume: Option<String>,
    /// Save a checkpoint this often, in time (30s, 5m, 1h) or steps (500), and after each epoch [default: 5m]
    #[arg(long, value_name = "TIME|STEPS", value_parser = save_every)]
    save_every: Option<SaveEvery>,
    /// Save a checkpoint and stop after this time, such as 90m or 1h30m; continue with --resume
    #[arg(long, value_name = "TIME", value_parser = time)]
    max_time: Option<Duration>,
    /// Print where to get weights for --init-from, and train nothing
    #[arg(long)]
    pretrained: bool,
    #[command(flatten)]
    plots: PlotArgs,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

fn save_every(text: &str) -> Result<SaveEvery, String> {
    match text.parse() {
        Ok(0) => Err("it is 0: use 1 for every step".to_string()),
        Ok(steps) => Ok(SaveEvery::Steps(steps)),
        Err(_) => time(text).map(SaveEvery::Time),
    }
}

pub fn time(text: &str) -> Result<Duration, String> {
    durations::parse_duration(text).ok_or_else(|| "invalid time: write it as 30s, 5m, 2h or 1h30m".to_string())
}

/// Runs the command; `started` is when the program did.
pub fn run(mut args: Args, started: Instant) -> Result<ExitCode, CliError> {
    if args.pretrained {
        return show(PRETRAINED).map(|()| ExitCode::SUCCESS);
    }
    let stop = watch_warnings()?;
    if let Some(start) = args.start.clone() {
        args.settings.preset = Some(preset_of(start)?);
    }
    let earlier = args.resume.clone().map(|resume| earlier_run(&mut args, &resume, &stop)).transpose()?.flatten();
    let mut layers = args.settings.layers(args.flags.values())?;
    let built_in = without_mnist(&mut layers, args.settings.data_dir.is_some())?;
    // The config of a run that is named has it already.
    let adopted = match args.resume.as_deref() {
        None | Some(AUTO) => {
            let resumed = earlier.as_ref().filter(|earlier| !earlier.starts_again()).map(EarlierRun::run);
            adopt_source(&mut layers, args.settings.chooses_model(), resumed)?
        }
        Some(_) => Vec::new(),
    };
    let checked = layers.finish()?;
    let name = args.name.clone().or_else(|| args.resume.as_ref().map(|_| base_name(&base(&args.settings))));
    let place = match earlier {
        Some(_) => None,
        None => Some(Place::choose(&args.out, name.as_deref(), &base(&args.settings))?),
    };
    let context = Context::of(Verb::Train, args.json);
    match &earlier {
        Some(earlier) => detail!("config: that of {}", earlier.run().folder().display()),
        None => {
            args.settings.config.iter().for_each(|file| detail!("config: read from {}", file.display()));
            checked.differences().iter().for_each(|line| detail!("config: {line}"));
        }
    }
    let prepared = watched(|listener| Prepared::new(&checked, listener))?;
    let has_held_out = prepared.has_held_out();
    if let Some(earlier) = &earlier
        && let Some(end) = earlier.check(&prepared)?
    {
        say!("{}", context.note(&end));
        return show_done(earlier.run(), has_held_out, args.json);
    }
    let has_checkpoint = earlier.as_ref().is_some_and(EarlierRun::has_checkpoint);
    let prepared = if has_checkpoint { prepared.resumed() } else { prepared };
    let (needed, mut notes) = (prepared.needed, prepared.notes.clone());
    notes.extend(adopted);
    let (job, found) = noted(|listener| prepared.load(listener));
    let job = job?;
    notes.extend(found);
    detail!("computes on {}", machine(job.threads()));
    if !args.dry_run {
        say_what(&job);
    }
    if let Some(earlier) = &earlier {
        notes.extend(earlier.notes().iter().cloned());
        say!("{} {}", earlier.run().folder().display(), earlier.resume_point());
    }
    built_in.iter().chain(&notes).for_each(|note| say!("note: {note}"));
    let out = earlier.as_ref().map_or(args.out.as_path(), |earlier| earlier.run().folder());
    let preflight = Preflight::new(&job, needed, out)?;
    if args.dry_run {
        return dry_run::run(&job, &preflight, &notes, args.json).map(|()| ExitCode::SUCCESS);
    }
    preflight.problems().iter().for_each(|problem| say!("note: {}", context.problem(problem)));
    if job.config().train.tensorboard == Some(true) {
        let runs = earlier.as_ref().map_or(Some(args.out.as_path()), |earlier| earlier.run().folder().parent());
        say!("watch it: {}", viewer(runs.unwrap_or(Path::new("."))));
    }

    let mut progress = TrainProgress::start(
        &job,
        earlier.as_ref().map_or(0, EarlierRun::step),
        line_steps(&args.settings, &args.flags, &job),
    );
    watch_interrupts(&stop)?;
    let mut training = match (earlier, place) {
        (Some(earlier), _) => {
            let (training, notes) = earlier.resume(job, command())?;
            notes.iter().for_each(|note| say!("note: {note}"));
            training
        }
        (None, place) => TrainingRun::start(place.expect("it was chosen"), job, command())?,
    };
    if let Some(choice) = args.plots.choice() {
        training.draw(choice);
    }
    let until = args.max_time.and_then(|time| started.checked_add(time));
    let limits = Limits { stop: &stop, until, save_every: args.save_every.unwrap_or(SAVE_EVERY) };
    let outcome = training.train(started, &limits, &mut |event| {
        progress.show(event);
        // With a closed output the user would no longer see the training: it stops as on Ctrl-C and can be resumed.
        if !progress.is_read() {
            stop.store(true, Ordering::Relaxed);
        }
    });
    progress.finish();
    let outcome = outcome?;
    let run = training.run();
    files(run.folder(), "").iter().for_each(|file| detail!("{file}"));
    let ends = Ends { has_held_out, is_cut: progress.is_cut() };
    let text = if args.json { json(&result(run, &outcome)) } else { report(run, &outcome, ends) };
    if !write_to_stdout(&text)? {
        say!("note: stdout is closed; the result is in {}", run.folder().join("manifest.json").display());
    }
    Ok(match outcome.status {
        Status::Interrupted => ExitCode::from(INTERRUPTED),
        Status::MaxTime => ExitCode::from(TIME_UP),
        _ => ExitCode::SUCCESS,
    })
}

/// Finds the run to resume; other settings override its config. With `auto` there may be none.
fn earlier_run(args: &mut Args, resume: &str, stop: &AtomicBool) -> Result<Option<EarlierRun>, CliError> {
    if resume == AUTO {
        let name = args.name.clone().unwrap_or_else(|| base_name(&base(&args.settings)));
        wait_for_earlier_start(&args.out.join(&name), stop);
        return Ok(EarlierRun::find(&args.out, &name)?);
    }
    let own = &args.settings;
    // As the user wrote it.
    let preset = args.start.as_ref().map_or("--preset".to_string(), |start| format!("preset {start}"));
    let given =
        [(preset.as_str(), own.preset.is_some()), ("--config", own.config.is_some()), ("--model", own.model.is_some())];
    if let Some((flag, _)) = given.into_iter().chain([("--name", args.name.is_some())]).find(|(_, given)| *given) {
        let error = format!("{flag} cannot be used with --resume {resume}: the run has its own");
        return Err(CliError::user(error, Some(format!("leave {flag} out, or use --resume {AUTO}"))));
    }
    let folder = run_folder(Path::new(resume), &args.out)?;
    wait_for_earlier_start(&folder, stop);
    let earlier = EarlierRun::open(&folder)?;
    args.settings.config = Some(earlier.run().config_path());
    Ok(Some(earlier))
}

/// Prints the result of a run that is already complete.
fn show_done(run: &Run, has_held_out: bool, as_json: bool) -> Result<ExitCode, CliError> {
    let manifest = run.manifest();
    let Some(results) = manifest.results.clone() else {
        return Err(ExperimentError::NoResults.into());
    };
    let outcome = Outcome { status: manifest.status, results };
    let ends = Ends { has_held_out, is_cut: false };
    show(&if as_json { json(&result(run, &outcome)) } else { report(run, &outcome, ends) })?;
    Ok(ExitCode::SUCCESS)
}

/// The command line of this process, with invalid Unicode replaced.
pub fn command() -> Vec<String> {
    std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect()
}

/// The base of a run's name.
pub fn base(settings: &SettingsArgs) -> String {
    run_base(settings.config.as_deref(), settings.preset.as_deref(), settings.data.as_deref())
}

/// The files of a run with their sizes.
fn files(folder: &Path, inside: &str) -> Vec<String> {
    let mut entries: Vec<_> = fs::read_dir(folder.join(inside)).into_iter().flatten().filter_map(Result::ok).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    let describe = |entry: &fs::DirEntry| {
        let path = Path::new(inside).join(entry.file_name());
        match entry.metadata() {
            Ok(file) if file.is_dir() => files(folder, &path.to_string_lossy()),
            Ok(file) => vec![format!("{}: {}", folder.join(path).display(), numbers::bytes(file.len()))],
            Err(_) => Vec::new(),
        }
    };
    entries.iter().flat_map(describe).collect()
}

/// What is said about the end of a run in addition to its outcome.
#[derive(Clone, Copy)]
struct Ends {
    /// Whether there are images by which it can be evaluated.
    has_held_out: bool,
    /// Whether the last epoch was cut short, so that it cannot be the best.
    is_cut: bool,
}

/// Catches all of these signals: they stop the work after what can be resumed is saved.
pub fn watch_signals() -> Result<Arc<AtomicBool>, CliError> {
    let stop = watch_warnings()?;
    watch_interrupts(&stop)?;
    Ok(stop)
}

/// Catches SIGUSR1 and SIGUSR2, which schedulers send before the time limit. That may be before the images are loaded, when
/// Ctrl-C still ends the program at once.
pub fn watch_warnings() -> Result<Arc<AtomicBool>, CliError> {
    let stop = Arc::new(AtomicBool::new(false));
    #[cfg(unix)]
    for signal in [signal_hook::consts::SIGUSR1, signal_hook::consts::SIGUSR2] {
        flag::register(signal, stop.clone()).map_err(not_watched)?;
    }
    Ok(stop)
}

/// Catches SIGINT and SIGTERM: the first stops the training after its checkpoint is saved, a second one ends the program.
pub fn watch_interrupts(stop: &Arc<AtomicBool>) -> Result<(), CliError> {
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal must not find the flag set by itself.
        flag::register_conditional_shutdown(signal, i32::from(INTERRUPTED), stop.clone())
            .and_then(|_| flag::register(signal, stop.clone()))
            .map_err(not_watched)?;
    }
    Ok(())
}

fn not_watched(error: io::Error) -> CliError {
    CliError::failure(format!("cannot watch for Ctrl-C: {}", system_errors::system_error(&error)), None)
}

fn say_what(job: &Job) {
    let (config, data) = (job.config(), job.data());
    let ImageShape { height, width, .. } = job.image_shape();
    let parameters = numbers::count(job.model().graph.parameter_count() as u64);
    say!("{}: {parameters} parameters", config.model.describe());
    let skipped = match data.skipped.len() {
        0 => String::new(),
        count => format!(", {} skipped because they cannot be decoded", numbers::count(count as u64)),
    };
    say!(
        "{}: {} training images, {} validation images, {} classes, {height}x{width} pixels{skipped}; {}",
        data.name,
        numbers::count(data.train as u64),
        numbers::count(data.validation as u64),
        numbers::count(data.class_names.len() as u64),
        numbers::counted(job.threads(), "thread"),
    );
    if let Some(decay) = config.train.model_ema_decay {
        say!("validation and weights files use the EMA of the weights (decay {decay} per step)");
        let (steps, average) = (job.steps(), Average { decay });
        let last = average.keep(steps);
        if last < decay {
            let steps = numbers::count(steps);
            say!("note: the decay rises to {last:.4} in {steps} steps and does not reach model_ema_decay {decay}");
        }
    }
}

/// The result, the run folder with its plots, and the next commands.
fn report(run: &Run, outcome: &Outcome, ends: Ends) -> String {
    let (results, data, folder) = (&outcome.results, &run.manifest().data, run.folder().display());
    let word = shell_word(run.folder());
    let how = match outcome.status {
        Status::Interrupted => format!("interrupted after step {}; ", numbers::count(results.steps)),
        limit @ (Status::MaxSteps | Status::MaxTime) => {
            format!("stopped after step {} ({limit}); ", numbers::count(results.steps))
        }
        _ => String::new(),
    };
    let validation = |value| {
        let images = data.validation as u64;
        let [low, high] = Accuracy { value, images }.interval().map(numbers::percent);
        let (right, images) = (numbers::percent(value), numbers::count(images));
        format!("{right} of {images} validation images are correct (95 % interval {low} to {high})")
    };
    let reached = match (results.best_val_acc, results.best_epoch, results.val_acc, results.train_acc) {
        (Some(accuracy), Some(epoch), ..) => format!("{}, best epoch: {epoch}", validation(accuracy)),
        (_, _, Some(accuracy), _) => format!("{}, last epoch", validation(accuracy)),
        (.., Some(accuracy)) => {
            format!("training accuracy {} (running mean, not re-measured)", numbers::percent(accuracy))
        }
        _ => "the first epoch was not completed".to_string(),
    };
    let kept = match (results.lowest_train_loss, results.lowest_step) {
        (Some(loss), Some(step)) => {
            format!("; kept: the weights of the lowest training loss, {loss:.4} at step {}", numbers::count(step))
        }
        _ => String::new(),
    };
    let next = match outcome.status {
        Status::Interrupted | Status::MaxTime => line!("next: vitreous train --resume {word}"),
        _ => {
            let predict = format!("vitreous predict IMAGE --run {word}");
            let evaluate = ends.has_held_out.then(|| format!("vitreous evaluate {word}"));
            let all: Vec<String> = evaluate.into_iter().chain([predict, format!("vitreous report {word}")]).collect();
            line!("next: {}", all[0]) + &all[1..].iter().map(|next| line!("      {next}")).collect::<String>()
        }
    };
    let plots = plots_of(run.folder(), |_| true).map_or(String::new(), |plots| line!("{plots}"));
    let cut = match ends.is_cut {
        true => sentence("the last epoch is incomplete: only complete epochs can be the best"),
        false => String::new(),
    };
    sentence(&format!("{how}{reached}, in {}{kept}", durations::duration(results.seconds)))
        + &cut
        + &beyond_results(line!("config, records and weights are in {folder}") + &plots + &next)
}

/// The result as JSON.
fn result(run: &Run, outcome: &Outcome) -> serde_json::Value {
    let mut value = serde_json::json!(outcome.results);
    for key in ["val_acc", "best_val_acc"] {
        let images = run.manifest().data.validation as u64;
        let interval = value[key].as_f64().map(|value| Accuracy { value, images }.interval());
        value[format!("{key}_interval")] = serde_json::json!(interval);
    }
    value["run"] = run.folder().display().to_string().into();
    value["status"] = serde_json::json!(outcome.status);
    value["parameters"] = run.manifest().parameters.into();
    value
}
