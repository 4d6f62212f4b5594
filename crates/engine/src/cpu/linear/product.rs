//! The product of rows with packed weights, and in the same pass bias, activation, dropout and residual.
//!
//! Order: product, bias, activation (its derivative is stored for the backward pass), `multiply`, dropout, residual.

use std::ptr::null_mut;

use crate::cpu::activation::value_and_derivative;
use crate::cpu::dropout::Mask;
use crate::cpu::simd::{LANES, Simd, isa_kernel, load_up_to, store_up_to};
use crate::cpu::tile::{Broadcast, Panel, TILE_ROWS, Target, any_tile};
use crate::ops::Activation;

/// What a product's result is multiplied by, element by element.
#[derive(Clone, Copy, Default)]
pub(in crate::cpu) enum Multiply {
    /// Nothing.
    #[default]
    No,
    /// Factors, one for each number.
    By(*const f32),
    /// The number if the value is positive, otherwise 0.
    WherePositive(*const f32, f32),
    /// 1 if the value is between 0 and 6, otherwise 0.
    Between0And6(*const f32),
}

impl Multiply {
    /// Multiplies the `n` values at an offset of the result, up to 16.
    #[inline(always)]
    pub unsafe fn apply<S: Simd>(self, x: S::V, at: usize, n: usize) -> S::V {
        unsafe {
            match self {
                Multiply::No => x,
                Multiply::By(factors) => S::mul(x, load_up_to::<S>(factors.add(at), n)),
                Multiply::WherePositive(values, factor) => {
                    let zero = S::splat(0.0);
                    let positive = S::greater(load_up_to::<S>(values.add(at), n), zero);
                    S::select(positive, S::mul(x, S::splat(factor)), zero)
                }
                Multiply::Between0And6(values) => {
                    let (zero, value) = (S::splat(0.0), load_up_to::<S>(values.add(at), n));
                    let below = S::select(S::greater(S::splat(6.0), value), x, zero);
                    S::select(S::greater(value, zero), below, zero)
                }
            }
        }
    }
}

/// `out = rows of x times B`, and what follows.
pub(in crate::cpu) struct Product {
    pub rows: usize,
    /// Length of the inner axis.
    pub steps: usize,
    pub columns: usize,
    /// `[rows, steps]`
    pub x: *const f32,
    /// B in panels, see [`super::Pack`].
    pub packed: *const f32,
    /// `[columns]`, or null.
    pub bias: *const f32,
    pub activation: Option<Activation>,
    /// Where the activation's derivative goes, times dropout; null where it is not needed.
    pub derivative: *mut f32,
    pub multiply: Multiply,
    pub dropout: Option<Mask>,
    /// Added at the end, `[rows, columns]`, or null. May be `out`.
    pub residual: *const f32,
    /// `[rows, columns]`
    pub out: *mut f32,
}

/// Stores sums, bias included from the start, with a residual added at the end.
struct Direct<'a>(&'a Product);

impl<S: Simd> Target<S> for Direct<'_> {
    #[inline(always)]
    unsafe fn start<const M: usize, const N: usize>(&self, _: usize, column: usize, width: usize) -> [[S::V; N]; M] {
        unsafe { [bias::<S, N>(self.0.bias, column, width); M] }
    }

    #[inline(always)]
    unsafe fn finish<const M: usize, const N: usize>(
        &self,
        acc: [[S::V; N]; M],
        row: usize,
        column: usize,
        width: usize,
    ) {
        unsafe {
            for (i, sums) in acc.iter().enumerate() {
                let at = (row + i) * self.0.columns + column;
                for (j, sum) in sums.iter().enumerate() {
                    let (at, n) = (at + j * LANES, width - j * LANES);
                    let sum = if self.0.residual.is_null() {
                        *sum
                    } else {
                        S::add(*sum, load_up_to::<S>(self.0.residual.add(at), n))
                    };
                    store_up_to::<S>(self.0.out.add(at), n, sum);
                }
            }
        }
    }
}

/// Leaves the sums of one tile in memory, for what is too long to be written out for every size of tile.
struct Spill {
    bias: *const f32,
    to: *mut f32,
}

impl<S: Simd> Target<S> for Spill {
    #[inline(always)]
    unsafe fn start<const M: usize, const N: usize>(&self, _: usize, column: usize, width: usize) -> [[S::V; N]; M] {
        unsafe { [bias::<S, N>(self.bias, column, width); M] }
    }

    #[inline(always)]
    unsafe fn finish<const M: usize, const N: usize>(&self, acc: [[S::V; N]; M], _: usize, _: usize, _: usize) {
        unsafe {
            for (i, sums) in acc.iter().enumerate() {
                for (j, sum) in sums.iter().enumerate() {
                    S::store(self.to.add((i * S::TILE_VECTORS + j) * LANES), *sum);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn bias<S: Simd, const N: usize>(bias: *const f32, column: usize, width: usize) -> [S::V; N] {
    unsafe {
        let mut start = [S::splat(0.0); N];
        if !bias.is_null() {
            for (j, sum) in start.iter_mut().enumerate() {
                *sum = load_up_to::<S>(bias.add(column + j * LANES), width - j * LANES);
            }
        }
        start
    }
}

#[inline(always)]
unsafe fn product_generic<S: Simd>(args: &Product) {
    unsafe {
        let panel = LANES * S::TILE_VECTORS;
        let mut tile = [S::splat(0.0); TILE_ROWS * 4];
        let spill = Spill { bias: args.bias, to: tile.as_mut_ptr().cast() };
        let direct = args.activation.is_none() && args.dropout.is_none() && matches!(args.multiply, Multiply::No);
        let mut column = 0;
        while column < args.columns {
            let width = panel.min(args.columns - column);
            let b = Panel { at: args.packed.add(column * args.steps), step: panel };
            let mut row = 0;
            while row < args.rows {
                let a = Broadcast { at: args.x.add(row * args.steps), row: args.steps, step: 1 };
                let rows = TILE_ROWS.min(args.rows - row);
                if direct {
                    any_tile::<S, _, false>([rows, row], [width, column], args.steps, a, b, &Direct(args));
                } else {
                    any_tile::<S, _, false>([rows, row], [width, column], args.steps, a, b, &spill);
                    match args.activation {
                        Some(activation) => activate::<S>(args, activation, [rows, row], [width, column], spill.to),
                        None => rest::<S>(args, [rows, row], [width, column], spill.to),
                    }
                }
                row += TILE_ROWS;
            }
            column += panel;
        }
    }
}

/// Activation and dropout of one tile, value and derivative.
#[inline(always)]
unsafe fn activate<S: Simd>(
    args: &Product,
    activation: Activation,
    [rows, row]: [usize; 2],
    [width, column]: [usize; 2],
    tile: *mut f32,
) {
    // Written out for each function, so that the choice is made once for a tile.
    macro_rules! with {
        ($activation:expr) => {
            for i in 0..rows {
                let mut bits = args.dropout.as_ref().map(|mask| (mask.row::<S>(row + i), S::splat(mask.scale)));
                for j in 0..width.div_ceil(LANES) {
                    let (at, n) = ((row + i) * args.columns + column + j * LANES, width - j * LANES);
                    let x = S::load(tile.add((i * S::TILE_VECTORS + j) * LANES));
                    let (mut value, mut derivative) = value_and_derivative::<S>($activation, x);
                    if let Some((bits, scale)) = &mut bits {
                        let kept = S::select(bits.keeps(column / LANES + j, j == 0), *scale, S::splat(0.0));
                        value = S::mul(value, kept);
                        derivative = S::mul(derivative, kept);
                    }
                    store_up_to::<S>(args.out.add(at), n, value);
                    if !args.derivative.is_null() {
                        store_up_to::<S>(args.derivative.add(at), n, derivative);
                    }
                }
            }
        };
    }
    unsafe {
        match activation {
            Activation::Relu => with!(Activation::Relu),
            Activation::Relu6 => with!(Activation::Relu6),
            Activation::Gelu => with!(Activation::Gelu),
            Activation::GeluTanh => with!(Activation::GeluTanh),
            Activation::Tanh => with!(Activation::Tanh),
        }
    }
}

/// Factors, dropout and residual of one tile.
#[inline(always)]
unsafe fn rest<S: Simd>(args: &Product, [rows, row]: [usize; 2], [width, column]: [usize; 2], tile: *mut f32) {
    unsafe {
        let zero = S::splat(0.0);
        for i in 0..rows {
            let mut bits = args.dropout.as_ref().map(|mask| (mask.row::<S>(row + i), S::splat(mask.scale)));
            for j in 0..width.div_ceil(LANES) {
                let (at, n) = ((row + i) * args.columns + column + j * LANES, width - j * LANES);
                let mut x = S::load(tile.add((i * S::TILE_VECTORS + j) * LANES));
                x = args.multiply.apply::<S>(x, at, n);
                if let Some((bits, scale)) = &mut bits {
                    x = S::select(bits.keeps(column / LANES + j, j == 0), S::mul(x, *scale), zero);
                }
                if !args.residual.is_null() {
                    x = S::add(x, load_up_to::<S>(args.residual.add(at), n));
                }
                store_up_to::<S>(args.out.add(at), n, x);
            }
        }
    }
}

isa_kernel! {
    /// Multiplies rows with packed weights and does what follows in the same pass.
    product, product_generic, Product
}

impl Default for Product {
    fn default() -> Self {
        Product {
            rows: 0,
            steps: 0,
            columns: 0,
            x: null_mut(),
            packed: null_mut(),
            bias: null_mut(),
            activation: None,
            derivative: null_mut(),
            multiply: Multiply::No,
            dropout: None,
            residual: null_mut(),
            out: null_mut(),
        }
    }
}
