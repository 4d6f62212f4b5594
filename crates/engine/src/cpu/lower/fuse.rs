//! Which nodes can be fused into a call, and the fused calls.
//!
//! A node is fused only if no other node reads it, so that its value need not be stored.

use super::super::program::{Call, Factor, LayerNormGrad, PackedWeight, Product, Slot};
use super::{Derivative, Lowering};
use crate::graph::NodeId;
use crate::ops::{Activation, Op};

/// Number of diagonal blocks of a layer's weight: 1 for a full matrix.
fn heads_of(op: &Op) -> usize {
    match *op {
        Op::PerHeadLinear { heads, .. } | Op::PerHeadLinearInputGrad { heads, .. } => heads,
        _ => 1,
    }
}

impl Lowering<'_> {
    /// The only node that reads this one, unless this one is also an output.
    fn only_use(&self, id: NodeId) -> Option<NodeId> {
        match self.uses[id.index()].as_slice() {
            [only] if !self.is_output(id) => Some(*only),
            _ => None,
        }
    }

    /// The activation that is the only reader of a node, apart from the activation's own gradient.
    pub(super) fn following_activation(&self, id: NodeId) -> Option<(NodeId, Activation)> {
        let mut found = None;
        for &user in &self.uses[id.index()] {
            match self.node(user).op {
                Op::Activation(activation) if found.is_none() => found = Some((user, activation)),
                Op::ActivationGrad(_) if self.input(user, 1) == id && self.input(user, 0) != id => {}
                _ => return None,
            }
        }
        found.filter(|_| !self.is_output(id))
    }

    /// Whether a gradient reads an activation's derivative.
    pub(super) fn derivative_is_asked_for(&self, id: NodeId) -> bool {
        self.uses[id.index()].iter().any(|&user| matches!(self.node(user).op, Op::ActivationGrad(_)))
    }

    /// A sum that is the only reader of `end` and whose other operand is already computed.
    pub(super) fn following_sum(&self, end: NodeId) -> Option<(NodeId, Slot)> {
        let sum = self.only_use(end).filter(|&user| self.node(user).op == Op::Add)?;
        let other = [0, 1].map(|i| self.input(sum, i)).into_iter().find(|&input| input != end)?;
        Some((sum, self.slot_of[other.index()]?))
    }

    pub(super) fn linear(&mut self, id: NodeId) {
        let node = self.node(id);
        let in_features = self.node(self.input(id, 0)).shape.features();
        let (rows, out_features) = (node.shape.rows(), node.shape.features());
        let param = node.params[0].index();
        let heads = heads_of(&node.op);
        let packed = PackedWeight { param, out_features, in_features, heads, forward: true, geometry: None };
        let weight = self.packed(packed);
        let mut product = Product::new(self.slot(id, 0), weight, [rows, in_features, out_features]);
        product.bias = node.params.get(1).map(|bias| bias.index());
        let mut covers = vec![id];
        let mut scale = 1.0;
        if let Some((activated, activation)) = self.following_activation(id) {
            covers.push(activated);
            product.activation = Some(activation);
        }
        let end = *covers.last().expect("the layer itself");
        if let Some(next) = self.only_use(end)
            && let Op::Dropout(dropout) = self.node(next).op
        {
            covers.push(next);
            product.dropout = Some(self.node_dropout(next, dropout));
            scale = dropout.scale();
        }
        let end = *covers.last().expect("the layer itself");
        if product.activation.is_none()
            && let Some((sum, residual)) = self.following_sum(end)
        {
            covers.push(sum);
            product.residual = Some(residual);
        }
        product.out = self.value_slot(*covers.last().expect("the layer itself"));
        if let Some(activation) = product.activation
            && self.derivative_is_asked_for(id)
        {
            let factor = if activation == Activation::Relu {
                Factor::WherePositive(product.out, scale)
            } else {
                let derivative = self.new_slot(node.shape.len(), 0);
                product.derivative = Some(derivative);
                Factor::By(derivative)
            };
            self.derivatives.insert(id, Derivative { factor, includes_dropout: product.dropout.is_some() });
        }
        self.emit(Call::Product(product), &covers);
    }

    /// The activation's gradient that follows a gradient, if its derivative is a factor.
    pub(super) fn following_derivative(&self, end: NodeId) -> Option<(NodeId, Derivative)> {
        let next = self.only_use(end)?;
        match self.node(next).op {
            Op::ActivationGrad(_) if self.input(next, 0) == end => {
                Some((next, *self.derivatives.get(&self.input(next, 1))?))
            }
            _ => None,
        }
    }

    /// Whether the factor of the activation's gradient, which follows a dropout's gradient, includes the dropout.
    pub(super) fn dropout_is_in_derivative(&self, dropout_grad: NodeId) -> bool {
        self.following_derivative(dropout_grad).is_some_and(|(_, derivative)| derivative.includes_dropout)
    }

    pub(super) fn linear_input_grad(&mut self, id: NodeId) {
        let node = self.node(id);
        let out_features = self.node(self.input(id, 0)).shape.features();
        let (rows, in_features) = (node.shape.rows(), node.shape.features());
        let param = node.params[0].index();
        let heads = heads_of(&node.op);
        let packed = PackedWeight { param, out_features, in_features, heads, forward: false, geometry: None };
        let weight = self.packed(packed);
        let mut product = Product::new(self.slot(id, 0), weight, [rows, out_features, in_features]);
        let mut covers = vec![id];
        if let Some(next) = self.only_use(id)
            && let Op::DropoutGrad(dropout) = self.node(next).op
        {
            covers.push(next);
            if !self.dropout_is_in_derivative(next) {
                product.dropout = Some(self.node_dropout(next, dropout));
            }
        }
        let end = *covers.last().expect("the gradient itself");
        if let Some((next, derivative)) = self.following_derivative(end) {
            covers.push(next);
            product.factor = Some(derivative.factor);
        }
        let end = *covers.last().expect("the gradient itself");
        if let Some((sum, residual)) = self.following_sum(end) {
            covers.push(sum);
            product.residual = Some(residual);
        }
        product.out = self.value_slot(*covers.last().expect("the gradient itself"));
        self.emit(Call::Product(product), &covers);
    }

    pub(super) fn layer_norm(&mut self, id: NodeId, eps: f32) {
        let node = self.node(id);
        let x = self.slot(id, 0);
        let of = self.input(id, 0);
        let asked = self.uses[of.index()]
            .iter()
            .any(|&user| self.node(user).op == Op::LayerNormGrad { eps } && self.input(user, 1) == of);
        let stats = asked.then(|| self.new_slot(2 * node.shape.rows(), 0));
        if let Some(stats) = stats {
            self.stats.insert((of, eps.to_bits()), stats);
        }
        let (covers, out, relu) = self.norm_with(id, &[Activation::Relu]);
        let relu = relu.is_some();
        let params = [node.params[0].index(), node.params[1].index()];
        let size = [node.shape.rows(), node.shape.features()];
        self.emit(Call::LayerNorm { x, out, stats, params, size, eps, relu }, &covers);
    }

    /// The nodes that a norm's call covers, its output slot, and the activation that is fused if it is one of these: a
    /// ReLU or a ReLU6.
    pub(super) fn norm_with(&mut self, id: NodeId, fused: &[Activation]) -> (Vec<NodeId>, Slot, Option<Activation>) {
        let following = self.following_activation(id).filter(|(_, activation)| fused.contains(activation));
        let mut covers = vec![id];
        covers.extend(following.map(|(activated, _)| activated));
        let out = self.value_slot(*covers.last().expect("the norm itself"));
        let activation = following.map(|(_, activation)| activation);
        if activation.is_some() && self.derivative_is_asked_for(id) {
            let is_relu = activation == Some(Activation::Relu);
            let factor = if is_relu { Factor::WherePositive(out, 1.0) } else { Factor::Between0And6(out) };
            self.derivatives.insert(id, Derivative { factor, includes_dropout: false });
        }
        (covers, out, activation)
    }

    pub(super) fn layer_norm_grad(&mut self, id: NodeId, eps: f32) {
        let node = self.node(id);
        let params = [node.params[0].index(), node.params[1].index()];
        let mut grad = LayerNormGrad {
            dy: self.slot(id, 0),
            x: self.slot(id, 1),
            stats: self.stats[&(self.input(id, 1), eps.to_bits())],
            params,
            size: [node.shape.rows(), node.shape.features()],
            residual: None,
            out: None,
            starts: self.starts(id, &params, true),
        };
        let mut covers = vec![id];
        if let Some((sum, residual)) = self.following_sum(id) {
            covers.push(sum);
            grad.residual = Some(residual);
        }
        if covers.len() == 2 || !self.uses[id.index()].is_empty() {
            grad.out = Some(self.value_slot(*covers.last().expect("the gradient itself")));
        }
        self.emit(Call::LayerNormGrad(grad), &covers);
    }
}
