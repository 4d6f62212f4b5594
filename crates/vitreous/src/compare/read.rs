//! From folders to the facts of their runs; what cannot be compared is left out with its reason.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Measure;
use crate::config::difference::{FlatConfig, SEED, flat_config};
use crate::data::SplitName;
use crate::data_sets;
use crate::evaluate::Accuracy;
use crate::record::{InsteadOfRun, Manifest, PLOTS, RecordError, Results, Run, Status, Weights, is_run};

/// A run that can be compared.
#[derive(Clone, Debug, PartialEq)]
pub struct RunFacts {
    /// Its folder.
    pub folder: PathBuf,
    /// The folder's name.
    pub name: String,
    /// The network in a few words.
    pub model: Option<String>,
    /// All settings but the seed, defaults filled in.
    pub settings: FlatConfig,
    /// Seed of everything random.
    pub seed: u64,
    /// SHA-256 of its images.
    pub fingerprint: String,
    /// Number of trained values.
    pub parameters: usize,
    /// Floating-point operations of the forward pass of one image.
    pub flops_forward: Option<u64>,
    /// Wall-clock time of the training.
    pub seconds: f64,
    /// Whose accuracies these are: those whose accuracy on the split that ranks is known, of several the best.
    pub weights: Option<Weights>,
    /// Accuracy on the images it learned from.
    pub train: Option<TrainAccuracy>,
    /// Accuracy on the validation split; absent where it is known of other weights only.
    pub validation: Option<Accuracy>,
    /// Accuracy on the test split, where `evaluate` was run.
    pub test: Option<Accuracy>,
    /// Whether it has a validation split.
    pub has_validation: bool,
    /// Of a reader, the width of the beam by which it was tested.
    pub beam: Option<u64>,
}

/// A run's accuracy on its training images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TrainAccuracy {
    /// By `evaluate --split train`: every image once, nothing changed at random.
    Measured(f64),
    /// The mean over the steps of the last epoch, while it was learning.
    Running(f64),
}

impl TrainAccuracy {
    /// The accuracy, however it was measured.
    pub fn value(self) -> f64 {
        match self {
            TrainAccuracy::Measured(accuracy) | TrainAccuracy::Running(accuracy) => accuracy,
        }
    }
}

/// A folder that is not compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LeftOut {
    /// The folder.
    #[serde(serialize_with = "crate::text::lossy")]
    pub folder: PathBuf,
    /// Why.
    pub reason: String,
}

/// Expands folders of runs: a folder that is not a run but contains runs is replaced by all folders in it. A sweep's
/// analysis and its plots, which are next to its runs (`runs/sweep/*`), are left out.
pub fn folders(given: &[PathBuf]) -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    let is_analysis = |path: &Path| path.ends_with("analysis.md") && path.is_file();
    let is_next_to_runs = |path: &Path| given.len() > 1 && (is_analysis(path) || has_plots_only(path));
    let all = given.iter().filter(|path| !is_next_to_runs(path)).flat_map(|folder| match runs_inside(folder) {
        Some(inside) => inside,
        None => vec![folder.clone()],
    });
    all.filter(|folder| seen.insert(folder.components().collect::<PathBuf>())).collect()
}

/// Reads the runs in some folders, and of each the accuracies of the weights that `by` is known of.
pub fn read(folders: &[PathBuf], by: Measure) -> (Vec<RunFacts>, Vec<LeftOut>) {
    let (mut runs, mut left_out) = (Vec::new(), Vec::new());
    for folder in folders {
        match facts(folder, by) {
            Ok(facts) => runs.push(facts),
            Err(reason) => left_out.push(LeftOut { folder: folder.clone(), reason }),
        }
    }
    (runs, left_out)
}

/// The folders in a folder of runs, sorted; absent where it is a run itself, or has none in it.
fn runs_inside(folder: &Path) -> Option<Vec<PathBuf>> {
    if is_run(folder) {
        return None;
    }
    let entries = fs::read_dir(folder).ok()?.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let visible = |path: &PathBuf| path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."));
    let is_candidate = |path: &PathBuf| path.is_dir() && visible(path) && !has_plots_only(path);
    let mut inside: Vec<PathBuf> = entries.filter(is_candidate).collect();
    inside.sort();
    inside.iter().any(|path| is_run(path)).then_some(inside)
}

/// Whether it is a sweep's folder with plots.
fn has_plots_only(folder: &Path) -> bool {
    folder.ends_with(PLOTS) && !is_run(folder)
}

fn facts(folder: &Path, by: Measure) -> Result<RunFacts, String> {
    let run = Run::open(folder).map_err(|error| reason(folder, &error))?;
    let manifest = run.manifest();
    let results = finished(manifest)?;
    let text = run.config().map_err(|_| "config.toml cannot be read".to_string())?;
    let mut settings = flat_config(&text, "config.toml").map_err(|error| {
        format!("its config is not one of this version: {error}; version {} wrote it", manifest.version)
    })?;
    settings.remove(SEED);
    if let Some(toml::Value::String(name)) = settings.get_mut("data.name") {
        *name = data_name(name);
    }
    let tested = manifest.evaluation(SplitName::Test).map(|found| found.weights);
    let validated = validated(manifest, results);
    let weights = match by {
        Measure::Validation => validated.or(tested),
        Measure::Test => tested.or(validated),
    };
    let of_these = |split| weights.and_then(|weights| manifest.evaluation_of(split, weights));
    let measured = match weights {
        Some(_) => of_these(SplitName::Train),
        None => manifest.evaluation(SplitName::Train),
    };
    let measured = measured.map(|found| TrainAccuracy::Measured(found.top1));
    let validation = match weights {
        Some(Weights::Best) => results.best_val_acc,
        Some(Weights::Last) => results.val_acc,
        None => None,
    };
    let validation = validation.map(|value| Accuracy { value, images: manifest.data.validation as u64 });
    let test = of_these(SplitName::Test);
    Ok(RunFacts {
        folder: folder.to_path_buf(),
        name: run.name(),
        model: manifest.model.clone(),
        settings,
        seed: manifest.seed,
        fingerprint: manifest.data.fingerprint.clone(),
        parameters: manifest.parameters,
        flops_forward: manifest.flops.map(|flops| flops.forward),
        seconds: results.seconds,
        weights,
        train: measured.or_else(|| results.train_acc.map(TrainAccuracy::Running)),
        validation: validation.or_else(|| of_these(SplitName::Validation).map(Accuracy::from)),
        test: test.map(Accuracy::from),
        has_validation: manifest.data.validation > 0,
        beam: test.and_then(|test| test.beam),
    })
}

/// The name of a data set, or of a folder in its shortest form: `photos` for `./photos/`.
fn data_name(name: &str) -> String {
    let plain = Path::new(name).components().collect::<PathBuf>().display().to_string();
    match plain.strip_prefix("./").filter(|inside| data_sets::data_set(inside).is_none()) {
        Some(inside) => inside.to_string(),
        None => plain,
    }
}

/// The weights whose validation accuracy is known: the best where training chose them by it, else those that `evaluate`
/// looked at, as it does at the ones that are kept for their training loss, else the last, by training.
fn validated(manifest: &Manifest, results: &Results) -> Option<Weights> {
    let best = results.best_val_acc.map(|_| Weights::Best);
    let evaluated = || manifest.evaluation(SplitName::Validation).map(|found| found.weights);
    best.or_else(evaluated).or(results.val_acc.map(|_| Weights::Last))
}

/// The results of a run that has ended.
fn finished(manifest: &Manifest) -> Result<&Results, String> {
    let after =
        || manifest.results.as_ref().map_or_else(String::new, |results| format!(" after step {}", results.steps));
    if manifest.status.is_finished() {
        return manifest.results.as_ref().ok_or_else(|| "its manifest has no results".to_string());
    }
    Err(match manifest.status {
        Status::Running => "it has not ended: it is still running, or was killed".to_string(),
        Status::Interrupted => format!("it was interrupted{}", after()),
        Status::MaxTime => format!("it reached its time limit{}", after()),
        _ => format!("it stopped with an error{}", after()),
    })
}

/// The reason without the folder, which is printed before it.
fn reason(folder: &Path, error: &RecordError) -> String {
    match error {
        RecordError::NoRun { found: InsteadOfRun::Runs, .. } => {
            format!("this is a folder of runs: name it alone to compare them ({})", folder.display())
        }
        RecordError::NoRun { found, .. } => found.to_string(),
        RecordError::Manifest { reason, .. } => format!("its manifest is damaged: {reason}"),
        RecordError::Later { version, format, .. } => {
            format!("it was made by a later version, {version}: its manifest has format {format}")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{manifest, write_run};
    use super::*;

    #[test]
    fn what_cannot_be_compared_is_left_out_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        write_run(&at("good"), "", |_| ());
        write_run(&at("killed"), "", |manifest| manifest["status"] = "running".into());
        write_run(&at("stopped"), "", |manifest| manifest["status"] = "interrupted".into());
        write_run(&at("failed"), "", |manifest| manifest["status"] = "failed".into());
        write_run(&at("empty"), "", |manifest| manifest["results"] = serde_json::Value::Null);
        write_run(&at("later"), "", |manifest| manifest["format"] = 2.into());
        write_run(&at("other"), "[model]\nembed_dims = 3\n", |manifest| manifest["version"] = "0.0.9".into());
        write_run(&at("broken"), "", |_| ());
        fs::write(at("broken").join("manifest.json"), "{").unwrap();
        write_run(&at("lying"), "", |manifest| manifest["results"]["best_val_acc"] = 5.6.into());
        write_run(&at("bare"), "", |_| ());
        fs::remove_file(at("bare").join("config.toml")).unwrap();
        fs::create_dir(at("none")).unwrap();
        fs::write(at("file"), "").unwrap();
        write_run(&at("sweep/one"), "", |_| ());
        let names = [
            "good", "killed", "stopped", "failed", "empty", "later", "other", "lying", "broken", "bare", "none",
            "file", "gone", "sweep",
        ];
        let (runs, left_out) = read(&names.map(at), Measure::Test);
        assert_eq!(runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>(), ["good"]);
        let reasons: Vec<&str> = left_out.iter().map(|left| left.reason.as_str()).collect();
        let expected = [
            "it has not ended: it is still running, or was killed",
            "it was interrupted after step 17",
            "it stopped with an error after step 17",
            "its manifest has no results",
            "it was made by a later version, 1.2.3: its manifest has format 2",
            "its config is not one of this version: unknown key `embed_dims` (config.toml, [model]); version 0.0.9 wrote it",
            "its manifest is damaged: best_val_acc 5.6 is not between 0 and 1",
        ];
        assert_eq!(reasons[..7], expected);
        assert!(reasons[7].starts_with("its manifest is damaged: EOF while parsing"), "{}", reasons[7]);
        assert_eq!(
            reasons[8..12],
            [
                "config.toml cannot be read",
                "not a run folder: manifest.json is missing",
                "this is a file, not a run folder",
                "no such folder"
            ]
        );
        assert!(reasons[12].starts_with("this is a folder of runs"), "{}", reasons[12]);
    }

    #[test]
    fn a_folder_of_runs_stands_for_them_and_none_is_taken_twice() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        ["b", "a", ".hidden"].iter().for_each(|name| write_run(&at(name), "", |_| ()));
        ["notes", "plots"].iter().for_each(|name| fs::create_dir(at(name)).unwrap());
        assert_eq!(folders(&[folder.path().to_path_buf(), at("a")]), ["a", "b", "notes"].map(at));
        assert_eq!(folders(&[at("notes")]), [at("notes")]);
        assert_eq!(folders(&[at("a"), at("plots")]), [at("a")]);
        fs::write(at("analysis.md"), "").unwrap();
        assert_eq!(folders(&[at("a"), at("analysis.md")]), [at("a")]);
        assert_eq!(folders(&[at("analysis.md")]), [at("analysis.md")]);
    }

    #[test]
    fn measured_accuracies_go_before_running_ones() {
        let folder = tempfile::tempdir().unwrap();
        let facts_of = |change: &dyn Fn(&mut serde_json::Value)| {
            let at = folder.path().join("run");
            write_run(&at, "[train]\nseed = 5\n", |manifest| change(manifest));
            facts(&at, Measure::Test).unwrap()
        };
        let plain = facts_of(&|_| ());
        assert_eq!(plain.train, Some(TrainAccuracy::Running(0.25)));
        assert_eq!((plain.validation, plain.test), (Some(Accuracy { value: 0.75, images: 5 }), None));
        assert!(!plain.settings.contains_key(SEED) && plain.settings.contains_key("train.lr"));
        let found = |split: &str, data: &str, top1: f64| serde_json::json!({"split": split, "weights": "best", "data": data, "images": 7, "loss": null, "top1": top1, "top5": 1.0});
        let evaluations = serde_json::json!([
            found("train", "photos", 0.5),
            found("test", "photos", 0.125),
            found("test", "others", 1.0)
        ]);
        let evaluated = facts_of(&|manifest| manifest["evaluations"] = evaluations.clone());
        assert_eq!(evaluated.train, Some(TrainAccuracy::Measured(0.5)));
        assert_eq!(evaluated.test, Some(Accuracy { value: 0.125, images: 7 }));
    }

    /// The facts of a run with this validation accuracy of its best weights, and with what `evaluate` found: split, weights
    /// and accuracy.
    fn evaluated(best: Option<f64>, evaluations: &[(&str, &str, f64)], by: Measure) -> RunFacts {
        let folder = tempfile::tempdir().unwrap();
        write_run(folder.path(), "", |manifest| {
            manifest["results"]["best_val_acc"] = best.into();
            let found = evaluations.iter().map(|(split, weights, top1)| {
                serde_json::json!({"split": split, "weights": weights, "data": "photos", "images": 8, "loss": 0.5,
                    "top1": top1})
            });
            manifest["evaluations"] = found.collect();
        });
        facts(folder.path(), by).unwrap()
    }

    #[test]
    fn accuracies_of_a_run_are_all_of_the_same_weights() {
        let facts_of = |best: Option<f64>, evaluations: &[(&str, &str, f64)]| {
            let facts = evaluated(best, evaluations, Measure::Test);
            let train = facts.train.map(TrainAccuracy::value);
            (facts.weights, train, facts.validation.map(|found| found.value))
        };
        let (best, last) = (Some(Weights::Best), Some(Weights::Last));
        // Training measured 0.25 while learning, and 0.5 on the validation split at its end.
        assert_eq!(facts_of(Some(0.75), &[]), (best, Some(0.25), Some(0.75)));
        assert_eq!(facts_of(None, &[]), (last, Some(0.25), Some(0.5)));
        let of_last = [("test", "last", 0.375), ("train", "last", 0.625), ("train", "best", 0.875)];
        assert_eq!(facts_of(Some(0.75), &of_last), (last, Some(0.625), Some(0.5)));
        // The lowest training loss chose the best weights: their validation accuracy is what `evaluate` finds.
        let of_best = [("test", "best", 0.375), ("train", "last", 0.625)];
        assert_eq!(facts_of(None, &of_best), (best, Some(0.25), None));
        let without_test = [("validation", "best", 0.125)];
        assert_eq!(facts_of(None, &without_test), (best, Some(0.25), Some(0.125)));
        assert_eq!(facts_of(Some(0.75), &[("validation", "last", 0.5)]), (best, Some(0.25), Some(0.75)));
        let also = [of_best[0], ("validation", "best", 0.125), ("validation", "last", 0.5)];
        assert_eq!(facts_of(None, &also), (best, Some(0.25), Some(0.125)));
    }

    #[test]
    fn what_is_ranked_by_validation_shows_the_weights_that_were_validated() {
        let facts_of = |best: Option<f64>, evaluations: &[(&str, &str, f64)]| {
            let facts = evaluated(best, evaluations, Measure::Validation);
            (facts.weights, facts.validation.map(|found| found.value), facts.test.map(|found| found.value))
        };
        let (best, last) = (Some(Weights::Best), Some(Weights::Last));
        // A look at the test split with the last weights does not change what a run is ranked by.
        let of_last = ("test", "last", 0.375);
        assert_eq!(facts_of(Some(0.75), &[of_last]), (best, Some(0.75), None));
        assert_eq!(facts_of(Some(0.75), &[of_last, ("test", "best", 0.25)]), (best, Some(0.75), Some(0.25)));
        assert_eq!(facts_of(None, &[of_last]), (last, Some(0.5), Some(0.375)));
        // Of the weights that were kept for their training loss, `evaluate` measured the validation accuracy.
        let both = [("validation", "best", 0.125), ("test", "best", 0.25)];
        assert_eq!(facts_of(None, &both), (best, Some(0.125), Some(0.25)));
    }

    #[test]
    fn what_was_found_of_weights_that_have_changed_since_is_not_theirs() {
        let folder = tempfile::tempdir().unwrap();
        let test_of = |weights: &str, step: Option<u64>| {
            let at = folder.path().join("run");
            write_run(&at, "", |manifest| {
                manifest["results"]["best_step"] = 9.into();
                manifest["evaluations"] = serde_json::json!([{"split": "test", "weights": weights, "step": step,
                    "data": "photos", "images": 8, "loss": 0.5, "top1": 0.375}]);
            });
            facts(&at, Measure::Test).unwrap().test.map(|test| test.value)
        };
        let found = Some(0.375);
        assert_eq!([test_of("best", Some(9)), test_of("best", Some(8)), test_of("best", None)], [found, None, found]);
        assert_eq!([test_of("last", Some(17)), test_of("last", Some(9))], [found, None]);
    }

    #[test]
    fn the_manifest_of_a_version_that_recorded_less_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut old = manifest();
        for key in ["model", "flops", "evaluations"] {
            old.as_object_mut().unwrap().remove(key);
        }
        write_run(&folder.path().join("old"), "", |manifest| *manifest = old.clone());
        let facts = facts(&folder.path().join("old"), Measure::Test).unwrap();
        assert_eq!((facts.model, facts.flops_forward, facts.test), (None, None, None));
    }
}
