//! The `[data]` table: which images, and how they become numbers.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Which images a run uses, as written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataSpec {
    /// `digits` (built in), `mnist`, `fashion-mnist`, `cifar10`, or the path of a folder of class folders.
    pub name: String,
    /// Folder that holds the data sets (`DIR/mnist/*.gz`) or one data set's files themselves. Not for `digits` or a folder.
    pub dir: Option<PathBuf>,
    /// Height and width to which a folder's images are brought, in pixels. Only for folders; default 64.
    pub image_size: Option<usize>,
    /// 1 (gray) or 3 (RGB). Only for folders; default 3.
    pub channels: Option<usize>,
    /// How a folder's image of another shape is brought to `image_size`.
    pub resize: Resize,
    /// Part of the train set that validates, in [0, 1); 0 selects nothing. Ignored when a folder has its own `val/`.
    pub val_fraction: f64,
    /// Seed of the split into train and validation, and of `limit_train`.
    pub split_seed: u64,
    /// Train on this many images only (drawn evenly over the classes, after the split).
    pub limit_train: Option<usize>,
    /// Mean of each channel of pixels in 0..1; measured on the train split when absent.
    pub mean: Option<Vec<f32>>,
    /// Standard deviation of each channel; measured on the train split when absent.
    pub std: Option<Vec<f32>>,
    /// Go on without images that cannot be decoded, and count them.
    pub skip_bad_images: bool,
}

/// How an image of another shape becomes a square one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resize {
    /// Scale the shorter side to the size, then cut out the centre.
    #[default]
    Crop,
    /// Scale both sides to the size; the proportions change.
    Squash,
}

impl Default for DataSpec {
    fn default() -> Self {
        DataSpec {
            name: "digits".to_string(),
            dir: None,
            image_size: None,
            channels: None,
            resize: Resize::Crop,
            val_fraction: 0.1,
            split_seed: 42,
            limit_train: None,
            mean: None,
            std: None,
            skip_bad_images: false,
        }
    }
}
