//! Width and height of an image from the first bytes of its file, and the memory to decode it, without decoding it.

use std::cmp::Reverse;
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek};
use std::path::Path;

use image::ImageFormat;

use super::FILE_BYTES_MAX;
use crate::regular;

/// Maximum size of an image, in pixels (all of it is in memory while it is scaled).
const PIXELS_MAX: u64 = 1 << 27;
/// Maximum side of an image, in pixels: the maximum of JPEG and BMP. It bounds the memory for a row.
const SIDE_MAX: u32 = 65_535;
/// Maximum bytes per pixel: the decoded pixels, the decoder's own data, and a converted copy.
const PIXEL_BYTES_MAX: u64 = 16;

/// Contents of the first bytes of an image file.
struct Header {
    width: u32,
    height: u32,
    /// Bytes per pixel at the peak of decoding.
    pixel_bytes: u64,
}

/// Returns width and height as stated in the file, if they are.
pub fn size_of(bytes: &[u8], format: ImageFormat) -> Option<(u32, u32)> {
    read_header(Cursor::new(bytes), format).map(|header| (header.width, header.height))
}

/// Returns the memory, in bytes, for decoding image files on `threads` threads: the sum over the largest files. Only
/// headers are read.
pub fn decoding_bytes(paths: impl IntoIterator<Item = impl AsRef<Path>>, threads: usize) -> u64 {
    let mut held: Vec<u64> = paths.into_iter().filter_map(|path| held_bytes(path.as_ref())).collect();
    held.sort_unstable_by_key(|bytes| Reverse(*bytes));
    held.iter().take(threads).sum()
}

fn held_bytes(path: &Path) -> Option<u64> {
    let mut file = regular::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    // A larger file is rejected by its length; searching it for a header could take very long.
    if length > FILE_BYTES_MAX {
        return None;
    }
    let decoded = decoded_bytes(&mut file);
    // The file itself, even if it is invalid, and the decoder's copy.
    Some(decoded.map_or(length, |bytes| 2 * length + bytes))
}

/// Memory for the pixels of an image file while it is decoded, in bytes.
fn decoded_bytes(file: &mut File) -> Option<u64> {
    let start: [u8; 16] = take(file)?;
    file.rewind().ok()?;
    let header = read_header(BufReader::new(file), image::guess_format(&start).ok()?)?;
    let Header { width, height, pixel_bytes } = header;
    check(width, height).ok()?;
    Some(pixel_bytes * padded_pixels(width, height))
}

/// Pixels of an image, including blocks that extend beyond its edges: up to 32 pixels per side in JPEG.
fn padded_pixels(width: u32, height: u32) -> u64 {
    (u64::from(width) + 32) * (u64::from(height) + 32)
}

/// Checks an image's size, and returns the maximum memory of any decoder for it, without its file.
///
/// # Errors
/// When it is too large or has no pixels.
pub fn check(width: u32, height: u32) -> Result<u64, String> {
    if u64::from(width) * u64::from(height) > PIXELS_MAX {
        return Err(format!("{width}x{height} is more than {PIXELS_MAX} pixels"));
    }
    if width.max(height) > SIDE_MAX {
        return Err(format!("{width}x{height} has a side of more than {SIDE_MAX} pixels"));
    }
    if width == 0 || height == 0 {
        return Err(format!("{width}x{height} has no pixels"));
    }
    Ok(PIXEL_BYTES_MAX * padded_pixels(width, height))
}

fn read_header(mut file: impl Read + Seek, format: ImageFormat) -> Option<Header> {
    // The color image, and a gray copy.
    let opaque = 4;
    let ((width, height), pixel_bytes) = match format {
        ImageFormat::Jpeg => {
            let (size, is_one_scan) = jpeg(file)?;
            // All coefficients or planes are kept until the last scan.
            (size, if is_one_scan { opaque } else { 12 })
        }
        ImageFormat::Png => {
            let [.., a, b, c, d, e, f, g, h, depth, kind]: [u8; 26] = take(&mut file)?;
            file.seek_relative(7).ok()?;
            let channels = match (kind, png_has_transparent_color(file)) {
                (0, false) => 1,
                (2, false) => 3,
                (0, true) | (4, _) => 2,
                _ => 4,
            };
            // Alpha and 16 bits are converted in a copy.
            let is_opaque = matches!(channels, 1 | 3);
            let pixel_bytes =
                if depth <= 8 && is_opaque { opaque } else { channels * u64::from(depth).div_ceil(8) + 5 };
            ((u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])), pixel_bytes)
        }
        ImageFormat::Bmp => {
            let [header, width, height]: [[u8; 4]; 3] = {
                let head: [u8; 26] = take(&mut file)?;
                [14, 18, 22].map(|place| [0, 1, 2, 3].map(|i| head[place + i]))
            };
            let size = if u32::from_le_bytes(header) == 12 {
                // Two bytes each.
                (little(&width[..2]), little(&width[2..]))
            } else {
                // A negative height means that rows start at the top.
                (little(&width), i32::from_le_bytes(height).unsigned_abs())
            };
            (size, 8)
        }
        ImageFormat::WebP => (webp(&take::<30>(&mut file)?[12..])?, 9),
        _ => return None,
    };
    Some(Header { width, height, pixel_bytes })
}

/// Whether a PNG file, read up to the end of its header, states a transparent color before its pixels.
fn png_has_transparent_color(mut file: impl Read + Seek) -> bool {
    while let Some([a, b, c, d, name @ ..]) = take::<8>(&mut file) {
        match &name {
            b"tRNS" => return true,
            b"IDAT" => return false,
            _ => {}
        }
        // What is in the chunk, and its checksum.
        if file.seek_relative(i64::from(u32::from_be_bytes([a, b, c, d])) + 4).is_err() {
            break;
        }
    }
    false
}

/// Whether no decoded frame of a WebP file is larger than the image: the decoder does not check this.
pub fn webp_frames_fit(bytes: &[u8]) -> bool {
    let Some((width, height)) = size_of(bytes, ImageFormat::WebP) else { return false };
    let mut rest = bytes.get(12..).unwrap_or_default();
    while let Some(head) = rest.get(..8) {
        // A frame of an animation starts with a header.
        let is_frame = head.starts_with(b"ANMF");
        let is_pixels = head.starts_with(b"VP8 ") || head.starts_with(b"VP8L");
        if is_pixels && webp(rest).is_none_or(|size| size.0 > width || size.1 > height) {
            return false;
        }
        // A chunk of odd length is padded by a byte.
        let length = if is_frame { 16 } else { u64::from(little(&head[4..])).next_multiple_of(2) };
        rest = usize::try_from(8 + length).ok().and_then(|end| rest.get(end..)).unwrap_or_default();
    }
    true
}

/// Reads the size at the beginning of a WebP chunk.
fn webp(chunk: &[u8]) -> Option<(u32, u32)> {
    let head: &[u8; 18] = chunk.first_chunk()?;
    match &head[..4] {
        b"VP8X" => Some((little(&head[12..15]) + 1, little(&head[15..]) + 1)),
        b"VP8L" => {
            let bits = little(&head[9..13]);
            Some(((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1))
        }
        b"VP8 " => Some((little(&head[14..16]) & 0x3FFF, little(&head[16..]) & 0x3FFF)),
        _ => None,
    }
}

/// Reads the segments up to the first scan. Returns width and height, and whether that scan contains the whole image.
fn jpeg(mut file: impl Read + Seek) -> Option<((u32, u32), bool)> {
    let [_, _] = take(&mut file)?;
    let mut frame = None;
    loop {
        // Any number of bytes FF may come before a marker.
        let mut previous = 0;
        let marker = loop {
            let [byte] = take(&mut file)?;
            if previous == 0xFF && !matches!(byte, 0x00 | 0x01 | 0xD0..=0xD7 | 0xFF) {
                break byte;
            }
            previous = byte;
        };
        let length = i64::from(u16::from_be_bytes(take(&mut file)?));
        let mut read = 2;
        if matches!(marker, 0xC0..=0xCF) && !matches!(marker, 0xC4 | 0xC8 | 0xCC) && frame.is_none() {
            let [_, a, b, c, d, channels] = take(&mut file)?;
            let size = [[c, d], [a, b]].map(|side| u32::from(u16::from_be_bytes(side)));
            frame = Some((size.into(), channels, marker == 0xC2));
            read += 6;
        }
        if marker == 0xDA {
            let [in_scan] = take(&mut file)?;
            return frame.map(|(size, channels, is_progressive)| (size, in_scan == channels && !is_progressive));
        }
        file.seek_relative((length - read).max(0)).ok()?;
    }
}

fn take<const N: usize>(file: &mut impl Read) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

/// Up to four bytes, little endian.
fn little(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_an_image_counts_by_its_length_and_a_large_one_is_not_searched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jpg");
        // A JPEG's start mark, and no other mark in a terabyte of zeros.
        let with_length = |length: u64| {
            std::fs::write(&path, b"\xFF\xD8\xFF\xE0\x00\x04").unwrap();
            File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
            decoding_bytes([&path], 3)
        };
        assert_eq!([with_length(70_001), with_length(1 << 40)], [70_001, 0]);
    }

    #[test]
    fn a_webp_chunk_may_state_any_length() {
        let size = [12, 0, 0, 6, 0, 0];
        let head = [b"RIFF\x64\0\0\0WEBPVP8X\x0A\0\0\0\0\0\0\0".as_slice(), &size].concat();
        assert_eq!(size_of(&head, ImageFormat::WebP), Some((13, 7)));
        for length in [u32::MAX, u32::MAX - 1, 0] {
            let file = [&head[..], b"TEXT", &length.to_le_bytes(), b"more"].concat();
            assert!(webp_frames_fit(&file), "{length}");
        }
    }
}
