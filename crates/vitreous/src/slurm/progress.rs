//! How far a run is, read from its folder. Only durations are read of its times: the clocks of two nodes may differ.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::difference::flat_config;
use crate::record::{Claim, Run, status_in_words};
use crate::regular;

/// Largest `results.csv` and `timing.jsonl` that are read, in bytes.
const RECORDS_MAX: u64 = 256 << 20;

/// Epochs whose mean time is taken for that of the others.
const EPOCHS_TIMED: usize = 5;

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Progress {
    /// Its status: `training`, `finished`, `interrupted`.
    pub status: Option<String>,
    /// Epochs that are done, and all.
    pub epochs: Option<[u64; 2]>,
    /// Validation accuracy of the best epoch so far.
    pub val_acc: Option<f64>,
    /// Seconds of computing that are left.
    pub left_s: Option<f64>,
}

/// The line of an epoch in `timing.jsonl`.
#[derive(Deserialize)]
struct EpochTime {
    train_s: f64,
    validation_s: f64,
    save_s: f64,
}

impl Progress {
    /// Reads a run's folder. A run that has not begun has no progress.
    pub fn of(folder: &Path) -> Progress {
        let Ok(run) = Run::open(folder) else { return Progress::default() };
        let (status, is_training) = (run.manifest().status, Claim::is_taken(run.files()));
        let config = regular::read_text(&folder.join("config.toml"), regular::CONFIG_MAX).unwrap_or_default();
        let all = flat_config(&config, "config.toml").ok().and_then(|keys| keys.get("train.epochs")?.as_integer());
        let all = all.and_then(|epochs| u64::try_from(epochs).ok());
        let results = regular::read_text(&folder.join("results.csv"), RECORDS_MAX).unwrap_or_default();
        // Of a run that is resumed, the manifest says how far it was before.
        let rows = results.lines().skip(1).filter(|line| !line.is_empty()).count() as u64;
        let is_finished = status.is_finished() && !is_training;
        let times = regular::read_text(&folder.join("timing.jsonl"), RECORDS_MAX).unwrap_or_default();
        let left_s = all.filter(|_| !is_finished).and_then(|all| {
            let times = times.lines().rev().filter_map(|line| serde_json::from_str::<EpochTime>(line).ok());
            let times: Vec<f64> =
                times.take(EPOCHS_TIMED).map(|time| time.train_s + time.validation_s + time.save_s).collect();
            let mean = times.iter().sum::<f64>() / times.len() as f64;
            mean.is_finite().then(|| mean * all.saturating_sub(rows) as f64)
        });
        Progress {
            status: Some(status_in_words(status, is_training)),
            epochs: all.map(|all| [rows.min(all), all]),
            val_acc: best_accuracy(&results),
            left_s,
        }
    }
}

/// The largest validation accuracy in `results.csv`.
fn best_accuracy(results: &str) -> Option<f64> {
    let mut lines = results.lines();
    let column = lines.next()?.split(',').position(|name| name == "val_acc")?;
    let accuracies = lines.filter_map(|line| line.split(',').nth(column)?.parse::<f64>().ok());
    accuracies.filter(|accuracy| accuracy.is_finite()).max_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_accuracy_is_found_by_its_column() {
        assert_eq!(best_accuracy("epoch,val_acc,lr\n1,0.5,0.9\n2,0.75,0.9\n3,,0.9\n"), Some(0.75));
        assert_eq!([best_accuracy(""), best_accuracy("epoch,val_acc\n1,\n")], [None, None]);
    }

    #[test]
    fn a_run_that_has_not_begun_has_no_progress() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Progress::of(folder.path()), Progress::default());
    }
}
