//! Cuts an image into square patches, row by row; with a linear layer after it, the patch embedding of a ViT.
//! A patch's values are in the order of a convolution's weight: channel, row, column.

use crate::graph::{Graph, GraphError, NodeId, wrong_value};
use crate::ops::Op;

impl Graph {
    /// Cuts an image into square patches.
    ///
    /// # Shapes
    /// - `image`: `[channels, height, width]`; returned: `[tokens, channels * patch * patch]`
    ///
    /// # Errors
    /// When the image has other axes or the patch size does not divide its sides.
    pub fn patches(&mut self, name: &str, image: NodeId, patch: usize) -> Result<NodeId, GraphError> {
        let shape = self.shape(image).clone();
        let &[channels, height, width] = shape.0.as_slice() else {
            return Err(self.wrong_shape(name, &shape, "[channels, height, width]"));
        };
        if patch == 0 || !height.is_multiple_of(patch) || !width.is_multiple_of(patch) {
            return Err(wrong_value(name, "patch size", patch, format!("a divisor of {height} and {width}")));
        }
        let tokens = (height / patch) * (width / patch);
        self.push(name, Op::Patches { patch }, &[image], &[], [tokens, channels * patch * patch].into())
    }
}
