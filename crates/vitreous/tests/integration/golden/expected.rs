//! The golden files: initial values, PyTorch's results, and tolerances.

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
    #[serde(default)]
    statistics: Vec<Sample>,
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

/// The stored summary of a tensor.
#[derive(Deserialize)]
struct Sample {
    name: String,
    norm: f64,
    largest: f64,
    /// Where it is, first; then the places whose elements are as large within twice what an f32 run is allowed.
    largest_places: Vec<usize>,
    /// At fixed places, as many as there are in the file.
    elements: Vec<f64>,
}

/// The results of a run under test.
pub struct Found {
    /// Intermediate values of the batch, by node name, of a model that does not learn.
    pub outputs: BTreeMap<String, Vec<f64>>,
    /// `[batch, classes]`, likewise.
    pub logits: Vec<f64>,
    /// Gradients of the mean loss, before the first step.
    pub gradients: BTreeMap<String, Vec<f64>>,
    /// What the first step makes of batch norm's statistics.
    pub statistics: BTreeMap<String, Vec<f64>>,
    /// Mean loss before each step; as many as were computed.
    pub losses: Vec<f64>,
}

/// The largest allowed differences.
#[derive(Clone, Copy)]
pub struct Tolerance {
    /// Of a value, as part of its tensor's largest.
    pub value: f64,
    /// Added to it for a gradient, as part of the model's largest: key biases have a gradient of zero.
    pub model: f64,
    /// Of a loss.
    pub loss: f64,
    /// The name of a gradient whose `value` is another, if there is one.
    pub looser: Option<(&'static str, f64)>,
}

impl Tolerance {
    /// Of a gradient's values.
    fn of(&self, name: &str) -> f64 {
        self.looser.filter(|(looser, _)| *looser == name).map_or(self.value, |(_, value)| value)
    }
}

/// f64 against f64: the sums differ in order, nothing else.
pub const F64: Tolerance = Tolerance { value: 1e-11, model: 1e-13, loss: 1e-10, looser: None };
/// f32 against f64; the engine takes at most 0.72 of it, PyTorch's own f32 1.45 (`make_golden.py --float32`).
pub const F32: Tolerance = Tolerance { value: 5e-6, model: 1e-8, loss: 2e-5, looser: None };
/// The same where convolutions make longer sums; logits are no less exact.
pub const CONVOLUTION: Tolerance = Tolerance { value: 2e-5, ..F32 };

impl Golden {
    /// Reads the golden file of a preset.
    pub fn load(preset: &str) -> Golden {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/integration/golden/{preset}.json"));
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

    /// Number of losses in the file.
    pub fn steps(&self) -> usize {
        self.losses.len()
    }

    /// Compares all there is, and says in a sentence each what is not equal.
    pub fn complaints(&self, found: &Found, tolerance: Tolerance) -> Vec<String> {
        let differences = self.differences(found, tolerance);
        differences.into_iter().filter(|difference| difference.part > 1.0).map(|difference| difference.text).collect()
    }

    /// Compares all there is; the largest difference comes first.
    pub fn differences(&self, found: &Found, tolerance: Tolerance) -> Vec<Difference> {
        let mut differences = compare_all(&self.outputs, &found.outputs, |_| tolerance.value, 0.0);
        let size = self.logits[largest(&self.logits)].abs();
        let allowed = tolerance.value.min(F32.value) * size;
        differences.push(compare_values("logits", &self.logits, &found.logits, allowed));
        let size = self.gradients.iter().fold(0.0f64, |a, gradient| a.max(gradient.largest.abs()));
        let floor = tolerance.model * size;
        differences.extend(compare_all(&self.gradients, &found.gradients, |name| tolerance.of(name), floor));
        differences.extend(compare_all(&self.statistics, &found.statistics, |_| tolerance.value, 0.0));
        let losses = &self.losses[..found.losses.len().clamp(1, self.losses.len())];
        assert_eq!(self.loss, losses[0], "the file contradicts itself");
        differences.push(compare_values("losses", losses, &found.losses, tolerance.loss));
        differences.sort_by(|a, b| b.part.total_cmp(&a.part));
        differences
    }
}

/// How far something is from PyTorch's.
pub struct Difference {
    /// As part of what is allowed.
    pub part: f64,
    /// What differs, where and by how much.
    pub text: String,
}

impl Difference {
    fn infinite(text: String) -> Difference {
        Difference { part: f64::INFINITY, text }
    }
}

/// Compares each tensor's norm, largest element and elements at fixed places.
fn compare_all(
    expected: &[Sample],
    found: &BTreeMap<String, Vec<f64>>,
    tolerance: impl Fn(&str) -> f64,
    floor: f64,
) -> Vec<Difference> {
    let mut differences: Vec<Difference> = found
        .keys()
        .filter(|name| expected.iter().all(|sample| sample.name != **name))
        .map(|name| Difference::infinite(format!("`{name}` is not in the golden file")))
        .collect();
    for sample in expected {
        let name = &sample.name;
        let Some(values) = found.get(name) else {
            differences.push(Difference::infinite(format!("`{name}` was not computed")));
            continue;
        };
        let tolerance = tolerance(name);
        let allowed = tolerance * sample.largest.abs() + floor;
        let at_places: Vec<f64> = places(values.len(), sample.elements.len()).map(|place| values[place]).collect();
        differences.push(compare_values(name, &sample.elements, &at_places, allowed));
        let norm = values.iter().map(|x| x * x).sum::<f64>().sqrt();
        // Where the true gradient is 0, all elements may be as large as the floor.
        let elements = if sample.largest.abs() < floor { values.len() } else { 1 };
        let allowed_of_norm = tolerance * sample.norm + floor * (elements as f64).sqrt();
        differences.push(compare_values(&format!("{name}, norm"), &[sample.norm], &[norm], allowed_of_norm));
        let (place, near) = (largest(values), &sample.largest_places);
        let found = [values[near[0]], values[place].abs()];
        let expected = [sample.largest, sample.largest.abs()];
        differences.push(compare_values(&format!("{name}, largest"), &expected, &found, allowed));
        if !near.contains(&place) {
            differences.push(Difference::infinite(format!("{name}: the largest element is {place}, not {near:?}")));
        }
    }
    differences
}

/// Says where two lists differ most.
fn compare_values(name: &str, expected: &[f64], found: &[f64], allowed: f64) -> Difference {
    if expected.len() != found.len() {
        return Difference::infinite(format!("{name}: {} values, not {}", found.len(), expected.len()));
    }
    // A NaN is further away than anything.
    let error = |i: usize| Some((found[i] - expected[i]).abs()).filter(|e| !e.is_nan()).unwrap_or(f64::INFINITY);
    let worst = (0..found.len()).max_by(|&a, &b| error(a).total_cmp(&error(b))).expect("no tensor is empty");
    let part = error(worst) / allowed;
    let (found, expected) = (found[worst], expected[worst]);
    Difference { part, text: format!("{name}[{worst}]: {found} is not {expected}, {part:.3} times what is allowed") }
}

/// Place of the element that is largest without its sign; the first of equals.
fn largest(values: &[f64]) -> usize {
    let places = (0..values.len()).rev();
    places.max_by(|&a, &b| values[a].abs().total_cmp(&values[b].abs())).expect("no tensor is empty")
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
