//! Embeddings of integers, and parameters as values.

use crate::autodiff::Backward;
use crate::graph::{Graph, GraphError, Init, Node, NodeId, Shape, wrong_value};
use crate::ops::Op;

impl Graph {
    /// Looks up a trained vector for each integer; the table is named `<name>.weight`.
    ///
    /// # Shapes
    /// - `ids`: `[tokens]`, integers below `vocabulary`; returned: `[tokens, width]`
    ///
    /// # Errors
    /// When `ids` has other axes or is not an input, a number is 0 or the name is taken.
    pub fn embedding(
        &mut self,
        name: &str,
        ids: NodeId,
        vocabulary: usize,
        width: usize,
        init: Init,
    ) -> Result<NodeId, GraphError> {
        let shape = self.shape(ids).clone();
        if shape.0.len() != 1 || self.node(ids).op != Op::Input {
            return Err(self.wrong_shape(name, &shape, "an input of [tokens]"));
        }
        for (key, value) in [("vocabulary", vocabulary), ("width", width)] {
            if value == 0 {
                return Err(wrong_value(name, key, value, "at least 1"));
            }
        }
        self.all_or_nothing(|graph| {
            let table = graph.new_parameter(&format!("{name}.weight"), [vocabulary, width], init)?;
            graph.push(name, Op::Embedding, &[ids], &[table], [shape.len(), width].into())
        })
    }

    /// Adds a value that is a parameter, the same for each example; the parameter has the node's name.
    ///
    /// # Errors
    /// When an axis has length 0 or the name is taken.
    pub fn trained_constant(&mut self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<NodeId, GraphError> {
        let shape = shape.into();
        if shape.is_empty() {
            return Err(self.wrong_shape(name, &shape, "axes of at least 1"));
        }
        self.all_or_nothing(|graph| {
            let param = graph.new_parameter(name, shape.clone(), init)?;
            graph.push(name, Op::TrainedConstant, &[], &[param], shape)
        })
    }
}

pub(super) fn differentiate(backward: &mut Backward, id: NodeId, dy: NodeId) {
    let Node { inputs, params, name, .. } = backward.node(id).clone();
    backward.push(&format!("{name}.grad"), Op::EmbeddingGrad, &[dy, inputs[0]], &params, Shape(vec![0]));
}

pub(super) fn differentiate_constant(backward: &mut Backward, id: NodeId, dy: NodeId) {
    let Node { params, name, .. } = backward.node(id).clone();
    backward.push(&format!("{name}.grad"), Op::AddTableGrad, &[dy], &params, Shape(vec![0]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_to_look_up_are_given_not_computed() {
        let mut graph = Graph::new();
        let x = graph.input("x", [5]).expect("a new name");
        let y = graph.scale("twice", x, 2.0).expect("a number");
        let error = graph.embedding("embed", y, 11, 3, Init::Constant(0.0)).expect_err("computed numbers");
        assert_eq!(error.to_string(), "shape [5] does not fit, expected an input of [tokens] (embed)");
        let known = graph.embedding("embed", x, 11, 3, Init::Constant(0.0)).expect("it fits");
        assert_eq!(graph.node(known).shape.0, [5, 3]);
    }
}
