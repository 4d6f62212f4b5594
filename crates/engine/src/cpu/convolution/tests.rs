//! Convolutions, pooling and norms against the reference, on ragged sizes.

use std::ptr::{null, null_mut};

use super::*;
use crate::cpu::Isa;
use crate::cpu::linear::Multiply;
use crate::cpu::testing::{Guarded, check, numbers, same_bits, wide};
use crate::ops::{Convolution, Pool};
use crate::reference::{self, convolution as exact, norms};

/// Largest error, relative to the result's largest value.
const TOLERANCE: f64 = 1e-6;
/// The same for sums over many pixels, whose terms may nearly cancel.
const SUM_TOLERANCE: f64 = 1e-5;

/// A convolution of some images.
#[derive(Clone, Copy, Debug)]
struct Case {
    convolution: Convolution,
    map: [usize; 3],
    images: usize,
}

impl Case {
    fn geometry(&self, forward: bool) -> Geometry {
        Geometry::new(self.convolution, self.map, forward)
    }

    fn output(&self) -> [usize; 3] {
        self.geometry(true).output
    }

    fn weights(&self) -> usize {
        self.convolution.out_channels * self.convolution.fan_in(self.map[2])
    }

    /// The reference's results for each image; `of` gets the number of the image.
    fn each(&self, of: impl FnMut(usize) -> Vec<f64>) -> Vec<f64> {
        (0..self.images).flat_map(of).collect()
    }
}

/// Kernels of all kinds, channels and groups around the sizes of vectors and panels, maps smaller than the kernel.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let kinds: [(usize, usize, usize); 9] =
        [(1, 1, 0), (1, 2, 1), (2, 1, 0), (2, 2, 0), (3, 1, 1), (3, 2, 1), (3, 1, 3), (2, 3, 1), (5, 2, 3)];
    let channels = [(1, 1, 1), (3, 5, 1), (7, 17, 1), (13, 33, 1), (17, 65, 1), (4, 6, 2), (5, 5, 5), (34, 66, 2)];
    for (kernel, stride, padding) in kinds {
        let few = kernel > 3 || padding > 1;
        for (input, out_channels, groups) in channels.into_iter().take(if few { 3 } else { channels.len() }) {
            for (height, width, images) in [(5, 7, 2), (2, 3, 3), (1, 13, 1)] {
                if height + 2 * padding < kernel {
                    continue;
                }
                let convolution = Convolution { out_channels, kernel, stride, padding, groups };
                cases.push(Case { convolution, map: [height, width, input], images });
            }
        }
    }
    // Each channel by itself: rows of one block and of several, with and without a rest.
    let kinds = [(1, 2, 0), (3, 1, 1), (3, 2, 1), (3, 1, 3), (2, 3, 1), (5, 2, 2), (7, 1, 3), (7, 3, 1), (9, 1, 2)];
    for (kernel, stride, padding) in kinds {
        for (height, width, channels, images) in [(7, 7, 17, 2), (5, 19, 67, 1), (9, 8, 32, 3)] {
            let convolution = Convolution { out_channels: channels, kernel, stride, padding, groups: channels };
            cases.push(Case { convolution, map: [height, width, channels], images });
        }
    }
    cases
}

/// Packs a weight in two calls, as with two threads.
fn packed(isa: Isa, weight: &[f32], geometry: &Geometry) -> Guarded {
    let (weight, mut to) = (Guarded::new(weight), Guarded::unset(geometry.packed_len(isa)));
    let panels = geometry.panels(isa);
    for (first, count) in [(0, panels / 2), (panels / 2, panels - panels / 2)] {
        let (weight, to) = (weight.read(), to.pointer());
        unsafe { pack(isa, &Pack { geometry, weight, first, count, to }) };
    }
    to.values();
    to
}

/// What follows a product: bias, ReLU, factors (1) or a number where values are positive (2), residual, in place.
type After = (bool, bool, usize, bool, bool);

/// Number by which a positive value's place is multiplied.
const NUMBER: f32 = 1.25;

fn check_product(case: Case, forward: bool, (bias, relu, multiply, adds, in_place): After) {
    let geometry = case.geometry(forward);
    let (from, to) = (geometry.input.iter().product::<usize>(), geometry.output.iter().product::<usize>());
    let (x, weight) = (numbers(1, case.images * from), numbers(2, case.weights()));
    let bias_values = numbers(3, geometry.output[2]);
    let (factors, residual) = (numbers(4, case.images * to), numbers(5, case.images * to));
    let (wide_x, wide_weight) = (wide(&x), wide(&weight));
    let mut expected = case.each(|image| {
        let x = &wide_x[image * from..][..from];
        let axes: [&[usize]; 2] = [&case.map, &case.output()];
        if forward {
            exact::forward(x, &wide_weight, None, case.convolution, axes)
        } else {
            exact::input_grad(x, &wide_weight, case.convolution, axes)
        }
    });
    for (i, y) in expected.iter_mut().enumerate() {
        *y += if bias { f64::from(bias_values[i % geometry.output[2]]) } else { 0.0 };
        *y = if relu { y.max(0.0) } else { *y };
        *y *= match multiply {
            0 => 1.0,
            1 => f64::from(factors[i]),
            _ if factors[i] > 0.0 => f64::from(NUMBER),
            _ => 0.0,
        };
        *y += if adds { f64::from(residual[i]) } else { 0.0 };
    }
    check(format_args!("{case:?}, forward {forward}"), &[expected], TOLERANCE, |isa| {
        let packed = packed(isa, &weight, &geometry);
        let (x, bias_values, factors) = (Guarded::new(&x), Guarded::new(&bias_values), Guarded::new(&factors));
        let (mut over, mut apart) = (Guarded::new(&residual), Guarded::unset(residual.len()));
        let panels = geometry.panels(isa);
        // The panels in two calls, as with two threads.
        for panels in [[0, panels / 2], [panels / 2, panels - panels / 2]] {
            let args = Product {
                images: case.images,
                geometry: &geometry,
                panels,
                x: x.read(),
                packed: packed.read(),
                bias: if bias { bias_values.read() } else { null() },
                relu,
                multiply: match multiply {
                    0 => Multiply::No,
                    1 => Multiply::By(factors.read()),
                    _ => Multiply::WherePositive(factors.read(), NUMBER),
                },
                residual: if adds { over.read() } else { null() },
                out: if in_place { over.pointer() } else { apart.pointer() },
            };
            unsafe { product(isa, &args) };
        }
        vec![if in_place { over.values() } else { apart.values() }]
    });
}

#[test]
fn convolutions_and_the_gradients_of_their_inputs_equal_the_reference() {
    for case in cases() {
        for forward in [true, false] {
            check_product(case, forward, (false, false, 0, false, false));
        }
    }
}

#[test]
fn everything_fused_into_a_convolution_equals_the_reference() {
    for channels in [5, 17, 65] {
        for (input, groups) in [(7, 1), (channels, channels)] {
            let convolution = Convolution::new(channels, 3).padding(1).groups(groups);
            let case = Case { convolution, map: [3, 5, input], images: 2 };
            for bias in [false, true] {
                check_product(case, true, (bias, true, 0, false, false));
                for multiply in 0..3 {
                    for (adds, in_place) in [(false, false), (true, false), (true, true)] {
                        check_product(case, true, (bias, false, multiply, adds, in_place));
                    }
                }
            }
        }
    }
}

/// The gradient of a weight; `ends` says where the calls divide the images.
fn weight_grad(isa: Isa, case: Case, [dy, x]: [&[f32]; 2], before: Option<&[f32]>, ends: &[usize]) -> Vec<f32> {
    let geometry = case.geometry(true);
    let (in_len, out_len) = (x.len() / case.images, dy.len() / case.images);
    let (dy, x) = (Guarded::new(dy), Guarded::new(x));
    let mut dweight = before.map_or_else(|| Guarded::unset(case.weights()), Guarded::new);
    let all = case.convolution.out_channels;
    let mut room = Guarded::unset(room_len(&geometry, all));
    let mut first = 0;
    for &end in ends {
        // The channels in two calls, as with two threads.
        for channels in [[0, all / 2], [all / 2, all - all / 2]] {
            let args = ParamGrad {
                images: end - first,
                geometry: &geometry,
                channels,
                dy: unsafe { dy.read().add(first * out_len) },
                x: unsafe { x.read().add(first * in_len) },
                dweight: unsafe { dweight.pointer().add(channels[0] * geometry.steps()) },
                room: room.pointer(),
                continues: before.is_some() || first > 0,
            };
            unsafe { param_grad(isa, &args) };
        }
        first = end;
    }
    room.values();
    dweight.values()
}

#[test]
fn weight_gradients_equal_the_reference_and_accumulate() {
    for case in cases() {
        let (in_len, out_len) = (case.map.iter().product::<usize>(), case.output().iter().product::<usize>());
        let (dy, x) = (numbers(1, case.images * out_len), numbers(2, case.images * in_len));
        let before = numbers(3, case.weights());
        let mut exact = vec![0.0; case.weights()];
        for (dy, x) in wide(&dy).chunks_exact(out_len).zip(wide(&x).chunks_exact(in_len)) {
            let more = exact::weight_grad(dy, x, case.convolution, [&case.map, &case.output()]);
            exact.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        }
        for before in [None, Some(before.as_slice())] {
            let start = |i: usize| before.map_or(0.0, |before| f64::from(before[i]));
            let expected = [exact.iter().enumerate().map(|(i, x)| x + start(i)).collect()];
            check(format_args!("{case:?}, before {}", before.is_some()), &expected, SUM_TOLERANCE, |isa| {
                vec![weight_grad(isa, case, [&dy, &x], before, &[case.images])]
            });
        }
    }
}

#[test]
fn weight_gradients_do_not_depend_on_how_images_are_cut() {
    // More pixels than one block, and channels on both sides of what is copied.
    for (input, output, groups) in [(7, 67, 1), (67, 7, 1), (67, 67, 67)] {
        let convolution = Convolution::new(output, 3).padding(1).groups(groups);
        let case = Case { convolution, map: [19, 23, input], images: 7 };
        let (dy, x) = (numbers(1, 7 * 19 * 23 * output), numbers(2, 7 * 19 * 23 * input));
        for isa in Isa::available() {
            let whole = weight_grad(isa, case, [&dy, &x], None, &[7]);
            for ends in [vec![1, 7], vec![2, 3, 7], vec![1, 2, 3, 4, 5, 6, 7]] {
                let cut = weight_grad(isa, case, [&dy, &x], None, &ends);
                assert!(same_bits(&[cut], std::slice::from_ref(&whole)), "{isa:?}: images cut at {ends:?}");
            }
        }
    }
}

/// The reference's results for one image's map and gradient.
type ImageFunction<'a> = dyn Fn(&[f64], &[f64]) -> Vec<f64> + 'a;

#[test]
fn pooling_and_its_gradients_equal_the_reference() {
    let images = 2;
    for pool in [
        Pool::new(2),
        Pool::new(3),
        Pool { kernel: 3, stride: 2, padding: 1 },
        Pool { kernel: 2, stride: 3, padding: 1 },
    ] {
        for input in [[4, 6, 5], [6, 6, 17], [5, 7, 33], [3, 3, 1]] {
            let places = |len: usize| (len + 2 * pool.padding - pool.kernel) / pool.stride + 1;
            let output = [places(input[0]), places(input[1]), input[2]];
            let (in_len, out_len) = (input.iter().product::<usize>(), output.iter().product::<usize>());
            // Few different values, so that some are equal.
            let x: Vec<f32> = numbers(1, images * in_len).iter().map(|x| (x * 3.0).round()).collect();
            let dy = numbers(2, images * out_len);
            let (wide_x, wide_dy) = (wide(&x), wide(&dy));
            let axes: [&[usize]; 2] = [&input, &output];
            let of = |image: usize| (&wide_x[image * in_len..][..in_len], &wide_dy[image * out_len..][..out_len]);
            let all = |f: &ImageFunction<'_>| -> Vec<f64> {
                (0..images).flat_map(|image| f(of(image).0, of(image).1)).collect()
            };
            let expected = [
                all(&|x, _| reference::pooling::max(x, pool, axes)),
                all(&|x, _| reference::pooling::mean(x, pool, axes)),
                all(&|x, dy| reference::pooling::max_grad(dy, x, pool, axes)),
                all(&|x, dy| {
                    let largest = reference::pooling::max(x, pool, axes);
                    let masked: Vec<f64> = dy
                        .iter()
                        .zip(&largest)
                        .map(|(dy, &x)| if x > 0.0 { dy * f64::from(NUMBER) } else { 0.0 })
                        .collect();
                    reference::pooling::max_grad(&masked, x, pool, axes)
                }),
                all(&|_, dy| reference::pooling::mean_grad(dy, pool, axes)),
            ];
            check(format_args!("{pool:?} of {input:?}"), &expected, TOLERANCE, |isa| {
                let (x, dy) = (Guarded::new(&x), Guarded::new(&dy));
                let mut out: Vec<Guarded> = expected.iter().map(|values| Guarded::unset(values.len())).collect();
                let mut to = out.iter_mut().map(Guarded::pointer);
                let mut sizes =
                    |x: &Guarded| Pooling { pool, images, input, output, x: x.read(), out: to.next().expect("five") };
                unsafe {
                    max(isa, &sizes(&x));
                    mean(isa, &sizes(&x));
                    for where_positive in [None, Some(NUMBER)] {
                        max_grad(isa, &MaxGrad { sizes: sizes(&x), dy: dy.read(), where_positive });
                    }
                    mean_grad(isa, &MeanGrad { sizes: sizes(&dy) });
                }
                out.iter().map(Guarded::values).collect()
            });
        }
    }
}

#[test]
fn group_norms_and_their_gradients_equal_the_reference() {
    let (images, eps) = (3, 1e-2f32);
    for (pixels, channels, groups) in
        [(1, 5, 1), (7, 1, 1), (5, 6, 2), (13, 34, 2), (35, 33, 3), (6, 17, 17), (4, 64, 8)]
    {
        let len = pixels * channels;
        let (x, dy) = (numbers(1, images * len), numbers(2, images * len));
        let (weight, bias, before) = (numbers(3, channels), numbers(4, channels), numbers(5, channels));
        let [wide_x, wide_dy, wide_weight, wide_bias] = [&x, &dy, &weight, &bias].map(|values| wide(values));
        let eps64 = f64::from(eps);
        for continues in [false, true] {
            let start = if continues { wide(&before) } else { vec![0.0; channels] };
            let mut expected = [Vec::new(), Vec::new(), start.clone(), start];
            for image in 0..images {
                let (x, dy) = (&wide_x[image * len..][..len], &wide_dy[image * len..][..len]);
                expected[0].extend(norms::forward(x, &wide_weight, &wide_bias, groups, eps64));
                let [dx, dweight, dbias] = norms::grads(dy, x, &wide_weight, groups, eps64);
                expected[1].extend(dx);
                for (to, more) in expected[2..].iter_mut().zip([dweight, dbias]) {
                    to.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
                }
            }
            for in_place in [false, true] {
                let what = format_args!("{pixels} x {channels} in {groups}, in place {in_place}");
                check(what, &expected, SUM_TOLERANCE, |isa| {
                    let (mut over_x, x) = (Guarded::new(&x), Guarded::new(&x));
                    let (mut over_dy, mut scratch) = (Guarded::new(&dy), Guarded::unset(4 * channels));
                    let (mut y, mut dx) = (Guarded::unset(images * len), Guarded::unset(images * len));
                    let (weight, bias) = (Guarded::new(&weight), Guarded::new(&bias));
                    let mut sums =
                        [0, 1].map(|_| if continues { Guarded::new(&before) } else { Guarded::unset(channels) });
                    let norm = GroupNorm {
                        images,
                        pixels,
                        channels,
                        groups,
                        eps,
                        x: if in_place { over_x.read() } else { x.read() },
                        weight: weight.read(),
                        bias: bias.read(),
                        out: if in_place { over_x.pointer() } else { y.pointer() },
                        scratch: scratch.pointer(),
                    };
                    unsafe { group_norm(isa, &norm) };
                    let out = if in_place { over_dy.pointer() } else { dx.pointer() };
                    let [dweight, dbias] = sums.each_mut().map(Guarded::pointer);
                    let norm = GroupNorm { x: x.read(), out, ..norm };
                    unsafe {
                        group_norm_grad(isa, &GroupNormGrad { norm, dy: over_dy.read(), dweight, dbias, continues })
                    };
                    scratch.values();
                    let values = if in_place { [&over_x, &over_dy] } else { [&y, &dx] };
                    values.into_iter().chain(&sums).map(Guarded::values).collect()
                });
            }
        }
    }
}

#[test]
fn the_gradient_of_a_norms_input_is_optional() {
    let (x, dy, weight) = (numbers(1, 3 * 5), numbers(2, 3 * 5), numbers(3, 5));
    let [_, dweight, dbias] = norms::grads(&wide(&dy), &wide(&x), &wide(&weight), 1, 0.5);
    check(format_args!("parameters alone"), &[dweight, dbias], SUM_TOLERANCE, |isa| {
        let (x, dy, weight) = (Guarded::new(&x), Guarded::new(&dy), Guarded::new(&weight));
        let (mut scratch, mut sums) = (Guarded::unset(20), [Guarded::unset(5), Guarded::unset(5)]);
        let [dweight, dbias] = sums.each_mut().map(Guarded::pointer);
        let norm = GroupNorm {
            images: 1,
            pixels: 3,
            channels: 5,
            groups: 1,
            eps: 0.5,
            x: x.read(),
            weight: weight.read(),
            bias: null(),
            out: null_mut(),
            scratch: scratch.pointer(),
        };
        unsafe { group_norm_grad(isa, &GroupNormGrad { norm, dy: dy.read(), dweight, dbias, continues: false }) };
        sums.iter().map(Guarded::values).collect()
    });
}

#[test]
fn norms_by_given_statistics_equal_the_reference() {
    for channels in [1, 5, 16, 17, 33] {
        let rows = 7;
        let x = numbers(1, rows * channels);
        let mut params = [2, 3, 4, 5].map(|seed| numbers(seed, channels));
        params[3].iter_mut().for_each(|variance| *variance = variance.abs());
        let exact = norms::with_statistics(
            &wide(&x),
            params.each_ref().map(|param| wide(param)).each_ref().map(Vec::as_slice),
            f64::from(1e-2f32),
        );
        for (relu, in_place) in [(None, false), (Some(f32::INFINITY), false), (Some(0.75), false), (Some(0.75), true)] {
            let follow = |y: f64| relu.map_or(y, |most| y.clamp(0.0, f64::from(most)));
            let expected = [exact.iter().map(|&y| follow(y)).collect()];
            check(format_args!("{channels} channels, ReLU {relu:?}"), &expected, TOLERANCE, |isa| {
                let (mut over, mut apart) = (Guarded::new(&x), Guarded::unset(x.len()));
                let params = params.each_ref().map(|param| Guarded::new(param));
                let out = if in_place { over.pointer() } else { apart.pointer() };
                let (x, params) = (over.read(), params.each_ref().map(Guarded::read));
                unsafe { channel_norm(isa, &ChannelNorm { rows, channels, eps: 1e-2, x, params, relu, out }) };
                vec![if in_place { over.values() } else { apart.values() }]
            });
        }
    }
}

#[test]
fn both_orders_of_an_image_equal_the_reference() {
    for (channels, pixels) in [(1, 7), (3, 5), (17, 2)] {
        let x = numbers(1, channels * pixels);
        let mut out = vec![f32::NAN; x.len()];
        channels_last(&x, channels, &mut out);
        assert_eq!(wide(&out), reference::maps::channels_last(&wide(&x), [channels, pixels]));
        channels_first(&x, channels, &mut out);
        assert_eq!(wide(&out), reference::maps::channels_first(&wide(&x), [channels, pixels]));
    }
}
