//! Pooling of maps and its gradients, 16 channels at a time.

use crate::cpu::simd::{LANES, Simd, isa_kernel, load_up_to, store_up_to};
use crate::ops::Pool;

/// Maps of some images and the windows on them.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Pooling {
    pub pool: Pool,
    pub images: usize,
    /// Height, width and channels of the map.
    pub input: [usize; 3],
    /// Height, width and channels of the pooled map.
    pub output: [usize; 3],
    pub x: *const f32,
    pub out: *mut f32,
}

/// The gradient of max pooling.
pub(in crate::cpu) struct MaxGrad {
    /// `x` is the map that was pooled, `out` its gradient.
    pub sizes: Pooling,
    /// The gradient of the pooled map.
    pub dy: *const f32,
    /// The gradient is multiplied by this number if the maximum is positive, and by 0 otherwise.
    pub where_positive: Option<f32>,
}

/// The gradient of average pooling; `x` is the pooled map's gradient, `out` the map's.
pub(in crate::cpu) struct MeanGrad {
    pub sizes: Pooling,
}

/// One window: its rows and columns inside the map.
#[derive(Clone, Copy)]
struct Window {
    rows: [usize; 2],
    columns: [usize; 2],
    /// First value of the pixel in the pooled maps.
    to: usize,
    /// First value of the image's map.
    image: usize,
}

/// Calls `each` for every window of every image.
#[inline(always)]
fn for_each_window(sizes: &Pooling, mut each: impl FnMut(Window)) {
    let Pool { kernel, stride, padding } = sizes.pool;
    let ([height, width, channels], [out_height, out_width, _]) = (sizes.input, sizes.output);
    let inside = |at: usize, len: usize| {
        let first = at * stride;
        [first.saturating_sub(padding), (first + kernel).saturating_sub(padding).min(len)]
    };
    for image in 0..sizes.images {
        for y in 0..out_height {
            for x in 0..out_width {
                let to = ((image * out_height + y) * out_width + x) * channels;
                let image = image * height * width * channels;
                each(Window { rows: inside(y, height), columns: inside(x, width), to, image });
            }
        }
    }
}

impl Window {
    /// Calls `each` for every pixel with its number and the offset of its first value.
    #[inline(always)]
    fn for_each_pixel(&self, input: [usize; 3], mut each: impl FnMut(usize, usize)) {
        let mut number = 0;
        for row in self.rows[0]..self.rows[1] {
            for column in self.columns[0]..self.columns[1] {
                each(number, self.image + (row * input[1] + column) * input[2]);
                number += 1;
            }
        }
    }
}

#[inline(always)]
unsafe fn max_generic<S: Simd>(args: &Pooling) {
    for_each_window(args, |window| {
        let mut channel = 0;
        while channel < args.input[2] {
            let n = args.input[2] - channel;
            unsafe {
                let mut largest = S::splat(f32::NEG_INFINITY);
                window.for_each_pixel(args.input, |_, at| {
                    let x = load_up_to::<S>(args.x.add(at + channel), n);
                    // If neither is greater, they are equal or one is NaN, which must be kept.
                    let mean = S::mul(S::splat(0.5), S::add(x, largest));
                    let other = S::select(S::greater(largest, x), largest, mean);
                    largest = S::select(S::greater(x, largest), x, other);
                });
                store_up_to::<S>(args.out.add(window.to + channel), n, largest);
            }
            channel += LANES;
        }
    });
}

#[inline(always)]
unsafe fn mean_generic<S: Simd>(args: &Pooling) {
    let share = 1.0 / args.pool.window() as f32;
    for_each_window(args, |window| {
        let mut channel = 0;
        while channel < args.input[2] {
            let n = args.input[2] - channel;
            unsafe {
                let mut sum = S::splat(0.0);
                window.for_each_pixel(args.input, |_, at| {
                    sum = S::add(sum, load_up_to::<S>(args.x.add(at + channel), n));
                });
                store_up_to::<S>(args.out.add(window.to + channel), n, S::mul(sum, S::splat(share)));
            }
            channel += LANES;
        }
    });
}

/// Whether each value of the map lies in exactly one window.
fn windows_tile_the_map(sizes: &Pooling) -> bool {
    let Pool { kernel, stride, padding } = sizes.pool;
    let whole = |axis: usize| sizes.output[axis] * kernel == sizes.input[axis];
    kernel == stride && padding == 0 && whole(0) && whole(1)
}

/// Clears a gradient that windows do not write exactly once: some values are in no window, or in several.
#[inline(always)]
unsafe fn clear<S: Simd>(sizes: &Pooling) {
    let len = sizes.images * sizes.input.iter().product::<usize>();
    let mut at = 0;
    while at < len {
        unsafe { store_up_to::<S>(sizes.out.add(at), len - at, S::splat(0.0)) };
        at += LANES;
    }
}

#[inline(always)]
unsafe fn max_grad_generic<S: Simd>(args: &MaxGrad) {
    let sizes = &args.sizes;
    let tiled = windows_tile_the_map(sizes);
    unsafe {
        if !tiled {
            clear::<S>(sizes);
        }
        let zero = S::splat(0.0);
        for_each_window(sizes, |window| {
            let mut channel = 0;
            while channel < sizes.input[2] {
                let n = sizes.input[2] - channel;
                // In each lane, the number of the first pixel with the largest value.
                let (mut largest, mut first) = (S::splat(f32::NEG_INFINITY), zero);
                window.for_each_pixel(sizes.input, |number, at| {
                    let x = load_up_to::<S>(sizes.x.add(at + channel), n);
                    let greater = S::greater(x, largest);
                    first = S::select(greater, S::splat(number as f32), first);
                    largest = S::select(greater, x, largest);
                });
                let mut dy = load_up_to::<S>(args.dy.add(window.to + channel), n);
                if let Some(number) = args.where_positive {
                    dy = S::select(S::greater(largest, zero), S::mul(dy, S::splat(number)), zero);
                }
                window.for_each_pixel(sizes.input, |number, at| {
                    let above = S::greater(first, S::splat(number as f32 - 0.5));
                    let below = S::greater(S::splat(number as f32 + 0.5), first);
                    let mut dx = S::select(above, S::select(below, dy, zero), zero);
                    let to = sizes.out.add(at + channel);
                    if !tiled {
                        dx = S::add(load_up_to::<S>(to, n), dx);
                    }
                    store_up_to::<S>(to, n, dx);
                });
                channel += LANES;
            }
        });
    }
}

#[inline(always)]
unsafe fn mean_grad_generic<S: Simd>(args: &MeanGrad) {
    let sizes = &args.sizes;
    let share = 1.0 / sizes.pool.window() as f32;
    let tiled = windows_tile_the_map(sizes);
    unsafe {
        if !tiled {
            clear::<S>(sizes);
        }
        for_each_window(sizes, |window| {
            let mut channel = 0;
            while channel < sizes.input[2] {
                let n = sizes.input[2] - channel;
                let dy = S::mul(load_up_to::<S>(sizes.x.add(window.to + channel), n), S::splat(share));
                window.for_each_pixel(sizes.input, |_, at| {
                    let to = sizes.out.add(at + channel);
                    let dx = if tiled { dy } else { S::add(load_up_to::<S>(to, n), dy) };
                    store_up_to::<S>(to, n, dx);
                });
                channel += LANES;
            }
        });
    }
}

isa_kernel! {
    /// Computes the maximum of each window.
    max, max_generic, Pooling
}
isa_kernel! {
    /// Computes the mean of each window.
    mean, mean_generic, Pooling
}
isa_kernel! {
    /// Adds each maximum's gradient to the first value that equals it.
    max_grad, max_grad_generic, MaxGrad
}
isa_kernel! {
    /// Distributes each mean's gradient over its window.
    mean_grad, mean_grad_generic, MeanGrad
}
