//! The inner loop of all matrix products: a tile of C = A B that stays in registers.
//!
//! A is read number by number and broadcast, B vector by vector, so B's rows must be contiguous; A may have any
//! strides. Each element of C is one chain of multiply-adds in the order of the inner axis, whatever the tile's
//! size, so the blocking of a product never shows in its bits.

use super::simd::{LANES, Simd, isa_kernel, load_up_to, store_up_to};

/// Rows of a full tile.
pub const TILE_ROWS: usize = 6;

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

/// Loads N vectors of a row of `width` values. `RAGGED` means that the width is not a multiple of 16: then the last
/// vector is masked, because memory after the row may belong to another thread or be unmapped.
#[inline(always)]
pub(super) unsafe fn load_row<S: Simd, const N: usize, const RAGGED: bool>(
    from: *const f32,
    width: usize,
) -> [S::V; N] {
    unsafe {
        let mut row = [S::splat(0.0); N];
        for (j, x) in row.iter_mut().enumerate() {
            let from = from.add(j * LANES);
            *x = if RAGGED && j + 1 == N { S::load_first(from, width - (N - 1) * LANES) } else { S::load(from) };
        }
        row
    }
}

/// Continues the sums `acc` of M rows and N vectors over `steps` of the inner axis. Rows of B have `width` values; see
/// [`load_row`] for `RAGGED`.
#[inline(always)]
unsafe fn tile<S: Simd, const M: usize, const N: usize, const RAGGED: bool>(
    steps: usize,
    a: Broadcast,
    b: Panel,
    width: usize,
    mut acc: [[S::V; N]; M],
) -> [[S::V; N]; M] {
    unsafe {
        let (mut from_a, mut from_b) = (a.at, b.at);
        for _ in 0..steps {
            let columns = load_row::<S, N, RAGGED>(from_b, width);
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

/// Computes one tile of up to 6 rows and `width` columns, at most `16 * TILE_VECTORS`. B's rows are whole vectors, unless
/// `RAGGED` says that they end with the columns.
#[inline(always)]
pub(super) unsafe fn any_tile<S: Simd, T: Target<S>, const RAGGED: bool>(
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
            target.finish::<$m, $n>(tile::<S, $m, $n, RAGGED>(steps, a, b, width, acc), row, column, width)
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

/// Stores the sums times a factor, or adds them to what is there.
pub(super) struct Store {
    /// First element of C.
    pub to: *mut f32,
    /// Distance between C's rows.
    pub stride: usize,
    /// What the sums are multiplied by.
    pub factor: f32,
    /// Whether the result is added to C.
    pub adds: bool,
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
                    let (to, n) = (to.add(j * LANES), width - j * LANES);
                    let result =
                        if self.adds { S::mul_add(*sum, factor, load_up_to::<S>(to, n)) } else { S::mul(*sum, factor) };
                    store_up_to::<S>(to, n, result);
                }
            }
        }
    }
}

/// Continues the sums in C, or starts them.
pub(super) struct Accumulate {
    /// First element of C.
    pub to: *mut f32,
    /// Distance between C's rows.
    pub stride: usize,
    /// Whether C holds sums to continue.
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

/// Computes all tiles of C = A B for `rows` and `columns`, one panel of columns after the other. No more than the columns
/// is read of B's rows.
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
                if width.is_multiple_of(LANES) {
                    any_tile::<S, T, false>([count, row], [width, column], steps, a, b, target);
                } else {
                    any_tile::<S, T, true>([count, row], [width, column], steps, a, b, target);
                }
                row += TILE_ROWS;
            }
            column += panel;
        }
    }
}

/// A product of matrices on its own: `to = factor A B`.
pub(super) struct MatrixProduct {
    pub rows: usize,
    pub columns: usize,
    /// Length of the inner axis.
    pub steps: usize,
    pub a: Broadcast,
    pub b: Panel,
    pub target: Store,
}

#[inline(always)]
unsafe fn matrix_product_generic<S: Simd>(args: &MatrixProduct) {
    unsafe { product::<S, _>(args.rows, args.columns, args.steps, args.a, args.b, &args.target) }
}

isa_kernel! {
    /// Multiplies two matrices. One copy of the code serves every product of attention.
    matrix_product, matrix_product_generic, MatrixProduct
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::{Guarded, check, numbers};

    pub(in crate::cpu) struct Multiply {
        size: [usize; 3],
        a: Broadcast,
        b: Panel,
        to: *mut f32,
        stride: usize,
        /// A factor for stored sums; none for continued sums.
        factor: Option<f32>,
        adds: bool,
    }

    unsafe fn multiply_generic<S: Simd>(args: &Multiply) {
        let &Multiply { size: [rows, columns, steps], a, b, to, stride, factor, adds } = args;
        unsafe {
            match factor {
                Some(factor) => product::<S, _>(rows, columns, steps, a, b, &Store { to, stride, factor, adds }),
                None => {
                    let target = Accumulate { to, stride, continues: true };
                    product::<S, _>(rows, columns, steps, a, b, &target);
                }
            }
        }
    }

    isa_kernel! {
        /// C = A B, all ways.
        multiply, multiply_generic, Multiply
    }

    #[test]
    fn products_of_any_size_and_stride_equal_a_plain_loop() {
        for rows in [1, 2, 3, 5, 6, 7, 13] {
            for columns in [1, 2, 5, 15, 16, 17, 31, 33, 47, 63, 65, 97] {
                for steps in [1, 2, 7, 33] {
                    // A as it is and turned; B and C with gaps between their rows.
                    for (across, factor, adds) in
                        [(false, Some(0.7), false), (true, Some(0.7), true), (true, None, true)]
                    {
                        let (a_row, a_step) = if across { (1, rows + 2) } else { (steps + 1, 1) };
                        let (b_step, stride) = (columns + 3, columns + 1);
                        let a = numbers(1, (rows - 1) * a_row + (steps - 1) * a_step + 1);
                        let b = numbers(2, (steps - 1) * b_step + columns);
                        let c = numbers(3, (rows - 1) * stride + columns);
                        let mut expected: Vec<f64> = c.iter().map(|&x| f64::from(x)).collect();
                        for row in 0..rows {
                            for column in 0..columns {
                                let terms = (0..steps).map(|step| {
                                    f64::from(a[row * a_row + step * a_step]) * f64::from(b[step * b_step + column])
                                });
                                let c = &mut expected[row * stride + column];
                                let before = if adds { *c } else { 0.0 };
                                *c = before + terms.sum::<f64>() * factor.map_or(1.0, f64::from);
                            }
                        }
                        // What lies between C's rows must stay: it is compared too.
                        check(
                            format_args!("{rows} x {columns} x {steps}, across {across}, {factor:?}, adds {adds}"),
                            &[expected],
                            1e-6,
                            |isa| {
                                let (a, b, mut c) = (Guarded::new(&a), Guarded::new(&b), Guarded::new(&c));
                                let args = Multiply {
                                    size: [rows, columns, steps],
                                    a: Broadcast { at: a.read(), row: a_row, step: a_step },
                                    b: Panel { at: b.read(), step: b_step },
                                    to: c.pointer(),
                                    stride,
                                    factor,
                                    adds,
                                };
                                unsafe { multiply(isa, &args) };
                                vec![c.values()]
                            },
                        );
                    }
                }
            }
        }
    }
}
