//! Runs a program for the images of one chunk: turns each call's slots and parameters into pointers for its kernel.

mod convolution;
mod sequence;

use std::ptr::{null, null_mut};
use std::slice::{from_raw_parts, from_raw_parts_mut};

use super::compiled::Compiled;
use super::dropout::Mask;
use super::parameters::Layout;
use super::plan::Place;
use super::program::{Addend, Call, Factor, LayerNormGrad, Param, Product, Slot};
use super::recorder::Track;
use super::region::Region;
use super::simd::LANES;
use super::{Isa, activation, dropout, elementwise, layer_norm, linear, scalar};
use crate::profile::Work;
use crate::random::Key;
use crate::session::Examples;

/// One chunk of a step, and all memory its calls use.
///
/// The pointers belong to the thread that runs the chunk, but for parameters, packed weights and constants, which
/// no thread writes meanwhile, and the batch's values and outputs, of which it writes only its own images.
pub(super) struct Chunk<'a> {
    pub isa: Isa,
    pub compiled: &'a Compiled,
    pub layout: &'a Layout,
    pub examples: &'a dyn Examples,
    /// Images of the chunk, at most what the plan has room for.
    pub images: usize,
    /// Place of the first among the step's.
    pub first: usize,
    /// Key of the step's dropout, and place of the step's first image in the epoch.
    pub dropout: Key,
    pub epoch_place: u64,
    /// Images of the step, and micro-batches that they are cut into.
    pub cut: [usize; 2],
    /// 1 over the divisor of the sum of the losses.
    pub share: f64,
    pub scratch: *mut f32,
    /// Values of all images of the step; null when the program has none.
    pub batch: *mut f32,
    pub parameters: *const f32,
    pub packed: *const f32,
    /// Null when the program adds to no gradient.
    pub gradient: *mut f32,
    /// Whether the gradient holds the sums over earlier chunks of the part.
    pub continues: bool,
    pub outputs: &'a [super::memory::Shared<f32>],
    pub keys: &'a mut [[u32; 2]],
    pub track: Track<'a>,
}

impl Chunk<'_> {
    /// Runs one region of the program.
    ///
    /// # Safety
    /// The pointers are good for the sizes of the plan, the layout and the outputs, and no other thread writes there.
    pub unsafe fn run(&mut self, region: &Region) {
        let images = self.images;
        let room = self.compiled.plan.capacity.chunk;
        assert!(images <= room, "{images} images in a chunk for {room}");
        for (i, dropout) in self.compiled.program.dropouts.iter().enumerate() {
            for image in 0..images {
                let place = self.epoch_place + (self.first + image) as u64;
                self.keys[i * images + image] = dropout.dropout.keys(self.dropout.with(place));
            }
        }
        if !self.compiled.program.dropouts.is_empty() {
            self.track.end(Work::Keys);
        }
        for number in region.calls.clone() {
            // SAFETY: the planner gave each slot room for the chunk; what a call may overwrite it says itself.
            unsafe { self.call(&self.compiled.program.calls[number]) };
            self.track.end(Work::Call(number as u32));
        }
    }

    fn at(&self, slot: Slot) -> *mut f32 {
        // SAFETY: the plan's places lie inside the scratch memory and the batch arena.
        unsafe {
            match self.compiled.plan.places[slot] {
                Place::Scratch(start) => self.scratch.add(start),
                Place::Batch { start, per_image } => self.batch.add(start + self.first * per_image),
            }
        }
    }

    fn at_any(&self, slot: Option<Slot>) -> *mut f32 {
        slot.map_or(null_mut(), |slot| self.at(slot))
    }

    fn multiply(&self, factor: Option<Factor>) -> linear::Multiply {
        factor.map_or(linear::Multiply::No, |factor| factor.multiply(|slot| self.at(slot)))
    }

    fn parameter(&self, param: Param) -> *const f32 {
        // SAFETY: the layout's offsets lie inside the parameters.
        unsafe { self.parameters.add(self.layout.start(param)) }
    }

    fn gradient(&self, param: Param) -> *mut f32 {
        // SAFETY: the starts lie inside the gradients of a part.
        unsafe { self.gradient.add(self.compiled.gradient_starts[param]) }
    }

    fn mask(&self, index: usize) -> Mask {
        let dropout = self.compiled.program.dropouts[index];
        Mask {
            keys: self.keys[index * self.images..].as_ptr(),
            threshold: dropout.dropout.threshold(),
            scale: dropout.dropout.scale(),
            rows_per_image: dropout.rows,
            features: dropout.features,
        }
    }

    /// The `len` values that each image has in a slot.
    unsafe fn read(&self, slot: Slot, len: usize) -> &[f32] {
        unsafe { from_raw_parts(self.at(slot), self.images * len) }
    }

    /// The same, to be written. The caller holds no other slice of the slot.
    #[expect(clippy::mut_from_ref, reason = "the memory is behind a raw pointer, not behind `self`")]
    unsafe fn write(&self, slot: Slot, len: usize) -> &mut [f32] {
        unsafe { from_raw_parts_mut(self.at(slot), self.images * len) }
    }

    unsafe fn call(&self, call: &Call) {
        let images = self.images;
        let continues = |starts: bool| self.continues || !starts;
        unsafe {
            match *call {
                Call::Input { input, out, len } => {
                    for (image, values) in self.write(out, len).chunks_exact_mut(len).enumerate() {
                        self.examples.fill(input, self.first + image, values);
                    }
                }
                Call::Output { output, x, len } => {
                    let to = self.outputs[output].get().add(self.first * len);
                    from_raw_parts_mut(to, images * len).copy_from_slice(self.read(x, len));
                }
                Call::Patches { x, out, image, patch } => {
                    let len = image.iter().product();
                    let pairs = self.read(x, len).chunks_exact(len).zip(self.write(out, len).chunks_exact_mut(len));
                    for (x, out) in pairs {
                        scalar::patches(x, image, patch, out);
                    }
                }
                Call::Product(ref product) => self.product(product),
                Call::ParamGrad { dy, x, rows, size: [out_features, in_features], weight, bias, starts } => {
                    let args = linear::ParamGrad {
                        rows: images * rows,
                        out_features,
                        in_features,
                        dy: self.at(dy),
                        x: self.at(x),
                        dweight: self.gradient(weight),
                        dbias: bias.map_or(null_mut(), |bias| self.gradient(bias)),
                        continues: continues(starts),
                    };
                    linear::param_grad(self.isa, &args);
                }
                Call::LayerNorm { x, out, stats, params, size: [rows, features], eps, relu } => {
                    let args = layer_norm::Forward {
                        rows: images * rows,
                        features,
                        eps,
                        x: self.at(x),
                        weight: self.parameter(params[0]),
                        bias: self.parameter(params[1]),
                        out: self.at(out),
                        stats: self.at_any(stats),
                        relu,
                    };
                    layer_norm::forward(self.isa, &args);
                }
                Call::LayerNormGrad(ref grad) => self.layer_norm_grad(grad, continues(grad.starts)),
                Call::Activate { activation, x, dy, out, len } => {
                    let (x, dy, out) = (self.at(x), self.at_any(dy), self.at(out));
                    activation::apply(self.isa, &activation::Apply { activation, len: images * len, x, dy, out });
                }
                Call::Scale { x, factor, out, len } => {
                    let multiply = factor.multiply(|slot| self.at(slot));
                    let (x, out) = (self.at(x), self.at(out));
                    elementwise::scale(self.isa, &elementwise::Scale { len: images * len, x, multiply, out });
                }
                Call::ScaleFeatures { x, factors, residual, out, size: [rows, features] } => {
                    let (x, factors, residual) = (self.at(x), self.parameter(factors), self.at_any(residual));
                    let (rows, out) = (images * rows, self.at(out));
                    let args = elementwise::ScaleFeatures { rows, features, x, factors, residual, out };
                    elementwise::scale_features(self.isa, &args);
                }
                Call::ScaleFeaturesGrad { dy, x, factors, out, size: [rows, features], starts } => {
                    let args = elementwise::ScaleFeaturesGrad {
                        rows: images * rows,
                        features,
                        dy: self.at(dy),
                        x: self.at(x),
                        factors: self.parameter(factors),
                        dfactors: self.gradient(factors),
                        continues: continues(starts),
                        out: self.at_any(out),
                    };
                    elementwise::scale_features_grad(self.isa, &args);
                }
                Call::Drop { dropout, x, out } => {
                    let mask = self.mask(dropout);
                    let rows = images * mask.rows_per_image;
                    let args = dropout::Drop { mask, rows, x: self.at(x), out: self.at(out) };
                    dropout::drop_values(self.isa, &args);
                }
                Call::Add { a, b, out, len } => {
                    let (b, shared) = match b {
                        Addend::Value(slot) => (self.at(slot).cast_const(), false),
                        Addend::Param(param) => (self.parameter(param), true),
                        Addend::Constant(index) => (self.compiled.program.constants[index].as_ptr(), true),
                    };
                    let args = elementwise::Add { images, len, a: self.at(a), b, shared, out: self.at(out) };
                    elementwise::add(self.isa, &args);
                }
                Call::ClearGradient { param, len } => {
                    if !self.continues {
                        from_raw_parts_mut(self.gradient(param), len).fill(0.0);
                    }
                }
                Call::TableGrad { dy, table, len, starts } => {
                    let sum = from_raw_parts_mut(self.gradient(table), len);
                    for (image, dy) in self.read(dy, len).chunks_exact(len).enumerate() {
                        scalar::accumulate(dy, sum, continues(starts) || image > 0);
                    }
                }
                Call::PrependToken { x, out, token, size: [tokens, features] } => {
                    let (own, len) = (from_raw_parts(self.parameter(token), features), tokens * features);
                    let x = self.read(x, len - features).chunks_exact(len - features);
                    for (x, out) in x.zip(self.write(out, len).chunks_exact_mut(len)) {
                        let (first, rest) = out.split_at_mut(features);
                        first.copy_from_slice(own);
                        rest.copy_from_slice(x);
                    }
                }
                Call::PrependTokenGrad { dy, out, token, size: [tokens, features], starts } => {
                    let len = tokens * features;
                    let sum = from_raw_parts_mut(self.gradient(token), features);
                    for (image, dy) in self.read(dy, len).chunks_exact(len).enumerate() {
                        scalar::accumulate(&dy[..features], sum, continues(starts) || image > 0);
                        if let Some(out) = out {
                            let len = len - features;
                            self.write(out, len)[image * len..][..len].copy_from_slice(&dy[features..]);
                        }
                    }
                }
                Call::SelectToken { x, out, index, size: [tokens, features] } => {
                    let x = self.read(x, tokens * features).chunks_exact(tokens * features);
                    for (x, out) in x.zip(self.write(out, features).chunks_exact_mut(features)) {
                        out.copy_from_slice(&x[index * features..][..features]);
                    }
                }
                Call::SelectTokenGrad { dy, out, index, size: [tokens, features] } => {
                    let out = self.write(out, tokens * features);
                    out.fill(0.0);
                    let dy = self.read(dy, features).chunks_exact(features);
                    for (dy, out) in dy.zip(out.chunks_exact_mut(tokens * features)) {
                        out[index * features..][..features].copy_from_slice(dy);
                    }
                }
                Call::MeanTokens { x, out, size: [tokens, features] } => {
                    let x = self.read(x, tokens * features).chunks_exact(tokens * features);
                    for (x, out) in x.zip(self.write(out, features).chunks_exact_mut(features)) {
                        scalar::mean_rows(x, out);
                    }
                }
                Call::MeanTokensGrad { dy, out, size: [tokens, features] } => {
                    let dy = self.read(dy, features).chunks_exact(features);
                    let out = self.write(out, tokens * features);
                    for (dy, out) in dy.zip(out.chunks_exact_mut(tokens * features)) {
                        scalar::mean_rows_grad(dy, out);
                    }
                }
                // attention
                Call::Sequence(ref call) => self.sequence(call),
                // convolution
                Call::Convolution(ref call) => self.convolution_call(call),
                Call::Wide(_) => unreachable!("a call for the whole batch is in no chunk"),
                Call::CrossEntropy { logits, label, out, classes, smoothing } => {
                    let out = self.write(out, 1);
                    for (i, (logits, &label)) in self.examples_of(logits, label, classes).enumerate() {
                        out[i] = scalar::cross_entropy(logits, label, smoothing);
                    }
                }
                Call::CrossEntropyGrad { logits, label, out, classes, smoothing } => {
                    let out = self.write(out, classes).chunks_exact_mut(classes);
                    for ((logits, &label), out) in self.examples_of(logits, label, classes).zip(out) {
                        scalar::cross_entropy_grad(logits, label, smoothing, self.share, out);
                    }
                }
                Call::Correct { logits, label, out, classes } => {
                    let out = self.write(out, 1);
                    for (i, (logits, &label)) in self.examples_of(logits, label, classes).enumerate() {
                        out[i] = scalar::correct(logits, label);
                    }
                }
            }
        }
    }

    unsafe fn examples_of(&self, logits: Slot, label: Slot, classes: usize) -> impl Iterator<Item = (&[f32], &f32)> {
        unsafe { self.read(logits, classes).chunks_exact(classes).zip(self.read(label, 1)) }
    }

    unsafe fn product(&self, product: &Product) {
        let args = linear::Product {
            rows: self.images * product.rows,
            steps: product.steps,
            columns: product.columns,
            x: self.at(product.x),
            // SAFETY: the offsets lie inside the packed weights.
            packed: unsafe { self.packed.add(self.compiled.packed_offsets[product.weight]) },
            bias: product.bias.map_or(null(), |bias| self.parameter(bias)),
            activation: product.activation,
            derivative: self.at_any(product.derivative),
            multiply: self.multiply(product.factor),
            dropout: product.dropout.map(|index| self.mask(index)),
            residual: self.at_any(product.residual),
            out: self.at(product.out),
        };
        unsafe { linear::product(self.isa, &args) };
    }

    unsafe fn layer_norm_grad(&self, grad: &LayerNormGrad, continues: bool) {
        let [rows, features] = grad.size;
        let args = layer_norm::Backward {
            rows: self.images * rows,
            features,
            dy: self.at(grad.dy),
            x: self.at(grad.x),
            stats: self.at(grad.stats),
            weight: self.parameter(grad.params[0]),
            dweight: self.gradient(grad.params[0]),
            dbias: self.gradient(grad.params[1]),
            continues,
            residual: self.at_any(grad.residual),
            dx: self.at_any(grad.out),
        };
        unsafe { layer_norm::backward(self.isa, &args) };
    }
}

const _: () = assert!(LANES == 16, "parameters are padded to whole vectors");
