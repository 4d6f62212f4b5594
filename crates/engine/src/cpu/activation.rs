//! Activation functions on vectors, each with its derivative, and the kernels that apply them on their own.

use super::simd::{LANES, Simd, exp2, isa_kernel, load_up_to, store_up_to};
use crate::ops::Activation;

/// log2(e)
pub(super) const LOG2_E: f32 = std::f32::consts::LOG2_E;

/// Returns a function's value and derivative at `x`.
#[inline(always)]
pub(super) unsafe fn value_and_derivative<S: Simd>(activation: Activation, x: S::V) -> (S::V, S::V) {
    unsafe {
        match activation {
            Activation::Relu => relu::<S>(x),
            Activation::Relu6 => relu6::<S>(x),
            Activation::Gelu => gelu::<S>(x),
            Activation::GeluTanh => gelu_tanh::<S>(x),
            Activation::Tanh => tanh::<S>(x),
        }
    }
}

#[inline(always)]
unsafe fn relu<S: Simd>(x: S::V) -> (S::V, S::V) {
    unsafe {
        let zero = S::splat(0.0);
        // The constant comes first: of a pair with a NaN, the second is returned.
        (S::max(zero, x), S::select(S::greater(x, zero), S::splat(1.0), zero))
    }
}

#[inline(always)]
unsafe fn relu6<S: Simd>(x: S::V) -> (S::V, S::V) {
    unsafe {
        let (zero, most) = (S::splat(0.0), S::splat(6.0));
        let above = S::select(S::greater(x, zero), S::splat(1.0), zero);
        // The constants come first, so that NaN stays NaN.
        (S::min(most, S::max(zero, x)), S::select(S::greater(most, x), above, zero))
    }
}

/// GELU by Phi(-|x|) = exp(-x^2 / 2) R(1 / (1 + 0.27 |x|)), with R fitted to 1.6e-8 of the value for |x| up to 13.
#[inline(always)]
unsafe fn gelu<S: Simd>(x: S::V) -> (S::V, S::V) {
    const R: [f32; 10] = [
        0.026_447_552,
        -0.113_012_98,
        0.138_548_87,
        -0.028_177_688,
        0.074_241_07,
        0.089_775_55,
        0.095_788_57,
        0.108_810_78,
        0.107_570_69,
        7.588_892_4e-6,
    ];
    const INV_SQRT_TAU: f32 = 0.398_942_3;
    unsafe {
        let one = S::splat(1.0);
        let bell = exp2::<S>(S::mul(S::mul(x, x), S::splat(-0.5 * LOG2_E)));
        let t = S::div(one, S::mul_add(S::abs(x), S::splat(0.27), one));
        let mut tail = S::splat(R[0]);
        for term in &R[1..] {
            tail = S::mul_add(tail, t, S::splat(*term));
        }
        let tail = S::mul(tail, bell);
        let phi = S::select(S::greater(x, S::splat(0.0)), S::sub(one, tail), tail);
        (S::mul(x, phi), S::mul_add(S::mul(x, bell), S::splat(INV_SQRT_TAU), phi))
    }
}

/// x s(2 u), with s the logistic function and u = sqrt(2 / pi) (x + 0.044715 x^3).
#[inline(always)]
unsafe fn gelu_tanh<S: Simd>(x: S::V) -> (S::V, S::V) {
    const ROOT: f32 = 0.797_884_6;
    const CUBE: f32 = 0.044_715;
    unsafe {
        let (one, square) = (S::splat(1.0), S::mul(x, x));
        let u = S::mul(S::mul(x, S::splat(ROOT)), S::mul_add(square, S::splat(CUBE), one));
        let s = S::div(one, S::add(exp2::<S>(S::mul(u, S::splat(-2.0 * LOG2_E))), one));
        let value = S::mul(x, s);
        let slope = S::mul(S::splat(2.0 * ROOT), S::mul_add(square, S::splat(3.0 * CUBE), one));
        (value, S::mul_add(S::mul(value, S::sub(one, s)), slope, s))
    }
}

#[inline(always)]
unsafe fn tanh<S: Simd>(x: S::V) -> (S::V, S::V) {
    unsafe {
        let one = S::splat(1.0);
        let e = exp2::<S>(S::mul(x, S::splat(2.0 * LOG2_E)));
        let value = S::sub(one, S::div(S::splat(2.0), S::add(e, one)));
        (value, S::sub(one, S::mul(value, value)))
    }
}

/// Applies an activation to values outside a product.
pub(super) struct Apply {
    /// The function.
    pub activation: Activation,
    /// Number of values.
    pub len: usize,
    /// Where the function is taken.
    pub x: *const f32,
    /// Null for the function's value; else its derivative is multiplied by this.
    pub dy: *const f32,
    /// The result.
    pub out: *mut f32,
}

#[inline(always)]
unsafe fn apply_generic<S: Simd>(args: &Apply) {
    unsafe {
        let mut at = 0;
        while at < args.len {
            let n = args.len - at;
            let (value, derivative) = value_and_derivative::<S>(args.activation, load_up_to::<S>(args.x.add(at), n));
            let out = if args.dy.is_null() { value } else { S::mul(derivative, load_up_to::<S>(args.dy.add(at), n)) };
            store_up_to::<S>(args.out.add(at), n, out);
            at += LANES;
        }
    }
}

isa_kernel! {
    /// Applies an activation, or its derivative to a gradient.
    apply, apply_generic, Apply
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Isa;
    use crate::cpu::testing::{Guarded, check, numbers, wide};
    use crate::reference::activation;

    const ALL: [Activation; 5] =
        [Activation::Relu, Activation::Relu6, Activation::Gelu, Activation::GeluTanh, Activation::Tanh];

    #[test]
    fn values_and_gradients_equal_the_reference_also_in_place() {
        for len in [1, 2, 5, 13, 15, 16, 17, 31, 33, 97] {
            let dy = numbers(2, len);
            for function in ALL {
                // Also over 6, where ReLU6 ends.
                let most = if function == Activation::Relu6 { 9.0 } else { 3.0 };
                let x: Vec<f32> = numbers(1, len).iter().map(|x| most * x).collect();
                let values = wide(&x).iter().map(|&x| activation::value(function, x)).collect();
                let slopes = wide(&x).into_iter().map(|x| activation::derivative(function, x));
                let expected = [values, slopes.zip(&dy).map(|(slope, &dy)| slope * f64::from(dy)).collect()];
                for in_place in [false, true] {
                    let what = format_args!("{function:?} of {len}, in place {in_place}");
                    check(what, &expected, 2e-6, |isa| {
                        let run = |x: &mut Guarded, dy: Option<&mut Guarded>| {
                            let mut out = Guarded::unset(len);
                            let from = x.read();
                            let (dy, to) = match dy {
                                Some(dy) if in_place => (dy.read(), dy.pointer()),
                                Some(dy) => (dy.read(), out.pointer()),
                                None if in_place => (std::ptr::null(), x.pointer()),
                                None => (std::ptr::null(), out.pointer()),
                            };
                            let args = Apply { activation: function, len, x: from, dy, out: to };
                            unsafe { apply(isa, &args) };
                            out
                        };
                        let (mut a, mut b, mut gradient) = (Guarded::new(&x), Guarded::new(&x), Guarded::new(&dy));
                        let value = run(&mut a, None);
                        let slope = run(&mut b, Some(&mut gradient));
                        if in_place {
                            vec![a.values(), gradient.values()]
                        } else {
                            vec![value.values(), slope.values()]
                        }
                    });
                }
            }
        }
    }

    /// The largest errors allowed, of value and derivative, in the order of `ALL`. A tanh near 0 is a difference of
    /// numbers near 1, so its error is small only relative to 1.
    const MOST: [[f64; 2]; 5] = [[0.0, 0.0], [0.0, 0.0], [1.2e-7, 2.0e-7], [1.5e-7, 4.5e-7], [2.0e-7, 3.0e-7]];

    /// Largest error of value and derivative for x in -16 ... 16, as part of max(1, |x|).
    fn largest_errors(isa: Isa, function: Activation) -> [f64; 2] {
        let x: Vec<f32> = (-16 * 2048..=16 * 2048).map(|i| i as f32 / 2048.0 + 1e-5).collect();
        let (input, ones) = (Guarded::new(&x), Guarded::new(&vec![1.0; x.len()]));
        [std::ptr::null(), ones.read()].map(|dy| {
            let mut out = Guarded::unset(x.len());
            let args = Apply { activation: function, len: x.len(), x: input.read(), dy, out: out.pointer() };
            unsafe { apply(isa, &args) };
            let exact = |x: f64| {
                if dy.is_null() { activation::value(function, x) } else { activation::derivative(function, x) }
            };
            let errors = x.iter().zip(out.values()).map(|(&x, y)| {
                let x = f64::from(x);
                (f64::from(y) - exact(x)).abs() / x.abs().max(1.0)
            });
            errors.fold(0.0, f64::max)
        })
    }

    #[test]
    fn nan_stays_nan() {
        let x = [f32::NAN, 1.0];
        for isa in Isa::available() {
            for function in ALL {
                let (input, mut out) = (Guarded::new(&x), Guarded::unset(2));
                let args =
                    Apply { activation: function, len: 2, x: input.read(), dy: std::ptr::null(), out: out.pointer() };
                unsafe { apply(isa, &args) };
                assert!(out.values()[0].is_nan() && out.values()[1] > 0.0, "{isa:?} {function:?}: {:?}", out.values());
                assert!(activation::value(function, f64::NAN).is_nan());
            }
        }
    }

    #[test]
    fn errors_are_a_few_roundings_at_most() {
        for isa in Isa::available() {
            for (function, [value, derivative]) in ALL.into_iter().zip(MOST) {
                let found = largest_errors(isa, function);
                assert!(found[0] <= value && found[1] <= derivative, "{isa:?} {function:?}: {found:?}");
            }
        }
    }
}
