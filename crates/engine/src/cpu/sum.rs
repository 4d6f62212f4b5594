//! Sums of gradients, with the sum of squares from which the gradient's norm is computed.

use super::simd::{LANES, Simd, isa_kernel};

/// Adds one buffer to another, and optionally takes the sum of squares.
pub(super) struct Sum {
    /// Number of values, a multiple of 16.
    pub len: usize,
    /// Added to this.
    pub into: *mut f32,
    /// Null for nothing to add.
    pub from: *const f32,
    /// Where the sum of squares goes; null where it is not needed.
    pub squares: *mut f64,
}

#[inline(always)]
unsafe fn sum_generic<S: Simd>(args: &Sum) {
    unsafe {
        let mut squares = S::splat(0.0);
        let mut at = 0;
        while at < args.len {
            let mut x = S::load(args.into.add(at));
            if !args.from.is_null() {
                x = S::add(x, S::load(args.from.add(at)));
                S::store(args.into.add(at), x);
            }
            squares = S::mul_add(x, x, squares);
            at += LANES;
        }
        if !args.squares.is_null() {
            *args.squares = f64::from(S::sum(squares));
        }
    }
}

isa_kernel! {
    /// Adds one gradient to another.
    sum, sum_generic, Sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::optimizer::BLOCK;
    use crate::cpu::testing::{Guarded, check, numbers};

    #[test]
    fn sums_and_sums_of_squares_are_exact() {
        for len in [16, 32, 48, BLOCK] {
            let (a, b) = (numbers(1, len), numbers(2, len));
            for adds in [false, true] {
                let sum: Vec<f64> = (0..len).map(|i| f64::from(if adds { a[i] + b[i] } else { a[i] })).collect();
                let squares = vec![sum.iter().map(|x| x * x).sum()];
                check(format_args!("{len}, adds {adds}"), &[sum, squares], 3e-7, |isa| {
                    let (mut into, from, mut squares) = (Guarded::new(&a), Guarded::new(&b), f64::NAN);
                    let from = if adds { from.read() } else { std::ptr::null() };
                    unsafe { super::sum(isa, &Sum { len, into: into.pointer(), from, squares: &raw mut squares }) };
                    vec![into.values(), vec![squares as f32]]
                });
            }
        }
    }
}
