//! A training step while it runs: what its threads share, and how a thread runs its parts of a region.

mod convolution;

use std::ops::Range;

use super::Isa;
use super::chunk::Chunk;
use super::compiled::Compiled;
use super::linear::{self, WideBiasGrad, WideInputGrad, WideProduct, WideWeightGrad};
use super::memory::{Buffer, Shared};
use super::parameters::Layout;
use super::plan::Place;
use super::program::{Call, Slot, Wide};
use super::recorder::Track;
use super::region::Region;
use super::split::{Subtree, free_buffer, merge, share};
use super::sum::{Sum, sum};
use crate::profile::Work;
use crate::session::Step;

/// Columns that are cut from each other at multiples of this many, so that two threads never write to one cache line.
const CUT: usize = 16;

/// The memory of one thread.
pub(super) struct Worker {
    pub scratch: Buffer,
    pub keys: Vec<[u32; 2]>,
    pub pending: Vec<Subtree>,
}

/// What the threads of a training step share.
pub(super) struct Run<'a> {
    pub isa: Isa,
    pub step: &'a Step<'a>,
    pub compiled: &'a Compiled,
    pub layout: &'a Layout,
    /// Trained values do not change before the update.
    pub parameters: Shared<f32>,
    pub packed: Shared<f32>,
    /// Values that are used by several regions.
    pub batch: Shared<f32>,
    /// Gradients of parts and their sums, the same number for each thread.
    pub gradients: &'a [Shared<f32>],
    /// The gradient of the whole step, in the layout of the parameters.
    pub total: Shared<f32>,
    pub outputs: &'a [Shared<f32>],
    /// Whether batch norm updates its statistics.
    pub moves_statistics: bool,
}

impl Run<'_> {
    /// Runs one part through a region, chunk by chunk, and adds its gradient to the thread's subtrees.
    ///
    /// # Safety
    /// Memory was fitted to the step, `buffers` are the thread's own, and no other thread takes the part.
    pub unsafe fn part(
        &self,
        region: &Region,
        [part, count]: [usize; 2],
        worker: &mut Worker,
        buffers: Range<usize>,
        track: &mut Track,
    ) {
        let images = share(self.step.images, count, part);
        let buffer = free_buffer(&worker.pending, buffers);
        let chunks = self.compiled.chunks(images.len());
        for chunk in 0..chunks {
            let range = share(images.len(), chunks, chunk);
            track.place(part, chunk, range.len());
            let mut chunk = Chunk {
                isa: self.isa,
                compiled: self.compiled,
                layout: self.layout,
                examples: self.step.examples,
                images: range.len(),
                first: images.start + range.start,
                dropout: self.step.dropout,
                epoch_place: self.step.first,
                cut: [self.step.images, self.step.micro_batches.get()],
                share: 1.0 / self.step.divisor(),
                scratch: worker.scratch.pointer(),
                batch: self.batch.get(),
                parameters: self.parameters.get(),
                packed: self.packed.get(),
                gradient: self.gradients[buffer].get(),
                continues: chunk > 0,
                outputs: self.outputs,
                keys: &mut worker.keys,
                track: track.reborrow(),
            };
            // SAFETY: the caller's promise; chunks have different images.
            unsafe { chunk.run(region) };
        }
        worker.pending.push(Subtree { first: part, level: 0, buffer });
        merge(&mut worker.pending, |into, from| {
            for range in self.sums(region) {
                // SAFETY: both are buffers of this thread.
                unsafe {
                    let at = |buffer: usize| self.gradients[buffer].get().add(range.start);
                    let (into, from, squares) = (at(into), at(from), std::ptr::null_mut());
                    sum(self.isa, &Sum { len: range.len(), into, from, squares });
                }
            }
        });
        track.end(Work::Tree);
    }

    /// The ranges of a part's gradients that a region gives.
    fn sums(&self, region: &Region) -> impl Iterator<Item = Range<usize>> {
        let divided = self.compiled.divided;
        let all = (!divided).then_some(0..self.compiled.gradient_len);
        let some = region.gradients.iter().filter(move |_| divided).map(|gradient| {
            let start = self.compiled.gradient_starts[gradient.param];
            start..start + self.layout.padded(gradient.param).len()
        });
        all.into_iter().chain(some)
    }

    /// Does a thread's share of the sums of parts that are left after a region, and adds them to the whole gradient.
    ///
    /// # Safety
    /// Each thread calls this with its own number after all parts are done.
    pub unsafe fn finish_region(&self, region: &Region, merges: &[[usize; 2]], [thread, threads]: [usize; 2]) {
        for (gradient, range) in region.gradients.iter().zip(self.sums(region)) {
            let own = share(range.len() / CUT, threads, thread);
            let (start, len) = (range.start + own.start * CUT, own.len() * CUT);
            // SAFETY: threads have different ranges, which lie inside all buffers.
            unsafe {
                let at = |buffer: usize| self.gradients[buffer].get().add(start);
                let add = |into: *mut f32, from: *const f32| {
                    sum(self.isa, &Sum { len, into, from, squares: std::ptr::null_mut() });
                };
                for &[into, from] in merges {
                    add(at(into), at(from));
                }
                let total = self.total.get().add(self.layout.start(gradient.param) + own.start * CUT);
                if gradient.continues {
                    add(total, at(0));
                } else {
                    std::ptr::copy_nonoverlapping(at(0), total, len);
                }
            }
        }
    }

    /// Where a value of a call for the whole batch starts; what is the call's own lies in the thread's scratch memory.
    fn at(&self, slot: Slot, scratch: *mut f32) -> *mut f32 {
        // SAFETY: the plan's places lie inside the arena and the scratch memory.
        unsafe {
            match self.compiled.plan.places[slot] {
                Place::Batch { start, .. } => self.batch.get().add(start),
                Place::Scratch(start) => scratch.add(start),
            }
        }
    }

    fn parameter(&self, param: usize) -> *const f32 {
        // SAFETY: the layout's starts lie inside the parameters.
        unsafe { self.parameters.get().add(self.layout.start(param)) }
    }

    /// Does a thread's share of a call for the whole batch.
    ///
    /// # Safety
    /// Memory was fitted to the step, and each thread calls this with its own number and scratch memory.
    pub unsafe fn whole(&self, call: &Call, [thread, threads]: [usize; 2], scratch: *mut f32) {
        let columns = |len: usize| {
            let own = share(len.div_ceil(CUT), threads, thread);
            let first = own.start * CUT;
            (first, (own.end * CUT).min(len) - first)
        };
        let images = self.step.images;
        match *call {
            Call::Wide(Wide::Product { x, out, weight, bias, rows, size }) => {
                let (first, count) = columns(size[0]);
                let args = WideProduct {
                    rows: images * rows,
                    size,
                    first,
                    count,
                    x: self.at(x, scratch),
                    weight: self.parameter(weight),
                    bias: bias.map_or(std::ptr::null(), |bias| self.parameter(bias)),
                    out: self.at(out, scratch),
                };
                unsafe { linear::wide_product(self.isa, &args) };
            }
            Call::Wide(Wide::InputGrad { dy, out, weight, rows, size }) => {
                let (first, count) = columns(size[1]);
                let args = WideInputGrad {
                    rows: images * rows,
                    size,
                    first,
                    count,
                    dy: self.at(dy, scratch),
                    weight: self.parameter(weight),
                    dx: self.at(out, scratch),
                };
                unsafe { linear::wide_input_grad(self.isa, &args) };
            }
            // convolution
            Call::Convolution(ref call) => unsafe { self.whole_convolution(call, [thread, threads]) },
            _ => unreachable!("a call of a chunk, or a late one"),
        }
    }

    /// Computes `count` rows or values from `first` on of a late call's gradient; fills up the last vector with zeros.
    ///
    /// # Safety
    /// Memory was fitted to the step, all regions are done, and `to` and `room` are the caller's own.
    pub unsafe fn late(&self, call: &Call, first: usize, count: usize, to: *mut f32, room: *mut f32) {
        // Late calls have no scratch memory.
        let (images, scratch) = (self.step.images, std::ptr::null_mut());
        match *call {
            Call::Wide(Wide::WeightGrad { dy, x, rows, size, .. }) => {
                let (dy, x) = (self.at(dy, scratch), self.at(x, scratch));
                let args = WideWeightGrad { rows: images * rows, size, first, count, dy, x, to };
                let len = count * size[1];
                unsafe {
                    linear::wide_weight_grad(self.isa, &args);
                    to.add(len).write_bytes(0, len.next_multiple_of(CUT) - len);
                }
            }
            Call::Wide(Wide::BiasGrad { dy, rows, len, .. }) => {
                let args = WideBiasGrad { rows: images * rows, len, first, count, dy: self.at(dy, scratch), to };
                unsafe { linear::wide_bias_grad(self.isa, &args) };
            }
            // convolution
            Call::Convolution(ref call) => unsafe { self.late_convolution(call, [first, count], to, room) },
            _ => unreachable!("not a late call"),
        }
    }
}
