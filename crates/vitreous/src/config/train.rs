//! The `[train]` table: how long, in which steps, with which optimiser.

use serde::{Deserialize, Serialize};

/// How a model is trained, as written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSpec {
    /// Passes over the train split.
    pub epochs: usize,
    /// Stop after so many optimiser steps.
    pub max_steps: Option<u64>,
    /// Images in one optimiser step.
    pub batch_size: usize,
    /// Leave out the last batch of an epoch when it is smaller than the others.
    pub drop_last: bool,
    /// The optimiser.
    pub opt: Optimizer,
    /// Learning rate after warm-up.
    pub lr: f64,
    /// Decay rates of the two moments.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub opt_eps: f64,
    /// Weight decay: of `adamw` decoupled, of `adam` added to the gradient.
    pub weight_decay: f64,
    /// How the learning rate goes on after warm-up.
    pub sched: Schedule,
    /// Epochs in which the learning rate rises from 0; may be a fraction.
    pub warmup_epochs: f64,
    /// Learning rate at which a cosine schedule ends.
    pub min_lr: f64,
    /// Greatest norm of the gradient; a longer one is shortened. Absent: any.
    pub clip_grad: Option<f64>,
    /// Part of the target probability spread evenly over all classes, in [0, 1).
    pub smoothing: f64,
    /// Seed of everything random but the split.
    pub seed: u64,
    /// Threads; 0 takes one for each processor.
    pub threads: usize,
    /// Steps between two lines of `metrics.jsonl`.
    pub log_interval: u64,
}

/// An optimiser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimizer {
    /// Kingma and Ba 2015.
    Adam,
    /// Loshchilov and Hutter 2019.
    Adamw,
}

/// How the learning rate changes, step by step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// It stays.
    Constant,
    /// Half a cosine down to `min_lr`.
    Cosine,
}

impl Default for TrainSpec {
    fn default() -> Self {
        TrainSpec {
            epochs: 10,
            max_steps: None,
            batch_size: 128,
            drop_last: false,
            opt: Optimizer::Adamw,
            lr: 1e-3,
            betas: [0.9, 0.999],
            opt_eps: 1e-8,
            weight_decay: 0.01,
            sched: Schedule::Cosine,
            warmup_epochs: 1.0,
            min_lr: 0.0,
            clip_grad: None,
            smoothing: 0.0,
            seed: 42,
            threads: 0,
            log_interval: 100,
        }
    }
}
