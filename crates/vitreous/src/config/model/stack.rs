//! Models of kind `stack`: layers one after the other, each a line such as `conv 32 k5 s2`, and residual connections.
//!
//! `stack_text.rs` reads a line, `stack_shape.rs` works out what goes from layer to layer, `stack_error.rs` says what
//! does not fit.

use serde::{Deserialize, Serialize};

use super::stack_error::StackError;
use super::stack_shape::{Extent, Placed, place};
use super::stack_text::{self, CHANNELS_MAX, Layer};
use super::{ImageFacts, contradiction};
use crate::config::data::IMAGE_SIZE_MAX;
use crate::numbers::counted;

/// Greatest number of layers, those inside residual connections counted.
pub const LAYERS_MAX: usize = 1_000;

/// Layers one after the other as written, not yet checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StackSpec {
    /// Height and width of the square input image, in pixels.
    pub image_size: Option<usize>,
    /// Channels of the input image.
    pub channels: Option<usize>,
    /// Number of classes.
    pub num_classes: Option<usize>,
    /// The layers, from the image to the classes: `conv 32`, `relu`, `maxpool 2`, `flatten`, `linear classes`.
    pub layers: Vec<WrittenLayer>,
    /// How convolutions start.
    pub init: StackInit,
    /// Added to the variance in norms.
    pub norm_eps: f64,
}

/// One layer as written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a layer such as \"conv 32\", or { residual = [\"conv 32\", \"relu\"] }")]
pub enum WrittenLayer {
    /// A line such as `conv 32 k5`.
    Line(String),
    /// Layers whose result is added to their input.
    Residual(Residual),
}

/// Layers whose result is added to their input, as written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Residual {
    /// The layers.
    pub residual: Vec<WrittenLayer>,
    /// What the input goes through before it is added; none leaves it as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shortcut: Vec<WrittenLayer>,
}

/// How convolutions start. Linear layers start as `torch.nn.Linear` either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StackInit {
    /// Weights and biases U(-1/sqrt(fan_in), 1/sqrt(fan_in)), as `torch.nn.Conv2d`.
    Pytorch,
    /// Weights N(0, sqrt(2 / fan_out)), biases 0, as torchvision's VGG and ResNet (He et al. 2015).
    Kaiming,
}

impl Default for StackSpec {
    fn default() -> Self {
        StackSpec {
            image_size: None,
            channels: None,
            num_classes: None,
            layers: Vec::new(),
            init: StackInit::Pytorch,
            norm_eps: 1e-5,
        }
    }
}

/// A checked [`StackSpec`] and the facts of its data.
#[derive(Clone, Debug, PartialEq)]
pub struct StackConfig {
    spec: StackSpec,
    facts: ImageFacts,
    layers: Vec<Placed>,
}

impl StackSpec {
    /// Checks the table by itself: every line, but not what goes from layer to layer.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), StackError> {
        let sizes = [
            ("image_size", self.image_size, 1, IMAGE_SIZE_MAX, 32),
            ("channels", self.channels, 1, CHANNELS_MAX, 3),
            ("num_classes", self.num_classes, 2, super::vit_rules::NUM_CLASSES_MAX, 10),
        ];
        for (key, value, least, greatest, fix) in sizes {
            if let Some(value) = value.filter(|value| !(least..=greatest).contains(value)) {
                let must = format!("between {least} and {greatest}");
                return Err(StackError::Range { key, value: value.to_string(), must, fix: fix.to_string() });
            }
        }
        if !(1e-12..=1.0).contains(&self.norm_eps) {
            let (must, fix) = ("between 0.000000000001 and 1".to_string(), "0.00001".to_string());
            return Err(StackError::Range { key: "norm_eps", value: self.norm_eps.to_string(), must, fix });
        }
        if self.layers.is_empty() {
            return Err(StackError::Empty);
        }
        let count = count(&self.layers);
        if count > LAYERS_MAX {
            return Err(StackError::Many { count });
        }
        check_lines("layers", &self.layers)
    }

    /// Fills in what follows from the data and checks that the layers fit together.
    ///
    /// # Errors
    /// When the spec contradicts the data, or a layer does not fit what it is given.
    pub fn with_facts(&self, facts: ImageFacts) -> Result<StackConfig, StackError> {
        self.check()?;
        let written = [self.image_size, self.channels, self.num_classes];
        if let Some((key, written, found)) = contradiction(facts, written) {
            return Err(StackError::Contradiction { key, written, found });
        }
        let ImageFacts { image_size, channels, num_classes } = facts;
        let (image_size, channels, num_classes) = (Some(image_size), Some(channels), Some(num_classes));
        let spec = StackSpec { image_size, channels, num_classes, ..self.clone() };
        spec.check()?;
        let layers = place(&spec.layers, facts)?;
        Ok(StackConfig { spec, facts, layers })
    }
}

impl StackConfig {
    /// The spec with the facts of the data filled in.
    pub fn spec(&self) -> &StackSpec {
        &self.spec
    }

    /// What the data has decided.
    pub fn facts(&self) -> ImageFacts {
        self.facts
    }

    /// The layers, each with what it gives; the last gives a number for each class.
    pub fn layers(&self) -> &[Placed] {
        &self.layers
    }

    /// What goes into the first layer.
    pub fn input(&self) -> Extent {
        Extent::of_image(self.facts)
    }

    /// Finds the first batch norm that sees one place of an image only, such as one behind a global pool: of a batch of
    /// one image it has one value for each channel, and gives the same for every image.
    pub fn batch_norm_of_one_place(&self) -> Option<&str> {
        one_place(&self.layers)
    }

    /// Says in a few words what it is.
    pub fn describe(&self) -> String {
        let of = |word: &'static str| (count_words(&self.layers, word), word);
        let parts = ["conv", "attention", "linear"].map(of).into_iter().filter(|(count, _)| *count > 0);
        let parts: Vec<String> = parts.map(|(count, word)| format!("{count} {word}")).collect();
        format!("stack of {} ({})", counted(count(&self.spec.layers), "layer"), parts.join(", "))
    }
}

fn one_place(layers: &[Placed]) -> Option<&str> {
    layers.iter().find_map(|layer| match (&layer.kind, layer.input) {
        (super::PlacedKind::Residual { body, shortcut }, _) => one_place(body).or_else(|| one_place(shortcut)),
        (super::PlacedKind::Layer(Layer::BatchNorm), Extent::Features(_) | Extent::Map { height: 1, width: 1, .. }) => {
            Some(layer.name.as_str())
        }
        _ => None,
    })
}

fn count_words(layers: &[Placed], word: &str) -> usize {
    let one = |layer: &Placed| match &layer.kind {
        super::PlacedKind::Layer(layer) => usize::from(layer.word() == word),
        super::PlacedKind::Residual { body, shortcut } => count_words(body, word) + count_words(shortcut, word),
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

fn check_lines(name: &str, layers: &[WrittenLayer]) -> Result<(), StackError> {
    for (i, layer) in layers.iter().enumerate() {
        match layer {
            WrittenLayer::Line(line) => drop(stack_text::read(&format!("{name}.{i}"), line)?),
            WrittenLayer::Residual(Residual { residual, shortcut }) => {
                if residual.is_empty() {
                    return Err(StackError::EmptyResidual { name: format!("{name}.{i}") });
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
            spec.with_facts(FACTS).unwrap().batch_norm_of_one_place().map(str::to_string)
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
        [error.to_string(), error.hint().expect("every rule has a way out")]
    }

    #[test]
    fn layers_are_read_and_counted_inside_residual_connections_too() {
        let text = "layers = [\"conv 5\", { residual = [\"relu\", \"conv 5\"] }, \"globalpool\", \"linear classes\"]";
        let config = spec(text).with_facts(FACTS).expect("they fit");
        assert_eq!(config.describe(), "stack of 5 layers (2 conv, 1 linear)");
        assert_eq!(config.spec().clone().with_facts(FACTS), Ok(config.clone()));
        let again: StackSpec = toml::from_str(&toml::to_string(config.spec()).unwrap()).unwrap();
        assert_eq!(&again, config.spec());
        assert_eq!(config.layers().last().map(|layer| layer.output), Some(Extent::Features(7)));
    }

    #[test]
    fn what_needs_no_data_is_checked_by_itself() {
        let by_itself = |toml: &str| {
            let error = spec(toml).check().expect_err("a rule is broken");
            [error.to_string(), error.hint().expect("every rule has a way out")]
        };
        let [text, hint] = by_itself("");
        assert_eq!(text, "layers is empty ([model])");
        assert!(hint.starts_with("write it as layers = [\"conv 32\", "), "{hint}");
        let [text, hint] = by_itself("layers = [\"flatten\"]\nchannels = 0");
        assert_eq!(text, "channels 0 is not between 1 and 65536 ([model])");
        assert_eq!(hint, "use channels 3");
        assert_eq!(by_itself("layers = [\"relu\"]\nnum_classes = 1")[1], "use num_classes 10");
        assert_eq!(by_itself("layers = [\"relu\"]\nnorm_eps = 0.0")[1], "use norm_eps 0.00001");
        let [text, _] = by_itself("layers = [\"relu\", { residual = [\"conv 3\", \"rlu\"] }]");
        assert_eq!(text, "layers.1.residual.1 \"rlu\" is no layer ([model])");
        let [text, _] = by_itself("layers = [{ residual = [] }]");
        assert_eq!(text, "layers.0.residual is empty ([model])");
        let many = StackSpec { layers: vec![WrittenLayer::Line("relu".to_string()); 1001], ..StackSpec::default() };
        assert_eq!(many.check().unwrap_err().to_string(), "layers has 1001 layers, more than 1000 ([model])");
    }

    #[test]
    fn the_data_has_the_last_word_on_its_own_shape() {
        let [text, hint] = refused("layers = [\"flatten\", \"linear 7\"]\nimage_size = 12");
        assert_eq!(text, "image_size 12 is not what the data has, 13 ([model])");
        assert_eq!(hint, "use image_size 13, or leave it out");
    }
}
