//! `vitreous runs` and `runs clean` on real runs, and what a training does when its output is closed.

use std::process::{Command, Stdio};

use assert_cmd::cargo::CommandCargoExt;

use crate::common::{Folder, json, refused, said, text, vitreous};

/// A training of well under a second.
const SMALL: [&str; 6] = [
    "train",
    "--limit-train=97",
    "--batch-size=13",
    "--set=model.depth=1",
    "--set=model.embed_dim=16",
    "--set=model.num_heads=1",
];

#[test]
fn runs_are_listed_and_finished_ones_lose_only_their_checkpoints() {
    let folder = Folder::new();
    said(folder.root(), &[&SMALL[..], &["--epochs=1", "--name=done"]].concat());
    said(folder.root(), &[&SMALL[..], &["--epochs=1", "--name=short", "--max-steps=2"]].concat());
    let listed = json(folder.root(), &["runs"]);
    let rows = listed["runs"].as_array().unwrap();
    let facts = |at: usize| ["run", "status", "epochs"].map(|key| rows[at][key].clone());
    assert_eq!(facts(0).map(|fact| fact.to_string()), ["\"runs/done\"", "\"finished\"", "1"]);
    assert_eq!((&rows[1]["status"], rows.len()), (&"max_steps".into(), 2));
    let [all, checkpoints] = ["bytes", "checkpoint_bytes"].map(|key| rows[0][key].as_u64().unwrap());
    assert!(0 < checkpoints && checkpoints < all, "{listed}");
    let shown = said(folder.root(), &["runs"]);
    assert!(shown.starts_with("run         status     epochs") && shown.contains("the checkpoints of 1 finished run"));

    let tried = json(folder.root(), &["runs", "clean", "--dry-run"]);
    assert_eq!((&tried["removed"], &tried["bytes"]), (&serde_json::json!(["runs/done/state"]), &checkpoints.into()));
    assert!(folder.path("runs/done/state").is_dir(), "a dry run removes nothing");
    let before = folder.read("runs/done/weights/last.safetensors");
    let cleaned = said(folder.root(), &["runs", "clean"]);
    assert!(cleaned.starts_with("removed runs/done/state (") && cleaned.ends_with("freed, from 1 finished run\n"));
    assert!(!folder.path("runs/done/state").exists() && folder.path("runs/short/state").is_dir());
    assert_eq!(folder.read("runs/done/weights/last.safetensors"), before);
    said(folder.root(), &["evaluate", "runs/done", "--split=train"]);
    assert!(said(folder.root(), &["train", "--resume", "runs/done"]).contains("next: vitreous evaluate runs/done"));
    let longer = refused(folder.root(), &["train", "--resume", "runs/done", "--epochs=2"]);
    assert!(
        longer.starts_with("error: the run has no checkpoint to resume from, though it had taken 8 steps"),
        "{longer}"
    );
    let again = said(folder.root(), &["runs", "clean"]);
    assert_eq!(again, "nothing to remove: no finished run has checkpoints\n");
    // A run that may still train keeps what it needs.
    said(folder.root(), &["train", "--resume", "runs/short", "--max-steps=3"]);
    let none = refused(folder.root(), &["runs", "elsewhere"]);
    assert!(none.starts_with("error: no such folder (elsewhere)\nhint: "), "{none}");
}

/// Starts a training with a closed pipe as one of its outputs.
fn unread(folder: &Folder, arguments: &[&str], is_stdout: bool) -> (Option<i32>, String) {
    let mut command = Command::cargo_bin("vitreous").unwrap();
    command.current_dir(folder.root()).args(SMALL).args(arguments).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    if is_stdout {
        drop(child.stdout.take());
    } else {
        drop(child.stderr.take());
    }
    let output = child.wait_with_output().unwrap();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn a_training_whose_output_is_closed_says_where_its_result_is_or_stops() {
    let folder = Folder::new();
    let (status, said) = unread(&folder, &["--epochs=1", "--name=a"], true);
    assert!(
        status == Some(0) && said.contains("note: stdout is closed; the result is in runs/a/manifest.json"),
        "{said}"
    );
    let (status, said) = unread(&folder, &["--name=b", "--log-interval=1", "--epochs=50"], false);
    assert!(status == Some(130) && said.contains("next: vitreous train --resume runs/b"), "{status:?} {said}");
    assert_eq!(folder.manifest("b")["status"], "interrupted");
}

#[test]
fn log_interval_prints_its_lines() {
    let folder = Folder::new();
    let output = vitreous(folder.root(), &[&SMALL[..], &["--epochs=1", "--log-interval=3"]].concat());
    let stderr = text(&output.stderr);
    let lines: Vec<&str> = stderr.lines().filter(|line| line.starts_with("epoch 1 step ")).collect();
    let starts = ["epoch 1 step 3/8 loss ", "epoch 1 step 6/8 loss "];
    assert!(lines.len() == 2 && lines.iter().zip(starts).all(|(line, start)| line.starts_with(start)), "{stderr}");
}
