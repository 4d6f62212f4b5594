//! Gradients of all parts to new parameters: the last sums of the tree, the gradient's norm, and Adam or gradient
//! descent, in one pass over blocks that stay in the first-level cache.
//! Source: Kingma and Ba 2015, algorithm 1; decoupled decay: Loshchilov and Hutter 2019, algorithm 2; momentum:
//! Sutskever et al. 2013. The formulas are PyTorch's: `eps` is added outside the root, after the bias correction of
//! the second moment; the learning rate is no part of the momentum's buffer. A running average of the parameters, where
//! one is asked for, is taken in the same pass.

use super::simd::{LANES, Simd, isa_kernel};

/// Values of a block: a fixed number, so that the norm's partial sums do not depend on the number of threads.
pub(super) const BLOCK: usize = 1024;

/// Adds one buffer to another, and optionally takes the sum of squares.
pub(super) struct Sum {
    /// Number of values, a multiple of 16.
    pub len: usize,
    /// Added to this.
    pub into: *mut f32,
    /// Null for nothing to add.
    pub from: *const f32,
    /// Where the sum of squares goes; null when nobody asks.
    pub squares: *mut f64,
}

#[inline(always)]
unsafe fn sum_generic<S: Simd>(args: &Sum) {
    unsafe {
        let mut squares = S::splat(0.0);
        let mut at = 0;
        while at < args.len {
            let mut x = S::load(args.into.add(at));
            if !args.from.is_null() {
                x = S::add(x, S::load(args.from.add(at)));
                S::store(args.into.add(at), x);
            }
            squares = S::mul_add(x, x, squares);
            at += LANES;
        }
        if !args.squares.is_null() {
            *args.squares = f64::from(S::sum(squares));
        }
    }
}

isa_kernel! {
    /// Adds one gradient to another.
    sum, sum_generic, Sum
}

/// One update of a range of parameters.
pub(super) struct Adam {
    /// Number of values, a multiple of 16.
    pub len: usize,
    pub values: *mut f32,
    pub gradient: *const f32,
    pub first_moment: *mut f32,
    pub second_moment: *mut f32,
    /// What the gradient is multiplied by first (clipping).
    pub gradient_factor: f32,
    pub betas: [f32; 2],
    /// `1 - beta`, rounded from the exact difference.
    pub rests: [f32; 2],
    pub eps: f32,
    /// Learning rate over the first moment's bias correction.
    pub step_size: f32,
    /// 1 over the root of the second moment's bias correction.
    pub root_correction: f32,
    /// Added to the gradient, times the value.
    pub l2: f32,
    /// What the value is multiplied by first: `1 - learning rate * decay`.
    pub keep: f32,
}

#[inline(always)]
unsafe fn adam_generic<S: Simd>(args: &Adam) {
    unsafe {
        let [beta1, beta2] = args.betas.map(|x| S::splat(x));
        let [rest1, rest2] = args.rests.map(|x| S::splat(x));
        let mut at = 0;
        while at < args.len {
            let value = S::load(args.values.add(at));
            let gradient = S::mul(S::load(args.gradient.add(at)), S::splat(args.gradient_factor));
            let gradient = S::mul_add(value, S::splat(args.l2), gradient);
            let first = S::mul_add(S::load(args.first_moment.add(at)), beta1, S::mul(gradient, rest1));
            let square = S::mul(S::mul(gradient, gradient), rest2);
            let second = S::mul_add(S::load(args.second_moment.add(at)), beta2, square);
            let root = S::mul_add(S::sqrt(second), S::splat(args.root_correction), S::splat(args.eps));
            let step = S::div(S::mul(first, S::splat(args.step_size)), root);
            S::store(args.first_moment.add(at), first);
            S::store(args.second_moment.add(at), second);
            S::store(args.values.add(at), S::sub(S::mul(value, S::splat(args.keep)), step));
            at += LANES;
        }
    }
}

isa_kernel! {
    /// Updates a range of parameters.
    adam, adam_generic, Adam
}

/// One update of a range of parameters by gradient descent.
pub(super) struct Sgd {
    /// Number of values, a multiple of 16.
    pub len: usize,
    pub values: *mut f32,
    pub gradient: *const f32,
    /// Null without momentum.
    pub buffer: *mut f32,
    /// What the gradient is multiplied by first (clipping).
    pub gradient_factor: f32,
    pub momentum: f32,
    pub nesterov: bool,
    pub learning_rate: f32,
    /// Added to the gradient, times the value.
    pub l2: f32,
}

#[inline(always)]
unsafe fn sgd_generic<S: Simd>(args: &Sgd) {
    unsafe {
        let momentum = S::splat(args.momentum);
        let mut at = 0;
        while at < args.len {
            let value = S::load(args.values.add(at));
            let gradient = S::mul(S::load(args.gradient.add(at)), S::splat(args.gradient_factor));
            let gradient = S::mul_add(value, S::splat(args.l2), gradient);
            let mut along = gradient;
            if !args.buffer.is_null() {
                let buffer = S::mul_add(S::load(args.buffer.add(at)), momentum, gradient);
                S::store(args.buffer.add(at), buffer);
                along = if args.nesterov { S::mul_add(buffer, momentum, gradient) } else { buffer };
            }
            S::store(args.values.add(at), S::sub(value, S::mul(along, S::splat(args.learning_rate))));
            at += LANES;
        }
    }
}

isa_kernel! {
    /// Updates a range of parameters by gradient descent.
    sgd, sgd_generic, Sgd
}

/// One step of a running average.
pub(super) struct Average {
    /// Number of values, a multiple of 16.
    pub len: usize,
    pub average: *mut f32,
    pub values: *const f32,
    /// What the average is multiplied by.
    pub keep: f32,
    /// `1 - keep`, rounded from the exact difference.
    pub rest: f32,
}

#[inline(always)]
unsafe fn average_generic<S: Simd>(args: &Average) {
    unsafe {
        let (keep, rest) = (S::splat(args.keep), S::splat(args.rest));
        for at in (0..args.len).step_by(LANES) {
            let kept = S::mul(S::load(args.average.add(at)), keep);
            S::store(args.average.add(at), S::mul_add(S::load(args.values.add(at)), rest, kept));
        }
    }
}

isa_kernel! {
    /// Moves a range of averages towards the values.
    average, average_generic, Average
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::{Guarded, check, numbers};

    #[test]
    fn sums_are_exact_and_squares_those_of_the_sum() {
        for len in [16, 32, 48, BLOCK] {
            let (a, b) = (numbers(1, len), numbers(2, len));
            for adds in [false, true] {
                let sum: Vec<f64> = (0..len).map(|i| f64::from(if adds { a[i] + b[i] } else { a[i] })).collect();
                let squares = vec![sum.iter().map(|x| x * x).sum()];
                check(format_args!("{len}, adds {adds}"), &[sum, squares], 3e-7, |isa| {
                    let (mut into, from, mut squares) = (Guarded::new(&a), Guarded::new(&b), f64::NAN);
                    let from = if adds { from.read() } else { std::ptr::null() };
                    unsafe { super::sum(isa, &Sum { len, into: into.pointer(), from, squares: &raw mut squares }) };
                    vec![into.values(), vec![squares as f32]]
                });
            }
        }
    }

    #[test]
    fn one_update_is_that_of_the_formulas() {
        let len = 48;
        let (values, gradient) = (numbers(1, len), numbers(2, len));
        let (first, second) = (numbers(3, len), numbers(4, len).iter().map(|x| x.abs()).collect::<Vec<_>>());
        let (factor, beta1, beta2, eps, step_size, correction) = (0.7, 0.9, 0.99, 1e-3, 0.02, 1.3);
        for (l2, keep) in [(0.0, 1.0), (0.1, 1.0), (0.0, 0.98)] {
            let mut expected = [vec![], vec![], vec![]];
            for i in 0..len {
                let value = f64::from(values[i]);
                let g = f64::from(gradient[i]) * factor + l2 * value;
                let m = beta1 * f64::from(first[i]) + (1.0 - beta1) * g;
                let v = beta2 * f64::from(second[i]) + (1.0 - beta2) * g * g;
                expected[0].push(value * keep - step_size * m / (v.sqrt() * correction + eps));
                expected[1].push(m);
                expected[2].push(v);
            }
            check(format_args!("l2 {l2}, keep {keep}"), &expected, 3e-7, |isa| {
                let mut all = [&values, &first, &second].map(|x| Guarded::new(x));
                let gradient = Guarded::new(&gradient);
                let [values, first_moment, second_moment] = all.each_mut().map(Guarded::pointer);
                let args = Adam {
                    len,
                    values,
                    gradient: gradient.read(),
                    first_moment,
                    second_moment,
                    gradient_factor: factor as f32,
                    betas: [beta1 as f32, beta2 as f32],
                    rests: [(1.0 - beta1) as f32, (1.0 - beta2) as f32],
                    eps: eps as f32,
                    step_size: step_size as f32,
                    root_correction: correction as f32,
                    l2: l2 as f32,
                    keep: keep as f32,
                };
                unsafe { adam(isa, &args) };
                all.iter().map(Guarded::values).collect()
            });
        }
    }

    #[test]
    fn an_average_moves_towards_the_values() {
        let len = 48;
        let (values, before) = (numbers(1, len), numbers(2, len));
        for keep in [0.0, 0.3, 0.9998] {
            let expected =
                (0..len).map(|i| keep * f64::from(before[i]) + (1.0 - keep) * f64::from(values[i])).collect();
            check(format_args!("keep {keep}"), &[expected], 1e-7, |isa| {
                let (values, mut all) = (Guarded::new(&values), Guarded::new(&before));
                let (keep, rest) = (keep as f32, (1.0 - keep) as f32);
                unsafe { average(isa, &Average { len, average: all.pointer(), values: values.read(), keep, rest }) };
                vec![all.values()]
            });
        }
    }

    #[test]
    fn one_descent_is_that_of_the_formulas() {
        let len = 48;
        let [values, gradient, buffer] = [1, 2, 3].map(|seed| numbers(seed, len));
        let (factor, learning_rate, l2) = (0.7, 0.03, 0.2);
        for (momentum, nesterov) in [(None, false), (Some(0.9), false), (Some(0.9), true)] {
            let mut expected = [vec![], vec![]];
            for i in 0..len {
                let value = f64::from(values[i]);
                let g = f64::from(gradient[i]) * factor + l2 * value;
                let b = momentum.map_or(f64::from(buffer[i]), |momentum| momentum * f64::from(buffer[i]) + g);
                let along = match momentum {
                    None => g,
                    Some(momentum) if nesterov => g + momentum * b,
                    Some(_) => b,
                };
                expected[0].push(value - learning_rate * along);
                expected[1].push(b);
            }
            check(format_args!("momentum {momentum:?}, nesterov {nesterov}"), &expected, 3e-7, |isa| {
                let [mut values, mut buffer] = [&values, &buffer].map(|x| Guarded::new(x));
                let gradient = Guarded::new(&gradient);
                let args = Sgd {
                    len,
                    values: values.pointer(),
                    gradient: gradient.read(),
                    buffer: momentum.map_or(std::ptr::null_mut(), |_| buffer.pointer()),
                    gradient_factor: factor as f32,
                    momentum: momentum.unwrap_or(0.0) as f32,
                    nesterov,
                    learning_rate: learning_rate as f32,
                    l2: l2 as f32,
                };
                unsafe { sgd(isa, &args) };
                vec![values.values(), buffer.values()]
            });
        }
    }
}
