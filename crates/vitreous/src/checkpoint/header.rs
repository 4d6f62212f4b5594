//! The header of a file of weights: names, shapes and places of the tensors, and what it takes to use them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use vitreous_engine::{Graph, ParamId};

use super::CheckpointError;
use crate::data::Normalization;

/// Version of the metadata's layout.
const FORMAT: &str = "1";

/// Data starts at a multiple of so many bytes, so that a reader may map the file and use it in place.
const ALIGNMENT: usize = 64;

/// What a file of weights says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    /// Names of the classes, by label.
    pub class_names: Vec<String>,
    /// How bytes become numbers.
    pub normalization: Normalization,
    /// The resolved config as TOML, without what concerns one machine only.
    pub config: String,
    /// Epochs that were completed.
    pub epoch: u64,
    /// Optimiser steps that were taken.
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

/// Writes the length of the header and the header, filled up with spaces.
pub(super) fn write(graph: &Graph, metadata: &Metadata) -> Vec<u8> {
    let about: BTreeMap<&str, String> = BTreeMap::from([
        // What readers of PyTorch's files look for.
        ("format", "pt".to_string()),
        ("vitreous.format", FORMAT.to_string()),
        ("vitreous.version", env!("CARGO_PKG_VERSION").to_string()),
        ("vitreous.class_names", json_text(&metadata.class_names)),
        ("vitreous.normalization", json_text(&metadata.normalization)),
        ("vitreous.config", metadata.config.clone()),
        ("vitreous.epoch", metadata.epoch.to_string()),
        ("vitreous.step", metadata.step.to_string()),
    ]);
    let mut all = Map::new();
    all.insert("__metadata__".to_string(), json!(about));
    let mut start = 0;
    for (name, id) in sorted(graph) {
        let shape = &graph.parameter(id).shape;
        let end = start + size_of::<f32>() * shape.len();
        all.insert(name.to_string(), json!({ "dtype": "F32", "shape": shape.0, "data_offsets": [start, end] }));
        start = end;
    }
    let mut header = Value::Object(all).to_string().into_bytes();
    let length = size_of::<u64>();
    header.resize((header.len() + length).next_multiple_of(ALIGNMENT) - length, b' ');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut header);
    bytes
}

/// Reads what [`write`] wrote beside the tensors.
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
