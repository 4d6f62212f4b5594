//! Random small models, numbers for them, and their comparison with the reference in f64.

mod maps;
mod strategy;

use maps::MapSpec;
use vitreous_engine::graph::{Graph, GraphError, Init, NodeId, ParamId};
use vitreous_engine::ops::{Activation, AttentionOptions, LinearInit, Op, Over};
use vitreous_engine::random::Key;
use vitreous_engine::reference::{Mode, Reference, Values};
use vitreous_engine::{Examples, Parameters, Step, autodiff};

pub use strategy::spec;

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
    /// Attention whose queries are one value and whose keys are some tokens of another.
    Attend {
        of: [usize; 2],
        keys: usize,
        axis: Over,
        causal: bool,
        masked: bool,
        dropout: f32,
        drop_path: bool,
    },
    /// Projections of each head on its own, with attention when there are three.
    PerHead {
        of: usize,
        count: usize,
        bias: bool,
        add: bool,
    },
    /// Features and tokens cut apart, put together in another order, and given other axes.
    Move {
        of: usize,
        cut: usize,
    },
    Softmax {
        of: usize,
        factor: f32,
    },
    /// A value that is a parameter.
    Trained {
        of: usize,
    },
    /// Vectors looked up by number.
    Embedding {
        of: usize,
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
    ids: NodeId,
    mask: NodeId,
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
            Piece::Attend { of, keys, axis, causal, masked, dropout, drop_path } => {
                let [x, other] = of.map(|of| self.operand(of));
                let tokens = self.graph.node(other).shape.rows();
                let keys = if causal { tokens } else { 1 + keys % tokens };
                let some = self.graph.slice_tokens(&format!("{name}.some"), other, tokens - keys, keys)?;
                let mask = masked
                    .then_some(self.mask)
                    .map(|mask| self.graph.slice_features(&format!("{name}.mask"), mask, 0, keys));
                let q = self.linear(x, self.features, true)?;
                let kv = self.linear(some, 2 * self.features, true)?;
                let k = self.graph.slice_features(&format!("{name}.k"), kv, 0, self.features)?;
                let v = self.graph.slice_features(&format!("{name}.v"), kv, self.features, self.features)?;
                let options = AttentionOptions {
                    dropout_rate: dropout,
                    causal,
                    softmax: axis,
                    out_scale: 0.7,
                    ..AttentionOptions::new(self.heads, 0.5)
                };
                let y = self.graph.attend(&name, q, k, v, options, mask.transpose()?)?;
                let y = self.graph.drop_path(&format!("{name}.path"), y, if drop_path { 0.4 } else { 0.0 })?;
                self.graph.add(&format!("{name}.sum"), x, y)
            }
            Piece::PerHead { of, count, bias, add } => {
                let x = self.operand(of);
                let init = linear_init(self.features / self.heads, bias);
                let y = self.graph.per_head_linear(&format!("{name}.maps"), x, self.heads, count, init)?;
                let y = match count {
                    1 => self.graph.activation(&name, y, Activation::Relu)?,
                    3 => self.graph.attention(&name, y, self.heads, 0.8, 0.0)?,
                    _ => self.linear(y, self.features, true)?,
                };
                if add { self.graph.add(&format!("{name}.sum"), x, y) } else { Ok(y) }
            }
            Piece::Move { of, cut } => {
                let x = self.operand(of);
                let shape = self.graph.node(x).shape.clone();
                let cut = 1 + cut % self.features;
                let mut parts = vec![self.graph.slice_features(&format!("{name}.left"), x, 0, cut)?];
                if cut < self.features {
                    let left = self.features - cut;
                    parts.insert(0, self.graph.slice_features(&format!("{name}.right"), x, cut, left)?);
                }
                let y = self.graph.concat_features(&format!("{name}.join"), &parts)?;
                let y = self.graph.reshape(&format!("{name}.flat"), y, [1, shape.len()])?;
                let y = self.graph.activation(&format!("{name}.act"), y, Activation::Tanh)?;
                self.graph.reshape(&name, y, shape)
            }
            Piece::Softmax { of, factor } => {
                let y = self.graph.scale(&format!("{name}.scale"), self.operand(of), factor)?;
                self.graph.softmax(&name, y)
            }
            Piece::Trained { of } => {
                let x = self.operand(of);
                let shape = self.graph.node(x).shape.clone();
                let y = self.graph.trained_constant(&format!("{name}.value"), shape, Init::Normal { std: 0.5 })?;
                self.graph.add(&name, x, y)
            }
            Piece::Embedding { of } => {
                let x = self.operand(of);
                let tokens = self.graph.node(x).shape.rows();
                let init = Init::Normal { std: 0.5 };
                let y = self.graph.embedding(&format!("{name}.embed"), self.ids, VOCABULARY, self.features, init)?;
                let y = self.graph.slice_tokens(&format!("{name}.some"), y, 0, tokens)?;
                self.graph.add(&name, x, y)
            }
        }
    }
}

/// Numbers that an embedding knows.
const VOCABULARY: usize = 5;

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
        let mut graph = Graph::new();
        let (x, tokens) = match self.stem {
            Stem::Tokens => (graph.input("x", [self.tokens, features])?, self.tokens),
            Stem::Patches { channels, patch, rows, columns } => {
                (graph.input("image", [channels, patch * rows, patch * columns])?, rows * columns)
            }
        };
        let label = graph.input("label", [])?;
        let [ids, mask] = ["ids", "mask"].map(|name| graph.input(name, [tokens + usize::from(self.class_token)]));
        let mut builder = Builder {
            graph,
            values: vec![],
            tables: vec![],
            norms: vec![],
            features,
            heads: self.heads,
            names: 0,
            ids: ids?,
            mask: mask?,
        };
        let mut x = match self.stem {
            Stem::Tokens => x,
            Stem::Patches { patch, .. } => {
                let image = x;
                let patches = builder.graph.patches("patches", image, patch)?;
                builder.linear(patches, features, true)?
            }
        };
        if self.class_token {
            let token = builder.graph.new_parameter("class_token", [1, 1, features], Init::Normal { std: 0.3 })?;
            x = builder.graph.prepend_token("prepend", x, token)?;
        }
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
        // Numbers to look up, and the keys of each image that may be seen, where a model asks for them.
        let [ids, mask] = [13, 14].map(|seed| {
            let most = if seed == 13 { VOCABULARY as u64 } else { 2 };
            (0..(images * lens.get(2).unwrap_or(&0)) as u64).map(|i| Key::new(seed).below(i, most) as f64).collect()
        });
        Data { inputs: vec![x, labels, ids, mask], lens }
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
    let near = |kink: f64| move |&x: &f64| x != kink && (x - kink).abs() < 1e-5;
    model.graph.nodes().iter().any(|node| {
        let x = || values.of(node.inputs[0]).iter();
        match node.op {
            Op::Activation(Activation::Relu) => x().any(near(0.0)),
            Op::Activation(Activation::Relu6) => x().any(near(0.0)) || x().any(near(6.0)),
            _ => false,
        }
    }) || maps::is_near_a_tie(model, values)
}
