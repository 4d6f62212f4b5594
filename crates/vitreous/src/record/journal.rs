//! What a run writes as it goes: `results.csv`, `metrics.jsonl` and, for everything a clock says, `timing.jsonl`.
//!
//! Lines are only ever added, each in one write, and are on the disk when an epoch ends.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::RecordError;

const CSV_HEADER: &str = "epoch,step,train_loss,train_acc,val_loss,val_acc,val_top5,lr\n";

/// The growing files of a run.
pub struct Journal {
    results: Lines,
    metrics: Lines,
    timing: Lines,
}

/// One row of `results.csv`: what an epoch came to. Accuracies are fractions of 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EpochRow {
    /// Counted from 1.
    pub epoch: u64,
    /// Steps since the start of the run.
    pub step: u64,
    /// Mean over the epoch's images, of a reader over its words, each at its own step.
    pub train_loss: f64,
    /// As `train_loss`.
    pub train_acc: f64,
    /// What the validation split said, where there is one.
    pub validation: Option<Validation>,
    /// Learning rate of the epoch's last step.
    pub lr: f64,
}

/// What an epoch's weights reached on the validation split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Validation {
    /// Mean cross-entropy, without label smoothing.
    pub loss: f64,
    /// Part of the images that were named right, or of the strips that were read right as a whole.
    pub accuracy: f64,
    /// Part of the images whose class is among the five greatest logits; strips have no such thing.
    pub top5: Option<f64>,
}

/// One line of `metrics.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MetricsLine {
    /// Steps since the start of the run.
    pub step: u64,
    /// Counted from 1.
    pub epoch: u64,
    /// Mean over the images, of a reader over the words, since the last line.
    pub loss: f64,
    /// As `loss`.
    pub accuracy: f64,
    /// Norm of the step's gradient, before clipping.
    pub gradient_norm: f64,
    /// Learning rate of the step.
    pub lr: f64,
}

impl Journal {
    /// Starts the three files in a run folder.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn start(folder: &Path) -> Result<Self, RecordError> {
        let mut results = Lines::open(folder.join("results.csv"))?;
        results.add(CSV_HEADER)?;
        let metrics = Lines::open(folder.join("metrics.jsonl"))?;
        Ok(Journal { results, metrics, timing: Lines::open(folder.join("timing.jsonl"))? })
    }

    /// Adds a row to `results.csv` and brings all three files to the disk.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn epoch(&mut self, row: &EpochRow) -> Result<(), RecordError> {
        let EpochRow { epoch, step, train_loss, train_acc, validation, lr } = row;
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        let loss = number(validation.map(|found| found.loss));
        let top1 = number(validation.map(|found| found.accuracy));
        let top5 = number(validation.and_then(|found| found.top5));
        self.results.add(&format!("{epoch},{step},{train_loss},{train_acc},{loss},{top1},{top5},{lr}\n"))?;
        [&self.results, &self.metrics, &self.timing].into_iter().try_for_each(Lines::sync)
    }

    /// Adds a line to `metrics.jsonl`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn metrics(&mut self, line: &MetricsLine) -> Result<(), RecordError> {
        self.metrics.add_json(line)
    }

    /// Adds a line to `timing.jsonl`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn timing(&mut self, line: &impl Serialize) -> Result<(), RecordError> {
        self.timing.add_json(line)
    }
}

/// A file to which lines are added.
struct Lines {
    path: PathBuf,
    file: File,
}

impl Lines {
    fn open(path: PathBuf) -> Result<Lines, RecordError> {
        let file = OpenOptions::new().create_new(true).append(true).open(&path);
        let file = file.map_err(|error| RecordError::write(&path, &error))?;
        Ok(Lines { path, file })
    }

    fn add(&mut self, line: &str) -> Result<(), RecordError> {
        self.file.write_all(line.as_bytes()).map_err(|error| RecordError::write(&self.path, &error))
    }

    fn add_json(&mut self, line: &impl Serialize) -> Result<(), RecordError> {
        let mut text = serde_json::to_string(line).expect("a line is plain numbers and texts");
        text.push('\n');
        self.add(&text)
    }

    fn sync(&self) -> Result<(), RecordError> {
        self.file.sync_data().map_err(|error| RecordError::write(&self.path, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_the_columns_of_the_header_with_and_without_validation() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::start(folder.path()).unwrap();
        let row = EpochRow { epoch: 1, step: 7, train_loss: 2.5, train_acc: 0.25, validation: None, lr: 1e-5 };
        journal.epoch(&row).unwrap();
        journal
            .epoch(&EpochRow {
                epoch: 2,
                step: 14,
                validation: Some(Validation { loss: 1.5, accuracy: 0.5, top5: Some(0.75) }),
                ..row
            })
            .unwrap();
        let text = std::fs::read_to_string(folder.path().join("results.csv")).unwrap();
        let expected = "epoch,step,train_loss,train_acc,val_loss,val_acc,val_top5,lr\n\
                        1,7,2.5,0.25,,,,0.00001\n\
                        2,14,2.5,0.25,1.5,0.5,0.75,0.00001\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_metrics_line_is_one_object() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::start(folder.path()).unwrap();
        let line = MetricsLine { step: 3, epoch: 1, loss: 0.5, accuracy: 0.75, gradient_norm: 1.25, lr: 0.001 };
        journal.metrics(&line).unwrap();
        journal.metrics(&MetricsLine { step: 6, ..line }).unwrap();
        let text = std::fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((lines.len(), lines[1]["step"].as_u64(), lines[0]["loss"].as_f64()), (2, Some(6), Some(0.5)));
    }
}
