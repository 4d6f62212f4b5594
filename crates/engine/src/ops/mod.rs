//! The operations of a graph, one file each: shape rule, gradient rule, FLOPs and meaning.
//!
//! The files add constructors to [`Graph`]. What an operation computes is defined by the plain loops in
//! `reference`; `cpu` computes it fast.

mod activation;
mod add;
mod attention;
mod batch_norm;
mod convolution;
mod dropout;
mod embedding;
mod group_norm;
mod layer_norm;
mod layout;
mod linear;
mod loss;
mod maps;
mod patches;
mod per_head;
mod pointwise;
mod pooling;
mod tokens;

pub use activation::Activation;
pub use attention::{AttendInput, Attention, AttentionOptions, Over};
pub use convolution::Convolution;
pub use dropout::Dropout;
pub(crate) use dropout::dropout_hash;
pub use linear::LinearInit;
pub(crate) use maps::channels_and_pixels;
pub(crate) use pointwise::path_is_kept;
pub use pooling::Pool;

use crate::autodiff::Backward;
use crate::graph::{Graph, Node, NodeId};

/// The operation of a node. Only [`crate::autodiff`] makes those whose name ends in `Grad`.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// A value given for each example.
    Input,
    /// Cuts an image `[channels, height, width]` into square patches `[tokens, channels * patch * patch]`.
    Patches {
        /// Height and width of a patch, in pixels.
        patch: usize,
    },
    /// `x W^T + b` over the last axis; the bias is the second parameter, where there is one.
    Linear,
    /// `dy W`: the gradient of a linear layer's input.
    LinearInputGrad,
    /// Adds `dy^T x` to the weight's gradient and the column sums of `dy` to the bias's.
    LinearParamGrad,
    /// Normalizes the last axis, then scales and shifts it by the two parameters.
    LayerNorm {
        /// Added to the variance.
        eps: f32,
    },
    /// From `(dy, x)`: the gradient of the normalized input; adds to the gradients of scale and shift.
    LayerNormGrad {
        /// Added to the variance.
        eps: f32,
    },
    /// A function of each value.
    Activation(Activation),
    /// From `(dy, x)`: `dy` times the function's derivative at `x`.
    ActivationGrad(Activation),
    /// Zeroes values at random while training and scales the others up.
    Dropout(Dropout),
    /// From `dy`: the same values zeroed, the others scaled.
    DropoutGrad(Dropout),
    /// The sum of two values of one shape.
    Add,
    /// Multi-head self-attention of `[tokens, 3 * embed_dim]` (query, key, value) to `[tokens, embed_dim]`.
    Attention(Attention),
    /// From `(dy, qkv, context)`, the last its own result: the gradient of query, key and value.
    AttentionGrad(Attention),
    /// Prepends a trained token.
    PrependToken,
    /// From `dy`: all but the first token; adds the first to the token's gradient.
    PrependTokenGrad,
    /// Adds a trained table of `[positions, embed_dim]`, of which the first `tokens` rows are read.
    AddTable,
    /// Adds `dy` to the table's gradient; has no value of its own.
    AddTableGrad,
    /// Adds fixed numbers of the input's shape.
    AddConstant(std::sync::Arc<[f32]>),
    /// One token of `[tokens, features]`.
    SelectToken {
        /// Its index.
        index: usize,
    },
    /// From `dy`: zeros but for one token.
    SelectTokenGrad {
        /// Its index.
        index: usize,
    },
    /// The mean over the tokens of `[tokens, features]`.
    MeanTokens,
    /// From `dy`: `dy / tokens` for each token.
    MeanTokensGrad,
    // attention
    /// Multi-head attention of `(q, k, v)`, and of a mask of the keys where there is one.
    Attend(Attention),
    /// From `(dy, context, q, k, v)`, and the mask: the gradient of one of the three.
    AttendGrad(Attention, AttendInput),
    /// `count` linear maps of each head's columns; weight and bias hold the heads' own blocks.
    PerHeadLinear {
        /// Number of heads.
        heads: usize,
        /// Number of results, side by side.
        count: usize,
    },
    /// The gradient of such a layer's input.
    PerHeadLinearInputGrad {
        /// Number of heads.
        heads: usize,
        /// Number of results.
        count: usize,
    },
    /// From `(dy, x)`: adds to the gradients of its weight and bias.
    PerHeadLinearParamGrad {
        /// Number of heads.
        heads: usize,
        /// Number of results.
        count: usize,
    },
    /// Softmax over the last axis.
    Softmax,
    /// From `(dy, y)`: the gradient of the numbers before softmax.
    SoftmaxGrad,
    /// Neighboring features of each row.
    SliceFeatures {
        /// Index of the first one.
        start: usize,
    },
    /// From `dy`: zeros but for these features.
    SliceFeaturesGrad {
        /// Index of the first one.
        start: usize,
    },
    /// Neighboring tokens.
    SliceTokens {
        /// Index of the first one.
        start: usize,
    },
    /// From `dy`: zeros but for these tokens.
    SliceTokensGrad {
        /// Index of the first one.
        start: usize,
    },
    /// The features of all inputs side by side.
    ConcatFeatures,
    /// The same values with other axes; its own gradient.
    Reshape,
    /// The rows of a trained table with the given indices.
    Embedding,
    /// From `(dy, ids)`: adds to the table's gradient; has no value of its own.
    EmbeddingGrad,
    /// A parameter as a value.
    TrainedConstant,
    /// Each value times a number; its own gradient.
    Scale {
        /// The number.
        factor: f32,
    },
    /// Each value times its feature's trained factor.
    ScaleFeatures,
    /// From `(dy, x)`: the gradient of the value that was scaled; adds to the factors' gradient.
    ScaleFeaturesGrad,
    /// Zeroes whole examples at random while training and scales the others up; its own gradient.
    DropPath(Dropout),
    /// From `(logits, labels)`: the sum of the cross-entropy losses of an example's targets.
    CrossEntropyTokens {
        /// Fraction of the target that is spread evenly over all classes.
        smoothing: f32,
    },
    /// From `(logits, labels)`: the gradient of the mean loss over the targets of a step.
    CrossEntropyTokensGrad {
        /// Fraction of the target that is spread evenly over all classes.
        smoothing: f32,
    },
    /// From `(logits, labels)`: 1 where every target has the largest logit, else 0.
    CorrectSequence,
    // convolution
    /// From `[channels, height, width]` to `[height, width, channels]`, or from the same values in one row.
    ChannelsLast,
    /// From `[height, width, channels]` to `[channels, height, width]`, or to the same values in one row.
    ChannelsFirst,
    /// A convolution of `[height, width, channels]`; the bias is the second parameter, where there is one.
    Conv2d(Convolution),
    /// From `dy`: the gradient of a convolution's input.
    Conv2dInputGrad(Convolution),
    /// From `(dy, x)`: adds to the gradients of weight and bias; has no value of its own.
    Conv2dParamGrad(Convolution),
    /// The largest value of each window of `[height, width, channels]`.
    MaxPool2d(Pool),
    /// From `(dy, x)`: `dy` at the first largest value of each window, zeros elsewhere.
    MaxPool2dGrad(Pool),
    /// The mean of each window of `[height, width, channels]`.
    AvgPool2d(Pool),
    /// From `dy`: each window's `dy` spread evenly over its values.
    AvgPool2dGrad(Pool),
    /// Normalizes groups of channels over the pixels of an image, then scales and shifts channels.
    GroupNorm {
        /// Groups of channels.
        groups: usize,
        /// Added to the variance.
        eps: f32,
    },
    /// From `(dy, x)`: the gradient of the normalized input; adds to the gradients of scale and shift.
    GroupNormGrad {
        /// Groups of channels.
        groups: usize,
        /// Added to the variance.
        eps: f32,
    },
    /// Normalizes channels over the images of a step, or by statistics, then scales and shifts them.
    BatchNorm {
        /// Added to the variance.
        eps: f32,
        /// Fraction by which the statistics move towards those of a step. None: they stay, and normalize in training
        /// too, so that no image sees another.
        momentum: Option<f32>,
    },
    /// From `(dy, x)`: the gradient of the normalized input; adds to the gradients of scale and shift.
    BatchNormGrad {
        /// Added to the variance.
        eps: f32,
        /// Whether the statistics stay.
        frozen: bool,
    },
    /// From `(logits, label)`: the cross-entropy loss of one example.
    CrossEntropy {
        /// Fraction of the target that is spread evenly over all classes.
        smoothing: f32,
    },
    /// From `(logits, label)`: the gradient of the loss's share in the loss of a step.
    CrossEntropyGrad {
        /// Fraction of the target that is spread evenly over all classes.
        smoothing: f32,
    },
    /// From `(logits, label)`: 1 where the largest logit is the label's, else 0.
    Correct,
}

impl Op {
    /// Whether this computes a gradient, from values that only a training step stores.
    pub fn is_gradient(&self) -> bool {
        self.name().ends_with("_grad")
    }

    /// The operation's name in tables and messages.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Input => "input",
            Op::Patches { .. } => "patches",
            Op::Linear => "linear",
            Op::LinearInputGrad => "linear_input_grad",
            Op::LinearParamGrad => "linear_param_grad",
            Op::LayerNorm { .. } => "layer_norm",
            Op::LayerNormGrad { .. } => "layer_norm_grad",
            Op::Activation(Activation::Relu) => "relu",
            Op::Activation(Activation::Relu6) => "relu6",
            Op::Activation(Activation::Gelu) => "gelu",
            Op::Activation(Activation::GeluTanh) => "gelu_tanh",
            Op::Activation(Activation::Tanh) => "tanh",
            Op::ActivationGrad(_) => "activation_grad",
            Op::Dropout(_) => "dropout",
            Op::DropoutGrad(_) => "dropout_grad",
            Op::Add => "add",
            Op::Attention(_) => "attention",
            Op::AttentionGrad(_) => "attention_grad",
            Op::PrependToken => "prepend_token",
            Op::PrependTokenGrad => "prepend_token_grad",
            Op::AddTable => "add_table",
            Op::AddTableGrad => "add_table_grad",
            Op::AddConstant(_) => "add_constant",
            Op::SelectToken { .. } => "select_token",
            Op::SelectTokenGrad { .. } => "select_token_grad",
            Op::MeanTokens => "mean_tokens",
            Op::MeanTokensGrad => "mean_tokens_grad",
            // attention
            Op::Attend(_) => "attend",
            Op::AttendGrad(..) => "attend_grad",
            Op::PerHeadLinear { .. } => "per_head_linear",
            Op::PerHeadLinearInputGrad { .. } => "per_head_linear_input_grad",
            Op::PerHeadLinearParamGrad { .. } => "per_head_linear_param_grad",
            Op::Softmax => "softmax",
            Op::SoftmaxGrad => "softmax_grad",
            Op::SliceFeatures { .. } => "slice_features",
            Op::SliceFeaturesGrad { .. } => "slice_features_grad",
            Op::SliceTokens { .. } => "slice_tokens",
            Op::SliceTokensGrad { .. } => "slice_tokens_grad",
            Op::ConcatFeatures => "concat_features",
            Op::Reshape => "reshape",
            Op::Embedding => "embedding",
            Op::EmbeddingGrad => "embedding_grad",
            Op::TrainedConstant => "trained_constant",
            Op::Scale { .. } => "scale",
            Op::ScaleFeatures => "scale_features",
            Op::ScaleFeaturesGrad => "scale_features_grad",
            Op::DropPath(_) => "drop_path",
            Op::CrossEntropyTokens { .. } => "cross_entropy_tokens",
            Op::CrossEntropyTokensGrad { .. } => "cross_entropy_tokens_grad",
            Op::CorrectSequence => "correct_sequence",
            // convolution
            Op::ChannelsLast => "channels_last",
            Op::ChannelsFirst => "channels_first",
            Op::Conv2d(_) => "conv2d",
            Op::Conv2dInputGrad(_) => "conv2d_input_grad",
            Op::Conv2dParamGrad(_) => "conv2d_param_grad",
            Op::MaxPool2d(_) => "max_pool2d",
            Op::MaxPool2dGrad(_) => "max_pool2d_grad",
            Op::AvgPool2d(_) => "avg_pool2d",
            Op::AvgPool2dGrad(_) => "avg_pool2d_grad",
            Op::GroupNorm { .. } => "group_norm",
            Op::GroupNormGrad { .. } => "group_norm_grad",
            Op::BatchNorm { .. } => "batch_norm",
            Op::BatchNormGrad { .. } => "batch_norm_grad",
            Op::CrossEntropy { .. } => "cross_entropy",
            Op::CrossEntropyGrad { .. } => "cross_entropy_grad",
            Op::Correct => "correct",
        }
    }
}

/// The cost of an operation for one example.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations; a multiply-add is two.
    pub flops: u64,
    /// Bytes read and written without any cache, at four bytes per value.
    pub bytes: u64,
}

impl std::ops::Add for Cost {
    type Output = Cost;

    fn add(self, other: Cost) -> Cost {
        Cost { flops: self.flops + other.flops, bytes: self.bytes + other.bytes }
    }
}

/// Returns the cost of a node for one example. An exponential, a root or a division counts as one operation.
pub fn cost(graph: &Graph, node: &Node) -> Cost {
    let out = node.shape.len() as u64;
    let input = |i: usize| graph.shape(node.inputs[i]).len() as u64;
    let flops = match &node.op {
        Op::Input | Op::Patches { .. } | Op::SelectToken { .. } | Op::SelectTokenGrad { .. } => 0,
        Op::Linear => linear::flops(graph, node),
        Op::LinearInputGrad => linear::input_grad_flops(graph, node),
        Op::LinearParamGrad => linear::param_grad_flops(graph, node),
        Op::LayerNorm { .. } => layer_norm::FLOPS * out,
        Op::LayerNormGrad { .. } => layer_norm::GRAD_FLOPS * out,
        Op::Activation(activation) => activation.flops() * out,
        Op::ActivationGrad(activation) => (activation.flops() + 1) * out,
        Op::Attention(attention) => attention.flops(node.shape.rows(), node.shape.rows(), node.shape.features()),
        Op::AttentionGrad(attention) => {
            let context = graph.shape(node.inputs[0]);
            attention.grad_flops(context.rows(), context.rows(), context.features())
        }
        Op::Dropout(_) | Op::DropoutGrad(_) | Op::Add | Op::AddTable | Op::AddConstant(_) => out,
        Op::PrependToken => 0,
        Op::PrependTokenGrad => graph.shape(node.inputs[0]).features() as u64,
        Op::AddTableGrad | Op::MeanTokens => input(0),
        Op::MeanTokensGrad => out,
        // attention
        Op::Attend(attention) => {
            attention.flops(node.shape.rows(), graph.shape(node.inputs[1]).rows(), node.shape.features())
        }
        Op::AttendGrad(attention, of) => {
            let [context, keys] = [1, 3].map(|i| graph.shape(node.inputs[i]));
            attention.grad_flops_of(*of, context.rows(), keys.rows(), context.features())
        }
        Op::PerHeadLinear { .. } => linear::flops(graph, node),
        Op::PerHeadLinearInputGrad { .. } => linear::input_grad_flops(graph, node),
        Op::PerHeadLinearParamGrad { .. } => linear::param_grad_flops(graph, node),
        Op::Softmax => pointwise::SOFTMAX_FLOPS * out,
        Op::SoftmaxGrad => pointwise::SOFTMAX_GRAD_FLOPS * out,
        Op::SliceFeatures { .. }
        | Op::SliceFeaturesGrad { .. }
        | Op::SliceTokens { .. }
        | Op::SliceTokensGrad { .. }
        | Op::ConcatFeatures
        | Op::Reshape
        | Op::Embedding
        | Op::TrainedConstant => 0,
        Op::EmbeddingGrad | Op::CorrectSequence => input(0),
        Op::Scale { .. } | Op::ScaleFeatures | Op::DropPath(_) => out,
        Op::ScaleFeaturesGrad => pointwise::SCALE_FEATURES_GRAD_FLOPS * out,
        Op::CrossEntropyTokens { .. } | Op::CrossEntropyTokensGrad { .. } => loss::FLOPS * input(0),
        // convolution
        Op::ChannelsLast | Op::ChannelsFirst => 0,
        Op::Conv2d(_) => convolution::flops(graph, node, &node.shape),
        Op::Conv2dInputGrad(_) | Op::Conv2dParamGrad(_) => convolution::flops(graph, node, graph.shape(node.inputs[0])),
        Op::MaxPool2d(pool) | Op::AvgPool2d(pool) => pool.window() as u64 * out,
        Op::MaxPool2dGrad(pool) | Op::AvgPool2dGrad(pool) => pool.window() as u64 * input(0),
        Op::GroupNorm { .. } | Op::BatchNorm { .. } => layer_norm::FLOPS * out,
        Op::GroupNormGrad { .. } | Op::BatchNormGrad { .. } => layer_norm::GRAD_FLOPS * out,
        Op::CrossEntropy { .. } | Op::CrossEntropyGrad { .. } => loss::FLOPS * input(0),
        Op::Correct => input(0),
    };
    let params: u64 = node.params.iter().map(|&id| graph.parameter(id).shape.len() as u64).sum();
    let inputs: u64 = (0..node.inputs.len()).map(input).sum();
    let bytes = if node.op == Op::Input { 0 } else { 4 * (inputs + params + out) };
    Cost { flops, bytes }
}

/// Adds the nodes that carry the gradient `dy` of node `id` to its inputs and parameters.
pub(crate) fn differentiate(backward: &mut Backward, id: NodeId, dy: NodeId) {
    match backward.node(id).op.clone() {
        Op::Input | Op::Patches { .. } => {}
        Op::Linear => linear::differentiate(backward, id, dy),
        Op::LayerNorm { eps } => layer_norm::differentiate(backward, id, dy, eps),
        Op::Activation(activation) => activation.differentiate(backward, id, dy),
        Op::Dropout(dropout) => dropout.differentiate(backward, id, dy),
        Op::Add => add::differentiate(backward, id, dy),
        Op::Attention(attention) => attention.differentiate(backward, id, dy),
        Op::PrependToken => tokens::differentiate_prepend(backward, id, dy),
        Op::AddTable => tokens::differentiate_table(backward, id, dy),
        Op::AddConstant(_) => backward.add_gradient(backward.node(id).inputs[0], dy),
        Op::SelectToken { index } => tokens::differentiate_select(backward, id, dy, index),
        Op::MeanTokens => tokens::differentiate_mean(backward, id, dy),
        // attention
        Op::Attend(attention) => attention.differentiate_attend(backward, id, dy),
        Op::PerHeadLinear { heads, count } => per_head::differentiate(backward, id, dy, heads, count),
        Op::Softmax => pointwise::differentiate_softmax(backward, id, dy),
        Op::ScaleFeatures => pointwise::differentiate_scale_features(backward, id, dy),
        Op::SliceFeatures { start } => {
            layout::differentiate_slice(backward, id, dy, Op::SliceFeaturesGrad { start });
        }
        Op::SliceTokens { start } => layout::differentiate_slice(backward, id, dy, Op::SliceTokensGrad { start }),
        Op::ConcatFeatures => layout::differentiate_concat(backward, id, dy),
        Op::Embedding => embedding::differentiate(backward, id, dy),
        Op::TrainedConstant => embedding::differentiate_constant(backward, id, dy),
        Op::Reshape | Op::Scale { .. } | Op::DropPath(_) => {
            pointwise::differentiate_symmetric(backward, id, dy);
        }
        // convolution
        Op::ChannelsLast | Op::ChannelsFirst => maps::differentiate(backward, id, dy),
        Op::Conv2d(convolution) => convolution.differentiate(backward, id, dy),
        Op::MaxPool2d(_) | Op::AvgPool2d(_) => pooling::differentiate(backward, id, dy),
        Op::GroupNorm { groups, eps } => group_norm::differentiate(backward, id, dy, groups, eps),
        Op::BatchNorm { eps, momentum } => batch_norm::differentiate(backward, id, dy, eps, momentum.is_none()),
        op => unreachable!("{} is never between a parameter and the loss", op.name()),
    }
}
