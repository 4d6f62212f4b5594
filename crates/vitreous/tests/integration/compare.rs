//! `vitreous compare` end to end: real runs, generated run folders, and folders without a run.

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use crate::common::{said, vitreous};

/// A training of well under a second.
const SMALL: [&str; 8] = [
    "train",
    "--limit-train=97",
    "--batch-size=13",
    "--set=data.val_fraction=0.01",
    "--set=model.depth=1",
    "--set=model.embed_dim=16",
    "--set=model.num_heads=1",
    "--epochs=1",
];

fn train(folder: &Path, arguments: &[&str]) {
    said(folder, &[&SMALL, arguments].concat());
}

#[test]
fn real_runs_are_compared_in_every_format() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    train(folder, &["--name=low", "--lr=1e-5"]);
    train(folder, &["--name=high-1", "--lr=3e-3", "--seed=1"]);
    train(folder, &["--name=high-2", "--lr=3e-3", "--seed=2", "--threads=1"]);
    train(folder, &["--name=stopped", "--lr=1e-3", "--max-steps=2"]);
    fs::create_dir(folder.join("runs/notes")).unwrap();
    said(folder, &["evaluate", "runs/high-1"]);
    said(folder, &["evaluate", "runs/high-1", "--split=train"]);

    let text = said(folder, &["compare", "runs"]);
    let lines: Vec<Vec<&str>> =
        text.lines().map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()).collect();
    let head =
        ["run", "seeds", "val acc", "test acc", "train acc", "while training", "training time", "lr", "max_steps"];
    assert_eq!(lines[0], head, "{text}");
    let row = |name: &str| lines.iter().find(|line| line.first() == Some(&name)).expect(name);
    let high = row("high");
    assert_eq!((high[1], high[5], &high[7..9]), ("2", "-", &["0.003", "-"][..]), "{text}");
    assert!(high[3].ends_with(" % of 1 run") && high[4].ends_with(" % of 1 run"), "{text}");
    assert_eq!((&row("low")[3..5], &row("low")[7..9]), (&["-", "-"][..], &["1e-5", "-"][..]), "{text}");
    assert!(row("low")[5].starts_with('~') && row("stopped")[8] == "2", "{text}");
    let accuracies: Vec<f64> =
        lines[1..4].iter().map(|line| line[2].split(' ').next().unwrap().parse().unwrap()).collect();
    assert!(accuracies.is_sorted_by(|a, b| a >= b), "the best comes first: {text}");
    // Explanations come after the verdicts.
    let parts = ["run ", "validation accuracy against the best, ", "val acc and test acc are those of ", "left out\n"];
    assert!(text.split("\n\n").zip(parts).all(|(part, start)| part.starts_with(start)), "{text}");
    let same = "\nthe same in all rows: parameters 3,482, FLOPs ";
    assert!(text.contains(same) && text.contains(", model ViT 1 block, 1 head, width 16\n"), "{text}");
    assert!(text.ends_with("\nleft out\n  runs/notes: not a run folder: manifest.json is missing\n"), "{text}");

    let json: Value =
        serde_json::from_str(&said(folder, &["compare", "runs", "--json", "--each", "--sort=lr"])).unwrap();
    let names: Vec<&str> = json["rows"].as_array().unwrap().iter().map(|row| row["run"].as_str().unwrap()).collect();
    assert_eq!(names, ["low", "stopped", "high-1", "high-2"]);
    assert_eq!(json["keys"], serde_json::json!(["train.lr", "train.max_steps", "train.seed"]));
    let report: Value =
        serde_json::from_slice(&fs::read(folder.join("runs/high-1/evaluation/test/report.json")).unwrap()).unwrap();
    let row = &json["rows"][2];
    assert_eq!((&row["test_acc"]["mean"], &row["train_acc_measured"]), (&report["top1"], &true.into()));
    assert_eq!((&row["settings"]["train.lr"], &row["seeds"]), (&0.003.into(), &serde_json::json!([1])));
    assert_eq!(json["left_out"][0]["folder"], "runs/notes");

    let output = vitreous(folder, &["compare", "runs/low", "runs/high-1", "runs/notes", "--format=csv"]);
    let csv = String::from_utf8(output.stdout).unwrap();
    assert!(csv.starts_with("run,n,seeds,model,train.lr,train.seed,parameters,flops_forward,seconds,"), "{csv}");
    assert_eq!(csv.lines().count(), 3);
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "left out: runs/notes: not a run folder: manifest.json is missing\n"
    );
    let markdown = said(folder, &["compare", "runs/low", "--format=markdown"]);
    assert!(markdown.starts_with("| run | model | parameters | FLOPs |"), "{markdown}");
}

#[test]
fn a_difference_between_two_runs_is_compared_with_noise() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    // It learns digits in a second.
    let model = "[model]\nkind = \"stack\"\nlayers = [\"conv 6 k5 s4\", \"relu\", \"flatten\", \"linear classes\"]\n";
    fs::write(folder.join("small.toml"), model).unwrap();
    for (name, lr) in [("slow", "--lr=1e-6"), ("fast", "--lr=3e-3"), ("twin", "--lr=3.1e-3")] {
        let start = ["train", "--config=small.toml", "--data=digits", "--no-plots", "--epochs=2"];
        let images = ["--limit-train=1500", "--batch-size=25", "--val-fraction=0.01"];
        said(folder, &[&start[..], &images, &["--name", name, lr]].concat());
        said(folder, &["evaluate", &format!("runs/{name}")]);
    }
    // What was answered, counted here once more.
    let right = |run: &str| -> Vec<bool> {
        let text = fs::read_to_string(folder.join(format!("runs/{run}/evaluation/test/predictions.csv"))).unwrap();
        let lines = text.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
        lines.map(|cells| cells[1] == cells[2]).collect()
    };
    let count = |own: &str, other: &str| {
        right(own).into_iter().zip(right(other)).filter(|(own, other)| *own && !*other).count() as u64
    };
    let json = |arguments: &[&str]| -> Value {
        let arguments =
            [&["compare", "runs/slow", "runs/fast", "runs/twin", "--by=test", "--json"], arguments].concat();
        serde_json::from_str(&said(folder, &arguments)).unwrap()
    };
    let found = json(&["--against=fast"]);
    assert_eq!((&found["groups"][0]["against"], &found["rows"][1]["difference"]), (&"fast".into(), &Value::Null));
    let row = &found["rows"][0];
    let difference = &row["difference"];
    assert_eq!((&difference["by"], &difference["images"]), (&"same-images".into(), &4000.into()));
    assert_eq!(difference["only_own_right"], count("slow", "fast"));
    assert_eq!(difference["only_other_right"], count("fast", "slow"));
    assert_eq!(difference["within_noise"], false, "{difference}");
    let [low, high] = [0, 1].map(|end| row["test_acc_interval"][end].as_f64().unwrap());
    let test = row["test_acc"]["mean"].as_f64().unwrap();
    assert!(low < test && test < high && high - low < 0.04, "{row}");
    let best = json(&[]);
    let tests = [1, 2].map(|at| best["rows"][at]["test_acc"]["mean"].as_f64().unwrap());
    let group = &best["groups"][0];
    assert_eq!(group["against"], if tests[0] >= tests[1] { "fast" } else { "twin" });
    assert_eq!((&group["best_of"], &group["comparisons"]), (&3.into(), &3.into()));
    assert_eq!(
        (&best["ranked_by"], &group["data"], &best["groups"][1]),
        (&"test".into(), &"digits".into(), &Value::Null)
    );
    // Slow differs from the best of three, which is one of three pairs.
    let difference = &best["rows"][0]["difference"];
    assert_eq!(difference["p_adjusted"].as_f64().unwrap(), 3.0 * difference["p"].as_f64().unwrap(), "{difference}");
    let group = &found["groups"][0];
    assert_eq!((&group["best_of"], &group["comparisons"]), (&Value::Null, &2.into()));

    let text = said(folder, &["compare", "slow", "fast", "--by=test", "--against=runs/slow"]);
    let verdicts = text.split("\n\n").find(|part| part.starts_with("test accuracy against slow: ")).expect(&text);
    let line = verdicts.lines().nth(2).unwrap();
    assert!(line.starts_with("fast  +") && line.contains("  more than noise  < 0.0001  of 4,000"), "{text}");
    let csv = said(folder, &["compare", "runs/slow", "runs/fast", "--by=test", "--format=csv"]);
    assert!(
        csv.lines().nth(1).unwrap().contains(",fast,test,-0.") && csv.lines().nth(1).unwrap().ends_with(",false"),
        "{csv}"
    );
    let markdown = said(folder, &["compare", "runs/slow", "runs/fast", "--by=test", "--format=markdown"]);
    assert!(markdown.contains("\nTest accuracy against the best, fast: "), "{markdown}");

    // Predictions of the last weights are saved next to those of the best weights and are not used for them.
    let before = said(folder, &["compare", "runs/slow", "runs/fast", "--by=test"]);
    said(folder, &["evaluate", "runs/slow", "--weights=last"]);
    assert!(folder.join("runs/slow/evaluation/test-last/predictions.csv").is_file());
    assert_eq!(said(folder, &["compare", "runs/slow", "runs/fast", "--by=test"]), before);
    fs::remove_dir_all(folder.join("runs/slow/evaluation/test")).unwrap();
    let text = said(folder, &["compare", "runs/slow", "runs/fast", "--by=test"]);
    assert!(text.contains("unknown  -  slow: the predictions of its best weights are not saved\n"), "{text}");
    // Unless test accuracies are asked for, the validation split decides, whatever the test split says.
    let text = said(folder, &["compare", "runs/slow", "runs/fast"]);
    assert!(text.contains("\nvalidation accuracy against the best, fast: "), "{text}");
    assert!(
        text.contains("slow: the predictions of its best weights are not saved; save them with vitreous evaluate runs/slow --split val"),
        "{text}"
    );
    ["slow", "fast"].iter().for_each(|run| drop(said(folder, &["evaluate", &format!("runs/{run}"), "--split=val"])));
    let by_validation: Value =
        serde_json::from_str(&said(folder, &["compare", "runs/slow", "runs/fast", "--json"])).unwrap();
    assert_eq!(
        (&by_validation["ranked_by"], &by_validation["groups"][0]["against"]),
        (&"validation".into(), &"fast".into())
    );
    let difference = &by_validation["rows"][0]["difference"];
    assert_eq!((&difference["by"], &difference["p_adjusted"]), (&"same-images".into(), &difference["p"]));
    let unknown = crate::common::refused(folder, &["compare", "runs", "--against=fats"]);
    assert_eq!(unknown, "error: the comparison has no run `fats` (--against)\nhint: did you mean `fast`?\n");
}

#[test]
fn runs_with_the_same_validation_images_are_compared() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    for (name, more) in
        [("few", "--limit-train=53"), ("many", "--limit-train=97"), ("other", "--set=data.split_seed=1")]
    {
        let mut arguments: Vec<&str> = SMALL.into_iter().filter(|flag| !flag.starts_with("--limit")).collect();
        arguments.extend(["--max-steps=2", "--name", name, more]);
        said(folder, &arguments);
        said(folder, &["evaluate", &format!("runs/{name}"), "--split=val"]);
    }
    let report = |run: &str| -> Value {
        let path = folder.join(format!("runs/{run}/evaluation/val/report.json"));
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    assert_eq!(report("few")["fingerprint"], report("many")["fingerprint"]);
    assert_ne!(report("few")["fingerprint"], report("other")["fingerprint"]);
    let found: Value =
        serde_json::from_str(&said(folder, &["compare", "runs/few", "runs/many", "--against=few", "--json"])).unwrap();
    let difference = &found["rows"][1]["difference"];
    assert_eq!((&difference["by"], &difference["images"]), (&"same-images".into(), &report("few")["images"]));
}

#[test]
fn incomparable_runs_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let refused = |arguments: &[&str]| crate::common::refused(folder, arguments);
    fs::create_dir_all(folder.join("runs/a")).unwrap();
    assert_eq!(
        refused(&["compare", "runs/a", "runs/b"]),
        "runs/a: not a run folder: manifest.json is missing\n\
         runs/b: no such folder\n\
         error: none of 2 folders is a run that can be compared\n\
         hint: name folders that `vitreous train` made, such as runs/*\n"
    );
    train(folder, &["--name=one", "--max-steps=1"]);
    assert_eq!(
        refused(&["compare", "runs/one", "--sort=tests"]),
        "error: no column `tests` to sort by (--sort)\nhint: did you mean `test`?\n"
    );
}

#[test]
fn compare_time_is_linear_in_the_runs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    train(folder, &["--name=first", "--max-steps=1"]);
    let manifest: Value = serde_json::from_slice(&fs::read(folder.join("runs/first/manifest.json")).unwrap()).unwrap();
    let config = fs::read_to_string(folder.join("runs/first/config.toml")).unwrap();
    for number in 0..1000 {
        let at = folder.join(format!("many/run-{number}"));
        let mut manifest = manifest.clone();
        manifest["seed"] = (number % 5).into();
        let lr = format!("lr = 0.{}", 100 + number / 5);
        fs::create_dir_all(&at).unwrap();
        fs::write(at.join("config.toml"), config.replace("lr = 0.0015", &lr)).unwrap();
        fs::write(at.join("manifest.json"), manifest.to_string()).unwrap();
    }
    let few = |count: usize| (0..count).map(|number| format!("many/run-{number}")).collect::<Vec<_>>();
    // Against each other: how fast the machine is, and what else it does, is the same for both.
    let timed = |runs: &[String], arguments: &[&str]| -> (f64, Value) {
        let runs: Vec<&str> = runs.iter().map(String::as_str).collect();
        let start = Instant::now();
        let json = said(folder, &[&["compare", "--json"], arguments, &runs].concat());
        (start.elapsed().as_secs_f64(), serde_json::from_str(&json).unwrap())
    };
    let ((part, _), (all, json)) = (timed(&few(125), &[]), timed(&few(1000), &[]));
    assert!(all < 24.0 * part, "{part} s for 125 runs, {all} s for 1000");
    assert_eq!(json["rows"].as_array().unwrap().len(), 200);
    assert!(json["rows"].as_array().unwrap().iter().all(|row| row["seconds"]["n"] == 5));
    // Each with its answers to forty thousand images, of which those of 25 runs are read.
    let lines = (0..40_000).map(|number| format!("mnist/{number},7,{},0.99\n", if number < 36_000 { 7 } else { 1 }));
    let answers = ["image,label,prediction,probability\n".to_string()].into_iter().chain(lines).collect::<String>();
    said(folder, &["evaluate", "runs/first"]);
    let kept = folder.join("runs/first/evaluation/test");
    fs::write(kept.join("predictions.csv"), answers).unwrap();
    for number in 0..1000 {
        let at = folder.join(format!("many/run-{number}"));
        let path = at.join("manifest.json");
        let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let record =
            r#"{"split": "test", "weights": "best", "data": "digits", "images": 40000, "loss": 0.5, "top1": 0.9}"#;
        manifest["evaluations"] = vec![serde_json::from_str::<Value>(record).unwrap()].into();
        fs::write(&path, manifest.to_string()).unwrap();
        fs::create_dir_all(at.join("evaluation/test")).unwrap();
        for file in ["predictions.csv", "report.json"] {
            fs::hard_link(kept.join(file), at.join("evaluation/test").join(file)).unwrap();
        }
    }
    let by_test = ["--each", "--by=test"];
    let ((part, _), (all, json)) = (timed(&few(25), &by_test), timed(&few(1000), &by_test));
    assert!(all < 20.0 * part, "{part} s for the answers of 25 runs, {all} s for those of 1000");
    let differences = json["rows"].as_array().unwrap().iter().filter(|row| row["difference"]["by"] == "same-images");
    assert_eq!(differences.count(), 24);
}
