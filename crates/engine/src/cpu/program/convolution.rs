//! The calls of convolutional networks.

use super::{Factor, Param, Slot};
use crate::ops::Pool;

/// One call of the convolution family. Counts are for one image.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cpu) enum ConvolutionCall {
    /// The other order of a picture's values: channels go last, or first.
    Order {
        x: Slot,
        out: Slot,
        channels: usize,
        len: usize,
        last: bool,
    },
    Product(ConvolutionProduct),
    /// `sums` is room that the kernel needs.
    ParamGrad {
        dy: Slot,
        x: Slot,
        geometry: usize,
        weight: Param,
        bias: Option<Param>,
        sums: Slot,
        starts: bool,
    },
    MaxPool(Pooling),
    /// The gradient is multiplied by a number where the maximum is positive, and 0 elsewhere.
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
    /// Batch norm by its statistics; the parameters are weight, bias, mean and variance.
    ChannelNorm {
        x: Slot,
        out: Slot,
        params: [Param; 4],
        size: [usize; 2],
        eps: f32,
        relu: bool,
    },
}

/// A convolution or its input's gradient, with what is fused in.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cpu) struct ConvolutionProduct {
    pub x: Slot,
    /// Number in [`super::Program::geometries`].
    pub geometry: usize,
    /// Number in [`super::Program::packed`].
    pub weight: usize,
    pub bias: Option<Param>,
    pub relu: bool,
    pub factor: Option<Factor>,
    pub residual: Option<Slot>,
    pub out: Slot,
}

/// A pooling: `x` and `out` are the map and the pooled map; for the gradient of a maximum, the map and its gradient;
/// for that of a mean, the pooled map's gradient and the map's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::cpu) struct Pooling {
    pub pool: Pool,
    pub input: [usize; 3],
    pub output: [usize; 3],
    pub x: Slot,
    pub out: Slot,
}

/// A group norm, or its gradient, in which `out` may not be asked for.
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
    /// The values that are read.
    pub fn reads(&self) -> Vec<Slot> {
        match *self {
            ConvolutionCall::Order { x, .. } | ConvolutionCall::ChannelNorm { x, .. } => vec![x],
            ConvolutionCall::Product(ref product) => {
                let all = [Some(product.x), product.factor.map(Factor::slot), product.residual];
                all.into_iter().flatten().collect()
            }
            ConvolutionCall::ParamGrad { dy, x, .. } => vec![dy, x],
            ConvolutionCall::MaxPool(pooling)
            | ConvolutionCall::AvgPool(pooling)
            | ConvolutionCall::AvgPoolGrad(pooling) => vec![pooling.x],
            ConvolutionCall::MaxPoolGrad { pooling, dy, .. } => vec![pooling.x, dy],
            ConvolutionCall::GroupNorm(norm) => vec![norm.x],
            ConvolutionCall::GroupNormGrad { norm, dy, .. } => vec![norm.x, dy],
        }
    }

    /// The values that are written, scratch included.
    pub fn writes(&self) -> Vec<Slot> {
        match *self {
            ConvolutionCall::Order { out, .. } | ConvolutionCall::ChannelNorm { out, .. } => vec![out],
            ConvolutionCall::Product(ref product) => vec![product.out],
            ConvolutionCall::ParamGrad { sums, .. } => vec![sums],
            ConvolutionCall::MaxPool(pooling)
            | ConvolutionCall::AvgPool(pooling)
            | ConvolutionCall::AvgPoolGrad(pooling)
            | ConvolutionCall::MaxPoolGrad { pooling, .. } => vec![pooling.out],
            ConvolutionCall::GroupNorm(norm) | ConvolutionCall::GroupNormGrad { norm, .. } => {
                norm.out.into_iter().chain([norm.scratch]).collect()
            }
        }
    }

    /// Pairs of a value read and the one written, of which the second may take the place of the first.
    pub fn in_place(&self) -> Vec<[Slot; 2]> {
        match *self {
            // A product reads a pixel for many others, so its map must not change meanwhile.
            ConvolutionCall::Product(ref product) => {
                let residual = product.residual.filter(|&residual| residual != product.x);
                residual.iter().map(|&x| [x, product.out]).collect()
            }
            ConvolutionCall::GroupNorm(norm) => norm.out.iter().map(|&out| [norm.x, out]).collect(),
            ConvolutionCall::GroupNormGrad { norm, dy, .. } => norm.out.iter().map(|&out| [dy, out]).collect(),
            ConvolutionCall::ChannelNorm { x, out, .. } => vec![[x, out]],
            _ => vec![],
        }
    }
}
