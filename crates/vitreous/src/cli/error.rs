//! The union of all errors, and how one is shown: `error:` and what is wrong, then `hint:` and what to do. With `--json`
//! it is one JSON object instead, also on stderr: stdout holds a result or nothing, so no program takes an error for one.

use std::process::ExitCode;

use serde_json::json;

use super::advice::Context;
use crate::advice::{Explain, Fault, Place, Suggestion};

/// An error as printed.
#[derive(Debug)]
pub struct CliError {
    what: String,
    key: Option<String>,
    place: Option<Box<Place>>,
    suggestion: Option<Suggestion>,
    fault: Fault,
    /// What it is the sum of, each with the image, run or folder that it is about.
    causes: Vec<(String, CliError)>,
}

impl CliError {
    /// An error that the user can fix.
    pub fn user(what: impl Into<String>, hint: Option<String>) -> Self {
        let suggestion = hint.map(|hint| Suggestion::new().text(hint));
        CliError { what: what.into(), key: None, place: None, suggestion, fault: Fault::Input, causes: Vec::new() }
    }

    /// An error at run time.
    pub fn failure(what: impl Into<String>, hint: Option<String>) -> Self {
        CliError { fault: Fault::Work, ..CliError::user(what, hint) }
    }

    /// Adds the errors that this one is the sum of. As text, they were printed before it; as JSON, they are part of it.
    pub fn because_of(self, causes: Vec<(String, CliError)>) -> Self {
        CliError { causes, ..self }
    }

    /// The same with another hint.
    pub fn with_hint(self, suggestion: Suggestion) -> Self {
        CliError { suggestion: Some(suggestion), ..self }
    }

    /// Prints the error and returns the exit status.
    pub fn report(&self, context: &Context) -> ExitCode {
        if context.json {
            // One line, however long it is.
            let _ = std::io::Write::write_all(&mut std::io::stderr(), line!("{}", self.json(context)).as_bytes());
        } else {
            let (what, hint) = self.text(context);
            complain!("error: {what}");
            if let Some(hint) = hint {
                complain!("hint: {hint}");
            }
        }
        ExitCode::from(self.status())
    }

    /// What is wrong, and what to do about it.
    pub fn text(&self, context: &Context) -> (String, Option<String>) {
        let place = match self.place.as_deref() {
            Some(Place::Argument(argument)) => context.flag(argument.name()).map(|flag| format!(" ({flag})")),
            _ => None,
        };
        let place = place.unwrap_or_default();
        let hint = self.suggestion.as_ref().map(|suggestion| context.render(suggestion, self.place.as_deref()));
        (format!("{}{place}", self.what), hint)
    }

    fn json(&self, context: &Context) -> serde_json::Value {
        json!({ "error": self.parts(context) })
    }

    fn parts(&self, context: &Context) -> serde_json::Value {
        let place = self.place.as_deref();
        let mut parts = json!({
            "what": self.what,
            "key": self.key,
            "place": place.map(|place| context.json_of_place(place)),
            "suggestion": self.suggestion.as_ref().map(|suggestion| context.json_of(suggestion, place)),
            "status": self.status(),
        });
        if !self.causes.is_empty() {
            let cause = |(of, error): &(String, CliError)| {
                let mut parts = error.parts(context);
                parts["of"] = json!(of);
                parts
            };
            parts["causes"] = self.causes.iter().map(cause).collect();
        }
        parts
    }

    fn status(&self) -> u8 {
        match self.fault {
            Fault::Input => 2,
            Fault::Work => 1,
        }
    }
}

impl<E: Explain> From<E> for CliError {
    fn from(error: E) -> Self {
        CliError {
            what: error.to_string(),
            key: error.key(),
            place: error.place().map(Box::new),
            suggestion: error.suggestion(),
            fault: error.fault(),
            causes: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advice::Verb;
    use crate::config::layers::Layers;
    use crate::record::RecordError;
    use crate::train::TrainError;

    #[test]
    fn a_disk_that_is_full_is_no_bad_input() {
        let error = |kind| RecordError::Write { path: "runs/a".into(), kind, reason: String::new() };
        let full = error(std::io::ErrorKind::StorageFull);
        assert_eq!(CliError::from(full.clone()).status(), 1);
        assert_eq!(CliError::from(TrainError::Record(full)).status(), 1);
        assert_eq!(CliError::from(error(std::io::ErrorKind::PermissionDenied)).status(), 2);
    }

    #[test]
    fn with_json_an_error_is_an_object_with_its_parts() {
        let folder = "runs/a b";
        let error = CliError::from(RecordError::Unclaimed { path: folder.into() });
        let json = error.json(&Context::of(Verb::Train, true));
        assert_eq!(json["error"]["status"], 1);
        assert_eq!(json["error"]["place"], json!({ "path": folder }));
        assert_eq!(json["error"]["suggestion"]["ways"][0]["commands"], json!(["vitreous train --resume 'runs/a b'"]));
    }

    #[test]
    fn a_hint_has_flags_where_flags_were_used_and_keys_where_a_file_was() {
        let hint = |written: &str, set: Option<(&str, i64, &str)>, verb: &str| {
            let mut layers = Layers::new();
            layers.add_toml(written, "my.toml").unwrap();
            if let Some((key, value, flag)) = set {
                layers.put(key, value, flag).unwrap();
            }
            let error = CliError::from(layers.finish().unwrap_err());
            error.text(&Context::named(&[verb])).1.unwrap()
        };
        let epochs = Some(("train.epochs", 1, "--epochs"));
        assert_eq!(hint("[train]\nwarmup_epochs = 2", epochs, "train"), "use --warmup-epochs 0 for no warm-up");
        let set = "use --set train.warmup_epochs=0 for no warm-up";
        assert_eq!(hint("[train]\nwarmup_epochs = 2", epochs, "summary"), set);
        assert_eq!(
            hint("[train]\nepochs = 1\nwarmup_epochs = 2", None, "train"),
            "use warmup_epochs = 0 for no warm-up"
        );
    }
}
