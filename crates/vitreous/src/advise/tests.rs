//! Searches on built-in digits, with injected timings.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::record::Record;
use super::*;
use crate::advice::Explain;
use crate::config::layers::Layers;
use crate::config::model::{ImageFacts, Layer, ModelConfig, ModelSpec, PlacedKind, VitSpec, WrittenLayer};
use crate::profile::{self, Profile};
use crate::random::Key;
use crate::record::Run;
use crate::sweep::SweepEvent;
use crate::timing::Paired;

/// A dropout layer that drops nearly everything is planted between a convolution and the head.
const FLAWED: &str = "
    [data]
    name = 'digits'
    classes = '0,1,7'
    limit_train = 240
    val_fraction = 0.05
    [model]
    kind = 'stack'
    layers = ['conv 8 k5 s2', 'relu', 'dropout 0.99', 'maxpool 2', 'flatten', 'linear classes']
    [train]
    epochs = 1
    batch_size = 20
    lr = 5e-3
    sched = 'constant'
    warmup_epochs = 0
    threads = 1
";

/// A machine whose steps take what the layers cost, and on which time passes when the test says so.
struct Injected {
    /// By how much the times of equal steps scatter.
    scatter: f64,
    /// Functions that were made.
    made: AtomicUsize,
    /// Seconds since the start.
    clock: AtomicU64,
}

fn machine(scatter: f64) -> Injected {
    Injected { scatter, made: AtomicUsize::new(0), clock: AtomicU64::new(0) }
}

impl Stopwatch for Injected {
    fn steps(&self, config: &ResolvedConfig) -> Result<Box<dyn FnMut() -> f64>, TimingError> {
        let ModelConfig::Stack(stack) = &config.model else { panic!("a stack") };
        let cost = |kind: &PlacedKind| match kind {
            PlacedKind::Layer(Layer::Convolution { window, .. }) => (window.kernel * window.kernel) as f64 / 25.0,
            PlacedKind::Layer(Layer::Dropout { .. }) => 0.5,
            _ => 0.0,
        };
        let seconds = 1.0 + stack.layout().iter().map(|layer| cost(&layer.kind)).sum::<f64>();
        let key = Key::new(self.made.fetch_add(1, Ordering::Relaxed) as u64);
        let (scatter, mut draw) = (self.scatter, 0);
        Ok(Box::new(move || {
            draw += 1;
            seconds * (scatter * key.normal(draw)).exp()
        }))
    }

    fn now(&self) -> f64 {
        self.clock.load(Ordering::Relaxed) as f64
    }

    fn profiles(&self, _: [(&str, &ResolvedConfig); 2]) -> Option<[Profile; 2]> {
        None
    }
}

fn base(toml: &str) -> Base {
    let mut layers = Layers::new();
    layers.add_toml(toml, "my.toml").unwrap();
    Base::new(layers, &|_| ()).unwrap()
}

fn scope(rules: &[&str]) -> Scope {
    let rules = rules.iter().map(|rule| (*rule).to_string()).collect();
    Scope { rules, keep: vec!["layers.0".to_string()], ..Scope::default() }
}

/// Searches; the function gets each event, before which each run takes 30 seconds.
fn search_as(
    folder: &Path,
    scope: Scope,
    machine: &Injected,
    minutes: u64,
    on: &(dyn Fn(&AdviseEvent) + Sync),
) -> Result<Advised, AdviseError> {
    let base = base(FLAWED);
    let hood = Neighborhood::new(&base.config.model, &scope)?;
    let budget = Duration::from_secs(60 * minutes);
    let options = AdviseOptions { folder: folder.to_path_buf(), budget, jobs: 1, command: Vec::new() };
    let listener = |event: AdviseEvent| {
        if matches!(event, AdviseEvent::Sweep { event: SweepEvent::Started { .. }, .. }) {
            machine.clock.fetch_add(30, Ordering::Relaxed);
        }
        on(&event);
    };
    advise(&base, &hood, &scope, &options, machine, (&AtomicBool::new(false), &listener))
}

fn search(folder: &Path, rules: &[&str], machine: &Injected, minutes: u64) -> Result<Advised, AdviseError> {
    search_as(folder, scope(rules), machine, minutes, &|_| ())
}

/// What a folder holds when the process is killed now.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn state(folder: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(folder.join("advise.json")).unwrap()).unwrap()
}

fn change(file: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let mut value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(file, value.to_string()).unwrap();
}

fn answered(result: Result<Advised, AdviseError>) -> Answer {
    match result.unwrap() {
        Advised::Answered(answer) => *answer,
        Advised::Stopped => panic!("it was not to stop"),
    }
}

const USED: [&str; 2] = ["pool", "drop"];

#[test]
fn a_planted_flaw_is_found_and_a_search_that_was_killed_gives_the_same_answer() {
    let root = tempfile::tempdir().unwrap();
    let [whole, training, timing, earlier] =
        ["whole", "training", "timing", "earlier"].map(|name| root.path().join(name));
    let trained = AtomicUsize::new(0);
    let on = |event: &AdviseEvent| match event {
        // Killed within the second run of the first round, and before the finalist is timed.
        AdviseEvent::Sweep { event: SweepEvent::Trained { .. }, .. }
            if trained.fetch_add(1, Ordering::Relaxed) == 1 =>
        {
            copy(&whole, &training);
        }
        AdviseEvent::Timing { .. } if trained.load(Ordering::Relaxed) > 0 => copy(&whole, &timing),
        _ => {}
    };
    let mut answer = answered(search_as(&whole, scope(&USED), &machine(0.0), 240, &on));
    assert_eq!(answer.winner.as_deref(), Some("drop-1"), "{}", answer.text);
    assert_eq!(answer.outcome, Outcome::Proven, "{}", answer.text);
    let start = "Proven. The change: layers.2: dropout 0.99 dropped. A training step then takes 20.0 % less time: 2000.0 ms instead of \
                 2500.0 ms (95 % interval 20.0 to 20.0 %). After the recipe's 1 epoch, the best validation accuracy is ";
    assert!(answer.text.starts_with(start), "{}", answer.text);
    // What is chosen is trained by its config, which has no other change.
    let advised = std::fs::read_to_string(whole.join("advised.toml")).unwrap();
    let mut layers = Layers::new();
    layers.add_toml(&advised, "advised.toml").unwrap();
    let ModelSpec::Stack(spec) = layers.finish().unwrap().config().model.clone() else { panic!("a stack") };
    let lines = ["conv 8 k5 s2", "relu", "maxpool 2", "flatten", "linear classes"];
    assert_eq!(spec.layers, lines.map(|line| WrittenLayer::Line(line.to_string())));
    assert_eq!((spec.image_size, spec.channels, spec.num_classes), (None, None, None));
    for file in ["answer.md", "pareto.svg", "advise.json"] {
        assert!(whole.join(file).is_file(), "{file}");
    }
    // The test split is looked at once, for the winner and the base alone.
    let looks = |name: &str| {
        Run::open(&whole.join("final").join(format!("{name}_seed=43"))).unwrap().manifest().test_evaluations
    };
    let finalists: Vec<String> = answer.finalists.iter().map(|one| one.name.clone()).collect();
    assert_eq!([looks("base"), looks("drop-1")], [1, 1]);
    assert!(finalists.iter().filter(|name| *name != "drop-1").all(|name| looks(name) == 0));

    // What is said of the noise is what was compared with its limit: the end of the interval that is farther from 1.
    answer.noise = answer.noise.map(|noise| Paired { interval: [0.99, 1.043], ..noise });
    assert!(answer.markdown().contains("timed against itself, it differs by 4.3 % at most"));

    let comparable = |mut answer: Answer| {
        (answer.folder, answer.config, answer.spent_s) = ("runs/a".into(), None, 0.0);
        serde_json::to_value(&answer).unwrap()
    };
    let end = state(&whole);
    // The machine is slower by now: what was timed is read, not timed again.
    let before = state(&training);
    answered(search(&training, &USED, &machine(0.01), 240));
    let after = state(&training);
    assert_eq!(before["noise"], after["noise"]);
    let timings = |state: &serde_json::Value| state["timings"].as_array().unwrap().clone();
    assert_eq!(timings(&before), timings(&after)[..timings(&before).len()]);
    assert_eq!(before["rounds"][0]["candidates"], after["rounds"][0]["candidates"]);
    // The round took what both of its starts took; the run that was under way is started again.
    let took = |state: &serde_json::Value| state["rounds"][0]["took_s"].as_f64().unwrap();
    assert_eq!(took(&after), took(&end));
    let expected = comparable(answered(search(&whole, &USED, &machine(0.0), 240)));
    copy(&timing, &earlier);
    assert_eq!(comparable(answered(search(&timing, &USED, &machine(0.0), 240))), expected);
    assert_eq!(state(&timing)["rounds"], end["rounds"]);

    // An earlier version wrote the first times of each, and the last of the best.
    let timed_last = timings(&end).last().unwrap()["time"].clone();
    change(&earlier.join("advise.json"), |state| {
        let of = |one: &serde_json::Value| (one["name"].as_str().unwrap().to_string(), one["time"].clone());
        let times: serde_json::Map<_, _> = timings(state).iter().map(of).collect();
        let chosen = state["next"].take();
        assert_eq!(chosen, serde_json::json!(["final", ["drop-1"]]));
        let state = state.as_object_mut().unwrap();
        state.retain(|key, _| key != "timings" && key != "next");
        state.insert("best".to_string(), chosen);
        state.insert("final_times".to_string(), serde_json::json!({"drop-1": timed_last}));
        state.insert("times".to_string(), times.into());
        state.insert("is_timed".to_string(), true.into());
    });
    let timed = AtomicUsize::new(0);
    let on = |event: &AdviseEvent| {
        timed.fetch_add(usize::from(matches!(event, AdviseEvent::Timing { .. })), Ordering::Relaxed);
    };
    assert_eq!(comparable(answered(search_as(&earlier, scope(&USED), &machine(0.0), 240, &on))), expected);
    assert_eq!(
        (timed.into_inner(), &state(&earlier)["rounds"]),
        (0, &end["rounds"]),
        "its times are not measured again"
    );

    // Its times do not hold on another machine or with other threads, and its runs were chosen by them.
    change(&earlier.join("advise.json"), |state| state["machine"][1] = 64.into());
    let text = search(&earlier, &USED, &machine(0.0), 240).err().unwrap().to_string();
    let other = "the folder was made with another machine or number of threads, whose times do not hold here (";
    assert!(text.starts_with(other), "{text}");

    // A lucky value of few images does not bring a candidate back that a later round left out, or that was not among the
    // best when these began to be timed again.
    change(&whole.join("round-1/pool-1_seed=42/manifest.json"), |manifest| {
        manifest["results"]["best_val_acc"] = 1.0.into();
    });
    copy(&whole.join("round-1"), &whole.join("round-2"));
    let [mut narrow, singles] = [&end["rounds"][0]; 2].map(Clone::clone);
    (narrow["kind"], narrow["candidates"]) = ("narrow".into(), serde_json::json!(["drop-1"]));
    let chosen = serde_json::json!(["final", ["drop-1"]]);
    for (rounds, best) in [(vec![singles.clone(), narrow], serde_json::Value::Null), (vec![singles], chosen)] {
        change(&whole.join("advise.json"), |state| {
            (state["rounds"], state["next"]) = (rounds.into(), best);
            let time = Paired { ratio: 0.5, interval: [0.5, 0.5], ..Paired::default() };
            let timings = state["timings"].as_array_mut().unwrap();
            timings.retain(|one| one["round"] != "final");
            timings.push(serde_json::json!({"name": "pool-1", "round": "singles", "time": time}));
        });
        answered(search(&whole, &USED, &machine(0.0), 240));
        let last = state(&whole)["rounds"].as_array().unwrap().last().unwrap().clone();
        assert_eq!((&last["kind"], &last["candidates"]), (&"final".into(), &serde_json::json!(["drop-1"])));
    }

    // A finalist whose training failed does not keep the others from an answer.
    for seed in [43, 44, 45] {
        let failed = whole.join(format!("final/pool-1_seed={seed}"));
        copy(&whole.join(format!("final/drop-1_seed={seed}")), &failed);
        change(&failed.join("manifest.json"), |manifest| manifest["status"] = "failed".into());
    }
    change(&whole.join("advise.json"), |state| {
        let rounds = state["rounds"].as_array_mut().unwrap();
        rounds.last_mut().unwrap()["candidates"] = serde_json::json!(["pool-1", "drop-1"]);
    });
    let left = answered(search(&whole, &USED, &machine(0.0), 240));
    assert_eq!((left.finalists.len(), left.outcome), (1, Outcome::Proven), "{}", left.text);
    assert_eq!(left.finalists[0].accuracy[0].n, 3);
}

#[test]
fn a_budget_that_ends_before_an_answer_leaves_the_search_open() {
    let root = tempfile::tempdir().unwrap();
    let machine = machine(0.0);
    // The time is over during the second run of the last round, whose first run is the base's.
    let (is_last, started) = (AtomicBool::new(false), AtomicUsize::new(0));
    let on = |event: &AdviseEvent| match event {
        AdviseEvent::Round { round: Round { kind: RoundKind::Final, .. }, .. } => {
            is_last.store(true, Ordering::Relaxed)
        }
        AdviseEvent::Sweep { event: SweepEvent::Started { .. }, .. }
            if is_last.load(Ordering::Relaxed) && started.fetch_add(1, Ordering::Relaxed) == 1 =>
        {
            machine.clock.fetch_add(60 * 300, Ordering::Relaxed);
        }
        _ => {}
    };
    let mut scope = scope(&["drop"]);
    scope.max_edits = 1;
    let answer = answered(search_as(root.path(), scope.clone(), &machine, 240, &on));
    let text = "The budget of 4 h 00 min ended before the runs did from which an answer follows. The same command with a \
                larger budget continues the search.";
    assert_eq!((answer.outcome, answer.text.as_str()), (Outcome::Unfinished, text));
    let status = |name: &str| {
        Run::open(&root.path().join("final").join(format!("{name}_seed=43"))).map(|run| run.manifest().status)
    };
    assert!(status("base").unwrap().is_finished() && !status("drop-1").is_ok_and(|status| status.is_finished()));
    assert!(status("drop-1").is_ok(), "it was cut off");
    let again = answered(search_as(root.path(), scope.clone(), &super::tests::machine(0.0), 240, &|_| ()));
    assert_eq!(again.outcome, Outcome::Unfinished);
    let longer = answered(search_as(root.path(), scope, &super::tests::machine(0.0), 1000, &|_| ()));
    assert_eq!((longer.outcome, longer.winner.as_deref()), (Outcome::Proven, Some("drop-1")), "{}", longer.text);
}

#[test]
fn a_round_that_ends_before_its_runs_tells_nothing_and_the_search_continues() {
    let root = tempfile::tempdir().unwrap();
    let machine = machine(0.0);
    // The time of all rounds but the last is over as soon as the round of pairs begins.
    let on = |event: &AdviseEvent| {
        if matches!(event, AdviseEvent::Round { round: Round { kind: RoundKind::Several(_), .. }, .. }) {
            machine.clock.store(60 * 237, Ordering::Relaxed);
        }
    };
    // No single edit gains so much, so pairs are tried.
    let scope = Scope { better: 0.9, ..scope(&USED) };
    let answer = answered(search_as(root.path(), scope, &machine, 240, &on));
    let cut = &state(root.path())["rounds"][1];
    assert_eq!(cut["kind"], serde_json::json!({"several": 2}), "{}", answer.text);
    assert_eq!((answer.outcome, answer.winner.as_deref()), (Outcome::Proven, Some("drop-1")), "{}", answer.text);
    let pair = answer.tried.iter().find(|one| one.name.contains('+')).unwrap();
    assert_eq!(
        (pair.gain, pair.images, pair.outcome.as_str()),
        (None, None, "the time of round 2 ended before its run")
    );
}

#[test]
fn what_cannot_be_advised_says_why() {
    let root = tempfile::tempdir().unwrap();
    let said = |result: Result<Advised, AdviseError>| {
        let error = result.err().expect("an error");
        [error.to_string(), error.hint().unwrap_or_default()]
    };
    let at = |name: &str| root.path().join(name);
    let [text, hint] = said(search(&at("a"), &["kernal"], &machine(0.0), 60));
    assert_eq!([text.as_str(), hint.as_str()], ["unknown rule `kernal`", "did you mean `kernel`?"]);
    let [text, _] = said(search(&at("a"), &["attention"], &machine(0.0), 60));
    assert_eq!(text, "no rule can change this model (stack)");
    let [small, hint] = said(search(&at("b"), &["drop"], &machine(0.0), 1));
    assert!(small.starts_with("the budget of 1 min 00 s is too small: an epoch of this model takes about "), "{small}");
    assert!(hint.starts_with("use budget = \"") && hint.contains("data.limit_train"), "{hint}");
    assert!(!at("b").join("advise.json").exists(), "a search that did not begin takes nothing of a later budget");
    let [text, hint] = said(search(&at("c"), &["drop"], &machine(0.6), 60));
    let noisy =
        "timings on this machine vary too much: the same training step, timed against itself, differs by up to ";
    assert!(text.starts_with(noisy) && hint.starts_with("end other programs"), "{text}, {hint}");
    // A gain that is smaller than usual needs less noise.
    let little = Scope { faster: 0.02, ..scope(&["drop"]) };
    let [text, _] = said(search_as(&at("d"), little, &machine(0.05), 60, &|_| ()));
    assert!(text.starts_with(noisy) && text.ends_with(", more than 1.00 %"), "{text}");
    // Times of another machine say nothing here: they are measured again while there are no runs. A file of an earlier
    // version does not have it.
    let here = (profile::Machine::this(), 1);
    let mut record = Record::open(&at("b"), &base(FLAWED).text(), &scope(&["drop"]), here.clone()).unwrap();
    record.noise = Some(Paired { first_s: 1e6, interval: [1.0, 1.0], ..Paired::default() });
    let mut of = |machine| {
        record.machine = machine;
        record.save(&at("b")).unwrap();
        said(search(&at("b"), &["drop"], &super::tests::machine(0.0), 1))[0].clone()
    };
    assert_eq!(of(Some((here.0.clone(), 64))), small);
    let [known, unknown] = [Some(here), None].map(&mut of);
    assert!(known != small && known == unknown, "{known}");
    // The folder of the search that had too little time is that of other rules now.
    let [text, _] = said(search(&at("b"), &["pool"], &machine(0.0), 1));
    assert!(
        text.starts_with("the folder was made with another scope: rules, parts to keep, limits or goals ("),
        "{text}"
    );
    let mut kept = Scope { keep: vec!["layers.9".to_string()], ..Scope::default() };
    let model = base(FLAWED).config.model;
    let unknown = Neighborhood::new(&model, &kept).err().unwrap();
    assert_eq!(unknown.to_string(), "the model has no part `layers.9`");
    kept.keep = ["layers.0", "layers.2", "layers.3", "layers.4", "model.layers.5"].map(str::to_string).into();
    let left = Neighborhood::new(&model, &kept).unwrap().singles;
    assert!(left.iter().all(|one| one.what().contains("added after layers.")), "{left:?}");
}

#[test]
fn a_maximum_number_of_steps_is_shortened_with_the_run() {
    let base = base(&FLAWED.replace("epochs = 1", "epochs = 4\n    max_steps = 40"));
    let steps = |images, epochs| {
        let layers = base.run(None, (images, epochs), 7).unwrap();
        layers.finish().unwrap().config().train.max_steps
    };
    let half = base.facts.train / 2;
    assert_eq!([steps(None, 4), steps(None, 2), steps(Some(half), 2), steps(Some(1), 1)], [40, 20, 10, 1].map(Some));
}

/// What single edits make of a preset.
fn neighbors(preset: &str) -> (Neighborhood, Vec<String>) {
    let checked = Layers::preset(preset).unwrap().finish().unwrap();
    let shape = crate::data::known_shape(&checked.config().data.name).unwrap();
    let num_classes = crate::data::class_count(&checked.config().data).unwrap().unwrap();
    let facts = ImageFacts { image_size: shape.height, channels: shape.channels, num_classes };
    let model = checked.config().model.with_facts(facts).unwrap();
    let hood = Neighborhood::new(&model, &Scope::default()).unwrap();
    let all = hood.singles.iter().map(Candidate::what).collect();
    (hood, all)
}

fn layers_of(candidate: &Candidate) -> Vec<String> {
    let ModelSpec::Stack(spec) = &candidate.spec else { panic!("a stack") };
    let text = |layer: &WrittenLayer| match layer {
        WrittenLayer::Line(line) => line.clone(),
        WrittenLayer::Residual(inside) => format!("residual of {}", inside.residual.len()),
    };
    spec.layers.iter().map(text).collect()
}

#[test]
fn the_neighbors_of_a_stack_are_those_that_the_rules_describe() {
    let (hood, all) = neighbors("cifar-cnn4");
    let expected = [
        "layers.0: conv 32 -> conv 16",
        "layers.5: conv 64 -> conv 96",
        "all convolutions three quarters as wide: 24, 24, 48, 96 channels",
        "layers.2: conv 32 -> conv 32 k5",
        "layers.2: conv 32 -> conv 32 k1",
        "layers.0: conv 32 -> conv 32 s2",
        "layers.4: maxpool 2 earlier, after layers.1 (relu)",
        "layers.4: maxpool 2 later, after layers.6 (relu)",
        "layers.10: maxpool 2 removed",
        "maxpool 2 added after layers.1 (relu)",
        "batchnorm added after layers.8 (conv 128)",
        "batchnorm added after each of 4 convolutions",
        "layers.11: flatten -> globalpool",
        "layers.2: conv 32 -> conv 32 g32, conv 32 k1",
        "layers.2: conv 32 with a residual connection",
        "layers.0: conv 32, relu dropped",
    ];
    for what in expected {
        assert!(all.iter().any(|found| found == what), "{what} is not in {all:#?}");
    }
    // Without the second convolution, it is the same model.
    assert!(!all.iter().any(|what| what == "layers.2: conv 32, relu dropped"));
    // Each is another model, and none is the base.
    let mut models: Vec<Vec<String>> = hood.singles.iter().map(layers_of).collect();
    models.sort();
    models.dedup();
    assert_eq!(models.len(), hood.singles.len());
    assert!(!all.iter().any(|what| what.contains("attention")));

    let named = |what: &str| hood.singles.iter().find(|one| one.what() == what).unwrap();
    let [pool, norm] = [named(expected[6]), named(expected[11])];
    let both = hood.both(pool, norm).unwrap();
    let start = ["conv 32", "batchnorm", "relu", "maxpool 2", "conv 32", "batchnorm", "relu", "conv 64", "batchnorm"];
    assert_eq!(layers_of(&both)[..9], start);
    assert_eq!((both.distance.edits, both.distance.layers), (2, 5));
    // The batch norms have a weight and a bias for each of 256 channels; statistics are not trained.
    assert_eq!(norm.parameters, 122_986 + 2 * 256);
    // Two changes of one layer's channels do not make a pair; channels and stride of one layer are.
    let of = |what: &str| named(what);
    assert!(hood.both(of("layers.0: conv 32 -> conv 16"), of("layers.0: conv 32 -> conv 64")).is_none());
    let pair = hood.both(of("layers.0: conv 32 -> conv 64"), of("layers.0: conv 32 -> conv 32 s2")).unwrap();
    assert_eq!(layers_of(&pair)[0], "conv 64 s2");
}

#[test]
fn the_neighbors_of_transformers_repair_their_known_flaws() {
    let (_, cosine) = neighbors("cifar-vit-cosine-6b8h8d");
    for what in [
        "head_softmax: true -> false",
        "attention: per-head -> multi-head",
        "final_norm: false -> true",
        "depth: 6 -> 5",
    ] {
        assert!(cosine.iter().any(|found| found == what), "{what} is not in {cosine:#?}");
    }
    let (hood, flat) = neighbors("cifar-vit-64-flat");
    assert!(cosine.iter().any(|what| what == "patch_embed: linear -> conv-stem"));
    let (_, square) = neighbors("mnist-vit");
    let of_stem = |all: &[String]| all.iter().filter(|what| what.starts_with("patch_embed")).count();
    // Flat tokens have no stem, and patches of 7 pixels cannot be halved to one.
    let seven = ModelSpec::Vit(VitSpec { patch_size: 7, ..VitSpec::default() });
    let seven = seven.with_facts(ImageFacts { image_size: 28, channels: 1, num_classes: 10 }).unwrap();
    let seven: Vec<String> =
        Neighborhood::new(&seven, &Scope::default()).unwrap().singles.iter().map(Candidate::what).collect();
    assert_eq!([of_stem(&square), of_stem(&neighbors("cifar-vit-64-flat").1), of_stem(&seven)], [1, 0, 0]);
    for what in ["patching: flat -> square", "pooling: cls -> mean", "patch_size: 4 -> 8", "num_heads: 4 -> 2"] {
        assert!(flat.iter().any(|found| found == what), "{what} is not in {flat:#?}");
    }
    // A class token that no longer is: 64 numbers, and a position.
    let mean = hood.singles.iter().find(|one| one.what() == "pooling: cls -> mean").unwrap();
    assert_eq!(hood.parameters() - mean.parameters, 2 * 64);
}

#[test]
fn attention_moves_behind_a_strided_convolution_and_a_flatten_is_named_as_it_stands() {
    let lines = "'conv 16', 'attention', 'conv 32 s2', 'batchnorm', 'relu', 'flatten', 'dropout 0.1', 'linear classes'";
    let spec: ModelSpec = toml::from_str(&format!("kind = 'stack'\nlayers = [{lines}]")).unwrap();
    let model = spec.with_facts(ImageFacts { image_size: 12, channels: 1, num_classes: 3 }).unwrap();
    let rules = ["attention", "head"].map(str::to_string).to_vec();
    let hood = Neighborhood::new(&model, &Scope { rules, ..Scope::default() }).unwrap();
    let found: Vec<(String, String)> = hood.singles.iter().map(|one| (one.what(), layers_of(one).join(", "))).collect();
    let expected = [
        ("layers.1: attention dropped", "conv 16, conv 32 s2, batchnorm, relu, flatten, dropout 0.1, linear classes"),
        (
            "layers.1: attention moved to a smaller map, after layers.4 (relu)",
            "conv 16, conv 32 s2, batchnorm, relu, attention, flatten, dropout 0.1, linear classes",
        ),
        (
            "layers.5: flatten -> globalpool",
            "conv 16, attention, conv 32 s2, batchnorm, relu, globalpool, dropout 0.1, linear classes",
        ),
    ];
    assert_eq!(found, expected.map(|(what, layers)| (what.to_string(), layers.to_string())));
}

#[test]
fn steps_are_timed_with_the_augmentation_of_their_images() {
    let least = |augment: &str| {
        let toml = FLAWED.replace("'conv 8 k5 s2', 'relu', 'dropout 0.99', 'maxpool 2', 'flatten'", "'globalpool'");
        let mut steps = Clock::new().steps(&base(&format!("{toml}\n{augment}")).config).unwrap();
        (0..20).map(|_| steps()).fold(f64::INFINITY, f64::min)
    };
    let [plain, augmented] = ["", "[augment]\nrotation_degrees = 10.0\nscale = 0.1"].map(least);
    assert!(augmented > 1.5 * plain, "{plain} s, with augmentation {augmented} s");
}
