//! Events from plain records: scalars, histograms, images, the model's graph and its hyperparameters.
//!
//! # Source
//! What `tensorboard.summary` and the plugins of TensorBoard write; a series has the data class of its plugin.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;

use super::messages::{
    Attribute, AttributeValue, Event, Experiment, GraphDef, HParam, HParamInfo, HParamValue, HParams, HParamsData,
    Metadata, MetricInfo, MetricName, NodeDef, PluginData, SessionEnd, SessionLog, SessionStart, Shape, Shapes,
    Summary, Tensor, Value, Versions, What,
};
use crate::plot::Png;

/// Bars of a histogram, as many as TensorBoard's own summaries have.
const BARS: usize = 30;

const SCALARS: (&str, i32) = ("scalars", 1);
const HISTOGRAMS: (&str, i32) = ("histograms", 2);
const IMAGES: (&str, i32) = ("images", 3);
const HPARAMS: (&str, i32) = ("hparams", 2);

/// The series that the table of runs shows, the most important first.
const METRICS: [&str; 6] = ["val_acc", "val_loss", "train_acc", "train_loss", "test_acc", "test_loss"];

/// The step and the time of an event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stamp {
    /// Steps since the start of the run.
    pub step: u64,
    /// Seconds since 1970.
    pub time: f64,
}

impl Stamp {
    /// A step that was taken now.
    pub fn now(step: u64) -> Stamp {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |elapsed| elapsed.as_secs_f64());
        Stamp { step, time }
    }

    fn event(self, what: What) -> Event {
        Event { wall_time: self.time, step: self.step as i64, what: Some(what) }
    }

    fn summary(self, value: Vec<Value>) -> Event {
        self.event(What::Summary(Summary { value }))
    }
}

/// A layer of the model's graph.
#[derive(Clone, Debug, PartialEq)]
pub struct GraphNode {
    /// With a dot per level: `blocks.3.attn.qkv`.
    pub name: String,
    /// Its operation.
    pub op: String,
    /// The layers whose outputs it takes.
    pub inputs: Vec<String>,
    /// Its output's axes, without the batch.
    pub shape: Vec<usize>,
    /// Its parameters, as text.
    pub parameters: String,
}

/// A hyperparameter of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Hyperparameter {
    /// Its name: every run has the same ones, or their table would leave some runs out.
    pub name: String,
    /// What it means.
    pub description: String,
    /// Whether its values are numbers.
    pub is_number: bool,
    /// Absent where the run has none.
    pub value: Option<HParamValue>,
    /// Whether it is shown before the others.
    pub is_first: bool,
}

fn series(tag: &str, (plugin, data_class): (&str, i32), content: Vec<u8>, tensor: Tensor) -> Value {
    let plugin_data = Some(PluginData { plugin_name: plugin.to_string(), content });
    let metadata = Some(Metadata { plugin_data, summary_description: String::new(), data_class });
    Value { tag: tag.to_string(), tensor: Some(tensor), metadata }
}

fn floats(values: &[f32], shape: &[usize]) -> Tensor {
    let content = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor { dtype: Tensor::FLOAT, shape: Some(Shape::new(shape)), content, strings: Vec::new() }
}

/// What a file starts with.
pub fn file_start(time: f64) -> [Event; 2] {
    let stamp = Stamp { step: 0, time };
    let start = SessionLog { status: SessionLog::START };
    [stamp.event(What::FileVersion("brain.Event:2".to_string())), stamp.event(What::SessionLog(start))]
}

/// Values of several series at a step.
pub fn scalars<'a>(stamp: Stamp, values: impl IntoIterator<Item = (&'a str, f64)>) -> Event {
    let values = values.into_iter();
    stamp.summary(values.map(|(tag, value)| series(tag, SCALARS, Vec::new(), floats(&[value as f32], &[]))).collect())
}

/// Histograms of several tensors at a step.
pub fn histograms<'a>(stamp: Stamp, tensors: impl IntoIterator<Item = (String, &'a [f32])>) -> Event {
    let one = |(tag, values): (String, &[f32])| {
        let bars = bars(values);
        let content = bars.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
        let shape = Some(Shape::new(&[bars.len(), 3]));
        series(&tag, HISTOGRAMS, Vec::new(), Tensor { dtype: Tensor::DOUBLE, shape, content, strings: Vec::new() })
    };
    stamp.summary(tensors.into_iter().map(one).collect())
}

/// The bars of a histogram: start, end and number of values of each. NaN and infinite values are in none; where all
/// values are equal, the last bar has them.
fn bars(values: &[f32]) -> Vec<[f64; 3]> {
    let finite = || values.iter().copied().filter(|value| value.is_finite()).map(f64::from);
    let (low, high) = finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    let (low, width) = if low <= high { (low, (high - low) / BARS as f64) } else { (0.0, 0.0) };
    let mut bars: Vec<[f64; 3]> =
        (0..BARS).map(|bar| [low + bar as f64 * width, low + (bar + 1) as f64 * width, 0.0]).collect();
    for value in finite() {
        let bar = if width > 0.0 { ((value - low) / width) as usize } else { BARS - 1 };
        bars[bar.min(BARS - 1)][2] += 1.0;
    }
    bars
}

/// An image at a step.
pub fn image(stamp: Stamp, tag: &str, picture: &Png) -> Event {
    let [width, height] = [picture.width, picture.height].map(|side| side.to_string().into_bytes());
    let strings = vec![width, height, picture.bytes.clone()];
    let shape = Some(Shape::new(&[strings.len()]));
    let tensor = Tensor { dtype: Tensor::STRING, shape, content: Vec::new(), strings };
    stamp.summary(vec![series(tag, IMAGES, Vec::new(), tensor)])
}

/// The model. Levels of a name become folders, which TensorBoard folds; the shape of an edge starts with the batch.
pub fn graph(time: f64, nodes: &[GraphNode]) -> Event {
    let path = |name: &String| name.replace('.', "/");
    let node = nodes.iter().map(|node| {
        let axes = std::iter::once(-1).chain(node.shape.iter().map(|&axis| axis as i64));
        let shape = Shape { dim: axes.map(|size| super::messages::Dim { size }).collect() };
        let mut attr = BTreeMap::new();
        let list = AttributeValue::List(Shapes { shape: vec![shape] });
        attr.insert("_output_shapes".to_string(), Attribute { value: Some(list) });
        if !node.parameters.is_empty() {
            let text = AttributeValue::Text(node.parameters.clone().into_bytes());
            attr.insert("parameters".to_string(), Attribute { value: Some(text) });
        }
        NodeDef { name: path(&node.name), op: node.op.clone(), input: node.inputs.iter().map(path).collect(), attr }
    });
    let graph = GraphDef { node: node.collect(), versions: Some(Versions { producer: 22 }) };
    Stamp { step: 0, time }.event(What::GraphDef(graph.encode_to_vec()))
}

fn hparams_value(tag: &str, data: HParamsData) -> Value {
    let content = HParams { version: 0, data: Some(data) }.encode_to_vec();
    series(tag, HPARAMS, content, floats(&[0.0], &[1]))
}

/// The hyperparameters of a run, and the series that the table of runs shows.
pub fn hyperparameters(time: f64, all: &[Hyperparameter]) -> Event {
    let info = |one: &Hyperparameter| HParamInfo {
        name: one.name.clone(),
        description: one.description.clone(),
        data_type: if one.is_number { HParamInfo::NUMBER } else { HParamInfo::STRING },
        differs: one.is_first,
    };
    let metric = |tag: &&str| MetricInfo { name: Some(MetricName { tag: tag.to_string() }) };
    let hparam_infos = all.iter().map(info).collect();
    let experiment = Experiment { hparam_infos, metric_infos: METRICS.iter().map(metric).collect() };
    let given = all.iter().filter_map(|one| Some((one.name.clone(), HParam { value: Some(one.value.clone()?) })));
    let start = SessionStart { hparams: given.collect(), start_time_secs: time };
    Stamp { step: 0, time }.summary(vec![
        hparams_value("_hparams_/experiment", HParamsData::Experiment(experiment)),
        hparams_value("_hparams_/session_start_info", HParamsData::Start(start)),
    ])
}

/// That a run has ended, well or not.
pub fn end(stamp: Stamp, is_success: bool) -> Event {
    let status = if is_success { SessionEnd::SUCCESS } else { SessionEnd::FAILURE };
    let end = SessionEnd { status, end_time_secs: stamp.time };
    stamp.summary(vec![hparams_value("_hparams_/session_end_info", HParamsData::End(end))])
}

/// The bytes of an event.
pub fn encoded(event: &Event) -> Vec<u8> {
    event.encode_to_vec()
}

/// The names of the series that an event has values of.
pub fn tags(event: &Event) -> impl Iterator<Item = &str> {
    let values = match &event.what {
        Some(What::Summary(summary)) => summary.value.as_slice(),
        _ => &[],
    };
    values.iter().map(|value| value.tag.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bars_of_a_histogram_hold_every_finite_value_once() {
        let values: Vec<f32> = (0..97).map(|i| (i * 31 % 97) as f32 / 97.0 - 0.25).collect();
        let found = bars(&values);
        assert_eq!((found.len(), found.iter().map(|bar| bar[2]).sum::<f64>()), (30, 97.0));
        for [start, end, count] in &found[..29] {
            let inside = values.iter().filter(|&&x| (*start..*end).contains(&f64::from(x))).count();
            assert_eq!(*count, inside as f64, "{start} to {end}");
        }
        assert_eq!((found[0][0], found[29][1] as f32), (-0.25, 96.0 / 97.0 - 0.25));
        let equal = bars(&[0.5, f32::NAN, 0.5, f32::INFINITY]);
        assert!(equal[..29].iter().all(|bar| *bar == [0.5, 0.5, 0.0]) && equal[29] == [0.5, 0.5, 2.0], "{equal:?}");
        assert_eq!(bars(&[f32::NAN]), vec![[0.0; 3]; 30]);
        assert_eq!(bars(&[]), vec![[0.0; 3]; 30]);
    }
}
