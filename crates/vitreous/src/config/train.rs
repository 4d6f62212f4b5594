//! The `[train]` table: how long, in which steps, with which optimiser; and the learning rate of each step.

use std::fmt::Display;
use std::ops::Deref;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::optimizer::Optimizer;
use crate::numbers::number;

/// Greatest number of epochs.
pub const EPOCHS_MAX: usize = 1_000_000;
/// Greatest number of images in a step.
pub const BATCH_SIZE_MAX: usize = 1_048_576;
/// Greatest number of threads.
pub const THREADS_MAX: usize = 1024;

/// How a model is trained, as written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSpec {
    /// Passes over the train split.
    pub epochs: usize,
    /// Stop after so many optimiser steps. The schedule stays that of `epochs`, so that the first steps of a run are
    /// the same wherever it stops.
    pub max_steps: Option<u64>,
    /// Images that go through the model together; an optimiser step takes `grad_accum_steps` times as many.
    pub batch_size: usize,
    /// Batches whose gradients are added up before parameters change.
    pub grad_accum_steps: usize,
    /// Leave out the last batch of an epoch when it is smaller than the others.
    pub drop_last: bool,
    /// The optimiser.
    pub opt: Optimizer,
    /// Learning rate after warm-up.
    pub lr: f64,
    /// Decay rates of the two moments. Default: [0.9, 0.999], of `lion` [0.9, 0.99].
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub opt_eps: f64,
    /// Momentum of `sgd` and `muon`. Default: 0.9, of `muon` 0.95.
    pub momentum: f64,
    /// Whether `sgd` uses Nesterov momentum; `muon` always does.
    pub nesterov: bool,
    /// Weight decay: decoupled, but of `adam` and `sgd` added to the gradient.
    pub weight_decay: f64,
    /// Which parameters decay.
    pub decay: Decay,
    /// How the learning rate goes on after warm-up.
    pub sched: Schedule,
    /// Epochs in which the learning rate rises step by step to `lr`; may be a fraction.
    pub warmup_epochs: f64,
    /// Learning rate at which a cosine schedule ends.
    pub min_lr: f64,
    /// Epochs from one step of a step schedule to the next; may be a fraction.
    pub decay_epochs: f64,
    /// What a step schedule multiplies the learning rate by.
    pub decay_rate: f64,
    /// Greatest norm of the gradient; a longer one is shortened. Absent: any.
    pub clip_grad: Option<f64>,
    /// What a step keeps of the running average of the weights, once that is warm: validation sees the average, and the
    /// files of weights hold it. The k-th step keeps at most `1 - k^(-2/3)`, as in timm with warm-up. Absent: no average.
    pub model_ema_decay: Option<f64>,
    /// Part of the target probability spread evenly over all classes, in [0, 1).
    pub smoothing: f64,
    /// Which weights `best.safetensors` holds, beside the last.
    pub keep: Keep,
    /// What happens when a step comes to no finite number.
    pub on_nonfinite: OnNonfinite,
    /// Seed of everything random but the split; at most 2^63 - 1, which is as far as TOML counts.
    pub seed: u64,
    /// Threads; 0 takes one for each processor.
    pub threads: usize,
    /// Steps between two lines of `metrics.jsonl`, each the mean over them.
    pub log_interval: u64,
}

/// Which parameters decay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// All of them, as PyTorch's optimisers do when they are given `model.parameters()`.
    All,
    /// Matrices and kernels: no biases, norms, tokens and positions, as in timm.
    Weights,
}

/// Which weights `best.safetensors` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// Those of the epoch that did best on the validation split; none where nothing validates.
    Best,
    /// None: the last weights are the run's.
    Last,
    /// Those at the end of the `log_interval` steps with the lowest mean training loss (experiment E4).
    LowestTrainLoss,
}

/// What happens when the loss or the gradient of a step is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnNonfinite {
    /// The training stops and says where it went astray.
    Stop,
    /// The step is left out.
    Skip,
    /// The training goes back to the start of the epoch, with half the learning rate, three times at most.
    Rollback,
}

/// How the learning rate changes, step by step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// It stays.
    Constant,
    /// Half a cosine down to `min_lr`.
    Cosine,
    /// Times `decay_rate` after every `decay_epochs`, warm-up counted.
    Step,
}

impl Default for TrainSpec {
    fn default() -> Self {
        TrainSpec {
            epochs: 10,
            max_steps: None,
            batch_size: 128,
            grad_accum_steps: 1,
            drop_last: false,
            opt: Optimizer::Adamw,
            lr: 1e-3,
            betas: Optimizer::Adamw.betas(),
            opt_eps: 1e-8,
            momentum: Optimizer::Adamw.momentum(),
            nesterov: false,
            weight_decay: 0.01,
            decay: Decay::All,
            sched: Schedule::Cosine,
            warmup_epochs: 1.0,
            min_lr: 0.0,
            decay_epochs: 30.0,
            decay_rate: 0.1,
            clip_grad: None,
            model_ema_decay: None,
            smoothing: 0.0,
            keep: Keep::Best,
            on_nonfinite: OnNonfinite::Stop,
            seed: 42,
            threads: 0,
            log_interval: 100,
        }
    }
}

/// A checked [`TrainSpec`], read through `Deref`.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainConfig(TrainSpec);

impl Deref for TrainConfig {
    type Target = TrainSpec;

    fn deref(&self) -> &TrainSpec {
        &self.0
    }
}

impl TryFrom<TrainSpec> for TrainConfig {
    type Error = TrainSpecError;

    /// Checks every rule.
    fn try_from(spec: TrainSpec) -> Result<Self, TrainSpecError> {
        spec.check()?;
        Ok(TrainConfig(spec))
    }
}

impl TrainSpec {
    /// Checks the table by itself.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), TrainSpecError> {
        // An f32 is what the optimiser computes with, so what rounds to a bound is the bound.
        let below_one = |x: f64| (0.0..1.0).contains(&x) && (x as f32) < 1.0;
        let positive = |x: f64| x as f32 > 0.0 && (x as f32).is_finite();
        let must_be_positive = |x: f64| match x {
            small if small > 0.0 && small as f32 == 0.0 => "at least 1.4e-45, the smallest 32-bit float",
            large if large.is_finite() && (large as f32) == f32::INFINITY => "at most 3.4e38, the largest 32-bit float",
            _ => "a positive number",
        };
        let require = |holds: bool, key, value: &dyn Display, must: &str, fix| {
            if holds {
                Ok(())
            } else {
                Err(TrainSpecError { key, value: value.to_string(), must: must.to_string(), fix })
            }
        };
        let between = |least: usize, greatest: usize| format!("between {least} and {greatest}");
        let sizes = [
            ("epochs", self.epochs, 1, EPOCHS_MAX, "10"),
            ("batch_size", self.batch_size, 1, BATCH_SIZE_MAX, "128"),
            ("grad_accum_steps", self.grad_accum_steps, 1, BATCH_SIZE_MAX, "1 for none"),
            ("threads", self.threads, 0, THREADS_MAX, "0 for all processors"),
        ];
        for (key, value, least, greatest, fix) in sizes {
            require((least..=greatest).contains(&value), key, &value, &between(least, greatest), fix)?;
        }
        require(self.max_steps != Some(0), "max_steps", &0, "at least 1", "1000")?;
        require(self.log_interval >= 1, "log_interval", &self.log_interval, "at least 1", "100")?;
        require(i64::try_from(self.seed).is_ok(), "seed", &self.seed, &format!("at most {}", i64::MAX), "42")?;

        let (lr, eps, clip) = (self.lr, self.opt_eps, self.clip_grad.unwrap_or(1.0));
        require(positive(lr), "lr", &number(lr), must_be_positive(lr), "0.001")?;
        require(positive(eps), "opt_eps", &number(eps), must_be_positive(eps), "1e-8")?;
        require(positive(clip), "clip_grad", &number(clip), must_be_positive(clip), "1, or leave it out")?;

        let [first, second] = self.betas;
        let betas = format!("[{}, {}]", number(first), number(second));
        let holds = below_one(first) && below_one(second);
        require(holds, "betas", &betas, "two numbers of at least 0 and below 1", "[0.9, 0.999]")?;
        require(
            below_one(self.momentum),
            "momentum",
            &number(self.momentum),
            "at least 0 and below 1",
            "0.9, or 0 for none",
        )?;
        let looks_ahead = !self.nesterov || self.opt != Optimizer::Sgd || self.momentum > 0.0;
        require(looks_ahead, "momentum", &self.momentum, "above 0, which nesterov needs", "0.9")?;
        let ema = self.model_ema_decay.unwrap_or(0.0);
        let (must, fix) = ("at least 0 and below 1", "0.999, or leave it out");
        require(below_one(ema), "model_ema_decay", &number(ema), must, fix)?;
        let smoothing = self.smoothing;
        require(below_one(smoothing), "smoothing", &number(smoothing), "at least 0 and below 1", "0.1, or 0 for none")?;
        let decay = self.weight_decay;
        require((0.0..=100.0).contains(&decay), "weight_decay", &number(decay), &between(0, 100), "0.01")?;

        let (warmup, epochs) = (self.warmup_epochs, self.epochs as f64);
        let must = format!("between 0 and epochs {epochs}");
        require((0.0..=epochs).contains(&warmup), "warmup_epochs", &number(warmup), &must, "0 for none")?;
        let must = format!("between 0 and lr {}", number(lr));
        require((0.0..=lr).contains(&self.min_lr), "min_lr", &number(self.min_lr), &must, "0")?;
        let epochs = self.decay_epochs;
        require(positive(epochs), "decay_epochs", &number(epochs), must_be_positive(epochs), "30")?;
        let rate = self.decay_rate;
        require(rate > 0.0 && rate <= 1.0, "decay_rate", &number(rate), "above 0 and at most 1", "0.1")
    }
}

impl TrainConfig {
    /// The same with another number of images in a batch.
    ///
    /// # Panics
    /// When there are none, or more than [`BATCH_SIZE_MAX`].
    pub fn with_batch_size(&self, batch_size: usize) -> TrainConfig {
        assert!((1..=BATCH_SIZE_MAX).contains(&batch_size), "a batch of {batch_size}");
        TrainConfig(TrainSpec { batch_size, ..self.0.clone() })
    }

    /// Images of one optimiser step.
    pub fn step_images(&self) -> usize {
        self.batch_size.saturating_mul(self.grad_accum_steps)
    }

    /// Returns the learning rate of a step, counted from 0 over the whole run.
    ///
    /// Warm-up rises in equal parts, the first of them already above 0; a cosine then falls from `lr` and would reach
    /// `min_lr` with the step after the last.
    pub fn learning_rate(&self, step: u64, steps_per_epoch: u64) -> f64 {
        let warmup = (self.warmup_epochs * steps_per_epoch as f64).round() as u64;
        if step < warmup {
            return self.lr * (step + 1) as f64 / warmup as f64;
        }
        match self.sched {
            Schedule::Constant => self.lr,
            Schedule::Step => {
                let steps = (step as f64 / (self.decay_epochs * steps_per_epoch as f64)).floor();
                self.lr * self.decay_rate.powf(steps)
            }
            Schedule::Cosine => {
                let falling = (self.epochs as u64).saturating_mul(steps_per_epoch).saturating_sub(warmup).max(1);
                let done = ((step - warmup) as f64 / falling as f64).min(1.0);
                self.min_lr + (self.lr - self.min_lr) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
        }
    }
}

/// Says that a number of a [`TrainSpec`] is out of its range.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("{key} {value} is not {must} ([train])")]
pub struct TrainSpecError {
    /// The number's key.
    pub key: &'static str,
    /// The number.
    pub value: String,
    /// Its range.
    pub must: String,
    fix: &'static str,
}

impl TrainSpecError {
    /// Says what would work instead.
    pub fn hint(&self) -> Option<String> {
        Some(format!("use {} {}", self.key, self.fix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(change: impl FnOnce(&mut TrainSpec)) -> [String; 2] {
        let mut spec = TrainSpec::default();
        assert_eq!(spec.check(), Ok(()));
        change(&mut spec);
        let error = TrainConfig::try_from(spec).expect_err("a rule is broken");
        [error.to_string(), error.hint().expect("every rule has a way out")]
    }

    #[test]
    fn numbers_stay_in_their_ranges() {
        let cases: [([String; 2], [&str; 2]); 30] = [
            (
                broken(|s| s.grad_accum_steps = 0),
                ["grad_accum_steps 0 is not between 1 and 1048576", "use grad_accum_steps 1 for none"],
            ),
            (
                broken(|s| s.momentum = 1.0),
                ["momentum 1 is not at least 0 and below 1", "use momentum 0.9, or 0 for none"],
            ),
            (
                broken(|s| (s.opt, s.momentum, s.nesterov) = (Optimizer::Sgd, 0.0, true)),
                ["momentum 0 is not above 0, which nesterov needs", "use momentum 0.9"],
            ),
            (
                broken(|s| s.model_ema_decay = Some(1.0)),
                ["model_ema_decay 1 is not at least 0 and below 1", "use model_ema_decay 0.999, or leave it out"],
            ),
            (
                broken(|s| s.model_ema_decay = Some(-0.5)),
                ["model_ema_decay -0.5 is not at least 0 and below 1", "use model_ema_decay 0.999, or leave it out"],
            ),
            (broken(|s| s.decay_epochs = 0.0), ["decay_epochs 0 is not a positive number", "use decay_epochs 30"]),
            (broken(|s| s.decay_rate = 0.0), ["decay_rate 0 is not above 0 and at most 1", "use decay_rate 0.1"]),
            (broken(|s| s.decay_rate = 1.5), ["decay_rate 1.5 is not above 0 and at most 1", "use decay_rate 0.1"]),
            (broken(|s| s.epochs = 0), ["epochs 0 is not between 1 and 1000000", "use epochs 10"]),
            (broken(|s| s.max_steps = Some(0)), ["max_steps 0 is not at least 1", "use max_steps 1000"]),
            (broken(|s| s.batch_size = 0), ["batch_size 0 is not between 1 and 1048576", "use batch_size 128"]),
            (broken(|s| s.lr = 0.0), ["lr 0 is not a positive number", "use lr 0.001"]),
            (broken(|s| s.lr = f64::NAN), ["lr NaN is not a positive number", "use lr 0.001"]),
            (broken(|s| s.lr = 1e-60), ["lr 1e-60 is not at least 1.4e-45, the smallest 32-bit float", "use lr 0.001"]),
            (broken(|s| s.lr = 1e99), ["lr 1e99 is not at most 3.4e38, the largest 32-bit float", "use lr 0.001"]),
            (broken(|s| s.lr = f64::INFINITY), ["lr inf is not a positive number", "use lr 0.001"]),
            (
                broken(|s| s.betas[1] = 1.0),
                ["betas [0.9, 1] is not two numbers of at least 0 and below 1", "use betas [0.9, 0.999]"],
            ),
            (
                broken(|s| s.betas[0] = -0.1),
                ["betas [-0.1, 0.999] is not two numbers of at least 0 and below 1", "use betas [0.9, 0.999]"],
            ),
            (broken(|s| s.opt_eps = 0.0), ["opt_eps 0 is not a positive number", "use opt_eps 1e-8"]),
            (broken(|s| s.weight_decay = -1.0), ["weight_decay -1 is not between 0 and 100", "use weight_decay 0.01"]),
            (
                broken(|s| s.warmup_epochs = -1.0),
                ["warmup_epochs -1 is not between 0 and epochs 10", "use warmup_epochs 0 for none"],
            ),
            (
                broken(|s| s.warmup_epochs = 11.0),
                ["warmup_epochs 11 is not between 0 and epochs 10", "use warmup_epochs 0 for none"],
            ),
            (broken(|s| s.min_lr = -1.0), ["min_lr -1 is not between 0 and lr 0.001", "use min_lr 0"]),
            (broken(|s| s.min_lr = 0.1), ["min_lr 0.1 is not between 0 and lr 0.001", "use min_lr 0"]),
            (
                broken(|s| s.clip_grad = Some(0.0)),
                ["clip_grad 0 is not a positive number", "use clip_grad 1, or leave it out"],
            ),
            (
                broken(|s| s.smoothing = 1.0),
                ["smoothing 1 is not at least 0 and below 1", "use smoothing 0.1, or 0 for none"],
            ),
            (
                broken(|s| s.smoothing = 1.0 - 1e-12),
                ["smoothing 0.999999999999 is not at least 0 and below 1", "use smoothing 0.1, or 0 for none"],
            ),
            (
                broken(|s| s.seed = 1 << 63),
                ["seed 9223372036854775808 is not at most 9223372036854775807", "use seed 42"],
            ),
            (
                broken(|s| s.threads = 5000),
                ["threads 5000 is not between 0 and 1024", "use threads 0 for all processors"],
            ),
            (broken(|s| s.log_interval = 0), ["log_interval 0 is not at least 1", "use log_interval 100"]),
        ];
        for ([text, hint], [expected_text, expected_hint]) in cases {
            assert_eq!(text, format!("{expected_text} ([train])"));
            assert_eq!(hint, expected_hint);
        }
    }

    /// 7 epochs of 3 steps, of which 2 warm up.
    fn schedule(sched: Schedule, min_lr: f64) -> TrainConfig {
        let spec = TrainSpec { epochs: 7, warmup_epochs: 2.0, lr: 0.6, min_lr, sched, ..TrainSpec::default() };
        TrainConfig::try_from(spec).expect("a good spec")
    }

    fn assert_rates(config: &TrainConfig, expected: &[(u64, f64)]) {
        for &(step, rate) in expected {
            let found = config.learning_rate(step, 3);
            assert!((found - rate).abs() < 1e-12, "step {step}: {found}, not {rate}");
        }
    }

    #[test]
    fn a_constant_rate_stays_after_its_warm_up() {
        assert_rates(&schedule(Schedule::Constant, 0.0), &[(0, 0.1), (1, 0.2), (5, 0.6), (6, 0.6), (20, 0.6)]);
    }

    #[test]
    fn a_step_schedule_counts_from_the_start_of_the_run() {
        let spec = TrainSpec { sched: Schedule::Step, decay_epochs: 3.0, decay_rate: 0.5, ..TrainSpec::default() };
        let config = TrainConfig::try_from(TrainSpec { epochs: 7, warmup_epochs: 2.0, lr: 0.6, ..spec }).expect("good");
        let rates = [(0, 0.1), (5, 0.6), (8, 0.6), (9, 0.3), (17, 0.3), (18, 0.15), (20, 0.15)];
        assert_rates(&config, &rates);
    }

    #[test]
    fn a_cosine_falls_over_the_steps_after_warm_up() {
        // 15 steps fall; after 5 of them the cosine is 1/2, after 10 it is -1/2, and 15 would be its end.
        let rates = [(0, 0.1), (5, 0.6), (6, 0.6), (11, 0.45), (16, 0.15), (21, 0.0), (99, 0.0)];
        assert_rates(&schedule(Schedule::Cosine, 0.0), &rates);
        assert_rates(&schedule(Schedule::Cosine, 0.2), &[(6, 0.6), (11, 0.5), (16, 0.3), (21, 0.2)]);
    }

    #[test]
    fn warm_up_may_be_a_part_of_an_epoch_or_the_whole_run() {
        let spec = TrainSpec { epochs: 2, warmup_epochs: 0.5, lr: 0.6, ..TrainSpec::default() };
        let config = TrainConfig::try_from(spec.clone()).expect("a good spec");
        let rates: Vec<f64> = (0..3).map(|step| config.learning_rate(step, 4)).collect();
        assert_eq!(rates[..2], [0.3, 0.6]);
        assert_eq!(rates[2], 0.6);
        let whole = TrainConfig::try_from(TrainSpec { warmup_epochs: 2.0, ..spec }).expect("a good spec");
        assert_eq!(whole.learning_rate(7, 4), 0.6);
    }
}
