//! What every kind of model provides: the keys of its `[model]` table, their rules, and a few words about itself.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::advice::Suggestion;
use crate::config::error::RuleError;

/// What the data set decides about a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageFacts {
    /// Height and width of its square images, in pixels.
    pub image_size: usize,
    /// Channels of its images.
    pub channels: usize,
    /// Number of its classes.
    pub num_classes: usize,
}

/// What a kind of model is trained to do. What an example is, and which answer is correct, is in `data::ImageSet`; what
/// is measured, in `evaluate`; how a result is printed, in `cli`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Give the class of an image.
    Classify,
    /// Write the digits of a strip.
    ReadStrips,
}

/// The keys of one kind of model as written, not yet checked. Its fields are the keys of `[model]`; sizes that the data
/// set decides (`image_size`, `channels`, `num_classes`) may be left out.
pub trait KindSpec: Clone + Debug + Default + PartialEq + Serialize + DeserializeOwned {
    /// What is worked out once, when the spec is checked; `()` where nothing is.
    type Layout: Clone + Debug + PartialEq;

    /// What models of this kind are trained to do.
    const TASK: Task = Task::Classify;
    /// What models of this kind are, in a few words.
    const SUMMARY: &'static str;
    /// The paper or the experiment that they come from.
    const SOURCE: &'static str;

    /// `image_size`, `channels` and `num_classes`, in this order.
    fn sizes(&mut self) -> [&mut Option<usize>; 3];

    /// Checks the table by itself; sizes that the data set decides may be missing.
    ///
    /// # Errors
    /// The first rule that is broken.
    fn check(&self) -> Result<(), RuleError>;

    /// Checks a spec that passed [`check`](KindSpec::check) against the data set.
    ///
    /// # Errors
    /// When the spec contradicts the data, or breaks a rule now that all sizes are known.
    fn fit(&self, facts: ImageFacts) -> Result<Self::Layout, RuleError>;

    /// Describes a checked model, as `ViT 6 blocks, 8 heads, width 128`.
    fn describe(model: &Checked<Self>) -> String;

    /// Finds a batch norm that has only one value per channel when a batch is one image.
    fn batch_norm_of_one_place(_: &Checked<Self>) -> Option<&str> {
        None
    }

    /// The models of this kind that have a name of their own.
    fn named() -> Vec<NamedModel<Self>> {
        Vec::new()
    }

    /// Checks the whole spec and fills in the sizes that the data set decides.
    ///
    /// # Errors
    /// The first rule that is broken.
    fn with_facts(&self, facts: ImageFacts) -> Result<Checked<Self>, RuleError> {
        self.check()?;
        let layout = self.fit(facts)?;
        let mut spec = self.clone();
        let found = [facts.image_size, facts.channels, facts.num_classes];
        spec.sizes().into_iter().zip(found).for_each(|(size, found)| *size = Some(found));
        Ok(Checked { spec, facts, layout })
    }
}

/// A model with a name of its own, such as `vit-tiny`.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedModel<S> {
    /// The name.
    pub name: &'static str,
    /// The paper that describes it.
    pub source: &'static str,
    /// Its keys.
    pub spec: S,
    /// The images for which its source states the number of parameters.
    pub facts: ImageFacts,
}

/// A checked spec and the facts of its data set: model code accepts only this, so it never meets an invalid size.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked<S: KindSpec> {
    spec: S,
    facts: ImageFacts,
    layout: S::Layout,
}

impl<S: KindSpec> Checked<S> {
    /// The spec, with the sizes that the data set decides filled in, as it is saved with a run.
    pub fn spec(&self) -> &S {
        &self.spec
    }

    /// The sizes that the data set decides.
    pub fn facts(&self) -> ImageFacts {
        self.facts
    }

    /// What was worked out when the spec was checked.
    pub fn layout(&self) -> &S::Layout {
        &self.layout
    }
}

/// Checks that no written size contradicts the data.
pub(super) fn agree(facts: ImageFacts, written: [Option<usize>; 3]) -> Result<(), RuleError> {
    let keys = ["model.image_size", "model.channels", "model.num_classes"];
    let found = [facts.image_size, facts.channels, facts.num_classes];
    for ((key, written), found) in keys.into_iter().zip(written).zip(found) {
        if let Some(written) = written.filter(|written| *written != found) {
            let rule = RuleError::new(key, written, format!("does not match the data set's {found}"));
            return Err(rule.suggest(Suggestion::new().set(key, found).or().unset(key)));
        }
    }
    Ok(())
}
