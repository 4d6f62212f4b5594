//! Flags that choose the plots of a command. They change no result, so no run records them.

use crate::plot::{Format, Theme};
use crate::plots::PlotChoice;

/// An environment variable: where it is set, commands make no plots unless they are asked to.
const NO_PLOTS: &str = "VITREOUS_NO_PLOTS";

/// Which plots to make.
#[derive(clap::Args)]
pub struct PlotArgs {
    /// Make no plots in the run's folder plots/ (so does the environment variable VITREOUS_NO_PLOTS)
    #[arg(long, conflicts_with_all = ["plot_formats", "plot_theme"])]
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
}

/// Colors for a kind of page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ThemeArg {
    /// For paper
    Light,
    /// For dark pages
    Dark,
}

impl PlotArgs {
    /// The choice; none where no plots are wanted.
    pub fn choice(&self) -> Option<PlotChoice> {
        let is_asked = !self.how.plot_formats.is_empty() || self.how.plot_theme.is_some();
        let is_off = self.no_plots || (!is_asked && std::env::var_os(NO_PLOTS).is_some());
        (!is_off).then(|| self.how.choice())
    }
}

impl FormatArgs {
    /// The choice.
    pub fn choice(&self) -> PlotChoice {
        let mut formats = self.plot_formats.clone();
        formats.sort_unstable();
        formats.dedup();
        let theme = if self.plot_theme == Some(ThemeArg::Dark) { Theme::Dark } else { Theme::Light };
        let default = PlotChoice { theme, ..PlotChoice::default() };
        if formats.is_empty() { default } else { PlotChoice { formats, ..default } }
    }
}
