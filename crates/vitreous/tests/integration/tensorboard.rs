//! Event files for TensorBoard: written during a training, and from the records of runs.

use std::collections::BTreeSet;
use std::fs;

use vitreous::record;
use vitreous::tensorboard::{read, tags};

use crate::common::{Folder, json, refused, said, text, vitreous};

/// Two epochs of 8 steps, with a line every 3 steps, in well under a second.
const SMALL: [&str; 8] = [
    "train",
    "--limit-train=97",
    "--batch-size=13",
    "--set=model.depth=1",
    "--set=model.embed_dim=16",
    "--set=model.num_heads=1",
    "--epochs=2",
    "--log-interval=3",
];

/// Series and steps of an event file, sorted.
fn points(folder: &Folder, run: &str) -> Vec<(String, i64)> {
    let mut found = Vec::new();
    let open = record::Folder::open(&folder.path(run)).unwrap();
    read(&open, |_, event| {
        found.extend(tags(&event).map(|tag| (tag.to_string(), event.step)));
        Ok(())
    })
    .unwrap();
    found.sort();
    found
}

fn steps(points: &[(String, i64)], tag: &str) -> Vec<i64> {
    points.iter().filter(|(found, _)| found == tag).map(|(_, step)| *step).collect()
}

#[test]
fn an_event_file_changes_nothing_and_an_exported_one_lacks_only_what_is_not_recorded() {
    let folder = Folder::new();
    said(folder.root(), &[&SMALL[..], &["--name=plain"]].concat());
    said(folder.root(), &[&SMALL[..], &["--name=board", "--tensorboard"]].concat());
    for file in ["weights/last.safetensors", "weights/best.safetensors", "results.csv", "ledger.csv", "metrics.jsonl"] {
        let [plain, board] = ["plain", "board"].map(|run| folder.read(&format!("runs/{run}/{file}")));
        assert!(plain == board, "{file} is another one with an event file");
    }
    let board = points(&folder, "runs/board");
    // The run's last line is of the steps that were left.
    assert_eq!(steps(&board, "train_loss"), [3, 6, 9, 12, 15, 16]);
    for tag in
        ["train_acc", "lr", "epoch", "gradient_norm", "weight_gradient_norm/head", "weight_norm/blocks.0.attn.qkv"]
    {
        assert_eq!(steps(&board, tag), [3, 6, 9, 12, 15, 16], "{tag}");
    }
    for tag in ["val_loss", "val_acc", "train_loss_epoch", "weights/head.weight", "confusion_matrix/val"] {
        assert_eq!(steps(&board, tag), [8, 16], "{tag}");
    }
    for tag in ["_hparams_/session_start_info", "samples/0", "samples/9"] {
        assert_eq!(steps(&board, tag), [0], "{tag}");
    }
    assert_eq!(steps(&board, "_hparams_/session_end_info"), [16]);

    said(folder.root(), &["evaluate", "plain", "--split=test,val"]);
    let output = vitreous(folder.root(), &["export", "tensorboard", "plain", "runs/board"]);
    assert_eq!(
        text(&output.stdout),
        "wrote runs/plain/events.out.tfevents.000001.vitreous\nwrote runs/board/events.out.tfevents.000002.vitreous\n"
    );
    let note = text(&output.stderr);
    let lacks = "note: runs/plain has no record of the norms of the layers' gradients and weights, sample images, the \
                 histograms of the weights before the last epoch\nsee them: tensorboard --logdir runs\n";
    assert_eq!((note.as_str(), output.status.code()), (lacks, Some(0)));
    let plain = points(&folder, "runs/plain");
    let series = |points: &[(String, i64)]| points.iter().map(|(tag, _)| tag.clone()).collect::<BTreeSet<_>>();
    let lacking: Vec<String> = series(&board).difference(&series(&plain)).cloned().collect();
    let is_known =
        |tag: &String| ["weight_gradient_norm/", "weight_norm/", "samples/"].iter().any(|one| tag.starts_with(one));
    assert!(lacking.iter().all(is_known) && lacking.len() > 20, "{lacking:?}");
    let more: Vec<String> = series(&plain).difference(&series(&board)).cloned().collect();
    assert_eq!(more, ["confusion_matrix/test", "test_acc", "test_loss"]);
    for tag in ["train_loss", "val_acc", "lr"] {
        assert_eq!(steps(&plain, tag), steps(&board, tag), "{tag}");
    }
    assert_eq!(points(&folder, "runs/board"), board, "what a training wrote is kept");
    // Equal records make equal files.
    let first = folder.read("runs/plain/events.out.tfevents.000001.vitreous");
    said(folder.root(), &["export", "tensorboard", "runs"]);
    assert!(folder.read("runs/plain/events.out.tfevents.000002.vitreous") == first);
    assert!(!folder.path("runs/plain/events.out.tfevents.000001.vitreous").exists());
}

#[test]
fn a_run_whose_later_piece_writes_an_event_file_has_all_steps_once() {
    let folder = Folder::new();
    said(folder.root(), &[&SMALL[..], &["--name=late", "--max-steps=10"]].concat());
    let resumed = vitreous(folder.root(), &["train", "--resume=late", "--max-steps=16", "--tensorboard"]);
    let notes = text(&resumed.stderr);
    assert!(notes.contains("train.tensorboard not set, now true"), "{notes}");
    let late = points(&folder, "runs/late");
    assert_eq!(steps(&late, "train_loss"), [3, 6, 9, 12, 15, 16]);
    assert_eq!(steps(&late, "val_loss"), [8, 16]);
    assert_eq!(steps(&late, "weight_gradient_norm/head"), [12, 15, 16]);
    // The setting is part of the run from now on, and no difference between runs.
    said(folder.root(), &["train", "--resume=late", "--max-steps=16"]);
    assert!(folder.text("runs/late/config.toml").contains("tensorboard = true"));
    said(folder.root(), &[&SMALL[..], &["--name=other"]].concat());
    let compared = json(folder.root(), &["compare", "runs/late", "runs/other"]);
    assert!(!compared.to_string().contains("train.tensorboard"), "{compared}");
}

#[test]
fn exports_that_cannot_be_are_one_clear_error_each() {
    let folder = Folder::new();
    said(folder.root(), &[&SMALL[..], &["--name=one", "--max-steps=2"]].concat());
    let error = refused(folder.root(), &["export", "tensorboard", "nope"]);
    assert!(error.starts_with("error: no run has the name `nope` (looked for runs/nope)"), "{error}");
    fs::write(folder.path("file"), "").unwrap();
    let output = vitreous(folder.root(), &["export", "tensorboard", "one", "--output=file"]);
    let error = text(&output.stderr);
    assert!(error.starts_with("error: cannot write: ") && error.contains("file/one"), "{error}");
    // Records that are gone or damaged are missing from the file, and said to be.
    fs::remove_dir_all(folder.path("runs/one/weights")).unwrap();
    fs::write(folder.path("runs/one/config.toml"), "[model]\nmagic = 3\n").unwrap();
    fs::write(folder.path("runs/one/metrics.jsonl"), "{\"step\": 2, \"epoch\": 1, \"loss\": null}\n{\"st").unwrap();
    let exported = json(folder.root(), &["export", "tensorboard", "one", "--output=out"]);
    let missing = exported["runs"][0]["missing"].to_string();
    assert!(missing.contains("unknown key `magic`") && missing.contains("weights"), "{missing}");
    assert_eq!(exported["runs"][0]["file"], "out/one/events.out.tfevents.000001.vitreous");
    assert_eq!(steps(&points(&folder, "out/one"), "train_loss"), [2]);
    let twice = refused(folder.root(), &["export", "tensorboard", "one", "./runs/one", "--output=out"]);
    assert!(twice.starts_with("error: runs/one and ./runs/one have the same name (out)\nhint: "), "{twice}");
}
