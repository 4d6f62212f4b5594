//! The one inner loop under all matrix products: a tile of C = A B that stays in registers.
//!
//! A is read number by number and broadcast, B vector by vector, so B's rows must be contiguous; A may have any
//! strides. Each element of C is one chain of multiply-adds in the order of the inner axis, whatever the tile's
//! size, so the blocking of a product never shows in its bits.

use super::simd::{LANES, Simd, load_up_to, store_up_to};

/// Rows of a full tile.
pub(super) const TILE_ROWS: usize = 6;

/// A matrix that is read number by number.
#[derive(Clone, Copy)]
pub(super) struct Broadcast {
    /// First element.
    pub at: *const f32,
    /// Distance between rows.
    pub row: usize,
    /// Distance between steps along the inner axis.
    pub step: usize,
}

/// A matrix that is read by vectors.
#[derive(Clone, Copy)]
pub(super) struct Panel {
    /// First element.
    pub at: *const f32,
    /// Distance between steps along the inner axis.
    pub step: usize,
}

/// Continues the sums `acc` of M rows and N vectors over `steps` of the inner axis.
#[inline(always)]
pub(super) unsafe fn tile<S: Simd, const M: usize, const N: usize>(
    steps: usize,
    a: Broadcast,
    b: Panel,
    mut acc: [[S::V; N]; M],
) -> [[S::V; N]; M] {
    unsafe {
        let (mut from_a, mut from_b) = (a.at, b.at);
        for _ in 0..steps {
            let mut columns = [S::splat(0.0); N];
            for (j, column) in columns.iter_mut().enumerate() {
                *column = S::load(from_b.add(j * LANES));
            }
            for (i, row) in acc.iter_mut().enumerate() {
                let x = S::splat(*from_a.add(i * a.row));
                for j in 0..N {
                    row[j] = S::mul_add(x, columns[j], row[j]);
                }
            }
            // Wrapping: after the last step these point outside.
            from_a = from_a.wrapping_add(a.step);
            from_b = from_b.wrapping_add(b.step);
        }
        acc
    }
}

/// Where a tile's sums start and what becomes of them.
pub(super) trait Target<S: Simd> {
    /// The sums' start; `width` columns count.
    unsafe fn start<const M: usize, const N: usize>(&self, row: usize, column: usize, width: usize) -> [[S::V; N]; M];
    /// Takes the finished sums.
    unsafe fn finish<const M: usize, const N: usize>(
        &self,
        acc: [[S::V; N]; M],
        row: usize,
        column: usize,
        width: usize,
    );
}

/// Computes one tile of up to 6 rows and `width` columns, at most `16 * TILE_VECTORS`.
#[inline(always)]
pub(super) unsafe fn any_tile<S: Simd, T: Target<S>>(
    [rows, row]: [usize; 2],
    [width, column]: [usize; 2],
    steps: usize,
    a: Broadcast,
    b: Panel,
    target: &T,
) {
    macro_rules! sized {
        ($m:literal, $n:literal) => {{
            let acc = target.start::<$m, $n>(row, column, width);
            target.finish::<$m, $n>(tile::<S, $m, $n>(steps, a, b, acc), row, column, width)
        }};
    }
    macro_rules! rows {
        ($n:literal) => {
            match rows {
                1 => sized!(1, $n),
                2 => sized!(2, $n),
                3 => sized!(3, $n),
                4 => sized!(4, $n),
                5 => sized!(5, $n),
                _ => sized!(6, $n),
            }
        };
    }
    debug_assert!(rows <= TILE_ROWS && width <= LANES * S::TILE_VECTORS);
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

/// Stores the sums times a factor.
pub(super) struct Store {
    /// First element of C.
    pub to: *mut f32,
    /// Distance between C's rows.
    pub stride: usize,
    /// What the sums are multiplied by.
    pub factor: f32,
}

impl<S: Simd> Target<S> for Store {
    #[inline(always)]
    unsafe fn start<const M: usize, const N: usize>(&self, _: usize, _: usize, _: usize) -> [[S::V; N]; M] {
        unsafe { [[S::splat(0.0); N]; M] }
    }

    #[inline(always)]
    unsafe fn finish<const M: usize, const N: usize>(
        &self,
        acc: [[S::V; N]; M],
        row: usize,
        column: usize,
        width: usize,
    ) {
        unsafe {
            let factor = S::splat(self.factor);
            for (i, sums) in acc.iter().enumerate() {
                let to = self.to.add((row + i) * self.stride + column);
                for (j, sum) in sums.iter().enumerate() {
                    store_up_to::<S>(to.add(j * LANES), width - j * LANES, S::mul(*sum, factor));
                }
            }
        }
    }
}

/// Goes on with the sums that stand in C, or starts them.
pub(super) struct Accumulate {
    /// First element of C.
    pub to: *mut f32,
    /// Distance between C's rows.
    pub stride: usize,
    /// Whether C holds sums to go on with.
    pub continues: bool,
}

impl<S: Simd> Target<S> for Accumulate {
    #[inline(always)]
    unsafe fn start<const M: usize, const N: usize>(&self, row: usize, column: usize, width: usize) -> [[S::V; N]; M] {
        unsafe {
            let mut acc = [[S::splat(0.0); N]; M];
            if self.continues {
                for (i, sums) in acc.iter_mut().enumerate() {
                    let from = self.to.add((row + i) * self.stride + column);
                    for (j, sum) in sums.iter_mut().enumerate() {
                        *sum = load_up_to::<S>(from.add(j * LANES), width - j * LANES);
                    }
                }
            }
            acc
        }
    }

    #[inline(always)]
    unsafe fn finish<const M: usize, const N: usize>(
        &self,
        acc: [[S::V; N]; M],
        row: usize,
        column: usize,
        width: usize,
    ) {
        unsafe {
            for (i, sums) in acc.iter().enumerate() {
                let to = self.to.add((row + i) * self.stride + column);
                for (j, sum) in sums.iter().enumerate() {
                    store_up_to::<S>(to.add(j * LANES), width - j * LANES, *sum);
                }
            }
        }
    }
}

/// Computes all tiles of C = A B for `rows` and `columns`, one panel of columns after the other.
#[inline(always)]
pub(super) unsafe fn product<S: Simd, T: Target<S>>(
    rows: usize,
    columns: usize,
    steps: usize,
    a: Broadcast,
    b: Panel,
    target: &T,
) {
    unsafe {
        let panel = LANES * S::TILE_VECTORS;
        let mut column = 0;
        while column < columns {
            let width = panel.min(columns - column);
            let b = Panel { at: b.at.add(column), step: b.step };
            let mut row = 0;
            while row < rows {
                let a = Broadcast { at: a.at.add(row * a.row), ..a };
                let count = TILE_ROWS.min(rows - row);
                any_tile::<S, T>([count, row], [width, column], steps, a, b, target);
                row += TILE_ROWS;
            }
            column += panel;
        }
    }
}
