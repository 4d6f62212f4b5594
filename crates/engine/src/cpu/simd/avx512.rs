//! AVX-512: one register holds 16 lanes.

use std::arch::x86_64::*;

use super::Simd;
use crate::cpu::Isa;

/// AVX-512 F, BW, DQ and VL.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Avx512;

// SAFETY (whole file): callers have the features enabled, see the trait.
impl Simd for Avx512 {
    type V = __m512;
    type U = __m512i;
    type M = __mmask16;
    const ISA: Isa = Isa::Avx512;
    const TILE_VECTORS: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, x: __m512) {
        unsafe { _mm512_storeu_ps(to, x) }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> __m512 {
        unsafe { _mm512_maskz_loadu_ps(Self::first(n), from) }
    }
    #[inline(always)]
    unsafe fn store_first(to: *mut f32, n: usize, x: __m512) {
        unsafe { _mm512_mask_storeu_ps(to, Self::first(n), x) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sqrt(a: __m512) -> __m512 {
        unsafe { _mm512_sqrt_ps(a) }
    }
    #[inline(always)]
    unsafe fn abs(a: __m512) -> __m512 {
        unsafe { _mm512_abs_ps(a) }
    }
    #[inline(always)]
    unsafe fn greater(a: __m512, b: __m512) -> __mmask16 {
        unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b) }
    }
    #[inline(always)]
    unsafe fn first(n: usize) -> __mmask16 {
        ((1u32 << n) - 1) as __mmask16
    }
    #[inline(always)]
    unsafe fn select(mask: __mmask16, yes: __m512, no: __m512) -> __m512 {
        unsafe { _mm512_mask_mov_ps(no, mask, yes) }
    }
    #[inline(always)]
    unsafe fn scale_exponent(x: __m512, whole: __m512) -> __m512 {
        unsafe {
            let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(whole));
            _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x), exponent))
        }
    }
    #[inline(always)]
    unsafe fn sum(a: __m512) -> f32 {
        unsafe {
            let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(a)));
            super::avx2::sum_256(_mm256_add_ps(_mm512_castps512_ps256(a), high))
        }
    }
    #[inline(always)]
    unsafe fn largest(a: __m512) -> f32 {
        unsafe { _mm512_reduce_max_ps(a) }
    }
    #[inline(always)]
    unsafe fn transpose(r: &mut [__m512; 16]) {
        unsafe {
            let zero = _mm512_setzero_ps();
            let pair = |a, b, high: bool| {
                let (a, b) = (_mm512_castps_pd(a), _mm512_castps_pd(b));
                _mm512_castpd_ps(if high { _mm512_unpackhi_pd(a, b) } else { _mm512_unpacklo_pd(a, b) })
            };
            let mut t = [zero; 16];
            for i in 0..8 {
                t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
            }
            // u[4 g + m] holds rows 4 g ... 4 g + 3, column m of each quarter.
            let mut u = [zero; 16];
            for i in 0..4 {
                u[4 * i] = pair(t[4 * i], t[4 * i + 2], false);
                u[4 * i + 1] = pair(t[4 * i], t[4 * i + 2], true);
                u[4 * i + 2] = pair(t[4 * i + 1], t[4 * i + 3], false);
                u[4 * i + 3] = pair(t[4 * i + 1], t[4 * i + 3], true);
            }
            for m in 0..4 {
                let a = _mm512_shuffle_f32x4::<0x88>(u[m], u[4 + m]);
                let b = _mm512_shuffle_f32x4::<0xDD>(u[m], u[4 + m]);
                let c = _mm512_shuffle_f32x4::<0x88>(u[8 + m], u[12 + m]);
                let d = _mm512_shuffle_f32x4::<0xDD>(u[8 + m], u[12 + m]);
                r[m] = _mm512_shuffle_f32x4::<0x88>(a, c);
                r[8 + m] = _mm512_shuffle_f32x4::<0xDD>(a, c);
                r[4 + m] = _mm512_shuffle_f32x4::<0x88>(b, d);
                r[12 + m] = _mm512_shuffle_f32x4::<0xDD>(b, d);
            }
        }
    }

    #[inline(always)]
    unsafe fn sums(r: &[__m512; 16]) -> __m512 {
        unsafe {
            // Each step adds the halves of what is left of two vectors and puts the results into one.
            let halves = |a, b| _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xEE>(a, b));
            let quarters = |a, b| _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xDD>(a, b));
            let pairs = |a, b| {
                let (a, b) = (_mm512_castps_pd(a), _mm512_castps_pd(b));
                let low = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                _mm512_add_ps(low, _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)))
            };
            let ones = |a, b| _mm512_add_ps(_mm512_shuffle_ps::<0x88>(a, b), _mm512_shuffle_ps::<0xDD>(a, b));
            // Rows are taken in the order that leaves the last result in the order of the rows.
            let mut four = [_mm512_setzero_ps(); 4];
            for (m, four) in four.iter_mut().enumerate() {
                *four = quarters(halves(r[m], r[m + 4]), halves(r[m + 8], r[m + 12]));
            }
            ones(pairs(four[0], four[1]), pairs(four[2], four[3]))
        }
    }

    #[inline(always)]
    unsafe fn u_splat(x: u32) -> __m512i {
        unsafe { _mm512_set1_epi32(x as i32) }
    }
    #[inline(always)]
    unsafe fn u_lanes() -> __m512i {
        unsafe { _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15) }
    }
    #[inline(always)]
    unsafe fn u_add(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_add_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn u_mul(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_mullo_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn u_xor_shift<const N: u32>(x: __m512i) -> __m512i {
        unsafe { _mm512_xor_si512(x, _mm512_srli_epi32::<N>(x)) }
    }
    #[inline(always)]
    unsafe fn u_low_at_least(x: __m512i, threshold: u32) -> __mmask16 {
        unsafe {
            let low = _mm512_and_si512(x, _mm512_set1_epi32(0xFFFF));
            _mm512_cmpge_epu32_mask(low, _mm512_set1_epi32(threshold as i32))
        }
    }
    #[inline(always)]
    unsafe fn u_high_at_least(x: __m512i, threshold: u32) -> __mmask16 {
        unsafe { _mm512_cmpge_epu32_mask(_mm512_srli_epi32::<16>(x), _mm512_set1_epi32(threshold as i32)) }
    }
}
