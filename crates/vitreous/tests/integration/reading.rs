//! Reader models end to end: `train` on built-in digits, `evaluate` greedily and with a beam, `predict` for an image.

use std::fs;

use crate::common::{Folder, json, refused, said, text, vitreous};

/// A reader that is small enough to be trained in seconds.
const SMALL: [&str; 13] = [
    "--preset",
    "read-digits",
    "--set=model.patch_size=14",
    "--set=model.embed_dim=32",
    "--set=model.depth=1",
    "--set=model.decoder_depth=1",
    "--limit-train",
    "2003",
    "--val-fraction=0.01",
    "--epochs=3",
    "--batch-size=16",
    "--warmup-epochs=0.1",
    "--threads=2",
];

#[test]
fn a_reader_trains_evaluates_and_predicts() {
    let folder = Folder::new();
    let train = [&["train", "--name=r"], &SMALL[..]].concat();
    let output = vitreous(folder.root(), &train);
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("\nnote: mnist needs the file train-images-idx3-ubyte.gz"), "{stderr}");
    assert!(stderr.contains("using built-in digits instead"), "{stderr}");
    let results = folder.text("runs/r/results.csv");
    let columns: Vec<Vec<&str>> = results.lines().skip(1).map(|line| line.split(',').collect()).collect();
    let losses: Vec<f64> = columns.iter().map(|row| row[2].parse().unwrap()).collect();
    // A reader that knows no digit knows at best how long strips are.
    assert!(losses[2] < 2.1 && losses[2] < losses[0], "{losses:?}");
    assert!(columns.iter().all(|row| row[6].is_empty()), "strips have no top-5 accuracy: {results}");

    let shown = said(folder.root(), &["evaluate", "runs/r", "--examples=2"]);
    assert_eq!(shown.matches(", read as ").count(), 2, "{shown}");
    assert!(shown.contains("exact match") && shown.contains("; greedy\n"), "{shown}");
    let csv = folder.text("runs/r/evaluation/test/readings.csv");
    let greedy = json(folder.root(), &["evaluate", "runs/r", "--split=val"]);
    let wide = json(folder.root(), &["evaluate", "runs/r", "--split=val", "--beam=5"]);
    let rows: Vec<Vec<&str>> = csv.lines().skip(1).map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 4000);
    assert!(rows.iter().all(|row| (1..=5).contains(&row[1].len()) && row[2].len() <= 5), "{}", &csv[..200]);
    // Training measured the same strips, by the right words: exactly what greedy decoding reads right.
    let last = columns[2][5].parse::<f64>().unwrap().max(columns[1][5].parse().unwrap());
    assert_eq!(greedy["exact_match"].as_f64().unwrap(), last.max(columns[0][5].parse().unwrap()));
    assert_eq!((greedy["beam"].as_u64(), wide["beam"].as_u64()), (Some(1), Some(5)));
    assert_eq!(greedy["loss"], wide["loss"]);

    let error = refused(folder.root(), &["predict", "strip.png", "--run=runs/r", "--top=2"]);
    assert!(error.starts_with("error: --top is only for classifiers, but this model is a reader"), "{error}");
    let table = said(folder.root(), &["compare", "runs/r"]);
    assert!(table.contains("reader"), "{table}");
    image::GrayImage::from_pixel(281, 57, image::Luma([0])).save(folder.path("strip.png")).unwrap();
    let answer = json(folder.root(), &["predict", "strip.png", "--run=runs/r", "--beam=3"]);
    let digits = answer["predictions"][0]["digits"].as_str().unwrap();
    assert!(digits.len() <= 5 && digits.chars().all(|c| c.is_ascii_digit()), "{answer}");
}

#[test]
fn a_reader_needs_a_data_set_of_digits() {
    let folder = Folder::new();
    let error = refused(folder.root(), &["train", "--preset=read-digits", "--data=digits", "--classes=even"]);
    assert_eq!(
        error,
        "error: a reader needs the classes 0 to 9, but digits has 0, 2, 4, 6, 8\nhint: use --data mnist, or --data digits, with \
         all classes\n"
    );
    let error = refused(folder.root(), &["train", "--preset=read-digits", "--data=mnist"]);
    assert!(error.starts_with("error: mnist needs the file"), "{error}");
    fs::create_dir(folder.path("mnist")).unwrap();
    fs::write(folder.path("mnist/train-images-idx3-ubyte"), [0, 0, 8, 1, 0, 0, 0, 0]).unwrap();
    let error = refused(folder.root(), &["train", "--preset=read-digits"]);
    assert!(error.starts_with("error: mnist needs the file"), "a part of it is there: {error}");
    let error = refused(folder.root(), &["evaluate", "runs/r", "--beam=0"]);
    assert!(error.contains("invalid value `0`"), "{error}");
}
