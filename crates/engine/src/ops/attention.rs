//! Multi-head self-attention without its projections: every token gathers values from all tokens of its image.
//! Source: Vaswani et al. 2017, section 3.2. Query, key and value lie side by side, as timm's `qkv` layer gives them.

use crate::autodiff::Backward;
use crate::graph::{Graph, GraphError, Node, NodeId, Shape, wrong_value};
use crate::ops::{Dropout, Op};

/// The sizes and options of an attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Number of heads; each takes `embed_dim / heads` neighbouring columns of query, key and value.
    pub heads: usize,
    /// What the scores are multiplied by before softmax.
    pub scale: f32,
    /// Dropout of the weights, after softmax; values are numbered as rows of `tokens`, head by head.
    pub dropout: Option<Dropout>,
}

impl Attention {
    /// Scores, softmax (maximum, difference, exponential, sum, quotient), weighted sum; for `[tokens, embed_dim]`.
    pub(super) fn flops(self, context: &Shape) -> u64 {
        let (tokens, embed_dim) = (context.rows() as u64, context.features() as u64);
        tokens * tokens * (4 * embed_dim + 6 * self.heads as u64)
    }

    /// Four products and the softmax's own gradient.
    pub(super) fn grad_flops(self, context: &Shape) -> u64 {
        let (tokens, embed_dim) = (context.rows() as u64, context.features() as u64);
        tokens * tokens * (8 * embed_dim + 4 * self.heads as u64)
    }

    pub(super) fn differentiate(self, backward: &mut Backward, id: NodeId, dy: NodeId) {
        let Node { inputs, name, .. } = backward.node(id).clone();
        let shape = backward.node(inputs[0]).shape.clone();
        let dx = backward.push(&format!("{name}.grad"), Op::AttentionGrad(self), &[dy, inputs[0], id], &[], shape);
        backward.add_gradient(inputs[0], dx);
    }
}

impl Graph {
    /// Lets every token gather from all tokens of its example.
    ///
    /// # Shapes
    /// - `qkv`: `[tokens, 3 * embed_dim]`; returned: `[tokens, embed_dim]`
    ///
    /// # Errors
    /// When `qkv` has other axes, or its last is not a multiple of `3 * heads`, or the dropout rate is outside [0, 1).
    pub fn attention(
        &mut self,
        name: &str,
        qkv: NodeId,
        heads: usize,
        scale: f32,
        dropout_rate: f32,
    ) -> Result<NodeId, GraphError> {
        let shape = self.shape(qkv).clone();
        if heads == 0 {
            return Err(wrong_value(name, "heads", heads, "at least 1"));
        }
        if shape.0.len() != 2 || !shape.features().is_multiple_of(3 * heads) {
            let expected = format!("[tokens, 3 * embed_dim] with embed_dim a multiple of {heads} heads");
            return Err(self.wrong_shape(name, &shape, expected));
        }
        let dropout = Some(self.new_dropout(name, dropout_rate)?).filter(|dropout| dropout.rate > 0.0);
        let attention = Attention { heads, scale, dropout };
        let context = shape.with_features(shape.features() / 3);
        self.push(name, Op::Attention(attention), &[qkv], &[], context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_must_divide_the_width() {
        let mut graph = Graph::new();
        let qkv = graph.input("qkv", [5, 21]).expect("a new name");
        let error = graph.attention("attn", qkv, 2, 1.0, 0.0).expect_err("7 is odd");
        let text =
            "shape [5, 21] does not fit, expected [tokens, 3 * embed_dim] with embed_dim a multiple of 2 heads (attn)";
        assert_eq!(error.to_string(), text);
    }
}
