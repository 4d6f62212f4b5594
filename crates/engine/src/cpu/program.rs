//! A lowered graph: the kernel calls in their order, and the slots of their values.

pub(super) mod convolution;
pub(super) mod sequence;

use convolution::ConvolutionCall;

use super::Isa;
use super::convolution::Geometry;
use super::linear::{Multiply, packed_len};
use crate::graph::NodeId;
use crate::ops::{Activation, Dropout};

pub(super) use sequence::{Attend, AttendGrad, AttendSizes, PerHeadParamGrad, SequenceCall, Strips, View};

/// A value of a program: its number in [`Program::slots`].
pub(super) type Slot = usize;
/// A parameter: its number in the graph.
pub(super) type Param = usize;

/// Memory of a value, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotSize {
    /// Numbers per image of the chunk.
    pub per_image: usize,
    /// Numbers that do not depend on the chunk.
    pub fixed: usize,
}

/// What a product's result is multiplied by, see [`super::linear::Multiply`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Factor {
    /// Factors, one for each number.
    By(Slot),
    /// The number if the value is positive, otherwise 0.
    WherePositive(Slot, f32),
    /// 1 if the value is between 0 and 6, otherwise 0.
    Between0And6(Slot),
}

/// The operand that is added to each image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Addend {
    /// Another value.
    Value(Slot),
    /// The first rows of a parameter.
    Param(Param),
    /// A constant of [`Program::constants`].
    Constant(usize),
}

/// A weight in packed form: its parameter and its orientation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PackedWeight {
    pub param: Param,
    pub out_features: usize,
    pub in_features: usize,
    /// 1 for a full matrix; otherwise the number of diagonal blocks in each square of `in_features` rows, and the
    /// parameter holds only these blocks.
    pub heads: usize,
    /// Whether it is for the forward product; otherwise for the input's gradient.
    pub forward: bool,
    /// For a convolution: number in [`Program::geometries`].
    pub geometry: Option<usize>,
}

/// One kernel call. Counts of rows and values are for one image. `starts` marks the first call that adds to a
/// parameter's gradient: it overwrites, so the gradient need not be cleared.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Call {
    Input { input: usize, out: Slot, len: usize },
    Output { output: usize, x: Slot, len: usize },
    Patches { x: Slot, out: Slot, image: [usize; 3], patch: usize },
    Product(Product),
    ParamGrad { dy: Slot, x: Slot, rows: usize, size: [usize; 2], weight: Param, bias: Option<Param>, starts: bool },
    LayerNorm { x: Slot, out: Slot, stats: Option<Slot>, params: [Param; 2], size: [usize; 2], eps: f32, relu: bool },
    LayerNormGrad(LayerNormGrad),
    Activate { activation: Activation, x: Slot, dy: Option<Slot>, out: Slot, len: usize },
    Scale { x: Slot, factor: Factor, out: Slot, len: usize },
    ScaleFeatures { x: Slot, factors: Param, residual: Option<Slot>, out: Slot, size: [usize; 2] },
    ScaleFeaturesGrad { dy: Slot, x: Slot, factors: Param, out: Option<Slot>, size: [usize; 2], starts: bool },
    Drop { dropout: usize, x: Slot, out: Slot },
    Add { a: Slot, b: Addend, out: Slot, len: usize },
    ClearGradient { param: Param, len: usize },
    TableGrad { dy: Slot, table: Param, len: usize, starts: bool },
    PrependToken { x: Slot, out: Slot, token: Param, size: [usize; 2] },
    PrependTokenGrad { dy: Slot, out: Option<Slot>, token: Param, size: [usize; 2], starts: bool },
    SelectToken { x: Slot, out: Slot, index: usize, size: [usize; 2] },
    SelectTokenGrad { dy: Slot, out: Slot, index: usize, size: [usize; 2] },
    MeanTokens { x: Slot, out: Slot, size: [usize; 2] },
    MeanTokensGrad { dy: Slot, out: Slot, size: [usize; 2] },
    // attention
    Sequence(SequenceCall),
    // convolution
    Convolution(ConvolutionCall),
    // wide layers
    Wide(Wide),
    CrossEntropy { logits: Slot, label: Slot, out: Slot, classes: usize, smoothing: f32 },
    CrossEntropyGrad { logits: Slot, label: Slot, out: Slot, classes: usize, smoothing: f32 },
    Correct { logits: Slot, label: Slot, out: Slot, classes: usize },
}

/// A linear layer or its input's gradient, with the fused operations.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Product {
    pub x: Slot,
    /// Number in [`Program::packed`].
    pub weight: usize,
    pub rows: usize,
    pub steps: usize,
    pub columns: usize,
    pub bias: Option<Param>,
    pub activation: Option<Activation>,
    pub derivative: Option<Slot>,
    pub factor: Option<Factor>,
    /// Number in [`Program::dropouts`].
    pub dropout: Option<usize>,
    pub residual: Option<Slot>,
    pub out: Slot,
}

impl Product {
    /// A product with nothing fused, whose output slot is still to be chosen.
    pub fn new(x: Slot, weight: usize, [rows, steps, columns]: [usize; 3]) -> Self {
        Product {
            x,
            weight,
            rows,
            steps,
            columns,
            bias: None,
            activation: None,
            derivative: None,
            factor: None,
            dropout: None,
            residual: None,
            out: Slot::MAX,
        }
    }
}

/// The gradient of a layer norm.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LayerNormGrad {
    pub dy: Slot,
    pub x: Slot,
    pub stats: Slot,
    pub params: [Param; 2],
    /// Rows and features.
    pub size: [usize; 2],
    pub residual: Option<Slot>,
    pub out: Option<Slot>,
    pub starts: bool,
}

/// A linear layer that is cut by columns; each piece has all rows of the batch. Sizes are `[out, in]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Wide {
    Product {
        x: Slot,
        out: Slot,
        weight: Param,
        bias: Option<Param>,
        rows: usize,
        size: [usize; 2],
    },
    InputGrad {
        dy: Slot,
        out: Slot,
        weight: Param,
        rows: usize,
        size: [usize; 2],
    },
    /// The gradient of a weight to which no other call adds.
    WeightGrad {
        dy: Slot,
        x: Slot,
        weight: Param,
        rows: usize,
        size: [usize; 2],
    },
    /// The gradient of a bias to which no other call adds.
    BiasGrad {
        dy: Slot,
        bias: Param,
        rows: usize,
        len: usize,
    },
}

/// A dropout, with rows and features per image, from which each value's position in the random stream follows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ProgramDropout {
    pub dropout: Dropout,
    pub rows: usize,
    pub features: usize,
}

/// A compiled graph.
#[derive(Clone, Debug, Default)]
pub(super) struct Program {
    pub calls: Vec<Call>,
    /// The nodes that each call covers, the main one first; a call that only prepares for a node's call has that node.
    pub covers: Vec<Vec<NodeId>>,
    pub slots: Vec<SlotSize>,
    pub packed: Vec<PackedWeight>,
    pub constants: Vec<std::sync::Arc<[f32]>>,
    pub dropouts: Vec<ProgramDropout>,
    pub geometries: Vec<Geometry>,
    /// Length of each output for one image.
    pub outputs: Vec<usize>,
    /// The parameters to whose gradients parts add, each with the number of the first such call.
    pub gradients: Vec<(usize, Param)>,
}

impl Program {
    /// Panels of a packed weight.
    pub fn panels(&self, weight: &PackedWeight, isa: Isa) -> usize {
        let columns = if weight.forward { weight.out_features } else { weight.in_features };
        weight.geometry.map_or(columns.div_ceil(isa.panel()), |geometry| self.geometries[geometry].panels(isa))
    }

    /// Numbers in a packed weight.
    pub fn packed_len(&self, weight: &PackedWeight, isa: Isa) -> usize {
        let (steps, columns) = if weight.forward {
            (weight.in_features, weight.out_features)
        } else {
            (weight.out_features, weight.in_features)
        };
        let linear = || packed_len(isa, steps, columns);
        weight.geometry.map_or_else(linear, |geometry| self.geometries[geometry].packed_len(isa))
    }
}

impl Call {
    /// Whether the call processes the whole batch (or one micro-batch after the other): all threads run it together and
    /// divide the work inside it. Other calls process one chunk.
    pub fn whole(&self) -> bool {
        match self {
            Call::Wide(_) => true,
            // convolution
            Call::Convolution(call) => call.whole(),
            _ => false,
        }
    }

    /// Whether the call computes a parameter's whole gradient, block by block, right before the update. Late calls are
    /// at the end of a program.
    pub fn late(&self) -> bool {
        match self {
            Call::Wide(Wide::WeightGrad { .. } | Wide::BiasGrad { .. }) => true,
            // convolution
            Call::Convolution(call) => call.late(),
            _ => false,
        }
    }

    /// The slots that are read.
    pub fn reads(&self) -> Vec<Slot> {
        let some = |slots: &[Option<Slot>]| slots.iter().flatten().copied().collect();
        match *self {
            Call::Input { .. } | Call::ClearGradient { .. } => vec![],
            Call::Output { x, .. }
            | Call::Patches { x, .. }
            | Call::LayerNorm { x, .. }
            | Call::Drop { x, .. }
            | Call::PrependToken { x, .. }
            | Call::SelectToken { x, .. }
            | Call::MeanTokens { x, .. } => vec![x],
            Call::TableGrad { dy, .. }
            | Call::PrependTokenGrad { dy, .. }
            | Call::SelectTokenGrad { dy, .. }
            | Call::MeanTokensGrad { dy, .. } => vec![dy],
            Call::Product(ref product) => some(&[Some(product.x), product.factor.map(Factor::slot), product.residual]),
            Call::ParamGrad { dy, x, .. } => vec![dy, x],
            Call::LayerNormGrad(ref grad) => some(&[Some(grad.dy), Some(grad.x), Some(grad.stats), grad.residual]),
            Call::Activate { x, dy, .. } => some(&[Some(x), dy]),
            Call::Wide(ref wide) => wide.reads(),
            Call::Scale { x, factor, .. } => vec![x, factor.slot()],
            Call::ScaleFeatures { x, residual, .. } => some(&[Some(x), residual]),
            Call::ScaleFeaturesGrad { dy, x, .. } => vec![dy, x],
            Call::Add { a, b: Addend::Value(b), .. } => vec![a, b],
            Call::Add { a, .. } => vec![a],
            // attention
            Call::Sequence(ref call) => call.reads(),
            // convolution
            Call::Convolution(ref call) => call.reads(),
            Call::CrossEntropy { logits, label, .. }
            | Call::CrossEntropyGrad { logits, label, .. }
            | Call::Correct { logits, label, .. } => vec![logits, label],
        }
    }

    /// The slots that are written, including scratch memory.
    pub fn writes(&self) -> Vec<Slot> {
        let some = |slots: &[Option<Slot>]| slots.iter().flatten().copied().collect();
        match *self {
            Call::Output { .. } | Call::ClearGradient { .. } | Call::ParamGrad { .. } | Call::TableGrad { .. } => {
                vec![]
            }
            Call::Input { out, .. }
            | Call::Patches { out, .. }
            | Call::Activate { out, .. }
            | Call::Scale { out, .. }
            | Call::ScaleFeatures { out, .. }
            | Call::Drop { out, .. }
            | Call::Add { out, .. }
            | Call::PrependToken { out, .. }
            | Call::SelectToken { out, .. }
            | Call::SelectTokenGrad { out, .. }
            | Call::MeanTokens { out, .. }
            | Call::MeanTokensGrad { out, .. }
            | Call::CrossEntropy { out, .. }
            | Call::CrossEntropyGrad { out, .. }
            | Call::Correct { out, .. } => vec![out],
            Call::Product(ref product) => some(&[Some(product.out), product.derivative]),
            Call::Wide(ref wide) => wide.writes(),
            Call::LayerNorm { out, stats, .. } => some(&[Some(out), stats]),
            Call::LayerNormGrad(ref grad) => some(&[grad.out]),
            Call::PrependTokenGrad { out, .. } | Call::ScaleFeaturesGrad { out, .. } => some(&[out]),
            // attention
            Call::Sequence(ref call) => call.writes(),
            // convolution
            Call::Convolution(ref call) => call.writes(),
        }
    }

    /// Pairs of a read and a written slot that may share memory.
    pub fn in_place(&self) -> Vec<[Slot; 2]> {
        match *self {
            // A product reads its rows once for every panel of columns, so they must not be overwritten.
            Call::Product(ref product) => {
                let residual = product.residual.filter(|&residual| residual != product.x);
                residual.iter().map(|&x| [x, product.out]).collect()
            }
            Call::LayerNormGrad(ref grad) => match grad.out {
                Some(out) => grad.residual.iter().chain([&grad.dy]).map(|&x| [x, out]).collect(),
                None => vec![],
            },
            Call::LayerNorm { x, out, .. }
            | Call::Drop { x, out, .. }
            | Call::Scale { x, out, .. }
            | Call::Activate { x, dy: None, out, .. } => vec![[x, out]],
            Call::Activate { dy: Some(dy), out, .. } | Call::ScaleFeaturesGrad { dy, out: Some(out), .. } => {
                vec![[dy, out]]
            }
            Call::ScaleFeatures { x, residual, out, .. } => residual.into_iter().chain([x]).map(|x| [x, out]).collect(),
            Call::Add { a, b: Addend::Value(b), out, .. } => vec![[a, out], [b, out]],
            Call::Add { a, out, .. } => vec![[a, out]],
            // attention
            Call::Sequence(ref call) => call.in_place(),
            // convolution
            Call::Convolution(ref call) => call.in_place(),
            _ => vec![],
        }
    }
}

impl Wide {
    fn reads(&self) -> Vec<Slot> {
        match *self {
            Wide::Product { x, .. } => vec![x],
            Wide::InputGrad { dy, .. } | Wide::BiasGrad { dy, .. } => vec![dy],
            Wide::WeightGrad { dy, x, .. } => vec![dy, x],
        }
    }

    fn writes(&self) -> Vec<Slot> {
        match *self {
            Wide::Product { out, .. } | Wide::InputGrad { out, .. } => vec![out],
            Wide::WeightGrad { .. } | Wide::BiasGrad { .. } => vec![],
        }
    }
}

impl Factor {
    pub fn slot(self) -> Slot {
        match self {
            Factor::By(slot) | Factor::WherePositive(slot, _) | Factor::Between0And6(slot) => slot,
        }
    }

    /// The same with the address of its values.
    pub fn multiply(self, at: impl Fn(Slot) -> *mut f32) -> Multiply {
        match self {
            Factor::By(slot) => Multiply::By(at(slot)),
            Factor::WherePositive(slot, number) => Multiply::WherePositive(at(slot), number),
            Factor::Between0And6(slot) => Multiply::Between0And6(at(slot)),
        }
    }
}
