//! How random models are drawn.

use proptest::prelude::*;
use vitreous_engine::ops::{Activation, Over};

use super::maps::map_spec;
use super::{NormShare, Piece, Pool, Spec, Stem, TokenSpec};

fn activation() -> impl Strategy<Value = Activation> {
    let all = vec![Activation::Relu, Activation::Relu6, Activation::Gelu, Activation::GeluTanh, Activation::Tanh];
    prop::sample::select(all)
}

/// Mostly the value made last, so that there is something to fuse.
fn operand() -> impl Strategy<Value = usize> {
    prop_oneof![5 => Just(0usize), 2 => Just(1), 1 => 0usize..7]
}

fn piece() -> impl Strategy<Value = Piece> {
    let of = operand;
    let width = prop::sample::select(vec![1usize, 5, 16, 17, 31, 33, 65, 97]);
    let eps = prop::sample::select(vec![1e-2f32, 3e-2]);
    let share = prop::sample::select(vec![NormShare::Nothing, NormShare::Both, NormShare::Weight, NormShare::Bias]);
    prop_oneof![
        2 => (of(), any::<[bool; 2]>()).prop_map(|(of, [bias, add])| Piece::Linear { of, bias, add }),
        3 => (of(), width, activation(), any::<[bool; 2]>(), any::<bool>(), any::<bool>()).prop_map(
            |(of, hidden, activation, drop, bias, add)| Piece::Mlp { of, hidden, activation, drop, bias, add }
        ),
        2 => (of(), activation()).prop_map(|(of, activation)| Piece::Activate { of, activation }),
        1 => (of(), [activation(), activation()]).prop_map(|(of, activations)| Piece::Twice { of, activations }),
        1 => of().prop_map(|of| Piece::TwoNorms { of }),
        3 => (of(), eps, share, any::<bool>()).prop_map(
            |(of, eps, share, relu)| Piece::LayerNorm { of, eps, share, relu }
        ),
        1 => of().prop_map(|of| Piece::Dropout { of, rate: 0.25 }),
        3 => [of(), of()].prop_map(|of| Piece::Add { of }),
        1 => (of(), 0usize..3, any::<bool>()).prop_map(|(of, extra, shared)| Piece::Table { of, extra, shared }),
        1 => of().prop_map(|of| Piece::Constant { of }),
        2 => ([of(), of()], 0usize..7, any::<[bool; 5]>()).prop_map(
            |(of, keys, [queries, causal, masked, dropout, drop_path])| Piece::Attend {
                of,
                keys,
                axis: if queries { Over::Queries } else { Over::Keys },
                causal,
                masked,
                dropout: if dropout { 0.2 } else { 0.0 },
                drop_path,
            }
        ),
        2 => (of(), 1usize..4, any::<[bool; 2]>()).prop_map(
            |(of, count, [bias, add])| Piece::PerHead { of, count, bias, add }
        ),
        1 => (of(), 0usize..67).prop_map(|(of, cut)| Piece::Move { of, cut }),
        1 => of().prop_map(|of| Piece::Softmax { of, factor: 1.7 }),
        1 => of().prop_map(|of| Piece::Trained { of }),
        1 => of().prop_map(|of| Piece::Embedding { of }),
        2 => (of(), any::<[bool; 3]>()).prop_map(|(of, [dropout, bias, add])| Piece::Attention {
            of,
            scale: 0.5,
            dropout: if dropout { 0.2 } else { 0.0 },
            bias,
            add,
        }),
    ]
}

fn stem() -> impl Strategy<Value = Stem> {
    let patches = (1usize..3, 1usize..4, 1usize..3, 1usize..4)
        .prop_map(|(channels, patch, rows, columns)| Stem::Patches { channels, patch, rows, columns });
    prop_oneof![Just(Stem::Tokens), patches]
}

/// Any small model.
pub fn spec() -> impl Strategy<Value = Spec> {
    prop_oneof![token_spec().prop_map(Spec::Tokens), map_spec().prop_map(Spec::Maps)]
}

fn token_spec() -> impl Strategy<Value = TokenSpec> {
    let widths = prop::sample::select(vec![
        (1usize, 1usize),
        (8, 1),
        (6, 2),
        (2, 4),
        (1, 5),
        (2, 3),
        (3, 5),
        (1, 17),
        (2, 16),
        (5, 7),
        (1, 67),
    ]);
    let pool = prop_oneof![Just(Pool::Mean), (0usize..5).prop_map(Pool::Select)];
    let size = (stem(), prop::sample::select(vec![1usize, 2, 5, 7]), widths, any::<bool>());
    let rest = (prop::collection::vec(piece(), 0..7), pool, 2usize..12, any::<bool>());
    (size, rest, prop::collection::vec(any::<usize>(), 0..3)).prop_map(|(size, rest, taps)| {
        let (stem, tokens, (heads, head_dim), class_token) = size;
        let (pieces, pool, classes, smooth) = rest;
        let smoothing = if smooth { 0.1 } else { 0.0 };
        TokenSpec { stem, tokens, heads, head_dim, class_token, pieces, pool, classes, smoothing, taps }
    })
}
