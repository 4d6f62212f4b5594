//! A rehearsal without Slurm: the batch scripts run here with stand-ins for Slurm's commands. At random times jobs are warned,
//! killed, requeued or cancelled, and started again, until everything is trained; then each run must equal one that nothing
//! interrupts.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{JobFolder, SlurmError};
use crate::random::Key;
use crate::record::{RecordError, SLURM};
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

/// Most times that everything is trained anew because it was finished before all requeues had happened.
const ROUNDS_MAX: u32 = 30;

/// Stand-ins for Slurm's commands, as functions of the shell: unlike files in the `PATH`, they come before the real commands
/// whatever the script does. The job step's process is noted, so that it can be signalled alone; a job is running unless it
/// was cancelled.
const STAND_INS: [(&str, &str); 3] = [
    (
        "srun",
        "while [ \"${1#-}\" != \"$1\" ]; do shift; done; (echo \"$BASHPID\" > \"$VITREOUS_STAND_IN/step\"; exec \"$@\")",
    ),
    ("scontrol", "echo \"$@\" > \"$VITREOUS_STAND_IN/scontrol\""),
    ("squeue", "[ -e \"$VITREOUS_STAND_IN/cancelled\" ] && echo CANCELLED || echo RUNNING"),
];

/// The number of the rehearsed job, which no real job can have.
const JOB: &str = "rehearsal";

/// What is rehearsed: the job of a training, or the job arrays of a sweep.
pub struct Chain<'a> {
    /// The folder for the stand-ins and both trainings, made by the caller.
    pub folder: &'a Path,
    /// The folder of the run or sweep that the scripts train. It has the scripts.
    pub owner: &'a Path,
    /// The scripts, one after the other.
    pub scripts: Vec<BatchScript>,
    /// The script that makes the table of a sweep in the end.
    pub table: Option<PathBuf>,
    /// The same training, without a script.
    pub alone: Command,
    /// The folder of its run or sweep.
    pub alone_owner: &'a Path,
    /// The names of the runs in both folders; an empty one is the folder itself.
    pub runs: Vec<String>,
    /// Tasks that run at the same time.
    pub parallel: usize,
    /// Processors of a job.
    pub cpus: usize,
    /// How often jobs are started again.
    pub requeues: u32,
    /// Decides when and how.
    pub seed: u64,
    /// Ends the rehearsal.
    pub stop: &'a AtomicBool,
}

/// A batch script.
pub struct BatchScript {
    /// Its file.
    pub path: PathBuf,
    /// The tasks of a job array; none where it is a single job.
    pub tasks: Vec<usize>,
}

/// Something that happens in a rehearsal.
#[derive(Clone, Copy, Debug)]
pub enum ChainEvent<'a> {
    /// The training that nothing interrupts ended.
    Alone {
        /// After so many seconds.
        seconds: f64,
    },
    /// A job ended early.
    Ended {
        /// The number of its requeue, from 1.
        requeue: u32,
        /// The task of a job array.
        task: Option<usize>,
        /// How: `warned`, `killed`, `requeued` or `cancelled`.
        how: &'a str,
        /// After so many seconds.
        seconds: f64,
    },
    /// Everything was trained, and is equal, after so few requeues that it is trained anew.
    Anew {
        /// Requeues until now.
        requeues: u32,
    },
}

/// Runs that equal those of an uninterrupted training.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Rehearsed {
    /// Jobs that were warned, saved a checkpoint and requeued themselves.
    pub warned: u32,
    /// Jobs that were killed, as by a failure of their node.
    pub killed: u32,
    /// Jobs that were requeued by hand, or preempted.
    pub requeued: u32,
    /// Tasks that were cancelled, and submitted again.
    pub cancelled: u32,
    /// Longest time from a warning to the end of the job, in seconds; absent where no job was warned.
    pub save_s_max: Option<f64>,
    /// Longest time from the start of a job to the first step, in seconds.
    pub start_s_max: f64,
    /// The runs.
    pub runs: Vec<EqualRun>,
}

/// A run that equals an uninterrupted one.
#[derive(Clone, Debug, Serialize)]
pub struct EqualRun {
    /// Its name in a sweep.
    pub run: String,
    /// SHA-256 of its last weights.
    pub sha256: String,
    /// SHA-256 of their tensors.
    pub tensors_sha256: String,
}

/// How a job is ended.
#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Warned,
    Killed,
    Requeued,
    Cancelled,
}

impl How {
    /// The first three are for every job.
    const ALL: [How; 4] = [How::Warned, How::Killed, How::Requeued, How::Cancelled];
}

impl Rehearsed {
    /// Jobs that were ended early.
    pub fn requeues(&self) -> u32 {
        self.warned + self.killed + self.requeued + self.cancelled
    }

    /// Counts one; returns the word for it.
    fn count(&mut self, how: How) -> &'static str {
        let (count, word) = match how {
            How::Warned => (&mut self.warned, "warned"),
            How::Killed => (&mut self.killed, "killed"),
            How::Requeued => (&mut self.requeued, "requeued"),
            How::Cancelled => (&mut self.cancelled, "cancelled"),
        };
        *count += 1;
        word
    }
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

/// A job in the queue.
struct Waiting<'a> {
    /// The number of its script, from 0.
    number: usize,
    script: &'a BatchScript,
    task: Option<usize>,
    restarts: u32,
}

/// A job that runs.
struct Running<'a> {
    job: Waiting<'a>,
    process: Child,
    /// Its folder for what the stand-ins note.
    notes: PathBuf,
    since: Instant,
    /// The manifests of all runs when it started.
    manifests: Vec<Option<Vec<u8>>>,
    has_begun: bool,
    /// How it was ended, and when.
    ended: Option<(How, Instant)>,
}

/// The next job that is ended early.
struct Next {
    how: How,
    is_early: bool,
    delay: Duration,
    /// Since when there is a job that may be ended.
    since: Option<Instant>,
}

/// Random numbers, one after the other.
struct Draw {
    key: Key,
    place: u64,
}

impl Draw {
    /// A number from 0 up to 1.
    fn next(&mut self) -> f64 {
        self.place += 1;
        self.key.range(self.place, 0.0, 1.0)
    }

    /// A whole number below another one.
    fn below(&mut self, count: usize) -> usize {
        (self.next() * count as f64) as usize
    }
}

/// Rehearses a chain of jobs. Returns nothing if it was stopped.
///
/// # Errors
/// When a process cannot be started, a script fails, or runs differ.
pub fn rehearse(mut chain: Chain, listener: &dyn Fn(ChainEvent)) -> Result<Option<Rehearsed>, SlurmError> {
    let Some(seconds) = train_alone(&mut chain)? else { return Ok(None) };
    listener(ChainEvent::Alone { seconds });
    let mut found = Rehearsed::default();
    let mut draw = Draw { key: Key::new(chain.seed), place: 0 };
    let mut mean_s = BEFORE_LAST * seconds / f64::from(chain.requeues.max(1)) / chain.parallel as f64;
    for round in 1.. {
        if !chain.train_once(&mut found, mean_s, &mut draw, listener)? {
            return Ok(None);
        }
        found.runs = chain.runs.iter().map(|run| chain.compare(run)).collect::<Result<_, _>>()?;
        if found.requeues() >= chain.requeues || round == ROUNDS_MAX {
            break;
        }
        // Training took less time than before: jobs are ended earlier.
        mean_s /= 2.0;
        chain.clear()?;
        listener(ChainEvent::Anew { requeues: found.requeues() });
    }
    Ok(Some(found))
}

/// Trains without a script; returns the seconds that it took, or nothing if it was stopped.
fn train_alone(chain: &mut Chain) -> Result<Option<f64>, SlurmError> {
    let log = chain.folder.join("alone.log");
    let failed = |error| SlurmError::Start { what: "the program".to_string(), reason: system_error(&error) };
    let clock = Instant::now();
    let alone = chain.alone.stdin(Stdio::null()).stdout(append(&log)?).stderr(append(&log)?).spawn();
    let mut alone = alone.map_err(failed)?;
    while !has_ended(&mut alone) && !chain.is_stopped() {
        std::thread::sleep(LOOK);
    }
    if chain.is_stopped() {
        let _ = alone.kill();
        alone.wait().map_err(failed)?;
        return Ok(None);
    }
    let status = alone.wait().map_err(failed)?;
    match status.success() {
        true => Ok(Some(clock.elapsed().as_secs_f64())),
        false => Err(SlurmError::Failed { status: status_text(status), starts: 1, log }),
    }
}

impl Chain<'_> {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Trains everything once, and makes the table. Returns whether it was not stopped.
    fn train_once(
        &self,
        found: &mut Rehearsed,
        mean_s: f64,
        draw: &mut Draw,
        listener: &dyn Fn(ChainEvent),
    ) -> Result<bool, SlurmError> {
        for (number, script) in self.scripts.iter().enumerate() {
            let tasks = script.tasks.iter().map(|&task| Some(task));
            let tasks = tasks.chain(script.tasks.is_empty().then_some(None));
            let waiting = tasks.map(|task| Waiting { number, script, task, restarts: 0 }).collect();
            if !self.run_jobs(waiting, found, mean_s, draw, listener)? {
                return Ok(false);
            }
        }
        let Some(table) = &self.table else { return Ok(true) };
        let script = BatchScript { path: table.clone(), tasks: Vec::new() };
        let waiting = Waiting { number: self.scripts.len(), script: &script, task: None, restarts: 0 };
        let mut running = vec![self.start(waiting)?];
        while !has_ended(&mut running[0].process) {
            if self.is_stopped() {
                kill_all(&mut running)?;
                return Ok(false);
            }
            std::thread::sleep(LOOK);
        }
        self.settle(running.remove(0), found).map(|_| true)
    }

    /// Runs jobs, as many at a time as may, until all have succeeded. Returns whether they were not stopped.
    fn run_jobs<'b>(
        &self,
        mut waiting: VecDeque<Waiting<'b>>,
        found: &mut Rehearsed,
        mean_s: f64,
        draw: &mut Draw,
        listener: &dyn Fn(ChainEvent),
    ) -> Result<bool, SlurmError> {
        let (mut running, mut cancelled, mut next) = (Vec::new(), VecDeque::new(), None);
        loop {
            if self.is_stopped() {
                kill_all(&mut running)?;
                return Ok(false);
            }
            if running.is_empty() && waiting.is_empty() {
                // What was cancelled is submitted again when all others have ended.
                std::mem::swap(&mut waiting, &mut cancelled);
                if waiting.is_empty() {
                    return Ok(true);
                }
            }
            while running.len() < self.parallel
                && let Some(job) = waiting.pop_front()
            {
                running.push(self.start(job)?);
            }
            for job in running.iter_mut().filter(|job| !job.has_begun) {
                job.has_begun = self.has_begun(job);
                if job.has_begun {
                    found.start_s_max = found.start_s_max.max(job.since.elapsed().as_secs_f64());
                }
            }
            let ending = running.iter().filter(|job| job.ended.is_some()).count() as u32;
            if found.requeues() + ending < self.requeues {
                let is_first = found.requeues() + ending == 0;
                let next_now = next.get_or_insert_with(|| self.draw_next(is_first, mean_s, draw));
                if end_one(&mut running, next_now, draw) {
                    next = None;
                }
            }
            let mut at = 0;
            while at < running.len() {
                if !has_ended(&mut running[at].process) {
                    at += 1;
                    continue;
                }
                let job = running.remove(at);
                let (task, seconds) = (job.job.task, job.since.elapsed().as_secs_f64());
                if let Some((mut job, how)) = self.settle(job, found)? {
                    job.restarts += 1;
                    if how == Some(How::Cancelled) {
                        cancelled.push_back(job)
                    } else {
                        waiting.push_back(job)
                    }
                    if let Some(how) = how.map(|how| found.count(how)) {
                        listener(ChainEvent::Ended { requeue: found.requeues(), task, how, seconds });
                    }
                }
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Chooses the job that is ended next, and how: the first is warned, so that a save is measured.
    fn draw_next(&self, is_first: bool, mean_s: f64, draw: &mut Draw) -> Next {
        // Only a task of a job array can be submitted again without the others.
        let kinds = if self.table.is_some() { &How::ALL[..] } else { &How::ALL[..3] };
        let how = if is_first { How::Warned } else { kinds[draw.below(kinds.len())] };
        let is_early = how == How::Killed && draw.next() < EARLY;
        Next { how, is_early, delay: Duration::from_secs_f64(2.0 * mean_s * draw.next()), since: None }
    }

    /// Starts a job.
    fn start<'b>(&self, job: Waiting<'b>) -> Result<Running<'b>, SlurmError> {
        let task = job.task.map_or(String::new(), |task| format!("_{task}"));
        let id = format!("{}{task}", self.array(&job));
        let notes = self.folder.join("stand-ins").join(&id);
        let _ = fs::remove_dir_all(&notes);
        fs::create_dir_all(&notes).map_err(|error| RecordError::write(&notes, &error))?;
        let log = self.folder.join(format!("{id}.log"));
        let mut bash = Command::new("bash");
        bash.arg(&job.script.path).stdin(Stdio::null()).stdout(append(&log)?).stderr(append(&log)?);
        for (name, body) in STAND_INS {
            // As `export -f` writes it.
            bash.env(format!("BASH_FUNC_{name}%%"), format!("() {{ {body}; }}"));
        }
        bash.env("VITREOUS_STAND_IN", &notes).env("SLURM_CPUS_PER_TASK", self.cpus.to_string());
        let mut set = |name: &str, value: Option<String>| match value {
            Some(value) => _ = bash.env(name, value),
            None => _ = bash.env_remove(name),
        };
        set("SLURM_JOB_ID", Some(self.array(&job)));
        set("SLURM_ARRAY_JOB_ID", job.task.map(|_| self.array(&job)));
        set("SLURM_ARRAY_TASK_ID", job.task.map(|task| task.to_string()));
        // Slurm sets it from the first restart on.
        set("SLURM_RESTART_COUNT", (job.restarts > 0).then(|| job.restarts.to_string()));
        in_a_group(&mut bash);
        let manifests = self.runs.iter().map(|run| self.manifest(run)).collect();
        let process = bash.spawn();
        let process =
            process.map_err(|error| SlurmError::Start { what: "bash".to_string(), reason: system_error(&error) })?;
        Ok(Running { job, process, notes, since: Instant::now(), manifests, has_begun: false, ended: None })
    }

    /// The number of a job, or of its array: two arrays have tasks of the same numbers.
    fn array(&self, job: &Waiting) -> String {
        if job.number == 0 { JOB.to_string() } else { format!("{JOB}-{}", job.number + 1) }
    }

    fn manifest(&self, run: &str) -> Option<Vec<u8>> {
        fs::read(self.owner.join(run).join("manifest.json")).ok()
    }

    /// Whether a job has begun to train. A signal before would end a process that has nothing to save yet.
    fn has_begun(&self, running: &Running) -> bool {
        let run = match running.job.task {
            Some(task) => JobFolder::of(self.owner).run_of(&format!("{}_{task}", self.array(&running.job))),
            None => self.runs.first().cloned(),
        };
        let Some(at) = run.and_then(|run| self.runs.iter().position(|known| *known == run)) else { return false };
        self.manifest(&self.runs[at]) != running.manifests[at]
    }

    /// What became of a job that has ended: the job if it is started again, with how it was ended.
    fn settle<'b>(
        &self,
        mut running: Running<'b>,
        found: &mut Rehearsed,
    ) -> Result<Option<(Waiting<'b>, Option<How>)>, SlurmError> {
        let how = running.ended.map(|(how, _)| how);
        let status = wait(&mut running.process, how)?;
        let has_requeued = running.notes.join("scontrol").exists();
        // The run may have ended just before the signal came.
        if status.success() && !has_requeued {
            return Ok(None);
        }
        if matches!(how, None | Some(How::Warned)) && !has_requeued {
            let log = self.folder.join(format!("{}.log", running.notes.file_name().unwrap_or_default().display()));
            return Err(SlurmError::Failed { status: status_text(status), starts: running.job.restarts + 1, log });
        }
        if let Some((How::Warned, since)) = running.ended {
            let seconds = since.elapsed().as_secs_f64();
            found.save_s_max = Some(found.save_s_max.map_or(seconds, |most| most.max(seconds)));
        }
        Ok(Some((running.job, how)))
    }

    /// Compares a run with the uninterrupted one.
    fn compare(&self, run: &str) -> Result<EqualRun, SlurmError> {
        let path = || self.folder.to_path_buf();
        let of = |owner: &Path| {
            let ended = Ended::of(&owner.join(run));
            ended.map_err(|error: VerifyError| SlurmError::Differ { file: error.to_string(), path: path() })
        };
        let (one, other) = (of(self.alone_owner)?, of(self.owner)?);
        match one.differences(&other).as_slice() {
            [] => Ok(EqualRun { run: run.to_string(), sha256: other.sha256, tensors_sha256: other.tensors_sha256 }),
            files => Err(SlurmError::Differ { file: files.join(", "), path: path() }),
        }
    }

    /// Removes everything but the scripts.
    fn clear(&self) -> Result<(), SlurmError> {
        let remove = |folder: &Path, keep: &dyn Fn(&Path) -> bool| {
            let entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
            let paths = entries.iter().map(fs::DirEntry::path).filter(|path| !keep(path));
            paths
                .into_iter()
                .try_for_each(|path| if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) })
        };
        let removed = remove(self.owner, &|path| path.file_name() == Some(SLURM.as_ref()));
        let removed =
            removed.and_then(|()| remove(&self.owner.join(SLURM), &|path| path.extension() == Some("sh".as_ref())));
        Ok(removed.map_err(|error| RecordError::write(self.owner, &error))?)
    }
}

/// Ends one of the jobs that may be ended, if it is time. Returns whether it did.
fn end_one(running: &mut [Running], next: &mut Next, draw: &mut Draw) -> bool {
    let may = |job: &&mut Running| job.ended.is_none() && (next.is_early || job.has_begun);
    let mut candidates: Vec<&mut Running> = running.iter_mut().filter(may).collect();
    if candidates.is_empty() || next.since.get_or_insert_with(Instant::now).elapsed() < next.delay {
        return false;
    }
    let job = candidates.swap_remove(draw.below(candidates.len()));
    if next.how == How::Cancelled {
        // First, so that the script finds it.
        let _ = fs::write(job.notes.join("cancelled"), "");
    }
    job.ended = Some((next.how, Instant::now()));
    signal(&job.process, next.how, &job.notes.join("step"));
    true
}

/// Kills jobs, and waits for them.
fn kill_all(running: &mut [Running]) -> Result<(), SlurmError> {
    running.iter().for_each(|job| signal(&job.process, How::Killed, Path::new("")));
    running.iter_mut().try_for_each(|job| wait(&mut job.process, Some(How::Killed)).map(|_| ()))
}

fn status_text(status: ExitStatus) -> String {
    status.code().map_or("of a signal".to_string(), |code| code.to_string())
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
fn wait(job: &mut Child, how: Option<How>) -> Result<ExitStatus, SlurmError> {
    let failed = |error| SlurmError::Start { what: "bash".to_string(), reason: system_error(&error) };
    let status = job.wait().map_err(failed)?;
    let end_within = |patience: Duration| {
        let clock = Instant::now();
        while has_processes(job) && clock.elapsed() < patience {
            std::thread::sleep(LOOK);
        }
        !has_processes(job)
    };
    if how != Some(How::Killed) && !end_within(KILL_WAIT) {
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
        (How::Cancelled, _, Some(step)) => kill_process(step, Signal::TERM),
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
        let rehearsed = Rehearsed { save_s_max: Some(7.0), start_s_max: 20.0, ..Rehearsed::default() };
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
