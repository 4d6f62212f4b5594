//! Models of kind `reader`: an encoder for a strip of digits, and a decoder that writes them one by one.
//! Source: experiment E5, after Vaswani et al. 2017.

use super::kind::{Checked, ImageFacts, KindSpec, Task, agree};
use super::options::{Activation, AttentionScale, Block, Pooling, Position};
use super::vit::{CHANNELS_MAX, DEPTH_MAX, DROPOUT_MAX, NUM_CLASSES_MAX, VitSpec, WIDTH_MAX};
use crate::advice::Suggestion;
use crate::config::data::IMAGE_SIZE_MAX;
use crate::config::error::RuleError;
use crate::config::schema::{Range, config_table};
use crate::numbers::counted;

/// A checked [`ReaderSpec`].
pub type ReaderConfig = Checked<ReaderSpec>;

/// The images that strips are made of: MNIST's, or others of the same shape and classes.
pub const DIGITS: ImageFacts = ImageFacts { image_size: 28, channels: 1, num_classes: 10 };

config_table! {
    /// Sizes and options of a reader as written, not yet checked.
    pub struct ReaderSpec in "model" {
        /// Height and width of one digit's image, in pixels. Always 28.
        image_size: Option<usize> = None, range Range::Whole(1, IMAGE_SIZE_MAX as u64), example 28;
        /// Channels of the image. Always 1.
        channels: Option<usize> = None, range Range::Whole(1, CHANNELS_MAX), example 1;
        /// Number of digits. Always 10.
        num_classes: Option<usize> = None, range Range::Whole(2, NUM_CLASSES_MAX), example 10;
        /// Height and width of one square patch of the strip, in pixels. Divides 28.
        patch_size: usize = 7, range Range::Whole(1, IMAGE_SIZE_MAX as u64);
        /// Length of one token vector. Even, and a multiple of `num_heads`.
        embed_dim: usize = 64, range Range::Whole(1, WIDTH_MAX as u64);
        /// Number of encoder blocks.
        depth: usize = 3, range Range::Whole(1, DEPTH_MAX);
        /// Number of decoder blocks.
        decoder_depth: usize = 2, range Range::Whole(1, DEPTH_MAX);
        /// Number of attention heads.
        num_heads: usize = 4, range Range::Whole(1, WIDTH_MAX as u64);
        /// Width of the MLP's hidden layer as a multiple of `embed_dim`.
        mlp_ratio: f64 = 2.0, range Range::Positive;
        /// Activation function of the MLP.
        activation: Activation = Activation::Relu;
        /// Where the norms of a block are.
        block: Block = Block::PreNorm;
        /// Attention scores are divided by the square root of this.
        attention_scale: AttentionScale = AttentionScale::HeadDim;
        /// Dropout probability on embeddings, on attention weights, and on the output of each half of a block.
        dropout: f64 = 0.0, range Range::Between(0.0, DROPOUT_MAX), example 0.1;
        /// Added to the variance in layer norms.
        norm_eps: f64 = 1e-5, range Range::Between(1e-12, 1.0);
    }
}

impl KindSpec for ReaderSpec {
    type Layout = ();

    const TASK: Task = Task::ReadStrips;
    const SUMMARY: &'static str = "encoder and decoder that read strips of digits, one digit after the other";
    const SOURCE: &'static str = "Vaswani et al. 2017";

    fn sizes(&mut self) -> [&mut Option<usize>; 3] {
        [&mut self.image_size, &mut self.channels, &mut self.num_classes]
    }

    fn check(&self) -> Result<(), RuleError> {
        self.check_ranges()?;
        agree(DIGITS, [self.image_size, self.channels, self.num_classes])?;
        self.as_vit().check()
    }

    fn fit(&self, facts: ImageFacts) -> Result<(), RuleError> {
        if facts == DIGITS {
            return Ok(());
        }
        let ImageFacts { image_size, channels, num_classes } = facts;
        let problem = format!(
            "needs 10 classes of 28x28 gray images, but the data set has {} of {image_size}x{image_size} with {}",
            counted(num_classes, "class"),
            counted(channels, "channel")
        );
        let suggestion = Suggestion::new().set("data.name", "mnist").or().set("data.name", "digits");
        Err(RuleError::new("model.kind", "reader", problem).suggest(suggestion.text("with all classes")))
    }

    fn describe(model: &ReaderConfig) -> String {
        let ReaderSpec { depth, decoder_depth, num_heads, embed_dim, .. } = *model.spec();
        let (blocks, heads) = (counted(decoder_depth, "block"), counted(num_heads, "head"));
        format!("strip reader: encoder {depth}, decoder {blocks}, {heads}, width {embed_dim}")
    }
}

impl ReaderSpec {
    /// A vision transformer of the same sizes, to which the same rules apply.
    fn as_vit(&self) -> VitSpec {
        VitSpec {
            image_size: Some(DIGITS.image_size),
            patch_size: self.patch_size,
            embed_dim: self.embed_dim,
            depth: self.depth,
            num_heads: self.num_heads,
            mlp_ratio: self.mlp_ratio,
            dropout: self.dropout,
            norm_eps: self.norm_eps,
            position: Position::SineCosine,
            pooling: Pooling::Mean,
            ..VitSpec::default()
        }
    }

    /// Width of the MLP's hidden layer.
    pub fn hidden_dim(&self) -> usize {
        (self.mlp_ratio * self.embed_dim as f64).round() as usize
    }

    /// The factor of attention scores.
    pub fn scale(&self) -> f32 {
        self.attention_scale.factor(self.embed_dim, self.num_heads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_spec_is_filled_in_and_stays_good() {
        let config = ReaderSpec::default().with_facts(DIGITS).expect("a good spec");
        assert_eq!((config.spec().hidden_dim(), config.spec().scale()), (128, 0.25));
        assert_eq!(config.spec().clone().with_facts(DIGITS), Ok(config));
    }

    #[test]
    fn sizes_and_data_that_do_not_fit_are_refused_with_a_hint() {
        let refused = |spec: ReaderSpec, facts: ImageFacts| {
            let error = spec.with_facts(facts).expect_err("a bad spec");
            (error.to_string(), error.suggestion.expect("a hint").to_string())
        };
        let (error, hint) = refused(ReaderSpec { patch_size: 5, ..ReaderSpec::default() }, DIGITS);
        assert!(error.starts_with("image_size 28 is not a multiple of patch_size 5"), "{error}");
        assert!(hint.contains("patch_size = 4"), "{hint}");
        let (error, _) = refused(ReaderSpec { decoder_depth: 0, ..ReaderSpec::default() }, DIGITS);
        assert_eq!(error, "decoder_depth 0 is not between 1 and 1000");
        let colors = ImageFacts { image_size: 32, channels: 3, num_classes: 10 };
        let (error, hint) = refused(ReaderSpec::default(), colors);
        assert_eq!(
            error,
            "kind \"reader\" needs 10 classes of 28x28 gray images, but the data set has 10 classes of 32x32 with 3 channels"
        );
        assert_eq!(hint, "use data.name = \"mnist\", or data.name = \"digits\" with all classes");
        let (error, hint) = refused(ReaderSpec { num_classes: Some(5), ..ReaderSpec::default() }, DIGITS);
        assert_eq!(error, "num_classes 5 does not match the data set's 10");
        assert_eq!(hint, "use model.num_classes = 10, or remove model.num_classes");
    }
}
