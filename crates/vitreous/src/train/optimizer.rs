//! The engine's optimiser, as a recipe asks for it.

use vitreous_engine::{Adam, Average, Optimizer, Sgd};

use crate::config::train::{Optimizer as Written, TrainSpec};

/// Returns the optimiser of a recipe; which parameters decay is said by the model's graph.
pub fn optimizer(recipe: &TrainSpec) -> Optimizer {
    let TrainSpec { opt, betas, opt_eps: eps, weight_decay, momentum, nesterov, clip_grad: clip, .. } = *recipe;
    let average = recipe.model_ema_decay.map(|decay| Average { decay });
    match opt {
        Written::Adam => Adam { betas, eps, weight_decay, decoupled: false, clip, average }.into(),
        Written::Adamw => Adam { betas, eps, weight_decay, decoupled: true, clip, average }.into(),
        Written::Sgd => Sgd { momentum, nesterov, weight_decay, clip, average }.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_the_recipe_arrives() {
        let spec = TrainSpec { betas: [0.5, 0.75], opt_eps: 0.1, weight_decay: 0.2, ..TrainSpec::default() };
        let spec = TrainSpec { momentum: 0.3, nesterov: true, clip_grad: Some(0.4), ..spec };
        let spec = TrainSpec { model_ema_decay: Some(0.6), ..spec };
        let average = Some(Average { decay: 0.6 });
        let with = |opt| optimizer(&TrainSpec { opt, ..spec.clone() });
        let adam = Adam { betas: [0.5, 0.75], eps: 0.1, weight_decay: 0.2, decoupled: false, clip: Some(0.4), average };
        assert_eq!(with(Written::Adam), Optimizer::Adam(adam));
        assert_eq!(with(Written::Adamw), Optimizer::Adam(Adam { decoupled: true, ..adam }));
        let sgd = Sgd { momentum: 0.3, nesterov: true, weight_decay: 0.2, clip: Some(0.4), average };
        assert_eq!(with(Written::Sgd), Optimizer::Sgd(sgd));
    }
}
