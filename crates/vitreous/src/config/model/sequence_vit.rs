//! Models of kind `sequence-vit`: a transformer whose attention heads and MLP project whole flattened sequences, with a
//! softmax over the query axis. Source: experiment E4.

use super::kind::{Checked, ImageFacts, KindSpec};
use super::options::Pooling;
use super::vit::{CHANNELS_MAX, DEPTH_MAX, NUM_CLASSES_MAX, VitSpec, WIDTH_MAX};
use crate::advice::Suggestion;
use crate::config::data::IMAGE_SIZE_MAX;
use crate::config::error::RuleError;
use crate::config::schema::{Range, choices, config_table};
use crate::numbers::counted;

/// A checked [`SequenceVitSpec`].
pub type SequenceVitConfig = Checked<SequenceVitSpec>;

config_table! {
    /// Sizes of a transformer over whole sequences as written, not yet checked.
    pub struct SequenceVitSpec in "model" {
        /// Height and width of the square input image, in pixels. The data decides it.
        image_size: Option<usize> = None, range Range::Whole(1, IMAGE_SIZE_MAX as u64), example 64;
        /// Channels of the input image. The data decides them.
        channels: Option<usize> = None, range Range::Whole(1, CHANNELS_MAX), example 3;
        /// Number of classes. The data decides it.
        num_classes: Option<usize> = None, range Range::Whole(2, NUM_CLASSES_MAX), example 10;
        /// Height and width of one square patch, in pixels. Divides `image_size`.
        patch_size: usize = 16, range Range::Whole(1, IMAGE_SIZE_MAX as u64);
        /// Length of one token vector. A multiple of `num_heads`.
        embed_dim: usize = 128, range Range::Whole(1, WIDTH_MAX as u64);
        /// Number of encoder blocks.
        depth: usize = 2, range Range::Whole(1, DEPTH_MAX);
        /// Number of attention heads.
        num_heads: usize = 2, range Range::Whole(1, WIDTH_MAX as u64);
        /// Width of the MLP's hidden layer as a multiple of the whole sequence's.
        mlp_ratio: f64 = 2.0, range Range::Positive;
        /// How the products of attention are written. Both compute the same function of the same weights.
        attention_form: AttentionForm = AttentionForm::Loop;
        /// Added to the variance in layer norms.
        norm_eps: f64 = 1e-5, range Range::Between(1e-12, 1.0);
    }
}

choices! {
    /// How the products of attention are written.
    pub enum AttentionForm {
        /// Matrix products, one head after the other.
        Loop = "loop",
        /// One product over all heads at once.
        Einsum = "einsum",
    }
}

impl KindSpec for SequenceVitSpec {
    type Layout = ();

    const SUMMARY: &'static str = "transformer whose linear layers project the whole sequence of patches";
    const SOURCE: &'static str = "experiment E4";

    fn sizes(&mut self) -> [&mut Option<usize>; 3] {
        [&mut self.image_size, &mut self.channels, &mut self.num_classes]
    }

    fn check(&self) -> Result<(), RuleError> {
        self.check_ranges()?;
        self.as_vit().check()?;
        self.image_size.map_or(Ok(()), |image_size| self.check_width(image_size))
    }

    fn fit(&self, facts: ImageFacts) -> Result<(), RuleError> {
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

    fn check_width(&self, image_size: usize) -> Result<(), RuleError> {
        let tokens = (image_size / self.patch_size).pow(2) + 1;
        let widest = (tokens * self.embed_dim) as f64 * self.mlp_ratio.max(1.0);
        if widest <= WIDTH_MAX as f64 {
            return Ok(());
        }
        let problem = format!(
            "makes {tokens} tokens of embed_dim {}, whose MLP is {widest} wide, more than {WIDTH_MAX}",
            self.embed_dim
        );
        let rule = RuleError::new("model.patch_size", self.patch_size, problem).and("model.embed_dim");
        let suggestion = Suggestion::new().using("a larger").key("model.patch_size").or().using("a smaller");
        Err(rule.suggest(suggestion.key("model.embed_dim").or().set("model.kind", "vit")))
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
            "patch_size 4 makes 257 tokens of embed_dim 128, whose MLP is 65792 wide, more than 65536"
        );
        let hint = error.suggestion.expect("a hint").to_string();
        assert_eq!(hint, "use a larger model.patch_size, a smaller model.embed_dim, or model.kind = \"vit\"");
        let odd = SequenceVitSpec { embed_dim: 127, ..SequenceVitSpec::default() }.check().expect_err("odd");
        assert_eq!(odd.to_string(), "embed_dim 127 is not a multiple of num_heads 2");
        let hint = odd.suggestion.expect("a hint").to_string();
        assert_eq!(hint, "use model.embed_dim = 128, or model.num_heads = 1");
    }
}
