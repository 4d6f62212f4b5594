//! Figures as SVG: shapes, texts and pictures in order. Equal calls give equal bytes.
//!
//! Every text from outside goes through [`escaped`], so that it is never read as markup.

use std::fmt::Write;

use super::font;
use super::style::{DARK, FAMILY, LABEL, LIGHT, Style, TITLE, Theme};
use crate::text::{isolated, visible};

/// Marks the lines at the top of a figure, and says where they end.
const HEADING: &str = "<g data-heading=\"";

/// A figure under way. The origin is the upper left corner; lengths are in pixels.
pub struct Canvas {
    style: &'static Style,
    width: f64,
    height: f64,
    title: String,
    description: String,
    body: String,
}

/// A finished figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    svg: String,
}

/// A place or a size, from the left and from the top.
pub type Point = [f64; 2];

/// A rectangle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    /// Left edge.
    pub x: f64,
    /// Upper edge.
    pub y: f64,
    /// From left to right.
    pub width: f64,
    /// From top to bottom.
    pub height: f64,
}

impl Rect {
    /// The right edge.
    pub fn right(&self) -> f64 {
        self.x + self.width
    }

    /// The lower edge.
    pub fn bottom(&self) -> f64 {
        self.y + self.height
    }
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Stroke<'a> {
    /// Its color.
    pub color: &'a str,
    /// Its width.
    pub width: f64,
    /// Pixels on and off; empty for a solid line.
    pub dash: &'a str,
    /// 1 hides what is behind.
    pub opacity: f64,
}

impl<'a> Stroke<'a> {
    /// A solid line.
    pub fn new(color: &'a str, width: f64) -> Stroke<'a> {
        Stroke { color, width, dash: "", opacity: 1.0 }
    }
}

/// Which end of a text is at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// Its start.
    Start,
    /// Its middle.
    Middle,
    /// Its end.
    End,
}

/// How a text is written.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    /// Height of the font.
    pub size: f64,
    /// Its color.
    pub color: &'a str,
    /// What is at its place.
    pub anchor: Anchor,
    /// Whether in the weight of titles.
    pub is_bold: bool,
    /// Whether from bottom to top.
    pub is_upright: bool,
    /// Its maximum length: longer texts are shortened, and have the whole text as a tooltip.
    pub room: f64,
}

impl<'a> Text<'a> {
    /// Text of labels.
    pub fn new(color: &'a str) -> Text<'a> {
        let room = f64::INFINITY;
        Text { size: LABEL, color, anchor: Anchor::Start, is_bold: false, is_upright: false, room }
    }

    /// The same of another size.
    pub fn size(self, size: f64) -> Text<'a> {
        Text { size, ..self }
    }

    /// The same with another end at its place.
    pub fn at(self, anchor: Anchor) -> Text<'a> {
        Text { anchor, ..self }
    }

    /// The same in the weight of titles.
    pub fn bold(self) -> Text<'a> {
        Text { is_bold: true, ..self }
    }

    /// The same with a maximum length.
    pub fn within(self, room: f64) -> Text<'a> {
        Text { room, ..self }
    }
}

/// The sign at a point of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// A filled circle.
    Dot,
    /// A filled square.
    Square,
    /// A filled triangle.
    Triangle,
    /// A filled diamond.
    Diamond,
    /// A circle that is not filled.
    Ring,
    /// A cross.
    Cross,
}

/// Markers of series, in the order of the palette.
pub const MARKERS: [Marker; 6] =
    [Marker::Dot, Marker::Square, Marker::Triangle, Marker::Diamond, Marker::Ring, Marker::Cross];

impl Canvas {
    /// Starts a figure. Its title is also written at the top by [`Canvas::heading`]; its description says in words what
    /// it shows, for those who cannot see it.
    pub fn new(style: &'static Style, [width, height]: Point, title: &str, description: &str) -> Canvas {
        let (title, description) = (title.to_string(), description.to_string());
        Canvas { style, width, height, title, description, body: String::new() }
    }

    /// Its colors.
    pub fn style(&self) -> &'static Style {
        self.style
    }

    /// Its width.
    pub fn width(&self) -> f64 {
        self.width
    }

    /// Draws a filled rectangle.
    pub fn rect(&mut self, rect: Rect, fill: &str) {
        let Rect { x, y, width, height } = rect;
        let [x, y, width, height] = [x, y, width, height].map(number);
        self.put(&format!(r#"<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{fill}"/>"#));
    }

    /// Draws the outline of a rectangle.
    pub fn outline(&mut self, rect: Rect, stroke: Stroke) {
        let Rect { x, y, width, height } = rect;
        let [x, y, width, height] = [x, y, width, height].map(number);
        let stroke = attributes(stroke);
        self.put(&format!(r#"<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="none"{stroke}/>"#));
    }

    /// Draws a line between two points.
    pub fn line(&mut self, from: Point, to: Point, stroke: Stroke) {
        let ([x1, y1], [x2, y2]) = (from.map(number), to.map(number));
        let stroke = attributes(stroke);
        self.put(&format!(r#"<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"{stroke}/>"#));
    }

    /// Draws a line through points; a point that is NaN or infinite is a gap. A point between two gaps is a dot.
    pub fn curve(&mut self, points: &[Point], stroke: Stroke) {
        let mut path = String::new();
        for piece in points.split(|point| !point.iter().all(|x| x.is_finite())).filter(|piece| !piece.is_empty()) {
            for (i, point) in piece.iter().enumerate() {
                let [x, y] = point.map(number);
                let letter = if i == 0 { "M" } else { "L" };
                _ = write!(path, "{letter}{x} {y}");
            }
            if piece.len() == 1 {
                // With round ends this is a dot.
                path.push_str("h0");
            }
        }
        if !path.is_empty() {
            let stroke = attributes(stroke);
            let ends = r#" stroke-linejoin="round" stroke-linecap="round""#;
            self.put(&format!(r#"<path d="{path}" fill="none"{stroke}{ends}/>"#));
        }
    }

    /// Fills the area inside these points.
    pub fn area(&mut self, points: &[Point], fill: &str, opacity: f64) {
        let points: Vec<String> = points.iter().map(|point| point.map(number).join(",")).collect();
        let (points, opacity) = (points.join(" "), number(opacity));
        self.put(&format!(r#"<polygon points="{points}" fill="{fill}" fill-opacity="{opacity}"/>"#));
    }

    /// Draws a marker; `size` is half of its width.
    pub fn marker(&mut self, marker: Marker, [x, y]: Point, size: f64, color: &str) {
        if !(x.is_finite() && y.is_finite()) {
            return;
        }
        let polygon = |points: &[Point]| {
            let points: Vec<String> =
                points.iter().map(|[dx, dy]| [x + dx * size, y + dy * size].map(number).join(",")).collect();
            format!(r#"<polygon points="{}" fill="{color}"/>"#, points.join(" "))
        };
        let [cx, cy, r] = [x, y, size].map(number);
        let shape = match marker {
            Marker::Dot => format!(r#"<circle cx="{cx}" cy="{cy}" r="{r}" fill="{color}"/>"#),
            Marker::Square => polygon(&[[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]]),
            Marker::Triangle => polygon(&[[0.0, -1.15], [1.1, 0.85], [-1.1, 0.85]]),
            Marker::Diamond => polygon(&[[0.0, -1.25], [1.25, 0.0], [0.0, 1.25], [-1.25, 0.0]]),
            Marker::Ring => {
                let page = self.style.page;
                format!(r#"<circle cx="{cx}" cy="{cy}" r="{r}" fill="{page}" stroke="{color}" stroke-width="1.6"/>"#)
            }
            Marker::Cross => {
                let [left, top, right, bottom] = [x - size, y - size, x + size, y + size].map(number);
                let d = format!("M{left} {top}L{right} {bottom}M{left} {bottom}L{right} {top}");
                format!(r#"<path d="{d}" fill="none" stroke="{color}" stroke-width="1.8"/>"#)
            }
        };
        self.put(&shape);
    }

    /// Writes a text; `y` is that of its base line.
    pub fn text(&mut self, [x, y]: Point, text: &str, how: &Text) {
        let whole = visible(text);
        let shown = font::shortened(&whole, how.size, how.is_bold, how.room);
        let anchor = match how.anchor {
            Anchor::Start => "",
            Anchor::Middle => r#" text-anchor="middle""#,
            Anchor::End => r#" text-anchor="end""#,
        };
        let weight = if how.is_bold { r#" font-weight="600""# } else { "" };
        let [x, y, size] = [x, y, how.size].map(number);
        let turn = if how.is_upright { format!(r#" transform="rotate(-90 {x} {y})""#) } else { String::new() };
        let tooltip = if shown == whole { String::new() } else { format!("<title>{}</title>", written(&whole)) };
        let (color, shown) = (how.color, written(&shown));
        self.put(&format!(
            r#"<text x="{x}" y="{y}" font-size="{size}" fill="{color}"{weight}{anchor}{turn}>{shown}{tooltip}</text>"#
        ));
    }

    /// Shows a PNG picture; its pixels stay sharp squares where they are enlarged.
    pub fn picture(&mut self, rect: Rect, png: &[u8], alt: &str) {
        let Rect { x, y, width, height } = rect;
        let [x, y, width, height] = [x, y, width, height].map(number);
        let (alt, data) = (written(&visible(alt)), base64(png));
        self.put(&format!(
            r#"<image x="{x}" y="{y}" width="{width}" height="{height}" preserveAspectRatio="none" style="image-rendering:pixelated" href="data:image/png;base64,{data}"><title>{alt}</title></image>"#
        ));
    }

    /// Writes the title and a line below it at the top left.
    pub fn heading(&mut self, left: f64, below: &str) {
        let (style, room) = (self.style, self.width - left - 20.0);
        let title = self.title.clone();
        // A sentence is rather smaller than cut.
        let fitting = |text: &str, size: f64, is_bold: bool| {
            (size * room / font::width(text, size, is_bold)).clamp(size * 0.75, size)
        };
        let bottom = if below.is_empty() { 32 } else { 50 };
        self.put(&format!("{HEADING}{bottom}\">"));
        let size = fitting(&title, TITLE, true);
        self.text([left, 24.0], &title, &Text::new(style.ink).size(size).bold().within(room + 0.01));
        if !below.is_empty() {
            let size = fitting(below, LABEL, false);
            self.text([left, 43.0], below, &Text::new(style.soft).size(size).within(room + 0.01));
        }
        self.end();
    }

    /// Starts a group whose parts share a tooltip; [`Canvas::end`] ends it.
    pub fn begin(&mut self, tooltip: &str) {
        let tooltip = written(&visible(tooltip));
        self.put(&format!("<g><title>{tooltip}</title>"));
    }

    /// Ends a group.
    pub fn end(&mut self) {
        self.put("</g>");
    }

    /// Ends the figure.
    pub fn finish(self) -> Figure {
        let Canvas { style, width, height, title, description, body } = self;
        let ([width, height], page) = ([width.ceil(), height.ceil()].map(number), style.page);
        let (title, description) = (written(&visible(&title)), written(&visible(&description)));
        let svg = format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" font-family="{FAMILY}">
<title>{title}</title>
<desc>{description}</desc>
<rect width="{width}" height="{height}" fill="{page}"/>
{body}</svg>
"#
        );
        Figure { svg }
    }

    fn put(&mut self, element: &str) {
        self.body.push_str(element);
        self.body.push('\n');
    }
}

impl Figure {
    /// The figure as an SVG document.
    pub fn svg(&self) -> &str {
        &self.svg
    }

    /// A figure that was saved by [`Figure::svg`] and may have been changed since: it is only fit to be drawn as pixels.
    pub fn from_file(svg: &str) -> Figure {
        Figure { svg: svg.to_string() }
    }

    /// The figure without the lines at its top, for a document that has a caption below it.
    pub fn without_heading(&self) -> Figure {
        let parts = || {
            let (before, rest) = self.svg.split_once(HEADING)?;
            let (bottom, rest) = rest.split_once("\">")?;
            let (_, after) = rest.split_once("</g>\n")?;
            let size = before.split_once("viewBox=\"0 0 ")?.1.split_once('"')?.0;
            let (width, height) = size.split_once(' ')?;
            let rest = number(height.parse::<f64>().ok()? - bottom.parse::<f64>().ok()?);
            let old = format!("height=\"{height}\" viewBox=\"0 0 {size}\"");
            let new = format!("height=\"{rest}\" viewBox=\"0 {bottom} {width} {rest}\"");
            Some(before.replacen(&old, &new, 1) + after)
        };
        Figure { svg: parts().unwrap_or_else(|| self.svg.clone()) }
    }

    /// What it shows in words: its title and its description.
    pub fn alt(&self) -> String {
        let inside = |tag: &str| {
            let start = self.svg.find(&format!("<{tag}>"))? + tag.len() + 2;
            let length = self.svg[start..].find(&format!("</{tag}>"))?;
            Some(unescaped(&self.svg[start..start + length]))
        };
        ["title", "desc"].into_iter().filter_map(inside).collect::<Vec<_>>().join(". ")
    }

    /// The same in another theme: the colors of lines and texts are replaced, pictures stay as they are.
    pub fn in_theme(&self, theme: Theme) -> Figure {
        let colors = |style: &'static Style| {
            let Style { page, ink, soft, axis, grid, series, .. } = style;
            [*page, *ink, *soft, *axis, *grid].into_iter().chain(*series)
        };
        let is_dark = self.svg.contains(&format!("fill=\"{}\"", DARK.page));
        let (from, to) = (if is_dark { &DARK } else { &LIGHT }, theme.style());
        let mut pieces = self.svg.split("\"#");
        let mut svg = pieces.next().unwrap_or_default().to_string();
        for piece in pieces {
            let color = piece.get(..6).unwrap_or_default();
            let known = colors(from).zip(colors(to)).find(|(known, _)| &known[1..] == color);
            svg.push_str("\"#");
            svg.push_str(known.map_or(color, |(_, new)| &new[1..]));
            svg.push_str(&piece[color.len()..]);
        }
        Figure { svg }
    }
}

/// Markup as plain text: the opposite of [`escaped`].
fn unescaped(text: &str) -> String {
    let pairs = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    pairs.iter().fold(text.to_string(), |text, (from, to)| text.replace(from, to))
}

/// Attributes of a stroke, with a blank before them.
fn attributes(Stroke { color, width, dash, opacity }: Stroke) -> String {
    let dash = if dash.is_empty() { String::new() } else { format!(r#" stroke-dasharray="{dash}""#) };
    let opacity = if opacity < 1.0 { format!(r#" stroke-opacity="{}""#, number(opacity)) } else { String::new() };
    format!(r#" stroke="{color}" stroke-width="{}"{dash}{opacity}"#, number(width))
}

/// Writes a length with at most two decimals; equal on all machines, because the rest is rounded away.
///
/// # Panics
/// In debug builds, when it is not finite: a place that is not known must not be drawn.
pub fn number(x: f64) -> String {
    debug_assert!(x.is_finite(), "a length of {x}");
    let text = format!("{x:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_string() } else { text.to_string() }
}

/// A visible text as a figure has it.
fn written(text: &str) -> String {
    escaped(&isolated(text))
}

/// Escapes what XML reads as markup, and replaces what it does not allow.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(' '),
            c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Bytes in base64, for pictures inside a figure.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|i| u32::from(three.get(i).copied().unwrap_or(0)));
        let bits = a << 16 | b << 8 | c;
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= three.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::style::LIGHT;
    use super::*;

    #[test]
    fn numbers_have_two_decimals_at_most() {
        let written = [0.0, -0.001, 1.0, 10.0, 0.126, -2.5, 1e6].map(number);
        assert_eq!(written, ["0", "0", "1", "10", "0.13", "-2.5", "1000000"].map(str::to_string));
    }

    #[test]
    fn base64_is_that_of_the_standard() {
        let pairs =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")];
        for (bytes, expected) in pairs {
            assert_eq!(base64(bytes.as_bytes()), expected);
        }
        assert_eq!(base64(&[251, 255]), "+/8=");
    }

    #[test]
    fn no_name_becomes_markup() {
        let evil = "<img src=x onerror=\"a\">&'\u{1b}\u{202e}\n";
        let mut canvas = Canvas::new(&LIGHT, [90.0, 30.0], evil, evil);
        canvas.heading(5.0, evil);
        canvas.text([0.0, 0.0], evil, &Text::new("#000").within(20.0));
        canvas.begin(evil);
        canvas.picture(Rect { x: 0.0, y: 0.0, width: 1.0, height: 1.0 }, b"", evil);
        canvas.end();
        let figure = canvas.finish();
        assert!(!figure.svg().contains("<img") && !figure.svg().contains("onerror=\""), "{}", figure.svg());
        assert!(!figure.svg().contains('\u{1b}') && !figure.svg().contains('\u{202e}'));
        // Title, description, both tooltips of shortened texts, and those of the group and the picture.
        assert!(figure.svg().matches("&lt;img src=x onerror=&quot;a&quot;&gt;&amp;&#39;").count() >= 6);
        // Shortened texts have the whole one as a tooltip.
        assert!(figure.svg().contains("…") && figure.svg().contains("<title>&lt;img"));
    }

    #[test]
    fn a_figure_has_words_and_changes_its_theme() {
        let mut canvas = Canvas::new(&LIGHT, [9.0, 9.0], "<a> & \"b\"", "d");
        canvas.text([0.0, 0.0], "#1c2530", &Text::new(LIGHT.ink));
        canvas.rect(Rect { x: 0.0, y: 0.0, width: 1.0, height: 1.0 }, "#123456");
        let light = canvas.finish();
        let dark = light.in_theme(Theme::Dark);
        assert_eq!(light.alt(), "<a> & \"b\". d");
        assert!(dark.svg().contains(&format!("fill=\"{}\">#1c2530</text>", DARK.ink)), "{}", dark.svg());
        assert!(dark.svg().contains("\"#123456\"") && dark.svg().contains(DARK.page));
        assert_eq!((dark.in_theme(Theme::Light), light.in_theme(Theme::Light)), (light.clone(), light));
    }

    #[test]
    fn a_figure_without_its_heading_starts_below_it() {
        let mut canvas = Canvas::new(&LIGHT, [90.0, 80.0], "a title", "d");
        canvas.heading(5.0, "more");
        canvas.text([0.0, 60.0], "inside", &Text::new("#000"));
        let whole = canvas.finish();
        let cut = whole.without_heading();
        assert!(cut.svg().contains("width=\"90\" height=\"30\" viewBox=\"0 50 90 30\""), "{}", cut.svg());
        assert!(
            !cut.svg().contains(">a title</text>") && cut.svg().contains(">inside</text>") && cut.alt() == whole.alt()
        );
        assert_eq!((cut.without_heading(), image_height(&whole), image_height(&cut)), (cut.clone(), 80, 30));
    }

    fn image_height(figure: &Figure) -> u32 {
        figure.png(1.0).unwrap().height
    }

    #[test]
    fn a_curve_has_gaps_where_values_are_missing() {
        let mut canvas = Canvas::new(&LIGHT, [9.0, 9.0], "t", "d");
        let points = [[0.0, 1.0], [1.0, 2.0], [2.0, f64::NAN], [3.0, 4.0], [4.0, f64::INFINITY]];
        canvas.curve(&points, Stroke::new("#000", 1.0));
        assert!(canvas.finish().svg().contains(r#"d="M0 1L1 2M3 4h0""#));
    }
}
