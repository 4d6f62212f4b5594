//! The `[data]` table: which images, and how they become numbers.

use std::path::PathBuf;

use super::classes::ClassSubset;
use super::error::RuleError;
use super::schema::{Range, WHOLE_MAX, choices, config_table};
use crate::advice::Suggestion;
use crate::data_sets;
use crate::numbers::counted;

/// Maximum `image_size`, in pixels.
pub const IMAGE_SIZE_MAX: usize = 4096;

config_table! {
    /// Which images a run uses, as written.
    pub struct DataSpec in "data" {
        /// A data set that `vitreous data list` shows, or the path of a folder with one folder of images per class.
        name: String = "digits".to_string();
        /// Folder with the data sets (`DIR/mnist/*.gz`, `DIR/photos/cat/1.jpg`), or with the files of one. The current folder
        /// when it is absent.
        dir: Option<PathBuf> = None, example "data";
        /// The classes to use: `even`, `odd`, or a list of names or of numbers from 0. All when it is absent.
        classes: Option<ClassSubset> = None, example "even";
        /// Resize images to N x N pixels. Only for folders, where 64 is the default.
        image_size: Option<usize> = None, range Range::Whole(1, IMAGE_SIZE_MAX as u64), example 64;
        /// Color channels of the images: 1 (gray) or 3 (RGB). Only for folders, where 3 is the default.
        channels: Option<usize> = None, example 3;
        /// How an image of a folder becomes square.
        resize: Resize = Resize::Crop;
        /// Fraction of the training images used for validation; 0 for none. Ignored when a folder has its own
        /// `val/`. In a folder, each file whose hash with `split_seed` is below this fraction of all hashes is a validation
        /// image, so the number of images is approximate.
        val_fraction: f64 = 0.1, range Range::BelowOne;
        /// Seed of the split into training and validation images, and of `limit_train`.
        split_seed: u64 = 42, range Range::Whole(0, WHOLE_MAX);
        /// Train on this many images only. They are drawn evenly from the classes, after the split.
        limit_train: Option<usize> = None, range Range::Whole(1, WHOLE_MAX), example 1000;
        /// Mean of each channel, of pixels from 0 to 1. Measured on the training images when it is absent.
        mean: Option<Vec<f32>> = None, range Range::Between(0.0, 1.0), example [0.5];
        /// Standard deviation of each channel. Measured on the training images when it is absent.
        std: Option<Vec<f32>> = None, range Range::Positive, example [0.5];
        /// Leave out images that cannot be decoded, and count them.
        skip_bad_images: bool = false;
    }
}

choices! {
    /// How an image becomes square.
    pub enum Resize {
        /// Scale the shorter side to the size, then cut out the center (torchvision's `Resize` and `CenterCrop`).
        Crop = "crop",
        /// Scale both sides to the size, which changes the proportions.
        Squash = "squash",
    }
}

impl DataSpec {
    /// Whether the name is one in [`data_sets`], so not a folder of images.
    pub fn is_known_data_set(&self) -> bool {
        data_sets::data_set(&self.name).is_some()
    }

    /// Checks the table by itself; nothing is opened.
    ///
    /// # Errors
    /// The first rule that is broken, in the order of the keys.
    pub fn check(&self) -> Result<(), RuleError> {
        if self.name.is_empty() {
            let suggestion = Suggestion::new().set("data.name", "digits").or().text("the path of a folder");
            return Err(RuleError::about("data.name", "is empty").suggest(suggestion));
        }
        self.classes.as_ref().map_or(Ok(()), ClassSubset::check)?;
        for (key, given) in [("data.image_size", self.image_size), ("data.channels", self.channels)] {
            if let (Some(value), true) = (given, self.is_known_data_set()) {
                let problem = format!("does not apply to {}, whose images have a fixed shape", self.name);
                let unset = Suggestion::new().unset(key);
                let suggestion = match data_sets::is_newer(&self.name) {
                    true => unset.or().set("data.name", format!("./{}", self.name)).text("for a folder of that name"),
                    false => unset,
                };
                return Err(RuleError::new(key, value, problem).and("data.name").suggest(suggestion));
            }
        }
        self.check_ranges()?;
        if let Some(channels) = self.channels.filter(|channels| ![1, 3].contains(channels)) {
            let rule = RuleError::new("data.channels", channels, "is not 1 (gray) or 3 (RGB)");
            return Err(rule.suggest(Suggestion::new().set("data.channels", 3)));
        }
        for (key, values) in [("data.mean", &self.mean), ("data.std", &self.std)] {
            if let Some(values) = values.as_ref().filter(|values| ![1, 3].contains(&values.len())) {
                let suggestion = Suggestion::new().set(key, vec![0.5]).text("for gray").or();
                let suggestion =
                    suggestion.set(key, vec![0.5; 3]).text("for RGB").or().unset(key).text("to measure it");
                let problem = format!("has {} values, not 1 (gray) or 3 (RGB)", values.len());
                return Err(RuleError::about(key, problem).suggest(suggestion));
            }
        }
        if let (Some(mean), Some(std)) = (&self.mean, &self.std)
            && mean.len() != std.len()
        {
            let [mean, std] = [mean.len(), std.len()].map(|count| counted(count, "value"));
            let rule = RuleError::about("data.mean", format!("has {mean}, but std has {std}")).and("data.std");
            return Err(rule.suggest(Suggestion::new().text("give both one value per channel")));
        }
        Ok(())
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
        assert!(error.suggestion.is_some());
        error.to_string()
    }

    #[test]
    fn the_default_is_good() {
        assert_eq!(DataSpec::default().check(), Ok(()));
    }

    #[test]
    fn every_rule_names_key_and_value() {
        assert_eq!(broken(|s| s.name.clear()), "name is empty");
        assert_eq!(
            broken(|s| s.classes = Some(ClassSubset::parse("cat"))),
            "classes lists 1 class, and a classifier needs at least 2"
        );
        assert_eq!(broken(|s| s.image_size = Some(0)), "image_size 0 is not between 1 and 4096");
        assert_eq!(broken(|s| s.image_size = Some(5000)), "image_size 5000 is not between 1 and 4096");
        assert_eq!(broken(|s| s.channels = Some(2)), "channels 2 is not 1 (gray) or 3 (RGB)");
        assert_eq!(broken(|s| s.val_fraction = 1.0), "val_fraction 1 is not at least 0 and below 1");
        assert_eq!(broken(|s| s.val_fraction = -0.1), "val_fraction -0.1 is not at least 0 and below 1");
        assert_eq!(broken(|s| s.val_fraction = f64::NAN), "val_fraction NaN is not at least 0 and below 1");
        assert_eq!(broken(|s| s.limit_train = Some(0)), "limit_train 0 is not at least 1");
        assert_eq!(broken(|s| s.mean = Some(vec![0.5; 2])), "mean has 2 values, not 1 (gray) or 3 (RGB)");
        assert_eq!(broken(|s| s.mean = Some(vec![127.3])), "mean has 127.3, which is not between 0 and 1");
        assert_eq!(broken(|s| s.std = Some(vec![0.5, 0.0, 0.5])), "std has 0, which is not above 0");
        assert_eq!(
            broken(|s| (s.mean, s.std) = (Some(vec![0.5]), Some(vec![0.5; 3]))),
            "mean has 1 value, but std has 3 values"
        );
    }

    #[test]
    fn a_known_data_set_keeps_its_own_shape() {
        let error = broken(|s| (s.name, s.image_size) = ("mnist".to_string(), Some(32)));
        assert_eq!(error, "image_size 32 does not apply to mnist, whose images have a fixed shape");
    }
}
