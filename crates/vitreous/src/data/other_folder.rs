//! Folders of pictures that a model was not trained on and is asked about: any of the splits, or none, and any of the
//! classes, even a single one.

use std::collections::BTreeSet;
use std::path::Path;

use super::folder::{Listing, subfolders};
use super::source::Source;
use super::split_folders::{refuse_splits_as_classes, split_folders};
use super::{DataError, Facts};
use crate::config::classes::ClassSubset;

impl Facts {
    /// Whether it is a folder of class folders without splits.
    pub fn is_unsplit(&self) -> bool {
        matches!(&self.source, Source::Folder(listing) if !listing.is_split)
    }
}

impl Listing {
    /// Lists a folder of which nothing is learned; of its classes, those that `classes` lists by name.
    ///
    /// # Errors
    /// When it has no classes, or a class has no pictures.
    pub fn of_other(root: &Path, classes: Option<&ClassSubset>) -> Result<Listing, DataError> {
        let folders = subfolders(root)?;
        let mut splits = split_folders(root, &folders)?;
        if splits[0].is_none() {
            // A class may be called `test`; a folder of class folders is a split.
            for split in &mut splits {
                let has_classes = split.as_ref().map(|name| subfolders(&root.join(name))).transpose()?;
                split.take_if(|_| has_classes.is_none_or(|classes| classes.is_empty()));
            }
        }
        let is_split = splits.iter().any(Option::is_some);
        let mut names = BTreeSet::new();
        if is_split {
            for split in splits.iter().flatten() {
                names.extend(subfolders(&root.join(split))?);
            }
        } else {
            refuse_splits_as_classes(root, &folders)?;
            names.extend(folders.iter().cloned());
        }
        if let Some(ClassSubset::Listed(listed)) = classes {
            names.retain(|name| listed.contains(name));
        }
        if names.is_empty() {
            return Err(DataError::ClassFolders { path: root.to_path_buf(), found: 0 });
        }
        let mut listing = Listing::empty(root, names.into_iter().collect())?;
        // Folders that are not of the table were left out on purpose.
        if !is_split {
            listing.train = listing.split("", "", true)?;
            return Ok(listing);
        }
        let [train, validation, test] = &splits;
        listing.is_split = true;
        listing.train = train.as_ref().map_or(Ok(Vec::new()), |name| listing.split(name, name, true))?;
        listing.validation = validation.as_ref().map(|name| listing.split(name, name, true)).transpose()?;
        listing.test = test.as_ref().map(|name| listing.split(name, name, true)).transpose()?;
        let others = folders.into_iter().filter(|name| !splits.iter().flatten().any(|split| split == name));
        listing.ignored_folders = others.map(|name| root.join(name)).collect();
        Ok(listing)
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::class_folders as folder;
    use super::*;

    /// Number of pictures of train, validation and test.
    fn counts(listing: &Listing) -> [Option<usize>; 3] {
        [Some(listing.train.len()), listing.validation.as_ref().map(Vec::len), listing.test.as_ref().map(Vec::len)]
    }

    #[test]
    fn any_of_the_splits_will_do_and_classes_are_those_of_all() {
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
    fn classes_that_are_not_listed_are_passed_over() {
        let root = folder(&["test/cat", "test/dog", "test/emu"]);
        let listed = ClassSubset::Listed(names("dog"));
        let listing = Listing::of_other(root.path(), Some(&listed)).unwrap();
        assert_eq!((counts(&listing), listing.class_names), ([Some(0), None, Some(2)], names("dog")));
        let error = Listing::of_other(tempfile::tempdir().unwrap().path(), None).unwrap_err();
        assert!(matches!(error, DataError::ClassFolders { found: 0, .. }), "{error}");
    }

    fn names(list: &str) -> Vec<String> {
        list.split(',').map(str::to_string).collect()
    }
}
