//! `vitreous sweep` end to end: grids and lists, interrupted and resumed, refused if something is wrong.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::common::{manifest, text};

/// Trainings of well under a second each.
const SMALL: [&str; 8] = [
    "--limit-train=97",
    "--batch-size=13",
    "--set=data.val_fraction=0.01",
    "--set=model.depth=1",
    "--set=model.embed_dim=16",
    "--set=model.num_heads=1",
    "--epochs=1",
    "--classes=even",
];

/// Runs a small sweep.
fn sweep(folder: &Path, arguments: &[&str]) -> Output {
    crate::common::vitreous(folder, &[&["sweep"], arguments, &SMALL].concat())
}

/// Runs a small sweep, which must succeed.
fn swept(folder: &Path, arguments: &[&str]) -> Output {
    let output = sweep(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    output
}

fn refused(folder: &Path, arguments: &[&str]) -> String {
    crate::common::refused(folder, &[&["sweep"], arguments, &SMALL].concat())
}

fn rows(output: &Output) -> Vec<Value> {
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    json["rows"].as_array().unwrap().clone()
}

#[test]
fn a_grid_over_seeds_runs_once_and_is_reported() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let grid = ["--set-each=train.lr=1e-3,1e-5", "--seeds=42,7", "--evaluate=train", "--name=g", "--json"];
    let output = swept(folder, &grid[..4]);
    let note = "note: the warm-up takes the whole run, 1 epoch\n";
    assert_eq!(text(&output.stderr).matches(note).count(), 1, "of four runs");
    let output = swept(folder, &grid);
    assert_eq!(text(&output.stderr), "", "with --json, stderr is for an error");
    let found = rows(&output);
    assert_eq!(found.iter().map(|row| row["run"].as_str().unwrap()).collect::<Vec<_>>(), ["lr=1e-3", "lr=1e-5"]);
    assert!(found.iter().all(|row| row["seeds"] == serde_json::json!([42, 7]) && row["test_acc"].is_null()));
    assert!(found.iter().all(|row| row["train_acc_measured"] == true && row["val_acc"]["n"] == 2));
    for run in ["lr=1e-3", "lr=1e-3_seed=7", "lr=1e-5", "lr=1e-5_seed=7"] {
        let manifest = manifest(folder, &format!("g/{run}"));
        assert_eq!((&manifest["status"], &manifest["test_evaluations"]), (&"finished".into(), &0.into()));
        assert_eq!(manifest["data"]["class_names"], serde_json::json!(["0", "2", "4", "6", "8"]));
    }
    let analysis = fs::read_to_string(folder.join("runs/g/analysis.md")).unwrap();
    assert!(analysis.starts_with("# Sweep g\n\nMade by `vitreous sweep --set-each=train.lr=1e-3,1e-5 "), "{analysis}");
    assert!(
        analysis.contains("\n## `lr=1e-5`\n\n- Changed: `train.lr` 0.001 → 1e-5.\n- Validation accuracy: "),
        "{analysis}"
    );
    assert!(analysis.contains("): seeds of one setting have a standard deviation of "), "{analysis}");

    // Once more: nothing is trained or measured again, and a further seed alone is added.
    let started = |run: &str| manifest(folder, run)["results"]["seconds"].clone();
    let before = started("g/lr=1e-5");
    let more = ["--set-each=train.lr=1e-3,1e-5", "--seeds=42,7,3", "--evaluate=train", "--name=g", "--json"];
    let output = swept(folder, &more[..4]);
    assert!(text(&output.stderr).starts_with("sweep g: 6 runs, 4 of them done before, "), "{}", text(&output.stderr));
    let output = swept(folder, &more);
    assert_eq!((started("g/lr=1e-5"), &manifest(folder, "g/lr=1e-5")["test_evaluations"]), (before, &0.into()));
    assert!(rows(&output).iter().all(|row| row["val_acc"]["n"] == 3));
}

#[test]
fn an_extended_sweep_keeps_its_earlier_analysis() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let analysis = |name: &str| fs::read_to_string(folder.join("runs/x").join(name)).ok();
    swept(folder, &["--seeds=1,2", "--name=x"]);
    let first = analysis("analysis.md").expect("it is written");
    // The same sweep again changes nothing.
    swept(folder, &["--seeds=1,2", "--name=x"]);
    assert_eq!((analysis("analysis.md").as_ref(), analysis("analysis-earlier.md")), (Some(&first), None));
    let output = swept(folder, &["--seeds=1,2,3", "--name=x"]);
    let note = "note: the earlier analysis differs and was moved to runs/x/analysis-earlier.md\n";
    assert!(text(&output.stderr).contains(note), "{}", text(&output.stderr));
    assert_eq!(analysis("analysis-earlier.md").as_ref(), Some(&first));
    assert_ne!(analysis("analysis.md").as_ref(), Some(&first));
}

#[test]
fn stopped_runs_resume_and_other_folders_are_left_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let grid = ["--set-each=train.lr=1e-3,1e-4,1e-5", "--name=g"];
    swept(folder, &grid);
    let weights = |run: &str| fs::read(folder.join(format!("runs/g/{run}/weights/last.safetensors"))).unwrap();
    let first = weights("lr=1e-4");
    // Killed before its manifest told the end; killed before its manifest was written.
    let mut killed = manifest(folder, "g/lr=1e-4");
    killed["status"] = "running".into();
    killed["results"] = Value::Null;
    fs::write(folder.join("runs/g/lr=1e-4/manifest.json"), killed.to_string()).unwrap();
    fs::remove_dir_all(folder.join("runs/g/lr=1e-5")).unwrap();
    fs::create_dir_all(folder.join("runs/g/lr=1e-5/weights")).unwrap();
    let list = text(&swept(folder, &[&grid[..], &["--list"]].concat()).stdout);
    let states: Vec<Vec<&str>> = list
        .lines()
        .skip(1)
        .map(|line| line.split("  ").filter(|cell| !cell.is_empty()).map(str::trim).collect())
        .collect();
    assert_eq!(
        states,
        [
            vec!["lr=1e-3", "done"],
            vec!["lr=1e-4", "to resume", "train.lr 1e-4"],
            vec!["lr=1e-5", "to restart", "train.lr 1e-5"]
        ]
    );
    let listed = text(&swept(folder, &[&grid[..], &["--list", "--json"]].concat()).stdout);
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    let second = serde_json::json!({"run": "lr=1e-4", "state": "to resume", "changes": {"train.lr": 1e-4}});
    assert_eq!((listed["runs"].as_array().map(Vec::len), &listed["runs"][1]), (Some(3), &second));
    // What may differ in a run that resumes is recorded.
    let output = swept(folder, &[&grid[..], &["--log-interval=7"]].concat());
    assert!(text(&output.stderr).starts_with("sweep g: 3 runs, 1 of them done before, "), "{}", text(&output.stderr));
    assert!(weights("lr=1e-4") == first && manifest(folder, "g/lr=1e-5")["status"] == "finished");
    let resumed = &manifest(folder, "g/lr=1e-4")["resumed"][0]["changes"];
    assert_eq!(*resumed, serde_json::json!(["train.log_interval 100, now 7"]));
    // Killed when nothing but the folder was made, or the claim on it.
    for (run, claim) in [("lr=1e-4", false), ("lr=1e-5", true)] {
        let run = folder.join("runs/g").join(run);
        fs::remove_dir_all(&run).unwrap();
        fs::create_dir(&run).unwrap();
        if claim {
            fs::write(run.join(".lock"), "77\n").unwrap();
        }
    }
    swept(folder, &grid);
    assert!(weights("lr=1e-4") == first && manifest(folder, "g/lr=1e-5")["status"] == "finished");

    let other = refused(folder, &["--set-each=train.lr=1e-3,1e-4", "--name=g", "--weight-decay=0.5"]);
    let expected = "error: the run was made with other settings: train.weight_decay 0.05, now 0.5 (runs/g/lr=1e-3)\n\
                    hint: repeat the arguments it was made with (see analysis.md), choose another --name, or remove runs/g/lr=1e-3\n";
    assert_eq!(other, expected);
    fs::create_dir_all(folder.join("runs/g/lr=1/diary")).unwrap();
    let way = refused(folder, &["--set-each=train.lr=1", "--name=g"]);
    assert!(way.starts_with("error: the run folder exists but is not a run (runs/g/lr=1)\n"), "{way}");
}

#[test]
fn parallel_sweep_runs_equal_single_runs_bit_for_bit() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let file = "preset = 'digits'\nset = ['train.weight_decay=0.25']\nevaluate = []\n\
                [[run]]\nname = 'plain'\nwhy = 'To begin with.'\n\
                [[run]]\nname = 'relu'\nwhy = 'It is cheaper.'\nset = ['model.activation=relu']\n\
                [[run]]\nname = 'wild'\nset = ['train.lr=1e30', 'train.warmup_epochs=0', 'train.sched=constant']\n";
    fs::write(folder.join("mine.toml"), file).unwrap();
    let output = sweep(folder, &["mine.toml", "--jobs=2", "--threads=2"]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("sweep mine: 3 runs, 2 side by side, each on 1 thread, into runs/mine\n"), "{stderr}");
    assert!(
        stderr.contains("\nrelu: epoch 1/1  loss ") && stderr.contains("run wild failed; the sweep continues\n"),
        "{stderr}"
    );
    assert!(
        stderr.ends_with("error: 1 of 3 runs have failed\n") && stderr.contains("\nhint: use a smaller --lr "),
        "{stderr}"
    );
    let table = text(&output.stdout);
    assert!(table.contains("\nleft out\n  runs/mine/wild: it stopped with an error after step "), "{table}");
    let analysis = fs::read_to_string(folder.join("runs/mine/analysis.md")).unwrap();
    assert!(analysis.contains("Without a finished run, and left out: `wild`.\n"), "{analysis}");
    assert!(
        analysis.contains(
            "## `relu`\n\nIt is cheaper.\n\n- Changed: `model.activation` gelu → relu.\n- Validation accuracy: "
        ),
        "{analysis}"
    );
    assert!(
        analysis.contains("Each setting has one seed, ") && analysis.contains("2 runs shared the machine at a time, "),
        "{analysis}"
    );

    let alone = ["train", "--set=train.weight_decay=0.25", "--set=model.activation=relu", "--name=alone"];
    crate::common::said(folder, &[&alone[..], &SMALL].concat());
    let weights = |run: &str| fs::read(folder.join(format!("runs/{run}/weights/last.safetensors"))).unwrap();
    assert!(weights("alone") == weights("mine/relu"));
}

#[test]
fn jobs_share_the_threads_from_flag_or_config() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let output = swept(folder, &["--seeds=1,2", "--jobs=2", "--set=train.threads=6", "--name=six", "--evaluate=val"]);
    let first = "sweep six: 2 runs, 2 side by side, each on 3 threads, into runs/six\n";
    assert!(text(&output.stderr).starts_with(first), "{}", text(&output.stderr));
    assert_eq!(manifest(folder, "six/base_seed=2")["machine"]["threads"], 3);
    assert_eq!(manifest(folder, "six/base_seed=2")["evaluations"][0]["split"], "validation");

    let output = swept(folder, &["--seeds=1,2", "--set=train.threads=1", "--name=one", "--evaluate=validation"]);
    let first = "sweep one: 2 runs, on 1 thread, into runs/one\n";
    assert!(text(&output.stderr).starts_with(first), "{}", text(&output.stderr));
    assert_eq!(manifest(folder, "one/base_seed=2")["evaluations"][0]["split"], "validation");
    let few = refused(folder, &["--seeds=1,2", "--set=train.threads=1", "--jobs=2", "--name=few"]);
    assert!(few.starts_with("error: jobs 2 is not between 1 and 1, the number of threads (--jobs)\n"), "{few}");
}

#[test]
fn failures_are_reported_even_if_the_analysis_cannot_be_written() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    fs::create_dir_all(folder.join("runs/s/analysis.md/in/the/way")).unwrap();
    let wild = ["--set-each=train.lr=1e-3,1e30", "--set=train.sched=constant", "--warmup-epochs=0", "--name=s"];
    let output = sweep(folder, &wild);
    let stderr = text(&output.stderr);
    let told = stderr.find("\nrun lr=1e30:\nerror: ").expect(&stderr);
    assert!(stderr[told..].contains("\nhint: use a smaller --lr than "), "{stderr}");
    assert!(stderr[told..].contains("\nerror: cannot write: "), "{stderr}");
    assert_eq!(output.status.code(), Some(2), "{stderr}");
}

#[test]
fn a_sweep_with_an_adjusted_batch_size_resumes() {
    let folder = crate::common::Folder::new();
    crate::common::write_photos(&folder);
    for broken in ["ant/2", "bee/3", "cow/7"] {
        fs::write(folder.path(&format!("photos/{broken}.png")), "no picture").unwrap();
    }
    let sweep = |more: &[&str]| {
        let args = ["sweep", "--data=photos", "--skip-bad-images", "--seeds=1,2", "--name=s", "--epochs=1"];
        crate::common::vitreous(folder.root(), &[&args[..], &["--set=model.depth=1", "--evaluate=val"], more].concat())
    };
    let first = sweep(&[]);
    assert!(first.status.success(), "{}", text(&first.stderr));
    let batch = folder.manifest("s/base_seed=1")["data"]["train"].as_u64().unwrap();
    let config = folder.text("runs/s/base_seed=1/config.toml");
    assert!(batch < 26 && config.contains(&format!("batch_size = {batch}\n")), "{batch}: {config}");
    let again = text(&sweep(&[]).stderr);
    assert!(again.starts_with("sweep s: 2 runs, 2 of them done before, "), "{again}");
    // What was chosen is still compared.
    let other = text(&sweep(&["--batch-size=5"]).stderr);
    let expected = format!("error: the run was made with other settings: train.batch_size {batch}, now 5 (");
    assert!(other.starts_with(&expected), "{other}");
}

#[cfg(target_os = "linux")]
#[test]
fn runs_that_do_not_fit_into_memory_together_do_not_run_in_parallel() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let list = |depth: u64, jobs: &str| {
        let depth = format!("--set=model.depth={depth}");
        let wide = ["--seeds=1,2", "--threads=2", "--list", "--set=model.embed_dim=2048", &depth, jobs];
        crate::common::vitreous(folder.path(), &[&["sweep"], &SMALL[..], &wide].concat())
    };
    // Memory grows with the depth: 0.7 of what there is fits once.
    let deepest = list(1000, "--jobs=1");
    if deepest.status.success() {
        // Of 800 GB and more nothing can be said: that is the largest model.
        return;
    }
    let refused = text(&deepest.stderr);
    let bytes = |before: &str| -> f64 {
        let words: Vec<&str> = refused.split(before).nth(1).expect(&refused).split([' ', '\n']).take(2).collect();
        let unit = match words[1] {
            "MB" => 1e6,
            "GB" => 1e9,
            "TB" => 1e12,
            other => panic!("{other}: {refused}"),
        };
        words[0].parse::<f64>().expect(&refused) * unit
    };
    let depth = 0.7 * bytes(", but ") / (bytes("training needs ") / 1000.0);
    assert!(depth >= 1.0, "{refused}");
    let one = list(depth as u64, "--jobs=1");
    assert!(one.status.success(), "{}", text(&one.stderr));
    let two = text(&list(depth as u64, "--jobs=2").stderr);
    assert!(two.starts_with("error: training side by side needs "), "{two}");
    assert!(two.ends_with("\nhint: use fewer --jobs, or end other programs\n"), "{two}");
}

#[test]
fn a_sweep_is_not_written_into_a_run_folder() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    crate::common::said(folder, &[&["train", "--name=a"], &SMALL[..]].concat());
    let entries = || fs::read_dir(folder.join("runs/a")).unwrap().count();
    let before = entries();
    let text = refused(folder, &["--seeds=1,2", "--name=a"]);
    let expected = "error: the sweep's folder is a run (runs/a)\n\
                    hint: choose another --name for this sweep\n";
    assert_eq!((text.as_str(), entries()), (expected, before));
}

#[cfg(target_os = "linux")]
#[test]
fn non_unicode_arguments_do_not_end_a_sweep() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::process::Command;
    let folder = tempfile::tempdir().unwrap();
    let out = OsStr::from_bytes(b"r\xff");
    let mut sweep = Command::new(env!("CARGO_BIN_EXE_vitreous"));
    sweep.current_dir(folder.path()).args(["sweep", "--seeds=1,2", "--name=s", "--out"]).arg(out).args(SMALL);
    let output = sweep.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let sweep = folder.path().join(out).join("s");
    let analysis = fs::read_to_string(sweep.join("analysis.md")).unwrap();
    assert!(analysis.contains("Made by `vitreous sweep --seeds=1,2 --name=s --out r\u{fffd} "), "{analysis}");
    let manifest = fs::read_to_string(sweep.join("base_seed=2/manifest.json")).unwrap();
    assert!(manifest.contains("\"r\u{fffd}\""), "{manifest}");
}

#[cfg(unix)]
#[test]
fn an_interrupted_sweep_resumes() {
    use std::process::{Command, Stdio};
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let file = "preset = 'digits'\n[[run]]\nname = 'short'\n[[run]]\nname = 'long'\nset = ['train.epochs=100']\n\
                [[run]]\nname = 'last'\n";
    fs::write(folder.join("s.toml"), file).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_vitreous"))
        .current_dir(folder)
        .env("VITREOUS_NO_PLOTS", "1")
        .args(["sweep", "s.toml"])
        .args(SMALL)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The heading and an epoch.
    let results = folder.join("runs/s/long/results.csv");
    while fs::read_to_string(&results).map_or(0, |text| text.lines().count()) < 2 {
        assert!(child.try_wait().unwrap().is_none(), "the sweep ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let signal = |name: &str| Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap();
    // It sleeps while another process finds the sweep locked.
    signal("STOP");
    let busy = sweep(folder, &["s.toml"]);
    let expected = format!("error: process {} trains in this folder (runs/s)\n", child.id());
    signal("INT");
    signal("CONT");
    let output = child.wait_with_output().unwrap();
    assert!(text(&busy.stderr).starts_with(&expected), "{}", text(&busy.stderr));
    assert_eq!((busy.status.code(), output.status.code()), (Some(2), Some(130)));
    assert_eq!(text(&output.stdout), "interrupted: 1 of 3 runs are done; the same command resumes the sweep\n");
    let stopped = manifest(folder, "s/long");
    assert_eq!(stopped["status"], "interrupted");
    assert!(!folder.join("runs/s/last").exists());
    let first_line = || {
        let timing = fs::read_to_string(folder.join("runs/s/long/timing.jsonl")).unwrap();
        timing.lines().next().unwrap().to_string()
    };
    let began = first_line();

    let output = swept(folder, &["s.toml"]);
    assert!(text(&output.stderr).starts_with("sweep s: 3 runs, 1 of them done before, "), "{}", text(&output.stderr));
    assert!(["short", "long", "last"].iter().all(|run| manifest(folder, &format!("s/{run}"))["status"] == "finished"));
    // The interrupted run ends with the same weights as in an uninterrupted sweep.
    swept(folder, &["s.toml", "--name=whole"]);
    let steps = |manifest: &Value| manifest["results"]["steps"].as_u64().unwrap();
    let (step, end) = (steps(&stopped), steps(&manifest(folder, "whole/long")));
    assert!(0 < step && step < end, "{step} of {end}");
    assert_eq!(manifest(folder, "s/long")["resumed"][0]["from_step"], step);
    assert_eq!(first_line(), began, "it began anew");
    for file in ["results.csv", "ledger.csv", "metrics.jsonl", "weights/last.safetensors", "weights/best.safetensors"] {
        let read = |sweep: &str| fs::read(folder.join(format!("runs/{sweep}/long/{file}"))).unwrap();
        assert!(read("s") == read("whole"), "{file}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_sweep_sees_what_another_process_did_before_releasing_it() {
    use std::process::{Command, Stdio};
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    swept(folder, &["--seeds=1,2", "--name=other"]);
    let lock = folder.join("runs/s/.lock");
    fs::create_dir(folder.join("runs/s")).unwrap();
    let claim = fs::File::create(&lock).unwrap();
    claim.lock().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_vitreous"))
        .current_dir(folder)
        .env("VITREOUS_NO_PLOTS", "1")
        .args(["sweep", "--seeds=1,2", "--name=s"])
        .args(SMALL)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It waits for the claim as soon as it has opened the file.
    let files = format!("/proc/{}/fd", child.id());
    let is_open = |file: fs::DirEntry| fs::read_link(file.path()).is_ok_and(|path| path.ends_with("runs/s/.lock"));
    while !fs::read_dir(&files).is_ok_and(|mut open| open.any(|file| file.is_ok_and(is_open))) {
        assert!(child.try_wait().unwrap().is_none(), "the sweep ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    for run in ["base_seed=1", "base_seed=2"] {
        fs::rename(folder.join("runs/other").join(run), folder.join("runs/s").join(run)).unwrap();
    }
    drop(claim);
    let output = child.wait_with_output().unwrap();
    let stderr = text(&output.stderr);
    assert!(output.status.success() && stderr.starts_with("sweep s: 2 runs, 2 of them done before, "), "{stderr}");
}

#[test]
fn bad_sweeps_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    fs::write(folder.join("bad.toml"), "preset = 'digits'\n[[run]]\nname = 'a'\nsets = []\n").unwrap();
    fs::write(folder.join("blanks.toml"), "preset = 'digits'\n[[run]]\nname = ' a'\n").unwrap();
    fs::write(
        folder.join("worse.toml"),
        "preset = 'digits'\n[[run]]\nname = 'a'\n[[run]]\nname = 'b'\nset = ['model.num_heads=7']\n",
    )
    .unwrap();
    fs::write(folder.join("same.toml"), "[[run]]\nname = 'a'\nseeds = [7]\n[[run]]\nname = 'a_seed=7'\n").unwrap();
    fs::write(folder.join("blank.toml"), "each = ['train.lr=1e-3,1e-4']\nreproduces = ' '\n").unwrap();
    // 250 bytes: valid as a name, too long with a seed appended.
    let name = format!("lr=0.001{}", "0".repeat(242));
    let (long, too_long) =
        (format!("--set-each=train.{name}"), format!("error: invalid run name `{name}_seed=7` (--seeds)\n"));
    let cases: [(&[&str], &str); 15] = [
        (
            &[],
            "error: the sweep varies nothing\nhint: name a sweep, vary a key with --set-each train.lr=1e-3,3e-4, or repeat with --seeds 1,2,3\n",
        ),
        (&["fasion"], "error: no sweep or file is called `fasion`\nhint: did you mean `fashion`?\n"),
        (&["bad.toml"], "error: unknown key `sets` (bad.toml, line 4)\n"),
        (&["worse.toml"], "error: embed_dim 16 is not a multiple of num_heads 7 (run b, [model])\n"),
        (
            &["worse.toml", "--preset=photos"],
            "error: the sweep's file says where its runs start (--preset, --config, --model)\n",
        ),
        (&["--set-each=train.lr=1e-3,-1"], "error: lr -1 is not above 0 (run lr=-1, [train])\n"),
        (
            &["--set-each=model.dept=1,2"],
            "error: unknown key `dept` (run dept=1, [model])\nhint: did you mean depth?\n",
        ),
        (
            &["--seeds=1,2", "--jobs=3", "--threads=2"],
            "error: jobs 3 is not between 1 and 2, the number of threads (--jobs)\nhint: use --jobs 2\n",
        ),
        (
            &["--set-each=model.dropout=0,0.1", "--dropout=0.2"],
            "error: every run of the sweep sets model.dropout itself, so --dropout would have no effect\n\
             hint: leave out --dropout, or give its value with --set-each model.dropout=...\n",
        ),
        (
            &["--seeds=1,2", "--seed=3"],
            "error: every run of the sweep sets train.seed itself, so --seed would have no effect\n\
             hint: leave out --seed, or give its value with --seeds\n",
        ),
        (&["--seeds=1,2", "--name=a "], "error: invalid run name `a ` (--name)\n"),
        (&["blank.toml"], "error: `reproduces` is empty (blank.toml)\nhint: name the published table, or remove "),
        (&["blanks.toml"], "error: invalid run name ` a` ([[run]])\n"),
        (&[&long, "--seeds=42,7"], &too_long),
        (&["same.toml"], "error: two runs of the sweep have the name `a_seed=7`\nhint: give each run its own name\n"),
    ];
    for (args, expected) in cases {
        let text = refused(folder, args);
        assert!(text.starts_with(expected), "{args:?}: {text}");
    }
    assert!(!folder.join("runs").exists());
}

#[test]
fn a_run_in_a_sweep_file_may_have_its_own_seeds() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let file = "[[run]]\nname = 'base'\nseeds = [42, 1, 2]\n[[run]]\nname = 'low'\nset = ['train.lr=1e-5']\n";
    fs::write(folder.join("own.toml"), file).unwrap();
    let listed = |more: &[&str]| text(&swept(folder, &[&["own.toml", "--list"], more].concat()).stdout);
    let names = |list: &str| list.lines().skip(1).map(|line| line.split(' ').next().unwrap().to_string()).collect();
    let own: Vec<String> = names(&listed(&[]));
    assert_eq!(own, ["base", "base_seed=1", "base_seed=2", "low"]);
    let told: Vec<String> = names(&listed(&["--seeds=7"]));
    assert_eq!(told, ["base_seed=7", "low_seed=7"], "flags apply to all settings");
    swept(folder, &["own.toml"]);
    let analysis = fs::read_to_string(folder.join("runs/own/analysis.md")).unwrap();
    assert!(analysis.contains("(mean of 3 seeds, ") && analysis.contains("): seeds of one setting have"), "{analysis}");
}
