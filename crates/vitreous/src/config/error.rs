//! What can be wrong with a config: keys, values and suggestions as data, and where the values were written.

use std::fmt;

use thiserror::Error;

use crate::advice::{Argument, Explain, Place, Source, Suggestion, Value};

/// A value that breaks a rule of its table.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleError {
    /// The keys that the rule is about, as `table.key`; the first is the one at fault.
    pub keys: Vec<String>,
    /// The value at fault, where the error shows it.
    pub value: Option<Value>,
    /// What is wrong with it: `is not a multiple of num_heads 12`.
    pub problem: String,
    /// What to do.
    pub suggestion: Option<Suggestion>,
}

impl RuleError {
    /// Says that a value has a problem: `lr`, -1, `is not above 0`.
    pub fn new(key: &str, value: impl Into<Value>, problem: impl Into<String>) -> Self {
        RuleError { value: Some(value.into()), ..RuleError::about(key, problem) }
    }

    /// Says that a key has a problem, without its value: `layers`, `is empty`.
    pub fn about(key: &str, problem: impl Into<String>) -> Self {
        RuleError { keys: vec![key.to_string()], value: None, problem: problem.into(), suggestion: None }
    }

    /// Adds a key that the rule is about too: the error is where the last of them was written.
    pub fn and(mut self, key: &str) -> Self {
        self.keys.push(key.to_string());
        self
    }

    /// Adds what to do.
    pub fn suggest(self, suggestion: Suggestion) -> Self {
        RuleError { suggestion: Some(suggestion), ..self }
    }

    /// The table of the keys.
    pub fn table(&self) -> &str {
        self.keys[0].split('.').next().unwrap_or_default()
    }
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.keys[0].split_once('.').map_or(self.keys[0].as_str(), |(_, key)| key);
        let blank = if self.problem.starts_with(':') { "" } else { " " };
        match &self.value {
            Some(value) => write!(f, "{key} {value}{blank}{}", self.problem),
            None => write!(f, "{key}{blank}{}", self.problem),
        }
    }
}

impl std::error::Error for RuleError {}

impl Explain for RuleError {
    fn key(&self) -> Option<String> {
        Some(self.keys[0].clone())
    }

    fn suggestion(&self) -> Option<Suggestion> {
        self.suggestion.clone()
    }
}

/// What is wrong with a config.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ConfigError {
    /// A value has the wrong type or breaks a rule.
    #[error("{rule} ({})", Written(.place))]
    Rule {
        /// The rule.
        rule: Box<RuleError>,
        /// Where the value was written.
        place: Place,
    },
    /// There is no such key.
    #[error("unknown key `{key}` ({})", Written(.place))]
    UnknownKey {
        /// The key.
        key: String,
        /// Where it was written.
        place: Place,
        /// What would work.
        suggestion: Suggestion,
    },
    /// There is no such table.
    #[error("unknown table `{table}` ({})", Written(.place))]
    UnknownTable {
        /// The table.
        table: String,
        /// Where it was written.
        place: Place,
        /// What would work.
        suggestion: Suggestion,
    },
    /// The text is not TOML.
    #[error("{message} ({source_name}, line {line})")]
    Syntax {
        /// The parser's message.
        message: String,
        /// The file.
        source_name: String,
        /// The line, counted from 1.
        line: usize,
        /// What would work.
        suggestion: Suggestion,
    },
    /// A file cannot be read.
    #[error("cannot read the config: {reason} ({path})")]
    Read {
        /// The file.
        path: String,
        /// The system's message.
        reason: String,
        /// What would work, where it can be guessed.
        suggestion: Option<Suggestion>,
    },
    /// There is no such preset.
    #[error("unknown preset `{name}`")]
    UnknownPreset {
        /// The name.
        name: String,
        /// What would work.
        suggestion: Suggestion,
    },
    /// There is no such model size.
    #[error("unknown model `{name}`")]
    UnknownModel {
        /// The name.
        name: String,
        /// What would work.
        suggestion: Suggestion,
    },
    /// An assignment has no key or no value.
    #[error("`{text}` is not TABLE.KEY=VALUE")]
    Assignment {
        /// The text.
        text: String,
    },
}

/// A place of a config in words: `my.toml, [model]`, `--set, [model]`, `preset digits, [train]`.
struct Written<'a>(&'a Place);

impl fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place::Config(source, table) = self.0 else { return f.write_str("config") };
        match (source, table) {
            (Source::Default, Some(table)) => write!(f, "[{table}]"),
            (source, Some(table)) => write!(f, "{}, [{table}]", shown_source(source)),
            (source, None) => f.write_str(&shown_source(source)),
        }
    }
}

/// Where a value was written: `my.toml`, `preset digits`, `--lr`, `default`.
pub(super) fn shown_source(source: &Source) -> String {
    match source {
        Source::Default => "default".to_string(),
        Source::Preset(name) => format!("preset {name}"),
        Source::File(name) | Source::Argument(name) => name.clone(),
    }
}

impl Explain for ConfigError {
    fn key(&self) -> Option<String> {
        match self {
            ConfigError::Rule { rule, .. } => rule.key(),
            _ => None,
        }
    }

    fn place(&self) -> Option<Place> {
        Some(match self {
            ConfigError::Rule { place, .. }
            | ConfigError::UnknownKey { place, .. }
            | ConfigError::UnknownTable { place, .. } => place.clone(),
            ConfigError::Syntax { source_name, line, .. } => Place::Line(source_name.clone(), *line),
            ConfigError::Read { path, .. } => Place::Path(path.into()),
            ConfigError::UnknownPreset { .. } => Place::Argument(Argument::Preset),
            ConfigError::UnknownModel { .. } => Place::Argument(Argument::Model),
            ConfigError::Assignment { .. } => Place::Argument(Argument::Set),
        })
    }

    fn suggestion(&self) -> Option<Suggestion> {
        match self {
            ConfigError::Rule { rule, .. } => rule.suggestion(),
            ConfigError::UnknownKey { suggestion, .. }
            | ConfigError::UnknownTable { suggestion, .. }
            | ConfigError::UnknownPreset { suggestion, .. }
            | ConfigError::UnknownModel { suggestion, .. }
            | ConfigError::Syntax { suggestion, .. } => Some(suggestion.clone()),
            ConfigError::Read { suggestion, .. } => suggestion.clone(),
            ConfigError::Assignment { .. } => {
                Some(Suggestion::new().text("write it like").with(Argument::Set, "model.depth=4"))
            }
        }
    }
}
