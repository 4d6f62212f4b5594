//! What a vision transformer is wired like, for every option.

use super::*;
use crate::config::model::{
    Activation, Attention, Block, DropoutPlace, ImageFacts, Init, KindSpec, PatchEmbed, Patching, Pooling, Position,
    VitSpec,
};
use crate::models::tests::wiring;
use vitreous_engine::Init as Start;
use vitreous_engine::reference::{Mode, Reference};

const SMALL: ImageFacts = ImageFacts { image_size: 15, channels: 2, num_classes: 11 };

/// One block of width 14 over 9 patches of 5x5, two heads, hidden width 21.
fn small() -> VitSpec {
    VitSpec { patch_size: 5, embed_dim: 14, depth: 1, num_heads: 2, mlp_ratio: 1.5, ..VitSpec::default() }
}

fn build(spec: VitSpec) -> Model {
    spec.with_facts(SMALL).expect("a good spec").build(0.1).expect("a checked config")
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
        "patch_embed.proj linear(patch_embed.patches; patch_embed.proj.weight[14, 2, 5, 5] patch_embed.proj.bias[14]) [9, 14]",
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
    let start =
        |model: &Model, name: &str| model.graph.parameter(model.graph.find_parameter(name).expect("a parameter")).init;
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
fn a_post_norm_block_norms_its_sums() {
    let [new, _] = difference(&wiring(&build(small())), &wiring(&build(VitSpec { block: Block::PostNorm, ..small() })));
    let heads: Vec<&str> = new.iter().map(|line| line.split([';', ')']).next().unwrap()).collect();
    let expected = [
        "blocks.0.attn.qkv linear(pos_embed",
        "blocks.0.norm1 layer_norm(blocks.0.add1",
        "blocks.0.mlp.fc1 linear(blocks.0.norm1",
        "blocks.0.add2 add(blocks.0.norm1 blocks.0.mlp.fc2",
        "blocks.0.norm2 layer_norm(blocks.0.add2",
        "pool select_token(blocks.0.norm2",
    ];
    assert_eq!(heads, expected);
}

#[test]
fn heads_that_see_their_own_channels_are_not_mixed() {
    let spec = VitSpec { attention: Attention::PerHead, init: Init::Pytorch, ..small() };
    let model = build(spec);
    let [new, gone] = difference(&wiring(&build(small())), &wiring(&model));
    let expected = [
        "blocks.0.attn.qkv per_head_linear(blocks.0.norm1; blocks.0.attn.qkv.weight[3, 2, 7, 7] \
         blocks.0.attn.qkv.bias[3, 2, 7]) [10, 42]",
        "blocks.0.add1 add(pos_embed blocks.0.attn.context) [10, 14]",
    ];
    assert_eq!(new, expected);
    assert_eq!(gone.len(), 3);
    let weight = model.graph.find_parameter("blocks.0.attn.qkv.weight").expect("a parameter");
    assert_eq!(model.graph.parameter(weight).init, Start::fan_in_uniform(7));
}

#[test]
fn a_decoder_asks_with_the_class_token_what_the_encoder_made_of_the_patches() {
    let lines = wiring(&build(VitSpec { decoder: true, attention: Attention::PerHead, ..small() }));
    let at = lines.iter().position(|line| line.starts_with("cls_token")).expect("a query");
    let names: Vec<&str> = lines[at..].iter().map(|line| line.split([';', ')']).next().unwrap()).collect();
    let expected = [
        "cls_token trained_constant(",
        "decoder.0.norm1 layer_norm(cls_token",
        "decoder.0.attn.qkv per_head_linear(decoder.0.norm1",
        "decoder.0.attn.context attention(decoder.0.attn.qkv",
        "decoder.0.add1 add(cls_token decoder.0.attn.context",
        "decoder.0.norm2 layer_norm(decoder.0.add1",
        "decoder.0.cross_attn.q per_head_linear(decoder.0.norm2",
        "decoder.0.cross_attn.kv per_head_linear(blocks.0.add2",
        "decoder.0.cross_attn.k slice_features(decoder.0.cross_attn.kv",
        "decoder.0.cross_attn.v slice_features(decoder.0.cross_attn.kv",
        "decoder.0.cross_attn.context attend(decoder.0.cross_attn.q decoder.0.cross_attn.k decoder.0.cross_attn.v",
        "decoder.0.add2 add(decoder.0.add1 decoder.0.cross_attn.context",
        "decoder.0.norm3 layer_norm(decoder.0.add2",
        "decoder.0.mlp.fc1 linear(decoder.0.norm3",
        "decoder.0.mlp.act gelu(decoder.0.mlp.fc1",
        "decoder.0.mlp.fc2 linear(decoder.0.mlp.act",
        "decoder.0.add3 add(decoder.0.add2 decoder.0.mlp.fc2",
        "pool select_token(decoder.0.add3",
        "norm layer_norm(pool",
        "head linear(norm",
        "loss cross_entropy(head label",
        "correct correct(head label",
    ];
    assert_eq!(names, expected);
    assert!(lines.contains(&"pos_embed add_table(patch_embed.proj; pos_embed[1, 9, 14]) [9, 14]".to_string()));
}

#[test]
fn stochastic_depth_stands_before_every_sum_but_the_first_blocks() {
    let lines = wiring(&build(VitSpec { depth: 2, drop_path: 0.25, ..small() }));
    let dropped: Vec<&String> = lines.iter().filter(|line| line.contains("drop_path")).collect();
    let expected = [
        "blocks.1.drop_path1 drop_path(blocks.1.attn.proj) [10, 14]",
        "blocks.1.add1 add(blocks.0.add2 blocks.1.drop_path1) [10, 14]",
        "blocks.1.drop_path2 drop_path(blocks.1.mlp.fc2) [10, 14]",
        "blocks.1.add2 add(blocks.1.add1 blocks.1.drop_path2) [10, 14]",
    ];
    assert_eq!(dropped, expected);
}

#[test]
fn a_head_with_softmax_gives_its_probabilities_to_the_loss() {
    let model = build(VitSpec { head_softmax: true, ..small() });
    assert!(wiring(&model).contains(&"loss cross_entropy(head.softmax label) []".to_string()));
    assert_eq!(model.graph.node(model.logits).name, "head.softmax");
}

#[test]
fn flat_patches_are_neighbors_in_memory() {
    let [new, _] =
        difference(&wiring(&build(small())), &wiring(&build(VitSpec { patching: Patching::Flat, ..small() })));
    assert_eq!(
        new,
        [
            "patch_embed.patches reshape(image) [9, 50]",
            "patch_embed.proj linear(patch_embed.patches; patch_embed.proj.weight[14, 50] patch_embed.proj.bias[14]) [9, 14]"
        ]
    );
}

#[test]
fn a_patch_embedding_by_convolution_is_the_linear_one() {
    let tokens = |patch_embed| {
        let model = build(VitSpec { patch_embed, ..small() });
        let noise = |key: u64, len: usize| -> Vec<f64> {
            (0..len as u64).map(|i| vitreous_engine::Key::new(key).normal(i)).collect()
        };
        let params = model.graph.parameters().iter().enumerate();
        let params = params.map(|(i, param)| noise(i as u64, param.shape.len())).collect();
        let reference = Reference::new(&model.graph, params);
        let values = reference.run(&[noise(99, 450), vec![3.0]], Mode::Infer);
        let values = values.of(model.graph.find("cls_token").expect("a node")).to_vec();
        assert_eq!((values.len(), model.graph.parameters()[0].shape.0.as_slice()), (140, &[14, 2, 5, 5][..]));
        values
    };
    let (linear, conv) = (tokens(PatchEmbed::Linear), tokens(PatchEmbed::Conv));
    assert!(linear.iter().zip(&conv).all(|(a, b)| (a - b).abs() < 1e-12), "{linear:?} {conv:?}");
}

#[test]
fn a_convolutional_stem_halves_the_map_and_doubles_the_channels() {
    let facts = ImageFacts { image_size: 12, ..SMALL };
    let stem = |init| VitSpec { patch_size: 4, patch_embed: PatchEmbed::ConvStem, init, ..small() };
    let checked = |init| stem(init).with_facts(facts).expect("a good spec");
    let model = checked(Init::Timm).build(0.1).expect("a checked config");
    let expected = [
        "patch_embed.map channels_last(image) [12, 12, 2]",
        "patch_embed.proj.0 conv2d(patch_embed.map; patch_embed.proj.0.weight[7, 2, 3, 3]) [6, 6, 7]",
        "patch_embed.proj.1 batch_norm(patch_embed.proj.0; patch_embed.proj.1.weight[7] patch_embed.proj.1.bias[7] \
         patch_embed.proj.1.running_mean[7] patch_embed.proj.1.running_var[7]) [6, 6, 7]",
        "patch_embed.proj.2 relu(patch_embed.proj.1) [6, 6, 7]",
        "patch_embed.proj.3 conv2d(patch_embed.proj.2; patch_embed.proj.3.weight[14, 7, 3, 3]) [3, 3, 14]",
        "patch_embed.proj.4 batch_norm(patch_embed.proj.3; patch_embed.proj.4.weight[14] patch_embed.proj.4.bias[14] \
         patch_embed.proj.4.running_mean[14] patch_embed.proj.4.running_var[14]) [3, 3, 14]",
        "patch_embed.proj.5 relu(patch_embed.proj.4) [3, 3, 14]",
        "patch_embed.proj.6 linear(patch_embed.proj.5; patch_embed.proj.6.weight[14, 14, 1, 1] patch_embed.proj.6.bias[14]) \
         [3, 3, 14]",
        "patch_embed.tokens reshape(patch_embed.proj.6) [9, 14]",
        "cls_token prepend_token(patch_embed.tokens; cls_token[1, 1, 14]) [10, 14]",
    ];
    assert_eq!(wiring(&model)[2..12], expected);
    let start = |init, name: &str| {
        let model = checked(init).build(0.1).expect("a checked config");
        model.graph.parameter(model.graph.find_parameter(name).expect("a parameter")).init
    };
    assert_eq!(start(Init::Timm, "patch_embed.proj.3.weight"), Start::fan_in_uniform(63));
    assert_eq!(start(Init::Timm, "patch_embed.proj.6.weight"), Start::TruncatedNormal { std: 0.02 });
    assert_eq!(start(Init::Pytorch, "patch_embed.proj.6.bias"), Start::fan_in_uniform(14));
    // Where a patch is the whole image, the last batch norm has one value of each image.
    let one = |patch_size| VitSpec { patch_size, ..stem(Init::Timm) };
    let places =
        [1, 2].map(|grid| one(8).with_facts(ImageFacts { image_size: 8 * grid, ..facts }).expect("a good spec"));
    assert_eq!(places.each_ref().map(VitSpec::batch_norm_of_one_place), [Some("patch_embed.proj"), None]);
}

#[test]
fn positions_in_two_dimensions_leave_the_class_token_alone() {
    let spec = VitSpec { embed_dim: 12, mlp_ratio: 2.0, position: Position::SineCosine2d, ..small() };
    let model = build(spec);
    let node = model.graph.node(model.graph.find("pos_encoding").expect("a node"));
    let vitreous_engine::ops::Op::AddConstant(table) = &node.op else { panic!("{:?}", node.op) };
    assert_eq!(table.len(), 120);
    assert_eq!(table[..12], [0.0; 12]);
    assert_eq!(table[12..24], [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
}
