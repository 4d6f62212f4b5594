//! Which folders in a data set's folder are its splits: told by their names, in any case.

use std::path::Path;

use super::folder::{entries, has_picture_ending, subfolders};
use super::{DataError, SplitName};

/// Names of the splits' folders that data sets come with, in small letters.
const SPLITS: [(SplitName, &[&str]); 3] = [
    (SplitName::Train, &["train"]),
    (SplitName::Validation, &["val", "valid", "validation"]),
    (SplitName::Test, &["test"]),
];

/// Which of the folders in a data set's folder hold its splits: train, validation, test.
pub fn split_folders(root: &Path, folders: &[String]) -> Result<[Option<String>; 3], DataError> {
    let split_of = |folder: &String| {
        let small = folder.to_lowercase();
        SPLITS.into_iter().find(|(_, names)| names.contains(&small.as_str())).map(|(split, _)| split)
    };
    let mut found = [None, None, None];
    for folder in folders {
        let Some(split) = split_of(folder) else { continue };
        // Vehicles have a class of that name; a folder without folders is no split where there are other classes.
        let is_class = split == SplitName::Train
            && subfolders(&root.join(folder))?.is_empty()
            && folders.iter().any(|other| split_of(other).is_none());
        if is_class {
            continue;
        }
        let place = &mut found[SPLITS.iter().position(|(name, _)| *name == split).unwrap_or_default()];
        if let Some(first) = place.replace(folder.clone()) {
            let (second, path) = (folder.clone(), root.to_path_buf());
            return Err(DataError::TwoFolders { first, second, split, path });
        }
    }
    Ok(found)
}

/// Refuses folders that are taken for classes but look like splits: they hold no pictures, but folders, and the same
/// ones, or are called as a train split might be.
pub fn refuse_splits_as_classes(root: &Path, folders: &[String]) -> Result<(), DataError> {
    let mut earlier: Vec<(&String, Vec<String>)> = Vec::new();
    let mut alike = None;
    let mut all_alike = true;
    for folder in folders {
        let (path, mut pictures) = (root.join(folder), false);
        for entry in entries(&path)? {
            pictures |= has_picture_ending(&entry);
        }
        let inside = if pictures { Vec::new() } else { subfolders(&path)? };
        if inside.len() >= 2 && folder.to_lowercase().contains("train") {
            return Err(DataError::SplitAsClass { folder: folder.clone(), path });
        }
        let same =
            |(_, others): &&(&String, Vec<String>)| inside.iter().filter(|name| others.contains(name)).count() >= 2;
        match earlier.iter().find(same) {
            Some((first, _)) => alike = alike.or(Some((first.to_string(), folder.clone()))),
            None => all_alike &= earlier.is_empty(),
        }
        earlier.push((folder, inside));
    }
    match alike {
        Some((first, second)) if all_alike => {
            Err(DataError::SplitsAsClasses { first, second, path: root.to_path_buf() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::folder::Listing;
    use super::super::samples::{class_folders as folder, listing_refused as refused};

    #[test]
    fn splits_under_other_names_are_not_taken_for_classes() {
        let (error, hint) = refused(&folder(&["a/cat", "a/dog", "b/cat", "b/dog"]));
        assert_eq!(error, "a/ and b/ hold folders of the same names: splits, not classes (photos)");
        assert_eq!(hint, "call the folders train/, val/ and test/");
        let (error, hint) = refused(&folder(&["seg_pred", "seg_train/cat", "seg_train/dog", "seg_test/cat"]));
        assert_eq!(error, "seg_train/ holds folders: a split, not a class (photos/seg_train)");
        assert_eq!(hint, "call the folders train/, val/ and test/");
        let (error, _) = refused(&folder(&["Training/cat", "Training/dog", "Testing/cat", "Testing/dog"]));
        assert_eq!(error, "Training/ holds folders: a split, not a class (photos/Training)");
        // Each class in a folder of its own, one deeper or several: no splits.
        for classes in [["cat/images", "dog/images", "dog/more"], ["cat/front", "cat/side", "dog/front"]] {
            assert_eq!(Listing::of(folder(&classes).path(), None).unwrap().class_names, ["cat", "dog"]);
        }
    }
}
