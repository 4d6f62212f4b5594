//! Compares what the layers of an imported model compute with what the other program computed for the same image, and finds
//! the likely reason for the first difference: the model is changed in the ways in which implementations differ, and the
//! change that moves the first difference furthest is the likely one.
//!
//! `benches/save_activations.py` writes the other program's values, under our names of layers.

use std::path::Path;

use serde::Serialize;
use vitreous_engine::{Examples, NodeId, Parameters, Session};

use super::initial::shortest;
use super::{ExperimentError, Imported};
use crate::advice::Suggestion;
use crate::config::model::{Activation, ModelConfig, ModelSpec, VitSpec};
use crate::data::augment::Augment;
use crate::data::{Normalization, decode_picture};
use crate::import::{ImportError, Tensor, read_file};
use crate::models::{self, Model};
use crate::train::threads;

/// The model's input, in a file of activations.
const INPUT: &str = "input";

/// A difference above this part of a layer's largest value is not one of rounding.
const TOLERANCE: f64 = 2e-5;

/// How a model's layers agree with another program's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ActivationReport {
    /// Layers that the file has, in the order of computation, each with its largest difference as a part of its largest value.
    pub layers: Vec<(String, f64)>,
    /// The first that differs.
    pub first: Option<String>,
    /// The likely reason.
    pub reason: Option<String>,
    /// What to do about it.
    #[serde(skip)]
    pub suggestion: Option<Suggestion>,
}

/// One image as numbers.
struct Input<'a>(&'a [f32]);

impl Examples for Input<'_> {
    fn fill(&self, input: usize, _: usize, values: &mut [f32]) {
        if input == 0 { values.copy_from_slice(self.0) } else { values.fill(0.0) }
    }
}

/// Compares the layers of a model for an image with the values in a file.
///
/// # Errors
/// When the image or the file cannot be read, or the file has none of the model's layers.
pub fn compare_activations(
    imported: &Imported,
    image: &Path,
    file: &Path,
) -> Result<ActivationReport, ExperimentError> {
    let theirs = read_file(file)?;
    let own = imported.classifier(1)?;
    let shape = own.shape();
    let pixels = decode_picture(image, shape, own.config().data.resize)?.pixels;
    let mut input = vec![0.0; pixels.len()];
    let Normalization { mean, std } = imported.normalization();
    Augment::new(Default::default(), shape.channels, shape.height, shape.width, mean, std).plain(&pixels, &mut input);
    let mut report = ActivationReport { layers: Vec::new(), first: None, reason: None, suggestion: None };
    if let Some(other) = theirs.iter().find(|tensor| tensor.name == INPUT) {
        let is_same_size = other.values.len() == input.len();
        let difference = if is_same_size { difference(&input, &other.values) } else { f64::INFINITY };
        report.layers.push((INPUT.to_string(), difference));
        if report.layers[0].1 > TOLERANCE {
            report.first = Some(INPUT.to_string());
            if !is_same_size {
                let (theirs, ours) = (other.values.len(), input.len());
                let reason =
                    format!("the other program's input has {theirs} values, not {ours}: images of another size");
                report.reason = Some(reason);
                return Ok(report);
            }
            (report.reason, report.suggestion) = of_input(&pixels, &other.values, shape.channels);
            return Ok(report);
        }
        input.clone_from(&other.values);
    }
    let (model, parameters) = (&imported.model, &imported.fitted.parameters);
    let layers = differences(model, parameters, &input, &theirs);
    if layers.is_empty() {
        let reason = "it has none of the model's layers".to_string();
        return Err(ImportError::Unsupported { path: file.to_path_buf(), reason }.into());
    }
    let first = first(&layers);
    report.first = layers.get(first).map(|(name, _)| name.clone());
    report.layers.extend(layers.iter().cloned());
    if report.first.is_some() {
        let ways = ways(imported);
        let mut best = (first, f64::INFINITY);
        for way in ways {
            let layers = differences(&way.model, &way.parameters, &input, &theirs);
            let (place, largest) = (self::first(&layers), layers.iter().fold(0.0f64, |most, layer| most.max(layer.1)));
            if place > first && (place > best.0 || place == best.0 && largest < best.1) {
                best = (place, largest);
                (report.reason, report.suggestion) = (Some(way.reason), way.suggestion);
            }
        }
    }
    Ok(report)
}

/// The place of the first layer that differs, or the number of layers.
fn first(layers: &[(String, f64)]) -> usize {
    layers.iter().position(|(_, difference)| *difference > TOLERANCE).unwrap_or(layers.len())
}

/// The largest difference as a part of the largest value; infinite where there is none, as of NaN.
fn difference(ours: &[f32], theirs: &[f32]) -> f64 {
    if ours.len() > theirs.len() || ours.iter().chain(theirs).any(|value| !value.is_finite()) {
        return f64::INFINITY;
    }
    let largest = theirs.iter().fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
    let apart = ours.iter().zip(theirs).fold(0.0f32, |apart, (a, b)| apart.max((a - b).abs()));
    f64::from(apart) / f64::from(largest)
}

/// The differences of all layers that the file has. Of a layer that is computed for the class token alone, the file may have
/// the other tokens too.
fn differences(model: &Model, parameters: &Parameters, input: &[f32], theirs: &[Tensor]) -> Vec<(String, f64)> {
    let node = |name: &str| if name == "head" { Some(model.logits) } else { model.graph.find(name) };
    let mut found: Vec<(NodeId, &Tensor)> =
        theirs.iter().filter_map(|tensor| Some((node(&tensor.name)?, tensor))).collect();
    found.retain(|(id, _)| id.index() <= model.logits.index() && *id != model.image);
    found.sort_by_key(|(id, _)| id.index());
    let ids: Vec<NodeId> = found.iter().map(|(id, _)| *id).collect();
    if ids.is_empty() {
        return Vec::new();
    }
    let mut session =
        Session::new(model.graph.clone(), parameters.clone(), threads(0)).expect("a model with its own parameters");
    let ours = session.infer(&ids, 1, &Input(input));
    let named =
        |((_, theirs), ours): ((NodeId, &Tensor), &Vec<f32>)| (theirs.name.clone(), difference(ours, &theirs.values));
    found.into_iter().zip(&ours).map(named).collect()
}

/// A change in which implementations differ.
struct Way {
    reason: String,
    suggestion: Option<Suggestion>,
    model: Model,
    parameters: Parameters,
}

/// Gives a parameter, by its name and values, other values, or leaves it.
type Change<'a> = dyn Fn(&str, &[f32]) -> Option<Vec<f32>> + 'a;

fn ways(imported: &Imported) -> Vec<Way> {
    let ModelConfig::Vit(config) = &imported.config.model else { return Vec::new() };
    let (spec, mut ways) = (config.spec(), Vec::new());
    let mut other = |changed: VitSpec, reason: String, key: &str, value: toml::Value| {
        let Ok(config) = ModelSpec::Vit(changed).with_facts(config.facts()) else { return };
        if let Ok(model) = models::build(&config, 0.0) {
            let suggestion = Some(Suggestion::new().set(key, value));
            ways.push(Way { reason, suggestion, model, parameters: imported.fitted.parameters.clone() });
        }
    };
    for eps in [1e-5, 1e-6, 1e-12, 1e-3].into_iter().filter(|eps| *eps != spec.norm_eps) {
        let reason = format!("the other model's layer norms have epsilon {eps:e}, not {:e}", spec.norm_eps);
        other(VitSpec { norm_eps: eps, ..spec.clone() }, reason, "model.norm_eps", eps.into());
    }
    let activations = [
        (Activation::Gelu, "gelu", "the exact GELU"),
        (Activation::GeluTanh, "gelu-tanh", "GELU's tanh approximation"),
        (Activation::Relu, "relu", "ReLU"),
    ];
    for (activation, word, name) in activations.into_iter().filter(|(activation, ..)| *activation != spec.activation) {
        let reason = format!("the other model's activation is {name}");
        other(VitSpec { activation, ..spec.clone() }, reason, "model.activation", word.into());
    }
    let mut moved = |reason: &str, change: &Change<'_>| {
        let (model, mut parameters) = (imported.model.clone(), imported.fitted.parameters.clone());
        for param in model.graph.parameters() {
            let id = model.graph.find_parameter(&param.name).expect("its own");
            if let Some(values) = change(&param.name, parameters.get(id)) {
                parameters.get_mut(id).copy_from_slice(&values);
            }
        }
        ways.push(Way { reason: reason.to_string(), suggestion: None, model, parameters });
    };
    let (patch, channels) = (spec.patch_size, config.facts().channels);
    // From a kernel `[out, channels, y, x]`, the number at the place that another order has for it.
    let reordered = |name: &str, values: &[f32], place: &dyn Fn(usize, usize, usize) -> usize| {
        let len = channels * patch * patch;
        (name == "patch_embed.proj.weight").then(|| {
            let each = |kernel: &[f32]| -> Vec<f32> {
                let places =
                    (0..channels).flat_map(|c| (0..patch).flat_map(move |y| (0..patch).map(move |x| (c, y, x))));
                places.map(|(c, y, x)| kernel[place(c, y, x)]).collect()
            };
            values.chunks_exact(len).flat_map(each).collect()
        })
    };
    moved("the pixels of a patch are in another order: channels last", &|name, values| {
        reordered(name, values, &|c, y, x| (y * patch + x) * channels + c)
    });
    moved("the pixels of a patch are in another order: columns before rows", &|name, values| {
        reordered(name, values, &|c, y, x| (c * patch + x) * patch + y)
    });
    for order in [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let word = |part: usize| ["query", "key", "value"][part];
        let reason =
            format!("the rows of qkv are in the order {}, {}, {}", word(order[0]), word(order[1]), word(order[2]));
        moved(&reason, &|name, values| {
            let third = values.len() / 3;
            let place = |part: usize| order.iter().position(|one| *one == part).expect("all three");
            let part = |part: usize| &values[place(part) * third..][..third];
            name.contains(".attn.qkv.").then(|| [part(0), part(1), part(2)].concat())
        });
    }
    let heads = spec.num_heads;
    moved("query, key and value alternate from head to head in the rows of qkv", &|name, values| {
        let piece = values.len() / (3 * heads);
        let part = |part: usize, head: usize| &values[(head * 3 + part) * piece..][..piece];
        let all = (0..3).flat_map(|one| (0..heads).map(move |head| (one, head)));
        name.contains(".attn.qkv.").then(|| all.flat_map(|(one, head)| part(one, head).to_vec()).collect())
    });
    ways
}

/// Why another program's input differs: another normalization, or another way to scale the image.
fn of_input(pixels: &[u8], theirs: &[f32], channels: usize) -> (Option<String>, Option<Suggestion>) {
    let known: [(&str, [f32; 3], [f32; 3]); 3] = [
        ("that of ImageNet", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ("0.5 and 0.5", [0.5; 3], [0.5; 3]),
        ("none: pixels are from 0 to 1", [0.0; 3], [1.0; 3]),
    ];
    let plane = pixels.len() / channels;
    for (name, mean, std) in known {
        let value = |(i, &byte): (usize, &u8)| (f32::from(byte) / 255.0 - mean[i / plane]) / std[i / plane];
        let ours: Vec<f32> = pixels.iter().enumerate().map(value).collect();
        // The images may be scaled by another filter, which moves few pixels far.
        let apart: f32 = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).sum::<f32>() / ours.len() as f32;
        let largest = theirs.iter().fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
        if apart / largest < 0.01 {
            let list = |values: &[f32]| values[..channels].iter().map(|value| shortest(*value)).collect::<Vec<f64>>();
            let suggestion = Suggestion::new().set("data.mean", list(&mean)).set("data.std", list(&std));
            return (Some(format!("the other program's normalization is {name}")), Some(suggestion));
        }
    }
    (Some("the image is scaled or cut in another way".to_string()), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_never_agreement() {
        assert_eq!(difference(&[1.0, 3.0], &[1.0, 4.0]), 0.25);
        for (ours, theirs) in [(f32::NAN, 1.0), (1.0, f32::NAN), (f32::NAN, f32::NAN), (f32::INFINITY, 1.0)] {
            assert_eq!(difference(&[1.0, ours], &[1.0, theirs]), f64::INFINITY);
        }
        assert_eq!(first(&[("head".to_string(), f64::INFINITY)]), 0);
    }
}
