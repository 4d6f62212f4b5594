//! `vitreous slurm train|sweep --simulate`: rehearses jobs here, without Slurm, and works out whether the time limit is enough.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{SystemTime, UNIX_EPOCH};

use super::Simulated;
use super::job::{Job, Wanted, arguments_without, program};
use super::submit::{Planned, plan, sweep_jobs};
use crate::cli::progress::seconds_in_all;
use crate::cli::reading::watched;
use crate::cli::screen::{Align, table};
use crate::cli::train::{INTERRUPTED, watch_signals};
use crate::cli::{CliError, json, show, sweep as sweeps, train as trains};
use crate::config::CheckedConfig;
use crate::config::layers::Layers;
use crate::config::slurm::{EARLY_S, SlurmSpec};
use crate::durations::duration;
use crate::experiment::{Prepared, unicode};
use crate::numbers;
use crate::record::RecordError;
use crate::slurm::{BatchScript, Budget, Chain, ChainEvent, JobFolder, Rehearsed, SlurmError, rehearse};
use crate::sweep::PlannedRun;
use crate::train::{Rehearsal, threads};

/// Seconds of training that are rehearsed: of a longer run or sweep, only the first steps of each run.
const SECONDS: f64 = 60.0;

/// Fewest steps that are rehearsed for each requeue.
const STEPS_OF_A_JOB: u64 = 3;

/// Tasks of a sweep that run at the same time where nothing says how many.
const PARALLEL: usize = 2;

/// The names of both trainings in the folder of a rehearsal.
const ALONE: &str = "alone";
const REQUEUED: &str = "requeued";

/// A rehearsal that can start.
struct Ready {
    folder: PathBuf,
    requeues: u32,
    seed: u64,
    /// Seconds of the run, or of the sweep's first one, on this machine.
    seconds: f64,
}

/// Rehearses a training.
pub fn train(wanted: &Wanted, args: &trains::Args, simulated: &Simulated) -> Result<ExitCode, CliError> {
    let stop = watch_signals()?;
    let Planned { checked, cpus, memory, base, .. } = plan(wanted, args)?;
    let spec = spec_of(&checked, simulated);
    let mut layers = Layers::new();
    layers.add_toml(&checked.config().to_toml(), "config.toml")?;
    // As many as the job has, as far as there are as many here.
    layers.put("train.threads", i64::try_from(cpus.min(threads(0))).unwrap_or(1), "--cpus")?;
    let checked = layers.clone().finish()?;
    let (ready, steps) = ready(&args.out, args.name.as_deref().unwrap_or(&base), &checked, 1, simulated)?;
    if let Some(steps) = steps {
        layers.put("train.max_steps", i64::try_from(steps).unwrap_or(i64::MAX), "--simulate")?;
    }
    let config = ready.folder.join("config.toml");
    fs::write(&config, layers.finish()?.config().to_toml()).map_err(|error| RecordError::write(&config, &error))?;

    // Often enough that a killed job has got further.
    let save_every = (ready.seconds.min(SECONDS) / f64::from(ready.requeues) / 4.0).clamp(0.1, 300.0);
    let words = |name: &str, more: &[&str]| -> Result<Vec<String>, CliError> {
        let (config, out) = (unicode(&config)?, unicode(&ready.folder)?);
        let words = ["train", "--config", config, "--out", out, "--name", name, "--no-plots"];
        Ok(words.iter().chain(more).map(ToString::to_string).collect())
    };
    let save_every = format!("{save_every:.3}s");
    let arguments = words(REQUEUED, &["--resume", "auto", "--save-every", &save_every])?;
    let owner = ready.folder.join(REQUEUED);
    let slurm = JobFolder::of(&owner);
    slurm.create()?;
    let job = Job {
        name: base,
        file: "train.sh".to_string(),
        arguments,
        continued: String::new(),
        resumes: true,
        is_last: false,
        array: None,
        staged: None,
        reads: checked.config().data.dir.clone(),
        weights: None,
        reads_environment: false,
        memory,
        cpus,
    };
    slurm.write(&job.file, &job.script(&spec, slurm.path())?)?;
    let mut alone = Command::new(program()?);
    alone.args(words(ALONE, &[])?);
    let chain = Chain {
        folder: &ready.folder,
        owner: &owner,
        scripts: vec![BatchScript { path: slurm.path().join(&job.file), tasks: Vec::new() }],
        table: None,
        alone,
        alone_owner: &ready.folder.join(ALONE),
        runs: vec![String::new()],
        parallel: 1,
        cpus,
        requeues: ready.requeues,
        seed: ready.seed,
        stop: &stop,
    };
    finish(chain, &ready, &spec, args.json)
}

/// Rehearses a sweep: the tasks of its job arrays, and the job for the table.
pub fn sweep(wanted: &Wanted, args: &mut sweeps::Args, simulated: &Simulated) -> Result<ExitCode, CliError> {
    let stop = watch_signals()?;
    let checked = wanted.layers(sweeps::first_layers(args)?)?.finish()?;
    let spec = SlurmSpec { scratch: false, ..spec_of(&checked, simulated) };
    let name = sweeps::name(args)?;
    let runs = sweeps::plan(args, None)?.runs().len();
    let (ready, steps) = ready(&args.out, &name, &checked, runs, simulated)?;

    let mut own = vec!["name", "out", "no_plots", "plot_formats", "plot_theme"];
    let mut more = Vec::new();
    // Where each run sets it itself, a flag would have no effect.
    if let Some(steps) = steps.filter(|_| !sweeps::all_set(args, "train.max_steps").unwrap_or(false)) {
        own.push("train.max_steps");
        more.extend(["--max-steps".to_string(), steps.to_string()]);
    }
    let words = |name: &str| -> Result<Vec<String>, CliError> {
        let out = unicode(&ready.folder)?.to_string();
        let place = ["--out".to_string(), out, "--name".to_string(), name.to_string(), "--no-plots".to_string()];
        let words = std::iter::once("sweep".to_string()).chain(arguments_without("sweep", &own)?);
        Ok(words.chain(more.clone()).chain(place).collect())
    };
    (args.name, args.out) = (Some(REQUEUED.to_string()), ready.folder.clone());
    let (plan, arrays, last) = sweep_jobs(&spec, &checked, args, &words(REQUEUED)?, None)?;
    let slurm = JobFolder::of(plan.folder());
    slurm.create()?;
    for job in arrays.iter().chain([&last]) {
        slurm.write(&job.file, &job.script(&spec, slurm.path())?)?;
    }
    let script = |job: &Job| BatchScript {
        path: slurm.path().join(&job.file),
        tasks: job.array.as_ref().map_or(Vec::new(), |array| array.tasks.clone()),
    };
    let mut alone = Command::new(program()?);
    alone.args(words(ALONE)?);
    let chain = Chain {
        folder: &ready.folder,
        owner: plan.folder(),
        scripts: arrays.iter().map(script).collect(),
        table: Some(slurm.path().join(&last.file)),
        alone,
        alone_owner: &ready.folder.join(ALONE),
        runs: plan.runs().iter().map(PlannedRun::name).map(str::to_string).collect(),
        parallel: spec.parallel.unwrap_or(PARALLEL),
        cpus: last.cpus,
        requeues: ready.requeues,
        seed: ready.seed,
        stop: &stop,
    };
    finish(chain, &ready, &spec, args.json)
}

/// The resources, with as many requeues as are rehearsed.
fn spec_of(checked: &CheckedConfig, simulated: &Simulated) -> SlurmSpec {
    let requeues = simulated.simulate.unwrap_or_default() as usize;
    SlurmSpec { requeues, ..checked.config().slurm.clone() }
}

/// Times a training, and makes the folder of its rehearsal. Returns the steps of each run, where these are not all.
fn ready(
    out: &Path,
    name: &str,
    checked: &CheckedConfig,
    runs: usize,
    simulated: &Simulated,
) -> Result<(Ready, Option<u64>), CliError> {
    let requeues = simulated.simulate.unwrap_or_default();
    let folder = out.join(format!("{name}-rehearsal"));
    if folder.exists() {
        return Err(SlurmError::Exists { path: folder }.into());
    }
    let job = watched(|listener| Prepared::new(checked, listener).and_then(|prepared| prepared.load(listener)))?;
    let seconds = seconds_in_all(&job, &Rehearsal::of(&job));
    let all = job.steps();
    let part = (SECONDS / runs as f64 / seconds * all as f64) as u64;
    let fewest = STEPS_OF_A_JOB * u64::from(requeues).div_ceil(runs as u64);
    let steps = part.max(fewest).min(all);
    drop(job);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::from(time.subsec_nanos()));
    let seed = simulated.simulate_seed.unwrap_or(now);
    let each = if runs == 1 { String::new() } else { format!(" of each of {} runs", numbers::count(runs as u64)) };
    say!(
        "{} of {} steps{each} are rehearsed, with {requeues} requeues at times drawn from seed {seed}",
        numbers::count(steps),
        numbers::count(all)
    );
    say!("the scripts are those of a submission, except for names, folders and the number of steps");
    fs::create_dir_all(&folder).map_err(|error| RecordError::write(&folder, &error))?;
    let folder = fs::canonicalize(&folder).map_err(|error| RecordError::write(&folder, &error))?;
    Ok((Ready { folder, requeues, seed, seconds }, (steps < all).then_some(steps)))
}

/// Rehearses, removes the folder if all is equal, and reports.
fn finish(chain: Chain, ready: &Ready, spec: &SlurmSpec, as_json: bool) -> Result<ExitCode, CliError> {
    let is_sweep = chain.table.is_some();
    let rehearsed = rehearse(chain, &tell)?;
    fs::remove_dir_all(&ready.folder).map_err(|error| RecordError::write(&ready.folder, &error))?;
    let Some(rehearsed) = rehearsed else {
        say!("interrupted: nothing of the rehearsal is kept");
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let seconds = ready.seconds;
    let signal_s = spec.signal_seconds as f64;
    let budget =
        spec.limit().map(|limit| Budget::new(limit.as_secs_f64(), [signal_s, EARLY_S as f64], seconds, &rehearsed));
    show(&if as_json {
        let seed = ready.seed;
        json(&serde_json::json!({ "rehearsed": rehearsed, "seconds": seconds, "budget": budget, "seed": seed }))
    } else {
        report(&rehearsed, seconds, budget, spec, is_sweep)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn report(rehearsed: &Rehearsed, seconds: f64, budget: Option<Budget>, spec: &SlurmSpec, is_sweep: bool) -> String {
    let Rehearsed { warned, killed, requeued, cancelled, runs, .. } = rehearsed;
    let requeues = numbers::counted(rehearsed.requeues() as usize, "requeue");
    let mut counts = format!("{warned} warned, {killed} killed, {requeued} requeued by hand");
    let mut text = if is_sweep {
        counts += &format!(", {cancelled} cancelled and submitted again");
        let rows: Vec<_> = std::iter::once(["run".to_string(), "SHA-256 of weights/last.safetensors".to_string()])
            .chain(runs.iter().map(|run| [run.run.clone(), run.sha256.clone()]))
            .collect();
        line!(
            "equal: after {requeues} ({counts}), {} and the table are made, with the weights and records of an uninterrupted \
             sweep",
            numbers::counted(runs.len(), "run")
        ) + &table(&rows, &[Align::Left; 2])
    } else {
        let equal =
            line!("equal: after {requeues} ({counts}), the run has the weights and records of an uninterrupted one");
        let hashes = runs.iter().map(|run| {
            line!("SHA-256 of weights/last.safetensors: {}", run.sha256)
                + &line!("SHA-256 of the tensors in it:        {}", run.tensors_sha256)
        });
        equal + &hashes.collect::<String>()
    };
    let run = if is_sweep { "the first run" } else { "the whole run" };
    text += &line!(
        "{run} takes about {} on this machine; a job's start takes {}",
        duration(seconds),
        duration(rehearsed.start_s_max)
    );
    let signal_s = spec.signal_seconds;
    text += &match (rehearsed.save_s_max.map(duration), budget.and_then(|budget| budget.save_fits)) {
        (None, _) => {
            line!("no save was measured: the run ended before a job was warned; use fewer requeues or a longer run")
        }
        (Some(save), Some(true)) => line!("one save fits: it took up to {save}, and {signal_s} s are kept for it"),
        (Some(save), Some(false)) => line!(
            "one save does not fit: it took up to {save}, and {signal_s} s are kept for it; use a larger --signal-seconds"
        ),
        (Some(save), None) => line!("one save took up to {save}; with --time, the number of requeues is worked out"),
    };
    if let (Some(budget), Some(limit)) = (budget, &spec.time) {
        text += &match budget.requeues {
            Some(0) => line!("with --time {limit}, {run} needs no requeue"),
            Some(count) => line!("with --time {limit}, {run} needs {}", numbers::counted(count as usize, "requeue")),
            None => line!("with --time {limit}, a job ends before its first step; use a longer --time"),
        };
    }
    text
}

fn tell(event: ChainEvent) {
    match event {
        ChainEvent::Alone { seconds } => say!("uninterrupted, it ended after {}", duration(seconds)),
        ChainEvent::Ended { requeue, task, how, seconds } => {
            let task = task.map_or(String::new(), |task| format!("task {task}, "));
            say!("requeue {requeue}: {task}{how} after {}", duration(seconds));
        }
        ChainEvent::Anew { requeues } => {
            say!("it ended, equal, after {requeues} requeues; it is trained anew for the others")
        }
    }
}
