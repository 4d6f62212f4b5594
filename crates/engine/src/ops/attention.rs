//! Multi-head attention without its projections: every query attends to all keys of its image.
//! Source: Vaswani et al. 2017, section 3.2. Fused query, key and value lie side by side, as timm's `qkv` layer
//! gives them.

use crate::autodiff::Backward;
use crate::graph::{Graph, GraphError, Node, NodeId, Shape, wrong_value};
use crate::ops::{Dropout, Op};

/// The axis over which softmax makes weights that sum to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Over {
    /// Each query's weights sum to 1, as usual.
    Keys,
    /// Each key's weights sum to 1.
    Queries,
}

/// The options of an attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionOptions {
    /// Number of heads; each takes `embed_dim / heads` neighboring columns of query, key and value.
    pub heads: usize,
    /// The scores are multiplied by this before softmax.
    pub scale: f32,
    /// Dropout of the weights, after softmax.
    pub dropout_rate: f32,
    /// Whether a query sees only keys up to its own place.
    pub causal: bool,
    /// The axis of softmax.
    pub softmax: Over,
    /// The result is multiplied by this.
    pub out_scale: f32,
}

impl AttentionOptions {
    /// Every query sees every key, softmax over the keys, no dropout.
    pub fn new(heads: usize, scale: f32) -> Self {
        AttentionOptions { heads, scale, dropout_rate: 0.0, causal: false, softmax: Over::Keys, out_scale: 1.0 }
    }
}

/// The checked options of an attention, with the random stream of its dropout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Number of heads; each takes `embed_dim / heads` neighboring columns of query, key and value.
    pub heads: usize,
    /// The scores are multiplied by this before softmax.
    pub scale: f32,
    /// Dropout of the weights, after softmax; values are numbered as rows of `keys`, head by head.
    pub dropout: Option<Dropout>,
    /// Whether a query sees only keys up to its own place.
    pub causal: bool,
    /// The axis of softmax.
    pub softmax: Over,
    /// The result is multiplied by this.
    pub out_scale: f32,
}

/// The input of an attention whose gradient a node computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttendInput {
    /// The queries.
    Query,
    /// The keys.
    Key,
    /// The values.
    Value,
}

impl Attention {
    /// Plain attention: every query sees every key, softmax over the keys.
    pub fn new(heads: usize, scale: f32, dropout: Option<Dropout>) -> Self {
        Attention { heads, scale, dropout, causal: false, softmax: Over::Keys, out_scale: 1.0 }
    }

    /// Scores, softmax (maximum, difference, exponential, sum, quotient), weighted sum.
    pub(super) fn flops(self, queries: usize, keys: usize, embed_dim: usize) -> u64 {
        queries as u64 * keys as u64 * (4 * embed_dim + 6 * self.heads) as u64
    }

    /// Four products and the softmax's own gradient.
    pub(super) fn grad_flops(self, queries: usize, keys: usize, embed_dim: usize) -> u64 {
        queries as u64 * keys as u64 * (8 * embed_dim + 4 * self.heads) as u64
    }

    /// The part that the gradient of one input takes: one product, for query and key also half of what the gradient
    /// of the scores takes.
    pub(super) fn grad_flops_of(self, input: AttendInput, queries: usize, keys: usize, embed_dim: usize) -> u64 {
        let flops = match input {
            AttendInput::Value => 2 * embed_dim,
            AttendInput::Query | AttendInput::Key => 3 * embed_dim + 2 * self.heads,
        };
        queries as u64 * keys as u64 * flops as u64
    }

    pub(super) fn differentiate(self, backward: &mut Backward, id: NodeId, dy: NodeId) {
        let Node { inputs, name, .. } = backward.node(id).clone();
        let shape = backward.node(inputs[0]).shape.clone();
        let dx = backward.push(&format!("{name}.grad"), Op::AttentionGrad(self), &[dy, inputs[0], id], &[], shape);
        backward.add_gradient(inputs[0], dx);
    }

    pub(super) fn differentiate_attend(self, backward: &mut Backward, id: NodeId, dy: NodeId) {
        let Node { inputs, name, .. } = backward.node(id).clone();
        let read: Vec<NodeId> = [dy, id].iter().chain(&inputs).copied().collect();
        let parts =
            [(AttendInput::Query, "query"), (AttendInput::Key, "key"), (AttendInput::Value, "value")].into_iter();
        // All nodes first: one kernel computes them together.
        let asked: Vec<_> = parts.zip(inputs).filter(|(_, input)| backward.needs_gradient(*input)).collect();
        let made = asked.into_iter().map(|((part, word), input)| {
            let shape = backward.node(input).shape.clone();
            let dx = backward.push(&format!("{name}.{word}_grad"), Op::AttendGrad(self, part), &read, &[], shape);
            (input, dx)
        });
        for (input, dx) in made.collect::<Vec<_>>() {
            backward.add_gradient(input, dx);
        }
    }
}

/// Checks that there can be memory for the scores of an example, `[heads, queries, keys]`.
fn check_scores(name: &str, scores: [usize; 3]) -> Result<(), GraphError> {
    let shape = Shape::from(scores);
    if shape.is_too_large() { Err(GraphError::TooLarge { name: name.to_string(), shape }) } else { Ok(()) }
}

impl Graph {
    /// Adds self-attention: every token attends to all tokens of its example.
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
        let fits = heads.checked_mul(3).is_some_and(|parts| shape.features().is_multiple_of(parts));
        if shape.0.len() != 2 || !fits {
            let expected = format!("[tokens, 3 * embed_dim] with embed_dim a multiple of {heads} heads");
            return Err(self.wrong_shape(name, &shape, expected));
        }
        let dropout = Some(self.new_dropout(name, dropout_rate)?).filter(|dropout| dropout.rate > 0.0);
        check_scores(name, [heads, shape.rows(), shape.rows()])?;
        let context = shape.with_features(shape.features() / 3);
        self.push(name, Op::Attention(Attention::new(heads, scale, dropout)), &[qkv], &[], context)
    }

    /// Adds attention: every query attends to the keys it sees; a query without keys gets zeros.
    ///
    /// # Shapes
    /// - `q`: `[queries, embed_dim]`; `k` and `v`: `[keys, embed_dim]`; returned: `[queries, embed_dim]`
    /// - `key_mask`: `[keys]`, positive where a key may be seen
    ///
    /// # Errors
    /// When the shapes do not fit, `embed_dim` is not a multiple of the heads, causal attention has another number of
    /// keys than queries, or the dropout rate is outside [0, 1).
    pub fn attend(
        &mut self,
        name: &str,
        q: NodeId,
        k: NodeId,
        v: NodeId,
        options: AttentionOptions,
        key_mask: Option<NodeId>,
    ) -> Result<NodeId, GraphError> {
        let AttentionOptions { heads, scale, dropout_rate, causal, softmax, out_scale } = options;
        if heads == 0 {
            return Err(wrong_value(name, "heads", heads, "at least 1"));
        }
        let (shape, keys) = (self.shape(q).clone(), self.shape(k).clone());
        if shape.0.len() != 2 || !shape.features().is_multiple_of(heads) {
            let expected = format!("[queries, embed_dim] with embed_dim a multiple of {heads} heads");
            return Err(self.wrong_shape(name, &shape, expected));
        }
        if keys.0.len() != 2 || keys.features() != shape.features() {
            return Err(self.wrong_shape(name, &keys, format!("[keys, embed_dim] for queries of {shape}")));
        }
        if *self.shape(v) != keys {
            return Err(self.wrong_shape(name, self.shape(v), format!("the keys' {keys} for the values")));
        }
        if causal && keys != shape {
            return Err(self.wrong_shape(name, &keys, format!("the queries' {shape} for causal attention")));
        }
        if let Some(mask) = key_mask {
            let found = self.shape(mask);
            if found.0 != [keys.rows()] {
                return Err(self.wrong_shape(name, found, format!("[keys] of {keys} for the mask")));
            }
        }
        let dropout = Some(self.new_dropout(name, dropout_rate)?).filter(|dropout| dropout.rate > 0.0);
        check_scores(name, [heads, shape.rows(), keys.rows()])?;
        let attention = Attention { heads, scale, dropout, causal, softmax, out_scale };
        let inputs: Vec<NodeId> = [q, k, v].into_iter().chain(key_mask).collect();
        self.push(name, Op::Attend(attention), &inputs, &[], shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn sizes_that_overflow_are_rejected() {
        let mut graph = Graph::new();
        let qkv = graph.input("qkv", [5, 6]).expect("a new name");
        // Three times as many are 2.
        let heads = usize::MAX / 3 + 1;
        let error = graph.attention("attn", qkv, heads, 1.0, 0.0).expect_err("no such heads");
        assert!(error.to_string().starts_with("shape [5, 6] does not fit"), "{error}");
        // The scores of so many tokens are 2^64.
        let tokens = 1 << 32;
        let long = graph.input("long", [tokens, 3]).expect("a new name");
        let text = "shape [1, 4294967296, 4294967296] has too many values (attn)";
        let error = graph.attention("attn", long, 1, 1.0, 0.0).expect_err("no such memory");
        assert_eq!(error.to_string(), text);
        let error = graph.attend("attn", long, long, long, AttentionOptions::new(1, 1.0), None).expect_err("as before");
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn heads_must_divide_the_width() {
        let mut graph = Graph::new();
        let qkv = graph.input("qkv", [5, 21]).expect("a new name");
        let error = graph.attention("attn", qkv, 2, 1.0, 0.0).expect_err("7 is odd");
        let text =
            "shape [5, 21] does not fit, expected [tokens, 3 * embed_dim] with embed_dim a multiple of 2 heads (attn)";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn errors_name_a_shape_that_fits() {
        let mut graph = Graph::new();
        let q = graph.input("q", [5, 14]).expect("a new name");
        let k = graph.input("k", [3, 14]).expect("a new name");
        let v = graph.input("v", [2, 14]).expect("a new name");
        let narrow = graph.input("narrow", [3, 13]).expect("a new name");
        let mask = graph.input("mask", [5]).expect("a new name");
        let plain = AttentionOptions::new(2, 1.0);
        let mut error = |k, v, options, mask| graph.attend("attn", q, k, v, options, mask).expect_err("a misfit");
        let known = [
            (error(k, v, plain, None), "shape [2, 14] does not fit, expected the keys' [3, 14] for the values (attn)"),
            (
                error(narrow, narrow, plain, None),
                "shape [3, 13] does not fit, expected [keys, embed_dim] for queries of [5, 14] (attn)",
            ),
            (error(k, k, plain, Some(mask)), "shape [5] does not fit, expected [keys] of [3, 14] for the mask (attn)"),
            (
                error(k, k, AttentionOptions { causal: true, ..plain }, None),
                "shape [3, 14] does not fit, expected the queries' [5, 14] for causal attention (attn)",
            ),
            (
                error(k, k, AttentionOptions { heads: 3, ..plain }, None),
                "shape [5, 14] does not fit, expected [queries, embed_dim] with embed_dim a multiple of 3 heads (attn)",
            ),
        ];
        for (found, expected) in known {
            assert_eq!(found.to_string(), expected);
        }
    }
}
