//! Models of kind `vit`: the sizes and options of a vision transformer. `rules.rs` checks them.

mod rules;

use serde::{Deserialize, Serialize};

pub(super) use rules::{DEPTH_MAX, DROPOUT_MAX, NUM_CLASSES_MAX, WIDTH_MAX};
pub use rules::{VitSpecError, near_patches};

use super::kind::{Checked, ImageFacts, KindSpec, NamedModel, contradiction};
use super::options::{
    Activation, Attention, AttentionScale, Block, DropoutPlace, Init, PatchEmbed, Patching, Pooling, Position,
};
use crate::numbers::counted;

/// A checked [`VitSpec`].
pub type VitConfig = Checked<VitSpec>;

/// Sizes and options of a vision transformer as written, not yet checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VitSpec {
    /// Height and width of the square input image, in pixels.
    pub image_size: Option<usize>,
    /// Channels of the input image.
    pub channels: Option<usize>,
    /// Number of classes.
    pub num_classes: Option<usize>,
    /// Height and width of one square patch, in pixels. Divides `image_size`.
    pub patch_size: usize,
    /// Which pixels make one token.
    pub patching: Patching,
    /// How a patch becomes a token.
    pub patch_embed: PatchEmbed,
    /// Length of one token vector. A multiple of `num_heads`.
    pub embed_dim: usize,
    /// Number of encoder blocks.
    pub depth: usize,
    /// Number of attention heads.
    pub num_heads: usize,
    /// Which channels a head's query, key and value are computed from.
    pub attention: Attention,
    /// Attention scores are divided by the square root of this.
    pub attention_scale: AttentionScale,
    /// Width of the MLP's hidden layer as a multiple of `embed_dim`.
    pub mlp_ratio: f64,
    /// Activation function of the MLP.
    pub activation: Activation,
    /// Where a block's norms are.
    pub block: Block,
    /// Whether the class token is the query of a decoder with `depth` blocks, which attends to the encoded patches.
    pub decoder: bool,
    /// How tokens get their position.
    pub position: Position,
    /// Rows of the table of learned positions, where it is longer than the sequence (the others are never read).
    pub num_positions: Option<usize>,
    /// What the classification head reads.
    pub pooling: Pooling,
    /// Probability that dropout zeroes a value.
    pub dropout: f64,
    /// Where dropout acts.
    pub dropout_places: Vec<DropoutPlace>,
    /// Probability that a half of the last block is skipped for an image (stochastic depth). It grows linearly from 0 at
    /// the first block.
    pub drop_path: f64,
    /// Whether query, key and value have biases.
    pub qkv_bias: bool,
    /// Whether there is a layer norm between the last block and the head.
    pub final_norm: bool,
    /// Whether the head ends in a softmax, so that the loss treats probabilities as logits (a flaw of experiment E1).
    pub head_softmax: bool,
    /// Added to the variance in layer norms.
    pub norm_eps: f64,
    /// Initial values of parameters.
    pub init: Init,
    /// Standard deviation of the initial class token and of initial learned positions.
    pub token_init_std: f64,
}

impl Default for VitSpec {
    fn default() -> Self {
        VitSpec {
            image_size: None,
            channels: None,
            num_classes: None,
            patch_size: 4,
            patching: Patching::Square,
            patch_embed: PatchEmbed::Linear,
            embed_dim: 64,
            depth: 4,
            num_heads: 4,
            attention: Attention::MultiHead,
            attention_scale: AttentionScale::HeadDim,
            mlp_ratio: 2.0,
            activation: Activation::Gelu,
            block: Block::PreNorm,
            decoder: false,
            position: Position::Learned,
            num_positions: None,
            pooling: Pooling::Cls,
            dropout: 0.0,
            dropout_places: vec![
                DropoutPlace::Embed,
                DropoutPlace::Attention,
                DropoutPlace::Activation,
                DropoutPlace::Mlp,
            ],
            drop_path: 0.0,
            qkv_bias: true,
            final_norm: true,
            head_softmax: false,
            norm_eps: 1e-5,
            init: Init::Timm,
            token_init_std: 0.02,
        }
    }
}

/// Model sizes that have a name, as timm spells it: name, `embed_dim`, `num_heads`, `depth`, source.
const NAMED_SIZES: [(&str, usize, usize, usize, &str); 3] = [
    ("vit-tiny", 192, 3, 12, "Touvron et al. 2021"),
    ("vit-small", 384, 6, 12, "Touvron et al. 2021"),
    ("vit-base", 768, 12, 12, "Dosovitskiy et al. 2021"),
];

impl KindSpec for VitSpec {
    type Error = VitSpecError;
    type Layout = ();

    const SUMMARY: &'static str = "vision transformer: tokens are patches of the image";
    const SOURCE: &'static str = "Dosovitskiy et al. 2021";

    fn sizes(&mut self) -> [&mut Option<usize>; 3] {
        [&mut self.image_size, &mut self.channels, &mut self.num_classes]
    }

    fn check(&self) -> Result<(), VitSpecError> {
        self.check_rules()
    }

    fn fit(&self, facts: ImageFacts) -> Result<(), VitSpecError> {
        let written = [self.image_size, self.channels, self.num_classes];
        if let Some((key, written, found)) = contradiction(facts, written) {
            return Err(VitSpecError::Contradiction { key, written, found });
        }
        self.check_facts(facts)
    }

    fn describe(model: &VitConfig) -> String {
        let VitSpec { depth, embed_dim, num_heads, decoder, .. } = *model.spec();
        let blocks = if decoder { format!("{depth} + {depth} blocks") } else { counted(depth, "block") };
        format!("ViT {blocks}, {}, width {embed_dim}", counted(num_heads, "head"))
    }

    fn named() -> Vec<NamedModel<VitSpec>> {
        let facts = ImageFacts { image_size: 224, channels: 3, num_classes: 1000 };
        let named = NAMED_SIZES.map(|(name, embed_dim, num_heads, depth, source)| {
            let size = VitSpec { patch_size: 16, embed_dim, num_heads, depth, ..VitSpec::default() };
            NamedModel { name, source, facts, spec: VitSpec { mlp_ratio: 4.0, norm_eps: 1e-6, ..size } }
        });
        named.into()
    }
}

impl VitSpec {
    /// Whether the encoder's sequence starts with a class token.
    pub fn encodes_class_token(&self) -> bool {
        self.pooling == Pooling::Cls && !self.decoder
    }

    /// Probability that dropout zeroes a value at a place; 0 where it does not act.
    pub fn dropout_at(&self, place: DropoutPlace) -> f32 {
        if self.dropout_places.contains(&place) { self.dropout as f32 } else { 0.0 }
    }

    /// Length of the part of a token vector that one head sees.
    pub fn head_dim(&self) -> usize {
        self.embed_dim / self.num_heads
    }

    /// Width of the MLP's hidden layer.
    pub fn hidden_dim(&self) -> usize {
        (self.mlp_ratio * self.embed_dim as f64).round() as usize
    }

    /// The factor of attention scores.
    pub fn scale(&self) -> f32 {
        self.attention_scale.factor(self.embed_dim, self.num_heads)
    }

    /// Probability that half of a block is skipped for an image, for block number `index` of the encoder's and the
    /// decoder's together.
    pub fn drop_path_at(&self, index: usize) -> f32 {
        let blocks = self.depth * if self.decoder { 2 } else { 1 };
        (self.drop_path * index as f64 / (blocks - 1).max(1) as f64) as f32
    }
}

impl VitConfig {
    /// Number of patches along a side of the image.
    pub fn grid(&self) -> usize {
        self.facts().image_size / self.spec().patch_size
    }

    /// Number of tokens in the encoder: the patches, and the class token where there is one.
    pub fn tokens(&self) -> usize {
        self.grid().pow(2) + usize::from(self.spec().encodes_class_token())
    }

    /// Rows of the table of learned positions.
    pub fn num_positions(&self) -> usize {
        self.spec().num_positions.unwrap_or_else(|| self.tokens())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: ImageFacts = ImageFacts { image_size: 28, channels: 1, num_classes: 10 };

    #[test]
    fn a_checked_spec_has_the_facts_of_the_data() {
        let config = VitSpec::default().with_facts(FACTS).expect("a good spec");
        assert_eq!(
            (config.tokens(), config.num_positions(), config.spec().hidden_dim(), config.spec().head_dim()),
            (50, 50, 128, 16)
        );
        assert_eq!(config.spec().image_size, Some(28));
        assert_eq!(config.spec().clone().with_facts(FACTS), Ok(config));
    }

    #[test]
    fn stochastic_depth_grows_linearly_to_its_rate() {
        let rates = |spec: VitSpec| {
            let config = VitSpec { drop_path: 0.3, ..spec }.with_facts(FACTS).expect("a good spec");
            (0..4).map(|i| config.spec().drop_path_at(i)).collect::<Vec<f32>>()
        };
        assert_eq!(rates(VitSpec { depth: 4, ..VitSpec::default() }), [0.0, 0.1, 0.2, 0.3]);
        assert_eq!(rates(VitSpec { depth: 2, decoder: true, ..VitSpec::default() }), [0.0, 0.1, 0.2, 0.3]);
        assert_eq!(rates(VitSpec { depth: 1, ..VitSpec::default() })[0], 0.0);
    }

    #[test]
    fn scores_are_divided_by_the_square_root_of_the_chosen_width() {
        let scale = |attention_scale| {
            let spec = VitSpec { attention_scale, embed_dim: 36, num_heads: 4, ..VitSpec::default() };
            spec.with_facts(FACTS).expect("a good spec").spec().scale()
        };
        let scales = [AttentionScale::HeadDim, AttentionScale::EmbedDim, AttentionScale::None].map(scale);
        assert_eq!(scales, [1.0 / 3.0, 1.0 / 6.0, 1.0]);
    }
}
