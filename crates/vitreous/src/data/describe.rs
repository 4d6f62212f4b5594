//! The output of `data info`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{DataCheck, Facts, ImageShape, Loaded, Normalization, SkippedImage, Split};

/// A data set in numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataSummary {
    /// The data set's name or folder.
    pub name: String,
    /// Shape of every image, as the model sees it.
    pub shape: ImageShape,
    /// The classes, by label.
    pub classes: Vec<ClassSummary>,
    /// Number of training images.
    pub train: usize,
    /// Number of validation images.
    pub validation: usize,
    /// Number of test images; absent without a test split, or if counting would require reading it.
    pub test: Option<usize>,
    /// Whether there is a test split, counted or not.
    pub has_test: bool,
    /// Mean and standard deviation of each channel.
    pub normalization: Normalization,
    /// Bytes of the loaded images in memory.
    pub memory_bytes: u64,
    /// SHA-256 of what was loaded.
    pub fingerprint: String,
    /// Number of ignored files in class folders; `check` lists some of them by kind.
    pub ignored_files: usize,
    /// Folders next to `train/` whose names are not those of splits.
    #[serde(serialize_with = "crate::text::lossy_each")]
    pub ignored_folders: Vec<PathBuf>,
    /// Folders that contain runs of this program.
    #[serde(serialize_with = "crate::text::lossy_each")]
    pub run_folders: Vec<PathBuf>,
    /// Number of images outside class folders.
    pub loose_pictures: usize,
    /// Skipped images, which cannot be decoded.
    pub skipped: Vec<SkippedImage>,
    /// Problems of the images.
    pub check: DataCheck,
}

/// One class in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassSummary {
    /// The class's name.
    pub name: String,
    /// Number of training images.
    pub train: usize,
    /// Number of validation images.
    pub validation: usize,
    /// Number of test images, if it is known without reading them (in folders).
    pub test: Option<usize>,
}

/// Summarizes the data loaded for training. Test images are not read: their counts come from listings and headers.
pub fn describe(facts: &Facts, loaded: &Loaded, normalization: &Normalization) -> DataSummary {
    let num_classes = facts.class_names.len();
    let counts = |split: &Option<Split>| {
        split.as_ref().map_or_else(|| vec![0; num_classes], |split| split.class_counts(num_classes))
    };
    let (train, validation) = (counts(&loaded.train), counts(&loaded.validation));
    let test = facts.test_class_counts();
    let classes = facts.class_names.iter().enumerate().map(|(class, name)| ClassSummary {
        name: name.clone(),
        train: train[class],
        validation: validation[class],
        test: test.as_ref().map(|counts| counts[class]),
    });
    let (train, validation) = (train.iter().sum(), validation.iter().sum());
    DataSummary {
        name: facts.name.clone(),
        shape: facts.shape,
        classes: classes.collect(),
        train,
        validation,
        test: facts.test,
        has_test: facts.has_test(),
        normalization: normalization.clone(),
        memory_bytes: ((train + validation) * facts.shape.len()) as u64,
        fingerprint: loaded.fingerprint.clone(),
        ignored_files: facts.ignored.count(),
        ignored_folders: facts.ignored_folders.clone(),
        run_folders: facts.run_folders.clone(),
        loose_pictures: facts.loose_pictures,
        skipped: loaded.skipped.clone(),
        check: loaded.train.as_ref().map_or_else(DataCheck::default, |train| {
            let source = facts.validation_source();
            DataCheck::new(train, loaded.validation.as_ref(), &facts.class_names, source, &facts.ignored)
        }),
    }
}
