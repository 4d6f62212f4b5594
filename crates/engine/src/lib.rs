//! Static graphs of tensors, compiled to fast CPU programs for training and inference.

pub mod autodiff;
pub mod graph;
pub mod ops;
pub mod random;
pub mod reference;

pub use graph::{Graph, GraphError, Init, NodeId, ParamId, Shape};
