//! Reading strips with a trained reader: greedy decoding or beam search, scores, and strips as text.

mod blocks;
mod decode;
mod scores;

pub use blocks::blocks;
pub use decode::{Reader, Reading};
pub use scores::{LengthScores, ReadingScores, ReadingTally};

use crate::csv;
use crate::data::digits_text;

/// Writes readings as CSV: `strip,truth,reading,probability`.
pub fn readings_csv(truths: &[Vec<u8>], readings: &[Reading]) -> String {
    let mut text = csv::line(["strip", "truth", "reading", "probability"]);
    for (strip, (truth, reading)) in truths.iter().zip(readings).enumerate() {
        let columns = [
            strip.to_string(),
            digits_text(truth),
            digits_text(&reading.digits),
            format!("{:.6}", reading.probability),
        ];
        text.push_str(&csv::line(columns.each_ref().map(String::as_str)));
    }
    text
}
