//! Strips: images with one to five handwritten digits side by side, composed on demand.
//!
//! A strip is a function of (key, index) and of the digit images: nothing is stored. The strips of a split use only the
//! digits of that split, so no strip of the test split has a digit that was trained on.

use super::{Answer, DataError, ImageSet, ImageShape, Split};
use crate::config::strips::{DIGITS_MAX, HEIGHT, WIDTH, words};
use crate::data_sets::DIGITS;
use crate::random::Key;

/// Maximum overlap of two neighboring digits in pixels; digits have about as much empty space at their sides.
const OVERLAP_MAX: u64 = 8;

/// Maximum vertical shift of a digit in pixels.
const SHIFT_MAX: u64 = 2;

/// Strips of the digits of one split.
#[derive(Clone, Debug)]
pub struct Strips {
    digits: Split,
    key: Key,
}

/// One digit of a strip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Placed {
    /// Index in the split.
    image: usize,
    /// First column.
    left: usize,
    /// First row of the digit minus [`SHIFT_MAX`].
    down: usize,
}

/// Checks that the classes are the digits in order, so that a label is the digit itself.
///
/// # Errors
/// When they are not.
pub fn check_digits(name: &str, class_names: &[String]) -> Result<(), DataError> {
    if class_names == DIGITS {
        return Ok(());
    }
    Err(DataError::NotDigits { name: name.to_string(), found: class_names.to_vec() })
}

impl Strips {
    /// Makes the strips of a split's digits: as many per epoch as there are digits.
    ///
    /// # Panics
    /// When the split is empty or its images are not `[1, HEIGHT, HEIGHT]` with classes 0 to 9.
    pub fn new(digits: Split, key: Key) -> Self {
        assert_eq!(digits.shape(), ImageShape { channels: 1, height: HEIGHT, width: HEIGHT }, "digits of another size");
        assert!(!digits.is_empty(), "no digits to make strips of");
        Strips { digits, key }
    }

    /// The digits on a strip, from left to right.
    fn digits(&self, index: usize) -> Vec<u8> {
        self.placed(index).iter().map(|digit| self.digits.label(digit.image) as u8).collect()
    }

    /// Draws a strip. Where digits overlap, the brighter pixel is used.
    ///
    /// # Shapes
    /// - `pixels`: `[1, HEIGHT, WIDTH]`
    fn compose(&self, index: usize, pixels: &mut [u8]) {
        assert_eq!(pixels.len(), HEIGHT * WIDTH, "a canvas of a strip");
        pixels.fill(0);
        for Placed { image, left, down } in self.placed(index) {
            for (row, line) in self.digits.pixels(image).chunks_exact(HEIGHT).enumerate() {
                let Some(row) = (row + down).checked_sub(SHIFT_MAX as usize).filter(|&row| row < HEIGHT) else {
                    continue;
                };
                let canvas = &mut pixels[row * WIDTH + left..][..HEIGHT];
                canvas.iter_mut().zip(line).for_each(|(to, &from)| *to = (*to).max(from));
            }
        }
    }

    fn placed(&self, index: usize) -> Vec<Placed> {
        let key = self.key.with(index as u64);
        let count = 1 + key.below(0, DIGITS_MAX as u64) as usize;
        let own = |digit: usize| key.with(1 + digit as u64);
        let overlaps: Vec<usize> = (1..count).map(|digit| own(digit).below(0, OVERLAP_MAX + 1) as usize).collect();
        let width = count * HEIGHT - overlaps.iter().sum::<usize>();
        let mut left = key.below(1, (WIDTH - width + 1) as u64) as usize;
        let mut placed = Vec::with_capacity(count);
        for digit in 0..count {
            if digit > 0 {
                left += HEIGHT - overlaps[digit - 1];
            }
            let image = own(digit).below(1, self.digits.len() as u64) as usize;
            let down = own(digit).below(2, 2 * SHIFT_MAX + 1) as usize;
            placed.push(Placed { image, left, down });
        }
        placed
    }
}

impl ImageSet for Strips {
    fn len(&self) -> usize {
        self.digits.len()
    }

    fn shape(&self) -> ImageShape {
        ImageShape { channels: 1, height: HEIGHT, width: WIDTH }
    }

    /// Each epoch has new strips.
    fn index(&self, epoch: u64, i: usize) -> usize {
        epoch as usize * self.len() + i
    }

    fn pixels<'a>(&'a self, index: usize, canvas: &'a mut Vec<u8>) -> &'a [u8] {
        canvas.resize(HEIGHT * WIDTH, 0);
        self.compose(index, canvas);
        canvas
    }

    fn answer(&self, index: usize) -> Answer {
        Answer::Digits(self.digits(index))
    }

    /// Input 1 is the target words, -1 where there is none; input 2 the words before them.
    fn label(&self, input: usize, index: usize, values: &mut [f32]) {
        let digits = self.digits(index);
        if input == 1 {
            let targets = words::targets(&digits);
            values.iter_mut().zip(targets).for_each(|(to, word)| *to = word.map_or(-1.0, f32::from));
        } else {
            values.iter_mut().zip(words::given(&digits)).for_each(|(to, word)| *to = f32::from(word));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::data::DataSpec;
    use crate::data::{Wanted, inspect, load};

    fn strips(key: u64, digits: usize) -> Strips {
        let spec = DataSpec { limit_train: Some(digits), ..DataSpec::default() };
        let loaded = load(&spec, &inspect(&spec).unwrap(), Wanted::TrainAndValidation, 1, &|_, _| ()).unwrap();
        Strips::new(loaded.train.unwrap(), Key::new(key))
    }

    fn drawn(strips: &Strips, index: usize) -> Vec<u8> {
        let mut pixels = vec![77; HEIGHT * WIDTH];
        strips.compose(index, &mut pixels);
        pixels
    }

    #[test]
    fn a_strip_is_a_function_of_key_and_index() {
        let (strips, again, other) = (strips(3, 223), strips(3, 223), strips(4, 223));
        for index in 0..11 {
            assert_eq!(drawn(&strips, index), drawn(&again, index));
            assert_ne!(drawn(&strips, index), drawn(&other, index));
        }
    }

    #[test]
    fn all_lengths_are_equally_frequent_and_digits_are_in_order() {
        let strips = strips(5, 223);
        let mut lengths = [0; DIGITS_MAX + 1];
        for index in 0..2000 {
            let (placed, digits) = (strips.placed(index), strips.digits(index));
            lengths[digits.len()] += 1;
            assert!(placed.windows(2).all(|pair| pair[0].left < pair[1].left), "{placed:?}");
            assert!(placed.iter().all(|digit| digit.left + HEIGHT <= WIDTH), "{placed:?}");
        }
        assert_eq!(lengths[0], 0);
        // Five standard deviations of 2000 draws.
        assert!(lengths[1..].iter().all(|&count| (310..490).contains(&count)), "{lengths:?}");
    }

    #[test]
    fn the_pixels_are_those_of_the_digits() {
        let strips = strips(7, 223);
        for index in 0..97 {
            let pixels = drawn(&strips, index);
            let placed = strips.placed(index);
            let mut expected = vec![0; HEIGHT * WIDTH];
            for (at, to) in expected.iter_mut().enumerate() {
                let (row, column) = (at / WIDTH, at % WIDTH);
                for digit in &placed {
                    let (y, x) = (row + 2, column.wrapping_sub(digit.left));
                    if (digit.down..digit.down + HEIGHT).contains(&y) && x < HEIGHT {
                        *to = (*to).max(strips.digits.pixels(digit.image)[(y - digit.down) * HEIGHT + x]);
                    }
                }
            }
            assert_eq!(pixels, expected, "strip {index}");
        }
    }
}
