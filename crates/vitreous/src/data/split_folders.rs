//! Which folders in a data set's folder are splits, by their case-insensitive names, and which contain runs.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::walk::{Entry, Kind, entries, has_image_extension, subfolders};
use super::{DataError, SplitName};

/// Common names of split folders, in lower case.
const SPLITS: [(SplitName, &[&str]); 3] = [
    (SplitName::Train, &["train"]),
    (SplitName::Validation, &["val", "valid", "validation"]),
    (SplitName::Test, &["test"]),
];

/// How deep runs may be in a folder of runs: those of a sweep are in the sweep's folder.
const RUNS_DEPTH: usize = 2;

/// The folders of the splits train, validation and test.
pub fn split_folders(root: &Path, folders: &[Entry]) -> Result<[Option<Entry>; 3], DataError> {
    let split_of = |folder: &Entry| {
        let small = folder.name.to_lowercase();
        SPLITS.into_iter().find(|(_, names)| names.contains(&small.as_str())).map(|(split, _)| split)
    };
    let mut found = [None, None, None];
    for folder in folders {
        let Some(split) = split_of(folder) else { continue };
        // `train` is also a vehicle: a folder without subfolders is a class if there are other classes.
        let is_class = split == SplitName::Train
            && subfolders(&folder.path)?.is_empty()
            && folders.iter().any(|other| split_of(other).is_none());
        if is_class {
            continue;
        }
        let place = &mut found[SPLITS.iter().position(|(name, _)| *name == split).unwrap_or_default()];
        if let Some(first) = place.replace(folder.clone()) {
            let (first, second, path) = (first.name, folder.name.clone(), root.to_path_buf());
            return Err(DataError::TwoFolders { first, second, split, path });
        }
    }
    Ok(found)
}

/// Refuses class folders that look like splits: without images, and with equal subfolders or a name that contains
/// `train`.
pub fn refuse_splits_as_classes(root: &Path, folders: &[Entry]) -> Result<(), DataError> {
    // The first folder that contains a folder of each name.
    let mut holders: HashMap<String, &str> = HashMap::new();
    let mut alike = None;
    let mut all_alike = true;
    for (at, folder) in folders.iter().enumerate() {
        let inside = entries(&folder.path)?;
        let mut names: HashSet<String> = HashSet::new();
        if !inside.iter().any(|entry| entry.kind == Kind::Picture) {
            names.extend(inside.into_iter().filter(|entry| entry.kind == Kind::Folder).map(|entry| entry.name));
        }
        if names.len() >= 2 && folder.name.to_lowercase().contains("train") {
            return Err(DataError::SplitAsClass { folder: folder.name.clone(), path: folder.path.clone() });
        }
        let mut known = names.iter().filter_map(|name| holders.get(name).copied());
        match (known.next(), known.next()) {
            (Some(first), Some(_)) => alike = alike.or(Some((first.to_string(), folder.name.clone()))),
            _ => all_alike &= at == 0,
        }
        for name in names {
            holders.entry(name).or_insert(&folder.name);
        }
    }
    match alike {
        Some((first, second)) if all_alike => {
            Err(DataError::SplitsAsClasses { first, second, path: root.to_path_buf() })
        }
        _ => Ok(()),
    }
}

/// Separates folders of runs from possible class folders.
pub fn without_runs(folders: Vec<Entry>) -> (Vec<Entry>, Vec<PathBuf>) {
    let (runs, folders): (Vec<Entry>, Vec<Entry>) = folders.into_iter().partition(|folder| holds_runs(&folder.path));
    (folders, runs.into_iter().map(|folder| folder.path).collect())
}

/// Whether a folder is a run or contains runs, and contains no images.
fn holds_runs(folder: &Path) -> bool {
    has_run(folder, RUNS_DEPTH)
}

fn has_run(folder: &Path, depth: usize) -> bool {
    let Ok(inside) = fs::read_dir(folder) else { return false };
    let mut found = is_run(folder);
    // A class has images, possibly in subfolders: the first image ends the search.
    for entry in inside.flatten() {
        let path = entry.path();
        if has_image_extension(&path) {
            return false;
        }
        found |= depth > 0 && path.is_dir() && has_run(&path, depth - 1);
    }
    found
}

/// Whether a folder has the files of a run, also of one that was killed before it wrote its manifest.
fn is_run(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).is_file();
    (has("config.toml") && has("manifest.json")) || (has(".lock") && folder.join("weights").is_dir())
}

#[cfg(test)]
mod tests {
    use super::super::folder::Listing;
    use super::super::samples::{class_folders as folder, listing_refused as refused, write};
    use super::holds_runs;

    #[test]
    fn splits_with_other_names_are_not_mistaken_for_classes() {
        let (error, hint) = refused(&folder(&["a/cat", "a/dog", "b/cat", "b/dog"]));
        assert_eq!(error, "a/ and b/ contain folders with the same names: splits, not classes (photos)");
        assert_eq!(hint, "rename the folders to train/, val/ and test/");
        let (error, hint) = refused(&folder(&["seg_pred", "seg_train/cat", "seg_train/dog", "seg_test/cat"]));
        assert_eq!(error, "seg_train/ contains folders: a split, not a class (photos/seg_train)");
        assert_eq!(hint, "rename the folders to train/, val/ and test/");
        let (error, _) = refused(&folder(&["Training/cat", "Training/dog", "Testing/cat", "Testing/dog"]));
        assert_eq!(error, "Training/ contains folders: a split, not a class (photos/Training)");
        // Classes with subfolders are not splits.
        for classes in [["cat/images", "dog/images", "dog/more"], ["cat/front", "cat/side", "dog/front"]] {
            assert_eq!(Listing::of(folder(&classes).path(), None).unwrap().class_names, ["cat", "dog"]);
        }
    }

    #[test]
    fn folders_of_runs_are_recognized_by_their_content() {
        let root = folder(&["cat/images", "dog", "mixed"]);
        let make = |name: &str| write(&root.path().join(name), b"");
        for run in ["runs/a", "sweeps/e1/b", "mixed/c"] {
            make(&format!("{run}/config.toml"));
            make(&format!("{run}/manifest.json"));
        }
        make("begun/a/.lock");
        make("begun/a/weights/best.safetensors");
        make("other/a/config.toml");
        make("other/b/.lock");
        let holds = |name: &str| holds_runs(&root.path().join(name));
        for name in ["runs", "runs/a", "sweeps", "begun"] {
            assert!(holds(name), "{name}");
        }
        for name in ["cat", "dog", "mixed", "other", "none"] {
            assert!(!holds(name), "{name}");
        }
        let listing = Listing::of(root.path(), None).unwrap_err();
        assert!(listing.to_string().starts_with("class `other` has no images"), "{listing}");
    }
}
