//! Flags that choose a config, shared by all commands that need one.

use std::path::{Path, PathBuf};

use clap::Args;
use toml::Value;

use super::CliError;
use crate::advice::Source;
use crate::config::data::DataSpec;
use crate::config::layers::Layers;
use crate::config::model::{ImageFacts, ModelSpec};
use crate::config::{CheckedConfig, presets};
use crate::data::{self, DataError};
use crate::experiment::{first_layer, square_facts, unicode};
use crate::record::Run;
use crate::text::visible;

/// The environment variable with the folder of data sets, used without `--data-dir`.
const DATA_DIR: &str = "VITREOUS_DATA_DIR";

/// Assumed number of classes of a folder that does not exist, to count the parameters of its model.
const CLASSES_UNKNOWN: usize = 10;

/// Which config.
#[derive(Args, Clone, Debug, Default)]
pub struct SettingsArgs {
    /// Start from this preset, such as mnist-vit
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Config file (TOML)
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Named model: vit-tiny, vit-small, vit-base, vgg11, vgg13, vgg16, vgg19, vgg11-bn, ...
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Data set (`vitreous data list` shows them), or a folder with one folder of images per class
    #[arg(short, long, value_name = "NAME|FOLDER")]
    pub data: Option<String>,
    /// Use some of the classes: even, odd, or a list of names or numbers, such as cat,dog or 0,2,4
    #[arg(long, value_name = "LIST")]
    pub classes: Option<String>,
    /// Folder with the data sets [default: the config's, else $VITREOUS_DATA_DIR, else the current folder]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Set a config key, such as model.depth=4; may be repeated
    #[arg(long = "set", value_name = "TABLE.KEY=VALUE")]
    pub set: Vec<String>,
}

/// Returns the folder of data sets from the environment.
pub fn dir_of_environment() -> Option<PathBuf> {
    std::env::var_os(DATA_DIR).filter(|dir| !dir.is_empty()).map(PathBuf::from)
}

impl SettingsArgs {
    /// Combines the layers (preset, file, flags) and checks the config; `numbers` are keys, values and names of flags.
    pub fn checked(&self, numbers: &[(&str, Option<usize>, &str)]) -> Result<CheckedConfig, CliError> {
        let value = |number: usize| Value::Integer(i64::try_from(number).unwrap_or(i64::MAX));
        let numbers = numbers.iter().filter_map(|&(key, number, flag)| Some((key, value(number?), flag)));
        Ok(self.layers(numbers)?.finish()?)
    }

    /// As [`SettingsArgs::checked`], but more layers may follow; `flags` are keys, values and names of flags.
    pub fn layers<'a>(&self, flags: impl IntoIterator<Item = (&'a str, Value, &'a str)>) -> Result<Layers, CliError> {
        let mut layers = first_layer(self.preset.as_deref(), self.config.is_some(), self.data.as_deref())?;
        if let Some(path) = &self.config {
            layers.add_file(path)?;
        }
        if let Some(name) = &self.model {
            layers.model(name, "--model")?;
        }
        if let Some(name) = &self.data {
            layers.data(name, "--data")?;
        }
        if let Some(dir) = &self.data_dir {
            layers.put("data.dir", unicode(dir)?, "--data-dir")?;
        }
        if let Some(classes) = &self.classes {
            layers.put("data.classes", classes.as_str(), "--classes")?;
        }
        for assignment in &self.set {
            layers.set(assignment, set_flag())?;
        }
        for (key, value, flag) in flags {
            layers.put(key, value, flag)?;
        }
        // A folder for this run comes before the one for all runs.
        let has_none = |layers: Layers| layers.finish().is_ok_and(|checked| checked.config().data.dir.is_none());
        if let Some(dir) = dir_of_environment().filter(|_| has_none(layers.clone())) {
            layers.put("data.dir", unicode(&dir)?, DATA_DIR)?;
        }
        Ok(layers)
    }

    /// Whether a model was chosen, so that none is taken from the weights to start with.
    pub fn chooses_model(&self) -> bool {
        let is_of_model = |assignment: &String| assignment.starts_with("model.kind=");
        self.preset.is_some() || self.config.is_some() || self.model.is_some() || self.set.iter().any(is_of_model)
    }

    /// Names what was chosen: the preset, else the model, else the config file.
    pub fn name(&self) -> String {
        let file = || self.config.as_ref().and_then(|path| path.file_stem()).map(|stem| stem.display().to_string());
        let folder = || self.data.as_ref().filter(|data| !is_known(data)).map(|_| presets::FOLDER.to_string());
        let named = self.preset.clone().or_else(|| self.model.clone()).or_else(file).or_else(folder);
        named.unwrap_or_else(|| presets::DEFAULT.to_string())
    }
}

/// The config of the run in a folder, with what `--set` and some flags change; as [`SettingsArgs::checked`]. Flags that
/// choose another config are errors.
pub fn run_config(
    folder: &Path,
    settings: &SettingsArgs,
    numbers: &[(&str, Option<usize>, &str)],
) -> Result<CheckedConfig, CliError> {
    let SettingsArgs { preset, config, model, data, classes, data_dir, set: _ } = settings;
    let others = [
        ("--preset", preset.is_some()),
        ("--config", config.is_some()),
        ("--model", model.is_some()),
        ("--data", data.is_some()),
        ("--classes", classes.is_some()),
        ("--data-dir", data_dir.is_some()),
    ];
    if let Some((flag, _)) = others.into_iter().find(|(_, is_given)| *is_given) {
        let error = format!("{flag} cannot be used with a run folder, which has a config ({})", folder.display());
        let hint = format!("leave out {flag}, or change keys of that config with --set, such as --set train.threads=1");
        return Err(CliError::user(error, Some(hint)));
    }
    let mut layers = Layers::new();
    layers.add_file(&Run::open(folder)?.config_path())?;
    settings.set.iter().try_for_each(|assignment| layers.set(assignment, set_flag()))?;
    for &(key, value, flag) in numbers {
        value.map_or(Ok(()), |value| layers.put(key, i64::try_from(value).unwrap_or(i64::MAX), flag))?;
    }
    Ok(layers.finish()?)
}

/// The source of what `--set` wrote.
pub fn set_flag() -> Source {
    Source::Argument("--set".to_string())
}

/// Whether a known data set has this name.
pub fn is_known(name: &str) -> bool {
    DataSpec { name: name.to_string(), ..DataSpec::default() }.is_known_data_set()
}

/// A path as a shell takes it: in quotes where needed, and as `$'\x1b'` where it cannot be printed.
pub fn shell_word(path: &Path) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_.,+=/:".contains(c);
    match path.to_str() {
        Some(text) if text.chars().all(is_plain) => text.to_string(),
        Some(text) if visible(text) == text => format!("'{}'", text.replace('\'', "'\\''")),
        _ => {
            let byte = |byte: &u8| match byte {
                b'\'' | b'\\' => format!("\\{}", char::from(*byte)),
                b' '..=b'~' => char::from(*byte).to_string(),
                _ => format!("\\x{byte:02x}"),
            };
            format!("$'{}'", path.as_os_str().as_encoded_bytes().iter().map(byte).collect::<String>())
        }
    }
}

/// The image facts to build a model from, without any data file; with a remark where they are guessed.
///
/// The config's own values come first, so that a model can be inspected for any images.
pub fn image_facts(checked: &CheckedConfig) -> Result<(ImageFacts, Option<String>), CliError> {
    let (data, model) = (&checked.config().data, &checked.config().model);
    let mut remark = None;
    let found = match data::known_shape(&data.name) {
        Some(_) => imagined(data)?,
        None => match data::inspect(data) {
            Ok(facts) => square_facts(&facts)?,
            // An existing but wrong folder is an error; for a missing one, typical images are assumed.
            Err(DataError::UnknownName { .. } | DataError::NoFolder { .. }) => {
                let name = &data.name;
                let facts = imagined(data)?;
                if model.num_classes().is_none() {
                    let classes = facts.num_classes;
                    remark =
                        Some(format!("no folder {name}: counted with {classes} classes (--set model.num_classes=N)"));
                }
                facts
            }
            Err(error) => return Err(error.into()),
        },
    };
    Ok((as_written(model, found), remark))
}

/// The image facts to build a model from: those in the config, else those found.
pub fn as_written(model: &ModelSpec, found: ImageFacts) -> ImageFacts {
    ImageFacts {
        image_size: model.image_size().unwrap_or(found.image_size),
        channels: model.channels().unwrap_or(found.channels),
        num_classes: model.num_classes().unwrap_or(found.num_classes),
    }
}

/// The image facts to build a model from without reading images: those of a known data set, or typical ones for a
/// folder.
pub fn imagined(data: &DataSpec) -> Result<ImageFacts, CliError> {
    let (side, channels) = match data::known_shape(&data.name) {
        Some(shape) => (shape.height, shape.channels),
        None => (data.image_size.unwrap_or(data::FOLDER_IMAGE_SIZE), data.channels.unwrap_or(3)),
    };
    let of_folder = || data.classes.as_ref().map_or(CLASSES_UNKNOWN, |subset| subset.count(CLASSES_UNKNOWN));
    let num_classes = data::class_count(data)?.unwrap_or_else(of_folder);
    Ok(ImageFacts { image_size: side, channels, num_classes })
}
