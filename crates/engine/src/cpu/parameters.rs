//! The values of a graph's parameters, statistics included, side by side in one buffer; optimizer moments and gradients
//! lie the same way.

use std::ops::Range;

use super::memory::Buffer;
use super::optimizer::Matrix;
use super::simd::LANES;
use crate::graph::{Graph, ParamId};
use crate::random::Key;

/// The values of all parameters of a graph: those that are trained, and the statistics.
pub struct Parameters {
    buffer: Buffer,
    layout: Layout,
}

/// Where each parameter lies: each starts at a whole vector, the gaps hold zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    ranges: Vec<Range<usize>>,
    len: usize,
}

impl Layout {
    pub fn new(graph: &Graph) -> Self {
        let mut len = 0;
        let ranges = graph.parameters().iter().map(|param| {
            let start = len;
            len += param.shape.len().next_multiple_of(LANES);
            start..start + param.shape.len()
        });
        Layout { ranges: ranges.collect(), len }
    }

    /// The same without the values of some parameters, whose places stay empty.
    pub fn without(&self, matrices: &[Matrix]) -> Self {
        let mut layout = self.clone();
        for matrix in matrices {
            let start = layout.ranges[matrix.param].start;
            layout.ranges[matrix.param] = start..start;
        }
        layout
    }

    /// Where a parameter starts.
    pub fn start(&self, param: usize) -> usize {
        self.ranges[param].start
    }

    /// Where a parameter and the gap behind it lie.
    pub fn padded(&self, param: usize) -> Range<usize> {
        let Range { start, end } = self.ranges[param];
        start..end.next_multiple_of(LANES)
    }

    /// Number of parameters.
    pub fn count(&self) -> usize {
        self.ranges.len()
    }

    /// Numbers in all, the gaps included; a multiple of 16.
    pub fn len(&self) -> usize {
        self.len
    }
}

impl Parameters {
    /// Makes zeros for all parameters of a graph.
    pub fn zeros(graph: &Graph) -> Self {
        Parameters::with_layout(Layout::new(graph))
    }

    /// Makes zeros in a layout.
    pub(super) fn with_layout(layout: Layout) -> Self {
        Parameters { buffer: Buffer::new(layout.len), layout }
    }

    /// Initializes every parameter by its rule, each from a random stream of its own name.
    pub fn initialize(graph: &Graph, key: Key) -> Self {
        let mut parameters = Parameters::zeros(graph);
        for (index, param) in graph.parameters().iter().enumerate() {
            param.init.fill(key.with_name(&param.name), parameters.get_mut(ParamId(index)));
        }
        parameters
    }

    /// The values of one parameter, in the order of its shape. Of a moment (see [`OptimizerState`](crate::OptimizerState))
    /// that the optimizer does not keep for this parameter, there are none.
    pub fn get(&self, param: ParamId) -> &[f32] {
        &self.buffer.as_slice()[self.layout.ranges[param.index()].clone()]
    }

    /// The values of one parameter, to be changed.
    pub fn get_mut(&mut self, param: ParamId) -> &mut [f32] {
        &mut self.buffer.as_mut_slice()[self.layout.ranges[param.index()].clone()]
    }

    /// Copies the values of parameters with the same layout. Empty places are not touched, so they take no memory.
    pub(super) fn copy_from(&mut self, other: &Parameters) {
        assert!(self.layout == other.layout, "parameters of another graph");
        for range in &self.layout.ranges {
            self.buffer.as_mut_slice()[range.clone()].copy_from_slice(&other.buffer.as_slice()[range.clone()]);
        }
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(super) fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    pub(super) fn buffer_mut(&mut self) -> &mut Buffer {
        &mut self.buffer
    }
}

impl Clone for Parameters {
    fn clone(&self) -> Self {
        let mut copy = Parameters::with_layout(self.layout.clone());
        copy.copy_from(self);
        copy
    }
}
