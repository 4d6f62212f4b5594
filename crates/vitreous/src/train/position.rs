//! Where a training is: all that decides how it goes on, beside weights and moments.

use serde::{Deserialize, Serialize};

use crate::record::Results;

/// Steps before a loss can stand out.
const SPIKE_STEPS: u64 = 50;

/// Part of the running mean and variance of the loss that a step renews.
const SPIKE_RATE: f64 = 0.02;

/// Standard deviations above the running mean from which a step's loss stands out.
const SPIKE_DEVIATIONS: f64 = 6.0;

/// Where a training is, between two steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Steps of the epoch under way that were taken.
    pub index: u64,
    /// Over them.
    pub mean: Mean,
    /// What training them took, in seconds.
    pub epoch_s: f64,
    /// Since the last line of `metrics.jsonl`.
    pub since_line: Mean,
    /// Steps since then whose loss stands out.
    pub spikes: Vec<u64>,
    /// Steps since then that were left out.
    pub skipped: Vec<u64>,
    /// What a loss is usually like.
    pub usual: Usual,
    /// The last step that counted.
    #[serde(default)]
    pub last: LastStep,
    /// What learning rates are multiplied by: it is halved at each roll-back.
    pub lr_factor: f64,
    /// What was reached; the number of completed epochs and of steps among it.
    pub results: Results,
    /// What the best weights reached, where the validation split chooses them.
    pub best: Option<Best>,
}

/// What a line of `metrics.jsonl` says of its last step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LastStep {
    pub step: u64,
    /// Counted from 1.
    pub epoch: u64,
    pub lr: f64,
    /// Norm of its gradient, before clipping.
    pub gradient_norm: f64,
}

/// What the best weights reached on the validation split.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Part of the images that were named right.
    pub accuracy: f64,
    /// Mean cross-entropy.
    pub loss: f64,
}

/// A mean of loss, over targets, and accuracy, over images, step by step. An image is one target, a strip several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    pub images: f64,
    targets: f64,
    loss: f64,
    accuracy: f64,
}

/// Running mean and variance of the loss of a step; a loss far above them is a spike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usual {
    steps: u64,
    mean: f64,
    variance: f64,
}

impl Position {
    /// Before the first step.
    pub fn start() -> Position {
        Position {
            index: 0,
            mean: Mean::default(),
            epoch_s: 0.0,
            since_line: Mean::default(),
            spikes: Vec::new(),
            skipped: Vec::new(),
            usual: Usual::default(),
            last: LastStep::default(),
            lr_factor: 1.0,
            results: Results::default(),
            best: None,
        }
    }
}

impl Mean {
    /// Adds a step of so many images and targets.
    pub fn add(&mut self, [images, targets]: [usize; 2], loss: f64, accuracy: f64) {
        self.images += images as f64;
        self.targets += targets as f64;
        self.loss += targets as f64 * loss;
        self.accuracy += images as f64 * accuracy;
    }

    /// Mean loss and accuracy; no numbers when there were no images.
    pub fn values(&self) -> [f64; 2] {
        [self.loss / self.targets, self.accuracy / self.images]
    }
}

impl Usual {
    /// Says whether a step's loss stands out from those before it, and takes it into account.
    pub fn stands_out(&mut self, loss: f64) -> bool {
        let above = loss - self.mean;
        let is_spike = self.steps >= SPIKE_STEPS && above > SPIKE_DEVIATIONS * self.variance.sqrt();
        self.steps += 1;
        // The first steps weigh alike, so that the start is forgotten soon.
        let rate = SPIKE_RATE.max(1.0 / self.steps as f64);
        self.mean += rate * above;
        self.variance = (1.0 - rate) * (self.variance + rate * above * above);
        is_spike
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_far_above_the_others_stands_out_and_a_falling_one_does_not() {
        let mut usual = Usual::default();
        let noise = |step: u64| f64::from((step * 7919 % 101) as u32) / 1010.0;
        for step in 0..400 {
            let loss = 2.0 / (1.0 + step as f64 / 100.0) + noise(step);
            assert!(!usual.stands_out(loss), "step {step}");
        }
        let before = usual;
        assert!(usual.stands_out(2.0));
        let mut early = Usual::default();
        assert!((0..SPIKE_STEPS).all(|step| !early.stands_out(if step == 30 { 100.0 } else { 1.0 })));
        // The mean and the variance are those of the last steps.
        // The loss ends at 0.4, its noise goes from 0 to 0.1, and the mean runs behind.
        assert!((before.mean - 0.48).abs() < 0.05 && (before.variance.sqrt() - 0.06).abs() < 0.03, "{before:?}");
    }

    #[test]
    fn a_position_is_read_as_it_was_written() {
        let mut position = Position::start();
        position.mean.add([3, 7], 1.0 / 3.0, 0.1);
        position.usual.stands_out(0.1 + 0.2);
        position.best = Some(Best { accuracy: 2.0 / 3.0, loss: 1e-300 });
        position.results.train_loss = Some(0.1 + 0.7);
        let text = serde_json::to_string(&position).unwrap();
        assert_eq!(serde_json::from_str::<Position>(&text).unwrap(), position);
    }
}
