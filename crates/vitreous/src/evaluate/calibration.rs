//! How well a model's probabilities match how often it is right. Source: Guo et al. 2017, "On Calibration of Modern
//! Neural Networks", with 15 bins as there.

use serde::{Deserialize, Serialize};

/// Number of bins.
const BINS: usize = 15;

/// The probabilities of a model's answers compared with how many of them are right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Mean distance between probability and accuracy over the bins, weighted by their images: a fraction of 1.
    pub expected_calibration_error: f64,
    /// Answers by their probability.
    pub bins: Vec<CalibrationBin>,
}

/// Answers whose probability is above `from` and at most `to`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationBin {
    /// Lower end.
    pub from: f64,
    /// Upper end.
    pub to: f64,
    /// Number of images.
    pub images: u64,
    /// Mean probability of the answers; absent without images.
    pub confidence: Option<f64>,
    /// Fraction of the answers that are right; absent without images.
    pub accuracy: Option<f64>,
}

/// Counts answers by their probability.
#[derive(Clone, Copy, Debug, Default)]
pub struct CalibrationTally {
    bins: [(u64, u64, f64); BINS],
}

impl CalibrationTally {
    /// Adds an answer of this probability. NaN, from a model that has diverged, counts as 0.
    pub fn add(&mut self, probability: f64, is_right: bool) {
        let probability = if probability.is_nan() { 0.0 } else { probability };
        let bin = (probability * BINS as f64).ceil() as usize;
        let (images, right, sum) = &mut self.bins[bin.clamp(1, BINS) - 1];
        *images += 1;
        *right += u64::from(is_right);
        *sum += probability;
    }

    /// Returns the comparison; none without answers.
    pub fn finish(self) -> Option<Calibration> {
        let total: u64 = self.bins.iter().map(|(images, ..)| images).sum();
        let bin = |(i, (images, right, sum)): (usize, (u64, u64, f64))| {
            let mean = |value: f64| (images > 0).then(|| value / images as f64);
            let [from, to] = [i, i + 1].map(|edge| edge as f64 / BINS as f64);
            CalibrationBin { from, to, images, confidence: mean(sum), accuracy: mean(right as f64) }
        };
        let bins: Vec<CalibrationBin> = self.bins.into_iter().enumerate().map(bin).collect();
        let gap = |bin: &CalibrationBin| Some(bin.images as f64 * (bin.accuracy? - bin.confidence?).abs());
        let expected_calibration_error = bins.iter().filter_map(gap).sum::<f64>() / total as f64;
        (total > 0).then_some(Calibration { expected_calibration_error, bins })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_the_weighted_distance_of_the_bins() {
        let mut tally = CalibrationTally::default();
        // Two bins: 0.95 and 0.99 are in the last, where one of two is right; 0.6 is at the upper end of the ninth.
        for (probability, is_right) in [(0.95, true), (0.99, false), (0.6, true)] {
            tally.add(probability, is_right);
        }
        let found = tally.finish().unwrap();
        assert!((found.expected_calibration_error - (2.0 * 0.47 + 1.0 * 0.4) / 3.0).abs() < 1e-12, "{found:?}");
        assert_eq!((found.bins.len(), found.bins[14].images, found.bins[8].images), (15, 2, 1));
        assert_eq!((found.bins[8].accuracy, found.bins[0].accuracy), (Some(1.0), None));
        assert_eq!(CalibrationTally::default().finish(), None);
    }

    #[test]
    fn impossible_probabilities_have_a_bin() {
        let mut tally = CalibrationTally::default();
        for probability in [f64::NAN, 0.0, 1.0, 1.0 + 1e-12] {
            tally.add(probability, true);
        }
        let bins = tally.finish().unwrap().bins;
        assert_eq!((bins[0].images, bins[14].images), (2, 2));
    }
}
