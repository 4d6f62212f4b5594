//! Decodes an image file: converted, scaled, upright, planar.
//!
//! - The format is recognized by content, not by extension. The first frame of an animation is used.
//! - 16 bits are rounded to 8. Transparency is drawn on white. Color is converted to gray as ITU-R 601 luma, as in JPEG and
//!   Pillow's mode `L`.
//! - Scaling is that of torchvision on Pillow images, to the byte (`resample.rs`). Color profiles are ignored.
//! - The EXIF orientation is applied, in any format.

mod jpeg;
mod png;
mod size;

use std::io::Cursor;
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, GenericImageView, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};
use serde::{Deserialize, Serialize};

use self::jpeg::Jpeg;
pub use self::size::decoding_bytes;
use super::resample::scale_and_cut;
use super::{DataError, ImageShape};
use crate::config::data::Resize;
use crate::{regular, system_errors};

/// Maximum size of an image file, in bytes.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 29;

/// The formats that are read; the image crate may have more for other crates.
const FORMATS: [ImageFormat; 4] = [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp];

/// Pixels along each side that are checked for colors.
const COLOR_SAMPLE: u32 = 64;

/// Mean difference between the largest and the smallest channel of a color image, of 255.
const COLOR_SPREAD: u64 = 10;

/// A decoded image.
pub struct Decoded {
    /// Its bytes, `[channels, height, width]`.
    pub pixels: Vec<u8>,
    /// Width and height of the file's image, if it was enlarged.
    pub enlarged_from: Option<[u32; 2]>,
    /// Width and height of the file's image, upright.
    pub picture: [u32; 2],
    /// Whether color was converted to gray.
    pub lost_color: bool,
}

/// An image file with fewer pixels than the input, along at least one axis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmallPicture {
    /// The file, relative to the data set's folder.
    pub name: String,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
}

/// Decodes an image file into an image of the given shape.
///
/// # Errors
/// When the file cannot be read, is cut off or damaged, is not a JPEG, PNG, WebP or BMP file, or has more than 134
/// megapixels or a side of more than 65,535 pixels.
pub fn decode_picture(path: &Path, shape: ImageShape, resize: Resize) -> Result<Decoded, DataError> {
    let bytes = regular::read(path, FILE_BYTES_MAX).map_err(|error| DataError::read(path, &error))?;
    decode(bytes, shape, resize).map_err(|reason| DataError::Picture { path: path.to_path_buf(), reason })
}

fn decode(bytes: Vec<u8>, shape: ImageShape, resize: Resize) -> Result<Decoded, String> {
    if bytes.is_empty() {
        return Err("the file is empty".to_string());
    }
    let format = image::guess_format(&bytes).ok();
    let Some(format) = format.filter(|format| FORMATS.contains(format)) else {
        return Err("not a JPEG, PNG, WebP or BMP file".to_string());
    };
    let (picture, orientation) = decode_whole(bytes, format)?;
    let (width, height) = (picture.width(), picture.height());
    let lost_color = shape.channels == 1 && is_colored(&picture);
    let pixels = convert(picture, shape.channels);

    let lying = matches!(
        orientation,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    );
    let wanted = if lying { (shape.height, shape.width) } else { (shape.width, shape.height) };
    let size = (width as usize, height as usize);
    let scaled = scaled_size(size, wanted, resize);
    let offset = (centered(scaled.0 - wanted.0), centered(scaled.1 - wanted.1));
    let cut = scale_and_cut(&pixels, shape.channels, size, scaled, offset, wanted);
    let image = planar(&upright(cut, wanted, shape.channels, orientation), shape.channels);
    assert_eq!(image.len(), shape.len(), "{size:?} to {shape}");
    let is_enlarged = size.0 < wanted.0 || size.1 < wanted.1;
    let upright = if lying { [height, width] } else { [width, height] };
    Ok(Decoded { pixels: image, enlarged_from: is_enlarged.then_some([width, height]), picture: upright, lost_color })
}

/// Decodes all pixels, after checking the file's header.
fn decode_whole(mut bytes: Vec<u8>, format: ImageFormat) -> Result<(DynamicImage, Orientation), String> {
    if format == ImageFormat::Jpeg {
        // The decoder would silently fill missing data with gray.
        let jpeg = Jpeg::parse(&bytes)?;
        let limit = limit(&bytes, format)?;
        let picture = jpeg.decode(&bytes, || Ok(by_image_crate(&bytes, format, limit)?.0))?;
        return Ok((picture, orientation_of(jpeg.exif())));
    }
    let limit = limit(&bytes, format)?;
    match format {
        ImageFormat::Png => png::keep_pixels(&mut bytes),
        ImageFormat::WebP if !size::webp_frames_fit(&bytes) => return Err(damaged(format)),
        _ => {}
    }
    by_image_crate(&bytes, format, limit)
}

/// Checks the size that a file states, and returns how many bytes decoding may use.
fn limit(bytes: &[u8], format: ImageFormat) -> Result<u64, String> {
    let (width, height) = size::size_of(bytes, format).ok_or("the file is cut off")?;
    size::check(width, height)
}

fn by_image_crate(bytes: &[u8], format: ImageFormat, limit: u64) -> Result<(DynamicImage, Orientation), String> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(limit);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| reason(error, format))?;
    let exif = decoder.exif_metadata().ok().flatten().unwrap_or_default();
    let picture = DynamicImage::from_decoder(decoder).map_err(|error| reason(error, format))?;
    Ok((picture, orientation_of(&exif)))
}

fn orientation_of(exif: &[u8]) -> Orientation {
    // Some writers put JPEG's own prefix into WebP files as well.
    let exif = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    Orientation::from_exif_chunk(exif).unwrap_or(Orientation::NoTransforms)
}

/// Whether an image has colors: gray images are often stored as RGB, in JPEG with small errors.
fn is_colored(picture: &DynamicImage) -> bool {
    if !picture.color().has_color() {
        return false;
    }
    let (width, height) = (picture.width(), picture.height());
    let [across, down] = [width, height].map(|side| (side / COLOR_SAMPLE + 1) as usize);
    let (mut spread, mut count) = (0_u64, 0_u64);
    for y in (0..height).step_by(down) {
        for x in (0..width).step_by(across) {
            let [red, green, blue, _] = picture.get_pixel(x, y).0;
            spread += u64::from(red.max(green).max(blue) - red.min(green).min(blue));
            count += 1;
        }
    }
    spread > COLOR_SPREAD * count
}

/// Whether images can have this many channels: gray or RGB.
pub fn is_of_images(channels: usize) -> bool {
    matches!(channels, 1 | 3)
}

/// Converts an image to 8 bits and 1 or 3 channels, in `[height, width, channels]` order.
fn convert(picture: DynamicImage, channels: usize) -> Vec<u8> {
    let color = picture.color();
    match (channels, color.has_alpha(), color.has_color()) {
        (1, false, false) => picture.into_luma8().into_raw(),
        (1, true, false) => picture.into_luma_alpha8().pixels().map(|p| on_white(p.0[0], p.0[1])).collect(),
        (3, false, _) => picture.into_rgb8().into_raw(),
        (3, true, _) => picture
            .into_rgba8()
            .pixels()
            .flat_map(|p| [on_white(p.0[0], p.0[3]), on_white(p.0[1], p.0[3]), on_white(p.0[2], p.0[3])])
            .collect(),
        (1, _, true) => convert(picture, 3).chunks_exact(3).map(|rgb| luma([rgb[0], rgb[1], rgb[2]])).collect(),
        _ => panic!("an image has 1 or 3 channels, not {channels}"),
    }
}

fn on_white(value: u8, alpha: u8) -> u8 {
    let (value, alpha) = (u32::from(value), u32::from(alpha));
    ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

/// Pillow's weights: 0.299, 0.587 and 0.114 in units of 2^-16.
fn luma([red, green, blue]: [u8; 3]) -> u8 {
    ((19_595 * u32::from(red) + 38_470 * u32::from(green) + 7_471 * u32::from(blue) + 0x8000) >> 16) as u8
}

/// The size to which the whole image is scaled before the center crop; (width, height).
fn scaled_size(size: (usize, usize), wanted: (usize, usize), resize: Resize) -> (usize, usize) {
    match resize {
        Resize::Squash => wanted,
        Resize::Crop if size.0 * wanted.1 <= size.1 * wanted.0 => (wanted.0, wanted.0 * size.1 / size.0),
        Resize::Crop => (wanted.1 * size.0 / size.1, wanted.1),
    }
}

/// Half of the surplus, rounded half to even as in Python.
fn centered(surplus: usize) -> usize {
    let half = surplus / 2;
    if surplus.is_multiple_of(2) { half } else { half + half % 2 }
}

/// Applies the EXIF orientation. Faster after scaling, and equal up to rounding.
fn upright(pixels: Vec<u8>, size: (usize, usize), channels: usize, orientation: Orientation) -> Vec<u8> {
    if orientation == Orientation::NoTransforms {
        return pixels;
    }
    let (width, height) = (size.0 as u32, size.1 as u32);
    let mut picture = match channels {
        1 => image::GrayImage::from_raw(width, height, pixels).map(DynamicImage::ImageLuma8),
        _ => RgbImage::from_raw(width, height, pixels).map(DynamicImage::ImageRgb8),
    }
    .expect("the image has this size");
    picture.apply_orientation(orientation);
    picture.into_bytes()
}

fn planar(pixels: &[u8], channels: usize) -> Vec<u8> {
    (0..channels).flat_map(|channel| pixels[channel..].iter().step_by(channels).copied()).collect()
}

/// Replaces a decoder's message, which names its own internals.
fn reason(error: ImageError, format: ImageFormat) -> String {
    match error {
        ImageError::Limits(_) => format!("the {} data needs more memory than the image's size allows", name(format)),
        ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the file is cut off".to_string()
        }
        ImageError::IoError(error) => system_errors::system_error(&error),
        ImageError::Unsupported(_) => format!("this kind of {} is not supported", name(format)),
        _ => damaged(format),
    }
}

fn damaged(format: ImageFormat) -> String {
    format!("the {} data is damaged", name(format))
}

fn name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Png => "PNG",
        ImageFormat::WebP => "WebP",
        _ => "BMP",
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use image::{GrayAlphaImage, ImageBuffer, Luma, Rgba, RgbaImage};

    use super::super::samples;
    use super::*;

    /// The bytes alone.
    fn decode(bytes: Vec<u8>, shape: ImageShape, resize: Resize) -> Result<Vec<u8>, String> {
        super::decode(bytes, shape, resize).map(|decoded| decoded.pixels)
    }

    const RED: [u8; 3] = [255, 0, 0];
    const BLUE: [u8; 3] = [0, 0, 255];

    fn shape(channels: usize, height: usize, width: usize) -> ImageShape {
        ImageShape { channels, height, width }
    }

    fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    /// Wider than tall: red on the left, blue on the right.
    fn red_left_of_blue(format: ImageFormat) -> Vec<u8> {
        let color = |x| if x < 32 { RED } else { BLUE };
        encoded(RgbImage::from_fn(64, 32, |x, _| image::Rgb(color(x))), format)
    }

    /// EXIF data with nothing but an orientation.
    fn exif(orientation: u8) -> Vec<u8> {
        // Little endian, one entry: tag 0x0112, a short, one of it.
        let head = [b'I', b'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 0x01, 3, 0, 1, 0, 0, 0];
        [&head[..], &[orientation, 0, 0, 0, 0, 0, 0, 0]].concat()
    }

    fn jpeg_with_orientation(orientation: u8) -> Vec<u8> {
        let jpeg = red_left_of_blue(ImageFormat::Jpeg);
        let exif = [b"Exif\0\0", &exif(orientation)[..]].concat();
        let length = (exif.len() as u16 + 2).to_be_bytes();
        [&jpeg[..2], &[0xFF, 0xE1], &length, &exif, &jpeg[2..]].concat()
    }

    fn webp_with_orientation(orientation: u8, prefix: &[u8]) -> Vec<u8> {
        let chunk = |name: &[u8], bytes: &[u8]| {
            let padding = vec![0; bytes.len() % 2];
            [name, &(bytes.len() as u32).to_le_bytes(), bytes, &padding].concat()
        };
        let picture = &red_left_of_blue(ImageFormat::WebP)[12..];
        let header = chunk(b"VP8X", &[0b1000, 0, 0, 0, 63, 0, 0, 31, 0, 0]);
        let exif = chunk(b"EXIF", &[prefix, &exif(orientation)].concat());
        let body = [b"WEBP", &header[..], picture, &exif].concat();
        chunk(b"RIFF", &body)
    }

    /// Decodes to 8x8 and returns the colors of the corners, clockwise from the top left.
    fn corners(bytes: Vec<u8>) -> [char; 4] {
        let image = decode(bytes, shape(3, 8, 8), Resize::Squash).unwrap();
        [(0, 0), (0, 7), (7, 7), (7, 0)].map(|(y, x)| {
            let pixel = [0, 1, 2].map(|channel| image[channel * 64 + y * 8 + x]);
            if pixel[0] > 200 && pixel[2] < 50 {
                'r'
            } else if pixel[2] > 200 && pixel[0] < 50 {
                'b'
            } else {
                '?'
            }
        })
    }

    #[test]
    fn exif_orientation_is_applied() {
        // Orientation 6: rotate clockwise by 90 degrees, so left becomes top; 8 is the other direction.
        let expected =
            [(1, "rbbr"), (2, "brrb"), (3, "brrb"), (4, "rbbr"), (5, "rrbb"), (6, "rrbb"), (7, "bbrr"), (8, "bbrr")];
        for (orientation, expected) in expected {
            let expected: Vec<char> = expected.chars().collect();
            assert_eq!(corners(jpeg_with_orientation(orientation))[..], expected, "JPEG {orientation}");
            assert_eq!(corners(webp_with_orientation(orientation, b""))[..], expected, "WebP {orientation}");
            assert_eq!(corners(webp_with_orientation(orientation, b"Exif\0\0"))[..], expected, "WebP {orientation}");
        }
    }

    #[test]
    fn orientation_swaps_the_sides_of_the_crop() {
        let image = decode(jpeg_with_orientation(6), shape(1, 16, 8), Resize::Crop).unwrap();
        // Upright it is 32 wide and 64 high, so nothing is cut off: red above blue.
        assert!(image[..8].iter().all(|p| (70..82).contains(p)) && image[120..].iter().all(|p| (24..34).contains(p)));
    }

    #[test]
    fn crop_keeps_the_center_and_squash_keeps_all() {
        let stripes = RgbImage::from_fn(90, 30, |x, _| image::Rgb(if (30..60).contains(&x) { RED } else { BLUE }));
        let bytes = encoded(stripes, ImageFormat::Png);
        let cropped = decode(bytes.clone(), shape(3, 10, 10), Resize::Crop).unwrap();
        let squashed = decode(bytes, shape(3, 9, 9), Resize::Squash).unwrap();
        assert_eq!(cropped[4 * 10 + 1..][..8], [255; 8]);
        assert_eq!((squashed[4 * 9], squashed[4 * 9 + 4], squashed[4 * 9 + 8]), (0, 255, 0));
    }

    #[test]
    fn an_image_of_the_right_size_keeps_its_bytes() {
        let picture = RgbImage::from_fn(7, 5, |x, y| image::Rgb([x as u8, 100 + y as u8, 200]));
        let image = decode(encoded(picture, ImageFormat::Bmp), shape(3, 5, 7), Resize::Crop).unwrap();
        for (place, pixel) in image.iter().enumerate() {
            let (channel, y, x) = (place / 35, place / 7 % 5, place % 7);
            assert_eq!(usize::from(*pixel), [x, 100 + y, 200][channel]);
        }
    }

    #[test]
    fn gray_alpha_and_sixteen_bits_are_converted() {
        let one = shape(1, 1, 1);
        let three = shape(3, 1, 1);
        let gray = encoded(image::GrayImage::from_pixel(3, 3, Luma([77])), ImageFormat::Png);
        assert_eq!(decode(gray, three, Resize::Crop).unwrap(), [77; 3]);
        let color = samples::picture(ImageFormat::Png, 3, 3, [10, 200, 30]);
        assert_eq!(decode(color, one, Resize::Crop).unwrap(), [124]); // 0.299 * 10 + 0.587 * 200 + 0.114 * 30
        let clear = encoded(RgbaImage::from_pixel(3, 3, Rgba([255, 0, 0, 51])), ImageFormat::Png);
        assert_eq!(decode(clear, three, Resize::Crop).unwrap(), [255, 204, 204]);
        let clear = encoded(GrayAlphaImage::from_pixel(3, 3, image::LumaA([0, 0])), ImageFormat::Png);
        assert_eq!(decode(clear, one, Resize::Crop).unwrap(), [255]);
        let deep: ImageBuffer<Luma<u16>, Vec<u16>> = ImageBuffer::from_pixel(3, 3, Luma([0x1234]));
        assert_eq!(decode(encoded(deep, ImageFormat::Png), one, Resize::Crop).unwrap(), [0x12]);
    }

    #[test]
    fn palettes_are_looked_up() {
        let chunk = |name: &[u8], bytes: &[u8]| {
            let mut crc = flate2::Crc::new();
            crc.update(name);
            crc.update(bytes);
            [&(bytes.len() as u32).to_be_bytes(), name, bytes, &crc.sum().to_be_bytes()].concat()
        };
        let mut rows = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        rows.write_all(&[0, 2]).unwrap(); // one row, no filter, color 2
        let png = [
            b"\x89PNG\r\n\x1a\n".to_vec(),
            chunk(b"IHDR", &[0, 0, 0, 1, 0, 0, 0, 1, 8, 3, 0, 0, 0]),
            chunk(b"PLTE", &[1, 2, 3, 4, 5, 6, 70, 80, 90]),
            chunk(b"IDAT", &rows.finish().unwrap()),
            chunk(b"IEND", &[]),
        ];
        assert_eq!(decode(png.concat(), shape(3, 1, 1), Resize::Crop).unwrap(), [70, 80, 90]);
    }

    #[test]
    fn errors_of_invalid_files_name_the_reason() {
        let reason = |bytes: &[u8]| decode(bytes.to_vec(), shape(3, 8, 8), Resize::Crop).unwrap_err();
        let jpeg = red_left_of_blue(ImageFormat::Jpeg);
        assert_eq!(reason(&[]), "the file is empty");
        assert_eq!(reason(b"<html>not found</html>"), "not a JPEG, PNG, WebP or BMP file");
        assert_eq!(reason(b"GIF89a"), "not a JPEG, PNG, WebP or BMP file");
        for cut in [3, 100, jpeg.len() / 2, jpeg.len() - 1] {
            assert_eq!(reason(&jpeg[..cut]), "the file is cut off", "after {cut} bytes");
        }
        for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp] {
            let whole = samples::picture(format, 64, 64, RED);
            assert!(!reason(&whole[..whole.len() - 30]).is_empty(), "{format:?}");
        }
    }

    #[test]
    fn absurd_sizes_are_refused_before_decoding() {
        let mut bmp = samples::picture(ImageFormat::Bmp, 3, 3, RED);
        bmp[18..22].copy_from_slice(&40_000i32.to_le_bytes());
        bmp[22..26].copy_from_slice(&40_000i32.to_le_bytes());
        let reason = decode(bmp, shape(3, 8, 8), Resize::Crop).unwrap_err();
        assert_eq!(reason, "40000x40000 is more than 134217728 pixels");
    }

    #[test]
    fn an_image_enlarged_along_any_axis_returns_its_size() {
        let from = |width, height| {
            let bytes = samples::picture(ImageFormat::Png, width, height, RED);
            super::decode(bytes, shape(3, 16, 16), Resize::Crop).unwrap().enlarged_from
        };
        assert_eq!([from(16, 16), from(97, 16)], [None, None]);
        assert_eq!([from(15, 97), from(97, 13)], [Some([15, 97]), Some([97, 13])]);
    }
}
