//! Finds the rows whose accuracy differs by more than noise from that of the best row on the same data, or of a named row.
//!
//! Rows with several seeds are compared by the variation between seeds; two single runs by their predictions for the
//! same images, which `evaluate` has saved. Predictions are read for few rows, so a thousand runs take less than a
//! second.

use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;

use serde::Serialize;
use thiserror::Error;

use super::noise::{LEVEL, holm, mcnemar, pairs};
use super::outcomes::{Outcomes, Pairs};
use super::{Comparison, Difference, Measure, Row};
use crate::advice::{Argument, Command, Explain, Note, Place, Suggestion, Verb};
use crate::evaluate::Report;
use crate::spelling;

/// Most rows that are held against another, those of the nearest accuracies.
const ROWS_MAX: usize = 24;

/// A row's accuracy against that of another row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RowDifference {
    /// Its own less the other, a fraction of 1.
    pub mean: f64,
    /// Whether noise may explain it; absent where that is unknown.
    pub within_noise: Option<bool>,
    /// The p value of the test, adjusted for the number of comparisons (Holm).
    pub p_adjusted: Option<f64>,
    /// The test.
    #[serde(flatten)]
    pub basis: Basis,
}

/// The test of whether a difference is more than noise; `p` is how often noise alone makes one at least as large.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Basis {
    /// The answers of both runs to the same images.
    SameImages {
        /// The p-value.
        p: f64,
        /// Number of images.
        images: u64,
        /// Images that only this run gets right.
        only_own_right: u64,
        /// Images that only the other run gets right.
        only_other_right: u64,
    },
    /// Several seeds of a setting; with the difference's 95 % interval.
    Seeds {
        /// The p-value.
        p: f64,
        /// The 95 % interval of the difference.
        interval: [f64; 2],
    },
    /// Nothing.
    Unknown {
        /// Why it is unknown.
        reason: Note,
    },
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

/// Why rows cannot be compared with a row.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum AgainstError {
    /// There is no such row.
    #[error("the comparison has no run `{name}`")]
    Absent { name: String, known: Vec<String> },
    /// Its accuracy was not measured.
    #[error("the {by} of {name} was not measured")]
    NotEvaluated { name: String, by: Measure, has_validation: bool },
}

impl Explain for AgainstError {
    fn place(&self) -> Option<Place> {
        Some(Place::Argument(Argument::Against))
    }

    fn suggestion(&self) -> Option<Suggestion> {
        let evaluate = |run: &String| Command::new(Verb::Evaluate).operand(run.as_str());
        let measure = Suggestion::new().text("measure it with");
        Some(match self {
            AgainstError::Absent { name, known } => match spelling::nearest(name, known.iter().map(String::as_str)) {
                Some(nearest) => Suggestion::new().text(format!("did you mean `{nearest}`?")),
                None => Suggestion::new().text("name one of the runs that are compared"),
            },
            AgainstError::NotEvaluated { name, by: Measure::Test, .. } => measure.run(evaluate(name)),
            AgainstError::NotEvaluated { has_validation: false, .. } => {
                let no_split = Suggestion::new().text("this run has no validation split: compare test accuracies with");
                no_split.with(Argument::By, "test")
            }
            AgainstError::NotEvaluated { name, by: Measure::Validation, .. } => {
                let measure = measure.run(evaluate(name).with(Argument::Split, "val"));
                measure.or().text("compare test accuracies with").with(Argument::By, "test")
            }
        })
    }
}

/// The row that others are held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against<'a> {
    /// The best of each group by the accuracy that decides.
    Best,
    /// In its group the row of this run's name or folder, which was chosen as the best by the same accuracies.
    Chosen(&'a str),
    /// In its group the row of this name, or of a run of this name or folder, whatever it reaches.
    Named(&'a str),
}

impl Comparison {
    /// Compares the accuracies of each group with that of one of its rows.
    ///
    /// # Errors
    /// When no row is called so, or its accuracy is not known.
    pub fn hold_against(&mut self, against: Against) -> Result<(), AgainstError> {
        let by = self.ranked_by;
        let named = match against {
            Against::Best => None,
            Against::Chosen(name) | Against::Named(name) => Some(self.named(name)?),
        };
        if let Some(Row { name, has_validation, .. }) =
            named.map(|at| &self.rows[at]).filter(|row| by.of(row).is_none())
        {
            return Err(AgainstError::NotEvaluated { name: name.clone(), by, has_validation: *has_validation });
        }
        for group in 0..self.groups.len() {
            let is_named = matches!(against, Against::Named(_));
            let own = named.filter(|&at| self.rows[at].data == self.groups[group].data);
            self.hold_group(group, own, own.is_some() && is_named);
        }
        Ok(())
    }

    /// Compares a group with a row, or with its best one; `is_named` if that row was not chosen as the best.
    fn hold_group(&mut self, group: usize, own: Option<usize>, is_named: bool) {
        let by = self.ranked_by;
        let data = &self.groups[group].data;
        let rows = self.rows.iter().enumerate().filter(|(_, row)| row.data == *data);
        let known: Vec<(usize, f64)> = rows.filter_map(|(at, row)| Some((at, by.of(row)?.mean))).collect();
        // Of equal ones the first.
        let best = known.iter().rev().max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(at, _)| *at);
        let Some(reference) = own.or(best) else { return };
        let best = known.iter().find(|(at, _)| *at == reference).map_or(0.0, |(_, mean)| *mean);
        let others = known.iter().filter(|(at, _)| *at != reference);
        let mut others: Vec<(usize, f64)> = others.map(|(at, mean)| (*at, mean - best)).collect();
        if others.is_empty() {
            return;
        }
        others.sort_by(|(_, a), (_, b)| a.abs().total_cmp(&b.abs()));
        let best_of = (!is_named).then_some(others.len() + 1);
        let comparisons = best_of.map_or(others.len(), pairs);
        others.truncate(ROWS_MAX);
        let answers = LazyCell::new(|| outcomes(&self.rows[reference], by));
        let bases: Vec<Basis> =
            others.iter().map(|(at, _)| basis(&self.rows[reference], &self.rows[*at], by, &answers)).collect();
        drop(answers);
        let adjusted = holm(&bases.iter().map(Basis::p).collect::<Vec<_>>(), comparisons);
        for (((at, mean), basis), p_adjusted) in others.into_iter().zip(bases).zip(adjusted) {
            let within_noise = p_adjusted.map(|p| p >= LEVEL);
            self.rows[at].difference = Some(RowDifference { mean, within_noise, p_adjusted, basis });
        }
        let against = Some(self.rows[reference].name.clone());
        let group = &mut self.groups[group];
        (group.against, group.best_of, group.comparisons) = (against, best_of, Some(comparisons));
    }

    /// The row of a name, or of a run of this name or folder.
    fn named(&self, name: &str) -> Result<usize, AgainstError> {
        let is_meant = |folder: &Path| folder == Path::new(name) || folder.file_name() == Some(OsStr::new(name));
        let by_name = self.rows.iter().position(|row| row.name == name);
        let by_run = || self.rows.iter().position(|row| row.folders.iter().any(|folder| is_meant(folder)));
        by_name.or_else(by_run).ok_or_else(|| AgainstError::Absent {
            name: name.to_string(),
            known: self.rows.iter().map(|row| row.name.clone()).collect(),
        })
    }
}

/// The answers of a row that is one run.
fn outcomes(row: &Row, by: Measure) -> Result<Outcomes, Note> {
    match (&row.folders[..], row.weights, by.of(row)) {
        ([folder], Some(weights), Some(accuracy)) => {
            let named = |note: Note| Note { what: format!("{}: {}", row.name, note.what), ..note };
            Outcomes::read(folder, by, weights, accuracy.mean).map_err(named)
        }
        (folders, ..) => Err(Note::new(format!("{}: 1 of {} runs has a {by}; evaluate more", row.name, folders.len()))),
    }
}

/// Chooses the test for a row's difference from another.
fn basis(
    reference: &Row,
    row: &Row,
    by: Measure,
    answers: &LazyCell<Result<Outcomes, Note>, impl FnOnce() -> Result<Outcomes, Note>>,
) -> Basis {
    let (Some(other), Some(own)) = (by.of(reference), by.of(row)) else {
        return Basis::Unknown { reason: Note::new(format!("a {by} is not known")) };
    };
    let on_others = || Note::new(format!("{} and {} were measured on other images", row.name, reference.name));
    // Images resized to another size have another checksum; with equal sizes, the images themselves differ.
    let is_comparable = prepared(row) == prepared(reference);
    if let Some(seeds) = Difference::of(&other, &own).seeds {
        let images: BTreeSet<String> = [reference, row].into_iter().flat_map(|row| fingerprints(row, by)).collect();
        if is_comparable && images.len() > 1 {
            return Basis::Unknown { reason: on_others() };
        }
        return Basis::Seeds { p: seeds.p, interval: seeds.interval };
    }
    let pairs = || -> Result<Pairs, Note> {
        let (own, other) = (outcomes(row, by)?, answers.as_ref().map_err(Note::clone)?);
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

/// The SHA-256 of the images on which a row's runs were measured, of those whose answers are kept.
fn fingerprints(row: &Row, by: Measure) -> Vec<String> {
    let kept = row.folders.iter().flat_map(|folder| Report::kept(folder, by.split()));
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
        let (runs, left_out) = read(folders, Measure::Test);
        assert_eq!(left_out, []);
        let mut comparison = Comparison::new(runs, left_out, true, Measure::Test);
        comparison.hold_against(against.map_or(Against::Best, Against::Named)).map(|()| comparison)
    }

    fn verdicts(comparison: &Comparison) -> Verdicts {
        Verdicts::new(comparison, &comparison.groups[0]).unwrap()
    }

    fn reason(row: &Row) -> &str {
        match &row.difference.as_ref().unwrap().basis {
            Basis::Unknown { reason } => &reason.what,
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
        assert_eq!(comparison.groups[0].against.as_deref(), Some("best"));
        let [low, best, near, unknown] = &comparison.rows[..] else { panic!("four rows") };
        assert_eq!((&best.difference, &unknown.difference), (&None, &None));
        let difference = low.difference.as_ref().unwrap();
        // None of five throws of a coin is heads: 2 * 0 + 1/32.
        let basis = Basis::SameImages { p: 0.03125, images: 6, only_own_right: 0, only_other_right: 5 };
        // The best of three is in one of three pairs with each other: by Holm 3 * 0.03125, then 2 * 0.25.
        let of = |comparison: &Comparison| (comparison.groups[0].best_of, comparison.groups[0].comparisons);
        assert_eq!(of(&comparison), (Some(3), Some(3)));
        assert_eq!((difference.p_adjusted, difference.within_noise), (Some(0.09375), Some(true)));
        assert_eq!(difference.basis, basis);
        assert!((difference.mean + 5.0 / 6.0).abs() < 1e-12);
        let difference = near.difference.as_ref().unwrap();
        assert_eq!((difference.p_adjusted, difference.basis.p()), (Some(0.5), Some(0.25)));
        let two = compared(&folders[..2], None).unwrap();
        let alone = two.rows[0].difference.as_ref().unwrap();
        assert_eq!((alone.p_adjusted, alone.within_noise, of(&two).1), (Some(0.03125), Some(false), Some(1)));

        // One that was named is held against each other row, two here.
        let named = compared(&folders, Some("near")).unwrap();
        assert_eq!(of(&named), (None, Some(2)));
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
        assert_eq!(reason(&comparison.rows[1]), "b and a were measured on other images");
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
        let Verdicts { title, rows, .. } = verdicts(&comparison);
        assert!(title.starts_with("test accuracy against the best, digits-2 and 1 more: 100.00 "), "{title}");
        assert_eq!((rows.len(), rows[1][0].as_str()), (2, "digits-4"));
    }

    #[test]
    fn what_cannot_be_told_apart_has_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let runs = [tested("best", "lr = 0.5", 1, "cccddd"), tested("near", "lr = 0.25", 1, "dccddd")];
        let folders = write(folder.path(), &runs);
        let missing = "near: the predictions of its best weights are not saved";
        let others = "near and best were measured on other images";
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
        let notes = verdicts(&compared(&folders, None).unwrap()).notes;
        let expected = format!("save them with evaluate {} split = \"test\"", folders[1].display());
        assert_eq!(notes[0].suggestion.as_ref().unwrap().to_string(), expected);
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
        let folders = write(folder.path(), &runs);
        let held = |against: Option<&str>| {
            let comparison = compared(&folders, against).unwrap();
            let held = comparison.rows.iter().filter(|row| row.difference.is_some());
            let held: Vec<String> = held.map(|row| row.name.clone()).collect();
            let groups = comparison.groups.into_iter().map(|group| (group.data, group.against, group.best_of));
            (held, groups.collect::<Vec<_>>())
        };
        let best = |against: &str| Some(against.to_string());
        let [digits, photos, some] = ["digits, all classes", "photos", "digits, classes [1, 2]"].map(str::to_string);
        let alone = [(photos, None, None), (some, None, None)];
        let groups = |first| [vec![first], alone.to_vec()].concat();
        assert_eq!(held(None), (vec!["b".to_string()], groups((digits.clone(), best("a"), Some(2)))));
        // The one that is named is compared with its own group only.
        assert_eq!(held(Some("b")), (vec!["a".to_string()], groups((digits.clone(), best("b"), None))));
        assert_eq!(held(Some("photos")), (vec!["b".to_string()], groups((digits, best("a"), Some(2)))));
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
        assert_eq!(refused("bset").to_string(), "the comparison has no run `bset`");
        assert_eq!(refused("bset").hint().unwrap(), "did you mean `best`?");
        assert_eq!(refused("elephant").hint().unwrap(), "name one of the runs that are compared");
        assert_eq!(refused("other").to_string(), "the test accuracy of other was not measured");
        assert_eq!(
            compared(&folders, None).unwrap().groups[0].against,
            None,
            "there is nothing to hold against the best"
        );
    }
}
