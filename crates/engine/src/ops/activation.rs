//! Functions of each value: ReLU, ReLU6, GELU (Hendrycks and Gimpel 2016) in its exact and its tanh form, tanh.

use crate::autodiff::Backward;
use crate::graph::{Graph, GraphError, Node, NodeId};
use crate::ops::Op;

/// A function of each value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// max(x, 0); its derivative at 0 is 0.
    Relu,
    /// min(max(x, 0), 6); its derivative at 0 and 6 is 0.
    Relu6,
    /// x Phi(x), with Phi the normal distribution function.
    Gelu,
    /// x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
    GeluTanh,
    /// The hyperbolic tangent.
    Tanh,
}

impl Activation {
    /// Floating-point operations for one value, an exponential or a division counted as one.
    pub(super) fn flops(self) -> u64 {
        match self {
            Activation::Relu => 1,
            Activation::Relu6 => 2,
            Activation::Gelu => 14,
            Activation::GeluTanh => 9,
            Activation::Tanh => 5,
        }
    }

    pub(super) fn differentiate(self, backward: &mut Backward, id: NodeId, dy: NodeId) {
        let Node { inputs, name, shape, .. } = backward.node(id).clone();
        let op = Op::ActivationGrad(self);
        let dx = backward.push(&format!("{name}.grad"), op, &[dy, inputs[0]], &[], shape);
        backward.add_gradient(inputs[0], dx);
    }
}

impl Graph {
    /// Applies a function to each value.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn activation(&mut self, name: &str, x: NodeId, activation: Activation) -> Result<NodeId, GraphError> {
        let shape = self.shape(x).clone();
        self.push(name, Op::Activation(activation), &[x], &[], shape)
    }
}
