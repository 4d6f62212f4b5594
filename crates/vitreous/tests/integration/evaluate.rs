//! `evaluate` and `predict` end to end, on runs that `train` made.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{COLORS, json, manifest, of_others, picture, pictures, refused, said, vitreous};

/// Trains on pictures of three colors until it tells them apart.
fn colors() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    pictures(folder.path(), "colors/train", &COLORS, 11);
    pictures(folder.path(), "colors/val", &COLORS, 3);
    pictures(folder.path(), "colors/test", &COLORS, 5);
    let small = [
        "--img-size=8",
        "--patch-size=4",
        "--set=model.embed_dim=16",
        "--set=model.depth=1",
        "--set=model.num_heads=2",
    ];
    let recipe =
        ["--epochs=10", "--batch-size=11", "--lr=1e-2", "--warmup-epochs=0", "--set=augment.horizontal_flip=0"];
    let train = ["train", "--data=colors", "--name=colors"];
    said(folder.path(), &[train.as_slice(), &small, &recipe].concat());
    folder
}

#[test]
fn digits_train_and_evaluate_and_test_evaluations_are_counted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let small = ["--set=model.depth=1", "--limit-train=600", "--val-fraction=0.01", "--batch-size=32"];
    said(folder, &[["train", "--max-steps=30", "--name=d"].as_slice(), &small].concat());

    let text = said(folder, &["evaluate", "runs/d"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "class  precision   recall       F1  images");
    assert!(lines[11].starts_with("mean") && lines[11].ends_with("4,000"), "{text}");
    assert!(lines[13].starts_with("true \\ predicted"), "{text}");
    assert!(lines[lines.len() - 2].starts_with("test of digits, 4,000 images; weights best of d (step "), "{text}");
    assert!(lines[lines.len() - 1].starts_with("loss ") && lines[lines.len() - 1].contains(", top-1 "), "{text}");

    // The same weights and images again give the same result: that is not a second look.
    let output = vitreous(folder, &["evaluate", "runs/d", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((crate::common::text(&output.stderr).as_str(), &report["test_evaluations"]), ("", &1.into()));
    assert_eq!((&report["split"], &report["images"]), (&"test".into(), &4000.into()));
    let rows = report["confusion"]["rows"].as_array().expect("rows");
    let right: u64 = (0..10).map(|class| rows[class][class].as_u64().expect("a count")).sum();
    assert_eq!(report["top1"], right as f64 / 4000.0);

    // Several splits come in one table or one object; a run may be named without its folder.
    let table = said(folder, &["evaluate", "d", "--split", "train,val"]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("digits; weights best of d (step "), "{table}");
    assert_eq!(
        lines[2].split_whitespace().collect::<Vec<_>>().join(" "),
        "split images top-1 95 % interval top-5 loss"
    );
    assert!(
        lines[3].starts_with("train") && lines[3].contains(" 600 ") && lines[4].starts_with("validation  "),
        "{table}"
    );
    let both = json(folder, &["evaluate", "d", "--split", "val,train"]);
    let of = |at: usize, key: &str| both["splits"][at][key].clone();
    assert_eq!((of(0, "split"), of(0, "images"), of(1, "images")), ("validation".into(), 160.into(), 600.into()));
    assert_eq!(both["splits"].as_array().map(Vec::len), Some(2));

    // The validation split may be evaluated as often as one likes.
    let report = json(folder, &["evaluate", "runs/d", "--split", "val", "--weights", "last"]);
    assert_eq!((&report["split"], &report["weights"]), (&"validation".into(), &"last".into()));
    assert_eq!(manifest(folder, "d")["test_evaluations"], 1);
    said(folder, &["train", "--resume=d", "--max-steps=31"]);
    let output = vitreous(folder, &["evaluate", "d", "--weights=last"]);
    let expected = "written to runs/d/evaluation/test-last\n\
                    note: the test split was evaluated 2 times, each time with other weights, images or options: an \
                    accuracy that guided a choice between them is too high on average\n\
                    next: vitreous report runs/d\n";
    assert_eq!(String::from_utf8_lossy(&output.stderr), expected);
    assert_eq!(manifest(folder, "d")["test_evaluations"], 2);

    let kept = folder.join("runs/d/evaluation/test");
    let predictions = fs::read_to_string(kept.join("predictions.csv")).unwrap();
    assert!(predictions.starts_with("image,label,prediction,probability\ndigits/16000,0,"), "{}", &predictions[..99]);
    assert_eq!(predictions.lines().count(), 4001);
    let confusion = fs::read_to_string(kept.join("confusion.csv")).unwrap();
    assert!(confusion.starts_with("true\\predicted,0,1,2,3,4,5,6,7,8,9\n0,"), "{confusion}");
    assert!(text.contains(&fs::read_to_string(kept.join("confusion.txt")).unwrap()));
}

#[test]
fn train_and_evaluate_report_the_same_validation_accuracy() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let small = ["--set=model.depth=1", "--limit-train=320", "--val-fraction=0.04", "--batch-size=32", "--epochs=1"];
    let trained = json(folder, &[["train", "--name=d"].as_slice(), &small].concat());
    let report = json(folder, &["evaluate", "runs/d", "--split=val", "--weights=last"]);
    assert_eq!(report["top1"], trained["val_acc"]);
    assert_eq!(report["top1_interval"], trained["val_acc_interval"]);
    let text = said(folder, &[["train"].as_slice(), &small].concat());
    let [low, high] = [0, 1].map(|end| 100.0 * report["top1_interval"][end].as_f64().unwrap());
    assert!(
        text.contains(&format!(" validation images are correct (95 % interval {low:.2} % to {high:.2} %)")),
        "{text}"
    );
    let results = fs::read_to_string(folder.join("runs/d/results.csv")).unwrap();
    let loss: f64 = results.lines().nth(1).unwrap().split(',').nth(4).unwrap().parse().unwrap();
    assert_eq!(report["loss"].as_f64(), Some(loss));
}

#[test]
fn classes_are_matched_by_name_not_by_folder_order() {
    let run = colors();
    let folder = run.path();
    let report = json(folder, &["evaluate", "runs/colors"]);
    assert_eq!((&report["top1"], &report["images"]), (&1.0.into(), &15.into()), "{report}");

    // Of another folder `green` is the first class and `red` the second.
    pictures(folder, "others/train", &COLORS[1..], 1);
    pictures(folder, "others/test", &COLORS[1..], 7);
    let report = json(folder, &["evaluate", "runs/colors", "--data", "others"]);
    assert_eq!((&report["top1"], &report["images"]), (&1.0.into(), &14.into()), "{report}");
    assert_eq!(report["confusion"]["rows"], serde_json::json!([[0, 0, 0], [0, 7, 0], [0, 0, 7]]));
    // Other data choose nothing: that look does not count, and what was kept of the run's own test split stays.
    assert_eq!(report["test_evaluations"], 1);
    let kept = fs::read_to_string(folder.join("runs/colors/evaluation/test/predictions.csv")).unwrap();
    assert_eq!(kept.lines().count(), 16);
    let again = json(folder, &["evaluate", "runs/colors", "--data", "./colors/"]);
    assert_eq!(again["test_evaluations"], 1, "another name for the run's own data");
    let absolute = folder.join("colors");
    said(folder, &["evaluate", "runs/colors", "--split=val", "--data", absolute.to_str().unwrap()]);
    assert!(folder.join("runs/colors/evaluation/val/report.json").exists(), "a way to the run's own data");
    let others =
        format!("runs/colors/evaluation/{}/predictions.csv", of_others(folder, "colors", "test-of-others-")[0]);
    let predictions = fs::read_to_string(folder.join(others)).unwrap();
    assert!(predictions.lines().nth(1).unwrap().starts_with("test/green/0.png,green,green,"), "{predictions}");

    for (class, hint) in
        [("Blue", "the model has a class `blue`: rename the folder"), ("blu", "its classes are blue, green, red")]
    {
        picture(&folder.join("others/train").join(class).join("0.png"), COLORS[0].1);
        let expected = format!("error: the model was not trained on the class `{class}` of the data\nhint: {hint}\n");
        assert_eq!(refused(folder, &["evaluate", "runs/colors", "--data", "others"]), expected);
        fs::remove_dir_all(folder.join("others/train").join(class)).unwrap();
    }
}

#[test]
fn classes_without_images_have_no_scores() {
    let run = colors();
    let folder = run.path();
    // Two of five pictures under `red` are green.
    pictures(folder, "some/red", &[("", COLORS[2].1)], 3);
    (7..9).for_each(|number| picture(&folder.join(format!("some/red/{number}.png")), COLORS[1].1));
    let text = said(folder, &["evaluate", "runs/colors", "--data=some"]);
    let expected = "\
class  precision   recall       F1  images
blue           -        -        -       0
green          -        -        -       0
red     100.00 %  60.00 %  75.00 %       5
mean    100.00 %  60.00 %  75.00 %       5
mean over the classes that have images: 1 of 3
";
    assert!(text.starts_with(expected), "{text}");
    let report = json(folder, &["evaluate", "runs/colors", "--data=some"]);
    assert_eq!(
        report["classes"][1],
        serde_json::json!({"name": "green", "precision": null, "recall": null, "f1": null, "support": 0})
    );
    assert_eq!((&report["recall_mean"], &report["top1"]), (&0.6.into(), &0.6.into()));
}

#[test]
fn a_run_with_a_class_subset_is_evaluated_on_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let small = ["--set=model.depth=1", "--limit-train=200", "--batch-size=25", "--max-steps=3"];
    said(folder, &[["train", "--classes=3,8,1", "--name=d"].as_slice(), &small].concat());
    let manifest = manifest(folder, "d");
    assert_eq!(manifest["data"]["class_names"], serde_json::json!(["1", "3", "8"]));
    assert_eq!((&manifest["data"]["validation"], &manifest["data"]["test"]), (&480.into(), &1200.into()));
    let config = fs::read_to_string(folder.join("runs/d/config.toml")).unwrap();
    assert!(config.contains("classes = [\"3\", \"8\", \"1\"]\n") && config.contains("num_classes = 3\n"), "{config}");

    let report = json(folder, &["evaluate", "runs/d"]);
    assert_eq!(
        (&report["images"], &report["confusion"]["classes"]),
        (&1200.into(), &serde_json::json!(["1", "3", "8"]))
    );
    let predictions = fs::read_to_string(folder.join("runs/d/evaluation/test/predictions.csv")).unwrap();
    let labels: Vec<&str> = predictions.lines().skip(1).map(|line| line.split(',').nth(1).unwrap()).collect();
    assert_eq!(labels[..4], ["1", "3", "8", "1"]);
    assert!(predictions.lines().nth(1).unwrap().starts_with("digits/16001,1,"), "{}", &predictions[..99]);
    // The saved config alone makes the same run.
    said(folder, &["train", "--config=runs/d/config.toml", "--name=again"]);
    let weights = |run: &str| fs::read(folder.join(format!("runs/{run}/weights/last.safetensors"))).unwrap();
    assert!(weights("d") == weights("again"));
}

#[test]
fn other_data_is_evaluated_on_the_classes_of_the_run() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    pictures(folder, "colors", &COLORS, 11);
    let small = ["--img-size=8", "--set=model.embed_dim=16", "--set=model.depth=1", "--max-steps=1"];
    let train = ["train", "--data=colors", "--classes=red,blue", "--batch-size=5", "--set=model.patch_size=4"];
    // Without a validation split, nothing is left to evaluate it on.
    let trained = said(folder, &[train.as_slice(), &small, &["--val-fraction=0"]].concat());
    let next = "next: vitreous predict IMAGE --run runs/colors\n      vitreous report runs/colors\n";
    assert!(trained.ends_with(&format!("in runs/colors\n{next}")), "{trained}");
    pictures(folder, "others/train", &COLORS, 2);
    pictures(folder, "others/test", &COLORS, 7);
    let report = json(folder, &["evaluate", "runs/colors", "--data=others"]);
    assert_eq!((&report["images"], &report["confusion"]["classes"]), (&14.into(), &serde_json::json!(["blue", "red"])));
    pictures(folder, "none/train", &[("gray", [3; 3]), ("pink", [9; 3])], 2);
    let expected = "error: no class of none is one that colors was trained on\nhint: its classes are blue, red\n";
    assert_eq!(refused(folder, &["evaluate", "runs/colors", "--data=none"]), expected);
}

#[test]
fn changed_images_and_missing_splits_are_reported() {
    let run = colors();
    let folder = run.path();
    let stderr = |arguments: &[&str]| String::from_utf8(vitreous(folder, arguments).stderr).unwrap();
    let written = "written to runs/colors/evaluation/val\nnext: vitreous report runs/colors\n";
    assert_eq!(stderr(&["evaluate", "runs/colors", "--split=val"]), written);
    assert_eq!(json(folder, &["evaluate", "runs/colors", "--split=val"]).get("note"), None);
    picture(&folder.join("colors/val/red/new.png"), [200, 0, 0]);
    let note = "note: the data has changed since the run was trained: which of these 10 validation images were used for \
                training is unknown\n";
    assert_eq!(stderr(&["evaluate", "runs/colors", "--split=val"]), format!("{note}{written}"));
    let report = json(folder, &["evaluate", "runs/colors", "--split=val"]);
    assert_eq!(report["note"], note["note: ".len()..].trim_end());
    let kept = fs::read_to_string(folder.join("runs/colors/evaluation/val/report.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&kept).unwrap(), report);

    fs::remove_dir_all(folder.join("colors/test")).unwrap();
    let expected = format!("note: colors has no test split: evaluated on the validation split\n{note}{written}");
    assert_eq!(stderr(&["evaluate", "runs/colors"]), expected);
    let missing = "error: colors has no test split (looked for colors/test)\n\
                   hint: add colors/test, use --split val, or --split train\n";
    assert_eq!(refused(folder, &["evaluate", "runs/colors", "--split=test"]), missing);
    assert_eq!(manifest(folder, "colors")["test_evaluations"], 0);
}

#[test]
fn images_of_any_size_are_predicted_and_bad_ones_named() {
    let run = colors();
    let folder = run.path();
    image::RgbImage::from_pixel(71, 53, image::Rgb([230, 0, 0])).save(folder.join("a.png")).unwrap();
    fs::write(folder.join("b.png"), "no picture").unwrap();
    picture(&folder.join("c.png"), [0, 0, 240]);

    let text = said(folder, &["predict", "a.png", "--run", "runs/colors", "--top", "2"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines[0], lines.len()), ("a.png", 3), "{text}");
    assert!(lines[1].ends_with(" %  red"), "{text}");

    let output = vitreous(folder, &["predict", "a.png", "b.png", "c.png", "--run=runs/colors", "--json"]);
    assert_eq!(output.status.code(), Some(2));
    // With --json, stderr has one object, of which the errors of the images are a part.
    let error = &serde_json::from_slice::<Value>(&output.stderr).expect("one JSON object")["error"];
    let bad = "the image cannot be decoded: not a JPEG, PNG, WebP or BMP file (b.png)";
    assert_eq!(error["what"], "1 of 3 images have no prediction");
    assert_eq!((&error["causes"][0]["of"], &error["causes"][0]["what"]), (&"b.png".into(), &bad.into()));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let first =
        |place: usize| (&answer["predictions"][place]["image"], &answer["predictions"][place]["top"][0]["class"]);
    assert_eq!(first(0), (&"a.png".into(), &"red".into()));
    assert_eq!(first(1), (&"c.png".into(), &"blue".into()));
    let failed = serde_json::json!([{
        "image": "b.png",
        "error": "the image cannot be decoded: not a JPEG, PNG, WebP or BMP file (b.png)",
    }]);
    assert_eq!(answer["failed"], failed);
    let top = answer["predictions"][0]["top"].as_array().expect("classes");
    let sum: f64 = top.iter().map(|guess| guess["probability"].as_f64().expect("a number")).sum();
    assert!(top.len() == 3 && (sum - 1.0).abs() < 1e-9, "{answer}");

    assert_eq!(refused(folder, &["predict", "b.png", "--run=runs/colors"]).matches("error:").count(), 1);
    for refused in [
        refused(folder, &["predict", "a.png", "--run=runs/colors", "--beam=2"]),
        refused(folder, &["evaluate", "runs/colors", "--beam=2"]),
    ] {
        assert_eq!(
            refused,
            "error: --beam is only for readers, but this model is a classifier\nhint: leave out --beam\n"
        );
    }
    let absent = refused(folder, &["predict", "d.png", "--run=runs/colors"]);
    assert_eq!(absent, "error: no such file or folder (d.png)\n");
}

#[test]
fn predictions_for_many_images_equal_those_for_each() {
    let run = colors();
    let folder = run.path();
    let names: Vec<String> = (0..7).map(|number| format!("{number}.png")).collect();
    for (number, name) in names.iter().enumerate() {
        picture(&folder.join(name), COLORS[number % 3].1);
    }
    let arguments: Vec<&str> = std::iter::once("predict").chain(names.iter().map(String::as_str)).collect();
    let all = said(folder, &[&arguments[..], &["--run=runs/colors"]].concat());
    let each = names.iter().map(|name| said(folder, &["predict", name, "--run=runs/colors"]));
    assert_eq!(all, each.collect::<String>());
}

#[test]
fn impossible_predictions_are_refused_early() {
    let run = colors();
    let folder = run.path();
    let none = refused(folder, &["predict", "a.png", "--run=runs/colors", "--top=0"]);
    assert!(none.contains("not a whole number of at least 1"), "{none}");
    let expected = "error: this is a folder (colors)\nhint: name the images in it, such as colors/1.jpg\n";
    assert_eq!(refused(folder, &["predict", "colors", "--run=runs/colors"]), expected);
    // A file that is all hole takes no room on the disk.
    let file = fs::File::create(folder.join("huge.safetensors")).unwrap();
    file.set_len(1 << 43).unwrap();
    let huge = refused(folder, &["predict", "a.png", "--weights=huge.safetensors"]);
    assert!(huge.starts_with("error: reading the weights needs 17.6 TB of memory, but "), "{huge}");
    fs::rename(folder.join("huge.safetensors"), folder.join("runs/colors/weights/best.safetensors")).unwrap();
    let huge = refused(folder, &["evaluate", "runs/colors"]);
    assert!(huge.starts_with("error: reading the weights needs 17.6 TB of memory, but "), "{huge}");
}

#[test]
fn an_evaluation_that_cannot_be_written_is_printed() {
    let run = colors();
    let folder = run.path();
    fs::write(folder.join("runs/colors/evaluation"), "in the way").unwrap();
    let output = vitreous(folder, &["evaluate", "--run", "runs/colors", "--split=val"]);
    assert!(crate::common::text(&output.stdout).contains("\nvalidation of colors, 9 images; "), "{output:?}");
    let expected = "error: cannot write: a file is in the way (runs/colors/evaluation/val)\n\
                    hint: the printed result was not saved: make the run folder writable, or evaluate a copy of it\n";
    assert_eq!((crate::common::text(&output.stderr).as_str(), output.status.code()), (expected, Some(2)));
}

#[test]
fn evaluating_from_another_folder_asks_for_the_images() {
    let run = colors();
    let elsewhere = tempfile::tempdir().unwrap();
    let folder = run.path().join("runs/colors");
    let evaluate = ["evaluate", folder.to_str().unwrap()];
    let expected = "error: the run was trained on `colors`, which was not found\n\
                    hint: name its folder with --data-dir, or use other images with --data FOLDER\n";
    assert_eq!(refused(elsewhere.path(), &evaluate), expected);
    let dir = format!("--data-dir={}", run.path().display());
    let report = json(elsewhere.path(), &[&evaluate[..], &[&dir]].concat());
    assert_eq!((&report["data"], &report["test_evaluations"]), (&"colors".into(), &1.into()));
}

#[test]
fn predict_needs_only_a_weights_file() {
    let run = colors();
    let elsewhere = tempfile::tempdir().unwrap();
    picture(&elsewhere.path().join("a.png"), [9, 230, 8]);
    let weights = run.path().join("runs/colors/weights/best.safetensors");
    fs::copy(&weights, elsewhere.path().join("mine.safetensors")).unwrap();
    let runs_folder = run.path().join("runs/colors");
    let by_run = said(elsewhere.path(), &["predict", "a.png", "--run", runs_folder.to_str().unwrap()]);
    let by_file = said(elsewhere.path(), &["predict", "a.png", "--weights", "mine.safetensors"]);
    assert!(by_file.lines().nth(1).unwrap().ends_with("green"), "{by_file}");
    assert_eq!(by_file, by_run);
}

#[test]
fn missing_best_weights_are_reported_and_last_ones_can_be_chosen() {
    let run = colors();
    let folder = run.path();
    picture(&folder.join("a.png"), [9, 230, 8]);
    fs::remove_file(folder.join("runs/colors/weights/best.safetensors")).unwrap();
    let lost = "error: the best weights of the run are missing (runs/colors/weights/best.safetensors)\n\
                hint: restore the file, or use --weights last\n";
    assert_eq!(refused(folder, &["evaluate", "runs/colors"]), lost);
    assert_eq!(refused(folder, &["predict", "a.png", "--run=runs/colors"]), lost);
    assert_eq!(json(folder, &["evaluate", "runs/colors", "--weights=last"])["weights"], "last");
    said(folder, &["predict", "a.png", "--run=runs/colors", "--weights=last"]);
    // The run may stand before the image.
    let said_of = |words: [&str; 3]| said(folder, &[&["predict", "--weights=last"], &words[..]].concat());
    assert_eq!(said_of(["runs/colors", "a.png", "--top=1"]), said_of(["a.png", "--run=runs/colors", "--top=1"]));
    let none = refused(folder, &["predict", "a.png"]);
    assert_eq!(none, "error: no run given\nhint: use vitreous predict IMAGE --run RUN\n");
    fs::create_dir(folder.join("runs/other")).unwrap();
    fs::copy(folder.join("runs/colors/manifest.json"), folder.join("runs/other/manifest.json")).unwrap();
    let two = "error: two models are given: other and runs/colors\nhint: leave one of them out\n";
    assert_eq!(refused(folder, &["predict", "other", "a.png", "--run=colors"]), two);
    // A folder of images with the name of a run does not hide it, and another run of the name is mentioned.
    assert_eq!(json(folder, &["evaluate", "colors", "--weights=last", "--split=val"])["run"], "colors");
    fs::copy(folder.join("runs/colors/manifest.json"), folder.join("colors/manifest.json")).unwrap();
    let output = vitreous(folder, &["evaluate", "colors", "--weights=last", "--split=val"]);
    let note = "note: runs/colors is used; ./colors is a run too\n";
    assert!(crate::common::text(&output.stderr).starts_with(note), "{output:?}");
    fs::remove_file(folder.join("runs/colors/weights/last.safetensors")).unwrap();
    let lost = "error: the best weights of the run are missing (runs/colors/weights/best.safetensors)\n\
                hint: restore the file, or train the model again\n";
    assert_eq!(refused(folder, &["evaluate", "runs/colors"]), lost);
    // Killed before its first weights.
    let mut early = manifest(folder, "colors");
    (early["status"], early["results"]) = ("running".into(), Value::Null);
    fs::write(folder.join("runs/colors/manifest.json"), early.to_string()).unwrap();
    let early = "error: the run has no weights/last.safetensors (runs/colors)\n\
                 hint: the run ended before its first weights were saved: continue it with vitreous train --resume \
                 runs/colors\n";
    assert_eq!(refused(folder, &["predict", "runs/colors", "a.png"]), early);
}

#[test]
fn folders_without_a_run_or_the_chosen_weights_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let threads = refused(folder, &["evaluate", "runs/none", "--threads", "99999"]);
    assert!(threads.contains("invalid number: use 0 to 1024"), "{threads}");
    let no_run = "error: no such folder (runs/none)\n\
                  hint: list the runs with vitreous runs\n";
    assert_eq!(refused(folder, &["evaluate", "runs/none"]), no_run);
    assert_eq!(refused(folder, &["predict", "a.png", "--run", "runs/none"]), no_run);
    let weights = "error: a run has no weights `bst` (--weights)\nhint: did you mean best?\n";
    assert_eq!(refused(folder, &["predict", "a.png", "--run", "./r", "--weights", "bst"]), weights);
    let absent = refused(folder, &["predict", "a.png", "--weights", "none.safetensors"]);
    assert_eq!(absent, "error: cannot read the weights: no such file or folder (none.safetensors)\n");
    fs::write(folder.join("cut.safetensors"), [9, 0, 0]).unwrap();
    let damaged = refused(folder, &["predict", "a.png", "--weights", "cut.safetensors"]);
    assert!(
        damaged.starts_with("error: the weights are damaged: 3 bytes are too few (cut.safetensors)\n"),
        "{damaged}"
    );

    let small = ["--set=model.depth=1", "--limit-train=64", "--val-fraction=0", "--batch-size=32", "--max-steps=1"];
    said(folder, &[["train", "--name=d"].as_slice(), &small].concat());
    let report = json(folder, &["evaluate", "runs/d", "--split=train"]);
    assert_eq!((&report["weights"], &report["images"]), (&"last".into(), &64.into()));
    let best = "error: the run has no weights/best.safetensors (runs/d)\nhint: use --weights last\n";
    assert_eq!(refused(folder, &["evaluate", "runs/d", "--weights=best"]), best);
    let validation = refused(folder, &["evaluate", "runs/d", "--split=val"]);
    let expected = "error: digits has no validation split\nhint: use --split test, or --split train\n";
    assert_eq!(validation, expected);
    // Of several splits, all are looked for before one is evaluated and counted.
    assert_eq!(refused(folder, &["evaluate", "runs/d", "--split=test,val"]), validation);
    assert_eq!(manifest(folder, "d")["test_evaluations"], 0);
    assert_eq!(json(folder, &["evaluate", "runs/d", "--split=test,test"])["split"], "test");
    assert_eq!(manifest(folder, "d")["test_evaluations"], 1);
}
