//! What a run does, as written in TOML and flags: a [`Config`] of tables, checked before anything is opened.
//!
//! [`Layers`](layers::Layers) puts one together from a preset, a file and flags. [`CheckedConfig`] obeys every rule that
//! needs no data. [`ResolvedConfig`] agrees with the data too: it trains, and is saved with the run. `schema.rs` describes
//! every key; the modules of the tables have the rules over several keys.

pub mod augment;
pub mod classes;
pub mod data;
pub mod difference;
pub mod error;
pub mod layers;
pub mod model;
pub mod optimizer;
pub mod presets;
pub mod schema;
pub mod slurm;
pub mod strips;
mod syntax;
pub mod text_file;
pub mod train;

use serde::{Deserialize, Serialize};

use crate::numbers::counted;
use toml::Table;

use error::{ConfigError, RuleError};
use layers::Origins;
use schema::Key;

/// Tables of a config, in the order in which they are written.
pub const TABLES: [&str; 5] = ["data", "augment", "model", "train", "slurm"];

/// Returns the keys of a table; those of `model` depend on its kind.
pub fn keys_of(table: &str, kind: model::ModelKind) -> Option<Vec<&'static Key>> {
    Some(match table {
        "data" => data::DataSpec::KEYS.iter().collect(),
        "augment" => augment::AugmentSpec::KEYS.iter().collect(),
        "model" => [&model::ModelKind::KEY].into_iter().chain(kind.keys()).collect(),
        "train" => train::TrainSpec::KEYS.iter().collect(),
        "slurm" => slurm::SlurmSpec::KEYS.iter().collect(),
        _ => return None,
    })
}

/// Returns the description of a key, as `table.key`; of the first kind of model that has it.
pub fn key(path: &str) -> Option<&'static Key> {
    let (table, name) = path.split_once('.')?;
    let keys = model::ModelKind::ALL.iter().filter_map(|kind| keys_of(table, *kind)).flatten();
    keys.into_iter().find(|key| key.name == name)
}

/// Everything that decides a run, as written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Which images, and how they become numbers.
    pub data: data::DataSpec,
    /// Random changes to training images.
    pub augment: augment::AugmentSpec,
    /// The network.
    pub model: model::ModelSpec,
    /// How it is trained.
    pub train: train::TrainSpec,
    /// What a job on a cluster needs. It is not written with a run, because it changes nothing that the run computes.
    #[serde(skip_serializing)]
    pub slurm: slurm::SlurmSpec,
}

/// A config whose tables are each valid by themselves; no data was opened for that.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckedConfig {
    config: Config,
    origins: Origins,
    notes: Vec<String>,
}

/// A config that is valid and agrees with the data.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedConfig {
    /// Which images, and how they become numbers.
    pub data: data::DataSpec,
    /// Random changes to training images.
    pub augment: augment::AugmentSpec,
    /// The network.
    pub model: model::ModelConfig,
    /// How it is trained.
    pub train: train::TrainConfig,
    /// The preset that it is made from; nothing follows from it.
    pub preset: Option<&'static str>,
}

impl Config {
    /// Writes the config as TOML, from which [`layers::Layers::add_toml`] reads the same config.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a checked config is plain numbers, texts and lists")
    }
}

impl CheckedConfig {
    fn new(mut config: Config, origins: Origins) -> Result<Self, ConfigError> {
        let notes = fit_warm_up(&mut config.train, &origins).into_iter().collect();
        config.data.check().map_err(|rule| origins.locate(rule))?;
        config.augment.check_ranges().map_err(|rule| origins.locate(rule))?;
        config.model.check().map_err(|rule| origins.locate(rule))?;
        config.train.check().map_err(|rule| origins.locate(rule))?;
        config.slurm.check().map_err(|rule| origins.locate(rule))?;
        Ok(CheckedConfig { config, origins, notes })
    }

    /// The config as written, defaults filled in.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Notes on what was changed so that all fits together, and on what is unusual.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Whether a key, such as `name` of `data`, was written for this run: not left to the defaults, nor to a preset.
    pub fn is_written(&self, table: &str, key: &str) -> bool {
        self.origins.is_written(table, key)
    }

    /// The source of a key, such as `name` of `data`, in words.
    pub fn source(&self, table: &str, key: &str) -> String {
        self.origins.source(table, key)
    }

    /// The preset, and the keys whose values differ from it: `train.epochs 10, now 3 (--epochs)`. Without a preset, the keys
    /// that were written.
    pub fn differences(&self) -> Vec<String> {
        let now = difference::flat(&self.config);
        fn parts(key: &str) -> (&str, &str) {
            key.split_once('.').expect("keys have a table")
        }
        let from = |key: &str| format!(" ({})", self.origins.source(parts(key).0, parts(key).1));
        let Some(name) = self.origins.preset_name() else {
            let written = now.iter().filter(|(key, _)| self.is_written(parts(key).0, parts(key).1));
            return written
                .map(|(key, value)| format!("{key} {}", difference::shown(Some(value))) + &from(key))
                .collect();
        };
        let preset = layers::Layers::preset(name).and_then(layers::Layers::finish).expect("presets are valid");
        let before = difference::flat(preset.config());
        let changes = difference::changes(&before, &now).into_iter();
        let changes = changes.map(|(key, before, now)| difference::became(key, before, now) + &from(key));
        [format!("preset {name}")].into_iter().chain(changes).collect()
    }

    /// Reduces a default or preset batch size to the number of training images; returns a note if it did.
    pub fn fit_batch(&self, config: &mut ResolvedConfig, images: usize) -> Option<String> {
        let train = &config.train;
        let is_chosen = ["batch_size", "grad_accum_steps"].iter().any(|key| self.is_written("train", key));
        let fitting = images / train.grad_accum_steps;
        if is_chosen || fitting == 0 || train.step_images() <= images {
            return None;
        }
        // As it was written: it may have been reduced before, to the images before some could not be decoded.
        let (before, source) = (self.config.train.batch_size, self.origins.source("train", "batch_size"));
        let note =
            format!("batch_size {before} ({source}) is reduced to {fitting}: there are only {images} training images");
        config.train = train.with_batch_size(fitting);
        Some(note)
    }

    /// Fills in what follows from the data and checks the whole again; no image is decoded for that.
    ///
    /// # Errors
    /// When the config contradicts the data, or breaks a rule now that all sizes are known.
    pub fn resolve(&self, facts: model::ImageFacts) -> Result<ResolvedConfig, ConfigError> {
        let Config { data, augment, model, train, .. } = self.config.clone();
        let size = facts.image_size;
        augment.check_size(size, size).map_err(|rule| self.origins.locate(rule))?;
        let model = model.with_facts(facts).map_err(|rule| {
            let is_folder = !data.is_known_data_set();
            self.origins.locate(if is_folder { with_resize(rule, &model, size) } else { rule })
        })?;
        let train = train::TrainConfig::try_from(train).map_err(|rule| self.origins.locate(rule))?;
        Ok(ResolvedConfig { data, augment, model, train, preset: self.origins.base })
    }
}

/// Shortens a default or preset warm-up to the length of the run; returns a note when the warm-up takes the whole run.
fn fit_warm_up(train: &mut train::TrainSpec, origins: &Origins) -> Option<String> {
    let (epochs, before) = (train.epochs as f64, train.warmup_epochs);
    if epochs < 1.0 || before < epochs {
        return None;
    }
    let whole = format!("the warm-up takes the whole run, {}", counted(train.epochs, "epoch"));
    if before == epochs {
        return Some(whole);
    }
    // A warm-up that was written for this run is an error instead.
    if origins.is_written("train", "warmup_epochs") {
        return None;
    }
    train.warmup_epochs = epochs;
    let source = origins.source("train", "warmup_epochs");
    Some(format!("{whole}: warmup_epochs {before} ({source}) is shortened to it"))
}

/// Where patches do not divide a folder's images, these can have another size too.
fn with_resize(rule: RuleError, model: &model::ModelSpec, size: usize) -> RuleError {
    let patch_size = || usize::try_from(Table::try_from(model).ok()?.get("patch_size")?.as_integer()?).ok();
    match (rule.keys.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), patch_size(), &rule.suggestion) {
        (["model.image_size", "model.patch_size"], Some(patch_size), Some(suggestion)) => {
            let suggestion = suggestion.clone().or().set("data.image_size", model::nearest_multiple(patch_size, size));
            rule.suggest(suggestion)
        }
        _ => rule,
    }
}

impl ResolvedConfig {
    /// Writes the config as it is saved with a run: every key, with the sizes that the data decides.
    pub fn to_toml(&self) -> String {
        let ResolvedConfig { data, augment, model, train, .. } = self.clone();
        Config { data, augment, model: model.spec(), train: (*train).clone(), ..Config::default() }.to_toml()
    }
}

#[cfg(test)]
mod tests {
    use super::layers::Layers;
    use super::*;
    use crate::advice::Explain;
    use crate::advice::Source;
    use model::{ImageFacts, ModelKind, ModelSpec, VitSpec};
    use std::path::Path;

    const FACTS: ImageFacts = ImageFacts { image_size: 28, channels: 1, num_classes: 10 };

    fn layers(text: &str) -> Result<Layers, ConfigError> {
        let mut layers = Layers::new();
        layers.add_toml(text, "my.toml")?;
        Ok(layers)
    }

    fn set_flag() -> Source {
        Source::Argument("--set".to_string())
    }

    /// The error's text and its hint.
    fn refused(text: &str) -> [String; 2] {
        shown(layers(text).and_then(Layers::finish).expect_err("the config is bad"))
    }

    fn refused_set(assignment: &str) -> [String; 2] {
        let mut layers = Layers::new();
        shown(layers.set(assignment, set_flag()).and_then(|()| layers.finish()).expect_err("the config is bad"))
    }

    fn vit(layers: Layers) -> VitSpec {
        match layers.finish().unwrap().config().model.clone() {
            ModelSpec::Vit(spec) => spec,
            other => panic!("{other:?}"),
        }
    }

    fn shown(error: ConfigError) -> [String; 2] {
        [error.to_string(), error.suggestion().map(|suggestion| suggestion.to_string()).unwrap_or_default()]
    }

    #[test]
    fn what_differs_from_the_preset_is_listed_with_its_source() {
        let mut preset = Layers::preset("digits").unwrap();
        preset.put("train.epochs", 3, "--epochs").unwrap();
        // Written, but with the preset's own value.
        preset.put("model.depth", 3, "--depth").unwrap();
        let of = |layers: Layers| layers.finish().unwrap().differences();
        assert_eq!(of(preset), ["preset digits", "train.epochs 16, now 3 (--epochs)"]);
        assert_eq!(
            of(layers("[model]\nkind = 'stack'\nlayers = ['flatten', 'linear classes']").unwrap()),
            ["model.kind stack (my.toml)", "model.layers [flatten, linear classes] (my.toml)",]
        );
    }

    #[test]
    fn a_misspelled_key_finds_its_neighbor() {
        let [text, hint] = refused("[model]\nembed_dm = 64");
        assert_eq!(text, "unknown key `embed_dm` (my.toml, [model])");
        assert_eq!(hint, "did you mean model.embed_dim?");
        let [text, hint] = refused("[augment]\nrandom_resized_crop = { scal = [0.8, 1.0], ratio = [0.9, 1.1] }");
        assert_eq!(text, "unknown key `scal` (my.toml, [augment.random_resized_crop])");
        assert_eq!(hint, "did you mean augment.random_resized_crop.scale?");
        let [text, hint] = refused_set("model.dept=4");
        assert_eq!(text, "unknown key `dept` (--set, [model])");
        assert_eq!(hint, "did you mean model.depth?");
    }

    #[test]
    fn a_key_in_the_wrong_table_is_sent_home() {
        let [text, hint] = refused("[model]\nlr = 0.1");
        assert_eq!(text, "unknown key `lr` (my.toml, [model])");
        assert_eq!(hint, "`lr` belongs to [train]");
        let [text, hint] = refused("depth = 3");
        assert_eq!(text, "unknown key `depth` (my.toml)");
        assert_eq!(hint, "`depth` belongs to [model]");
        let [_, hint] = refused("quux = 3");
        assert_eq!(hint, "a key is in one of the tables data, augment, model, train, slurm");
        let [_, hint] = refused("[augment]\nzebra = 3");
        assert!(hint.starts_with("the keys of [augment] are horizontal_flip, "), "{hint}");
    }

    #[test]
    fn a_kind_of_model_has_its_own_keys() {
        let [text, hint] = refused("[model]\nlayrs = []\nkind = \"stack\"");
        assert_eq!(text, "unknown key `layrs` (my.toml, [model])");
        assert_eq!(hint, "did you mean model.layers?");
        let [text, hint] = refused("[model]\nkind = \"stack\"\npatch_size = 4");
        assert_eq!(text, "unknown key `patch_size` (my.toml, [model])");
        assert_eq!(hint, "`patch_size` is a key of models of kind \"vit\", and this is a \"stack\"");
        let [_, hint] = refused("[model]\nkind = \"stack\"\nlr = 1.0");
        assert_eq!(hint, "`lr` belongs to [train]");
        let [_, hint] = refused("[model]\nkind = \"stack\"\nzebra = 1.0");
        assert!(hint.starts_with("the keys of [model] are kind, image_size,"), "{hint}");
        let [text, hint] = refused("[model]\nkind = \"stack\"\nlayers = [\"conv 3\", \"rleu\"]");
        assert_eq!(text, "layers.1 \"rleu\" is not a known layer (my.toml, [model])");
        assert_eq!(hint, "did you mean `relu`?");
    }

    #[test]
    fn another_kind_of_model_forgets_the_keys_of_the_one_before() {
        let mut layers = Layers::preset("mnist-vit").unwrap();
        layers.add_toml("[model]\nlayers = [\"flatten\", \"linear 10\"]\nkind = \"stack\"", "my.toml").unwrap();
        let expected: model::StackSpec = toml::from_str("layers = [\"flatten\", \"linear 10\"]").unwrap();
        assert_eq!(layers.clone().finish().unwrap().config().model, ModelSpec::Stack(expected));
        layers.set("model.kind=stack", set_flag()).unwrap();
        layers.set("model.init=kaiming", set_flag()).unwrap();
        let ModelSpec::Stack(spec) = layers.clone().finish().unwrap().config().model.clone() else { panic!() };
        assert_eq!((spec.layers.len(), spec.init), (2, model::StackInit::Kaiming));
        layers.set("model.kind=", set_flag()).unwrap();
        assert_eq!(vit(layers), VitSpec::default());
    }

    #[test]
    fn a_folder_of_an_older_run_may_have_the_name_of_a_data_set_that_is_known_now() {
        let name = |data: &str, model: &str| {
            let text = format!("[data]\n{data}\n[model]\nimage_size = 28\n{model}\n");
            layers(&text).unwrap().finish().unwrap().config().data.name.clone()
        };
        // As a run of that data set keeps it, and as one of a folder does.
        assert_eq!(name("name = 'kmnist'", "channels = 1\nnum_classes = 10"), "kmnist");
        assert_eq!(name("name = 'kmnist'\nclasses = 'even'", "channels = 1\nnum_classes = 5"), "kmnist");
        assert_eq!(name("name = 'kmnist'", "channels = 3\nnum_classes = 10"), "./kmnist");
        assert_eq!(name("name = 'kmnist'", "channels = 1\nnum_classes = 7"), "./kmnist");
        assert_eq!(name("name = 'kmnist'\nimage_size = 28", "channels = 1\nnum_classes = 10"), "./kmnist");
        let [_, hint] = refused("[data]\nname = 'kmnist'\nimage_size = 64");
        assert_eq!(hint, "remove data.image_size, or use data.name = \"./kmnist\" for a folder of that name");
        // This one was always known.
        assert!(
            refused("[data]\nname = 'mnist'\nimage_size = 28\n[model]\nimage_size = 28\nchannels = 3\nnum_classes = 3")
                [0]
            .starts_with("image_size 28 does not apply to mnist")
        );
    }

    #[test]
    fn tables_have_neighbors_too() {
        let [text, hint] = refused("[modle]\ndepth = 3");
        assert_eq!(text, "unknown table `modle` (my.toml)");
        assert_eq!(hint, "did you mean `model`?");
        let [text, hint] = refused("model = 3");
        assert_eq!(text, "model 3 is not a table (my.toml)");
        assert_eq!(hint, "write its keys under [model]");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_shown_with_one_that_works() {
        let cases = [
            ("[model]\ndepth = \"four\"", "depth \"four\" is not a whole number", "depth = 4"),
            ("[model]\ndepth = 4.5", "depth 4.5 is not a whole number", "depth = 4"),
            ("[model]\ndepth = 4.0", "depth 4.0 is not a whole number", "depth = 4"),
            ("[train]\nepochs = 1.0", "epochs 1.0 is not a whole number", "epochs = 1"),
            ("[train]\nepochs = -1", "epochs -1 is not a whole number", "epochs = 10"),
            (
                "[train]\nseed = \"9223372036854775808\"",
                "seed 9223372036854775808 is not at most 9223372036854775807",
                "seed = 42",
            ),
            ("[train]\nlr = \"high\"", "lr \"high\" is not a number", "lr = 0.001"),
            ("[train]\nclip_grad = true", "clip_grad true is not a number", "clip_grad = 1, or remove train.clip_grad"),
            ("[model]\nqkv_bias = 1", "qkv_bias 1 is not true or false", "qkv_bias = true"),
            ("[data]\nname = 5", "name 5 is not text in quotes", "name = \"digits\""),
            ("[data]\ndir = 5", "dir 5 is not a path in quotes", "dir = \"data\", or remove data.dir"),
            ("[data]\nmean = [\"a\"]", "mean [\"a\"] is not a list of numbers", "mean = [0.5], or remove data.mean"),
            (
                "[data]\nclasses = true",
                "classes true is not even, odd, or a list of class names or numbers",
                "classes = \"even\", or remove data.classes",
            ),
            ("[data]\nmean = 0.5", "mean 0.5 is not a list of numbers", "mean = [0.5], or remove data.mean"),
            (
                "[model]\nactivation = \"gelo\"",
                "activation \"gelo\" is not one of relu, gelu, gelu-tanh, tanh",
                "activation = \"gelu\"",
            ),
            (
                "[train]\nsched = \"poly\"",
                "sched \"poly\" is not one of constant, cosine, step",
                "sched = \"constant\"",
            ),
            (
                "[model]\nkind = \"stak\"",
                "kind \"stak\" is not one of vit, stack, convnet, sequence-vit, reader",
                "kind = \"stack\"",
            ),
            (
                "[model]\nkind = \"stack\"\nlayers = [5]",
                "layers [5] is not a list of layers such as \"conv 32\", or { residual = [\"conv 32\", \"relu\"] }",
                "layers = [\"conv 32\", \"relu\", \"globalpool\", \"linear classes\"]",
            ),
            ("[train]\nbetas = 0.9", "betas 0.9 is not a list of 2 numbers", "betas = [0.9, 0.999]"),
        ];
        for (toml, expected_text, expected_hint) in cases {
            let [text, hint] = refused(toml);
            let table = &toml[1..toml.find(']').unwrap()];
            assert_eq!(text, format!("{expected_text} (my.toml, [{table}])"));
            assert_eq!(hint, format!("use {table}.{expected_hint}"));
        }
        let [text, hint] = refused("[augment]\nrandom_resized_crop = [0.5, 1]");
        assert_eq!(text, "random_resized_crop [0.5, 1] is not a table of scale and ratio (my.toml, [augment])");
        let crop = "augment.random_resized_crop";
        assert_eq!(hint, format!("use {crop} = {{ ratio = [0.75, 1.333], scale = [0.08, 1.0] }}, or remove {crop}"));
        let [text, hint] = refused("[augment]\nrandom_resized_crop = { scale = 0.5 }");
        assert_eq!(text, "random_resized_crop.scale 0.5 is not a list of 2 numbers (my.toml, [augment])");
        assert_eq!(hint, format!("use {crop}.scale = [0.08, 1.0]"));
        for number in ["9_223_372_036_854_775_808", "18446744073709551616", "99999999999999999999"] {
            let [text, _] = refused(&format!("[train]\nseed = {number} # large"));
            let plain = number.replace('_', "");
            assert_eq!(text, format!("seed {plain} is not at most 9223372036854775807 (my.toml, line 2)"));
        }
    }

    #[test]
    fn the_type_of_a_value_is_checked_as_serde_reads_it() {
        let values = "true|-1|0|3|2.5|'relu'|'adam'|'even'|''|[]|[1]|[0.5, 1]|['embed']|['conv 3']|[true]|{}|{scale = [0.1, 1]}|1979-05-27";
        for &kind in ModelKind::ALL {
            for (table, key) in TABLES
                .into_iter()
                .flat_map(|table| keys_of(table, kind).unwrap().into_iter().map(move |key| (table, key)))
            {
                for value in values.split('|') {
                    let text = format!("kind = '{}'", kind.name());
                    let text = if table == "model" && key.name != "kind" { text } else { String::new() };
                    let text = format!("[{table}]\n{text}\n{} = {value}", key.name);
                    let value = toml::from_str::<Table>(&text).unwrap()[table][key.name].clone();
                    // Serde also reads a list as a table.
                    let is_list = matches!(key.kind, schema::Kind::Table(_)) && value.is_array();
                    let is_read = !is_list && toml::from_str::<Config>(&text).is_ok();
                    assert_eq!(key.accept(&value).is_ok(), is_read, "{text}");
                }
            }
        }
    }

    #[test]
    fn every_example_and_default_obeys_the_rules_of_its_key() {
        for &kind in ModelKind::ALL {
            for key in TABLES.into_iter().flat_map(|table| keys_of(table, kind).unwrap()) {
                assert!(key.accept(&key.example()).is_ok(), "{} = {}", key.path(), key.example());
                let mut layers = Layers::new();
                layers.put("model.kind", kind.name(), "--set").unwrap();
                if kind == ModelKind::Stack {
                    layers.set("model.layers=['flatten', 'linear classes']", set_flag()).unwrap();
                }
                // Only folders have these.
                layers.set("data.name=photos", set_flag()).unwrap();
                layers.put(&key.path(), key.example(), "--set").unwrap();
                assert!(layers.finish().is_ok(), "{} = {}", key.path(), key.example());
            }
        }
    }

    #[test]
    fn a_broken_rule_names_the_layer_that_broke_it() {
        let heads = "embed_dim 190 is not a multiple of num_heads 12";
        let [text, hint] = refused("[model]\nembed_dim = 190\nnum_heads = 12");
        assert_eq!(text, format!("{heads} (my.toml, [model])"));
        assert_eq!(hint, "use model.embed_dim = 192, or model.num_heads = 10");
        let mut last = layers("[model]\nembed_dim = 190\nnum_heads = 10").unwrap();
        last.put("model.num_heads", 12, "--num-heads").unwrap();
        assert_eq!(shown(last.finish().unwrap_err())[0], format!("{heads} (--num-heads, [model])"));
        assert_eq!(refused("[train]\nlr = -1")[0], "lr -1 is not above 0 (my.toml, [train])");
        assert_eq!(refused_set("train.lr=0")[0], "lr 0 is not above 0 (--set, [train])");
        assert_eq!(refused("[data]\nlimit_train = 0")[0], "limit_train 0 is not at least 1 (my.toml, [data])");
        assert_eq!(
            refused("[augment]\nhorizontal_flip = 2.0")[0],
            "horizontal_flip 2 is not between 0 and 1 (my.toml, [augment])"
        );
        let [text, _] = refused("[model]\nembed_dim = 63");
        assert_eq!(text, "embed_dim 63 is not a multiple of num_heads 4 (my.toml, [model])");
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        let [text, _] = refused("[model]\ndepth = 3\nembed_dim 64\n");
        assert!(text.ends_with(" (my.toml, line 3)"), "{text}");
        assert!(text.starts_with(|c: char| c.is_lowercase()), "{text}");
        for line in ["depth =", "depth = # four"] {
            let [text, _] = refused(&format!("[model]\nembed_dim = 64\n{line}\nnum_heads = 4"));
            assert_eq!(text, "`depth` has no value (my.toml, line 3)");
        }
    }

    #[test]
    fn an_absent_file_is_named_and_a_preset_recognized() {
        let error = Layers::new().add_file(Path::new("no/such.toml")).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("cannot read the config: ") && text.ends_with(" (no/such.toml)"), "{text}");
        let error = Layers::new().add_file(Path::new("mnist-vit")).unwrap_err();
        assert_eq!(shown(error)[1], "mnist-vit is a preset: preset = \"mnist-vit\"");
    }

    #[test]
    fn later_layers_win_and_keep_the_rest() {
        let mut layers = Layers::preset("mnist-vit").unwrap();
        layers.add_toml("[model]\ndepth = 5\n[train]\nepochs = 3", "my.toml").unwrap();
        layers.set("train.epochs = 2", set_flag()).unwrap();
        layers.set("model.activation=relu", set_flag()).unwrap();
        layers.set("model.dropout_places=['embed']", set_flag()).unwrap();
        layers.put("train.lr", 0.25, "--lr").unwrap();
        layers.set("augment.random_resized_crop.scale=[0.5, 1.0]", set_flag()).unwrap();
        let (spec, config) = (vit(layers.clone()), layers.finish().unwrap().config().clone());
        assert_eq!((spec.depth, config.train.epochs, config.train.lr), (5, 2, 0.25));
        assert_eq!(spec.activation, model::Activation::Relu);
        assert_eq!(spec.dropout_places, [model::DropoutPlace::Embed]);
        assert_eq!((spec.num_positions, config.data.name.as_str()), (Some(65), "mnist"));
        let crop = config.augment.random_resized_crop.unwrap();
        assert_eq!((crop.scale, crop.ratio), ([0.5, 1.0], [0.9, 1.1]));
    }

    #[test]
    fn an_empty_value_brings_the_default_back() {
        let mut layers = Layers::preset("mnist-vit").unwrap();
        layers.set("model.num_positions=", set_flag()).unwrap();
        assert_eq!(vit(layers).num_positions, None);
        assert_eq!(refused_set("model.dept=")[0], "unknown key `dept` (--set, [model])");
        assert_eq!(refused_set("modle.depth=")[0], "unknown table `modle` (--set)");
    }

    #[test]
    fn an_assignment_needs_a_key_and_a_value() {
        for text in ["depth", "=4", "model.=4", ".depth=4"] {
            let [error, hint] = refused_set(text);
            assert_eq!(error, format!("`{text}` is not TABLE.KEY=VALUE"));
            assert_eq!(hint, "write it like set = \"model.depth=4\"");
        }
        assert_eq!(refused_set("depth=4"), ["unknown key `depth` (--set)", "`depth` belongs to [model]"]);
    }

    #[test]
    fn a_named_model_replaces_the_one_before() {
        let mut layers = Layers::preset("mnist-vit").unwrap();
        layers.model("vit-small", "--model").unwrap();
        layers.put("model.patch_size", 7, "--patch-size").unwrap();
        let ModelSpec::Vit(small) = ModelSpec::named("vit-small").unwrap() else { panic!() };
        assert_eq!(vit(layers.clone()), VitSpec { patch_size: 7, ..small });
        layers.model("vgg11", "--model").unwrap();
        assert_eq!(layers.clone().finish().unwrap().config().model, ModelSpec::named("vgg11").unwrap());
        let error = layers.model("vit-tny", "--model").unwrap_err();
        assert_eq!(shown(error), ["unknown model `vit-tny`", "did you mean `vit-tiny`?"]);
        let error = Layers::preset("cifar").unwrap_err();
        assert_eq!(error.to_string(), "unknown preset `cifar`");
    }

    #[test]
    fn a_warm_up_of_a_preset_is_shortened_to_the_run_and_a_written_one_is_refused() {
        let with = |assignments: &[&str]| {
            let mut layers = Layers::preset("photos").unwrap();
            assignments.iter().for_each(|assignment| layers.set(assignment, set_flag()).unwrap());
            layers.finish()
        };
        assert_eq!(with(&[]).unwrap().notes(), [""; 0]);
        let short = with(&["train.epochs=1"]).unwrap();
        assert_eq!(short.config().train.warmup_epochs, 1.0);
        let note = "the warm-up takes the whole run, 1 epoch: warmup_epochs 2 (preset photos) is shortened to it";
        assert_eq!(short.notes(), [note]);
        let whole = with(&["train.epochs=3", "train.warmup_epochs=3"]).unwrap();
        assert_eq!(whole.notes(), ["the warm-up takes the whole run, 3 epochs"]);
        let [text, hint] = shown(with(&["train.epochs=1", "train.warmup_epochs=2"]).unwrap_err());
        assert_eq!(text, "warmup_epochs 2 is more than epochs 1 (--set, [train])");
        assert_eq!(hint, "use train.warmup_epochs = 0 for no warm-up");
    }

    #[test]
    fn a_batch_of_a_preset_is_made_to_fit_and_a_chosen_one_is_left() {
        let fitted = |assignments: &[&str], images| {
            let mut layers = Layers::preset("photos").unwrap();
            assignments.iter().for_each(|assignment| layers.set(assignment, set_flag()).unwrap());
            let checked = layers.finish().unwrap();
            let mut config = checked.resolve(ImageFacts { image_size: 64, channels: 3, num_classes: 2 }).unwrap();
            let note = checked.fit_batch(&mut config, images);
            (config.train.batch_size, note)
        };
        let note = "batch_size 64 (preset photos) is reduced to 7: there are only 7 training images".to_string();
        assert_eq!(fitted(&[], 7), (7, Some(note)));
        assert_eq!(fitted(&[], 64), (64, None));
        assert_eq!(fitted(&["train.batch_size=64"], 7), (64, None));
        assert_eq!(fitted(&["train.grad_accum_steps=2"], 7), (64, None));
    }

    #[test]
    fn a_folders_images_have_the_size_that_they_are_given() {
        let refused = |name: &str| {
            let mut layers = layers("[model]\npatch_size = 8").unwrap();
            layers.put("data.name", name, "--data").unwrap();
            let facts = ImageFacts { image_size: 50, channels: 1, num_classes: 10 };
            shown(layers.finish().unwrap().resolve(facts).unwrap_err())
        };
        assert_eq!(refused("photos")[1], "use model.patch_size = 10, or data.image_size = 48");
        assert_eq!(refused("mnist")[1], "use model.patch_size = 10");
    }

    #[test]
    fn the_data_fills_in_what_was_left_out() {
        // A file that was copied from a preset names it in its first line.
        let mut copied = Layers::new();
        copied.add_toml(&presets::text("mnist-vit").unwrap().replace("epochs = ", "epochs = 1"), "my.toml").unwrap();
        let facts = model::ImageFacts { image_size: 28, channels: 1, num_classes: 10 };
        assert_eq!(copied.finish().unwrap().resolve(facts).unwrap().preset, Some("mnist-vit"));
        let checked = Layers::preset("mnist-vit").unwrap().finish().unwrap();
        let resolved = checked.resolve(FACTS).unwrap();
        assert_eq!(resolved.model.spec().image_size(), Some(28));
        let mut again = Layers::new();
        again.add_toml(&resolved.to_toml(), "config.toml").unwrap();
        let read = again.finish().unwrap().resolve(FACTS).unwrap();
        assert_eq!(read, ResolvedConfig { preset: None, ..resolved });
        let error = layers("[model]\nimage_size = 32").unwrap().finish().unwrap().resolve(FACTS).unwrap_err();
        assert_eq!(error.to_string(), "image_size 32 does not match the data set's 28 (my.toml, [model])");
        let padded = layers("[augment]\ncrop_padding = 28").unwrap().finish().unwrap();
        let text = "crop_padding 28 is not below the image's shorter side 28 (my.toml, [augment])";
        assert_eq!(padded.resolve(FACTS).unwrap_err().to_string(), text);
    }
}
