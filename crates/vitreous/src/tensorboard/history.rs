//! The events that follow from what a run recorded: lines of `metrics.jsonl`, rows of `results.csv`, times of
//! `timing.jsonl`.

use serde::Deserialize;

use super::events::{Stamp, scalars};
use super::messages::Event;
use crate::record::{EpochRow, Folder, History, MetricsLine, Validation, json_lines};

/// The event of some steps.
pub fn line_event(line: &MetricsLine, stamp: Stamp) -> Event {
    let values = [
        ("train_loss", line.loss),
        ("train_acc", line.accuracy),
        ("lr", line.lr),
        ("epoch", line.epoch as f64),
        ("gradient_norm", line.gradient_norm),
    ];
    scalars(stamp, values)
}

/// The event of an epoch.
pub fn epoch_event(row: &EpochRow, stamp: Stamp) -> Event {
    let of = |Validation { loss, accuracy, .. }| [("val_loss", loss), ("val_acc", accuracy)];
    let train = [("train_loss_epoch", row.train_loss), ("train_acc_epoch", row.train_acc)];
    scalars(stamp, train.into_iter().chain(row.validation.into_iter().flat_map(of)))
}

/// The history of a run, and when its steps were taken.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TimedHistory {
    /// What was recorded.
    pub history: History,
    /// When the run was started, in seconds since 1970.
    started: f64,
    /// Steps, and the seconds from the start until they were taken.
    times: Vec<(u64, f64)>,
}

#[derive(Deserialize)]
struct TimedLine {
    step: u64,
    seconds: Option<f64>,
}

impl TimedHistory {
    /// Reads the records of a run that was started at this time. A file that is missing or cannot be read says nothing.
    pub fn read(folder: &Folder, started: f64) -> TimedHistory {
        let mut times: Vec<(u64, f64)> = Vec::new();
        for TimedLine { step, seconds } in json_lines(folder, "timing.jsonl").flatten() {
            let Some(seconds) = seconds else { continue };
            while times.pop_if(|(earlier, _)| *earlier >= step).is_some() {}
            times.push((step, seconds));
        }
        TimedHistory { history: History::read(folder).unwrap_or_default(), started, times }
    }

    /// When a step was taken, as far as that was recorded.
    pub fn stamp(&self, step: u64) -> Stamp {
        let before = self.times.partition_point(|(timed, _)| *timed <= step);
        Stamp { step, time: self.started + self.times[..before].last().map_or(0.0, |(_, seconds)| *seconds) }
    }

    /// Whether a line ends with this step.
    pub fn has_line(&self, step: u64) -> bool {
        self.history.lines.binary_search_by_key(&step, |line| line.step).is_ok()
    }

    /// Whether an epoch ends with this step.
    pub fn has_epoch(&self, step: u64) -> bool {
        self.history.epochs.binary_search_by_key(&step, |row| row.step).is_ok()
    }
}
