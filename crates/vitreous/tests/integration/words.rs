//! The words of docs/glossary.md hold in code, messages and pages.

use crate::tidy::{Source, assert_none, read, sources};

/// The phrases in the glossary's last table, each with what to write instead.
fn rejected() -> Vec<(String, String)> {
    let glossary = read("docs/glossary.md");
    let table = glossary.split("\n| not | but |\n").nth(1).expect("the glossary ends with a table `not`, `but`");
    let rows = table.lines().skip(1).map_while(|line| line.strip_prefix('|')?.strip_suffix('|')?.split_once('|'));
    rows.flat_map(|(not, but)| {
        not.split('`').skip(1).step_by(2).map(|phrase| (phrase.to_string(), but.trim().to_string())).collect::<Vec<_>>()
    })
    .collect()
}

/// Whether a line has a phrase as whole words, in upper or lower case.
fn has(line: &str, phrase: &str) -> bool {
    let is_letter = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(phrase).any(|(start, _)| {
        let (before, after) = (&line[..start], &line[start + phrase.len()..]);
        !before.ends_with(is_letter) && !after.starts_with(is_letter)
    })
}

/// "X is no Y" for "invalid Y": the negation that this project's texts once used everywhere.
fn has_is_no(line: &str) -> bool {
    ["is no ", "are no "].iter().any(|phrase| {
        line.match_indices(phrase).any(|(start, _)| {
            let (before, after) = (&line[..start], &line[start + phrase.len()..]);
            let exists = ["there ", "where there "].iter().any(|word| before.ends_with(word));
            !exists && !["longer", "more", "less"].iter().any(|word| after.starts_with(word))
        })
    })
}

fn is_checked(source: &Source) -> bool {
    let kinds = [".rs", ".md", ".toml", ".py", ".sh"];
    let is_text = kinds.iter().any(|kind| source.path.ends_with(kind)) || source.path.starts_with(".ci/");
    is_text && source.path != "docs/glossary.md" && !source.path.ends_with("/words.rs")
}

#[test]
fn texts_use_the_words_of_the_glossary() {
    let rejected = rejected();
    assert!(rejected.len() > 30, "{rejected:?}");
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| is_checked(source)) {
        for (number, line) in source.text.lines().enumerate() {
            let lower = line.to_lowercase();
            let hits = rejected.iter().filter(|(phrase, _)| has(&lower, phrase));
            let hits = hits.map(|(phrase, but)| format!("`{phrase}`: {but}"));
            let no = has_is_no(&lower).then(|| "`is no`: invalid, not a, without".to_string());
            broken.extend(hits.chain(no).map(|hit| format!("{}:{}: {hit}", source.path, number + 1)));
        }
    }
    assert_none("docs/glossary.md has a better word", &broken);
}

#[test]
fn phrases_are_found_as_whole_words() {
    assert!(has("what is told here", "is told") && !has("this toldly", "is told") && has("amid", "amid"));
    assert!(!has("beside_", "beside") && !has("besides", "beside"));
    assert!(has_is_no("4.5 is no whole number") && !has_is_no("there is no file") && !has_is_no("it is no longer"));
}
