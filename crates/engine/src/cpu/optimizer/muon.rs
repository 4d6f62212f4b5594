//! Muon: the weights of hidden layers move along an orthogonalized momentum; all other parameters are updated by AdamW.
//!
//! Source: Jordan et al. 2024, <https://kellerjordan.github.io/posts/muon/>: Nesterov momentum, then five Newton-Schulz
//! iterations with the coefficients 3.4445, -4.7750 and 2.0315 bring all singular values of the momentum near 1. The
//! update is scaled by `0.2 * sqrt(max(rows, columns))` as in Liu et al. 2025, "Muon is Scalable for LLM Training",
//! section 2.2 (`match_rms_adamw` in `torch.optim.Muon`): it then has the size of AdamW's, so one learning rate and one
//! weight decay serve both. The products are in f32, where the sources use bfloat16.
//!
//! Hidden are the weights of linear layers and convolutions that have such a layer, or an embedding, before them and
//! another layer after them. So the first layer (a patch embedding) and the classification head belong to AdamW, as the
//! authors advise. A convolution's weight is the matrix `[out, in * kernel * kernel]`; one with groups is not a single
//! matrix and belongs to AdamW.

use super::{Adam, BLOCK, Formula, StepNumbers, Values};
use crate::cpu::Isa;
use crate::cpu::linear::{WideInputGrad, WideProduct, WideWeightGrad, wide_input_grad, wide_product, wide_weight_grad};
use crate::cpu::simd::{LANES, Simd, isa_kernel};
use crate::graph::{Graph, NodeId, ParamId};
use crate::ops::Op;

/// Coefficients of the Newton-Schulz iteration: of `X`, `X X^T X` and `X X^T X X^T X`.
const COEFFICIENTS: [f32; 3] = [3.4445, -4.775, 2.0315];
const ITERATIONS: usize = 5;
/// Added to the momentum's norm before it divides.
const EPS: f64 = 1e-7;

/// Muon, with AdamW for all parameters but the weights of hidden layers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Muon {
    /// Fraction of the momentum that each update keeps.
    pub momentum: f64,
    /// The optimizer of all other parameters.
    pub others: Adam,
}

impl Default for Muon {
    fn default() -> Self {
        Muon { momentum: 0.95, others: Adam { decoupled: true, ..Adam::default() } }
    }
}

impl Formula for Muon {
    fn moments(&self) -> usize {
        self.others.moments()
    }

    fn bias_corrections(&self, step: u64) -> [f64; 2] {
        self.others.bias_corrections(step)
    }

    unsafe fn update(&self, isa: Isa, step: &StepNumbers, to: Values) {
        unsafe { self.others.update(isa, step, to) };
    }

    fn matrices(&self, graph: &Graph) -> Vec<ParamId> {
        hidden_weights(graph)
    }

    fn matrix_room(&self, size: [usize; 2]) -> usize {
        Room::of(size).len
    }

    unsafe fn update_matrix(&self, isa: Isa, step: &StepNumbers, to: Values, size: [usize; 2], room: *mut f32) {
        let Values { len, values, gradient, moments: [momentum, _] } = to;
        let keep = (1.0 - step.learning_rate * step.weight_decay) as f32;
        let rate = step.learning_rate * 0.2 * (size[0].max(size[1]) as f64).sqrt();
        unsafe {
            let mut squares = 0.0;
            for start in (0..len).step_by(BLOCK) {
                let args = Momentum {
                    len: BLOCK.min(len - start),
                    momentum: momentum.add(start),
                    gradient: gradient.add(start),
                    gradient_factor: step.gradient_factor,
                    keep: self.momentum as f32,
                    rest: (1.0 - self.momentum) as f32,
                    squares: &raw mut squares,
                };
                nesterov(isa, &args);
            }
            let a = (1.0 / (squares.sqrt() + EPS)) as f32;
            combine(isa, &Combine { len, a, x: gradient, b: 0.0, y: gradient, to: gradient });
            let direction = orthogonalize(isa, size, gradient, room);
            // Behind the last value there is nothing of this matrix.
            let own = size[0] * size[1];
            direction.add(own).write_bytes(0, len - own);
            combine(isa, &Combine { len, a: keep, x: values, b: -rate as f32, y: direction, to: values });
        }
    }
}

/// The weights that Muon updates.
fn hidden_weights(graph: &Graph) -> Vec<ParamId> {
    let is_matrix = |op: &Op| match op {
        Op::Linear => true,
        Op::Conv2d(convolution) => convolution.groups == 1,
        _ => false,
    };
    let is_layer = |op: &Op| matches!(op, Op::Linear | Op::Conv2d(_) | Op::PerHeadLinear { .. } | Op::Embedding);
    let nodes = graph.nodes();
    let (mut before, mut after) = (vec![false; nodes.len()], vec![false; nodes.len()]);
    let has = |side: &[bool], id: NodeId| side[id.index()] || is_layer(&nodes[id.index()].op);
    for (index, node) in nodes.iter().enumerate() {
        before[index] = node.inputs.iter().any(|&input| has(&before, input));
    }
    for (index, node) in nodes.iter().enumerate().rev() {
        for input in &node.inputs {
            after[input.index()] |= after[index] || is_layer(&node.op);
        }
    }
    let is_hidden = |index: usize| is_matrix(&nodes[index].op) && before[index] && after[index];
    let readers = |param: ParamId| (0..nodes.len()).filter(move |&index| nodes[index].params.contains(&param));
    let all = (0..graph.parameters().len()).map(ParamId);
    // A weight is a layer's first parameter.
    let weight = |param: ParamId| {
        let mut readers = readers(param).peekable();
        readers.peek().is_some() && readers.all(|index| is_hidden(index) && nodes[index].params[0] == param)
    };
    all.filter(|&param| weight(param)).collect()
}

/// Memory of an orthogonalization: a matrix of the same size, and two squares of its shorter side.
struct Room {
    squares: [usize; 2],
    len: usize,
}

impl Room {
    fn of([rows, columns]: [usize; 2]) -> Self {
        // The shorter side's square has no more values than the matrix, which is a parameter.
        let matrix = (rows * columns).next_multiple_of(LANES);
        let square = (rows.min(columns) * rows.min(columns)).next_multiple_of(LANES);
        Room { squares: [matrix, matrix + square], len: matrix + 2 * square }
    }
}

/// Brings the singular values of a matrix, which are at most 1, near 1. Overwrites it; returns where the result is,
/// which is in `room`.
///
/// Each value of a product is one chain of multiply-adds over the inner axis, so the result is the same for every cut.
///
/// # Safety
/// `matrix` and `room` are good for their sizes, and no other thread uses them.
unsafe fn orthogonalize(isa: Isa, size: [usize; 2], matrix: *mut f32, room: *mut f32) -> *mut f32 {
    let [rows, columns] = size;
    let [a, b, c] = COEFFICIENTS;
    let side = rows.min(columns);
    let places = Room::of(size);
    unsafe {
        let [gram, square] = places.squares.map(|start| room.add(start));
        let [mut from, mut to] = [matrix, room];
        for _ in 0..ITERATIONS {
            // X X^T or X^T X, whichever is smaller.
            if rows <= columns {
                let (x, weight, bias, out) = (from, from, std::ptr::null(), gram);
                let args = WideProduct { rows, size, first: 0, count: rows, x, weight, bias, out };
                wide_product(isa, &args);
            } else {
                let size = [columns, columns];
                let args = WideWeightGrad { rows, size, first: 0, count: columns, dy: from, x: from, to: gram };
                wide_weight_grad(isa, &args);
            }
            let product = |dy: *const f32, rows: usize, weight: *const f32, size: [usize; 2], dx: *mut f32| {
                let args = WideInputGrad { rows, size, first: 0, count: size[1], dy, weight, dx };
                wide_input_grad(isa, &args);
            };
            product(gram, side, gram, [side, side], square);
            let len = (side * side).next_multiple_of(LANES);
            combine(isa, &Combine { len, a: b, x: gram, b: c, y: square, to: square });
            for i in 0..side {
                *square.add(i * side + i) += a;
            }
            if rows <= columns {
                product(square, rows, from, size, to);
            } else {
                product(from, rows, square, [columns, columns], to);
            }
            (from, to) = (to, from);
        }
        from
    }
}

/// Moves the momentum, and puts Nesterov's look ahead in place of the gradient.
pub(in crate::cpu) struct Momentum {
    /// A multiple of 16.
    len: usize,
    momentum: *mut f32,
    gradient: *mut f32,
    gradient_factor: f32,
    keep: f32,
    /// `1 - keep`, rounded from the exact difference.
    rest: f32,
    /// The sum of squares is added to this.
    squares: *mut f64,
}

#[inline(always)]
unsafe fn nesterov_generic<S: Simd>(args: &Momentum) {
    unsafe {
        let (keep, rest) = (S::splat(args.keep), S::splat(args.rest));
        let mut squares = S::splat(0.0);
        for at in (0..args.len).step_by(LANES) {
            let gradient = S::mul(S::load(args.gradient.add(at)), S::splat(args.gradient_factor));
            let gradient = S::mul(gradient, rest);
            let momentum = S::mul_add(S::load(args.momentum.add(at)), keep, gradient);
            let ahead = S::mul_add(momentum, keep, gradient);
            S::store(args.momentum.add(at), momentum);
            S::store(args.gradient.add(at), ahead);
            squares = S::mul_add(ahead, ahead, squares);
        }
        *args.squares += f64::from(S::sum(squares));
    }
}

isa_kernel! {
    /// Moves a range of a momentum.
    nesterov, nesterov_generic, Momentum
}

/// `to = a x + b y`; `to` may be one of the others.
pub(in crate::cpu) struct Combine {
    /// A multiple of 16.
    len: usize,
    a: f32,
    x: *const f32,
    b: f32,
    y: *const f32,
    to: *mut f32,
}

#[inline(always)]
unsafe fn combine_generic<S: Simd>(args: &Combine) {
    unsafe {
        for at in (0..args.len).step_by(LANES) {
            let x = S::mul(S::load(args.x.add(at)), S::splat(args.a));
            S::store(args.to.add(at), S::mul_add(S::load(args.y.add(at)), S::splat(args.b), x));
        }
    }
}

isa_kernel! {
    /// Adds multiples of two ranges.
    combine, combine_generic, Combine
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::{Guarded, check, columns, narrow, numbers, wide};
    use crate::graph::{GraphError, Init};
    use crate::ops::{Convolution, LinearInit};

    const SIZES: [[usize; 2]; 7] = [[1, 1], [1, 5], [5, 1], [7, 13], [23, 11], [67, 33], [34, 71]];

    /// `a b`, row by row, with `inner` columns of `a`.
    fn product(a: &[f64], b: &[f64], inner: usize) -> Vec<f64> {
        let columns = b.len() / inner;
        let sum = |row: &[f64], j: usize| (0..inner).map(|k| row[k] * b[k * columns + j]).sum();
        a.chunks_exact(inner).flat_map(|row| (0..columns).map(move |j| sum(row, j))).collect()
    }

    fn transposed(x: &[f64], columns: usize) -> Vec<f64> {
        (0..columns).flat_map(|j| x.iter().skip(j).step_by(columns).copied()).collect()
    }

    /// The iteration as the source has it, in f64.
    fn plain(x: &[f64], columns: usize) -> Vec<f64> {
        let rows = x.len() / columns;
        if rows > columns {
            return transposed(&plain(&transposed(x, columns), rows), rows);
        }
        let [a, b, c] = COEFFICIENTS.map(f64::from);
        let mut x = x.to_vec();
        for _ in 0..ITERATIONS {
            let gram = product(&x, &transposed(&x, columns), columns);
            let square = product(&gram, &gram, rows);
            let sum: Vec<f64> = gram.iter().zip(&square).map(|(gram, square)| b * gram + c * square).collect();
            let change = product(&sum, &x, rows);
            x.iter_mut().zip(change).for_each(|(x, change)| *x = a * *x + change);
        }
        x
    }

    fn normalized(seed: u64, len: usize) -> Vec<f32> {
        let values = numbers(seed, len);
        let norm = values.iter().map(|x| x * x).sum::<f32>().sqrt();
        values.iter().map(|x| x / norm).collect()
    }

    /// Orthogonalizes with memory that is as long as it has to be, and uninitialized.
    fn run(isa: Isa, size: [usize; 2], x: &[f32]) -> Vec<f32> {
        let mut matrix = Guarded::new(x);
        let mut room = Guarded::unset(Room::of(size).len);
        let found = unsafe { orthogonalize(isa, size, matrix.pointer(), room.pointer()) };
        assert_eq!(found, room.pointer());
        room.values()[..x.len()].to_vec()
    }

    #[test]
    fn matrices_of_any_size_are_orthogonalized_as_in_the_source() {
        for size in SIZES {
            let x = normalized(1, size[0] * size[1]);
            // Each iteration multiplies what is small by 3.4, and its rounding.
            check(format_args!("{size:?}"), &[plain(&wide(&x), size[1])], 2e-4, |isa| vec![run(isa, size, &x)]);
        }
    }

    /// The largest eigenvalue of a symmetric matrix without negative ones.
    fn largest_eigenvalue(matrix: &[f64], side: usize) -> f64 {
        let mut vector: Vec<f64> = (0..side).map(|i| 1.0 + 0.1 * i as f64).collect();
        let mut norm = 0.0;
        for _ in 0..3000 {
            vector = product(matrix, &vector, side);
            norm = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
            vector.iter_mut().for_each(|x| *x /= norm);
        }
        norm
    }

    #[test]
    fn ill_conditioned_matrices_give_the_golden_values() {
        let [given, golden] = columns(include_str!("../../../tests/golden/orthogonalized.txt"));
        let given = narrow(&given);
        let mut start = 0;
        for size in [[3, 7], [7, 3], [11, 13]] {
            let [rows, columns] = size;
            let range = start..start + rows * columns;
            start = range.end;
            let (given, golden) = (&given[range.clone()], &golden[range]);
            // The singular values go from 1 to 0.01; rounding errors in the direction of the last are multiplied by
            // 485.
            check(format_args!("{size:?}"), &[golden.to_vec()], 1e-4, |isa| vec![run(isa, size, given)]);
            let x = wide(&run(Isa::best(), size, given));
            let side = rows.min(columns);
            let gram = if rows < columns {
                product(&x, &transposed(&x, columns), columns)
            } else {
                product(&transposed(&x, columns), &x, rows)
            };
            let largest = largest_eigenvalue(&gram, side);
            let flipped = gram.iter().enumerate().map(|(i, x)| if i % (side + 1) == 0 { largest - x } else { -x });
            let smallest = largest - largest_eigenvalue(&flipped.collect::<Vec<_>>(), side);
            let (largest, smallest) = (largest.sqrt(), smallest.sqrt());
            // Five times 3.4445 s - 4.775 s^3 + 2.0315 s^5 takes every s from 0.0015 to 1 into this range.
            assert!(largest < 1.203 && smallest > 0.681, "{size:?}: from {smallest} to {largest}");
        }
        assert_eq!(start, given.len());
    }

    #[test]
    fn one_update_follows_the_formulas_and_leaves_the_gap_zero() {
        let (learning_rate, factor, decay, keep) = (0.03, 0.7, 0.2, 0.8);
        for size in SIZES {
            let len = size[0] * size[1];
            let padded = |seed| [numbers(seed, len), vec![0.0; len.next_multiple_of(LANES) - len]].concat();
            let [values, gradient, momentum] = [1, 2, 3].map(padded);
            let moved = momentum.iter().zip(&gradient);
            let moved: Vec<f64> =
                moved.map(|(m, g)| keep * f64::from(*m) + (1.0 - keep) * factor * f64::from(*g)).collect();
            let ahead = moved.iter().zip(&gradient);
            let ahead: Vec<f64> = ahead.map(|(m, g)| keep * m + (1.0 - keep) * factor * f64::from(*g)).collect();
            let norm = ahead.iter().map(|x| x * x).sum::<f64>().sqrt();
            let direction = plain(&ahead[..len].iter().map(|x| x / norm).collect::<Vec<_>>(), size[1]);
            let rate = learning_rate * 0.2 * (size[0].max(size[1]) as f64).sqrt();
            let steps = direction.into_iter().chain([0.0; LANES]);
            let expected =
                values.iter().zip(steps).map(|(x, step)| f64::from(*x) * (1.0 - learning_rate * decay) - rate * step);
            check(format_args!("{size:?}"), &[expected.collect(), moved], 3e-5, |isa| {
                let [mut values, mut gradient, mut momentum] =
                    [&values, &gradient, &momentum].map(|values| Guarded::new(values));
                let muon = Muon { momentum: keep, ..Muon::default() };
                let mut room = Guarded::unset(muon.matrix_room(size));
                let step = StepNumbers {
                    learning_rate,
                    weight_decay: decay,
                    gradient_factor: factor as f32,
                    bias_corrections: [1.0; 2],
                };
                let to = Values {
                    len: len.next_multiple_of(LANES),
                    values: values.pointer(),
                    gradient: gradient.pointer(),
                    moments: [momentum.pointer(), std::ptr::null_mut()],
                };
                unsafe { muon.update_matrix(isa, &step, to, size, room.pointer()) };
                vec![values.values(), momentum.values()]
            });
        }
    }

    /// What has a layer before and after it, and what has not.
    fn network() -> Result<Graph, GraphError> {
        let mut graph = Graph::new();
        let image = graph.input("image", [6, 5, 5])?;
        let x = graph.channels_last("map", image)?;
        let init = LinearInit::pytorch(27);
        let x = graph.conv2d("first", x, Convolution::new(4, 3).padding(1), init)?;
        let side = graph.conv2d("side", x, Convolution::new(8, 3).padding(1), init)?;
        let x = graph.conv2d("conv", x, Convolution::new(8, 3).padding(1), init)?;
        let x = graph.add("sum", x, side)?;
        let x = graph.conv2d("groups", x, Convolution::new(8, 3).groups(2), init)?;
        let x = graph.conv2d("point", x, Convolution::new(7, 1), init)?;
        let x = graph.global_avg_pool("pool", x)?;
        let scale = graph.new_parameter("norm", [7], Init::Constant(1.0))?;
        let shift = graph.new_parameter("shift", [7], Init::Constant(0.0))?;
        let x = graph.layer_norm("layer_norm", x, [scale, shift], 1e-5)?;
        let x = graph.linear("hidden", x, 11, init)?;
        graph.linear("head", x, 3, init)?;
        Ok(graph)
    }

    #[test]
    fn hidden_weights_have_a_layer_before_and_after_them() {
        let graph = network().expect("the shapes fit");
        let names: Vec<&str> =
            hidden_weights(&graph).into_iter().map(|param| graph.parameter(param).name.as_str()).collect();
        assert_eq!(names, ["side.weight", "conv.weight", "point.weight", "hidden.weight"]);
    }
}
