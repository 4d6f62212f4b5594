//! What a session needs to train: moments, gradients, and the last phase of a step, in which the sums that are left
//! are done and parameters are updated.

use super::Isa;
use super::compiled::Compiled;
use super::memory::{Buffer, Shared};
use super::optimizer::{self, BLOCK};
use super::parameters::Parameters;
use super::pool::Pool;
use super::split::{Subtree, share};
use crate::session::Adam;

/// What only training needs.
pub(super) struct Training {
    pub compiled: Compiled,
    pub adam: Adam,
    pub steps: u64,
    pub moments: [Buffer; 2],
    /// Gradients: a fixed number for each thread, that of thread 0 first.
    pub gradients: Vec<Buffer>,
    /// The same as pointers.
    pub gradient_pointers: Vec<Shared<f32>>,
    /// Sums left to do when all threads are done.
    pub merges: Vec<[usize; 2]>,
    pub pending: Vec<Subtree>,
    /// Sum of squares of each block of the gradient.
    pub squares: Vec<f64>,
    pub outputs: Vec<Vec<f32>>,
    pub output_pointers: Vec<Shared<f32>>,
}

impl Training {
    /// Starts with moments of zero for `len` parameters.
    pub fn new(compiled: Compiled, outputs: usize, adam: Adam, len: usize) -> Self {
        Training {
            outputs: vec![Vec::new(); outputs],
            output_pointers: Vec::new(),
            compiled,
            adam,
            steps: 0,
            moments: [Buffer::new(len), Buffer::new(len)],
            gradients: Vec::new(),
            gradient_pointers: Vec::new(),
            merges: Vec::with_capacity(64),
            pending: Vec::with_capacity(64),
            squares: vec![0.0; len.div_ceil(BLOCK)],
        }
    }

    /// Does the sums that are left; the whole gradient is then in buffer 0. Returns its norm.
    pub fn finish_sums(&mut self, pool: &mut Pool, isa: Isa) -> f64 {
        let len = self.moments[0].as_slice().len();
        let (merges, gradients) = (&self.merges, &self.gradient_pointers);
        let squares = Shared::new(self.squares.as_mut_ptr());
        let blocks = len.div_ceil(BLOCK);
        let threads = pool.threads();
        pool.run(&|thread| {
            for block in share(blocks, threads, thread) {
                // SAFETY: threads have different blocks, and all buffers have `len` values.
                unsafe { sum_block(isa, block, len, merges, gradients, squares.get().add(block)) };
            }
        });
        self.squares.iter().sum::<f64>().sqrt()
    }

    /// Updates the parameters; returns the gradient's norm.
    pub fn update(&mut self, pool: &mut Pool, isa: Isa, parameters: &mut Parameters, learning_rate: f64) -> f64 {
        let mut factor = 1.0;
        if let Some(limit) = self.adam.clip {
            let norm = self.finish_sums(pool, isa);
            self.merges.clear();
            // PyTorch's clip_grad_norm_ adds the same small number.
            factor = (limit / (norm + 1e-6)).min(1.0);
        }
        let adam = &self.adam;
        let corrections = adam.betas.map(|beta| 1.0 - beta.powf(self.steps as f64));
        let len = parameters.layout().len();
        let blocks = len.div_ceil(BLOCK);
        let threads = pool.threads();
        let values = Shared::new(parameters.buffer_mut().pointer());
        let [first_moment, second_moment] = &mut self.moments;
        let (first, second) = (Shared::new(first_moment.pointer()), Shared::new(second_moment.pointer()));
        let (merges, gradients) = (&self.merges, &self.gradient_pointers);
        let squares = Shared::new(self.squares.as_mut_ptr());
        let decay = learning_rate * adam.weight_decay;
        pool.run(&|thread| {
            for block in share(blocks, threads, thread) {
                let start = block * BLOCK;
                // SAFETY: threads have different blocks, and all buffers have `len` values.
                unsafe {
                    sum_block(isa, block, len, merges, gradients, squares.get().add(block));
                    let args = optimizer::Adam {
                        len: BLOCK.min(len - start),
                        values: values.get().add(start),
                        gradient: gradients[0].get().add(start),
                        first_moment: first.get().add(start),
                        second_moment: second.get().add(start),
                        gradient_factor: factor as f32,
                        betas: adam.betas.map(|beta| beta as f32),
                        rests: adam.betas.map(|beta| (1.0 - beta) as f32),
                        eps: adam.eps as f32,
                        step_size: (learning_rate / corrections[0]) as f32,
                        root_correction: (1.0 / corrections[1].sqrt()) as f32,
                        l2: if adam.decoupled { 0.0 } else { adam.weight_decay as f32 },
                        keep: if adam.decoupled { (1.0 - decay) as f32 } else { 1.0 },
                    };
                    optimizer::adam(isa, &args);
                }
            }
        });
        self.squares.iter().sum::<f64>().sqrt()
    }
}

/// Does one block of the sums that are left, and takes the squares of the result.
///
/// # Safety
/// All gradients have `len` values, and nobody else touches the block.
unsafe fn sum_block(
    isa: Isa,
    block: usize,
    len: usize,
    merges: &[[usize; 2]],
    gradients: &[Shared<f32>],
    squares: *mut f64,
) {
    let start = block * BLOCK;
    let len = BLOCK.min(len - start);
    let at = |buffer: usize| unsafe { gradients[buffer].get().add(start) };
    let last = merges.len().wrapping_sub(1);
    for (i, &[into, from]) in merges.iter().enumerate() {
        let squares = if i == last { squares } else { std::ptr::null_mut() };
        unsafe { optimizer::sum(isa, &optimizer::Sum { len, into: at(into), from: at(from), squares }) };
    }
    if merges.is_empty() {
        unsafe { optimizer::sum(isa, &optimizer::Sum { len, into: at(0), from: std::ptr::null(), squares }) };
    }
}
