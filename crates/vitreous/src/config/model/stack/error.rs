//! Errors of stacks of layers, and what to do about them.

use thiserror::Error;

use super::shape::Extent;
use super::{LAYERS_MAX, line};
use crate::spelling;

/// Says which rule a [`StackSpec`](super::StackSpec) breaks.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum StackError {
    /// A number is out of range.
    #[error("{key} {value} is not {must} ([model])")]
    Range {
        /// The number's key.
        key: &'static str,
        /// The number.
        value: String,
        /// The range.
        must: String,
        /// A number that would work.
        fix: String,
    },
    /// A size contradicts the data set.
    #[error("{key} {written} does not match the data set's {found} ([model])")]
    Contradiction {
        /// The key that contradicts.
        key: &'static str,
        /// The written size.
        written: usize,
        /// The data set's.
        found: usize,
    },
    /// There are no layers.
    #[error("layers is empty ([model])")]
    Empty,
    /// There are too many layers.
    #[error("layers has {count} layers, more than {LAYERS_MAX} ([model])")]
    Many {
        /// How many there are.
        count: usize,
    },
    /// No layer has parameters.
    #[error("layers has no trainable parameters ([model])")]
    Untrained,
    /// A residual connection has no layers.
    #[error("{name}.residual is empty ([model])")]
    EmptyResidual {
        /// The layer's name, such as `layers.3`.
        name: String,
    },
    /// A line starts with an unknown word.
    #[error("unknown layer \"{line}\" at {name} ([model])")]
    Word {
        /// The layer's name, such as `layers.3`.
        name: String,
        /// The line.
        line: String,
    },
    /// A part of a line is unknown, or its number is missing.
    #[error("{name} \"{line}\": {} ([model])", complaint(part))]
    Part {
        /// The layer's name, such as `layers.3`.
        name: String,
        /// The line.
        line: String,
        /// The part; empty where one is missing.
        part: String,
        /// The line's first word.
        word: &'static str,
    },
    /// A number of a line is out of range.
    #[error("{name} \"{line}\": {part} is not {must} ([model])")]
    Number {
        /// The layer's name, such as `layers.3`.
        name: String,
        /// The line.
        line: String,
        /// The number, with its letter.
        part: String,
        /// The range.
        must: String,
        /// The line's first word.
        word: &'static str,
    },
    /// A layer does not fit its input.
    #[error("{name} \"{line}\" {reason}; its input is {input} ([model])")]
    Fit {
        /// The layer's name, such as `layers.3`.
        name: String,
        /// The line.
        line: Box<str>,
        /// Why it does not fit.
        reason: Box<str>,
        /// Its input.
        input: Extent,
        /// What would fit.
        fix: String,
    },
    /// The two terms of a residual connection have different shapes.
    #[error("{name} adds {body} to {input} ([model])")]
    Residual {
        /// The layer's name, such as `layers.3`.
        name: String,
        /// The output of its layers.
        body: Extent,
        /// The tensor to which it is added.
        input: Extent,
        /// What would fit.
        fix: String,
    },
    /// The last layer's output is not one number per class.
    #[error("layers ends with {found}, but the data has {num_classes} classes ([model])")]
    End {
        /// The last layer's output.
        found: Extent,
        /// Number of classes.
        num_classes: usize,
        /// Whether the last layer is linear, and so the one to change.
        linear: bool,
    },
}

fn complaint(part: &str) -> String {
    if part.is_empty() { "its number is missing".to_string() } else { format!("unexpected {part}") }
}

impl StackError {
    /// Says what would work instead.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            StackError::Range { key, fix, .. } => format!("use {key} {fix}"),
            StackError::Contradiction { key, found, .. } => format!("use {key} {found}, or leave it out"),
            StackError::Empty => {
                "write it as layers = [\"conv 32\", \"relu\", \"globalpool\", \"linear classes\"]".to_string()
            }
            StackError::Many { .. } => "use fewer and wider layers".to_string(),
            StackError::EmptyResidual { .. } => {
                "write it as { residual = [\"conv 32\", \"relu\", \"conv 32\"] }".to_string()
            }
            StackError::Word { line, .. } => {
                let word = line.split_whitespace().next().unwrap_or("");
                if word == "residual" {
                    return Some("write it as { residual = [\"conv 32\", \"relu\", \"conv 32\"] }".to_string());
                }
                let near = spelling::nearest(word, line::words()).map(|near| format!("did you mean `{near}`?"));
                let all = || line::words().collect::<Vec<_>>().join(", ");
                near.unwrap_or_else(|| format!("the layers are {}, residual", all()))
            }
            StackError::Part { word, .. } | StackError::Number { word, .. } => {
                format!("write it as {}", line::form(word))
            }
            StackError::Fit { fix, .. } | StackError::Residual { fix, .. } => fix.clone(),
            StackError::End { found: Extent::Map { .. }, .. } => {
                "add \"globalpool\" and \"linear classes\"".to_string()
            }
            StackError::End { linear: true, .. } => "use \"linear classes\" for the last layer".to_string(),
            StackError::Untrained | StackError::End { .. } => "add \"linear classes\"".to_string(),
        })
    }
}
