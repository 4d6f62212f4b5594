//! The neighbors of a model: what one edit makes of it, or several, each checked as a config is.

use std::collections::BTreeSet;

use serde::Serialize;

use super::rules::{self, Edit};
use super::{AdviseError, Scope};
use crate::config::model::{ModelConfig, ModelSpec, Placed, PlacedKind};
use crate::models;

/// A model that edits make of the base.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// What its runs are called: the rule and a number, joined by `+` where there are several edits.
    pub name: String,
    /// What is changed.
    pub edits: Vec<Edit>,
    /// The model as it is written in a config.
    pub spec: ModelSpec,
    /// The same, checked.
    pub config: ModelConfig,
    /// Number of trained values.
    pub parameters: usize,
    /// How far it is from the base.
    pub distance: Distance,
}

/// How far a model is from the base: the first number that differs decides which is nearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Distance {
    /// Edits.
    pub edits: usize,
    /// Layers, or keys of the model, that are changed.
    pub layers: usize,
    /// Parameters, more or fewer.
    pub parameters: usize,
}

/// The base, and everything that edits may make of it.
pub struct Neighborhood {
    base: ModelConfig,
    parameters: usize,
    most_parameters: Option<usize>,
    /// What one edit makes, in the order of the rules.
    pub singles: Vec<Candidate>,
}

impl Candidate {
    /// What is changed, in one line.
    pub fn what(&self) -> String {
        self.edits.iter().map(|edit| edit.what.as_str()).collect::<Vec<_>>().join("; ")
    }

    /// Why, in one sentence for each edit.
    pub fn why(&self) -> String {
        let mut reasons: Vec<&str> = self.edits.iter().map(|edit| edit.why).collect();
        reasons.dedup();
        reasons.join("; ")
    }
}

impl Neighborhood {
    /// Makes all models that one edit makes of a base, each once.
    ///
    /// # Errors
    /// When a rule or a part is unknown, or nothing is left.
    pub fn new(base: &ModelConfig, scope: &Scope) -> Result<Neighborhood, AdviseError> {
        let rules = rules::named(&scope.rules)?;
        let known = parts(base);
        let keep: Vec<&str> = scope.keep.iter().map(|part| part.strip_prefix("model.").unwrap_or(part)).collect();
        if let Some(name) = keep.iter().find(|part| !known.iter().any(|known| is_in(known, part))) {
            return Err(AdviseError::UnknownPart { name: (*name).to_string(), known });
        }
        let mut neighborhood = Neighborhood {
            base: base.clone(),
            parameters: parameters(base),
            most_parameters: scope.max_params,
            singles: Vec::new(),
        };
        let mut seen = BTreeSet::from([identity(base)]);
        let mut is_limited = !scope.rules.is_empty() || !keep.is_empty() || scope.max_params.is_some();
        for rule in rules {
            let mut number = 0;
            for edit in rule.edits(base) {
                if edit.replaced().any(|part| keep.iter().any(|kept| is_in(part, kept))) {
                    is_limited = true;
                    continue;
                }
                let name = format!("{}-{}", rule.name, number + 1);
                let Some((candidate, identity)) = neighborhood.candidate(name, vec![edit]) else { continue };
                if seen.insert(identity) {
                    number += 1;
                    neighborhood.singles.push(candidate);
                }
            }
        }
        if neighborhood.singles.is_empty() {
            let kind = base.spec().kind().name().to_string();
            return Err(AdviseError::NoCandidates { kind, is_limited });
        }
        Ok(neighborhood)
    }

    /// Number of trained values of the base.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// The candidate of a name: a single edit, or several joined by `+`.
    pub(super) fn find(&self, name: &str) -> Option<Candidate> {
        let single = |name: &str| self.singles.iter().find(|one| one.name == name).cloned();
        let mut parts = name.split('+').map(single);
        let first = parts.next()??;
        parts.try_fold(first, |all, next| self.both(&all, &next?))
    }

    /// Makes the edits of two candidates together; none where they change the same part, or do not fit together.
    pub fn both(&self, one: &Candidate, other: &Candidate) -> Option<Candidate> {
        let go_together = one.edits.iter().all(|edit| other.edits.iter().all(|next| edit.goes_with(next)));
        let edits = || one.edits.iter().chain(&other.edits).cloned().collect();
        let (candidate, own) =
            self.candidate(format!("{}+{}", one.name, other.name), edits()).filter(|_| go_together)?;
        // Two edits that come to what one makes are one.
        let is_new = self.singles.iter().all(|single| single.spec != candidate.spec) && own != identity(&self.base);
        is_new.then_some(candidate)
    }

    fn candidate(&self, name: String, edits: Vec<Edit>) -> Option<(Candidate, String)> {
        let (spec, config) = rules::apply(&edits.iter().collect::<Vec<_>>(), &self.base)?;
        let parameters = parameters(&config);
        if self.most_parameters.is_some_and(|most| parameters > most) {
            return None;
        }
        let identity = identity(&config);
        let layers = edits.iter().flat_map(Edit::parts).collect::<BTreeSet<_>>().len();
        let distance = Distance { edits: edits.len(), layers, parameters: parameters.abs_diff(self.parameters) };
        Some((Candidate { name, edits, spec, config, parameters, distance }, identity))
    }
}

fn parameters(config: &ModelConfig) -> usize {
    models::build(config, 0.0).map_or(0, |model| model.graph.parameter_count())
}

/// Whether a part is another one, or inside it.
fn is_in(part: &str, whole: &str) -> bool {
    part.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The parts of a model that an edit may change: its layers, or its keys.
fn parts(config: &ModelConfig) -> Vec<String> {
    fn add(placed: &[Placed], parts: &mut Vec<String>) {
        for layer in placed {
            parts.push(layer.name.clone());
            if let PlacedKind::Residual { body, shortcut } = &layer.kind {
                add(body, parts);
                add(shortcut, parts);
            }
        }
    }
    let mut parts = Vec::new();
    match config {
        ModelConfig::Stack(stack) => add(stack.layout(), &mut parts),
        other => parts.extend(other.spec().kind().keys().iter().map(|key| key.name.to_string())),
    }
    parts
}

/// What tells one model from another: not how its layers are written, but what they are.
pub(super) fn identity(config: &ModelConfig) -> String {
    fn add(placed: &[Placed], text: &mut String) {
        for layer in placed {
            match &layer.kind {
                PlacedKind::Layer(layer) => text.push_str(&format!("{layer:?};")),
                PlacedKind::Residual { body, shortcut } => {
                    text.push('(');
                    add(body, text);
                    text.push('|');
                    add(shortcut, text);
                    text.push(')');
                }
            }
        }
    }
    match config {
        ModelConfig::Stack(stack) => {
            let mut text = String::new();
            add(stack.layout(), &mut text);
            text
        }
        other => format!("{:?}", other.spec()),
    }
}
