//! Images of a data set as PNG files that are large enough to be looked at.

use crate::plot::{Png, png};

/// A side that pictures have at least, in pixels: small images are enlarged, so that their pixels can be seen.
const SIDE_MIN: usize = 128;

/// An image with 1 or 3 channels, of bytes `[channels, height, width]`.
pub fn enlarged(bytes: &[u8], [channels, height, width]: [usize; 3]) -> Png {
    let factor = SIDE_MIN.div_ceil(height.min(width).max(1));
    let pixel = |channel: usize, row: usize, column: usize| bytes[(channel * height + row) * width + column];
    let rows = (0..height * factor).flat_map(|row| (0..width * factor).map(move |column| (row, column)));
    let at = |(row, column)| (0..channels).map(move |channel| pixel(channel, row / factor, column / factor));
    let pixels: Vec<u8> = rows.flat_map(at).collect();
    let [width, height] = [width, height].map(|side| (side * factor) as u32);
    Png { width, height, bytes: png(&pixels, [width, height], channels == 3) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixels(picture: &Png) -> image::RgbImage {
        let image = image::load_from_memory(&picture.bytes).unwrap().to_rgb8();
        assert_eq!(image.dimensions(), (picture.width, picture.height));
        image
    }

    #[test]
    fn small_images_are_enlarged_pixel_by_pixel() {
        // Two channels of three are 0, the other has 3 rows of 5 pixels.
        let mut bytes = vec![0; 45];
        (0..15).for_each(|i| bytes[15 + i] = i as u8 + 100);
        let picture = enlarged(&bytes, [3, 3, 5]);
        assert_eq!((picture.width, picture.height), (5 * 43, 3 * 43));
        let image = pixels(&picture);
        assert_eq!((image[(0, 0)].0, image[(42, 42)].0), ([0, 100, 0], [0, 100, 0]));
        assert_eq!((image[(43, 42)].0, image[(214, 128)].0), ([0, 101, 0], [0, 114, 0]));
        let gray = enlarged(&[7; 200 * 130], [1, 130, 200]);
        assert_eq!((gray.width, gray.height, pixels(&gray)[(199, 129)].0), (200, 130, [7; 3]));
    }
}
