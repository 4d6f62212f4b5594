//! A partial download: `<file>.part` next to the final file. It stays when the connection or the program breaks off.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::FetchError;
use crate::record::sync_folder;

/// The partial file of a download.
pub struct Part {
    path: PathBuf,
    file: File,
    len: u64,
}

impl Part {
    /// Opens the partial file of an earlier attempt, or creates an empty one.
    ///
    /// # Errors
    /// When it cannot be written, or another process is writing it.
    pub fn open(path: &Path) -> Result<Part, FetchError> {
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = open.map_err(|error| FetchError::write(path, &error))?;
        // On file systems without locks, the final checksum detects two writers.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(FetchError::Busy { path: path.to_path_buf() });
        }
        let len = file.seek(SeekFrom::End(0)).map_err(|error| FetchError::write(path, &error))?;
        Ok(Part { path: path.to_path_buf(), file, len })
    }

    /// Bytes downloaded so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        self.file.write_all(bytes).map_err(|error| FetchError::write(&self.path, &error))?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Empties the file.
    ///
    /// # Errors
    /// When the file cannot be truncated.
    pub fn clear(&mut self) -> Result<(), FetchError> {
        let cleared = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        cleared.map_err(|error| FetchError::write(&self.path, &error))?;
        self.len = 0;
        Ok(())
    }

    /// Reads it from its start.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn reader(&self) -> Result<Box<dyn BufRead>, FetchError> {
        self.open_again().map_err(|error| FetchError::read(&self.path, &error))
    }

    /// As [`Part::reader`], with the error as the system gives it.
    pub fn open_again(&self) -> io::Result<Box<dyn BufRead>> {
        Ok(Box::new(BufReader::with_capacity(1 << 16, File::open(&self.path)?)))
    }

    /// Renames the complete file to its final name. After a power cut it exists as a whole or not at all.
    ///
    /// # Errors
    /// When it cannot be flushed to disk or renamed.
    pub fn keep_as(self, path: &Path) -> Result<(), FetchError> {
        let kept = self.file.sync_all().and_then(|()| fs::rename(&self.path, path)).and_then(|()| sync_folder(path));
        kept.map_err(|error| FetchError::write(path, &error))
    }

    /// Removes it.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(self) -> Result<(), FetchError> {
        fs::remove_file(&self.path).map_err(|error| FetchError::write(&self.path, &error))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // An empty file is useless to a later attempt, but harmless if it cannot be removed.
        if self.len == 0 {
            let _ = fs::remove_file(&self.path);
        }
    }
}
