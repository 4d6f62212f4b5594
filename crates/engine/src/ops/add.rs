//! The sum of two values: residual connections.

use crate::autodiff::Backward;
use crate::graph::{Graph, GraphError, NodeId};
use crate::ops::Op;

impl Graph {
    /// Adds two values of one shape.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn add(&mut self, name: &str, left: NodeId, right: NodeId) -> Result<NodeId, GraphError> {
        let shape = self.shape(left).clone();
        if *self.shape(right) != shape {
            return Err(self.wrong_shape(name, self.shape(right), shape.to_string()));
        }
        self.push(name, Op::Add, &[left, right], &[], shape)
    }
}

pub(super) fn differentiate(backward: &mut Backward, id: NodeId, dy: NodeId) {
    for input in backward.node(id).inputs.clone() {
        backward.add_gradient(input, dy);
    }
}
