//! Which accuracy decides: by which split runs are ranked, and held against each other.

use std::fmt;

use serde::Serialize;
use toml::Value;

use super::{Row, Spread};
use crate::config::difference::{FlatConfig, shown};
use crate::data::SplitName;

const NAME: &str = "data.name";
const KIND: &str = "model.kind";

/// The accuracy that runs are ranked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// On the validation split: choosing by it leaves the test split unseen.
    Validation,
    /// On the test split. After choosing by it, no unseen images are left to measure the choice.
    Test,
}

impl Measure {
    /// The split that it is measured on.
    pub fn split(self) -> SplitName {
        match self {
            Measure::Validation => SplitName::Validation,
            Measure::Test => SplitName::Test,
        }
    }

    /// A row's accuracy.
    pub fn of(self, row: &Row) -> Option<Spread> {
        match self {
            Measure::Validation => row.val_acc,
            Measure::Test => row.test_acc,
        }
    }

    /// The interval of a row's accuracy, where it is that of one run.
    pub fn interval(self, row: &Row) -> Option<[f64; 2]> {
        match self {
            Measure::Validation => row.val_acc_interval,
            Measure::Test => row.test_acc_interval,
        }
    }

    /// The settings of the data that decide which images an accuracy is of.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Measure::Validation => &[NAME, "data.classes", "data.val_fraction", "data.split_seed"],
            Measure::Test => &[NAME, "data.classes"],
        }
    }

    /// Returns what an accuracy is of: accuracies of other data sets, classes, tasks or validation splits say nothing of
    /// each other. Rows have the settings that are not the same in all of them.
    pub fn images(self, settings: &FlatConfig) -> Vec<Option<&Value>> {
        let reader = settings.get(KIND).filter(|kind| kind.as_str() == Some("reader"));
        self.keys().iter().map(|key| settings.get(*key)).chain([reader]).collect()
    }

    /// Names the images that an accuracy is of, as far as the keys that differ tell them apart: `mnist, classes even`.
    pub fn data(self, settings: &FlatConfig, differing: &[String]) -> String {
        let differs = |key: &str| differing.iter().any(|other| other == key);
        let part = |key: &&str| match (settings.get(*key), key.trim_start_matches("data.")) {
            (value, "name") => shown(value),
            (None, "classes") => "all classes".to_string(),
            (value, name) => format!("{name} {}", shown(value)),
        };
        let parts = self.keys().iter().filter(|key| **key == NAME || differs(key)).map(part);
        let is_reader = differs(KIND) && settings.get(KIND).is_some_and(|kind| kind.as_str() == Some("reader"));
        parts.chain(is_reader.then(|| "strips".to_string())).collect::<Vec<_>>().join(", ")
    }

    /// Returns the keys by which the accuracies of two settings are of different images or tasks.
    pub fn apart(self, one: &FlatConfig, other: &FlatConfig) -> Vec<&'static str> {
        let keys = self.keys().iter().copied().chain([KIND]);
        let pairs = self.images(one).into_iter().zip(self.images(other));
        keys.zip(pairs).filter(|(_, (one, other))| one != other).map(|(key, _)| key).collect()
    }

    /// How the command line calls it.
    pub fn flag(self) -> &'static str {
        match self {
            Measure::Validation => "val",
            Measure::Test => "test",
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} accuracy", self.split())
    }
}
