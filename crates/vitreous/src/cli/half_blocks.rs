//! Pictures in a terminal: each character shows two pixels, one above the other, by the color of its letter and that of
//! its background.

use crate::plot::pictures::Picture;
use crate::text::{padded, shortened};

/// Columns between two pictures.
const GAP: usize = 2;

/// Fewest columns of a picture that can be recognized.
const COLUMNS_MIN: usize = 10;

/// Most columns of a picture: as many as the images of most data sets have pixels, or that many of a larger one.
const COLUMNS_MAX: usize = 40;

/// The colors of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colors {
    /// Any color.
    All,
    /// The 256 colors that nearly all terminals have.
    Some256,
}

/// A picture with a label, or tokens.
pub struct Cell<'a> {
    pictures: Vec<&'a Picture>,
    /// Pictures in a row.
    across: usize,
    label: String,
}

impl<'a> Cell<'a> {
    /// One picture.
    pub fn picture(picture: &'a Picture, label: &str) -> Cell<'a> {
        Cell { pictures: vec![picture], across: 1, label: label.to_string() }
    }

    /// Tokens, so many in a row, with gaps between them.
    pub fn tokens(tokens: &'a [Picture], across: usize, label: &str) -> Cell<'a> {
        Cell { pictures: tokens.iter().collect(), across: across.max(1), label: label.to_string() }
    }

    /// Columns that it would fill with one for each pixel.
    fn native(&self) -> usize {
        self.pictures.first().map_or(1, |first| first.shape[2] * self.across + self.across - 1)
    }

    /// Its pixels in so many columns: rows of an even number; none where the terminal's own color is seen.
    fn pixels(&self, columns: usize) -> Vec<Vec<Option<[u8; 3]>>> {
        let across = self.across.min(columns.div_ceil(2));
        let side = ((columns + 1 - across) / across).max(1);
        let mut rows: Vec<Vec<Option<[u8; 3]>>> = Vec::new();
        for (number, line) in self.pictures.chunks(across).enumerate() {
            if number > 0 {
                rows.push(vec![None; columns]);
            }
            let high = line.iter().map(|picture| (side as f64 / picture.aspect()).round().max(1.0) as usize).max();
            let start = rows.len();
            rows.resize(start + high.unwrap_or(1), vec![None; columns]);
            for (place, picture) in line.iter().enumerate() {
                let high = (side as f64 / picture.aspect()).round().max(1.0) as usize;
                for (y, row) in rows[start..start + high].iter_mut().enumerate() {
                    for x in 0..side {
                        row[place * (side + 1) + x] = Some(color_at(picture, [x, y], [side, high]));
                    }
                }
            }
        }
        if !rows.len().is_multiple_of(2) {
            rows.push(vec![None; columns]);
        }
        rows
    }
}

/// The mean color of the pixels that a place of a grid covers.
fn color_at(picture: &Picture, [x, y]: [usize; 2], [columns, rows]: [usize; 2]) -> [u8; 3] {
    let [channels, height, wide] = picture.shape;
    let range = |at: usize, of: usize, len: usize| {
        let start = at * len / of;
        start..((at + 1) * len / of).max(start + 1)
    };
    std::array::from_fn(|channel| {
        let plane = if channels == 3 { channel } else { 0 } * height * wide;
        let (ys, xs) = (range(y, rows, height), range(x, columns, wide));
        let count = ys.len() * xs.len();
        let sum: usize =
            ys.flat_map(|y| xs.clone().map(move |x| usize::from(picture.pixels[plane + y * wide + x]))).sum();
        ((sum + count / 2) / count) as u8
    })
}

/// Draws rows of pictures with their labels below, in at most so many columns.
pub fn draw(rows: &[Vec<Cell>], columns: usize, colors: Colors) -> String {
    let longest = rows.iter().map(Vec::len).max().unwrap_or(1);
    // More than can be recognized in a line are continued on the next one.
    let most = ((columns + GAP) / (COLUMNS_MIN + GAP)).max(1);
    let per_line = longest.min(most).max(1);
    let room = ((columns + GAP) / per_line).saturating_sub(GAP).max(1);
    let mut text = String::new();
    for line in rows.iter().flat_map(|row| row.chunks(per_line)) {
        let widths: Vec<usize> =
            line.iter().map(|cell| cell.native().clamp(COLUMNS_MIN, COLUMNS_MAX).min(room)).collect();
        // A picture stands below the one above it.
        let step = if line.len() > 1 && line[1].across > 1 { None } else { widths.iter().max().copied() };
        let drawn: Vec<_> = line.iter().zip(&widths).map(|(cell, &wide)| cell.pixels(wide)).collect();
        let high = drawn.iter().map(Vec::len).max().unwrap_or(0);
        for y in (0..high).step_by(2) {
            let mut written = String::new();
            for (pixels, &wide) in drawn.iter().zip(&widths) {
                let row = |y: usize| pixels.get(y).cloned().unwrap_or_else(|| vec![None; wide]);
                written += &characters(&row(y), &row(y + 1), colors);
                written += &" ".repeat(step.map_or(0, |step| step - wide) + GAP);
            }
            text += written.trim_end();
            text.push('\n');
        }
        let labels = line.iter().zip(&widths).map(|(cell, &wide)| {
            let wide = step.unwrap_or(wide);
            padded(&shortened(&cell.label, wide), wide + GAP, false)
        });
        text += labels.collect::<String>().trim_end();
        text += "\n\n";
    }
    text.pop();
    text
}

/// A line of characters for two rows of pixels; the terminal's own colors come back at its end.
fn characters(upper: &[Option<[u8; 3]>], lower: &[Option<[u8; 3]>], colors: Colors) -> String {
    let mut text = String::new();
    let mut last = None;
    for (upper, lower) in upper.iter().zip(lower) {
        let (letter, fore, back) = match (upper, lower) {
            (None, None) => (' ', None, None),
            (Some(upper), None) => ('▀', Some(*upper), None),
            (None, Some(lower)) => ('▄', Some(*lower), None),
            (Some(upper), Some(lower)) => ('▀', Some(*upper), Some(*lower)),
        };
        if last != Some((fore, back)) {
            text += "\x1b[0";
            fore.iter().for_each(|color| text += &code(38, *color, colors));
            back.iter().for_each(|color| text += &code(48, *color, colors));
            text.push('m');
            last = Some((fore, back));
        }
        text.push(letter);
    }
    text + "\x1b[0m"
}

fn code(kind: u8, color: [u8; 3], colors: Colors) -> String {
    let [red, green, blue] = color;
    match colors {
        Colors::All => format!(";{kind};2;{red};{green};{blue}"),
        Colors::Some256 => format!(";{kind};5;{}", of_256(color)),
    }
}

/// The number of the nearest of the 256 colors: a cube with six values of each part, or one of 24 grays.
fn of_256(color: [u8; 3]) -> u8 {
    const VALUES: [u8; 6] = [0, 95, 135, 175, 215, 255];
    let far = |other: [u8; 3]| -> u32 {
        let parts = color.iter().zip(other);
        parts.map(|(&a, b)| (i32::from(a) - i32::from(b)).pow(2).unsigned_abs()).sum()
    };
    let nearest = |part: u8| (0..6).min_by_key(|&i| VALUES[i].abs_diff(part)).unwrap_or(0);
    let cube = color.map(nearest);
    let mean = color.iter().map(|&part| u32::from(part)).sum::<u32>() / 3;
    let gray = (mean.saturating_sub(3) / 10).min(23) as u8;
    if far([8 + 10 * gray; 3]) < far(cube.map(|i| VALUES[i])) {
        return 232 + gray;
    }
    (16 + 36 * cube[0] + 6 * cube[1] + cube[2]) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::width;

    /// The letters without the colors.
    fn letters(text: &str) -> String {
        let mut parts = text.split('\x1b');
        let first = parts.next().unwrap_or_default().to_string();
        first + &parts.map(|part| part.split_once('m').map_or("", |(_, rest)| rest)).collect::<String>()
    }

    #[test]
    fn a_character_has_two_pixels_and_a_letter_below() {
        let picture = Picture { pixels: vec![255, 0, 0, 9, 0, 0, 255, 9, 0, 0, 0, 9], shape: [3, 2, 2] };
        let rows = Cell::picture(&picture, "a").pixels(2);
        assert_eq!(rows, [[Some([255, 0, 0]), Some([0, 0, 0])], [Some([0, 255, 0]), Some([9, 9, 9])]]);
        let text = characters(&rows[0], &rows[1], Colors::All);
        assert_eq!(text, "\x1b[0;38;2;255;0;0;48;2;0;255;0m▀\x1b[0;38;2;0;0;0;48;2;9;9;9m▀\x1b[0m");
        let few = characters(&rows[0], &[None, None], Colors::Some256);
        assert_eq!(few, "\x1b[0;38;5;196m▀\x1b[0;38;5;16m▀\x1b[0m");
        assert_eq!([[127, 128, 129], [255, 255, 255], [8, 8, 8], [95, 135, 0]].map(of_256), [244, 231, 232, 64]);
    }

    #[test]
    fn pictures_fit_into_any_terminal() {
        let gray = |height: usize, wide: usize| Picture { pixels: vec![7; height * wide], shape: [1, height, wide] };
        let (large, small, wide) = (gray(300, 400), gray(1, 1), gray(28, 140));
        let tokens = vec![gray(1, 48); 64];
        for columns in [1, 10, 40, 80, 120] {
            for picture in [&large, &small, &wide] {
                let long = "x".repeat(300);
                let row = |count: usize| (0..count).map(|_| Cell::picture(picture, &long)).collect::<Vec<_>>();
                let text = letters(&draw(&[row(10), row(3)], columns, Colors::All));
                assert!(text.lines().all(|line| width(line) <= columns), "{columns}\n{text}");
            }
            let row = vec![Cell::picture(&large, "שלום"), Cell::tokens(&tokens, 2, "64 tokens")];
            let text = letters(&draw(&[row], columns, Colors::Some256));
            assert!(text.lines().all(|line| width(line) <= columns), "{columns}\n{text}");
        }
    }
}
