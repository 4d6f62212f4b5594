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
