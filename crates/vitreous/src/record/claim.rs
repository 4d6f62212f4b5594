//! Locks of a run folder: one process trains there, and one process at a time changes the manifest.

use std::path::Path;
use std::time::Duration;

use super::lock::{self, Lock, Refused};
use super::{Folder, RecordError};

/// File that is locked while a process trains in a run folder; it contains the process ID.
pub(super) const CLAIM: &str = ".lock";

/// File that is locked while a process changes a manifest, or creates a run in a folder of runs. The folder itself is
/// not locked, because the caller may have locked it, as `flock runs vitreous train` does.
pub(super) const CHANGE: &str = ".change.lock";

/// How long a killed process may take to release its lock.
const DYING: Duration = Duration::from_secs(1);

/// How long to wait for other processes that change a manifest.
const CHANGING: Duration = Duration::from_secs(30);

/// The claim of this process on the folder of a run; it ends with the value, or with the process.
#[derive(Debug)]
pub struct Claim {
    folder: Folder,
    lock: Lock,
}

impl Claim {
    /// Claims the folder of a run for this process, which alone may then train there.
    ///
    /// # Errors
    /// When another process has claimed it, or the folder cannot be written.
    pub fn of(folder: &Path) -> Result<Claim, RecordError> {
        Claim::on(&Folder::open(folder).map_err(|error| RecordError::write(folder, &error))?)
    }

    /// Whether a process trains in a folder now. Nothing is changed there, and nothing waited for.
    pub fn is_taken(folder: &Folder) -> bool {
        lock::is_taken(folder, CLAIM)
    }

    pub(super) fn on(folder: &Folder) -> Result<Claim, RecordError> {
        let lock = Lock::take(folder, CLAIM, DYING).map_err(|refused| match refused {
            Refused::Busy(holder) => RecordError::Busy { path: folder.path().to_path_buf(), holder },
            Refused::Failed(error) => error,
        })?;
        Ok(Claim { folder: folder.clone(), lock })
    }

    /// The folder.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Checks that the folder is where it was, and still this process's.
    ///
    /// # Errors
    /// When it was moved or deleted, or the claim was.
    pub fn check(&self) -> Result<(), RecordError> {
        self.folder.check()?;
        match self.lock.is_held() {
            Ok(true) => Ok(()),
            Ok(false) => Err(RecordError::Unclaimed { path: self.folder.path().to_path_buf() }),
            Err(error) => Err(self.folder.error(CLAIM, &error)),
        }
    }
}

/// Excludes others from changing a manifest, or the runs in a folder, as long as the value lives.
pub(super) fn lock_changes(folder: &Folder) -> Result<Lock, RecordError> {
    Lock::take_passing(folder, CHANGE, CHANGING).map_err(|refused| match refused {
        Refused::Busy(holder) => RecordError::Changing { path: folder.path().to_path_buf(), holder },
        Refused::Failed(error) => error,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_run_is_claimed_once_and_the_claimant_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let claim = Claim::of(folder.path()).unwrap();
        let error = Claim::of(folder.path()).unwrap_err();
        let expected = format!("process {} trains in this folder ({})", std::process::id(), folder.path().display());
        assert_eq!(error.to_string(), expected);
        drop(claim);
        Claim::of(folder.path()).unwrap();
    }

    #[test]
    fn a_claim_that_ends_in_a_moment_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let claim = Claim::of(folder.path()).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(DYING / 10);
                drop(claim);
            });
            Claim::of(folder.path()).unwrap();
        });
    }

    #[cfg(unix)]
    #[test]
    fn a_claim_ends_when_its_folder_is_moved_or_deleted_or_its_file_is() {
        let root = tempfile::tempdir().unwrap();
        let [path, other] = ["run", "other"].map(|name| root.path().join(name));
        let claimed = || {
            fs::create_dir(&path).unwrap();
            let claim = Claim::of(&path).unwrap();
            assert_eq!(claim.check(), Ok(()));
            claim
        };
        let gone = Err(RecordError::Gone { path: path.clone() });
        let claim = claimed();
        fs::rename(&path, &other).unwrap();
        assert_eq!(claim.check(), gone, "it was moved");
        fs::create_dir(&path).unwrap();
        assert_eq!(claim.check(), gone, "another one has taken its place");
        fs::remove_dir(&path).unwrap();
        let claim = claimed();
        fs::remove_dir_all(&path).unwrap();
        assert_eq!(claim.check(), gone, "it was deleted");
        let claim = claimed();
        fs::remove_file(path.join(CLAIM)).unwrap();
        assert_eq!(claim.check(), Err(RecordError::Unclaimed { path: path.clone() }));
    }
}
