//! Pictures as PNG files: images of a data set, and confusion matrices.

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

/// A side that pictures have at least, in pixels: small images are enlarged, so that their pixels can be seen.
const SIDE_MIN: usize = 128;

/// Side of a confusion matrix, in pixels, as far as cells of whole pixels allow.
const MATRIX_SIDE: usize = 512;

/// Most classes of a confusion matrix that is drawn.
const CLASSES_MAX: usize = 1024;

/// A picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    /// The file.
    pub png: Vec<u8>,
}

impl Picture {
    fn new(width: usize, height: usize, color: ExtendedColorType, bytes: &[u8]) -> Picture {
        let mut png = Vec::new();
        let written = PngEncoder::new(&mut png).write_image(bytes, width as u32, height as u32, color);
        written.expect("there are as many bytes as pixels, and memory takes all");
        Picture { width, height, png }
    }

    /// An image with 1 or 3 channels, of bytes `[channels, height, width]`.
    pub fn of_image(bytes: &[u8], [channels, height, width]: [usize; 3]) -> Picture {
        let factor = SIDE_MIN.div_ceil(height.min(width).max(1));
        let pixel = |channel: usize, row: usize, column: usize| bytes[(channel * height + row) * width + column];
        let rows = (0..height * factor).flat_map(|row| (0..width * factor).map(move |column| (row, column)));
        let at = |(row, column)| (0..channels).map(move |channel| pixel(channel, row / factor, column / factor));
        let enlarged: Vec<u8> = rows.flat_map(at).collect();
        let color = if channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
        Picture::new(width * factor, height * factor, color, &enlarged)
    }

    /// A confusion matrix: rows are true classes, columns predicted ones, and the darker a cell, the larger its part of the
    /// row. None where there are too many classes.
    pub fn of_confusion(classes: usize, count: impl Fn(usize, usize) -> u64) -> Option<Picture> {
        if !(1..=CLASSES_MAX).contains(&classes) {
            return None;
        }
        let cell = (MATRIX_SIDE / classes).max(1);
        // Lines between cells, where there is room for them.
        let line = usize::from(cell >= 8);
        let side = classes * cell + line;
        let mut pixels = vec![[225, 225, 225]; side * side];
        for label in 0..classes {
            let images: u64 = (0..classes).map(|prediction| count(label, prediction)).sum();
            for prediction in 0..classes {
                let part = count(label, prediction) as f64 / images.max(1) as f64;
                for row in label * cell + line..(label + 1) * cell {
                    pixels[row * side + prediction * cell + line..row * side + (prediction + 1) * cell]
                        .fill(shade(part));
                }
            }
        }
        Some(Picture::new(side, side, ExtendedColorType::Rgb8, pixels.as_flattened()))
    }
}

/// From white to dark blue; small parts are already visible.
fn shade(part: f64) -> [u8; 3] {
    let (white, dark) = ([255.0, 255.0, 255.0], [8.0, 48.0, 107.0]);
    std::array::from_fn(|i: usize| {
        let (from, to): (f64, f64) = (white[i], dark[i]);
        (from + (to - from) * part.sqrt()).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixels(picture: &Picture) -> image::RgbImage {
        let image = image::load_from_memory(&picture.png).unwrap().to_rgb8();
        assert_eq!((image.width() as usize, image.height() as usize), (picture.width, picture.height));
        image
    }

    #[test]
    fn small_images_are_enlarged_pixel_by_pixel() {
        // Two channels of three are 0, the other has 3 rows of 5 pixels.
        let mut bytes = vec![0; 45];
        (0..15).for_each(|i| bytes[15 + i] = i as u8 + 100);
        let picture = Picture::of_image(&bytes, [3, 3, 5]);
        assert_eq!((picture.width, picture.height), (5 * 43, 3 * 43));
        let image = pixels(&picture);
        assert_eq!((image[(0, 0)].0, image[(42, 42)].0), ([0, 100, 0], [0, 100, 0]));
        assert_eq!((image[(43, 42)].0, image[(214, 128)].0), ([0, 101, 0], [0, 114, 0]));
        let gray = Picture::of_image(&[7; 200 * 130], [1, 130, 200]);
        assert_eq!((gray.width, gray.height, pixels(&gray)[(199, 129)].0), (200, 130, [7; 3]));
    }

    #[test]
    fn a_confusion_matrix_has_true_classes_as_rows() {
        let counts = [[6, 0, 0], [3, 1, 0], [0, 0, 0]];
        let picture = Picture::of_confusion(3, |label, prediction| counts[label][prediction]).unwrap();
        let image = pixels(&picture);
        let cell = |label: u32, prediction: u32| image[(prediction * 170 + 85, label * 170 + 85)].0;
        assert_eq!((cell(0, 0), cell(0, 1), cell(1, 2), cell(2, 2)), ([8, 48, 107], [255; 3], [255; 3], [255; 3]));
        assert_eq!((cell(1, 0), cell(1, 1)), (shade(0.75), shade(0.25)));
        assert!(Picture::of_confusion(1000, |_, _| 1).is_some() && Picture::of_confusion(1, |_, _| 0).is_some());
        assert!(Picture::of_confusion(0, |_, _| 1).is_none() && Picture::of_confusion(5000, |_, _| 1).is_none());
    }
}
