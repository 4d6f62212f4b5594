//! Norms over pixels: group norm and its gradient, and batch norm with given statistics.
//!
//! Each channel is summed in pixel order, 16 channels at a time; then a group's channels are added in order. Sums for
//! the parameters are computed image by image, so they do not depend on chunks.

use crate::cpu::simd::{LANES, Simd, isa_kernel, load_up_to, store_up_to};

/// Group norm of some images.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct GroupNorm {
    pub images: usize,
    pub pixels: usize,
    pub channels: usize,
    pub groups: usize,
    pub eps: f32,
    pub x: *const f32,
    pub weight: *const f32,
    pub bias: *const f32,
    /// The result; may be `x`.
    pub out: *mut f32,
    /// Scratch memory: four numbers for each channel.
    pub scratch: *mut f32,
}

/// The gradient of a group norm: the input's gradient is written to the norm's `out`, which may be `dy`.
pub(in crate::cpu) struct GroupNormGrad {
    pub norm: GroupNorm,
    pub dy: *const f32,
    pub dweight: *mut f32,
    pub dbias: *mut f32,
    pub continues: bool,
}

/// `out = (x - mean) / sqrt(variance + eps) * weight + bias` for each channel, with an optional ReLU or ReLU6.
pub(in crate::cpu) struct ChannelNorm {
    pub rows: usize,
    pub channels: usize,
    pub eps: f32,
    pub x: *const f32,
    /// Weight, bias, mean and variance.
    pub params: [*const f32; 4],
    /// Upper limit of the ReLU that follows; infinite for one without.
    pub relu: Option<f32>,
    /// The result; may be `x`.
    pub out: *mut f32,
}

/// Calls `each` with the first channel and the number of channels of every vector.
#[inline(always)]
fn for_each_vector(channels: usize, mut each: impl FnMut(usize, usize)) {
    let mut channel = 0;
    while channel < channels {
        each(channel, LANES.min(channels - channel));
        channel += LANES;
    }
}

/// Replaces each channel's value by the sum over its group's channels, divided by `count`.
unsafe fn share_in_groups(values: *mut f32, channels: usize, groups: usize, count: f32) {
    // SAFETY: the caller's scratch has a number for each channel.
    let values = unsafe { std::slice::from_raw_parts_mut(values, channels) };
    for group in values.chunks_exact_mut(channels / groups) {
        let mean = group.iter().sum::<f32>() / count;
        group.fill(mean);
    }
}

/// Writes each channel's group mean and 1 / sqrt(variance + eps) to the scratch memory.
#[inline(always)]
unsafe fn statistics<S: Simd>(norm: &GroupNorm, x: *const f32) -> [*mut f32; 2] {
    let GroupNorm { pixels, channels, groups, .. } = *norm;
    let count = (pixels * (channels / groups)) as f32;
    unsafe {
        let (mean, inverse) = (norm.scratch, norm.scratch.add(channels));
        for_each_vector(channels, |channel, n| {
            let mut sum = S::splat(0.0);
            for pixel in 0..pixels {
                sum = S::add(sum, load_up_to::<S>(x.add(pixel * channels + channel), n));
            }
            store_up_to::<S>(mean.add(channel), n, sum);
        });
        share_in_groups(mean, channels, groups, count);
        for_each_vector(channels, |channel, n| {
            let (mean, mut sum) = (load_up_to::<S>(mean.add(channel), n), S::splat(0.0));
            for pixel in 0..pixels {
                let apart = S::sub(load_up_to::<S>(x.add(pixel * channels + channel), n), mean);
                sum = S::mul_add(apart, apart, sum);
            }
            store_up_to::<S>(inverse.add(channel), n, sum);
        });
        share_in_groups(inverse, channels, groups, count);
        for_each_vector(channels, |channel, n| {
            let variance = load_up_to::<S>(inverse.add(channel), n);
            let root = S::sqrt(S::add(variance, S::splat(norm.eps)));
            store_up_to::<S>(inverse.add(channel), n, S::div(S::splat(1.0), root));
        });
        [mean, inverse]
    }
}

#[inline(always)]
unsafe fn group_norm_generic<S: Simd>(norm: &GroupNorm) {
    let GroupNorm { images, pixels, channels, .. } = *norm;
    unsafe {
        for image in 0..images {
            let (x, out) = (norm.x.add(image * pixels * channels), norm.out.add(image * pixels * channels));
            let [mean, inverse] = statistics::<S>(norm, x);
            for_each_vector(channels, |channel, n| {
                let mean = load_up_to::<S>(mean.add(channel), n);
                let factor =
                    S::mul(load_up_to::<S>(inverse.add(channel), n), load_up_to::<S>(norm.weight.add(channel), n));
                let bias = load_up_to::<S>(norm.bias.add(channel), n);
                for pixel in 0..pixels {
                    let at = pixel * channels + channel;
                    let apart = S::sub(load_up_to::<S>(x.add(at), n), mean);
                    store_up_to::<S>(out.add(at), n, S::mul_add(apart, factor, bias));
                }
            });
        }
    }
}

#[inline(always)]
unsafe fn group_norm_grad_generic<S: Simd>(args: &GroupNormGrad) {
    let norm = &args.norm;
    let GroupNorm { images, pixels, channels, groups, .. } = *norm;
    let count = (pixels * (channels / groups)) as f32;
    unsafe {
        let (g_mean, slope) = (norm.scratch.add(2 * channels), norm.scratch.add(3 * channels));
        for image in 0..images {
            let offset = image * pixels * channels;
            let (x, dy) = (norm.x.add(offset), args.dy.add(offset));
            let [mean, inverse] = statistics::<S>(norm, x);
            for_each_vector(channels, |channel, n| {
                let at = |values: *const f32| load_up_to::<S>(values.add(channel), n);
                let (mean, inverse, weight) = (at(mean), at(inverse), at(norm.weight));
                let (mut bias_sum, mut weight_sum) = (S::splat(0.0), S::splat(0.0));
                for pixel in 0..pixels {
                    let at = pixel * channels + channel;
                    let dy = load_up_to::<S>(dy.add(at), n);
                    let normalized = S::mul(S::sub(load_up_to::<S>(x.add(at), n), mean), inverse);
                    bias_sum = S::add(bias_sum, dy);
                    weight_sum = S::mul_add(dy, normalized, weight_sum);
                }
                let goes_on = args.continues || image > 0;
                for (to, sum) in [(args.dbias, bias_sum), (args.dweight, weight_sum)] {
                    let old = if goes_on { at(to) } else { S::splat(0.0) };
                    store_up_to::<S>(to.add(channel), n, S::add(old, sum));
                }
                store_up_to::<S>(g_mean.add(channel), n, S::mul(bias_sum, weight));
                store_up_to::<S>(slope.add(channel), n, S::mul(weight_sum, weight));
            });
            if norm.out.is_null() {
                continue;
            }
            share_in_groups(g_mean, channels, groups, count);
            share_in_groups(slope, channels, groups, count);
            let out = norm.out.add(offset);
            for_each_vector(channels, |channel, n| {
                let at = |values: *const f32| load_up_to::<S>(values.add(channel), n);
                let (mean, inverse, weight) = (at(mean), at(inverse), at(norm.weight));
                let (g_mean, slope) = (at(g_mean), at(slope));
                for pixel in 0..pixels {
                    let at = pixel * channels + channel;
                    let g = S::mul(load_up_to::<S>(dy.add(at), n), weight);
                    let normalized = S::mul(S::sub(load_up_to::<S>(x.add(at), n), mean), inverse);
                    let apart = S::sub(S::sub(g, g_mean), S::mul(normalized, slope));
                    store_up_to::<S>(out.add(at), n, S::mul(apart, inverse));
                }
            });
        }
    }
}

#[inline(always)]
unsafe fn channel_norm_generic<S: Simd>(args: &ChannelNorm) {
    unsafe {
        for_each_vector(args.channels, |channel, n| {
            let [weight, bias, mean, variance] = args.params.map(|param| load_up_to::<S>(param.add(channel), n));
            let factor = S::div(weight, S::sqrt(S::add(variance, S::splat(args.eps))));
            for row in 0..args.rows {
                let at = row * args.channels + channel;
                let mut y = S::mul_add(S::sub(load_up_to::<S>(args.x.add(at), n), mean), factor, bias);
                if let Some(most) = args.relu {
                    // The constants come first, so that NaN stays NaN.
                    y = S::min(S::splat(most), S::max(S::splat(0.0), y));
                }
                store_up_to::<S>(args.out.add(at), n, y);
            }
        });
    }
}

isa_kernel! {
    /// Normalizes groups of channels.
    group_norm, group_norm_generic, GroupNorm
}
isa_kernel! {
    /// The gradients of a group norm's input and parameters.
    group_norm_grad, group_norm_grad_generic, GroupNormGrad
}
isa_kernel! {
    /// Normalizes channels by given statistics.
    channel_norm, channel_norm_generic, ChannelNorm
}
