//! The optimizers of the key `train.opt`, and the engine's update rule for each.

use vitreous_engine::{Adam, Lion, Muon, Rule, Sgd};

use super::schema::choices;
use super::train::TrainSpec;

choices! {
    /// An optimizer.
    pub enum Optimizer {
        /// Kingma and Ba 2015.
        Adam = "adam",
        /// Loshchilov and Hutter 2019.
        Adamw = "adamw",
        /// Chen et al. 2023: the sign of a momentum. Needs a learning rate 3 to 10 times lower than `adamw`, and a weight
        /// decay that much higher.
        Lion = "lion",
        /// Jordan et al. 2024: the weights of hidden layers move along an orthogonalized momentum (`momentum`), all others
        /// as with `adamw` (`betas`, `opt_eps`). Scaled as in Liu et al. 2025, so that both use the learning rate and weight
        /// decay of `adamw`.
        Muon = "muon",
        /// Stochastic gradient descent with momentum, as `torch.optim.SGD`.
        Sgd = "sgd",
    }
}

impl Optimizer {
    /// Default of `train.betas`.
    pub fn betas(self) -> [f64; 2] {
        match self {
            Optimizer::Lion => Lion::default().betas,
            _ => Adam::default().betas,
        }
    }

    /// Default of `train.momentum`.
    pub fn momentum(self) -> f64 {
        match self {
            Optimizer::Muon => Muon::default().momentum,
            _ => 0.9,
        }
    }

    /// Returns the engine's update rule, with the recipe's hyperparameters.
    pub fn rule(self, recipe: &TrainSpec) -> Rule {
        let TrainSpec { betas, opt_eps: eps, momentum, nesterov, .. } = *recipe;
        match self {
            Optimizer::Adam => Adam { betas, eps, decoupled: false }.into(),
            Optimizer::Adamw => Adam { betas, eps, decoupled: true }.into(),
            Optimizer::Lion => Lion { betas }.into(),
            Optimizer::Muon => Muon { momentum, others: Adam { betas, eps, decoupled: true } }.into(),
            Optimizer::Sgd => Sgd { momentum, nesterov }.into(),
        }
    }
}
