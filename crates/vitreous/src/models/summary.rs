//! A model's layers with their shapes, parameters and floating-point operations.
//!
//! They are counted on the graphs that run. An operation of the backward pass belongs to the layer whose gradient it
//! computes; a parameter that several layers use is counted with the first.

use serde::Serialize;
use vitreous_engine::graph::ParameterKind;
use vitreous_engine::{autodiff, ops};

use super::Model;
use crate::layout::{Align, paragraph, table};
use crate::numbers;

/// Columns before the values below a table of layers.
pub const FOOT: usize = 17;

/// A model's layers and their totals.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Number of trained values.
    pub params: u64,
    /// Floating-point operations of the forward pass, for one image; a multiply-add is two.
    pub flops_forward: u64,
    /// Floating-point operations of the backward pass, for one image.
    pub flops_backward: u64,
    /// The layers, in execution order.
    pub layers: Vec<LayerSummary>,
}

/// One layer of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerSummary {
    /// Its name, with a dot per level: `blocks.3.attn.qkv`.
    pub name: String,
    /// Its operation.
    pub op: &'static str,
    /// The shape of its output, without the batch axis.
    pub shape: Vec<usize>,
    /// Number of trained values.
    pub params: u64,
    /// The layer with whose parameters it computes, and is counted, if that is another one.
    #[serde(skip)]
    pub shares: Option<String>,
    /// Floating-point operations of the forward pass, for one image.
    pub flops_forward: u64,
    /// Floating-point operations of its backward pass, for one image.
    pub flops_backward: u64,
}

/// Counts a model.
pub fn summarise(model: &Model) -> Summary {
    // The layer that has each parameter.
    let mut owners: Vec<Option<&str>> = vec![None; model.graph.parameters().len()];
    let mut layers: Vec<LayerSummary> = Vec::with_capacity(model.graph.nodes().len());
    for node in model.graph.nodes() {
        let shares = node.params.iter().find_map(|id| owners[id.index()]).map(str::to_string);
        let own = node.params.iter().filter(|id| owners[id.index()].replace(&node.name).is_none());
        layers.push(LayerSummary {
            name: node.name.clone(),
            op: node.op.name(),
            shape: node.shape.0.clone(),
            params: (own.map(|&id| model.graph.parameter(id)))
                .filter(|param| param.kind == ParameterKind::Trained)
                .map(|param| param.shape.len() as u64)
                .sum(),
            shares,
            flops_forward: ops::cost(&model.graph, node).flops,
            flops_backward: 0,
        });
    }
    let training = autodiff::differentiate(&model.graph, model.loss);
    let backward = &training.graph.nodes()[training.forward_len..];
    for (node, layer) in backward.iter().zip(&training.gradient_of) {
        layers[layer.index()].flops_backward += ops::cost(&training.graph, node).flops;
    }
    let sum = |part: fn(&LayerSummary) -> u64| layers.iter().map(part).sum();
    Summary {
        params: sum(|layer| layer.params),
        flops_forward: sum(|layer| layer.flops_forward),
        flops_backward: sum(|layer| layer.flops_backward),
        layers,
    }
}

impl Summary {
    /// Writes the layers as an indented table of at most `columns` columns, with the totals below; the last line ends with
    /// the number of parameters.
    pub fn table(&self, columns: Option<usize>) -> String {
        let largest = self.layers.iter().map(|layer| layer.flops_forward.max(layer.flops_backward)).max();
        let (unit, size) = numbers::flops_unit(largest.unwrap_or(0));
        let [forward, backward] = ["forward", "backward"].map(|pass| format!("{pass} {unit}"));
        let titles = ["layer", "op", "output", "parameters", &forward, &backward];
        let mut rows = vec![titles.map(str::to_string)];
        let mut open: Vec<&str> = Vec::new();
        // The correct answer and the count of right ones are not layers.
        let has_row =
            |layer: &&LayerSummary| !["label", "targets"].contains(&layer.name.as_str()) && layer.op != "correct";
        for layer in self.layers.iter().filter(has_row) {
            let path: Vec<&str> = layer.name.split('.').collect();
            let (last, groups) = path.split_last().expect("a name has at least one part");
            let shared = open.iter().zip(groups).take_while(|(a, b)| a == b).count();
            // A layer with layers inside, such as the norm before `norm1.act`, is already there as their group.
            for (depth, group) in groups.iter().enumerate().skip(shared) {
                rows.push([
                    indented(depth, group),
                    String::new(),
                    String::new(),
                    String::new(),
                    String::new(),
                    String::new(),
                ]);
            }
            let shape: Vec<String> = layer.shape.iter().map(usize::to_string).collect();
            let flops = |n: u64| if n == 0 { String::new() } else { numbers::in_unit(n, size) };
            let params = match &layer.shares {
                // Mostly one of its own block.
                Some(owner) => match owner.rsplit_once('.') {
                    Some((block, name)) if Some(block) == layer.name.rsplit_once('.').map(|(block, _)| block) => {
                        format!("shared with {name}")
                    }
                    _ => format!("shared with {owner}"),
                },
                None if layer.params == 0 => String::new(),
                None => numbers::count(layer.params),
            };
            rows.push([
                indented(groups.len(), last),
                layer.op.to_string(),
                format!("[{}]", shape.join(", ")),
                params,
                flops(layer.flops_forward),
                flops(layer.flops_backward),
            ]);
            open = path;
        }
        let [left, right] = [Align::Left, Align::Right];
        let mut text = table(&rows, &[left, left, left, right, right, right], columns);
        text.push('\n');
        let (forward, backward) = (numbers::flops(self.flops_forward), numbers::flops(self.flops_backward));
        text + &paragraph(&format!("for one image    {forward} forward, {backward} backward"), columns, FOOT)
            + &format!("total parameters {}\n", numbers::count(self.params))
    }
}

fn indented(depth: usize, name: &str) -> String {
    format!("{}{name}", "  ".repeat(depth))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{Block, ImageFacts, KindSpec, VitSpec};
    use crate::models::BuildModel;

    /// One block of width 14 over 9 patches of 5x5, two heads, hidden width 21.
    fn summary(block: Block) -> Summary {
        let facts = ImageFacts { image_size: 15, channels: 2, num_classes: 11 };
        let sizes =
            VitSpec { patch_size: 5, embed_dim: 14, depth: 1, num_heads: 2, mlp_ratio: 1.5, ..VitSpec::default() };
        let config = VitSpec { block, dropout: 0.1, ..sizes }.with_facts(facts).expect("a good spec");
        summarise(&config.build(0.0).expect("a checked config"))
    }

    fn layer<'a>(summary: &'a Summary, name: &str) -> &'a LayerSummary {
        summary.layers.iter().find(|layer| layer.name == name).expect("a layer of that name")
    }

    #[test]
    fn a_row_is_what_one_layer_computes() {
        let summary = summary(Block::PreNorm);
        let fc1 = layer(&summary, "blocks.0.mlp.fc1");
        assert_eq!((fc1.op, fc1.shape.as_slice(), fc1.params), ("linear", [10, 21].as_slice(), 14 * 21 + 21));
        // 10 rows: two for each weight, one for each bias.
        assert_eq!(fc1.flops_forward, 10 * (2 * 14 * 21 + 21));
        // The gradients of weight and bias cost the same again, that of the input has no bias.
        assert_eq!(fc1.flops_backward, 10 * (2 * 14 * 21 + 21) + 10 * 2 * 14 * 21);
        // The pixels need no gradient, so the first layer has one product only.
        let patches = layer(&summary, "patch_embed.proj");
        assert_eq!(patches.flops_backward, 9 * (2 * 50 * 14 + 14));
        // The sum of a residual connection's two gradients belongs to the layer whose result was used twice.
        assert_eq!(layer(&summary, "blocks.0.add1").flops_backward, 10 * 14);
    }

    #[test]
    fn totals_are_the_sums_of_the_rows_and_of_the_graph() {
        for block in [Block::PreNorm, Block::SharedNorm, Block::NormActivation] {
            let facts = ImageFacts { image_size: 15, channels: 2, num_classes: 11 };
            let config = VitSpec { patch_size: 5, depth: 11, block, ..VitSpec::default() }.with_facts(facts);
            let model = config.expect("a good spec").build(0.0).expect("a checked config");
            let summary = summarise(&model);
            let training = autodiff::differentiate(&model.graph, model.loss);
            let flops = |nodes: &[vitreous_engine::graph::Node]| -> u64 {
                nodes.iter().map(|node| ops::cost(&training.graph, node).flops).sum()
            };
            let (forward, backward) = training.graph.nodes().split_at(training.forward_len);
            assert_eq!(summary.params, model.graph.parameter_count() as u64);
            assert_eq!(summary.params, summary.layers.iter().map(|layer| layer.params).sum::<u64>());
            assert_eq!(summary.flops_forward, flops(forward));
            assert_eq!(summary.flops_forward, summary.layers.iter().map(|layer| layer.flops_forward).sum::<u64>());
            assert_eq!(summary.flops_backward, flops(backward));
            assert_eq!(summary.flops_backward, summary.layers.iter().map(|layer| layer.flops_backward).sum::<u64>());
            let costs = |i: usize| layer(&summary, &format!("blocks.{i}.attn.qkv")).flops_backward;
            assert!((1..11).all(|i| costs(i) == costs(1)), "block 1 and block 10 have different costs");
        }
    }

    #[test]
    fn every_kind_of_model_is_counted_whole() {
        let stack = "kind = 'stack'\nlayers = ['conv 16', 'batchnorm', 'groupnorm 2', 'attention', { residual = ['conv 16 g4', 'gelu'] },
            'maxpool 2', 'avgpool 2', 'flatten', 'linear classes']";
        let kinds = [
            "decoder = true\nattention = 'per-head'\nhead_softmax = true\npatch_embed = 'conv'\ndrop_path = 0.1",
            "patch_embed = 'conv-stem'\nposition = 'none'",
            "patching = 'flat'\nblock = 'post-norm'\nposition = 'sine-cosine-2d'\npooling = 'mean'",
            stack,
            "kind = 'sequence-vit'\npatch_size = 5\nembed_dim = 12",
            "kind = 'sequence-vit'\npatch_size = 5\nembed_dim = 12\nattention_form = 'einsum'",
        ];
        for text in kinds {
            let facts = ImageFacts { image_size: 20, channels: 3, num_classes: 11 };
            let spec: crate::config::model::ModelSpec = toml::from_str(text).expect("a good table");
            let model = crate::models::build(&spec.with_facts(facts).expect("it fits"), 0.0).expect("a checked config");
            let summary = summarise(&model);
            let training = autodiff::differentiate(&model.graph, model.loss);
            let flops = training.graph.nodes().iter().map(|node| ops::cost(&training.graph, node).flops).sum::<u64>();
            assert_eq!(summary.flops_forward + summary.flops_backward, flops, "{text}");
            assert_eq!(summary.params, model.graph.parameter_count() as u64, "{text}");
            assert!(summary.table(None).ends_with(&format!("total parameters {}\n", numbers::count(summary.params))));
        }
    }

    #[test]
    fn a_shared_norm_is_counted_once() {
        let summary = summary(Block::SharedNorm);
        assert_eq!(layer(&summary, "blocks.0.norm1").params, 28);
        assert_eq!(layer(&summary, "blocks.0.norm2").params, 0);
        let text = summary.table(None);
        let norms: Vec<&str> = text.lines().filter(|line| line.contains("layer_norm")).collect();
        assert!(norms[0].contains(" 28 ") && norms[1].contains(" shared with norm1 "), "{text}");
    }

    #[test]
    fn the_table_is_a_tree_with_its_sums_below() {
        let text = summary(Block::NormActivation).table(None);
        let lines: Vec<&str> = text.lines().collect();
        let expected = [
            "layer          op             output       parameters  forward FLOP  backward FLOP",
            "image          input          [2, 15, 15]",
            "patch_embed",
            "  patches      patches        [9, 50]",
            "  proj         linear         [9, 14]             714        12,726         12,726",
            "cls_token      prepend_token  [10, 14]             14                           14",
            "pos_embed      add_table      [10, 14]            140           140            140",
            "pos_drop       dropout        [10, 14]                          140            280",
            "blocks",
            "  0",
            "    norm1      layer_norm     [10, 14]             28           980          1,820",
            "      act      gelu           [10, 14]                        1,960          2,100",
            "    attn",
            "      qkv      linear         [10, 42]            630        12,180         23,940",
        ];
        assert_eq!(lines[..expected.len()], expected, "{text}");
        let end = ["for one image    59.6 kFLOP forward, 96.0 kFLOP backward", "total parameters 2,622"];
        assert_eq!(lines[lines.len() - 3], "", "{text}");
        assert_eq!(lines[lines.len() - 2..], end, "{text}");
    }

    #[test]
    fn json_has_the_promised_fields() {
        let json = serde_json::to_value(summary(Block::PreNorm)).expect("plain numbers");
        let mut keys: Vec<&str> = json["layers"][3].as_object().expect("a layer").keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["flops_backward", "flops_forward", "name", "op", "params", "shape"]);
        assert_eq!(json["params"], 2_580);
    }
}
