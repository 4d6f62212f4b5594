//! A model as a tree of modules with PyTorch's names, as torchinfo and `print(model)` show one.
//!
//! Layers are the operations that PyTorch has as modules, or that a model of ours has instead. What PyTorch computes by a
//! function, such as a sum, has no module; only sums are kept, for drawings. Shapes have PyTorch's order of axes.

use vitreous_engine::Graph;
use vitreous_engine::graph::{Node, ParameterKind};
use vitreous_engine::ops::{Activation, Attention, Convolution, Op, Pool};

use super::Model;
use crate::config::model::{ConvBlock, ModelConfig};

/// What a part of a model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An operation, with or without parameters.
    Layer,
    /// A group of others.
    Group,
    /// The sum that ends a residual connection.
    Sum,
}

/// A part of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    /// What it is.
    pub kind: Kind,
    /// Its name in the group.
    pub name: String,
    /// The name of its class, such as `Linear`.
    pub class: String,
    /// Its settings, such as `in_features=64, out_features=10, bias=True`.
    pub settings: String,
    /// The shape of its input, without the batch.
    pub input: Vec<usize>,
    /// The shape of its output, without the batch.
    pub output: Vec<usize>,
    /// Number of trained values of its own, without those that an earlier layer has too.
    pub params: u64,
    /// Number of trained tensors of its own.
    pub tensors: usize,
    /// Whether an earlier layer has its parameters.
    pub is_shared: bool,
    /// Its kernel, if it has one.
    pub kernel: Option<String>,
    /// Multiply-adds of its own, for one image.
    pub mult_adds: u64,
    /// Of a sum: the part of the group before which the connection starts.
    pub skips: Option<usize>,
    /// Number of the node that it reads first.
    reads: Option<usize>,
    /// Parts of a group.
    pub children: Vec<Module>,
}

/// Returns the tree of a model.
pub fn modules(model: &Model, config: &ModelConfig) -> Module {
    let class = match config {
        ModelConfig::Vit(_) => "VisionTransformer",
        ModelConfig::SequenceVit(_) => "SequenceVisionTransformer",
        ModelConfig::Reader(_) => "StripReader",
        ModelConfig::Stack(_) => "ConvolutionalNetwork",
        ModelConfig::Convnet(convnet) => match convnet.spec().block {
            ConvBlock::Basic | ConvBlock::Bottleneck => "ResNet",
            ConvBlock::Inverted => "MobileNetV2",
            ConvBlock::Convnext => "ConvNeXt",
        },
    };
    let graph = &model.graph;
    let mut root = Module::group("");
    root.input = graph.node(model.image).shape.0.clone();
    root.output = graph.node(model.logits).shape.0.clone();
    let mut counted = vec![false; graph.parameters().len()];
    for node in &graph.nodes()[..=model.logits.index()] {
        if node.op != Op::Input {
            root.place(graph, node, &mut counted);
        }
    }
    root.tidy();
    root.class = class.to_string();
    root
}

impl Module {
    fn group(name: &str) -> Module {
        Module {
            kind: Kind::Group,
            name: name.to_string(),
            class: String::new(),
            settings: String::new(),
            input: Vec::new(),
            output: Vec::new(),
            params: 0,
            tensors: 0,
            is_shared: false,
            kernel: None,
            mult_adds: 0,
            skips: None,
            reads: None,
            children: Vec::new(),
        }
    }

    /// Puts a node where its name says.
    fn place(&mut self, graph: &Graph, node: &Node, counted: &mut [bool]) {
        let (input, output) = (shape_of(read_by(graph, node)), shape_of(node));
        let reads = node.inputs.first().map(|id| id.index());
        let path: Vec<&str> = node.name.split('.').collect();
        let mut group = self;
        let mut name = path[path.len() - 1].to_string();
        for (depth, part) in path[..path.len() - 1].iter().enumerate() {
            let at = group.children.iter().position(|child| child.name == *part);
            let at = at.unwrap_or_else(|| {
                group.children.push(Module { input: input.clone(), reads, ..Module::group(part) });
                group.children.len() - 1
            });
            // PyTorch's layers have no layers inside: they follow.
            if group.children[at].kind == Kind::Layer {
                name = path[depth..].join("_");
                break;
            }
            group = &mut group.children[at];
            group.output.clone_from(&output);
        }
        match &node.op {
            Op::Attention(attention) => group.attend(*attention, &node.shape.0, node.shape.rows()),
            Op::Attend(attention) => {
                group.attend(*attention, &node.shape.0, graph.node(node.inputs[1]).shape.rows());
            }
            Op::Add => {
                let is_group = |child: &&mut Module| child.name == name;
                // A residual connection of a stack has the name of its group.
                let group = match group.children.iter_mut().find(is_group) {
                    Some(own) => {
                        own.output.clone_from(&output);
                        own
                    }
                    None => group,
                };
                let skips = group.children.iter().position(|child| child.reads == reads);
                let sum = Module { kind: Kind::Sum, input, output, skips, ..Module::group(&name) };
                group.children.push(Module { class: "Sum".to_string(), ..sum });
            }
            _ => {
                if let Some(layer) = layer(graph, node, counted) {
                    group.children.push(Module { name, input, output, reads, ..layer });
                }
            }
        }
    }

    /// Adds what an attention computes between its projections.
    fn attend(&mut self, attention: Attention, shape: &[usize], keys: usize) {
        let (queries, width) = (shape[0], shape[shape.len() - 1]);
        self.mult_adds += 2 * (queries * keys * width) as u64;
        let mut settings = format!("num_heads={}, head_dim={}", attention.heads, width / attention.heads);
        settings += &format!(", scale={:?}", (f64::from(attention.scale * attention.out_scale) * 1e6).round() / 1e6);
        settings += &format!(", dropout={:?}", attention.dropout.map_or(0.0, |dropout| dropout.rate));
        if attention.causal {
            settings += ", causal=True";
        }
        self.settings = settings;
    }

    /// Removes groups of functions alone and gives the others classes.
    fn tidy(&mut self) {
        self.children.iter_mut().for_each(Module::tidy);
        self.children.retain(|child| child.kind != Kind::Group || !child.children.is_empty() || child.mult_adds > 0);
        if self.kind == Kind::Group {
            self.class = self.class_of_group();
        }
    }

    fn class_of_group(&self) -> String {
        let has = |name: &str| self.children.iter().any(|child| child.name == name);
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let are_numbered = self.children.iter().all(|child| is_number(&child.name));
        let class = match self.name.as_str() {
            "layers" | "residual" | "shortcut" | "proj" | "stem" | "downsample" => "Sequential",
            name if name.starts_with("layer") => "Sequential",
            _ if are_numbered => "ModuleList",
            "attn" | "cross_attn" => "Attention",
            "patch_embed" => "PatchEmbed",
            _ if has("conv_pwl") => "InvertedResidual",
            _ if has("conv_dw") && has("conv_pw") => "DepthwiseSeparableConv",
            _ if has("conv_dw") => "ConvNeXtBlock",
            name if is_number(name) && has("blocks") => "ConvNeXtStage",
            _ if has("conv3") => "Bottleneck",
            _ if has("conv2") => "BasicBlock",
            _ if has("cross_attn") => "DecoderBlock",
            _ if has("attn") => "EncoderBlock",
            _ if has("theta") => "SelfAttention2d",
            _ if has("residual") => "Residual",
            _ if has("q") => "AttentionHead",
            "" => "",
            name => return crate::numbers::capital(name),
        };
        class.to_string()
    }

    /// All parts in the order in which they are listed, each with its depth; itself is the first.
    pub fn flat(&self) -> Vec<(usize, &Module)> {
        fn add<'a>(module: &'a Module, depth: usize, list: &mut Vec<(usize, &'a Module)>) {
            list.push((depth, module));
            module.children.iter().for_each(|child| add(child, depth + 1, list));
        }
        let mut list = Vec::new();
        add(self, 0, &mut list);
        list.retain(|(_, module)| module.kind != Kind::Sum);
        list
    }

    /// Whether another module is the same but for its name, with all of its parts.
    pub fn is_like(&self, other: &Module) -> bool {
        let own = |module: &Module| Module { name: String::new(), reads: None, children: Vec::new(), ..module.clone() };
        own(self) == own(other)
            && self.children.len() == other.children.len()
            && self.children.iter().zip(&other.children).all(|(a, b)| a.name == b.name && a.is_like(b))
    }

    /// Trained values, with those of all parts.
    pub fn all_params(&self) -> u64 {
        self.params + self.children.iter().map(Module::all_params).sum::<u64>()
    }
}

/// The layer that a node is; none for a function.
fn layer(graph: &Graph, node: &Node, counted: &mut [bool]) -> Option<Module> {
    let mut trained = 0;
    let mut own = (0, 0);
    for id in &node.params {
        let param = graph.parameter(*id);
        if param.kind == ParameterKind::Trained {
            trained += param.shape.len() as u64;
            if !std::mem::replace(&mut counted[id.index()], true) {
                own = (own.0 + param.shape.len() as u64, own.1 + 1);
            }
        }
    }
    let weight = node.params.first().map_or(&[][..], |id| &graph.parameter(*id).shape.0);
    let bias = if node.params.len() > 1 { "True" } else { "False" };
    let (rows, features) = (node.shape.rows() as u64, node.shape.features());
    let input = &read_by(graph, node).shape;
    let mut kernel = None;
    let mut mult_adds = 0;
    let mut square = |side: usize| kernel = Some(format!("[{side}, {side}]"));
    let (class, settings) = match &node.op {
        Op::Patches { patch } => {
            square(*patch);
            ("Patches", format!("patch_size={patch}"))
        }
        // A kernel of one pixel is computed as a linear layer.
        Op::Linear if weight.len() == 4 && input.0.len() == 3 => {
            square(1);
            mult_adds = trained * rows;
            ("Conv2d", convolution(Convolution::new(weight[0], 1), weight[1], bias))
        }
        Op::Linear => {
            mult_adds = trained * rows;
            ("Linear", format!("in_features={}, out_features={features}, bias={bias}", input.features()))
        }
        Op::PerHeadLinear { heads, .. } => {
            mult_adds = trained * rows;
            let sizes = format!("in_features={}, out_features={features}", input.features());
            ("PerHeadLinear", format!("{sizes}, num_heads={heads}, bias={bias}"))
        }
        Op::Conv2d(conv) => {
            square(conv.kernel);
            mult_adds = trained * rows;
            ("Conv2d", convolution(*conv, input.features(), bias))
        }
        Op::LayerNorm { eps } => {
            mult_adds = trained;
            ("LayerNorm", format!("({features},), eps={}, elementwise_affine=True", number(*eps)))
        }
        Op::GroupNorm { groups, eps } => {
            mult_adds = trained;
            ("GroupNorm", format!("{groups}, {features}, eps={}, affine=True", number(*eps)))
        }
        Op::BatchNorm { eps, momentum } => {
            mult_adds = trained;
            let momentum = momentum.unwrap_or(0.0);
            let affine = "affine=True, track_running_stats=True";
            ("BatchNorm2d", format!("{features}, eps={}, momentum={momentum}, {affine}", number(*eps)))
        }
        Op::Activation(Activation::Relu) => ("ReLU", String::new()),
        Op::Activation(Activation::Relu6) => ("ReLU6", String::new()),
        Op::Activation(Activation::Gelu) => ("GELU", "approximate='none'".to_string()),
        Op::Activation(Activation::GeluTanh) => ("GELU", "approximate='tanh'".to_string()),
        Op::Activation(Activation::Tanh) => ("Tanh", String::new()),
        Op::Dropout(dropout) => ("Dropout", format!("p={}, inplace=False", dropout.rate)),
        Op::ScaleFeatures => {
            mult_adds = trained;
            ("LayerScale", features.to_string())
        }
        Op::DropPath(dropout) => ("DropPath", format!("drop_prob={:.3}", dropout.rate)),
        Op::Softmax => ("Softmax", "dim=-1".to_string()),
        Op::MaxPool2d(pool) => {
            kernel = Some(pool.kernel.to_string());
            ("MaxPool2d", format!("{}, dilation=1, ceil_mode=False", window(*pool)))
        }
        Op::AvgPool2d(pool) => {
            kernel = Some(pool.kernel.to_string());
            ("AvgPool2d", window(*pool))
        }
        Op::MeanTokens if input.0.len() == 3 => ("GlobalAvgPool2d", String::new()),
        Op::MeanTokens => ("MeanPool", "dim=1".to_string()),
        Op::SelectToken { index } => ("SelectToken", format!("index={index}")),
        Op::ChannelsFirst if node.shape.0.len() == 1 => ("Flatten", "start_dim=1, end_dim=-1".to_string()),
        // The reshape of patching "flat".
        Op::Reshape if node.name == "patch_embed.patches" => ("FlatTokens", format!("{rows}, {features}")),
        Op::Embedding => ("Embedding", format!("{}, {}", weight[0], weight[1])),
        Op::PrependToken | Op::TrainedConstant => ("ClassToken", format!("1, {features}")),
        Op::AddTable => ("PositionEmbedding", format!("{}, {features}", weight[weight.len() - 2])),
        Op::AddConstant(_) => ("PositionEncoding", format!("{rows}, {features}")),
        _ => return None,
    };
    Some(Module {
        kind: Kind::Layer,
        class: class.to_string(),
        settings,
        params: own.0,
        tensors: own.1,
        is_shared: own.1 == 0 && trained > 0,
        kernel,
        mult_adds,
        ..Module::group("")
    })
}

fn convolution(conv: Convolution, in_channels: usize, bias: &str) -> String {
    let Convolution { out_channels, kernel, stride, padding, groups } = conv;
    let mut text =
        format!("{in_channels}, {out_channels}, kernel_size=({kernel}, {kernel}), stride=({stride}, {stride})");
    if padding > 0 {
        text += &format!(", padding=({padding}, {padding})");
    }
    if groups > 1 {
        text += &format!(", groups={groups}");
    }
    text + if bias == "True" { "" } else { ", bias=False" }
}

fn window(Pool { kernel, stride, padding }: Pool) -> String {
    format!("kernel_size={kernel}, stride={stride}, padding={padding}")
}

/// A small number as Python writes it: `1e-05`.
fn number(value: f32) -> String {
    let text = format!("{value:e}");
    match text.split_once("e-") {
        Some((digits, power)) if value < 1e-4 => format!("{digits}e-{power:0>2}"),
        _ => format!("{value}"),
    }
}

/// A node's shape with PyTorch's order of axes; maps of ours have their channels last.
fn shape_of(node: &Node) -> Vec<usize> {
    match node.shape.0[..] {
        [height, width, channels] if node.op != Op::Input => vec![channels, height, width],
        _ => node.shape.0.clone(),
    }
}

/// The node that a node reads first, or itself where it reads none.
fn read_by<'a>(graph: &'a Graph, node: &'a Node) -> &'a Node {
    node.inputs.first().map_or(node, |id| graph.node(*id))
}
