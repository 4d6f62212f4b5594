//! The blocks of parameters that are updated together.

use std::ops::Range;

use super::optimizer::BLOCK;
use super::parameters::Layout;
use crate::graph::{Graph, ParamId, ParameterKind};

/// A range of parameters that are updated in the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub range: Range<usize>,
    /// Whether weight decay acts.
    pub decay: bool,
}

/// Cuts the trained parameters of a graph, except those for which `apart` is true, into blocks. Statistics are in no
/// block. Neighbors that are updated in the same way share blocks.
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
