//! The position of a training: all that a checkpoint needs in addition to weights and moments.

use serde::{Deserialize, Serialize};

use super::ROLLBACKS;
use crate::record::Results;

/// Steps before a loss can be a spike.
const SPIKE_STEPS: u64 = 50;

/// Part of the running mean and variance of the loss that a step renews.
const SPIKE_RATE: f64 = 0.02;

/// Standard deviations above the running mean from which a step's loss is a spike.
const SPIKE_DEVIATIONS: f64 = 6.0;

/// The position of a training between two steps.
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
    /// Steps since then with a loss spike.
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

/// The values of the last step in a line of `metrics.jsonl`.
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

/// What bounds the place of a training.
#[derive(Clone, Copy)]
pub struct Bounds {
    pub epochs: u64,
    pub steps_per_epoch: u64,
    /// Images that train.
    pub images: u64,
}

impl Position {
    /// Checks a position that was read: a training resumed from an impossible position might never end.
    ///
    /// # Errors
    /// When a training with these bounds can never be there; the text is the reason.
    pub fn check(&self, bounds: &Bounds) -> Result<(), String> {
        let Bounds { epochs, steps_per_epoch, images } = *bounds;
        let Position { index, mean, epoch_s, since_line, usual, last, lr_factor, results, best, .. } = self;
        let (steps, images) = (results.steps, images as f64);
        if *index >= steps_per_epoch {
            return Err(format!("step {index} of an epoch of {steps_per_epoch}"));
        }
        if results.epochs > epochs || (results.epochs == epochs && *index > 0) {
            return Err(format!("epoch {} of {epochs}", results.epochs));
        }
        if steps != results.epochs.saturating_mul(steps_per_epoch).saturating_add(*index) {
            return Err(format!("{steps} steps in {} epochs and {index} steps", results.epochs));
        }
        let is_part = |value: &f64| (0.0..=1.0).contains(value);
        let best_val = best.map(|best| best.accuracy);
        let accuracies = [results.train_acc, results.val_acc, results.best_val_acc, best_val];
        let known: [(&str, bool); 9] = [
            ("mean", mean.is_over(images)),
            ("since_line", since_line.is_over(images * (results.epochs + 1) as f64)),
            ("spikes", self.spikes.iter().all(|step| (1..=steps).contains(step))),
            ("skipped", self.skipped.iter().all(|step| (1..=steps).contains(step)) && results.skipped_steps <= steps),
            ("usual", usual.steps <= steps && usual.variance >= 0.0),
            ("last", last.step <= steps && last.epoch <= epochs),
            ("lr_factor", results.rollbacks <= ROLLBACKS && *lr_factor == 0.5_f64.powi(results.rollbacks as i32)),
            ("seconds", *epoch_s >= 0.0 && results.seconds >= 0.0),
            (
                "results",
                [results.best_step, results.lowest_step].iter().flatten().all(|step| *step <= steps)
                    && results.best_epoch.is_none_or(|best| best <= epochs)
                    && accuracies.iter().flatten().all(is_part),
            ),
        ];
        match known.iter().find(|(_, is_possible)| !is_possible) {
            Some((key, _)) => Err(format!("`{key}` is out of range")),
            None => Ok(()),
        }
    }
}

impl Mean {
    /// Whether it may be one over so many images at most.
    fn is_over(&self, images: f64) -> bool {
        (0.0..=images).contains(&self.images) && self.targets >= 0.0 && (0.0..=images).contains(&self.accuracy)
    }

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
    /// Returns whether a step's loss is a spike compared with those before it, and updates the running mean.
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
    fn a_place_where_no_training_ever_is_is_refused_whatever_is_wrong_with_it() {
        let bounds = Bounds { epochs: 5, steps_per_epoch: 7, images: 97 };
        let mut good = Position::start();
        (good.index, good.results.epochs, good.results.steps) = (3, 2, 17);
        (good.results.best_step, good.results.best_epoch, good.results.rollbacks, good.lr_factor) =
            (Some(14), Some(2), 2, 0.25);
        good.mean.add([39, 39], 2.5, 1.0);
        good.since_line.add([39, 39], 2.5, 0.5);
        (good.spikes, good.skipped, good.results.skipped_steps) = (vec![16, 17], vec![15], 1);
        good.last = LastStep { step: 17, epoch: 3, lr: 0.1, gradient_norm: 1.0 };
        assert_eq!(good.check(&bounds), Ok(()));
        let after = |change: fn(&mut Position)| {
            let mut position = good.clone();
            change(&mut position);
            position.check(&bounds).unwrap_err()
        };
        assert_eq!(after(|position| position.index = 100), "step 100 of an epoch of 7");
        assert_eq!(after(|position| position.results.epochs = 6), "epoch 6 of 5");
        assert_eq!(after(|position| position.results.epochs = 5), "epoch 5 of 5");
        assert_eq!(after(|position| position.results.steps = 18), "18 steps in 2 epochs and 3 steps");
        type Change = fn(&mut Position);
        let changes: [(&str, Change); 16] = [
            ("mean", |position| position.mean.images = 98.0),
            ("mean", |position| position.mean.targets = -1.0),
            ("mean", |position| position.mean.accuracy = f64::NAN),
            ("since_line", |position| position.since_line.images = -1.0),
            ("spikes", |position| position.spikes.push(18)),
            ("skipped", |position| position.skipped.push(0)),
            ("skipped", |position| position.results.skipped_steps = 18),
            ("usual", |position| position.usual.steps = 18),
            ("last", |position| position.last.step = 18),
            ("last", |position| position.last.epoch = 6),
            ("lr_factor", |position| position.lr_factor = 1.0),
            ("lr_factor", |position| position.results.rollbacks = 4),
            ("seconds", |position| position.epoch_s = -1.0),
            ("results", |position| position.results.best_step = Some(18)),
            ("results", |position| position.results.best_epoch = Some(6)),
            ("results", |position| position.results.val_acc = Some(1.5)),
        ];
        for (key, change) in changes {
            assert_eq!(after(change), format!("`{key}` is out of range"));
        }
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
