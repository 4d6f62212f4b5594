//! The choices that keys of transformers offer.

use serde::{Deserialize, Serialize};

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

/// Which pixels make one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Patching {
    /// Those of a square, channel by channel.
    Square,
    /// Consecutive ones in memory, `[channels, height, width]`, which are not a square (a flaw of experiment E3).
    Flat,
}

/// How a patch becomes a token. Both compute the same function of the same parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PatchEmbed {
    /// A linear layer on the pixels of each patch.
    Linear,
    /// A convolution with a stride of its kernel's size.
    Conv,
}

/// Which channels a head's query, key and value are computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attention {
    /// All channels of a token; a linear layer mixes the heads' outputs.
    MultiHead,
    /// The head's own channels of a token; the heads' outputs are not mixed (experiment E1).
    PerHead,
}

/// Attention scores are divided by the square root of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttentionScale {
    /// The width of a head (Vaswani et al. 2017).
    #[serde(rename = "head_dim")]
    HeadDim,
    /// The width of a token.
    #[serde(rename = "embed_dim")]
    EmbedDim,
    /// 1: they are not divided.
    None,
}

impl AttentionScale {
    /// The factor of attention scores.
    pub(super) fn factor(self, embed_dim: usize, num_heads: usize) -> f32 {
        match self {
            // Unscaled scores grow with head_dim and push softmax towards one-hot.
            AttentionScale::HeadDim => ((embed_dim / num_heads) as f32).sqrt().recip(),
            AttentionScale::EmbedDim => (embed_dim as f32).sqrt().recip(),
            AttentionScale::None => 1.0,
        }
    }
}

/// Where a block's norms are.
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

/// How tokens get their position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Position {
    /// A learned vector per position.
    Learned,
    /// Fixed sines and cosines (Vaswani et al. 2017, section 3.5).
    SineCosine,
    /// Fixed sines and cosines, half the width for the column, half for the row; the class token has none
    /// (Beyer et al. 2022).
    #[serde(rename = "sine-cosine-2d")]
    SineCosine2d,
    /// They get none: the order of patches is lost.
    None,
}

/// What the classification head reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// The class token.
    Cls,
    /// The mean of the patch tokens; there is no class token.
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

/// Initial values of parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// Linear weights and biases U(-1/sqrt(fan_in), 1/sqrt(fan_in)), as `torch.nn.Linear`.
    Pytorch,
    /// As `pytorch`, but qkv weights Xavier-uniform and the biases of attention 0, as `torch.nn.MultiheadAttention`.
    PytorchMha,
    /// Weights from a normal distribution with standard deviation 0.02, truncated at two of them; biases 0, as timm.
    Timm,
}
