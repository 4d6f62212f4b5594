//! Flags of `train` that say what a key of the config says: one table feeds the parser, the help and the config.
//!
//! Names are timm's where timm has the flag.

use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};
use toml::Value;

/// A flag and the key it stands for.
struct Flag {
    name: &'static str,
    key: &'static str,
    takes: Takes,
    help: &'static str,
}

/// What stands after a flag.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// A number, called so in the help.
    Number(&'static str),
    /// A word, called so in the help.
    Word(&'static str),
    /// Nothing: the flag alone says true.
    Nothing,
}

const fn flag(name: &'static str, key: &'static str, takes: Takes, help: &'static str) -> Flag {
    Flag { name, key, takes, help }
}

const FLAGS: [Flag; 30] = [
    flag("epochs", "train.epochs", Takes::Number("N"), "Passes over the train split"),
    flag("max-steps", "train.max_steps", Takes::Number("N"), "Stop after so many optimiser steps"),
    flag("batch-size", "train.batch_size", Takes::Number("N"), "Images that go through the model together"),
    flag("grad-accum-steps", "train.grad_accum_steps", Takes::Number("N"), "Batches whose gradients make one step"),
    flag("drop-last", "train.drop_last", Takes::Nothing, "Leave out an epoch's last batch when it is smaller"),
    flag("lr", "train.lr", Takes::Number("RATE"), "Learning rate after warm-up"),
    flag("opt", "train.opt", Takes::Word("NAME"), "Optimizer: adam, adamw, lion, muon, sgd"),
    flag(
        "weight-decay",
        "train.weight_decay",
        Takes::Number("X"),
        "Weight decay: decoupled, but of adam and sgd added to the gradient",
    ),
    flag("momentum", "train.momentum", Takes::Number("X"), "Momentum of sgd and muon"),
    flag("sched", "train.sched", Takes::Word("NAME"), "Learning rate after warm-up: constant, cosine, step"),
    flag("warmup-epochs", "train.warmup_epochs", Takes::Number("N"), "Epochs in which the learning rate rises"),
    flag("min-lr", "train.min_lr", Takes::Number("RATE"), "Learning rate at which a cosine ends"),
    flag("decay-epochs", "train.decay_epochs", Takes::Number("N"), "Epochs between two steps of a step schedule"),
    flag("decay-rate", "train.decay_rate", Takes::Number("X"), "What such a step multiplies the learning rate by"),
    flag("clip-grad", "train.clip_grad", Takes::Number("NORM"), "Greatest norm of the gradient"),
    flag("model-ema-decay", "train.model_ema_decay", Takes::Number("X"), "Average the weights, keeping so much a step"),
    flag("smoothing", "train.smoothing", Takes::Number("X"), "Label smoothing, from 0 to 1"),
    flag("keep", "train.keep", Takes::Word("NAME"), "Weights beside the last: best, last (none), lowest-train-loss"),
    flag("on-nonfinite", "train.on_nonfinite", Takes::Word("NAME"), "If a loss is no number: stop, skip, rollback"),
    flag("seed", "train.seed", Takes::Number("N"), "Seed of everything random but the split"),
    flag("threads", "train.threads", Takes::Number("N"), "Threads; 0 takes one for each processor"),
    flag("log-interval", "train.log_interval", Takes::Number("N"), "Steps between two lines of metrics.jsonl"),
    flag("val-fraction", "data.val_fraction", Takes::Number("X"), "Part of the train set that validates; 0 for none"),
    flag("limit-train", "data.limit_train", Takes::Number("N"), "Train on so many images only"),
    flag("img-size", "data.image_size", Takes::Number("N"), "Pixels to which a folder's pictures are brought"),
    flag("skip-bad-images", "data.skip_bad_images", Takes::Nothing, "Go on without pictures that cannot be decoded"),
    flag("patch-size", "model.patch_size", Takes::Number("N"), "Height and width of a patch, in pixels"),
    flag("drop", "model.dropout", Takes::Number("X"), "Probability that dropout zeroes a value"),
    flag("drop-path", "model.drop_path", Takes::Number("X"), "Probability that the last block is left out"),
    flag("hflip", "augment.horizontal_flip", Takes::Number("X"), "Probability of a mirror image"),
];

/// The flags that were given.
#[derive(Clone, Debug, Default)]
pub struct Flags(Vec<(&'static str, Value, String)>);

impl Flags {
    /// Keys, their values, and what the flags are called.
    pub fn values(&self) -> impl Iterator<Item = (&str, Value, &str)> {
        self.0.iter().map(|(key, value, flag)| (*key, value.clone(), flag.as_str()))
    }
}

impl clap::Args for Flags {
    fn augment_args(command: Command) -> Command {
        command.args(FLAGS.iter().map(|flag| {
            let arg = Arg::new(flag.name).long(flag.name).help(flag.help).help_heading("Recipe");
            match flag.takes {
                Takes::Number(name) => arg.value_name(name).allow_hyphen_values(true),
                Takes::Word(name) => arg.value_name(name),
                Takes::Nothing => arg.action(ArgAction::SetTrue),
            }
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Flags::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let value = |flag: &Flag| match flag.takes {
            Takes::Nothing => matches.get_flag(flag.name).then_some(Value::Boolean(true)),
            Takes::Word(_) => matches.get_one::<String>(flag.name).map(|word| Value::String(word.clone())),
            Takes::Number(_) => matches.get_one::<String>(flag.name).map(|text| number(text)),
        };
        let given = FLAGS.iter().filter_map(|flag| Some((flag.key, value(flag)?, format!("--{}", flag.name))));
        Ok(Flags(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Flags::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The long flag of a config key, where a command may have one.
pub fn of_key(key: &str) -> Option<&'static str> {
    match key {
        "data.name" => Some("data"),
        "data.dir" => Some("data-dir"),
        "data.classes" => Some("classes"),
        _ => FLAGS.iter().find(|flag| flag.key == key).map(|flag| flag.name),
    }
}

/// A number as TOML has it; what is none stays a text, and the config says what it should be.
fn number(text: &str) -> Value {
    // A whole number that TOML cannot hold is no other number that it can.
    if text.parse::<i64>().is_err() && text.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit()) {
        return Value::String(text.to_string());
    }
    let whole = text.parse().map(Value::Integer);
    whole.or_else(|_| text.parse().map(Value::Float)).unwrap_or_else(|_| Value::String(text.to_string()))
}

/// Says the keys of a hint about a table as flags: `use lr 0.001` becomes `use --lr 0.001`, or, for commands without
/// that flag, `use --set train.lr=0.001`. Keys that have no flag stay keys.
pub fn say(hint: &str, table: &str, of_train: bool) -> String {
    let words: Vec<&str> = hint.split(' ').collect();
    let mut said: Vec<String> = Vec::new();
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let is_key = |flag: &&Flag| flag.key == *word || flag.key.strip_prefix(table) == Some(&format!(".{word}"));
        let is_equal = words.get(at + 1) == Some(&"=");
        let value = words.get(at + if is_equal { 2 } else { 1 });
        let is_value = |value: &&&str| value.starts_with(|c: char| c.is_ascii_digit() || "-\"[".contains(c));
        match (FLAGS.iter().find(is_key), value.filter(is_value)) {
            (Some(flag), Some(value)) => {
                let value = value.replace('"', "");
                let name = flag.name;
                said.push(if of_train { format!("--{name} {value}") } else { format!("--set {}={value}", flag.key) });
                at += if is_equal { 3 } else { 2 };
            }
            (Some(flag), None) if value == Some(&"out") => {
                said.push(if of_train { format!("--{}", flag.name) } else { flag.key.to_string() });
                at += 1;
            }
            _ => {
                said.push(word.to_string());
                at += 1;
            }
        }
    }
    said.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::layers::Layers;

    #[test]
    fn every_flag_has_a_key_of_its_own_that_exists() {
        let mut keys: Vec<&str> = FLAGS.iter().map(|flag| flag.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), FLAGS.len());
        for flag in &FLAGS {
            assert!(Layers::new().set(&format!("{}=", flag.key)).is_ok(), "{}", flag.key);
        }
    }

    #[test]
    fn hints_are_said_in_flags() {
        let cases = [
            ("use lr 0.001", "train", "use --lr 0.001", "use --set train.lr=0.001"),
            ("use opt = \"adam\"", "train", "use --opt adam", "use --set train.opt=adam"),
            ("write it as epochs = 10", "train", "write it as --epochs 10", "write it as --set train.epochs=10"),
            (
                "use patch_size 10, or data.image_size 48",
                "model",
                "use --patch-size 10, or --img-size 48",
                "use --set model.patch_size=10, or --set data.image_size=48",
            ),
            (
                "use momentum 0.9, or 0 for none",
                "train",
                "use --momentum 0.9, or 0 for none",
                "use --set train.momentum=0.9, or 0 for none",
            ),
            ("leave image_size out", "data", "leave --img-size out", "leave data.image_size out"),
            // No flag, or a key of another table.
            ("use embed_dim 63, or num_heads 8", "model", "use embed_dim 63, or num_heads 8", ""),
            ("use image_size 28, or leave it out", "model", "use image_size 28, or leave it out", ""),
            ("did you mean \"gelu\"?", "model", "did you mean \"gelu\"?", ""),
        ];
        for (hint, table, flags, set) in cases {
            assert_eq!(say(hint, table, true), flags);
            assert_eq!(say(hint, table, false), if set.is_empty() { hint } else { set });
        }
    }

    #[test]
    fn what_is_given_becomes_a_value_of_its_kind() {
        let command = <Flags as clap::Args>::augment_args(Command::new("train"));
        let matches = command.get_matches_from([
            "train",
            "--epochs",
            "3",
            "--lr",
            "-1e-3",
            "--opt",
            "5",
            "--drop-last",
            "--seed",
            "9223372036854775808",
        ]);
        let flags = Flags::from_arg_matches(&matches).unwrap();
        let given: Vec<(&str, Value, &str)> = flags.values().collect();
        let expected = [
            ("train.epochs", Value::Integer(3), "--epochs"),
            ("train.drop_last", Value::Boolean(true), "--drop-last"),
            ("train.lr", Value::Float(-1e-3), "--lr"),
            ("train.opt", Value::String("5".to_string()), "--opt"),
            ("train.seed", Value::String("9223372036854775808".to_string()), "--seed"),
        ];
        assert_eq!(given, expected);
    }
}
