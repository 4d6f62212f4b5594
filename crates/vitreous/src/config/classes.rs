//! Which classes of a data set a run uses: `even`, `odd`, or a list of their names or numbers.
//!
//! - The order of the list means nothing: classes stay in the order of the data set.
//! - Where class names are numerals, numbers are names, and `even` and `odd` refer to the numerals. Elsewhere numbers are
//!   positions, counted from 0.
//! - Names are equal if they look the same: Unicode writes `é` as one character or as two.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;
use unicode_normalization::{UnicodeNormalization, is_nfc};

use super::error::RuleError;
use super::schema::{Field, Kind};
use crate::advice::Suggestion;
use crate::numbers::counted;
use crate::spelling;
use crate::text::some_of;

/// What a value of the key should be.
const EXPECTED: &str = "even, odd, or a list of class names or numbers";

/// Most classes that a hint lists.
const LISTED_MAX: usize = 20;

/// A selection of a data set's classes, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClassSubset {
    /// The classes 0, 2, 4, ...
    Even,
    /// The classes 1, 3, 5, ...
    Odd,
    /// These: all of them names, or all of them numbers.
    Listed(Vec<String>),
}

impl ClassSubset {
    /// Reads `even`, `odd`, or names or numbers with commas between them.
    pub fn parse(text: &str) -> ClassSubset {
        match text.trim() {
            "even" => ClassSubset::Even,
            "odd" => ClassSubset::Odd,
            list => ClassSubset::Listed(
                list.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_string).collect(),
            ),
        }
    }

    /// Checks the subset by itself.
    ///
    /// # Errors
    /// When it lists fewer than two classes, or one of them twice.
    pub fn check(&self) -> Result<(), RuleError> {
        let ClassSubset::Listed(items) = self else { return Ok(()) };
        if items.len() < 2 {
            let problem = format!("lists {}, and a classifier needs at least 2", counted(items.len(), "class"));
            let hint = "use even, odd, names such as cat,dog, or numbers such as 0,2,4";
            return Err(RuleError::about("data.classes", problem).suggest(Suggestion::new().text(hint)));
        }
        let mut earlier = HashSet::new();
        let twice = items.iter().find(|item| !earlier.insert(item.as_str()));
        twice.map_or(Ok(()), |item| {
            let suggestion = Suggestion::new().text(format!("name `{item}` once"));
            Err(RuleError::about("data.classes", format!("lists `{item}` twice")).suggest(suggestion))
        })
    }

    /// Returns the numbers of the chosen classes among `names`, in rising order.
    ///
    /// # Errors
    /// When a name or number is not a class, fewer than two classes are left, or `even` or `odd` is asked for
    /// and only some of the names are numerals.
    pub fn places(&self, names: &[String]) -> Result<Vec<usize>, ClassSubsetError> {
        let mut places: Vec<usize> = match self {
            ClassSubset::Even => self.with_parity(0, names)?,
            ClassSubset::Odd => self.with_parity(1, names)?,
            ClassSubset::Listed(items) => listed(items, names)?,
        };
        places.sort_unstable();
        places.dedup();
        if places.len() < 2 {
            let known = names.to_vec();
            return Err(ClassSubsetError::TooFewLeft { subset: self.clone(), left: places.len(), known });
        }
        Ok(places)
    }

    fn with_parity(&self, parity: usize, names: &[String]) -> Result<Vec<usize>, ClassSubsetError> {
        // The last digit decides, for numbers of any length.
        let numerals =
            names.iter().map(|name| numeral(name).map(|digits| usize::from(digits.as_bytes()[digits.len() - 1])));
        let numerals: Vec<Option<usize>> = numerals.collect();
        let parities: Vec<usize> = match numerals.iter().flatten().count() {
            0 => (0..names.len()).collect(),
            some if some < names.len() => {
                let class = names.iter().find(|name| numeral(name).is_none()).cloned().unwrap_or_default();
                return Err(ClassSubsetError::NotAllNumerals { subset: self.clone(), class, known: names.to_vec() });
            }
            _ => numerals.into_iter().flatten().collect(),
        };
        Ok((0..names.len()).filter(|&place| parities[place] % 2 == parity).collect())
    }

    /// Returns how many of `classes` classes are chosen, for a data set whose names are not known.
    pub fn count(&self, classes: usize) -> usize {
        match self {
            ClassSubset::Even => classes.div_ceil(2),
            ClassSubset::Odd => classes / 2,
            ClassSubset::Listed(items) => items.len(),
        }
    }
}

/// The form of a class name that is equal for all ways to write what looks the same (Unicode's normalization form C).
pub fn spelling(name: &str) -> String {
    if is_nfc(name) { name.to_string() } else { name.nfc().collect() }
}

/// The digits of a whole number without leading zeros, if a name is one.
fn numeral(name: &str) -> Option<&str> {
    let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| name[..name.len() - 1].trim_start_matches('0')).map(|start| &name[name.len() - 1 - start.len()..])
}

/// The places of the listed classes: each is a name, or the number that a name is, or else all are positions.
fn listed(items: &[String], names: &[String]) -> Result<Vec<usize>, ClassSubsetError> {
    let by_name: HashMap<String, usize> = names.iter().map(|name| spelling(name)).zip(0..).collect();
    let mut by_number: HashMap<&str, Option<usize>> = HashMap::new();
    for (place, name) in names.iter().enumerate() {
        if let Some(digits) = numeral(name) {
            // Of `1` and `01` a number means neither; each is found by its name.
            by_number.entry(digits).and_modify(|known| *known = None).or_insert(Some(place));
        }
    }
    let place = |item: &String| {
        let by_number = || by_number.get(numeral(item)?).copied().flatten();
        by_name.get(&spelling(item)).copied().or_else(by_number)
    };
    let Some(missing) = items.iter().find(|item| place(item).is_none()) else {
        return Ok(items.iter().filter_map(place).collect());
    };
    let known = names.to_vec();
    let numbers: Option<Vec<usize>> = items.iter().map(|item| item.parse().ok()).collect();
    match numbers.filter(|_| by_number.is_empty()) {
        Some(numbers) => match numbers.iter().find(|&&number| number >= names.len()) {
            Some(&number) => Err(ClassSubsetError::Number { number, known }),
            None => Ok(numbers),
        },
        None => Err(ClassSubsetError::Unknown { class: missing.clone(), known }),
    }
}

impl fmt::Display for ClassSubset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClassSubset::Even => f.write_str("even"),
            ClassSubset::Odd => f.write_str("odd"),
            ClassSubset::Listed(items) => f.write_str(&items.join(",")),
        }
    }
}

impl Serialize for ClassSubset {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ClassSubset::Listed(items) => items.serialize(serializer),
            word => serializer.collect_str(word),
        }
    }
}

impl<'de> Deserialize<'de> for ClassSubset {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = from_toml(&toml::Value::deserialize(deserializer)?);
        read.ok_or_else(|| serde::de::Error::custom(format!("expected {EXPECTED}")))
    }
}

impl Field for ClassSubset {
    const KIND: Kind = Kind::Other { expected: EXPECTED, accepts: |value| from_toml(value).is_some() };
}

fn from_toml(value: &toml::Value) -> Option<ClassSubset> {
    let item = |value: &toml::Value| match value {
        toml::Value::String(name) => Some(name.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        _ => None,
    };
    match value {
        toml::Value::String(text) => Some(ClassSubset::parse(text)),
        toml::Value::Integer(number) => Some(ClassSubset::Listed(vec![number.to_string()])),
        toml::Value::Array(items) => items.iter().map(item).collect::<Option<_>>().map(ClassSubset::Listed),
        _ => None,
    }
}

/// What is wrong with a subset of classes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum ClassSubsetError {
    /// A name is not a class of the data set.
    #[error("classes lists `{class}`, which is not a class of the data")]
    Unknown { class: String, known: Vec<String> },
    /// A number is not a class of the data set.
    #[error("classes lists the number {number}, but the classes of the data are numbered 0 to {}", known.len() - 1)]
    Number { number: usize, known: Vec<String> },
    /// The names do not say which classes are even.
    #[error("classes {subset} needs class names that are all numbers, or none of them, and `{class}` is not a number")]
    NotAllNumerals { subset: ClassSubset, class: String, known: Vec<String> },
    /// The data set has too few classes.
    #[error("classes {subset} leaves {} of {}, and a classifier needs at least 2", left, known.len())]
    TooFewLeft { subset: ClassSubset, left: usize, known: Vec<String> },
}

impl ClassSubsetError {
    /// Says what would work instead.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            ClassSubsetError::NotAllNumerals { known, .. } => {
                format!("list the classes: they are {}", some_of(known, LISTED_MAX))
            }
            // Another number is another class, not a misspelling.
            ClassSubsetError::Unknown { class, known } if numeral(class).is_some() => {
                format!("the classes are {}", some_of(known, LISTED_MAX))
            }
            ClassSubsetError::Unknown { class, known } => {
                match spelling::nearest(class, known.iter().map(String::as_str)) {
                    Some(nearest) => format!("did you mean `{nearest}`?"),
                    None => format!("the classes are {}", some_of(known, LISTED_MAX)),
                }
            }
            ClassSubsetError::Number { known, .. } | ClassSubsetError::TooFewLeft { known, .. } => {
                format!("the classes are {}", some_of(known, LISTED_MAX))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    fn places(text: &str, of: &[&str]) -> Vec<usize> {
        ClassSubset::parse(text).places(&names(of)).unwrap()
    }

    fn refused(text: &str, of: &[&str]) -> [String; 2] {
        let error = ClassSubset::parse(text).places(&names(of)).expect_err("the subset is bad");
        [error.to_string(), error.hint().expect("a hint")]
    }

    const PETS: [&str; 5] = ["ant", "bee", "cat", "dog", "emu"];

    #[test]
    fn words_names_and_numbers_choose_in_the_order_of_the_data() {
        assert_eq!(places("even", &PETS), [0, 2, 4]);
        assert_eq!(places("odd", &PETS), [1, 3]);
        assert_eq!(places("emu, bee", &PETS), [1, 4]);
        assert_eq!(places("4,0", &PETS), [0, 4]);
    }

    #[test]
    fn numbers_that_are_names_are_names() {
        assert_eq!(places("1,3", &["1", "2", "3"]), [0, 2]);
        let [error, hint] = refused("1,3", &["0", "1", "2", "4", "5"]);
        assert_eq!(error, "classes lists `3`, which is not a class of the data");
        assert_eq!(hint, "the classes are 0, 1, 2, 4, 5");
        assert_eq!(refused("0,2", &["1", "2", "3"])[0], "classes lists `0`, which is not a class of the data");
        // One numeral among the names is enough.
        assert_eq!(refused("0,1", &["1", "2", "cat"])[0], "classes lists `0`, which is not a class of the data");
        assert_eq!(places("2,cat", &["1", "2", "cat"]), [1, 2]);
        assert_eq!(places("1,10", &["001", "002", "010"]), [0, 2]);
        assert_eq!(places("1,01", &["01", "1", "2"]), [0, 1]);
        assert_eq!(refused("001,2", &["01", "1", "2"])[0], "classes lists `001`, which is not a class of the data");
    }

    #[test]
    fn even_and_odd_are_the_numerals_and_else_the_places() {
        let gap = ["0", "1", "2", "4", "5"];
        assert_eq!([places("even", &gap), places("odd", &gap)], [vec![0, 2, 3], vec![1, 4]]);
        let sorted_as_text = ["1", "10", "11", "2", "99999999999999999999999999999"];
        assert_eq!(places("odd", &sorted_as_text), [0, 2, 4]);
        let digits = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
        assert_eq!(places("odd", &digits), [1, 3, 5, 7, 9]);
        let [error, hint] = refused("even", &["0", "1", "2", "other"]);
        let expected =
            "classes even needs class names that are all numbers, or none of them, and `other` is not a number";
        assert_eq!([error.as_str(), &hint], [expected, "list the classes: they are 0, 1, 2, other"]);
    }

    #[test]
    fn names_that_look_the_same_are_the_same() {
        assert_eq!(places("caf\u{e9},bar", &["bar", "cafe\u{301}", "inn"]), [0, 1]);
        assert_eq!(places("cafe\u{301},inn", &["bar", "caf\u{e9}", "inn"]), [1, 2]);
        assert_ne!(spelling("cafe"), spelling("caf\u{e9}"));
    }

    #[test]
    fn many_thousand_classes_take_no_time_for_each_pair_of_them() {
        let names: Vec<String> = (0..40_000).map(|number| format!("class-{number}")).collect();
        let start = std::time::Instant::now();
        let numbers: Vec<String> = (0..40_000).map(|number| number.to_string()).collect();
        for items in [numbers, names.clone()] {
            let subset = ClassSubset::parse(&items.join(","));
            subset.check().unwrap();
            assert_eq!(subset.places(&names).unwrap().len(), 40_000);
        }
        // Pairs would take minutes.
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    }

    #[test]
    fn an_unknown_class_is_named_with_its_neighbor() {
        assert_eq!(
            refused("cat,dgo", &PETS),
            ["classes lists `dgo`, which is not a class of the data", "did you mean `dog`?"]
        );
        let [error, hint] = refused("cat,zebrafish", &PETS);
        assert_eq!(error, "classes lists `zebrafish`, which is not a class of the data");
        assert_eq!(hint, "the classes are ant, bee, cat, dog, emu");
        assert_eq!(refused("cat,3", &PETS)[0], "classes lists `3`, which is not a class of the data");
        assert_eq!(refused("-1,3", &PETS)[0], "classes lists `-1`, which is not a class of the data");
        let [error, hint] = refused("0,5", &PETS);
        assert_eq!(error, "classes lists the number 5, but the classes of the data are numbered 0 to 4");
        assert_eq!(hint, "the classes are ant, bee, cat, dog, emu");
    }

    #[test]
    fn one_class_or_none_is_too_few() {
        assert_eq!(
            refused("odd", &["ant", "bee", "cat"]),
            ["classes odd leaves 1 of 3, and a classifier needs at least 2", "the classes are ant, bee, cat"]
        );
        assert_eq!(refused("1,01", &PETS)[0], "classes 1,01 leaves 1 of 5, and a classifier needs at least 2");
        let checked = |text: &str| ClassSubset::parse(text).check().unwrap_err().to_string();
        assert_eq!(checked("cat"), "classes lists 1 class, and a classifier needs at least 2");
        assert_eq!(checked(" , "), "classes lists 0 classes, and a classifier needs at least 2");
        assert_eq!(checked("cat,dog,cat"), "classes lists `cat` twice");
    }

    #[test]
    fn a_hint_lists_no_more_than_a_few_of_many_classes() {
        let many: Vec<String> = (0..23).map(|i| format!("class-{i}")).collect();
        let hint = ClassSubset::parse("0,30").places(&many).unwrap_err().hint().unwrap();
        assert!(hint.ends_with("class-18, class-19 and 3 more"), "{hint}");
    }

    #[test]
    fn toml_has_three_spellings_and_keeps_them() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Table {
            classes: ClassSubset,
        }
        let read = |text: &str| toml::from_str::<Table>(text).unwrap().classes;
        assert_eq!(read("classes = \"odd\""), ClassSubset::Odd);
        assert_eq!(read("classes = \"cat, dog\""), ClassSubset::Listed(names(&["cat", "dog"])));
        assert_eq!(read("classes = [0, 2]"), ClassSubset::Listed(names(&["0", "2"])));
        assert_eq!(read("classes = [\"a, b\", \"c\"]"), ClassSubset::Listed(names(&["a, b", "c"])));
        for text in ["classes = \"even\"\n", "classes = [\"a, b\", \"c\"]\n"] {
            let table: Table = toml::from_str(text).unwrap();
            assert_eq!(toml::to_string(&table).unwrap(), text);
        }
        let error = toml::from_str::<Table>("classes = [true]").unwrap_err();
        assert!(error.message().ends_with(EXPECTED), "{error}");
    }
}
