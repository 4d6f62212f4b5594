//! The records of submitted jobs: a line for each in `slurm/jobs.jsonl`, in the folder of the run or sweep that they are for.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::record::{RecordError, SLURM, write_atomically};
use crate::regular;

/// The file with the records.
const JOBS: &str = "jobs.jsonl";

/// Largest such file that is read, in bytes.
const JOBS_MAX: u64 = 64 << 20;

/// Ends the name of a file with the run that an array's task trains.
const RUN: &str = ".run";

/// Folders inside a folder of runs that are looked into.
const DEPTH: usize = 2;

/// A job that was submitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmittedJob {
    /// Its number.
    pub job: String,
    /// The name of its cluster, where it is known.
    pub cluster: Option<String>,
    /// Its name in the list of `squeue`.
    pub name: String,
    /// What it does: `train`, `sweep`, `evaluate`.
    pub verb: String,
    /// When it was submitted, UTC.
    pub submitted: String,
    /// Of an array: the numbers of its tasks, each with the run that it trains first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<(usize, String)>,
}

/// The folder `slurm/` of a run or sweep: scripts, logs, and the records of jobs.
#[derive(Clone, Debug)]
pub struct JobFolder {
    path: PathBuf,
}

impl JobFolder {
    /// That of a run or sweep, which need not exist.
    pub fn of(owner: &Path) -> JobFolder {
        JobFolder { path: owner.join(SLURM) }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run or sweep.
    pub fn owner(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    /// Creates it.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(&self) -> Result<(), RecordError> {
        fs::create_dir_all(&self.path).map_err(|error| RecordError::write(&self.path, &error))
    }

    /// Writes a script into it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<(), RecordError> {
        write_atomically(&self.path.join(name), text.as_bytes())
    }

    /// Removes the scripts if no job was ever submitted, and the folders that are empty then.
    pub fn remove_unused(&self) {
        if self.path.join(JOBS).exists() {
            return;
        }
        let entries = fs::read_dir(&self.path).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
        // What cannot be removed stays in the way, and is named then.
        entries.filter(|path| path.extension() == Some("sh".as_ref())).for_each(|path| _ = fs::remove_file(path));
        let _ = fs::remove_dir(&self.path).and_then(|()| fs::remove_dir(self.owner()));
    }

    /// Adds the record of a job.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&self, job: &SubmittedJob) -> Result<(), RecordError> {
        let path = self.path.join(JOBS);
        let line = serde_json::to_string(job).expect("a record is plain text") + "\n";
        // A record that was cut short must not take this one with it.
        let is_cut = fs::read(&path).is_ok_and(|text| !text.is_empty() && !text.ends_with(b"\n"));
        let line = if is_cut { format!("\n{line}") } else { line };
        let file = fs::File::options().create(true).append(true).open(&path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).map_err(|error| RecordError::write(&path, &error))
    }

    /// The records, in the order of their submission. Lines that cannot be read are skipped.
    pub fn jobs(&self) -> Vec<SubmittedJob> {
        let text = regular::read_text(&self.path.join(JOBS), JOBS_MAX).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Notes the run that an array's task trains now. The table of jobs does not show it if that cannot be written.
    pub fn note_run(&self, task: &str, run: &str) {
        if self.path.is_dir() {
            let _ = self.write(&format!("{task}{RUN}"), run);
        }
    }

    /// The run that an array's task trained last.
    pub fn run_of(&self, task: &str) -> Option<String> {
        regular::read_text(&self.path.join(format!("{task}{RUN}")), 4096).ok()
    }

    /// The log of a job or task.
    pub fn log(&self, id: &str) -> PathBuf {
        self.path.join(format!("{id}.log"))
    }
}

/// The folders with records of jobs, in a folder of runs and its sweeps; that of a run or sweep alone yields its own.
pub fn find_jobs(folder: &Path) -> Vec<JobFolder> {
    let mut found = Vec::new();
    find(folder, DEPTH, &mut found);
    found
}

fn find(folder: &Path, depth: usize, found: &mut Vec<JobFolder>) {
    let own = JobFolder::of(folder);
    if own.path.join(JOBS).is_file() {
        found.push(own);
    }
    if depth > 0 {
        let entries =
            fs::read_dir(folder).into_iter().flatten().filter_map(|entry| entry.ok().map(|entry| entry.path()));
        let mut inside: Vec<PathBuf> = entries.filter(|path| path.is_dir() && !path.is_symlink()).collect();
        inside.sort();
        inside.iter().for_each(|inside| find(inside, depth - 1, found));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_found_below_a_folder_of_runs_and_damaged_lines_are_skipped() {
        let root = tempfile::tempdir().unwrap();
        let record = |job: &str| SubmittedJob {
            job: job.to_string(),
            cluster: None,
            name: "digits".to_string(),
            verb: "train".to_string(),
            submitted: "2025-03-09T17:04:05Z".to_string(),
            tasks: vec![(3, "lr-0.1".to_string())],
        };
        for owner in ["b", "a", "sweep"] {
            let folder = JobFolder::of(&root.path().join(owner));
            folder.create().unwrap();
            folder.add(&record("7")).unwrap();
            fs::write(folder.path().join(JOBS), fs::read_to_string(folder.path().join(JOBS)).unwrap() + "{").unwrap();
            folder.add(&record("11")).unwrap();
        }
        let found = find_jobs(root.path());
        let owners: Vec<PathBuf> = found.iter().map(|folder| folder.owner().to_path_buf()).collect();
        assert_eq!(owners, ["a", "b", "sweep"].map(|name| root.path().join(name)));
        assert_eq!(found[0].jobs(), [record("7"), record("11")]);
        assert_eq!(find_jobs(&root.path().join("b")).len(), 1);
        found[2].note_run("7_3", "lr-0.2");
        assert_eq!([found[2].run_of("7_3"), found[2].run_of("7_4")], [Some("lr-0.2".to_string()), None]);
        JobFolder::of(&root.path().join("none")).note_run("7_3", "x");
        assert!(!root.path().join("none").exists());
    }
}
