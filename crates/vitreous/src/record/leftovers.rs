//! What a process leaves behind when it is killed: the start of a run's folder, and files that were being written.

use std::fs;
use std::path::Path;

use super::RecordError;
use super::claim::{CLAIM, lock_folder};
use super::files::is_temporary;
use super::run::{CONFIG, WEIGHTS};

/// What a run may have left when it was killed before its manifest was written.
const BEFORE_MANIFEST: [&str; 3] = [CONFIG, WEIGHTS, CLAIM];

/// Whether all that lies in a folder is what a run writes before its manifest: it was killed there, and may be removed.
pub fn was_begun(folder: &Path) -> bool {
    let names = |folder: &Path| -> Option<Vec<String>> {
        let entries = fs::read_dir(folder).ok()?.filter_map(Result::ok);
        Some(entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
    };
    // The folder for weights is made first, so a folder without one is somebody else's.
    let has_no_weights = names(&folder.join(WEIGHTS)).is_some_and(|names| names.is_empty());
    let is_early = |name: &String| BEFORE_MANIFEST.contains(&name.as_str()) || is_temporary(name);
    has_no_weights && names(folder).is_some_and(|names| names.iter().all(is_early))
}

/// Removes what was being written when an earlier process was killed; this one has claimed the run.
///
/// # Errors
/// When the folder cannot be locked.
pub fn remove_leftovers(run: &Path, more: &Path) -> Result<(), RecordError> {
    // Nobody writes a manifest meanwhile.
    let _locked = lock_folder(run)?;
    for folder in [run, &run.join(WEIGHTS), more] {
        for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
            if is_temporary(&entry.file_name().to_string_lossy()) {
                // What cannot be removed is in nobody's way.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_holds_anything_of_value_was_not_just_begun() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("run");
        assert!(!was_begun(&folder), "it is not there");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("config.toml"), "mine").unwrap();
        assert!(!was_begun(&folder), "a config that somebody put there");
        fs::create_dir(folder.join("weights")).unwrap();
        fs::write(folder.join(".manifest.json.77.tmp"), "{").unwrap();
        fs::write(folder.join(".lock"), "77").unwrap();
        assert!(was_begun(&folder));
        fs::write(folder.join("weights/best.safetensors"), "").unwrap();
        assert!(!was_begun(&folder), "weights without a manifest");
    }

    #[test]
    fn files_that_were_being_written_go_and_others_stay() {
        let root = tempfile::tempdir().unwrap();
        let state = root.path().join("state");
        for folder in [root.path(), &root.path().join("weights"), &state] {
            fs::create_dir_all(folder).unwrap();
            fs::write(folder.join(".a.77.tmp"), "").unwrap();
            fs::write(folder.join("a.tmp"), "").unwrap();
        }
        remove_leftovers(root.path(), &state).unwrap();
        for folder in [root.path(), &root.path().join("weights"), &state] {
            assert!(!folder.join(".a.77.tmp").exists() && folder.join("a.tmp").exists());
        }
    }
}
