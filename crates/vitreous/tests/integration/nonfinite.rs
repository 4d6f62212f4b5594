//! Trainings with a NaN or infinite loss: the report of where it began, and `--on-nonfinite`.

use crate::common::{Folder, text, vitreous};

/// A model of one layer: its logits grow with the learning rate alone, and overflow from a certain one on.
const ARGUMENTS: [&str; 10] = [
    "train",
    "--set=model.kind=stack",
    r#"--set=model.layers=["flatten", "linear classes"]"#,
    "--limit-train=97",
    "--batch-size=13",
    "--opt=adam",
    "--weight-decay=0",
    "--sched=constant",
    "--warmup-epochs=0",
    "--log-interval=2",
];

struct Ended {
    status: Option<i32>,
    stderr: String,
}

fn train(folder: &Folder, name: &str, exponent: i32, more: &[&str]) -> Ended {
    let lr = format!("--lr={:e}", 2f64.powi(exponent));
    let output = vitreous(folder.root(), &[&ARGUMENTS[..], &["--name", name, &lr], more].concat());
    Ended { status: output.status.code(), stderr: text(&output.stderr) }
}

/// Finds the smallest power of two that is too large a learning rate.
fn too_large(folder: &Folder, epochs: &str) -> i32 {
    let (mut good, mut bad) = (60, 127);
    while bad - good > 1 {
        let middle = (good + bad) / 2;
        let ended = train(folder, &format!("try-{middle}"), middle, &[epochs, "--set=data.val_fraction=0"]);
        if ended.status == Some(0) { good = middle } else { bad = middle }
    }
    bad
}

#[test]
fn a_nonfinite_training_says_where_and_can_skip_or_roll_back() {
    let folder = Folder::new();
    let epochs = "--epochs=2";
    let bad = too_large(&folder, epochs);
    let without = "--set=data.val_fraction=0";
    let stopped = train(&folder, "stopped", bad, &[epochs, without]);
    assert_eq!(stopped.status, Some(1));
    let error = stopped.stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_default().to_string();
    assert!(error.starts_with("error: the ") && error.contains(" at step "), "{}", stopped.stderr);
    assert!(error.contains(", first in `") && error.contains("` (epoch "), "{error}");
    assert!(stopped.stderr.contains("hint: use a smaller --lr than "), "{}", stopped.stderr);
    assert!(stopped.stderr.contains("--resume") && stopped.stderr.contains("--on-nonfinite"), "{}", stopped.stderr);

    // Four times too large: fine after two rollbacks.
    let back = train(&folder, "back", bad + 1, &[epochs, without, "--on-nonfinite=rollback", "--model-ema-decay=0.5"]);
    assert_eq!(back.status, Some(0), "{}", back.stderr);
    assert!(
        back.stderr.contains("back to the start of the epoch with learning rates times 0.25 (2 of 3)"),
        "{}",
        back.stderr
    );
    let results = &folder.manifest("back")["results"];
    assert_eq!((&results["rollbacks"], &results["steps"]), (&2.into(), &16.into()));
    let metrics = folder.text("runs/back/metrics.jsonl");
    assert_eq!(metrics.matches("\"rollback\":").count(), 2, "{metrics}");
    assert!(metrics.contains("\"rollback\":2,\"lr_factor\":0.25}"), "{metrics}");
    // Stopped anywhere, before or after a rollback, it resumes to the same end.
    for stop in ["1", "3", "9"] {
        let name = format!("back-{stop}");
        let first = train(
            &folder,
            &name,
            bad + 1,
            &[epochs, without, "--on-nonfinite=rollback", "--model-ema-decay=0.5", "--max-steps", stop],
        );
        assert_eq!(first.status, Some(0), "{}", first.stderr);
        let path = format!("runs/{name}");
        let rest = vitreous(folder.root(), &["train", "--resume", &path, "--set=train.max_steps="]);
        assert!(rest.status.success(), "{}", text(&rest.stderr));
        for file in ["metrics.jsonl", "ledger.csv", "weights/last.safetensors"] {
            assert!(
                folder.read(&format!("{path}/{file}")) == folder.read(&format!("runs/back/{file}")),
                "{name}: {file}"
            );
        }
    }
    // Far too large: it rolls back three times and then gives up.
    let lost = train(&folder, "lost", 127, &[epochs, without, "--on-nonfinite=rollback"]);
    assert!(bad + 4 <= 127, "2^{bad} is too large already");
    assert_eq!(lost.status, Some(1), "{}", lost.stderr);
    assert_eq!(lost.stderr.matches("back to the start of the epoch").count(), 3, "{}", lost.stderr);
    // A checkpoint in mid-epoch has no start of the epoch to roll back to.
    train(&folder, "late", bad - 2, &[epochs, without, "--max-steps=3"]);
    let late = ["train", "--resume=runs/late", "--set=train.max_steps=", "--on-nonfinite=rollback"];
    let error = crate::common::refused(folder.root(), &late);
    assert!(
        error.contains("is no longer possible: the checkpoint is mid-epoch")
            && error.contains("hint: use --on-nonfinite skip"),
        "{error}"
    );

    // The first step leaves weights that are finite, but so large that no later one comes to a number.
    let skipped = train(&folder, "skipped", 122, &["--epochs=1", without, "--on-nonfinite=skip"]);
    assert_eq!(skipped.status, Some(0), "{}", skipped.stderr);
    assert_eq!(skipped.stderr.matches("; this step is skipped").count(), 7, "{}", skipped.stderr);
    let results = &folder.manifest("skipped")["results"];
    assert_eq!((&results["skipped_steps"], &results["steps"]), (&7.into(), &8.into()));
    let metrics = folder.text("runs/skipped/metrics.jsonl");
    assert!(metrics.contains("\"skipped\":[2,3,4,5,6,7,8]"), "{metrics}");
    let all = train(&folder, "all-skipped", 122, &["--epochs=2", without, "--on-nonfinite=skip"]);
    assert_eq!(all.status, Some(1), "{}", all.stderr);
    let expected =
        "error: every step of epoch 2 was skipped: all had NaN or infinite losses or gradients (up to step 16)\n";
    assert!(all.stderr.contains(expected), "{}", all.stderr);
}
