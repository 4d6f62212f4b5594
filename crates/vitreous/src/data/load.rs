//! Brings the images of the splits asked for into memory, and no others.

use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::digits::{Digits, TEST_IMAGES, TRAIN_IMAGES};
use super::folder::{self, Listing, Picture, SkippedImage};
use super::source::{Facts, Source};
use super::split::{Packed, Store, divide};
use super::{DataError, Progress, Split, SplitName};
use crate::config::data::DataSpec;

/// Seed of the built-in digits. A constant: they are one data set, whatever the seed of the run.
const DIGITS_SEED: u64 = 1;

/// Which splits to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// What training needs. The test split stays closed.
    TrainAndValidation,
    /// One split, for `evaluate`.
    Only(SplitName),
}

impl Wanted {
    fn has(self, split: SplitName) -> bool {
        match self {
            Wanted::TrainAndValidation => split != SplitName::Test,
            Wanted::Only(only) => split == only,
        }
    }
}

/// Images in memory.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Images that train, where asked for.
    pub train: Option<Split>,
    /// Images that validate, where asked for and any do.
    pub validation: Option<Split>,
    /// Images of the test split, where asked for.
    pub test: Option<Split>,
    /// Pictures left out because they cannot be decoded.
    pub skipped: Vec<SkippedImage>,
    /// SHA-256, in hexadecimal, over names, labels and pixels of what was loaded, in order.
    pub fingerprint: String,
}

/// Loads the splits asked for, with several threads where pictures are decoded.
///
/// # Errors
/// When a split asked for is not there, a file is damaged, or the images do not fit into memory.
pub fn load(
    spec: &DataSpec,
    facts: &Facts,
    wanted: Wanted,
    threads: usize,
    progress: Progress,
) -> Result<Loaded, DataError> {
    let no_split =
        |split, file: Option<&PathBuf>| DataError::NoSplit { name: facts.name.clone(), split, file: file.cloned() };
    if wanted == Wanted::Only(SplitName::Validation) && facts.validation == 0 {
        return Err(no_split(SplitName::Validation, None));
    }
    let is_test = wanted == Wanted::Only(SplitName::Test);
    let mut skipped = Vec::new();
    let splits = match &facts.source {
        Source::Idx { test, test_file, .. } if is_test => {
            let test = test.as_ref().ok_or_else(|| no_split(SplitName::Test, Some(test_file)))?;
            whole_test(test.load("test", facts.class_names.len(), progress)?)
        }
        Source::Cifar { test, test_file, .. } if is_test => {
            let test = test.as_ref().ok_or_else(|| no_split(SplitName::Test, Some(test_file)))?;
            whole_test(test.load("test", progress)?)
        }
        Source::Idx { train, .. } => {
            divided_train(spec, facts, train.load("train", facts.class_names.len(), progress)?)
        }
        Source::Cifar { train, .. } => divided_train(spec, facts, train.load("train", progress)?),
        Source::Digits => digits(spec, facts),
        Source::Folder(listing) => {
            if is_test && listing.test.is_none() {
                return Err(no_split(SplitName::Test, Some(&listing.root.join("test"))));
            }
            load_folder(spec, facts, listing, wanted, threads, progress, &mut skipped)?
        }
    };
    let mut loaded = Loaded { train: None, validation: None, test: None, skipped, fingerprint: String::new() };
    let mut hash = Sha256::new();
    hash.update(facts.class_names.join("\n"));
    for (name, split) in splits {
        if wanted.has(name) && (name != SplitName::Validation || !split.is_empty()) {
            split.fingerprint(name, &mut hash);
            match name {
                SplitName::Train => loaded.train = Some(split),
                SplitName::Validation => loaded.validation = Some(split),
                SplitName::Test => loaded.test = Some(split),
            }
        }
    }
    loaded.fingerprint = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(loaded)
}

fn whole_test(packed: Packed) -> Vec<(SplitName, Split)> {
    let indices = (0..packed.labels.len() as u32).collect();
    vec![(SplitName::Test, Split::new(Arc::new(Store::Packed(packed)), indices))]
}

fn divided_train(spec: &DataSpec, facts: &Facts, packed: Packed) -> Vec<(SplitName, Split)> {
    let (train, validation) = divide(&packed.labels, facts.class_names.len(), spec, false);
    let store = Arc::new(Store::Packed(packed));
    vec![(SplitName::Train, Split::new(store.clone(), train)), (SplitName::Validation, Split::new(store, validation))]
}

fn digits(spec: &DataSpec, facts: &Facts) -> Vec<(SplitName, Split)> {
    let digits = Digits::new(DIGITS_SEED, TRAIN_IMAGES + TEST_IMAGES);
    let labels: Vec<u16> = (0..TRAIN_IMAGES).map(|index| digits.label(index) as u16).collect();
    let (train, validation) = divide(&labels, facts.class_names.len(), spec, false);
    let test = (TRAIN_IMAGES as u32..(TRAIN_IMAGES + TEST_IMAGES) as u32).collect();
    let store = Arc::new(Store::Digits(digits));
    vec![
        (SplitName::Train, Split::new(store.clone(), train)),
        (SplitName::Validation, Split::new(store.clone(), validation)),
        (SplitName::Test, Split::new(store, test)),
    ]
}

/// Decodes only the pictures of the splits that are wanted.
fn load_folder(
    spec: &DataSpec,
    facts: &Facts,
    listing: &Listing,
    wanted: Wanted,
    threads: usize,
    progress: Progress,
    skipped: &mut Vec<SkippedImage>,
) -> Result<Vec<(SplitName, Split)>, DataError> {
    let labels: Vec<u16> = listing.train.iter().map(|picture| picture.label).collect();
    let (train, drawn) = divide(&labels, facts.class_names.len(), spec, listing.validation.is_some());
    let chosen = |places: &[u32]| places.iter().map(|place| &listing.train[*place as usize]).collect::<Vec<&Picture>>();
    let parts = [
        (SplitName::Train, chosen(&train)),
        (SplitName::Validation, listing.validation.as_ref().map_or_else(|| chosen(&drawn), |own| own.iter().collect())),
        (SplitName::Test, listing.test.iter().flatten().collect()),
    ];
    let parts: Vec<_> = parts.into_iter().filter(|(name, _)| wanted.has(*name)).collect();
    let pictures: Vec<&Picture> = parts.iter().flat_map(|(_, pictures)| pictures.iter().copied()).collect();
    let (packed, bad) = folder::decode_all(
        &listing.root,
        &pictures,
        facts.shape,
        spec.resize,
        spec.skip_bad_images,
        threads,
        progress,
    )?;
    let mut is_bad = vec![false; pictures.len()];
    for (place, image) in bad {
        is_bad[place] = true;
        skipped.push(image);
    }
    let store = Arc::new(Store::Packed(packed));
    let mut start = 0;
    let mut splits = Vec::new();
    for (name, part) in parts {
        let places = start..start + part.len();
        start = places.end;
        let good: Vec<u32> = places.filter(|place| !is_bad[*place]).map(|place| place as u32).collect();
        let mut is_left = vec![false; facts.class_names.len()];
        good.iter().for_each(|place| is_left[usize::from(pictures[*place as usize].label)] = true);
        if let Some(picture) = part.iter().find(|picture| !is_left[usize::from(picture.label)]) {
            let path = listing.root.join(&picture.name);
            let (class, path) = (facts.class_names[usize::from(picture.label)].clone(), path.parent().unwrap_or(&path));
            return Err(DataError::BrokenClass { class, path: path.to_path_buf() });
        }
        splits.push((name, Split::new(store.clone(), good)));
    }
    Ok(splits)
}
