//! Takes the images of a chunk through attention and what else is done to sequences.

use std::ptr::{null, null_mut};
use std::slice::from_raw_parts_mut;

use super::super::attention::{Backward, Forward, Rows, RowsMut, Sizes, backward, forward};
use super::super::program::{AttendSizes, PerHeadParamGrad, SequenceCall, Slot, Strips, View};
use super::super::{linear, scalar, sequence};
use super::Chunk;
use crate::ops::path_is_kept;

impl Chunk<'_> {
    /// Runs one call.
    ///
    /// # Safety
    /// As for [`Chunk::run`].
    pub(super) unsafe fn sequence(&self, call: &SequenceCall) {
        // SAFETY: the planner gave each slot room for the chunk; two slots of one call have one place only where the
        // call says so, and then the values are copied first and no slice of the old ones is held.
        unsafe {
            match *call {
                SequenceCall::Attend(ref attend) => {
                    let [q, k, v] = attend.qkv.map(|view| self.rows(view));
                    let args = Forward {
                        sizes: self.attend_sizes(attend.sizes),
                        q,
                        k,
                        v,
                        mask: attend.mask.map_or(null(), |mask| self.at(mask).cast_const()),
                        context: self.at(attend.out),
                        kept: self.at_any(attend.kept),
                        scratch: self.at(attend.scratch),
                    };
                    forward(self.isa, &args);
                }
                SequenceCall::AttendGrad(ref grad) => {
                    let [q, k, v] = grad.qkv.map(|view| self.rows(view));
                    let [dq, dk, dv] = grad.out.map(|view| match view {
                        Some(view) => RowsMut { at: self.at(view.slot).add(view.offset), stride: view.stride },
                        None => RowsMut { at: null_mut(), stride: 0 },
                    });
                    let args = Backward {
                        sizes: self.attend_sizes(grad.sizes),
                        q,
                        k,
                        v,
                        mask: grad.mask.map_or(null(), |mask| self.at(mask).cast_const()),
                        context: self.at(grad.context),
                        kept: self.at(grad.kept),
                        dcontext: self.at(grad.dy),
                        dq,
                        dk,
                        dv,
                        scratch: self.at(grad.scratch),
                    };
                    backward(self.isa, &args);
                }
                SequenceCall::PerHeadParamGrad(ref grad) => self.per_head_param_grad(grad),
                SequenceCall::Softmax { x, out, size: [rows, features] } => {
                    let out = self.moved(x, out, rows * features);
                    out.chunks_exact_mut(features).for_each(sequence::softmax);
                }
                SequenceCall::SoftmaxGrad { dy, y, out, size: [rows, features] } => {
                    let out = self.moved(dy, out, rows * features);
                    let y = self.read(y, rows * features).chunks_exact(features);
                    for (y, out) in y.zip(out.chunks_exact_mut(features)) {
                        sequence::softmax_grad(y, out);
                    }
                }
                SequenceCall::Strips(ref strips) => self.strips(strips),
                SequenceCall::Embedding { ids, out, table, tokens, size: [vocabulary, width] } => {
                    let table = std::slice::from_raw_parts(self.parameter(table), vocabulary * width);
                    let out = self.write(out, tokens * width).chunks_exact_mut(width);
                    for (&id, out) in self.read(ids, tokens).iter().zip(out) {
                        out.copy_from_slice(&table[sequence::number_of(id, vocabulary) * width..][..width]);
                    }
                }
                SequenceCall::EmbeddingGrad { dy, ids, table, tokens, size: [vocabulary, width] } => {
                    let table = from_raw_parts_mut(self.gradient(table), vocabulary * width);
                    let dy = self.read(dy, tokens * width).chunks_exact(width);
                    for (&id, dy) in self.read(ids, tokens).iter().zip(dy) {
                        let row = &mut table[sequence::number_of(id, vocabulary) * width..][..width];
                        scalar::accumulate(dy, row, true);
                    }
                }
                SequenceCall::Constant { out, param, len } => {
                    let value = std::slice::from_raw_parts(self.parameter(param), len);
                    self.write(out, len).chunks_exact_mut(len).for_each(|out| out.copy_from_slice(value));
                }
                SequenceCall::Multiply { x, number, out, len } => {
                    self.moved(x, out, len).iter_mut().for_each(|x| *x *= number);
                }
                SequenceCall::DropPath { dropout, x, out, len } => {
                    let keys = &self.keys[dropout * self.images..];
                    let dropout = self.compiled.program.dropouts[dropout].dropout;
                    for (out, &keys) in self.moved(x, out, len).chunks_exact_mut(len).zip(keys) {
                        let factor = if path_is_kept(dropout, keys) { dropout.scale() } else { 0.0 };
                        out.iter_mut().for_each(|x| *x *= factor);
                    }
                }
                SequenceCall::CrossEntropy { logits, labels, out, size, smoothing } => {
                    let out = self.write(out, 1);
                    for (out, tokens) in out.iter_mut().zip(self.sequences(logits, labels, size)) {
                        let losses = sequence::real_targets(tokens, size[1])
                            .map(|(logits, label)| f64::from(scalar::cross_entropy(logits, label, smoothing)));
                        *out = losses.sum::<f64>() as f32;
                    }
                }
                SequenceCall::CrossEntropyGrad { logits, labels, out, size, smoothing } => {
                    let rows = self.read(logits, size[0] * size[1]).chunks_exact(size[1]);
                    let out = self.write(out, size[0] * size[1]).chunks_exact_mut(size[1]);
                    for ((logits, &label), out) in rows.zip(self.read(labels, size[0])).zip(out) {
                        if label == sequence::NO_TARGET {
                            out.fill(0.0);
                        } else {
                            scalar::cross_entropy_grad(logits, label, smoothing, self.share, out);
                        }
                    }
                }
                SequenceCall::Correct { logits, labels, out, size } => {
                    let out = self.write(out, 1);
                    for (out, tokens) in out.iter_mut().zip(self.sequences(logits, labels, size)) {
                        let hits = sequence::real_targets(tokens, size[1]);
                        *out = hits.map(|(logits, label)| scalar::correct(logits, label)).product();
                    }
                }
            }
        }
    }

    /// Copies a value to where the result goes, unless it is there, and returns it to be changed.
    #[expect(clippy::mut_from_ref, reason = "the memory is behind a raw pointer, not behind `self`")]
    unsafe fn moved(&self, x: Slot, out: Slot, len: usize) -> &mut [f32] {
        unsafe {
            if self.at(x) != self.at(out) {
                self.write(out, len).copy_from_slice(self.read(x, len));
            }
            self.write(out, len)
        }
    }

    unsafe fn rows(&self, view: View) -> Rows {
        // SAFETY: the offset is a column of the slot's rows.
        Rows { at: unsafe { self.at(view.slot).add(view.offset) }, stride: view.stride }
    }

    fn attend_sizes(&self, sizes: AttendSizes) -> Sizes {
        let AttendSizes { queries, keys, head_dim, attention, masked, dropout } = sizes;
        let dropout = dropout.map(|index| self.mask(index));
        Sizes { images: self.images, queries, keys, head_dim, attention, masked, dropout }
    }

    /// The logits and labels of each image.
    unsafe fn sequences(
        &self,
        logits: Slot,
        labels: Slot,
        [tokens, classes]: [usize; 2],
    ) -> impl Iterator<Item = (&[f32], &[f32])> {
        let logits = unsafe { self.read(logits, tokens * classes) }.chunks_exact(tokens * classes);
        logits.zip(unsafe { self.read(labels, tokens) }.chunks_exact(tokens))
    }

    unsafe fn strips(&self, strips: &Strips) {
        let Strips { x, out, rows, len, from, to, clear } = *strips;
        unsafe {
            let (x, out) = (self.read(x, rows * from[1]), self.write(out, rows * to[1]));
            if clear {
                out.fill(0.0);
            }
            for (x, out) in x.chunks_exact(from[1]).zip(out.chunks_exact_mut(to[1])) {
                out[to[0]..][..len].copy_from_slice(&x[from[0]..][..len]);
            }
        }
    }

    /// The gradient of the whole matrix, of which only the heads' blocks are taken; the sums of the blocks go on
    /// where the last chunk left them.
    unsafe fn per_head_param_grad(&self, grad: &PerHeadParamGrad) {
        let [out_features, in_features] = grad.size;
        let continues = self.continues || !grad.starts;
        let width = in_features / grad.heads;
        unsafe {
            let blocks = from_raw_parts_mut(self.gradient(grad.weight), out_features * width);
            if continues {
                let whole = from_raw_parts_mut(self.at(grad.scratch), out_features * in_features);
                whole.fill(0.0);
                for (o, block) in blocks.chunks_exact(width).enumerate() {
                    whole[sequence::block_start(o, grad.heads, width)..][..width].copy_from_slice(block);
                }
            }
            let args = linear::ParamGrad {
                rows: self.images * grad.rows,
                out_features,
                in_features,
                dy: self.at(grad.dy),
                x: self.at(grad.x),
                dweight: self.at(grad.scratch),
                dbias: grad.bias.map_or(null_mut(), |bias| self.gradient(bias)),
                continues,
            };
            linear::param_grad(self.isa, &args);
            let whole = std::slice::from_raw_parts(self.at(grad.scratch), out_features * in_features);
            for (o, block) in blocks.chunks_exact_mut(width).enumerate() {
                block.copy_from_slice(&whole[sequence::block_start(o, grad.heads, width)..][..width]);
            }
        }
    }
}
