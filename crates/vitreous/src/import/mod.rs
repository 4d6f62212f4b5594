//! Weights of other programs: a file becomes named tensors (`file.rs` and one module for each format), the tensors get our
//! names (`names.rs`), and a model takes those that fit, resampled where its grid, patches or channels differ (`fit.rs`).
//!
//! Files come from strangers. Nothing in them is executed, and what they say of sizes is checked before memory is taken.

mod error;
mod file;
mod fit;
pub mod names;
mod npy;
mod pickle;
mod resample;
mod settings;
mod tensor;
mod torch;

use std::path::{Path, PathBuf};

use vitreous_engine::Parameters;

use crate::checkpoint::Metadata;
use crate::models::Model;
use crate::record::{Run, is_run};
use names::{AUGREG, HUGGING_FACE, Naming, TIMM};

pub use error::ImportError;
pub use file::{read as read_file, read_bytes};
pub use fit::{Fitted, summary};
pub use settings::{HEAD_DIM, Settings};
pub use tensor::{Dtype, Tensor};

/// Names of weights files in a folder, the preferred first.
const FILES: [&str; 5] =
    ["model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "model.pth", "pytorch_model.pth"];

/// Weights from a file, with our names, and what is known of them.
pub struct Source {
    path: PathBuf,
    naming: &'static Naming,
    tensors: Vec<Tensor>,
    settings: Settings,
    /// The config in a weights file of this program.
    own: Option<Metadata>,
}

impl Source {
    /// Reads a weights file of this program, timm, Hugging Face, torchvision or big_vision, or the one in a folder: of a
    /// run, or of a model.
    ///
    /// # Errors
    /// When there is none, or it is damaged or not of a known format.
    pub fn read(path: &Path) -> Result<Source, ImportError> {
        let path = file_of(path)?;
        let bytes = file::content(&path)?;
        Source::of(path, &bytes)
    }

    /// As [`Source::read`], of a file in memory.
    ///
    /// # Errors
    /// As there.
    pub fn of_bytes(path: &Path, bytes: &[u8]) -> Result<Source, ImportError> {
        Source::of(path.to_path_buf(), bytes)
    }

    fn of(path: PathBuf, bytes: &[u8]) -> Result<Source, ImportError> {
        let tensors = read_bytes(&path, bytes)?;
        let own = if file::is_safetensors(bytes) { Metadata::of_weights(&path, bytes)? } else { None };
        let names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        let naming = if own.is_some() { &TIMM } else { Naming::of(&names) };
        let renamed = tensors.into_iter().map(|tensor| {
            let name = naming.ours(&tensor.name).unwrap_or_else(|| tensor.name.clone());
            let tensor = Tensor { name, ..tensor };
            if *naming == AUGREG { names::from_jax(tensor) } else { tensor }
        });
        let mut tensors: Vec<Tensor> = renamed.collect();
        // Several names of theirs may be one of ours.
        file::check_names(&path, tensors.iter().map(|tensor| tensor.name.as_str()))?;
        if [&HUGGING_FACE, &AUGREG].contains(&naming) {
            tensors = names::join_qkv(tensors);
        }
        let settings = if own.is_some() { Settings::default() } else { settings::of(&path, &tensors, naming)? };
        Ok(Source { path, naming, tensors, settings, own })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who names tensors like this.
    pub fn program(&self) -> &'static str {
        if self.own.is_some() { "vitreous" } else { self.naming.name }
    }

    /// What is known of the model and its images.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The header of a weights file of this program.
    pub fn own(&self) -> Option<&Metadata> {
        self.own.as_ref()
    }

    /// The tensors.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The number of classes of the file's classification head, if it has one that is known by name.
    pub fn classes(&self) -> Option<usize> {
        let head = self.tensors.iter().find(|tensor| tensor.name == "head.weight")?;
        head.shape.first().copied()
    }

    /// Fills a model's initial parameters with the tensors. `partial` loads what fits although the rest does not.
    ///
    /// # Errors
    /// When tensors do not fit the model.
    pub fn fit(self, model: &Model, initial: Parameters, partial: bool) -> Result<Fitted, ImportError> {
        let Source { path, tensors, settings, .. } = self;
        let mut fitted = fit::fit(&path, model, initial, tensors, partial)?;
        fitted.lines.extend(settings.notes);
        Ok(fitted)
    }

    /// Bytes of memory that reading a file and filling a model with it takes; 0 where there is no file.
    pub fn memory_bytes(path: &Path) -> u64 {
        file_of(path).ok().and_then(|path| file::memory_bytes(&path).ok()).unwrap_or(0)
    }
}

/// The weights file that a path means.
fn file_of(path: &Path) -> Result<PathBuf, ImportError> {
    if !path.is_dir() {
        return Ok(path.to_path_buf());
    }
    if is_run(path)
        && let Ok(run) = Run::open(path)
        && let Ok((_, weights)) = run.find_weights(None)
    {
        return Ok(weights);
    }
    if let Some(found) = FILES.iter().map(|name| path.join(name)).find(|path| path.is_file()) {
        return Ok(found);
    }
    let is_sharded = ["model.safetensors.index.json", "pytorch_model.bin.index.json"];
    if is_sharded.iter().any(|name| path.join(name).is_file()) {
        return Err(ImportError::Sharded { path: path.to_path_buf() });
    }
    // One weights file of another name.
    let entries = std::fs::read_dir(path).map_err(|error| ImportError::read(path, &error))?;
    let endings = ["safetensors", "pth", "pt", "bin", "npz"];
    let is_one = |path: &PathBuf| path.extension().is_some_and(|end| endings.iter().any(|known| end == *known));
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_one).collect();
    match files.len() {
        1 => Ok(files.remove(0)),
        _ => Err(ImportError::NoFile { path: path.to_path_buf() }),
    }
}
