//! Models of kind `sequence-vit`: a transformer whose attention heads and MLP project whole flattened sequences, with a
//! softmax over the query axis. Source: experiment E4.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::kind::{Checked, ImageFacts, KindSpec};
use super::options::Pooling;
use super::vit::{VitSpec, VitSpecError, WIDTH_MAX};
use crate::numbers::counted;

/// A checked [`SequenceVitSpec`].
pub type SequenceVitConfig = Checked<SequenceVitSpec>;

/// Sizes of a transformer over whole sequences as written, not yet checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SequenceVitSpec {
    /// Height and width of the square input image, in pixels.
    pub image_size: Option<usize>,
    /// Channels of the input image.
    pub channels: Option<usize>,
    /// Number of classes.
    pub num_classes: Option<usize>,
    /// Height and width of one square patch, in pixels. Divides `image_size`.
    pub patch_size: usize,
    /// Length of one token vector. A multiple of `num_heads`.
    pub embed_dim: usize,
    /// Number of encoder blocks.
    pub depth: usize,
    /// Number of attention heads.
    pub num_heads: usize,
    /// Width of the MLP's hidden layer as a multiple of the whole sequence's.
    pub mlp_ratio: f64,
    /// How the products of attention are written. Both compute the same function of the same weights.
    pub attention_form: AttentionForm,
    /// Added to the variance in layer norms.
    pub norm_eps: f64,
}

/// How the products of attention are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttentionForm {
    /// Matrix products, one head after the other.
    Loop,
    /// One product over all heads at once.
    Einsum,
}

impl Default for SequenceVitSpec {
    fn default() -> Self {
        SequenceVitSpec {
            image_size: None,
            channels: None,
            num_classes: None,
            patch_size: 16,
            embed_dim: 128,
            depth: 2,
            num_heads: 2,
            mlp_ratio: 2.0,
            attention_form: AttentionForm::Loop,
            norm_eps: 1e-5,
        }
    }
}

/// Says which rule a [`SequenceVitSpec`] breaks.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum SequenceVitError {
    /// A rule of vision transformers.
    #[error(transparent)]
    Sizes(#[from] VitSpecError),
    /// The whole sequence is too long to be projected.
    #[error(
        "patch_size {patch_size} makes {tokens} tokens of embed_dim {embed_dim}, whose MLP is {hidden} wide, more than \
         {WIDTH_MAX} ([model])"
    )]
    Width {
        /// Height and width of a patch.
        patch_size: usize,
        /// Length of the sequence.
        tokens: usize,
        /// Length of one token vector.
        embed_dim: usize,
        /// Width of the MLP's hidden layer.
        hidden: u64,
    },
}

impl SequenceVitError {
    /// Says what would work instead.
    pub fn hint(&self) -> Option<String> {
        match self {
            SequenceVitError::Sizes(error) => error.hint(),
            SequenceVitError::Width { .. } => {
                Some("use a larger patch_size, a smaller embed_dim, or kind = \"vit\"".to_string())
            }
        }
    }
}

impl KindSpec for SequenceVitSpec {
    type Error = SequenceVitError;
    type Layout = ();

    const SUMMARY: &'static str = "transformer whose linear layers project the whole sequence of patches";
    const SOURCE: &'static str = "experiment E4";

    fn sizes(&mut self) -> [&mut Option<usize>; 3] {
        [&mut self.image_size, &mut self.channels, &mut self.num_classes]
    }

    fn check(&self) -> Result<(), SequenceVitError> {
        self.as_vit().check()?;
        self.image_size.map_or(Ok(()), |image_size| self.check_width(image_size))
    }

    fn fit(&self, facts: ImageFacts) -> Result<(), SequenceVitError> {
        self.as_vit().fit(facts)?;
        self.check_width(facts.image_size)
    }

    fn describe(model: &SequenceVitConfig) -> String {
        let SequenceVitSpec { depth, num_heads, embed_dim, .. } = *model.spec();
        let (blocks, heads) = (counted(depth, "block"), counted(num_heads, "head"));
        format!("whole-sequence ViT {blocks}, {heads}, width {embed_dim}")
    }
}

impl SequenceVitSpec {
    /// A vision transformer of the same sizes, to which the same rules apply.
    fn as_vit(&self) -> VitSpec {
        VitSpec {
            image_size: self.image_size,
            channels: self.channels,
            num_classes: self.num_classes,
            patch_size: self.patch_size,
            embed_dim: self.embed_dim,
            depth: self.depth,
            num_heads: self.num_heads,
            mlp_ratio: self.mlp_ratio,
            norm_eps: self.norm_eps,
            pooling: Pooling::Cls,
            ..VitSpec::default()
        }
    }

    fn check_width(&self, image_size: usize) -> Result<(), SequenceVitError> {
        let tokens = (image_size / self.patch_size).pow(2) + 1;
        let widest = (tokens * self.embed_dim) as f64 * self.mlp_ratio.max(1.0);
        if widest <= WIDTH_MAX as f64 {
            return Ok(());
        }
        let SequenceVitSpec { patch_size, embed_dim, .. } = *self;
        Err(SequenceVitError::Width { patch_size, tokens, embed_dim, hidden: widest as u64 })
    }
}

impl SequenceVitConfig {
    /// Length of the sequence: the class token and the patches.
    pub fn tokens(&self) -> usize {
        (self.facts().image_size / self.spec().patch_size).pow(2) + 1
    }

    /// Length of the part of a token vector that one head sees.
    pub fn head_dim(&self) -> usize {
        self.spec().embed_dim / self.spec().num_heads
    }

    /// Width of the MLP's hidden layer.
    pub fn hidden_dim(&self) -> usize {
        (self.spec().mlp_ratio * (self.tokens() * self.spec().embed_dim) as f64).round() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_the_experiments() {
        let facts = ImageFacts { image_size: 64, channels: 3, num_classes: 5 };
        let config = SequenceVitSpec::default().with_facts(facts).expect("a good spec");
        assert_eq!((config.tokens(), config.head_dim(), config.hidden_dim()), (17, 64, 4352));
        assert_eq!(config.spec().clone().with_facts(facts), Ok(config));
    }

    #[test]
    fn a_sequence_that_is_too_wide_to_project_is_refused() {
        let spec = SequenceVitSpec { image_size: Some(64), patch_size: 4, ..SequenceVitSpec::default() };
        let error = spec.check().expect_err("257 tokens of 128, twice");
        assert_eq!(
            error.to_string(),
            "patch_size 4 makes 257 tokens of embed_dim 128, whose MLP is 65792 wide, more than 65536 ([model])"
        );
        assert_eq!(error.hint().expect("a hint"), "use a larger patch_size, a smaller embed_dim, or kind = \"vit\"");
        let odd = SequenceVitSpec { embed_dim: 127, ..SequenceVitSpec::default() }.check().expect_err("odd");
        assert_eq!(odd.to_string(), "embed_dim 127 is not a multiple of num_heads 2 ([model])");
        assert_eq!(odd.hint().expect("a hint"), "use embed_dim 128, or num_heads 1");
    }
}
