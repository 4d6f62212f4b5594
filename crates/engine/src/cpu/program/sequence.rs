//! The calls of attention and of the other operations on sequences.

use super::{Param, Slot};
use crate::ops::Attention;

/// Sizes and options of an attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::cpu) struct AttendSizes {
    pub queries: usize,
    pub keys: usize,
    pub head_dim: usize,
    pub attention: Attention,
    /// Whether there is a mask of the keys.
    pub masked: bool,
    /// Number in [`super::Program::dropouts`].
    pub dropout: Option<usize>,
}

/// A range of columns in the rows of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::cpu) struct View {
    pub slot: Slot,
    /// The first column.
    pub offset: usize,
    /// Distance between rows.
    pub stride: usize,
}

/// An attention.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cpu) struct Attend {
    pub sizes: AttendSizes,
    /// Queries, keys and values.
    pub qkv: [View; 3],
    pub mask: Option<Slot>,
    pub out: Slot,
    /// Values that are stored for the backward pass.
    pub kept: Option<Slot>,
    pub scratch: Slot,
}

/// The gradient of an attention.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cpu) struct AttendGrad {
    pub sizes: AttendSizes,
    pub dy: Slot,
    pub qkv: [View; 3],
    pub mask: Option<Slot>,
    pub context: Slot,
    pub kept: Slot,
    /// Gradients of queries, keys and values that are needed.
    pub out: [Option<View>; 3],
    pub scratch: Slot,
}

/// Copies strips of `len` values, `rows` for each image; the rest of `out` is kept or cleared.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cpu) struct Strips {
    pub x: Slot,
    pub out: Slot,
    pub rows: usize,
    pub len: usize,
    /// Offset of the first strip and distance between strips; the distance times `rows` is an image's length.
    pub from: [usize; 2],
    pub to: [usize; 2],
    pub clear: bool,
}

/// The gradient of a per-head linear layer's parameters.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cpu) struct PerHeadParamGrad {
    pub dy: Slot,
    pub x: Slot,
    pub rows: usize,
    pub heads: usize,
    /// Features of dy and of x.
    pub size: [usize; 2],
    pub weight: Param,
    pub bias: Option<Param>,
    /// `size[0] * size[1]` numbers.
    pub scratch: Slot,
    pub starts: bool,
}

/// One call; counts are for one image.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cpu) enum SequenceCall {
    Attend(Attend),
    AttendGrad(AttendGrad),
    PerHeadParamGrad(PerHeadParamGrad),
    Softmax { x: Slot, out: Slot, size: [usize; 2] },
    SoftmaxGrad { dy: Slot, y: Slot, out: Slot, size: [usize; 2] },
    Strips(Strips),
    Embedding { ids: Slot, out: Slot, table: Param, tokens: usize, size: [usize; 2] },
    EmbeddingGrad { dy: Slot, ids: Slot, table: Param, tokens: usize, size: [usize; 2] },
    Constant { out: Slot, param: Param, len: usize },
    Multiply { x: Slot, number: f32, out: Slot, len: usize },
    DropPath { dropout: usize, x: Slot, out: Slot, len: usize },
    CrossEntropy { logits: Slot, labels: Slot, out: Slot, size: [usize; 2], smoothing: f32 },
    CrossEntropyGrad { logits: Slot, labels: Slot, out: Slot, size: [usize; 2], smoothing: f32 },
    Correct { logits: Slot, labels: Slot, out: Slot, size: [usize; 2] },
}

impl SequenceCall {
    /// The slots that are read.
    pub fn reads(&self) -> Vec<Slot> {
        match *self {
            SequenceCall::Attend(ref attend) => attend.qkv.iter().map(|view| view.slot).chain(attend.mask).collect(),
            SequenceCall::AttendGrad(ref grad) => {
                let views = grad.qkv.iter().map(|view| view.slot);
                views.chain(grad.mask).chain([grad.dy, grad.context, grad.kept]).collect()
            }
            SequenceCall::PerHeadParamGrad(ref grad) => vec![grad.dy, grad.x],
            SequenceCall::Strips(ref strips) => vec![strips.x],
            SequenceCall::Softmax { x, .. }
            | SequenceCall::Multiply { x, .. }
            | SequenceCall::DropPath { x, .. }
            | SequenceCall::Embedding { ids: x, .. } => vec![x],
            SequenceCall::SoftmaxGrad { dy, y: other, .. } | SequenceCall::EmbeddingGrad { dy, ids: other, .. } => {
                vec![dy, other]
            }
            SequenceCall::Constant { .. } => vec![],
            SequenceCall::CrossEntropy { logits, labels, .. }
            | SequenceCall::CrossEntropyGrad { logits, labels, .. }
            | SequenceCall::Correct { logits, labels, .. } => vec![logits, labels],
        }
    }

    /// The slots that are written, including scratch memory.
    pub fn writes(&self) -> Vec<Slot> {
        match *self {
            SequenceCall::Attend(ref attend) => [attend.out, attend.scratch].into_iter().chain(attend.kept).collect(),
            SequenceCall::AttendGrad(ref grad) => {
                grad.out.iter().flatten().map(|view| view.slot).chain([grad.scratch]).collect()
            }
            SequenceCall::PerHeadParamGrad(ref grad) => vec![grad.scratch],
            SequenceCall::Strips(ref strips) => vec![strips.out],
            SequenceCall::EmbeddingGrad { .. } => vec![],
            SequenceCall::Softmax { out, .. }
            | SequenceCall::SoftmaxGrad { out, .. }
            | SequenceCall::Embedding { out, .. }
            | SequenceCall::Constant { out, .. }
            | SequenceCall::Multiply { out, .. }
            | SequenceCall::DropPath { out, .. }
            | SequenceCall::CrossEntropy { out, .. }
            | SequenceCall::CrossEntropyGrad { out, .. }
            | SequenceCall::Correct { out, .. } => vec![out],
        }
    }

    /// Pairs of a read and a written slot that may share memory.
    pub fn in_place(&self) -> Vec<[Slot; 2]> {
        match *self {
            SequenceCall::Softmax { x, out, .. }
            | SequenceCall::Multiply { x, out, .. }
            | SequenceCall::DropPath { x, out, .. }
            | SequenceCall::SoftmaxGrad { dy: x, out, .. } => vec![[x, out]],
            _ => vec![],
        }
    }
}
