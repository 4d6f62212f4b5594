//! The difference of two profiles, layer by layer.
//!
//! Where both were profiled in turn, steps are compared in pairs, so that a change of the processor's speed affects both.
//! Intervals are those of the sign test, see [`median_interval`]. Among many layers some would differ by chance, so each
//! layer's interval has its share of the level (Bonferroni).

use serde::Serialize;

use super::{Profile, ProfileError, Row, What};
use crate::compare::LEVEL;
use crate::timing::{median, median_interval};

/// Part of a step below which a difference is not worth a word, however sure it is.
const WORTH: f64 = 0.01;

/// How much more it matters that products find each other: they take the time.
const OF_PRODUCTS: usize = 8;

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
    /// The steps without profiler, in ms: see [`LayerDifference::ms`].
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
    /// The names in both; none where it is missing.
    pub names: [Option<String>; 2],
    /// What both compute, in the words of a config; empty where it is missing.
    pub operations: [String; 2],
    /// Times of both in ms: medians, or where both were profiled in turn, the means over the pairs of steps whose difference
    /// is in the interval. None where it is missing.
    pub ms: [Option<f64>; 2],
    /// The second minus the first, in ms.
    pub difference_ms: f64,
    /// Its interval, 95 % sure for all layers together; none where there are too few steps for that.
    pub interval_ms: Option<[f64; 2]>,
    /// Whether the interval excludes 0, and the difference is at least a hundredth of a step.
    pub is_clear: bool,
}

/// Compares two profiles, which may have been profiled in turn. Layers find each other by operation and shape, in their
/// order; those that were moved as well.
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
    // Interruptions are what is left of the median step: they have no times of single steps.
    let rows = |profile: &'_ Profile| profile.layers.iter().filter(|row| !row.steps_ms.is_empty()).cloned().collect();
    let rows: [Vec<Row>; 2] = both.map(rows);
    let pairs = pairs(rows.each_ref().map(Vec::as_slice));
    let level = LEVEL / pairs.len().max(1) as f64;
    let mut layers: Vec<LayerDifference> = pairs.into_iter().map(|rows| layer(rows, both, in_turn, level)).collect();
    layers.sort_by(|a, b| b.difference_ms.abs().total_cmp(&a.difference_ms.abs()));
    let Change { sides: steps_ms, interval, .. } =
        change(both.map(|profile| &profile.steps_ms[..]), in_turn, LEVEL, |a, b| b / a);
    Ok(Difference {
        models: both.map(|profile| profile.model.clone()),
        threads: both.map(|profile| profile.threads),
        batches: both.map(|profile| profile.batch),
        in_turn,
        ratio: steps_ms[1] / steps_ms[0],
        steps_ms,
        interval,
        layers,
    })
}

/// How well two rows match; none where they compute different things.
fn likeness(first: &Row, second: &Row) -> Option<usize> {
    if first.op != second.op || !first.is_layer() {
        return None;
    }
    let same = |is: bool, points: usize| if is { points } else { 0 };
    let kinds =
        |row: &Row| row.operation.split(" + ").map(|one| one.split(' ').next().map(str::to_string)).collect::<Vec<_>>();
    let points = 1
        + same(first.shape == second.shape, 3)
        + same(kinds(first) == kinds(second), 2)
        + same(first.operation == second.operation, 2)
        + same(first.names.first() == second.names.first(), 1);
    let is_product = ["conv2d", "linear", "per_head_linear", "attention", "attend"].contains(&first.op.as_str());
    Some(if is_product { OF_PRODUCTS * points } else { points })
}

/// Which rows of the second profile are those of the first: the alignment with the most likeness, in the order of both
/// (Needleman and Wunsch 1970). Layers that only one of them has, but that compute the same, were moved.
fn pairs([first, second]: [&[Row]; 2]) -> Vec<[Option<&Row>; 2]> {
    // The most likeness from row a of the first and row b of the second on.
    let mut most = vec![vec![0; second.len() + 1]; first.len() + 1];
    for a in (0..first.len()).rev() {
        for b in (0..second.len()).rev() {
            let both = likeness(&first[a], &second[b]).map_or(0, |points| points + most[a + 1][b + 1]);
            most[a][b] = both.max(most[a + 1][b]).max(most[a][b + 1]);
        }
    }
    let (mut pairs, mut alone): (Vec<[Option<&Row>; 2]>, Vec<&Row>) = (Vec::new(), Vec::new());
    let (mut a, mut b) = (0, 0);
    while a < first.len() || b < second.len() {
        let here = most[a][b];
        let is_pair = |points: usize| here == points + most[a + 1][b + 1];
        if a < first.len() && b < second.len() && likeness(&first[a], &second[b]).is_some_and(is_pair) {
            pairs.push([Some(&first[a]), Some(&second[b])]);
            (a, b) = (a + 1, b + 1);
        } else if a < first.len() && (b == second.len() || here == most[a + 1][b]) {
            pairs.push([Some(&first[a]), None]);
            a += 1;
        } else {
            alone.push(&second[b]);
            b += 1;
        }
    }
    for row in alone {
        let is_moved = |pair: &&mut [Option<&Row>; 2]| match pair {
            [Some(other), None] if row.is_layer() => other.op == row.op && other.operation == row.operation,
            [Some(other), None] => other.names == row.names,
            _ => false,
        };
        match pairs.iter_mut().find(is_moved) {
            Some(pair) => pair[1] = Some(row),
            None => pairs.push([None, Some(row)]),
        }
    }
    pairs
}

/// Times of two sides, and how far the second are from the first.
struct Change {
    /// One time for each side, of which the change is made.
    sides: [f64; 2],
    interval: Option<[f64; 2]>,
}

/// Compares times; `by` grows with the second and falls with the first.
fn change(times: [&[f64]; 2], in_turn: bool, level: f64, by: fn(f64, f64) -> f64) -> Change {
    if !in_turn {
        // Each of both medians may be outside of its interval in half of the cases.
        let [first, second] = times.map(|times| median_interval(times, level / 2.0));
        let interval = first.zip(second).map(|(first, second)| [by(first[1], second[0]), by(first[0], second[1])]);
        return Change { sides: times.map(median), interval };
    }
    let mut pairs: Vec<[f64; 3]> = times[0].iter().zip(times[1]).map(|(&a, &b)| [by(a, b), a, b]).collect();
    pairs.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let changes: Vec<f64> = pairs.iter().map(|pair| pair[0]).collect();
    let interval = median_interval(&changes, level);
    // The means of these pairs differ by the mean of their differences, which is in the interval too.
    let middle = match (interval, pairs.len()) {
        (Some([low, high]), _) => pairs.iter().filter(|pair| (low..=high).contains(&pair[0])).collect(),
        (None, count) => pairs.iter().take(count / 2 + 1).skip(count.saturating_sub(1) / 2).collect::<Vec<_>>(),
    };
    let mean = |side: usize| middle.iter().map(|pair| pair[side]).sum::<f64>() / middle.len().max(1) as f64;
    Change { sides: [mean(1), mean(2)], interval }
}

fn layer(rows: [Option<&Row>; 2], profiles: [&Profile; 2], in_turn: bool, level: f64) -> LayerDifference {
    // Where it is missing, it takes no time in any step.
    let nothing = profiles.map(|profile| vec![0.0; profile.steps_ms.len()]);
    let times = [0, 1].map(|at| rows[at].map_or(&nothing[at][..], |row| &row.steps_ms[..]));
    let Change { sides, interval: interval_ms } = change(times, in_turn, level, |a, b| b - a);
    let difference_ms = sides[1] - sides[0];
    LayerDifference {
        names: rows.map(|row| row.map(Row::name)),
        operations: rows.map(|row| row.map_or(String::new(), |row| row.operation.clone())),
        ms: [0, 1].map(|at| rows[at].map(|_| sides[at])),
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
        let other = |stem: f64| {
            let mut profile = profile_of("b", &[("stem", stem), ("layers.1", 28.0), ("extra", 2.0)]);
            profile.layers[2].op = "max_pool2d".to_string();
            profile
        };
        let second = other(5.1);
        let found = difference(&first, &second, false).unwrap();
        let name = |row: &LayerDifference| row.names.iter().flatten().next().cloned().unwrap();
        let rows: Vec<_> = found.layers.iter().map(|row| (name(row), row.ms, row.is_clear)).collect();
        let row = |name: &str, ms, is_clear| (name.to_string(), ms, is_clear);
        assert_eq!(rows[0], row("layers.1", [Some(20.0), Some(28.0)], true));
        assert_eq!(rows[1], row("extra", [None, Some(2.0)], true));
        assert_eq!(rows[2], row("head", [Some(1.0), None], true));
        // Of the 41 steps from 96 to 104 %, the 12th and the 30th are 98.2 and 101.8 %: 5 and 5.1 may be the same.
        assert_eq!(rows[3], row("stem", [Some(5.0), Some(5.1)], false));
        assert!((found.layers[0].difference_ms - 8.0).abs() < 1e-9);
        let [low, high] = found.layers[0].interval_ms.unwrap();
        let expected = [28.0 * 0.982 - 20.0 * 1.018, 28.0 * 1.018 - 20.0 * 0.982];
        assert!((low - expected[0]).abs() < 1e-9 && (high - expected[1]).abs() < 1e-9, "{low} {high}");
        assert!((found.ratio - 35.1 / 26.0).abs() < 1e-9);
        // In turn, each step is compared with the one next to it: 6 % are clear.
        let found = difference(&first, &other(5.3), true).unwrap();
        let stem = found.layers.iter().find(|row| name(row) == "stem").unwrap();
        assert!(stem.is_clear && (stem.difference_ms - 0.3).abs() < 1e-9, "{stem:?}");
        let [low, high] = found.interval.unwrap();
        let ratio = 35.3 / 26.0;
        assert!((low - ratio).abs() < 1e-9 && (high - ratio).abs() < 1e-9, "{low} {high}");
        // As clear, but less than 1 % of a step.
        let second = profile_of("b", &[("stem", 5.25), ("layers.1", 20.0), ("head", 1.0)]);
        let found = difference(&first, &second, true).unwrap();
        assert!(found.layers[0].interval_ms.unwrap()[0] > 0.2 && !found.layers[0].is_clear, "{:?}", found.layers[0]);
    }

    #[test]
    fn a_difference_is_that_of_the_times_next_to_it_and_in_its_interval() {
        let [mut first, mut second] = [10.0, 11.0].map(|ms| profile_of("a", &[("stem", ms)]));
        // Other programs take up to three times the step, now from the one and now from the other.
        for (side, profile) in [&mut first, &mut second].into_iter().enumerate() {
            let noise = |step: u64| if Key::new(7).with(side as u64).unit(step) < 0.4 { 25.0 } else { 0.0 };
            profile.layers[0].steps_ms.iter_mut().zip(0..).for_each(|(ms, step)| *ms += noise(step));
        }
        for in_turn in [true, false] {
            let found = &difference(&first, &second, in_turn).unwrap().layers[0];
            let [Some(a), Some(b)] = found.ms else { panic!("{found:?}") };
            assert!((b - a - found.difference_ms).abs() < 1e-9, "{found:?}");
            let [low, high] = found.interval_ms.unwrap();
            assert!((low..=high).contains(&found.difference_ms), "{found:?}");
        }
    }

    #[test]
    fn layers_find_each_other_by_operation_and_shape_in_order() {
        let stack = |model: &str, layers: &[(&str, &[usize])]| {
            let names: Vec<String> = (0..layers.len()).map(|at| format!("layers.{at}")).collect();
            let times: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), 5.0)).collect();
            let mut profile = profile_of(model, &times);
            for (row, (operation, shape)) in profile.layers.iter_mut().zip(layers) {
                row.op = if operation.starts_with("conv") { "conv2d" } else { "max_pool2d" }.to_string();
                (row.operation, row.shape) = ((*operation).to_string(), shape.to_vec());
            }
            profile
        };
        let base = [
            ("conv 32 + relu", &[20, 20, 32][..]),
            ("conv 32 + relu", &[20, 20, 32]),
            ("maxpool 2", &[10, 10, 32]),
            ("conv 64 + relu", &[10, 10, 64]),
        ];
        // The pool is moved, the last convolution is wider, and there is a new one.
        let other = [
            ("conv 32 + relu", &[20, 20, 32][..]),
            ("maxpool 2", &[10, 10, 32]),
            ("conv 32 + relu", &[10, 10, 32]),
            ("conv 16", &[10, 10, 16]),
            ("conv 80 + relu", &[10, 10, 80]),
        ];
        let found = |first: &[(&str, &[usize])], second: &[(&str, &[usize])]| {
            let found = difference(&stack("a", first), &stack("b", second), false).unwrap().layers;
            let mut names: Vec<[Option<String>; 2]> = found.into_iter().map(|layer| layer.names).collect();
            names.sort();
            names
        };
        let pair = |a: usize, b: usize| [a, b].map(|at| (at < 9).then(|| format!("layers.{at}")));
        assert_eq!(found(&base, &other), [pair(9, 3), pair(0, 0), pair(1, 2), pair(2, 1), pair(3, 4)]);
        assert_eq!(found(&other, &base), [pair(0, 0), pair(1, 2), pair(2, 1), pair(3, 9), pair(4, 3)]);
        // Only a number has changed: the layer keeps its name.
        assert_eq!(found(&base[..2], &[base[0], ("conv 48 + relu", &[20, 20, 48])]), [pair(0, 0), pair(1, 1)]);
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
