//! Linear layers: weights packed once for each step, products with everything that follows fused in, and the
//! gradients of weights and biases; for layers that are cut by columns, the same on weights as they lie.

mod gradient;
mod pack;
mod product;
#[cfg(test)]
mod tests;
mod wide;

pub(super) use gradient::{ParamGrad, param_grad};
pub(super) use pack::{Pack, pack, packed_len};
pub(super) use product::{Multiply, Product, product};
pub(super) use wide::{
    WideBiasGrad, WideInputGrad, WideProduct, WideWeightGrad, wide_bias_grad, wide_input_grad, wide_product,
    wide_weight_grad,
};
