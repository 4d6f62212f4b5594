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
        let is_one =
            !matches!(model, ModelConfig::Stack(_) | ModelConfig::Convnet(_)) && model.task() == Task::Classify;
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

    /// Edits of a size, with a reason for smaller ones and one for larger ones.
    fn sizes(&self, key: &'static str, [less, more]: [&'static str; 2], of: impl Fn(i64) -> Vec<i64>) -> Vec<Edit> {
        let own = self.whole(key).unwrap_or(0);
        let values = self.whole(key).map_or_else(Vec::new, of);
        let edits = self.choices(key, values.into_iter().filter(|value| *value > 0));
        because(edits, |value| if value.as_integer() < Some(own) { less } else { more })
    }
}

/// Gives each edit of a key the reason of its value.
fn because(edits: Vec<Edit>, why: impl Fn(&Value) -> &'static str) -> Vec<Edit> {
    let of = |edit: &Edit| match &edit.changes[..] {
        [Change::Set(_, value)] => why(value),
        _ => "",
    };
    edits
        .into_iter()
        .map(|edit| {
            let why = of(&edit);
            edit.because(why)
        })
        .collect()
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

pub fn width(keys: &Keys) -> Vec<Edit> {
    let why = ["a narrower model costs less", "a wider model can represent more"];
    keys.sizes("embed_dim", why, |width| {
        let lanes =
            if width % LANES == 0 { Vec::new() } else { vec![width / LANES * LANES, (width / LANES + 1) * LANES] };
        [vec![width / 2, width * 3 / 4, width * 3 / 2, width * 2], lanes].concat()
    })
}

pub fn patch(keys: &Keys) -> Vec<Edit> {
    let size = keys.image_size;
    let fits = |patch: &i64| size % patch == 0;
    let why = ["smaller patches keep details", "larger patches make fewer tokens: twice as large, a quarter of them"];
    keys.sizes("patch_size", why, |patch| {
        let smaller = (1..patch).rev().find(fits).unwrap_or(patch);
        let larger = (patch + 1..size).find(fits).unwrap_or(patch);
        vec![smaller, larger, patch * 2].into_iter().filter(fits).collect()
    })
}

/// A stem needs square tokens, and a patch size that is a power of two: other models have no such candidate.
pub fn stem(keys: &Keys) -> Vec<Edit> {
    let has_stem = keys.table.get("patch_embed").and_then(Value::as_str) == Some("conv-stem");
    because(keys.choices("patch_embed", [if has_stem { "linear" } else { "conv-stem" }]), |_| match has_stem {
        true => "a linear patch embedding costs less than a stem of convolutions",
        false => "a stem of convolutions finds edges and textures in fewer epochs than a linear patch embedding",
    })
}

pub fn depth(keys: &Keys) -> Vec<Edit> {
    let why = [
        "each block costs the same time, and the last ones may add little",
        "a deeper model can combine more of what it sees",
    ];
    keys.sizes("depth", why, |depth| vec![depth / 2, depth - 1, depth + 1])
}

pub fn heads(keys: &Keys) -> Vec<Edit> {
    let width = keys.whole("embed_dim").unwrap_or(0);
    let why = [
        "fewer heads have less overhead, and wide ones fill the vector lanes",
        "more heads attend to more places at once",
    ];
    keys.sizes("num_heads", why, |heads| {
        [1, 2, 4].map(|vectors| width / (vectors * LANES)).into_iter().chain([heads / 2, heads * 2]).collect()
    })
}

pub fn mlp(keys: &Keys) -> Vec<Edit> {
    let ratio = keys.table.get("mlp_ratio").and_then(Value::as_float).unwrap_or(0.0);
    let edits =
        keys.choices("mlp_ratio", [0.5, 2.0].map(|factor| ratio * factor).into_iter().filter(|ratio| *ratio > 0.0));
    because(edits, |value| match value.as_float() < Some(ratio) {
        true => "the MLP has most of a block's operations",
        false => "a wider MLP can represent more",
    })
}

pub fn pooling(keys: &Keys) -> Vec<Edit> {
    because(keys.choices("pooling", ["mean", "cls"]), |value| match value.as_str() {
        Some("mean") => "the mean over tokens passes gradients to all of them, and needs no class token",
        _ => "a class token can weigh patches, which a mean treats alike",
    })
}

pub fn position(keys: &Keys) -> Vec<Edit> {
    because(keys.choices("position", ["learned", "sine-cosine", "sine-cosine-2d"]), |value| match value.as_str() {
        Some("learned") => "learned positions fit the images",
        Some("sine-cosine") => "fixed positions need not be learned",
        _ => "fixed positions in two dimensions need not be learned, and say which patches are neighbors",
    })
}

pub fn norm(keys: &Keys) -> Vec<Edit> {
    let last = because(keys.choices("final_norm", [true, false]), |value| match value.as_bool() {
        Some(true) => "",
        _ => "a norm costs time, and the head may do without",
    });
    let block = because(keys.choices("block", ["pre-norm", "post-norm"]), |value| match value.as_str() {
        Some("pre-norm") => "norms before each half leave the residual path free for gradients",
        _ => "norms after each sum keep the tokens of all blocks in one range",
    });
    [last, block].concat()
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
    let scale = because(
        scale,
        |_| "scores that are divided by the root of the head's width keep softmax in its sensitive range",
    );
    let heads =
        because(keys.choices("attention", ["multi-head"]), |_| "heads that see and mix all channels learn more");
    [heads, scale].concat()
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
