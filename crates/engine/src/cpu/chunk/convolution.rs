//! The calls of convolutional networks.

use std::ptr::{null, null_mut};

use std::ops::Range;

use super::Chunk;
use crate::cpu::convolution::{self, ChannelNorm, MaxGrad, MeanGrad, ParamGrad, batch_norm};
use crate::cpu::linear;
use crate::cpu::program::Slot;
use crate::cpu::program::convolution::{
    BatchNorm, BatchNormPart, ConvolutionCall, ConvolutionProduct, GroupNorm, Pooling,
};
use crate::cpu::split::share;

impl Chunk<'_> {
    pub(super) unsafe fn convolution_call(&self, call: &ConvolutionCall) {
        let images = self.images;
        let continues = |starts: bool| self.continues || !starts;
        unsafe {
            match *call {
                ConvolutionCall::Order { x, out, channels, len, last } => {
                    let pairs = self.read(x, len).chunks_exact(len).zip(self.write(out, len).chunks_exact_mut(len));
                    for (x, out) in pairs {
                        if last {
                            convolution::channels_last(x, channels, out);
                        } else {
                            convolution::channels_first(x, channels, out);
                        }
                    }
                }
                ConvolutionCall::Product(ref product) => self.convolution_product(product),
                ConvolutionCall::ParamGrad { dy, x, geometry, weight, bias, room, starts } => {
                    let geometry = &self.compiled.program.geometries[geometry];
                    if let Some(bias) = bias {
                        let [height, width, channels] = geometry.output;
                        let args = linear::ParamGrad {
                            rows: images * height * width,
                            out_features: channels,
                            in_features: 0,
                            dy: self.at(dy),
                            x: null(),
                            dweight: null_mut(),
                            dbias: self.gradient(bias),
                            continues: continues(starts),
                        };
                        linear::param_grad(self.isa, &args);
                    }
                    let args = ParamGrad {
                        images,
                        geometry,
                        channels: [0, geometry.output[2]],
                        dy: self.at(dy),
                        x: self.at(x),
                        dweight: self.gradient(weight),
                        room: self.at(room),
                        continues: continues(starts),
                    };
                    convolution::param_grad(self.isa, &args);
                }
                ConvolutionCall::LateGrad { .. } => unreachable!("a late call is in no chunk"),
                ConvolutionCall::MaxPool(pooling) => convolution::max(self.isa, &self.pooling(pooling)),
                ConvolutionCall::MaxPoolGrad { pooling, dy, where_positive } => {
                    let args = MaxGrad { sizes: self.pooling(pooling), dy: self.at(dy), where_positive };
                    convolution::max_grad(self.isa, &args);
                }
                ConvolutionCall::AvgPool(pooling) => convolution::mean(self.isa, &self.pooling(pooling)),
                ConvolutionCall::AvgPoolGrad(pooling) => {
                    convolution::mean_grad(self.isa, &MeanGrad { sizes: self.pooling(pooling) });
                }
                ConvolutionCall::GroupNorm(norm) => convolution::group_norm(self.isa, &self.group_norm(norm)),
                ConvolutionCall::GroupNormGrad { norm, dy, starts } => {
                    let [dweight, dbias] = norm.params.map(|param| self.gradient(param));
                    let (norm, continues) = (self.group_norm(norm), continues(starts));
                    let args = convolution::GroupNormGrad { norm, dy: self.at(dy), dweight, dbias, continues };
                    convolution::group_norm_grad(self.isa, &args);
                }
                ConvolutionCall::BatchNorm { norm, does } => self.batch_norm(norm, does),
                ConvolutionCall::ChannelNorm { x, out, params, size: [rows, channels], eps, relu } => {
                    let params = params.map(|param| self.parameter(param));
                    let (rows, x, out) = (images * rows, self.at(x), self.at(out));
                    convolution::channel_norm(self.isa, &ChannelNorm { rows, channels, eps, x, params, relu, out });
                }
                ConvolutionCall::ChannelNormGrad { dy, x, out, params, size: [pixels, channels], eps, starts } => {
                    let (dy, x) = (self.at(dy), self.at(x));
                    let stats = [params[2], params[3]].map(|param| self.parameter(param));
                    let args = batch_norm::ImageGradSums {
                        images,
                        pixels,
                        channels,
                        eps,
                        dy,
                        x,
                        stats,
                        sums: null_mut(),
                        dweight: self.gradient(params[0]),
                        dbias: self.gradient(params[1]),
                        continues: continues(starts),
                    };
                    batch_norm::image_grad_sums(self.isa, &args);
                    if let Some(out) = out {
                        let (rows, weight, totals) = (images * pixels, self.parameter(params[0]), null());
                        let dx = self.at(out);
                        let args = batch_norm::InputGrad { rows, channels, eps, dy, x, weight, stats, totals, dx };
                        batch_norm::input_grad(self.isa, &args);
                    }
                }
            }
        }
    }

    /// The images of the chunk that belong to one micro-batch after the other, with the micro-batch's number.
    fn micro_batches(&self) -> impl Iterator<Item = (usize, Range<usize>)> {
        let ([images, count], own) = (self.cut, self.first..self.first + self.images);
        (0..count).filter_map(move |number| {
            let all = share(images, count, number);
            let range = all.start.max(own.start)..all.end.min(own.end);
            (!range.is_empty()).then(|| (number, range.start - own.start..range.end - own.start))
        })
    }

    unsafe fn batch_norm(&self, norm: BatchNorm, does: BatchNormPart) {
        let BatchNorm { x, params, size: [pixels, channels], eps, sums, stats } = norm;
        for (number, images) in self.micro_batches() {
            let (offset, rows) = (images.start * pixels * channels, images.len() * pixels);
            // SAFETY: values have room for all images, statistics for all micro-batches.
            unsafe {
                let value = |slot: Slot| self.at(slot).add(offset);
                let own = |slot: Slot| self.at(slot).add(number * 2 * channels);
                let sums = self.at(sums).add(images.start * 2 * channels);
                let x = value(x);
                match does {
                    BatchNormPart::ImageSums => {
                        let args = batch_norm::ImageSums { images: images.len(), pixels, channels, x, sums };
                        batch_norm::image_sums(self.isa, &args);
                    }
                    BatchNormPart::Value { out, relu } => {
                        let [weight, bias] = params.map(|param| self.parameter(param));
                        let params = [weight, bias, own(stats), own(stats).add(channels)];
                        let args = ChannelNorm { rows, channels, eps, x, params, relu, out: value(out) };
                        convolution::channel_norm(self.isa, &args);
                    }
                    BatchNormPart::ImageGradSums { dy, starts } => {
                        let args = batch_norm::ImageGradSums {
                            images: images.len(),
                            pixels,
                            channels,
                            eps,
                            dy: value(dy),
                            x,
                            stats: [own(stats), own(stats).add(channels)],
                            sums,
                            dweight: self.gradient(params[0]),
                            dbias: self.gradient(params[1]),
                            continues: self.continues || !starts || images.start > 0,
                        };
                        batch_norm::image_grad_sums(self.isa, &args);
                    }
                    BatchNormPart::InputGrad { dy, totals, out } => {
                        let (weight, totals) = (self.parameter(params[0]), own(totals));
                        let stats = [own(stats).cast_const(), own(stats).add(channels)];
                        let (dy, dx) = (value(dy), value(out));
                        let args = batch_norm::InputGrad { rows, channels, eps, dy, x, weight, stats, totals, dx };
                        batch_norm::input_grad(self.isa, &args);
                    }
                    BatchNormPart::Statistics { .. } | BatchNormPart::Totals { .. } => {
                        unreachable!("a call for the whole batch is in no chunk")
                    }
                }
            }
        }
    }

    unsafe fn convolution_product(&self, product: &ConvolutionProduct) {
        let geometry = &self.compiled.program.geometries[product.geometry];
        let args = convolution::Product {
            images: self.images,
            geometry,
            panels: [0, geometry.panels(self.isa)],
            x: self.at(product.x),
            // SAFETY: the offsets lie inside the packed weights.
            packed: unsafe { self.packed.add(self.compiled.packed_offsets[product.weight]) },
            bias: product.bias.map_or(null(), |bias| self.parameter(bias)),
            relu: product.relu,
            multiply: self.multiply(product.factor),
            residual: self.at_any(product.residual),
            out: self.at(product.out),
        };
        unsafe { convolution::product(self.isa, &args) };
    }

    fn pooling(&self, pooling: Pooling) -> convolution::Pooling {
        let Pooling { pool, input, output, x, out } = pooling;
        convolution::Pooling { pool, images: self.images, input, output, x: self.at(x), out: self.at(out) }
    }

    fn group_norm(&self, norm: GroupNorm) -> convolution::GroupNorm {
        convolution::GroupNorm {
            images: self.images,
            pixels: norm.size[0],
            channels: norm.size[1],
            groups: norm.groups,
            eps: norm.eps,
            x: self.at(norm.x),
            weight: self.parameter(norm.params[0]),
            bias: self.parameter(norm.params[1]),
            out: self.at_any(norm.out),
            scratch: self.at(norm.scratch),
        }
    }
}
