//! Linear layers whose weights outweigh their activations: weights are read once, as they lie, and each call takes a
//! range of columns for all rows of the batch.
//!
//! An element is one chain of multiply-adds over the inner axis (in the forward product one for each of 16 lanes, which
//! are then added), so neither the tiles nor the cut show in its bits.

use crate::cpu::simd::{LANES, Simd, isa_kernel, load_up_to};
use crate::cpu::tile::{Accumulate, Broadcast, Panel, TILE_ROWS, Target, load_row, product};

/// `out = x W^T + bias` for a range of outputs.
pub(in crate::cpu) struct WideProduct {
    pub rows: usize,
    /// `[out, in]`
    pub size: [usize; 2],
    /// First output.
    pub first: usize,
    /// Number of outputs.
    pub count: usize,
    /// `[rows, in]`
    pub x: *const f32,
    pub weight: *const f32,
    /// `[out]`, or null.
    pub bias: *const f32,
    /// `[rows, out]`
    pub out: *mut f32,
}

#[inline(always)]
unsafe fn wide_product_generic<S: Simd>(args: &WideProduct) {
    unsafe {
        // As many sums as registers hold.
        if S::TILE_VECTORS == 1 { dots::<S, 2, 2>(args) } else { dots::<S, 4, 6>(args) }
    }
}

/// All dot products, in tiles of O outputs and R rows.
#[inline(always)]
unsafe fn dots<S: Simd, const O: usize, const R: usize>(args: &WideProduct) {
    unsafe {
        let mut out = args.first;
        while out < args.first + args.count {
            let outputs = (args.first + args.count - out).min(O);
            let mut row = 0;
            while row < args.rows {
                let rows = (args.rows - row).min(R);
                if outputs == O {
                    // The next outputs' weights come in while these are in use.
                    let ahead = O.div_ceil(args.rows.div_ceil(R));
                    let ahead = [row / R * ahead, ahead];
                    match rows {
                        1 => dot_tile::<S, O, 1>(args, out, row, ahead),
                        2 => dot_tile::<S, O, 2>(args, out, row, ahead),
                        3 => dot_tile::<S, O, 3>(args, out, row, ahead),
                        4 => dot_tile::<S, O, 4>(args, out, row, ahead),
                        5 => dot_tile::<S, O, 5>(args, out, row, ahead),
                        _ => dot_tile::<S, O, R>(args, out, row, ahead),
                    }
                } else {
                    for (i, j) in (0..outputs).flat_map(|i| (0..rows).map(move |j| (i, j))) {
                        dot_tile::<S, 1, 1>(args, out + i, row + j, [0, 0]);
                    }
                }
                row += R;
            }
            out += O;
        }
    }
}

/// One tile; meanwhile `ahead[1]` rows of the weights that follow are asked for, from the `ahead[0]`th on.
#[inline(always)]
unsafe fn dot_tile<S: Simd, const O: usize, const R: usize>(
    args: &WideProduct,
    out: usize,
    row: usize,
    [first_ahead, ahead]: [usize; 2],
) {
    unsafe {
        let [out_features, in_features] = args.size;
        let (weight, x) = (args.weight.add(out * in_features), args.x.add(row * in_features));
        let mut sums = [[S::splat(0.0); O]; R];
        // Outputs lie one after the other, so what follows this tile's weights are the next tile's.
        let mut next = weight.wrapping_add((O + first_ahead) * in_features);
        let mut at = 0;
        while at < in_features {
            for _ in 0..ahead {
                prefetch(next);
                next = next.wrapping_add(LANES);
            }
            let n = in_features - at;
            let mut w = [S::splat(0.0); O];
            for (i, w) in w.iter_mut().enumerate() {
                *w = load_up_to::<S>(weight.add(i * in_features + at), n);
            }
            for (j, sums) in sums.iter_mut().enumerate() {
                let x = load_up_to::<S>(x.add(j * in_features + at), n);
                for (w, sum) in w.iter().zip(sums) {
                    *sum = S::mul_add(*w, x, *sum);
                }
            }
            at += LANES;
        }
        for (j, sums) in sums.iter().enumerate() {
            for (i, sum) in sums.iter().enumerate() {
                let bias = if args.bias.is_null() { 0.0 } else { *args.bias.add(out + i) };
                *args.out.add((row + j) * out_features + out + i) = S::sum(*sum) + bias;
            }
        }
    }
}

/// Asks for a cache line in the second-level cache; any address will do.
#[inline(always)]
fn prefetch(at: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint that never faults, and part of every processor of the target.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

isa_kernel! {
    /// Multiplies rows with a range of a weight's rows.
    wide_product, wide_product_generic, WideProduct
}

/// `dx = dy W` for a range of inputs.
pub(in crate::cpu) struct WideInputGrad {
    pub rows: usize,
    /// `[out, in]`
    pub size: [usize; 2],
    /// First input.
    pub first: usize,
    /// Number of inputs.
    pub count: usize,
    /// `[rows, out]`
    pub dy: *const f32,
    pub weight: *const f32,
    /// `[rows, in]`
    pub dx: *mut f32,
}

/// Rows of the weight that are worked through at a time: they are read side by side, and again for all rows of dy.
const OUT_BLOCK: usize = 32;

#[inline(always)]
unsafe fn wide_input_grad_generic<S: Simd>(args: &WideInputGrad) {
    unsafe {
        let panel = LANES * S::TILE_VECTORS;
        let mut first = 0;
        while first < args.size[0] {
            let steps = OUT_BLOCK.min(args.size[0] - first);
            let mut column = args.first;
            while column < args.first + args.count {
                let width = panel.min(args.first + args.count - column);
                if width.is_multiple_of(LANES) {
                    input_grad_panel::<S, false>(args, [steps, first], [width, column]);
                } else {
                    input_grad_panel::<S, true>(args, [steps, first], [width, column]);
                }
                column += panel;
            }
            first += OUT_BLOCK;
        }
    }
}

/// One block of the weight's rows and one panel of its columns, with all rows of dy.
#[inline(always)]
unsafe fn input_grad_panel<S: Simd, const RAGGED: bool>(args: &WideInputGrad, block: [usize; 2], columns: [usize; 2]) {
    macro_rules! rows {
        ($rows:expr, $row:expr, $n:literal) => {
            match $rows {
                1 => input_grad_tile::<S, 1, $n, RAGGED>(args, block, $row, columns),
                2 => input_grad_tile::<S, 2, $n, RAGGED>(args, block, $row, columns),
                3 => input_grad_tile::<S, 3, $n, RAGGED>(args, block, $row, columns),
                4 => input_grad_tile::<S, 4, $n, RAGGED>(args, block, $row, columns),
                5 => input_grad_tile::<S, 5, $n, RAGGED>(args, block, $row, columns),
                _ => input_grad_tile::<S, 6, $n, RAGGED>(args, block, $row, columns),
            }
        };
    }
    unsafe {
        let mut row = 0;
        while row < args.rows {
            let rows = TILE_ROWS.min(args.rows - row);
            if S::TILE_VECTORS == 1 {
                rows!(rows, row, 1);
            } else {
                match columns[0].div_ceil(LANES) {
                    1 => rows!(rows, row, 1),
                    2 => rows!(rows, row, 2),
                    3 => rows!(rows, row, 3),
                    _ => rows!(rows, row, 4),
                }
            }
            row += TILE_ROWS;
        }
    }
}

/// One tile of M rows and N vectors. Rows of a weight are far apart, which no processor foresees: meanwhile the next
/// block's part of the panel is asked for, line by line, divided among the tiles.
#[inline(always)]
unsafe fn input_grad_tile<S: Simd, const M: usize, const N: usize, const RAGGED: bool>(
    args: &WideInputGrad,
    [steps, first]: [usize; 2],
    row: usize,
    [width, column]: [usize; 2],
) {
    unsafe {
        let [out_features, in_features] = args.size;
        let lines = N.div_ceil(args.rows.div_ceil(TILE_ROWS));
        let mut weight = args.weight.add(first * in_features + column);
        let mut next = weight.wrapping_add(OUT_BLOCK * in_features + row / TILE_ROWS * lines * LANES);
        let dy = args.dy.add(row * out_features + first);
        let target = Accumulate { to: args.dx, stride: in_features, continues: first > 0 };
        let mut sums: [[S::V; N]; M] = Target::<S>::start(&target, row, column, width);
        for step in 0..steps {
            for line in 0..lines {
                prefetch(next.wrapping_add(line * LANES));
            }
            let w = load_row::<S, N, RAGGED>(weight, width);
            for (i, sums) in sums.iter_mut().enumerate() {
                let dy = S::splat(*dy.add(i * out_features + step));
                for (w, sum) in w.iter().zip(sums) {
                    *sum = S::mul_add(dy, *w, *sum);
                }
            }
            // Wrapping: after the last step these point outside.
            weight = weight.wrapping_add(in_features);
            next = next.wrapping_add(in_features);
        }
        Target::<S>::finish(&target, sums, row, column, width);
    }
}

isa_kernel! {
    /// Multiplies rows with a range of a weight's columns.
    wide_input_grad, wide_input_grad_generic, WideInputGrad
}

/// Some rows of `dW = dy^T x`.
pub(in crate::cpu) struct WideWeightGrad {
    pub rows: usize,
    /// `[out, in]`
    pub size: [usize; 2],
    /// First row of the weight.
    pub first: usize,
    /// Number of rows.
    pub count: usize,
    /// `[rows, out]`
    pub dy: *const f32,
    /// `[rows, in]`
    pub x: *const f32,
    /// Where the first row goes.
    pub to: *mut f32,
}

#[inline(always)]
unsafe fn wide_weight_grad_generic<S: Simd>(args: &WideWeightGrad) {
    unsafe {
        let [out_features, in_features] = args.size;
        let a = Broadcast { at: args.dy.add(args.first), row: 1, step: out_features };
        let b = Panel { at: args.x, step: in_features };
        let target = Accumulate { to: args.to, stride: in_features, continues: false };
        product::<S, _>(args.count, in_features, args.rows, a, b, &target);
    }
}

isa_kernel! {
    /// Computes some rows of a weight's gradient.
    wide_weight_grad, wide_weight_grad_generic, WideWeightGrad
}

/// Column sums of `dy`, for a range of columns.
pub(in crate::cpu) struct WideBiasGrad {
    pub rows: usize,
    /// Columns of `dy`.
    pub len: usize,
    /// First column.
    pub first: usize,
    /// Number of columns.
    pub count: usize,
    /// `[rows, len]`
    pub dy: *const f32,
    /// Where the first sum goes; whole vectors are written, zeros beyond the last sum.
    pub to: *mut f32,
}

#[inline(always)]
unsafe fn wide_bias_grad_generic<S: Simd>(args: &WideBiasGrad) {
    unsafe {
        let mut at = 0;
        while at < args.count {
            let mut sum = S::splat(0.0);
            for row in 0..args.rows {
                let dy = args.dy.add(row * args.len + args.first + at);
                sum = S::add(sum, load_up_to::<S>(dy, args.count - at));
            }
            S::store(args.to.add(at), sum);
            at += LANES;
        }
    }
}

isa_kernel! {
    /// Sums a range of columns.
    wide_bias_grad, wide_bias_grad_generic, WideBiasGrad
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::cpu::Isa;
    use crate::cpu::split::share;
    use crate::cpu::testing::{Guarded, check, numbers, same_bits, wide};
    use crate::reference::linear;

    const SIZES: [[usize; 3]; 6] = [[1, 1, 1], [5, 7, 13], [16, 67, 37], [7, 129, 131], [12, 16, 64], [23, 61, 257]];

    #[test]
    fn products_and_gradients_of_any_size_and_cut_equal_the_reference() {
        for [rows, outputs, inputs] in SIZES {
            let size = [outputs, inputs];
            let (x, dy) = (numbers(1, rows * inputs), numbers(2, rows * outputs));
            let (weight, bias) = (numbers(3, outputs * inputs), numbers(4, outputs));
            let (x64, dy64, weight64, bias64) = (wide(&x), wide(&dy), wide(&weight), wide(&bias));
            let expected = [
                linear::forward(&x64, &weight64, Some(&bias64), outputs),
                linear::forward(&x64, &weight64, None, outputs),
                linear::input_grad(&dy64, &weight64, inputs),
                linear::weight_grad(&dy64, &x64, outputs, inputs),
                linear::bias_grad(&dy64, outputs),
            ];
            let uncut = RefCell::new(None);
            for cut in [1, 2, 3, 5] {
                check(format_args!("{rows} rows, {size:?}, {cut} pieces"), &expected, 2e-6, |isa| {
                    let [x, dy, weight, bias] = [&x, &dy, &weight, &bias].map(|values| Guarded::new(values));
                    let mut y = [true, false].map(|_| Guarded::unset(rows * outputs));
                    let mut dx = Guarded::unset(rows * inputs);
                    let mut dweight = Guarded::unset(outputs * inputs);
                    let mut dbias = Guarded::unset(outputs.next_multiple_of(LANES));
                    for piece in 0..cut {
                        let (x, dy, weight) = (x.read(), dy.read(), weight.read());
                        let range = share(outputs, cut, piece);
                        let (first, count) = (range.start, range.len());
                        for (y, bias) in y.iter_mut().zip([bias.read(), std::ptr::null()]) {
                            let out = y.pointer();
                            unsafe {
                                wide_product(isa, &WideProduct { rows, size, first, count, x, weight, bias, out })
                            };
                        }
                        let to = unsafe { dweight.pointer().add(first * inputs) };
                        unsafe { wide_weight_grad(isa, &WideWeightGrad { rows, size, first, count, dy, x, to }) };
                        let range = share(inputs, cut, piece);
                        let (first, count, dx) = (range.start, range.len(), dx.pointer());
                        unsafe { wide_input_grad(isa, &WideInputGrad { rows, size, first, count, dy, weight, dx }) };
                        // Sums are written by whole vectors.
                        let range = share(outputs.div_ceil(LANES), cut, piece);
                        let (first, end) = (range.start * LANES, (range.end * LANES).min(outputs));
                        let (to, count) = (unsafe { dbias.pointer().add(first) }, end.saturating_sub(first));
                        unsafe { wide_bias_grad(isa, &WideBiasGrad { rows, len: outputs, first, count, dy, to }) };
                    }
                    let mut dbias = dbias.values();
                    assert!(dbias.drain(outputs..).all(|x| x == 0.0), "the gap holds zeros");
                    let [with_bias, without] = y.map(|y| y.values());
                    let found = vec![with_bias, without, dx.values(), dweight.values(), dbias];
                    if isa == Isa::best() {
                        let mut uncut = uncut.borrow_mut();
                        assert!(same_bits(uncut.get_or_insert_with(|| found.clone()), &found), "{cut} pieces");
                    }
                    found
                });
            }
        }
    }
}
