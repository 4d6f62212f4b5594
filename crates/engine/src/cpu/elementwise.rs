//! Sums and products of values that are not fused into another kernel.

use super::linear::Multiply;
use super::simd::{LANES, Simd, isa_kernel, load_up_to, store_up_to};

/// `out = a + b` for each image, where `b` may be one table for all images.
pub(super) struct Add {
    pub images: usize,
    /// Values of one image.
    pub len: usize,
    pub a: *const f32,
    pub b: *const f32,
    /// Whether all images share `b`.
    pub shared: bool,
    /// The result; may be `a` or, unless shared, `b`.
    pub out: *mut f32,
}

#[inline(always)]
unsafe fn add_generic<S: Simd>(args: &Add) {
    unsafe {
        for image in 0..args.images {
            let start = image * args.len;
            let b = if args.shared { args.b } else { args.b.add(start) };
            let mut at = 0;
            while at < args.len {
                let n = args.len - at;
                let sum = S::add(load_up_to::<S>(args.a.add(start + at), n), load_up_to::<S>(b.add(at), n));
                store_up_to::<S>(args.out.add(start + at), n, sum);
                at += LANES;
            }
        }
    }
}

isa_kernel! {
    /// Adds two values.
    add, add_generic, Add
}

/// Values times factors.
pub(super) struct Scale {
    pub len: usize,
    pub x: *const f32,
    pub multiply: Multiply,
    /// The result; may be `x`.
    pub out: *mut f32,
}

#[inline(always)]
unsafe fn scale_generic<S: Simd>(args: &Scale) {
    unsafe {
        let mut at = 0;
        while at < args.len {
            let n = args.len - at;
            let out = args.multiply.apply::<S>(load_up_to::<S>(args.x.add(at), n), at, n);
            store_up_to::<S>(args.out.add(at), n, out);
            at += LANES;
        }
    }
}

isa_kernel! {
    /// Multiplies values with factors.
    scale, scale_generic, Scale
}

/// `out = x * factors + residual`, with a factor for each feature.
pub(super) struct ScaleFeatures {
    pub rows: usize,
    pub features: usize,
    pub x: *const f32,
    pub factors: *const f32,
    /// Added at the end, or null.
    pub residual: *const f32,
    /// The result; may be `x` or `residual`.
    pub out: *mut f32,
}

#[inline(always)]
unsafe fn scale_features_generic<S: Simd>(args: &ScaleFeatures) {
    unsafe {
        for row in 0..args.rows {
            for feature in (0..args.features).step_by(LANES) {
                let (at, n) = (row * args.features + feature, args.features - feature);
                let factors = load_up_to::<S>(args.factors.add(feature), n);
                let mut out = S::mul(load_up_to::<S>(args.x.add(at), n), factors);
                if !args.residual.is_null() {
                    out = S::add(out, load_up_to::<S>(args.residual.add(at), n));
                }
                store_up_to::<S>(args.out.add(at), n, out);
            }
        }
    }
}

isa_kernel! {
    /// Multiplies features with factors.
    scale_features, scale_features_generic, ScaleFeatures
}

/// The gradients of such a product: `out = dy * factors`, and sums of `dy * x`, in the order of rows.
pub(super) struct ScaleFeaturesGrad {
    pub rows: usize,
    pub features: usize,
    pub dy: *const f32,
    pub x: *const f32,
    pub factors: *const f32,
    pub dfactors: *mut f32,
    /// Whether the sums are added to existing ones; otherwise they overwrite them.
    pub continues: bool,
    /// The result; may be `dy`, and null.
    pub out: *mut f32,
}

#[inline(always)]
unsafe fn scale_features_grad_generic<S: Simd>(args: &ScaleFeaturesGrad) {
    unsafe {
        for row in 0..args.rows {
            for feature in (0..args.features).step_by(LANES) {
                let (at, n) = (row * args.features + feature, args.features - feature);
                let (dy, sums) = (load_up_to::<S>(args.dy.add(at), n), args.dfactors.add(feature));
                let old = if args.continues || row > 0 { load_up_to::<S>(sums, n) } else { S::splat(0.0) };
                store_up_to::<S>(sums, n, S::mul_add(dy, load_up_to::<S>(args.x.add(at), n), old));
                if !args.out.is_null() {
                    let factors = load_up_to::<S>(args.factors.add(feature), n);
                    store_up_to::<S>(args.out.add(at), n, S::mul(dy, factors));
                }
            }
        }
    }
}

isa_kernel! {
    /// Computes the gradients of features that were multiplied with factors.
    scale_features_grad, scale_features_grad_generic, ScaleFeaturesGrad
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::{Guarded, check, numbers, wide};
    use std::ptr::{null, null_mut};

    const LENS: [usize; 8] = [1, 5, 15, 16, 17, 31, 33, 97];

    #[test]
    fn sums_are_exact_shared_or_not_and_in_place() {
        let images = 3;
        for len in LENS {
            for shared in [false, true] {
                let a = numbers(1, images * len);
                let b = numbers(2, if shared { len } else { images * len });
                let sum = a.iter().enumerate().map(|(i, a)| f64::from(a + b[i % b.len()])).collect();
                // Where the result goes: apart, over a, over b.
                for place in 0..if shared { 2 } else { 3 } {
                    check(
                        format_args!("{len}, shared {shared}, place {place}"),
                        std::slice::from_ref(&sum),
                        0.0,
                        |isa| {
                            let mut all = [Guarded::unset(a.len()), Guarded::new(&a), Guarded::new(&b)];
                            let out = all[place].pointer();
                            let args = Add { images, len, a: all[1].read(), b: all[2].read(), shared, out };
                            unsafe { add(isa, &args) };
                            vec![all[place].values()]
                        },
                    );
                }
            }
        }
    }

    #[test]
    fn values_are_scaled_by_factors_or_where_they_are_positive() {
        for len in LENS {
            let (x, mut factors) = (numbers(1, len), numbers(2, len));
            factors[0] = 0.0;
            factors.iter_mut().for_each(|factor| *factor *= 9.0);
            // By the factors themselves, by a number where they are positive, and where they are in ReLU6's middle part.
            for which in 0..3 {
                let scaled = x.iter().zip(&factors).map(|(&x, &factor)| match which {
                    0 => f64::from(x * factor),
                    1 if factor > 0.0 => f64::from(x * 1.75),
                    2 if factor > 0.0 && factor < 6.0 => f64::from(x),
                    _ => 0.0,
                });
                let expected = [scaled.collect()];
                for in_place in [false, true] {
                    let what = format_args!("{len}, way {which}, in place {in_place}");
                    check(what, &expected, 0.0, |isa| {
                        let (mut input, mut out) = (Guarded::new(&x), Guarded::unset(len));
                        let factors = Guarded::new(&factors);
                        let to = if in_place { input.pointer() } else { out.pointer() };
                        let multiply = match which {
                            0 => Multiply::By(factors.read()),
                            1 => Multiply::WherePositive(factors.read(), 1.75),
                            _ => Multiply::Between0And6(factors.read()),
                        };
                        let args = Scale { len, x: input.read(), multiply, out: to };
                        unsafe { scale(isa, &args) };
                        vec![if in_place { input.values() } else { out.values() }]
                    });
                }
            }
        }
    }

    #[test]
    fn features_are_scaled_and_their_gradients_add_up() {
        for (rows, features) in [(1, 1), (3, 5), (7, 16), (5, 33), (2, 64)] {
            let [x, dy, residual] = [1, 2, 3].map(|seed| numbers(seed, rows * features));
            let (factors, before) = (numbers(4, features), numbers(5, features));
            let [wx, wdy, wresidual] = [&x, &dy, &residual].map(|values| wide(values));
            let by = |values: &[f64]| -> Vec<f64> {
                values.iter().enumerate().map(|(i, x)| x * f64::from(factors[i % features])).collect()
            };
            let y: Vec<f64> = by(&wx).iter().zip(&wresidual).map(|(y, more)| y + more).collect();
            for continues in [false, true] {
                let mut sums = if continues { wide(&before) } else { vec![0.0; features] };
                wdy.iter().zip(&wx).enumerate().for_each(|(i, (dy, x))| sums[i % features] += dy * x);
                for in_place in [false, true] {
                    let expected = [by(&wx), y.clone(), by(&wdy), sums.clone(), sums.clone()];
                    check(format_args!("{rows} x {features}, in place {in_place}"), &expected, 1e-6, |isa| {
                        let [mut x1, mut residual, mut dy] = [&x, &residual, &dy].map(|values| Guarded::new(values));
                        let (x, factors) = (Guarded::new(&x), Guarded::new(&factors));
                        let mut apart = [0, 1, 2].map(|_| Guarded::unset(rows * features));
                        let mut sums =
                            [0, 1].map(|_| if continues { Guarded::new(&before) } else { Guarded::unset(features) });
                        let forward = |residual: *const f32, out: *mut f32, x: *const f32| {
                            let args = ScaleFeatures { rows, features, x, factors: factors.read(), residual, out };
                            unsafe { scale_features(isa, &args) };
                        };
                        let backward = |dfactors: *mut f32, out: *mut f32, dy: *const f32| {
                            let (x, factors) = (x.read(), factors.read());
                            let args = ScaleFeaturesGrad { rows, features, dy, x, factors, dfactors, continues, out };
                            unsafe { scale_features_grad(isa, &args) };
                        };
                        backward(sums[1].pointer(), null_mut(), dy.read());
                        if in_place {
                            forward(residual.read(), residual.pointer(), x.read());
                            forward(null(), x1.pointer(), x1.read());
                            backward(sums[0].pointer(), dy.pointer(), dy.read());
                        } else {
                            forward(null(), apart[0].pointer(), x.read());
                            forward(residual.read(), apart[1].pointer(), x.read());
                            backward(sums[0].pointer(), apart[2].pointer(), dy.read());
                        }
                        let all = if in_place { [&x1, &residual, &dy] } else { [&apart[0], &apart[1], &apart[2]] };
                        all.into_iter().chain(&sums).map(Guarded::values).collect()
                    });
                }
            }
        }
    }
}
