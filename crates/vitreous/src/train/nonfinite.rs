//! Steps with a NaN or infinite loss or gradient: where it first occurs, and rolling back.

use std::fmt;

use serde::Serialize;
use vitreous_engine::graph::Parameter;
use vitreous_engine::{Graph, NodeId, ParameterKind, Parameters, Session, Step, training_memory};

use super::training::{Context, EpochStart, Training};
use super::{Event, Job, TrainError, available_memory, optimizer};
use crate::numbers;

/// Roll-backs before a training gives up.
pub const ROLLBACKS: u32 = 3;

/// Values that are checked together, which limits the memory of the search.
const VALUES: usize = 32 << 20;

/// A step with a NaN or infinite loss or gradient.
#[derive(Clone, Debug, PartialEq)]
pub struct NonfiniteStep {
    /// Counted from 1.
    pub step: u64,
    /// Counted from 1.
    pub epoch: u64,
    /// Learning rate of the step.
    pub lr: f64,
    /// The configured learning rate, of which the schedule makes that of a step.
    pub base_lr: f64,
    /// Its loss.
    pub loss: f64,
    /// L2 norm of its gradient; NaN where the loss is not finite.
    pub gradient_norm: f64,
    /// The first layer with a nonfinite value, or the first tensor with such a gradient, if found.
    pub first: Option<String>,
}

impl fmt::Display for NonfiniteStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NonfiniteStep { step, epoch, lr, loss, gradient_norm, first, .. } = self;
        // With a nonfinite loss, the gradients give no more information.
        match loss.is_finite() {
            true => write!(f, "the gradient's norm is {gradient_norm}, the loss {loss}, at step {step}")?,
            false => write!(f, "the loss is {loss} at step {step}")?,
        }
        if let Some(first) = first {
            write!(f, ", first in `{first}`")?;
        }
        write!(f, " (epoch {epoch}, learning rate {})", numbers::number(*lr))
    }
}

/// A roll-back to the start of an epoch; a line of `metrics.jsonl`.
#[derive(Serialize)]
struct RollbackLine {
    step: u64,
    epoch: u64,
    rollback: u32,
    lr_factor: f64,
}

impl Training {
    /// Rolls back to the start of the epoch, with half the learning rate.
    pub(super) fn roll_back(&mut self, bad_step: NonfiniteStep, context: &mut Context) -> Result<(), TrainError> {
        let rollbacks = self.position.results.rollbacks + 1;
        if rollbacks > ROLLBACKS {
            return Err(TrainError::NotFinite(bad_step));
        }
        let EpochStart { position, parameters, optimizer } =
            self.start.as_mut().expect("it was noted when the epoch began");
        let lr_factor = self.position.lr_factor / 2.0;
        position.lr_factor = lr_factor;
        position.results.rollbacks = rollbacks;
        self.session.restore(parameters, optimizer);
        self.position = position.clone();
        // Weights kept since then belong to steps that are repeated.
        self.lowest = None;
        let NonfiniteStep { step, epoch, .. } = bad_step;
        context.writer.metrics(&RollbackLine { step, epoch, rollback: rollbacks, lr_factor });
        context.writer.events_go_back(self.position.results.steps);
        (context.listen)(Event::RolledBack { step: &bad_step, rollbacks, lr_factor });
        Ok(())
    }
}

/// Finds the NaN or infinite value of a step, in a separate session: a weight that was nonfinite before the step, else
/// the first value of the forward pass or, if the loss is finite, the first gradient of the backward pass. Finds
/// nothing if there is no memory for the session.
pub(super) fn find(job: &Job, parameters: &Parameters, step: &Step, is_loss_finite: bool) -> Option<String> {
    let graph = &job.model.graph;
    if is_loss_finite && !step.only_finite {
        // Such a gradient was already added to the weights.
        return last_tensor(graph, parameters);
    }
    // Running statistics only follow other values.
    if let Some(tensor) = first_tensor(graph, parameters, |param| param.kind == ParameterKind::Trained) {
        return Some(tensor);
    }
    let (optimizer, loss) = (optimizer(&job.config.train), job.model.loss);
    let needed = training_memory(graph, loss, &[], &optimizer, step.images, job.threads).total();
    if available_memory(job.threads).is_some_and(|available| available < needed + (VALUES * size_of::<f32>()) as u64) {
        return None;
    }
    let mut session =
        Session::new(graph.clone(), parameters.clone(), job.threads).expect("a model with its own parameters");
    if is_loss_finite {
        session.start_training(loss, &[], optimizer);
        let (gradient, _) = session.gradients(step);
        return last_tensor(graph, &gradient);
    }
    let nodes: Vec<NodeId> = graph.ids().filter(|&id| id != job.model.label).collect();
    let mut from = 0;
    while from < nodes.len() {
        let mut values = 0;
        let size = |id: &NodeId| graph.node(*id).shape.len().max(1) * step.images;
        let count = nodes[from..].iter().take_while(|&id| {
            values += size(id);
            values <= VALUES
        });
        let group = &nodes[from..from + count.count().max(1)];
        session.start_training(loss, group, optimizer);
        session.gradients(step);
        // The mean of values is finite when all of them are: f32 values do not overflow an f64.
        let is_nonfinite = |(number, _): &(usize, &NodeId)| !session.metric_mean(*number, step.images).is_finite();
        if let Some((_, &id)) = group.iter().enumerate().find(is_nonfinite) {
            return Some(graph.node(id).name.clone());
        }
        from += group.len();
    }
    None
}

fn is_finite(parameters: &Parameters, graph: &Graph, name: &str) -> bool {
    let id = graph.find_parameter(name).expect("the parameter is the graph's");
    parameters.get(id).iter().all(|value| value.is_finite())
}

/// The first of the given tensors with a nonfinite value.
pub(super) fn first_tensor(
    graph: &Graph,
    parameters: &Parameters,
    among: impl Fn(&Parameter) -> bool,
) -> Option<String> {
    let mut names = graph.parameters().iter().filter(|param| among(param)).map(|param| &param.name);
    names.find(|name| !is_finite(parameters, graph, name)).cloned()
}

/// The last one: the first in the backward pass.
fn last_tensor(graph: &Graph, gradient: &Parameters) -> Option<String> {
    let mut names = graph.parameters().iter().rev().map(|param| &param.name);
    names.find(|name| !is_finite(gradient, graph, name)).cloned()
}
