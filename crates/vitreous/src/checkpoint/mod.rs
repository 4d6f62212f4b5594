//! Weights on disk: safetensors files with timm's tensor names, and in the header what it takes to use one alone.
//!
//! A hash in the header tells a file that was changed by accident, on a disk or on its way.
//!
//! The file is written here, so that equal runs give equal bytes (tensors and keys in the order of their names), and
//! read through the `safetensors` crate. Source of the format: its README.

mod error;
mod header;

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use vitreous_engine::{Graph, Parameters};

pub use error::CheckpointError;
pub use header::Metadata;

use crate::record::{RecordError, replace_file};

/// Saves the parameters of a graph; the file is whole or not there.
///
/// # Errors
/// When it cannot be written.
pub fn save(path: &Path, graph: &Graph, parameters: &Parameters, metadata: &Metadata) -> Result<(), RecordError> {
    replace_file(path, |file| {
        let mut out = BufWriter::with_capacity(1 << 20, file);
        out.write_all(&header::write(graph, parameters, metadata))?;
        for (_, id) in header::sorted(graph) {
            for value in parameters.get(id) {
                out.write_all(&value.to_le_bytes())?;
            }
        }
        out.flush()
    })
}

/// A file of weights in memory, of which the header was read.
pub struct SavedWeights {
    path: PathBuf,
    bytes: Vec<u8>,
    metadata: Metadata,
}

impl SavedWeights {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or was not made by this program.
    pub fn read(path: &Path) -> Result<SavedWeights, CheckpointError> {
        let bytes = fs::read(path).map_err(|error| CheckpointError::read(path, &error))?;
        let metadata = parse(path, &bytes)?.0;
        Ok(SavedWeights { path: path.to_path_buf(), bytes, metadata })
    }

    /// What the file says of itself, from which its graph can be made.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Returns the parameters of a graph.
    ///
    /// # Errors
    /// When the file is damaged, or does not hold exactly the graph's tensors.
    pub fn parameters(&self, graph: &Graph) -> Result<Parameters, CheckpointError> {
        let (path, bytes) = (&self.path, &self.bytes);
        let (_, tensors) = parse(path, bytes)?;
        let (length, header) =
            SafeTensors::read_metadata(bytes).map_err(|error| CheckpointError::damaged(path, bytes, &error))?;
        header::check(path, header.metadata().as_ref(), &bytes[size_of::<u64>() + length..])?;
        let mut found: Vec<String> = tensors.names().into_iter().map(str::to_string).collect();
        found.sort_unstable();
        let mut matching = Vec::with_capacity(found.len());
        for (name, id) in header::sorted(graph) {
            let Ok(tensor) = tensors.tensor(name) else {
                return Err(CheckpointError::missing(path, name, &found));
            };
            let expected = &graph.parameter(id).shape;
            if tensor.shape() != expected.0 {
                let found = tensor.shape().to_vec().as_slice().into();
                return Err(CheckpointError::shape(path, name, expected.clone(), found));
            }
            if tensor.dtype() != Dtype::F32 {
                return Err(CheckpointError::dtype(path, name, tensor.dtype()));
            }
            matching.push((name, id, tensor));
        }
        // No sooner: a file may speak of a large model and hold a small one.
        let mut parameters = Parameters::zeros(graph);
        for (name, id, tensor) in matching {
            let values = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            parameters.get_mut(id).iter_mut().zip(values).for_each(|(to, from)| *to = from);
            if parameters.get(id).iter().any(|value| !value.is_finite()) {
                return Err(CheckpointError::not_finite(path, name));
            }
        }
        match found.iter().find(|name| graph.find_parameter(name).is_none()) {
            Some(unexpected) => Err(CheckpointError::unexpected(path, unexpected)),
            None => Ok(parameters),
        }
    }
}

fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<(Metadata, SafeTensors<'a>), CheckpointError> {
    let (_, header) =
        SafeTensors::read_metadata(bytes).map_err(|error| CheckpointError::damaged(path, bytes, &error))?;
    let metadata = header::read(path, header.metadata().as_ref())?;
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| CheckpointError::damaged(path, bytes, &error))?;
    Ok((metadata, tensors))
}

#[cfg(test)]
mod tests;
