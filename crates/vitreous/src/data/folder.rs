//! Image folders: one folder per class, in `train/`, `val/` and `test/` or in one folder that the program splits.
//!
//! - Folder names are the class names; the sorted names in `train/` define the labels of all splits.
//! - Split names are case-insensitive (`Train/`). `train` is a class if it contains images and there are other folders.
//! - Images may be in subfolders (`train/cat/images/1.jpg`). Folders of runs are not classes.
//! - Image files are recognized by their extension here, and by their content when they are decoded.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

use super::decode::{Decoded, SmallPicture, decode_picture};
use super::idx::zeros;
use super::split::{Names, Packed};
use super::split_folders::{refuse_splits_as_classes, split_folders, without_runs};
use super::walk::{Entry, Ignored, Kind, Walk, entries, subfolders};
use super::{DataError, ImageShape, Progress};
use crate::config::classes::{ClassSubset, spelling};
use crate::config::data::Resize;
use crate::parallel::on_threads;

/// Maximum number of classes.
pub(super) const CLASSES_MAX: usize = 10_000;

/// One image file and its class.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Relative to the data set's folder, with `/` between the parts.
    pub name: String,
    /// Label: the index of the class name.
    pub label: u16,
    /// Its path, if it differs from the name.
    path: Option<PathBuf>,
}

impl Picture {
    /// Its path.
    pub fn path(&self, root: &Path) -> PathBuf {
        self.path.clone().unwrap_or_else(|| root.join(&self.name))
    }
}

/// The files of a data set's folder. No image file is opened.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    /// The data set's folder.
    pub root: PathBuf,
    /// Names of the classes in use, sorted.
    pub class_names: Vec<String>,
    /// Training images, and validation images if there is no validation folder.
    pub train: Vec<Picture>,
    /// Images of the validation folder, if it exists.
    pub validation: Option<Vec<Picture>>,
    /// Images of the test folder, if it exists.
    pub test: Option<Vec<Picture>>,
    /// Ignored files in class folders.
    pub ignored: Ignored,
    /// Folders next to `train/` whose names are not those of splits.
    pub ignored_folders: Vec<PathBuf>,
    /// Folders that contain runs of this program.
    pub run_folders: Vec<PathBuf>,
    /// Number of images outside class folders.
    pub loose_pictures: usize,
    /// Whether it has folders for its splits.
    pub is_split: bool,
}

impl Listing {
    /// Lists a folder; with `classes`, other classes are ignored.
    ///
    /// # Errors
    /// When there are no classes, a class has no images or shares a folder with another class, a class is in another split
    /// but not in `train/`, or a class in `classes` does not exist.
    pub fn of(root: &Path, classes: Option<&ClassSubset>) -> Result<Listing, DataError> {
        let (folders, runs) = without_runs(subfolders(root)?);
        let [train, validation, test] = split_folders(root, &folders)?;
        let mut listing = Listing::empty(root, Vec::new())?;
        listing.run_folders = runs;
        let Some(train) = train else {
            // A class may be named `test`; a folder of class folders is a split.
            for split in validation.into_iter().chain(test) {
                if !subfolders(&split.path)?.is_empty() {
                    return Err(DataError::NoTrainFolder { split: split.name, path: split.path });
                }
            }
            refuse_splits_as_classes(root, &folders)?;
            listing.class_names = chosen(root, class_names(root, &folders)?, classes)?;
            listing.train = listing.split(None, &folders, root, classes.is_some())?;
            return Ok(listing);
        };
        listing.is_split = true;
        let inside = subfolders(&train.path)?;
        listing.class_names = chosen(root, class_names(&train.path, &inside)?, classes)?;
        let others = classes.is_some();
        listing.train = listing.split(Some(&train), &inside, &train.path, others)?;
        let mut list = |split: &Entry| listing.split(Some(split), &subfolders(&split.path)?, &train.path, others);
        let validation_pictures = validation.as_ref().map(&mut list).transpose()?;
        let test_pictures = test.as_ref().map(list).transpose()?;
        (listing.validation, listing.test) = (validation_pictures, test_pictures);
        let splits = [Some(train), validation, test];
        let others = folders.into_iter().filter(|folder| !splits.contains(&Some(folder.clone())));
        listing.ignored_folders = others.map(|folder| folder.path).collect();
        Ok(listing)
    }

    /// A listing without images, of a folder with these classes.
    pub(super) fn empty(root: &Path, class_names: Vec<String>) -> Result<Listing, DataError> {
        Ok(Listing {
            root: root.to_path_buf(),
            class_names,
            train: Vec::new(),
            validation: None,
            test: None,
            ignored: Ignored::default(),
            ignored_folders: Vec::new(),
            run_folders: Vec::new(),
            loose_pictures: loose_pictures(root)?,
            is_split: false,
        })
    }

    /// Lists the images of a split's class folders, class by class. `others`: ignore classes that are not in use.
    /// Without a split, the class folders are in the data set's folder.
    pub(super) fn split(
        &mut self,
        split: Option<&Entry>,
        classes: &[Entry],
        train: &Path,
        others: bool,
    ) -> Result<Vec<Picture>, DataError> {
        let folder = split.map_or_else(|| self.root.clone(), |split| split.path.clone());
        if split.is_some() {
            self.loose_pictures += loose_pictures(&folder)?;
        }
        if classes.is_empty() {
            return Err(DataError::ClassFolders { path: folder, found: 0 });
        }
        let labels: HashMap<String, u16> =
            (0..).zip(&self.class_names).map(|(label, name)| (spelling(name), label)).collect();
        let mut walk = Walk::new(&self.root, &folder)?;
        let mut pictures = Vec::new();
        for class in classes {
            let (name, path) = (class.name.clone(), class.path.clone());
            let Some(&label) = labels.get(&spelling(&name)) else {
                if others {
                    continue;
                }
                let split = split.map_or_else(String::new, |split| split.name.clone());
                let (train, known) = (train.to_path_buf(), self.class_names.clone());
                return Err(DataError::ClassNotInTrain { class: name, split, path, train, known });
            };
            let prefix = split.map_or_else(|| name.clone(), |split| format!("{}/{name}", split.name));
            let found = walk.class(class, prefix, &mut self.ignored)?;
            if found.is_empty() {
                return Err(DataError::EmptyClass { class: name, path });
            }
            pictures.extend(found.into_iter().map(|found| Picture { name: found.name, label, path: found.path }));
        }
        Ok(pictures)
    }
}

/// Whether there are images directly in a folder.
pub(super) fn has_pictures(folder: &Path) -> bool {
    loose_pictures(folder).is_ok_and(|count| count > 0)
}

/// Number of images directly in a folder.
fn loose_pictures(folder: &Path) -> Result<usize, DataError> {
    Ok(entries(folder)?.iter().filter(|entry| entry.kind == Kind::Picture).count())
}

/// The names of class folders, sorted.
fn class_names(folder: &Path, classes: &[Entry]) -> Result<Vec<String>, DataError> {
    let (path, found) = (folder.to_path_buf(), classes.len());
    match found {
        0 | 1 => return Err(DataError::ClassFolders { path, found }),
        2..=CLASSES_MAX => {}
        _ => return Err(DataError::TooManyClasses { path, found, limit: CLASSES_MAX }),
    }
    let mut spelled = HashMap::new();
    for class in classes {
        if let Some(first) = spelled.insert(spelling(&class.name), class) {
            return Err(DataError::TwoSpellings {
                class: class.name.clone(),
                first: first.path.clone(),
                path: class.path.clone(),
            });
        }
    }
    Ok(classes.iter().map(|class| class.name.clone()).collect())
}

/// The requested classes, in sorted order.
fn chosen(root: &Path, names: Vec<String>, classes: Option<&ClassSubset>) -> Result<Vec<String>, DataError> {
    let Some(classes) = classes else { return Ok(names) };
    let name = root.display().to_string();
    let places = classes.places(&names).map_err(|error| DataError::Classes { name, error })?;
    Ok(places.into_iter().map(|place| names[place].clone()).collect())
}

/// A skipped image, which cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedImage {
    /// The file, relative to the data set's folder.
    pub name: String,
    /// Why it cannot be decoded.
    pub reason: String,
}

/// Decodes image files on several threads. Returns the decoded images and the skipped ones, with their indices in
/// `pictures`.
///
/// # Errors
/// Without `skip_bad`, the error of the first invalid image file, independent of the number of threads.
#[allow(clippy::type_complexity)]
pub fn decode_all(
    root: &Path,
    pictures: &[&Picture],
    shape: ImageShape,
    resize: Resize,
    skip_bad: bool,
    threads: usize,
    progress: Progress,
) -> Result<(Packed, Vec<(usize, SkippedImage)>), DataError> {
    let mut pixels = zeros(pictures.len() * shape.len())?;
    let jobs = Mutex::new(pixels.chunks_exact_mut(shape.len()).zip(pictures).enumerate());
    let (bad, small) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let done = AtomicUsize::new(0);
    // Jobs are taken in order, so that every file before the first invalid one is decoded.
    let first_bad = AtomicUsize::new(usize::MAX);
    on_threads(threads.min(pictures.len()), || {
        loop {
            let job = jobs.lock().expect("no thread panics with the lock").next();
            let Some((place, (image, picture))) = job else { break };
            if !skip_bad && place > first_bad.load(Ordering::Relaxed) {
                break;
            }
            match decode_picture(&picture.path(root), shape, resize) {
                Ok(Decoded { pixels, enlarged_from, .. }) => {
                    image.copy_from_slice(&pixels);
                    if let Some(size) = enlarged_from {
                        small.lock().expect("no thread panics with the lock").push((place, size));
                    }
                }
                Err(error) => {
                    first_bad.fetch_min(place, Ordering::Relaxed);
                    bad.lock().expect("no thread panics with the lock").push((place, error));
                }
            }
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, pictures.len());
        }
    });
    let mut bad = bad.into_inner().expect("no thread panics with the lock");
    bad.sort_by_key(|(place, _)| *place);
    if let (false, Some((_, error))) = (skip_bad, bad.first()) {
        return Err(error.clone());
    }
    let skipped = |(place, error): (usize, DataError)| {
        let reason = match error {
            DataError::Picture { reason, .. } | DataError::Read { reason, .. } => reason,
            error => error.to_string(),
        };
        (place, SkippedImage { name: pictures[place].name.clone(), reason })
    };
    let mut small = small.into_inner().expect("no thread panics with the lock");
    small.sort_unstable();
    let small = small.into_iter().map(|(place, [width, height])| {
        let name = pictures[place].name.clone();
        SmallPicture { name, width, height }
    });
    let packed = Packed {
        shape,
        pixels,
        labels: pictures.iter().map(|picture| picture.label).collect(),
        names: Names::Files(pictures.iter().map(|picture| picture.name.clone()).collect()),
        small: small.collect(),
    };
    Ok((packed, bad.into_iter().map(skipped).collect()))
}

#[cfg(test)]
mod tests {
    use crate::advice::Explain;
    use std::fs;

    use super::super::samples::{class_folders as folder, listing_refused as refused, write, write_class};
    use super::*;

    fn names(pictures: &[Picture]) -> Vec<(&str, u16)> {
        pictures.iter().map(|picture| (picture.name.as_str(), picture.label)).collect()
    }

    #[test]
    fn classes_are_matched_by_name_and_not_by_order() {
        let root = folder(&["train/dog", "train/cat", "train/bee", "val/dog", "test/bee", "test/cat"]);
        let listing = Listing::of(root.path(), None).unwrap();
        assert_eq!(listing.class_names, ["bee", "cat", "dog"]);
        assert_eq!(names(&listing.validation.unwrap()), [("val/dog/0.png", 2), ("val/dog/1.png", 2)]);
        let test = listing.test.unwrap();
        assert_eq!(names(&test)[1..3], [("test/bee/1.png", 0), ("test/cat/0.png", 1)]);
        assert_eq!(listing.train.len(), 6);
    }

    #[test]
    fn one_folder_of_classes_is_a_train_set() {
        let root = folder(&["cat", "dog"]);
        let listing = Listing::of(root.path(), None).unwrap();
        assert_eq!(names(&listing.train)[1..3], [("cat/1.png", 0), ("dog/0.png", 1)]);
        assert_eq!((listing.validation, listing.test), (None, None));
    }

    #[test]
    fn other_files_are_ignored_and_subfolders_are_searched() {
        let root = folder(&["cat/images", "dog"]);
        for name in ["cat/notes.txt", "cat/movie.gif", "dog/.hidden.png", ".cache/1.png", "dog/Upper.JPG", "list.csv"] {
            write(&root.path().join(name), b"");
        }
        let listing = Listing::of(root.path(), None).unwrap();
        assert_eq!(listing.class_names, ["cat", "dog"]);
        assert_eq!(
            names(&listing.train),
            [
                ("cat/images/0.png", 0),
                ("cat/images/1.png", 0),
                ("dog/0.png", 1),
                ("dog/1.png", 1),
                ("dog/Upper.JPG", 1)
            ]
        );
        assert_eq!((listing.ignored.other_files.count, listing.loose_pictures), (1, 0));
        assert_eq!(listing.ignored.other_formats.names, ["cat/movie.gif"]);
    }

    #[test]
    fn images_outside_class_folders_are_counted() {
        let root = folder(&["cat", "dog"]);
        write_class(root.path(), 3, 0);
        assert_eq!(Listing::of(root.path(), None).unwrap().loose_pictures, 3);
        let root = folder(&["train/cat", "train/dog", "val/cat"]);
        for (place, count) in [("", 1), ("train", 2), ("val", 4)] {
            write_class(&root.path().join(place), count, 0);
        }
        let listing = Listing::of(root.path(), None).unwrap();
        assert_eq!((listing.loose_pictures, listing.train.len()), (7, 4));
    }

    #[test]
    fn a_class_that_train_lacks_is_refused() {
        let (error, hint) = refused(&folder(&["train/cat", "train/dog", "val/cat", "val/lynx"]));
        assert_eq!(error, "class `lynx` is in val/ but not in train/ (photos/val/lynx)");
        assert_eq!(hint, "add photos/train/lynx, or leave it out with data.classes = \"cat,dog\"");
        let (error, _) = refused(&folder(&["train/cat", "train/dog", "test/lynx"]));
        assert_eq!(error, "class `lynx` is in test/ but not in train/ (photos/test/lynx)");
    }

    #[test]
    fn classes_not_in_use_are_ignored_even_if_invalid() {
        let root = folder(&["train/ant", "train/cat", "train/dog", "val/lynx", "val/dog", "test/ant"]);
        write(&root.path().join("train/bee/notes.txt"), b"not an image");
        let listing = Listing::of(root.path(), Some(&ClassSubset::parse("dog,cat"))).unwrap();
        assert_eq!(listing.class_names, ["cat", "dog"]);
        assert_eq!(names(&listing.train)[1..3], [("train/cat/1.png", 0), ("train/dog/0.png", 1)]);
        assert_eq!(names(&listing.validation.unwrap())[0], ("val/dog/0.png", 1));
        assert_eq!((listing.test.unwrap().len(), listing.ignored), (0, Ignored::default()));
        let error = Listing::of(root.path(), Some(&ClassSubset::parse("cat,lynx"))).unwrap_err();
        let shown = root.path().display();
        assert_eq!(
            error.to_string(),
            format!("classes lists `lynx`, which is not a class of the data ({shown}, [data])")
        );
        assert_eq!(error.hint().unwrap(), "the classes are ant, bee, cat, dog");
    }

    #[test]
    fn a_class_without_images_is_refused() {
        let root = folder(&["cat", "dog"]);
        write(&root.path().join("lynx/notes.txt"), b"none yet");
        let (error, hint) = refused(&root);
        assert_eq!(error, "class `lynx` has no images (photos/lynx)");
        assert_eq!(hint, "put images (jpg, jpeg, jpe, jfif, png, webp, bmp) into photos/lynx, or remove it");
    }

    #[test]
    fn a_folder_without_classes_is_refused() {
        let root = tempfile::tempdir().unwrap();
        write_class(root.path(), 3, 0);
        assert_eq!(refused(&root).0, "a data set needs at least 2 class folders, not 0 (photos)");
        assert_eq!(
            refused(&folder(&["train/cat"])).0,
            "a data set needs at least 2 class folders, not 1 (photos/train)"
        );
        let root = folder(&["train/cat", "train/dog"]);
        fs::create_dir(root.path().join("val")).unwrap();
        assert_eq!(refused(&root).0, "a data set needs at least 2 class folders, not 0 (photos/val)");
    }

    #[test]
    fn splits_that_do_not_fit_together_are_refused() {
        assert_eq!(refused(&folder(&["val/cat", "val/dog"])).0, "val/ exists, but train/ does not (photos/val)");
        assert_eq!(
            refused(&folder(&["train/cat", "train/dog", "val/cat", "valid/cat"])).0,
            "val/ and valid/ are both a validation split (photos)"
        );
        // A class of this name is not a split.
        assert_eq!(Listing::of(folder(&["test", "photo"]).path(), None).unwrap().class_names, ["photo", "test"]);
    }

    #[test]
    fn splits_are_found_in_any_case() {
        let root = folder(&["Train/cat", "Train/dog", "VAL/cat", "Test/dog"]);
        let listing = Listing::of(root.path(), None).unwrap();
        assert_eq!(listing.class_names, ["cat", "dog"]);
        assert_eq!(names(&listing.test.unwrap())[0], ("Test/dog/0.png", 1));
        assert_eq!((listing.train.len(), listing.validation.map(|all| all.len())), (4, Some(2)));
        let (error, _) = refused(&folder(&["Train/cat", "Train/dog", "VAL/lynx"]));
        assert_eq!(error, "class `lynx` is in VAL/ but not in train/ (photos/VAL/lynx)");
        #[cfg(target_os = "linux")]
        assert_eq!(
            refused(&folder(&["Train/cat", "train/dog"])).0,
            "Train/ and train/ are both a train split (photos)"
        );
    }

    #[test]
    fn a_class_may_be_named_train_and_other_folders_are_listed_as_ignored() {
        let listing = Listing::of(folder(&["bus", "train", "tram"]).path(), None).unwrap();
        assert_eq!(listing.class_names, ["bus", "train", "tram"]);
        let (error, _) = refused(&folder(&["test", "train"]));
        assert_eq!(error, "a data set needs at least 2 class folders, not 0 (photos/train)");
        let root = folder(&["train/cat", "train/dog", "vaild/cat"]);
        let listing = Listing::of(root.path(), None).unwrap();
        assert_eq!((listing.ignored_folders, listing.validation), (vec![root.path().join("vaild")], None));
    }

    #[cfg(unix)]
    #[test]
    fn a_linked_parent_folder_is_listed_once_and_subfolders_are_searched() {
        let root = folder(&["cat/1/2/3/4/5/6/7/8/9", "dog"]);
        std::os::unix::fs::symlink(root.path().join("dog"), root.path().join("dog/again")).unwrap();
        let listing = Listing::of(root.path(), None).unwrap();
        assert_eq!(listing.train.len(), 4);
        assert_eq!(names(&listing.train)[2], ("dog/0.png", 1));
    }

    #[test]
    fn the_error_names_the_first_invalid_image_for_any_number_of_threads() {
        let root = folder(&["cat", "dog"]);
        write_class(&root.path().join("cat"), 30, 0);
        for name in ["cat/3.png", "cat/7.png", "dog/1.png"] {
            write(&root.path().join(name), b"not an image");
        }
        let listing = Listing::of(root.path(), None).unwrap();
        let pictures: Vec<&Picture> = listing.train.iter().collect();
        let shape = ImageShape { channels: 3, height: 5, width: 7 };
        let decode = |skip, threads| {
            decode_all(root.path(), &pictures, shape, Resize::Squash, skip, threads, &|done, all| assert!(done <= all))
        };
        for threads in [1, 2, 5] {
            let error = decode(false, threads).err().unwrap();
            assert!(error.hint().unwrap().contains("data.skip_bad_images = true"));
            let DataError::Picture { path, reason } = error else { panic!("{error}") };
            assert_eq!((path, reason.as_str()), (root.path().join("cat/3.png"), "not a JPEG, PNG, WebP or BMP file"));

            let (packed, skipped) = decode(true, threads).unwrap();
            let skipped: Vec<&str> = skipped.iter().map(|(_, image)| image.name.as_str()).collect();
            assert_eq!(skipped, ["cat/3.png", "cat/7.png", "dog/1.png"]);
            let reds: Vec<u8> = packed.pixels.chunks(shape.len()).map(|image| image[0]).collect();
            assert_eq!(reds[..4], [0, 1, 10, 11], "images are in the order of their names");
        }
    }
}
