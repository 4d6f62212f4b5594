//! `vitreous slurm train --simulate`: rehearses a job here, without Slurm, and works out whether the time limit is enough.

use std::fs;
use std::process::{Command, ExitCode};
use std::time::{SystemTime, UNIX_EPOCH};

use super::job::{Job, Wanted, program};
use super::submit::{Planned, plan};
use crate::cli::progress::seconds_in_all;
use crate::cli::reading::watched;
use crate::cli::train::{Args, INTERRUPTED, watch_signals};
use crate::cli::{CliError, json, show};
use crate::config::layers::Layers;
use crate::config::slurm::EARLY_S;
use crate::durations::duration;
use crate::experiment::{Prepared, unicode};
use crate::numbers;
use crate::record::RecordError;
use crate::slurm::{Budget, Chain, ChainEvent, JobFolder, SlurmError, rehearse};
use crate::train::{Rehearsal, threads};

/// Seconds of training that are rehearsed: of a longer run, only its first steps.
const SECONDS: f64 = 60.0;

/// Fewest steps that are rehearsed for each requeue.
const STEPS_OF_A_JOB: u64 = 3;

/// Runs the command.
pub fn run(wanted: &Wanted, args: &Args, requeues: u32) -> Result<ExitCode, CliError> {
    let stop = watch_signals()?;
    let Planned { checked, cpus, memory, base } = plan(wanted, args)?;
    let spec = checked.config().slurm.clone();
    let mut layers = Layers::new();
    layers.add_toml(&checked.config().to_toml(), "config.toml")?;
    // As many as the job has, as far as there are as many here.
    layers.put("train.threads", i64::try_from(cpus.min(threads(0))).unwrap_or(1), "--cpus")?;
    let checked = layers.clone().finish()?;
    let name = args.name.clone().unwrap_or(base);
    let folder = args.out.join(format!("{name}-rehearsal"));
    if folder.exists() {
        return Err(SlurmError::Exists { path: folder }.into());
    }
    let job = watched(|listener| Prepared::new(&checked, listener).and_then(|prepared| prepared.load(listener)))?;
    let seconds = seconds_in_all(&job, &Rehearsal::of(&job));
    let part = (SECONDS / seconds * job.steps() as f64) as u64;
    let steps = part.max(STEPS_OF_A_JOB * u64::from(requeues)).min(job.steps());
    let all = job.steps();
    drop(job);
    say!("{} of {} steps are rehearsed, with {requeues} requeues", numbers::count(steps), numbers::count(all));

    fs::create_dir_all(&folder).map_err(|error| RecordError::write(&folder, &error))?;
    let folder = fs::canonicalize(&folder).map_err(|error| RecordError::write(&folder, &error))?;
    if steps < all {
        layers.put("train.max_steps", i64::try_from(steps).unwrap_or(i64::MAX), "--simulate")?;
    }
    let config = folder.join("config.toml");
    fs::write(&config, layers.finish()?.config().to_toml()).map_err(|error| RecordError::write(&config, &error))?;

    // Often enough that a killed job has got further.
    let save_every = (seconds.min(SECONDS) / f64::from(requeues) / 4.0).clamp(0.1, 300.0);
    let words = |name: &str, more: &[&str]| -> Result<Vec<String>, CliError> {
        let (config, out) = (unicode(&config)?, unicode(&folder)?);
        let words = ["train", "--config", config, "--out", out, "--name", name, "--no-plots"];
        Ok(words.iter().chain(more).map(ToString::to_string).collect())
    };
    let save_every = format!("{save_every:.3}s");
    let arguments = words("requeued", &["--resume", "auto", "--save-every", &save_every])?;
    let owner = folder.join("requeued");
    let slurm = JobFolder::of(&owner);
    slurm.create()?;
    let job = Job {
        name: name.clone(),
        file: "train.sh".to_string(),
        arguments,
        continued: String::new(),
        resumes: true,
        array: None,
        staged: None,
        reads: checked.config().data.dir.clone(),
        memory,
        cpus,
    };
    let spec = crate::config::slurm::SlurmSpec { requeues: requeues as usize, ..spec };
    slurm.write(&job.file, &job.script(&spec, slurm.path())?)?;
    let mut alone = Command::new(program()?);
    alone.args(words("alone", &[])?);
    let chain = Chain {
        folder: &folder,
        script: &slurm.path().join(&job.file),
        run: &owner,
        alone,
        alone_run: &folder.join("alone"),
        cpus,
        requeues,
        seed: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64),
        stop: &stop,
    };
    let rehearsed = rehearse(chain, &tell)?;
    fs::remove_dir_all(&folder).map_err(|error| RecordError::write(&folder, &error))?;
    let Some(rehearsed) = rehearsed else {
        say!("interrupted: nothing of the rehearsal is kept");
        return Ok(ExitCode::from(INTERRUPTED));
    };

    let signal_s = spec.signal_seconds as f64;
    let budget =
        spec.limit().map(|limit| Budget::new(limit.as_secs_f64(), [signal_s, EARLY_S as f64], seconds, &rehearsed));
    if args.json {
        show(&json(&serde_json::json!({ "rehearsed": rehearsed, "seconds": seconds, "budget": budget })))?;
        return Ok(ExitCode::SUCCESS);
    }
    let jobs = rehearsed.warned + rehearsed.killed + rehearsed.requeued;
    let counts =
        format!("{} warned, {} killed, {} requeued by hand", rehearsed.warned, rehearsed.killed, rehearsed.requeued);
    let mut text =
        line!("equal: after {jobs} requeues ({counts}), the run has the weights and records of an uninterrupted one")
            + &line!("weights/last.safetensors {}", rehearsed.sha256)
            + &line!("tensors {}", rehearsed.tensors_sha256)
            + &line!(
                "the whole run takes about {} on this machine; a job's start takes {}",
                duration(seconds),
                duration(rehearsed.start_s_max)
            );
    let save = rehearsed.save_s_max.map(duration);
    text += &match (save, budget.and_then(|budget| budget.save_fits)) {
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
            Some(0) => line!("with --time {limit}, the whole run needs no requeue"),
            Some(1) => line!("with --time {limit}, the whole run needs 1 requeue"),
            Some(count) => line!("with --time {limit}, the whole run needs {} requeues", numbers::count(count)),
            None => line!("with --time {limit}, a job ends before its first step; use a longer --time"),
        };
    }
    show(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn tell(event: ChainEvent) {
    match event {
        ChainEvent::Alone { seconds } => say!("the uninterrupted run ended after {}", duration(seconds)),
        ChainEvent::Ended { start, how, seconds } => say!("start {start}: {how} after {}", duration(seconds)),
    }
}
