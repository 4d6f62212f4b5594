//! Misspelled words: which known name was meant.

/// Returns the candidate closest to `word`, when one is close enough to be what was meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let limit = |candidate: &str| 1 + word.len().min(candidate.len()) / 3;
    candidates
        .into_iter()
        // Every letter more is a change: long words are not compared with short ones.
        .filter(|candidate| word.len().abs_diff(candidate.len()) <= 4 * limit(candidate))
        .map(|candidate| (edit_distance(&word, &candidate.to_lowercase()), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= limit(candidate))
        .map(|(_, candidate)| candidate)
}

/// The words in backquotes: of serde's complaint about an unknown name, that name and those it knows.
pub fn quoted(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_word_finds_its_neighbour_and_nonsense_finds_none() {
        assert_eq!(nearest("embed_dm", ["embed_dim", "depth"]), Some("embed_dim"));
        assert_eq!(nearest("zebra", ["embed_dim", "depth"]), None);
    }
}
