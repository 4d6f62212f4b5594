//! Profiles of small models, and of recorded times that are made up.

use std::time::Duration;

use vitreous_engine::profile::{Slice, Work};

use super::measure::{OTHER, sample};
use super::rows::INTERRUPTIONS;
use super::*;
use crate::advice::Source;
use crate::config::ResolvedConfig;
use crate::config::layers::Layers;
use crate::config::model::ImageFacts;

/// A profile whose layers take these times, in 41 steps from 96 to 104 % of it.
pub(super) fn profile_of(model: &str, layers: &[(&str, f64)]) -> Profile {
    let spread = |ms: f64| Spread { median: ms, p10: ms, p90: ms };
    let steps = |ms: f64| (0..41).map(|step| ms * (0.96 + 0.002 * f64::from(step))).collect();
    let all: f64 = layers.iter().map(|(_, ms)| ms).sum();
    let row = |&(name, ms): &(&str, f64)| Row {
        names: vec![name.to_string()],
        op: "conv2d".to_string(),
        ms: spread(ms),
        steps_ms: steps(ms),
        forward_ms: ms / 4.0,
        backward_ms: ms * 0.75,
        ..Row::default()
    };
    let machine = Machine {
        cpu: "Some CPU".to_string(),
        processors: 2,
        instruction_set: "avx2".to_string(),
        os: "linux".to_string(),
    };
    Profile {
        version: VERSION,
        what: What::TrainingStep,
        model: model.to_string(),
        machine,
        threads: 2,
        batch: 8,
        chunk: 4,
        params: 100,
        pairs: 41,
        step: spread(all),
        steps_ms: steps(all),
        cost: Cost::default(),
        dropped: 0,
        counters: None,
        sum_ms: all,
        roof: Roof { gflops: 100.0, gbytes_per_s: 10.0 },
        layers: layers.iter().map(row).collect(),
        kinds: Vec::new(),
        calls: Vec::new(),
        phases: Vec::new(),
        memory: MemoryProfile::default(),
    }
}

fn config(preset: &str, facts: ImageFacts, set: &[&str]) -> ResolvedConfig {
    let mut layers = Layers::preset(preset).unwrap();
    for assignment in set {
        layers.set(assignment, Source::Argument("test".to_string())).unwrap();
    }
    layers.finish().unwrap().resolve(facts).unwrap()
}

/// A profiler. The roof is given, because measuring it takes a second.
fn profiler(config: &ResolvedConfig, infer: bool, gflops: f64) -> (Profiler, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("roof.json");
    let machine = serde_json::to_value(Machine::this()).unwrap();
    let roof = serde_json::json!({"gflops": gflops, "gbytes_per_s": 1e3});
    let known = [1, 2, 3]
        .map(|threads| serde_json::json!({"machine": machine, "threads": threads, "roof": roof, "is_steady": true}));
    std::fs::write(&file, serde_json::to_vec(&known).unwrap()).unwrap();
    let options = Options { infer, roof_file: Some(file), time: Duration::ZERO, ..Options::default() };
    (Profiler::new(config, options).unwrap(), folder)
}

const GRAY: ImageFacts = ImageFacts { image_size: 28, channels: 1, num_classes: 10 };
const COLOR: ImageFacts = ImageFacts { image_size: 32, channels: 3, num_classes: 10 };

#[test]
fn the_rows_of_each_view_add_up_for_a_preset_of_each_kind() {
    let presets: [(&str, ImageFacts, &[&str], usize, bool); 5] = [
        ("digits", GRAY, &[], 2, false),
        ("digits", GRAY, &[], 3, true),
        ("cifar-cnn4", COLOR, &[], 1, false),
        ("read-digits", ImageFacts { num_classes: 10, ..GRAY }, &[], 2, false),
        ("cifar-vit-64-flat", COLOR, &["model.depth=1"], 2, false),
    ];
    for (preset, facts, set, threads, infer) in presets {
        let (threads_key, batch) = (format!("train.threads={threads}"), "train.batch_size=5");
        let set: Vec<&str> = set.iter().copied().chain([threads_key.as_str(), batch]).collect();
        let config = config(preset, facts, &set);
        // More than any machine does, or so little that the roof must be wrong.
        let known = if infer { 1e-3 } else { 1e5 };
        let (mut profiler, _folder) = profiler(&config, infer, known);
        let [profile] = alternate([&mut profiler]);
        assert_eq!(profile.roof.gflops == known, !infer, "{preset}: a roof below the layers is measured again");
        // Medians add up with what interrupts the median step, unless that is nothing.
        let total = |rows: &[Row]| rows.iter().map(|row| row.ms.median).sum::<f64>();
        let is_whole = |rows: &[Row]| rows.iter().any(|row| row.names[0] == INTERRUPTIONS);
        for rows in [&profile.layers, &profile.kinds, &profile.calls, &profile.phases] {
            let near = if is_whole(rows) && is_whole(&profile.layers) { 1e-6 } else { 0.2 };
            assert!((total(rows) / profile.sum_ms - 1.0).abs() < near, "{preset}: {} ms", total(rows));
            assert!((rows.iter().map(|row| row.share).sum::<f64>() - 1.0).abs() < 1e-6, "{preset}");
            for row in rows.iter().filter(|row| row.is_layer()) {
                assert!((row.forward_ms + row.backward_ms - row.ms.median).abs() < 1e-6, "{preset}: {row:?}");
                assert!((row.ms.p10..=row.ms.p90).contains(&row.ms.median), "{preset}: {row:?}");
            }
        }
        // Other tests run at the same time, so more pairs may be needed until equal steps take equally long.
        let mut is_near = || alternate([&mut profiler])[0].sum_error().abs() < 0.1;
        assert!(
            profile.sum_error().abs() < 0.1 || (0..12).any(|_| is_near()),
            "{preset}: not the step without the profiler"
        );
        // What is recorded is the step, not what is left of it.
        let part =
            |name: &str| profile.phases.iter().filter(|row| row.name() == name).map(|row| row.share).sum::<f64>();
        assert!(threads > 1 || part("between phases") < 0.2, "{preset}: {:?}", profile.phases);
        assert_eq!((profile.dropped, profile.steps_ms.len()), (0, profile.pairs), "{preset}");
        assert_eq!(infer, profile.phases.iter().all(|row| row.op != "backward"), "{preset}");
        // The operations are those of the summary, whose names the rows have.
        let model = crate::models::build_for_training(&config).unwrap();
        let summary = crate::models::summary::summarise(&model);
        let flops = profile.layers.iter().map(|row| row.flops).sum::<u64>();
        if !infer {
            let all = (summary.flops_forward + summary.flops_backward) * 5;
            // Not in the program: the metric, and the gradient of dropout that is part of another call.
            assert!(flops <= all && flops as f64 > 0.99 * all as f64, "{preset}: {flops} of {all}");
        }
        for row in profile.layers.iter().filter(|row| row.is_layer()) {
            for name in &row.names {
                assert!(summary.layers.iter().any(|layer| layer.name == *name), "{preset}: {name}");
            }
            assert_eq!(row.reason.is_some(), row.roof_share.is_some_and(|share| share < 0.5), "{preset}: {row:?}");
        }
        let memory = &profile.memory;
        assert!(memory.peak > 0 && memory.peak <= memory.scratch + memory.batch, "{preset}: {memory:?}");
        assert!(profile.layers.iter().any(|row| row.held_bytes > 0));

        let file = _folder.path().join(FILE);
        profile.write(&file).unwrap();
        assert_eq!(Profile::read(&file).unwrap(), profile, "{preset}");
        let flops = profile.layers.iter().map(|row| row.flops).sum();
        check_trace(&profiler.trace(), threads, flops, preset);
    }
}

/// Checks a trace against the format: slices lie inside those around them, and counters and names have what they need.
fn check_trace(text: &str, threads: usize, flops: u64, preset: &str) {
    let trace: serde_json::Value = serde_json::from_str(text).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let mut open: Vec<Vec<(f64, &str)>> = vec![Vec::new(); threads];
    let (mut kinds, mut all) = (std::collections::BTreeSet::new(), 0);
    for event in events {
        assert!(event["pid"].is_u64() && event["name"].is_string(), "{event}");
        match event["ph"].as_str().unwrap() {
            "M" => assert!(event["args"]["name"].is_string(), "{event}"),
            "C" => assert!(event["args"]["MB"].as_f64().unwrap() > 0.0 && event["ts"].is_f64(), "{event}"),
            "X" => {
                let (start, length) = (event["ts"].as_f64().unwrap(), event["dur"].as_f64().unwrap());
                let open = &mut open[event["tid"].as_u64().unwrap() as usize];
                while open.last().is_some_and(|(end, _)| *end <= start) {
                    open.pop();
                }
                let kind = event["cat"].as_str().unwrap();
                assert!(length >= 0.0 && open.last().is_none_or(|(end, _)| start + length <= *end), "{event}");
                let around = open.last().map_or("", |(_, kind)| *kind);
                assert_eq!(kind == "chunk", around == "part", "{preset}: {event} in {around}");
                kinds.insert(kind.to_string());
                all += event["args"]["flops"].as_u64().unwrap_or(0);
                open.push((start + length, kind));
            }
            other => panic!("unknown kind of event {other}"),
        }
    }
    for kind in ["part", "chunk", "forward"] {
        assert!(kinds.contains(kind), "{preset}: {kinds:?}");
    }
    assert_eq!(all, flops, "{preset}: the slices have the operations of the table");
    assert_eq!(events.iter().filter(|event| event["name"] == "thread_name").count(), threads, "{preset}");
}

#[test]
fn a_planted_slow_layer_is_named_first_and_its_reason_too() {
    let layers = "model.layers=[\"conv 4\", \"relu\", \"conv 20 k7 p3\", \"relu\", \"globalpool\", \"linear 10\"]";
    let config = config("cifar-cnn4", COLOR, &[layers, "train.batch_size=8", "train.threads=1"]);
    let (mut profiler, _folder) = profiler(&config, false, 1e5);
    let [profile] = alternate([&mut profiler]);
    let slowest = profile.layers.iter().max_by(|a, b| a.ms.median.total_cmp(&b.ms.median)).unwrap();
    let reason = slowest.reason.as_ref().unwrap();
    assert_eq!(reason.why, "20 output channels fill 20 of 32 lanes");
    assert_eq!(reason.instead, "a multiple of 16: 32 take no more time");
    assert_eq!((slowest.name().as_str(), slowest.op.as_str()), ("layers.2 + 3", "conv2d"));
    assert_eq!((slowest.operation.as_str(), &slowest.shape[..]), ("conv 20 k7 + relu", &[32, 32, 20][..]));
    assert!(slowest.share > 0.4, "{}", slowest.share);
    // 2 * 20 channels * 4 * 49 taps * 1024 pixels forward, the same for both gradients.
    assert!(slowest.flops >= 8 * 3 * 2 * 20 * 4 * 49 * 1024);
}

#[test]
fn a_roof_below_a_convolution_is_measured_again_without_linear_layers_too() {
    let layers = "model.layers=[\"conv 10\", \"globalpool\"]";
    let config = config("cifar-cnn4", COLOR, &[layers, "train.batch_size=8", "train.threads=1"]);
    let (mut profiler, _folder) = profiler(&config, false, 1e-3);
    let [profile] = alternate([&mut profiler]);
    assert!(profile.layers.iter().all(|row| !row.op.starts_with("linear")), "{:?}", profile.layers);
    assert!(profile.roof.gflops > 1e-3, "{:?}", profile.roof);
}

#[test]
fn more_threads_than_parts_are_idle_and_waiting_is_what_is_left() {
    let slice = |work, images, start, end| Slice { work, part: 0, chunk: 0, images, start, end };
    let ms = 1_000_000;
    let slices = [
        vec![
            slice(Work::Pack, 0, 0, ms),
            slice(Work::Call(0), 4, 2 * ms, 5 * ms),
            slice(Work::Call(1), 4, 5 * ms, 9 * ms),
            slice(Work::Wait, 0, 9 * ms, 10 * ms),
        ],
        vec![slice(Work::Call(1), 4, 3 * ms, 8 * ms), slice(Work::Update, 0, 10 * ms, 11 * ms)],
        vec![slice(Work::Pack, 0, 0, ms)],
    ];
    let found = sample(&slices, 12 * ms, &[true, false]);
    let other = |name: &str| found.other[OTHER.iter().position(|other| *other == name).unwrap()] * 3.0;
    // Thread-ms; call 0 makes the input.
    assert!((found.calls[1] * 3.0 - 9.0).abs() < 1e-9 && found.calls[0] == 0.0);
    let expected = [
        ("augmentation", 3.0),
        ("packing weights", 2.0),
        ("optimizer", 1.0),
        ("idle threads", 11.0),
        ("waiting at barriers", 1.0 + 6.0),
        ("between phases", 12.0 - 9.0),
        ("gradient tree", 0.0),
    ];
    for (name, expected) in expected {
        assert!((other(name) - expected).abs() < 1e-9, "{name}: {}", other(name));
    }
    let all = found.calls.iter().chain(&found.other).sum::<f64>();
    assert!((all - 12.0).abs() < 1e-9, "all rows are the time that passes");
}

#[test]
fn a_profile_that_is_damaged_or_of_another_version_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.json");
    std::fs::write(&file, "{").unwrap();
    let error = Profile::read(&file).unwrap_err().to_string();
    assert!(error.starts_with("invalid profile: EOF") && error.ends_with("p.json)"), "{error}");
    Profile { version: 9, ..profile_of("a", &[("stem", 5.0)]) }.write(&file).unwrap();
    let error = Profile::read(&file).unwrap_err().to_string();
    assert!(error.starts_with("invalid profile: version 9, but this program reads version 1"), "{error}");
}

#[test]
fn a_name_says_once_what_its_parts_share() {
    let row = |names: &[&str]| Row { names: names.iter().map(|name| (*name).to_string()).collect(), ..Row::default() };
    assert_eq!(row(&["blocks.0.mlp.fc1", "blocks.0.mlp.act", "blocks.0.sum"]).name(), "blocks.0.mlp.fc1 + act + sum");
    assert_eq!(row(&["layers.3", "layers.14"]).name(), "layers.3 + 14");
    assert_eq!(row(&["head"]).name(), "head");
}
