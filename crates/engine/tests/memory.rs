//! Memory that is never written takes no space. The only test in its binary, because it measures the whole process.
#![cfg(target_os = "linux")]

use vitreous_engine::graph::{Graph, Init};
use vitreous_engine::{ParamId, Parameters};

/// Bytes of this process that are in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    4096 * status.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number of pages")
}

#[test]
fn zeros_that_are_never_written_to_take_no_memory() {
    let mut graph = Graph::new();
    let param: ParamId = graph.new_parameter("large", [1 << 28], Init::Constant(0.0)).expect("1 GB");
    let before = resident();
    let mut parameters = Parameters::zeros(&graph);
    parameters.get_mut(param)[12_345] = 1.0;
    let taken = resident().saturating_sub(before);
    assert!(taken < 64 << 20, "{taken} bytes");
}
