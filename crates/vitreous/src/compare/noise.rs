//! How far a difference may be noise: between means over seeds, and between two models on the same images.
//!
//! # Source
//! Seeds: Student's t interval for two samples of one variance (pooled), or for pairs, as in any textbook; its
//! distribution for whole degrees of freedom is in Abramowitz and Stegun 1964, 26.7.3 and 26.7.4. Images: McNemar 1947,
//! in the mid-p version, which needs no rule for few and for many images (Fagerland, Lydersen and Laake 2013, BMC
//! Medical Research Methodology 13:91). Several comparisons at once: Holm 1979, Scandinavian Journal of Statistics 6:65.

use std::f64::consts::{FRAC_PI_2, LN_2};

use super::Spread;

/// A difference that chance makes less often than this is more than noise.
pub const LEVEL: f64 = 0.05;

/// A difference of means between runs of two settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// The second mean less the first.
    pub mean: f64,
    /// The test over seeds; absent if neither setting has several.
    pub seeds: Option<SeedSpread>,
}

/// How far means of so few seeds wander by themselves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SeedSpread {
    /// Standard deviation over the seeds: of a setting, pooled over both, or of the differences of pairs.
    pub sd: f64,
    /// 95 % interval of the difference.
    pub interval: [f64; 2],
    /// How often seeds alone make a difference as large.
    pub p: f64,
}

impl Difference {
    /// Compares two settings.
    pub fn of(first: &Spread, second: &Spread) -> Difference {
        let mean = second.mean - first.mean;
        let squares: f64 = [first, second].iter().map(|s| s.sd.unwrap_or(0.0).powi(2) * (s.n - 1) as f64).sum();
        let freedom = first.n + second.n - 2;
        let seeds = (freedom > 0).then(|| {
            let sd = (squares / freedom as f64).sqrt();
            SeedSpread::new(mean, sd, sd * (1.0 / first.n as f64 + 1.0 / second.n as f64).sqrt(), freedom)
        });
        Difference { mean, seeds }
    }

    /// Compares two settings whose runs have the same seeds, by the second less the first of each seed: what a seed does to
    /// both does not count. Nothing is made of no seeds.
    pub fn paired(differences: &[f64]) -> Option<Difference> {
        let Spread { n, mean, sd, .. } = Spread::of(differences)?;
        Some(Difference { mean, seeds: sd.map(|sd| SeedSpread::new(mean, sd, sd / (n as f64).sqrt(), n - 1)) })
    }
}

impl SeedSpread {
    fn new(mean: f64, sd: f64, error: f64, freedom: usize) -> SeedSpread {
        let half = student_quantile(freedom) * error;
        // Runs that all reach the same differ by nothing, or by what no seed explains.
        let p = if mean == 0.0 { 1.0 } else { student_p(mean / error, freedom) };
        SeedSpread { sd, interval: [mean - half, mean + half], p }
    }
}

/// Adjusts p values for the number of comparisons that they are part of, by Holm's step-down method: if none of the
/// differences is real, one or more of the adjusted values are below [`LEVEL`] in at most that part of cases.
///
/// Comparisons whose p is not known count as well, as those with the largest p, which can only make the others' larger.
///
/// # Panics
/// When more values are known than comparisons were made.
pub fn holm(p: &[Option<f64>], comparisons: usize) -> Vec<Option<f64>> {
    let mut known: Vec<(usize, f64)> = p.iter().enumerate().filter_map(|(at, p)| Some((at, (*p)?))).collect();
    assert!(known.len() <= comparisons, "{} p values of {comparisons} comparisons", known.len());
    known.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    let mut adjusted = vec![None; p.len()];
    let mut least = 0.0_f64;
    for (rank, (at, p)) in known.into_iter().enumerate() {
        // A larger p is never adjusted to less than a smaller one.
        least = least.max((comparisons - rank) as f64 * p).min(1.0);
        adjusted[at] = Some(least);
    }
    adjusted
}

/// The number of comparisons behind the choice of the best of so many: each pair of them.
///
/// Only the best is held against the others, but any of them could have been it. With three seeds each of 3, 10 and 20
/// equal settings, counting only the others of the best gave a p below 0.05 to 5.6, 9.3 and 10.9 % of 20,000 drawn
/// tables, counting pairs to 3.8, 2.1 and 1.5 %.
pub fn pairs(rows: usize) -> usize {
    rows * rows.saturating_sub(1) / 2
}

/// How often two models that are equally good differ as much on the same images: McNemar's test, two-sided, mid-p.
///
/// Images that both classify correctly, or both wrongly, give no information; each of the others is a fair coin.
/// `only_first` are those that only the first model classifies correctly.
pub fn mcnemar(only_first: u64, only_second: u64) -> f64 {
    let (n, fewer) = (only_first + only_second, only_first.min(only_second));
    // The logarithm of the probability of i heads in n throws, from i = 0 on.
    let mut log = -(n as f64) * LN_2;
    let mut below = 0.0;
    for i in 0..fewer {
        below += log.exp();
        log += ((n - i) as f64 / (i + 1) as f64).ln();
    }
    // Twice the tail, of which what was seen counts half.
    (2.0 * below + log.exp()).min(1.0)
}

/// How often Student's t is as far from 0, on either side.
fn student_p(t: f64, freedom: usize) -> f64 {
    let angle = (t.abs() / (freedom as f64).sqrt()).atan();
    let (sin, cos) = angle.sin_cos();
    let mut power = freedom % 2;
    let (mut term, mut sum) = (if power == 1 { cos } else { 1.0 }, 0.0);
    while power + 2 <= freedom {
        sum += term;
        power += 2;
        term *= cos * cos * (power - 1) as f64 / power as f64;
    }
    let inside = if freedom % 2 == 1 { (angle + sin * sum) / FRAC_PI_2 } else { sin * sum };
    (1.0 - inside).max(0.0)
}

/// How far Student's t is from 0 in all but [`LEVEL`] of cases.
fn student_quantile(freedom: usize) -> f64 {
    // With one degree of freedom it is 12.7, with more of them less.
    let (mut low, mut high) = (0.0, 16.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        *if student_p(middle, freedom) > LEVEL { &mut low } else { &mut high } = middle;
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_students() {
        let (first, second) = (Spread::of(&[1.0, 2.0, 4.0]).unwrap(), Spread::of(&[5.0, 9.0, 11.0]).unwrap());
        let difference = Difference::of(&first, &second);
        let seeds = difference.seeds.unwrap();
        // Variances 7/3 and 28/3, pooled 35/6; its root times sqrt(2/3) is 1.972, times 2.776 is 5.474.
        assert!((difference.mean - 6.0).abs() < 1e-12 && (seeds.sd - (35.0f64 / 6.0).sqrt()).abs() < 1e-12);
        assert!((seeds.interval[0] - (6.0 - 5.4743)).abs() < 1e-3 && (seeds.interval[1] - 11.4743).abs() < 1e-3);
        assert!(seeds.p < LEVEL);
        let nearer = Difference::of(&first, &Spread::of(&[2.0, 3.0, 5.0]).unwrap());
        assert!(nearer.seeds.unwrap().p > LEVEL);
        assert_eq!(Difference::of(&second, &first).seeds.unwrap().p, seeds.p);
    }

    #[test]
    fn pairs_of_the_same_seeds_are_compared_by_their_differences() {
        // 1, 2 and 3: mean 2, standard deviation 1, so t is 2 sqrt(3) with two degrees of freedom: p is 1 - t / sqrt(2 + t^2).
        let difference = Difference::paired(&[1.0, 2.0, 3.0]).unwrap();
        let (seeds, t) = (difference.seeds.unwrap(), 12f64.sqrt());
        assert!((difference.mean, seeds.sd) == (2.0, 1.0) && (seeds.p - (1.0 - t / 14f64.sqrt())).abs() < 1e-12);
        // 4.303 / sqrt(3) on either side.
        assert!((seeds.interval[0] + 0.4843).abs() < 1e-3 && (seeds.interval[1] - 4.4843).abs() < 1e-3, "{seeds:?}");
        assert_eq!(Difference::paired(&[0.25]), Some(Difference { mean: 0.25, seeds: None }));
        assert_eq!(Difference::paired(&[]), None);
    }

    #[test]
    fn one_seed_each_says_nothing_of_chance() {
        let [one, other] = [0.5, 0.75].map(|value| Spread::of(&[value]).unwrap());
        assert_eq!(Difference::of(&one, &other), Difference { mean: 0.25, seeds: None });
        let several = Spread::of(&[0.25, 0.5, 0.75]).unwrap();
        assert_eq!(Difference::of(&several, &other).seeds.unwrap().sd, 0.25);
    }

    #[test]
    fn students_distribution_is_that_of_the_tables() {
        // Degrees of freedom, then the points that are passed in 5 %, 1 % and 0.1 % of cases.
        let table = [
            (1, [12.706, 63.657, 636.619]),
            (2, [4.303, 9.925, 31.599]),
            (3, [3.182, 5.841, 12.924]),
            (4, [2.776, 4.604, 8.610]),
            (7, [2.365, 3.499, 5.408]),
            (30, [2.042, 2.750, 3.646]),
            (60, [2.000, 2.660, 3.460]),
        ];
        for (freedom, points) in table {
            for (point, level) in points.into_iter().zip([0.05, 0.01, 0.001]) {
                // The points are rounded to three places.
                let (above, below) = (student_p(point - 5e-4, freedom), student_p(point + 5e-4, freedom));
                assert!(below <= level && level <= above, "{freedom} {point}: {below} to {above}");
            }
            assert!((student_quantile(freedom) - points[0]).abs() < 6e-4, "{freedom}");
        }
        assert_eq!((student_p(0.0, 5), student_p(-2.0, 5)), (1.0, student_p(2.0, 5)));
    }

    #[test]
    fn equal_runs_differ_by_nothing_and_else_by_what_no_seed_explains() {
        let [same, more] = [0.5, 0.75].map(|value| Spread::of(&[value, value]).unwrap());
        assert_eq!(Difference::of(&same, &same).seeds.unwrap().p, 1.0);
        let seeds = Difference::of(&same, &more).seeds.unwrap();
        assert_eq!((seeds.p, seeds.interval), (0.0, [0.25, 0.25]));
    }

    #[track_caller]
    fn assert_holm(p: &[Option<f64>], comparisons: usize, expected: &[Option<f64>]) {
        let found = holm(p, comparisons);
        let is_near = |(a, b): (&Option<f64>, &Option<f64>)| match (a, b) {
            (Some(a), Some(b)) => (a - b).abs() < 1e-12,
            (a, b) => a == b,
        };
        assert!(found.len() == expected.len() && found.iter().zip(expected).all(is_near), "{found:?}");
    }

    #[test]
    fn p_values_are_adjusted_by_holms_method() {
        // By hand, and by statsmodels 0.14 (`multipletests(p, method="holm")`): 4 * 0.005, 3 * 0.01, 2 * 0.03; 0.04 is no
        // less than what comes before it.
        assert_holm(&[0.01, 0.04, 0.03, 0.005].map(Some), 4, &[0.03, 0.06, 0.06, 0.02].map(Some));
        let p = [0.2, 0.001, 0.02, 0.02, 0.5, 0.0004].map(Some);
        assert_holm(&p, 6, &[0.4, 0.005, 0.08, 0.08, 0.5, 0.0024].map(Some));
        assert_holm(&[Some(0.7), Some(0.6)], 2, &[Some(1.0), Some(1.0)]);
        assert_holm(&[Some(0.04)], 1, &[Some(0.04)]);
        assert_holm(&[], 0, &[]);
    }

    #[test]
    fn comparisons_of_unknown_p_count() {
        // 5 * 0.01 and 4 * 0.02; the same as if the three others had a p of 1.
        assert_holm(&[None, Some(0.02), Some(0.01)], 5, &[None, Some(0.08), Some(0.05)]);
        let all = [Some(1.0), Some(0.02), Some(0.01), Some(1.0), Some(1.0)];
        assert_holm(&all, 5, &[1.0, 0.08, 0.05, 1.0, 1.0].map(Some));
        assert_eq!([0, 1, 2, 3, 10].map(pairs), [0, 0, 1, 3, 45]);
    }

    #[test]
    fn mcnemars_test_counts_throws_of_a_coin() {
        // The tail of the binomial distribution in whole numbers, by Python's fractions: 2 P(X < k) + P(X = k).
        let cases = [
            // Of 8 throws at most one head: 2 * 1/256 + 8/256; the example of Fagerland and others, who find 0.039.
            ((1, 7), 0.0390625),
            ((0, 5), 0.03125),
            ((3, 11), 0.035_156_25),
            ((10, 24), 0.016_673_847_800_120_71),
            ((271, 312), 0.089_687_739_660_635_59),
            ((0, 0), 1.0),
            ((5, 5), 1.0),
        ];
        for ((first, second), expected) in cases {
            for p in [mcnemar(first, second), mcnemar(second, first)] {
                assert!((p - expected).abs() < 1e-12, "{first} against {second}: {p} is not {expected}");
            }
        }
        assert!((mcnemar(59, 6) / 2.725_803_198_606_88e-12 - 1.0).abs() < 1e-9);
        // What is too small for a number is nothing.
        assert_eq!(mcnemar(0, 100_000), 0.0);
    }
}
