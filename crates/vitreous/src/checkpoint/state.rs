//! Checkpoints, from which a training resumes.
//!
//! `state/17.safetensors` (tensors) and `state/17.json` (its record, with the hashes of both) are one checkpoint. The
//! tensors are written first and read back; only if they are correct is the record written, which completes the
//! checkpoint. The previous checkpoint is kept, so that the run can resume if the newest is damaged later.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use vitreous_engine::{Graph, Parameters};

use super::best::forget_unnamed;
use super::{BestWeights, CheckpointError, StateError, TensorFile, length, tensors};
use crate::record::{Folder, JournalLengths, RecordError, Run, sha256_of_bytes, sha256_of_file};

/// Version of the format.
const FORMAT: u32 = 1;

/// Number of checkpoints that are kept, including the newest.
const KEPT: usize = 2;

pub(super) use crate::record::STATE;

/// Largest record that is read, in bytes: it may hold a number for each of a million steps.
const RECORD_MAX: u64 = 64 << 20;

/// A checkpoint to be saved.
pub struct State {
    step: u64,
    journal: JournalLengths,
    about: serde_json::Value,
    best: BestWeights,
    tensors: TensorFile,
}

/// The content of a checkpoint's record.
#[derive(Serialize, Deserialize)]
struct Record {
    format: u32,
    version: String,
    step: u64,
    journal: JournalLengths,
    about: serde_json::Value,
    /// The best weights; absent in checkpoints of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    best: Option<BestWeights>,
    /// SHA-256 of the tensors file.
    tensors: String,
}

/// A checkpoint's record on disk.
#[derive(Serialize, Deserialize)]
struct Sealed {
    /// SHA-256 of `state` as compact JSON with sorted keys.
    sha256: String,
    state: serde_json::Value,
}

impl State {
    /// Makes a checkpoint of named sets of a graph's parameters (weights and moments) and of the other facts in
    /// `about`.
    pub fn new(
        graph: &Graph,
        step: u64,
        journal: JournalLengths,
        about: serde_json::Value,
        best: BestWeights,
        sets: &[(String, Arc<Parameters>)],
    ) -> State {
        let prefixes: Vec<String> = sets.iter().map(|(name, _)| format!("{name}.")).collect();
        let sets: Vec<(&str, Arc<Parameters>)> =
            prefixes.iter().zip(sets).map(|(prefix, (_, values))| (prefix.as_str(), values.clone())).collect();
        let said = BTreeMap::from([("vitreous.version", env!("CARGO_PKG_VERSION").to_string())]);
        State { step, journal, about, best, tensors: TensorFile::new(graph, &said, &sets) }
    }

    /// Saves the checkpoint in a run folder, reads it back, and removes all earlier ones except the previous one.
    ///
    /// # Errors
    /// When it cannot be written, or the disk returns other bytes; existing checkpoints stay.
    pub fn save(&self, run: &Folder) -> Result<(), RecordError> {
        let made = run.make_folder(STATE).and_then(|()| run.sync(""));
        let numbers = made.and_then(|()| numbers_in(run)).map_err(|error| run.error(STATE, &error))?;
        let number = numbers.iter().map(|(number, _)| number + 1).max().unwrap_or(1);
        let [tensors, record] = files(number);
        let written = self.tensors.save_in(run, &tensors)?;
        let removed = |error: RecordError| {
            // The record first: without it, the rest is not a checkpoint.
            let _ = run.remove(&record);
            let _ = run.remove(&tensors);
            error
        };
        let read = run.open_file(&tensors).and_then(sha256_of_file);
        if read.map_err(|error| removed(run.error(&tensors, &error)))? != written {
            let error = io::Error::other("it is not read as it was written");
            return Err(removed(run.error(&tensors, &error)));
        }
        let state = Record {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_string(),
            step: self.step,
            journal: self.journal,
            about: self.about.clone(),
            best: Some(self.best.clone()),
            tensors: written,
        };
        let state = serde_json::to_value(state).expect("a state is plain numbers and texts");
        let sealed = Sealed { sha256: sha256_of_bytes(state.to_string().as_bytes()), state };
        let mut text = serde_json::to_string_pretty(&sealed).expect("a state is plain numbers and texts");
        text.push('\n');
        run.write(&record, text.as_bytes()).map_err(removed)?;
        forget_all_but(run, KEPT);
        Ok(())
    }
}

/// Removes all but the `kept` newest checkpoints of a run, and best weights to which only removed ones referred.
pub fn forget_all_but(run: &Folder, kept: usize) {
    let Ok(mut numbers) = numbers_in(run) else { return };
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    let whole = numbers.iter().filter(|(_, is_whole)| *is_whole).map(|(number, _)| *number);
    let Some(oldest) = whole.take(kept).last() else { return };
    for (number, _) in numbers.into_iter().filter(|(number, _)| *number < oldest) {
        // The record first: without it, the rest is not a checkpoint. Files that cannot be removed only take space.
        let [tensors, record] = files(number);
        let _ = run.remove(&record);
        let _ = run.remove(&tensors);
    }
    forget_unnamed(run);
}

/// Removes temporary files that a killed process left in a run.
pub fn remove_leftovers(run: &Run) {
    ["", "weights", STATE].into_iter().for_each(|inside| run.files().clean(inside));
}

/// The folder of a run's checkpoints.
pub fn state_folder(run: &Path) -> PathBuf {
    run.join(STATE)
}

/// The two files of a checkpoint: tensors and record.
fn files(number: u64) -> [String; 2] {
    ["safetensors", "json"].map(|kind| format!("{STATE}/{number}.{kind}"))
}

/// Numbers of a run's checkpoints, and whether each has its record.
pub(super) fn numbers_in(run: &Folder) -> io::Result<Vec<(u64, bool)>> {
    let mut found = BTreeMap::new();
    for name in run.names(STATE)? {
        if let Some((number, kind)) = name.split_once('.')
            && let Ok(number) = number.parse::<u64>()
            && ["json", "safetensors"].contains(&kind)
        {
            *found.entry(number).or_insert(false) |= kind == "json";
        }
    }
    Ok(found.into_iter().collect())
}

/// Returns the best weights that a checkpoint refers to; `None` if it refers to none or is damaged.
pub(super) fn named_best(run: &Folder, number: u64) -> io::Result<Option<BestWeights>> {
    let [_, record] = files(number);
    let text = run.read_text(&record, RECORD_MAX)?;
    let sealed = serde_json::from_str::<Sealed>(&text).ok();
    Ok(sealed.and_then(|sealed| serde_json::from_value(sealed.state["best"].clone()).ok()))
}

/// A checkpoint on disk with two valid hashes.
pub struct SavedState {
    run: Folder,
    /// Its tensors file.
    name: String,
    path: PathBuf,
    record: Record,
}

/// A checkpoint's tensors in memory.
pub struct StateTensors {
    path: PathBuf,
    bytes: Vec<u8>,
}

/// A run's newest complete checkpoint, and the newer ones that cannot be used.
pub struct Found {
    /// The checkpoint; `None` if no complete one exists.
    pub state: Option<SavedState>,
    /// What is wrong with newer ones.
    pub refused: Vec<StateError>,
}

/// Finds a run's newest complete checkpoint.
pub fn find_state(run: &Folder) -> Found {
    let found = match numbers_in(run) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        // An unreadable folder is not an empty one.
        Err(error) => {
            return Found { state: None, refused: vec![StateError::read(&state_folder(run.path()), &error)] };
        }
    };
    let mut numbers: Vec<u64> = found.into_iter().filter_map(|(number, is_whole)| is_whole.then_some(number)).collect();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    let mut refused = Vec::new();
    for number in numbers {
        match SavedState::read(run, number) {
            Ok(state) => return Found { state: Some(state), refused },
            Err(error) => refused.push(error),
        }
    }
    Found { state: None, refused }
}

impl SavedState {
    fn read(run: &Folder, number: u64) -> Result<SavedState, StateError> {
        let [name, record] = files(number);
        let path = &run.path().join(&record);
        let text = run.read_text(&record, RECORD_MAX).map_err(|error| StateError::read(path, &error))?;
        let damaged = |error: serde_json::Error| StateError::damaged(path, &error.to_string());
        let Sealed { sha256, state } = serde_json::from_str(&text).map_err(damaged)?;
        // First, because a later version may have another format.
        let format = state["format"].as_u64().unwrap_or(0);
        if format > u64::from(FORMAT) {
            let version = state["version"].as_str().unwrap_or("unknown").to_string();
            return Err(StateError::Later { path: path.to_path_buf(), version, format });
        }
        if sha256_of_bytes(state.to_string().as_bytes()) != sha256 {
            return Err(StateError::damaged(path, "its SHA-256 is not the one it says"));
        }
        let record: Record = serde_json::from_value(state).map_err(damaged)?;
        let path = run.path().join(&name);
        // Piece by piece: the memory for a large model's tensors is needed later.
        let mut file = run.open_file(&name).map_err(|error| StateError::read(&path, &error))?;
        let len = length::check(&mut file).map_err(|error| StateError::read(&path, &error))?;
        let found = sha256_of_file(file).map_err(|error| StateError::read(&path, &error))?;
        if found != record.tensors {
            let reason = format!("its {len} bytes have another SHA-256 than they were written with");
            return Err(StateError::damaged(&path, &reason));
        }
        Ok(SavedState { run: run.clone(), name, path, record })
    }

    /// Steps taken.
    pub fn step(&self) -> u64 {
        self.record.step
    }

    /// The best weights that it refers to; `None` in checkpoints of earlier versions.
    pub fn best(&self) -> Option<&BestWeights> {
        self.record.best.as_ref()
    }

    /// Lengths of the run's growing files when it was taken.
    pub fn journal(&self) -> &JournalLengths {
        &self.record.journal
    }

    /// All other facts: `about` of [`State::new`].
    pub fn about(&self) -> &serde_json::Value {
        &self.record.about
    }

    /// Its tensors file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the tensors.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn tensors(&self) -> Result<StateTensors, StateError> {
        let read = self.run.open_file(&self.name).and_then(length::read);
        let bytes = read.map_err(|error| StateError::read(&self.path, &error))?;
        Ok(StateTensors { path: self.path.clone(), bytes })
    }
}

impl StateTensors {
    /// Returns a set of a graph's parameters.
    ///
    /// # Errors
    /// When the checkpoint is another graph's.
    pub fn parameters(&self, graph: &Graph, set: &str) -> Result<Parameters, StateError> {
        self.read(graph, set, None)
    }

    /// Returns a set of an optimizer's moments; only parameters that have values in `like` are read.
    ///
    /// # Errors
    /// When the checkpoint is another graph's.
    pub fn moment(&self, graph: &Graph, set: &str, like: &Parameters) -> Result<Parameters, StateError> {
        self.read(graph, set, Some(like))
    }

    fn read(&self, graph: &Graph, set: &str, like: Option<&Parameters>) -> Result<Parameters, StateError> {
        let damaged = |error| StateError::Tensors(CheckpointError::damaged(&self.path, &error));
        let tensors = SafeTensors::deserialize(&self.bytes).map_err(damaged)?;
        let found: Vec<String> = tensors.names().into_iter().map(str::to_string).collect();
        Ok(tensors::read(&self.path, &tensors, graph, &format!("{set}."), &found, like)?)
    }
}
