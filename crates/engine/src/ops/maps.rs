//! The two orders of an image's values: `[channels, height, width]`, as images and PyTorch's flattened maps are,
//! and `[height, width, channels]`, as maps are between the operations of a convolutional network.

use crate::autodiff::Backward;
use crate::graph::{Graph, GraphError, Node, NodeId};
use crate::ops::Op;

impl Graph {
    /// Converts an image to a map.
    ///
    /// # Shapes
    /// - `image`: `[channels, height, width]`; returned: `[height, width, channels]`
    ///
    /// # Errors
    /// When the image has other axes.
    pub fn channels_last(&mut self, name: &str, image: NodeId) -> Result<NodeId, GraphError> {
        let shape = self.shape(image).clone();
        let &[channels, height, width] = shape.0.as_slice() else {
            return Err(self.wrong_shape(name, &shape, "[channels, height, width]"));
        };
        self.push(name, Op::ChannelsLast, &[image], &[], [height, width, channels].into())
    }

    /// Flattens a map in the order in which PyTorch flattens `[channels, height, width]`.
    ///
    /// # Shapes
    /// - `map`: `[height, width, channels]`; returned: `[channels * height * width]`
    ///
    /// # Errors
    /// When the map has other axes.
    pub fn channels_first_flat(&mut self, name: &str, map: NodeId) -> Result<NodeId, GraphError> {
        let len = self.map_axes(name, map)?.iter().product::<usize>();
        self.push(name, Op::ChannelsFirst, &[map], &[], [len].into())
    }
}

/// The gradient of each conversion is the other one.
pub(super) fn differentiate(backward: &mut Backward, id: NodeId, dy: NodeId) {
    let Node { inputs, name, op, .. } = backward.node(id).clone();
    if backward.needs_gradient(inputs[0]) {
        let shape = backward.node(inputs[0]).shape.clone();
        let back = if op == Op::ChannelsLast { Op::ChannelsFirst } else { Op::ChannelsLast };
        let dx = backward.push(&format!("{name}.grad"), back, &[dy], &[], shape);
        backward.add_gradient(inputs[0], dx);
    }
}

/// Channels and pixels of a change of order: the map is the operand with three axes; where both have, the one with
/// channels last is known by the operation.
pub(crate) fn channels_and_pixels(graph: &Graph, node: &Node) -> [usize; 2] {
    let input = graph.shape(node.inputs[0]);
    let map = if node.op == Op::ChannelsLast { &node.shape } else { input };
    [map.features(), map.rows()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_three_axes() {
        let mut graph = Graph::new();
        let x = graph.input("x", [5, 7]).expect("a new name");
        let error = graph.channels_last("map", x).expect_err("two axes");
        assert_eq!(error.to_string(), "shape [5, 7] does not fit, expected [channels, height, width] (map)");
        let error = graph.channels_first_flat("flat", x).expect_err("two axes");
        assert_eq!(error.to_string(), "shape [5, 7] does not fit, expected [height, width, channels] (flat)");
    }
}
