//! The union of all errors, and how one is shown: `error:` and what is wrong, then `hint:` and the way out.

use std::process::ExitCode;

use super::flags;
use crate::config::error::ConfigError;
use crate::fetch::FetchError;
use crate::record::RecordError;
use crate::train::TrainError;

/// An error as it is shown.
#[derive(Debug)]
pub struct CliError {
    message: String,
    hint: Option<String>,
    status: u8,
    /// The table of the keys in the hint, where the user knows them as flags.
    table: Option<String>,
}

impl CliError {
    /// Something the user can mend.
    pub fn user(message: impl Into<String>, hint: Option<String>) -> Self {
        CliError { message: message.into(), hint, status: 2, table: None }
    }

    /// Something that went wrong while working.
    pub fn failure(message: impl Into<String>, hint: Option<String>) -> Self {
        CliError { message: message.into(), hint, status: 1, table: None }
    }

    /// Says the keys of the hint as flags of `train`, or, for commands without these, as `--set table.key=value`.
    pub fn in_flags(self, of_train: bool) -> Self {
        let table = self.table.as_deref();
        let hint = self.hint.map(|hint| table.map_or(hint.clone(), |table| flags::say(&hint, table, of_train)));
        CliError { hint, ..self }
    }

    /// Prints the error and returns the exit status.
    pub fn report(&self) -> ExitCode {
        say!("error: {}", self.message);
        if let Some(hint) = &self.hint {
            say!("hint: {hint}");
        }
        ExitCode::from(self.status)
    }
}

/// Makes the errors of modules into errors of the command line.
macro_rules! from_module_error {
    ($($error:ty),* $(,)?) => {
        $(impl From<$error> for CliError {
            fn from(error: $error) -> Self {
                CliError::user(error.to_string(), error.hint())
            }
        })*
    };
}

from_module_error!(
    crate::checkpoint::CheckpointError,
    crate::data::DataError,
    crate::evaluate::EvaluateError,
    crate::sweep::SweepError,
);

impl From<RecordError> for CliError {
    fn from(error: RecordError) -> Self {
        let (message, hint) = (error.to_string(), error.hint());
        if error.is_final() { CliError::failure(message, hint) } else { CliError::user(message, hint) }
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        let table = error.flags_of().map(str::to_string);
        CliError { table, ..CliError::user(error.to_string(), error.hint()) }
    }
}

impl From<TrainError> for CliError {
    fn from(error: TrainError) -> Self {
        let (message, hint) = (error.to_string(), error.hint());
        match error {
            // Hours of work may lie before these: that is no bad input.
            TrainError::NotFinite(_)
            | TrainError::AllSkipped { .. }
            | TrainError::ValidationNotFinite { .. }
            | TrainError::WeightsNotFinite { .. }
            | TrainError::Record(_) => CliError::failure(message, hint),
            TrainError::Batch { .. }
            | TrainError::Memory { .. }
            | TrainError::Disk { .. }
            | TrainError::Thread { .. }
            | TrainError::State { .. }
            | TrainError::OneValue { .. }
            | TrainError::SavedState(_) => CliError::user(message, hint),
        }
    }
}

impl From<FetchError> for CliError {
    fn from(error: FetchError) -> Self {
        let (message, hint) = (error.to_string(), error.hint());
        match error {
            // It may work in an hour, with the same words.
            FetchError::NoMirror { .. } | FetchError::Busy { .. } => CliError::failure(message, hint),
            _ => CliError::user(message, hint),
        }
    }
}

impl From<vitreous_engine::GraphError> for CliError {
    fn from(error: vitreous_engine::GraphError) -> Self {
        CliError::user(error.to_string(), None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::layers::Layers;

    #[test]
    fn a_disk_that_fills_up_while_training_is_no_bad_input() {
        let full = RecordError::Write { path: "runs/a".into(), reason: "no space is left".to_string() };
        assert_eq!(CliError::from(full.clone()).status, 2);
        assert_eq!(CliError::from(TrainError::Record(full)).status, 1);
    }

    #[test]
    fn a_hint_speaks_of_flags_where_flags_were_used_and_of_keys_where_a_file_was() {
        let hint = |written: &str, set: Option<(&str, i64, &str)>, of_train| {
            let mut layers = Layers::new();
            layers.add_toml(written, "my.toml").unwrap();
            if let Some((key, value, flag)) = set {
                layers.put(key, value, flag).unwrap();
            }
            CliError::from(layers.finish().unwrap_err()).in_flags(of_train).hint.unwrap()
        };
        let epochs = Some(("train.epochs", 1, "--epochs"));
        assert_eq!(hint("[train]\nwarmup_epochs = 2", epochs, true), "use --warmup-epochs 0 for none");
        assert_eq!(hint("[train]\nwarmup_epochs = 2", epochs, false), "use --set train.warmup_epochs=0 for none");
        assert_eq!(hint("[train]\nepochs = 1\nwarmup_epochs = 2", None, true), "use warmup_epochs 0 for none");
        let set = Some(("train.epochs", 1, "--set"));
        assert_eq!(hint("[train]\nwarmup_epochs = 2", set, true), "use warmup_epochs 0 for none");
    }
}
