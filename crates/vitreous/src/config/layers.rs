//! A config from layers: a preset, then a file, then flags; a later layer wins, key by key.
//!
//! Layers are merged as TOML, each key checked against its description, so that a file may have a single key. The layer
//! that wrote a key is remembered, so that errors can name it.

use std::collections::BTreeMap;
use std::path::Path;

use toml::{Table, Value};

use super::data::DataSpec;
use super::error::{ConfigError, RuleError, shown_source};
use super::model::{ModelKind, ModelSpec};
use super::schema::{Key, Mismatch};
use super::syntax::syntax_error;
use super::{CheckedConfig, Config, TABLES, keys_of, presets, text_file};
use crate::advice::{Argument, Place, Source, Suggestion};
use crate::data_sets;
use crate::spelling;

/// Most parts of a key in an assignment; keys of configs have up to three.
const PARTS_MAX: usize = 8;

/// The table that a site file fills.
const SLURM: &str = "slurm";

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
    /// Number of layers, from the first, that are a preset: it was not written for this run.
    preset: usize,
    /// The preset that the config is made from.
    pub(super) base: Option<&'static str>,
    /// For each (table, key), the number of the layer that wrote it, and its source.
    written: BTreeMap<(String, String), (usize, Source)>,
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
            let suggestion = suggest(name, presets::names(), "the presets are");
            return Err(ConfigError::UnknownPreset { name: name.to_string(), suggestion });
        };
        let mut layers = Layers::new();
        layers.add_text(text, Source::Preset(name.to_string()), &format!("preset {name}"))?;
        layers.origins.preset = layers.origins.count;
        Ok(layers)
    }

    /// Adds a file.
    ///
    /// # Errors
    /// When it cannot be read, is not UTF-8 or TOML, or holds an unknown key or a value of the wrong type.
    pub fn add_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let shown = path.display().to_string();
        let text = text_file::read(path).map_err(|error| {
            let preset = presets::text(&shown).map(|_| {
                Suggestion::new().text(format!("{shown} is a preset:")).with(Argument::Preset, shown.as_str())
            });
            let suggestion = preset.or(error.hint.map(|hint| Suggestion::new().text(hint)));
            ConfigError::Read { path: shown.clone(), reason: error.reason, suggestion }
        })?;
        self.add_toml(&text, &shown)
    }

    /// Adds the text of a file; `source` is what errors call it.
    ///
    /// # Errors
    /// When it is not TOML, or has an unknown key or a value of the wrong type.
    pub fn add_toml(&mut self, text: &str, source: &str) -> Result<(), ConfigError> {
        self.add_text(text, Source::File(source.to_string()), source)
    }

    /// Adds a site file: the keys of `[slurm]` for all jobs of a user. Every other layer comes before it.
    ///
    /// # Errors
    /// As [`Layers::add_file`].
    pub fn add_site(&mut self, path: &Path) -> Result<(), ConfigError> {
        let shown = path.display().to_string();
        let text = text_file::read(path).map_err(|error| ConfigError::Read {
            path: shown.clone(),
            reason: error.reason,
            suggestion: error.hint.map(|hint| Suggestion::new().text(hint)),
        })?;
        let source = Source::File(shown.clone());
        let table: Table = toml::from_str(&text).map_err(|error| syntax_error(&text, &error, &source, &shown))?;
        // With or without the table's name.
        let table = match table.get(SLURM) {
            Some(Value::Table(inner)) if table.len() == 1 => inner.clone(),
            _ => table,
        };
        let of_slurm = |table: Table| Table::from_iter([(SLURM.to_string(), Value::Table(table))]);
        // All of it is checked, not only what is used.
        let mut site = Layers::new();
        site.add(of_slurm(table.clone()), source.clone())?;
        site.finish()?;
        let unwritten = table.into_iter().filter(|(key, _)| !self.origins.has(SLURM, key)).collect();
        self.add(of_slurm(unwritten), source)
    }

    fn add_text(&mut self, text: &str, source: Source, shown: &str) -> Result<(), ConfigError> {
        let table = toml::from_str(text).map_err(|error| syntax_error(text, &error, &source, shown))?;
        self.origins.base = self.origins.base.or(presets::base_of(text));
        self.add(table, source)
    }

    /// Adds one key from `table.key=value`; without a value, the key goes back to its default.
    ///
    /// # Errors
    /// When there is no `=` or no key of that name, or the value has the wrong type.
    pub fn set(&mut self, assignment: &str, source: Source) -> Result<(), ConfigError> {
        let wrong = || ConfigError::Assignment { text: assignment.to_string() };
        let (key, value) = assignment.split_once('=').ok_or_else(wrong)?;
        let (key, value) = (key.trim(), value.trim());
        if key.split('.').any(str::is_empty) {
            return Err(wrong());
        }
        check_parts(key, &source)?;
        if value.is_empty() {
            return self.unset(key, source);
        }
        // Anything that is not a TOML value is a text: model.activation=relu needs no quotes inside quotes.
        let parsed = toml::from_str::<Table>(&format!("value = {value}")).ok().filter(|table| table.len() == 1);
        let parsed = parsed.and_then(|mut table| table.remove("value")).filter(|value| !value.is_datetime());
        self.put_value(key, parsed.unwrap_or_else(|| Value::String(value.to_string())), source)
    }

    /// Adds one key, such as `model.depth`, from a flag; `source` is what errors call it.
    ///
    /// # Errors
    /// When there is no key of that name, or the value has the wrong type.
    pub fn put(&mut self, key: &str, value: impl Into<Value>, source: &str) -> Result<(), ConfigError> {
        self.put_value(key, value.into(), Source::Argument(source.to_string()))
    }

    fn put_value(&mut self, key: &str, value: Value, source: Source) -> Result<(), ConfigError> {
        check_parts(key, &source)?;
        let nested =
            key.rsplit('.').fold(value, |inner, part| Value::Table(Table::from_iter([(part.to_string(), inner)])));
        let Value::Table(table) = nested else { return Ok(()) };
        self.add(table, source)
    }

    /// Replaces the whole `[model]` table by that of a named model (`vit-tiny`); `source` is what errors call it.
    ///
    /// # Errors
    /// When there is no model of that name.
    pub fn model(&mut self, name: &str, source: &str) -> Result<(), ConfigError> {
        let Some(spec) = ModelSpec::named(name) else {
            let suggestion = suggest(name, ModelSpec::names(), "the models are");
            return Err(ConfigError::UnknownModel { name: name.to_string(), suggestion });
        };
        self.model_spec(spec, source)
    }

    /// Replaces the whole `[model]` table; `source` is what errors call it.
    ///
    /// # Errors
    /// When a value is out of range.
    pub fn model_spec(&mut self, spec: ModelSpec, source: &str) -> Result<(), ConfigError> {
        self.forget("model");
        let spec = Table::try_from(spec).expect("a spec is plain numbers, texts and lists");
        self.add(Table::from_iter([("model".to_string(), Value::Table(spec))]), Source::Argument(source.to_string()))
    }

    /// Chooses other data; `source` is what errors call it. What earlier layers say of the images of their data goes back
    /// to its default: classes, normalization and, unless both are folders, the size.
    ///
    /// # Errors
    /// When a config with another value of `data.name` has an invalid value.
    pub fn data(&mut self, name: &str, source: &str) -> Result<(), ConfigError> {
        let before = self.clone().finish().map(|checked| checked.config().data.clone());
        if let Ok(before) = before.as_ref()
            && before.name != name
        {
            let is_known = DataSpec { name: name.to_string(), ..DataSpec::default() }.is_known_data_set();
            // Between two folders of images, size and normalization stay, because the model has them.
            if before.is_known_data_set() || is_known {
                let of_folders: &[&str] = if is_known { &["data.image_size", "data.channels"] } else { &[] };
                for key in ["data.classes", "data.mean", "data.std"].iter().chain(of_folders) {
                    self.unset(key, Source::Argument(source.to_string()))?;
                }
            }
        }
        self.put("data.name", name, source)
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
        name_folder(&mut config);
        CheckedConfig::new(config, self.origins)
    }

    fn unset(&mut self, key: &str, source: Source) -> Result<(), ConfigError> {
        let (table, key) = key.split_once('.').unwrap_or(("", key));
        let kind = self.kind();
        let keys = keys_of(table, kind).ok_or_else(|| unknown_table(table, source.clone()))?;
        if !keys.iter().any(|known| known.name == key) {
            return Err(unknown_key(key, &keys, kind, source, Some(table)));
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

    fn add(&mut self, layer: Table, source: Source) -> Result<(), ConfigError> {
        self.origins.count += 1;
        for (name, value) in layer {
            if name == "model"
                && let Some(written) = value.get("kind")
            {
                self.choose_kind(written, &source)?;
            }
            let kind = self.kind();
            let Some(keys) = keys_of(&name, kind) else {
                return Err(match value {
                    Value::Table(_) => unknown_table(&name, source),
                    _ => unknown_key(&name, &[], kind, source, None),
                });
            };
            let Value::Table(written) = value else {
                let suggestion = Suggestion::new().text(format!("write its keys under [{name}]"));
                let rule = RuleError::new(&name, value, "is not a table").suggest(suggestion);
                return Err(ConfigError::Rule { rule: Box::new(rule), place: Place::Config(source, None) });
            };
            for (key, value) in written {
                let Some(known) = keys.iter().find(|known| known.name == key) else {
                    return Err(unknown_key(&key, &keys, kind, source, Some(&name)));
                };
                let table = self.merged.entry(name.clone()).or_insert_with(|| Value::Table(Table::new()));
                let table = table.as_table_mut().expect("only tables are merged in");
                merge(table, key.clone(), value);
                accept(known, &table[&key], kind, &source)?;
                self.origins.written.insert((name.clone(), key), (self.origins.count, source.clone()));
            }
        }
        Ok(())
    }

    /// Forgets all that was written for a table.
    fn forget(&mut self, table: &str) {
        self.merged.remove(table);
        self.origins.written.retain(|(of, _), _| of != table);
    }

    /// The kind of model, which decides the keys of `[model]`.
    fn kind(&self) -> ModelKind {
        let written = self.merged.get("model").and_then(|model| model.get("kind"));
        written.and_then(|kind| kind.clone().try_into().ok()).unwrap_or_default()
    }

    /// Makes `[model]` one of the kind that a layer names. Another kind has other keys, so earlier ones are forgotten.
    fn choose_kind(&mut self, written: &Value, source: &Source) -> Result<(), ConfigError> {
        accept(&ModelKind::KEY, written, self.kind(), source)?;
        if written.clone().try_into().ok() != Some(self.kind()) {
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

    /// The name of the preset that the config starts from.
    pub(super) fn preset_name(&self) -> Option<&str> {
        self.written.values().find_map(|(_, source)| match source {
            Source::Preset(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The source of a key, in words.
    pub(super) fn source(&self, table: &str, key: &str) -> String {
        let source = self.written.get(&(table.to_string(), key.to_string())).map(|(_, source)| source);
        source.map_or_else(|| "default".to_string(), shown_source)
    }

    /// Adds the place to a broken rule: where the last of its keys was written.
    pub(super) fn locate(&self, rule: RuleError) -> ConfigError {
        let written = rule.keys.iter().filter_map(|path| {
            let mut parts = path.split('.');
            self.written.get(&(parts.next()?.to_string(), parts.next()?.to_string()))
        });
        let source = written.max_by_key(|(layer, _)| *layer).map_or(Source::Default, |(_, source)| source.clone());
        let place = Place::Config(source, Some(rule.table().to_string()));
        ConfigError::Rule { rule: Box::new(rule), place }
    }
}

/// Refuses a key of too many parts: each is a table inside the one before, and takes stack. The parser of files has such a
/// limit of its own.
fn check_parts(key: &str, source: &Source) -> Result<(), ConfigError> {
    if key.split('.').nth(PARTS_MAX).is_some() {
        let suggestion = Suggestion::new().text("a key is a table and a name in it, such as model.depth");
        let rule = RuleError::about("a key", format!("has more than {PARTS_MAX} parts")).suggest(suggestion);
        let place = Place::Config(source.clone(), None);
        return Err(ConfigError::Rule { rule: Box::new(rule), place });
    }
    Ok(())
}

/// Recognizes the config of an older version's run on a folder that has the name of a data set that is known now: it has the
/// sizes of all images, which are not those of the data set. Such a folder is called `./kmnist`.
fn name_folder(config: &mut Config) {
    let Config { data, model, .. } = config;
    let set = data_sets::data_set(&data.name).filter(|set| data_sets::is_newer(set.name));
    let (Some(set), Some(_), Some(channels), Some(classes)) =
        (set, model.image_size(), model.channels(), model.num_classes())
    else {
        return;
    };
    let has_classes = data.classes.is_some() || classes == set.class_names.len();
    let has_shape = data.image_size.is_none() && data.channels.is_none() && channels == set.shape.channels;
    if !has_classes || !has_shape {
        data.name = format!("./{}", data.name);
    }
}

fn merge(into: &mut Table, key: String, value: Value) {
    match (into.get_mut(&key), value) {
        (Some(Value::Table(old)), Value::Table(new)) => new.into_iter().for_each(|(key, value)| merge(old, key, value)),
        (_, value) => {
            into.insert(key, value);
        }
    }
}

/// Checks the type of a value.
fn accept(key: &Key, value: &Value, kind: ModelKind, source: &Source) -> Result<(), ConfigError> {
    key.accept(value).map_err(|mismatch| match mismatch {
        Mismatch::Value(rule) => {
            let place = Place::Config(source.clone(), Some(rule.table().to_string()));
            ConfigError::Rule { rule, place }
        }
        Mismatch::Unknown { key, table, known } => {
            unknown_key(&key, &known.iter().collect::<Vec<_>>(), kind, source.clone(), Some(&table))
        }
    })
}

fn unknown_table(table: &str, source: Source) -> ConfigError {
    let suggestion = suggest(table, TABLES.into_iter(), "the tables are");
    ConfigError::UnknownTable { table: table.to_string(), place: Place::Config(source, None), suggestion }
}

fn unknown_key(word: &str, known: &[&Key], kind: ModelKind, source: Source, table: Option<&str>) -> ConfigError {
    let has = |table, kind| keys_of(table, kind).is_some_and(|keys| keys.iter().any(|key| key.name == word));
    let home = TABLES.into_iter().find(|table| has(table, kind));
    let other = ModelKind::ALL.iter().find(|kind| has("model", **kind));
    let suggestion = match (home, other, spelling::nearest(word, known.iter().map(|key| key.name))) {
        (Some(home), ..) => Suggestion::new().text(format!("`{word}` belongs to [{home}]")),
        (None, Some(other), _) if table == Some("model") => {
            let (other, own) = (other.name(), kind.name());
            Suggestion::new().text(format!("`{word}` is a key of models of kind \"{other}\", and this is a \"{own}\""))
        }
        (None, _, Some(near)) => {
            Suggestion::new().text("did you mean").key(&format!("{}.{near}", table.unwrap_or_default())).text("?")
        }
        (None, ..) => Suggestion::new().text(match table {
            Some(table) => {
                let names: Vec<&str> = known.iter().map(|key| key.name).collect();
                format!("the keys of [{table}] are {}", names.join(", "))
            }
            None => format!("a key is in one of the tables {}", TABLES.join(", ")),
        }),
    };
    let place = Place::Config(source, table.map(str::to_string));
    ConfigError::UnknownKey { key: word.to_string(), place, suggestion }
}

fn suggest<'a>(word: &str, known: impl Iterator<Item = &'a str>, list: &str) -> Suggestion {
    let known: Vec<&str> = known.collect();
    let near = spelling::nearest_few(word, known.iter().copied(), 4);
    Suggestion::new().text(match near.split_last() {
        Some((last, [])) => format!("did you mean `{last}`?"),
        Some((last, others)) => format!("did you mean `{}` or `{last}`?", others.join("`, `")),
        None => format!("{list} {}", known.join(", ")),
    })
}
