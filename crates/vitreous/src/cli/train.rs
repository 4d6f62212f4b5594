//! `vitreous train`: a config becomes a run. Everything is checked and loaded before a folder is made.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use vitreous_engine::Memory;

use super::flags::Flags;
use super::progress::TrainProgress;
use super::reading::reading;
use super::settings::{SettingsArgs, inspect, shell_word, square_facts};
use super::{CliError, dry_run, json, show};
use crate::config::{CheckedConfig, ResolvedConfig, presets};
use crate::data::{self, Facts, ImageShape, Progress, Wanted};
use crate::evaluate::Accuracy;
use crate::models::{self, Model};
use crate::record::{Place, Run, Status};
use crate::train::{Job, Outcome, Preflight, Training, available_memory, check_memory, memory_needed};
use crate::units;

/// Exit status of a run that was interrupted and has saved what it had reached, as shells have it for SIGINT.
pub const INTERRUPTED: u8 = 130;

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
    #[arg(long)]
    dry_run: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command; `started` is when the program did.
pub fn run(args: Args, started: Instant) -> Result<ExitCode, CliError> {
    let mut layers = args.settings.layers(args.flags.values())?;
    let built_in = args.settings.without_mnist(&mut layers)?;
    let checked = layers.finish()?;
    let place = Place::choose(&args.out, args.name.as_deref(), &base(&args.settings))?;
    let ready = ready(&checked)?;
    let (needed, notes) = (ready.needed, ready.notes.clone());
    let job = load(&checked, ready, true)?;
    if !args.dry_run {
        say_what(&job);
    }
    built_in.iter().chain(&notes).for_each(|note| say!("note: {note}"));
    let preflight = Preflight::new(&job, needed, &args.out)?;
    if args.dry_run {
        return dry_run::run(&job, &preflight, &notes, args.json).map(|()| ExitCode::SUCCESS);
    }
    preflight.problems().iter().for_each(|problem| say!("note: {}; {}", problem.what, problem.fix));

    let (config_toml, manifest) = (job.config().to_toml(), job.manifest(command()));
    let mut progress = TrainProgress::start(&job);
    let mut training = Training::new(job);
    let stop = watch_signals()?;
    let mut run = place.create(&config_toml, manifest)?;
    let outcome = training.run(&mut run, started, &stop, &mut |event| progress.show(event));
    progress.finish();
    let outcome = outcome?;
    show(&if args.json { json(&result(&run, &outcome)) } else { report(&run, &outcome) })?;
    Ok(if outcome.status == Status::Interrupted { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
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
    let facts = inspect(checked)?;
    let mut config = checked.resolve(square_facts(&facts)?)?;
    let mut notes = checked.notes().to_vec();
    notes.extend(checked.fit_batch(&mut config, facts.train));
    notes.extend(passed_over(&facts));
    Job::check_batch(&config, facts.train)?;
    let model = models::build_for_training(&config)?;
    let needed = memory_needed(&config, &model, &facts);
    check_memory("training", needed, facts.is_folder(), available_memory())?;
    Ok(Ready { facts, config, model, needed, notes })
}

/// What lies in the data's folder and is not used.
fn passed_over(facts: &Facts) -> impl Iterator<Item = String> {
    let folders = facts.ignored_folders.iter();
    let pictures = (facts.loose_pictures > 0).then(|| {
        let count = units::count(facts.loose_pictures as u64);
        format!("pictures that lie beside the class folders are passed over: {count}")
    });
    folders
        .map(|folder| format!("{} is passed over: splits are called train/, val/ and test/", folder.display()))
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

/// The first SIGINT or SIGTERM asks the training to stop, the second one ends the program at once.
pub fn watch_signals() -> Result<Arc<AtomicBool>, CliError> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal must not find the flag set by itself.
        flag::register_conditional_shutdown(signal, i32::from(INTERRUPTED), stop.clone())
            .and_then(|_| flag::register(signal, stop.clone()))
            .map_err(|error| {
                CliError::failure(format!("cannot watch for Ctrl-C: {}", units::system_error(&error)), None)
            })?;
    }
    Ok(stop)
}

fn say_what(job: &Job) {
    let (config, data) = (job.config(), job.data());
    let ImageShape { height, width, .. } = job.image_shape();
    let parameters = units::count(job.model().graph.parameter_count() as u64);
    say!("{}: {parameters} parameters", config.model.describe());
    let skipped = match data.skipped.len() {
        0 => String::new(),
        count => format!(", {} that cannot be decoded left out", units::count(count as u64)),
    };
    say!(
        "{}: {} images train, {} validate, {} classes, {height}x{width} pixels{skipped}; {} {}",
        data.name,
        units::count(data.train as u64),
        units::count(data.validation as u64),
        units::count(data.class_names.len() as u64),
        job.threads(),
        if job.threads() == 1 { "thread" } else { "threads" },
    );
}

/// What was reached, where it is, and what to do next.
fn report(run: &Run, outcome: &Outcome) -> String {
    let (results, data, folder) = (&outcome.results, &run.manifest().data, run.folder().display());
    let word = shell_word(run.folder());
    let how = match outcome.status {
        Status::Interrupted => format!("interrupted after step {}; ", units::count(results.steps)),
        Status::MaxSteps => format!("stopped after step {} as asked; ", units::count(results.steps)),
        _ => String::new(),
    };
    let validation = |value| {
        let images = data.validation as u64;
        let [low, high] = Accuracy { value, images }.interval().map(units::percent);
        let (right, images) = (units::percent(value), units::count(images));
        format!("{right} of {images} validation images right (95 % interval {low} to {high})")
    };
    let reached = match (results.best_val_acc, results.best_epoch, results.val_acc, results.train_acc) {
        (Some(accuracy), Some(epoch), ..) => format!("{}, best epoch: {epoch}", validation(accuracy)),
        (_, _, Some(accuracy), _) => format!("{}, last epoch", validation(accuracy)),
        (.., Some(accuracy)) => format!("{} of training images right", units::percent(accuracy)),
        _ => "the first epoch was not completed".to_string(),
    };
    let kept = match (results.lowest_train_loss, results.lowest_step) {
        (Some(loss), Some(step)) => {
            format!("; kept: the weights of the lowest training loss, {loss:.4} at step {}", units::count(step))
        }
        _ => String::new(),
    };
    format!(
        "{how}{reached}, in {}{kept}\n\
         config, records and weights are in {folder}\n\
         next: vitreous evaluate {word}\n      vitreous predict IMAGE --run {word}\n",
        units::duration(results.seconds)
    )
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
