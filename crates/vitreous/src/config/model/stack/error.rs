//! What can be wrong with a stack of layers, and the way out.

use thiserror::Error;

use super::shape::Extent;
use super::{LAYERS_MAX, line};
use crate::spelling;

/// Says which rule a [`StackSpec`](super::StackSpec) breaks.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum StackError {
    /// A number is outside its range.
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
    /// The data says something else.
    #[error("{key} {written} is not what the data has, {found} ([model])")]
    Contradiction {
        /// The key that contradicts.
        key: &'static str,
        /// What the table says.
        written: usize,
        /// What the data says.
        found: usize,
    },
    /// There are no layers.
    #[error("layers is empty ([model])")]
    Empty,
    /// There are absurdly many.
    #[error("layers has {count} layers, more than {LAYERS_MAX} ([model])")]
    Many {
        /// How many there are.
        count: usize,
    },
    /// No layer has parameters.
    #[error("layers has nothing to train ([model])")]
    Untrained,
    /// A residual connection goes around nothing.
    #[error("{name}.residual is empty ([model])")]
    EmptyResidual {
        /// The layer's place.
        name: String,
    },
    /// A line begins with an unknown word.
    #[error("{name} \"{line}\" is no layer ([model])")]
    Word {
        /// The layer's place.
        name: String,
        /// The line.
        line: String,
    },
    /// A part of a line cannot be understood, or its number is missing.
    #[error("{name} \"{line}\" {} ([model])", complaint(part, word))]
    Part {
        /// The layer's place.
        name: String,
        /// The line.
        line: String,
        /// The part; empty where one is missing.
        part: String,
        /// The line's first word.
        word: &'static str,
    },
    /// A number of a line is outside its range.
    #[error("{name} \"{line}\": {part} is not {must} ([model])")]
    Number {
        /// The layer's place.
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
    /// A layer does not fit what it is given.
    #[error("{name} \"{line}\" {reason}; it is given {input} ([model])")]
    Fit {
        /// The layer's place.
        name: String,
        /// The line.
        line: Box<str>,
        /// Why it does not fit.
        reason: Box<str>,
        /// What it is given.
        input: Extent,
        /// What would fit.
        fix: String,
    },
    /// What a residual connection adds up has two shapes.
    #[error("{name} adds {body} to {input} ([model])")]
    Residual {
        /// The layer's place.
        name: String,
        /// What the layers inside give.
        body: Extent,
        /// What they are added to.
        input: Extent,
        /// What would fit.
        fix: String,
    },
    /// The last layer does not give a number for each class.
    #[error("layers ends with {found}, but the data has {num_classes} classes ([model])")]
    End {
        /// What the last layer gives.
        found: Extent,
        /// Number of classes.
        num_classes: usize,
        /// Whether the last layer is a linear one, which is then the one to change.
        linear: bool,
    },
}

fn complaint(part: &str, word: &str) -> String {
    if part.is_empty() { "lacks its number".to_string() } else { format!("has {part}, which {word} does not take") }
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
