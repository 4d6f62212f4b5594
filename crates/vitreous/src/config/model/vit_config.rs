//! A checked vision transformer: the config that model code accepts.
//!
//! The rules are checked twice, each time whole: on the spec by itself, then with the facts of the data set.

use super::vit_rules::VitSpecError;
use super::{
    Activation, Attention, Block, DropoutPlace, ImageFacts, Init, PatchEmbed, Patching, Pooling, Position, VitSpec,
    contradiction,
};
use crate::numbers::counted;

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
        let written = [self.image_size, self.channels, self.num_classes];
        if let Some((key, written, found)) = contradiction(facts, written) {
            return Err(VitSpecError::Contradiction { key, written, found });
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

    /// What the data has decided.
    pub fn facts(&self) -> ImageFacts {
        self.facts
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

    /// Number of patches along a side of the image.
    pub fn grid(&self) -> usize {
        self.image_size() / self.patch_size()
    }

    /// Whether a class token stands before the patches in the encoder.
    pub fn encodes_class_token(&self) -> bool {
        self.spec.encodes_class_token()
    }

    /// Number of tokens an encoder block sees: the patches, and the class token where it is among them.
    pub fn tokens(&self) -> usize {
        self.grid().pow(2) + usize::from(self.encodes_class_token())
    }

    /// Rows of the table of learned positions.
    pub fn num_positions(&self) -> usize {
        self.spec.num_positions.unwrap_or_else(|| self.tokens())
    }

    /// Activation function of the MLP.
    pub fn activation(&self) -> Activation {
        self.spec.activation
    }

    /// Which pixels a token is made of.
    pub fn patching(&self) -> Patching {
        self.spec.patching
    }

    /// How a patch becomes a token.
    pub fn patch_embed(&self) -> PatchEmbed {
        self.spec.patch_embed
    }

    /// What a head's query, key and value are made of.
    pub fn attention(&self) -> Attention {
        self.spec.attention
    }

    /// What attention scores are multiplied by.
    pub fn attention_scale(&self) -> f32 {
        self.spec.attention_scale.factor(self.embed_dim(), self.num_heads())
    }

    /// Whether the class token is the query of a decoder.
    pub fn decoder(&self) -> bool {
        self.spec.decoder
    }

    /// Probability that a half of a block is left out for an image, for block number `index` of the encoder's and the
    /// decoder's together.
    pub fn drop_path_at(&self, index: usize) -> f32 {
        let blocks = self.depth() * if self.decoder() { 2 } else { 1 };
        (self.spec.drop_path * index as f64 / (blocks - 1).max(1) as f64) as f32
    }

    /// How a block is put together.
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

    /// Whether the head ends in a softmax.
    pub fn head_softmax(&self) -> bool {
        self.spec.head_softmax
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

    /// Says in a few words what it is.
    pub fn describe(&self) -> String {
        let VitSpec { depth, embed_dim, num_heads, decoder, .. } = self.spec;
        let blocks = if decoder { format!("{depth} + {depth} blocks") } else { counted(depth, "block") };
        format!("ViT {blocks}, {}, width {embed_dim}", counted(num_heads, "head"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::AttentionScale;
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

    #[test]
    fn stochastic_depth_grows_evenly_to_its_rate() {
        let rates = |spec: VitSpec| {
            let config = VitSpec { drop_path: 0.3, ..spec }.with_facts(FACTS).expect("a good spec");
            (0..4).map(|i| config.drop_path_at(i)).collect::<Vec<f32>>()
        };
        assert_eq!(rates(VitSpec { depth: 4, ..VitSpec::default() }), [0.0, 0.1, 0.2, 0.3]);
        assert_eq!(rates(VitSpec { depth: 2, decoder: true, ..VitSpec::default() }), [0.0, 0.1, 0.2, 0.3]);
        assert_eq!(rates(VitSpec { depth: 1, ..VitSpec::default() })[0], 0.0);
    }

    #[test]
    fn scores_are_divided_by_the_root_of_what_was_asked_for() {
        let scale = |attention_scale| {
            let spec = VitSpec { attention_scale, embed_dim: 36, num_heads: 4, ..VitSpec::default() };
            spec.with_facts(FACTS).expect("a good spec").attention_scale()
        };
        let scales = [AttentionScale::HeadDim, AttentionScale::EmbedDim, AttentionScale::None].map(scale);
        assert_eq!(scales, [1.0 / 3.0, 1.0 / 6.0, 1.0]);
    }
}
