//! Figures: of a run's training, of its predictions, of several runs. Plain records in, [`Figure`]s out.
//!
//! A figure is an SVG document of this program's own layouts, whose bytes follow from what it shows: no clock, path or
//! random number is in it. PNG and PDF files are drawn from it ([`Figure::file`]). To draw something new: start a
//! [`Canvas`](svg::Canvas) with a [`Style`](style::Style), use [`frame`] for axes and legends, and finish it.
//!
//! Nothing here knows the engine, a model or a run folder.

pub mod accuracies;
pub mod architecture;
pub mod calibration;
pub mod confusion;
pub mod curves;
pub mod font;
pub mod frame;
pub mod per_class;
pub mod pictures;
pub mod profile;
mod render;
pub mod scale;
pub mod style;
pub mod svg;
pub mod tokens;

pub use render::{Format, Png, png};
pub use style::Theme;
pub use svg::Figure;

#[cfg(test)]
mod tests;
