//! Chooses the layers that are cut by columns, and emits the calls for them.
//!
//! Nothing is fused into these calls: their activations are small compared with their weights, so it would save little.

use super::super::program::{Call, Wide};
use super::Lowering;
use crate::graph::{Graph, Node, NodeId};
use crate::ops::Op;
use crate::session::WideRule;

/// Returns for each parameter whether it is the weight of a layer that is cut by columns.
///
/// Such a layer shares its parameters with no other, so that each gradient has one source.
pub(in crate::cpu) fn wide_weights(graph: &Graph, rule: &WideRule) -> Vec<bool> {
    let mut wide = vec![false; graph.parameters().len()];
    for node in graph.nodes().iter().filter(|node| is_candidate(node)) {
        let weight = graph.parameter(node.params[0]).shape.len();
        let values = graph.shape(node.inputs[0]).len() + node.shape.len();
        let alone = node.params.iter().all(|param| {
            let readers = graph.nodes().iter().filter(|other| other.params.contains(param));
            readers.filter(|other| !is_gradient(other)).count() == 1
        });
        wide[node.params[0].index()] =
            alone && weight >= rule.min_values && weight >= rule.min_values_per_activation.saturating_mul(values);
    }
    let sizes = graph.parameters().iter().zip(&wide).filter(|(_, wide)| **wide).map(|(param, _)| param.shape.len());
    if (sizes.sum::<usize>() as f64) < rule.min_fraction * graph.parameter_count() as f64 {
        wide.fill(false);
    }
    wide
}

/// The operations that can be cut by columns; the first parameter is the weight.
fn is_candidate(node: &Node) -> bool {
    matches!(node.op, Op::Linear | Op::Conv2d(_))
}

/// The gradients of such operations.
fn is_gradient(node: &Node) -> bool {
    let linear = matches!(node.op, Op::LinearInputGrad | Op::LinearParamGrad);
    linear || matches!(node.op, Op::Conv2dInputGrad(_) | Op::Conv2dParamGrad(_))
}

impl Lowering<'_> {
    pub(super) fn wide_linear(&mut self, id: NodeId) {
        let node = self.node(id);
        let in_features = self.node(self.input(id, 0)).shape.features();
        let (rows, size) = (node.shape.rows(), [node.shape.features(), in_features]);
        let bias = node.params.get(1).map(|bias| bias.index());
        let (x, out) = (self.slot(id, 0), self.value_slot(id));
        self.emit(Call::Wide(Wide::Product { x, out, weight: node.params[0].index(), bias, rows, size }), &[id]);
    }

    pub(super) fn wide_input_grad(&mut self, id: NodeId) {
        let node = self.node(id);
        let out_features = self.node(self.input(id, 0)).shape.features();
        let (rows, size) = (node.shape.rows(), [out_features, node.shape.features()]);
        let (dy, out) = (self.slot(id, 0), self.value_slot(id));
        self.emit(Call::Wide(Wide::InputGrad { dy, out, weight: node.params[0].index(), rows, size }), &[id]);
    }

    /// The gradients of weight and bias, as late calls at the program's end.
    pub(super) fn wide_param_grad(&mut self, id: NodeId) {
        let node = self.node(id);
        let dy_shape = &self.node(self.input(id, 0)).shape;
        let (rows, len) = (dy_shape.rows(), dy_shape.features());
        let size = [len, self.node(self.input(id, 1)).shape.features()];
        let (dy, x) = (self.slot(id, 0), self.slot(id, 1));
        let weight = node.params[0].index();
        self.late.push((id, Call::Wide(Wide::WeightGrad { dy, x, weight, rows, size })));
        if let Some(bias) = node.params.get(1) {
            self.late.push((id, Call::Wide(Wide::BiasGrad { dy, bias: bias.index(), rows, len })));
        }
    }

    /// Puts the late calls at the program's end.
    pub(super) fn emit_late(&mut self) {
        for (id, call) in std::mem::take(&mut self.late) {
            self.emit(call, &[id]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::LinearInit;

    /// Three layers: 30 to 50, 50 to 70, 70 to 2.
    fn wide(rule: &WideRule) -> Vec<bool> {
        let mut graph = Graph::new();
        let mut x = graph.input("x", [30]).expect("a new name");
        for (name, out) in [("a", 50), ("b", 70), ("c", 2)] {
            let fan_in = graph.node(x).shape.features();
            x = graph.linear(name, x, out, LinearInit::pytorch(fan_in)).expect("it fits");
        }
        let weights = wide_weights(&graph, rule);
        ["a.weight", "b.weight", "c.weight"]
            .map(|name| weights[graph.find_parameter(name).expect("its").index()])
            .into()
    }

    #[test]
    fn a_weight_is_wide_when_it_is_long_outweighs_its_values_and_makes_up_the_model() {
        assert_eq!(
            wide(&WideRule { min_values: 1500, min_values_per_activation: 0, min_fraction: 0.0 }),
            [true, true, false]
        );
        assert_eq!(
            wide(&WideRule { min_values: 1501, min_values_per_activation: 0, min_fraction: 0.0 }),
            [false, true, false]
        );
        // 1500 weights for 80 values, 3500 for 120, 140 for 72.
        assert_eq!(
            wide(&WideRule { min_values: 0, min_values_per_activation: 19, min_fraction: 0.0 }),
            [false, true, false]
        );
        assert_eq!(
            wide(&WideRule { min_values: 0, min_values_per_activation: 1, min_fraction: 0.0 }),
            [true, true, true]
        );
        // 3500 of 5262 trained values.
        assert_eq!(
            wide(&WideRule { min_values: 1501, min_values_per_activation: 0, min_fraction: 0.66 }),
            [false, true, false]
        );
        assert_eq!(
            wide(&WideRule { min_values: 1501, min_values_per_activation: 0, min_fraction: 0.67 }),
            [false, false, false]
        );
        assert_eq!(wide(&WideRule::default()), [false, false, false]);
    }
}
