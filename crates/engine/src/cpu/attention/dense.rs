//! Any attention: scores and weights of one head of one image as whole matrices.
//!
//! The weights (after softmax) are kept for the backward pass; a weight that dropout zeroed is kept with its sign
//! set, so that both the weight and the mask are there. The softmax of row i gives
//! `dscores = weights * (dweights - sum(dcontext * context))`, which needs no second pass over the weights; softmax
//! over the queries needs one, column by column.

use super::{Backward, Forward, Memory, RowsMut, Sizes};
use crate::cpu::activation::LOG2_E;
use crate::cpu::dropout::Mask;
use crate::cpu::simd::{LANES, Simd, exp2, isa_kernel, load_up_to};
use crate::cpu::tile::{Broadcast, MatrixProduct, Panel, Store, matrix_product};
use crate::ops::Over;

/// Returns what an attention needs: the stride of scores and weights is the keys rounded up to whole vectors.
pub(super) fn memory(queries: usize, keys: usize, heads: usize, head_dim: usize) -> Memory {
    let stride = keys.next_multiple_of(LANES);
    Memory {
        kept: heads * queries * stride,
        scratch: head_dim.next_multiple_of(LANES) * stride + 2 * queries * stride + stride,
    }
}

#[inline(always)]
unsafe fn forward_generic<S: Simd>(args: &Forward) {
    unsafe {
        let Sizes { images, queries, keys, head_dim, attention, dropout } = args.sizes;
        let (stride, embed_dim) = (keys.next_multiple_of(LANES), args.sizes.embed_dim());
        let turned = args.scratch;
        let own_weights = turned.add(head_dim.next_multiple_of(LANES) * stride);
        let dropped = own_weights.add(queries * stride);
        let column = dropped.add(queries * stride);
        for image in 0..images {
            for head in 0..attention.heads {
                let first = head * head_dim;
                let (q, k) = (args.q.of(image, queries, first), args.k.of(image, keys, first));
                let v = args.v.of(image, keys, first);
                let weights = if args.kept.is_null() {
                    own_weights
                } else {
                    args.kept.add((image * attention.heads + head) * queries * stride)
                };
                transpose::<S>(keys, head_dim, k, args.k.stride, attention.scale * LOG2_E, turned);
                let scores = Store { to: weights, stride, factor: 1.0 };
                let rows = Broadcast { at: q, row: args.q.stride, step: 1 };
                multiply::<S>([queries, stride, head_dim], rows, Panel { at: turned, step: stride }, scores);
                let softmax = Softmax {
                    queries,
                    keys,
                    causal: attention.causal,
                    mask: if args.mask.is_null() { args.mask } else { args.mask.add(image * keys) },
                    dropout: dropout.as_ref().map(|mask| (mask, image, head)),
                    dropped,
                };
                match attention.softmax {
                    Over::Queries => softmax_columns::<S>(&softmax, weights, column),
                    Over::Keys if attention.causal || !args.mask.is_null() => {
                        softmax_rows::<S, true>(&softmax, weights)
                    }
                    Over::Keys => softmax_rows::<S, false>(&softmax, weights),
                }
                let (multiplied, factor) = match &dropout {
                    Some(mask) => (dropped, mask.scale * attention.out_scale),
                    None => (weights, attention.out_scale),
                };
                let to = args.context.add(image * queries * embed_dim + first);
                let context = Store { to, stride: embed_dim, factor };
                let rows = Broadcast { at: multiplied, row: stride, step: 1 };
                multiply::<S>([queries, head_dim, keys], rows, Panel { at: v, step: args.v.stride }, context);
            }
        }
    }
}

isa_kernel! {
    /// Lets every query gather from the keys of its image.
    forward, forward_generic, Forward
}

/// Multiplies matrices of so many rows, columns and steps along the inner axis.
#[inline(always)]
unsafe fn multiply<S: Simd>([rows, columns, steps]: [usize; 3], a: Broadcast, b: Panel, target: Store) {
    unsafe { matrix_product(S::ISA, &MatrixProduct { rows, columns, steps, a, b, target }) }
}

/// Writes `[tokens, head_dim]` as `[head_dim, stride]` times a factor, 0 beyond the last token.
#[inline(always)]
unsafe fn transpose<S: Simd>(
    tokens: usize,
    head_dim: usize,
    from: *const f32,
    from_stride: usize,
    factor: f32,
    to: *mut f32,
) {
    unsafe {
        let stride = tokens.next_multiple_of(LANES);
        let factor = S::splat(factor);
        let mut token = 0;
        while token < tokens {
            let mut column = 0;
            while column < head_dim {
                let mut block = [S::splat(0.0); LANES];
                for (i, lanes) in block.iter_mut().enumerate().take(tokens - token) {
                    let x = load_up_to::<S>(from.add((token + i) * from_stride + column), head_dim - column);
                    *lanes = S::mul(x, factor);
                }
                S::transpose(&mut block);
                for (i, lanes) in block.iter().enumerate() {
                    S::store(to.add((column + i) * stride + token), *lanes);
                }
                column += LANES;
            }
            token += LANES;
        }
    }
}

/// What turns the scores of one head into weights, in place.
struct Softmax<'a> {
    queries: usize,
    keys: usize,
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
            let limit = if self.causal { row + 1 } else { self.keys };
            let n = limit.saturating_sub(vector * LANES).min(LANES);
            let x = S::select(S::first(n), x, other);
            if self.mask.is_null() {
                return x;
            }
            let own = load_up_to::<S>(self.mask.add(vector * LANES), self.keys - vector * LANES);
            S::select(S::greater(own, S::splat(0.0)), x, other)
        }
    }

    /// Multiplies the exponentials of one row by the inverse of their sums and drops some; `inverse` of a vector's
    /// number gives its factors.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, row: usize, weights: *mut f32, inverse: impl Fn(usize) -> S::V) {
        unsafe {
            let stride = self.keys.next_multiple_of(LANES);
            let (vectors, weights) = (stride / LANES, weights.add(row * stride));
            let Some((mask, image, head)) = self.dropout else {
                for v in 0..vectors {
                    S::store(weights.add(v * LANES), S::mul(S::load(weights.add(v * LANES)), inverse(v)));
                }
                return;
            };
            let zero = S::splat(0.0);
            let first_block = (head * self.queries + row) * self.keys.div_ceil(32);
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
        let stride = args.keys.next_multiple_of(LANES);
        let vectors = stride / LANES;
        let last = S::first(args.keys - (vectors - 1) * LANES);
        let zero = S::splat(0.0);
        for row in 0..args.queries {
            let at = scores.add(row * stride);
            let inner = |v: usize, x: S::V, other: S::V| if MASKED { args.seen::<S>(row, v, x, other) } else { x };
            let end = |x: S::V, other: S::V| {
                if MASKED { args.seen::<S>(row, vectors - 1, x, other) } else { S::select(last, x, other) }
            };
            let least = S::splat(f32::MIN);
            let mut greatest = end(S::load(at.add((vectors - 1) * LANES)), least);
            for v in 0..vectors - 1 {
                greatest = S::max(greatest, inner(v, S::load(at.add(v * LANES)), least));
            }
            let greatest = S::splat(S::greatest(greatest));
            let mut sum = zero;
            for v in 0..vectors - 1 {
                let e = inner(v, exp2::<S>(S::sub(S::load(at.add(v * LANES)), greatest)), zero);
                sum = S::add(sum, e);
                S::store(at.add(v * LANES), e);
            }
            let e = end(exp2::<S>(S::sub(S::load(at.add((vectors - 1) * LANES)), greatest)), zero);
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
        let stride = args.keys.next_multiple_of(LANES);
        let (zero, one) = (S::splat(0.0), S::splat(1.0));
        for v in 0..stride / LANES {
            let at = |row: usize| scores.add(row * stride + v * LANES);
            let mut greatest = S::splat(f32::MIN);
            for row in 0..args.queries {
                greatest = S::max(greatest, args.seen::<S>(row, v, S::load(at(row)), S::splat(f32::MIN)));
            }
            let mut sum = zero;
            for row in 0..args.queries {
                let e = args.seen::<S>(row, v, exp2::<S>(S::sub(S::load(at(row)), greatest)), zero);
                sum = S::add(sum, e);
                S::store(at(row), e);
            }
            let inverse = S::select(S::greater(sum, zero), S::div(one, sum), zero);
            S::store(column.add(v * LANES), inverse);
        }
        for row in 0..args.queries {
            args.finish::<S>(row, scores, |v| S::load(column.add(v * LANES)));
        }
    }
}

#[inline(always)]
unsafe fn backward_generic<S: Simd>(args: &Backward) {
    unsafe {
        let Sizes { images, queries, keys, head_dim, attention, dropout } = args.sizes;
        let (stride, embed_dim) = (keys.next_multiple_of(LANES), args.sizes.embed_dim());
        let values = args.scratch;
        let dscores = values.add(head_dim.next_multiple_of(LANES) * stride);
        let kept = dscores.add(queries * stride);
        for image in 0..images {
            for head in 0..attention.heads {
                let first = head * head_dim;
                let (q, k) = (args.q.of(image, queries, first), args.k.of(image, keys, first));
                let v = args.v.of(image, keys, first);
                let at = image * queries * embed_dim + first;
                let (dcontext, context) = (args.dcontext.add(at), args.context.add(at));
                let weights = args.kept.add((image * attention.heads + head) * queries * stride);

                let factor = attention.out_scale * dropout.map_or(1.0, |mask| mask.scale);
                transpose::<S>(keys, head_dim, v, args.v.stride, factor, values);
                let rows = Broadcast { at: dcontext, row: embed_dim, step: 1 };
                let dweights = Store { to: dscores, stride, factor: 1.0 };
                multiply::<S>([queries, stride, head_dim], rows, Panel { at: values, step: stride }, dweights);
                let gradient = Gradient { queries, keys, head_dim, embed_dim, context, dcontext, weights };
                match attention.softmax {
                    Over::Keys => rows_gradient::<S>(&gradient, dropout.is_some(), dscores, kept),
                    Over::Queries => columns_gradient::<S>(&gradient, dropout.is_some(), dscores, kept),
                }

                let along = |at| Broadcast { at, row: stride, step: 1 };
                let across = |at| Broadcast { at, row: 1, step: stride };
                let store =
                    |to: RowsMut, rows, factor| Store { to: to.of(image, rows, first), stride: to.stride, factor };
                let by_key = [keys, head_dim, queries];
                if !args.dq.at.is_null() {
                    let k = Panel { at: k, step: args.k.stride };
                    let dq = store(args.dq, queries, attention.scale);
                    multiply::<S>([queries, head_dim, keys], along(dscores), k, dq);
                }
                if !args.dk.at.is_null() {
                    let q = Panel { at: q, step: args.q.stride };
                    multiply::<S>(by_key, across(dscores), q, store(args.dk, keys, attention.scale));
                }
                if !args.dv.at.is_null() {
                    let left = if dropout.is_some() { kept.cast_const() } else { weights };
                    let dcontext = Panel { at: dcontext, step: embed_dim };
                    multiply::<S>(by_key, across(left), dcontext, store(args.dv, keys, factor));
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
    queries: usize,
    keys: usize,
    head_dim: usize,
    embed_dim: usize,
    context: *const f32,
    dcontext: *const f32,
    weights: *const f32,
}

/// Turns the gradient of the weights into that of the scores, in place; with dropout also writes the weights left.
#[inline(always)]
unsafe fn rows_gradient<S: Simd>(args: &Gradient, dropout: bool, dscores: *mut f32, kept: *mut f32) {
    unsafe {
        let stride = args.keys.next_multiple_of(LANES);
        let zero = S::splat(0.0);
        for row in 0..args.queries {
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
                let weight = S::load(args.weights.add(at));
                let mut dweight = S::load(dscores.add(at));
                if dropout {
                    // A weight of exactly 0 counts as dropped; its gradient is 0 either way.
                    let keeps = S::greater(weight, zero);
                    S::store(kept.add(at), S::max(weight, zero));
                    dweight = S::select(keeps, dweight, zero);
                }
                S::store(dscores.add(at), S::mul(S::abs(weight), S::sub(dweight, sum)));
            }
        }
    }
}

/// The same for softmax over the queries.
#[inline(always)]
unsafe fn columns_gradient<S: Simd>(args: &Gradient, dropout: bool, dscores: *mut f32, kept: *mut f32) {
    unsafe {
        let stride = args.keys.next_multiple_of(LANES);
        let zero = S::splat(0.0);
        for v in 0..stride / LANES {
            let mut sum = zero;
            for row in 0..args.queries {
                let at = row * stride + v * LANES;
                // A dropped weight is negative and adds nothing.
                sum = S::mul_add(S::max(S::load(args.weights.add(at)), zero), S::load(dscores.add(at)), sum);
            }
            for row in 0..args.queries {
                let at = row * stride + v * LANES;
                let weight = S::load(args.weights.add(at));
                let mut dweight = S::load(dscores.add(at));
                if dropout {
                    let keeps = S::greater(weight, zero);
                    S::store(kept.add(at), S::max(weight, zero));
                    dweight = S::select(keeps, dweight, zero);
                }
                S::store(dscores.add(at), S::mul(S::abs(weight), S::sub(dweight, sum)));
            }
        }
    }
}
