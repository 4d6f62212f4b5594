//! Runs side by side: what their configs have of their own, what they cost and what they reached.
//!
//! Reads records, never a tensor and never an image. [`read`] takes folders and leaves out, with the reason, what
//! cannot be compared; [`Comparison`] makes rows of the rest, one for all runs that differ only in the seed;
//! [`Sheet`] puts them into cells.

mod comparison;
mod read;
mod settings;
mod sheet;
mod sort;
mod spread;
#[cfg(test)]
mod testing;

pub use comparison::{Comparison, Row};
pub use read::{LeftOut, RunFacts, TrainAccuracy, folders, read};
pub use settings::{Settings, changes, settings_of, shown};
pub use sheet::{Column, Sheet};
pub use sort::{SortError, SortKey};
pub use spread::Spread;
