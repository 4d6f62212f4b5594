//! Lists the runs in a folder with status and size on disk, and removes checkpoints that finished runs no longer need.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::run::{MANIFEST, STATE};
use super::{Claim, Manifest, RecordError, Run, Status};
use crate::regular;

/// Folders of runs inside a folder of runs that are looked into: a sweep is one.
const DEPTH: usize = 2;

/// Largest `results.csv` that is read, in bytes.
const RESULTS_MAX: u64 = 64 << 20;

/// How the name of a checkpoint's record ends.
const RECORD: &str = ".json";

/// How the names of files in `state/` end: records, tensors, best weights, and unfinished ones of these.
const CHECKPOINT_FILES: [&str; 4] = [RECORD, ".safetensors", ".best", ".tmp"];

/// A run and its size on disk.
#[derive(Clone, Debug)]
pub struct ListedRun {
    /// Its folder.
    pub folder: PathBuf,
    /// Its facts.
    pub manifest: Manifest,
    /// Whether a process trains it now.
    pub is_training: bool,
    /// Epochs that were completed.
    pub epochs: usize,
    /// Time since its manifest was written.
    pub age: Duration,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Bytes of its checkpoints, the files in `state/`.
    pub checkpoint_bytes: u64,
}

impl ListedRun {
    /// Reads a run's folder; nothing is changed in it.
    ///
    /// # Errors
    /// When it is not a run, or its manifest cannot be read.
    pub fn read(folder: &Path) -> Result<ListedRun, RecordError> {
        let run = Run::open(folder)?;
        let changed = fs::metadata(folder.join(MANIFEST)).and_then(|file| file.modified());
        let results = || regular::read_text(&folder.join("results.csv"), RESULTS_MAX);
        let rows = || results().map_or(0, |text| text.lines().skip(1).count());
        let manifest = run.manifest().clone();
        Ok(ListedRun {
            folder: folder.to_path_buf(),
            is_training: Claim::is_taken(run.files()),
            epochs: manifest.results.as_ref().map_or_else(rows, |results| results.epochs as usize),
            age: changed.ok().and_then(|time| SystemTime::now().duration_since(time).ok()).unwrap_or_default(),
            bytes: bytes_in(folder),
            checkpoint_bytes: bytes_in(&folder.join(STATE)),
            manifest,
        })
    }

    /// How far it is, in a word or two.
    pub fn status(&self) -> String {
        status_in_words(self.manifest.status, self.is_training)
    }

    /// Whether its checkpoints are of no use but for training it further.
    pub fn is_finished(&self) -> bool {
        self.manifest.status.is_finished() && !self.is_training
    }
}

/// How far a run is, in a word or two.
pub fn status_in_words(status: Status, is_training: bool) -> String {
    match status {
        _ if is_training => "training".to_string(),
        Status::Running => "killed".to_string(),
        status => status.to_string(),
    }
}

/// The run folders in a folder and in its sweeps, sorted; a run folder yields itself.
pub fn find_runs(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    find(folder, DEPTH, &mut found);
    found
}

fn find(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    if folder.join(MANIFEST).is_file() {
        found.push(folder.to_path_buf());
    } else if depth > 0 {
        let entries =
            fs::read_dir(folder).into_iter().flatten().filter_map(|entry| entry.ok().map(|entry| entry.path()));
        let mut inside: Vec<PathBuf> = entries.filter(|path| path.is_dir() && !path.is_symlink()).collect();
        inside.sort();
        inside.iter().for_each(|inside| find(inside, depth - 1, found));
    }
}

/// Removes the checkpoints of a finished run and nothing else; returns their size in bytes.
///
/// # Errors
/// When the run is not finished, a process trains it, or a file cannot be removed.
pub fn remove_checkpoints(folder: &Path) -> Result<u64, RecordError> {
    // Claimed until the end: no process can resume the run meanwhile.
    let run = Run::open_to_train(folder)?;
    if !run.manifest().status.is_finished() {
        return Err(RecordError::Unfinished { path: folder.to_path_buf() });
    }
    // Without its weights, the checkpoints are all that is left of the run.
    run.find_weights(None)?;
    let (path, files) = (folder.join(STATE), run.files());
    let failed = |error: &io::Error| files.error(STATE, error);
    // A link leads to files that are not the run's own.
    if path.is_symlink() {
        return Err(failed(&io::ErrorKind::NotADirectory.into()));
    }
    let before = bytes_in(&path);
    let mut names = files.names(STATE).map_err(|error| failed(&error))?;
    names.retain(|name| CHECKPOINT_FILES.iter().any(|kind| name.ends_with(kind)));
    // Records first: tensors without a record are not a checkpoint, so a kill at this point leaves none that is damaged.
    names.sort_by_key(|name| !name.ends_with(RECORD));
    for name in names {
        files.remove(&format!("{STATE}/{name}")).map_err(|error| failed(&error))?;
    }
    match files.remove_folder(STATE) {
        // A user's own files stay.
        Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => return Err(failed(&error)),
        _ => {}
    }
    Ok(before - bytes_in(&path))
}

/// Bytes of the files in a folder and the folders in it; links are not followed.
fn bytes_in(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(file) if file.is_dir() => bytes_in(&entry.path()),
        Ok(file) if file.is_file() => file.len(),
        _ => 0,
    };
    entries.map(bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run's folder with a status and checkpoints of 11 and 5 bytes.
    fn write(folder: &Path, status: &str) {
        let manifest = serde_json::json!({
            "format": 1, "version": "1.2.3", "command": ["vitreous", "train"], "status": status,
            "started": "2025-03-09T17:04:05Z", "finished": null, "seed": 42, "parameters": 7,
            "data": {"name": "photos", "fingerprint": "ab", "class_names": ["cat"], "train": 13, "validation": 5,
                "test": null, "normalization": {"mean": [0.5], "std": [0.5]}, "skipped": []},
            "machine": {"os": "linux", "arch": "x86_64", "instruction_set": "avx2", "threads": 2, "processors": 2},
            "results": null, "test_evaluations": 0
        });
        fs::create_dir_all(folder.join(STATE)).unwrap();
        fs::create_dir_all(folder.join("weights")).unwrap();
        fs::write(folder.join("weights/last.safetensors"), "").unwrap();
        fs::write(folder.join(MANIFEST), manifest.to_string()).unwrap();
        fs::write(folder.join("results.csv"), "epoch,loss\n1,0.5\n2,0.25\n3,0.2\n").unwrap();
        fs::write(folder.join(STATE).join("3.safetensors"), [7; 11]).unwrap();
        fs::write(folder.join(STATE).join("3.json"), [7; 5]).unwrap();
    }

    #[test]
    fn runs_and_those_of_sweeps_are_found_with_their_sizes() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        ["b", "a", "sweep/one", "deep/er/still"].iter().for_each(|name| write(&at(name), "finished"));
        fs::create_dir(at("notes")).unwrap();
        assert_eq!(find_runs(folder.path()), ["a", "b", "sweep/one"].map(at));
        assert_eq!(find_runs(&at("a")), [at("a")]);
        let run = ListedRun::read(&at("a")).unwrap();
        let files = ["manifest.json", "results.csv"].map(|file| fs::metadata(at("a").join(file)).unwrap().len());
        assert_eq!((run.checkpoint_bytes, run.bytes), (16, 16 + files[0] + files[1]));
        assert_eq!((run.status().as_str(), run.epochs, run.is_finished()), ("finished", 3, true));
    }

    #[test]
    fn only_a_finished_run_that_no_process_trains_loses_its_checkpoints() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("run");
        for (status, shown) in [("running", "killed"), ("interrupted", "interrupted"), ("max-time", "time limit")] {
            write(&at, status);
            assert_eq!(ListedRun::read(&at).unwrap().status(), shown);
            assert_eq!(remove_checkpoints(&at), Err(RecordError::Unfinished { path: at.clone() }));
        }
        write(&at, "max-steps");
        assert_eq!(ListedRun::read(&at).unwrap().status(), "step limit");
        assert_eq!(remove_checkpoints(&at), Ok(16));
        write(&at, "finished");
        let claim = Claim::of(&at).unwrap();
        let run = ListedRun::read(&at).unwrap();
        assert_eq!((run.status().as_str(), run.is_finished()), ("training", false));
        assert!(matches!(remove_checkpoints(&at), Err(RecordError::Busy { .. })));
        assert!(at.join(STATE).join("3.json").is_file());
        drop(claim);
        assert!(ListedRun::read(&at).unwrap().is_finished());
        assert_eq!(remove_checkpoints(&at), Ok(16));
        assert!(!at.join(STATE).exists() && at.join("results.csv").is_file());
    }

    #[cfg(unix)]
    #[test]
    fn files_that_are_not_of_checkpoints_stay() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("run");
        write(&at, "finished");
        fs::remove_file(at.join("weights/last.safetensors")).unwrap();
        assert!(matches!(remove_checkpoints(&at), Err(RecordError::NoWeights { .. })));
        fs::write(at.join("weights/last.safetensors"), "").unwrap();
        fs::write(at.join(STATE).join("notes.txt"), "mine").unwrap();
        // A checkpoint's names are Unicode.
        let odd = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff.json");
        fs::write(at.join(STATE).join::<&std::ffi::OsStr>(odd), "mine").unwrap();
        assert_eq!(remove_checkpoints(&at), Ok(16));
        assert_eq!(fs::read_dir(at.join(STATE)).unwrap().count(), 2);
        // A link to a folder elsewhere is refused.
        let other = folder.path().join("other");
        fs::rename(at.join(STATE), &other).unwrap();
        fs::write(other.join("4.json"), "{}").unwrap();
        std::os::unix::fs::symlink(&other, at.join(STATE)).unwrap();
        assert!(matches!(remove_checkpoints(&at), Err(RecordError::Write { .. })));
        assert!(other.join("4.json").is_file());
    }
}
