//! Random small convolutional networks.

use proptest::prelude::*;
use vitreous_engine::graph::{Graph, GraphError, Init, NodeId};
use vitreous_engine::ops::{Activation, Convolution, LinearInit, Op, Pool};
use vitreous_engine::reference::Values;

use super::Model;

/// One operation of a random network. Those that do not fit the map are left out.
#[derive(Clone, Copy, Debug)]
pub enum MapPiece {
    /// A convolution, what may be fused into it, and what may not.
    Convolution {
        channels: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
        grouped: bool,
        bias: bool,
        activation: Option<Activation>,
        drop: bool,
        add: bool,
    },
    /// A convolution that two functions read.
    Twice {
        kernel: usize,
    },
    Pool {
        largest: bool,
        pool: Pool,
    },
    GroupNorm {
        most_groups: usize,
        relu: bool,
    },
    /// Batch norm, of what a function gives: the gradient of a bias right before it would be 0 but for rounding.
    BatchNorm {
        relu: bool,
    },
    /// Batch norm whose statistics stay, and a ReLU6 that clips.
    Frozen,
    /// Factors of channels, with or without a sum.
    ScaleFeatures {
        add: bool,
    },
    /// Layer norm and linear layer pixel by pixel.
    Pixels {
        channels: usize,
    },
}

/// A random network.
#[derive(Clone, Debug)]
pub struct MapSpec {
    pub image: [usize; 3],
    pub pieces: Vec<MapPiece>,
    pub flat: bool,
    pub classes: usize,
    pub taps: Vec<usize>,
}

struct Builder {
    graph: Graph,
    names: usize,
}

impl Builder {
    fn name(&mut self, kind: &str) -> String {
        self.names += 1;
        format!("{kind}{}", self.names)
    }

    fn axes(&self, map: NodeId) -> [usize; 3] {
        let shape = &self.graph.node(map).shape.0;
        [shape[0], shape[1], shape[2]]
    }

    fn fits(&self, map: NodeId, kernel: usize, padding: usize) -> bool {
        self.axes(map)[..2].iter().all(|len| len + 2 * padding >= kernel)
    }

    fn convolution(&mut self, x: NodeId, convolution: Convolution, bias: bool) -> Result<NodeId, GraphError> {
        let name = self.name("conv");
        let LinearInit { weight, bias: rule } = LinearInit::pytorch(convolution.fan_in(self.axes(x)[2]));
        self.graph.conv2d(&name, x, convolution, LinearInit { weight, bias: rule.filter(|_| bias) })
    }

    fn piece(&mut self, x: NodeId, piece: MapPiece) -> Result<NodeId, GraphError> {
        let name = self.name("piece");
        let in_channels = self.axes(x)[2];
        match piece {
            MapPiece::Convolution { channels, kernel, stride, padding, grouped, bias, activation, drop, add } => {
                if !self.fits(x, kernel, padding) {
                    return Ok(x);
                }
                let divides = |n: &usize| in_channels.is_multiple_of(*n) && channels.is_multiple_of(*n);
                let groups = if grouped { (1..=channels).rev().find(divides).unwrap_or(1) } else { 1 };
                let convolution = Convolution { out_channels: channels, kernel, stride, padding, groups };
                let mut y = self.convolution(x, convolution, bias)?;
                if let Some(activation) = activation {
                    y = self.graph.activation(&format!("{name}.act"), y, activation)?;
                }
                y = self.graph.dropout(&format!("{name}.drop"), y, if drop { 0.3 } else { 0.0 })?;
                if add && self.axes(x) == self.axes(y) {
                    y = self.graph.add(&format!("{name}.sum"), x, y)?;
                }
                Ok(y)
            }
            MapPiece::Twice { kernel } => {
                if !self.fits(x, kernel, 1) {
                    return Ok(x);
                }
                let y = self.convolution(x, Convolution::new(5, kernel).padding(1), true)?;
                let a = self.graph.activation(&format!("{name}.a"), y, Activation::Relu)?;
                let b = self.graph.activation(&format!("{name}.b"), y, Activation::Tanh)?;
                self.graph.add(&name, a, b)
            }
            MapPiece::Pool { largest, pool } => {
                if !self.fits(x, pool.kernel, pool.padding) {
                    return Ok(x);
                }
                if largest { self.graph.max_pool2d(&name, x, pool) } else { self.graph.avg_pool2d(&name, x, pool) }
            }
            MapPiece::GroupNorm { most_groups, relu } => {
                let groups = (1..=most_groups).rev().find(|n| in_channels.is_multiple_of(*n)).unwrap_or(1);
                let y = self.graph.group_norm(&name, x, groups, 3e-2)?;
                // Without any function the mean over all pixels would be 0 but for rounding.
                let activation = if relu { Activation::Relu } else { Activation::Gelu };
                self.graph.activation(&format!("{name}.act"), y, activation)
            }
            MapPiece::BatchNorm { relu } => {
                let y = self.graph.activation(&format!("{name}.tanh"), x, Activation::Tanh)?;
                let y = self.graph.batch_norm(&name, y, 3e-2, 0.3)?;
                let activation = if relu { Activation::Relu } else { Activation::Gelu };
                self.graph.activation(&format!("{name}.act"), y, activation)
            }
            MapPiece::Frozen => {
                let y = self.graph.scale(&format!("{name}.scale"), x, 9.0)?;
                let y = self.graph.batch_norm(&name, y, 3e-2, None)?;
                self.graph.activation(&format!("{name}.act"), y, Activation::Relu6)
            }
            MapPiece::ScaleFeatures { add } => {
                let init = Init::Uniform { bound: 1.0 };
                let factors = self.graph.new_parameter(&format!("{name}.gamma"), [in_channels], init)?;
                let y = self.graph.scale_features(&name, x, factors)?;
                if add { self.graph.add(&format!("{name}.sum"), x, y) } else { Ok(y) }
            }
            MapPiece::Pixels { channels } => {
                let norm = self.graph.layer_norm_parameters(&format!("{name}.norm"), in_channels)?;
                let y = self.graph.layer_norm(&format!("{name}.norm"), x, norm, 3e-2)?;
                self.convolution(y, Convolution::new(channels, 1), true)
            }
        }
    }
}

impl MapSpec {
    pub(super) fn try_build(&self) -> Result<Model, GraphError> {
        let mut builder = Builder { graph: Graph::new(), names: 0 };
        let image = builder.graph.input("image", self.image)?;
        let label = builder.graph.input("label", [])?;
        let mut x = builder.graph.channels_last("map", image)?;
        for &piece in &self.pieces {
            x = builder.piece(x, piece)?;
        }
        let graph = &mut builder.graph;
        x = if self.flat { graph.channels_first_flat("flat", x)? } else { graph.global_avg_pool("pool", x)? };
        let features = graph.node(x).shape.features();
        let logits = graph.linear("head", x, self.classes, LinearInit::pytorch(features))?;
        let loss = graph.cross_entropy("loss", logits, label, 0.0)?;
        let correct = graph.correct("correct", logits, label)?;
        let nodes: Vec<NodeId> = graph.ids().filter(|&id| graph.node(id).op != Op::Input).collect();
        let taps = self.taps.iter().map(|&tap| nodes[tap % nodes.len()]).collect();
        Ok(Model { graph: builder.graph, logits, loss, correct, taps })
    }
}

/// Whether two values of some window are so near each other that rounding decides which is greater.
pub fn is_near_a_tie(model: &Model, values: &Values) -> bool {
    model.graph.nodes().iter().any(|node| {
        let Op::MaxPool2d(pool) = node.op else { return false };
        let input = &model.graph.node(node.inputs[0]).shape.0;
        let x = values.of(node.inputs[0]);
        let len: usize = input.iter().product();
        let near = |x: &[f64], row: usize, column: usize, channel: usize| {
            let inside = |at: usize, len: usize| at >= pool.padding && at < len + pool.padding;
            let mut window: Vec<f64> = Vec::new();
            for y in row * pool.stride..row * pool.stride + pool.kernel {
                for z in column * pool.stride..column * pool.stride + pool.kernel {
                    if inside(y, input[0]) && inside(z, input[1]) {
                        let pixel = (y - pool.padding) * input[1] + z - pool.padding;
                        window.push(x[pixel * input[2] + channel]);
                    }
                }
            }
            window.sort_unstable_by(|a, b| b.total_cmp(a));
            window.windows(2).next().is_some_and(|two| two[0] != two[1] && two[0] - two[1] < 1e-5)
        };
        let [height, width, channels] = [0, 1, 2].map(|axis| node.shape.0[axis]);
        x.chunks_exact(len).any(|x| {
            (0..height * width * channels).any(|i| near(x, i / channels / width, i / channels % width, i % channels))
        })
    })
}

fn activation() -> impl Strategy<Value = Option<Activation>> {
    let relu = Just(Some(Activation::Relu));
    let relu6 = Just(Some(Activation::Relu6));
    prop_oneof![3 => relu, 1 => relu6, 1 => Just(Some(Activation::Gelu)), 1 => Just(None)]
}

fn piece() -> impl Strategy<Value = MapPiece> {
    let channels = || prop::sample::select(vec![1usize, 5, 6, 16, 17, 34, 67]);
    let window = prop::sample::select(vec![
        (1usize, 2usize, 0usize),
        (2, 1, 0),
        (3, 1, 1),
        (3, 1, 1),
        (3, 2, 1),
        (2, 2, 0),
        (2, 3, 1),
        (5, 1, 2),
    ]);
    let rest = (any::<[bool; 4]>(), activation());
    let convolution =
        (channels(), window, rest).prop_map(|(channels, (kernel, stride, padding), (flags, activation))| {
            let [grouped, bias, drop, add] = flags;
            MapPiece::Convolution { channels, kernel, stride, padding, grouped, bias, activation, drop, add }
        });
    // The same number of channels as before often enough for sums.
    let residual = (any::<[bool; 2]>(), activation()).prop_map(|([bias, grouped], activation)| MapPiece::Convolution {
        channels: 6,
        kernel: 3,
        stride: 1,
        padding: 1,
        grouped,
        bias,
        activation,
        drop: false,
        add: true,
    });
    let pools =
        vec![Pool::new(2), Pool { kernel: 3, stride: 2, padding: 1 }, Pool { kernel: 2, stride: 1, padding: 0 }];
    prop_oneof![
        4 => convolution,
        3 => residual,
        1 => (1usize..4).prop_map(|kernel| MapPiece::Twice { kernel }),
        3 => (any::<bool>(), prop::sample::select(pools)).prop_map(|(largest, pool)| MapPiece::Pool { largest, pool }),
        1 => (1usize..8, any::<bool>()).prop_map(|(most_groups, relu)| MapPiece::GroupNorm { most_groups, relu }),
        2 => any::<bool>().prop_map(|relu| MapPiece::BatchNorm { relu }),
        1 => Just(MapPiece::Frozen),
        1 => any::<bool>().prop_map(|add| MapPiece::ScaleFeatures { add }),
        1 => channels().prop_map(|channels| MapPiece::Pixels { channels }),
    ]
}

/// Any small network.
pub fn map_spec() -> impl Strategy<Value = MapSpec> {
    let image = (1usize..4, prop::sample::select(vec![2usize, 5, 6]), prop::sample::select(vec![4usize, 7]));
    let rest = (prop::collection::vec(piece(), 1..5), any::<bool>(), 2usize..12);
    (image, rest, prop::collection::vec(any::<usize>(), 0..3)).prop_map(
        |((channels, height, width), (pieces, flat, classes), taps)| MapSpec {
            image: [channels, height, width],
            pieces,
            flat,
            classes,
            taps,
        },
    )
}
