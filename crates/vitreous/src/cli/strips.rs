//! Output for strips: readings and their scores.

use super::CliError;
use super::screen::{Align, table};
use crate::config::strips::WIDTH;
use crate::data::ImageSet;
use crate::data::digits_text;
use crate::evaluate::reading::{Reading, ReadingScores, blocks};
use crate::evaluate::{Answers, Report};
use crate::numbers;

/// Maximum beam width: all readings of two digits.
const BEAM_MAX: usize = 100;

/// Default beam width: greedy decoding.
pub const BEAM: usize = 1;

/// Default number of strips to print.
pub const EXAMPLES: usize = 3;

/// The error for a flag that only readers have.
pub fn not_a_reader(flag: &str) -> CliError {
    CliError::user(
        format!("{flag} is only for readers, but this model is a classifier"),
        Some(format!("leave out {flag}")),
    )
}

/// Parses a beam width.
pub fn beam(text: &str) -> Result<usize, String> {
    let number = text.parse::<usize>().ok().filter(|number| (1..=BEAM_MAX).contains(number));
    number.ok_or_else(|| format!("not a whole number between 1 and {BEAM_MAX}"))
}

/// Draws the first strips, with the digits on them and the model's reading below each.
pub fn examples(set: &dyn ImageSet, answers: &Answers, count: usize) -> String {
    let Answers::Readings { truths, readings } = answers else { return String::new() };
    let example = |(i, (truth, reading)): (usize, (&Vec<u8>, &Reading))| {
        let mut canvas = Vec::new();
        let strip = blocks(set.pixels(i, &mut canvas), WIDTH);
        format!("{strip}strip {i}: {}, read as {}\n\n", digits_text(truth), reading_text(reading))
    };
    truths.iter().zip(readings).enumerate().take(count).map(example).collect()
}

/// A reading with its probability.
pub fn reading_text(reading: &Reading) -> String {
    let digits = if reading.digits.is_empty() { "nothing".to_string() } else { digits_text(&reading.digits) };
    format!("{digits} ({})", numbers::percent(reading.probability))
}

/// The scores of a split's strips.
pub fn text(report: &Report, scores: &ReadingScores) -> String {
    let mut rows = vec![["digits", "strips", "exact match"].map(str::to_string)];
    rows.extend(scores.lengths.iter().map(|length| {
        let part = length.exact as f64 / length.strips.max(1) as f64;
        [length.digits.to_string(), numbers::count(length.strips), numbers::percent(part)]
    }));
    let [low, high] = scores.exact_match_interval.map(numbers::percent);
    let decoding = if scores.beam == 1 { "greedy".to_string() } else { format!("beam width {}", scores.beam) };
    format!(
        "{}\n{}loss {:.4}, exact match {} (95 % interval {low} to {high}), digit accuracy {}\n",
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
    fn a_beam_width_is_between_1_and_100() {
        assert_eq!(beam("7"), Ok(7));
        for bad in ["0", "-1", "x", "101"] {
            assert_eq!(beam(bad), Err("not a whole number between 1 and 100".to_string()), "{bad}");
        }
    }

    #[test]
    fn an_empty_reading_is_written_as_nothing() {
        assert_eq!(reading_text(&Reading { digits: vec![4, 0, 7], probability: 0.875 }), "407 (87.50 %)");
        assert_eq!(reading_text(&Reading { digits: vec![], probability: 0.5 }), "nothing (50.00 %)");
    }
}
