//! The gradients of a linear layer's parameters: `dW = dy^T x` and the column sums of `dy`.
//!
//! Sums go on over the rows in their order, from one call to the next, so they do not depend on how the rows of a
//! part are cut into chunks.

use crate::cpu::simd::{LANES, Simd, isa_kernel, load_up_to, store_up_to};
use crate::cpu::tile::{Accumulate, Broadcast, Panel, TILE_ROWS, any_tile};

/// Rows that are worked through at a time: a panel of so many rows of x stays in the first-level cache.
const ROW_BLOCK: usize = 96;

/// Widest panel of any instruction set.
const WIDEST: usize = 64;

/// Adds to the gradients of weight and bias.
pub(in crate::cpu) struct ParamGrad {
    pub rows: usize,
    pub out_features: usize,
    pub in_features: usize,
    /// `[rows, out_features]`
    pub dy: *const f32,
    /// `[rows, in_features]`
    pub x: *const f32,
    /// `[out_features, in_features]`
    pub dweight: *mut f32,
    /// `[out_features]`, or null.
    pub dbias: *mut f32,
    /// Whether the gradients are added to what is there.
    pub continues: bool,
}

#[inline(always)]
unsafe fn param_grad_generic<S: Simd>(args: &ParamGrad) {
    unsafe {
        if !args.dbias.is_null() {
            bias_grad::<S>(args);
        }
        let panel = LANES * S::TILE_VECTORS;
        let mut copy = [0.0f32; ROW_BLOCK * WIDEST];
        let mut column = 0;
        while column < args.in_features {
            let width = panel.min(args.in_features - column);
            let mut first = 0;
            while first < args.rows {
                let rows = ROW_BLOCK.min(args.rows - first);
                let x = args.x.add(first * args.in_features + column);
                // A panel as wide as x is contiguous as it stands.
                let b = if panel == args.in_features {
                    Panel { at: x, step: panel }
                } else {
                    copy_panel::<S>(rows, width, x, args.in_features, copy.as_mut_ptr(), panel);
                    Panel { at: copy.as_ptr(), step: panel }
                };
                let target =
                    Accumulate { to: args.dweight, stride: args.in_features, continues: args.continues || first > 0 };
                let dy = args.dy.add(first * args.out_features);
                let mut out = 0;
                while out < args.out_features {
                    let a = Broadcast { at: dy.add(out), row: 1, step: args.out_features };
                    let count = TILE_ROWS.min(args.out_features - out);
                    any_tile::<S, _, false>([count, out], [width, column], rows, a, b, &target);
                    out += TILE_ROWS;
                }
                first += rows;
            }
            column += panel;
        }
    }
}

#[inline(always)]
unsafe fn copy_panel<S: Simd>(rows: usize, width: usize, from: *const f32, stride: usize, to: *mut f32, panel: usize) {
    unsafe {
        for row in 0..rows {
            for vector in 0..width.div_ceil(LANES) {
                let (at, n) = (vector * LANES, width - vector * LANES);
                S::store(to.add(row * panel + at), load_up_to::<S>(from.add(row * stride + at), n));
            }
        }
    }
}

#[inline(always)]
unsafe fn bias_grad<S: Simd>(args: &ParamGrad) {
    /// Vectors whose sums run side by side, to hide the latency of an addition.
    const ABREAST: usize = 4;
    unsafe {
        let mut column = 0;
        while column < args.out_features {
            let mut sums = [S::splat(0.0); ABREAST];
            let n = |j: usize| (args.out_features - column).saturating_sub(j * LANES).min(LANES);
            if args.continues {
                for (j, sum) in sums.iter_mut().enumerate().filter(|(j, _)| n(*j) > 0) {
                    *sum = load_up_to::<S>(args.dbias.add(column + j * LANES), n(j));
                }
            }
            if n(ABREAST - 1) == LANES {
                for row in 0..args.rows {
                    let dy = args.dy.add(row * args.out_features + column);
                    for (j, sum) in sums.iter_mut().enumerate() {
                        *sum = S::add(*sum, S::load(dy.add(j * LANES)));
                    }
                }
            } else {
                for row in 0..args.rows {
                    let dy = args.dy.add(row * args.out_features + column);
                    for (j, sum) in sums.iter_mut().enumerate().filter(|(j, _)| n(*j) > 0) {
                        *sum = S::add(*sum, load_up_to::<S>(dy.add(j * LANES), n(j)));
                    }
                }
            }
            for (j, sum) in sums.iter().enumerate().filter(|(j, _)| n(*j) > 0) {
                store_up_to::<S>(args.dbias.add(column + j * LANES), n(j), *sum);
            }
            column += ABREAST * LANES;
        }
    }
}

isa_kernel! {
    /// Adds to the gradients of a linear layer's weight and bias.
    param_grad, param_grad_generic, ParamGrad
}
