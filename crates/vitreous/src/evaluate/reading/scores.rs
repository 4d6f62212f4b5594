//! Scores of a reader.

use serde::{Deserialize, Serialize};

use super::super::{Totals, wilson_interval};
use super::Reading;
use crate::config::strips::DIGITS_MAX;

/// Scores of a reader on the strips of a split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReadingScores {
    /// Strips read.
    pub strips: u64,
    /// Beam width; 1 is greedy decoding.
    pub beam: u64,
    /// Mean cross-entropy of a word after the correct words, without label smoothing.
    pub loss: f64,
    /// Fraction of the strips whose digits, and their number, are all correct.
    pub exact_match: f64,
    /// Wilson's 95 % interval of `exact_match`.
    pub exact_match_interval: [f64; 2],
    /// Fraction of digits that are correct, each at its position; extra digits count as wrong.
    pub digit_accuracy: f64,
    /// Exact matches by the number of digits on the strip, from 1 on.
    pub lengths: Vec<LengthScores>,
}

/// Scores of strips with one number of digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LengthScores {
    /// Digits on the strip.
    pub digits: u64,
    /// Strips read.
    pub strips: u64,
    /// Strips whose digits are all correct.
    pub exact: u64,
}

/// Accumulates scores.
#[derive(Clone, Debug, Default)]
pub struct ReadingTally {
    words: Totals,
    /// Strips read and exact matches, by the number of digits.
    lengths: [[u64; 2]; DIGITS_MAX],
    right: u64,
    places: u64,
}

impl ReadingTally {
    /// Adds a strip: its digits, the reading, and the logits of every word after the correct words.
    ///
    /// # Shapes
    /// - `logits`: `[positions, words]`
    pub fn add(&mut self, truth: &[u8], reading: &Reading, logits: &[f32]) {
        self.words.add_words(logits, truth);
        let [strips, exact] = &mut self.lengths[truth.len() - 1];
        *strips += 1;
        *exact += u64::from(truth == reading.digits);
        self.right += truth.iter().zip(&reading.digits).filter(|(a, b)| a == b).count() as u64;
        self.places += truth.len().max(reading.digits.len()) as u64;
    }

    /// Returns the scores, with this beam width.
    pub fn finish(self, beam: usize) -> ReadingScores {
        let [strips, exact] = [0, 1].map(|which| self.lengths.iter().map(|counts| counts[which]).sum::<u64>());
        let lengths = (1..).zip(self.lengths);
        ReadingScores {
            strips,
            beam: beam as u64,
            loss: self.words.loss(),
            exact_match: exact as f64 / strips.max(1) as f64,
            exact_match_interval: wilson_interval(exact, strips),
            digit_accuracy: self.right as f64 / self.places.max(1) as f64,
            lengths: lengths.map(|(digits, [strips, exact])| LengthScores { digits, strips, exact }).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::strips::words;

    #[test]
    fn a_digit_counts_at_its_position_and_extra_digits_count_as_wrong() {
        let truths = [vec![1, 2, 3], vec![4], vec![5, 6], vec![7]];
        let read = [vec![1, 2, 3], vec![4, 4], vec![6, 6], vec![]];
        let mut tally = ReadingTally::default();
        for (truth, digits) in truths.iter().zip(read) {
            let logits = [0.0; words::COUNT * words::POSITIONS];
            tally.add(truth, &Reading { digits, probability: 0.5 }, &logits);
        }
        let scores = tally.finish(1);
        assert_eq!((scores.strips, scores.exact_match), (4, 0.25));
        // 3 of 3, 1 of 2, 1 of 2, 0 of 1.
        assert_eq!(scores.digit_accuracy, 5.0 / 8.0);
        let found: Vec<(u64, u64)> = scores.lengths.iter().map(|length| (length.strips, length.exact)).collect();
        assert_eq!(found, [(2, 0), (1, 0), (1, 1), (0, 0), (0, 0)]);
        assert!((scores.loss - 13f64.ln()).abs() < 1e-12, "every word is as likely as another");
    }
}
