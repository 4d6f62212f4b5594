//! Resuming in hard cases: no checkpoint was ever saved, or a checkpoint is invalid.

use std::fs;

use crate::common::{Folder, refused, said, text, vitreous, write_photos};
use vitreous::record::sha256_of_bytes;

const SMALL: [&str; 7] = [
    "train",
    "--limit-train=97",
    "--batch-size=13",
    "--epochs=3",
    "--set=data.val_fraction=0.01",
    "--set=model.embed_dim=16",
    "--set=model.depth=1",
];

/// What is said of a run that had no state.
const AGAIN: &str = "starts again from the beginning, with the same results: it has no checkpoint";

fn small<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&SMALL[..], more].concat()
}

fn assert_same(folder: &Folder, one: &str, other: &str) {
    for file in ["results.csv", "ledger.csv", "metrics.jsonl", "weights/last.safetensors", "weights/best.safetensors"] {
        let [one, other] = [one, other].map(|run| fs::read(folder.path(&format!("runs/{run}/{file}"))).ok());
        assert!(one == other, "{file}");
    }
}

#[cfg(unix)]
#[test]
fn a_run_that_never_saved_a_checkpoint_restarts() {
    let folder = Folder::new();
    said(folder.root(), &small(&["--name=whole"]));
    // Room for weights, in blocks of 512 or 1024 bytes, but not for a state, which is three times as large.
    let blocks = folder.read("runs/whole/weights/last.safetensors").len() * 14 / 10 / 512;
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    let mut command = std::process::Command::new("sh");
    command.current_dir(folder.root()).args(["-c", &script, env!("CARGO_BIN_EXE_vitreous")]);
    let output = command.args(small(&["--name=a"])).output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("error: cannot write: ") && stderr.contains("(runs/a/state/1.safetensors)"), "{stderr}");
    assert!(stderr.ends_with("then run vitreous train --resume runs/a\n"), "{stderr}");
    assert!(folder.path("runs/a/weights/best.safetensors").exists());
    let [first, again] = ["--max-steps=3", "--set=train.max_steps="]
        .map(|steps| text(&vitreous(folder.root(), &["train", "--resume=runs/a", steps]).stderr));
    assert!(first.contains(&format!("runs/a {AGAIN}\n")), "{first}");
    assert!(again.contains("runs/a resumes after step 3\n"), "{again}");
    assert_same(&folder, "whole", "a");
}

#[test]
fn a_run_that_became_nonfinite_before_its_first_checkpoint_resumes_as_the_hint_says() {
    let folder = Folder::new();
    let wild = ["--lr=1e30", "--warmup-epochs=0", "--sched=constant", "--set=data.val_fraction=0", "--name=a"];
    let output = vitreous(folder.root(), &small(&wild));
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("or skip such steps: vitreous train --resume runs/a --on-nonfinite skip\n"), "{stderr}");
    assert!(!folder.path("runs/a/state").exists(), "it has no state");
    let output = vitreous(folder.root(), &["train", "--resume=runs/a", "--on-nonfinite=skip"]);
    let stderr = text(&output.stderr);
    assert!(stderr.contains(&format!("runs/a {AGAIN}\n")), "{stderr}");
    let anew = [&wild[..4], &["--on-nonfinite=skip", "--name=anew"]].concat();
    assert_eq!(vitreous(folder.root(), &small(&anew)).status.code(), output.status.code());
    assert_same(&folder, "anew", "a");
}

#[test]
fn an_impossible_checkpoint_is_refused() {
    let folder = Folder::new();
    said(folder.root(), &small(&["--name=a", "--max-steps=11"]));
    let newest = |extension: &str| {
        let entries = fs::read_dir(folder.path("runs/a/state")).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|found| found == extension)).max().unwrap()
    };
    let path = newest("json");
    let good = fs::read_to_string(&path).unwrap();
    let tensors = newest("safetensors").strip_prefix(folder.root()).unwrap().display().to_string();
    let reseal = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut sealed: serde_json::Value = serde_json::from_str(&good).unwrap();
        change(&mut sealed["state"]);
        sealed["sha256"] = sha256_of_bytes(sealed["state"].to_string().as_bytes()).into();
        fs::write(&path, sealed.to_string()).unwrap();
        refused(folder.root(), &["train", "--resume=runs/a", "--set=train.max_steps="])
    };
    for (pointer, value, reason) in [
        ("/about/position/index", 100.into(), "step 100 of an epoch of 8"),
        ("/about/position/results/epochs", 7.into(), "epoch 7 of 3"),
        ("/about/position/results/steps", 12.into(), "12 steps in 1 epochs and 3 steps"),
        ("/about/position/results/skipped_steps", 12.into(), "`skipped` is out of range"),
        ("/about/position/lr_factor", 1e300.into(), "`lr_factor` is out of range"),
        ("/about/updates", u64::MAX.into(), "11 steps and 18446744073709551615 updates in the state of step 11"),
        ("/step", 12.into(), "11 steps and 11 updates in the state of step 12"),
        ("/about/lowest", serde_json::json!([9, 9]), "weights of epoch 9 and step 9"),
    ] {
        let value: serde_json::Value = value;
        let stderr = reseal(&|state| *state.pointer_mut(pointer).unwrap() = value.clone());
        let expected = format!("error: the checkpoint is not that of a training: {reason} ({tensors})\n");
        assert!(stderr.contains(&expected), "{pointer}: {stderr}");
    }
    fs::write(&path, &good).unwrap();
    said(folder.root(), &["train", "--resume=runs/a", "--set=train.max_steps="]);
    said(folder.root(), &small(&["--name=whole"]));
    assert_same(&folder, "whole", "a");
}

#[test]
fn more_epochs_that_would_change_the_warm_up_are_refused_with_the_flag_to_add() {
    let folder = Folder::new();
    write_photos(&folder);
    let model = ["--img-size=16", "--set=model.embed_dim=16", "--set=model.depth=1", "--set=model.num_heads=2"];
    let run = [&["train", "--data=photos", "--batch-size=8", "--name=a"], &model[..]].concat();
    said(folder.root(), &[&run[..], &["--epochs=1"]].concat());
    let adjusted = folder.text("runs/a/config.toml");
    assert!(adjusted.contains("warmup_epochs = 1"), "the preset's warm-up was adjusted: {adjusted}");
    let stderr = refused(folder.root(), &[&run[..], &["--epochs=9", "--resume=auto"]].concat());
    let expected = "error: train.epochs 1, now 9 would change the warm-up: train.warmup_epochs 1, now 2 (runs/a)\n\
                    hint: use --warmup-epochs 1, as before\n";
    assert_eq!(stderr, expected);
    said(folder.root(), &[&run[..], &["--epochs=9", "--resume=auto", "--warmup-epochs=1"]].concat());
}
