//! The engine's optimizer of a recipe.

use vitreous_engine::{Average, Optimizer};

use crate::config::train::TrainSpec;

/// Returns the optimizer of a recipe. The model's graph marks the parameters that decay.
pub fn optimizer(recipe: &TrainSpec) -> Optimizer {
    Optimizer {
        rule: recipe.opt.rule(recipe),
        weight_decay: recipe.weight_decay,
        clip: recipe.clip_grad,
        average: recipe.model_ema_decay.map(|decay| Average { decay }),
    }
}

#[cfg(test)]
mod tests {
    use vitreous_engine::{Adam, Sgd};

    use super::*;
    use crate::config::optimizer::Optimizer as Written;

    #[test]
    fn the_recipe_sets_every_number_of_the_optimizer() {
        let spec = TrainSpec { betas: [0.5, 0.75], opt_eps: 0.1, weight_decay: 0.2, ..TrainSpec::default() };
        let spec = TrainSpec { momentum: 0.3, nesterov: true, clip_grad: Some(0.4), ..spec };
        let spec = TrainSpec { model_ema_decay: Some(0.6), ..spec };
        let adam = Adam { betas: [0.5, 0.75], eps: 0.1, decoupled: false };
        for (opt, rule) in [
            (Written::Adam, adam.into()),
            (Written::Adamw, Adam { decoupled: true, ..adam }.into()),
            (Written::Sgd, Sgd { momentum: 0.3, nesterov: true }.into()),
        ] {
            let average = Some(Average { decay: 0.6 });
            let expected = Optimizer { rule, weight_decay: 0.2, clip: Some(0.4), average };
            assert_eq!(optimizer(&TrainSpec { opt, ..spec.clone() }), expected);
        }
    }
}
