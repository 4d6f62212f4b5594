//! The difference of two means, and how far seeds alone may account for it.
//!
//! # Source
//! Student's t interval for two samples of one variance (pooled), as in any textbook of statistics.

use crate::compare::Spread;

/// 97.5 % points of Student's distribution for 1, 2, ... degrees of freedom.
const T: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// The same for many.
const T_MANY: f64 = 1.96;

/// A difference of means between runs of two settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// The second mean less the first.
    pub mean: f64,
    /// What the seeds say of it; absent where neither setting has several.
    pub seeds: Option<SeedSpread>,
}

/// How far means of so few seeds wander by themselves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SeedSpread {
    /// Standard deviation over the seeds of a setting, pooled over both.
    pub sd: f64,
    /// 95 % interval of the difference.
    pub interval: [f64; 2],
}

impl Difference {
    /// Compares two settings.
    pub fn of(first: &Spread, second: &Spread) -> Difference {
        let mean = second.mean - first.mean;
        let squares: f64 = [first, second].iter().map(|s| s.sd.unwrap_or(0.0).powi(2) * (s.n - 1) as f64).sum();
        let freedom = first.n + second.n - 2;
        let seeds = (freedom > 0).then(|| {
            let sd = (squares / freedom as f64).sqrt();
            let error = sd * (1.0 / first.n as f64 + 1.0 / second.n as f64).sqrt();
            let half = T.get(freedom - 1).unwrap_or(&T_MANY) * error;
            SeedSpread { sd, interval: [mean - half, mean + half] }
        });
        Difference { mean, seeds }
    }
}

impl SeedSpread {
    /// Whether the difference is more than the seeds account for.
    pub fn is_exceeded(&self) -> bool {
        let [low, high] = self.interval;
        low > 0.0 || high < 0.0
    }
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
        assert!(seeds.is_exceeded());
        let nearer = Difference::of(&first, &Spread::of(&[2.0, 3.0, 5.0]).unwrap());
        assert!(!nearer.seeds.unwrap().is_exceeded());
        assert!(Difference::of(&second, &first).seeds.unwrap().is_exceeded());
    }

    #[test]
    fn one_seed_each_says_nothing_of_chance() {
        let [one, other] = [0.5, 0.75].map(|value| Spread::of(&[value]).unwrap());
        assert_eq!(Difference::of(&one, &other), Difference { mean: 0.25, seeds: None });
        let several = Spread::of(&[0.25, 0.5, 0.75]).unwrap();
        assert_eq!(Difference::of(&several, &other).seeds.unwrap().sd, 0.25);
    }
}
