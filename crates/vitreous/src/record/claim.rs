//! Who works in a run's folder: one process trains there, and whoever changes the manifest does so alone.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::RecordError;

/// File that is locked while a process trains in a run's folder; it holds the process's number.
pub(super) const CLAIM: &str = ".lock";

/// How long a process that was killed may take to let go of its claim: until then it seems to be at work.
const DYING: Duration = Duration::from_secs(1);

/// The claim of this process on the folder of a run; it ends with the value, or with the process.
#[derive(Debug)]
pub struct Claim {
    _file: File,
}

impl Claim {
    /// Claims the folder of a run for this process, which alone may then train there.
    ///
    /// # Errors
    /// When another process has claimed it, or the folder cannot be written.
    pub fn of(folder: &Path) -> Result<Claim, RecordError> {
        let path = folder.join(CLAIM);
        let opened = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        let mut file = opened.map_err(|error| RecordError::write(&path, &error))?;
        let start = Instant::now();
        // Where files cannot be locked, nobody can be seen at work.
        while let Err(TryLockError::WouldBlock) = file.try_lock() {
            if start.elapsed() >= DYING {
                let mut text = String::new();
                // Who cannot be named is another process all the same.
                let _ = file.read_to_string(&mut text);
                return Err(RecordError::Busy { path: folder.to_path_buf(), pid: text.trim().parse().ok() });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let noted = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        noted.map_err(|error| RecordError::write(&path, &error))?;
        Ok(Claim { _file: file })
    }
}

/// Locks a folder; where that cannot be done there is nothing to hold. Network drives may have no locks at all, or, as NFS,
/// only for what is open for writing, which a folder never is.
#[cfg(unix)]
pub(super) fn lock_folder(folder: &Path) -> Result<Option<File>, RecordError> {
    let file = File::open(folder).map_err(|error| RecordError::read(folder, &error))?;
    loop {
        match file.lock() {
            Ok(()) => return Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Ok(None),
        }
    }
}

#[cfg(not(unix))]
pub(super) fn lock_folder(_folder: &Path) -> Result<Option<File>, RecordError> {
    Ok(None)
}

#[cfg(test)]
mod tests {
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
}
