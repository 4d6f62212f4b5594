//! Projections of each head on its own: head h maps its columns, and no others, by its own square matrices.
//! With `count` 3 the result is laid out as a fused `qkv`.

use crate::autodiff::Backward;
use crate::graph::{Graph, GraphError, Node, NodeId, Shape, wrong_value};
use crate::ops::{LinearInit, Op};

impl Graph {
    /// Maps each head's columns `count` times; the parameters are named `<name>.weight` and `<name>.bias`.
    ///
    /// # Shapes
    /// - `x`: `[..., embed_dim]`; returned: `[..., count * embed_dim]`
    /// - weight: `[count, heads, head_dim, head_dim]` (out, in); bias: `[count, heads, head_dim]`
    ///
    /// # Errors
    /// When the width is not a multiple of `heads`, a number is 0 or a name is taken.
    pub fn per_head_linear(
        &mut self,
        name: &str,
        x: NodeId,
        heads: usize,
        count: usize,
        init: LinearInit,
    ) -> Result<NodeId, GraphError> {
        let shape = self.shape(x).clone();
        for (key, value) in [("heads", heads), ("count", count)] {
            if value == 0 {
                return Err(wrong_value(name, key, value, "at least 1"));
            }
        }
        if shape.0.is_empty() || !shape.features().is_multiple_of(heads) {
            let expected = format!("[..., embed_dim] with embed_dim a multiple of {heads} heads");
            return Err(self.wrong_shape(name, &shape, expected));
        }
        let width = shape.features() / heads;
        let out = shape.with_features(count.saturating_mul(shape.features()));
        self.all_or_nothing(|graph| {
            let (weight, bias) = ([count, heads, width, width].into(), [count, heads, width].into());
            let params = graph.weight_and_bias(name, weight, bias, init)?;
            graph.push(name, Op::PerHeadLinear { heads, count }, &[x], &params, out)
        })
    }
}

pub(super) fn differentiate(backward: &mut Backward, id: NodeId, dy: NodeId, heads: usize, count: usize) {
    let Node { inputs, params, name, .. } = backward.node(id).clone();
    let op = Op::PerHeadLinearParamGrad { heads, count };
    backward.push(&format!("{name}.param_grad"), op, &[dy, inputs[0]], &params, Shape(vec![0]));
    if backward.needs_gradient(inputs[0]) {
        let shape = backward.node(inputs[0]).shape.clone();
        let op = Op::PerHeadLinearInputGrad { heads, count };
        let dx = backward.push(&format!("{name}.input_grad"), op, &[dy], &params[..1], shape);
        backward.add_gradient(inputs[0], dx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_those_of_the_heads_only() {
        let mut graph = Graph::new();
        let x = graph.input("x", [5, 21]).expect("a new name");
        let y = graph.per_head_linear("qkv", x, 7, 2, LinearInit::pytorch(3)).expect("it fits");
        assert_eq!(graph.node(y).shape.0, [5, 42]);
        assert_eq!(graph.parameter_count(), 2 * 7 * 3 * (3 + 1));
        let error = graph.per_head_linear("other", x, 5, 2, LinearInit::pytorch(3)).expect_err("21 / 5");
        let text = "shape [5, 21] does not fit, expected [..., embed_dim] with embed_dim a multiple of 5 heads (other)";
        assert_eq!(error.to_string(), text);
    }
}
