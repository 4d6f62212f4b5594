//! `vitreous slurm status|cancel|logs`: what became of submitted jobs.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use super::commands::{Cluster, Refused, accounts, call, messages, needed, queue};
use crate::cli::advice::Context;
use crate::cli::runs::RUNS;
use crate::cli::screen::{Align, sentence, stdout_columns, table};
use crate::cli::settings::shell_word;
use crate::cli::{CliError, json, show, show_as_is};
use crate::durations;
use crate::numbers;
use crate::regular;
use crate::slurm::{Queue, Row, Shown, find_jobs, rows};
use crate::system_errors::system_error;

/// Time between two looks at a log.
const LOOK: Duration = Duration::from_millis(500);

/// Looks at a log between two questions whether its job has ended.
const LOOKS: u32 = 30;

/// Bytes of a log that are read at a time.
const PIECE: u64 = 1 << 20;

#[derive(clap::Args)]
pub struct StatusArgs {
    /// Folders of runs, run folders or sweeps [default: runs]
    #[arg(value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// Refresh the table every N seconds until all jobs have ended [default: 15]
    #[arg(
        long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "15",
        conflicts_with = "json", value_parser = clap::value_parser!(u64).range(1..)
    )]
    watch: Option<u64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub struct CancelArgs {
    /// Runs, sweeps or job numbers
    #[arg(value_name = "RUN|JOB", required = true)]
    targets: Vec<PathBuf>,
    /// Folder of runs
    #[arg(long, value_name = "DIR", default_value = RUNS)]
    out: PathBuf,
}

#[derive(clap::Args)]
pub struct LogsArgs {
    /// A run or a job number
    #[arg(value_name = "RUN|JOB")]
    target: PathBuf,
    /// Follow the log until the job has ended
    #[arg(short, long)]
    follow: bool,
    /// Folder of runs
    #[arg(long, value_name = "DIR", default_value = RUNS)]
    out: PathBuf,
}

/// The jobs of all runs in some folders.
fn known_rows(folders: &[PathBuf], shown: Shown) -> (Vec<Row>, Option<Refused>) {
    let folders: Vec<_> = folders.iter().flat_map(|folder| find_jobs(folder)).collect();
    if folders.is_empty() {
        return (Vec::new(), None);
    }
    let (squeue, refused) = match queue() {
        Ok(queue) => (queue, None),
        Err(refused) => (Queue::new(), Some(refused)),
    };
    let cluster = Cluster::ask();
    let listed = rows(&folders, shown, [&squeue, &Queue::new()], cluster.name());
    let unlisted: Vec<String> =
        listed.iter().filter(|row| !squeue.contains_key(&row.job)).map(|row| row.job.clone()).collect();
    if unlisted.is_empty() || refused.is_some() {
        return (listed, refused);
    }
    (rows(&folders, shown, [&squeue, &accounts(&unlisted)], cluster.name()), None)
}

/// Shows the table.
pub fn status(args: &StatusArgs) -> Result<(), CliError> {
    let folders = if args.folders.is_empty() { vec![PathBuf::from(RUNS)] } else { args.folders.clone() };
    if let Some(missing) = args.folders.iter().find(|folder| !folder.is_dir()) {
        return Err(CliError::user(format!("no such folder ({})", missing.display()), None));
    }
    let mut was_active = true;
    loop {
        let (rows, refused) = known_rows(&folders, Shown::Last);
        // Where squeue fails once, the last answer holds.
        let is_active = if refused.is_some() { was_active } else { rows.iter().any(|row| row.is_active) };
        was_active = is_active;
        let is_missing = matches!(refused, Some(Refused::Missing));
        if args.json {
            return show(&json(&serde_json::json!({ "jobs": rows })));
        }
        if rows.is_empty() {
            say!("note: no job was submitted from here; vitreous slurm train submits one");
            return Ok(());
        }
        let text = text(&rows);
        match args.watch.filter(|_| stdout_columns().is_some()) {
            // Clears the screen.
            Some(_) => show_as_is("\x1b[H\x1b[2J").and_then(|()| show(&text))?,
            None => show(&text)?,
        }
        match refused {
            Some(Refused::Missing) => say!("note: Slurm is not installed here, so the states of jobs are unknown"),
            Some(Refused::Failed(stderr)) => say!("note: squeue failed: {}", messages("squeue", &stderr).join("; ")),
            None => {}
        }
        match args.watch {
            Some(seconds) if is_active && !is_missing => sleep(Duration::from_secs(seconds)),
            _ => return Ok(()),
        }
    }
}

/// What to do about a state, or about the start of a reason.
const MEANINGS: [(&str, &str); 10] = [
    ("out_of_memory", "the job needs more memory: submit it again with a larger --memory"),
    (
        "timeout",
        "the checkpoint was not saved in time: submit it again with --resume auto and a larger --signal-seconds",
    ),
    (
        "PartitionTimeLimit",
        "it never starts, because the partition's limit is shorter: cancel it, and use a smaller --time",
    ),
    ("PartitionNodeLimit", "it never starts, because the partition has no such node: cancel it, and ask for less"),
    ("BadConstraints", "no node has what --constraint or --gres asks for: cancel it"),
    ("DependencyNeverSatisfied", "it never starts: cancel it"),
    ("JobHeld", "it is held: `scontrol release JOB` lets it start"),
    ("QOSMax", "you use as much as you may: it starts when another job of yours has ended"),
    ("Assoc", "your account uses as much as it may: it starts when another of its jobs has ended"),
    ("ReqNodeNotAvail", "nodes are down or reserved: `sinfo` shows until when"),
];

fn text(rows: &[Row]) -> String {
    let titles = ["run", "job", "state", "reason", "epoch", "val acc", "time left"].map(str::to_string);
    let row = |row: &Row| {
        let dash = || "-".to_string();
        let progress = &row.progress;
        [
            row.run.display().to_string(),
            row.job.clone(),
            row.state.clone(),
            row.reason.clone().unwrap_or_default(),
            progress.epochs.map_or_else(dash, |[done, all]| format!("{done} of {all}")),
            progress.val_acc.map_or_else(dash, numbers::percent),
            progress.left_s.map_or_else(dash, durations::time_left),
        ]
    };
    let mut all: Vec<Vec<String>> = std::iter::once(titles).chain(rows.iter().map(row)).map(Vec::from).collect();
    let (left, right) = (Align::Left, Align::Right);
    let mut align = vec![left, left, left, left, right, right, right];
    // What is known of no job is left out.
    for at in (0..align.len()).rev() {
        if all[1..].iter().all(|row| ["", "-"].contains(&row[at].as_str())) {
            all.iter_mut().for_each(|row| _ = row.remove(at));
            align.remove(at);
        }
    }
    let is_in =
        |row: &Row, name: &str| row.state == name || row.reason.as_ref().is_some_and(|reason| reason.starts_with(name));
    let meant = MEANINGS.iter().filter(|(name, _)| rows.iter().any(|row| is_in(row, name)));
    let meanings: String = meant.map(|(name, meaning)| sentence(&format!("{name}: {meaning}"))).collect();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    rows.iter().for_each(|row| *counts.entry(&row.state).or_default() += 1);
    let counts: Vec<String> = counts.iter().map(|(state, count)| format!("{count} {state}")).collect();
    table(&all, &align) + &line!("{}", counts.join(", ")) + &meanings
}

/// Whether a row is meant by a run, a sweep, a job or an array.
fn is_meant(row: &Row, target: &Path, out: &Path) -> bool {
    let array = row.job.split('_').next().unwrap_or_default();
    let is_job = target.to_str().is_some_and(|target| target == row.job || target == array);
    is_job || [target.to_path_buf(), out.join(target)].iter().any(|path| row.run.starts_with(path))
}

/// The rows that are meant, in all folders where they may be recorded: those of earlier jobs too, which may still run. The
/// error is why their states are unknown.
fn meant(targets: &[PathBuf], out: &Path) -> (Vec<Row>, Option<Refused>) {
    let mut folders = vec![out.to_path_buf()];
    for target in targets.iter().filter(|target| target.is_dir()) {
        // A run of a sweep: the sweep has the record.
        folders.push(target.clone());
        folders.extend(target.parent().filter(|parent| !parent.as_os_str().is_empty()).map(Path::to_path_buf));
    }
    let (rows, refused) = known_rows(&folders, Shown::All);
    let mut found: Vec<Row> = Vec::new();
    for row in rows {
        let is_new = !found.iter().any(|found| found.job == row.job && found.run == row.run);
        if is_new && targets.iter().any(|target| is_meant(&row, target, out)) {
            found.push(row);
        }
    }
    (found, refused)
}

/// The error for what has no job.
fn no_job(target: &Path, what: &str) -> CliError {
    let hint = "vitreous slurm status lists the jobs".to_string();
    CliError::user(format!("no {what} of {}", target.display()), Some(hint))
}

/// Cancels jobs.
pub fn cancel(args: &CancelArgs) -> Result<(), CliError> {
    call("scancel", &["--version"]).map_err(|refused| needed("scancel", refused))?;
    let (rows, refused) = meant(&args.targets, &args.out);
    if let Some(refused) = refused {
        return Err(needed("squeue", refused));
    }
    for target in &args.targets {
        let of_target = rows.iter().filter(|row| is_meant(row, target, &args.out));
        if let Some((Row { job, .. }, other)) =
            of_target.filter_map(|row| Some((row, row.elsewhere.as_ref()?))).next_back()
        {
            let hint = format!(
                "`scancel --clusters={} {job}` cancels it, if the clusters are connected",
                shell_word(Path::new(other))
            );
            return Err(CliError::user(format!("job {job} of {} is on cluster {other}", target.display()), Some(hint)));
        }
        if !rows.iter().any(|row| row.is_active && is_meant(row, target, &args.out)) {
            return Err(no_job(target, "waiting or running job"));
        }
    }
    let mut failed = Vec::new();
    let mut cancelled: Vec<&str> = Vec::new();
    for row in rows.iter().filter(|row| row.is_active) {
        // A task that has taken another run has a row for each.
        if cancelled.contains(&row.job.as_str()) {
            continue;
        }
        match call("scancel", &[&row.job]) {
            Ok(_) => show(&line!("cancelled: job {}, {}", row.job, row.run.display()))?,
            Err(refused) => failed.push((row.job.clone(), needed("scancel", refused))),
        }
        cancelled.push(&row.job);
    }
    if failed.is_empty() {
        return Ok(());
    }
    let context = Context::new(&clap::ArgMatches::default());
    for (job, error) in &failed {
        say!("job {job}: {}", error.text(&context).0);
    }
    let jobs: Vec<&str> = failed.iter().map(|(job, _)| job.as_str()).collect();
    Err(CliError::failure(format!("not cancelled: job {}", jobs.join(", ")), None))
}

/// Prints the log of a job.
pub fn logs(args: &LogsArgs) -> Result<(), CliError> {
    let target = std::slice::from_ref(&args.target);
    let (rows, _) = meant(target, &args.out);
    let Some(row) = chosen(&rows, &args.target, &args.out) else { return Err(no_job(&args.target, "job")) };
    let reason = row.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
    match row.log.exists() || !row.is_active {
        true => say!("job {}: {}", row.job, row.log.display()),
        false => say!("job {} has not started: {}{reason}", row.job, row.state),
    }
    let (mut position, mut looks, mut is_active) = (0, 0, row.is_active);
    loop {
        position = print_from(&row.log, position, row)?;
        if !args.follow || !is_active {
            return Ok(());
        }
        sleep(LOOK);
        looks += 1;
        // Where squeue fails, the last answer holds.
        if looks % LOOKS == 0
            && let (rows, None) = meant(target, &args.out)
        {
            is_active = rows.iter().any(|now| now.job == row.job && now.is_active);
        }
    }
}

/// The job whose log is printed: the last of the run itself, else the last that is active (one that has a log, if any has),
/// else the last.
fn chosen<'a>(rows: &'a [Row], target: &Path, out: &Path) -> Option<&'a Row> {
    let is_run = |row: &&Row| row.run == target || row.run == out.join(target);
    let last = |of: &dyn Fn(&&Row) -> bool| rows.iter().rfind(of);
    let with_log = || last(&|row| row.is_active && row.log.exists());
    last(&is_run).or_else(with_log).or_else(|| last(&|row| row.is_active)).or_else(|| rows.last())
}

/// Prints what a log has from some position on; returns its end. While its job waits, there is none.
fn print_from(log: &Path, position: u64, row: &Row) -> Result<u64, CliError> {
    let failed = |error: std::io::Error| {
        CliError::failure(format!("cannot read the log: {} ({})", system_error(&error), log.display()), None)
    };
    let mut file = match regular::open(log) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && row.is_active => return Ok(position),
        file => file.map_err(failed)?,
    };
    // A log that has become shorter was replaced.
    let end = file.metadata().map_err(failed)?.len();
    let mut position = if end < position { 0 } else { position };
    while position < end {
        file.seek(SeekFrom::Start(position)).map_err(failed)?;
        let mut bytes = Vec::new();
        let read = file.by_ref().take(PIECE).read_to_end(&mut bytes).map_err(failed)? as u64;
        // It has become shorter meanwhile.
        if read == 0 {
            break;
        }
        position += read;
        show(&String::from_utf8_lossy(&bytes))?;
    }
    Ok(position)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slurm::Progress;

    fn row(run: &str, job: &str) -> Row {
        Row {
            run: run.into(),
            job: job.to_string(),
            state: "running".to_string(),
            reason: None,
            progress: Progress::default(),
            is_active: true,
            elsewhere: None,
            log: PathBuf::new(),
        }
    }

    #[test]
    fn a_run_a_sweep_a_job_and_an_array_are_meant_by_their_names() {
        let is = |target: &str| is_meant(&row("runs/lr/a", "12_3"), Path::new(target), Path::new("runs"));
        assert!(["12", "12_3", "runs/lr", "runs/lr/a", "lr", "lr/a"].into_iter().all(is));
        assert!(!["1", "12_4", "3", "runs/l", "a", "digits"].into_iter().any(is));
    }

    #[test]
    fn the_log_is_that_of_the_run_s_last_job_or_of_a_job_that_is_active() {
        let mut rows =
            [row("runs/a", "7"), row("runs/a", "8"), row("runs/a/(evaluate)", "9"), row("runs/a/(verify)", "10")];
        rows[3].is_active = false;
        let job =
            |rows: &[Row], target: &str| chosen(rows, Path::new(target), Path::new("runs")).map(|row| row.job.clone());
        assert_eq!([job(&rows, "a"), job(&rows, "runs/a")], [Some("8".to_string()), Some("8".to_string())]);
        assert_eq!(job(&rows[2..], "runs/a"), Some("9".to_string()));
        assert_eq!(job(&rows[3..], "runs/a"), Some("10".to_string()));
        // The table of a sweep waits for its runs.
        let mut sweep = [row("runs/lr/a", "11_1"), row("runs/lr/(table)", "12")];
        let log = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(job(&sweep, "lr"), Some("12".to_string()));
        sweep[0].log = log.path().to_path_buf();
        assert_eq!(job(&sweep, "lr"), Some("11_1".to_string()));
    }

    #[test]
    fn the_table_shows_what_is_known_and_counts_the_states() {
        let mut known = row("runs/a", "7");
        known.progress = Progress { status: None, epochs: Some([3, 11]), val_acc: Some(0.75), left_s: Some(245.0) };
        let mut waiting = row("runs/b", "11");
        (waiting.state, waiting.reason) = ("pending".to_string(), Some("Priority".to_string()));
        let table = |rows: &[Row]| {
            let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
            text(rows).lines().map(line).collect::<Vec<_>>()
        };
        let mut stuck = waiting.clone();
        stuck.reason = Some("PartitionTimeLimit".to_string());
        let never = "PartitionTimeLimit: it never starts, because the partition's limit is shorter: cancel it, and use a \
                     smaller --time";
        let expected = ["run job state reason", "runs/b 11 pending PartitionTimeLimit", "1 pending", never];
        assert_eq!(table(&[stuck]), expected);
        let lines = table(&[known, waiting]);
        assert_eq!(
            lines,
            [
                "run job state reason epoch val acc time left",
                "runs/a 7 running 3 of 11 75.00 % 4 min 05 s",
                "runs/b 11 pending Priority - - -",
                "1 pending, 1 running",
            ]
        );
    }
}
