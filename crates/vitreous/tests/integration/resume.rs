//! Interrupted and killed runs that resume end with the same bytes as uninterrupted ones, for any number of threads.
//!
//! Thread invariance and kill-and-resume are tested here for all kinds of models. Other tests need not repeat it; `verify`
//! tests its own verb, and CI runs that verb on real data.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use assert_cmd::cargo::CommandCargoExt;

use crate::common::{Folder, signal, text, vitreous, write_photos};
use vitreous::record::sha256_of_bytes;

/// Files that are equal in equal runs.
const FILES: [&str; 5] =
    ["results.csv", "ledger.csv", "metrics.jsonl", "weights/last.safetensors", "weights/best.safetensors"];

/// A training of a second at most.
const SMALL: [&str; 7] = [
    "train",
    "--limit-train=97",
    "--batch-size=13",
    "--set=train.epochs=3",
    "--set=data.val_fraction=0.01",
    "--set=model.embed_dim=16",
    "--log-interval=5",
];

/// A vision transformer with every source of randomness.
const VIT: [&str; 5] = [
    "--set=model.depth=2",
    "--drop=0.1",
    "--hflip=0.5",
    "--set=augment.rotation_degrees=10",
    "--set=augment.crop_padding=2",
];

fn run(folder: &Folder, arguments: &[&str]) -> Output {
    vitreous(folder.root(), arguments)
}

/// Runs the program, which must end with this status; returns stdout and stderr.
fn ends(folder: &Folder, status: i32, arguments: &[&str]) -> [String; 2] {
    let output = run(folder, arguments);
    let said = [text(&output.stdout), text(&output.stderr)];
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said:?}");
    said.map(|text| text.replace(&folder.root().display().to_string(), "HERE"))
}

/// Asserts that two runs have equal files; best weights may be missing in both.
fn assert_same(folder: &Folder, one: &str, other: &str, why: &str) {
    for file in FILES {
        let read = |run: &str| fs::read(folder.path(&format!("runs/{run}/{file}"))).ok();
        let (one, other) = (read(one), read(other));
        assert!(one.is_some() || file.contains("best"), "{file}");
        if one != other {
            let lines = |bytes: Option<Vec<u8>>| String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
            let [one, other] = [one, other].map(lines);
            let shown = if file.contains("weights") { "" } else { &format!("{one}\n{other}") };
            panic!("{why}: {file} differs\n{shown}");
        }
    }
}

#[test]
fn a_run_stopped_at_any_step_resumes_to_the_same_bytes_with_any_number_of_threads() {
    let folder = Folder::new();
    write_photos(&folder);
    // Batch norm statistics, momentum, accumulated gradients, EMA; weights kept in memory; the start of an epoch for
    // rollback; strips, which are drawn anew in each epoch.
    let stack = [
        "--data=photos",
        "--img-size=12",
        "--batch-size=5",
        "--set=model.kind=stack",
        r#"--set=model.layers=["conv 8", "batchnorm", "relu", "dropout 0.2", "globalpool", "linear classes"]"#,
        "--opt=sgd",
        "--grad-accum-steps=2",
        "--epochs=5",
        "--log-interval=2",
    ];
    let small = |more: &[&'static str]| [&SMALL[..], more].concat();
    let stack = [&["train"][..], &stack].concat();
    let reader =
        ["train", "--preset=read-digits", "--limit-train=53", "--batch-size=7", "--epochs=2", "--log-interval=3"];
    let reader = [&reader[..], &["--set=model.embed_dim=16", "--set=data.val_fraction=0.05"]].concat();
    let cases = [
        ("vit", small(&VIT)),
        ("lowest", small(&["--keep=lowest-train-loss", "--set=model.depth=1", "--model-ema-decay=0.7", "--opt=lion"])),
        // Its matrices have no second moment.
        (
            "muon",
            small(&[
                "--opt=muon",
                "--set=model.depth=1",
                "--model-ema-decay=0.7",
                "--clip-grad=0.5",
                "--on-nonfinite=rollback",
            ]),
        ),
        (
            "rollback",
            small(&[
                "--on-nonfinite=rollback",
                "--clip-grad=0.5",
                "--set=model.depth=1",
                "--opt=adam",
                "--model-ema-decay=0.8",
            ]),
        ),
        ("averaged", [&stack[..], &["--model-ema-decay=0.9"]].concat()),
        ("stack", stack),
        ("reader", reader),
    ];
    for (name, arguments) in cases {
        let named = |run: &str| [&arguments[..], &["--name", run]].concat().join("\u{1}");
        let words = |text: &str| text.split('\u{1}').map(str::to_string).collect::<Vec<_>>();
        let train = |status, text: &str, more: &[&str]| {
            let words = words(text);
            let words: Vec<&str> = words.iter().map(String::as_str).chain(more.iter().copied()).collect();
            ends(&folder, status, &words)
        };
        let whole = format!("{name}-whole");
        train(0, &named(&whole), &["--threads=1"]);
        // In the first epoch, at its last step, after it, and several times; each time with other numbers of threads.
        for (at, stops) in [[1, 4, 5].as_slice(), &[7, 8], &[2, 15], &[14]].into_iter().enumerate() {
            let run = format!("{name}-{at}");
            train(0, &named(&run), &["--max-steps", &stops[0].to_string(), "--threads=2"]);
            let path = format!("runs/{run}");
            for (turn, stop) in stops.iter().enumerate().skip(1) {
                let (stop, threads) = (stop.to_string(), (turn % 3 + 1).to_string());
                ends(&folder, 0, &["train", "--resume", &path, "--max-steps", &stop, "--threads", &threads]);
            }
            ends(&folder, 0, &["train", "--resume", &path, "--set=train.max_steps=", "--threads=3"]);
            assert_same(&folder, &whole, &run, &format!("{name} stopped at {stops:?}"));
        }
        let whole = folder.manifest(&whole);
        let pieces = folder.manifest(&format!("{name}-0"));
        assert_eq!(pieces["results"]["steps"], whole["results"]["steps"]);
        assert_eq!(pieces["results"]["best_val_acc"], whole["results"]["best_val_acc"]);
        assert_eq!(pieces["status"], "finished");
        let resumed = pieces["resumed"].as_array().unwrap();
        assert_eq!(resumed.iter().map(|piece| piece["from_step"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 4, 5]);
        assert_eq!(resumed[0]["changes"], serde_json::json!(["train.max_steps 1, now 4"]));
    }
}

/// Starts a long training.
fn start(folder: &Folder, arguments: &[&str]) -> Child {
    let mut command = std::process::Command::cargo_bin("vitreous").unwrap();
    let long = ["--name=long", "--epochs=2000", "--set=model.depth=1", "--threads=1"];
    command.current_dir(folder.root()).args(SMALL).args(long).args(arguments).stdout(Stdio::piped());
    command.stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until this many checkpoints were saved; old ones are removed.
fn wait_for_states(folder: &Folder, count: u64) {
    let start = Instant::now();
    let number = |entry: fs::DirEntry| entry.path().file_stem()?.to_str()?.parse::<u64>().ok();
    let newest = || {
        let entries = fs::read_dir(folder.path("runs/long/state")).into_iter().flatten();
        entries.filter_map(Result::ok).filter_map(number).max().unwrap_or(0)
    };
    // The existence of the next one shows that this one is complete.
    while newest() <= count {
        assert!(start.elapsed() < Duration::from_secs(60), "no state comes");
        sleep(Duration::from_millis(5));
    }
}

#[cfg(unix)]
#[test]
fn signals_and_the_time_limit_end_a_run_with_a_checkpoint() {
    for (name, status, said) in [
        ("INT", 130, "interrupted after step "),
        ("TERM", 130, "interrupted after step "),
        ("USR1", 130, "interrupted "),
        ("USR2", 130, "interrupted "),
    ] {
        let folder = Folder::new();
        let child = start(&folder, &[]);
        wait_for_states(&folder, 1);
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{name}");
        let stdout = text(&output.stdout);
        assert!(stdout.starts_with(said) && stdout.ends_with("next: vitreous train --resume runs/long\n"), "{stdout}");
        let manifest = folder.manifest("long");
        assert_eq!(manifest["status"], "interrupted");
        let weights = folder.read("runs/long/weights/last.safetensors");
        assert_eq!(manifest["results"]["last_sha256"], sha256_of_bytes(&weights));
        let steps = manifest["results"]["steps"].as_u64().unwrap();
        let [_, stderr] =
            ends(&folder, 0, &["train", "--resume", "runs/long", "--max-steps", &(steps + 3).to_string()]);
        assert!(stderr.contains(&format!("runs/long resumes after step {}", commas(steps))), "{stderr}");
        ends(
            &folder,
            0,
            &[
                &SMALL[..],
                &["--name=whole", "--epochs=2000", "--set=model.depth=1"],
                &["--max-steps", &(steps + 3).to_string()],
            ]
            .concat(),
        );
        assert_same(&folder, "whole", "long", name);
    }
    let folder = Folder::new();
    let arguments = [&SMALL[..], &["--name=long", "--epochs=2000", "--set=model.depth=1", "--max-time=2s"]].concat();
    let clock = Instant::now();
    let [stdout, _] = ends(&folder, 124, &arguments);
    assert!(stdout.starts_with("stopped after step ") && stdout.contains(" (time limit); "), "{stdout}");
    assert!(clock.elapsed() < Duration::from_millis(2500), "{:?}", clock.elapsed());
    assert_eq!(folder.manifest("long")["status"], "max-time");
}

fn commas(steps: u64) -> String {
    let text = steps.to_string();
    if text.len() > 3 { format!("{},{}", &text[..text.len() - 3], &text[text.len() - 3..]) } else { text }
}

#[cfg(unix)]
#[test]
fn a_killed_run_resumes_from_its_last_checkpoint_and_truncates_later_records() {
    let folder = Folder::new();
    let mut child = start(&folder, &["--save-every=20"]);
    wait_for_states(&folder, 3);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(folder.manifest("long")["status"], "running");
    // Incomplete rows, as after a power cut, are removed too.
    for file in FILES[..3].iter().chain(&["timing.jsonl"]) {
        let path = folder.path(&format!("runs/long/{file}"));
        fs::write(&path, [fs::read(&path).unwrap(), b"{\"half".to_vec()].concat()).unwrap();
    }
    let steps = "400";
    ends(&folder, 0, &["train", "--resume=runs/long", "--max-steps", steps]);
    ends(
        &folder,
        0,
        &[&SMALL[..], &["--name=whole", "--epochs=2000", "--set=model.depth=1", "--max-steps", steps]].concat(),
    );
    assert_same(&folder, "whole", "long", "killed");
    let timing = folder.text("runs/long/timing.jsonl");
    assert!(timing.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{timing}");
    // A run that lost its checkpoints is not restarted: that would delete its records.
    fs::remove_dir_all(folder.path("runs/long/state")).unwrap();
    let [_, stderr] = ends(&folder, 2, &["train", "--resume=runs/long", "--max-steps=401"]);
    let expected = "error: the checkpoints of the run were removed: it cannot be trained further (runs/long)\n";
    assert!(stderr.starts_with(expected), "{stderr}");
    // A run killed before its first checkpoint restarts, and removes temporary files.
    let mut manifest = folder.manifest("long");
    (manifest["status"], manifest["results"]) = ("running".into(), serde_json::Value::Null);
    manifest["resumed"] = serde_json::json!([]);
    fs::write(folder.path("runs/long/manifest.json"), manifest.to_string()).unwrap();
    fs::create_dir(folder.path("runs/long/state")).unwrap();
    fs::write(folder.path("runs/long/state/.1.safetensors.77.tmp"), "half").unwrap();
    ends(&folder, 0, &["train", "--resume=runs/long", "--max-steps=401", "--threads=2"]);
    ends(&folder, 0, &["train", "--resume=runs/whole", "--max-steps=401"]);
    assert_same(&folder, "whole", "long", "from the start");
    assert!(!folder.path("runs/long/state/.1.safetensors.77.tmp").exists());
    // A run killed between its last checkpoint and its end still finishes.
    let ended = |file: &str| folder.path(&format!("runs/long/{file}"));
    let row = folder.text("runs/long/results.csv").lines().count();
    fs::remove_file(ended("weights/last.safetensors")).unwrap();
    let mut manifest = folder.manifest("long");
    (manifest["status"], manifest["results"]) = ("running".into(), serde_json::Value::Null);
    fs::write(ended("manifest.json"), manifest.to_string()).unwrap();
    ends(&folder, 0, &["train", "--resume=runs/long"]);
    assert_eq!(folder.text("runs/long/results.csv").lines().count(), row);
    assert!(folder.read("runs/long/weights/last.safetensors") == folder.read("runs/whole/weights/last.safetensors"));
}

#[test]
fn resume_auto_starts_resumes_and_finishes() {
    let folder = Folder::new();
    let auto =
        |more: &[&'static str]| [&SMALL[..], &["--name=a", "--resume=auto", "--set=model.depth=1"], more].concat();
    ends(&folder, 0, &auto(&["--max-steps=3"]));
    ends(&folder, 0, &auto(&["--max-steps=9"]));
    ends(&folder, 0, &auto(&[]));
    let before = folder.text("runs/a/manifest.json");
    let [stdout, stderr] = ends(&folder, 0, &auto(&[]));
    let note =
        "runs/a: nothing is left to train, all epochs are done (3); to train the run further, use a larger --epochs\n";
    assert!(stderr.contains(note), "{stderr}");
    assert!(stdout.contains("config, records and weights are in runs/a\n"), "{stdout}");
    assert_eq!(folder.text("runs/a/manifest.json"), before);
    ends(&folder, 0, &[&SMALL[..], &["--name=whole", "--set=model.depth=1"]].concat());
    assert_same(&folder, "whole", "a", "auto");
    // A folder left by a kill before the first manifest is reused, with --resume auto and without.
    for (run, left, more) in
        [("b", "b/weights", &["--resume=auto"][..]), ("c", "c", &["--resume=auto"]), ("d", "d", &[])]
    {
        fs::create_dir_all(folder.path(&format!("runs/{left}"))).unwrap();
        let name = format!("--name={run}");
        ends(&folder, 0, &[&SMALL[..], &[name.as_str(), "--set=model.depth=1"], more].concat());
        assert_same(&folder, "whole", run, "begun");
    }
    // More epochs change the run from here on, and are recorded.
    ends(&folder, 0, &auto(&["--epochs=4"]));
    assert_eq!(folder.manifest("a")["results"]["epochs"], 4);
    assert!(folder.text("runs/a/config.toml").contains("epochs = 4\n"));
    assert_eq!(folder.manifest("a")["resumed"][2]["changes"], serde_json::json!(["train.epochs 3, now 4"]));
}

#[test]
fn runs_that_cannot_resume_are_refused_with_the_reason() {
    let folder = Folder::new();
    write_photos(&folder);
    let photos = ["train", "--data=photos", "--img-size=12", "--set=model.patch_size=4", "--set=model.embed_dim=16"];
    let photos = [&photos[..], &["--batch-size=5", "--epochs=2", "--set=model.depth=1", "--name=a"]].concat();
    ends(&folder, 0, &[&photos[..], &["--max-steps=7"]].concat());
    let resume = |more: &[&str]| {
        let [stdout, stderr] =
            ends(&folder, 2, &[&["train", "--resume=runs/a", "--set=train.max_steps="], more].concat());
        assert_eq!(stdout, "");
        stderr
            .lines()
            .filter(|line| line.starts_with("error") || line.starts_with("hint"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_eq!(
        resume(&["--lr=0.5"]),
        "error: the run was made with another train.lr 5e-4, now 0.5 (runs/a)\n\
         hint: leave it unchanged, or train again under another --name"
    );
    assert_eq!(
        resume(&["--epochs=1", "--set=train.warmup_epochs=1"]).lines().next().unwrap(),
        "error: a run cannot get shorter: train.epochs 2, now 1 (runs/a)"
    );
    assert_eq!(
        resume(&["--preset=digits"]),
        "error: --preset cannot be used with --resume runs/a: the run has its own\n\
         hint: leave --preset out, or use --resume auto"
    );
    assert_eq!(
        resume(&["digits"]),
        "error: preset digits cannot be used with --resume runs/a: the run has its own\n\
         hint: leave preset digits out, or use --resume auto"
    );
    let changed = |what: &str| {
        format!(
            "error: the data has changed since the run began: {what} (photos)\n\
             hint: restore the data, or train again under another --name"
        )
    };
    let picture = folder.path("photos/ant/3.png");
    // Two images that change places keep their splits, and get each other's label.
    let exchange = || {
        let other = folder.path("photos/cow/3.png");
        let [one, two] = [&picture, &other].map(|path| fs::read(path).unwrap());
        fs::write(&picture, two).unwrap();
        fs::write(&other, one).unwrap();
    };
    exchange();
    assert_eq!(resume(&[]), changed("the images or their labels are not the same, though there are as many"));
    exchange();
    fs::copy(folder.path("photos/cow/3.png"), folder.path("photos/ant/more.png")).unwrap();
    fs::copy(folder.path("photos/cow/3.png"), folder.path("photos/ant/still-more.png")).unwrap();
    fs::copy(folder.path("photos/cow/3.png"), folder.path("photos/ant/yet-more.png")).unwrap();
    assert!(resume(&[]).starts_with("error: the data has changed since the run began: training images "));
    for name in ["more", "still-more", "yet-more"] {
        fs::remove_file(folder.path(&format!("photos/ant/{name}.png"))).unwrap();
    }
    fs::rename(folder.path("photos/cow"), folder.path("photos/yak")).unwrap();
    assert_eq!(resume(&[]), changed("classes ant,bee,cow, now ant,bee,yak"));
    fs::rename(folder.path("photos/yak"), folder.path("photos/cow")).unwrap();
    // The same pictures elsewhere are the same.
    fs::create_dir(folder.path("moved")).unwrap();
    fs::rename(folder.path("photos"), folder.path("moved/photos")).unwrap();
    let [_, stderr] = ends(&folder, 0, &["train", "--resume=runs/a", "--set=train.max_steps=", "--data=moved/photos"]);
    assert!(stderr.contains("note: data.name photos, now moved/photos"), "{stderr}");
    let [_, stderr] = ends(&folder, 2, &["train", "--resume=runs/none"]);
    assert!(stderr.starts_with("error: no such folder (runs/none)"), "{stderr}");
}

#[test]
fn a_damaged_checkpoint_is_refused_and_the_previous_one_used() {
    let folder = Folder::new();
    let small = |name: &str, more: &[&str]| {
        let name = format!("--name={name}");
        let all = [&SMALL[..], &["--set=model.depth=1", "--save-every=4", &name], more].concat();
        ends(&folder, 0, &all);
    };
    small("whole", &[]);
    let states = |run: &str| {
        let mut found: Vec<PathBuf> =
            fs::read_dir(folder.path(&format!("runs/{run}/state"))).unwrap().map(|e| e.unwrap().path()).collect();
        found.sort();
        found
    };
    let flip = |path: &Path, at: usize| {
        let mut bytes = fs::read(path).unwrap();
        let place = bytes.len() - 1 - at;
        bytes[place] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let truncate = |path: &Path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    };
    let later = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        fs::write(path, text.replacen("\"format\": 1", "\"format\": 2", 1).replacen("0.1.0", "9.9.9", 1)).unwrap();
    };
    // Hours to hash.
    let lengthen = |path: &Path| fs::File::options().write(true).open(path).unwrap().set_len(1 << 43).unwrap();
    type Damage<'a> = &'a dyn Fn(&Path);
    let cases: [(&str, &str, Damage, &str); 7] = [
        ("a", "safetensors", &|path| flip(path, 100), "bytes have another SHA-256 than they were written with"),
        ("b", "safetensors", &truncate, "the checkpoint is damaged: the header promises another size than "),
        ("h", "safetensors", &lengthen, "the checkpoint is damaged: the header promises another size than "),
        ("c", "json", &truncate, "the checkpoint is damaged: "),
        ("d", "json", &|path| flip(path, 400), "the checkpoint is damaged: "),
        ("e", "json", &later, "the checkpoint was written by the later version 9.9.9: it has format 2"),
        (
            "f",
            "safetensors",
            &|path| fs::remove_file(path).unwrap(),
            "cannot read the checkpoint: no such file or folder",
        ),
    ];
    for (run, kind, damage, expected) in cases {
        small(run, &["--max-steps=11"]);
        let found = states(run);
        let newest = found.iter().rev().find(|path| path.extension().unwrap() == kind).unwrap();
        damage(newest);
        let path = format!("runs/{run}");
        let [_, stderr] = ends(&folder, 0, &["train", "--resume", &path, "--set=train.max_steps="]);
        let note = stderr.lines().find(|line| line.starts_with("note: ")).unwrap_or_default();
        assert!(note.contains(expected) && note.contains("the one of step ") && note.ends_with(" is used"), "{stderr}");
        assert!(note.contains(newest.file_name().unwrap().to_str().unwrap()), "{stderr}");
        assert_same(&folder, "whole", run, expected);
    }
    small("g", &["--max-steps=11"]);
    states("g").iter().filter(|path| path.extension().unwrap() == "json").for_each(|path| truncate(path));
    let [_, stderr] = ends(&folder, 2, &["train", "--resume=runs/g", "--set=train.max_steps="]);
    assert!(stderr.starts_with("error: the checkpoint is damaged: "), "{stderr}");
    assert!(stderr.ends_with("hint: there is no other checkpoint: train again under another --name\n"), "{stderr}");
}

#[cfg(unix)]
#[test]
fn a_second_ctrl_c_ends_a_run_at_once() {
    let folder = Folder::new();
    // Its only step takes minutes: nothing but the second signal can end it soon.
    let step = ["--batch-size=1", "--set=train.grad_accum_steps=9000", "--limit-train=9000", "--set=model.depth=12"];
    let mut command = std::process::Command::cargo_bin("vitreous").unwrap();
    command.current_dir(folder.root()).args(["train", "--name=slow", "--warmup-epochs=0", "--set=model.embed_dim=384"]);
    let mut child = command.args(step).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while !folder.path("runs/slow/metrics.jsonl").exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "the training does not start");
        sleep(Duration::from_millis(5));
    }
    signal(&child, "INT");
    sleep(Duration::from_millis(500));
    assert_eq!(child.try_wait().unwrap(), None, "the first Ctrl-C lets the step go on");
    signal(&child, "INT");
    let start = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if start.elapsed() > Duration::from_secs(10) => {
                child.kill().unwrap();
                panic!("the second Ctrl-C does not end the run");
            }
            None => sleep(Duration::from_millis(5)),
        }
    };
    assert_eq!(status.code(), Some(130));
    assert_eq!(folder.manifest("slow")["status"], "running", "nothing was saved any more");
}

#[cfg(unix)]
#[test]
fn two_processes_never_train_in_one_folder() {
    let folder = Folder::new();
    let mut child = start(&folder, &[]);
    wait_for_states(&folder, 1);
    let [_, stderr] = ends(&folder, 2, &["train", "--resume=runs/long"]);
    let expected = format!("error: process {} trains in this folder (runs/long)\n", child.id());
    assert!(stderr.starts_with(&expected), "{stderr}");
    child.kill().unwrap();
    child.wait().unwrap();
    ends(&folder, 0, &["train", "--resume=runs/long", "--max-steps=1000"]);
}
