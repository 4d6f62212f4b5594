//! What a transformer reads: the patches of an image, and the encoding of their positions.

use super::frame::{self, color_bar};
use super::pictures::Picture;
use super::render::png;
use super::scale::{Scale, short};
use super::style::{Style, TICK};
use super::svg::{Anchor, Canvas, Figure, Rect, Stroke, Text};
use crate::numbers;

/// An image and the tokens made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The image.
    pub image: Picture,
    /// Its name or class.
    pub name: String,
    /// What each token holds, in their order.
    pub tokens: Vec<Picture>,
}

/// Draws images next to their tokens, `columns` of them in a row; none without images.
pub fn patches(cuts: &[Cut], columns: usize, below: &str, style: &'static Style) -> Option<Figure> {
    const SIDE: f64 = 150.0;
    let first = cuts.first().filter(|cut| !cut.tokens.is_empty())?;
    let tokens = first.tokens.len();
    let columns = columns.clamp(1, tokens);
    let rows = tokens.div_ceil(columns);
    let gap = if columns.max(rows) <= 16 { 3.0 } else { 1.5 };
    let aspect = first.tokens[0].aspect();
    // Strips are wide: they are below each other, and no higher than they need.
    let is_wide = first.image.is_wide();
    let (across, image_width, most) = if is_wide { (1, 240.0, 520.0) } else { (2, SIDE, 320.0) };
    let across = across.min(cuts.len());
    let image_height = (image_width / first.image.aspect()).min(SIDE);
    // The grid is as high as its images, unless its tokens would be too wide.
    let high = ((image_height * 1.25 - gap * rows as f64) / rows as f64)
        .min((most - gap * columns as f64) / (columns as f64 * aspect));
    let (token_height, token_width) = (high.max(2.0), high.max(2.0) * aspect);
    let (grid_width, grid_height) =
        ((token_width + gap) * columns as f64 - gap, (token_height + gap) * rows as f64 - gap);
    let (cell_width, cell_height) = (image_width + 34.0 + grid_width + 36.0, grid_height.max(image_height) + 40.0);
    let size = [20.0 + cell_width * across as f64, 66.0 + cell_height * cuts.len().div_ceil(across) as f64];
    let title = format!("What the model reads: {} of each image", numbers::counted(tokens, "token"));
    let mut canvas = Canvas::new(style, [size[0].max(420.0), size[1]], &title, below);
    canvas.heading(20.0, below);
    for (i, cut) in cuts.iter().enumerate() {
        let [x, y] = [20.0 + cell_width * (i % across) as f64, 66.0 + cell_height * (i / across) as f64];
        let middle = y + grid_height.max(image_height) / 2.0;
        let place =
            cut.image.inside(Rect { x, y: middle - image_height / 2.0, width: image_width, height: image_height });
        canvas.picture(place, &cut.image.png(place), &cut.name);
        canvas.outline(place, Stroke::new(style.grid, 1.0));
        let how = Text::new(style.ink).size(TICK).at(Anchor::Middle).within(image_width);
        canvas.text([place.x + place.width / 2.0, place.bottom() + 16.0], &cut.name, &how);
        canvas.text([x + image_width + 17.0, middle + 5.0], "→", &Text::new(style.soft).size(16.0).at(Anchor::Middle));
        let [left, top] = [x + image_width + 34.0, middle - grid_height / 2.0];
        for (number, token) in cut.tokens.iter().enumerate() {
            let [column, row] = [number % columns, number / columns];
            let place = Rect {
                x: left + (token_width + gap) * column as f64,
                y: top + (token_height + gap) * row as f64,
                width: token_width,
                height: token_height,
            };
            canvas.picture(place, &token.png(place), &format!("token {}", number + 1));
        }
    }
    Some(canvas.finish())
}

/// Draws values, `[positions, width]`, as a heat map; none without values.
pub fn positions(values: &[f32], width: usize, below: &str, style: &'static Style) -> Option<Figure> {
    let rows = values.len() / width.max(1);
    if rows == 0 {
        return None;
    }
    let most = values.iter().filter(|value| value.is_finite()).fold(0.0, |most: f32, value| most.max(value.abs()));
    let most = f64::from(if most > 0.0 { most } else { 1.0 });
    let panel =
        Rect { x: 76.0, y: 92.0, width: 460.0, height: (rows as f64 * 460.0 / width as f64).clamp(110.0, 460.0) };
    let size = [640.0, panel.bottom() + 56.0];
    let said = format!("{below}. Values from {} to {}, blue below 0, red above.", short(-most), short(most));
    let mut canvas = Canvas::new(style, size, "Encoding of the positions", &said);
    canvas.heading(20.0, below);
    let pixels: Vec<u8> = values.iter().flat_map(|value| style.signed(f64::from(*value) / most)).collect();
    let map = png(&pixels[..rows * width * 3], [width as u32, rows as u32], true);
    canvas.picture(panel, &map, "a row for each position, a column for each dimension");
    canvas.outline(panel, Stroke::new(style.axis, 1.0));
    // The number of a row is at its middle.
    let numbers = |count: usize, [start, end]: [f64; 2], ticks: usize| {
        let half = (end - start) / count as f64 / 2.0;
        Scale::exact([0.0, (count - 1) as f64], [start + half, end - half], ticks.min(count - 1).max(1))
    };
    let (x, y) = (numbers(width, [panel.x, panel.right()], 8), numbers(rows, [panel.y, panel.bottom()], 6));
    let whole = |scale: &Scale| scale.ticks().into_iter().filter(|(tick, _)| tick.fract() == 0.0).collect::<Vec<_>>();
    for (tick, text) in whole(&y) {
        let how = Text::new(style.soft).size(TICK).at(Anchor::End);
        canvas.text([panel.x - 8.0, y.at(tick) + TICK * 0.36], &text, &how);
    }
    for (tick, text) in whole(&x) {
        let how = Text::new(style.soft).size(TICK).at(Anchor::Middle);
        canvas.text([x.at(tick), panel.bottom() + 7.0 + TICK], &text, &how);
    }
    frame::label_above(&mut canvas, panel, "Position (token)");
    frame::label_below(&mut canvas, panel, "Dimension");
    let bar = Rect { x: panel.right() + 16.0, y: panel.y, width: 12.0, height: panel.height.min(200.0) };
    let range = Scale::exact([-most, most], [0.0, 1.0], 4);
    let ticks: Vec<(f64, String)> = range.ticks().into_iter().map(|(value, text)| (range.at(value), text)).collect();
    color_bar(&mut canvas, bar, |part| style.signed(part * 2.0 - 1.0), &ticks);
    Some(canvas.finish())
}

#[cfg(test)]
mod tests {
    use super::super::style::LIGHT;
    use super::*;

    #[test]
    fn every_token_is_a_picture_and_every_position_a_row() {
        let picture = |side: usize| Picture { pixels: vec![7; side * side], shape: [1, side, side] };
        let cut = Cut { image: picture(6), name: "<i>".to_string(), tokens: vec![picture(2); 9] };
        let figure = patches(&[cut.clone(), cut], 3, "3 rows of 3", &LIGHT).unwrap();
        assert_eq!((figure.svg().matches("<image").count(), figure.svg().matches("&lt;i&gt;").count()), (20, 4));
        assert_eq!(patches(&[], 3, "", &LIGHT), None);
        for (rows, width) in [(1, 1), (2, 3), (197, 64)] {
            let values: Vec<f32> = (0..rows * width).map(|i| if i == 1 { f32::NAN } else { i as f32 }).collect();
            assert!(!positions(&values, width, "fixed", &LIGHT).unwrap().svg().contains("NaN"));
        }
        assert_eq!(positions(&[], 4, "", &LIGHT), None);
    }
}
