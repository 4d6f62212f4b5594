//! The one style of all figures: sizes, and the colors of the light and the dark theme.
//!
//! Series differ in color, lightness, dash and marker, so that they can be told apart in black and white and by readers
//! with any color vision: the palettes were compared under simulated protanopia, deuteranopia and tritanopia.

/// The family that figures name first; the fonts in the program have this name.
pub const FAMILY: &str = "Inter, 'Helvetica Neue', Arial, sans-serif";

/// Sizes of text, in pixels.
pub const TITLE: f64 = 15.0;
/// Of axis labels, legends and subtitles.
pub const LABEL: f64 = 12.0;
/// Of the numbers along axes.
pub const TICK: f64 = 11.0;

/// Dashes of the series, in pixels on and off.
pub const DASHES: [&str; 6] = ["", "6 3", "2 2.5", "9 3 2 3", "12 4", "4 2 1.5 2 1.5 2"];

/// Whether figures are for light or dark pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Theme {
    /// Dark ink on white: for paper.
    #[default]
    Light,
    /// Light ink on a dark page.
    Dark,
}

/// The colors of a theme, as `#rrggbb`.
#[derive(Debug)]
pub struct Style {
    /// The page.
    pub page: &'static str,
    /// Text that matters.
    pub ink: &'static str,
    /// Labels and numbers of axes.
    pub soft: &'static str,
    /// Axes and ticks.
    pub axis: &'static str,
    /// Grid lines.
    pub grid: &'static str,
    /// Series, in this order.
    pub series: [&'static str; 6],
    /// Shares from 0 to 1, evenly perceived: from the page's color to a strong one.
    pub ramp: [[u8; 3]; 5],
    /// From -1 over 0 to 1.
    pub diverging: [[u8; 3]; 5],
}

/// For paper.
pub static LIGHT: Style = Style {
    page: "#ffffff",
    ink: "#1c2530",
    soft: "#55606d",
    axis: "#8a95a3",
    grid: "#e6e9ed",
    series: ["#004488", "#c8455a", "#dda520", "#2a9d8f", "#7b2d6b", "#8cc7e8"],
    ramp: [[255, 255, 255], [205, 222, 240], [139, 178, 219], [61, 123, 186], [0, 62, 128]],
    diverging: [[0, 68, 136], [134, 172, 211], [248, 248, 248], [232, 160, 148], [170, 40, 60]],
};

/// For screens.
pub static DARK: Style = Style {
    page: "#14181f",
    ink: "#e8edf3",
    soft: "#a3afbc",
    axis: "#6b7785",
    grid: "#29303a",
    series: ["#6faef5", "#ef6f84", "#f5d77a", "#4cc2ae", "#b07cc6", "#cdebff"],
    ramp: [[20, 24, 31], [24, 55, 92], [35, 96, 156], [84, 153, 218], [178, 217, 255]],
    diverging: [[120, 180, 250], [52, 92, 140], [26, 31, 39], [148, 62, 72], [250, 140, 140]],
};

impl Theme {
    /// Its colors.
    pub fn style(self) -> &'static Style {
        match self {
            Theme::Light => &LIGHT,
            Theme::Dark => &DARK,
        }
    }
}

impl Style {
    /// The color of a share from 0 to 1.
    pub fn shade(&self, share: f64) -> [u8; 3] {
        between(&self.ramp, share)
    }

    /// The color of a value from -1 to 1.
    pub fn signed(&self, value: f64) -> [u8; 3] {
        between(&self.diverging, (value + 1.0) / 2.0)
    }

    /// The color of text on a color.
    pub fn ink_on(&self, [red, green, blue]: [u8; 3]) -> &'static str {
        let light = 0.299 * f64::from(red) + 0.587 * f64::from(green) + 0.114 * f64::from(blue);
        if light > 140.0 { LIGHT.ink } else { "#ffffff" }
    }
}

/// A color as SVG writes it.
pub fn hex([red, green, blue]: [u8; 3]) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

fn between(stops: &[[u8; 3]; 5], share: f64) -> [u8; 3] {
    let at = if share.is_finite() { share.clamp(0.0, 1.0) * 4.0 } else { 0.0 };
    let first = (at as usize).min(3);
    let part = at - first as f64;
    std::array::from_fn(|channel| {
        let [from, to] = [stops[first][channel], stops[first + 1][channel]].map(f64::from);
        (from + (to - from) * part).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_between_two_stops_are_mixed() {
        assert_eq!((LIGHT.shade(0.0), LIGHT.shade(1.0)), ([255, 255, 255], [0, 62, 128]));
        assert_eq!(LIGHT.shade(0.125), [230, 239, 248]);
        assert_eq!(
            (LIGHT.signed(0.0), LIGHT.signed(9.0), DARK.shade(f64::NAN)),
            ([248; 3], [170, 40, 60], [20, 24, 31])
        );
        assert_eq!((LIGHT.ink_on(LIGHT.shade(0.1)), LIGHT.ink_on(LIGHT.shade(0.9))), (LIGHT.ink, "#ffffff"));
    }
}
