//! AVX2 with FMA: two registers hold 16 lanes.

use std::arch::x86_64::*;

use super::Simd;
use crate::cpu::Isa;

/// AVX2 and FMA.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Avx2;

/// Adds up 8 lanes, halving.
#[inline(always)]
pub(super) unsafe fn sum_256(a: __m256) -> f32 {
    unsafe {
        let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    }
}

#[inline(always)]
unsafe fn transpose_8(r: [__m256; 8]) -> [__m256; 8] {
    unsafe {
        let zero = _mm256_setzero_ps();
        let mut t = [zero; 8];
        for i in 0..4 {
            t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
            t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
        }
        let mut u = [zero; 8];
        for i in 0..2 {
            u[4 * i] = _mm256_shuffle_ps::<0x44>(t[4 * i], t[4 * i + 2]);
            u[4 * i + 1] = _mm256_shuffle_ps::<0xEE>(t[4 * i], t[4 * i + 2]);
            u[4 * i + 2] = _mm256_shuffle_ps::<0x44>(t[4 * i + 1], t[4 * i + 3]);
            u[4 * i + 3] = _mm256_shuffle_ps::<0xEE>(t[4 * i + 1], t[4 * i + 3]);
        }
        let mut out = [zero; 8];
        for m in 0..4 {
            out[m] = _mm256_permute2f128_ps::<0x20>(u[m], u[4 + m]);
            out[4 + m] = _mm256_permute2f128_ps::<0x31>(u[m], u[4 + m]);
        }
        out
    }
}

/// A mask for loads and stores: all bits of the lanes below `n`.
#[inline(always)]
unsafe fn lanes_below(n: usize, base: i32) -> __m256i {
    unsafe {
        let lanes = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(base));
        _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), lanes)
    }
}

type Pair = [__m256; 2];

// SAFETY (whole file): callers have the features enabled, see the trait.
impl Simd for Avx2 {
    type V = Pair;
    type U = [__m256i; 2];
    type M = Pair;
    const ISA: Isa = Isa::Avx2;
    const TILE_VECTORS: usize = 1;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Pair {
        unsafe { [_mm256_set1_ps(x); 2] }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Pair {
        unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, x: Pair) {
        unsafe {
            _mm256_storeu_ps(to, x[0]);
            _mm256_storeu_ps(to.add(8), x[1]);
        }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> Pair {
        // A lane that is not loaded may lie outside the allocation, so the address is made without `add`.
        unsafe {
            let low = _mm256_maskload_ps(from, lanes_below(n, 0));
            [low, _mm256_maskload_ps(from.wrapping_add(8), lanes_below(n, 8))]
        }
    }
    #[inline(always)]
    unsafe fn store_first(to: *mut f32, n: usize, x: Pair) {
        unsafe {
            _mm256_maskstore_ps(to, lanes_below(n, 0), x[0]);
            _mm256_maskstore_ps(to.wrapping_add(8), lanes_below(n, 8), x[1]);
        }
    }
    #[inline(always)]
    unsafe fn add(a: Pair, b: Pair) -> Pair {
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn sub(a: Pair, b: Pair) -> Pair {
        unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn mul(a: Pair, b: Pair) -> Pair {
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn div(a: Pair, b: Pair) -> Pair {
        unsafe { [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn mul_add(a: Pair, b: Pair, c: Pair) -> Pair {
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }
    #[inline(always)]
    unsafe fn max(a: Pair, b: Pair) -> Pair {
        unsafe { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn min(a: Pair, b: Pair) -> Pair {
        unsafe { [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn sqrt(a: Pair) -> Pair {
        unsafe { [_mm256_sqrt_ps(a[0]), _mm256_sqrt_ps(a[1])] }
    }
    #[inline(always)]
    unsafe fn abs(a: Pair) -> Pair {
        unsafe {
            let sign = _mm256_set1_ps(-0.0);
            [_mm256_andnot_ps(sign, a[0]), _mm256_andnot_ps(sign, a[1])]
        }
    }
    #[inline(always)]
    unsafe fn greater(a: Pair, b: Pair) -> Pair {
        unsafe { [_mm256_cmp_ps::<_CMP_GT_OQ>(a[0], b[0]), _mm256_cmp_ps::<_CMP_GT_OQ>(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn first(n: usize) -> Pair {
        unsafe { [_mm256_castsi256_ps(lanes_below(n, 0)), _mm256_castsi256_ps(lanes_below(n, 8))] }
    }
    #[inline(always)]
    unsafe fn select(mask: Pair, yes: Pair, no: Pair) -> Pair {
        unsafe { [_mm256_blendv_ps(no[0], yes[0], mask[0]), _mm256_blendv_ps(no[1], yes[1], mask[1])] }
    }
    #[inline(always)]
    unsafe fn scale_exponent(x: Pair, whole: Pair) -> Pair {
        unsafe {
            let scale = |x, whole| {
                let exponent = _mm256_slli_epi32::<23>(_mm256_castps_si256(whole));
                _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), exponent))
            };
            [scale(x[0], whole[0]), scale(x[1], whole[1])]
        }
    }
    #[inline(always)]
    unsafe fn sum(a: Pair) -> f32 {
        unsafe { sum_256(_mm256_add_ps(a[0], a[1])) }
    }
    #[inline(always)]
    unsafe fn largest(a: Pair) -> f32 {
        unsafe {
            let eight = _mm256_max_ps(a[0], a[1]);
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    unsafe fn transpose(r: &mut [Pair; 16]) {
        unsafe {
            let mut blocks = [[[_mm256_setzero_ps(); 8]; 2]; 2];
            for (i, row) in r.iter().enumerate() {
                blocks[i / 8][0][i % 8] = row[0];
                blocks[i / 8][1][i % 8] = row[1];
            }
            for row_half in 0..2 {
                for column_half in 0..2 {
                    let turned = transpose_8(blocks[row_half][column_half]);
                    for (i, lanes) in turned.into_iter().enumerate() {
                        r[8 * column_half + i][row_half] = lanes;
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn u_splat(x: u32) -> [__m256i; 2] {
        unsafe { [_mm256_set1_epi32(x as i32); 2] }
    }
    #[inline(always)]
    unsafe fn u_lanes() -> [__m256i; 2] {
        unsafe { [_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)] }
    }
    #[inline(always)]
    unsafe fn u_add(a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
        unsafe { [_mm256_add_epi32(a[0], b[0]), _mm256_add_epi32(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn u_mul(a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
        unsafe { [_mm256_mullo_epi32(a[0], b[0]), _mm256_mullo_epi32(a[1], b[1])] }
    }
    #[inline(always)]
    unsafe fn u_xor_shift<const N: u32>(x: [__m256i; 2]) -> [__m256i; 2] {
        unsafe {
            let count = _mm_cvtsi32_si128(N as i32);
            let shifted = [_mm256_srl_epi32(x[0], count), _mm256_srl_epi32(x[1], count)];
            [_mm256_xor_si256(x[0], shifted[0]), _mm256_xor_si256(x[1], shifted[1])]
        }
    }
    #[inline(always)]
    unsafe fn u_low_at_least(x: [__m256i; 2], threshold: u32) -> Pair {
        unsafe {
            // 16-bit numbers are positive as 32-bit ones, so a signed comparison does.
            let below = _mm256_set1_epi32(threshold as i32 - 1);
            let mask = _mm256_set1_epi32(0xFFFF);
            let keep = |x| _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_and_si256(x, mask), below));
            [keep(x[0]), keep(x[1])]
        }
    }
    #[inline(always)]
    unsafe fn u_high_at_least(x: [__m256i; 2], threshold: u32) -> Pair {
        unsafe {
            let below = _mm256_set1_epi32(threshold as i32 - 1);
            let keep = |x| _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_srli_epi32::<16>(x), below));
            [keep(x[0]), keep(x[1])]
        }
    }
}
