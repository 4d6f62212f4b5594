//! Cross-entropy with label smoothing, its gradient, and whether the prediction was right.

/// Fraction of the target that class `class` gets.
fn target(class: usize, label: f64, smoothing: f64, classes: usize) -> f64 {
    let own = if class == label as usize { 1.0 - smoothing } else { 0.0 };
    own + smoothing / classes as f64
}

/// ln of the sum of exp(logit).
fn log_sum_exp(logits: &[f64]) -> f64 {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    largest + logits.iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln()
}

/// loss = - sum over classes of target * ln(softmax)
pub(crate) fn cross_entropy(logits: &[f64], label: f64, smoothing: f64) -> f64 {
    let log_sum = log_sum_exp(logits);
    (0..logits.len()).map(|class| target(class, label, smoothing, logits.len()) * (log_sum - logits[class])).sum()
}

/// dlogits = (softmax - target) / batch
pub(crate) fn cross_entropy_grad(logits: &[f64], label: f64, smoothing: f64, batch: usize) -> Vec<f64> {
    let log_sum = log_sum_exp(logits);
    (0..logits.len())
        .map(|class| {
            let probability = (logits[class] - log_sum).exp();
            (probability - target(class, label, smoothing, logits.len())) / batch as f64
        })
        .collect()
}

/// 1 where the largest logit, the first among equals, is the label's, else 0.
pub(crate) fn correct(logits: &[f64], label: f64) -> f64 {
    let label = label as usize;
    let right = (0..logits.len())
        .all(|class| logits[label] > logits[class] || class >= label && logits[label] == logits[class]);
    f64::from(right)
}

/// The tokens of an example that have a target: their logits and labels.
fn real<'a>(logits: &'a [f64], labels: &'a [f64]) -> impl Iterator<Item = (&'a [f64], f64)> {
    let classes = logits.len() / labels.len();
    logits.chunks_exact(classes).zip(labels.iter().copied()).filter(|(_, label)| *label != -1.0)
}

/// The sum of the losses of the targets.
pub(crate) fn cross_entropy_tokens(logits: &[f64], labels: &[f64], smoothing: f64) -> f64 {
    real(logits, labels).map(|(logits, label)| cross_entropy(logits, label, smoothing)).sum()
}

/// dlogits of each token: 0 without a target, else as for one label.
pub(crate) fn cross_entropy_tokens_grad(logits: &[f64], labels: &[f64], smoothing: f64, batch: usize) -> Vec<f64> {
    let classes = logits.len() / labels.len();
    let tokens = logits.chunks_exact(classes).zip(labels);
    tokens
        .flat_map(|(logits, &label)| match label {
            -1.0 => vec![0.0; classes],
            label => cross_entropy_grad(logits, label, smoothing, batch),
        })
        .collect()
}

/// 1 where all targets have the largest logit.
pub(crate) fn correct_sequence(logits: &[f64], labels: &[f64]) -> f64 {
    real(logits, labels).map(|(logits, label)| correct(logits, label)).product()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_spreads_a_fraction_of_the_target_over_all_classes() {
        let logits = [0.3, -1.1, 0.7, 0.2, 1.9];
        let losses: Vec<f64> = (0..5).map(|label| cross_entropy(&logits, f64::from(label), 0.0)).collect();
        let mean = losses.iter().sum::<f64>() / 5.0;
        assert!((losses[1] - losses[4] - 3.0).abs() < 1e-15, "the logits' difference");
        assert!((cross_entropy(&logits, 3.0, 0.2) - (0.8 * losses[3] + 0.2 * mean)).abs() < 1e-15);
        // exp(-loss) are the probabilities.
        assert!((losses.iter().map(|loss| (-loss).exp()).sum::<f64>() - 1.0).abs() < 1e-15);
    }

    #[test]
    fn a_token_without_a_target_does_not_count() {
        let logits = [0.5, 2.0, -1.0, 4.0, 0.0, 1.0, 7.0, 0.0, 0.0];
        let labels = [1.0, -1.0, 2.0];
        let expected = cross_entropy(&logits[..3], 1.0, 0.0) + cross_entropy(&logits[6..], 2.0, 0.0);
        assert_eq!(cross_entropy_tokens(&logits, &labels, 0.0), expected);
        assert_eq!(correct_sequence(&logits, &labels), 0.0);
        assert_eq!(correct_sequence(&logits, &[1.0, -1.0, 0.0]), 1.0);
        let gradient = cross_entropy_tokens_grad(&logits, &labels, 0.0, 2);
        assert_eq!(gradient[3..6], [0.0; 3]);
        assert_eq!(gradient[..3], cross_entropy_grad(&logits[..3], 1.0, 0.0, 2));
    }

    #[test]
    fn the_first_of_equal_logits_is_the_prediction() {
        let logits = [1.0, 3.0, 3.0];
        assert_eq!([0.0, 1.0, 2.0].map(|label| correct(&logits, label)), [0.0, 1.0, 0.0]);
    }
}
