//! A model as a graph of coarse operations: the one description from which everything else is read.
//!
//! Shapes are those of one example: the batch axis is implied in front of every node's shape and absent from
//! parameters. A graph only ever grows at its end, so the order of its nodes is an order of computation.

use std::collections::HashMap;
use std::fmt;

use crate::ops::Op;
use crate::random::Key;

/// Refers to a node of a [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) usize);

/// Refers to a parameter of a [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParamId(pub(crate) usize);

impl NodeId {
    /// The node's place in [`Graph::nodes`].
    pub fn index(self) -> usize {
        self.0
    }
}

impl ParamId {
    /// The parameter's place in [`Graph::parameters`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// The lengths of a tensor's axes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Shape(pub Vec<usize>);

impl Shape {
    /// Most values that a tensor, or all parameters together, may have: 4 TB, or 1 GB where addresses have 32 bits.
    pub(crate) const LEN_MAX: usize = (if usize::BITS >= 64 { 1u64 << 40 } else { 1 << 28 }) as usize;

    /// Whether no tensor can have this shape.
    pub(crate) fn is_too_large(&self) -> bool {
        self.len() > Shape::LEN_MAX
    }

    /// Number of values, or the largest integer where there are more.
    pub fn len(&self) -> usize {
        self.0.iter().fold(1, |len, &axis| len.saturating_mul(axis))
    }

    /// Whether there are no values at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Length of the last axis; 1 for a scalar.
    pub fn features(&self) -> usize {
        self.0.last().copied().unwrap_or(1)
    }

    /// Number of vectors along the last axis.
    pub fn rows(&self) -> usize {
        self.0.iter().rev().skip(1).fold(1, |rows, &axis| rows.saturating_mul(axis))
    }

    /// The same shape with another last axis.
    #[must_use]
    pub fn with_features(&self, features: usize) -> Shape {
        let mut axes = self.0.clone();
        *axes.last_mut().expect("a scalar has no last axis") = features;
        Shape(axes)
    }
}

impl From<&[usize]> for Shape {
    fn from(axes: &[usize]) -> Self {
        Shape(axes.to_vec())
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(axes: [usize; N]) -> Self {
        Shape(axes.to_vec())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[")?;
        for (i, axis) in self.0.iter().enumerate() {
            write!(f, "{}{axis}", if i == 0 { "" } else { ", " })?;
        }
        write!(f, "]")
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How a parameter is initialized.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// The same number everywhere.
    Constant(f32),
    /// U(-bound, bound).
    Uniform {
        /// Largest absolute value.
        bound: f32,
    },
    /// U(low, high).
    Between {
        /// Smallest value.
        low: f32,
        /// Largest value.
        high: f32,
    },
    /// N(0, std).
    Normal {
        /// Standard deviation.
        std: f32,
    },
    /// N(0, std), drawn again while outside two standard deviations.
    TruncatedNormal {
        /// Standard deviation before the cut.
        std: f32,
    },
}

impl Init {
    /// U(-1/sqrt(fan_in), 1/sqrt(fan_in)): what `torch.nn.Linear` gives its weights and biases.
    pub fn fan_in_uniform(fan_in: usize) -> Init {
        Init::Uniform { bound: (1.0 / (fan_in as f64).sqrt()) as f32 }
    }

    /// U(-b, b) with b = sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010).
    pub fn xavier_uniform(fan_in: usize, fan_out: usize) -> Init {
        Init::Uniform { bound: (6.0 / (fan_in + fan_out) as f64).sqrt() as f32 }
    }

    /// Fills `values` from a random stream of the parameter.
    pub fn fill(self, key: Key, values: &mut [f32]) {
        for (i, value) in (0u64..).zip(values) {
            *value = match self {
                Init::Constant(x) => x,
                Init::Uniform { bound } => key.range(i, -f64::from(bound), f64::from(bound)) as f32,
                Init::Between { low, high } => key.range(i, f64::from(low), f64::from(high)) as f32,
                Init::Normal { std } => (key.normal(i) * f64::from(std)) as f32,
                Init::TruncatedNormal { std } => {
                    let own = key.with(i);
                    let draw = (0..).map(|attempt| own.normal(attempt)).find(|z| z.abs() <= 2.0);
                    (draw.expect("one draw in twenty is outside") * f64::from(std)) as f32
                }
            };
        }
    }
}

/// What changes a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// The optimizer, by its gradient.
    Trained,
    /// An operation that collects statistics, such as batch norm; the parameter has no gradient.
    Statistic,
}

/// A tensor that is kept from step to step and saved with the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Unique in the graph, and the tensor's name on disk.
    pub name: String,
    /// Its own axes; linear weights are `[out, in]`.
    pub shape: Shape,
    /// How it is initialized.
    pub init: Init,
    /// What changes it.
    pub kind: ParameterKind,
    /// Whether the optimizer's weight decay acts on it.
    pub decay: bool,
}

/// One operation and its result.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Unique in the graph, such as `blocks.3.attn.qkv`.
    pub name: String,
    /// What is computed.
    pub op: Op,
    /// What it is computed from.
    pub inputs: Vec<NodeId>,
    /// The parameters it reads, or to whose gradients it adds.
    pub params: Vec<ParamId>,
    /// The result's axes, without the batch.
    pub shape: Shape,
}

/// A model: nodes in an order of computation, and the parameters they use.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    nodes: Vec<Node>,
    params: Vec<Parameter>,
    // Names are unique and never change.
    nodes_by_name: HashMap<String, NodeId>,
    params_by_name: HashMap<String, ParamId>,
}

/// The errors of adding an operation to a graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// Two shapes do not fit together.
    #[error("shape {found} does not fit, expected {expected} ({node})")]
    Shape {
        /// The operation.
        node: String,
        /// The shape it was given.
        found: Shape,
        /// The shapes it takes.
        expected: String,
    },
    /// A number is out of range.
    #[error("{key} {value} is not {expected} ({node})")]
    Value {
        /// The operation.
        node: String,
        /// The number's name.
        key: &'static str,
        /// The number.
        value: String,
        /// The allowed range.
        expected: String,
    },
    /// A tensor is too large for any memory.
    #[error("shape {shape} has too many values ({name})")]
    TooLarge {
        /// The node or the parameter.
        name: String,
        /// Its shape.
        shape: Shape,
    },
    /// All parameters together are too large for any memory.
    #[error("all parameters together have too many values ({name})")]
    TooManyParameters {
        /// The parameter that is one too many.
        name: String,
    },
    /// A name is used twice.
    #[error("the name `{name}` is used twice")]
    Name {
        /// The name.
        name: String,
    },
}

impl Graph {
    /// Starts an empty graph.
    pub fn new() -> Self {
        Graph::default()
    }

    /// All nodes, each after its inputs.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// All parameters, in the order in which they were made.
    pub fn parameters(&self) -> &[Parameter] {
        &self.params
    }

    /// Returns a node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// Returns a parameter.
    pub fn parameter(&self, id: ParamId) -> &Parameter {
        &self.params[id.0]
    }

    /// All node ids, each after its inputs'.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = NodeId> + use<> {
        (0..self.nodes.len()).map(NodeId)
    }

    /// Finds a node by its name.
    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.nodes_by_name.get(name).copied()
    }

    /// Finds a parameter by its name.
    pub fn find_parameter(&self, name: &str) -> Option<ParamId> {
        self.params_by_name.get(name).copied()
    }

    /// Number of trained values; statistics are not among them.
    pub fn parameter_count(&self) -> usize {
        let trained = self.params.iter().filter(|param| param.kind == ParameterKind::Trained);
        trained.map(|param| param.shape.len()).sum()
    }

    /// Adds a value that the caller gives for each example.
    ///
    /// # Errors
    /// When the name is taken or an axis has length 0.
    pub fn input(&mut self, name: &str, shape: impl Into<Shape>) -> Result<NodeId, GraphError> {
        let shape = shape.into();
        if shape.is_empty() {
            return Err(self.wrong_shape(name, &shape, "axes of at least 1"));
        }
        self.push(name, Op::Input, &[], &[], shape)
    }

    /// Adds a parameter that is trained, with weight decay.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn new_parameter(&mut self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<ParamId, GraphError> {
        let kind = ParameterKind::Trained;
        self.add_parameter(Parameter { name: name.to_string(), shape: shape.into(), init, kind, decay: true })
    }

    /// Adds a parameter that the optimizer does not change; operations that read it may.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn new_statistic(&mut self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<ParamId, GraphError> {
        let kind = ParameterKind::Statistic;
        self.add_parameter(Parameter { name: name.to_string(), shape: shape.into(), init, kind, decay: false })
    }

    fn add_parameter(&mut self, param: Parameter) -> Result<ParamId, GraphError> {
        if self.find_parameter(&param.name).is_some() {
            return Err(GraphError::Name { name: param.name });
        }
        if param.shape.is_too_large() {
            return Err(GraphError::TooLarge { name: param.name, shape: param.shape });
        }
        // All parameters lie in one buffer.
        let others = self.params.iter().map(|other| other.shape.len());
        if others.fold(param.shape.len(), usize::saturating_add) > Shape::LEN_MAX {
            return Err(GraphError::TooManyParameters { name: param.name });
        }
        let id = ParamId(self.params.len());
        self.params_by_name.insert(param.name.clone(), id);
        self.params.push(param);
        Ok(id)
    }

    /// Sets whether weight decay acts on a parameter.
    pub fn set_decay(&mut self, param: ParamId, decay: bool) {
        self.params[param.0].decay = decay;
    }

    /// Adds what `build` adds, or nothing if it fails.
    pub(crate) fn all_or_nothing<T>(
        &mut self,
        build: impl FnOnce(&mut Graph) -> Result<T, GraphError>,
    ) -> Result<T, GraphError> {
        let (nodes, params) = (self.nodes.len(), self.params.len());
        let built = build(self);
        if built.is_err() {
            for node in self.nodes.drain(nodes..) {
                self.nodes_by_name.remove(&node.name);
            }
            for param in self.params.drain(params..) {
                self.params_by_name.remove(&param.name);
            }
        }
        built
    }

    /// Adds a node whose shape is known.
    pub(crate) fn push(
        &mut self,
        name: &str,
        op: Op,
        inputs: &[NodeId],
        params: &[ParamId],
        shape: Shape,
    ) -> Result<NodeId, GraphError> {
        if self.find(name).is_some() {
            return Err(GraphError::Name { name: name.to_string() });
        }
        if shape.is_too_large() {
            return Err(GraphError::TooLarge { name: name.to_string(), shape });
        }
        let id = NodeId(self.nodes.len());
        self.nodes_by_name.insert(name.to_string(), id);
        self.nodes.push(Node { name: name.to_string(), op, inputs: inputs.to_vec(), params: params.to_vec(), shape });
        Ok(id)
    }

    pub(crate) fn shape(&self, id: NodeId) -> &Shape {
        &self.nodes[id.0].shape
    }

    pub(crate) fn wrong_shape(&self, node: &str, found: &Shape, expected: impl Into<String>) -> GraphError {
        GraphError::Shape { node: node.to_string(), found: found.clone(), expected: expected.into() }
    }
}

pub(crate) fn wrong_value(
    node: &str,
    key: &'static str,
    value: impl fmt::Display,
    expected: impl Into<String>,
) -> GraphError {
    GraphError::Value { node: node.to_string(), key, value: value.to_string(), expected: expected.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_used_once() {
        let mut graph = Graph::new();
        graph.input("x", [3]).expect("a new name");
        let error = graph.input("x", [3]).expect_err("the name is taken");
        assert_eq!(error.to_string(), "the name `x` is used twice");
    }

    #[test]
    fn a_shape_whose_length_overflows_is_rejected() {
        let mut graph = Graph::new();
        let half = 1usize << (usize::BITS / 2);
        // Both products are 0 when they wrap.
        let error = graph.input("x", [half, half]).expect_err("too large");
        assert_eq!(error.to_string(), format!("shape [{half}, {half}] has too many values (x)"));
        let error = graph.new_parameter("w", [half, half], Init::Constant(0.0)).expect_err("too large");
        assert!(matches!(error, GraphError::TooLarge { name, .. } if name == "w"));
        // One fits, a second does not.
        let shape = [Shape::LEN_MAX / 2 + 1];
        let mut two = Graph::new();
        two.new_parameter("a", shape, Init::Constant(0.0)).expect("not allocated yet");
        let error = two.new_parameter("b", shape, Init::Constant(0.0)).expect_err("too large together");
        assert!(matches!(error, GraphError::TooManyParameters { name } if name == "b"));
        let x = graph.input("x", [1 << 20]).expect("4 MB");
        let error = graph
            .linear("y", x, 1 << 30, crate::ops::LinearInit::pytorch(1 << 20))
            .expect_err("its weight is too large");
        assert!(matches!(error, GraphError::TooLarge { .. }), "{error}");
    }

    #[test]
    fn an_operation_that_fails_leaves_no_parameters() {
        use crate::ops::{Convolution, LinearInit};
        let init = LinearInit::pytorch(3);
        let mut graph = Graph::new();
        let row = graph.input("row", [6]).expect("a new name");
        let ids = graph.input("ids", [5]).expect("a new name");
        let map = graph.input("map", [5, 7, 6]).expect("a new name");
        // The name of the node is taken, then that of its last parameter.
        let norm = graph.layer_norm_parameters("norm", 6).expect("new names");
        for name in ["taken", "other.bias", "statistic.running_var"] {
            graph.input(name, [1]).expect("a new name");
            graph.new_parameter(name, [1], Init::Constant(0.0)).expect("a new name");
        }
        let before = graph.clone();
        let one = Init::Constant(1.0);
        type Attempt<'a> = &'a dyn Fn(&mut Graph) -> Result<NodeId, GraphError>;
        let attempts: [Attempt; 13] = [
            &|graph| graph.linear("taken", row, 3, init),
            &|graph| graph.linear("other", row, 3, init),
            &|graph| graph.per_head_linear("taken", row, 2, 3, init),
            &|graph| graph.per_head_linear("other", row, 2, 3, init),
            &|graph| graph.conv2d("taken", map, Convolution::new(2, 3), init),
            &|graph| graph.conv2d("other", map, Convolution::new(2, 3), init),
            &|graph| graph.group_norm("taken", map, 3, 1e-5),
            &|graph| graph.group_norm("other", map, 3, 1e-5),
            &|graph| graph.batch_norm("taken", map, 1e-5, 0.1),
            &|graph| graph.batch_norm("statistic", map, 1e-5, None),
            &|graph| graph.embedding("taken", ids, 11, 3, one),
            &|graph| graph.trained_constant("row", [3], one),
            &|graph| {
                let params = graph.layer_norm_parameters("other", 6)?;
                graph.layer_norm("y", row, params, 1e-5)
            },
        ];
        for (number, attempt) in attempts.into_iter().enumerate() {
            attempt(&mut graph).expect_err("a name is taken");
            assert_eq!(graph, before, "attempt {number}");
        }
        graph.layer_norm("y", row, norm, 1e-5).expect("nothing is in the way");
    }

    #[test]
    fn a_statistic_is_a_parameter_that_is_not_counted() {
        let mut graph = Graph::new();
        graph.new_parameter("weight", [3, 5], Init::Constant(1.0)).expect("a new name");
        let mean = graph.new_statistic("mean", [7], Init::Constant(0.0)).expect("a new name");
        assert_eq!(graph.parameter_count(), 15);
        assert_eq!((graph.parameters().len(), graph.find_parameter("mean")), (2, Some(mean)));
    }

    #[test]
    fn between_fills_its_range_evenly() {
        let mut values = vec![0.0; 10_007];
        Init::Between { low: -1.0, high: 3.0 }.fill(Key::new(5), &mut values);
        let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / 10_007.0;
        assert!((mean - 1.0).abs() < 0.05, "mean {mean}");
        assert!(values.iter().all(|x| (-1.0..=3.0).contains(x)) && values.iter().any(|x| *x > 2.99), "{values:?}");
    }

    #[test]
    fn truncated_normal_stays_within_two_deviations_and_fills_them() {
        let mut values = vec![0.0; 10_007];
        Init::TruncatedNormal { std: 0.02 }.fill(Key::new(5), &mut values);
        let largest = values.iter().fold(0.0f32, |a, b| a.max(b.abs()));
        assert!(largest <= 0.04 && largest > 0.039, "largest {largest}");
    }
}
