//! Dropout masks on vectors: the same draws as [`Dropout::keeps`](crate::ops::Dropout::keeps), 16 values at a time.

use super::simd::{LANES, Simd, isa_kernel, load_up_to, store_up_to};
use crate::ops::dropout_hash;

/// One dropout, for the images of a chunk.
#[derive(Clone, Copy)]
pub(super) struct Mask {
    /// Two keys for each image of the chunk.
    pub keys: *const [u32; 2],
    /// Values with 16 random bits below this are dropped.
    pub threshold: u32,
    /// What kept values are multiplied by.
    pub scale: f32,
    /// Rows of one image.
    pub rows_per_image: usize,
    /// Values in a row.
    pub features: usize,
}

/// The random bits of one row of one image.
pub(super) struct RowBits<S: Simd> {
    start: S::U,
    second: S::U,
    bits: S::U,
    threshold: u32,
}

impl Mask {
    /// Prepares the draws for one row of the chunk.
    #[inline(always)]
    pub unsafe fn row<S: Simd>(&self, row: usize) -> RowBits<S> {
        unsafe {
            let keys = *self.keys.add(row / self.rows_per_image);
            let first_block = (row % self.rows_per_image) * self.features.div_ceil(32);
            self.row_of::<S>(keys, first_block)
        }
    }

    /// Prepares the draws for a row whose blocks of 32 values start at number `first_block`.
    #[inline(always)]
    pub unsafe fn row_of<S: Simd>(&self, keys: [u32; 2], first_block: usize) -> RowBits<S> {
        unsafe {
            let lanes = S::u_mul(S::u_lanes(), S::u_splat(dropout_hash::STEP));
            let start = ((first_block * 16) as u32).wrapping_mul(dropout_hash::STEP).wrapping_add(keys[0]);
            let start = S::u_add(lanes, S::u_splat(start));
            RowBits { start, second: S::u_splat(keys[1]), bits: start, threshold: self.threshold }
        }
    }
}

impl<S: Simd> RowBits<S> {
    /// Returns which of the 16 values at vector `vector` of the row are kept.
    ///
    /// Two neighboring vectors share one draw: ask for the even one first, or set `fresh`.
    #[inline(always)]
    pub unsafe fn keeps(&mut self, vector: usize, fresh: bool) -> S::M {
        unsafe {
            if fresh || vector.is_multiple_of(2) {
                let step = ((vector / 2 * 16) as u32).wrapping_mul(dropout_hash::STEP);
                let x = S::u_xor_shift::<16>(S::u_add(self.start, S::u_splat(step)));
                let x = S::u_add(S::u_mul(x, S::u_splat(dropout_hash::FIRST)), self.second);
                let x = S::u_mul(S::u_xor_shift::<15>(x), S::u_splat(dropout_hash::SECOND));
                self.bits = S::u_xor_shift::<15>(x);
            }
            if vector.is_multiple_of(2) {
                S::u_low_at_least(self.bits, self.threshold)
            } else {
                S::u_high_at_least(self.bits, self.threshold)
            }
        }
    }
}

/// Drops values outside a product; the backward pass is the same function of the gradient.
pub(super) struct Drop {
    /// Which values are dropped.
    pub mask: Mask,
    /// Rows of the chunk.
    pub rows: usize,
    /// The values.
    pub x: *const f32,
    /// The result; may be `x`.
    pub out: *mut f32,
}

#[inline(always)]
unsafe fn drop_generic<S: Simd>(args: &Drop) {
    unsafe {
        let features = args.mask.features;
        let scale = S::splat(args.mask.scale);
        for row in 0..args.rows {
            let mut bits = args.mask.row::<S>(row);
            for vector in 0..features.div_ceil(LANES) {
                let (at, n) = (row * features + vector * LANES, features - vector * LANES);
                let x = S::mul(load_up_to::<S>(args.x.add(at), n), scale);
                let kept = S::select(bits.keeps(vector, false), x, S::splat(0.0));
                store_up_to::<S>(args.out.add(at), n, kept);
            }
        }
    }
}

isa_kernel! {
    /// Zeroes values at random and scales the others.
    drop_values, drop_generic, Drop
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::{Draws, Guarded, check, numbers, wide};

    #[test]
    fn the_same_values_are_dropped_as_the_graph_says() {
        for features in [1, 2, 15, 16, 17, 31, 32, 33, 47, 65, 97] {
            for (images, rows_per_image) in [(1, 1), (1, 5), (3, 7)] {
                let rows = images * rows_per_image;
                let (x, draws) = (numbers(1, rows * features), Draws::new(0.3, images));
                let expected = [draws.apply(&wide(&x), features)];
                for in_place in [false, true] {
                    let what = format_args!("{images} x {rows_per_image} x {features}, in place {in_place}");
                    // One rounding: the mask itself has to be exact.
                    check(what, &expected, 6e-8, |isa| {
                        let (mut input, mut out) = (Guarded::new(&x), Guarded::unset(x.len()));
                        let to = if in_place { input.pointer() } else { out.pointer() };
                        let mask = draws.mask(rows_per_image, features);
                        unsafe { drop_values(isa, &Drop { mask, rows, x: input.read(), out: to }) };
                        vec![if in_place { input.values() } else { out.values() }]
                    });
                }
            }
        }
    }
}
