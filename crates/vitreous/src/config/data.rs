//! The `[data]` table: which images, and how they become numbers.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::classes::{ClassSubset, ClassSubsetError};
use crate::data_sets;
use crate::numbers::number;

/// Greatest `image_size`, in pixels.
pub const IMAGE_SIZE_MAX: usize = 4096;

/// Which images a run uses, as written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataSpec {
    /// A data set by its name, as `vitreous data list` shows them, or the path of a folder of class folders.
    pub name: String,
    /// Folder that holds the data sets (`DIR/mnist/*.gz`, `DIR/photos/cat/1.jpg`) or one data set's files themselves.
    /// The folder the program runs in when absent.
    pub dir: Option<PathBuf>,
    /// The classes to use: `even`, `odd`, or a list of names or of numbers counted from 0. All when absent.
    pub classes: Option<ClassSubset>,
    /// Height and width to which a folder's images are brought, in pixels. Only for folders; default 64.
    pub image_size: Option<usize>,
    /// 1 (gray) or 3 (RGB). Only for folders; default 3.
    pub channels: Option<usize>,
    /// How a folder's image of another shape is brought to `image_size`.
    pub resize: Resize,
    /// Part of the train set that validates, in [0, 1); 0 selects nothing. Ignored when a folder has its own `val/`. In
    /// a folder, each file whose hash with `split_seed` is below this part of all hashes validates, so about as many.
    pub val_fraction: f64,
    /// Seed of the split into train and validation, and of `limit_train`.
    pub split_seed: u64,
    /// Train on this many images only (drawn evenly over the classes, after the split).
    pub limit_train: Option<usize>,
    /// Mean of each channel of pixels in 0..=1; measured on the train split when absent.
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
    /// Scale the shorter side to the size, then cut out the centre (torchvision's `Resize` and `CenterCrop`).
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
            classes: None,
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

impl DataSpec {
    /// Whether the name is a data set's in [`data_sets`], so not a folder of images.
    pub fn is_known_data_set(&self) -> bool {
        data_sets::data_set(&self.name).is_some()
    }

    /// Checks the table by itself; nothing is opened.
    ///
    /// # Errors
    /// The first rule that is broken, in the order of the keys.
    pub fn check(&self) -> Result<(), DataSpecError> {
        if self.name.is_empty() {
            return Err(DataSpecError::NoName);
        }
        self.classes.as_ref().map_or(Ok(()), ClassSubset::check)?;
        for (key, given) in [("image_size", self.image_size), ("channels", self.channels)] {
            if let (Some(value), true) = (given, self.is_known_data_set()) {
                return Err(DataSpecError::ShapeOfKnownDataSet { key, value, name: self.name.clone() });
            }
        }
        if let Some(size) = self.image_size.filter(|size| !(1..=IMAGE_SIZE_MAX).contains(size)) {
            return Err(DataSpecError::ImageSize(size));
        }
        if let Some(channels) = self.channels.filter(|channels| ![1, 3].contains(channels)) {
            return Err(DataSpecError::Channels(channels));
        }
        if !(0.0..1.0).contains(&self.val_fraction) {
            return Err(DataSpecError::ValFraction(self.val_fraction));
        }
        if self.limit_train == Some(0) {
            return Err(DataSpecError::LimitTrain);
        }
        check_channel_values("mean", self.mean.as_deref(), "between 0 and 1", |mean| (0.0..=1.0).contains(&mean))?;
        check_channel_values("std", self.std.as_deref(), "above 0", |std| std > 0.0 && std.is_finite())?;
        if let (Some(mean), Some(std)) = (&self.mean, &self.std)
            && mean.len() != std.len()
        {
            return Err(DataSpecError::MeanAndStd { mean: mean.len(), std: std.len() });
        }
        Ok(())
    }
}

fn check_channel_values(
    key: &'static str,
    values: Option<&[f32]>,
    must: &'static str,
    holds: impl Fn(f32) -> bool,
) -> Result<(), DataSpecError> {
    let Some(values) = values else { return Ok(()) };
    if ![1, 3].contains(&values.len()) {
        return Err(DataSpecError::ChannelValues { key, count: values.len() });
    }
    match values.iter().find(|value| !holds(**value)) {
        Some(&value) => Err(DataSpecError::ChannelValue { key, value, must }),
        None => Ok(()),
    }
}

/// Says which rule a [`DataSpec`] breaks.
#[derive(Clone, Debug, PartialEq, Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum DataSpecError {
    /// `name` is empty.
    #[error("name is empty ([data])")]
    NoName,
    /// `classes` cannot be, whatever the data.
    #[error("{0} ([data])")]
    Classes(#[from] ClassSubsetError),
    /// A key that only folders have was given with a known data set.
    #[error("{key} {value} is given, but the images of {name} have a shape of their own ([data])")]
    ShapeOfKnownDataSet { key: &'static str, value: usize, name: String },
    /// `image_size` is 0 or absurd.
    #[error("image_size {0} is not between 1 and {IMAGE_SIZE_MAX} ([data])")]
    ImageSize(usize),
    /// `channels` is neither gray nor RGB.
    #[error("channels {0} is neither 1 (gray) nor 3 (RGB) ([data])")]
    Channels(usize),
    /// `val_fraction` leaves no train set, or is no part at all.
    #[error("val_fraction {} is not at least 0 and below 1 ([data])", number(*.0))]
    ValFraction(f64),
    /// `limit_train` is 0.
    #[error("limit_train 0 leaves nothing to train on ([data])")]
    LimitTrain,
    /// `mean` or `std` has neither one value nor three.
    #[error("{key} has {count} values, where one for each channel would be 1 or 3 ([data])")]
    ChannelValues { key: &'static str, count: usize },
    /// A value of `mean` or `std` is out of range.
    #[error("{key} {value} is not {must} ([data])")]
    ChannelValue { key: &'static str, value: f32, must: &'static str },
    /// `mean` and `std` are for different numbers of channels.
    #[error("the number of values in mean, {mean}, is not that in std, {std} ([data])")]
    MeanAndStd { mean: usize, std: usize },
}

impl DataSpecError {
    /// Says what would work instead.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            DataSpecError::NoName => format!("use {}, or the path of a folder", data_sets::listed()),
            DataSpecError::Classes(error) => return error.hint(),
            DataSpecError::ShapeOfKnownDataSet { key, .. } => format!("leave {key} out"),
            DataSpecError::ImageSize(_) => "use image_size = 64".to_string(),
            DataSpecError::Channels(_) => "use channels = 3".to_string(),
            DataSpecError::ValFraction(_) => "use val_fraction = 0.1, or 0 to train on all images".to_string(),
            DataSpecError::LimitTrain => "use limit_train = 1000, or leave it out".to_string(),
            DataSpecError::ChannelValues { key, .. } => {
                format!("use {key} = [0.5] for gray or {key} = [0.5, 0.5, 0.5] for RGB, or leave it out to measure it")
            }
            DataSpecError::ChannelValue { must, .. } => {
                format!("pixels count from 0 to 1 here: use 0.5, which is {must}, or leave the key out to measure it")
            }
            DataSpecError::MeanAndStd { .. } => "give both one value for each channel".to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(change: impl FnOnce(&mut DataSpec)) -> String {
        let mut spec = DataSpec { name: "photos".to_string(), ..DataSpec::default() };
        assert_eq!(spec.check(), Ok(()));
        change(&mut spec);
        let error = spec.check().unwrap_err();
        assert!(error.hint().is_some());
        error.to_string()
    }

    #[test]
    fn the_default_is_good() {
        assert_eq!(DataSpec::default().check(), Ok(()));
    }

    #[test]
    fn every_rule_names_key_and_value() {
        assert_eq!(broken(|s| s.name.clear()), "name is empty ([data])");
        assert_eq!(
            broken(|s| s.classes = Some(ClassSubset::parse("cat"))),
            "classes lists 1 class, where a classifier needs at least 2 ([data])"
        );
        assert_eq!(broken(|s| s.image_size = Some(0)), "image_size 0 is not between 1 and 4096 ([data])");
        assert_eq!(broken(|s| s.image_size = Some(5000)), "image_size 5000 is not between 1 and 4096 ([data])");
        assert_eq!(broken(|s| s.channels = Some(2)), "channels 2 is neither 1 (gray) nor 3 (RGB) ([data])");
        assert_eq!(broken(|s| s.val_fraction = 1.0), "val_fraction 1 is not at least 0 and below 1 ([data])");
        assert_eq!(broken(|s| s.val_fraction = -0.1), "val_fraction -0.1 is not at least 0 and below 1 ([data])");
        assert_eq!(broken(|s| s.val_fraction = f64::NAN), "val_fraction NaN is not at least 0 and below 1 ([data])");
        assert_eq!(broken(|s| s.limit_train = Some(0)), "limit_train 0 leaves nothing to train on ([data])");
        assert_eq!(
            broken(|s| s.mean = Some(vec![0.5; 2])),
            "mean has 2 values, where one for each channel would be 1 or 3 ([data])"
        );
        assert_eq!(broken(|s| s.mean = Some(vec![127.5])), "mean 127.5 is not between 0 and 1 ([data])");
        assert_eq!(broken(|s| s.std = Some(vec![0.5, 0.0, 0.5])), "std 0 is not above 0 ([data])");
        assert_eq!(
            broken(|s| (s.mean, s.std) = (Some(vec![0.5]), Some(vec![0.5; 3]))),
            "the number of values in mean, 1, is not that in std, 3 ([data])"
        );
    }

    #[test]
    fn a_known_data_set_keeps_its_own_shape() {
        let error = broken(|s| (s.name, s.image_size) = ("mnist".to_string(), Some(32)));
        assert_eq!(error, "image_size 32 is given, but the images of mnist have a shape of their own ([data])");
    }
}
