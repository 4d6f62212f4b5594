//! The arguments and results of a session.

use std::num::NonZeroUsize;

use crate::cpu::Parameters;
use crate::random::Key;

/// Provides the inputs of a graph for each example of a step; threads read them when they need them.
///
/// A closure with the arguments of [`Examples::fill`] works too.
pub trait Examples: Sync {
    /// Writes the values of one example for the graph's input number `input` (in the order of the input nodes).
    fn fill(&self, input: usize, example: usize, values: &mut [f32]);
}

impl<F: Fn(usize, usize, &mut [f32]) + Sync> Examples for F {
    fn fill(&self, input: usize, example: usize, values: &mut [f32]) {
        self(input, example, values);
    }
}

/// The errors of a new session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The graph is a training graph; a session makes its own from a model.
    #[error("operation {operation} computes a gradient, but a session needs a model without gradients ({node})")]
    Gradient {
        /// The node.
        node: String,
        /// Its operation.
        operation: &'static str,
    },
    /// The parameters belong to a graph with other ones.
    #[error("the parameters belong to another graph")]
    Parameters,
    /// The processor does not have the instruction set.
    #[error("this processor does not support {isa}")]
    Isa {
        /// The instruction set.
        isa: &'static str,
    },
}

/// One optimizer step.
pub struct Step<'a> {
    /// Number of images of the step.
    pub images: usize,
    /// The images.
    pub examples: &'a dyn Examples,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Key of the epoch's dropout.
    pub dropout: Key,
    /// Index of the step's first image in the epoch's order.
    pub first: u64,
    /// The sum of the examples' losses is divided by this; by the number of images if it is `None`.
    ///
    /// A loss that is itself a sum, over the tokens of a sequence, becomes a mean over all tokens of the step this way.
    pub targets: Option<f64>,
    /// Parts of the step, of nearly the same size, that operations over a whole batch (batch norm) see one at a time.
    ///
    /// Nothing else depends on it: gradients are accumulated for any number of images.
    pub micro_batches: NonZeroUsize,
    /// Whether a step whose gradient is not finite leaves everything as it was. To know that before the update takes one
    /// more pass over the gradient, unless clipping takes it anyway. A step whose loss is not finite always leaves
    /// everything as it was, statistics included.
    pub only_finite: bool,
    /// Whether the norm of each parameter's gradient is measured, see [`Session::gradient_norms`](crate::Session). It
    /// takes a pass over the gradient and changes no result.
    pub gradient_norms: bool,
}

impl<'a> Step<'a> {
    /// Makes a step at the start of an epoch, with a dropout key from seed 0.
    pub fn new(images: usize, examples: &'a dyn Examples, learning_rate: f64) -> Self {
        let dropout = Key::new(0);
        let micro_batches = NonZeroUsize::MIN;
        Step {
            images,
            examples,
            learning_rate,
            dropout,
            first: 0,
            targets: None,
            micro_batches,
            only_finite: false,
            gradient_norms: false,
        }
    }

    /// The divisor of the sum of the losses.
    pub(crate) fn divisor(&self) -> f64 {
        self.targets.unwrap_or(self.images as f64)
    }
}

/// Which layers are wide: cut by columns among the threads, with all images of the step in each piece, because their
/// weights are larger than their activations. In other layers, each thread computes its own images.
///
/// The choice changes the order of sums, and so the bits of results.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WideRule {
    /// Minimum number of values of the weight.
    pub min_values: usize,
    /// Minimum number of values of the weight for each input and output value of one image.
    pub min_values_per_activation: usize,
    /// Minimum fraction of the model's trained values that such weights hold together. Below it no layer is wide, because
    /// the other layers would get slower.
    pub min_fraction: f64,
}

impl Default for WideRule {
    fn default() -> Self {
        WideRule { min_values: 256 << 10, min_values_per_activation: 64, min_fraction: 0.5 }
    }
}

/// The results of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Loss before the update: the sum of the images' losses, divided as [`Step::targets`] says (by default their mean).
    pub loss: f64,
    /// Norm of the gradient before clipping; NaN where the loss is not finite, because the gradient is not computed then.
    pub gradient_norm: f64,
}

/// The state that an optimizer keeps from step to step.
#[derive(Clone)]
pub struct OptimizerState {
    /// Number of updates so far.
    pub updates: u64,
    /// The moments of the rule (Adam: first and second moment; SGD: the momentum buffer, if there is momentum), then the
    /// average of the parameters, if there is one.
    pub moments: Vec<Parameters>,
}

/// Memory of a session, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Values of the parameters.
    pub parameters: u64,
    /// Moments of the optimizer.
    pub optimizer: u64,
    /// Gradients, all copies of all threads.
    pub gradients: u64,
    /// Weights in packed form.
    pub packed: u64,
    /// Values between operations, all threads together.
    pub activations: u64,
}

impl Memory {
    /// The sum.
    pub fn total(&self) -> u64 {
        self.parameters + self.optimizer + self.gradients + self.packed + self.activations
    }
}
