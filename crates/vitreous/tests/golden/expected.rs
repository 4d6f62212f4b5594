//! The golden files: the numbers a run starts from, what it came to in PyTorch, and what counts as equal.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

/// A golden file, as `make_golden.py` writes it.
#[derive(Deserialize)]
pub struct Golden {
    seed: u32,
    /// Images of the one batch.
    pub batch: usize,
    image_scale: f64,
    parameters: Vec<Start>,
    outputs: Vec<Sample>,
    logits: Vec<f64>,
    loss: f64,
    gradients: Vec<Sample>,
    losses: Vec<f64>,
}

/// A parameter's values before the first step: `center + scale u` with u in [-1, 1).
#[derive(Deserialize)]
struct Start {
    name: String,
    shape: Vec<usize>,
    center: f64,
    scale: f64,
}

/// What is stored of a tensor.
#[derive(Deserialize)]
struct Sample {
    name: String,
    norm: f64,
    largest: f64,
    largest_place: usize,
    /// At fixed places, as many as there are in the file.
    elements: Vec<f64>,
}

/// What a run under test came to.
pub struct Found {
    /// Intermediate values of the batch, by node name.
    pub outputs: BTreeMap<String, Vec<f64>>,
    /// `[batch, classes]`
    pub logits: Vec<f64>,
    /// Gradients of the mean loss, before the first step.
    pub gradients: BTreeMap<String, Vec<f64>>,
    /// Mean loss before each step; as many as were computed.
    pub losses: Vec<f64>,
}

/// The greatest differences that are allowed.
#[derive(Clone, Copy)]
pub struct Tolerance {
    /// Of a value, as part of its tensor's largest.
    pub value: f64,
    /// Added to it for a gradient, as part of the model's largest: key biases have a gradient of zero.
    pub model: f64,
    /// Of a loss.
    pub loss: f64,
}

/// f64 against f64: the sums differ in order, nothing else.
pub const F64: Tolerance = Tolerance { value: 1e-11, model: 1e-13, loss: 1e-10 };
/// f32 against f64; PyTorch's own f32 takes a quarter of it (`make_golden.py --float32`).
pub const F32: Tolerance = Tolerance { value: 5e-6, model: 1e-8, loss: 2e-5 };
/// The same for sums of thousands, as convolutions and projections of whole sequences have.
pub const CONVOLUTION: Tolerance = Tolerance { value: 2e-5, model: 2e-7, loss: 2e-5 };

impl Golden {
    /// Reads the golden file of a preset.
    pub fn load(preset: &str) -> Golden {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{preset}.json"));
        let text = fs::read_to_string(&path).expect("the file is part of the repository");
        serde_json::from_str(&text).expect("the file is as make_golden.py wrote it")
    }

    /// Returns the values a parameter starts from.
    pub fn parameter(&self, name: &str, shape: &[usize]) -> Vec<f32> {
        let number = self.parameters.iter().position(|start| start.name == name);
        let number = number.unwrap_or_else(|| panic!("PyTorch has no parameter `{name}`"));
        let Start { shape: expected, center, scale, .. } = &self.parameters[number];
        assert_eq!(shape, expected, "shape of `{name}`");
        tensor(self.seed, number, shape.iter().product(), *center, *scale)
    }

    /// Returns the batch's images of `len` values each, one after the other.
    pub fn images(&self, len: usize) -> Vec<f32> {
        tensor(self.seed, self.parameters.len(), self.batch * len, 0.0, self.image_scale)
    }

    /// Returns the images' classes.
    pub fn labels(&self) -> Vec<usize> {
        let classes = self.logits.len() / self.batch;
        (0..self.batch).map(|i| (7 * i + 3) % classes).collect()
    }

    /// Number of losses in the file.
    pub fn steps(&self) -> usize {
        self.losses.len()
    }

    /// Compares all there is, and says in a sentence each what is not equal.
    pub fn complaints(&self, found: &Found, tolerance: Tolerance) -> Vec<String> {
        let mut complaints = compare_all(&self.outputs, &found.outputs, tolerance.value, 0.0);
        let largest = largest(&self.logits).abs();
        complaints.extend(compare_values("logits", &self.logits, &found.logits, tolerance.value * largest));
        let largest = self.gradients.iter().fold(0.0f64, |a, gradient| a.max(gradient.largest.abs()));
        let floor = tolerance.model * largest;
        complaints.extend(compare_all(&self.gradients, &found.gradients, tolerance.value, floor));
        let losses = &self.losses[..found.losses.len().clamp(1, self.losses.len())];
        assert_eq!(self.loss, losses[0], "the file contradicts itself");
        complaints.extend(compare_values("losses", losses, &found.losses, tolerance.loss));
        complaints
    }
}

/// Compares each tensor's norm, largest element and elements at fixed places.
fn compare_all(expected: &[Sample], found: &BTreeMap<String, Vec<f64>>, tolerance: f64, floor: f64) -> Vec<String> {
    let mut complaints: Vec<String> = found
        .keys()
        .filter(|name| expected.iter().all(|sample| sample.name != **name))
        .map(|name| format!("`{name}` is not in the golden file"))
        .collect();
    for sample in expected {
        let name = &sample.name;
        let Some(values) = found.get(name) else {
            complaints.push(format!("`{name}` was not computed"));
            continue;
        };
        let allowed = tolerance * sample.largest.abs() + floor;
        let at_places: Vec<f64> = places(values.len(), sample.elements.len()).map(|place| values[place]).collect();
        complaints.extend(compare_values(name, &sample.elements, &at_places, allowed));
        let norm = values.iter().map(|x| x * x).sum::<f64>().sqrt();
        complaints.extend(compare_values(
            &format!("{name}, norm"),
            &[sample.norm],
            &[norm],
            tolerance * sample.norm + floor,
        ));
        let name = format!("{name}, largest");
        let found = [largest(values), values[sample.largest_place]];
        complaints.extend(compare_values(&name, &[sample.largest; 2], &found, allowed));
    }
    complaints
}

/// Says where two lists differ most, when they differ by more than `allowed`.
fn compare_values(name: &str, expected: &[f64], found: &[f64], allowed: f64) -> Option<String> {
    if expected.len() != found.len() {
        return Some(format!("{name}: {} values, not {}", found.len(), expected.len()));
    }
    // A NaN is further away than anything.
    let error = |i: usize| Some((found[i] - expected[i]).abs()).filter(|e| !e.is_nan()).unwrap_or(f64::INFINITY);
    let worst = (0..found.len()).max_by(|&a, &b| error(a).total_cmp(&error(b)))?;
    let part = error(worst) / allowed;
    (part > 1.0).then(|| {
        format!("{name}[{worst}]: {} is not {}, {part:.2} times what is allowed", found[worst], expected[worst])
    })
}

/// The element that is largest without its sign; the first of equals.
fn largest(values: &[f64]) -> f64 {
    values.iter().rev().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(f64::NAN)
}

/// At most `limit` places in 0..count; the step is a prime that divides no count.
fn places(count: usize, limit: usize) -> Box<dyn Iterator<Item = usize>> {
    if count <= limit { Box::new(0..count) } else { Box::new((0..limit).map(move |k| k * 1_000_003 % count)) }
}

/// Wellons' lowbias32.
fn mix(mut x: u32) -> u32 {
    x = (x ^ (x >> 16)).wrapping_mul(0x21F0_AAAD);
    x = (x ^ (x >> 15)).wrapping_mul(0xD35A_2D97);
    x ^ (x >> 15)
}

/// The numbers of a tensor, by the formula that `make_golden.py` has too.
fn tensor(seed: u32, number: usize, count: usize, center: f64, scale: f64) -> Vec<f32> {
    let key = mix(1000 * seed + number as u32);
    let unit = |i: usize| f64::from(mix(key.wrapping_add(i as u32))) / (1u64 << 31) as f64 - 1.0;
    (0..count).map(|i| (center + scale * unit(i)) as f32).collect()
}
