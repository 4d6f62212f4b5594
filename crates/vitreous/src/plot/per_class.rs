//! Precision, recall and F1 of each class.

use super::font;
use super::frame;
use super::scale::Scale;
use super::style::{LABEL, Style, TICK};
use super::svg::{Anchor, Canvas, Figure, Marker, Rect, Stroke, Text};
use crate::numbers::{self, percent};

/// Most classes; of more, those with the lowest F1 are shown.
const CLASSES: usize = 40;

/// A class. Scores are fractions; a class without images has none.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassRow {
    /// Its name.
    pub name: String,
    /// Images of it.
    pub images: u64,
    /// Part of the images given this class that are of it.
    pub precision: Option<f64>,
    /// Part of its images that were given it.
    pub recall: Option<f64>,
    /// The 95 % interval of the recall.
    pub interval: [f64; 2],
    /// Harmonic mean of both.
    pub f1: Option<f64>,
}

/// Draws the classes by decreasing F1, those without images last; none without classes.
pub fn per_class(rows: &[ClassRow], images: &str, style: &'static Style) -> Option<Figure> {
    const ROW: f64 = 22.0;
    let mut order: Vec<&ClassRow> = rows.iter().collect();
    // Those without images are the first to be left out.
    order.sort_by(|a, b| b.f1.unwrap_or(2.0).total_cmp(&a.f1.unwrap_or(2.0)));
    let mut shown = order.split_off(order.len().saturating_sub(CLASSES));
    shown.sort_by_key(|row| row.f1.is_none());
    let scored: Vec<f64> =
        shown.iter().flat_map(|row| [row.precision, row.recall.map(|_| row.interval[0])]).flatten().collect();
    let worst = scored.iter().copied().fold(f64::INFINITY, f64::min);
    if shown.is_empty() || !worst.is_finite() {
        return None;
    }
    let names = shown.iter().map(|row| font::width(&row.name, LABEL, false)).fold(0.0, f64::max).min(170.0);
    let left = 20.0 + names + 12.0;
    let height = ROW * shown.len() as f64;
    let panel = Rect { x: left, y: 104.0, width: 400.0, height };
    let lowest = shown.iter().rev().find(|row| row.f1.is_some())?;
    let ties = rows.iter().filter(|row| row.f1 == lowest.f1).count();
    let which = if ties > 1 { numbers::counted(ties, "class") } else { lowest.name.clone() };
    let only = match rows.len() {
        all if all > shown.len() => {
            format!("the {} of {} classes with the lowest F1; ", shown.len(), numbers::count(all as u64))
        }
        _ => String::new(),
    };
    let below = format!("{only}{images}; lowest F1: {which} ({})", percent(lowest.f1.unwrap_or(0.0)));
    let size = [panel.right() + 90.0, panel.bottom() + 56.0];
    let said: Vec<String> =
        shown.iter().map(|row| format!("{} {}", row.name, row.f1.map_or("none".to_string(), percent))).collect();
    let mut canvas = Canvas::new(style, size, "Scores of each class", &format!("{below}. F1: {}.", said.join(", ")));
    canvas.heading(20.0, &below);
    let low = (worst * 100.0 - 2.0).max(0.0);
    let x = Scale::exact([low.min(90.0), 100.0], [panel.x, panel.right()], 6);
    for (tick, _) in x.ticks() {
        canvas.line([x.at(tick), panel.y], [x.at(tick), panel.bottom()], Stroke::new(style.grid, 1.0));
    }
    let series = style.series;
    let marks = [
        (series[0], Marker::Dot, true, "recall with 95 % interval"),
        (series[2], Marker::Square, false, "precision"),
        (series[1], Marker::Diamond, false, "F1"),
    ];
    legend(&mut canvas, panel, &marks);
    canvas.text([panel.right() + 76.0, panel.y - 10.0], "images", &Text::new(style.soft).size(TICK).at(Anchor::End));
    for (i, row) in shown.iter().enumerate() {
        let middle = panel.y + (i as f64 + 0.5) * ROW;
        let color = if row.images == 0 { style.soft } else { style.ink };
        let how = Text::new(color).at(Anchor::End).within(names);
        canvas.text([left - 12.0, middle + LABEL * 0.36], &row.name, &how);
        let how = Text::new(style.soft).size(TICK).at(Anchor::End);
        canvas.text([panel.right() + 76.0, middle + TICK * 0.36], &numbers::count(row.images), &how);
        let Some(recall) = row.recall else {
            canvas.text([panel.x + 8.0, middle + TICK * 0.36], "no images", &Text::new(style.soft).size(TICK));
            continue;
        };
        let at = |part: f64| x.at(part * 100.0);
        let [precision, f1] = [row.precision, row.f1].map(|score| score.unwrap_or(0.0));
        canvas.begin(&format!(
            "{}: precision {}, recall {}, F1 {}",
            row.name,
            percent(precision),
            percent(recall),
            percent(f1)
        ));
        let [from, to] = row.interval.map(at);
        canvas.line([from, middle], [to, middle], Stroke::new(series[0], 1.6));
        canvas.marker(Marker::Square, [at(precision), middle], 3.6, series[2]);
        canvas.marker(Marker::Dot, [at(recall), middle], 4.0, series[0]);
        canvas.marker(Marker::Diamond, [at(f1), middle], 3.4, series[1]);
        canvas.end();
    }
    frame::horizontal_axis(&mut canvas, panel, &x, true);
    frame::label_below(&mut canvas, panel, "Score (%)");
    Some(canvas.finish())
}

/// Explains the marks: color, sign, whether a line goes through it, and what it is.
fn legend(canvas: &mut Canvas, panel: Rect, marks: &[(&'static str, Marker, bool, &str)]) {
    let style = canvas.style();
    let (mut at, y) = (panel.x, panel.y - 14.0);
    for &(color, marker, has_line, words) in marks {
        if has_line {
            canvas.line([at, y], [at + 20.0, y], Stroke::new(color, 1.6));
        }
        canvas.marker(marker, [at + 10.0, y], 3.8, color);
        canvas.text([at + 26.0, y + TICK * 0.36], words, &Text::new(style.soft).size(TICK));
        at += 26.0 + font::width(words, TICK, false) + 18.0;
    }
}

#[cfg(test)]
mod tests {
    use super::super::style::LIGHT;
    use super::*;

    #[test]
    fn the_worst_of_many_classes_are_shown_and_those_without_images_named() {
        let row = |i: usize| ClassRow {
            name: if i == 1 { "<b>".repeat(100) } else { format!("c{i}") },
            images: 20 - (i as u64).min(20),
            precision: (i < 20).then_some(0.9),
            recall: (i < 20).then_some(0.8),
            interval: [0.7, 0.9],
            f1: (i < 20).then_some(0.8 + i as f64 / 1000.0),
        };
        let figure = |rows: usize| per_class(&(0..rows).map(row).collect::<Vec<_>>(), "9 test images", &LIGHT);
        assert!(figure(2).unwrap().svg().contains("&lt;b&gt;") && !figure(2).unwrap().svg().contains("<b>"));
        assert!(figure(22).unwrap().svg().contains(">no images</text>"));
        assert!(figure(50).unwrap().svg().contains("the 40 of 50 classes"));
        // All with images are shown, also where most classes have none.
        let many = figure(90).unwrap();
        assert_eq!((many.svg().matches(">no images</text>").count(), many.svg().contains(">c19</text>")), (20, true));
        assert_eq!(figure(0), None);
    }
}
