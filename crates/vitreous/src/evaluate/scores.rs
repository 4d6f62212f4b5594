//! Scores from logits and labels: loss, accuracy with its interval, scores of each class, confusion matrix.
//!
//! A class with images that is never predicted has precision 0, as in scikit-learn with `zero_division=0`. A class
//! without images has no precision, recall or F1, and the means over classes leave it out. Of equal logits the first
//! counts as the largest. A label whose logit is not a number is never right.

use serde::{Deserialize, Serialize};

use super::calibration::{Calibration, CalibrationTally};
use super::confusion::ConfusionMatrix;
use crate::config::strips::words;
use crate::data::Answer;
use crate::record::EvaluationRecord;

/// The k of the top-k accuracy.
const TOP: usize = 5;

/// 97.5 % point of the normal distribution: a two-sided 95 % interval.
const Z: f64 = 1.959_963_984_540_054;

/// Adds up scores of images, without a confusion matrix.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    images: u64,
    targets: u64,
    loss: f64,
    right: u64,
    /// Absent until there is an image with a class.
    top5: Option<u64>,
}

/// As [`Totals`], and counts which class is taken for which.
#[derive(Clone, Debug)]
pub struct Tally {
    totals: Totals,
    calibration: CalibrationTally,
    confusion: ConfusionMatrix,
}

/// A model's prediction for one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// The class of the largest logit.
    pub class: usize,
    /// The probability that the model gives it.
    pub probability: f64,
}

/// What a model reaches on some images. Accuracies, precision, recall and F1 are fractions of 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Number of images.
    pub images: u64,
    /// Mean cross-entropy, without label smoothing.
    pub loss: f64,
    /// Part of the images whose class has the largest logit.
    pub top1: f64,
    /// Wilson's 95 % interval of `top1`.
    pub top1_interval: [f64; 2],
    /// Part of the images whose class is among the five largest logits.
    pub top5: f64,
    /// Mean precision over the classes that have images.
    pub precision_mean: f64,
    /// Mean recall over the classes that have images.
    pub recall_mean: f64,
    /// Mean F1 over the classes that have images.
    pub f1_mean: f64,
    /// How well the probabilities match; absent without images, and where an earlier version wrote the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// The classes, in the order of the model's table.
    pub classes: Vec<ClassScores>,
    /// Which classes are taken for which.
    pub confusion: ConfusionMatrix,
}

/// What a model reaches on one class. A class without images has no precision, recall or F1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassScores {
    /// The class's name.
    pub name: String,
    /// Part of the images predicted as this class that are of it.
    pub precision: Option<f64>,
    /// Part of the images of this class that are predicted as it.
    pub recall: Option<f64>,
    /// Harmonic mean of precision and recall.
    pub f1: Option<f64>,
    /// Number of images of this class.
    pub support: u64,
}

/// Which part of some images is answered right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Accuracy {
    /// The part.
    pub value: f64,
    /// Number of images.
    pub images: u64,
}

impl Accuracy {
    /// Wilson's 95 % interval.
    pub fn interval(self) -> [f64; 2] {
        wilson_interval((self.value * self.images as f64).round() as u64, self.images)
    }
}

impl From<&EvaluationRecord> for Accuracy {
    fn from(record: &EvaluationRecord) -> Accuracy {
        Accuracy { value: record.top1, images: record.images }
    }
}

impl Totals {
    /// Adds an image with this correct answer, and returns the class that the model predicts, if it is a classifier.
    ///
    /// # Shapes
    /// - `logits`: `[num_classes]`, or of a strip `[positions, words]`, after the correct words
    pub fn add(&mut self, logits: &[f32], answer: &Answer) -> Option<usize> {
        match answer {
            Answer::Class(label) => Some(self.add_class(logits, *label).class),
            Answer::Digits(digits) => {
                self.add_words(logits, digits);
                None
            }
        }
    }

    /// Adds an image of class `label` and returns the model's prediction.
    ///
    /// # Shapes
    /// - `logits`: `[num_classes]`
    pub fn add_class(&mut self, logits: &[f32], label: usize) -> Verdict {
        let class = largest(logits);
        self.images += 1;
        self.targets += 1;
        self.loss += log_sum_exp(logits) - f64::from(logits[label]);
        self.right += u64::from(class == label);
        *self.top5.get_or_insert(0) += u64::from(rank(logits, label) < TOP);
        Verdict { class, probability: probability(logits, class) }
    }

    /// Adds a strip on which these digits are, by the logits of every word after the right words before it.
    ///
    /// It is right when all its words are, the end included: then greedy decoding writes just these.
    ///
    /// # Shapes
    /// - `logits`: `[positions, words]`
    pub fn add_words(&mut self, logits: &[f32], digits: &[u8]) {
        let mut right = true;
        let rows = logits.chunks_exact(words::COUNT).zip(words::targets(digits));
        for (logits, word) in rows.filter_map(|(logits, word)| Some((logits, usize::from(word?)))) {
            self.targets += 1;
            self.loss += log_sum_exp(logits) - f64::from(logits[word]);
            right &= largest(logits) == word;
        }
        self.images += 1;
        self.right += u64::from(right);
    }

    /// Mean cross-entropy of images, or of words, without label smoothing.
    pub fn loss(&self) -> f64 {
        self.loss / self.targets.max(1) as f64
    }

    /// Part of the images whose class has the largest logit, or of the strips that are right.
    pub fn top1(&self) -> f64 {
        part(self.right, self.images)
    }

    /// Fraction of the images whose class has one of the five largest logits; absent for strips.
    pub fn top5(&self) -> Option<f64> {
        Some(part(self.top5?, self.images))
    }
}

impl Tally {
    /// Starts without images of classes of these names.
    pub fn new(names: &[String]) -> Self {
        Tally {
            totals: Totals::default(),
            calibration: CalibrationTally::default(),
            confusion: ConfusionMatrix::new(names),
        }
    }

    /// Adds an image of class `label` and returns its prediction.
    ///
    /// # Shapes
    /// - `logits`: `[num_classes]`
    pub fn add(&mut self, logits: &[f32], label: usize) -> Verdict {
        assert_eq!(logits.len(), self.confusion.names().len(), "a logit for each class");
        let verdict = self.totals.add_class(logits, label);
        self.calibration.add(verdict.probability, label == verdict.class);
        self.confusion.add(label, verdict.class, 1);
        verdict
    }

    /// Returns the scores.
    pub fn finish(self) -> Scores {
        let Tally { totals, calibration, confusion } = self;
        let (Totals { images, right, .. }, num_classes) = (totals, confusion.names().len());
        let classes: Vec<ClassScores> = (0..num_classes).map(|class| class_scores(&confusion, class)).collect();
        let mean = |score: fn(&ClassScores) -> Option<f64>| {
            let defined: Vec<f64> = classes.iter().filter_map(score).collect();
            defined.iter().sum::<f64>() / defined.len().max(1) as f64
        };
        Scores {
            images,
            loss: totals.loss(),
            top1: totals.top1(),
            top1_interval: wilson_interval(right, images),
            top5: totals.top5().unwrap_or(0.0),
            precision_mean: mean(|class| class.precision),
            recall_mean: mean(|class| class.recall),
            f1_mean: mean(|class| class.f1),
            calibration: calibration.finish(),
            classes,
            confusion,
        }
    }
}

fn class_scores(confusion: &ConfusionMatrix, class: usize) -> ClassScores {
    let (right, support, predicted) =
        (confusion.count(class, class), confusion.support(class), confusion.predicted(class));
    let score = |count, of| (support > 0).then(|| part(count, of));
    ClassScores {
        name: confusion.names()[class].clone(),
        precision: score(right, predicted),
        recall: score(right, support),
        f1: score(2 * right, support + predicted),
        support,
    }
}

/// A quotient, 0 where there is nothing to divide by.
fn part(count: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { count as f64 / of as f64 }
}

/// Returns the 95 % interval of a proportion (Wilson 1927); everything is possible when nothing was counted.
pub fn wilson_interval(count: u64, of: u64) -> [f64; 2] {
    if of == 0 {
        return [0.0, 1.0];
    }
    let (n, p) = (of as f64, part(count, of));
    let centre = p + Z * Z / (2.0 * n);
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    // Rounding must not carry the interval past the proportion it is of.
    [((centre - half) / scale).clamp(0.0, p), ((centre + half) / scale).clamp(p, 1.0)]
}

/// Returns the place of the largest logit, the first of equal ones; 0 where none is a number.
fn largest(logits: &[f32]) -> usize {
    let mut best = None;
    for (class, &logit) in logits.iter().enumerate() {
        if !logit.is_nan() && best.is_none_or(|best: usize| logit > logits[best]) {
            best = Some(class);
        }
    }
    best.unwrap_or(0)
}

/// Counts the classes that rank before a class, by decreasing logit.
fn rank(logits: &[f32], class: usize) -> usize {
    let own = logits[class];
    if own.is_nan() {
        return logits.len().max(TOP);
    }
    (0..logits.len()).filter(|&other| logits[other] > own || (logits[other] == own && other < class)).count()
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    f64::from(most) + logits.iter().map(|&logit| (f64::from(logit) - f64::from(most)).exp()).sum::<f64>().ln()
}

/// Returns the softmax of one class.
fn probability(logits: &[f32], class: usize) -> f64 {
    (f64::from(logits[class]) - log_sum_exp(logits)).exp()
}

/// Returns the classes with the largest probabilities, the largest first, at most `count` of them.
///
/// # Shapes
/// - `logits`: `[num_classes]`
pub fn top(logits: &[f32], count: usize) -> Vec<Verdict> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    order.truncate(count);
    order.into_iter().map(|class| Verdict { class, probability: probability(logits, class) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("c{i}")).collect()
    }

    /// Logits over `classes` that put classes in the given order, the first the largest.
    fn ordered(classes: usize, order: &[usize]) -> Vec<f32> {
        let mut logits = vec![-100.0; classes];
        order.iter().enumerate().for_each(|(place, &class)| logits[class] = -(place as f32));
        logits
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn the_loss_is_the_mean_negative_log_likelihood() {
        let mut tally = Tally::new(&names(3));
        // exp gives 1, 2, 5, then 4, 4, 8: likelihoods 5/8 and 1/4.
        tally.add(&[0.0, 2f32.ln(), 5f32.ln()], 2);
        tally.add(&[4f32.ln(), 4f32.ln(), 8f32.ln()], 0);
        let expected = -((5.0f64 / 8.0).ln() + 0.25f64.ln()) / 2.0;
        let loss = tally.finish().loss;
        assert!((loss - expected).abs() < 1e-7, "{loss} is not {expected}");
    }

    #[test]
    fn a_large_logit_does_not_overflow_the_loss() {
        let mut tally = Tally::new(&names(3));
        let verdict = tally.add(&[1000.0, 0.0, 0.0], 1);
        assert_eq!(verdict, Verdict { class: 0, probability: 1.0 });
        assert!(close(tally.finish().loss, 1000.0));
    }

    #[test]
    fn scores_of_classes_are_those_computed_by_hand() {
        // Of class 0: three right, one taken for 1. Of class 1: one right, two taken for 0. Class 2: never predicted.
        let mut tally = Tally::new(&names(3));
        for (label, class) in [(0, 0), (0, 0), (0, 0), (0, 1), (1, 1), (1, 0), (1, 0), (2, 1)] {
            tally.add(&ordered(3, &[class]), label);
        }
        let scores = tally.finish();
        let expected = [[3.0 / 5.0, 3.0 / 4.0, 2.0 / 3.0], [1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0], [0.0; 3]];
        for (class, expected) in scores.classes.iter().zip(expected) {
            let values = [class.precision, class.recall, class.f1].map(Option::unwrap);
            assert!(values.iter().zip(expected).all(|(value, expected)| close(*value, expected)), "{class:?}");
        }
        assert_eq!(scores.classes.iter().map(|c| c.support).collect::<Vec<_>>(), [4, 3, 1]);
        assert!(close(scores.top1, 0.5));
        assert!(close(scores.f1_mean, (2.0 / 3.0 + 1.0 / 3.0) / 3.0), "{}", scores.f1_mean);
        assert!(close(scores.precision_mean, (0.6 + 1.0 / 3.0) / 3.0));
        assert!(close(scores.recall_mean, (0.75 + 1.0 / 3.0) / 3.0));
    }

    #[test]
    fn a_class_without_images_has_no_scores_and_is_in_no_mean() {
        // Class 1 has no images and is predicted twice; class 2 has none and is never predicted.
        let mut tally = Tally::new(&names(3));
        for class in [0, 0, 0, 1, 1] {
            tally.add(&ordered(3, &[class]), 0);
        }
        let scores = tally.finish();
        let values: Vec<_> = scores.classes.iter().map(|c| (c.precision, c.recall, c.support)).collect();
        assert_eq!(values, [(Some(1.0), Some(0.6), 5), (None, None, 0), (None, None, 0)]);
        assert_eq!((scores.classes[1].f1, scores.classes[2].f1), (None, None));
        assert_eq!((scores.precision_mean, scores.recall_mean), (1.0, 0.6));
        assert!(close(scores.f1_mean, 0.75), "{}", scores.f1_mean);
        let json = serde_json::to_value(&scores).unwrap();
        assert!(json["classes"][1]["recall"].is_null(), "{json}");
        assert_eq!(serde_json::from_value::<Scores>(json).unwrap(), scores);
    }

    #[test]
    fn the_fifth_place_counts_and_the_sixth_does_not() {
        let mut tally = Tally::new(&names(7));
        for label in [6, 3, 2, 5, 1, 0, 4] {
            tally.add(&ordered(7, &[6, 5, 4, 3, 2, 1, 0]), label);
        }
        let scores = tally.finish();
        assert!(close(scores.top5, 5.0 / 7.0) && close(scores.top1, 1.0 / 7.0), "{scores:?}");
    }

    #[test]
    fn of_equal_logits_the_first_is_the_largest() {
        let mut tally = Tally::new(&names(7));
        assert_eq!(tally.add(&[0.0; 7], 4).class, 0);
        tally.add(&[0.0; 7], 5);
        assert!(close(tally.finish().top5, 0.5));
    }

    #[test]
    fn what_is_not_a_number_is_never_right() {
        let mut tally = Tally::new(&names(3));
        tally.add(&[f32::NAN; 3], 1);
        tally.add(&[f32::NAN, 0.0, -1.0], 0);
        let scores = tally.finish();
        assert!(scores.loss.is_nan());
        assert_eq!((scores.top1, scores.top5), (0.0, 0.0));
        assert_eq!(scores.confusion.count(0, 1), 1);
    }

    #[test]
    fn wilsons_interval_is_that_of_the_formula() {
        // The formula once more, in Python.
        let cases = [
            (9_712, 10_000, [0.967_736_775_9, 0.974_301_344_0]),
            (3, 7, [0.158_219_855_3, 0.749_541_635_5]),
            (0, 5, [0.0, 0.434_482_464_8]),
            (5, 5, [0.565_517_535_2, 1.0]),
        ];
        for (count, of, expected) in cases {
            let interval = wilson_interval(count, of);
            let near = interval.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9);
            assert!(near, "{count} of {of}: {interval:?} is not {expected:?}");
        }
        assert_eq!(wilson_interval(0, 0), [0.0, 1.0]);
        assert_eq!(Accuracy { value: 3.0 / 7.0, images: 7 }.interval(), wilson_interval(3, 7));
    }

    #[test]
    fn the_top_comes_in_order_and_adds_up_to_one() {
        let verdicts = top(&[3f32.ln(), 7f32.ln(), 0.0], 5);
        assert_eq!(verdicts.iter().map(|v| v.class).collect::<Vec<_>>(), [1, 0, 2]);
        for (verdict, expected) in verdicts.iter().zip([7.0 / 11.0, 3.0 / 11.0, 1.0 / 11.0]) {
            assert!((verdict.probability - expected).abs() < 1e-7);
        }
        assert_eq!(top(&[0.0; 7], 2).len(), 2);
    }
}
