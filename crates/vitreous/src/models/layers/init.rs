//! How the layers' parameters start, for each choice of [`config::Init`](crate::config::model::Init).
//! Source: `torch.nn.Linear`, `torch.nn.MultiheadAttention`, timm's `init_weights_vit_timm`.

use vitreous_engine::Init;
use vitreous_engine::ops::LinearInit;

use crate::config::model::Init as Rule;

/// Standard deviation of timm's weights.
const TIMM_STD: f32 = 0.02;

/// Returns how a linear layer outside attention starts.
pub fn linear(rule: Rule, in_features: usize) -> LinearInit {
    match rule {
        Rule::Pytorch | Rule::PytorchMha => LinearInit::pytorch(in_features),
        Rule::Timm => LinearInit { weight: Init::TruncatedNormal { std: TIMM_STD }, bias: Some(Init::Constant(0.0)) },
    }
}

/// Returns how the stacked query, key and value layer `[3 * embed_dim, embed_dim]` starts.
pub fn qkv(rule: Rule, embed_dim: usize, bias: bool) -> LinearInit {
    let init = match rule {
        // torch draws the three matrices as one, so its fan out is that of the stack.
        Rule::PytorchMha => {
            LinearInit { weight: Init::xavier_uniform(embed_dim, 3 * embed_dim), bias: Some(Init::Constant(0.0)) }
        }
        _ => linear(rule, embed_dim),
    };
    LinearInit { bias: init.bias.filter(|_| bias), ..init }
}

/// Returns how the projection of attention's output starts.
pub fn attention_proj(rule: Rule, embed_dim: usize) -> LinearInit {
    let init = linear(rule, embed_dim);
    match rule {
        Rule::PytorchMha => LinearInit { bias: Some(Init::Constant(0.0)), ..init },
        _ => init,
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
        assert_eq!(qkv(Rule::PytorchMha, 7, true), LinearInit { weight: stacked, bias: zero });
        assert_eq!(qkv(Rule::PytorchMha, 7, false), LinearInit { weight: stacked, bias: None });
        assert_eq!(qkv(Rule::Pytorch, 16, true), LinearInit { weight: quarter, bias: Some(quarter) });
    }

    #[test]
    fn timm_cuts_its_weights_and_starts_biases_at_zero() {
        let expected = LinearInit { weight: Init::TruncatedNormal { std: 0.02 }, bias: Some(Init::Constant(0.0)) };
        assert_eq!(linear(Rule::Timm, 5), expected);
        assert_eq!(qkv(Rule::Timm, 5, true), expected);
        assert_eq!(attention_proj(Rule::Timm, 5), expected);
    }
}
