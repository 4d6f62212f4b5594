//! Which rows reach another test accuracy than the best one, or a named one, by more than noise.
//!
//! Rows of several seeds are told apart by what seeds do; two single runs by their answers to the same images, which
//! `evaluate` has kept. Those files are read for so few rows that a thousand runs still take no second.

use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;

use serde::Serialize;
use thiserror::Error;

use super::noise::{LEVEL, mcnemar};
use super::outcomes::{Outcomes, Pairs};
use super::settings::Settings;
use super::{Comparison, Difference, Row};
use crate::data::SplitName;
use crate::evaluate::Report;
use crate::units;

/// Most rows that are held against another, those of the nearest accuracies.
const ROWS_MAX: usize = 24;

/// A row's test accuracy against that of another row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RowDifference {
    /// Its own less the other, a fraction of 1.
    pub mean: f64,
    /// Whether noise may account for it; absent where nothing says so.
    pub within_noise: Option<bool>,
    /// What says so.
    #[serde(flatten)]
    pub basis: Basis,
}

/// What says whether a difference is more than noise; `p` is how often noise alone makes one as large.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Basis {
    /// The answers of both runs to the same images.
    SameImages { p: f64, images: u64, only_own_right: u64, only_other_right: u64 },
    /// Several seeds of a setting; with the difference's 95 % interval.
    Seeds { p: f64, interval: [f64; 2] },
    /// Nothing.
    Unknown { reason: String },
}

impl Basis {
    /// How often noise alone makes as large a difference.
    pub fn p(&self) -> Option<f64> {
        match self {
            Basis::SameImages { p, .. } | Basis::Seeds { p, .. } => Some(*p),
            Basis::Unknown { .. } => None,
        }
    }
}

/// Says why nothing can be held against a row.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AgainstError {
    /// There is no such row.
    #[error("there is no run `{name}` in the comparison (--against)")]
    Absent { name: String, known: Vec<String> },
    /// Nobody knows its test accuracy.
    #[error("the test accuracy of {name} is not known (--against)")]
    NotEvaluated { name: String },
}

impl AgainstError {
    /// Says what to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            AgainstError::Absent { name, known } => match units::nearest(name, known.iter().map(String::as_str)) {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => "name one of the runs that are compared".to_string(),
            },
            AgainstError::NotEvaluated { .. } => "measure it with `vitreous evaluate RUN`".to_string(),
        })
    }
}

impl Comparison {
    /// Holds the test accuracies of all rows against that of one: of this name, or the best.
    ///
    /// # Errors
    /// When no row is called so, or that one has no test accuracy.
    pub fn hold_against(&mut self, name: Option<&str>) -> Result<(), AgainstError> {
        let Some(reference) = self.reference(name)? else { return Ok(()) };
        let mean = |row: &Row| row.test_acc.map(|spread| spread.mean);
        let Some(best) = mean(&self.rows[reference]) else {
            return Err(AgainstError::NotEvaluated { name: self.rows[reference].name.clone() });
        };
        let data = tested_on(&self.rows[reference].settings);
        let others =
            self.rows.iter().enumerate().filter(|(at, row)| *at != reference && tested_on(&row.settings) == data);
        let mut others: Vec<(usize, f64)> = others.filter_map(|(at, row)| Some((at, mean(row)? - best))).collect();
        others.sort_by(|(_, a), (_, b)| a.abs().total_cmp(&b.abs()));
        let answers = LazyCell::new(|| outcomes(&self.rows[reference]));
        let found: Vec<(usize, RowDifference)> = others
            .iter()
            .take(ROWS_MAX)
            .map(|&(at, mean)| {
                let basis = basis(&self.rows[reference], &self.rows[at], &answers);
                (at, RowDifference { mean, within_noise: basis.p().map(|p| p >= LEVEL), basis })
            })
            .collect();
        drop(answers);
        if !found.is_empty() {
            self.against = Some(self.rows[reference].name.clone());
        }
        found.into_iter().for_each(|(at, difference)| self.rows[at].difference = Some(difference));
        Ok(())
    }

    /// The row of a name, or of a run of this name or folder; without a name, the best on the data of most rows.
    fn reference(&self, name: Option<&str>) -> Result<Option<usize>, AgainstError> {
        let Some(name) = name else {
            let known: Vec<_> =
                self.rows.iter().enumerate().filter_map(|(at, row)| Some((at, row, row.test_acc?.mean))).collect();
            let is_of = |other: &Row, row: &Row| tested_on(&other.settings) == tested_on(&row.settings);
            let rows = |row: &Row| known.iter().filter(|(_, other, _)| is_of(other, row)).count();
            let by_rows = |&(_, row, mean): &(usize, &Row, f64)| (rows(row), mean);
            // Of equal ones the first.
            let best = known.iter().rev().max_by(|a, b| {
                let ((rows, mean), (other_rows, other_mean)) = (by_rows(a), by_rows(b));
                rows.cmp(&other_rows).then(mean.total_cmp(&other_mean))
            });
            return Ok(best.map(|(at, ..)| *at));
        };
        let is_meant = |folder: &Path| folder == Path::new(name) || folder.file_name() == Some(OsStr::new(name));
        let by_name = self.rows.iter().position(|row| row.name == name);
        let by_run = || self.rows.iter().position(|row| row.folders.iter().any(|folder| is_meant(folder)));
        by_name.or_else(by_run).map(Some).ok_or_else(|| AgainstError::Absent {
            name: name.to_string(),
            known: self.rows.iter().map(|row| row.name.clone()).collect(),
        })
    }
}

/// What a test accuracy is of: accuracies of other data sets, classes or tasks say nothing of each other. A row has the
/// settings that are not the same in all rows.
pub fn tested_on(settings: &Settings) -> ([Option<&toml::Value>; 2], bool) {
    let is_reader = settings.get("model.kind").and_then(toml::Value::as_str) == Some("reader");
    (["data.name", "data.classes"].map(|key| settings.get(key)), is_reader)
}

/// The answers of a row that is one run.
fn outcomes(row: &Row) -> Result<Outcomes, String> {
    match (&row.folders[..], row.weights, row.test_acc) {
        ([folder], Some(weights), Some(accuracy)) => {
            Outcomes::read(folder, weights, accuracy.mean).map_err(|reason| format!("{}: {reason}", row.name))
        }
        (folders, ..) => Err(format!("{}: 1 of {} runs has a test accuracy; evaluate more", row.name, folders.len())),
    }
}

/// What says how a row's difference from another came about.
fn basis(
    reference: &Row,
    row: &Row,
    answers: &LazyCell<Result<Outcomes, String>, impl FnOnce() -> Result<Outcomes, String>>,
) -> Basis {
    let (Some(other), Some(own)) = (reference.test_acc, row.test_acc) else {
        return Basis::Unknown { reason: "a test accuracy is not known".to_string() };
    };
    let on_others = || format!("{} and {} were tested on other images", row.name, reference.name);
    // Pictures that are brought to another size have another sum; of equal size they are other pictures.
    let is_comparable = prepared(row) == prepared(reference);
    if let Some(seeds) = Difference::of(&other, &own).seeds {
        let images: BTreeSet<String> = [reference, row].into_iter().flat_map(fingerprints).collect();
        if is_comparable && images.len() > 1 {
            return Basis::Unknown { reason: on_others() };
        }
        return Basis::Seeds { p: seeds.p, interval: seeds.interval };
    }
    let pairs = || -> Result<Pairs, String> {
        let (own, other) = (outcomes(row)?, answers.as_ref().map_err(String::clone)?);
        let are_equal = own.fingerprint == other.fingerprint || !is_comparable;
        are_equal.then(|| own.pairs(other)).flatten().ok_or_else(on_others)
    };
    match pairs() {
        Ok(Pairs { images, only_first, only_second }) => Basis::SameImages {
            p: mcnemar(only_first, only_second),
            images,
            only_own_right: only_first,
            only_other_right: only_second,
        },
        Err(reason) => Basis::Unknown { reason },
    }
}

/// The SHA-256 of the images by which a row's runs were tested, of those whose answers are kept.
fn fingerprints(row: &Row) -> Vec<String> {
    let kept = row.folders.iter().flat_map(|folder| Report::kept(folder, SplitName::Test));
    kept.filter(|(_, report)| Some(report.weights) == row.weights).map(|(_, report)| report.fingerprint).collect()
}

/// The settings that decide into which bytes a picture is made; a comparison has those that are not the same in all rows.
fn prepared(row: &Row) -> [Option<&toml::Value>; 2] {
    ["data.image_size", "data.channels"].map(|key| row.settings.get(key))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::super::testing::write_run;
    use super::super::{Verdicts, read};
    use super::*;

    /// A run in a folder: settings, seed, and what it says of six images, of which the first three are cats.
    struct Tested<'a> {
        name: &'a str,
        config: &'a str,
        seed: u64,
        answers: Option<&'a str>,
    }

    fn tested<'a>(name: &'a str, config: &'a str, seed: u64, answers: &'a str) -> Tested<'a> {
        Tested { name, config, seed, answers: Some(answers) }
    }

    /// Writes runs that have been evaluated, `c` and `d` for each answer.
    fn write(folder: &Path, runs: &[Tested]) -> Vec<PathBuf> {
        let write = |run: &Tested| {
            let at = folder.join(run.name);
            let right = |answers: &str| answers.chars().zip("cccddd".chars()).filter(|(a, b)| a == b).count();
            write_run(&at, &format!("[train]\nseed = {}\n{}", run.seed, run.config), |manifest| {
                manifest["seed"] = run.seed.into();
                if let Some(answers) = run.answers {
                    manifest["evaluations"] = serde_json::json!([{"split": "test", "weights": "best", "data": "photos",
                        "images": 6, "loss": 0.5, "top1": right(answers) as f64 / 6.0}]);
                }
            });
            if let Some(answers) = run.answers {
                keep(&at, answers, "best", "ab");
            }
            at
        };
        runs.iter().map(write).collect()
    }

    /// Keeps the answers to six images as `evaluate` does.
    fn keep(run: &Path, answers: &str, weights: &str, fingerprint: &str) {
        let folder = run.join("evaluation/test");
        fs::create_dir_all(&folder).unwrap();
        let mut text = "image,label,prediction,probability\n".to_string();
        for (number, (truth, answer)) in "cccddd".chars().zip(answers.chars()).enumerate() {
            text.push_str(&format!("{number}.png,{truth},{answer},0.5\n"));
        }
        fs::write(folder.join("predictions.csv"), text).unwrap();
        let report = serde_json::json!({"run": "r", "weights": weights, "epoch": 1, "step": 2, "data": "photos",
            "fingerprint": fingerprint, "split": "test", "test_evaluations": 1,
            "strips": 6, "beam": 1, "loss": 0.5, "exact_match": 0.5, "exact_match_interval": [0.0, 1.0],
            "digit_accuracy": 0.5, "lengths": []});
        fs::write(folder.join("report.json"), report.to_string()).unwrap();
    }

    fn compared(folders: &[PathBuf], against: Option<&str>) -> Result<Comparison, AgainstError> {
        let (runs, left_out) = read(folders);
        assert_eq!(left_out, []);
        let mut comparison = Comparison::new(runs, left_out, true);
        comparison.hold_against(against).map(|()| comparison)
    }

    fn reason(row: &Row) -> &str {
        match &row.difference.as_ref().unwrap().basis {
            Basis::Unknown { reason } => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn single_runs_are_told_apart_by_their_answers_to_the_same_images() {
        let folder = tempfile::tempdir().unwrap();
        let runs = [
            tested("low", "lr = 0.5", 1, "dddccd"),
            tested("best", "lr = 0.25", 1, "cccddd"),
            tested("near", "lr = 0.125", 1, "dccddc"),
            Tested { answers: None, ..tested("unknown", "lr = 0.75", 1, "") },
        ];
        let folders = write(folder.path(), &runs);
        let comparison = compared(&folders, None).unwrap();
        assert_eq!(comparison.against.as_deref(), Some("best"));
        let [low, best, near, unknown] = &comparison.rows[..] else { panic!("four rows") };
        assert_eq!((&best.difference, &unknown.difference), (&None, &None));
        let difference = low.difference.as_ref().unwrap();
        // None of five throws of a coin is heads: 2 * 0 + 1/32.
        let basis = Basis::SameImages { p: 0.03125, images: 6, only_own_right: 0, only_other_right: 5 };
        assert_eq!((difference.within_noise, &difference.basis), (Some(false), &basis));
        assert!((difference.mean + 5.0 / 6.0).abs() < 1e-12);
        let difference = near.difference.as_ref().unwrap();
        assert_eq!((difference.within_noise, difference.basis.p()), (Some(true), Some(0.25)));

        let named = compared(&folders, Some("near")).unwrap();
        let basis = &named.rows[0].difference.as_ref().unwrap().basis;
        assert!(matches!(basis, Basis::SameImages { only_own_right: 1, only_other_right: 4, .. }), "{basis:?}");
        assert!(named.rows[1].difference.as_ref().unwrap().mean > 0.3);
        assert_eq!(compared(&folders, folders[2].to_str()).unwrap(), named);
    }

    #[test]
    fn rows_of_several_seeds_are_told_apart_by_these() {
        let folder = tempfile::tempdir().unwrap();
        let runs = [
            tested("a_seed=1", "lr = 0.5", 1, "cccddd"),
            tested("a_seed=2", "lr = 0.5", 2, "dccddd"),
            tested("b", "lr = 0.25", 1, "dddddd"),
        ];
        let comparison = compared(&write(folder.path(), &runs), None).unwrap();
        // 5/6 of a standard deviation of 1/6/sqrt(2), one degree of freedom: t = 5/12 / (sqrt(3/2) / (6 sqrt(2))).
        let t = (5.0f64 / 12.0) / ((1.5f64).sqrt() / (6.0 * 2f64.sqrt()));
        let p = 1.0 - t.atan() / std::f64::consts::FRAC_PI_2;
        let found = comparison.rows[1].difference.as_ref().unwrap();
        assert!(matches!(found.basis, Basis::Seeds { .. }) && found.within_noise == Some(true), "{found:?}");
        assert!((found.basis.p().unwrap() - p).abs() < 1e-12 && (found.mean + 5.0 / 12.0).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn seeds_that_were_tested_on_other_images_say_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let runs = [
            tested("a_seed=1", "lr = 0.5", 1, "cccddd"),
            tested("a_seed=2", "lr = 0.5", 2, "dccddd"),
            tested("b", "lr = 0.25", 1, "dddddd"),
        ];
        let folders = write(folder.path(), &runs);
        keep(&folders[1], "dccddd", "best", "of other pictures");
        let comparison = compared(&folders, None).unwrap();
        assert_eq!(reason(&comparison.rows[1]), "b and a were tested on other images");
    }

    #[test]
    fn the_best_is_found_among_rows_whose_runs_have_like_names() {
        let folder = tempfile::tempdir().unwrap();
        let runs = [
            tested("digits", "lr = 0.5\n[data]\nclasses = \"1,2\"\n", 1, "dddccc"),
            tested("digits-2", "lr = 0.25", 1, "cccddd"),
            tested("digits-3", "lr = 0.25", 2, "cccddd"),
            tested("digits-4", "lr = 0.5", 1, "dddddd"),
        ];
        let comparison = compared(&write(folder.path(), &runs), None).unwrap();
        let Verdicts { title, rows, notes } = Verdicts::new(&comparison).unwrap();
        assert!(title.starts_with("test accuracy against the best, digits-2 and 1 more: 100.00 "), "{title}");
        assert_eq!((rows.len(), rows[0][0].as_str()), (1, "digits-4"));
        assert_eq!(notes.last().unwrap(), "1 more row is tested on other data: compare these by themselves");
    }

    #[test]
    fn what_cannot_be_told_apart_has_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let runs = [tested("best", "lr = 0.5", 1, "cccddd"), tested("near", "lr = 0.25", 1, "dccddd")];
        let folders = write(folder.path(), &runs);
        let missing = "near: the answers of its best weights are not kept; evaluate it again";
        let others = "near and best were tested on other images";
        let told = |expected: &str| {
            let comparison = compared(&folders, None).unwrap();
            assert_eq!(
                (reason(&comparison.rows[1]), comparison.rows[1].difference.as_ref().unwrap().within_noise),
                (expected, None)
            );
        };
        keep(&folders[1], "dccddd", "best", "of other pictures");
        told(others);
        keep(&folders[1], "dccddd", "last", "ab");
        told(missing);
        keep(&folders[1], "ddcddd", "best", "ab");
        told(missing);
        let predictions = folders[1].join("evaluation/test/predictions.csv");
        keep(&folders[1], "dccddd", "best", "ab");
        let text = fs::read_to_string(&predictions).unwrap();
        fs::write(&predictions, text.replace("5.png", "6.png")).unwrap();
        told(others);
        fs::remove_file(&predictions).unwrap();
        told(missing);
        for (folder, size) in folders.iter().zip([12, 13]) {
            let config = format!("[train]\nlr = 0.{size}\n[data]\nname = \"photos\"\nimage_size = {size}\n");
            fs::write(folder.join("config.toml"), config).unwrap();
        }
        keep(&folders[1], "dccddd", "best", "of other sizes");
        assert_eq!(compared(&folders, None).unwrap().rows[1].difference.as_ref().unwrap().basis.p(), Some(0.5));
    }

    #[test]
    fn rows_are_held_against_the_best_of_their_own_data_only() {
        let folder = tempfile::tempdir().unwrap();
        let photos = "lr = 0.5\n[data]\nname = \"photos\"\n";
        let some = "lr = 0.5\n[data]\nclasses = \"1,2\"\n";
        let runs = [
            tested("photos", photos, 1, "cccddd"),
            tested("some", some, 1, "cccddd"),
            tested("some_seed=2", some, 2, "cccdcd"),
            tested("a", "lr = 0.25", 1, "dccddd"),
            tested("b", "lr = 0.5", 1, "dddddd"),
            tested("b_seed=2", "lr = 0.5", 2, "dddddc"),
        ];
        let comparison = compared(&write(folder.path(), &runs), None).unwrap();
        assert_eq!(comparison.against.as_deref(), Some("a"));
        let held: Vec<&str> =
            comparison.rows.iter().filter(|row| row.difference.is_some()).map(|row| &*row.name).collect();
        assert_eq!(held, ["b"]);
        let Verdicts { title, mut notes, .. } = Verdicts::new(&comparison).unwrap();
        assert!(title.starts_with("test accuracy against the best, a: "), "{title}");
        let note = notes.pop().unwrap();
        assert_eq!(note, "2 more rows are tested on other data: compare these by themselves");
    }

    #[test]
    fn only_the_nearest_of_many_rows_are_tested() {
        let folder = tempfile::tempdir().unwrap();
        let config = |number: usize| format!("lr = 0.{number}");
        let configs: Vec<String> = (100..100 + ROWS_MAX + 3).map(config).collect();
        let answer = |at: usize| {
            if at == 0 {
                "cccddd"
            } else if at == 7 {
                "dddddd"
            } else {
                "dccddd"
            }
        };
        let names: Vec<String> = (0..configs.len()).map(|at| format!("run-{at}")).collect();
        let runs: Vec<Tested> = (0..configs.len()).map(|at| tested(&names[at], &configs[at], 1, answer(at))).collect();
        let comparison = compared(&write(folder.path(), &runs), None).unwrap();
        let held = |row: &&Row| row.difference.is_some();
        assert_eq!(comparison.rows.iter().filter(held).count(), ROWS_MAX);
        assert!(comparison.rows[7].difference.is_none(), "it is the farthest");
    }

    #[test]
    fn a_row_that_is_not_there_or_not_tested_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let runs =
            [tested("best", "lr = 0.5", 1, "cccddd"), Tested { answers: None, ..tested("other", "lr = 0.25", 1, "") }];
        let folders = write(folder.path(), &runs);
        let refused = |name| compared(&folders, Some(name)).unwrap_err();
        assert_eq!(refused("bset").to_string(), "there is no run `bset` in the comparison (--against)");
        assert_eq!(refused("bset").hint().unwrap(), "did you mean `best`?");
        assert_eq!(refused("elephant").hint().unwrap(), "name one of the runs that are compared");
        assert_eq!(refused("other").to_string(), "the test accuracy of other is not known (--against)");
        assert_eq!(compared(&folders, None).unwrap().against, None, "there is nothing to hold against the best");
    }
}
