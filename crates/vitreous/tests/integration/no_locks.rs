//! File systems without file locks: a system call filter refuses every lock.

use std::collections::BTreeMap;
use std::fs::TryLockError;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use crate::common::{Folder, refused, said, signal};
use crate::mirror::get::*;
use crate::mirror::{Mirror, file};

/// Number of the system call by which files are locked.
const FLOCK: i64 = if cfg!(target_arch = "x86_64") { 73 } else { 32 };

/// "No locks available", as NFS answers without its lock server.
const ENOLCK: u32 = 37;

/// Calls `work` on a thread on which, and in whose child processes, no file can be locked.
fn without_locks(work: impl FnOnce() + Send) {
    let work = || {
        let rules = BTreeMap::from([(FLOCK, Vec::new())]);
        let arch = std::env::consts::ARCH.try_into().unwrap();
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(ENOLCK), arch).unwrap();
        apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
        let file = tempfile::tempfile().unwrap();
        let refused = file.try_lock().unwrap_err();
        assert!(matches!(refused, TryLockError::Error(error) if error.raw_os_error() == Some(ENOLCK as i32)));
        work();
    };
    thread::scope(|scope| scope.spawn(work).join().unwrap());
}

const SMALL: [&str; 8] = [
    "train",
    "--epochs=100000",
    "--limit-train=97",
    "--batch-size=13",
    "--set=data.val_fraction=0.01",
    "--set=model.embed_dim=16",
    "--set=model.depth=1",
    "--name=a",
];

#[test]
fn without_locks_one_process_per_folder_and_dead_ones_are_replaced() {
    without_locks(|| {
        let folder = Folder::new();
        said(folder.root(), &[&SMALL[..], &["--max-steps=3"]].concat());
        said(folder.root(), &["evaluate", "runs/a", "--split=val"]);
        assert!(!folder.path("runs/a/.lock.held").exists(), "a run that has ended holds nothing");
        let mut first = Command::new(env!("CARGO_BIN_EXE_vitreous"))
            .current_dir(folder.root())
            .env("VITREOUS_NO_PLOTS", "1")
            .args(["train", "--resume=runs/a", "--set=train.max_steps=", "--save-every=9"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        while !folder.path("runs/a/.lock.held").exists() {
            assert!(start.elapsed() < Duration::from_secs(60), "it does not start");
            thread::sleep(Duration::from_millis(2));
        }
        let resume = ["train", "--resume=runs/a", "--max-steps=9"];
        let expected = format!("error: process {} trains in this folder (runs/a)\n", first.id());
        let stderr = refused(folder.root(), &resume);
        assert!(stderr.starts_with(&expected), "{stderr}");
        signal(&first, "STOP");
        // Other processes cannot know that it only sleeps; when it wakes up, it sees that it lost the lock.
        let clock = Instant::now();
        said(folder.root(), &resume);
        assert!(clock.elapsed() >= Duration::from_secs(9), "{:?}", clock.elapsed());
        signal(&first, "CONT");
        assert_eq!(first.wait().unwrap().code(), Some(1));
    });
}

#[test]
fn without_locks_tasks_that_start_together_train_different_runs() {
    without_locks(|| {
        let folder = Folder::new();
        let task = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_vitreous"));
            command.current_dir(folder.root()).env("VITREOUS_NO_PLOTS", "1").args(["sweep", "--task=1", "--json"]);
            command.args(["--set-each=train.lr=1e-3,2e-3", "--name=lr", "--set=train.max_steps=3"]);
            command.args(&SMALL[2..7]).stdout(Stdio::piped()).spawn().unwrap()
        };
        // Both want the first run.
        let tasks = [task(), task()];
        let mut runs = tasks.map(|task| {
            let output = task.wait_with_output().unwrap();
            let ended: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            ended["run"].as_str().unwrap().to_string()
        });
        runs.sort();
        assert_eq!(runs, ["lr=1e-3", "lr=2e-3"]);
        for run in runs {
            let manifest = folder.manifest(&format!("lr/{run}"));
            assert_eq!((&manifest["status"], manifest.get("resumed")), (&"max-steps".into(), None), "{run}");
        }
    });
}

#[test]
fn without_locks_data_can_be_fetched() {
    with_noise(|set, gz| {
        without_locks(|| {
            let folder = Folder::new();
            let mirror = Mirror::new({
                let gz = gz.clone();
                move |request, to| file(request, to, &gz)
            });
            let fetched = get(set, &folder, &[&mirror], false).result.unwrap();
            assert_eq!(fetched.fetched, ["noise.gz"]);
            assert_whole(&folder, &gz);
        });
    });
}
