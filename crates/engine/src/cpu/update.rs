//! One optimiser step as numbers: what is the same for all parameters is worked out once, then applied range by range.

use std::ops::Range;
use std::ptr::null_mut;

use super::Isa;
use super::optimizer::{self, BLOCK};
use super::parameters::Layout;
use crate::graph::{Graph, ParamId, ParameterKind};
use crate::session::Optimizer;

/// A range of parameters that are updated alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub range: Range<usize>,
    /// Whether weight decay acts.
    pub decay: bool,
}

/// Cuts the trained parameters of a graph, without those for which `apart` is true, into blocks; statistics are in
/// none. Neighbours that are treated alike share blocks.
pub(super) fn blocks(graph: &Graph, layout: &Layout, apart: impl Fn(ParamId) -> bool) -> Vec<Block> {
    let mut spans: Vec<Block> = Vec::new();
    for (index, param) in graph.parameters().iter().enumerate() {
        if param.kind == ParameterKind::Statistic || apart(ParamId(index)) {
            continue;
        }
        let own = Block { range: layout.padded(index), decay: param.decay };
        match spans.last_mut() {
            Some(last) if last.range.end == own.range.start && last.decay == own.decay => {
                last.range.end = own.range.end;
            }
            _ => spans.push(own),
        }
    }
    let cut = spans.into_iter().flat_map(|Block { range, decay }| {
        range.clone().step_by(BLOCK).map(move |start| Block { range: start..(start + BLOCK).min(range.end), decay })
    });
    cut.collect()
}

/// How one step changes values.
pub(super) struct Update {
    optimizer: Optimizer,
    learning_rate: f64,
    /// What the gradient is multiplied by.
    factor: f64,
    /// Adam's bias corrections.
    corrections: [f64; 2],
    /// What is kept of the running average, where there is one.
    kept: Option<f64>,
}

impl Update {
    /// Prepares step number `step`, counted from 1.
    pub fn new(optimizer: Optimizer, step: u64, learning_rate: f64, factor: f64) -> Self {
        let corrections = match optimizer {
            Optimizer::Adam(adam) => adam.betas.map(|beta| 1.0 - beta.powf(step as f64)),
            Optimizer::Sgd(_) => [1.0; 2],
        };
        let kept = optimizer.average().map(|average| average.keep(step));
        Update { optimizer, learning_rate, factor, corrections, kept }
    }

    /// Updates `len` values, a multiple of 16, and their average: the moments are the first, the second and the average,
    /// and null where the optimiser keeps none.
    ///
    /// # Safety
    /// Pointers of what the optimiser keeps, and the others, are good for `len` values, and nobody else touches them.
    pub unsafe fn apply(
        &self,
        isa: Isa,
        len: usize,
        decay: bool,
        values: *mut f32,
        gradient: *const f32,
        [first, second, average]: [*mut f32; 3],
    ) {
        let (learning_rate, gradient_factor) = (self.learning_rate, self.factor as f32);
        match self.optimizer {
            Optimizer::Adam(adam) => {
                let weight_decay = if decay { adam.weight_decay } else { 0.0 };
                let args = optimizer::Adam {
                    len,
                    values,
                    gradient,
                    first_moment: first,
                    second_moment: second,
                    gradient_factor,
                    betas: adam.betas.map(|beta| beta as f32),
                    rests: adam.betas.map(|beta| (1.0 - beta) as f32),
                    eps: adam.eps as f32,
                    step_size: (learning_rate / self.corrections[0]) as f32,
                    root_correction: (1.0 / self.corrections[1].sqrt()) as f32,
                    l2: if adam.decoupled { 0.0 } else { weight_decay as f32 },
                    keep: if adam.decoupled { (1.0 - learning_rate * weight_decay) as f32 } else { 1.0 },
                };
                unsafe { optimizer::adam(isa, &args) };
            }
            Optimizer::Sgd(sgd) => {
                let args = optimizer::Sgd {
                    len,
                    values,
                    gradient,
                    buffer: if sgd.momentum == 0.0 { null_mut() } else { first },
                    gradient_factor,
                    momentum: sgd.momentum as f32,
                    nesterov: sgd.nesterov,
                    learning_rate: learning_rate as f32,
                    l2: if decay { sgd.weight_decay as f32 } else { 0.0 },
                };
                unsafe { optimizer::sgd(isa, &args) };
            }
        }
        unsafe { self.move_average(isa, len, values, average) };
    }

    /// Moves the average of `len` values, a multiple of 16, towards them, where there is one.
    ///
    /// # Safety
    /// Both pointers are good for `len` values, and nobody else touches them.
    pub unsafe fn move_average(&self, isa: Isa, len: usize, values: *const f32, average: *mut f32) {
        if let Some(kept) = self.kept {
            let (keep, rest) = (kept as f32, (1.0 - kept) as f32);
            unsafe { optimizer::average(isa, &optimizer::Average { len, average, values, keep, rest }) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Init;

    #[test]
    fn blocks_hold_what_is_treated_alike_and_leave_out_statistics() {
        let mut graph = Graph::new();
        let mut add = |name: &str, len: usize, trained: bool, decay: bool| {
            let rule = Init::Constant(0.0);
            let id =
                if trained { graph.new_parameter(name, [len], rule) } else { graph.new_statistic(name, [len], rule) };
            graph.set_decay(id.expect("a new name"), decay);
        };
        add("a", 1019, true, true);
        add("b", 23, true, true);
        add("c", 17, true, false);
        add("mean", 5, false, false);
        add("d", 3, true, false);
        add("wide", 61, true, true);
        add("e", 7, true, true);
        let layout = Layout::new(&graph);
        let found = blocks(&graph, &layout, |id| graph.parameter(id).name == "wide");
        let block = |start, end, decay| Block { range: start..end, decay };
        let expected = [
            block(0, 1024, true),
            block(1024, 1056, true),
            block(1056, 1088, false),
            block(1104, 1120, false),
            block(1184, 1200, true),
        ];
        assert_eq!(found, expected);
    }
}
