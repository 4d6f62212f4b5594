//! What is kept of an evaluation: `evaluation/<split>/` in the run's folder, with `report.json`, `confusion.csv`,
//! `confusion.txt` and `predictions.csv`; `evaluation/<split>-of-<data>/` for other images than the run's. A later
//! evaluation of the same images takes its place.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Prediction, Scores, predictions_csv};
use crate::data::SplitName;
use crate::record::{EvaluationRecord, RecordError, Weights, base_name, write_atomically};

/// An evaluation and what it was made with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The run.
    pub run: String,
    /// Which of its weights.
    pub weights: Weights,
    /// Epochs after which they were saved.
    pub epoch: u64,
    /// Optimiser steps after which they were saved.
    pub step: u64,
    /// The data set's name or folder.
    pub data: String,
    /// SHA-256 of the images that were loaded.
    pub fingerprint: String,
    /// Which of its images.
    pub split: SplitName,
    /// How often the run's test split was looked at, this time included.
    pub test_evaluations: u64,
    /// What was reached.
    #[serde(flatten)]
    pub scores: Scores,
}

impl Report {
    /// Where a split's files are in the folder of a run; `other` is the data's name where they are not the run's.
    pub fn folder(run: &Path, split: SplitName, other: Option<&str>) -> PathBuf {
        let split = if split == SplitName::Validation { "val".to_string() } else { split.to_string() };
        run.join("evaluation").join(other.map_or(split.clone(), |data| format!("{split}-of-{}", base_name(data))))
    }

    /// Reads what an earlier evaluation kept, where there is one that can be read.
    pub fn earlier(folder: &Path) -> Option<Report> {
        let text = fs::read_to_string(folder.join("report.json")).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Returns what the run's manifest keeps of it.
    pub fn record(&self) -> EvaluationRecord {
        let Scores { images, loss, top1, top5, .. } = self.scores;
        let loss = loss.is_finite().then_some(loss);
        EvaluationRecord { split: self.split, weights: self.weights, data: self.data.clone(), images, loss, top1, top5 }
    }

    /// Writes all files into a folder, which is made.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn save(&self, folder: &Path, predictions: &[Prediction]) -> Result<(), RecordError> {
        fs::create_dir_all(folder).map_err(|error| RecordError::write(folder, &error))?;
        let confusion = &self.scores.confusion;
        let mut json = serde_json::to_string(self).expect("a report is plain numbers and texts");
        json.push('\n');
        let files = [
            ("predictions.csv", predictions_csv(predictions, confusion.names())),
            ("confusion.csv", confusion.csv()),
            ("confusion.txt", confusion.text()),
            ("report.json", json),
        ];
        files.iter().try_for_each(|(name, text)| write_atomically(&folder.join(name), text.as_bytes()))
    }
}
