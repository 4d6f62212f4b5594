//! `vitreous train` end to end.

use std::fs;
use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use sha2::{Digest, Sha256};

use crate::common::{Folder, write_photos};

/// A training of a few seconds at most: few images, a small model.
const SMALL: [&str; 8] = [
    "--limit-train",
    "97",
    "--batch-size",
    "13",
    "--set=data.val_fraction=0.01",
    "--set=model.depth=1",
    "--set=model.embed_dim=16",
    "--set=train.log_interval=3",
];

/// Trainings in a folder, and what they leave.
trait Trainings {
    fn run(&self, args: &[&str]) -> Output;
    fn train(&self, args: &[&str]) -> String;
    fn refused(&self, args: &[&str]) -> String;
    fn list(&self, inside: &str) -> Vec<String>;
}

impl Trainings for Folder {
    fn run(&self, args: &[&str]) -> Output {
        crate::common::vitreous(self.root(), &[&["train"], args].concat())
    }

    /// Trains a small model; returns what went to stdout.
    fn train(&self, args: &[&str]) -> String {
        let output = self.run(&[&SMALL[..], args].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The error of a bad command, which must leave no run.
    fn refused(&self, args: &[&str]) -> String {
        let before = self.list("runs");
        let text = crate::common::refused(self.root(), &[&["train"], args].concat());
        assert_eq!(self.list("runs"), before, "a run was made");
        text.replace(&self.root().display().to_string(), "HERE")
    }

    /// All files in a folder, sorted.
    fn list(&self, inside: &str) -> Vec<String> {
        fn walk(folder: &Path, root: &Path, found: &mut Vec<String>) {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                found.push(path.strip_prefix(root).unwrap().display().to_string());
                walk(&path, root, found);
            }
        }
        let mut found = Vec::new();
        walk(&self.path(inside), &self.path(inside), &mut found);
        found.sort();
        found
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn without_arguments_digits_are_trained_under_a_fresh_name() {
    let folder = Folder::new();
    for run in ["digits", "digits-2"] {
        let output = folder.run(&["--max-steps", "5"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert!(stdout.starts_with("stopped after step 5 (step limit); "), "{stdout}");
        assert!(stdout.contains(&format!("next: vitreous evaluate runs/{run}\n")), "{stdout}");
        let files = [
            ".lock",
            "config.toml",
            "ledger.csv",
            "manifest.json",
            "metrics.jsonl",
            "results.csv",
            "state",
            "state/1.json",
            "state/1.safetensors",
            "timing.jsonl",
            "weights",
            "weights/best.safetensors",
            "weights/last.safetensors",
        ];
        assert_eq!(folder.list(&format!("runs/{run}")), files);
        let manifest = folder.manifest(run);
        assert_eq!(manifest["status"], "max-steps");
        assert_eq!(manifest["results"]["steps"], 5);
        assert_eq!(manifest["test_evaluations"], 0);
        // Four bytes each, and a header.
        let weights = folder.read(&format!("runs/{run}/weights/last.safetensors")).len() as u64;
        let parameters = manifest["parameters"].as_u64().unwrap();
        assert!((1..20_000).contains(&(weights - 4 * parameters)), "{parameters} parameters in {weights} bytes");
        assert_eq!((&manifest["data"]["train"], &manifest["data"]["validation"]), (&14_400.into(), &1_600.into()));
        let results = folder.text(&format!("runs/{run}/results.csv"));
        let rows: Vec<&str> = results.lines().collect();
        assert_eq!(rows[0], "epoch,step,train_loss,train_acc,val_loss,val_acc,val_top5,lr");
        assert!(rows.len() == 2 && rows[1].starts_with("1,5,"), "{results}");
    }
    let weights = |run: &str| folder.read(&format!("runs/{run}/weights/last.safetensors"));
    assert_eq!(folder.manifest("digits")["results"]["last_sha256"], sha256(&weights("digits")));
    assert_eq!(weights("digits"), weights("digits-2"));
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_does_not() {
    let folder = Folder::new();
    let everything = ["--drop", "0.1", "--hflip", "0.5", "--set=augment.rotation_degrees=10", "--epochs", "2"];
    for (name, seed) in [("a", "1"), ("b", "1"), ("other", "2")] {
        folder.train(&[&everything[..], &["--name", name, "--seed", seed]].concat());
    }
    for file in ["results.csv", "metrics.jsonl", "weights/last.safetensors", "weights/best.safetensors"] {
        let read = |run: &str| folder.read(&format!("runs/{run}/{file}"));
        assert!(read("a") == read("b"), "{file} differs between equal runs");
        assert!(read("a") != read("other"), "{file} is the same for another seed");
    }
    assert_eq!(folder.text("runs/a/config.toml"), folder.text("runs/b/config.toml"));
}

#[test]
fn a_saved_config_reproduces_the_run() {
    let folder = Folder::new();
    folder.train(&["--name", "first", "--epochs", "1"]);
    let output = folder.run(&["--config", "runs/first/config.toml"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for file in ["config.toml", "results.csv", "weights/last.safetensors"] {
        let read = |run: &str| folder.read(&format!("runs/{run}/{file}"));
        assert!(read("first") == read("first-2"), "{file}");
    }
}

#[test]
fn one_row_per_epoch_and_one_line_per_log_interval() {
    let folder = Folder::new();
    // 97 images in steps of 13: seven whole steps and one of 6 images, or seven.
    folder.train(&["--name", "all", "--epochs", "2"]);
    folder.train(&["--name", "whole", "--epochs", "2", "--drop-last"]);
    let steps = |run: &str| -> Vec<String> {
        let text = folder.text(&format!("runs/{run}/results.csv"));
        text.lines().skip(1).map(|row| row.split(',').take(2).collect::<Vec<_>>().join(" ")).collect()
    };
    assert_eq!(steps("all"), ["1 8", "2 16"]);
    assert_eq!(steps("whole"), ["1 7", "2 14"]);
    assert_eq!(folder.manifest("all")["status"], "finished");
    let metrics = folder.text("runs/all/metrics.jsonl");
    let lines: Vec<serde_json::Value> = metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let steps: Vec<u64> = lines.iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [3, 6, 9, 12, 15, 16], "the last line is about what was left");
}

#[test]
fn without_validation_the_columns_are_empty_and_only_last_weights_exist() {
    let folder = Folder::new();
    let result = folder.train(&["--val-fraction", "0", "--set=data.val_fraction=0", "--epochs", "1", "--json"]);
    let result: serde_json::Value = serde_json::from_str(&result).unwrap();
    assert_eq!((&result["run"], &result["status"]), (&"runs/digits".into(), &"finished".into()));
    assert_eq!(result["val_acc"], serde_json::Value::Null);
    let results = folder.text("runs/digits/results.csv");
    let row: Vec<&str> = results.lines().nth(1).unwrap().split(',').collect();
    assert_eq!((row.len(), &row[4..7]), (8, &["", "", ""][..]));
    assert!(!folder.path("runs/digits/weights/best.safetensors").exists());
}

#[test]
fn a_small_model_memorises_a_few_images() {
    let folder = Folder::new();
    let args = ["--limit-train", "20", "--batch-size", "10", "--epochs", "100", "--lr", "3e-3", "--val-fraction", "0"];
    let args = [&args[..], &["--set=model.depth=1", "--set=model.embed_dim=32", "--json"]].concat();
    let output = folder.run(&args);
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let accuracy = result["train_acc"].as_f64().unwrap();
    assert!(accuracy > 0.9, "{accuracy}");
}

#[test]
fn best_weights_have_the_highest_accuracy_then_the_lowest_loss() {
    let folder = Folder::new();
    folder.train(&["--epochs", "7", "--lr", "1e-2", "--sched", "constant"]);
    let results = folder.text("runs/digits/results.csv");
    let rows = results.lines().skip(1).map(|row| row.split(',').map(|x| x.parse().unwrap()).collect::<Vec<f64>>());
    let best = rows.max_by(|a, b| a[5].total_cmp(&b[5]).then(b[4].total_cmp(&a[4]))).unwrap();
    let reached = &folder.manifest("digits")["results"];
    assert_eq!(reached["best_epoch"].as_f64(), Some(best[0]), "{results}");
    assert_eq!(reached["best_val_acc"].as_f64(), Some(best[5]));
    let epoch = |weights: &str| {
        let bytes = folder.read(&format!("runs/digits/weights/{weights}.safetensors"));
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        header.metadata().as_ref().unwrap()["vitreous.epoch"].clone()
    };
    assert_eq!((epoch("best"), epoch("last")), (best[0].to_string(), "7".to_string()));
}

#[test]
fn bad_input_gets_one_error_and_no_run() {
    let folder = Folder::new();
    let cases: [(&[&str], &str); 25] = [
        (
            &["--limit-train", "100", "--batch-size", "101"],
            "error: batch_size 101 is more than the 100 training images ([train])\n\
             hint: use --batch-size 100 or less\n",
        ),
        (
            &["--patch-size", "5"],
            "error: image_size 28 is not a multiple of patch_size 5 (--patch-size, [model])\n\
             hint: use --patch-size 4\n",
        ),
        (
            &["--set", "model.embed_dim=64", "--set", "model.num_heads=7"],
            "error: embed_dim 64 is not a multiple of num_heads 7 (--set, [model])\n\
             hint: use --set model.embed_dim=63, or --set model.num_heads=8\n",
        ),
        (
            &["--classes", "7"],
            "error: classes lists 1 class, and a classifier needs at least 2 (--classes, [data])\n\
             hint: use even, odd, names such as cat,dog, or numbers such as 0,2,4\n",
        ),
        (
            &["--classes", "1,10"],
            "error: classes lists `10`, which is not a class of the data (digits, [data])\n\
             hint: the classes are 0, 1, 2, 3, 4, 5, 6, 7, 8, 9\n",
        ),
        (
            &["--data", "cifar10", "--classes", "cat,dgo", "--data-dir", "nowhere"],
            "error: no such folder (nowhere)\n\
             hint: name another --data-dir, or download it: vitreous data fetch cifar10 --data-dir nowhere\n",
        ),
        (
            &["--data", "fashion-mnist", "--classes", "Dress,Coats", "--data-dir", "nowhere"],
            "error: classes lists `Coats`, which is not a class of the data (fashion-mnist, [data])\n\
             hint: did you mean `Coat`?\n",
        ),
        (&["--set", "model.dept=3"], "error: unknown key `dept` (--set, [model])\nhint: did you mean model.depth?\n"),
        (&["--preset", "mnist-vti"], "error: unknown preset `mnist-vti` (--preset)\nhint: did you mean `mnist-vit`?\n"),
        (
            &["--epochs", "many"],
            "error: epochs \"many\" is not a whole number (--epochs, [train])\n\
             hint: use --epochs 10\n",
        ),
        (
            &["--set", "train.opt=adamm"],
            "error: opt \"adamm\" is not one of adam, adamw, lion, muon, sgd (--set, [train])\nhint: use --opt adam\n",
        ),
        (
            &["--seed", "9223372036854775808"],
            "error: seed 9223372036854775808 is not at most 9223372036854775807 (--seed, [train])\n\
             hint: use --seed 42\n",
        ),
        (&["--lr", "-1"], "error: lr -1 is not above 0 (--lr, [train])\nhint: use --lr 0.001\n"),
        (&["--name", "a/b"], "error: invalid run name `a/b` (--name)\n"),
        (&["--data", "mnits"], "error: no data set or folder has the name `mnits`\nhint: did you mean mnist?\n"),
        (
            &["--data", "mnist", "--data-dir", "."],
            "error: mnist needs the file train-images-idx3-ubyte.gz (looked in ./mnist, ",
        ),
        (&["--preset", "photos"], "error: the preset needs a folder of images\nhint: name it with --data FOLDER\n"),
        (
            &["--model", "vit-tiny"],
            "error: image_size 28 is not a multiple of patch_size 16 (--model, [model])\n\
             hint: use --patch-size 14\n",
        ),
        (
            &["--epochs", "1", "--warmup-epochs", "2"],
            "error: warmup_epochs 2 is more than epochs 1 (--warmup-epochs, [train])\n\
             hint: use --warmup-epochs 0 for no warm-up\n",
        ),
        (
            &["--lr", "1e99"],
            "error: lr 1e99 is not at most 3.4e38, the largest 32-bit float (--lr, [train])\nhint: use --lr 0.001\n",
        ),
        (
            &["--img-size", "32"],
            "error: image_size 32 does not apply to digits, whose images have a fixed shape (--image-size, [data])\n\
             hint: leave out --image-size\n",
        ),
        // What another argument or the preset wrote has no flag to leave out.
        (&["--set", "train.clip_grad=0"], "error: clip_grad 0 is not "),
        (&["--preset", "photos", "--set", "data.name=mnist"], "error: image_size 64 does not apply to mnist"),
        (&["--set", "model.embed_dim=32768", "--set", "model.depth=50"], "error: training needs "),
        (
            &["--set", "model.embed_dim=32768", "--set", "model.depth=1000"],
            "error: all parameters together have too many values (",
        ),
    ];
    for (args, expected) in cases {
        let text = folder.refused(args);
        let whole = expected.ends_with('\n') && expected.contains("hint: ");
        assert!(if whole { text == expected } else { text.starts_with(expected) }, "{args:?}: {text}");
    }
    assert!(!folder.path("runs").exists());
}

#[test]
fn the_next_steps_can_be_pasted() {
    let folder = Folder::new();
    let said = folder.train(&["--max-steps", "1", "--name", "my run"]);
    assert!(said.contains("next: vitreous evaluate 'runs/my run'\n"), "{said}");
    assert!(said.contains("      vitreous predict IMAGE --run 'runs/my run'\n"), "{said}");
    assert!(said.ends_with("      vitreous report 'runs/my run'\n"), "{said}");
}

#[test]
fn quiet_prints_only_errors_to_stderr_and_verbose_prints_details() {
    let folder = Folder::new();
    let run = |args: &[&str]| crate::common::text(&crate::common::vitreous(folder.root(), args).stderr);
    let quiet = crate::common::vitreous(folder.root(), &["train", "-q", "--max-steps=1", "--epochs=1"]);
    assert_eq!(crate::common::text(&quiet.stderr), "");
    // The result alone, without where it is and what can be done with it.
    let result = crate::common::text(&quiet.stdout);
    assert!(result.starts_with("stopped after step 1 ") && !result.contains("runs/"), "{result}");
    assert_ne!(run(&["train", "--max-steps=1", "--epochs=1"]), "");
    assert_eq!(run(&["train", "-q", "--max-steps=2", "--set=train.log_interval=1"]), "");
    let error = run(&["train", "--quiet", "--lr=0"]);
    assert_eq!(error, "error: lr 0 is not above 0 (--lr, [train])\nhint: use --lr 0.001\n");
    // With --json, a program reads stderr: it gets an error as one object, or nothing.
    assert_eq!(run(&["train", "--json", "--max-steps=1", "--epochs=1"]), "");
    let details = run(&[&["train", "-v", "--epochs=1", "--name=details"], &SMALL[..]].concat());
    for start in [
        "config: preset digits\n",
        "config: train.epochs 16, now 1 (--epochs)\n",
        "digits: listed and checked in ",
        "digits: 257 images loaded in ",
        "  training 0.",
        "runs/details/weights/last.safetensors: ",
    ] {
        assert!(details.contains(start), "{start} in {details}");
    }
    let lines = details.lines().filter(|line| line.contains(", instruction set ") || line.contains(", validation 0."));
    assert_eq!(lines.count(), 2, "{details}");
    let details = run(&["evaluate", "details", "-v"]);
    assert!(details.contains("weights of epoch 1, step 8\ndigits: 4,000 test images loaded in "), "{details}");
}

#[test]
fn a_misspelled_flag_gets_a_suggestion() {
    let folder = Folder::new();
    let text = folder.refused(&["--epoch", "3"]);
    assert_eq!(text, "error: unknown argument --epoch\nhint: did you mean --epochs?\n");
    let text = folder.refused(&["--depth", "4"]);
    assert_eq!(text, "error: unknown argument --depth\nhint: use --set model.depth=4\n");
    let text = folder.refused(&["--opt", "lyon"]);
    assert_eq!(text, "error: invalid value `lyon` (--opt)\nhint: did you mean lion?\n");
    // With --json, these are objects too.
    let error = |args: &[&str]| -> serde_json::Value {
        let all: serde_json::Value = serde_json::from_str(&folder.refused(args)).expect("JSON");
        serde_json::json!([all["error"]["what"], all["error"]["suggestion"]["text"], all["error"]["status"]])
    };
    let expected = serde_json::json!(["unknown argument --epoch", "did you mean --epochs?", 2]);
    assert_eq!(error(&["--json", "--epoch", "3"]), expected);
    let expected = serde_json::json!(["invalid value `lyon` (--opt)", "did you mean lion?", 2]);
    assert_eq!(error(&["--opt", "lyon", "--json"]), expected);
}

#[test]
fn a_taken_name_and_a_file_in_the_way_are_refused() {
    let folder = Folder::new();
    folder.train(&["--name", "mine", "--max-steps", "1"]);
    let text = folder.refused(&["--name", "mine"]);
    assert_eq!(
        text,
        "error: a run named `mine` exists (runs/mine)\n\
         hint: choose another --name, or leave it out for the next free one\n"
    );
    fs::write(folder.path("file"), "").unwrap();
    let text = folder.refused(&["--out", "file"]);
    assert_eq!(
        text,
        "error: cannot write: a file is in the way (file)\n\
         hint: choose another folder with --out, or move that file away\n"
    );
}

#[cfg(unix)]
#[test]
fn an_unwritable_folder_is_refused() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    let folder = Folder::new();
    fs::create_dir(folder.path("locked")).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_vitreous"));
    if fs::metadata(folder.root()).unwrap().uid() == 0 {
        // Root may write anywhere, so another user runs a copy of the program that this user can reach.
        let program = folder.path("vitreous");
        fs::copy(env!("CARGO_BIN_EXE_vitreous"), &program).unwrap();
        fs::set_permissions(folder.root(), fs::Permissions::from_mode(0o755)).unwrap();
        command = std::process::Command::new(program);
        command.uid(65534).gid(65534);
    }
    fs::set_permissions(folder.path("locked"), fs::Permissions::from_mode(0o555)).unwrap();
    let output = command.current_dir(folder.root()).arg("train").args(SMALL).args(["--out", "locked/runs"]).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "error: cannot write: permission denied (locked/runs)\n\
         hint: choose another folder with --out, or let this user write there\n"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn an_unwritable_folder_is_refused_before_images_are_read() {
    let folder = Folder::new();
    write_photos(&folder);
    // Would be an error of its own as soon as it is decoded.
    fs::write(folder.path("photos/bee/3.png"), "no picture").unwrap();
    let text = folder.refused(&["--data", "photos", "--batch-size", "8", "--out", "/proc/self/runs"]);
    assert!(text.starts_with("error: cannot write: "), "{text}");
    assert!(text.contains("(/proc/self/runs)\nhint: choose another folder with --out"), "{text}");
    let text = folder.refused(&["--data", "photos", "--batch-size", "8", "--name", &"a".repeat(256)]);
    assert!(text.contains("error: invalid run name `aaa") && text.contains("` (--name)\n"), "{text}");
}

#[test]
fn data_dir_from_flag_or_config_overrides_the_environment() {
    let folder = Folder::new();
    fs::write(folder.path("mine.toml"), "[data]\nname = \"mnist\"\ndir = \"configured\"\n").unwrap();
    ["flagged", "configured", "everywhere"].iter().for_each(|dir| fs::create_dir(folder.path(dir)).unwrap());
    let looked_in = |args: &[&str]| {
        let mut command = Command::cargo_bin("vitreous").unwrap();
        command.current_dir(folder.root()).env("VITREOUS_DATA_DIR", "everywhere").arg("train").args(args);
        let text = String::from_utf8(command.output().unwrap().stderr).unwrap();
        ["flagged", "configured", "everywhere"].map(|dir| text.contains(&format!("(looked in {dir}")))
    };
    assert_eq!(looked_in(&["--data", "mnist"]), [false, false, true]);
    assert_eq!(looked_in(&["--config", "mine.toml"]), [false, true, false]);
    assert_eq!(looked_in(&["--config", "mine.toml", "--data-dir", "flagged"]), [true, false, false]);
}

#[test]
fn training_continues_without_stdout_and_stops_without_stderr() {
    use std::process::{Command, Stdio};
    let folder = Folder::new();
    let train = |name| {
        Command::new(env!("CARGO_BIN_EXE_vitreous"))
            .current_dir(folder.root())
            .env("VITREOUS_NO_PLOTS", "1")
            .args([&["train", "--epochs", "2", "--name", name][..], &SMALL].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    // As `train | head` does.
    let mut child = train("without-stdout");
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("stdout is closed; the result is in runs/without-stdout/manifest.json"), "{text}");
    assert_eq!(folder.manifest("without-stdout")["status"], "finished");
    // As `train 2>&1 | head` does.
    let mut child = train("without-stderr");
    drop((child.stdout.take(), child.stderr.take()));
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(folder.manifest("without-stderr")["status"], "interrupted");
    folder.train(&["--resume", "without-stderr"]);
    assert_eq!(folder.manifest("without-stderr")["status"], "finished");
}

#[test]
fn a_nonfinite_last_step_fails_and_leaves_no_unusable_weights() {
    let folder = Folder::new();
    for (name, rest) in [("seen", &["--lr", "1e38"][..]), ("unseen", &["--lr", "3e38", "--set=data.val_fraction=0"])] {
        let args = ["--warmup-epochs", "0", "--max-steps", "1", "--name", name];
        let output = folder.run(&[&SMALL[..], &args, rest].concat());
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(" after step 1 (") && text.contains("hint: use a smaller --lr than "), "{text}");
        assert_eq!(folder.manifest(name)["status"], "failed");
        assert_eq!(folder.list(&format!("runs/{name}/weights")), [""; 0]);
    }
}

#[test]
fn a_nan_loss_ends_the_run_and_names_step_and_learning_rate() {
    let folder = Folder::new();
    let args = ["--lr", "1e30", "--warmup-epochs", "0", "--sched", "constant", "--epochs", "3"];
    let output = folder.run(&[&SMALL[..], &args].concat());
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("learning rate 1e30)"), "{text}");
    assert!(text.contains("hint: use a smaller --lr than "), "{text}");
    assert_eq!(folder.manifest("digits")["status"], "failed");
    let taken = folder.refused(&["--name", "digits"]);
    let expected = "error: a run named `digits` exists (runs/digits)\n\
                    hint: that run failed: remove runs/digits, or choose another --name\n";
    assert_eq!(taken, expected);
}
