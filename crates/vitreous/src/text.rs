//! Names, paths and other text from outside, made safe to print, and measured as a terminal shows it.
//!
//! A name may hold escape sequences, line breaks, and marks that reverse the direction of writing. Whatever is printed
//! shows these as escapes: `\n`, `\u{1b}`.

use std::borrow::Cow;
use std::fmt::{Display, Write};
use std::path::Path;

use serde::{Serialize, Serializer};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Stands where the end of a text was cut off.
const CUT: char = '~';

/// Escapes every character that cannot be seen, line breaks included: the result is one line.
pub fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, is_visible, |out, c| out.extend(c.escape_default()))
}

/// As [`visible`], for text whose line breaks are meant.
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c == '\n' || is_visible(c), |out, c| out.extend(c.escape_default()))
}

/// As [`visible`], for one cell or line of Markdown. A `<` that cannot begin markup stays, as in `< 0.0001`.
pub fn markdown(text: &str) -> String {
    let text = visible(text).replace('|', "\\|");
    let begins = |rest: &str| rest.starts_with(|c: char| c.is_ascii_alphabetic() || "/!?".contains(c));
    let mut parts = text.split('<');
    let first = parts.next().unwrap_or_default().to_string();
    parts.fold(first, |out, part| out + if begins(part) { "&lt;" } else { "<" } + part)
}

/// Escapes every character of a JSON text that cannot be seen, as JSON does: the values stay the same.
pub fn visible_json(json: &str) -> Cow<'_, str> {
    escaped(json, is_visible, |out, c| {
        c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| write!(out, "\\u{unit:04x}").expect("a text takes all"));
    })
}

fn escaped(text: &str, stays: impl Fn(char) -> bool, escape: impl Fn(&mut String, char)) -> Cow<'_, str> {
    if text.chars().all(&stays) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    text.chars().for_each(|c| if stays(c) { out.push(c) } else { escape(&mut out, c) });
    Cow::Owned(out)
}

/// Whether a character has a shape, or gives one to the character before it as accents do. Control and format
/// characters, separators other than the blank, and characters that Unicode does not assign have none.
fn is_visible(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    // The standard library's table; behind another character it lets accents pass.
    let mut bytes = [b'a'; 5];
    let len = 1 + c.encode_utf8(&mut bytes[1..]).len();
    std::str::from_utf8(&bytes[..len]).is_ok_and(|text| text.escape_debug().nth(1) == Some(c))
}

/// Returns how many columns of a terminal a text takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// Makes a text visible, and cuts its end off where it takes more than so many columns.
pub fn shortened(text: &str, most: usize) -> String {
    let text = visible(text);
    if width(&text) <= most {
        return text.into_owned();
    }
    let mut start = String::new();
    let mut left = most.saturating_sub(1);
    for c in text.chars() {
        let Some(rest) = left.checked_sub(c.width().unwrap_or(0)) else { break };
        left = rest;
        start.push(c);
    }
    format!("{}{CUT}", start.trim_end())
}

/// Puts each piece of a text that is written from right to left between marks (U+2068, U+2069), so that what follows it is
/// not drawn into it: `שלום: 5 images`. For figures and pages; a terminal would show the marks as escapes.
pub fn isolated(text: &str) -> Cow<'_, str> {
    let is_rtl = |c: char| matches!(c, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}' | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}');
    if !text.contains(is_rtl) {
        return Cow::Borrowed(text);
    }
    let (mut out, mut rest) = (String::with_capacity(text.len() + 16), text);
    while let Some(start) = rest.find(is_rtl) {
        // What may be inside of a name, between letters of it.
        let is_of_name = |c: char| is_rtl(c) || c.is_numeric() || c.width() == Some(0) || " -_.'".contains(c);
        let end = rest[start..].find(|c| !is_of_name(c)).map_or(rest.len(), |length| start + length);
        let piece = rest[start..end].trim_end_matches(|c: char| !is_rtl(c) && c.width() != Some(0));
        out.extend([&rest[..start], "\u{2068}", piece, "\u{2069}"]);
        rest = &rest[start + piece.len()..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// What follows the last slash of a name.
pub fn last_part(name: &str) -> String {
    let parts = name.trim_end_matches(['/', '\\']).rsplit(['/', '\\']);
    parts.into_iter().next().unwrap_or(name).to_string()
}

/// The name of a data set in a figure's title: without the folders above it, for a figure names no paths, and so short
/// that what follows it is still to be seen.
pub fn short_name(name: &str) -> String {
    shortened(&last_part(name), 24)
}

/// Adds blanks to a text up to a width in columns, before it or behind it.
pub fn padded(text: &str, columns: usize, is_right: bool) -> String {
    let blanks = " ".repeat(columns.saturating_sub(width(text)));
    if is_right { blanks + text } else { text.to_string() + &blanks }
}

/// Joins the first names of a list, and says how many more it has: `cat, dog and 3 more`.
pub fn some_of(names: &[impl Display], most: usize) -> String {
    first_of(&names[..most.min(names.len())], names.len())
}

/// As [`some_of`], where only the first of `all` names are known.
pub fn first_of(first: &[impl Display], all: usize) -> String {
    let names = first.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match all.saturating_sub(first.len()) {
        0 => names,
        more => format!("{names} and {more} more"),
    }
}

/// Serialises a path as text; bytes that are not UTF-8 become U+FFFD.
pub fn lossy<S: Serializer>(path: impl AsRef<Path>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_ref().to_string_lossy().serialize(serializer)
}

/// As [`lossy`], for several paths.
pub fn lossy_each<S: Serializer>(paths: &[impl AsRef<Path>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(|path| path.as_ref().to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_escaped_and_letters_stay() {
        for (text, expected) in [
            ("new\nline", "new\\nline"),
            ("\x1b[31mred\x07", "\\u{1b}[31mred\\u{7}"),
            // The one-byte form of an escape sequence's start, which some terminals obey.
            ("\u{9b}31m\u{7f}", "\\u{9b}31m\\u{7f}"),
            ("invoice\u{202e}gnp.exe", "invoice\\u{202e}gnp.exe"),
            (
                "a\u{2028}b\u{feff}c\u{200b}d\u{61c}e\u{2066}f\u{e0041}",
                "a\\u{2028}b\\u{feff}c\\u{200b}d\\u{61c}e\\u{2066}f\\u{e0041}",
            ),
        ] {
            assert_eq!(visible(text), expected);
        }
        for text in ["größer", "gro\u{308}ßer", "日本語クラス", "שלום", "कुत्ता", "🐕", "C:\\new", "·±→~"]
        {
            assert_eq!(visible(text), text);
        }
        assert_eq!(visible_lines("a\nb\r\x1b\n"), "a\nb\\r\\u{1b}\n");
        assert_eq!(markdown("a|b\nc<d>"), "a\\|b\\nc&lt;d>");
        assert_eq!(markdown("< 0.0001</a><!--<?p<"), "< 0.0001&lt;/a>&lt;!--&lt;?p<");
    }

    #[test]
    fn json_keeps_its_values() {
        let value = "\x1b\u{9b}\u{202e}\u{e0041}\nö";
        let json = serde_json::to_string(value).unwrap();
        let shown = visible_json(&json);
        assert_eq!(shown, "\"\\u001b\\u009b\\u202e\\udb40\\udc41\\nö\"");
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), value);
    }

    #[test]
    fn widths_are_those_of_a_terminal() {
        assert_eq!(["cat", "größer", "gro\u{308}ßer", "日本語", "🐕"].map(width), [3, 6, 6, 6, 2]);
        assert_eq!([padded("日本", 7, false), padded("日本", 7, true)], ["日本   ", "   日本"]);
        assert_eq!(
            ["golden retriever", "日本語クラス", "日本語"].map(|name| shortened(name, 7)),
            ["golden~", "日本語~", "日本語"]
        );
        assert_eq!(shortened("gro\u{308}ßere Dinge", 5), "gro\u{308}ß~");
        assert_eq!(shortened("a\nb", 3), "a\\~");
    }

    #[test]
    fn pieces_from_right_to_left_are_isolated() {
        assert_eq!(isolated("5 cats"), "5 cats");
        assert_eq!(isolated("חתול 5: 7 of 9"), "\u{2068}חתול\u{2069} 5: 7 of 9");
        assert_eq!(isolated("a חתול 5 שחור, كلب → b"), "a \u{2068}חתול 5 שחור\u{2069}, \u{2068}كلب\u{2069} → b");
    }

    #[test]
    fn figures_name_no_folders() {
        assert_eq!(["mnist", "a/b/photos/", "c:\\d\\pets"].map(last_part), ["mnist", "photos", "pets"]);
    }

    #[test]
    fn long_lists_are_cut_with_a_count() {
        assert_eq!(some_of(&["cat", "dog", "lynx"], 3), "cat, dog, lynx");
        assert_eq!(some_of(&["cat", "dog", "lynx", "owl"], 2), "cat, dog and 2 more");
        assert_eq!(some_of(&[""; 0], 2), "");
    }

    #[cfg(unix)]
    #[test]
    fn a_path_that_is_not_unicode_becomes_json_all_the_same() {
        use std::os::unix::ffi::OsStrExt;
        use std::path::PathBuf;

        #[derive(Serialize)]
        struct Paths {
            #[serde(serialize_with = "lossy")]
            one: PathBuf,
            #[serde(serialize_with = "lossy_each")]
            several: Vec<PathBuf>,
        }
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(b"o\xff"));
        let json = serde_json::to_string(&Paths { one: path.clone(), several: vec![path] }).unwrap();
        assert_eq!(json, "{\"one\":\"o\u{fffd}\",\"several\":[\"o\u{fffd}\"]}");
    }
}
