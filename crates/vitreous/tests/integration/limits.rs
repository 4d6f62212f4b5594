//! Process limits (`ulimit`), and input that would overflow the stack.

use std::fs;
use std::process::{Command, Output};

use crate::common::{Folder, refused, text, vitreous};
use assert_cmd::cargo::CommandCargoExt;

/// A training of a moment.
const SMALL: [&str; 7] = [
    "train",
    "--limit-train=97",
    "--batch-size=13",
    "--set=data.val_fraction=0.01",
    "--set=model.depth=1",
    "--epochs=1",
    "--warmup-epochs=0",
];

/// Runs the program under a limit, as a shell sets it.
fn limited(folder: &Folder, limit: &str, arguments: &[&str]) -> Output {
    let program = Command::cargo_bin("vitreous").unwrap().get_program().to_owned();
    let mut shell = Command::new("sh");
    shell.current_dir(folder.root()).arg("-c").arg(format!("ulimit {limit}; exec \"$0\" \"$@\"")).arg(program);
    shell.args(arguments).output().expect("a shell")
}

#[test]
fn a_run_above_the_memory_limit_is_refused_before_anything_is_written() {
    // 200 MB of parameters, moments and their copies.
    let large = [&SMALL[..], &["--set=model.embed_dim=1024", "--set=model.num_heads=4", "--name=large"]].concat();
    let folder = Folder::new();
    for limit in ["-v 300000", "-d 100000"] {
        let output = limited(&folder, limit, &large);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{limit}: {stderr}");
        assert!(stderr.starts_with("error: training needs ") && stderr.contains(" are available\nhint: "), "{stderr}");
        assert!(!folder.path("runs").exists(), "{limit}");
    }
}

#[test]
fn a_run_admitted_under_a_memory_limit_finishes() {
    let large = [&SMALL[..], &["--set=model.embed_dim=256", "--max-steps=1"]].concat();
    let folder = Folder::new();
    let mut ended = 0;
    // From too little to enough: each run is refused or finishes, and none aborts.
    for (number, kibibytes) in (100_000..500_000).step_by(50_000).enumerate() {
        let name = format!("--name=n{number}");
        let output = limited(&folder, &format!("-v {kibibytes}"), &[&large[..], &[&name]].concat());
        let stderr = text(&output.stderr);
        match output.status.code() {
            Some(0) => ended += 1,
            Some(2) => assert!(ended == 0 && stderr.contains("error: training needs "), "{kibibytes}: {stderr}"),
            code => panic!("{kibibytes}: {code:?}: {stderr}"),
        }
    }
    assert!(ended > 0, "enough for {large:?} is not enough");
}

#[test]
fn threads_count_toward_the_address_space_limit() {
    let folder = Folder::new();
    let output = limited(&folder, "-v 790000", &[&SMALL[..], &["--threads=64"]].concat());
    let (status, stderr) = (output.status.code(), text(&output.stderr));
    assert_eq!(status, Some(2), "{stderr}");
    assert!(stderr.starts_with("error: training needs ") && stderr.contains("fewer --threads"), "{stderr}");
    assert!(!folder.path("runs").exists());
}

#[test]
fn a_file_size_limit_is_treated_as_a_full_disk() {
    let folder = Folder::new();
    let output = limited(&folder, "-f 20", &[&SMALL[..], &["--name=a"]].concat());
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{:?}: {stderr}", output.status);
    assert!(stderr.contains("error: cannot write: the file size limit is reached (runs/a/weights/"), "{stderr}");
    assert!(
        stderr.ends_with(
            "hint: raise the file size limit: ulimit -f unlimited; then run vitreous train --resume runs/a\n"
        ),
        "{stderr}"
    );
    assert_eq!(folder.manifest("a")["status"], "failed");
}

#[test]
fn a_thread_that_cannot_start_is_a_clear_error() {
    let folder = Folder::new();
    let mut command = Command::cargo_bin("vitreous").unwrap();
    // Stacks of a petabyte: no thread starts.
    command.current_dir(folder.root()).env("RUST_MIN_STACK", "1000000000000000").args(SMALL);
    let output = command.arg("--name=a").output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    let hint = "\nhint: raise the limits for threads and memory (ulimit -u, ulimit -v, or the container's)\n";
    assert!(stderr.contains("error: cannot start a thread: ") && stderr.ends_with(hint), "{stderr}");
    // The run's name can be used again.
    assert!(!folder.path("runs/a").exists());
    let mut command = Command::cargo_bin("vitreous").unwrap();
    command.current_dir(folder.root()).args(SMALL);
    assert!(command.args(["--name=a", "--max-steps=2"]).output().unwrap().status.success());
    // Resuming changes nothing in the run.
    let manifest = fs::read(folder.path("runs/a/manifest.json")).unwrap();
    let mut command = Command::cargo_bin("vitreous").unwrap();
    command.current_dir(folder.root()).env("RUST_MIN_STACK", "1000000000000000");
    let output = command.args(["train", "--resume=runs/a", "--set=train.max_steps="]).output().unwrap();
    assert!(text(&output.stderr).contains("error: cannot start a thread: "), "{}", text(&output.stderr));
    assert!(fs::read(folder.path("runs/a/manifest.json")).unwrap() == manifest);
    // Commands that can work on one thread do.
    crate::common::write_photos(&folder);
    let mut command = Command::cargo_bin("vitreous").unwrap();
    command.current_dir(folder.root()).env("RUST_MIN_STACK", "1000000000000000");
    let output = command.args(["data", "info", "--data=photos"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn a_key_with_thousands_of_parts_is_refused_everywhere() {
    let folder = Folder::new();
    let long = format!("model.{}", vec!["a"; 50_000].join("."));
    fs::write(folder.path("long.toml"), format!("[model]\n{long} = 1\n")).unwrap();
    fs::write(folder.path("set.toml"), format!("seeds = [1, 2]\nset = [\"{long}=1\"]\n")).unwrap();
    fs::write(folder.path("sweep.toml"), format!("seeds = [1, 2]\n{long} = 1\n")).unwrap();
    let value = format!("--set=model.layers={{ {long} = 1 }}");
    let set = format!("--set={long}=1");
    let unset = format!("--set={long}=");
    for (arguments, expected) in [
        (&["train", "--config=long.toml"][..], "recursion limit (long.toml, line "),
        (&["summary", "--config=long.toml"], "recursion limit (long.toml, line "),
        (&["train", &set], "a key has more than 8 parts (--set)\nhint: "),
        (&["train", &unset], "a key has more than 8 parts (--set)\nhint: "),
        (&["sweep", "set.toml", "--list"], "a key has more than 8 parts (run base)\nhint: "),
        (&["sweep", "sweep.toml", "--list"], "recursion limit (sweep.toml, line "),
    ] {
        let stderr = refused(folder.root(), arguments);
        assert!(stderr.starts_with(&format!("error: {expected}")), "{stderr}");
    }
    assert!(refused(folder.root(), &["train", &value]).starts_with("error: "));
    assert_eq!(vitreous(folder.root(), &["compare", "."]).status.code(), Some(2));
}
