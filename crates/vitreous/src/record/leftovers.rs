//! What a process leaves behind when it is killed: the start of a run's folder, and files that were being written.

use std::fs;
use std::io;
use std::path::Path;

use super::claim::{CHANGE, CLAIM, Claim};
use super::files::is_temporary;
use super::lock::HELD;
use super::run::{CONFIG, SLURM, WEIGHTS};
use super::{Folder, RecordError};

/// Whether a file is one by which processes exclude each other.
fn is_lock(name: &str) -> bool {
    [CLAIM, CHANGE].contains(&name.strip_suffix(HELD).unwrap_or(name))
}

/// Whether a folder has only files that a run writes before its manifest: the run was killed then, and the folder may
/// be removed. An empty folder counts, and one with a job that is to start the run; a link to a folder does not: no run
/// makes one.
pub fn was_begun(folder: &Path) -> bool {
    let names = |folder: &Path| -> Option<Vec<String>> {
        let entries = fs::read_dir(folder).ok()?.filter_map(Result::ok);
        Some(entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
    };
    let Some(found) = names(folder).filter(|_| !folder.is_symlink()) else { return false };
    let is_early =
        |name: &String| [WEIGHTS, CONFIG, SLURM].contains(&name.as_str()) || is_lock(name) || is_temporary(name);
    // The weights folder is created before the config, so a config without one was not written by this program.
    let needs_weights = found.iter().any(|name| name == CONFIG || name == WEIGHTS);
    let has_no_weights = names(&folder.join(WEIGHTS)).map_or(!needs_weights, |names| names.is_empty());
    has_no_weights && found.iter().all(is_early)
}

/// Removes the folder of a run that was killed before its manifest, unless another process uses it.
///
/// # Errors
/// When another process has claimed it, or it cannot be removed.
pub(super) fn remove_begun(out: &Folder, name: &str) -> Result<(), RecordError> {
    let path = out.path().join(name);
    if !was_begun(&path) {
        return Ok(());
    }
    let folder = out.inside(name).map_err(|error| out.error(name, &error))?;
    let _claim = Claim::on(&folder)?;
    // Checked again: the process that held the lock until now may have completed the run.
    if was_begun(&path) {
        remove(out, name, &folder).map_err(|error| out.error(name, &error))?;
    }
    Ok(())
}

/// Removes a folder that has only files that a run writes before its manifest; with a job in it, only these files. If
/// another folder has replaced it, that one is not removed, unless it is empty.
pub(super) fn remove(out: &Folder, name: &str, folder: &Folder) -> io::Result<()> {
    // The config goes first: if this process is killed too, a config without weights must not be left.
    let _ = folder.remove(CONFIG);
    let _ = folder.remove_folder(WEIGHTS);
    let names = folder.names("")?;
    for name in names.iter().filter(|name| is_lock(name) || is_temporary(name)) {
        let _ = folder.remove(name);
    }
    if names.iter().any(|name| name == SLURM) { Ok(()) } else { out.remove_folder(name) }
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
            assert!(!was_begun(&root.path().join("link")), "a link");
        }
        fs::write(folder.join(".lock"), "77").unwrap();
        assert!(was_begun(&folder), "and it was claimed");
        fs::write(folder.join("config.toml"), "mine").unwrap();
        assert!(!was_begun(&folder), "a config of another program");
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
        let out = Folder::open(root.path()).unwrap();
        let remove_begun = || remove_begun(&out, "run");
        assert!(matches!(remove_begun(), Err(RecordError::Busy { .. })));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(100));
                fs::write(folder.join("manifest.json"), "{}").unwrap();
                drop(claim);
            });
            remove_begun().unwrap();
        });
        assert!(folder.join("manifest.json").exists());
        fs::remove_file(folder.join("manifest.json")).unwrap();
        remove_begun().unwrap();
        assert!(!folder.exists());
    }

    #[test]
    fn a_job_that_is_to_start_a_run_stays_in_its_folder() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("run");
        fs::create_dir_all(folder.join("slurm")).unwrap();
        fs::write(folder.join("slurm/job.sh"), "#!").unwrap();
        fs::create_dir(folder.join("weights")).unwrap();
        assert!(was_begun(&folder), "the job was killed before its run had a manifest");
        let run = super::super::run::tests::create(root.path(), Some("run")).unwrap();
        assert_eq!(fs::read_to_string(run.folder().join("slurm/job.sh")).unwrap(), "#!");
        assert!(!was_begun(&folder));
        let again = super::super::run::tests::create(root.path(), Some("run")).unwrap_err();
        assert!(matches!(again, RecordError::Exists { .. }));
    }

    #[test]
    fn files_that_were_being_written_go_and_others_stay() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let writing = ["", "weights", "state"].map(|inside| {
            fs::create_dir_all(at(inside)).unwrap();
            ["a.tmp", ".a.77.tmp"].iter().for_each(|name| fs::write(at(inside).join(name), "").unwrap());
            let file = fs::File::create(at(inside).join(".b.77.tmp")).unwrap();
            file.lock().unwrap();
            file
        });
        let run = Folder::open(root.path()).unwrap();
        ["", "weights", "state"].iter().for_each(|inside| run.clean(inside));
        for inside in ["", "weights", "state"].map(at) {
            let is_there = ["a.tmp", ".a.77.tmp", ".b.77.tmp"].map(|name| inside.join(name).exists());
            assert_eq!(is_there, [true, false, true], "the last is still being written");
        }
        drop(writing);
    }
}
