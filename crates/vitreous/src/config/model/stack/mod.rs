//! Models of kind `stack`: layers one after the other, each a line such as `conv 32 k5 s2`, and residual connections.
//!
//! `line.rs` reads a line, `shape.rs` computes the shapes from layer to layer, `vgg.rs` has the stacks with a name.

mod line;
mod shape;
mod vgg;

use serde::{Deserialize, Serialize};
use toml::Value;

pub use line::{Layer, Window};
pub use shape::{Extent, Placed, PlacedKind};

use super::kind::{Checked, ImageFacts, KindSpec, NamedModel, agree};
use super::vit::NUM_CLASSES_MAX;
use crate::advice::Suggestion;
use crate::config::data::IMAGE_SIZE_MAX;
use crate::config::error::RuleError;
use crate::config::schema::{Field, Kind, Range, choices, config_table};
use crate::numbers::counted;
use line::CHANNELS_MAX;

/// A checked [`StackSpec`]; its layout is its layers, each with the shape of its output.
pub type StackConfig = Checked<StackSpec>;

/// How a residual connection is written.
const RESIDUAL: &str = "write it as { residual = [\"conv 32\", \"relu\", \"conv 32\"] }";

/// Maximum number of layers, with those inside residual connections.
pub const LAYERS_MAX: usize = 1_000;

config_table! {
    /// Layers in sequence as written, not yet checked.
    pub struct StackSpec in "model" {
        /// Height and width of the square input image, in pixels. The data decides it.
        image_size: Option<usize> = None, range Range::Whole(1, IMAGE_SIZE_MAX as u64), example 32;
        /// Channels of the input image. The data decides them.
        channels: Option<usize> = None, range Range::Whole(1, CHANNELS_MAX as u64), example 3;
        /// Number of classes. The data decides it.
        num_classes: Option<usize> = None, range Range::Whole(2, NUM_CLASSES_MAX), example 10;
        /// The layers, from the image to the classes: `conv 32`, `relu`, `maxpool 2`, `flatten`, `linear classes`.
        layers: Vec<WrittenLayer> = Vec::new(), example ["conv 32", "relu", "globalpool", "linear classes"];
        /// Initial values of convolutions. Linear layers are initialized as `torch.nn.Linear` either way.
        init: StackInit = StackInit::Pytorch;
        /// Added to the variance in norms.
        norm_eps: f64 = 1e-5, range Range::Between(1e-12, 1.0);
    }
}

/// One layer as written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WrittenLayer {
    /// A line such as `conv 32 k5`.
    Line(String),
    /// Layers whose output is added to their input.
    Residual(Residual),
}

/// Layers whose output is added to their input, as written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Residual {
    /// The layers.
    pub residual: Vec<WrittenLayer>,
    /// Layers for the input before the addition; none for the input itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shortcut: Vec<WrittenLayer>,
}

impl Field for WrittenLayer {
    const KIND: Kind = Kind::Other {
        expected: "layers such as \"conv 32\", or { residual = [\"conv 32\", \"relu\"] }",
        accepts: |value: &Value| value.clone().try_into::<WrittenLayer>().is_ok(),
    };
}

choices! {
    /// Initial values of convolutions.
    pub enum StackInit {
        /// Weights and biases U(-1/sqrt(fan_in), 1/sqrt(fan_in)), as `torch.nn.Conv2d`.
        Pytorch = "pytorch",
        /// Weights N(0, sqrt(2 / fan_out)), biases 0, as torchvision's VGG and ResNet (He et al. 2015).
        Kaiming = "kaiming",
    }
}

impl KindSpec for StackSpec {
    type Layout = Vec<Placed>;

    const SUMMARY: &'static str = "layers one after the other, with residual connections: CNN, VGG, ResNet, MLP";
    const SOURCE: &'static str = "LeCun et al. 1998";

    fn sizes(&mut self) -> [&mut Option<usize>; 3] {
        [&mut self.image_size, &mut self.channels, &mut self.num_classes]
    }

    fn check(&self) -> Result<(), RuleError> {
        self.check_ranges()?;
        if self.layers.is_empty() {
            let example = ["conv 32", "relu", "globalpool", "linear classes"].map(String::from).to_vec();
            let suggestion = Suggestion::new().set("model.layers", example);
            return Err(RuleError::about("model.layers", "is empty").suggest(suggestion));
        }
        let count = count(&self.layers);
        if count > LAYERS_MAX {
            let rule = RuleError::about("model.layers", format!("has {count} layers, more than {LAYERS_MAX}"));
            return Err(rule.suggest(Suggestion::new().using("fewer and wider layers")));
        }
        check_lines("layers", &self.layers)
    }

    fn fit(&self, facts: ImageFacts) -> Result<Vec<Placed>, RuleError> {
        let written = [self.image_size, self.channels, self.num_classes];
        agree(facts, written)?;
        let ImageFacts { image_size, channels, num_classes } = facts;
        let (image_size, channels, num_classes) = (Some(image_size), Some(channels), Some(num_classes));
        StackSpec { image_size, channels, num_classes, ..self.clone() }.check()?;
        shape::place(&self.layers, facts)
    }

    fn describe(model: &StackConfig) -> String {
        let of = |word: &'static str| (count_words(model.layout(), word), word);
        let parts = ["conv", "attention", "linear"].map(of).into_iter().filter(|(count, _)| *count > 0);
        let parts: Vec<String> = parts.map(|(count, word)| format!("{count} {word}")).collect();
        format!("stack of {} ({})", counted(count(&model.spec().layers), "layer"), parts.join(", "))
    }

    fn batch_norm_of_one_place(model: &StackConfig) -> Option<&str> {
        one_place(model.layout())
    }

    fn named() -> Vec<NamedModel<StackSpec>> {
        vgg::named()
    }
}

fn one_place(layers: &[Placed]) -> Option<&str> {
    layers.iter().find_map(|layer| match (&layer.kind, layer.input) {
        (PlacedKind::Residual { body, shortcut }, _) => one_place(body).or_else(|| one_place(shortcut)),
        (PlacedKind::Layer(Layer::BatchNorm), Extent::Features(_) | Extent::Map { height: 1, width: 1, .. }) => {
            Some(layer.name.as_str())
        }
        _ => None,
    })
}

fn count_words(layers: &[Placed], word: &str) -> usize {
    let one = |layer: &Placed| match &layer.kind {
        PlacedKind::Layer(layer) => usize::from(layer.word() == word),
        PlacedKind::Residual { body, shortcut } => count_words(body, word) + count_words(shortcut, word),
    };
    layers.iter().map(one).sum()
}

fn count(layers: &[WrittenLayer]) -> usize {
    let one = |layer: &WrittenLayer| match layer {
        WrittenLayer::Line(_) => 1,
        WrittenLayer::Residual(Residual { residual, shortcut }) => count(residual) + count(shortcut),
    };
    layers.iter().map(one).sum()
}

fn check_lines(name: &str, layers: &[WrittenLayer]) -> Result<(), RuleError> {
    for (i, layer) in layers.iter().enumerate() {
        match layer {
            WrittenLayer::Line(line) => drop(line::read(&format!("{name}.{i}"), line)?),
            WrittenLayer::Residual(Residual { residual, shortcut }) => {
                if residual.is_empty() {
                    let rule = RuleError::about(&format!("model.{name}.{i}.residual"), "is empty");
                    return Err(rule.suggest(Suggestion::new().text(RESIDUAL)));
                }
                check_lines(&format!("{name}.{i}.residual"), residual)?;
                check_lines(&format!("{name}.{i}.shortcut"), shortcut)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_norm_of_one_place_is_found_wherever_it_is() {
        let found = |layers: &str| {
            let spec: StackSpec = toml::from_str(&format!("layers = [{layers}, 'linear classes']")).unwrap();
            StackSpec::batch_norm_of_one_place(&spec.with_facts(FACTS).unwrap()).map(str::to_string)
        };
        assert_eq!(found("'conv 5', 'batchnorm', 'globalpool'"), None);
        assert_eq!(found("'conv 5', 'batchnorm', 'globalpool', 'batchnorm'").as_deref(), Some("layers.3"));
        assert_eq!(found("'avgpool 13', 'batchnorm', 'flatten'").as_deref(), Some("layers.1"));
        let residual = "'globalpool', 'linear 5', { residual = ['linear 5', 'batchnorm'] }";
        assert_eq!(found(residual).as_deref(), Some("layers.2.residual.1"));
        let shortcut = "'globalpool', { residual = ['linear 5'], shortcut = ['batchnorm', 'linear 5'] }";
        assert_eq!(found(shortcut).as_deref(), Some("layers.1.shortcut.0"));
    }

    const FACTS: ImageFacts = ImageFacts { image_size: 13, channels: 3, num_classes: 7 };

    fn spec(toml: &str) -> StackSpec {
        toml::from_str(toml).expect("a table")
    }

    fn refused(toml: &str) -> [String; 2] {
        let error = spec(toml).with_facts(FACTS).expect_err("a rule is broken");
        [error.to_string(), error.suggestion.expect("every error has a hint").to_string()]
    }

    #[test]
    fn layers_are_read_and_counted_inside_residual_connections_too() {
        let text = "layers = [\"conv 5\", { residual = [\"relu\", \"conv 5\"] }, \"globalpool\", \"linear classes\"]";
        let config = spec(text).with_facts(FACTS).expect("they fit");
        assert_eq!(StackSpec::describe(&config), "stack of 5 layers (2 conv, 1 linear)");
        assert_eq!(config.spec().clone().with_facts(FACTS), Ok(config.clone()));
        let again: StackSpec = toml::from_str(&toml::to_string(config.spec()).unwrap()).unwrap();
        assert_eq!(&again, config.spec());
        assert_eq!(config.layout().last().map(|layer| layer.output), Some(Extent::Features(7)));
    }

    #[test]
    fn what_needs_no_data_is_checked_by_itself() {
        let by_itself = |toml: &str| {
            let error = spec(toml).check().expect_err("a rule is broken");
            [error.to_string(), error.suggestion.expect("every error has a hint").to_string()]
        };
        let [text, hint] = by_itself("");
        assert_eq!(text, "layers is empty");
        assert!(hint.starts_with("use model.layers = [\"conv 32\", "), "{hint}");
        let [text, hint] = by_itself("layers = [\"flatten\"]\nchannels = 0");
        assert_eq!(text, "channels 0 is not between 1 and 65536");
        assert_eq!(hint, "use model.channels = 3, or remove model.channels");
        assert_eq!(
            by_itself("layers = [\"relu\"]\nnum_classes = 1")[1],
            "use model.num_classes = 10, or remove model.num_classes"
        );
        assert_eq!(by_itself("layers = [\"relu\"]\nnorm_eps = 0.0")[1], "use model.norm_eps = 1e-5");
        let [text, _] = by_itself("layers = [\"relu\", { residual = [\"conv 3\", \"rlu\"] }]");
        assert_eq!(text, "layers.1.residual.1 \"rlu\" is not a known layer");
        let [text, _] = by_itself("layers = [{ residual = [] }]");
        assert_eq!(text, "layers.0.residual is empty");
        let many = StackSpec { layers: vec![WrittenLayer::Line("relu".to_string()); 1001], ..StackSpec::default() };
        assert_eq!(many.check().unwrap_err().to_string(), "layers has 1001 layers, more than 1000");
    }

    #[test]
    fn a_size_that_contradicts_the_data_is_refused() {
        let [text, hint] = refused("layers = [\"flatten\", \"linear 7\"]\nimage_size = 12");
        assert_eq!(text, "image_size 12 does not match the data set's 13");
        assert_eq!(hint, "use model.image_size = 13, or remove model.image_size");
    }
}
