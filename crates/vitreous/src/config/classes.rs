//! Which classes of a data set a run uses: `even`, `odd`, or a list of their names or numbers.
//!
//! The order of the list means nothing: classes stay in the order of the data set.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::units;

/// What a value of the key should be, as an error tells it.
pub const EXPECTED: &str = "even, odd, or a list of class names or numbers";

/// Most classes that a hint lists.
const LISTED_MAX: usize = 20;

/// A part of a data set's classes, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClassSubset {
    /// The classes numbered 0, 2, 4, ...
    Even,
    /// The classes numbered 1, 3, 5, ...
    Odd,
    /// These: all of them names, or all of them numbers counted from 0.
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
    pub fn check(&self) -> Result<(), ClassSubsetError> {
        let ClassSubset::Listed(items) = self else { return Ok(()) };
        if items.len() < 2 {
            return Err(ClassSubsetError::TooFewListed { listed: items.len() });
        }
        let twice = items.iter().enumerate().find(|(at, item)| items[..*at].contains(item));
        twice.map_or(Ok(()), |(_, item)| Err(ClassSubsetError::Twice { class: item.clone() }))
    }

    /// Returns the numbers of the chosen classes among `names`, in rising order.
    ///
    /// # Errors
    /// When a name or number is none of the classes, or fewer than two classes are left.
    pub fn places(&self, names: &[String]) -> Result<Vec<usize>, ClassSubsetError> {
        let mut places: Vec<usize> = match self {
            ClassSubset::Even => (0..names.len()).step_by(2).collect(),
            ClassSubset::Odd => (1..names.len()).step_by(2).collect(),
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

    /// Returns how many of `classes` classes are chosen, for a data set whose names are not known.
    pub fn count(&self, classes: usize) -> usize {
        match self {
            ClassSubset::Even => classes.div_ceil(2),
            ClassSubset::Odd => classes / 2,
            ClassSubset::Listed(items) => items.len(),
        }
    }
}

/// A list is one of names wherever it can be: classes may be called `1` and `2`.
fn listed(items: &[String], names: &[String]) -> Result<Vec<usize>, ClassSubsetError> {
    let place = |item: &String| names.iter().position(|name| name == item);
    if let Some(places) = items.iter().map(place).collect() {
        return Ok(places);
    }
    let numbers: Option<Vec<usize>> = items.iter().map(|item| item.parse().ok()).collect();
    if let Some(numbers) = numbers {
        return match numbers.iter().find(|&&number| number >= names.len()) {
            Some(&number) => Err(ClassSubsetError::Number { number, known: names.to_vec() }),
            None => Ok(numbers),
        };
    }
    let class = items.iter().find(|item| place(item).is_none()).expect("some item is no name").clone();
    Err(ClassSubsetError::Unknown { class, known: names.to_vec() })
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
        let item = |value: &toml::Value| match value {
            toml::Value::String(name) => Some(name.clone()),
            toml::Value::Integer(number) => Some(number.to_string()),
            _ => None,
        };
        let read = match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) => Some(ClassSubset::parse(&text)),
            toml::Value::Integer(number) => Some(ClassSubset::Listed(vec![number.to_string()])),
            toml::Value::Array(items) => items.iter().map(item).collect::<Option<_>>().map(ClassSubset::Listed),
            _ => None,
        };
        read.ok_or_else(|| serde::de::Error::custom(format!("expected {EXPECTED}")))
    }
}

/// Says what is wrong with a subset of classes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ClassSubsetError {
    /// The list is too short whatever the data is.
    #[error("classes lists {}, where a classifier needs at least 2", classes(*listed))]
    TooFewListed { listed: usize },
    /// A class stands in the list twice.
    #[error("classes lists `{class}` twice")]
    Twice { class: String },
    /// A name is no class of the data set.
    #[error("classes lists `{class}`, which is no class of the data")]
    Unknown { class: String, known: Vec<String> },
    /// A number is no class of the data set.
    #[error("classes lists the number {number}, but the classes of the data are numbered 0 to {}", known.len() - 1)]
    Number { number: usize, known: Vec<String> },
    /// The data set has too few classes.
    #[error("classes {subset} leaves {} of {}, where a classifier needs at least 2", left, known.len())]
    TooFewLeft { subset: ClassSubset, left: usize, known: Vec<String> },
}

impl ClassSubsetError {
    /// Says what would work instead.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            ClassSubsetError::TooFewListed { .. } => {
                "use even, odd, names such as cat,dog, or numbers such as 0,2,4".to_string()
            }
            ClassSubsetError::Twice { class } => format!("name `{class}` once"),
            ClassSubsetError::Unknown { class, known } => {
                match units::nearest(class, known.iter().map(String::as_str)) {
                    Some(nearest) => format!("did you mean `{nearest}`?"),
                    None => format!("the classes are {}", some(known)),
                }
            }
            ClassSubsetError::Number { known, .. } | ClassSubsetError::TooFewLeft { known, .. } => {
                format!("the classes are {}", some(known))
            }
        })
    }
}

fn classes(count: usize) -> String {
    match count {
        0 => "no class".to_string(),
        1 => "1 class".to_string(),
        count => format!("{count} classes"),
    }
}

/// The classes, or the first of many.
fn some(known: &[String]) -> String {
    if known.len() <= LISTED_MAX {
        return known.join(", ");
    }
    format!("{} and {} more", known[..LISTED_MAX].join(", "), known.len() - LISTED_MAX)
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
        [error.to_string(), error.hint().expect("a way out")]
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
        // One of them is no name, so all are numbers.
        assert_eq!(places("0,2", &["1", "2", "3"]), [0, 2]);
    }

    #[test]
    fn what_is_no_class_is_named_with_its_neighbour() {
        assert_eq!(
            refused("cat,dgo", &PETS),
            ["classes lists `dgo`, which is no class of the data", "did you mean `dog`?"]
        );
        let [error, hint] = refused("cat,zebrafish", &PETS);
        assert_eq!(error, "classes lists `zebrafish`, which is no class of the data");
        assert_eq!(hint, "the classes are ant, bee, cat, dog, emu");
        assert_eq!(refused("cat,3", &PETS)[0], "classes lists `3`, which is no class of the data");
        assert_eq!(refused("-1,3", &PETS)[0], "classes lists `-1`, which is no class of the data");
        let [error, hint] = refused("0,5", &PETS);
        assert_eq!(error, "classes lists the number 5, but the classes of the data are numbered 0 to 4");
        assert_eq!(hint, "the classes are ant, bee, cat, dog, emu");
    }

    #[test]
    fn one_class_or_none_is_too_few() {
        assert_eq!(
            refused("odd", &["ant", "bee", "cat"]),
            ["classes odd leaves 1 of 3, where a classifier needs at least 2", "the classes are ant, bee, cat"]
        );
        assert_eq!(refused("1,01", &PETS)[0], "classes 1,01 leaves 1 of 5, where a classifier needs at least 2");
        let checked = |text: &str| ClassSubset::parse(text).check().unwrap_err().to_string();
        assert_eq!(checked("cat"), "classes lists 1 class, where a classifier needs at least 2");
        assert_eq!(checked(" , "), "classes lists no class, where a classifier needs at least 2");
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
