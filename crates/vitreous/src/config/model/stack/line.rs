//! One line of a stack: a word and its options. `conv 32 k5 s2 p2 g4 nobias`, `maxpool 3 s2 p1`, `dropout 0.1`.

use super::RESIDUAL;
use crate::advice::Suggestion;
use crate::config::error::RuleError;
use crate::config::model::Activation;
use crate::config::model::vit::DROPOUT_MAX;
use crate::spelling;

/// Largest number of channels and of features of a linear layer.
pub const CHANNELS_MAX: usize = 65_536;
/// Largest kernel, stride and padding.
pub const KERNEL_MAX: usize = 64;

/// A layer of a stack, with valid numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Layer {
    /// `conv CHANNELS`: a convolution; by default 3x3, stride 1, and padding that keeps the size.
    Convolution {
        /// Output channels.
        channels: usize,
        /// Kernel, stride and padding.
        window: Window,
        /// Number of channel groups.
        groups: usize,
        /// Whether it has a bias.
        bias: bool,
    },
    /// `relu`, `gelu`, `gelu-tanh`, `tanh`.
    Activation(Activation),
    /// `maxpool KERNEL`
    MaxPool(Window),
    /// `avgpool KERNEL`
    AvgPool(Window),
    /// `globalpool`: the mean of each channel over all positions.
    GlobalPool,
    /// `batchnorm`
    BatchNorm,
    /// `groupnorm GROUPS`
    GroupNorm {
        /// Number of channel groups.
        groups: usize,
    },
    /// `layernorm`: over the channels of each position.
    LayerNorm,
    /// `dropout RATE`
    Dropout {
        /// Probability that a value is zeroed.
        rate: f32,
    },
    /// `attention` or `attention REDUCTION`: spatial self-attention added to its input (experiment E3).
    Attention {
        /// The divisor of the channels of query, key and value.
        reduction: usize,
    },
    /// `flatten`
    Flatten,
    /// `linear FEATURES` or `linear classes`.
    Linear {
        /// Output features; by default the number of classes.
        features: Option<usize>,
        /// Whether it has a bias.
        bias: bool,
    },
}

/// The sliding window of a convolution or a pooling layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Height and width, in positions.
    pub kernel: usize,
    /// Positions between neighboring windows.
    pub stride: usize,
    /// Positions added on each side.
    pub padding: usize,
}

/// The first words of lines, with examples.
const FORMS: [(&str, &str); 15] = [
    ("conv", "conv 32, or conv 32 k3 s1 p1 g1 nobias"),
    ("relu", "relu"),
    ("gelu", "gelu"),
    ("gelu-tanh", "gelu-tanh"),
    ("tanh", "tanh"),
    ("maxpool", "maxpool 2, or maxpool 3 s2 p1"),
    ("avgpool", "avgpool 2, or avgpool 3 s2 p1"),
    ("globalpool", "globalpool"),
    ("batchnorm", "batchnorm"),
    ("groupnorm", "groupnorm 8"),
    ("layernorm", "layernorm"),
    ("dropout", "dropout 0.1"),
    ("attention", "attention, or attention 8"),
    ("flatten", "flatten"),
    ("linear", "linear classes, or linear 128 nobias"),
];

impl Layer {
    /// The first word of its line.
    pub fn word(&self) -> &'static str {
        match self {
            Layer::Convolution { .. } => "conv",
            Layer::Activation(Activation::Relu) => "relu",
            Layer::Activation(Activation::Gelu) => "gelu",
            Layer::Activation(Activation::GeluTanh) => "gelu-tanh",
            Layer::Activation(Activation::Tanh) => "tanh",
            Layer::MaxPool(_) => "maxpool",
            Layer::AvgPool(_) => "avgpool",
            Layer::GlobalPool => "globalpool",
            Layer::BatchNorm => "batchnorm",
            Layer::GroupNorm { .. } => "groupnorm",
            Layer::LayerNorm => "layernorm",
            Layer::Dropout { .. } => "dropout",
            Layer::Attention { .. } => "attention",
            Layer::Flatten => "flatten",
            Layer::Linear { .. } => "linear",
        }
    }
}

/// All first words.
pub(super) fn words() -> impl Iterator<Item = &'static str> {
    FORMS.iter().map(|(word, _)| *word)
}

/// Examples of a line that starts with this word.
pub(super) fn form(word: &str) -> &'static str {
    FORMS.iter().find(|(known, _)| *known == word).map_or("", |(_, form)| form)
}

/// Reads a line; `name` is the layer's name in errors.
///
/// # Errors
/// When the layer is unknown, or a number is missing or out of range.
pub fn read(name: &str, line: &str) -> Result<Layer, RuleError> {
    let mut parts = line.split_whitespace();
    let first = parts.next().unwrap_or("");
    let word = words().find(|word| *word == first).ok_or_else(|| unknown(name, line, first))?;
    let mut rest = Parts { name, line, word, parts: parts.collect() };
    let layer = match word {
        "conv" => {
            let channels = rest.first(1, CHANNELS_MAX)?;
            let kernel = rest.option('k', 1)?.unwrap_or(3);
            let stride = rest.option('s', 1)?.unwrap_or(1);
            let padding = rest.option('p', 0)?.unwrap_or(kernel / 2);
            let groups = rest.groups()?.unwrap_or(1);
            Layer::Convolution {
                channels,
                window: Window { kernel, stride, padding },
                groups,
                bias: !rest.has("nobias"),
            }
        }
        "relu" => Layer::Activation(Activation::Relu),
        "gelu" => Layer::Activation(Activation::Gelu),
        "gelu-tanh" => Layer::Activation(Activation::GeluTanh),
        "tanh" => Layer::Activation(Activation::Tanh),
        "maxpool" => Layer::MaxPool(rest.pool()?),
        "avgpool" => Layer::AvgPool(rest.pool()?),
        "globalpool" => Layer::GlobalPool,
        "batchnorm" => Layer::BatchNorm,
        "groupnorm" => Layer::GroupNorm { groups: rest.first(1, CHANNELS_MAX)? },
        "layernorm" => Layer::LayerNorm,
        "dropout" => Layer::Dropout { rate: rest.rate()? },
        "attention" if rest.parts.is_empty() => Layer::Attention { reduction: 8 },
        "attention" => Layer::Attention { reduction: rest.first(1, CHANNELS_MAX)? },
        "flatten" => Layer::Flatten,
        "linear" => {
            let features = if rest.has("classes") { None } else { Some(rest.first(1, CHANNELS_MAX)?) };
            Layer::Linear { features, bias: !rest.has("nobias") }
        }
        _ => return Err(unknown(name, line, first)),
    };
    match rest.parts.first() {
        Some(part) => Err(rest.wrong(part)),
        None => Ok(layer),
    }
}

/// Says that a line starts with an unknown word.
fn unknown(name: &str, line: &str, word: &str) -> RuleError {
    let all = || format!("the layers are {}, residual", words().collect::<Vec<_>>().join(", "));
    let hint = match spelling::nearest(word, words()) {
        _ if word == "residual" => RESIDUAL.to_string(),
        Some(near) => format!("did you mean `{near}`?"),
        None => all(),
    };
    RuleError::new(&format!("model.{name}"), line, "is not a known layer").suggest(Suggestion::new().text(hint))
}

/// The parts after a line's first word that were not read yet.
struct Parts<'a> {
    name: &'a str,
    line: &'a str,
    word: &'static str,
    parts: Vec<&'a str>,
}

impl Parts<'_> {
    /// The next part, a number.
    fn first(&mut self, least: usize, largest: usize) -> Result<usize, RuleError> {
        if self.parts.is_empty() {
            return Err(self.wrong(""));
        }
        let part = self.parts.remove(0);
        let number = part.parse().map_err(|_| self.wrong(part))?;
        self.within(part, number, least, largest)
    }

    /// The number of an option such as `k5`.
    fn option(&mut self, letter: char, least: usize) -> Result<Option<usize>, RuleError> {
        self.lettered(letter, least, KERNEL_MAX)
    }

    fn groups(&mut self) -> Result<Option<usize>, RuleError> {
        self.lettered('g', 1, CHANNELS_MAX)
    }

    fn lettered(&mut self, letter: char, least: usize, largest: usize) -> Result<Option<usize>, RuleError> {
        let number = |part: &str| part.strip_prefix(letter).and_then(|digits| digits.parse::<usize>().ok());
        let Some(at) = self.parts.iter().position(|part| number(part).is_some()) else { return Ok(None) };
        let part = self.parts.remove(at);
        self.within(part, number(part).unwrap_or(0), least, largest).map(Some)
    }

    /// Whether a part is present.
    fn has(&mut self, part: &str) -> bool {
        let at = self.parts.iter().position(|known| *known == part);
        at.map(|at| self.parts.remove(at)).is_some()
    }

    fn pool(&mut self) -> Result<Window, RuleError> {
        let kernel = self.first(1, KERNEL_MAX)?;
        let stride = self.option('s', 1)?.unwrap_or(kernel);
        let padding = self.option('p', 0)?.unwrap_or(0);
        if padding > kernel / 2 {
            return Err(
                self.out_of_range(&format!("p{padding}"), format!("at most half of the kernel, {}", kernel / 2))
            );
        }
        Ok(Window { kernel, stride, padding })
    }

    fn rate(&mut self) -> Result<f32, RuleError> {
        if self.parts.is_empty() {
            return Err(self.wrong(""));
        }
        let part = self.parts.remove(0);
        let rate: f64 = part.parse().map_err(|_| self.wrong(part))?;
        if (0.0..=DROPOUT_MAX).contains(&rate) {
            Ok(rate as f32)
        } else {
            Err(self.out_of_range(part, format!("between 0 and {DROPOUT_MAX}")))
        }
    }

    fn within(&self, part: &str, number: usize, least: usize, largest: usize) -> Result<usize, RuleError> {
        if (least..=largest).contains(&number) {
            Ok(number)
        } else {
            Err(self.out_of_range(part, format!("between {least} and {largest}")))
        }
    }

    fn out_of_range(&self, part: &str, expected: String) -> RuleError {
        self.broken(format!(": {part} is not {expected}"))
    }

    fn wrong(&self, part: &str) -> RuleError {
        self.broken(match part {
            "" => ": its number is missing".to_string(),
            part => format!(": unexpected {part}"),
        })
    }

    fn broken(&self, problem: String) -> RuleError {
        let suggestion = Suggestion::new().text(format!("write it as {}", form(self.word)));
        RuleError::new(&format!("model.{}", self.name), self.line, problem).suggest(suggestion)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str) -> [String; 2] {
        let error = read("layers.3", line).expect_err("it is wrong");
        [error.to_string(), error.suggestion.expect("every error has a hint").to_string()]
    }

    #[test]
    fn options_that_are_left_out_have_defaults() {
        let window = |kernel, stride, padding| Window { kernel, stride, padding };
        let conv = |window, groups, bias| Layer::Convolution { channels: 32, window, groups, bias };
        let lines = [
            ("conv 32", conv(window(3, 1, 1), 1, true)),
            ("conv 32 k5", conv(window(5, 1, 2), 1, true)),
            (" conv  32 g2 s2 nobias p0 k7 ", conv(window(7, 2, 0), 2, false)),
            ("maxpool 2", Layer::MaxPool(window(2, 2, 0))),
            ("avgpool 3 s2 p1", Layer::AvgPool(window(3, 2, 1))),
            ("attention", Layer::Attention { reduction: 8 }),
            ("attention 4", Layer::Attention { reduction: 4 }),
            ("groupnorm 8", Layer::GroupNorm { groups: 8 }),
            ("dropout 0.25", Layer::Dropout { rate: 0.25 }),
            ("linear classes", Layer::Linear { features: None, bias: true }),
            ("linear 11 nobias", Layer::Linear { features: Some(11), bias: false }),
            ("gelu-tanh", Layer::Activation(Activation::GeluTanh)),
        ];
        for (line, layer) in lines {
            assert_eq!(read("layers.0", line), Ok(layer), "{line}");
        }
    }

    #[test]
    fn every_form_that_a_hint_shows_can_be_read() {
        for (word, form) in FORMS {
            for line in form.split(", or ") {
                assert_eq!(read("layers.0", line).map(|layer| layer.word()), Ok(word), "{line}");
            }
        }
    }

    #[test]
    fn a_misspelled_word_gets_a_suggestion() {
        let [text, hint] = refused("cnov 32");
        assert_eq!(text, "layers.3 \"cnov 32\" is not a known layer");
        assert_eq!(hint, "did you mean `conv`?");
        let [text, hint] = refused("");
        assert_eq!(text, "layers.3 \"\" is not a known layer");
        assert!(hint.starts_with("the layers are conv, relu, gelu,") && hint.ends_with("linear, residual"), "{hint}");
    }

    #[test]
    fn an_unexpected_part_is_shown_with_an_example() {
        let [text, hint] = refused("conv 32 x5");
        assert_eq!(text, "layers.3 \"conv 32 x5\": unexpected x5");
        assert_eq!(hint, "write it as conv 32, or conv 32 k3 s1 p1 g1 nobias");
        assert_eq!(refused("conv many")[0], "layers.3 \"conv many\": unexpected many");
        assert_eq!(refused("relu 3")[0], "layers.3 \"relu 3\": unexpected 3");
        assert_eq!(refused("conv 3 k5 k7")[0], "layers.3 \"conv 3 k5 k7\": unexpected k7");
        let [text, hint] = refused("maxpool");
        assert_eq!(text, "layers.3 \"maxpool\": its number is missing");
        assert_eq!(hint, "write it as maxpool 2, or maxpool 3 s2 p1");
    }

    #[test]
    fn numbers_stay_in_their_ranges() {
        let cases = [
            ("conv 0", "0 is not between 1 and 65536"),
            ("conv 32 k0", "k0 is not between 1 and 64"),
            ("conv 32 s65", "s65 is not between 1 and 64"),
            ("conv 32 g0", "g0 is not between 1 and 65536"),
            ("maxpool 2 p2", "p2 is not at most half of the kernel, 1"),
            ("dropout 1", "1 is not between 0 and 0.999"),
            ("dropout nan", "nan is not between 0 and 0.999"),
            ("linear 0", "0 is not between 1 and 65536"),
        ];
        for (line, expected) in cases {
            assert_eq!(refused(line)[0], format!("layers.3 \"{line}\": {expected}"));
        }
        assert_eq!(refused("groupnorm 0")[1], "write it as groupnorm 8");
    }
}
