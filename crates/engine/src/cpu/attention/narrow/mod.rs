//! Attention of heads of up to four columns: a vector holds 16 queries, and keys are broadcast one after the other,
//! so that no sum crosses lanes but one for each key.
//!
//! Nothing is as large as the weights: each query's largest score and sum are kept, and the backward pass computes
//! the weights again. With `e = exp(score - largest)`, `g = dcontext / sum` and `n = -g . context`:
//! `dv += e g`, `ds = e (g . v + n)`, `dq += ds k`, `dk += ds q`.

mod block;
mod rest;

use block::{BackwardRows, ByLane, ForwardRows, OneHead, backward_block, forward_block};
use rest::Rest;

use super::turn::{turn, turn_back};
use super::{Backward, Forward, Memory, Rows, Sizes};
use crate::cpu::activation::LOG2_E;
use crate::cpu::plan::{all, sum};
use crate::cpu::simd::{LANES, Simd, isa_kernel};

/// Widest head.
pub(super) const WIDEST: usize = 4;

/// Returns what an attention needs.
pub(super) fn memory(queries: usize, keys: usize, heads: usize, head_dim: usize) -> Memory {
    let kept = all(2 * heads, queries.next_multiple_of(LANES));
    Memory { kept, scratch: Scratch::parts(queries, keys, heads, head_dim).into_iter().fold(0, sum) }
}

/// Scratch memory of either pass: operands and gradients of an image, turned.
#[derive(Clone, Copy)]
struct Scratch {
    /// `[embed_dim, queries]`, the same for the next three.
    q: *mut f32,
    context: *mut f32,
    dcontext: *mut f32,
    dq: *mut f32,
    /// `[embed_dim, keys]`
    dk: *mut f32,
    /// `[embed_dim, keys]`
    dv: *mut f32,
    /// For each key W vectors of dk of one head, to be summed over lanes, and W of dv.
    sums: *mut f32,
    /// The same for the queries that are left; before that the keys and values themselves.
    rest_keys: *mut f32,
    rest_sums: *mut f32,
    /// Vectors of the queries that are left: W each of q, context, dcontext and dq, and two of statistics.
    rest: *mut f32,
}

impl Scratch {
    fn parts(queries: usize, keys: usize, heads: usize, head_dim: usize) -> [usize; 10] {
        let [by_query, by_key] = [queries, keys].map(|n| all(heads * head_dim, n.next_multiple_of(LANES)));
        let vectors = all(2 * head_dim * LANES, keys.next_multiple_of(LANES));
        let rest = if Rest::of(queries, heads).count > 0 { vectors } else { 0 };
        [by_query, by_query, by_query, by_query, by_key, by_key, vectors, rest, rest, (4 * head_dim + 2) * LANES]
    }

    unsafe fn new(start: *mut f32, sizes: &Sizes) -> Self {
        let parts = Scratch::parts(sizes.queries, sizes.keys, sizes.attention.heads, sizes.head_dim);
        let mut next = start;
        let [q, context, dcontext, dq, dk, dv, sums, rest_keys, rest_sums, rest] = parts.map(|len| {
            let part = next;
            // SAFETY: the parts lie one after the other in the scratch memory.
            next = unsafe { next.add(len) };
            part
        });
        Scratch { q, context, dcontext, dq, dk, dv, sums, rest_keys, rest_sums, rest }
    }
}

/// Runs `$run` for all vectors of queries, so many at a time as registers hold; AVX2's have half the lanes.
macro_rules! for_all_queries {
    ($S:ident, $W:ident, $most:expr, $vectors:expr, |$at:ident| $run:ident($($arg:expr),*)) => {
        let vectors: usize = $vectors;
        let mut vector = 0;
        while vector < vectors {
            let left = vectors - vector;
            let $at = vector * LANES;
            if $S::TILE_VECTORS > 1 && $most >= 4 && left >= 4 {
                $run::<$S, $W, 4, _>($($arg),*);
                vector += 4;
            } else if $S::TILE_VECTORS > 1 && left >= 2 {
                $run::<$S, $W, 2, _>($($arg),*);
                vector += 2;
            } else {
                $run::<$S, $W, 1, _>($($arg),*);
                vector += 1;
            }
        }
    };
}

/// Vectors of queries that each head has for itself.
fn own_vectors(queries: usize, rest: Rest) -> usize {
    if rest.count > 0 { queries / LANES } else { queries.div_ceil(LANES) }
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
        let rest = Rest::of(queries, attention.heads);
        let scratch = Scratch::new(args.scratch, &args.sizes);
        clear_rest::<S, W>(rest, keys, scratch);
        for image in 0..images {
            let size = [queries, embed_dim];
            let stats = |head: usize| match args.kept.is_null() {
                true => args.kept,
                false => args.kept.add((image * attention.heads + head) * 2 * stride),
            };
            turn::<S>(size, args.q.of(image, queries, 0), args.q.stride, attention.scale * LOG2_E, scratch.q);
            if rest.count > 0 {
                spread_keys::<S, W>(rest, image, &args.sizes, args.k, args.v, scratch);
                let [q, context, stats_of_rest] = [0, W, 4 * W].map(|n| scratch.rest.add(n * LANES));
                rest.gather(W, scratch.q, stride, q);
                let rows = ForwardRows { stride: LANES, q, context, stats: stats_of_rest };
                forward_block::<S, W, 1, _>(ByLane(scratch.rest_keys), keys, rows);
                rest.scatter(W, context, scratch.context, stride);
                if !args.kept.is_null() {
                    rest.scatter(2, stats_of_rest, stats(0), stride);
                }
            }
            for head in 0..attention.heads {
                let own = one_head::<W>(image, head, keys, args.k, args.v);
                let first = head * W * stride;
                for_all_queries!(S, W, 4, own_vectors(queries, rest), |at| forward_block(
                    own,
                    keys,
                    ForwardRows {
                        stride,
                        q: scratch.q.add(first + at),
                        context: scratch.context.add(first + at),
                        stats: if args.kept.is_null() { args.kept } else { stats(head).add(at) },
                    }
                ));
            }
            let to = args.context.add(image * queries * embed_dim);
            turn_back::<S>(size, scratch.context, attention.out_scale, to, embed_dim);
        }
    }
}

#[inline(always)]
unsafe fn one_head<const W: usize>(image: usize, head: usize, keys: usize, k: Rows, v: Rows) -> OneHead {
    unsafe {
        OneHead {
            k: k.of(image, keys, head * W),
            k_stride: k.stride,
            v: v.of(image, keys, head * W),
            v_stride: v.stride,
        }
    }
}

/// Zeroes the lanes that hold no query, so that they add nothing.
#[inline(always)]
unsafe fn clear_rest<S: Simd, const W: usize>(rest: Rest, keys: usize, scratch: Scratch) {
    unsafe {
        let zero = S::splat(0.0);
        for vector in 0..4 * W + 2 {
            S::store(scratch.rest.add(vector * LANES), zero);
        }
        let vectors = if rest.count > 0 { 2 * W * keys } else { 0 };
        for vector in 0..vectors {
            S::store(scratch.rest_keys.add(vector * LANES), zero);
        }
    }
}

#[inline(always)]
unsafe fn spread_keys<S: Simd, const W: usize>(
    rest: Rest,
    image: usize,
    sizes: &Sizes,
    k: Rows,
    v: Rows,
    scratch: Scratch,
) {
    unsafe {
        let (keys, step) = (sizes.keys, 2 * W * LANES);
        rest.spread::<S, W>(keys, k.of(image, keys, 0), k.stride, scratch.rest_keys, step);
        rest.spread::<S, W>(keys, v.of(image, keys, 0), v.stride, scratch.rest_keys.add(W * LANES), step);
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

#[inline(always)]
unsafe fn backward_of_width<S: Simd, const W: usize>(args: &Backward) {
    unsafe {
        let Sizes { images, queries, keys, attention, .. } = args.sizes;
        let (stride, embed_dim) = (queries.next_multiple_of(LANES), args.sizes.embed_dim());
        let key_stride = keys.next_multiple_of(LANES);
        let rest = Rest::of(queries, attention.heads);
        let scratch = Scratch::new(args.scratch, &args.sizes);
        clear_rest::<S, W>(rest, keys, scratch);
        let (scale, out_scale) = (attention.scale, attention.out_scale);
        for image in 0..images {
            let size = [queries, embed_dim];
            let at = image * queries * embed_dim;
            let stats = |head: usize| args.kept.add((image * attention.heads + head) * 2 * stride);
            turn::<S>(size, args.q.of(image, queries, 0), args.q.stride, scale * LOG2_E, scratch.q);
            turn::<S>(size, args.context.add(at), embed_dim, 1.0, scratch.context);
            turn::<S>(size, args.dcontext.add(at), embed_dim, 1.0, scratch.dcontext);
            if rest.count > 0 {
                spread_keys::<S, W>(rest, image, &args.sizes, args.k, args.v, scratch);
                let [q, context, dcontext, dq, own_stats] = [0, 1, 2, 3, 4].map(|n| scratch.rest.add(n * W * LANES));
                rest.gather(W, scratch.q, stride, q);
                rest.gather(W, scratch.context, stride, context);
                rest.gather(W, scratch.dcontext, stride, dcontext);
                rest.gather(2, stats(0), stride, own_stats);
                for vector in 0..2 * W * keys {
                    S::store(scratch.rest_sums.add(vector * LANES), S::splat(0.0));
                }
                let rows = BackwardRows { stride: LANES, q, context, dcontext, stats: own_stats, dq, scale, out_scale };
                backward_block::<S, W, 1, _>(ByLane(scratch.rest_keys), keys, rows, scratch.rest_sums);
                rest.scatter(W, dq, scratch.dq, stride);
            }
            for head in 0..attention.heads {
                let own = one_head::<W>(image, head, keys, args.k, args.v);
                let first = head * W * stride;
                for vector in 0..2 * W * keys {
                    let start = match rest.count {
                        0 => S::splat(0.0),
                        _ => rest.lanes_of::<S>(head, scratch.rest_sums.add(vector * LANES)),
                    };
                    S::store(scratch.sums.add(vector * LANES), start);
                }
                for_all_queries!(S, W, if W == 1 { 4 } else { 2 }, own_vectors(queries, rest), |at| backward_block(
                    own,
                    keys,
                    BackwardRows {
                        stride,
                        q: scratch.q.add(first + at),
                        context: scratch.context.add(first + at),
                        dcontext: scratch.dcontext.add(first + at),
                        stats: stats(head).add(at),
                        dq: scratch.dq.add(first + at),
                        scale,
                        out_scale,
                    },
                    scratch.sums
                ));
                let rows = head * W * key_stride;
                sum_lanes::<S, W>(keys, scratch.sums, scratch.dk.add(rows), scratch.dv.add(rows));
            }
            let size = [keys, embed_dim];
            if !args.dq.at.is_null() {
                let to = args.dq.of(image, queries, 0);
                turn_back::<S>([queries, embed_dim], scratch.dq, 1.0, to, args.dq.stride);
            }
            if !args.dk.at.is_null() {
                // The queries were scaled for powers of 2.
                turn_back::<S>(size, scratch.dk, 1.0 / LOG2_E, args.dk.of(image, keys, 0), args.dk.stride);
            }
            if !args.dv.at.is_null() {
                turn_back::<S>(size, scratch.dv, 1.0, args.dv.of(image, keys, 0), args.dv.stride);
            }
        }
    }
}

/// Sums over the lanes of every key's vectors, into rows of keys.
#[inline(always)]
unsafe fn sum_lanes<S: Simd, const W: usize>(keys: usize, sums: *const f32, dk: *mut f32, dv: *mut f32) {
    unsafe {
        let stride = keys.next_multiple_of(LANES);
        for first in (0..keys).step_by(LANES) {
            for c in 0..2 * W {
                let from = sums.add((first * 2 * W + c) * LANES);
                let mut rows = [S::splat(0.0); LANES];
                // Two loops, so that the common one has a fixed length and its rows stay in registers.
                if keys - first >= LANES {
                    for (i, row) in rows.iter_mut().enumerate() {
                        *row = S::load(from.add(i * 2 * W * LANES));
                    }
                } else {
                    for (i, row) in rows.iter_mut().enumerate().take(keys - first) {
                        *row = S::load(from.add(i * 2 * W * LANES));
                    }
                }
                let to = if c < W { dk.add(c * stride) } else { dv.add((c - W) * stride) };
                S::store(to.add(first), S::sums(&rows));
            }
        }
    }
}
