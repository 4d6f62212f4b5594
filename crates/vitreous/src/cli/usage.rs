//! Errors of the command line that clap finds, in the form of all others.

use std::error::Error;
use std::num::{IntErrorKind, ParseFloatError, ParseIntError};

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::CliError;
use crate::spelling;

/// Says what is wrong with a command line, and what to do.
pub fn usage_error(error: &clap::Error) -> CliError {
    let (what, hint) = explained(error).unwrap_or_else(|| plain(error));
    CliError::user(what, hint)
}

fn explained(error: &clap::Error) -> Option<(String, Option<String>)> {
    let argument = || text(error, ContextKind::InvalidArg);
    Some(match error.kind() {
        ErrorKind::InvalidValue => {
            let (argument, value) = (argument()?, text(error, ContextKind::InvalidValue)?);
            let known = list(error, ContextKind::ValidValue);
            if value.is_empty() {
                let example = argument.replace(['<', '>'], "");
                let hint = if known.is_empty() {
                    format!("write {example}")
                } else {
                    format!("use one of {}", known.join(", "))
                };
                return Some((format!("{} has no value", name(&argument)), Some(hint)));
            }
            let hint = match spelling::nearest(&value, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("use one of {}", known.join(", ")),
            };
            (format!("invalid value `{value}` ({})", name(&argument)), Some(hint))
        }
        ErrorKind::ValueValidation => {
            let (argument, value) = (argument()?, text(error, ContextKind::InvalidValue)?);
            let source = error.source()?;
            let (reason, hint) =
                match (source.downcast_ref::<ParseIntError>(), source.downcast_ref::<ParseFloatError>()) {
                    (Some(number), _) if *number.kind() == IntErrorKind::PosOverflow => (None, "use a smaller number"),
                    (Some(_), _) => (None, "use a whole number, at least 0"),
                    (_, Some(_)) => (None, "use a number"),
                    (None, None) => (Some(source.to_string()), "`--help` describes the value"),
                };
            let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
            (format!("invalid value `{value}`{reason} ({})", name(&argument)), Some(hint.to_string()))
        }
        ErrorKind::ArgumentConflict => {
            let (one, others) = (name(&argument()?), list(error, ContextKind::PriorArg));
            let others: Vec<String> = others.iter().map(|other| name(other)).filter(|other| *other != one).collect();
            match &others[..] {
                [] => (format!("{one} is given twice"), Some(format!("give {one} once"))),
                others => (
                    format!("{one} cannot be used together with {}", others.join(" and ")),
                    Some(format!("leave out {one} or {}", others.join(" and "))),
                ),
            }
        }
        ErrorKind::MissingRequiredArgument => {
            let missing: Vec<String> = list(error, ContextKind::InvalidArg).iter().map(|one| name(one)).collect();
            let usage = error.get(ContextKind::Usage)?.to_string();
            let usage = usage.split_whitespace().collect::<Vec<_>>().join(" ").replace("Usage: ", "usage: ");
            let such_as = if missing.iter().any(|one| one == "RUN") { "name a run, such as runs/digits; " } else { "" };
            (format!("no {} given", missing.join(" and no ")), Some(format!("{such_as}{usage}")))
        }
        ErrorKind::InvalidSubcommand => {
            let word = text(error, ContextKind::InvalidSubcommand)?;
            let near = list(error, ContextKind::SuggestedSubcommand);
            let hint = match near.first() {
                Some(near) => format!("did you mean {near}?"),
                None => "`--help` lists the commands".to_string(),
            };
            (format!("unknown command `{word}`"), Some(hint))
        }
        _ => return None,
    })
}

/// The first paragraph of what clap writes, and its tips.
fn plain(error: &clap::Error) -> (String, Option<String>) {
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n").map(|lines| lines.split_whitespace().collect::<Vec<_>>().join(" "));
    let what = paragraphs.next().unwrap_or_default();
    let tips: Vec<String> = paragraphs.filter_map(|text| Some(text.strip_prefix("tip: ")?.to_string())).collect();
    (what.strip_prefix("error: ").unwrap_or(&what).to_string(), (!tips.is_empty()).then(|| tips.join("; ")))
}

/// The name of an argument without its value: `--opt` of `--opt <NAME>`, `RUN` of `<RUN>...`.
fn name(argument: &str) -> String {
    let first = argument.split([' ', '=']).next().unwrap_or(argument);
    first.trim_end_matches("...").trim_matches(['<', '>', '[', ']']).to_string()
}

fn text(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => texts.first().cloned(),
        _ => None,
    }
}

fn list(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::Strings(texts)) => texts.clone(),
        Some(ContextValue::String(text)) => vec![text.clone()],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::command;
    use super::*;
    use crate::advice::Verb;
    use crate::cli::advice::Context;

    #[test]
    fn errors_of_the_parser_look_like_all_others() {
        for (line, what, hint) in [
            ("train --opt lyon", "invalid value `lyon` (--opt)", "did you mean lion?"),
            ("train --opt zzzz", "invalid value `zzzz` (--opt)", "use one of adam, adamw, lion, muon, sgd"),
            ("train --opt", "--opt has no value", "use one of adam, adamw, lion, muon, sgd"),
            ("train --save-every", "--save-every has no value", "write --save-every TIME|STEPS"),
            ("summary --batch-size -1", "invalid value `-1` (--batch-size)", "use a whole number, at least 0"),
            ("summary --batch-size x", "invalid value `x` (--batch-size)", "use a whole number, at least 0"),
            (
                "summary --batch-size 99999999999999999999",
                "invalid value `99999999999999999999` (--batch-size)",
                "use a smaller number",
            ),
            ("bench step --seconds x", "invalid value `x` (--seconds)", "use a number"),
            ("train -q -v", "--quiet cannot be used together with --verbose", "leave out --quiet or --verbose"),
            ("train --preset a --preset b", "--preset is given twice", "give --preset once"),
            ("compare", "no RUN given", "name a run, such as runs/digits; usage: vitreous compare <RUN>..."),
            ("data fech", "unknown command `fech`", "did you mean fetch?"),
            ("completions elvis", "invalid value `elvis` (SHELL)", "did you mean elvish?"),
        ] {
            let words = ["vitreous"].into_iter().chain(line.split(' '));
            let error = command().try_get_matches_from(words).unwrap_err();
            let (found, found_hint) = usage_error(&error).text(&Context::of(Verb::Train, false));
            assert_eq!((found.as_str(), found_hint.as_deref()), (what, Some(hint)), "{line}");
        }
        // Negative numbers are values everywhere.
        let seconds = command().try_get_matches_from(["vitreous", "bench", "step", "--seconds", "-1"]);
        assert!(seconds.is_ok(), "{seconds:?}");
    }
}
