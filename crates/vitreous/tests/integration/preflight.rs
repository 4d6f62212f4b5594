//! Checks before the first step: `train --dry-run`, and the warnings of `train` and `data info`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{Folder, json, refused, said, text, vitreous};

/// A model of a moment.
const SMALL: [&str; 6] = [
    "--set=model.depth=1",
    "--set=model.embed_dim=16",
    "--set=model.num_heads=1",
    "--set=model.patch_size=4",
    "--batch-size=5",
    "--warmup-epochs=0",
];

/// Writes a picture of noise that no other seed makes.
fn picture(folder: &Folder, name: &str, side: u32, seed: u32) {
    let path = folder.path(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let noise = |x: u32, y: u32| {
        let value = (x * 31 + y * 17 + seed * 101).wrapping_mul(2_654_435_761);
        image::Rgb([(value >> 24) as u8, (value >> 16) as u8, seed as u8])
    };
    image::RgbImage::from_fn(side, side + 1, noise).save(path).unwrap();
}

/// Writes `photos/` with everything that is doubtful: copies, a rare class that nothing validates, small pictures.
fn doubtful() -> Folder {
    let folder = Folder::new();
    for (split, count) in [("train", 30), ("val", 3)] {
        for (number, class) in (0..).zip(["ant", "bee"]) {
            for i in 0..count {
                picture(&folder, &format!("photos/{split}/{class}/{i:02}.png"), 12, 2 * (100 * count + i) + number);
            }
        }
    }
    picture(&folder, "photos/train/cow/00.png", 7, 1);
    let copy = |from: &str, to: &str| {
        let [from, to] = [from, to].map(|name| folder.path(&format!("photos/{name}")));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    };
    copy("train/ant/03.png", "train/bee/copy.png");
    copy("train/ant/04.png", "val/ant/copy.png");
    // The test split is not read: neither this copy nor the broken picture counts.
    copy("train/ant/05.png", "test/ant/copy.png");
    fs::write(folder.path("photos/test/ant/broken.png"), "no picture").unwrap();
    folder
}

/// The arguments of a training on such pictures.
fn training<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["train", "--data=photos", "--img-size=12", "--epochs=3"], &SMALL[..], more].concat()
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> =
        entries.flat_map(|path| if path.is_dir() { [files(&path), vec![path]].concat() } else { vec![path] }).collect();
    found.sort();
    found
}

#[test]
fn a_dry_run_estimates_memory_disk_and_time_and_writes_nothing() {
    let folder = doubtful();
    let before = files(folder.root());
    let report = json(folder.root(), &training(&["--dry-run"]));
    assert_eq!(files(folder.root()), before);
    // 62 training images in steps of 5.
    assert_eq!((&report["train"], &report["validation"], &report["steps"]), (&62.into(), &7.into(), &39.into()));
    let number = |key: &str| report[key].as_f64().unwrap();
    assert_eq!(report["timed"]["steps"], 12, "the first of an epoch's 13 is not timed");
    assert_eq!(report["timed"]["images"], 57);
    let step_s = report["timed"]["seconds"].as_f64().unwrap() / 12.0;
    // Three epochs of 13 steps, and the seven images that validate after each.
    assert!(number("seconds") > 39.0 * step_s && number("seconds") < 42.0 * step_s, "{report}");
    assert!(number("memory_needed") > 1e6 && number("memory_needed") < number("memory_available"), "{report}");
    // Best and last weights, two that were the best, three states of weights and two moments, and their headers.
    let tensors = number("disk_needed") - 7.0 * f64::from(64 << 10);
    assert!((tensors / 52.0 - number("parameters")).abs() < 99.0, "{report}");
    let duplicates = &report["images"]["duplicates"];
    let expected = serde_json::json!([
        [
            {"image": "train/ant/03.png", "class": "ant", "split": "train"},
            {"image": "train/bee/copy.png", "class": "bee", "split": "train"}
        ],
        [
            {"image": "train/ant/04.png", "class": "ant", "split": "train"},
            {"image": "val/ant/copy.png", "class": "ant", "split": "validation"}
        ]
    ]);
    assert_eq!(duplicates["places"], expected);
    assert_eq!(report["images"]["rare_classes"], serde_json::json!([{"class": "cow", "images": 1}]));

    let told = said(folder.root(), &training(&["--dry-run"]));
    let heads: Vec<&str> = told.lines().take(5).map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(heads, ["model", "data", "memory", "disk", "time"], "{told}");
    let problems = "
problems
  2 images occur more than once (4 copies), 1 of them under different classes; 1 is in both train and validation
    fix: choose one class and keep one copy of each
  classes with less than a tenth of the mean of 21 training images: `cow` (1)
    fix: add images of them, or name the classes to learn with --classes
  classes without validation images: `cow`
    fix: add images of `cow` to the validation split
  images enlarged to the input size: 1 of 69, the smallest 7x8 (train/cow/00.png)
    fix: use larger images, or a smaller --image-size

duplicate images
  train/ant/03.png (ant), train/bee/copy.png (bee)
  train/ant/04.png (ant), val/ant/copy.png (ant)
";
    let end = "\nnothing was written: the same command without --dry-run trains\n";
    assert!(told.ends_with(&format!("{problems}{end}")), "{told}");
    let info = said(folder.root(), &["data", "info", "--data=photos", "--set=data.image_size=12"]);
    // `data info` has no such flag.
    let problems = problems.replace("--image-size", "data.image_size");
    assert!(info.contains(&problems), "{info}");
}

#[test]
fn train_prints_one_warning_per_data_problem_and_starts() {
    let folder = doubtful();
    let output = vitreous(folder.root(), &training(&["--max-steps=1"]));
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let notes: Vec<&str> = stderr.lines().filter(|line| line.starts_with("note: ")).collect();
    let starts =
        ["2 images occur more", "classes with less", "classes without", "images enlarged to the input size: 1 of 69"];
    assert_eq!(notes.len(), starts.len(), "{stderr}");
    assert!(notes.iter().zip(starts).all(|(note, start)| note[6..].starts_with(start)), "{stderr}");
    assert!(notes[0].ends_with("; choose one class and keep one copy of each"), "{stderr}");
    assert!(folder.path("runs/photos/weights/last.safetensors").is_file());
    // A subset without the rare class has none of its problems.
    let chosen = json(folder.root(), &training(&["--dry-run", "--classes=ant,bee"]));
    assert_eq!((&chosen["problems"].as_array().unwrap().len(), &chosen["classes"]), (&1, &2.into()));
}

#[test]
fn a_dry_run_without_problems_says_so_and_impossible_runs_are_refused() {
    let folder = Folder::new();
    let small = ["train", "--dry-run", "--limit-train=97", "--set=model.depth=1", "--epochs=1", "--warmup-epochs=0"];
    let told = said(folder.root(), &[&small[..], &["--batch-size=13"]].concat());
    let end = "\n\nnothing was written: the same command without --dry-run trains\n";
    assert!(told.ends_with(&format!("\nno problems with the data{end}")), "{told}");
    let strips = ["train", "--dry-run", "--preset=read-digits", "--data=digits", "--limit-train=97", "--max-steps=2"];
    let told =
        json(folder.root(), &[&strips[..], &["--set=data.mean=", "--set=data.std=", "--batch-size=13"]].concat());
    assert_eq!((&told["steps"], &told["problems"]), (&2.into(), &serde_json::json!([])));
    let error = refused(folder.root(), &[&small[..], &["--batch-size=98"]].concat());
    assert!(error.contains("error: batch_size 98 is more than the 97 training images"), "{error}");
    fs::create_dir_all(folder.path("runs/taken")).unwrap();
    fs::write(folder.path("runs/taken/mine"), "").unwrap();
    let error = refused(folder.root(), &[&small[..], &["--batch-size=13", "--name=taken"]].concat());
    assert!(error.starts_with("error: a run named `taken` exists"), "{error}");
    assert_eq!(files(folder.root()), [folder.path("runs"), folder.path("runs/taken"), folder.path("runs/taken/mine")]);
}

#[test]
fn a_batch_norm_needs_more_than_one_value_for_each_channel() {
    let folder = Folder::new();
    let layers = "layers = [\"globalpool\", \"linear 8\", \"batchnorm\", \"relu\", \"linear classes\"]";
    let train = "[train]\nepochs = 2\nwarmup_epochs = 0\nlog_interval = 1\n";
    fs::write(
        folder.path("bn.toml"),
        format!("[data]\nlimit_train = 25\n[model]\nkind = \"stack\"\n{layers}\n{train}"),
    )
    .unwrap();
    let one = refused(folder.root(), &["train", "--config=bn.toml", "--batch-size=1"]);
    let expected = "error: batch_size 1 gives the batchnorm at layers.2 one value for each channel, from which it cannot \
                    learn ([train])\nhint: use --batch-size 2 or more";
    assert!(one.starts_with(expected), "{one}");
    assert!(!folder.path("runs").exists());

    let note = "note: the last batch of each epoch is dropped: it has one image, which gives the batchnorm at layers.2 one \
                value for each channel; use another --batch-size than 6 to train on it\n";
    let stderr = |more: &[&str]| {
        let output = vitreous(folder.root(), &[&["train", "--config=bn.toml"], more].concat());
        assert!(output.status.success(), "{output:?}");
        text(&output.stderr)
    };
    assert_eq!(stderr(&["--batch-size=6", "--name=six"]).matches(note).count(), 1);
    let steps = |run: &str| folder.text(&format!("runs/{run}/metrics.jsonl")).lines().count();
    assert_eq!(steps("six"), 8, "two epochs of four batches");
    assert!(!stderr(&["--batch-size=5", "--name=five"]).contains("is dropped"));
    assert_eq!(steps("five"), 10);
}
