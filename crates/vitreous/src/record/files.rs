//! Files that are whole or not there: temporary file, fsync, rename, fsync of the folder.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{RecordError, faults};

/// Replaces a file by `bytes`; whoever reads it finds the old one or the new one, after a power cut too.
///
/// # Errors
/// When the folder cannot be written. The old file is then as it was; it is replaced all the same where only the folder
/// could not be brought to the disk.
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
    let temporary = temporary_name(path);
    let replaced = Output::create(&temporary).and_then(|output| {
        let mut output = BufWriter::with_capacity(1 << 20, output);
        write(&mut output)?;
        let output = output.into_inner()?;
        faults::check(&temporary)?;
        output.file.sync_all()?;
        faults::check(path)?;
        fs::rename(&temporary, path)?;
        sync_folder(path)?;
        Ok(hexadecimal(output.hash))
    });
    replaced.map_err(|error| {
        // What is left of the attempt is of no use; that it cannot be removed changes nothing.
        let _ = fs::remove_file(&temporary);
        RecordError::write(path, &error)
    })
}

/// A file that is being written, and the hash of what it was given so far.
pub struct Output {
    file: File,
    path: PathBuf,
    hash: Sha256,
}

impl Output {
    fn create(path: &Path) -> io::Result<Output> {
        faults::check(path)?;
        Ok(Output { file: File::create(path)?, path: path.to_path_buf(), hash: Sha256::new() })
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

/// Returns the SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// When it cannot be read.
pub fn sha256_of(path: &Path) -> Result<String, RecordError> {
    let mut hash = Sha256::new();
    let copied = File::open(path).and_then(|mut file| io::copy(&mut file, &mut hash));
    copied.map_err(|error| RecordError::read(path, &error))?;
    Ok(hexadecimal(hash))
}

/// Returns the SHA-256 of bytes, in hexadecimal.
pub fn sha256_of_bytes(bytes: &[u8]) -> String {
    hexadecimal(Sha256::new_with_prefix(bytes))
}

/// Writes a hash in hexadecimal.
pub(crate) fn hexadecimal(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn temporary_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

/// Whether a file is one that was being written; see [`temporary_name`].
pub(super) fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".tmp")
}

/// Makes a new name last: its folder is what was changed.
#[cfg(unix)]
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    faults::check(path)?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(not(unix))]
pub(crate) fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
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
