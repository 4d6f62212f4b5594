//! Any attention, by products of matrices: scores and weights of one head of one image, for as many queries at a time
//! as the caches hold.
//!
//! The weights (after softmax) are kept for the backward pass, unless the sequence is so long that reading them again
//! from memory takes longer than computing them again: then they never leave the cache. A weight that dropout zeroed
//! has its sign set, so that both the weight and the mask are there. The softmax of row i gives
//! `dscores = weights * (dweights - sum(dcontext * context))`, which needs no second pass over the weights; softmax
//! over the queries needs one, column by column.

use super::turn::turn;
use super::{Backward, Forward, Memory, Rows, RowsMut, Sizes};
use crate::cpu::activation::LOG2_E;
use crate::cpu::dropout::Mask;
use crate::cpu::plan::{all, sum};
use crate::cpu::simd::{LANES, Simd, exp2_below_127, isa_kernel, load_up_to};
use crate::cpu::tile::{Broadcast, MatrixProduct, Panel, Store, TILE_ROWS, matrix_product};
use crate::ops::{Attention, Over};

/// Weights of one head that are kept, at most; longer sequences have them computed again in the backward pass.
const MOST_KEPT: usize = 128 << 10;

/// Weights of a block of queries of such a sequence: scores and their gradients stay in the second-level cache.
const BLOCK_LEN: usize = 12 << 10;

/// How the queries of a head are worked through.
#[derive(Clone, Copy)]
struct Blocks {
    queries: usize,
    keys: usize,
    /// Distance between rows of scores and weights: the keys rounded up to whole vectors.
    stride: usize,
    /// Queries at a time.
    rows: usize,
    /// Whether the weights are kept: then all queries are one block.
    kept: bool,
}

impl Blocks {
    fn of(queries: usize, keys: usize, attention: Attention) -> Blocks {
        let stride = keys.next_multiple_of(LANES);
        // Softmax over the queries needs all of them.
        let kept = attention.softmax == Over::Queries || all(queries, stride) <= MOST_KEPT;
        let rows = (BLOCK_LEN / stride / TILE_ROWS * TILE_ROWS).clamp(TILE_ROWS, queries.max(TILE_ROWS));
        Blocks { queries, keys, stride, rows: if kept { queries } else { rows.min(queries) }, kept }
    }

    /// Numbers in the scores of a block.
    fn len(&self) -> usize {
        all(self.rows, self.stride)
    }
}

/// Returns what an attention needs.
pub(super) fn memory(queries: usize, keys: usize, head_dim: usize, attention: Attention) -> Memory {
    let blocks = Blocks::of(queries, keys, attention);
    let turned = all(head_dim, blocks.stride);
    Memory {
        kept: if blocks.kept { all(attention.heads, blocks.len()) } else { 0 },
        scratch: [all(2, turned), all(3, blocks.len()), blocks.stride].into_iter().fold(0, sum),
    }
}

/// Scratch memory of either pass.
#[derive(Clone, Copy)]
struct Scratch {
    /// Keys, `[head_dim, stride]`, scaled for powers of 2.
    keys: *mut f32,
    /// Values in the same form.
    values: *mut f32,
    /// Attention weights of a block, when they are not saved.
    weights: *mut f32,
    /// With dropout: the weights of a block that are left, unscaled.
    dropped: *mut f32,
    /// Gradients of a block's scores.
    dscores: *mut f32,
    /// One row.
    row: *mut f32,
}

impl Scratch {
    unsafe fn new(start: *mut f32, head_dim: usize, blocks: Blocks) -> Self {
        unsafe {
            let values = start.add(head_dim * blocks.stride);
            let weights = values.add(head_dim * blocks.stride);
            let dropped = weights.add(blocks.len());
            let dscores = dropped.add(blocks.len());
            Scratch { keys: start, values, weights, dropped, dscores, row: dscores.add(blocks.len()) }
        }
    }
}

#[inline(always)]
unsafe fn forward_generic<S: Simd>(args: &Forward) {
    unsafe {
        let Sizes { images, queries, keys, head_dim, attention, dropout, .. } = args.sizes;
        let embed_dim = args.sizes.embed_dim();
        let blocks = Blocks::of(queries, keys, attention);
        let scratch = Scratch::new(args.scratch, head_dim, blocks);
        for image in 0..images {
            for head in 0..attention.heads {
                let first = head * head_dim;
                let v = args.v.of(image, keys, first);
                let weights = if args.kept.is_null() || !blocks.kept {
                    scratch.weights
                } else {
                    args.kept.add((image * attention.heads + head) * blocks.len())
                };
                turn::<S>(
                    [keys, head_dim],
                    args.k.of(image, keys, first),
                    args.k.stride,
                    attention.scale * LOG2_E,
                    scratch.keys,
                );
                let head = Head { sizes: &args.sizes, blocks, image, head, q: args.q, mask: args.mask, scratch };
                for start in (0..queries).step_by(blocks.rows) {
                    let rows = blocks.rows.min(queries - start);
                    head.weights::<S>(start, rows, weights);
                    let (multiplied, factor) = match &dropout {
                        Some(mask) => (scratch.dropped, mask.scale * attention.out_scale),
                        None => (weights, attention.out_scale),
                    };
                    let to = args.context.add((image * queries + start) * embed_dim + first);
                    let context = Store { to, stride: embed_dim, factor, adds: false };
                    let along = Broadcast { at: multiplied, row: blocks.stride, step: 1 };
                    multiply::<S>([rows, head_dim, keys], along, Panel { at: v, step: args.v.stride }, context);
                }
            }
        }
    }
}

isa_kernel! {
    /// Lets every query gather from the keys of its image.
    forward, forward_generic, Forward
}

/// One head of one image, whose keys were turned.
struct Head<'a> {
    sizes: &'a Sizes,
    blocks: Blocks,
    image: usize,
    head: usize,
    q: Rows,
    mask: *const f32,
    scratch: Scratch,
}

impl Head<'_> {
    /// Computes the weights of a block of queries, and with dropout those that are left.
    #[inline(always)]
    unsafe fn weights<S: Simd>(&self, start: usize, rows: usize, weights: *mut f32) {
        unsafe {
            let &Head { sizes, blocks, image, head, .. } = self;
            let Sizes { queries, keys, head_dim, attention, masked, .. } = *sizes;
            let q = self.q.of(image, queries, head * head_dim).add(start * self.q.stride);
            let scores = Store { to: weights, stride: blocks.stride, factor: 1.0, adds: false };
            let along = Broadcast { at: q, row: self.q.stride, step: 1 };
            let turned = Panel { at: self.scratch.keys, step: blocks.stride };
            multiply::<S>([rows, blocks.stride, head_dim], along, turned, scores);
            let softmax = Softmax {
                blocks,
                start,
                rows,
                causal: attention.causal,
                mask: if masked { self.mask.add(image * keys) } else { self.mask },
                dropout: sizes.dropout.as_ref().map(|mask| (mask, image, head)),
                dropped: self.scratch.dropped,
            };
            match attention.softmax {
                Over::Queries => softmax_columns::<S>(&softmax, weights, self.scratch.row),
                Over::Keys if attention.causal || masked => softmax_rows::<S, true>(&softmax, weights),
                Over::Keys => softmax_rows::<S, false>(&softmax, weights),
            }
        }
    }
}

/// Multiplies matrices of so many rows, columns and steps along the inner axis.
#[inline(always)]
unsafe fn multiply<S: Simd>([rows, columns, steps]: [usize; 3], a: Broadcast, b: Panel, target: Store) {
    unsafe { matrix_product(S::ISA, &MatrixProduct { rows, columns, steps, a, b, target }) }
}

/// What turns the scores of a block of queries into weights, in place.
struct Softmax<'a> {
    blocks: Blocks,
    /// The block's first query, and the number of its queries.
    start: usize,
    rows: usize,
    causal: bool,
    /// The image's mask, or null.
    mask: *const f32,
    /// The dropout with the image's number in the chunk, and the head.
    dropout: Option<(&'a Mask, usize, usize)>,
    /// With dropout: the weights that are left, unscaled.
    dropped: *mut f32,
}

impl Softmax<'_> {
    /// Replaces what a query does not see in one vector of keys.
    #[inline(always)]
    unsafe fn seen<S: Simd>(&self, row: usize, vector: usize, x: S::V, other: S::V) -> S::V {
        unsafe {
            let limit = if self.causal { self.start + row + 1 } else { self.blocks.keys };
            let n = limit.saturating_sub(vector * LANES).min(LANES);
            let x = S::select(S::first(n), x, other);
            if self.mask.is_null() {
                return x;
            }
            let own = load_up_to::<S>(self.mask.add(vector * LANES), self.blocks.keys - vector * LANES);
            S::select(S::greater(own, S::splat(0.0)), x, other)
        }
    }

    /// Multiplies the exponentials of one row by the inverse of their sums and drops some; `inverse` of a vector's
    /// number gives its factors.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, row: usize, weights: *mut f32, inverse: impl Fn(usize) -> S::V) {
        unsafe {
            let stride = self.blocks.stride;
            let (vectors, weights) = (stride / LANES, weights.add(row * stride));
            let Some((mask, image, head)) = self.dropout else {
                for v in 0..vectors {
                    S::store(weights.add(v * LANES), S::mul(S::load(weights.add(v * LANES)), inverse(v)));
                }
                return;
            };
            let zero = S::splat(0.0);
            let first_block = (head * self.blocks.queries + self.start + row) * self.blocks.keys.div_ceil(32);
            let mut bits = mask.row_of::<S>(*mask.keys.add(image), first_block);
            let dropped = self.dropped.add(row * stride);
            for v in 0..vectors {
                let weight = S::mul(S::load(weights.add(v * LANES)), inverse(v));
                let keeps = bits.keeps(v, false);
                S::store(weights.add(v * LANES), S::select(keeps, weight, S::sub(S::splat(-0.0), weight)));
                S::store(dropped.add(v * LANES), S::select(keeps, weight, zero));
            }
        }
    }
}

/// Softmax of each row of scores to base 2.
#[inline(always)]
unsafe fn softmax_rows<S: Simd, const MASKED: bool>(args: &Softmax, scores: *mut f32) {
    unsafe {
        let stride = args.blocks.stride;
        let vectors = stride / LANES;
        let last = S::first(args.blocks.keys - (vectors - 1) * LANES);
        let zero = S::splat(0.0);
        for row in 0..args.rows {
            let at = scores.add(row * stride);
            let inner = |v: usize, x: S::V, other: S::V| if MASKED { args.seen::<S>(row, v, x, other) } else { x };
            let end = |x: S::V, other: S::V| {
                if MASKED { args.seen::<S>(row, vectors - 1, x, other) } else { S::select(last, x, other) }
            };
            let least = S::splat(f32::MIN);
            let mut largest = end(S::load(at.add((vectors - 1) * LANES)), least);
            for v in 0..vectors - 1 {
                largest = S::max(largest, inner(v, S::load(at.add(v * LANES)), least));
            }
            let largest = S::splat(S::largest(largest));
            let mut sum = zero;
            for v in 0..vectors - 1 {
                let e = inner(v, exp2_below_127::<S>(S::sub(S::load(at.add(v * LANES)), largest)), zero);
                sum = S::add(sum, e);
                S::store(at.add(v * LANES), e);
            }
            let e = end(exp2_below_127::<S>(S::sub(S::load(at.add((vectors - 1) * LANES)), largest)), zero);
            S::store(at.add((vectors - 1) * LANES), e);
            let sum = S::sum(S::add(sum, e));
            // A query that sees no key has weights of 0.
            let inverse = S::splat(if MASKED && sum == 0.0 { 0.0 } else { 1.0 / sum });
            args.finish::<S>(row, scores, |_| inverse);
        }
    }
}

/// Softmax of each column of scores to base 2; `column` has room for one row.
#[inline(always)]
unsafe fn softmax_columns<S: Simd>(args: &Softmax, scores: *mut f32, column: *mut f32) {
    unsafe {
        let stride = args.blocks.stride;
        let (zero, one) = (S::splat(0.0), S::splat(1.0));
        for v in 0..stride / LANES {
            let at = |row: usize| scores.add(row * stride + v * LANES);
            let mut largest = S::splat(f32::MIN);
            for row in 0..args.rows {
                largest = S::max(largest, args.seen::<S>(row, v, S::load(at(row)), S::splat(f32::MIN)));
            }
            let mut sum = zero;
            for row in 0..args.rows {
                let e = args.seen::<S>(row, v, exp2_below_127::<S>(S::sub(S::load(at(row)), largest)), zero);
                sum = S::add(sum, e);
                S::store(at(row), e);
            }
            let inverse = S::select(S::greater(sum, zero), S::div(one, sum), zero);
            S::store(column.add(v * LANES), inverse);
        }
        for row in 0..args.rows {
            args.finish::<S>(row, scores, |v| S::load(column.add(v * LANES)));
        }
    }
}

#[inline(always)]
unsafe fn backward_generic<S: Simd>(args: &Backward) {
    unsafe {
        let Sizes { images, queries, keys, head_dim, attention, dropout, .. } = args.sizes;
        let embed_dim = args.sizes.embed_dim();
        let blocks = Blocks::of(queries, keys, attention);
        let (stride, scratch) = (blocks.stride, Scratch::new(args.scratch, head_dim, blocks));
        for image in 0..images {
            for number in 0..attention.heads {
                let first = number * head_dim;
                let (q, k) = (args.q.of(image, queries, first), args.k.of(image, keys, first));
                let v = args.v.of(image, keys, first);
                let factor = attention.out_scale * dropout.map_or(1.0, |mask| mask.scale);
                turn::<S>([keys, head_dim], v, args.v.stride, factor, scratch.values);
                if !blocks.kept {
                    turn::<S>([keys, head_dim], k, args.k.stride, attention.scale * LOG2_E, scratch.keys);
                }
                let head =
                    Head { sizes: &args.sizes, blocks, image, head: number, q: args.q, mask: args.mask, scratch };
                for start in (0..queries).step_by(blocks.rows) {
                    let rows = blocks.rows.min(queries - start);
                    let weights = if blocks.kept {
                        args.kept.add((image * attention.heads + number) * blocks.len())
                    } else {
                        head.weights::<S>(start, rows, scratch.weights);
                        scratch.weights
                    };
                    let at = (image * queries + start) * embed_dim + first;
                    let (dcontext, context) = (args.dcontext.add(at), args.context.add(at));
                    let dscores = scratch.dscores;
                    let dweights = Store { to: dscores, stride, factor: 1.0, adds: false };
                    let along = Broadcast { at: dcontext, row: embed_dim, step: 1 };
                    multiply::<S>(
                        [rows, stride, head_dim],
                        along,
                        Panel { at: scratch.values, step: stride },
                        dweights,
                    );
                    let gradient = Gradient { rows, stride, head_dim, embed_dim, context, dcontext, weights };
                    match attention.softmax {
                        Over::Keys => rows_gradient::<S>(&gradient, dropout.is_some(), dscores, scratch.dropped),
                        Over::Queries => columns_gradient::<S>(&gradient, dropout.is_some(), dscores, scratch.dropped),
                    }

                    let across = |at| Broadcast { at, row: 1, step: stride };
                    // Keys and values sum over all blocks.
                    let sum = |to: RowsMut, factor| Store {
                        to: to.of(image, keys, first),
                        stride: to.stride,
                        factor,
                        adds: start > 0,
                    };
                    let by_key = [keys, head_dim, rows];
                    if !args.dq.at.is_null() {
                        let to = args.dq.of(image, queries, first).add(start * args.dq.stride);
                        let dq = Store { to, stride: args.dq.stride, factor: attention.scale, adds: false };
                        let along = Broadcast { at: dscores, row: stride, step: 1 };
                        multiply::<S>([rows, head_dim, keys], along, Panel { at: k, step: args.k.stride }, dq);
                    }
                    if !args.dk.at.is_null() {
                        let q = Panel { at: q.add(start * args.q.stride), step: args.q.stride };
                        multiply::<S>(by_key, across(dscores), q, sum(args.dk, attention.scale));
                    }
                    if !args.dv.at.is_null() {
                        let left = if dropout.is_some() { scratch.dropped.cast_const() } else { weights };
                        let dcontext = Panel { at: dcontext, step: embed_dim };
                        multiply::<S>(by_key, across(left), dcontext, sum(args.dv, factor));
                    }
                }
            }
        }
    }
}

isa_kernel! {
    /// Takes a gradient through an attention.
    backward, backward_generic, Backward
}

/// What the softmax's gradient reads.
struct Gradient {
    rows: usize,
    stride: usize,
    head_dim: usize,
    embed_dim: usize,
    context: *const f32,
    dcontext: *const f32,
    weights: *const f32,
}

/// The gradient of up to 16 scores, given the sum that the softmax's gradient subtracts.
#[inline(always)]
unsafe fn score_gradient<S: Simd>(
    args: &Gradient,
    dropout: bool,
    at: usize,
    sum: S::V,
    dscores: *mut f32,
    kept: *mut f32,
) {
    unsafe {
        let zero = S::splat(0.0);
        let weight = S::load(args.weights.add(at));
        let mut dweight = S::load(dscores.add(at));
        if dropout {
            // A weight of exactly 0 counts as dropped; its gradient is 0 either way.
            let keeps = S::greater(weight, zero);
            S::store(kept.add(at), S::max(zero, weight));
            dweight = S::select(keeps, dweight, zero);
        }
        S::store(dscores.add(at), S::mul(S::abs(weight), S::sub(dweight, sum)));
    }
}

/// Turns the gradient of the weights into that of the scores, in place; with dropout also writes the weights left.
#[inline(always)]
unsafe fn rows_gradient<S: Simd>(args: &Gradient, dropout: bool, dscores: *mut f32, kept: *mut f32) {
    unsafe {
        let stride = args.stride;
        let zero = S::splat(0.0);
        for row in 0..args.rows {
            let mut sum = zero;
            let mut column = 0;
            while column < args.head_dim {
                let (at, n) = (row * args.embed_dim + column, args.head_dim - column);
                let context = load_up_to::<S>(args.context.add(at), n);
                sum = S::mul_add(context, load_up_to::<S>(args.dcontext.add(at), n), sum);
                column += LANES;
            }
            let sum = S::splat(S::sum(sum));
            for v in 0..stride / LANES {
                let at = row * stride + v * LANES;
                score_gradient::<S>(args, dropout, at, sum, dscores, kept);
            }
        }
    }
}

/// The same for softmax over the queries.
#[inline(always)]
unsafe fn columns_gradient<S: Simd>(args: &Gradient, dropout: bool, dscores: *mut f32, kept: *mut f32) {
    unsafe {
        let stride = args.stride;
        let zero = S::splat(0.0);
        for v in 0..stride / LANES {
            let mut sum = zero;
            for row in 0..args.rows {
                let at = row * stride + v * LANES;
                // A dropped weight is negative and adds nothing.
                sum = S::mul_add(S::max(zero, S::load(args.weights.add(at))), S::load(dscores.add(at)), sum);
            }
            for row in 0..args.rows {
                let at = row * stride + v * LANES;
                score_gradient::<S>(args, dropout, at, sum, dscores, kept);
            }
        }
    }
}
