//! From a file to its tensors: the format is recognized by its first bytes. Nothing is unpacked to disk, and no more memory
//! is taken than the file's size allows for.

use std::io::{self, Cursor, Read};
use std::path::Path;

use safetensors::SafeTensors;
use zip::ZipArchive;
use zip::result::ZipError;

use super::error::ImportError;
use super::npy;
use super::tensor::{Dtype, Tensor};
use super::torch;
use crate::regular;

/// Largest file that is read, in bytes.
const FILE_MAX: u64 = 64 << 30;

/// How much larger than the file its tensors may be. Weights do not compress well.
const GROWTH_MAX: u64 = 100;

/// What tensors may take beyond that, in bytes.
const SLACK: u64 = 1 << 20;

/// The tensors of a file.
pub type Tensors = Vec<Tensor>;

/// Reads all tensors of a file.
///
/// # Errors
/// When it cannot be read, is of an unknown format or damaged, or asks to run code.
pub fn read(path: &Path) -> Result<Tensors, ImportError> {
    let bytes = regular::open(path).and_then(|file| regular::read_all(file, FILE_MAX));
    read_bytes(path, &bytes.map_err(|error| ImportError::read(path, &error))?)
}

/// Reads all tensors of a file in memory; `path` is what errors call it.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(path: &Path, bytes: &[u8]) -> Result<Tensors, ImportError> {
    let budget = &mut Budget { path, left: GROWTH_MAX.saturating_mul(bytes.len() as u64).saturating_add(SLACK) };
    let tensors = match bytes {
        [b'P', b'K', 3 | 5, 4 | 6, ..] => archive(path, bytes, budget)?,
        [0x80, ..] => torch::read_legacy(path, bytes, budget)?,
        [_, _, _, _, _, _, _, _, b'{', ..] => safetensors(path, bytes, budget)?,
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
    /// Takes memory for so many numbers of so many bytes, and for their values in f32.
    pub fn take(&mut self, count: usize, size: usize) -> Result<(), ImportError> {
        let bytes = (count as u64).saturating_mul(size.max(size_of::<f32>()) as u64);
        let Some(left) = self.left.checked_sub(bytes) else {
            return Err(ImportError::Bomb { path: self.path.to_path_buf() });
        };
        self.left = left;
        Ok(())
    }
}

fn safetensors(path: &Path, bytes: &[u8], budget: &mut Budget) -> Result<Tensors, ImportError> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| ImportError::damaged(path, error))?;
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
        budget.take(view.data().len() / dtype.size(), dtype.size())?;
        Ok(Tensor { name, shape: view.shape().to_vec(), values: dtype.values(view.data()), dtype })
    });
    tensors.collect()
}

/// A zip file: of PyTorch, or of NumPy.
fn archive(path: &Path, bytes: &[u8], budget: &mut Budget) -> Result<Tensors, ImportError> {
    let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(|error| zip_error(path, &error))?;
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
    let read = |name: &&String| {
        let bytes = entry(path, &mut zip, name, budget)?;
        let name = name.strip_suffix(".npy").unwrap_or(name).to_string();
        npy::read(path, name, &bytes, budget)
    };
    arrays.iter().map(read).collect()
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
    budget.take(usize::try_from(size).unwrap_or(usize::MAX), 1)?;
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
