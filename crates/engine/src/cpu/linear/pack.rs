//! Copies a weight matrix into panels that a product reads from front to back.

use crate::cpu::Isa;
use crate::cpu::plan::all;
use crate::cpu::sequence::block_start;
use crate::cpu::simd::{LANES, Simd, isa_kernel, load_up_to};

/// Copies a range of panels of B, where `product` computes A B.
///
/// Panel p holds columns `p * width ...` of B, one step of the inner axis after the other, 0 beyond the last column.
pub(in crate::cpu) struct Pack {
    /// The weight, `[out, in]`.
    pub weight: *const f32,
    pub out_features: usize,
    pub in_features: usize,
    /// 1, or the number of blocks on the diagonal that the weight holds: `[out, in / heads]`, zeros elsewhere.
    pub heads: usize,
    /// B is the weight's transpose `[in, out]` (forward), else the weight itself (the input's gradient).
    pub transposed: bool,
    /// First panel.
    pub first: usize,
    /// Number of panels.
    pub count: usize,
    /// Start of panel 0.
    pub to: *mut f32,
}

/// Values in the packed form of a matrix of `steps` rows and `columns` columns.
pub(in crate::cpu) fn packed_len(isa: Isa, steps: usize, columns: usize) -> usize {
    all(columns.div_ceil(isa.panel()) * isa.panel(), steps)
}

#[inline(always)]
unsafe fn pack_generic<S: Simd>(args: &Pack) {
    unsafe {
        let width = LANES * S::TILE_VECTORS;
        let (columns, steps) =
            if args.transposed { (args.out_features, args.in_features) } else { (args.in_features, args.out_features) };
        for panel in args.first..args.first + args.count {
            let to = args.to.add(panel * width * steps);
            if args.heads > 1 {
                pack_blocks(args, panel * width, width, to);
                continue;
            }
            for vector in 0..S::TILE_VECTORS {
                let column = panel * width + vector * LANES;
                let n = columns.saturating_sub(column).min(LANES);
                let to = to.add(vector * LANES);
                if args.transposed {
                    transpose_columns::<S>(args, column, n, to, width);
                } else {
                    for step in 0..steps {
                        let from = args.weight.wrapping_add(step * args.in_features + column);
                        let x = if n == 0 { S::splat(0.0) } else { load_up_to::<S>(from, n) };
                        S::store(to.add(step * width), x);
                    }
                }
            }
        }
    }
}

/// Takes `n` rows of the weight from `row` on as columns.
#[inline(always)]
unsafe fn transpose_columns<S: Simd>(args: &Pack, row: usize, n: usize, to: *mut f32, width: usize) {
    unsafe {
        let mut step = 0;
        while step < args.in_features {
            let count = LANES.min(args.in_features - step);
            let mut block = [S::splat(0.0); LANES];
            for (i, lanes) in block.iter_mut().enumerate().take(n) {
                *lanes = load_up_to::<S>(args.weight.add((row + i) * args.in_features + step), count);
            }
            S::transpose(&mut block);
            for (i, lanes) in block.iter().enumerate().take(count) {
                S::store(to.add((step + i) * width), *lanes);
            }
            step += LANES;
        }
    }
}

/// Packs one panel of a weight of which only blocks are there.
unsafe fn pack_blocks(args: &Pack, first: usize, width: usize, to: *mut f32) {
    let steps = if args.transposed { args.in_features } else { args.out_features };
    let block = args.in_features / args.heads;
    unsafe {
        std::slice::from_raw_parts_mut(to, steps * width).fill(0.0);
        for o in 0..args.out_features {
            let column = block_start(o, args.heads, block) - o * args.in_features;
            for i in 0..block {
                let (step, column) = if args.transposed { (column + i, o) } else { (o, column + i) };
                if (first..first + width).contains(&column) {
                    *to.add(step * width + column - first) = *args.weight.add(o * block + i);
                }
            }
        }
    }
}

isa_kernel! {
    /// Packs a range of panels.
    pack, pack_generic, Pack
}
