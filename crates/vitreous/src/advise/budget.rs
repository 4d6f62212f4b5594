//! How much training fits into the budget, by the times of steps that were measured.

use super::record::Round;
use super::{AdviseError, Base, RoundKind};

/// Seeds of a finalist.
pub const SEEDS: usize = 3;

/// Fewest steps of a run: fewer say nothing.
pub const STEPS_MIN: usize = 12;

/// The part of the time that the last round takes, where an epoch leaves the choice.
const FINAL_PART: f64 = 0.5;

/// The most that one epoch may take of it before the budget is called too small.
const FINAL_PART_MAX: f64 = 0.75;

/// A validation image costs a third of a training image: there is no backward pass.
const VALIDATION: f64 = 1.0 / 3.0;

/// What a run takes in addition to its steps, in seconds: images are loaded, weights are saved.
const OVERHEAD_S: f64 = 1.0;

/// What each part of the search still gets, relative to the other parts.
const SHARES: [(RoundKind, f64); 4] =
    [(RoundKind::Singles, 0.45), (RoundKind::Again, 0.15), (RoundKind::Several(2), 0.2), (RoundKind::Narrow, 0.2)];

/// Times from which costs follow.
pub struct Costs {
    step_s: f64,
    step_images: f64,
    train: usize,
    validation: f64,
    test: f64,
    recipe_epochs: usize,
    overhead_s: f64,
    pace: f64,
}

impl Costs {
    /// By the time of the base's step on all threads; `pace` is what rounds took, as a multiple of what was planned.
    pub fn new(base: &Base, step_s: f64, jobs: usize, pace: f64) -> Costs {
        let recipe = &base.config.train;
        Costs {
            step_s,
            step_images: recipe.batch_size as f64,
            train: base.facts.train,
            validation: base.facts.validation as f64 * VALIDATION,
            test: base.facts.test.unwrap_or(0) as f64 * VALIDATION,
            recipe_epochs: recipe.epochs,
            overhead_s: OVERHEAD_S / jobs as f64,
            pace,
        }
    }

    /// Seconds of a run whose step takes `ratio` of the base's; with `is_evaluated`, it is validated once more.
    pub fn run(&self, ratio: f64, images: usize, epochs: usize, is_evaluated: bool) -> f64 {
        let validations = epochs as f64 + f64::from(u8::from(is_evaluated));
        let images = images as f64 * epochs as f64 + self.validation * validations;
        self.pace * (ratio * self.step_s * images / self.step_images + self.overhead_s)
    }

    /// Seconds of an epoch of the base.
    pub fn epoch(&self) -> f64 {
        self.run(1.0, self.train, 1, false)
    }

    /// Seconds of the last round and of the look at the test split; `ratios` are those of the finalists.
    pub fn last(&self, ratios: &[f64], epochs: usize) -> f64 {
        let all = || ratios.iter().copied().chain([1.0]);
        let runs: f64 = all().map(|ratio| self.run(ratio, self.train, epochs, true)).sum();
        let test = self.pace * (2.0 * self.step_s * self.test / self.step_images + 2.0 * self.overhead_s);
        SEEDS as f64 * (runs + test)
    }

    /// What is reserved for the last round of `left` seconds.
    ///
    /// # Errors
    /// When not even one epoch of the base and one change fits.
    pub fn reserve(&self, left: f64, budget_s: f64) -> Result<f64, AdviseError> {
        let two = |epochs| self.last(&[0.85, 0.85], epochs);
        let fits = |epochs: &usize| two(*epochs) <= FINAL_PART * left;
        if let Some(epochs) = (1..=self.recipe_epochs).rev().find(fits) {
            return Ok(two(epochs));
        }
        let least = self.last(&[0.85], 1);
        if least <= FINAL_PART_MAX * left {
            return Ok(least);
        }
        let needed_s = least / FINAL_PART_MAX + (budget_s - left);
        Err(AdviseError::Budget { budget_s, epoch_s: self.epoch(), needed_s })
    }

    /// Checks that one epoch of the base and one change fits into the budget, of which a part is spent before.
    ///
    /// # Errors
    /// When it does not.
    pub fn check(&self, budget_s: f64, spent: f64) -> Result<(), AdviseError> {
        let needed_s = self.last(&[0.85], 1) / FINAL_PART_MAX / (1.0 - spent);
        if needed_s <= budget_s {
            Ok(())
        } else {
            Err(AdviseError::Budget { budget_s, epoch_s: self.epoch(), needed_s })
        }
    }

    /// How many of the finalists, of these ratios, and how many epochs fit into the time that is left: the most epochs,
    /// and with these the most finalists. At least one of each.
    pub fn finalists(&self, ratios: &[f64], left: f64) -> (usize, usize) {
        let epochs = |count: usize| {
            (1..=self.recipe_epochs).rev().find(|&epochs| self.last(&ratios[..count], epochs) <= left).unwrap_or(0)
        };
        let counts = 1..=ratios.len().clamp(1, SEEDS);
        let best = counts.map(|count| (epochs(count), count)).max().filter(|(epochs, _)| *epochs > 0);
        best.map_or((1, 1), |(epochs, count)| (count, epochs))
    }

    /// Images and epochs with which runs of these ratios fill some seconds, and how many of the runs fit at all.
    pub fn length(&self, ratios: &[f64], seconds: f64) -> (Option<usize>, usize, usize) {
        let least = (STEPS_MIN as f64 * self.step_images).min(self.train as f64);
        let fixed = |ratio: f64| self.run(ratio, 0, 1, false);
        let image = |ratio: f64| self.pace * ratio * self.step_s / self.step_images;
        // The base runs too.
        let all = |count: usize| ratios[..count].iter().copied().chain([1.0]);
        let images = |count: usize| (seconds - all(count).map(fixed).sum::<f64>()) / all(count).map(image).sum::<f64>();
        let count = (1..=ratios.len()).rev().find(|&count| images(count) >= least).unwrap_or(1.min(ratios.len()));
        let images = images(count).max(least);
        match images / self.train as f64 {
            epochs if epochs >= 1.0 => (None, (epochs as usize).min(self.recipe_epochs), count),
            _ => (Some(images as usize), 1, count),
        }
    }

    /// Seconds that a round gets of those that are left before the last one.
    pub fn share(kind: RoundKind, left: f64) -> f64 {
        let place = SHARES.iter().position(|(of, _)| same(*of, kind)).unwrap_or(0);
        let rest: f64 = SHARES[place..].iter().map(|(_, share)| share).sum();
        left.max(0.0) * SHARES[place].1 / rest
    }

    /// What a round should take.
    pub fn round(&self, round: &Round, ratios: &[f64]) -> f64 {
        let (images, is_last) = (round.images.unwrap_or(self.train), round.kind == RoundKind::Final);
        let runs = ratios.iter().copied().chain([1.0]).map(|ratio| self.run(ratio, images, round.epochs, is_last));
        runs.sum::<f64>() * round.seeds.len() as f64 / self.pace
    }
}

/// Whether both are rounds of the same sort.
fn same(one: RoundKind, other: RoundKind) -> bool {
    std::mem::discriminant(&one) == std::mem::discriminant(&other)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four convolutions on CIFAR-10: 100 ms for a step of 128 of 45,000 images, ten epochs, two jobs.
    const COSTS: Costs = Costs {
        step_s: 0.1,
        step_images: 128.0,
        train: 45_000,
        validation: 5_000.0 / 3.0,
        test: 10_000.0 / 3.0,
        recipe_epochs: 10,
        overhead_s: 0.5,
        pace: 1.0,
    };

    #[test]
    fn half_of_the_time_is_reserved_for_the_finalists() {
        // An epoch is 35.16 s of steps, 1.30 s of validation, and 0.5 s.
        assert!((COSTS.epoch() - 36.96).abs() < 0.01);
        // Three seeds of the base and two changes: 209 s for each seed of 2 epochs, 307 s of 3, which are more than 840 s.
        let reserved = COSTS.reserve(1680.0, 1800.0).unwrap();
        assert!(
            (reserved - COSTS.last(&[0.85, 0.85], 2)).abs() < 1e-9 && (600.0..650.0).contains(&reserved),
            "{reserved}"
        );
        // With more time, the whole recipe; with less, one change; with too little, an error with what it takes.
        assert!((COSTS.reserve(1e6, 1e6).unwrap() - COSTS.last(&[0.85, 0.85], 10)).abs() < 1e-9);
        assert!((COSTS.reserve(400.0, 500.0).unwrap() - COSTS.last(&[0.85], 1)).abs() < 1e-9);
        let Err(AdviseError::Budget { needed_s, .. }) = COSTS.reserve(200.0, 300.0) else { panic!("it does not fit") };
        assert!(COSTS.reserve(needed_s - 99.0, needed_s).is_ok() && COSTS.reserve(needed_s - 101.0, needed_s).is_err());
        // What is asked for before the edits are timed is enough after a quarter of the budget has gone.
        let Err(AdviseError::Budget { needed_s, .. }) = COSTS.check(300.0, 0.25) else { panic!("it does not fit") };
        assert!(COSTS.check(needed_s, 0.25).is_ok() && COSTS.reserve(0.75 * needed_s, needed_s).is_ok());
    }

    #[test]
    fn the_most_epochs_that_fit_are_chosen_and_with_these_the_most_finalists() {
        let ratios = [0.8, 0.8, 0.8];
        assert_eq!(COSTS.finalists(&ratios, 630.0), (1, 3));
        assert_eq!(COSTS.finalists(&ratios, 860.0), (1, 4));
        assert_eq!(COSTS.finalists(&ratios, 1e6), (3, 10));
        assert_eq!(COSTS.finalists(&ratios, 5.0), (1, 1));
    }

    #[test]
    fn a_round_fills_its_time_with_images_or_leaves_out_runs() {
        let ratios = [1.0; 50];
        // 51 runs with 1.8 s of validation and overhead each leave 383 s for 9,612 images each.
        let (images, epochs, count) = COSTS.length(&ratios, 475.0);
        assert!(
            images.is_some_and(|images| (9_500..9_700).contains(&images)) && (epochs, count) == (1, 50),
            "{images:?}"
        );
        // At least 12 steps, 1.2 s: in 20 s there is room for the base and five others.
        let (images, epochs, count) = COSTS.length(&ratios, 20.0);
        assert!(
            images.is_some_and(|images| (1_950..1_970).contains(&images)) && (epochs, count) == (1, 5),
            "{images:?}"
        );
        assert_eq!(COSTS.length(&ratios[..1], 200.0), (None, 2, 1));
        assert_eq!(COSTS.length(&ratios[..1], 1e6), (None, 10, 1));
    }
}
