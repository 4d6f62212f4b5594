//! Predictions for image files, which are decoded, scaled and normalized like the training images.

mod unusual;

use std::path::Path;
use std::sync::Mutex;

use serde::Serialize;

use crate::data::{DataError, Decoded, decode_picture};
use crate::evaluate::reading::Reading;
use crate::evaluate::{BATCH, Classifier, Verdict, top};
use crate::parallel::on_threads;

/// A class and its probability.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Guess {
    /// The class's name.
    pub class: String,
    /// From 0 to 1.
    pub probability: f64,
}

/// The prediction for one image file, with a warning.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer<T> {
    /// The classes, or the digits.
    pub value: T,
    /// How the image differs from the training images, if it differs so much that the prediction is unreliable.
    pub warning: Option<String>,
}

impl<T> Answer<T> {
    /// Converts the value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Answer<U> {
        Answer { value: change(self.value), warning: self.warning }
    }
}

impl Classifier {
    /// Returns for each image file every class with its probability, the most probable first.
    ///
    /// # Errors
    /// For each file that cannot be read or decoded.
    pub fn predict(&mut self, images: &[impl AsRef<Path> + Sync]) -> Vec<Result<Answer<Vec<Guess>>, DataError>> {
        answers(self, images, |classifier, images| {
            let logits = classifier.logits(images);
            let name = |class: usize| classifier.class_names()[class].clone();
            let guess = |verdict: Verdict| Guess { class: name(verdict.class), probability: verdict.probability };
            logits.iter().map(|logits| top(logits, logits.len()).into_iter().map(guess).collect()).collect()
        })
    }

    /// Reads the digits of each image file, scaled to the size of a strip, by a beam search of this width.
    ///
    /// # Errors
    /// For each file that cannot be read or decoded.
    ///
    /// # Panics
    /// When the model is not a reader.
    pub fn read_strips(
        &mut self,
        images: &[impl AsRef<Path> + Sync],
        beam: usize,
    ) -> Vec<Result<Answer<Reading>, DataError>> {
        answers(self, images, |classifier, images| classifier.read_images(images, beam))
    }
}

/// Decodes the files, and predicts the valid images in batches: those of one batch are in memory at once.
fn answers<T>(
    classifier: &mut Classifier,
    paths: &[impl AsRef<Path> + Sync],
    mut ask: impl FnMut(&mut Classifier, &[&[u8]]) -> Vec<T>,
) -> Vec<Result<Answer<T>, DataError>> {
    let mut all = Vec::with_capacity(paths.len());
    for paths in paths.chunks(BATCH) {
        let decoded = decode(classifier, paths);
        let good: Vec<&[u8]> = decoded.iter().flatten().map(|decoded| decoded.pixels.as_slice()).collect();
        let mut values = if good.is_empty() { Vec::new() } else { ask(classifier, &good) }.into_iter();
        let (shape, data) = (classifier.shape(), &classifier.config().data);
        all.extend(decoded.iter().map(|image| match image {
            Ok(image) => {
                let value = values.next().expect("a decoded image has a prediction");
                let warning = unusual::warning(image, shape, data, classifier.training_pixels());
                Ok(Answer { value, warning })
            }
            Err(error) => Err(error.clone()),
        }));
    }
    all
}

/// Decodes image files on the threads of the model.
fn decode(classifier: &Classifier, paths: &[impl AsRef<Path> + Sync]) -> Vec<Result<Decoded, DataError>> {
    let (shape, resize) = (classifier.shape(), classifier.config().data.resize);
    let mut decoded: Vec<Option<Result<Decoded, DataError>>> = paths.iter().map(|_| None).collect();
    let jobs = Mutex::new(decoded.iter_mut().zip(paths));
    on_threads(classifier.threads().min(paths.len()), || {
        loop {
            let job = jobs.lock().expect("no thread panics with the lock").next();
            let Some((answer, path)) = job else { break };
            *answer = Some(decode_picture(path.as_ref(), shape, resize));
        }
    });
    decoded.into_iter().map(|answer| answer.expect("each file was a job")).collect()
}
