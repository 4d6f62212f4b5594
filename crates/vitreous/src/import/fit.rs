//! Puts tensors into a model: equal ones are copied, others are adapted where there is a known way, and what is left is
//! listed with its reason.

use std::collections::BTreeMap;
use std::path::Path;

use vitreous_engine::{Graph, NodeId, Parameters};

use super::error::ImportError;
use super::resample;
use super::tensor::{Dtype, Tensor};
use crate::models::Model;
use crate::numbers::{self, counted};
use crate::spelling;
use crate::text::some_of;

/// Names in a line about tensors that are left out.
const LISTED: usize = 6;

/// What a line says of a file without a head.
const NO_HEAD: &str = "the file has none for this model";

/// Names of a file that a missing one is compared with.
const COMPARED: usize = 200;

/// A model's parameters with the values of a file.
#[derive(Clone)]
pub struct Fitted {
    /// All parameters.
    pub parameters: Parameters,
    /// Number of tensors that have the file's values.
    pub loaded: usize,
    /// What was adapted, replaced or left out: a line for each.
    pub lines: Vec<String>,
}

/// Fills a model's parameters, which hold initial values, from tensors with our names. `left_out` are tensors for which the
/// model has no use. `partial` loads what fits although the rest does not.
///
/// # Errors
/// When tensors do not fit, or, with `partial`, none does.
pub(super) fn fit(
    path: &Path,
    model: &Model,
    parameters: Parameters,
    tensors: Vec<Tensor>,
    partial: bool,
) -> Result<Fitted, ImportError> {
    let graph = &model.graph;
    let mut file: BTreeMap<String, Tensor> = tensors.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
    let mut fitted = Fitted { parameters, loaded: 0, lines: Vec::new() };
    fitted.lines.extend(converted(file.values()));
    fitted.lines.extend(left_out(&mut file, graph));
    let head = head(model);
    let is_head = |name: &str| head.as_deref().is_some_and(|head| layer_of(name) == head);
    let fresh_head = replaced_head(&file, graph, is_head);
    if fresh_head.is_some() {
        file.retain(|name, _| !is_head(name));
    }
    let mut problems = Vec::new();
    let mut missing = Vec::new();
    for param in graph.parameters() {
        let (name, shape) = (&param.name, param.shape.0.as_slice());
        let id = graph.find_parameter(name).expect("it is the graph's own");
        let Some(tensor) = file.remove(name) else {
            if !(is_head(name) && fresh_head.is_some()) {
                missing.push((name.clone(), shape.to_vec()));
            }
            continue;
        };
        if let Some(reason) = unusable(&tensor) {
            problems.push(format!("`{name}` {reason}"));
            continue;
        }
        let found = tensor.shape.clone();
        match adapted(name, tensor, shape, graph) {
            Some((values, line)) => {
                fitted.parameters.get_mut(id).copy_from_slice(&values);
                fitted.loaded += 1;
                fitted.lines.extend(line);
            }
            None => problems.push(misfit(name, &found, shape)),
        }
    }
    fitted.lines.extend(fresh_head.map(|reason| format!("the classification head is replaced: {reason}")));
    for (name, shape) in missing {
        let same = file.iter().filter(|(_, tensor)| tensor.shape == shape).map(|(name, _)| name.as_str());
        let nearest = spelling::nearest(&name, same.take(COMPARED));
        let instead = nearest.map(|nearest| format!(", nearest is `{nearest}`")).unwrap_or_default();
        problems.push(format!("`{name}` is missing in the file{instead}"));
    }
    problems.extend(file.iter().map(|(name, tensor)| format!("`{name}` {:?} is unknown to the model", tensor.shape)));
    if !problems.is_empty() && (!partial || fitted.loaded == 0) {
        return Err(ImportError::Unfit { path: path.to_path_buf(), is_all: fitted.loaded == 0, problems });
    }
    fitted.lines.extend(problems.into_iter().map(|problem| format!("not loaded: {problem}")));
    Ok(fitted)
}

/// Why the head starts from random values, if it does: its tensors are loaded together or not at all.
fn replaced_head(file: &BTreeMap<String, Tensor>, graph: &Graph, is_head: impl Fn(&str) -> bool) -> Option<String> {
    let own: Vec<_> = graph.parameters().iter().filter(|param| is_head(&param.name)).collect();
    let missing: Vec<&str> =
        own.iter().map(|param| param.name.as_str()).filter(|name| !file.contains_key(*name)).collect();
    if let Some(first) = missing.first() {
        let has_none = missing.len() == own.len();
        return Some(if has_none { NO_HEAD.to_string() } else { format!("the file lacks `{first}`") });
    }
    own.iter().find_map(|param| {
        let (theirs, inner) = file[&param.name].shape.split_first()?;
        let (ours, own) = param.shape.0.split_first()?;
        (theirs != ours && inner == own).then(|| format!("{theirs} classes in the file, {ours} here"))
    })
}

/// Why a tensor's values are not a model's.
fn unusable(tensor: &Tensor) -> Option<&'static str> {
    if tensor.dtype.is_integer() {
        Some("holds integers, as in a quantized model")
    } else if tensor.name.ends_with("running_var") && tensor.values.iter().any(|value| *value < 0.0) {
        Some("holds negative variances")
    } else {
        None
    }
}

/// The note that numbers were converted.
fn converted<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for tensor in tensors.filter(|tensor| tensor.dtype != Dtype::Float32 && !tensor.dtype.is_integer()) {
        *counts.entry(tensor.dtype.name()).or_default() += 1;
    }
    let all: Vec<String> =
        counts.iter().map(|(name, count)| format!("{} of {name}", counted(*count, "tensor"))).collect();
    (!all.is_empty()).then(|| format!("converted to float32: {}", all.join(", ")))
}

/// Removes what models of ours never have.
fn left_out(file: &mut BTreeMap<String, Tensor>, graph: &Graph) -> Vec<String> {
    let is_vgg_classifier = |name: &str| {
        let is_one = ["classifier.", "pre_logits.", "head.fc."].iter().any(|start| name.starts_with(start));
        is_one && graph.find_parameter("layers.0.weight").is_some()
    };
    let reason = |name: &str| {
        Some(match name {
            "dist_token" | "head_dist.weight" | "head_dist.bias" => "the distillation's own token and head",
            _ if is_vgg_classifier(name) => "the wide linear layers; this model has one small layer in their place",
            _ if name.contains("pooler.") || name.starts_with("pre_logits") => {
                "a layer before the head that is not used"
            }
            "mask_token" | "embeddings.mask_token" | "vit.embeddings.mask_token" => "for a pre-training task",
            "cls_token" if graph.find_parameter("cls_token").is_none() => "this model averages its tokens instead",
            _ => return None,
        })
    };
    // Counters and tables of places say nothing that a model needs.
    file.retain(|name, _| !name.ends_with("num_batches_tracked") && !name.ends_with("position_ids"));
    if file.contains_key("dist_token")
        && let Some(table) = file.get_mut("pos_embed")
        && let [1, rows, width] = table.shape[..]
        && rows > 2
    {
        // The second token's position.
        table.values.drain(width..2 * width);
        table.shape[1] = rows - 1;
    }
    let mut lines: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    file.retain(|name, _| match reason(name).filter(|_| graph.find_parameter(name).is_none()) {
        Some(reason) => {
            lines.entry(reason).or_default().push(name.clone());
            false
        }
        None => true,
    });
    lines.into_iter().map(|(reason, names)| format!("left out: {} ({reason})", some_of(&names, LISTED))).collect()
}

/// The layer that computes the logits.
fn head(model: &Model) -> Option<String> {
    let mut at: NodeId = model.logits;
    loop {
        let node = model.graph.node(at);
        match node.params.first() {
            Some(&param) => return Some(layer_of(&model.graph.parameter(param).name).to_string()),
            None => at = *node.inputs.first()?,
        }
    }
}

fn layer_of(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(layer, _)| layer)
}

/// The values of a tensor for a parameter of this shape, and what was done to them.
fn adapted(name: &str, tensor: Tensor, shape: &[usize], graph: &Graph) -> Option<(Vec<f32>, Option<String>)> {
    if tensor.shape == shape {
        return Some((tensor.values, None));
    }
    // A patch embedding as a matrix: of a linear layer, or of an earlier version of this program.
    if let [out, channels, height, width] = *shape
        && name.ends_with("patch_embed.proj.weight")
        && tensor.shape == [out, channels * height * width]
    {
        return Some((tensor.values, None));
    }
    match (name, &tensor.shape[..], shape) {
        ("pos_embed", &[1, from, width], &[1, to, own]) if width == own => {
            positions(&tensor.values, from, to, width, graph)
        }
        ("patch_embed.proj.weight", &[out, from, height, width], &[own, to, size, _])
            if out == own && height == width =>
        {
            let (mut values, mut lines) = (tensor.values, Vec::new());
            if from != to {
                let how = if to == 1 { "summed to gray" } else { "divided among the channels" };
                lines.push(format!("{from} to {to} channels, {how}"));
                values = resample::channels(&values, from, to, height * width);
            }
            if height != size {
                lines.push(format!("{height}x{height} to {size}x{size} pixels, as FlexiViT does"));
                values = resample::patches(&values, height, size);
            }
            Some((values, Some(format!("the patch embedding is resampled: {}", lines.join("; ")))))
        }
        // A convolution on the image itself.
        (_, &[out, from, height, width], &[own, to, size, _])
            if [out, height, width] == [own, size, size] && graph.parameters()[0].name == name =>
        {
            let line = format!("the first convolution is adapted: {from} to {to} channels");
            Some((resample::channels(&tensor.values, from, to, height * width), Some(line)))
        }
        // A vector with additional axes of length 1.
        (_, theirs, ours) if longer(ours).count() <= 1 && longer(theirs).eq(longer(ours)) => {
            Some((tensor.values, None))
        }
        _ => None,
    }
}

/// The axes that are longer than 1.
fn longer(shape: &[usize]) -> impl Iterator<Item = &usize> {
    shape.iter().filter(|axis| **axis != 1)
}

/// Resamples position embeddings; a first row of a token that is not a patch stays as it is.
fn positions(table: &[f32], from: usize, to: usize, width: usize, graph: &Graph) -> Option<(Vec<f32>, Option<String>)> {
    // A square and at most one token more.
    let grid = |rows: usize| {
        let side = rows.isqrt();
        [rows, rows - 1]
            .into_iter()
            .find(|&patches| patches == side * side && patches > 0)
            .map(|patches| (side, rows - patches))
    };
    let ((old, old_tokens), (new, _)) = (grid(from)?, grid(to)?);
    let new_tokens = usize::from(graph.find_parameter("cls_token").is_some());
    if to != new * new + new_tokens {
        return None;
    }
    let (first, patches) = table.split_at(old_tokens * width);
    let mut values = match (old_tokens, new_tokens) {
        (_, 0) => Vec::new(),
        (1, _) => first.to_vec(),
        _ => vec![0.0; width],
    };
    let is_equal = old == new;
    values.extend(if is_equal { patches.to_vec() } else { resample::positions(patches, old, new, width) });
    let line = if is_equal {
        "the position embedding has another number of class tokens".to_string()
    } else {
        format!("the position embedding is resampled: {old}x{old} to {new}x{new} patches")
    };
    Some((values, Some(line)))
}

/// Why a tensor does not fit.
fn misfit(name: &str, found: &[usize], expected: &[usize]) -> String {
    let is_transposed = found.len() > 1 && found.iter().rev().eq(expected);
    let also = if is_transposed { ", which looks transposed" } else { "" };
    let same_len = found.iter().product::<usize>() == expected.iter().product::<usize>();
    let also = if also.is_empty() && same_len { ", with the same number of values" } else { also };
    format!("`{name}` is {found:?} in the file and {expected:?} in the model{also}")
}

/// Says what was loaded.
pub fn summary(fitted: &Fitted, graph: &Graph, source: &str) -> String {
    let (loaded, all) = (fitted.loaded as u64, graph.parameters().len() as u64);
    let source = if source.is_empty() { String::new() } else { format!(" ({source} names)") };
    format!("{} of {} tensors have the file's values{source}", numbers::count(loaded), numbers::count(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, shape: &[usize], value: f32) -> Tensor {
        let values = vec![value; shape.iter().product()];
        Tensor { name: name.to_string(), shape: shape.to_vec(), values, dtype: Dtype::Float32 }
    }

    #[test]
    fn only_vectors_take_additional_axes() {
        let fits = |from: &[usize], to: &[usize]| adapted("a", tensor("a", from, 0.5), to, &Graph::new()).is_some();
        assert!(fits(&[1, 1, 7], &[7]));
        assert!(fits(&[7], &[1, 7]));
        assert!(!fits(&[5, 3, 3], &[5, 1, 3, 3]));
        assert!(!fits(&[5, 7, 1, 1], &[5, 7]));
        assert!(!fits(&[5, 27], &[5, 3, 3, 3]));
    }

    #[test]
    fn variances_are_not_negative() {
        assert_eq!(unusable(&tensor("bn1.running_var", &[3], -0.5)), Some("holds negative variances"));
        assert_eq!(unusable(&tensor("bn1.running_var", &[3], 0.0)), None);
        assert_eq!(unusable(&tensor("bn1.running_mean", &[3], -0.5)), None);
    }
}
