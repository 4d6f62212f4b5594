//! Models of kind `vit`: the sizes and options of a vision transformer.

use serde::{Deserialize, Serialize};

/// Sizes and options of a vision transformer as written, not yet checked. Counts that follow from the data
/// (`image_size`, `channels`, `num_classes`) may be left out.
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
    /// Which pixels a token is made of.
    pub patching: Patching,
    /// How a patch becomes a token.
    pub patch_embed: PatchEmbed,
    /// Length of one token vector. A multiple of `num_heads`.
    pub embed_dim: usize,
    /// Number of encoder blocks.
    pub depth: usize,
    /// Number of attention heads.
    pub num_heads: usize,
    /// What a head's query, key and value are made of.
    pub attention: Attention,
    /// By the root of what attention scores are divided.
    pub attention_scale: AttentionScale,
    /// Width of the MLP's hidden layer as a multiple of `embed_dim`.
    pub mlp_ratio: f64,
    /// Activation function of the MLP.
    pub activation: Activation,
    /// How a block is put together.
    pub block: Block,
    /// Whether the class token is the query of a decoder of `depth` blocks, which looks at the encoded patches.
    pub decoder: bool,
    /// Where tokens get their position from.
    pub position: Position,
    /// Rows of the table of learned positions, when it is longer than the sequence (the rest is never read).
    pub num_positions: Option<usize>,
    /// What the classification head reads.
    pub pooling: Pooling,
    /// Probability that dropout zeroes a value.
    pub dropout: f64,
    /// Where dropout acts.
    pub dropout_places: Vec<DropoutPlace>,
    /// Probability that the last block's halves are left out for an image (stochastic depth); from 0 at the first block
    /// it grows evenly.
    pub drop_path: f64,
    /// Whether query, key and value have biases.
    pub qkv_bias: bool,
    /// Whether a layer norm stands between the last block and the head.
    pub final_norm: bool,
    /// Whether the head ends in a softmax, so that the loss takes probabilities for logits (a flaw of experiment E1).
    pub head_softmax: bool,
    /// Added to the variance in layer norms.
    pub norm_eps: f64,
    /// How parameters start.
    pub init: Init,
    /// Standard deviation of the class token and of learned positions at the start.
    pub token_init_std: f64,
}

/// Model sizes that have a name, as timm spells it: name, `embed_dim`, `num_heads`, `depth`.
const NAMED_SIZES: [(&str, usize, usize, usize); 3] =
    [("vit-tiny", 192, 3, 12), ("vit-small", 384, 6, 12), ("vit-base", 768, 12, 12)];

impl VitSpec {
    /// Returns the model of a name, for images of any size; patches of 16x16 unless changed.
    pub fn named(name: &str) -> Option<VitSpec> {
        let (_, embed_dim, num_heads, depth) = *NAMED_SIZES.iter().find(|(known, ..)| *known == name)?;
        let size = VitSpec { patch_size: 16, embed_dim, num_heads, depth, mlp_ratio: 4.0, ..VitSpec::default() };
        Some(VitSpec { norm_eps: 1e-6, ..size })
    }

    /// The names that [`VitSpec::named`] knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMED_SIZES.iter().map(|(name, ..)| *name)
    }
}

/// An activation function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// max(x, 0)
    Relu,
    /// x Phi(x), by the error function.
    Gelu,
    /// GELU's tanh approximation.
    GeluTanh,
    /// Hyperbolic tangent.
    Tanh,
}

/// Which pixels a token is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Patching {
    /// Those of a square, channel by channel.
    Square,
    /// As many that follow each other in memory, `[channels, height, width]`: no square (a flaw of experiment E3).
    Flat,
}

/// How a patch becomes a token. The two are the same function of the same numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PatchEmbed {
    /// A linear layer on the pixels of each patch.
    Linear,
    /// A convolution whose stride is its kernel.
    Conv,
}

/// What a head's query, key and value are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attention {
    /// All channels of a token; a linear layer mixes the heads' results.
    MultiHead,
    /// The head's own channels of a token; nothing mixes the heads' results (experiment E1).
    PerHead,
}

/// By the root of what attention scores are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttentionScale {
    /// The width of a head (Vaswani et al. 2017).
    #[serde(rename = "head_dim")]
    HeadDim,
    /// The width of a token.
    #[serde(rename = "embed_dim")]
    EmbedDim,
    /// Nothing.
    None,
}

impl AttentionScale {
    /// What attention scores are multiplied by, when so many heads share a width.
    pub(super) fn factor(self, embed_dim: usize, num_heads: usize) -> f32 {
        match self {
            // Unscaled scores grow with head_dim and push softmax towards one-hot.
            AttentionScale::HeadDim => ((embed_dim / num_heads) as f32).sqrt().recip(),
            AttentionScale::EmbedDim => (embed_dim as f32).sqrt().recip(),
            AttentionScale::None => 1.0,
        }
    }
}

/// How a block is put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Block {
    /// `x + attn(norm1(x))`, then `x + mlp(norm2(x))`.
    PreNorm,
    /// `norm1(x + attn(x))`, then `norm2(x + mlp(x))` (Vaswani et al. 2017).
    PostNorm,
    /// As `pre-norm`, with one layer norm used by both halves (experiment E6).
    SharedNorm,
    /// As `pre-norm`, with the activation after `norm1` and `norm2` too, and a layer norm before the MLP's own
    /// activation (experiment E3).
    NormActivation,
}

/// Where tokens get their position from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Position {
    /// A trained vector for each place.
    Learned,
    /// Fixed sines and cosines (Vaswani et al. 2017, section 3.5).
    SineCosine,
    /// Fixed sines and cosines, half the width for the column and half for the row; the class token has none
    /// (Beyer et al. 2022).
    #[serde(rename = "sine-cosine-2d")]
    SineCosine2d,
    /// Nowhere: the model sees a bag of patches.
    None,
}

/// What the classification head reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// The class token.
    Cls,
    /// The mean over the patch tokens; there is no class token.
    Mean,
}

/// A place where dropout acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropoutPlace {
    /// On the embedded tokens, after the position is added.
    Embed,
    /// On the attention weights, after softmax.
    Attention,
    /// After the MLP's activation.
    Activation,
    /// After the MLP's second linear layer.
    Mlp,
}

/// How parameters start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// Linear weights and biases U(-1/sqrt(fan_in), 1/sqrt(fan_in)), as `torch.nn.Linear`.
    Pytorch,
    /// As `pytorch`, but qkv weights Xavier-uniform and the biases of attention 0, as `torch.nn.MultiheadAttention`.
    PytorchMha,
    /// Weights from a normal distribution of deviation 0.02 cut at two deviations, biases 0, as timm.
    Timm,
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
