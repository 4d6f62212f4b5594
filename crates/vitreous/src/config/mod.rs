//! What a run does, as written in TOML and flags: a [`Config`] of four tables, checked before anything is opened.

pub mod augment;
pub mod data;
pub mod model;
pub mod model_rules;
pub mod train;
pub mod vit;

use serde::{Deserialize, Serialize};

/// Everything that decides a run. The resolved one is saved with it as `config.toml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Which images, and how they become numbers.
    pub data: data::DataSpec,
    /// Random changes to training images.
    pub augment: augment::AugmentSpec,
    /// The network.
    pub model: model::VitSpec,
    /// How it is trained.
    pub train: train::TrainSpec,
}
