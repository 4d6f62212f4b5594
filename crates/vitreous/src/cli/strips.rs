//! What is shown of strips of digits and of how well they were read.

use super::CliError;
use super::screen::{Align, table};
use crate::config::strips::WIDTH;
use crate::data::strips::Strips;
use crate::evaluate::Report;
use crate::evaluate::reading::{Reading, ReadingScores, blocks, digits_text};
use crate::numbers;

/// Widest beam: every answer of two digits.
const BEAM_MAX: usize = 100;

/// Width of a beam where none is given: the likeliest word each time.
pub const BEAM: usize = 1;

/// Strips that are shown where no number is given.
pub const EXAMPLES: usize = 3;

/// Says that a flag means something for readers only.
pub fn no_reader(flag: &str) -> CliError {
    CliError::user(format!("the model names classes, it reads no strips ({flag})"), Some(format!("leave out {flag}")))
}

/// Reads the width of a beam.
pub fn beam(text: &str) -> Result<usize, String> {
    let number = text.parse::<usize>().ok().filter(|number| (1..=BEAM_MAX).contains(number));
    number.ok_or_else(|| format!("it is no whole number between 1 and {BEAM_MAX}"))
}

/// Draws the first strips, below each what is on it and what was read.
pub fn examples(strips: &Strips, readings: &[Reading], count: usize) -> String {
    let mut pixels = vec![0; Strips::shape().len()];
    let example = |(i, reading): (usize, &Reading)| {
        strips.compose(i, &mut pixels);
        let (truth, read) = (digits_text(&strips.digits(i)), said(reading));
        format!("{}strip {i}: {truth}, read as {read}\n\n", blocks(&pixels, WIDTH))
    };
    readings.iter().enumerate().take(count).map(example).collect()
}

/// What was read and how sure the model is of it.
pub fn said(reading: &Reading) -> String {
    let digits = if reading.digits.is_empty() { "nothing".to_string() } else { digits_text(&reading.digits) };
    format!("{digits} ({})", numbers::percent(reading.probability))
}

/// How well the strips of a split were read.
pub fn text(report: &Report, scores: &ReadingScores) -> String {
    let mut rows = vec![["digits", "strips", "all right"].map(str::to_string)];
    rows.extend(scores.lengths.iter().map(|length| {
        let part = length.exact as f64 / length.strips.max(1) as f64;
        [length.digits.to_string(), numbers::count(length.strips), numbers::percent(part)]
    }));
    let [low, high] = scores.exact_match_interval.map(numbers::percent);
    let decoding = if scores.beam == 1 { "greedy".to_string() } else { format!("a beam of {}", scores.beam) };
    format!(
        "{}\n{}loss {:.4}, all digits right {} (95 % interval {low} to {high}), single digits {}\n",
        table(&rows, &[Align::Right; 3]),
        line!("{}; {decoding}", report.title("strips", scores.strips)),
        scores.loss,
        numbers::percent(scores.exact_match),
        numbers::percent(scores.digit_accuracy),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beam_has_a_width() {
        assert_eq!(beam("7"), Ok(7));
        for bad in ["0", "-1", "x", "101"] {
            assert_eq!(beam(bad), Err("it is no whole number between 1 and 100".to_string()), "{bad}");
        }
    }

    #[test]
    fn what_was_read_is_said_also_when_it_is_nothing() {
        assert_eq!(said(&Reading { digits: vec![4, 0, 7], probability: 0.875 }), "407 (87.50 %)");
        assert_eq!(said(&Reading { digits: vec![], probability: 0.5 }), "nothing (50.00 %)");
    }
}
