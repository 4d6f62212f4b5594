//! Reads and writes safetensors files: a header, then the values of a graph's parameters, in one set (weights) or
//! several (weights and the optimizer's moments).

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};
use vitreous_engine::{Graph, ParamId, Parameters, Shape};

use super::{CheckpointError, Metadata, header};
use crate::numbers::hexadecimal;
use crate::record::{Folder, RecordError, WeightsHashes, replace_file};

/// Values that are converted to bytes at a time.
const PIECE: usize = 4096;

/// A file to be written, on any thread: the values are shared, not copied.
#[derive(Clone)]
pub struct TensorFile {
    header: Vec<u8>,
    /// Names and values in the order of the file.
    tensors: Vec<(String, Arc<Parameters>, ParamId)>,
}

impl TensorFile {
    /// Makes a weights file.
    pub fn weights(graph: &Graph, parameters: &Arc<Parameters>, metadata: &Metadata) -> TensorFile {
        TensorFile::new(graph, &header::about(graph, parameters, metadata), &[("", parameters.clone())])
    }

    /// Makes a file of several sets of a graph's parameters; the names of a set's tensors start with its prefix.
    pub(super) fn new(graph: &Graph, about: &BTreeMap<&str, String>, sets: &[(&str, Arc<Parameters>)]) -> TensorFile {
        let sorted = header::sorted(graph);
        // An optimizer may keep no moment for a parameter; then the set has no values of it.
        let is_there = |(prefix_values, (_, id)): &(&(&str, Arc<Parameters>), &(&str, ParamId))| {
            !prefix_values.1.get(*id).is_empty()
        };
        let all = || sets.iter().flat_map(|set| sorted.iter().map(move |one| (set, one))).filter(is_there);
        let shapes = all().map(|((prefix, _), (name, id))| (format!("{prefix}{name}"), &graph.parameter(*id).shape));
        let header = header::write(about, shapes);
        let tensors = all().map(|((prefix, values), (name, id))| (format!("{prefix}{name}"), values.clone(), *id));
        TensorFile { header, tensors: tensors.collect() }
    }

    /// Returns the hashes of the file and of its tensors.
    pub fn hashes(&self) -> WeightsHashes {
        let (mut file, mut tensors) = (Sha256::new_with_prefix(&self.header), Sha256::new());
        for (name, values, id) in &self.tensors {
            let values = values.get(*id);
            tensors.update(tensor_title(name, values.len()));
            pieces(values, |bytes| {
                file.update(bytes);
                tensors.update(bytes);
                Ok(())
            })
            .expect("nothing is written");
        }
        WeightsHashes { file: hexadecimal(&file.finalize()), tensors: hexadecimal(&tensors.finalize()) }
    }

    /// Writes the file atomically; returns its SHA-256.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> Result<String, RecordError> {
        replace_file(path, |out| self.write(out))
    }

    /// As [`TensorFile::save`], in an open folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save_in(&self, folder: &Folder, name: &str) -> Result<String, RecordError> {
        folder.replace(name, |out| self.write(out))
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&self.header)?;
        self.tensors.iter().try_for_each(|(_, values, id)| pieces(values.get(*id), |bytes| out.write_all(bytes)))
    }
}

/// Passes values to `take` as bytes, in pieces.
fn pieces(values: &[f32], mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(PIECE * size_of::<f32>());
    for values in values.chunks(PIECE) {
        bytes.clear();
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        take(&bytes)?;
    }
    Ok(())
}

/// Returns the hash of the names and values of a file's tensors, as [`WeightsHashes::tensors`].
pub(super) fn hash_of(tensors: &SafeTensors) -> String {
    let mut sorted: Vec<_> = tensors.iter().collect();
    sorted.sort_unstable_by_key(|(name, _)| *name);
    let mut hash = Sha256::new();
    for (name, tensor) in sorted {
        hash.update(tensor_title(name, tensor.data().len() / size_of::<f32>()));
        hash.update(tensor.data());
    }
    hexadecimal(&hash.finalize())
}

/// The line that precedes a tensor's values in the hash.
fn tensor_title(name: &str, values: usize) -> String {
    format!("{name} {values}\n")
}

/// The shape that a weight may also have: earlier versions stored that of a patch embedding as a matrix.
fn rows(name: &str, shape: &Shape) -> Vec<usize> {
    match shape.0[..] {
        [out, channels, height, width] if name.ends_with("patch_embed.proj.weight") => {
            vec![out, channels * height * width]
        }
        _ => shape.0.clone(),
    }
}

/// Reads one set of a graph's parameters; `found` are the names in the file. Parameters that have no values in `like`
/// are not read.
pub(super) fn read(
    path: &Path,
    tensors: &SafeTensors,
    graph: &Graph,
    prefix: &str,
    found: &[String],
    like: Option<&Parameters>,
) -> Result<Parameters, CheckpointError> {
    let mut matching = Vec::with_capacity(found.len());
    let is_there = |id: ParamId| like.is_none_or(|like| !like.get(id).is_empty());
    for (name, id) in header::sorted(graph).into_iter().filter(|(_, id)| is_there(*id)) {
        let name = format!("{prefix}{name}");
        let Ok(tensor) = tensors.tensor(&name) else {
            return Err(CheckpointError::missing(path, &name, found));
        };
        let expected = &graph.parameter(id).shape;
        if tensor.shape() != expected.0 && tensor.shape() != rows(&name, expected) {
            let found = tensor.shape().to_vec().as_slice().into();
            return Err(CheckpointError::shape(path, &name, expected.clone(), found));
        }
        if tensor.dtype() != Dtype::F32 {
            return Err(CheckpointError::dtype(path, &name, tensor.dtype()));
        }
        matching.push((name, id, tensor));
    }
    // Allocated only now: a header may claim a large model in a small file.
    let mut parameters = like.map_or_else(|| Parameters::zeros(graph), Parameters::clone);
    for (name, id, tensor) in matching {
        let values = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        parameters.get_mut(id).iter_mut().zip(values).for_each(|(to, from)| *to = from);
        if parameters.get(id).iter().any(|value| !value.is_finite()) {
            return Err(CheckpointError::not_finite(path, &name));
        }
    }
    Ok(parameters)
}
