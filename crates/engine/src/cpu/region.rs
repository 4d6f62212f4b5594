//! The regions of a program: the threads run one region after the other, with a barrier between them.
//!
//! Between two calls that see the whole batch, a thread runs all calls for one part at a time, while its values are in
//! cache.
//! A program without such calls is one region. Late calls are in none: they are at the program's end and give the
//! gradient of a weight block by block, right before the update.

use std::ops::Range;

use super::program::{Param, Program};

/// Calls between two barriers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Region {
    /// Numbers of the calls.
    pub calls: Range<usize>,
    /// Whether this is one call for the whole batch, which all threads divide; otherwise its calls run chunk by chunk.
    pub whole: bool,
    /// The parameters to whose gradients the parts add.
    pub gradients: Vec<RegionGradient>,
}

/// A parameter to whose gradient a region's parts add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RegionGradient {
    pub param: Param,
    /// Whether an earlier region did so, too.
    pub continues: bool,
}

/// Cuts a program into regions.
pub(super) fn regions(program: &Program) -> Vec<Region> {
    let mut regions: Vec<Region> = Vec::new();
    for (at, call) in program.calls.iter().enumerate().take_while(|(_, call)| !call.late()) {
        match regions.last_mut() {
            Some(last) if !last.whole && !call.whole() => last.calls.end = at + 1,
            _ => regions.push(Region { calls: at..at + 1, whole: call.whole(), gradients: Vec::new() }),
        }
    }
    let mut known: Vec<Param> = Vec::new();
    for &(at, param) in &program.gradients {
        let region = regions.iter_mut().find(|region| region.calls.contains(&at)).expect("a gradient has its call");
        region.gradients.push(RegionGradient { param, continues: known.contains(&param) });
        known.push(param);
    }
    regions
}

/// The number of the region of each call; late calls are in one of their own at the end.
pub(super) fn region_of_calls(program: &Program, regions: &[Region]) -> Vec<usize> {
    let mut of = vec![regions.len(); program.calls.len()];
    for (number, region) in regions.iter().enumerate() {
        of[region.calls.clone()].fill(number);
    }
    of
}
