//! The architecture of a model: boxes from top to bottom, frames around blocks, and lines around residual connections.

use super::font;
use super::style::{LABEL, Style, TICK};
use super::svg::{Anchor, Canvas, Figure, Point, Rect, Stroke, Text};

/// What a box stands for; it decides the color.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A layer with weights.
    Weights,
    /// Attention.
    Attention,
    /// Tokens, positions and patches.
    Tokens,
    /// Normalization.
    Norm,
    /// Pooling, and other changes of a shape.
    Shape,
    /// An activation or dropout.
    Small,
    /// A frame around others.
    Frame,
    /// A sum.
    Sum,
}

/// A part of the drawing.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// What it stands for.
    pub role: Role,
    /// Its name.
    pub title: String,
    /// Its settings, in a few words.
    pub detail: String,
    /// The shape of its result.
    pub shape: String,
    /// How many equal ones follow each other.
    pub times: usize,
    /// Of a sum: the number of the part before which the residual connection starts.
    pub skips: Option<usize>,
    /// Whether it reads what the first column computes.
    pub reads_first: bool,
    /// What is inside of a frame.
    pub parts: Vec<Part>,
}

/// A model to be drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// At the top.
    pub title: String,
    /// Below the title.
    pub below: String,
    /// What the first column reads.
    pub input: String,
    /// What is computed, in this order.
    pub parts: Vec<Part>,
    /// The number of the part with which a second column starts, and what that one reads.
    pub second: Option<(usize, String)>,
}

const WIDTH: f64 = 400.0;
const BETWEEN: f64 = 56.0;
const BOX: f64 = 30.0;
const SMALL: f64 = 22.0;
const GAP: f64 = 16.0;
const HEADER: f64 = 26.0;
const GUTTER: f64 = 26.0;
/// A column that would be longer is continued in another one.
const HEIGHT_MAX: f64 = 900.0;

fn height(part: &Part) -> f64 {
    match part.role {
        Role::Small => SMALL,
        Role::Sum => 18.0,
        Role::Frame => HEADER + GAP + sequence_height(&part.parts) + GAP,
        _ => BOX,
    }
}

/// The room before a part: small ones touch what they follow.
fn gap(parts: &[Part], at: usize) -> f64 {
    if at == 0 || (parts[at].role == Role::Small && !matches!(parts[at - 1].role, Role::Sum | Role::Frame)) {
        return 0.0;
    }
    GAP
}

fn sequence_height(parts: &[Part]) -> f64 {
    (0..parts.len()).map(|at| gap(parts, at) + height(&parts[at])).sum()
}

impl Architecture {
    /// Draws it; none without parts.
    pub fn figure(&self, style: &'static Style) -> Option<Figure> {
        if self.parts.is_empty() {
            return None;
        }
        let columns: Vec<(&[Part], &str)> = match &self.second {
            Some((at, input)) => {
                let (first, second) = self.parts.split_at((*at).min(self.parts.len()));
                vec![(first, self.input.as_str()), (second, input.as_str())]
            }
            None => columns(&self.parts)
                .into_iter()
                .zip(std::iter::once(self.input.as_str()).chain(std::iter::repeat("")))
                .collect(),
        };
        let tallest = columns.iter().map(|(parts, _)| sequence_height(parts)).fold(0.0, f64::max);
        let width = 40.0 + WIDTH * columns.len() as f64 + BETWEEN * (columns.len() - 1) as f64;
        let top = 100.0;
        let said: Vec<String> = self.parts.iter().map(|part| format!("{} {}", part.title, part.detail)).collect();
        let said = format!("From top to bottom: {}.", said.join("; "));
        let mut canvas = Canvas::new(style, [width, top + tallest + 24.0], &self.title, &said);
        canvas.heading(20.0, &self.below);
        let mut ends: Vec<Point> = Vec::new();
        for (number, (parts, input)) in columns.iter().enumerate() {
            let x = 20.0 + (WIDTH + BETWEEN) * number as f64;
            let middle = x + WIDTH / 2.0;
            if input.is_empty() {
                // The column before continues here.
                let [from, y] = ends[number - 1];
                let turn = x - BETWEEN / 2.0;
                let points = [
                    [from, y],
                    [from, y + 10.0],
                    [turn, y + 10.0],
                    [turn, top - 14.0],
                    [middle, top - 14.0],
                    [middle, top],
                ];
                arrow(&mut canvas, &points);
            } else {
                canvas.text(
                    [middle, top - 24.0],
                    input,
                    &Text::new(style.soft).size(TICK).at(Anchor::Middle).within(WIDTH),
                );
                arrow(&mut canvas, &[[middle, top - 18.0], [middle, top]]);
            }
            let mut readers = Vec::new();
            let bottom = sequence(&mut canvas, parts, Rect { x, y: top, width: WIDTH, height: 0.0 }, &mut readers);
            if self.second.is_some() && number == 1 {
                let [from, y] = ends[0];
                let turn = x - BETWEEN / 2.0;
                for reader in readers {
                    arrow(&mut canvas, &[[from, y], [from, y + 10.0], [turn, y + 10.0], [turn, reader[1]], reader]);
                }
            }
            ends.push([middle, bottom]);
        }
        Some(canvas.finish())
    }
}

/// Splits a long sequence into columns of about the same height.
fn columns(parts: &[Part]) -> Vec<&[Part]> {
    let whole = sequence_height(parts);
    let count = (whole / HEIGHT_MAX).ceil().max(1.0);
    let (mut columns, mut start, mut used) = (Vec::new(), 0, 0.0);
    for at in 0..parts.len() {
        let more = gap(parts, at) + height(&parts[at]);
        // What touches the part before stays with it.
        if used + more > whole / count + BOX
            && at > start
            && gap(parts, at) > 0.0
            && (columns.len() as f64) < count - 1.0
        {
            columns.push(&parts[start..at]);
            (start, used) = (at, 0.0);
        }
        used += more;
    }
    columns.push(&parts[start..]);
    columns
}

/// Draws parts below each other; returns where they end, and adds where the first column is read.
fn sequence(canvas: &mut Canvas, parts: &[Part], room: Rect, readers: &mut Vec<Point>) -> f64 {
    let middle = room.x + room.width / 2.0;
    let has_sums = parts.iter().any(|part| part.role == Role::Sum);
    let inset = if has_sums { GUTTER } else { 0.0 };
    let mut y = room.y;
    let mut tops = Vec::with_capacity(parts.len());
    for (at, part) in parts.iter().enumerate() {
        let before = gap(parts, at);
        if before > 0.0 {
            arrow(canvas, &[[middle, y], [middle, y + before]]);
        }
        // Where a residual connection leaves the way down.
        tops.push(if at == 0 { y - GAP * 0.6 } else { y + before * 0.4 });
        y += before;
        let place = Rect { x: room.x + inset, y, width: room.width - 2.0 * inset, height: height(part) };
        match part.role {
            Role::Sum => {
                let (style, center) = (canvas.style(), y + place.height / 2.0);
                let start = part.skips.and_then(|at| tops.get(at).copied()).unwrap_or(room.y);
                let left = room.x + 6.0;
                arrow(canvas, &[[middle, start], [left, start], [left, center], [middle - 9.0, center]]);
                let plus = Stroke::new(style.ink, 1.4);
                canvas.marker(super::svg::Marker::Ring, [middle, center], 8.5, style.axis);
                canvas.line([middle - 4.5, center], [middle + 4.5, center], plus);
                canvas.line([middle, center - 4.5], [middle, center + 4.5], plus);
                let how = Text::new(style.soft).size(TICK).within(room.width / 2.0 - 20.0);
                canvas.text([middle + 16.0, center + TICK * 0.36], &part.detail, &how);
            }
            Role::Frame => frame(canvas, part, place, readers),
            _ => layer(canvas, part, place, readers),
        }
        y += place.height;
    }
    y
}

fn frame(canvas: &mut Canvas, part: &Part, place: Rect, readers: &mut Vec<Point>) {
    let style = canvas.style();
    fill(canvas, place, style.axis, 0.07);
    canvas.outline(place, Stroke::new(style.axis, 1.2));
    let how = Text::new(style.ink).bold();
    canvas.text([place.x + 10.0, place.y + 18.0], &part.title, &how);
    let from = place.x + 10.0 + font::width(&part.title, LABEL, true) + 10.0;
    let badge = if part.times > 1 { format!("× {}", part.times) } else { String::new() };
    canvas.text([place.right() - 10.0, place.y + 18.0], &badge, &how.size(15.0).at(Anchor::End));
    let soft = Text::new(style.soft).size(TICK).within(place.right() - 50.0 - from);
    canvas.text([from, place.y + 18.0], &part.detail, &soft);
    let inside = Rect { x: place.x + 10.0, y: place.y + HEADER + GAP, width: place.width - 20.0, height: 0.0 };
    let middle = place.x + place.width / 2.0;
    arrow(canvas, &[[middle, place.y + HEADER], [middle, inside.y]]);
    let bottom = sequence(canvas, &part.parts, inside, readers);
    canvas.line([middle, bottom], [middle, place.bottom()], Stroke::new(style.soft, 1.2));
}

fn layer(canvas: &mut Canvas, part: &Part, place: Rect, readers: &mut Vec<Point>) {
    let style = canvas.style();
    let color = match part.role {
        Role::Weights => style.series[0],
        Role::Attention => style.series[1],
        Role::Tokens => style.series[2],
        Role::Norm => style.series[3],
        Role::Shape => style.series[4],
        _ => style.axis,
    };
    fill(canvas, place, color, 0.14);
    canvas.outline(place, Stroke::new(color, 1.2));
    let base = place.y + place.height / 2.0 + 4.2;
    let is_small = part.role == Role::Small;
    let size = if is_small { TICK } else { LABEL };
    let title = Text::new(style.ink).size(size);
    let title = if is_small { title } else { title.bold() };
    let shape = font::width(&part.shape, TICK, false).min(place.width * 0.35);
    let room = place.width - shape - 30.0;
    canvas.text([place.x + 10.0, base], &part.title, &title.within(room));
    let from = font::width(&part.title, size, !is_small) + 8.0;
    if room - from > 20.0 {
        canvas.text([place.x + 10.0 + from, base], &part.detail, &Text::new(style.soft).size(TICK).within(room - from));
    }
    let how = Text::new(style.soft).size(TICK).at(Anchor::End).within(place.width * 0.35);
    canvas.text([place.right() - 10.0, base], &part.shape, &how);
    if part.reads_first {
        readers.push([place.x, place.y + place.height / 2.0]);
    }
}

fn fill(canvas: &mut Canvas, place: Rect, color: &str, opacity: f64) {
    let Rect { x, y, .. } = place;
    canvas.area(&[[x, y], [place.right(), y], [place.right(), place.bottom()], [x, place.bottom()]], color, opacity);
}

/// Draws a line through points, with a head at its end.
fn arrow(canvas: &mut Canvas, points: &[Point]) {
    let color = canvas.style().soft;
    canvas.curve(points, Stroke::new(color, 1.2));
    let [.., from, to] = points else { return };
    let [dx, dy] = [
        (to[0] - from[0]).signum() * f64::from(to[0] != from[0]),
        (to[1] - from[1]).signum() * f64::from(to[1] != from[1]),
    ];
    let back = |side: f64| [to[0] - 6.0 * dx + side * 3.2 * dy, to[1] - 6.0 * dy + side * 3.2 * dx];
    canvas.area(&[*to, back(1.0), back(-1.0)], color, 1.0);
}

#[cfg(test)]
mod tests {
    use super::super::style::LIGHT;
    use super::*;

    fn part(role: Role, parts: Vec<Part>) -> Part {
        let (title, detail) = ("<Layer>".to_string(), "d".repeat(300));
        Part { role, title, detail, shape: "1 × 2".to_string(), times: 6, skips: Some(0), reads_first: false, parts }
    }

    #[test]
    fn blocks_are_frames_and_long_models_have_columns() {
        let block = part(Role::Frame, vec![part(Role::Attention, Vec::new()), part(Role::Sum, Vec::new())]);
        let model = |parts: Vec<Part>, second| {
            let (title, below, input) = ("t".to_string(), "b".to_string(), "i".to_string());
            Architecture { title, below, input, parts, second }.figure(&LIGHT)
        };
        let figure = model(vec![part(Role::Weights, Vec::new()), block.clone()], None).unwrap();
        assert!(figure.svg().contains("× 6") && !figure.svg().contains("<Layer>") && !figure.svg().contains("NaN"));
        let width = |figure: &Figure| figure.svg().split('"').nth(3).unwrap().parse::<f64>().unwrap();
        assert_eq!(width(&figure), 440.0);
        let long = model(vec![part(Role::Weights, Vec::new()); 30], None).unwrap();
        assert_eq!(width(&long), 896.0);
        let two = model(vec![block.clone(), block], Some((1, "words".to_string()))).unwrap();
        assert_eq!(width(&two), 896.0);
        assert_eq!(model(Vec::new(), None), None);
    }
}
