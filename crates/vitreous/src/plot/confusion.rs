//! The confusion matrix: how many images of each class were given which class.

use std::collections::BTreeMap;

use super::font;
use super::frame::color_bar;
use super::render::png;
use super::style::{LABEL, Style, TICK, hex};
use super::svg::{Anchor, Canvas, Figure, Rect, Stroke, Text};
use crate::numbers;

/// Most classes whose cells are numbers; of more, those with the most mistakes are shown.
pub const CLASSES: usize = 100;

/// Of more than [`CLASSES`] classes, so many are shown.
const CHOSEN: usize = 50;

/// Most classes whose cells are shapes of their own, with a tooltip each.
const CELLS: usize = 40;

/// Pairs in the list of the most frequent confusions.
const PAIRS: usize = 12;

/// The outcome of a classification.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Names of the classes.
    pub names: Vec<String>,
    /// Images by true and by predicted class; cells without any may be left out.
    pub cells: Vec<(usize, usize, u64)>,
    /// What was classified: `10,000 test images of mnist`.
    pub images: String,
    /// Part that is right.
    pub accuracy: f64,
    /// Its 95 % interval.
    pub interval: [f64; 2],
}

/// The part of a matrix that is drawn.
struct Shown<'a> {
    names: Vec<&'a str>,
    counts: BTreeMap<(usize, usize), u64>,
    support: Vec<u64>,
}

impl Outcome {
    fn shown(&self) -> Shown<'_> {
        let all = self.names.len();
        let mut wrong = vec![0; all];
        let mut support = vec![0; all];
        for &(label, prediction, images) in &self.cells {
            support[label] += images;
            if label != prediction {
                wrong[label] += images;
                wrong[prediction] += images;
            }
        }
        let mut chosen: Vec<usize> = (0..all).collect();
        if all > CLASSES {
            chosen.sort_by_key(|class| (std::cmp::Reverse(wrong[*class]), *class));
            chosen.truncate(CHOSEN);
            chosen.sort_unstable();
        }
        let place: BTreeMap<usize, usize> = chosen.iter().copied().zip(0..).collect();
        let mut counts = BTreeMap::new();
        for (label, prediction, images) in &self.cells {
            if let (Some(label), Some(prediction)) = (place.get(label), place.get(prediction)) {
                *counts.entry((*label, *prediction)).or_default() += images;
            }
        }
        Shown {
            names: chosen.iter().map(|class| self.names[*class].as_str()).collect(),
            counts,
            support: chosen.iter().map(|class| support[*class]).collect(),
        }
    }
}

/// Draws the matrix: numbers where there is room for them, and colors for the share of the true class.
pub fn confusion(outcome: &Outcome, style: &'static Style) -> Option<Figure> {
    let shown = outcome.shown();
    let classes = shown.names.len();
    if classes == 0 || outcome.cells.is_empty() {
        return None;
    }
    let cell = (600.0 / classes as f64).clamp(8.0, 54.0);
    let side = cell * classes as f64;
    let name_size = (cell * 0.85).clamp(7.0, LABEL);
    let longest =
        |most: f64| shown.names.iter().map(|name| font::width(name, name_size, false)).fold(0.0, f64::max).min(most);
    let rows = longest(150.0);
    let is_upright = longest(f64::INFINITY) > cell - 4.0;
    let columns = if is_upright { longest(120.0) } else { name_size };
    let (left, top) = (34.0 + rows + 8.0, 76.0 + columns + 8.0);
    let pairs = pairs(&shown);
    let has_list = classes > 12 && !pairs.is_empty();
    let width = (left + side + 78.0 + if has_list { 250.0 } else { 0.0 }).max(520.0);
    let height =
        (top + side + 22.0).max(if has_list { top + 20.0 + 18.0 * pairs.len() as f64 } else { 0.0 }).max(230.0);

    let Outcome { images, accuracy, interval: [low, high], .. } = outcome;
    let [accuracy, low, high] = [*accuracy, *low, *high].map(numbers::percent);
    let title = format!("Confusion matrix: {accuracy} of {images} are correct");
    let only = match outcome.names.len() {
        all if all > classes => {
            format!("; the {classes} of {} classes with the most mistakes", numbers::count(all as u64))
        }
        _ => String::new(),
    };
    let below = format!("95 % interval {low} to {high}{only}");
    let most = pairs.first().map_or(String::new(), |(label, prediction, count)| {
        format!(" Most often, {label} is taken for {prediction}: {}.", numbers::counted(*count as usize, "image"))
    });
    let mut canvas = Canvas::new(
        style,
        [width, height],
        &title,
        &format!("{below}. Rows are true classes, columns predictions.{most}"),
    );
    canvas.heading(20.0, &below);

    let matrix = Rect { x: left, y: top, width: side, height: side };
    names(&mut canvas, &shown, (matrix, cell, name_size), (rows, columns, is_upright));
    if classes <= CELLS {
        (0..classes).for_each(|label| row(&mut canvas, &shown, label, (matrix, cell)));
    } else {
        let shade = |i: usize| {
            let (label, prediction) = (i / classes, i % classes);
            style.shade(share(&shown, label, prediction).sqrt())
        };
        let pixels: Vec<u8> = (0..classes * classes).flat_map(shade).collect();
        canvas.picture(
            matrix,
            &png(&pixels, [classes as u32; 2], true),
            "the matrix, color by share of the true class",
        );
    }
    canvas.outline(matrix, Stroke::new(style.axis, 1.0));
    let bar = Rect { x: matrix.right() + 16.0, y: top, width: 12.0, height: side.clamp(90.0, 240.0) };
    let ticks = [0.0, 0.01, 0.1, 0.25, 0.5, 1.0].map(|share: f64| (share.sqrt(), format!("{} %", share * 100.0)));
    color_bar(&mut canvas, bar, |part| style.shade(part), &ticks);
    for (words, above) in [("share of", 23.0), ("true class", 10.0)] {
        canvas.text([bar.x, bar.y - above], words, &Text::new(style.soft).size(TICK));
    }
    if has_list {
        let x = bar.x + 76.0;
        canvas.text([x, top - 10.0], "Most often confused", &Text::new(style.ink).size(TICK).bold());
        for (i, (label, prediction, count)) in pairs.iter().enumerate() {
            let y = top + 12.0 + 18.0 * i as f64;
            let how = Text::new(style.soft).size(TICK);
            canvas.text([x + 28.0, y], &numbers::count(*count), &how.at(Anchor::End));
            // Each name is shortened by itself, and may use what the other one leaves.
            let room = width - x - 20.0 - 36.0 - 20.0;
            let wide = [label, prediction].map(|name| font::width(name, TICK, false));
            let [first, second] = [0, 1].map(|at| (room - wide[1 - at]).max(room / 2.0));
            canvas.text([x + 36.0, y], label, &how.within(first));
            let arrow = x + 36.0 + wide[0].min(first) + 4.0;
            canvas.text([arrow, y], "→", &how);
            canvas.text([arrow + 16.0, y], prediction, &how.within(second));
        }
    }
    Some(canvas.finish())
}

/// The share of a class's images that were given a class.
fn share(shown: &Shown, label: usize, prediction: usize) -> f64 {
    let count = shown.counts.get(&(label, prediction)).copied().unwrap_or(0);
    count as f64 / shown.support[label].max(1) as f64
}

/// The most frequent confusions.
fn pairs<'a>(shown: &Shown<'a>) -> Vec<(&'a str, &'a str, u64)> {
    let wrong = shown.counts.iter().filter(|((label, prediction), count)| label != prediction && **count > 0);
    let mut pairs: Vec<(&str, &str, u64)> =
        wrong.map(|((label, prediction), count)| (shown.names[*label], shown.names[*prediction], *count)).collect();
    pairs.sort_by_key(|(.., count)| std::cmp::Reverse(*count));
    pairs.truncate(PAIRS);
    pairs
}

fn names(
    canvas: &mut Canvas,
    shown: &Shown,
    (matrix, cell, size): (Rect, f64, f64),
    (rows, columns, is_upright): (f64, f64, bool),
) {
    let style = canvas.style();
    for (class, name) in shown.names.iter().enumerate() {
        let middle = (class as f64 + 0.5) * cell;
        let color = if shown.support[class] == 0 { style.soft } else { style.ink };
        let how = Text::new(color).size(size).within(rows).at(Anchor::End);
        canvas.text([matrix.x - 8.0, matrix.y + middle + size * 0.36], name, &how);
        let how = Text::new(style.ink).size(size).within(columns);
        if is_upright {
            canvas.text([matrix.x + middle + size * 0.36, matrix.y - 8.0], name, &Text { is_upright, ..how });
        } else {
            canvas.text([matrix.x + middle, matrix.y - 8.0], name, &how.within(cell).at(Anchor::Middle));
        }
    }
    let how = Text::new(style.soft).at(Anchor::Middle);
    canvas.text([matrix.x + matrix.width / 2.0, matrix.y - columns - 18.0], "predicted class", &how);
    let how = Text { is_upright: true, ..how };
    canvas.text([matrix.x - rows - 20.0, matrix.y + matrix.height / 2.0], "true class", &how);
}

/// The cells of one true class.
fn row(canvas: &mut Canvas, shown: &Shown, label: usize, (matrix, cell): (Rect, f64)) {
    let style = canvas.style();
    let y = matrix.y + label as f64 * cell;
    let inner = if cell >= 16.0 { 1.0 } else { 0.0 };
    let support = shown.support[label];
    if support == 0 {
        let band = Rect { x: matrix.x, y, width: matrix.width, height: cell };
        canvas.rect(band, style.grid);
        if cell >= 14.0 {
            let how = Text::new(style.soft).size(TICK.min(cell * 0.7)).at(Anchor::Middle).within(band.width);
            canvas.text([band.x + band.width / 2.0, y + cell / 2.0 + 4.0], "no images", &how);
        }
        return;
    }
    for (&(_, prediction), &count) in shown.counts.range((label, 0)..=(label, usize::MAX)) {
        let x = matrix.x + prediction as f64 * cell;
        let share = share(shown, label, prediction);
        let color = style.shade(share.sqrt());
        // "100 %" is said of all images only.
        let has_decimal = share < 0.0995 || (0.995..1.0).contains(&share);
        let percent = if has_decimal {
            format!("{:.1} %", (share * 1000.0).min(if share < 1.0 { 999.0 } else { 1000.0 }).round() / 10.0)
        } else {
            format!("{:.0} %", share * 100.0)
        };
        let [from, to] = [shown.names[label], shown.names[prediction]];
        canvas.begin(&format!("{from} → {to}: {} of {} ({percent})", numbers::count(count), numbers::count(support)));
        let side = cell - inner;
        canvas.rect(Rect { x: x + inner / 2.0, y: y + inner / 2.0, width: side, height: side }, &hex(color));
        let (text, middle) = (numbers::count(count), [x + cell / 2.0, y + cell / 2.0]);
        let how = Text::new(style.ink_on(color)).at(Anchor::Middle);
        let has_percent = cell >= 38.0;
        let size = if has_percent { LABEL } else { (cell * 0.42).min(TICK) };
        if size >= 7.0 && font::width(&text, size, false) <= cell - 3.0 {
            let up = if has_percent { 5.0 } else { 0.0 };
            canvas.text([middle[0], middle[1] + size * 0.36 - up], &text, &how.size(size));
        }
        if has_percent {
            canvas.text([middle[0], middle[1] + 14.0], &percent, &how.size(9.0));
        }
        canvas.end();
    }
}

#[cfg(test)]
mod tests {
    use super::super::style::{DARK, LIGHT};
    use super::*;

    fn outcome(classes: usize, name: impl Fn(usize) -> String, cells: Vec<(usize, usize, u64)>) -> Outcome {
        Outcome {
            names: (0..classes).map(name).collect(),
            cells,
            images: "60 test images".to_string(),
            accuracy: 0.9,
            interval: [0.8, 0.95],
        }
    }

    #[test]
    fn two_classes_are_drawn_as_they_were_looked_at() {
        let pets = outcome(2, |class| ["cat", "dog"][class].to_string(), vec![(0, 0, 27), (0, 1, 3), (1, 1, 30)]);
        let figure = confusion(&pets, &LIGHT).unwrap();
        super::super::tests::compare("confusion", &figure);
        assert_ne!(confusion(&pets, &DARK), Some(figure));
        // Nearly all is not all.
        let nearly = outcome(2, |class| class.to_string(), vec![(0, 0, 9996), (0, 1, 4), (1, 1, 30)]);
        let figure = confusion(&nearly, &LIGHT).unwrap();
        assert_eq!(["99.9 %", "0.0 %", "100 %"].map(|text| figure.svg().contains(&format!(">{text}<"))), [true; 3]);
    }

    #[test]
    fn few_classes_many_classes_and_classes_without_images_have_figures() {
        let long = |class: usize| format!("{class}{}", "שלום<b>".repeat(43));
        for classes in [1, 3, 41, 100, 1000] {
            let cells =
                (0..classes - classes / 3).map(|class| (class, (class * 7) % classes, 1 + class as u64)).collect();
            let figure = confusion(&outcome(classes, long, cells), &LIGHT).unwrap();
            assert!(figure.svg().len() < 400_000 && !figure.svg().contains("<b>"), "{classes}: {}", figure.svg().len());
            assert!(!figure.svg().contains("NaN"));
        }
        let many = outcome(1000, |class| format!("n{class}"), vec![(999, 3, 5), (0, 0, 1000)]);
        let figure = confusion(&many, &LIGHT).unwrap();
        assert!(figure.svg().contains(">n999</text>") && figure.svg().contains("the 50 of 1,000 classes"));
        let none = outcome(3, |class| class.to_string(), vec![(0, 0, 5), (2, 0, 5)]);
        assert!(confusion(&none, &LIGHT).unwrap().svg().contains(">no images</text>"));
        assert_eq!(confusion(&outcome(3, |class| class.to_string(), Vec::new()), &LIGHT), None);
    }
}
