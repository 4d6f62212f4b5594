//! Attention kernels against the reference, on every instruction set.

use super::*;
use crate::cpu::testing::{Draws, Guarded, check, numbers, same_bits, wide};
use crate::ops::Over;
use crate::reference::attention::{Operands, attend, attend_grad};

/// One attention with everything that its kernels read.
#[derive(Clone)]
struct Case {
    /// Images, queries, keys, heads, width of a head.
    size: [usize; 5],
    attention: Attention,
    /// Whether query, key and value lie side by side.
    fused: bool,
    qkv: [Vec<f32>; 3],
    mask: Option<Vec<f32>>,
    dy: Vec<f32>,
}

impl Case {
    fn new(size: [usize; 5], rate: f32) -> Self {
        let [images, queries, keys, heads, head_dim] = size;
        let (q, k) = (images * queries * heads * head_dim, images * keys * heads * head_dim);
        let twice = |seed, len| numbers(seed, len).iter().map(|x| 2.0 * x).collect::<Vec<f32>>();
        let dropout = Some(Draws::new(rate, images).dropout).filter(|_| rate > 0.0);
        let attention = Attention::new(heads, 1.0 / (head_dim as f32).sqrt(), dropout);
        let qkv = [twice(1, q), twice(3, k), twice(5, k)];
        Case { size, attention, fused: queries == keys, qkv, mask: None, dy: numbers(2, q) }
    }

    fn embed_dim(&self) -> usize {
        self.size[3] * self.size[4]
    }

    fn sizes(&self, draws: &Draws) -> Sizes {
        let [images, queries, keys, heads, head_dim] = self.size;
        let dropout = self.attention.dropout.map(|_| draws.mask(heads * queries, keys));
        Sizes { images, queries, keys, head_dim, attention: self.attention, masked: self.mask.is_some(), dropout }
    }

    fn draws(&self) -> Draws {
        Draws::new(self.attention.dropout.map_or(0.5, |dropout| dropout.rate), self.size[0])
    }

    fn memory(&self) -> Memory {
        let [_, queries, keys, _, head_dim] = self.size;
        Memory::of(&AttendSizes {
            queries,
            keys,
            head_dim,
            attention: self.attention,
            masked: self.mask.is_some(),
            dropout: None,
        })
    }

    /// The context, and the gradients of query, key and value.
    fn expected(&self) -> [Vec<f64>; 4] {
        let [images, queries, keys, ..] = self.size;
        let (embed_dim, draws) = (self.embed_dim(), self.draws());
        let of = |x: &[f32], image: usize, rows: usize, width: usize| wide(&x[image * rows * width..][..rows * width]);
        let mut expected = [vec![], vec![], vec![], vec![]];
        for image in 0..images {
            let [q, k, v] = [(0, queries), (1, keys), (2, keys)].map(|(i, n)| of(&self.qkv[i], image, n, embed_dim));
            let mask = self.mask.as_ref().map(|mask| of(mask, image, keys, 1));
            let operands = Operands { q: &q, k: &k, v: &v, mask: mask.as_deref(), embed_dim };
            let key = Some(draws.images[image]);
            expected[0].extend(attend(self.attention, key, operands));
            let dy = of(&self.dy, image, queries, embed_dim);
            for (all, own) in expected[1..].iter_mut().zip(attend_grad(self.attention, key, &dy, operands)) {
                all.extend(own);
            }
        }
        expected
    }

    /// Operands in memory, with the distance between rows, and the place of each.
    fn operands(&self) -> (Vec<Guarded>, usize, [(usize, usize); 3]) {
        let embed_dim = self.embed_dim();
        if !self.fused {
            return (self.qkv.iter().map(|x| Guarded::new(x)).collect(), embed_dim, [(0, 0), (1, 0), (2, 0)]);
        }
        let rows = 0..self.qkv[0].len() / embed_dim;
        let fused: Vec<f32> = rows
            .flat_map(|row| self.qkv.iter().flat_map(move |x| &x[row * embed_dim..][..embed_dim]))
            .copied()
            .collect();
        (vec![Guarded::new(&fused)], 3 * embed_dim, [(0, 0), (0, embed_dim), (0, 2 * embed_dim)])
    }

    /// The context, and what is kept if anything is.
    fn forward(&self, isa: Isa, keeps: bool) -> [Guarded; 2] {
        let (draws, memory) = (self.draws(), self.memory());
        let (operands, stride, places) = self.operands();
        let mask = self.mask.as_ref().map(|mask| Guarded::new(mask));
        let [q, k, v] =
            places.map(|(buffer, offset)| Rows { at: unsafe { operands[buffer].read().add(offset) }, stride });
        let mut context = Guarded::unset(self.dy.len());
        let mut kept = Guarded::unset(if keeps { self.size[0] * memory.kept } else { 0 });
        let mut scratch = Guarded::unset(memory.scratch);
        let args = Forward {
            sizes: self.sizes(&draws),
            q,
            k,
            v,
            mask: mask.as_ref().map_or(std::ptr::null(), Guarded::read),
            context: context.pointer(),
            kept: if keeps { kept.pointer() } else { std::ptr::null_mut() },
            scratch: scratch.pointer(),
        };
        unsafe { forward(isa, &args) };
        scratch.values();
        [context, kept]
    }

    /// The context and the gradients that are asked for.
    fn backward(&self, isa: Isa, asked: [bool; 3]) -> Vec<Vec<f32>> {
        let [context, kept] = self.forward(isa, true);
        let (draws, memory, embed_dim) = (self.draws(), self.memory(), self.embed_dim());
        let (operands, stride, places) = self.operands();
        let mask = self.mask.as_ref().map(|mask| Guarded::new(mask));
        let dy = Guarded::new(&self.dy);
        let mut scratch = Guarded::unset(memory.scratch);
        let mut gradients: Vec<Guarded> = operands.iter().map(|x| Guarded::unset(x.values().len())).collect();
        let [q, k, v] =
            places.map(|(buffer, offset)| Rows { at: unsafe { operands[buffer].read().add(offset) }, stride });
        let mut out = [0, 1, 2].map(|i| {
            let (buffer, offset) = places[i];
            let at = unsafe { gradients[buffer].pointer().add(offset) };
            RowsMut { at: if asked[i] { at } else { std::ptr::null_mut() }, stride }
        });
        let [dq, dk, dv] = &mut out;
        let args = Backward {
            sizes: self.sizes(&draws),
            q,
            k,
            v,
            mask: mask.as_ref().map_or(std::ptr::null(), Guarded::read),
            context: context.read(),
            kept: kept.read(),
            dcontext: dy.read(),
            dq: *dq,
            dk: *dk,
            dv: *dv,
            scratch: scratch.pointer(),
        };
        unsafe { backward(isa, &args) };
        scratch.values();
        kept.values();
        let part = |(buffer, offset): (usize, usize)| -> Vec<f32> {
            let all = gradients[buffer].values();
            all.chunks_exact(stride).flat_map(|row| row[offset..offset + embed_dim].to_vec()).collect()
        };
        let gradients = (0..3).filter(|&i| asked[i]).map(|i| part(places[i]));
        [context.values()].into_iter().chain(gradients).collect()
    }

    fn check(&self, tolerance: f64) {
        let what = format_args!(
            "images, queries, keys, heads, head_dim {:?}, {:?}, fused {}, masked {}",
            self.size,
            self.attention,
            self.fused,
            self.mask.is_some()
        );
        // The three gradients as one vector: that of the queries may be 0 but for rounding.
        let [context, gradients @ ..] = self.expected();
        let expected = [context, gradients.concat()];
        check(what, &expected, tolerance, |isa| {
            let all = self.backward(isa, [true; 3]);
            vec![all[0].clone(), all[1..].concat()]
        });
        for isa in Isa::available() {
            let [kept, not_kept] = [true, false].map(|keeps| vec![self.forward(isa, keeps)[0].values()]);
            assert!(same_bits(&kept, &not_kept), "{isa:?} {what}: what is kept shows in the context");
        }
    }

    /// The same with query, key and value apart.
    fn apart(mut self) -> Self {
        self.fused = false;
        self
    }

    /// The same with some keys masked for every query; in the first image all keys are masked.
    fn masked(mut self) -> Self {
        let keys = self.size[2];
        let seen = |i: usize| f32::from(i >= keys && !(i * i).is_multiple_of(3));
        self.mask = Some((0..self.size[0] * keys).map(seen).collect());
        self
    }

    /// The same with other options.
    fn with(mut self, change: impl FnOnce(&mut Attention)) -> Self {
        change(&mut self.attention);
        self
    }
}

fn check_all(sizes: impl IntoIterator<Item = [usize; 5]>) {
    for size in sizes {
        for rate in [0.0, 0.3] {
            Case::new(size, rate).check(2e-6);
        }
    }
}

#[test]
fn context_and_gradients_equal_the_reference_for_all_widths() {
    for head_dim in [1, 2, 5, 16, 17, 32, 64, 67] {
        check_all([[2, 5, 5, 3, head_dim], [1, 17, 17, 2, head_dim]]);
    }
}

#[test]
fn context_and_gradients_equal_the_reference_for_all_numbers_of_tokens() {
    check_all([1, 2, 15, 16, 31, 33, 50, 65].map(|tokens| [2, tokens, tokens, 2, 7]));
    check_all([[1, 197, 197, 1, 5]]);
}

#[test]
fn queries_may_outnumber_keys_and_keys_queries() {
    for head_dim in [1, 2, 3, 4, 7, 17] {
        check_all([[2, 1, 17, 3, head_dim], [1, 33, 5, 2, head_dim], [2, 16, 31, 2, head_dim]]);
    }
}

#[test]
fn masks_causal_order_and_the_axis_of_softmax_equal_the_reference() {
    for head_dim in [1, 2, 4, 5] {
        for tokens in [1, 5, 17, 33] {
            for rate in [0.0, 0.3] {
                for axis in [Over::Keys, Over::Queries] {
                    let case = Case::new([2, tokens, tokens, 3, head_dim], rate).with(|attention| {
                        attention.softmax = axis;
                        attention.out_scale = 0.4;
                    });
                    case.check(2e-6);
                    case.clone().apart().masked().check(2e-6);
                    let causal = case.with(|attention| attention.causal = true);
                    causal.check(2e-6);
                    causal.masked().check(2e-6);
                    let across = Case::new([2, tokens, 7, 2, head_dim], rate);
                    across.with(|attention| attention.softmax = axis).masked().check(2e-6);
                }
            }
        }
    }
}

#[test]
fn sequences_too_long_to_keep_the_weights_are_computed_in_blocks() {
    for (size, rate) in [([1, 1031, 131, 1, 5], 0.0), ([1, 1031, 131, 2, 17], 0.3), ([2, 67, 2053, 1, 5], 0.0)] {
        let case = Case::new(size, rate);
        assert_eq!(case.memory().kept, 0, "weights are not kept");
        // Each value's gradient sums over so many queries that rounding adds up.
        case.check(6e-6);
        case.masked().check(6e-6);
    }
    let causal = Case::new([1, 379, 379, 1, 5], 0.3).with(|attention| attention.causal = true);
    assert_eq!(causal.memory().kept, 0, "weights are not kept");
    causal.check(6e-6);
}

#[test]
fn only_requested_gradients_are_written() {
    for head_dim in [1, 3, 7] {
        let case = Case::new([2, 17, 5, 2, head_dim], 0.0);
        let all = case.backward(Isa::best(), [true; 3]);
        for asked in [[true, false, false], [false, true, false], [false, false, true], [false; 3]] {
            let expected: Vec<_> = (0..4).filter(|&i| i == 0 || asked[i - 1]).map(|i| all[i].clone()).collect();
            assert!(same_bits(&case.backward(Isa::best(), asked), &expected), "{asked:?}");
        }
    }
}

#[test]
fn large_scores_do_not_overflow() {
    for head_dim in [1, 3, 5] {
        let mut case = Case::new([1, 17, 17, 1, head_dim], 0.0);
        case.qkv.iter_mut().flatten().for_each(|x| *x *= 40.0);
        // Scores of thousands: their rounding alone is worth 1e-3 of a weight.
        case.check(2e-3);
    }
}
