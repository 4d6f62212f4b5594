//! Two kinds of steps timed in alternation, so that a change of the processor's speed affects both.
//!
//! # Source
//! The interval of the median of the pairs' ratios is that of the sign test, from order statistics: it assumes nothing of
//! the distribution of times (Conover 1999, Practical Nonparametric Statistics, section 3.2). Looking several times, and
//! stopping when a look is clear, would find differences by chance more often than once; so each of the looks has its
//! share of the level (Bonferroni).

use serde::{Deserialize, Serialize};

use super::{STEPS_MIN, TimingError, quantile};
use crate::compare::LEVEL;

/// When alternating timing ends: after a number of pairs at which its interval is clear, at the latest after the last.
#[derive(Clone, Copy, Debug)]
pub struct Precision {
    /// Numbers of pairs after which the interval is computed.
    pub looks: &'static [usize],
    /// An interval that is narrower ends the timing: half its width, as a part of the ratio.
    pub narrow: f64,
    /// Whether an interval without 1 ends the timing.
    pub sign_is_enough: bool,
    /// The part of cases in which an interval may miss the ratio, all looks together.
    pub level: f64,
}

impl Precision {
    /// Finds out which of two is faster, soon.
    pub const SIGN: Precision = Precision { looks: &[7, 14, 28], narrow: 0.02, sign_is_enough: true, level: LEVEL };
    /// Measures by how much.
    pub const RATIO: Precision = Precision { looks: &[16, 32, 64], narrow: 0.02, sign_is_enough: false, level: LEVEL };
}

/// Two kinds of steps, timed in alternation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// Median time of the first kind, in seconds.
    pub first_s: f64,
    /// Median time of the second kind, in seconds.
    pub second_s: f64,
    /// The second time divided by the first: median over the pairs.
    pub ratio: f64,
    /// 95 % interval of the ratio.
    pub interval: [f64; 2],
    /// Pairs of steps.
    pub pairs: usize,
}

impl Precision {
    /// The same with at most so many pairs, but at least those of the first look.
    pub fn within(self, pairs: usize) -> Precision {
        let count = self.looks.iter().filter(|look| **look <= pairs).count().max(1);
        Precision { looks: &self.looks[..count], ..self }
    }

    /// The same for so many comparisons, each with its share of the level (Bonferroni).
    pub fn shared_by(self, comparisons: usize) -> Precision {
        Precision { level: self.level / comparisons.max(1) as f64, ..self }
    }
}

impl Paired {
    /// Whether the second kind is faster, by more than chance.
    pub fn is_faster(&self) -> bool {
        self.interval[1] < 1.0
    }

    /// Whether the second kind is slower, by more than chance.
    pub fn is_slower(&self) -> bool {
        self.interval[0] > 1.0
    }

    /// By how much the second kind may differ from the first, as a part of it, by the end of the interval that is farther
    /// from 1; of a kind of steps timed against itself, how noisy timings are.
    pub fn noise(&self) -> f64 {
        f64::max(self.interval[1] - 1.0, 1.0 / self.interval[0] - 1.0).max(0.0)
    }

    /// Half the width of the interval, as a part of the ratio.
    pub fn spread(&self) -> f64 {
        (self.interval[1] / self.interval[0]).sqrt() - 1.0
    }

    /// Checks that timings tell anything; `self` is a kind of steps timed against itself.
    ///
    /// # Errors
    /// When the interval is wider than `limit` on either side of 1.
    pub fn check_noise(&self, limit: f64) -> Result<(), TimingError> {
        let spread = self.noise();
        if spread <= limit { Ok(()) } else { Err(TimingError::Noisy { spread, limit }) }
    }
}

/// Times two kinds of steps in alternation; each function takes a step and returns its time.
///
/// # Panics
/// When `precision` has no looks, or one with too few pairs for an interval.
pub fn alternate(first: &mut dyn FnMut() -> f64, second: &mut dyn FnMut() -> f64, precision: Precision) -> Paired {
    for _ in 0..STEPS_MIN {
        first();
        second();
    }
    let (mut firsts, mut seconds, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let mut last = None;
    for &look in precision.looks {
        while ratios.len() < look {
            // Whichever comes second in a pair may gain or lose by it, so they take turns.
            let (a, b) = if ratios.len() % 2 == 0 {
                let a = first();
                (a, second())
            } else {
                let b = second();
                (first(), b)
            };
            firsts.push(a);
            seconds.push(b);
            ratios.push(b / a);
        }
        let paired = Paired {
            first_s: median(&firsts),
            second_s: median(&seconds),
            ratio: median(&ratios),
            interval: median_interval(&ratios, precision.level / precision.looks.len() as f64)
                .expect("a look has enough pairs"),
            pairs: look,
        };
        last = Some(paired);
        let is_plain = precision.sign_is_enough && (paired.is_faster() || paired.is_slower());
        if is_plain || paired.spread() < precision.narrow {
            break;
        }
    }
    last.expect("there is a look")
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The median of some values.
///
/// # Panics
/// When there are none.
pub fn median(values: &[f64]) -> f64 {
    quantile(&sorted(values), 0.5)
}

/// The interval of a median that misses it in at most `level` of cases; none where there are too few values, such as five
/// at a level of 5 %.
pub fn median_interval(values: &[f64], level: f64) -> Option<[f64; 2]> {
    let (sorted, n) = (sorted(values), values.len());
    // The probability that at most `outside` of n values are below their median.
    let (mut term, mut below, mut outside) = (0.5f64.powi(i32::try_from(n).unwrap_or(i32::MAX)), 0.0, 0);
    while 2 * outside + 1 < n && 2.0 * (below + term) <= level {
        below += term;
        term *= (n - outside) as f64 / (outside + 1) as f64;
        outside += 1;
    }
    let least = outside.checked_sub(1)?;
    Some([sorted[least], sorted[n - 1 - least]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;

    /// Times that scatter as those of a busy machine do: by some percent, some of them far above.
    fn noisy(key: Key, seconds: f64) -> impl FnMut() -> f64 {
        let mut draw = 0;
        move || {
            draw += 1;
            let far = if key.with(1).below(draw, 10) == 0 { 1.5 } else { 1.0 };
            seconds * far * (0.04 * key.normal(draw)).exp()
        }
    }

    fn timed(trial: u64, ratio: f64, precision: Precision) -> Paired {
        let key = Key::new(trial);
        alternate(&mut noisy(key.with(7), 0.1), &mut noisy(key.with(8), 0.1 * ratio), precision)
    }

    #[test]
    fn the_interval_of_a_median_is_that_of_the_tables() {
        let values: Vec<f64> = (1..=20).map(f64::from).collect();
        // Of 20 values, the 6th and the 15th; of 7, at a level of 1/60, the first and the last; of 10, the 2nd and the 9th.
        assert_eq!(median_interval(&values, 0.05), Some([6.0, 15.0]));
        assert_eq!(median_interval(&values[..7], 0.05 / 3.0), Some([1.0, 7.0]));
        assert_eq!(median_interval(&values[..10], 0.05), Some([2.0, 9.0]));
        // The first and the last of 5 values miss the median in 6.3 % of cases, those of 6 in 3.1 %.
        assert_eq!(median_interval(&values[..6], 0.05), Some([1.0, 6.0]));
        assert_eq!([0, 1, 5].map(|n| median_interval(&values[..n], 0.05)), [None; 3]);
    }

    #[test]
    fn equal_steps_are_declared_different_no_more_often_than_the_level() {
        for precision in [Precision::SIGN, Precision::RATIO] {
            let different = |trial: &u64| {
                let paired = timed(*trial, 1.0, precision);
                paired.is_faster() || paired.is_slower()
            };
            let found = (0..200).filter(different).count();
            assert!(found <= 10, "{found} of 200 at a level of 5 %");
        }
    }

    #[test]
    fn comparisons_share_the_level() {
        // At a level of 0.05 / 3 looks, the 4th of 16 values; at a third of it, the 3rd.
        let mut draw = 0.0;
        let mut rising = || {
            draw += 1.0;
            draw
        };
        let looks = Precision { looks: &[16], narrow: 0.0, ..Precision::RATIO };
        let alone = alternate(&mut || 1.0, &mut rising, looks).interval;
        draw = 0.0;
        let mut rising = || {
            draw += 1.0;
            draw
        };
        let shared = alternate(&mut || 1.0, &mut rising, looks.shared_by(3)).interval;
        // Three steps warm up. The 4th and the 13th of 16 at 5 %, the 3rd and the 14th at 1.7 %.
        assert_eq!([alone, shared], [[7.0, 16.0], [6.0, 17.0]]);
    }

    #[test]
    fn a_plain_difference_is_found_and_measured() {
        for trial in 0..20 {
            let faster = timed(trial, 0.8, Precision::SIGN);
            assert!(faster.is_faster(), "{faster:?}");
            let measured = timed(trial, 0.8, Precision::RATIO);
            assert!(measured.interval[0] < 0.82 && measured.interval[1] > 0.78 && measured.spread() < 0.05);
            assert!((measured.ratio - 0.8).abs() < 0.04, "{measured:?}");
        }
        assert!(timed(0, 1.25, Precision::SIGN).is_slower());
    }

    #[test]
    fn both_kinds_change_places_within_the_pairs() {
        let order = std::cell::RefCell::new(String::new());
        let take = |name| {
            order.borrow_mut().push(name);
            1.0
        };
        let paired = alternate(&mut || take('a'), &mut || take('b'), Precision::SIGN);
        // Times that never vary are as narrow as can be: the first look ends it.
        assert_eq!((paired.pairs, paired.ratio, paired.interval), (7, 1.0, [1.0, 1.0]));
        assert_eq!(*order.borrow(), "abababab".to_string() + "baabbaabbaab");
    }

    #[test]
    fn fewer_pairs_leave_the_first_look() {
        let looks = |pairs| Precision::SIGN.within(pairs).looks;
        assert_eq!([looks(0), looks(13), looks(14), looks(99)], [&[7][..], &[7], &[7, 14], &[7, 14, 28]]);
    }

    #[test]
    fn a_machine_that_differs_from_itself_is_refused_with_the_spread() {
        let paired = |interval| Paired { first_s: 1.0, second_s: 1.0, ratio: 1.0, interval, pairs: 28 };
        assert!(paired([0.97, 1.04]).check_noise(0.05).is_ok());
        let error = paired([0.8, 1.04]).check_noise(0.05).unwrap_err();
        assert_eq!(
            error.to_string(),
            "timings on this machine vary too much: the same training step, timed against itself, differs by up to \
             25.00 %, more than 5.00 %"
        );
    }
}
