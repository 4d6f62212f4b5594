//! The blocks of parameters that are updated together.

use std::ops::Range;

use super::optimizer::{BLOCK, Matrix};
use super::parameters::Layout;
use crate::graph::{Graph, ParamId, ParameterKind};

/// A range of parameters that are updated in the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub range: Range<usize>,
    /// Whether weight decay acts.
    pub decay: bool,
    /// Whether they belong to a matrix, which is updated as a whole when all its gradient is there.
    pub is_matrix: bool,
}

/// Cuts the trained parameters of a graph, except those for which `apart` is true, into blocks. Statistics are in no
/// block. Neighbors that are updated in the same way share blocks.
pub(super) fn blocks(
    graph: &Graph,
    layout: &Layout,
    matrices: &[Matrix],
    apart: impl Fn(ParamId) -> bool,
) -> Vec<Block> {
    let mut spans: Vec<Block> = Vec::new();
    for (index, param) in graph.parameters().iter().enumerate() {
        if param.kind == ParameterKind::Statistic || apart(ParamId(index)) {
            continue;
        }
        let is_matrix = matrices.iter().any(|matrix| matrix.param == index);
        let own = Block { range: layout.padded(index), decay: param.decay, is_matrix };
        match spans.last_mut() {
            Some(last)
                if (last.range.end, last.decay, last.is_matrix) == (own.range.start, own.decay, own.is_matrix) =>
            {
                last.range.end = own.range.end;
            }
            _ => spans.push(own),
        }
    }
    let cut = spans.into_iter().flat_map(|span| {
        let (start, end) = (span.range.start, span.range.end);
        (start..end).step_by(BLOCK).map(move |start| Block { range: start..(start + BLOCK).min(end), ..span.clone() })
    });
    cut.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Init;

    #[test]
    fn blocks_hold_values_that_are_updated_alike_and_no_statistics() {
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
        let matrices = [Matrix { param: 1, size: [1, 23], decay: true }];
        let found = blocks(&graph, &layout, &matrices, |id| graph.parameter(id).name == "wide");
        let block = |start, end, decay| Block { range: start..end, decay, is_matrix: start == 1024 };
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
