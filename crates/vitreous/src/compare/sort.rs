//! The order of rows: by name, by a figure, or by any setting that differs.

use std::cmp::Ordering;

use thiserror::Error;
use toml::Value;

use super::{Comparison, Row, Spread};
use crate::advice::{self, Argument, Explain, Suggestion};

/// What rows are ordered by. Accuracies go from the best down, everything else from the least up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SortKey {
    /// The run's name.
    Run,
    /// The network in a few words.
    Model,
    /// Number of trained values.
    Parameters,
    /// Floating-point operations of an image.
    Flops,
    /// Time of the training.
    Time,
    /// Accuracy on the train split.
    Train,
    /// Accuracy on the validation split.
    Val,
    /// Accuracy on the test split.
    Test,
    /// A setting, by its whole key.
    Setting(String),
}

/// Columns that every comparison has.
const COLUMNS: [(&str, SortKey); 8] = [
    ("run", SortKey::Run),
    ("model", SortKey::Model),
    ("parameters", SortKey::Parameters),
    ("flops", SortKey::Flops),
    ("time", SortKey::Time),
    ("train", SortKey::Train),
    ("val", SortKey::Val),
    ("test", SortKey::Test),
];

/// The error for an unknown column.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("no column `{name}` to sort by")]
pub struct SortError {
    /// The name.
    pub name: String,
    known: Vec<String>,
}

impl Explain for SortError {
    fn place(&self) -> Option<advice::Place> {
        Some(advice::Place::Argument(Argument::Sort))
    }

    fn suggestion(&self) -> Option<Suggestion> {
        Some(Suggestion::nearest(&self.name, self.known.iter().map(String::as_str), "use one of"))
    }
}

impl Comparison {
    /// Orders the rows by a column or a setting that differs (`lr` or `train.lr`); rows without a value come last.
    ///
    /// # Errors
    /// When there is no such column.
    pub fn sort(&mut self, name: &str, reverse: bool) -> Result<(), SortError> {
        let key = self.sort_key(name)?;
        self.rows.sort_by(|a, b| {
            let (a, b) = (Place::of(a, &key), Place::of(b, &key));
            match (a.is_missing(), b.is_missing()) {
                (false, false) if reverse => b.cmp(&a),
                _ => a.cmp(&b),
            }
        });
        Ok(())
    }

    fn sort_key(&self, name: &str) -> Result<SortKey, SortError> {
        if let Some((_, key)) = COLUMNS.iter().find(|(column, _)| *column == name) {
            return Ok(key.clone());
        }
        let short = |key: &String| key.rsplit('.').next() == Some(name);
        if let Some(key) = self.keys.iter().find(|key| *key == name).or_else(|| self.keys.iter().find(|key| short(key)))
        {
            return Ok(SortKey::Setting(key.clone()));
        }
        let columns = COLUMNS.iter().map(|(column, _)| column.to_string());
        Err(SortError { name: name.to_string(), known: columns.chain(self.keys.iter().cloned()).collect() })
    }
}

/// Where a row belongs.
enum Place {
    Number(f64),
    Text(String),
    Missing,
}

impl Place {
    fn of(row: &Row, key: &SortKey) -> Place {
        let number = |number: Option<f64>| number.map_or(Place::Missing, Place::Number);
        let best_first = |spread: Option<Spread>| number(spread.map(|spread| -spread.mean));
        match key {
            SortKey::Run => Place::Text(row.name.clone()),
            SortKey::Model => row.model.clone().map_or(Place::Missing, Place::Text),
            SortKey::Parameters => Place::Number(row.parameters as f64),
            SortKey::Flops => number(row.flops_forward.map(|flops| flops as f64)),
            SortKey::Time => number(row.seconds.map(|spread| spread.mean)),
            SortKey::Train => best_first(row.train_acc),
            SortKey::Val => best_first(row.val_acc),
            SortKey::Test => best_first(row.test_acc),
            SortKey::Setting(key) => match row.settings.get(key) {
                None => Place::Missing,
                Some(Value::Integer(value)) => Place::Number(*value as f64),
                Some(Value::Float(value)) => Place::Number(*value),
                Some(value) => Place::Text(crate::config::difference::shown(Some(value))),
            },
        }
    }

    fn is_missing(&self) -> bool {
        matches!(self, Place::Missing)
    }

    fn cmp(&self, other: &Place) -> Ordering {
        match (self, other) {
            (Place::Number(a), Place::Number(b)) => a.total_cmp(b),
            (Place::Text(a), Place::Text(b)) => a.cmp(b),
            (Place::Missing, Place::Missing) => Ordering::Equal,
            (Place::Missing, _) | (Place::Text(_), Place::Number(_)) => Ordering::Greater,
            (_, Place::Missing) | (Place::Number(_), Place::Text(_)) => Ordering::Less,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    fn comparison() -> Comparison {
        let row = |name: &str, lr: Option<f64>, test: Option<f64>| Row {
            settings: lr.map(|lr| ("train.lr".to_string(), Value::Float(lr))).into_iter().collect(),
            test_acc: test.and_then(|test| Spread::of(&[test])),
            ..testing::row(name)
        };
        let rows = vec![row("b", Some(0.5), Some(0.25)), row("c", None, None), row("a", Some(0.125), Some(0.75))];
        Comparison { keys: vec!["train.lr".to_string()], ..testing::comparison(rows) }
    }

    fn sorted(name: &str, reverse: bool) -> String {
        let mut comparison = comparison();
        comparison.sort(name, reverse).unwrap();
        comparison.rows.iter().map(|row| row.name.as_str()).collect()
    }

    #[test]
    fn accuracies_go_down_other_columns_up_and_what_is_missing_comes_last() {
        assert_eq!(sorted("test", false), "abc");
        assert_eq!(sorted("test", true), "bac");
        assert_eq!(sorted("lr", false), "abc");
        assert_eq!(sorted("train.lr", true), "bac");
        assert_eq!(sorted("run", true), "cba");
        assert_eq!(sorted("flops", false), "bca", "the order stays among equals");
    }

    #[test]
    fn an_unknown_column_finds_its_neighbor() {
        let error = comparison().sort("tset", false).unwrap_err();
        assert_eq!(error.to_string(), "no column `tset` to sort by");
        assert_eq!(error.hint().unwrap(), "did you mean `test`?");
        let hint = comparison().sort("elephant", false).unwrap_err().hint().unwrap();
        assert_eq!(hint, "use one of run, model, parameters, flops, time, train, val, test, train.lr");
    }
}
