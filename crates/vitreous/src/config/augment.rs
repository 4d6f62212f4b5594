//! The `[augment]` table: random changes to training images, in the order of the keys. Nothing is on by default.

use super::data::IMAGE_SIZE_MAX;
use super::error::RuleError;
use super::schema::{Field, Key, Kind, Range, config_table};
use crate::advice::Suggestion;

config_table! {
    /// Random changes to training images, as written. Validation and test images are never changed.
    pub struct AugmentSpec in "augment" {
        /// Probability of a horizontal flip.
        horizontal_flip: f64 = 0.0, range Range::Between(0.0, 1.0), example 0.5;
        /// Pad by N black pixels on each side, then cut out a random square of the old size. 0 is off.
        crop_padding: usize = 0, range Range::Whole(0, IMAGE_SIZE_MAX as u64), example 4;
        /// Cut out a random rectangle and scale it to the image's size (torchvision's `RandomResizedCrop`).
        random_resized_crop: Option<ResizedCrop> = None, example ResizedCrop::default();
        /// Rotate by up to N degrees either way.
        rotation_degrees: f64 = 0.0, range Range::Between(0.0, 180.0), example 10;
        /// Shift by up to this fraction of the width and of the height, either way.
        shift: f64 = 0.0, range Range::Between(0.0, 1.0), example 0.1;
        /// Scale by a factor between `1 - scale` and `1 + scale`.
        scale: f64 = 0.0, range Range::BelowOne, example 0.1;
    }
}

config_table! {
    /// The ranges of a random resized crop.
    #[derive(Copy)]
    pub struct ResizedCrop in "augment.random_resized_crop" {
        /// Smallest and largest fraction of the image's area.
        scale: [f64; 2] = [0.08, 1.0], range Range::UpTo(1.0);
        /// Smallest and largest width / height of the rectangle.
        ratio: [f64; 2] = [0.75, 1.333], range Range::Positive;
    }
}

impl Field for ResizedCrop {
    const KIND: Kind = Kind::Table(ResizedCrop::KEYS);

    fn check(&self, _key: &Key) -> Result<(), RuleError> {
        self.check_ranges()?;
        let ranges =
            [("augment.random_resized_crop.scale", self.scale), ("augment.random_resized_crop.ratio", self.ratio)];
        for (key, [least, largest]) in ranges {
            if least > largest {
                let rule = RuleError::new(key, vec![least, largest], "has its ends in the wrong order");
                return Err(rule.suggest(Suggestion::new().set(key, vec![largest, least])));
            }
        }
        Ok(())
    }
}

impl AugmentSpec {
    /// Checks the values against the size of the images.
    ///
    /// # Errors
    /// When a padded crop could miss the image.
    pub fn check_size(&self, height: usize, width: usize) -> Result<(), RuleError> {
        let side = height.min(width);
        if self.crop_padding > 0 && self.crop_padding >= side {
            let problem = format!("is not below the image's shorter side {side}");
            let suggestion = Suggestion::new().set("augment.crop_padding", side / 8).or();
            let suggestion = suggestion.set("augment.crop_padding", 0).text("for no padding");
            return Err(RuleError::new("augment.crop_padding", self.crop_padding, problem).suggest(suggestion));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(toml: &str) -> [String; 2] {
        let spec: AugmentSpec = toml::from_str(toml).unwrap();
        let error = spec.check_ranges().unwrap_err();
        [error.to_string(), error.suggestion.unwrap().to_string()]
    }

    #[test]
    fn the_presets_augmentations_pass() {
        for text in [
            "",
            "horizontal_flip = 0.5\nrandom_resized_crop = { scale = [0.8, 1.0], ratio = [0.9, 1.1] }",
            "horizontal_flip = 1.0\ncrop_padding = 4",
            "rotation_degrees = 180.0\nshift = 1.0\nscale = 0.99",
        ] {
            let spec: AugmentSpec = toml::from_str(text).unwrap();
            assert_eq!(spec.check_ranges(), Ok(()), "{text}");
            assert_eq!(spec.check_size(28, 32), Ok(()), "{text}");
        }
    }

    #[test]
    fn a_number_out_of_bounds_is_refused_with_a_good_one() {
        let cases = [
            ("horizontal_flip = 1.5", "horizontal_flip 1.5 is not between 0 and 1", "horizontal_flip = 0.5"),
            ("horizontal_flip = inf", "horizontal_flip inf is not between 0 and 1", "horizontal_flip = 0.5"),
            ("rotation_degrees = -10", "rotation_degrees -10 is not between 0 and 180", "rotation_degrees = 10"),
            ("shift = nan", "shift NaN is not between 0 and 1", "shift = 0.1"),
            ("shift = 1.01", "shift 1.01 is not between 0 and 1", "shift = 0.1"),
            ("scale = 1.0", "scale 1 is not at least 0 and below 1", "scale = 0.1"),
            ("scale = -0.1", "scale -0.1 is not at least 0 and below 1", "scale = 0.1"),
        ];
        for (toml, text, hint) in cases {
            assert_eq!(refused(toml), [text.to_string(), format!("use augment.{hint}")]);
        }
    }

    #[test]
    fn a_range_that_is_not_ordered_and_positive_is_refused() {
        let cases = [
            ("scale = [1.0, 0.8]", "scale [1.0, 0.8] has its ends in the wrong order", "scale = [0.8, 1.0]"),
            ("ratio = [1.2, 1.1]", "ratio [1.2, 1.1] has its ends in the wrong order", "ratio = [1.1, 1.2]"),
            ("ratio = [0.0, 1.1]", "ratio has 0, which is not above 0", "ratio = [0.75, 1.333]"),
            ("ratio = [0.9, inf]", "ratio has inf, which is not above 0 and finite", "ratio = [0.75, 1.333]"),
            ("scale = [0.8, 1.2]", "scale has 1.2, which is not above 0 and at most 1", "scale = [0.08, 1.0]"),
            ("scale = [nan, 1.0]", "scale has NaN, which is not above 0 and at most 1", "scale = [0.08, 1.0]"),
        ];
        for (toml, text, hint) in cases {
            let [text, hint] =
                [format!("random_resized_crop.{text}"), format!("use augment.random_resized_crop.{hint}")];
            assert_eq!(refused(&format!("random_resized_crop = {{ {toml} }}")), [text, hint]);
        }
    }

    #[test]
    fn a_crop_that_could_miss_the_image_is_refused() {
        let spec = AugmentSpec { crop_padding: 28, ..AugmentSpec::default() };
        assert_eq!(spec.check_size(29, 31), Ok(()));
        let error = spec.check_size(31, 28).unwrap_err();
        assert_eq!(error.to_string(), "crop_padding 28 is not below the image's shorter side 28");
        let hint = error.suggestion.unwrap().to_string();
        assert_eq!(hint, "use augment.crop_padding = 3, or augment.crop_padding = 0 for no padding");
    }
}
