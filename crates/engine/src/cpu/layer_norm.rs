//! Layer norm over rows, forward and backward; mean and 1 / deviation of each row are kept between the two.

use super::simd::{LANES, Simd, isa_kernel, load_up_to, store_up_to};

/// Normalizes rows.
pub(super) struct Forward {
    pub rows: usize,
    pub features: usize,
    pub eps: f32,
    pub x: *const f32,
    pub weight: *const f32,
    pub bias: *const f32,
    /// The result; may be `x`.
    pub out: *mut f32,
    /// Mean and 1 / deviation of each row; null where they are not needed.
    pub stats: *mut f32,
    /// Whether a ReLU is fused in.
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
                store_up_to::<S>(out.add(at), n, if args.relu { S::max(zero, y) } else { y });
            }
        }
    }
}

isa_kernel! {
    /// Normalizes each row, then scales and shifts it.
    forward, forward_generic, Forward
}

/// The gradient of rows that were normalized.
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
    /// Whether the parameters' gradients are added to what is there.
    pub continues: bool,
    /// Added to the input's gradient; null for nothing.
    pub residual: *const f32,
    /// Gradient of the input; may be `residual` or `dy`; null where it is not needed.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Isa;
    use crate::cpu::testing::{Guarded, check, numbers, wide};
    use crate::reference::layer_norm;

    const FEATURES: [usize; 13] = [1, 2, 3, 5, 7, 13, 15, 16, 17, 31, 33, 65, 97];
    const EPS: f32 = 1e-2;

    /// Rows whose mean is far from 0.
    fn rows(len: usize) -> Vec<f32> {
        numbers(1, len).iter().map(|x| 2.0 * x + 3.0).collect()
    }

    /// Mean and 1 / deviation of each row.
    fn stats(x: &[f64], features: usize) -> Vec<f64> {
        let of = |row: &[f64]| {
            let mean = row.iter().sum::<f64>() / features as f64;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / features as f64;
            [mean, 1.0 / (variance + f64::from(EPS)).sqrt()]
        };
        x.chunks_exact(features).flat_map(of).collect()
    }

    #[test]
    fn normalized_rows_equal_the_reference_also_in_place_and_with_a_relu() {
        for features in FEATURES {
            for rows_count in [1, 2, 5, 13] {
                let x = rows(rows_count * features);
                let (weight, bias) = (numbers(2, features), numbers(3, features));
                let y = layer_norm::forward(&wide(&x), &wide(&weight), &wide(&bias), f64::from(EPS));
                for (relu, in_place, keeps) in [(false, false, true), (true, false, true), (true, true, false)] {
                    let y = y.iter().map(|&y| if relu { y.max(0.0) } else { y }).collect();
                    let kept = if keeps { stats(&wide(&x), features) } else { vec![] };
                    let what = format_args!("{rows_count} x {features}, relu {relu}, in place {in_place}");
                    check(what, &[y, kept], 2e-6, |isa| {
                        let (mut input, mut out) = (Guarded::new(&x), Guarded::unset(x.len()));
                        let (weight, bias) = (Guarded::new(&weight), Guarded::new(&bias));
                        let mut stats = Guarded::unset(if keeps { 2 * rows_count } else { 0 });
                        let args = Forward {
                            rows: rows_count,
                            features,
                            eps: EPS,
                            x: input.read(),
                            weight: weight.read(),
                            bias: bias.read(),
                            out: if in_place { input.pointer() } else { out.pointer() },
                            stats: if keeps { stats.pointer() } else { std::ptr::null_mut() },
                            relu,
                        };
                        unsafe { forward(isa, &args) };
                        vec![if in_place { input.values() } else { out.values() }, stats.values()]
                    });
                }
            }
        }
    }

    #[test]
    fn a_relu_keeps_nan() {
        let (x, weight, bias) = (vec![f32::NAN; 17], vec![1.0; 17], vec![0.0; 17]);
        for isa in Isa::available() {
            let (input, mut out) = (Guarded::new(&x), Guarded::unset(17));
            let (weight, bias) = (Guarded::new(&weight), Guarded::new(&bias));
            let args = Forward {
                rows: 1,
                features: 17,
                eps: EPS,
                x: input.read(),
                weight: weight.read(),
                bias: bias.read(),
                out: out.pointer(),
                stats: std::ptr::null_mut(),
                relu: true,
            };
            unsafe { forward(isa, &args) };
            assert!(out.values().iter().all(|y| y.is_nan()), "{isa:?}: {:?}", out.values());
        }
    }

    /// Where the gradient of the input goes.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Place {
        Nowhere,
        Apart,
        OverDy,
        OverResidual,
    }

    #[test]
    fn gradients_equal_the_reference_with_residual_in_place_and_continued() {
        for features in FEATURES {
            for rows_count in [1, 2, 13] {
                let (x, dy) = (rows(rows_count * features), numbers(2, rows_count * features));
                let (weight, residual) = (numbers(3, features), numbers(4, x.len()));
                let before = [numbers(5, features), numbers(6, features)];
                let dx = layer_norm::input_grad(&wide(&dy), &wide(&x), &wide(&weight), f64::from(EPS));
                let params = layer_norm::param_grads(&wide(&dy), &wide(&x), features, f64::from(EPS));
                let kept: Vec<f32> = stats(&wide(&x), features).iter().map(|&x| x as f32).collect();
                let places = [
                    (Place::Nowhere, false),
                    (Place::Apart, false),
                    (Place::Apart, true),
                    (Place::OverDy, false),
                    (Place::OverDy, true),
                    (Place::OverResidual, true),
                ];
                for ((place, adds), continues) in places.into_iter().flat_map(|place| [(place, false), (place, true)]) {
                    let sum = |x: &[f64], more: &[f32], counts: bool| -> Vec<f64> {
                        x.iter().zip(more).map(|(x, &more)| x + if counts { f64::from(more) } else { 0.0 }).collect()
                    };
                    let mut expected: Vec<_> = (0..2).map(|i| sum(&params[i], &before[i], continues)).collect();
                    if place != Place::Nowhere {
                        expected.push(sum(&dx, &residual, adds));
                    }
                    let what =
                        format_args!("{rows_count} x {features}, {place:?}, residual {adds}, continues {continues}");
                    check(what, &expected, 2e-6, |isa| {
                        let mut all = [Guarded::unset(x.len()), Guarded::new(&dy), Guarded::new(&residual)];
                        let mut params = before
                            .each_ref()
                            .map(|before| if continues { Guarded::new(before) } else { Guarded::unset(features) });
                        let (x, stats, weight) = (Guarded::new(&x), Guarded::new(&kept), Guarded::new(&weight));
                        let [apart, over_dy, over_residual] = all.each_mut().map(Guarded::pointer);
                        let [dweight, dbias] = params.each_mut().map(Guarded::pointer);
                        let dx = match place {
                            Place::Nowhere => std::ptr::null_mut(),
                            Place::Apart => apart,
                            Place::OverDy => over_dy,
                            Place::OverResidual => over_residual,
                        };
                        let args = Backward {
                            rows: rows_count,
                            features,
                            dy: over_dy,
                            x: x.read(),
                            stats: stats.read(),
                            weight: weight.read(),
                            dweight,
                            dbias,
                            continues,
                            residual: if adds { over_residual } else { std::ptr::null() },
                            dx,
                        };
                        unsafe { backward(isa, &args) };
                        let mut found: Vec<_> = params.iter().map(Guarded::values).collect();
                        let values = all.each_ref().map(Guarded::values);
                        match place {
                            Place::Nowhere => {}
                            Place::Apart => found.push(values[0].clone()),
                            Place::OverDy => found.push(values[1].clone()),
                            Place::OverResidual => found.push(values[2].clone()),
                        }
                        found
                    });
                }
            }
        }
    }
}
