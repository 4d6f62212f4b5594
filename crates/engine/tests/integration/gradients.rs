//! Every gradient rule against central differences in f64.
//!
//! The operation under test stands between a trained table, whose gradient is that of the operation's input value
//! by value, and a layer that makes every value of its result matter differently. Sizes are distinct primes.

use vitreous_engine::autodiff::differentiate;
use vitreous_engine::graph::{Graph, GraphError, Init, NodeId, ParameterKind};
use vitreous_engine::ops::{Activation, AttentionOptions, Convolution, LinearInit, Over, Pool};
use vitreous_engine::random::Key;
use vitreous_engine::reference::{Mode, Reference, Values};

const EXAMPLES: usize = 2;
const TOKENS: usize = 5;
const FEATURES: usize = 7;
const CLASSES: usize = 3;
/// Step of the differences: the error is some 1e-10 of its square and 1e-16 of its inverse.
const STEP: f64 = 1e-5;
/// Largest difference allowed, as part of the tensor's largest gradient.
const TOLERANCE: f64 = 2e-8;

/// Builds input, table, what `operation` adds, linear layer, tanh, mean, loss; then checks every gradient.
fn check(operation: impl FnOnce(&mut Graph, NodeId) -> Result<NodeId, GraphError>) {
    check_smoothed(0.0, operation);
}

fn check_smoothed(smoothing: f32, operation: impl FnOnce(&mut Graph, NodeId) -> Result<NodeId, GraphError>) {
    check_of_width(FEATURES, smoothing, operation);
}

fn check_of_width(
    features: usize,
    smoothing: f32,
    operation: impl FnOnce(&mut Graph, NodeId) -> Result<NodeId, GraphError>,
) {
    let build = || -> Result<(Graph, NodeId), GraphError> {
        let mut graph = Graph::new();
        let x = graph.input("x", [TOKENS, features])?;
        let label = graph.input("label", [])?;
        let table = graph.new_parameter("table", [TOKENS, features], Init::Constant(0.0))?;
        let x = graph.add_table("input", x, table)?;
        let y = operation(&mut graph, x)?;
        let y = graph.linear("head", y, CLASSES, LinearInit::pytorch(features))?;
        // Tanh makes the tokens' gradients differ from each other.
        let mut logits = graph.activation("tanh", y, Activation::Tanh)?;
        if graph.node(logits).shape.0.len() == 2 {
            logits = graph.mean_tokens("logits", logits)?;
        }
        let loss = graph.cross_entropy("loss", logits, label, smoothing)?;
        Ok((graph, loss))
    };
    let (graph, loss) = build().expect("the shapes fit");
    check_graph(&graph, loss);
}

fn check_graph(graph: &Graph, loss: NodeId) {
    let inputs = vec![numbers(2, [EXAMPLES * graph.nodes()[0].shape.len()]).remove(0), vec![2.0, 0.0]];
    check_with(graph, loss, &inputs);
}

fn check_with(graph: &Graph, loss: NodeId, inputs: &[Vec<f64>]) {
    let params = numbers(1, graph.parameters().iter().map(|param| param.shape.len()));
    let keys = [Key::new(3), Key::new(4)];
    let mode = Mode::Train { image_keys: Some(&keys), batch: EXAMPLES };
    let training = differentiate(graph, loss);
    let found = Reference::new(&training.graph, params.clone()).run(inputs, mode).gradients;
    let mut reference = Reference::new(graph, params);
    let mean_loss = |values: &Values| values.of(loss).iter().sum::<f64>() / EXAMPLES as f64;
    let trained = |param: &vitreous_engine::graph::Parameter| param.kind == ParameterKind::Trained;
    for (p, param) in graph.parameters().iter().enumerate().filter(|(_, param)| trained(param)) {
        let mut expected = Vec::with_capacity(param.shape.len());
        for i in 0..param.shape.len() {
            let start = reference.params[p][i];
            let mut loss_at = |x: f64| {
                reference.params[p][i] = x;
                mean_loss(&reference.run(inputs, mode))
            };
            let difference = loss_at(start + STEP) - loss_at(start - STEP);
            expected.push(difference / (2.0 * STEP));
            reference.params[p][i] = start;
        }
        let largest = expected.iter().fold(0.0f64, |a, b| a.max(b.abs()));
        assert!(largest > 1e-4, "`{}` has no gradient to check, {largest}", param.name);
        for (i, (found, expected)) in found[p].iter().zip(&expected).enumerate() {
            let error = (found - expected).abs();
            assert!(error <= TOLERANCE * largest, "{}[{i}]: {found} is not {expected}", param.name);
        }
    }
}

/// Numbers in [-1, 1) for each length.
fn numbers(seed: u64, lens: impl IntoIterator<Item = usize>) -> Vec<Vec<f64>> {
    let key = Key::new(seed);
    let fill = |(n, len)| (0..len as u64).map(|i| key.with(n).range(i, -1.0, 1.0)).collect();
    (0u64..).zip(lens).map(fill).collect()
}

#[test]
fn nothing_but_table_linear_tanh_mean_and_loss() {
    check(|_, x| Ok(x));
}

#[test]
fn label_smoothing() {
    check_smoothed(0.3, |_, x| Ok(x));
}

#[test]
fn linear_with_and_without_bias() {
    check(|graph, x| {
        let y = graph.linear("fc1", x, 11, LinearInit::pytorch(FEATURES))?;
        graph.linear("fc2", y, 13, LinearInit { weight: Init::Constant(0.0), bias: None })
    });
}

#[test]
fn layer_norm_whose_parameters_are_used_twice() {
    check(|graph, x| {
        let params = graph.layer_norm_parameters("norm", FEATURES)?;
        let y = graph.layer_norm("norm1", x, params, 1e-2)?;
        let y = graph.linear("fc", y, FEATURES, LinearInit::pytorch(FEATURES))?;
        graph.layer_norm("norm2", y, params, 1e-2)
    });
}

#[test]
fn activations() {
    let relus = [Activation::Relu, Activation::Relu6];
    for activation in relus.into_iter().chain([Activation::Gelu, Activation::GeluTanh, Activation::Tanh]) {
        check(|graph, x| {
            let y = graph.linear("fc", x, 11, LinearInit::pytorch(FEATURES))?;
            // So that some values are over 6.
            let y = if activation == Activation::Relu6 { graph.scale("scale", y, 9.0)? } else { y };
            graph.activation("act", y, activation)
        });
    }
}

#[test]
fn dropout() {
    check(|graph, x| graph.dropout("drop", x, 0.4));
}

#[test]
fn a_sum_of_two_branches_and_of_a_value_with_itself() {
    check(|graph, x| {
        let branch = graph.activation("act", x, Activation::Gelu)?;
        let sum = graph.add("sum", x, branch)?;
        let y = graph.activation("act2", sum, Activation::Gelu)?;
        graph.add("twice", y, y)
    });
}

#[test]
fn attention_with_and_without_dropout() {
    for (heads, dropout_rate) in [(1, 0.0), (2, 0.0), (2, 0.3)] {
        let embed_dim = 22;
        check_of_width(3 * embed_dim, 0.0, |graph, x| {
            let context = graph.attention("attn", x, heads, 0.6, dropout_rate)?;
            graph.activation("act", context, Activation::Tanh)
        });
    }
}

#[test]
fn a_class_token_a_table_longer_than_the_sequence_and_constants() {
    check(|graph, x| {
        let token = graph.new_parameter("token", [1, 1, FEATURES], Init::Constant(0.0))?;
        let y = graph.prepend_token("prepend", x, token)?;
        let table = graph.new_parameter("positions", [1, 13, FEATURES], Init::Constant(0.0))?;
        let y = graph.add_table("add_positions", y, table)?;
        let y = graph.activation("act", y, Activation::Gelu)?;
        let constants: Vec<f32> = (0..(TOKENS + 1) * FEATURES).map(|i| i as f32 * 0.01).collect();
        graph.add_constant("constant", y, constants.into())
    });
}

#[test]
fn one_token_is_selected() {
    for index in [0, 3] {
        check(|graph, x| {
            let y = graph.linear("fc", x, 11, LinearInit::pytorch(FEATURES))?;
            graph.select_token("select", y, index)
        });
    }
}

#[test]
fn the_mean_over_tokens_before_other_layers() {
    check(|graph, x| {
        let y = graph.activation("act", x, Activation::Gelu)?;
        graph.mean_tokens("pool", y)
    });
}

#[test]
fn a_linear_layer_on_patches_of_an_image() {
    let build = || -> Result<(Graph, NodeId), GraphError> {
        let mut graph = Graph::new();
        let image = graph.input("image", [2, 6, 9])?;
        let label = graph.input("label", [])?;
        let x = graph.patches("patches", image, 3)?;
        let x = graph.linear("proj", x, FEATURES, LinearInit::pytorch(18))?;
        let x = graph.activation("act", x, Activation::Tanh)?;
        let x = graph.mean_tokens("logits", x)?;
        let loss = graph.cross_entropy("loss", x, label, 0.0)?;
        Ok((graph, loss))
    };
    let (graph, loss) = build().expect("the shapes fit");
    check_graph(&graph, loss);
}

/// Queries, keys and values from one input, the latter two with a token less.
fn operands(graph: &mut Graph, x: NodeId, width: usize, keys: usize) -> Result<[NodeId; 3], GraphError> {
    let fewer = graph.slice_tokens("fewer", x, TOKENS - keys, keys)?;
    // No biases: one of the keys changes nothing when softmax goes over them.
    let init = LinearInit { bias: None, ..LinearInit::pytorch(FEATURES) };
    let mut linear = |name: &str, x| graph.linear(name, x, width, init);
    Ok([linear("q", x)?, linear("k", fewer)?, linear("v", fewer)?])
}

#[test]
fn attention_of_separate_operands_causal_and_over_either_axis() {
    for softmax in [Over::Keys, Over::Queries] {
        for (keys, causal, dropout_rate) in [(TOKENS, true, 0.0), (TOKENS - 2, false, 0.3)] {
            check_of_width(FEATURES, 0.0, |graph, x| {
                let [q, k, v] = operands(graph, x, 6, keys)?;
                let options =
                    AttentionOptions { dropout_rate, causal, softmax, out_scale: 0.7, ..AttentionOptions::new(2, 1.3) };
                let y = graph.attend("attn", q, k, v, options, None)?;
                graph.linear("back", y, FEATURES, LinearInit::pytorch(6))
            });
        }
    }
}

#[test]
fn attention_with_a_mask_and_of_a_value_with_itself() {
    for softmax in [Over::Keys, Over::Queries] {
        let build = || -> Result<(Graph, NodeId), GraphError> {
            let mut graph = Graph::new();
            let x = graph.input("x", [TOKENS, FEATURES])?;
            let label = graph.input("label", [])?;
            let mask = graph.input("mask", [TOKENS])?;
            let x = graph.linear("fc", x, 6, LinearInit::pytorch(FEATURES))?;
            let options = AttentionOptions { softmax, ..AttentionOptions::new(3, 0.9) };
            let y = graph.attend("attn", x, x, x, options, Some(mask))?;
            let y = graph.linear("head", y, CLASSES, LinearInit::pytorch(6))?;
            let y = graph.activation("act", y, Activation::Tanh)?;
            let logits = graph.mean_tokens("logits", y)?;
            let loss = graph.cross_entropy("loss", logits, label, 0.0)?;
            Ok((graph, loss))
        };
        let (graph, loss) = build().expect("the shapes fit");
        let x = numbers(2, [EXAMPLES * TOKENS * FEATURES]).remove(0);
        let mask = vec![1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0];
        check_with(&graph, loss, &[x, vec![2.0, 0.0], mask]);
    }
}

#[test]
fn layers_that_map_each_head_on_its_own() {
    for (heads, count, bias) in [(1, 2, true), (3, 1, false), (6, 3, true)] {
        check_of_width(6, 0.0, |graph, x| {
            let init = LinearInit { bias: Some(Init::Constant(0.0)).filter(|_| bias), ..LinearInit::pytorch(6) };
            let y = graph.per_head_linear("qkv", x, heads, count, init)?;
            let y = graph.activation("act", y, Activation::Tanh)?;
            graph.linear("back", y, 6, LinearInit::pytorch(6 * count))
        });
    }
}

#[test]
fn softmax_over_the_features() {
    check(|graph, x| graph.softmax("softmax", x));
}

#[test]
fn a_loss_of_probabilities() {
    let build = || -> Result<(Graph, NodeId), GraphError> {
        let mut graph = Graph::new();
        let x = graph.input("x", [FEATURES])?;
        let label = graph.input("label", [])?;
        let x = graph.linear("fc", x, CLASSES, LinearInit::pytorch(FEATURES))?;
        let x = graph.softmax("softmax", x)?;
        let loss = graph.cross_entropy("loss", x, label, 0.0)?;
        Ok((graph, loss))
    };
    let (graph, loss) = build().expect("the shapes fit");
    check_graph(&graph, loss);
}

#[test]
fn slices_joins_and_other_axes() {
    check(|graph, x| {
        let a = graph.slice_features("a", x, 2, 3)?;
        let b = graph.slice_features("b", x, 0, 4)?;
        let y = graph.concat_features("join", &[a, b, a])?;
        let y = graph.slice_tokens("some", y, 1, 3)?;
        let y = graph.reshape("flat", y, [30])?;
        let y = graph.linear("fc", y, 2 * FEATURES, LinearInit::pytorch(30))?;
        graph.reshape("rows", y, [2, FEATURES])
    });
}

#[test]
fn multiplication_by_a_number() {
    check(|graph, x| graph.scale("scale", x, -1.7));
}

#[test]
fn multiplication_by_trained_factors() {
    check(|graph, x| {
        let factors = graph.new_parameter("gamma", [FEATURES], Init::Constant(0.0))?;
        graph.scale_features("scale", x, factors)
    });
}

#[test]
fn a_path_that_is_dropped_for_some_examples() {
    for rate in [0.3, 0.6] {
        check(|graph, x| {
            let y = graph.linear("fc", x, FEATURES, LinearInit::pytorch(FEATURES))?;
            let y = graph.activation("act", y, Activation::Tanh)?;
            let y = graph.drop_path("path", y, rate)?;
            graph.add("sum", x, y)
        });
    }
}

#[test]
fn looked_up_vectors_a_trained_value_and_a_loss_over_tokens() {
    for smoothing in [0.0, 0.2] {
        let build = || -> Result<(Graph, NodeId), GraphError> {
            let mut graph = Graph::new();
            let table = graph.trained_constant("query", [TOKENS, FEATURES], Init::Constant(0.0))?;
            let ids = graph.input("ids", [TOKENS])?;
            let labels = graph.input("labels", [TOKENS])?;
            let x = graph.embedding("embed", ids, 4, FEATURES, Init::Constant(0.0))?;
            let x = graph.add("sum", x, table)?;
            let x = graph.activation("act", x, Activation::Tanh)?;
            let logits = graph.linear("head", x, CLASSES, LinearInit::pytorch(FEATURES))?;
            let loss = graph.cross_entropy_tokens("loss", logits, labels, smoothing)?;
            Ok((graph, loss))
        };
        let (graph, loss) = build().expect("the shapes fit");
        let ids = vec![0.0, 2.0, 2.0, 3.0, 1.0, 1.0, 0.0, 3.0, 0.0, 2.0];
        let labels = vec![2.0, -1.0, 0.0, 1.0, -1.0, 1.0, 1.0, 2.0, -1.0, -1.0];
        // The reference's gradient is that of the loss over the number it is given: here the examples.
        check_with(&graph, loss, &[ids, labels]);
    }
}

/// Builds an image, a layer whose gradients show those of the map, what `operation` adds, linear layer, tanh, mean, loss.
fn check_map(operation: impl Fn(&mut Graph, NodeId) -> Result<NodeId, GraphError>) {
    let build = || -> Result<(Graph, NodeId), GraphError> {
        let mut graph = Graph::new();
        let image = graph.input("image", [2, 5, 7])?;
        let label = graph.input("label", [])?;
        let map = graph.channels_last("map", image)?;
        let map = graph.linear("stem", map, 6, LinearInit::pytorch(2))?;
        let y = operation(&mut graph, map)?;
        let y = graph.linear("head", y, CLASSES, LinearInit::pytorch(6))?;
        let mut logits = graph.activation("tanh", y, Activation::Tanh)?;
        if graph.node(logits).shape.0.len() == 3 {
            logits = graph.global_avg_pool("logits", logits)?;
        }
        let loss = graph.cross_entropy("loss", logits, label, 0.0)?;
        Ok((graph, loss))
    };
    let (graph, loss) = build().expect("the shapes fit");
    check_graph(&graph, loss);
}

#[test]
fn convolutions_of_every_kernel_stride_padding_and_groups() {
    for convolution in [
        Convolution::new(3, 1),
        Convolution::new(3, 1).stride(2).padding(1),
        Convolution::new(4, 2),
        Convolution::new(4, 3).padding(1),
        Convolution::new(4, 3).padding(1).groups(2),
        Convolution::new(6, 3).stride(2).groups(6),
        Convolution::new(6, 5).padding(2).groups(6),
        Convolution::new(2, 2).stride(3).padding(1),
        Convolution::new(2, 5).stride(2).padding(3),
    ] {
        for bias in [Some(Init::Constant(0.0)), None] {
            let init = LinearInit { weight: Init::Constant(0.0), bias };
            check_map(|graph, x| graph.conv2d("conv", x, convolution, init));
        }
    }
}

#[test]
fn pooling_with_and_without_overlap_and_padding() {
    for pool in [Pool::new(2), Pool { kernel: 3, stride: 2, padding: 1 }, Pool { kernel: 2, stride: 3, padding: 0 }] {
        check_map(|graph, x| graph.max_pool2d("pool", x, pool));
        check_map(|graph, x| graph.avg_pool2d("pool", x, pool));
    }
    check_map(|graph, x| {
        let y = graph.activation("act", x, Activation::Tanh)?;
        graph.global_avg_pool("pool", y)
    });
}

#[test]
fn both_orders_of_a_map() {
    check_map(|graph, x| graph.channels_first_flat("flat", x));
    // A change of order in the middle takes the map's first axis for channels.
    check_map(|graph, x| graph.channels_last("turned", x));
}

#[test]
fn norms_over_groups_of_channels_and_over_the_images_of_a_step() {
    // Without tanh before it, a norm would take away what a bias adds.
    for groups in [1, 2, 3, 6] {
        check_map(|graph, x| {
            let y = graph.activation("act", x, Activation::Tanh)?;
            graph.group_norm("norm", y, groups, 1e-2)
        });
    }
    check_map(|graph, x| {
        let y = graph.activation("act", x, Activation::Tanh)?;
        graph.batch_norm("norm", y, 1e-2, 0.1)
    });
    // With given statistics, of which the variance must be positive.
    check_map(|graph, x| graph.batch_norm("norm", x, 2.0, None));
}
