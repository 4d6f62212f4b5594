//! Random changes to training images, and normalisation.
