//! The `[model]` table: which network. Its key `kind` says which other keys it has.
//!
//! A [`ModelSpec`] is what was written; a [`ModelConfig`] is checked against the data, and model code accepts only that.
//! Both are enums over the kinds of models, made from the list in `model_kinds!`.

mod convnet;
mod kind;
mod options;
mod reader;
mod sequence_vit;
mod stack;
mod vit;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use toml::{Table, Value};

use super::error::RuleError;
use super::schema::{Choice, Key, Kind, Range};

pub use convnet::{ConvBlock, ConvnetConfig, ConvnetSpec, Stem};
pub use kind::{Checked, ImageFacts, KindSpec, NamedModel, Task};
pub use options::{
    Activation, Attention, AttentionScale, Block, DropoutPlace, Init, PatchEmbed, Patching, Pooling, Position,
};
pub use reader::{DIGITS, ReaderConfig, ReaderSpec};
pub use sequence_vit::{AttentionForm, SequenceVitConfig, SequenceVitSpec};
pub use stack::{Extent, Layer, Placed, PlacedKind, Residual, StackConfig, StackInit, StackSpec, Window, WrittenLayer};
pub(super) use vit::nearest_multiple;
pub use vit::{VitConfig, VitSpec};

/// Hands the list of model kinds to another macro: a kind's variant, the value of `kind`, its spec. The first is the
/// default. To add a kind, add a line here, a spec that implements [`KindSpec`], and its `BuildModel` in `models`.
macro_rules! model_kinds {
    ($use:ident) => {
        $use! {
            Vit "vit" VitSpec,
            Stack "stack" StackSpec,
            Convnet "convnet" ConvnetSpec,
            SequenceVit "sequence-vit" SequenceVitSpec,
            Reader "reader" ReaderSpec,
        }
    };
}
pub(crate) use model_kinds;

macro_rules! define_models {
    ($($kind:ident $name:literal $spec:ident,)+) => {
        /// The kinds of models, by the value of `kind`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[allow(missing_docs, reason = "each spec has them")]
        pub enum ModelKind { $(#[serde(rename = $name)] $kind,)+ }

        /// A network as written, not yet checked.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(tag = "kind")]
        #[allow(missing_docs, reason = "each spec has them")]
        pub enum ModelSpec { $(#[serde(rename = $name)] $kind($spec),)+ }

        /// A checked [`ModelSpec`] and the facts of its data set.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs, reason = "each spec has them")]
        pub enum ModelConfig { $($kind(Checked<$spec>),)+ }

        impl ModelKind {
            /// All kinds, the default first.
            pub const ALL: &[ModelKind] = &[$(ModelKind::$kind),+];

            /// The value of `kind`.
            pub fn name(self) -> &'static str {
                match self { $(ModelKind::$kind => $name,)+ }
            }

            /// What models of this kind are trained to do.
            pub fn task(self) -> Task {
                match self { $(ModelKind::$kind => $spec::TASK,)+ }
            }

            /// The key that has it.
            pub const KEY: Key = Key {
                table: "model",
                name: "kind",
                doc: "Kind of model, which decides the other keys of the table.",
                kind: Kind::Choice(&[$(Choice { name: $name, doc: $spec::SUMMARY }),+]),
                optional: false,
                range: Range::All,
                default: || Some(ModelKind::ALL[0].name().into()),
                example: || None,
            };

            /// The keys of `[model]` that models of this kind have, besides `kind`.
            pub fn keys(self) -> &'static [Key] {
                match self { $(ModelKind::$kind => $spec::KEYS,)+ }
            }

            /// What models of this kind are, in a few words.
            pub fn summary(self) -> &'static str {
                match self { $(ModelKind::$kind => $spec::SUMMARY,)+ }
            }

            /// The paper or the experiment that the kind comes from.
            pub fn source(self) -> &'static str {
                match self { $(ModelKind::$kind => $spec::SOURCE,)+ }
            }

            /// Reads a table without `kind` as this kind of model.
            ///
            /// # Errors
            /// When it has an unknown key or a value of the wrong type.
            pub fn read(self, table: Table) -> Result<ModelSpec, toml::de::Error> {
                Ok(match self { $(ModelKind::$kind => ModelSpec::$kind(table.try_into()?),)+ })
            }
        }

        impl ModelSpec {
            /// All models with a name of their own: those of timm and torchvision.
            pub fn named_models() -> Vec<NamedModel<ModelSpec>> {
                let mut all = Vec::new();
                $(all.extend($spec::named().into_iter().map(|NamedModel { name, source, facts, spec }| NamedModel {
                    name, source, facts, spec: ModelSpec::$kind(spec),
                }));)+
                all
            }

            /// Which network it is.
            pub fn kind(&self) -> ModelKind {
                match self { $(ModelSpec::$kind(_) => ModelKind::$kind,)+ }
            }

            /// Checks the table by itself; sizes that the data set decides may be missing.
            ///
            /// # Errors
            /// The first rule that is broken.
            pub fn check(&self) -> Result<(), RuleError> {
                match self { $(ModelSpec::$kind(spec) => spec.check(),)+ }
            }

            /// Checks the whole spec and fills in the sizes that the data set decides.
            ///
            /// # Errors
            /// When the spec contradicts the data, or breaks a rule now that all sizes are known.
            pub fn with_facts(&self, facts: ImageFacts) -> Result<ModelConfig, RuleError> {
                match self {
                    $(ModelSpec::$kind(spec) => {
                        spec.with_facts(facts).map(ModelConfig::$kind)
                    })+
                }
            }

            /// Image size, channels and number of classes, where they are written.
            fn sizes(&self) -> [Option<usize>; 3] {
                match self { $(ModelSpec::$kind(spec) => [spec.image_size, spec.channels, spec.num_classes],)+ }
            }
        }

        impl ModelConfig {
            /// The spec, with the sizes that the data set decides filled in, as it is saved with a run.
            pub fn spec(&self) -> ModelSpec {
                match self { $(ModelConfig::$kind(model) => ModelSpec::$kind(model.spec().clone()),)+ }
            }

            /// What it is trained to do.
            pub fn task(&self) -> Task {
                match self { $(ModelConfig::$kind(_) => $spec::TASK,)+ }
            }

            /// The sizes that the data set decides.
            pub fn facts(&self) -> ImageFacts {
                match self { $(ModelConfig::$kind(model) => model.facts(),)+ }
            }

            /// Finds a batch norm that has only one value per channel when a batch is one image.
            pub fn batch_norm_of_one_place(&self) -> Option<&str> {
                match self { $(ModelConfig::$kind(model) => $spec::batch_norm_of_one_place(model),)+ }
            }

            /// Describes it in a few words, as `ViT 6 blocks, 8 heads, width 128`.
            pub fn describe(&self) -> String {
                match self { $(ModelConfig::$kind(model) => $spec::describe(model),)+ }
            }
        }
    };
}
model_kinds!(define_models);

impl Default for ModelKind {
    fn default() -> Self {
        ModelKind::ALL[0]
    }
}

impl ModelSpec {
    /// Returns the model of a name.
    pub fn named(name: &str) -> Option<ModelSpec> {
        ModelSpec::named_models().into_iter().find(|model| model.name == name).map(|model| model.spec)
    }

    /// The names that [`ModelSpec::named`] knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ModelSpec::named_models().into_iter().map(|model| model.name)
    }

    /// Height and width of the square input image, where they are written.
    pub fn image_size(&self) -> Option<usize> {
        self.sizes()[0]
    }

    /// Channels of the input image, where they are written.
    pub fn channels(&self) -> Option<usize> {
        self.sizes()[1]
    }

    /// Number of classes, where it is written.
    pub fn num_classes(&self) -> Option<usize> {
        self.sizes()[2]
    }
}

impl Default for ModelSpec {
    fn default() -> Self {
        ModelKind::default().read(Table::new()).expect("a spec has a default for every key")
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
        for &kind in ModelKind::ALL {
            let spec = kind.read(Table::new()).unwrap();
            let text = toml::to_string(&spec).unwrap();
            assert!(text.starts_with(&format!("kind = \"{}\"\n", kind.name())), "{text}");
            assert_eq!(toml::from_str::<ModelSpec>(&text).unwrap(), spec);
        }
    }
}
