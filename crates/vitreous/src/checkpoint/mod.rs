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
use std::path::Path;

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

/// Reads the parameters of a graph, and what else the file says.
///
/// # Errors
/// When the file cannot be read, is damaged, or does not hold exactly the graph's tensors.
pub fn load(path: &Path, graph: &Graph) -> Result<(Parameters, Metadata), CheckpointError> {
    let bytes = read(path)?;
    let (metadata, tensors) = parse(path, &bytes)?;
    let (length, header) =
        SafeTensors::read_metadata(&bytes).map_err(|error| CheckpointError::damaged(path, &bytes, &error))?;
    header::check(path, header.metadata().as_ref(), &bytes[size_of::<u64>() + length..])?;
    let mut found: Vec<String> = tensors.names().into_iter().map(str::to_string).collect();
    found.sort_unstable();
    let mut parameters = Parameters::zeros(graph);
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
        let values = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        parameters.get_mut(id).iter_mut().zip(values).for_each(|(to, from)| *to = from);
        if parameters.get(id).iter().any(|value| !value.is_finite()) {
            return Err(CheckpointError::not_finite(path, name));
        }
    }
    if let Some(unexpected) = found.iter().find(|name| graph.find_parameter(name).is_none()) {
        return Err(CheckpointError::unexpected(path, unexpected));
    }
    Ok((parameters, metadata))
}

/// Reads what a file of weights says of itself, from which its graph can be made.
///
/// # Errors
/// When the file cannot be read, is damaged, or was not made by this program.
pub fn load_metadata(path: &Path) -> Result<Metadata, CheckpointError> {
    let bytes = read(path)?;
    parse(path, &bytes).map(|(metadata, _)| metadata)
}

fn read(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    fs::read(path).map_err(|error| CheckpointError::read(path, &error))
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
