//! Which images of a split a run classifies correctly, read from the predictions that `evaluate` saved.

use std::path::{Path, PathBuf};

use super::Measure;
use crate::advice::{Argument, Command, Note, Suggestion, Verb};
use crate::csv;
use crate::evaluate::Report;
use crate::record::Weights;
use crate::regular;

/// The columns that `evaluate` saves for each image or strip: image, truth, prediction, probability.
const FILES: [&str; 2] = ["predictions.csv", "readings.csv"];

/// Largest file of answers that is read, in bytes: about three million images.
const ANSWERS_MAX: u64 = 256 << 20;

/// A run's answers about the images of a split.
pub struct Outcomes {
    /// SHA-256 of the images.
    pub fingerprint: String,
    /// Their names and what they show, in order.
    images: Vec<(String, String)>,
    /// Whether each was named right.
    right: Vec<bool>,
}

/// How two runs answer about the same images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pairs {
    /// Number of images.
    pub images: u64,
    /// Those that the first run alone names right.
    pub only_first: u64,
    /// Those that the second run alone names right.
    pub only_second: u64,
}

impl Outcomes {
    /// Reads the predictions of the weights with this accuracy, or returns why they are missing.
    pub fn read(run: &Path, by: Measure, weights: Weights, accuracy: f64) -> Result<Outcomes, Note> {
        let read = |(folder, report): (PathBuf, Report)| {
            let text = FILES.iter().find_map(|file| regular::read_text(&folder.join(file), ANSWERS_MAX).ok())?;
            let mut outcomes = Outcomes { fingerprint: report.fingerprint, images: Vec::new(), right: Vec::new() };
            for cells in csv::rows(&text).skip(1) {
                let [image, truth, answer, _probability] = <[String; 4]>::try_from(cells).ok()?;
                outcomes.right.push(truth == answer);
                outcomes.images.push((image, truth));
            }
            // Those of another beam, or of images that were others then, belong to another accuracy.
            let right = outcomes.right.iter().filter(|right| **right).count();
            let found = right as f64 / outcomes.right.len() as f64;
            ((found - accuracy).abs() < 1e-9).then_some(outcomes)
        };
        let mut kept = Report::kept(run, by.split()).filter(|(_, report)| report.weights == weights);
        kept.find_map(read).ok_or_else(|| {
            let evaluate = Command::new(Verb::Evaluate).operand(run).with(Argument::Split, by.flag());
            let suggestion = Suggestion::new().text("save them with").run(evaluate);
            Note::new(format!("the predictions of its {weights} weights are not saved")).suggest(suggestion)
        })
    }

    /// Pairs the predictions of two runs; none if their images differ.
    pub fn pairs(&self, other: &Outcomes) -> Option<Pairs> {
        if self.images != other.images {
            return None;
        }
        let count = |first, second| {
            let pairs = self.right.iter().zip(&other.right);
            pairs.filter(|pair| *pair == (&first, &second)).count() as u64
        };
        Some(Pairs {
            images: self.images.len() as u64,
            only_first: count(true, false),
            only_second: count(false, true),
        })
    }
}
