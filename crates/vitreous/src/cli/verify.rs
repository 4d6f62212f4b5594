//! `vitreous verify`: proves on this machine that a run which is killed and resumed, or made with other numbers of
//! threads, ends with the same bytes. The runs are real ones, processes of this program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::flags::Flags;
use super::reading::watched;
use super::screen::{Align, table};
use super::settings::{SettingsArgs, shell_word};
use super::{CliError, json, show};
use crate::checkpoint::{SavedWeights, state_folder};
use crate::config::train::THREADS_MAX;
use crate::experiment::Prepared;
use crate::random::Key;
use crate::record::{RecordError, Run, Weights, sha256_of};
use crate::regular;
use crate::{durations, numbers, system_errors};

/// What two equal runs have in common, beside the last weights.
const RECORDS: [&str; 4] = ["results.csv", "ledger.csv", "metrics.jsonl", "weights/best.safetensors"];

/// Part of the kills that come before the first step.
const EARLY: f64 = 0.1;

/// Largest `timing.jsonl` that is read, in bytes.
const TIMING_MAX: u64 = 256 << 20;

/// Time between two looks at a run that is to be killed.
const LOOK: Duration = Duration::from_millis(1);

/// Proves that killed runs and other numbers of threads give the same bytes
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Kills a run at random moments, resumes it, and compares it with one that was left alone
    Resume(ResumeArgs),
    /// Makes a run with several numbers of threads and compares them
    Threads(ThreadsArgs),
}

#[derive(clap::Args)]
struct ResumeArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    flags: Flags,
    /// How often to kill; when a run is done before, another one is begun
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
    /// The folder for the runs, removed when all are equal
    #[arg(long, value_name = "DIR", default_value = "runs/verify")]
    out: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What a run ended with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Ended {
    /// SHA-256 of `weights/last.safetensors`.
    sha256: String,
    /// SHA-256 of the names and values of its tensors.
    tensors_sha256: String,
    /// The same of the other records, where they are.
    records: Vec<Option<String>>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), CliError> {
    match args.verb {
        Verb::Resume(args) => resume(&args),
        Verb::Threads(args) => threads(&args),
    }
}

/// A folder of runs of one config.
struct Runs<'a> {
    out: &'a Path,
    config: PathBuf,
}

impl Runs<'_> {
    /// Checks the config, and makes the folder with it.
    fn new<'a>(out: &'a Path, settings: &SettingsArgs, flags: &Flags) -> Result<Runs<'a>, CliError> {
        let checked = settings.layers(flags.values())?.finish()?;
        watched(true, |listener| Prepared::new(&checked, listener))?;
        if out.exists() {
            let error = format!("the folder is there already ({})", out.display());
            let hint = format!("remove it, or choose another one with --out: rm -r {}", shell_word(out));
            return Err(CliError::user(error, Some(hint)));
        }
        fs::create_dir_all(out).map_err(|error| RecordError::write(out, &error))?;
        let config = out.join("config.toml");
        fs::write(&config, checked.config().to_toml()).map_err(|error| RecordError::write(&config, &error))?;
        Ok(Runs { out, config })
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }

    /// Starts a training.
    fn start(&self, name: &str, more: &[&str]) -> Result<Child, CliError> {
        let failed = |error: std::io::Error| {
            CliError::failure(format!("cannot start a training: {}", system_errors::system_error(&error)), None)
        };
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command.arg("train").arg("--config").arg(&self.config).arg("--out").arg(self.out).args(["--name", name]);
        let log = fs::File::options().create(true).append(true).open(self.out.join(format!("{name}.log")));
        let log = log.map_err(|error| RecordError::write(self.out, &error))?;
        command.args(more).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().map_err(failed)
    }

    /// Waits for a training, which must succeed; returns what it ended with.
    fn end(&self, name: &str, mut child: Child) -> Result<Ended, CliError> {
        let status = child.wait();
        if !status.is_ok_and(|status| status.success()) {
            let log = self.out.join(format!("{name}.log"));
            let text = fs::read_to_string(&log).unwrap_or_default();
            let last = text.lines().rev().find(|line| line.starts_with("error: ")).unwrap_or("error: it was killed");
            let error = format!("run {name} has failed: {}", last.trim_start_matches("error: "));
            return Err(CliError::failure(error, Some(format!("all that it said is in {}", log.display()))));
        }
        let folder = self.folder(name);
        let last = Run::open(&folder)?.weights_path(Weights::Last);
        let sha256 = sha256_of(&last)?;
        let tensors_sha256 = SavedWeights::read(&last)?.tensors_sha256()?;
        let records = RECORDS.iter().map(|file| sha256_of(&folder.join(file)).ok()).collect();
        Ok(Ended { sha256, tensors_sha256, records })
    }

    /// Compares two runs; of equal ones nothing need stay.
    fn compare(&self, [one, other]: [&str; 2], [first, second]: [&Ended; 2]) -> Result<(), CliError> {
        let files = ["weights/last.safetensors"].into_iter().chain(RECORDS);
        let hashes = |ended: &Ended| [vec![Some(ended.sha256.clone())], ended.records.clone()].concat();
        let pairs = files.zip(hashes(first).into_iter().zip(hashes(second)));
        let differing: Vec<&str> = pairs.filter(|(_, (a, b))| a != b).map(|(file, _)| file).collect();
        if differing.is_empty() {
            return Ok(());
        }
        let error = format!("{other} is not what {one} is: {} differ ({})", differing.join(", "), self.out.display());
        Err(CliError::failure(error, Some("both runs are kept there; please report this".to_string())))
    }

    fn remove(&self) -> Result<(), CliError> {
        Ok(fs::remove_dir_all(self.out).map_err(|error| RecordError::write(self.out, &error))?)
    }
}

#[derive(Serialize)]
struct Resumed {
    kills: u32,
    /// Kills that left a file half written.
    amid_writes: u32,
    /// Kills before the run had a state.
    before_states: u32,
    runs: u32,
    seconds: f64,
    sha256: String,
    tensors_sha256: String,
}

fn resume(args: &ResumeArgs) -> Result<(), CliError> {
    if args.kills == 0 {
        return Err(CliError::user("kills 0 is not at least 1 (--kills)", Some("use --kills 20".to_string())));
    }
    let runs = Runs::new(&args.place.out, &args.settings, &args.flags)?;
    say!("a run that is left alone");
    let clock = Instant::now();
    let alone = runs.end("alone", runs.start("alone", &[])?)?;
    let seconds = clock.elapsed().as_secs_f64();
    say!("took {}: {}", durations::duration(seconds), alone.sha256);
    let first_step = first_step_s(&runs.folder("alone")).unwrap_or(0.0).min(seconds);
    let lives = 2.0 * (seconds - first_step) / f64::from(args.kills);
    // Often enough that most pieces get further, and that many kills meet a write.
    let save_every = format!("{:.3}s", (lives / 8.0).clamp(0.005, 60.0));

    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
    let draw = Key::new(now);
    let (mut done, mut amid_writes, mut before_states, mut number, mut pieces) = (0, 0, 0, 1, 0u32);
    loop {
        let name = format!("killed-{number}");
        let threads = (pieces % 3 + 1).to_string();
        let before = half_files(&runs.folder(&name));
        pieces += 1;
        let mut child = runs.start(&name, &["--resume", "auto", "--save-every", &save_every, "--threads", &threads])?;
        let place = u64::from(pieces) * 2;
        let life = match draw.range(place, 0.0, 1.0) < EARLY {
            true => draw.range(place + 1, 0.0, first_step),
            false => first_step + draw.range(place + 1, 0.0, lives),
        };
        if done == args.kills || outlives(&mut child, Duration::from_secs_f64(life)) {
            let ended = runs.end(&name, child)?;
            runs.compare(["alone", &name], [&alone, &ended])?;
            say!("{name} ended as the one that was left alone, after {done} kills in all");
            if done == args.kills {
                break;
            }
            fs::remove_dir_all(runs.folder(&name)).map_err(|error| RecordError::write(&runs.folder(&name), &error))?;
            number += 1;
            continue;
        }
        // Whether it is killed or has just ended is the same to what follows.
        let _ = child.kill();
        let _ = child.wait();
        done += 1;
        let folder = runs.folder(&name);
        amid_writes += u32::from(half_files(&folder).iter().any(|file| !before.contains(file)));
        before_states += u32::from(!state_folder(&folder).is_dir());
    }
    runs.remove()?;
    let (kills, seconds) = (done, clock.elapsed().as_secs_f64());
    let Ended { sha256, tensors_sha256, .. } = alone;
    let found = Resumed { kills, amid_writes, before_states, runs: number, seconds, sha256, tensors_sha256 };
    show(&if args.place.json { json(&found) } else { found.text() })
}

impl Resumed {
    fn text(&self) -> String {
        let runs = numbers::counted(self.runs as usize, "run");
        format!(
            "{} kills at random moments of {runs}, {} amid a write, {} before a first state, in {}\n\
             all ended with the weights, results, metrics and ledger of the run that was left alone\n\
             SHA-256 of the last weights: {}\n\
             SHA-256 of their tensors:    {}\n",
            self.kills,
            self.amid_writes,
            self.before_states,
            durations::duration(self.seconds),
            self.sha256,
            self.tensors_sha256
        )
    }
}

/// Waits as long as a process is to live; says whether it ended by itself before.
fn outlives(child: &mut Child, life: Duration) -> bool {
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

#[derive(Serialize)]
struct Threaded {
    threads: usize,
    seconds: f64,
    #[serde(flatten)]
    ended: Ended,
}

fn threads(args: &ThreadsArgs) -> Result<(), CliError> {
    if let Some(count) = args.counts.iter().find(|count| !(1..=THREADS_MAX).contains(*count)) {
        let error = format!("counts {count} is not between 1 and {THREADS_MAX} (--counts)");
        return Err(CliError::user(error, Some("use --counts 1,2,3,4,7".to_string())));
    }
    let runs = Runs::new(&args.place.out, &args.settings, &args.flags)?;
    let name = |count: usize| format!("threads-{count}");
    let mut found: Vec<Threaded> = Vec::new();
    let mut counts = args.counts.clone();
    counts.sort_unstable();
    counts.dedup();
    for count in counts {
        let clock = Instant::now();
        let child = runs.start(&name(count), &["--threads", &count.to_string()])?;
        let ended = runs.end(&name(count), child)?;
        if let Some(first) = found.first() {
            runs.compare([&name(first.threads), &name(count)], [&first.ended, &ended])?;
        }
        let seconds = clock.elapsed().as_secs_f64();
        say!("{}: {}", numbers::counted(count, "thread"), ended.sha256);
        found.push(Threaded { threads: count, seconds, ended });
    }
    runs.remove()?;
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
