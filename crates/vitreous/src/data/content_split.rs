//! The split of a folder of pictures into train and validation, by the bytes of its files.
//!
//! - A file validates when SHA-256 over `split_seed` (8 bytes, little endian) and the file's bytes, as a fraction of
//!   2^64 (its first 8 bytes, big endian), is below `val_fraction`. Which other files there are, what they are called
//!   and in which order they come does not matter, so data may grow and no image changes sides.
//! - Copies of one file are on one side.
//! - A class of which one side would have nothing puts its image with the most extreme hash there, if it has two
//!   different images. A class with a single image trains.

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

/// Places among a folder's pictures that train and that validate, in rising order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Division {
    pub train: Vec<u32>,
    pub validation: Vec<u32>,
    /// Absent where a folder of its own validates, or nothing does.
    pub forced: Option<Forced>,
}

/// Images that are not on the side of their hash, because their class would have nothing on the other one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forced {
    /// Images that train.
    pub train: usize,
    /// Images that validate.
    pub validation: usize,
}

impl Facts {
    /// Finds out which images of a folder train and which validate. Files are read where their bytes decide, which is
    /// many times faster than decoding them, so that what depends on their number is known before.
    pub fn divide(&mut self, spec: &DataSpec, threads: usize, progress: Progress) {
        if let (Source::Folder(listing), None) = (&self.source, &self.division) {
            let division = divide_folder(listing, self.class_names.len(), spec, threads, progress);
            self.train = division.train.len();
            self.validation = listing.validation.as_ref().map_or(division.validation.len(), Vec::len);
            self.division = Some(division);
        }
    }

    /// Where the images that validate come from.
    pub fn validation_source(&self) -> ValidationSource {
        match &self.source {
            Source::Folder(listing) if listing.validation.is_some() => ValidationSource::Folder,
            Source::Folder(_) => ValidationSource::Content,
            _ => ValidationSource::Fraction,
        }
    }

    /// Says why the validation split is empty where some images were asked for.
    pub fn no_validation(&self, spec: &DataSpec) -> Option<String> {
        let fraction = spec.val_fraction;
        let is_asked = fraction > 0.0 && self.validation == 0;
        is_asked.then(|| {
            format!(
                "the validation split is empty: too few different images for val_fraction {}; add images, or set \
                 val_fraction 0",
                number(fraction)
            )
        })
    }
}

/// Divides the train set of a folder; its files are read where their bytes decide.
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

/// Reads the files of pictures on several threads and returns the hash of each.
///
/// The operating system's cache holds the bytes until they are decoded, as far as its memory goes.
fn hashes(root: &Path, pictures: &[Picture], split_seed: u64, threads: usize, progress: Progress) -> Vec<u64> {
    let mut hashes = vec![0; pictures.len()];
    let jobs = Mutex::new(hashes.iter_mut().zip(pictures));
    let done = AtomicUsize::new(0);
    on_threads(threads.min(pictures.len()), || {
        loop {
            let job = jobs.lock().expect("no thread panics with the lock").next();
            let Some((hash, picture)) = job else { break };
            // A file that cannot be read is an error of its own when it is decoded.
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

/// Divides pictures, given by the hashes of their files and their classes.
fn divide_by_content(hashes: &[u64], labels: &[u16], num_classes: usize, spec: &DataSpec) -> Division {
    let mut by_class: Vec<Vec<usize>> = vec![Vec::new(); num_classes];
    labels.iter().enumerate().for_each(|(place, label)| by_class[usize::from(*label)].push(place));
    let by_hash = |hash: u64| hash as f64 / 2f64.powi(64) < spec.val_fraction;
    let mut validates: Vec<bool> = hashes.iter().map(|hash| by_hash(*hash)).collect();
    let mut forced = Forced::default();
    for members in &by_class {
        let of_class = || members.iter().map(|&place| hashes[place]);
        let (Some(least), Some(largest)) = (of_class().min(), of_class().max()) else { continue };
        // Copies of one file go together, so of images that are all alike none validates.
        let (extreme, side, moved) = match (by_hash(least), by_hash(largest)) {
            (true, true) => (largest, false, &mut forced.train),
            (false, false) if least != largest => (least, true, &mut forced.validation),
            _ => continue,
        };
        for &place in members.iter().filter(|&&place| hashes[place] == extreme) {
            validates[place] = side;
            *moved += 1;
        }
    }
    let (validation, train): (Vec<u32>, Vec<u32>) =
        (0..labels.len() as u32).partition(|&place| validates[place as usize]);
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

    /// Hashes at these hundredths of the whole range.
    fn at(hundredths: &[u64]) -> Vec<u64> {
        hundredths.iter().map(|part| u64::MAX / 100 * part).collect()
    }

    #[test]
    fn the_hash_is_that_of_seed_and_bytes() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("a.png"), b"abc");
        assert_eq!(hash_of(&folder.path().join("a.png"), 42).unwrap(), HASH_OF_ABC);
        assert!(hash_of(&folder.path().join("a.png"), 43).unwrap() != HASH_OF_ABC);
        assert!(hash_of(folder.path(), 42).is_err(), "a folder is no file");
    }

    #[test]
    fn hashes_below_the_fraction_validate_and_an_empty_side_takes_the_most_extreme() {
        let divided = |hundredths: &[u64], labels: &[u16]| {
            let Division { train, validation, forced } =
                divide_by_content(&at(hundredths), labels, 3, &with_fraction(0.25));
            (train, validation, forced.map(|forced| (forced.train, forced.validation)).unwrap())
        };
        assert_eq!(divided(&[24, 26, 99, 3], &[0, 0, 1, 1]), (vec![1, 2], vec![0, 3], (0, 0)));
        assert_eq!(divided(&[60, 30, 70], &[0, 0, 0]), (vec![0, 2], vec![1], (0, 1)));
        assert_eq!(divided(&[10, 20, 5], &[0, 0, 0]), (vec![1], vec![0, 2], (1, 0)));
        // A single image trains, and so do copies of it.
        assert_eq!(divided(&[10, 90, 90], &[0, 1, 1]), (vec![0, 1, 2], vec![], (1, 0)));
        // Copies go together when they are moved, too.
        assert_eq!(divided(&[30, 90, 30], &[0, 0, 0]), (vec![1], vec![0, 2], (0, 2)));
    }

    #[test]
    fn a_limit_takes_from_those_that_train_and_leaves_the_others() {
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
            // Only an image that stands in for those that its class has not, or stood in for them.
            let moved = before.train.iter().filter(|place| after.validation.contains(place)).count();
            let [stood, stand] = [before.forced, after.forced].map(Option::unwrap);
            prop_assert!(moved <= stood.train + stand.validation, "{before:?} {after:?}");
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
    fn data_may_grow_be_renamed_and_lose_images_and_the_others_keep_their_split() {
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
        // Sorted before the others, of another class and of theirs; a copy of a train image under another name.
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
        // Neither do fewer classes or another order of names.
        std::fs::rename(photos.join("ant"), photos.join("zebra")).unwrap();
        let (_, renamed) = train_and_validation(&spec);
        let was_ant = |name: &String| name.replace("zebra/", "ant/");
        let mut back: Vec<String> = names(&renamed.validation).iter().map(was_ant).collect();
        back.sort();
        assert_eq!(back, validation_after);
    }

    #[test]
    fn the_test_split_and_a_folder_of_its_own_need_no_hashes() -> Result<(), DataError> {
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
