//! Static graphs of tensors, compiled to fast CPU programs for training and inference.

pub mod random;
