//! What stands next to a weights file: `config.json` and `preprocessor_config.json` of Hugging Face and timm. With the
//! tensors' shapes they say which model it is, and how its images were prepared.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::ImportError;
use super::names::{HUGGING_FACE, Naming};
use super::tensor::Tensor;
use crate::config::data::Resize;
use crate::config::model::VitSpec;
use crate::data::Normalization;
use crate::numbers::counted;
use crate::regular;

/// Largest file of settings that is read, in bytes.
const SETTINGS_MAX: u64 = 16 << 20;

/// Channels of a head in all of the usual sizes; the tensors do not show it.
pub const HEAD_DIM: usize = 64;

/// What is known of a source of weights beyond its tensors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// The vision transformer that the tensors are of; absent for other models.
    pub vit: Option<VitSpec>,
    /// Keys of that model whose values nothing shows, with what is assumed.
    pub assumed: Vec<(&'static str, String)>,
    /// How its images are normalized.
    pub normalization: Option<Normalization>,
    /// How its images become square.
    pub resize: Option<Resize>,
    /// Names of its classes, by number.
    pub class_names: Option<Vec<String>>,
    /// What cannot be done here as there: a line for each.
    pub notes: Vec<String>,
}

/// A JSON file next to the weights.
struct Json {
    path: PathBuf,
    value: Value,
}

impl Json {
    fn next_to(weights: &Path, name: &str) -> Result<Option<Json>, ImportError> {
        let path = weights.with_file_name(name);
        if !path.is_file() {
            return Ok(None);
        }
        let text = regular::read_text(&path, SETTINGS_MAX).map_err(|error| ImportError::read(&path, &error))?;
        match serde_json::from_str(&text) {
            Ok(value) => Ok(Some(Json { path, value })),
            Err(error) => Err(ImportError::damaged(&path, error)),
        }
    }

    fn whole(&self, key: &str) -> Option<usize> {
        self.value[key].as_u64().and_then(|value| usize::try_from(value).ok())
    }

    /// Compares a size with the tensors'.
    fn check(&self, key: &str, found: usize) -> Result<(), ImportError> {
        match self.whole(key) {
            Some(written) if written != found => Err(ImportError::Settings {
                path: self.path.clone(),
                key: key.to_string(),
                written: written.to_string(),
                found: found.to_string(),
            }),
            _ => Ok(()),
        }
    }
}

/// Finds out about tensors that have our names by now.
///
/// # Errors
/// When a file of settings is unreadable, or contradicts the tensors.
pub(super) fn of(path: &Path, tensors: &[Tensor], naming: &Naming) -> Result<Settings, ImportError> {
    let config = Json::next_to(path, "config.json")?;
    let images = Json::next_to(path, "preprocessor_config.json")?;
    let (vit, assumed) = vit(path, tensors, config.as_ref(), naming)?.unzip();
    let mut settings = Settings { vit, assumed: assumed.unwrap_or_default(), ..Settings::default() };
    if let Some(config) = &config {
        prepared(&config.value["pretrained_cfg"], ["mean", "std"], &mut settings);
        settings.class_names = class_names(&config.value);
        let interpolation = config.value["pretrained_cfg"]["interpolation"].as_str();
        settings.notes.extend(interpolation.filter(|name| *name != "bilinear").map(other_filter));
        if let Some(part) = config.value["pretrained_cfg"]["crop_pct"].as_f64().filter(|part| *part < 1.0) {
            settings.notes.push(crops("timm", part, "crop_pct"));
        }
    }
    if let Some(images) = &images {
        prepared(&images.value, ["image_mean", "image_std"], &mut settings);
        rescaled(&images.value, &mut settings.normalization);
        let is_square = images.value["size"].is_u64() || images.value["size"]["height"].is_u64();
        let has_crop = images.value["do_center_crop"].as_bool() == Some(true);
        settings.resize = Some(if is_square && !has_crop { Resize::Squash } else { Resize::Crop });
        let side = |key: &str| {
            let size = &images.value[key];
            size.as_f64().or(size["height"].as_f64()).or(size["shortest_edge"].as_f64())
        };
        if let [Some(size), Some(crop)] = ["size", "crop_size"].map(side)
            && has_crop
            && crop < size
        {
            settings.notes.push(crops("Hugging Face", crop / size, "crop_size"));
        }
        let filter = match images.value["resample"].as_u64() {
            Some(0) => Some("nearest"),
            Some(1) => Some("lanczos"),
            Some(3) => Some("bicubic"),
            _ => None,
        };
        settings.notes.extend(filter.map(other_filter));
    }
    Ok(settings)
}

fn other_filter(name: &str) -> String {
    format!("the images were scaled with a {name} filter, this program uses a bilinear one")
}

fn crops(program: &str, part: f64, key: &str) -> String {
    format!(
        "{program} cuts the middle {part} out of each image ({key}), this program scales the shorter side to the model's size"
    )
}

/// Applies what Hugging Face does to pixels from 0 to 255 before it normalizes, and whether it does.
fn rescaled(images: &Value, normalization: &mut Option<Normalization>) {
    if images["do_normalize"].as_bool() == Some(false) {
        *normalization = Some(Normalization { mean: vec![0.0; 3], std: vec![1.0; 3] });
    }
    let factor = match images["do_rescale"].as_bool() {
        Some(false) => 1.0,
        _ => images["rescale_factor"].as_f64().unwrap_or(1.0 / 255.0),
    };
    // Pixels are from 0 to 1 here.
    let largest = (factor * 255.0) as f32;
    if let Some(Normalization { mean, std }) = normalization
        && (largest - 1.0).abs() > 1e-6
    {
        mean.iter_mut().chain(std).for_each(|value| *value /= largest);
    }
}

/// Reads mean and standard deviation.
fn prepared(value: &Value, keys: [&str; 2], settings: &mut Settings) {
    let list = |key: &str| -> Option<Vec<f32>> {
        let list = value[key].as_array()?;
        list.iter().map(|value| value.as_f64().map(|value| value as f32)).collect()
    };
    if let [Some(mean), Some(std)] = keys.map(list)
        && mean.len() == std.len()
        && !mean.is_empty()
    {
        settings.normalization = Some(Normalization { mean, std });
    }
}

fn class_names(config: &Value) -> Option<Vec<String>> {
    let labels = config["id2label"].as_object()?;
    let names: Option<Vec<String>> =
        (0..labels.len()).map(|class| Some(labels.get(&class.to_string())?.as_str()?.to_string())).collect();
    names.or_else(|| {
        let list = config["label_names"].as_array()?;
        list.iter().map(|name| name.as_str().map(str::to_string)).collect()
    })
}

/// Values that are assumed: a key of `[model]`, and what is said of it.
type Assumed = Vec<(&'static str, String)>;

/// The vision transformer that tensors are of, by their shapes; what they do not show is in the settings, or assumed.
fn vit(
    path: &Path,
    tensors: &[Tensor],
    config: Option<&Json>,
    naming: &Naming,
) -> Result<Option<(VitSpec, Assumed)>, ImportError> {
    let shape = |name: &str| tensors.iter().find(|tensor| tensor.name == name).map(|tensor| tensor.shape.as_slice());
    let (Some(&[embed_dim, channels, patch_size, _]), Some([hidden_dim, ..]), Some(_)) =
        (shape("patch_embed.proj.weight"), shape("blocks.0.mlp.fc1.weight"), shape("blocks.0.attn.qkv.weight"))
    else {
        return Ok(None);
    };
    let number = |name: &str| name.strip_prefix("blocks.")?.split_once('.')?.0.parse::<usize>().ok();
    let depth = tensors.iter().filter_map(|tensor| number(&tensor.name)).max().map_or(0, |last| last.saturating_add(1));
    let rows = shape("pos_embed").and_then(|shape| shape.get(1)).copied().unwrap_or(0);
    let tokens = usize::from(shape("cls_token").is_some()) + usize::from(shape("dist_token").is_some());
    // Some models have no row for the class token.
    let side = |patches: usize| Some(patches.isqrt()).filter(|side| side * side == patches);
    let Some(grid) = rows.checked_sub(tokens).and_then(side).or_else(|| side(rows)) else {
        let reason = format!("its position embedding has {rows} rows, not those of a square of patches");
        return Err(ImportError::NotSquare { path: path.to_path_buf(), reason });
    };
    let classes = shape("head.weight").and_then(|shape| shape.first()).copied();
    let mut spec = VitSpec {
        image_size: Some(grid.saturating_mul(patch_size)).filter(|size| *size > 0),
        channels: Some(channels),
        num_classes: classes,
        patch_size,
        embed_dim,
        depth,
        num_heads: heads(embed_dim),
        mlp_ratio: *hidden_dim as f64 / embed_dim.max(1) as f64,
        qkv_bias: shape("blocks.0.attn.qkv.bias").is_some(),
        final_norm: shape("norm.weight").is_some(),
        norm_eps: if *naming == HUGGING_FACE { 1e-12 } else { 1e-6 },
        ..VitSpec::default()
    };
    if shape("cls_token").is_none() {
        spec.pooling = crate::config::model::Pooling::Mean;
    }
    let mut assumed = vec![
        ("num_heads", format!("{} of {HEAD_DIM} channels", counted(spec.num_heads, "head"))),
        ("activation", "the exact GELU".to_string()),
        ("norm_eps", format!("epsilon {:e}", spec.norm_eps)),
    ];
    let Some(config) = config else { return Ok(Some((spec, assumed))) };
    let sizes = [
        ("hidden_size", embed_dim),
        ("num_features", embed_dim),
        ("num_hidden_layers", depth),
        ("intermediate_size", *hidden_dim),
        ("patch_size", patch_size),
        ("num_channels", channels),
    ];
    sizes.into_iter().try_for_each(|(key, found)| config.check(key, found))?;
    for size in [&config.value["image_size"], &config.value["pretrained_cfg"]["input_size"]] {
        if let Some([.., Value::Number(height), Value::Number(width)]) = size.as_array().map(Vec::as_slice)
            && height != width
        {
            let reason = format!("the images have {height}x{width} pixels, not as many in both directions");
            return Err(ImportError::NotSquare { path: config.path.clone(), reason });
        }
    }
    if let Some(size) = spec.image_size {
        config.check("image_size", size)?;
    }
    if let Some(classes) = classes {
        config.check("num_classes", classes)?;
        if let Some(labels) = config.value["id2label"].as_object().filter(|labels| labels.len() != classes) {
            return Err(ImportError::Settings {
                path: config.path.clone(),
                key: "the number of labels in id2label".to_string(),
                written: labels.len().to_string(),
                found: classes.to_string(),
            });
        }
    }
    // timm's file has the arguments with which the model was made, where they are not the usual ones.
    let args = &config.value["model_args"];
    let of_timm = args["num_heads"].as_u64().and_then(|heads| usize::try_from(heads).ok());
    if let Some(heads) = config.whole("num_attention_heads").or(of_timm) {
        if heads == 0 || !embed_dim.is_multiple_of(heads) {
            return Err(ImportError::Settings {
                path: config.path.clone(),
                key: "num_attention_heads".to_string(),
                written: heads.to_string(),
                found: format!("a width of {embed_dim}, which is not a multiple of it"),
            });
        }
        spec.num_heads = heads;
        assumed.retain(|(key, _)| *key != "num_heads");
    }
    if let Some(eps) = config.value["layer_norm_eps"].as_f64() {
        spec.norm_eps = eps;
        assumed.retain(|(key, _)| *key != "norm_eps");
    }
    let activation = config.value["hidden_act"].as_str().or(args["act_layer"].as_str());
    if activation.is_some() {
        assumed.retain(|(key, _)| *key != "activation");
    }
    match activation {
        None | Some("gelu") => {}
        Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" | "gelu_tanh") => {
            spec.activation = crate::config::model::Activation::GeluTanh;
        }
        Some("relu") => spec.activation = crate::config::model::Activation::Relu,
        Some(other) => {
            return Err(ImportError::unsupported(&config.path, format!("the activation `{other}` is unknown")));
        }
    }
    Ok(Some((spec, assumed)))
}

/// The usual number of heads; 1 where there is none.
fn heads(embed_dim: usize) -> usize {
    if embed_dim.is_multiple_of(HEAD_DIM) { (embed_dim / HEAD_DIM).max(1) } else { 1 }
}
