//! Sizes of strips of digits, and the words that a reader writes. Source: experiment E5.

/// Maximum number of digits on a strip.
pub const DIGITS_MAX: usize = 5;

/// Height of a strip, and of the digit images it is made of, in pixels.
pub const HEIGHT: usize = 28;

/// Width of a strip, in pixels: space for the maximum number of digits.
pub const WIDTH: usize = DIGITS_MAX * HEIGHT;

/// The words that a reader writes: ten digits, and these.
pub mod words {
    /// Number of words.
    pub const COUNT: usize = 13;
    /// Before the first digit.
    pub const START: u8 = 10;
    /// After the last digit.
    pub const END: u8 = 11;
    /// Padding of the input; never a target.
    pub const PADDING: u8 = 12;
    /// Maximum number of target words: the digits, and the end.
    pub const POSITIONS: usize = super::DIGITS_MAX + 1;

    /// The decoder's input in training: the start, then the digits, then padding.
    pub fn given(digits: &[u8]) -> [u8; POSITIONS] {
        let mut words = [PADDING; POSITIONS];
        words[0] = START;
        words[1..=digits.len()].copy_from_slice(digits);
        words
    }

    /// The target words: the digits, then the end; nothing after that.
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
    fn the_input_is_one_word_behind_the_targets() {
        let (given, targets) = (words::given(&[4, 0, 7]), words::targets(&[4, 0, 7]));
        assert_eq!(given, [10, 4, 0, 7, 12, 12]);
        assert_eq!(targets, [Some(4), Some(0), Some(7), Some(11), None, None]);
        assert!(words::targets(&[1; 5]).iter().all(Option::is_some));
    }
}
