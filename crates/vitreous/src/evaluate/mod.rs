//! What a trained model reaches on images it did not learn from.
//!
//! Images come without augmentation, in the order of the split. A [`Classifier`] is read from a weights file alone;
//! [`Scores`] follow from logits and labels; a [`Report`] is saved in the run folder.

mod calibration;
mod classes;
mod classifier;
mod confusion;
pub mod reading;
mod report;
mod scores;

use std::path::PathBuf;

use thiserror::Error;

pub use calibration::{Calibration, CalibrationBin};
pub use classes::ClassMap;
pub use classifier::{BATCH, Classifier, for_each_logits};
pub use confusion::{Confused, ConfusionMatrix};
pub use report::{Answers, Reached, Report};
pub use scores::{Accuracy, ClassScores, Scores, Tally, Totals, Verdict, top, wilson_interval};

use crate::advice::{Explain, Place, Suggestion};
use crate::checkpoint::CheckpointError;
use crate::config::error::ConfigError;
use crate::csv;
use crate::data::ImageShape;
use crate::text::some_of;

/// A model's prediction for one image of a split.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// The image's name.
    pub image: String,
    /// The image's class, by the model's table.
    pub label: usize,
    /// The class the model gives it.
    pub prediction: usize,
    /// The probability the model gives that class.
    pub probability: f64,
}

/// Writes predictions as CSV: `image,label,prediction,probability`, classes by name.
pub fn predictions_csv(predictions: &[Prediction], names: &[String]) -> String {
    let mut text = csv::line(["image", "label", "prediction", "probability"]);
    for one in predictions {
        let probability = format!("{:.6}", one.probability);
        text.push_str(&csv::line([&one.image, &names[one.label], &names[one.prediction], &probability].map(|s| &**s)));
    }
    text
}

/// Most classes that a hint lists.
const CLASSES_LISTED: usize = 20;

/// Why a model cannot be used, or not with some images.
#[derive(Clone, Debug, PartialEq, Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum EvaluateError {
    /// A class of the data is none of the model's.
    #[error("the model was not trained on the class `{class}` of the data")]
    UnknownClass { class: String, same_letters: Option<String>, known: Vec<String> },
    /// The images have another shape than the model's.
    #[error("the images are {found}, but the model needs {expected}")]
    ImageShape { found: ImageShape, expected: ImageShape },
    /// The header of a weights file is inconsistent.
    #[error("the header of the weights contradicts itself: {reason} ({})", path.display())]
    Contradiction { path: PathBuf, reason: String },
    /// The weights file is bad.
    #[error(transparent)]
    Weights(#[from] CheckpointError),
    /// The config in the weights file is bad.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl Explain for EvaluateError {
    fn place(&self) -> Option<Place> {
        match self {
            EvaluateError::Contradiction { path, .. } => Some(Place::Path(path.clone())),
            EvaluateError::Weights(error) => error.place(),
            EvaluateError::UnknownClass { .. } | EvaluateError::ImageShape { .. } => None,
            EvaluateError::Config(error) => error.place(),
        }
    }

    fn suggestion(&self) -> Option<Suggestion> {
        let new = Suggestion::new;
        match self {
            EvaluateError::UnknownClass { same_letters: Some(name), .. } => {
                Some(new().text(format!("the model has a class `{name}`: rename the folder")))
            }
            EvaluateError::UnknownClass { known, .. } => {
                Some(new().text(format!("its classes are {}", some_of(known, CLASSES_LISTED))))
            }
            EvaluateError::ImageShape { .. } => Some(new().text("use images like those it was trained on")),
            EvaluateError::Contradiction { .. } => Some(new().text("the file was changed: get it again")),
            EvaluateError::Weights(error) => error.suggestion(),
            EvaluateError::Config(error) => error.suggestion(),
        }
    }
}
