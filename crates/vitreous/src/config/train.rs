//! The `[train]` table: how long, in which steps, with which optimizer; and the learning rate of each step.

use std::ops::Deref;
use std::path::PathBuf;

use super::error::RuleError;
use super::optimizer::Optimizer;
use super::schema::{Range, WHOLE_MAX, choices, config_table};
use crate::advice::Suggestion;
use crate::numbers::number;

/// Maximum number of epochs.
pub const EPOCHS_MAX: usize = 1_000_000;
/// Maximum number of images in a step.
pub const BATCH_SIZE_MAX: usize = 1_048_576;
/// Maximum number of threads.
pub const THREADS_MAX: usize = 1024;

config_table! {
    /// How a model is trained, as written.
    pub struct TrainSpec in "train" {
        /// Passes over the training images.
        epochs: usize = 10, range Range::Whole(1, EPOCHS_MAX as u64);
        /// Stop after this many optimizer steps. The schedule still follows `epochs`, so the first steps of a run do
        /// not depend on this limit.
        max_steps: Option<u64> = None, range Range::Whole(1, WHOLE_MAX), example 1000;
        /// Images per forward and backward pass. An optimizer step uses `grad_accum_steps` times as many.
        batch_size: usize = 128, range Range::Whole(1, BATCH_SIZE_MAX as u64);
        /// Batches whose gradients are added up for one optimizer step.
        grad_accum_steps: usize = 1, range Range::Whole(1, BATCH_SIZE_MAX as u64);
        /// Leave out the last batch of an epoch when it is smaller.
        drop_last: bool = false;
        /// Optimizer.
        opt: Optimizer = Optimizer::Adamw;
        /// Learning rate after warm-up.
        lr: f64 = 1e-3, range Range::Positive;
        /// Decay rates of the two moments. The default of `lion` is [0.9, 0.99].
        betas: [f64; 2] = Optimizer::Adamw.betas(), range Range::BelowOne;
        /// Added to the square root of the second moment.
        opt_eps: f64 = 1e-8, range Range::Positive;
        /// Momentum of sgd and muon. The default of `muon` is 0.95.
        momentum: f64 = Optimizer::Adamw.momentum(), range Range::BelowOne;
        /// Use Nesterov momentum with sgd. `muon` always does.
        nesterov: bool = false;
        /// Weight decay. It is added to the gradient for `adam` and `sgd`, and decoupled for the other optimizers.
        weight_decay: f64 = 0.01, range Range::Between(0.0, 100.0);
        /// Which parameters decay.
        decay: Decay = Decay::All;
        /// Learning rate schedule after warm-up.
        sched: Schedule = Schedule::Cosine;
        /// Epochs over which the learning rate rises to `lr`. May be a fraction.
        warmup_epochs: f64 = 1.0, range Range::NotNegative;
        /// Learning rate at the end of a cosine schedule.
        min_lr: f64 = 0.0, range Range::NotNegative;
        /// Epochs from one drop of a step schedule to the next. May be a fraction.
        decay_epochs: f64 = 30.0, range Range::Positive;
        /// Factor by which a step schedule multiplies the learning rate.
        decay_rate: f64 = 0.1, range Range::UpTo(1.0);
        /// Clip gradients to this global L2 norm. Gradients are not clipped when it is absent.
        clip_grad: Option<f64> = None, range Range::Positive, example 1;
        /// Decay of a moving average of the weights (EMA). Validation and the weights files use the average.
        /// Step k keeps at most `1 - k^(-2/3)` of it, as timm with warm-up. No average when it is absent.
        model_ema_decay: Option<f64> = None, range Range::BelowOne, example 0.999;
        /// Label smoothing. This part of the target probability is spread evenly over all classes.
        smoothing: f64 = 0.0, range Range::BelowOne, example 0.1;
        /// Which weights `best.safetensors` holds.
        keep: Keep = Keep::Best;
        /// What to do on a NaN or infinite loss.
        on_nonfinite: OnNonfinite = OnNonfinite::Stop;
        /// Start from the weights of this file or folder: of timm, Hugging Face, torchvision, big_vision, or a run. The model
        /// starts from random values when it is absent.
        init_from: Option<PathBuf> = None, example "vit_tiny.safetensors";
        /// Load those tensors of `init_from` that fit, although others do not.
        partial: Option<bool> = None, example true;
        /// Seed of all random draws except the split.
        seed: u64 = 42, range Range::Whole(0, WHOLE_MAX);
        /// Number of threads; 0 for one per processor.
        threads: usize = 0, range Range::Whole(0, THREADS_MAX as u64);
        /// Steps between two lines of `metrics.jsonl`. Each line has the means over these steps.
        log_interval: u64 = 100, range Range::Whole(1, WHOLE_MAX);
        /// Write an event file for TensorBoard into the run folder. It changes nothing that the run computes.
        tensorboard: Option<bool> = None, example true;
    }
}

choices! {
    /// Which parameters decay.
    pub enum Decay {
        /// All of them, as with PyTorch's optimizers when they get `model.parameters()`.
        All = "all",
        /// Matrices and kernels, but not biases, norms, tokens and positions, as in timm.
        Weights = "weights",
    }
}

choices! {
    /// Which weights `best.safetensors` holds.
    pub enum Keep {
        /// The weights of the epoch with the best validation accuracy; none without a validation split.
        Best = "best",
        /// None: the run uses its last weights.
        Last = "last",
        /// The weights at the end of the `log_interval` steps with the lowest mean training loss (experiment E4).
        LowestTrainLoss = "lowest-train-loss",
    }
}

choices! {
    /// What happens when the loss or the gradient of a step is NaN or infinite.
    pub enum OnNonfinite {
        /// Stop the training and report where the first nonfinite value is.
        Stop = "stop",
        /// Skip the step.
        Skip = "skip",
        /// Roll back to the start of the epoch with half the learning rate, at most three times.
        Rollback = "rollback",
    }
}

choices! {
    /// How the learning rate changes after warm-up.
    pub enum Schedule {
        /// Constant.
        Constant = "constant",
        /// Falls along half a cosine from `lr` to `min_lr` (Loshchilov and Hutter 2017).
        Cosine = "cosine",
        /// Multiplied by `decay_rate` every `decay_epochs`, counted from the start of the run.
        Step = "step",
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
    type Error = RuleError;

    /// Checks every rule.
    fn try_from(spec: TrainSpec) -> Result<Self, RuleError> {
        spec.check()?;
        Ok(TrainConfig(spec))
    }
}

impl TrainSpec {
    /// Checks the table by itself.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), RuleError> {
        self.check_ranges()?;
        if self.nesterov && self.opt == Optimizer::Sgd && self.momentum == 0.0 {
            let suggestion = Suggestion::new().set("train.momentum", 0.9).or().set("train.nesterov", false);
            let rule = RuleError::new("train.momentum", self.momentum, "is not above 0, which nesterov needs");
            return Err(rule.and("train.nesterov").suggest(suggestion));
        }
        if self.warmup_epochs > self.epochs as f64 {
            let suggestion = Suggestion::new().set("train.warmup_epochs", 0).text("for no warm-up");
            let problem = format!("is more than epochs {}", self.epochs);
            let rule = RuleError::new("train.warmup_epochs", self.warmup_epochs, problem);
            return Err(rule.and("train.epochs").suggest(suggestion));
        }
        if self.min_lr > self.lr {
            let problem = format!("is more than lr {}", number(self.lr));
            let rule = RuleError::new("train.min_lr", self.min_lr, problem);
            return Err(rule.and("train.lr").suggest(Suggestion::new().set("train.min_lr", 0)));
        }
        Ok(())
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

    /// Images of one optimizer step.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(change: impl FnOnce(&mut TrainSpec)) -> [String; 2] {
        let mut spec = TrainSpec::default();
        assert_eq!(spec.check(), Ok(()));
        change(&mut spec);
        let error = TrainConfig::try_from(spec).expect_err("a rule is broken");
        [error.to_string(), error.suggestion.expect("every rule has a suggestion").to_string()]
    }

    #[test]
    fn numbers_stay_in_their_ranges() {
        let cases = [
            (
                broken(|s| s.grad_accum_steps = 0),
                "grad_accum_steps 0 is not between 1 and 1048576",
                "grad_accum_steps = 1",
            ),
            (broken(|s| s.momentum = 1.0), "momentum 1 is not at least 0 and below 1", "momentum = 0.9"),
            (
                broken(|s| s.model_ema_decay = Some(1.0)),
                "model_ema_decay 1 is not at least 0 and below 1",
                "model_ema_decay = 0.999, or remove train.model_ema_decay",
            ),
            (
                broken(|s| s.model_ema_decay = Some(-0.5)),
                "model_ema_decay -0.5 is not at least 0 and below 1",
                "model_ema_decay = 0.999, or remove train.model_ema_decay",
            ),
            (broken(|s| s.decay_epochs = 0.0), "decay_epochs 0 is not above 0", "decay_epochs = 30"),
            (broken(|s| s.decay_rate = 0.0), "decay_rate 0 is not above 0 and at most 1", "decay_rate = 0.1"),
            (broken(|s| s.decay_rate = 1.5), "decay_rate 1.5 is not above 0 and at most 1", "decay_rate = 0.1"),
            (broken(|s| s.epochs = 0), "epochs 0 is not between 1 and 1000000", "epochs = 10"),
            (
                broken(|s| s.max_steps = Some(0)),
                "max_steps 0 is not at least 1",
                "max_steps = 1000, or remove train.max_steps",
            ),
            (broken(|s| s.batch_size = 0), "batch_size 0 is not between 1 and 1048576", "batch_size = 128"),
            (broken(|s| s.lr = 0.0), "lr 0 is not above 0", "lr = 0.001"),
            (broken(|s| s.lr = f64::NAN), "lr NaN is not above 0", "lr = 0.001"),
            (broken(|s| s.lr = 1e-60), "lr 1e-60 is not at least 1.4e-45, the smallest 32-bit float", "lr = 0.001"),
            (broken(|s| s.lr = 1e99), "lr 1e99 is not at most 3.4e38, the largest 32-bit float", "lr = 0.001"),
            (broken(|s| s.lr = f64::INFINITY), "lr inf is not above 0 and finite", "lr = 0.001"),
            (broken(|s| s.betas[1] = 1.0), "betas has 1, which is not at least 0 and below 1", "betas = [0.9, 0.999]"),
            (
                broken(|s| s.betas[0] = -0.1),
                "betas has -0.1, which is not at least 0 and below 1",
                "betas = [0.9, 0.999]",
            ),
            (broken(|s| s.opt_eps = 0.0), "opt_eps 0 is not above 0", "opt_eps = 1e-8"),
            (broken(|s| s.weight_decay = -1.0), "weight_decay -1 is not between 0 and 100", "weight_decay = 0.01"),
            (broken(|s| s.warmup_epochs = -1.0), "warmup_epochs -1 is not at least 0", "warmup_epochs = 1"),
            (
                broken(|s| s.warmup_epochs = 11.0),
                "warmup_epochs 11 is more than epochs 10",
                "warmup_epochs = 0 for no warm-up",
            ),
            (broken(|s| s.min_lr = -1.0), "min_lr -1 is not at least 0", "min_lr = 0"),
            (broken(|s| s.min_lr = 0.1), "min_lr 0.1 is more than lr 0.001", "min_lr = 0"),
            (
                broken(|s| s.clip_grad = Some(0.0)),
                "clip_grad 0 is not above 0",
                "clip_grad = 1, or remove train.clip_grad",
            ),
            (broken(|s| s.smoothing = 1.0), "smoothing 1 is not at least 0 and below 1", "smoothing = 0.1"),
            (
                broken(|s| s.smoothing = 1.0 - 1e-12),
                "smoothing 0.999999999999 is not at least 0 and below 1",
                "smoothing = 0.1",
            ),
            (broken(|s| s.seed = 1 << 63), "seed 9223372036854775808 is not at most 9223372036854775807", "seed = 42"),
            (broken(|s| s.threads = 5000), "threads 5000 is not between 0 and 1024", "threads = 0"),
            (broken(|s| s.log_interval = 0), "log_interval 0 is not at least 1", "log_interval = 100"),
        ];
        for ([text, hint], expected_text, expected_hint) in cases {
            assert_eq!(text, expected_text);
            assert_eq!(hint, format!("use train.{expected_hint}"));
        }
        let [text, hint] = broken(|s| (s.opt, s.momentum, s.nesterov) = (Optimizer::Sgd, 0.0, true));
        assert_eq!(text, "momentum 0 is not above 0, which nesterov needs");
        assert_eq!(hint, "use train.momentum = 0.9, or train.nesterov = false");
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
