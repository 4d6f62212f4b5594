//! How a training went: loss, accuracy and learning rate against the epoch, of one run or of several.

use super::frame::{self, Look};
use super::scale::{Scale, range};
use super::style::{LABEL, Style, TICK};
use super::svg::{Anchor, Canvas, Figure, MARKERS, Marker, Point, Rect, Stroke, Text};
use crate::numbers::{self, percent};

/// Most epochs whose points are marked.
const MARKED: usize = 40;

/// What the training's series of epochs is.
pub const OF_EPOCHS: &str = "training, per epoch";

/// Most runs that differ in color, dash and marker.
pub const RUNS: usize = 6;

/// What a run recorded of its training, as its files have it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Lines of `metrics.jsonl`, in the order of the steps.
    pub lines: Vec<Line>,
    /// Rows of `results.csv`.
    pub epochs: Vec<Epoch>,
    /// Steps that had a loss that was NaN or infinite, and after which the epoch began again.
    pub rollbacks: Vec<f64>,
}

/// Some steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// The last of them.
    pub step: f64,
    /// Their mean loss.
    pub loss: f64,
    /// Learning rate of the last.
    pub lr: f64,
}

/// An epoch. What is absent is NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Epoch {
    /// Counted from 1.
    pub epoch: f64,
    /// Its last step.
    pub step: f64,
    /// Mean over its steps.
    pub train_loss: f64,
    /// Mean over its steps, a fraction.
    pub train_acc: f64,
    /// On the validation split.
    pub val_loss: f64,
    /// On the validation split, a fraction.
    pub val_acc: f64,
    /// Learning rate of the last step.
    pub lr: f64,
}

/// What is said of a run next to its curves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Marks {
    /// The run's name.
    pub name: String,
    /// Steps in an epoch, where that is known.
    pub steps_per_epoch: Option<f64>,
    /// The epoch whose weights were kept as the best.
    pub best: Option<Epoch>,
    /// Steps after which the run was resumed.
    pub resumed: Vec<u64>,
    /// What is missing, a sentence for each file that is damaged.
    pub damage: Vec<String>,
}

impl Epoch {
    /// The step in its middle, where its means belong; its last one where its first is unknown.
    pub fn middle(&self, steps_per_epoch: Option<f64>) -> f64 {
        let first = steps_per_epoch.map_or(self.step, |steps| (self.epoch - 1.0) * steps);
        (first.clamp(0.0, self.step.max(0.0)) + self.step) / 2.0
    }
}

impl Record {
    /// Whether nothing was recorded that can be drawn.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.epochs.is_empty()
    }

    /// What a line of the training is, in words: a loss is the mean of the steps since the line before.
    pub fn of_lines(&self) -> String {
        let starts = std::iter::once(0.0).chain(self.lines.iter().map(|line| line.step));
        let mut steps: Vec<f64> = self.lines.iter().zip(starts).map(|(line, start)| line.step - start).collect();
        steps.sort_by(f64::total_cmp);
        match steps.get(steps.len() / 2) {
            Some(&some) if some > 1.0 => format!("training, mean of {} steps", numbers::count(some as u64)),
            _ => "training, each step".to_string(),
        }
    }

    fn last_step(&self) -> f64 {
        let steps = self.lines.iter().map(|line| line.step).chain(self.epochs.iter().map(|epoch| epoch.step));
        steps.fold(0.0, f64::max)
    }
}

/// Draws the curves of one run; none where nothing is recorded.
pub fn curves(record: &Record, marks: &Marks, style: &'static Style) -> Option<Figure> {
    if record.is_empty() {
        return None;
    }
    let per_unit = marks.steps_per_epoch;
    let x_of = |step: f64| step / per_unit.unwrap_or(1.0);
    let epochs = record.epochs.len();
    let best =
        marks.best.map(|best| format!("best epoch {}: validation accuracy {}", best.epoch, percent(best.val_acc)));
    let last = record.epochs.last();
    let fact = best.or_else(|| {
        let last = last?;
        let accuracy = if last.val_acc.is_finite() { last.val_acc } else { last.train_acc };
        let what = if last.val_acc.is_finite() { "validation" } else { "training" };
        // A row that was cut off has none.
        accuracy.is_finite().then(|| format!("epoch {}: {what} accuracy {}", last.epoch, percent(accuracy)))
    });
    let steps = numbers::counted(record.last_step() as usize, "step");
    let below = fact.unwrap_or_else(|| format!("{steps}{}", if epochs == 0 { ", no epoch was completed" } else { "" }));
    let description = format!(
        "Loss, accuracy and learning rate of the run {} over {}; {below}.",
        marks.name,
        if epochs > 0 { numbers::counted(epochs, "epoch") } else { steps.clone() },
    );
    let mut canvas = Canvas::new(style, [660.0, 634.0], &format!("Training of {}", marks.name), &description);

    let (losses, accuracies, rates) = series(record, per_unit);
    let values = |all: &[Vec<Point>]| range(all.iter().flatten().map(|point| point[1]));
    let loss = values(&losses).unwrap_or([0.0, 1.0]);
    let accuracy = values(&accuracies).unwrap_or([0.0, 100.0]);
    let rate = values(std::slice::from_ref(&rates)).unwrap_or([0.0, 1.0]);
    let panels = [(92.0, 200.0), (338.0, 160.0), (544.0, 40.0)];
    let [loss_y, rate_y] = [
        Scale::log_if_wide(loss, [panels[0].0 + panels[0].1, panels[0].0], 5),
        Scale::up_to(rate[1], [panels[2].0 + panels[2].1, panels[2].0]),
    ];
    let accuracy_y = percent_scale(accuracy, [panels[1].0 + panels[1].1, panels[1].0]);
    let left = frame::room_for(&[&loss_y, &accuracy_y, &rate_y]).max(40.0) + 10.0;
    canvas.heading(left, &below);
    let right = canvas.width() - 26.0;
    let panel = panels.map(|(y, height)| Rect { x: left, y, width: right - left, height });
    let most = x_of(record.last_step()).max(f64::MIN_POSITIVE);
    let ticks = if per_unit.is_some() { 10.min(most.ceil() as usize) } else { 8 };
    let x = Scale::exact([0.0, most], [left, right], ticks);

    let own = style.series;
    let solid = Stroke::new(own[0], 2.0);
    let pale = Stroke { width: 1.0, opacity: 0.45, ..solid };
    let dashed = Stroke { dash: "6 3", ..Stroke::new(own[1], 2.0) };
    let marker = |marker: Marker| (epochs <= MARKED).then_some(marker);
    let of_lines = record.of_lines();
    let looks = [
        (Look { stroke: pale, marker: None }, of_lines.as_str()),
        (Look { stroke: solid, marker: marker(MARKERS[0]) }, OF_EPOCHS),
        (Look { stroke: dashed, marker: marker(MARKERS[1]) }, "validation"),
    ];
    let scale_name = if loss_y.is_log() { ", log" } else { "" };
    let axes = [
        (&loss_y, format!("Loss (cross-entropy{scale_name})")),
        (&accuracy_y, "Accuracy (%)".to_string()),
        (&rate_y, "Learning rate".to_string()),
    ];
    for (i, (y, label)) in axes.iter().enumerate() {
        frame::vertical_axis(&mut canvas, panel[i], y);
        marks_of(&mut canvas, panel[i], &x, (record, marks), x_of);
        frame::horizontal_axis(&mut canvas, panel[i], &x, i == 2);
        frame::label_above(&mut canvas, panel[i], label);
    }
    let room = right - left;
    for (i, (all, looks)) in [(&losses, &looks[..]), (&accuracies, &looks[1..])].into_iter().enumerate() {
        for (points, (look, _)) in all.iter().zip(looks) {
            draw(&mut canvas, points, (&x, axes[i].0), *look);
        }
        if !all.iter().flatten().any(|point| point[1].is_finite()) {
            let how = Text::new(style.soft).at(Anchor::Middle);
            let middle = [(left + right) / 2.0, panel[i].y + panel[i].height / 2.0];
            canvas.text(middle, "nothing was measured yet", &how);
        }
        // The label of the axis is at the left.
        frame::legend(&mut canvas, right, panel[i].y - 10.0, &with_values(all, looks), room - 150.0);
    }
    draw(&mut canvas, &rates, (&x, &rate_y), Look { stroke: Stroke::new(style.soft, 1.6), marker: None });
    if let Some(best) = marks.best {
        let place = [x.at(x_of(best.step)), accuracy_y.at(best.val_acc * 100.0)];
        canvas.marker(Marker::Ring, place, 5.5, own[1]);
        canvas.marker(Marker::Square, place, 2.6, own[1]);
    }
    frame::label_below(&mut canvas, panel[2], if per_unit.is_some() { "epoch" } else { "step" });
    explain_marks(&mut canvas, panel[2], record, marks);
    Some(canvas.finish())
}

/// The points of all series: losses (of lines, of epochs, of the validation), accuracies, learning rates.
fn series(record: &Record, per_unit: Option<f64>) -> (Vec<Vec<Point>>, Vec<Vec<Point>>, Vec<Point>) {
    let x_of = |step: f64| step / per_unit.unwrap_or(1.0);
    let lines = |value: fn(&Line) -> f64| record.lines.iter().map(|line| [x_of(line.step), value(line)]).collect();
    let epochs =
        |value: fn(&Epoch) -> f64| record.epochs.iter().map(|epoch| [x_of(epoch.step), value(epoch)]).collect();
    let means = |value: fn(&Epoch) -> f64| {
        record.epochs.iter().map(|epoch| [x_of(epoch.middle(per_unit)), value(epoch)]).collect()
    };
    let losses = vec![lines(|line| line.loss), means(|epoch| epoch.train_loss), epochs(|epoch| epoch.val_loss)];
    let accuracies = vec![means(|epoch| epoch.train_acc * 100.0), epochs(|epoch| epoch.val_acc * 100.0)];
    let rates: Vec<Point> = lines(|line| line.lr);
    let rates = if rates.len() > 1 { rates } else { epochs(|epoch| epoch.lr) };
    (losses, accuracies, rates)
}

/// The entries of a legend whose series have values.
fn with_values<'a>(all: &[Vec<Point>], looks: &[(Look<'static>, &'a str)]) -> Vec<(Look<'static>, &'a str)> {
    let has_values = |points: &&Vec<Point>| points.iter().any(|point| point[1].is_finite());
    all.iter().zip(looks).filter(|(points, _)| has_values(points)).map(|(_, look)| *look).collect()
}

/// An axis for accuracies in percent: no longer than to 100, and never so short that noise looks like progress.
fn percent_scale([low, high]: [f64; 2], pixels: [f64; 2]) -> Scale {
    let room = (high - low).max(2.0) * 0.06;
    let [low, high] = [(low - room).max(0.0), (high + room).min(100.0)];
    Scale::exact([low.min(high - 1.0).max(0.0), high], pixels, 5)
}

/// Draws a series: thinned to what the width can show, and marked where it has few points.
fn draw(canvas: &mut Canvas, points: &[Point], (x, y): (&Scale, &Scale), look: Look) {
    let places: Vec<Point> = points.iter().map(|&[at, value]| [x.at(at), y.at(value)]).collect();
    canvas.curve(&thinned(&places), look.stroke);
    if let Some(marker) = look.marker.filter(|_| points.len() <= MARKED) {
        places.iter().for_each(|&place| canvas.marker(marker, place, 3.2, look.stroke.color));
    } else {
        // A line needs two points: one without neighbors is marked.
        let has_value = |at: Option<usize>| at.and_then(|at| places.get(at)).is_some_and(|place| place[1].is_finite());
        for (at, &place) in places.iter().enumerate() {
            if has_value(Some(at)) && !has_value(at.checked_sub(1)) && !has_value(Some(at + 1)) {
                canvas.marker(Marker::Dot, place, 2.4, look.stroke.color);
            }
        }
    }
}

/// Leaves of many points in one column of pixels the first, the lowest, the highest and the last, and one gap if there is
/// any: the line looks as before.
pub fn thinned(points: &[Point]) -> Vec<Point> {
    let mut kept = Vec::new();
    for column in points.chunk_by(|a, b| a[0].floor() == b[0].floor()) {
        if column.len() <= 5 {
            kept.extend(column);
            continue;
        }
        let is_finite = |point: &&Point| point[1].is_finite();
        let by_height = |a: &&Point, b: &&Point| a[1].total_cmp(&b[1]);
        let finite = || column.iter().filter(is_finite);
        let mut few: Vec<Point> =
            [column.first(), finite().min_by(by_height), finite().max_by(by_height), column.last()]
                .into_iter()
                .chain([column.iter().find(|point| !point[1].is_finite())])
                .flatten()
                .copied()
                .collect();
        few.sort_by(|a, b| a[0].total_cmp(&b[0]));
        // NaN equals itself here.
        few.dedup_by(|a, b| a[0].total_cmp(&b[0]).is_eq() && a[1].total_cmp(&b[1]).is_eq());
        kept.extend(few);
    }
    kept
}

/// Draws vertical lines at the best epoch, and signs where the run was resumed or rolled back.
fn marks_of(
    canvas: &mut Canvas,
    panel: Rect,
    x: &Scale,
    (record, marks): (&Record, &Marks),
    x_of: impl Fn(f64) -> f64,
) {
    let style = canvas.style();
    if let Some(best) = marks.best {
        let at = x.at(x_of(best.step));
        canvas.line([at, panel.y], [at, panel.bottom()], Stroke { dash: "2 3", ..Stroke::new(style.axis, 1.2) });
    }
    for &step in &marks.resumed {
        canvas.marker(Marker::Triangle, [x.at(x_of(step as f64)), panel.bottom() - 4.5], 4.0, style.soft);
    }
    for &step in &record.rollbacks {
        canvas.marker(Marker::Cross, [x.at(x_of(step)), panel.bottom() - 5.5], 4.0, style.series[1]);
    }
}

/// Says below the axis what the signs mean, as far as there are any.
fn explain_marks(canvas: &mut Canvas, panel: Rect, record: &Record, marks: &Marks) {
    let style = canvas.style();
    let list = |steps: &[u64]| {
        let shown: Vec<String> = steps.iter().take(4).map(|step| numbers::count(*step)).collect();
        format!("{}{}", shown.join(", "), if steps.len() > 4 { ", …" } else { "" })
    };
    let rollbacks: Vec<u64> = record.rollbacks.iter().map(|step| *step as u64).collect();
    let (mut at, y) = (panel.x, panel.bottom() + 38.0);
    let said = [
        (Marker::Triangle, style.soft, &marks.resumed, "resumed after step"),
        (Marker::Cross, style.series[1], &rollbacks, "rolled back at step"),
    ];
    for (marker, color, steps, words) in said.into_iter().filter(|(_, _, steps, _)| !steps.is_empty()) {
        let text = format!("{words} {}", list(steps));
        canvas.marker(marker, [at + 5.0, y - TICK * 0.36], 4.0, color);
        canvas.text([at + 14.0, y], &text, &Text::new(style.soft).size(TICK).within(panel.width / 2.0 - 60.0));
        at = panel.right() - panel.width / 2.0 + 40.0;
    }
}

/// Draws the validation losses and accuracies of several runs on the same data, or those of their trainings; `below` is
/// written below the title. None where nothing is recorded.
pub fn curves_of_runs(runs: &[(Record, Marks)], [data, below]: [&str; 2], style: &'static Style) -> Option<Figure> {
    let shown: Vec<&(Record, Marks)> = runs.iter().filter(|(record, _)| !record.is_empty()).take(RUNS).collect();
    let shown = shown.as_slice();
    if shown.is_empty() {
        return None;
    }
    let names: Vec<&str> = shown.iter().map(|(_, marks)| marks.name.as_str()).collect();
    let description = format!(
        "Validation loss and validation accuracy, or those of training where there is no validation, of {}.",
        names.join(", ")
    );
    let what = if validated(shown) > 0 { "Validation" } else { "Training" };
    let title = format!("{what} of {} on {data}", numbers::counted(shown.len(), "run"));
    let mut canvas = Canvas::new(style, [660.0, 520.0], &title, &description);
    let by_epoch = shown.iter().all(|(_, marks)| marks.steps_per_epoch.is_some());
    let x_of =
        |(_, marks): &(Record, Marks), step: f64| step / marks.steps_per_epoch.filter(|_| by_epoch).unwrap_or(1.0);
    let points = |run: &(Record, Marks), validation: fn(&Epoch) -> f64, training: fn(&Epoch) -> f64| -> Vec<Point> {
        let has_validation = run.0.epochs.iter().any(|epoch| validation(epoch).is_finite());
        let value = if has_validation { validation } else { training };
        run.0.epochs.iter().map(|epoch| [x_of(run, epoch.step), value(epoch)]).collect()
    };
    let losses: Vec<Vec<Point>> = shown.iter().map(|run| points(run, |e| e.val_loss, |e| e.train_loss)).collect();
    let accuracies: Vec<Vec<Point>> =
        shown.iter().map(|run| points(run, |e| e.val_acc * 100.0, |e| e.train_acc * 100.0)).collect();
    let values = |all: &[Vec<Point>]| range(all.iter().flatten().map(|point| point[1]));
    let most = shown.iter().map(|run| x_of(run, run.0.last_step())).fold(f64::MIN_POSITIVE, f64::max);

    let entries: Vec<(Look, &str)> = (0..).zip(&names).map(|(i, name)| (frame::look(&canvas, i), *name)).collect();
    let top = if below.is_empty() { 46.0 } else { 66.0 };
    let end = frame::legend(&mut canvas, 640.0, top, &entries, 620.0);
    let (first, height) = (end + 40.0, (470.0 - end - 40.0 - 44.0) / 2.0);
    let panels = [(first, height), (first + height + 44.0, height)];
    let y = [
        Scale::log_if_wide(values(&losses).unwrap_or([0.0, 1.0]), [panels[0].0 + height, panels[0].0], 5),
        percent_scale(values(&accuracies).unwrap_or([0.0, 100.0]), [panels[1].0 + height, panels[1].0]),
    ];
    let left = frame::room_for(&[&y[0], &y[1]]).max(40.0) + 10.0;
    canvas.heading(left, below);
    let x = Scale::exact([0.0, most], [left, 640.0], 10.min(most.ceil() as usize));
    let labels = [format!("Loss{}", if y[0].is_log() { " (log)" } else { "" }), "Accuracy (%)".to_string()];
    for (i, all) in [&losses, &accuracies].into_iter().enumerate() {
        let panel = Rect { x: left, y: panels[i].0, width: 640.0 - left, height };
        frame::vertical_axis(&mut canvas, panel, &y[i]);
        frame::horizontal_axis(&mut canvas, panel, &x, i == 1);
        frame::label_above(&mut canvas, panel, &labels[i]);
        for (number, points) in all.iter().enumerate() {
            let look = frame::look(&canvas, number);
            draw(&mut canvas, points, (&x, &y[i]), look);
        }
        if i == 1 {
            frame::label_below(&mut canvas, panel, if by_epoch { "epoch" } else { "step" });
        }
    }
    let how = Text::new(style.soft).size(LABEL).at(Anchor::End).within(420.0);
    canvas.text([640.0, first - 10.0], images_of_runs(shown), &how);
    Some(canvas.finish())
}

/// How many of some runs have validation results.
fn validated(runs: &[&(Record, Marks)]) -> usize {
    runs.iter().filter(|run| run.0.epochs.iter().any(|epoch| epoch.val_acc.is_finite())).count()
}

/// Of which images the curves of several runs are.
pub fn images_of_runs(runs: &[&(Record, Marks)]) -> &'static str {
    match validated(runs) {
        0 => "on the training images, while the weights change",
        some if some == runs.len() => "on the validation images",
        _ => "on the validation images; training where a run has none",
    }
}

#[cfg(test)]
mod tests {
    use super::super::style::LIGHT;
    use super::*;

    fn line(step: u64, loss: f64) -> Line {
        Line { step: step as f64, loss, lr: 0.001 }
    }

    fn epoch(epoch: u64, train_loss: f64, val_acc: f64) -> Epoch {
        let (step, val_loss) = (epoch as f64 * 4.0, 1.5 - val_acc);
        Epoch { epoch: epoch as f64, step, train_loss, train_acc: 0.5, val_loss, val_acc, lr: 0.001 }
    }

    fn marks() -> Marks {
        let best = Some(epoch(3, 0.5, 0.9));
        Marks { name: "a <b>".into(), steps_per_epoch: Some(4.0), best, resumed: vec![6], damage: Vec::new() }
    }

    #[test]
    fn thinning_keeps_extremes_and_gaps() {
        let points: Vec<Point> = (0..100_000).map(|i| [f64::from(i) * 0.005, f64::from(i % 7)]).collect();
        let kept = thinned(&points);
        assert!(kept.len() <= 5 * 500, "{}", kept.len());
        for column in 0..500 {
            let inside = || kept.iter().filter(|point| point[0].floor() == f64::from(column)).map(|point| point[1]);
            assert_eq!((inside().fold(9.0, f64::min), inside().fold(0.0, f64::max)), (0.0, 6.0));
        }
        let mut with_gap = points.clone();
        with_gap[70_000][1] = f64::NAN;
        assert_eq!(thinned(&with_gap).iter().filter(|point| point[1].is_nan()).count(), 1);
        assert_eq!(thinned(&points[..3]), points[..3]);
    }

    #[test]
    fn a_run_that_was_cut_is_drawn_as_it_was_looked_at() {
        // Epochs of 4 steps, of which the third ended after 2.
        let cut = Epoch { step: 10.0, ..epoch(3, 0.5, 0.8) };
        let epochs = vec![epoch(1, 2.0, 0.5), epoch(2, 1.0, 0.7), cut];
        let lines = [2, 4, 6, 8, 10].map(|step| line(step, 5.0 / step as f64));
        let record = Record { lines: lines.to_vec(), epochs, rollbacks: Vec::new() };
        let marks = Marks { best: Some(record.epochs[1]), ..marks() };
        super::super::tests::compare("curves", &curves(&record, &marks, &LIGHT).unwrap());
        assert_eq!(record.of_lines(), "training, mean of 2 steps");
        assert_eq!(Record { lines: vec![line(1, 2.0), line(2, 1.0)], ..record }.of_lines(), "training, each step");
        let middles = |epoch: Epoch| [Some(4.0), None].map(|steps| epoch.middle(steps));
        assert_eq!((middles(epoch(1, 2.0, 0.5)), middles(cut)), ([2.0, 4.0], [9.0, 10.0]));
    }

    #[test]
    fn one_epoch_many_epochs_and_no_whole_epoch_have_figures() {
        let record =
            |lines: &[Line], epochs: Vec<Epoch>| Record { lines: lines.to_vec(), epochs, rollbacks: vec![5.0] };
        let lines = [line(2, 2.5), line(4, f64::NAN), line(6, f64::INFINITY)];
        let some = vec![epoch(1, 2.0, 0.5), epoch(2, f64::NAN, f64::NAN), epoch(3, 0.5, 0.9)];
        let many = (1..=10_000).map(|i| epoch(i, 1.0 / i as f64, 0.5)).collect();
        for record in [
            record(&lines, some),
            record(&[], vec![epoch(1, 2.0, f64::NAN)]),
            record(&lines, Vec::new()),
            record(&[], many),
        ] {
            let figure = curves(&record, &marks(), &LIGHT).unwrap();
            assert!(figure.svg().len() < 200_000, "{}", figure.svg().len());
            assert!(!figure.svg().contains("NaN") && !figure.svg().contains("inf") && !figure.svg().contains("<b>"));
        }
        assert!(curves(&record(&[], Vec::new()), &marks(), &LIGHT).is_none());
    }
}
