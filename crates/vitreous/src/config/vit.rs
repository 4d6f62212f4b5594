//! A checked vision transformer: the config that model code accepts.
//!
//! The rules are checked twice, each time whole: on the spec by itself, then with the facts of the data set.

use super::model::{Activation, Block, DropoutPlace, Init, Pooling, Position, VitSpec};
use super::model_rules::VitSpecError;

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

/// A checked [`VitSpec`] and the facts of its data: model code accepts only this, so it never meets a bad size.
#[derive(Clone, Debug, PartialEq)]
pub struct VitConfig {
    spec: VitSpec,
    facts: ImageFacts,
}

impl VitSpec {
    /// Fills in what follows from the data and checks the whole again.
    ///
    /// # Errors
    /// When the spec contradicts the data, or breaks a rule now that all sizes are known.
    pub fn with_facts(&self, facts: ImageFacts) -> Result<VitConfig, VitSpecError> {
        self.check()?;
        let keys = [
            ("image_size", self.image_size, facts.image_size),
            ("channels", self.channels, facts.channels),
            ("num_classes", self.num_classes, facts.num_classes),
        ];
        for (key, written, found) in keys {
            if let Some(written) = written.filter(|&written| written != found) {
                return Err(VitSpecError::Contradiction { key, written, found });
            }
        }
        let spec = VitSpec {
            image_size: Some(facts.image_size),
            channels: Some(facts.channels),
            num_classes: Some(facts.num_classes),
            ..self.clone()
        };
        spec.check_ranges()?;
        spec.check_tokens(facts.image_size, true)?;
        Ok(VitConfig { spec, facts })
    }
}

impl VitConfig {
    /// The spec with the facts of the data filled in, as it is saved with a run.
    pub fn spec(&self) -> &VitSpec {
        &self.spec
    }

    /// Height and width of the square input image, in pixels.
    pub fn image_size(&self) -> usize {
        self.facts.image_size
    }

    /// Channels of the input image.
    pub fn channels(&self) -> usize {
        self.facts.channels
    }

    /// Number of classes.
    pub fn num_classes(&self) -> usize {
        self.facts.num_classes
    }

    /// Height and width of one square patch, in pixels.
    pub fn patch_size(&self) -> usize {
        self.spec.patch_size
    }

    /// Length of one token vector.
    pub fn embed_dim(&self) -> usize {
        self.spec.embed_dim
    }

    /// Number of encoder blocks.
    pub fn depth(&self) -> usize {
        self.spec.depth
    }

    /// Number of attention heads.
    pub fn num_heads(&self) -> usize {
        self.spec.num_heads
    }

    /// Length of a token vector's part that one head sees.
    pub fn head_dim(&self) -> usize {
        self.spec.embed_dim / self.spec.num_heads
    }

    /// Width of the MLP's hidden layer.
    pub fn hidden_dim(&self) -> usize {
        (self.spec.mlp_ratio * self.spec.embed_dim as f64).round() as usize
    }

    /// Number of tokens an encoder block sees: the patches, and the class token where there is one.
    pub fn tokens(&self) -> usize {
        (self.image_size() / self.patch_size()).pow(2) + usize::from(self.pooling() == Pooling::Cls)
    }

    /// Rows of the table of learned positions.
    pub fn num_positions(&self) -> usize {
        self.spec.num_positions.unwrap_or_else(|| self.tokens())
    }

    /// Activation function of the MLP.
    pub fn activation(&self) -> Activation {
        self.spec.activation
    }

    /// How an encoder block is put together.
    pub fn block(&self) -> Block {
        self.spec.block
    }

    /// Where tokens get their position from.
    pub fn position(&self) -> Position {
        self.spec.position
    }

    /// What the classification head reads.
    pub fn pooling(&self) -> Pooling {
        self.spec.pooling
    }

    /// Probability that dropout zeroes a value at a place; 0 where it does not act.
    pub fn dropout_at(&self, place: DropoutPlace) -> f32 {
        if self.spec.dropout_places.contains(&place) { self.spec.dropout as f32 } else { 0.0 }
    }

    /// Whether query, key and value have biases.
    pub fn qkv_bias(&self) -> bool {
        self.spec.qkv_bias
    }

    /// Whether a layer norm stands between the last block and the head.
    pub fn final_norm(&self) -> bool {
        self.spec.final_norm
    }

    /// Added to the variance in layer norms.
    pub fn norm_eps(&self) -> f32 {
        self.spec.norm_eps as f32
    }

    /// How parameters start.
    pub fn init(&self) -> Init {
        self.spec.init
    }

    /// Standard deviation of the class token and of learned positions at the start.
    pub fn token_init_std(&self) -> f32 {
        self.spec.token_init_std as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: ImageFacts = ImageFacts { image_size: 28, channels: 1, num_classes: 10 };

    #[test]
    fn the_checked_spec_holds_the_facts() {
        let config = VitSpec::default().with_facts(FACTS).expect("a good spec");
        assert_eq!(
            (config.tokens(), config.num_positions(), config.hidden_dim(), config.head_dim()),
            (50, 50, 128, 16)
        );
        assert_eq!(config.spec().image_size, Some(28));
        assert_eq!(config.spec().clone().with_facts(FACTS), Ok(config));
    }
}
