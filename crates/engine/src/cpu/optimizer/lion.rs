//! Lion: the sign of a momentum, with decoupled weight decay.
//! Source: Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", program 1.

use super::{Formula, StepNumbers, Values};
use crate::cpu::Isa;
use crate::cpu::simd::{LANES, Simd, isa_kernel};

/// Lion. All updates have the same size, so it needs a learning rate 3 to 10 times lower than AdamW's, and a weight
/// decay that much higher.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lion {
    /// The first is that of the update, the second that of the momentum.
    pub betas: [f64; 2],
}

impl Default for Lion {
    fn default() -> Self {
        Lion { betas: [0.9, 0.99] }
    }
}

impl Formula for Lion {
    fn moments(&self) -> usize {
        1
    }

    unsafe fn update(&self, isa: Isa, step: &StepNumbers, to: Values) {
        let args = Args {
            to,
            gradient_factor: step.gradient_factor,
            betas: self.betas.map(|beta| beta as f32),
            rests: self.betas.map(|beta| (1.0 - beta) as f32),
            learning_rate: step.learning_rate as f32,
            keep: (1.0 - step.learning_rate * step.weight_decay) as f32,
        };
        unsafe { lion(isa, &args) };
    }
}

pub(in crate::cpu) struct Args {
    to: Values,
    gradient_factor: f32,
    betas: [f32; 2],
    /// `1 - beta`, rounded from the exact difference.
    rests: [f32; 2],
    learning_rate: f32,
    /// The value is multiplied by this first: `1 - learning rate * weight decay`.
    keep: f32,
}

#[inline(always)]
unsafe fn lion_generic<S: Simd>(args: &Args) {
    unsafe {
        let Values { len, values, gradient: gradients, moments: [momenta, _] } = args.to;
        let [beta1, beta2] = args.betas.map(|x| S::splat(x));
        let [rest1, rest2] = args.rests.map(|x| S::splat(x));
        let (zero, rate) = (S::splat(0.0), S::splat(args.learning_rate));
        let minus_rate = S::sub(zero, rate);
        for at in (0..len).step_by(LANES) {
            let gradient = S::mul(S::load(gradients.add(at)), S::splat(args.gradient_factor));
            let momentum = S::load(momenta.add(at));
            let update = S::mul_add(momentum, beta1, S::mul(gradient, rest1));
            // Zeros and NaNs stay what they are: a NaN has to show in the weights.
            let negative = S::select(S::greater(zero, update), minus_rate, update);
            let step = S::select(S::greater(update, zero), rate, negative);
            let value = S::mul(S::load(values.add(at)), S::splat(args.keep));
            S::store(momenta.add(at), S::mul_add(momentum, beta2, S::mul(gradient, rest2)));
            S::store(values.add(at), S::sub(value, step));
        }
    }
}

isa_kernel! {
    /// Updates a range of parameters by Lion.
    lion, lion_generic, Args
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::{Guarded, check, columns, narrow, numbers};

    #[test]
    fn one_update_gives_the_golden_values() {
        // Value, gradient, momentum, and the value and the momentum after the update.
        let [values, gradient, momentum, expected_values, expected_momentum] =
            columns(include_str!("../../../tests/golden/lion_update.txt"));
        let [values, gradient, momentum] = [values, gradient, momentum].map(|x| narrow(&x));
        check(format_args!("an update"), &[expected_values, expected_momentum], 3e-7, |isa| {
            let [mut values, mut gradient, mut momentum] = [&values, &gradient, &momentum].map(|x| Guarded::new(x));
            let moments = [momentum.pointer(), std::ptr::null_mut()];
            let len = gradient.values().len();
            let to = Values { len, values: values.pointer(), gradient: gradient.pointer(), moments };
            let step = StepNumbers {
                learning_rate: 0.03,
                weight_decay: 0.2,
                gradient_factor: 1.0,
                bias_corrections: [1.0; 2],
            };
            unsafe { Lion { betas: [0.3, 0.95] }.update(isa, &step, to) };
            vec![values.values(), momentum.values()]
        });
    }

    #[test]
    fn a_nan_in_the_gradient_shows_in_the_weight() {
        for isa in Isa::available() {
            let [mut values, mut momentum] = [1, 2].map(|seed| Guarded::new(&numbers(seed, LANES)));
            let mut gradient = Guarded::new(&[f32::NAN; LANES]);
            let moments = [momentum.pointer(), std::ptr::null_mut()];
            let to = Values { len: LANES, values: values.pointer(), gradient: gradient.pointer(), moments };
            let step =
                StepNumbers { learning_rate: 0.1, weight_decay: 0.0, gradient_factor: 1.0, bias_corrections: [1.0; 2] };
            unsafe { Lion::default().update(isa, &step, to) };
            assert!(values.values().iter().all(|value| value.is_nan()), "{isa:?}");
        }
    }
}
