//! From values to pixels, and the numbers along an axis.

use crate::numbers;

/// The share of an axis that stays free at the end of its values.
const MARGIN: f64 = 0.04;

/// Largest divided by smallest value from which an axis that may be logarithmic is.
const LOG_FROM: f64 = 20.0;

/// Values beyond these have no place on a logarithmic axis: no loss is as small or as large, only damaged files are.
const LOG_ENDS: [f64; 2] = [1e-30, 1e30];

/// A straight or logarithmic axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    low: f64,
    high: f64,
    is_log: bool,
    start: f64,
    end: f64,
    ticks: Vec<f64>,
    step: f64,
}

/// The smallest and the largest of the values that are finite.
pub fn range(values: impl IntoIterator<Item = f64>) -> Option<[f64; 2]> {
    let finite = values.into_iter().filter(|value| value.is_finite());
    finite.fold(None, |range: Option<[f64; 2]>, value| {
        Some(range.map_or([value; 2], |[low, high]| [low.min(value), high.max(value)]))
    })
}

impl Scale {
    /// An axis from `low` to `high` exactly, with about so many numbers.
    pub fn exact([low, high]: [f64; 2], [start, end]: [f64; 2], numbers: usize) -> Scale {
        let high = if high > low { high } else { low + 1.0 };
        let step = nice_step((high - low) / numbers.max(1) as f64);
        let first = (low / step - 1e-9).ceil();
        // No axis has more than 100 numbers, also where its ends are so close that a step is lost in rounding.
        let ticks =
            (0..100).map(|i| (first + f64::from(i)) * step).take_while(|tick| *tick <= high + step * 1e-9).collect();
        Scale { low, high, is_log: false, start, end, ticks, step }
    }

    /// An axis from 0 to a little beyond a largest value, with the numbers of both.
    pub fn up_to(most: f64, pixels: [f64; 2]) -> Scale {
        let most = if most > 0.0 { most } else { 1.0 };
        Scale { ticks: vec![0.0, most], step: 0.0, ..Scale::exact([0.0, most * (1.0 + 2.0 * MARGIN)], pixels, 1) }
    }

    /// An axis for values in a range: a little longer than it.
    pub fn around([low, high]: [f64; 2], pixels: [f64; 2], numbers: usize) -> Scale {
        let room = match high - low {
            0.0 => (low.abs() * 0.1).max(1e-3),
            room => room * MARGIN,
        };
        Scale::exact([low - room, high + room], pixels, numbers)
    }

    /// As [`Scale::around`], logarithmic where positive values differ by more than a factor of 20.
    pub fn log_if_wide([low, high]: [f64; 2], pixels: [f64; 2], numbers: usize) -> Scale {
        if low <= 0.0 || high / low < LOG_FROM || low >= LOG_ENDS[1] {
            let from_zero = if low >= 0.0 && low < high / 2.0 { 0.0 } else { low };
            let scale = Scale::around([low, high], pixels, numbers);
            return if from_zero == 0.0 { Scale::exact([0.0, scale.high], pixels, numbers) } else { scale };
        }
        let [low, high] = [low, high].map(|end| end.clamp(LOG_ENDS[0], LOG_ENDS[1]));
        let factor = (high / low).powf(MARGIN);
        let (low, high) = (low / factor, high * factor);
        let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
        let of = |parts: &[f64]| -> Vec<f64> {
            let all = decades.clone().flat_map(|power| parts.iter().map(move |part| part * 10f64.powi(power)));
            all.filter(|tick| (low..=high).contains(tick)).collect()
        };
        // As many as there is room for: 1, 2, 5, or powers of ten only, or not each of these.
        let choices = [of(&[1.0, 2.0, 5.0]), of(&[1.0, 3.0]), of(&[1.0])];
        let fewest = choices.iter().find(|ticks| ticks.len() <= numbers + 1).unwrap_or(&choices[2]);
        let every = fewest.len().div_ceil(numbers + 1).max(1);
        let ticks = fewest.iter().copied().step_by(every).collect();
        let [start, end] = pixels;
        Scale { low, high, is_log: true, start, end, ticks, step: 0.0 }
    }

    /// Where a value is, at an end of the axis if it lies beyond it; NaN where it has no place.
    pub fn at(&self, value: f64) -> f64 {
        let part = match self.is_log {
            true if value <= 0.0 => return f64::NAN,
            true => (value / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        };
        self.start + part.clamp(0.0, 1.0) * (self.end - self.start)
    }

    /// The numbers along the axis, each with its text.
    pub fn ticks(&self) -> Vec<(f64, String)> {
        let largest = self.ticks.iter().fold(0.0, |most: f64, tick| most.max(tick.abs()));
        let text = |tick: f64| match tick {
            _ if self.step == 0.0 => short(tick),
            _ => fixed(tick, self.step, largest),
        };
        self.ticks.iter().map(|&tick| (tick, text(tick))).collect()
    }

    /// Whether it is logarithmic.
    pub fn is_log(&self) -> bool {
        self.is_log
    }
}

/// The smallest of 1, 2 and 5 times a power of ten that reaches a number.
fn nice_step(least: f64) -> f64 {
    let power = 10f64.powi(least.log10().floor() as i32);
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|part| part * power)
        .find(|step| *step >= least * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
}

/// A number with as many decimals as the step between numbers has.
fn fixed(value: f64, step: f64, largest: f64) -> String {
    if value.abs() < step * 1e-6 {
        return "0".to_string();
    }
    if !(1e-3..1e7).contains(&largest) {
        return exponent(value);
    }
    let decimals = (-step.log10() - 1e-9).ceil().max(0.0) as usize;
    if decimals == 0 && largest >= 10_000.0 {
        let sign = if value < 0.0 { "−" } else { "" };
        return format!("{sign}{}", numbers::count(value.abs().round() as u64));
    }
    format!("{value:.decimals$}").replace('-', "−")
}

/// A number with few digits: `0.05`, `3e−5`, `20`, `50k`.
pub fn short(value: f64) -> String {
    for (size, letter) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if value.abs() >= 10.0 * size || (value.abs() >= size && size > 1e3) {
            return if value.abs() < 1e12 { format!("{}{letter}", short(value / size)) } else { exponent(value) };
        }
    }
    if value != 0.0 && value.abs() < 1e-3 {
        return exponent(value);
    }
    let decimals = (2.0 - value.abs().max(1e-9).log10().floor()).clamp(0.0, 6.0) as usize;
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    text.replace('-', "−")
}

fn exponent(value: f64) -> String {
    let text = format!("{value:.1e}");
    let (digits, power) = text.split_once('e').expect("an exponent is written");
    format!("{}e{power}", digits.trim_end_matches(".0")).replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(scale: &Scale) -> Vec<String> {
        scale.ticks().into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn numbers_are_round_and_have_the_decimals_they_need() {
        let of = |low, high| texts(&Scale::exact([low, high], [0.0, 100.0], 5));
        assert_eq!(of(0.0, 1.0), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"].map(|t| if t == "0.0" { "0" } else { t }));
        assert_eq!(of(0.913, 0.987), ["0.92", "0.94", "0.96", "0.98"]);
        assert_eq!(of(-3.0, 7.0), ["−2", "0", "2", "4", "6"]);
        assert_eq!(of(0.0, 50_000.0), ["0", "10,000", "20,000", "30,000", "40,000", "50,000"]);
        assert_eq!(of(0.0, 3e-4), ["0", "1e−4", "2e−4", "3e−4"]);
        assert_eq!(of(2.0, 2.0), ["2.0", "2.2", "2.4", "2.6", "2.8", "3.0"]);
    }

    #[test]
    fn an_axis_is_logarithmic_only_for_wide_positive_values() {
        let of = |low, high| Scale::log_if_wide([low, high], [100.0, 0.0], 5);
        let wide = of(0.01, 3.0);
        assert!(wide.is_log());
        assert_eq!(texts(&wide), ["0.01", "0.03", "0.1", "0.3", "1", "3"]);
        assert!((wide.at(0.1) - wide.at(0.01) - (wide.at(1.0) - wide.at(0.1))).abs() < 1e-9);
        assert!(wide.at(0.0).is_nan());
        assert!(!of(0.5, 3.0).is_log() && !of(0.0, 3.0).is_log());
        assert_eq!((of(0.5, 3.0).at(0.0), of(2.9, 3.0).at(2.95).round()), (100.0, 50.0));
        for ends in [[1e-9, 1e9], [1e-300, 1e300], [5e-324, f64::MAX], [-f64::MAX, f64::MAX], [1e16, 1e16 + 2.0]] {
            assert!(of(ends[0], ends[1]).ticks().len() <= 6, "{ends:?}");
        }
        assert_eq!((wide.at(1e-300), wide.at(1e300)), (100.0, 0.0));
        let shown = [0.0, 3e-5, 0.25, -7.5, 300.0, 9999.0, 20_000.0, 1.5e6, 2e9, 3e13].map(short);
        assert_eq!(shown, ["0", "3e−5", "0.25", "−7.5", "300", "9999", "20k", "1.5M", "2G", "3e13"]);
    }

    #[test]
    fn a_range_ignores_what_is_not_finite() {
        assert_eq!(range([f64::NAN, 2.0, -1.0, f64::INFINITY]), Some([-1.0, 2.0]));
        assert_eq!(range([f64::NAN]), None);
        assert_eq!(Scale::around([5.0, 5.0], [0.0, 9.0], 3).at(5.0).round(), 5.0);
    }
}
