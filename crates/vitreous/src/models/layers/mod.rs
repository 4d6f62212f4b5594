//! The layers of a vision transformer, one file for each.
//!
//! Every function adds nodes to a graph under a name, which is the timm name of the layer it builds.

pub mod attention;
pub mod block;
pub mod embedding;
pub mod head;
pub mod init;
pub mod mlp;
