//! The names that other programs give to the tensors of a vision transformer, next to timm's, which are ours.
//!
//! A table reads in both directions: [`Naming::ours`] for import, [`Naming::theirs`] for export.

use std::collections::HashMap;

use super::tensor::Tensor;

/// How a program names a model's tensors.
#[derive(Debug, PartialEq)]
pub struct Naming {
    /// Who uses these names.
    pub name: &'static str,
    /// Prefixes of all names, the usual one first; a file has one of them or none.
    prefixes: &'static [&'static str],
    /// Our name and theirs, without `.weight` and `.bias`; `*` is the number of a block. Where several of theirs are one of
    /// ours, the first is written.
    layers: &'static [(&'static str, &'static str)],
    /// Our ending of a name and theirs.
    endings: &'static [(&'static str, &'static str)],
}

/// PyTorch's endings.
const ENDINGS: &[(&str, &str)] = &[
    (".weight", ".weight"),
    (".bias", ".bias"),
    (".running_mean", ".running_mean"),
    (".running_var", ".running_var"),
    ("", ""),
];

/// Hugging Face's ViT and DeiT. Query, key and value are three tensors, which `join_qkv` makes one.
pub static HUGGING_FACE: Naming = Naming {
    name: "Hugging Face",
    prefixes: &["vit.", "deit."],
    layers: &[
        ("cls_token", "embeddings.cls_token"),
        ("dist_token", "embeddings.distillation_token"),
        ("pos_embed", "embeddings.position_embeddings"),
        ("patch_embed.proj", "embeddings.patch_embeddings.projection"),
        ("blocks.*.norm1", "encoder.layer.*.layernorm_before"),
        ("blocks.*.attn.q", "encoder.layer.*.attention.attention.query"),
        ("blocks.*.attn.k", "encoder.layer.*.attention.attention.key"),
        ("blocks.*.attn.v", "encoder.layer.*.attention.attention.value"),
        ("blocks.*.attn.proj", "encoder.layer.*.attention.output.dense"),
        ("blocks.*.norm2", "encoder.layer.*.layernorm_after"),
        ("blocks.*.mlp.fc1", "encoder.layer.*.intermediate.dense"),
        ("blocks.*.mlp.fc2", "encoder.layer.*.output.dense"),
        ("norm", "layernorm"),
        ("head", "classifier"),
        ("head", "cls_classifier"),
        ("head_dist", "distillation_classifier"),
    ],
    endings: ENDINGS,
};

/// torchvision's `vit_b_16` and its siblings.
pub static TORCHVISION: Naming = Naming {
    name: "torchvision",
    prefixes: &[],
    layers: &[
        ("cls_token", "class_token"),
        ("pos_embed", "encoder.pos_embedding"),
        ("patch_embed.proj", "conv_proj"),
        ("blocks.*.norm1", "encoder.layers.encoder_layer_*.ln_1"),
        ("blocks.*.attn.qkv", "encoder.layers.encoder_layer_*.self_attention.in_proj"),
        ("blocks.*.attn.proj", "encoder.layers.encoder_layer_*.self_attention.out_proj"),
        ("blocks.*.norm2", "encoder.layers.encoder_layer_*.ln_2"),
        ("blocks.*.mlp.fc1", "encoder.layers.encoder_layer_*.mlp.0"),
        ("blocks.*.mlp.fc2", "encoder.layers.encoder_layer_*.mlp.3"),
        ("blocks.*.mlp.fc1", "encoder.layers.encoder_layer_*.mlp.linear_1"),
        ("blocks.*.mlp.fc2", "encoder.layers.encoder_layer_*.mlp.linear_2"),
        ("norm", "encoder.ln"),
        ("head", "heads.head"),
        ("head", "heads.0"),
    ],
    endings: &[(".weight", ".weight"), (".bias", ".bias"), (".weight", "_weight"), (".bias", "_bias"), ("", "")],
};

/// torchvision's and timm's VGG: our stack has the same layers at the same places.
pub static VGG: Naming =
    Naming { name: "torchvision", prefixes: &[], layers: &[("layers.*", "features.*")], endings: ENDINGS };

/// The `.npz` files of the ViT and AugReg papers, and those of big_vision, whose layers have other numbers. Their axes
/// have another order, see `from_jax`.
pub static AUGREG: Naming = Naming {
    name: "big_vision",
    prefixes: &["params/", "opt/target/", "params/img/", "img/"],
    layers: &[
        ("cls_token", "cls"),
        ("pos_embed", "Transformer/posembed_input/pos_embedding"),
        ("pos_embed", "pos_embedding"),
        ("patch_embed.proj", "embedding"),
        ("blocks.*.norm1", "Transformer/encoderblock_*/LayerNorm_0"),
        ("blocks.*.attn.q", "Transformer/encoderblock_*/MultiHeadDotProductAttention_1/query"),
        ("blocks.*.attn.k", "Transformer/encoderblock_*/MultiHeadDotProductAttention_1/key"),
        ("blocks.*.attn.v", "Transformer/encoderblock_*/MultiHeadDotProductAttention_1/value"),
        ("blocks.*.attn.proj", "Transformer/encoderblock_*/MultiHeadDotProductAttention_1/out"),
        ("blocks.*.norm2", "Transformer/encoderblock_*/LayerNorm_2"),
        ("blocks.*.mlp.fc1", "Transformer/encoderblock_*/MlpBlock_3/Dense_0"),
        ("blocks.*.mlp.fc2", "Transformer/encoderblock_*/MlpBlock_3/Dense_1"),
        ("blocks.*.attn.q", "Transformer/encoderblock_*/MultiHeadDotProductAttention_0/query"),
        ("blocks.*.attn.k", "Transformer/encoderblock_*/MultiHeadDotProductAttention_0/key"),
        ("blocks.*.attn.v", "Transformer/encoderblock_*/MultiHeadDotProductAttention_0/value"),
        ("blocks.*.attn.proj", "Transformer/encoderblock_*/MultiHeadDotProductAttention_0/out"),
        ("blocks.*.norm2", "Transformer/encoderblock_*/LayerNorm_1"),
        ("blocks.*.mlp.fc1", "Transformer/encoderblock_*/MlpBlock_0/Dense_0"),
        ("blocks.*.mlp.fc2", "Transformer/encoderblock_*/MlpBlock_0/Dense_1"),
        ("norm", "Transformer/encoder_norm"),
        ("head", "head"),
    ],
    endings: &[(".weight", "/kernel"), (".weight", "/scale"), (".bias", "/bias"), ("", "")],
};

/// timm's names are ours.
pub static TIMM: Naming = Naming { name: "timm", prefixes: &[], layers: &[], endings: &[] };

impl Naming {
    /// Recognizes the names of a file.
    pub fn of(names: &[&str]) -> &'static Naming {
        let has = |part: &str| names.iter().any(|name| name.contains(part));
        let starts = |part: &str| names.iter().any(|name| name.starts_with(part));
        if has("embeddings.patch_embeddings.") || has("embeddings.cls_token") {
            &HUGGING_FACE
        } else if starts("conv_proj.") || has("encoder_layer_") {
            &TORCHVISION
        } else if has("embedding/kernel") || has("encoderblock_") {
            &AUGREG
        } else if starts("features.") {
            &VGG
        } else {
            &TIMM
        }
    }

    /// Our name for one of theirs.
    pub fn ours(&self, name: &str) -> Option<String> {
        if self.layers.is_empty() {
            return Some(name.to_string());
        }
        let bare = self.prefixes.iter().filter_map(|prefix| name.strip_prefix(prefix)).min_by_key(|rest| rest.len());
        let bare = bare.unwrap_or(name);
        self.endings.iter().find_map(|(ours, theirs)| {
            let layer = bare.strip_suffix(theirs)?;
            self.layers.iter().find_map(|(to, from)| Some(renamed(layer, from, to)? + ours))
        })
    }

    /// Their name for one of ours, without a prefix.
    pub fn theirs(&self, name: &str) -> Option<String> {
        if self.layers.is_empty() {
            return Some(name.to_string());
        }
        self.endings.iter().find_map(|(ours, theirs)| {
            let layer = name.strip_suffix(ours)?;
            self.layers.iter().find_map(|(from, to)| Some(renamed(layer, from, to)? + theirs))
        })
    }
}

/// A name that matches a pattern, by another pattern.
fn renamed(name: &str, from: &str, to: &str) -> Option<String> {
    let Some((before, after)) = from.split_once('*') else { return (name == from).then(|| to.to_string()) };
    let number = name.strip_prefix(before)?.strip_suffix(after)?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| to.replace('*', number))
}

/// Makes one tensor `attn.qkv` of each `attn.q`, `attn.k` and `attn.v`, in the place of the first of them.
pub(super) fn join_qkv(tensors: Vec<Tensor>) -> Vec<Tensor> {
    let part = |name: &str| {
        let (block, rest) = name.split_once(".attn.")?;
        let (part, kind) = rest.split_once('.')?;
        let part = ["q", "k", "v"].iter().position(|one| *one == part)?;
        Some((format!("{block}.attn.qkv.{kind}"), part))
    };
    // A tensor that is not a part stands alone, in the first place.
    let mut slots: Vec<(String, [Option<Tensor>; 3])> = Vec::with_capacity(tensors.len());
    let mut places: HashMap<String, usize> = HashMap::new();
    for tensor in tensors {
        let Some((name, number)) = part(&tensor.name) else {
            slots.push((String::new(), [Some(tensor), None, None]));
            continue;
        };
        let place = *places.entry(name).or_insert_with_key(|name| {
            slots.push((name.clone(), [None, None, None]));
            slots.len() - 1
        });
        slots[place].1[number] = Some(tensor);
    }
    let joined = slots.into_iter().flat_map(|(name, parts)| match parts {
        [Some(q), Some(k), Some(v)] if q.shape == k.shape && k.shape == v.shape && !q.shape.is_empty() => {
            let mut shape = q.shape.clone();
            shape[0] *= 3;
            let integers = [q.dtype, k.dtype, v.dtype].into_iter().find(|dtype| dtype.is_integer());
            let dtype = integers.unwrap_or(q.dtype);
            vec![Tensor { name, shape, values: [q.values, k.values, v.values].concat(), dtype }]
        }
        // Incomplete: they are reported by their own names.
        parts => parts.into_iter().flatten().collect(),
    });
    joined.collect()
}

/// Gives a tensor of JAX, by its name with ours, PyTorch's order of axes: kernels are `[in, out]` there, those of attention
/// have an axis for the heads, and convolutions are `[height, width, in, out]`.
pub(super) fn from_jax(tensor: Tensor) -> Tensor {
    let Some((layer, kind)) = tensor.name.rsplit_once('.') else { return tensor };
    let part = layer.rsplit('.').next().unwrap_or_default();
    let shape = tensor.shape.clone();
    match (kind, &shape[..]) {
        ("weight", [_, _, _, _]) => tensor.permuted(&[3, 2, 0, 1]),
        ("weight", &[width, heads, own]) if ["q", "k", "v"].contains(&part) => {
            tensor.reshaped(vec![width, heads * own]).permuted(&[1, 0])
        }
        ("weight", &[heads, own, width]) => tensor.reshaped(vec![heads * own, width]).permuted(&[1, 0]),
        ("weight", [_, _]) => tensor.permuted(&[1, 0]),
        ("bias", &[heads, own]) => tensor.reshaped(vec![heads * own]),
        _ => tensor,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::tensor::Dtype;

    #[test]
    fn every_name_leads_to_ours_and_back() {
        let names = [
            "cls_token",
            "pos_embed",
            "patch_embed.proj.weight",
            "blocks.11.norm1.bias",
            "blocks.0.attn.proj.weight",
            "blocks.7.mlp.fc2.bias",
            "norm.weight",
            "head.bias",
        ];
        for naming in [&HUGGING_FACE, &TORCHVISION, &AUGREG] {
            for name in names {
                let theirs = naming.theirs(name).unwrap();
                assert_ne!((naming.name, theirs.as_str()), ("Hugging Face", name));
                assert_eq!(naming.ours(&theirs).as_deref(), Some(name), "{theirs}");
                for prefix in naming.prefixes {
                    assert_eq!(naming.ours(&format!("{prefix}{theirs}")).as_deref(), Some(name), "{prefix}{theirs}");
                }
            }
        }
        assert_eq!(VGG.theirs("layers.28.weight").as_deref(), Some("features.28.weight"));
        assert_eq!(
            HUGGING_FACE.theirs("blocks.3.attn.q.weight").as_deref(),
            Some("encoder.layer.3.attention.attention.query.weight")
        );
        let in_proj = "encoder.layers.encoder_layer_3.self_attention.in_proj_weight";
        assert_eq!(TORCHVISION.ours(in_proj).as_deref(), Some("blocks.3.attn.qkv.weight"));
        assert_eq!(HUGGING_FACE.ours("vit.pooler.dense.weight"), None);
        assert_eq!(HUGGING_FACE.ours("vit.encoder.layer.x.layernorm_after.bias"), None);
    }

    #[test]
    fn query_key_and_value_become_one_in_this_order() {
        let tensor = |name: &str, value: f32| Tensor {
            name: name.to_string(),
            shape: vec![1, 2],
            values: vec![value; 2],
            dtype: Dtype::Float32,
        };
        let parts = [
            "head.weight",
            "blocks.1.attn.v.weight",
            "blocks.1.attn.q.weight",
            "blocks.1.attn.k.weight",
            "norm.weight",
        ];
        let joined = join_qkv((0..5u8).map(|i| tensor(parts[usize::from(i)], i.into())).collect());
        assert_eq!(
            joined.iter().map(|tensor| tensor.name.as_str()).collect::<Vec<_>>(),
            ["head.weight", "blocks.1.attn.qkv.weight", "norm.weight"]
        );
        assert_eq!(
            (joined[1].shape.as_slice(), joined[1].values.as_slice()),
            (&[3, 2][..], &[2., 2., 3., 3., 1., 1.][..])
        );
    }
}
