//! Errors of files with weights of other programs, and what to do about them.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::advice::{Argument, Explain, Place, Suggestion};
use crate::checkpoint::CheckpointError;
use crate::numbers::counted;
use crate::system_errors;
use crate::text::first_of;

/// Tensors that an error lists.
const LISTED: usize = 5;

/// Why weights cannot be imported.
#[derive(Clone, Debug, PartialEq, Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum ImportError {
    /// The file cannot be read.
    #[error("cannot read the weights: {reason} ({})", path.display())]
    Read { path: PathBuf, reason: String },
    /// A folder has no file with weights.
    #[error("no weights file in the folder ({})", path.display())]
    NoFile { path: PathBuf },
    /// A model in several files.
    #[error("the weights are in several files, and only single files can be read ({})", path.display())]
    Sharded { path: PathBuf },
    /// None of the known formats.
    #[error("neither a safetensors file nor a PyTorch or .npz file ({})", path.display())]
    Format { path: PathBuf },
    /// The file is truncated or damaged, or its content makes no sense.
    #[error("the weights are damaged: {reason} ({})", path.display())]
    Damaged { path: PathBuf, reason: String },
    /// A pickle asks for more than tensors.
    #[error("the file would run code: it calls `{function}`, and only tensors are read ({})", path.display())]
    Code { path: PathBuf, function: String },
    /// The file has what is not supported.
    #[error("cannot read the weights: {reason} ({})", path.display())]
    Unsupported { path: PathBuf, reason: String },
    /// A model for images that are not square.
    #[error("cannot use the weights: {reason} ({})", path.display())]
    NotSquare { path: PathBuf, reason: String },
    /// The file is small, and would become large in memory.
    #[error("the weights would take more than 8 times the file's size ({})", path.display())]
    Bomb { path: PathBuf },
    /// A tensor holds NaN or infinite values.
    #[error("the tensor `{tensor}` holds NaN or infinite values ({})", path.display())]
    NotFinite { path: PathBuf, tensor: String },
    /// The settings next to the weights contradict them.
    #[error("{key} is {written}, but the tensors have {found} ({})", path.display())]
    Settings { path: PathBuf, key: String, written: String, found: String },
    /// Nothing says how many heads the attention has.
    #[error(
        "the number of heads is not in the file, and heads of 64 channels do not divide width {width} ({})",
        path.display()
    )]
    Heads { path: PathBuf, width: usize },
    /// The model is not for images.
    #[error("the weights are for images of {channels} channels, and images have 1 or 3 ({})", path.display())]
    Channels { path: PathBuf, channels: usize },
    /// The settings hold an impossible normalization.
    #[error("images cannot be normalized by {value} ({})", path.display())]
    Normalization { path: PathBuf, value: f32 },
    /// Nothing says which model it is.
    #[error("cannot tell which model the weights are for: {reason} ({})", path.display())]
    UnknownModel { path: PathBuf, reason: String },
    /// The file shows that it is of another model than the chosen one.
    #[error("the weights are of a model with {found}, but {name} has {expected} ({})", path.display())]
    OtherModel { path: PathBuf, name: String, found: String, expected: String },
    /// Tensors and model do not belong together.
    #[error("{} not fit the model: {} ({})", doing(problems.len()), list(problems), path.display())]
    Unfit { path: PathBuf, problems: Vec<String>, is_all: bool },
    /// A weights file of this program is damaged.
    #[error(transparent)]
    Own(#[from] CheckpointError),
}

fn doing(count: usize) -> String {
    format!("{} {}", counted(count, "tensor"), if count == 1 { "does" } else { "do" })
}

fn list(problems: &[String]) -> String {
    first_of(&problems[..problems.len().min(LISTED)], problems.len())
}

impl ImportError {
    pub(super) fn read(path: &Path, error: &io::Error) -> Self {
        ImportError::Read { path: path.to_path_buf(), reason: system_errors::system_error(error) }
    }

    pub(super) fn damaged(path: &Path, reason: impl ToString) -> Self {
        ImportError::Damaged { path: path.to_path_buf(), reason: reason.to_string() }
    }

    pub(super) fn unsupported(path: &Path, reason: impl Into<String>) -> Self {
        ImportError::Unsupported { path: path.to_path_buf(), reason: reason.into() }
    }
}

impl Explain for ImportError {
    fn place(&self) -> Option<Place> {
        match self {
            ImportError::Own(error) => error.place(),
            ImportError::Read { path, .. }
            | ImportError::NoFile { path }
            | ImportError::Sharded { path }
            | ImportError::Format { path }
            | ImportError::Damaged { path, .. }
            | ImportError::Code { path, .. }
            | ImportError::Unsupported { path, .. }
            | ImportError::NotSquare { path, .. }
            | ImportError::Bomb { path }
            | ImportError::NotFinite { path, .. }
            | ImportError::Settings { path, .. }
            | ImportError::Heads { path, .. }
            | ImportError::Channels { path, .. }
            | ImportError::Normalization { path, .. }
            | ImportError::UnknownModel { path, .. }
            | ImportError::OtherModel { path, .. }
            | ImportError::Unfit { path, .. } => Some(Place::Path(path.clone())),
        }
    }

    fn suggestion(&self) -> Option<Suggestion> {
        let new = Suggestion::new;
        Some(match self {
            ImportError::Own(error) => return error.suggestion(),
            ImportError::Read { .. } => return None,
            ImportError::NoFile { .. } => new().text(
                "name a .safetensors, .pth, .bin or .npz file, or a folder with model.safetensors or pytorch_model.bin",
            ),
            ImportError::Sharded { .. } => {
                new().text("in Python, save the model as one file: model.save_pretrained(DIR, max_shard_size=\"100GB\")")
            }
            ImportError::Format { .. } => new().text("use a file of timm, Hugging Face, torchvision or big_vision"),
            ImportError::Damaged { .. } | ImportError::Bomb { .. } => {
                new().text("the file is truncated, damaged or another one: get it again")
            }
            ImportError::Code { .. } => new().text(
                "do not open the file with other programs unless you trust its source; a file with tensors alone is saved \
                 by torch.save(model.state_dict(), \"weights.pth\")",
            ),
            ImportError::Unsupported { .. } => {
                new().text("in Python, save the tensors alone: torch.save(model.state_dict(), \"weights.pth\")")
            }
            ImportError::NotSquare { .. } => new().text("use weights that were trained with square images"),
            ImportError::NotFinite { .. } => new().text("its training diverged, or the file is damaged: use other weights"),
            ImportError::Settings { .. } => {
                new().text("use the file that came with these weights, or remove it to use the tensors alone")
            }
            ImportError::Heads { .. } => {
                new().text("set it with").key("model.num_heads").text(", or get the model's config.json")
            }
            ImportError::Channels { .. } => new().set("model.channels", 3),
            ImportError::Normalization { .. } => {
                new().text("set the right values with").key("data.mean").text("and").key("data.std")
            }
            ImportError::UnknownModel { .. } => new().text("choose the model with").argument(Argument::Model),
            ImportError::OtherModel { .. } => new().text("leave out the model: the file shows which one it is"),
            ImportError::Unfit { is_all: true, .. } => {
                new().text("these are the weights of another model: choose the model they were trained with")
            }
            ImportError::Unfit { .. } => {
                let other = new().text("choose the model that the weights were trained with");
                other.or().argument(Argument::Partial).text("to load what fits and start the rest from random values")
            }
        })
    }
}
