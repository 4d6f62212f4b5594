//! What a reader reads and writes: sizes of a strip of digits, and the words it answers with. Source: experiment E5.

/// Digits of a strip at most.
pub const DIGITS_MAX: usize = 5;

/// Height of a strip, and of the digit images it is made of, in pixels.
pub const HEIGHT: usize = 28;

/// Width of a strip, in pixels: room for the most digits side by side.
pub const WIDTH: usize = DIGITS_MAX * HEIGHT;

/// What the reader writes: ten digits, then these.
pub mod words {
    /// Number of words.
    pub const COUNT: usize = 13;
    /// Stands before the first digit.
    pub const START: u8 = 10;
    /// Stands after the last digit.
    pub const END: u8 = 11;
    /// Fills up what the reader is given; never to be written.
    pub const PADDING: u8 = 12;
    /// Words of a target at most: every digit, and the end.
    pub const POSITIONS: usize = super::DIGITS_MAX + 1;

    /// What the reader is given of a strip's digits while it learns: the start, then the digits, then padding.
    pub fn given(digits: &[u8]) -> [u8; POSITIONS] {
        let mut words = [PADDING; POSITIONS];
        words[0] = START;
        words[1..=digits.len()].copy_from_slice(digits);
        words
    }

    /// What it should write: the digits, then the end; nothing after that.
    pub fn targets(digits: &[u8]) -> [Option<u8>; POSITIONS] {
        let mut words = [None; POSITIONS];
        let said = digits.iter().copied().chain([END]);
        words.iter_mut().zip(said).for_each(|(word, said)| *word = Some(said));
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_runs_one_word_behind_what_is_asked_for() {
        let (given, targets) = (words::given(&[4, 0, 7]), words::targets(&[4, 0, 7]));
        assert_eq!(given, [10, 4, 0, 7, 12, 12]);
        assert_eq!(targets, [Some(4), Some(0), Some(7), Some(11), None, None]);
        assert!(words::targets(&[1; 5]).iter().all(Option::is_some));
    }
}
