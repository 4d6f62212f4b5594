//! What a training shows in TensorBoard. It is gathered at log lines and at the ends of epochs, only where the config asks
//! for it, and changes nothing that the training computes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use vitreous_engine::{Graph, ParamId, ParameterKind, Parameters, Session};

use super::Job;
use super::writer::CheckpointWriter;
use crate::config::difference::flat_config;
use crate::config::model::Task;
use crate::data::{Answer, ImageShape, first_of_each_class};
use crate::evaluate::ConfusionMatrix;
use crate::numbers;
use crate::plot::{self, Png, Theme};
use crate::record::{EpochRow, MetricsLine, Status};
use crate::tensorboard::{
    Event, GraphNode, Stamp, VALIDATION_MATRIX, end, enlarged, epoch_event, graph, histograms, hyperparameters,
    hyperparameters_event, image, line_event, scalars,
};
use crate::text::short_name;

/// Epochs of a run that have histograms and a confusion matrix, at most and about; TensorBoard shows no more of them.
const PICTURES: usize = 50;

/// Classes of which an image is shown.
const SAMPLES: usize = 10;

/// What is gathered for TensorBoard.
pub(super) struct Board {
    graph: Arc<Graph>,
    /// Layers with trained parameters.
    layers: Vec<(String, Vec<ParamId>)>,
    /// Epochs from one with pictures to the next, and the number of the last epoch.
    epochs: [u64; 2],
    /// The step whose norms were measured last, and the norms.
    norms: Option<(u64, Vec<(String, f64)>)>,
    /// Of the validation split, where the model is a classifier.
    matrix: Option<ConfusionMatrix>,
    /// The name of the data set.
    data: String,
    drawing: Option<Drawing>,
}

/// A thread that draws confusion matrices: steps and checkpoints do not wait for it, and a panic there ends no training.
struct Drawing {
    sender: Sender<(Stamp, ConfusionMatrix)>,
    handle: JoinHandle<()>,
}

impl Drawing {
    /// Starts it; where the system starts no thread, the event file has no confusion matrices.
    fn start(writer: &CheckpointWriter, data: String) -> Option<Drawing> {
        let (sender, receiver) = mpsc::channel::<(Stamp, ConfusionMatrix)>();
        let queue = writer.event_queue();
        let work = move || {
            for (stamp, matrix) in receiver {
                if let Some(picture) = confusion(&matrix, "validation", &data) {
                    queue.put(move || vec![image(stamp, VALIDATION_MATRIX, &picture)]);
                }
            }
        };
        let handle = thread::Builder::new().name("confusion".to_string()).spawn(work).ok()?;
        Some(Drawing { sender, handle })
    }
}

impl Board {
    /// Starts to gather, where the config asks for it.
    pub fn of(job: &Job) -> Option<Board> {
        if job.config.train.tensorboard != Some(true) {
            return None;
        }
        let graph = Arc::new(job.model.graph.clone());
        let epochs = job.config.train.epochs;
        let matrix = (job.config.model.task() == Task::Classify).then(|| ConfusionMatrix::new(&job.data().class_names));
        let epochs = [epochs.div_ceil(PICTURES), epochs].map(|epochs| epochs as u64);
        Some(Board {
            layers: layers(&graph),
            graph,
            epochs,
            norms: None,
            matrix,
            data: job.data().name.clone(),
            drawing: None,
        })
    }

    /// What is known before the first step.
    pub fn head(job: &Job) -> Vec<Event> {
        let Stamp { time, .. } = Stamp::now(0);
        let settings = flat_config(&job.config.to_toml(), "config.toml").expect("a checked config");
        let all = hyperparameters(&settings, &job.config.model.describe(), None);
        let mut events = vec![hyperparameters_event(time, &all), graph(time, &graph_nodes(&job.model.graph))];
        let mut canvas = Vec::new();
        let ImageShape { channels, height, width } = job.image_shape();
        for (name, index) in samples(job) {
            let pixels = job.train.pixels(job.train.index(0, index), &mut canvas);
            let picture = enlarged(pixels, [channels, height, width]);
            events.push(image(Stamp { step: 0, time }, &format!("samples/{name}"), &picture));
        }
        events
    }

    /// Measures the norms of a step that has just been taken, whose gradients' norms the session was asked for.
    pub fn measure(&mut self, step: u64, session: &Session) {
        let (gradients, weights) = (session.gradient_norms(), session.parameters());
        let norm = |squares: f64| squares.sqrt();
        let mut norms = Vec::with_capacity(2 * self.layers.len());
        for (name, ids) in &self.layers {
            let gradient = norm(ids.iter().map(|id| gradients[id.index()].powi(2)).sum());
            norms.push((format!("weight_gradient_norm/{name}"), gradient));
        }
        for (name, ids) in &self.layers {
            let values = ids.iter().flat_map(|&id| weights.get(id));
            let weight = norm(values.map(|&value| f64::from(value) * f64::from(value)).sum());
            norms.push((format!("weight_norm/{name}"), weight));
        }
        self.norms = Some((step, norms));
    }

    /// Hands in a log line, with the norms of its last step if they were measured.
    pub fn hand_in_line(&mut self, line: MetricsLine, writer: &CheckpointWriter) {
        let stamp = Stamp::now(line.step);
        let norms = self.norms.take().filter(|(step, _)| *step == line.step);
        writer.events(move || {
            let norms = norms.map(|(_, norms)| scalars(stamp, norms.iter().map(|(tag, norm)| (tag.as_str(), *norm))));
            [line_event(&line, stamp)].into_iter().chain(norms).collect()
        });
    }

    /// Counts the answer for a validation image.
    pub fn count(&mut self, answer: &Answer, prediction: Option<usize>) {
        if let (Some(matrix), Answer::Class(label), Some(class)) = (&mut self.matrix, answer, prediction) {
            matrix.add(*label, class, 1);
        }
    }

    /// Hands in an epoch, after which the parameters were these.
    pub fn hand_in_epoch(&mut self, row: &EpochRow, parameters: &Arc<Parameters>, writer: &CheckpointWriter) {
        let stamp = Stamp::now(row.step);
        let own = epoch_event(row, stamp);
        let names = self.matrix.as_ref().map(|matrix| matrix.names().to_vec());
        let matrix = std::mem::replace(&mut self.matrix, names.map(|names| ConfusionMatrix::new(&names)));
        let [every, last] = self.epochs;
        if !row.epoch.is_multiple_of(every) && row.epoch != 1 && row.epoch != last {
            return writer.events(move || vec![own]);
        }
        let (graph, parameters) = (self.graph.clone(), parameters.clone());
        writer.events(move || vec![own, weights(stamp, &graph, &parameters)]);
        if let Some(matrix) = matrix {
            self.drawing = self.drawing.take().or_else(|| Drawing::start(writer, self.data.clone()));
            // A thread that has ended has printed its panic.
            self.drawing.iter().for_each(|drawing| drop(drawing.sender.send((stamp, matrix.clone()))));
        }
    }

    /// Hands in what is still drawn, and how the run ended; one that was interrupted has not.
    pub fn hand_in_end(&mut self, ended: Result<Status, ()>, step: u64, writer: &CheckpointWriter) {
        if let Some(Drawing { sender, handle }) = self.drawing.take() {
            drop(sender);
            let _ = handle.join();
        }
        let is_success = match ended {
            Ok(status) if status.is_finished() => true,
            Err(()) => false,
            Ok(_) => return,
        };
        let stamp = Stamp::now(step);
        writer.events(move || vec![end(stamp, is_success)]);
    }
}

/// The picture of a confusion matrix of images of this kind, if there are any.
pub fn confusion(matrix: &ConfusionMatrix, split: &str, data: &str) -> Option<Png> {
    let outcome =
        matrix.outcome(format!("{} {split} images of {}", numbers::count(matrix.total()), short_name(data)))?;
    plot::confusion::confusion(&outcome, Theme::Light.style())?.png(1.0).ok()
}

/// The histograms of all trained parameters.
pub fn weights(stamp: Stamp, graph: &Graph, parameters: &Parameters) -> Event {
    let all = trained(graph).map(|(name, id)| (format!("weights/{name}"), parameters.get(id)));
    histograms(stamp, all)
}

/// The nodes of a model's graph as plain records.
pub fn graph_nodes(graph: &Graph) -> Vec<GraphNode> {
    let node = |node: &vitreous_engine::graph::Node| GraphNode {
        name: node.name.clone(),
        op: node.op.name().to_string(),
        inputs: node.inputs.iter().map(|&input| graph.node(input).name.clone()).collect(),
        shape: node.shape.0.clone(),
        parameters: (node.params.iter().map(|&id| graph.parameter(id)))
            .map(|param| format!("{} {}", param.name, param.shape))
            .collect::<Vec<_>>()
            .join(", "),
    };
    graph.nodes().iter().map(node).collect()
}

/// The names of the trained parameters.
fn trained(graph: &Graph) -> impl Iterator<Item = (&str, ParamId)> {
    let params = graph.parameters().iter().filter(|param| param.kind == ParameterKind::Trained);
    params.filter_map(|param| Some((param.name.as_str(), graph.find_parameter(&param.name)?)))
}

/// The layers with trained parameters, in the order of the graph: `blocks.0.attn.qkv` has a weight and a bias.
fn layers(graph: &Graph) -> Vec<(String, Vec<ParamId>)> {
    let mut layers: Vec<(String, Vec<ParamId>)> = Vec::new();
    for (name, id) in trained(graph) {
        let layer = ["weight", "bias"].iter().find_map(|end| name.strip_suffix(end)?.strip_suffix('.'));
        let layer = layer.unwrap_or(name);
        match layers.iter_mut().find(|(known, _)| known == layer) {
            Some((_, ids)) => ids.push(id),
            None => layers.push((layer.to_string(), vec![id])),
        }
    }
    layers
}

/// Training images for the eye: the first of each class, or the first strips; with what is on them, each once.
fn samples(job: &Job) -> BTreeMap<String, usize> {
    let names = &job.data().class_names;
    let first = first_of_each_class(&*job.train, names.len(), SAMPLES.min(names.len()));
    first.into_iter().rev().map(|index| (job.train.answer(index).name(names), index)).collect()
}
