//! Figures of a run: what is drawn of its records, its images and its weights, and the files in its folder `plots/`.
//!
//! [`crate::plot`] draws; here is decided what of. The training's plots are drawn by a thread of their own
//! ([`TrainingPlots`]): steps do not wait for them, and no training fails because of them. Only its first step waits until
//! the samples are chosen, and its end until the last plots are drawn.

pub mod architecture;
mod evaluation;
pub mod images;
mod training;

use std::fmt::Display;
use std::path::Path;

pub use evaluation::{draw_evaluation, evaluation_figures, remove_plots};
pub use training::{TrainingPlots, draw_training, positions, record_and_marks, recorded};

use crate::plot::{Figure, Format, Theme};
use crate::record::{PLOTS, RecordError, Run};

/// Which files are written of each plot. It changes nothing else of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlotChoice {
    /// Kinds of files.
    pub formats: Vec<Format>,
    /// For light or dark pages.
    pub theme: Theme,
    /// Whether they have titles.
    pub has_titles: bool,
}

impl PlotChoice {
    /// The figure as it is saved.
    pub fn of(&self, figure: Figure) -> Figure {
        if self.has_titles { figure } else { figure.without_heading() }
    }
}

impl Default for PlotChoice {
    fn default() -> Self {
        PlotChoice { formats: vec![Format::Svg, Format::Png], theme: Theme::Light, has_titles: true }
    }
}

/// The names of the plots in a run's folder, each once, in the order of the alphabet.
pub fn plot_names(run: &Path) -> Vec<String> {
    let files = std::fs::read_dir(run.join(PLOTS)).into_iter().flatten().filter_map(Result::ok);
    let names = files.filter_map(|file| Some(file.file_name().to_str()?.rsplit_once('.')?.0.to_string()));
    let mut names: Vec<String> = names.filter(|name| !name.is_empty() && !name.starts_with('.')).collect();
    names.sort();
    names.dedup();
    names
}

fn file_of(name: impl Display, format: Format) -> String {
    format!("{PLOTS}/{name}.{format}")
}

/// Removes the files of a plot; returns whether there were any.
fn remove_files(run: &Run, name: impl Display) -> bool {
    let remove = |format: &Format| run.files().remove(&file_of(&name, *format)).is_ok();
    [Format::Svg, Format::Png, Format::Pdf].iter().filter(|format| remove(format)).count() > 0
}

/// Writes plots into the folder of a run.
struct Files<'a> {
    run: &'a Run,
    choice: &'a PlotChoice,
    /// Names of the files that were written.
    written: Vec<String>,
}

impl<'a> Files<'a> {
    /// Makes the folder for plots.
    fn open(run: &'a Run, choice: &'a PlotChoice) -> Result<Files<'a>, RecordError> {
        run.check()?;
        let made = run.files().make_folder(PLOTS);
        made.map_err(|error| run.files().error(PLOTS, &error))?;
        Ok(Files { run, choice, written: Vec::new() })
    }

    /// Draws a plot and writes its files. Where there is nothing to draw, those of an earlier one are removed.
    fn write(
        &mut self,
        name: impl Display,
        draw: impl FnOnce(&'static crate::plot::style::Style) -> Option<Figure>,
    ) -> Result<(), RecordError> {
        let Some(figure) = draw(self.choice.theme.style()) else {
            remove_files(self.run, &name);
            return Ok(());
        };
        let figure = self.choice.of(figure);
        for &format in &self.choice.formats {
            let file = file_of(&name, format);
            // A plot that is too large to be drawn as pixels is still there as SVG.
            let Ok(bytes) = figure.file(format) else { continue };
            self.run.files().write(&file, &bytes)?;
            self.written.push(file);
        }
        Ok(())
    }
}
