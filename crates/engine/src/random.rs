//! Random numbers as a function of a key and a counter, without a state.
//!
//! So a draw does not depend on thread counts, batch sizes or what was drawn before it, and a resumed run
//! replays nothing. The function is SplitMix64 (Steele, Lea and Flood 2014, with Stafford's mix 13) read at an
//! arbitrary position, which passes BigCrush as a sequential generator.

/// The key of one random stream: a seed, combined with the facts that identify the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u64);

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Key {
    /// Starts a key from the run's seed.
    pub fn new(seed: u64) -> Self {
        Key(mix(seed.wrapping_add(GOLDEN)))
    }

    /// Derives the key of a sub-stream: a purpose, an epoch, the place of an image, ...
    #[must_use]
    pub fn with(self, fact: u64) -> Self {
        // The multiplication keeps (a, b) and (b, a) apart.
        Key(mix(self.0.wrapping_mul(GOLDEN | 1).wrapping_add(mix(fact.wrapping_add(GOLDEN)))))
    }

    /// Derives a sub-stream from a name, such as a parameter's.
    #[must_use]
    pub fn with_name(self, name: &str) -> Self {
        name.bytes().fold(self, |key, byte| key.with(u64::from(byte)))
    }

    /// Returns the 64 random bits at place `counter` of the stream.
    pub fn bits(self, counter: u64) -> u64 {
        mix(self.0.wrapping_add(counter.wrapping_mul(GOLDEN)))
    }

    /// Returns a number in [0, 1), a multiple of 2^-53.
    pub fn unit(self, counter: u64) -> f64 {
        (self.bits(counter) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Returns a number in [low, high).
    pub fn range(self, counter: u64, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit(counter)
    }

    /// Returns an integer in 0..n, each equally likely to within 2^-64 of n.
    ///
    /// # Panics
    /// When `n` is 0.
    pub fn below(self, counter: u64, n: u64) -> u64 {
        assert!(n > 0, "no integer is below 0");
        ((u128::from(self.bits(counter)) * u128::from(n)) >> 64) as u64
    }

    /// Returns a standard normal number (Box and Muller 1958); uses counters `2 * counter` and the next.
    pub fn normal(self, counter: u64) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit(2 * counter)).ln()).sqrt();
        radius * (2.0 * std::f64::consts::PI * self.unit(2 * counter + 1)).cos()
    }

    /// Returns 0..n in random order (Fisher and Yates).
    pub fn permutation(self, n: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n as u32).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i as u64, i as u64 + 1) as usize);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_by_every_fact_and_by_their_order() {
        let key = Key::new(7);
        let all = [
            key,
            Key::new(8),
            key.with(1),
            key.with(1).with(2),
            key.with(2).with(1),
            key.with_name("ab"),
            key.with_name("ba"),
        ];
        for (i, a) in all.iter().enumerate() {
            for b in &all[..i] {
                assert_ne!(a.bits(0), b.bits(0));
            }
        }
    }

    #[test]
    fn normal_draws_have_mean_zero_and_variance_one() {
        let key = Key::new(3);
        let n = 100_000;
        let draws: Vec<f64> = (0..n).map(|i| key.normal(i)).collect();
        let mean = draws.iter().sum::<f64>() / n as f64;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
        assert!(mean.abs() < 0.01, "mean {mean}");
        assert!((variance - 1.0).abs() < 0.02, "variance {variance}");
    }

    #[test]
    fn a_permutation_holds_every_number_once() {
        let mut order = Key::new(1).permutation(997);
        assert_ne!(order[..5], [0, 1, 2, 3, 4]);
        order.sort_unstable();
        assert!(order.iter().enumerate().all(|(i, &x)| i == x as usize));
    }
}
