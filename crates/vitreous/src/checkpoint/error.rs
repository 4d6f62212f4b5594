//! Errors of weights files, and what to do about them.

use std::io;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensorError};
use thiserror::Error;
use vitreous_engine::Shape;

use crate::advice::{Explain, Place, Suggestion};
use crate::{spelling, system_errors};

/// An error of a weights file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CheckpointError {
    /// The file cannot be read.
    #[error("cannot read the weights: {reason} ({})", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's message.
        reason: String,
    },
    /// The file is not a safetensors file, or is truncated.
    #[error("the weights are damaged: {reason} ({})", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file was changed after it was written.
    #[error("the weights are damaged: their SHA-256 differs from the one in the header ({})", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The file holds tensors, but was not made by this program.
    #[error("`{key}` is missing from the header of the weights file ({})", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The metadata's key that is missing.
        key: &'static str,
    },
    /// The header's metadata is damaged, or of a later version.
    #[error("`{key}` in the header is unreadable: {reason} ({})", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// The metadata's key.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The model has a tensor that the file lacks.
    #[error("the tensor `{tensor}` is missing ({})", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// A tensor of the file with a similar name.
        nearest: Option<String>,
    },
    /// The file has a tensor that the model lacks.
    #[error("the model has no tensor `{tensor}` ({})", path.display())]
    Unexpected {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A tensor has another shape than in the model.
    #[error("the tensor `{tensor}` has shape {found}, but the model's has {expected} ({})", path.display())]
    TensorShape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its shape in the model.
        expected: Shape,
        /// Its shape in the file.
        found: Shape,
    },
    /// A tensor does not hold 32-bit floats.
    #[error("the tensor `{tensor}` holds {found}, not F32 ({})", path.display())]
    TensorType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What it holds.
        found: String,
    },
    /// A tensor holds a NaN or infinite value.
    #[error("the tensor `{tensor}` holds NaN or infinite values ({})", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
}

impl Explain for CheckpointError {
    fn place(&self) -> Option<Place> {
        let (CheckpointError::Read { path, .. }
        | CheckpointError::Damaged { path, .. }
        | CheckpointError::Changed { path }
        | CheckpointError::Foreign { path, .. }
        | CheckpointError::Metadata { path, .. }
        | CheckpointError::Missing { path, .. }
        | CheckpointError::Unexpected { path, .. }
        | CheckpointError::TensorShape { path, .. }
        | CheckpointError::TensorType { path, .. }
        | CheckpointError::NotFinite { path, .. }) = self;
        Some(Place::Path(path.clone()))
    }

    fn suggestion(&self) -> Option<Suggestion> {
        let new = Suggestion::new;
        Some(match self {
            CheckpointError::Read { .. } => return None,
            CheckpointError::Damaged { .. } | CheckpointError::Changed { .. } => {
                new().text("the file is truncated, damaged or another one: get it again, or train again")
            }
            CheckpointError::NotFinite { .. } => {
                let smaller = new().text("the training diverged: train again with a smaller").key("train.lr");
                smaller.or().set("train.clip_grad", 1)
            }
            CheckpointError::Foreign { .. } => new().text("use a file from the weights/ folder of a run"),
            CheckpointError::Metadata { .. } => new().text("the file was changed, or made by a later version"),
            CheckpointError::Missing { nearest: Some(nearest), .. } => {
                new().text(format!("the file has `{nearest}` instead"))
            }
            CheckpointError::Missing { .. }
            | CheckpointError::Unexpected { .. }
            | CheckpointError::TensorShape { .. } => {
                new().text("these are the weights of another model: use the config they were trained with")
            }
            CheckpointError::TensorType { .. } => new().text("convert it to 32-bit floats"),
        })
    }
}

impl CheckpointError {
    pub(super) fn read(path: &Path, error: &io::Error) -> Self {
        let (path, reason) = (path.to_path_buf(), system_errors::system_error(error));
        match error.kind() {
            io::ErrorKind::InvalidData => CheckpointError::Damaged { path, reason },
            _ => CheckpointError::Read { path, reason },
        }
    }

    pub(super) fn damaged(path: &Path, error: &SafeTensorError) -> Self {
        CheckpointError::Damaged { path: path.to_path_buf(), reason: error.to_string() }
    }

    pub(super) fn changed(path: &Path) -> Self {
        CheckpointError::Changed { path: path.to_path_buf() }
    }

    pub(super) fn foreign(path: &Path, key: &'static str) -> Self {
        CheckpointError::Foreign { path: path.to_path_buf(), key }
    }

    pub(super) fn metadata(path: &Path, key: &'static str, reason: &str) -> Self {
        CheckpointError::Metadata { path: path.to_path_buf(), key, reason: reason.to_string() }
    }

    pub(super) fn missing(path: &Path, tensor: &str, found: &[String]) -> Self {
        let nearest = spelling::nearest(tensor, found.iter().map(String::as_str)).map(str::to_string);
        CheckpointError::Missing { path: path.to_path_buf(), tensor: tensor.to_string(), nearest }
    }

    pub(super) fn unexpected(path: &Path, tensor: &str) -> Self {
        CheckpointError::Unexpected { path: path.to_path_buf(), tensor: tensor.to_string() }
    }

    pub(super) fn shape(path: &Path, tensor: &str, expected: Shape, found: Shape) -> Self {
        CheckpointError::TensorShape { path: path.to_path_buf(), tensor: tensor.to_string(), expected, found }
    }

    pub(super) fn dtype(path: &Path, tensor: &str, found: Dtype) -> Self {
        CheckpointError::TensorType { path: path.to_path_buf(), tensor: tensor.to_string(), found: found.to_string() }
    }

    pub(super) fn not_finite(path: &Path, tensor: &str) -> Self {
        CheckpointError::NotFinite { path: path.to_path_buf(), tensor: tensor.to_string() }
    }
}
