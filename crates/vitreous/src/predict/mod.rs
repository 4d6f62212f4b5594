//! Classes of single pictures, prepared as the model's training images were: decoded, scaled, normalised.

use std::path::Path;

use serde::Serialize;

use crate::data::{DataError, decode_picture};
use crate::evaluate::reading::Reading;
use crate::evaluate::{Classifier, top};

/// A class and how probable the model finds it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Guess {
    /// The class's name.
    pub class: String,
    /// From 0 to 1.
    pub probability: f64,
}

/// Reads the digits of a picture, brought to the size of a strip, as a beam of so many beginnings.
///
/// # Errors
/// When the picture cannot be read or decoded.
///
/// # Panics
/// When the model is no reader.
pub fn read(classifier: &mut Classifier, picture: &Path, beam: usize) -> Result<Reading, DataError> {
    let pixels = decode_picture(picture, classifier.shape(), classifier.config().data.resize)?;
    Ok(classifier.read_one(&pixels, beam))
}

/// Returns the most probable classes of a picture, the most probable first, at most `count` of them.
///
/// # Errors
/// When the picture cannot be read or decoded.
pub fn predict(classifier: &mut Classifier, picture: &Path, count: usize) -> Result<Vec<Guess>, DataError> {
    let pixels = decode_picture(picture, classifier.shape(), classifier.config().data.resize)?;
    let logits = classifier.logits(&pixels);
    let name = |class: usize| classifier.class_names()[class].clone();
    let guesses = top(&logits, count).into_iter();
    Ok(guesses.map(|verdict| Guess { class: name(verdict.class), probability: verdict.probability }).collect())
}
