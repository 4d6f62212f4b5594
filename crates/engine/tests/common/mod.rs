//! Random small models, numbers for them, and their comparison with the reference in f64.

mod maps;

use maps::{MapSpec, map_spec};
use proptest::prelude::*;
use vitreous_engine::graph::{Graph, GraphError, Init, NodeId, ParamId};
use vitreous_engine::ops::{Activation, LinearInit, Op};
use vitreous_engine::random::Key;
use vitreous_engine::reference::{Mode, Reference, Values};
use vitreous_engine::{Examples, Parameters, Step, autodiff};

/// One operation of a random model. A number of an operand counts back from the value made last.
#[derive(Clone, Copy, Debug)]
pub enum Piece {
    /// A layer that two functions read, so that neither may be fused into it.
    Twice {
        of: usize,
        activations: [Activation; 2],
    },
    /// Two norms of one value, which have different statistics.
    TwoNorms {
        of: usize,
    },
    Linear {
        of: usize,
        bias: bool,
        add: bool,
    },
    /// A layer to another width, what may be fused into it, and one back.
    Mlp {
        of: usize,
        hidden: usize,
        activation: Activation,
        drop: [bool; 2],
        bias: bool,
        add: bool,
    },
    Activate {
        of: usize,
        activation: Activation,
    },
    LayerNorm {
        of: usize,
        eps: f32,
        share: NormShare,
        relu: bool,
    },
    Dropout {
        of: usize,
        rate: f32,
    },
    Add {
        of: [usize; 2],
    },
    Table {
        of: usize,
        extra: usize,
        shared: bool,
    },
    Constant {
        of: usize,
    },
    Attention {
        of: usize,
        scale: f32,
        dropout: f32,
        bias: bool,
        add: bool,
    },
}

/// Which parameters a layer norm has in common with earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormShare {
    Nothing,
    Both,
    Weight,
    Bias,
}

/// What the head reads.
#[derive(Clone, Copy, Debug)]
pub enum Pool {
    Mean,
    Select(usize),
}

/// How a model starts.
#[derive(Clone, Copy, Debug)]
pub enum Stem {
    /// Tokens are given as they are.
    Tokens,
    /// Patches of an image, mapped to tokens.
    Patches { channels: usize, patch: usize, rows: usize, columns: usize },
}

/// A random model: on tokens, or on maps.
#[derive(Clone, Debug)]
pub enum Spec {
    Tokens(TokenSpec),
    Maps(MapSpec),
}

/// A random model on tokens.
#[derive(Clone, Debug)]
pub struct TokenSpec {
    pub stem: Stem,
    pub tokens: usize,
    pub heads: usize,
    pub head_dim: usize,
    pub class_token: bool,
    pub pieces: Vec<Piece>,
    pub pool: Pool,
    pub classes: usize,
    pub smoothing: f32,
    /// Values that are asked for, by their number among all values made.
    pub taps: Vec<usize>,
}

/// A model with the nodes that tests ask for.
pub struct Model {
    pub graph: Graph,
    pub logits: NodeId,
    pub loss: NodeId,
    pub correct: NodeId,
    pub taps: Vec<NodeId>,
}

struct Builder {
    graph: Graph,
    values: Vec<NodeId>,
    tables: Vec<(ParamId, usize)>,
    norms: Vec<[ParamId; 2]>,
    features: usize,
    heads: usize,
    names: usize,
}

fn linear_init(fan_in: usize, bias: bool) -> LinearInit {
    let LinearInit { weight, bias: rule } = LinearInit::pytorch(fan_in);
    LinearInit { weight, bias: rule.filter(|_| bias) }
}

impl Builder {
    fn name(&mut self, kind: &str) -> String {
        self.names += 1;
        format!("{kind}{}", self.names)
    }

    fn operand(&self, back: usize) -> NodeId {
        self.values[self.values.len() - 1 - back % self.values.len()]
    }

    fn linear(&mut self, x: NodeId, out: usize, bias: bool) -> Result<NodeId, GraphError> {
        let name = self.name("linear");
        let fan_in = self.graph.node(x).shape.features();
        self.graph.linear(&name, x, out, linear_init(fan_in, bias))
    }

    /// A layer norm's parameters, of which some may be those of the norm before.
    fn norm_parameters(&mut self, share: NormShare) -> Result<[ParamId; 2], GraphError> {
        let last = self.norms.last().copied().filter(|_| share != NormShare::Nothing);
        let name = self.name("norm");
        let range = Init::Uniform { bound: 1.0 };
        let features = self.features;
        let mut own = |part: &str| self.graph.new_parameter(&format!("{name}.{part}"), [features], range);
        let params = match last {
            None => [own("weight")?, own("bias")?],
            Some(both) if share == NormShare::Both => both,
            Some([weight, _]) if share == NormShare::Weight => [weight, own("bias")?],
            Some([_, bias]) => [own("weight")?, bias],
        };
        self.norms.push(params);
        Ok(params)
    }

    fn piece(&mut self, piece: Piece) -> Result<NodeId, GraphError> {
        let name = self.name("piece");
        match piece {
            Piece::Linear { of, bias, add } => {
                let x = self.operand(of);
                let y = self.linear(x, self.features, bias)?;
                if add { self.graph.add(&format!("{name}.sum"), x, y) } else { Ok(y) }
            }
            Piece::Mlp { of, hidden, activation, drop, bias, add } => {
                let x = self.operand(of);
                let mut y = self.linear(x, hidden, bias)?;
                y = self.graph.activation(&format!("{name}.act"), y, activation)?;
                y = self.graph.dropout(&format!("{name}.drop1"), y, if drop[0] { 0.3 } else { 0.0 })?;
                y = self.linear(y, self.features, bias)?;
                y = self.graph.dropout(&format!("{name}.drop2"), y, if drop[1] { 0.2 } else { 0.0 })?;
                if add { self.graph.add(&format!("{name}.sum"), x, y) } else { Ok(y) }
            }
            Piece::Activate { of, activation } => self.graph.activation(&name, self.operand(of), activation),
            Piece::Twice { of, activations } => {
                let y = self.linear(self.operand(of), self.features, true)?;
                let [a, b] = activations;
                let a = self.graph.activation(&format!("{name}.a"), y, a)?;
                let b = self.graph.activation(&format!("{name}.b"), y, b)?;
                self.graph.add(&name, a, b)
            }
            Piece::TwoNorms { of } => {
                let x = self.operand(of);
                let [a, b] = [self.norm_parameters(NormShare::Nothing)?, self.norm_parameters(NormShare::Both)?];
                let a = self.graph.layer_norm(&format!("{name}.a"), x, a, 1e-2)?;
                let b = self.graph.layer_norm(&format!("{name}.b"), x, b, 0.5)?;
                self.graph.add(&name, a, b)
            }
            Piece::LayerNorm { of, eps, share, relu } => {
                let params = self.norm_parameters(share)?;
                let y = self.graph.layer_norm(&name, self.operand(of), params, eps)?;
                if relu { self.graph.activation(&format!("{name}.relu"), y, Activation::Relu) } else { Ok(y) }
            }
            Piece::Dropout { of, rate } => self.graph.dropout(&name, self.operand(of), rate),
            Piece::Add { of } => {
                let [a, b] = of.map(|of| self.operand(of));
                self.graph.add(&name, a, b)
            }
            Piece::Table { of, extra, shared } => {
                let x = self.operand(of);
                let tokens = self.graph.node(x).shape.rows();
                let known = self.tables.iter().find(|(_, positions)| shared && *positions >= tokens);
                let table = match known {
                    Some(&(table, _)) => table,
                    None => {
                        let shape = [1, tokens + extra, self.features];
                        let table = format!("{name}.table");
                        let table = self.graph.new_parameter(&table, shape, Init::Normal { std: 0.3 })?;
                        self.tables.push((table, tokens + extra));
                        table
                    }
                };
                self.graph.add_table(&name, x, table)
            }
            Piece::Constant { of } => {
                let x = self.operand(of);
                let values: Vec<f32> = (0..self.graph.node(x).shape.len()).map(|i| (i as f32 * 0.37).sin()).collect();
                self.graph.add_constant(&name, x, values.into())
            }
            Piece::Attention { of, scale, dropout, bias, add } => {
                let x = self.operand(of);
                let qkv = self.linear(x, 3 * self.features, bias)?;
                let y = self.graph.attention(&name, qkv, self.heads, scale, dropout)?;
                let y = self.linear(y, self.features, bias)?;
                if add { self.graph.add(&format!("{name}.sum"), x, y) } else { Ok(y) }
            }
        }
    }
}

impl Spec {
    /// Builds the model.
    pub fn build(&self) -> Model {
        let model = match self {
            Spec::Tokens(spec) => spec.try_build(),
            Spec::Maps(spec) => spec.try_build(),
        };
        model.expect("a spec's shapes fit")
    }
}

impl TokenSpec {
    fn try_build(&self) -> Result<Model, GraphError> {
        let features = self.heads * self.head_dim;
        let graph = Graph::new();
        let mut builder =
            Builder { graph, values: vec![], tables: vec![], norms: vec![], features, heads: self.heads, names: 0 };
        let mut x = match self.stem {
            Stem::Tokens => builder.graph.input("x", [self.tokens, features])?,
            Stem::Patches { channels, patch, rows, columns } => {
                let image = builder.graph.input("image", [channels, patch * rows, patch * columns])?;
                let patches = builder.graph.patches("patches", image, patch)?;
                builder.linear(patches, features, true)?
            }
        };
        if self.class_token {
            let token = builder.graph.new_parameter("class_token", [1, 1, features], Init::Normal { std: 0.3 })?;
            x = builder.graph.prepend_token("prepend", x, token)?;
        }
        let label = builder.graph.input("label", [])?;
        builder.values.push(x);
        for &piece in &self.pieces {
            let value = builder.piece(piece)?;
            builder.values.push(value);
        }
        let last = builder.operand(0);
        let pooled = match self.pool {
            Pool::Mean => builder.graph.mean_tokens("pool", last)?,
            Pool::Select(index) => {
                let tokens = builder.graph.node(last).shape.rows();
                builder.graph.select_token("pool", last, index % tokens)?
            }
        };
        let logits = builder.linear(pooled, self.classes, true)?;
        let loss = builder.graph.cross_entropy("loss", logits, label, self.smoothing)?;
        let correct = builder.graph.correct("correct", logits, label)?;
        let nodes: Vec<NodeId> = builder.graph.ids().filter(|&id| builder.graph.node(id).op != Op::Input).collect();
        let taps = self.taps.iter().map(|&tap| nodes[tap % nodes.len()]).collect();
        Ok(Model { graph: builder.graph, logits, loss, correct, taps })
    }
}

fn activation() -> impl Strategy<Value = Activation> {
    prop::sample::select(vec![Activation::Relu, Activation::Gelu, Activation::GeluTanh, Activation::Tanh])
}

/// Mostly the value made last, so that there is something to fuse.
fn operand() -> impl Strategy<Value = usize> {
    prop_oneof![5 => Just(0usize), 2 => Just(1), 1 => 0usize..7]
}

fn piece() -> impl Strategy<Value = Piece> {
    let of = operand;
    let width = prop::sample::select(vec![1usize, 5, 16, 17, 31, 33, 65, 97]);
    let eps = prop::sample::select(vec![1e-2f32, 3e-2]);
    let share = prop::sample::select(vec![NormShare::Nothing, NormShare::Both, NormShare::Weight, NormShare::Bias]);
    prop_oneof![
        2 => (of(), any::<[bool; 2]>()).prop_map(|(of, [bias, add])| Piece::Linear { of, bias, add }),
        3 => (of(), width, activation(), any::<[bool; 2]>(), any::<bool>(), any::<bool>()).prop_map(
            |(of, hidden, activation, drop, bias, add)| Piece::Mlp { of, hidden, activation, drop, bias, add }
        ),
        2 => (of(), activation()).prop_map(|(of, activation)| Piece::Activate { of, activation }),
        1 => (of(), [activation(), activation()]).prop_map(|(of, activations)| Piece::Twice { of, activations }),
        1 => of().prop_map(|of| Piece::TwoNorms { of }),
        3 => (of(), eps, share, any::<bool>()).prop_map(
            |(of, eps, share, relu)| Piece::LayerNorm { of, eps, share, relu }
        ),
        1 => of().prop_map(|of| Piece::Dropout { of, rate: 0.25 }),
        3 => [of(), of()].prop_map(|of| Piece::Add { of }),
        1 => (of(), 0usize..3, any::<bool>()).prop_map(|(of, extra, shared)| Piece::Table { of, extra, shared }),
        1 => of().prop_map(|of| Piece::Constant { of }),
        2 => (of(), any::<[bool; 3]>()).prop_map(|(of, [dropout, bias, add])| Piece::Attention {
            of,
            scale: 0.5,
            dropout: if dropout { 0.2 } else { 0.0 },
            bias,
            add,
        }),
    ]
}

fn stem() -> impl Strategy<Value = Stem> {
    let patches = (1usize..3, 1usize..4, 1usize..3, 1usize..4)
        .prop_map(|(channels, patch, rows, columns)| Stem::Patches { channels, patch, rows, columns });
    prop_oneof![Just(Stem::Tokens), patches]
}

/// Any small model.
pub fn spec() -> impl Strategy<Value = Spec> {
    prop_oneof![token_spec().prop_map(Spec::Tokens), map_spec().prop_map(Spec::Maps)]
}

fn token_spec() -> impl Strategy<Value = TokenSpec> {
    let widths =
        prop::sample::select(vec![(1usize, 1usize), (1, 5), (2, 3), (3, 5), (1, 17), (2, 16), (5, 7), (1, 67)]);
    let pool = prop_oneof![Just(Pool::Mean), (0usize..5).prop_map(Pool::Select)];
    let size = (stem(), prop::sample::select(vec![1usize, 2, 5, 7]), widths, any::<bool>());
    let rest = (prop::collection::vec(piece(), 0..7), pool, 2usize..12, any::<bool>());
    (size, rest, prop::collection::vec(any::<usize>(), 0..3)).prop_map(|(size, rest, taps)| {
        let (stem, tokens, (heads, head_dim), class_token) = size;
        let (pieces, pool, classes, smooth) = rest;
        let smoothing = if smooth { 0.1 } else { 0.0 };
        TokenSpec { stem, tokens, heads, head_dim, class_token, pieces, pool, classes, smoothing, taps }
    })
}

/// Numbers for a model's inputs: pixels or tokens, then labels.
pub struct Data {
    pub inputs: Vec<Vec<f64>>,
    lens: Vec<usize>,
}

impl Data {
    /// Makes numbers that f32 holds exactly.
    pub fn new(model: &Model, images: usize) -> Self {
        let inputs: Vec<_> = model.graph.nodes().iter().filter(|node| node.op == Op::Input).collect();
        let lens: Vec<usize> = inputs.iter().map(|node| node.shape.len()).collect();
        let classes = model.graph.node(model.logits).shape.len() as u64;
        let x = (0..(images * lens[0]) as u64).map(|i| f64::from(Key::new(11).range(i, -1.0, 1.0) as f32)).collect();
        let labels = (0..images as u64).map(|i| Key::new(12).below(i, classes) as f64).collect();
        Data { inputs: vec![x, labels], lens }
    }
}

impl Examples for Data {
    fn fill(&self, input: usize, example: usize, values: &mut [f32]) {
        let len = self.lens[input];
        for (value, &x) in values.iter_mut().zip(&self.inputs[input][example * len..]) {
            *value = x as f32;
        }
    }
}

/// A step whose images do not stand at the start of the epoch.
pub fn step(data: &Data, images: usize) -> Step<'_> {
    Step { dropout: Key::new(77), first: 1009, ..Step::new(images, data, 0.01) }
}

/// The keys that dropout has in such a step.
pub fn image_keys(step: &Step) -> Vec<Key> {
    (0..step.images as u64).map(|i| step.dropout.with(step.first + i)).collect()
}

fn params_of(graph: &Graph, parameters: &Parameters) -> Vec<Vec<f64>> {
    let ids = graph.parameters().iter().map(|param| graph.find_parameter(&param.name).expect("its own"));
    ids.map(|id| parameters.get(id).iter().map(|&x| f64::from(x)).collect()).collect()
}

/// Everything of a training step in f64: the values of all nodes and the gradients.
pub fn reference_step(model: &Model, parameters: &Parameters, data: &Data, step: &Step) -> Values {
    let training = autodiff::differentiate(&model.graph, model.loss);
    let keys = image_keys(step);
    let mode = Mode::Train { image_keys: Some(&keys), batch: step.images };
    Reference::new(&training.graph, params_of(&model.graph, parameters)).run(&data.inputs, mode)
}

/// The values of all nodes without dropout, in f64.
pub fn reference_infer(model: &Model, parameters: &Parameters, data: &Data) -> Values {
    Reference::new(&model.graph, params_of(&model.graph, parameters)).run(&data.inputs, Mode::Infer)
}

/// Whether some ReLU's argument is so near 0, or two values of a window so near each other, that rounding decides.
pub fn is_near_a_kink(model: &Model, values: &Values) -> bool {
    let relus = model.graph.nodes().iter().filter(|node| node.op == Op::Activation(Activation::Relu));
    relus.flat_map(|node| values.of(node.inputs[0])).any(|&x| x != 0.0 && x.abs() < 1e-5)
        || maps::is_near_a_tie(model, values)
}
