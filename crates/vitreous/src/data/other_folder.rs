//! Image folders that a model was not trained on, for `evaluate`: with any splits or none, and any classes, even a single
//! one.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use super::folder::{CLASSES_MAX, Listing};
use super::source::Source;
use super::split_folders::{refuse_splits_as_classes, split_folders, without_runs};
use super::walk::{Entry, subfolders};
use super::{DataError, Facts};
use crate::config::classes::{ClassSubset, spelling};

impl Facts {
    /// Whether it is a folder of class folders without splits.
    pub fn is_unsplit(&self) -> bool {
        matches!(&self.source, Source::Folder(listing) if !listing.is_split)
    }
}

impl Listing {
    /// Lists a folder that is not used for training; with `classes`, only these classes.
    ///
    /// # Errors
    /// When it has no classes, or a class has no images.
    pub fn of_other(root: &Path, classes: Option<&ClassSubset>) -> Result<Listing, DataError> {
        let (folders, runs) = without_runs(subfolders(root)?);
        let mut splits = split_folders(root, &folders)?;
        if splits[0].is_none() {
            // A class may be named `test`; a folder of class folders is a split.
            for split in &mut splits {
                let has_classes = split.as_ref().map(|split| subfolders(&split.path)).transpose()?;
                split.take_if(|_| has_classes.is_none_or(|classes| classes.is_empty()));
            }
        }
        let is_split = splits.iter().any(Option::is_some);
        // If two splits spell a name differently, the first spelling is used.
        let mut names = BTreeMap::new();
        let mut add = |classes: &[Entry]| {
            for class in classes {
                names.entry(spelling(&class.name)).or_insert_with(|| class.name.clone());
            }
        };
        if is_split {
            for split in splits.iter().flatten() {
                add(&subfolders(&split.path)?);
            }
        } else {
            refuse_splits_as_classes(root, &folders)?;
            add(&folders);
        }
        if let Some(ClassSubset::Listed(listed)) = classes {
            let listed: HashSet<String> = listed.iter().map(|name| spelling(name)).collect();
            names.retain(|spelled, _| listed.contains(spelled));
        }
        if names.is_empty() {
            return Err(DataError::ClassFolders { path: root.to_path_buf(), found: 0 });
        }
        if names.len() > CLASSES_MAX {
            let (path, found) = (root.to_path_buf(), names.len());
            return Err(DataError::TooManyClasses { path, found, limit: CLASSES_MAX });
        }
        let mut names: Vec<String> = names.into_values().collect();
        names.sort();
        let mut listing = Listing::empty(root, names)?;
        listing.run_folders = runs;
        // Other folders are ignored on purpose.
        if !is_split {
            listing.train = listing.split(None, &folders, root, true)?;
            return Ok(listing);
        }
        listing.is_split = true;
        let mut list = |split: &Entry| listing.split(Some(split), &subfolders(&split.path)?, &split.path, true);
        let [train, validation, test] = splits.each_ref().map(|split| split.as_ref().map(&mut list).transpose());
        (listing.train, listing.validation, listing.test) = (train?.unwrap_or_default(), validation?, test?);
        let others = folders.into_iter().filter(|folder| !splits.contains(&Some(folder.clone())));
        listing.ignored_folders = others.map(|folder| folder.path).collect();
        Ok(listing)
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::class_folders as folder;
    use super::*;

    /// Numbers of images in train, validation and test.
    fn counts(listing: &Listing) -> [Option<usize>; 3] {
        [Some(listing.train.len()), listing.validation.as_ref().map(Vec::len), listing.test.as_ref().map(Vec::len)]
    }

    #[test]
    fn any_split_is_enough_and_classes_are_those_of_all_splits() {
        let of = |classes: &[&str]| Listing::of_other(folder(classes).path(), None).unwrap();
        let test = of(&["test/cat", "test/dog"]);
        assert_eq!(
            (test.is_split, counts(&test), test.class_names),
            (true, [Some(0), None, Some(4)], names("cat,dog"))
        );
        let both = of(&["train/cat", "val/dog", "val/emu"]);
        assert_eq!((counts(&both), both.class_names), ([Some(2), Some(4), None], names("cat,dog,emu")));
        let one = of(&["cat"]);
        assert_eq!((one.is_split, counts(&one), one.class_names), (false, [Some(2), None, None], names("cat")));
        let cars = of(&["test", "race"]);
        assert_eq!((cars.is_split, cars.class_names), (false, names("race,test")));
    }

    #[test]
    fn classes_that_are_not_listed_are_ignored() {
        let root = folder(&["test/cat", "test/dog", "test/emu"]);
        let listed = ClassSubset::Listed(names("dog"));
        let listing = Listing::of_other(root.path(), Some(&listed)).unwrap();
        assert_eq!((counts(&listing), listing.class_names), ([Some(0), None, Some(2)], names("dog")));
        let error = Listing::of_other(tempfile::tempdir().unwrap().path(), None).unwrap_err();
        assert!(matches!(error, DataError::ClassFolders { found: 0, .. }), "{error}");
    }

    #[test]
    fn more_classes_than_a_label_can_number_are_refused() {
        let root = tempfile::tempdir().unwrap();
        (0..=CLASSES_MAX).for_each(|class| std::fs::create_dir(root.path().join(class.to_string())).unwrap());
        let error = Listing::of_other(root.path(), None).unwrap_err();
        assert!(matches!(error, DataError::TooManyClasses { found: 10_001, .. }), "{error}");
    }

    fn names(list: &str) -> Vec<String> {
        list.split(',').map(str::to_string).collect()
    }
}
