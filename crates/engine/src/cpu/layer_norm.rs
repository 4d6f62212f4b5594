//! Layer norm over rows, forward and backward; mean and 1 / deviation of each row are kept between the two.

use super::simd::{LANES, Simd, isa_kernel, load_up_to, store_up_to};

/// Normalises rows.
pub(super) struct Forward {
    pub rows: usize,
    pub features: usize,
    pub eps: f32,
    pub x: *const f32,
    pub weight: *const f32,
    pub bias: *const f32,
    /// The result; may be `x`.
    pub out: *mut f32,
    /// Mean and 1 / deviation of each row; null when nobody asks for them.
    pub stats: *mut f32,
    /// Whether a ReLU follows.
    pub relu: bool,
}

#[inline(always)]
unsafe fn forward_generic<S: Simd>(args: &Forward) {
    unsafe {
        let vectors = args.features.div_ceil(LANES);
        let inverse = 1.0 / args.features as f32;
        let zero = S::splat(0.0);
        for row in 0..args.rows {
            let x = args.x.add(row * args.features);
            let out = args.out.add(row * args.features);
            let mut sum = zero;
            for v in 0..vectors {
                sum = S::add(sum, load_up_to::<S>(x.add(v * LANES), args.features - v * LANES));
            }
            let mean = S::sum(sum) * inverse;
            let mut squares = zero;
            for v in 0..vectors {
                let n = args.features - v * LANES;
                let centred = S::sub(load_up_to::<S>(x.add(v * LANES), n), S::splat(mean));
                let centred = if n < LANES { S::select(S::first(n), centred, zero) } else { centred };
                squares = S::mul_add(centred, centred, squares);
            }
            let inverse_deviation = 1.0 / (S::sum(squares) * inverse + args.eps).sqrt();
            if !args.stats.is_null() {
                *args.stats.add(2 * row) = mean;
                *args.stats.add(2 * row + 1) = inverse_deviation;
            }
            for v in 0..vectors {
                let (at, n) = (v * LANES, args.features - v * LANES);
                let centred = S::sub(load_up_to::<S>(x.add(at), n), S::splat(mean));
                let normal = S::mul(centred, S::splat(inverse_deviation));
                let weight = load_up_to::<S>(args.weight.add(at), n);
                let y = S::mul_add(normal, weight, load_up_to::<S>(args.bias.add(at), n));
                store_up_to::<S>(out.add(at), n, if args.relu { S::max(y, zero) } else { y });
            }
        }
    }
}

isa_kernel! {
    /// Normalises each row, then scales and shifts it.
    forward, forward_generic, Forward
}

/// The gradient of rows that were normalised.
pub(super) struct Backward {
    pub rows: usize,
    pub features: usize,
    pub dy: *const f32,
    pub x: *const f32,
    pub stats: *const f32,
    pub weight: *const f32,
    /// Gradient of the weight.
    pub dweight: *mut f32,
    /// Gradient of the bias.
    pub dbias: *mut f32,
    /// Whether the parameters' gradients go on with what stands there.
    pub continues: bool,
    /// Added to the input's gradient; null for nothing.
    pub residual: *const f32,
    /// Gradient of the input; may be `residual` or `dy`; null when nobody asks for it.
    pub dx: *mut f32,
}

#[inline(always)]
unsafe fn backward_generic<S: Simd>(args: &Backward) {
    unsafe {
        let vectors = args.features.div_ceil(LANES);
        let inverse = 1.0 / args.features as f32;
        let zero = S::splat(0.0);
        for row in 0..args.rows {
            let offset = row * args.features;
            let (mean, deviation) = (S::splat(*args.stats.add(2 * row)), S::splat(*args.stats.add(2 * row + 1)));
            let fresh = row == 0 && !args.continues;
            let (mut sum, mut product) = (zero, zero);
            for v in 0..vectors {
                let (at, n) = (v * LANES, args.features - v * LANES);
                let dy = load_up_to::<S>(args.dy.add(offset + at), n);
                let normal = S::mul(S::sub(load_up_to::<S>(args.x.add(offset + at), n), mean), deviation);
                let (dweight, dbias) = if fresh {
                    (zero, zero)
                } else {
                    (load_up_to::<S>(args.dweight.add(at), n), load_up_to::<S>(args.dbias.add(at), n))
                };
                store_up_to::<S>(args.dweight.add(at), n, S::mul_add(dy, normal, dweight));
                store_up_to::<S>(args.dbias.add(at), n, S::add(dbias, dy));
                // Lanes beyond the row hold dy = 0, so they add nothing.
                let scaled = S::mul(dy, load_up_to::<S>(args.weight.add(at), n));
                sum = S::add(sum, scaled);
                product = S::mul_add(scaled, normal, product);
            }
            if args.dx.is_null() {
                continue;
            }
            let (sum, product) = (S::splat(S::sum(sum) * -inverse), S::splat(S::sum(product) * -inverse));
            for v in 0..vectors {
                let (at, n) = (offset + v * LANES, args.features - v * LANES);
                let dy = load_up_to::<S>(args.dy.add(at), n);
                let normal = S::mul(S::sub(load_up_to::<S>(args.x.add(at), n), mean), deviation);
                let scaled = S::mul(dy, load_up_to::<S>(args.weight.add(v * LANES), n));
                let inner = S::add(S::mul_add(normal, product, scaled), sum);
                let dx = if args.residual.is_null() {
                    S::mul(inner, deviation)
                } else {
                    S::mul_add(inner, deviation, load_up_to::<S>(args.residual.add(at), n))
                };
                store_up_to::<S>(args.dx.add(at), n, dx);
            }
        }
    }
}

isa_kernel! {
    /// Takes a gradient through a layer norm.
    backward, backward_generic, Backward
}
