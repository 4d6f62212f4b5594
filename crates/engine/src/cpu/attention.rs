//! Multi-head self-attention, one head of one image at a time, so that its scores stay in the first-level caches.
//!
//! The weights (after softmax) are kept for the backward pass; a weight that dropout zeroed is kept with its sign
//! set, so that both the weight and the mask are there. The softmax of row i gives
//! `dscores = weights * (dweights - sum(dcontext * context))`, which needs no second pass over the weights.

use super::activation::LOG2_E;
use super::dropout::Mask;
use super::simd::{LANES, Simd, exp2, isa_kernel, load_up_to};
use super::tile::{Broadcast, MatrixProduct, Panel, Store, matrix_product};

/// Sizes of an attention over the images of a chunk, and what both passes share.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub images: usize,
    pub tokens: usize,
    pub heads: usize,
    pub head_dim: usize,
    /// What the scores are multiplied by.
    pub scale: f32,
    /// Rows are numbered head by head.
    pub dropout: Option<Mask>,
}

impl Sizes {
    /// Tokens rounded up to whole vectors: the stride of scores and weights.
    pub fn stride(&self) -> usize {
        self.tokens.next_multiple_of(LANES)
    }

    /// Values kept for the backward pass, for one image.
    pub fn weights_len(tokens: usize, heads: usize) -> usize {
        heads * tokens * tokens.next_multiple_of(LANES)
    }

    /// Values of scratch memory that either pass needs.
    pub fn scratch_len(tokens: usize, head_dim: usize) -> usize {
        let stride = tokens.next_multiple_of(LANES);
        head_dim.next_multiple_of(LANES) * stride + 2 * tokens * stride
    }

    fn embed_dim(&self) -> usize {
        self.heads * self.head_dim
    }
}

/// The forward pass.
pub(super) struct Forward {
    pub sizes: Sizes,
    /// `[images, tokens, 3 * embed_dim]`
    pub qkv: *const f32,
    /// `[images, tokens, embed_dim]`
    pub context: *mut f32,
    /// `[images, heads, tokens, stride]`; null when nobody asks for them.
    pub weights: *mut f32,
    pub scratch: *mut f32,
}

#[inline(always)]
unsafe fn forward_generic<S: Simd>(args: &Forward) {
    unsafe {
        let Sizes { images, tokens, heads, head_dim, scale, .. } = args.sizes;
        let (stride, embed_dim) = (args.sizes.stride(), args.sizes.embed_dim());
        let qkv_stride = 3 * embed_dim;
        let keys = args.scratch;
        let own_weights = keys.add(head_dim.next_multiple_of(LANES) * stride);
        let dropped = own_weights.add(tokens * stride);
        for image in 0..images {
            for head in 0..heads {
                let q = args.qkv.add(image * tokens * qkv_stride + head * head_dim);
                let (k, v) = (q.add(embed_dim), q.add(2 * embed_dim));
                let weights = if args.weights.is_null() {
                    own_weights
                } else {
                    args.weights.add((image * heads + head) * tokens * stride)
                };
                transpose::<S>(tokens, head_dim, k, qkv_stride, scale * LOG2_E, keys);
                let scores = Store { to: weights, stride, factor: 1.0 };
                let rows = Broadcast { at: q, row: qkv_stride, step: 1 };
                multiply::<S>([tokens, stride, head_dim], rows, Panel { at: keys, step: stride }, scores);
                let mut multiplied = weights;
                let mut factor = 1.0;
                if let Some(mask) = &args.sizes.dropout {
                    softmax::<S>(tokens, weights, Some((mask, image, head)), dropped);
                    (multiplied, factor) = (dropped, mask.scale);
                } else {
                    softmax::<S>(tokens, weights, None, dropped);
                }
                let to = args.context.add(image * tokens * embed_dim + head * head_dim);
                let context = Store { to, stride: embed_dim, factor };
                let rows = Broadcast { at: multiplied, row: stride, step: 1 };
                multiply::<S>([tokens, head_dim, tokens], rows, Panel { at: v, step: qkv_stride }, context);
            }
        }
    }
}

isa_kernel! {
    /// Lets every token gather from all tokens of its image.
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

/// Softmax of each row of scores to base 2, in place; with dropout also the weights that are left, unscaled.
#[inline(always)]
unsafe fn softmax<S: Simd>(tokens: usize, scores: *mut f32, dropout: Option<(&Mask, usize, usize)>, dropped: *mut f32) {
    unsafe {
        let stride = tokens.next_multiple_of(LANES);
        let vectors = stride / LANES;
        let last = S::first(tokens - (vectors - 1) * LANES);
        let zero = S::splat(0.0);
        for row in 0..tokens {
            let scores = scores.add(row * stride);
            let end = scores.add((vectors - 1) * LANES);
            let mut greatest = S::select(last, S::load(end), S::splat(f32::MIN));
            for v in 0..vectors - 1 {
                greatest = S::max(greatest, S::load(scores.add(v * LANES)));
            }
            let greatest = S::splat(S::greatest(greatest));
            let mut sum = zero;
            for v in 0..vectors - 1 {
                let e = exp2::<S>(S::sub(S::load(scores.add(v * LANES)), greatest));
                sum = S::add(sum, e);
                S::store(scores.add(v * LANES), e);
            }
            let e = S::select(last, exp2::<S>(S::sub(S::load(end), greatest)), zero);
            S::store(end, e);
            let inverse = S::splat(1.0 / S::sum(S::add(sum, e)));
            if let Some((mask, image, head)) = dropout {
                let first_block = (head * tokens + row) * tokens.div_ceil(32);
                let mut bits = mask.row_of::<S>(*mask.keys.add(image), first_block);
                let dropped = dropped.add(row * stride);
                for v in 0..vectors {
                    let weight = S::mul(S::load(scores.add(v * LANES)), inverse);
                    let keeps = bits.keeps(v, false);
                    S::store(scores.add(v * LANES), S::select(keeps, weight, S::sub(S::splat(-0.0), weight)));
                    S::store(dropped.add(v * LANES), S::select(keeps, weight, zero));
                }
            } else {
                for v in 0..vectors {
                    S::store(scores.add(v * LANES), S::mul(S::load(scores.add(v * LANES)), inverse));
                }
            }
        }
    }
}

/// The backward pass.
pub(super) struct Backward {
    pub sizes: Sizes,
    /// `[images, tokens, 3 * embed_dim]`
    pub qkv: *const f32,
    /// `[images, tokens, embed_dim]`
    pub context: *const f32,
    /// As the forward pass left them.
    pub weights: *const f32,
    /// `[images, tokens, embed_dim]`
    pub dcontext: *const f32,
    /// `[images, tokens, 3 * embed_dim]`
    pub dqkv: *mut f32,
    pub scratch: *mut f32,
}

#[inline(always)]
unsafe fn backward_generic<S: Simd>(args: &Backward) {
    unsafe {
        let Sizes { images, tokens, heads, head_dim, scale, dropout } = args.sizes;
        let (stride, embed_dim) = (args.sizes.stride(), args.sizes.embed_dim());
        let qkv_stride = 3 * embed_dim;
        let values = args.scratch;
        let dscores = values.add(head_dim.next_multiple_of(LANES) * stride);
        let kept = dscores.add(tokens * stride);
        for image in 0..images {
            for head in 0..heads {
                let at = image * tokens * qkv_stride + head * head_dim;
                let (q, dq) = (args.qkv.add(at), args.dqkv.add(at));
                let (k, v) = (q.add(embed_dim), q.add(2 * embed_dim));
                let (dk, dv) = (dq.add(embed_dim), dq.add(2 * embed_dim));
                let at = image * tokens * embed_dim + head * head_dim;
                let (dcontext, context) = (args.dcontext.add(at), args.context.add(at));
                let weights = args.weights.add((image * heads + head) * tokens * stride);

                let factor = dropout.map_or(1.0, |mask| mask.scale);
                transpose::<S>(tokens, head_dim, v, qkv_stride, factor, values);
                let rows = Broadcast { at: dcontext, row: embed_dim, step: 1 };
                let dweights = Store { to: dscores, stride, factor: 1.0 };
                multiply::<S>([tokens, stride, head_dim], rows, Panel { at: values, step: stride }, dweights);
                let gradient = RowGradient { tokens, head_dim, embed_dim, context, dcontext, weights };
                softmax_gradient::<S>(&gradient, dropout.is_some(), dscores, kept);

                let along = |at| Broadcast { at, row: stride, step: 1 };
                let across = |at| Broadcast { at, row: 1, step: stride };
                let store = |to, factor| Store { to, stride: qkv_stride, factor };
                let panel = |at| Panel { at, step: qkv_stride };
                let size = [tokens, head_dim, tokens];
                multiply::<S>(size, along(dscores), panel(k), store(dq, scale));
                multiply::<S>(size, across(dscores), panel(q), store(dk, scale));
                let left = if dropout.is_some() { kept.cast_const() } else { weights };
                let dcontext = Panel { at: dcontext, step: embed_dim };
                multiply::<S>(size, across(left), dcontext, store(dv, factor));
            }
        }
    }
}

isa_kernel! {
    /// Takes a gradient through an attention.
    backward, backward_generic, Backward
}

/// What the softmax's gradient reads.
struct RowGradient {
    tokens: usize,
    head_dim: usize,
    embed_dim: usize,
    context: *const f32,
    dcontext: *const f32,
    weights: *const f32,
}

/// Turns the gradient of the weights into that of the scores, in place; with dropout also writes the weights left.
#[inline(always)]
unsafe fn softmax_gradient<S: Simd>(args: &RowGradient, dropout: bool, dscores: *mut f32, kept: *mut f32) {
    unsafe {
        let stride = args.tokens.next_multiple_of(LANES);
        let zero = S::splat(0.0);
        for row in 0..args.tokens {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Isa;
    use crate::cpu::testing::{Draws, Guarded, check, numbers, same_bits, wide};
    use crate::ops::Attention;
    use crate::reference;

    /// One attention with everything that its kernels read.
    struct Case {
        /// Images, tokens, heads, width of a head.
        size: [usize; 4],
        rate: f32,
        qkv: Vec<f32>,
        dy: Vec<f32>,
        draws: Draws,
    }

    impl Case {
        fn new(size: [usize; 4], rate: f32) -> Self {
            let [images, tokens, heads, head_dim] = size;
            let len = images * tokens * heads * head_dim;
            let qkv = numbers(1, 3 * len).iter().map(|x| 2.0 * x).collect();
            Case { size, rate, qkv, dy: numbers(2, len), draws: Draws::new(rate, images) }
        }

        fn sizes(&self) -> Sizes {
            let [images, tokens, heads, head_dim] = self.size;
            let dropout = (self.rate > 0.0).then(|| self.draws.mask(heads * tokens, tokens));
            Sizes { images, tokens, heads, head_dim, scale: self.scale(), dropout }
        }

        fn scale(&self) -> f32 {
            1.0 / (self.size[3] as f32).sqrt()
        }

        /// The context, and the gradient of query, key and value.
        fn expected(&self) -> [Vec<f64>; 2] {
            let [images, tokens, heads, head_dim] = self.size;
            let embed_dim = heads * head_dim;
            let dropout = Some(self.draws.dropout).filter(|_| self.rate > 0.0);
            let attention = Attention { heads, scale: self.scale(), dropout };
            let (qkv, dy) = (wide(&self.qkv), wide(&self.dy));
            let mut expected = [vec![], vec![]];
            for image in 0..images {
                let key = Some(self.draws.images[image]);
                let qkv = &qkv[image * tokens * 3 * embed_dim..][..tokens * 3 * embed_dim];
                let dy = &dy[image * tokens * embed_dim..][..tokens * embed_dim];
                expected[0].extend(reference::attention::forward(attention, key, qkv, embed_dim));
                expected[1].extend(reference::attention::grad(attention, key, dy, qkv, embed_dim));
            }
            expected
        }

        fn scratch(&self) -> Guarded {
            Guarded::unset(Sizes::scratch_len(self.size[1], self.size[3]))
        }

        /// The context, and the weights if they are kept.
        fn forward(&self, isa: Isa, keeps: bool) -> [Guarded; 2] {
            let len = if keeps { self.size[0] * Sizes::weights_len(self.size[1], self.size[2]) } else { 0 };
            let (qkv, mut scratch) = (Guarded::new(&self.qkv), self.scratch());
            let (mut context, mut weights) = (Guarded::unset(self.dy.len()), Guarded::unset(len));
            let args = Forward {
                sizes: self.sizes(),
                qkv: qkv.read(),
                context: context.pointer(),
                weights: if keeps { weights.pointer() } else { std::ptr::null_mut() },
                scratch: scratch.pointer(),
            };
            unsafe { forward(isa, &args) };
            scratch.values();
            [context, weights]
        }

        fn backward(&self, isa: Isa) -> Vec<Vec<f32>> {
            let [context, weights] = self.forward(isa, true);
            let (qkv, dy) = (Guarded::new(&self.qkv), Guarded::new(&self.dy));
            let (mut dqkv, mut scratch) = (Guarded::unset(self.qkv.len()), self.scratch());
            let args = Backward {
                sizes: self.sizes(),
                qkv: qkv.read(),
                context: context.read(),
                weights: weights.read(),
                dcontext: dy.read(),
                dqkv: dqkv.pointer(),
                scratch: scratch.pointer(),
            };
            unsafe { backward(isa, &args) };
            scratch.values();
            weights.values();
            vec![context.values(), dqkv.values()]
        }
    }

    fn check_all(sizes: impl IntoIterator<Item = [usize; 4]>) {
        for size in sizes {
            for rate in [0.0, 0.3] {
                let case = Case::new(size, rate);
                let what = format_args!("images, tokens, heads, head_dim {size:?}, dropout {rate}");
                check(what, &case.expected(), 2e-6, |isa| case.backward(isa));
                for isa in Isa::available() {
                    let [kept, not_kept] = [true, false].map(|keeps| vec![case.forward(isa, keeps)[0].values()]);
                    assert!(same_bits(&kept, &not_kept), "{isa:?} {size:?}: kept weights show in the context");
                }
            }
        }
    }

    #[test]
    fn context_and_gradients_are_those_of_the_reference_for_all_widths() {
        for head_dim in [1, 2, 5, 16, 17, 32, 64, 67] {
            check_all([[2, 5, 3, head_dim], [1, 17, 2, head_dim]]);
        }
    }

    #[test]
    fn context_and_gradients_are_those_of_the_reference_for_all_numbers_of_tokens() {
        check_all([1, 2, 15, 16, 31, 33, 50, 65].map(|tokens| [2, tokens, 2, 7]));
        check_all([[1, 197, 1, 5]]);
    }

    #[test]
    fn great_scores_overflow_nothing() {
        let mut case = Case::new([1, 17, 1, 5], 0.0);
        case.qkv.iter_mut().for_each(|x| *x *= 40.0);
        // Scores of thousands: their rounding alone is worth 1e-3 of a weight.
        check(format_args!("great scores"), &case.expected(), 2e-3, |isa| case.backward(isa));
    }
}
