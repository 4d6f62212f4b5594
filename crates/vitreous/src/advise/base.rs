//! The config that is to be improved, and the configs of runs in a search.

use super::{AdviseError, Candidate};
use crate::config::layers::Layers;
use crate::config::model::ModelSpec;
use crate::config::{CheckedConfig, Config, ResolvedConfig};
use crate::data::Facts;
use crate::experiment::{ExperimentError, Listener, Prepared};

/// The part of the training images that validates where the config has no validation split.
const VAL_FRACTION: f64 = 0.1;

/// What errors of a run's config name as the source.
const SOURCE: &str = "advise";

/// The config that is to be improved, with the facts of its data.
pub struct Base {
    layers: Layers,
    /// The config as the user has it.
    given: CheckedConfig,
    /// The same with a validation split, filled in.
    pub config: ResolvedConfig,
    /// What is known of the data.
    pub facts: Facts,
    /// Adjusted values, and what is unusual.
    pub notes: Vec<String>,
}

impl Base {
    /// Inspects the data of a config; where it has no validation split, a tenth of the training images becomes one.
    ///
    /// # Errors
    /// When the config or the data is wrong, or there is too little memory.
    pub fn new(mut layers: Layers, listener: Listener) -> Result<Base, AdviseError> {
        let given = layers.clone().finish()?;
        let mut prepared = Prepared::new(&given, listener)?;
        let mut notes = Vec::new();
        if prepared.facts.validation == 0 {
            layers.put("data.val_fraction", VAL_FRACTION, SOURCE)?;
            prepared = Prepared::new(&layers.clone().finish()?, listener)?;
            notes.push(format!(
                "the config has no validation split: {} of its training images choose between the candidates",
                crate::numbers::count(prepared.facts.validation as u64)
            ));
        }
        notes.extend(prepared.notes.clone());
        let Prepared { config, facts, .. } = prepared;
        Ok(Base { layers, given, config, facts, notes })
    }

    /// The config as the user has it, without what does not decide a run's results.
    pub fn text(&self) -> String {
        let mut config = self.given.config().clone();
        (config.data.dir, config.train.threads) = (None, 0);
        config.to_toml()
    }

    /// A config file that trains a candidate as the user trains the base.
    pub fn advised(&self, candidate: &Candidate) -> String {
        Config { model: as_written(&candidate.spec, &self.given.config().model), ..self.given.config().clone() }
            .to_toml()
    }

    /// The layers of a run: a candidate or the base, shortened to some epochs of some images, with this seed. The
    /// schedule of the learning rate is fitted to its length, and so is a maximum number of steps.
    ///
    /// # Errors
    /// None for a candidate that was checked.
    pub fn run(
        &self,
        candidate: Option<&Candidate>,
        (images, epochs): (Option<usize>, usize),
        seed: u64,
    ) -> Result<Layers, ExperimentError> {
        let mut layers = self.layers.clone();
        if let Some(candidate) = candidate {
            let spec = as_written(&candidate.spec, &self.given.config().model);
            let model = toml::Table::try_from(&spec).expect("a spec is plain numbers, texts and lists");
            let table = toml::Table::from_iter([("model".to_string(), toml::Value::Table(model))]);
            layers.add_toml(&table.to_string(), SOURCE)?;
        }
        let whole = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let recipe = &self.given.config().train;
        let part = epochs as f64 / recipe.epochs as f64;
        layers.put("train.epochs", whole(epochs), SOURCE)?;
        layers.put("train.warmup_epochs", recipe.warmup_epochs * part, SOURCE)?;
        layers.put("train.decay_epochs", recipe.decay_epochs * part, SOURCE)?;
        layers.put("train.seed", i64::try_from(seed).unwrap_or(i64::MAX), SOURCE)?;
        if let Some(steps) = recipe.max_steps {
            let part = part * images.map_or(1.0, |images| images as f64 / self.facts.train as f64).min(1.0);
            layers.put("train.max_steps", ((steps as f64 * part).ceil() as i64).max(1), SOURCE)?;
        }
        if let Some(images) = images {
            layers.put("data.limit_train", whole(images), SOURCE)?;
        }
        Ok(layers)
    }

    /// The config of a candidate's timed steps.
    pub fn timed(&self, candidate: &Candidate) -> ResolvedConfig {
        ResolvedConfig { model: candidate.config.clone(), ..self.config.clone() }
    }
}

/// A spec without the sizes that the data decides, unless the user wrote them.
fn as_written(spec: &ModelSpec, given: &ModelSpec) -> ModelSpec {
    let mut table = toml::Table::try_from(spec).expect("a spec is plain numbers, texts and lists");
    let written = [given.image_size(), given.channels(), given.num_classes()];
    for (key, written) in ["image_size", "channels", "num_classes"].into_iter().zip(written) {
        if written.is_none() {
            table.remove(key);
        }
    }
    table.try_into().expect("it was a spec before")
}
