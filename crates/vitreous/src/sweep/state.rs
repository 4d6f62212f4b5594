//! How far the runs of a sweep are, read from their folders.

use std::path::Path;

use super::SweepError;
use crate::config::difference::{FlatConfig, became, changes, flat_config};
use crate::record::{RecordError, Run, was_begun};

/// How far a run of a sweep is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is finished.
    Done,
    /// Nothing is there.
    New,
    /// It was interrupted, killed, or failed: it resumes from its last checkpoint.
    Begun,
    /// It was killed before its manifest was written: its folder is replaced.
    Again,
}

/// Reads how far the run in a folder is, which must have this config.
///
/// # Errors
/// When there is a run of another config, one that cannot be read, or something else.
pub fn state_of(folder: &Path, wanted: &FlatConfig) -> Result<State, SweepError> {
    if !folder.exists() {
        return Ok(State::New);
    }
    let opened = match Run::open(folder) {
        Err(RecordError::NoRun { .. }) if was_begun(folder) => return Ok(State::Again),
        // Again: another process may have written the manifest meanwhile.
        Err(RecordError::NoRun { .. }) => Run::open(folder),
        opened => opened,
    };
    let run = match opened {
        Ok(run) => run,
        Err(RecordError::NoRun { .. }) => return Err(SweepError::InTheWay { path: folder.to_path_buf() }),
        Err(error) => return Err(error.into()),
    };
    let text = run.config().unwrap_or_default();
    let path = folder.to_path_buf();
    let found = flat_config(&text, "config.toml")
        .map_err(|error| SweepError::Other { path: path.clone(), changes: error.to_string() })?;
    let changes: Vec<String> =
        changes(&found, wanted).into_iter().map(|(key, found, wanted)| became(key, found, wanted)).collect();
    if !changes.is_empty() {
        return Err(SweepError::Other { path, changes: changes.join("; ") });
    }
    Ok(if run.manifest().status.is_finished() { State::Done } else { State::Begun })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn settings(lr: f64) -> FlatConfig {
        flat_config(&format!("[train]\nlr = {lr}\n"), "config.toml").unwrap()
    }

    #[test]
    fn what_is_there_before_a_manifest_is_made_anew_and_anything_else_is_in_the_way() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("run");
        assert_eq!(state_of(&folder, &settings(0.5)), Ok(State::New));
        fs::create_dir(&folder).unwrap();
        assert_eq!(state_of(&folder, &settings(0.5)), Ok(State::Again));
        fs::create_dir(folder.join("weights")).unwrap();
        fs::write(folder.join(".manifest.json.77.tmp"), "{").unwrap();
        assert_eq!(state_of(&folder, &settings(0.5)), Ok(State::Again));
        fs::write(folder.join("diary.txt"), "").unwrap();
        let error = state_of(&folder, &settings(0.5)).unwrap_err().to_string();
        assert!(error.starts_with("the run folder exists but is not a run ("), "{error}");
    }
}
