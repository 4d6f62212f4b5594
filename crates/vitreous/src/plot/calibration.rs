//! The reliability diagram: how often answers of a given probability are right. Source: Guo et al. 2017.

use super::frame;
use super::scale::Scale;
use super::style::{Style, TICK};
use super::svg::{Anchor, Canvas, Figure, Rect, Stroke, Text};
use crate::numbers;

/// Images whose answers have a probability in a range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// The range.
    pub from: f64,
    /// Its end.
    pub to: f64,
    /// How many there are.
    pub images: u64,
    /// Their mean probability.
    pub confidence: f64,
    /// Part of them that is right.
    pub accuracy: f64,
}

/// Draws the diagram, and below it how many images each bin has; none without images.
pub fn calibration(bins: &[Bin], error: f64, images: &str, style: &'static Style) -> Option<Figure> {
    let total: u64 = bins.iter().map(|bin| bin.images).sum();
    if total == 0 {
        return None;
    }
    let mean = |value: fn(&Bin) -> f64| {
        bins.iter().filter(|bin| bin.images > 0).map(|bin| value(bin) * bin.images as f64).sum::<f64>() / total as f64
    };
    let (confidence, accuracy) = (mean(|bin| bin.confidence), mean(|bin| bin.accuracy));
    let verdict = match confidence - accuracy {
        gap if gap.abs() < 0.005 => "neither over- nor underconfident on average".to_string(),
        gap if gap > 0.0 => format!("overconfident by {:.1} points on average", gap * 100.0),
        gap => format!("underconfident by {:.1} points on average", -gap * 100.0),
    };
    let error = numbers::percent(error);
    let title = format!("Calibration: expected calibration error {error}");
    let below = format!("{images}; the model is {verdict}");
    let mut canvas = Canvas::new(style, [600.0, 590.0], &title, &format!("{below}."));
    canvas.heading(20.0, &below);
    let panel = Rect { x: 76.0, y: 92.0, width: 360.0, height: 340.0 };
    let percents = |pixels: [f64; 2]| Scale::exact([0.0, 100.0], pixels, 5);
    let (x, y) = (percents([panel.x, panel.right()]), percents([panel.bottom(), panel.y]));
    frame::vertical_axis(&mut canvas, panel, &y);
    let [right, wrong] = [style.series[0], style.series[1]];
    for bin in bins.iter().filter(|bin| bin.images > 0) {
        let (from, to) = (x.at(bin.from * 100.0) + 0.75, x.at(bin.to * 100.0) - 0.75);
        let [top, wanted] = [bin.accuracy, bin.confidence].map(|part| y.at(part * 100.0));
        let [range, accuracy] = [
            format!("{:.0} to {:.0} %", bin.from * 100.0, bin.to * 100.0),
            format!("{} of {} right", numbers::percent(bin.accuracy), numbers::counted(bin.images as usize, "image")),
        ];
        canvas.begin(&format!("probability {range}: {accuracy}"));
        canvas.rect(Rect { x: from, y: top, width: to - from, height: panel.bottom() - top }, right);
        // Too sure: what is missing, in the color of the probability. Not sure enough: what is above it, paler.
        let (color, opacity) = if wanted < top { (wrong, 0.3) } else { (style.page, 0.5) };
        canvas.area(&[[from, top], [to, top], [to, wanted], [from, wanted]], color, opacity);
        canvas.line([from, wanted], [to, wanted], Stroke::new(wrong, 2.0));
        canvas.end();
    }
    let diagonal = Stroke { dash: "4 4", ..Stroke::new(style.soft, 1.4) };
    canvas.line([panel.x, panel.bottom()], [panel.right(), panel.y], diagonal);
    frame::horizontal_axis(&mut canvas, panel, &x, false);
    frame::label_above(&mut canvas, panel, "Accuracy (%)");

    let counts = Rect { x: panel.x, y: 470.0, width: panel.width, height: 66.0 };
    let most = bins.iter().map(|bin| bin.images).max().unwrap_or(1) as f64 / total as f64 * 100.0;
    let share = Scale::exact([0.0, most * 1.05], [counts.bottom(), counts.y], 3);
    frame::vertical_axis(&mut canvas, counts, &share);
    for bin in bins.iter().filter(|bin| bin.images > 0) {
        let (from, to) = (x.at(bin.from * 100.0) + 0.75, x.at(bin.to * 100.0) - 0.75);
        let top = share.at(bin.images as f64 / total as f64 * 100.0);
        canvas.rect(Rect { x: from, y: top, width: to - from, height: (counts.bottom() - top).max(0.75) }, style.axis);
    }
    frame::horizontal_axis(&mut canvas, counts, &x, true);
    frame::label_above(&mut canvas, counts, "Images (% of all)");
    frame::label_below(&mut canvas, counts, "Probability of the answer (%)");

    let at = panel.right() + 22.0;
    let entries = ["accuracy", "mean probability", "perfect", "overconfident", "underconfident"];
    for (i, words) in entries.into_iter().enumerate() {
        let y = panel.y + 12.0 + 20.0 * i as f64;
        let sample = Rect { x: at, y: y - 10.0, width: 14.0, height: 11.0 };
        let corners = [
            [sample.x, sample.y],
            [sample.right(), sample.y],
            [sample.right(), sample.bottom()],
            [sample.x, sample.bottom()],
        ];
        match i {
            0 => canvas.rect(sample, right),
            1 => canvas.line([at, y - 4.0], [at + 14.0, y - 4.0], Stroke::new(wrong, 2.0)),
            2 => canvas.line([at, y - 4.0], [at + 14.0, y - 4.0], diagonal),
            3 => canvas.area(&corners, wrong, 0.3),
            _ => canvas.area(&corners, right, 0.5),
        }
        canvas.text([at + 20.0, y], words, &Text::new(style.soft).size(TICK).at(Anchor::Start));
    }
    Some(canvas.finish())
}

#[cfg(test)]
mod tests {
    use super::super::style::LIGHT;
    use super::*;

    #[test]
    fn a_bin_is_drawn_where_its_numbers_are() {
        let empty = Bin { from: 0.0, to: 0.5, images: 0, confidence: 0.0, accuracy: 0.0 };
        let bin = Bin { from: 0.5, to: 1.0, images: 60, confidence: 0.9, accuracy: 0.75 };
        let figure = calibration(&[empty, bin], 0.15, "60 test images", &LIGHT).unwrap();
        super::super::tests::compare("calibration", &figure);
        assert_eq!(calibration(&[empty], 0.0, "no images", &LIGHT), None);
    }
}
