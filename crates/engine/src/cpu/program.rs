//! A compiled graph: kernels to call one after the other on the images of a chunk, and where their values are stored.

pub(super) mod convolution;
mod sequence;

use convolution::ConvolutionCall;

use super::Isa;
use super::convolution::Geometry;
use super::linear::packed_len;
use crate::ops::{Activation, Dropout};

pub(super) use sequence::{Attend, AttendGrad, AttendSizes, PerHeadParamGrad, SequenceCall, Strips, View};

/// A value of a program: its number in [`Program::slots`].
pub(super) type Slot = usize;
/// A parameter: its number in the graph.
pub(super) type Param = usize;

/// How much memory a value takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotSize {
    /// Numbers for each image of the chunk.
    pub per_image: usize,
    /// Values for any chunk.
    pub fixed: usize,
}

/// What a product's result is multiplied by, see [`super::linear::Multiply`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Factor {
    /// These factors.
    By(Slot),
    /// The number where these values are positive, else 0.
    WherePositive(Slot, f32),
}

/// What is added to each image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Addend {
    /// Another value.
    Value(Slot),
    /// The first rows of a parameter.
    Param(Param),
    /// A constant of [`Program::constants`].
    Constant(usize),
}

/// A weight in packed form: which parameter, and which way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PackedWeight {
    pub param: Param,
    pub out_features: usize,
    pub in_features: usize,
    /// 1 for a whole matrix, else the number of blocks on the diagonal of each square of `in_features` rows: the
    /// parameter holds these alone.
    pub heads: usize,
    /// For the forward product, else for the input's gradient.
    pub forward: bool,
    /// Of a convolution: number in [`Program::geometries`].
    pub geometry: Option<usize>,
}

/// One kernel call. Counts of rows and values are for one image. `starts` marks the first call of a program that
/// adds to a parameter's gradient: it needs no zeros to add to.
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

/// A linear layer or its input's gradient, with what is fused in.
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
    /// A product with nothing fused in and no place for its result yet.
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

/// A linear layer that is cut by columns, all rows of the batch in each piece. Sizes are `[out, in]`.
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
    /// Of a weight that no other call gives a gradient.
    WeightGrad {
        dy: Slot,
        x: Slot,
        weight: Param,
        rows: usize,
        size: [usize; 2],
    },
    /// Of a bias that no other call gives a gradient.
    BiasGrad {
        dy: Slot,
        bias: Param,
        rows: usize,
        len: usize,
    },
}

/// A dropout with the rows and values that it numbers.
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
    /// The names of the nodes that each call covers.
    pub names: Vec<Vec<String>>,
    pub slots: Vec<SlotSize>,
    pub packed: Vec<PackedWeight>,
    pub constants: Vec<std::sync::Arc<[f32]>>,
    pub dropouts: Vec<ProgramDropout>,
    pub geometries: Vec<Geometry>,
    /// Values of each output for one image.
    pub outputs: Vec<usize>,
    /// The parameters to whose gradients the parts of a region add, each with the number of the first such call.
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
    /// Whether the call sees the whole batch (or one micro-batch after the other), so that all threads run it together
    /// and divide the work inside it. Others see one chunk.
    pub fn whole(&self) -> bool {
        match self {
            Call::Wide(_) => true,
            // convolution
            Call::Convolution(call) => call.whole(),
            _ => false,
        }
    }

    /// Whether the call gives the gradient of a parameter that is its alone, block by block, right before the update.
    /// Late calls are at the end of a program.
    pub fn late(&self) -> bool {
        match self {
            Call::Wide(Wide::WeightGrad { .. } | Wide::BiasGrad { .. }) => true,
            // convolution
            Call::Convolution(call) => call.late(),
            _ => false,
        }
    }

    /// The values that are read.
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

    /// The values that are written, scratch included.
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
            Call::PrependTokenGrad { out, .. } => some(&[out]),
            // attention
            Call::Sequence(ref call) => call.writes(),
            // convolution
            Call::Convolution(ref call) => call.writes(),
        }
    }

    /// Pairs of a value read and the one written, of which the second may take the place of the first.
    pub fn in_place(&self) -> Vec<[Slot; 2]> {
        match *self {
            // A product reads its rows again for every panel of columns, so they must not change meanwhile.
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
            Call::Activate { dy: Some(dy), out, .. } => vec![[dy, out]],
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
            Factor::By(slot) | Factor::WherePositive(slot, _) => slot,
        }
    }
}
