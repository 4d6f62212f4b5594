//! The layers of networks, one file each.
//!
//! Each function adds nodes to a graph. Names are timm's where timm has the layer.

pub mod embedding;
pub mod head;
pub mod init;
pub mod spatial_attention;

/// Added to the variance in batch norm where no config says otherwise: PyTorch's default.
pub const BATCH_NORM_EPS: f32 = 1e-5;

/// The weight of a new batch in batch norm's running mean and variance: PyTorch's default.
pub const BATCH_NORM_MOMENTUM: f32 = 0.1;
