//! Lets tests make writing fail: [`check`] is called before each operation on a file.

use std::io;
use std::path::Path;

/// Lets an operation on a file happen.
#[cfg(not(test))]
#[inline]
pub fn check(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// Lets a file below a folder be locked.
#[cfg(not(test))]
#[inline]
pub fn check_lock(_folder: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub use failing::{Faults, check, check_lock};

#[cfg(test)]
mod failing {
    use std::ops::Range;
    use std::path::PathBuf;
    use std::sync::{Mutex, PoisonError};

    use super::{Path, io};

    /// Folders whose operations are counted, and which of them fail.
    static WATCHED: Mutex<Vec<Watched>> = Mutex::new(Vec::new());

    struct Watched {
        folder: PathBuf,
        seen: u64,
        failing: Range<u64>,
        has_locks: bool,
    }

    /// Makes operations on the files below a folder fail, as long as it lives.
    pub struct Faults(PathBuf);

    impl Faults {
        /// Operations of these numbers, counted from 0, fail.
        pub fn new(folder: &Path, failing: Range<u64>) -> Faults {
            Faults::watch(folder, failing, true)
        }

        /// Files cannot be locked, as on some network drives.
        pub fn without_locks(folder: &Path) -> Faults {
            Faults::watch(folder, 0..0, false)
        }

        fn watch(folder: &Path, failing: Range<u64>, has_locks: bool) -> Faults {
            let watched = Watched { folder: folder.to_path_buf(), seen: 0, failing, has_locks };
            WATCHED.lock().unwrap_or_else(PoisonError::into_inner).push(watched);
            Faults(folder.to_path_buf())
        }

        /// How many operations there were.
        pub fn seen(&self) -> u64 {
            let watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
            watched.iter().find(|one| one.folder == self.0).map_or(0, |one| one.seen)
        }
    }

    impl Drop for Faults {
        fn drop(&mut self) {
            WATCHED.lock().unwrap_or_else(PoisonError::into_inner).retain(|one| one.folder != self.0);
        }
    }

    /// Counts an operation; fails it when it is its turn.
    pub fn check(path: &Path) -> io::Result<()> {
        let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(one) = watched.iter_mut().find(|one| path.starts_with(&one.folder)) else { return Ok(()) };
        let number = one.seen;
        one.seen += 1;
        if one.failing.contains(&number) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// Fails where files cannot be locked.
    pub fn check_lock(folder: &Path) -> io::Result<()> {
        let watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
        let has_locks = watched.iter().all(|one| one.has_locks || !folder.starts_with(&one.folder));
        if has_locks { Ok(()) } else { Err(io::ErrorKind::Unsupported.into()) }
    }
}
