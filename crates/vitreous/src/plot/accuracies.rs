//! Several runs at a glance: accuracies with their intervals, and accuracy against what it costs.

use super::scale::{Scale, range};
use super::style::{LABEL, Style, TICK};
use super::svg::{Anchor, Canvas, Figure, Marker, Point, Rect, Stroke, Text};
use super::{font, frame};
use crate::numbers::{self, percent};

/// Most rows of a figure.
const ROWS: usize = 40;

/// A run, or a setting of several runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Accuracy, a fraction; of several runs their mean.
    pub accuracy: f64,
    /// Its 95 % interval, where there is one.
    pub interval: Option<[f64; 2]>,
    /// What it costs, where that is known: parameters, or time.
    pub cost: Option<f64>,
}

/// Draws the accuracies in the given order; none without settings.
pub fn accuracies(settings: &[Setting], title: &str, below: &str, style: &'static Style) -> Option<Figure> {
    const ROW: f64 = 26.0;
    let shown = &settings[..settings.len().min(ROWS)];
    let ends = shown.iter().flat_map(|one| one.interval.into_iter().flatten().chain([one.accuracy]));
    let [low, high] = range(ends)?.map(|part| part * 100.0);
    let room = ((high - low) * 0.06).max(0.5);
    let names = shown.iter().map(|one| font::width(&one.name, LABEL, false)).fold(0.0, f64::max).min(230.0);
    let panel = Rect { x: 20.0 + names + 12.0, y: 78.0, width: 380.0, height: ROW * shown.len() as f64 };
    let below = match settings.len() - shown.len() {
        0 => below.to_string(),
        more => format!("{below}; {} more are not shown", numbers::count(more as u64)),
    };
    let size = [panel.right() + 92.0, panel.bottom() + 56.0];
    let said: Vec<String> = shown.iter().map(|one| format!("{} {}", one.name, percent(one.accuracy))).collect();
    let mut canvas = Canvas::new(style, size, title, &format!("{below}. {}.", said.join(", ")));
    canvas.heading(20.0, &below);
    let x = Scale::exact([(low - room).max(0.0), (high + room).min(100.0)], [panel.x, panel.right()], 6);
    for (tick, _) in x.ticks() {
        canvas.line([x.at(tick), panel.y], [x.at(tick), panel.bottom()], Stroke::new(style.grid, 1.0));
    }
    for (i, one) in shown.iter().enumerate() {
        let middle = panel.y + (i as f64 + 0.5) * ROW;
        let at = |part: f64| x.at(part * 100.0);
        canvas.text(
            [panel.x - 12.0, middle + LABEL * 0.36],
            &one.name,
            &Text::new(style.ink).at(Anchor::End).within(names),
        );
        if let Some([from, to]) = one.interval.map(|ends| ends.map(at)) {
            canvas.line([from, middle], [to, middle], Stroke::new(style.series[0], 2.0));
            for end in [from, to] {
                canvas.line([end, middle - 4.0], [end, middle + 4.0], Stroke::new(style.series[0], 1.5));
            }
        }
        canvas.marker(Marker::Dot, [at(one.accuracy), middle], 4.5, style.series[0]);
        let how = Text::new(style.ink).size(TICK).at(Anchor::End);
        canvas.text([panel.right() + 76.0, middle + TICK * 0.36], &percent(one.accuracy), &how);
    }
    frame::horizontal_axis(&mut canvas, panel, &x, true);
    frame::label_below(&mut canvas, panel, "Accuracy (%)");
    Some(canvas.finish())
}

/// Draws accuracy against cost; none where all have the same cost, or none.
pub fn scatter(settings: &[Setting], [title, below, cost]: [&str; 3], style: &'static Style) -> Option<Figure> {
    scatter_of(settings, [title, below, "Accuracy (%)", cost], [0.0, 1.0], style)
}

/// Draws accuracy, or a difference in accuracy, within `limits` against cost; none where all have the same cost, or none.
pub fn scatter_of(
    settings: &[Setting],
    [title, below, value, cost]: [&str; 4],
    limits: [f64; 2],
    style: &'static Style,
) -> Option<Figure> {
    let shown: Vec<(&Setting, f64)> =
        settings.iter().filter_map(|one| Some((one, one.cost.filter(|cost| *cost > 0.0)?))).collect();
    let costs = range(shown.iter().map(|(_, cost)| *cost)).filter(|[low, high]| low < high)?;
    let ends = shown.iter().flat_map(|(one, _)| one.interval.into_iter().flatten().chain([one.accuracy]));
    let [low, high] = range(ends)?.map(|part| part * 100.0);
    let room = ((high - low) * 0.08).max(0.5);
    let panel = Rect { x: 66.0, y: 92.0, width: 510.0, height: 330.0 };
    let said: Vec<String> =
        shown.iter().map(|(one, cost)| format!("{} {} at {}", one.name, percent(one.accuracy), cost)).collect();
    let mut canvas = Canvas::new(style, [640.0, panel.bottom() + 56.0], title, &format!("{}.", said.join(", ")));
    canvas.heading(20.0, &format!("up and to the left is better; {below}"));
    let [least, most] = limits.map(|part| part * 100.0);
    let y = Scale::exact([(low - room).max(least), (high + room).min(most)], [panel.bottom(), panel.y], 6);
    let x = Scale::log_if_wide(costs, [panel.x + 20.0, panel.right() - 60.0], 6);
    frame::vertical_axis(&mut canvas, panel, &y);
    frame::horizontal_axis(&mut canvas, panel, &x, true);
    frame::label_above(&mut canvas, panel, value);
    frame::label_below(&mut canvas, panel, &format!("{cost}{}", if x.is_log() { ", logarithmic" } else { "" }));
    let places: Vec<Point> = shown.iter().map(|(one, cost)| [x.at(*cost), y.at(one.accuracy * 100.0)]).collect();
    for ((one, _), [at, middle]) in shown.iter().zip(&places) {
        if let Some([from, to]) = one.interval.map(|ends| ends.map(|part| y.at(part * 100.0))) {
            canvas.line([*at, from], [*at, to], Stroke { opacity: 0.5, ..Stroke::new(style.series[0], 1.5) });
        }
        canvas.marker(Marker::Dot, [*at, *middle], 4.5, style.series[0]);
    }
    // Names go where they cover no point, no other name and, if possible, no interval, the first ones first; where there is
    // no such place, the point has a tooltip only.
    let mut taken: Vec<Rect> =
        places.iter().map(|[x, y]| Rect { x: x - 6.0, y: y - 6.0, width: 12.0, height: 12.0 }).collect();
    let interval = |((one, _), [at, _]): (&(&Setting, f64), &Point)| {
        let [from, to] = one.interval?.map(|part| y.at(part * 100.0));
        Some(Rect { x: at - 2.0, y: from.min(to), width: 4.0, height: (from - to).abs() })
    };
    let intervals: Vec<Rect> = shown.iter().zip(&places).filter_map(interval).collect();
    for ((one, _), [at, middle]) in shown.iter().zip(&places) {
        let width = font::width(&one.name, TICK, false).min(180.0);
        let sides = [at + 9.0, at - 9.0 - width];
        let levels = [-6.0, -20.0, 8.0, -34.0, 22.0];
        let choices = levels.iter().flat_map(|level| sides.map(|x| Rect { x, y: middle + level, width, height: 13.0 }));
        let is_inside = |place: &Rect| {
            place.x >= panel.x && place.right() <= 632.0 && place.y >= panel.y && place.bottom() <= panel.bottom()
        };
        let is_free = |place: &Rect, others: &[Rect]| {
            others.iter().all(|other| {
                place.right() < other.x
                    || other.right() < place.x
                    || place.bottom() < other.y
                    || other.bottom() < place.y
            })
        };
        let free: Vec<Rect> = choices.filter(|place| is_inside(place) && is_free(place, &taken)).collect();
        if let Some(&place) = free.iter().find(|place| is_free(place, &intervals)).or(free.first()) {
            let how = Text::new(style.soft).size(TICK).within(width + 0.01);
            canvas.text([place.x, place.y + 10.0], &one.name, &how);
            taken.push(place);
        }
    }
    Some(canvas.finish())
}

#[cfg(test)]
mod tests {
    use super::super::style::LIGHT;
    use super::*;

    fn setting(i: usize) -> Setting {
        let accuracy = 0.5 + i as f64 / 1000.0;
        let interval = (!i.is_multiple_of(3)).then_some([accuracy - 0.05, accuracy + 0.05]);
        Setting { name: format!("<{i}>"), accuracy, interval, cost: (i > 0).then_some(10f64.powi(i as i32 % 7)) }
    }

    #[test]
    fn settings_have_a_row_each_and_costs_a_place() {
        for count in [1, 2, 7, 100] {
            let all: Vec<Setting> = (0..count).map(setting).collect();
            let figure = accuracies(&all, "t", "b", &LIGHT).unwrap();
            assert!(figure.svg().contains("&lt;0&gt;") && !figure.svg().contains("<0>"));
            let figure = scatter(&all, ["t", "b", "Parameters"], &LIGHT);
            assert_eq!(figure.is_some(), count > 2);
            assert!(!figure.is_some_and(|figure| figure.svg().contains("NaN")));
        }
        assert_eq!(accuracies(&[], "t", "b", &LIGHT), None);
    }
}
