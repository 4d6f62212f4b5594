//! How a sweep ranks: by the validation split; only the winner is evaluated on the test split.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::common::{manifest, text};

/// Trainings of well under a second each.
const SMALL: [&str; 11] = [
    "--limit-train=97",
    "--batch-size=13",
    "--set=data.val_fraction=0.02",
    "--set=model.depth=1",
    "--set=model.embed_dim=16",
    "--set=model.num_heads=1",
    "--epochs=8",
    "--lr=5e-3",
    "--warmup-epochs=0",
    "--set=train.sched=constant",
    "--classes=even",
];

/// A sweep with [`SMALL`], except the flags whose keys it varies itself: those would have no effect, which is an error.
fn small<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    let is_varied = |flag: &&str| {
        let key = flag.trim_start_matches("--").trim_start_matches("set=data.").split('=').next().unwrap_or_default();
        let in_file =
            ["lr", "val_fraction"].contains(&key) && arguments.iter().any(|argument| argument.ends_with(".toml"));
        in_file || arguments.iter().any(|argument| argument.contains(&format!(".{key}=")))
    };
    let own = SMALL.into_iter().filter(|flag| !is_varied(flag));
    ["sweep"].into_iter().chain(arguments.iter().copied()).chain(own).collect()
}

fn sweep(folder: &Path, arguments: &[&str]) -> Output {
    crate::common::vitreous(folder, &small(arguments))
}

/// Runs a small sweep, which must succeed, and returns what it prints.
fn swept(folder: &Path, arguments: &[&str]) -> Value {
    let output = sweep(folder, &[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn refused(folder: &Path, arguments: &[&str]) -> String {
    crate::common::refused(folder, &small(arguments))
}

#[test]
fn validation_ranks_and_only_the_winner_is_tested() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    // Two steps learn nothing.
    let grid = ["--set-each=train.max_steps=2,64", "--seeds=1,2", "--name=g"];
    let json = |more: &[&str]| swept(folder, &[&grid[..], more].concat());
    let tested = |run: &str| manifest(folder, &format!("g/{run}"))["test_evaluations"].clone();
    let runs = ["max_steps=2_seed=1", "max_steps=2_seed=2", "max_steps=64_seed=1", "max_steps=64_seed=2"];
    let found = json(&[]);
    let val = |row: usize| found["rows"][row]["val_acc"]["mean"].as_f64().unwrap();
    assert!(val(1) > val(0) + 0.02, "{found}");
    let group = &found["groups"][0];
    assert_eq!((&found["ranked_by"], &group["against"]), (&"validation".into(), &"max_steps=64".into()));
    assert_eq!((&group["best_of"], &group["comparisons"]), (&2.into(), &1.into()));
    assert_eq!(runs.map(tested), [0, 0, 0, 0]);
    let analysis = || fs::read_to_string(folder.join("runs/g/analysis.md")).unwrap();
    let before = analysis();
    assert!(
        before.contains("\nSettings are ranked by validation accuracy; the test split is not used for that. "),
        "{before}"
    );
    assert!(before.contains("measure the winner alone on the test split.\n"), "{before}");

    // Test accuracies that were measured by hand change nothing.
    for seed in ["1", "2"] {
        let path = folder.join(format!("runs/g/max_steps=2_seed={seed}/manifest.json"));
        let mut manifest = manifest(folder, &format!("g/max_steps=2_seed={seed}"));
        let record = serde_json::json!({"split": "test", "weights": "best", "data": "digits", "images": 2000, "loss": 0.5, "top1": 1.0});
        manifest["evaluations"].as_array_mut().unwrap().push(record);
        fs::write(path, manifest.to_string()).unwrap();
    }
    let found = json(&["--test-winner"]);
    assert_eq!(found["groups"][0]["against"], "max_steps=64");
    assert_eq!(runs.map(tested), [0, 0, 1, 1]);
    let after = analysis();
    assert!(after.contains(" On the test split `max_steps=64` reaches ") && !after.contains("100.00 %"), "{after}");
    assert!(!after.contains("measure the winner alone"), "{after}");
    // Once more: it is not looked at again.
    json(&["--test-winner"]);
    assert_eq!(runs.map(tested), [0, 0, 1, 1]);
}

#[test]
fn earlier_test_evaluations_are_reported_when_a_sweep_is_extended() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let first = swept(folder, &["--set-each=train.max_steps=2,3", "--seeds=1,2", "--name=x", "--test-winner"]);
    let tested = first["groups"][0]["against"].as_str().unwrap();
    let output = sweep(folder, &["--set-each=train.max_steps=2,3,64", "--seeds=1,2", "--name=x", "--test-winner"]);
    let said = text(&output.stderr);
    let expected = format!("\nthe test split is evaluated for max_steps=64; before, it was evaluated for {tested}\n");
    assert!(said.contains(&expected) && !said.contains("no other setting"), "{said}");
    let analysis = fs::read_to_string(folder.join("runs/x/analysis.md")).unwrap();
    let expected = format!(
        "Measured on the test split before: `{tested}`. Later settings may have been tried because of that, so the test \
         accuracy of `max_steps=64` is no longer free of choice.\n"
    );
    assert!(analysis.contains(&expected), "{analysis}");
}

#[test]
fn no_winner_among_settings_with_different_validation_images() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let grid = |key: &str, values: &str| format!("--set-each=data.{key}={values}");
    for (key, values) in [("val_fraction", ["0.02", "0.03"]), ("split_seed", ["1", "2"]), ("classes", ["even", "odd"])]
    {
        let error = refused(folder, &[&grid(key, &values.join(",")), "--test-winner"]);
        let [first, second] = values;
        let expected = format!(
            "error: runs {key}={first} and {key}={second} are validated on different images, so the sweep cannot choose \
             between them (data.{key})\nhint: do not vary data.{key}, or leave out --test-winner to train the runs \
             without selecting one\n"
        );
        assert_eq!(error, expected);
    }
    assert!(!folder.join("runs").exists());
    let found = swept(folder, &[&grid("split_seed", "1,2"), "--set-each=train.max_steps=2", "--name=s"]);
    let groups = found["groups"].as_array().unwrap();
    assert!(groups.len() == 2 && groups.iter().all(|group| group["against"].is_null()), "{found}");
    let analysis = fs::read_to_string(folder.join("runs/s/analysis.md")).unwrap();
    let expected = "\nNothing is ranked, because no other setting is validated on the images of the first. ";
    assert!(analysis.contains(expected) && !analysis.contains("The best is"), "{analysis}");
    assert!(analysis.contains("therefore not ranked or compared: `split_seed=2_max_steps=2`. "), "{analysis}");
}

#[test]
fn every_run_is_tested_only_if_the_sweep_reproduces_a_table() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let test = refused(folder, &["--set-each=train.lr=1e-3,1e-5", "--evaluate=val,test"]);
    let expected = "error: a sweep chooses by the validation split and does not measure every run on the test split \
                    (--evaluate)\nhint: measure only the best setting with --test-winner; in the file of a sweep that \
                    reproduces a published table, set reproduces = \"...\"\n";
    assert_eq!(test, expected);
    fs::write(folder.join("own.toml"), "each = ['train.lr=1e-3,1e-5']\nevaluate = ['test']\n").unwrap();
    assert_eq!(refused(folder, &["own.toml"]), expected);
    let list = "[[run]]\nname = 'a'\n[[run]]\nname = 'b'\nset = ['train.lr=1e-5']\n";
    let file = format!("set = ['data.val_fraction=0']\n{list}");
    fs::write(folder.join("none.toml"), &file).unwrap();
    let none = refused(folder, &["none.toml"]);
    let expected = "error: run a has no validation split, so the sweep cannot rank its settings (data.val_fraction)\n\
                    hint: use --val-fraction 0.1; ";
    assert!(none.starts_with(expected), "{none}");
    assert!(!folder.join("runs").exists());

    fs::write(folder.join("table.toml"), format!("reproduces = 'a table'\n{file}")).unwrap();
    let winner = refused(folder, &["table.toml", "--test-winner"]);
    let hint = "\nhint: the sweep reproduces a table and selects nothing: leave out --test-winner\n";
    assert!(winner.starts_with("error: run a has no validation split, ") && winner.ends_with(hint), "{winner}");
    let found = swept(folder, &["table.toml"]);
    assert_eq!(
        (&found["ranked_by"], &found["groups"][0]["against"], &found["groups"][0]["best_of"]),
        (&"test".into(), &"a".into(), &Value::Null)
    );
    let rows = found["rows"].as_array().unwrap();
    assert!(rows.iter().all(|row| row["test_acc"]["n"] == 1 && row["val_acc"].is_null()), "{found}");
    let analysis = fs::read_to_string(folder.join("runs/table/analysis.md")).unwrap();
    let expected = "\nThis sweep reproduces a table: the test accuracies in its table were not used to choose anything. Nothing is ranked, \
                    because there is no validation accuracy. ";
    assert!(analysis.contains(expected) && analysis.contains("\n- Test accuracy: "), "{analysis}");

    // Seeds of one setting: nothing is chosen, so it needs no validation split.
    fs::write(folder.join("seeds.toml"), "seeds = [1, 2]\nset = ['data.val_fraction=0']\n").unwrap();
    let found = swept(folder, &["seeds.toml", "--test-winner"]);
    assert_eq!(found["rows"][0]["test_acc"]["n"], 2, "{found}");
}
