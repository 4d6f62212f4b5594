//! Grids of pictures with words below them: samples of the data, the most confident mistakes.

use super::font;
use super::render::png;
use super::style::{LABEL, Style, TICK};
use super::svg::{Anchor, Canvas, Figure, Rect, Stroke, Text};

/// Pixels of a picture for a pixel of the figure, at most: PNG files show no more.
const PIXELS_MAX: f64 = 2.0;

/// Strips in a row of a grid.
pub const WIDE_COLUMNS: usize = 3;

/// Height of a strip in a grid, in pixels of the figure.
pub const WIDE_SIDE: f64 = 40.0;

/// A picture in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// `[channels, height, width]`; three channels are red, green and blue, of others the first is shown in gray. A
    /// picture without pixels leaves its place empty.
    pub pixels: Vec<u8>,
    /// Channels, height and width.
    pub shape: [usize; 3],
}

/// A picture and the words below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// The picture.
    pub picture: Picture,
    /// Lines below it, the first in the color of text.
    pub lines: Vec<String>,
}

/// A grid of pictures.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// At the top.
    pub title: String,
    /// Below the title.
    pub below: String,
    /// Pictures of a row.
    pub columns: usize,
    /// Height of a picture, in pixels of the figure.
    pub side: f64,
    /// At the left of each row; may be empty.
    pub row_names: Vec<String>,
    /// Row by row.
    pub pictures: Vec<Labelled>,
}

impl Picture {
    /// The picture as PNG, reduced to what a figure can show at a place.
    pub fn png(&self, place: Rect) -> Vec<u8> {
        let [channels, height, width] = self.shape;
        let shown = if channels == 3 { 3 } else { 1 };
        let excess = (height as f64 / place.height).max(width as f64 / place.width) / PIXELS_MAX;
        let by = (excess.ceil() as usize).max(1);
        let (rows, columns) = (height / by, width / by);
        let (rows, columns) = (rows.max(1), columns.max(1));
        let mut bytes = Vec::with_capacity(rows * columns * shown);
        for y in 0..rows {
            for x in 0..columns {
                for channel in 0..shown {
                    let at = |dy: usize, dx: usize| {
                        let (y, x) = ((y * by + dy).min(height - 1), (x * by + dx).min(width - 1));
                        u32::from(self.pixels[(channel * height + y) * width + x])
                    };
                    let sum: u32 = (0..by * by).map(|i| at(i / by, i % by)).sum();
                    let count = (by * by) as u32;
                    bytes.push(((sum + count / 2) / count) as u8);
                }
            }
        }
        png(&bytes, [columns as u32, rows as u32], shown == 3)
    }

    /// Width by height.
    pub fn aspect(&self) -> f64 {
        self.shape[2] as f64 / self.shape[1] as f64
    }

    /// Whether it is a strip: few of those are in a row, at a height of [`WIDE_SIDE`].
    pub fn is_wide(&self) -> bool {
        self.aspect() > 2.0
    }

    /// The largest rectangle of its shape in the middle of another.
    pub fn inside(&self, room: Rect) -> Rect {
        let scale = (room.width / self.aspect()).min(room.height);
        let (width, height) = (scale * self.aspect(), scale);
        Rect { x: room.x + (room.width - width) / 2.0, y: room.y + (room.height - height) / 2.0, width, height }
    }
}

/// Draws a grid; none where there is no picture.
pub fn grid(grid: &Grid, style: &'static Style) -> Option<Figure> {
    let first = grid.pictures.first()?;
    let columns = grid.columns.clamp(1, grid.pictures.len());
    let rows = grid.pictures.len().div_ceil(columns);
    let width = (grid.side * first.picture.aspect()).clamp(grid.side * 0.5, 560.0);
    let lines = grid.pictures.iter().map(|one| one.lines.len()).max().unwrap_or(0);
    let (across, down) = (width + 14.0, grid.side + lines as f64 * 15.0 + 16.0);
    let names = grid.row_names.iter().map(|name| font::width(name, LABEL, false)).fold(0.0, f64::max).min(150.0);
    let left = 20.0 + if names > 0.0 { names + 12.0 } else { 0.0 };
    let top = if grid.below.is_empty() { 42.0 } else { 62.0 };
    let size = [(left + across * columns as f64 + 6.0).max(360.0), top + down * rows as f64 + 4.0];
    let words = grid.pictures.iter().map(|one| one.lines.join(", ")).filter(|words| !words.is_empty());
    let said: Vec<String> = words.chain(grid.row_names.clone()).take(30).collect();
    let mut canvas = Canvas::new(style, size, &grid.title, &format!("{}. Pictures: {}.", grid.below, said.join("; ")));
    canvas.heading(20.0, &grid.below);
    for (i, Labelled { picture, lines }) in grid.pictures.iter().enumerate() {
        let [x, y] = [left + across * (i % columns) as f64, top + down * (i / columns) as f64];
        if i % columns == 0
            && let Some(name) = grid.row_names.get(i / columns)
        {
            let how = Text::new(style.ink).at(Anchor::End).within(names);
            canvas.text([left - 12.0, y + grid.side / 2.0 + 4.0], name, &how);
        }
        if picture.pixels.is_empty() {
            continue;
        }
        let place = picture.inside(Rect { x, y, width, height: grid.side });
        canvas.picture(place, &picture.png(place), &lines.join(", "));
        canvas.outline(place, Stroke::new(style.grid, 1.0));
        for (number, line) in lines.iter().enumerate() {
            let color = if number == 0 { style.ink } else { style.soft };
            let how = Text::new(color).size(TICK).at(Anchor::Middle).within(across - 4.0);
            canvas.text([x + width / 2.0, y + grid.side + 15.0 * (number as f64 + 1.0)], line, &how);
        }
    }
    Some(canvas.finish())
}

#[cfg(test)]
mod tests {
    use super::super::style::LIGHT;
    use super::*;

    fn picture(shape: [usize; 3]) -> Labelled {
        let pixels = (0..shape.iter().product()).map(|i: usize| (i * 37 % 256) as u8).collect();
        Labelled { picture: Picture { pixels, shape }, lines: vec!["<b>".to_string(), "x".repeat(300)] }
    }

    #[test]
    fn pictures_of_any_size_are_drawn() {
        for shape in [[1, 1, 1], [3, 3, 5], [1, 300, 400], [2, 7, 1]] {
            let pictures = vec![picture(shape); 5];
            let (title, below) = ("t".to_string(), "b".to_string());
            let figure = Grid { title, below, columns: 3, side: 40.0, row_names: vec!["r".to_string()], pictures };
            let figure = grid(&figure, &LIGHT).unwrap();
            assert_eq!(figure.svg().matches("<image").count(), 5);
            assert!(!figure.svg().contains("<b>") && figure.svg().len() < 900_000);
        }
    }

    #[test]
    fn a_large_picture_is_reduced_by_means_and_a_small_one_kept() {
        let small = Picture { pixels: vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], shape: [3, 2, 2] };
        let square = |side: f64| Rect { x: 0.0, y: 0.0, width: side, height: side };
        let read = image::load_from_memory(&small.png(square(1.0))).unwrap().to_rgb8();
        assert_eq!(read.into_raw(), [1, 5, 9, 2, 6, 10, 3, 7, 11, 4, 8, 12]);
        let large = Picture {
            pixels: (0..512 * 512).map(|i| if i % 2 == 0 { 10 } else { 21 }).collect(),
            shape: [1, 512, 512],
        };
        let read = image::load_from_memory(&large.png(square(128.0))).unwrap().to_luma8();
        assert_eq!((read.dimensions(), read.into_raw()[77]), ((256, 256), 16));
        // Never fewer pixels than the place has, and at most twice as many.
        let read = image::load_from_memory(&large.png(square(100.0))).unwrap().to_luma8();
        assert_eq!(read.dimensions(), (170, 170));
    }
}
