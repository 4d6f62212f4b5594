//! What operations cost, against counts made by hand: of an attention model and of a convolutional one, their gradients
//! included.

use vitreous_engine::Graph;
use vitreous_engine::autodiff::differentiate;
use vitreous_engine::graph::{GraphError, Init};
use vitreous_engine::ops::{Activation, AttentionOptions, Convolution, LinearInit, Pool, cost};

/// Checks the floating-point operations of every node that has any.
#[track_caller]
fn assert_costs(graph: &Graph, loss: &str, expected: &[(&str, u64)]) {
    let training = differentiate(graph, graph.find(loss).expect("it is there")).graph;
    let found = training.nodes().iter().map(|node| (node.name.as_str(), cost(&training, node).flops));
    assert_eq!(found.filter(|(_, flops)| *flops > 0).collect::<Vec<_>>(), expected);
}

/// Five queries and seven keys of two heads, three wide.
fn attention_model() -> Result<Graph, GraphError> {
    let mut graph = Graph::new();
    let (x, memory, label) = (graph.input("x", [5, 6])?, graph.input("memory", [7, 6])?, graph.input("label", [])?);
    let init = LinearInit::pytorch(6);
    let q = graph.linear("q", x, 6, init)?;
    let [k, v] = ["k", "v"].map(|name| graph.linear(name, memory, 6, init));
    let y = graph.attend("attend", q, k?, v?, AttentionOptions::new(2, 0.5), None)?;
    let y = graph.per_head_linear("heads", y, 2, 1, init)?;
    let params = graph.layer_norm_parameters("norm", 6)?;
    let y = graph.layer_norm("norm", y, params, 1e-5)?;
    let y = graph.activation("gelu", y, Activation::Gelu)?;
    let y = graph.dropout("dropout", y, 0.5)?;
    let y = graph.add("add", q, y)?;
    let y = graph.mean_tokens("mean", y)?;
    let logits = graph.linear("head", y, 4, init)?;
    graph.cross_entropy("loss", logits, label, 0.0)?;
    Ok(graph)
}

#[test]
fn attention_models_cost_what_is_counted_by_hand() {
    let expected = [
        // A multiply-add is two: rows x (2 x weights + bias).
        ("q", 5 * (2 * 36 + 6)),
        ("k", 7 * (2 * 36 + 6)),
        ("v", 7 * (2 * 36 + 6)),
        // For each query and key 2 x 6 of scores, 2 x 6 of values; for each head a factor and five of softmax.
        ("attend", 5 * 7 * (12 + 12 + 2 * 6)),
        ("heads", 5 * (2 * 2 * 9 + 6)),
        ("norm", 7 * 30),
        ("gelu", 14 * 30),
        ("dropout", 30),
        ("add", 30),
        ("mean", 30),
        ("head", 2 * 24 + 4),
        ("loss", 6 * 4),
        ("loss.grad", 6 * 4),
        ("head.param_grad", 2 * 24 + 4),
        ("head.input_grad", 2 * 24),
        ("mean.grad", 30),
        ("dropout.grad", 30),
        ("gelu.grad", 15 * 30),
        ("norm.grad", 13 * 30),
        ("heads.param_grad", 5 * (2 * 2 * 9 + 6)),
        ("heads.input_grad", 5 * 2 * 2 * 9),
        // Together four products, and four of softmax's gradient for each head.
        ("attend.query_grad", 5 * 7 * (3 * 6 + 2 * 2)),
        ("attend.key_grad", 5 * 7 * (3 * 6 + 2 * 2)),
        ("attend.value_grad", 5 * 7 * 2 * 6),
        ("q.grad_sum.27", 30),
        ("v.param_grad", 7 * (2 * 36 + 6)),
        ("k.param_grad", 7 * (2 * 36 + 6)),
        ("q.param_grad", 5 * (2 * 36 + 6)),
    ];
    assert_costs(&attention_model().expect("the shapes fit"), "loss", &expected);
}

/// An image of 8x8, halved by a pool and halved again by another.
fn convolutional_model() -> Result<Graph, GraphError> {
    let mut graph = Graph::new();
    let (image, label) = (graph.input("image", [3, 8, 8])?, graph.input("label", [])?);
    let x = graph.channels_last("map", image)?;
    let x = graph.conv2d("conv", x, Convolution::new(4, 3).padding(1), LinearInit::pytorch(27))?;
    let x = graph.batch_norm("batch_norm", x, 1e-5, 0.1)?;
    let x = graph.activation("relu", x, Activation::Relu)?;
    let x = graph.max_pool2d("max", x, Pool::new(2))?;
    let x = graph.conv2d("groups", x, Convolution::new(6, 3).padding(1).groups(2), LinearInit::pytorch(18))?;
    let x = graph.group_norm("group_norm", x, 3, 1e-5)?;
    let gamma = graph.new_parameter("gamma", [6], Init::Constant(0.1))?;
    let x = graph.scale_features("scale", x, gamma)?;
    let x = graph.avg_pool2d("average", x, Pool::new(2))?;
    let x = graph.global_avg_pool("global", x)?;
    let logits = graph.linear("head", x, 5, LinearInit::pytorch(6))?;
    graph.cross_entropy("loss", logits, label, 0.0)?;
    Ok(graph)
}

#[test]
fn convolutions_norms_and_pools_cost_what_is_counted_by_hand() {
    // Weights: 4 x 3 x 3x3 = 108, and 6 x (4 / 2) x 3x3 = 108.
    let expected = [
        ("conv", 64 * (2 * 108 + 4)),
        ("batch_norm", 7 * 64 * 4),
        ("relu", 64 * 4),
        ("max", 4 * 16 * 4),
        ("groups", 16 * (2 * 108 + 6)),
        ("group_norm", 7 * 16 * 6),
        ("scale", 16 * 6),
        ("average", 4 * 4 * 6),
        ("global", 4 * 6),
        ("head", 2 * 30 + 5),
        ("loss", 6 * 5),
        ("loss.grad", 6 * 5),
        ("head.param_grad", 2 * 30 + 5),
        ("head.input_grad", 2 * 30),
        ("global.grad", 4 * 6),
        ("average.grad", 4 * 4 * 6),
        ("scale.grad", 3 * 16 * 6),
        ("group_norm.grad", 13 * 16 * 6),
        ("groups.param_grad", 16 * (2 * 108 + 6)),
        ("groups.input_grad", 16 * 2 * 108),
        ("max.grad", 4 * 16 * 4),
        ("relu.grad", 2 * 64 * 4),
        ("batch_norm.grad", 13 * 64 * 4),
        ("conv.param_grad", 64 * (2 * 108 + 4)),
    ];
    assert_costs(&convolutional_model().expect("the shapes fit"), "loss", &expected);
}
