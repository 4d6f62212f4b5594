//! Operations that only move values: slices and joins along features or tokens, and other axes for the same values.

use crate::autodiff::Backward;
use crate::graph::{Graph, GraphError, Node, NodeId, Shape, wrong_value};
use crate::ops::Op;

impl Graph {
    /// Takes `len` neighboring features from `start` on.
    ///
    /// # Shapes
    /// - `x`: `[..., features]`; returned: `[..., len]`
    ///
    /// # Errors
    /// When the slice is empty or goes beyond the last feature.
    pub fn slice_features(&mut self, name: &str, x: NodeId, start: usize, len: usize) -> Result<NodeId, GraphError> {
        let shape = self.shape(x).clone();
        if shape.0.is_empty() {
            return Err(self.wrong_shape(name, &shape, "[..., features]"));
        }
        check_slice(name, "features", [start, len], shape.features(), &shape)?;
        self.push(name, Op::SliceFeatures { start }, &[x], &[], shape.with_features(len))
    }

    /// Takes `len` neighboring tokens from `start` on.
    ///
    /// # Shapes
    /// - `x`: `[tokens, features]`; returned: `[len, features]`
    ///
    /// # Errors
    /// When `x` has other axes, or the slice is empty or goes beyond the last token.
    pub fn slice_tokens(&mut self, name: &str, x: NodeId, start: usize, len: usize) -> Result<NodeId, GraphError> {
        let shape = self.shape(x).clone();
        if shape.0.len() != 2 {
            return Err(self.wrong_shape(name, &shape, "[tokens, features]"));
        }
        check_slice(name, "tokens", [start, len], shape.rows(), &shape)?;
        self.push(name, Op::SliceTokens { start }, &[x], &[], [len, shape.features()].into())
    }

    /// Concatenates the features of several values.
    ///
    /// # Shapes
    /// - `parts`: `[..., features]`, all but the last axis the same; returned: `[..., sum of features]`
    ///
    /// # Errors
    /// When there are no parts or their leading axes differ.
    pub fn concat_features(&mut self, name: &str, parts: &[NodeId]) -> Result<NodeId, GraphError> {
        let Some(&first) = parts.first() else {
            return Err(wrong_value(name, "number of parts", 0, "at least 1"));
        };
        let shape = self.shape(first).clone();
        if shape.0.is_empty() {
            return Err(self.wrong_shape(name, &shape, "[..., features]"));
        }
        for &part in parts {
            let found = self.shape(part);
            if found.0.len() != shape.0.len() || found.with_features(1) != shape.with_features(1) {
                return Err(self.wrong_shape(name, found, format!("the axes of {shape} but for the last")));
            }
        }
        let features = parts.iter().fold(0, |sum: usize, &part| sum.saturating_add(self.shape(part).features()));
        self.push(name, Op::ConcatFeatures, parts, &[], shape.with_features(features))
    }

    /// Reshapes a value; the order of its values stays.
    ///
    /// # Errors
    /// When the number of values differs.
    pub fn reshape(&mut self, name: &str, x: NodeId, shape: impl Into<Shape>) -> Result<NodeId, GraphError> {
        let (shape, found) = (shape.into(), self.shape(x));
        if shape.len() != found.len() {
            return Err(self.wrong_shape(name, found, format!("as many values as {shape}, {}", shape.len())));
        }
        self.push(name, Op::Reshape, &[x], &[], shape)
    }
}

fn check_slice(
    name: &str,
    key: &'static str,
    [start, len]: [usize; 2],
    of: usize,
    shape: &Shape,
) -> Result<(), GraphError> {
    if len == 0 || start.checked_add(len).is_none_or(|end| end > of) {
        let end = start.saturating_add(len);
        return Err(wrong_value(name, key, format!("{start}..{end}"), format!("a part of the {of} of {shape}")));
    }
    Ok(())
}

pub(super) fn differentiate_slice(backward: &mut Backward, id: NodeId, dy: NodeId, grad: Op) {
    let Node { inputs, name, .. } = backward.node(id).clone();
    let shape = backward.node(inputs[0]).shape.clone();
    let dx = backward.push(&format!("{name}.grad"), grad, &[dy], &[], shape);
    backward.add_gradient(inputs[0], dx);
}

pub(super) fn differentiate_concat(backward: &mut Backward, id: NodeId, dy: NodeId) {
    let Node { inputs, name, .. } = backward.node(id).clone();
    let mut start = 0;
    for (i, input) in inputs.into_iter().enumerate() {
        let shape = backward.node(input).shape.clone();
        let features = shape.features();
        if backward.needs_gradient(input) {
            let dx = backward.push(&format!("{name}.grad{i}"), Op::SliceFeatures { start }, &[dy], &[], shape);
            backward.add_gradient(input, dx);
        }
        start += features;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_whose_product_overflows_are_rejected() {
        let mut graph = Graph::new();
        let half = 1usize << (usize::BITS / 2);
        let x = graph.input("x", [half]).expect("a new name");
        // half * half + half wraps around to half.
        let error = graph.reshape("y", x, [half, half + 1]).expect_err("many");
        assert!(matches!(error, GraphError::Shape { .. }), "{error}");
        assert_eq!(Shape::from([half, half]).len(), usize::MAX);
        assert_eq!(Shape::from([half, half, 1]).rows(), usize::MAX);
    }

    #[test]
    fn errors_name_a_shape_that_fits() {
        let mut graph = Graph::new();
        let x = graph.input("x", [5, 7]).expect("a new name");
        let y = graph.input("y", [3, 7]).expect("a new name");
        let errors = [
            graph.slice_features("slice", x, 3, 5),
            graph.slice_tokens("slice", x, 5, 0),
            graph.concat_features("join", &[x, y]),
            graph.reshape("flat", x, [36]),
        ];
        let texts = errors.map(|error| error.expect_err("a misfit").to_string());
        let known = [
            "features 3..8 is not a part of the 7 of [5, 7] (slice)",
            "tokens 5..5 is not a part of the 5 of [5, 7] (slice)",
            "shape [3, 7] does not fit, expected the axes of [5, 7] but for the last (join)",
            "shape [5, 7] does not fit, expected as many values as [36], 36 (flat)",
        ];
        assert_eq!(texts, known);
    }
}
