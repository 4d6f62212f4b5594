//! Shows on this machine that a run which is killed and resumed, or trained with other numbers of threads, ends with the
//! same bytes. The runs are real ones, processes of the program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use thiserror::Error;

use crate::advice::{Argument, Explain, Fault, Suggestion};
use crate::checkpoint::{CheckpointError, SavedWeights, state_folder};
use crate::config::CheckedConfig;
use crate::random::Key;
use crate::record::{RecordError, Run, Weights, sha256_of};
use crate::{regular, system_errors};

/// Files that are equal in two equal runs, in addition to the last weights.
const RECORDS: [&str; 4] = ["results.csv", "ledger.csv", "metrics.jsonl", "weights/best.safetensors"];

/// Fraction of the kills that come before the first step.
const EARLY: f64 = 0.1;

/// Largest `timing.jsonl` that is read, in bytes.
const TIMING_MAX: u64 = 256 << 20;

/// Time between two checks of a process that is to be killed.
const LOOK: Duration = Duration::from_millis(1);

/// A training to start as a process.
#[derive(Clone, Debug)]
pub struct Training<'a> {
    /// Its config.
    pub config: &'a Path,
    /// The folder for runs.
    pub out: &'a Path,
    /// The run's name.
    pub name: &'a str,
    /// Whether it is resumed if it exists.
    pub is_resumed: bool,
    /// How often it saves a checkpoint.
    pub save_every: Option<Duration>,
    /// Its threads.
    pub threads: Option<usize>,
}

/// Makes the command line of a training, which writes its error to stderr as a JSON object with `error.what`.
pub type Program<'a> = &'a dyn Fn(&Training) -> Command;

/// Something that happens while runs are verified.
#[derive(Clone, Copy, Debug)]
pub enum VerifyEvent<'a> {
    /// The run that nothing interrupts starts.
    Uninterrupted,
    /// It ended.
    UninterruptedEnded {
        /// After so many seconds.
        seconds: f64,
        /// SHA-256 of its last weights.
        sha256: &'a str,
    },
    /// A killed run ended with the same bytes.
    KilledEnded {
        /// Its name.
        run: &'a str,
        /// Kills so far, of all runs.
        kills: u32,
    },
    /// A run with so many threads ended.
    ThreadsEnded {
        /// Its threads.
        threads: usize,
        /// SHA-256 of its last weights.
        sha256: &'a str,
    },
}

/// Receives the events.
pub type VerifyListener<'a> = &'a dyn Fn(VerifyEvent);

/// Why runs cannot be verified, or are not equal.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum VerifyError {
    /// The folder for the runs is not new.
    #[error("the folder exists already ({})", path.display())]
    Exists { path: PathBuf },
    /// No process can be started.
    #[error("cannot start a training: {reason}")]
    Start { reason: String },
    /// A training failed.
    #[error("run {run} has failed: {reason}")]
    Failed { run: String, reason: String, log: PathBuf },
    /// Two runs differ.
    #[error("{other} differs from {one} in {} ({})", files.join(", "), out.display())]
    Differ { one: String, other: String, files: Vec<&'static str>, out: PathBuf },
    /// A run cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Weights cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl Explain for VerifyError {
    fn suggestion(&self) -> Option<Suggestion> {
        let text = |text: String| Some(Suggestion::new().text(text));
        match self {
            VerifyError::Exists { path } => {
                let remove = Suggestion::new().remove_file(path);
                Some(remove.or().text("choose another folder with").argument(Argument::Out))
            }
            VerifyError::Start { .. } => None,
            VerifyError::Failed { log, .. } => text(format!("its messages are in {}", log.display())),
            VerifyError::Differ { .. } => text("both runs are kept there; please report this".to_string()),
            VerifyError::Record(error) => error.suggestion(),
            VerifyError::Checkpoint(error) => error.suggestion(),
        }
    }

    fn fault(&self) -> Fault {
        match self {
            VerifyError::Exists { .. } => Fault::Input,
            VerifyError::Start { .. } | VerifyError::Failed { .. } | VerifyError::Differ { .. } => Fault::Work,
            VerifyError::Record(error) => error.fault(),
            VerifyError::Checkpoint(error) => error.fault(),
        }
    }
}

/// Kills that changed nothing.
#[derive(Clone, Debug, Serialize)]
pub struct Resumed {
    /// All kills.
    pub kills: u32,
    /// Kills that left a file half written.
    #[serde(rename = "amid_writes")]
    pub during_writes: u32,
    /// Kills before the run had a checkpoint.
    #[serde(rename = "before_states")]
    pub before_checkpoints: u32,
    /// Runs that were killed until they ended.
    pub runs: u32,
    /// All of it.
    pub seconds: f64,
    /// SHA-256 of the last weights.
    pub sha256: String,
    /// SHA-256 of the names and values of their tensors.
    pub tensors_sha256: String,
}

/// A run with so many threads, equal to the others.
#[derive(Clone, Debug, Serialize)]
pub struct Threaded {
    /// Its threads.
    pub threads: usize,
    /// What it took.
    pub seconds: f64,
    /// What it ended with.
    #[serde(flatten)]
    pub ended: Ended,
}

/// What a run ended with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// SHA-256 of `weights/last.safetensors`.
    pub sha256: String,
    /// SHA-256 of the names and values of its tensors.
    pub tensors_sha256: String,
    /// The same for the other records that exist.
    pub records: Vec<Option<String>>,
}

impl Ended {
    /// Reads what a run has ended with.
    ///
    /// # Errors
    /// When it is not a run, or its weights cannot be read.
    pub fn of(folder: &Path) -> Result<Ended, VerifyError> {
        let last = Run::open(folder)?.weights_path(Weights::Last);
        let sha256 = sha256_of(&last)?;
        let tensors_sha256 = SavedWeights::read(&last)?.tensors_sha256()?;
        let records = RECORDS.iter().map(|file| sha256_of(&folder.join(file)).ok()).collect();
        Ok(Ended { sha256, tensors_sha256, records })
    }

    /// The files in which another run differs.
    pub fn differences(&self, other: &Ended) -> Vec<&'static str> {
        let files = ["weights/last.safetensors"].into_iter().chain(RECORDS);
        let hashes = |ended: &Ended| [vec![Some(ended.sha256.clone())], ended.records.clone()].concat();
        let pairs = files.zip(hashes(self).into_iter().zip(hashes(other)));
        pairs.filter(|(_, (a, b))| a != b).map(|(file, _)| file).collect()
    }
}

/// A folder of runs of one config.
struct Runs<'a> {
    out: &'a Path,
    config: PathBuf,
    program: Program<'a>,
}

impl<'a> Runs<'a> {
    /// Makes the folder, with the config.
    fn new(out: &'a Path, checked: &CheckedConfig, program: Program<'a>) -> Result<Runs<'a>, VerifyError> {
        if out.exists() {
            return Err(VerifyError::Exists { path: out.to_path_buf() });
        }
        fs::create_dir_all(out).map_err(|error| RecordError::write(out, &error))?;
        let config = out.join("config.toml");
        fs::write(&config, checked.config().to_toml()).map_err(|error| RecordError::write(&config, &error))?;
        Ok(Runs { out, config, program })
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }

    /// A training that nothing changes.
    fn training<'b>(&'b self, name: &'b str) -> Training<'b> {
        Training { config: &self.config, out: self.out, name, is_resumed: false, save_every: None, threads: None }
    }

    /// Starts a training.
    fn start(&self, training: &Training) -> Result<Child, VerifyError> {
        let log = self.out.join(format!("{}.log", training.name));
        let log = fs::File::options().create(true).append(true).open(log);
        let log = log.map_err(|error| RecordError::write(self.out, &error))?;
        let started = (self.program)(training).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        started.map_err(|error| VerifyError::Start { reason: system_errors::system_error(&error) })
    }

    /// Waits for a training, which must succeed; returns what it ended with.
    fn end(&self, name: &str, mut child: Child) -> Result<Ended, VerifyError> {
        let status = child.wait();
        if !status.is_ok_and(|status| status.success()) {
            let log = self.out.join(format!("{name}.log"));
            let text = fs::read_to_string(&log).unwrap_or_default();
            let last = text.lines().last().and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            let what = last.as_ref().and_then(|last| last["error"]["what"].as_str()).unwrap_or("it was killed");
            return Err(VerifyError::Failed { run: name.to_string(), reason: what.to_string(), log });
        }
        Ended::of(&self.folder(name))
    }

    /// Compares two runs.
    fn compare(&self, [one, other]: [&str; 2], [first, second]: [&Ended; 2]) -> Result<(), VerifyError> {
        let files = first.differences(second);
        if files.is_empty() {
            return Ok(());
        }
        let (one, other, out) = (one.to_string(), other.to_string(), self.out.to_path_buf());
        Err(VerifyError::Differ { one, other, files, out })
    }

    fn remove(&self) -> Result<(), VerifyError> {
        Ok(fs::remove_dir_all(self.out).map_err(|error| RecordError::write(self.out, &error))?)
    }
}

/// Kills a run at random moments, resumes it, and compares it with one that nothing interrupts. The folder `out` is made
/// for the runs, and removed when all are equal.
///
/// # Errors
/// When a training fails, or two runs differ; both are then kept.
pub fn verify_resume(
    checked: &CheckedConfig,
    out: &Path,
    kills: u32,
    program: Program,
    listener: VerifyListener,
) -> Result<Resumed, VerifyError> {
    let runs = Runs::new(out, checked, program)?;
    listener(VerifyEvent::Uninterrupted);
    let clock = Instant::now();
    let alone = runs.end("alone", runs.start(&runs.training("alone"))?)?;
    let seconds = clock.elapsed().as_secs_f64();
    listener(VerifyEvent::UninterruptedEnded { seconds, sha256: &alone.sha256 });
    let first_step = first_step_s(&runs.folder("alone")).unwrap_or(0.0).min(seconds);
    let lives = 2.0 * (seconds - first_step) / f64::from(kills);
    // Often enough that most pieces get further, and that many kills meet a write.
    let save_every = Duration::from_secs_f64((lives / 8.0).clamp(0.005, 60.0));

    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
    let draw = Key::new(now);
    let (mut done, mut during_writes, mut before_checkpoints, mut number, mut pieces) = (0, 0, 0, 1, 0u32);
    loop {
        let name = format!("killed-{number}");
        let before = half_files(&runs.folder(&name));
        let (save_every, threads) = (Some(save_every), Some(pieces as usize % 3 + 1));
        pieces += 1;
        let mut child = runs.start(&Training { is_resumed: true, save_every, threads, ..runs.training(&name) })?;
        let place = u64::from(pieces) * 2;
        let life = match draw.range(place, 0.0, 1.0) < EARLY {
            true => draw.range(place + 1, 0.0, first_step),
            false => first_step + draw.range(place + 1, 0.0, lives),
        };
        if done == kills || ends_within(&mut child, Duration::from_secs_f64(life)) {
            let ended = runs.end(&name, child)?;
            runs.compare(["alone", &name], [&alone, &ended])?;
            listener(VerifyEvent::KilledEnded { run: &name, kills: done });
            if done == kills {
                break;
            }
            fs::remove_dir_all(runs.folder(&name)).map_err(|error| RecordError::write(&runs.folder(&name), &error))?;
            number += 1;
            continue;
        }
        // It may just have ended: what follows is the same.
        let _ = child.kill();
        let _ = child.wait();
        done += 1;
        let folder = runs.folder(&name);
        during_writes += u32::from(half_files(&folder).iter().any(|file| !before.contains(file)));
        before_checkpoints += u32::from(!state_folder(&folder).is_dir());
    }
    runs.remove()?;
    let (kills, seconds) = (done, clock.elapsed().as_secs_f64());
    let Ended { sha256, tensors_sha256, .. } = alone;
    Ok(Resumed { kills, during_writes, before_checkpoints, runs: number, seconds, sha256, tensors_sha256 })
}

/// Trains a run with several numbers of threads and compares the results. The folder `out` is as for [`verify_resume`].
///
/// # Errors
/// As there.
pub fn verify_threads(
    checked: &CheckedConfig,
    out: &Path,
    counts: &[usize],
    program: Program,
    listener: VerifyListener,
) -> Result<Vec<Threaded>, VerifyError> {
    let runs = Runs::new(out, checked, program)?;
    let name = |count: usize| format!("threads-{count}");
    let mut found: Vec<Threaded> = Vec::new();
    let mut counts = counts.to_vec();
    counts.sort_unstable();
    counts.dedup();
    for threads in counts {
        let clock = Instant::now();
        let child = runs.start(&Training { threads: Some(threads), ..runs.training(&name(threads)) })?;
        let ended = runs.end(&name(threads), child)?;
        if let Some(first) = found.first() {
            runs.compare([&name(first.threads), &name(threads)], [&first.ended, &ended])?;
        }
        let seconds = clock.elapsed().as_secs_f64();
        listener(VerifyEvent::ThreadsEnded { threads, sha256: &ended.sha256 });
        found.push(Threaded { threads, seconds, ended });
    }
    runs.remove()?;
    Ok(found)
}

/// Waits for a time; returns whether the process ended by itself before.
fn ends_within(child: &mut Child, life: Duration) -> bool {
    let start = Instant::now();
    loop {
        if matches!(child.try_wait(), Ok(Some(_))) {
            return true;
        }
        let left = life.saturating_sub(start.elapsed());
        if left.is_zero() {
            return false;
        }
        sleep(left.min(LOOK));
    }
}

/// When a run's first step was done, in seconds since its start.
fn first_step_s(folder: &Path) -> Option<f64> {
    let text = regular::read_text(&folder.join("timing.jsonl"), TIMING_MAX).ok()?;
    serde_json::from_str::<serde_json::Value>(text.lines().next()?).ok()?["seconds"].as_f64()
}

/// Files in a run's folders that were being written.
fn half_files(folder: &Path) -> Vec<PathBuf> {
    let folders = [folder.to_path_buf(), folder.join("weights"), state_folder(folder)];
    let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "tmp"))
        .collect()
}
