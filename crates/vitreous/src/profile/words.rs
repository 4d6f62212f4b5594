//! What an operation is called in tables and figures: the words of a config, such as `conv 32 k5`.

use vitreous_engine::Graph;
use vitreous_engine::graph::Node;
use vitreous_engine::ops::{Op, Pool};

/// The operation of a node with its sizes.
pub(super) fn operation(graph: &Graph, node: &Node) -> String {
    let input = node.inputs.first().map_or(0, |&input| graph.node(input).shape.0.len());
    let last = node.shape.0.last().copied().unwrap_or(1);
    match &node.op {
        Op::Conv2d(conv) => {
            let number = |letter: char, value: usize, usual: usize| {
                if value == usual { String::new() } else { format!(" {letter}{value}") }
            };
            let padding = number('p', conv.padding, conv.kernel / 2);
            let sizes =
                [number('k', conv.kernel, 3), number('s', conv.stride, 1), padding, number('g', conv.groups, 1)];
            format!("conv {last}{}", sizes.concat())
        }
        Op::Linear | Op::PerHeadLinear { .. } => format!("{} {last}", kind(node.op.name())),
        Op::Attention(attention) | Op::Attend(attention) => format!("attention {}", attention.heads),
        Op::GroupNorm { groups, .. } => format!("groupnorm {groups}"),
        Op::ChannelsFirst if node.shape.0.len() == 1 => "flatten".to_string(),
        Op::MeanTokens if input == 3 => "globalpool".to_string(),
        Op::MaxPool2d(Pool { kernel, .. }) | Op::AvgPool2d(Pool { kernel, .. }) => {
            format!("{} {kernel}", kind(node.op.name()))
        }
        _ => kind(node.op.name()),
    }
}

/// An operation's name without sizes.
pub(super) fn kind(name: &str) -> String {
    let gradients = [("_input_grad", "input gradient"), ("_param_grad", "weight gradient"), ("_grad", "gradient")];
    for (ending, words) in gradients {
        if let Some(of) = name.strip_suffix(ending) {
            return format!("{}, {words}", kind(of));
        }
    }
    match name {
        "conv2d" => "conv",
        "max_pool2d" => "maxpool",
        "avg_pool2d" => "avgpool",
        "layer_norm" => "layernorm",
        "group_norm" => "groupnorm",
        "batch_norm" => "batchnorm",
        "attend" => "attention",
        "per_head_linear" => "linear by head",
        "add_table" | "add_constant" => "add positions",
        "channels_last" | "channels_first" => "reorder channels",
        other => return other.replace('_', " "),
    }
    .to_string()
}

#[cfg(test)]
mod tests {
    use vitreous_engine::ops::{Convolution, LinearInit};

    use super::*;

    #[test]
    fn operations_are_called_what_a_config_calls_them() {
        let mut graph = Graph::new();
        let image = graph.input("image", [3, 20, 20]).unwrap();
        let map = graph.channels_last("map", image).unwrap();
        let plain = graph.conv2d("plain", map, Convolution::new(30, 3).padding(1), LinearInit::pytorch(27)).unwrap();
        let sizes = Convolution::new(15, 5).stride(2).groups(3);
        let ragged = graph.conv2d("ragged", plain, sizes, LinearInit::pytorch(250)).unwrap();
        let pooled = graph.max_pool2d("pooled", plain, Pool { kernel: 2, stride: 2, padding: 0 }).unwrap();
        let mean = graph.global_avg_pool("mean", ragged).unwrap();
        let found = [map, plain, ragged, pooled, mean].map(|id| operation(&graph, graph.node(id)));
        assert_eq!(found, ["reorder channels", "conv 30", "conv 15 k5 s2 p0 g3", "maxpool 2", "globalpool"]);
        let kinds = ["conv2d_param_grad", "linear_input_grad", "gelu_tanh_grad", "cross_entropy"].map(kind);
        assert_eq!(kinds, ["conv, weight gradient", "linear, input gradient", "gelu tanh, gradient", "cross entropy"]);
    }
}
