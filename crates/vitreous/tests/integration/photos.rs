//! `vitreous train` on image folders end to end.

use std::fs;
use std::process::Output;

use crate::common::{Folder, write_photos};

fn train(folder: &Folder, args: &[&str]) -> Output {
    crate::common::vitreous(folder.root(), &[&["train"], args].concat())
}

/// The error of a bad command, which must leave no run.
fn refused(folder: &Folder, args: &[&str]) -> String {
    let runs = || fs::read_dir(folder.path("runs")).unwrap().count();
    let before = runs();
    let text = crate::common::refused(folder.root(), &[&["train"], args].concat());
    assert_eq!(runs(), before, "a run was made");
    text
}

#[test]
fn the_photos_preset_trains_on_a_folder_and_reports_broken_images() {
    let folder = Folder::new();
    write_photos(&folder);
    let args = ["--data", "photos", "--batch-size", "8", "--max-steps", "2"];
    let output = train(&folder, &args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let manifest = folder.manifest("photos");
    assert_eq!(manifest["data"]["class_names"], serde_json::json!(["ant", "bee", "cow"]));

    let whole = folder.read("photos/bee/3.png");
    fs::write(folder.path("photos/bee/3.png"), &whole[..whole.len() / 2]).unwrap();
    let text = refused(&folder, &args);
    assert!(text.starts_with("error: ") && text.contains("photos/bee/3.png"), "{text}");
    assert!(text.contains("--skip-bad-images"), "{text}");
    let output = train(&folder, &[&args[..], &["--skip-bad-images"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let manifest = folder.manifest("photos-2");
    assert_eq!(manifest["data"]["skipped"][0]["name"], "bee/3.png");

    fs::create_dir(folder.path("photos/dog")).unwrap();
    let text = refused(&folder, &args);
    assert!(text.starts_with("error: ") && text.contains("dog"), "{text}");
}

#[test]
fn preset_values_are_adjusted_to_few_images_with_a_note() {
    let folder = Folder::new();
    write_photos(&folder);
    fs::copy(folder.path("photos/bee/3.png"), folder.path("photos/loose.png")).unwrap();
    let small = ["--data", "photos", "--epochs", "1", "--set=model.depth=1"];
    let output = train(&folder, &small);
    let text = crate::common::text(&output.stderr);
    assert!(output.status.success(), "{text}");
    for note in [
        "note: the warm-up takes the whole run, 1 epoch: warmup_epochs 2 (preset photos) is shortened to it\n",
        "note: batch_size 64 (preset photos) is reduced to 26: there are only 26 training images\n",
        "note: images outside the class folders are ignored: 1\n",
    ] {
        assert!(text.contains(note), "{text}");
    }
    let config = folder.text("runs/photos/config.toml");
    assert!(config.contains("batch_size = 26\n") && config.contains("warmup_epochs = 1.0\n"), "{config}");
    // What was left out is known only when pictures are decoded.
    fs::write(folder.path("photos/bee/3.png"), "no picture").unwrap();
    let output = train(&folder, &[&small[..], &["--skip-bad-images"]].concat());
    let text = crate::common::text(&output.stderr);
    // One note, and not another one of the files that were listed.
    let reduced: Vec<&str> = text.lines().filter(|line| line.contains(" is reduced to ")).collect();
    let train = &folder.manifest("photos-2")["data"]["train"];
    let note =
        format!("note: batch_size 64 (preset photos) is reduced to {train}: there are only {train} training images");
    assert_eq!(reduced, [note]);
    assert!(output.status.success(), "{text}");
    let text = refused(&folder, &[&small[..], &["--batch-size", "64"]].concat());
    assert!(text.contains("hint: use --batch-size 26 or less\n"), "{text}");
}

#[test]
fn the_spelling_of_a_folder_path_does_not_change_the_weights() {
    let folder = Folder::new();
    write_photos(&folder);
    let small = ["--batch-size", "8", "--max-steps", "1", "--set=model.depth=1"];
    for (name, data) in [("a", "photos"), ("b", "photos/"), ("c", folder.path("photos").to_str().unwrap())] {
        let output = train(&folder, &[&["--name", name, "--data", data][..], &small].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let weights = |run: &str| folder.read(&format!("runs/{run}/weights/last.safetensors"));
    assert_eq!([weights("b"), weights("c")], [weights("a"), weights("a")]);
}
