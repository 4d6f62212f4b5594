//! The vision transformer: patches as tokens, encoder blocks, a head. Source: Dosovitskiy et al. 2021.

use vitreous_engine::{Graph, GraphError};

use super::Model;
use super::layers::{block, embedding, head};
use crate::config::vit::VitConfig;

/// Builds a vision transformer and its loss.
///
/// `smoothing` is the part of the target probability that the loss spreads evenly over all classes, in [0, 1).
///
/// # Errors
/// When `smoothing` is out of range; a checked config has no other.
pub fn vit(config: &VitConfig, smoothing: f32) -> Result<Model, GraphError> {
    let mut graph = Graph::new();
    let image = graph.input("image", [config.channels(), config.image_size(), config.image_size()])?;
    let label = graph.input("label", [])?;
    let mut tokens = embedding::embedding(&mut graph, image, config)?;
    for i in 0..config.depth() {
        tokens = block::encoder_block(&mut graph, &format!("blocks.{i}"), tokens, config)?;
    }
    let logits = head::classification_head(&mut graph, tokens, config)?;
    Model::classifier(graph, image, label, logits, smoothing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::layers::Layers;
    use crate::config::model::{Activation, Block, DropoutPlace, Init, Pooling, Position, VitSpec};
    use crate::config::presets;
    use crate::config::vit::ImageFacts;
    use vitreous_engine::{Init as Start, NodeId};

    const SMALL: ImageFacts = ImageFacts { image_size: 15, channels: 2, num_classes: 11 };

    /// One block of width 14 over 9 patches of 5x5, two heads, hidden width 21.
    fn small() -> VitSpec {
        VitSpec { patch_size: 5, embed_dim: 14, depth: 1, num_heads: 2, mlp_ratio: 1.5, ..VitSpec::default() }
    }

    fn build(spec: VitSpec) -> Model {
        vit(&spec.with_facts(SMALL).expect("a good spec"), 0.1).expect("a checked config")
    }

    /// Every node as `name op(inputs; parameters) shape`: any wrong wire changes a line.
    fn wiring(model: &Model) -> Vec<String> {
        let graph = &model.graph;
        let describe = |id: NodeId| {
            let node = graph.node(id);
            let inputs: Vec<&str> = node.inputs.iter().map(|&i| graph.node(i).name.as_str()).collect();
            let params: Vec<String> = (node.params.iter())
                .map(|&p| format!("{}{}", graph.parameter(p).name, graph.parameter(p).shape))
                .collect();
            let params = if params.is_empty() { String::new() } else { format!("; {}", params.join(" ")) };
            format!("{} {}({}{params}) {}", node.name, node.op.name(), inputs.join(" "), node.shape)
        };
        graph.ids().map(describe).collect()
    }

    /// The lines of `changed` that `plain` does not have, and those that are gone.
    fn difference(plain: &[String], changed: &[String]) -> [Vec<String>; 2] {
        let without = |a: &[String], b: &[String]| a.iter().filter(|line| !b.contains(line)).cloned().collect();
        [without(changed, plain), without(plain, changed)]
    }

    #[test]
    fn a_pre_norm_model_is_wired_as_in_the_paper() {
        let expected = [
            "image input() [2, 15, 15]",
            "label input() []",
            "patch_embed.patches patches(image) [9, 50]",
            "patch_embed.proj linear(patch_embed.patches; patch_embed.proj.weight[14, 50] patch_embed.proj.bias[14]) [9, 14]",
            "cls_token prepend_token(patch_embed.proj; cls_token[1, 1, 14]) [10, 14]",
            "pos_embed add_table(cls_token; pos_embed[1, 10, 14]) [10, 14]",
            "blocks.0.norm1 layer_norm(pos_embed; blocks.0.norm1.weight[14] blocks.0.norm1.bias[14]) [10, 14]",
            "blocks.0.attn.qkv linear(blocks.0.norm1; blocks.0.attn.qkv.weight[42, 14] blocks.0.attn.qkv.bias[42]) [10, 42]",
            "blocks.0.attn.context attention(blocks.0.attn.qkv) [10, 14]",
            "blocks.0.attn.proj linear(blocks.0.attn.context; blocks.0.attn.proj.weight[14, 14] blocks.0.attn.proj.bias[14]) [10, 14]",
            "blocks.0.add1 add(pos_embed blocks.0.attn.proj) [10, 14]",
            "blocks.0.norm2 layer_norm(blocks.0.add1; blocks.0.norm2.weight[14] blocks.0.norm2.bias[14]) [10, 14]",
            "blocks.0.mlp.fc1 linear(blocks.0.norm2; blocks.0.mlp.fc1.weight[21, 14] blocks.0.mlp.fc1.bias[21]) [10, 21]",
            "blocks.0.mlp.act gelu(blocks.0.mlp.fc1) [10, 21]",
            "blocks.0.mlp.fc2 linear(blocks.0.mlp.act; blocks.0.mlp.fc2.weight[14, 21] blocks.0.mlp.fc2.bias[14]) [10, 14]",
            "blocks.0.add2 add(blocks.0.add1 blocks.0.mlp.fc2) [10, 14]",
            "pool select_token(blocks.0.add2) [14]",
            "norm layer_norm(pool; norm.weight[14] norm.bias[14]) [14]",
            "head linear(norm; head.weight[11, 14] head.bias[11]) [11]",
            "loss cross_entropy(head label) []",
            "correct correct(head label) []",
        ];
        let model = build(small());
        assert_eq!(wiring(&model), expected);
        let name = |id: NodeId| model.graph.node(id).name.as_str();
        let named = [model.image, model.label, model.logits, model.loss, model.correct].map(name);
        assert_eq!(named, ["image", "label", "head", "loss", "correct"]);
    }

    #[test]
    fn the_second_block_reads_the_first() {
        let lines = wiring(&build(VitSpec { depth: 2, ..small() }));
        assert!(
            lines.iter().any(|line| line.starts_with("blocks.1.norm1 layer_norm(blocks.0.add2; blocks.1.norm1.weight"))
        );
        assert!(lines.iter().any(|line| line.starts_with("blocks.1.add1 add(blocks.0.add2 blocks.1.attn.proj)")));
        assert!(lines.iter().any(|line| line.starts_with("pool select_token(blocks.1.add2)")));
    }

    #[test]
    fn a_shared_norm_reads_the_parameters_of_the_first_twice() {
        let [new, gone] =
            difference(&wiring(&build(small())), &wiring(&build(VitSpec { block: Block::SharedNorm, ..small() })));
        assert_eq!(
            new,
            ["blocks.0.norm2 layer_norm(blocks.0.add1; blocks.0.norm1.weight[14] blocks.0.norm1.bias[14]) [10, 14]"]
        );
        assert_eq!(gone.len(), 1);
    }

    #[test]
    fn a_norm_activation_block_activates_after_every_norm() {
        let spec = VitSpec { block: Block::NormActivation, activation: Activation::Relu, ..small() };
        let [new, gone] = difference(&wiring(&build(small())), &wiring(&build(spec)));
        assert_eq!(
            new,
            [
                "blocks.0.norm1.act relu(blocks.0.norm1) [10, 14]",
                "blocks.0.attn.qkv linear(blocks.0.norm1.act; blocks.0.attn.qkv.weight[42, 14] blocks.0.attn.qkv.bias[42]) [10, 42]",
                "blocks.0.norm2.act relu(blocks.0.norm2) [10, 14]",
                "blocks.0.mlp.fc1 linear(blocks.0.norm2.act; blocks.0.mlp.fc1.weight[21, 14] blocks.0.mlp.fc1.bias[21]) [10, 21]",
                "blocks.0.mlp.norm layer_norm(blocks.0.mlp.fc1; blocks.0.mlp.norm.weight[21] blocks.0.mlp.norm.bias[21]) [10, 21]",
                "blocks.0.mlp.act relu(blocks.0.mlp.norm) [10, 21]",
            ]
        );
        assert_eq!(gone.len(), 3);
    }

    #[test]
    fn positions_are_added_after_the_class_token() {
        let plain = wiring(&build(small()));
        let [new, _] = difference(&plain, &wiring(&build(VitSpec { position: Position::SineCosine, ..small() })));
        assert_eq!(new[0], "pos_encoding add_constant(cls_token) [10, 14]");
        assert!(new[1].starts_with("blocks.0.norm1 layer_norm(pos_encoding;"), "{new:?}");
        let [new, _] = difference(&plain, &wiring(&build(VitSpec { position: Position::None, ..small() })));
        assert!(new[0].starts_with("blocks.0.norm1 layer_norm(cls_token;"), "{new:?}");
        let [new, _] = difference(&plain, &wiring(&build(VitSpec { num_positions: Some(13), ..small() })));
        assert_eq!(new, ["pos_embed add_table(cls_token; pos_embed[1, 13, 14]) [10, 14]"]);
    }

    #[test]
    fn the_mean_is_taken_over_normed_patches_without_a_class_token() {
        let model = build(VitSpec { pooling: Pooling::Mean, ..small() });
        let lines = wiring(&model);
        assert!(model.graph.find_parameter("cls_token").is_none());
        assert!(lines.contains(&"pos_embed add_table(patch_embed.proj; pos_embed[1, 9, 14]) [9, 14]".to_string()));
        let end = &lines[lines.len() - 5..lines.len() - 2];
        assert_eq!(end[0], "norm layer_norm(blocks.0.add2; norm.weight[14] norm.bias[14]) [9, 14]");
        assert_eq!(end[1], "pool mean_tokens(norm) [14]");
        assert_eq!(end[2], "head linear(pool; head.weight[11, 14] head.bias[11]) [11]");
    }

    #[test]
    fn without_a_final_norm_the_head_reads_the_token_itself() {
        let lines = wiring(&build(VitSpec { final_norm: false, ..small() }));
        assert!(lines.contains(&"head linear(pool; head.weight[11, 14] head.bias[11]) [11]".to_string()));
        assert!(!lines.iter().any(|line| line.starts_with("norm ")));
    }

    #[test]
    fn query_key_and_value_can_do_without_biases() {
        let model = build(VitSpec { qkv_bias: false, ..small() });
        assert!(model.graph.find_parameter("blocks.0.attn.qkv.bias").is_none());
        assert!(model.graph.find_parameter("blocks.0.attn.proj.bias").is_some());
    }

    #[test]
    fn dropout_acts_at_its_four_places() {
        let spec = VitSpec { dropout: 0.1, ..small() };
        let [new, _] = difference(&wiring(&build(small())), &wiring(&build(spec.clone())));
        let heads: Vec<&str> = new.iter().map(|line| line.split([';', ')']).next().unwrap()).collect();
        assert_eq!(
            heads,
            [
                "pos_drop dropout(pos_embed",
                "blocks.0.norm1 layer_norm(pos_drop",
                "blocks.0.add1 add(pos_drop blocks.0.attn.proj",
                "blocks.0.mlp.drop1 dropout(blocks.0.mlp.act",
                "blocks.0.mlp.fc2 linear(blocks.0.mlp.drop1",
                "blocks.0.mlp.drop2 dropout(blocks.0.mlp.fc2",
                "blocks.0.add2 add(blocks.0.add1 blocks.0.mlp.drop2",
            ]
        );
        for place in [DropoutPlace::Embed, DropoutPlace::Attention, DropoutPlace::Activation, DropoutPlace::Mlp] {
            let model = build(VitSpec { dropout_places: vec![place], ..spec.clone() });
            let named = ["pos_drop", "blocks.0.mlp.drop1", "blocks.0.mlp.drop2"].map(|n| model.graph.find(n).is_some());
            let node = model.graph.node(model.graph.find("blocks.0.attn.context").unwrap());
            let vitreous_engine::ops::Op::Attention(attention) = node.op else { panic!("{:?}", node.op) };
            let weights = attention.dropout.is_some();
            assert_eq!(
                [named[0], weights, named[1], named[2]],
                [DropoutPlace::Embed, DropoutPlace::Attention, DropoutPlace::Activation, DropoutPlace::Mlp]
                    .map(|p| p == place)
            );
        }
    }

    #[test]
    fn scores_are_divided_by_the_root_of_the_heads_width() {
        let model = build(small());
        let node = model.graph.node(model.graph.find("blocks.0.attn.context").unwrap());
        let vitreous_engine::ops::Op::Attention(attention) = node.op else { panic!("{:?}", node.op) };
        assert_eq!(attention.heads, 2);
        assert!((attention.scale - 1.0 / 7f32.sqrt()).abs() < 1e-7, "{}", attention.scale);
    }

    #[test]
    fn parameters_start_as_the_rule_says() {
        let start = |model: &Model, name: &str| {
            model.graph.parameter(model.graph.find_parameter(name).expect("a parameter")).init
        };
        let model = build(VitSpec { init: Init::PytorchMha, token_init_std: 1.0, ..small() });
        assert_eq!(start(&model, "patch_embed.proj.bias"), Start::fan_in_uniform(50));
        assert_eq!(start(&model, "blocks.0.attn.qkv.weight"), Start::xavier_uniform(14, 42));
        assert_eq!(start(&model, "blocks.0.attn.proj.bias"), Start::Constant(0.0));
        assert_eq!(start(&model, "blocks.0.mlp.fc2.weight"), Start::fan_in_uniform(21));
        assert_eq!(start(&model, "head.bias"), Start::fan_in_uniform(14));
        assert_eq!(start(&model, "cls_token"), Start::Normal { std: 1.0 });
        assert_eq!(start(&model, "pos_embed"), Start::Normal { std: 1.0 });
        let model = build(VitSpec { init: Init::Timm, ..small() });
        assert_eq!(start(&model, "head.weight"), Start::TruncatedNormal { std: 0.02 });
    }

    #[test]
    fn timms_named_sizes_have_timms_parameter_counts() {
        let facts = ImageFacts { image_size: 224, channels: 3, num_classes: 1000 };
        for (name, count) in [("vit-tiny", 5_717_416), ("vit-small", 22_050_664), ("vit-base", 86_567_656)] {
            let spec = VitSpec::named(name).expect("a named size");
            let model = vit(&spec.with_facts(facts).expect("a good spec"), 0.0).expect("a checked config");
            assert_eq!(model.graph.parameter_count(), count, "{name}");
        }
    }

    #[test]
    fn every_preset_has_its_parameter_count() {
        let gray = ImageFacts { image_size: 28, channels: 1, num_classes: 10 };
        let cifar = ImageFacts { image_size: 32, channels: 3, num_classes: 10 };
        let photos = ImageFacts { image_size: 64, channels: 3, num_classes: 5 };
        let counts = [
            ("digits", gray, 105_418),
            ("mnist-vit", gray, 106_122),
            ("fashion-vit-128", gray, 805_130),
            ("cifar-vit-64", cifar, 159_498),
            ("vit-lite-7-4", cifar, 3_716_874),
            ("photos", photos, 828_933),
        ];
        assert_eq!(counts.map(|(name, ..)| name).to_vec(), presets::names().collect::<Vec<_>>());
        for (name, facts, count) in counts {
            let checked = Layers::preset(name).and_then(Layers::finish).expect("a good preset");
            let resolved = checked.resolve(facts).expect("it fits its data");
            let model = vit(&resolved.model, resolved.train.smoothing as f32).expect("a checked config");
            assert_eq!(model.graph.parameter_count(), count, "{name}");
        }
    }
}
