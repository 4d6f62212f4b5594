//! `profile` end to end: formats, files, `profile diff`, and what is refused.

use serde_json::Value;

use crate::common::{Folder, json, refused, said, text, vitreous};

/// A small model, and little time.
const SMALL: [&str; 7] = [
    "--set=model.depth=1",
    "--set=model.embed_dim=16",
    "--set=model.num_heads=1",
    "--batch-size=8",
    "--seconds=0",
    "--threads=2",
    "--quiet",
];

/// Runs the program with a cache folder of its own, in which the roof is kept once it is measured.
fn with_cache(folder: &Folder, arguments: &[&str]) -> std::process::Output {
    let mut command = assert_cmd::Command::cargo_bin("vitreous").expect("the program is built");
    command.current_dir(folder.root()).env("XDG_CACHE_HOME", folder.path("cache")).args(arguments);
    command.output().expect("the program runs")
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn profile(folder: &Folder, arguments: &[&str]) -> String {
    let output = with_cache(folder, &[&["profile"][..], arguments, &SMALL].concat());
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn a_profile_is_printed_saved_drawn_and_compared() {
    let folder = Folder::new();
    let files = ["--output=a.json", "--trace=step.json", "--plot=step.svg", "--counters"];
    let all = profile(&folder, &[&["digits", "--by=call"][..], &files].concat());
    assert!(all.starts_with("digits: ") && all.contains(" ms for one training step of 8 images, median of "), "{all}");
    for word in [
        "patch_embed.proj",
        "head",
        "optimizer",
        "waiting at barriers",
        "sum       ",
        "profiler  ",
        "roof      ",
        "memory    ",
        "counters  ",
    ] {
        assert!(all.contains(word), "{word}: {all}");
    }
    let trace: Value = serde_json::from_slice(&folder.read("step.json")).unwrap();
    assert!(trace["traceEvents"].as_array().unwrap().len() > 50);
    assert!(folder.text("step.svg").contains("Time by layer"));
    assert!(folder.text("step-roofline.svg").contains("Layers under the roof"));

    // What this machine counts is a number, all else is named with a reason.
    let saved: Value = serde_json::from_slice(&folder.read("a.json")).unwrap();
    let absent: Vec<&str> = saved["counters"]["absent"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for (key, name) in [("instructions", "instructions"), ("page_faults", "page faults")] {
        let is_absent = absent.iter().any(|why| why.contains(name) && why.contains(" are not counted: "));
        assert_eq!(saved["counters"][key].is_null(), is_absent, "{key}: {}", saved["counters"]);
    }

    // The roof was kept.
    let roofs: Value = serde_json::from_slice(&folder.read("cache/vitreous/roof.json")).unwrap();
    assert!(roofs[0]["roof"]["gflops"].as_f64().unwrap() > 0.1, "{roofs}");
    assert_eq!(roofs[0]["threads"].as_u64().unwrap() as usize, 2.min(processors()));
    // As if measured on a quiet machine, so that it is not measured each time.
    let mut steady = roofs.clone();
    steady[0]["is_steady"] = true.into();
    std::fs::write(folder.path("cache/vitreous/roof.json"), steady.to_string()).unwrap();

    let rows = profile(&folder, &["digits", "--format=csv", "--sort=order", "--infer"]);
    let lines: Vec<&str> = rows.lines().collect();
    assert!(
        lines[0].starts_with("layer,op,operation,ms,ms_p10") && lines[1].starts_with("patch_embed.patches,patches,"),
        "{rows}"
    );
    assert!(lines.iter().all(|line| line.split(',').count() >= 19), "{rows}");
    assert!(rows.contains("\nblocks.0.mlp.fc1 + act,linear,linear 32 + gelu,"), "{rows}");
    let few = profile(&folder, &["digits", "--format=csv", "--top=2"]);
    assert_eq!(few.lines().count(), 3, "{few}");
    let few = profile(&folder, &["digits", "--format=markdown", "--top=2"]);
    assert_eq!(few.lines().filter(|line| line.starts_with('|')).count(), 2 + 2 + 1, "{few}");
    assert!(few.contains(" other rows |") && few.contains("\n- sum: ") && few.contains("\n- roof: "), "{few}");
    let memory = profile(&folder, &["digits", "--memory", "--format=markdown"]);
    assert!(memory.contains("| layer | stores | until |") && memory.contains("(backward)"), "{memory}");
    assert!(memory.contains("\n- memory: ") && !memory.contains("optimizer"), "{memory}");

    // A preset and a config file, profiled in turn.
    std::fs::write(folder.path("mine.toml"), said(folder.root(), &["presets", "digits"])).unwrap();
    let how = ["profile", "diff", "digits", "mine.toml", "--batch-size=4", "--seconds=0", "--threads=2", "--json"];
    let output = with_cache(&folder, &how);
    let same: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    assert_eq!((&same["models"], &same["in_turn"]), (&serde_json::json!(["digits", "mine"]), &true.into()));
    assert!(
        same["layers"].as_array().unwrap().iter().all(|layer| layer["operations"][0] == layer["operations"][1]),
        "{same}"
    );
    // Three pairs of steps are too few for an interval.
    assert!(same["ratio"].as_f64().unwrap() > 0.0 && same["interval"].is_null(), "{same}");

    // Two saved profiles, of which the second has a slower layer.
    let mut slower: Value = serde_json::from_slice(&folder.read("a.json")).unwrap();
    let mut steps = |head: f64, name: &str| {
        for row in slower["layers"].as_array_mut().unwrap().iter_mut().filter(|row| row["names"][0] == "head") {
            row["ms"] = serde_json::json!({"mean": head, "p10": head, "p90": head});
            row["steps_ms"] = vec![head; 20].into();
        }
        std::fs::write(folder.path(name), slower.to_string()).unwrap();
        (slower["model"], slower["batch"]) = ("slower".into(), 16.into());
    };
    steps(1.0, "a.json");
    steps(500.0, "b.json");
    let difference = json(folder.root(), &["profile", "diff", "a.json", "b.json"]);
    let first = &difference["layers"][0];
    assert_eq!((&first["names"][1], &first["is_clear"]), (&"head".into(), &true.into()), "{difference}");
    let table = said(folder.root(), &["profile", "diff", "a.json", "b.json", "--top=1"]);
    assert!(table.starts_with("A is digits, B is slower.\nA takes ") && table.contains("too few steps"), "{table}");
    assert!(table.contains("head   linear 10  1.00  500.00  +499.00  +499.00 to +499.00  yes"), "{table}");
    assert!(table.contains("\nA difference is clear if "), "{table}");
    assert!(table.contains("\nThe steps' batches differ: 8 and 16 images.\n"), "{table}");
    // Two of the same name are called what they were called on the command line.
    let table = said(folder.root(), &["profile", "diff", "a.json", "./a.json", "--top=1"]);
    assert!(table.starts_with("A is a.json, B is ./a.json.\n"), "{table}");
    slower["machine"]["cpu"] = "Another CPU".into();
    std::fs::write(folder.path("b.json"), slower.to_string()).unwrap();
    let error = refused(folder.root(), &["profile", "diff", "a.json", "b.json"]);
    assert!(error.starts_with("error: profiles of different machines cannot be compared: "), "{error}");
    assert!(error.contains("Another CPU") && error.contains("hint: times of one machine say little about another"));
}

#[test]
fn a_run_is_profiled_into_its_folder_and_its_report_shows_it() {
    let folder = Folder::new();
    let train = ["train", "--set=data.limit_train=40", "--epochs=1", "--name=run", "--batch-size=8", "--threads=2"];
    said(folder.root(), &[&train[..], &SMALL[..3]].concat());
    let output = with_cache(&folder, &["profile", "--run=run", "--seconds=0", "--threads=3"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).starts_with("run: "), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("\nwrote runs/run/profile.json\n"), "{}", text(&output.stderr));
    // A profile of another config is not that of the run.
    let saved = folder.read("runs/run/profile.json");
    let output = with_cache(&folder, &["profile", "runs/run", "--seconds=0", "--set=model.mlp_ratio=1.0"]);
    let note = "measuring steps for 0 s\nnote: the profile is not saved in runs/run, because it is of another config\n";
    assert_eq!(text(&output.stderr), note, "{}", text(&output.stdout));
    assert!(folder.read("runs/run/profile.json") == saved);
    let error = refused(folder.root(), &["profile", "runs/run", "--data-dir=elsewhere"]);
    assert_eq!(
        error,
        "error: --data-dir cannot be used with a run folder, which has a config (runs/run)\nhint: leave out --data-dir, or \
         change keys of that config with --set, such as --set train.threads=1\n"
    );
    for (arguments, other) in [
        (["--epoch", "--plot=step.svg"], "--plot"),
        (["--epoch", "--output=a.json"], "--output"),
        (["--memory", "--by=kind"], "--by"),
        (["--memory", "--sort=time"], "--sort"),
    ] {
        let error = refused(folder.root(), &[&["profile", "runs/run"][..], &arguments].concat());
        assert!(error.contains(arguments[0]) && error.contains(other), "{error}");
    }
    said(folder.root(), &["report", "run"]);
    let page = folder.text("runs/run/report.html");
    assert!(!page.contains("measured on another machine"), "{page}");
    let mut foreign: Value = serde_json::from_slice(&saved).unwrap();
    foreign["machine"]["cpu"] = "Another CPU".into();
    std::fs::write(folder.path("runs/run/profile.json"), foreign.to_string()).unwrap();
    said(folder.root(), &["report", "run"]);
    let page = folder.text("runs/run/report.html");
    assert!(
        page.contains("The profile was measured on another machine than the one that wrote this report ("),
        "{page}"
    );
    assert!(page.contains("Time by layer") && page.contains("Layers under the roof"), "{page}");
    assert!(page.contains("A training step of 8 images took "));
    assert!(page.contains(" on 3 threads, while the run was trained on 2 threads (Another CPU, "), "{page}");
    assert!(page.contains("vitreous profile --run runs&#x2f;run --set train.threads=3"), "{page}");
    // A busy machine is said.
    foreign["step"] = serde_json::json!({"median": 10.0, "p10": 5.0, "p90": 30.0});
    std::fs::write(folder.path("runs/run/profile.json"), foreign.to_string()).unwrap();
    said(folder.root(), &["report", "run"]);
    let page = folder.text("runs/run/report.html");
    assert!(page.contains("The machine was busy: 8 of 10 steps took 5.0 to 30.0 ms, "), "{page}");

    // An epoch, with its data.
    let epoch = with_cache(&folder, &["profile", "--run=run", "--seconds=0", "--epoch", "--json"]);
    let epoch: Value = serde_json::from_slice(&epoch.stdout).unwrap_or_else(|_| panic!("{}", text(&epoch.stderr)));
    assert_eq!((&epoch["steps"], &epoch["images"]), (&5.into(), &40.into()), "{epoch}");
    assert!(
        ["read_s", "augmentation_s", "steps_s", "validation_s"].iter().all(|key| epoch[key].as_f64().unwrap() > 0.0)
    );

    std::fs::write(folder.path("runs/run/profile.json"), "{}").unwrap();
    said(folder.root(), &["report", "run"]);
    assert!(folder.text("runs/run/report.html").contains("invalid profile: missing field"));
}

#[test]
fn what_cannot_be_profiled_is_refused() {
    let folder = Folder::new();
    let of = |arguments: &[&str]| refused(folder.root(), &[&["profile"][..], arguments].concat());
    let error = of(&["digits", "--plot=step.gif"]);
    assert!(error.starts_with("error: invalid file name `step.gif` (--plot)"), "{error}");
    let error = of(&["digits", "--trace=step.txt"]);
    assert!(
        error.starts_with("error: invalid file name `step.txt` (--trace)\nhint: use a name that ends in .json"),
        "{error}"
    );
    std::fs::create_dir(folder.path("run")).unwrap();
    std::fs::write(folder.path("run/manifest.json"), "{}").unwrap();
    let error = of(&["digits", "--output=run/manifest.json"]);
    assert!(error.starts_with("error: run is a run folder, whose files are the program's own (--output)"), "{error}");
    let error = of(&["diff", "digits", "run"]);
    assert_eq!(error, "error: the folder has no profile (run)\nhint: make one with `vitreous profile --run run`\n");
    let error = of(&["digits", "--output=x.json", "--trace=./x.json"]);
    assert!(error.starts_with("error: --output and --trace name the same file (./x.json)\nhint: "), "{error}");
    for json in ["--json", "--format=json"] {
        let error = of(&["digits", json, "--top=3"]);
        assert!(error.contains("--top cannot be used with JSON"), "{error}");
    }
    let error = of(&["digits", "--seconds=-1"]);
    assert_eq!(error, "error: invalid time `-1` (--seconds)\nhint: use --seconds 6\n");
    let error = of(&["diff", "digits", "nothing.json"]);
    assert!(
        error.starts_with("error: no profile, run folder, preset or config file `nothing.json`\nhint: "),
        "{error}"
    );
    std::fs::write(folder.path("a.json"), "[]").unwrap();
    let error = of(&["diff", "a.json", "a.json"]);
    assert!(error.starts_with("error: invalid profile: ") && error.contains("(a.json)"), "{error}");
    let error = text(&vitreous(folder.root(), &["profile", "--preset=digitz"]).stderr);
    assert!(error.contains("digits"), "{error}");
}
