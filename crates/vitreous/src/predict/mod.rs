//! Predictions for image files, which are decoded, scaled and normalized like the training images.

mod unusual;

use std::path::PathBuf;
use std::sync::Mutex;

use serde::Serialize;

use crate::data::{DataError, Decoded, PixelRanges, decode_picture};
use crate::evaluate::reading::Reading;
use crate::evaluate::{Classifier, Verdict, top};
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

/// Returns the `count` most probable classes of each image file, the most probable first.
///
/// Files are decoded on `threads` threads and predicted as one batch: all of them are in memory at once.
/// `usual`: the pixel ranges of the training images, if the run has recorded them.
///
/// # Errors
/// For each file that cannot be read or decoded.
pub fn predict(
    classifier: &mut Classifier,
    pictures: &[PathBuf],
    usual: Option<&PixelRanges>,
    count: usize,
    threads: usize,
) -> Vec<Result<Answer<Vec<Guess>>, DataError>> {
    answers(classifier, pictures, usual, threads, |classifier, images| {
        let logits = classifier.logits(images);
        let name = |class: usize| classifier.class_names()[class].clone();
        let guess = |verdict: Verdict| Guess { class: name(verdict.class), probability: verdict.probability };
        logits.iter().map(|logits| top(logits, count).into_iter().map(guess).collect()).collect()
    })
}

/// Reads the digits of each image file, scaled to the size of a strip, by a beam search of this width.
///
/// # Errors
/// For each file that cannot be read or decoded.
///
/// # Panics
/// When the model is not a reader.
pub fn read(
    classifier: &mut Classifier,
    pictures: &[PathBuf],
    usual: Option<&PixelRanges>,
    beam: usize,
    threads: usize,
) -> Vec<Result<Answer<Reading>, DataError>> {
    answers(classifier, pictures, usual, threads, |classifier, images| classifier.read_images(images, beam))
}

/// Decodes the files, and predicts all valid images as one batch.
fn answers<T>(
    classifier: &mut Classifier,
    pictures: &[PathBuf],
    usual: Option<&PixelRanges>,
    threads: usize,
    ask: impl FnOnce(&mut Classifier, &[&[u8]]) -> Vec<T>,
) -> Vec<Result<Answer<T>, DataError>> {
    let decoded = decode(classifier, pictures, threads);
    let good: Vec<&[u8]> = decoded.iter().flatten().map(|decoded| decoded.pixels.as_slice()).collect();
    let mut answers = if good.is_empty() { Vec::new() } else { ask(classifier, &good) }.into_iter();
    let (shape, data) = (classifier.shape(), &classifier.config().data);
    let answer = |picture: &Result<Decoded, DataError>| match picture {
        Ok(decoded) => {
            let value = answers.next().expect("a decoded image has a prediction");
            Ok(Answer { value, warning: unusual::warning(decoded, shape, data, usual) })
        }
        Err(error) => Err(error.clone()),
    };
    decoded.iter().map(answer).collect()
}

/// Decodes image files on several threads.
fn decode(classifier: &Classifier, pictures: &[PathBuf], threads: usize) -> Vec<Result<Decoded, DataError>> {
    let (shape, resize) = (classifier.shape(), classifier.config().data.resize);
    let mut decoded: Vec<Option<Result<Decoded, DataError>>> = pictures.iter().map(|_| None).collect();
    let jobs = Mutex::new(decoded.iter_mut().zip(pictures));
    on_threads(threads.min(pictures.len()), || {
        loop {
            let job = jobs.lock().expect("no thread panics with the lock").next();
            let Some((answer, path)) = job else { break };
            *answer = Some(decode_picture(path, shape, resize));
        }
    });
    decoded.into_iter().map(|answer| answer.expect("each file was a job")).collect()
}
