//! The gradient of a convolution's weight: for each tap, a product of the shifted map with the result's gradient.
//!
//! A tile is six channels of the input (broadcast) times a panel of channels of the result. Its sums run over the
//! pixels for which the tap lies inside the map, row by row and image by image. So each weight's gradient is one chain
//! of additions, which continues from call to call and does not depend on how a part's images are split into chunks.

use super::{Geometry, depthwise};
use crate::cpu::plan::{all, sum};
use crate::cpu::simd::{LANES, Simd, isa_kernel, load_up_to, store_up_to};
use crate::cpu::tile::{TILE_ROWS, load_row};

/// Pixels of the result in a block: a panel of their gradient fits into the second-level cache.
const PIXEL_BLOCK: usize = 1024;

/// Maximum number of channels for which pixels are read in place. With more channels, pixels lie at large and equal
/// distances, which map to the same cache sets and evict each other: a copy is faster.
const NEAR: usize = 64;

/// Channels of the input that are copied at a time.
const COPIED: usize = 8 * TILE_ROWS;

/// Widest panel of any instruction set.
const WIDEST: usize = 64;

/// Adds to the gradient of the weights of some channels of the result.
pub(in crate::cpu) struct ParamGrad<'a> {
    pub images: usize,
    /// The geometry of the forward product.
    pub geometry: &'a Geometry,
    /// First channel of the result and number of channels.
    pub channels: [usize; 2],
    /// `[images, output]`
    pub dy: *const f32,
    /// `[images, input]`
    pub x: *const f32,
    /// `[channels, in / groups, kernel, kernel]`
    pub dweight: *mut f32,
    /// Room for [`room_len`] numbers.
    pub room: *mut f32,
    /// Whether the gradient is added to the existing one; otherwise it overwrites it.
    pub continues: bool,
}

/// Images in a block.
fn block(geometry: &Geometry) -> usize {
    (PIXEL_BLOCK / (geometry.output[0] * geometry.output[1])).max(1)
}

/// Length of the sums of up to `width` channels, stored tile after tile.
fn sums_len(geometry: &Geometry, width: usize) -> usize {
    let kernel = geometry.convolution.kernel;
    all(all(geometry.group()[0].next_multiple_of(TILE_ROWS), kernel * kernel), width.next_multiple_of(LANES))
}

/// Length of the kernel's scratch memory for up to `width` channels at a time.
pub(in crate::cpu) fn room_len(geometry: &Geometry, width: usize) -> usize {
    if geometry.is_depthwise() {
        return depthwise::sums_len(geometry, width);
    }
    let pixels = |map: [usize; 3]| all(block(geometry), map[0] * map[1]);
    let width = width.min(WIDEST);
    let copies = sum(all(pixels(geometry.output), width.next_multiple_of(LANES)), all(pixels(geometry.input), COPIED));
    sum(sums_len(geometry, width), copies)
}

/// Some channels of a map's pixels.
#[derive(Clone, Copy)]
struct Map {
    at: *const f32,
    /// Distance between pixels.
    step: usize,
}

/// The pixels of a block that one tap's sums run over.
#[derive(Clone, Copy)]
struct Pixels {
    images: usize,
    rows: usize,
    steps: usize,
    /// Distances between images, rows and pixels in the map.
    a: [usize; 3],
    /// The same distances in the result's gradient.
    b: [usize; 3],
    x: *const f32,
    dy: *const f32,
}

/// A panel of channels of the result, and the address of its sums.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    pub width: usize,
    pub sums: *mut f32,
    /// Distance between rows of sums.
    pub stride: usize,
}

#[inline(always)]
unsafe fn param_grad_generic<S: Simd>(args: &ParamGrad<'_>) {
    let geometry = args.geometry;
    if geometry.is_depthwise() {
        // SAFETY: the caller's promise.
        return unsafe { depthwise::param_grad::<S>(args) };
    }
    let [in_group, out_group] = geometry.group();
    let ([_, _, in_channels], [_, _, out_channels]) = (geometry.input, geometry.output);
    let (in_pixels, out_pixels) = (geometry.input[0] * geometry.input[1], geometry.output[0] * geometry.output[1]);
    let block = block(geometry);
    let [start, count] = args.channels;
    let mut column = start;
    while column < start + count {
        // A panel ends at the end of its group.
        let group = column / out_group;
        let width = (LANES * S::TILE_VECTORS).min(start + count - column).min((group + 1) * out_group - column);
        let columns = Columns { width, sums: args.room, stride: width.next_multiple_of(LANES) };
        unsafe {
            let dweight = args.dweight.add((column - start) * geometry.steps());
            let dy_copy = args.room.add(sums_len(geometry, width));
            let x_copy = dy_copy.add(block * out_pixels * columns.stride);
            if args.continues {
                turn::<S, false>(geometry, dweight, columns, TILE_ROWS);
            }
            let mut first = 0;
            while first < args.images {
                let images = block.min(args.images - first);
                let goes_on = args.continues || first > 0;
                let mut dy = Map { at: args.dy.add(first * out_pixels * out_channels + column), step: out_channels };
                if dy_is_copied(geometry) {
                    dy = copy::<S>(images * out_pixels, width, dy, dy_copy, columns.stride);
                }
                let mut channel = 0;
                while channel < in_group {
                    let more = COPIED.min(in_group - channel);
                    let at = args.x.add(first * in_pixels * in_channels + group * in_group + channel);
                    let mut x = Map { at, step: in_channels };
                    if in_channels > NEAR {
                        x = copy::<S>(images * in_pixels, more, x, x_copy, COPIED);
                    }
                    tiles::<S>(geometry, images, [x, dy], [channel, more], columns, goes_on);
                    channel += more;
                }
                first += images;
            }
            turn::<S, true>(geometry, dweight, columns, TILE_ROWS);
        }
        column += width;
    }
}

/// Whether a panel of the result's gradient is copied before it is read.
fn dy_is_copied(geometry: &Geometry) -> bool {
    geometry.output[2] > NEAR
}

/// Copies some channels of pixels next to each other, each padded with zeros to whole vectors.
#[inline(always)]
unsafe fn copy<S: Simd>(pixels: usize, width: usize, from: Map, to: *mut f32, step: usize) -> Map {
    unsafe {
        for pixel in 0..pixels {
            for at in (0..width).step_by(LANES) {
                let x = load_up_to::<S>(from.at.add(pixel * from.step + at), width - at);
                S::store(to.add(pixel * step + at), x);
            }
        }
    }
    Map { at: to, step }
}

/// All tiles of some channels of the input, for some images.
#[inline(always)]
unsafe fn tiles<S: Simd>(
    geometry: &Geometry,
    images: usize,
    [x, dy]: [Map; 2],
    [first, count]: [usize; 2],
    columns: Columns,
    goes_on: bool,
) {
    let taps = geometry.convolution.kernel * geometry.convolution.kernel;
    let is_copied = dy_is_copied(geometry);
    unsafe {
        let mut channel = 0;
        while channel < count {
            let rows = TILE_ROWS.min(count - channel);
            for tap in 0..taps {
                let x = Map { at: x.at.add(channel), ..x };
                let pixels = pixels_of(geometry, images, tap, [x, dy]);
                let at = ((first + channel) * taps + tap * TILE_ROWS) * columns.stride;
                let columns = Columns { sums: columns.sums.add(at), ..columns };
                // A copy is padded to whole vectors.
                if is_copied || columns.width.is_multiple_of(LANES) {
                    any_tile::<S, false>(pixels, rows, columns, goes_on);
                } else {
                    any_tile::<S, true>(pixels, rows, columns, goes_on);
                }
            }
            channel += TILE_ROWS;
        }
    }
}

/// The pixels of the result for which a tap lies inside the map.
#[inline(always)]
fn pixels_of(geometry: &Geometry, images: usize, tap: usize, [x, dy]: [Map; 2]) -> Pixels {
    let convolution = geometry.convolution;
    let ([height, width, _], [out_height, out_width, _]) = (geometry.input, geometry.output);
    // at * stride + tap - padding lies in 0 .. len for at in first .. end
    let inside = |tap: usize, len: usize, places: usize| {
        let first = convolution.padding.saturating_sub(tap).div_ceil(convolution.stride);
        let end = (len + convolution.padding).saturating_sub(tap).div_ceil(convolution.stride).min(places);
        [first.min(end), end]
    };
    let (tap_y, tap_x) = (tap / convolution.kernel, tap % convolution.kernel);
    let [y, y_end] = inside(tap_y, height, out_height);
    let [x_first, x_end] = inside(tap_x, width, out_width);
    let from = |at: usize, tap: usize| (at * convolution.stride + tap).saturating_sub(convolution.padding);
    let stride = convolution.stride;
    Pixels {
        images,
        rows: if x_first < x_end { y_end - y } else { 0 },
        steps: x_end - x_first,
        a: [height * width * x.step, stride * width * x.step, stride * x.step],
        b: [out_height * out_width * dy.step, out_width * dy.step, dy.step],
        x: x.at.wrapping_add((from(y, tap_y) * width + from(x_first, tap_x)) * x.step),
        dy: dy.at.wrapping_add((y * out_width + x_first) * dy.step),
    }
}

#[inline(always)]
unsafe fn any_tile<S: Simd, const RAGGED: bool>(pixels: Pixels, rows: usize, columns: Columns, goes_on: bool) {
    macro_rules! rows {
        ($n:literal) => {
            match rows {
                1 => tile::<S, 1, $n, RAGGED>(pixels, columns, goes_on),
                2 => tile::<S, 2, $n, RAGGED>(pixels, columns, goes_on),
                3 => tile::<S, 3, $n, RAGGED>(pixels, columns, goes_on),
                4 => tile::<S, 4, $n, RAGGED>(pixels, columns, goes_on),
                5 => tile::<S, 5, $n, RAGGED>(pixels, columns, goes_on),
                _ => tile::<S, 6, $n, RAGGED>(pixels, columns, goes_on),
            }
        };
    }
    unsafe {
        if S::TILE_VECTORS == 1 {
            rows!(1)
        } else {
            match columns.stride / LANES {
                1 => rows!(1),
                2 => rows!(2),
                3 => rows!(3),
                _ => rows!(4),
            }
        }
    }
}

/// Continues, or starts, the sums of M channels of the input and N vectors of channels of the result.
#[inline(always)]
unsafe fn tile<S: Simd, const M: usize, const N: usize, const RAGGED: bool>(
    pixels: Pixels,
    columns: Columns,
    goes_on: bool,
) {
    let Columns { sums, stride, width } = columns;
    unsafe {
        let mut acc = [[S::splat(0.0); N]; M];
        if goes_on {
            for (i, row) in acc.iter_mut().enumerate() {
                for (j, sum) in row.iter_mut().enumerate() {
                    *sum = S::load(sums.add(i * stride + j * LANES));
                }
            }
        }
        for image in 0..pixels.images {
            for row in 0..pixels.rows {
                let mut a = pixels.x.add(image * pixels.a[0] + row * pixels.a[1]);
                let mut b = pixels.dy.add(image * pixels.b[0] + row * pixels.b[1]);
                for _ in 0..pixels.steps {
                    let columns = load_row::<S, N, RAGGED>(b, width);
                    for (i, sums) in acc.iter_mut().enumerate() {
                        let x = S::splat(*a.add(i));
                        for j in 0..N {
                            sums[j] = S::mul_add(x, columns[j], sums[j]);
                        }
                    }
                    // `wrapping_add`: after the last pixel they point outside the buffers.
                    a = a.wrapping_add(pixels.a[2]);
                    b = b.wrapping_add(pixels.b[2]);
                }
            }
        }
        for (i, row) in acc.iter().enumerate() {
            for (j, sum) in row.iter().enumerate() {
                S::store(sums.add(i * stride + j * LANES), *sum);
            }
        }
    }
}

/// Copies the sums of a panel, of which `rows` channels of the input are one tile, to the gradient of the weight, or
/// back, transposed in blocks of 16 by 16.
#[inline(always)]
pub(super) unsafe fn turn<S: Simd, const OUT: bool>(
    geometry: &Geometry,
    dweight: *mut f32,
    columns: Columns,
    rows: usize,
) {
    let (kernel, steps) = (geometry.convolution.kernel, geometry.steps());
    let taps = kernel * kernel;
    unsafe {
        for vector in 0..columns.stride / LANES {
            let n = LANES.min(columns.width - vector * LANES);
            let dweight = dweight.add(vector * LANES * steps);
            let (mut channel, mut tap) = (0, 0);
            let mut at = 0;
            while at < steps {
                let count = LANES.min(steps - at);
                // Addresses of the 16 sums of one weight and channel.
                let mut sums = [columns.sums; LANES];
                for sums in sums.iter_mut().take(count) {
                    let row = (channel / rows * taps + tap) * rows + channel % rows;
                    *sums = sums.add(row * columns.stride + vector * LANES);
                    tap += 1;
                    if tap == taps {
                        (channel, tap) = (channel + 1, 0);
                    }
                }
                let mut block = [S::splat(0.0); LANES];
                if OUT {
                    for (lanes, sums) in block.iter_mut().zip(&sums).take(count) {
                        *lanes = S::load(*sums);
                    }
                    S::transpose(&mut block);
                    for (i, lanes) in block.iter().enumerate().take(n) {
                        store_up_to::<S>(dweight.add(i * steps + at), count, *lanes);
                    }
                } else {
                    for (i, lanes) in block.iter_mut().enumerate().take(n) {
                        *lanes = load_up_to::<S>(dweight.add(i * steps + at), count);
                    }
                    S::transpose(&mut block);
                    for (lanes, sums) in block.iter().zip(&sums).take(count) {
                        S::store(*sums, *lanes);
                    }
                }
                at += LANES;
            }
        }
    }
}

isa_kernel! {
    /// Adds to the gradient of panels of a convolution's weight.
    param_grad, param_grad_generic, ParamGrad<'_>
}
