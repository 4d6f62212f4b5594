//! Lowers a graph to a list of kernel calls, and fuses operations that one pass over memory can compute.
//!
//! - A linear layer is fused with its bias, activation, dropout and residual; for the backward pass it stores the
//!   activation's derivative (times dropout), or nothing if the result's sign is enough (ReLU).
//! - The gradient of a linear layer's input is fused with the derivative, the dropout and the sum that follow it.
//! - Layer norm is fused with a ReLU, its gradient with the sum that follows; factors of features with the sum.

mod convolution;
mod fuse;
mod sequence;
mod wide;

use std::collections::HashMap;

use super::program::{Addend, Call, Factor, PackedWeight, Program, ProgramDropout, Slot, SlotSize};
use crate::graph::{Graph, Node, NodeId};
use crate::ops::{Dropout, Op};

pub(super) use wide::wide_weights;

/// What a program is for; dropout is active only in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Train,
    Infer,
}

/// Lowers the nodes that the outputs need and, in training, all gradients of parameters. `wide` says which weights are
/// cut by columns.
pub(super) fn lower(graph: &Graph, outputs: &[NodeId], mode: Mode, wide: &[bool]) -> Program {
    let mut lowering = Lowering::new(graph, outputs, mode, wide);
    for id in graph.ids() {
        if lowering.needed[id.index()] && !lowering.covered[id.index()] {
            lowering.lower(id);
        }
    }
    lowering.emit_late();
    lowering.program
}

/// How the gradient of an activation is computed without the activation's input.
#[derive(Clone, Copy)]
struct Derivative {
    factor: Factor,
    /// Whether the factor includes the dropout after the activation.
    includes_dropout: bool,
}

struct Lowering<'a> {
    graph: &'a Graph,
    outputs: &'a [NodeId],
    mode: Mode,
    /// For each node, the node that replaces it: in inference, a dropout is replaced by its input.
    stands_for: Vec<NodeId>,
    needed: Vec<bool>,
    /// The needed nodes that read each node, one entry for each read.
    uses: Vec<Vec<NodeId>>,
    /// Whether an earlier call computes the node.
    covered: Vec<bool>,
    slot_of: Vec<Option<Slot>>,
    derivatives: HashMap<NodeId, Derivative>,
    /// Mean and deviation of a value's layer norm, by value and epsilon; the gradient reads them.
    stats: HashMap<(NodeId, u32), Slot>,
    /// Statistics of a value's batch norm.
    batch_stats: HashMap<NodeId, Slot>,
    weights: HashMap<NodeId, Slot>,
    /// Weights that are cut by columns.
    wide: &'a [bool],
    /// Late calls, to be put at the program's end.
    late: Vec<(NodeId, Call)>,
    /// For each parameter, the last region in which its gradient was started.
    started: Vec<Option<usize>>,
    /// Number of calls for the whole batch so far, which is the number of the current region.
    meetings: usize,
    inputs_seen: HashMap<NodeId, usize>,
    program: Program,
}

impl<'a> Lowering<'a> {
    fn new(graph: &'a Graph, outputs: &'a [NodeId], mode: Mode, wide: &'a [bool]) -> Self {
        let nodes = graph.nodes();
        let mut stands_for: Vec<NodeId> = Vec::with_capacity(nodes.len());
        for id in graph.ids() {
            let skip = mode == Mode::Infer && matches!(graph.node(id).op, Op::Dropout(_) | Op::DropPath(_));
            stands_for.push(if skip { stands_for[graph.node(id).inputs[0].index()] } else { id });
        }
        let mut needed = vec![false; nodes.len()];
        for id in graph.ids().rev() {
            let node = graph.node(id);
            let adds_gradient = matches!(
                node.op,
                Op::LinearParamGrad
                    | Op::LayerNormGrad { .. }
                    | Op::AddTableGrad
                    | Op::PrependTokenGrad
                    | Op::PerHeadLinearParamGrad { .. }
                    | Op::EmbeddingGrad
                    // convolution
                    | Op::Conv2dParamGrad(_)
                    | Op::GroupNormGrad { .. }
                    | Op::BatchNormGrad { .. }
                    | Op::ScaleFeaturesGrad
            );
            if outputs.iter().any(|out| stands_for[out.index()] == id) || adds_gradient && mode == Mode::Train {
                needed[id.index()] = true;
            }
            if needed[id.index()] {
                for input in &node.inputs {
                    needed[stands_for[input.index()].index()] = true;
                }
            }
        }
        let mut uses = vec![Vec::new(); nodes.len()];
        for id in graph.ids().filter(|id| needed[id.index()]) {
            for input in &graph.node(id).inputs {
                uses[stands_for[input.index()].index()].push(id);
            }
        }
        let inputs = graph.ids().filter(|&id| graph.node(id).op == Op::Input);
        Lowering {
            inputs_seen: inputs.enumerate().map(|(i, id)| (id, i)).collect(),
            graph,
            outputs,
            mode,
            stands_for,
            needed,
            uses,
            covered: vec![false; nodes.len()],
            slot_of: vec![None; nodes.len()],
            derivatives: HashMap::new(),
            stats: HashMap::new(),
            batch_stats: HashMap::new(),
            weights: HashMap::new(),
            wide,
            late: Vec::new(),
            started: vec![None; graph.parameters().len()],
            meetings: 0,
            program: Program {
                outputs: outputs.iter().map(|&id| graph.shape(id).len()).collect(),
                ..Program::default()
            },
        }
    }

    fn node(&self, id: NodeId) -> &'a Node {
        self.graph.node(id)
    }

    fn input(&self, id: NodeId, i: usize) -> NodeId {
        self.stands_for[self.node(id).inputs[i].index()]
    }

    /// The slot of an input that an earlier call wrote.
    fn slot(&self, id: NodeId, i: usize) -> Slot {
        let input = self.input(id, i);
        self.slot_of[input.index()].unwrap_or_else(|| panic!("`{}` is read before it is there", self.node(input).name))
    }

    fn new_slot(&mut self, per_image: usize, fixed: usize) -> Slot {
        self.program.slots.push(SlotSize { per_image, fixed });
        self.program.slots.len() - 1
    }

    /// A new slot for a node's value.
    fn value_slot(&mut self, id: NodeId) -> Slot {
        let slot = self.new_slot(self.node(id).shape.len(), 0);
        self.slot_of[id.index()] = Some(slot);
        slot
    }

    fn emit(&mut self, call: Call, covers: &[NodeId]) {
        for id in covers {
            self.covered[id.index()] = true;
        }
        self.meetings += usize::from(call.whole());
        self.program.calls.push(call);
        self.program.covers.push(covers.to_vec());
        self.emit_outputs(covers);
    }

    /// Makes a node's value an alias of another node's, so that nothing is computed.
    fn alias(&mut self, id: NodeId, slot: Slot) {
        self.slot_of[id.index()] = Some(slot);
        self.covered[id.index()] = true;
        // It belongs to the call that made the value.
        if let Some(at) = self.program.calls.iter().rposition(|call| call.writes().contains(&slot)) {
            self.program.covers[at].push(id);
        }
        self.emit_outputs(&[id]);
    }

    /// Emits output calls for the nodes that are outputs.
    fn emit_outputs(&mut self, covers: &[NodeId]) {
        for &id in covers {
            for (output, &wanted) in self.outputs.iter().enumerate() {
                if self.stands_for[wanted.index()] == id {
                    let x = self.slot_of[id.index()].expect("an output is never fused away");
                    let len = self.node(id).shape.len();
                    self.program.calls.push(Call::Output { output, x, len });
                    self.program.covers.push(vec![id]);
                }
            }
        }
    }

    fn is_output(&self, id: NodeId) -> bool {
        self.outputs.iter().any(|out| self.stands_for[out.index()] == id)
    }

    fn new_dropout(&mut self, dropout: Dropout, rows: usize, features: usize) -> usize {
        let new = ProgramDropout { dropout, rows, features };
        if let Some(known) = self.program.dropouts.iter().position(|known| *known == new) {
            return known;
        }
        self.program.dropouts.push(new);
        self.program.dropouts.len() - 1
    }

    fn node_dropout(&mut self, id: NodeId, dropout: Dropout) -> usize {
        let shape = &self.node(id).shape;
        self.new_dropout(dropout, shape.rows(), shape.features())
    }

    fn packed(&mut self, weight: PackedWeight) -> usize {
        if let Some(known) = self.program.packed.iter().position(|known| *known == weight) {
            return known;
        }
        self.program.packed.push(weight);
        self.program.packed.len() - 1
    }

    /// Returns whether the call of a node, which is about to be emitted, is the first of its region that adds to the
    /// gradients of these parameters.
    ///
    /// If it is the first for some of them only, or writes only a part of one, those gradients are cleared first.
    fn starts(&mut self, id: NodeId, params: &[usize], whole: bool) -> bool {
        let region = Some(self.meetings);
        let fresh: Vec<usize> = params.iter().copied().filter(|&param| self.started[param] != region).collect();
        for &param in &fresh {
            self.started[param] = region;
            self.program.gradients.push((self.program.calls.len(), param));
        }
        if whole && fresh.len() == params.len() {
            return true;
        }
        for param in fresh {
            self.program.calls.push(Call::ClearGradient { param, len: self.graph.parameters()[param].shape.len() });
            self.program.covers.push(vec![id]);
        }
        false
    }

    fn lower(&mut self, id: NodeId) {
        let node = self.node(id);
        let params: Vec<usize> = node.params.iter().map(|param| param.index()).collect();
        let size = |shape: &crate::Shape| [shape.rows(), shape.features()];
        match node.op.clone() {
            Op::Input => {
                let (input, out) = (self.inputs_seen[&id], self.value_slot(id));
                self.emit(Call::Input { input, out, len: node.shape.len() }, &[id]);
            }
            Op::Patches { patch } => {
                let shape = &self.node(self.input(id, 0)).shape.0;
                let image = [shape[0], shape[1], shape[2]];
                let (x, out) = (self.slot(id, 0), self.value_slot(id));
                self.emit(Call::Patches { x, out, image, patch }, &[id]);
            }
            Op::Linear if self.wide[params[0]] => self.wide_linear(id),
            Op::Linear | Op::PerHeadLinear { .. } => self.linear(id),
            Op::LinearInputGrad if self.wide[params[0]] => self.wide_input_grad(id),
            Op::LinearInputGrad | Op::PerHeadLinearInputGrad { .. } => self.linear_input_grad(id),
            Op::LinearParamGrad if self.wide[params[0]] => self.wide_param_grad(id),
            Op::LinearParamGrad => {
                let (dy, x) = (self.slot(id, 0), self.slot(id, 1));
                let [rows, out_features] = size(&self.node(self.input(id, 0)).shape);
                let in_features = self.node(self.input(id, 1)).shape.features();
                let starts = self.starts(id, &params, true);
                let bias = params.get(1).copied();
                let size = [out_features, in_features];
                self.emit(Call::ParamGrad { dy, x, rows, size, weight: params[0], bias, starts }, &[id]);
            }
            Op::LayerNorm { eps } => self.layer_norm(id, eps),
            Op::LayerNormGrad { eps } => self.layer_norm_grad(id, eps),
            Op::Activation(activation) => {
                let (x, out) = (self.slot(id, 0), self.value_slot(id));
                self.emit(Call::Activate { activation, x, dy: None, out, len: node.shape.len() }, &[id]);
            }
            Op::ActivationGrad(activation) => {
                let dy = self.slot(id, 0);
                let call = match self.derivatives.get(&self.input(id, 1)).copied() {
                    Some(derivative) => {
                        let out = self.value_slot(id);
                        Call::Scale { x: dy, factor: derivative.factor, out, len: node.shape.len() }
                    }
                    None => {
                        let (x, out) = (self.slot(id, 1), self.value_slot(id));
                        Call::Activate { activation, x, dy: Some(dy), out, len: node.shape.len() }
                    }
                };
                self.emit(call, &[id]);
            }
            Op::ScaleFeatures => {
                let x = self.slot(id, 0);
                let following = self.following_sum(id);
                let mut covers = vec![id];
                covers.extend(following.map(|(sum, _)| sum));
                let out = self.value_slot(*covers.last().expect("the product itself"));
                let residual = following.map(|(_, residual)| residual);
                self.emit(
                    Call::ScaleFeatures { x, factors: params[0], residual, out, size: size(&node.shape) },
                    &covers,
                );
            }
            Op::ScaleFeaturesGrad => {
                let (dy, x) = (self.slot(id, 0), self.slot(id, 1));
                let asked = !self.uses[id.index()].is_empty();
                let out = asked.then(|| self.value_slot(id));
                let starts = self.starts(id, &params, true);
                let size = size(&node.shape);
                self.emit(Call::ScaleFeaturesGrad { dy, x, factors: params[0], out, size, starts }, &[id]);
            }
            Op::Dropout(dropout) => {
                let (x, out) = (self.slot(id, 0), self.value_slot(id));
                let dropout = self.node_dropout(id, dropout);
                self.emit(Call::Drop { dropout, x, out }, &[id]);
            }
            Op::DropoutGrad(dropout) => {
                let x = self.slot(id, 0);
                if self.dropout_is_in_derivative(id) {
                    return self.alias(id, x);
                }
                let out = self.value_slot(id);
                let dropout = self.node_dropout(id, dropout);
                self.emit(Call::Drop { dropout, x, out }, &[id]);
            }
            Op::Add => {
                let (a, b) = (self.slot(id, 0), Addend::Value(self.slot(id, 1)));
                let out = self.value_slot(id);
                self.emit(Call::Add { a, b, out, len: node.shape.len() }, &[id]);
            }
            Op::AddTable => {
                let (a, out) = (self.slot(id, 0), self.value_slot(id));
                self.emit(Call::Add { a, b: Addend::Param(params[0]), out, len: node.shape.len() }, &[id]);
            }
            Op::AddConstant(values) => {
                self.program.constants.push(values);
                let b = Addend::Constant(self.program.constants.len() - 1);
                let (a, out) = (self.slot(id, 0), self.value_slot(id));
                self.emit(Call::Add { a, b, out, len: node.shape.len() }, &[id]);
            }
            Op::AddTableGrad => {
                let dy = self.slot(id, 0);
                let len = self.node(self.input(id, 0)).shape.len();
                let starts = self.starts(id, &params, len == self.graph.parameter(node.params[0]).shape.len());
                self.emit(Call::TableGrad { dy, table: params[0], len, starts }, &[id]);
            }
            Op::PrependToken => {
                let (x, out) = (self.slot(id, 0), self.value_slot(id));
                self.emit(Call::PrependToken { x, out, token: params[0], size: size(&node.shape) }, &[id]);
            }
            Op::PrependTokenGrad => {
                let dy = self.slot(id, 0);
                let size = size(&self.node(self.input(id, 0)).shape);
                let asked = !self.uses[id.index()].is_empty();
                let out = asked.then(|| self.value_slot(id));
                let starts = self.starts(id, &params, true);
                self.emit(Call::PrependTokenGrad { dy, out, token: params[0], size, starts }, &[id]);
            }
            Op::SelectToken { index } => {
                let size = size(&self.node(self.input(id, 0)).shape);
                let (x, out) = (self.slot(id, 0), self.value_slot(id));
                self.emit(Call::SelectToken { x, out, index, size }, &[id]);
            }
            Op::SelectTokenGrad { index } => {
                let (dy, out) = (self.slot(id, 0), self.value_slot(id));
                self.emit(Call::SelectTokenGrad { dy, out, index, size: size(&node.shape) }, &[id]);
            }
            Op::MeanTokens => {
                let size = size(&self.node(self.input(id, 0)).shape);
                let (x, out) = (self.slot(id, 0), self.value_slot(id));
                self.emit(Call::MeanTokens { x, out, size }, &[id]);
            }
            Op::MeanTokensGrad => {
                let (dy, out) = (self.slot(id, 0), self.value_slot(id));
                self.emit(Call::MeanTokensGrad { dy, out, size: size(&node.shape) }, &[id]);
            }
            // attention
            Op::Attention(_)
            | Op::AttentionGrad(_)
            | Op::Attend(_)
            | Op::AttendGrad(..)
            | Op::PerHeadLinearParamGrad { .. }
            | Op::Softmax
            | Op::SoftmaxGrad
            | Op::SliceFeatures { .. }
            | Op::SliceFeaturesGrad { .. }
            | Op::SliceTokens { .. }
            | Op::SliceTokensGrad { .. }
            | Op::ConcatFeatures
            | Op::Reshape
            | Op::Embedding
            | Op::EmbeddingGrad
            | Op::TrainedConstant
            | Op::Scale { .. }
            | Op::DropPath(_)
            | Op::CrossEntropyTokens { .. }
            | Op::CrossEntropyTokensGrad { .. }
            | Op::CorrectSequence => self.sequence(id),
            // convolution
            Op::ChannelsLast | Op::ChannelsFirst => self.order(id),
            Op::Conv2d(convolution) => self.conv2d(id, convolution),
            Op::Conv2dInputGrad(convolution) => self.conv2d_input_grad(id, convolution),
            Op::Conv2dParamGrad(convolution) if self.wide[params[0]] => self.wide_conv2d_param_grad(id, convolution),
            Op::Conv2dParamGrad(convolution) => self.conv2d_param_grad(id, convolution),
            Op::MaxPool2d(pool) | Op::AvgPool2d(pool) => self.pool(id, pool),
            Op::MaxPool2dGrad(pool) => self.max_pool_grad(id, pool),
            Op::AvgPool2dGrad(pool) => self.avg_pool_grad(id, pool),
            Op::GroupNorm { groups, eps } => self.group_norm(id, groups, eps),
            Op::GroupNormGrad { groups, eps } => self.group_norm_grad(id, groups, eps),
            Op::BatchNorm { eps, momentum } => self.batch_norm(id, eps, momentum),
            Op::BatchNormGrad { eps, frozen: true } => self.channel_norm_grad(id, eps),
            Op::BatchNormGrad { eps, .. } => self.batch_norm_grad(id, eps),
            Op::CrossEntropy { smoothing } => {
                let (logits, label, classes) = self.logits(id);
                let out = self.value_slot(id);
                self.emit(Call::CrossEntropy { logits, label, out, classes, smoothing }, &[id]);
            }
            Op::CrossEntropyGrad { smoothing } => {
                let (logits, label, classes) = self.logits(id);
                let out = self.value_slot(id);
                self.emit(Call::CrossEntropyGrad { logits, label, out, classes, smoothing }, &[id]);
            }
            Op::Correct => {
                let (logits, label, classes) = self.logits(id);
                let out = self.value_slot(id);
                self.emit(Call::Correct { logits, label, out, classes }, &[id]);
            }
        }
    }

    fn logits(&self, id: NodeId) -> (Slot, Slot, usize) {
        (self.slot(id, 0), self.slot(id, 1), self.node(self.input(id, 0)).shape.features())
    }
}
