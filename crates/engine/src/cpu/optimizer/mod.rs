//! Optimizers: from gradients to new parameters, one block of values at a time, in a single pass over blocks that stay in
//! the first-level cache.
//!
//! Each update rule has a file: its hyperparameters, its number of moments, its formula as a kernel. A new rule is one more
//! file and one more variant of [`Rule`]. Everything else (weight decay groups, clipping, the average, checkpoints, memory)
//! works for every rule alike.

mod adam;
mod average;
mod lion;
mod sgd;

use super::Isa;

pub use adam::Adam;
pub use average::Average;
pub use lion::Lion;
pub use sgd::Sgd;

/// Number of values in a block: fixed, so that the partial sums of the norm do not depend on the number of threads.
pub(super) const BLOCK: usize = 1024;

/// How gradients change parameters: a rule, and what all rules have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Optimizer {
    /// The update rule.
    pub rule: Rule,
    /// Weight decay of the parameters that decay.
    pub weight_decay: f64,
    /// Max norm: the L2 norm to which the whole gradient is clipped.
    pub clip: Option<f64>,
    /// Whether to keep an exponential moving average of the parameters.
    pub average: Option<Average>,
}

/// An update rule with its hyperparameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Adam or AdamW.
    Adam(Adam),
    /// Lion.
    Lion(Lion),
    /// Stochastic gradient descent.
    Sgd(Sgd),
}

impl Rule {
    fn formula(&self) -> &dyn Formula {
        match self {
            Rule::Adam(adam) => adam,
            Rule::Lion(lion) => lion,
            Rule::Sgd(sgd) => sgd,
        }
    }
}

impl From<Adam> for Rule {
    fn from(adam: Adam) -> Self {
        Rule::Adam(adam)
    }
}

impl From<Lion> for Rule {
    fn from(lion: Lion) -> Self {
        Rule::Lion(lion)
    }
}

impl From<Sgd> for Rule {
    fn from(sgd: Sgd) -> Self {
        Rule::Sgd(sgd)
    }
}

impl<R: Into<Rule>> From<R> for Optimizer {
    /// The rule without weight decay, clipping and average.
    fn from(rule: R) -> Self {
        Optimizer { rule: rule.into(), weight_decay: 0.0, clip: None, average: None }
    }
}

impl Optimizer {
    /// Values kept for each parameter value: the rule's moments, then the average.
    pub fn moments(&self) -> usize {
        self.rule.formula().moments() + usize::from(self.average.is_some())
    }
}

/// The formula of an update rule.
trait Formula {
    /// Number of moments: 0, 1 or 2.
    fn moments(&self) -> usize;

    /// Bias corrections of the moments at step number `step`, counted from 1.
    fn bias_corrections(&self, _step: u64) -> [f64; 2] {
        [1.0; 2]
    }

    /// Updates one block.
    ///
    /// # Safety
    /// All pointers of the block, but for moments that the rule does not have, are good for its length, and no other thread
    /// uses them.
    unsafe fn update(&self, isa: Isa, step: &StepNumbers, to: Values);
}

/// What is the same for all values of a step.
struct StepNumbers {
    learning_rate: f64,
    /// 0 for parameters that do not decay.
    weight_decay: f64,
    /// The gradient is multiplied by this first (clipping).
    gradient_factor: f32,
    bias_corrections: [f64; 2],
}

/// Values that are updated together.
pub(in crate::cpu) struct Values {
    /// A multiple of 16.
    len: usize,
    values: *mut f32,
    gradient: *const f32,
    /// Null where the rule has fewer.
    moments: [*mut f32; 2],
}

/// One update, prepared once for all blocks.
pub(super) struct Update {
    optimizer: Optimizer,
    learning_rate: f64,
    gradient_factor: f32,
    bias_corrections: [f64; 2],
    /// Fraction of the average that is kept, where there is one.
    kept: Option<f64>,
}

impl Update {
    /// Prepares step number `step`, counted from 1; the gradient is multiplied by `factor`.
    pub fn new(optimizer: Optimizer, step: u64, learning_rate: f64, factor: f64) -> Self {
        let bias_corrections = optimizer.rule.formula().bias_corrections(step);
        let kept = optimizer.average.map(|average| average.keep(step));
        Update { optimizer, learning_rate, gradient_factor: factor as f32, bias_corrections, kept }
    }

    /// Updates `len` values, a multiple of 16, and their average. The last pointer is that of the average; those of moments
    /// that the rule does not have are null.
    ///
    /// # Safety
    /// The other pointers are good for `len` values, and no other thread uses them.
    pub unsafe fn apply(
        &self,
        isa: Isa,
        len: usize,
        decay: bool,
        values: *mut f32,
        gradient: *const f32,
        [first, second, average]: [*mut f32; 3],
    ) {
        let step = StepNumbers {
            learning_rate: self.learning_rate,
            weight_decay: if decay { self.optimizer.weight_decay } else { 0.0 },
            gradient_factor: self.gradient_factor,
            bias_corrections: self.bias_corrections,
        };
        let to = Values { len, values, gradient, moments: [first, second] };
        unsafe {
            self.optimizer.rule.formula().update(isa, &step, to);
            self.move_average(isa, len, values, average);
        }
    }

    /// Moves the average of `len` values, a multiple of 16, towards them, where there is one.
    ///
    /// # Safety
    /// Both pointers are good for `len` values, and no other thread uses them.
    pub unsafe fn move_average(&self, isa: Isa, len: usize, values: *const f32, average: *mut f32) {
        if let Some(kept) = self.kept {
            let (keep, rest) = (kept as f32, (1.0 - kept) as f32);
            unsafe { average::average(isa, &average::Args { len, average, values, keep, rest }) };
        }
    }
}
