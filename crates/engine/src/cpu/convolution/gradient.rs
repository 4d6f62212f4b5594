//! The gradient of a convolution's weight: for each tap a product of the map, shifted, with the result's gradient.
//!
//! A tile is six channels of the input, read number by number, and a panel of channels of the result; its sums run
//! over the pixels for which the tap lies inside the map, row by row and image by image. So each weight's gradient is
//! one chain, which goes on from call to call and does not depend on how a part's images are cut into chunks.

use super::Geometry;
use crate::cpu::Isa;
use crate::cpu::simd::{LANES, Simd, isa_kernel, load_up_to, store_up_to};
use crate::cpu::tile::TILE_ROWS;

/// Pixels of the result that are worked through at a time: a panel of their gradient stays in the second-level cache.
const PIXEL_BLOCK: usize = 1024;

/// Adds to the gradient of the weights of some channels of the result.
pub(in crate::cpu) struct ParamGrad<'a> {
    pub images: usize,
    /// That of the product forward.
    pub geometry: &'a Geometry,
    /// First panel of the result's channels, and number of panels.
    pub panels: [usize; 2],
    /// `[images, output]`
    pub dy: *const f32,
    /// `[images, input]`
    pub x: *const f32,
    /// `[out, in / groups, kernel, kernel]`
    pub dweight: *mut f32,
    /// Room for [`sums_len`] numbers.
    pub sums: *mut f32,
    /// Whether the gradient goes on with what stands there.
    pub continues: bool,
}

/// Numbers that the sums of one panel take while they are not in the weight's order: tile after tile.
pub(in crate::cpu) fn sums_len(geometry: &Geometry, isa: Isa) -> usize {
    let kernel = geometry.convolution.kernel;
    geometry.group()[0].next_multiple_of(TILE_ROWS) * kernel * kernel * isa.panel()
}

/// Pixels over which one tap's sums run, in the images of a block.
#[derive(Clone, Copy)]
struct Pixels {
    images: usize,
    rows: usize,
    steps: usize,
    /// From one image, row and pixel to the next, in the map.
    a: [usize; 3],
    /// The same in the result's gradient.
    b: [usize; 3],
    x: *const f32,
    dy: *const f32,
}

#[inline(always)]
unsafe fn param_grad_generic<S: Simd>(args: &ParamGrad<'_>) {
    let geometry = args.geometry;
    let panel = LANES * S::TILE_VECTORS;
    let [in_group, out_group] = geometry.group();
    let per_group = out_group.div_ceil(panel);
    let (in_len, out_len) = (geometry.input.iter().product::<usize>(), geometry.output.iter().product::<usize>());
    let block = (PIXEL_BLOCK * geometry.output[2] / out_len).max(1);
    unsafe {
        for number in args.panels[0]..args.panels[0] + args.panels[1] {
            let (group, within) = (number / per_group, number % per_group * panel);
            let (column, width) = (group * out_group + within, panel.min(out_group - within));
            if args.continues {
                turn::<S, false>(args, column, width);
            }
            let mut first = 0;
            while first < args.images {
                let images = block.min(args.images - first);
                let x = args.x.add(first * in_len + group * in_group);
                let dy = args.dy.add(first * out_len + column);
                tiles::<S>(args, images, [x, dy], width, args.continues || first > 0);
                first += images;
            }
            turn::<S, true>(args, column, width);
        }
    }
}

/// All tiles of a panel for some images.
#[inline(always)]
unsafe fn tiles<S: Simd>(args: &ParamGrad<'_>, images: usize, [x, dy]: [*const f32; 2], width: usize, goes_on: bool) {
    let geometry = args.geometry;
    let panel = LANES * S::TILE_VECTORS;
    let (kernel, [in_group, _]) = (geometry.convolution.kernel, geometry.group());
    unsafe {
        let mut channel = 0;
        while channel < in_group {
            let rows = TILE_ROWS.min(in_group - channel);
            for tap in 0..kernel * kernel {
                let pixels = pixels_of(geometry, images, tap, [x.add(channel), dy]);
                let sums = args.sums.add((channel * kernel * kernel + tap * TILE_ROWS) * panel);
                any_tile::<S>(pixels, [rows, width], sums, goes_on);
            }
            channel += TILE_ROWS;
        }
    }
}

/// The pixels of the result for which a tap lies inside the map.
#[inline(always)]
fn pixels_of(geometry: &Geometry, images: usize, tap: usize, [x, dy]: [*const f32; 2]) -> Pixels {
    let convolution = geometry.convolution;
    let ([height, width, channels], [out_height, out_width, out_channels]) = (geometry.input, geometry.output);
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
        a: [height * width * channels, stride * width * channels, stride * channels],
        b: [out_height * out_width * out_channels, out_width * out_channels, out_channels],
        x: x.wrapping_add((from(y, tap_y) * width + from(x_first, tap_x)) * channels),
        dy: dy.wrapping_add((y * out_width + x_first) * out_channels),
    }
}

#[inline(always)]
unsafe fn any_tile<S: Simd>(pixels: Pixels, [rows, width]: [usize; 2], sums: *mut f32, goes_on: bool) {
    macro_rules! rows {
        ($n:literal) => {
            match rows {
                1 => tile::<S, 1, $n>(pixels, sums, goes_on),
                2 => tile::<S, 2, $n>(pixels, sums, goes_on),
                3 => tile::<S, 3, $n>(pixels, sums, goes_on),
                4 => tile::<S, 4, $n>(pixels, sums, goes_on),
                5 => tile::<S, 5, $n>(pixels, sums, goes_on),
                _ => tile::<S, 6, $n>(pixels, sums, goes_on),
            }
        };
    }
    unsafe {
        if S::TILE_VECTORS == 1 {
            rows!(1)
        } else {
            match width.div_ceil(LANES) {
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
unsafe fn tile<S: Simd, const M: usize, const N: usize>(pixels: Pixels, sums: *mut f32, goes_on: bool) {
    let panel = LANES * S::TILE_VECTORS;
    unsafe {
        let mut acc = [[S::splat(0.0); N]; M];
        if goes_on {
            for (i, row) in acc.iter_mut().enumerate() {
                for (j, sum) in row.iter_mut().enumerate() {
                    *sum = S::load(sums.add(i * panel + j * LANES));
                }
            }
        }
        for image in 0..pixels.images {
            for row in 0..pixels.rows {
                let mut a = pixels.x.add(image * pixels.a[0] + row * pixels.a[1]);
                let mut b = pixels.dy.add(image * pixels.b[0] + row * pixels.b[1]);
                for _ in 0..pixels.steps {
                    let mut columns = [S::splat(0.0); N];
                    for (j, column) in columns.iter_mut().enumerate() {
                        *column = S::load(b.add(j * LANES));
                    }
                    for (i, sums) in acc.iter_mut().enumerate() {
                        let x = S::splat(*a.add(i));
                        for j in 0..N {
                            sums[j] = S::mul_add(x, columns[j], sums[j]);
                        }
                    }
                    // Wrapping: after the last pixel these point outside.
                    a = a.wrapping_add(pixels.a[2]);
                    b = b.wrapping_add(pixels.b[2]);
                }
            }
        }
        for (i, row) in acc.iter().enumerate() {
            for (j, sum) in row.iter().enumerate() {
                S::store(sums.add(i * panel + j * LANES), *sum);
            }
        }
    }
}

/// Copies the sums of a panel to the gradient of the weight, or back, turned 16 by 16.
#[inline(always)]
unsafe fn turn<S: Simd, const OUT: bool>(args: &ParamGrad<'_>, column: usize, width: usize) {
    let panel = LANES * S::TILE_VECTORS;
    let (kernel, steps) = (args.geometry.convolution.kernel, args.geometry.steps());
    let taps = kernel * kernel;
    unsafe {
        for vector in 0..width.div_ceil(LANES) {
            let n = LANES.min(width - vector * LANES);
            let dweight = args.dweight.add((column + vector * LANES) * steps);
            let (mut channel, mut tap) = (0, 0);
            let mut at = 0;
            while at < steps {
                let count = LANES.min(steps - at);
                // Where the 16 sums of one weight and channel stand.
                let mut sums = [args.sums; LANES];
                for sums in sums.iter_mut().take(count) {
                    let row = (channel / TILE_ROWS * taps + tap) * TILE_ROWS + channel % TILE_ROWS;
                    *sums = sums.add(row * panel + vector * LANES);
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
