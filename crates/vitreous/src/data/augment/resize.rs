//! Enlarges a rectangle of an image to the image's size, bilinearly, bit for bit as Pillow does.
//!
//! Source: Pillow's `Resample.c`: 22-bit weights, a pass along rows, rounded to bytes, then one along columns. A crop
//! is never larger than the image, so only enlarging is needed, and a pixel has two neighbors per axis.

/// Fraction bits of a weight, as in Pillow.
const PRECISION: u32 = 22;

/// The rows and columns of an image that a crop keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rectangle {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Number of rows.
    pub height: usize,
    /// Number of columns.
    pub width: usize,
}

/// Weights of the two neighbors of an output pixel along an axis.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tap {
    first: u32,
    second: u32,
    /// The second pixel's weight; the first has the remaining weight.
    weight: i32,
}

/// Returns the tap of output pixel `index` when `from` pixels become `to`.
fn tap(index: usize, from: usize, to: usize) -> Tap {
    debug_assert!(from <= to, "{from} pixels cannot be enlarged to {to}");
    let center = (index as f64 + 0.5) * (from as f64 / to as f64) - 0.5;
    if center < 0.0 {
        return Tap::default(); // At an edge there is one neighbor, with weight 1.
    }
    let first = center as i32;
    let weight = (0.5 + (center - f64::from(first)) * f64::from(1 << PRECISION)) as i32;
    Tap { first: first as u32, second: (first as u32 + 1).min(from as u32 - 1), weight }
}

fn blend(a: u8, b: u8, weight: i32) -> u8 {
    let (a, b) = (i32::from(a), i32::from(b));
    // At most 255.5 in 30 bits.
    (((a << PRECISION) + (b - a) * weight + (1 << (PRECISION - 1))) >> PRECISION) as u8
}

/// Enlarges a rectangle of one plane to the plane's size.
///
/// # Shapes
/// - `plane`, `out`: `[height, width]`
/// - `rows`: at least `[rectangle.height, width]`, written
/// - `taps`: `[width]`, written
pub fn enlarge(plane: &[u8], width: usize, rectangle: Rectangle, rows: &mut [u8], taps: &mut [Tap], out: &mut [u8]) {
    for (column, place) in taps.iter_mut().enumerate() {
        *place = tap(column, rectangle.width, width);
    }
    let kept = plane.chunks_exact(width).skip(rectangle.top).take(rectangle.height);
    for (line, wide) in kept.zip(rows.chunks_exact_mut(width)) {
        let line = &line[rectangle.left..rectangle.left + rectangle.width];
        for (pixel, tap) in wide.iter_mut().zip(taps.iter()) {
            *pixel = blend(line[tap.first as usize], line[tap.second as usize], tap.weight);
        }
    }
    let height = out.len() / width;
    for (row, line) in out.chunks_exact_mut(width).enumerate() {
        let Tap { first, second, weight } = tap(row, rectangle.height, height);
        let (first, second) = (first as usize, second as usize);
        let upper = &rows[first * width..(first + 1) * width];
        let lower = &rows[second * width..(second + 1) * width];
        for ((pixel, &a), &b) in line.iter_mut().zip(upper).zip(lower) {
            *pixel = blend(a, b, weight);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEIGHT: usize = 11;
    const WIDTH: usize = 13;

    fn enlarged(top: usize, left: usize, height: usize, width: usize) -> Vec<u8> {
        let plane: Vec<u8> = (0..HEIGHT * WIDTH)
            .map(|i| (i / WIDTH, i % WIDTH))
            .map(|(y, x)| (x * 37 + y * 59 + x * y * 11) as u8)
            .collect();
        let mut out = vec![0; plane.len()];
        let (mut rows, mut taps) = (vec![0; plane.len()], vec![Tap::default(); WIDTH]);
        enlarge(&plane, WIDTH, Rectangle { top, left, height, width }, &mut rows, &mut taps, &mut out);
        out
    }

    /// The sum of the pixels, and the sum in which the n-th counts n times.
    fn sums(image: &[u8]) -> (u64, u64) {
        let numbered = image.iter().zip(1u64..);
        (image.iter().map(|&x| u64::from(x)).sum(), numbered.map(|(&x, n)| n * u64::from(x)).sum())
    }

    /// Made by torchvision 0.29 and Pillow 13:
    /// `resized_crop(image, top, left, height, width, [11, 13], InterpolationMode.BILINEAR)`.
    #[test]
    fn enlarged_pixels_equal_those_of_pillow() {
        let out = enlarged(2, 3, 7, 8);
        assert_eq!(out[..13], [39, 64, 100, 137, 173, 209, 118, 26, 62, 98, 135, 171, 196]);
        assert_eq!(out[65..78], [59, 98, 155, 211, 199, 98, 125, 152, 51, 39, 95, 152, 191]);
        assert_eq!(out[130..], [79, 132, 199, 118, 107, 184, 133, 81, 158, 147, 66, 133, 186]);
        assert_eq!(sums(&out), (17876, 1309163));
        let tall = enlarged(0, 0, 11, 5);
        assert_eq!(tall[..13], [0, 3, 17, 31, 46, 60, 74, 88, 102, 117, 131, 145, 148]);
        assert_eq!(sums(&tall), (18577, 1334522));
        assert_eq!(sums(&enlarged(4, 6, 1, 3)), (17138, 1215390));
    }
}
