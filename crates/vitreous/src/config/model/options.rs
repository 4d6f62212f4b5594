//! The choices that keys of transformers offer.

use crate::config::schema::choices;

choices! {
    /// An activation function.
    pub enum Activation {
        /// max(x, 0)
        Relu = "relu",
        /// x Phi(x), by the error function.
        Gelu = "gelu",
        /// GELU's tanh approximation.
        GeluTanh = "gelu-tanh",
        /// Hyperbolic tangent.
        Tanh = "tanh",
    }
}

choices! {
    /// Which pixels make one token.
    pub enum Patching {
        /// Those of a square, channel by channel.
        Square = "square",
        /// Consecutive ones in memory, `[channels, height, width]`, which are not a square (a flaw of experiment E3).
        Flat = "flat",
    }
}

choices! {
    /// How a patch becomes a token.
    pub enum PatchEmbed {
        /// A linear layer on the pixels of each patch.
        Linear = "linear",
        /// A convolution with a stride of its kernel's size: the same function of the same parameters.
        Conv = "conv",
        /// A convolutional stem (Xiao et al. 2021): 3x3 convolutions with stride 2, each followed by batch norm and ReLU and
        /// with twice the channels of the one before, until a patch is one pixel; then a 1x1 convolution.
        ConvStem = "conv-stem",
    }
}

choices! {
    /// Which channels a head's query, key and value are computed from.
    pub enum Attention {
        /// All channels of a token; a linear layer mixes the heads' outputs.
        MultiHead = "multi-head",
        /// The head's own channels of a token; the heads' outputs are not mixed (experiment E1).
        PerHead = "per-head",
    }
}

choices! {
    /// Attention scores are divided by the square root of this.
    pub enum AttentionScale {
        /// The width of a head (Vaswani et al. 2017).
        HeadDim = "head_dim",
        /// The width of a token.
        EmbedDim = "embed_dim",
        /// 1: they are not divided.
        None = "none",
    }
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

choices! {
    /// Where a block's norms are.
    pub enum Block {
        /// `x + attn(norm1(x))`, then `x + mlp(norm2(x))`.
        PreNorm = "pre-norm",
        /// `norm1(x + attn(x))`, then `norm2(x + mlp(x))` (Vaswani et al. 2017).
        PostNorm = "post-norm",
        /// As `pre-norm`, with one layer norm used by both halves (experiment E6).
        SharedNorm = "shared-norm",
        /// As `pre-norm`, with the activation after `norm1` and `norm2` too, and a layer norm before the MLP's own
        /// activation (experiment E3).
        NormActivation = "norm-activation",
    }
}

choices! {
    /// How tokens get their position.
    pub enum Position {
        /// A learned vector per position.
        Learned = "learned",
        /// Fixed sines and cosines (Vaswani et al. 2017, section 3.5).
        SineCosine = "sine-cosine",
        /// Fixed sines and cosines, half the width for the column, half for the row; the class token has none
        /// (Beyer et al. 2022).
        SineCosine2d = "sine-cosine-2d",
        /// They get none: the order of patches is lost.
        None = "none",
    }
}

choices! {
    /// What the classification head reads.
    pub enum Pooling {
        /// The class token.
        Cls = "cls",
        /// The mean of the patch tokens; there is no class token.
        Mean = "mean",
    }
}

choices! {
    /// A place where dropout acts.
    pub enum DropoutPlace {
        /// On the embedded tokens, after the position is added.
        Embed = "embed",
        /// On the attention weights, after softmax.
        Attention = "attention",
        /// After the MLP's activation.
        Activation = "activation",
        /// After the MLP's second linear layer.
        Mlp = "mlp",
    }
}

choices! {
    /// Initial values of parameters.
    pub enum Init {
        /// Linear weights and biases U(-1/sqrt(fan_in), 1/sqrt(fan_in)), as `torch.nn.Linear`.
        Pytorch = "pytorch",
        /// As `pytorch`, but qkv weights Xavier-uniform and the biases of attention 0, as `torch.nn.MultiheadAttention`.
        PytorchMha = "pytorch-mha",
        /// Weights from a normal distribution with standard deviation 0.02, truncated at two of them; biases 0, as timm.
        Timm = "timm",
    }
}
