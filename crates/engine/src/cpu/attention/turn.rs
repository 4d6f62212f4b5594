//! Rows of tokens turned into rows of features, and back.

use crate::cpu::simd::{LANES, Simd, load_up_to, store_up_to};

/// Writes `[rows, columns]` as `[columns, stride]` times a factor, where the stride is the rows rounded up to whole
/// vectors; 0 beyond the last row.
#[inline(always)]
pub(super) unsafe fn turn<S: Simd>(
    [rows, columns]: [usize; 2],
    from: *const f32,
    from_stride: usize,
    factor: f32,
    to: *mut f32,
) {
    unsafe {
        let stride = rows.next_multiple_of(LANES);
        let factor = S::splat(factor);
        let mut row = 0;
        while row < rows {
            let mut column = 0;
            while column < columns {
                let mut block = [S::splat(0.0); LANES];
                for (i, lanes) in block.iter_mut().enumerate().take(rows - row) {
                    let x = load_up_to::<S>(from.add((row + i) * from_stride + column), columns - column);
                    *lanes = S::mul(x, factor);
                }
                S::transpose(&mut block);
                for (i, lanes) in block.iter().enumerate().take(columns - column) {
                    S::store(to.add((column + i) * stride + row), *lanes);
                }
                column += LANES;
            }
            row += LANES;
        }
    }
}

/// Writes `[columns, stride]` as `[rows, columns]` times a factor.
#[inline(always)]
pub(super) unsafe fn turn_back<S: Simd>(
    [rows, columns]: [usize; 2],
    from: *const f32,
    factor: f32,
    to: *mut f32,
    to_stride: usize,
) {
    unsafe {
        let stride = rows.next_multiple_of(LANES);
        let factor = S::splat(factor);
        let mut row = 0;
        while row < rows {
            let mut column = 0;
            while column < columns {
                let mut block = [S::splat(0.0); LANES];
                for (i, lanes) in block.iter_mut().enumerate().take(columns - column) {
                    *lanes = S::mul(S::load(from.add((column + i) * stride + row)), factor);
                }
                S::transpose(&mut block);
                for (i, lanes) in block.iter().enumerate().take(rows - row) {
                    store_up_to::<S>(to.add((row + i) * to_stride + column), columns - column, *lanes);
                }
                column += LANES;
            }
            row += LANES;
        }
    }
}
