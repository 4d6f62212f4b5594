//! Rows of a comparison: a run each, or all runs that differ only in the seed.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use serde::Serialize;

use super::{LeftOut, Measure, RowDifference, RunFacts, Spread, TrainAccuracy};
use crate::config::difference::{FlatConfig, SEED, differing};
use crate::evaluate::Accuracy;
use crate::record::Weights;

/// The key for images that differ although the configs do not.
const IMAGES: &str = "data.fingerprint";

/// The key for the beam width with which readers were tested, if it differs.
const BEAM: &str = "evaluate.beam";

/// Runs side by side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Keys of the settings that are not the same in all runs.
    pub keys: Vec<String>,
    /// What is compared.
    pub rows: Vec<Row>,
    /// The rows on the same data are a group, which is ranked by itself; the group of most rows comes first.
    pub groups: Vec<Group>,
    /// The accuracy that decides.
    pub ranked_by: Measure,
    /// Folders that are not.
    pub left_out: Vec<LeftOut>,
}

/// The rows whose accuracies are of the same images.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Group {
    /// The data in words, as in [`Row::data`].
    pub data: String,
    /// The row that the others are compared with; absent before that is chosen, and where there are no others.
    pub against: Option<String>,
    /// Of how many rows that one was chosen as the best; absent where it was named beforehand.
    pub best_of: Option<usize>,
    /// Comparisons for which the differences' p values are adjusted.
    pub comparisons: Option<usize>,
}

/// One run, or several that differ only in the seed. Accuracies are fractions of 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The run's name, or what the names of several have in common; no other row has it.
    #[serde(rename = "run")]
    pub name: String,
    /// The data that its accuracy is of, in words: `digits`, or `digits, classes even`. Rows of a group have the same.
    pub data: String,
    /// The runs' folders.
    #[serde(serialize_with = "crate::text::lossy_each")]
    pub folders: Vec<PathBuf>,
    /// Their seeds.
    pub seeds: Vec<u64>,
    /// The network in a few words.
    pub model: Option<String>,
    /// Values of the comparison's keys.
    pub settings: FlatConfig,
    /// Number of trained values.
    pub parameters: usize,
    /// Floating-point operations of the forward pass of one image.
    pub flops_forward: Option<u64>,
    /// Wall-clock time of the training.
    pub seconds: Option<Spread>,
    /// Whose accuracies these are, where any is known.
    pub weights: Option<Weights>,
    /// Accuracy on the images it learned from.
    pub train_acc: Option<Spread>,
    /// Whether `evaluate` measured that, or it is the mean over the last epoch while learning.
    pub train_acc_measured: bool,
    /// Accuracy on the validation split.
    pub val_acc: Option<Spread>,
    /// Wilson's 95 % interval of it, where it is that of one run.
    pub val_acc_interval: Option<[f64; 2]>,
    /// Accuracy on the test split.
    pub test_acc: Option<Spread>,
    /// Wilson's 95 % interval of it, where it is that of one run.
    pub test_acc_interval: Option<[f64; 2]>,
    /// Whether all its runs have a validation split.
    #[serde(skip)]
    pub has_validation: bool,
    /// Its accuracy against that of the comparison's reference.
    pub difference: Option<RowDifference>,
}

impl Comparison {
    /// Makes rows of runs, in the order of the runs; with `group`, one for all that differ only in the seed and are known
    /// by the accuracies of the same weights.
    pub fn new(mut runs: Vec<RunFacts>, left_out: Vec<LeftOut>, group: bool, ranked_by: Measure) -> Comparison {
        name_apart(&mut runs);
        tell_images_apart(&mut runs);
        tell_beams_apart(&mut runs);
        let mut keys = differing(&runs.iter().map(|run| &run.settings).collect::<Vec<_>>());
        let mut data = data_of(&runs, &keys, ranked_by).into_iter();
        let mut row_data: Vec<String> = Vec::new();
        let mut groups: Vec<Vec<RunFacts>> = Vec::new();
        let mut places: HashMap<_, Vec<usize>> = HashMap::new();
        for run in runs {
            let data = data.next().expect("each run has its data");
            // Only the keys that differ can distinguish runs.
            let own: String = keys.iter().map(|key| format!("{:?}\n", run.settings.get(key))).collect();
            let places = places.entry((own, run.fingerprint.clone())).or_default();
            match places.iter().copied().find(|&place| are_of_the_same_weights(&groups[place], &run)) {
                // A repeated seed is a repetition, not another sample.
                Some(place) if group && groups[place].iter().all(|other| other.seed != run.seed) => {
                    groups[place].push(run);
                }
                _ => {
                    places.push(groups.len());
                    groups.push(vec![run]);
                    row_data.push(data);
                }
            }
        }
        let seeds_differ = groups.iter().flatten().any(|run| run.seed != groups[0][0].seed);
        if seeds_differ && groups.iter().all(|runs| runs.len() == 1) {
            keys.push(SEED.to_string());
            for run in groups.iter_mut().flatten() {
                let seed = toml::Value::Integer(i64::try_from(run.seed).unwrap_or(i64::MAX));
                run.settings.insert(SEED.to_string(), seed);
            }
        }
        let named = groups.iter().zip(names(&groups).into_iter().zip(row_data));
        let rows = named.map(|(runs, (name, data))| Row::new(runs, name, data, &keys)).collect();
        Comparison::of_rows(keys, rows, ranked_by, left_out)
    }

    /// Groups rows by their data.
    pub(super) fn of_rows(keys: Vec<String>, rows: Vec<Row>, ranked_by: Measure, left_out: Vec<LeftOut>) -> Comparison {
        let mut groups: Vec<(usize, Group)> = Vec::new();
        for row in &rows {
            match groups.iter_mut().find(|(_, group)| group.data == row.data) {
                Some((rows, _)) => *rows += 1,
                None => groups.push((1, Group { data: row.data.clone(), ..Group::default() })),
            }
        }
        groups.sort_by_key(|(rows, _)| Reverse(*rows));
        let groups = groups.into_iter().map(|(_, group)| group).collect();
        Comparison { keys, rows, groups, ranked_by, left_out }
    }

    /// The rows of a group, in order.
    pub fn rows_of(&self, group: &Group) -> impl Iterator<Item = &Row> + Clone {
        self.rows.iter().filter(|row| row.data == group.data)
    }

    /// The row that another one was compared with.
    pub fn reference_of(&self, row: &Row) -> Option<&String> {
        let group = self.groups.iter().find(|group| group.data == row.data)?;
        row.difference.as_ref().and(group.against.as_ref())
    }
}

impl Row {
    fn new(runs: &[RunFacts], name: String, data: String, keys: &[String]) -> Row {
        let first = &runs[0];
        let of =
            |value: &dyn Fn(&RunFacts) -> Option<f64>| Spread::of(&runs.iter().filter_map(value).collect::<Vec<_>>());
        let measured = |run: &RunFacts| match run.train {
            Some(TrainAccuracy::Measured(accuracy)) => Some(accuracy),
            _ => None,
        };
        let running = |run: &RunFacts| match run.train {
            Some(TrainAccuracy::Running(accuracy)) => Some(accuracy),
            _ => None,
        };
        let train_acc = of(&measured);
        Row {
            name,
            data,
            folders: runs.iter().map(|run| run.folder.clone()).collect(),
            seeds: runs.iter().map(|run| run.seed).collect(),
            model: first.model.clone(),
            settings: keys.iter().filter_map(|key| Some((key.clone(), first.settings.get(key)?.clone()))).collect(),
            parameters: first.parameters,
            flops_forward: first.flops_forward,
            seconds: of(&|run| Some(run.seconds)),
            train_acc_measured: train_acc.is_some(),
            train_acc: train_acc.or_else(|| of(&running)),
            weights: runs.iter().find_map(|run| run.weights),
            val_acc: of(&|run| run.validation.map(|found| found.value)),
            val_acc_interval: interval(runs.iter().filter_map(|run| run.validation)),
            test_acc: of(&|run| run.test.map(|found| found.value)),
            test_acc_interval: interval(runs.iter().filter_map(|run| run.test)),
            has_validation: runs.iter().all(|run| run.has_validation),
            difference: None,
        }
    }
}

/// The interval of the one accuracy that there is.
fn interval(mut found: impl Iterator<Item = Accuracy>) -> Option<[f64; 2]> {
    let first = found.next()?;
    found.next().is_none().then(|| first.interval())
}

/// Runs of one name in several folders are called by their folders.
fn name_apart(runs: &mut [RunFacts]) {
    let mut count = HashMap::new();
    runs.iter().for_each(|run| *count.entry(run.name.clone()).or_insert(0) += 1);
    for run in runs.iter_mut().filter(|run| count[&run.name] > 1) {
        run.name = run.folder.display().to_string();
    }
}

/// Where runs with equal settings of their data have other images, their fingerprints become a setting.
fn tell_images_apart(runs: &mut [RunFacts]) {
    if have_other_images(runs).contains(&true) {
        for run in runs {
            run.settings.insert(IMAGES.to_string(), toml::Value::String(short_fingerprint(run)));
        }
    }
}

/// Whether a run has other images than the first of those with equal settings of the data.
fn have_other_images(runs: &[RunFacts]) -> Vec<bool> {
    let mut images = HashMap::new();
    let of_data = |run: &RunFacts| -> String {
        let is_of_data = |key: &String| key.starts_with("data.") && key != "data.dir" && key != IMAGES;
        let settings = run.settings.iter().filter(|(key, _)| is_of_data(key));
        settings.map(|(key, value)| format!("{key}={value:?}\n")).collect()
    };
    let is_other =
        |run: &RunFacts| *images.entry(of_data(run)).or_insert_with(|| run.fingerprint.clone()) != run.fingerprint;
    runs.iter().map(is_other).collect()
}

fn short_fingerprint(run: &RunFacts) -> String {
    run.fingerprint.chars().take(8).collect()
}

/// The data of each run's accuracy, in words: the name, and where runs of that name have other data, what differs. Runs whose
/// accuracies can be compared have the same words.
fn data_of(runs: &[RunFacts], keys: &[String], by: Measure) -> Vec<String> {
    let whole = |(run, is_other): (&RunFacts, bool)| {
        let data = by.data(&run.settings, keys);
        if is_other { format!("{data}, images {}", short_fingerprint(run)) } else { data }
    };
    let whole: Vec<String> = runs.iter().zip(have_other_images(runs)).map(whole).collect();
    let names: Vec<String> = runs.iter().map(|run| by.data(&run.settings, &[])).collect();
    let mut of_name: HashMap<&String, BTreeSet<&String>> = HashMap::new();
    for (name, whole) in names.iter().zip(&whole) {
        of_name.entry(name).or_default().insert(whole);
    }
    let short = |(name, whole): (&String, &String)| if of_name[name].len() > 1 { whole.clone() } else { name.clone() };
    names.iter().zip(&whole).map(short).collect()
}

/// Where readers were tested by different beams, these become a setting.
fn tell_beams_apart(runs: &mut [RunFacts]) {
    let beams: Vec<u64> = runs.iter().filter_map(|run| run.beam).collect();
    if beams.windows(2).all(|pair| pair[0] == pair[1]) {
        return;
    }
    for run in runs {
        if let Some(beam) = run.beam.and_then(|beam| i64::try_from(beam).ok()) {
            run.settings.insert(BEAM.to_string(), toml::Value::Integer(beam));
        }
    }
}

/// Whether a run's accuracies are of the same weights as those of others, as far as any are known.
fn are_of_the_same_weights(others: &[RunFacts], run: &RunFacts) -> bool {
    let mut known = others.iter().filter_map(|other| other.weights);
    run.weights.is_none_or(|weights| known.all(|other| other == weights))
}

/// Names each group of runs; a name that two would have is not short enough.
fn names(groups: &[Vec<RunFacts>]) -> Vec<String> {
    let short: Vec<String> = groups.iter().map(|runs| common_name(runs)).collect();
    let mut count = HashMap::new();
    short.iter().for_each(|name| *count.entry(name).or_insert(0) += 1);
    let name = |(runs, name): (&Vec<RunFacts>, &String)| {
        if runs.len() > 1 && count[name] > 1 { first_and_more(runs) } else { name.clone() }
    };
    groups.iter().zip(&short).map(name).collect()
}

fn first_and_more(runs: &[RunFacts]) -> String {
    format!("{} and {} more", runs[0].name, runs.len() - 1)
}

/// What the names of runs begin with, without a last part that only leads to the seed.
fn common_name(runs: &[RunFacts]) -> String {
    let (first, others) = (&runs[0].name, &runs[1..]);
    if others.is_empty() {
        return first.clone();
    }
    let same = |at: usize, c: char| others.iter().all(|run| run.name.chars().nth(at) == Some(c));
    let common: String = first.chars().enumerate().take_while(|&(at, c)| same(at, c)).map(|(_, c)| c).collect();
    let ends: &[char] = &['-', '_', '=', '.', ' ', '/'];
    // The first digits of several seeds may be the same: a number is not cut in two.
    let goes_on = |run: &RunFacts| run.name[common.len()..].starts_with(|c: char| c.is_ascii_digit());
    let whole = common.trim_end_matches(|c: char| c.is_ascii_digit());
    let common = if runs.iter().any(goes_on) && whole.ends_with(ends) { whole } else { &common };
    let trimmed = common.trim_end_matches(ends);
    let trimmed = trimmed.strip_suffix("seed").or_else(|| trimmed.strip_suffix("-s")).unwrap_or(trimmed);
    match trimmed.trim_end_matches(ends) {
        "" => first_and_more(runs),
        name => name.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::super::testing::write_run;
    use super::*;

    /// Runs of names, seeds and further lines of `[train]`, with test accuracies where they are given.
    fn compared(runs: &[(&str, u64, &str, Option<f64>)], group: bool) -> Comparison {
        let folder = tempfile::tempdir().unwrap();
        let folders: Vec<PathBuf> = runs.iter().map(|(name, ..)| folder.path().join(name)).collect();
        for ((_, seed, lines, test), at) in runs.iter().zip(&folders) {
            write_run(at, &format!("[train]\nseed = {seed}\n{lines}\n"), |manifest| {
                manifest["seed"] = (*seed).into();
                manifest["results"]["seconds"] = (*seed).into();
                if let Some(top1) = test {
                    manifest["evaluations"] = serde_json::json!([{"split": "test", "weights": "best", "data": "photos", "images": 7, "loss": 0.5, "top1": top1, "top5": 1.0}]);
                }
            });
        }
        let (facts, left_out) = read(&folders, Measure::Test);
        assert_eq!(left_out, []);
        Comparison::new(facts, left_out, group, Measure::Test)
    }

    fn names(comparison: &Comparison) -> Vec<&str> {
        comparison.rows.iter().map(|row| row.name.as_str()).collect()
    }

    #[test]
    fn runs_that_differ_only_in_the_seed_are_one_row() {
        let runs = [
            ("a_seed=1", 1, "", Some(0.5)),
            ("b", 1, "lr = 0.5", None),
            ("a_seed=2", 2, "", Some(0.25)),
            ("a", 3, "", None),
        ];
        let comparison = compared(&runs, true);
        assert_eq!((names(&comparison), &comparison.keys), (vec!["a", "b"], &vec!["train.lr".to_string()]));
        let row = &comparison.rows[0];
        assert_eq!((&row.seeds, row.seconds.unwrap().mean, row.test_acc.unwrap().n), (&vec![1, 2, 3], 2.0, 2));
        assert_eq!((row.test_acc.unwrap().mean, row.test_acc.unwrap().max), (0.375, 0.5));
        assert_eq!(row.settings["train.lr"], toml::Value::Float(0.001));
        let each = compared(&runs, false);
        assert_eq!(names(&each), ["a_seed=1", "b", "a_seed=2", "a"]);
        assert_eq!(each.keys, ["train.lr", "train.seed"]);
    }

    #[test]
    fn a_seed_that_repeats_is_no_further_sample() {
        let comparison = compared(&[("a", 1, "", None), ("a-2", 1, "", None)], true);
        assert_eq!((names(&comparison), comparison.keys.len()), (vec!["a", "a-2"], 0));
    }

    #[test]
    fn no_two_rows_have_one_name() {
        let runs = [
            ("a", 1, "", None),
            ("a-2", 1, "lr = 0.5", None),
            ("a-3", 2, "lr = 0.5", None),
            ("a-4", 1, "lr = 0.25", None),
        ];
        assert_eq!(names(&compared(&runs, true)), ["a", "a-2 and 1 more", "a-4"]);
    }

    /// Runs of equal settings and several seeds, with what `evaluate` found of the test split.
    fn evaluated(found: &[serde_json::Value]) -> Comparison {
        let folder = tempfile::tempdir().unwrap();
        let at = |seed: usize| folder.path().join(format!("a_seed={seed}"));
        for (seed, found) in found.iter().enumerate() {
            write_run(&at(seed), &format!("[train]\nseed = {seed}\n"), |manifest| {
                manifest["seed"] = seed.into();
                let mut record = serde_json::json!({"split": "test", "weights": "best", "data": "photos", "images": 7,
                    "loss": 0.5, "top1": 0.5});
                record.as_object_mut().unwrap().extend(found.as_object().unwrap().clone());
                manifest["evaluations"] = vec![record].into();
            });
        }
        let folders: Vec<_> = (0..found.len()).map(at).collect();
        Comparison::new(read(&folders, Measure::Test).0, Vec::new(), true, Measure::Test)
    }

    #[test]
    fn a_row_has_the_accuracies_of_the_same_weights() {
        let [best, last] = ["best", "last"].map(|weights| serde_json::json!({"weights": weights}));
        let comparison = evaluated(&[best.clone(), last.clone(), best, last]);
        let rows: Vec<_> = comparison.rows.iter().map(|row| (&row.seeds[..], row.weights)).collect();
        assert_eq!(rows, [(&[0, 2][..], Some(Weights::Best)), (&[1, 3], Some(Weights::Last))]);
    }

    #[test]
    fn other_beams_are_told_apart() {
        let [greedy, wide] = [1, 4].map(|beam| serde_json::json!({"beam": beam}));
        assert_eq!(evaluated(&[greedy.clone(), greedy.clone()]).keys, [""; 0]);
        let comparison = evaluated(&[greedy.clone(), wide, greedy]);
        assert_eq!((names(&comparison), &comparison.keys), (vec!["a", "a_seed=1"], &vec!["evaluate.beam".to_string()]));
        assert_eq!(comparison.rows[1].settings["evaluate.beam"], toml::Value::Integer(4));
    }

    #[test]
    fn seeds_are_told_where_no_row_has_several() {
        let comparison = compared(&[("a", 1, "", None), ("b", 2, "lr = 0.5", None)], true);
        assert_eq!(comparison.keys, ["train.lr", "train.seed"]);
        assert_eq!(comparison.rows[1].settings["train.seed"], toml::Value::Integer(2));
    }

    #[test]
    fn other_images_under_equal_settings_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let folders = ["a", "b"].map(|name| folder.path().join(name));
        write_run(&folders[0], "", |_| ());
        write_run(&folders[1], "", |manifest| manifest["data"]["fingerprint"] = "0123456789".into());
        let comparison = Comparison::new(read(&folders, Measure::Test).0, Vec::new(), true, Measure::Test);
        assert_eq!((comparison.rows.len(), &comparison.keys), (2, &vec!["data.fingerprint".to_string()]));
        assert_eq!(comparison.rows[1].settings["data.fingerprint"], toml::Value::String("01234567".to_string()));
        assert_eq!(groups(&comparison), [("digits", 1), ("digits, images 01234567", 1)]);
    }

    /// The data of each group, and its number of rows.
    fn groups(comparison: &Comparison) -> Vec<(&str, usize)> {
        let group = |group: &'_ Group| comparison.rows_of(group).count();
        comparison.groups.iter().map(|one| (one.data.as_str(), group(one))).collect()
    }

    #[test]
    fn rows_on_other_data_are_a_group_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let runs = [
            ("a", "photos/", "lr = 0.5", ""),
            ("b", "digits", "", ""),
            ("c", "./photos", "", ""),
            ("d", "./mnist", "", ""),
            ("e", "mnist", "", ""),
            ("f", "digits", "", "val_fraction = 0.25"),
            ("g", "photos", "", "classes = \"even\""),
        ];
        let folders: Vec<PathBuf> = runs.iter().map(|(name, ..)| folder.path().join(name)).collect();
        for ((_, data, train, more), at) in runs.iter().zip(&folders) {
            write_run(at, &format!("[data]\nname = \"{data}\"\n{more}\n[train]\n{train}\n"), |_| ());
        }
        let compared = |by| Comparison::new(read(&folders, by).0, Vec::new(), true, by);
        let expected = [
            ("photos, all classes, val_fraction 0.1", 2),
            ("digits, all classes, val_fraction 0.1", 1),
            // A user's folder that has the name of a known data set.
            ("./mnist", 1),
            ("mnist", 1),
            ("digits, all classes, val_fraction 0.25", 1),
            ("photos, classes even, val_fraction 0.1", 1),
        ];
        assert_eq!(groups(&compared(Measure::Validation)), expected);
        // The fraction decides nothing about the test split.
        let tested = compared(Measure::Test);
        assert_eq!(groups(&tested)[..2], [("photos, all classes", 2), ("digits", 2)]);
    }

    #[test]
    fn names_of_a_row_are_what_the_runs_have_in_common() {
        let name = |runs: &[&str]| {
            let seeds: Vec<_> = (1..).zip(runs).map(|(seed, name)| (*name, seed, "", None)).collect();
            compared(&seeds, true).rows[0].name.clone()
        };
        assert_eq!(name(&["digits", "digits-2", "digits-3"]), "digits");
        assert_eq!(name(&["lr=1_seed=1", "lr=1_seed=2"]), "lr=1");
        assert_eq!(name(&["mnist-43", "mnist-44"]), "mnist");
        assert_eq!(name(&["lr=1e-3", "lr=1e-3_seed=7"]), "lr=1e-3");
        assert_eq!(name(&["vit64a", "vit64b"]), "vit64");
        assert_eq!(name(&["one", "two", "three"]), "one and 2 more");
    }
}
