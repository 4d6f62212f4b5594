//! What a process leaves behind when it is killed: the start of a run's folder, and files that were being written.

use std::fs;
use std::path::Path;

use super::RecordError;
use super::claim::{CLAIM, Claim, lock_folder};
use super::files::is_temporary;
use super::run::{CONFIG, WEIGHTS};

/// What a run may have left when it was killed before its manifest was written.
const BEFORE_MANIFEST: [&str; 3] = [CLAIM, WEIGHTS, CONFIG];

/// Whether all that lies in a folder is what a run writes before its manifest: it was killed there, and may be removed.
/// An empty folder is one too, a link to a folder is none: no run makes one.
pub fn was_begun(folder: &Path) -> bool {
    let names = |folder: &Path| -> Option<Vec<String>> {
        let entries = fs::read_dir(folder).ok()?.filter_map(Result::ok);
        Some(entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
    };
    let Some(found) = names(folder).filter(|_| !folder.is_symlink()) else { return false };
    let is_early = |name: &String| BEFORE_MANIFEST.contains(&name.as_str()) || is_temporary(name);
    // The folder for weights is made before the config, so a config without one is somebody else's.
    let needs_weights = found.iter().any(|name| name == CONFIG || name == WEIGHTS);
    let has_no_weights = names(&folder.join(WEIGHTS)).map_or(!needs_weights, |names| names.is_empty());
    has_no_weights && found.iter().all(is_early)
}

/// Removes the folder of a run that was only begun, unless another process is at it.
///
/// # Errors
/// When another process has claimed it, or it cannot be removed.
pub(super) fn remove_begun(folder: &Path) -> Result<(), RecordError> {
    if !was_begun(folder) {
        return Ok(());
    }
    let _claim = Claim::of(folder)?;
    // Again: whoever had the claim until now may have made a run of it.
    if was_begun(folder) {
        // Should this be killed too, a config would be left that seems to be somebody else's.
        let _ = fs::remove_file(folder.join(CONFIG));
        fs::remove_dir_all(folder).map_err(|error| RecordError::write(folder, &error))?;
    }
    Ok(())
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
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_folder_that_holds_anything_of_value_was_not_just_begun() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("run");
        assert!(!was_begun(&folder), "it is not there");
        fs::create_dir(&folder).unwrap();
        assert!(was_begun(&folder), "nothing but the folder was made");
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&folder, root.path().join("link")).unwrap();
            assert!(!was_begun(&root.path().join("link")), "a link that somebody made");
        }
        fs::write(folder.join(".lock"), "77").unwrap();
        assert!(was_begun(&folder), "and it was claimed");
        fs::write(folder.join("config.toml"), "mine").unwrap();
        assert!(!was_begun(&folder), "a config that somebody put there");
        fs::create_dir(folder.join("weights")).unwrap();
        fs::write(folder.join(".manifest.json.77.tmp"), "{").unwrap();
        assert!(was_begun(&folder));
        fs::write(folder.join("weights/best.safetensors"), "").unwrap();
        assert!(!was_begun(&folder), "weights without a manifest");
    }

    #[test]
    fn what_was_begun_is_removed_unless_somebody_makes_a_run_of_it() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("run");
        fs::create_dir_all(folder.join("weights")).unwrap();
        let claim = Claim::of(&folder).unwrap();
        assert!(matches!(remove_begun(&folder), Err(RecordError::Busy { .. })));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(100));
                fs::write(folder.join("manifest.json"), "{}").unwrap();
                drop(claim);
            });
            remove_begun(&folder).unwrap();
        });
        assert!(folder.join("manifest.json").exists());
        fs::remove_file(folder.join("manifest.json")).unwrap();
        remove_begun(&folder).unwrap();
        assert!(!folder.exists());
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
