//! The state of a training on disk, from which it goes on: tensors, and beside them a small file that says what they
//! are and holds the hashes of both.
//!
//! `state/17.safetensors` and `state/17.json` are one state. The tensors are written first and read again; only when
//! they are proven to be what was meant, the small file is written, which makes it a state. The one before stays, so
//! that there is one to go on from when the newest is damaged later.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use vitreous_engine::{Graph, Parameters};

use super::{CheckpointError, StateError, TensorFile, tensors};
use crate::record::{JournalLengths, RecordError, sha256_of, sha256_of_bytes, sync_folder, write_atomically};

/// Version of the layout.
const FORMAT: u32 = 1;

/// States that are kept, the newest among them.
const KEPT: usize = 2;

/// A state that is to be saved.
pub struct State {
    step: u64,
    journal: JournalLengths,
    about: serde_json::Value,
    tensors: TensorFile,
}

/// What the small file says.
#[derive(Serialize, Deserialize)]
struct Record {
    format: u32,
    version: String,
    step: u64,
    journal: JournalLengths,
    about: serde_json::Value,
    /// SHA-256 of the file of tensors.
    tensors: String,
}

/// The small file.
#[derive(Serialize, Deserialize)]
struct Sealed {
    /// SHA-256 of `state` as compact JSON, keys in the order of the alphabet.
    sha256: String,
    state: serde_json::Value,
}

impl State {
    /// Makes a state of sets of a graph's parameters, each with its name, and of what else there is to know.
    pub fn new(
        graph: &Graph,
        step: u64,
        journal: JournalLengths,
        about: serde_json::Value,
        sets: &[(String, Arc<Parameters>)],
    ) -> State {
        let prefixes: Vec<String> = sets.iter().map(|(name, _)| format!("{name}.")).collect();
        let sets: Vec<(&str, Arc<Parameters>)> =
            prefixes.iter().zip(sets).map(|(prefix, (_, values))| (prefix.as_str(), values.clone())).collect();
        let said = BTreeMap::from([("vitreous.version", env!("CARGO_PKG_VERSION").to_string())]);
        State { step, journal, about, tensors: TensorFile::new(graph, &said, &sets) }
    }

    /// Saves the state in a run folder, proves that it can be read, and removes all older ones but the last.
    ///
    /// # Errors
    /// When it cannot be written or is not read as it was written; states that were there stay.
    pub fn save(&self, run: &Path) -> Result<(), RecordError> {
        let folder = state_folder(run);
        let made = fs::create_dir_all(&folder).and_then(|()| sync_folder(&folder));
        let numbers = made.and_then(|()| numbers_in(&folder)).map_err(|error| RecordError::write(&folder, &error))?;
        let number = numbers.iter().map(|(number, _)| number + 1).max().unwrap_or(1);
        let path = folder.join(format!("{number}.safetensors"));
        let written = self.tensors.save(&path)?;
        let removed = |error: RecordError| {
            // First what would make it a state.
            let _ = fs::remove_file(path.with_extension("json"));
            let _ = fs::remove_file(&path);
            error
        };
        if sha256_of(&path).map_err(removed)? != written {
            let error = io::Error::other("it is not read as it was written");
            return Err(removed(RecordError::write(&path, &error)));
        }
        let state = Record {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_string(),
            step: self.step,
            journal: self.journal,
            about: self.about.clone(),
            tensors: written,
        };
        let state = serde_json::to_value(state).expect("a state is plain numbers and texts");
        let sealed = Sealed { sha256: sha256_of_bytes(state.to_string().as_bytes()), state };
        let mut text = serde_json::to_string_pretty(&sealed).expect("a state is plain numbers and texts");
        text.push('\n');
        write_atomically(&folder.join(format!("{number}.json")), text.as_bytes()).map_err(removed)?;
        forget_all_but(run, KEPT);
        Ok(())
    }
}

/// Removes states from a run folder until so many are left, the newest.
pub fn forget_all_but(run: &Path, kept: usize) {
    let folder = state_folder(run);
    let Ok(mut numbers) = numbers_in(&folder) else { return };
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    let whole = numbers.iter().filter(|(_, is_whole)| *is_whole).map(|(number, _)| *number);
    let Some(oldest) = whole.take(kept).last() else { return };
    for (number, _) in numbers.into_iter().filter(|(number, _)| *number < oldest) {
        // First what makes it a state. One that cannot be removed takes room, and is no harm.
        let _ = fs::remove_file(folder.join(format!("{number}.json")));
        let _ = fs::remove_file(folder.join(format!("{number}.safetensors")));
    }
}

/// Where the states of a run are.
pub fn state_folder(run: &Path) -> PathBuf {
    run.join("state")
}

/// Numbers of the states in a folder, and whether each has its small file.
fn numbers_in(folder: &Path) -> io::Result<Vec<(u64, bool)>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some((number, kind)) = name.split_once('.')
            && let Ok(number) = number.parse::<u64>()
            && ["json", "safetensors"].contains(&kind)
        {
            *found.entry(number).or_insert(false) |= kind == "json";
        }
    }
    Ok(found.into_iter().collect())
}

/// A state on disk, of which both hashes are right.
pub struct SavedState {
    path: PathBuf,
    record: Record,
}

/// The tensors of a state in memory.
pub struct StateTensors {
    path: PathBuf,
    bytes: Vec<u8>,
}

/// What was found in a run folder: the newest state that is whole, and those that are not and would have been newer.
pub struct Found {
    /// The state; absent where there is none, or none is whole.
    pub state: Option<SavedState>,
    /// What is wrong with others.
    pub refused: Vec<StateError>,
}

/// Looks for the newest state of a run that is whole.
pub fn find_state(run: &Path) -> Found {
    let folder = state_folder(run);
    let found = match numbers_in(&folder) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        // That nothing can be seen is not to say that nothing is there.
        Err(error) => return Found { state: None, refused: vec![StateError::read(&folder, &error)] },
    };
    let mut numbers: Vec<u64> = found.into_iter().filter_map(|(number, is_whole)| is_whole.then_some(number)).collect();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    let mut refused = Vec::new();
    for number in numbers {
        match SavedState::read(&folder.join(format!("{number}.json"))) {
            Ok(state) => return Found { state: Some(state), refused },
            Err(error) => refused.push(error),
        }
    }
    Found { state: None, refused }
}

impl SavedState {
    fn read(path: &Path) -> Result<SavedState, StateError> {
        let text = fs::read_to_string(path).map_err(|error| StateError::read(path, &error))?;
        let damaged = |error: serde_json::Error| StateError::damaged(path, &error.to_string());
        let Sealed { sha256, state } = serde_json::from_str(&text).map_err(damaged)?;
        // A later version may have another layout, so this comes first.
        let format = state["format"].as_u64().unwrap_or(0);
        if format > u64::from(FORMAT) {
            let version = state["version"].as_str().unwrap_or("unknown").to_string();
            return Err(StateError::Later { path: path.to_path_buf(), version, format });
        }
        if sha256_of_bytes(state.to_string().as_bytes()) != sha256 {
            return Err(StateError::damaged(path, "its SHA-256 is not the one it says"));
        }
        let record: Record = serde_json::from_value(state).map_err(damaged)?;
        let path = path.with_extension("safetensors");
        // Piece by piece: the tensors of a large model need their memory later.
        let found = sha256_of(&path).map_err(|error| match error {
            RecordError::Read { path, reason } => StateError::Read { path, reason },
            other => StateError::damaged(&path, &other.to_string()),
        })?;
        if found != record.tensors {
            let len = fs::metadata(&path).map_or(0, |file| file.len());
            let reason = format!("its {len} bytes have another SHA-256 than they were written with");
            return Err(StateError::damaged(&path, &reason));
        }
        Ok(SavedState { path, record })
    }

    /// Steps that were taken.
    pub fn step(&self) -> u64 {
        self.record.step
    }

    /// How long the growing files of the run were.
    pub fn journal(&self) -> &JournalLengths {
        &self.record.journal
    }

    /// What else there is to know.
    pub fn about(&self) -> &serde_json::Value {
        &self.record.about
    }

    /// The file of its tensors.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the tensors.
    ///
    /// # Errors
    /// When they cannot be read any more.
    pub fn tensors(&self) -> Result<StateTensors, StateError> {
        let bytes = fs::read(&self.path).map_err(|error| StateError::read(&self.path, &error))?;
        Ok(StateTensors { path: self.path.clone(), bytes })
    }
}

impl StateTensors {
    /// Returns a set of a graph's parameters.
    ///
    /// # Errors
    /// When the state is that of another graph.
    pub fn parameters(&self, graph: &Graph, set: &str) -> Result<Parameters, StateError> {
        let damaged = |error| StateError::Tensors(CheckpointError::damaged(&self.path, &self.bytes, &error));
        let tensors = SafeTensors::deserialize(&self.bytes).map_err(damaged)?;
        let found: Vec<String> = tensors.names().into_iter().map(str::to_string).collect();
        Ok(tensors::read(&self.path, &tensors, graph, &format!("{set}."), &found)?)
    }
}
