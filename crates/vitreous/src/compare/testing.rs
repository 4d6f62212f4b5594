//! Run folders for the tests of this module, as small as they can be.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{Comparison, Measure, Row};

/// A row of which nothing is known but its name.
pub fn row(name: &str) -> Row {
    Row {
        name: name.to_string(),
        data: "photos".to_string(),
        folders: Vec::new(),
        seeds: vec![1],
        model: None,
        settings: Default::default(),
        parameters: 7,
        flops_forward: None,
        seconds: None,
        weights: None,
        train_acc: None,
        train_acc_measured: false,
        val_acc: None,
        val_acc_interval: None,
        test_acc: None,
        test_acc_interval: None,
        has_validation: true,
        difference: None,
    }
}

/// Rows that are ranked by their test accuracies, before one is held against another.
pub fn comparison(rows: Vec<Row>) -> Comparison {
    Comparison::of_rows(Vec::new(), rows, Measure::Test, Vec::new())
}

/// The manifest of a run that has finished.
pub fn manifest() -> Value {
    json!({
        "format": 1,
        "version": "1.2.3",
        "command": ["vitreous", "train"],
        "status": "finished",
        "started": "2025-03-09T17:04:05Z",
        "finished": "2025-03-09T17:05:05Z",
        "seed": 42,
        "model": "ViT 2 blocks, 3 heads, width 6",
        "parameters": 106_122,
        "flops": {"forward": 2_500_000, "backward": 5_000_000},
        "data": {
            "name": "photos",
            "fingerprint": "ab",
            "class_names": ["cat", "dog"],
            "train": 13,
            "validation": 5,
            "test": null,
            "normalization": {"mean": [0.5], "std": [0.5]},
            "skipped": []
        },
        "machine": {"os": "linux", "arch": "x86_64", "instruction_set": "avx2", "threads": 2, "processors": 2},
        "results": {
            "epochs": 2,
            "steps": 17,
            "train_loss": 1.5,
            "train_acc": 0.25,
            "val_acc": 0.5,
            "best_val_acc": 0.75,
            "best_epoch": 1,
            "last_sha256": "cd",
            "seconds": 61.5
        },
        "test_evaluations": 0,
        "evaluations": []
    })
}

/// Writes a run's folder.
pub fn write_run(folder: &Path, config: &str, change: impl FnOnce(&mut Value)) {
    let mut manifest = manifest();
    change(&mut manifest);
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("config.toml"), config).unwrap();
    fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
}
