//! From a figure to a file: SVG as it is, PNG and PDF drawn from it with the fonts inside the program.
//!
//! Where a text has characters that these fonts lack, those of the system are read too; what no font has is drawn as an
//! empty box, never left out.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::fontdb::{Database, FaceInfo, ID, Source, Stretch, Style};
use resvg::usvg::{FontResolver, Options, Tree};

use super::font;
use super::svg::Figure;

/// Pixels of a PNG file for a pixel of the figure: sharp on screens and in print.
const PNG_SCALE: f32 = 2.0;

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
            Format::Png => self.png(PNG_SCALE),
            Format::Pdf => self.pdf(),
        }
    }

    /// The figure as a PNG picture with so many pixels for each of its own.
    ///
    /// # Errors
    /// As [`Figure::file`].
    pub fn png(&self, scale: f32) -> Result<Vec<u8>, String> {
        let tree = self.tree()?;
        let [width, height] = [tree.size().width(), tree.size().height()].map(|side| (side * scale).round() as u32);
        let mut pixels = Pixmap::new(width, height).ok_or_else(|| format!("{width}x{height} pixels are too many"))?;
        resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
        // The page is opaque, so nothing shines through.
        let rgb: Vec<u8> = pixels.data().chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
        Ok(png(&rgb, [width, height], true))
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
        let options = Options { fontdb: fontdb.clone(), font_family, font_resolver, ..Options::default() };
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

/// Encodes bytes, `[height, width, channels]`, as PNG.
///
/// # Panics
/// When there are not as many bytes as the size says.
pub fn png(bytes: &[u8], [width, height]: [u32; 2], is_rgb: bool) -> Vec<u8> {
    let kind = if is_rgb { ExtendedColorType::Rgb8 } else { ExtendedColorType::L8 };
    let mut file = Vec::new();
    // Figures have few colors and long even rows, which filters would break up.
    PngEncoder::new_with_quality(&mut file, CompressionType::Default, FilterType::NoFilter)
        .write_image(bytes, width, height, kind)
        .expect("memory takes all bytes of a picture");
    file
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
        let picture = image::load_from_memory(&png).unwrap().to_luma8();
        assert_eq!(picture.dimensions(), (60, 20));
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
        let picture = image::load_from_memory(&draw().png(2.0).unwrap()).unwrap().to_luma8();
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
