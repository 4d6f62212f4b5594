//! Weights files: safetensors with timm's tensor names. The header has all that is needed to use the file alone.
//!
//! A hash in the header detects accidental changes on disk or in a transfer. [`State`] is a checkpoint, from which a
//! training resumes.
//!
//! This module writes the files, so that equal runs give equal bytes (tensors and keys sorted by name). The
//! `safetensors` crate reads them. Source of the format: its README.

mod best;
mod error;
mod header;
mod length;
mod state;
mod state_error;
mod tensors;

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use vitreous_engine::{Graph, Parameters};

use crate::regular;

pub use best::BestWeights;
pub use error::CheckpointError;
pub use header::Metadata;
pub use state::{Found, SavedState, State, StateTensors, find_state, forget_all_but, remove_leftovers, state_folder};
pub use state_error::StateError;
pub use tensors::TensorFile;

/// A weights file in memory, with its header read.
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
        let bytes = regular::open(path).and_then(length::read).map_err(|error| CheckpointError::read(path, &error))?;
        let metadata = parse(path, &bytes)?.0;
        Ok(SavedWeights { path: path.to_path_buf(), bytes, metadata })
    }

    /// The metadata, from which the graph can be built.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Returns the SHA-256 of the tensors' names and values, without the header: [`crate::record::WeightsHashes`].
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn tensors_sha256(&self) -> Result<String, CheckpointError> {
        parse(&self.path, &self.bytes).map(|(_, tensors)| tensors::hash_of(&tensors))
    }

    /// Returns the values of one tensor, if the file holds it.
    pub fn values(&self, name: &str) -> Option<Vec<f32>> {
        let (_, tensors) = parse(&self.path, &self.bytes).ok()?;
        let bytes = tensors.tensor(name).ok()?;
        let value = |four: &[u8]| f32::from_le_bytes(four.try_into().expect("four bytes are a number"));
        Some(bytes.data().chunks_exact(size_of::<f32>()).map(value).collect())
    }

    /// Compares the file's content with the hash in its header.
    ///
    /// # Errors
    /// When it was changed.
    pub fn check(&self) -> Result<(), CheckpointError> {
        let (path, bytes) = (&self.path, &self.bytes);
        let (length, header) =
            SafeTensors::read_metadata(bytes).map_err(|error| CheckpointError::damaged(path, &error))?;
        header::check(path, header.metadata().as_ref(), &bytes[size_of::<u64>() + length..])
    }

    /// Returns the parameters of a graph.
    ///
    /// # Errors
    /// When the file is damaged, or does not hold exactly the graph's tensors.
    pub fn parameters(&self, graph: &Graph) -> Result<Parameters, CheckpointError> {
        let path = &self.path;
        let (_, tensors) = parse(path, &self.bytes)?;
        self.check()?;
        let mut found: Vec<String> = tensors.names().into_iter().map(str::to_string).collect();
        found.sort_unstable();
        let parameters = tensors::read(path, &tensors, graph, "", &found, None)?;
        match found.iter().find(|name| graph.find_parameter(name).is_none()) {
            Some(unexpected) => Err(CheckpointError::unexpected(path, unexpected)),
            None => Ok(parameters),
        }
    }
}

impl Metadata {
    /// The metadata of a weights file in memory, compared with its hash; none if another program made the file.
    ///
    /// # Errors
    /// When it is damaged, or of a later version.
    pub fn of_weights(path: &Path, bytes: &[u8]) -> Result<Option<Metadata>, CheckpointError> {
        let (length, header) =
            SafeTensors::read_metadata(bytes).map_err(|error| CheckpointError::damaged(path, &error))?;
        let about = header.metadata().as_ref();
        if !about.is_some_and(|about| about.keys().any(|key| key.starts_with("vitreous."))) {
            return Ok(None);
        }
        let metadata = header::read(path, about)?;
        header::check(path, about, &bytes[size_of::<u64>() + length..])?;
        Ok(Some(metadata))
    }
}

fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<(Metadata, SafeTensors<'a>), CheckpointError> {
    let damaged = |error| CheckpointError::damaged(path, &error);
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let metadata = header::read(path, header.metadata().as_ref())?;
    let tensors = SafeTensors::deserialize(bytes).map_err(damaged)?;
    Ok((metadata, tensors))
}

#[cfg(test)]
mod tests;
