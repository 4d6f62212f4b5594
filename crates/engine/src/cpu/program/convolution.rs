//! The calls of convolutional networks.

use super::{Factor, Param, Slot};
use crate::ops::Pool;

/// One call of the convolution family. Counts are for one image.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cpu) enum ConvolutionCall {
    /// Converts between channels-first and channels-last order.
    Order {
        x: Slot,
        out: Slot,
        channels: usize,
        len: usize,
        last: bool,
    },
    Product(ConvolutionProduct),
    /// `room` is the kernel's scratch memory.
    ParamGrad {
        dy: Slot,
        x: Slot,
        geometry: usize,
        weight: Param,
        bias: Option<Param>,
        room: Slot,
        starts: bool,
    },
    /// The gradient of a wide weight, computed a few rows at a time right before the update; see [`super::Call::late`].
    LateGrad {
        dy: Slot,
        x: Slot,
        geometry: usize,
        weight: Param,
        size: [usize; 2],
    },
    MaxPool(Pooling),
    /// The gradient is multiplied by a number if the maximum is positive, and by 0 otherwise.
    MaxPoolGrad {
        pooling: Pooling,
        dy: Slot,
        where_positive: Option<f32>,
    },
    AvgPool(Pooling),
    AvgPoolGrad(Pooling),
    GroupNorm(GroupNorm),
    GroupNormGrad {
        norm: GroupNorm,
        dy: Slot,
        starts: bool,
    },
    /// One of the calls of a batch norm in training; see [`BatchNorm`].
    BatchNorm {
        norm: BatchNorm,
        does: BatchNormPart,
    },
    /// Batch norm with given statistics; the parameters are weight, bias, mean and variance.
    ChannelNorm {
        x: Slot,
        out: Slot,
        params: [Param; 4],
        size: [usize; 2],
        eps: f32,
        relu: Option<f32>,
    },
    /// The gradient of a batch norm with given statistics, with the same parameters.
    ChannelNormGrad {
        dy: Slot,
        x: Slot,
        out: Option<Slot>,
        params: [Param; 4],
        size: [usize; 2],
        eps: f32,
        starts: bool,
    },
}

/// A convolution or its input's gradient, with the fused operations.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cpu) struct ConvolutionProduct {
    pub x: Slot,
    /// Number in [`super::Program::geometries`].
    pub geometry: usize,
    /// Number in [`super::Program::packed`].
    pub weight: usize,
    /// Whether threads divide its panels, each with all images of the batch.
    pub whole: bool,
    pub bias: Option<Param>,
    pub relu: bool,
    pub factor: Option<Factor>,
    pub residual: Option<Slot>,
    pub out: Slot,
}

/// Pooling: `x` and `out` are the map and the pooled map. For the gradient of max pooling they are the map and its
/// gradient; for that of average pooling, the pooled map's gradient and the map's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::cpu) struct Pooling {
    pub pool: Pool,
    pub input: [usize; 3],
    pub output: [usize; 3],
    pub x: Slot,
    pub out: Slot,
}

/// A batch norm in training. Some calls do not use all fields.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::cpu) struct BatchNorm {
    /// The input.
    pub x: Slot,
    /// Weight and bias; for the statistics, running mean and variance.
    pub params: [Param; 2],
    /// Pixels per image, and channels.
    pub size: [usize; 2],
    pub eps: f32,
    /// Two numbers for each channel and image.
    pub sums: Slot,
    /// Mean and variance of each channel and micro-batch.
    pub stats: Slot,
}

/// The calls of a batch norm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::cpu) enum BatchNormPart {
    /// Sums of each image.
    ImageSums,
    /// Statistics of the whole batch; updates the running statistics.
    Statistics { momentum: f32 },
    /// The result, with the upper limit of the ReLU that follows.
    Value { out: Slot, relu: Option<f32> },
    /// Sums of each image's gradients, which are also added to the parameters' gradients.
    ImageGradSums { dy: Slot, starts: bool },
    /// Totals of the whole batch, two numbers for each channel and micro-batch.
    Totals { totals: Slot },
    /// The input's gradient.
    InputGrad { dy: Slot, totals: Slot, out: Slot },
}

/// A group norm, or its gradient, for which `out` is optional.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::cpu) struct GroupNorm {
    pub x: Slot,
    pub out: Option<Slot>,
    pub params: [Param; 2],
    /// Pixels and channels.
    pub size: [usize; 2],
    pub groups: usize,
    pub eps: f32,
    pub scratch: Slot,
}

impl ConvolutionCall {
    /// Whether the call processes the whole batch, see [`super::Call::whole`].
    pub fn whole(&self) -> bool {
        match self {
            ConvolutionCall::BatchNorm { does, .. } => {
                matches!(does, BatchNormPart::Statistics { .. } | BatchNormPart::Totals { .. })
            }
            ConvolutionCall::Product(product) => product.whole,
            call => call.late(),
        }
    }

    /// Whether the call is at the program's end, see [`super::Call::late`].
    pub fn late(&self) -> bool {
        matches!(self, ConvolutionCall::LateGrad { .. })
    }

    /// The slots that are read.
    pub fn reads(&self) -> Vec<Slot> {
        match *self {
            ConvolutionCall::Order { x, .. } | ConvolutionCall::ChannelNorm { x, .. } => vec![x],
            ConvolutionCall::Product(ref product) => {
                let all = [Some(product.x), product.factor.map(Factor::slot), product.residual];
                all.into_iter().flatten().collect()
            }
            ConvolutionCall::ParamGrad { dy, x, .. }
            | ConvolutionCall::LateGrad { dy, x, .. }
            | ConvolutionCall::ChannelNormGrad { dy, x, .. } => vec![dy, x],
            ConvolutionCall::MaxPool(pooling)
            | ConvolutionCall::AvgPool(pooling)
            | ConvolutionCall::AvgPoolGrad(pooling) => vec![pooling.x],
            ConvolutionCall::MaxPoolGrad { pooling, dy, .. } => vec![pooling.x, dy],
            ConvolutionCall::GroupNorm(norm) => vec![norm.x],
            ConvolutionCall::GroupNormGrad { norm, dy, .. } => vec![norm.x, dy],
            ConvolutionCall::BatchNorm { norm: BatchNorm { x, sums, stats, .. }, does } => match does {
                BatchNormPart::ImageSums => vec![x],
                BatchNormPart::Statistics { .. } | BatchNormPart::Totals { .. } => vec![sums],
                BatchNormPart::Value { .. } => vec![x, stats],
                BatchNormPart::ImageGradSums { dy, .. } => vec![x, dy, stats],
                BatchNormPart::InputGrad { dy, totals, .. } => vec![x, dy, stats, totals],
            },
        }
    }

    /// The slots that are written, including scratch memory.
    pub fn writes(&self) -> Vec<Slot> {
        match *self {
            ConvolutionCall::Order { out, .. } | ConvolutionCall::ChannelNorm { out, .. } => vec![out],
            ConvolutionCall::Product(ref product) => vec![product.out],
            ConvolutionCall::ParamGrad { room, .. } => vec![room],
            ConvolutionCall::LateGrad { .. } => vec![],
            ConvolutionCall::ChannelNormGrad { out, .. } => out.into_iter().collect(),
            ConvolutionCall::MaxPool(pooling)
            | ConvolutionCall::AvgPool(pooling)
            | ConvolutionCall::AvgPoolGrad(pooling)
            | ConvolutionCall::MaxPoolGrad { pooling, .. } => vec![pooling.out],
            ConvolutionCall::GroupNorm(norm) | ConvolutionCall::GroupNormGrad { norm, .. } => {
                norm.out.into_iter().chain([norm.scratch]).collect()
            }
            ConvolutionCall::BatchNorm { norm, does } => match does {
                BatchNormPart::ImageSums | BatchNormPart::ImageGradSums { .. } => vec![norm.sums],
                BatchNormPart::Statistics { .. } => vec![norm.stats],
                BatchNormPart::Totals { totals } => vec![totals],
                BatchNormPart::Value { out, .. } | BatchNormPart::InputGrad { out, .. } => vec![out],
            },
        }
    }

    /// Pairs of a read and a written slot that may share memory.
    pub fn in_place(&self) -> Vec<[Slot; 2]> {
        match *self {
            // A product reads each pixel several times, so the map must not be overwritten.
            ConvolutionCall::Product(ref product) => {
                let residual = product.residual.filter(|&residual| residual != product.x);
                residual.iter().map(|&x| [x, product.out]).collect()
            }
            ConvolutionCall::GroupNorm(norm) => norm.out.iter().map(|&out| [norm.x, out]).collect(),
            ConvolutionCall::GroupNormGrad { norm, dy, .. } => norm.out.iter().map(|&out| [dy, out]).collect(),
            ConvolutionCall::ChannelNorm { x, out, .. } => vec![[x, out]],
            ConvolutionCall::ChannelNormGrad { dy, out, .. } => out.iter().map(|&out| [dy, out]).collect(),
            ConvolutionCall::BatchNorm { norm, does: BatchNormPart::Value { out, .. } } => vec![[norm.x, out]],
            ConvolutionCall::BatchNorm { does: BatchNormPart::InputGrad { dy, out, .. }, .. } => vec![[dy, out]],
            _ => vec![],
        }
    }
}
