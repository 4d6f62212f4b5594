//! Which files of a data set are there already, and whether they are the right ones.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::archive::{Unfit, check_bytes, check_gzip};
use super::{Content, FetchError, RemoteFile};
use crate::data::idx_spellings;
use crate::{numbers, regular, system_errors};

/// What is there of a file.
pub enum Found {
    /// Nothing, or a part of an archive's files.
    Missing,
    /// The content that the catalogue states.
    Right,
    /// A file of that name with something else in it.
    Wrong { path: PathBuf, reason: String },
}

/// Looks for a file in a folder, under each name that `train` would find it by.
///
/// # Errors
/// When it cannot be read.
pub fn find(folder: &Path, file: &RemoteFile) -> Result<Found, FetchError> {
    match &file.content {
        Content::Gzip { bytes, sha256 } => {
            let spellings = idx_spellings(file.name.trim_end_matches(".gz"));
            let there = spellings.iter().map(|name| folder.join(name)).find(|path| path.exists());
            let Some(path) = there else { return Ok(Found::Missing) };
            Ok(match check_file(&path, *bytes, sha256)? {
                Ok(()) => Found::Right,
                Err(Unfit(reason)) => Found::Wrong { path, reason },
            })
        }
        // No sum of the members is known. Since they are written only from an archive of the right sum, and whole,
        // their sizes say enough.
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

/// Compares the content of a file, compressed or not.
fn check_file(path: &Path, bytes: u64, sha256: &str) -> Result<Result<(), Unfit>, FetchError> {
    let unread = |error: io::Error| FetchError::read(path, &error);
    let mut reader = BufReader::with_capacity(1 << 16, regular::open(path).map_err(unread)?);
    let is_gzip = reader.fill_buf().map_err(unread)?.starts_with(&[0x1F, 0x8B]);
    Ok(if is_gzip {
        check_gzip(reader, bytes, sha256)
    } else {
        check_bytes(reader, bytes, sha256, |error| Unfit(system_errors::system_error(error)))
    })
}
