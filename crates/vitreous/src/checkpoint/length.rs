//! Compares a safetensors file's length with its header, before the whole file is read or hashed: a sparse file of any
//! length takes no space on disk.

use std::fs::File;
use std::io::{self, Read, Seek};

use safetensors::SafeTensorError;
use safetensors::tensor::Metadata;

use crate::{numbers, regular};

/// Largest header that is read, in bytes; the format has the same limit.
const HEADER_MAX: u64 = 100_000_000;

/// Checks that a file is exactly as long as its header says; returns its length. Reads only the header.
///
/// # Errors
/// When it cannot be read. A damaged file is an error of the kind [`io::ErrorKind::InvalidData`].
pub(super) fn check(file: &mut File) -> io::Result<u64> {
    const START: u64 = size_of::<u64>() as u64;
    let len = file.metadata()?.len();
    let damaged = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    if len < START {
        return Err(damaged(format!("{len} bytes are too few")));
    }
    let mut start = [0; START as usize];
    file.read_exact(&mut start)?;
    let header_len = u64::from_le_bytes(start);
    if header_len > len - START {
        return Err(damaged(format!("the header is longer than the file, {}", numbers::bytes(len))));
    }
    if header_len > HEADER_MAX {
        let [found, max] = [header_len, HEADER_MAX].map(numbers::bytes);
        return Err(damaged(format!("the header has {found}, more than {max}")));
    }
    let mut header = vec![0; header_len as usize];
    file.read_exact(&mut header)?;
    let header: Metadata = serde_json::from_slice(&header)
        .map_err(|error| damaged(SafeTensorError::InvalidHeaderDeserialization(error).to_string()))?;
    if (header.data_len() as u64).checked_add(START + header_len) != Some(len) {
        return Err(damaged(format!("the header promises another size than {len} bytes")));
    }
    file.rewind()?;
    Ok(len)
}

/// Reads a file that is as long as its header says.
///
/// # Errors
/// As [`check`].
pub(super) fn read(mut file: File) -> io::Result<Vec<u8>> {
    let len = check(&mut file)?;
    regular::read_all(file, len)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_longer_than_its_header_says_is_refused_before_its_end_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let text = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        let whole = [&(text.len() as u64).to_le_bytes(), text.as_bytes(), &[7; 8]].concat();
        fs::write(&path, &whole).unwrap();
        assert_eq!(read(File::open(&path).unwrap()).unwrap(), whole);
        // More than any memory; hashing would take hours.
        File::options().write(true).open(&path).unwrap().set_len(1 << 43).unwrap();
        let refused = || {
            let error = read(File::open(&path).unwrap()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            error.to_string()
        };
        assert_eq!(refused(), "the header promises another size than 8796093022208 bytes");
        fs::write(&path, 100_000_001u64.to_le_bytes()).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(1 << 43).unwrap();
        assert_eq!(refused(), "the header has 100.0 MB, more than 100.0 MB");
    }
}
