//! Vectors of 16 numbers, whatever the processor has: one register of AVX-512, two of AVX2, or a plain array.
//!
//! Every path has 16 lanes and adds them up in the same order, so that AVX-512 and AVX2 give the same bits.
//! The functions are inlined into kernels that are compiled once for each instruction set (see [`isa_kernel`]).
//!
//! # Safety
//! All functions may be called only where the processor has the instruction set of the implementing type; those
//! that take pointers need the lanes they name to lie inside one allocation.

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
pub(super) mod portable;

use super::Isa;

/// Number of lanes.
pub const LANES: usize = 16;

/// The operations of one instruction set. Lane numbers run from 0 to 15; masks choose lanes.
pub(super) trait Simd: Copy {
    /// 16 numbers.
    type V: Copy;
    /// 16 unsigned 32-bit integers.
    type U: Copy;
    /// 16 truth values.
    type M: Copy;
    /// The instruction set.
    const ISA: Isa;
    /// Vectors that a matrix product's tile is wide.
    const TILE_VECTORS: usize;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn store(to: *mut f32, x: Self::V);
    /// Loads the first `n` lanes, 0 in the others; reads nothing beyond.
    unsafe fn load_first(from: *const f32, n: usize) -> Self::V;
    /// Stores the first `n` lanes.
    unsafe fn store_first(to: *mut f32, n: usize, x: Self::V);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once where the processor can.
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The greater of two; `b` where one is NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The smaller of two; `b` where one is NaN.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sqrt(a: Self::V) -> Self::V;
    unsafe fn abs(a: Self::V) -> Self::V;
    unsafe fn greater(a: Self::V, b: Self::V) -> Self::M;
    /// The first `n` lanes.
    unsafe fn first(n: usize) -> Self::M;
    unsafe fn select(mask: Self::M, yes: Self::V, no: Self::V) -> Self::V;
    /// Adds the integer in the low bits of `whole` (a sum with [`ROUND`]) to the exponent of `x`.
    unsafe fn scale_exponent(x: Self::V, whole: Self::V) -> Self::V;
    /// Sum of all lanes: halves are added lane by lane until one lane is left.
    unsafe fn sum(a: Self::V) -> f32;
    unsafe fn largest(a: Self::V) -> f32;
    /// Transposes 16 rows of 16.
    unsafe fn transpose(rows: &mut [Self::V; 16]);
    /// The sums of 16 vectors, each as [`Simd::sum`] adds it up.
    #[inline(always)]
    unsafe fn sums(rows: &[Self::V; 16]) -> Self::V {
        unsafe {
            let mut turned = *rows;
            Self::transpose(&mut turned);
            let mut half = LANES / 2;
            while half > 0 {
                for i in 0..half {
                    turned[i] = Self::add(turned[i], turned[i + half]);
                }
                half /= 2;
            }
            turned[0]
        }
    }

    unsafe fn u_splat(x: u32) -> Self::U;
    /// 0, 1, ..., 15.
    unsafe fn u_lanes() -> Self::U;
    unsafe fn u_add(a: Self::U, b: Self::U) -> Self::U;
    unsafe fn u_mul(a: Self::U, b: Self::U) -> Self::U;
    /// `x ^ (x >> N)`.
    unsafe fn u_xor_shift<const N: u32>(x: Self::U) -> Self::U;
    /// Whether the low 16 bits are at least `threshold`.
    unsafe fn u_low_at_least(x: Self::U, threshold: u32) -> Self::M;
    /// Whether the high 16 bits are at least `threshold`.
    unsafe fn u_high_at_least(x: Self::U, threshold: u32) -> Self::M;
}

/// Added to a number of less than 2^22, leaves its nearest integer in the low bits (1.5 * 2^23).
pub(super) const ROUND: f32 = 12_582_912.0;

/// Defines a kernel for every instruction set: a function generic over [`Simd`], compiled with the features of each.
///
/// `isa_kernel!(name, generic, Args)` makes `name(isa, &Args)`.
macro_rules! isa_kernel {
    ($(#[$doc:meta])* $name:ident, $generic:ident, $args:ty) => {
        $(#[$doc])*
        pub(in crate::cpu) unsafe fn $name(isa: $crate::cpu::Isa, args: &$args) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            unsafe fn avx512(args: &$args) {
                // SAFETY: this function's features are those the type needs; the caller vouches for the pointers.
                unsafe { $generic::<$crate::cpu::simd::avx512::Avx512>(args) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2(args: &$args) {
                // SAFETY: as above.
                unsafe { $generic::<$crate::cpu::simd::avx2::Avx2>(args) }
            }
            // SAFETY: `Isa` values exist only for instruction sets that the processor has.
            match isa {
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::Isa::Avx512 => unsafe { avx512(args) },
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::Isa::Avx2 => unsafe { avx2(args) },
                _ => unsafe { $generic::<$crate::cpu::simd::portable::Portable>(args) },
            }
        }
    };
}
pub(in crate::cpu) use isa_kernel;

/// 2^x to 2e-9 of its value before rounding; x is clamped to -126 ... 127, and NaN stays NaN.
#[inline(always)]
pub(super) unsafe fn exp2<S: Simd>(x: S::V) -> S::V {
    unsafe { exp2_below_127::<S>(S::min(S::splat(127.0), x)) }
}

/// The same where x is known to be at most 127: differences to a largest value.
#[inline(always)]
pub(super) unsafe fn exp2_below_127<S: Simd>(x: S::V) -> S::V {
    // A minimax polynomial of 2^f on [-0.5, 0.5], with x = whole + f; its last term is ln 2 in f32.
    const TERMS: [f32; 6] =
        [0.000_153_458_07, 0.001_339_993_1, 0.009_618_489, 0.055_503_286, 0.240_226_46, std::f32::consts::LN_2];
    unsafe {
        // The constants come first, so that NaN stays NaN.
        let x = S::max(S::splat(-126.0), x);
        let whole = S::add(x, S::splat(ROUND));
        let f = S::sub(x, S::sub(whole, S::splat(ROUND)));
        let mut p = S::splat(TERMS[0]);
        for term in &TERMS[1..] {
            p = S::mul_add(p, f, S::splat(*term));
        }
        S::scale_exponent(S::mul_add(p, f, S::splat(1.0)), whole)
    }
}

/// Loads `n` of 16 lanes; the common case of a whole vector takes no mask.
#[inline(always)]
pub(super) unsafe fn load_up_to<S: Simd>(from: *const f32, n: usize) -> S::V {
    unsafe { if n >= LANES { S::load(from) } else { S::load_first(from, n) } }
}

/// Stores `n` of 16 lanes; the common case of a whole vector takes no mask.
#[inline(always)]
pub(super) unsafe fn store_up_to<S: Simd>(to: *mut f32, n: usize, x: S::V) {
    unsafe { if n >= LANES { S::store(to, x) } else { S::store_first(to, n, x) } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Isa;
    use crate::cpu::testing::{Guarded, numbers, same_bits};

    pub(in crate::cpu) struct Exp2 {
        len: usize,
        x: *const f32,
        out: *mut f32,
    }

    unsafe fn exp2_generic<S: Simd>(args: &Exp2) {
        for at in (0..args.len).step_by(LANES) {
            let n = args.len - at;
            unsafe { store_up_to::<S>(args.out.add(at), n, exp2::<S>(load_up_to::<S>(args.x.add(at), n))) };
        }
    }

    isa_kernel! {
        /// 2^x of many values.
        all_exp2, exp2_generic, Exp2
    }

    #[test]
    fn exp2_is_right_to_two_roundings_and_clamped_at_both_ends() {
        let mut x: Vec<f32> = (-126 * 1024..=127 * 1024).map(|i| i as f32 / 1024.0 + 1e-4).collect();
        x.extend([-126.0, 127.0, 0.0, -0.0, 0.5, -0.5, f32::MIN_POSITIVE]);
        let good = x.len();
        x.extend([-126.5, -1e9, f32::NEG_INFINITY]);
        let clamped = x.len();
        x.push(f32::NAN);
        for isa in Isa::available() {
            let (input, mut out) = (Guarded::new(&x), Guarded::unset(x.len()));
            unsafe { all_exp2(isa, &Exp2 { len: x.len(), x: input.read(), out: out.pointer() }) };
            let out = out.values();
            for (x, y) in x.iter().zip(&out).take(good) {
                let exact = f64::from(x.min(127.0)).exp2();
                let error = (f64::from(*y) / exact - 1.0).abs();
                assert!(error <= 1.2e-7, "{isa:?}: 2^{x} is off by {error:e} of its value");
            }
            assert!(out[clamped].is_nan(), "{isa:?}: {}", out[clamped]);
            assert!(out[good..clamped].iter().all(|&y| y == f32::MIN_POSITIVE), "{isa:?}: {:?}", &out[good..clamped]);
        }
    }

    pub(in crate::cpu) struct Lanes {
        n: usize,
        rows: *const f32,
        out: *mut f32,
    }

    /// Everything that moves lanes: 16 rows turned, the first `n` of a row, sum, largest, selection, all rows' sums.
    unsafe fn lanes_generic<S: Simd>(args: &Lanes) {
        unsafe {
            let mut rows = [S::splat(0.0); LANES];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = S::load(args.rows.add(i * LANES));
            }
            let (first, sums) = (rows[0], rows);
            S::transpose(&mut rows);
            for (i, row) in rows.iter().enumerate() {
                S::store(args.out.add(i * LANES), *row);
            }
            let rest = args.out.add(LANES * LANES);
            S::store(rest, S::select(S::first(args.n), first, S::splat(7.0)));
            *rest.add(16) = S::sum(first);
            *rest.add(17) = S::largest(first);
            // Only as many lanes as are asked for: the last call of all writes right up to the guard.
            S::store(rest.add(18), S::sums(&sums));
            store_up_to::<S>(rest.add(34), args.n, load_up_to::<S>(args.rows.add(LANES * LANES - args.n), args.n));
        }
    }

    isa_kernel! {
        /// Moves lanes about.
        move_lanes, lanes_generic, Lanes
    }

    #[test]
    fn lanes_are_turned_summed_and_cut_the_same_on_every_path() {
        let rows = numbers(1, LANES * LANES);
        for n in 1..=LANES {
            let mut expected: Vec<f32> = (0..LANES * LANES).map(|i| rows[i % LANES * LANES + i / LANES]).collect();
            expected.extend((0..LANES).map(|i| if i < n { rows[i] } else { 7.0 }));
            // Halves are added lane by lane.
            let sum = |row: &[f32]| {
                let mut sum = row.to_vec();
                while sum.len() > 1 {
                    let half = sum.len() / 2;
                    sum = (0..half).map(|i| sum[i] + sum[half + i]).collect();
                }
                sum[0]
            };
            expected.push(sum(&rows[..LANES]));
            expected.push(rows[..LANES].iter().copied().fold(f32::MIN, f32::max));
            expected.extend(rows.chunks_exact(LANES).map(sum));
            expected.extend(&rows[LANES * LANES - n..]);
            for isa in Isa::available() {
                let (input, mut out) = (Guarded::new(&rows), Guarded::unset(expected.len()));
                unsafe { move_lanes(isa, &Lanes { n, rows: input.read(), out: out.pointer() }) };
                assert!(same_bits(&[out.values()], std::slice::from_ref(&expected)), "{isa:?}, {n} lanes");
            }
        }
    }
}
