//! The layers of networks, one file for each.
//!
//! Every function adds nodes to a graph under a name, which is timm's of the layer where timm has it.

pub mod embedding;
pub mod head;
pub mod init;
pub mod spatial_attention;
