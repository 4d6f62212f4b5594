//! Layer norm: `(x - mean) / sqrt(variance + eps) * weight + bias` over the last axis.
//! Source: Ba, Kiros and Hinton 2016; the variance divides by n, as in PyTorch.

use crate::autodiff::Backward;
use crate::graph::{Graph, GraphError, Init, Node, NodeId, ParamId, wrong_value};
use crate::ops::Op;

/// Sum, difference, square and its sum, scale, multiply by weight, add bias.
pub(super) const FLOPS: u64 = 7;
/// Two sums of products, the normalized input again, and the projection.
pub(super) const GRAD_FLOPS: u64 = 13;

impl Graph {
    /// Makes the parameters of a layer norm, `<name>.weight` and `<name>.bias`; more than one node may use them.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn layer_norm_parameters(&mut self, name: &str, features: usize) -> Result<[ParamId; 2], GraphError> {
        self.all_or_nothing(|graph| {
            Ok([
                graph.new_parameter(&format!("{name}.weight"), [features], Init::Constant(1.0))?,
                graph.new_parameter(&format!("{name}.bias"), [features], Init::Constant(0.0))?,
            ])
        })
    }

    /// Normalizes the last axis, then scales and shifts it by the two parameters.
    ///
    /// # Shapes
    /// - `x`: `[..., features]`, and the same is returned; both parameters `[features]`
    ///
    /// # Errors
    /// When a parameter has another shape, both are the same, or `eps` is not positive.
    pub fn layer_norm(&mut self, name: &str, x: NodeId, params: [ParamId; 2], eps: f32) -> Result<NodeId, GraphError> {
        let shape = self.shape(x).clone();
        for param in params {
            let found = &self.parameter(param).shape;
            if shape.0.is_empty() || found.0 != [shape.features()] {
                return Err(self.wrong_shape(name, found, format!("[features] of {shape}")));
            }
        }
        if params[0] == params[1] {
            let weight = &self.parameter(params[0]).name;
            return Err(wrong_value(name, "bias", format!("`{weight}`"), "another parameter than the weight"));
        }
        if eps <= 0.0 || !eps.is_finite() {
            return Err(wrong_value(name, "eps", eps, "a positive number"));
        }
        self.push(name, Op::LayerNorm { eps }, &[x], &params, shape)
    }
}

pub(super) fn differentiate(backward: &mut Backward, id: NodeId, dy: NodeId, eps: f32) {
    let Node { inputs, params, name, shape, .. } = backward.node(id).clone();
    let dx = backward.push(&format!("{name}.grad"), Op::LayerNormGrad { eps }, &[dy, inputs[0]], &params, shape);
    if backward.needs_gradient(inputs[0]) {
        backward.add_gradient(inputs[0], dx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weight_and_bias_are_two_parameters() {
        let mut graph = Graph::new();
        let x = graph.input("x", [3, 5]).expect("a new name");
        let [weight, bias] = graph.layer_norm_parameters("norm", 5).expect("new names");
        graph.layer_norm("norm1", x, [weight, bias], 1e-5).expect("it fits");
        let error = graph.layer_norm("norm2", x, [weight, weight], 1e-5).expect_err("one for both");
        assert_eq!(error.to_string(), "bias `norm.weight` is not another parameter than the weight (norm2)");
    }
}
