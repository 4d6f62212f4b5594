//! Classes of pictures, prepared as the model's training images were: decoded, scaled, normalised.

use std::path::PathBuf;
use std::sync::Mutex;

use serde::Serialize;

use crate::data::{DataError, decode_picture};
use crate::evaluate::reading::Reading;
use crate::evaluate::{Classifier, Verdict, top};
use crate::parallel::on_threads;

/// A class and how probable the model finds it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Guess {
    /// The class's name.
    pub class: String,
    /// From 0 to 1.
    pub probability: f64,
}

/// Returns for each picture its most probable classes, the most probable first, at most `count` of them.
///
/// Pictures are decoded on so many threads and go through the model together: all of them are in memory at once.
///
/// # Errors
/// In the place of a picture that cannot be read or decoded.
pub fn predict(
    classifier: &mut Classifier,
    pictures: &[PathBuf],
    count: usize,
    threads: usize,
) -> Vec<Result<Vec<Guess>, DataError>> {
    answers(classifier, pictures, threads, |classifier, images| {
        let logits = classifier.logits(images);
        let name = |class: usize| classifier.class_names()[class].clone();
        let guess = |verdict: Verdict| Guess { class: name(verdict.class), probability: verdict.probability };
        logits.iter().map(|logits| top(logits, count).into_iter().map(guess).collect()).collect()
    })
}

/// Reads the digits of each picture, brought to the size of a strip, as a beam of so many beginnings.
///
/// # Errors
/// In the place of a picture that cannot be read or decoded.
///
/// # Panics
/// When the model is no reader.
pub fn read(
    classifier: &mut Classifier,
    pictures: &[PathBuf],
    beam: usize,
    threads: usize,
) -> Vec<Result<Reading, DataError>> {
    answers(classifier, pictures, threads, |classifier, images| classifier.read_images(images, beam))
}

/// Asks about the pictures that can be decoded, all together.
fn answers<T>(
    classifier: &mut Classifier,
    pictures: &[PathBuf],
    threads: usize,
    ask: impl FnOnce(&mut Classifier, &[&[u8]]) -> Vec<T>,
) -> Vec<Result<T, DataError>> {
    let decoded = decode(classifier, pictures, threads);
    let good: Vec<&[u8]> = decoded.iter().flatten().map(Vec::as_slice).collect();
    let mut answers = if good.is_empty() { Vec::new() } else { ask(classifier, &good) }.into_iter();
    let answer = |picture: &Result<Vec<u8>, DataError>| match picture {
        Ok(_) => Ok(answers.next().expect("a good picture has an answer")),
        Err(error) => Err(error.clone()),
    };
    decoded.iter().map(answer).collect()
}

/// Decodes pictures on several threads.
fn decode(classifier: &Classifier, pictures: &[PathBuf], threads: usize) -> Vec<Result<Vec<u8>, DataError>> {
    let (shape, resize) = (classifier.shape(), classifier.config().data.resize);
    let mut decoded: Vec<Option<Result<Vec<u8>, DataError>>> = pictures.iter().map(|_| None).collect();
    let jobs = Mutex::new(decoded.iter_mut().zip(pictures));
    on_threads(threads.min(pictures.len()), || {
        loop {
            let job = jobs.lock().expect("no thread panics with the lock").next();
            let Some((answer, path)) = job else { break };
            *answer = Some(decode_picture(path, shape, resize).map(|decoded| decoded.pixels));
        }
    });
    decoded.into_iter().map(|answer| answer.expect("each picture was a job")).collect()
}
