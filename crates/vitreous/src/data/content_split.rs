//! Splits a folder of images into train and validation by the bytes of its files.
//!
//! - A file is a validation image if SHA-256 over `split_seed` (8 bytes, little endian) and the file's bytes, as a
//!   fraction of 2^64 (its first 8 bytes, big endian), is below `val_fraction`. Other files, names and order do not
//!   matter: images may be added, and no image moves to the other split.
//! - Copies of a file are in the same split.
//! - If a class would have no image in one of the splits but has two different images, the one with the most extreme
//!   hash is moved there. A single image of a class is a training image.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::decode::FILE_BYTES_MAX;
use super::folder::{Listing, Picture};
use super::source::Source;
use super::split::limit;
use super::{Facts, Progress, ValidationSource};
use crate::config::data::DataSpec;
use crate::numbers::number;
use crate::parallel::on_threads;
use crate::regular;

/// Indices of a folder's training and validation images, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Division {
    pub train: Vec<u32>,
    pub validation: Vec<u32>,
    /// Absent if there is a validation folder or no validation split.
    pub forced: Option<Forced>,
}

/// Numbers of images that were moved against their hash, because their class would have no image in the other split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forced {
    /// Moved to train.
    pub train: usize,
    /// Moved to validation.
    pub validation: usize,
}

impl Facts {
    /// Splits a folder into training and validation images. This reads the files if their bytes decide, which is much faster
    /// than decoding them; the number of training images is then known before decoding.
    pub fn divide(&mut self, spec: &DataSpec, threads: usize, progress: Progress) {
        if let (Source::Folder(listing), None) = (&self.source, &self.division) {
            let division = divide_folder(listing, self.class_names.len(), spec, threads, progress);
            self.train = division.train.len();
            self.validation = listing.validation.as_ref().map_or(division.validation.len(), Vec::len);
            self.division = Some(division);
        }
    }

    /// Where the validation images come from.
    pub fn validation_source(&self) -> ValidationSource {
        match &self.source {
            Source::Folder(listing) if listing.validation.is_some() => ValidationSource::Folder,
            Source::Folder(_) => ValidationSource::Content,
            _ => ValidationSource::Fraction,
        }
    }

    /// A note if the validation split is empty although `val_fraction` is above 0.
    pub fn no_validation(&self, spec: &DataSpec) -> Option<String> {
        let fraction = spec.val_fraction;
        let is_asked = fraction > 0.0 && self.validation == 0;
        is_asked.then(|| {
            format!(
                "the validation split is empty: too few different images for val_fraction {}; add images or set \
                 val_fraction 0",
                number(fraction)
            )
        })
    }
}

/// Divides the train set of a folder, after reading the files if their bytes decide.
fn divide_folder(
    listing: &Listing,
    num_classes: usize,
    spec: &DataSpec,
    threads: usize,
    progress: Progress,
) -> Division {
    let labels: Vec<u16> = listing.train.iter().map(|picture| picture.label).collect();
    if listing.validation.is_some() || spec.val_fraction == 0.0 {
        let train = limit((0..labels.len() as u32).collect(), &labels, num_classes, spec);
        return Division { train, validation: Vec::new(), forced: None };
    }
    let hashes = hashes(&listing.root, &listing.train, spec.split_seed, threads, progress);
    divide_by_content(&hashes, &labels, num_classes, spec)
}

/// Reads image files on several threads and returns the hash of each.
///
/// The operating system caches the bytes until they are decoded, if it has the memory.
fn hashes(root: &Path, pictures: &[Picture], split_seed: u64, threads: usize, progress: Progress) -> Vec<u64> {
    let mut hashes = vec![0; pictures.len()];
    let jobs = Mutex::new(hashes.iter_mut().zip(pictures));
    let done = AtomicUsize::new(0);
    on_threads(threads.min(pictures.len()), || {
        loop {
            let job = jobs.lock().expect("no thread panics with the lock").next();
            let Some((hash, picture)) = job else { break };
            // An unreadable file is reported when it is decoded.
            *hash = hash_of(&picture.path(root), split_seed).unwrap_or(u64::MAX);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, pictures.len());
        }
    });
    hashes
}

fn hash_of(path: &Path, split_seed: u64) -> io::Result<u64> {
    let mut hash = Sha256::new();
    hash.update(split_seed.to_le_bytes());
    io::copy(&mut regular::open(path)?.take(FILE_BYTES_MAX), &mut hash)?;
    Ok(hash.finalize()[..8].iter().fold(0, |first, &byte| first << 8 | u64::from(byte)))
}

/// Divides images by the hashes of their files and their classes.
fn divide_by_content(hashes: &[u64], labels: &[u16], num_classes: usize, spec: &DataSpec) -> Division {
    let mut by_class: Vec<Vec<usize>> = vec![Vec::new(); num_classes];
    labels.iter().enumerate().for_each(|(place, label)| by_class[usize::from(*label)].push(place));
    let by_hash = |hash: u64| hash as f64 / 2f64.powi(64) < spec.val_fraction;
    let mut is_validation: Vec<bool> = hashes.iter().map(|hash| by_hash(*hash)).collect();
    let mut forced = Forced::default();
    for members in &by_class {
        let of_class = || members.iter().map(|&place| hashes[place]);
        let (Some(smallest), Some(largest)) = (of_class().min(), of_class().max()) else { continue };
        // Copies of a file stay together: a class of equal images has no validation image.
        let (extreme, side, moved) = match (by_hash(smallest), by_hash(largest)) {
            (true, true) => (largest, false, &mut forced.train),
            (false, false) if smallest != largest => (smallest, true, &mut forced.validation),
            _ => continue,
        };
        for &place in members.iter().filter(|&&place| hashes[place] == extreme) {
            is_validation[place] = side;
            *moved += 1;
        }
    }
    let (validation, train): (Vec<u32>, Vec<u32>) =
        (0..labels.len() as u32).partition(|&place| is_validation[place as usize]);
    Division { train: limit(train, labels, num_classes, spec), validation, forced: Some(forced) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::samples::{spec, write, write_class};
    use super::super::{DataError, Facts, Loaded, Split, Wanted, inspect, load};
    use super::*;

    /// `hashlib.sha256((42).to_bytes(8, "little") + b"abc").hexdigest()[:16]` in Python.
    const HASH_OF_ABC: u64 = 0x6488_c645_08ed_7629;

    fn with_fraction(val_fraction: f64) -> DataSpec {
        DataSpec { val_fraction, ..DataSpec::default() }
    }

    /// Hashes at these percentages of the range.
    fn at(hundredths: &[u64]) -> Vec<u64> {
        hundredths.iter().map(|part| u64::MAX / 100 * part).collect()
    }

    #[test]
    fn the_hash_is_that_of_seed_and_bytes() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("a.png"), b"abc");
        assert_eq!(hash_of(&folder.path().join("a.png"), 42).unwrap(), HASH_OF_ABC);
        assert!(hash_of(&folder.path().join("a.png"), 43).unwrap() != HASH_OF_ABC);
        assert!(hash_of(folder.path(), 42).is_err(), "a folder is not a file");
    }

    #[test]
    fn hashes_below_the_fraction_are_validation_and_an_empty_split_takes_the_most_extreme() {
        let divided = |hundredths: &[u64], labels: &[u16]| {
            let Division { train, validation, forced } =
                divide_by_content(&at(hundredths), labels, 3, &with_fraction(0.25));
            (train, validation, forced.map(|forced| (forced.train, forced.validation)).unwrap())
        };
        assert_eq!(divided(&[24, 26, 99, 3], &[0, 0, 1, 1]), (vec![1, 2], vec![0, 3], (0, 0)));
        assert_eq!(divided(&[60, 30, 70], &[0, 0, 0]), (vec![0, 2], vec![1], (0, 1)));
        assert_eq!(divided(&[10, 20, 5], &[0, 0, 0]), (vec![1], vec![0, 2], (1, 0)));
        // A single image and its copies are training images.
        assert_eq!(divided(&[10, 90, 90], &[0, 1, 1]), (vec![0, 1, 2], vec![], (1, 0)));
        // Copies stay together when they are moved.
        assert_eq!(divided(&[30, 90, 30], &[0, 0, 0]), (vec![1], vec![0, 2], (0, 2)));
    }

    #[test]
    fn a_limit_reduces_only_the_training_images() {
        let hashes: Vec<u64> = (0..97).map(|i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        let labels: Vec<u16> = (0..97).map(|i| i % 3).collect();
        let whole = divide_by_content(&hashes, &labels, 3, &with_fraction(0.2));
        let limited = divide_by_content(&hashes, &labels, 3, &DataSpec { limit_train: Some(12), ..with_fraction(0.2) });
        assert_eq!((limited.train.len(), &limited.validation), (12, &whole.validation));
        assert!(limited.train.iter().all(|place| whole.train.contains(place)));
    }

    proptest! {
        #[test]
        fn more_images_move_none_from_train_to_validation(
            images in prop::collection::vec((any::<u64>(), 0u16..4), 1..80),
            more in prop::collection::vec((any::<u64>(), 0u16..4), 0..80),
            fraction in 0.01..0.6f64,
        ) {
            let divided = |images: &[(u64, u16)]| {
                let (hashes, labels): (Vec<u64>, Vec<u16>) = images.iter().copied().unzip();
                divide_by_content(&hashes, &labels, 4, &with_fraction(fraction))
            };
            let before = divided(&images);
            let all = [images.clone(), more].concat();
            let after = divided(&all);
            prop_assert_eq!(after.train.len() + after.validation.len(), all.len());
            // Only an image that was moved against its hash may change.
            let moved = before.train.iter().filter(|place| after.validation.contains(place)).count();
            let [earlier, later] = [before.forced, after.forced].map(Option::unwrap);
            prop_assert!(moved <= earlier.train + later.validation, "{before:?} {after:?}");
            for class in 0..4 {
                let of = |places: &[u32]| places.iter().filter(|place| all[**place as usize].1 == class).count();
                let differ = all.iter().filter(|(_, label)| *label == class).map(|(hash, _)| hash);
                let differ: std::collections::BTreeSet<_> = differ.collect();
                prop_assert!(differ.is_empty() || of(&after.train) > 0);
                prop_assert!(differ.len() < 2 || of(&after.validation) > 0);
            }
        }
    }

    fn train_and_validation(spec: &DataSpec) -> (Facts, Loaded) {
        let mut facts = inspect(spec).unwrap();
        facts.divide(spec, 3, &|_, _| ());
        let loaded = load(spec, &facts, Wanted::TrainAndValidation, 3, &|_, _| ()).unwrap();
        (facts, loaded)
    }

    fn names(split: &Option<Split>) -> Vec<String> {
        let split = split.as_ref().unwrap();
        (0..split.len()).map(|i| split.image_name(i)).collect()
    }

    #[test]
    fn images_keep_their_split_when_others_are_added_renamed_or_removed() {
        let folder = tempfile::tempdir().unwrap();
        let photos = folder.path().join("photos");
        for (class, green) in [("ant", 0), ("bee", 100), ("cow", 200)] {
            write_class(&photos.join(class), 40, green);
        }
        let spec = DataSpec { val_fraction: 0.25, ..spec("photos", folder.path()) };
        let (facts, before) = train_and_validation(&spec);
        let (train, validation) = (names(&before.train), names(&before.validation));
        assert_eq!((train.len(), validation.len()), (facts.train, facts.validation));
        assert!((15..=45).contains(&validation.len()), "{}", validation.len());
        // New images sort before the others; a copy of a training image has another name.
        write_class(&photos.join("aardvark"), 5, 50);
        for (number, class) in (7..).zip(["ant", "bee", "cow"]) {
            write_class(&photos.join(class).join("0"), number, 30);
        }
        std::fs::copy(photos.join(&train[0]), photos.join("ant/0copy.png")).unwrap();
        std::fs::remove_file(photos.join(&train[1])).unwrap();
        std::fs::remove_file(photos.join(&validation[0])).unwrap();
        let (_, after) = train_and_validation(&spec);
        let (train_after, validation_after) = (names(&after.train), names(&after.validation));
        assert!(train.iter().all(|name| !validation_after.contains(name)));
        assert!(validation.iter().all(|name| !train_after.contains(name)));
        assert!(train_after.contains(&"ant/0copy.png".to_string()));
        // Fewer classes or another order of names do not change the split.
        std::fs::rename(photos.join("ant"), photos.join("zebra")).unwrap();
        let (_, renamed) = train_and_validation(&spec);
        let was_ant = |name: &String| name.replace("zebra/", "ant/");
        let mut back: Vec<String> = names(&renamed.validation).iter().map(was_ant).collect();
        back.sort();
        assert_eq!(back, validation_after);
    }

    #[test]
    fn the_test_split_and_a_validation_folder_need_no_hashes() -> Result<(), DataError> {
        let folder = tempfile::tempdir().unwrap();
        for class in ["train/ant", "train/bee", "val/ant", "val/bee", "test/ant"] {
            write_class(&folder.path().join("photos").join(class), 3, 0);
        }
        let spec = spec("photos", folder.path());
        let mut facts = inspect(&spec)?;
        facts.divide(&spec, 1, &|_, _| panic!("nothing is read"));
        assert_eq!((facts.train, facts.validation), (6, 6));
        std::fs::remove_dir_all(folder.path().join("photos/val")).unwrap();
        let facts = inspect(&spec)?;
        assert_eq!(load(&spec, &facts, Wanted::Test, 1, &|_, _| ())?.test.map(|test| test.len()), Some(3));
        Ok(())
    }
}
