//! Plots in run folders: which there are, that equal runs have equal ones, and that they never make a command fail.

use crate::common::{Folder, json, refused, said, text, vitreous};

/// A training of well under a second; SVG alone, because pictures take longer to draw than it.
const SMALL: [&str; 8] = [
    "train",
    "--limit-train=97",
    "--batch-size=13",
    "--epochs=2",
    "--set=model.depth=1",
    "--set=model.embed_dim=16",
    "--set=model.num_heads=1",
    "--plot-formats=svg",
];

const LEARNED: [&str; 2] = ["--set=model.position=learned", "--set=model.num_positions=65"];

fn files(folder: &Folder, inside: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder.path(inside))
        .map(|entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<String>>());
    let mut names = entries.unwrap_or_default();
    names.sort();
    names
}

#[test]
fn training_and_evaluation_leave_their_plots_and_equal_runs_equal_ones() {
    let folder = Folder::new();
    for out in ["a", "b"] {
        let trained = said(folder.root(), &[&SMALL[..], &["--name=run", "--out", out]].concat());
        let plots = format!("\nplots: {out}/run/plots (curves, patches, positions, samples)\nnext: ");
        assert!(trained.contains(&plots), "{trained}");
        let evaluate = ["evaluate", &format!("{out}/run"), "--split=val", "--plot-formats=svg"];
        let stderr = text(&vitreous(folder.root(), &evaluate).stderr);
        let plots = format!("\nplots: {out}/run/plots (calibration-val, confusion-val, mistakes-val, per-class-val)\n");
        assert!(stderr.ends_with(&format!("{plots}next: vitreous report {out}/run\n")), "{stderr}");
    }
    let names = ["calibration-val", "confusion-val", "curves", "mistakes-val", "patches", "per-class-val", "positions"];
    let mut expected: Vec<String> = names.iter().chain(&["samples"]).map(|name| format!("{name}.svg")).collect();
    expected.sort();
    assert_eq!(files(&folder, "a/run/plots"), expected);
    for name in &expected {
        let [one, other] = ["a", "b"].map(|out| folder.text(&format!("{out}/run/plots/{name}")));
        assert!(one.starts_with("<svg ") && one.ends_with("</svg>\n") && one.contains("role=\"img\""), "{name}");
        assert!(one == other, "{name} differs between equal runs");
        assert!(!one.contains("/run"), "{name} names a folder");
    }
    let curves = folder.text("a/run/plots/curves.svg");
    assert!(curves.contains(">best epoch ") && curves.contains(">training, per epoch<"), "{curves}");
    // The image can be found again.
    let mistakes = folder.text("a/run/plots/mistakes-val.svg");
    let first = mistakes.split(">digits/").nth(1).and_then(|rest| rest.split('<').next()).expect("an image");
    let predictions = folder.text("a/run/evaluation/val/predictions.csv");
    assert!(predictions.contains(&format!("digits/{first},")), "{first}");

    // What is made later equals what was made then, and the run itself is as without plots.
    let made = json(folder.root(), &["plot", "b/run", "--plot-formats=svg"]);
    let listed: Vec<&str> =
        made["runs"][0]["files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
    let again = ["curves", "positions", "confusion-val", "per-class-val", "calibration-val"];
    assert_eq!(listed, again.map(|name| format!("plots/{name}.svg")));
    for name in again {
        let [one, other] = ["a", "b"].map(|out| folder.read(&format!("{out}/run/plots/{name}.svg")));
        assert!(one == other, "{name} differs when it is made again");
    }
    said(folder.root(), &[&SMALL[..7], &["--name=run", "--out=c", "--no-plots"]].concat());
    assert!(!folder.path("c/run/plots").exists());
    for file in ["weights/last.safetensors", "results.csv", "metrics.jsonl", "config.toml"] {
        assert!(folder.read(&format!("a/run/{file}")) == folder.read(&format!("c/run/{file}")), "{file}");
    }
    // The expected calibration error follows from the bins.
    let report: serde_json::Value = serde_json::from_slice(&folder.read("a/run/evaluation/val/report.json")).unwrap();
    let calibration = &report["calibration"];
    let bins = calibration["bins"].as_array().unwrap();
    let number = |bin: &serde_json::Value, key: &str| bin[key].as_f64().unwrap_or(0.0);
    let gap = |bin| number(bin, "images") * (number(bin, "confidence") - number(bin, "accuracy")).abs();
    let (sum, images) = (bins.iter().map(gap).sum::<f64>(), bins.iter().map(|bin| number(bin, "images")).sum::<f64>());
    assert_eq!(Some(images), report["images"].as_f64());
    assert!((calibration["expected_calibration_error"].as_f64().unwrap() - sum / images).abs() < 1e-12);
}

#[test]
fn plots_of_other_results_do_not_stay() {
    let folder = Folder::new();
    said(folder.root(), &[&SMALL[..], &["--name=run", "--max-steps=1", "--val-fraction=0.01"]].concat());
    let evaluate = |plots: &str| text(&vitreous(folder.root(), &["evaluate", "run", "--split=val", plots]).stderr);
    let count = || files(&folder, "runs/run/plots").iter().filter(|name| name.contains("-val.")).count();
    evaluate("--plot-formats=svg");
    let note = "note: the plots of an earlier evaluation of this split are removed: they show other results\n";
    assert!(!evaluate("--no-plots").contains(note));
    assert_eq!(count(), 4, "the same results again");
    let path = folder.path("runs/run/evaluation/val/report.json");
    let mut report: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    report["loss"] = 9.into();
    std::fs::write(&path, report.to_string()).unwrap();
    let stderr = evaluate("--no-plots");
    assert!(stderr.contains(note), "{stderr}");
    assert_eq!(count(), 0);
}

#[test]
fn plots_that_cannot_be_written_are_one_warning() {
    let folder = Folder::new();
    let output =
        vitreous(folder.root(), &[&SMALL[..], &["--name=run", "--max-steps=1", "--plot-formats=png"]].concat());
    assert!(output.status.success());
    let picture = image::load_from_memory(&folder.read("runs/run/plots/curves.png")).unwrap();
    assert_eq!((picture.width(), picture.height() % 2), (1320, 0));
    // A file where the folder should be.
    std::fs::remove_dir_all(folder.path("runs/run/plots")).unwrap();
    std::fs::write(folder.path("runs/run/plots"), "").unwrap();
    let resume = ["train", "--resume=runs/run", "--set=train.max_steps=", "--plot-formats=svg"];
    let output = vitreous(folder.root(), &resume);
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stderr.matches("; some plots of the run are missing or old").count(), 1, "{stderr}");
    let output = vitreous(folder.root(), &["evaluate", "runs/run", "--split=val", "--plot-formats=svg"]);
    let stderr = text(&output.stderr);
    assert!(output.status.success() && stderr.contains("; the evaluation has no plots"), "{stderr}");
}

#[test]
fn a_run_that_was_cut_has_the_epochs_and_the_best_one_of_its_training() {
    let folder = Folder::new();
    // An epoch has 8 steps.
    said(folder.root(), &[&SMALL[..], &["--name=short", "--max-steps=5"], &LEARNED[..]].concat());
    said(folder.root(), &[&SMALL[..], &["--name=long", "--max-steps=12"]].concat());
    let before = folder.text("runs/short/plots/curves.svg");
    let again = text(&vitreous(folder.root(), &["plot", "short", "long", "--plot-formats=svg"]).stderr);
    let note =
        "note: runs/long/plots: not made again: patches, samples, for which train and evaluate read the images\n";
    assert!(again.ends_with(note), "{again}");
    // Rows of the table that no token has are not drawn.
    let positions = folder.text("runs/short/plots/positions.svg");
    assert!(positions.contains(">learned, after the last epoch: 65 positions, 49 used, 16 dimensions<"), "{positions}");
    assert!(folder.text("runs/short/plots/curves.svg") == before, "it is another one when it is made again");
    // The epoch that was cut off counts only where there is no other, however good it was.
    assert!(before.contains(">best epoch 1:"), "{before}");
    let rows = folder.text("runs/long/results.csv");
    let rows: Vec<Vec<&str>> = rows.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!((rows.len(), rows[2][1], rows[0][5]), (3, "12", "val_acc"));
    let cut = [&rows[2][..5], &["1.0"], &rows[2][6..]].concat();
    std::fs::write(
        folder.path("runs/long/results.csv"),
        [&rows[0], &rows[1], &cut].map(|row| row.join(",") + "\n").concat(),
    )
    .unwrap();
    said(folder.root(), &["plot", "long", "--plot-formats=svg"]);
    let curves = folder.text("runs/long/plots/curves.svg");
    assert!(curves.contains(">best epoch 1:") && !curves.contains("best epoch 2"), "{curves}");
    said(folder.root(), &["report", "long"]);
    let page = folder.text("runs/long/report.html");
    assert!(page.contains("1 (best)") && !page.contains("2 (best)"));
    // The status is that of `runs`, and a number has its unit in the same line.
    assert!(page.contains("step limit") && page.contains("95&nbsp;% interval"));
    // Of a run without records no curves of earlier ones stay.
    for file in ["results.csv", "metrics.jsonl"] {
        std::fs::write(folder.path(&format!("runs/long/{file}")), "").unwrap();
    }
    said(folder.root(), &["plot", "long", "--plot-formats=svg"]);
    assert!(!folder.path("runs/long/plots/curves.svg").exists());
}

/// A sparse file without line ends is not read as one line of 16 GB.
#[test]
fn damaged_metrics_take_little_memory() {
    let folder = Folder::new();
    said(folder.root(), &[&SMALL[..], &["--name=run"]].concat());
    let metrics = std::fs::File::options().write(true).open(folder.path("runs/run/metrics.jsonl")).unwrap();
    metrics.set_len(1 << 34).unwrap();
    let plot = format!("ulimit -v 3000000; exec '{}' plot run --plot-formats=svg", env!("CARGO_BIN_EXE_vitreous"));
    let output = std::process::Command::new("sh").args(["-c", &plot]).current_dir(folder.root()).output().unwrap();
    assert!(output.status.success(), "{}", text_of(&output));
    assert!(files(&folder, "runs/run/plots").contains(&"curves.svg".to_string()));
}

#[test]
fn comparisons_and_sweeps_have_plots_of_all_runs() {
    let folder = Folder::new();
    // All but the depth.
    let small = [&SMALL[1..4], &SMALL[5..]].concat();
    let sweep = [&["sweep", "--set-each=model.depth=1,2", "--name=s"], &small[..]].concat();
    said(folder.root(), &sweep);
    let names = ["accuracy-parameters.svg", "accuracy-time.svg", "curves.svg", "settings.svg"];
    assert_eq!(files(&folder, "runs/s/plots"), names);
    let text = folder.text("runs/s/plots/settings.svg");
    assert!(
        text.contains(">Validation accuracy on digits of 2 settings<") && text.contains(">depth=2</text>"),
        "{text}"
    );
    assert!(folder.path("runs/s/depth=1/plots/confusion-val.svg").exists());
    // The plots of the sweep are not taken for a run.
    let output = vitreous(folder.root(), &["compare", "runs/s", "--plots=out/here", "--plot-formats=svg"]);
    assert!(output.status.success() && !text_of(&output).contains("left out"), "{}", text_of(&output));
    assert_eq!(files(&folder, "out/here"), names);
    assert_eq!(
        refused(folder.root(), &["compare", "runs/s", "--plot-formats=svg"]),
        "error: no plots are made (--plot-formats, --plot-theme, --no-plot-titles)\nhint: add --plots FOLDER\n"
    );
    // Runs on other data have plots of their own.
    said(folder.root(), &[&SMALL[..7], &["--name=even", "--classes=even", "--max-steps=1", "--no-plots"]].concat());
    let both = ["compare", "runs/s", "even", "--plots=two", "--plot-formats=svg", "--no-plot-titles"];
    said(folder.root(), &both);
    let all =
        ["all-classes", "classes-even"].map(|of| names.map(|name| name.replace(".svg", &format!("-digits-{of}.svg"))));
    let mut expected: Vec<String> = all.concat();
    // One run has no other to be held against.
    expected.retain(|name| !name.starts_with("accuracy") || name.contains("all-classes"));
    expected.sort();
    assert_eq!(files(&folder, "two"), expected);
    let curves = folder.text("two/curves-digits-classes-even.svg");
    assert!(curves.contains("<title>Validation of 1 run on digits, classes even</title>"), "{curves}");
    assert!(!curves.contains(">Validation of 1 run on digits, classes even</text>"), "{curves}");
    said(folder.root(), &["report", "runs/s", "even"]);
    let page = folder.text("report.html");
    for data in ["digits, all classes", "digits, classes even"] {
        assert!(page.contains(&format!("<bdi>Figures: {data}</bdi>")), "{data}");
    }
    // What it took is not the same, the rest is.
    for name in ["accuracy-parameters.svg", "curves.svg", "settings.svg"] {
        let [one, other] = ["runs/s/plots", "out/here"].map(|inside| folder.text(&format!("{inside}/{name}")));
        assert!(one == other, "{name} differs");
    }
}

fn text_of(output: &std::process::Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}
