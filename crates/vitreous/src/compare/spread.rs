//! Mean and spread of a figure over runs that differ only in the seed.

use serde::Serialize;

/// Some values in a few numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Number of values.
    pub n: usize,
    /// Their mean.
    pub mean: f64,
    /// Standard deviation of the sample (divided by n - 1); absent for one value.
    pub sd: Option<f64>,
    /// The least.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Sums up values; nothing is made of none.
    pub fn of(values: &[f64]) -> Option<Spread> {
        let n = values.len();
        if n == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let sd = (n > 1).then(|| (squares / (n - 1) as f64).sqrt());
        let [min, max] =
            [f64::min as fn(f64, f64) -> f64, f64::max].map(|of| values.iter().copied().fold(values[0], of));
        Some(Spread { n, mean, sd, min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deviation_is_that_of_a_sample() {
        let spread = Spread::of(&[2.0, 5.0, 11.0]).unwrap();
        assert_eq!((spread.n, spread.mean, spread.min, spread.max), (3, 6.0, 2.0, 11.0));
        assert!((spread.sd.unwrap() - 21f64.sqrt()).abs() < 1e-12);
        assert_eq!(Spread::of(&[7.0]).unwrap().sd, None);
        assert_eq!(Spread::of(&[]), None);
    }
}
