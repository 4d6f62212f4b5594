//! Run folders that are moved, deleted or locked by others: no process writes into another's run.

use std::fs::{self, File};
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::common::{Folder, refused, said};

/// A training of a moment, if it is not a long one.
const SMALL: [&str; 9] = [
    "train",
    "--limit-train=97",
    "--batch-size=13",
    "--set=data.val_fraction=0.01",
    "--set=model.embed_dim=16",
    "--set=model.depth=1",
    "--log-interval=5",
    "--save-every=20",
    "--threads=1",
];

/// What equal runs have in common.
const FILES: [&str; 5] =
    ["results.csv", "ledger.csv", "metrics.jsonl", "weights/last.safetensors", "weights/best.safetensors"];

/// How long a process that should end may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn start(folder: &Folder, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vitreous"));
    command
        .current_dir(folder.root())
        .env("VITREOUS_NO_PLOTS", "1")
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn small(more: &[&'static str]) -> Vec<&'static str> {
    [&SMALL[..], more].concat()
}

/// Waits until a process ends by itself; returns its status and what it said.
fn ended(mut child: Child) -> (Option<i32>, String) {
    let start = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if start.elapsed() > PATIENCE => {
                child.kill().unwrap();
                panic!("it does not end: {child:?}");
            }
            None => sleep(Duration::from_millis(10)),
        }
    };
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (status.code(), said)
}

fn wait_for(folder: &Folder, path: &str) {
    let start = Instant::now();
    while !folder.path(path).exists() {
        assert!(start.elapsed() < PATIENCE, "{path} does not come");
        sleep(Duration::from_millis(5));
    }
}

fn assert_same(folder: &Folder, one: &str, other: &str) {
    for file in FILES {
        let [one, other] = [one, other].map(|run| folder.read(&format!("runs/{run}/{file}")));
        assert!(one == other, "{file}");
    }
}

#[test]
fn a_moved_run_stops_and_does_not_touch_the_folder_in_its_place() {
    let folder = Folder::new();
    let first = start(&folder, &small(&["--epochs=100000", "--seed=1", "--name=a"]));
    wait_for(&folder, "runs/a/state/2.json");
    fs::rename(folder.path("runs/a"), folder.path("runs/old")).unwrap();
    let second = small(&["--epochs=3", "--seed=2", "--name=a"]);
    said(folder.root(), &second);
    let (status, stderr) = ended(first);
    assert_eq!(status, Some(1), "{stderr}");
    let expected = "error: the folder is gone: it was moved or deleted (runs/a)\n\
                    hint: if it was moved, resume it from its new place with vitreous train --resume RUN\n";
    assert!(stderr.ends_with(expected), "{stderr}");
    said(folder.root(), &small(&["--epochs=3", "--seed=2", "--name=alone"]));
    assert_same(&folder, "a", "alone");
    assert_eq!(folder.manifest("a")["status"], "finished");
    // The moved run is complete and can be resumed.
    assert_eq!(folder.manifest("old")["status"], "running");
    let steps = fs::read_dir(folder.path("runs/old/state")).unwrap().filter_map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let text = name.ends_with(".json").then(|| folder.text(&format!("runs/old/state/{name}")))?;
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["state"]["step"].as_u64()
    });
    let steps = format!("--max-steps={}", steps.max().unwrap() + 7);
    said(folder.root(), &["train", "--resume=runs/old", &steps]);
    let whole = [&small(&["--epochs=100000", "--seed=1", "--name=whole"])[..], &[&steps]].concat();
    said(folder.root(), &whole);
    assert_same(&folder, "old", "whole");
}

#[test]
fn a_run_whose_folder_or_lock_is_removed_stops_and_recreates_nothing() {
    let gone = "error: the folder is gone: it was moved or deleted (runs/a)\n";
    let unlocked = "error: this process no longer owns the folder: its `.lock` was deleted or replaced (runs/a)\n";
    // What is deleted goes file by file, and the process may look in between.
    for (how, expected) in [("moved", [gone, gone]), ("deleted", [gone, unlocked]), ("unlocked", [unlocked, unlocked])]
    {
        let folder = Folder::new();
        let child = start(&folder, &small(&["--epochs=100000", "--name=a"]));
        wait_for(&folder, "runs/a/state/2.json");
        match how {
            "moved" => fs::rename(folder.path("runs/a"), folder.path("elsewhere")).unwrap(),
            // It may be writing a file in this moment.
            "deleted" => while fs::remove_dir_all(folder.path("runs/a")).is_err() {},
            _ => fs::remove_file(folder.path("runs/a/.lock")).unwrap(),
        }
        let (status, stderr) = ended(child);
        assert_eq!(status, Some(1), "{how}: {stderr}");
        assert!(expected.iter().any(|expected| stderr.contains(expected)), "{how}: {stderr}");
        assert_eq!(folder.path("runs/a").exists(), how == "unlocked", "{how}");
    }
}

#[test]
fn folders_locked_by_the_parent_process_can_be_used() {
    let folder = Folder::new();
    fs::create_dir(folder.path("runs")).unwrap();
    // As `flock runs vitreous train` does.
    let lock = |path: &str| {
        let file = File::open(folder.path(path)).unwrap();
        file.lock().unwrap();
        file
    };
    let _runs = lock("runs");
    let (status, stderr) = ended(start(&folder, &small(&["--name=a", "--max-steps=3"])));
    assert_eq!(status, Some(0), "{stderr}");
    let _run = lock("runs/a");
    for arguments in [&["evaluate", "runs/a", "--split=val"][..], &["train", "--resume=runs/a", "--max-steps=5"]] {
        let (status, stderr) = ended(start(&folder, arguments));
        assert_eq!(status, Some(0), "{arguments:?}: {stderr}");
    }
    let names = |path: &str| {
        let mut names: Vec<String> = fs::read_dir(folder.path(path))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names("runs"), ["a"], "of the program's own locks nothing is left");
    assert!(!names("runs/a").contains(&".change.lock".to_string()));
}

#[test]
fn a_sweep_does_not_write_into_a_run_created_meanwhile() {
    let folder = Folder::new();
    fs::create_dir_all(folder.path("runs/s")).unwrap();
    let claim = File::create(folder.path("runs/s/.lock")).unwrap();
    claim.lock().unwrap();
    let arguments = small(&["--max-steps=2"]);
    let arguments = [&["sweep", "--name=s", "--set-each=train.lr=1e-3,1e-4"], &arguments[1..6]].concat();
    let child = start(&folder, &arguments);
    sleep(Duration::from_millis(700));
    fs::write(folder.path("runs/s/manifest.json"), "{}").unwrap();
    drop(claim);
    let (status, stderr) = ended(child);
    assert_eq!(status, Some(2), "{stderr}");
    assert!(stderr.starts_with("error: ") && stderr.contains("runs/s"), "{stderr}");
    let entries = fs::read_dir(folder.path("runs/s")).unwrap();
    let folders = entries.filter(|entry| entry.as_ref().unwrap().path().is_dir()).count();
    assert_eq!(folders, 0, "no run was made there");
}

#[test]
fn leftovers_of_a_killed_evaluation_are_removed_and_current_files_stay() {
    let folder = Folder::new();
    said(folder.root(), &small(&["--name=a", "--max-steps=3"]));
    let left = |name: &str| {
        let path = folder.path(&format!("runs/a/evaluation/val/{name}"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        File::create(path).unwrap()
    };
    let [_dead, alive] = [".predictions.csv.77.tmp", ".report.json.0123456789abcdef.tmp"].map(left);
    alive.lock().unwrap();
    said(folder.root(), &["evaluate", "runs/a", "--split=val"]);
    assert!(!folder.path("runs/a/evaluation/val/.predictions.csv.77.tmp").exists());
    assert!(folder.path("runs/a/evaluation/val/.report.json.0123456789abcdef.tmp").exists());
}

#[test]
fn a_fifo_or_sparse_file_in_place_of_a_run_file_is_an_error() {
    let folder = Folder::new();
    said(folder.root(), &small(&["--name=a", "--max-steps=9"]));
    said(folder.root(), &["evaluate", "runs/a", "--split=val"]);
    let state = fs::read_dir(folder.path("runs/a/state")).unwrap();
    let states = state.map(|entry| format!("state/{}", entry.unwrap().file_name().to_str().unwrap()));
    let files = ["config.toml", "manifest.json", "timing.jsonl", ".lock", "evaluation/val/report.json"];
    let files = files.iter().chain(&["evaluation/val/predictions.csv"]).chain(&FILES).map(|file| file.to_string());
    let commands = [
        &["compare", "runs/a", "runs/a"][..],
        &["evaluate", "runs/a", "--split=val", "--plot-formats=svg"],
        &["predict", "picture.png", "--run=runs/a"],
        &["train", "--resume=runs/a", "--max-steps=10", "--plot-formats=svg"],
        &["sweep", "--name=runs", "--out=.", "--set-each=train.lr=1e-3", "--list"],
    ];
    image::GrayImage::from_pixel(28, 28, image::Luma([0])).save(folder.path("picture.png")).unwrap();
    let original = folder.path("runs/a");
    let kept = folder.path("kept");
    fs::rename(&original, &kept).unwrap();
    let copy = || {
        let copied = Command::new("cp").arg("-r").arg(&kept).arg(&original).status().unwrap();
        assert!(copied.success());
    };
    for file in files.chain(states) {
        copy();
        let path = original.join(&file);
        fs::remove_file(&path).unwrap();
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        for command in commands {
            let (_, stderr) = ended(start(&folder, command));
            assert!(!stderr.contains("panicked"), "{file}, {command:?}: {stderr}");
        }
        fs::remove_dir_all(&original).unwrap();
    }
    // A sparse manifest, config or report: far less memory than its size.
    for file in ["manifest.json", "config.toml", "evaluation/val/report.json"] {
        copy();
        File::options().write(true).open(original.join(file)).unwrap().set_len(1 << 34).unwrap();
        for command in &commands[..4] {
            let (_, stderr) = ended(start(&folder, command));
            assert!(!stderr.contains("panicked") && !stderr.contains("memory allocation"), "{file}: {stderr}");
        }
        fs::remove_dir_all(&original).unwrap();
    }
    copy();
    File::options().write(true).open(original.join("manifest.json")).unwrap().set_len(1 << 34).unwrap();
    let stderr = refused(folder.root(), &["evaluate", "runs/a"]);
    assert_eq!(stderr, "error: cannot read: the file is larger than 67.1 MB (runs/a/manifest.json)\n");
}
