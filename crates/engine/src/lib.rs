//! Graphs of tensors, trained and evaluated fast on the CPU.
//!
#![doc = include_str!("../README.md")]

pub mod autodiff;
mod cpu;
pub mod graph;
pub mod ops;
pub mod random;
pub mod reference;
mod session;

pub use cpu::{Isa, Parameters, Session, inference_memory, training_memory};
pub use graph::{Graph, GraphError, Init, NodeId, ParamId, ParameterKind, Shape};
pub use random::Key;
pub use session::{Adam, Average, Examples, Memory, Optimizer, OptimizerState, Sgd, Step, StepReport, WideRule};
