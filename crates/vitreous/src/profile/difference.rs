//! The difference of two profiles, layer by layer.
//!
//! Where both were profiled in turn, it is the median over pairs of steps, so that a change of the processor's speed
//! affects both. Intervals are those of the sign test, see [`median_interval`]. Among many layers some would differ by
//! chance, so each layer's interval has its share of the level (Bonferroni).

use serde::Serialize;

use super::{Profile, ProfileError, Row, What};
use crate::compare::LEVEL;
use crate::timing::{median, median_interval};

/// Part of a step below which a difference is not worth a word, however sure it is.
const WORTH: f64 = 0.001;

/// The difference of two profiles.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The names of both.
    pub models: [String; 2],
    /// Threads of both.
    pub threads: [usize; 2],
    /// Images in a step of both.
    pub batches: [usize; 2],
    /// Whether both were profiled in turn, so that differences are those of pairs of steps.
    pub in_turn: bool,
    /// The steps without profiler, in ms: medians.
    pub steps_ms: [f64; 2],
    /// The second step divided by the first.
    pub ratio: f64,
    /// Its 95 % interval; none where there are too few steps.
    pub interval: Option<[f64; 2]>,
    /// The layers, the largest difference first.
    pub layers: Vec<LayerDifference>,
}

/// The difference of a layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerDifference {
    /// The layer.
    pub name: String,
    /// The operations of both; empty where it is missing.
    pub ops: [String; 2],
    /// Times of both in ms, medians; none where it is missing.
    pub ms: [Option<f64>; 2],
    /// The second minus the first, in ms.
    pub difference_ms: f64,
    /// Its interval, 95 % sure for all layers together; none where there are too few steps for that.
    pub interval_ms: Option<[f64; 2]>,
    /// Whether the interval excludes 0, and the difference is at least a thousandth of a step.
    pub is_clear: bool,
}

/// Compares two profiles, which may have been profiled in turn. Layers are the same if their main name is.
///
/// # Errors
/// When they are of different machines, one is of an inference, or one was written without the times of single steps.
pub fn difference(first: &Profile, second: &Profile, in_turn: bool) -> Result<Difference, ProfileError> {
    let both = [first, second];
    if first.machine != second.machine {
        return Err(ProfileError::Machines {
            first: first.model.clone(),
            second: second.model.clone(),
            machines: Box::new(both.map(|profile| profile.machine.clone())),
        });
    }
    if first.what != second.what {
        let of = |what| both.iter().find(|profile| profile.what == what).map_or(String::new(), |p| p.model.clone());
        return Err(ProfileError::Kinds { training: of(What::TrainingStep), inference: of(What::Inference) });
    }
    if let Some(old) = both.into_iter().find(|profile| profile.steps_ms.is_empty()) {
        return Err(ProfileError::NoSteps { model: old.model.clone() });
    }
    let mut names: Vec<&str> = Vec::new();
    for row in both.iter().flat_map(|profile| &profile.layers) {
        if !names.contains(&main_name(row)) {
            names.push(main_name(row));
        }
    }
    let mut layers: Vec<LayerDifference> =
        names.iter().map(|name| layer(name, both, in_turn, LEVEL / names.len() as f64)).collect();
    layers.sort_by(|a, b| b.difference_ms.abs().total_cmp(&a.difference_ms.abs()));
    let (ratio, interval) = change(both.map(|profile| &profile.steps_ms[..]), in_turn, LEVEL, |a, b| b / a);
    Ok(Difference {
        models: both.map(|profile| profile.model.clone()),
        threads: both.map(|profile| profile.threads),
        batches: both.map(|profile| profile.batch),
        in_turn,
        steps_ms: both.map(|profile| median(&profile.steps_ms)),
        ratio,
        interval,
        layers,
    })
}

fn main_name(row: &Row) -> &str {
    row.names.first().map_or("", String::as_str)
}

/// How far the second times are from the first, and the interval of that; `by` grows with the second and falls with the
/// first.
fn change(times: [&[f64]; 2], in_turn: bool, level: f64, by: fn(f64, f64) -> f64) -> (f64, Option<[f64; 2]>) {
    if in_turn {
        let pairs: Vec<f64> = times[0].iter().zip(times[1]).map(|(&a, &b)| by(a, b)).collect();
        return (median(&pairs), median_interval(&pairs, level));
    }
    let [a, b] = times.map(median);
    // Each of both medians may be outside of its interval in half of the cases.
    let [first, second] = times.map(|times| median_interval(times, level / 2.0));
    (by(a, b), first.zip(second).map(|(first, second)| [by(first[1], second[0]), by(first[0], second[1])]))
}

fn layer(name: &str, profiles: [&Profile; 2], in_turn: bool, level: f64) -> LayerDifference {
    let rows = profiles.map(|profile| profile.layers.iter().find(|row| main_name(row) == name));
    // Where it is missing, it takes no time in any step.
    let nothing = profiles.map(|profile| vec![0.0; profile.steps_ms.len()]);
    let times = [0, 1].map(|at| rows[at].map_or(&nothing[at][..], |row| &row.steps_ms[..]));
    let (difference_ms, interval_ms) = change(times, in_turn, level, |a, b| b - a);
    LayerDifference {
        // The longer name says more of what was fused.
        name: rows.iter().flatten().map(|row| row.name()).max_by_key(String::len).unwrap_or_default(),
        ops: rows.map(|row| row.map_or(String::new(), |row| row.op.clone())),
        ms: [0, 1].map(|at| rows[at].map(|_| median(times[at]))),
        difference_ms,
        interval_ms,
        is_clear: difference_ms.abs() >= WORTH * median(&profiles[0].steps_ms)
            && interval_ms.is_some_and(|[low, high]| low > 0.0 || high < 0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::profile_of;
    use super::*;
    use crate::random::Key;

    #[test]
    fn the_layer_that_makes_the_difference_comes_first() {
        let first = profile_of("a", &[("stem", 5.0), ("layers.1", 20.0), ("head", 1.0)]);
        let second = profile_of("b", &[("stem", 5.1), ("layers.1", 28.0), ("extra", 2.0)]);
        let found = difference(&first, &second, false).unwrap();
        let rows: Vec<_> = found.layers.iter().map(|row| (row.name.as_str(), row.ms, row.is_clear)).collect();
        assert_eq!(rows[0], ("layers.1", [Some(20.0), Some(28.0)], true));
        assert_eq!(rows[1], ("extra", [None, Some(2.0)], true));
        assert_eq!(rows[2], ("head", [Some(1.0), None], true));
        // Of the 41 steps from 96 to 104 %, the 12th and the 30th are 98.2 and 101.8 %: 5 and 5.1 may be the same.
        assert_eq!(rows[3], ("stem", [Some(5.0), Some(5.1)], false));
        assert!((found.layers[0].difference_ms - 8.0).abs() < 1e-9);
        let [low, high] = found.layers[0].interval_ms.unwrap();
        let expected = [28.0 * 0.982 - 20.0 * 1.018, 28.0 * 1.018 - 20.0 * 0.982];
        assert!((low - expected[0]).abs() < 1e-9 && (high - expected[1]).abs() < 1e-9, "{low} {high}");
        assert!((found.ratio - 35.1 / 26.0).abs() < 1e-9);
        // In turn, each step is compared with the one next to it: 2 % are clear.
        let found = difference(&first, &second, true).unwrap();
        let stem = found.layers.iter().find(|row| row.name == "stem").unwrap();
        assert!(stem.is_clear && (stem.difference_ms - 0.1).abs() < 1e-9, "{stem:?}");
        let [low, high] = found.interval.unwrap();
        assert!((low - 1.35).abs() < 1e-9 && (high - 1.35).abs() < 1e-9, "{low} {high}");
    }

    #[test]
    fn few_steps_give_no_interval_and_old_profiles_no_difference() {
        let [mut first, mut second] = [10.0, 90.0].map(|ms| profile_of("a", &[("stem", ms), ("head", ms)]));
        for profile in [&mut first, &mut second] {
            profile.layers.iter_mut().for_each(|row| row.steps_ms.truncate(6));
            profile.steps_ms.truncate(6);
        }
        // 6 pairs are enough for 5 %, but not for half of it, which two layers, or two profiles, have.
        let found = difference(&first, &second, true).unwrap();
        assert!(found.interval.is_some() && found.layers.iter().all(|row| row.interval_ms.is_none() && !row.is_clear));
        assert_eq!(difference(&first, &second, false).unwrap().interval, None);
        second.steps_ms.clear();
        assert_eq!(
            difference(&first, &second, false).unwrap_err().to_string(),
            "the profile has no times of single steps (a)"
        );
    }

    #[test]
    fn equal_layers_are_declared_different_no_more_often_than_the_level() {
        let names: Vec<String> = (0..20).map(|layer| format!("layers.{layer}")).collect();
        let layers: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), 5.0)).collect();
        for in_turn in [true, false] {
            let found = (0..200).filter(|&trial| {
                let mut both = [profile_of("a", &layers), profile_of("b", &layers)];
                for (side, profile) in both.iter_mut().enumerate() {
                    for (layer, row) in profile.layers.iter_mut().enumerate() {
                        let key = Key::new(trial).with(side as u64).with(layer as u64);
                        row.steps_ms = (0..41).map(|step| 5.0 + 0.2 * key.normal(step)).collect();
                    }
                }
                difference(&both[0], &both[1], in_turn).unwrap().layers.iter().any(|layer| layer.is_clear)
            });
            let found = found.count();
            assert!(found <= 10, "in turn {in_turn}: {found} of 200 at a level of 5 %");
        }
    }

    #[test]
    fn profiles_of_other_machines_and_kinds_are_not_compared() {
        let (first, mut second) = (profile_of("a", &[("stem", 5.0)]), profile_of("b", &[("stem", 5.0)]));
        second.machine.cpu = "Other CPU".to_string();
        let error = difference(&first, &second, false).unwrap_err().to_string();
        assert_eq!(
            error,
            "profiles of different machines cannot be compared: Some CPU, 2 processors, avx2, linux (a), Other CPU, \
             2 processors, avx2, linux (b)"
        );
        second.machine = first.machine.clone();
        second.what = What::Inference;
        let error = difference(&first, &second, false).unwrap_err().to_string();
        assert_eq!(error, "a training step (a) and an inference (b) cannot be compared");
    }
}
