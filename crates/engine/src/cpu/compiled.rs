//! A program with everything fixed that does not change from step to step: regions, chunk, memory, packed weights.

use super::Isa;
use super::lower::{Mode, lower, wide_weights};
use super::parameters::Layout;
use super::plan::{Capacity, Plan, plan, sum};
use super::program::{Call, Program};
use super::region::{Region, regions};
use crate::graph::{Graph, NodeId};
use crate::session::WideRule;

/// Maximum number of images of a chunk.
const MOST_IMAGES: usize = 64;
/// Preferred minimum number of images of a chunk.
const FEWEST_IMAGES: usize = 4;
/// Numbers that the values of a chunk may take together before chunks get smaller than the least.
const MOST_NUMBERS: usize = 32 << 20;

/// A program ready to run.
pub(super) struct Compiled {
    pub isa: Isa,
    pub program: Program,
    pub regions: Vec<Region>,
    /// Whether some call sees the whole batch.
    pub divided: bool,
    pub plan: Plan,
    /// Where each packed weight starts.
    pub packed_offsets: Vec<usize>,
    /// Numbers in all packed weights.
    pub packed_len: usize,
    /// Where the gradient of each parameter starts among the gradients of a part.
    pub gradient_starts: Vec<usize>,
    /// Numbers in the gradients of a part.
    pub gradient_len: usize,
    /// Maximum number of images of a chunk. It affects the bits of results.
    chunk: usize,
}

impl Compiled {
    pub fn new(graph: &Graph, outputs: &[NodeId], mode: Mode, isa: Isa, rule: &WideRule) -> Self {
        // Inference computes each image separately, so no layer is cut by columns.
        let wide = match mode {
            Mode::Train => wide_weights(graph, rule),
            Mode::Infer => vec![false; graph.parameters().len()],
        };
        let program = lower(graph, outputs, mode, &wide);
        let (regions, divided) = (regions(&program), program.calls.iter().any(Call::whole));
        let mut packed_len_so_far = 0;
        let packed_offsets = program.packed.iter().map(|weight| {
            let start = packed_len_so_far;
            packed_len_so_far = sum(start, program.packed_len(weight, isa));
            start
        });
        let packed_offsets = packed_offsets.collect();
        let (gradient_starts, gradient_len) = gradient_places(&program, divided, &Layout::new(graph));
        let params = graph.parameters().iter().zip(&wide);
        let cut: usize = params.filter(|(_, wide)| **wide).map(|(param, _)| param.shape.len()).sum();
        let one = plan(&program, &regions, Capacity { chunk: 1, images: 1, micro_batches: 1 });
        let chunk = chunk(graph.parameter_count() - cut, one.len + one.batch_len);
        let plan = Plan::default();
        let packed_len = packed_len_so_far;
        Compiled {
            isa,
            plan,
            program,
            regions,
            divided,
            packed_offsets,
            packed_len,
            gradient_starts,
            gradient_len,
            chunk,
        }
    }

    /// Number of chunks for this many images, all of nearly the same size.
    pub fn chunks(&self, images: usize) -> usize {
        images.div_ceil(self.chunk)
    }

    /// Images of the largest chunk for this many images.
    pub fn largest_chunk(&self, images: usize) -> usize {
        images.div_ceil(self.chunks(images).max(1))
    }

    /// Makes room for this much.
    pub fn fit(&mut self, capacity: Capacity) {
        let known = self.plan.capacity;
        if !known.holds(capacity) {
            self.plan = plan(&self.program, &self.regions, known.and(capacity));
        }
    }
}

/// Lays out the gradients of a part: as the parameters lie, or, where the whole batch gives some of them, only those
/// that parts give.
fn gradient_places(program: &Program, divided: bool, layout: &Layout) -> (Vec<usize>, usize) {
    if !divided {
        return ((0..layout.count()).map(|param| layout.start(param)).collect(), layout.len());
    }
    let mut starts = vec![usize::MAX; layout.count()];
    let mut len = 0;
    for &(_, param) in &program.gradients {
        if starts[param] == usize::MAX {
            starts[param] = len;
            len += layout.padded(param).len();
        }
    }
    (starts, len)
}

/// Chooses the number of images of a chunk: enough to make use of each pass over the weights, and no more,
/// so that the values stay in cache. A function of the model's sizes alone.
fn chunk(parameters: usize, numbers_per_image: usize) -> usize {
    let worth = (4 * parameters).div_ceil(numbers_per_image.max(1)).next_power_of_two();
    let mut chunk = worth.clamp(FEWEST_IMAGES, MOST_IMAGES);
    while chunk > 1 && chunk * numbers_per_image > MOST_NUMBERS {
        chunk /= 2;
    }
    chunk
}
