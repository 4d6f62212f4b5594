//! From a file to its tensors: the format is recognized by its first bytes. Nothing is unpacked to disk, and no more memory
//! is taken than the file's size allows for.

use std::collections::HashSet;
use std::io::{self, Cursor, Read, Seek};
use std::path::Path;

use safetensors::SafeTensors;
use serde_json::{Map, Value};
use zip::ZipArchive;
use zip::result::ZipError;

use super::error::ImportError;
use super::npy;
use super::tensor::{Dtype, Tensor};
use super::torch;
use crate::regular;

/// Largest file that is read, in bytes.
const FILE_MAX: u64 = 64 << 30;

/// How much more than the file's size its unpacked content and its tensors may take together. Weights do not compress well.
const GROWTH_MAX: u64 = 8;

/// What tensors may take beyond that, in bytes.
const SLACK: u64 = 1 << 20;

/// Longest name of a tensor, in bytes.
const NAME_MAX: usize = 512;

/// Most tensors in a file.
const TENSORS_MAX: usize = 100_000;

/// Longest header of a safetensors file that is read to know the sizes of its tensors, in bytes.
const HEADER_MAX: u64 = 100_000_000;

/// The tensors of a file.
pub type Tensors = Vec<Tensor>;

/// Reads all tensors of a file.
///
/// # Errors
/// When it cannot be read, is of an unknown format or damaged, or asks to run code.
pub fn read(path: &Path) -> Result<Tensors, ImportError> {
    read_bytes(path, &content(path)?)
}

/// The bytes of a file.
pub(super) fn content(path: &Path) -> Result<Vec<u8>, ImportError> {
    let bytes = regular::open(path).and_then(|file| regular::read_all(file, FILE_MAX));
    bytes.map_err(|error| ImportError::read(path, &error))
}

/// Whether a file starts like a safetensors file: with the length of its header, which may be any number that is not
/// absurdly large.
pub(super) fn is_safetensors(bytes: &[u8]) -> bool {
    matches!(bytes, [_, _, _, _, _, _, 0, 0, b'{', ..])
}

/// Bytes of memory that a file, its tensors and a model with them take, by the sizes that the file names; as if all
/// numbers had 32 bits where it names none.
pub(super) fn memory_bytes(path: &Path) -> io::Result<u64> {
    let mut file = regular::open(path)?;
    let len = file.metadata()?.len();
    let mut start = Vec::new();
    file.by_ref().take(9).read_to_end(&mut start)?;
    // Each value is once in the file's tensors and once in the model.
    let with_values = |bytes: u64| len.saturating_add(bytes.saturating_mul(2));
    if start.starts_with(b"PK") {
        file.rewind()?;
        return Ok(with_values(ZipArchive::new(file).map_or(len, |mut zip| unpacked(&mut zip))));
    }
    if is_safetensors(&start) {
        let length = u64::from_le_bytes(start[..8].try_into().expect("eight bytes")).min(HEADER_MAX);
        file.take(length.saturating_sub(1)).read_to_end(&mut start)?;
        if let Ok(header) = serde_json::from_slice::<Map<String, Value>>(&start[8..]) {
            let shapes = header.values().filter_map(|tensor| tensor["shape"].as_array());
            let values = |shape: &Vec<Value>| {
                shape.iter().fold(4, |bytes: u64, axis| bytes.saturating_mul(axis.as_u64().unwrap_or(0)))
            };
            return Ok(with_values(shapes.map(values).fold(0, u64::saturating_add)));
        }
    }
    Ok(with_values(len))
}

/// Reads all tensors of a file in memory; `path` is what errors call it.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(path: &Path, bytes: &[u8]) -> Result<Tensors, ImportError> {
    let budget = &mut Budget { path, left: GROWTH_MAX.saturating_mul(bytes.len() as u64).saturating_add(SLACK) };
    let tensors = match bytes {
        [b'P', b'K', 3 | 5, 4 | 6, ..] => archive(path, bytes, budget)?,
        bytes if is_safetensors(bytes) => safetensors(path, bytes, budget)?,
        [0x80, 2..=5, ..] => torch::read_legacy(path, bytes, budget)?,
        _ => return Err(ImportError::Format { path: path.to_path_buf() }),
    };
    // A tensor without values has nothing to load, and axes that no memory stands for.
    let tensors: Tensors = tensors.into_iter().filter(|tensor| !tensor.values.is_empty()).collect();
    match tensors.iter().find(|tensor| tensor.values.iter().any(|value| !value.is_finite())) {
        Some(tensor) => Err(ImportError::NotFinite { path: path.to_path_buf(), tensor: tensor.name.clone() }),
        None => Ok(tensors),
    }
}

/// Memory that the tensors of a file may take.
pub(super) struct Budget<'a> {
    path: &'a Path,
    left: u64,
}

impl Budget<'_> {
    /// Takes memory for so many values in f32.
    pub fn take_values(&mut self, count: usize) -> Result<(), ImportError> {
        self.take((count as u64).saturating_mul(size_of::<f32>() as u64))
    }

    fn take(&mut self, bytes: u64) -> Result<(), ImportError> {
        let Some(left) = self.left.checked_sub(bytes) else {
            return Err(ImportError::Bomb { path: self.path.to_path_buf() });
        };
        self.left = left;
        Ok(())
    }
}

/// Checks that a file names tensors as a model does: each once, not too many, and not at length.
pub(super) fn check_names<'n>(path: &Path, names: impl Iterator<Item = &'n str>) -> Result<(), ImportError> {
    let mut known = HashSet::new();
    for name in names {
        if name.len() > NAME_MAX {
            return Err(ImportError::damaged(path, format!("the name of a tensor has {} bytes", name.len())));
        }
        if !known.insert(name) {
            return Err(ImportError::damaged(path, format!("two tensors are named `{name}`")));
        }
        if known.len() > TENSORS_MAX {
            return Err(ImportError::damaged(path, format!("it has more than {TENSORS_MAX} tensors")));
        }
    }
    Ok(())
}

fn safetensors(path: &Path, bytes: &[u8], budget: &mut Budget) -> Result<Tensors, ImportError> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| ImportError::damaged(path, error))?;
    check_names(path, file.names().into_iter())?;
    let tensors = file.tensors().into_iter().map(|(name, view)| {
        use safetensors::Dtype as Kind;
        let integer = |bytes, signed| Dtype::Integer { bytes, signed };
        let dtype = match view.dtype() {
            Kind::F32 => Dtype::Float32,
            Kind::F64 => Dtype::Float64,
            Kind::F16 => Dtype::Float16,
            Kind::BF16 => Dtype::Bfloat16,
            Kind::I64 => integer(8, true),
            Kind::I32 => integer(4, true),
            Kind::I16 => integer(2, true),
            Kind::I8 => integer(1, true),
            Kind::U8 | Kind::BOOL => integer(1, false),
            other => return Err(ImportError::unsupported(path, format!("the tensor `{name}` holds {other:?}"))),
        };
        budget.take_values(view.data().len() / dtype.size())?;
        Ok(Tensor { name, shape: view.shape().to_vec(), values: dtype.values(view.data()), dtype })
    });
    tensors.collect()
}

/// A zip file: of PyTorch, or of NumPy.
fn archive(path: &Path, bytes: &[u8], budget: &mut Budget) -> Result<Tensors, ImportError> {
    let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(|error| zip_error(path, &error))?;
    // Refused before anything is unpacked.
    if unpacked(&mut zip) > budget.left {
        return Err(ImportError::Bomb { path: path.to_path_buf() });
    }
    let names =
        zip.file_names().map(|name| name.map(|name| name.into_owned())).collect::<Result<Vec<String>, ZipError>>();
    let names = names.map_err(|error| zip_error(path, &error))?;
    let is_outside = |name: &&String| {
        Path::new(name.as_str())
            .components()
            .any(|part| !matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir))
    };
    if let Some(name) = names.iter().find(is_outside) {
        return Err(ImportError::damaged(path, format!("it holds a file outside of it, `{name}`")));
    }
    if let Some(pickle) = names.iter().find(|name| name.rsplit('/').next() == Some("data.pkl")) {
        return torch::read_zip(path, &mut zip, pickle, budget);
    }
    let arrays: Vec<&String> = names.iter().filter(|name| name.ends_with(".npy")).collect();
    if arrays.is_empty() {
        return Err(ImportError::Format { path: path.to_path_buf() });
    }
    check_names(path, arrays.iter().map(|name| name.as_str()))?;
    let read = |name: &&String| {
        let bytes = entry(path, &mut zip, name, budget)?;
        let name = name.strip_suffix(".npy").unwrap_or(name).to_string();
        npy::read(path, name, &bytes, budget)
    };
    arrays.iter().map(read).collect()
}

/// The bytes that the files in a zip file have, by its directory.
fn unpacked(zip: &mut ZipArchive<impl Read + Seek>) -> u64 {
    let count = zip.len();
    let size = |index| zip.by_index_raw(index).map_or(0, |file| file.size());
    (0..count).map(size).fold(0, u64::saturating_add)
}

/// The content of a file in a zip file, with its checksum checked.
pub(super) fn entry(
    path: &Path,
    zip: &mut ZipArchive<Cursor<&[u8]>>,
    name: &str,
    budget: &mut Budget,
) -> Result<Vec<u8>, ImportError> {
    let file = zip.by_name(name).map_err(|error| zip_error(path, &error))?;
    let size = file.size();
    budget.take(size)?;
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    // What it says of its size need not be true.
    file.take(size + 1).read_to_end(&mut bytes).map_err(|error| damaged_entry(path, name, &error))?;
    if bytes.len() as u64 != size {
        return Err(ImportError::damaged(path, format!("`{name}` has another length than its header says")));
    }
    Ok(bytes)
}

fn damaged_entry(path: &Path, name: &str, error: &io::Error) -> ImportError {
    ImportError::damaged(path, format!("`{name}` cannot be unpacked: {error}"))
}

fn zip_error(path: &Path, error: &ZipError) -> ImportError {
    match error {
        ZipError::UnsupportedArchive(reason) => ImportError::unsupported(path, format!("the zip file has {reason}")),
        error => ImportError::damaged(path, format!("the zip file is cut off or changed: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_model_has_are_refused() {
        let check = |names: &[String]| {
            let error = check_names(Path::new("a"), names.iter().map(String::as_str));
            error.err().map(|error| error.to_string())
        };
        let many: Vec<String> = (0..=TENSORS_MAX).map(|i| i.to_string()).collect();
        assert_eq!(check(&many[1..]), None);
        assert_eq!(check(&many).unwrap(), "the weights are damaged: it has more than 100000 tensors (a)");
        assert_eq!(check(&["b".repeat(512)]), None);
        let long = "the weights are damaged: the name of a tensor has 513 bytes (a)";
        assert_eq!(check(&["b".repeat(513)]).unwrap(), long);
    }
}
