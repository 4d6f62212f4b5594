//! Edits of transformers, whose `[model]` table has a key for each choice.
//!
//! Both kinds of transformers that classify have such tables, so an edit is one for each that has the key.

use toml::{Table, Value};
use vitreous_engine::profile;

use super::{Change, Edit};
use crate::config::model::{ModelConfig, ModelSpec, Task};

/// Numbers in a vector register of the widest kernels.
const LANES: i64 = profile::LANES as i64;

/// The keys of a transformer, with their values.
pub struct Keys {
    table: Table,
    image_size: i64,
}

impl Keys {
    /// The keys of a model; none where it is not a transformer that classifies.
    pub fn of(model: &ModelConfig) -> Option<Keys> {
        let is_one = !matches!(model, ModelConfig::Stack(_)) && model.task() == Task::Classify;
        let table = Table::try_from(model.spec()).ok().filter(|_| is_one)?;
        Some(Keys { table, image_size: i64::try_from(model.image_size()).ok()? })
    }

    fn whole(&self, key: &str) -> Option<i64> {
        self.table.get(key)?.as_integer()
    }

    /// An edit for each of some values that a key does not have; none where the model has no such key.
    fn choices(&self, key: &'static str, values: impl IntoIterator<Item = impl Into<Value>>) -> Vec<Edit> {
        let Some(own) = self.table.get(key) else { return Vec::new() };
        let mut seen = vec![own.clone()];
        let mut edits = Vec::new();
        for value in values.into_iter().map(Into::into) {
            if !seen.contains(&value) {
                edits.push(Edit::new(
                    format!("{key}: {} -> {}", plain(own), plain(&value)),
                    vec![Change::Set(key, value.clone())],
                ));
                seen.push(value);
            }
        }
        edits
    }

    fn sizes(&self, key: &'static str, of: impl Fn(i64) -> Vec<i64>) -> Vec<Edit> {
        let values = self.whole(key).map_or_else(Vec::new, of);
        self.choices(key, values.into_iter().filter(|value| *value > 0))
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

pub fn width(keys: &Keys) -> Vec<Edit> {
    keys.sizes("embed_dim", |width| {
        let lanes =
            if width % LANES == 0 { Vec::new() } else { vec![width / LANES * LANES, (width / LANES + 1) * LANES] };
        [vec![width / 2, width * 3 / 4, width * 3 / 2, width * 2], lanes].concat()
    })
}

pub fn patch(keys: &Keys) -> Vec<Edit> {
    let size = keys.image_size;
    let fits = |patch: &i64| size % patch == 0;
    keys.sizes("patch_size", |patch| {
        let smaller = (1..patch).rev().find(fits).unwrap_or(patch);
        let larger = (patch + 1..size).find(fits).unwrap_or(patch);
        vec![smaller, larger, patch * 2].into_iter().filter(fits).collect()
    })
}

/// Patch sizes that are no power of two, and flat tokens, do not fit a stem.
pub fn stem(keys: &Keys) -> Vec<Edit> {
    let has_stem = keys.table.get("patch_embed").and_then(Value::as_str) == Some("conv-stem");
    keys.choices("patch_embed", [if has_stem { "linear" } else { "conv-stem" }])
}

pub fn depth(keys: &Keys) -> Vec<Edit> {
    keys.sizes("depth", |depth| vec![depth / 2, depth - 1, depth + 1])
}

pub fn heads(keys: &Keys) -> Vec<Edit> {
    let width = keys.whole("embed_dim").unwrap_or(0);
    keys.sizes("num_heads", |heads| {
        [1, 2, 4].map(|vectors| width / (vectors * LANES)).into_iter().chain([heads / 2, heads * 2]).collect()
    })
}

pub fn mlp(keys: &Keys) -> Vec<Edit> {
    let ratio = keys.table.get("mlp_ratio").and_then(Value::as_float).unwrap_or(0.0);
    keys.choices("mlp_ratio", [0.5, 2.0].map(|factor| ratio * factor).into_iter().filter(|ratio| *ratio > 0.0))
}

pub fn pooling(keys: &Keys) -> Vec<Edit> {
    keys.choices("pooling", ["mean", "cls"])
}

pub fn position(keys: &Keys) -> Vec<Edit> {
    keys.choices("position", ["learned", "sine-cosine", "sine-cosine-2d"])
}

pub fn norm(keys: &Keys) -> Vec<Edit> {
    [keys.choices("final_norm", [true, false]), keys.choices("block", ["pre-norm", "post-norm"])].concat()
}

pub fn activation(keys: &Keys) -> Vec<Edit> {
    keys.choices("activation", ["relu", "gelu", "gelu-tanh"])
}

pub fn softmax(keys: &Keys) -> Vec<Edit> {
    keys.choices("head_softmax", [false])
}

pub fn tokens(keys: &Keys) -> Vec<Edit> {
    keys.choices("patching", ["square"])
}

pub fn attention(keys: &Keys) -> Vec<Edit> {
    let scale = keys.choices("attention_scale", ["head_dim"]);
    [keys.choices("attention", ["multi-head"]), scale].concat()
}

pub fn qkv_bias(keys: &Keys) -> Vec<Edit> {
    keys.choices("qkv_bias", [true, false])
}

pub fn decoder(keys: &Keys) -> Vec<Edit> {
    keys.choices("decoder", [false])
}

/// Makes changes; none where the model has no such key, or the value does not fit.
pub fn apply<'a>(changes: impl Iterator<Item = &'a Change>, spec: &ModelSpec) -> Option<ModelSpec> {
    let mut table = Table::try_from(spec).ok()?;
    for change in changes {
        let Change::Set(key, value) = change else { return None };
        table.insert((*key).to_string(), value.clone());
    }
    table.try_into().ok()
}
