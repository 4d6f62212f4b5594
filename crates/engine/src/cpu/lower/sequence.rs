//! Lowers attention and the other operations on sequences.

use super::super::attention;
use super::super::program::{
    Attend, AttendGrad, AttendSizes, Call, PerHeadParamGrad, SequenceCall, Slot, Strips, View,
};
use super::{Lowering, Mode};
use crate::graph::NodeId;
use crate::ops::{AttendInput, Attention, Op};

impl Lowering<'_> {
    /// Lowers a node of this family.
    pub(super) fn sequence(&mut self, id: NodeId) {
        let node = self.node(id);
        let len = node.shape.len();
        let size = [node.shape.rows(), node.shape.features()];
        let param = |i: usize| node.params[i].index();
        let call = match node.op {
            Op::Attention(attention) => return self.attend(id, attention, self.fused(id, 0)),
            Op::Attend(attention) => return self.attend(id, attention, self.separate(id, 0)),
            Op::AttentionGrad(attention) => return self.attention_grad(id, attention),
            Op::AttendGrad(attention, _) => return self.attend_grad(id, attention),
            Op::PerHeadLinearParamGrad { heads, .. } => {
                let (dy, x) = (self.slot(id, 0), self.slot(id, 1));
                let of = &self.node(self.input(id, 0)).shape;
                let size = [of.features(), self.node(self.input(id, 1)).shape.features()];
                let params: Vec<usize> = node.params.iter().map(|param| param.index()).collect();
                let starts = self.starts(id, &params, true);
                let scratch = self.new_slot(0, size[0] * size[1]);
                let (weight, bias) = (params[0], params.get(1).copied());
                let rows = of.rows();
                let grad = PerHeadParamGrad { dy, x, rows, heads, size, weight, bias, scratch, starts };
                SequenceCall::PerHeadParamGrad(grad)
            }
            Op::Softmax => SequenceCall::Softmax { x: self.slot(id, 0), out: self.value_slot(id), size },
            Op::SoftmaxGrad => {
                let (dy, y) = (self.slot(id, 0), self.slot(id, 1));
                SequenceCall::SoftmaxGrad { dy, y, out: self.value_slot(id), size }
            }
            Op::SliceFeatures { start } => {
                let of = self.node(self.input(id, 0)).shape.features();
                self.strips(id, size[0], size[1], [start, of], [0, size[1]])
            }
            Op::SliceFeaturesGrad { start } => {
                let part = self.node(self.input(id, 0)).shape.features();
                self.strips(id, size[0], part, [0, part], [start, size[1]])
            }
            Op::SliceTokens { start } => {
                let of = self.node(self.input(id, 0)).shape.len();
                self.strips(id, 1, len, [start * size[1], of], [0, len])
            }
            Op::SliceTokensGrad { start } => {
                let part = self.node(self.input(id, 0)).shape.len();
                self.strips(id, 1, part, [0, part], [start * size[1], len])
            }
            Op::ConcatFeatures => return self.concat(id),
            Op::Reshape => {
                let x = self.slot(id, 0);
                return self.alias(id, x);
            }
            Op::Embedding => {
                let ids = self.slot(id, 0);
                let size = self.table_size(id);
                SequenceCall::Embedding {
                    ids,
                    out: self.value_slot(id),
                    table: param(0),
                    tokens: node.shape.rows(),
                    size,
                }
            }
            Op::EmbeddingGrad => {
                let (dy, ids) = (self.slot(id, 0), self.slot(id, 1));
                let (size, tokens) = (self.table_size(id), self.node(self.input(id, 1)).shape.len());
                // Only some rows of the table are written, so the gradient starts with zeros.
                self.starts(id, &[param(0)], false);
                SequenceCall::EmbeddingGrad { dy, ids, table: param(0), tokens, size }
            }
            Op::TrainedConstant => SequenceCall::Constant { out: self.value_slot(id), param: param(0), len },
            Op::Scale { factor } => {
                let (x, out) = (self.slot(id, 0), self.value_slot(id));
                SequenceCall::Multiply { x, number: factor, out, len }
            }
            Op::DropPath(dropout) => {
                let (x, out) = (self.slot(id, 0), self.value_slot(id));
                let dropout = self.new_dropout(dropout, 1, 1);
                SequenceCall::DropPath { dropout, x, out, len }
            }
            Op::CrossEntropyTokens { smoothing } => {
                let (logits, labels, size) = self.token_logits(id);
                SequenceCall::CrossEntropy { logits, labels, out: self.value_slot(id), size, smoothing }
            }
            Op::CrossEntropyTokensGrad { smoothing } => {
                let (logits, labels, size) = self.token_logits(id);
                SequenceCall::CrossEntropyGrad { logits, labels, out: self.value_slot(id), size, smoothing }
            }
            Op::CorrectSequence => {
                let (logits, labels, size) = self.token_logits(id);
                SequenceCall::Correct { logits, labels, out: self.value_slot(id), size }
            }
            ref op => unreachable!("{} is lowered elsewhere", op.name()),
        };
        self.emit(Call::Sequence(call), &[id]);
    }

    fn strips(&mut self, id: NodeId, rows: usize, len: usize, from: [usize; 2], to: [usize; 2]) -> SequenceCall {
        let (x, out) = (self.slot(id, 0), self.value_slot(id));
        SequenceCall::Strips(Strips { x, out, rows, len, from, to, clear: to[1] != len })
    }

    fn concat(&mut self, id: NodeId) {
        let node = self.node(id);
        let [rows, features] = [node.shape.rows(), node.shape.features()];
        let slots: Vec<Slot> = (0..node.inputs.len()).map(|i| self.slot(id, i)).collect();
        let out = self.value_slot(id);
        let mut start = 0;
        for (i, x) in slots.into_iter().enumerate() {
            let len = self.node(self.input(id, i)).shape.features();
            let strips = Strips { x, out, rows, len, from: [0, len], to: [start, features], clear: false };
            start += len;
            // The last call covers the node: only then is its value complete.
            let covers = if start == features { vec![id] } else { vec![] };
            self.emit(Call::Sequence(SequenceCall::Strips(strips)), &covers);
            let last = self.program.covers.last_mut().expect("the call just made");
            if last.is_empty() {
                last.push(id);
            }
        }
    }

    fn table_size(&self, id: NodeId) -> [usize; 2] {
        let table = &self.graph.parameter(self.node(id).params[0]).shape;
        [table.rows(), table.features()]
    }

    fn token_logits(&self, id: NodeId) -> (Slot, Slot, [usize; 2]) {
        let logits = &self.node(self.input(id, 0)).shape;
        (self.slot(id, 0), self.slot(id, 1), [logits.rows(), logits.features()])
    }

    /// Query, key and value side by side in one input.
    fn fused(&self, id: NodeId, i: usize) -> [View; 3] {
        let (slot, stride) = (self.slot(id, i), self.node(self.input(id, i)).shape.features());
        [0, 1, 2].map(|part| View { slot, offset: part * stride / 3, stride })
    }

    /// Query, key and value as three inputs.
    fn separate(&self, id: NodeId, first: usize) -> [View; 3] {
        [0, 1, 2].map(|part| {
            let stride = self.node(self.input(id, first + part)).shape.features();
            View { slot: self.slot(id, first + part), offset: 0, stride }
        })
    }

    fn attend_sizes(&mut self, attention: Attention, context: NodeId) -> AttendSizes {
        let node = self.node(context);
        let (queries, embed_dim) = (node.shape.rows(), node.shape.features());
        // A fused input has as many keys as queries.
        let keys = node.inputs.get(1).map_or(queries, |&k| self.node(k).shape.rows());
        let dropout = attention.dropout.filter(|_| self.mode == Mode::Train);
        let dropout = dropout.map(|dropout| self.new_dropout(dropout, attention.heads * queries, keys));
        let masked = node.inputs.len() == 4;
        AttendSizes { queries, keys, head_dim: embed_dim / attention.heads, attention, masked, dropout }
    }

    fn attend(&mut self, id: NodeId, attention: Attention, qkv: [View; 3]) {
        let sizes = self.attend_sizes(attention, id);
        let mask = (self.node(id).inputs.len() == 4).then(|| self.slot(id, 3));
        let is_grad = |user: &NodeId| matches!(self.node(*user).op, Op::AttentionGrad(_) | Op::AttendGrad(..));
        let asked = self.uses[id.index()].iter().any(is_grad);
        let out = self.value_slot(id);
        let memory = attention::Memory::of(&sizes);
        let kept = asked.then(|| self.new_slot(memory.kept, 0));
        if let Some(kept) = kept {
            self.weights.insert(id, kept);
        }
        let scratch = self.new_slot(0, memory.scratch);
        let call = Attend { sizes, qkv, mask, out, kept, scratch };
        self.emit(Call::Sequence(SequenceCall::Attend(call)), &[id]);
    }

    fn attention_grad(&mut self, id: NodeId, attention: Attention) {
        let context = self.input(id, 2);
        let (sizes, qkv) = (self.attend_sizes(attention, context), self.fused(id, 1));
        let (dy, kept) = (self.slot(id, 0), self.weights[&context]);
        let slot = self.value_slot(id);
        let context = self.slot(id, 2);
        let scratch = self.new_slot(0, attention::Memory::of(&sizes).scratch);
        let out = qkv.map(|view| Some(View { slot, ..view }));
        let grad = AttendGrad { sizes, dy, qkv, mask: None, context, kept, out, scratch };
        self.emit(Call::Sequence(SequenceCall::AttendGrad(grad)), &[id]);
    }

    /// One call computes the gradients of query, key and value.
    fn attend_grad(&mut self, id: NodeId, attention: Attention) {
        let inputs = &self.node(id).inputs;
        let context = self.input(id, 1);
        let (sizes, qkv) = (self.attend_sizes(attention, context), self.separate(id, 2));
        let (dy, kept) = (self.slot(id, 0), self.weights[&context]);
        let mask = (inputs.len() == 6).then(|| self.slot(id, 5));
        let mut covers = Vec::new();
        let out = [AttendInput::Query, AttendInput::Key, AttendInput::Value].map(|part| {
            let op = Op::AttendGrad(attention, part);
            let known = self.graph.ids().find(|&other| self.node(other).op == op && self.node(other).inputs == *inputs);
            let known = known.filter(|other| self.needed[other.index()])?;
            covers.push(known);
            Some(View { slot: self.value_slot(known), offset: 0, stride: self.node(known).shape.features() })
        });
        let context = self.slot(id, 1);
        let scratch = self.new_slot(0, attention::Memory::of(&sizes).scratch);
        let grad = AttendGrad { sizes, dy, qkv, mask, context, kept, out, scratch };
        self.emit(Call::Sequence(SequenceCall::AttendGrad(grad)), &covers);
    }
}
