//! `vitreous runs`: lists the runs in a folder with their size on disk; `runs clean` removes checkpoints.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::screen::{Align, sentence, table};
use super::settings::shell_word;
use super::{CliError, json, show};
use crate::data::SplitName;
use crate::numbers;
use crate::record::{ListedRun, NamedRun, Status, find_run, find_runs, remove_checkpoints};

/// The folder of runs where none is named.
pub const RUNS: &str = "runs";

/// The folder of the run that is meant, with a note where another run has the same name.
pub fn run_folder(given: &Path, out: &Path) -> Result<PathBuf, CliError> {
    let NamedRun { folder, other } = find_run(given, out)?;
    if let Some(other) = other {
        say!("note: {} is used; {} is a run too", folder.display(), other.display());
    }
    Ok(folder)
}

/// Lists the runs in a folder with status, accuracy and size on disk; `runs clean` removes old checkpoints
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    clean: Option<Verb>,
    #[command(flatten)]
    folders: Folders,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Removes the checkpoints (`state/`) of finished runs; weights and records stay
    ///
    /// A run is finished when all its epochs are done, or when it reached its step limit (`max_steps`). Without checkpoints it
    /// can still be evaluated, compared and used to predict, but no longer be trained further. Other runs keep their
    /// checkpoints.
    Clean(CleanArgs),
}

#[derive(clap::Args)]
struct Folders {
    /// Folders of runs, or run folders [default: runs]
    #[arg(value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct CleanArgs {
    #[command(flatten)]
    folders: Folders,
    /// Only print what would be removed
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Row {
    #[serde(serialize_with = "crate::text::lossy")]
    run: PathBuf,
    /// As the manifest has it; `training` while a process trains it, `killed` if none does that should.
    status: serde_json::Value,
    epochs: usize,
    val_acc: Option<f64>,
    test_acc: Option<f64>,
    age_s: u64,
    bytes: u64,
    checkpoint_bytes: u64,
}

impl From<&ListedRun> for Row {
    fn from(run: &ListedRun) -> Row {
        let results = run.manifest.results.as_ref();
        Row {
            run: run.folder.clone(),
            status: match run.manifest.status {
                _ if run.is_training => "training".into(),
                Status::Running => "killed".into(),
                status => serde_json::json!(status),
            },
            epochs: run.epochs,
            val_acc: results.and_then(|results| results.best_val_acc.or(results.val_acc)),
            test_acc: run.manifest.evaluation(SplitName::Test).map(|found| found.top1),
            age_s: run.age.as_secs(),
            bytes: run.bytes,
            checkpoint_bytes: run.checkpoint_bytes,
        }
    }
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), CliError> {
    match args.clean {
        Some(Verb::Clean(args)) => clean(&args),
        None => list(&args.folders),
    }
}

/// The runs in the folders; what cannot be read is named on stderr.
fn runs(folders: &Folders) -> Result<Vec<ListedRun>, CliError> {
    let given = if folders.folders.is_empty() { vec![PathBuf::from(RUNS)] } else { folders.folders.clone() };
    let (mut runs, mut seen) = (Vec::new(), BTreeSet::new());
    for folder in &given {
        // Without an argument, the folder need not exist yet.
        if !folder.is_dir() && (folder.exists() || !folders.folders.is_empty()) {
            let error = format!("no such folder ({})", folder.display());
            return Err(CliError::user(error, Some("name a folder that `vitreous train` wrote to".to_string())));
        }
        // A run may be in two of the folders that were named.
        for folder in find_runs(folder).into_iter().filter(|run| seen.insert(run.canonicalize().ok())) {
            match ListedRun::read(&folder) {
                Ok(run) => runs.push(run),
                Err(error) => say!("warning: {error}"),
            }
        }
    }
    Ok(runs)
}

fn list(folders: &Folders) -> Result<(), CliError> {
    let runs = runs(folders)?;
    let rows: Vec<Row> = runs.iter().map(Row::from).collect();
    if folders.json {
        return show(&json(&serde_json::json!({ "runs": rows })));
    }
    if rows.is_empty() {
        let given: Vec<String> = folders.folders.iter().map(|folder| folder.display().to_string()).collect();
        let place = if given.is_empty() { format!("{RUNS}/") } else { given.join(", ") };
        return show(&sentence(&format!("no runs in {place} yet: `vitreous train` makes one")));
    }
    let titles = ["run", "status", "epochs", "val acc", "test acc", "changed", "size", "checkpoints"];
    let mut lines = vec![titles.map(str::to_string)];
    let accuracy = |value: Option<f64>| value.map_or("-".to_string(), numbers::percent);
    let size = |bytes: u64| if bytes == 0 { "-".to_string() } else { numbers::bytes(bytes) };
    lines.extend(runs.iter().zip(&rows).map(|(run, row)| {
        let name = run.folder.display().to_string();
        let (val, test) = (accuracy(row.val_acc), accuracy(row.test_acc));
        let (size, state) = (size(row.bytes), size(row.checkpoint_bytes));
        let changed = format!("{} ago", age(row.age_s));
        [name, run.status(), row.epochs.to_string(), val, test, changed, size, state]
    }));
    let (left, right) = (Align::Left, Align::Right);
    let mut text = table(&lines, &[left, left, right, right, right, right, right, right]);
    text.push_str(&format!("{}, {}\n", count(rows.len()), numbers::bytes(rows.iter().map(|row| row.bytes).sum())));
    let freed: Vec<u64> = runs
        .iter()
        .filter(|run| run.is_finished() && run.checkpoint_bytes > 0)
        .map(|run| run.checkpoint_bytes)
        .collect();
    if !freed.is_empty() {
        let bytes = numbers::bytes(freed.iter().sum());
        let command: String = folders.folders.iter().map(|folder| format!(" {}", shell_word(folder))).collect();
        text.push_str(&sentence(&format!(
            "`vitreous runs clean{command}` frees {bytes}: the checkpoints of {}",
            finished(freed.len())
        )));
    }
    show(&text)
}

fn clean(args: &CleanArgs) -> Result<(), CliError> {
    let runs = runs(&args.folders)?;
    let (mut removed, mut failed) = (Vec::new(), 0);
    for run in runs.iter().filter(|run| run.is_finished() && run.folder.join("state").is_dir()) {
        let bytes = if args.dry_run { Ok(run.checkpoint_bytes) } else { remove_checkpoints(&run.folder) };
        match bytes {
            Ok(bytes) => removed.push((run.folder.join("state"), bytes)),
            Err(error) => {
                failed += 1;
                say!("warning: checkpoints not removed: {error}");
            }
        }
    }
    let freed: u64 = removed.iter().map(|(_, bytes)| bytes).sum();
    if args.folders.json {
        let removed: Vec<String> = removed.iter().map(|(path, _)| path.to_string_lossy().into_owned()).collect();
        show(&json(&serde_json::json!({
            "dry_run": args.dry_run, "removed": removed, "bytes": freed
        })))?;
        return all_removed(failed);
    }
    let verb = if args.dry_run { "would remove" } else { "removed" };
    let mut text = String::new();
    for (path, bytes) in &removed {
        text.push_str(&line!("{verb} {} ({})", path.display(), numbers::bytes(*bytes)));
    }
    let done = if args.dry_run { "would be freed" } else { "freed" };
    text.push_str(&match removed.len() {
        0 if failed > 0 => String::new(),
        0 => "nothing to remove: no finished run has checkpoints\n".to_string(),
        count => format!("{} {done}, from {}\n", numbers::bytes(freed), finished(count)),
    });
    show(&text)?;
    all_removed(failed)
}

/// An error if the checkpoints of some runs are still there.
fn all_removed(failed: usize) -> Result<(), CliError> {
    match failed {
        0 => Ok(()),
        failed => {
            let error = format!("the checkpoints of {} were not removed; the warnings have the reasons", count(failed));
            Err(CliError::failure(error, None))
        }
    }
}

fn count(runs: usize) -> String {
    format!("{} {}", numbers::count(runs as u64), if runs == 1 { "run" } else { "runs" })
}

fn finished(runs: usize) -> String {
    format!("{} finished {}", numbers::count(runs as u64), if runs == 1 { "run" } else { "runs" })
}

/// A time in its largest unit: `42 s`, `5 min`, `3 h`, `12 d`.
fn age(seconds: u64) -> String {
    match seconds {
        s @ 0..=59 => format!("{s} s"),
        s @ 60..=3599 => format!("{} min", s / 60),
        s @ 3600..=86_399 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86_400),
    }
}
