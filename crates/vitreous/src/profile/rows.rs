//! Rows of a profile: calls put together by layer, by kind of operation, by call and by phase.

use vitreous_engine::NodeId;
use vitreous_engine::ops::Op;
use vitreous_engine::profile::{CallFacts, Pass, ProgramFacts};

use super::measure::{OTHER, Sample, inputs};
use super::reasons::{Subject, reason};
use super::{Limit, Roof, Row, Spread};
use crate::models::Model;
use crate::timing::quantile;

/// Part of the roof below which a row needs a reason.
pub(super) const HALF: f64 = 0.5;

/// What rows are made from.
pub(super) struct Grouping<'a> {
    pub model: &'a Model,
    pub facts: &'a ProgramFacts,
    /// All steps.
    pub samples: &'a [Sample],
    /// The steps of which rows are the mean.
    pub middle: Vec<&'a Sample>,
    pub runs: &'a [u64],
    pub roof: Roof,
    pub batch: usize,
    pub threads: usize,
}

/// The numbers of the steps that are neither among the fastest nor among the slowest quarter.
pub(super) fn middle(times: &[f64]) -> impl Iterator<Item = usize> {
    let mut order: Vec<usize> = (0..times.len()).collect();
    order.sort_by(|&a, &b| times[a].total_cmp(&times[b]));
    let quarter = times.len() / 4;
    order.into_iter().take(times.len() - quarter).skip(quarter)
}

/// The mean of some values, and how they spread.
pub(super) fn spread(values: impl Iterator<Item = f64>) -> Spread {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let [p10, p90] = [0.1, 0.9].map(|part| quantile(&sorted, part));
    Spread { mean: sorted.iter().sum::<f64>() / sorted.len() as f64, p10, p90 }
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
            let names = all.map(|other| self.name(other)).collect();
            let mut row = self.row(names, node.op.name(), &calls);
            self.explain(&mut row, id, &calls);
            self.hold(&mut row, &calls);
            row.steps_ms = self.steps(|sample| calls.iter().map(|&call| sample.calls[call]).sum());
            rows.push(row);
        }
        let others = self.others();
        rows.extend(others.map(|(other, row)| Row { steps_ms: self.steps(|sample| sample.other[other]), ..row }));
        rows
    }

    /// A time in each step, to the nanosecond.
    fn steps(&self, of: impl Fn(&Sample) -> f64) -> Vec<f64> {
        self.samples.iter().map(|sample| (of(sample) * 1e6).round() / 1e6).collect()
    }

    /// A row for each kind of operation.
    pub fn kinds(&self) -> Vec<Row> {
        let kind = |call: usize| self.op(call);
        self.grouped(|call| vec![kind(call).to_string()], kind)
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
            self.row(names, op, &[call])
        };
        self.own().map(row).chain(self.others().map(|(_, row)| row)).collect()
    }

    /// A row for each phase of a step.
    pub fn phases(&self) -> Vec<Row> {
        let phase = |call: usize| match self.facts.calls[call].pass {
            Pass::Forward => "forward",
            Pass::Backward => "backward",
        };
        self.grouped(|call| vec![phase(call).to_string()], phase)
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

    fn grouped(&self, names: impl Fn(usize) -> Vec<String>, op: impl Fn(usize) -> &'static str) -> Vec<Row> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for call in self.own() {
            match groups.iter_mut().find(|group| names(group[0]) == names(call)) {
                Some(group) => group.push(call),
                None => groups.push(vec![call]),
            }
        }
        let rows = groups.iter().map(|group| self.row(names(group[0]), op(group[0]), group));
        rows.chain(self.others().map(|(_, row)| row)).collect()
    }

    /// Rows for what belongs to no layer, with their numbers.
    fn others(&self) -> impl Iterator<Item = (usize, Row)> {
        (0..OTHER.len()).filter_map(|other| {
            let ms = self.mean(|sample| sample.other[other]);
            let row = Row { names: vec![OTHER[other].to_string()], ms, share: ms.mean / self.step(), ..Row::default() };
            (ms.mean > 0.0).then_some((other, row))
        })
    }

    /// The mean over the middle half of the steps.
    fn mean(&self, of: impl Fn(&Sample) -> f64) -> Spread {
        spread(self.middle.iter().map(|sample| of(sample)))
    }

    /// A step with the profiler, in ms.
    fn step(&self) -> f64 {
        self.mean(Sample::total).mean
    }

    fn time(&self, calls: &[usize], pass: Option<Pass>) -> Spread {
        let chosen: Vec<usize> =
            calls.iter().copied().filter(|&call| pass.is_none_or(|pass| self.facts.calls[call].pass == pass)).collect();
        self.mean(|sample| chosen.iter().map(|&call| sample.calls[call]).sum::<f64>() + 0.0)
    }

    fn row(&self, names: Vec<String>, op: &str, calls: &[usize]) -> Row {
        let ms = self.time(calls, None);
        let all = calls.iter().map(|&call| (&self.facts.calls[call], self.runs[call]));
        let flops = all.clone().map(|(call, _)| call.flops * self.batch as u64).sum::<u64>();
        let own = |(call, runs): (&CallFacts, u64)| call.bytes * self.batch as u64 + call.bytes_fixed * runs;
        let bytes = all.clone().map(own).sum::<u64>();
        let seconds = ms.mean / 1e3;
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
            ms,
            forward_ms: self.time(calls, Some(Pass::Forward)).mean,
            backward_ms: self.time(calls, Some(Pass::Backward)).mean,
            share: ms.mean / self.step(),
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
        let times = calls.iter().map(|call| (self.time(&[*call], None).mean, self.runs[*call], facts(call).0.is_whole));
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
            ms: row.ms,
            part_of_step: row.share,
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
    fn the_middle_half_leaves_out_the_fastest_and_the_slowest_quarter() {
        let of = |times: &[f64]| middle(times).map(|step| times[step]).collect::<Vec<_>>();
        assert_eq!(of(&[5.0, 1.0, 90.0, 3.0, 4.0, 2.0, 80.0, 6.0]), [3.0, 4.0, 5.0, 6.0]);
        assert_eq!(of(&[5.0, 1.0, 3.0, 90.0, 2.0]), [2.0, 3.0, 5.0]);
        assert_eq!([&[7.0][..], &[7.0, 8.0], &[7.0, 9.0, 8.0]].map(|times| of(times).len()), [1, 2, 3]);
        assert_eq!(spread([3.0, 1.0, 5.0].into_iter()), Spread { mean: 3.0, p10: 1.0, p90: 5.0 });
    }

    #[test]
    fn threads_have_runs_of_their_own_except_of_calls_for_the_whole_batch() {
        // 2 ms of each of 3 threads: 6 ms for 10 runs, and 2 ms for the run that all share.
        assert_eq!(run_us([(2.0, 10, false)].into_iter(), 3), 600.0);
        assert_eq!(run_us([(2.0, 1, true)].into_iter(), 3), 2000.0);
        assert_eq!(run_us([(2.0, 10, false), (2.0, 1, true), (0.0, 0, false)].into_iter(), 3), 8000.0 / 11.0);
    }
}
