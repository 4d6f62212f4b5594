//! The definition of every operation and every gradient: plain loops in f64, one example at a time, one function each.
//!
//! Slow and clear on purpose; only tests call it. The kernels in `cpu` are compared with it, and it is compared
//! with finite differences and with PyTorch.

pub(crate) mod activation;
pub(crate) mod attention;
pub(crate) mod convolution;
pub(crate) mod dropout;
mod erf;
pub(crate) mod layer_norm;
pub(crate) mod linear;
pub(crate) mod loss;
pub(crate) mod maps;
pub(crate) mod norms;
pub(crate) mod patches;
pub(crate) mod per_head;
pub(crate) mod pooling;
mod tokens;

use crate::graph::{Graph, Node, NodeId};
use crate::ops::{self, AttendInput, Op, channels_and_pixels};
use crate::random::Key;

/// Computes a graph, forward and backward alike, with given parameters.
#[derive(Clone, Debug)]
pub struct Reference<'a> {
    graph: &'a Graph,
    /// The parameters' values, in the order of [`Graph::parameters`].
    pub params: Vec<Vec<f64>>,
}

/// The mode in which a graph is computed.
#[derive(Clone, Copy, Debug)]
pub enum Mode<'a> {
    /// Dropout keeps everything, and there are no gradients.
    Infer,
    /// Dropout draws its numbers.
    Train {
        /// The dropout key of each example; without keys, dropout keeps everything.
        image_keys: Option<&'a [Key]>,
        /// Images of the whole step, or its targets: by how many the loss's gradient is divided.
        batch: usize,
    },
}

/// The results of a graph.
#[derive(Clone, Debug)]
pub struct Values {
    /// Each node's values, in the order of [`Graph::nodes`], with the examples one after the other.
    pub nodes: Vec<Vec<f64>>,
    /// The parameters' gradients, summed over the examples; zeros where nothing was added.
    pub gradients: Vec<Vec<f64>>,
    /// What training makes of the statistics, in the order of [`Graph::parameters`]; empty for all others.
    pub statistics: Vec<Vec<f64>>,
}

impl Values {
    /// Returns the values of a node, example by example.
    pub fn of(&self, node: NodeId) -> &[f64] {
        &self.nodes[node.index()]
    }
}

impl<'a> Reference<'a> {
    /// Takes a graph and the values of its parameters.
    ///
    /// # Panics
    /// When a parameter has another number of values.
    pub fn new(graph: &'a Graph, params: Vec<Vec<f64>>) -> Self {
        let expected: Vec<usize> = graph.parameters().iter().map(|param| param.shape.len()).collect();
        let found: Vec<usize> = params.iter().map(Vec::len).collect();
        assert_eq!(found, expected, "the parameters' lengths");
        Reference { graph, params }
    }

    /// Computes every node for a number of examples.
    ///
    /// # Shapes
    /// - `inputs`: for each input node, in the order of the nodes, `[examples, ...]`
    ///
    /// # Panics
    /// When the inputs are not all for the same number of examples, or a gradient is asked for in [`Mode::Infer`].
    pub fn run(&self, inputs: &[Vec<f64>], mode: Mode) -> Values {
        let mut given = inputs.iter();
        let mut gradients: Vec<Vec<f64>> = self.params.iter().map(|param| vec![0.0; param.len()]).collect();
        let mut nodes: Vec<Vec<f64>> = Vec::with_capacity(self.graph.nodes().len());
        let first = self.graph.nodes().iter().find(|node| node.op == Op::Input).zip(inputs.first());
        let examples = first.map_or(0, |(node, values)| values.len() / node.shape.len());
        let mut statistics = vec![Vec::new(); self.params.len()];
        let train = matches!(mode, Mode::Train { .. });
        for node in self.graph.nodes() {
            if node.op == Op::Input {
                let values = given.next().expect("one vector for each input node");
                assert_eq!(values.len(), examples * node.shape.len(), "values of input `{}`", node.name);
                nodes.push(values.clone());
                continue;
            }
            if let (true, Some(values)) = (train, self.compute_batch(node, &nodes, &mut gradients, &mut statistics)) {
                nodes.push(values);
                continue;
            }
            let mut values = Vec::new();
            for example in 0..examples {
                let x: Vec<&[f64]> = node
                    .inputs
                    .iter()
                    .map(|&id| {
                        let len = self.graph.node(id).shape.len();
                        &nodes[id.index()][example * len..(example + 1) * len]
                    })
                    .collect();
                let y = self.compute(node, &x, mode, example, &mut gradients);
                assert_eq!(y.len(), node.shape.len(), "values of `{}`", node.name);
                values.extend(y);
            }
            nodes.push(values);
        }
        Values { nodes, gradients, statistics }
    }

    /// Returns the value of a node that sees all examples of a training step at once.
    fn compute_batch(
        &self,
        node: &Node,
        nodes: &[Vec<f64>],
        gradients: &mut [Vec<f64>],
        statistics: &mut [Vec<f64>],
    ) -> Option<Vec<f64>> {
        let param = |i: usize| self.params[node.params[i].index()].as_slice();
        let x = |i: usize| nodes[node.inputs[i].index()].as_slice();
        let channels = node.shape.features();
        match node.op {
            Op::BatchNorm { eps, momentum: Some(momentum) } => {
                let new = norms::new_statistics(x(0), [param(2), param(3)], f64::from(momentum));
                for (i, values) in [2, 3].into_iter().zip(new) {
                    statistics[node.params[i].index()] = values;
                }
                Some(norms::forward(x(0), param(0), param(1), channels, f64::from(eps)))
            }
            Op::BatchNormGrad { eps, frozen: false } => {
                let [dx, weight, bias] = norms::grads(x(0), x(1), param(0), channels, f64::from(eps));
                for (i, increment) in [weight, bias].iter().enumerate() {
                    let sums = gradients[node.params[i].index()].iter_mut();
                    sums.zip(increment).for_each(|(sum, value)| *sum += value);
                }
                Some(dx)
            }
            _ => None,
        }
    }

    /// Returns a node's value for one example and adds what the node gives to the parameters' gradients.
    fn compute(&self, node: &Node, x: &[&[f64]], mode: Mode, example: usize, gradients: &mut [Vec<f64>]) -> Vec<f64> {
        let param = |i: usize| self.params[node.params[i].index()].as_slice();
        let shape = |i: usize| &self.graph.node(node.inputs[i]).shape;
        let features = node.shape.features();
        let axes = |i: usize| self.graph.node(node.inputs[i]).shape.0.as_slice();
        let (image, batch) = match mode {
            Mode::Infer => (None, None),
            Mode::Train { image_keys, batch } => (image_keys.map(|keys| keys[example]), Some(batch)),
        };
        let mut add_to_gradient = |i: usize, increment: &[f64]| {
            for (sum, value) in gradients[node.params[i].index()].iter_mut().zip(increment) {
                *sum += value;
            }
        };
        match &node.op {
            Op::Input => unreachable!("inputs are given"),
            Op::Patches { patch } => patches::forward(x[0], &self.graph.node(node.inputs[0]).shape.0, *patch),
            Op::Linear => linear::forward(x[0], param(0), (node.params.len() == 2).then(|| param(1)), features),
            Op::LinearInputGrad => linear::input_grad(x[0], param(0), features),
            Op::LinearParamGrad => {
                let outputs = self.graph.node(node.inputs[0]).shape.features();
                add_to_gradient(0, &linear::weight_grad(x[0], x[1], outputs, param(0).len() / outputs));
                if node.params.len() == 2 {
                    add_to_gradient(1, &linear::bias_grad(x[0], outputs));
                }
                Vec::new()
            }
            Op::LayerNorm { eps } => layer_norm::forward(x[0], param(0), param(1), f64::from(*eps)),
            Op::LayerNormGrad { eps } => {
                let [weight, bias] = layer_norm::param_grads(x[0], x[1], features, f64::from(*eps));
                add_to_gradient(0, &weight);
                add_to_gradient(1, &bias);
                layer_norm::input_grad(x[0], x[1], param(0), f64::from(*eps))
            }
            Op::Activation(activation) => x[0].iter().map(|&x| activation::value(*activation, x)).collect(),
            Op::ActivationGrad(activation) => {
                x[0].iter().zip(x[1]).map(|(dy, &x)| dy * activation::derivative(*activation, x)).collect()
            }
            // Both multiply by the same factors: 0 for a dropped value, the scale for a kept one.
            Op::Dropout(dropout) | Op::DropoutGrad(dropout) => dropout::apply(*dropout, image, x[0], features),
            Op::Add => x[0].iter().zip(x[1]).map(|(a, b)| a + b).collect(),
            Op::Attention(attention) => attention::forward(*attention, image, x[0], features),
            Op::AttentionGrad(attention) => attention::grad(*attention, image, x[0], x[1], features / 3),
            Op::PrependToken => [param(0), x[0]].concat(),
            Op::PrependTokenGrad => {
                let (token, others) = x[0].split_at(features);
                add_to_gradient(0, token);
                others.to_vec()
            }
            Op::AddTable => x[0].iter().zip(param(0)).map(|(x, position)| x + position).collect(),
            // Rows of the table beyond the sequence get nothing.
            Op::AddTableGrad => {
                add_to_gradient(0, x[0]);
                Vec::new()
            }
            Op::AddConstant(constant) => x[0].iter().zip(&**constant).map(|(x, &c)| x + f64::from(c)).collect(),
            Op::SelectToken { index } => x[0][index * features..(index + 1) * features].to_vec(),
            Op::SelectTokenGrad { index } => tokens::select_grad(x[0], *index, node.shape.rows()),
            Op::MeanTokens => tokens::mean(x[0], features),
            Op::MeanTokensGrad => tokens::mean_grad(x[0], node.shape.rows()),
            // attention
            Op::Attend(attention) => {
                let of =
                    attention::Operands { q: x[0], k: x[1], v: x[2], mask: x.get(3).copied(), embed_dim: features };
                attention::attend(*attention, image, of)
            }
            Op::AttendGrad(attention, part) => {
                let of =
                    attention::Operands { q: x[2], k: x[3], v: x[4], mask: x.get(5).copied(), embed_dim: features };
                let [dq, dk, dv] = attention::attend_grad(*attention, image, x[0], of);
                match part {
                    AttendInput::Query => dq,
                    AttendInput::Key => dk,
                    AttendInput::Value => dv,
                }
            }
            Op::PerHeadLinear { heads, count } => {
                let sizes = per_head::Sizes { count: *count, heads: *heads, width: features / count / heads };
                per_head::forward(x[0], param(0), (node.params.len() == 2).then(|| param(1)), sizes)
            }
            Op::PerHeadLinearInputGrad { heads, count } => per_head::input_grad(
                x[0],
                param(0),
                per_head::Sizes { count: *count, heads: *heads, width: features / heads },
            ),
            Op::PerHeadLinearParamGrad { heads, count } => {
                let outputs = self.graph.node(node.inputs[0]).shape.features();
                let sizes = per_head::Sizes { count: *count, heads: *heads, width: outputs / count / heads };
                add_to_gradient(0, &per_head::weight_grad(x[0], x[1], sizes));
                if node.params.len() == 2 {
                    add_to_gradient(1, &linear::bias_grad(x[0], outputs));
                }
                Vec::new()
            }
            Op::Softmax => activation::softmax(x[0], features),
            Op::SoftmaxGrad => activation::softmax_grad(x[0], x[1], features),
            Op::SliceFeatures { start } => tokens::slice(x[0], shape(0).features(), *start, features),
            Op::SliceFeaturesGrad { start } => tokens::slice_grad(x[0], features, *start, shape(0).features()),
            Op::SliceTokens { start } => tokens::slice(x[0], x[0].len(), start * features, node.shape.len()),
            Op::SliceTokensGrad { start } => tokens::slice_grad(x[0], node.shape.len(), start * features, x[0].len()),
            Op::ConcatFeatures => {
                let features: Vec<usize> = (0..x.len()).map(|i| shape(i).features()).collect();
                tokens::concat(x, &features)
            }
            Op::Reshape => x[0].to_vec(),
            Op::Embedding => tokens::embedding(x[0], param(0), features),
            Op::EmbeddingGrad => {
                add_to_gradient(0, &tokens::embedding_grad(x[0], x[1], param(0).len()));
                Vec::new()
            }
            Op::TrainedConstant => param(0).to_vec(),
            Op::Scale { factor } => x[0].iter().map(|x| f64::from(*factor) * x).collect(),
            Op::ScaleFeatures => x[0].iter().enumerate().map(|(i, x)| x * param(0)[i % features]).collect(),
            Op::ScaleFeaturesGrad => {
                let mut sums = vec![0.0; features];
                x[0].iter().zip(x[1]).enumerate().for_each(|(i, (dy, x))| sums[i % features] += dy * x);
                add_to_gradient(0, &sums);
                x[0].iter().enumerate().map(|(i, dy)| dy * param(0)[i % features]).collect()
            }
            Op::DropPath(dropout) => {
                let kept = image.map(|image| ops::path_is_kept(*dropout, dropout.keys(image)));
                let factor = kept.map_or(1.0, |kept| if kept { f64::from(dropout.scale()) } else { 0.0 });
                x[0].iter().map(|x| factor * x).collect()
            }
            Op::CrossEntropyTokens { smoothing } => {
                vec![loss::cross_entropy_tokens(x[0], x[1], f64::from(*smoothing))]
            }
            Op::CrossEntropyTokensGrad { smoothing } => {
                let batch = batch.expect("gradients are computed in train mode");
                loss::cross_entropy_tokens_grad(x[0], x[1], f64::from(*smoothing), batch)
            }
            Op::CorrectSequence => vec![loss::correct_sequence(x[0], x[1])],
            // convolution
            Op::ChannelsLast => maps::channels_last(x[0], channels_and_pixels(self.graph, node)),
            Op::ChannelsFirst => maps::channels_first(x[0], channels_and_pixels(self.graph, node)),
            Op::Conv2d(convolution) => {
                let bias = (node.params.len() == 2).then(|| param(1));
                convolution::forward(x[0], param(0), bias, *convolution, [axes(0), &node.shape.0])
            }
            Op::Conv2dInputGrad(convolution) => {
                convolution::input_grad(x[0], param(0), *convolution, [&node.shape.0, axes(0)])
            }
            Op::Conv2dParamGrad(convolution) => {
                add_to_gradient(0, &convolution::weight_grad(x[0], x[1], *convolution, [axes(1), axes(0)]));
                if node.params.len() == 2 {
                    add_to_gradient(1, &linear::bias_grad(x[0], convolution.out_channels));
                }
                Vec::new()
            }
            Op::MaxPool2d(pool) => pooling::max(x[0], *pool, [axes(0), &node.shape.0]),
            Op::MaxPool2dGrad(pool) => pooling::max_grad(x[0], x[1], *pool, [axes(1), axes(0)]),
            Op::AvgPool2d(pool) => pooling::mean(x[0], *pool, [axes(0), &node.shape.0]),
            Op::AvgPool2dGrad(pool) => pooling::mean_grad(x[0], *pool, [&node.shape.0, axes(0)]),
            Op::GroupNorm { groups, eps } => norms::forward(x[0], param(0), param(1), *groups, f64::from(*eps)),
            Op::GroupNormGrad { groups, eps } => {
                let [dx, weight, bias] = norms::grads(x[0], x[1], param(0), *groups, f64::from(*eps));
                add_to_gradient(0, &weight);
                add_to_gradient(1, &bias);
                dx
            }
            Op::BatchNorm { eps, .. } => norms::with_statistics(x[0], [0, 1, 2, 3].map(param), f64::from(*eps)),
            Op::BatchNormGrad { eps, .. } => {
                // The other kind sees all examples at once.
                let [dx, weight, bias] =
                    norms::grads_with_statistics(x[0], x[1], [0, 2, 3].map(param), f64::from(*eps));
                add_to_gradient(0, &weight);
                add_to_gradient(1, &bias);
                dx
            }
            Op::CrossEntropy { smoothing } => vec![loss::cross_entropy(x[0], x[1][0], f64::from(*smoothing))],
            Op::CrossEntropyGrad { smoothing } => {
                let batch = batch.expect("gradients are computed in train mode");
                loss::cross_entropy_grad(x[0], x[1][0], f64::from(*smoothing), batch)
            }
            Op::Correct => vec![loss::correct(x[0], x[1][0])],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Init;

    #[test]
    fn examples_do_not_see_each_other_and_their_gradients_add_up() {
        let mut graph = Graph::new();
        let x = graph.input("x", [3, 2]).expect("a new name");
        let label = graph.input("label", []).expect("a new name");
        let table = graph.new_parameter("table", [5, 2], Init::Constant(0.0)).expect("a new name");
        let sum = graph.add_table("sum", x, table).expect("it fits");
        let logits = graph.mean_tokens("logits", sum).expect("it fits");
        let loss = graph.cross_entropy("loss", logits, label, 0.0).expect("it fits");
        let training = crate::autodiff::differentiate(&graph, loss);
        let reference = Reference::new(&training.graph, vec![(0..10).map(|i| f64::from(i) * 0.1).collect()]);
        let images: Vec<f64> = (0..12).map(|i| f64::from(i * i % 7)).collect();
        let mode = Mode::Train { image_keys: None, batch: 2 };
        let both = reference.run(&[images.clone(), vec![1.0, 0.0]], mode);
        let first = reference.run(&[images[..6].to_vec(), vec![1.0]], mode);
        let second = reference.run(&[images[6..].to_vec(), vec![0.0]], mode);
        assert_eq!(both.of(logits), [first.of(logits), second.of(logits)].concat());
        for i in 0..10 {
            assert_eq!(both.gradients[0][i], first.gradients[0][i] + second.gradients[0][i]);
            assert_eq!(both.gradients[0][i] == 0.0, i >= 6, "only the first three rows are read");
        }
    }
}
