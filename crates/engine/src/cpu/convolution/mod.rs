//! Convolutional networks on maps `[height, width, channels]`: convolutions and their gradients as matrix products
//! that find their rows in the map itself, pooling, norms over pixels.
//!
//! Nothing is padded or unrolled in memory. [`geometry`] sorts the pixels of a result by the taps of the kernel that
//! lie inside the map, and a product processes pixels of one kind together. So it never multiplies the zeros of the
//! padding, which would be over half of the work on small maps. Convolutions of each channel by itself have kernels of their own
//! ([`depthwise`]).

pub(super) mod batch_norm;
mod depthwise;
mod geometry;
mod gradient;
mod norm;
mod order;
mod pack;
mod pooling;
mod product;
#[cfg(test)]
mod tests;

pub(super) use geometry::Geometry;
pub(super) use gradient::{ParamGrad, param_grad, room_len};
pub(super) use norm::{ChannelNorm, GroupNorm, GroupNormGrad, channel_norm, group_norm, group_norm_grad};
pub(super) use order::{channels_first, channels_last};
pub(super) use pack::{Pack, pack};
pub(super) use pooling::{MaxGrad, MeanGrad, Pooling, max, max_grad, mean, mean_grad};
pub(super) use product::{Product, product};
