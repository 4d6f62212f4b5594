//! Stochastic gradient descent, with momentum or without.
//! Source: Sutskever et al. 2013. As in `torch.optim.SGD`, the learning rate is not part of the momentum buffer.

use super::{Formula, StepNumbers, Values};
use crate::cpu::Isa;
use crate::cpu::simd::{LANES, Simd, isa_kernel};

/// Stochastic gradient descent, with momentum as `torch.optim.SGD` has it: `buffer = momentum * buffer + gradient`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sgd {
    /// Fraction of the buffer that each update keeps; at 0 there is no buffer.
    pub momentum: f64,
    /// Whether to step along the gradient plus momentum times the buffer, rather than along the buffer.
    pub nesterov: bool,
}

impl Formula for Sgd {
    fn moments(&self) -> usize {
        usize::from(self.momentum != 0.0)
    }

    unsafe fn update(&self, isa: Isa, step: &StepNumbers, to: Values) {
        let args = Args {
            to,
            gradient_factor: step.gradient_factor,
            momentum: self.momentum as f32,
            nesterov: self.nesterov,
            learning_rate: step.learning_rate as f32,
            l2: step.weight_decay as f32,
        };
        unsafe { sgd(isa, &args) };
    }
}

/// The first moment is null without momentum.
pub(in crate::cpu) struct Args {
    to: Values,
    gradient_factor: f32,
    momentum: f32,
    nesterov: bool,
    learning_rate: f32,
    /// Added to the gradient, times the value.
    l2: f32,
}

#[inline(always)]
unsafe fn sgd_generic<S: Simd>(args: &Args) {
    unsafe {
        let Values { len, values, gradient: gradients, moments: [buffers, _] } = args.to;
        let momentum = S::splat(args.momentum);
        let mut at = 0;
        while at < len {
            let value = S::load(values.add(at));
            let gradient = S::mul(S::load(gradients.add(at)), S::splat(args.gradient_factor));
            let gradient = S::mul_add(value, S::splat(args.l2), gradient);
            let mut along = gradient;
            if !buffers.is_null() {
                let buffer = S::mul_add(S::load(buffers.add(at)), momentum, gradient);
                S::store(buffers.add(at), buffer);
                along = if args.nesterov { S::mul_add(buffer, momentum, gradient) } else { buffer };
            }
            S::store(values.add(at), S::sub(value, S::mul(along, S::splat(args.learning_rate))));
            at += LANES;
        }
    }
}

isa_kernel! {
    /// Updates a range of parameters by gradient descent.
    sgd, sgd_generic, Args
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::{Guarded, check, numbers};

    #[test]
    fn one_update_follows_the_formulas() {
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
                let mut gradient = Guarded::new(&gradient);
                let null = std::ptr::null_mut();
                let moments = [momentum.map_or(null, |_| buffer.pointer()), null];
                let args = Args {
                    to: Values { len, values: values.pointer(), gradient: gradient.pointer(), moments },
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
