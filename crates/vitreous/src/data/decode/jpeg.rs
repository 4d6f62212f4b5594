//! The header of a JPEG file, which of two decoders reads the file, and which files neither can read.
//!
//! - zune-jpeg, which comes with the `image` crate, decodes almost every file. It decodes some valid files to wrong
//!   pixels without an error (0.5.15): sequential files in several scans or with a segment between the scan and the
//!   end, files whose color is sampled more finely along a row than the first channel, some combinations of other
//!   sampling factors than 1 and 2, and files whose markers contradict each other about the color space.
//!   jpeg-decoder decodes those.
//! - Some of these zune-jpeg decodes correctly, depending on the last bytes of a scan. Such a file keeps zune-jpeg's
//!   pixels if jpeg-decoder decodes the same image.
//! - Which color space a file has is decided as libjpeg decides it.

use std::io::Cursor;

use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};
use jpeg_decoder::{ColorTransform, Decoder, PixelFormat};

const START_OF_SCAN: u8 = 0xDA;
const END: u8 = 0xD9;
const EXIF: &[u8] = b"Exif\0\0";

/// Largest difference between two decoders' values of the same image. For noise they differ by up to 4, since they
/// round differently, and somewhat more at an edge beyond which zune-jpeg looks for color.
const SAME_PICTURE: u8 = 10;

/// Contents of the segments of a JPEG file.
pub struct Jpeg<'a> {
    frame: Frame,
    scans: usize,
    /// Whether no segment is between the last scan and the end.
    ends_with_a_scan: bool,
    is_jfif: bool,
    /// The color transform of Adobe's segment.
    adobe: Option<u8>,
    exif: &'a [u8],
}

/// The frame header.
struct Frame {
    /// Number of the marker: 0 and 1 sequential, 2 progressive, the others are not decoded.
    kind: u8,
    bits: u8,
    height: u16,
    channels: Vec<Channel>,
}

struct Channel {
    id: u8,
    across: u8,
    down: u8,
}

/// Which decoder reads a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    First,
    /// The first if the second agrees, otherwise the second.
    FirstIfConfirmed,
    Second,
}

impl<'a> Jpeg<'a> {
    /// Follows the file's segments up to its end mark.
    ///
    /// # Errors
    /// When the file ends before its end mark, has no frame, or has one that is not decoded.
    pub fn parse(bytes: &'a [u8]) -> Result<Jpeg<'a>, String> {
        let (mut frame, mut scans, mut ends_with_a_scan) = (None, 0, false);
        let (mut is_jfif, mut adobe, mut exif) = (false, None, &[][..]);
        let mut rest = bytes.get(2..).unwrap_or_default(); // after the start mark
        loop {
            // In compressed data FF00 is a byte FF, and FFD0 to FFD7 only divide it.
            let is_marker = |pair: &[u8]| pair[0] == 0xFF && !matches!(pair[1], 0x00 | 0x01 | 0xD0..=0xD7 | 0xFF);
            let cut_off = || "the file is cut off".to_string();
            let marker = rest.windows(2).position(is_marker).ok_or_else(cut_off)?;
            let kind = rest[marker + 1];
            rest = &rest[marker + 2..];
            if kind == END {
                break;
            }
            // Every other segment begins with its length; a scan's data follows, without markers in it.
            let length = usize::from(rest.first_chunk().copied().map(u16::from_be_bytes).ok_or_else(cut_off)?).max(2);
            let (segment, after) = rest.split_at_checked(length).ok_or_else(cut_off)?;
            let segment = &segment[2..];
            match kind {
                0xC0..=0xCF if !matches!(kind, 0xC4 | 0xC8 | 0xCC) && frame.is_none() => {
                    frame = Some(Frame::parse(kind - 0xC0, segment).ok_or("the JPEG frame header is damaged")?);
                }
                0xE0 if scans == 0 && segment.len() >= 12 => is_jfif |= segment.starts_with(b"JFIF\0"),
                0xE1 if scans == 0 && segment.starts_with(EXIF) => exif = segment,
                0xEE if scans == 0 && segment.len() >= 12 && segment.starts_with(b"Adobe") => {
                    adobe = Some(segment[11]);
                }
                START_OF_SCAN => scans += 1,
                _ => {}
            }
            ends_with_a_scan = kind == START_OF_SCAN;
            rest = after;
        }
        let frame = frame.ok_or("the JPEG has no frame header")?;
        frame.check()?;
        Ok(Jpeg { frame, scans, ends_with_a_scan, is_jfif, adobe, exif })
    }

    /// The EXIF data; empty without any.
    pub fn exif(&self) -> &[u8] {
        self.exif
    }

    /// Decodes the file; `first` does so with the `image` crate.
    ///
    /// # Errors
    /// When the file is damaged, or combines sampling factors in a way that none of the decoders can read.
    pub fn decode(
        &self,
        bytes: &[u8],
        first: impl FnOnce() -> Result<DynamicImage, String>,
    ) -> Result<DynamicImage, String> {
        match self.reader() {
            Reader::First => first(),
            Reader::Second => self.second(bytes),
            Reader::FirstIfConfirmed => {
                let second = self.second(bytes)?;
                let confirmed = first().ok().filter(|first| is_same_image(first, &second));
                Ok(confirmed.unwrap_or(second))
            }
        }
    }

    fn reader(&self) -> Reader {
        let [first, others @ ..] = &self.frame.channels[..] else { panic!("a frame has channels") };
        let is_rgb_to_first = self.adobe == Some(0) || self.has_rgb_ids();
        if others.iter().any(|channel| channel.across > first.across)
            || self.frame.channels.iter().any(|channel| channel.across == 3)
            || self.frame.channels.len() == 3 && is_rgb_to_first != (self.colors() == ColorTransform::RGB)
        {
            return Reader::Second;
        }
        let is_small = |channel: &Channel| channel.across <= 2 && channel.down <= 2;
        let is_usual = self.frame.channels.iter().all(is_small)
            || others.iter().all(|channel| channel.across == others[0].across && channel.down == 1);
        let is_one_piece = self.frame.is_progressive() || self.scans == 1 && self.ends_with_a_scan;
        if is_usual && is_one_piece { Reader::First } else { Reader::FirstIfConfirmed }
    }

    /// The color space, as libjpeg guesses it.
    fn colors(&self) -> ColorTransform {
        match (self.frame.channels.len(), self.adobe) {
            (1, _) => ColorTransform::Grayscale,
            (4, None | Some(0)) => ColorTransform::CMYK,
            (4, _) => ColorTransform::YCCK,
            _ if self.is_jfif => ColorTransform::YCbCr,
            (_, Some(0)) => ColorTransform::RGB,
            (_, None) if self.has_rgb_ids() => ColorTransform::RGB,
            _ => ColorTransform::YCbCr,
        }
    }

    fn has_rgb_ids(&self) -> bool {
        self.frame.channels.iter().map(|channel| channel.id).eq(*b"RGB")
    }

    fn second(&self, bytes: &[u8]) -> Result<DynamicImage, String> {
        if let Some(factors) = self.misread_by_second() {
            return Err(format!("JPEG with the sampling factors {factors} is not supported"));
        }
        let mut decoder = Decoder::new(Cursor::new(bytes));
        decoder.set_color_transform(self.colors());
        let pixels = decoder.decode().map_err(|_| super::damaged(ImageFormat::Jpeg))?;
        let info = decoder.info().expect("a decoded file has a frame");
        let (width, height) = (u32::from(info.width), u32::from(info.height));
        let picture = match info.pixel_format {
            PixelFormat::L8 => GrayImage::from_raw(width, height, pixels).map(DynamicImage::ImageLuma8),
            PixelFormat::CMYK32 => RgbImage::from_raw(width, height, rgb_of_cmyk(pixels)).map(DynamicImage::ImageRgb8),
            PixelFormat::RGB24 | PixelFormat::L16 => {
                RgbImage::from_raw(width, height, pixels).map(DynamicImage::ImageRgb8)
            }
        };
        picture.ok_or_else(|| super::damaged(ImageFormat::Jpeg))
    }

    /// The sampling factors, if the second decoder cannot read them. In scans of one channel it takes a channel's rows
    /// to be longer than they are, unless the channel has factor 1 or the largest.
    fn misread_by_second(&self) -> Option<String> {
        let is_one_scan = self.scans == 1 && !self.frame.is_progressive();
        let channels = &self.frame.channels;
        let is_misread = |of: fn(&Channel) -> u8| {
            let max = channels.iter().map(of).max().expect("a frame has channels");
            channels.iter().map(of).any(|factor| max % factor != 0 || !is_one_scan && factor != 1 && factor != max)
        };
        let factors = || channels.iter().map(|channel| format!("{}x{}", channel.across, channel.down));
        (is_misread(|channel| channel.across) || is_misread(|channel| channel.down))
            .then(|| factors().collect::<Vec<_>>().join(", "))
    }
}

impl Frame {
    fn parse(kind: u8, segment: &[u8]) -> Option<Frame> {
        let (&[bits, high, low, _, _, count], channels) = segment.split_first_chunk()?;
        let channels: Vec<Channel> = channels
            .chunks_exact(3)
            .take(usize::from(count))
            .map(|channel| Channel { id: channel[0], across: channel[1] >> 4, down: channel[1] & 15 })
            .collect();
        let is_good = channels.len() == usize::from(count)
            && count > 0
            && channels.iter().all(|channel| (1..=4).contains(&channel.across) && (1..=4).contains(&channel.down));
        is_good.then(|| Frame { kind, bits, height: u16::from_be_bytes([high, low]), channels })
    }

    fn is_progressive(&self) -> bool {
        self.kind == 2
    }

    /// Describes a file that no decoder here can read.
    fn check(&self) -> Result<(), String> {
        match self.kind {
            9..=11 | 13..=15 => return Err("arithmetic-coded JPEG is not supported".to_string()),
            3 => return Err("lossless JPEG is not supported".to_string()),
            5..=7 => return Err("hierarchical JPEG is not supported".to_string()),
            _ => {}
        }
        if self.bits != 8 {
            return Err(format!("JPEG with {} bits per channel is not supported (8 are)", self.bits));
        }
        if self.height == 0 {
            return Err("JPEG that states its height after its data is not supported".to_string());
        }
        match self.channels.len() {
            1 | 3 | 4 => Ok(()),
            count => Err(format!("JPEG with {count} channels is not supported (1, 3 and 4 are)")),
        }
    }
}

/// Converts as Pillow does. The decoder has inverted the values, which files hold inverted.
fn rgb_of_cmyk(mut pixels: Vec<u8>) -> Vec<u8> {
    for pixel in 0..pixels.len() / 4 {
        let [cyan, magenta, yellow, black] = [0, 1, 2, 3].map(|i| 255 - u32::from(pixels[4 * pixel + i]));
        for (channel, ink) in [cyan, magenta, yellow].into_iter().enumerate() {
            pixels[3 * pixel + channel] = ((ink * black + 127) / 255) as u8;
        }
    }
    pixels.truncate(pixels.len() / 4 * 3);
    pixels
}

fn is_same_image(first: &DynamicImage, second: &DynamicImage) -> bool {
    let (a, b) = (first.as_bytes(), second.as_bytes());
    first.color() == second.color()
        && a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| a.abs_diff(*b) <= SAME_PICTURE)
}
