//! Cross-entropy with label smoothing (Szegedy et al. 2016, section 7), and whether the prediction was right.
//!
//! The target of an example with label `l` is `(1 - smoothing) [class = l] + smoothing / classes`, as in PyTorch.
//! A sequence has a label for each token; a label of -1 means no target: its token does not count.

use crate::graph::{Graph, GraphError, NodeId, Shape, wrong_value};
use crate::ops::Op;

/// Maximum, difference, exponential, sum and the product with the target, for each logit.
pub(super) const FLOPS: u64 = 6;

impl Graph {
    /// Returns each example's cross-entropy loss.
    ///
    /// # Shapes
    /// - `logits`: `[classes]`; `label`: `[]`, a class number; returned: `[]`
    ///
    /// # Errors
    /// When the shapes do not fit or `smoothing` is outside [0, 1).
    pub fn cross_entropy(
        &mut self,
        name: &str,
        logits: NodeId,
        label: NodeId,
        smoothing: f32,
    ) -> Result<NodeId, GraphError> {
        self.check_logits(name, logits, label)?;
        if !(0.0..1.0).contains(&smoothing) {
            return Err(wrong_value(name, "smoothing", smoothing, "in [0, 1)"));
        }
        self.push(name, Op::CrossEntropy { smoothing }, &[logits, label], &[], Shape(vec![]))
    }

    /// Returns 1 where the largest logit is the label's, else 0; the first of equal logits counts.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn correct(&mut self, name: &str, logits: NodeId, label: NodeId) -> Result<NodeId, GraphError> {
        self.check_logits(name, logits, label)?;
        self.push(name, Op::Correct, &[logits, label], &[], Shape(vec![]))
    }

    /// Returns the sum of the cross-entropy losses of an example's targets; tokens with the label -1 have none.
    ///
    /// # Shapes
    /// - `logits`: `[tokens, classes]`; `labels`: `[tokens]`, class numbers or -1; returned: `[]`
    ///
    /// # Errors
    /// When the shapes do not fit or `smoothing` is outside [0, 1).
    pub fn cross_entropy_tokens(
        &mut self,
        name: &str,
        logits: NodeId,
        labels: NodeId,
        smoothing: f32,
    ) -> Result<NodeId, GraphError> {
        self.check_token_logits(name, logits, labels)?;
        if !(0.0..1.0).contains(&smoothing) {
            return Err(wrong_value(name, "smoothing", smoothing, "in [0, 1)"));
        }
        self.push(name, Op::CrossEntropyTokens { smoothing }, &[logits, labels], &[], Shape(vec![]))
    }

    /// Returns 1 where all of an example's targets have the largest logit, else 0; the first of equal logits
    /// counts.
    ///
    /// # Errors
    /// When the shapes do not fit.
    pub fn correct_sequence(&mut self, name: &str, logits: NodeId, labels: NodeId) -> Result<NodeId, GraphError> {
        self.check_token_logits(name, logits, labels)?;
        self.push(name, Op::CorrectSequence, &[logits, labels], &[], Shape(vec![]))
    }

    fn check_token_logits(&self, name: &str, logits: NodeId, labels: NodeId) -> Result<(), GraphError> {
        let (found, labels) = (self.shape(logits), self.shape(labels));
        if found.0.len() != 2 {
            return Err(self.wrong_shape(name, found, "[tokens, classes]"));
        }
        if labels.0 != [found.rows()] {
            return Err(self.wrong_shape(name, labels, format!("[tokens] of {found}, one label for each token")));
        }
        Ok(())
    }

    fn check_logits(&self, name: &str, logits: NodeId, label: NodeId) -> Result<(), GraphError> {
        let (found, label) = (self.shape(logits), self.shape(label));
        if found.0.len() != 1 {
            return Err(self.wrong_shape(name, found, "[classes]"));
        }
        if !label.0.is_empty() {
            return Err(self.wrong_shape(name, label, "[], one label for each example"));
        }
        Ok(())
    }
}
