//! Dropout, applied to values or to gradients.

use crate::ops::Dropout;
use crate::random::Key;

/// Returns what the value at `column` of `row` is multiplied by: 0 or the scale; 1 without a key.
pub(crate) fn factor(dropout: Dropout, image: Option<Key>, row: usize, features: usize, column: usize) -> f64 {
    match image {
        None => 1.0,
        Some(image) if dropout.keeps(dropout.keys(image), row, features, column) => f64::from(dropout.scale()),
        Some(_) => 0.0,
    }
}

/// Multiplies each value of `[rows, features]` by its factor.
pub(crate) fn apply(dropout: Dropout, image: Option<Key>, x: &[f64], features: usize) -> Vec<f64> {
    x.iter().enumerate().map(|(i, x)| x * factor(dropout, image, i / features, features, i % features)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_values_are_scaled_and_the_mean_stays() {
        let dropout = Dropout { rate: 0.25, stream: 7 };
        let ones = vec![1.0; 211 * 37];
        let y = apply(dropout, Some(Key::new(1)), &ones, 37);
        assert!(y.iter().all(|&y| y == 0.0 || (y - 4.0 / 3.0).abs() < 1e-7));
        let mean = y.iter().sum::<f64>() / y.len() as f64;
        // Four standard deviations of 7807 draws.
        assert!((mean - 1.0).abs() < 0.027, "mean {mean}");
        assert_eq!(apply(dropout, None, &ones, 37), ones);
    }
}
