//! The fonts inside the program: how wide a text is, and how it is shortened.
//!
//! Two weights of Inter, reduced to Latin, Greek, punctuation, arrows and some signs (`fonts/make_fonts.py`). Layouts
//! measure with them, pictures and PDF files are drawn with them.

use std::sync::OnceLock;

use ttf_parser::Face;
use unicode_width::UnicodeWidthChar;

/// The regular weight.
pub const REGULAR: &[u8] = include_bytes!("fonts/Inter-Regular.otf");
/// The weight of titles.
pub const BOLD: &[u8] = include_bytes!("fonts/Inter-SemiBold.otf");

/// Width of a character that is not in the fonts, as a part of the text's size: Chinese characters have that.
const UNKNOWN: f64 = 1.0;

fn face(is_bold: bool) -> &'static Face<'static> {
    static FACES: OnceLock<[Face; 2]> = OnceLock::new();
    let read = |bytes| Face::parse(bytes, 0).expect("the program's fonts can be read");
    &FACES.get_or_init(|| [read(REGULAR), read(BOLD)])[usize::from(is_bold)]
}

/// Whether the fonts have all characters of a text.
pub fn has_all(text: &str) -> bool {
    text.chars().all(|c| c == '\n' || face(false).glyph_index(c).is_some())
}

/// The width of a text, in pixels. Kerning is ignored: it makes text narrower.
pub fn width(text: &str, size: f64, is_bold: bool) -> f64 {
    text.chars().map(|c| advance(c, is_bold)).sum::<f64>() * size
}

fn advance(c: char, is_bold: bool) -> f64 {
    let face = face(is_bold);
    match face.glyph_index(c) {
        _ if is_mark(c) => 0.0,
        Some(glyph) => f64::from(face.glyph_hor_advance(glyph).unwrap_or(0)) / f64::from(face.units_per_em()),
        None => UNKNOWN,
    }
}

/// Whether a character is drawn above or below the one before it, as accents are.
fn is_mark(c: char) -> bool {
    c.width() == Some(0)
}

/// Shortens a text to a width in pixels: an ellipsis takes the place of what is cut out of its middle, because names
/// often differ at their end.
pub fn shortened(text: &str, size: f64, is_bold: bool, room: f64) -> String {
    if width(text, size, is_bold) <= room {
        return text.to_string();
    }
    let room = room / size - advance('…', is_bold);
    let some = |chars: &mut dyn Iterator<Item = char>, mut left: f64| -> Vec<char> {
        let fits = |c: &char| {
            left -= advance(*c, is_bold);
            left >= 0.0
        };
        chars.take_while(fits).collect()
    };
    let start: String = some(&mut text.chars(), room * 0.65).into_iter().collect();
    let end: String = some(&mut text.chars().rev(), room * 0.35).into_iter().rev().collect();
    // An accent whose letter was cut off goes with it.
    format!("{}…{}", start.trim_end(), end.trim_start_matches(is_mark).trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_those_of_the_font() {
        // As fonttools reads them from the table `hmtx`, where a font of 2816 pixels has whole ones.
        let of = |is_bold| ["0", "W"].map(|text| width(text, 2816.0, is_bold).round());
        assert_eq!((of(false), of(true)), ([1760.0, 2672.0], [1878.0, 2835.0]));
        assert!(width("iii", 10.0, false) < width("mmm", 10.0, false) / 3.0);
        assert!(width("mass", 10.0, false) < width("mass", 10.0, true));
        assert_eq!(width("犬", 10.0, false), 10.0);
        assert!(has_all("größer Ωμέγα → ≤ 95 % ± −1") && !has_all("犬") && !has_all("שלום"));
    }

    #[test]
    fn a_long_text_is_cut_to_its_room() {
        let long = format!("{}z", "w".repeat(300));
        let cut = shortened(&long, 12.0, false, 100.0);
        assert!(cut.starts_with("ww") && cut.contains('…') && cut.ends_with("wz"), "{cut}");
        assert!((8..15).contains(&cut.chars().count()), "{cut}");
        assert!(width(&cut, 12.0, false) <= 100.0);
        // Each letter with its accent.
        let accents = "e\u{301}".repeat(40);
        assert_eq!(width(&accents, 12.0, false), width(&"e".repeat(40), 12.0, false));
        for room in 20..90 {
            let cut = shortened(&accents, 12.0, false, f64::from(room));
            let (start, end) = cut.split_once('…').unwrap();
            assert!([start, end].iter().all(|part| part.matches('e').count() * 3 == part.len()), "{cut}");
        }
        assert_eq!(shortened("short", 12.0, false, 100.0), "short");
        assert_eq!(shortened("short", 12.0, false, 0.0), "…");
    }
}
