//! What a caller gives a session and gets from it.

use std::num::NonZeroUsize;

use crate::cpu::Parameters;
use crate::random::Key;

/// Gives the inputs of a graph for each example of a step; threads ask for them as they come to them.
///
/// A closure of the same arguments as [`Examples::fill`] does as well.
pub trait Examples: Sync {
    /// Writes the values of one example for the graph's input number `input` (in the order of the input nodes).
    fn fill(&self, input: usize, example: usize, values: &mut [f32]);
}

impl<F: Fn(usize, usize, &mut [f32]) + Sync> Examples for F {
    fn fill(&self, input: usize, example: usize, values: &mut [f32]) {
        self(input, example, values);
    }
}

/// Why a session cannot be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The graph is a training graph; a session makes its own from a model.
    #[error("operation {operation} computes a gradient, but a session takes a model ({node})")]
    Gradient {
        /// The node.
        node: String,
        /// Its operation.
        operation: &'static str,
    },
    /// The parameters were made for a graph with other ones.
    #[error("the parameters belong to another graph")]
    Parameters,
    /// The processor lacks the instruction set.
    #[error("this processor has no {isa}")]
    Isa {
        /// The instruction set.
        isa: &'static str,
    },
}

/// One optimiser step.
pub struct Step<'a> {
    /// Images of the step.
    pub images: usize,
    /// Where their values come from.
    pub examples: &'a dyn Examples,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Key of the epoch's dropout.
    pub dropout: Key,
    /// Place of the step's first image in the epoch's order.
    pub first: u64,
    /// What the sum of the examples' losses is divided by; the number of images where nothing is said.
    ///
    /// A loss that is itself a sum, over the words of a sequence, becomes a mean over all words of the step this way.
    pub targets: Option<f64>,
    /// Parts of the step, of nearly the same size, that operations over a whole batch (batch norm) see one at a time.
    ///
    /// Nothing else depends on it: gradients are accumulated whatever the number of images.
    pub micro_batches: NonZeroUsize,
    /// Whether a step whose gradient is not finite leaves everything as it was. To know that before the update takes one
    /// more pass over the gradient, unless clipping takes it anyway. A step whose loss is not finite always leaves
    /// everything as it was, statistics included.
    pub only_finite: bool,
}

impl<'a> Step<'a> {
    /// Makes a step at the start of an epoch whose dropout key is made from seed 0.
    pub fn new(images: usize, examples: &'a dyn Examples, learning_rate: f64) -> Self {
        let dropout = Key::new(0);
        let micro_batches = NonZeroUsize::MIN;
        Step { images, examples, learning_rate, dropout, first: 0, targets: None, micro_batches, only_finite: false }
    }

    /// What the sum of the losses is divided by.
    pub(crate) fn divisor(&self) -> f64 {
        self.targets.unwrap_or(self.images as f64)
    }
}

/// Which layers are wide: cut by columns among the threads, with all images of the step in each piece, because their
/// weights outweigh what they compute on. Others are taken by each thread for its own images.
///
/// The choice is part of what makes results repeatable: it changes the order of sums.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WideRule {
    /// Numbers that a weight has at least.
    pub least: usize,
    /// The same for each number of one image that goes in or comes out.
    pub each: usize,
    /// Part of the model's trained values that such weights have together, at least: else there are none, because
    /// the others would pay for it.
    pub part: f64,
}

impl Default for WideRule {
    fn default() -> Self {
        WideRule { least: 256 << 10, each: 64, part: 0.5 }
    }
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Sum of the images' losses over the step's targets (so their mean, unless told otherwise), before the update.
    pub loss: f64,
    /// Norm of the gradient, before clipping; no number where the loss is none, since nobody asked for it then.
    pub gradient_norm: f64,
}

/// What an optimiser remembers from step to step.
#[derive(Clone)]
pub struct OptimizerState {
    /// Updates that were made.
    pub updates: u64,
    /// The moments of the rule (Adam: first and second moment; SGD: the momentum buffer, if there is momentum), then the
    /// average of the parameters, if there is one.
    pub moments: Vec<Parameters>,
}

/// Memory that a session takes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Values of the parameters.
    pub parameters: u64,
    /// Moments of the optimiser.
    pub optimizer: u64,
    /// Gradients, all copies of all threads.
    pub gradients: u64,
    /// Weights in packed form.
    pub packed: u64,
    /// Values between operations, all threads together.
    pub activations: u64,
}

impl Memory {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.parameters + self.optimizer + self.gradients + self.packed + self.activations
    }
}
