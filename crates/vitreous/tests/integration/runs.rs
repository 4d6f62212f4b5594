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
    let cut = said(folder.root(), &[&SMALL[..], &["--epochs=3", "--name=short", "--max-steps=11"]].concat());
    let note = "\nthe last epoch is incomplete: only complete epochs can be the best\n";
    assert!(cut.starts_with("stopped after step 11 (step limit); ") && cut.contains(note), "{cut}");
    let listed = json(folder.root(), &["runs"]);
    let rows = listed["runs"].as_array().unwrap();
    let facts = |at: usize| ["run", "status", "epochs"].map(|key| rows[at][key].clone());
    assert_eq!(facts(0).map(|fact| fact.to_string()), ["\"runs/done\"", "\"finished\"", "1"]);
    assert_eq!((&rows[1]["status"], rows.len()), (&"max-steps".into(), 2));
    let [all, checkpoints] = ["bytes", "checkpoint_bytes"].map(|key| rows[0][key].as_u64().unwrap());
    assert!(0 < checkpoints && checkpoints < all, "{listed}");
    let shown = said(folder.root(), &["runs"]);
    let start = "run         status      epochs";
    assert!(shown.starts_with(start) && shown.contains("\nruns/short  step limit       1  "), "{shown}");
    assert!(shown.contains("the checkpoints of 2 finished runs"), "{shown}");
    // More epochs are of no use to a run that reached its step limit.
    let limited = ["train", "--resume", "runs/short", "--epochs=3"];
    let limit = "runs/short: nothing is left to train, its step limit is reached (max_steps 11); to train the run further, use a \
                 larger --max-steps\n";
    assert_eq!(text(&vitreous(folder.root(), &limited).stderr).lines().last(), Some(limit.trim_end()));
    // A run that may still train keeps what it needs.
    let manifest = folder.text("runs/short/manifest.json").replace("max-steps", "interrupted");
    std::fs::write(folder.path("runs/short/manifest.json"), manifest).unwrap();

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
    assert_eq!(
        longer.lines().skip_while(|line| !line.starts_with("error")).collect::<Vec<_>>(),
        [
            "error: the checkpoints of the run were removed: it cannot be trained further (runs/done)",
            "hint: `vitreous runs clean` removes the checkpoints of finished runs: train again under another --name"
        ]
    );
    let again = said(folder.root(), &["runs", "clean"]);
    assert_eq!(again, "nothing to remove: no finished run has checkpoints\n");
    said(folder.root(), &["train", "--resume", "runs/short", "--max-steps=12"]);
    let none = refused(folder.root(), &["runs", "elsewhere"]);
    assert!(none.starts_with("error: no such folder (elsewhere)\nhint: "), "{none}");
}

#[test]
fn before_the_first_run_there_is_a_hint_and_an_empty_list() {
    let folder = Folder::new();
    assert_eq!(said(folder.root(), &["runs"]), "no runs in runs/ yet: `vitreous train` makes one\n");
    assert_eq!(json(folder.root(), &["runs"]), serde_json::json!({ "runs": [] }));
    let error = |name: &str| refused(folder.root(), &["evaluate", name]);
    let unknown = "error: no run has the name `nope` (looked for runs/nope)\nhint: list the runs with vitreous runs\n";
    assert_eq!(error("nope"), unknown);
    std::fs::create_dir_all(folder.path("runs/digits")).unwrap();
    std::fs::write(folder.path("runs/digits/manifest.json"), "{").unwrap();
    assert_eq!(error("digist").lines().last(), Some("hint: did you mean `digits`?"));
    let runs = "error: this is a folder of runs, not a run (runs)\n\
                hint: name one of its runs; list them with vitreous runs runs\n";
    assert_eq!(error("runs"), runs);
    let flag = refused(folder.root(), &["runs", "clean", "--zebra"]);
    assert_eq!(flag, "error: unknown argument --zebra\nhint: `vitreous runs clean --help` lists the flags\n");
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
