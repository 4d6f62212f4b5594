//! The training part of a session: moments, gradients, and the last phase of a step, in which the remaining sums
//! are computed and parameters are updated.

use std::ops::Range;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::blocks::{Block, blocks};
use super::compiled::Compiled;
use super::late::{Late, LatePiece, gradient_of};
use super::memory::{Buffer, Shared};
use super::optimizer::{Matrix, Optimizer, Update, Values};
use super::parameters::{Layout, Parameters};
use super::plan::all;
use super::pool::Pool;
use super::recorder::Recorders;
use super::run::Run;
use super::split::{Subtree, share};
use super::sum::{Sum, sum};
use crate::graph::{Graph, NodeId, ParameterKind};
use crate::profile::Work;
use crate::session::Step;

/// What only training needs.
pub(super) struct Training {
    pub compiled: Compiled,
    /// The node that steps reduce.
    pub loss: NodeId,
    optimizer: Optimizer,
    /// Number of updates so far.
    pub updates: u64,
    /// As many as the optimizer keeps, the average last.
    pub moments: Vec<Parameters>,
    /// Gradient buffers of the parts: a fixed number for each thread, those of thread 0 first.
    pub gradients: Vec<Buffer>,
    /// The same as pointers.
    pub gradient_pointers: Vec<Shared<f32>>,
    /// The whole gradient, where it is not the sum in the first of `gradients`: in a program of several regions.
    total: Buffer,
    pub total_pointer: Shared<f32>,
    /// Values that are used by several regions.
    batch: Buffer,
    pub batch_pointer: Shared<f32>,
    /// Sums that are left when all threads have finished.
    pub merges: Vec<[usize; 2]>,
    pub pending: Vec<Subtree>,
    /// The values that are summed and updated together.
    blocks: Vec<Block>,
    /// The parameters that are updated as whole matrices.
    matrices: Vec<Matrix>,
    /// Where statistics are: the optimizer does not update them, but they are averaged.
    statistics: Vec<Range<usize>>,
    /// The saved statistics, one after the other.
    saved_statistics: Vec<f32>,
    /// Gradients that are computed right before the update.
    late: Late,
    /// Memory of each thread for one piece of these, or for a matrix.
    room: Vec<Buffer>,
    room_pointers: Vec<Shared<f32>>,
    /// Sum of squares of each block of the gradient, then of each late piece.
    squares: Vec<f64>,
    /// Norm of each parameter's gradient in the last step that asked for it.
    pub norms: Vec<f64>,
    pub outputs: Vec<Vec<f32>>,
    pub output_pointers: Vec<Shared<f32>>,
}

impl Training {
    /// Starts with moments of zero; the average is for the session to fill.
    pub fn new(
        compiled: Compiled,
        loss: NodeId,
        outputs: usize,
        optimizer: Optimizer,
        graph: &Graph,
        layout: &Layout,
    ) -> Self {
        let late_params: Vec<usize> =
            compiled.program.calls.iter().filter_map(gradient_of).map(|(param, ..)| param).collect();
        let matrices = optimizer.matrices(graph);
        let blocks = blocks(graph, layout, &matrices, |id| late_params.contains(&id.index()));
        let late = Late::new(&compiled.program, graph, layout, &matrices);
        let moments = (0..optimizer.moments()).map(|moment| {
            // Matrices have no second moment; where this is the average, there are no matrices.
            Parameters::with_layout(if moment == 1 { layout.without(&matrices) } else { layout.clone() })
        });
        let params = graph.parameters().iter().enumerate();
        let statistics = params.filter(|(_, param)| param.kind == ParameterKind::Statistic);
        let statistics: Vec<Range<usize>> = statistics.map(|(index, _)| layout.padded(index)).collect();
        let saved_statistics = vec![0.0; statistics.iter().map(Range::len).sum()];
        let mut total = Buffer::new(if compiled.divided { layout.len() } else { 0 });
        Training {
            outputs: vec![Vec::new(); outputs],
            output_pointers: Vec::new(),
            optimizer,
            updates: 0,
            moments: moments.collect(),
            gradients: Vec::new(),
            gradient_pointers: Vec::new(),
            total_pointer: Shared::new(total.pointer()),
            total,
            batch: Buffer::new(0),
            batch_pointer: Shared::new(null_mut()),
            merges: Vec::with_capacity(64),
            pending: Vec::with_capacity(64),
            squares: vec![0.0; blocks.len() + late.pieces.len()],
            norms: Vec::new(),
            blocks,
            matrices,
            statistics,
            saved_statistics,
            late,
            room: Vec::new(),
            room_pointers: Vec::new(),
            loss,
            compiled,
        }
    }

    /// Allocates all memory that a step of `images` images needs, with `buffers` gradient buffers.
    pub fn fit(&mut self, images: usize, threads: usize, buffers: usize) {
        let mut moved = false;
        for (out, per_image) in self.outputs.iter_mut().zip(&self.compiled.program.outputs) {
            let len = all(*per_image, images);
            if out.len() < len {
                out.resize(len, 0.0);
                moved = true;
            }
        }
        if moved {
            self.output_pointers = self.outputs.iter_mut().map(|out| Shared::new(out.as_mut_ptr())).collect();
        }
        if self.gradients.len() < buffers {
            let len = self.compiled.gradient_len;
            self.gradients.resize_with(buffers, || Buffer::new(len));
            self.gradient_pointers = self.gradients.iter_mut().map(|buffer| Shared::new(buffer.pointer())).collect();
            if !self.compiled.divided {
                self.total_pointer = self.gradient_pointers[0];
            }
        }
        if self.batch.as_slice().len() < self.compiled.plan.batch_len {
            self.batch = Buffer::new(self.compiled.plan.batch_len);
            self.batch_pointer = Shared::new(self.batch.pointer());
        }
        if self.room.len() < threads {
            let room = (self.late.longest() + self.late.room).max(self.optimizer.matrix_room(&self.matrices));
            self.room.resize_with(threads, || Buffer::new(room));
            self.room_pointers = self.room.iter_mut().map(|buffer| Shared::new(buffer.pointer())).collect();
        }
    }

    /// The slices that a thread records in the last phases of a step, at most.
    pub fn slices(&self) -> usize {
        4 * (self.blocks.len() + self.late.pieces.len()) + self.matrices.len() + 4
    }

    /// The average of the parameters, where there is one.
    pub fn average_buffer(&mut self) -> Option<&mut Buffer> {
        self.optimizer.average?;
        self.moments.last_mut().map(Parameters::buffer_mut)
    }

    /// Saves the statistics, which the forward pass changes.
    pub fn save_statistics(&mut self, parameters: &Parameters) {
        let values = parameters.buffer().as_slice();
        let mut kept = self.saved_statistics.as_mut_slice();
        for range in &self.statistics {
            let (own, rest) = kept.split_at_mut(range.len());
            own.copy_from_slice(&values[range.clone()]);
            kept = rest;
        }
    }

    /// Restores the saved statistics.
    pub fn restore_statistics(&self, parameters: &mut Parameters) {
        let values = parameters.buffer_mut().as_mut_slice();
        let mut kept = self.saved_statistics.as_slice();
        for range in &self.statistics {
            let (own, rest) = kept.split_at(range.len());
            values[range.clone()].copy_from_slice(own);
            kept = rest;
        }
    }

    /// The whole gradient, once all sums are done.
    pub fn total(&self) -> &[f32] {
        if self.compiled.divided { self.total.as_slice() } else { self.gradients[0].as_slice() }
    }

    /// Finishes the sums and computes late gradients, so that the whole gradient is there. Returns its norm.
    pub fn finish_sums(
        &mut self,
        pool: &mut Pool,
        recorders: Recorders,
        parameters: &mut Parameters,
        step: &Step,
    ) -> f64 {
        self.last_phase(pool, recorders, parameters, step, Last::Sums);
        // They must not be added again.
        self.merges.clear();
        self.squares.iter().sum::<f64>().sqrt()
    }

    /// Updates the parameters, unless the step requires a finite gradient and this one is not. Returns its norm.
    pub fn update(&mut self, pool: &mut Pool, recorders: Recorders, parameters: &mut Parameters, step: &Step) -> f64 {
        let clip = self.optimizer.clip;
        if clip.is_none() && !step.only_finite {
            self.updates += 1;
            let update = Update::new(self.optimizer, self.updates, step.learning_rate, 1.0);
            self.last_phase(pool, recorders, parameters, step, Last::SumsAndUpdate(&update));
            self.measure(step, parameters.layout());
            self.update_matrices(pool, recorders, parameters, &update);
            return self.squares.iter().sum::<f64>().sqrt();
        }
        let norm = self.finish_sums(pool, recorders, parameters, step);
        self.measure(step, parameters.layout());
        if norm.is_finite() || !step.only_finite {
            // PyTorch's clip_grad_norm_ adds the same small number.
            let factor = clip.map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0));
            self.updates += 1;
            let update = Update::new(self.optimizer, self.updates, step.learning_rate, factor);
            self.last_phase(pool, recorders, parameters, step, Last::Update(&update));
            self.update_matrices(pool, recorders, parameters, &update);
        }
        norm
    }

    /// Measures the norm of each parameter's gradient, if the step asks for it: before matrices are updated, which overwrites
    /// theirs. Late gradients may be gone already; their squares were summed piece by piece.
    fn measure(&mut self, step: &Step, layout: &Layout) {
        if !step.gradient_norms {
            return;
        }
        let total = self.total();
        let square = |value: &f32| f64::from(*value) * f64::from(*value);
        let own = |index| total[layout.padded(index)].iter().map(square).sum();
        let is_late = |index: usize| {
            let range = layout.padded(index);
            self.late.pieces.iter().any(|piece| range.contains(&piece.block.range.start))
        };
        let mut squares: Vec<f64> =
            (0..layout.count()).map(|index| if is_late(index) { 0.0 } else { own(index) }).collect();
        for (piece, sum) in self.late.pieces.iter().zip(&self.squares[self.blocks.len()..]) {
            let param = gradient_of(&self.compiled.program.calls[piece.call]).map(|(param, ..)| param);
            squares[param.expect("a late call has a parameter")] += sum;
        }
        self.norms = squares.into_iter().map(f64::sqrt).collect();
    }

    /// Pointers to the moments, null for those that the rule does not have, and to the average.
    fn moment_pointers(&mut self) -> [Shared<f32>; 3] {
        let average = Shared::new(self.average_buffer().map_or(null_mut(), Buffer::pointer));
        let own = self.moments.len() - usize::from(self.optimizer.average.is_some());
        let mut moments = [Shared::new(null_mut()), Shared::new(null_mut()), average];
        for (pointer, moment) in moments.iter_mut().zip(&mut self.moments[..own]) {
            *pointer = Shared::new(moment.buffer_mut().pointer());
        }
        moments
    }

    /// Updates the matrices, whose gradients are there; each is the work of one thread, so that the number of threads does
    /// not show.
    fn update_matrices(&mut self, pool: &mut Pool, recorders: Recorders, parameters: &mut Parameters, update: &Update) {
        if self.matrices.is_empty() {
            return;
        }
        let values = Shared::new(parameters.buffer_mut().pointer());
        let (moments, gradient) = (self.moment_pointers(), self.total_pointer);
        let (matrices, room, layout) = (&self.matrices, &self.room_pointers, parameters.layout());
        let isa = self.compiled.isa;
        let next = AtomicUsize::new(0);
        recorders.run(pool, &|thread, mut track| {
            while let Some(matrix) = matrices.get(next.fetch_add(1, Ordering::Relaxed)) {
                let range = layout.padded(matrix.param);
                let (start, len) = (range.start, range.len());
                // SAFETY: threads have different matrices, which lie inside all buffers, and their own room.
                unsafe {
                    let [first, second, average] = moments.map(|moment| moment.at(start));
                    let (values, gradient) = (values.get().add(start), gradient.get().add(start));
                    let to = Values { len, values, gradient, moments: [first, second] };
                    update.apply_to_matrix(isa, matrix, to, average, room[thread].get());
                }
                track.end(Work::Update);
            }
        });
    }

    fn last_phase(
        &mut self,
        pool: &mut Pool,
        recorders: Recorders,
        parameters: &mut Parameters,
        step: &Step,
        last: Last,
    ) {
        let values = Shared::new(parameters.buffer_mut().pointer());
        let moments = self.moment_pointers();
        let average = moments[2];
        let squares = Shared::new(self.squares.as_mut_ptr());
        let (merges, blocks, late, room) = (&self.merges, &self.blocks, &self.late, &self.room_pointers);
        let (statistics, isa) = (&self.statistics, self.compiled.isa);
        let run = Run {
            isa,
            step,
            compiled: &self.compiled,
            layout: parameters.layout(),
            parameters: values,
            packed: Shared::new(null_mut()),
            batch: self.batch_pointer,
            gradients: &self.gradient_pointers,
            total: self.total_pointer,
            outputs: &[],
            moves_statistics: false,
        };
        let threads = pool.threads();
        let update = |block: &Block, gradient: *mut f32, update: &Update| {
            if block.is_matrix {
                return;
            }
            let (start, len) = (block.range.start, block.range.len());
            let [first, second, average] = moments.map(|moment| moment.at(start));
            // SAFETY: threads have different blocks, which lie inside all buffers.
            unsafe {
                let values = values.get().add(start);
                update.apply(isa, block.decay, Values { len, values, gradient, moments: [first, second] }, average);
            }
        };
        recorders.run(pool, &|thread, mut track| {
            for index in share(blocks.len(), threads, thread) {
                let block = &blocks[index];
                // SAFETY: threads have different blocks, which lie inside all buffers.
                let total = unsafe {
                    if !matches!(last, Last::Update(_)) {
                        run.sum_block(block, merges, squares.get().add(index));
                    }
                    run.total.get().add(block.range.start)
                };
                track.end(Work::Tree);
                if let Last::Update(how) | Last::SumsAndUpdate(how) = last {
                    update(block, total, how);
                    track.end(Work::Update);
                }
            }
            if let Last::Update(how) | Last::SumsAndUpdate(how) = last {
                for range in &statistics[share(statistics.len(), threads, thread)] {
                    let (start, len) = (range.start, range.len());
                    // SAFETY: threads have different statistics, which lie inside all buffers.
                    unsafe { how.move_average(isa, len, values.get().add(start), average.at(start)) };
                }
                track.end(Work::Update);
            }
            for index in late.share(threads, thread) {
                let LatePiece { call, rows, block, .. } = &late.pieces[index];
                // SAFETY: threads have different pieces and their own room.
                unsafe {
                    let total = run.total.get().add(block.range.start);
                    let own = room[thread].get();
                    let is_transient = matches!(last, Last::SumsAndUpdate(_)) && !block.is_matrix;
                    let to = if is_transient { own } else { total };
                    if !matches!(last, Last::Update(_)) {
                        run.late(
                            &run.compiled.program.calls[*call],
                            rows.start,
                            rows.len(),
                            to,
                            own.add(late.longest()),
                        );
                        let squares = squares.get().add(blocks.len() + index);
                        sum(isa, &Sum { len: block.range.len(), into: to, from: std::ptr::null(), squares });
                        track.end(Work::Call(*call as u32));
                    }
                    if let Last::Update(how) | Last::SumsAndUpdate(how) = last {
                        update(block, to, how);
                        track.end(Work::Update);
                    }
                }
            }
        });
    }
}

/// What the last phase still has to do.
#[derive(Clone, Copy)]
enum Last<'a> {
    /// Sums and late gradients.
    Sums,
    /// Both, and the update; late gradients need not be kept.
    SumsAndUpdate(&'a Update),
    /// The update alone.
    Update(&'a Update),
}

impl Run<'_> {
    /// Finishes the sums of one block, and sums the squares of the result.
    ///
    /// # Safety
    /// The block lies inside all gradients, and no other thread uses it.
    unsafe fn sum_block(&self, block: &Block, merges: &[[usize; 2]], squares: *mut f64) {
        let (start, len) = (block.range.start, block.range.len());
        let at = |buffer: usize| unsafe { self.gradients[buffer].get().add(start) };
        let last = merges.len().wrapping_sub(1);
        for (i, &[into, from]) in merges.iter().enumerate() {
            let squares = if i == last { squares } else { null_mut() };
            unsafe { sum(self.isa, &Sum { len, into: at(into), from: at(from), squares }) };
        }
        if merges.is_empty() {
            let into = unsafe { self.total.get().add(start) };
            unsafe { sum(self.isa, &Sum { len, into, from: std::ptr::null(), squares }) };
        }
    }
}
