//! `vitreous train` end to end with other models and recipes than the default: stacks in TOML, which weights are saved,
//! accumulated gradients, schedules.

use std::fs;

use crate::common::{Folder, json, refused, said};

/// Few images, few steps.
const SMALL: [&str; 4] = ["--limit-train", "97", "--set=data.val_fraction=0.01", "--set=train.log_interval=3"];

const STACK: &str = "
[model]
kind = \"stack\"
layers = [
    \"conv 8 s2\", \"batchnorm\", \"relu\",
    { residual = [\"conv 12 s2 nobias\", \"groupnorm 3\"], shortcut = [\"conv 12 k1 s2\"] },
    \"attention 4\", \"maxpool 2\", \"dropout 0.1\", \"flatten\", \"linear classes\",
]
[train]
epochs = 2
batch_size = 13
";

/// Trainings from config files, and what they leave.
trait Trainings {
    fn train(&self, name: &str, config: &str, args: &[&str]) -> String;
    fn weights(&self, name: &str, which: &str) -> Vec<u8>;
    fn metadata(&self, name: &str, which: &str, key: &str) -> u64;
    fn metrics(&self, name: &str) -> Vec<serde_json::Value>;
}

impl Trainings for Folder {
    /// Trains under a name, from a config file of this text.
    fn train(&self, name: &str, config: &str, args: &[&str]) -> String {
        let file = format!("{name}.toml");
        fs::write(self.path(&file), config).unwrap();
        said(self.root(), &[&["train", "--config", &file, "--name", name], &SMALL[..], args].concat())
    }

    fn weights(&self, name: &str, which: &str) -> Vec<u8> {
        self.read(&format!("runs/{name}/weights/{which}.safetensors"))
    }

    /// A number of the header's metadata.
    fn metadata(&self, name: &str, which: &str, key: &str) -> u64 {
        let bytes = self.weights(name, which);
        let header = String::from_utf8_lossy(&bytes[8..bytes.len().min(20_000)]).into_owned();
        let value = header.split(&format!("\"vitreous.{key}\":\"")).nth(1).unwrap();
        value.split('"').next().unwrap().parse().unwrap()
    }

    /// The lines of `metrics.jsonl`.
    fn metrics(&self, name: &str) -> Vec<serde_json::Value> {
        let text = self.text(&format!("runs/{name}/metrics.jsonl"));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A vision transformer of few numbers.
const VIT: &str = "[model]\ndepth = 1\nembed_dim = 16\n[train]\nepochs = 2\nbatch_size = 13\n";

#[test]
fn a_stack_in_toml_trains_evaluates_and_predicts() {
    let folder = Folder::new();
    let result = folder.train("stack", STACK, &["--json"]);
    assert!(result.contains("\"parameters\""), "{result}");
    let saved = fs::read_to_string(folder.path("runs/stack/config.toml")).unwrap();
    assert!(saved.contains("kind = \"stack\"") && saved.contains("conv 12 k1 s2"), "{saved}");
    let again = folder.train("again", &saved, &[]);
    assert!(again.contains("runs/again"), "{again}");
    assert_eq!(folder.weights("stack", "last"), folder.weights("again", "last"));
    let text = String::from_utf8_lossy(&folder.weights("stack", "last")[..4000]).into_owned();
    for name in ["layers.1.running_var", "layers.3.shortcut.0.weight", "layers.4.theta.weight", "layers.8.bias"] {
        assert!(text.contains(&format!("\"{name}\"")), "{name}: {text}");
    }
    let table = said(folder.root(), &["summary", "--run", "runs/stack"]);
    assert!(table.contains("batch_norm") && table.contains("attend"), "{table}");
}

#[test]
fn a_stack_memorises_a_few_images() {
    let folder = Folder::new();
    folder.train("long", STACK, &["--epochs=40", "--lr=3e-3"]);
    let scores = json(folder.root(), &["evaluate", "runs/long", "--split", "train", "--weights", "last"]);
    let accuracy = scores["top1"].as_f64().unwrap();
    assert!(accuracy > 0.9, "{scores}");
    // The answers to each image come to the same.
    let answers = folder.text("runs/long/evaluation/train-last/predictions.csv");
    let right = answers.lines().skip(1).filter(|line| line.split(',').nth(1) == line.split(',').nth(2)).count();
    let images = answers.lines().count() - 1;
    assert_eq!((scores["images"].as_u64(), accuracy), (Some(images as u64), right as f64 / images as f64));
}

#[test]
fn ema_weights_are_validated_and_saved_and_change_no_step() {
    let folder = Folder::new();
    for (name, args) in
        [("plain", &[][..]), ("nothing", &["--model-ema-decay=0"]), ("averaged", &["--model-ema-decay=0.9"])]
    {
        folder.train(name, STACK, args);
    }
    // Behind the header, which holds the config.
    let numbers = |name: &str| {
        let bytes = folder.weights(name, "last");
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + header..].to_vec()
    };
    assert_eq!(numbers("nothing"), numbers("plain"), "an average that keeps nothing is the weights");
    assert_ne!(numbers("averaged"), numbers("plain"));
    assert_eq!(folder.metrics("averaged"), folder.metrics("plain"));
    let loss = |name: &str| -> f64 {
        let results = folder.text(&format!("runs/{name}/results.csv"));
        results.lines().last().unwrap().split(',').nth(4).unwrap().parse().unwrap()
    };
    assert_ne!(loss("averaged"), loss("plain"));
    for name in ["plain", "averaged"] {
        let run = format!("runs/{name}");
        let found = json(folder.root(), &["evaluate", &run, "--split", "val", "--weights", "last"]);
        let found = found["loss"].as_f64().unwrap();
        assert!((found - loss(name)).abs() < 1e-6, "{name}: {found}, when it was trained {}", loss(name));
    }
}

#[test]
fn mismatched_stack_layers_are_named_with_a_suggestion() {
    let folder = Folder::new();
    fs::write(folder.path("wrong.toml"), STACK.replace("\"flatten\", ", "")).unwrap();
    let text = refused(folder.root(), &["train", "--config", "wrong.toml"]);
    let expected = "error: layers.7 \"linear classes\" needs features; its input is a map of 12 channels, 3x3 (wrong.toml, \
                    [model])\nhint: put \"flatten\" before it, which makes 108 features, or \"globalpool\", which makes 12\n";
    assert_eq!(text, expected);
    assert!(!folder.path("runs").exists());
}

#[test]
fn keep_lowest_train_loss_keeps_those_weights() {
    let folder = Folder::new();
    // The learning rate is far too high, so that the last line is not the lowest.
    let args = ["--keep", "lowest-train-loss", "--lr", "0.05", "--sched", "constant", "--json"];
    let result: serde_json::Value = serde_json::from_str(&folder.train("lowest", VIT, &args)).unwrap();
    let lines = folder.metrics("lowest");
    let lowest =
        lines.iter().min_by(|a, b| a["loss"].as_f64().unwrap().total_cmp(&b["loss"].as_f64().unwrap())).unwrap();
    assert_eq!(result["lowest_train_loss"], lowest["loss"]);
    assert_eq!(result["lowest_step"], lowest["step"]);
    assert_eq!(Some(folder.metadata("lowest", "best", "step")), lowest["step"].as_u64());
    assert!(result["best_val_acc"].is_null() && result["val_acc"].is_f64(), "{result}");
    // Stopped after that very step, a run has the same numbers as its last.
    let steps = lowest["step"].to_string();
    folder.train("stopped", VIT, &["--keep", "last", "--lr", "0.05", "--sched", "constant", "--max-steps", &steps]);
    let tensors = |bytes: Vec<u8>| {
        let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[start..].to_vec()
    };
    assert_eq!(tensors(folder.weights("lowest", "best")), tensors(folder.weights("stopped", "last")));
    assert!(!folder.path("runs/stopped/weights/best.safetensors").exists(), "--keep last keeps nothing else");
    // A run that ends before its first line keeps what it has.
    let args = ["--keep", "lowest-train-loss", "--max-steps", "3", "--log-interval", "100"];
    folder.train("short", VIT, &args);
    assert_eq!(tensors(folder.weights("short", "best")), tensors(folder.weights("short", "last")));
}

#[test]
fn accumulated_gradients_equal_those_of_a_larger_batch() {
    let folder = Folder::new();
    let without = ["--set=model.init=timm"];
    folder.train("small", VIT, &[&without[..], &["--grad-accum-steps", "2"]].concat());
    folder.train("large", VIT, &[&without[..], &["--batch-size", "26"]].concat());
    let tensors = |name: &str| {
        let bytes = folder.weights(name, "last");
        let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[start..].to_vec()
    };
    assert_eq!(tensors("small"), tensors("large"));
    assert_eq!(folder.metadata("small", "last", "step"), 2 * 97u64.div_ceil(26));
    // Batch norm sees 13 images at a time, or 26.
    folder.train("norms", STACK, &["--grad-accum-steps", "2", "--set=train.seed=7"]);
    folder.train("wide-norms", STACK, &["--batch-size", "26", "--set=train.seed=7"]);
    assert_ne!(tensors("norms"), tensors("wide-norms"));
}

#[test]
fn sgd_follows_a_step_schedule() {
    let folder = Folder::new();
    let args = ["--opt", "sgd", "--momentum", "0.5", "--lr", "0.08", "--sched", "step", "--decay-epochs", "1"];
    folder.train("sgd", VIT, &[&args[..], &["--decay-rate", "0.25", "--warmup-epochs", "0", "--epochs", "3"]].concat());
    let rates: Vec<f64> = folder.metrics("sgd").iter().map(|line| line["lr"].as_f64().unwrap()).collect();
    // 97 images less the one that validates are 8 steps, of which 3 and 6 have a line in the first epoch.
    assert_eq!(rates[..4], [0.08, 0.08, 0.02, 0.02]);
    assert_eq!(rates.last(), Some(&0.005));
    folder.train("plain", VIT, &["--opt", "sgd", "--momentum", "0", "--lr", "0.08"]);
    folder.train("spared", VIT, &["--opt", "sgd", "--momentum", "0", "--lr", "0.08", "--set=train.decay=weights"]);
    assert_ne!(folder.weights("plain", "last"), folder.weights("spared", "last"));
}

#[test]
fn an_accumulated_batch_larger_than_the_train_split_is_refused() {
    let folder = Folder::new();
    fs::write(folder.path("vit.toml"), VIT).unwrap();
    let args = [&["train", "--config", "vit.toml"], &SMALL[..], &["--grad-accum-steps", "9"]].concat();
    let text = refused(folder.root(), &args);
    let expected = "error: batch_size 13 times grad_accum_steps 9 is more than the 97 training images ([train])\nhint: use \
                    --batch-size 10 or less\n";
    assert_eq!(text, expected);
}
