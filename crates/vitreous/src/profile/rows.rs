//! Rows of a profile: calls put together by layer, by kind of operation, by call and by phase.

use vitreous_engine::NodeId;
use vitreous_engine::ops::Op;
use vitreous_engine::profile::{Pass, ProgramFacts};

use super::measure::{OTHER, Sample, inputs};
use super::reasons::{Subject, reason};
use super::{Limit, Roof, Row, Spread};
use crate::models::Model;
use crate::timing::{median_interval, quantile};

/// Part of the roof below which a row needs a reason.
pub(super) const HALF: f64 = 0.5;

/// Level of the intervals.
const LEVEL: f64 = 0.05;

/// What rows are made from.
pub(super) struct Grouping<'a> {
    pub model: &'a Model,
    pub facts: &'a ProgramFacts,
    pub samples: &'a [Sample],
    pub runs: &'a [u64],
    pub roof: Roof,
    pub batch: u64,
}

/// The median of some values, and how they spread.
pub(super) fn spread(values: &[f64]) -> Spread {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let [median, p10, p90] = [0.5, 0.1, 0.9].map(|part| quantile(&sorted, part));
    Spread { median, p10, p90, interval: median_interval(values, LEVEL) }
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
            self.explain(&mut row, id);
            self.hold(&mut row, &calls);
            rows.push(row);
        }
        rows.extend(self.others());
        rows
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
            let names = facts.layers.iter().map(|&id| self.name(id)).collect();
            let op = facts.ops.first().copied().unwrap_or("copy");
            self.row(names, op, &[call])
        };
        self.own().map(row).chain(self.others()).collect()
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
        rows.chain(self.others()).collect()
    }

    /// Rows for what belongs to no layer.
    fn others(&self) -> impl Iterator<Item = Row> {
        (0..OTHER.len()).filter_map(|other| {
            let times: Vec<f64> = self.samples.iter().map(|sample| sample.other[other]).collect();
            let ms = spread(&times);
            let row =
                Row { names: vec![OTHER[other].to_string()], ms, share: ms.median / self.step(), ..Row::default() };
            (ms.p90 > 0.0).then_some(row)
        })
    }

    /// The median step with the profiler, in ms.
    fn step(&self) -> f64 {
        let all = |sample: &Sample| sample.calls.iter().chain(&sample.other).sum::<f64>();
        spread(&self.samples.iter().map(all).collect::<Vec<_>>()).median
    }

    fn time(&self, calls: &[usize], pass: Option<Pass>) -> Spread {
        let chosen: Vec<usize> =
            calls.iter().copied().filter(|&call| pass.is_none_or(|pass| self.facts.calls[call].pass == pass)).collect();
        let of = |sample: &Sample| chosen.iter().map(|&call| sample.calls[call]).sum::<f64>() + 0.0;
        spread(&self.samples.iter().map(of).collect::<Vec<f64>>())
    }

    fn row(&self, names: Vec<String>, op: &str, calls: &[usize]) -> Row {
        let ms = self.time(calls, None);
        let all = calls.iter().map(|&call| (&self.facts.calls[call], self.runs[call]));
        let flops = all.clone().map(|(call, _)| call.flops * self.batch).sum::<u64>();
        let bytes = all.clone().map(|(call, runs)| call.bytes * self.batch + call.bytes_fixed * runs).sum::<u64>();
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
            ms,
            forward_ms: self.time(calls, Some(Pass::Forward)).median,
            backward_ms: self.time(calls, Some(Pass::Backward)).median,
            share: ms.median / self.step(),
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
    fn explain(&self, row: &mut Row, id: NodeId) {
        let Some(share) = row.roof_share.filter(|share| *share < HALF) else { return };
        let graph = &self.model.graph;
        let node = graph.node(id);
        row.reason = Some(reason(&Subject {
            op: &node.op,
            input: node.inputs.first().map_or(&node.shape.0, |&input| &graph.node(input).shape.0),
            output: &node.shape.0,
            chunk: self.facts.chunk,
            tile_columns: self.facts.tile_columns,
            intensity: row.intensity,
            ridge: self.roof.ridge(),
            microseconds_per_run: row.ms.median * 1e3 / row.runs.max(1) as f64,
            share,
            ms: [row.ms.p10, row.ms.p90],
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
