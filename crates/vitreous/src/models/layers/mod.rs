//! The layers of networks, one file each.
//!
//! Each function adds nodes to a graph. Names are timm's where timm has the layer.

pub mod embedding;
pub mod head;
pub mod init;
pub mod spatial_attention;
