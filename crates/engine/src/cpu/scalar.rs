//! Operations that move values or touch few of them: plain safe loops over slices.

/// Cuts an image `[channels, height, width]` into patches `[tokens, channels * patch * patch]`.
pub(super) fn patches(image: &[f32], [channels, height, width]: [usize; 3], patch: usize, out: &mut [f32]) {
    let mut strips = out.chunks_exact_mut(patch);
    for y in (0..height).step_by(patch) {
        for x in (0..width).step_by(patch) {
            for channel in 0..channels {
                for row in 0..patch {
                    let at = (channel * height + y + row) * width + x;
                    strips.next().expect("one strip for each row of a patch").copy_from_slice(&image[at..at + patch]);
                }
            }
        }
    }
}

/// Adds `x` to `sum`, or copies it where the sum starts.
pub(super) fn accumulate(x: &[f32], sum: &mut [f32], continues: bool) {
    if continues {
        for (sum, x) in sum.iter_mut().zip(x) {
            *sum += x;
        }
    } else {
        sum.copy_from_slice(x);
    }
}

/// The mean over the rows of one image.
pub(super) fn mean_rows(x: &[f32], out: &mut [f32]) {
    let rows = x.len() / out.len();
    out.fill(0.0);
    for row in x.chunks_exact(out.len()) {
        accumulate(row, out, true);
    }
    let inverse = 1.0 / rows as f32;
    out.iter_mut().for_each(|x| *x *= inverse);
}

/// Gives each row of one image its part of the mean's gradient.
pub(super) fn mean_rows_grad(dy: &[f32], dx: &mut [f32]) {
    let inverse = 1.0 / (dx.len() / dy.len()) as f32;
    for row in dx.chunks_exact_mut(dy.len()) {
        for (dx, dy) in row.iter_mut().zip(dy) {
            *dx = dy * inverse;
        }
    }
}

/// The part of the target that falls to a class.
fn target(class: usize, label: usize, classes: usize, smoothing: f32) -> f64 {
    let spread = f64::from(smoothing) / classes as f64;
    if class == label { 1.0 - f64::from(smoothing) + spread } else { spread }
}

/// The logarithm of the sum of exponentials, in f64: a loss is reported to more digits than f32 sums keep.
fn log_sum_exp(logits: &[f32]) -> f64 {
    let largest = f64::from(logits.iter().copied().fold(f32::MIN, f32::max));
    largest + logits.iter().map(|&x| (f64::from(x) - largest).exp()).sum::<f64>().ln()
}

/// The cross-entropy loss of one example.
pub(super) fn cross_entropy(logits: &[f32], label: f32, smoothing: f32) -> f32 {
    let label = class_of(label, logits.len());
    let total = log_sum_exp(logits);
    let terms = logits.iter().enumerate();
    terms.map(|(i, &x)| target(i, label, logits.len(), smoothing) * (total - f64::from(x))).sum::<f64>() as f32
}

/// The gradient of one example's share of the step's loss.
pub(super) fn cross_entropy_grad(logits: &[f32], label: f32, smoothing: f32, share: f64, out: &mut [f32]) {
    let label = class_of(label, logits.len());
    let total = log_sum_exp(logits);
    for (i, (&x, out)) in logits.iter().zip(out).enumerate() {
        let probability = (f64::from(x) - total).exp();
        *out = ((probability - target(i, label, logits.len(), smoothing)) * share) as f32;
    }
}

/// 1 where the largest logit, the first of equals, is the label's.
pub(super) fn correct(logits: &[f32], label: f32) -> f32 {
    let label = class_of(label, logits.len());
    let largest = logits.iter().copied().fold(f32::MIN, f32::max);
    let first = logits.iter().position(|&x| x == largest);
    if first == Some(label) { 1.0 } else { 0.0 }
}

fn class_of(label: f32, classes: usize) -> usize {
    let class = label as usize;
    assert!(class < classes && class as f32 == label, "label {label} is not a class of {classes}");
    class
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::{numbers, wide};
    use crate::reference;

    #[test]
    fn patches_equal_the_reference() {
        for (image, patch) in [([1, 1, 1], 1), ([3, 4, 6], 2), ([2, 15, 5], 5), ([5, 7, 14], 7)] {
            let x = numbers(1, image.iter().product());
            let mut out = vec![f32::NAN; x.len()];
            patches(&x, image, patch, &mut out);
            assert_eq!(wide(&out), reference::patches::forward(&wide(&x), &image, patch));
        }
    }

    #[test]
    fn losses_and_their_gradients_equal_the_reference() {
        for classes in [2, 3, 10, 97] {
            let logits: Vec<f32> = numbers(classes as u64, classes).iter().map(|x| 9.0 * x).collect();
            for (label, smoothing) in [(0, 0.0), (1, 0.1), (classes - 1, 0.3)] {
                let exact = reference::loss::cross_entropy(&wide(&logits), label as f64, f64::from(smoothing));
                let found = cross_entropy(&logits, label as f32, smoothing);
                assert!((f64::from(found) - exact).abs() <= 1e-7 * exact.max(1.0), "{found} {exact}");
                let mut gradient = vec![f32::NAN; classes];
                cross_entropy_grad(&logits, label as f32, smoothing, 1.0 / 7.0, &mut gradient);
                let exact = reference::loss::cross_entropy_grad(&wide(&logits), label as f64, f64::from(smoothing), 7);
                for (found, exact) in gradient.iter().zip(exact) {
                    assert!((f64::from(*found) - exact).abs() <= 1e-8, "{found} {exact}");
                }
                assert_eq!(
                    f64::from(correct(&logits, label as f32)),
                    reference::loss::correct(&wide(&logits), label as f64)
                );
            }
        }
        assert_eq!(
            [0.0, 1.0, 2.0].map(|label| correct(&[1.0, 3.0, 3.0], label)),
            [0.0, 1.0, 0.0],
            "the first of equals"
        );
    }

    #[test]
    #[should_panic(expected = "label 2.5 is not a class of 3")]
    fn an_invalid_label_is_rejected() {
        correct(&[0.0; 3], 2.5);
    }
}
