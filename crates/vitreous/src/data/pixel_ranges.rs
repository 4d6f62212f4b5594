//! Pixel statistics of training images, with which `predict` recognizes an image that is unlike all of them.
//!
//! Four statistics per image, in 0..=1, each with the range of nearly all training images. This is a rough check: it
//! recognizes a photo given to a digit model, dark digits on white, and noise, but not one photo among others.
//!
//! How many PNG files gave a warning from `predict`, with runs of mnist-vit, fashion-vit-128 and cifar-vit-64:
//!
//! | images | MNIST | Fashion-MNIST | CIFAR-10 |
//! |---|---|---|---|
//! | the first 1,000 test images of the run's data (false alarms) | 0.1 % | 0.1 % | 0 % |
//! | 200 color photos, 64x64 | 100 % | 100 % | 0 % |
//! | the same photos as 28x28 gray images | 100 % | 95 % | |
//! | negatives of 200 test images | 100 % | 100 % | 0 % |
//! | 200 images of uniform noise | 100 % | 100 % | 100 % |
//!
//! Similar data sets are not recognized: 80 % of 1,000 Fashion-MNIST images gave a warning from the MNIST run, but no MNIST
//! image from the Fashion-MNIST run. CIFAR-10 has photos of all kinds, so its run warns about little but noise.

use serde::{Deserialize, Serialize};

use super::{ImageSet, ImageShape};

/// Number of training images that are measured, evenly spaced.
const SAMPLE: usize = 4000;

/// The same if the program draws the images, which takes longer.
const SAMPLE_DRAWN: usize = 300;

/// Fraction of the training images outside a range on each side. 4 ranges with 2 sides give at most 0.4 % false alarms.
const TAIL: f64 = 0.0005;

/// Few images give uncertain ends of a range: each side is widened by this number divided by the number of images, as a
/// fraction of the range.
const MARGIN: f64 = 100.0;

/// The usual minimum and maximum of each statistic among training images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PixelRanges {
    /// Of the mean of all pixels.
    pub brightness: [f32; 2],
    /// Of the standard deviation of all pixels.
    pub contrast: [f32; 2],
    /// Of the mean of the pixels along the four sides.
    pub border: [f32; 2],
    /// Of the mean difference of neighboring pixels.
    pub detail: [f32; 2],
}

impl PixelRanges {
    /// Measures training images.
    pub fn of(set: &dyn ImageSet) -> Option<PixelRanges> {
        let sample = if set.is_drawn() { SAMPLE_DRAWN } else { SAMPLE };
        let images = set.len().min(sample);
        let mut buffer = Vec::new();
        let statistics: Vec<[f32; 4]> =
            (0..images).map(|i| statistics(set.shape(), set.pixels(i * set.len() / images, &mut buffer))).collect();
        let range = |which: usize| range(statistics.iter().map(|one| one[which]).collect());
        Some(PixelRanges { brightness: range(0)?, contrast: range(1)?, border: range(2)?, detail: range(3)? })
    }

    /// How an image differs from all training images, if it does.
    ///
    /// # Shapes
    /// - `pixels`: `[channels, height, width]`
    pub fn difference(&self, shape: ImageShape, pixels: &[u8]) -> Option<&'static str> {
        let [brightness, contrast, border, detail] = statistics(shape, pixels);
        let kinds = [
            (border, self.border, "its border is darker", "its border is brighter"),
            (brightness, self.brightness, "it is darker", "it is brighter"),
            (detail, self.detail, "it is smoother", "it is noisier"),
            (contrast, self.contrast, "it has less contrast", "it has more contrast"),
        ];
        kinds.into_iter().find_map(|(value, [low, high], below, above)| match value {
            value if value < low => Some(below),
            value if value > high => Some(above),
            _ => None,
        })
    }
}

/// The range of all values except the tails, widened by the margin.
fn range(mut values: Vec<f32>) -> Option<[f32; 2]> {
    values.sort_by(f32::total_cmp);
    let tail = (TAIL * values.len() as f64) as usize;
    let (low, high) = (*values.get(tail)?, *values.get(values.len().checked_sub(1 + tail)?)?);
    let margin = (high - low) * (MARGIN / values.len() as f64).min(1.0) as f32;
    Some([low - margin, high + margin])
}

/// Brightness, contrast, border and detail of an image.
fn statistics(shape: ImageShape, pixels: &[u8]) -> [f32; 4] {
    let ImageShape { height, width, .. } = shape;
    let count = pixels.len() as f64;
    let (mut sum, mut squares) = (0_u64, 0_u64);
    for &pixel in pixels {
        sum += u64::from(pixel);
        squares += u64::from(pixel) * u64::from(pixel);
    }
    let mean = sum as f64 / count;
    let deviation = (squares as f64 / count - mean * mean).max(0.0).sqrt();
    // Sums of integers: the same on every machine.
    let (mut border, mut on_border, mut across, mut pairs) = (0_u64, 0_u64, 0_u64, 0_u64);
    for plane in pixels.chunks_exact(height * width) {
        for (y, row) in plane.chunks_exact(width).enumerate() {
            let is_end = y == 0 || y + 1 == height;
            let sides = if is_end { row } else { &[row[0], row[width - 1]][..] };
            border += sides.iter().map(|pixel| u64::from(*pixel)).sum::<u64>();
            on_border += sides.len() as u64;
            across += row.windows(2).map(|pair| u64::from(pair[0].abs_diff(pair[1]))).sum::<u64>();
            pairs += row.len() as u64 - 1;
        }
        let below = plane.iter().zip(&plane[width..]);
        across += below.map(|(upper, lower)| u64::from(upper.abs_diff(*lower))).sum::<u64>();
        pairs += (plane.len() - width) as u64;
    }
    let [border, detail] = [(border, on_border), (across, pairs)].map(|(sum, n)| sum as f64 / n.max(1) as f64);
    [mean, deviation, border, detail].map(|value| (value / 255.0) as f32)
}

#[cfg(test)]
mod tests {
    use super::super::Wanted;
    use super::super::samples::{loaded, spec, write_mnist};
    use super::*;

    const SHAPE: ImageShape = ImageShape { channels: 1, height: 3, width: 5 };

    #[test]
    fn statistics_are_those_of_the_pixels() {
        let mut image = [51; 15];
        assert_eq!(statistics(SHAPE, &image), [0.2, 0.0, 0.2, 0.0]);
        // One bright pixel inside: not on the border, and in four of the 22 pairs of neighbors.
        image[7] = 255;
        let [brightness, contrast, border, detail] = statistics(SHAPE, &image);
        let close = |a: f32, b: f64| (f64::from(a) - b).abs() < 1e-6;
        assert!(close(brightness, 0.2 + 0.8 / 15.0) && close(border, 0.2), "{brightness} {border}");
        assert!(close(contrast, (0.64 / 15.0 - (0.8_f64 / 15.0).powi(2)).sqrt()), "{contrast}");
        assert!(close(detail, 4.0 * 0.8 / 22.0), "{detail}");
        // A bright pixel in the middle of the bottom row: one of the 12 on the border, in three pairs.
        let mut image = [51; 15];
        image[12] = 255;
        let [.., border, detail] = statistics(SHAPE, &image);
        assert!(close(border, 0.2 + 0.8 / 12.0) && close(detail, 3.0 * 0.8 / 22.0), "{border} {detail}");
    }

    #[test]
    fn tails_are_cut_off_and_few_images_have_wide_ranges() {
        let many: Vec<f32> = (0..100_001).map(|i| i as f32).collect();
        let [low, high] = range(many).unwrap();
        assert!((low + 50.0).abs() < 0.2 && (high - 100_050.0).abs() < 0.2, "{low} {high}");
        assert_eq!(range(vec![0.5, 0.25]), Some([0.0, 0.75]));
        assert_eq!(range(Vec::new()), None);
    }

    #[test]
    fn training_images_are_usual_and_their_negatives_are_not() {
        let folder = tempfile::tempdir().unwrap();
        write_mnist(folder.path());
        let ranges =
            PixelRanges { brightness: [0.0, 0.3], contrast: [0.1, 0.5], border: [0.0, 0.02], detail: [0.0, 0.2] };
        let mut image = [0; 15];
        image[7] = 255;
        assert_eq!(ranges.difference(SHAPE, &image), None);
        assert_eq!(ranges.difference(SHAPE, &image.map(|pixel| 255 - pixel)), Some("its border is brighter"));
        assert_eq!(ranges.difference(SHAPE, &[0; 15]), Some("it has less contrast"));
        let train = loaded(&spec("mnist", folder.path()), Wanted::TrainAndValidation).unwrap().1.train.unwrap();
        let own = PixelRanges::of(&train).unwrap();
        assert!((0..train.len()).all(|i| own.difference(train.shape(), train.pixels(i)).is_none()));
    }
}
