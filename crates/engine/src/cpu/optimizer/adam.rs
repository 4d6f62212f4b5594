//! Adam and AdamW.
//! Source: Kingma and Ba 2015, algorithm 1; decoupled weight decay: Loshchilov and Hutter 2019, algorithm 2. As in PyTorch,
//! `eps` is added outside the root, after the bias correction of the second moment.

use super::{Formula, StepNumbers, Values};
use crate::cpu::Isa;
use crate::cpu::simd::{LANES, Simd, isa_kernel};

/// Adam, or AdamW when weight decay is decoupled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Decay rates of the two moments.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Whether weight decay shrinks the weights themselves (AdamW) or is added to the gradient.
    pub decoupled: bool,
}

impl Default for Adam {
    fn default() -> Self {
        Adam { betas: [0.9, 0.999], eps: 1e-8, decoupled: false }
    }
}

impl Formula for Adam {
    fn moments(&self) -> usize {
        2
    }

    fn bias_corrections(&self, step: u64) -> [f64; 2] {
        self.betas.map(|beta| 1.0 - beta.powf(step as f64))
    }

    unsafe fn update(&self, isa: Isa, step: &StepNumbers, to: Values) {
        let StepNumbers { learning_rate, weight_decay, .. } = *step;
        let args = Args {
            to,
            gradient_factor: step.gradient_factor,
            betas: self.betas.map(|beta| beta as f32),
            rests: self.betas.map(|beta| (1.0 - beta) as f32),
            eps: self.eps as f32,
            step_size: (learning_rate / step.bias_corrections[0]) as f32,
            root_correction: (1.0 / step.bias_corrections[1].sqrt()) as f32,
            l2: if self.decoupled { 0.0 } else { weight_decay as f32 },
            keep: if self.decoupled { (1.0 - learning_rate * weight_decay) as f32 } else { 1.0 },
        };
        unsafe { adam(isa, &args) };
    }
}

pub(in crate::cpu) struct Args {
    to: Values,
    gradient_factor: f32,
    betas: [f32; 2],
    /// `1 - beta`, rounded from the exact difference.
    rests: [f32; 2],
    eps: f32,
    /// Learning rate over the first moment's bias correction.
    step_size: f32,
    /// 1 over the root of the second moment's bias correction.
    root_correction: f32,
    /// Added to the gradient, times the value.
    l2: f32,
    /// The value is multiplied by this first: `1 - learning rate * weight decay`.
    keep: f32,
}

#[inline(always)]
unsafe fn adam_generic<S: Simd>(args: &Args) {
    unsafe {
        let Values { len, values, gradient: gradients, moments: [first_moment, second_moment] } = args.to;
        let [beta1, beta2] = args.betas.map(|x| S::splat(x));
        let [rest1, rest2] = args.rests.map(|x| S::splat(x));
        let mut at = 0;
        while at < len {
            let value = S::load(values.add(at));
            let gradient = S::mul(S::load(gradients.add(at)), S::splat(args.gradient_factor));
            let gradient = S::mul_add(value, S::splat(args.l2), gradient);
            let first = S::mul_add(S::load(first_moment.add(at)), beta1, S::mul(gradient, rest1));
            let square = S::mul(S::mul(gradient, gradient), rest2);
            let second = S::mul_add(S::load(second_moment.add(at)), beta2, square);
            let root = S::mul_add(S::sqrt(second), S::splat(args.root_correction), S::splat(args.eps));
            let step = S::div(S::mul(first, S::splat(args.step_size)), root);
            S::store(first_moment.add(at), first);
            S::store(second_moment.add(at), second);
            S::store(values.add(at), S::sub(S::mul(value, S::splat(args.keep)), step));
            at += LANES;
        }
    }
}

isa_kernel! {
    /// Updates a range of parameters.
    adam, adam_generic, Args
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::{Guarded, check, numbers};

    #[test]
    fn one_update_follows_the_formulas() {
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
                let mut gradient = Guarded::new(&gradient);
                let [values, first_moment, second_moment] = all.each_mut().map(Guarded::pointer);
                let moments = [first_moment, second_moment];
                let args = Args {
                    to: Values { len, values, gradient: gradient.pointer(), moments },
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
}
