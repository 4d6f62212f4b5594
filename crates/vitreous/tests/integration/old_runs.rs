//! Run folders of earlier versions: the present program reports on them, measures the same accuracy, and continues to the same weights.
//!
//! `../old_runs/make_old_runs.py` made them; the folder's name is the commit of the program that trained them.

use std::fs;
use std::path::Path;

use serde_json::Value;
use vitreous_engine::Isa;

use crate::common::{Folder, json, said};

/// Keys that were added one after the other, so that still earlier configs lack them: their defaults must not change what
/// such a run trains with.
const LATER_KEYS: [&str; 21] = [
    "resize",
    "split_seed",
    "skip_bad_images",
    "crop_padding",
    "rotation_degrees",
    "shift",
    "scale",
    "attention_scale",
    "norm_eps",
    "init",
    "grad_accum_steps",
    "drop_last",
    "betas",
    "opt_eps",
    "momentum",
    "nesterov",
    "decay",
    "min_lr",
    "smoothing",
    "keep",
    "on_nonfinite",
];

/// Copies a folder with all that is in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() { copy(&entry.path(), &to) } else { fs::copy(entry.path(), &to).map(drop).unwrap() }
    }
}

/// The keys of a config with their values, one a line.
fn keys(config: &str) -> Vec<String> {
    let table: toml::Table = config.parse().unwrap();
    let flat = table.iter().flat_map(|(name, keys)| {
        keys.as_table().unwrap().iter().map(move |(key, value)| format!("{name}.{key} = {value}"))
    });
    flat.collect()
}

#[test]
fn runs_of_earlier_versions_are_evaluated_and_resumed_to_the_same_weights() {
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/old_runs");
    let versions = fs::read_dir(old).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let runs = versions.flat_map(|version| fs::read_dir(version).unwrap().map(|entry| entry.unwrap().path()));
    let mut runs: Vec<_> = runs.collect();
    runs.sort();
    assert_eq!(runs.len(), 5);
    for old in runs {
        let what = old.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().display();
        let folder = Folder::new();
        copy(&old, &folder.path("runs/old"));
        said(folder.root(), &["report", "runs/old"]);
        assert!(folder.text("runs/old/report.html").contains(">Repeat it<"), "{what}");
        let expected: Value = serde_json::from_slice(&folder.read("runs/old/expected.json")).unwrap();
        let found = json(folder.root(), &["evaluate", "runs/old", "--split=val"]);
        for (name, value) in expected["measured"].as_object().unwrap() {
            assert_eq!(&found[name], value, "{what}: {name}");
        }
        let written = folder.text("runs/old/config.toml");
        let is_kept = |line: &&str| !LATER_KEYS.iter().any(|key| line.starts_with(&format!("{key} = ")));
        let earlier: Vec<&str> = written.lines().filter(is_kept).collect();
        fs::write(folder.path("runs/old/config.toml"), earlier.join("\n")).unwrap();
        said(folder.root(), &["train", "--resume=runs/old", "--set=train.max_steps="]);
        let mut resolved = keys(&folder.text("runs/old/config.toml"));
        let mut recorded = keys(&written.replace("max_steps = 4\n", ""));
        recorded.sort();
        resolved.sort();
        assert_eq!(resolved, recorded, "{what}");
        // AVX-512 trained them; AVX2 gives the same bits.
        if Isa::best() != Isa::Portable {
            let found = &folder.manifest("old")["results"]["last_tensors_sha256"];
            assert_eq!(found, &expected["tensors_sha256"], "{what}");
        }
    }
}
