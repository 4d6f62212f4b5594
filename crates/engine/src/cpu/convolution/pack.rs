//! Copies a convolution's weight into panels that a product reads from front to back.
//!
//! Panel p of a group holds, for each tap in packed order and each input channel, the weights of `panel` channels of
//! the result, padded with zeros after the last channel.

use super::Geometry;
use crate::cpu::simd::{LANES, Simd, isa_kernel, load_up_to};

/// Copies a range of panels.
pub(in crate::cpu) struct Pack<'a> {
    pub geometry: &'a Geometry,
    /// `[out, in / groups, kernel, kernel]`
    pub weight: *const f32,
    /// First panel.
    pub first: usize,
    /// Number of panels.
    pub count: usize,
    /// Start of panel 0.
    pub to: *mut f32,
}

#[inline(always)]
unsafe fn pack_generic<S: Simd>(args: &Pack<'_>) {
    let geometry = args.geometry;
    let width = LANES * S::TILE_VECTORS;
    let [_, columns] = geometry.group();
    let per_group = columns.div_ceil(width);
    unsafe {
        for panel in args.first..args.first + args.count {
            let (group, first) = (panel / per_group, panel % per_group * width);
            for vector in 0..S::TILE_VECTORS {
                let column = first + vector * LANES;
                let n = columns.saturating_sub(column).min(LANES);
                let to = args.to.add(panel * width * geometry.steps() + vector * LANES);
                if geometry.forward {
                    forward::<S>(args, group, column, n, to);
                } else {
                    backward::<S>(args, group, column, n, to);
                }
            }
        }
    }
}

/// Columns are output channels of the layer: rows of the weight, transposed in blocks of 16 by 16.
#[inline(always)]
unsafe fn forward<S: Simd>(args: &Pack<'_>, group: usize, column: usize, n: usize, to: *mut f32) {
    let geometry = args.geometry;
    let width = LANES * S::TILE_VECTORS;
    let kernel = geometry.convolution.kernel;
    let (taps, steps) = (kernel * kernel, geometry.steps());
    let [channels, columns] = geometry.group();
    unsafe {
        let weight = args.weight.wrapping_add((group * columns + column) * steps);
        let (mut channel, mut tap) = (0, 0);
        let mut at = 0;
        while at < steps {
            let count = LANES.min(steps - at);
            let mut block = [S::splat(0.0); LANES];
            for (i, lanes) in block.iter_mut().enumerate().take(n) {
                *lanes = load_up_to::<S>(weight.add(i * steps + at), count);
            }
            S::transpose(&mut block);
            for lanes in block.iter().take(count) {
                S::store(to.add((tap * channels + channel) * width), *lanes);
                tap += 1;
                if tap == taps {
                    (channel, tap) = (channel + 1, 0);
                }
            }
            at += LANES;
        }
    }
}

/// Columns are input channels of the layer: the taps of 16 channels are transposed at a time.
#[inline(always)]
unsafe fn backward<S: Simd>(args: &Pack<'_>, group: usize, column: usize, n: usize, to: *mut f32) {
    let geometry = args.geometry;
    let width = LANES * S::TILE_VECTORS;
    let kernel = geometry.convolution.kernel;
    let taps = kernel * kernel;
    let [channels, columns] = geometry.group();
    unsafe {
        for channel in 0..channels {
            let weight = args.weight.wrapping_add(((group * channels + channel) * columns + column) * taps);
            let mut first = 0;
            while first < taps {
                let count = LANES.min(taps - first);
                let mut block = [S::splat(0.0); LANES];
                for (i, lanes) in block.iter_mut().enumerate().take(n) {
                    *lanes = load_up_to::<S>(weight.add(i * taps + first), count);
                }
                S::transpose(&mut block);
                for (i, lanes) in block.iter().enumerate().take(count) {
                    let tap = first + i;
                    let place = geometry.place[tap / kernel] * kernel + geometry.place[tap % kernel];
                    S::store(to.add((place * channels + channel) * width), *lanes);
                }
                first += LANES;
            }
        }
    }
}

isa_kernel! {
    /// Packs a range of panels.
    pack, pack_generic, Pack<'_>
}
