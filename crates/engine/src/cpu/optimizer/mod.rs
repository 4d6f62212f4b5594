//! Optimizers: from gradients to new parameters, one block of values at a time, in a single pass over blocks that stay in
//! the first-level cache.
//!
//! Each update rule has a file: its hyperparameters, its number of moments, its formula as a kernel. A new rule is one more
//! file and one more variant of [`Rule`]. Everything else (weight decay groups, clipping, the average, checkpoints, memory)
//! works for every rule alike.

mod adam;
mod average;
mod lion;
mod muon;
mod sgd;

use super::Isa;
use crate::graph::{Graph, ParamId};

pub use adam::Adam;
pub use average::Average;
pub use lion::Lion;
pub use muon::Muon;
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
    /// Muon for the weights of hidden layers, AdamW for all other parameters.
    Muon(Muon),
    /// Stochastic gradient descent.
    Sgd(Sgd),
}

impl Rule {
    fn formula(&self) -> &dyn Formula {
        match self {
            Rule::Adam(adam) => adam,
            Rule::Lion(lion) => lion,
            Rule::Muon(muon) => muon,
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

impl From<Muon> for Rule {
    fn from(muon: Muon) -> Self {
        Rule::Muon(muon)
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
    /// Number of sets of values that are kept: the rule's moments, then the average.
    pub fn moments(&self) -> usize {
        self.rule.formula().moments() + usize::from(self.average.is_some())
    }

    /// Number of values in all moments and the average, for the parameters of a graph.
    pub fn moment_values(&self, graph: &Graph) -> usize {
        let values: usize = graph.parameters().iter().map(|param| param.shape.len()).sum();
        let matrices: usize = self.matrices(graph).iter().map(|matrix| matrix.size[0] * matrix.size[1]).sum();
        self.moments() * values - matrices
    }

    /// The parameters that the rule updates as whole matrices, the most expensive first.
    pub(super) fn matrices(&self, graph: &Graph) -> Vec<Matrix> {
        let size = |param: ParamId| {
            let shape = &graph.parameter(param).shape;
            [shape.0[0], shape.len() / shape.0[0]]
        };
        let all = self.rule.formula().matrices(graph).into_iter();
        let decay = |param| graph.parameter(param).decay;
        let mut matrices: Vec<Matrix> =
            all.map(|param| Matrix { param: param.index(), size: size(param), decay: decay(param) }).collect();
        let flops = |[rows, columns]: [usize; 2]| rows.min(columns) as u128 * (rows as u128 * columns as u128);
        matrices.sort_by_key(|matrix| std::cmp::Reverse(flops(matrix.size)));
        matrices
    }

    /// Number of values of the memory that updating any of these matrices takes.
    pub(super) fn matrix_room(&self, matrices: &[Matrix]) -> usize {
        matrices.iter().map(|matrix| self.rule.formula().matrix_room(matrix.size)).max().unwrap_or(0)
    }
}

/// A parameter that is updated as a whole matrix. It has no second moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Matrix {
    /// Its number among the graph's parameters.
    pub param: usize,
    /// `[rows, columns]`
    pub size: [usize; 2],
    /// Whether weight decay acts on it.
    pub decay: bool,
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

    /// The parameters that are updated as whole matrices instead, and have no second moment.
    fn matrices(&self, _graph: &Graph) -> Vec<ParamId> {
        Vec::new()
    }

    /// Number of values of the memory that updating a matrix takes.
    fn matrix_room(&self, _size: [usize; 2]) -> usize {
        0
    }

    /// Updates one matrix `[rows, columns]`, and may overwrite its gradient.
    ///
    /// # Safety
    /// As for [`Formula::update`]; `room` is good for [`Formula::matrix_room`] values, which no other thread uses.
    unsafe fn update_matrix(&self, _: Isa, _: &StepNumbers, _: Values, _size: [usize; 2], _room: *mut f32) {
        unreachable!("the rule has no matrices");
    }
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
pub(super) struct Values {
    /// A multiple of 16.
    pub len: usize,
    pub values: *mut f32,
    pub gradient: *mut f32,
    /// Null where the rule has fewer.
    pub moments: [*mut f32; 2],
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

    /// Updates values and their average.
    ///
    /// # Safety
    /// All pointers, but for moments that the rule does not have, are good for as many values, and no other thread uses
    /// them. The average may be null where there is none.
    pub unsafe fn apply(&self, isa: Isa, decay: bool, to: Values, average: *mut f32) {
        let Values { len, values, .. } = to;
        unsafe {
            self.optimizer.rule.formula().update(isa, &self.numbers(decay), to);
            self.move_average(isa, len, values, average);
        }
    }

    /// Updates a matrix, with the gap behind it, and its average. It may overwrite the gradient.
    ///
    /// # Safety
    /// As for [`Update::apply`]; `room` is good for what [`Optimizer::matrix_room`] says.
    pub unsafe fn apply_to_matrix(&self, isa: Isa, matrix: &Matrix, to: Values, average: *mut f32, room: *mut f32) {
        let Values { len, values, .. } = to;
        unsafe {
            self.optimizer.rule.formula().update_matrix(isa, &self.numbers(matrix.decay), to, matrix.size, room);
            self.move_average(isa, len, values, average);
        }
    }

    fn numbers(&self, decay: bool) -> StepNumbers {
        StepNumbers {
            learning_rate: self.learning_rate,
            weight_decay: if decay { self.optimizer.weight_decay } else { 0.0 },
            gradient_factor: self.gradient_factor,
            bias_corrections: self.bias_corrections,
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
