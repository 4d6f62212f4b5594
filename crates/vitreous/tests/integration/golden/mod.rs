//! Presets against PyTorch: intermediate outputs, logits, every gradient, ten losses under their optimizer.
//!
//! The golden files are made by `make_golden.py`. First the plain loops are compared in f64, where nothing but
//! the order of sums differs: that proves the graph, the gradient rules and the files. Then the engine, in f32.

mod case;
mod expected;

use vitreous::config::model::{ImageFacts, ModelSpec};
use vitreous_engine::Isa;

use case::{Case, Subject};
use expected::{CONVOLUTION, F32, F64, Tolerance};

const fn subject(preset: &'static str, [image_size, channels, num_classes]: [usize; 3]) -> Subject {
    let facts = ImageFacts { image_size, channels, num_classes };
    Subject { golden: preset, preset, facts, changes: &[], tolerance: F32 }
}

const fn stack(preset: &'static str) -> Subject {
    Subject { tolerance: CONVOLUTION, ..subject(preset, [32, 3, 10]) }
}

const MNIST: Subject = Subject { changes: &["model.dropout=0"], ..subject("mnist-vit", [28, 1, 10]) };
const STEM: Subject = Subject {
    golden: "mnist-vit-conv-stem",
    changes: &["model.dropout=0", "model.patch_embed=conv-stem"],
    tolerance: CONVOLUTION,
    ..MNIST
};
const CIFAR: Subject = subject("cifar-vit-64", [32, 3, 10]);
const FASHION: Subject =
    Subject { changes: &["train.epochs=10", "train.warmup_epochs=1"], ..subject("fashion-vit", [28, 1, 10]) };
const FLAT: Subject = subject("cifar-vit-64-flat", [32, 3, 10]);
const COSINE: Subject = subject("cifar-vit-cosine-6b8h8d", [32, 3, 5]);
const LEARNED: Subject = subject("cifar-vit-learned-4b6h12d-tanh", [32, 3, 5]);
const DECODER: Subject = subject("cifar-vit-learned-4b6h12d-decoder", [32, 3, 5]);
const PHOTOS: Subject = subject("photos-vit-52m", [64, 3, 5]);
/// The product in each head as one einsum comes to what the loop comes to.
const EINSUM: Subject = Subject { changes: &["model.attention_form=einsum"], ..PHOTOS };
const PHOTOS_CNN: Subject = Subject { tolerance: CONVOLUTION, ..subject("photos-cnn", [64, 3, 5]) };
/// Narrower and with fewer epochs than the preset, so that files and learning rates are those of golden_reader.py.
const READER: Subject =
    Subject { changes: &["model.embed_dim=64", "train.epochs=10"], ..subject("read-digits", [28, 1, 10]) };
const POST_NORM: Subject = Subject {
    golden: "read-digits-post-norm",
    changes: &["model.embed_dim=64", "train.epochs=10", "model.block=post-norm"],
    ..READER
};
const CNN4: Subject = stack("cifar-cnn4");
const VGG16: Subject = stack("cifar-vgg16");
/// The gradient of its last bias is the sum of 1024 equal numbers for each image, whose roundings add up: PyTorch's own
/// f32 takes 1.3 times what others are allowed, and comes to the same numbers.
const ATTENTION_CNN: Subject = Subject {
    tolerance: Tolerance { looser: Some(("layers.14.o.bias", 4e-5)), ..CONVOLUTION },
    ..stack("cifar-attention-cnn")
};
/// The same on images of 16x16, whose attention weights are kept.
const SMALL_ATTENTION_CNN: Subject =
    Subject { golden: "cifar-attention-cnn-16", tolerance: CONVOLUTION, ..subject("cifar-attention-cnn", [16, 3, 10]) };

/// A small network of a named model's blocks.
const fn convnet(golden: &'static str, preset: &'static str, image_size: usize, changes: &'static [&str]) -> Subject {
    let facts = ImageFacts { image_size, channels: 3, num_classes: 10 };
    Subject { golden, preset, facts, changes, tolerance: CONVOLUTION }
}

const BASIC: Subject =
    convnet("convnet-basic", "resnet18", 32, &["model.depths=[2, 2]", "model.widths=[16, 24]", "model.strides=[1, 2]"]);
const BOTTLENECK: Subject = convnet(
    "convnet-bottleneck",
    "resnet50",
    16,
    &["model.depths=[1, 1]", "model.widths=[12, 20]", "model.strides=[1, 2]", "model.stem=small"],
);
/// The gradients of some biases are 0 but for roundings: the next batch norm removes what they add.
const INVERTED: Subject = Subject {
    tolerance: Tolerance { model: 2e-7, ..CONVOLUTION },
    ..convnet(
        "convnet-inverted",
        "mobilenet-v2",
        32,
        &[
            "model.depths=[1, 2, 1]",
            "model.widths=[8, 12, 20]",
            "model.strides=[1, 2, 1]",
            "model.stem_width=16",
            "model.head_width=40",
            "model.dropout=0",
        ],
    )
};
const CONVNEXT: Subject = convnet(
    "convnet-convnext",
    "convnext-tiny",
    32,
    &["model.depths=[1, 2]", "model.widths=[20, 36]", "model.strides=[1, 2]"],
);

/// Compares the plain loops with PyTorch; `steps` losses, of which each takes as long as all the rest.
#[track_caller]
fn assert_plain_loops_are_pytorchs(subject: &Subject, steps: usize) {
    let case = Case::new(subject);
    assert_eq!(case.golden.complaints(&case.run_reference(steps), F64), Vec::<String>::new());
}

/// Compares the engine with PyTorch on the instruction sets given, on one and two threads in turns; also prints how much
/// of the tolerance is taken, which `--nocapture` shows. The first set, which is the fastest, takes so many steps at most;
/// the others take two, since steps differ only in their numbers.
#[track_caller]
fn assert_sets_are_pytorchs(subject: &Subject, sets: &[Isa], steps: usize) {
    let case = Case::new(subject);
    for (at, &isa) in sets.iter().enumerate() {
        let threads = 1 + at % 2;
        let steps = if at == 0 { case.golden.steps().min(steps) } else { 2 };
        let found = case.run_engine(isa, threads, steps);
        let worst = case.golden.differences(&found, subject.tolerance).swap_remove(0);
        println!("{} with {}: {}", subject.golden, isa.name(), worst.text);
        let complaints = case.golden.complaints(&found, subject.tolerance);
        assert_eq!(complaints, Vec::<String>::new(), "{} with {} on {threads} threads", subject.golden, isa.name());
    }
}

/// Compares the engine with PyTorch on every instruction set.
#[track_caller]
fn assert_engine_is_pytorchs(subject: &Subject) {
    assert_sets_are_pytorchs(subject, &Isa::available(), usize::MAX);
}

/// Compares some steps of the engine with PyTorch on the fastest instruction set, for a model whose kernels others use too.
#[track_caller]
fn assert_fastest_is_pytorchs(subject: &Subject, steps: usize) {
    assert_sets_are_pytorchs(subject, &Isa::available()[..1], steps);
}

/// Two tests of one preset: the plain loops in f64, and the engine.
macro_rules! is_pytorchs {
    ($plain:ident, $engine:ident, $subject:expr, $steps:expr) => {
        #[test]
        fn $plain() {
            assert_plain_loops_are_pytorchs(&$subject, $steps);
        }

        #[test]
        fn $engine() {
            assert_engine_is_pytorchs(&$subject);
        }
    };
}

is_pytorchs!(mnist_vit_in_f64_is_pytorchs, mnist_vit_is_pytorchs, MNIST, 10);
is_pytorchs!(conv_stem_in_f64_is_pytorchs, conv_stem_is_pytorchs, STEM, 2);
is_pytorchs!(cifar_vit_64_in_f64_is_pytorchs, cifar_vit_64_is_pytorchs, CIFAR, 10);
is_pytorchs!(fashion_vit_in_f64_is_pytorchs, fashion_vit_is_pytorchs, FASHION, 3);
is_pytorchs!(flat_tokens_in_f64_are_pytorchs, flat_tokens_are_pytorchs, FLAT, 3);
is_pytorchs!(cosine_vit_in_f64_is_pytorchs, cosine_vit_is_pytorchs, COSINE, 10);
is_pytorchs!(learned_vit_in_f64_is_pytorchs, learned_vit_is_pytorchs, LEARNED, 10);
is_pytorchs!(decoder_in_f64_is_pytorchs, decoder_is_pytorchs, DECODER, 10);
is_pytorchs!(photos_cnn_in_f64_is_pytorchs, photos_cnn_is_pytorchs, PHOTOS_CNN, 2);
is_pytorchs!(reader_in_f64_is_pytorchs, reader_is_pytorchs, READER, 4);
is_pytorchs!(post_norm_in_f64_is_pytorchs, post_norm_is_pytorchs, POST_NORM, 2);
is_pytorchs!(cnn4_in_f64_is_pytorchs, cnn4_is_pytorchs, CNN4, 2);
// What a step changes is compared in f64 with the smaller stacks.
is_pytorchs!(vgg16_in_f64_is_pytorchs, vgg16_is_pytorchs, VGG16, 1);
is_pytorchs!(attention_cnn_in_f64_is_pytorchs, small_attention_cnn_is_pytorchs, SMALL_ATTENTION_CNN, 2);

is_pytorchs!(basic_blocks_in_f64_are_pytorchs, basic_blocks_are_pytorchs, BASIC, 2);
is_pytorchs!(bottlenecks_in_f64_are_pytorchs, bottlenecks_are_pytorchs, BOTTLENECK, 2);
is_pytorchs!(inverted_blocks_in_f64_are_pytorchs, inverted_blocks_are_pytorchs, INVERTED, 2);
is_pytorchs!(convnext_blocks_in_f64_are_pytorchs, convnext_blocks_are_pytorchs, CONVNEXT, 2);

#[test]
fn photos_vit_in_f64_is_pytorchs() {
    assert_plain_loops_are_pytorchs(&PHOTOS, 1);
}

/// Its 52 million parameters take long; its layers are those of the other transformers.
#[test]
fn photos_vit_is_pytorchs() {
    assert_fastest_is_pytorchs(&PHOTOS, usize::MAX);
}

#[test]
fn photos_vit_as_an_einsum_matches_pytorch() {
    assert_fastest_is_pytorchs(&EINSUM, 2);
}

/// Its plain loops would take four times as long as those on small images, which are compared.
#[test]
fn attention_cnn_matches_pytorch() {
    assert_fastest_is_pytorchs(&ATTENTION_CNN, usize::MAX);
}

#[test]
fn a_wrong_layer_norm_epsilon_is_seen_within_the_tolerance_of_f32() {
    for subject in [MNIST, CIFAR] {
        let case = Case::changed(&subject, &["model.dropout=0", "model.norm_eps=1e-6"]);
        let complaints = case.golden.complaints(&case.run_reference(1), F32);
        assert!(complaints.len() > 10, "{}: {complaints:#?}", subject.golden);
    }
}

/// PyTorch draws other numbers, so dropout is compared with the plain loops: every value of every gradient.
#[test]
fn engine_dropout_equals_the_reference() {
    let case = Case::changed(&MNIST, &[]);
    assert!(matches!(case.config.model.spec(), ModelSpec::Vit(spec) if spec.dropout == 0.1));
    let expected = case.run_reference(case.golden.steps());
    for isa in Isa::available() {
        let found = case.run_engine(isa, 2, expected.losses.len());
        for (name, values) in &expected.gradients {
            let largest = values.iter().fold(0.0f64, |a, x| a.max(x.abs()));
            let near = |(x, y): (&f64, &f64)| (x - y).abs() <= F32.value * largest;
            assert!(values.iter().zip(&found.gradients[name]).all(near), "{name} with {}", isa.name());
        }
        for (a, b) in expected.losses.iter().zip(&found.losses) {
            assert!((a - b).abs() <= F32.loss, "{} gives {b}, not {a}", isa.name());
        }
    }
}
