//! Images and their labels: from IDX, CIFAR and image files or drawn by the program, kept as bytes in memory.
//!
//! Three steps, each complete before the next: [`DataSpec::check`](crate::config::data::DataSpec::check) checks the
//! config alone, [`inspect`] reads listings and file headers, [`load`] reads the images. The test split is loaded only
//! on request.

pub mod augment;
pub mod digits;
pub mod strips;

mod check;
mod cifar;
mod content_hashes;
mod content_split;
mod decode;
mod describe;
mod duplicates;
mod error;
mod folder;
mod idx;
mod image_set;
mod load;
mod memory;
mod normalize;
mod other_folder;
mod pixel_ranges;
mod places;
mod resample;
#[cfg(test)]
mod samples;
mod source;
mod split;
mod split_folders;
mod walk;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use check::{DataCheck, Problem, ValidationSource};
pub use content_hashes::ContentHashes;
pub use content_split::Forced;
pub use decode::{Decoded, SmallPicture, decode_picture, decoding_bytes, is_of_images};
pub use describe::{ClassSummary, DataSummary, describe};
pub use duplicates::{Duplicates, ImagePlace};
pub use error::DataError;
pub use folder::SkippedImage;
pub use image_set::{Answer, ImageSet, digits_text, first_of_each_class, image_set};
pub use load::{Loaded, Wanted, fingerprint, load};
pub use normalize::Normalization;
pub use pixel_ranges::PixelRanges;
pub use places::idx_spellings;
pub use source::{FOLDER_IMAGE_SIZE, Facts, class_count, inspect, inspect_other, known_shape};
pub use split::Split;
pub use walk::{Files, Ignored};

pub use crate::data_sets::ImageShape;

/// Called while images are read, from any thread, with the number of images done and their total.
pub type Progress<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// A split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitName {
    /// For training.
    Train,
    /// For monitoring the training and choosing the best weights.
    #[serde(alias = "val")]
    Validation,
    /// Only for `evaluate`.
    Test,
    /// All images of a folder without splits, for `evaluate`.
    All,
}

impl fmt::Display for SplitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SplitName::Train => "train",
            SplitName::Validation => "validation",
            SplitName::Test => "test",
            SplitName::All => "all",
        })
    }
}
