//! Reports: what is known of a run or of several, as one HTML file, as a notebook, or with all files in an archive.
//!
//! A [`Report`] is plain: sections of texts, tables and figures. [`html`] and [`notebook`] write the same report in their
//! form; [`bundle`] packs files. Nothing here knows a run folder or the engine. Every text may be from outside: the
//! template escapes all but the figures of [`crate::plot`], which escape their own.

mod bundle;
mod html;
mod notebook;

pub use bundle::{Packed, bundle};
pub use html::html;
pub use notebook::notebook;

use serde::{Serialize, Serializer};

use crate::plot::svg::base64;
use crate::plot::{Figure, Theme};

/// What is handed in.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The first heading.
    pub title: String,
    /// A sentence below it.
    pub lead: String,
    /// The program that wrote it.
    pub program: String,
    /// Its parts, in order.
    pub sections: Vec<Section>,
}

/// A part with a heading.
#[derive(Clone, Debug, Serialize)]
pub struct Section {
    /// The heading.
    pub title: String,
    /// The command that made what is shown, or shows it again.
    pub command: Option<String>,
    /// What is shown.
    pub parts: Vec<Part>,
}

/// Something in a section.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Part {
    /// Numbers that matter most.
    Cards {
        /// Each with its label, and a remark below.
        cards: Vec<Card>,
    },
    /// A sentence.
    Text {
        /// The sentence.
        text: String,
    },
    /// Something unusual: a sentence.
    Warning {
        /// The sentence.
        text: String,
    },
    /// A sentence that says what is missing, and how to make it.
    Missing {
        /// The sentence.
        text: String,
    },
    /// Rows and columns.
    Table(Table),
    /// A figure.
    Figure {
        /// It.
        drawing: Drawing,
    },
    /// Curves, which can be zoomed where scripts run.
    Curves {
        /// Charts below each other.
        charts: Vec<Chart>,
        /// The same without scripts.
        drawing: Drawing,
    },
    /// A command line to copy.
    Command {
        /// What it does.
        what: String,
        /// The command.
        command: String,
    },
}

/// A number that matters.
#[derive(Clone, Debug, Serialize)]
pub struct Card {
    /// What it is.
    pub label: String,
    /// The number with its unit.
    pub value: String,
    /// A remark, such as its interval; may be empty.
    pub below: String,
}

/// Rows and columns; the first cell of a row is its heading.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// What it shows.
    pub caption: String,
    /// The titles.
    pub columns: Vec<String>,
    /// Whether a column has numbers, which are aligned right.
    pub is_number: Vec<bool>,
    /// The cells.
    pub rows: Vec<Vec<String>>,
    /// Whether only its caption is shown first.
    pub is_folded: bool,
}

/// A chart of some series over one axis.
#[derive(Clone, Debug, Serialize)]
pub struct Chart {
    /// What is shown, with its unit.
    pub title: String,
    /// What the horizontal axis counts.
    pub across: &'static str,
    /// Whether the axis may be logarithmic.
    pub may_be_log: bool,
    /// The series.
    pub series: Vec<Series>,
}

/// One line of a chart.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Places on the horizontal axis.
    pub x: Vec<f64>,
    /// Values; NaN is a gap.
    pub y: Vec<f64>,
    /// Number of its look: color and dash; none for a chart's only one.
    pub look: Option<usize>,
    /// Whether it is in the background.
    pub is_pale: bool,
    /// Whether it is noisy enough to be smoothed.
    pub is_noisy: bool,
}

/// A picture of the report.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "source", rename_all = "kebab-case")]
pub enum Drawing {
    /// Drawn by this program just now.
    Made {
        /// The name of its file in an archive.
        #[serde(skip)]
        name: String,
        /// For light pages and paper.
        #[serde(serialize_with = "inline")]
        light: Figure,
        /// For dark pages; where it is absent, the light one is shown there too.
        #[serde(serialize_with = "inline_some")]
        dark: Option<Figure>,
    },
    /// Read from a file, which is shown as a picture: nothing in it can run.
    File {
        /// In words, what it shows.
        alt: String,
        /// Its address in the page.
        light: String,
        /// The same for dark pages.
        dark: Option<String>,
        /// What was read.
        #[serde(skip)]
        original: Original,
    },
}

/// The content of a file with a picture.
#[derive(Clone, Debug)]
pub enum Original {
    /// An SVG document.
    Figure(Figure),
    /// Pixels.
    Png(Vec<u8>),
}

/// Largest figure of which a page has both themes, in bytes.
const BOTH_THEMES_MAX: usize = 200_000;

impl Report {
    /// The figures that were drawn for it, with their names.
    pub fn figures(&self) -> impl Iterator<Item = (&str, &Figure)> {
        let drawings = self.sections.iter().flat_map(|section| &section.parts).filter_map(|part| match part {
            Part::Figure { drawing } | Part::Curves { drawing, .. } => Some(drawing),
            _ => None,
        });
        drawings.filter_map(|drawing| match drawing {
            Drawing::Made { name, light, .. } => Some((name.as_str(), light)),
            Drawing::File { .. } => None,
        })
    }
}

impl Drawing {
    /// A figure in both themes; `draw` draws it in one.
    pub fn made(name: &str, draw: impl Fn(Theme) -> Option<Figure>) -> Option<Drawing> {
        Some(Drawing::of_figures(name.to_string(), draw(Theme::Light)?, draw(Theme::Dark)))
    }

    /// Figures in both themes, each with its name; `draw` draws them all in one.
    pub fn all(draw: impl Fn(Theme) -> Vec<(String, Figure)>) -> impl Iterator<Item = (String, Drawing)> {
        let dark = draw(Theme::Dark).into_iter().map(|(_, figure)| figure);
        let both = draw(Theme::Light).into_iter().zip(dark);
        both.map(|((name, light), dark)| (name.clone(), Drawing::of_figures(name, light, Some(dark))))
    }

    /// Of a large figure the light one is enough.
    fn of_figures(name: String, light: Figure, dark: Option<Figure>) -> Drawing {
        let dark = dark.filter(|_| light.svg().len() <= BOTH_THEMES_MAX);
        Drawing::Made { name, light, dark }
    }

    /// A figure from an SVG file that this program drew earlier; it may have been changed since.
    pub fn of_svg(svg: &str) -> Drawing {
        let figure = Figure::from_file(svg);
        let address = |figure: &Figure| format!("data:image/svg+xml;base64,{}", base64(figure.svg().as_bytes()));
        let [light, dark] = [Theme::Light, Theme::Dark].map(|theme| address(&figure.in_theme(theme)));
        let dark = (svg.len() <= BOTH_THEMES_MAX && light != dark).then_some(dark);
        let alt = figure.alt();
        Drawing::File { alt, light, dark, original: Original::Figure(figure.in_theme(Theme::Light)) }
    }

    /// A picture from a PNG file.
    pub fn of_png(png: Vec<u8>, what: &str) -> Drawing {
        let light = format!("data:image/png;base64,{}", base64(&png));
        Drawing::File { alt: what.to_string(), light, dark: None, original: Original::Png(png) }
    }

    /// The drawing in words.
    fn alt(&self) -> String {
        match self {
            Drawing::Made { light, .. } => light.alt(),
            Drawing::File { alt, .. } => alt.clone(),
        }
    }

    fn png(&self) -> Option<Vec<u8>> {
        match self {
            Drawing::Made { light: figure, .. } | Drawing::File { original: Original::Figure(figure), .. } => {
                Some(figure.png(2.0).ok()?.bytes)
            }
            Drawing::File { original: Original::Png(png), .. } => Some(png.clone()),
        }
    }
}

/// A figure as part of a page. Pages have a style of their own for pictures, since their policy allows no other.
fn markup(figure: &Figure) -> String {
    figure.svg().replace(" style=\"image-rendering:pixelated\"", "")
}

fn inline<S: Serializer>(figure: &Figure, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&markup(figure))
}

fn inline_some<S: Serializer>(figure: &Option<Figure>, serializer: S) -> Result<S::Ok, S::Error> {
    figure.as_ref().map(markup).serialize(serializer)
}

/// A table without numbers.
pub fn facts(caption: &str, rows: Vec<Vec<String>>) -> Part {
    let is_number = vec![false; 2];
    Part::Table(Table { caption: caption.to_string(), columns: Vec::new(), is_number, rows, is_folded: false })
}
