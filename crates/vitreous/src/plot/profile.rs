//! The profile of a step: time by layer, and layers under the roof of the machine.

use super::font;
use super::frame::{self, Look};
use super::scale::{Scale, short};
use super::style::{LABEL, Style, TICK};
use super::svg::{Anchor, Canvas, Figure, Marker, Rect, Stroke, Text};

/// Height of a line of labels.
const LINE: f64 = 13.0;

/// Most bars; of more rows, those that take the longest are shown, and the rest as one.
const BARS: usize = 40;

/// The time of a row, in ms.
#[derive(Clone, Debug, PartialEq)]
pub struct TimeBar {
    /// Its name.
    pub name: String,
    /// Forward, backward, and outside of both.
    pub ms: [f64; 3],
    /// What limits it, or nothing.
    pub note: String,
}

impl TimeBar {
    fn total(&self) -> f64 {
        self.ms.iter().sum()
    }
}

/// Draws the rows that take the longest, in the given order; none without rows.
pub fn time_bars(rows: &[TimeBar], below: &str, style: &'static Style) -> Option<Figure> {
    const ROW: f64 = 20.0;
    let mut by_time: Vec<f64> = rows.iter().map(TimeBar::total).collect();
    by_time.sort_by(|a, b| b.total_cmp(a));
    let least = by_time.get(BARS - 1).copied().unwrap_or(0.0);
    let mut shown: Vec<TimeBar> =
        rows.iter().filter(|row| row.total() >= least && row.total() > 0.0).cloned().collect();
    shown.truncate(BARS);
    if rows.len() > BARS {
        let all = |part: usize| rows.iter().map(|row| row.ms[part]).sum::<f64>();
        let of_shown = |part: usize| shown.iter().map(|row| row.ms[part]).sum::<f64>();
        let ms = [0, 1, 2].map(|part| all(part) - of_shown(part));
        shown.push(TimeBar { name: format!("{} other rows", rows.len() - shown.len()), ms, note: String::new() });
    }
    let longest = shown.iter().map(TimeBar::total).fold(0.0, f64::max);
    if longest.is_nan() || longest <= 0.0 {
        return None;
    }
    let all: f64 = rows.iter().map(TimeBar::total).sum();
    let names = shown.iter().map(|row| font::width(&row.name, LABEL, false)).fold(0.0, f64::max).min(340.0);
    let left = 20.0 + names + 12.0;
    let panel = Rect { x: left, y: 100.0, width: 380.0, height: ROW * shown.len() as f64 };
    let said: Vec<String> = shown.iter().map(|row| format!("{} {} ms", row.name, short(row.total()))).collect();
    let size = [panel.right() + 130.0, panel.bottom() + 56.0];
    let mut canvas = Canvas::new(style, size, "Time by layer", &format!("{below}. {}.", said.join(", ")));
    canvas.heading(20.0, below);
    let x = Scale::exact([0.0, longest * 1.02], [panel.x, panel.right()], 6);
    for (tick, _) in x.ticks() {
        canvas.line([x.at(tick), panel.y], [x.at(tick), panel.bottom()], Stroke::new(style.grid, 1.0));
    }
    let colors = [style.series[0], style.series[5], style.series[2]];
    let mut at = panel.x;
    for (words, color) in ["forward", "backward", "in no layer"].into_iter().zip(colors) {
        canvas.rect(Rect { x: at, y: panel.y - 23.0, width: 14.0, height: 10.0 }, color);
        canvas.text([at + 20.0, panel.y - 14.0], words, &Text::new(style.soft).size(TICK));
        at += 20.0 + font::width(words, TICK, false) + 18.0;
    }
    for (i, row) in shown.iter().enumerate() {
        let top = panel.y + i as f64 * ROW;
        let middle = top + ROW / 2.0;
        let how = Text::new(style.ink).at(Anchor::End).within(names);
        canvas.text([left - 12.0, middle + LABEL * 0.36], &row.name, &how);
        let [forward, backward, other] = row.ms.map(short);
        canvas.begin(&format!("{}: forward {forward} ms, backward {backward} ms, other {other} ms", row.name));
        let mut from = 0.0;
        for (ms, color) in row.ms.into_iter().zip(colors).filter(|(ms, _)| *ms > 0.0) {
            let (start, end) = (x.at(from), x.at(from + ms));
            canvas.rect(Rect { x: start, y: top + 3.0, width: end - start, height: ROW - 6.0 }, color);
            from += ms;
        }
        canvas.end();
        let share = format!("{:.1} %", row.total() / all * 100.0);
        let text = if row.note.is_empty() { share } else { format!("{share}, {}", row.note) };
        canvas.text([x.at(from) + 6.0, middle + TICK * 0.36], &text, &Text::new(style.soft).size(TICK));
    }
    frame::horizontal_axis(&mut canvas, panel, &x, true);
    frame::label_below(&mut canvas, panel, "Time (ms)");
    Some(canvas.finish())
}

/// A layer under the roof.
#[derive(Clone, Debug, PartialEq)]
pub struct RoofPoint {
    /// Its name.
    pub name: String,
    /// What it computes, or nothing.
    pub operation: String,
    /// Floating-point operations per byte.
    pub intensity: f64,
    /// 10^9 floating-point operations per second.
    pub gflops: f64,
    /// Its part of the step.
    pub share: f64,
}

/// Draws layers by operations per byte and per second, under the roof of `[10^9 operations, 10^9 bytes]` per second; none
/// without layers that compute.
pub fn roofline(points: &[RoofPoint], roof: [f64; 2], below: &str, style: &'static Style) -> Option<Figure> {
    let mut shown: Vec<&RoofPoint> =
        points.iter().filter(|point| point.intensity > 0.0 && point.gflops > 0.0).collect();
    // Large ones first, so that small ones lie on top.
    shown.sort_by(|a, b| b.share.total_cmp(&a.share));
    let [peak, bandwidth] = roof;
    if shown.is_empty() || !(peak > 0.0 && bandwidth > 0.0) {
        return None;
    }
    let ridge = peak / bandwidth;
    let panel = Rect { x: 74.0, y: 100.0, width: 520.0, height: 340.0 };
    let least = |of: fn(&RoofPoint) -> f64| shown.iter().map(|point| of(point)).fold(f64::INFINITY, f64::min);
    let most = |of: fn(&RoofPoint) -> f64| shown.iter().map(|point| of(point)).fold(0.0, f64::max);
    let (low_x, high_x) = (least(|p| p.intensity).min(ridge / 8.0), most(|p| p.intensity).max(ridge * 4.0));
    let (low_y, high_y) = (least(|p| p.gflops).min(peak / 64.0), most(|p| p.gflops).max(peak));
    let x = Scale::log_if_wide([low_x, high_x], [panel.x, panel.right()], 7);
    let y = Scale::log_if_wide([low_y, high_y * 1.3], [panel.bottom(), panel.y], 6);
    let said: Vec<String> = shown
        .iter()
        .map(|point| {
            format!("{} {} GFLOP/s at {} FLOPs per byte", point.name, short(point.gflops), short(point.intensity))
        })
        .collect();
    let size = [panel.right() + 30.0, panel.bottom() + 56.0];
    let mut canvas = Canvas::new(style, size, "Layers under the roof", &format!("{below}. {}.", said.join("; ")));
    canvas.heading(20.0, below);
    frame::vertical_axis(&mut canvas, panel, &y);
    frame::horizontal_axis(&mut canvas, panel, &x, true);
    frame::label_below(&mut canvas, panel, "FLOPs per byte");
    frame::label_above(&mut canvas, panel, "GFLOP/s");
    // The roof, from edge to edge of the panel. Both axes are logarithmic: the ranges above make sure of it.
    let edge = |pixel: f64| {
        let [from, to] = [low_x, high_x].map(|intensity| x.at(intensity));
        low_x * (high_x / low_x).powf((pixel - from) / (to - from))
    };
    let bottom = y.at(low_y);
    let start = edge(panel.x).max(low_y / bandwidth);
    let end = edge(panel.right());
    let line = [[x.at(start), y.at(start * bandwidth).min(bottom)], [x.at(ridge), y.at(peak)], [x.at(end), y.at(peak)]];
    canvas.curve(&line, Stroke::new(style.axis, 2.0));
    let how = Text::new(style.soft).size(TICK).at(Anchor::End);
    canvas.text([panel.right() - 4.0, y.at(peak) - 6.0], &format!("{} GFLOP/s", short(peak)), &how);
    let memory = format!("memory {} GB/s", short(bandwidth));
    canvas.text([x.at(ridge) - 14.0, y.at(peak) + 4.0], &memory, &Text::new(style.soft).size(TICK).at(Anchor::End));
    let dot = |point: &RoofPoint| {
        let radius = (22.0 * point.share.clamp(0.0, 1.0).sqrt()).max(2.5);
        ([x.at(point.intensity), y.at(point.gflops)], radius)
    };
    for point in &shown {
        let (at, radius) = dot(point);
        canvas.begin(&format!(
            "{}: {} GFLOP/s at {} FLOPs per byte, {:.1} % of the step",
            point.name,
            short(point.gflops),
            short(point.intensity),
            point.share * 100.0
        ));
        canvas.marker(Marker::Dot, at, radius, style.series[0]);
        canvas.end();
    }
    // Labels next to their dots, or further away with a line to them, where they cover nothing.
    let square = |point: &RoofPoint| {
        let ([x, y], radius) = dot(point);
        Rect { x: x - radius, y: y - radius, width: 2.0 * radius, height: 2.0 * radius }
    };
    let mut taken: Vec<Rect> = shown.iter().map(|point| square(point)).collect();
    for point in shown.iter().filter(|point| point.share >= 0.01) {
        let full = match point.operation.as_str() {
            "" => point.name.clone(),
            operation => format!("{}: {operation}", point.name),
        };
        let Some((text, label, offset)) = [&full, &point.name].into_iter().find_map(|text| {
            let (label, offset) = place(text, dot(point), panel, &taken)?;
            Some((text, label, offset))
        }) else {
            continue;
        };
        if offset.abs() > 2.0 * LINE {
            let ([from, middle], _) = dot(point);
            let to = if label.x > from { label.x - 2.0 } else { label.right() + 2.0 };
            canvas.line([from, middle], [to, middle + offset], Stroke::new(style.soft, 0.75));
        }
        let how = Text::new(style.ink).size(TICK).within(label.width + 1.0);
        canvas.text([label.x, label.y + TICK * 0.96], text, &how);
        taken.push(label);
    }
    let look = Look { stroke: Stroke::new(style.series[0], 0.0), marker: Some(Marker::Dot) };
    frame::legend(
        &mut canvas,
        panel.right(),
        panel.y - 10.0,
        &[(look, "a layer; area: its part of the step, at least a dot")],
        400.0,
    );
    Some(canvas.finish())
}

/// Where a label of a dot covers neither dots nor labels, and how far its middle is below that of the dot; the nearest
/// place, at the right if possible.
fn place(text: &str, ([x, y], radius): ([f64; 2], f64), panel: Rect, taken: &[Rect]) -> Option<(Rect, f64)> {
    let width = font::width(text, TICK, false);
    let offsets = [0.0, -1.0, 1.0, -2.0, 2.0, -3.0, 3.0, -4.0, 4.0, -5.0, 5.0];
    let places = offsets.into_iter().flat_map(|lines| {
        let (offset, away) = (lines * LINE, if lines == 0.0 { radius + 4.0 } else { radius + 8.0 });
        let from = [x + away, x - away - width];
        from.map(|from| (Rect { x: from, y: y + offset - TICK * 0.6, width, height: TICK * 1.2 }, offset))
    });
    let is_free = |label: &Rect| {
        let is_inside = label.x >= panel.x && label.right() <= panel.right();
        let is_within = label.y >= panel.y && label.bottom() <= panel.bottom();
        let meets = |other: &Rect| {
            other.x < label.right() && label.x < other.right() && other.y < label.bottom() && label.y < other.bottom()
        };
        is_inside && is_within && !taken.iter().any(meets)
    };
    places.into_iter().find(|(label, _)| is_free(label))
}

#[cfg(test)]
mod tests {
    use super::super::style::{DARK, LIGHT};
    use super::super::tests::compare;
    use super::*;

    fn bar(name: &str, ms: [f64; 3], note: &str) -> TimeBar {
        TimeBar { name: name.to_string(), ms, note: note.to_string() }
    }

    #[test]
    fn bars_are_as_long_as_their_times() {
        let rows = [
            bar("layers.0 + layers.1", [4.0, 11.5, 0.0], "overhead"),
            bar("layers.6", [12.5, 27.0, 0.0], "compute"),
            bar("head", [0.25, 0.5, 0.0], "memory"),
            bar("optimizer", [0.0, 0.0, 2.0], ""),
            bar("nothing", [0.0; 3], ""),
        ];
        compare(
            "profile-bars",
            &time_bars(&rows, "a training step of 128 images takes 57.8 ms on 2 threads", &LIGHT).unwrap(),
        );
        compare(
            "profile-bars-dark",
            &time_bars(&rows, "a training step of 128 images takes 57.8 ms on 2 threads", &DARK).unwrap(),
        );
        let text = time_bars(&rows, "", &LIGHT).unwrap().svg().to_string();
        assert!(text.contains("68.4 %, compute") && !text.contains("nothing"));
        assert_eq!(time_bars(&rows[4..], "", &LIGHT), None);
        let many: Vec<TimeBar> = (0..50).map(|i| bar(&format!("<{i}>"), [1.0 + f64::from(i), 0.0, 0.0], "")).collect();
        let text = time_bars(&many, "", &LIGHT).unwrap().svg().to_string();
        assert!(text.contains("10 other rows") && text.contains("&lt;49&gt;") && !text.contains("&lt;9&gt;:"));
    }

    #[test]
    fn layers_are_where_their_numbers_say() {
        let point = |name: &str, intensity: f64, gflops: f64, share: f64| RoofPoint {
            name: name.to_string(),
            operation: if name.starts_with("layers") { "conv 32 + relu" } else { "" }.to_string(),
            intensity,
            gflops,
            share,
        };
        let points = [
            point("layers.6", 60.0, 110.0, 0.55),
            point("layers.0", 9.0, 31.0, 0.25),
            point("head", 4.5, 12.0, 0.02),
            point("norm", 0.5, 6.0, 0.05),
            point("moves", 0.0, 0.0, 0.05),
        ];
        let figure = |style| roofline(&points, [134.0, 14.0], "training step of 128 images on 2 threads", style);
        compare("profile-roofline", &figure(&LIGHT).unwrap());
        compare("profile-roofline-dark", &figure(&DARK).unwrap());
        assert!(!figure(&LIGHT).unwrap().svg().contains("moves"));
        // Layers that lie on each other: none of the labels covers a dot or another label.
        let near = [0.3, 0.3, 0.22, 0.1].map(|share| point("layers.9", 60.0, 110.0, share));
        let text = roofline(&near, [134.0, 14.0], "", &LIGHT).unwrap().svg().to_string();
        assert_eq!(text.matches(">layers.9: conv 32 + relu</text>").count(), 4, "{text}");
        let (dot, panel) = (([100.0, 100.0], 5.0), Rect { x: 0.0, y: 0.0, width: 400.0, height: 200.0 });
        let (label, offset) = place("layers.9", dot, panel, &[]).unwrap();
        assert_eq!((label.x, offset), (109.0, 0.0));
        let right = Rect { x: 105.0, y: 96.0, width: 20.0, height: 8.0 };
        let (label, offset) = place("layers.9", dot, panel, &[right]).unwrap();
        assert!(label.right() < 95.0 && offset == 0.0, "{label:?}");
        let all = Rect { x: 0.0, y: 0.0, width: 400.0, height: 200.0 };
        assert_eq!(place("layers.9", dot, panel, &[all]), None);
        assert_eq!(roofline(&points[4..], [134.0, 14.0], "", &LIGHT), None);
        assert_eq!(roofline(&points, [0.0, 14.0], "", &LIGHT), None);
    }
}
