//! What a compiled program's calls compute and what its values take: the facts with which recorded times are read.
//!
//! Operations and parameters are counted on the graph, activations on the slots that calls read and write.

use super::Isa;
use super::compiled::Compiled;
use super::plan::{all, lives, room, sum};
use super::program::convolution::{BatchNormPart, ConvolutionCall, ConvolutionProduct};
use super::program::sequence::{SequenceCall, Strips};
use super::program::{Call, Program, Slot, Wide};
use crate::graph::{Graph, Node, NodeId};
use crate::ops::{self, Op};
use crate::profile::{CallFacts, Pass, ProgramFacts, ValueFacts};

const NUMBER: u64 = size_of::<f32>() as u64;

/// The facts of a program; `gradient_of` says for each node behind the model's which node of the model it belongs to.
pub(super) fn facts(
    compiled: &Compiled,
    graph: &Graph,
    gradient_of: &[NodeId],
    threads: usize,
    isa: Isa,
) -> ProgramFacts {
    let program = &compiled.program;
    let forward_len = graph.nodes().len() - gradient_of.len();
    let layer = |id: &NodeId| if id.0 < forward_len { *id } else { gradient_of[id.0 - forward_len] };
    // Calls that compute a node together share its operations and its parameters.
    let mut sharing = vec![0; graph.nodes().len()];
    let computing = program.calls.iter().zip(&program.covers).filter(|(call, _)| computes(call));
    computing.flat_map(|(_, covers)| covers).for_each(|id| sharing[id.0] += 1);
    // Values that only one call touches are its scratch memory; the others go from call to call.
    let mut uses = vec![0; program.slots.len()];
    program.calls.iter().flat_map(slots).for_each(|slot| uses[slot] += 1);
    let calls = program.calls.iter().zip(&program.covers).map(|(call, covers)| {
        let own: Vec<&Node> = covers.iter().filter(|_| computes(call)).map(|&id| graph.node(id)).collect();
        let share = |of: &dyn Fn(&Node) -> u64| -> u64 {
            let pairs = own.iter().zip(covers);
            pairs.map(|(node, id)| of(node) / sharing[id.0]).sum()
        };
        let slots: Vec<Slot> = slots(call).into_iter().filter(|&slot| uses[slot] > 1).collect();
        let numbers = |of: &dyn Fn(Slot) -> usize| slots.iter().map(|&slot| of(slot) as u64 * NUMBER).sum::<u64>();
        let mut layers = Vec::with_capacity(covers.len());
        for layer in covers.iter().map(layer) {
            if !layers.contains(&layer) {
                layers.push(layer);
            }
        }
        CallFacts {
            layers,
            ops: own.iter().map(|node| node.op.name()).collect(),
            pass: if covers.iter().all(|id| id.0 < forward_len) { Pass::Forward } else { Pass::Backward },
            is_whole: call.whole(),
            is_copy: matches!(call, Call::Input { .. } | Call::Output { .. }),
            flops: share(&|node| ops::cost(graph, node).flops),
            bytes: numbers(&|slot| touched(program, call, slot)),
            bytes_fixed: share(&|node| parameter_bytes(graph, node)) + numbers(&|slot| program.slots[slot].fixed),
        }
    });
    let capacity = compiled.plan.capacity;
    let found = lives(program, &compiled.regions);
    let values = [false, true].into_iter().flat_map(|is_batch| {
        let copies = if is_batch { 1 } else { threads };
        found.roots(is_batch).map(move |(slot, life)| {
            let bytes = all(room(program.slots[slot], capacity, is_batch), copies) as u64 * NUMBER;
            ValueFacts { first: life.first, last: life.last, bytes, is_batch }
        })
    });
    ProgramFacts {
        calls: calls.collect(),
        values: values.collect(),
        scratch_bytes: sum(all(compiled.plan.len, threads), 0) as u64 * NUMBER,
        batch_bytes: compiled.plan.batch_len as u64 * NUMBER,
        chunk: capacity.chunk,
        tile_columns: isa.panel(),
    }
}

/// The values that a call reads or writes, each once.
fn slots(call: &Call) -> Vec<Slot> {
    let mut slots: Vec<Slot> = call.reads().into_iter().chain(call.writes()).collect();
    slots.sort_unstable();
    slots.dedup();
    slots
}

/// Numbers of a value that a call reads or writes for each image: some calls touch a few rows or columns of it.
fn touched(program: &Program, call: &Call, slot: Slot) -> usize {
    match *call {
        Call::SelectToken { x, size: [_, features], .. } if slot == x => features,
        Call::Sequence(SequenceCall::Strips(Strips { x, out, rows, len, clear, .. }))
            if slot == x || slot == out && !clear =>
        {
            rows * len
        }
        Call::Convolution(
            ConvolutionCall::Product(ConvolutionProduct { x, geometry, .. })
            | ConvolutionCall::ParamGrad { x, geometry, .. }
            | ConvolutionCall::LateGrad { x, geometry, .. },
        ) if slot == x => {
            let geometry = &program.geometries[geometry];
            geometry.pixels_read() * geometry.input[2]
        }
        _ => program.slots[slot].per_image,
    }
}

/// Whether a call computes a good part of its nodes' operations; others move, clear or finish values for them.
fn computes(call: &Call) -> bool {
    match call {
        Call::Output { .. } | Call::ClearGradient { .. } | Call::Wide(Wide::BiasGrad { .. }) => false,
        Call::Convolution(ConvolutionCall::BatchNorm { does, .. }) => {
            !matches!(does, BatchNormPart::Statistics { .. } | BatchNormPart::Totals { .. })
        }
        _ => true,
    }
}

/// Bytes of parameters and gradients that an operation reads and writes, for any number of images.
fn parameter_bytes(graph: &Graph, node: &Node) -> u64 {
    let values: u64 = node.params.iter().map(|&id| graph.parameter(id).shape.len() as u64).sum();
    let is_gradient = node.op.is_gradient() && !is_input_grad(&node.op);
    // A gradient is read and written.
    if is_gradient { 2 * values * NUMBER } else { values * NUMBER }
}

/// Whether a gradient only reads its parameters.
fn is_input_grad(op: &Op) -> bool {
    matches!(op, Op::LinearInputGrad | Op::PerHeadLinearInputGrad { .. } | Op::Conv2dInputGrad(_))
}
