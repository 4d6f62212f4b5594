//! Explains why a config file is not TOML: the parser knows nothing of keys.

use toml::{Table, Value};

use super::error::{ConfigError, RuleError};
use super::key;
use super::schema::{Mismatch, WHOLE_MAX, is_too_large};
use crate::advice::{Place, Source, Suggestion};

/// The error of a text that is not TOML; `shown` is what errors call its source.
pub(super) fn syntax_error(text: &str, error: &toml::de::Error, source: &Source, shown: &str) -> ConfigError {
    let start = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
    let number = start.matches('\n').count();
    let line = text.lines().nth(number).unwrap_or_default();
    let plain = line.split('#').next().unwrap_or_default().trim();
    let before: Vec<&str> = text.lines().take(number).collect();
    let table = before.iter().rev().find_map(|line| line.trim().strip_prefix('[')?.split(']').next());
    let is_toml = |text: &str| toml::from_str::<Table>(text).is_ok();
    let is_twice =
        is_toml(line) && is_toml(&before.join("\n")) && !is_toml(&[&before[..], &[line]].concat().join("\n"));
    let new = Suggestion::new;
    let (message, suggestion) = match plain.split_once('=').map(|(key, value)| (key.trim(), value.trim())) {
        // As a line it is valid, and so is the text before it: only together they are not.
        _ if is_twice => {
            let what = plain.split('=').next().unwrap_or_default().trim();
            (format!("`{what}` is written twice"), new().text("keep one of them"))
        }
        Some((key, value)) if is_too_large(&value.replace('_', "")) => {
            let number = value.replace('_', "");
            (format!("{key} {number} is not at most {WHOLE_MAX}"), new().text("use a smaller number"))
        }
        Some((key, "")) => {
            (format!("`{key}` has no value"), new().text(format!("write {key} = VALUE, or remove the line")))
        }
        Some((key, word)) if is_word(word) => match wrong_type(table, key, word) {
            Some(rule) => {
                let place = Place::Config(source.clone(), Some(rule.table().to_string()));
                return ConfigError::Rule { rule, place };
            }
            None => (format!("`{word}` is not in quotes"), new().text(format!("write {key} = \"{word}\""))),
        },
        _ => {
            let message = error.message().lines().next().unwrap_or("not TOML").to_string();
            (message, new().text("a line is `[table]`, `key = value` or `# comment`"))
        }
    };
    ConfigError::Syntax { message, source_name: shown.to_string(), line: 1 + number, suggestion }
}

/// A text without quotes, such as `three`.
fn is_word(text: &str) -> bool {
    text.starts_with(char::is_alphabetic) && text.chars().all(|c| c.is_alphanumeric() || "-_./".contains(c))
}

/// The error of a key that a word is not a value of, with or without quotes.
fn wrong_type(table: Option<&str>, name: &str, word: &str) -> Option<Box<RuleError>> {
    let path = name.contains('.').then(|| name.to_string()).or_else(|| Some(format!("{}.{name}", table?)))?;
    match key(&path)?.accept(&Value::String(word.to_string())) {
        Err(Mismatch::Value(rule)) => Some(rule),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::layers::Layers;
    use crate::advice::Explain;

    #[test]
    fn what_is_not_toml_is_explained() {
        let generic = "a line is `[table]`, `key = value` or `# comment`";
        for (text, error, hint) in [
            ("[train]\nlr = 1\n\nlr = 2 # more", "`lr` is written twice (my.toml, line 4)", "keep one of them"),
            ("[train]\nlr = 1\n[data]\n[train]", "`[train]` is written twice (my.toml, line 4)", "keep one of them"),
            (
                "[train]\nseed = 9_223_372_036_854_775_808",
                "seed 9223372036854775808 is not at most 9223372036854775807 (my.toml, line 2)",
                "use a smaller number",
            ),
            (
                "[model]\ndepth = three",
                "depth \"three\" is not a whole number (my.toml, [model])",
                "use model.depth = 4",
            ),
            ("model.depth = three", "depth \"three\" is not a whole number (my.toml, [model])", "use model.depth = 4"),
            ("[train]\nopt = adam # the default", "`adam` is not in quotes (my.toml, line 2)", "write opt = \"adam\""),
            (
                "[train]\nopt = adm",
                "opt \"adm\" is not one of adam, adamw, lion, muon, sgd (my.toml, [train])",
                "use train.opt = \"adam\"",
            ),
            (
                "[train]\nepochs =",
                "`epochs` has no value (my.toml, line 2)",
                "write epochs = VALUE, or remove the line",
            ),
            ("[train]\nzebra = stripes", "`stripes` is not in quotes (my.toml, line 2)", "write zebra = \"stripes\""),
            ("[train\nlr = 1", "", generic),
        ] {
            let found = Layers::new().add_toml(text, "my.toml").unwrap_err();
            assert!(error.is_empty() || found.to_string() == error, "{text}: {found}");
            assert_eq!(found.hint().unwrap(), hint, "{text}");
        }
    }
}
