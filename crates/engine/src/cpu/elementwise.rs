//! Sums of values that are not fused into another kernel.

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

/// `out = x * factors`, or x times a number where the factors are positive and 0 elsewhere.
pub(super) struct Scale {
    pub len: usize,
    pub x: *const f32,
    pub factors: *const f32,
    /// Take only the factors' sign, and this number.
    pub where_positive: Option<f32>,
    /// The result; may be `x`.
    pub out: *mut f32,
}

#[inline(always)]
unsafe fn scale_generic<S: Simd>(args: &Scale) {
    unsafe {
        let mut at = 0;
        while at < args.len {
            let n = args.len - at;
            let (x, factor) = (load_up_to::<S>(args.x.add(at), n), load_up_to::<S>(args.factors.add(at), n));
            let out = match args.where_positive {
                None => S::mul(x, factor),
                Some(number) => {
                    let zero = S::splat(0.0);
                    S::select(S::greater(factor, zero), S::mul(x, S::splat(number)), zero)
                }
            };
            store_up_to::<S>(args.out.add(at), n, out);
            at += LANES;
        }
    }
}

isa_kernel! {
    /// Multiplies values with factors.
    scale, scale_generic, Scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::{Guarded, check, numbers};

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
            for where_positive in [None, Some(1.75f32)] {
                let scaled = x.iter().zip(&factors).map(|(&x, &factor)| match where_positive {
                    None => f64::from(x * factor),
                    Some(number) if factor > 0.0 => f64::from(x * number),
                    Some(_) => 0.0,
                });
                let expected = [scaled.collect()];
                for in_place in [false, true] {
                    let what = format_args!("{len}, {where_positive:?}, in place {in_place}");
                    check(what, &expected, 0.0, |isa| {
                        let (mut input, mut out) = (Guarded::new(&x), Guarded::unset(len));
                        let factors = Guarded::new(&factors);
                        let to = if in_place { input.pointer() } else { out.pointer() };
                        let args = Scale { len, x: input.read(), factors: factors.read(), where_positive, out: to };
                        unsafe { scale(isa, &args) };
                        vec![if in_place { input.values() } else { out.values() }]
                    });
                }
            }
        }
    }
}
