//! Attention of heads of up to four columns: a vector holds 16 queries, and keys are broadcast one after the other,
//! so that no sum crosses lanes but one for each key.
//!
//! Nothing is as large as the weights: each query's greatest score and sum are kept, and the backward pass computes
//! the weights again. With `e = exp(score - greatest)`, `g = dcontext / sum` and `n = -g . context`:
//! `dv += e g`, `ds = e (g . v + n)`, `dq += ds k`, `dk += ds q`.

use super::turn::{turn, turn_back};
use super::{Backward, Forward, Memory, Sizes};
use crate::cpu::activation::LOG2_E;
use crate::cpu::simd::{LANES, Simd, exp2, isa_kernel};

/// Widest head.
pub(super) const WIDEST: usize = 4;

/// Returns what an attention needs.
pub(super) fn memory(queries: usize, keys: usize, heads: usize, head_dim: usize) -> Memory {
    let [query_stride, key_stride] = [queries, keys].map(|n| n.next_multiple_of(LANES));
    let embed_dim = heads * head_dim;
    Memory {
        kept: 2 * heads * query_stride,
        scratch: 4 * embed_dim * query_stride + 2 * embed_dim * key_stride + 2 * head_dim * key_stride * LANES,
    }
}

/// The keys and values of one head of one image.
#[derive(Clone, Copy)]
struct Keys {
    count: usize,
    k: *const f32,
    k_stride: usize,
    v: *const f32,
    v_stride: usize,
}

impl Keys {
    #[inline(always)]
    unsafe fn key<S: Simd, const W: usize>(&self, at: usize) -> [S::V; W] {
        unsafe { broadcast::<S, W>(self.k.add(at * self.k_stride)) }
    }

    #[inline(always)]
    unsafe fn value<S: Simd, const W: usize>(&self, at: usize) -> [S::V; W] {
        unsafe { broadcast::<S, W>(self.v.add(at * self.v_stride)) }
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

/// Runs `$run` for all vectors of queries, so many at a time as registers hold; AVX2's have half the lanes.
macro_rules! for_all_queries {
    ($S:ident, $W:ident, $most:expr, $queries:expr, |$at:ident| $run:ident($($arg:expr),*)) => {
        let vectors = $queries.div_ceil(LANES);
        let mut vector = 0;
        while vector < vectors {
            let left = vectors - vector;
            let $at = vector * LANES;
            if $S::TILE_VECTORS > 1 && $most >= 4 && left >= 4 {
                $run::<$S, $W, 4>($($arg),*);
                vector += 4;
            } else if $S::TILE_VECTORS > 1 && left >= 2 {
                $run::<$S, $W, 2>($($arg),*);
                vector += 2;
            } else {
                $run::<$S, $W, 1>($($arg),*);
                vector += 1;
            }
        }
    };
}

#[inline(always)]
unsafe fn forward_generic<S: Simd>(args: &Forward) {
    unsafe {
        match args.sizes.head_dim {
            1 => forward_of_width::<S, 1>(args),
            2 => forward_of_width::<S, 2>(args),
            3 => forward_of_width::<S, 3>(args),
            4 => forward_of_width::<S, 4>(args),
            width => unreachable!("heads of width {width}"),
        }
    }
}

isa_kernel! {
    /// Lets every query gather from the keys of its image.
    forward, forward_generic, Forward
}

#[inline(always)]
unsafe fn forward_of_width<S: Simd, const W: usize>(args: &Forward) {
    unsafe {
        let Sizes { images, queries, keys, attention, .. } = args.sizes;
        let (stride, embed_dim) = (queries.next_multiple_of(LANES), args.sizes.embed_dim());
        let (q, context) = (args.scratch, args.scratch.add(embed_dim * stride));
        for image in 0..images {
            let size = [queries, embed_dim];
            turn::<S>(size, args.q.of(image, queries, 0), args.q.stride, attention.scale * LOG2_E, q);
            for head in 0..attention.heads {
                let rows = head * W * stride;
                let stats = if args.kept.is_null() {
                    args.kept
                } else {
                    args.kept.add((image * attention.heads + head) * 2 * stride)
                };
                let own = Keys {
                    count: keys,
                    k: args.k.of(image, keys, head * W),
                    k_stride: args.k.stride,
                    v: args.v.of(image, keys, head * W),
                    v_stride: args.v.stride,
                };
                for_all_queries!(S, W, 4, queries, |at| forward_block(
                    &own,
                    stride,
                    q.add(rows + at),
                    context.add(rows + at),
                    if stats.is_null() { stats } else { stats.add(at) }
                ));
            }
            let to = args.context.add(image * queries * embed_dim);
            turn_back::<S>(size, context, attention.out_scale, to, embed_dim);
        }
    }
}

/// N vectors of queries of one head; `q` and `context` are rows of `stride`, `stats` two rows.
#[inline(always)]
unsafe fn forward_block<S: Simd, const W: usize, const N: usize>(
    keys: &Keys,
    stride: usize,
    q: *const f32,
    context: *mut f32,
    stats: *mut f32,
) {
    unsafe {
        let zero = S::splat(0.0);
        let q = load_rows::<S, W, N>(q, stride);
        let shift = greatest_scores::<S, W, N>(keys, &q);
        let mut sums = [zero; N];
        let mut context_sums = [[zero; N]; W];
        for key in 0..keys.count {
            let (k, v) = (keys.key::<S, W>(key), keys.value::<S, W>(key));
            for i in 0..N {
                let mut score = shift[i];
                for c in 0..W {
                    score = S::mul_add(q[c][i], k[c], score);
                }
                let e = exp2::<S>(score);
                sums[i] = S::add(sums[i], e);
                for c in 0..W {
                    context_sums[c][i] = S::mul_add(e, v[c], context_sums[c][i]);
                }
            }
        }
        for i in 0..N {
            let inverse = S::div(S::splat(1.0), sums[i]);
            if !stats.is_null() {
                S::store(stats.add(i * LANES), shift[i]);
                S::store(stats.add(stride + i * LANES), inverse);
            }
            for (c, sums) in context_sums.iter().enumerate() {
                S::store(context.add(c * stride + i * LANES), S::mul(sums[i], inverse));
            }
        }
    }
}

/// The negative of each query's greatest score.
#[inline(always)]
unsafe fn greatest_scores<S: Simd, const W: usize, const N: usize>(keys: &Keys, q: &[[S::V; N]; W]) -> [S::V; N] {
    unsafe {
        let mut greatest = [S::splat(f32::MIN); N];
        if W == 1 {
            // The greatest product has the greatest key or the least.
            let (mut most, mut least) = (f32::MIN, f32::MAX);
            for key in 0..keys.count {
                let k = *keys.k.add(key * keys.k_stride);
                most = if k > most { k } else { most };
                least = if k < least { k } else { least };
            }
            for i in 0..N {
                greatest[i] = S::max(S::mul(q[0][i], S::splat(most)), S::mul(q[0][i], S::splat(least)));
            }
        } else {
            for key in 0..keys.count {
                let k = keys.key::<S, W>(key);
                for i in 0..N {
                    let mut score = S::mul(q[0][i], k[0]);
                    for c in 1..W {
                        score = S::mul_add(q[c][i], k[c], score);
                    }
                    greatest[i] = S::max(greatest[i], score);
                }
            }
        }
        for greatest in &mut greatest {
            *greatest = S::sub(S::splat(0.0), *greatest);
        }
        greatest
    }
}

#[inline(always)]
unsafe fn backward_generic<S: Simd>(args: &Backward) {
    unsafe {
        match args.sizes.head_dim {
            1 => backward_of_width::<S, 1>(args),
            2 => backward_of_width::<S, 2>(args),
            3 => backward_of_width::<S, 3>(args),
            4 => backward_of_width::<S, 4>(args),
            width => unreachable!("heads of width {width}"),
        }
    }
}

isa_kernel! {
    /// Takes a gradient through an attention.
    backward, backward_generic, Backward
}

/// What the blocks of one head read and write, turned: rows of `stride` queries.
struct HeadGradient {
    keys: Keys,
    stride: usize,
    scale: f32,
    out_scale: f32,
    q: *const f32,
    context: *const f32,
    dcontext: *const f32,
    stats: *const f32,
    dq: *mut f32,
    /// For each key W vectors of dk, to be summed over lanes, then W of dv.
    sums: *mut f32,
}

#[inline(always)]
unsafe fn backward_of_width<S: Simd, const W: usize>(args: &Backward) {
    unsafe {
        let Sizes { images, queries, keys, attention, .. } = args.sizes;
        let (stride, embed_dim) = (queries.next_multiple_of(LANES), args.sizes.embed_dim());
        let key_stride = keys.next_multiple_of(LANES);
        let [q, context, dcontext, dq] = [0, 1, 2, 3].map(|i| args.scratch.add(i * embed_dim * stride));
        let dk = dq.add(embed_dim * stride);
        let dv = dk.add(embed_dim * key_stride);
        let sums = dv.add(embed_dim * key_stride);
        for image in 0..images {
            let size = [queries, embed_dim];
            let at = image * queries * embed_dim;
            turn::<S>(size, args.q.of(image, queries, 0), args.q.stride, attention.scale * LOG2_E, q);
            turn::<S>(size, args.context.add(at), embed_dim, 1.0, context);
            turn::<S>(size, args.dcontext.add(at), embed_dim, 1.0, dcontext);
            for head in 0..attention.heads {
                let rows = head * W * stride;
                let own = HeadGradient {
                    keys: Keys {
                        count: keys,
                        k: args.k.of(image, keys, head * W),
                        k_stride: args.k.stride,
                        v: args.v.of(image, keys, head * W),
                        v_stride: args.v.stride,
                    },
                    stride,
                    scale: attention.scale,
                    out_scale: attention.out_scale,
                    q: q.add(rows),
                    context: context.add(rows),
                    dcontext: dcontext.add(rows),
                    stats: args.kept.add((image * attention.heads + head) * 2 * stride),
                    dq: dq.add(rows),
                    sums,
                };
                for at in 0..keys * 2 * W {
                    S::store(sums.add(at * LANES), S::splat(0.0));
                }
                for_all_queries!(S, W, if W == 1 { 4 } else { 2 }, queries, |at| backward_block(&own, at));
                let rows = head * W * key_stride;
                sum_lanes::<S, W>(keys, sums, dk.add(rows), dv.add(rows));
            }
            let size = [keys, embed_dim];
            if !args.dq.at.is_null() {
                let to = args.dq.of(image, queries, 0);
                turn_back::<S>([queries, embed_dim], dq, 1.0, to, args.dq.stride);
            }
            if !args.dk.at.is_null() {
                // The queries were scaled for powers of 2.
                turn_back::<S>(size, dk, 1.0 / LOG2_E, args.dk.of(image, keys, 0), args.dk.stride);
            }
            if !args.dv.at.is_null() {
                turn_back::<S>(size, dv, 1.0, args.dv.of(image, keys, 0), args.dv.stride);
            }
        }
    }
}

/// N vectors of queries of one head.
#[inline(always)]
unsafe fn backward_block<S: Simd, const W: usize, const N: usize>(args: &HeadGradient, at: usize) {
    unsafe {
        let zero = S::splat(0.0);
        let (keys, stride) = (&args.keys, args.stride);
        let q = load_rows::<S, W, N>(args.q.add(at), stride);
        let context = load_rows::<S, W, N>(args.context.add(at), stride);
        let [shift, inverse] = load_rows::<S, 2, N>(args.stats.add(at), stride);
        let mut g = load_rows::<S, W, N>(args.dcontext.add(at), stride);
        let mut n = [zero; N];
        for c in 0..W {
            for i in 0..N {
                let dcontext = S::mul(g[c][i], inverse[i]);
                n[i] = S::sub(n[i], S::mul(dcontext, context[c][i]));
                g[c][i] = S::mul(dcontext, S::splat(args.out_scale));
            }
        }
        let mut dq = [[zero; N]; W];
        for key in 0..keys.count {
            let (k, v) = (keys.key::<S, W>(key), keys.value::<S, W>(key));
            let sums = args.sums.add(key * 2 * W * LANES);
            let [dk, dv] = [sums, sums.add(W * LANES)];
            let (mut dk_sums, mut dv_sums) = (load_rows::<S, W, 1>(dk, LANES), load_rows::<S, W, 1>(dv, LANES));
            for i in 0..N {
                let (mut score, mut ds) = (shift[i], n[i]);
                for c in 0..W {
                    score = S::mul_add(q[c][i], k[c], score);
                    ds = S::mul_add(g[c][i], v[c], ds);
                }
                let e = exp2::<S>(score);
                ds = S::mul(e, ds);
                for c in 0..W {
                    dq[c][i] = S::mul_add(ds, k[c], dq[c][i]);
                    dk_sums[c][0] = S::mul_add(ds, q[c][i], dk_sums[c][0]);
                    dv_sums[c][0] = S::mul_add(e, g[c][i], dv_sums[c][0]);
                }
            }
            for c in 0..W {
                S::store(dk.add(c * LANES), dk_sums[c][0]);
                S::store(dv.add(c * LANES), dv_sums[c][0]);
            }
        }
        for (c, dq) in dq.iter().enumerate() {
            for (i, dq) in dq.iter().enumerate() {
                S::store(args.dq.add(c * stride + at + i * LANES), S::mul(*dq, S::splat(args.scale)));
            }
        }
    }
}

/// Sums over the lanes of every key's vectors, into rows of keys.
#[inline(always)]
unsafe fn sum_lanes<S: Simd, const W: usize>(keys: usize, sums: *const f32, dk: *mut f32, dv: *mut f32) {
    unsafe {
        let stride = keys.next_multiple_of(LANES);
        let mut first = 0;
        while first < keys {
            for c in 0..2 * W {
                let mut rows = [S::splat(0.0); LANES];
                for (i, row) in rows.iter_mut().enumerate().take(keys - first) {
                    *row = S::load(sums.add(((first + i) * 2 * W + c) * LANES));
                }
                let to = if c < W { dk.add(c * stride) } else { dv.add((c - W) * stride) };
                S::store(to.add(first), S::sums(&rows));
            }
            first += LANES;
        }
    }
}
