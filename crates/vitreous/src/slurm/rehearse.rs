//! A rehearsal without Slurm: the batch script runs here with stand-ins for Slurm's commands. At random times it is warned,
//! killed or requeued, and started again, until the run is finished; then the run must equal one that nothing interrupts.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::SlurmError;
use crate::random::Key;
use crate::record::RecordError;
use crate::system_errors::system_error;
use crate::verify::{Ended, VerifyError};

/// Time between two looks at a process.
const LOOK: Duration = Duration::from_millis(5);

/// Time that a job has to end after a signal, as Slurm's `KillWait`.
const KILL_WAIT: Duration = Duration::from_secs(30);

/// The same for processes that cannot refuse.
const KILLED_WAIT: Duration = Duration::from_secs(5);

/// Part of the training that the jobs before the last take together; the last finishes it.
const BEFORE_LAST: f64 = 0.6;

/// Part of the kills that come before the training has begun.
const EARLY: f64 = 0.1;

/// Stand-ins for Slurm's commands, as functions of the shell: unlike files in the `PATH`, they come before the real commands
/// whatever the script does. The job step's process is noted, so that it can be signalled alone; the job is always running.
const STAND_INS: [(&str, &str); 3] = [
    (
        "srun",
        "while [ \"${1#-}\" != \"$1\" ]; do shift; done; (echo \"$BASHPID\" > \"$VITREOUS_STAND_IN/step\"; exec \"$@\")",
    ),
    ("scontrol", "echo \"$@\" > \"$VITREOUS_STAND_IN/scontrol\""),
    ("squeue", "echo RUNNING"),
];

/// The number of the rehearsed job, which no real job can have.
const JOB: &str = "rehearsal";

/// What is rehearsed.
pub struct Chain<'a> {
    /// The folder for the stand-ins and both runs, made by the caller.
    pub folder: &'a Path,
    /// The batch script.
    pub script: &'a Path,
    /// The folder of the run that the script trains.
    pub run: &'a Path,
    /// The same training, without the script.
    pub alone: Command,
    /// The folder of its run.
    pub alone_run: &'a Path,
    /// Processors of the job.
    pub cpus: usize,
    /// How often the job is started again.
    pub requeues: u32,
    /// Decides when and how.
    pub seed: u64,
    /// Ends the rehearsal.
    pub stop: &'a AtomicBool,
}

/// Something that happens in a rehearsal.
#[derive(Clone, Copy, Debug)]
pub enum ChainEvent<'a> {
    /// The run that nothing interrupts ended.
    Alone {
        /// After so many seconds.
        seconds: f64,
    },
    /// A job ended early.
    Ended {
        /// Its number, from 1.
        start: u32,
        /// How: `warned`, `killed` or `requeued`.
        how: &'a str,
        /// After so many seconds.
        seconds: f64,
    },
}

/// A run that equals an uninterrupted one.
#[derive(Clone, Debug, Serialize)]
pub struct Rehearsed {
    /// Jobs that were warned, saved a checkpoint and requeued themselves.
    pub warned: u32,
    /// Jobs that were killed, as by a failure of their node.
    pub killed: u32,
    /// Jobs that were requeued by hand, or preempted.
    pub requeued: u32,
    /// Longest time from a warning to the end of the job, in seconds; absent where no job was warned.
    pub save_s_max: Option<f64>,
    /// Longest time from the start of a job to the first step, in seconds.
    pub start_s_max: f64,
    /// SHA-256 of the last weights of both runs.
    pub sha256: String,
    /// SHA-256 of their tensors.
    pub tensors_sha256: String,
}

/// How a job is ended.
#[derive(Clone, Copy, PartialEq)]
enum How {
    Warned,
    Killed,
    Requeued,
}

/// Whether one save fits into the time limit, and how many requeues a run needs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Budget {
    /// Whether a checkpoint is saved in the time between the signal and the limit; absent where none was measured.
    pub save_fits: Option<bool>,
    /// Requeues of the whole run; absent where a job would not get to its first step.
    pub requeues: Option<u64>,
}

impl Budget {
    /// Works it out for jobs of so many seconds, of which the last `signal_s` are kept for the save, and of which up to
    /// `early_s` more may be lost.
    pub fn new(limit_s: f64, [signal_s, early_s]: [f64; 2], run_s: f64, rehearsed: &Rehearsed) -> Budget {
        let useful = limit_s - signal_s - early_s - rehearsed.start_s_max;
        let requeues = (useful > 0.0).then(|| ((run_s / useful).ceil() as u64).saturating_sub(1));
        Budget { save_fits: rehearsed.save_s_max.map(|save_s| save_s <= signal_s), requeues }
    }
}

/// Rehearses a chain of jobs. Returns nothing if it was stopped.
///
/// # Errors
/// When a process cannot be started, the script fails, or the runs differ.
pub fn rehearse(mut chain: Chain, listener: &dyn Fn(ChainEvent)) -> Result<Option<Rehearsed>, SlurmError> {
    let runs = |child: &mut Child| !has_ended(child) && !chain.stop.load(Ordering::Relaxed);
    let clock = Instant::now();
    let log = chain.folder.join("alone.log");
    let failed = |error| SlurmError::Start { what: "the program".to_string(), reason: system_error(&error) };
    let alone = chain.alone.stdin(Stdio::null()).stdout(append(&log)?).stderr(append(&log)?).spawn();
    let mut alone = alone.map_err(failed)?;
    while runs(&mut alone) {
        std::thread::sleep(LOOK);
    }
    if chain.stop.load(Ordering::Relaxed) {
        let _ = alone.kill();
        alone.wait().map_err(failed)?;
        return Ok(None);
    }
    let alone = alone.wait().map_err(failed)?;
    let seconds = clock.elapsed().as_secs_f64();
    if !alone.success() {
        return Err(SlurmError::Failed { status: alone.code().unwrap_or(-1).to_string(), lives: 1, log });
    }
    listener(ChainEvent::Alone { seconds });

    let log = chain.folder.join("job.log");
    let draw = Key::new(chain.seed);
    let mut rehearsed = Rehearsed {
        warned: 0,
        killed: 0,
        requeued: 0,
        save_s_max: None,
        start_s_max: 0.0,
        sha256: String::new(),
        tensors_sha256: String::new(),
    };
    let mean = BEFORE_LAST * seconds / f64::from(chain.requeues.max(1));
    let mut restarts = 0;
    loop {
        let manifest = fs::read(chain.run.join("manifest.json")).ok();
        let mut job = start(&chain, restarts, &log)?;
        let clock = Instant::now();
        let place = u64::from(restarts) * 3;
        let how = match draw.range(place, 0.0, 3.0) as u32 {
            // The first, so that a save is measured.
            _ if restarts == 0 => How::Warned,
            0 => How::Warned,
            1 => How::Killed,
            _ => How::Requeued,
        };
        let is_early = how == How::Killed && draw.range(place + 1, 0.0, 1.0) < EARLY;
        // A signal before the training has begun would end a process that has nothing to save yet.
        let waits = || !is_early && fs::read(chain.run.join("manifest.json")).ok() == manifest;
        while waits() && runs(&mut job) {
            std::thread::sleep(LOOK);
        }
        if !is_early && !has_ended(&mut job) {
            rehearsed.start_s_max = rehearsed.start_s_max.max(clock.elapsed().as_secs_f64());
        }
        let until = Instant::now() + Duration::from_secs_f64(draw.range(place + 2, 0.0, 2.0) * mean);
        while (restarts == chain.requeues || Instant::now() < until) && runs(&mut job) {
            std::thread::sleep(LOOK);
        }
        if chain.stop.load(Ordering::Relaxed) {
            signal(&job, How::Killed, Path::new(""));
            wait(&mut job, How::Killed)?;
            return Ok(None);
        }
        let has_ended_itself = has_ended(&mut job);
        let signalled = Instant::now();
        if !has_ended_itself {
            signal(&job, how, &chain.folder.join("step"));
        }
        let status = wait(&mut job, how)?;
        let requeued = chain.folder.join("scontrol");
        // The run may have ended just before the signal came.
        if status.success() && !requeued.exists() {
            break;
        }
        if (has_ended_itself || how == How::Warned) && !requeued.exists() {
            let status = status.code().map_or("of a signal".to_string(), |code| code.to_string());
            return Err(SlurmError::Failed { status, lives: restarts + 1, log });
        }
        let (count, word) = match how {
            How::Warned => (&mut rehearsed.warned, "warned"),
            How::Killed => (&mut rehearsed.killed, "killed"),
            How::Requeued => (&mut rehearsed.requeued, "requeued"),
        };
        *count += 1;
        if how == How::Warned {
            let seconds = signalled.elapsed().as_secs_f64();
            rehearsed.save_s_max = Some(rehearsed.save_s_max.map_or(seconds, |most| most.max(seconds)));
        }
        let _ = fs::remove_file(&requeued);
        restarts += 1;
        listener(ChainEvent::Ended { start: restarts, how: word, seconds: clock.elapsed().as_secs_f64() });
    }
    let differ = |error: VerifyError| SlurmError::Differ { file: error.to_string(), path: chain.folder.to_path_buf() };
    let (one, other) = (Ended::of(chain.alone_run).map_err(differ)?, Ended::of(chain.run).map_err(differ)?);
    match one.differences(&other).as_slice() {
        [] => Ok(Some(Rehearsed { sha256: other.sha256, tensors_sha256: other.tensors_sha256, ..rehearsed })),
        files => Err(SlurmError::Differ { file: files.join(", "), path: chain.folder.to_path_buf() }),
    }
}

fn append(log: &Path) -> Result<fs::File, SlurmError> {
    let file = fs::File::options().create(true).append(true).open(log);
    Ok(file.map_err(|error| RecordError::write(log, &error))?)
}

fn has_ended(job: &mut Child) -> bool {
    job.try_wait().is_ok_and(|status| status.is_some())
}

/// Waits until all processes of a job have ended, as Slurm does before it starts the job again. Those that were killed may be
/// listed for ever, where their status is not collected.
fn wait(job: &mut Child, how: How) -> Result<ExitStatus, SlurmError> {
    let failed = |error| SlurmError::Start { what: "bash".to_string(), reason: system_error(&error) };
    let status = job.wait().map_err(failed)?;
    let end_within = |patience: Duration| {
        let clock = Instant::now();
        while has_processes(job) && clock.elapsed() < patience {
            std::thread::sleep(LOOK);
        }
        !has_processes(job)
    };
    if how != How::Killed && !end_within(KILL_WAIT) {
        signal(job, How::Killed, Path::new(""));
    }
    end_within(KILLED_WAIT);
    Ok(status)
}

#[cfg(unix)]
fn has_processes(job: &Child) -> bool {
    let group = i32::try_from(job.id()).ok().and_then(rustix::process::Pid::from_raw);
    group.is_some_and(|group| rustix::process::test_kill_process_group(group).is_ok())
}

#[cfg(not(unix))]
fn has_processes(_: &Child) -> bool {
    false
}

/// Starts the script as a job.
fn start(chain: &Chain, restarts: u32, log: &Path) -> Result<Child, SlurmError> {
    let _ = fs::remove_file(chain.folder.join("step"));
    let mut bash = Command::new("bash");
    bash.arg(chain.script).stdin(Stdio::null()).stdout(append(log)?).stderr(append(log)?);
    for (name, body) in STAND_INS {
        // As `export -f` writes it.
        bash.env(format!("BASH_FUNC_{name}%%"), format!("() {{ {body}; }}"));
    }
    bash.env("VITREOUS_STAND_IN", chain.folder).env("SLURM_JOB_ID", JOB);
    bash.env("SLURM_CPUS_PER_TASK", chain.cpus.to_string());
    // Slurm sets it from the first restart on.
    match restarts {
        0 => bash.env_remove("SLURM_RESTART_COUNT"),
        _ => bash.env("SLURM_RESTART_COUNT", restarts.to_string()),
    };
    in_a_group(&mut bash);
    bash.spawn().map_err(|error| SlurmError::Start { what: "bash".to_string(), reason: system_error(&error) })
}

/// A group of its own: a signal reaches all processes of the job, and no other.
#[cfg(unix)]
fn in_a_group(command: &mut Command) {
    std::os::unix::process::CommandExt::process_group(command, 0);
}

#[cfg(not(unix))]
fn in_a_group(_: &mut Command) {}

/// Signals the step alone, or the whole job.
#[cfg(unix)]
fn signal(job: &Child, how: How, step: &Path) {
    use rustix::process::{Pid, Signal, kill_process, kill_process_group};
    let group = i32::try_from(job.id()).ok().and_then(Pid::from_raw);
    let step = fs::read_to_string(step).ok().and_then(|text| text.trim().parse().ok()).and_then(Pid::from_raw);
    // A process that has just ended cannot be signalled.
    let _ = match (how, group, step) {
        (How::Warned, _, Some(step)) => kill_process(step, Signal::USR1),
        (How::Killed, Some(group), _) => kill_process_group(group, Signal::KILL),
        (How::Requeued, Some(group), _) => kill_process_group(group, Signal::TERM),
        _ => Ok(()),
    };
}

#[cfg(not(unix))]
fn signal(job: &Child, _: How, _: &Path) {
    let _ = job;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_counts_the_requeues_and_says_whether_a_save_fits() {
        let rehearsed = Rehearsed {
            warned: 0,
            killed: 0,
            requeued: 0,
            save_s_max: Some(7.0),
            start_s_max: 20.0,
            sha256: String::new(),
            tensors_sha256: String::new(),
        };
        let budget = |limit_s, signal_s, run_s| Budget::new(limit_s, [signal_s, 60.0], run_s, &rehearsed);
        // 3,600 - 120 - 60 - 20 s are useful in each job.
        assert_eq!(budget(3600.0, 120.0, 3400.0), Budget { save_fits: Some(true), requeues: Some(0) });
        assert_eq!(budget(3600.0, 120.0, 3401.0), Budget { save_fits: Some(true), requeues: Some(1) });
        assert_eq!(budget(3600.0, 120.0, 34_000.0), Budget { save_fits: Some(true), requeues: Some(9) });
        assert_eq!(budget(90.0, 6.0, 100.0), Budget { save_fits: Some(false), requeues: Some(24) });
        assert_eq!(budget(80.0, 10.0, 100.0).requeues, None);
        let unknown = Rehearsed { save_s_max: None, ..rehearsed.clone() };
        assert_eq!(Budget::new(3600.0, [120.0, 60.0], 1.0, &unknown).save_fits, None, "none was measured");
    }
}
