//! Width and height of a picture from the first bytes of its file, without decoding it.

use std::io::{BufReader, Cursor, Read, Seek};
use std::path::Path;

use image::ImageFormat;

use crate::regular;

/// Returns width and height as the file states them; absent where it states none.
pub fn size_of(bytes: &[u8], format: ImageFormat) -> Option<(u32, u32)> {
    read_size(Cursor::new(bytes), format)
}

/// Returns width and height of a picture file, of which only headers are read.
#[allow(dead_code)]
pub fn size_of_file(path: &Path) -> Option<(u32, u32)> {
    let mut file = BufReader::new(regular::open(path).ok()?);
    let start: [u8; 16] = take(&mut file)?;
    file.rewind().ok()?;
    read_size(file, image::guess_format(&start).ok()?)
}

fn read_size(mut file: impl Read + Seek, format: ImageFormat) -> Option<(u32, u32)> {
    match format {
        ImageFormat::Jpeg => jpeg(file),
        ImageFormat::Png => {
            let [.., a, b, c, d, e, f, g, h]: [u8; 24] = take(&mut file)?;
            Some((u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])))
        }
        ImageFormat::Bmp => {
            let [header, width, height]: [[u8; 4]; 3] = {
                let head: [u8; 26] = take(&mut file)?;
                [14, 18, 22].map(|place| [0, 1, 2, 3].map(|i| head[place + i]))
            };
            if u32::from_le_bytes(header) == 12 {
                // Two bytes each.
                return Some((little(&width[..2]), little(&width[2..])));
            }
            // A negative height says that the rows begin at the top.
            Some((little(&width), i32::from_le_bytes(height).unsigned_abs()))
        }
        ImageFormat::WebP => webp(&take::<30>(&mut file)?[12..]),
        _ => None,
    }
}

/// Whether the frames that are decoded of a WebP file are no larger than the file's size: the decoder believes them.
pub fn webp_frames_fit(bytes: &[u8]) -> bool {
    let Some((width, height)) = size_of(bytes, ImageFormat::WebP) else { return false };
    let mut rest = bytes.get(12..).unwrap_or_default();
    while let Some(head) = rest.get(..8) {
        // A frame of an animation has a header of its own before its chunks.
        let is_frame = head.starts_with(b"ANMF");
        let is_pixels = head.starts_with(b"VP8 ") || head.starts_with(b"VP8L");
        if is_pixels && webp(rest).is_none_or(|size| size.0 > width || size.1 > height) {
            return false;
        }
        let length = if is_frame { 16 } else { little(&head[4..]).next_multiple_of(2) as usize };
        rest = rest.get(8 + length..).unwrap_or_default();
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

/// Goes from segment to segment up to the frame header.
fn jpeg(mut file: impl Read + Seek) -> Option<(u32, u32)> {
    let [_, _] = take(&mut file)?;
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
        if matches!(marker, 0xC0..=0xCF) && !matches!(marker, 0xC4 | 0xC8 | 0xCC) {
            let [_, _, _, a, b, c, d] = take(&mut file)?;
            return Some((u16::from_be_bytes([c, d]).into(), u16::from_be_bytes([a, b]).into()));
        }
        let length = u16::from_be_bytes(take(&mut file)?);
        file.seek_relative(i64::from(length) - 2).ok()?;
    }
}

fn take<const N: usize>(file: &mut impl Read) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

/// Up to four bytes, the least first.
fn little(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}
