//! All integration tests of the engine that can share a process: one test program links faster than one per subject.
//!
//! `no_allocation` (a global allocator that counts) and `memory` (reads the memory use of its process) are their own.

mod common;
mod cost;
mod gradients;
mod nan;
mod optimizers;
mod programs;
mod resume;
mod sequences;
