//! Sums of values that no other kernel takes along.

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
