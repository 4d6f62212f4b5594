//! The product of a convolution, forward or for the input's gradient, and the operations fused with it.
//!
//! Order: bias, product, ReLU, `multiply`, residual. A tile is six pixels of one kind, at any positions, times a panel
//! of channels; its sums stay in registers over all taps. Each sum is one chain in the order of taps and channels.

use super::geometry::Kind;
use super::{Geometry, depthwise};
use crate::cpu::linear::Multiply;
use crate::cpu::simd::{LANES, Simd, isa_kernel, load_up_to, store_up_to};
use crate::cpu::tile::TILE_ROWS;

/// Widest panel of any instruction set, in vectors.
const MOST_VECTORS: usize = 4;

/// `out = x * weights`, with the fused operations.
pub(in crate::cpu) struct Product<'a> {
    pub images: usize,
    pub geometry: &'a Geometry,
    /// First panel of channels, and number of panels.
    pub panels: [usize; 2],
    /// `[images, input]`
    pub x: *const f32,
    /// See [`super::Pack`].
    pub packed: *const f32,
    /// `[out_channels]`, or null.
    pub bias: *const f32,
    pub relu: bool,
    pub multiply: Multiply,
    /// Added at the end, `[images, output]`, or null. May be `out`.
    pub residual: *const f32,
    /// `[images, output]`
    pub out: *mut f32,
}

/// A panel of channels of the result.
#[derive(Clone, Copy)]
struct Columns {
    /// First channel of the result and number of channels.
    first: usize,
    width: usize,
    /// First channel of the input.
    input: usize,
    packed: *const f32,
}

/// The inner axis of a tile's sums: `rows` times `runs` stretches of `steps` neighbors.
#[derive(Clone, Copy)]
struct Stretches {
    rows: usize,
    runs: usize,
    steps: usize,
    /// Distances between rows and between runs in the map.
    a: [usize; 2],
    /// The same distances in the packed weights.
    b: [usize; 2],
    packed: *const f32,
}

/// The finished sums of a tile.
type Sums<S> = [[<S as Simd>::V; MOST_VECTORS]; TILE_ROWS];

/// The pixels of a tile.
struct Tile {
    count: usize,
    /// Address of the first tap of each pixel.
    from: [*const f32; TILE_ROWS],
    /// Offset of each pixel in the result.
    to: [usize; TILE_ROWS],
}

#[inline(always)]
unsafe fn product_generic<S: Simd>(args: &Product<'_>) {
    let geometry = args.geometry;
    if geometry.is_depthwise() {
        // SAFETY: the caller's promise.
        return unsafe { depthwise::product::<S>(args) };
    }
    let panel = LANES * S::TILE_VECTORS;
    let [in_group, out_group] = geometry.group();
    let per_group = out_group.div_ceil(panel);
    unsafe {
        let mut sums = [[S::splat(0.0); MOST_VECTORS]; TILE_ROWS];
        for number in args.panels[0]..args.panels[0] + args.panels[1] {
            let (group, within) = (number / per_group, number % per_group * panel);
            let columns = Columns {
                first: group * out_group + within,
                width: panel.min(out_group - within),
                input: group * in_group,
                packed: args.packed.add(number * panel * geometry.steps()),
            };
            for kind in &geometry.kinds {
                pixels::<S>(args, kind, columns, &mut sums);
            }
        }
    }
}

/// Computes all pixels of one kind.
#[inline(always)]
unsafe fn pixels<S: Simd>(args: &Product<'_>, kind: &Kind, columns: Columns, sums: &mut Sums<S>) {
    let geometry = args.geometry;
    let panel = LANES * S::TILE_VECTORS;
    let ([_, in_width, in_channels], kernel) = (geometry.input, geometry.convolution.kernel);
    let (in_group, out_channels) = (geometry.group()[0], geometry.output[2]);
    // Without groups, the channels of a row's taps are contiguous.
    let whole = in_group == in_channels;
    let stretches = Stretches {
        rows: kind.count[0],
        runs: if whole { 1 } else { kind.count[1] },
        steps: if whole { kind.count[1] * in_group } else { in_group },
        a: [in_width * in_channels, in_channels],
        b: [kernel * in_group * panel, in_group * panel],
        packed: columns.packed.wrapping_add((kind.tap[0] * kernel + kind.tap[1]) * in_group * panel),
    };
    let in_len = geometry.input.iter().product::<usize>();
    let out_pixels = geometry.output[0] * geometry.output[1];
    let mut tile = Tile { count: 0, from: [args.x; TILE_ROWS], to: [0; TILE_ROWS] };
    unsafe {
        for image in 0..args.images {
            let x = args.x.add(image * in_len + columns.input);
            for pixel in &geometry.pixels[kind.pixels.clone()] {
                tile.from[tile.count] = x.add(pixel.from as usize * in_channels);
                tile.to[tile.count] = (image * out_pixels + pixel.to as usize) * out_channels + columns.first;
                tile.count += 1;
                if tile.count == TILE_ROWS {
                    whole_tile::<S>(args, &tile, stretches, columns, sums);
                    tile.count = 0;
                }
            }
        }
        if tile.count > 0 {
            whole_tile::<S>(args, &tile, stretches, columns, sums);
        }
    }
}

/// Computes the sums of a tile, then the fused operations.
#[inline(always)]
unsafe fn whole_tile<S: Simd>(
    args: &Product<'_>,
    tile: &Tile,
    stretches: Stretches,
    columns: Columns,
    sums: &mut Sums<S>,
) {
    unsafe {
        let mut start = [S::splat(0.0); MOST_VECTORS];
        if !args.bias.is_null() {
            for (j, lanes) in start.iter_mut().enumerate().take(columns.width.div_ceil(LANES)) {
                *lanes = load_up_to::<S>(args.bias.add(columns.first + j * LANES), columns.width - j * LANES);
            }
        }
        macro_rules! sized {
            ($m:literal, $n:literal) => {{
                let mut acc = [[start[0]; $n]; $m];
                for row in &mut acc {
                    row.copy_from_slice(&start[..$n]);
                }
                let acc = run::<S, $m, $n>(stretches, &tile.from, acc);
                for (to, row) in sums.iter_mut().zip(&acc) {
                    to[..$n].copy_from_slice(row);
                }
            }};
        }
        macro_rules! rows {
            ($n:literal) => {
                match tile.count {
                    1 => sized!(1, $n),
                    2 => sized!(2, $n),
                    3 => sized!(3, $n),
                    4 => sized!(4, $n),
                    5 => sized!(5, $n),
                    _ => sized!(6, $n),
                }
            };
        }
        if S::TILE_VECTORS == 1 {
            rows!(1);
        } else {
            match columns.width.div_ceil(LANES) {
                1 => rows!(1),
                2 => rows!(2),
                3 => rows!(3),
                _ => rows!(4),
            }
        }
        for (sums, &to) in sums.iter().zip(&tile.to).take(tile.count) {
            for (j, &sum) in sums.iter().enumerate().take(columns.width.div_ceil(LANES)) {
                follow::<S>(args, to + j * LANES, columns.width - j * LANES, sum);
            }
        }
    }
}

/// Continues the sums of M pixels and N vectors of channels over all stretches.
#[inline(always)]
unsafe fn run<S: Simd, const M: usize, const N: usize>(
    stretches: Stretches,
    from: &[*const f32; TILE_ROWS],
    mut acc: [[S::V; N]; M],
) -> [[S::V; N]; M] {
    let panel = LANES * S::TILE_VECTORS;
    unsafe {
        for row in 0..stretches.rows {
            for run in 0..stretches.runs {
                let offset = row * stretches.a[0] + run * stretches.a[1];
                let mut a = [from[0]; M];
                for (a, from) in a.iter_mut().zip(from) {
                    *a = from.add(offset);
                }
                let mut b = stretches.packed.add(row * stretches.b[0] + run * stretches.b[1]);
                for step in 0..stretches.steps {
                    let mut columns = [S::splat(0.0); N];
                    for (j, column) in columns.iter_mut().enumerate() {
                        *column = S::load(b.add(j * LANES));
                    }
                    for (a, sums) in a.iter().zip(&mut acc) {
                        let x = S::splat(*a.add(step));
                        for j in 0..N {
                            sums[j] = S::mul_add(x, columns[j], sums[j]);
                        }
                    }
                    b = b.wrapping_add(panel);
                }
            }
        }
        acc
    }
}

/// Applies the fused operations to up to 16 channels of one pixel, and stores them.
#[inline(always)]
pub(super) unsafe fn follow<S: Simd>(args: &Product<'_>, at: usize, n: usize, mut x: S::V) {
    unsafe {
        let zero = S::splat(0.0);
        if args.relu {
            x = S::max(zero, x);
        }
        x = args.multiply.apply::<S>(x, at, n);
        if !args.residual.is_null() {
            x = S::add(x, load_up_to::<S>(args.residual.add(at), n));
        }
        store_up_to::<S>(args.out.add(at), n, x);
    }
}

isa_kernel! {
    /// Computes panels of channels of a convolution, or of its input's gradient.
    product, product_generic, Product<'_>
}
