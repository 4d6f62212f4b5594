//! The `[model]` table: the sizes and options of a vision transformer.

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
    /// Length of one token vector. A multiple of `num_heads`.
    pub embed_dim: usize,
    /// Number of encoder blocks.
    pub depth: usize,
    /// Number of attention heads.
    pub num_heads: usize,
    /// Width of the MLP's hidden layer as a multiple of `embed_dim`.
    pub mlp_ratio: f64,
    /// Activation function of the MLP.
    pub activation: Activation,
    /// How an encoder block is put together.
    pub block: Block,
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
    /// Whether query, key and value have biases.
    pub qkv_bias: bool,
    /// Whether a layer norm stands between the last block and the head.
    pub final_norm: bool,
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

/// How an encoder block is put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Block {
    /// `x + attn(norm1(x))`, then `x + mlp(norm2(x))`.
    PreNorm,
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
            embed_dim: 64,
            depth: 4,
            num_heads: 4,
            mlp_ratio: 2.0,
            activation: Activation::Gelu,
            block: Block::PreNorm,
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
            qkv_bias: true,
            final_norm: true,
            norm_eps: 1e-5,
            init: Init::Timm,
            token_init_std: 0.02,
        }
    }
}
