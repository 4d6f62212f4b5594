//! Why a step cannot be timed.

use thiserror::Error;
use vitreous_engine::GraphError;

use crate::advice::{Explain, Fault, Suggestion};
use crate::numbers;
use crate::train::TrainError;

/// Why a step cannot be timed.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum TimingError {
    /// There is too little memory.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The config makes no graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A model timed against itself seems to differ.
    #[error(
        "timings on this machine vary too much: the same training step, timed against itself, differs by up to {}, more than {}",
        numbers::percent(*spread), numbers::percent(*limit)
    )]
    Noisy { spread: f64, limit: f64 },
}

impl Explain for TimingError {
    fn suggestion(&self) -> Option<Suggestion> {
        match self {
            TimingError::Train(error) => error.suggestion(),
            TimingError::Graph(_) => None,
            TimingError::Noisy { .. } => {
                Some(Suggestion::new().text("end other programs").or().using("fewer").key("train.threads"))
            }
        }
    }

    fn fault(&self) -> Fault {
        match self {
            TimingError::Train(error) => error.fault(),
            TimingError::Graph(_) => Fault::Input,
            TimingError::Noisy { .. } => Fault::Work,
        }
    }
}
