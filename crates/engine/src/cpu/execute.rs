//! A session: parameters, threads and memory, and the phases of a step that divide the work among the threads.
//!
//! A training step has three phases: weights are packed (divided by panels); parts are taken forward and backward
//! (divided by parts, sums along the tree of [`super::split`]); parameters are updated (divided by blocks).

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Isa;
use super::chunk::Chunk;
use super::compiled::Compiled;
use super::linear::{Pack, pack};
use super::lower::Mode;
use super::memory::{Buffer, Shared};
use super::optimizer;
use super::parameters::{Layout, Parameters};
use super::pool::Pool;
use super::split::{Subtree, buffers_needed, free_buffer, merge, parts, parts_of, share};
use super::training::Training;
use crate::autodiff;
use crate::graph::{Graph, NodeId, ParamId};
use crate::random::Key;
use crate::session::{Examples, Memory, Optimizer, Step, StepReport};

/// A model that can be trained and asked.
pub struct Session {
    graph: Graph,
    isa: Isa,
    pool: Pool,
    parameters: Parameters,
    packed: Buffer,
    /// The program whose weights are packed, as long as the parameters have not changed.
    packed_for: Option<ProgramId>,
    workers: Vec<Worker>,
    training: Option<Training>,
    inference: Vec<(Vec<NodeId>, Compiled)>,
}

/// Which of a session's programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProgramId {
    Training,
    Inference(usize),
}

/// What a thread has of its own.
struct Worker {
    scratch: Buffer,
    keys: Vec<[u32; 2]>,
    pending: Vec<Subtree>,
}

/// The memory that training takes for steps of so many images, known before anything is allocated.
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
    let mut compiled = Compiled::new(&autodiff::differentiate(graph, loss).graph, &outputs, Mode::Train, isa);
    let count = parts(images);
    compiled.fit(greatest_chunk(&compiled, images, count));
    let bytes = |numbers: usize| (numbers * size_of::<f32>()) as u64;
    let parameters = Layout::new(graph).len();
    let buffers = threads * buffers_per_thread(count, threads);
    Memory {
        parameters: bytes(parameters),
        optimizer: bytes(optimizer.moments() * parameters),
        gradients: bytes(buffers * parameters),
        packed: bytes(compiled.packed_len),
        activations: bytes(threads * compiled.plan.len),
    }
}

/// The memory that [`Session::infer`] takes for so many images, its results included.
pub fn inference_memory(graph: &Graph, nodes: &[NodeId], images: usize, threads: usize) -> Memory {
    let mut compiled = Compiled::new(graph, nodes, Mode::Infer, Isa::best());
    compiled.fit(images.div_ceil(compiled.chunks(images).max(threads.min(images))));
    let outputs: usize = nodes.iter().map(|&id| images * graph.node(id).shape.len()).sum();
    let bytes = |numbers: usize| (numbers * size_of::<f32>()) as u64;
    Memory {
        parameters: bytes(Layout::new(graph).len()),
        packed: bytes(compiled.packed_len),
        activations: bytes(threads * compiled.plan.len + outputs),
        ..Memory::default()
    }
}

/// Gradient buffers that each thread gets.
fn buffers_per_thread(parts: usize, threads: usize) -> usize {
    (0..threads).map(|thread| buffers_needed(parts_of(parts, threads, thread))).max().unwrap_or(0)
}

impl Session {
    /// Starts a session on so many threads with the fastest instruction set there is.
    pub fn new(graph: Graph, parameters: Parameters, threads: usize) -> Self {
        Session::with_isa(graph, parameters, threads, Isa::best())
    }

    /// Starts a session that uses a given instruction set.
    ///
    /// # Panics
    /// When this processor does not have it, or the parameters are another graph's.
    pub fn with_isa(graph: Graph, parameters: Parameters, threads: usize, isa: Isa) -> Self {
        isa.assert_among(&Isa::available());
        assert_eq!(*parameters.layout(), Layout::new(&graph), "parameters of another graph");
        let pool = Pool::new(threads);
        let threads = pool.threads();
        let worker = || Worker { scratch: Buffer::new(0), keys: Vec::new(), pending: Vec::with_capacity(16) };
        Session {
            graph,
            isa,
            pool,
            parameters,
            packed: Buffer::new(0),
            packed_for: None,
            workers: (0..threads).map(|_| worker()).collect(),
            training: None,
            inference: Vec::new(),
        }
    }

    /// The model.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The parameters as they are now.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The values of one parameter, to be changed. Not all at once: kernels rely on the layout of the graph's own.
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

    /// Makes the session ready to train: `loss` is made small, `metrics` are values to be read after each step.
    ///
    /// # Panics
    /// When `loss` is no cross-entropy node, or a metric is more than one number for an image.
    pub fn start_training(&mut self, loss: NodeId, metrics: &[NodeId], optimizer: impl Into<Optimizer>) {
        for node in metrics.iter().map(|&id| self.graph.node(id)) {
            assert_eq!(node.shape.len(), 1, "the metric `{}` is more than one number", node.name);
        }
        let training_graph = autodiff::differentiate(&self.graph, loss);
        let outputs: Vec<NodeId> = [loss].iter().chain(metrics).copied().collect();
        let compiled = Compiled::new(&training_graph.graph, &outputs, Mode::Train, self.isa);
        let layout = self.parameters.layout();
        self.training = Some(Training::new(compiled, outputs.len(), optimizer.into(), &self.graph, layout));
        self.packed_for = None;
    }

    /// Takes one optimiser step.
    ///
    /// # Panics
    /// When training was not started or the step has no images.
    pub fn train_step(&mut self, step: &Step) -> StepReport {
        self.accumulate_gradients(step);
        self.packed_for = None;
        let training = self.training.as_mut().expect("training was started");
        training.steps += 1;
        let gradient_norm = training.update(&mut self.pool, self.isa, &mut self.parameters, step.learning_rate);
        StepReport { loss: sum(&training.outputs[0][..step.images]) / step.divisor(), gradient_norm }
    }

    /// The mean over a step's images of metric number `metric`, as given to [`Session::start_training`].
    pub fn metric_mean(&self, metric: usize, images: usize) -> f64 {
        let training = self.training.as_ref().expect("training was started");
        sum(&training.outputs[1 + metric][..images]) / images as f64
    }

    /// Returns the gradient of the loss (see [`StepReport::loss`]) without taking a step, and the loss.
    ///
    /// # Panics
    /// When training was not started or the step has no images.
    pub fn gradients(&mut self, step: &Step) -> (Parameters, f64) {
        self.accumulate_gradients(step);
        let training = self.training.as_mut().expect("training was started");
        let mut gradient = Parameters::zeros(&self.graph);
        training.finish_sums(&mut self.pool, self.isa);
        gradient.buffer_mut().as_mut_slice().copy_from_slice(training.gradients[0].as_slice());
        (gradient, sum(&training.outputs[0][..step.images]) / step.divisor())
    }

    /// Computes the values of nodes for examples that are not trained on; dropout does nothing.
    ///
    /// # Returns
    /// For each node, its values example after example.
    pub fn infer(&mut self, nodes: &[NodeId], images: usize, examples: &dyn Examples) -> Vec<Vec<f32>> {
        let known = self.inference.iter().position(|(of, _)| of == nodes);
        let index = known.unwrap_or_else(|| {
            let compiled = Compiled::new(&self.graph, nodes, Mode::Infer, self.isa);
            self.inference.push((nodes.to_vec(), compiled));
            self.inference.len() - 1
        });
        let mut outputs: Vec<Vec<f32>> =
            nodes.iter().map(|&id| vec![0.0; images * self.graph.node(id).shape.len()]).collect();
        if images == 0 {
            return outputs;
        }
        // Enough chunks for all threads; results do not depend on chunks, since no sum crosses images.
        let compiled = &mut self.inference[index].1;
        let chunks = compiled.chunks(images).max(self.pool.threads().min(images));
        compiled.fit(images.div_ceil(chunks));
        self.fit_workers(ProgramId::Inference(index));
        self.pack(ProgramId::Inference(index));
        let pointers: Vec<Shared<f32>> = outputs.iter_mut().map(|out| Shared::new(out.as_mut_ptr())).collect();
        let compiled = &self.inference[index].1;
        let next = AtomicUsize::new(0);
        let workers = Shared::new(self.workers.as_mut_ptr());
        let (isa, layout) = (self.isa, self.parameters.layout());
        let (parameters, packed) = (Shared::new(self.parameters.buffer().read().cast_mut()), &self.packed);
        self.pool.run(&|thread| {
            // SAFETY: each thread takes the worker of its own number.
            let worker = unsafe { &mut *workers.get().add(thread) };
            loop {
                let chunk = next.fetch_add(1, Ordering::Relaxed);
                if chunk >= chunks {
                    return;
                }
                let range = share(images, chunks, chunk);
                let mut chunk = Chunk {
                    isa,
                    compiled,
                    layout,
                    examples,
                    images: range.len(),
                    first: range.start,
                    dropout: Key::new(0),
                    epoch_place: 0,
                    share: 1.0,
                    scratch: worker.scratch.pointer(),
                    parameters: parameters.get(),
                    packed: packed.read(),
                    gradient: std::ptr::null_mut(),
                    continues: false,
                    outputs: &pointers,
                    keys: &mut worker.keys,
                };
                // SAFETY: the worker's memory was fitted to the plan, and chunks have different images.
                unsafe { chunk.run() };
            }
        });
        outputs
    }

    /// Makes all memory big enough that a step of so many images allocates nothing.
    fn fit_training(&mut self, images: usize) {
        let threads = self.pool.threads();
        let training = self.training.as_mut().expect("training was started");
        let count = parts(images);
        let compiled = &mut training.compiled;
        compiled.fit(greatest_chunk(compiled, images, count));
        let per_image = compiled.program.outputs.iter();
        let mut moved = false;
        for (out, per_image) in training.outputs.iter_mut().zip(per_image) {
            if out.len() < images * per_image {
                out.resize(images * per_image, 0.0);
                moved = true;
            }
        }
        if moved {
            training.output_pointers = training.outputs.iter_mut().map(|out| Shared::new(out.as_mut_ptr())).collect();
        }
        let needed = threads * buffers_per_thread(count, threads);
        if training.gradients.len() < needed {
            let len = self.parameters.layout().len();
            training.gradients.resize_with(needed, || Buffer::new(len));
            training.gradient_pointers =
                training.gradients.iter_mut().map(|buffer| Shared::new(buffer.pointer())).collect();
        }
        self.fit_workers(ProgramId::Training);
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
        let keys = compiled.program.dropouts.len() * compiled.plan.chunk;
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

    /// Packs the weights of a program, unless they are.
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
        self.pool.run(&|thread| {
            for (weight, offset) in compiled.program.packed.iter().zip(&compiled.packed_offsets) {
                let columns = if weight.forward { weight.out_features } else { weight.in_features };
                let panels = share(columns.div_ceil(isa.panel()), threads, thread);
                // SAFETY: offsets lie inside the buffers, and threads write different panels.
                unsafe {
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
        });
        self.packed_for = Some(id);
    }

    /// Takes all parts forward and backward; leaves their gradients in the sub-trees `training.pending`.
    fn accumulate_gradients(&mut self, step: &Step) {
        assert!(step.images > 0, "a step needs images");
        self.fit_training(step.images);
        self.pack(ProgramId::Training);
        let count = parts(step.images);
        let training = self.training.as_mut().expect("training was started");
        let per_thread = training.gradients.len() / self.pool.threads();
        let threads = self.pool.threads();
        let run = Run {
            isa: self.isa,
            step,
            compiled: &training.compiled,
            layout: self.parameters.layout(),
            parameters: Shared::new(self.parameters.buffer().read().cast_mut()),
            packed: Shared::new(self.packed.read().cast_mut()),
            gradients: &training.gradient_pointers,
            outputs: &training.output_pointers,
        };
        let workers = Shared::new(self.workers.as_mut_ptr());
        self.pool.run(&|thread| {
            // SAFETY: each thread takes the worker of its own number.
            let worker = unsafe { &mut *workers.get().add(thread) };
            let buffers = thread * per_thread..(thread + 1) * per_thread;
            worker.pending.clear();
            for part in parts_of(count, threads, thread) {
                run.part(part, count, worker, buffers.clone());
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
    }
}

/// What the threads of a training step share.
struct Run<'a> {
    isa: Isa,
    step: &'a Step<'a>,
    compiled: &'a Compiled,
    layout: &'a Layout,
    parameters: Shared<f32>,
    packed: Shared<f32>,
    gradients: &'a [Shared<f32>],
    outputs: &'a [Shared<f32>],
}

impl Run<'_> {
    /// Takes one part forward and backward, chunk by chunk, and adds its gradient to the thread's sub-trees.
    fn part(&self, part: usize, count: usize, worker: &mut Worker, buffers: Range<usize>) {
        let images = share(self.step.images, count, part);
        let buffer = free_buffer(&worker.pending, buffers);
        let chunks = self.compiled.chunks(images.len());
        for chunk in 0..chunks {
            let range = share(images.len(), chunks, chunk);
            let mut chunk = Chunk {
                isa: self.isa,
                compiled: self.compiled,
                layout: self.layout,
                examples: self.step.examples,
                images: range.len(),
                first: images.start + range.start,
                dropout: self.step.dropout,
                epoch_place: self.step.first,
                share: 1.0 / self.step.divisor(),
                scratch: worker.scratch.pointer(),
                parameters: self.parameters.get(),
                packed: self.packed.get(),
                gradient: self.gradients[buffer].get(),
                continues: chunk > 0,
                outputs: self.outputs,
                keys: &mut worker.keys,
            };
            // SAFETY: memory was fitted to the step; parts have different images and threads different buffers.
            unsafe { chunk.run() };
        }
        worker.pending.push(Subtree { first: part, level: 0, buffer });
        let (isa, len, gradients) = (self.isa, self.layout.len(), self.gradients);
        merge(&mut worker.pending, |into, from| {
            let (into, from) = (gradients[into].get(), gradients[from].get());
            // SAFETY: both are buffers of this thread, of `len` values each.
            unsafe { optimizer::sum(isa, &optimizer::Sum { len, into, from, squares: std::ptr::null_mut() }) };
        });
    }
}

/// Images of the greatest chunk of any part. Parts differ by one image, and it may be the smaller part that is cut
/// into fewer and so greater chunks.
fn greatest_chunk(compiled: &Compiled, images: usize, parts: usize) -> usize {
    compiled.greatest_chunk(images / parts).max(compiled.greatest_chunk(images.div_ceil(parts)))
}

/// The sum of values that come in a fixed order.
fn sum(values: &[f32]) -> f64 {
    values.iter().map(|&x| f64::from(x)).sum()
}
