//! What a session records of its work while it is given a clock, and the facts that this is read with.

pub use crate::cpu::{LANES, TILE_ROWS};
use crate::graph::NodeId;

/// A clock that threads share. The engine has none of its own.
pub trait Clock: Send + Sync {
    /// Nanoseconds since some moment, the same for all threads; never less than before.
    fn now(&self) -> u64;
}

/// What a thread works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// Copying weights into the order in which products read them.
    Pack,
    /// The call with this number in [`ProgramFacts::calls`].
    Call(u32),
    /// The keys of a chunk's dropout.
    Keys,
    /// Sums of the gradients of parts.
    Tree,
    /// The optimizer's update.
    Update,
    /// Thread 0 waits for the other threads at a barrier.
    Wait,
}

/// A piece of a thread's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// What it is.
    pub work: Work,
    /// Number of the part, or 0.
    pub part: u32,
    /// Number of the chunk in the part, or 0.
    pub chunk: u32,
    /// Images of the chunk; 0 where all images of the step are computed together, see [`CallFacts::is_whole`].
    pub images: u32,
    /// When it began, as [`Clock::now`] says.
    pub start: u64,
    /// When it ended.
    pub end: u64,
}

/// The pass that a call belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// The values of the model's nodes.
    Forward,
    /// Gradients.
    Backward,
}

/// What one call of a program computes.
#[derive(Clone, Debug, PartialEq)]
pub struct CallFacts {
    /// The model's nodes that it covers, the main one first: of a gradient, the node whose gradient rule it computes.
    pub layers: Vec<NodeId>,
    /// The names of the operations that it computes, such as `conv2d` or `linear_input_grad`; none if it only moves or
    /// clears values for one.
    pub ops: Vec<&'static str>,
    /// The pass.
    pub pass: Pass,
    /// Whether threads divide it by columns and compute all images of the step together.
    pub is_whole: bool,
    /// Whether it copies an input or an output.
    pub is_copy: bool,
    /// Floating-point operations for one image; a multiply-add is two.
    pub flops: u64,
    /// Bytes of activations that it reads and writes for one image; scratch memory of the call alone is not among them.
    pub bytes: u64,
    /// Bytes that it reads and writes each time it runs, for any number of images: parameters and their gradients, and the
    /// statistics of the batch.
    pub bytes_fixed: u64,
}

/// What a program stores of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueFacts {
    /// The call that writes it first.
    pub first: usize,
    /// The last call that uses it.
    pub last: usize,
    /// Bytes, all threads together.
    pub bytes: u64,
    /// Whether it has room for all images of the step; otherwise each thread has room for a chunk.
    pub is_batch: bool,
}

/// A program's calls in their order, and its values.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgramFacts {
    /// The calls.
    pub calls: Vec<CallFacts>,
    /// The values. Values that share a place because a call works in place are one.
    pub values: Vec<ValueFacts>,
    /// Bytes for the values of chunks, all threads together.
    pub scratch_bytes: u64,
    /// Bytes for values of all images.
    pub batch_bytes: u64,
    /// Maximum number of images of a chunk.
    pub chunk: usize,
    /// Columns of a tile of a matrix product: others are computed in vain.
    pub tile_columns: usize,
}
