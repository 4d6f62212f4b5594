//! A run's folder: a place for it, made when everything is known to be good, and opened again.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::claim::{Claim, lock_folder};
use super::files::sync_folder;
use super::leftovers::{remove_begun, was_begun};
use super::{Manifest, RecordError, Status, write_atomically};
use crate::units::number;

pub(super) const CONFIG: &str = "config.toml";
const MANIFEST: &str = "manifest.json";
pub(super) const WEIGHTS: &str = "weights";

/// Longest name of a run, in bytes: what file systems take.
const NAME_MAX: usize = 255;

/// Where a run is to be written; nothing is there yet, or what a run has left that was killed as it began.
#[derive(Clone, Debug)]
pub struct Place {
    out: PathBuf,
    name: RunName,
}

#[derive(Clone, Debug)]
enum RunName {
    /// This and no other.
    Given(String),
    /// This, or else with the next free number.
    Free(String),
}

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
    folder: PathBuf,
    manifest: Manifest,
    /// That of this process, if it trains here.
    claim: Option<Arc<Claim>>,
}

impl Place {
    /// Chooses a place in the folder `out`: that of the name, else the next free one of `base`, `base-2`, ...
    /// Nothing is left there, but it is tried whether something could be.
    ///
    /// # Errors
    /// When the name is taken or no name of a folder, or `out` is no folder or cannot be written.
    pub fn choose(out: &Path, name: Option<&str>, base: &str) -> Result<Place, RecordError> {
        if out.exists() && !out.is_dir() {
            return Err(RecordError::write(out, &io::ErrorKind::NotADirectory.into()));
        }
        // Here and not when the folder is made: hours of reading images may lie between.
        try_to_write(out)?;
        let name = match name {
            None => RunName::Free(base_name(base)),
            Some(name) => {
                if !is_name(name) {
                    return Err(RecordError::Name { name: name.to_string() });
                }
                let path = out.join(name);
                if path.exists() && !was_begun(&path) {
                    return Err(exists(name, path));
                }
                RunName::Given(name.to_string())
            }
        };
        Ok(Place { out: out.to_path_buf(), name })
    }

    /// Makes the folder with its config and manifest, and claims it for this process. When that cannot be finished, nothing is left.
    ///
    /// # Errors
    /// When the folder cannot be written, or another run has taken the name in the meantime.
    pub fn create(self, config_toml: &str, manifest: Manifest) -> Result<Run, RecordError> {
        fs::create_dir_all(&self.out).map_err(|error| RecordError::write(&self.out, &error))?;
        // So that no other process takes a folder that was made, but not claimed yet, for one that a kill has left.
        let _locked = lock_folder(&self.out)?;
        if let RunName::Given(name) = &self.name {
            remove_begun(&self.out.join(name))?;
        }
        let folder = self.make_folder()?;
        let mut run = Run { folder, manifest, claim: None };
        let claimed = Claim::of(&run.folder).map(|claim| run.claim = Some(Arc::new(claim)));
        let kept = sync_folder(&run.folder).map_err(|error| RecordError::write(&run.folder, &error));
        let filled = claimed.and(kept).and_then(|()| run.fill(config_toml));
        if filled.is_err() {
            // The first error is the one to tell.
            let _ = fs::remove_dir_all(&run.folder);
        }
        filled.map(|()| run)
    }

    /// Making a folder succeeds for one process only, so two runs never share one.
    fn make_folder(&self) -> Result<PathBuf, RecordError> {
        let candidates: Box<dyn Iterator<Item = String>> = match &self.name {
            RunName::Given(name) => Box::new(std::iter::once(name.clone())),
            RunName::Free(base) => {
                Box::new(std::iter::once(base.clone()).chain((2..).map(move |number| format!("{base}-{number}"))))
            }
        };
        for name in candidates {
            let path = self.out.join(&name);
            match fs::create_dir(&path) {
                Ok(()) => return Ok(path),
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(RecordError::write(&path, &error));
                }
                Err(_) if matches!(self.name, RunName::Given(_)) => return Err(exists(&name, path)),
                Err(_) => {}
            }
        }
        unreachable!("some number is free")
    }
}

fn exists(name: &str, path: PathBuf) -> RecordError {
    let has_failed = read_manifest(&path).is_ok_and(|manifest| manifest.status == Status::Failed);
    RecordError::Exists { name: name.to_string(), path, has_failed }
}

/// Tries whether a folder, or the nearest one above it that exists, takes files.
fn try_to_write(out: &Path) -> Result<(), RecordError> {
    let here = Path::new(".");
    let above = out.ancestors().map(|folder| if folder.as_os_str().is_empty() { here } else { folder });
    let nearest = above.into_iter().find(|folder| folder.exists()).unwrap_or(here);
    let probe = nearest.join(format!(".vitreous.{}.tmp", std::process::id()));
    let tried = OpenOptions::new().write(true).create_new(true).open(&probe);
    match tried {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(RecordError::write(out, &error)),
        _ => {}
    }
    // What cannot be removed could at least be written.
    let _ = fs::remove_file(&probe);
    Ok(())
}

/// What a manifest that cannot be read as a whole says of its version.
fn stated_version(text: &str) -> Option<(u32, String)> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let format = u32::try_from(value["format"].as_u64()?).ok()?;
    Some((format, value["version"].as_str().unwrap_or("unknown").to_string()))
}

/// Whether a run or a sweep may be called so: it is the name of one folder, and is told from a flag.
pub fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_alphanumeric() || "-_.+= ".contains(c);
    let is_sound = name.chars().all(is_plain) && name.trim() == name && !name.starts_with(['.', '-']);
    is_sound && !name.is_empty() && name.len() <= NAME_MAX
}

/// Makes the name of a run from that of a preset, a data set or a file: its last part, without odd characters.
pub fn base_name(of: &str) -> String {
    let last = Path::new(of).file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let plain: String = last.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    let plain = plain.trim_matches(['-', '.']);
    // A character takes four bytes at most: this leaves room for a number behind it.
    let plain: String = plain.chars().take(NAME_MAX / 4 - 5).collect();
    if plain.is_empty() { "run".to_string() } else { plain }
}

impl Run {
    /// Opens the folder of a run.
    ///
    /// # Errors
    /// When it is none, or its manifest cannot be read.
    pub fn open(folder: &Path) -> Result<Run, RecordError> {
        Ok(Run { folder: folder.to_path_buf(), manifest: read_manifest(folder)?, claim: None })
    }

    /// Opens the folder of a run and claims it for this process, which alone may then train there.
    ///
    /// # Errors
    /// As [`Run::open`], and when another process has claimed it or the folder cannot be written.
    pub fn open_to_train(folder: &Path) -> Result<Run, RecordError> {
        Run::open(folder)?;
        let claim = Claim::of(folder)?;
        // Again, now that no other process changes it.
        Ok(Run { claim: Some(Arc::new(claim)), ..Run::open(folder)? })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The run's name: that of the folder.
    pub fn name(&self) -> String {
        self.folder.file_name().map_or_else(|| ".".to_string(), |name| name.to_string_lossy().into_owned())
    }

    /// The facts of the run.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Changes the manifest as it is on the disk: other programs may have changed it since it was read.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn update(&mut self, change: impl FnOnce(&mut Manifest)) -> Result<(), RecordError> {
        // Held until the end. Every file in the folder may be replaced, the folder itself is not.
        let _locked = lock_folder(&self.folder)?;
        self.manifest = read_manifest(&self.folder)?;
        change(&mut self.manifest);
        self.save_manifest()
    }

    /// The file with the resolved config.
    pub fn config_path(&self) -> PathBuf {
        self.folder.join(CONFIG)
    }

    /// Where the weights of one kind are, or will be.
    pub fn weights_path(&self, weights: Weights) -> PathBuf {
        self.folder.join(WEIGHTS).join(format!("{weights}.safetensors"))
    }

    /// Replaces the config by one of the same run: more epochs, or data in another place.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn replace_config(&self, config_toml: &str) -> Result<(), RecordError> {
        write_atomically(&self.config_path(), config_toml.as_bytes())
    }

    /// Finds weights to read: those asked for, else the best, else the last.
    ///
    /// # Errors
    /// When there are none.
    pub fn find_weights(&self, wanted: Option<Weights>) -> Result<(Weights, PathBuf), RecordError> {
        let candidates = wanted.map_or(vec![Weights::Best, Weights::Last], |weights| vec![weights]);
        let found = candidates.iter().map(|&weights| (weights, self.weights_path(weights)));
        found.into_iter().find(|(_, path)| path.is_file()).ok_or_else(|| RecordError::NoWeights {
            path: self.folder.clone(),
            file: format!("{WEIGHTS}/{}.safetensors", candidates[candidates.len() - 1]),
        })
    }

    fn fill(&self, config_toml: &str) -> Result<(), RecordError> {
        let weights = self.folder.join(WEIGHTS);
        fs::create_dir(&weights).map_err(|error| RecordError::write(&weights, &error))?;
        write_atomically(&self.config_path(), config_toml.as_bytes())?;
        self.save_manifest()
    }

    fn save_manifest(&self) -> Result<(), RecordError> {
        let mut text = serde_json::to_string_pretty(&self.manifest).expect("a manifest is plain numbers and texts");
        text.push('\n');
        write_atomically(&self.folder.join(MANIFEST), text.as_bytes())
    }
}

fn read_manifest(folder: &Path) -> Result<Manifest, RecordError> {
    let path = folder.join(MANIFEST);
    if !path.is_file() {
        return Err(RecordError::NoRun { path: folder.to_path_buf(), file: MANIFEST });
    }
    let text = fs::read_to_string(&path).map_err(|error| RecordError::read(&path, &error))?;
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
mod tests {
    use super::*;
    use crate::data::Normalization;
    use crate::data::SplitName;
    use crate::record::{DataRecord, EvaluationRecord, MachineRecord};

    fn manifest() -> Manifest {
        Manifest {
            format: Manifest::FORMAT,
            version: "1.2.3".to_string(),
            command: vec!["vitreous".to_string(), "train".to_string()],
            status: Status::Running,
            started: "2025-03-09T17:04:05Z".to_string(),
            finished: None,
            seed: 7,
            model: None,
            parameters: 11,
            flops: None,
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
            },
            machine: MachineRecord {
                os: "linux".to_string(),
                arch: "x86_64".to_string(),
                instruction_set: "avx2".to_string(),
                threads: 2,
                processors: 3,
            },
            resumed: Vec::new(),
            results: None,
            test_evaluations: 0,
            evaluations: Vec::new(),
        }
    }

    fn create(out: &Path, name: Option<&str>) -> Result<Run, RecordError> {
        Place::choose(out, name, "some/digits")?.create("[model]\n", manifest())
    }

    #[test]
    fn a_run_without_a_name_takes_the_next_free_one() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("runs");
        let names: Vec<String> = (0..3).map(|_| create(&out, None).unwrap().name()).collect();
        assert_eq!(names, ["digits", "digits-2", "digits-3"]);
    }

    #[test]
    fn a_name_is_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        // Both chose before either made it.
        let place = || Place::choose(folder.path(), Some("deeper"), "digits").unwrap();
        let (first, second) = (place(), place());
        first.create("", manifest()).unwrap();
        let expected = format!("a run named `deeper` exists ({})", folder.path().join("deeper").display());
        assert_eq!(second.create("", manifest()).unwrap_err().to_string(), expected);
        assert_eq!(Place::choose(folder.path(), Some("deeper"), "digits").unwrap_err().to_string(), expected);
    }

    #[test]
    fn a_name_stays_inside_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["", "..", "../x", "a/b", "/tmp", ".hidden", "-x", "a\\b", " a", "a\n"] {
            let error = Place::choose(folder.path(), Some(name), "digits").unwrap_err();
            assert_eq!(error, RecordError::Name { name: name.to_string() });
        }
        let (longest, longer) = ("a".repeat(NAME_MAX), "a".repeat(NAME_MAX + 1));
        assert_eq!(
            Place::choose(folder.path(), Some(&longer), "digits").unwrap_err(),
            RecordError::Name { name: longer }
        );
        for name in ["a", "größer", "v1.5", "lr=0.1", &longest] {
            assert!(create(folder.path(), Some(name)).is_ok(), "{name}");
        }
    }

    #[test]
    fn names_come_from_the_last_part() {
        let cases =
            [("digits", "digits"), ("my photos/", "my-photos"), ("/", "run"), ("..", "run"), ("a/b.toml", "b.toml")];
        for (of, name) in cases {
            assert_eq!(base_name(of), name);
        }
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

    #[cfg(target_os = "linux")]
    #[test]
    fn a_folder_that_nobody_may_write_is_refused_before_anything_is_made() {
        // Not even the superuser may; the reasons differ.
        let error = Place::choose(Path::new("/proc/self/runs"), None, "digits").unwrap_err();
        assert!(matches!(error, RecordError::Write { path, .. } if path == Path::new("/proc/self/runs")));
        let folder = tempfile::tempdir().unwrap();
        Place::choose(&folder.path().join("a/b"), None, &"ü".repeat(200)).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_is_no_run_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let shown = folder.path().display();
        let error = Run::open(folder.path()).unwrap_err();
        assert_eq!(error.to_string(), format!("this is no run folder: it has no manifest.json ({shown})"));
        fs::write(folder.path().join(MANIFEST), "{").unwrap();
        let error = Run::open(folder.path()).unwrap_err().to_string();
        assert!(error.starts_with("the manifest is damaged: "), "{error}");
        fs::write(folder.path().join(MANIFEST), r#"{"format": 2, "version": "9.1.0"}"#).unwrap();
        let error = Run::open(folder.path()).unwrap_err().to_string();
        assert!(
            error.starts_with("the run was made by a later version, 9.1.0: its manifest has format 2 ("),
            "{error}"
        );
    }

    #[test]
    fn of_evaluations_the_last_of_each_kind_is_kept_and_the_best_weights_speak() {
        let of = |split, weights, data: &str, top1| EvaluationRecord {
            split,
            weights,
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
        fs::write(run.weights_path(Weights::Last), "").unwrap();
        assert_eq!(run.find_weights(None).unwrap().0, Weights::Last);
        assert!(run.find_weights(Some(Weights::Best)).is_err());
        fs::write(run.weights_path(Weights::Best), "").unwrap();
        assert_eq!(run.find_weights(None).unwrap().0, Weights::Best);
        assert_eq!(run.find_weights(Some(Weights::Last)).unwrap().0, Weights::Last);
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("runs");
        fs::write(&out, "").unwrap();
        let expected = format!("cannot write: a file is in the way ({})", out.display());
        assert_eq!(create(&out, None).unwrap_err().to_string(), expected);
    }
}
