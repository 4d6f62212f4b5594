//! Recognizes images that are unlike a model's training images: by color, size, shape and pixels. A model gives a class for
//! any image, often with a high probability.

use crate::config::data::DataSpec;
use crate::data::{Decoded, ImageShape, PixelRanges};

/// Maximum ratio of an image's side to that of a known data set, whose images all have one size.
const LARGER_MAX: f64 = 4.0;

/// The same for smaller images.
const SMALLER_MAX: f64 = 2.0;

/// Maximum factor between the aspect ratios of an image and of a known data set.
const STRETCH_MAX: f64 = 1.5;

/// The same for image folders, whose images have different shapes.
const STRETCH_MAX_OF_FOLDER: f64 = 3.0;

/// How an image differs from the training images, and what to do, if it differs too much.
pub fn warning(decoded: &Decoded, shape: ImageShape, data: &DataSpec, usual: Option<&PixelRanges>) -> Option<String> {
    let mut reasons = Vec::new();
    if decoded.lost_color {
        reasons.push("it is in color, they are gray".to_string());
    }
    let [width, height] = decoded.picture;
    let ratios = [f64::from(width) / shape.width as f64, f64::from(height) / shape.height as f64];
    let [smaller, larger] = [ratios[0].min(ratios[1]), ratios[0].max(ratios[1])];
    let is_known = data.is_known_data_set();
    if is_known && (larger > LARGER_MAX || smaller * SMALLER_MAX < 1.0) {
        reasons.push(format!("it has {width}x{height} pixels, they have {}x{}", shape.width, shape.height));
    } else if larger / smaller > if is_known { STRETCH_MAX } else { STRETCH_MAX_OF_FOLDER } {
        reasons.push(format!("it is {width}x{height}, of another shape"));
    }
    reasons.extend(usual.and_then(|usual| usual.difference(shape, &decoded.pixels)).map(str::to_string));
    let what = "unlike the training images";
    (!reasons.is_empty()).then(|| format!("{what}: {}; use images like those of {}", reasons.join(", "), data.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warned(name: &str, picture: [u32; 2], lost_color: bool, pixel: u8) -> Option<String> {
        let decoded = Decoded { pixels: vec![pixel; 784], enlarged_from: None, picture, lost_color };
        let data = DataSpec { name: name.to_string(), ..DataSpec::default() };
        let shape = ImageShape { channels: 1, height: 28, width: 28 };
        let usual =
            PixelRanges { brightness: [0.0, 0.5], contrast: [0.0, 0.5], border: [0.0, 0.1], detail: [0.0, 0.5] };
        warning(&decoded, shape, &data, Some(&usual))
    }

    #[test]
    fn images_like_the_training_images_give_no_warning() {
        for size in [[28, 28], [14, 14], [112, 112], [42, 28], [28, 40]] {
            assert_eq!(warned("mnist", size, false, 0), None, "{size:?}");
        }
        // A folder's images have any size.
        for size in [[4000, 3000], [1080, 2400], [9, 9]] {
            assert_eq!(warned("photos", size, false, 0), None, "{size:?}");
        }
    }

    #[test]
    fn color_size_shape_and_pixels_are_reasons() {
        let start = "unlike the training images: ";
        let of_mnist = |reason: &str| Some(format!("{start}{reason}; use images like those of mnist"));
        assert_eq!(warned("mnist", [28, 28], true, 0), of_mnist("it is in color, they are gray"));
        assert_eq!(warned("mnist", [113, 90], false, 0), of_mnist("it has 113x90 pixels, they have 28x28"));
        assert_eq!(warned("mnist", [13, 13], false, 0), of_mnist("it has 13x13 pixels, they have 28x28"));
        assert_eq!(warned("mnist", [28, 43], false, 0), of_mnist("it is 28x43, of another shape"));
        assert_eq!(warned("mnist", [28, 28], false, 255), of_mnist("its border is brighter"));
        let expected =
            of_mnist("it is in color, they are gray, it has 640x480 pixels, they have 28x28, its border is brighter");
        assert_eq!(warned("mnist", [640, 480], true, 255), expected);
        let expected = format!("{start}it is 900x200, of another shape; use images like those of photos");
        assert_eq!(warned("photos", [900, 200], false, 0), Some(expected));
    }
}
