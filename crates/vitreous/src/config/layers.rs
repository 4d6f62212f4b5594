//! A config from layers: a preset, then a file, then flags, each keeping what it does not mention.
//!
//! Layers are merged as TOML, before anything is given a type, so that a file may hold a single key. Which layer wrote
//! a key is remembered: an error says where to look.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::augment::AugmentSpec;
use super::classes;
use super::data::DataSpec;
use super::error::{ConfigError, Place};
use super::model::{ModelKind, ModelSpec};
use super::train::TrainSpec;
use super::{CheckedConfig, Config, presets, text_file};
use crate::spelling;

/// What `layers` of a stack looks like.
const LAYERS: &str = "[\"conv 32\", \"relu\", \"globalpool\", \"linear classes\"]";

/// What `random_resized_crop` looks like.
const CROP: &str = "{ scale = [0.6, 1.0], ratio = [0.75, 1.33] }";

/// Most parts of a key in an assignment; keys of configs have up to three.
const PARTS_MAX: usize = 8;

/// Tables of a config, in the order in which they are written.
pub const TABLES: [&str; 4] = ["data", "augment", "model", "train"];

/// A config that is being put together; a later layer wins.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    merged: Table,
    origins: Origins,
}

/// Which layer wrote which key.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Origins {
    count: usize,
    /// How many of the layers, the first, are a preset: nobody wrote them for this run.
    preset: usize,
    /// From (table, key) to the layer's number and name.
    written: BTreeMap<(String, String), (usize, String)>,
}

impl Layers {
    /// Starts from the defaults of every key.
    pub fn new() -> Self {
        Layers::default()
    }

    /// Starts from a preset.
    ///
    /// # Errors
    /// When there is no preset of that name.
    pub fn preset(name: &str) -> Result<Self, ConfigError> {
        let Some(text) = presets::text(name) else {
            let hint = suggest(name, presets::names(), "the presets are");
            return Err(ConfigError::UnknownPreset { name: name.to_string(), hint });
        };
        let mut layers = Layers::new();
        layers.add_toml(text, &format!("preset {name}"))?;
        layers.origins.preset = layers.origins.count;
        Ok(layers)
    }

    /// Adds a file.
    ///
    /// # Errors
    /// When it cannot be read, is not UTF-8 or TOML, or holds an unknown key or a value of the wrong kind.
    pub fn add_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let shown = path.display().to_string();
        let text = text_file::read(path).map_err(|error| ConfigError::Read {
            hint: presets::text(&shown).map(|_| format!("{shown} is a preset: use --preset {shown}")).or(error.hint),
            path: shown.clone(),
            reason: error.reason,
        })?;
        self.add_toml(&text, &shown)
    }

    /// Adds the text of a file; `source` is what errors call it.
    ///
    /// # Errors
    /// When it is no TOML, or holds an unknown key or a value of the wrong kind.
    pub fn add_toml(&mut self, text: &str, source: &str) -> Result<(), ConfigError> {
        let table: Table = toml::from_str(text).map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
            let line = before.matches('\n').count();
            let written = text.lines().nth(line).and_then(|line| line.split('#').next()?.split_once('='));
            if let Some((key, value)) = written.map(|(key, value)| (key.trim(), value.trim().replace('_', "")))
                && is_too_large(&value)
            {
                let place = Box::new(Place { source: Some(source.to_string()), table: None });
                let (key, expected) = (key.to_string(), format!("at most {}", i64::MAX));
                return ConfigError::Kind { key, value, expected, place, hint: "use a smaller number".to_string() };
            }
            let message = match text.lines().nth(line).and_then(|line| line.split('#').next()?.trim().strip_suffix('='))
            {
                Some(key) => format!("`{}` has no value", key.trim()),
                None => error.message().lines().next().unwrap_or("not TOML").to_string(),
            };
            ConfigError::Syntax { message, source_name: source.to_string(), line: 1 + line }
        })?;
        self.add(table, source)
    }

    /// Adds one key from a `--set table.key=value`; without a value, the key goes back to its default.
    ///
    /// # Errors
    /// When there is no `=` or no key of that name, or the value is of the wrong kind.
    pub fn set(&mut self, assignment: &str) -> Result<(), ConfigError> {
        self.set_from(assignment, "--set")
    }

    /// As [`Layers::set`], for an assignment from elsewhere; `source` is what errors call it.
    ///
    /// # Errors
    /// As [`Layers::set`].
    pub fn set_from(&mut self, assignment: &str, source: &str) -> Result<(), ConfigError> {
        let wrong = || ConfigError::Assignment { text: assignment.to_string() };
        let (key, value) = assignment.split_once('=').ok_or_else(wrong)?;
        let (key, value) = (key.trim(), value.trim());
        if key.split('.').any(str::is_empty) {
            return Err(wrong());
        }
        check_parts(key, source)?;
        if value.is_empty() {
            return self.unset(key, source);
        }
        // What is no TOML value is a text: --set model.activation=relu needs no quotes inside quotes.
        let parsed = toml::from_str::<Table>(&format!("value = {value}")).ok().filter(|table| table.len() == 1);
        let parsed = parsed.and_then(|mut table| table.remove("value")).filter(|value| !value.is_datetime());
        self.put(key, parsed.unwrap_or_else(|| Value::String(value.to_string())), source)
    }

    /// Adds one key, such as `model.depth`, from a flag; `source` is what errors call it.
    ///
    /// # Errors
    /// When there is no key of that name, or the value is of the wrong kind.
    pub fn put(&mut self, key: &str, value: impl Into<Value>, source: &str) -> Result<(), ConfigError> {
        check_parts(key, source)?;
        let nested = key
            .rsplit('.')
            .fold(value.into(), |inner, part| Value::Table(Table::from_iter([(part.to_string(), inner)])));
        let Value::Table(table) = nested else { return Ok(()) };
        self.add(table, source)
    }

    /// Takes the model of a name (`--model vit-tiny`) in place of all that was said of the model before.
    ///
    /// # Errors
    /// When there is no model of that name.
    pub fn model(&mut self, name: &str) -> Result<(), ConfigError> {
        let Some(spec) = ModelSpec::named(name) else {
            let hint = suggest(name, ModelSpec::names(), "the models are");
            return Err(ConfigError::UnknownModel { name: name.to_string(), hint });
        };
        self.forget("model");
        let spec = Table::try_from(spec).expect("a spec is plain numbers, texts and lists");
        self.add(Table::from_iter([("model".to_string(), Value::Table(spec))]), "--model")
    }

    /// Gives the config its types and checks it by itself; nothing is opened.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn finish(self) -> Result<CheckedConfig, ConfigError> {
        let mut config = self.merged.try_into::<Config>().expect("every key was read by itself when it was added");
        // Their defaults depend on the optimizer.
        let (train, is_default) = (&mut config.train, |key: &str| !self.origins.has("train", key));
        if is_default("betas") {
            train.betas = train.opt.betas();
        }
        if is_default("momentum") {
            train.momentum = train.opt.momentum();
        }
        CheckedConfig::new(config, self.origins)
    }

    fn unset(&mut self, key: &str, source: &str) -> Result<(), ConfigError> {
        let (table, key) = key.split_once('.').unwrap_or(("", key));
        let place = Place { source: Some(source.to_string()), table: None };
        let kind = self.kind();
        let known = known_keys(table, kind).ok_or_else(|| unknown_table(table, place.clone()))?;
        if !known.iter().any(|name| name == key) {
            let place = Place { table: Some(table.to_string()), ..place };
            return Err(unknown_key(key, &known, kind, place));
        }
        if (table, key) == ("model", "kind") {
            self.forget(table);
            return Ok(());
        }
        if let Some(Value::Table(written)) = self.merged.get_mut(table) {
            written.remove(key);
        }
        self.origins.written.remove(&(table.to_string(), key.to_string()));
        Ok(())
    }

    fn add(&mut self, layer: Table, source: &str) -> Result<(), ConfigError> {
        self.origins.count += 1;
        let top = Place { source: Some(source.to_string()), table: None };
        for (name, value) in layer {
            if name == "model"
                && let Some(written) = value.get("kind")
            {
                self.choose_kind(written, &top)?;
            }
            let kind = self.kind();
            let Some(known) = known_keys(&name, kind) else {
                return Err(match value {
                    Value::Table(_) => unknown_table(&name, top),
                    _ => unknown_key(&name, &[], kind, top),
                });
            };
            let Value::Table(written) = value else {
                let hint = format!("write its keys under [{name}]");
                let (value, expected) = (value.to_string(), "a table".to_string());
                return Err(ConfigError::Kind { key: name, value, expected, place: Box::new(top), hint });
            };
            let place = Place { table: Some(name.clone()), ..top.clone() };
            for (key, value) in written {
                if !known.contains(&key) {
                    return Err(unknown_key(&key, &known, kind, place));
                }
                let table = self.merged.entry(name.clone()).or_insert_with(|| Value::Table(Table::new()));
                let table = table.as_table_mut().expect("only tables are merged in");
                merge(table, key.clone(), value);
                try_key(&name, &key, &table[&key], kind)
                    .map_err(|error| wrong_value(&name, &key, &table[&key], &error, &place))?;
                self.origins.written.insert((name.clone(), key), (self.origins.count, source.to_string()));
            }
        }
        Ok(())
    }
}

impl Layers {
    /// Forgets all that was said of a table.
    fn forget(&mut self, table: &str) {
        self.merged.remove(table);
        self.origins.written.retain(|(of, _), _| of != table);
    }

    /// Which keys `[model]` has.
    fn kind(&self) -> ModelKind {
        let written = self.merged.get("model").and_then(|model| model.get("kind"));
        written.and_then(|kind| kind.clone().try_into().ok()).unwrap_or_default()
    }

    /// Makes `[model]` one of the kind that a layer says; one of another kind has other keys and is forgotten.
    fn choose_kind(&mut self, written: &Value, top: &Place) -> Result<(), ConfigError> {
        let place = Place { table: Some("model".to_string()), ..top.clone() };
        let kind: ModelKind = (written.clone().try_into())
            .map_err(|error: toml::de::Error| wrong_value("model", "kind", written, &error, &place))?;
        if kind != self.kind() {
            self.forget("model");
        }
        let model = self.merged.entry("model").or_insert_with(|| Value::Table(Table::new()));
        model.as_table_mut().expect("only tables are merged in").insert("kind".to_string(), written.clone());
        Ok(())
    }
}

impl Origins {
    fn has(&self, table: &str, key: &str) -> bool {
        self.written.contains_key(&(table.to_string(), key.to_string()))
    }

    /// Whether a key was written for this run: not left to the defaults, nor to a preset.
    pub(super) fn is_written(&self, table: &str, key: &str) -> bool {
        self.written.get(&(table.to_string(), key.to_string())).is_some_and(|(layer, _)| *layer > self.preset)
    }

    /// Says who wrote a key.
    pub(super) fn source(&self, table: &str, key: &str) -> &str {
        self.written.get(&(table.to_string(), key.to_string())).map_or("default", |(_, source)| source)
    }

    /// Says where a broken rule was written: by the last layer among those of the keys that its text names.
    pub(super) fn locate(&self, table: &str, error: &impl std::error::Error, hint: Option<String>) -> ConfigError {
        let full = error.to_string();
        let text = full.strip_suffix(&format!(" ([{table}])")).unwrap_or(&full).to_string();
        let source = text
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter_map(|word| self.written.get(&(table.to_string(), word.to_string())))
            .max_by_key(|(layer, _)| *layer)
            .map(|(_, source)| source.clone());
        ConfigError::Rule { text, place: Place { source, table: Some(table.to_string()) }, hint }
    }
}

/// Refuses a key of too many parts: each is a table inside the one before, and takes stack. The parser of files has such a
/// limit of its own.
fn check_parts(key: &str, source: &str) -> Result<(), ConfigError> {
    if key.split('.').nth(PARTS_MAX).is_some() {
        let place = Place { source: Some(source.to_string()), table: None };
        let text = format!("a key has more than {PARTS_MAX} parts");
        let hint = Some("a key is a table and a name in it, such as model.depth".to_string());
        return Err(ConfigError::Rule { text, place, hint });
    }
    Ok(())
}

fn merge(into: &mut Table, key: String, value: Value) {
    match (into.get_mut(&key), value) {
        (Some(Value::Table(old)), Value::Table(new)) => new.into_iter().for_each(|(key, value)| merge(old, key, value)),
        (_, value) => {
            into.insert(key, value);
        }
    }
}

/// Reads one key of a table by itself.
fn try_key(table: &str, key: &str, value: &Value, kind: ModelKind) -> Result<(), toml::de::Error> {
    fn read<T: DeserializeOwned>(one: Table) -> Result<(), toml::de::Error> {
        one.try_into::<T>().map(drop)
    }
    let one = Table::from_iter([(key.to_string(), value.clone())]);
    match table {
        "data" => read::<DataSpec>(one),
        "augment" => read::<AugmentSpec>(one),
        // The kind itself was read when it was chosen.
        "model" if key == "kind" => Ok(()),
        "model" => kind.read(one).map(drop),
        "train" => read::<TrainSpec>(one),
        _ => Ok(()),
    }
}

/// The keys of a table, as serde lists them when it meets one it does not know.
fn known_keys(table: &str, kind: ModelKind) -> Option<Vec<String>> {
    let error = TABLES.contains(&table).then(|| try_key(table, "", &Value::Boolean(true), kind))?.err()?;
    let own = spelling::quoted(error.message()).into_iter().skip(1);
    Some((table == "model").then_some("kind").into_iter().chain(own).map(str::to_string).collect())
}

fn unknown_table(table: &str, place: Place) -> ConfigError {
    let hint = suggest(table, TABLES.into_iter(), "the tables are");
    ConfigError::UnknownTable { table: table.to_string(), place, hint }
}

fn unknown_key(key: &str, known: &[String], kind: ModelKind, place: Place) -> ConfigError {
    let has = |table: &str, kind| known_keys(table, kind).is_some_and(|keys| keys.iter().any(|k| k == key));
    let home = TABLES.into_iter().find(|table| has(table, kind));
    let other = ModelKind::ALL.iter().copied().find(|kind| has("model", *kind));
    let hint = match (spelling::nearest(key, known.iter().map(String::as_str)), home, &place.table) {
        (_, Some(home), _) => format!("`{key}` belongs to [{home}]"),
        (_, None, Some(table)) if table == "model" && other.is_some() => {
            let (other, own) = (other.unwrap_or_default().name(), kind.name());
            format!("`{key}` is a key of models of kind \"{other}\", this one is a \"{own}\"")
        }
        (Some(near), ..) => format!("did you mean `{near}`?"),
        (None, None, Some(table)) => format!("the keys of [{table}] are {}", known.join(", ")),
        (None, None, None) => format!("keys stand in one of the tables {}", TABLES.join(", ")),
    };
    ConfigError::UnknownKey { key: key.to_string(), place, hint }
}

/// Puts serde's complaint about the value of one key into our words.
fn wrong_value(table: &str, key: &str, value: &Value, error: &toml::de::Error, place: &Place) -> ConfigError {
    let message = error.message();
    let names = spelling::quoted(message);
    if message.starts_with("unknown field") {
        let known: Vec<String> = names.iter().skip(1).map(|name| name.to_string()).collect();
        let place = Place { table: Some(format!("{table}.{key}")), ..place.clone() };
        return unknown_key(names.first().unwrap_or(&""), &known, ModelKind::default(), place);
    }
    if message.starts_with("missing field") {
        let missing = names.first().unwrap_or(&"").to_string();
        return ConfigError::Missing { key: key.to_string(), missing, place: place.clone() };
    }
    if message.starts_with("unknown variant") {
        let found = names.first().unwrap_or(&"");
        let choices = &names[1.min(names.len())..];
        let hint = match spelling::nearest(found, choices.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("use {key} = \"{}\"", choices.first().unwrap_or(&"")),
        };
        let (value, expected) = (format!("\"{found}\""), format!("one of {}", choices.join(", ")));
        return ConfigError::Kind { key: key.to_string(), value, expected, place: Box::new(place.clone()), hint };
    }
    let expected = message.rsplit_once("expected ").map_or(message, |(_, expected)| expected);
    let (expected, example) = match expected {
        "usize" | "u64" if value.as_str().is_some_and(is_too_large) => ("at most 9223372036854775807", "1"),
        "usize" | "u64" => ("a whole number of at least 0", "1"),
        "f64" | "f32" if value.is_array() => ("a list of numbers", "[0.5]"),
        "f64" | "f32" => ("a number", "0.5"),
        "a boolean" => ("true or false", "true"),
        "a string" => ("a text in quotes", "\"text\""),
        "path string" => ("a path in quotes", "\"folder\""),
        classes::EXPECTED => (classes::EXPECTED, "\"even\""),
        _ if key == "random_resized_crop" => ("a table of two ranges, scale and ratio", CROP),
        "an array of length 2" => ("a list of 2 numbers", "[0.5, 1.0]"),
        "a sequence" if key == "layers" => ("a list", LAYERS),
        "a sequence" => ("a list", "[0.5]"),
        other if key == "layers" => (other, LAYERS),
        other => (other, "..."),
    };
    let default = Value::try_from(Config::default()).ok().and_then(|config| config.get(table)?.get(key).cloned());
    let example = default.map_or(example.to_string(), |default| default.to_string());
    let hint = format!("write it as {key} = {example}");
    let value = value.as_str().filter(|text| is_too_large(text)).map_or_else(|| value.to_string(), str::to_string);
    let (key, expected) = (key.to_string(), expected.to_string());
    ConfigError::Kind { key, value, expected, place: Box::new(place.clone()), hint }
}

/// Whether a text is a whole number that TOML cannot hold.
fn is_too_large(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<i64>().is_err()
}

fn suggest<'a>(word: &str, known: impl Iterator<Item = &'a str>, list: &str) -> String {
    let known: Vec<&str> = known.collect();
    let near = spelling::nearest_few(word, known.iter().copied(), 4);
    match near.split_last() {
        Some((last, [])) => format!("did you mean `{last}`?"),
        Some((last, others)) => format!("did you mean `{}` or `{last}`?", others.join("`, `")),
        None => format!("{list} {}", known.join(", ")),
    }
}
