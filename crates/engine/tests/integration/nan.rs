//! NaN stays NaN: a kernel that turns it into 0 would hide that a training failed.

use vitreous_engine::graph::{Graph, GraphError, NodeId};
use vitreous_engine::ops::{Activation, Convolution, LinearInit, Pool};
use vitreous_engine::{Isa, Key, Parameters, Session};

const SIDE: usize = 6;

/// Adds one operation to a map of 19 channels.
type Operation = fn(&mut Graph, NodeId) -> Result<NodeId, GraphError>;

fn relu(graph: &mut Graph, map: NodeId) -> Result<NodeId, GraphError> {
    graph.activation("relu", map, Activation::Relu)
}

const OPERATIONS: [(&str, Operation); 8] = [
    ("relu", relu),
    ("convolution, relu", |graph, map| {
        let map = graph.conv2d("conv", map, Convolution::new(19, 3).padding(1), LinearInit::pytorch(171))?;
        relu(graph, map)
    }),
    ("batch norm, relu", |graph, map| {
        let map = graph.batch_norm("norm", map, 1e-5, 0.1)?;
        relu(graph, map)
    }),
    ("batch norm, relu6", |graph, map| {
        let map = graph.batch_norm("norm", map, 1e-5, 0.1)?;
        graph.activation("relu6", map, Activation::Relu6)
    }),
    ("depthwise convolution, relu6", |graph, map| {
        let convolution = Convolution::new(19, 3).padding(1).groups(19);
        let map = graph.conv2d("conv", map, convolution, LinearInit::pytorch(9))?;
        graph.activation("relu6", map, Activation::Relu6)
    }),
    ("group norm", |graph, map| graph.group_norm("norm", map, 1, 1e-5)),
    ("max pool", |graph, map| graph.max_pool2d("pool", map, Pool { kernel: 2, stride: 2, padding: 0 })),
    ("attention over pixels", |graph, map| {
        let rows = graph.reshape("rows", map, [SIDE * SIDE, 19])?;
        let qkv = graph.linear("qkv", rows, 3 * 19, LinearInit::pytorch(19))?;
        graph.attention("attn", qkv, 1, 0.2, 0.0)
    }),
];

/// Computes an operation on a map of ones in which the value at `place` is NaN; returns whether the result has a NaN.
fn shows(isa: Isa, operation: Operation, place: usize) -> bool {
    let mut graph = Graph::new();
    let image = graph.input("image", [19, SIDE, SIDE]).expect("a map");
    let map = graph.channels_last("map", image).expect("a map");
    let out = operation(&mut graph, map).expect("it takes a map");
    let parameters = Parameters::initialize(&graph, Key::new(3));
    let fill = |_: usize, _: usize, values: &mut [f32]| {
        values.fill(1.0);
        values[place] = f32::NAN;
    };
    let mut session = Session::with_isa(graph, parameters, 1, isa).expect("a model");
    let found = session.infer(&[out], 1, &fill).swap_remove(0);
    found.iter().any(|value| value.is_nan())
}

#[test]
fn nan_in_gives_nan_out() {
    for isa in Isa::available() {
        for (name, operation) in OPERATIONS {
            // The first, the last, and each place of a window.
            for place in [0, 1, SIDE, SIDE + 1, 19 * SIDE * SIDE - 1] {
                assert!(shows(isa, operation, place), "{name} with {isa:?} hides it at {place}");
            }
        }
    }
}
