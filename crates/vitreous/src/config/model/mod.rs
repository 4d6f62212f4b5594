//! The `[model]` table: which network. Its key `kind` says which other keys it has.
//!
//! A [`ModelSpec`] is what was written; a [`ModelConfig`] agrees with the data, and model code accepts only that.

mod reader;
mod sequence_vit;
mod stack;
mod stack_error;
mod stack_shape;
mod stack_text;
mod vgg;
mod vit;
mod vit_config;
mod vit_rules;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;
use toml::{Table, Value};

pub use reader::{DIGITS, ReaderBlock, ReaderConfig, ReaderError, ReaderSpec};
pub use sequence_vit::{AttentionForm, SequenceVitConfig, SequenceVitError, SequenceVitSpec};
pub use stack::{Residual, StackConfig, StackInit, StackSpec, WrittenLayer};
pub use stack_error::StackError;
pub use stack_shape::{Extent, Placed, PlacedKind};
pub use stack_text::{Layer, Window};
pub use vit::{
    Activation, Attention, AttentionScale, Block, DropoutPlace, Init, PatchEmbed, Patching, Pooling, Position, VitSpec,
};
pub use vit_config::VitConfig;
pub use vit_rules::{VitSpecError, near_patches};

/// What the data set decides about a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageFacts {
    /// Height and width of its square images, in pixels.
    pub image_size: usize,
    /// Channels of its images.
    pub channels: usize,
    /// Number of its classes.
    pub num_classes: usize,
}

/// Which network, by the value of `kind`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// A vision transformer.
    #[default]
    Vit,
    /// Layers one after the other.
    Stack,
    /// A transformer whose layers project whole sequences (experiment E4).
    SequenceVit,
    /// An encoder and a decoder that read strips of digits (experiment E5).
    Reader,
}

/// A network as written, not yet checked.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ModelSpec {
    /// A vision transformer; also what a table without `kind` holds.
    Vit(VitSpec),
    /// Layers one after the other.
    Stack(StackSpec),
    /// A transformer whose layers project whole sequences.
    SequenceVit(SequenceVitSpec),
    /// An encoder and a decoder that read strips of digits.
    Reader(ReaderSpec),
}

/// A checked [`ModelSpec`] and the facts of its data.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelConfig {
    /// A vision transformer.
    Vit(VitConfig),
    /// Layers one after the other.
    Stack(StackConfig),
    /// A transformer whose layers project whole sequences.
    SequenceVit(SequenceVitConfig),
    /// An encoder and a decoder that read strips of digits.
    Reader(ReaderConfig),
}

/// Says which rule a [`ModelSpec`] breaks.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ModelSpecError {
    /// A rule of vision transformers.
    #[error(transparent)]
    Vit(#[from] VitSpecError),
    /// A rule of stacks.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// A rule of transformers over whole sequences.
    #[error(transparent)]
    SequenceVit(#[from] SequenceVitError),
    /// A rule of readers.
    #[error(transparent)]
    Reader(#[from] ReaderError),
}

impl ModelSpecError {
    /// Says what would work instead.
    pub fn hint(&self) -> Option<String> {
        match self {
            ModelSpecError::Vit(error) => error.hint(),
            ModelSpecError::Stack(error) => error.hint(),
            ModelSpecError::SequenceVit(error) => error.hint(),
            ModelSpecError::Reader(error) => error.hint(),
        }
    }
}

impl ModelKind {
    /// All kinds, the default first.
    pub const ALL: [ModelKind; 4] = [ModelKind::Vit, ModelKind::Stack, ModelKind::SequenceVit, ModelKind::Reader];

    /// The value of `kind`.
    pub fn name(self) -> &'static str {
        match self {
            ModelKind::Vit => "vit",
            ModelKind::Stack => "stack",
            ModelKind::SequenceVit => "sequence-vit",
            ModelKind::Reader => "reader",
        }
    }

    /// Reads a table without `kind` as this kind of model.
    ///
    /// # Errors
    /// When it holds an unknown key or a value of the wrong kind.
    pub fn read(self, table: Table) -> Result<ModelSpec, toml::de::Error> {
        Ok(match self {
            ModelKind::Vit => ModelSpec::Vit(table.try_into()?),
            ModelKind::Stack => ModelSpec::Stack(table.try_into()?),
            ModelKind::SequenceVit => ModelSpec::SequenceVit(table.try_into()?),
            ModelKind::Reader => ModelSpec::Reader(table.try_into()?),
        })
    }
}

impl ModelSpec {
    /// Returns the model of a name: a vision transformer of timm's sizes, or a VGG.
    pub fn named(name: &str) -> Option<ModelSpec> {
        VitSpec::named(name).map(ModelSpec::Vit).or_else(|| vgg::named(name).map(ModelSpec::Stack))
    }

    /// The names that [`ModelSpec::named`] knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        VitSpec::names().chain(vgg::names())
    }

    /// Which network it is.
    pub fn kind(&self) -> ModelKind {
        match self {
            ModelSpec::Vit(_) => ModelKind::Vit,
            ModelSpec::Stack(_) => ModelKind::Stack,
            ModelSpec::SequenceVit(_) => ModelKind::SequenceVit,
            ModelSpec::Reader(_) => ModelKind::Reader,
        }
    }

    /// Height and width of the square input image, where they are written.
    pub fn image_size(&self) -> Option<usize> {
        self.written()[0]
    }

    /// Channels of the input image, where they are written.
    pub fn channels(&self) -> Option<usize> {
        self.written()[1]
    }

    /// Number of classes, where it is written.
    pub fn num_classes(&self) -> Option<usize> {
        self.written()[2]
    }

    /// Checks the table by itself; sizes that are to come from the data are not missed.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), ModelSpecError> {
        match self {
            ModelSpec::Vit(spec) => spec.check()?,
            ModelSpec::Stack(spec) => spec.check()?,
            ModelSpec::SequenceVit(spec) => spec.check()?,
            ModelSpec::Reader(spec) => spec.check()?,
        }
        Ok(())
    }

    /// Fills in what follows from the data and checks the whole again.
    ///
    /// # Errors
    /// When the spec contradicts the data, or breaks a rule now that all sizes are known.
    pub fn with_facts(&self, facts: ImageFacts) -> Result<ModelConfig, ModelSpecError> {
        Ok(match self {
            ModelSpec::Vit(spec) => ModelConfig::Vit(spec.with_facts(facts)?),
            ModelSpec::Stack(spec) => ModelConfig::Stack(spec.with_facts(facts)?),
            ModelSpec::SequenceVit(spec) => ModelConfig::SequenceVit(spec.with_facts(facts)?),
            ModelSpec::Reader(spec) => ModelConfig::Reader(spec.with_facts(facts)?),
        })
    }

    /// Image size, channels and number of classes.
    fn written(&self) -> [Option<usize>; 3] {
        match self {
            ModelSpec::Vit(spec) => [spec.image_size, spec.channels, spec.num_classes],
            ModelSpec::Stack(spec) => [spec.image_size, spec.channels, spec.num_classes],
            ModelSpec::SequenceVit(spec) => [spec.image_size, spec.channels, spec.num_classes],
            ModelSpec::Reader(spec) => [spec.image_size, spec.channels, spec.num_classes],
        }
    }
}

impl Default for ModelSpec {
    fn default() -> Self {
        ModelSpec::Vit(VitSpec::default())
    }
}

impl<'de> Deserialize<'de> for ModelSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = Table::deserialize(deserializer)?;
        let kind = table.remove("kind").map_or(Ok(ModelKind::default()), Value::try_into);
        kind.and_then(|kind: ModelKind| kind.read(table)).map_err(|error| D::Error::custom(error.message()))
    }
}

impl ModelConfig {
    /// The spec with the facts of the data filled in, as it is saved with a run.
    pub fn spec(&self) -> ModelSpec {
        match self {
            ModelConfig::Vit(config) => ModelSpec::Vit(config.spec().clone()),
            ModelConfig::Stack(config) => ModelSpec::Stack(config.spec().clone()),
            ModelConfig::SequenceVit(config) => ModelSpec::SequenceVit(config.spec().clone()),
            ModelConfig::Reader(config) => ModelSpec::Reader(config.spec().clone()),
        }
    }

    /// What the data has decided.
    pub fn facts(&self) -> ImageFacts {
        match self {
            ModelConfig::Vit(config) => config.facts(),
            ModelConfig::Stack(config) => config.facts(),
            ModelConfig::SequenceVit(config) => config.facts(),
            ModelConfig::Reader(_) => DIGITS,
        }
    }

    /// Height and width of the square input image, in pixels.
    pub fn image_size(&self) -> usize {
        self.facts().image_size
    }

    /// Channels of the input image.
    pub fn channels(&self) -> usize {
        self.facts().channels
    }

    /// Number of classes.
    pub fn num_classes(&self) -> usize {
        self.facts().num_classes
    }

    /// Finds a batch norm that has one value for each channel of a batch of one image.
    pub fn batch_norm_of_one_place(&self) -> Option<&str> {
        match self {
            ModelConfig::Stack(config) => config.batch_norm_of_one_place(),
            ModelConfig::Vit(_) | ModelConfig::SequenceVit(_) | ModelConfig::Reader(_) => None,
        }
    }

    /// Says in a few words what it is, as `ViT 6 blocks, 8 heads, width 128`.
    pub fn describe(&self) -> String {
        match self {
            ModelConfig::Vit(config) => config.describe(),
            ModelConfig::Stack(config) => config.describe(),
            ModelConfig::SequenceVit(config) => config.describe(),
            ModelConfig::Reader(config) => config.describe(),
        }
    }
}

/// Looks for a written size that the data contradicts: key, what is written, what the data has.
fn contradiction(facts: ImageFacts, written: [Option<usize>; 3]) -> Option<(&'static str, usize, usize)> {
    let keys = ["image_size", "channels", "num_classes"];
    let found = [facts.image_size, facts.channels, facts.num_classes];
    let all = keys.into_iter().zip(written).zip(found);
    all.filter_map(|((key, written), found)| Some((key, written?, found))).find(|(_, written, found)| written != found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_without_a_kind_is_a_vision_transformer() {
        let spec: ModelSpec = toml::from_str("depth = 7").unwrap();
        assert_eq!(spec, ModelSpec::Vit(VitSpec { depth: 7, ..VitSpec::default() }));
        let spec: ModelSpec = toml::from_str("kind = \"sequence-vit\"\ndepth = 7").unwrap();
        assert_eq!(spec, ModelSpec::SequenceVit(SequenceVitSpec { depth: 7, ..SequenceVitSpec::default() }));
        let error = toml::from_str::<ModelSpec>("kind = \"stack\"\ndepth = 7").unwrap_err();
        assert!(error.message().starts_with("unknown field `depth`"), "{error}");
    }

    #[test]
    fn what_is_written_as_toml_is_read_the_same() {
        for name in ModelSpec::names().map(str::to_string) {
            let spec = ModelSpec::named(&name).unwrap();
            assert_eq!(toml::from_str::<ModelSpec>(&toml::to_string(&spec).unwrap()).unwrap(), spec, "{name}");
        }
        for kind in ModelKind::ALL {
            let spec = kind.read(Table::new()).unwrap();
            let text = toml::to_string(&spec).unwrap();
            assert!(text.starts_with(&format!("kind = \"{}\"\n", kind.name())), "{text}");
            assert_eq!(toml::from_str::<ModelSpec>(&text).unwrap(), spec);
        }
    }
}
