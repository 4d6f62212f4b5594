//! Batch norm: `(x - mean) / sqrt(variance + eps) * weight + bias`, channel by channel, with mean and variance over all
//! pixels of all images of a step while training, and over what training has seen in inference.
//! Source: Ioffe and Szegedy 2015; as in PyTorch the variance that normalizes divides by n, the one that is kept by
//! n - 1.

use crate::autodiff::Backward;
use crate::graph::{Graph, GraphError, Init, Node, NodeId, wrong_value};
use crate::ops::{Op, group_norm};

impl Graph {
    /// Normalizes channels over the images of a step.
    ///
    /// The parameters are named `<name>.weight` and `<name>.bias`; the statistics for inference, `<name>.running_mean`
    /// and `<name>.running_var`, move by the fraction `momentum` towards those of each step. Without a momentum they stay
    /// as they are and normalize in training too, as PyTorch's layer in evaluation mode.
    ///
    /// # Shapes
    /// - `map`: `[..., channels]`, and the same is returned; parameters and statistics `[channels]`
    ///
    /// # Errors
    /// When the input is a scalar, `eps` is not positive, `momentum` is outside [0, 1] or a name is taken.
    pub fn batch_norm(
        &mut self,
        name: &str,
        map: NodeId,
        eps: f32,
        momentum: impl Into<Option<f32>>,
    ) -> Result<NodeId, GraphError> {
        let momentum = momentum.into();
        let shape = self.shape(map).clone();
        if shape.0.is_empty() {
            return Err(self.wrong_shape(name, &shape, "[..., channels]"));
        }
        group_norm::check_eps(name, eps)?;
        if let Some(momentum) = momentum.filter(|momentum| !(0.0..=1.0).contains(momentum)) {
            return Err(wrong_value(name, "momentum", momentum, "in [0, 1]"));
        }
        let channels = [shape.features()];
        self.all_or_nothing(|graph| {
            let params = [
                graph.new_parameter(&format!("{name}.weight"), channels, Init::Constant(1.0))?,
                graph.new_parameter(&format!("{name}.bias"), channels, Init::Constant(0.0))?,
                graph.new_statistic(&format!("{name}.running_mean"), channels, Init::Constant(0.0))?,
                graph.new_statistic(&format!("{name}.running_var"), channels, Init::Constant(1.0))?,
            ];
            graph.push(name, Op::BatchNorm { eps, momentum }, &[map], &params, shape)
        })
    }
}

pub(super) fn differentiate(backward: &mut Backward, id: NodeId, dy: NodeId, eps: f32, frozen: bool) {
    let Node { inputs, params, name, shape, .. } = backward.node(id).clone();
    let op = Op::BatchNormGrad { eps, frozen };
    let params = if frozen { &params[..] } else { &params[..2] };
    let dx = backward.push(&format!("{name}.grad"), op, &[dy, inputs[0]], params, shape);
    if backward.needs_gradient(inputs[0]) {
        backward.add_gradient(inputs[0], dx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_kept_but_not_trained() {
        let mut graph = Graph::new();
        let map = graph.input("map", [2, 3, 5]).expect("a new name");
        graph.batch_norm("norm", map, 1e-5, 0.1).expect("it fits");
        assert_eq!(graph.parameters().len(), 4);
        assert_eq!(graph.parameter_count(), 10);
        let error = graph.batch_norm("norm2", map, 1e-5, 1.5).expect_err("more than all");
        assert_eq!(error.to_string(), "momentum 1.5 is not in [0, 1] (norm2)");
    }
}
