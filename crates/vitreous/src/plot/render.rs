//! From a figure to a file: SVG as it is, PNG and PDF drawn from it with the fonts inside the program.
//!
//! Where a text has characters that these fonts lack, those of the system are read too; what no font has is drawn as an
//! empty box, never left out.

use std::fmt;
use std::io::Write;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use png::{BitDepth, ColorType, Compression, Encoder, Filter, Writer};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::fontdb::{Database, FaceInfo, ID, Source, Stretch, Style};
use resvg::usvg::{FontResolver, ImageHrefResolver, Options, Tree};

use super::font;
use super::svg::Figure;

/// Pixels of a PNG file for a pixel of the figure: sharp on screens and in print.
const PNG_SCALE: f32 = 2.0;

/// Rows of pixels that are drawn and compressed at a time, so that a figure of any size takes little memory.
const STRIP: u32 = 64;

/// Most pixels of a PNG file.
const PIXELS_MAX: u64 = 1 << 26;

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// Text, sharp at any size, for web pages.
    Svg,
    /// Pixels, for documents and messages.
    Png,
    /// For LaTeX.
    Pdf,
}

/// A PNG file.
#[derive(Clone, Debug, PartialEq)]
pub struct Png {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// The file.
    pub bytes: Vec<u8>,
}

impl Format {
    /// The ending of its files.
    pub fn ending(self) -> &'static str {
        match self {
            Format::Svg => "svg",
            Format::Png => "png",
            Format::Pdf => "pdf",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.ending())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Format, String> {
        let all = [Format::Svg, Format::Png, Format::Pdf];
        all.into_iter().find(|format| format.ending() == text).ok_or_else(|| "use svg, png or pdf".to_string())
    }
}

impl Figure {
    /// The bytes of a file of this kind.
    ///
    /// # Errors
    /// When the figure is too large to be drawn; the text is the reason.
    pub fn file(&self, format: Format) -> Result<Vec<u8>, String> {
        match format {
            Format::Svg => Ok(self.svg().as_bytes().to_vec()),
            Format::Png => self.png(PNG_SCALE).map(|png| png.bytes),
            Format::Pdf => self.pdf(),
        }
    }

    /// The figure as a PNG file with so many pixels for each of its own.
    ///
    /// # Errors
    /// As [`Figure::file`].
    pub fn png(&self, scale: f32) -> Result<Png, String> {
        let tree = self.tree()?;
        let [width, height] = [tree.size().width(), tree.size().height()].map(|side| (side * scale).round() as u32);
        let too_many = || format!("{width}x{height} pixels are too many");
        if u64::from(width) * u64::from(height) > PIXELS_MAX {
            return Err(too_many());
        }
        let mut strip = Pixmap::new(width, STRIP.min(height)).ok_or_else(too_many)?;
        let mut file = Vec::new();
        let mut writer = writer(&mut file, [width, height], true);
        let mut rows = writer.stream_writer_with_size(1 << 16).expect(MEMORY);
        let mut rgb = vec![0; 3 * width as usize];
        for top in (0..height).step_by(STRIP as usize) {
            let place = Transform::from_scale(scale, scale).post_translate(0.0, -(top as f32));
            // The page is opaque, so it covers the strip before, and nothing shines through.
            resvg::render(&tree, place, &mut strip.as_mut());
            for row in strip.data().chunks_exact(4 * width as usize).take((height - top) as usize) {
                let pixels = rgb.chunks_exact_mut(3).zip(row.chunks_exact(4));
                pixels.for_each(|(rgb, pixel)| rgb.copy_from_slice(&pixel[..3]));
                rows.write_all(&rgb).expect(MEMORY);
            }
        }
        rows.finish().expect(MEMORY);
        writer.finish().expect(MEMORY);
        Ok(Png { width, height, bytes: file })
    }

    fn pdf(&self) -> Result<Vec<u8>, String> {
        svg2pdf::to_pdf(&self.tree()?, svg2pdf::ConversionOptions::default(), svg2pdf::PageOptions::default())
            .map_err(|error| error.to_string())
    }

    fn tree(&self) -> Result<Tree, String> {
        let fontdb = if font::has_all(self.svg()) { own_fonts() } else { all_fonts() };
        let select_fallback = Box::new(|c: char, _: &[ID], fonts: &mut Arc<Database>| font_with(c, fonts));
        let font_resolver = FontResolver { select_font: FontResolver::default_font_selector(), select_fallback };
        let font_family = "Inter".to_string();
        // A figure from a file may have been changed: it shows pictures that it contains, and opens no other file.
        let resolve_string = Box::new(|_: &str, _: &Options| None);
        let image_href_resolver = ImageHrefResolver { resolve_string, ..ImageHrefResolver::default() };
        let options =
            Options { fontdb: fontdb.clone(), font_family, font_resolver, image_href_resolver, ..Options::default() };
        Tree::from_str(self.svg(), &options).map_err(|error| error.to_string())
    }
}

/// The fonts inside the program.
fn own_fonts() -> &'static Arc<Database> {
    static FONTS: OnceLock<Arc<Database>> = OnceLock::new();
    FONTS.get_or_init(|| {
        let mut fonts = Database::new();
        for bytes in [font::REGULAR, font::BOLD] {
            fonts.load_font_source(Source::Binary(Arc::new(bytes)));
        }
        Arc::new(fonts)
    })
}

/// Those of the system too, which takes longer.
fn all_fonts() -> &'static Arc<Database> {
    static FONTS: OnceLock<Arc<Database>> = OnceLock::new();
    FONTS.get_or_init(|| {
        let mut fonts = Database::clone(own_fonts());
        fonts.load_system_fonts();
        Arc::new(fonts)
    })
}

/// The system's plainest font that has a character.
fn font_with(c: char, fonts: &Database) -> Option<ID> {
    let has = |face: &&FaceInfo| {
        let glyph = |data: &[u8], index| ttf_parser::Face::parse(data, index).ok()?.glyph_index(c);
        fonts.with_face_data(face.id, glyph).flatten().is_some()
    };
    let plainness =
        |face: &&FaceInfo| (face.style != Style::Normal, face.weight.0.abs_diff(400), face.stretch != Stretch::Normal);
    let mut faces: Vec<&FaceInfo> = fonts.faces().collect();
    faces.sort_by_key(plainness);
    faces.into_iter().find(has).map(|face| face.id)
}

const MEMORY: &str = "memory takes all bytes of a picture";

/// Encodes bytes, `[height, width, channels]`, as PNG.
///
/// # Panics
/// When there are not as many bytes as the size says.
pub fn png(bytes: &[u8], size: [u32; 2], is_rgb: bool) -> Vec<u8> {
    let mut file = Vec::new();
    let mut writer = writer(&mut file, size, is_rgb);
    writer.write_image_data(bytes).expect(MEMORY);
    writer.finish().expect(MEMORY);
    file
}

fn writer(file: &mut Vec<u8>, [width, height]: [u32; 2], is_rgb: bool) -> Writer<&mut Vec<u8>> {
    let mut encoder = Encoder::new(file, width, height);
    encoder.set_color(if is_rgb { ColorType::Rgb } else { ColorType::Grayscale });
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Balanced);
    // Figures have few colors and long even rows, which filters would break up.
    encoder.set_filter(Filter::NoFilter);
    encoder.write_header().expect(MEMORY)
}

#[cfg(test)]
mod tests {
    use super::super::style::{DARK, LIGHT};
    use super::super::svg::{Canvas, Rect, Text};
    use super::*;

    /// A text on its own, and how many pixels are not those of the page.
    fn ink(text: &str) -> usize {
        let mut canvas = Canvas::new(&LIGHT, [60.0, 20.0], "t", "d");
        canvas.text([4.0, 14.0], text, &Text::new("#000000"));
        let png = canvas.finish().png(1.0).unwrap();
        let picture = image::load_from_memory(&png.bytes).unwrap().to_luma8();
        assert_eq!(((png.width, png.height), picture.dimensions()), ((60, 20), (60, 20)));
        picture.pixels().filter(|pixel| pixel.0[0] < 128).count()
    }

    #[test]
    fn every_text_has_ink() {
        for text in ["Ag", "größe", "Ωμ", "→ ≤ ±", "猫", "שלום", "\u{10ffff}"] {
            assert!(ink(text) > 10, "{text}: {}", ink(text));
        }
        assert_eq!(ink(" "), 0);
    }

    #[test]
    fn a_figure_from_a_file_shows_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.png");
        let black = png(&[0; 4], [2, 2], false);
        std::fs::write(&path, &black).unwrap();
        let inside = format!("data:image/png;base64,{}", super::super::svg::base64(&black));
        let first = |href: &str| {
            let svg = format!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"4\" height=\"4\"><rect width=\"4\" height=\"4\" \
                 fill=\"#fff\"/><image width=\"4\" height=\"4\" href=\"{href}\"/></svg>"
            );
            image::load_from_memory(&Figure::from_file(&svg).png(1.0).unwrap().bytes).unwrap().to_luma8()[(1, 1)].0[0]
        };
        assert_eq!((first(&inside), first(path.to_str().unwrap())), (0, 255));
    }

    #[test]
    fn pictures_and_pdf_files_are_drawn_and_equal_each_time() {
        let draw = || {
            let mut canvas = Canvas::new(&DARK, [30.0, 20.0], "t", "d");
            canvas.picture(
                Rect { x: 10.0, y: 5.0, width: 10.0, height: 10.0 },
                &png(&[255, 0, 0, 255], [2, 2], false),
                "a",
            );
            canvas.text([1.0, 9.0], "x", &Text::new("#ffffff"));
            canvas.finish()
        };
        let picture = image::load_from_memory(&draw().png(2.0).unwrap().bytes).unwrap().to_luma8();
        assert_eq!(picture.dimensions(), (60, 40));
        // Enlarged pixels stay squares.
        assert_eq!(
            [(22, 12), (28, 18), (32, 12), (38, 18), (22, 28)].map(|(x, y)| picture[(x, y)].0[0]),
            [255, 255, 0, 0, 0]
        );
        for format in [Format::Svg, Format::Png, Format::Pdf] {
            assert_eq!(draw().file(format), draw().file(format));
        }
        assert!(draw().file(Format::Pdf).unwrap().starts_with(b"%PDF"));
    }
}
