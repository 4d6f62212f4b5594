//! The rules that change a model in one place: each has a name, a reason, and a function that makes its edits.
//!
//! An edit is a list of changes of named parts, not a new model, so that two edits can be made together where they change
//! different parts. What comes out is checked as any config is: an edit that does not fit makes no candidate.

mod stack;
mod transformer;

use toml::Value;

use super::AdviseError;
use crate::config::model::{ImageFacts, ModelConfig, ModelSpec};

/// A kind of change of a model, with its reason.
pub struct Rule {
    /// Its name, as users choose it.
    pub name: &'static str,
    /// Why such a change may make a model faster or more accurate.
    pub reason: &'static str,
    edits: Edits,
}

/// The functions that make edits, for the kinds of models that a rule can change.
enum Edits {
    Stack(fn(&stack::Stack) -> Vec<Edit>),
    Transformer(fn(&transformer::Keys) -> Vec<Edit>),
    Both(fn(&stack::Stack) -> Vec<Edit>, fn(&transformer::Keys) -> Vec<Edit>),
}

/// A change of a model in one place.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    /// The name of its rule.
    pub rule: &'static str,
    /// What it changes, as a reader of the config would say it: `layers.2: conv 32 -> conv 48`.
    pub what: String,
    /// Why it may help: the reason of its rule, or a closer one for its direction.
    pub why: &'static str,
    /// What is done.
    pub changes: Vec<Change>,
}

/// A change of one part of a model.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Gives a key of `[model]` a value.
    Set(&'static str, Value),
    /// Gives the first number of a layer's line, its channels or features, another value.
    Size(String, usize),
    /// Gives an option of a layer's line, such as `k` for the kernel, another value.
    Option(String, char, usize),
    /// Puts other layers in the place of a layer; each is a line, or lines in a residual connection.
    Replace(String, Vec<Piece>),
    /// Puts a line after a layer.
    Insert(String, String),
    /// Takes a layer out.
    Remove(String),
    /// Puts a layer after another one.
    Move(String, String),
}

/// A layer that an edit adds.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// A line.
    Line(String),
    /// Lines in a residual connection.
    Residual(Vec<String>),
}

/// All rules, in the order in which candidates are listed.
pub const RULES: &[Rule] = &[
    Rule {
        name: "channels",
        reason: "fewer channels cost less, and more of them let a layer tell more patterns apart; multiples of 16 fill the vector lanes",
        edits: Edits::Stack(stack::channels),
    },
    Rule {
        name: "width",
        reason: "a wider model can represent more, a narrower one costs less",
        edits: Edits::Both(stack::width, transformer::width),
    },
    Rule {
        name: "kernel",
        reason: "a convolution's cost grows with the square of its kernel, and so does what it sees",
        edits: Edits::Stack(stack::kernel),
    },
    Rule {
        name: "stride",
        reason: "a stride of 2 computes a quarter of the positions, here and in all layers behind it",
        edits: Edits::Stack(stack::stride),
    },
    Rule {
        name: "pool",
        reason: "pooling earlier makes the maps of later layers smaller; pooling later keeps details",
        edits: Edits::Stack(stack::pool),
    },
    Rule {
        name: "norm",
        reason: "normalized activations let a network learn in fewer steps",
        edits: Edits::Both(stack::norm, transformer::norm),
    },
    Rule {
        name: "head",
        reason: "global pooling has fewer parameters than a linear layer over all positions, so it overfits less",
        edits: Edits::Stack(stack::head),
    },
    Rule {
        name: "separable",
        reason: "a depthwise and a pointwise convolution cost a fraction of a plain one",
        edits: Edits::Stack(stack::separable),
    },
    Rule {
        name: "residual",
        reason: "a residual connection lets gradients pass a layer unchanged",
        edits: Edits::Stack(stack::residual),
    },
    Rule {
        name: "drop",
        reason: "what a model does not need costs time, and may keep it from learning",
        edits: Edits::Stack(stack::drop_layer),
    },
    Rule {
        name: "attention",
        reason: "attention costs the square of the positions: it is cheaper on a smaller map, and heads that see and mix all channels learn more",
        edits: Edits::Both(stack::attention, transformer::attention),
    },
    Rule {
        name: "patch",
        reason: "a patch twice as large makes a quarter of the tokens; smaller patches keep details",
        edits: Edits::Transformer(transformer::patch),
    },
    Rule {
        name: "stem",
        reason: "a stem of convolutions finds edges and textures in fewer epochs than a linear patch embedding, which costs less",
        edits: Edits::Transformer(transformer::stem),
    },
    Rule {
        name: "depth",
        reason: "each block costs the same time, and the last ones may add little",
        edits: Edits::Transformer(transformer::depth),
    },
    Rule {
        name: "heads",
        reason: "heads whose width is a multiple of 16 fill the vector lanes; fewer heads have less overhead",
        edits: Edits::Transformer(transformer::heads),
    },
    Rule {
        name: "mlp",
        reason: "the MLP has most of a block's operations",
        edits: Edits::Transformer(transformer::mlp),
    },
    Rule {
        name: "pooling",
        reason: "the mean over tokens passes gradients to all of them, and needs no class token",
        edits: Edits::Transformer(transformer::pooling),
    },
    Rule {
        name: "position",
        reason: "tokens need their place in the image; fixed positions in two dimensions need not be learned",
        edits: Edits::Transformer(transformer::position),
    },
    Rule {
        name: "activation",
        reason: "activations differ in cost, and in whether they pass negative values",
        edits: Edits::Transformer(transformer::activation),
    },
    Rule {
        name: "softmax",
        reason: "the loss has a softmax of its own: a second one makes gradients small",
        edits: Edits::Transformer(transformer::softmax),
    },
    Rule {
        name: "tokens",
        reason: "pixels of a square belong together; consecutive ones in memory are a strip of one row",
        edits: Edits::Transformer(transformer::tokens),
    },
    Rule {
        name: "qkv-bias",
        reason: "biases of query, key and value change little, and cost little",
        edits: Edits::Transformer(transformer::qkv_bias),
    },
    Rule {
        name: "decoder",
        reason: "a decoder doubles the blocks; a class token in the encoder does without",
        edits: Edits::Transformer(transformer::decoder),
    },
];

impl Rule {
    /// The edits that this rule makes of a model.
    pub fn edits(&self, model: &ModelConfig) -> Vec<Edit> {
        let of_stack = |make: fn(&stack::Stack) -> Vec<Edit>| match model {
            ModelConfig::Stack(config) => make(&stack::Stack::new(config)),
            _ => Vec::new(),
        };
        let of_transformer = |make: fn(&transformer::Keys) -> Vec<Edit>| {
            transformer::Keys::of(model).map_or_else(Vec::new, |keys| make(&keys))
        };
        let mut edits = match self.edits {
            Edits::Stack(make) => of_stack(make),
            Edits::Transformer(make) => of_transformer(make),
            Edits::Both(stack, transformer) => [of_stack(stack), of_transformer(transformer)].concat(),
        };
        for edit in &mut edits {
            edit.rule = self.name;
            if edit.why.is_empty() {
                edit.why = self.reason;
            }
        }
        edits
    }
}

/// The rules of these names; all where none are named.
///
/// # Errors
/// When there is no rule of a name.
pub fn named(names: &[String]) -> Result<Vec<&'static Rule>, AdviseError> {
    let one = |name: &String| {
        RULES.iter().find(|rule| rule.name == name).ok_or_else(|| AdviseError::UnknownRule { name: name.clone() })
    };
    if names.is_empty() { Ok(RULES.iter().collect()) } else { names.iter().map(one).collect() }
}

impl Edit {
    /// Makes an edit; its rule, and the rule's reason, are filled in by [`Rule::edits`].
    fn new(what: impl Into<String>, changes: Vec<Change>) -> Edit {
        Edit { rule: "", what: what.into(), why: "", changes }
    }

    /// The same with a reason of its own.
    fn because(self, why: &'static str) -> Edit {
        Edit { why, ..self }
    }

    /// The parts that it changes: keys, or names of layers.
    pub fn parts(&self) -> Vec<&str> {
        self.changes.iter().map(Change::part).collect()
    }

    /// The parts that are no longer what they were: what is put after a layer leaves the layer as it is.
    pub fn replaced(&self) -> impl Iterator<Item = &str> {
        self.changes.iter().filter(|change| !matches!(change, Change::Insert(..))).map(Change::part)
    }

    /// Whether two edits change different parts, so that both can be made.
    pub fn goes_with(&self, other: &Edit) -> bool {
        self.changes.iter().all(|own| other.changes.iter().all(|change| !own.meets(change)))
    }
}

impl Change {
    /// The key or the layer that it changes.
    fn part(&self) -> &str {
        match self {
            Change::Set(key, _) => key,
            Change::Size(layer, _)
            | Change::Option(layer, ..)
            | Change::Replace(layer, _)
            | Change::Insert(layer, _)
            | Change::Remove(layer)
            | Change::Move(layer, _) => layer,
        }
    }

    /// Whether both change the same thing of the same part. A layer's size and each of its options are things of their own,
    /// and so is the place behind it.
    fn meets(&self, other: &Change) -> bool {
        let thing = |change: &Change| match change {
            Change::Size(..) => Some(' '),
            Change::Option(_, option, _) => Some(*option),
            Change::Insert(..) => Some('+'),
            Change::Set(..) | Change::Replace(..) | Change::Remove(_) | Change::Move(..) => None,
        };
        let are_apart = match (thing(self), thing(other)) {
            (Some(own), Some(other)) => own != other,
            // What follows a layer stays, whatever becomes of the layer itself, as long as it is there.
            (Some('+'), None) => !matches!(other, Change::Remove(_)),
            (None, Some('+')) => !matches!(self, Change::Remove(_)),
            _ => false,
        };
        self.part() == other.part() && !are_apart
    }
}

/// Makes edits of a model; none where the outcome is not a model that fits the images.
pub fn apply(edits: &[&Edit], model: &ModelConfig) -> Option<(ModelSpec, ModelConfig)> {
    let facts: ImageFacts = model.facts();
    let changes = edits.iter().flat_map(|edit| &edit.changes);
    let spec = match model.spec() {
        ModelSpec::Stack(spec) => ModelSpec::Stack(stack::apply(changes, spec)?),
        spec => transformer::apply(changes, &spec)?,
    };
    let config = spec.with_facts(facts).ok()?;
    Some((spec, config))
}
