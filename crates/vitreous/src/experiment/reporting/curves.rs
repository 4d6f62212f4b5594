//! Training curves as the series of a report's charts, thinned to what a screen can show.

use crate::plot::curves::{Epoch, Marks, RUNS, Record, thinned};
use crate::plot::svg::Point;
use crate::report::{Chart, Series};

/// Columns of pixels in which a series keeps its lowest and its highest value.
const COLUMNS: f64 = 800.0;

/// Looks of the series.
const TRAIN: usize = 0;
const VALIDATION: usize = 1;
const EPOCH_MEAN: usize = 3;

/// The charts of one run: loss, accuracy, learning rate.
pub fn charts(record: &Record, marks: &Marks) -> Vec<Chart> {
    let per_unit = marks.steps_per_unit(record);
    let across = if per_unit.is_some() { "epoch" } else { "step" };
    let at = |step: f64| step / per_unit.unwrap_or(1.0);
    let epochs = |value: fn(&Epoch) -> f64| record.epochs.iter().map(|epoch| [at(epoch.step), value(epoch)]).collect();
    let lines = |value: fn(&crate::plot::curves::Line) -> f64| {
        record.lines.iter().map(|line| [at(line.step), value(line)]).collect::<Vec<Point>>()
    };
    let chart = |title: &str, may_be_log, series: Vec<Option<Series>>| {
        let series: Vec<Series> = series.into_iter().flatten().collect();
        (!series.is_empty()).then(|| Chart { title: title.to_string(), across, may_be_log, series })
    };
    let loss = vec![
        series("train, each line of the log", lines(|line| line.loss), TRAIN, true),
        series("train, mean of the epoch", epochs(|epoch| epoch.train_loss), EPOCH_MEAN, false),
        series("validation", epochs(|epoch| epoch.val_loss), VALIDATION, false),
    ];
    let accuracy = vec![
        series("train, mean of the epoch", epochs(|epoch| epoch.train_acc * 100.0), EPOCH_MEAN, false),
        series("validation", epochs(|epoch| epoch.val_acc * 100.0), VALIDATION, true),
    ];
    let rates = if record.lines.is_empty() { epochs(|epoch| epoch.lr) } else { lines(|line| line.lr) };
    let charts = [
        chart("Loss", true, loss),
        chart("Accuracy (%)", false, accuracy),
        chart("Learning rate", false, vec![series("learning rate", rates, TRAIN, false)]),
    ];
    charts.into_iter().flatten().collect()
}

/// The charts of several runs: validation loss and accuracy, those of training where a run has no validation.
pub fn charts_of_runs(runs: &[(Record, Marks)]) -> Vec<Chart> {
    let shown = &runs[..runs.len().min(RUNS)];
    let by_epoch = shown.iter().all(|(record, marks)| marks.steps_per_unit(record).is_some());
    let chart = |title: &str, may_be_log, validation: fn(&Epoch) -> f64, training: fn(&Epoch) -> f64| {
        let of_run = |(look, (record, marks)): (usize, &(Record, Marks))| {
            let per_unit = marks.steps_per_unit(record).filter(|_| by_epoch).unwrap_or(1.0);
            let has_validation = record.epochs.iter().any(|epoch| validation(epoch).is_finite());
            let value = if has_validation { validation } else { training };
            let points = record.epochs.iter().map(|epoch| [epoch.step / per_unit, value(epoch)]).collect();
            series(&marks.name, points, look, true)
        };
        let series: Vec<Series> = shown.iter().enumerate().filter_map(of_run).collect();
        let across = if by_epoch { "epoch" } else { "step" };
        (!series.is_empty()).then(|| Chart { title: title.to_string(), across, may_be_log, series })
    };
    let charts = [
        chart("Validation loss", true, |epoch| epoch.val_loss, |epoch| epoch.train_loss),
        chart("Validation accuracy (%)", false, |epoch| epoch.val_acc * 100.0, |epoch| epoch.train_acc * 100.0),
    ];
    charts.into_iter().flatten().collect()
}

/// A series; none without a value.
fn series(name: &str, points: Vec<Point>, look: usize, is_noisy: bool) -> Option<Series> {
    if !points.iter().any(|point| point[1].is_finite()) {
        return None;
    }
    let end = points.last().map_or(1.0, |point| point[0]).max(f64::MIN_POSITIVE);
    let columns: Vec<Point> = points.iter().map(|&[x, y]| [x / end * COLUMNS, y]).collect();
    let (x, y) = thinned(&columns).into_iter().map(|[x, y]| (short(x / COLUMNS * end), short(y))).unzip();
    Some(Series { name: name.to_string(), x, y, look, is_noisy })
}

/// Six digits of a number are enough to be read.
fn short(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(f64::NAN)
}
