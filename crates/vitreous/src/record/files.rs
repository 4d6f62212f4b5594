//! Files that are whole or not there: temporary file, fsync, rename, fsync of the folder.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::{Folder, RecordError, faults};
use crate::numbers::hexadecimal;
use crate::regular;

/// Replaces a file by `bytes`; readers see the old content or the new one, even after a power cut.
///
/// # Errors
/// When the folder cannot be written. The old file is then unchanged, unless only the flush of the folder to disk
/// failed: then it is replaced.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), RecordError> {
    replace_file(path, |file| file.write_all(bytes)).map(|_| ())
}

/// As [`write_atomically`], for files written piece by piece. Returns the SHA-256 of what was written, in hexadecimal.
///
/// # Errors
/// When the folder cannot be written, or `write` gives up; as with [`write_atomically`].
pub fn replace_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<Output>) -> io::Result<()>,
) -> Result<String, RecordError> {
    let folder = Folder::open(path.parent().unwrap_or(Path::new("")));
    let folder = folder.map_err(|error| RecordError::write(path, &error))?;
    folder.replace(&path.file_name().unwrap_or_default().to_string_lossy(), write)
}

/// A file that is being written, and the hash of its content so far.
pub struct Output {
    pub(super) file: File,
    path: PathBuf,
    pub(super) hash: Sha256,
}

impl Output {
    pub(super) fn new(file: File, path: PathBuf) -> Output {
        Output { file, path, hash: Sha256::new() }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        faults::check(&self.path)?;
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Most bytes that are written to measure a disk, and the time after which no more are.
const MEASURED_BYTES: u64 = 64 << 20;
const MEASURED_TIME: Duration = Duration::from_secs(2);

/// Estimates how many seconds it takes to write so many bytes into a folder, by writing some of them to a file that is
/// removed.
///
/// # Errors
/// When the folder cannot be written.
pub fn seconds_to_write(folder: &Path, bytes: u64) -> io::Result<f64> {
    let path = folder.join(temporary_name("measured"));
    let mut file = File::options().write(true).create_new(true).open(&path)?;
    // Not all alike: some disks compress.
    let mut words = (1_u64..).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29));
    let clock = Instant::now();
    // Twice as many each time: a slow disk is not asked for much, and on a fast one a flush counts for little.
    let (mut written, mut next) = (0, 1 << 20);
    let measured = loop {
        if written >= bytes.min(MEASURED_BYTES) || clock.elapsed() >= MEASURED_TIME {
            break Ok(clock.elapsed().as_secs_f64() / written.max(1) as f64 * bytes as f64);
        }
        let piece: Vec<u8> =
            words.by_ref().take(next.min(bytes - written).div_ceil(8) as usize).flat_map(u64::to_le_bytes).collect();
        if let Err(error) = file.write_all(&piece).and_then(|()| file.sync_data()) {
            break Err(error);
        }
        written += piece.len() as u64;
        next *= 2;
    };
    let _ = std::fs::remove_file(&path);
    measured
}

/// Returns the SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// When it cannot be read.
pub fn sha256_of(path: &Path) -> Result<String, RecordError> {
    regular::open(path).and_then(sha256_of_file).map_err(|error| RecordError::read(path, &error))
}

/// As [`sha256_of`], of an open file.
pub(crate) fn sha256_of_file(mut file: File) -> io::Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut file, &mut hash)?;
    Ok(hexadecimal(&hash.finalize()))
}

/// Returns the SHA-256 of bytes, in hexadecimal.
pub fn sha256_of_bytes(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// Names the file that becomes another one when it is whole. No two are equal, not even those of processes with one number
/// on two machines that share a disk.
pub(super) fn temporary_name(name: &str) -> String {
    format!(".{name}.{:016x}.tmp", random())
}

/// Returns random bits of the system: the standard library has a key of them for each hash map.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Whether a file is one that was being written; see [`temporary_name`].
pub(super) fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".tmp")
}

/// Whether it is one that was to become this file.
pub(super) fn is_temporary_of(of: &str, name: &str) -> bool {
    is_temporary(name) && name[1..].strip_prefix(of).is_some_and(|rest| rest.starts_with('.'))
}

/// Makes a new name last: its folder is what was changed.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    Folder::open(path.parent().unwrap_or(Path::new("")))?.sync("")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write_atomically(&path, b"old").unwrap();
        write_atomically(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_time_of_a_write_is_estimated_from_a_part_of_it_that_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let estimate = |bytes| seconds_to_write(folder.path(), bytes).unwrap();
        assert_eq!(estimate(0), 0.0);
        // Of a terabyte, little is written, and for two seconds at most.
        let clock = Instant::now();
        assert!(estimate(1 << 40) > 1000.0 * clock.elapsed().as_secs_f64());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(seconds_to_write(&folder.path().join("none"), 1).is_err());
    }

    #[test]
    fn the_hash_is_that_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        let written = replace_file(&path, |file| (0..3).try_for_each(|_| file.write_all(&[7; 700_000]))).unwrap();
        assert_eq!(written, sha256_of(&path).unwrap());
        assert_eq!(written, sha256_of_bytes(&[7; 2_100_000]));
    }

    #[test]
    fn a_write_that_gives_up_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write_atomically(&path, b"old").unwrap();
        let error = replace_file(&path, |file| {
            file.write_all(b"half of the n")?;
            file.flush()?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        let expected = format!("cannot write: no space is left ({})", path.display());
        assert_eq!(error.unwrap_err().to_string(), expected);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
