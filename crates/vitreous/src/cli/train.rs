//! `vitreous train`: a config becomes a run. Everything is checked and loaded before a folder is made.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use vitreous_engine::{Average, Memory};

use super::flags::Flags;
use super::progress::{TrainProgress, line_steps};
use super::reading::reading;
use super::resume::{Begun, Ready as RunReady};
use super::settings::{SettingsArgs, inspect, shell_word, square_facts};
use super::{CliError, dry_run, json, show};
use crate::config::{CheckedConfig, ResolvedConfig, presets};
use crate::data::{self, Facts, ImageShape, Progress, Wanted};
use crate::evaluate::Accuracy;
use crate::models::{self, Model};
use crate::record::{Place, Run, Status, base_name, is_name, was_begun};
use crate::train::{
    Job, Limits, Outcome, Preflight, SaveEvery, available_memory_beside, check_decoding, check_memory, memory_needed,
};
use crate::{durations, numbers, system_errors};

/// Exit status of a run that was interrupted and has saved what it had reached, as shells have it for SIGINT.
pub const INTERRUPTED: u8 = 130;

/// Exit status of a run that has used up its `--max-time`, as `timeout` has it; it can be resumed.
const TIME_UP: u8 = 124;

/// How often the state of a run is saved within an epoch.
pub const SAVE_EVERY: SaveEvery = SaveEvery::Time(Duration::from_secs(300));

/// What `--resume` takes for a run that may not be there yet.
const AUTO: &str = "auto";

/// Trains a model and saves it with its records; without arguments, a small one on built-in digits
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    flags: Flags,
    /// The run's name, which no other run has [default: the preset's or the data's, with the next free number]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The folder in which runs are
    #[arg(long, value_name = "DIR", default_value = "runs")]
    out: PathBuf,
    /// Check everything, take a few steps to see how long the run would take, and leave nothing behind
    #[arg(long, conflicts_with = "resume")]
    dry_run: bool,
    /// Go on with a run from its last state, bit for bit; auto takes the run of this name or, if there is none, starts it
    #[arg(long, value_name = "RUN|auto")]
    resume: Option<String>,
    /// Save the state this often, in time (30s, 5m, 1h) or steps (500), and after each epoch [default: 5m]
    #[arg(long, value_name = "TIME|STEPS", value_parser = save_every)]
    save_every: Option<SaveEvery>,
    /// End in time, with all saved: 90m, 2h, 1h30m; --resume goes on
    #[arg(long, value_name = "TIME", value_parser = time)]
    max_time: Option<Duration>,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

fn save_every(text: &str) -> Result<SaveEvery, String> {
    match text.parse() {
        Ok(0) => Err("it is 0: use 1 for every step".to_string()),
        Ok(steps) => Ok(SaveEvery::Steps(steps)),
        Err(_) => time(text).map(SaveEvery::Time),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    durations::parse_duration(text).ok_or_else(|| "it is no time: write it as 30s, 5m, 2h or 1h30m".to_string())
}

/// Runs the command; `started` is when the program did.
pub fn run(mut args: Args, started: Instant) -> Result<ExitCode, CliError> {
    let begun = args.resume.clone().map(|resume| begun(&mut args, &resume)).transpose()?.flatten();
    let mut layers = args.settings.layers(args.flags.values())?;
    let built_in = args.settings.without_mnist(&mut layers)?;
    let checked = layers.finish()?;
    let name = args.name.clone().or_else(|| args.resume.as_ref().map(|_| base_name(&base(&args.settings))));
    let place = match begun {
        Some(_) => None,
        None => Some(Place::choose(&args.out, name.as_deref(), &base(&args.settings))?),
    };
    let ready = ready(&checked)?;
    if let Some(begun) = &begun {
        begun.changes(&fitted(&checked, &ready, &begun.run).to_toml())?;
        if begun.is_done(checked.config()) {
            return show_done(&begun.run, args.json);
        }
    }
    let (needed, mut notes) = (ready.needed, ready.notes.clone());
    let job = load(&checked, ready, true)?;
    let changes = begun.as_ref().map(|begun| begun.changes(&job.config().to_toml())).transpose()?.unwrap_or_default();
    if !args.dry_run {
        say_what(&job);
    }
    if let Some(begun) = &begun {
        notes.extend(begun.notes.iter().cloned());
        notes.extend(changes.iter().cloned());
        say!("{} {}", begun.run.folder().display(), begun.how_it_goes_on());
    }
    built_in.iter().chain(&notes).for_each(|note| say!("note: {note}"));
    let out = begun.as_ref().map_or(args.out.as_path(), |begun| begun.run.folder());
    let preflight = Preflight::new(&job, needed, out)?;
    if args.dry_run {
        return dry_run::run(&job, &preflight, &notes, args.json).map(|()| ExitCode::SUCCESS);
    }
    preflight.problems().iter().for_each(|problem| say!("note: {}; {}", problem.what, problem.fix));

    let mut progress = TrainProgress::start(
        &job,
        begun.as_ref().map_or(0, Begun::step),
        line_steps(&args.settings, &args.flags, &job),
    );
    let stop = watch_signals()?;
    let mut ready = match (begun, place) {
        (Some(begun), _) => begun.go_on(job, changes, command())?,
        (None, place) => RunReady::start(place.expect("it was chosen"), job, command())?,
    };
    let until = args.max_time.and_then(|time| started.checked_add(time));
    let limits = Limits { stop: &stop, until, save_every: args.save_every.unwrap_or(SAVE_EVERY) };
    let outcome = ready.train(started, &limits, &mut |event| progress.show(event));
    progress.finish();
    let outcome = outcome?;
    show(&if args.json { json(&result(&ready.run, &outcome)) } else { report(&ready.run, &outcome) })?;
    Ok(match outcome.status {
        Status::Interrupted => ExitCode::from(INTERRUPTED),
        Status::MaxTime => ExitCode::from(TIME_UP),
        _ => ExitCode::SUCCESS,
    })
}

/// The config as the run has it: a batch that nobody chose was made to fit the pictures that could be decoded.
fn fitted(checked: &CheckedConfig, ready: &Ready, run: &Run) -> ResolvedConfig {
    let mut config = ready.config.clone();
    if !run.manifest().data.skipped.is_empty() {
        checked.fit_batch(&mut config, run.manifest().data.train);
    }
    config
}

/// Finds the run that goes on, and takes its config as the start of the settings; with `auto` there may be none.
fn begun(args: &mut Args, resume: &str) -> Result<Option<Begun>, CliError> {
    if resume == AUTO {
        let name = args.name.clone().unwrap_or_else(|| base_name(&base(&args.settings)));
        let folder = args.out.join(&name);
        // What a kill has left of a run before its manifest gives way when the run is made.
        if !folder.exists() || !is_name(&name) || was_begun(&folder) {
            return Ok(None);
        }
        return Begun::open(&folder).map(Some);
    }
    let own = &args.settings;
    let given =
        [("--preset", own.preset.is_some()), ("--config", own.config.is_some()), ("--model", own.model.is_some())];
    if let Some((flag, _)) = given.into_iter().chain([("--name", args.name.is_some())]).find(|(_, given)| *given) {
        let error = format!("{flag} cannot stand beside --resume {resume}: the run has its own");
        return Err(CliError::user(error, Some(format!("leave {flag} out, or use --resume {AUTO}"))));
    }
    let begun = Begun::open(Path::new(resume))?;
    args.settings.config = Some(begun.run.config_path());
    Ok(Some(begun))
}

/// Shows a run that has nothing left to train.
fn show_done(run: &Run, as_json: bool) -> Result<ExitCode, CliError> {
    let manifest = run.manifest();
    let Some(results) = manifest.results.clone() else {
        return Err(CliError::failure("a finished run has no results in its manifest", None));
    };
    say!("{} is done: nothing is left to train", run.folder().display());
    let outcome = Outcome { status: manifest.status, results };
    show(&if as_json { json(&result(run, &outcome)) } else { report(run, &outcome) })?;
    Ok(ExitCode::SUCCESS)
}

/// The command as it was given; what is no Unicode in it cannot be kept.
pub fn command() -> Vec<String> {
    std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect()
}

/// A config that agrees with its data, of which no picture was decoded yet.
pub struct Ready {
    /// What is known of the data.
    pub facts: Facts,
    /// The config, filled in.
    pub config: ResolvedConfig,
    /// Its network.
    pub model: Model,
    /// What the engine takes for it, and the bytes of its images.
    pub needed: (Memory, u64),
    /// What was made to fit, and what is unusual.
    pub notes: Vec<String>,
}

/// Makes every check that needs no picture.
pub fn ready(checked: &CheckedConfig) -> Result<Ready, CliError> {
    ready_for(checked, inspect(checked)?)
}

/// As [`ready`], of data that was looked at before.
pub fn ready_for(checked: &CheckedConfig, facts: Facts) -> Result<Ready, CliError> {
    let mut config = checked.resolve(square_facts(&facts)?)?;
    let mut notes = checked.notes().to_vec();
    notes.extend(checked.fit_batch(&mut config, facts.train));
    notes.extend(passed_over(&facts));
    notes.extend(facts.no_validation(&config.data));
    Job::check_batch(&config, facts.train)?;
    let model = models::build_for_training(&config)?;
    let mut needed = memory_needed(&config, &model, &facts);
    let threads = crate::train::threads(config.train.threads);
    let (decoding, available) =
        (facts.decoding_bytes(Wanted::TrainAndValidation, threads), available_memory_beside(threads));
    check_decoding(needed.1, decoding, available)?;
    check_memory("training", needed, facts.is_folder(), available)?;
    // Pictures are decoded before the engine takes its memory.
    needed.1 += decoding.saturating_sub(needed.0.total());
    Ok(Ready { facts, config, model, needed, notes })
}

/// What lies in the data's folder and is not used.
pub fn passed_over(facts: &Facts) -> impl Iterator<Item = String> {
    let runs = facts.run_folders.iter();
    let runs = runs.map(|folder| format!("{} is ignored: it contains runs, not pictures", folder.display()));
    let folders = facts.ignored_folders.iter();
    let pictures = (facts.loose_pictures > 0).then(|| {
        let count = numbers::count(facts.loose_pictures as u64);
        format!("pictures that lie beside the class folders are passed over: {count}")
    });
    folders
        .map(|folder| format!("{} is passed over: splits are called train/, val/ and test/", folder.display()))
        .chain(runs)
        .chain(pictures)
}

/// Loads the images, with a bar on stderr where one is wanted.
pub fn load(checked: &CheckedConfig, ready: Ready, bar: bool) -> Result<Job, CliError> {
    let Ready { facts, mut config, model, .. } = ready;
    let threads = crate::train::threads(config.train.threads);
    let load =
        |progress: Progress| data::load(&checked.config().data, &facts, Wanted::TrainAndValidation, threads, progress);
    let loaded = if bar { reading(load) } else { load(&|_, _| ()) }?;
    // Pictures that cannot be decoded may have left fewer than a batch.
    if let Some(note) = loaded.train.as_ref().and_then(|train| checked.fit_batch(&mut config, train.len())) {
        say!("note: {note}");
    }
    Ok(Job::new(config, model, &facts, loaded)?)
}

/// What a run is called after: its config file (of a run's own config, that run), else its preset, else its data.
pub fn base(settings: &SettingsArgs) -> String {
    let file = settings.config.as_ref().and_then(|path| match path.file_name() {
        Some(name) if name == "config.toml" => path.parent()?.file_name(),
        _ => path.file_stem(),
    });
    let named = file.map(|name| name.to_string_lossy().into_owned()).or_else(|| settings.preset.clone());
    named.or_else(|| settings.data.clone()).unwrap_or_else(|| presets::DEFAULT.to_string())
}

/// The first SIGINT, SIGTERM or SIGUSR1 (which schedulers send before the time is up) asks the training to stop; after
/// it, SIGINT and SIGTERM end the program at once.
pub fn watch_signals() -> Result<Arc<AtomicBool>, CliError> {
    let stop = Arc::new(AtomicBool::new(false));
    let failed = |error: io::Error| {
        CliError::failure(format!("cannot watch for Ctrl-C: {}", system_errors::system_error(&error)), None)
    };
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal must not find the flag set by itself.
        flag::register_conditional_shutdown(signal, i32::from(INTERRUPTED), stop.clone())
            .and_then(|_| flag::register(signal, stop.clone()))
            .map_err(failed)?;
    }
    #[cfg(unix)]
    flag::register(signal_hook::consts::SIGUSR1, stop.clone()).map_err(failed)?;
    Ok(stop)
}

fn say_what(job: &Job) {
    let (config, data) = (job.config(), job.data());
    let ImageShape { height, width, .. } = job.image_shape();
    let parameters = numbers::count(job.model().graph.parameter_count() as u64);
    say!("{}: {parameters} parameters", config.model.describe());
    let skipped = match data.skipped.len() {
        0 => String::new(),
        count => format!(", {} that cannot be decoded left out", numbers::count(count as u64)),
    };
    say!(
        "{}: {} images train, {} validate, {} classes, {height}x{width} pixels{skipped}; {}",
        data.name,
        numbers::count(data.train as u64),
        numbers::count(data.validation as u64),
        numbers::count(data.class_names.len() as u64),
        numbers::counted(job.threads(), "thread"),
    );
    if let Some(decay) = config.train.model_ema_decay {
        say!("validation sees and files hold the running average of the weights, which keeps {decay} of itself a step");
        let (steps, average) = (job.steps(), Average { decay });
        let last = average.keep(steps);
        if last < decay {
            let steps = numbers::count(steps);
            say!(
                "note: in {steps} steps it does not get there: the last of them keeps {last:.4} (model_ema_decay {decay})"
            );
        }
    }
}

/// What was reached, where it is, and what to do next.
fn report(run: &Run, outcome: &Outcome) -> String {
    let (results, data, folder) = (&outcome.results, &run.manifest().data, run.folder().display());
    let word = shell_word(run.folder());
    let how = match outcome.status {
        Status::Interrupted => format!("interrupted after step {}; ", numbers::count(results.steps)),
        Status::MaxSteps => format!("stopped after step {} as asked; ", numbers::count(results.steps)),
        Status::MaxTime => format!("the time was up after step {}; ", numbers::count(results.steps)),
        _ => String::new(),
    };
    let validation = |value| {
        let images = data.validation as u64;
        let [low, high] = Accuracy { value, images }.interval().map(numbers::percent);
        let (right, images) = (numbers::percent(value), numbers::count(images));
        format!("{right} of {images} validation images right (95 % interval {low} to {high})")
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
        _ => line!("next: vitreous evaluate {word}") + &line!("      vitreous predict IMAGE --run {word}"),
    };
    line!("{how}{reached}, in {}{kept}", durations::duration(results.seconds))
        + &line!("config, records and weights are in {folder}")
        + &next
}

/// The same for programs.
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
