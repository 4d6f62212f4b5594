//! Built-in digits: each image a function of (seed, index), drawn when first needed.
