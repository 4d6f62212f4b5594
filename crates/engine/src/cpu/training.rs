//! What a session needs to train: moments, gradients, and the last phase of a step, in which the sums that are left
//! are done and parameters are updated.

use super::Isa;
use super::compiled::Compiled;
use super::memory::{Buffer, Shared};
use super::optimizer;
use super::parameters::{Layout, Parameters};
use super::pool::Pool;
use super::split::{Subtree, share};
use super::update::{Block, Update, blocks};
use crate::graph::Graph;
use crate::session::Optimizer;

/// What only training needs.
pub(super) struct Training {
    pub compiled: Compiled,
    pub optimizer: Optimizer,
    pub steps: u64,
    /// As many as the optimiser keeps.
    pub moments: Vec<Buffer>,
    /// Gradients: a fixed number for each thread, that of thread 0 first.
    pub gradients: Vec<Buffer>,
    /// The same as pointers.
    pub gradient_pointers: Vec<Shared<f32>>,
    /// Sums left to do when all threads are done.
    pub merges: Vec<[usize; 2]>,
    pub pending: Vec<Subtree>,
    /// What is summed and updated at a time.
    pub blocks: Vec<Block>,
    /// Sum of squares of each block of the gradient.
    pub squares: Vec<f64>,
    pub outputs: Vec<Vec<f32>>,
    pub output_pointers: Vec<Shared<f32>>,
}

impl Training {
    /// Starts with moments of zero.
    pub fn new(compiled: Compiled, outputs: usize, optimizer: Optimizer, graph: &Graph, layout: &Layout) -> Self {
        let blocks = blocks(graph, layout, |_| false);
        Training {
            outputs: vec![Vec::new(); outputs],
            output_pointers: Vec::new(),
            compiled,
            optimizer,
            steps: 0,
            moments: (0..optimizer.moments()).map(|_| Buffer::new(layout.len())).collect(),
            gradients: Vec::new(),
            gradient_pointers: Vec::new(),
            merges: Vec::with_capacity(64),
            pending: Vec::with_capacity(64),
            squares: vec![0.0; blocks.len()],
            blocks,
        }
    }

    /// Does the sums that are left; the whole gradient is then in buffer 0. Returns its norm.
    pub fn finish_sums(&mut self, pool: &mut Pool, isa: Isa) -> f64 {
        let (merges, gradients, blocks) = (&self.merges, &self.gradient_pointers, &self.blocks);
        let squares = Shared::new(self.squares.as_mut_ptr());
        let threads = pool.threads();
        pool.run(&|thread| {
            for index in share(blocks.len(), threads, thread) {
                // SAFETY: threads have different blocks, which lie inside all buffers.
                unsafe { sum_block(isa, &blocks[index], merges, gradients, squares.get().add(index)) };
            }
        });
        self.squares.iter().sum::<f64>().sqrt()
    }

    /// Updates the parameters; returns the gradient's norm.
    pub fn update(&mut self, pool: &mut Pool, isa: Isa, parameters: &mut Parameters, learning_rate: f64) -> f64 {
        let mut factor = 1.0;
        if let Some(limit) = self.optimizer.clip() {
            let norm = self.finish_sums(pool, isa);
            self.merges.clear();
            // PyTorch's clip_grad_norm_ adds the same small number.
            factor = (limit / (norm + 1e-6)).min(1.0);
        }
        let update = Update::new(self.optimizer, self.steps, learning_rate, factor);
        let values = Shared::new(parameters.buffer_mut().pointer());
        let mut moments = [Shared::new(std::ptr::null_mut()); 2];
        for (pointer, buffer) in moments.iter_mut().zip(&mut self.moments) {
            *pointer = Shared::new(buffer.pointer());
        }
        let (merges, gradients, blocks) = (&self.merges, &self.gradient_pointers, &self.blocks);
        let squares = Shared::new(self.squares.as_mut_ptr());
        let threads = pool.threads();
        pool.run(&|thread| {
            for index in share(blocks.len(), threads, thread) {
                let block = &blocks[index];
                let start = block.range.start;
                // SAFETY: threads have different blocks, which lie inside all buffers.
                unsafe {
                    sum_block(isa, block, merges, gradients, squares.get().add(index));
                    // Wrapping: a moment that the optimiser does not keep is null.
                    let moments = moments.map(|moment| moment.get().wrapping_add(start));
                    let (values, gradient) = (values.get().add(start), gradients[0].get().add(start));
                    update.apply(isa, block.range.len(), block.decay, values, gradient, moments);
                }
            }
        });
        self.squares.iter().sum::<f64>().sqrt()
    }
}

/// Does one block of the sums that are left, and takes the squares of the result.
///
/// # Safety
/// The block lies inside all gradients, and nobody else touches it.
unsafe fn sum_block(isa: Isa, block: &Block, merges: &[[usize; 2]], gradients: &[Shared<f32>], squares: *mut f64) {
    let len = block.range.len();
    let at = |buffer: usize| unsafe { gradients[buffer].get().add(block.range.start) };
    let last = merges.len().wrapping_sub(1);
    for (i, &[into, from]) in merges.iter().enumerate() {
        let squares = if i == last { squares } else { std::ptr::null_mut() };
        unsafe { optimizer::sum(isa, &optimizer::Sum { len, into: at(into), from: at(from), squares }) };
    }
    if merges.is_empty() {
        unsafe { optimizer::sum(isa, &optimizer::Sum { len, into: at(0), from: std::ptr::null(), squares }) };
    }
}
