//! The finalists against the base, by seeds and by images, and which of them wins.

use serde::Serialize;

use super::Scope;
use super::candidates::Distance;
use super::record::{Round, RoundKind};
use super::search::{BASE, Search};
use crate::compare::{Against, Basis, Comparison, Difference, LEVEL, Measure, Row, RowDifference, Spread, holm, read};
use crate::plots::record_and_marks;
use crate::timing::Paired;

/// A candidate with several runs, against the base.
#[derive(Clone, Debug, Serialize)]
pub struct Finalist {
    /// What its runs are called.
    pub name: String,
    /// What it changes.
    pub what: String,
    /// How far it is from the base.
    pub distance: Distance,
    /// Number of trained values.
    pub parameters: usize,
    /// Its step against the base's.
    pub time: Paired,
    /// Validation accuracy after the same number of epochs: its own, and the base's.
    pub accuracy: [Spread; 2],
    /// Its own less the base's, with the test over the differences of each seed, adjusted for the number of finalists.
    pub difference: RowDifference,
    /// The answers to the same images, one pair of runs for each seed.
    pub same_images: Vec<SameImages>,
    /// Seconds of steps until the accuracy of the base's last epoch: its own, where it gets there, and the base's.
    pub seconds_to_accuracy: [Option<f64>; 2],
    /// The same on the test split, where it was looked at.
    pub test: Option<Tested>,
}

/// The answers of a run and the base's run of the same seed to the validation images.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SameImages {
    /// The seed.
    pub seed: u64,
    /// McNemar's p value.
    pub p: f64,
    /// Images that only the candidate gets right.
    pub only_own_right: u64,
    /// Images that only the base gets right.
    pub only_base_right: u64,
}

/// Accuracy on the test split.
#[derive(Clone, Debug, Serialize)]
pub struct Tested {
    /// The candidate's accuracy, and the base's.
    pub accuracy: [Spread; 2],
    /// Its own less the base's.
    pub difference: RowDifference,
}

impl Finalist {
    /// Whether it is faster and more accurate by more than chance, with several seeds, and the test split does not
    /// contradict.
    pub fn is_proven(&self) -> bool {
        does_both(&self.time, &self.difference)
            && self.difference.within_noise == Some(false)
            && matches!(self.difference.basis, Basis::Seeds { .. })
            && self.is_confirmed() != Some(false)
    }

    /// Whether it is more accurate on the test split too, where that was looked at.
    pub(super) fn is_confirmed(&self) -> Option<bool> {
        self.test.as_ref().map(|test| test.difference.mean > 0.0)
    }
}

/// Whether a candidate was faster, by more than chance, and more accurate.
fn does_both(time: &Paired, difference: &RowDifference) -> bool {
    time.is_faster() && difference.mean > 0.0
}

/// The last round, with its place.
pub fn last<'a>(search: &'a Search) -> Option<(usize, &'a Round)> {
    let mut rounds = search.record.rounds.iter().enumerate();
    rounds.find(|(_, round)| round.kind == RoundKind::Final && round.took_s.is_some())
}

/// The rows of the base and of a candidate, of their runs of one seed, with the answers to the same images.
fn compared(search: &Search, at: usize, name: &str, seed: u64, by: Measure) -> Option<[Row; 2]> {
    let folders = [BASE, name].map(|name| search.run_folder(at, name, seed));
    let (runs, left_out) = read(&folders, by);
    let mut comparison = Comparison::new(runs, left_out, true, by);
    comparison.hold_against(Against::Named(&folders[0].to_string_lossy())).ok()?;
    let row = |folder| comparison.rows.iter().find(|row| row.folders.contains(folder)).cloned();
    Some([row(&folders[0])?, row(&folders[1])?])
}

/// A candidate's accuracy and the base's, the difference, and the answers to the same images.
type Accuracies = ([Spread; 2], RowDifference, Vec<SameImages>);

/// Compares a candidate with the base by pairs of runs of the same seed.
fn accuracies(search: &Search, at: usize, name: &str, seeds: &[u64], by: Measure) -> Option<Accuracies> {
    let pairs: Vec<[Row; 2]> = seeds.iter().map(|&seed| compared(search, at, name, seed, by)).collect::<Option<_>>()?;
    let of = |row: &Row| Some(by.of(row)?.mean);
    let values: Vec<[f64; 2]> = pairs.iter().map(|[base, own]| Some([of(own)?, of(base)?])).collect::<Option<_>>()?;
    let spread = |which: usize| Spread::of(&values.iter().map(|pair| pair[which]).collect::<Vec<_>>());
    let same_images = pairs.iter().zip(seeds).filter_map(|([_, own], &seed)| match own.difference.as_ref()?.basis {
        Basis::SameImages { p, only_own_right, only_other_right, .. } => {
            Some(SameImages { seed, p, only_own_right, only_base_right: only_other_right })
        }
        _ => None,
    });
    let Difference { mean, seeds: over_seeds } =
        Difference::paired(&values.iter().map(|[own, base]| own - base).collect::<Vec<_>>())?;
    let basis = match over_seeds {
        Some(seeds) => Basis::Seeds { p: seeds.p, interval: seeds.interval },
        None => pairs[0][1].difference.as_ref()?.basis.clone(),
    };
    let p = basis.p();
    let difference = RowDifference { mean, within_noise: p.map(|p| p >= LEVEL), p_adjusted: p, basis };
    Some(([spread(0)?, spread(1)?], difference, same_images.collect()))
}

/// The finalists against the base.
pub fn finalists(search: &Search) -> Vec<Finalist> {
    let Some((at, _)) = last(search) else { return Vec::new() };
    let (names, seeds) = search.complete(at);
    let Some(base_curve) = curve(search, (at, BASE), &seeds) else { return Vec::new() };
    let level = base_curve.last().map_or(1.0, |(_, accuracy)| *accuracy);
    let finalist = |name: String| {
        let candidate = search.hood.find(&name)?;
        let (accuracy, difference, same_images) = accuracies(search, at, &name, &seeds, Measure::Validation)?;
        let test = accuracies(search, at, &name, &seeds, Measure::Test)
            .map(|(accuracy, difference, _)| Tested { accuracy, difference });
        let time = search.time(&name)?;
        let own = steps_to(&curve(search, (at, &name), &seeds)?, level).map(|steps| steps * time.second_s);
        let base = steps_to(&base_curve, level).map(|steps| steps * time.first_s);
        Some(Finalist {
            what: candidate.what(),
            distance: candidate.distance,
            parameters: candidate.parameters,
            time,
            accuracy,
            difference,
            same_images,
            seconds_to_accuracy: [own, base],
            test,
            name,
        })
    };
    let mut finalists: Vec<Finalist> = names.into_iter().filter_map(finalist).collect();
    let p: Vec<Option<f64>> = finalists.iter().map(|one| one.difference.basis.p()).collect();
    for (one, p) in finalists.iter_mut().zip(holm(&p, p.len())) {
        (one.difference.within_noise, one.difference.p_adjusted) = (p.map(|p| p >= LEVEL), p);
    }
    finalists
}

/// The mean validation accuracy over the seeds after each epoch, with the steps until there.
fn curve(search: &Search, (at, name): (usize, &str), seeds: &[u64]) -> Option<Vec<(f64, f64)>> {
    let of_seed = |seed: &u64| {
        let (record, _) = record_and_marks(&search.run_folder(at, name, *seed), name).ok()?;
        Some(record.epochs.iter().map(|epoch| (epoch.step, epoch.val_acc)).collect::<Vec<_>>())
    };
    let curves: Vec<Vec<(f64, f64)>> = seeds.iter().filter_map(of_seed).collect();
    let epochs = curves.iter().map(Vec::len).min()?;
    let mean = |at: usize| curves.iter().map(|curve| curve[at].1).sum::<f64>() / curves.len() as f64;
    Some((0..epochs).map(|at| (curves[0][at].0, mean(at))).collect())
}

/// Steps until a curve of (step, accuracy) reaches a level.
fn steps_to(points: &[(f64, f64)], level: f64) -> Option<f64> {
    let at = points.iter().position(|(_, accuracy)| *accuracy >= level - 1e-12)?;
    let (step, accuracy) = points[at];
    let before = at.checked_sub(1).map(|before| points[before]);
    Some(match before {
        Some((earlier, lower)) if accuracy > lower => earlier + (step - earlier) * (level - lower) / (accuracy - lower),
        _ => step,
    })
}

/// Chooses the winner: of the finalists that do both, those that do by more than chance; of these, those that meet the
/// goals; of these, the smallest change, and of equal ones the one that meets the goals best.
pub fn winner(search: &Search) -> Option<String> {
    let all = finalists(search);
    choose(&all, search.scope).map(|one| one.name.clone())
}

fn choose<'a>(finalists: &'a [Finalist], scope: &Scope) -> Option<&'a Finalist> {
    let score = |one: &Finalist| scope.score(one.time.ratio, one.difference.mean);
    let rank = |one: &&Finalist| (one.is_proven(), scope.is_met(one.time.ratio, one.difference.mean));
    let both: Vec<&Finalist> = finalists.iter().filter(|one| does_both(&one.time, &one.difference)).collect();
    let best = both.iter().map(rank).max()?;
    let mut equal: Vec<&Finalist> = both.into_iter().filter(|one| rank(one) == best).collect();
    equal.sort_by(|a, b| a.distance.cmp(&b.distance).then(score(b).total_cmp(&score(a))));
    equal.first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Key;

    fn finalist(name: &str, edits: usize, interval: [f64; 2], gain: f64, p: f64) -> Finalist {
        let ratio = (interval[0] * interval[1]).sqrt();
        let time = Paired { first_s: 1.0, second_s: ratio, ratio, interval, pairs: 16 };
        let spread = Spread::of(&[0.5, 0.5]).unwrap();
        let basis = Basis::Seeds { p, interval: [gain - 0.01, gain + 0.01] };
        Finalist {
            name: name.to_string(),
            what: String::new(),
            distance: Distance { edits, layers: edits, parameters: 0 },
            parameters: 0,
            time,
            accuracy: [spread, spread],
            difference: RowDifference { mean: gain, within_noise: Some(p >= LEVEL), p_adjusted: Some(p), basis },
            same_images: Vec::new(),
            seconds_to_accuracy: [None, None],
            test: None,
        }
    }

    #[test]
    fn the_smallest_change_that_meets_both_goals_wins() {
        let all = [
            finalist("slower", 1, [1.01, 1.1], 0.1, 0.001),
            finalist("chance", 1, [0.4, 0.5], 0.09, 0.4),
            finalist("little", 1, [0.9, 0.95], 0.05, 0.001),
            finalist("two-edits", 2, [0.6, 0.7], 0.04, 0.01),
            finalist("two-better-edits", 2, [0.5, 0.6], 0.05, 0.01),
            finalist("three-edits", 3, [0.3, 0.4], 0.08, 0.001),
        ];
        let chosen = |all: &[Finalist]| choose(all, &Scope::default()).map(|one| one.name.clone());
        assert_eq!(chosen(&all).as_deref(), Some("two-better-edits"));
        // What is proven, but less than asked for, goes before what chance may explain.
        assert_eq!(chosen(&all[..3]).as_deref(), Some("little"));
        assert_eq!(chosen(&all[..2]).as_deref(), Some("chance"));
        assert_eq!(chosen(&all[..1]), None);
        // Of as many edits, the one that changes fewer layers.
        let mut nearer = all[3].clone();
        (nearer.name, nearer.distance.layers) = ("fewer-layers".to_string(), 1);
        assert_eq!(chosen(&[all[4].clone(), nearer]).as_deref(), Some("fewer-layers"));
    }

    #[test]
    fn one_seed_or_a_test_split_that_contradicts_proves_nothing() {
        let proven = finalist("a", 1, [0.6, 0.7], 0.05, 0.01);
        let with = |change: fn(&mut Finalist)| {
            let mut one = proven.clone();
            change(&mut one);
            one.is_proven()
        };
        assert!(proven.is_proven());
        let images = |one: &mut Finalist| {
            one.difference.basis = Basis::SameImages { p: 0.01, images: 9, only_own_right: 8, only_other_right: 1 };
        };
        assert!(!with(images));
        let test = |one: &mut Finalist, mean: f64| {
            let difference = RowDifference { mean, ..one.difference.clone() };
            one.test = Some(Tested { accuracy: one.accuracy, difference });
        };
        let cases = [0.01, 0.0, -0.01].map(|mean| {
            let mut one = proven.clone();
            test(&mut one, mean);
            one.is_proven()
        });
        assert_eq!(cases, [true, false, false]);
    }

    #[test]
    fn equal_configs_are_not_declared_more_accurate_more_often_than_the_level() {
        // Twenty candidates as good as the base, of which a round on one seed chooses three; then three other seeds, which the
        // base has too, with the spread of small trainings and a part of it that a seed gives to all.
        let proven = |trial: &u64| {
            let key = Key::new(*trial);
            let reached =
                |of: u64, seed: u64| 0.6 + 0.01 * key.with(of).normal(seed) + 0.01 * key.with(99).normal(seed);
            let mut chosen: Vec<u64> = (1..=20).collect();
            chosen.sort_by(|a, b| reached(*b, 0).total_cmp(&reached(*a, 0)));
            let compared = |of: &u64| Difference::paired(&[1, 2, 3].map(|seed| reached(*of, seed) - reached(0, seed)));
            let differences: Vec<Difference> = chosen[..3].iter().filter_map(compared).collect();
            let p: Vec<Option<f64>> = differences.iter().map(|one| one.seeds.map(|seeds| seeds.p)).collect();
            let finalists: Vec<Finalist> = holm(&p, 3)
                .into_iter()
                .zip(differences)
                .map(|(p, difference)| finalist("f", 1, [0.8, 0.9], difference.mean, p.unwrap()))
                .collect();
            choose(&finalists, &Scope::default()).is_some_and(Finalist::is_proven)
        };
        let found = (0..200).filter(proven).count();
        assert!(found <= 10, "{found} of 200 at a level of 5 %");
    }

    #[test]
    fn a_level_is_reached_between_two_epochs_in_proportion() {
        let points = [(100.0, 0.4), (200.0, 0.5), (300.0, 0.7)];
        let steps = [0.3, 0.45, 0.5, 0.6, 0.8].map(|level| steps_to(&points, level));
        let expected = [Some(100.0), Some(150.0), Some(200.0), Some(250.0), None];
        for (found, expected) in steps.into_iter().zip(expected) {
            assert!((found.unwrap_or(-1.0) - expected.unwrap_or(-1.0)).abs() < 1e-9, "{found:?} {expected:?}");
        }
    }
}
