//! How bytes become the input of a model: `(byte / 255 - mean) / std`, channel by channel.

use serde::{Deserialize, Serialize};

use super::Split;
use crate::config::data::DataSpec;

/// Mean and standard deviation of each channel, of pixels in 0..=1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalization {
    /// Subtracted.
    pub mean: Vec<f32>,
    /// Divided by.
    pub std: Vec<f32>,
}

impl Normalization {
    /// Uses the spec's values, and measures missing ones on the train split.
    pub fn new(spec: &DataSpec, train: &Split) -> Normalization {
        match (&spec.mean, &spec.std) {
            (Some(mean), Some(std)) => Normalization { mean: mean.clone(), std: std.clone() },
            (mean, std) => {
                let measured = Normalization::measured(train);
                Normalization { mean: mean.clone().unwrap_or(measured.mean), std: std.clone().unwrap_or(measured.std) }
            }
        }
    }

    /// By 0.5: pixels become -1 to 1.
    pub fn half() -> Normalization {
        Normalization { mean: vec![0.5; 3], std: vec![0.5; 3] }
    }

    /// By mean and standard deviation of ImageNet's images.
    pub fn imagenet() -> Normalization {
        Normalization { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225] }
    }

    /// The same for images of this many channels: where it has another number, each gets the mean of its values.
    pub fn for_channels(self, channels: usize) -> Normalization {
        if self.mean.len() == channels {
            return self;
        }
        let average = |values: Vec<f32>| vec![values.iter().sum::<f32>() / values.len() as f32; channels];
        Normalization { mean: average(self.mean), std: average(self.std) }
    }

    /// A value by which no image can be normalized, if there is one.
    pub fn invalid(&self) -> Option<f32> {
        let is_bad = |value: &&f32| !(**value > 0.0 && value.is_finite());
        self.std.iter().find(is_bad).or_else(|| self.mean.iter().find(|mean| !mean.is_finite())).copied()
    }

    /// Measures a split. Sums are integers, so their order does not matter. The standard deviation of a constant channel
    /// is 1, to avoid division by 0. The values of built-in digits are constants, because drawing all digits takes a second.
    pub fn measured(split: &Split) -> Normalization {
        if let Some((mean, std)) = split.known_mean_and_std() {
            return Normalization { mean: vec![mean], std: vec![std] };
        }
        let shape = split.shape();
        let plane = shape.height * shape.width;
        let mut sums = vec![(0u64, 0u64); shape.channels];
        for i in 0..split.len() {
            for (pixels, (sum, squares)) in split.pixels(i).chunks_exact(plane).zip(&mut sums) {
                // Short chunks keep both sums within 32 bits, which the compiler can vectorize.
                for run in pixels.chunks(1 << 14) {
                    *sum += u64::from(run.iter().map(|&p| u32::from(p)).sum::<u32>());
                    *squares += u64::from(run.iter().map(|&p| u32::from(p) * u32::from(p)).sum::<u32>());
                }
            }
        }
        let count = (split.len() * plane).max(1) as u128;
        let mean = |&(sum, _): &(u64, u64)| (sum as f64 / (count as f64 * 255.0)) as f32;
        let std = |&(sum, squares): &(u64, u64)| {
            let variance = count * u128::from(squares) - u128::from(sum) * u128::from(sum);
            match variance {
                0 => 1.0,
                _ => ((variance as f64).sqrt() / (count as f64 * 255.0)) as f32,
            }
        };
        Normalization { mean: sums.iter().map(mean).collect(), std: sums.iter().map(std).collect() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::ImageShape;
    use super::super::split::{Names, Packed, Store};
    use super::*;

    fn split(shape: ImageShape, pixels: Vec<u8>, indices: Vec<u32>) -> Split {
        let labels = vec![0; pixels.len() / shape.len()];
        let packed = Packed { shape, pixels, labels, names: Names::Numbered("train"), small: Vec::new() };
        Split::new(Arc::new(Store::Packed(packed)), indices)
    }

    #[test]
    fn mean_and_deviation_are_measured_per_channel() {
        let shape = ImageShape { channels: 3, height: 2, width: 1 };
        let train =
            split(shape, vec![0, 255, 51, 51, 0, 0, 99, 99, 99, 99, 99, 99, 255, 0, 153, 153, 255, 0], vec![0, 2]);
        let measured = Normalization::measured(&train);
        let close = |a: &[f32], b: [f32; 3]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(close(&measured.mean, [0.5, 0.4, 0.25]), "{measured:?}");
        assert!(close(&measured.std, [0.5, 0.2, 0.433_012_7]), "{measured:?}");
    }

    #[test]
    fn a_constant_channel_has_deviation_1() {
        let shape = ImageShape { channels: 1, height: 3, width: 5 };
        assert_eq!(Normalization::measured(&split(shape, vec![77; 30], vec![0, 1])).std, [1.0]);
    }

    #[test]
    fn given_values_are_used_and_missing_ones_measured() {
        let train = split(ImageShape { channels: 1, height: 1, width: 2 }, vec![0, 255], vec![0]);
        let spec = DataSpec { mean: Some(vec![0.1307]), ..DataSpec::default() };
        assert_eq!(Normalization::new(&spec, &train), Normalization { mean: vec![0.1307], std: vec![0.5] });
    }
}
