//! The two orders of an image's values.

/// From `[channels, height, width]` to `[height, width, channels]`.
pub(crate) fn channels_last(x: &[f64], [channels, pixels]: [usize; 2]) -> Vec<f64> {
    (0..pixels * channels).map(|i| x[i % channels * pixels + i / channels]).collect()
}

/// From `[height, width, channels]` to `[channels, height, width]`.
pub(crate) fn channels_first(x: &[f64], [channels, pixels]: [usize; 2]) -> Vec<f64> {
    (0..pixels * channels).map(|i| x[i % pixels * channels + i / pixels]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_order_undoes_the_other() {
        let x: Vec<f64> = (0..6).map(f64::from).collect();
        let map = channels_last(&x, [2, 3]);
        assert_eq!(map, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(channels_first(&map, [2, 3]), x);
    }
}
