//! Classes of a data set and classes of a model, matched by name: the order of folders means nothing.

use std::collections::HashMap;

use super::EvaluateError;
use crate::config::classes::spelling;

/// Which class of a model each class of a data set is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassMap {
    places: Vec<usize>,
}

impl ClassMap {
    /// Finds every class of the data among the model's; the model may have more.
    ///
    /// # Errors
    /// When a class of the data is not one of the model's.
    pub fn new(model: &[String], data: &[String]) -> Result<Self, EvaluateError> {
        let known: HashMap<String, usize> = model.iter().map(|name| spelling(name)).zip(0..).collect();
        let find = |name: &String| {
            known.get(&spelling(name)).copied().ok_or_else(|| EvaluateError::UnknownClass {
                class: name.clone(),
                same_letters: model.iter().find(|known| letters(known) == letters(name)).cloned(),
                known: model.to_vec(),
            })
        };
        Ok(ClassMap { places: data.iter().map(find).collect::<Result<_, _>>()? })
    }

    /// Returns the model's number of the data set's class.
    pub fn of(&self, label: usize) -> usize {
        self.places[label]
    }
}

/// What is left of a name without upper case, spaces, underscores and hyphens: two spellings of one word have the same.
fn letters(name: &str) -> String {
    let name = name.to_lowercase();
    spelling(&name).chars().filter(|c| !c.is_whitespace() && !matches!(c, '_' | '-')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advice::Explain;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn another_order_and_a_subset_find_their_places() {
        let map = ClassMap::new(&names(&["cat", "dog", "emu"]), &names(&["emu", "cat"])).unwrap();
        assert_eq!([map.of(0), map.of(1)], [2, 0]);
        let map = ClassMap::new(&names(&["bar", "caf\u{e9}"]), &names(&["cafe\u{301}"])).unwrap();
        assert_eq!(map.of(0), 1);
    }

    #[test]
    fn a_class_the_model_does_not_know_is_named() {
        let known = names(&["cat", "dog"]);
        let error = ClassMap::new(&known, &names(&["cat", "lynx"])).unwrap_err();
        assert_eq!(error.to_string(), "the model was not trained on the class `lynx` of the data");
        assert_eq!(error.hint().unwrap(), "its classes are cat, dog");
    }

    #[test]
    fn a_name_is_suggested_only_for_another_spelling_of_it() {
        let known = names(&["cat", "dog", "golden_retriever", "caf\u{e9}"]);
        let hint = |name: &str| ClassMap::new(&known, &names(&[name])).unwrap_err().hint().unwrap();
        let spellings = [
            ("Dog", "dog"),
            ("Golden Retriever", "golden_retriever"),
            ("golden-retriever", "golden_retriever"),
            ("CAFE\u{301}", "caf\u{e9}"),
        ];
        for (name, nearest) in spellings {
            assert_eq!(hint(name), format!("the model has a class `{nearest}`: rename the folder"), "{name}");
        }
        for other in ["frog", "dogs", "do", "cafe"] {
            assert_eq!(hint(other), "its classes are cat, dog, golden_retriever, caf\u{e9}", "{other}");
        }
    }
}
