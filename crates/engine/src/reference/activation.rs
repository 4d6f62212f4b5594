//! Functions of one value and their derivatives.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI, PI};

use crate::ops::Activation;
use crate::reference::erf::erf;

/// The cubic term of GELU's tanh form.
const CUBIC: f64 = 0.044715;

/// Returns the function's value.
pub(crate) fn value(activation: Activation, x: f64) -> f64 {
    match activation {
        // Not `max`, which makes 0 of a NaN.
        Activation::Relu if x < 0.0 => 0.0,
        Activation::Relu => x,
        Activation::Relu6 if x < 0.0 => 0.0,
        Activation::Relu6 if x > 6.0 => 6.0,
        Activation::Relu6 => x,
        Activation::Gelu => x * normal_distribution(x),
        Activation::GeluTanh => 0.5 * x * (1.0 + gelu_tanh_argument(x).tanh()),
        Activation::Tanh => x.tanh(),
    }
}

/// Returns the function's derivative.
pub(crate) fn derivative(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Relu => f64::from(x > 0.0),
        Activation::Relu6 => f64::from(x > 0.0 && x < 6.0),
        // (x Phi)' = Phi + x phi
        Activation::Gelu => normal_distribution(x) + x * (-0.5 * x * x).exp() / (2.0 * PI).sqrt(),
        // (x/2 (1 + t))' = (1 + t) / 2 + x/2 (1 - t^2) u' with t = tanh(u)
        Activation::GeluTanh => {
            let t = gelu_tanh_argument(x).tanh();
            let du = FRAC_2_PI.sqrt() * (1.0 + 3.0 * CUBIC * x * x);
            0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * du
        }
        Activation::Tanh => 1.0 - x.tanh() * x.tanh(),
    }
}

/// y[i] = exp(x[i]) / sum over j of exp(x[j]), for each row.
pub(crate) fn softmax(x: &[f64], features: usize) -> Vec<f64> {
    x.chunks_exact(features)
        .flat_map(|x| {
            let largest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = x.iter().map(|x| (x - largest).exp()).sum();
            x.iter().map(move |x| (x - largest).exp() / sum)
        })
        .collect()
}

/// dx[i] = y[i] * (dy[i] - sum over j of y[j] * dy[j]), for each row.
pub(crate) fn softmax_grad(dy: &[f64], y: &[f64], features: usize) -> Vec<f64> {
    dy.chunks_exact(features)
        .zip(y.chunks_exact(features))
        .flat_map(|(dy, y)| {
            let mean: f64 = dy.iter().zip(y).map(|(dy, y)| dy * y).sum();
            dy.iter().zip(y).map(move |(dy, y)| y * (dy - mean))
        })
        .collect()
}

/// Phi(x) = (1 + erf(x / sqrt(2))) / 2.
fn normal_distribution(x: f64) -> f64 {
    0.5 * (1.0 + erf(x * FRAC_1_SQRT_2))
}

fn gelu_tanh_argument(x: f64) -> f64 {
    FRAC_2_PI.sqrt() * (x + CUBIC * x * x * x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_equal_those_of_pytorch() {
        // torch.nn.functional's relu, gelu, gelu(approximate="tanh") and tanh at 1.7 and -0.6, in f64.
        let known = [
            (Activation::Relu, 1.7, 0.0),
            (Activation::Gelu, 1.6242387133104768, -0.16455187065004412),
            (Activation::GeluTanh, 1.624105895551156, -0.16458480076918525),
            (Activation::Tanh, 0.9354090706030992, -0.5370495669980353),
        ];
        for (activation, at_plus, at_minus) in known {
            assert!((value(activation, 1.7) - at_plus).abs() < 1e-15, "{activation:?}");
            assert!((value(activation, -0.6) - at_minus).abs() < 1e-15, "{activation:?}");
        }
        // torch.nn.functional.relu6 and its gradient at -1, 0, 1.7, 6 and 7.
        let x = [-1.0, 0.0, 1.7, 6.0, 7.0];
        assert_eq!(x.map(|x| value(Activation::Relu6, x)), [0.0, 0.0, 1.7, 6.0, 6.0]);
        assert_eq!(x.map(|x| derivative(Activation::Relu6, x)), [0.0, 0.0, 1.0, 0.0, 0.0]);
    }
}
