//! What figures with axes share: the axes, their numbers and labels, and legends.

use super::font;
use super::render::png;
use super::scale::Scale;
use super::style::{DASHES, LABEL, TICK};
use super::svg::{Anchor, Canvas, MARKERS, Marker, Rect, Stroke, Text};

/// Pixels from a number to its axis.
const GAP: f64 = 7.0;

/// Draws the vertical axis of a panel: its numbers, and the grid lines that belong to them.
pub fn vertical_axis(canvas: &mut Canvas, panel: Rect, scale: &Scale) {
    let style = canvas.style();
    for (value, text) in scale.ticks() {
        let y = scale.at(value);
        canvas.line([panel.x, y], [panel.right(), y], Stroke::new(style.grid, 1.0));
        let how = Text::new(style.soft).size(TICK).at(Anchor::End);
        canvas.text([panel.x - GAP, y + TICK * 0.36], &text, &how);
    }
}

/// Draws the horizontal axis of a panel, and its numbers if there is room for them below.
pub fn horizontal_axis(canvas: &mut Canvas, panel: Rect, scale: &Scale, has_numbers: bool) {
    let style = canvas.style();
    canvas.line([panel.x, panel.bottom()], [panel.right(), panel.bottom()], Stroke::new(style.axis, 1.0));
    for (value, text) in scale.ticks() {
        let x = scale.at(value);
        canvas.line([x, panel.bottom()], [x, panel.bottom() + 4.0], Stroke::new(style.axis, 1.0));
        if has_numbers {
            let how = Text::new(style.soft).size(TICK).at(Anchor::Middle);
            canvas.text([x, panel.bottom() + 7.0 + TICK], &text, &how);
        }
    }
}

/// Writes the label below a horizontal axis with numbers.
pub fn label_below(canvas: &mut Canvas, panel: Rect, label: &str) {
    let how = Text::new(canvas.style().ink).at(Anchor::Middle).within(panel.width);
    canvas.text([panel.x + panel.width / 2.0, panel.bottom() + 38.0], label, &how);
}

/// Writes the label of a vertical axis above the panel, from left to right, as it is read.
pub fn label_above(canvas: &mut Canvas, panel: Rect, label: &str) {
    let how = Text::new(canvas.style().ink).bold().within(panel.width);
    canvas.text([panel.x, panel.y - 10.0], label, &how);
}

/// The room that the numbers of some axes need at their left.
pub fn room_for(scales: &[&Scale]) -> f64 {
    let texts = scales.iter().flat_map(|scale| scale.ticks());
    texts.map(|(_, text)| font::width(&text, TICK, false)).fold(0.0, f64::max) + GAP
}

/// How a series is shown.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// Its line.
    pub stroke: Stroke<'a>,
    /// Its points, if they are marked.
    pub marker: Option<Marker>,
}

/// The look of the series with this number.
pub fn look(canvas: &Canvas, number: usize) -> Look<'static> {
    let at = number % DASHES.len();
    let stroke = Stroke { dash: DASHES[at], ..Stroke::new(canvas.style().series[at], 1.8) };
    Look { stroke, marker: Some(MARKERS[at]) }
}

/// Writes a legend that ends at a place, on one line or on several; returns its lower end.
pub fn legend(canvas: &mut Canvas, right: f64, y: f64, entries: &[(Look, &str)], room: f64) -> f64 {
    const SAMPLE: f64 = 22.0;
    const AFTER: f64 = 16.0;
    let longest = (room - SAMPLE - 6.0).min(260.0);
    let size = |text: &str| SAMPLE + 6.0 + font::width(text, TICK, false).min(longest);
    let mut lines: Vec<Vec<&(Look, &str)>> = vec![Vec::new()];
    let mut used = 0.0;
    for entry in entries {
        let needed = size(entry.1) + AFTER;
        if used + needed - AFTER > room && used > 0.0 {
            lines.push(Vec::new());
            used = 0.0;
        }
        used += needed;
        lines.last_mut().expect("there is one").push(entry);
    }
    let mut y = y;
    for line in &lines {
        let mut x = right - line.iter().map(|entry| size(entry.1) + AFTER).sum::<f64>() + AFTER;
        for (look, text) in line {
            let middle = y - TICK * 0.36;
            canvas.line([x, middle], [x + SAMPLE, middle], look.stroke);
            if let Some(marker) = look.marker {
                canvas.marker(marker, [x + SAMPLE / 2.0, middle], 3.2, look.stroke.color);
            }
            let how = Text::new(canvas.style().soft).size(TICK).within(longest);
            canvas.text([x + SAMPLE + 6.0, y], text, &how);
            x += size(text) + AFTER;
        }
        y += LABEL + 5.0;
    }
    y - LABEL - 5.0
}

/// Draws a bar of colors with numbers at its right; `ticks` are from 0, at its foot, to 1.
pub fn color_bar(canvas: &mut Canvas, bar: Rect, color: impl Fn(f64) -> [u8; 3], ticks: &[(f64, String)]) {
    const STEPS: u32 = 64;
    let pixels: Vec<u8> = (0..STEPS).rev().flat_map(|i| color(f64::from(i) / f64::from(STEPS - 1))).collect();
    canvas.picture(bar, &png(&pixels, [1, STEPS], true), "the colors and what they mean");
    let style = canvas.style();
    canvas.outline(bar, Stroke::new(style.axis, 0.75));
    let mut last = f64::INFINITY;
    for (part, text) in ticks {
        let y = bar.bottom() - part * bar.height;
        // Where they would overlap, the upper one is left out.
        if last - y >= TICK {
            canvas.text([bar.right() + 6.0, y + TICK * 0.36], text, &Text::new(style.soft).size(TICK));
            last = y;
        }
    }
}
