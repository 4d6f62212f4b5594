//! Packing, products with all that can follow, and parameter gradients, against the reference on ragged sizes.

use std::ptr::{null, null_mut};

use super::*;
use crate::cpu::Isa;
use crate::cpu::testing::{Draws, Guarded, check, numbers, same_bits, wide};
use crate::ops::Activation;
use crate::reference::{activation, linear};

/// Largest error, as part of a result's largest value.
const TOLERANCE: f64 = 1e-6;
/// The same for sums over many rows, which may nearly cancel.
const SUM_TOLERANCE: f64 = 1e-5;

/// Packs a weight in two calls, as two threads would.
fn packed(isa: Isa, weight: &[f32], [out_features, in_features]: [usize; 2], transposed: bool) -> Guarded {
    let (steps, columns) = if transposed { (in_features, out_features) } else { (out_features, in_features) };
    let (from, mut to) = (Guarded::new(weight), Guarded::unset(packed_len(isa, steps, columns)));
    let panels = columns.div_ceil(isa.panel());
    for (first, count) in [(0, panels / 2), (panels / 2, panels - panels / 2)] {
        let (weight, to) = (from.read(), to.pointer());
        unsafe { pack(isa, &Pack { weight, out_features, in_features, heads: 1, transposed, first, count, to }) };
    }
    to.values();
    to
}

#[test]
fn a_packed_weight_holds_every_column_once_and_zeros_beyond() {
    for (out_features, in_features) in [(1, 1), (5, 17), (16, 16), (33, 7), (65, 97), (47, 2)] {
        let weight = numbers(1, out_features * in_features);
        for transposed in [false, true] {
            let (steps, columns) = if transposed { (in_features, out_features) } else { (out_features, in_features) };
            for isa in Isa::available() {
                let width = isa.panel();
                let found = packed(isa, &weight, [out_features, in_features], transposed).values();
                for (i, &x) in found.iter().enumerate() {
                    let (column, step) = (i / (width * steps) * width + i % width, i / width % steps);
                    let at = if transposed { column * in_features + step } else { step * in_features + column };
                    let expected = if column < columns { weight[at] } else { 0.0 };
                    assert!(x == expected, "{isa:?} {out_features} x {in_features}, {transposed}: [{step}, {column}]");
                }
            }
        }
    }
}

/// What follows a product.
#[derive(Clone, Copy, Debug, Default)]
struct After {
    bias: bool,
    activation: Option<Activation>,
    derivative: bool,
    /// 0 for nothing, 1 for factors, 2 for a number where values are positive.
    multiply: usize,
    dropout: bool,
    residual: bool,
    /// The residual is overwritten.
    in_place: bool,
}

/// Everything that programs ask for.
fn everything() -> Vec<After> {
    let mut all = Vec::new();
    for bias in [false, true] {
        for dropout in [false, true] {
            for activation in [Activation::Relu, Activation::Gelu, Activation::GeluTanh, Activation::Tanh] {
                for derivative in [false, true] {
                    let activation = Some(activation);
                    all.push(After { bias, activation, derivative, dropout, ..After::default() });
                }
            }
            for multiply in 0..3 {
                for (residual, in_place) in [(false, false), (true, false), (true, true)] {
                    all.push(After { bias, multiply, dropout, residual, in_place, ..After::default() });
                }
            }
        }
    }
    all
}

/// Number by which a positive value's place is multiplied.
const NUMBER: f32 = 1.25;

fn check_product(images: usize, rows_per_image: usize, steps: usize, columns: usize, all: &[After]) {
    let rows = images * rows_per_image;
    let (x, weight, bias) = (numbers(1, rows * steps), numbers(2, columns * steps), numbers(3, columns));
    let (factors, residual) = (numbers(4, rows * columns), numbers(5, rows * columns));
    let draws = Draws::new(0.3, images);
    let drop = |x: Vec<f64>, drops: bool| if drops { draws.apply(&x, columns) } else { x };
    for &after in all {
        let sums = linear::forward(&wide(&x), &wide(&weight), after.bias.then_some(&wide(&bias)), columns);
        let mut expected = Vec::new();
        if let Some(function) = after.activation {
            let of = |f: fn(Activation, f64) -> f64| sums.iter().map(|&x| f(function, x)).collect();
            expected.push(drop(of(activation::value), after.dropout));
            if after.derivative {
                expected.push(drop(of(activation::derivative), after.dropout));
            }
        } else {
            let multiplied = sums.iter().zip(&factors).map(|(x, &factor)| match after.multiply {
                0 => *x,
                1 => x * f64::from(factor),
                _ if factor > 0.0 => x * f64::from(NUMBER),
                _ => 0.0,
            });
            let mut y = drop(multiplied.collect(), after.dropout);
            if after.residual {
                y.iter_mut().zip(&residual).for_each(|(y, &residual)| *y += f64::from(residual));
            }
            expected.push(y);
        }
        check(
            format_args!("{images} x {rows_per_image} x {steps} x {columns}, {after:?}"),
            &expected,
            TOLERANCE,
            |isa| {
                let packed = packed(isa, &weight, [columns, steps], true);
                let (x, bias, factors) = (Guarded::new(&x), Guarded::new(&bias), Guarded::new(&factors));
                let (mut over, mut apart) = (Guarded::new(&residual), Guarded::unset(rows * columns));
                let mut derivative = Guarded::unset(rows * columns);
                let args = Product {
                    rows,
                    steps,
                    columns,
                    x: x.read(),
                    packed: packed.read(),
                    bias: if after.bias { bias.read() } else { null() },
                    activation: after.activation,
                    derivative: if after.derivative { derivative.pointer() } else { null_mut() },
                    multiply: match after.multiply {
                        0 => Multiply::No,
                        1 => Multiply::By(factors.read()),
                        _ => Multiply::WherePositive(factors.read(), NUMBER),
                    },
                    dropout: after.dropout.then(|| draws.mask(rows_per_image, columns)),
                    residual: if after.residual { over.read() } else { null() },
                    out: if after.in_place { over.pointer() } else { apart.pointer() },
                };
                unsafe { product(isa, &args) };
                let mut found = vec![if after.in_place { over.values() } else { apart.values() }];
                if after.derivative {
                    found.push(derivative.values());
                }
                found
            },
        );
    }
}

#[test]
fn products_of_all_sizes_equal_the_reference() {
    let plain = [After::default(), After { bias: true, residual: true, ..After::default() }];
    for rows in [1, 2, 3, 5, 6, 7, 13] {
        for columns in [1, 2, 5, 13, 15, 16, 17, 31, 33, 47, 63, 64, 65, 97, 129] {
            for steps in [1, 5, 16, 47] {
                check_product(1, rows, steps, columns, &plain);
            }
        }
    }
}

#[test]
fn everything_fused_into_a_product_equals_the_reference() {
    for columns in [1, 5, 16, 17, 33, 47, 65, 97] {
        for (images, rows_per_image) in [(1, 1), (3, 5)] {
            check_product(images, rows_per_image, 7, columns, &everything());
        }
    }
}

#[test]
fn the_gradient_of_the_input_is_a_product_with_the_weight_as_stored() {
    for (rows, out_features, in_features) in [(1, 1, 1), (7, 5, 17), (5, 33, 16), (13, 17, 65), (6, 64, 97)] {
        let (dy, weight) = (numbers(1, rows * out_features), numbers(2, out_features * in_features));
        let expected = [linear::input_grad(&wide(&dy), &wide(&weight), in_features)];
        check(format_args!("{rows} x {out_features} x {in_features}"), &expected, TOLERANCE, |isa| {
            let packed = packed(isa, &weight, [out_features, in_features], false);
            let (dy, mut out) = (Guarded::new(&dy), Guarded::unset(rows * in_features));
            let args = Product {
                rows,
                steps: out_features,
                columns: in_features,
                x: dy.read(),
                packed: packed.read(),
                out: out.pointer(),
                ..Product::default()
            };
            unsafe { product(isa, &args) };
            vec![out.values()]
        });
    }
}

/// Gradients of weight and bias, the rows taken in calls that end where `ends` says.
fn param_grads(
    isa: Isa,
    [dy, x]: [&[f32]; 2],
    [out_features, in_features]: [usize; 2],
    before: Option<[&[f32]; 2]>,
    ends: &[usize],
    bias: bool,
) -> Vec<Vec<f32>> {
    let (dy, x) = (Guarded::new(dy), Guarded::new(x));
    let [mut dweight, mut dbias] = match before {
        Some(before) => before.map(Guarded::new),
        None => [Guarded::unset(out_features * in_features), Guarded::unset(out_features)],
    };
    let mut first = 0;
    for &end in ends {
        let args = ParamGrad {
            rows: end - first,
            out_features,
            in_features,
            dy: unsafe { dy.read().add(first * out_features) },
            x: unsafe { x.read().add(first * in_features) },
            dweight: dweight.pointer(),
            dbias: if bias { dbias.pointer() } else { null_mut() },
            continues: before.is_some() || first > 0,
        };
        unsafe { param_grad(isa, &args) };
        first = end;
    }
    let mut found = vec![dweight.values()];
    if bias {
        found.push(dbias.values());
    }
    found
}

#[test]
fn parameter_gradients_equal_the_reference_and_accumulate() {
    for rows in [1, 2, 7, 95, 97, 193] {
        for out_features in [1, 5, 6, 13, 17, 65, 97] {
            for in_features in [1, 5, 16, 17, 33, 64, 65] {
                let size = [out_features, in_features];
                let (dy, x) = (numbers(1, rows * out_features), numbers(2, rows * in_features));
                let before = [numbers(3, out_features * in_features), numbers(4, out_features)];
                let dweight = linear::weight_grad(&wide(&dy), &wide(&x), out_features, in_features);
                let exact = [dweight, linear::bias_grad(&wide(&dy), out_features)];
                for (continues, bias) in [(false, true), (true, true), (false, false)] {
                    let add = |(x, before): (&Vec<f64>, &Vec<f32>)| -> Vec<f64> {
                        let more = |before: &f32| if continues { f64::from(*before) } else { 0.0 };
                        x.iter().zip(before).map(|(x, before)| x + more(before)).collect()
                    };
                    let expected: Vec<_> = exact.iter().zip(&before).map(add).take(1 + usize::from(bias)).collect();
                    let what = format_args!("{rows} x {size:?}, continues {continues}, bias {bias}");
                    let start = continues.then_some([before[0].as_slice(), before[1].as_slice()]);
                    check(what, &expected, SUM_TOLERANCE, |isa| {
                        param_grads(isa, [&dy, &x], size, start, &[rows], bias)
                    });
                }
            }
        }
    }
}

#[test]
fn parameter_gradients_do_not_depend_on_how_rows_are_cut() {
    let (rows, size) = (211, [13, 67]);
    let (dy, x) = (numbers(1, rows * size[0]), numbers(2, rows * size[1]));
    for isa in Isa::available() {
        let whole = param_grads(isa, [&dy, &x], size, None, &[rows], true);
        for ends in [vec![1, rows], vec![97, 98, rows], vec![50, 100, 150, 200, rows]] {
            let cut = param_grads(isa, [&dy, &x], size, None, &ends, true);
            assert!(same_bits(&cut, &whole), "{isa:?}: rows cut at {ends:?}");
        }
    }
}
