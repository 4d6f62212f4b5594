//! A run folder and its files.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::claim::{Claim, lock_changes};
use super::{Folder, InsteadOfRun, Manifest, NoWeights, RecordError, Results};
use crate::numbers::number;
use crate::{regular, spelling};

pub(super) const CONFIG: &str = "config.toml";
pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const WEIGHTS: &str = "weights";

/// The folder of a run's plots, and of those of a sweep.
pub const PLOTS: &str = "plots";

/// The folder of a run's jobs on a cluster: their scripts and logs. It may be there before the run.
pub const SLURM: &str = "slurm";

/// The folder of a run's checkpoints.
pub(crate) const STATE: &str = "state";

/// Largest manifest that is read, in bytes: it may name thousands of classes, and of images that cannot be decoded.
const MANIFEST_MAX: u64 = 64 << 20;

/// Which weights of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weights {
    /// Those that were kept as the best: by the validation split, or by the lowest training loss.
    Best,
    /// Those at the end.
    Last,
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Weights::Best => "best",
            Weights::Last => "last",
        })
    }
}

/// A run's folder.
#[derive(Clone, Debug)]
pub struct Run {
    folder: Folder,
    manifest: Manifest,
    /// That of this process, if it trains here.
    claim: Option<Arc<Claim>>,
}

/// The version in a manifest that is otherwise unreadable.
fn stated_version(text: &str) -> Option<(u32, String)> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let format = u32::try_from(value["format"].as_u64()?).ok()?;
    Some((format, value["version"].as_str().unwrap_or("unknown").to_string()))
}

impl Run {
    /// Opens the folder of a run.
    ///
    /// # Errors
    /// When it is none, or its manifest cannot be read.
    pub fn open(folder: &Path) -> Result<Run, RecordError> {
        if !is_run(folder) {
            return Err(RecordError::NoRun { path: folder.to_path_buf(), found: InsteadOfRun::at(folder) });
        }
        let folder = Folder::open(folder).map_err(|error| RecordError::read(folder, &error))?;
        Ok(Run { manifest: read_manifest(&folder)?, folder, claim: None })
    }

    /// Opens the folder of a run and claims it for this process, which alone may then train there.
    ///
    /// # Errors
    /// As [`Run::open`], and when another process has claimed it or the folder cannot be written.
    pub fn open_to_train(folder: &Path) -> Result<Run, RecordError> {
        let mut run = Run::open(folder)?;
        run.claim = Some(Arc::new(Claim::on(&run.folder)?));
        // Another run may have taken the place of the one that was opened.
        run.check()?;
        // Again, now that no other process changes it.
        run.manifest = read_manifest(&run.folder)?;
        Ok(run)
    }

    /// The path of the folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder itself, through which all files of the run are written.
    pub fn files(&self) -> &Folder {
        &self.folder
    }

    /// Checks that the folder is where it was, and, if this process has claimed it, that the claim is still its own.
    ///
    /// # Errors
    /// When the folder was moved or deleted, or the claim lost.
    pub fn check(&self) -> Result<(), RecordError> {
        self.claim.as_ref().map_or_else(|| self.folder.check(), |claim| claim.check())
    }

    /// The run's name: that of the folder.
    pub fn name(&self) -> String {
        self.folder().file_name().map_or_else(|| ".".to_string(), |name| name.to_string_lossy().into_owned())
    }

    /// The facts of the run.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Changes the manifest as it is on the disk: other programs may have changed it since it was read.
    ///
    /// # Errors
    /// When it cannot be read or written, or the folder was moved or deleted.
    pub fn update(&mut self, change: impl FnOnce(&mut Manifest)) -> Result<(), RecordError> {
        self.check()?;
        // Held until the end.
        let _locked = lock_changes(&self.folder)?;
        self.manifest = read_manifest(&self.folder)?;
        change(&mut self.manifest);
        self.save_manifest()
    }

    /// The file with the resolved config.
    pub fn config_path(&self) -> PathBuf {
        self.folder().join(CONFIG)
    }

    /// Reads the resolved config.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn config(&self) -> Result<String, RecordError> {
        let text = self.folder.read_text(CONFIG, regular::CONFIG_MAX);
        text.map_err(|error| RecordError::read(&self.config_path(), &error))
    }

    /// Where the weights of one kind are, or will be.
    pub fn weights_path(&self, weights: Weights) -> PathBuf {
        self.folder().join(Run::weights_file(weights))
    }

    /// The same within the folder.
    pub fn weights_file(weights: Weights) -> String {
        format!("{WEIGHTS}/{weights}.safetensors")
    }

    /// Replaces the config by one of the same run: more epochs, or data in another place.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn replace_config(&self, config_toml: &str) -> Result<(), RecordError> {
        self.check()?;
        self.folder.write(CONFIG, config_toml.as_bytes())
    }

    /// Finds weights to read: those asked for, else the best, or the last of a run that kept none as the best.
    ///
    /// # Errors
    /// When they are not there. Of a run that has lost its best weights, the last ones are read only on request.
    pub fn find_weights(&self, wanted: Option<Weights>) -> Result<(Weights, PathBuf), RecordError> {
        let candidates = wanted.map_or(vec![Weights::Best, Weights::Last], |weights| vec![weights]);
        let best = self.weights_path(Weights::Best);
        let kept_best = self.manifest.results.as_ref().is_some_and(Results::kept_best);
        if candidates.contains(&Weights::Best) && kept_best && !best.is_file() {
            return Err(RecordError::LostBest { path: best, has_last: self.weights_path(Weights::Last).is_file() });
        }
        let found = candidates.iter().map(|&weights| (weights, self.weights_path(weights)));
        found.into_iter().find(|(_, path)| path.is_file()).ok_or_else(|| RecordError::NoWeights {
            path: self.folder().to_path_buf(),
            file: Run::weights_file(candidates[candidates.len() - 1]),
            why: self.why_no_weights(),
        })
    }

    fn why_no_weights(&self) -> NoWeights {
        if self.weights_path(Weights::Last).is_file() {
            NoWeights::OnlyLast
        } else if self.claim.is_none() && Claim::is_taken(&self.folder) {
            NoWeights::InTraining
        } else if self.manifest.status.is_finished() {
            NoWeights::Lost
        } else {
            NoWeights::Early
        }
    }

    /// Fills a folder that is claimed with the config and the manifest of a run.
    pub(super) fn fill(
        folder: &Folder,
        claim: Claim,
        config_toml: &str,
        manifest: Manifest,
    ) -> Result<Run, RecordError> {
        let run = Run { folder: folder.clone(), manifest, claim: Some(Arc::new(claim)) };
        folder.make_new_folder(WEIGHTS).map_err(|error| folder.error(WEIGHTS, &error))?;
        folder.write(CONFIG, config_toml.as_bytes())?;
        run.save_manifest().map(|()| run)
    }

    fn save_manifest(&self) -> Result<(), RecordError> {
        let mut text = serde_json::to_string_pretty(&self.manifest).expect("a manifest is plain numbers and texts");
        text.push('\n');
        self.folder.write(MANIFEST, text.as_bytes())
    }
}

/// Whether a folder is that of a run.
pub fn is_run(folder: &Path) -> bool {
    folder.join(MANIFEST).is_file()
}

/// The run that a name or a path means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedRun {
    /// Its folder.
    pub folder: PathBuf,
    /// Another run of the same name, in the current folder.
    pub other: Option<PathBuf>,
}

/// Finds the run that a name or a path means: a name alone is that of a run in the folder `out`, else that of a folder here.
///
/// # Errors
/// When nothing has the name.
pub fn find_run(given: &Path, out: &Path) -> Result<NamedRun, RecordError> {
    let (named, here) = (out.join(given), given.to_path_buf());
    let alone = |folder: PathBuf| Ok(NamedRun { folder, other: None });
    // `./digits` and `digits/` are paths.
    if given.file_name() != Some(given.as_os_str()) {
        return alone(here);
    }
    match [is_run(&named), is_run(&here)] {
        [true, true] => return Ok(NamedRun { folder: named, other: Some(Path::new(".").join(here)) }),
        [true, false] => return alone(named),
        [false, true] => return alone(here),
        [false, false] if named.exists() => return alone(named),
        [false, false] if here.exists() => return alone(here),
        [false, false] => {}
    }
    let name = given.to_string_lossy().into_owned();
    let runs = fs::read_dir(out).into_iter().flatten().filter_map(Result::ok).filter(|entry| is_run(&entry.path()));
    let names: Vec<String> = runs.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let nearest = spelling::nearest(&name, names.iter().map(String::as_str)).map(str::to_string);
    Err(RecordError::UnknownRun { name, out: out.to_path_buf(), nearest })
}

fn read_manifest(folder: &Folder) -> Result<Manifest, RecordError> {
    let path = folder.path().join(MANIFEST);
    let text = folder.read_text(MANIFEST, MANIFEST_MAX).map_err(|error| RecordError::read(&path, &error))?;
    let damaged = |reason: String| RecordError::Manifest { path: path.clone(), reason };
    let manifest = serde_json::from_str::<Manifest>(&text).map_err(|error| damaged(error.to_string()));
    let stated = match &manifest {
        Ok(manifest) => Some((manifest.format, manifest.version.clone())),
        Err(_) => stated_version(&text),
    };
    if let Some((format, version)) = stated.filter(|(format, _)| *format > Manifest::FORMAT) {
        return Err(RecordError::Later { path, version, format });
    }
    let manifest = manifest?;
    match manifest.impossible_accuracy() {
        Some((key, value)) => Err(damaged(format!("{key} {} is not between 0 and 1", number(value)))),
        None => Ok(manifest),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use crate::advice::Explain;
    use std::fs;

    use super::*;
    use crate::data::Normalization;
    use crate::data::SplitName;
    use crate::record::{DataRecord, EvaluationRecord, MachineRecord, Place, Status};

    pub fn manifest() -> Manifest {
        Manifest {
            format: Manifest::FORMAT,
            version: "1.2.3".to_string(),
            command: vec!["vitreous".to_string(), "train".to_string()],
            preset: None,
            status: Status::Running,
            started: "2025-03-09T17:04:05Z".to_string(),
            finished: None,
            seed: 7,
            model: None,
            parameters: 11,
            flops: None,
            steps_per_epoch: None,
            data: DataRecord {
                name: "photos".to_string(),
                fingerprint: "ab".to_string(),
                class_names: vec!["cat".to_string(), "dog".to_string()],
                train: 13,
                validation: 5,
                test: None,
                normalization: Normalization { mean: vec![0.1], std: vec![0.7] },
                skipped: Vec::new(),
                content: None,
                forced: None,
                pixels: None,
            },
            machine: MachineRecord {
                os: "linux".to_string(),
                arch: "x86_64".to_string(),
                instruction_set: "avx2".to_string(),
                threads: 2,
                processors: 3,
            },
            initial: None,
            resumed: Vec::new(),
            results: None,
            test_evaluations: 0,
            evaluations: Vec::new(),
        }
    }

    pub fn create(out: &Path, name: Option<&str>) -> Result<Run, RecordError> {
        Place::choose(out, name, "some/digits")?.create("[model]\n", manifest())
    }

    #[test]
    fn what_is_opened_is_what_was_made() {
        let folder = tempfile::tempdir().unwrap();
        let mut run = create(folder.path(), None).unwrap();
        run.update(|manifest| manifest.test_evaluations += 1).unwrap();
        let again = Run::open(run.folder()).unwrap();
        assert_eq!(*again.manifest(), Manifest { test_evaluations: 1, ..manifest() });
        assert_eq!(fs::read_to_string(again.config_path()).unwrap(), "[model]\n");
    }

    #[test]
    fn what_several_write_into_a_manifest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let mut training = create(folder.path(), None).unwrap();
        let path = training.folder().to_path_buf();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut looking = Run::open(&path).unwrap();
                    (0..25).for_each(|_| looking.update(|manifest| manifest.test_evaluations += 1).unwrap());
                });
            }
        });
        training.update(|manifest| manifest.status = Status::Finished).unwrap();
        assert_eq!(training.manifest().test_evaluations, 100);
        let again = Run::open(&path).unwrap();
        assert_eq!((again.manifest().status, again.manifest().test_evaluations), (Status::Finished, 100));
    }

    #[test]
    fn a_folder_that_is_no_run_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let shown = folder.path().display();
        let error = Run::open(folder.path()).unwrap_err();
        assert_eq!(error.to_string(), format!("not a run folder: manifest.json is missing ({shown})"));
        create(&folder.path().join("some"), Some("a")).unwrap();
        let error = Run::open(&folder.path().join("some")).unwrap_err().to_string();
        assert!(error.starts_with("this is a folder of runs, not a run ("), "{error}");
        fs::write(folder.path().join(MANIFEST), "{").unwrap();
        let error = Run::open(folder.path()).unwrap_err().to_string();
        assert!(error.starts_with("the manifest is damaged: "), "{error}");
        fs::write(folder.path().join(MANIFEST), r#"{"format": 2, "version": "9.1.0"}"#).unwrap();
        let error = Run::open(folder.path()).unwrap_err().to_string();
        assert!(
            error.starts_with("the run was made by the later version 9.1.0: its manifest has format 2 ("),
            "{error}"
        );
    }

    #[test]
    fn of_evaluations_the_last_of_each_kind_is_kept_and_the_best_weights_speak() {
        let of = |split, weights, data: &str, top1| EvaluationRecord {
            split,
            weights,
            weights_sha256: None,
            step: None,
            data: data.to_string(),
            fingerprint: None,
            images: 7,
            loss: None,
            top1,
            top5: Some(1.0),
            beam: None,
        };
        let mut manifest = manifest();
        manifest.note_evaluation(of(SplitName::Test, Weights::Last, "photos", 0.2));
        assert_eq!(manifest.evaluation(SplitName::Test).unwrap().top1, 0.2);
        manifest.note_evaluation(of(SplitName::Test, Weights::Best, "photos", 0.3));
        manifest.note_evaluation(of(SplitName::Test, Weights::Best, "photos", 0.5));
        manifest.note_evaluation(of(SplitName::Test, Weights::Best, "others", 0.7));
        assert_eq!(manifest.evaluations.len(), 3);
        assert_eq!(manifest.evaluation(SplitName::Test).unwrap().top1, 0.5);
        assert_eq!(manifest.evaluation(SplitName::Train), None);
    }

    #[test]
    fn the_best_weights_are_read_before_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let run = create(folder.path(), None).unwrap();
        let none = run.find_weights(None).unwrap_err().to_string();
        assert_eq!(none, format!("the run has no weights/last.safetensors ({})", run.folder().display()));
        let why = |run: &Run, wanted| match run.find_weights(wanted) {
            Err(RecordError::NoWeights { why, .. }) => why,
            other => panic!("{other:?}"),
        };
        // The best weights of a run without any: it has no last ones to use instead.
        let open = || Run::open(run.folder()).unwrap();
        assert_eq!([why(&open(), None), why(&open(), Some(Weights::Best))], [NoWeights::InTraining; 2]);
        assert_eq!(why(&run, None), NoWeights::Early);
        fs::write(run.weights_path(Weights::Last), "").unwrap();
        assert_eq!(run.find_weights(None).unwrap().0, Weights::Last);
        assert!(run.find_weights(Some(Weights::Best)).is_err());
        fs::write(run.weights_path(Weights::Best), "").unwrap();
        assert_eq!(run.find_weights(None).unwrap().0, Weights::Best);
        assert_eq!(run.find_weights(Some(Weights::Last)).unwrap().0, Weights::Last);
    }

    #[test]
    fn a_name_is_that_of_a_run_before_that_of_a_folder_here() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("runs");
        create(&out, Some("digits")).unwrap();
        fs::create_dir(out.join("cut")).unwrap();
        let found = |name: &str| find_run(Path::new(name), &out).map(|found| found.folder);
        assert_eq!(found("digits"), Ok(out.join("digits")));
        assert_eq!(found("cut"), Ok(out.join("cut")), "an error of its own, when it is opened");
        // `src` is a folder where tests run.
        assert_eq!(
            [found("src"), found("./digits"), found("digits/")],
            ["src", "./digits", "digits/"].map(|path| Ok(path.into()))
        );
        let nearest = |name: &str| match found(name) {
            Err(RecordError::UnknownRun { nearest, .. }) => nearest,
            other => panic!("{other:?}"),
        };
        assert_eq!([nearest("digit"), nearest("zebra")], [Some("digits".to_string()), None]);
        create(&out, Some("src")).unwrap();
        assert_eq!(found("src"), Ok(out.join("src")));
        assert_eq!(find_run(Path::new("src"), &out).unwrap().other, None, "the folder here is not a run");
    }

    #[test]
    fn the_last_weights_do_not_stand_in_for_best_ones_that_are_lost() {
        let folder = tempfile::tempdir().unwrap();
        let mut run = create(folder.path(), None).unwrap();
        fs::write(run.weights_path(Weights::Last), "").unwrap();
        let results = |best_step, lowest_step| Some(Results { best_step, lowest_step, ..Results::default() });
        run.update(|manifest| manifest.results = results(None, None)).unwrap();
        assert_eq!(run.find_weights(None).unwrap().0, Weights::Last);
        for results in [results(Some(3), None), results(None, Some(3))] {
            run.update(|manifest| manifest.results = results).unwrap();
            for wanted in [None, Some(Weights::Best)] {
                let error = run.find_weights(wanted).unwrap_err();
                let expected =
                    format!("the best weights of the run are missing ({})", run.weights_path(Weights::Best).display());
                let hint = "restore the file, or use weights = \"last\"";
                assert_eq!((error.to_string(), error.hint().unwrap().as_str()), (expected, hint));
            }
            assert_eq!(run.find_weights(Some(Weights::Last)).unwrap().0, Weights::Last);
        }
        // No weights file.
        fs::create_dir(run.weights_path(Weights::Best)).unwrap();
        assert!(matches!(run.find_weights(None), Err(RecordError::LostBest { .. })));
    }
}
