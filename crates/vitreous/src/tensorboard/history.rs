//! What the records of a run say of its course: lines of `metrics.jsonl`, rows of `results.csv`, times of `timing.jsonl`.

use serde::Deserialize;

use super::events::{Stamp, scalars};
use super::messages::Event;
use crate::csv;
use crate::record::Folder;

/// Largest record that is read, in bytes.
const RECORD_MAX: u64 = 1 << 30;

/// Some steps of a training: a line of `metrics.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// The last of the steps.
    pub step: u64,
    /// Counted from 1.
    pub epoch: u64,
    /// Mean over the steps.
    pub loss: f64,
    /// As `loss`.
    pub accuracy: f64,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Norm of its gradient.
    pub gradient_norm: f64,
}

/// An epoch: a row of `results.csv`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Its last step.
    pub step: u64,
    /// Training loss and accuracy.
    pub train: [f64; 2],
    /// Validation loss and accuracy, if there is a validation split.
    pub validation: Option<[f64; 2]>,
}

impl Line {
    /// The events of the line.
    pub fn event(&self, stamp: Stamp) -> Event {
        let Line { epoch, loss, accuracy, lr, gradient_norm, .. } = *self;
        let values = [("train_loss", loss), ("train_acc", accuracy), ("lr", lr), ("epoch", epoch as f64)];
        scalars(stamp, values.into_iter().chain([("gradient_norm", gradient_norm)]))
    }
}

impl Row {
    /// The event of the epoch.
    pub fn event(&self, stamp: Stamp) -> Event {
        let [loss, accuracy] = self.train;
        let validation = self.validation.into_iter().flat_map(|[loss, acc]| [("val_loss", loss), ("val_acc", acc)]);
        scalars(stamp, [("train_loss_epoch", loss), ("train_acc_epoch", accuracy)].into_iter().chain(validation))
    }
}

/// The course of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// In the order of their steps.
    pub lines: Vec<Line>,
    /// In the order of their steps.
    pub rows: Vec<Row>,
    /// When the run was started, in seconds since 1970.
    started: f64,
    /// Steps, and the seconds from the start until they were taken.
    times: Vec<(u64, f64)>,
}

/// A line of `metrics.jsonl` or `timing.jsonl`; NaN is `null` in JSON. One with a `rollback` says that its epoch starts
/// again.
#[derive(Deserialize)]
struct Written {
    step: u64,
    epoch: Option<u64>,
    rollback: Option<u32>,
    loss: Option<f64>,
    accuracy: Option<f64>,
    lr: Option<f64>,
    gradient_norm: Option<f64>,
    seconds: Option<f64>,
}

fn written(text: &str) -> impl Iterator<Item = Written> {
    // The last line may be incomplete after a power cut.
    text.lines().filter_map(|line| serde_json::from_str(line).ok())
}

impl History {
    /// Reads the records of a run that was started at this time. A file that is missing or cannot be read says nothing.
    pub fn read(folder: &Folder, started: f64) -> History {
        let text = |name: &str| folder.read_text(name, RECORD_MAX).unwrap_or_default();
        let number = |value: Option<f64>| value.unwrap_or(f64::NAN);
        let mut lines: Vec<Line> = Vec::new();
        for line in written(&text("metrics.jsonl")) {
            let Written { step, epoch, rollback, .. } = line;
            let Some(epoch) = epoch else { continue };
            // What is taken again comes once.
            let is_void = |earlier: &mut Line| earlier.step >= step || rollback.is_some() && earlier.epoch >= epoch;
            while lines.pop_if(is_void).is_some() {}
            if rollback.is_none() {
                let [loss, accuracy] = [line.loss, line.accuracy].map(number);
                let (lr, gradient_norm) = (number(line.lr), number(line.gradient_norm));
                lines.push(Line { step, epoch, loss, accuracy, lr, gradient_norm });
            }
        }
        let mut rows = csv::rows(&text("results.csv")).collect::<Vec<_>>().into_iter();
        let titles = rows.next().unwrap_or_default();
        let row = |cells: Vec<String>| {
            let cell = |title: &str| cells.get(titles.iter().position(|found| found == title)?);
            let value = |title: &str| cell(title)?.parse::<f64>().ok();
            let validation = value("val_loss").zip(value("val_acc")).map(|(loss, accuracy)| [loss, accuracy]);
            let train = [number(value("train_loss")), number(value("train_acc"))];
            Some(Row { step: cell("step")?.parse().ok()?, train, validation })
        };
        let rows = rows.filter_map(row).collect();
        let mut times: Vec<(u64, f64)> = Vec::new();
        for (step, seconds) in written(&text("timing.jsonl")).filter_map(|line| Some((line.step, line.seconds?))) {
            while times.pop_if(|(earlier, _)| *earlier >= step).is_some() {}
            times.push((step, seconds));
        }
        History { lines, rows, started, times }
    }

    /// When a step was taken, as far as that was recorded.
    pub fn stamp(&self, step: u64) -> Stamp {
        let before = self.times.partition_point(|(timed, _)| *timed <= step);
        Stamp { step, time: self.started + self.times[..before].last().map_or(0.0, |(_, seconds)| *seconds) }
    }

    /// Whether a line ends with this step.
    pub fn has_line(&self, step: u64) -> bool {
        self.lines.binary_search_by_key(&step, |line| line.step).is_ok()
    }

    /// Whether an epoch ends with this step.
    pub fn has_row(&self, step: u64) -> bool {
        self.rows.binary_search_by_key(&step, |row| row.step).is_ok()
    }
}
