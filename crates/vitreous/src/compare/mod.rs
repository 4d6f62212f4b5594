//! Compares runs: settings that differ, cost and accuracy.
//!
//! Reads records, never a tensor and never an image. [`read`] takes folders and leaves out, with the reason, what
//! cannot be compared; [`Comparison`] makes rows of the rest, one for all runs that differ only in the seed, and finds
//! the accuracies that differ by more than noise; [`Sheet`] puts them into cells.

mod comparison;
mod differences;
mod measure;
mod noise;
mod outcomes;
mod read;
mod sheet;
mod sort;
mod spread;
#[cfg(test)]
mod testing;
mod verdicts;

pub use comparison::{Comparison, Group, Row};
pub use differences::{Against, AgainstError, Basis, RowDifference};
pub use measure::Measure;
pub use noise::{Difference, LEVEL, SeedSpread, holm, pairs};
pub use read::{LeftOut, RunFacts, TrainAccuracy, folders, read};
pub use sheet::{Column, Section, Sheet};
pub use sort::{SortError, SortKey};
pub use spread::Spread;
pub use verdicts::{Verdicts, probability};
