//! Finds existing files of a data set, and checks that they are the correct ones.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::FetchError;
use super::archive::{Unfit, check_bytes, check_gzip};
use crate::data::idx_spellings;
use crate::data_sets::{Content, RemoteFile};
use crate::{numbers, regular, system_errors};

/// State of a file on disk.
pub enum Found {
    /// Missing, or an archive of which some files are missing.
    Missing,
    /// The expected content.
    Right,
    /// A file of that name with another content.
    Wrong { path: PathBuf, reason: String },
}

/// Looks for a file in a folder. If the checksum of its decompressed content is known, all names are tried under which
/// `train` would find it; otherwise only its own name, which `train` tries first.
///
/// # Errors
/// When it cannot be read.
pub fn find(folder: &Path, file: &RemoteFile) -> Result<Found, FetchError> {
    match &file.content {
        Content::Gzip { bytes, sha256 } => {
            let spellings = idx_spellings(file.name.trim_end_matches(".gz"));
            let there = spellings.iter().map(|name| folder.join(name)).find(|path| path.exists());
            there.map_or(Ok(Found::Missing), |path| {
                checked(path, |reader, is_gzip| match is_gzip {
                    true => check_gzip(reader, *bytes, sha256),
                    false => check_bytes(reader, *bytes, sha256, unread),
                })
            })
        }
        Content::File { bytes, sha256 } => {
            let path = folder.join(file.name);
            match path.exists() {
                true => checked(path, |reader, _| check_bytes(reader, *bytes, sha256, unread)),
                false => Ok(Found::Missing),
            }
        }
        // The members have no known checksums. Their sizes are enough: they are only written as a whole, and only from
        // an archive with the correct checksum.
        Content::Archive { members, .. } => {
            let mut is_missing = false;
            for member in *members {
                let path = folder.join(member.name());
                match fs::metadata(&path) {
                    Ok(metadata) if metadata.len() == member.bytes => {}
                    Ok(metadata) => {
                        let [found, wanted] = [metadata.len(), member.bytes].map(numbers::count);
                        return Ok(Found::Wrong { path, reason: format!("it has {found} bytes, not {wanted}") });
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => is_missing = true,
                    Err(error) => return Err(FetchError::read(&path, &error)),
                }
            }
            Ok(if is_missing { Found::Missing } else { Found::Right })
        }
    }
}

fn unread(error: &io::Error) -> Unfit {
    Unfit(system_errors::system_error(error))
}

/// Checks an existing file; the flag passed to `check` is whether it is gzipped.
fn checked(path: PathBuf, check: impl FnOnce(BufReader<File>, bool) -> Result<(), Unfit>) -> Result<Found, FetchError> {
    let read_error = |error: io::Error| FetchError::read(&path, &error);
    let mut reader = BufReader::with_capacity(1 << 16, regular::open(&path).map_err(read_error)?);
    let is_gzip = reader.fill_buf().map_err(read_error)?.starts_with(&[0x1F, 0x8B]);
    Ok(match check(reader, is_gzip) {
        Ok(()) => Found::Right,
        Err(Unfit(reason)) => Found::Wrong { path, reason },
    })
}
