//! Reverse-mode differentiation: from a model graph and its loss to a training graph.
//!
//! The training graph is the model graph followed by the nodes that compute gradients, made by each operation's
//! own rule. Sums of gradients are ordinary additions, so that one reader understands all of it.

use crate::graph::{Graph, Node, NodeId, ParamId, Shape};
use crate::ops::{self, Op};

/// A graph that also computes the gradient of a step's loss with respect to every parameter.
#[derive(Clone, Debug)]
pub struct TrainingGraph {
    /// The model's nodes, unchanged, then the gradients' nodes.
    pub graph: Graph,
    /// Number of nodes that are the model's.
    pub forward_len: usize,
    /// For each node after these the node of the model whose gradient rule made it, or whose gradient it sums.
    pub gradient_of: Vec<NodeId>,
}

/// Builds the training graph of a cross-entropy loss.
///
/// Parameters that the loss does not depend on get no gradient node: their gradient is zero.
///
/// # Panics
/// When `loss` is not a cross-entropy node.
pub fn differentiate(graph: &Graph, loss: NodeId) -> TrainingGraph {
    let node = graph.node(loss);
    let grad = match node.op {
        Op::CrossEntropy { smoothing } => Op::CrossEntropyGrad { smoothing },
        Op::CrossEntropyTokens { smoothing } => Op::CrossEntropyTokensGrad { smoothing },
        _ => panic!("`{}` is not a cross-entropy loss", node.name),
    };
    let logits = node.inputs[0];
    let forward_len = graph.nodes().len();
    let mut backward = Backward {
        graph: graph.clone(),
        needs_gradient: needs_gradient(graph),
        gradients: vec![None; forward_len],
        rule: loss,
        gradient_of: Vec::new(),
    };
    if backward.needs_gradient[logits.0] {
        let shape = graph.shape(logits).clone();
        let dy = backward.push(&format!("{}.grad", node.name), grad, &node.inputs, &[], shape);
        backward.add_gradient(logits, dy);
    }
    for id in graph.ids().rev() {
        if let Some(dy) = backward.gradients[id.0] {
            backward.rule = id;
            ops::differentiate(&mut backward, id, dy);
        }
    }
    TrainingGraph { graph: backward.graph, forward_len, gradient_of: backward.gradient_of }
}

/// A node needs a gradient when it depends on a parameter.
fn needs_gradient(graph: &Graph) -> Vec<bool> {
    let mut needs = Vec::with_capacity(graph.nodes().len());
    for node in graph.nodes() {
        let behind = node.inputs.iter().any(|input| needs[input.0]);
        needs.push(behind || !node.params.is_empty());
    }
    needs
}

/// The training graph while it is being built; what the gradient rules write to.
pub(crate) struct Backward {
    graph: Graph,
    needs_gradient: Vec<bool>,
    gradients: Vec<Option<NodeId>>,
    /// The node whose rule is at work.
    rule: NodeId,
    gradient_of: Vec<NodeId>,
}

impl Backward {
    pub(crate) fn node(&self, id: NodeId) -> &Node {
        self.graph.node(id)
    }

    pub(crate) fn needs_gradient(&self, id: NodeId) -> bool {
        self.needs_gradient[id.0]
    }

    /// Adds a node that computes a gradient.
    pub(crate) fn push(&mut self, name: &str, op: Op, inputs: &[NodeId], params: &[ParamId], shape: Shape) -> NodeId {
        // A node of the model may be called as a gradient would be.
        let mut unique = name.to_string();
        while self.graph.find(&unique).is_some() {
            unique.push('\'');
        }
        self.gradient_of.push(self.rule);
        self.graph
            .push(&unique, op, inputs, params, shape)
            .expect("the name is free, and the shape that of a known value")
    }

    /// Adds `gradient` to what is known of the gradient of node `of`.
    pub(crate) fn add_gradient(&mut self, of: NodeId, gradient: NodeId) {
        let sum = match self.gradients[of.0] {
            None => gradient,
            Some(known) => {
                let shape = self.node(of).shape.clone();
                let name = format!("{}.grad_sum.{}", self.node(of).name, self.graph.nodes().len());
                let sum = self.push(&name, Op::Add, &[known, gradient], &[], shape);
                *self.gradient_of.last_mut().expect("the sum was pushed") = of;
                sum
            }
        };
        self.gradients[of.0] = Some(sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Activation;

    #[test]
    fn a_node_may_be_called_as_a_gradient_would_be() {
        let mut graph = Graph::new();
        let x = graph.input("x", [3]).unwrap();
        let mut y = graph.linear("fc", x, 5, ops::LinearInit::pytorch(3)).unwrap();
        for name in ["fc.param_grad", "fc.grad", "loss.grad"] {
            y = graph.activation(name, y, Activation::Relu).unwrap();
        }
        let label = graph.input("label", []).unwrap();
        let loss = graph.cross_entropy("loss", y, label, 0.0).unwrap();
        let training = differentiate(&graph, loss);
        let gradient = training.graph.find("fc.param_grad'").expect("the name was taken");
        assert_eq!(training.gradient_of[gradient.0 - training.forward_len], graph.find("fc").unwrap());
    }
}
