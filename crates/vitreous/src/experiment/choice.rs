//! What is chosen where a user does not say it: the preset to start from, a run's name, data in the place of MNIST.

use std::path::Path;

use super::ExperimentError;
use crate::advice::Source;
use crate::config::data::DataSpec;
use crate::config::layers::Layers;
use crate::config::model::Task;
use crate::config::{Config, presets};
use crate::data::{self, DataError};

/// The config to start from: the preset that is named, none under a config file, else that for folders or the default.
///
/// # Errors
/// When there is no preset of the name.
pub fn first_layer(preset: Option<&str>, has_file: bool, data: Option<&str>) -> Result<Layers, ExperimentError> {
    let is_folder = |name: &str| !DataSpec { name: name.to_string(), ..DataSpec::default() }.is_known_data_set();
    Ok(match (preset, data) {
        (Some(preset), _) => Layers::preset(preset)?,
        (None, _) if has_file => Layers::new(),
        (None, Some(data)) if is_folder(data) => Layers::preset(presets::FOLDER)?,
        (None, _) => Layers::preset(presets::DEFAULT)?,
    })
}

/// What a run is named after: its config file (the run, for a run's own config), else its preset, else its data.
pub fn run_base(config: Option<&Path>, preset: Option<&str>, data: Option<&str>) -> String {
    let file = config.and_then(|path| match path.file_name() {
        Some(name) if name == "config.toml" => path.parent()?.file_name(),
        _ => path.file_stem(),
    });
    let file = file.map(|name| name.to_string_lossy().into_owned());
    file.unwrap_or_else(|| preset.or(data).unwrap_or(presets::DEFAULT).to_string())
}

/// Uses the built-in digits for a reader if MNIST is missing and neither data nor their folder was chosen. Returns a note
/// about it.
///
/// # Errors
/// When the config has no such keys.
pub fn without_mnist(layers: &mut Layers, is_dir_chosen: bool) -> Result<Option<String>, ExperimentError> {
    let Ok(checked) = layers.clone().finish() else { return Ok(None) };
    let Config { data, model, .. } = checked.config();
    let is_chosen = checked.is_written("data", "name") || is_dir_chosen || data.name != "mnist";
    if is_chosen || model.kind().task() != Task::ReadStrips {
        return Ok(None);
    }
    // If some of its files exist, the user means MNIST.
    let Err(error @ DataError::MissingFile { found_others: false, .. }) = data::inspect(data) else {
        return Ok(None);
    };
    const SOURCE: &str = "without MNIST";
    for key in ["data.mean=", "data.std="] {
        layers.set(key, Source::Argument(SOURCE.to_string()))?;
    }
    layers.put("data.name", "digits", SOURCE)?;
    Ok(Some(format!("{error}; using built-in digits instead")))
}
