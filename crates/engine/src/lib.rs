//! Graphs of tensors, trained and evaluated fast on the CPU.
//!
#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod autodiff;
#[allow(unsafe_code, reason = "kernels work on raw memory; `cpu` states the rules that make it sound")]
mod cpu;
pub mod graph;
pub mod ops;
pub mod profile;
pub mod random;
pub mod reference;
mod session;

pub use cpu::optimizer::*;
pub use cpu::roof::Roof;
pub use cpu::{Inference, Isa, Parameters, Session, inference_memory, training_memory};
pub use graph::{Graph, GraphError, Init, NodeId, ParamId, ParameterKind, Shape};
pub use random::Key;
pub use session::{Examples, Memory, OptimizerState, SessionError, Step, StepReport, WideRule};
