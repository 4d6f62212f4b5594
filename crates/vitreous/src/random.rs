//! What the program draws random numbers for, one stream for each purpose.
//!
//! Every draw is a function of (seed, purpose, epoch, place of the image in the epoch's order), see
//! [`vitreous_engine::random`].

pub use vitreous_engine::random::Key;

/// What a random number decides. The number of a purpose is part of what makes a run repeatable: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Initial values of parameters.
    Initialize = 1,
    /// Order of the images in an epoch.
    Shuffle = 2,
    /// Random changes to an image.
    Augment = 3,
    /// Dropout masks.
    Dropout = 4,
    /// Which images of the train set validate.
    Split = 5,
    /// The strokes of the built-in digits.
    Digits = 6,
    /// Which images `--limit-train` keeps.
    Limit = 7,
    /// Which digits are on a strip, and where.
    Strips = 8,
    /// Which images are shown.
    Samples = 9,
}

/// Returns the stream of one purpose under a seed.
pub fn stream(seed: u64, purpose: Purpose) -> Key {
    Key::new(seed).with(purpose as u64)
}
