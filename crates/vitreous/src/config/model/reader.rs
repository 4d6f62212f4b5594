//! Models of kind `reader`: an encoder for a strip of digits, and a decoder that writes them one by one.
//! Source: experiment E5, after Vaswani et al. 2017.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::kind::{Checked, ImageFacts, KindSpec, Task, contradiction};
use super::options::{Activation, AttentionScale, Block, Pooling, Position};
use super::vit::{DEPTH_MAX, VitSpec, VitSpecError};
use crate::numbers::counted;

/// A checked [`ReaderSpec`].
pub type ReaderConfig = Checked<ReaderSpec>;

/// The images that strips are made of: MNIST's, or others of the same shape and classes.
pub const DIGITS: ImageFacts = ImageFacts { image_size: 28, channels: 1, num_classes: 10 };

/// Sizes and options of a reader as written, not yet checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReaderSpec {
    /// Height and width of one digit's image, in pixels; always 28.
    pub image_size: Option<usize>,
    /// Channels of the image; always 1.
    pub channels: Option<usize>,
    /// Number of digits; always 10.
    pub num_classes: Option<usize>,
    /// Height and width of one square patch of the strip, in pixels. Divides 28.
    pub patch_size: usize,
    /// Length of one token vector. Even, and a multiple of `num_heads`.
    pub embed_dim: usize,
    /// Number of encoder blocks.
    pub depth: usize,
    /// Number of decoder blocks.
    pub decoder_depth: usize,
    /// Number of attention heads.
    pub num_heads: usize,
    /// Width of the MLP's hidden layer as a multiple of `embed_dim`.
    pub mlp_ratio: f64,
    /// Activation function of the MLP.
    pub activation: Activation,
    /// Where the norms of a block are.
    pub block: Block,
    /// Attention scores are divided by the square root of this.
    pub attention_scale: AttentionScale,
    /// Probability of dropout: on embeddings, on attention weights, and on the output of each half of a block.
    pub dropout: f64,
    /// Added to the variance in layer norms.
    pub norm_eps: f64,
}

impl Default for ReaderSpec {
    fn default() -> Self {
        ReaderSpec {
            image_size: None,
            channels: None,
            num_classes: None,
            patch_size: 7,
            embed_dim: 64,
            depth: 3,
            decoder_depth: 2,
            num_heads: 4,
            mlp_ratio: 2.0,
            activation: Activation::Relu,
            block: Block::PreNorm,
            attention_scale: AttentionScale::HeadDim,
            dropout: 0.0,
            norm_eps: 1e-5,
        }
    }
}

/// Says which rule a [`ReaderSpec`] breaks.
#[derive(Clone, Debug, PartialEq, Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum ReaderError {
    /// A rule of vision transformers.
    #[error(transparent)]
    Sizes(#[from] VitSpecError),
    /// The decoder has no blocks, or too many.
    #[error("decoder_depth {decoder_depth} is not between 1 and {most} ([model])")]
    DecoderDepth { decoder_depth: usize, most: usize },
    /// A written size is not that of digits.
    #[error("{key} {value} is not {must}, which a reader needs ([model])")]
    Written { key: &'static str, value: usize, must: usize },
    /// The images are not digits.
    #[error(
        "a reader needs 10 classes of 28x28 gray images, but the data set has {} of {}x{} with {}",
        counted(.0.num_classes, "class"), .0.image_size, .0.image_size, counted(.0.channels, "channel")
    )]
    NotDigits(ImageFacts),
}

impl ReaderError {
    /// Says what would work instead.
    pub fn hint(&self) -> Option<String> {
        match self {
            ReaderError::Sizes(error) => error.hint(),
            ReaderError::DecoderDepth { .. } => Some("use decoder_depth 2".to_string()),
            ReaderError::Written { key, must, .. } => Some(format!("leave {key} out, or use {must}")),
            ReaderError::NotDigits(_) => Some("use --data mnist or --data digits, with all classes".to_string()),
        }
    }
}

impl KindSpec for ReaderSpec {
    type Error = ReaderError;
    type Layout = ();

    const TASK: Task = Task::ReadStrips;
    const SUMMARY: &'static str = "encoder and decoder that read strips of digits, one digit after the other";
    const SOURCE: &'static str = "Vaswani et al. 2017";

    fn sizes(&mut self) -> [&mut Option<usize>; 3] {
        [&mut self.image_size, &mut self.channels, &mut self.num_classes]
    }

    fn check(&self) -> Result<(), ReaderError> {
        self.as_vit().check()?;
        if let Some((key, value, must)) = contradiction(DIGITS, [self.image_size, self.channels, self.num_classes]) {
            return Err(ReaderError::Written { key, value, must });
        }
        let (decoder_depth, most) = (self.decoder_depth, DEPTH_MAX);
        if !(1..=most).contains(&decoder_depth) {
            return Err(ReaderError::DecoderDepth { decoder_depth, most });
        }
        Ok(())
    }

    fn fit(&self, facts: ImageFacts) -> Result<(), ReaderError> {
        if facts == DIGITS { Ok(()) } else { Err(ReaderError::NotDigits(facts)) }
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
            (error.to_string(), error.hint().expect("a hint"))
        };
        let (error, hint) = refused(ReaderSpec { patch_size: 5, ..ReaderSpec::default() }, DIGITS);
        assert!(error.starts_with("image_size 28 is not a multiple of patch_size 5"), "{error}");
        assert!(hint.contains("patch_size 4"), "{hint}");
        let (error, _) = refused(ReaderSpec { decoder_depth: 0, ..ReaderSpec::default() }, DIGITS);
        assert_eq!(error, "decoder_depth 0 is not between 1 and 1000 ([model])");
        let colours = ImageFacts { image_size: 32, channels: 3, num_classes: 10 };
        let (error, hint) = refused(ReaderSpec::default(), colours);
        assert_eq!(
            error,
            "a reader needs 10 classes of 28x28 gray images, but the data set has 10 classes of 32x32 with 3 channels"
        );
        assert_eq!(hint, "use --data mnist or --data digits, with all classes");
        let (error, hint) = refused(ReaderSpec { num_classes: Some(5), ..ReaderSpec::default() }, DIGITS);
        assert_eq!(error, "num_classes 5 is not 10, which a reader needs ([model])");
        assert_eq!(hint, "leave num_classes out, or use 10");
    }
}
