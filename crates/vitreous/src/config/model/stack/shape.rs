//! The shapes between the layers of a stack: from the extent of its input, each layer has one for its output.

use std::fmt;

use super::line::{CHANNELS_MAX, Layer, Window, read};
use super::{Residual, WrittenLayer};
use crate::advice::Suggestion;
use crate::config::error::RuleError;
use crate::config::model::ImageFacts;

/// Maximum number of values between two layers; 4 GB for one image.
const VALUES_MAX: usize = 1 << 30;

/// The shape of a tensor between two layers, for one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// A grid of positions with channels.
    Map {
        /// Values per position.
        channels: usize,
        /// Rows of the grid.
        height: usize,
        /// Columns of the grid.
        width: usize,
    },
    /// A vector.
    Features(usize),
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Extent::Map { channels, height, width } => write!(f, "a map of {channels} channels, {height}x{width}"),
            Extent::Features(features) => write!(f, "{features} features"),
        }
    }
}

impl Extent {
    /// The extent of an image.
    pub fn of_image(facts: ImageFacts) -> Extent {
        Extent::Map { channels: facts.channels, height: facts.image_size, width: facts.image_size }
    }

    /// Number of values.
    pub fn values(self) -> usize {
        match self {
            Extent::Map { channels, height, width } => channels.saturating_mul(height).saturating_mul(width),
            Extent::Features(features) => features,
        }
    }
}

/// A layer that fits its input.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// Its name, such as `layers.3.residual.1`; its parameters are named after it.
    pub name: String,
    /// One layer, or a residual connection.
    pub kind: PlacedKind,
    /// The extent of its input.
    pub input: Extent,
    /// The extent of its output.
    pub output: Extent,
}

/// One layer, or a residual connection with layers.
#[derive(Clone, Debug, PartialEq)]
pub enum PlacedKind {
    /// One layer.
    Layer(Layer),
    /// Adds the output of its layers to its input, or to the shortcut's output.
    Residual {
        /// The layers.
        body: Vec<Placed>,
        /// Layers for the input; none for the input itself.
        shortcut: Vec<Placed>,
    },
}

/// Reads all layers and computes their extents.
///
/// # Errors
/// The first layer that does not fit its input, or a last layer whose output is not one number per class.
pub(super) fn place(layers: &[WrittenLayer], facts: ImageFacts) -> Result<Vec<Placed>, RuleError> {
    let placed = place_all("layers", layers, Extent::of_image(facts), facts.num_classes)?;
    let found = placed.last().map_or(Extent::of_image(facts), |layer| layer.output);
    if found == Extent::Features(facts.num_classes) {
        return if placed.iter().any(is_trained) {
            Ok(placed)
        } else {
            Err(about("model.layers", "has no trainable parameters", "add \"linear classes\""))
        };
    }
    let last = placed.last().map(|layer| &layer.kind);
    let linear = matches!(last, Some(PlacedKind::Layer(Layer::Linear { .. })));
    let fix = match found {
        Extent::Map { .. } => "add \"globalpool\" and \"linear classes\"",
        Extent::Features(_) if linear => "use \"linear classes\" for the last layer",
        Extent::Features(_) => "add \"linear classes\"",
    };
    let problem = format!("ends with {found}, but the data has {} classes", facts.num_classes);
    Err(about("model.layers", problem, fix))
}

fn about(key: &str, problem: impl Into<String>, fix: impl Into<String>) -> RuleError {
    RuleError::about(key, problem).suggest(Suggestion::new().text(fix))
}

/// Whether a layer has parameters.
fn is_trained(placed: &Placed) -> bool {
    match &placed.kind {
        PlacedKind::Residual { body, shortcut } => body.iter().chain(shortcut).any(is_trained),
        PlacedKind::Layer(layer) => match layer {
            Layer::Convolution { .. } | Layer::Linear { .. } | Layer::Attention { .. } => true,
            Layer::BatchNorm | Layer::GroupNorm { .. } | Layer::LayerNorm => true,
            Layer::Activation(_) | Layer::MaxPool(_) | Layer::AvgPool(_) | Layer::GlobalPool => false,
            Layer::Dropout { .. } | Layer::Flatten => false,
        },
    }
}

fn place_all(name: &str, layers: &[WrittenLayer], mut input: Extent, classes: usize) -> Result<Vec<Placed>, RuleError> {
    let mut placed = Vec::with_capacity(layers.len());
    for (i, layer) in layers.iter().enumerate() {
        let name = format!("{name}.{i}");
        let (kind, output) = match layer {
            WrittenLayer::Line(line) => {
                let layer = read(&name, line)?;
                let fitted = Fit { name: &name, line, input };
                (PlacedKind::Layer(layer), fitted.bounded(fitted.output(layer, classes)?)?)
            }
            WrittenLayer::Residual(residual) => place_residual(&name, residual, input, classes)?,
        };
        placed.push(Placed { name, kind, input, output });
        input = output;
    }
    Ok(placed)
}

fn place_residual(
    name: &str,
    Residual { residual, shortcut }: &Residual,
    input: Extent,
    classes: usize,
) -> Result<(PlacedKind, Extent), RuleError> {
    let end = |layers: &[Placed]| layers.last().map_or(input, |layer| layer.output);
    let body = place_all(&format!("{name}.residual"), residual, input, classes)?;
    let shortcut = place_all(&format!("{name}.shortcut"), shortcut, input, classes)?;
    let (given, added) = (end(&body), end(&shortcut));
    if given != added {
        let fix = projection(input, given);
        return Err(about(&format!("model.{name}"), format!("adds {given} to {added}"), fix));
    }
    Ok((PlacedKind::Residual { body, shortcut }, given))
}

/// Says how to make `input` fit, so that it can be added to `given`.
fn projection(input: Extent, given: Extent) -> String {
    let (Extent::Map { height, width, .. }, Extent::Map { channels, height: rows, width: columns }) = (input, given)
    else {
        return "make both maps, or both features".to_string();
    };
    let stride = height.div_ceil(rows.max(1));
    if height.div_ceil(stride) == rows && width.div_ceil(stride) == columns {
        format!("add shortcut = [\"conv {channels} k1 s{stride}\"]")
    } else {
        "keep the size inside: \"conv\" with an odd kernel and the default padding does".to_string()
    }
}

/// A line with its input.
struct Fit<'a> {
    name: &'a str,
    line: &'a str,
    input: Extent,
}

impl Fit<'_> {
    fn output(&self, layer: Layer, classes: usize) -> Result<Extent, RuleError> {
        let input = self.input;
        Ok(match layer {
            Layer::Activation(_) | Layer::LayerNorm | Layer::BatchNorm | Layer::Dropout { .. } => input,
            Layer::Convolution { channels, window, groups, .. } => {
                let (found, height, width) = self.map()?;
                if !found.is_multiple_of(groups) || !channels.is_multiple_of(groups) {
                    let fits = |g: &usize| found.is_multiple_of(*g) && channels.is_multiple_of(*g);
                    let best = (1..=found.min(channels)).filter(fits).min_by_key(|g| g.abs_diff(groups)).unwrap_or(1);
                    let reason =
                        format!("cannot divide {found} input and {channels} output channels into {groups} groups");
                    return Err(self.refuse(reason, format!("use g{best}")));
                }
                let padding = window.kernel / 2;
                let fix = format!("use p{padding}, or a kernel of at most k{}", height.min(width) + 2 * window.padding);
                self.slide(channels, height, width, window, fix)?
            }
            Layer::MaxPool(window) | Layer::AvgPool(window) => {
                let (channels, height, width) = self.map()?;
                let word = layer.word();
                let fix = format!("leave it out, or use {word} {}", height.min(width) + 2 * window.padding);
                self.slide(channels, height, width, window, fix)?
            }
            Layer::GlobalPool => Extent::Features(self.map()?.0),
            Layer::GroupNorm { groups } => {
                let (channels, ..) = self.map()?;
                self.divisor(
                    channels,
                    groups,
                    format!("cannot divide {channels} channels into {groups} groups"),
                    |n| format!("use groupnorm {n}"),
                )?;
                input
            }
            Layer::Attention { reduction } => {
                let (channels, height, width) = self.map()?;
                self.divisor(channels, reduction, format!("cannot divide {channels} channels by {reduction}"), |n| {
                    format!("use attention {n}")
                })?;
                if height < 2 || width < 2 {
                    let reason = "needs a map of at least 2x2".to_string();
                    return Err(self.refuse(reason, "leave it out, or pool less before it".to_string()));
                }
                input
            }
            Layer::Flatten => {
                self.map()?;
                Extent::Features(input.values())
            }
            Layer::Linear { features, .. } => match input {
                Extent::Features(_) => Extent::Features(features.unwrap_or(classes)),
                Extent::Map { channels, .. } => {
                    let fix = format!(
                        "put \"flatten\" before it, which makes {} features, or \"globalpool\", which makes {channels}",
                        input.values()
                    );
                    return Err(self.refuse("needs features".to_string(), fix));
                }
            },
        })
    }

    /// Channels, height and width of the input map.
    fn map(&self) -> Result<(usize, usize, usize), RuleError> {
        match self.input {
            Extent::Map { channels, height, width } => Ok((channels, height, width)),
            Extent::Features(_) => {
                let fix = "put it before \"flatten\", \"globalpool\" and \"linear\", or leave it out".to_string();
                Err(self.refuse("needs a map".to_string(), fix))
            }
        }
    }

    fn slide(
        &self,
        channels: usize,
        height: usize,
        width: usize,
        Window { kernel, stride, padding }: Window,
        fix: String,
    ) -> Result<Extent, RuleError> {
        let places = |side: usize| Some((side + 2 * padding).checked_sub(kernel)? / stride + 1);
        match (places(height), places(width)) {
            (Some(height), Some(width)) => Ok(Extent::Map { channels, height, width }),
            _ => Err(self.refuse(format!("has a {kernel}x{kernel} window"), fix)),
        }
    }

    fn divisor(
        &self,
        channels: usize,
        by: usize,
        reason: String,
        fix: impl Fn(usize) -> String,
    ) -> Result<(), RuleError> {
        if channels.is_multiple_of(by) {
            return Ok(());
        }
        let divisors = (1..=channels).filter(|&n| channels.is_multiple_of(n));
        Err(self.refuse(reason, fix(divisors.min_by_key(|n| n.abs_diff(by)).unwrap_or(1))))
    }

    fn bounded(&self, output: Extent) -> Result<Extent, RuleError> {
        if output.values() <= VALUES_MAX {
            return Ok(output);
        }
        let fix = format!("use at most {CHANNELS_MAX} channels, and pool large maps first");
        Err(self.refuse(format!("outputs more than {VALUES_MAX} values per image"), fix))
    }

    fn refuse(&self, reason: String, fix: String) -> RuleError {
        let problem = format!("{reason}; its input is {}", self.input);
        let rule = RuleError::new(&format!("model.{}", self.name), self.line.trim(), problem);
        rule.suggest(Suggestion::new().text(fix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: ImageFacts = ImageFacts { image_size: 13, channels: 6, num_classes: 7 };

    fn layers(toml: &str) -> Vec<WrittenLayer> {
        #[derive(serde::Deserialize)]
        struct Table {
            layers: Vec<WrittenLayer>,
        }
        toml::from_str::<Table>(&format!("layers = [{toml}]")).expect("a list").layers
    }

    fn refused(toml: &str) -> [String; 2] {
        let error = place(&layers(toml), FACTS).expect_err("it does not fit");
        [error.to_string(), error.suggestion.expect("every error has a hint").to_string()]
    }

    #[test]
    fn the_output_of_each_layer_is_the_input_of_the_next() {
        let text = "'conv 10 k5 s2 p1', 'relu', 'maxpool 2', 'attention 5', 'batchnorm', 'groupnorm 5', 'layernorm',
            { residual = ['conv 14 s2'], shortcut = ['conv 14 k1 s2'] }, 'avgpool 3 s1 p1', 'dropout 0.5', 'flatten',
            'linear 11', 'tanh', 'linear classes'";
        let placed = place(&layers(text), FACTS).expect("they fit");
        let outputs: Vec<String> = placed.iter().map(|layer| layer.output.to_string()).collect();
        let map = |channels, side| format!("a map of {channels} channels, {side}x{side}");
        // (13 + 2 - 5) / 2 + 1 = 6, then 3, then 2.
        let mut expected = vec![map(10, 6), map(10, 6)];
        expected.extend(vec![map(10, 3); 5]);
        expected.extend(vec![map(14, 2); 3]);
        expected.extend([56, 11, 11, 7].map(|features| format!("{features} features")));
        assert_eq!(outputs, expected);
        assert!(placed.windows(2).all(|pair| pair[0].output == pair[1].input));
        let names: Vec<&str> = placed.iter().map(|layer| layer.name.as_str()).collect();
        assert_eq!([names[0], names[7], names[13]], ["layers.0", "layers.7", "layers.13"]);
        let PlacedKind::Residual { body, shortcut } = &placed[7].kind else { panic!("{:?}", placed[7]) };
        assert_eq!([&body[0].name, &shortcut[0].name], ["layers.7.residual.0", "layers.7.shortcut.0"]);
    }

    #[test]
    fn a_layer_that_does_not_fit_is_named_with_its_input_and_a_fix() {
        let cases = [
            (
                "'conv 8', 'linear 10'",
                "layers.1 \"linear 10\" needs features; its input is a map of 8 channels, 13x13",
                "put \"flatten\" before it, which makes 1352 features, or \"globalpool\", which makes 8",
            ),
            (
                "'flatten', 'conv 8'",
                "layers.1 \"conv 8\" needs a map; its input is 1014 features",
                "put it before \"flatten\", \"globalpool\" and \"linear\", or leave it out",
            ),
            (
                "'maxpool 4', 'maxpool 4'",
                "layers.1 \"maxpool 4\" has a 4x4 window; its input is a map of 6 channels, 3x3",
                "leave it out, or use maxpool 3",
            ),
            (
                "'maxpool 4', 'conv 8 k5 p0'",
                "layers.1 \"conv 8 k5 p0\" has a 5x5 window; its input is a map of 6 channels, 3x3",
                "use p2, or a kernel of at most k3",
            ),
            (
                "'conv 9 g2'",
                "layers.0 \"conv 9 g2\" cannot divide 6 input and 9 output channels into 2 groups; its input is a map of 6 \
                 channels, 13x13",
                "use g1",
            ),
            (
                "'attention'",
                "layers.0 \"attention\" cannot divide 6 channels by 8; its input is a map of 6 channels, 13x13",
                "use attention 6",
            ),
            (
                "'maxpool 13', 'attention 2'",
                "layers.1 \"attention 2\" needs a map of at least 2x2; its input is a map of 6 channels, 1x1",
                "leave it out, or pool less before it",
            ),
            (
                "'groupnorm 4'",
                "layers.0 \"groupnorm 4\" cannot divide 6 channels into 4 groups; its input is a map of 6 channels, 13x13",
                "use groupnorm 3",
            ),
            (
                "{ residual = ['conv 8 s2'] }",
                "layers.0 adds a map of 8 channels, 7x7 to a map of 6 channels, 13x13",
                "add shortcut = [\"conv 8 k1 s2\"]",
            ),
            (
                "{ residual = ['conv 6 p0'] }",
                "layers.0 adds a map of 6 channels, 11x11 to a map of 6 channels, 13x13",
                "keep the size inside: \"conv\" with an odd kernel and the default padding does",
            ),
            (
                "{ residual = ['globalpool'] }",
                "layers.0 adds 6 features to a map of 6 channels, 13x13",
                "make both maps, or both features",
            ),
            (
                "{ residual = ['relu', 'linear 3'] }",
                "layers.0.residual.1 \"linear 3\" needs features; its input is a map of 6 channels, 13x13",
                "put \"flatten\" before it, which makes 1014 features, or \"globalpool\", which makes 6",
            ),
        ];
        for (toml, text, hint) in cases {
            assert_eq!(refused(toml), [text.to_string(), hint.to_string()]);
        }
    }

    #[test]
    fn the_last_layer_has_one_output_per_class() {
        let [text, hint] = refused("'conv 7'");
        assert_eq!(text, "layers ends with a map of 7 channels, 13x13, but the data has 7 classes");
        assert_eq!(hint, "add \"globalpool\" and \"linear classes\"");
        let [text, hint] = refused("'flatten', 'linear 10'");
        assert_eq!(text, "layers ends with 10 features, but the data has 7 classes");
        assert_eq!(hint, "use \"linear classes\" for the last layer");
        assert_eq!(refused("'globalpool'")[1], "add \"linear classes\"");
        assert!(place(&layers("'conv 7', 'globalpool'"), FACTS).is_ok());
        let seven = ImageFacts { channels: 7, ..FACTS };
        let error = place(&layers("'relu', 'globalpool'"), seven).unwrap_err();
        assert_eq!(error.to_string(), "layers has no trainable parameters");
        assert_eq!(error.suggestion.expect("a hint").to_string(), "add \"linear classes\"");
    }

    #[test]
    fn a_map_that_is_too_large_for_memory_is_refused() {
        let large = ImageFacts { image_size: 4096, ..FACTS };
        let error = place(&layers("'conv 65536', 'flatten', 'linear 7'"), large).unwrap_err();
        assert_eq!(
            error.to_string(),
            "layers.0 \"conv 65536\" outputs more than 1073741824 values per image; its input is a map of 6 channels, \
             4096x4096"
        );
    }
}
