//! Regular files, opened without waiting and read up to a stated size. A FIFO in the place of a file would block, a device
//! may never end, and a file with holes can be larger than the memory.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

use crate::numbers;

/// Largest config or sweep file that is read, in bytes.
pub const CONFIG_MAX: u64 = 16 << 20;

/// Opens a file for reading.
///
/// # Errors
/// When it cannot be read or is not a regular file.
pub fn open(path: &Path) -> io::Result<File> {
    // Opening a device may have side effects, so the path is checked first, and the opened file again.
    check(&fs::metadata(path)?)?;
    let mut options = OpenOptions::new();
    options.read(true);
    without_waiting(&mut options);
    only_regular(options.open(path)?)
}

/// Reads a file.
///
/// # Errors
/// When it cannot be read, is not a regular file, or has more than `max` bytes.
pub fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    read_all(open(path)?, max)
}

/// Reads a file of text.
///
/// # Errors
/// As [`read`], and when it is not UTF-8.
pub fn read_text(path: &Path, max: u64) -> io::Result<String> {
    text(read(path, max)?)
}

/// Returns bytes as text.
///
/// # Errors
/// When they are not UTF-8.
pub(crate) fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        io::Error::new(io::ErrorKind::InvalidData, format!("not valid UTF-8 (line {line})"))
    })
}

/// Reads the rest of an open file.
pub(crate) fn read_all(file: File, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let length = file.metadata()?.len();
    if length <= max {
        bytes.reserve_exact(usize::try_from(length).unwrap_or(0));
        // It may grow while it is read.
        file.take(max + 1).read_to_end(&mut bytes)?;
    }
    if length.max(bytes.len() as u64) > max {
        return Err(io::Error::other(format!("the file is larger than {}", numbers::bytes(max))));
    }
    Ok(bytes)
}

/// Returns a file that was just opened, if it is a regular one.
pub(crate) fn only_regular(file: File) -> io::Result<File> {
    check(&file.metadata()?)?;
    Ok(file)
}

fn check(found: &Metadata) -> io::Result<()> {
    match found.is_file() {
        true => Ok(()),
        false if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        false => Err(io::Error::other("not a regular file")),
    }
}

#[cfg(unix)]
fn without_waiting(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;
    options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
}

#[cfg(not(unix))]
fn without_waiting(_: &mut OpenOptions) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_bound_and_not_beyond() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        fs::write(&path, "seven b").unwrap();
        assert_eq!(read_text(&path, 7).unwrap(), "seven b");
        assert_eq!(text(b"a\nb\n\xE9".to_vec()).unwrap_err().to_string(), "not valid UTF-8 (line 3)");
        assert_eq!(read(&path, 6).unwrap_err().to_string(), "the file is larger than 6 B");
        File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(read(&path, 7_000_000).unwrap_err().to_string(), "the file is larger than 7.0 MB");
        assert_eq!(read(folder.path(), 7).unwrap_err().kind(), io::ErrorKind::IsADirectory);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_fifo_and_a_device_are_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        for path in [fifo.as_path(), Path::new("/dev/zero")] {
            assert_eq!(read(path, 7).unwrap_err().to_string(), "not a regular file");
        }
    }
}
