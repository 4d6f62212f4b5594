//! Lowers convolutional networks. A convolution is fused with its bias and with the ReLU or the sum that follows; the
//! gradient of its input with the ReLU's derivative and the sum that follow; the gradient of a max pool with the ReLU's
//! derivative only.

use super::super::convolution::{Geometry, room_len};
use super::super::program::convolution::{
    BatchNorm, BatchNormPart, ConvolutionCall, ConvolutionProduct, GroupNorm, Pooling,
};
use super::super::program::{Call, Factor, PackedWeight, Wide};
use super::{Derivative, Lowering, Mode};
use crate::graph::NodeId;
use crate::ops::{Activation, Convolution, Op, Pool, channels_and_pixels};

impl Lowering<'_> {
    /// Height, width and channels of a map.
    fn axes(&self, id: NodeId) -> [usize; 3] {
        let shape = &self.node(id).shape.0;
        [shape[0], shape[1], shape[2]]
    }

    fn geometry(&mut self, convolution: Convolution, map: [usize; 3], forward: bool) -> usize {
        let all = &mut self.program.geometries;
        let known = all.iter().position(|known| {
            let of = if known.forward { known.input } else { known.output };
            (known.convolution, of, known.forward) == (convolution, map, forward)
        });
        known.unwrap_or_else(|| {
            all.push(Geometry::new(convolution, map, forward));
            all.len() - 1
        })
    }

    fn emit_convolution(&mut self, call: ConvolutionCall, covers: &[NodeId]) {
        self.emit(Call::Convolution(call), covers);
    }

    pub(super) fn order(&mut self, id: NodeId) {
        let node = self.node(id);
        let [channels, pixels] = channels_and_pixels(self.graph, node);
        let last = node.op == Op::ChannelsLast;
        let (x, out) = (self.slot(id, 0), self.value_slot(id));
        self.emit_convolution(ConvolutionCall::Order { x, out, channels, len: channels * pixels, last }, &[id]);
    }

    /// A product with nothing fused, whose output slot is still to be chosen.
    fn convolution_product(&mut self, id: NodeId, convolution: Convolution, forward: bool) -> ConvolutionProduct {
        let map = if forward { self.axes(self.input(id, 0)) } else { self.axes(id) };
        let geometry = self.geometry(convolution, map, forward);
        let weight = PackedWeight {
            heads: 1,
            param: self.node(id).params[0].index(),
            out_features: convolution.out_channels,
            in_features: map[2],
            forward,
            geometry: Some(geometry),
        };
        let whole = self.wide[self.node(id).params[0].index()];
        let (x, weight, out) = (self.slot(id, 0), self.packed(weight), usize::MAX);
        ConvolutionProduct { x, geometry, weight, whole, bias: None, relu: false, factor: None, residual: None, out }
    }

    pub(super) fn conv2d(&mut self, id: NodeId, convolution: Convolution) {
        let mut product = self.convolution_product(id, convolution, true);
        product.bias = self.node(id).params.get(1).map(|bias| bias.index());
        let mut covers = vec![id];
        if let Some((activated, Activation::Relu)) = self.following_activation(id) {
            covers.push(activated);
            product.relu = true;
        } else if let Some((sum, residual)) = self.following_sum(id) {
            covers.push(sum);
            product.residual = Some(residual);
        }
        product.out = self.value_slot(*covers.last().expect("the layer itself"));
        if product.relu && self.derivative_is_asked_for(id) {
            let factor = Factor::WherePositive(product.out, 1.0);
            self.derivatives.insert(id, Derivative { factor, includes_dropout: false });
        }
        self.emit_convolution(ConvolutionCall::Product(product), &covers);
    }

    pub(super) fn conv2d_input_grad(&mut self, id: NodeId, convolution: Convolution) {
        let mut product = self.convolution_product(id, convolution, false);
        let mut covers = vec![id];
        if let Some((next, derivative)) = self.following_derivative(id) {
            covers.push(next);
            product.factor = Some(derivative.factor);
        }
        if let Some((sum, residual)) = self.following_sum(*covers.last().expect("the gradient itself")) {
            covers.push(sum);
            product.residual = Some(residual);
        }
        product.out = self.value_slot(*covers.last().expect("the gradient itself"));
        self.emit_convolution(ConvolutionCall::Product(product), &covers);
    }

    pub(super) fn conv2d_param_grad(&mut self, id: NodeId, convolution: Convolution) {
        let params: Vec<usize> = self.node(id).params.iter().map(|param| param.index()).collect();
        let map = self.axes(self.input(id, 1));
        let geometry = self.geometry(convolution, map, true);
        let (dy, x) = (self.slot(id, 0), self.slot(id, 1));
        let len = room_len(&self.program.geometries[geometry], convolution.out_channels);
        let room = self.new_slot(0, len);
        let starts = self.starts(id, &params, true);
        let (weight, bias) = (params[0], params.get(1).copied());
        self.emit_convolution(ConvolutionCall::ParamGrad { dy, x, geometry, weight, bias, room, starts }, &[id]);
    }

    /// The gradients of weight and bias, as late calls at the program's end.
    pub(super) fn wide_conv2d_param_grad(&mut self, id: NodeId, convolution: Convolution) {
        let node = self.node(id);
        let map = self.axes(self.input(id, 1));
        let geometry = self.geometry(convolution, map, true);
        let (dy, x, weight) = (self.slot(id, 0), self.slot(id, 1), node.params[0].index());
        let size = [convolution.out_channels, self.program.geometries[geometry].steps()];
        let call = ConvolutionCall::LateGrad { dy, x, geometry, weight, size };
        self.late.push((id, Call::Convolution(call)));
        if let Some(bias) = node.params.get(1) {
            let (rows, len) = (self.node(self.input(id, 0)).shape.rows(), convolution.out_channels);
            self.late.push((id, Call::Wide(Wide::BiasGrad { dy, bias: bias.index(), rows, len })));
        }
    }

    pub(super) fn pool(&mut self, id: NodeId, pool: Pool) {
        let (input, output) = (self.axes(self.input(id, 0)), self.axes(id));
        let pooling = Pooling { pool, input, output, x: self.slot(id, 0), out: self.value_slot(id) };
        let largest = matches!(self.node(id).op, Op::MaxPool2d(_));
        let call = if largest { ConvolutionCall::MaxPool(pooling) } else { ConvolutionCall::AvgPool(pooling) };
        self.emit_convolution(call, &[id]);
    }

    pub(super) fn max_pool_grad(&mut self, id: NodeId, pool: Pool) {
        let (input, output) = (self.axes(id), self.axes(self.input(id, 0)));
        let (dy, x) = (self.slot(id, 0), self.slot(id, 1));
        let (mut covers, mut where_positive) = (vec![id], None);
        // The sign of the maximum gives the ReLU's derivative only if the ReLU's result was pooled.
        if let Some((next, Derivative { factor: Factor::WherePositive(of, number), .. })) =
            self.following_derivative(id)
            && of == x
        {
            covers.push(next);
            where_positive = Some(number);
        }
        let out = self.value_slot(*covers.last().expect("the gradient itself"));
        let pooling = Pooling { pool, input, output, x, out };
        self.emit_convolution(ConvolutionCall::MaxPoolGrad { pooling, dy, where_positive }, &covers);
    }

    pub(super) fn avg_pool_grad(&mut self, id: NodeId, pool: Pool) {
        let (input, output) = (self.axes(id), self.axes(self.input(id, 0)));
        let pooling = Pooling { pool, input, output, x: self.slot(id, 0), out: self.value_slot(id) };
        self.emit_convolution(ConvolutionCall::AvgPoolGrad(pooling), &[id]);
    }

    fn group_norm_call(&mut self, id: NodeId, x: usize, groups: usize, eps: f32) -> GroupNorm {
        let node = self.node(id);
        let params = [node.params[0].index(), node.params[1].index()];
        let size = [node.shape.rows(), node.shape.features()];
        let scratch = self.new_slot(0, 4 * size[1]);
        GroupNorm { x, out: None, params, size, groups, eps, scratch }
    }

    pub(super) fn group_norm(&mut self, id: NodeId, groups: usize, eps: f32) {
        let mut norm = self.group_norm_call(id, self.slot(id, 0), groups, eps);
        norm.out = Some(self.value_slot(id));
        self.emit_convolution(ConvolutionCall::GroupNorm(norm), &[id]);
    }

    pub(super) fn group_norm_grad(&mut self, id: NodeId, groups: usize, eps: f32) {
        let dy = self.slot(id, 0);
        let mut norm = self.group_norm_call(id, self.slot(id, 1), groups, eps);
        let starts = self.starts(id, &norm.params, true);
        if !self.uses[id.index()].is_empty() {
            norm.out = Some(self.value_slot(id));
        }
        self.emit_convolution(ConvolutionCall::GroupNormGrad { norm, dy, starts }, &[id]);
    }

    pub(super) fn batch_norm(&mut self, id: NodeId, eps: f32, momentum: Option<f32>) {
        let node = self.node(id);
        let (x, params) = (self.slot(id, 0), [0, 1, 2, 3].map(|i| node.params[i].index()));
        let size = [node.shape.rows(), node.shape.features()];
        let mut stats = None;
        if let (Mode::Train, Some(momentum)) = (self.mode, momentum) {
            let own = self.new_slot(0, 2 * size[1]);
            self.batch_stats.insert(self.input(id, 0), own);
            let sums = self.new_slot(2 * size[1], 0);
            let norm = BatchNorm { x, params: [params[2], params[3]], size, eps, sums, stats: own };
            self.emit_before(id, ConvolutionCall::BatchNorm { norm, does: BatchNormPart::ImageSums });
            let does = BatchNormPart::Statistics { momentum };
            self.emit_before(id, ConvolutionCall::BatchNorm { norm, does });
            stats = Some(BatchNorm { params: [params[0], params[1]], ..norm });
        }
        let (covers, out, activation) = self.norm_with(id, &[Activation::Relu, Activation::Relu6]);
        let relu = activation.map(|activation| if activation == Activation::Relu { f32::INFINITY } else { 6.0 });
        let call = match stats {
            Some(norm) => ConvolutionCall::BatchNorm { norm, does: BatchNormPart::Value { out, relu } },
            None => ConvolutionCall::ChannelNorm { x, out, params, size, eps, relu },
        };
        self.emit_convolution(call, &covers);
    }

    pub(super) fn batch_norm_grad(&mut self, id: NodeId, eps: f32) {
        let node = self.node(id);
        let params = [node.params[0].index(), node.params[1].index()];
        let size = [node.shape.rows(), node.shape.features()];
        let (dy, x) = (self.slot(id, 0), self.slot(id, 1));
        let sums = self.new_slot(2 * size[1], 0);
        let norm = BatchNorm { x, params, size, eps, sums, stats: self.batch_stats[&self.input(id, 1)] };
        let starts = self.starts(id, &params, true);
        let does = BatchNormPart::ImageGradSums { dy, starts };
        if self.uses[id.index()].is_empty() {
            return self.emit_convolution(ConvolutionCall::BatchNorm { norm, does }, &[id]);
        }
        self.emit_before(id, ConvolutionCall::BatchNorm { norm, does });
        let totals = self.new_slot(0, 2 * size[1]);
        self.emit_before(id, ConvolutionCall::BatchNorm { norm, does: BatchNormPart::Totals { totals } });
        let out = self.value_slot(id);
        let does = BatchNormPart::InputGrad { dy, totals, out };
        self.emit_convolution(ConvolutionCall::BatchNorm { norm, does }, &[id]);
    }

    pub(super) fn channel_norm_grad(&mut self, id: NodeId, eps: f32) {
        let node = self.node(id);
        let params = [0, 1, 2, 3].map(|i| node.params[i].index());
        let size = [node.shape.rows(), node.shape.features()];
        let (dy, x) = (self.slot(id, 0), self.slot(id, 1));
        let starts = self.starts(id, &params[..2], true);
        let asked = !self.uses[id.index()].is_empty();
        let out = asked.then(|| self.value_slot(id));
        self.emit_convolution(ConvolutionCall::ChannelNormGrad { dy, x, out, params, size, eps, starts }, &[id]);
    }

    /// Emits a call that must run before the call that computes the node.
    fn emit_before(&mut self, id: NodeId, call: ConvolutionCall) {
        self.emit_convolution(call, &[]);
        self.program.covers.last_mut().expect("the call's").push(id);
    }
}
