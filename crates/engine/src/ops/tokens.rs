//! Transformer operations on sequences other than attention: class token, positions, pooling.

use std::sync::Arc;

use crate::autodiff::Backward;
use crate::graph::{Graph, GraphError, Node, NodeId, ParamId, Shape, wrong_value};
use crate::ops::Op;

impl Graph {
    /// Prepends a trained token.
    ///
    /// # Shapes
    /// - `tokens`: `[tokens, features]`; the parameter holds `features` values; returned: `[tokens + 1, features]`
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn prepend_token(&mut self, name: &str, tokens: NodeId, token: ParamId) -> Result<NodeId, GraphError> {
        let shape = self.sequence(name, tokens)?;
        let found = &self.parameter(token).shape;
        if found.len() != shape.0[1] {
            return Err(self.wrong_shape(name, found, format!("the features of {shape}")));
        }
        self.push(name, Op::PrependToken, &[tokens], &[token], [shape.0[0] + 1, shape.0[1]].into())
    }

    /// Adds a trained table to a sequence; rows beyond the sequence's length are never read.
    ///
    /// # Shapes
    /// - `tokens`: `[tokens, features]`; the parameter: `[..., positions, features]` with at least as many positions
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn add_table(&mut self, name: &str, tokens: NodeId, table: ParamId) -> Result<NodeId, GraphError> {
        let shape = self.sequence(name, tokens)?;
        let found = &self.parameter(table).shape;
        if found.0.is_empty() || found.features() != shape.0[1] || found.rows() < shape.0[0] {
            return Err(self.wrong_shape(name, found, format!("at least {shape}")));
        }
        self.push(name, Op::AddTable, &[tokens], &[table], shape)
    }

    /// Adds fixed numbers to each example.
    ///
    /// # Errors
    /// When the count of the numbers is not that of the input's values.
    pub fn add_constant(&mut self, name: &str, x: NodeId, values: Arc<[f32]>) -> Result<NodeId, GraphError> {
        let shape = self.shape(x).clone();
        if values.len() != shape.len() {
            return Err(self.wrong_shape(name, &[values.len()].into(), shape.to_string()));
        }
        self.push(name, Op::AddConstant(values), &[x], &[], shape)
    }

    /// Selects one token of `[tokens, features]`.
    ///
    /// # Errors
    /// When the token does not exist.
    pub fn select_token(&mut self, name: &str, tokens: NodeId, index: usize) -> Result<NodeId, GraphError> {
        let shape = self.sequence(name, tokens)?;
        if index >= shape.0[0] {
            return Err(wrong_value(name, "token", index, format!("below {}", shape.0[0])));
        }
        self.push(name, Op::SelectToken { index }, &[tokens], &[], [shape.0[1]].into())
    }

    /// Takes the mean over the tokens of `[tokens, features]`.
    ///
    /// # Errors
    /// When the input has other axes.
    pub fn mean_tokens(&mut self, name: &str, tokens: NodeId) -> Result<NodeId, GraphError> {
        let shape = self.sequence(name, tokens)?;
        self.push(name, Op::MeanTokens, &[tokens], &[], [shape.0[1]].into())
    }

    fn sequence(&self, name: &str, id: NodeId) -> Result<Shape, GraphError> {
        let shape = self.shape(id).clone();
        if shape.0.len() == 2 { Ok(shape) } else { Err(self.wrong_shape(name, &shape, "[tokens, features]")) }
    }
}

pub(super) fn differentiate_prepend(backward: &mut Backward, id: NodeId, dy: NodeId) {
    let Node { inputs, params, name, .. } = backward.node(id).clone();
    let shape = backward.node(inputs[0]).shape.clone();
    let dx = backward.push(&format!("{name}.grad"), Op::PrependTokenGrad, &[dy], &params, shape);
    if backward.needs_gradient(inputs[0]) {
        backward.add_gradient(inputs[0], dx);
    }
}

pub(super) fn differentiate_table(backward: &mut Backward, id: NodeId, dy: NodeId) {
    let Node { inputs, params, name, .. } = backward.node(id).clone();
    backward.push(&format!("{name}.grad"), Op::AddTableGrad, &[dy], &params, Shape(vec![0]));
    if backward.needs_gradient(inputs[0]) {
        backward.add_gradient(inputs[0], dy);
    }
}

pub(super) fn differentiate_select(backward: &mut Backward, id: NodeId, dy: NodeId, index: usize) {
    let Node { inputs, name, .. } = backward.node(id).clone();
    let shape = backward.node(inputs[0]).shape.clone();
    let dx = backward.push(&format!("{name}.grad"), Op::SelectTokenGrad { index }, &[dy], &[], shape);
    backward.add_gradient(inputs[0], dx);
}

pub(super) fn differentiate_mean(backward: &mut Backward, id: NodeId, dy: NodeId) {
    let Node { inputs, name, .. } = backward.node(id).clone();
    let shape = backward.node(inputs[0]).shape.clone();
    let dx = backward.push(&format!("{name}.grad"), Op::MeanTokensGrad, &[dy], &[], shape);
    backward.add_gradient(inputs[0], dx);
}
