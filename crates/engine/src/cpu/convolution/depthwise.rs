//! Convolutions of each channel by itself: the product, forward or for the input's gradient, and the weight's gradient.
//!
//! A vector is 16 channels of a pixel. A block of neighboring results of one row stays in registers over all taps, and
//! each tap's weights are loaded once for the block. Taps outside the map are left out. Sums are the same chains as
//! those of other convolutions: a result's in the order of taps, a weight's in the order of pixels, image by image.

use super::Geometry;
use super::gradient::{Columns, ParamGrad, turn};
use super::product::{Product, follow};
use crate::cpu::simd::{LANES, Simd, load_up_to};

/// Results in a block, where there are 32 registers; half of it where there are 16.
const BLOCK: usize = 8;

/// Most taps of a row whose sums of the weight's gradient are computed together.
const MOST_TAPS: usize = 7;

/// Every `step`-th result along an axis from `first` on, which all read the map at the same taps.
#[derive(Clone, Copy)]
struct Axis {
    first: usize,
    step: usize,
    count: usize,
    /// First tap in packed order, and number of taps.
    tap: usize,
    taps: usize,
    /// Position that the first tap of the first result reads, which may lie outside the map.
    from: isize,
    /// Distance between the positions that the same tap of two neighbors reads.
    stride: usize,
    /// Length of the map that is read.
    len: usize,
}

impl Axis {
    /// All sets of results along an axis: one forward, one for each position modulo the stride backward.
    fn all(geometry: &Geometry, axis: usize) -> impl Iterator<Item = Axis> {
        let (stride, kernel, padding) =
            (geometry.convolution.stride, geometry.convolution.kernel, geometry.convolution.padding);
        let (forward, places, len) = (geometry.forward, geometry.output[axis], geometry.input[axis]);
        let sets = if forward { 1 } else { stride.min(places) };
        (0..sets).map(move |first| {
            if forward {
                let from = -(padding as isize);
                return Axis { first, step: 1, count: places, tap: 0, taps: kernel, from, stride, len };
            }
            // The taps that leave this rest contribute; they are neighbors in packed order, the last first.
            let rest = (first + padding) % stride;
            let taps_of = |rest: usize| kernel.saturating_sub(rest).div_ceil(stride);
            let (tap, taps) = ((0..rest).map(taps_of).sum(), taps_of(rest));
            let from = ((first + padding) / stride) as isize + 1 - taps as isize;
            Axis { first, step: stride, count: (places - first).div_ceil(stride), tap, taps, from, stride: 1, len }
        })
    }

    /// Position that the first tap of a result reads.
    fn from(self, result: usize) -> isize {
        self.from + (result * self.stride) as isize
    }

    /// The taps that lie inside the map, for results whose first tap reads `from`.
    fn inside(self, from: isize) -> std::ops::Range<usize> {
        let first = (-from).max(0) as usize;
        first..self.taps.min((self.len as isize - from).max(0) as usize).max(first)
    }
}

/// A block of results of one row, for some channels.
#[derive(Clone, Copy)]
struct Block {
    /// Results.
    count: usize,
    /// Position along the row that the first tap of the first result reads.
    from: isize,
    /// Taps along the height that lie inside the map.
    rows: [usize; 2],
    /// First value of the row that the first of these taps reads.
    x: *const f32,
    /// Weights of the first of these taps.
    weights: *const f32,
    /// Number of channels, up to 16.
    n: usize,
}

/// Computes panels of channels.
#[inline(always)]
pub(super) unsafe fn product<S: Simd>(args: &Product<'_>) {
    let geometry = args.geometry;
    let panel = LANES * S::TILE_VECTORS;
    let ([_, in_width, channels], [_, out_width, _]) = (geometry.input, geometry.output);
    let (in_len, out_len) = (geometry.input.iter().product::<usize>(), geometry.output.iter().product::<usize>());
    let kernel = geometry.convolution.kernel;
    let [first, end] = [args.panels[0], args.panels[0] + args.panels[1]].map(|panels| (panels * panel).min(channels));
    let width = if S::TILE_VECTORS == 1 { BLOCK / 2 } else { BLOCK };
    unsafe {
        let mut sums = [S::splat(0.0); BLOCK];
        for image in 0..args.images {
            let x = args.x.add(image * in_len);
            for rows in Axis::all(geometry, 0) {
                for row in 0..rows.count {
                    let inside = rows.inside(rows.from(row));
                    let (from, end_row) = (rows.from(row) + inside.start as isize, [inside.start, inside.end]);
                    let x = x.wrapping_offset(from * (in_width * channels) as isize);
                    for columns in Axis::all(geometry, 1) {
                        let tap = (rows.tap + inside.start) * kernel + columns.tap;
                        for start in (0..columns.count).step_by(width) {
                            let count = width.min(columns.count - start);
                            let from = columns.from(start);
                            // Whether all taps of a whole block lie inside the map.
                            let last = from + ((width - 1) * columns.stride + columns.taps) as isize;
                            let whole = count == width && from >= 0 && last <= in_width as isize;
                            let to = image * out_len
                                + ((rows.first + row * rows.step) * out_width + columns.first + start * columns.step)
                                    * channels;
                            for channel in (first..end).step_by(LANES) {
                                let weights = channel / panel * panel * kernel * kernel + tap * panel + channel % panel;
                                let block = Block {
                                    count,
                                    from,
                                    rows: end_row,
                                    x: x.wrapping_add(channel),
                                    weights: args.packed.wrapping_add(weights),
                                    n: LANES.min(end - channel),
                                };
                                let sizes = [kernel * panel, panel, in_width * channels, channels];
                                any_block::<S>(args, block, columns, sizes, channel, whole, &mut sums);
                                for (i, &sum) in sums.iter().enumerate().take(count) {
                                    let at = to + i * columns.step * channels + channel;
                                    follow::<S>(args, at, block.n, sum);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Computes the sums of a block.
#[inline(always)]
unsafe fn any_block<S: Simd>(
    args: &Product<'_>,
    block: Block,
    columns: Axis,
    sizes: [usize; 4],
    channel: usize,
    whole: bool,
    sums: &mut [S::V; BLOCK],
) {
    unsafe {
        let start = if args.bias.is_null() { S::splat(0.0) } else { load_up_to::<S>(args.bias.add(channel), block.n) };
        macro_rules! sized {
            ($p:literal) => {{
                let found = match (whole, block.n == LANES) {
                    (true, true) => taps::<S, $p, true, false>(block, columns, sizes, start),
                    (true, false) => taps::<S, $p, true, true>(block, columns, sizes, start),
                    (false, true) => taps::<S, $p, false, false>(block, columns, sizes, start),
                    (false, false) => taps::<S, $p, false, true>(block, columns, sizes, start),
                };
                sums[..$p].copy_from_slice(&found);
            }};
        }
        if S::TILE_VECTORS == 1 { sized!(4) } else { sized!(8) }
    }
}

/// Adds up P neighbors over all taps. `WHOLE`: all taps lie inside the map. `RAGGED`: there are fewer than 16 channels.
/// `sizes` are the distances between taps along height and width in the weights, then between rows and pixels.
#[inline(always)]
unsafe fn taps<S: Simd, const P: usize, const WHOLE: bool, const RAGGED: bool>(
    block: Block,
    columns: Axis,
    sizes: [usize; 4],
    start: S::V,
) -> [S::V; P] {
    let load = |from: *const f32| unsafe { if RAGGED { S::load_first(from, block.n) } else { S::load(from) } };
    let step = columns.stride * sizes[3];
    unsafe {
        let mut acc = [start; P];
        for row in 0..block.rows[1] - block.rows[0] {
            let weights = block.weights.add(row * sizes[0]);
            let x = block.x.wrapping_add(row * sizes[2]);
            for tap in 0..columns.taps {
                let weight = S::load(weights.add(tap * sizes[1]));
                let column = block.from + tap as isize;
                let x = x.wrapping_offset(column * sizes[3] as isize);
                for (i, sum) in acc.iter_mut().enumerate() {
                    let at = column + (i * columns.stride) as isize;
                    if WHOLE || i < block.count && at >= 0 && at < columns.len as isize {
                        *sum = S::mul_add(load(x.wrapping_add(i * step)), weight, *sum);
                    }
                }
            }
        }
        acc
    }
}

/// Room for the sums of the weight's gradient, for up to `width` channels: `[taps, channels]`.
pub(super) fn sums_len(geometry: &Geometry, width: usize) -> usize {
    crate::cpu::plan::all(geometry.steps(), width.next_multiple_of(LANES))
}

/// Adds to the gradient of some channels' weights.
#[inline(always)]
pub(super) unsafe fn param_grad<S: Simd>(args: &ParamGrad<'_>) {
    let geometry = args.geometry;
    let ([in_height, in_width, channels], [out_height, out_width, _]) = (geometry.input, geometry.output);
    let (kernel, [start, count]) = (geometry.convolution.kernel, args.channels);
    let columns = Columns { width: count, sums: args.room, stride: count.next_multiple_of(LANES) };
    unsafe {
        if args.continues {
            turn::<S, false>(geometry, args.dweight, columns, 1);
        } else {
            for at in (0..geometry.steps() * columns.stride).step_by(LANES) {
                S::store(args.room.add(at), S::splat(0.0));
            }
        }
        let [rows, row] = [0, 1].map(|axis| Axis::all(geometry, axis).next().expect("one forward"));
        for image in 0..args.images {
            for y in 0..out_height {
                let from = rows.from(y);
                let inside = rows.inside(from);
                let top = (from + inside.start as isize).max(0) as usize;
                let x = args.x.wrapping_add((image * in_height + top) * in_width * channels + start);
                let dy = args.dy.add((image * out_height + y) * out_width * channels + start);
                for channel in (0..count).step_by(LANES) {
                    let n = LANES.min(count - channel);
                    let of = |tap: usize| Row {
                        x: x.wrapping_add(channel),
                        dy: dy.add(channel),
                        n,
                        channels,
                        in_row: in_width * channels,
                        results: out_width,
                        columns: row,
                        tap,
                        sums: columns.sums.wrapping_add((inside.start * kernel + tap) * columns.stride + channel),
                        stride: columns.stride,
                    };
                    // Nine sums fill the registers that there are 32 of; three would wait for each other.
                    if kernel == 3 && inside.len() == 3 && S::TILE_VECTORS > 1 {
                        row_of_pixels::<S, 3, 3>(of(0));
                        continue;
                    }
                    for tap_row in 0..inside.len() {
                        for tap in (0..kernel).step_by(MOST_TAPS) {
                            let row = of(tap);
                            let row = Row {
                                x: row.x.wrapping_add(tap_row * row.in_row),
                                sums: row.sums.add(tap_row * kernel * row.stride),
                                ..row
                            };
                            match MOST_TAPS.min(kernel - tap) {
                                1 => row_of_pixels::<S, 1, 1>(row),
                                2 => row_of_pixels::<S, 1, 2>(row),
                                3 => row_of_pixels::<S, 1, 3>(row),
                                4 => row_of_pixels::<S, 1, 4>(row),
                                5 => row_of_pixels::<S, 1, 5>(row),
                                6 => row_of_pixels::<S, 1, 6>(row),
                                _ => row_of_pixels::<S, 1, MOST_TAPS>(row),
                            }
                        }
                    }
                }
            }
        }
        turn::<S, true>(geometry, args.dweight, columns, 1);
    }
}

/// A row of the result's gradient, the map's row that the first tap reads, and the sums of that tap.
#[derive(Clone, Copy)]
struct Row {
    x: *const f32,
    dy: *const f32,
    /// Number of channels, up to 16.
    n: usize,
    /// Distances between pixels and between rows of the map.
    channels: usize,
    in_row: usize,
    /// Length of the row.
    results: usize,
    columns: Axis,
    /// First tap along the row.
    tap: usize,
    sums: *mut f32,
    /// Distance between the sums of neighboring taps.
    stride: usize,
}

/// Adds a row of pixels to the sums of R times N taps.
#[inline(always)]
unsafe fn row_of_pixels<S: Simd, const R: usize, const N: usize>(row: Row) {
    let Row { columns, tap, results, .. } = row;
    let stride = columns.stride;
    // The first result for which a tap does not lie before the map, and the first for which it lies behind.
    let begin = |tap: usize| (-columns.from - tap as isize).max(0) as usize;
    let end = |tap: usize| (columns.len as isize - columns.from - tap as isize).max(0) as usize;
    let [first, inner] = [tap + N - 1, tap].map(|tap| begin(tap).div_ceil(stride).min(results));
    let [inner_end, last] = [tap + N - 1, tap].map(|tap| end(tap).div_ceil(stride).min(results));
    let taps = columns.taps;
    unsafe {
        let mut acc = [[S::splat(0.0); N]; R];
        for (r, acc) in acc.iter_mut().enumerate() {
            for (n, sum) in acc.iter_mut().enumerate() {
                *sum = S::load(row.sums.add((r * taps + n) * row.stride));
            }
        }
        for result in first..inner.min(last) {
            acc = pixel::<S, R, N, true>(row, result, acc);
        }
        for result in inner..inner_end {
            acc = pixel::<S, R, N, false>(row, result, acc);
        }
        for result in inner_end.max(inner)..last {
            acc = pixel::<S, R, N, true>(row, result, acc);
        }
        for (r, acc) in acc.iter().enumerate() {
            for (n, sum) in acc.iter().enumerate() {
                S::store(row.sums.add((r * taps + n) * row.stride), *sum);
            }
        }
    }
}

/// Adds a pixel to the sums of R times N taps. `EDGE`: some of the taps lie outside the map.
#[inline(always)]
unsafe fn pixel<S: Simd, const R: usize, const N: usize, const EDGE: bool>(
    row: Row,
    result: usize,
    mut acc: [[S::V; N]; R],
) -> [[S::V; N]; R] {
    let first = row.columns.from(result) + row.tap as isize;
    unsafe {
        let dy = load_up_to::<S>(row.dy.add(result * row.channels), row.n);
        for (r, acc) in acc.iter_mut().enumerate() {
            let x = row.x.wrapping_add(r * row.in_row).wrapping_offset(first * row.channels as isize);
            for (n, sum) in acc.iter_mut().enumerate() {
                let at = first + n as isize;
                if !EDGE || at >= 0 && at < row.columns.len as isize {
                    *sum = S::mul_add(load_up_to::<S>(x.wrapping_add(n * row.channels), row.n), dy, *sum);
                }
            }
        }
        acc
    }
}
