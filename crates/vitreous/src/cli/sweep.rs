//! `vitreous sweep`: trains the runs of a sweep and prints their comparison.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::advice::Context;
use super::compare::{Format, print};
use super::evaluate::SplitArg;
use super::flags::{self, Flags};
use super::plots::PlotArgs;
use super::progress::TrainProgress;
use super::reading::{Bar, watched};
use super::screen::{Align, table};
use super::settings::{SettingsArgs, shell_word};
use super::slurm::{earlier_run, note_run, wait_for_earlier_start};
use super::train::{INTERRUPTED, base, command, watch_interrupts, watch_warnings};
use super::{CliError, json, show};
use crate::advice::{Source, Verb};
use crate::config::difference::shown;
use crate::config::layers::Layers;
use crate::config::text_file;
use crate::experiment::{Event, plot_comparison};
use crate::record::PLOTS;
use crate::sweep::{
    self, Ended, PlannedRun, RunsOn, State, Sweep, SweepError, SweepEvent, SweepFile, SweepOptions, Variation,
};
use crate::train;
use crate::{durations, numbers};

/// Trains variations of a config and compares them
#[derive(clap::Args)]
pub struct Args {
    /// A built-in sweep (e1, fashion) or a TOML file; without one, use --set-each or --seeds
    #[arg(value_name = "SWEEP")]
    sweep: Option<String>,
    /// A key and its values, such as train.lr=1e-3,3e-4; several make a grid, and its first run, of the first values, is the
    /// base that the others are compared with
    #[arg(long, value_name = "TABLE.KEY=VALUE,...")]
    set_each: Vec<String>,
    /// Seeds for each setting, such as 1,2,3 [default: the sweep's, else the config's own]
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    seeds: Vec<u64>,
    /// Runs side by side; threads are divided among them
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub jobs: usize,
    /// Splits on which each run is evaluated, in addition to val, which ranks them; test only if the sweep's file has
    /// `reproduces` [default: the sweep's]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    evaluate: Vec<SplitArg>,
    /// Evaluate the setting that val ranks first on the test split
    #[arg(long)]
    test_winner: bool,
    /// The name of the sweep's folder [default: the sweep's, or the preset's with -sweep]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Folder for sweeps
    #[arg(long, value_name = "DIR", default_value = "runs")]
    pub out: PathBuf,
    /// Only list the runs, their state and what they change
    #[arg(long)]
    pub list: bool,
    /// Train one run: the N-th, or the next that no other process trains; for the tasks of a job array
    #[arg(long, value_name = "N", conflicts_with_all = ["list", "jobs"])]
    pub task: Option<usize>,
    /// Train nothing: compare the runs that are finished, and write the analysis
    #[arg(long, conflicts_with_all = ["list", "task"])]
    pub conclude: bool,
    /// Print the comparison, or with --list the runs, as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    plots: PlotArgs,
    #[command(flatten)]
    pub settings: SettingsArgs,
    #[command(flatten)]
    pub flags: Flags,
}

/// The layers from which the first setting of a sweep starts.
pub fn first_layers(args: &Args) -> Result<Layers, CliError> {
    let (file, _) = sweep_file(args)?;
    let first = file.expand()?.into_iter().next().expect("a sweep has settings");
    let mut layers = start(args, &first)?;
    for assignment in &first.set {
        layers.set(assignment, Source::File(format!("run {}", first.name)))?;
    }
    Ok(layers)
}

/// The name of a sweep.
pub fn name(args: &Args) -> Result<String, CliError> {
    Ok(sweep_file(args)?.1)
}

/// Checks every run of a sweep, which other machines train with so many processors if these are given.
pub fn plan(args: &Args, processors: Option<usize>) -> Result<Sweep, CliError> {
    let (file, name) = sweep_file(args)?;
    refuse_ignored(args, &file)?;
    let options = SweepOptions {
        name,
        out: args.out.clone(),
        jobs: args.jobs,
        evaluate: args.evaluate.iter().map(|&split| split.into()).collect(),
        is_validated: true,
        test_winner: args.test_winner,
        // Which process writes the analysis is not a part of how the runs were made.
        command: command().into_iter().filter(|word| word != "--conclude").collect(),
        plots: args.plots.choice(),
        runs_on: match processors {
            Some(processors) => RunsOn::Others(processors),
            None if args.conclude => RunsOn::Nothing,
            None => RunsOn::Here,
        },
    };
    watched(|listener| Sweep::plan(file, options, |variation| start(args, variation), listener))
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode, CliError> {
    let stop = watch_warnings()?;
    let mut sweep = plan(&args, None)?;
    watch_interrupts(&stop)?;
    if let Some(task) = args.task {
        return run_task(&args, &sweep, task, &stop);
    }
    if args.list {
        return list(&sweep, args.json).map(|()| ExitCode::SUCCESS);
    }
    let notes = sweep.notes().to_vec();
    let screen = Screen::new(&sweep);
    let listener = |event: SweepEvent| screen.show(event);
    let claimed = sweep.claim::<CliError>(&stop, &listener)?;
    say_what(claimed.sweep());
    notes.iter().for_each(|note| say!("note: {note}"));
    let failed = if args.conclude { Vec::new() } else { claimed.train() };
    let failed: Vec<(String, CliError)> = failed.into_iter().map(|(run, error)| (run, error.into())).collect();
    // Reported first: the next steps may fail for the same reason, such as a full disk.
    for (run, error) in failed.iter().filter(|_| !args.json) {
        say!("run {run}:");
        error.report(&Context::of(Verb::Sweep, false));
    }
    let runs = claimed.sweep().runs();
    let open: Vec<&str> = runs.iter().filter(|run| !run.is_done()).map(PlannedRun::name).collect();
    let done = runs.len() - open.len();
    if args.conclude && !open.is_empty() {
        say!("note: {} of {} runs are not finished and are left out: {}", open.len(), runs.len(), open.join(", "));
    }
    let interrupted = |what: &str, then: &str| {
        show(&if args.json {
            json(&serde_json::json!({ "interrupted": true, "done": done, "runs": runs.len() }))
        } else {
            format!("interrupted: {what} runs are done; the same command {then}\n")
        })
        .map(|()| ExitCode::from(INTERRUPTED))
    };
    if stop.load(Ordering::Relaxed) {
        return interrupted(&format!("{done} of {}", runs.len()), "resumes the sweep");
    }
    claimed.check()?;
    match claimed.conclude()? {
        Ended::Stopped => return interrupted("all", "evaluates the winner"),
        Ended::Nothing => {}
        Ended::Compared(end) => {
            print(&end.comparison, if args.json { Format::Json } else { Format::Terminal }, Verb::Sweep)?;
            if let Some(earlier) = end.earlier {
                say!("note: the earlier analysis differs and was moved to {}", earlier.display());
            }
            if let Some(choice) = args.plots.choice() {
                let folder = end.analysis.with_file_name(PLOTS);
                if let Err(error) = plot_comparison(&end.comparison, &folder, &choice) {
                    say!("note: {error}; the sweep has no plots");
                }
            }
            say!("{} describes the effect of each change and how the settings were ranked", end.analysis.display());
            say!(
                "compare the runs again, also as CSV or by test accuracy: vitreous compare {}",
                shell_word(claimed.sweep().folder())
            );
        }
    }
    match failed.len() {
        0 => Ok(ExitCode::SUCCESS),
        count => Err(CliError::failure(format!("{count} of {} runs have failed", runs.len()), None).because_of(failed)),
    }
}

/// The sweep as written, flags included, and its name.
fn sweep_file(args: &Args) -> Result<(SweepFile, String), CliError> {
    let (mut file, name) = match &args.sweep {
        None => (SweepFile::default(), format!("{}-sweep", crate::record::base_name(&base(&args.settings)))),
        Some(name) => match sweep::text(name) {
            Some(text) => (SweepFile::parse(text, &format!("sweep {name}"))?, name.clone()),
            None => {
                let path = Path::new(name);
                if !path.exists() {
                    return Err(SweepError::Unknown { name: name.clone() }.into());
                }
                let text = text_file::read(path).map_err(|error| SweepError::Read {
                    path: name.clone(),
                    reason: error.reason,
                    hint: error.hint,
                })?;
                let stem = path.file_stem().map_or("sweep".to_string(), |stem| stem.to_string_lossy().into_owned());
                (SweepFile::parse(&text, name)?, stem)
            }
        },
    };
    file.each.extend(args.set_each.iter().cloned());
    if !args.seeds.is_empty() {
        file.seeds.clone_from(&args.seeds);
        file.run.iter_mut().for_each(|run| run.seeds.clear());
    }
    Ok((file, args.name.clone().unwrap_or(name)))
}

/// The key of an assignment.
pub fn key_of(assignment: &str) -> &str {
    assignment.split('=').next().unwrap_or_default().trim()
}

/// Whether a setting sets a key itself.
fn sets(variation: &Variation, key: &str) -> bool {
    variation.set.iter().any(|assignment| key_of(assignment) == key)
}

/// Whether every run of a sweep sets a key itself.
pub fn all_set(args: &Args, key: &str) -> Result<bool, CliError> {
    Ok(sweep_file(args)?.0.expand()?.iter().all(|variation| sets(variation, key)))
}

/// Refuses a flag whose key every run of the sweep sets itself.
fn refuse_ignored(args: &Args, file: &SweepFile) -> Result<(), CliError> {
    let mut given: Vec<(String, String)> =
        args.flags.values().map(|(key, _, flag)| (key.to_string(), flag.to_string())).collect();
    given.extend(args.settings.set.iter().map(|set| (key_of(set).to_string(), format!("--set {}", key_of(set)))));
    for (key, value) in [("data.name", &args.settings.data), ("data.classes", &args.settings.classes)] {
        given.extend(value.iter().map(|_| (key.to_string(), format!("--{}", flags::of_key(key).unwrap_or_default()))));
    }
    let variations = file.expand()?;
    for (key, flag) in given {
        let has_seeds = |variation: &Variation| key == "train.seed" && !variation.seeds.is_empty();
        if variations.iter().all(|variation| sets(variation, &key) || has_seeds(variation)) {
            let error = format!("every run of the sweep sets {key} itself, so {flag} would have no effect");
            let instead = if key == "train.seed" { "--seeds".to_string() } else { format!("--set-each {key}=...") };
            return Err(CliError::user(error, Some(format!("leave out {flag}, or give its value with {instead}"))));
        }
    }
    Ok(())
}

/// The config from which a setting starts: its preset and file, then the flags.
fn start(args: &Args, variation: &Variation) -> Result<Layers, CliError> {
    let mut settings = args.settings.clone();
    if variation.preset.is_some() || variation.config.is_some() {
        if settings.preset.is_some() || settings.config.is_some() || settings.model.is_some() {
            let hint = "change its runs with --set, or copy its file and edit that";
            let error = "the sweep's file says where its runs start (--preset, --config, --model)";
            return Err(CliError::user(error, Some(hint.to_string())));
        }
        (settings.preset, settings.config) = (variation.preset.clone(), variation.config.clone());
    }
    settings.layers(args.flags.values())
}

/// A run in `--list --json`.
#[derive(Serialize)]
struct Listed<'a> {
    run: &'a str,
    state: &'static str,
    changes: serde_json::Map<String, serde_json::Value>,
}

fn list(sweep: &Sweep, as_json: bool) -> Result<(), CliError> {
    let (mut rows, mut listed) = (vec![["run", "state", "against the first"].map(str::to_string)], Vec::new());
    for run in sweep.runs() {
        let changes = sweep.changes(run)?;
        let state = match run.state() {
            State::Done => "done",
            State::New => "new",
            State::Begun => "to resume",
            State::Again => "to restart",
        };
        let text: Vec<String> = changes.iter().map(|(key, value)| format!("{key} {}", shown(value.as_ref()))).collect();
        rows.push([run.name().to_string(), state.to_string(), text.join(", ")]);
        let changes = changes.into_iter().map(|(key, value)| (key, serde_json::json!(value))).collect();
        listed.push(Listed { run: run.name(), state, changes });
    }
    let object = || json(&serde_json::json!({ "runs": listed }));
    show(&if as_json { object() } else { table(&rows, &[Align::Left; 3]) })
}

/// Trains one run next to other processes, which train the others.
fn run_task(args: &Args, sweep: &Sweep, task: usize, stop: &AtomicBool) -> Result<ExitCode, CliError> {
    let runs = sweep.runs().len();
    if !(1..=runs).contains(&task) {
        let hint = format!("use 1 to {runs}");
        return Err(CliError::user(
            format!("invalid task {task}: the sweep has {} (--task)", numbers::counted(runs, "run")),
            Some(hint),
        ));
    }
    // A task that is started again continues the run that it had.
    let names = || sweep.runs().iter().map(PlannedRun::name);
    let earlier = earlier_run(sweep.folder()).and_then(|earlier| names().position(|name| name == earlier));
    let first = earlier.unwrap_or(task - 1);
    wait_for_earlier_start(&sweep.folder().join(sweep.runs()[first].name()), stop);
    let screen = Screen::new(sweep);
    let listener = |event: SweepEvent| {
        if let SweepEvent::Started { run, .. } = event {
            note_run(sweep.folder(), run);
        }
        screen.show(event);
    };
    sweep.notes().iter().for_each(|note| say!("note: {note}"));
    let trained = sweep.join(stop, &listener).train_next::<CliError>(first)?.map(str::to_string);
    let interrupted = stop.load(Ordering::Relaxed);
    let text = match (args.json, &trained) {
        (true, _) => json(&serde_json::json!({ "run": trained, "interrupted": interrupted })),
        (false, Some(run)) if interrupted => line!("interrupted: {run} is resumed by the same command"),
        (false, Some(run)) => line!("{run} is done"),
        (false, None) if interrupted => "interrupted: no run was started\n".to_string(),
        (false, None) => "every run is done, has failed, or is trained by another process\n".to_string(),
    };
    show(&text)?;
    Ok(if interrupted { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

fn say_what(sweep: &Sweep) {
    let name = sweep.folder().file_name().unwrap_or_default().display();
    let done = sweep.runs().iter().filter(|run| run.state() == State::Done).count();
    let before = if done > 0 { format!(", {done} of them done before") } else { String::new() };
    let [jobs, threads] = sweep.jobs();
    let threads = numbers::counted(threads, "thread");
    let how = if jobs > 1 { format!("{jobs} side by side, each on {threads}") } else { format!("on {threads}") };
    say!("sweep {name}: {} runs{before}, {how}, into {}", sweep.runs().len(), sweep.folder().display());
}

/// Shows a sweep on stderr: with bars where one run is trained at a time, else with a line per epoch.
struct Screen {
    runs: usize,
    is_alone: bool,
    progress: Mutex<Option<TrainProgress>>,
    /// Epochs of each run.
    epochs: Mutex<BTreeMap<String, usize>>,
    bar: Mutex<Option<Bar>>,
}

impl Screen {
    fn new(sweep: &Sweep) -> Screen {
        let is_alone = sweep.jobs()[0] == 1;
        Screen {
            runs: sweep.runs().len(),
            is_alone,
            progress: Mutex::default(),
            epochs: Mutex::default(),
            bar: Mutex::default(),
        }
    }

    fn clear(&self) {
        self.bar.lock().expect("no thread panics with it").take().iter().for_each(Bar::clear);
    }

    fn show(&self, event: SweepEvent) {
        match event {
            SweepEvent::Started { index, run } => say!("run {} of {}: {run}", index + 1, self.runs),
            SweepEvent::Loaded { run, job, step, resumed } => {
                self.clear();
                if self.is_alone {
                    let progress = TrainProgress::start(job, step, None);
                    *self.progress.lock().expect("no thread panics with it") = Some(progress);
                }
                let mut epochs = self.epochs.lock().expect("no thread panics with it");
                epochs.insert(run.to_string(), job.config().train.epochs);
                resumed.iter().for_each(|resumed| say!("{run}: {resumed}"));
            }
            SweepEvent::Run { run, event: Event::Training(event) } => self.training(run, event),
            SweepEvent::Run { run, event: Event::Note(note) } => {
                self.clear();
                say!("note: {run}: {note}");
            }
            SweepEvent::Run { run, event: Event::Detail(text) } => {
                self.clear();
                detail!("{run}: {text}");
            }
            SweepEvent::Run { event, .. } => {
                self.bar
                    .lock()
                    .expect("no thread panics with it")
                    .get_or_insert_with(|| Bar::new(self.is_alone))
                    .show(event);
            }
            SweepEvent::Trained { .. } => {
                self.progress.lock().expect("no thread panics with it").take().iter().for_each(TrainProgress::finish);
            }
            SweepEvent::Evaluated { run, accuracies, seconds } => {
                self.clear();
                let found: Vec<String> = accuracies
                    .iter()
                    .map(|(split, accuracy)| format!("{split} {}", numbers::percent(*accuracy)))
                    .collect();
                let took = seconds.map_or(String::new(), |seconds| format!(", {}", durations::duration(seconds)));
                if !found.is_empty() {
                    say!("{run}: {}{took}", found.join(", "));
                }
            }
            SweepEvent::Failed { run } => {
                self.clear();
                say!("run {run} failed; the sweep continues");
            }
            SweepEvent::TestsWinner { setting, reproduces: true, .. } => {
                say!("the test split is evaluated for {setting}");
            }
            SweepEvent::TestsWinner { setting, tested: [], .. } => {
                say!("the test split is evaluated for {setting}, and for no other setting");
            }
            SweepEvent::TestsWinner { setting, tested, .. } => {
                let tested = tested.join(", ");
                say!("the test split is evaluated for {setting}; before, it was evaluated for {tested}");
            }
        }
    }

    fn training(&self, run: &str, event: train::Event) {
        match (&mut *self.progress.lock().expect("no thread panics with it"), event) {
            (Some(progress), event) => progress.show(event),
            (None, train::Event::Epoch { row, .. }) => {
                let accuracy =
                    |found: crate::record::Validation| format!("  val acc {}", numbers::percent(found.accuracy));
                let validation = row.validation.map_or_else(String::new, accuracy);
                let acc = numbers::percent(row.train_acc);
                let epochs =
                    self.epochs.lock().expect("no thread panics with it").get(run).copied().unwrap_or_default();
                say!("{run}: epoch {}/{epochs}  loss {:.4}  acc {acc}{validation}", row.epoch, row.train_loss);
            }
            (None, _) => {}
        }
    }
}
