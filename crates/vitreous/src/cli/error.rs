//! The union of all errors, and how one is shown: `error:` and what is wrong, then `hint:` and the way out.

use std::process::ExitCode;

use crate::train::TrainError;

/// An error as it is shown.
#[derive(Debug)]
pub struct CliError {
    message: String,
    hint: Option<String>,
    status: u8,
}

impl CliError {
    /// Something the user can mend.
    pub fn user(message: impl Into<String>, hint: Option<String>) -> Self {
        CliError { message: message.into(), hint, status: 2 }
    }

    /// Something that went wrong while working.
    pub fn failure(message: impl Into<String>, hint: Option<String>) -> Self {
        CliError { message: message.into(), hint, status: 1 }
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
    crate::config::error::ConfigError,
    crate::data::DataError,
    crate::evaluate::EvaluateError,
    crate::record::RecordError,
    crate::sweep::SweepError,
);

impl From<TrainError> for CliError {
    fn from(error: TrainError) -> Self {
        let (message, hint) = (error.to_string(), error.hint());
        match error {
            // Hours of work may lie before these: that is no bad input.
            TrainError::NotFinite { .. }
            | TrainError::GradientNotFinite { .. }
            | TrainError::ValidationNotFinite { .. }
            | TrainError::WeightsNotFinite { .. }
            | TrainError::Record(_) => CliError::failure(message, hint),
            TrainError::Batch { .. } | TrainError::Memory { .. } => CliError::user(message, hint),
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
    use crate::record::RecordError;

    #[test]
    fn a_disk_that_fills_up_while_training_is_no_bad_input() {
        let full = RecordError::Write { path: "runs/a".into(), reason: "no space is left".to_string() };
        assert_eq!(CliError::from(full.clone()).status, 2);
        assert_eq!(CliError::from(TrainError::Record(full)).status, 1);
    }
}
