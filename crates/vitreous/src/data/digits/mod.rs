//! Built-in digits: each image a function of (seed, index), drawn when first needed.
//!
//! Handwriting without a download: pen paths of each digit in several styles (`glyphs.rs`), randomly distorted and inked
//! (`draw.rs`). Positions, slants and clutter vary so much that a linear classifier is not accurate.

mod canvas;
mod draw;
mod glyphs;

use std::sync::OnceLock;

use super::ImageShape;
use crate::data_sets::DIGITS;
use crate::random::{Key, Purpose, stream};

/// Number of training images, the first ones.
pub const TRAIN_IMAGES: usize = 16_000;

/// Number of test images, after the training images.
pub const TEST_IMAGES: usize = 4_000;

/// Height and width of an image, in pixels.
pub const SIDE: usize = canvas::SIDE;

/// Shape of an image.
pub const SHAPE: ImageShape = ImageShape { channels: 1, height: SIDE, width: SIDE };

/// Mean of all pixels in 0..1, for normalization without drawing every image first.
pub const MEAN: f32 = 0.2;

/// Standard deviation of all pixels in 0..1.
pub const STD: f32 = 0.2;

/// A set of drawn digits.
///
/// # Shapes
/// An image is `[1, SIDE, SIDE]`, one byte for each pixel, light ink on a dark background.
pub struct Digits {
    key: Key,
    images: Vec<OnceLock<Box<[u8]>>>,
}

impl Digits {
    /// Makes a set of `count` images under a seed; nothing is drawn yet.
    pub fn new(seed: u64, count: usize) -> Self {
        let images = std::iter::repeat_with(OnceLock::new).take(count).collect();
        Digits { key: stream(seed, Purpose::Digits), images }
    }

    /// Returns the number of images.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Returns whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Returns the label of an image: ten consecutive images contain each class once.
    pub fn label(&self, index: usize) -> usize {
        index % DIGITS.len()
    }

    /// Returns the pixels of an image, row by row; the first call for an image draws it.
    ///
    /// # Panics
    /// When there is no such image.
    pub fn pixels(&self, index: usize) -> &[u8] {
        self.images[index].get_or_init(|| draw::draw(self.key.with(index as u64), self.label(index)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIXELS: usize = SIDE * SIDE;

    #[test]
    fn an_image_is_a_function_of_seed_and_index() {
        let (few, many, other) = (Digits::new(7, 23), Digits::new(7, 101), Digits::new(8, 23));
        // In another order, so that earlier drawings cannot matter.
        let last_first: Vec<Vec<u8>> = (0..23).rev().map(|i| many.pixels(i).to_vec()).collect();
        for (i, expected) in last_first.iter().rev().enumerate() {
            assert_eq!(few.pixels(i), expected);
            assert_eq!(few.pixels(i), few.pixels(i), "the second call gives the first one's image");
            assert_ne!(few.pixels(i), other.pixels(i));
        }
    }

    #[test]
    fn concurrent_threads_get_the_same_images() {
        let (shared, alone) = (Digits::new(3, 97), Digits::new(3, 97));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..97).for_each(|i| assert_eq!(shared.pixels(i), alone.pixels(i))));
            }
        });
    }

    #[test]
    fn classes_are_balanced_and_no_two_images_are_equal() {
        let digits = Digits::new(1, 1000);
        let mut counts = [0; 10];
        (0..1000).for_each(|i| counts[digits.label(i)] += 1);
        assert_eq!(counts, [100; 10]);
        let mut images: Vec<&[u8]> = (0..1000).map(|i| digits.pixels(i)).collect();
        images.sort_unstable();
        images.dedup();
        assert_eq!(images.len(), 1000);
    }

    #[test]
    fn the_digit_contrasts_with_the_background_and_is_inside_the_image() {
        let digits = Digits::new(5, 500);
        for index in 0..500 {
            let pixels = digits.pixels(index);
            let mut sorted = pixels.to_vec();
            sorted.sort_unstable();
            let (ground, ink) = (sorted[PIXELS / 2], sorted[PIXELS - 15]);
            assert!(ink >= ground + 50, "image {index}: ink {ink} on {ground}");
            // Clutter is only at the edges: the middle of the digit is brighter than the image.
            let mean = |values: &mut dyn Iterator<Item = u8>| {
                let (sum, count) = values.fold((0.0, 0.0), |(sum, count), x| (sum + f64::from(x), count + 1.0));
                sum / count
            };
            let middle = mean(&mut pixels.chunks(SIDE).skip(6).take(16).flat_map(|line| line[6..22].iter().copied()));
            assert!(middle > mean(&mut pixels.iter().copied()), "image {index}");
        }
    }

    #[test]
    fn the_mean_and_the_deviation_are_those_of_the_images() {
        let digits = Digits::new(11, 2000);
        let pixels = || (0..2000).flat_map(|i| digits.pixels(i)).map(|&x| f64::from(x) / 255.0);
        let count = (2000 * PIXELS) as f64;
        let mean = pixels().sum::<f64>() / count;
        let std = (pixels().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt();
        assert!((mean - f64::from(MEAN)).abs() < 0.01 && (std - f64::from(STD)).abs() < 0.01, "{mean} {std}");
    }

    /// Trains a softmax regression by plain gradient descent on single images; returns its validation accuracy.
    fn linear_accuracy(digits: &Digits, train: usize, epochs: usize) -> f64 {
        let normalized = |index: usize| digits.pixels(index).iter().map(|&x| f32::from(x) / 51.0 - 1.0);
        let mut weights = vec![[0.0f32; PIXELS + 1]; 10];
        let scores = |weights: &[[f32; PIXELS + 1]], image: &[f32]| -> Vec<f32> {
            weights.iter().map(|row| row.iter().zip(image).map(|(w, x)| w * x).sum()).collect()
        };
        let mut image = [1.0f32; PIXELS + 1]; // The last value is for the bias.
        for step in 0..epochs * train {
            let index = step % train;
            image.iter_mut().zip(normalized(index)).for_each(|(to, from)| *to = from);
            let logits = scores(&weights, &image);
            let max = logits.iter().copied().fold(f32::MIN, f32::max);
            let exponentials: Vec<f32> = logits.iter().map(|x| (x - max).exp()).collect();
            let total: f32 = exponentials.iter().sum();
            // The rate falls to a tenth.
            let rate = 1e-3 * (1.0 - 0.9 * step as f32 / (epochs * train) as f32);
            for (class, (row, exponential)) in weights.iter_mut().zip(exponentials).enumerate() {
                let target = f32::from(u8::from(class == digits.label(index)));
                let pull = rate * (exponential / total - target);
                row.iter_mut().zip(&image).for_each(|(w, x)| *w -= pull * x);
            }
        }
        let right = (train..digits.len()).filter(|&index| {
            image.iter_mut().zip(normalized(index)).for_each(|(to, from)| *to = from);
            let logits = scores(&weights, &image);
            (0..10).max_by(|&a, &b| logits[a].total_cmp(&logits[b])) == Some(digits.label(index))
        });
        right.count() as f64 / (digits.len() - train) as f64
    }

    /// On 16,000 images a linear classifier reaches 85 %, a small convolutional network 99.5 %.
    #[test]
    fn a_linear_classifier_learns_something_but_not_enough() {
        let accuracy = linear_accuracy(&Digits::new(42, 7000), 6000, 6);
        assert!((0.5..0.9).contains(&accuracy), "{accuracy}");
    }
}
