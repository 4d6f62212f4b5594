//! What holds for models of every kind: parameter counts, presets, decay.

use super::*;
use crate::config::layers::Layers;
use crate::config::model::{ImageFacts, ModelSpec};
use crate::config::presets;
use crate::config::train::{TrainConfig, TrainSpec};
use crate::numbers;

const GRAY: ImageFacts = ImageFacts { image_size: 28, channels: 1, num_classes: 10 };
const CIFAR: ImageFacts = ImageFacts { image_size: 32, channels: 3, num_classes: 10 };
const EVEN: ImageFacts = ImageFacts { num_classes: 5, ..CIFAR };
const PHOTOS: ImageFacts = ImageFacts { image_size: 64, channels: 3, num_classes: 5 };

/// Every node as `name op(inputs; parameters) shape`: any wrong wire changes a line.
pub(super) fn wiring(model: &Model) -> Vec<String> {
    let graph = &model.graph;
    let describe = |id: NodeId| {
        let node = graph.node(id);
        let inputs: Vec<&str> = node.inputs.iter().map(|&i| graph.node(i).name.as_str()).collect();
        let params: Vec<String> =
            (node.params.iter()).map(|&p| format!("{}{}", graph.parameter(p).name, graph.parameter(p).shape)).collect();
        let params = if params.is_empty() { String::new() } else { format!("; {}", params.join(" ")) };
        format!("{} {}({}{params}) {}", node.name, node.op.name(), inputs.join(" "), node.shape)
    };
    graph.ids().map(describe).collect()
}

#[test]
fn named_models_have_the_literatures_parameter_counts() {
    let imagenet = ImageFacts { image_size: 224, channels: 3, num_classes: 1000 };
    let counts = [
        ("vit-tiny", imagenet, 5_717_416),
        ("vit-small", imagenet, 22_050_664),
        ("vit-base", imagenet, 86_567_656),
        ("resnet18", imagenet, 11_689_512),
        ("resnet34", imagenet, 21_797_672),
        ("resnet50", imagenet, 25_557_032),
        ("mobilenet-v2", imagenet, 3_504_872),
        ("convnext-tiny", imagenet, 28_589_128),
        ("vgg16", CIFAR, 14_719_818),
        // Batch norm has two numbers for each channel, of which VGG16 has 4,224.
        ("vgg11-bn", CIFAR, 9_231_114),
        ("vgg13-bn", CIFAR, 9_416_010),
        ("vgg16-bn", CIFAR, 14_728_266),
        ("vgg19-bn", CIFAR, 20_040_522),
    ];
    for (name, facts, count) in counts {
        let spec = ModelSpec::named(name).expect("a named size");
        let model = build(&spec.with_facts(facts).expect("a good spec"), 0.0).expect("a checked config");
        assert_eq!(model.graph.parameter_count(), count, "{name}");
    }
    for name in ModelSpec::names() {
        let spec = ModelSpec::named(name).expect("a named size");
        assert!(build(&spec.with_facts(imagenet).expect("a good spec"), 0.0).is_ok(), "{name}");
    }
}

#[test]
fn every_preset_has_its_parameter_count() {
    let counts = [
        ("digits", GRAY, 105_418),
        ("mnist-vit", GRAY, 106_122),
        ("mnist-vit-upright", GRAY, 106_122),
        ("fashion-vit", GRAY, 805_130),
        ("fashion-vit-128", GRAY, 805_130),
        ("cifar-vit-cosine-6b8h8d", EVEN, 4_237),
        ("cifar-vit-cosine-6b8h8d-tanh", EVEN, 4_237),
        ("cifar-vit-cosine-6b8h8d-gelu", EVEN, 4_237),
        ("cifar-vit-cosine-6b8h8d-decoder", EVEN, 8_413),
        ("cifar-vit-learned-4b6h12d", EVEN, 6_917),
        ("cifar-vit-learned-4b6h12d-tanh", EVEN, 6_917),
        ("cifar-vit-learned-4b6h12d-gelu", EVEN, 6_917),
        ("cifar-vit-learned-4b6h12d-decoder", EVEN, 12_905),
        ("cifar-cnn4", CIFAR, 122_986),
        ("cifar-vgg16", CIFAR, 14_719_818),
        ("cifar-attention-cnn", CIFAR, 737_294),
        ("cifar-vit-64", CIFAR, 159_498),
        ("cifar-vit-64-flat", CIFAR, 159_498),
        ("cifar-vit-128", CIFAR, 713_354),
        ("vit-lite-7-4", CIFAR, 3_716_874),
        ("read-digits", GRAY, 531_277),
        ("photos-vit-52m", PHOTOS, 52_213_253),
        ("photos-cnn", PHOTOS, 868_069),
        ("photos", PHOTOS, 828_933),
    ];
    assert_eq!(counts.map(|(name, ..)| name).to_vec(), presets::names().collect::<Vec<_>>());
    for (name, facts, count) in counts {
        let checked = Layers::preset(name).and_then(Layers::finish).expect("a good preset");
        let resolved = checked.resolve(facts).expect("it fits its data");
        let model = build_for_training(&resolved).expect("a checked config");
        assert_eq!(model.graph.parameter_count(), count, "{name}");
        let stated = presets::facts(name).expect("a preset").parameters;
        // The number of a folder's classes is not known.
        assert!(
            stated.starts_with("about ") || stated == numbers::count(count as u64),
            "{name}: {stated}, not {count}"
        );
    }
}

#[test]
fn only_matrices_and_kernels_decay_with_decay_weights() {
    let decaying = |preset: &str, facts: ImageFacts, decay: Decay| {
        let mut config = Layers::preset(preset).and_then(Layers::finish).and_then(|c| c.resolve(facts)).expect("good");
        config.train = TrainConfig::try_from(TrainSpec { decay, ..TrainSpec::default() }).expect("good");
        let model = build_for_training(&config).expect("a checked config");
        let decaying = model.graph.parameters().iter().filter(|param| param.decay);
        let names = decaying.map(|param| param.name.clone()).collect::<Vec<_>>();
        (names, model.graph.parameters().len())
    };
    let (names, all) = decaying("mnist-vit", GRAY, Decay::All);
    assert_eq!(names.len(), all);
    let (names, _) = decaying("mnist-vit", GRAY, Decay::Weights);
    assert_eq!(names.len(), 1 + 3 * 4 + 1, "{names:?}");
    assert!(names.iter().all(|name| name.ends_with(".weight") && !name.contains("norm")), "{names:?}");
    let (names, _) = decaying("cifar-vit-cosine-6b8h8d-decoder", EVEN, Decay::Weights);
    assert!(!names.iter().any(|name| name == "cls_token" || name.ends_with(".bias")), "{names:?}");
    let (names, _) = decaying("cifar-cnn4", CIFAR, Decay::Weights);
    assert_eq!(names, [0, 2, 5, 8, 12].map(|i| format!("layers.{i}.weight")));
}
