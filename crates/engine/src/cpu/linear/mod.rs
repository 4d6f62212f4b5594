//! Linear layers: weights packed once for each step, products with everything that follows fused in, and the
//! gradients of weights and biases.

mod gradient;
mod pack;
mod product;
#[cfg(test)]
mod tests;

pub(super) use gradient::{ParamGrad, param_grad};
pub(super) use pack::{Pack, pack, packed_len};
pub(super) use product::{Multiply, Product, product};
