//! What a session computes without training: the values of nodes, with its parameters or their average.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{ProgramId, Session, Training};
use crate::cpu::chunk::Chunk;
use crate::cpu::compiled::Compiled;
use crate::cpu::lower::Mode;
use crate::cpu::memory::Shared;
use crate::cpu::parameters::Parameters;
use crate::cpu::plan::{Capacity, all};
use crate::cpu::recorder::Recorders;
use crate::cpu::split::share;
use crate::graph::{Graph, NodeId};
use crate::random::Key;
use crate::session::Examples;

/// A session for inference only, with its parameters or their average.
pub struct Inference<'a> {
    session: &'a mut Session,
    /// Whether the parameters are swapped with their average, and must be swapped back.
    is_averaged: bool,
}

impl Inference<'_> {
    /// The model.
    pub fn graph(&self) -> &Graph {
        self.session.graph()
    }

    /// The parameters, or their average.
    pub fn parameters(&self) -> &Parameters {
        self.session.parameters()
    }

    /// Computes the values of nodes, see [`Session::infer`].
    pub fn infer(&mut self, nodes: &[NodeId], images: usize, examples: &dyn Examples) -> Vec<Vec<f32>> {
        self.session.infer(nodes, images, examples)
    }
}

impl Drop for Inference<'_> {
    fn drop(&mut self) {
        if self.is_averaged {
            self.session.swap_average();
        }
    }
}

impl Session {
    /// The session for inference with its parameters.
    pub fn inference(&mut self) -> Inference<'_> {
        Inference { session: self, is_averaged: false }
    }

    /// Runs `work` with the average of the parameters in their place, if the optimizer keeps one; otherwise with the
    /// parameters. They are restored afterwards, also when `work` panics.
    ///
    /// Training is not possible in `work`:
    ///
    /// ```compile_fail,E0599
    /// # use vitreous_engine::{Adam, NodeId, Session};
    /// # fn f(session: &mut Session, loss: NodeId) {
    /// session.with_average(|session| session.start_training(loss, &[], Adam::default()));
    /// # }
    /// ```
    pub fn with_average<T>(&mut self, work: impl FnOnce(&mut Inference<'_>) -> T) -> T {
        let is_averaged = self.swap_average();
        work(&mut Inference { session: self, is_averaged })
    }

    /// Exchanges the parameters and their average; returns whether there is one.
    fn swap_average(&mut self) -> bool {
        let Some(average) = self.training.as_mut().and_then(Training::average_buffer) else { return false };
        std::mem::swap(average, self.parameters.buffer_mut());
        self.packed_for = None;
        true
    }

    /// Computes the values of nodes without training; dropout does nothing.
    ///
    /// # Returns
    /// For each node, its values example after example.
    pub fn infer(&mut self, nodes: &[NodeId], images: usize, examples: &dyn Examples) -> Vec<Vec<f32>> {
        let known = self.inference.iter().position(|(of, _)| of == nodes);
        let index = known.unwrap_or_else(|| {
            let compiled = Compiled::new(&self.graph, nodes, Mode::Infer, self.isa, &self.wide);
            self.inference.push((nodes.to_vec(), compiled));
            self.inference.len() - 1
        });
        let mut outputs: Vec<Vec<f32>> =
            nodes.iter().map(|&id| vec![0.0; all(self.graph.node(id).shape.len(), images)]).collect();
        if images == 0 {
            return outputs;
        }
        // Enough chunks for all threads; results do not depend on chunks, since no sum crosses images.
        let compiled = &mut self.inference[index].1;
        let chunks = compiled.chunks(images).max(self.pool.threads().min(images));
        compiled.fit(Capacity { chunk: images.div_ceil(chunks), images: 0, micro_batches: 0 });
        self.fit_workers(ProgramId::Inference(index));
        self.clear_recorders(ProgramId::Inference(index), images);
        self.pack(ProgramId::Inference(index));
        let recorders = Recorders::new(&mut self.recorders, self.is_recording);
        let pointers: Vec<Shared<f32>> = outputs.iter_mut().map(|out| Shared::new(out.as_mut_ptr())).collect();
        let compiled = &self.inference[index].1;
        let region = &compiled.regions[0];
        let next = AtomicUsize::new(0);
        let workers = Shared::new(self.workers.as_mut_ptr());
        let (isa, layout) = (self.isa, self.parameters.layout());
        let (parameters, packed) = (Shared::new(self.parameters.buffer().read().cast_mut()), &self.packed);
        recorders.run(&mut self.pool, &|thread, mut track| {
            // SAFETY: each thread takes the worker of its own number.
            let worker = unsafe { &mut *workers.get().add(thread) };
            loop {
                let chunk = next.fetch_add(1, Ordering::Relaxed);
                if chunk >= chunks {
                    return;
                }
                let range = share(images, chunks, chunk);
                track.place(0, chunk, range.len());
                let mut chunk = Chunk {
                    isa,
                    compiled,
                    layout,
                    examples,
                    images: range.len(),
                    first: range.start,
                    dropout: Key::new(0),
                    epoch_place: 0,
                    cut: [images, 1],
                    share: 1.0,
                    scratch: worker.scratch.pointer(),
                    batch: std::ptr::null_mut(),
                    parameters: parameters.get(),
                    packed: packed.read(),
                    gradient: std::ptr::null_mut(),
                    continues: false,
                    outputs: &pointers,
                    keys: &mut worker.keys,
                    track: track.reborrow(),
                };
                // SAFETY: the worker's memory was fitted to the plan, and chunks have different images.
                unsafe { chunk.run(region) };
            }
        });
        outputs
    }
}
