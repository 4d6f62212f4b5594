//! Files of `torch.save`: a zip file with a pickle and a file for each storage, or, until PyTorch 1.5, several pickles
//! followed by the storages. Source: `torch/serialization.py`.

use std::collections::HashMap;
use std::io::Cursor;
use std::path::Path;

use zip::ZipArchive;

use super::error::ImportError;
use super::file::{Budget, Tensors, check_names, entry};
use super::pickle::{Object, Pickle, Rejected, View};
use super::tensor::{Tensor, strided, strides};

/// The start of a file of the older form: a pickle of the number 0x1950a86a20f9469cfc6c.
const MAGIC: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";

/// Names under which a dictionary of tensors may lie in a larger one.
const INNER: [&str; 6] = ["state_dict", "model", "model_state_dict", "model_state", "net", "network"];

/// Prefixes that wrappers put before every name.
const WRAPPERS: [&str; 4] = ["module.", "_orig_mod.", "model.", "net."];

impl Rejected {
    fn of(self, path: &Path) -> ImportError {
        match self {
            Rejected::Damaged(reason) => ImportError::damaged(path, reason),
            Rejected::Unsupported(reason) => ImportError::unsupported(path, reason),
            Rejected::Code(function) => ImportError::Code { path: path.to_path_buf(), function },
        }
    }
}

/// Reads a zip file of PyTorch, whose pickle has this name.
pub(super) fn read_zip(
    path: &Path,
    zip: &mut ZipArchive<Cursor<&[u8]>>,
    pickle: &str,
    budget: &mut Budget,
) -> Result<Tensors, ImportError> {
    let prefix = pickle.strip_suffix("data.pkl").unwrap_or_default();
    let order = format!("{prefix}byteorder");
    if zip.index_for_name(&order).is_some() && entry(path, zip, &order, budget)? != b"little" {
        return Err(big_endian(path));
    }
    let bytes = entry(path, zip, pickle, budget)?;
    let pickle = Pickle::read(&bytes).map_err(|rejected| rejected.of(path))?;
    let named = named_tensors(path, &pickle)?;
    // Tensors that share a storage follow each other.
    let mut last: Option<(&str, Vec<u8>)> = None;
    let mut tensors = Vec::with_capacity(named.len());
    for (name, view) in named {
        let key = view.storage.key;
        if last.as_ref().is_none_or(|(known, _)| *known != key) {
            last = Some((key, entry(path, zip, &format!("{prefix}data/{key}"), budget)?));
        }
        let (_, bytes) = last.as_ref().expect("it was read");
        tensors.push(gather(path, name, view, bytes, budget)?);
    }
    Ok(tensors)
}

/// Reads a file of the older form.
pub(super) fn read_legacy(path: &Path, bytes: &[u8], budget: &mut Budget) -> Result<Tensors, ImportError> {
    let rejected = |rejected: Rejected| rejected.of(path);
    let Some(rest) = bytes.strip_prefix(MAGIC) else {
        // Another pickle. If it would run code, this is said first.
        Pickle::read(bytes).map_err(rejected)?;
        return Err(ImportError::unsupported(path, "it is a pickle, but not one of torch.save"));
    };
    let protocol = Pickle::read(rest).map_err(rejected)?;
    let rest = &rest[protocol.len..];
    let system = Pickle::read(rest).map_err(rejected)?;
    if system.value(system.root(), "little_endian") == Some(&Object::Bool(false)) {
        return Err(big_endian(path));
    }
    let rest = &rest[system.len..];
    let pickle = Pickle::read(rest).map_err(rejected)?;
    let rest = &rest[pickle.len..];
    let named = named_tensors(path, &pickle)?;
    let keys = Pickle::read(rest).map_err(rejected)?;
    let mut rest = &rest[keys.len..];
    let Object::List(list) = keys.root() else {
        return Err(ImportError::damaged(path, "the list of storages is missing"));
    };
    let sizes: HashMap<&str, usize> = pickle.storages().map(|storage| (storage.key, storage.dtype.size())).collect();
    let mut storages: HashMap<&str, &[u8]> = HashMap::new();
    for &key in list {
        let Object::Text(key) = keys.get(key) else { return Err(ImportError::damaged(path, "a storage has no key")) };
        let cut = || ImportError::damaged(path, "its storages are cut off");
        let (count, after) = rest.split_first_chunk::<8>().ok_or_else(cut)?;
        let size = sizes.get(key).ok_or_else(cut)?;
        let len = usize::try_from(u64::from_le_bytes(*count)).ok().and_then(|count| count.checked_mul(*size));
        let (storage, after) = len.and_then(|len| after.split_at_checked(len)).ok_or_else(cut)?;
        storages.insert(key, storage);
        rest = after;
    }
    let gathered = named.into_iter().map(|(name, view)| {
        let missing = || ImportError::damaged(path, format!("the values of `{name}` are missing"));
        let bytes = storages.get(view.storage.key).ok_or_else(missing)?;
        gather(path, name, view, bytes, budget)
    });
    gathered.collect()
}

fn big_endian(path: &Path) -> ImportError {
    ImportError::unsupported(path, "it was saved on a machine with another order of bytes")
}

/// The tensors of a model by name: of a state dictionary, or of one inside of it.
fn named_tensors<'p, 'a>(path: &Path, pickle: &'p Pickle<'a>) -> Result<Vec<(&'a str, &'p View<'a>)>, ImportError> {
    let of = |object: &'p Object<'a>| -> Vec<(&'a str, &'p View<'a>)> {
        let items = pickle.items(object);
        items
            .filter_map(|(name, value)| if let Object::Tensor(view) = value { Some((name, &**view)) } else { None })
            .collect()
    };
    let root = pickle.root();
    let inner = INNER.iter().filter_map(|name| pickle.value(root, name));
    let mut named = std::iter::once(root).chain(inner).map(of).find(|named| !named.is_empty()).unwrap_or_default();
    if named.is_empty() {
        let keys: Vec<&str> = pickle.items(root).map(|(key, _)| key).take(5).collect();
        let found = if keys.is_empty() { "no names".to_string() } else { format!("only {}", keys.join(", ")) };
        return Err(ImportError::unsupported(path, format!("it has no tensors with names: {found}")));
    }
    check_names(path, named.iter().map(|(name, _)| *name))?;
    while let Some(prefix) = WRAPPERS.iter().find(|&&prefix| named.iter().all(|(name, _)| name.starts_with(prefix))) {
        named.iter_mut().for_each(|(name, _)| *name = &name[prefix.len()..]);
    }
    Ok(named)
}

/// Copies a view of a storage.
fn gather(path: &Path, name: &str, view: &View, bytes: &[u8], budget: &mut Budget) -> Result<Tensor, ImportError> {
    let View { storage, offset, shape, strides: steps } = view;
    let size = storage.dtype.size();
    let outside = || ImportError::damaged(path, format!("the tensor `{name}` reaches outside of its storage"));
    let count = shape.iter().try_fold(1usize, |count, &axis| count.checked_mul(axis)).ok_or_else(outside)?;
    budget.take_values(count)?;
    if count == 0 {
        return Ok(Tensor { name: name.to_string(), shape: shape.clone(), values: Vec::new(), dtype: storage.dtype });
    }
    let last = shape
        .iter()
        .zip(steps)
        .try_fold(*offset, |last, (axis, step)| last.checked_add((axis - 1).checked_mul(*step)?));
    let len = (bytes.len() / size).min(storage.len);
    if last.is_none_or(|last| last >= len) {
        return Err(outside());
    }
    let values = if *steps == strides(shape) {
        storage.dtype.values(&bytes[offset * size..][..count * size])
    } else {
        // Only the part that the view reaches is converted.
        let end = last.expect("it is inside") + 1;
        budget.take_values(end - offset)?;
        strided(&storage.dtype.values(&bytes[offset * size..end * size]), 0, shape, steps)
    };
    Ok(Tensor { name: name.to_string(), shape: shape.clone(), values, dtype: storage.dtype })
}
