//! `vitreous slurm` with small stand-ins for Slurm's commands, and the tasks of a job array without locks.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use assert_cmd::Command;

use crate::common::{Folder, json, refused, signal, text, vitreous};

/// A training of a moment.
const SMALL: [&str; 5] =
    ["--limit-train=97", "--batch-size=13", "--set=data.val_fraction=0.05", "--set=model.depth=1", "--epochs=2"];

/// A folder with stand-ins for Slurm's commands in `bin/`, and links to what they and the scripts use. Each notes its
/// arguments in `calls`.
fn cluster(commands: &[(&str, &str)]) -> Folder {
    let folder = Folder::new();
    fs::create_dir(folder.path("bin")).unwrap();
    for tool in ["bash", "cat", "cp", "date", "dirname", "hostname", "mkdir", "mktemp", "rm", "sh", "touch"] {
        let path = std::env::var_os("PATH").unwrap();
        let found = std::env::split_paths(&path).map(|folder| folder.join(tool)).find(|path| path.is_file()).unwrap();
        std::os::unix::fs::symlink(found, folder.path("bin").join(tool)).unwrap();
    }
    for (name, script) in commands {
        let path = folder.path("bin").join(name);
        let text = format!("#!/bin/sh\necho {name} \"$*\" >> \"{}\"\n{script}\n", folder.path("calls").display());
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    folder
}

/// Accepts every job, as number 7, 8, ...
const SBATCH: (&str, &str) = (
    "sbatch",
    "[ \"$1\" = --version ] && exit; n=$(cat count 2> /dev/null || echo 7); echo $((n + 1)) > count; echo \"$n;local\"",
);
const SINFO: (&str, &str) = ("sinfo", "echo cpu; echo gpu");
const SCONTROL: (&str, &str) = ("scontrol", "echo 'ClusterName = local'; echo 'MaxArraySize = 3'");

/// Runs the program with nothing but these in its `PATH`, since a real Slurm may be installed, and without a site file.
fn slurm(folder: &Folder, arguments: &[&str]) -> Output {
    let mut command = Command::cargo_bin("vitreous").unwrap();
    command
        .current_dir(folder.root())
        .env("PATH", folder.path("bin"))
        .env("HOME", folder.root())
        .env_remove("XDG_CONFIG_HOME");
    command.env_remove("VITREOUS_DATA_DIR").env("VITREOUS_NO_PLOTS", "1").arg("slurm").args(arguments);
    command.output().unwrap()
}

fn succeeds(folder: &Folder, arguments: &[&str]) -> [String; 2] {
    let output = slurm(folder, arguments);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    [stdout, stderr]
}

fn fails(folder: &Folder, status: i32, arguments: &[&str]) -> String {
    let output = slurm(folder, arguments);
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stderr)
}

/// The lines of a script between the options and the end.
fn line_with<'a>(script: &'a str, start: &str) -> &'a str {
    script.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {script}"))
}

#[test]
fn a_training_is_submitted_once_with_its_resources_and_its_run_can_start_in_the_same_folder() {
    let folder = cluster(&[SBATCH, SINFO, SCONTROL, ("squeue", "echo 'gpu|1:00:00|2'")]);
    fs::create_dir_all(folder.path(".config/vitreous")).unwrap();
    fs::write(folder.path(".config/vitreous/slurm.toml"), "partition = 'gpu'\ntime = '1h'\naccount = 'site'\n")
        .unwrap();
    fs::write(folder.path("my.toml"), "[slurm]\ncpus = 2\ntime = '2h'\n").unwrap();
    let arguments = [&["train", "--config=my.toml", "-p", "cpu", "--name", "my run"][..], &SMALL].concat();
    let [stdout, stderr] = succeeds(&folder, &arguments);
    assert!(stdout.starts_with("job 7: train, runs/my run\n"), "{stdout}");
    assert_eq!(
        stderr,
        "note: the cluster changed job 7: partition cpu, now gpu\n\
         note: the cluster changed job 7: time limit 02:00:00, now 1:00:00\n"
    );
    let script = folder.text("runs/my run/slurm/train.sh");
    // The flag comes before the config, and the config before the site file.
    for option in ["--partition=\"cpu\"", "--time=02:00:00", "--account=\"site\"", "--cpus-per-task=2"] {
        line_with(&script, &format!("#SBATCH {option}"));
    }
    let srun = line_with(&script, "srun ");
    let words = "train --resume auto --config=my.toml --name 'my run' --limit-train=97 --batch-size=13 \
                 --set=data.val_fraction=0.05 --set=model.depth=1 --epochs=2";
    let end = " || status=$?";
    assert!(srun.ends_with(&format!("{words}{end}")), "{srun}");
    assert!(folder.text("calls").contains("/runs/my run/slurm/train.sh\n"), "{}", folder.text("calls"));
    // The script does what it says, with a stand-in for srun.
    let folder_of_run = folder.path("runs/my run");
    let run = ["train", "--resume=auto", "--name=my run", "--config=my.toml"];
    assert!(vitreous(folder.root(), &[&run[..], &SMALL].concat()).status.success());
    assert!(folder_of_run.join("weights/last.safetensors").is_file() && folder_of_run.join("slurm/train.sh").is_file());
    assert!(!folder.text("runs/my run/config.toml").contains("slurm"), "the run is what it would be without a cluster");
    // Nothing is left to train.
    let [stdout, stderr] = succeeds(&folder, &[&arguments[..], &["--resume=auto"]].concat());
    assert!(stdout.is_empty() && stderr.starts_with("runs/my run: nothing is left to train, all epochs are done (2)"));
    let stderr = fails(&folder, 2, &["evaluate", "runs/none"]);
    assert!(stderr.starts_with("error: ") && !folder.path("runs/none").exists(), "{stderr}");
    let [script, _] = succeeds(&folder, &["verify", "threads", "--dry-run", "--partition=cpu", "--counts=1,2"]);
    assert!(line_with(&script, "srun ").ends_with(" verify threads --counts=1,2 || status=$?"), "{script}");
    // A run of that name exists now.
    let stderr = fails(&folder, 2, &arguments);
    assert!(stderr.starts_with("error: a run named `my run` exists"), "{stderr}");
    let [row] = &rows(&folder)[..] else { panic!() };
    assert_eq!([&row["run"], &row["job"], &row["state"]], ["runs/my run", "7", "ended"]);
    assert_eq!(row["epochs"], serde_json::json!([2, 2]));
}

fn rows(folder: &Folder) -> Vec<serde_json::Value> {
    let [stdout, _] = succeeds(folder, &["status", "--json"]);
    serde_json::from_str::<serde_json::Value>(&stdout).unwrap()["jobs"].as_array().unwrap().clone()
}

#[test]
fn a_sweep_becomes_arrays_in_a_row_and_its_tasks_share_the_runs() {
    let folder = cluster(&[SBATCH, SINFO, SCONTROL, ("squeue", ""), ("scancel", "")]);
    let sweep = ["--set-each=train.lr=1e-3,2e-3,3e-3", "--name=lr", "--threads=1"];
    let sweep = [&sweep[..], &SMALL].concat();
    let [stdout, _] = succeeds(&folder, &[&["sweep", "--parallel=2"][..], &sweep].concat());
    // Two tasks fit into an array whose size is below 3.
    assert!(stdout.starts_with("job 7: 2 runs of runs/lr\njob 8: 1 run of runs/lr\njob 9: the table, "), "{stdout}");
    let calls = folder.text("calls");
    assert!(calls.contains("sbatch --parsable --dependency=afterany:7 "), "{calls}");
    assert!(calls.contains("sbatch --parsable --dependency=afterany:7:8 "), "{calls}");
    let second = folder.text("runs/lr/slurm/sweep-2.sh");
    line_with(&second, "#SBATCH --array=1%2");
    assert!(line_with(&second, "srun ").ends_with(" --task $((SLURM_ARRAY_TASK_ID + 2)) || status=$?"), "{second}");
    assert!(folder.text("runs/lr/slurm/table.sh").contains(" --conclude || status=$?\n"));

    // The second task first: it trains the second run; a second call finds that done, and takes the next one.
    let mut started = Vec::new();
    for task in ["2", "2", "1", "3"] {
        let run = vitreous_task(&folder, &sweep, task);
        started.push(run["run"].as_str().unwrap_or("-").to_string());
    }
    assert_eq!(started, ["lr=2e-3", "lr=3e-3", "lr=1e-3", "-"]);
    let rows = rows(&folder);
    let known: Vec<_> = rows.iter().map(|row| (row["run"].as_str().unwrap(), row["job"].as_str().unwrap())).collect();
    let expected =
        [("runs/lr/lr=1e-3", "7_1"), ("runs/lr/lr=2e-3", "7_2"), ("runs/lr/lr=3e-3", "8_1"), ("runs/lr/(table)", "9")];
    assert_eq!(known, expected);
    assert_eq!(folder.text("runs/lr/slurm/7_2.run"), "lr=3e-3");
    let concluded = json(folder.root(), &[&["sweep", "--conclude"][..], &sweep].concat());
    assert_eq!(concluded["rows"].as_array().unwrap().len(), 3);
    assert!(!folder.text("runs/lr/analysis.md").contains("--conclude"));
    // Nothing is left but the table.
    let [stdout, stderr] = succeeds(&folder, &[&["sweep"][..], &sweep].concat());
    assert!(stdout.starts_with("job 10: the table, ") && stderr.contains("all runs are done"), "{stdout}{stderr}");
}

/// Runs a task as task 2 of array 7.
fn vitreous_task(folder: &Folder, sweep: &[&str], task: &str) -> serde_json::Value {
    let mut command = Command::cargo_bin("vitreous").unwrap();
    command
        .current_dir(folder.root())
        .env("VITREOUS_NO_PLOTS", "1")
        .args(["sweep", "--json", "--task", task])
        .args(sweep);
    command.env("SLURM_ARRAY_JOB_ID", "7").env("SLURM_ARRAY_TASK_ID", task);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_script_requeues_at_its_limit_and_passes_other_statuses_on() {
    // The program is replaced by one that ends with the status in a file.
    let folder = cluster(&[
        ("srun", "exit $(cat status)"),
        // It does not answer every time.
        (
            "squeue",
            "[ -z \"$SQUEUE_STATES\" ] || exit; [ -e asked ] || { touch asked; exit 1; }; rm asked; echo ${STATE:-RUNNING}",
        ),
        ("scontrol", "[ \"$1\" = show ] && exit; exit ${SCONTROL:-0}"),
        ("sleep", ""),
    ]);
    let dry_run = ["train", "--requeues=2", "--name=a", "--dry-run", "--cpus=1", "--extra=set -eu"];
    let [script, _] = succeeds(&folder, &dry_run);
    assert!(!folder.path("runs").exists(), "a dry run writes nothing");
    fs::create_dir_all(folder.path("runs/a/slurm")).unwrap();
    fs::write(folder.path("job.sh"), &script).unwrap();
    let run = |status: &str, variables: &[(&str, &str)]| {
        fs::write(folder.path("status"), status).unwrap();
        fs::write(folder.path("calls"), "").unwrap();
        let mut command = Command::new("bash");
        command.current_dir(folder.root()).env("PATH", folder.path("bin")).arg("job.sh").env("SLURM_JOB_ID", "7");
        command.env("SLURM_CPUS_PER_TASK", "1").env_remove("SLURM_RESTART_COUNT").envs(variables.iter().copied());
        let output = command.output().unwrap();
        let requeued = folder.text("calls").contains("scontrol requeue 7\n");
        (output.status.code().unwrap(), requeued, text(&output.stdout))
    };
    for status in ["0", "1", "2", "137"] {
        let (code, requeued, _) = run(status, &[]);
        assert_eq!((code.to_string().as_str(), requeued), (status, false));
    }
    // Of a cancelled job, nothing comes back.
    assert_eq!(
        [run("130", &[("STATE", "CANCELLED")]), run("124", &[("STATE", "COMPLETING")])].map(|found| found.1),
        [false; 2]
    );
    // Restarts by others do not count, and the job does not give up where squeue tells no state.
    let (code, requeued, stdout) = run("124", &[("SLURM_RESTART_COUNT", "9"), ("SQUEUE_STATES", "PENDING")]);
    assert_eq!((code, requeued), (0, true), "{stdout}");
    assert!(stdout.contains(", restart 9, ") && stdout.contains("requeue 1 of at most 2, "), "{stdout}");
    assert!(run("130", &[("STATE", " ")]).1);
    let (code, requeued, stdout) = run("130", &[]);
    assert_eq!((code, requeued), (130, false));
    let expected = "error: the run is not finished after 2 requeues (slurm.requeues 2)\n\
                    hint: with a longer time limit or more requeues, it continues: vitreous slurm train --requeues=2 --name=a \
                    --cpus=1 '--extra=set -eu' --resume auto\n";
    assert!(stdout.ends_with(expected), "{stdout}");
    // Whatever the file has, nothing of it is run.
    fs::write(folder.path("runs/a/slurm/7.requeues"), "a[$(touch HACK)]\n").unwrap();
    assert!(run("130", &[]).2.contains("requeue 2 of at most 2, ") && !folder.path("HACK").exists());
    fs::remove_file(folder.path("runs/a/slurm/7.requeues")).unwrap();
    assert_eq!(run("130", &[("SCONTROL", "1")]).0, 130);
    // The disk with the run has vanished: it could not be continued.
    fs::remove_dir_all(folder.path("runs")).unwrap();
    let (code, requeued, _) = run("130", &[]);
    assert_eq!((code, requeued), (130, false));
}

#[test]
fn the_memory_of_a_sweep_is_that_of_its_largest_run_on_the_processors_of_a_task() {
    let folder = cluster(&[]);
    let dry_run = |cpus: &str, more: &[&str]| {
        let sweep = ["sweep", "--set-each=model.depth=1,3", "--name=lr", "--dry-run", "--cpus", cpus];
        succeeds(&folder, &[&sweep[..], more].concat())
    };
    let sweep =
        |cpus: &str, more: &[&str]| line_with(&dry_run(cpus, more)[0], "# The run is predicted to need ").to_string();
    let train = |cpus: &str, depth: &str| {
        let train = ["train", "--name=a", "--dry-run", "--set", depth, "--cpus", cpus];
        line_with(&succeeds(&folder, &train)[0], "# The run is predicted to need ").to_string()
    };
    for cpus in ["2", "13"] {
        assert_eq!(sweep(cpus, &[]), train(cpus, "model.depth=3"));
    }
    assert_ne!(train("2", "model.depth=3"), train("13", "model.depth=3"));
    assert_ne!(train("2", "model.depth=3"), train("2", "model.depth=1"));
    // Threads of the config's own, which the job need not have.
    assert_eq!(sweep("2", &["--threads=13"]), train("13", "model.depth=3"));
    for (cpus, more, note) in [
        ("2", "--threads=13", "slurm.cpus 2 and train.threads 13 differ: 13 threads share 2 processors\n"),
        ("13", "--threads=2", "slurm.cpus 13 and train.threads 2 differ: 11 processors not used\n"),
        (
            "32",
            "--seeds=1",
            "slurm.cpus 32: more than 16 processors do not make a training faster, but the job waits longer\n",
        ),
        ("2", "--memory=16", "slurm.memory 16 is 16.8 MB, less than the "),
        ("2", "--gres=gpu:1", "slurm.gres gpu:1: no GPU is used, but the job waits until one is free\n"),
        ("2", "--scratch", "slurm.scratch: digits is built in, so nothing is copied\n"),
    ] {
        let [_, stderr] = dry_run(cpus, &[more]);
        assert!(stderr.starts_with(&format!("note: {note}")), "{stderr}");
    }
    let [_, stderr] = dry_run("2", &[]);
    let scripts = "runs/lr/slurm/sweep.sh, runs/lr/slurm/table.sh";
    assert_eq!(stderr, format!("nothing was written; without --dry-run, {scripts} are written and submitted\n"));
}

#[test]
fn a_job_that_starts_from_weights_is_planned_for_their_model_and_sees_them_in_a_container() {
    let folder = cluster(&[]);
    fs::create_dir(folder.path("weights")).unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/importing/timm.pth");
    fs::copy(golden, folder.path("weights/timm.pth")).unwrap();
    let heads = "--set=model.num_heads=2";
    let train = ["train", "--dry-run", "--name=a", "--data=digits", "--init-from=weights/timm.pth", heads];
    let [script, stderr] = succeeds(&folder, &[&train[..], &["--set=slurm.container=a.sif"]].concat());
    for note in [
        "the model is that of weights/timm.pth",
        "not in the file, and assumed: the exact GELU (model.activation), epsilon 1e-6 (model.norm_eps)",
        "weights/timm.pth does not say how images were normalized for the weights; data.mean and data.std set it",
    ] {
        assert!(stderr.contains(&format!("note: {note}\n")), "{stderr}");
    }
    assert!(script.contains("/weights ") && script.contains(" --bind "), "{script}");
}

#[test]
fn data_that_is_copied_is_read_from_the_copy_alone() {
    let folder = cluster(&[]);
    let class = |name: &str| folder.path("data/pictures/train").join(name);
    for name in ["cat", "dog"] {
        fs::create_dir_all(class(name)).unwrap();
        for number in 0..12 {
            let side = 28 + number;
            image::GrayImage::new(side, side).save(class(name).join(format!("{number}.png"))).unwrap();
        }
    }
    let settings = ["--preset=digits", "--data=pictures", "--batch-size=4", "--image-size=28", "--scratch", "--cpus=1"];
    let printed = |words: &[&str]| {
        let mut command = Command::cargo_bin("vitreous").unwrap();
        command.current_dir(folder.root()).env("HOME", folder.root()).env("VITREOUS_DATA_DIR", "data").arg("slurm");
        let output = command.args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    let script = |words: &[&str]| printed(&[words, &settings].concat());
    let count = |text: &str| text.matches("--data-dir").count();
    for place in [&["--data-dir", "data"][..], &["--data-dir=data"], &[]] {
        let train = script(&[&["train", "--dry-run", "--name=a"], place].concat());
        line_with(&train, "mkdir -p \"$scratch/$(dirname pictures)\" && cp -RL data/pictures ");
        let srun = line_with(&train, "srun ");
        assert!(count(srun) == 1 && srun.ends_with(" --data-dir \"$scratch\" || status=$?"), "{srun}");
        let sweep = script(&[&["sweep", "--dry-run", "--seeds=1,2", "--name=a"], place].concat());
        let sruns: Vec<&str> = sweep.lines().filter(|line| line.starts_with("srun ")).collect();
        assert_eq!(sruns.iter().map(|srun| count(srun)).collect::<Vec<_>>(), [1, 1], "{sweep}");
        assert!(sruns[1].ends_with(" --data-dir data --conclude || status=$?"), "the table reads the data where it is");
    }
    // Not every job inherits the environment, and as a flag it would come before the folder of a run.
    let exported = format!("export VITREOUS_DATA_DIR={}\n", folder.path("data").canonicalize().unwrap().display());
    let advise = printed(&["advise", "--dry-run", "--preset=digits"]);
    assert!(advise.contains(&exported) && count(&advise) == 0, "{advise}");
    let set = ["train", "--dry-run", "--name=a", "--set=data.dir='data'"];
    let stderr = fails(&folder, 2, &[&set[..], &settings].concat());
    assert!(
        stderr.starts_with("error: --set data.dir cannot be used together with --scratch (slurm.scratch)\n"),
        "{stderr}"
    );
}

#[test]
fn a_disk_that_cannot_be_written_is_named_and_a_job_that_is_already_submitted_too() {
    let folder = cluster(&[SBATCH, SCONTROL]);
    for verb in [&["train", "--name=a"][..], &["sweep", "--seeds=1,2", "--name=a"]] {
        let stderr = fails(&folder, 2, &[verb, &["--out=/proc/self/runs"]].concat());
        assert!(stderr.starts_with("error: cannot write: ") && stderr.contains("(/proc/self/runs"), "{stderr}");
    }
    assert!(!folder.path("calls").exists() || !folder.text("calls").contains("--parsable"), "nothing is submitted");
    let folder =
        cluster(&[("sbatch", "[ \"$1\" = --version ] && exit; mkdir runs/a/slurm/jobs.jsonl; echo 7"), SCONTROL]);
    let stderr = fails(&folder, 1, &["train", "--name=a"]);
    assert!(stderr.starts_with("error: job 7 is submitted, but cannot be recorded: "), "{stderr}");
    assert!(stderr.contains("hint: cancel it with `scancel 7`, and submit again"), "{stderr}");
}

#[test]
fn what_slurm_refuses_or_lacks_is_explained() {
    let none = cluster(&[]);
    let stderr = fails(&none, 2, &["train", "--name=a"]);
    assert!(
        stderr.starts_with("error: Slurm is not installed here: there is no `sbatch`\nhint: use a login node"),
        "{stderr}"
    );
    assert!(!none.path("runs").exists());
    let partition = ["train", "--name=a", "--partition=gpus"];
    let folder = cluster(&[("sbatch", "[ \"$1\" = --version ] || { echo 'sbatch: error: no' >&2; exit 1; }"), SINFO]);
    let refused = "error: sbatch refused the job: no\nhint: ";
    assert_eq!(fails(&folder, 2, &partition), format!("{refused}did you mean `gpu`?\n"));
    let stderr = fails(&folder, 2, &["train", "--name=a"]);
    assert_eq!(stderr, format!("{refused}`--dry-run` prints the script; `sinfo` lists partitions and limits\n"));
    assert!(!folder.path("runs/a").exists(), "the name is free again");
    // The second array is refused: the first one is named.
    let one =
        "[ \"$1\" = --version ] && exit; [ -e once ] && { echo 'sbatch: error: no' >&2; exit 1; }; touch once; echo 7";
    let folder = cluster(&[("sbatch", one), SINFO, SCONTROL]);
    let sweep = ["sweep", "--set-each=train.lr=1e-3,2e-3,3e-3", "--name=lr"];
    let stderr = fails(&folder, 2, &sweep);
    assert_eq!(stderr, format!("{refused}job 7 was submitted before; `vitreous slurm cancel runs/lr` cancels it\n"));
    // Variables that would come before a line of the script are not passed on.
    let folder = cluster(&[("sbatch", "echo \"$SBATCH_PARTITION $SBATCH_QOS $SBATCH_SIGNAL\" >> seen; echo 7"), SINFO]);
    let mut command = Command::cargo_bin("vitreous").unwrap();
    command.current_dir(folder.root()).env("PATH", folder.path("bin")).env("HOME", folder.root());
    command.env("SBATCH_PARTITION", "other").env("SBATCH_QOS", "mine").env("SBATCH_SIGNAL", "KILL");
    command.args(["slurm", "train", "--name=a", "--partition=cpu"]).assert().success();
    assert!(folder.text("seen").ends_with("\n mine \n"), "{}", folder.text("seen"));
    let chatty = "echo 'sbatch: warning: odd' >&2; echo 3 cheers; echo '7;local'; echo '10 core-hours will be charged'";
    let folder = cluster(&[("sbatch", chatty), SINFO]);
    let [stdout, stderr] = succeeds(&folder, &["train", "--name=a"]);
    assert!(stdout.starts_with("job 7: ") && stderr == "note: sbatch: warning: odd\n", "{stdout}{stderr}");
    fs::write(folder.path("site.toml"), "partion = 'cpu'\n").unwrap();
    let stderr = fails(&folder, 2, &["train", "--site=site.toml", "--dry-run"]);
    assert_eq!(stderr, "error: unknown key `partion` (site.toml, [slurm])\nhint: did you mean partition?\n");
    let stderr = fails(&folder, 2, &["train", "--time=2m", "--dry-run"]);
    assert!(stderr.starts_with("error: time \"2m\" is too short: "), "{stderr}");
    let stderr = fails(&folder, 2, &["cancel", "b"]);
    assert!(stderr.starts_with("error: Slurm is not installed here: there is no `scancel`"), "{stderr}");
    let stderr = fails(&folder, 2, &["logs", "b"]);
    assert!(stderr.starts_with("error: no job of b\n"), "{stderr}");
}

#[test]
fn jobs_of_another_cluster_are_not_mixed_up_and_waiting_ones_are_cancelled_by_the_name_of_their_run() {
    let queue = ("squeue", "[ \"$1\" = --version ] && echo slurm 20.11.9 || echo '7|PENDING|Priority|a'");
    let folder = cluster(&[SBATCH, SINFO, SCONTROL, queue, ("scancel", "")]);
    succeeds(&folder, &["train", "--name=a"]);
    let state = || rows(&folder).iter().map(|row| format!("{} {}", row["state"], row["reason"])).collect::<Vec<_>>();
    assert_eq!(state(), [r#""pending" "Priority""#]);
    let [stdout, _] = succeeds(&folder, &["cancel", "a"]);
    assert_eq!(stdout, "cancelled: job 7, runs/a\n");
    assert!(folder.text("calls").ends_with("scancel 7\n"), "{}", folder.text("calls"));
    // An earlier job that still waits is cancelled too.
    let stderr = fails(&folder, 2, &["train", "--name=a", "--resume=auto"]);
    let waits = "error: job 7 of runs/a is pending\n\
                 hint: wait for it, or cancel it with `vitreous slurm cancel runs/a`\n";
    assert_eq!(stderr, waits);
    let record = folder.text("runs/a/slurm/jobs.jsonl");
    fs::write(folder.path("runs/a/slurm/jobs.jsonl"), record.clone() + &record.replace("\"7\"", "\"8\"")).unwrap();
    assert_eq!(succeeds(&folder, &["cancel", "a"])[0], "cancelled: job 7, runs/a\n");
    fs::write(folder.path("runs/a/slurm/jobs.jsonl"), folder.text("runs/a/slurm/jobs.jsonl").lines().next().unwrap())
        .unwrap();
    fs::write(folder.path("runs/a/slurm/7.log"), "one\ntwo\n").unwrap();
    let [stdout, _] = succeeds(&folder, &["logs", "a"]);
    assert_eq!(stdout, "one\ntwo\n");
    let jobs = folder.text("runs/a/slurm/jobs.jsonl").replace("\"local\"", "\"other\"");
    fs::write(folder.path("runs/a/slurm/jobs.jsonl"), jobs).unwrap();
    assert_eq!(state(), [r#""unknown" "on cluster other""#]);
    let elsewhere = "error: job 7 of a is on cluster other\n\
                     hint: `scancel --clusters=other 7` cancels it, if the clusters are connected\n";
    assert_eq!(fails(&folder, 2, &["cancel", "a"]), elsewhere);
}

#[test]
fn a_chain_of_jobs_is_rehearsed_without_slurm() {
    // A real Slurm, which even a line of the site puts first, is never called.
    let folder = cluster(&[("srun", "exit 1"), ("squeue", ""), ("scontrol", "")]);
    let extra = format!("--extra=PATH={}:$PATH", folder.path("bin").display());
    let arguments =
        ["train", "--simulate=3", "--simulate-seed=7", "--name=a", "--cpus=1", "--time=10m", "--json", &extra];
    let [stdout, stderr] = succeeds(&folder, &[&arguments[..], &SMALL, &["--set=model.embed_dim=16"]].concat());
    assert!(!folder.path("calls").exists(), "{}", folder.text("calls"));
    let found: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let count = |found: &serde_json::Value, how: &str| found["rehearsed"][how].as_u64().unwrap();
    let counts = ["warned", "killed", "requeued", "cancelled"].map(|how| count(&found, how));
    assert!(counts[0] >= 1 && counts[3] == 0, "{stdout}");
    assert_eq!(counts.iter().sum::<u64>(), 3, "{stdout}");
    assert_eq!(found["seed"], 7);
    assert_eq!(
        (&found["budget"]["save_fits"], &found["budget"]["requeues"]),
        (&true.into(), &0.into()),
        "{stdout}{stderr}"
    );
    assert_eq!(fs::read_dir(folder.path("runs")).unwrap().count(), 0, "equal runs are removed");
    // Each job of this one adds to a record.
    let extra = "--extra=trap 'echo 1 >> runs/a-rehearsal/requeued/results.csv' EXIT";
    let other = ["train", "--simulate=1", "--name=a", "--cpus=1", extra];
    let stderr = fails(&folder, 1, &[&other[..], &SMALL].concat());
    assert!(stderr.contains("error: the requeued run differs from the uninterrupted one in results.csv ("), "{stderr}");
    let stderr = refused(folder.root(), &["slurm", "train", "--simulate", "--dry-run"]);
    assert!(stderr.starts_with("error: "), "{stderr}");
}

#[test]
fn the_arrays_of_a_sweep_are_rehearsed_with_cancelled_tasks_and_the_table() {
    // Two arrays: two tasks, and one.
    let folder = cluster(&[("srun", "exit 1"), SCONTROL, ("squeue", "")]);
    let sweep = ["--set-each=train.lr=1e-3,2e-3,3e-3", "--name=lr", "--cpus=1", "--parallel=2"];
    let sweep = [&["sweep"][..], &sweep, &SMALL, &["--set=model.embed_dim=16"]].concat();
    let [stdout, stderr] = succeeds(&folder, &[&sweep[..], &["--simulate", "9", "--simulate-seed=3"]].concat());
    assert!(
        stderr.contains(" of each of 3 runs are rehearsed, with 9 requeues at times drawn from seed 3\n"),
        "{stderr}"
    );
    for end in ["requeue 1: task ", "requeue 9: task ", ": task 2, ", ", cancelled after "] {
        assert!(stderr.contains(end), "{end}: {stderr}");
    }
    let equal = "3 runs and the table are made, with the weights and records of an uninterrupted sweep";
    assert!(stdout.starts_with("equal: after 9 requeues (") && stdout.contains(equal), "{stdout}");
    for (run, line) in ["lr=1e-3", "lr=2e-3", "lr=3e-3"].iter().zip(stdout.lines().skip(2)) {
        assert!(
            line.starts_with(run) && line.split_whitespace().nth(1).is_some_and(|hash| hash.len() == 64),
            "{stdout}"
        );
    }
    assert_eq!(folder.text("calls"), "scontrol show config\n", "no real command of Slurm is called");
    assert_eq!(fs::read_dir(folder.path("runs")).unwrap().count(), 0, "equal runs are removed");
    // Each job adds to a record of the last run, and then the job for the table fails.
    let differs = "--extra=trap 'echo 1 >> runs/lr-rehearsal/requeued/lr=3e-3/results.csv' EXIT";
    let stderr = fails(&folder, 1, &[&sweep[..], &["--simulate=1", differs]].concat());
    assert!(stderr.contains("error: the requeued run differs from the uninterrupted one in results.csv ("), "{stderr}");
    fs::remove_dir_all(folder.path("runs/lr-rehearsal")).unwrap();
    let fails_last = "--extra=[ -n \"$SLURM_ARRAY_TASK_ID\" ] || exit 3";
    let stderr = fails(&folder, 1, &[&sweep[..], &["--simulate=1", fails_last]].concat());
    assert!(stderr.contains("error: the script ended with status 3 after 1 starts\n"), "{stderr}");
}

#[test]
fn a_rehearsal_that_is_interrupted_leaves_no_process_and_no_folder() {
    let folder = cluster(&[]);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_vitreous"));
    command.current_dir(folder.root()).args(["slurm", "train", "--simulate", "--name=a", "--epochs=100000"]);
    let mut rehearsal = command.env("VITREOUS_NO_PLOTS", "1").spawn().unwrap();
    while !folder.path("runs/a-rehearsal/alone/manifest.json").exists() {
        assert_eq!(rehearsal.try_wait().unwrap(), None);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    signal(&rehearsal, "TERM");
    assert_eq!(rehearsal.wait().unwrap().code(), Some(130));
    assert!(!folder.path("runs/a-rehearsal").exists());
    let of_the_rehearsal = |line: &Vec<u8>| String::from_utf8_lossy(line).contains(&*folder.root().to_string_lossy());
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    assert_eq!(processes.filter(of_the_rehearsal).count(), 0);
}

#[test]
fn flags_between_the_words_of_the_command_are_not_the_job_s() {
    let folder = cluster(&[]);
    let mut command = Command::cargo_bin("vitreous").unwrap();
    command.current_dir(folder.root()).env("HOME", folder.root());
    let output =
        command.args(["-v", "slurm", "-v", "train", "-vpcpu", "--dry-run", "--name", "slurm", "-j1"]).output().unwrap();
    let script = text(&output.stdout);
    line_with(&script, "#SBATCH --partition=\"cpu\"");
    assert!(line_with(&script, "srun ").ends_with(" train --resume auto -v --name slurm -j1 || status=$?"), "{script}");
}

#[test]
fn names_that_a_shell_would_expand_reach_the_program_as_they_are() {
    let folder = cluster(&[("srun", "shift 3; for word; do printf '[%s]\\n' \"$word\"; done")]);
    let hostile = "a $(touch pwned) `touch pwned` 'x' \"y\" ; * # &";
    // Each alone too: where one is not quoted, another may be the reason for quotes around all.
    let each = [
        "a b",
        "$HOME",
        "$(touch pwned)",
        "`touch pwned`",
        "a'b",
        "a\"b",
        "a;b",
        "*",
        "a&b",
        "a|b",
        "a>pwned",
        "a<b",
        "(a)",
        "{a,b}",
        "a\\b",
        "#",
        "!!",
        "?",
        "[a-z]*",
        "~",
    ];
    let each: Vec<String> = each.iter().map(|value| format!("--set=slurm.mail={value}")).collect();
    fs::create_dir(folder.path(hostile)).unwrap();
    fs::write(folder.path(hostile).join("my.toml"), "").unwrap();
    let config = format!("{hostile}/my.toml");
    let arguments = ["train", "--name=a", "--out", hostile, "--config", &config];
    let arguments: Vec<&str> = arguments.into_iter().chain(each.iter().map(String::as_str)).collect();
    let [script, _] = succeeds(&folder, &[&arguments[..], &["--dry-run"]].concat());
    fs::write(folder.path("job.sh"), &script).unwrap();
    fs::create_dir_all(folder.path(hostile).join("a/slurm")).unwrap();
    let mut bash = Command::new("bash");
    bash.current_dir(folder.root())
        .env("PATH", folder.path("bin"))
        .arg("job.sh")
        .env("SLURM_JOB_ID", "7")
        .env("SLURM_CPUS_PER_TASK", "1");
    let stdout = text(&bash.output().unwrap().stdout);
    let words = [&["train", "--resume", "auto"][..], &arguments[1..]].concat();
    let expected: String = words.iter().map(|word| format!("[{word}]\n")).collect();
    assert!(stdout.ends_with(&expected), "{stdout}");
    assert!(!folder.path("pwned").exists() && !Path::new("pwned").exists());
    let line = line_with(&script, "#SBATCH --output=");
    assert!(line.contains(r#"\"y\" ; * # &/a/slurm/%j.log""#), "{line}");
}

#[test]
fn an_allocation_that_is_smaller_than_the_machine_limits_the_threads() {
    let folder = Folder::new();
    let mut command = Command::cargo_bin("vitreous").unwrap();
    command
        .current_dir(folder.root())
        .env("SLURM_JOB_ID", "7")
        .env("SLURM_CPUS_PER_TASK", "1")
        .env("VITREOUS_NO_PLOTS", "1");
    let output = command.args(["train", "--name=a", "--max-steps=1"]).args(SMALL).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(folder.manifest("a")["machine"]["threads"], 1);
    let visible = std::thread::available_parallelism().unwrap().get();
    let note =
        format!("note: Slurm allocated 1 processor, the system shows {visible} processors: the default is 1 thread\n");
    assert_eq!(text(&output.stderr).starts_with(&note), visible > 1, "{}", text(&output.stderr));
}
