//! The settings of a run as flat keys, `train.lr` or `model.depth`, and what differs between them.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::Config;
use super::error::ConfigError;
use super::layers::Layers;

/// Keys and their values, defaults filled in; a key without a value is absent.
pub type FlatConfig = BTreeMap<String, Value>;

/// The key of the seed, by which alone runs of one row differ.
pub const SEED: &str = "train.seed";

/// Keys without effect on a run's results: the folder of its images, its log interval, its threads, its event file.
pub const OUTSIDE: [&str; 4] = ["data.dir", "train.threads", "train.log_interval", "train.tensorboard"];

/// Keys of the model that follow from its data.
pub const OF_THE_DATA: [&str; 3] = ["model.image_size", "model.channels", "model.num_classes"];

/// Reads the settings in a config file's text; `source` is what errors call it.
///
/// # Errors
/// When it is not a config of this version.
pub fn flat_config(text: &str, source: &str) -> Result<FlatConfig, ConfigError> {
    let mut layers = Layers::new();
    layers.add_toml(text, source)?;
    Ok(flat(layers.finish()?.config()))
}

/// Returns the keys whose values differ between some settings, with the two values, the first settings' first.
pub fn changes<'a>(from: &'a FlatConfig, to: &'a FlatConfig) -> Vec<(&'a str, Option<&'a Value>, Option<&'a Value>)> {
    let mut keys: Vec<&String> = from.keys().chain(to.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut found: Vec<_> = keys.into_iter().map(|key| (key.as_str(), from.get(key), to.get(key))).collect();
    found.retain(|(key, from, to)| from != to && !OUTSIDE.contains(key));
    if found.iter().any(|(key, ..)| key.starts_with("data.")) {
        found.retain(|(key, ..)| !OF_THE_DATA.contains(key));
    }
    found
}

/// Returns the keys whose values are not the same in all settings, in the order of tables and names.
pub fn differing(all: &[&FlatConfig]) -> Vec<String> {
    let Some((first, others)) = all.split_first() else { return Vec::new() };
    let mut keys: Vec<&str> = others.iter().flat_map(|other| changes(first, other)).map(|(key, ..)| key).collect();
    keys.sort_by_key(|key| (table_number(key), *key));
    keys.dedup();
    if keys.iter().any(|key| key.starts_with("data.")) {
        keys.retain(|key| !OF_THE_DATA.contains(key));
    }
    keys.into_iter().map(str::to_string).collect()
}

/// Writes how a setting changed: `train.epochs 10, now 20`.
pub fn became(key: &str, before: Option<&Value>, now: Option<&Value>) -> String {
    let [before, now] = [before, now].map(|value| value.map_or("not set".to_string(), |value| shown(Some(value))));
    format!("{key} {before}, now {now}")
}

/// Writes a value as people do: a text without quotes, `-` for none.
pub fn shown(value: Option<&Value>) -> String {
    match value {
        None => "-".to_string(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Float(number)) => shortest(*number),
        Some(Value::Array(items)) => {
            let items: Vec<String> = items.iter().map(|item| shown(Some(item))).collect();
            format!("[{}]", items.join(", "))
        }
        Some(other) => other.to_string(),
    }
}

/// The shortest form of a number: 1e-5, not 0.00001; a value from an `f32` has the digits of one.
fn shortest(number: f64) -> String {
    let single = number as f32;
    match (f64::from(single) == number, number != 0.0 && number.abs() < 1e-3) {
        (true, true) => format!("{single:e}"),
        (true, false) => single.to_string(),
        (false, true) => format!("{number:e}"),
        (false, false) => number.to_string(),
    }
}

/// Keys in the order in which they are listed: data, model, training; then how images are prepared.
fn table_number(key: &str) -> usize {
    let first = ["data.name", "data.classes", "model.", "train.", "augment."];
    first.iter().position(|start| key.starts_with(start)).unwrap_or(first.len())
}

/// The settings of a config.
pub fn flat(config: &Config) -> FlatConfig {
    fn add(table: Table, prefix: &str, settings: &mut FlatConfig) {
        for (key, value) in table {
            match value {
                Value::Table(inner) => add(inner, &format!("{prefix}{key}."), settings),
                value => drop(settings.insert(format!("{prefix}{key}"), value)),
            }
        }
    }
    let mut settings = FlatConfig::new();
    add(Table::try_from(config).expect("a config is plain numbers, texts and lists"), "", &mut settings);
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> FlatConfig {
        flat_config(text, "config.toml").unwrap()
    }

    #[test]
    fn only_what_differs_is_named_and_what_is_outside_does_not_count() {
        let plain = settings("");
        let other =
            settings("[train]\nlr = 0.5\nthreads = 3\nlog_interval = 7\n[data]\ndir = \"x\"\n[model]\ndepth = 11\n");
        assert_eq!(differing(&[&plain, &plain]), [""; 0]);
        assert_eq!(differing(&[&plain, &other, &plain]), ["model.depth", "train.lr"]);
        let found = changes(&plain, &other);
        let texts: Vec<String> = found.iter().map(|(key, a, b)| format!("{key} {} {}", shown(*a), shown(*b))).collect();
        assert_eq!(texts, ["model.depth 4 11", "train.lr 0.001 0.5"]);
    }

    #[test]
    fn inner_tables_are_flat_and_sizes_of_the_data_go_with_the_data() {
        let crop = settings("[augment]\nrandom_resized_crop = { scale = [0.5, 1.0], ratio = [0.9, 1.1] }\n");
        assert_eq!(shown(crop.get("augment.random_resized_crop.scale")), "[0.5, 1]");
        let digits = settings("[model]\nchannels = 1\nimage_size = 28\n");
        let cifar = settings("[data]\nname = \"cifar10\"\n[model]\nchannels = 3\nimage_size = 32\n");
        assert_eq!(differing(&[&digits, &cifar]), ["data.name"]);
        assert_eq!(differing(&[&settings(""), &digits]), ["model.channels", "model.image_size"]);
    }

    #[test]
    fn values_are_short() {
        let mean = settings("[data]\nmean = [0.1307, 0.5, 0.25]\n");
        assert_eq!(shown(mean.get("data.mean")), "[0.1307, 0.5, 0.25]");
        let lr = settings("[train]\nlr = 3e-4\nopt_eps = 1e-8\nwarmup_epochs = 2.0\n");
        assert_eq!(
            ["lr", "opt_eps", "warmup_epochs", "max_steps"].map(|key| shown(lr.get(&format!("train.{key}")))),
            ["3e-4", "1e-8", "2", "-"]
        );
    }
}
