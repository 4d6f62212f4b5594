//! What a session takes and what it rejects.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::autodiff::differentiate;
use crate::cpu::attention;
use crate::cpu::convolution::{Geometry, room_len};
use crate::cpu::linear::packed_len;
use crate::cpu::optimizer::Adam;
use crate::cpu::program::AttendSizes;
use crate::graph::{GraphError, Init};
use crate::ops::{Activation, Attention, AttentionOptions, Convolution, LinearInit, Op, Over, Pool};
use crate::profile::{CallFacts, Pass};
use crate::random::Key;

/// A network of images with one of each operation that has a gradient, and its loss.
fn network() -> Result<(Graph, NodeId), GraphError> {
    let mut graph = Graph::new();
    let image = graph.input("image", [2, 8, 8])?;
    let label = graph.input("label", [])?;
    let x = graph.channels_last("map", image)?;
    let x = graph.conv2d("conv1", x, Convolution::new(6, 3).padding(1), LinearInit::pytorch(18))?;
    let x = graph.batch_norm("batch", x, 1e-5, 0.1)?;
    let x = graph.activation("act1", x, Activation::Relu)?;
    let x = graph.max_pool2d("max", x, Pool::new(2))?;
    let x = graph.conv2d("conv2", x, Convolution::new(6, 3).padding(1), LinearInit::pytorch(54))?;
    let x = graph.group_norm("group", x, 3, 1e-5)?;
    let x = graph.avg_pool2d("mean", x, Pool::new(2))?;
    let x = graph.reshape("rows", x, [4, 6])?;
    let token = graph.new_parameter("token", [1, 1, 6], Init::Constant(0.1))?;
    let x = graph.prepend_token("prepend", x, token)?;
    let table = graph.new_parameter("table", [1, 5, 6], Init::Constant(0.1))?;
    let x = graph.add_table("positions", x, table)?;
    let norm = graph.layer_norm_parameters("norm", 6)?;
    let y = graph.layer_norm("norm1", x, norm, 1e-5)?;
    let y = graph.per_head_linear("maps", y, 2, 3, LinearInit::pytorch(3))?;
    let y = graph.attention("attention", y, 2, 0.4, 0.1)?;
    let y = graph.dropout("drop", y, 0.1)?;
    let y = graph.drop_path("path", y, 0.1)?;
    let x = graph.add("sum", x, y)?;
    let some = graph.slice_tokens("some", x, 1, 3)?;
    let y = graph.attend("attend", x, some, some, AttentionOptions::new(2, 0.4), None)?;
    let half = graph.slice_features("half", y, 0, 3)?;
    let half = graph.softmax("softmax", half)?;
    let x = graph.concat_features("join", &[x, half])?;
    let mean = graph.mean_tokens("tokens", x)?;
    let first = graph.select_token("first", x, 0)?;
    let x = graph.add("both", first, mean)?;
    let x = graph.scale("scale", x, 0.5)?;
    let gamma = graph.new_parameter("gamma", [9], Init::Constant(0.1))?;
    let x = graph.scale_features("features", x, gamma)?;
    let logits = graph.linear("head", x, 5, LinearInit::pytorch(9))?;
    let loss = graph.cross_entropy("loss", logits, label, 0.1)?;
    Ok((graph, loss))
}

/// A network of words.
fn reader() -> Result<(Graph, NodeId), GraphError> {
    let mut graph = Graph::new();
    let ids = graph.input("ids", [3])?;
    let labels = graph.input("labels", [3])?;
    let x = graph.embedding("embed", ids, 11, 4, Init::Normal { std: 1.0 })?;
    let logits = graph.linear("head", x, 5, LinearInit::pytorch(4))?;
    let loss = graph.cross_entropy_tokens("loss", logits, labels, 0.1)?;
    Ok((graph, loss))
}

/// All operations that compute a gradient.
const GRADIENTS: [&str; 26] = [
    "activation_grad",
    "add_table_grad",
    "attend_grad",
    "attention_grad",
    "avg_pool2d_grad",
    "batch_norm_grad",
    "conv2d_input_grad",
    "conv2d_param_grad",
    "cross_entropy_grad",
    "cross_entropy_tokens_grad",
    "dropout_grad",
    "embedding_grad",
    "group_norm_grad",
    "layer_norm_grad",
    "linear_input_grad",
    "linear_param_grad",
    "max_pool2d_grad",
    "mean_tokens_grad",
    "per_head_linear_input_grad",
    "per_head_linear_param_grad",
    "prepend_token_grad",
    "scale_features_grad",
    "select_token_grad",
    "slice_features_grad",
    "slice_tokens_grad",
    "softmax_grad",
];

#[test]
fn sessions_reject_graphs_with_gradient_operations() {
    let mut found = BTreeSet::new();
    for model in [network, reader] {
        let (model, loss) = model().expect("it fits");
        let training = differentiate(&model, loss).graph;
        let parameters = Parameters::initialize(&training, Key::new(1));
        let error = Session::new(training.clone(), parameters, 1).err().expect("a training graph");
        assert!(matches!(error, SessionError::Gradient { .. }), "{error}");
        let model_ops: BTreeSet<&str> = model.nodes().iter().map(|node| node.op.name()).collect();
        for node in &training.nodes()[model.nodes().len()..] {
            if !node.op.is_gradient() {
                // A sum, a slice, or an operation that is its own gradient: the same in a model.
                let plain = matches!(node.op, Op::Add | Op::SliceFeatures { .. } | Op::ChannelsFirst);
                assert!(plain || model_ops.contains(node.op.name()), "{} needs a place in this test", node.op.name());
                continue;
            }
            // The operation alone, on values that are given.
            let mut alone = Graph::new();
            let mut inputs = Vec::new();
            for (i, input) in node.inputs.iter().enumerate() {
                let shape = training.node(*input).shape.clone();
                inputs.push(alone.input(&format!("input{i}"), shape).expect("a new name"));
            }
            let mut params = Vec::new();
            for &param in &node.params {
                let param = training.parameter(param);
                params.push(alone.new_parameter(&param.name, param.shape.clone(), param.init).expect("a new name"));
            }
            alone.push("gradient", node.op.clone(), &inputs, &params, node.shape.clone()).expect("a new name");
            let parameters = Parameters::initialize(&alone, Key::new(1));
            let error = Session::new(alone, parameters, 1).err();
            let (name, operation) = ("gradient".to_string(), node.op.name());
            assert_eq!(error, Some(SessionError::Gradient { node: name, operation }));
            found.insert(operation);
        }
    }
    assert_eq!(found, BTreeSet::from(GRADIENTS));
}

#[test]
fn the_error_names_the_gradient_node() {
    let (model, loss) = reader().expect("it fits");
    let training = differentiate(&model, loss).graph;
    let parameters = Parameters::initialize(&training, Key::new(1));
    let error = Session::new(training, parameters, 1).err().expect("a training graph");
    let text = "operation cross_entropy_tokens_grad computes a gradient, but a session needs a model without gradients (loss.grad)";
    assert_eq!(error.to_string(), text);
}

#[test]
fn missing_instruction_sets_and_parameters_of_another_graph_are_rejected() {
    let (graph, _) = reader().expect("it fits");
    let parameters = Parameters::initialize(&graph, Key::new(7));
    for isa in Isa::available() {
        assert_eq!(check(&graph, &parameters, isa, &Isa::available()), Ok(()));
        let others: Vec<Isa> = Isa::available().into_iter().filter(|other| *other != isa).collect();
        let error = check(&graph, &parameters, isa, &others).expect_err("it is missing");
        assert_eq!(error.to_string(), format!("this processor does not support {}", isa.name()));
    }
    let error = Session::new(Graph::new(), parameters, 1).err().expect("no such parameters");
    assert_eq!(error.to_string(), "the parameters belong to another graph");
}

#[test]
fn sizes_of_packed_weights_and_scratch_memory_saturate_instead_of_overflowing() {
    // Its square is 0 when it wraps.
    let half = 1 << (usize::BITS / 2);
    assert_eq!(packed_len(Isa::best(), usize::MAX / 4, 1), usize::MAX);
    let geometry = Geometry::new(Convolution::new(half, 1), [1, 1, half], true);
    assert_eq!(geometry.packed_len(Isa::best()), usize::MAX);
    assert_eq!(room_len(&Geometry::new(Convolution::new(1, 1), [1, 1, usize::MAX / 8], true), 64), usize::MAX);
    let plain = Attention::new(half, 0.4, None);
    for (head_dim, attention) in [(3, plain), (64, Attention { softmax: Over::Queries, ..plain })] {
        let sizes = AttendSizes { queries: half, keys: half, head_dim, attention, masked: false, dropout: None };
        let memory = attention::Memory::of(&sizes);
        assert_eq!([memory.kept, memory.scratch], [usize::MAX; 2], "heads of width {head_dim}");
    }
}

#[test]
fn memory_sizes_saturate_instead_of_overflowing() {
    let (graph, loss) = network().expect("it fits");
    for images in [usize::MAX, usize::MAX / 100, 1 << (usize::BITS - 8)] {
        let memory = training_memory(&graph, loss, &[], &Adam::default().into(), images, 2);
        assert!(memory.activations >= 1 << (usize::BITS - 2), "{images} images: {memory:?}");
        let memory = inference_memory(&graph, &[loss], images, 2);
        assert!(memory.activations >= 1 << (usize::BITS - 8), "{images} images: {memory:?}");
    }
    let mut session = Session::new(graph.clone(), Parameters::zeros(&graph), 1).expect("a model");
    session.start_training(loss, &[], Adam::default());
    let nothing = |_: usize, _: usize, _: &mut [f32]| {};
    let stepped = catch_unwind(AssertUnwindSafe(|| session.train_step(&Step::new(usize::MAX, &nothing, 0.1))));
    assert!(stepped.is_err(), "no such memory");
}

/// A clock that shows how often it was read.
#[derive(Default)]
struct Counter(AtomicU64);

impl Clock for Counter {
    fn now(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// Inputs that depend on the example.
fn some(input: usize, example: usize, values: &mut [f32]) {
    for (i, value) in values.iter_mut().enumerate() {
        *value = if input == 0 { ((i * 7 + example * 13) % 11) as f32 * 0.1 } else { (example % 5) as f32 };
    }
}

#[test]
fn with_a_clock_each_call_of_each_chunk_is_recorded_and_no_bit_changes() {
    let (graph, loss) = network().expect("it fits");
    let wide = WideRule { min_values: 40, min_values_per_activation: 0, min_fraction: 0.0 };
    for (rule, threads) in [(WideRule::default(), 1), (WideRule::default(), 3), (wide, 2), (wide, 23)] {
        let train = |clock: Option<Arc<dyn Clock>>| {
            let mut session =
                Session::new(graph.clone(), Parameters::initialize(&graph, Key::new(7)), threads).unwrap();
            session.set_wide_rule(rule);
            session.start_training(loss, &[], Adam::default());
            session.set_clock(clock);
            session.train_step(&Step::new(300, &some, 1e-2));
            session.train_step(&Step::new(29, &some, 1e-2));
            session
        };
        let (plain, session) = (train(None), train(Some(Arc::new(Counter::default()))));
        assert_eq!(plain.recorded().count(), 0);
        let bits = |session: &Session| {
            session.parameters().buffer().as_slice().iter().map(|value| value.to_bits()).collect::<Vec<_>>()
        };
        assert!(bits(&plain) == bits(&session), "{rule:?}, {threads} threads");

        let facts = session.training_facts();
        let mut images = vec![0; facts.calls.len()];
        let mut runs = vec![0; facts.calls.len()];
        for slices in session.recorded() {
            assert!(slices.windows(2).all(|pair| pair[0].end <= pair[1].start), "one after the other");
            assert!(slices.iter().all(|slice| slice.start < slice.end));
            for slice in slices {
                if let Work::Call(call) = slice.work {
                    images[call as usize] += slice.images;
                    runs[call as usize] += 1;
                }
            }
        }
        for (call, facts) in facts.calls.iter().enumerate() {
            // 29 images are 4 parts of 2 chunks; a whole call is divided by columns, a late one into pieces.
            match facts.is_whole {
                true => assert!(runs[call] > 0 && images[call] == 0, "{facts:?}"),
                false => assert_eq!((images[call], runs[call]), (29, 8), "{facts:?}"),
            }
        }
        let works: BTreeSet<_> = session
            .recorded()
            .flatten()
            .map(|slice| format!("{:?}", slice.work))
            .filter(|work| !work.contains('('))
            .collect();
        let all = ["Keys", "Pack", "Tree", "Update", "Wait"].map(str::to_string);
        assert_eq!(works, BTreeSet::from(all));
        assert!(session.recorded().all(|slices| slices.len() < 100_000));
    }
}

#[test]
fn a_recorded_step_of_many_chunks_has_room_for_all_slices() {
    let (graph, loss) = network().expect("it fits");
    for threads in [1, 2] {
        let mut session = Session::new(graph.clone(), Parameters::initialize(&graph, Key::new(7)), threads).unwrap();
        session.start_training(loss, &[], Adam::default());
        session.set_clock(Some(Arc::new(Counter::default())));
        session.train_step(&Step::new(2500, &some, 1e-2));
        let last = session.recorded().map(|slices| slices.last().map(|slice| slice.work));
        let last: Vec<_> = last.collect();
        // What each thread does last has its place: the update, and the wait of thread 0 for it.
        assert_eq!(last[0], Some(Work::Wait));
        assert!(last[1..].iter().all(|work| *work == Some(Work::Update)), "{last:?}");
        assert_eq!(session.dropped(), 0);
        session.infer(&[loss], 1000, &some);
        assert_eq!(session.dropped(), 0);
        assert_eq!(session.recorded().next().unwrap().last().unwrap().work, Work::Wait);
    }
}

#[test]
fn the_facts_of_calls_cover_all_operations_of_the_graph_once() {
    for model in [network, reader] {
        let (graph, loss) = model().expect("it fits");
        for min_values in [usize::MAX, 40] {
            let rule = WideRule { min_values, min_values_per_activation: 0, min_fraction: 0.0 };
            let mut session = Session::new(graph.clone(), Parameters::zeros(&graph), 2).unwrap();
            session.set_wide_rule(rule);
            session.start_training(loss, &[], Adam::default());
            let facts = session.training_facts();
            let training = differentiate(&graph, loss).graph;
            let flops = |nodes: &[crate::graph::Node]| -> u64 {
                nodes.iter().map(|node| crate::ops::cost(&training, node).flops).sum()
            };
            let (forward, backward) = training.nodes().split_at(graph.nodes().len());
            let of = |pass| facts.calls.iter().filter(|call| call.pass == pass).map(|call| call.flops).sum::<u64>();
            // What calls share is rounded down.
            let near = |a: u64, b: u64| a <= b && b < a + 20;
            assert!(near(of(Pass::Forward), flops(forward)), "{} {}", of(Pass::Forward), flops(forward));
            assert!(near(of(Pass::Backward), flops(backward)), "{} {}", of(Pass::Backward), flops(backward));
            for call in &facts.calls {
                assert!(
                    !call.layers.is_empty() && (call.ops.is_empty() || call.bytes + call.bytes_fixed > 0),
                    "{call:?}"
                );
                assert!(call.ops.iter().all(|op| GRADIENTS.contains(op) <= (call.pass == Pass::Backward)), "{call:?}");
            }
        }
    }
}

#[test]
fn the_facts_of_a_small_layer_are_those_counted_by_hand() {
    let mut graph = Graph::new();
    let (x, label) = (graph.input("x", [3]).unwrap(), graph.input("label", []).unwrap());
    let y = graph.linear("fc", x, 5, LinearInit::pytorch(3)).unwrap();
    let y = graph.activation("act", y, Activation::Relu).unwrap();
    let y = graph.linear("head", y, 7, LinearInit::pytorch(5)).unwrap();
    let loss = graph.cross_entropy("loss", y, label, 0.0).unwrap();
    let mut session = Session::new(graph.clone(), Parameters::zeros(&graph), 2).unwrap();
    session.start_training(loss, &[], Adam::default());
    session.train_step(&Step::new(13, &some, 0.1));
    let facts = session.training_facts();
    let id = |name: &str| graph.find(name).unwrap();
    let of = |name: &str, pass| {
        let id = id(name);
        facts.calls.iter().filter(move |call| call.layers[0] == id && call.pass == pass).collect::<Vec<_>>()
    };
    let forward = of("fc", Pass::Forward)[0];
    assert_eq!(
        (forward.layers.as_slice(), forward.ops.as_slice()),
        ([id("fc"), id("act")].as_slice(), ["linear", "relu"].as_slice())
    );
    // 15 multiply-adds, 5 additions of a bias, 5 comparisons; 3 values in, 5 out; 20 parameters.
    assert_eq!((forward.flops, forward.bytes, forward.bytes_fixed), (40, 4 * 8, 4 * 20));
    let mut backward = of("head", Pass::Backward);
    backward.sort_by_key(|call| call.bytes_fixed);
    // The gradient of the input, times the derivative of the activation: 7 and 5 in, 5 out; 35 weights are read.
    assert_eq!((backward[0].bytes, backward[0].bytes_fixed), (4 * 17, 4 * 35));
    assert_eq!(backward[0].layers, [id("head"), id("act")]);
    // The gradients of 35 weights and 7 biases are read and written.
    assert_eq!((backward[1].bytes, backward[1].bytes_fixed), (4 * 12, 2 * 4 * 42));
    // Chunks have 4 images at most; each thread stores their hidden values from one pass to the other.
    let hidden = facts.values.iter().find(|value| facts.calls[value.first].layers[0] == id("fc")).unwrap();
    assert_eq!((hidden.bytes, hidden.is_batch), (2 * 4 * 5 * 4, false));
    assert_eq!(facts.calls[hidden.last].layers[0], id("head"));
}

#[test]
fn bytes_are_those_that_a_call_touches_without_its_own_scratch_memory() {
    let (graph, loss) = network().expect("it fits");
    let mut session = Session::new(graph.clone(), Parameters::zeros(&graph), 2).unwrap();
    session.start_training(loss, &[], Adam::default());
    session.train_step(&Step::new(13, &some, 0.1));
    let facts = session.training_facts();
    let of = |name: &str, is_it: &dyn Fn(&CallFacts) -> bool| {
        let id = graph.find(name).unwrap();
        let call = facts.calls.iter().find(|call| call.layers[0] == id && is_it(call)).unwrap();
        [call.bytes / 4, call.bytes_fixed / 4]
    };
    let forward = |call: &CallFacts| call.pass == Pass::Forward;
    // One of 5 tokens of 9 features is read, and written; its gradient writes all tokens.
    assert_eq!(of("first", &forward), [9 + 9, 0]);
    assert_eq!(of("first", &|call| call.pass == Pass::Backward), [9 + 5 * 9, 0]);
    // 3 of 5 tokens of 6 features.
    assert_eq!(of("some", &forward), [18 + 18, 0]);
    // Of 6 channels: two sums of each image, then mean and variance of the batch.
    assert_eq!(of("batch", &|call| call.is_whole && call.pass == Pass::Forward), [12, 12]);
    // Pixels of both maps; what the kernel has for itself is in the cache. 6 x 6 x 9 weights and 6 biases.
    assert_eq!(of("conv2", &|call| call.ops == ["conv2d_param_grad"]), [2 * 16 * 6, 2 * 330]);
}

#[test]
fn a_stride_longer_than_the_kernel_reads_some_of_the_pixels() {
    let mut graph = Graph::new();
    let (image, label) = (graph.input("image", [2, 8, 8]).unwrap(), graph.input("label", []).unwrap());
    let map = graph.channels_last("map", image).unwrap();
    let init = LinearInit::pytorch(2);
    let small = graph.conv2d("small", map, Convolution::new(3, 1).stride(2), init).unwrap();
    let small = graph.activation("tanh", small, Activation::Tanh).unwrap();
    let flat = graph.channels_first_flat("flat", small).unwrap();
    let logits = graph.linear("head", flat, 5, LinearInit::pytorch(48)).unwrap();
    let loss = graph.cross_entropy("loss", logits, label, 0.0).unwrap();
    let mut session = Session::new(graph.clone(), Parameters::zeros(&graph), 1).unwrap();
    session.start_training(loss, &[], Adam::default());
    let facts = session.training_facts();
    let of = |op: &str| {
        let call = facts.calls.iter().find(|call| call.ops.first() == Some(&op)).unwrap();
        (call.bytes / 4, call.flops)
    };
    // 16 of 64 pixels with 2 channels are read, 16 pixels with 3 channels written; 3 * 2 multiply-adds and 3 biases each.
    assert_eq!(of("conv2d"), (16 * 2 + 16 * 3, 16 * (2 * 6 + 3)));
    assert_eq!(of("conv2d_param_grad").0, 16 * 3 + 16 * 2);
}
