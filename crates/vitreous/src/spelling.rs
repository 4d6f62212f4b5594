//! Finds the known name that a misspelled word is closest to.

/// Returns the candidate closest to `word`, if one is close enough.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let limit = |candidate: &str| 1 + word.len().min(candidate.len()) / 3;
    candidates
        .into_iter()
        // Each additional letter is an edit: long words are not compared with short ones.
        .filter(|candidate| word.len().abs_diff(candidate.len()) <= 4 * limit(candidate))
        .map(|candidate| (edit_distance(&word, &candidate.to_lowercase()), candidate))
        .min_by_key(|(distance, _)| *distance)
        // Half of the letters must stay: `gpu` is not a misspelled `opt`.
        .filter(|(distance, candidate)| {
            *distance <= limit(candidate) && 2 * distance <= word.len().max(candidate.len())
        })
        .map(|(_, candidate)| candidate)
}

/// Returns up to `most` candidates that may be meant: those that contain the word, else the closest.
pub fn nearest_few<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>, most: usize) -> Vec<&'a str> {
    let word = word.to_lowercase();
    let candidates: Vec<&str> = candidates.into_iter().collect();
    let contains = |candidate: &&&str| word.len() > 2 && candidate.to_lowercase().contains(&word);
    let containing: Vec<&str> = candidates.iter().filter(contains).copied().take(most).collect();
    if containing.is_empty() { nearest(&word, candidates).into_iter().collect() } else { containing }
}

/// How many letters are inserted, removed, replaced or swapped with their neighbor between two words.
fn edit_distance(a: &str, b: &str) -> usize {
    let [a, b]: [Vec<char>; 2] = [a, b].map(|word| word.chars().collect());
    let (mut before, mut last) = (Vec::new(), (0..=b.len()).collect::<Vec<usize>>());
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let replaced = last[j] + usize::from(a[i] != b[j]);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_word_finds_the_nearest_name_and_nonsense_finds_none() {
        assert_eq!(nearest("embed_dm", ["embed_dim", "depth"]), Some("embed_dim"));
        assert_eq!(nearest("zebra", ["embed_dim", "depth"]), None);
        assert_eq!((nearest("gpu", ["opt"]), nearest("rleu", ["relu"])), (None, Some("relu")));
        assert_eq!(nearest("dgo", ["cat", "dog"]), Some("dog"));
        let presets = ["digits", "mnist-vit", "mnist-vit-upright", "fashion-vit", "mnist-cnn"];
        assert_eq!(nearest_few("mnist", presets, 2), ["mnist-vit", "mnist-vit-upright"]);
        assert_eq!(nearest_few("fashion", presets, 3), ["fashion-vit"]);
        assert_eq!(nearest_few("mnist-vti", presets, 3), ["mnist-vit"]);
        assert_eq!(nearest_few("zebra", presets, 3), [""; 0]);
    }
}
