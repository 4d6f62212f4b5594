//! The 2-D convolution (strictly, cross-correlation) of a map `[height, width, channels]`, as in PyTorch but for the
//! order of the map's axes: a product sums over channels, so they are neighbors in memory. The weight keeps
//! PyTorch's axes, `[out, in / groups, kernel, kernel]`.

use crate::autodiff::Backward;
use crate::graph::{Graph, GraphError, Node, NodeId, Shape, wrong_value};
use crate::ops::{LinearInit, Op};

/// Sizes of a convolution with a square kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Convolution {
    /// Channels of the result.
    pub out_channels: usize,
    /// Height and width of the kernel, in pixels.
    pub kernel: usize,
    /// Stride, in pixels.
    pub stride: usize,
    /// Rows and columns of zero padding on each side of the map.
    pub padding: usize,
    /// Number of groups of channels; a group's outputs depend only on its own channels.
    pub groups: usize,
}

impl Convolution {
    /// A convolution of stride 1 without padding and groups.
    pub fn new(out_channels: usize, kernel: usize) -> Self {
        Convolution { out_channels, kernel, stride: 1, padding: 0, groups: 1 }
    }

    /// The same with zeros around the map.
    #[must_use]
    pub fn padding(self, padding: usize) -> Self {
        Convolution { padding, ..self }
    }

    /// The same with another stride.
    #[must_use]
    pub fn stride(self, stride: usize) -> Self {
        Convolution { stride, ..self }
    }

    /// The same with channels cut into groups.
    #[must_use]
    pub fn groups(self, groups: usize) -> Self {
        Convolution { groups, ..self }
    }

    /// The fan-in of initialization rules: the number of values that each result sums.
    pub fn fan_in(self, in_channels: usize) -> usize {
        (in_channels / self.groups).saturating_mul(self.kernel).saturating_mul(self.kernel)
    }

    /// Whether this is a linear layer applied to each pixel.
    fn is_linear(self) -> bool {
        self.kernel == 1 && self.stride == 1 && self.padding == 0 && self.groups == 1
    }
}

/// Places of a kernel along an axis; none when it does not fit. No axis and no padding is over [`Shape::LEN_MAX`].
pub(super) fn places(len: usize, kernel: usize, stride: usize, padding: usize) -> Option<usize> {
    Some((len + 2 * padding).checked_sub(kernel)? / stride + 1)
}

impl Graph {
    /// Applies a convolution; its parameters are named `<name>.weight` and `<name>.bias`.
    ///
    /// A kernel of one pixel at stride 1, without padding and groups, becomes a linear layer.
    ///
    /// # Shapes
    /// - `map`: `[height, width, in_channels]`; returned: `[out_height, out_width, out_channels]` with
    ///   `out_height = (height + 2 padding - kernel) / stride + 1`, rounded down; the weight:
    ///   `[out_channels, in_channels / groups, kernel, kernel]`
    ///
    /// # Errors
    /// When the map has other axes, the kernel does not fit, groups do not divide the channels, a size is 0 or too large,
    /// or a name is taken.
    pub fn conv2d(
        &mut self,
        name: &str,
        map: NodeId,
        convolution: Convolution,
        init: LinearInit,
    ) -> Result<NodeId, GraphError> {
        let [height, width, channels] = self.map_axes(name, map)?;
        let Convolution { out_channels, kernel, stride, padding, groups } = convolution;
        if out_channels == 0 {
            return Err(wrong_value(name, "out_channels", 0, "at least 1"));
        }
        self.check_window(name, kernel, stride)?;
        if groups == 0 || !channels.is_multiple_of(groups) || !out_channels.is_multiple_of(groups) {
            let expected = format!("a divisor of {channels} input channels and {out_channels} output channels");
            return Err(wrong_value(name, "groups", groups, expected));
        }
        let [out_height, out_width] = self.window_places(name, [height, width, channels], kernel, stride, padding)?;
        let shape: Shape = [out_height, out_width, out_channels].into();
        // Their places are kept as 32-bit numbers.
        if [height.saturating_mul(width), out_height.saturating_mul(out_width)].iter().any(|&n| n > u32::MAX as usize) {
            return Err(GraphError::TooLarge { name: name.to_string(), shape });
        }
        self.all_or_nothing(|graph| {
            let weight = [out_channels, channels / groups, kernel, kernel].into();
            let params = graph.weight_and_bias(name, weight, [out_channels].into(), init)?;
            let op = if convolution.is_linear() { Op::Linear } else { Op::Conv2d(convolution) };
            graph.push(name, op, &[map], &params, shape)
        })
    }

    /// The axes of a map.
    pub(super) fn map_axes(&self, name: &str, map: NodeId) -> Result<[usize; 3], GraphError> {
        let shape = self.shape(map);
        match *shape.0.as_slice() {
            [height, width, channels] => Ok([height, width, channels]),
            _ => Err(self.wrong_shape(name, shape, "[height, width, channels]")),
        }
    }

    pub(super) fn check_window(&self, name: &str, kernel: usize, stride: usize) -> Result<(), GraphError> {
        for (key, value) in [("kernel", kernel), ("stride", stride)] {
            if value == 0 {
                return Err(wrong_value(name, key, value, "at least 1"));
            }
            // A window's values are counted.
            if value > Shape::LEN_MAX.isqrt() {
                return Err(wrong_value(name, key, value, format!("at most {}", Shape::LEN_MAX.isqrt())));
            }
        }
        Ok(())
    }

    /// Places of a window along height and width.
    pub(super) fn window_places(
        &self,
        name: &str,
        [height, width, channels]: [usize; 3],
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Result<[usize; 2], GraphError> {
        if padding > Shape::LEN_MAX {
            return Err(wrong_value(name, "padding", padding, format!("at most {}", Shape::LEN_MAX)));
        }
        let along = |len| places(len, kernel, stride, padding);
        match (along(height), along(width)) {
            (Some(height), Some(width)) => Ok([height, width]),
            _ => {
                let least = kernel - 2 * padding;
                let why = format!("at least [{least}, {least}, {channels}] for kernel {kernel} with padding {padding}");
                Err(self.wrong_shape(name, &[height, width, channels].into(), why))
            }
        }
    }
}

impl Convolution {
    pub(super) fn differentiate(self, backward: &mut Backward, id: NodeId, dy: NodeId) {
        let Node { inputs, params, name, .. } = backward.node(id).clone();
        let op = Op::Conv2dParamGrad(self);
        backward.push(&format!("{name}.param_grad"), op, &[dy, inputs[0]], &params, Shape(vec![0]));
        if backward.needs_gradient(inputs[0]) {
            let shape = backward.node(inputs[0]).shape.clone();
            let op = Op::Conv2dInputGrad(self);
            let dx = backward.push(&format!("{name}.input_grad"), op, &[dy], &params[..1], shape);
            backward.add_gradient(inputs[0], dx);
        }
    }
}

/// One multiply-add for each weight and pixel of the result, those with zeros of the padding counted too, and one
/// addition for the bias; `pixels` is a node whose shape has the result's pixels.
pub(super) fn flops(graph: &Graph, node: &Node, pixels: &Shape) -> u64 {
    let of = |(&param, n)| n * graph.parameter(param).shape.len() as u64;
    pixels.rows() as u64 * node.params.iter().zip([2, 1]).map(of).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(shape: &[usize], convolution: Convolution) -> String {
        let mut graph = Graph::new();
        let map = graph.input("map", shape).expect("a new name");
        graph.conv2d("conv", map, convolution, LinearInit::pytorch(1)).expect_err("it does not fit").to_string()
    }

    #[test]
    fn sizes_follow_the_formula_and_weights_have_pytorchs_axes() {
        let mut graph = Graph::new();
        let map = graph.input("map", [11, 13, 6]).expect("a new name");
        let convolution = Convolution::new(10, 3).stride(2).padding(1).groups(2);
        let y = graph.conv2d("conv", map, convolution, LinearInit::pytorch(27)).expect("it fits");
        assert_eq!(graph.node(y).shape, [6, 7, 10].into());
        assert_eq!(graph.parameters()[0].shape, [10, 3, 3, 3].into());
        assert_eq!(convolution.fan_in(6), 27);
        assert_eq!(crate::ops::cost(&graph, graph.node(y)).flops, 42 * (2 * 270 + 10));
    }

    #[test]
    fn a_kernel_of_one_pixel_is_a_linear_layer() {
        let mut graph = Graph::new();
        let map = graph.input("map", [5, 7, 3]).expect("a new name");
        let y = graph.conv2d("conv", map, Convolution::new(2, 1), LinearInit::pytorch(3)).expect("it fits");
        assert_eq!(graph.node(y).op, Op::Linear);
        assert_eq!(graph.parameters()[0].shape, [2, 3, 1, 1].into());
    }

    #[test]
    fn errors_name_the_shape_and_one_that_fits() {
        assert_eq!(
            error_of(&[5, 7], Convolution::new(3, 3)),
            "shape [5, 7] does not fit, expected [height, width, channels] (conv)"
        );
        assert_eq!(
            error_of(&[4, 7, 2], Convolution::new(3, 7).padding(1)),
            "shape [4, 7, 2] does not fit, expected at least [5, 5, 2] for kernel 7 with padding 1 (conv)"
        );
        assert_eq!(
            error_of(&[5, 7, 4], Convolution::new(6, 3).groups(4)),
            "groups 4 is not a divisor of 4 input channels and 6 output channels (conv)"
        );
        assert_eq!(error_of(&[5, 7, 4], Convolution::new(6, 3).stride(0)), "stride 0 is not at least 1 (conv)");
    }

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn sizes_that_overflow_are_rejected() {
        // Twice the padding is 0, and the square of the kernel.
        let padding = Convolution::new(3, 3).padding(1 << 63);
        assert_eq!(error_of(&[5, 7, 2], padding), "padding 9223372036854775808 is not at most 1099511627776 (conv)");
        let padding = Convolution::new(3, 3).padding(usize::MAX);
        assert!(error_of(&[5, 7, 2], padding).starts_with("padding 18446744073709551615 is not at most"));
        let kernel = Convolution::new(3, 1 << 32).padding(1 << 31);
        assert_eq!(error_of(&[5, 7, 2], kernel), "kernel 4294967296 is not at most 1048576 (conv)");
        let stride = Convolution::new(3, 3).stride(1 << 62);
        assert_eq!(error_of(&[5, 7, 2], stride), "stride 4611686018427387904 is not at most 1048576 (conv)");
        // 2^34 pixels, whose places 32 bits do not hold.
        let pixels = Convolution::new(1, 1).padding(1 << 16);
        assert_eq!(error_of(&[5, 7, 1], pixels), "shape [131077, 131079, 1] has too many values (conv)");
    }
}
