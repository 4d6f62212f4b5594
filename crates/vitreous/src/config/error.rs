//! What can be wrong with a config, where it was written, and the way out.

use std::fmt;

use thiserror::Error;

/// Where something was written: `my.toml, [model]`, `--set, [model]`, `preset digits, [train]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// A file, a preset or a flag; absent for a default.
    pub source: Option<String>,
    /// The table; absent at the top of a file.
    pub table: Option<String>,
}

impl Place {
    /// Whether it was written, or left out, on the command line, where keys are called as flags: not in a file, and not
    /// as `--set table.key`.
    fn speaks_flags(&self) -> bool {
        let source = self.source.as_deref().unwrap_or("--");
        (source.starts_with("--") && source != "--set") || source.starts_with("preset ")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.source, &self.table) {
            (Some(source), Some(table)) => write!(f, "{source}, [{table}]"),
            (Some(source), None) => write!(f, "{source}"),
            (None, Some(table)) => write!(f, "[{table}]"),
            (None, None) => write!(f, "config"),
        }
    }
}

/// Says what is wrong with a config.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// A value breaks a rule.
    #[error("{text} ({place})")]
    Rule {
        /// The rule's own words.
        text: String,
        /// Where the value was written.
        place: Place,
        /// What would work.
        hint: Option<String>,
    },
    /// There is no such key.
    #[error("unknown key `{key}` ({place})")]
    UnknownKey {
        /// The key.
        key: String,
        /// Where it was written.
        place: Place,
        /// What would work.
        hint: String,
    },
    /// There is no such table.
    #[error("unknown table `{table}` ({place})")]
    UnknownTable {
        /// The table.
        table: String,
        /// Where it was written.
        place: Place,
        /// What would work.
        hint: String,
    },
    /// A value is of the wrong kind.
    #[error("{key} {value} is not {expected} ({place})")]
    Kind {
        /// The value's key.
        key: String,
        /// The value, as TOML writes it.
        value: String,
        /// What it should be.
        expected: String,
        /// Where it was written.
        place: Box<Place>,
        /// What would work.
        hint: String,
    },
    /// A table lacks a key that has no default.
    #[error("{key} has no `{missing}` ({place})")]
    Missing {
        /// The table's key.
        key: String,
        /// The key it lacks.
        missing: String,
        /// Where it was written.
        place: Place,
    },
    /// The text is no TOML.
    #[error("{message} ({source_name}, line {line})")]
    Syntax {
        /// What the parser says.
        message: String,
        /// The file.
        source_name: String,
        /// The line, counted from 1.
        line: usize,
    },
    /// A file cannot be read.
    #[error("cannot read the config: {reason} ({path})")]
    Read {
        /// The file.
        path: String,
        /// What the system says.
        reason: String,
        /// What would work, where it can be guessed.
        hint: Option<String>,
    },
    /// There is no such preset.
    #[error("unknown preset `{name}` (--preset)")]
    UnknownPreset {
        /// The name.
        name: String,
        /// What would work.
        hint: String,
    },
    /// There is no such model size.
    #[error("unknown model `{name}` (--model)")]
    UnknownModel {
        /// The name.
        name: String,
        /// What would work.
        hint: String,
    },
    /// An assignment is none.
    #[error("`{text}` is not a key and its value (--set)")]
    Assignment {
        /// The text.
        text: String,
    },
}

impl ConfigError {
    /// The table of the keys in the hint, where the user knows them as flags.
    pub fn flags_of(&self) -> Option<&str> {
        let place = match self {
            ConfigError::Rule { place, .. } => place,
            ConfigError::Kind { place, .. } => place,
            _ => return None,
        };
        place.table.as_deref().filter(|_| place.speaks_flags())
    }

    /// Says what would work instead.
    pub fn hint(&self) -> Option<String> {
        match self {
            ConfigError::Rule { hint, .. } | ConfigError::Read { hint, .. } => hint.clone(),
            ConfigError::UnknownKey { hint, .. }
            | ConfigError::UnknownTable { hint, .. }
            | ConfigError::Kind { hint, .. }
            | ConfigError::UnknownPreset { hint, .. }
            | ConfigError::UnknownModel { hint, .. } => Some(hint.clone()),
            ConfigError::Missing { missing, key, .. } => Some(format!("add {missing} to {key}")),
            ConfigError::Syntax { .. } => Some("a line is `[table]`, `key = value` or `# comment`".to_string()),
            ConfigError::Assignment { .. } => Some("write it as --set model.depth=4".to_string()),
        }
    }
}
