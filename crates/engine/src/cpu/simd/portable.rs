//! Plain arrays, which the compiler turns into whatever vectors every processor of the target has.

use super::{LANES, Simd};
use crate::cpu::Isa;

/// No instruction set beyond the target's own.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Portable;

type Lanes = [f32; LANES];

#[inline(always)]
fn each(f: impl Fn(usize) -> f32) -> Lanes {
    std::array::from_fn(f)
}

#[inline(always)]
fn fold(mut a: Lanes, f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            a[i] = f(a[i], a[i + half]);
        }
        half /= 2;
    }
    a[0]
}

/// 64-bit Arm always has a fused multiply-add; elsewhere one in software would be far slower than two roundings.
#[inline(always)]
fn mul_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(target_arch = "aarch64") { a.mul_add(b, c) } else { a * b + c }
}

// SAFETY (whole file): only the pointers matter, see the trait.
impl Simd for Portable {
    type V = Lanes;
    type U = [u32; LANES];
    type M = [bool; LANES];
    const ISA: Isa = Isa::Portable;
    const TILE_VECTORS: usize = 1;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Lanes {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Lanes {
        unsafe { from.cast::<Lanes>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, x: Lanes) {
        unsafe { to.cast::<Lanes>().write_unaligned(x) }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> Lanes {
        let mut lanes = [0.0; LANES];
        for (i, lane) in lanes.iter_mut().enumerate().take(n) {
            *lane = unsafe { *from.add(i) };
        }
        lanes
    }
    #[inline(always)]
    unsafe fn store_first(to: *mut f32, n: usize, x: Lanes) {
        for (i, lane) in x.iter().enumerate().take(n) {
            unsafe { *to.add(i) = *lane };
        }
    }
    #[inline(always)]
    unsafe fn add(a: Lanes, b: Lanes) -> Lanes {
        each(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: Lanes, b: Lanes) -> Lanes {
        each(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: Lanes, b: Lanes) -> Lanes {
        each(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn div(a: Lanes, b: Lanes) -> Lanes {
        each(|i| a[i] / b[i])
    }
    #[inline(always)]
    unsafe fn mul_add(a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        each(|i| mul_add(a[i], b[i], c[i]))
    }
    #[inline(always)]
    unsafe fn max(a: Lanes, b: Lanes) -> Lanes {
        each(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn min(a: Lanes, b: Lanes) -> Lanes {
        each(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn sqrt(a: Lanes) -> Lanes {
        each(|i| a[i].sqrt())
    }
    #[inline(always)]
    unsafe fn abs(a: Lanes) -> Lanes {
        each(|i| a[i].abs())
    }
    #[inline(always)]
    unsafe fn greater(a: Lanes, b: Lanes) -> [bool; LANES] {
        std::array::from_fn(|i| a[i] > b[i])
    }
    #[inline(always)]
    unsafe fn first(n: usize) -> [bool; LANES] {
        std::array::from_fn(|i| i < n)
    }
    #[inline(always)]
    unsafe fn select(mask: [bool; LANES], yes: Lanes, no: Lanes) -> Lanes {
        each(|i| if mask[i] { yes[i] } else { no[i] })
    }
    #[inline(always)]
    unsafe fn scale_exponent(x: Lanes, whole: Lanes) -> Lanes {
        each(|i| f32::from_bits(x[i].to_bits().wrapping_add(whole[i].to_bits() << 23)))
    }
    #[inline(always)]
    unsafe fn sum(a: Lanes) -> f32 {
        fold(a, |x, y| x + y)
    }
    #[inline(always)]
    unsafe fn largest(a: Lanes) -> f32 {
        fold(a, f32::max)
    }
    #[inline(always)]
    unsafe fn transpose(rows: &mut [Lanes; 16]) {
        let before = *rows;
        for (i, row) in rows.iter_mut().enumerate() {
            *row = each(|j| before[j][i]);
        }
    }

    #[inline(always)]
    unsafe fn u_splat(x: u32) -> [u32; LANES] {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn u_lanes() -> [u32; LANES] {
        std::array::from_fn(|i| i as u32)
    }
    #[inline(always)]
    unsafe fn u_add(a: [u32; LANES], b: [u32; LANES]) -> [u32; LANES] {
        std::array::from_fn(|i| a[i].wrapping_add(b[i]))
    }
    #[inline(always)]
    unsafe fn u_mul(a: [u32; LANES], b: [u32; LANES]) -> [u32; LANES] {
        std::array::from_fn(|i| a[i].wrapping_mul(b[i]))
    }
    #[inline(always)]
    unsafe fn u_xor_shift<const N: u32>(x: [u32; LANES]) -> [u32; LANES] {
        x.map(|x| x ^ (x >> N))
    }
    #[inline(always)]
    unsafe fn u_low_at_least(x: [u32; LANES], threshold: u32) -> [bool; LANES] {
        x.map(|x| x & 0xFFFF >= threshold)
    }
    #[inline(always)]
    unsafe fn u_high_at_least(x: [u32; LANES], threshold: u32) -> [bool; LANES] {
        x.map(|x| x >> 16 >= threshold)
    }
}
