//! How bytes become the numbers a model sees: `(byte / 255 - mean) / std`, channel by channel.

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
    /// Takes the spec's numbers, and measures on the train split what the spec does not give.
    pub fn new(spec: &DataSpec, train: &Split) -> Normalization {
        match (&spec.mean, &spec.std) {
            (Some(mean), Some(std)) => Normalization { mean: mean.clone(), std: std.clone() },
            (mean, std) => {
                let measured = Normalization::measured(train);
                Normalization { mean: mean.clone().unwrap_or(measured.mean), std: std.clone().unwrap_or(measured.std) }
            }
        }
    }

    /// Measures a split. The sums are integers, so nothing depends on their order. A channel that never changes gets
    /// standard deviation 1, so that it can be divided by. Of built-in digits a few hundred are drawn for it.
    pub fn measured(split: &Split) -> Normalization {
        let shape = split.shape();
        let plane = shape.height * shape.width;
        let mut sums = vec![(0u64, 0u64); shape.channels];
        for i in 0..split.sample_len() {
            for (pixels, (sum, squares)) in split.pixels(i).chunks_exact(plane).zip(&mut sums) {
                // Short runs keep both sums within 32 bits, which is what vectorises.
                for run in pixels.chunks(1 << 14) {
                    *sum += u64::from(run.iter().map(|&p| u32::from(p)).sum::<u32>());
                    *squares += u64::from(run.iter().map(|&p| u32::from(p) * u32::from(p)).sum::<u32>());
                }
            }
        }
        let count = (split.sample_len() * plane).max(1) as u128;
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
