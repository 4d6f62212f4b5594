//! Models of kind `stack`: layers one after the other, each a line such as `conv 32 k5 s2`, and residual connections.
//!
//! `line.rs` reads a line, `shape.rs` computes the shapes from layer to layer, `vgg.rs` has the stacks with a name.

mod error;
mod line;
mod shape;
mod vgg;

use serde::{Deserialize, Serialize};

pub use error::StackError;
pub use line::{Layer, Window};
pub use shape::{Extent, Placed, PlacedKind};

use super::kind::{Checked, ImageFacts, KindSpec, NamedModel, contradiction};
use super::vit::NUM_CLASSES_MAX;
use crate::config::data::IMAGE_SIZE_MAX;
use crate::numbers::counted;
use line::CHANNELS_MAX;

/// A checked [`StackSpec`]; its layout is its layers, each with the shape of its output.
pub type StackConfig = Checked<StackSpec>;

/// Maximum number of layers, with those inside residual connections.
pub const LAYERS_MAX: usize = 1_000;

/// Layers in sequence as written, not yet checked.
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
    /// Initial values of convolutions.
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

/// Initial values of convolutions. Linear layers are initialized as `torch.nn.Linear` either way.
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

impl KindSpec for StackSpec {
    type Error = StackError;
    type Layout = Vec<Placed>;

    const SUMMARY: &'static str = "layers one after the other, with residual connections: CNN, VGG, ResNet, MLP";
    const SOURCE: &'static str = "LeCun et al. 1998";

    fn sizes(&mut self) -> [&mut Option<usize>; 3] {
        [&mut self.image_size, &mut self.channels, &mut self.num_classes]
    }

    fn check(&self) -> Result<(), StackError> {
        let sizes = [
            ("image_size", self.image_size, 1, IMAGE_SIZE_MAX, 32),
            ("channels", self.channels, 1, CHANNELS_MAX, 3),
            ("num_classes", self.num_classes, 2, NUM_CLASSES_MAX, 10),
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

    fn fit(&self, facts: ImageFacts) -> Result<Vec<Placed>, StackError> {
        let written = [self.image_size, self.channels, self.num_classes];
        if let Some((key, written, found)) = contradiction(facts, written) {
            return Err(StackError::Contradiction { key, written, found });
        }
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

fn check_lines(name: &str, layers: &[WrittenLayer]) -> Result<(), StackError> {
    for (i, layer) in layers.iter().enumerate() {
        match layer {
            WrittenLayer::Line(line) => drop(line::read(&format!("{name}.{i}"), line)?),
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
        [error.to_string(), error.hint().expect("every error has a hint")]
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
            [error.to_string(), error.hint().expect("every error has a hint")]
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
        assert_eq!(text, "unknown layer \"rlu\" at layers.1.residual.1 ([model])");
        let [text, _] = by_itself("layers = [{ residual = [] }]");
        assert_eq!(text, "layers.0.residual is empty ([model])");
        let many = StackSpec { layers: vec![WrittenLayer::Line("relu".to_string()); 1001], ..StackSpec::default() };
        assert_eq!(many.check().unwrap_err().to_string(), "layers has 1001 layers, more than 1000 ([model])");
    }

    #[test]
    fn a_size_that_contradicts_the_data_is_refused() {
        let [text, hint] = refused("layers = [\"flatten\", \"linear 7\"]\nimage_size = 12");
        assert_eq!(text, "image_size 12 does not match the data set's 13 ([model])");
        assert_eq!(hint, "use image_size 13, or leave it out");
    }
}
