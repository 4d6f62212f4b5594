//! The calls of convolutional networks that see the whole batch.

use super::{CUT, Run};
use std::ptr::{null, null_mut};

use crate::cpu::convolution::{self, ParamGrad, batch_norm};
use crate::cpu::linear::Multiply;
use crate::cpu::program::Slot;
use crate::cpu::program::convolution::{BatchNorm, BatchNormPart, ConvolutionCall, ConvolutionProduct};
use crate::cpu::split::share;

impl Run<'_> {
    /// Where a value starts: none of these calls has a value of its own.
    fn in_batch(&self, slot: Slot) -> *mut f32 {
        self.at(slot, null_mut())
    }

    /// Does a thread's share of a call.
    ///
    /// # Safety
    /// As for [`Run::whole`].
    pub(super) unsafe fn whole_convolution(&self, call: &ConvolutionCall, [thread, threads]: [usize; 2]) {
        match *call {
            ConvolutionCall::BatchNorm { norm, does } => unsafe { self.batch_norm(norm, does, [thread, threads]) },
            ConvolutionCall::Product(ref product) => unsafe { self.convolution_product(product, [thread, threads]) },
            _ => unreachable!("a call of a chunk, or a late one"),
        }
    }

    /// Computes `count` rows of a late call's gradient from `first` on; `room` is [`room_len`] numbers long.
    ///
    /// # Safety
    /// As for [`Run::late`].
    pub(super) unsafe fn late_convolution(
        &self,
        call: &ConvolutionCall,
        channels: [usize; 2],
        dweight: *mut f32,
        room: *mut f32,
    ) {
        let ConvolutionCall::LateGrad { dy, x, geometry, .. } = *call else { unreachable!("not a late call") };
        let geometry = &self.compiled.program.geometries[geometry];
        let (images, dy, x) = (self.step.images, self.in_batch(dy), self.in_batch(x));
        let args = ParamGrad { images, geometry, channels, dy, x, dweight, room, continues: false };
        let len = channels[1] * geometry.steps();
        // SAFETY: whole vectors belong to the block.
        unsafe {
            convolution::param_grad(self.isa, &args);
            dweight.add(len).write_bytes(0, len.next_multiple_of(CUT) - len);
        }
    }

    unsafe fn convolution_product(&self, product: &ConvolutionProduct, [thread, threads]: [usize; 2]) {
        let geometry = &self.compiled.program.geometries[product.geometry];
        let own = share(geometry.panels(self.isa), threads, thread);
        let args = convolution::Product {
            images: self.step.images,
            geometry,
            panels: [own.start, own.len()],
            x: self.in_batch(product.x),
            // SAFETY: the offsets lie inside the packed weights.
            packed: unsafe { self.packed.get().add(self.compiled.packed_offsets[product.weight]) },
            bias: product.bias.map_or(null(), |bias| self.parameter(bias)),
            relu: product.relu,
            multiply: product.factor.map_or(Multiply::No, |factor| factor.multiply(|slot| self.in_batch(slot))),
            residual: product.residual.map_or(null_mut(), |slot| self.in_batch(slot)),
            out: self.in_batch(product.out),
        };
        // SAFETY: memory was fitted to the step, and threads write to different channels.
        unsafe { convolution::product(self.isa, &args) };
    }

    unsafe fn batch_norm(&self, norm: BatchNorm, does: BatchNormPart, [thread, threads]: [usize; 2]) {
        let [pixels, channels] = norm.size;
        let own = share(channels.div_ceil(CUT), threads, thread);
        let range = [own.start * CUT, (own.end * CUT).min(channels) - own.start * CUT];
        let micro_batches = self.step.micro_batches.get();
        for number in 0..micro_batches {
            let images = share(self.step.images, micro_batches, number);
            if images.is_empty() {
                continue;
            }
            // SAFETY: sums have room for all images, statistics for all micro-batches; threads have other channels.
            unsafe {
                let sums = self.in_batch(norm.sums).add(images.start * 2 * channels);
                let own = |slot| self.in_batch(slot).add(number * 2 * channels);
                let images = images.len();
                match does {
                    BatchNormPart::Statistics { momentum } => {
                        // A gradient that is asked for without a step leaves the statistics as they are.
                        let momentum = if self.moves_statistics { momentum } else { 0.0 };
                        let running = norm.params.map(|param| self.parameters.get().add(self.layout.start(param)));
                        let args = batch_norm::Statistics {
                            images,
                            pixels,
                            channels,
                            range,
                            sums,
                            stats: own(norm.stats),
                            running_mean: running[0],
                            running_variance: running[1],
                            momentum,
                        };
                        batch_norm::statistics(self.isa, &args);
                    }
                    BatchNormPart::Totals { totals } => {
                        let totals = own(totals);
                        let args = batch_norm::Totals { images, pixels, channels, range, sums, totals };
                        batch_norm::totals(self.isa, &args);
                    }
                    _ => unreachable!("a call of a chunk"),
                }
            }
        }
    }
}
