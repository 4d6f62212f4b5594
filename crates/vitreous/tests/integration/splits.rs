//! Which images `evaluate` uses: all of another data set; of a changed folder, those that were not trained on.

use std::fs;

use crate::common::{COLORS, json, manifest, of_others, picture, pictures, refused, said, vitreous};

const TINY: [&str; 6] = [
    "--img-size=8",
    "--patch-size=4",
    "--set=model.embed_dim=16",
    "--set=model.depth=1",
    "--set=model.num_heads=2",
    "--set=augment.horizontal_flip=0",
];

#[test]
fn other_data_is_evaluated_in_full() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    pictures(folder, "base", &COLORS, 12);
    let train = ["train", "--data=base", "--name=r", "--max-steps=1", "--batch-size=6", "--val-fraction=0.25"];
    said(folder, &[train.as_slice(), &TINY, &["--limit-train=9"]].concat());
    let found = |data: &str, more: &[&str]| {
        let report = json(folder, &[&["evaluate", "runs/r", "--data", data], more].concat());
        (report["split"].as_str().expect("a split").to_string(), report["images"].as_u64().expect("a number"))
    };
    pictures(folder, "new", &COLORS, 20);
    assert_eq!(found("new", &[]), ("all".to_string(), 60));
    assert_eq!(found("new", &["--split=train"]), ("train".to_string(), 60));
    pictures(folder, "t/test", &COLORS, 7);
    assert_eq!(found("t", &[]), ("test".to_string(), 21));
    pictures(folder, "one", &COLORS[1..2], 20);
    assert_eq!(found("one", &[]), ("all".to_string(), 20));
    pictures(folder, "some/val", &COLORS[..1], 5);
    pictures(folder, "some/train", &COLORS[1..], 3);
    assert_eq!(found("some", &[]), ("validation".to_string(), 5));
    assert_eq!(found("some", &["--split=train"]), ("train".to_string(), 6));
    let report = json(folder, &["evaluate", "runs/r", "--data=one"]);
    assert_eq!((&report["classes"][1]["name"], &report["classes"][1]["support"]), (&"green".into(), &20.into()));

    let absent = |data: &str, split: &str| refused(folder, &["evaluate", "runs/r", "--data", data, "--split", split]);
    let unsplit = "hint: it has no splits: leave out --split to evaluate all of it\n";
    assert_eq!(absent("new", "val"), format!("error: new has no validation split\n{unsplit}"));
    assert_eq!(absent("new", "test"), format!("error: new has no test split\n{unsplit}"));
    assert_eq!(absent("t", "train"), "error: t has no train split\nhint: use --split test\n");
    assert_eq!(absent("some", "test"), "error: some has no test split\nhint: use --split val, or --split train\n");
    let text = vitreous(folder, &["evaluate", "runs/r", "--data=new"]);
    assert!(crate::common::text(&text.stdout).contains("\nall of new, 60 images; "), "{text:?}");
    let note = "note: new is not the data of the training: whether images of it were used for training is unknown\n";
    assert!(crate::common::text(&text.stderr).starts_with(note), "{text:?}");
}

#[test]
fn a_test_split_changed_after_training_gets_a_note() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    pictures(folder, "base/train", &COLORS, 8);
    let train = ["train", "--data=base", "--max-steps=1", "--batch-size=6", "--val-fraction=0.25"];
    said(folder, &[train.as_slice(), &TINY, &["--name=without"]].concat());
    pictures(folder, "base/test", &COLORS, 3);
    said(folder, &[train.as_slice(), &TINY, &["--name=with"]].concat());
    let note = |run: &str| json(folder, &["evaluate", run])["note"].clone();
    let expected = |then: usize, now: usize| {
        format!(
            "the test split had {then} images when the run was trained and has {now} now: whether images of it were used \
             for training is unknown"
        )
    };
    assert_eq!(note("runs/without"), expected(0, 9));
    assert_eq!(note("runs/with"), serde_json::Value::Null);
    pictures(folder, "base/test", &COLORS, 4);
    assert_eq!(note("runs/with"), expected(9, 12));
}

#[test]
fn two_folders_with_the_same_name_stay_separate() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    pictures(folder, "base", &COLORS, 5);
    pictures(folder, "site1/pics", &COLORS, 3);
    pictures(folder, "site2/pics", &COLORS, 4);
    said(folder, &[["train", "--data=base", "--name=r", "--max-steps=1", "--batch-size=6"].as_slice(), &TINY].concat());
    for site in ["site1/pics", "site2/pics", "site1/pics"] {
        said(folder, &["evaluate", "runs/r", "--data", site]);
    }
    let kept = of_others(folder, "r", "all-of-pics-");
    assert_eq!(kept.len(), 2);
    let rows = kept.iter().map(|name| {
        let text = fs::read_to_string(folder.join("runs/r/evaluation").join(name).join("predictions.csv")).unwrap();
        text.lines().count()
    });
    let mut rows: Vec<usize> = rows.collect();
    rows.sort_unstable();
    assert_eq!(rows, [10, 13]);
    // From inside each folder the name is the same.
    for site in ["site1", "site2"] {
        said(&folder.join(site), &["evaluate", "../runs/r", "--data=pics"]);
    }
    let noted = manifest(folder, "r")["evaluations"].as_array().expect("evaluations").clone();
    let noted = noted.iter().map(|one| (one["data"].as_str().unwrap().to_string(), one["images"].as_u64().unwrap()));
    let mut noted: Vec<(String, u64)> = noted.collect();
    noted.sort();
    let expected = [("pics", 9), ("pics", 12), ("site1/pics", 9), ("site2/pics", 12)];
    assert_eq!(noted, expected.map(|(data, images)| (data.to_string(), images)));
}

#[test]
fn grown_data_never_validates_on_training_images() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    pictures(folder, "base", &COLORS, 40);
    let train = ["train", "--data=base", "--name=r", "--max-steps=1", "--batch-size=6", "--val-fraction=0.25"];
    said(folder, &[train.as_slice(), &TINY].concat());
    let evaluate = ["evaluate", "runs/r", "--split=val"];
    let validation = || {
        let output = vitreous(folder, &evaluate);
        assert!(output.status.success(), "{output:?}");
        let rows = fs::read_to_string(folder.join("runs/r/evaluation/val/predictions.csv")).unwrap();
        let names: Vec<String> = rows.lines().skip(1).map(|row| row.split(',').next().unwrap().to_string()).collect();
        (names, crate::common::text(&output.stderr))
    };
    let (before, said_before) = validation();
    let written = "written to runs/r/evaluation/val\nnext: vitreous report runs/r\n";
    assert_eq!(said_before, written);
    assert_eq!(before.len() as u64, manifest(folder, "r")["data"]["validation"].as_u64().unwrap());
    for (name, color) in COLORS {
        picture(&folder.join("base").join(name).join("0_new.png"), color.map(|value| value / 2));
    }
    let (after, said_after) = validation();
    let new = |name: &&String| name.ends_with("0_new.png");
    assert!(before.iter().all(|name| after.contains(name)), "{before:?} {after:?}");
    assert_eq!(after.len() - after.iter().filter(new).count(), before.len(), "a training image validates");
    let images = after.len();
    let note = format!(
        "note: the data has changed since the run was trained: none of these {images} validation images is a file that \
         was used for training\n"
    );
    assert_eq!(said_after, format!("{note}{written}"));

    // The same images at another place are known.
    fs::rename(folder.join("base"), folder.join("moved")).unwrap();
    for (name, _) in COLORS {
        fs::remove_file(folder.join("moved").join(name).join("0_new.png")).unwrap();
    }
    let output = vitreous(folder, &["evaluate", "runs/r", "--data=moved"]);
    let trained = 120 - before.len();
    let note = format!("note: moved has the same images as base: the run was trained on {trained} of these 120\n");
    assert!(crate::common::text(&output.stderr).starts_with(&note), "{output:?}");

    // A run of an earlier version says nothing of content.
    fs::rename(folder.join("moved"), folder.join("base")).unwrap();
    let file = folder.join("runs/r/manifest.json");
    let mut old = manifest(folder, "r");
    let data = old["data"].as_object_mut().expect("an object");
    data.remove("content");
    data.remove("forced");
    data.insert("fingerprint".to_string(), "ab".into());
    fs::write(file, old.to_string()).unwrap();
    let said_of_old = validation().1;
    assert!(
        said_of_old.starts_with("note: the run was trained by an earlier version, which split folders by file order "),
        "{said_of_old}"
    );
    let resumed = crate::common::text(&vitreous(folder, &["train", "--resume=runs/r", "--max-steps=2"]).stderr);
    let expected = "error: the run was started by an earlier version, which split folders by file order instead of file \
                    content: its validation split cannot be drawn again (base)\n\
                    hint: train again under another --name, or resume with the version that started it\n";
    assert!(resumed.ends_with(expected), "{resumed}");
}

#[test]
fn a_run_resumes_with_renamed_images_in_the_same_order() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    pictures(folder, "base", &COLORS, 12);
    let train = ["--batch-size=6", "--epochs=1"];
    said(folder, &[["train", "--data=base", "--name=r"].as_slice(), &TINY, &train, &["--max-steps=2"]].concat());
    said(folder, &[["train", "--data=base", "--name=whole"].as_slice(), &TINY, &train, &["--max-steps=4"]].concat());
    let rename = |from: &str, to: &str| {
        let red = folder.join("base/red");
        fs::rename(red.join(from), red.join(to)).unwrap();
    };
    rename("3.png", "9a.png");
    let resume = ["train", "--resume=runs/r", "--max-steps=4"];
    let expected = "error: the data has changed since the run began: files have other names, so that the same images \
                    come in another order (base)\n\
                    hint: restore the data, or train again under another --name\n";
    let stderr = crate::common::text(&vitreous(folder, &resume).stderr);
    assert!(stderr.ends_with(expected), "{stderr}");
    rename("9a.png", "3a.png");
    let output = vitreous(folder, &resume);
    assert!(output.status.success(), "{output:?}");
    let note = "note: files have other names than before, but hold the same images in the same order\n";
    assert!(crate::common::text(&output.stderr).contains(note), "{output:?}");
    let weights = |run: &str| fs::read(folder.join(format!("runs/{run}/weights/last.safetensors"))).unwrap();
    assert!(weights("r") == weights("whole"));
}

#[test]
fn an_empty_validation_split_is_reported() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    pictures(folder, "base", &COLORS, 1);
    let note = "note: the validation split is empty: too few different images for val_fraction 0.2; add images or set \
                val_fraction 0\n";
    let train = ["train", "--data=base", "--max-steps=1"];
    let output = vitreous(folder, &[train.as_slice(), &TINY].concat());
    assert!(output.status.success() && crate::common::text(&output.stderr).contains(note), "{output:?}");
    assert!(crate::common::text(&vitreous(folder, &["data", "info", "--data=base"]).stderr).contains(note));
    let whole = vitreous(folder, &[train.as_slice(), &TINY, &["--val-fraction=0"]].concat());
    assert!(
        whole.status.success() && !crate::common::text(&whole.stderr).contains("the validation split is empty"),
        "{whole:?}"
    );
}

#[test]
fn a_copied_folder_is_recognized_whichever_split_is_evaluated() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    pictures(folder, "base/train", &COLORS, 5);
    pictures(folder, "base/val", &COLORS, 2);
    let train = ["train", "--data=base", "--name=r", "--max-steps=1", "--batch-size=3"];
    said(folder, &[train.as_slice(), &TINY].concat());
    fs::rename(folder.join("base"), folder.join("copy")).unwrap();
    for split in ["train", "val"] {
        let output = vitreous(folder, &["evaluate", "runs/r", "--data=copy", &format!("--split={split}")]);
        let note = "note: copy has the same images as base: the run was trained on 15 of these 21\n";
        assert!(crate::common::text(&output.stderr).starts_with(note), "{output:?}");
    }
}
