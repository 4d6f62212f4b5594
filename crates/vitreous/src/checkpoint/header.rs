//! The header of a weights file: names, shapes and offsets of the tensors, and the metadata needed to use them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use vitreous_engine::{Graph, ParamId, Parameters, Shape};

use super::CheckpointError;
use crate::data::Normalization;
use crate::numbers::hexadecimal;

/// Version of the metadata's layout.
const FORMAT: &str = "1";

/// Alignment of the data in bytes, so that a reader may map the file into memory and use it in place.
const ALIGNMENT: usize = 64;

/// The metadata of a weights file.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    /// Names of the classes, by label.
    pub class_names: Vec<String>,
    /// Mean and standard deviation of the input pixels.
    pub normalization: Normalization,
    /// The resolved config as TOML, without the keys of one machine, such as paths and threads.
    pub config: String,
    /// Completed epochs.
    pub epoch: u64,
    /// Optimizer steps taken.
    pub step: u64,
}

/// A graph's parameters in the order of their names, which is their order in the file.
pub(super) fn sorted(graph: &Graph) -> Vec<(&str, ParamId)> {
    let mut all: Vec<(&str, ParamId)> = graph
        .parameters()
        .iter()
        .filter_map(|param| Some((param.name.as_str(), graph.find_parameter(&param.name)?)))
        .collect();
    all.sort_unstable_by_key(|(name, _)| *name);
    all
}

/// Key of the hash over the other metadata and the tensors' bytes.
const HASH: &str = "vitreous.sha256";

/// Returns the hash over a file's metadata and its tensors' bytes, in hexadecimal.
fn sha256<'a>(about: impl Iterator<Item = (&'a str, &'a str)>, data: impl FnOnce(&mut Sha256)) -> String {
    let sorted: BTreeMap<&str, &str> = about.filter(|(key, _)| *key != HASH).collect();
    let mut hash = Sha256::new();
    for (key, text) in sorted {
        hash.update(format!("{key} {}\n{text}\n", text.len()));
    }
    data(&mut hash);
    hexadecimal(&hash.finalize())
}

/// Checks a file's hash. Files of earlier versions have none and are not checked.
pub(super) fn check(path: &Path, about: Option<&HashMap<String, String>>, data: &[u8]) -> Result<(), CheckpointError> {
    let Some((about, written)) = about.and_then(|about| Some((about, about.get(HASH)?))) else { return Ok(()) };
    let found = sha256(about.iter().map(|(key, text)| (&**key, &**text)), |hash| hash.update(data));
    if found == *written { Ok(()) } else { Err(CheckpointError::changed(path)) }
}

/// Returns the metadata of a weights file, including the hash.
pub(super) fn about(graph: &Graph, parameters: &Parameters, metadata: &Metadata) -> BTreeMap<&'static str, String> {
    let mut about: BTreeMap<&str, String> = BTreeMap::from([
        // Readers of PyTorch's files require it.
        ("format", "pt".to_string()),
        ("vitreous.format", FORMAT.to_string()),
        ("vitreous.version", env!("CARGO_PKG_VERSION").to_string()),
        ("vitreous.class_names", json_text(&metadata.class_names)),
        ("vitreous.normalization", json_text(&metadata.normalization)),
        ("vitreous.config", metadata.config.clone()),
        ("vitreous.epoch", metadata.epoch.to_string()),
        ("vitreous.step", metadata.step.to_string()),
    ]);
    let hash = sha256(about.iter().map(|(key, text)| (*key, &**text)), |hash| {
        for (_, id) in sorted(graph) {
            // In pieces, to avoid a copy of all weights.
            for values in parameters.get(id).chunks(4096) {
                hash.update(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
            }
        }
    });
    about.insert(HASH, hash);
    about
}

/// Returns the length of a header and the header, padded with spaces: the metadata, then the names and shapes of the
/// tensors in the order of their values.
pub(super) fn write<'a>(about: &BTreeMap<&str, String>, tensors: impl Iterator<Item = (String, &'a Shape)>) -> Vec<u8> {
    let mut all = Map::new();
    all.insert("__metadata__".to_string(), json!(about));
    let mut start = 0;
    for (name, shape) in tensors {
        let end = start + size_of::<f32>() * shape.len();
        all.insert(name, json!({ "dtype": "F32", "shape": shape.0, "data_offsets": [start, end] }));
        start = end;
    }
    let mut header = Value::Object(all).to_string().into_bytes();
    let length = size_of::<u64>();
    header.resize((header.len() + length).next_multiple_of(ALIGNMENT) - length, b' ');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut header);
    bytes
}

/// Reads the metadata that [`about`] writes.
pub(super) fn read(path: &Path, about: Option<&HashMap<String, String>>) -> Result<Metadata, CheckpointError> {
    let get =
        |key: &'static str| about.and_then(|about| about.get(key)).ok_or_else(|| CheckpointError::foreign(path, key));
    let format = get("vitreous.format")?;
    if format != FORMAT {
        return Err(CheckpointError::metadata(path, "vitreous.format", &format!("{format} is not {FORMAT}")));
    }
    Ok(Metadata {
        class_names: parse(path, "vitreous.class_names", get("vitreous.class_names")?)?,
        normalization: parse(path, "vitreous.normalization", get("vitreous.normalization")?)?,
        config: get("vitreous.config")?.clone(),
        epoch: parse(path, "vitreous.epoch", get("vitreous.epoch")?)?,
        step: parse(path, "vitreous.step", get("vitreous.step")?)?,
    })
}

fn json_text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain numbers and texts")
}

fn parse<T: DeserializeOwned>(path: &Path, key: &'static str, text: &str) -> Result<T, CheckpointError> {
    serde_json::from_str(text).map_err(|error| CheckpointError::metadata(path, key, &error.to_string()))
}
