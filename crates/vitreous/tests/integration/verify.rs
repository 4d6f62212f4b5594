//! `vitreous verify` end to end, with few kills: `resume` and CI test what it verifies.

use std::fs;

use crate::common::{Folder, json, refused, said, vitreous};

/// A training of a second at most.
const SMALL: [&str; 6] = [
    "--limit-train=97",
    "--batch-size=13",
    "--set=data.val_fraction=0.01",
    "--set=model.depth=1",
    "--set=model.embed_dim=16",
    "--hflip=0.5",
];

#[test]
fn verify_resume_kills_runs_and_compares_them() {
    let folder = Folder::new();
    let arguments = [&["verify", "resume", "--kills=3", "--epochs=20"], &SMALL[..]].concat();
    let found = json(folder.root(), &arguments);
    assert_eq!(found["kills"], 3);
    assert_eq!(found["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(found["tensors_sha256"].as_str().unwrap().len(), 64);
    assert!(!folder.path("runs/verify").exists(), "equal runs are removed");
    fs::create_dir_all(folder.path("runs/verify")).unwrap();
    let error = refused(folder.root(), &arguments);
    let expected = "error: the folder exists already (runs/verify)\n\
                    hint: remove runs/verify, or choose another folder with --out\n";
    assert_eq!(error, expected);
    let error = refused(folder.root(), &["verify", "resume", "--kills=0"]);
    assert_eq!(error, "error: invalid kills 0: must be at least 1 (--kills)\nhint: use --kills 20\n");
}

#[test]
fn verify_threads_compares_runs() {
    let folder = Folder::new();
    let arguments = [&["verify", "threads", "--counts=1,2", "--epochs=1"], &SMALL[..]].concat();
    let text = said(folder.root(), &arguments);
    let hashes: Vec<&str> = text.lines().skip(1).take(2).map(|line| line.split_whitespace().last().unwrap()).collect();
    assert!(hashes.len() == 2 && hashes.iter().all(|hash| hash.len() == 64 && *hash == hashes[0]), "{text}");
    let (above, tensors) = text.trim_end().rsplit_once('\n').unwrap();
    assert!(above.ends_with("equal, and so are results, metrics and ledger"), "{text}");
    let hash = tensors.strip_prefix("SHA-256 of the tensors alone: ").unwrap();
    assert!(hash.len() == 64 && hash != hashes[0], "{text}");
    // A training that fails says why.
    let diverges = [&["verify", "threads", "--counts=1", "--lr=1e38", "--warmup-epochs=0"], &SMALL[..]].concat();
    let output = vitreous(folder.root(), &diverges);
    let error = crate::common::text(&output.stderr);
    assert!(
        error.starts_with("error: run threads-1 has failed: the loss is ") && error.contains(" at step "),
        "{error}"
    );
    let error = refused(folder.root(), &["verify", "threads", "--counts=1,0"]);
    assert!(error.starts_with("error: counts 0 is not between 1 and 1024 (--counts)\n"), "{error}");
}
