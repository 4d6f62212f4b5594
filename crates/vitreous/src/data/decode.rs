//! Turns one picture file into the bytes of one image: decoded, converted, scaled, upright, planar.
//!
//! - The format is told by content, not by the file's ending. Of an animation the first frame counts.
//! - 16 bits become 8 by rounding. Transparent parts show white. Gray from colour is ITU-R 601 luma, as in JPEG itself
//!   and in Pillow's mode `L`.
//! - Scaling is that of torchvision on Pillow images, to the byte (`resample.rs`). Colour profiles are ignored.
//! - The orientation in EXIF data is obeyed, whatever the format.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};

use super::resample::scale_and_cut;
use super::{DataError, ImageShape};
use crate::config::data::Resize;

/// Largest picture that is decoded, in pixels (all of it is in memory while it is scaled).
const PIXELS_MAX: u64 = 1 << 27;
/// Largest picture file that is read.
const FILE_BYTES_MAX: u64 = 1 << 29;

/// Decodes a picture file into an image of the given shape.
///
/// # Shapes
/// - the bytes returned: `[channels, height, width]`
///
/// # Errors
/// When the file cannot be read, is cut off or broken, is no JPEG, PNG, WebP or BMP, or is larger than 134 megapixels.
pub fn decode_picture(path: &Path, shape: ImageShape, resize: Resize) -> Result<Vec<u8>, DataError> {
    let bytes = read(path).map_err(|error| DataError::read(path, &error))?;
    decode(bytes, shape, resize).map_err(|reason| DataError::Picture { path: path.to_path_buf(), reason })
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte over the limit tells `decode` that there is more.
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn decode(bytes: Vec<u8>, shape: ImageShape, resize: Resize) -> Result<Vec<u8>, String> {
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("the file is larger than {FILE_BYTES_MAX} bytes"));
    }
    if bytes.is_empty() {
        return Err("the file is empty".to_string());
    }
    let format = image::guess_format(&bytes).ok();
    let Some(format) = format.filter(ImageFormat::reading_enabled) else {
        return Err("it is no JPEG, PNG, WebP or BMP picture".to_string());
    };
    // The decoder fills what is missing with gray and says nothing.
    if format == ImageFormat::Jpeg && !jpeg_is_whole(&bytes) {
        return Err("the file is cut off".to_string());
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(8 * PIXELS_MAX); // No pixel has more than 8 bytes.
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(reason)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > PIXELS_MAX {
        return Err(format!("{width}x{height} is more than {PIXELS_MAX} pixels"));
    }
    if width == 0 || height == 0 {
        return Err(format!("{width}x{height} has no pixels"));
    }
    let orientation = orientation(&mut decoder);
    let pixels = convert(DynamicImage::from_decoder(decoder).map_err(reason)?, shape.channels);

    let lying = matches!(
        orientation,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    );
    let wanted = if lying { (shape.height, shape.width) } else { (shape.width, shape.height) };
    let size = (width as usize, height as usize);
    let scaled = scaled_size(size, wanted, resize);
    let offset = (centred(scaled.0 - wanted.0), centred(scaled.1 - wanted.1));
    let cut = scale_and_cut(&pixels, shape.channels, size, scaled, offset, wanted);
    Ok(planar(&upright(cut, wanted, shape.channels, orientation), shape.channels))
}

/// Follows the file's parts up to its end mark.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    const END: u8 = 0xD9;
    let mut at = 2; // after the start mark
    loop {
        // In compressed data FF00 is a byte FF, and FFD0 to FFD7 only part it.
        let Some(mark) = bytes.get(at..).and_then(|rest| {
            rest.windows(2).position(|pair| pair[0] == 0xFF && !matches!(pair[1], 0x00 | 0x01 | 0xD0..=0xD7 | 0xFF))
        }) else {
            return false;
        };
        at += mark;
        if bytes[at + 1] == END {
            return true;
        }
        // Every other part begins with its length; a scan's data follows, without marks in it.
        let Some(length) = bytes.get(at + 2..at + 4) else { return false };
        at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
    }
}

fn orientation(decoder: &mut impl ImageDecoder) -> Orientation {
    let exif = decoder.exif_metadata().ok().flatten();
    exif.and_then(|exif| {
        // Some writers put JPEG's own prefix into WebP files as well.
        Orientation::from_exif_chunk(exif.strip_prefix(b"Exif\0\0").unwrap_or(&exif))
    })
    .unwrap_or(Orientation::NoTransforms)
}

/// Brings a picture to 8 bits and to 1 or 3 channels, in `[height, width, channels]` order.
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

/// The size to which the whole picture is scaled before the centre is cut out; (width, height).
fn scaled_size(size: (usize, usize), wanted: (usize, usize), resize: Resize) -> (usize, usize) {
    match resize {
        Resize::Squash => wanted,
        Resize::Crop if size.0 * wanted.1 <= size.1 * wanted.0 => (wanted.0, wanted.0 * size.1 / size.0),
        Resize::Crop => (wanted.1 * size.0 / size.1, wanted.1),
    }
}

/// Half of what is too much, halves to the even neighbour, as Python rounds.
fn centred(surplus: usize) -> usize {
    let half = surplus / 2;
    if surplus.is_multiple_of(2) { half } else { half + half % 2 }
}

/// Turns the picture as its EXIF data says. Cheaper after scaling, and the same up to rounding.
fn upright(pixels: Vec<u8>, size: (usize, usize), channels: usize, orientation: Orientation) -> Vec<u8> {
    if orientation == Orientation::NoTransforms {
        return pixels;
    }
    let (width, height) = (size.0 as u32, size.1 as u32);
    let mut picture = match channels {
        1 => image::GrayImage::from_raw(width, height, pixels).map(DynamicImage::ImageLuma8),
        _ => RgbImage::from_raw(width, height, pixels).map(DynamicImage::ImageRgb8),
    }
    .expect("the picture was cut to this size");
    picture.apply_orientation(orientation);
    picture.into_bytes()
}

fn planar(pixels: &[u8], channels: usize) -> Vec<u8> {
    (0..channels).flat_map(|channel| pixels[channel..].iter().step_by(channels).copied()).collect()
}

fn reason(error: ImageError) -> String {
    match error {
        ImageError::Limits(_) => format!("it needs more than {} bytes to decode", 8 * PIXELS_MAX),
        ImageError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the file is cut off".to_string()
        }
        ImageError::Decoding(error) => std::error::Error::source(&error).map_or(error.to_string(), ToString::to_string),
        error => error.to_string(),
    }
}
