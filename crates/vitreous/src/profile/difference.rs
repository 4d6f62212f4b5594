//! The difference of two profiles, layer by layer.

use serde::Serialize;

use super::{Profile, ProfileError, Row, Spread, What};

/// The difference of two profiles.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The names of both.
    pub models: [String; 2],
    /// Threads of both.
    pub threads: [usize; 2],
    /// The steps without profiler, in ms.
    pub steps: [Spread; 2],
    /// The second step divided by the first, with a 95 % interval.
    pub ratio: f64,
    /// Its interval.
    pub interval: [f64; 2],
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
    /// Times of both in ms; none where it is missing.
    pub ms: [Option<f64>; 2],
    /// The second minus the first, in ms.
    pub difference_ms: f64,
    /// Its interval: at least 90 % sure, because both medians lie in their 95 % intervals.
    pub interval_ms: [f64; 2],
    /// Whether the interval excludes 0.
    pub is_clear: bool,
}

/// Compares two profiles. Layers are the same if their main name is.
///
/// # Errors
/// When they are of different machines, or one is of an inference.
pub fn difference(first: &Profile, second: &Profile) -> Result<Difference, ProfileError> {
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
    let mut names: Vec<&str> = Vec::new();
    for row in both.iter().flat_map(|profile| &profile.layers) {
        if !names.contains(&main_name(row)) {
            names.push(main_name(row));
        }
    }
    let mut layers: Vec<LayerDifference> = names.into_iter().map(|name| layer(name, both)).collect();
    layers.sort_by(|a, b| b.difference_ms.abs().total_cmp(&a.difference_ms.abs()));
    let [a, b] = both.map(|profile| profile.step);
    Ok(Difference {
        models: both.map(|profile| profile.model.clone()),
        threads: both.map(|profile| profile.threads),
        steps: [a, b],
        ratio: b.median / a.median,
        interval: [b.interval[0] / a.interval[1], b.interval[1] / a.interval[0]],
        layers,
    })
}

fn main_name(row: &Row) -> &str {
    row.names.first().map_or("", String::as_str)
}

fn layer(name: &str, profiles: [&Profile; 2]) -> LayerDifference {
    let rows = profiles.map(|profile| profile.layers.iter().find(|row| main_name(row) == name));
    let [a, b] = rows.map(|row| row.map_or(Spread::default(), |row| row.ms));
    let interval_ms = [b.interval[0] - a.interval[1], b.interval[1] - a.interval[0]];
    LayerDifference {
        // The longer name says more of what was fused.
        name: rows.iter().flatten().map(|row| row.name()).max_by_key(String::len).unwrap_or_default(),
        ops: rows.map(|row| row.map_or(String::new(), |row| row.op.clone())),
        ms: rows.map(|row| row.map(|row| row.ms.median)),
        difference_ms: b.median - a.median,
        interval_ms,
        is_clear: interval_ms[0] > 0.0 || interval_ms[1] < 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::profile_of;
    use super::*;

    #[test]
    fn the_layer_that_makes_the_difference_comes_first() {
        let first = profile_of("a", &[("stem", 5.0), ("layers.1", 20.0), ("head", 1.0)]);
        let second = profile_of("b", &[("stem", 5.1), ("layers.1", 28.0), ("extra", 2.0)]);
        let found = difference(&first, &second).unwrap();
        let rows: Vec<_> = found.layers.iter().map(|row| (row.name.as_str(), row.ms, row.is_clear)).collect();
        assert_eq!(rows[0], ("layers.1", [Some(20.0), Some(28.0)], true));
        assert_eq!(rows[1], ("extra", [None, Some(2.0)], true));
        assert_eq!(rows[2], ("head", [Some(1.0), None], true));
        // Each median is known to 4 %: 5 and 5.1 may be the same.
        assert_eq!(rows[3], ("stem", [Some(5.0), Some(5.1)], false));
        assert!((found.layers[0].difference_ms - 8.0).abs() < 1e-9);
        let [low, high] = found.layers[0].interval_ms;
        assert!((low - (28.0 * 0.96 - 20.0 * 1.04)).abs() < 1e-9 && (high - (28.0 * 1.04 - 20.0 * 0.96)).abs() < 1e-9);
        assert!((found.ratio - 35.1 / 26.0).abs() < 1e-9);
    }

    #[test]
    fn profiles_of_other_machines_and_kinds_are_not_compared() {
        let (first, mut second) = (profile_of("a", &[("stem", 5.0)]), profile_of("b", &[("stem", 5.0)]));
        second.machine.cpu = "Other CPU".to_string();
        let error = difference(&first, &second).unwrap_err().to_string();
        assert_eq!(
            error,
            "profiles of different machines cannot be compared: Some CPU, 2 processors avx2, linux (a), Other CPU, \
             2 processors avx2, linux (b)"
        );
        second.machine = first.machine.clone();
        second.what = What::Inference;
        let error = difference(&first, &second).unwrap_err().to_string();
        assert_eq!(error, "a training step (a) and an inference (b) cannot be compared");
    }
}
