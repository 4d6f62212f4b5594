//! Initial values of parameters, for each choice of [`config::Init`](crate::config::model::Init) and of
//! [`config::StackInit`](crate::config::model::StackInit).
//! Source: `torch.nn.Linear`, `torch.nn.MultiheadAttention`, timm's `init_weights_vit_timm`, torchvision's VGG,
//! tensor2tensor (the 2017 paper's code).

use vitreous_engine::Init;
use vitreous_engine::ops::{Convolution, LinearInit};

use crate::config::model::{self, StackInit};

/// How the parameters of a transformer are initialized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// As `torch.nn.Linear`.
    Pytorch,
    /// As `torch.nn.Linear`, and attention as `torch.nn.MultiheadAttention`.
    PytorchMha,
    /// As timm.
    Timm,
    /// As `torch.nn.Linear`, and attention with Xavier-uniform weights and zero biases, as tensor2tensor.
    Xavier,
}

impl From<model::Init> for Rule {
    fn from(written: model::Init) -> Self {
        match written {
            model::Init::Pytorch => Rule::Pytorch,
            model::Init::PytorchMha => Rule::PytorchMha,
            model::Init::Timm => Rule::Timm,
        }
    }
}

/// Standard deviation of timm's initial weights.
const TIMM_STD: f32 = 0.02;

/// Initial values of a linear layer outside attention.
pub fn linear(rule: Rule, in_features: usize) -> LinearInit {
    match rule {
        Rule::Pytorch | Rule::PytorchMha | Rule::Xavier => LinearInit::pytorch(in_features),
        Rule::Timm => LinearInit { weight: Init::TruncatedNormal { std: TIMM_STD }, bias: Some(Init::Constant(0.0)) },
    }
}

/// Initial values of `count` joint layers of query, key and value, `[count * embed_dim, embed_dim]`.
pub fn qkv(rule: Rule, embed_dim: usize, count: usize, bias: bool) -> LinearInit {
    let init = match rule {
        // torch draws the three matrices of self-attention as one, so its fan out is that of the stack.
        Rule::PytorchMha => {
            LinearInit { weight: Init::xavier_uniform(embed_dim, count * embed_dim), bias: Some(Init::Constant(0.0)) }
        }
        Rule::Xavier => xavier(embed_dim),
        Rule::Pytorch | Rule::Timm => linear(rule, embed_dim),
    };
    LinearInit { bias: init.bias.filter(|_| bias), ..init }
}

/// Weights of a square layer, for each matrix by itself.
fn xavier(width: usize) -> LinearInit {
    LinearInit { weight: Init::xavier_uniform(width, width), bias: Some(Init::Constant(0.0)) }
}

/// Initial values of the matrices of single heads, `[head_dim, head_dim]`.
pub fn per_head(rule: Rule, head_dim: usize, bias: bool) -> LinearInit {
    let init = linear(rule, head_dim);
    LinearInit { bias: init.bias.filter(|_| bias), ..init }
}

/// Initial values of a convolution with `in_channels` input channels.
pub fn convolution(rule: StackInit, convolution: Convolution, in_channels: usize) -> LinearInit {
    match rule {
        StackInit::Pytorch => LinearInit::pytorch(convolution.fan_in(in_channels)),
        StackInit::Kaiming => {
            // As torchvision, which counts the outputs of all groups.
            let weight = kaiming_normal(Convolution { groups: 1, ..convolution });
            LinearInit { weight, bias: Some(Init::Constant(0.0)) }
        }
    }
}

/// Initial weights of a convolution before batch norm: N(0, sqrt(2 / fan_out)), where a group's outputs count (He et al.
/// 2015).
pub fn kaiming_normal(convolution: Convolution) -> Init {
    let fan_out = convolution.out_channels / convolution.groups * convolution.kernel * convolution.kernel;
    Init::Normal { std: (2.0 / fan_out as f64).sqrt() as f32 }
}

/// Initial values of ConvNeXt's layers, which are timm's of vision transformers.
pub fn truncated_normal() -> LinearInit {
    linear(Rule::Timm, 1)
}

/// Initial values of the projection of attention's output.
pub fn attention_proj(rule: Rule, embed_dim: usize) -> LinearInit {
    match rule {
        Rule::PytorchMha => LinearInit { bias: Some(Init::Constant(0.0)), ..linear(rule, embed_dim) },
        Rule::Xavier => xavier(embed_dim),
        Rule::Pytorch | Rule::Timm => linear(rule, embed_dim),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_torch() {
        // 1 / sqrt(16), and sqrt(6 / (7 + 21)) for the stack of three.
        let quarter = Init::Uniform { bound: 0.25 };
        let zero = Some(Init::Constant(0.0));
        assert_eq!(linear(Rule::Pytorch, 16), LinearInit { weight: quarter, bias: Some(quarter) });
        assert_eq!(linear(Rule::PytorchMha, 16), LinearInit { weight: quarter, bias: Some(quarter) });
        assert_eq!(attention_proj(Rule::Pytorch, 16), LinearInit { weight: quarter, bias: Some(quarter) });
        assert_eq!(attention_proj(Rule::PytorchMha, 16), LinearInit { weight: quarter, bias: zero });
        let stacked = Init::Uniform { bound: 0.462_910_05 };
        assert_eq!(qkv(Rule::PytorchMha, 7, 3, true), LinearInit { weight: stacked, bias: zero });
        assert_eq!(qkv(Rule::PytorchMha, 7, 3, false), LinearInit { weight: stacked, bias: None });
        assert_eq!(qkv(Rule::Pytorch, 16, 3, true), LinearInit { weight: quarter, bias: Some(quarter) });
    }

    #[test]
    fn a_single_head_is_initialized_as_a_linear_layer_of_its_width() {
        let half = Init::Uniform { bound: 0.5 };
        assert_eq!(per_head(Rule::Pytorch, 4, true), LinearInit { weight: half, bias: Some(half) });
        assert_eq!(per_head(Rule::Pytorch, 4, false), LinearInit { weight: half, bias: None });
    }

    #[test]
    fn convolutions_count_their_kernel() {
        // 12 / 3 channels of 5x5 go in, 6 channels of 5x5 out.
        let conv = Convolution::new(6, 5).groups(3);
        let tenth = Init::Uniform { bound: 0.1 };
        assert_eq!(convolution(StackInit::Pytorch, conv, 12), LinearInit { weight: tenth, bias: Some(tenth) });
        let expected = LinearInit { weight: Init::Normal { std: 0.115_470_05 }, bias: Some(Init::Constant(0.0)) };
        assert_eq!(convolution(StackInit::Kaiming, conv, 12), expected);
    }

    #[test]
    fn timm_truncates_weights_and_has_zero_biases() {
        let expected = LinearInit { weight: Init::TruncatedNormal { std: 0.02 }, bias: Some(Init::Constant(0.0)) };
        assert_eq!(linear(Rule::Timm, 5), expected);
        assert_eq!(qkv(Rule::Timm, 5, 3, true), expected);
        assert_eq!(attention_proj(Rule::Timm, 5), expected);
    }

    #[test]
    fn xavier_treats_query_key_and_value_as_layers_of_their_own() {
        // sqrt(6 / (6 + 18)) for a joint layer of three, sqrt(6 / (6 + 6)) for each of them.
        let own = LinearInit { weight: Init::xavier_uniform(6, 6), bias: Some(Init::Constant(0.0)) };
        assert_ne!(own.weight, Init::xavier_uniform(6, 18));
        assert_eq!(qkv(Rule::Xavier, 6, 3, true), own);
        assert_eq!(qkv(Rule::Xavier, 6, 1, false), LinearInit { bias: None, ..own });
        assert_eq!(attention_proj(Rule::Xavier, 6), own);
        assert_eq!(linear(Rule::Xavier, 6), LinearInit::pytorch(6));
    }
}
