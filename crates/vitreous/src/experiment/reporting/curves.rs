//! What a report says of a training: curves, as series thinned to what a screen can show, and a table of the epochs.

use super::{Words, command_of, table};
use crate::advice::{Command, Note, Suggestion};
use crate::config::train::Keep;
use crate::experiment::ExperimentError;
use crate::numbers;
use crate::plot::curves::{Epoch, Line, Marks, OF_EPOCHS, RUNS, Record, curves, images_of_runs, thinned};
use crate::plot::svg::Point;
use crate::plots::recorded;
use crate::record::Run;
use crate::report::{Chart, Drawing, Part, Section, Series, Table};

/// Most rows of a table of epochs.
const EPOCHS_MAX: usize = 200;

/// Columns of pixels in which a series keeps its lowest and its highest value.
const COLUMNS: f64 = 800.0;

/// Looks of the series, as in the figure.
const TRAIN: Option<usize> = Some(0);
const VALIDATION: Option<usize> = Some(1);

/// The curves, and the epochs as a table.
pub fn training(run: &Run, keep: Keep, words: &Words) -> Result<Section, ExperimentError> {
    let title = "Training".to_string();
    let (record, marks) = recorded(run, keep)?;
    let damage = marks.damage.iter().map(|what| Part::Warning { text: format!("{what}: the curves are incomplete") });
    let mut parts: Vec<Part> = damage.collect();
    let Some(drawing) = Drawing::made("curves", |theme| curves(&record, &marks, theme.style())) else {
        let what = match run.manifest().status.is_finished() {
            true => Note::new("the records of the training are missing or damaged: no curves"),
            false => Note::new("nothing was recorded of the training yet: no curves")
                .suggest(Suggestion::new().text("continue it with").run(Command::resume(run.folder()))),
        };
        parts.push(Part::Missing { text: (words.note)(&what) });
        return Ok(Section { title, command: None, parts });
    };
    parts.push(Part::Curves { charts: charts(&record, &marks), drawing });
    let number = |value: f64| if value.is_finite() { format!("{value:.4}") } else { "-".to_string() };
    let percent = |value: f64| if value.is_finite() { numbers::percent(value) } else { "-".to_string() };
    let all = record.epochs.len();
    let every = all.div_ceil(EPOCHS_MAX).max(1);
    let best = |epoch: &Epoch| marks.best.is_some_and(|best| best.step == epoch.step);
    let is_shown = |at: usize, epoch: &Epoch| (at + 1).is_multiple_of(every) || at == 0 || at + 1 == all || best(epoch);
    let rows: Vec<Vec<String>> = (record.epochs.iter().enumerate())
        .filter(|(at, epoch)| is_shown(*at, epoch))
        .map(|(_, epoch)| {
            let mark = if best(epoch) { " (best)" } else { "" };
            vec![
                format!("{}{mark}", epoch.epoch),
                numbers::count(epoch.step as u64),
                number(epoch.train_loss),
                percent(epoch.train_acc),
                number(epoch.val_loss),
                percent(epoch.val_acc),
                numbers::number(epoch.lr),
            ]
        })
        .collect();
    if !rows.is_empty() {
        let caption = match rows.len() {
            few if few < all => format!("{few} of {} epochs", numbers::count(all as u64)),
            _ => "The epochs".to_string(),
        };
        let columns = ["Epoch", "Step", "Train loss", "Train accuracy", "Val loss", "Val accuracy", "Learning rate"];
        parts.push(Part::Table(Table { is_folded: true, ..table(caption, &columns, &[1, 2, 3, 4, 5, 6], rows) }));
    }
    let command = command_of(run.manifest()).map(|command| (words.shell)(&command));
    Ok(Section { title, command, parts })
}

/// The charts of one run: loss, accuracy, learning rate.
fn charts(record: &Record, marks: &Marks) -> Vec<Chart> {
    let per_unit = marks.steps_per_epoch;
    let across = if per_unit.is_some() { "epoch" } else { "step" };
    let at = |step: f64| step / per_unit.unwrap_or(1.0);
    let epochs = |value: fn(&Epoch) -> f64| record.epochs.iter().map(|epoch| [at(epoch.step), value(epoch)]).collect();
    let means = |value: fn(&Epoch) -> f64| {
        record.epochs.iter().map(|epoch| [at(epoch.middle(per_unit)), value(epoch)]).collect()
    };
    let lines =
        |value: fn(&Line) -> f64| record.lines.iter().map(|line| [at(line.step), value(line)]).collect::<Vec<Point>>();
    let chart = |title: &str, may_be_log, series: Vec<Option<Series>>| {
        let series: Vec<Series> = series.into_iter().flatten().collect();
        (!series.is_empty()).then(|| Chart { title: title.to_string(), across, may_be_log, series })
    };
    let loss = vec![
        pale(series(&record.of_lines(), lines(|line| line.loss), TRAIN, true)),
        series(OF_EPOCHS, means(|epoch| epoch.train_loss), TRAIN, false),
        series("validation", epochs(|epoch| epoch.val_loss), VALIDATION, false),
    ];
    let accuracy = vec![
        series(OF_EPOCHS, means(|epoch| epoch.train_acc * 100.0), TRAIN, false),
        series("validation", epochs(|epoch| epoch.val_acc * 100.0), VALIDATION, true),
    ];
    let rates = if record.lines.is_empty() { epochs(|epoch| epoch.lr) } else { lines(|line| line.lr) };
    let charts = [
        chart("Loss", true, loss),
        chart("Accuracy (%)", false, accuracy),
        chart("Learning rate", false, vec![series("learning rate", rates, None, false)]),
    ];
    charts.into_iter().flatten().collect()
}

/// The charts of several runs: validation loss and accuracy, those of training where a run has no validation.
pub fn charts_of_runs(runs: &[(Record, Marks)]) -> Vec<Chart> {
    let shown = &runs[..runs.len().min(RUNS)];
    let by_epoch = shown.iter().all(|(_, marks)| marks.steps_per_epoch.is_some());
    let chart = |title: &str, may_be_log, validation: fn(&Epoch) -> f64, training: fn(&Epoch) -> f64| {
        let of_run = |(look, (record, marks)): (usize, &(Record, Marks))| {
            let per_unit = marks.steps_per_epoch.filter(|_| by_epoch).unwrap_or(1.0);
            let has_validation = record.epochs.iter().any(|epoch| validation(epoch).is_finite());
            let value = if has_validation { validation } else { training };
            let points = record.epochs.iter().map(|epoch| [epoch.step / per_unit, value(epoch)]).collect();
            series(&marks.name, points, Some(look), true)
        };
        let series: Vec<Series> = shown.iter().enumerate().filter_map(of_run).collect();
        let across = if by_epoch { "epoch" } else { "step" };
        let title = format!("{title} {}", images_of_runs(&shown.iter().collect::<Vec<_>>()));
        (!series.is_empty()).then_some(Chart { title, across, may_be_log, series })
    };
    let charts = [
        chart("Loss", true, |epoch| epoch.val_loss, |epoch| epoch.train_loss),
        chart("Accuracy (%)", false, |epoch| epoch.val_acc * 100.0, |epoch| epoch.train_acc * 100.0),
    ];
    charts.into_iter().flatten().collect()
}

/// A series; none without a value.
fn series(name: &str, points: Vec<Point>, look: Option<usize>, is_noisy: bool) -> Option<Series> {
    if !points.iter().any(|point| point[1].is_finite()) {
        return None;
    }
    let end = points.last().map_or(1.0, |point| point[0]).max(f64::MIN_POSITIVE);
    let columns: Vec<Point> = points.iter().map(|&[x, y]| [x / end * COLUMNS, y]).collect();
    let (x, y) = thinned(&columns).into_iter().map(|[x, y]| (short(x / COLUMNS * end), short(y))).unzip();
    Some(Series { name: name.to_string(), x, y, look, is_pale: false, is_noisy })
}

fn pale(series: Option<Series>) -> Option<Series> {
    Some(Series { is_pale: true, ..series? })
}

/// Six digits of a number are enough to be read.
fn short(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(f64::NAN)
}
