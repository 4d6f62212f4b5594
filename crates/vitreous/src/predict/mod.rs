//! Classes of pictures, prepared as the model's training images were: decoded, scaled, normalised.

use std::path::PathBuf;

use serde::Serialize;

use crate::data::{DataError, decode_picture};
use crate::evaluate::{Classifier, top};

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
    let decoded = decode(classifier, pictures, threads);
    let good: Vec<&[u8]> = decoded.iter().flatten().map(Vec::as_slice).collect();
    let logits = if good.is_empty() { Vec::new() } else { classifier.logits(&good) };
    let name = |class: usize| classifier.class_names()[class].clone();
    let mut guesses = logits.iter().map(|logits| {
        let verdicts = top(logits, count).into_iter();
        verdicts.map(|verdict| Guess { class: name(verdict.class), probability: verdict.probability }).collect()
    });
    let answers = decoded.iter().map(|picture| match picture {
        Ok(_) => Ok(guesses.next().expect("a good picture has logits")),
        Err(error) => Err(error.clone()),
    });
    answers.collect()
}

/// Decodes pictures, each thread its own share of them.
fn decode(classifier: &Classifier, pictures: &[PathBuf], threads: usize) -> Vec<Result<Vec<u8>, DataError>> {
    let (shape, resize) = (classifier.shape(), classifier.config().data.resize);
    let share = pictures.len().div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        let work = |own: &[PathBuf]| own.iter().map(|path| decode_picture(path, shape, resize)).collect::<Vec<_>>();
        let workers: Vec<_> = pictures.chunks(share).map(|own| scope.spawn(move || work(own))).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a decoder returns its errors")).collect()
    })
}
