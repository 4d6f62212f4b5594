//! Operations on sequences that touch few values: plain safe loops over slices.

/// The label of a token that has no target.
pub(super) const NO_TARGET: f32 = -1.0;

/// Softmax of one row, in place.
pub(super) fn softmax(x: &mut [f32]) {
    let largest = x.iter().copied().fold(f32::MIN, f32::max);
    let mut sum = 0.0;
    for x in x.iter_mut() {
        *x = (*x - largest).exp();
        sum += *x;
    }
    x.iter_mut().for_each(|x| *x /= sum);
}

/// The gradient of one row of softmax, in place of that of its result `y`.
pub(super) fn softmax_grad(y: &[f32], dy: &mut [f32]) {
    let mean: f32 = y.iter().zip(dy.iter()).map(|(y, dy)| y * dy).sum();
    for (dy, y) in dy.iter_mut().zip(y) {
        *dy = y * (*dy - mean);
    }
}

/// The whole number that a value stands for.
pub(super) fn number_of(value: f32, count: usize) -> usize {
    let number = value as usize;
    assert!(number < count && number as f32 == value, "token {value} is not in a vocabulary of {count}");
    number
}

/// The logits and the label of each token that has a target.
pub(super) fn real_targets<'a>(
    (logits, labels): (&'a [f32], &'a [f32]),
    classes: usize,
) -> impl Iterator<Item = (&'a [f32], f32)> {
    logits.chunks_exact(classes).zip(labels.iter().copied()).filter(|(_, label)| *label != NO_TARGET)
}

/// Where the weights of output `o` start in the whole matrix `[count * heads * width, heads * width]` of a layer that
/// maps each head's columns on their own.
pub(super) fn block_start(o: usize, heads: usize, width: usize) -> usize {
    o * heads * width + o / width % heads * width
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::{numbers, wide};
    use crate::reference;

    #[test]
    fn softmax_and_its_gradient_equal_the_reference() {
        for len in [1, 2, 7, 31] {
            let mut y: Vec<f32> = numbers(1, len).iter().map(|x| 9.0 * x).collect();
            let mut dy = numbers(2, len);
            let expected = reference::activation::softmax(&wide(&y), len);
            let slopes = reference::activation::softmax_grad(&wide(&dy), &expected, len);
            softmax(&mut y);
            softmax_grad(&y, &mut dy);
            for (found, exact) in y.iter().chain(&dy).zip(expected.iter().chain(&slopes)) {
                assert!((f64::from(*found) - exact).abs() < 3e-7, "{found} {exact}");
            }
        }
    }

    #[test]
    fn blocks_lie_on_the_diagonal_of_each_map() {
        let starts: Vec<usize> = (0..12).map(|o| block_start(o, 3, 2)).collect();
        assert_eq!(starts, [0, 6, 14, 20, 28, 34, 36, 42, 50, 56, 64, 70]);
    }

    #[test]
    #[should_panic(expected = "token 11 is not in a vocabulary of 11")]
    fn a_token_outside_the_vocabulary_is_rejected() {
        number_of(11.0, 11);
    }
}
