//! The `[augment]` table: random changes to training images, in the order of the keys. Nothing is on by default.

use serde::{Deserialize, Serialize};

/// Random changes to training images, as written. Validation and test images are never changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AugmentSpec {
    /// Probability of a mirror image, 0 to 1.
    pub horizontal_flip: f64,
    /// Pad by so many black pixels on each side, then cut the old size out at random. 0 is off.
    pub crop_padding: usize,
    /// Cut out a random rectangle and scale it back to the image's size (torchvision's `RandomResizedCrop`).
    pub random_resized_crop: Option<ResizedCrop>,
    /// Rotate by up to so many degrees either way.
    pub rotation_degrees: f64,
    /// Shift by up to this part of the width and of the height, either way.
    pub shift: f64,
    /// Scale by a factor between `1 - scale` and `1 + scale`.
    pub scale: f64,
}

/// The ranges of a random resized crop.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResizedCrop {
    /// Least and greatest part of the image's area.
    pub scale: [f64; 2],
    /// Least and greatest width / height of the rectangle.
    pub ratio: [f64; 2],
}
