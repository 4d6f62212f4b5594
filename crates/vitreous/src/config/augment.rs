//! The `[augment]` table: random changes to training images, in the order of the keys. Nothing is on by default.

use serde::{Deserialize, Serialize};

use crate::numbers::number;

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

/// A value of `[augment]` that cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum AugmentError {
    /// A number lies outside its bounds, or is none.
    #[error("{key} {} is not between {least} and {greatest} ([augment])", number(*value))]
    OutOfBounds { key: &'static str, value: f64, least: f64, greatest: f64 },
    /// A factor of `1 - scale` would be nothing.
    #[error("scale {} is not at least 0 and below 1 ([augment])", number(*value))]
    Scale { value: f64 },
    /// The two ends of a range are in the wrong order.
    #[error("{key} [{least}, {greatest}] ends before it begins ([augment])")]
    WrongOrder { key: &'static str, least: f64, greatest: f64 },
    /// A range holds something that is not above 0, or no number at all.
    #[error("{key} [{least}, {greatest}] is not above 0 and finite ([augment])")]
    NotPositive { key: &'static str, least: f64, greatest: f64 },
    /// A rectangle would be larger than the image.
    #[error("random_resized_crop.scale [{least}, {greatest}] goes beyond the whole image, 1 ([augment])")]
    BeyondImage { least: f64, greatest: f64 },
    /// A crop could miss the image altogether.
    #[error("crop_padding {padding} is not below the image's shorter side {side} ([augment])")]
    Padding { padding: usize, side: usize },
}

impl AugmentError {
    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            AugmentError::OutOfBounds { key, value, least, greatest } => {
                let nearest = if value.is_nan() { *least } else { value.clamp(*least, *greatest) };
                format!("use {key} = {nearest:?}; 0 is off")
            }
            AugmentError::Scale { .. } => "use scale = 0.1 for factors between 0.9 and 1.1; 0 is off".to_string(),
            AugmentError::WrongOrder { key, least, greatest } => format!("use {key} = [{greatest:?}, {least:?}]"),
            AugmentError::NotPositive { key, .. } if key.ends_with("ratio") => format!("use {key} = [0.75, 1.333]"),
            AugmentError::NotPositive { key, .. } => format!("use {key} = [0.08, 1.0]"),
            AugmentError::BeyondImage { least, .. } => {
                format!("use random_resized_crop.scale = [{:?}, 1.0]", least.min(1.0))
            }
            AugmentError::Padding { side, .. } => format!("use crop_padding = {}; 0 is off", side / 8),
        })
    }
}

impl AugmentSpec {
    /// Checks every value by itself.
    ///
    /// # Errors
    /// The first value that cannot be, in the order of the keys.
    pub fn check(&self) -> Result<(), AugmentError> {
        within("horizontal_flip", self.horizontal_flip, 1.0)?;
        if let Some(crop) = self.random_resized_crop {
            ordered("random_resized_crop.scale", crop.scale)?;
            let [least, greatest] = crop.scale;
            if greatest > 1.0 {
                return Err(AugmentError::BeyondImage { least, greatest });
            }
            ordered("random_resized_crop.ratio", crop.ratio)?;
        }
        within("rotation_degrees", self.rotation_degrees, 180.0)?;
        within("shift", self.shift, 1.0)?;
        if !(0.0..1.0).contains(&self.scale) {
            return Err(AugmentError::Scale { value: self.scale });
        }
        Ok(())
    }

    /// Checks the values against the size of the images.
    ///
    /// # Errors
    /// When a padded crop could lie beside the image.
    pub fn check_size(&self, height: usize, width: usize) -> Result<(), AugmentError> {
        let side = height.min(width);
        if self.crop_padding > 0 && self.crop_padding >= side {
            return Err(AugmentError::Padding { padding: self.crop_padding, side });
        }
        Ok(())
    }
}

fn within(key: &'static str, value: f64, greatest: f64) -> Result<(), AugmentError> {
    // Written so that NaN is refused.
    if (0.0..=greatest).contains(&value) {
        Ok(())
    } else {
        Err(AugmentError::OutOfBounds { key, value, least: 0.0, greatest })
    }
}

fn ordered(key: &'static str, [least, greatest]: [f64; 2]) -> Result<(), AugmentError> {
    let sound = |x: f64| x.is_finite() && x > 0.0;
    if !(sound(least) && sound(greatest)) {
        return Err(AugmentError::NotPositive { key, least, greatest });
    }
    if least > greatest {
        return Err(AugmentError::WrongOrder { key, least, greatest });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(toml: &str) -> String {
        let spec: AugmentSpec = toml::from_str(toml).unwrap();
        let error = spec.check().unwrap_err();
        format!("error: {error}\nhint: {}", error.hint().unwrap())
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
            assert_eq!(spec.check(), Ok(()), "{text}");
            assert_eq!(spec.check_size(28, 32), Ok(()), "{text}");
        }
    }

    #[test]
    fn a_number_out_of_bounds_is_refused_with_the_nearest_good_one() {
        assert_eq!(
            refused("horizontal_flip = 1.5"),
            "error: horizontal_flip 1.5 is not between 0 and 1 ([augment])\nhint: use horizontal_flip = 1.0; 0 is off"
        );
        assert_eq!(
            refused("rotation_degrees = -10"),
            "error: rotation_degrees -10 is not between 0 and 180 ([augment])\n\
             hint: use rotation_degrees = 0.0; 0 is off"
        );
        assert!(refused("shift = nan").starts_with("error: shift NaN is not between 0 and 1 ([augment])"));
        assert!(refused("shift = 1.01").starts_with("error: shift 1.01 is not between"));
        assert!(refused("scale = 1.0").starts_with("error: scale 1 is not at least 0 and below 1 ([augment])"));
        assert!(refused("scale = -0.1").starts_with("error: scale -0.1 is not"));
        assert!(refused("horizontal_flip = inf").ends_with("use horizontal_flip = 1.0; 0 is off"));
    }

    #[test]
    fn a_range_that_is_not_ordered_and_positive_is_refused() {
        let crop = |scale: &str, ratio: &str| {
            refused(&format!("random_resized_crop = {{ scale = [{scale}], ratio = [{ratio}] }}"))
        };
        assert_eq!(
            crop("1.0, 0.8", "0.9, 1.1"),
            "error: random_resized_crop.scale [1, 0.8] ends before it begins ([augment])\n\
             hint: use random_resized_crop.scale = [0.8, 1.0]"
        );
        assert_eq!(
            crop("0.8, 1.0", "0.0, 1.1"),
            "error: random_resized_crop.ratio [0, 1.1] is not above 0 and finite ([augment])\n\
             hint: use random_resized_crop.ratio = [0.75, 1.333]"
        );
        assert_eq!(
            crop("0.8, 1.2", "0.9, 1.1"),
            "error: random_resized_crop.scale [0.8, 1.2] goes beyond the whole image, 1 ([augment])\n\
             hint: use random_resized_crop.scale = [0.8, 1.0]"
        );
        assert!(crop("nan, 1.0", "0.9, 1.1").contains("scale [NaN, 1] is not above 0"));
        assert!(crop("0.8, 1.0", "0.9, inf").contains("ratio [0.9, inf] is not above 0 and finite"));
        assert!(crop("0.8, 1.0", "1.2, 1.1").contains("ratio [1.2, 1.1] ends before it begins"));
    }

    #[test]
    fn a_crop_that_could_miss_the_image_is_refused() {
        let spec = AugmentSpec { crop_padding: 28, ..AugmentSpec::default() };
        assert_eq!(spec.check_size(29, 31), Ok(()));
        let error = spec.check_size(31, 28).unwrap_err();
        assert_eq!(error.to_string(), "crop_padding 28 is not below the image's shorter side 28 ([augment])");
        assert_eq!(error.hint().unwrap(), "use crop_padding = 3; 0 is off");
    }
}
