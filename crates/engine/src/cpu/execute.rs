//! A session: parameters, threads and memory, and the phases of a step that divide the work among the threads.
//!
//! A training step has three phases: weights are packed (divided by panels); parts run forward and backward
//! (divided by parts, sums along the tree of [`super::split`]), with a barrier at each operation
//! that uses the whole batch; parameters are updated (divided by blocks).

mod inference;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::sync::Arc;

use super::Isa;
use super::compiled::Compiled;
use super::convolution;
use super::facts::facts;
use super::late::Late;
use super::linear::{Pack, pack};
use super::lower::Mode;
use super::memory::{Buffer, Shared};
use super::optimizer::Optimizer;
use super::parameters::{Layout, Parameters};
use super::plan::{Capacity, all, sum};
use super::pool::Pool;
use super::recorder::{Recorder, Recorders};
use super::run::{Run, Worker};
use super::split::{buffers_needed, merge, parts, parts_of, share};
use super::training::Training;
use crate::autodiff;
use crate::graph::{Graph, NodeId, ParamId};
use crate::profile::{Clock, ProgramFacts, Slice, Work};
use crate::session::{Memory, OptimizerState, SessionError, Step, StepReport, WideRule};

pub use inference::Inference;

/// A model that can be trained and evaluated.
pub struct Session {
    graph: Graph,
    isa: Isa,
    pool: Pool,
    parameters: Parameters,
    packed: Buffer,
    /// The program whose weights are packed, as long as the parameters have not changed.
    packed_for: Option<ProgramId>,
    workers: Vec<Worker>,
    /// One for each thread once there was a clock: their memory is kept.
    recorders: Vec<Recorder>,
    is_recording: bool,
    training: Option<Training>,
    inference: Vec<(Vec<NodeId>, Compiled)>,
    wide: WideRule,
}

/// One of a session's programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProgramId {
    Training,
    Inference(usize),
}

/// Returns the memory that training takes for steps of `images` images, before anything is allocated.
pub fn training_memory(
    graph: &Graph,
    loss: NodeId,
    metrics: &[NodeId],
    optimizer: &Optimizer,
    images: usize,
    threads: usize,
) -> Memory {
    let isa = Isa::best();
    let outputs: Vec<NodeId> = [loss].iter().chain(metrics).copied().collect();
    let training_graph = autodiff::differentiate(graph, loss).graph;
    let mut compiled = Compiled::new(&training_graph, &outputs, Mode::Train, isa, &WideRule::default());
    compiled.fit(capacity(&compiled, images, NonZeroUsize::MIN));
    let layout = Layout::new(graph);
    let parameters = layout.len();
    let buffers = threads * buffers_per_thread(parts(images), threads);
    let matrices = optimizer.matrices(graph);
    let late = Late::new(&compiled.program, graph, &layout, &matrices);
    let untouched = matrices.iter().map(|matrix| layout.padded(matrix.param).len()).fold(0, sum);
    // Where late gradients are not kept, their part of the whole gradient is never touched.
    let late_len = if optimizer.clip.is_some() { 0 } else { late.transient_len() };
    let whole = if compiled.divided { parameters - late_len } else { 0 };
    let own = sum(compiled.plan.len, sum(late.longest(), late.room).max(optimizer.matrix_room(&matrices)));
    Memory {
        parameters: bytes(parameters),
        optimizer: bytes(all(parameters, optimizer.moments()) - untouched),
        gradients: bytes(sum(all(compiled.gradient_len, buffers), whole)),
        packed: bytes(compiled.packed_len),
        activations: bytes(sum(all(own, threads), compiled.plan.batch_len)),
    }
}

/// Returns the memory that [`Session::infer`] takes for `images` images, its results included.
pub fn inference_memory(graph: &Graph, nodes: &[NodeId], images: usize, threads: usize) -> Memory {
    let mut compiled = Compiled::new(graph, nodes, Mode::Infer, Isa::best(), &WideRule::default());
    let chunk = images.div_ceil(compiled.chunks(images).max(threads.min(images)));
    compiled.fit(Capacity { chunk, images: 0, micro_batches: 0 });
    let outputs = nodes.iter().map(|&id| all(graph.node(id).shape.len(), images)).fold(0, sum);
    Memory {
        parameters: bytes(Layout::new(graph).len()),
        packed: bytes(compiled.packed_len),
        activations: bytes(sum(all(compiled.plan.len, threads), outputs)),
        ..Memory::default()
    }
}

/// Gradient buffers that each thread gets.
fn buffers_per_thread(parts: usize, threads: usize) -> usize {
    (0..threads).map(|thread| buffers_needed(parts_of(parts, threads, thread))).max().unwrap_or(0)
}

impl Session {
    /// Starts a session with `threads` threads and the fastest instruction set of this processor.
    ///
    /// # Errors
    /// When the graph holds gradients or the parameters are another graph's.
    pub fn new(graph: Graph, parameters: Parameters, threads: usize) -> Result<Self, SessionError> {
        Session::with_isa(graph, parameters, threads, Isa::best())
    }

    /// Starts a session that uses a given instruction set.
    ///
    /// # Errors
    /// When this processor does not have it, the graph holds gradients or the parameters are another graph's.
    pub fn with_isa(graph: Graph, parameters: Parameters, threads: usize, isa: Isa) -> Result<Self, SessionError> {
        check(&graph, &parameters, isa, &Isa::available())?;
        let pool = Pool::new(threads);
        let threads = pool.threads();
        let worker = || Worker { scratch: Buffer::new(0), keys: Vec::new(), pending: Vec::with_capacity(16) };
        Ok(Session {
            graph,
            isa,
            pool,
            parameters,
            packed: Buffer::new(0),
            packed_for: None,
            workers: (0..threads).map(|_| worker()).collect(),
            recorders: Vec::new(),
            is_recording: false,
            training: None,
            inference: Vec::new(),
            wide: WideRule::default(),
        })
    }

    /// The model.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The parameters as they are now.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The values of one parameter, to change them. All cannot be replaced at once, because kernels rely on their layout.
    pub fn parameter_mut(&mut self, param: ParamId) -> &mut [f32] {
        self.packed_for = None;
        self.parameters.get_mut(param)
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Sets which layers are cut by columns from the next [`Session::start_training`] on.
    pub fn set_wide_rule(&mut self, rule: WideRule) {
        self.wide = rule;
    }

    /// Records what each thread works on in the next steps and inferences, by the given clock, until it is `None`.
    /// Results do not depend on it.
    pub fn set_clock(&mut self, clock: Option<Arc<dyn Clock>>) {
        self.is_recording = clock.is_some();
        let Some(clock) = clock else { return };
        self.recorders.resize_with(self.pool.threads(), || Recorder::new(Arc::clone(&clock)));
        self.recorders.iter_mut().for_each(|recorder| recorder.set_clock(&clock));
    }

    /// What was recorded of the last step or inference, for each thread in the order of time; nothing without a clock.
    pub fn recorded(&self) -> impl Iterator<Item = &[Slice]> {
        let recording = if self.is_recording { &self.recorders[..] } else { &[] };
        recording.iter().map(Recorder::slices)
    }

    /// Slices of the last step or inference that are missing in [`Session::recorded`], because there was no room for them.
    pub fn dropped(&self) -> usize {
        self.recorders.iter().map(Recorder::dropped).sum()
    }

    /// The calls and values of a step, once it was taken.
    ///
    /// # Panics
    /// When training was not started.
    pub fn training_facts(&self) -> ProgramFacts {
        let training = self.training.as_ref().expect("training was started");
        let graph = autodiff::differentiate(&self.graph, training.loss);
        facts(&training.compiled, &graph.graph, &graph.gradient_of, self.pool.threads(), self.isa)
    }

    /// The calls and values of the last inference of these nodes, if there was one.
    pub fn inference_facts(&self, nodes: &[NodeId]) -> Option<ProgramFacts> {
        let (_, compiled) = self.inference.iter().find(|(of, _)| of == nodes)?;
        Some(facts(compiled, &self.graph, &[], self.pool.threads(), self.isa))
    }

    /// Prepares training: each step reduces `loss`; `metrics` are nodes whose values can be read after each step.
    ///
    /// # Panics
    /// When `loss` is not a cross-entropy node, or a metric is not a node of the graph.
    pub fn start_training(&mut self, loss: NodeId, metrics: &[NodeId], optimizer: impl Into<Optimizer>) {
        let nodes = self.graph.nodes().len();
        assert!(metrics.iter().all(|metric| metric.index() < nodes), "a metric of another graph");
        let training_graph = autodiff::differentiate(&self.graph, loss);
        let outputs: Vec<NodeId> = [loss].iter().chain(metrics).copied().collect();
        let compiled = Compiled::new(&training_graph.graph, &outputs, Mode::Train, self.isa, &self.wide);
        let layout = self.parameters.layout();
        let mut training = Training::new(compiled, loss, outputs.len(), optimizer.into(), &self.graph, layout);
        if let Some(average) = training.average_buffer() {
            average.as_mut_slice().copy_from_slice(self.parameters.buffer().as_slice());
        }
        self.training = Some(training);
        self.packed_for = None;
    }

    /// Takes one optimizer step.
    ///
    /// # Panics
    /// When training was not started or the step has no images.
    pub fn train_step(&mut self, step: &Step) -> StepReport {
        let training = self.training.as_mut().expect("training was started");
        training.save_statistics(&self.parameters);
        self.accumulate_gradients(step, true);
        self.packed_for = None;
        let training = self.training.as_mut().expect("training was started");
        let recorders = Recorders::new(&mut self.recorders, self.is_recording);
        let loss = total(&training.outputs[0][..step.images]) / step.divisor();
        let gradient_norm = match loss.is_finite() {
            true => training.update(&mut self.pool, recorders, &mut self.parameters, step),
            false => f64::NAN,
        };
        if !loss.is_finite() || step.only_finite && !gradient_norm.is_finite() {
            training.restore_statistics(&mut self.parameters);
        }
        StepReport { loss, gradient_norm }
    }

    /// The L2 norms of the parameters' gradients, before clipping, in the last step that asked for them
    /// ([`Step::gradient_norms`]), in the order of [`Graph::parameters`]; 0 for statistics. Empty if none did.
    ///
    /// # Panics
    /// When training was not started.
    pub fn gradient_norms(&self) -> &[f64] {
        &self.training.as_ref().expect("training was started").norms
    }

    /// Copies the optimizer state.
    ///
    /// # Panics
    /// When training was not started.
    pub fn optimizer_state(&self) -> OptimizerState {
        let training = self.training.as_ref().expect("training was started");
        OptimizerState { updates: training.updates, moments: training.moments.clone() }
    }

    /// Continues from saved parameters and a saved optimizer state: the next step is the same as then, bit for bit.
    ///
    /// # Panics
    /// When training was not started, or the state is of another graph or another optimizer.
    pub fn restore(&mut self, parameters: &Parameters, optimizer: &OptimizerState) {
        let training = self.training.as_mut().expect("training was started");
        assert_eq!(training.moments.len(), optimizer.moments.len(), "moments of another optimizer");
        training.updates = optimizer.updates;
        let to = training.moments.iter_mut().chain([&mut self.parameters]);
        for (to, from) in to.zip(optimizer.moments.iter().chain([parameters])) {
            to.copy_from(from);
        }
        self.packed_for = None;
    }

    /// The mean over a step's images, and over the numbers that each image has of it, of metric number `metric`, as given
    /// to [`Session::start_training`].
    ///
    /// # Panics
    /// When training was not started.
    pub fn metric_mean(&self, metric: usize, images: usize) -> f64 {
        let training = self.training.as_ref().expect("training was started");
        let values = images * training.compiled.program.outputs[1 + metric];
        total(&training.outputs[1 + metric][..values]) / values as f64
    }

    /// Returns the gradient of the loss (see [`StepReport::loss`]) without taking a step, and the loss.
    ///
    /// # Panics
    /// When training was not started or the step has no images.
    pub fn gradients(&mut self, step: &Step) -> (Parameters, f64) {
        self.accumulate_gradients(step, false);
        let training = self.training.as_mut().expect("training was started");
        let mut gradient = Parameters::zeros(&self.graph);
        training.finish_sums(
            &mut self.pool,
            Recorders::new(&mut self.recorders, self.is_recording),
            &mut self.parameters,
            step,
        );
        gradient.buffer_mut().as_mut_slice().copy_from_slice(training.total());
        (gradient, total(&training.outputs[0][..step.images]) / step.divisor())
    }

    /// Allocates all memory that such a step needs.
    fn fit_training(&mut self, step: &Step) {
        let (threads, images) = (self.pool.threads(), step.images);
        let training = self.training.as_mut().expect("training was started");
        let compiled = &mut training.compiled;
        compiled.fit(capacity(compiled, images, step.micro_batches));
        training.fit(images, threads, threads * buffers_per_thread(parts(images), threads));
        self.fit_workers(ProgramId::Training);
    }

    /// Forgets what was recorded, and makes room for what a step or inference of so many images records.
    fn clear_recorders(&mut self, id: ProgramId, images: usize) {
        if !self.is_recording {
            return;
        }
        let (compiled, threads) = (self.compiled(id), self.pool.threads());
        let (calls, regions) = (compiled.program.calls.len(), compiled.regions.len());
        let room = match id {
            ProgramId::Inference(_) => compiled.chunks(images).max(threads) * (calls + 1),
            ProgramId::Training => {
                let count = parts(images);
                let own = (0..threads).map(|thread| parts_of(count, threads, thread).len()).max().unwrap_or(0);
                let chunks = compiled.chunks(images.div_ceil(count));
                let updates = self.training.as_ref().map_or(0, Training::slices);
                own * chunks * (calls + regions) + own * regions + 3 * regions + updates
            }
        };
        // Packing and the waits of thread 0.
        self.recorders.iter_mut().for_each(|recorder| recorder.clear(room + 8));
    }

    fn compiled(&self, id: ProgramId) -> &Compiled {
        match id {
            ProgramId::Training => &self.training.as_ref().expect("training was started").compiled,
            ProgramId::Inference(index) => &self.inference[index].1,
        }
    }

    fn fit_workers(&mut self, id: ProgramId) {
        let compiled = self.compiled(id);
        let (len, packed) = (compiled.plan.len, compiled.packed_len);
        let keys = compiled.program.dropouts.len() * compiled.plan.capacity.chunk;
        if self.packed.as_slice().len() < packed {
            self.packed = Buffer::new(packed);
            self.packed_for = None;
        }
        for worker in &mut self.workers {
            if worker.scratch.as_slice().len() < len {
                worker.scratch = Buffer::new(len);
            }
            if worker.keys.len() < keys {
                worker.keys.resize(keys, [0; 2]);
            }
        }
    }

    /// Packs the weights of a program, unless that was done.
    fn pack(&mut self, id: ProgramId) {
        if self.packed_for == Some(id) {
            return;
        }
        let to = Shared::new(self.packed.pointer());
        let from = Shared::new(self.parameters.buffer().read().cast_mut());
        let compiled = match id {
            ProgramId::Training => &self.training.as_ref().expect("training was started").compiled,
            ProgramId::Inference(index) => &self.inference[index].1,
        };
        let (isa, layout, threads) = (self.isa, self.parameters.layout(), self.pool.threads());
        Recorders::new(&mut self.recorders, self.is_recording).run(&mut self.pool, &|thread, mut track| {
            for (weight, offset) in compiled.program.packed.iter().zip(&compiled.packed_offsets) {
                let panels = share(compiled.program.panels(weight, isa), threads, thread);
                // SAFETY: offsets lie inside the buffers, and threads write different panels.
                unsafe {
                    if let Some(geometry) = weight.geometry {
                        let args = convolution::Pack {
                            geometry: &compiled.program.geometries[geometry],
                            weight: from.get().add(layout.start(weight.param)),
                            first: panels.start,
                            count: panels.len(),
                            to: to.get().add(*offset),
                        };
                        convolution::pack(isa, &args);
                        continue;
                    }
                    let args = Pack {
                        weight: from.get().add(layout.start(weight.param)),
                        out_features: weight.out_features,
                        in_features: weight.in_features,
                        heads: weight.heads,
                        transposed: weight.forward,
                        first: panels.start,
                        count: panels.len(),
                        to: to.get().add(*offset),
                    };
                    pack(isa, &args);
                }
            }
            track.end(Work::Pack);
        });
        self.packed_for = Some(id);
    }

    /// Runs all parts forward and backward. The sums of a single region's gradients are left to `training.merges`.
    fn accumulate_gradients(&mut self, step: &Step, moves_statistics: bool) {
        assert!(step.images > 0, "a step needs images");
        self.fit_training(step);
        self.clear_recorders(ProgramId::Training, step.images);
        self.pack(ProgramId::Training);
        let training = self.training.as_mut().expect("training was started");
        let (count, threads) = (parts(step.images), self.pool.threads());
        let per_thread = training.gradients.len() / threads;
        let parameters = Shared::new(self.parameters.buffer_mut().pointer());
        let run = Run {
            isa: self.isa,
            step,
            compiled: &training.compiled,
            layout: self.parameters.layout(),
            parameters,
            packed: Shared::new(self.packed.read().cast_mut()),
            batch: training.batch_pointer,
            gradients: &training.gradient_pointers,
            total: training.total_pointer,
            outputs: &training.output_pointers,
            moves_statistics,
        };
        let workers = Shared::new(self.workers.as_mut_ptr());
        let recorders = Recorders::new(&mut self.recorders, self.is_recording);
        for region in &training.compiled.regions {
            if region.whole {
                let number = region.calls.start;
                let call = &training.compiled.program.calls[number];
                recorders.run(&mut self.pool, &|thread, mut track| {
                    // SAFETY: memory was fitted, and each thread takes the worker of its own number.
                    unsafe { run.whole(call, [thread, threads], (*workers.get().add(thread)).scratch.pointer()) };
                    track.end(Work::Call(number as u32));
                });
                continue;
            }
            recorders.run(&mut self.pool, &|thread, mut track| {
                // SAFETY: each thread takes the worker of its own number, and its own buffers and parts.
                let worker = unsafe { &mut *workers.get().add(thread) };
                let buffers = thread * per_thread..(thread + 1) * per_thread;
                worker.pending.clear();
                for part in parts_of(count, threads, thread) {
                    // SAFETY: as above; memory was fitted to the step.
                    unsafe { run.part(region, [part, count], worker, buffers.clone(), &mut track) };
                }
            });
            training.pending.clear();
            training.merges.clear();
            for worker in &self.workers {
                for &subtree in &worker.pending {
                    training.pending.push(subtree);
                    let merges = &mut training.merges;
                    merge(&mut training.pending, |into, from| merges.push([into, from]));
                }
            }
            if training.compiled.divided {
                let merges = &training.merges;
                if !region.gradients.is_empty() {
                    recorders.run(&mut self.pool, &|thread, mut track| {
                        // SAFETY: all parts are done, and threads have different numbers.
                        unsafe { run.finish_region(region, merges, [thread, threads]) };
                        track.end(Work::Tree);
                    });
                }
                training.merges.clear();
            }
        }
    }
}

/// Checks the arguments of a new session.
fn check(graph: &Graph, parameters: &Parameters, isa: Isa, available: &[Isa]) -> Result<(), SessionError> {
    if !available.contains(&isa) {
        return Err(SessionError::Isa { isa: isa.name() });
    }
    // What a gradient reads from the forward pass, and where it adds to parameters' gradients, only training has.
    if let Some(node) = graph.nodes().iter().find(|node| node.op.is_gradient()) {
        return Err(SessionError::Gradient { node: node.name.clone(), operation: node.op.name() });
    }
    if *parameters.layout() != Layout::new(graph) {
        return Err(SessionError::Parameters);
    }
    Ok(())
}

/// The sizes that a step of `images` images needs. Parts differ by one image, and it may be the smaller part that is cut
/// into fewer and so greater chunks.
fn capacity(compiled: &Compiled, images: usize, micro_batches: NonZeroUsize) -> Capacity {
    let count = parts(images);
    let chunk = compiled.largest_chunk(images / count).max(compiled.largest_chunk(images.div_ceil(count)));
    Capacity { chunk, images, micro_batches: micro_batches.get() }
}

/// Bytes of this many values.
fn bytes(numbers: usize) -> u64 {
    all(numbers, size_of::<f32>()) as u64
}

/// The sum of values that come in a fixed order.
fn total(values: &[f32]) -> f64 {
    values.iter().map(|&x| f64::from(x)).sum()
}
