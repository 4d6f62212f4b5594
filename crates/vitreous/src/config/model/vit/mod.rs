//! Models of kind `vit`: the sizes and options of a vision transformer. `rules.rs` checks them.

mod rules;

use rules::TOKENS_MAX;
pub(in crate::config) use rules::nearest_multiple;
pub(super) use rules::{CHANNELS_MAX, DEPTH_MAX, DROPOUT_MAX, NUM_CLASSES_MAX, WIDTH_MAX};

use super::kind::{Checked, ImageFacts, KindSpec, NamedModel, agree};
use super::options::{
    Activation, Attention, AttentionScale, Block, DropoutPlace, Init, PatchEmbed, Patching, Pooling, Position,
};
use crate::config::data::IMAGE_SIZE_MAX;
use crate::config::error::RuleError;
use crate::config::schema::{Range, config_table};
use crate::numbers::counted;

/// A checked [`VitSpec`].
pub type VitConfig = Checked<VitSpec>;

config_table! {
    /// Sizes and options of a vision transformer as written, not yet checked.
    pub struct VitSpec in "model" {
        /// Height and width of the square input image, in pixels. The data decides it.
        image_size: Option<usize> = None, range Range::Whole(1, IMAGE_SIZE_MAX as u64), example 28;
        /// Channels of the input image. The data decides them.
        channels: Option<usize> = None, range Range::Whole(1, CHANNELS_MAX), example 3;
        /// Number of classes. The data decides it.
        num_classes: Option<usize> = None, range Range::Whole(2, NUM_CLASSES_MAX), example 10;
        /// Height and width of one square patch, in pixels. Divides `image_size`.
        patch_size: usize = 4, range Range::Whole(1, IMAGE_SIZE_MAX as u64);
        /// Which pixels make one token.
        patching: Patching = Patching::Square;
        /// How a patch becomes a token.
        patch_embed: PatchEmbed = PatchEmbed::Linear;
        /// Length of one token vector. A multiple of `num_heads`.
        embed_dim: usize = 64, range Range::Whole(1, WIDTH_MAX as u64);
        /// Number of encoder blocks.
        depth: usize = 4, range Range::Whole(1, DEPTH_MAX);
        /// Number of attention heads.
        num_heads: usize = 4, range Range::Whole(1, WIDTH_MAX as u64);
        /// Which channels a head's query, key and value are computed from.
        attention: Attention = Attention::MultiHead;
        /// Attention scores are divided by the square root of this.
        attention_scale: AttentionScale = AttentionScale::HeadDim;
        /// Width of the MLP's hidden layer as a multiple of `embed_dim`.
        mlp_ratio: f64 = 2.0, range Range::Positive;
        /// Activation function of the MLP.
        activation: Activation = Activation::Gelu;
        /// Where a block's norms are.
        block: Block = Block::PreNorm;
        /// Use the class token as the query of a decoder with `depth` blocks, which attends to the encoded patches.
        decoder: bool = false;
        /// How tokens get their position.
        position: Position = Position::Learned;
        /// Rows of the table of learned positions. More rows than tokens are allowed; the others are never read.
        num_positions: Option<usize> = None, range Range::Whole(1, TOKENS_MAX as u64), example 65;
        /// What the classification head reads.
        pooling: Pooling = Pooling::Cls;
        /// Dropout probability.
        dropout: f64 = 0.0, range Range::Between(0.0, DROPOUT_MAX), example 0.1;
        /// Where dropout acts.
        dropout_places: Vec<DropoutPlace> = vec![
            DropoutPlace::Embed,
            DropoutPlace::Attention,
            DropoutPlace::Activation,
            DropoutPlace::Mlp,
        ];
        /// Drop path probability of the last block (stochastic depth). Each half of the block is skipped for an image with
        /// this probability, which grows linearly from 0 at the first block.
        drop_path: f64 = 0.0, range Range::Between(0.0, DROPOUT_MAX), example 0.1;
        /// Query, key and value have biases.
        qkv_bias: bool = true;
        /// A layer norm before the classification head.
        final_norm: bool = true;
        /// A softmax after the classification head, so that the loss treats probabilities as logits (a flaw of
        /// experiment E1).
        head_softmax: bool = false;
        /// Added to the variance in layer norms.
        norm_eps: f64 = 1e-5, range Range::Between(1e-12, 1.0);
        /// Initial values of parameters.
        init: Init = Init::Timm;
        /// Standard deviation of the initial class token and of initial learned positions.
        token_init_std: f64 = 0.02, range Range::Between(0.0, 1e3);
    }
}

/// Model sizes that have a name, as timm spells it: name, `embed_dim`, `num_heads`, `depth`, source.
const NAMED_SIZES: [(&str, usize, usize, usize, &str); 3] = [
    ("vit-tiny", 192, 3, 12, "Touvron et al. 2021"),
    ("vit-small", 384, 6, 12, "Touvron et al. 2021"),
    ("vit-base", 768, 12, 12, "Dosovitskiy et al. 2021"),
];

impl KindSpec for VitSpec {
    type Layout = ();

    const SUMMARY: &'static str = "vision transformer: tokens are patches of the image";
    const SOURCE: &'static str = "Dosovitskiy et al. 2021";

    fn sizes(&mut self) -> [&mut Option<usize>; 3] {
        [&mut self.image_size, &mut self.channels, &mut self.num_classes]
    }

    fn check(&self) -> Result<(), RuleError> {
        self.check_rules()
    }

    fn fit(&self, facts: ImageFacts) -> Result<(), RuleError> {
        let written = [self.image_size, self.channels, self.num_classes];
        agree(facts, written)?;
        self.check_facts(facts)
    }

    fn describe(model: &VitConfig) -> String {
        let VitSpec { depth, embed_dim, num_heads, decoder, .. } = *model.spec();
        let blocks = if decoder { format!("{depth} + {depth} blocks") } else { counted(depth, "block") };
        format!("ViT {blocks}, {}, width {embed_dim}", counted(num_heads, "head"))
    }

    fn batch_norm_of_one_place(model: &VitConfig) -> Option<&str> {
        let is_one = model.spec().patch_embed == PatchEmbed::ConvStem && model.grid() == 1;
        is_one.then_some("patch_embed.proj")
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

    /// Channels of the convolutions of a convolutional stem. Each halves the map and doubles the channels; the last has
    /// the width of a token.
    pub fn stem_channels(&self) -> Vec<usize> {
        let after = (0..self.patch_size.max(1).ilog2()).rev();
        after.map(|after| (self.embed_dim >> after).max(1)).collect()
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
