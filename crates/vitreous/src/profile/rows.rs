//! Rows of a profile: calls put together by layer, by kind of operation, by call and by phase.

use vitreous_engine::NodeId;
use vitreous_engine::ops::Op;
use vitreous_engine::profile::{CallFacts, Pass, ProgramFacts};

use super::measure::{OTHER, Sample, inputs};
use super::reasons::{Subject, reason};
use super::{Limit, Roof, Row, Spread, words};
use crate::models::Model;
use crate::timing::{median, quantile};

/// Part of the roof below which a row needs a reason.
pub(super) const HALF: f64 = 0.5;

/// What rows are made from.
pub(super) struct Grouping<'a> {
    pub model: &'a Model,
    pub facts: &'a ProgramFacts,
    pub samples: &'a [Sample],
    pub runs: &'a [u64],
    pub roof: Roof,
    pub batch: usize,
    pub threads: usize,
}

/// What the median step takes beyond the medians of all rows: another row is interrupted in each step.
pub const INTERRUPTIONS: &str = "interruptions";

/// The median of some values, and how they spread.
pub(super) fn spread(values: impl Iterator<Item = f64>) -> Spread {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let [p10, p90] = [0.1, 0.9].map(|part| quantile(&sorted, part));
    Spread { median: median(&sorted), p10, p90 }
}

/// Time of one run in µs, from each call's time in ms, its runs, and whether it is for the whole batch: threads share such
/// a run, while of other calls each thread has runs of its own at the same time.
fn run_us(calls: impl Iterator<Item = (f64, u64, bool)>, threads: usize) -> f64 {
    let (us, runs) = calls.fold((0.0, 0), |(us, all), (ms, runs, is_whole)| {
        (us + ms * 1e3 * if is_whole { 1.0 } else { threads as f64 }, all + runs)
    });
    us / runs.max(1) as f64
}

impl Grouping<'_> {
    /// A row for each layer, in the model's order; layers that one call computes forward are one row. A gradient counts
    /// for the layer whose rule it computes.
    pub fn layers(&self) -> Vec<Row> {
        let nodes = self.model.graph.nodes().len();
        let mut group: Vec<usize> = (0..nodes).collect();
        for call in self.own().filter(|&call| self.facts.calls[call].pass == Pass::Forward) {
            let layers = &self.facts.calls[call].layers;
            for other in &layers[1..] {
                let (to, from) = (group[layers[0].index()], group[other.index()]);
                let (to, from) = (to.min(from), to.max(from));
                group.iter_mut().filter(|own| **own == from).for_each(|own| *own = to);
            }
        }
        let of = |call: usize| group[self.facts.calls[call].layers[0].index()];
        let mut rows = Vec::new();
        for (id, node) in self.model.graph.ids().zip(self.model.graph.nodes()) {
            let calls: Vec<usize> = self.own().filter(|&call| of(call) == id.index()).collect();
            if group[id.index()] != id.index() || calls.is_empty() {
                continue;
            }
            let all = self.model.graph.ids().filter(|other| group[other.index()] == id.index());
            let (names, does): (Vec<String>, Vec<String>) = all
                .map(|other| (self.name(other), words::operation(&self.model.graph, self.model.graph.node(other))))
                .unzip();
            let mut row = self.row(names, node.op.name(), does.join(" + "), &calls);
            row.shape.clone_from(&node.shape.0);
            self.explain(&mut row, id, &calls);
            self.hold(&mut row, &calls);
            row.steps_ms = self.steps(|sample| calls.iter().map(|&call| sample.calls[call]).sum());
            rows.push(row);
        }
        let mut rows = self.whole(rows);
        for row in rows.iter_mut().filter(|row| !row.is_layer()) {
            if let Some(other) = OTHER.iter().position(|name| row.names[0] == *name) {
                row.steps_ms = self.steps(|sample| sample.other[other]);
            }
        }
        rows
    }

    /// A time in each step, to the nanosecond.
    fn steps(&self, of: impl Fn(&Sample) -> f64) -> Vec<f64> {
        self.samples.iter().map(|sample| (of(sample) * 1e6).round() / 1e6).collect()
    }

    /// A row for each kind of operation.
    pub fn kinds(&self) -> Vec<Row> {
        self.grouped(|call| words::kind(self.op(call)), |call| self.op(call))
    }

    /// A row for each call.
    pub fn calls(&self) -> Vec<Row> {
        let row = |call: usize| {
            let facts = &self.facts.calls[call];
            let mut names: Vec<String> = facts.layers.iter().map(|&id| self.name(id)).collect();
            if let Some(last) = names.last_mut().filter(|_| facts.pass == Pass::Backward) {
                last.push_str(" (backward)");
            }
            let op = facts.ops.first().copied().unwrap_or("copy");
            let does: Vec<String> = facts.ops.iter().map(|op| words::kind(op)).collect();
            let does = if does.is_empty() { op.to_string() } else { does.join(" + ") };
            self.row(names, op, does, &[call])
        };
        self.whole(self.own().map(row).collect())
    }

    /// A row for each phase of a step.
    pub fn phases(&self) -> Vec<Row> {
        let phase = |call: usize| match self.facts.calls[call].pass {
            Pass::Forward => "forward",
            Pass::Backward => "backward",
        };
        self.grouped(|call| phase(call).to_string(), phase)
    }

    /// The layer and pass of a call.
    pub fn place(&self, call: usize) -> String {
        let facts = &self.facts.calls[call];
        let pass = if facts.pass == Pass::Forward { "forward" } else { "backward" };
        format!("{} ({pass})", self.name(facts.layers[0]))
    }

    fn name(&self, id: NodeId) -> String {
        self.model.graph.node(id).name.clone()
    }

    fn op(&self, call: usize) -> &'static str {
        self.model.graph.node(self.facts.calls[call].layers[0]).op.name()
    }

    /// The calls that belong to layers.
    fn own(&self) -> impl Iterator<Item = usize> {
        inputs(self.model, self.facts).into_iter().enumerate().filter(|(_, is_input)| !is_input).map(|(call, _)| call)
    }

    fn grouped(&self, name: impl Fn(usize) -> String, op: impl Fn(usize) -> &'static str) -> Vec<Row> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for call in self.own() {
            match groups.iter_mut().find(|group| name(group[0]) == name(call)) {
                Some(group) => group.push(call),
                None => groups.push(vec![call]),
            }
        }
        let row = |group: &Vec<usize>| self.row(vec![name(group[0])], op(group[0]), name(group[0]), group);
        self.whole(groups.iter().map(row).collect())
    }

    /// Adds rows for what belongs to no layer, so that all make up the step, and the part of each.
    fn whole(&self, mut rows: Vec<Row>) -> Vec<Row> {
        let other = |name: &str, ms: Spread| Row { names: vec![name.to_string()], ms, ..Row::default() };
        rows.extend((0..OTHER.len()).map(|at| other(OTHER[at], self.spread(|sample| sample.other[at]))));
        let all = rows.iter().map(|row| row.ms.median).sum::<f64>();
        rows.push(other(INTERRUPTIONS, self.spread(|sample| (sample.total() - all).max(0.0))));
        rows.retain(|row| row.is_layer() || row.ms.median > 0.0);
        let all = rows.iter().map(|row| row.ms.median).sum::<f64>();
        rows.iter_mut().for_each(|row| row.share = row.ms.median / all);
        rows
    }

    fn spread(&self, of: impl Fn(&Sample) -> f64) -> Spread {
        spread(self.samples.iter().map(of))
    }

    fn time(&self, calls: &[usize], pass: Option<Pass>) -> Spread {
        let chosen: Vec<usize> =
            calls.iter().copied().filter(|&call| pass.is_none_or(|pass| self.facts.calls[call].pass == pass)).collect();
        self.spread(|sample| chosen.iter().map(|&call| sample.calls[call]).sum::<f64>() + 0.0)
    }

    fn row(&self, names: Vec<String>, op: &str, operation: String, calls: &[usize]) -> Row {
        let ms = self.time(calls, None);
        let passes = [Pass::Forward, Pass::Backward].map(|pass| self.time(calls, Some(pass)).median);
        // Both medians need not be of one step.
        let of_passes = ms.median / passes.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        let all = calls.iter().map(|&call| (&self.facts.calls[call], self.runs[call]));
        let flops = all.clone().map(|(call, _)| call.flops * self.batch as u64).sum::<u64>();
        let own = |(call, runs): (&CallFacts, u64)| call.bytes * self.batch as u64 + call.bytes_fixed * runs;
        let bytes = all.clone().map(own).sum::<u64>();
        let seconds = ms.median / 1e3;
        let least = [flops as f64 / self.roof.gflops / 1e9, bytes as f64 / self.roof.gbytes_per_s / 1e9];
        let roof_share = (seconds > 0.0).then(|| least[0].max(least[1]) / seconds);
        let limit = roof_share.map(|share| match least[0] >= least[1] {
            _ if share < HALF => Limit::Overhead,
            true => Limit::Compute,
            false => Limit::Memory,
        });
        Row {
            names,
            op: op.to_string(),
            operation,
            ms,
            forward_ms: passes[0] * of_passes,
            backward_ms: passes[1] * of_passes,
            flops,
            bytes,
            runs: all.map(|(_, runs)| runs).sum(),
            gflops: if seconds > 0.0 { flops as f64 / seconds / 1e9 } else { 0.0 },
            intensity: flops as f64 / (bytes as f64).max(1.0),
            roof_share,
            limit,
            ..Row::default()
        }
    }

    /// Says why a layer stays below half of the roof.
    fn explain(&self, row: &mut Row, id: NodeId, calls: &[usize]) {
        let Some(share) = row.roof_share.filter(|share| *share < HALF) else { return };
        let graph = &self.model.graph;
        let node = graph.node(id);
        let facts = |&call: &usize| (&self.facts.calls[call], self.runs[call]);
        let is_whole = calls.iter().map(facts).any(|(call, _)| call.is_whole && call.pass == Pass::Forward);
        let fixed = calls.iter().map(facts).map(|(call, runs)| call.bytes_fixed * runs).sum::<u64>();
        let times =
            calls.iter().map(|call| (self.time(&[*call], None).median, self.runs[*call], facts(call).0.is_whole));
        row.reason = Some(reason(&Subject {
            op: &node.op,
            is_head: id == self.model.logits,
            input: node.inputs.first().map_or(&node.shape.0, |&input| &graph.node(input).shape.0),
            output: &node.shape.0,
            chunk: if is_whole { self.batch } else { self.facts.chunk },
            tile_columns: self.facts.tile_columns,
            intensity: row.intensity,
            ridge: self.roof.ridge(),
            fixed: fixed as f64 / (row.bytes as f64).max(1.0),
            microseconds_per_run: run_us(times, self.threads),
            share,
            passes: [Pass::Forward, Pass::Backward].map(|pass| {
                let own: Vec<usize> =
                    calls.iter().copied().filter(|&call| self.facts.calls[call].pass == pass).collect();
                self.row(Vec::new(), "", String::new(), &own).roof_share.unwrap_or(0.0)
            }),
            ms: row.ms,
            part_of_step: row.ms.median / self.spread(Sample::total).median,
        }));
    }

    /// Adds what the forward pass of a layer stores.
    fn hold(&self, row: &mut Row, calls: &[usize]) {
        let is_own = |call: usize| calls.contains(&call) && self.facts.calls[call].pass == Pass::Forward;
        let held = self.facts.values.iter().filter(|value| is_own(value.first));
        row.held_bytes = held.clone().map(|value| value.bytes).sum();
        row.held_until = held.map(|value| value.last).max().map(|call| self.place(call));
    }
}

/// Whether an operation is a matrix product.
pub(super) fn is_product(op: &Op) -> bool {
    matches!(op, Op::Linear | Op::Conv2d(_) | Op::PerHeadLinear { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_step_does_not_carry_a_row() {
        let steps = [[90.0, 3.0], [1.0, 3.0], [1.0, 80.0], [1.0, 3.0], [1.0, 3.0]];
        assert_eq!(spread(steps.iter().map(|step| step[0])), Spread { median: 1.0, p10: 1.0, p90: 90.0 });
    }

    #[test]
    fn threads_have_runs_of_their_own_except_of_calls_for_the_whole_batch() {
        // 2 ms of each of 3 threads: 6 ms for 10 runs, and 2 ms for the run that all share.
        assert_eq!(run_us([(2.0, 10, false)].into_iter(), 3), 600.0);
        assert_eq!(run_us([(2.0, 1, true)].into_iter(), 3), 2000.0);
        assert_eq!(run_us([(2.0, 10, false), (2.0, 1, true), (0.0, 0, false)].into_iter(), 3), 8000.0 / 11.0);
    }
}
