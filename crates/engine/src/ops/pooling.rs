//! Pooling of maps `[height, width, channels]`: the largest value of a window, or the mean, as in PyTorch.

use crate::autodiff::Backward;
use crate::graph::{Graph, GraphError, Node, NodeId, wrong_value};
use crate::ops::Op;

/// Sizes of a pooling with a square window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pool {
    /// Height and width of the window, in pixels.
    pub kernel: usize,
    /// Stride, in pixels.
    pub stride: usize,
    /// Rows and columns of padding on each side of the map: never the maximum, but zeros that count in a mean.
    pub padding: usize,
}

impl Pool {
    /// Windows that do not overlap.
    pub fn new(kernel: usize) -> Self {
        Pool { kernel, stride: kernel, padding: 0 }
    }

    /// Values of a window.
    pub(crate) fn window(self) -> usize {
        self.kernel * self.kernel
    }
}

impl Graph {
    /// Takes the largest value of each window, channel by channel; the gradient goes to the first of equals.
    ///
    /// # Shapes
    /// - `map`: `[height, width, channels]`; returned: `[out_height, out_width, channels]` with
    ///   `out_height = (height + 2 padding - kernel) / stride + 1`, rounded down
    ///
    /// # Errors
    /// When the map has other axes, the window does not fit, a size is 0 or the padding is over half the window.
    pub fn max_pool2d(&mut self, name: &str, map: NodeId, pool: Pool) -> Result<NodeId, GraphError> {
        self.pool(name, map, pool, Op::MaxPool2d(pool))
    }

    /// Takes the mean of each window, channel by channel; padding counts as zeros.
    ///
    /// # Shapes
    /// As for [`Graph::max_pool2d`].
    ///
    /// # Errors
    /// As for [`Graph::max_pool2d`].
    pub fn avg_pool2d(&mut self, name: &str, map: NodeId, pool: Pool) -> Result<NodeId, GraphError> {
        self.pool(name, map, pool, Op::AvgPool2d(pool))
    }

    /// Takes the mean over all pixels.
    ///
    /// # Shapes
    /// - `map`: `[height, width, channels]`; returned: `[channels]`
    ///
    /// # Errors
    /// When the map has other axes.
    pub fn global_avg_pool(&mut self, name: &str, map: NodeId) -> Result<NodeId, GraphError> {
        let [.., channels] = self.map_axes(name, map)?;
        self.push(name, Op::MeanTokens, &[map], &[], [channels].into())
    }

    fn pool(&mut self, name: &str, map: NodeId, pool: Pool, op: Op) -> Result<NodeId, GraphError> {
        let axes = self.map_axes(name, map)?;
        let Pool { kernel, stride, padding } = pool;
        self.check_window(name, kernel, stride)?;
        if padding > kernel / 2 {
            let expected = format!("at most {}, half of kernel {kernel}", kernel / 2);
            return Err(wrong_value(name, "padding", padding, expected));
        }
        let [height, width] = self.window_places(name, axes, kernel, stride, padding)?;
        self.push(name, op, &[map], &[], [height, width, axes[2]].into())
    }
}

/// The gradient of max pooling needs the input, that of the mean does not.
pub(super) fn differentiate(backward: &mut Backward, id: NodeId, dy: NodeId) {
    let Node { inputs, name, op, .. } = backward.node(id).clone();
    if !backward.needs_gradient(inputs[0]) {
        return;
    }
    let shape = backward.node(inputs[0]).shape.clone();
    let (op, of) = match op {
        Op::MaxPool2d(pool) => (Op::MaxPool2dGrad(pool), vec![dy, inputs[0]]),
        Op::AvgPool2d(pool) => (Op::AvgPool2dGrad(pool), vec![dy]),
        op => unreachable!("{} is not a pooling operation", op.name()),
    };
    let dx = backward.push(&format!("{name}.grad"), op, &of, &[], shape);
    backward.add_gradient(inputs[0], dx);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_at_the_end_that_do_not_fit_are_left_out() {
        let mut graph = Graph::new();
        let map = graph.input("map", [7, 5, 3]).expect("a new name");
        let y = graph.max_pool2d("pool", map, Pool::new(2)).expect("it fits");
        assert_eq!(graph.node(y).shape, [3, 2, 3].into());
        let y = graph.avg_pool2d("mean", map, Pool { kernel: 3, stride: 2, padding: 1 }).expect("it fits");
        assert_eq!(graph.node(y).shape, [4, 3, 3].into());
    }

    #[test]
    fn a_window_larger_than_the_map_and_too_much_padding_are_rejected() {
        let mut graph = Graph::new();
        let map = graph.input("map", [1, 2, 3]).expect("a new name");
        let error = graph.max_pool2d("pool", map, Pool::new(2)).expect_err("one row");
        assert_eq!(
            error.to_string(),
            "shape [1, 2, 3] does not fit, expected at least [2, 2, 3] for kernel 2 with padding 0 (pool)"
        );
        let pool = Pool { kernel: 3, stride: 1, padding: 2 };
        let error = graph.avg_pool2d("pool", map, pool).expect_err("two of three");
        assert_eq!(error.to_string(), "padding 2 is not at most 1, half of kernel 3 (pool)");
    }
}
