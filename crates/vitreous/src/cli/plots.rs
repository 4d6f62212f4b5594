//! Flags that choose the plots of a command. They change no result, so no run records them.

use std::io::Write;
use std::path::Path;

use super::CliError;
use super::output::{check_output, write_output};
use crate::plot::style::Style;
use crate::plot::{Figure, Format, Theme};
use crate::plots::{PlotChoice, plot_names};
use crate::record::PLOTS;

/// An environment variable: where it is set, commands make no plots unless they are asked to.
const NO_PLOTS: &str = "VITREOUS_NO_PLOTS";

/// Which plots to make.
#[derive(clap::Args)]
pub struct PlotArgs {
    /// Make no plots in the run's folder plots/ (so does the environment variable VITREOUS_NO_PLOTS)
    #[arg(long, conflicts_with_all = ["plot_formats", "plot_theme", "no_plot_titles"])]
    no_plots: bool,
    #[command(flatten)]
    how: FormatArgs,
}

/// How plots are saved.
#[derive(clap::Args)]
pub struct FormatArgs {
    /// Kinds of files of each plot: svg, png, pdf [default: svg,png]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    plot_formats: Vec<Format>,
    /// Colors of the plots [default: light]
    #[arg(long, value_name = "NAME")]
    plot_theme: Option<ThemeArg>,
    /// Make plots without titles, for documents with captions
    #[arg(long)]
    no_plot_titles: bool,
}

impl FormatArgs {
    /// Whether any of the flags was given.
    pub fn is_given(&self) -> bool {
        !self.plot_formats.is_empty() || self.plot_theme.is_some() || self.no_plot_titles
    }
}

/// Colors for a kind of page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ThemeArg {
    /// For paper
    Light,
    /// For dark pages
    Dark,
}

impl ThemeArg {
    /// The theme that is drawn.
    fn theme_of(chosen: Option<ThemeArg>) -> Theme {
        if chosen == Some(ThemeArg::Dark) { Theme::Dark } else { Theme::Light }
    }

    /// The style of a figure that a command saves.
    pub fn style_of(chosen: Option<ThemeArg>) -> &'static Style {
        ThemeArg::theme_of(chosen).style()
    }
}

/// Where the plots of a run are, and which: `plots: runs/digits/plots (curves, samples)`; none where it has none of these.
pub fn plots_of(run: &Path, is_shown: impl Fn(&str) -> bool) -> Option<String> {
    let mut names = plot_names(run);
    names.retain(|name| is_shown(name));
    (!names.is_empty()).then(|| format!("plots: {} ({})", run.join(PLOTS).display(), names.join(", ")))
}

/// Checks the name of a figure's file, which `flag` gave, before any work; returns the kind that its ending says.
pub fn check_figure(path: &Path, flag: &str) -> Result<Format, CliError> {
    check_output(path, flag, &["png", "svg", "pdf"])?;
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    Ok(ending.parse().expect("the ending was checked"))
}

/// Writes a figure whole.
pub fn save_figure(figure: &Figure, path: &Path, flag: &str) -> Result<(), CliError> {
    let large = |reason| {
        let hint = Some("save it as .svg, or show less".to_string());
        CliError::user(format!("the figure cannot be drawn: {reason} ({})", path.display()), hint)
    };
    let bytes = figure.file(check_figure(path, flag)?).map_err(large)?;
    Ok(write_output(path, |file| file.write_all(&bytes))?)
}

impl PlotArgs {
    /// The choice; none where no plots are wanted.
    pub fn choice(&self) -> Option<PlotChoice> {
        let is_off = self.no_plots || (!self.how.is_given() && std::env::var_os(NO_PLOTS).is_some());
        (!is_off).then(|| self.how.choice())
    }
}

impl FormatArgs {
    /// The choice.
    pub fn choice(&self) -> PlotChoice {
        let mut formats = self.plot_formats.clone();
        formats.sort_unstable();
        formats.dedup();
        let theme = ThemeArg::theme_of(self.plot_theme);
        let default = PlotChoice { theme, has_titles: !self.no_plot_titles, ..PlotChoice::default() };
        if formats.is_empty() { default } else { PlotChoice { formats, ..default } }
    }
}
