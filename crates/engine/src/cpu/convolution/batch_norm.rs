//! Batch norm in training. Sums are computed for each image, and a call for the whole batch adds them in image order,
//! so the bits depend on neither chunks nor threads.
//!
//! The statistics of a micro-batch are the means of all channels, then their variances (divided by n). Its totals in
//! the backward pass are the means of `dy` and of `dy` times the normalized input. Where statistics stay as they are,
//! there are no totals.

use crate::cpu::simd::{LANES, Simd, isa_kernel, load_up_to, store_up_to};

/// For each channel, the mean over one image's pixels and the sum of squared deviations from it.
pub(in crate::cpu) struct ImageSums {
    pub images: usize,
    pub pixels: usize,
    pub channels: usize,
    /// `[images, pixels, channels]`
    pub x: *const f32,
    /// `[images, 2, channels]`
    pub sums: *mut f32,
}

/// Statistics of one micro-batch, for a range of channels.
pub(in crate::cpu) struct Statistics {
    pub images: usize,
    pub pixels: usize,
    pub channels: usize,
    /// First channel and number of channels.
    pub range: [usize; 2],
    /// `[images, 2, channels]`
    pub sums: *const f32,
    /// `[2, channels]`
    pub stats: *mut f32,
    pub running_mean: *mut f32,
    pub running_variance: *mut f32,
    pub momentum: f32,
}

/// For each channel, the sums over an image's pixels of `dy` and of `dy` times the normalized input.
pub(in crate::cpu) struct ImageGradSums {
    pub images: usize,
    pub pixels: usize,
    pub channels: usize,
    pub eps: f32,
    pub dy: *const f32,
    pub x: *const f32,
    /// Mean and variance.
    pub stats: [*const f32; 2],
    /// `[images, 2, channels]`, or null.
    pub sums: *mut f32,
    pub dweight: *mut f32,
    pub dbias: *mut f32,
    /// Whether the gradients are added to existing ones; otherwise they overwrite them.
    pub continues: bool,
}

/// Totals of one micro-batch, for a range of channels.
pub(in crate::cpu) struct Totals {
    pub images: usize,
    pub pixels: usize,
    pub channels: usize,
    /// First channel and number of channels.
    pub range: [usize; 2],
    /// `[images, 2, channels]`
    pub sums: *const f32,
    /// `[2, channels]`
    pub totals: *mut f32,
}

/// `dx = (dy - totals[0] - normalized * totals[1]) * weight / sqrt(variance + eps)`, without totals if they are null
pub(in crate::cpu) struct InputGrad {
    pub rows: usize,
    pub channels: usize,
    pub eps: f32,
    pub dy: *const f32,
    pub x: *const f32,
    pub weight: *const f32,
    /// Mean and variance.
    pub stats: [*const f32; 2],
    pub totals: *const f32,
    /// May be `dy`.
    pub dx: *mut f32,
}

/// Calls `each` with the first channel and the number of channels of every vector of a range.
#[inline(always)]
fn for_each_vector([first, count]: [usize; 2], mut each: impl FnMut(usize, usize)) {
    for channel in (first..first + count).step_by(LANES) {
        each(channel, LANES.min(first + count - channel));
    }
}

/// Mean and 1 / sqrt(variance + eps) of up to 16 channels.
#[inline(always)]
unsafe fn normalizer<S: Simd>([mean, variance]: [*const f32; 2], eps: f32, channel: usize, n: usize) -> [S::V; 2] {
    unsafe {
        let variance = load_up_to::<S>(variance.add(channel), n);
        let inverse = S::div(S::splat(1.0), S::sqrt(S::add(variance, S::splat(eps))));
        [load_up_to::<S>(mean.add(channel), n), inverse]
    }
}

#[inline(always)]
unsafe fn image_sums_generic<S: Simd>(args: &ImageSums) {
    let &ImageSums { images, pixels, channels, .. } = args;
    unsafe {
        let share = S::splat(1.0 / pixels as f32);
        for image in 0..images {
            let (x, sums) = (args.x.add(image * pixels * channels), args.sums.add(image * 2 * channels));
            for_each_vector([0, channels], |channel, n| {
                let at = |pixel: usize| load_up_to::<S>(x.add(pixel * channels + channel), n);
                let mut sum = S::splat(0.0);
                for pixel in 0..pixels {
                    sum = S::add(sum, at(pixel));
                }
                let mean = S::mul(sum, share);
                let mut squares = S::splat(0.0);
                for pixel in 0..pixels {
                    let apart = S::sub(at(pixel), mean);
                    squares = S::mul_add(apart, apart, squares);
                }
                store_up_to::<S>(sums.add(channel), n, mean);
                store_up_to::<S>(sums.add(channels + channel), n, squares);
            });
        }
    }
}

#[inline(always)]
unsafe fn statistics_generic<S: Simd>(args: &Statistics) {
    let &Statistics { images, pixels, channels, .. } = args;
    unsafe {
        let count = (images * pixels) as f32;
        for_each_vector(args.range, |channel, n| {
            let of = |image: usize, which: usize| {
                load_up_to::<S>(args.sums.add((2 * image + which) * channels + channel), n)
            };
            let mut sum = S::splat(0.0);
            for image in 0..images {
                sum = S::add(sum, of(image, 0));
            }
            let mean = S::mul(sum, S::splat(1.0 / images as f32));
            // Squared deviations from the common mean: those from the image's own mean, plus, for each pixel, the
            // squared difference of the means.
            let mut squares = S::splat(0.0);
            for image in 0..images {
                let apart = S::sub(of(image, 0), mean);
                let between = S::mul(S::mul(apart, apart), S::splat(pixels as f32));
                squares = S::add(squares, S::add(of(image, 1), between));
            }
            store_up_to::<S>(args.stats.add(channel), n, mean);
            store_up_to::<S>(args.stats.add(channels + channel), n, S::mul(squares, S::splat(1.0 / count)));
            let unbiased = S::mul(squares, S::splat(1.0 / (count - 1.0).max(1.0)));
            for (running, now) in [(args.running_mean, mean), (args.running_variance, unbiased)] {
                let old = load_up_to::<S>(running.add(channel), n);
                let new = S::mul_add(S::splat(args.momentum), S::sub(now, old), old);
                store_up_to::<S>(running.add(channel), n, new);
            }
        });
    }
}

#[inline(always)]
unsafe fn image_grad_sums_generic<S: Simd>(args: &ImageGradSums) {
    let &ImageGradSums { images, pixels, channels, .. } = args;
    unsafe {
        for image in 0..images {
            let offset = image * pixels * channels;
            let (x, dy) = (args.x.add(offset), args.dy.add(offset));
            let sums = args.sums.wrapping_add(image * 2 * channels);
            for_each_vector([0, channels], |channel, n| {
                let [mean, inverse] = normalizer::<S>(args.stats, args.eps, channel, n);
                let (mut plain, mut along) = (S::splat(0.0), S::splat(0.0));
                for pixel in 0..pixels {
                    let at = pixel * channels + channel;
                    let dy = load_up_to::<S>(dy.add(at), n);
                    plain = S::add(plain, dy);
                    along = S::mul_add(dy, S::sub(load_up_to::<S>(x.add(at), n), mean), along);
                }
                let along = S::mul(along, inverse);
                let goes_on = args.continues || image > 0;
                for (which, (to, sum)) in [(args.dbias, plain), (args.dweight, along)].into_iter().enumerate() {
                    let old = if goes_on { load_up_to::<S>(to.add(channel), n) } else { S::splat(0.0) };
                    store_up_to::<S>(to.add(channel), n, S::add(old, sum));
                    if !args.sums.is_null() {
                        store_up_to::<S>(sums.add(which * channels + channel), n, sum);
                    }
                }
            });
        }
    }
}

#[inline(always)]
unsafe fn totals_generic<S: Simd>(args: &Totals) {
    let &Totals { images, pixels, channels, .. } = args;
    unsafe {
        let share = S::splat(1.0 / (images * pixels) as f32);
        for_each_vector(args.range, |channel, n| {
            for which in 0..2 {
                let mut sum = S::splat(0.0);
                for image in 0..images {
                    let at = (2 * image + which) * channels + channel;
                    sum = S::add(sum, load_up_to::<S>(args.sums.add(at), n));
                }
                store_up_to::<S>(args.totals.add(which * channels + channel), n, S::mul(sum, share));
            }
        });
    }
}

#[inline(always)]
unsafe fn input_grad_generic<S: Simd>(args: &InputGrad) {
    let &InputGrad { rows, channels, .. } = args;
    unsafe {
        for_each_vector([0, channels], |channel, n| {
            let [mean, inverse] = normalizer::<S>(args.stats, args.eps, channel, n);
            let total = |which: usize| match args.totals.is_null() {
                true => S::splat(0.0),
                false => load_up_to::<S>(args.totals.add(which * channels + channel), n),
            };
            let [plain, along] = [total(0), total(1)];
            let factor = S::mul(load_up_to::<S>(args.weight.add(channel), n), inverse);
            let slope = S::mul(along, inverse);
            for row in 0..rows {
                let at = row * channels + channel;
                let apart = S::sub(load_up_to::<S>(args.x.add(at), n), mean);
                let rest = S::sub(S::sub(load_up_to::<S>(args.dy.add(at), n), plain), S::mul(apart, slope));
                store_up_to::<S>(args.dx.add(at), n, S::mul(rest, factor));
            }
        });
    }
}

isa_kernel! {
    /// Sums each image's channels.
    image_sums, image_sums_generic, ImageSums
}
isa_kernel! {
    /// Combines the images' sums to statistics, and updates the running statistics.
    statistics, statistics_generic, Statistics
}
isa_kernel! {
    /// Sums each image's gradients, and adds them to those of weight and bias.
    image_grad_sums, image_grad_sums_generic, ImageGradSums
}
isa_kernel! {
    /// Combines the images' gradient sums.
    totals, totals_generic, Totals
}
isa_kernel! {
    /// Computes the gradient of the input.
    input_grad, input_grad_generic, InputGrad
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::convolution::{ChannelNorm, channel_norm};
    use crate::cpu::testing::{Guarded, check, numbers, wide};
    use crate::reference::norms;

    #[test]
    fn statistics_values_and_gradients_equal_the_reference() {
        let (eps, momentum) = (1e-2f32, 0.3f32);
        for (images, pixels, channels) in [(1, 1, 1), (3, 7, 5), (2, 13, 17), (7, 1, 33), (5, 6, 64)] {
            let rows = images * pixels;
            let (x, dy) = (numbers(1, rows * channels), numbers(2, rows * channels));
            let params = [3, 4, 5, 6].map(|seed| numbers(seed, channels));
            let [weight, bias, mean, variance] = params.each_ref().map(|param| wide(param));
            let before = numbers(7, channels);
            let eps64 = f64::from(eps);
            let [new_mean, new_variance] = norms::new_statistics(&wide(&x), [&mean, &variance], f64::from(momentum));
            let [dx, mut dweight, mut dbias] = norms::grads(&wide(&dy), &wide(&x), &weight, channels, eps64);
            let add = |sums: &mut Vec<f64>| sums.iter_mut().zip(&before).for_each(|(x, &more)| *x += f64::from(more));
            add(&mut dweight);
            add(&mut dbias);
            let y = norms::forward(&wide(&x), &weight, &bias, channels, eps64);
            let expected = [y, new_mean, new_variance, dx, dweight, dbias];
            check(format_args!("{images} x {pixels} x {channels}"), &expected, 1e-5, |isa| {
                let (x, dy) = (Guarded::new(&x), Guarded::new(&dy));
                let [weight, bias, mut mean, mut variance] = params.each_ref().map(|param| Guarded::new(param));
                let (mut y, mut dx) = (Guarded::unset(rows * channels), Guarded::unset(rows * channels));
                let (mut sums, mut stats) = (Guarded::unset(images * 2 * channels), Guarded::unset(2 * channels));
                let (mut grad_sums, mut all) = (Guarded::unset(images * 2 * channels), Guarded::unset(2 * channels));
                let [mut dweight, mut dbias] = [(); 2].map(|()| Guarded::new(&before));
                // Channels in two ranges, as with two threads.
                let first = channels.div_ceil(2 * LANES) * LANES;
                let ranges = [[0, first.min(channels)], [first.min(channels), channels.saturating_sub(first)]];
                unsafe {
                    let own = sums.pointer();
                    image_sums(isa, &ImageSums { images, pixels, channels, x: x.read(), sums: own });
                    for range in ranges {
                        let args = Statistics {
                            images,
                            pixels,
                            channels,
                            range,
                            sums: sums.read(),
                            stats: stats.pointer(),
                            running_mean: mean.pointer(),
                            running_variance: variance.pointer(),
                            momentum,
                        };
                        statistics(isa, &args);
                    }
                    let (mean, variance) = (stats.read(), stats.read().add(channels));
                    let params = [weight.read(), bias.read(), mean, variance];
                    let (x, out, relu) = (x.read(), y.pointer(), None);
                    channel_norm(isa, &ChannelNorm { rows, channels, eps, x, params, relu, out });
                    let args = ImageGradSums {
                        images,
                        pixels,
                        channels,
                        eps,
                        dy: dy.read(),
                        x,
                        stats: [mean, variance],
                        sums: grad_sums.pointer(),
                        dweight: dweight.pointer(),
                        dbias: dbias.pointer(),
                        continues: true,
                    };
                    image_grad_sums(isa, &args);
                    for range in ranges {
                        let (sums, totals_to) = (grad_sums.read(), all.pointer());
                        totals(isa, &Totals { images, pixels, channels, range, sums, totals: totals_to });
                    }
                    let (dy, weight, stats, totals) = (dy.read(), weight.read(), [mean, variance], all.read());
                    let dx = dx.pointer();
                    input_grad(isa, &InputGrad { rows, channels, eps, dy, x, weight, stats, totals, dx });
                }
                [&y, &mean, &variance, &dx, &dweight, &dbias].map(Guarded::values).to_vec()
            });
        }
    }

    #[test]
    fn gradients_with_given_statistics_equal_the_reference_also_in_place() {
        let eps = 1e-2f32;
        for (images, pixels, channels) in [(1, 1, 1), (3, 7, 5), (2, 13, 17), (5, 6, 64)] {
            let rows = images * pixels;
            let (x, dy) = (numbers(1, rows * channels), numbers(2, rows * channels));
            let mut params = [3, 4, 5].map(|seed| numbers(seed, channels));
            params[2].iter_mut().for_each(|variance| *variance = variance.abs());
            let exact = params.each_ref().map(|param| wide(param));
            let expected = norms::grads_with_statistics(
                &wide(&dy),
                &wide(&x),
                exact.each_ref().map(Vec::as_slice),
                f64::from(eps),
            );
            check(format_args!("{images} x {pixels} x {channels}"), &expected, 1e-5, |isa| {
                let (x, mut dx) = (Guarded::new(&x), Guarded::new(&dy));
                let [weight, mean, variance] = params.each_ref().map(|param| Guarded::new(param));
                let [mut dweight, mut dbias] = [(); 2].map(|()| Guarded::unset(channels));
                let stats = [mean.read(), variance.read()];
                let (x, dy, weight) = (x.read(), dx.read(), weight.read());
                let args = ImageGradSums {
                    images,
                    pixels,
                    channels,
                    eps,
                    dy,
                    x,
                    stats,
                    sums: std::ptr::null_mut(),
                    dweight: dweight.pointer(),
                    dbias: dbias.pointer(),
                    continues: false,
                };
                let (totals, to) = (std::ptr::null(), dx.pointer());
                unsafe {
                    image_grad_sums(isa, &args);
                    input_grad(isa, &InputGrad { rows, channels, eps, dy, x, weight, stats, totals, dx: to });
                }
                [&dx, &dweight, &dbias].map(Guarded::values).to_vec()
            });
        }
    }
}
