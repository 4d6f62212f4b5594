//! What a run recorded of its course, read back: lines of `metrics.jsonl` and rows of `results.csv`.

use std::io::{BufRead, BufReader, ErrorKind, Read};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{EpochRow, Folder, MetricsLine, RecordError, Validation};
use crate::csv;

/// Most bytes that are read of a record.
const RECORD_MAX: u64 = 256 << 20;

/// The course of a run. What is absent or cannot be read as a number is NaN.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// In the order of their steps; what was taken again after a roll-back is here once.
    pub lines: Vec<MetricsLine>,
    /// In the order of their steps.
    pub epochs: Vec<EpochRow>,
    /// Steps with a NaN or infinite loss, after which the epoch began again.
    pub rollbacks: Vec<u64>,
    /// Lines of `metrics.jsonl` and of `results.csv` that cannot be read.
    pub unreadable: [usize; 2],
}

/// A line of `metrics.jsonl`; NaN is `null` in JSON. One with a `rollback` says that its epoch begins again.
#[derive(Deserialize)]
struct Written {
    step: u64,
    epoch: u64,
    rollback: Option<u32>,
    loss: Option<f64>,
    accuracy: Option<f64>,
    gradient_norm: Option<f64>,
    lr: Option<f64>,
    #[serde(default)]
    spikes: Vec<u64>,
    #[serde(default)]
    skipped: Vec<u64>,
}

impl History {
    /// Reads the records of a run; one that has none has recorded nothing.
    ///
    /// # Errors
    /// When `results.csv` cannot be read. Lines that are incomplete are counted.
    pub fn read(folder: &Folder) -> Result<History, RecordError> {
        let mut history = History::default();
        for line in json_lines(folder, "metrics.jsonl") {
            match line {
                Some(line) => history.add_line(line),
                None => history.unreadable[0] += 1,
            }
        }
        let results = match folder.read_text("results.csv", RECORD_MAX) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            read => read.map_err(|error| RecordError::read(&folder.path().join("results.csv"), &error))?,
        };
        (history.epochs, history.unreadable[1]) = epochs(&results);
        Ok(history)
    }

    fn add_line(&mut self, line: Written) {
        let Written { step, epoch, rollback, spikes, skipped, .. } = line;
        let is_void = |earlier: &mut MetricsLine| earlier.step >= step || rollback.is_some() && earlier.epoch >= epoch;
        while self.lines.pop_if(is_void).is_some() {}
        if rollback.is_some() {
            return self.rollbacks.push(step);
        }
        let [loss, accuracy, gradient_norm, lr] =
            [line.loss, line.accuracy, line.gradient_norm, line.lr].map(|value| value.unwrap_or(f64::NAN));
        self.lines.push(MetricsLine { step, epoch, loss, accuracy, gradient_norm, lr, spikes, skipped });
    }
}

/// The lines of a file; none for one that is damaged, as the last may be after a power cut.
pub fn json_lines<T: DeserializeOwned>(folder: &Folder, name: &str) -> impl Iterator<Item = Option<T>> {
    let lines = folder.open_file(name).map(|file| BufReader::new(file.take(RECORD_MAX)).split(b'\n'));
    let lines = lines.into_iter().flatten().map_while(Result::ok);
    lines.map(|line| serde_json::from_slice(&line).ok())
}

/// The epochs, and the number of rows that are damaged.
fn epochs(results: &str) -> (Vec<EpochRow>, usize) {
    let mut rows = csv::rows(results);
    let titles = rows.next().unwrap_or_default();
    let epoch = |cells: Vec<String>| {
        let cell = |title: &str| cells.get(titles.iter().position(|found| found == title)?);
        let value = |title: &str| cell(title)?.parse::<f64>().ok();
        let number = |title: &str| value(title).unwrap_or(f64::NAN);
        let found = value("val_loss").zip(value("val_acc"));
        Some(EpochRow {
            epoch: cell("epoch")?.parse().ok()?,
            step: cell("step")?.parse().ok()?,
            train_loss: number("train_loss"),
            train_acc: number("train_acc"),
            validation: found.map(|(loss, accuracy)| Validation { loss, accuracy, top5: value("val_top5") }),
            lr: number("lr"),
        })
    };
    let (mut epochs, mut unreadable): (Vec<EpochRow>, usize) = (Vec::new(), 0);
    for row in rows.map(epoch) {
        let Some(row) = row else {
            unreadable += 1;
            continue;
        };
        // Of two rows of an epoch, the later one holds. One that was cut off within its step has no place.
        epochs.pop_if(|earlier| earlier.epoch == row.epoch);
        if epochs.last().is_none_or(|earlier| earlier.step < row.step) {
            epochs.push(row);
        }
    }
    (epochs, unreadable)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn each_step_is_read_once_and_damaged_records_are_too() {
        let run = tempfile::tempdir().unwrap();
        let folder = Folder::open(run.path()).unwrap();
        assert_eq!(History::read(&folder).unwrap(), History::default());
        let metrics = "{\"step\":5,\"epoch\":1,\"loss\":null,\"accuracy\":0.5,\"gradient_norm\":1,\"lr\":0.1}\n\
                       {\"step\":10,\"epoch\":1,\"loss\":2,\"accuracy\":0.5,\"gradient_norm\":1,\"lr\":0.1}\n\
                       {\"step\":15,\"epoch\":2,\"loss\":3,\"accuracy\":0.5,\"gradient_norm\":1,\"lr\":0.1}\n\
                       {\"step\":17,\"epoch\":2,\"rollback\":1,\"lr_factor\":0.5}\n\
                       {\"step\":15,\"epoch\":2,\"loss\":4,\"accuracy\":0.5,\"skipped\":[13]}\n{\"step\":20,\"epo";
        // A line that is not text is skipped.
        let metrics = [b"\xff\n", metrics.as_bytes()].concat();
        fs::write(run.path().join("metrics.jsonl"), metrics).unwrap();
        let results = "epoch,step,train_loss,train_acc,val_loss,val_acc,val_top5,lr\n\
                       1,4,9.0,0.25,1.5,0.5,,0.001\n1,4,2.0,0.25,1.5,0.5,,0.001\n2,8,NaN,0.5,,,,0.0005\n3,12,0.5,0.75,0.6,0.9,1,0.0001\n4,1";
        fs::write(run.path().join("results.csv"), results).unwrap();
        let History { lines, epochs, rollbacks, unreadable } = History::read(&folder).unwrap();
        assert_eq!(unreadable, [2, 0]);
        let losses: Vec<(u64, f64)> = lines.iter().map(|line| (line.step, line.loss)).collect();
        assert!(losses[0].0 == 5 && losses[0].1.is_nan(), "{losses:?}");
        assert_eq!((&losses[1..], &rollbacks[..]), (&[(10, 2.0), (15, 4.0)][..], &[17][..]));
        assert!(lines[2].lr.is_nan() && lines[2].skipped == [13]);
        let validation = |loss, accuracy, top5| Some(Validation { loss, accuracy, top5 });
        assert_eq!(
            epochs.iter().map(|row| (row.epoch, row.step, row.validation)).collect::<Vec<_>>(),
            [(1, 4, validation(1.5, 0.5, None)), (2, 8, None), (3, 12, validation(0.6, 0.9, Some(1.0)))]
        );
        assert!(epochs[1].train_loss.is_nan() && (epochs[0].train_loss, epochs[2].train_acc) == (2.0, 0.75));
        // As an earlier version wrote it, without validation.
        fs::write(run.path().join("results.csv"), "epoch,step,train_loss,train_acc\n1,10,0.5,0.25\n2").unwrap();
        let epochs = History::read(&folder).unwrap().epochs;
        assert!(epochs.len() == 1 && epochs[0].step == 10 && epochs[0].lr.is_nan() && epochs[0].validation.is_none());
        // Bytes that are not text are an error, not an empty history.
        fs::write(run.path().join("results.csv"), [0xff]).unwrap();
        assert!(History::read(&folder).unwrap_err().to_string().contains("results.csv"));
    }
}
