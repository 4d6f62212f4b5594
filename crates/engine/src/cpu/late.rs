//! Gradients that are computed block by block right before the update: those of weights that are cut by columns.
//!
//! Such a gradient is as long as the weight; written out and read again, it would cost a sixth of the step's traffic.

use std::ops::Range;

use super::blocks::Block;
use super::convolution::room_len;
use super::optimizer::Matrix;
use super::parameters::Layout;
use super::program::convolution::ConvolutionCall;
use super::program::{Call, Program, Wide};
use super::simd::LANES;
use super::tile::TILE_ROWS;

use crate::graph::Graph;

/// Values of a bias that are updated together.
const BIAS: usize = 1024;
/// Channels of a convolution whose weights are updated together: two vectors of them.
const CHANNELS: usize = 32;

/// A piece of a late call's gradient.
#[derive(Clone, Debug)]
pub(super) struct LatePiece {
    /// Number of the call in the program.
    pub call: usize,
    /// Rows of the weight, or values of the bias.
    pub rows: Range<usize>,
    /// Where they lie among the parameters, whole vectors.
    pub block: Block,
    /// Numbers in this piece and all before it.
    pub end: usize,
}

/// All pieces of a program's late calls.
#[derive(Clone, Debug, Default)]
pub(super) struct Late {
    pub pieces: Vec<LatePiece>,
    /// Numbers that a call needs for itself, at most.
    pub room: usize,
}

impl Late {
    /// Cuts the late calls of a program.
    pub fn new(program: &Program, graph: &Graph, layout: &Layout, matrices: &[Matrix]) -> Self {
        let mut pieces: Vec<LatePiece> = Vec::new();
        for (call, late) in program.calls.iter().enumerate() {
            let Some((param, rows, width)) = gradient_of(late) else { continue };
            // Pieces are whole vectors, but for the last; tiles are full where that allows.
            let unit =
                (1..=LANES).find(|rows| (rows * width).is_multiple_of(LANES)).expect("16 rows are whole vectors");
            let rows_of_piece = match late {
                Call::Wide(Wide::BiasGrad { .. }) => BIAS,
                Call::Convolution(_) => CHANNELS,
                _ if TILE_ROWS.is_multiple_of(unit) => TILE_ROWS,
                _ => 3 * unit,
            };
            let padded = layout.padded(param);
            for first in (0..rows).step_by(rows_of_piece) {
                let last = (first + rows_of_piece).min(rows);
                let start = padded.start + first * width;
                let end = if last == rows { padded.end } else { padded.start + last * width };
                let is_matrix = matrices.iter().any(|matrix| matrix.param == param);
                let block = Block { range: start..end, decay: graph.parameters()[param].decay, is_matrix };
                let before = pieces.last().map_or(0, |piece| piece.end);
                pieces.push(LatePiece { call, rows: first..last, end: before + block.range.len(), block });
            }
        }
        let room = program.calls.iter().map(|call| match *call {
            // convolution
            Call::Convolution(ConvolutionCall::LateGrad { geometry, .. }) => {
                room_len(&program.geometries[geometry], CHANNELS)
            }
            _ => 0,
        });
        Late { room: room.max().unwrap_or(0), pieces }
    }

    /// Numbers in all gradients, the gaps behind them included.
    pub fn len(&self) -> usize {
        self.pieces.last().map_or(0, |piece| piece.end)
    }

    /// Numbers in the gradients that are used piece by piece and need not exist as a whole.
    pub fn transient_len(&self) -> usize {
        let pieces = self.pieces.iter().filter(|piece| !piece.block.is_matrix);
        pieces.map(|piece| piece.block.range.len()).sum()
    }

    /// Numbers in the longest piece.
    pub fn longest(&self) -> usize {
        self.pieces.iter().map(|piece| piece.block.range.len()).max().unwrap_or(0)
    }

    /// The pieces of one of `threads` threads: an equal share of the values, as far as pieces allow.
    pub fn share(&self, threads: usize, thread: usize) -> Range<usize> {
        let before = |thread: usize| self.pieces.partition_point(|piece| piece.end * threads <= self.len() * thread);
        before(thread)..before(thread + 1)
    }
}

/// The parameter whose gradient a late call gives, its rows and their width.
pub(super) fn gradient_of(call: &Call) -> Option<(usize, usize, usize)> {
    match *call {
        Call::Wide(Wide::WeightGrad { weight, size: [rows, width], .. }) => Some((weight, rows, width)),
        Call::Wide(Wide::BiasGrad { bias, len, .. }) => Some((bias, len, 1)),
        // convolution
        Call::Convolution(ConvolutionCall::LateGrad { weight, size: [rows, width], .. }) => Some((weight, rows, width)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Init;

    #[test]
    fn pieces_are_whole_vectors_that_cover_each_parameter_once_and_are_shared_among_threads() {
        for inputs in [1, 7, 24, 64, 129] {
            for outputs in [1, 5, 61, 2053] {
                let mut graph = Graph::new();
                let rule = Init::Constant(0.0);
                graph.new_parameter("other", [3], rule).expect("a new name");
                let weight = graph.new_parameter("weight", [outputs, inputs], rule).expect("a new name").index();
                let bias = graph.new_parameter("bias", [outputs], rule).expect("a new name").index();
                let calls = vec![
                    Call::Wide(Wide::WeightGrad { dy: 0, x: 0, weight, rows: 1, size: [outputs, inputs] }),
                    Call::Wide(Wide::BiasGrad { dy: 0, bias, rows: 1, len: outputs }),
                ];
                let layout = Layout::new(&graph);
                let late = Late::new(&Program { calls, ..Program::default() }, &graph, &layout, &[]);
                let mut at = LANES;
                for piece in &late.pieces {
                    let range = &piece.block.range;
                    assert_eq!((range.start, range.len() % LANES), (at, 0), "{outputs} x {inputs}");
                    let width = if piece.call == 0 { inputs } else { 1 };
                    assert!(piece.rows.len() * width <= range.len() && range.len() < piece.rows.len() * width + LANES);
                    at = range.end;
                }
                assert_eq!((at, late.len()), (layout.len(), layout.len() - LANES));
                for threads in [1, 2, 5] {
                    let shares: Vec<usize> = (0..threads).flat_map(|thread| late.share(threads, thread)).collect();
                    assert_eq!(shares, (0..late.pieces.len()).collect::<Vec<_>>(), "{threads} threads");
                }
            }
        }
    }
}
