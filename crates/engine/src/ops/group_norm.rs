//! Group norm: `(x - mean) / sqrt(variance + eps) * weight + bias`, with mean and variance over all pixels of a group
//! of channels of one image. Source: Wu and He 2018; the variance divides by n, as in PyTorch.

use crate::autodiff::Backward;
use crate::graph::{Graph, GraphError, Node, NodeId, wrong_value};
use crate::ops::Op;

impl Graph {
    /// Normalizes groups of channels; the parameters are named `<name>.weight` and `<name>.bias`.
    ///
    /// # Shapes
    /// - `map`: `[..., channels]`, and the same is returned; both parameters `[channels]`
    ///
    /// # Errors
    /// When the groups do not divide the channels, `eps` is not positive or a name is taken.
    pub fn group_norm(&mut self, name: &str, map: NodeId, groups: usize, eps: f32) -> Result<NodeId, GraphError> {
        let shape = self.shape(map).clone();
        if shape.0.is_empty() {
            return Err(self.wrong_shape(name, &shape, "[..., channels]"));
        }
        let channels = shape.features();
        if groups == 0 || !channels.is_multiple_of(groups) {
            return Err(wrong_value(name, "groups", groups, format!("a divisor of {channels} channels")));
        }
        check_eps(name, eps)?;
        self.all_or_nothing(|graph| {
            let params = graph.layer_norm_parameters(name, channels)?;
            graph.push(name, Op::GroupNorm { groups, eps }, &[map], &params, shape)
        })
    }
}

pub(super) fn check_eps(name: &str, eps: f32) -> Result<(), GraphError> {
    if eps <= 0.0 || !eps.is_finite() { Err(wrong_value(name, "eps", eps, "a positive number")) } else { Ok(()) }
}

pub(super) fn differentiate(backward: &mut Backward, id: NodeId, dy: NodeId, groups: usize, eps: f32) {
    let Node { inputs, params, name, shape, .. } = backward.node(id).clone();
    let op = Op::GroupNormGrad { groups, eps };
    let dx = backward.push(&format!("{name}.grad"), op, &[dy, inputs[0]], &params, shape);
    if backward.needs_gradient(inputs[0]) {
        backward.add_gradient(inputs[0], dx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_divide_the_channels() {
        let mut graph = Graph::new();
        let map = graph.input("map", [2, 3, 5]).expect("a new name");
        let error = graph.group_norm("norm", map, 2, 1e-5).expect_err("five channels");
        assert_eq!(error.to_string(), "groups 2 is not a divisor of 5 channels (norm)");
    }
}
