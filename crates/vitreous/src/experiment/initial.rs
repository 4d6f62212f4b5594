//! Weights from a file: as the start of a training, or as a model of their own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::{Table, Value};
use vitreous_engine::{Graph, Memory, Parameters};

use super::{ExperimentError, saved_config};
use crate::advice::Source as Writer;
use crate::checkpoint::{Metadata, TensorFile};
use crate::config::data::DataSpec;
use crate::config::layers::Layers;
use crate::config::model::{ImageFacts, ModelConfig, ModelSpec, VitSpec};
use crate::config::{CheckedConfig, Config, ResolvedConfig};
use crate::data::{Normalization, is_of_images};
use crate::data_sets;
use crate::evaluate::Classifier;
use crate::import::names::TORCHVISION;
use crate::import::{Fitted, HEAD_DIM, ImportError, Settings, Source, summary};
use crate::models::{self, Model};
use crate::random::{Purpose, stream};
use crate::record::{InitialRecord, Run, sha256_of};
use crate::train::{Initial, Work, available_memory, check_memory, threads};

/// The source of values in errors that comes from an imported file.
const IMPORTED: &str = "the imported file";

/// What the data is called in the config of imported weights.
const DATA: &str = "imported";

/// Reads a weights file if there is memory for it.
fn read(path: &Path) -> Result<Source, ExperimentError> {
    let bytes = Source::memory_bytes(path);
    let memory = Memory { parameters: bytes, ..Memory::default() };
    check_memory(Work::ReadingWeights, (memory, 0), false, available_memory(threads(0)))?;
    Ok(Source::read(path)?)
}

/// Random values for all parameters.
fn random(graph: &Graph, seed: u64) -> Parameters {
    Parameters::initialize(graph, stream(seed, Purpose::Initialize))
}

/// Reads the weights that a training starts with, if its config names some; returns a line for each thing that was done to
/// them.
pub(super) fn initial_weights(
    config: &ResolvedConfig,
    model: &Model,
) -> Result<Option<(Initial, Vec<String>)>, ExperimentError> {
    let Some(path) = &config.train.init_from else { return Ok(None) };
    let source = read(path)?;
    let (program, file) = (source.program(), source.path().to_path_buf());
    let partial = config.train.partial == Some(true);
    let fitted = source.fit(model, random(&model.graph, config.train.seed), partial)?;
    let sha256 = sha256_of(&file)?;
    let mut lines = vec![format!("{}: {}", file.display(), summary(&fitted, &model.graph, program))];
    lines.extend(fitted.lines);
    let record = InitialRecord { file, sha256, loaded: fitted.loaded };
    Ok(Some((Initial { parameters: fitted.parameters, record }, lines)))
}

/// Takes from the weights that a training starts with what its config leaves open: how images are normalized and become
/// square, their size where the data decides none, and, unless a model was chosen, the model. Returns a note for each.
///
/// A run that resumes from a checkpoint does not need the file any more: its config has all of that.
///
/// # Errors
/// When the file cannot be read, is for no known model, or a key was written that its model does not have.
pub fn adopt_source(
    layers: &mut Layers,
    chose_model: bool,
    resumed: Option<&Run>,
) -> Result<Vec<String>, ExperimentError> {
    let Ok(checked) = layers.clone().finish() else { return Ok(Vec::new()) };
    let Some(path) = &checked.config().train.init_from else { return Ok(Vec::new()) };
    if let Some(run) = resumed {
        return adopt_run(layers, &checked, chose_model, run).map(|()| Vec::new());
    }
    let source = read(path)?;
    let called = source.path().display().to_string();
    let mut notes = Vec::new();
    let own = source.own().map(own_config).transpose()?;
    if !chose_model {
        let spec = match &own {
            Some(own) => own.config().model.clone(),
            None => ModelSpec::Vit(vit_of(&source)?.clone()),
        };
        notes.push(format!("the model is that of {called}"));
        notes.extend(assumed(&source, |key| checked.is_written("model", key))?);
        adopt_model(layers, &checked, spec, &called)?;
    }
    let data = &checked.config().data;
    let is_open = |key: &str| !checked.is_written("data", key);
    let settings = own.map_or_else(|| source.settings().clone(), |own| own_settings(&own, source.own()));
    let channels = match data_sets::data_set(&data.name) {
        Some(known) => known.shape.channels,
        None => data.channels.unwrap_or(3),
    };
    let is_open_normalization = is_open("mean") && is_open("std");
    if settings.normalization.is_none() && is_open_normalization {
        notes.push(format!(
            "{called} does not say how images were normalized for the weights; data.mean and data.std set it"
        ));
    }
    if let Some(Normalization { mean, std }) = settings.normalization.filter(|own| own.mean.len() == channels)
        && is_open_normalization
    {
        notes.push(format!("images are normalized by mean {mean:?} and std {std:?}, as for the weights"));
        let list = |values: Vec<f32>| Value::Array(values.iter().map(|value| Value::Float(shortest(*value))).collect());
        layers.put("data.mean", list(mean), &called)?;
        layers.put("data.std", list(std), &called)?;
    }
    if !data.is_known_data_set() {
        let size = settings.vit.as_ref().and_then(|spec| spec.image_size);
        if let Some(size) = size.filter(|_| is_open("image_size")) {
            notes.push(format!("images are resized to {size}x{size} pixels, as for the weights"));
            layers.put("data.image_size", size as i64, &called)?;
        }
        if let Some(resize) = settings.resize.filter(|_| is_open("resize")) {
            layers.put("data.resize", Value::try_from(resize).expect("a word"), &called)?;
        }
    }
    Ok(notes)
}

/// Takes what [`adopt_source`] took when a run was started.
fn adopt_run(
    layers: &mut Layers,
    checked: &CheckedConfig,
    chose_model: bool,
    run: &Run,
) -> Result<(), ExperimentError> {
    let called = run.config_path().display().to_string();
    let (saved, _) = saved_config(run)?;
    if !chose_model {
        adopt_model(layers, checked, saved.config().model.clone(), &called)?;
    }
    let data = Table::try_from(&saved.config().data).expect("a table of plain values");
    let adopted = ["mean", "std", "image_size", "resize"];
    for key in adopted.into_iter().filter(|key| !checked.is_written("data", key)) {
        if let Some(value) = data.get(key) {
            layers.put(&format!("data.{key}"), value.clone(), &called)?;
        }
    }
    Ok(())
}

/// Chooses a model for data of any shape; the keys that were written for this run stay.
fn adopt_model(
    layers: &mut Layers,
    checked: &CheckedConfig,
    spec: ModelSpec,
    called: &str,
) -> Result<(), ExperimentError> {
    layers.model_spec(without_facts(spec), called)?;
    let written = Table::try_from(&checked.config().model).expect("a spec is plain numbers, texts and lists");
    for (key, value) in written.into_iter().filter(|(key, _)| checked.is_written("model", key)) {
        layers.put(&format!("model.{key}"), value, &checked.source("model", &key))?;
    }
    Ok(())
}

/// The line that says what is assumed of a file's vision transformer.
///
/// # Errors
/// When nothing can be assumed.
fn assumed(source: &Source, is_said: impl Fn(&str) -> bool) -> Result<Option<String>, ImportError> {
    let Settings { vit, assumed, .. } = source.settings();
    let open: Vec<&(&str, String)> = assumed.iter().filter(|(key, _)| !is_said(key)).collect();
    if let Some(VitSpec { embed_dim, .. }) = vit
        && !embed_dim.is_multiple_of(HEAD_DIM)
        && open.iter().any(|(key, _)| *key == "num_heads")
    {
        return Err(ImportError::Heads { path: source.path().to_path_buf(), width: *embed_dim });
    }
    let open: Vec<String> = open.into_iter().map(|(key, what)| format!("{what} (model.{key})")).collect();
    Ok((!open.is_empty()).then(|| format!("not in the file, and assumed: {}", open.join(", "))))
}

/// An f32 as the f64 with the same digits: 0.485, not 0.48500001430511475.
pub(super) fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// The config in a weights file of this program.
fn own_config(metadata: &Metadata) -> Result<CheckedConfig, ExperimentError> {
    let mut layers = Layers::new();
    layers.add_toml(&metadata.config, IMPORTED)?;
    Ok(layers.finish()?)
}

fn own_settings(config: &CheckedConfig, metadata: Option<&Metadata>) -> Settings {
    let Config { data, model, .. } = config.config();
    let vit = VitSpec { image_size: model.image_size(), ..VitSpec::default() };
    let normalization = metadata.map(|metadata| metadata.normalization.clone());
    Settings { vit: Some(vit), normalization, resize: Some(data.resize), ..Settings::default() }
}

/// The vision transformer of a file.
fn vit_of(source: &Source) -> Result<&VitSpec, ImportError> {
    source.settings().vit.as_ref().ok_or_else(|| ImportError::UnknownModel {
        path: source.path().to_path_buf(),
        reason: "its tensors are not those of a vision transformer".to_string(),
    })
}

/// The same model for data of any shape.
fn without_facts(mut spec: ModelSpec) -> ModelSpec {
    let mut table = Table::try_from(&spec).expect("a spec is plain numbers, texts and lists");
    ["image_size", "channels", "num_classes", "num_positions"].iter().for_each(|key| drop(table.remove(*key)));
    if let Ok(open) = table.try_into() {
        spec = open;
    }
    spec
}

/// What to import.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// The file or folder.
    pub path: PathBuf,
    /// The model, where the file does not show it.
    pub model: Option<String>,
    /// Keys of the config to change, as `model.patch_size=8`.
    pub set: Vec<String>,
    /// Whether to load what fits although the rest does not.
    pub partial: bool,
    /// What errors call the place where the model was chosen, such as an argument.
    pub model_source: String,
    /// What errors call the place where keys were changed.
    pub set_source: String,
}

/// Weights of another program as a model of this one.
pub struct Imported {
    /// The file that was read.
    pub file: PathBuf,
    /// Who made it.
    pub program: &'static str,
    /// The config of the model.
    pub config: ResolvedConfig,
    /// The model.
    pub model: Model,
    /// Its parameters, and what was done to them.
    pub fitted: Fitted,
    metadata: Metadata,
}

/// Imports weights.
///
/// # Errors
/// When the file cannot be read, or its tensors do not fit the model.
pub fn import(options: &ImportOptions) -> Result<Imported, ExperimentError> {
    let source = read(&options.path)?;
    let (file, program) = (source.path().to_path_buf(), source.program());
    let mut layers = Layers::new();
    if let Some(own) = source.own() {
        layers.add_toml(&own.config, &file.display().to_string())?;
    }
    let named = match &options.model {
        None => None,
        Some(name) => {
            let mut named = Layers::new();
            named.model(name, &options.model_source)?;
            Some((name, named.finish()?.config().model.clone()))
        }
    };
    let is_vit = named.as_ref().is_none_or(|(_, spec)| matches!(spec, ModelSpec::Vit(_)));
    let is_set = |key: &str| {
        options
            .set
            .iter()
            .any(|one| one.split('=').next().and_then(|set| set.trim().strip_prefix("model.")) == Some(key))
    };
    let is_said = |key: &str| !is_vit || is_set(key) || named.is_some() && key == "num_heads";
    match (&named, &source.settings().vit) {
        (Some((name, ModelSpec::Vit(named))), Some(found)) => {
            let sizes = |spec: &VitSpec| format!("width {} and {} blocks", spec.embed_dim, spec.depth);
            if sizes(named) != sizes(found) {
                let (name, found, expected) = (name.to_string(), sizes(found), sizes(named));
                return Err(ImportError::OtherModel { path: file, name, found, expected }.into());
            }
            layers.model_spec(ModelSpec::Vit(VitSpec { num_heads: named.num_heads, ..found.clone() }), IMPORTED)?;
        }
        (Some((_, named)), _) => layers.model_spec(named.clone(), IMPORTED)?,
        (None, _) if source.own().is_some() => {}
        (None, _) => layers.model_spec(ModelSpec::Vit(vit_of(&source)?.clone()), IMPORTED)?,
    }
    for assignment in &options.set {
        layers.set(assignment, Writer::Argument(options.set_source.clone()))?;
    }
    let assumed = assumed(&source, is_said)?;
    let checked = layers.finish()?;
    let model = &checked.config().model;
    let own = source.own().map(own_config).transpose()?;
    let own = own.as_ref().map(|own| &own.config().model);
    let usual =
        options.model.as_ref().and_then(|name| ModelSpec::named_models().into_iter().find(|one| one.name == name));
    let usual = usual.map(|named| named.facts);
    let missing =
        |what: &str| ImportError::UnknownModel { path: file.clone(), reason: format!("it does not show {what}") };
    let facts = ImageFacts {
        image_size: (model
            .image_size()
            .or(own.and_then(|own| own.image_size()))
            .or(usual.map(|facts| facts.image_size)))
        .ok_or_else(|| missing("the size of its images: set model.image_size"))?,
        channels: (model.channels().or(own.and_then(|own| own.channels())).or(usual.map(|facts| facts.channels)))
            .ok_or_else(|| missing("its channels"))?,
        num_classes: (model
            .num_classes()
            .or(own.and_then(|own| own.num_classes()))
            .or(usual.map(|facts| facts.num_classes)))
        .ok_or_else(|| missing("its classes: set model.num_classes"))?,
    };
    if !is_of_images(facts.channels) {
        return Err(ImportError::Channels { path: file, channels: facts.channels }.into());
    }
    let config = checked.resolve(facts)?;
    let model = models::build(&config.model, 0.0)?;
    let (metadata, line) = metadata(&source, &config);
    if let Some(value) = metadata.normalization.invalid() {
        return Err(ImportError::Normalization { path: file, value }.into());
    }
    let mut fitted = source.fit(&model, random(&model.graph, config.train.seed), options.partial)?;
    fitted.lines.extend(assumed.into_iter().chain(line));
    Ok(Imported { file, program, config, model, fitted, metadata })
}

/// The header of the weights file that is made, and a line if its normalization is assumed.
fn metadata(source: &Source, config: &ResolvedConfig) -> (Metadata, Option<String>) {
    let facts = config.model.facts();
    let (own, settings, data) = (source.own(), source.settings(), &config.data);
    let written = data.mean.clone().zip(data.std.clone()).map(|(mean, std)| Normalization { mean, std });
    let known = written
        .or_else(|| own.map(|own| own.normalization.clone()))
        .or_else(|| settings.normalization.clone())
        .map(|known| known.for_channels(facts.channels));
    let (normalization, line) = match known {
        Some(known) => (known, None),
        None => {
            let usual = usual_normalization(source, &config.model).for_channels(facts.channels);
            let Normalization { mean, std } = &usual;
            let line = format!(
                "normalization is not in the file: assumed mean {mean:?} and std {std:?}; data.mean and data.std set another"
            );
            (usual, Some(line))
        }
    };
    let names = own.map(|own| &own.class_names).or(settings.class_names.as_ref());
    let names = names.filter(|names| names.len() == facts.num_classes).cloned();
    let class_names = names.unwrap_or_else(|| (0..facts.num_classes).map(|class| class.to_string()).collect());
    let fits = |values: &Vec<f32>| values.len() == facts.channels;
    let data = DataSpec {
        name: if own.is_some() { data.name.clone() } else { DATA.to_string() },
        resize: settings.resize.unwrap_or(data.resize),
        image_size: data.image_size.map(|_| facts.image_size),
        channels: data.channels.map(|_| facts.channels),
        mean: data.mean.clone().filter(fits),
        std: data.std.clone().filter(fits),
        ..data.clone()
    };
    let (augment, train) = (config.augment.clone(), (*config.train).clone());
    let config = Config { data, augment, model: config.model.spec(), train, ..Config::default() }.to_toml();
    let (epoch, step) = own.map_or((0, 0), |own| (own.epoch, own.step));
    (Metadata { class_names, normalization, config, epoch, step }, line)
}

/// What the images of a file's model were most likely normalized by: timm's and Hugging Face's vision transformers by 0.5,
/// DeiT, torchvision's models and convolutional networks by mean and standard deviation of ImageNet.
fn usual_normalization(source: &Source, model: &ModelConfig) -> Normalization {
    let is_distilled = source.tensors().iter().any(|tensor| tensor.name == "dist_token");
    match model {
        ModelConfig::Vit(_) if source.program() != TORCHVISION.name && !is_distilled => Normalization::half(),
        _ => Normalization::imagenet(),
    }
}

impl Imported {
    /// The images that the model takes, and their normalization.
    pub fn normalization(&self) -> &Normalization {
        &self.metadata.normalization
    }

    /// Writes the weights as a file of this program; returns the file's SHA-256.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> Result<String, ExperimentError> {
        let parameters = Arc::new(self.fitted.parameters.clone());
        Ok(TensorFile::weights(&self.model.graph, &parameters, &self.metadata).save(path)?)
    }

    /// The model, ready for inference.
    ///
    /// # Errors
    /// When its metadata is inconsistent.
    pub fn classifier(&self, threads: usize) -> Result<Classifier, ExperimentError> {
        let parameters = |_: &Graph| Ok(self.fitted.parameters.clone());
        Ok(Classifier::new(&self.file, self.metadata.clone(), threads, parameters)?)
    }
}
