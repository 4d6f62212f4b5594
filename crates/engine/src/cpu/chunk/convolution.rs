//! The calls of convolutional networks.

use std::ptr::{null, null_mut};

use super::Chunk;
use crate::cpu::convolution::{self, ChannelNorm, MaxGrad, MeanGrad, ParamGrad};
use crate::cpu::linear;
use crate::cpu::program::Factor;
use crate::cpu::program::convolution::{ConvolutionCall, ConvolutionProduct, GroupNorm, Pooling};

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
                ConvolutionCall::ParamGrad { dy, x, geometry, weight, bias, sums, starts } => {
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
                        panels: [0, geometry.panels(self.isa)],
                        dy: self.at(dy),
                        x: self.at(x),
                        dweight: self.gradient(weight),
                        sums: self.at(sums),
                        continues: continues(starts),
                    };
                    convolution::param_grad(self.isa, &args);
                }
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
                ConvolutionCall::ChannelNorm { x, out, params, size: [rows, channels], eps, relu } => {
                    let params = params.map(|param| self.parameter(param));
                    let (rows, x, out) = (images * rows, self.at(x), self.at(out));
                    convolution::channel_norm(self.isa, &ChannelNorm { rows, channels, eps, x, params, relu, out });
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
            multiply: match product.factor {
                None => linear::Multiply::No,
                Some(Factor::By(slot)) => linear::Multiply::By(self.at(slot)),
                Some(Factor::WherePositive(slot, number)) => linear::Multiply::WherePositive(self.at(slot), number),
            },
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
