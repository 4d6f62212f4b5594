//! Softmax over the last axis, multiplication by a number or by trained factors (layer scale, Touvron et al. 2021), and
//! stochastic depth (Huang et al. 2016).

use crate::autodiff::Backward;
use crate::graph::{Graph, GraphError, Node, NodeId, ParamId, wrong_value};
use crate::ops::{Dropout, Op};

/// Maximum, difference, exponential, sum and quotient.
pub(super) const SOFTMAX_FLOPS: u64 = 5;
/// A sum of products, a difference and a product.
pub(super) const SOFTMAX_GRAD_FLOPS: u64 = 4;
/// A product, and a multiply-add for the factor's gradient.
pub(super) const SCALE_FEATURES_GRAD_FLOPS: u64 = 3;

impl Graph {
    /// Turns the numbers along the last axis into probabilities.
    ///
    /// # Errors
    /// When `x` is a scalar.
    pub fn softmax(&mut self, name: &str, x: NodeId) -> Result<NodeId, GraphError> {
        let shape = self.shape(x).clone();
        if shape.0.is_empty() {
            return Err(self.wrong_shape(name, &shape, "[..., classes]"));
        }
        self.push(name, Op::Softmax, &[x], &[], shape)
    }

    /// Multiplies each value by a number.
    ///
    /// # Errors
    /// When the number is not finite.
    pub fn scale(&mut self, name: &str, x: NodeId, factor: f32) -> Result<NodeId, GraphError> {
        if !factor.is_finite() {
            return Err(wrong_value(name, "factor", factor, "a finite number"));
        }
        let shape = self.shape(x).clone();
        self.push(name, Op::Scale { factor }, &[x], &[], shape)
    }

    /// Multiplies each value by its feature's trained factor.
    ///
    /// # Shapes
    /// - `x`: `[..., features]`, and the same is returned; the parameter: `[features]`
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn scale_features(&mut self, name: &str, x: NodeId, factors: ParamId) -> Result<NodeId, GraphError> {
        let shape = self.shape(x).clone();
        let found = &self.parameter(factors).shape;
        if shape.0.is_empty() || found.0 != [shape.features()] {
            return Err(self.wrong_shape(name, found, format!("the features of {shape}")));
        }
        self.push(name, Op::ScaleFeatures, &[x], &[factors], shape)
    }

    /// Zeroes all values of an example at random while training and scales the others up; a rate of 0 adds nothing
    /// to the graph.
    ///
    /// # Errors
    /// When the rate is outside [0, 1).
    pub fn drop_path(&mut self, name: &str, x: NodeId, rate: f32) -> Result<NodeId, GraphError> {
        let dropout = self.new_dropout(name, rate)?;
        if rate == 0.0 {
            return Ok(x);
        }
        let shape = self.shape(x).clone();
        self.push(name, Op::DropPath(dropout), &[x], &[], shape)
    }
}

pub(super) fn differentiate_softmax(backward: &mut Backward, id: NodeId, dy: NodeId) {
    let Node { inputs, name, shape, .. } = backward.node(id).clone();
    let dx = backward.push(&format!("{name}.grad"), Op::SoftmaxGrad, &[dy, id], &[], shape);
    backward.add_gradient(inputs[0], dx);
}

/// The gradient of a linear operation that is its own transpose, and of a reshape: the operation itself.
pub(super) fn differentiate_symmetric(backward: &mut Backward, id: NodeId, dy: NodeId) {
    let Node { inputs, name, op, .. } = backward.node(id).clone();
    let shape = backward.node(inputs[0]).shape.clone();
    if backward.needs_gradient(inputs[0]) {
        let dx = backward.push(&format!("{name}.grad"), op, &[dy], &[], shape);
        backward.add_gradient(inputs[0], dx);
    }
}

pub(super) fn differentiate_scale_features(backward: &mut Backward, id: NodeId, dy: NodeId) {
    let Node { inputs, params, name, shape, .. } = backward.node(id).clone();
    let dx = backward.push(&format!("{name}.grad"), Op::ScaleFeaturesGrad, &[dy, inputs[0]], &params, shape);
    if backward.needs_gradient(inputs[0]) {
        backward.add_gradient(inputs[0], dx);
    }
}

/// Whether an example keeps its path.
pub(crate) fn path_is_kept(dropout: Dropout, keys: [u32; 2]) -> bool {
    dropout.keeps(keys, 0, 1, 0)
}
