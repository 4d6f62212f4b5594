//! The exponential moving average of the parameters (EMA), updated in the same pass as the parameters.

use crate::cpu::simd::{LANES, Simd, isa_kernel};

/// An exponential moving average of the parameters, statistics included. It does not change the updates.
///
/// The first updates keep less of the average, or the initial weights would weigh too much: update k, counted from 1,
/// keeps `1 - k^(-2/3)`, but at most `decay`.
///
/// # Source
/// timm's `ModelEmaV3` with warm-up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Average {
    /// Fraction of the average that each update keeps after warm-up.
    pub decay: f64,
}

impl Average {
    /// The fraction of the average that update number `update`, counted from 1, keeps.
    pub fn keep(&self, update: u64) -> f64 {
        (1.0 - (update as f64).powf(-2.0 / 3.0)).min(self.decay)
    }
}

/// One update of a range of averages.
pub(super) struct Args {
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
unsafe fn average_generic<S: Simd>(args: &Args) {
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
    average, average_generic, Args
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::{Guarded, check, numbers};

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
                unsafe { average(isa, &Args { len, average: all.pointer(), values: values.read(), keep, rest }) };
                vec![all.values()]
            });
        }
    }
}
