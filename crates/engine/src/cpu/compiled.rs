//! A program with everything fixed that does not change from step to step: chunk, memory, packed weights.

use super::Isa;
use super::lower::{Mode, lower};
use super::plan::{Plan, plan};
use super::program::Program;
use crate::graph::{Graph, NodeId};

/// Images of a chunk at most.
const MOST_IMAGES: usize = 64;
/// Images of a chunk at least, where they fit.
const FEWEST_IMAGES: usize = 4;
/// Numbers that the values of a chunk may take together before chunks get smaller than the least.
const MOST_NUMBERS: usize = 32 << 20;

/// A program ready to run.
pub(super) struct Compiled {
    pub program: Program,
    pub plan: Plan,
    /// Where each packed weight starts.
    pub packed_offsets: Vec<usize>,
    /// Numbers in all packed weights.
    pub packed_len: usize,
    /// Images that are worked through at a time, at most: part of what makes results repeatable.
    chunk: usize,
}

impl Compiled {
    pub fn new(graph: &Graph, outputs: &[NodeId], mode: Mode, isa: Isa) -> Self {
        let program = lower(graph, outputs, mode, isa);
        let mut packed_len_so_far = 0;
        let packed_offsets = program.packed.iter().map(|weight| {
            let start = packed_len_so_far;
            packed_len_so_far += program.packed_len(weight, isa);
            start
        });
        let packed_offsets = packed_offsets.collect();
        let chunk = chunk(graph.parameter_count(), plan(&program, 1).len);
        Compiled { plan: Plan::default(), program, packed_offsets, packed_len: packed_len_so_far, chunk }
    }

    /// Number of chunks for so many images, all of nearly the same size.
    pub fn chunks(&self, images: usize) -> usize {
        images.div_ceil(self.chunk)
    }

    /// Images of the greatest chunk for so many images.
    pub fn greatest_chunk(&self, images: usize) -> usize {
        images.div_ceil(self.chunks(images).max(1))
    }

    /// Makes the plan good for chunks of this many images.
    pub fn fit(&mut self, chunk: usize) {
        if self.plan.chunk < chunk {
            self.plan = plan(&self.program, chunk);
        }
    }
}

/// Chooses how many images to work through at a time: enough that a pass over the weights is worth it, and no more,
/// so that the values stay in cache. A function of the model's sizes alone.
fn chunk(parameters: usize, numbers_per_image: usize) -> usize {
    let worth = (4 * parameters).div_ceil(numbers_per_image.max(1)).next_power_of_two();
    let mut chunk = worth.clamp(FEWEST_IMAGES, MOST_IMAGES);
    while chunk > 1 && chunk * numbers_per_image > MOST_NUMBERS {
        chunk /= 2;
    }
    chunk
}
