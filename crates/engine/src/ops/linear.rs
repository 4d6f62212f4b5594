//! The linear layer: `y = x W^T + b` over the last axis, with `W` of `[out, in]`.

use crate::autodiff::Backward;
use crate::graph::{Graph, GraphError, Init, Node, NodeId, ParamId, Shape, wrong_value};
use crate::ops::Op;

/// How a linear layer's parameters are initialized.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinearInit {
    /// The weight's rule.
    pub weight: Init,
    /// The bias's rule; without one the layer has no bias.
    pub bias: Option<Init>,
}

impl LinearInit {
    /// As `torch.nn.Linear`: weight and bias U(-1/sqrt(in), 1/sqrt(in)).
    pub fn pytorch(in_features: usize) -> Self {
        let init = Init::fan_in_uniform(in_features);
        LinearInit { weight: init, bias: Some(init) }
    }
}

impl Graph {
    /// Applies a linear layer; its parameters are named `<name>.weight` and `<name>.bias`.
    ///
    /// # Shapes
    /// - `x`: `[..., in]`; returned: `[..., out_features]`
    ///
    /// # Errors
    /// When `x` is a scalar, `out_features` is 0 or a name is taken.
    pub fn linear(
        &mut self,
        name: &str,
        x: NodeId,
        out_features: usize,
        init: LinearInit,
    ) -> Result<NodeId, GraphError> {
        let shape = self.shape(x).clone();
        if shape.0.is_empty() {
            return Err(self.wrong_shape(name, &shape, "[..., in_features]"));
        }
        self.linear_with_weight(name, x, [out_features, shape.features()], init)
    }

    /// As [`Graph::linear`], with a weight that has the shape of a convolution's. A convolution whose stride is its kernel's
    /// size is a linear layer over patches.
    ///
    /// # Shapes
    /// - `x`: `[..., in]`; `weight`: `[out, ...]`, whose other axes together are `in`; returned: `[..., out]`
    ///
    /// # Errors
    /// When the weight does not fit `x`, `out` is 0 or a name is taken.
    pub fn linear_with_weight(
        &mut self,
        name: &str,
        x: NodeId,
        weight: impl Into<Shape>,
        init: LinearInit,
    ) -> Result<NodeId, GraphError> {
        let (shape, weight) = (self.shape(x).clone(), weight.into());
        let Some((&out_features, inner)) = weight.0.split_first() else {
            return Err(self.wrong_shape(name, &weight, "[out_features, ...]"));
        };
        if out_features == 0 {
            return Err(wrong_value(name, "out_features", 0, "at least 1"));
        }
        if shape.0.is_empty() || Shape(inner.to_vec()).len() != shape.features() {
            return Err(self.wrong_shape(name, &weight, format!("[out_features, ...] for {shape}")));
        }
        self.all_or_nothing(|graph| {
            let params = graph.weight_and_bias(name, weight, [out_features].into(), init)?;
            graph.push(name, Op::Linear, &[x], &params, shape.with_features(out_features))
        })
    }
}

impl Graph {
    /// Makes the parameters of a layer, `<name>.weight` and, where there is a rule for it, `<name>.bias`.
    pub(super) fn weight_and_bias(
        &mut self,
        name: &str,
        weight: Shape,
        bias: Shape,
        init: LinearInit,
    ) -> Result<Vec<ParamId>, GraphError> {
        let mut params = vec![self.new_parameter(&format!("{name}.weight"), weight, init.weight)?];
        if let Some(rule) = init.bias {
            params.push(self.new_parameter(&format!("{name}.bias"), bias, rule)?);
        }
        Ok(params)
    }
}

pub(super) fn differentiate(backward: &mut Backward, id: NodeId, dy: NodeId) {
    let Node { inputs, params, name, .. } = backward.node(id).clone();
    backward.push(&format!("{name}.param_grad"), Op::LinearParamGrad, &[dy, inputs[0]], &params, Shape(vec![0]));
    if backward.needs_gradient(inputs[0]) {
        let shape = backward.node(inputs[0]).shape.clone();
        let dx = backward.push(&format!("{name}.input_grad"), Op::LinearInputGrad, &[dy], &params[..1], shape);
        backward.add_gradient(inputs[0], dx);
    }
}

/// One multiply-add for each weight and row, and one addition for the bias.
pub(super) fn flops(graph: &Graph, node: &Node) -> u64 {
    node.shape.rows() as u64
        * node.params.iter().zip([2, 1]).map(|(&p, n)| n * graph.parameter(p).shape.len() as u64).sum::<u64>()
}

pub(super) fn input_grad_flops(graph: &Graph, node: &Node) -> u64 {
    2 * node.shape.rows() as u64 * graph.parameter(node.params[0]).shape.len() as u64
}

pub(super) fn param_grad_flops(graph: &Graph, node: &Node) -> u64 {
    let rows = graph.shape(node.inputs[0]).rows() as u64;
    rows * node.params.iter().zip([2, 1]).map(|(&p, n)| n * graph.parameter(p).shape.len() as u64).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scalar_has_no_axis_to_map() {
        let mut graph = Graph::new();
        let label = graph.input("label", []).expect("a new name");
        let error = graph.linear("fc", label, 3, LinearInit::pytorch(1)).expect_err("no axis");
        assert_eq!(error.to_string(), "shape [] does not fit, expected [..., in_features] (fc)");
    }

    #[test]
    fn a_weight_of_four_axes_must_have_the_features_of_its_input() {
        let mut graph = Graph::new();
        let patches = graph.input("patches", [5, 18]).expect("a new name");
        let init = LinearInit::pytorch(18);
        let y = graph.linear_with_weight("proj", patches, [7, 2, 3, 3], init).expect("2 x 3 x 3 features");
        assert_eq!(graph.node(y).shape.0, [5, 7]);
        assert_eq!(graph.parameter(graph.node(y).params[0]).shape.0, [7, 2, 3, 3]);
        let error = graph.linear_with_weight("other", patches, [7, 2, 3, 5], init).expect_err("30 features");
        assert_eq!(
            error.to_string(),
            "shape [7, 2, 3, 5] does not fit, expected [out_features, ...] for [5, 18] (other)"
        );
        assert_eq!(graph.parameters().len(), 2);
    }
}
