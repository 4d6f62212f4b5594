//! Up to four vectors of queries that go through all keys.

use crate::cpu::simd::{LANES, Simd, exp2_below_127};

/// Where a block of queries finds keys and values, one after the other.
pub(super) trait Keys<S: Simd, const W: usize>: Copy {
    unsafe fn key(self, at: usize) -> [S::V; W];
    unsafe fn value(self, at: usize) -> [S::V; W];
}

/// The keys and values of one head of one image: the same for all lanes.
#[derive(Clone, Copy)]
pub(super) struct OneHead {
    pub k: *const f32,
    pub k_stride: usize,
    pub v: *const f32,
    pub v_stride: usize,
}

impl<S: Simd, const W: usize> Keys<S, W> for OneHead {
    #[inline(always)]
    unsafe fn key(self, at: usize) -> [S::V; W] {
        unsafe { broadcast::<S, W>(self.k.add(at * self.k_stride)) }
    }

    #[inline(always)]
    unsafe fn value(self, at: usize) -> [S::V; W] {
        unsafe { broadcast::<S, W>(self.v.add(at * self.v_stride)) }
    }
}

/// Keys and values of which each lane has its own: for each key W vectors, then W of the value.
#[derive(Clone, Copy)]
pub(super) struct ByLane(pub *const f32);

impl<S: Simd, const W: usize> Keys<S, W> for ByLane {
    #[inline(always)]
    unsafe fn key(self, at: usize) -> [S::V; W] {
        unsafe { vectors::<S, W>(self.0.add(at * 2 * W * LANES)) }
    }

    #[inline(always)]
    unsafe fn value(self, at: usize) -> [S::V; W] {
        unsafe { vectors::<S, W>(self.0.add((at * 2 + 1) * W * LANES)) }
    }
}

#[inline(always)]
unsafe fn broadcast<S: Simd, const W: usize>(from: *const f32) -> [S::V; W] {
    unsafe {
        let mut x = [S::splat(0.0); W];
        for (c, x) in x.iter_mut().enumerate() {
            *x = S::splat(*from.add(c));
        }
        x
    }
}

/// W vectors that follow each other.
#[inline(always)]
unsafe fn vectors<S: Simd, const W: usize>(from: *const f32) -> [S::V; W] {
    unsafe {
        let mut x = [S::splat(0.0); W];
        for (c, x) in x.iter_mut().enumerate() {
            *x = S::load(from.add(c * LANES));
        }
        x
    }
}

/// N vectors of each of W rows.
#[inline(always)]
unsafe fn load_rows<S: Simd, const W: usize, const N: usize>(from: *const f32, stride: usize) -> [[S::V; N]; W] {
    unsafe {
        let mut x = [[S::splat(0.0); N]; W];
        for (c, row) in x.iter_mut().enumerate() {
            for (i, x) in row.iter_mut().enumerate() {
                *x = S::load(from.add(c * stride + i * LANES));
            }
        }
        x
    }
}

/// The rows of a block in the forward pass, `stride` apart.
#[derive(Clone, Copy)]
pub(super) struct ForwardRows {
    pub stride: usize,
    /// Scaled for powers of 2.
    pub q: *const f32,
    pub context: *mut f32,
    /// The negative of the largest score, and 1 / sum; null where they are not needed.
    pub stats: *mut f32,
}

/// Gathers N vectors of context.
#[inline(always)]
pub(super) unsafe fn forward_block<S: Simd, const W: usize, const N: usize, K: Keys<S, W>>(
    keys: K,
    count: usize,
    rows: ForwardRows,
) {
    unsafe {
        let zero = S::splat(0.0);
        let q = load_rows::<S, W, N>(rows.q, rows.stride);
        let shift = largest_scores::<S, W, N, K>(keys, count, &q);
        let mut sums = [zero; N];
        let mut context = [[zero; N]; W];
        for key in 0..count {
            let (k, v) = (keys.key(key), keys.value(key));
            for i in 0..N {
                let mut score = shift[i];
                for c in 0..W {
                    score = S::mul_add(q[c][i], k[c], score);
                }
                let e = exp2_below_127::<S>(score);
                sums[i] = S::add(sums[i], e);
                for c in 0..W {
                    context[c][i] = S::mul_add(e, v[c], context[c][i]);
                }
            }
        }
        for i in 0..N {
            let inverse = S::div(S::splat(1.0), sums[i]);
            if !rows.stats.is_null() {
                S::store(rows.stats.add(i * LANES), shift[i]);
                S::store(rows.stats.add(rows.stride + i * LANES), inverse);
            }
            for (c, context) in context.iter().enumerate() {
                S::store(rows.context.add(c * rows.stride + i * LANES), S::mul(context[i], inverse));
            }
        }
    }
}

/// The negative of each query's largest score.
#[inline(always)]
unsafe fn largest_scores<S: Simd, const W: usize, const N: usize, K: Keys<S, W>>(
    keys: K,
    count: usize,
    q: &[[S::V; N]; W],
) -> [S::V; N] {
    unsafe {
        let mut largest = [S::splat(f32::MIN); N];
        if W == 1 {
            // The largest product has the largest key or the least.
            let (mut most, mut least) = (S::splat(f32::MIN), S::splat(f32::MAX));
            for key in 0..count {
                let [k] = &keys.key(key)[..] else { unreachable!("one column") };
                most = S::max(most, *k);
                least = S::min(least, *k);
            }
            for i in 0..N {
                largest[i] = S::max(S::mul(q[0][i], most), S::mul(q[0][i], least));
            }
        } else {
            for key in 0..count {
                let k = keys.key(key);
                for i in 0..N {
                    let mut score = S::mul(q[0][i], k[0]);
                    for c in 1..W {
                        score = S::mul_add(q[c][i], k[c], score);
                    }
                    largest[i] = S::max(largest[i], score);
                }
            }
        }
        for largest in &mut largest {
            *largest = S::sub(S::splat(0.0), *largest);
        }
        largest
    }
}

/// The rows of a block in the backward pass, `stride` apart.
#[derive(Clone, Copy)]
pub(super) struct BackwardRows {
    pub stride: usize,
    pub q: *const f32,
    pub context: *const f32,
    pub dcontext: *const f32,
    pub stats: *const f32,
    pub dq: *mut f32,
    /// What the gradient of q is multiplied by.
    pub scale: f32,
    /// What the context was multiplied by.
    pub out_scale: f32,
}

/// Takes a gradient through N vectors of queries; adds to `sums`, which has for each key W vectors of dk and W of dv.
#[inline(always)]
pub(super) unsafe fn backward_block<S: Simd, const W: usize, const N: usize, K: Keys<S, W>>(
    keys: K,
    count: usize,
    rows: BackwardRows,
    sums: *mut f32,
) {
    unsafe {
        let zero = S::splat(0.0);
        let stride = rows.stride;
        let q = load_rows::<S, W, N>(rows.q, stride);
        let context = load_rows::<S, W, N>(rows.context, stride);
        let [shift, inverse] = load_rows::<S, 2, N>(rows.stats, stride);
        let mut g = load_rows::<S, W, N>(rows.dcontext, stride);
        let mut n = [zero; N];
        for c in 0..W {
            for i in 0..N {
                let dcontext = S::mul(g[c][i], inverse[i]);
                n[i] = S::sub(n[i], S::mul(dcontext, context[c][i]));
                g[c][i] = S::mul(dcontext, S::splat(rows.out_scale));
            }
        }
        let mut dq = [[zero; N]; W];
        for key in 0..count {
            let (k, v) = (keys.key(key), keys.value(key));
            let own = sums.add(key * 2 * W * LANES);
            let (mut dk, mut dv) = (vectors::<S, W>(own), vectors::<S, W>(own.add(W * LANES)));
            for i in 0..N {
                let (mut score, mut ds) = (shift[i], n[i]);
                for c in 0..W {
                    score = S::mul_add(q[c][i], k[c], score);
                    ds = S::mul_add(g[c][i], v[c], ds);
                }
                let e = exp2_below_127::<S>(score);
                ds = S::mul(e, ds);
                for c in 0..W {
                    dq[c][i] = S::mul_add(ds, k[c], dq[c][i]);
                    dk[c] = S::mul_add(ds, q[c][i], dk[c]);
                    dv[c] = S::mul_add(e, g[c][i], dv[c]);
                }
            }
            for c in 0..W {
                S::store(own.add(c * LANES), dk[c]);
                S::store(own.add((W + c) * LANES), dv[c]);
            }
        }
        for (c, dq) in dq.iter().enumerate() {
            for (i, dq) in dq.iter().enumerate() {
                S::store(rows.dq.add(c * stride + i * LANES), S::mul(*dq, S::splat(rows.scale)));
            }
        }
    }
}
