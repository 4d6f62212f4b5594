//! Loads the images of the requested splits into memory, and no others.

use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::content_hashes::ContentHashes;
use super::content_split::{Division, Forced};
use super::digits::{Digits, TEST_IMAGES, TRAIN_IMAGES};
use super::folder::{self, Listing, Picture, SkippedImage};
use super::source::{Facts, Source};
use super::split::{Drawn, Numbers, Packed, Store, divide};
use super::{DataError, Progress, Split, SplitName};
use crate::config::data::DataSpec;
use crate::numbers::hexadecimal;

/// Seed of the built-in digits. A constant: they are one data set for every seed of a run.
const DIGITS_SEED: u64 = 1;

/// Which splits to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Train and validation. Test images are not read.
    TrainAndValidation,
    /// The test split, for `evaluate`.
    Test,
}

impl Wanted {
    fn has(self, split: SplitName) -> bool {
        (split == SplitName::Test) == (self == Wanted::Test)
    }
}

/// Images in memory.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Training images, if requested.
    pub train: Option<Split>,
    /// Validation images, if requested and there are any.
    pub validation: Option<Split>,
    /// Test images, if requested.
    pub test: Option<Split>,
    /// Skipped images, which cannot be decoded.
    pub skipped: Vec<SkippedImage>,
    /// SHA-256, in hexadecimal, over names, labels and pixels of what was loaded, in order.
    pub fingerprint: String,
    /// Hashes without names, for image folders only: other images have fixed names.
    pub content: Option<ContentHashes>,
    /// For a folder split by its files' bytes: how many images were moved against their hash.
    pub forced: Option<Forced>,
}

/// Loads the requested splits; image files are decoded on several threads.
///
/// # Errors
/// When a requested split does not exist, a file is damaged, or the images do not fit into memory.
pub fn load(
    spec: &DataSpec,
    facts: &Facts,
    wanted: Wanted,
    threads: usize,
    progress: Progress,
) -> Result<Loaded, DataError> {
    let no_test = |file: &Path| DataError::NoTestSplit { name: facts.name.clone(), file: file.to_path_buf() };
    let is_test = wanted == Wanted::Test;
    let mut skipped = Vec::new();
    let numbers = facts.numbers();
    let classes = numbers.as_ref().map_or(facts.class_names.len(), Numbers::classes);
    let chosen = |packed: Packed| match &numbers {
        Some(numbers) => packed.keep(numbers),
        None => packed,
    };
    let mut divided;
    let facts = match (&facts.source, &facts.division) {
        (Source::Folder(_), None) if !is_test => {
            divided = facts.clone();
            divided.divide(spec, threads, &|_, _| ());
            &divided
        }
        _ => facts,
    };
    let splits = match &facts.source {
        Source::Idx { test, test_file, .. } if is_test => {
            let test = test.as_ref().ok_or_else(|| no_test(test_file))?;
            whole_test(chosen(test.load("test", classes, progress)?))
        }
        Source::Cifar { test, test_file, .. } if is_test => {
            let test = test.as_ref().ok_or_else(|| no_test(test_file))?;
            whole_test(chosen(test.load("test", progress)?))
        }
        Source::Idx { train, .. } => divided_train(spec, facts, chosen(train.load("train", classes, progress)?)),
        Source::Cifar { train, .. } => divided_train(spec, facts, chosen(train.load("train", progress)?)),
        Source::Digits => digits(spec, facts),
        Source::Folder(listing) => {
            if is_test && !facts.has_test() {
                return Err(no_test(&listing.root.join("test")));
            }
            load_folder(spec, facts, listing, wanted, threads, progress, &mut skipped)?
        }
    };
    let is_there =
        |(name, split): &(SplitName, Split)| wanted.has(*name) && (*name != SplitName::Validation || !split.is_empty());
    let splits: Vec<(SplitName, Split)> = splits.into_iter().filter(is_there).collect();
    let fingerprint = fingerprint(&facts.class_names, splits.iter().map(|(name, split)| (*name, split)));
    let forced = facts.division.as_ref().filter(|_| !is_test).and_then(|division| division.forced);
    let content = facts.is_folder().then(|| ContentHashes::of(&splits));
    let mut loaded = Loaded { train: None, validation: None, test: None, skipped, fingerprint, content, forced };
    for (name, split) in splits {
        match name {
            SplitName::Train | SplitName::All => loaded.train = Some(split),
            SplitName::Validation => loaded.validation = Some(split),
            SplitName::Test => loaded.test = Some(split),
        }
    }
    Ok(loaded)
}

/// Returns the SHA-256, in hexadecimal, over the names of the classes, and over names, labels and pixels of splits in order.
pub fn fingerprint<'a>(class_names: &[String], splits: impl IntoIterator<Item = (SplitName, &'a Split)>) -> String {
    let mut hash = Sha256::new();
    hash.update(class_names.join("\n"));
    splits.into_iter().for_each(|(name, split)| split.fingerprint(name, &mut hash));
    hexadecimal(&hash.finalize())
}

fn whole_test(packed: Packed) -> Vec<(SplitName, Split)> {
    let indices = (0..packed.labels.len() as u32).collect();
    vec![(SplitName::Test, Split::new(Arc::new(Store::Packed(packed)), indices))]
}

fn divided_train(spec: &DataSpec, facts: &Facts, packed: Packed) -> Vec<(SplitName, Split)> {
    let (train, validation) = divide(&packed.labels, facts.class_names.len(), spec);
    let store = Arc::new(Store::Packed(packed));
    vec![(SplitName::Train, Split::new(store.clone(), train)), (SplitName::Validation, Split::new(store, validation))]
}

fn digits(spec: &DataSpec, facts: &Facts) -> Vec<(SplitName, Split)> {
    let digits = Digits::new(DIGITS_SEED, TRAIN_IMAGES + TEST_IMAGES);
    let all: Vec<usize> = (0..facts.all_classes).collect();
    let numbers = Numbers::new(facts.places.as_ref().unwrap_or(&all), all.len());
    let in_use = |index: &u32| numbers.of(digits.label(*index as usize)).is_some();
    let images: Vec<u32> = (0..TRAIN_IMAGES as u32).filter(in_use).collect();
    let test = (TRAIN_IMAGES as u32..(TRAIN_IMAGES + TEST_IMAGES) as u32).filter(in_use).collect();
    let labels: Vec<u16> = images.iter().filter_map(|index| numbers.of(digits.label(*index as usize))).collect();
    let (train, validation) = divide(&labels, facts.class_names.len(), spec);
    let [train, validation] =
        [train, validation].map(|places| places.into_iter().map(|place| images[place as usize]).collect());
    let store = Arc::new(Store::Digits(Drawn { digits, numbers }));
    vec![
        (SplitName::Train, Split::new(store.clone(), train)),
        (SplitName::Validation, Split::new(store.clone(), validation)),
        (SplitName::Test, Split::new(store, test)),
    ]
}

/// Decodes only the images of the requested splits.
fn load_folder(
    spec: &DataSpec,
    facts: &Facts,
    listing: &Listing,
    wanted: Wanted,
    threads: usize,
    progress: Progress,
    skipped: &mut Vec<SkippedImage>,
) -> Result<Vec<(SplitName, Split)>, DataError> {
    let parts = match (wanted, &facts.division) {
        (Wanted::Test, _) => vec![(SplitName::Test, listing.test.iter().flatten().collect())],
        (Wanted::TrainAndValidation, division) => {
            let Division { train, validation, .. } = division.as_ref().expect("a folder was divided before");
            let chosen =
                |places: &[u32]| places.iter().map(|&place| &listing.train[place as usize]).collect::<Vec<&Picture>>();
            let own = listing.validation.as_ref().map(|own| own.iter().collect());
            let validation = own.unwrap_or_else(|| chosen(validation));
            vec![(SplitName::Train, chosen(train)), (SplitName::Validation, validation)]
        }
    };
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
        if good.is_empty() && !part.is_empty() && name != SplitName::Train {
            return Err(DataError::BrokenSplit { split: name, path: listing.root.clone() });
        }
        let mut is_left = vec![false; facts.class_names.len()];
        good.iter().for_each(|place| is_left[usize::from(pictures[*place as usize].label)] = true);
        // Only train needs images of every class.
        let missing = part.iter().find(|picture| !is_left[usize::from(picture.label)]);
        if let Some(picture) = missing.filter(|_| name == SplitName::Train) {
            let path = picture.path(&listing.root);
            let (class, path) = (facts.class_names[usize::from(picture.label)].clone(), path.parent().unwrap_or(&path));
            return Err(DataError::BrokenClass { class, path: path.to_path_buf() });
        }
        splits.push((name, Split::new(store.clone(), good)));
    }
    Ok(splits)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Mutex;

    use super::super::samples::{idx_images, loaded, spec, write, write_cifar, write_class, write_mnist};
    use super::super::{Normalization, describe, inspect};
    use super::*;
    use crate::config::classes::ClassSubset;

    fn classes_of(split: &Split) -> Vec<usize> {
        (0..split.len()).map(|i| split.label(i)).collect()
    }

    /// `photos/` with three classes; the label of a class is the green value of its images.
    fn write_photos(folder: &Path) {
        for (class, green) in [("ant", 0), ("bee", 100), ("cow", 200)] {
            write_class(&folder.join("photos").join(class), 20, green);
        }
    }

    #[test]
    fn every_image_keeps_its_label_name_and_bytes() {
        let folder = tempfile::tempdir().unwrap();
        write_mnist(folder.path());
        let (facts, mnist) = loaded(&spec("mnist", folder.path()), Wanted::TrainAndValidation).unwrap();
        let whole = idx_images(53, 7, 5);
        let (train, validation) = (mnist.train.unwrap(), mnist.validation.unwrap());
        assert_eq!((train.len(), validation.len()), (facts.train, facts.validation));
        for split in [&train, &validation] {
            for i in 0..split.len() {
                let index: usize = split.image_name(i).strip_prefix("train/").unwrap().parse().unwrap();
                assert_eq!(split.label(i), index % 10);
                assert_eq!(split.pixels(i), &whole[16 + 35 * index..][..35]);
            }
        }
        assert_eq!(mnist.test.map(|test| test.len()), None);
    }

    #[test]
    fn of_some_classes_every_image_keeps_its_name_and_bytes_under_a_new_label() {
        let folder = tempfile::tempdir().unwrap();
        write_mnist(folder.path());
        write_cifar(folder.path());
        write_photos(folder.path());
        let of = |name: &str, wanted| {
            let classes = Some(ClassSubset::parse(if name == "photos" { "bee,cow" } else { "1,4,7" }));
            loaded(&DataSpec { classes, ..spec(name, folder.path()) }, wanted).unwrap()
        };
        let whole = idx_images(53, 7, 5);
        for name in ["mnist", "cifar10", "digits"] {
            let (facts, some) = of(name, Wanted::TrainAndValidation);
            let (train, validation) = (some.train.unwrap(), some.validation.unwrap());
            assert_eq!((train.len(), validation.len()), (facts.train, facts.validation), "{name}");
            for split in [&train, &validation] {
                for i in 0..split.len() {
                    let name_of_image = split.image_name(i);
                    let index: usize = name_of_image.rsplit('/').next().unwrap().parse().unwrap();
                    assert_eq!(index % 10, [1, 4, 7][split.label(i)], "{name}");
                    match name {
                        "mnist" => assert_eq!(split.pixels(i), &whole[16 + 35 * index..][..35]),
                        "cifar10" => assert_eq!(split.pixels(i), [index as u8; 3072]),
                        _ => {}
                    }
                }
            }
            let test = of(name, Wanted::Test).1.test.unwrap();
            let expected: Vec<usize> = (0..)
                .zip((0..10).cycle())
                .filter(|(_, class)| [1, 4, 7].contains(class))
                .map(|(index, _)| index)
                .take(test.len())
                .collect();
            let first = if name == "digits" { TRAIN_IMAGES } else { 0 };
            let names: Vec<String> = (0..test.len()).map(|i| test.image_name(i)).collect();
            assert!(
                names.iter().zip(expected).all(|(name, index)| name.ends_with(&format!("/{}", first + index))),
                "{names:?}"
            );
            assert_eq!(
                test.len(),
                match name {
                    "mnist" => 7,
                    "cifar10" => 3,
                    _ => 1200,
                }
            );
        }
        let (facts, photos) = of("photos", Wanted::TrainAndValidation);
        let train = photos.train.unwrap();
        assert_eq!((facts.class_names, facts.train), (vec!["bee".into(), "cow".into()], train.len()));
        assert_eq!((train.len() + facts.validation, photos.validation.unwrap().len()), (40, facts.validation));
        assert!((0..train.len()).all(|i| usize::from(train.pixels(i)[64 * 64]) == 100 * (train.label(i) + 1)));
    }

    #[test]
    fn training_never_opens_test_images_or_test_labels() {
        let folder = tempfile::tempdir().unwrap();
        write_mnist(folder.path());
        // Valid headers, invalid labels: an error only if the labels are read.
        let bad_labels = [&[0, 0, 8, 1, 0, 0, 0, 23][..], &[99; 23]].concat();
        write(&folder.path().join("t10k-labels-idx1-ubyte"), &bad_labels);
        let spec = spec("mnist", folder.path());
        assert!(loaded(&spec, Wanted::TrainAndValidation).is_ok());
        let error = loaded(&spec, Wanted::Test).unwrap_err();
        assert!(matches!(error, DataError::Label { index: 0, label: 99, .. }), "{error}");
    }

    #[test]
    fn only_the_requested_split_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        write_cifar(folder.path());
        write_photos(folder.path());
        write_class(&folder.path().join("photos/test/ant"), 3, 0);
        for class in ["ant", "bee", "cow"] {
            fs::create_dir_all(folder.path().join("photos/train")).unwrap();
            let [from, to] = ["photos", "photos/train"].map(|place| folder.path().join(place).join(class));
            fs::rename(from, to).unwrap();
        }
        for (name, test_images) in [("cifar10", 11), ("photos", 3), ("digits", 4000)] {
            let spec = spec(name, folder.path());
            let (facts, learned) = loaded(&spec, Wanted::TrainAndValidation).unwrap();
            assert!(learned.test.is_none(), "{name}");
            let lengths = [learned.train, learned.validation].map(|split| split.unwrap().len());
            assert_eq!(lengths, [facts.train, facts.validation], "{name}");
            let (_, other) = loaded(&spec, Wanted::Test).unwrap();
            assert!(other.train.is_none() && other.validation.is_none(), "{name}");
            assert_eq!(other.test.map(|test| test.len()), Some(test_images), "{name}");
        }
        let (_, cifar) = loaded(&spec("cifar10", folder.path()), Wanted::Test).unwrap();
        assert_eq!(classes_of(&cifar.test.unwrap()), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0]);
    }

    #[test]
    fn a_class_without_valid_images_is_an_error_only_in_train() {
        let folder = tempfile::tempdir().unwrap();
        let photos = folder.path().join("photos");
        for class in ["train/cat", "train/dog", "val/cat", "val/dog", "test/cat", "test/dog"] {
            write_class(&photos.join(class), 1, 0);
        }
        let skipping = DataSpec { skip_bad_images: true, ..spec("photos", folder.path()) };
        for split in ["val", "test"] {
            write(&photos.join(split).join("dog/0.png"), b"not an image");
        }
        let (_, images) = loaded(&skipping, Wanted::TrainAndValidation).unwrap();
        assert_eq!((images.validation.unwrap().len(), images.skipped.len()), (1, 1));
        let (_, images) = loaded(&skipping, Wanted::Test).unwrap();
        assert_eq!(classes_of(&images.test.unwrap()), [0]);
        write(&photos.join("test/cat/0.png"), b"not an image");
        let error = loaded(&skipping, Wanted::Test).unwrap_err().to_string();
        assert_eq!(error, format!("no image of the test split can be decoded ({})", photos.display()));
        write(&photos.join("train/dog/0.png"), b"not an image");
        let error = loaded(&skipping, Wanted::TrainAndValidation).unwrap_err();
        assert!(matches!(error, DataError::BrokenClass { .. }), "{error}");
    }

    #[test]
    fn a_missing_split_is_named() {
        let folder = tempfile::tempdir().unwrap();
        write_photos(folder.path());
        let photos = spec("photos", folder.path());
        let error = loaded(&photos, Wanted::Test).unwrap_err();
        let place = folder.path().join("photos").join("test");
        assert_eq!(error.to_string(), format!("photos has no test split (looked for {})", place.display()));
        let whole = DataSpec { val_fraction: 0.0, ..photos };
        assert!(loaded(&whole, Wanted::TrainAndValidation).unwrap().1.validation.is_none());
    }

    #[test]
    fn a_validation_folder_is_used_for_any_fraction() {
        let folder = tempfile::tempdir().unwrap();
        for (class, green) in [("train/ant", 0), ("train/bee", 100), ("val/bee", 200)] {
            write_class(&folder.path().join("photos").join(class), 5, green);
        }
        let photos = DataSpec { limit_train: Some(4), ..spec("photos", folder.path()) };
        let (facts, loaded) = loaded(&photos, Wanted::TrainAndValidation).unwrap();
        assert_eq!((facts.train, facts.validation), (4, 5));
        assert_eq!(classes_of(&loaded.train.unwrap()), [0, 0, 1, 1]);
        let validation = loaded.validation.unwrap();
        assert_eq!(classes_of(&validation), [1; 5]);
        assert_eq!(validation.image_name(3), "val/bee/3.png");
        assert_eq!(validation.pixels(3)[64 * 64], 200);
    }

    #[test]
    fn invalid_images_are_skipped_and_counted_on_request() {
        let folder = tempfile::tempdir().unwrap();
        write_photos(folder.path());
        for name in ["ant/3.png", "cow/0.png"] {
            write(&folder.path().join("photos").join(name), b"not an image");
        }
        let photos = spec("photos", folder.path());
        let error = loaded(&photos, Wanted::TrainAndValidation).unwrap_err();
        let place = folder.path().join("photos").join("ant/3.png");
        let expected = "the image cannot be decoded: not a JPEG, PNG, WebP or BMP file";
        assert_eq!(error.to_string(), format!("{expected} ({})", place.display()));
        let skipping = DataSpec { skip_bad_images: true, ..photos };
        let (facts, loaded_) = loaded(&skipping, Wanted::TrainAndValidation).unwrap();
        let (train, validation) = (loaded_.train.unwrap(), loaded_.validation.unwrap());
        assert_eq!(loaded_.skipped.len(), 2);
        assert_eq!(train.len() + validation.len() + 2, facts.train + facts.validation);
        for split in [train, validation] {
            for i in 0..split.len() {
                assert_eq!(usize::from(split.pixels(i)[64 * 64]), 100 * split.label(i));
                assert!(split.image_name(i).ends_with(&format!("/{}.png", split.pixels(i)[0])));
            }
        }
        (0..20).for_each(|i| write(&folder.path().join(format!("photos/bee/{i}.png")), b"not an image"));
        let error = loaded(&skipping, Wanted::TrainAndValidation).unwrap_err();
        assert!(error.to_string().starts_with("no image of class `bee` can be decoded ("), "{error}");
    }

    #[test]
    fn the_fingerprint_changes_with_any_change() {
        let folder = tempfile::tempdir().unwrap();
        write_photos(folder.path());
        let photos = spec("photos", folder.path());
        let fingerprint = |spec: &DataSpec| loaded(spec, Wanted::TrainAndValidation).unwrap().1.fingerprint;
        let before = fingerprint(&photos);
        assert_eq!((before.len(), fingerprint(&photos)), (64, before.clone()));
        assert_ne!(fingerprint(&DataSpec { split_seed: 1, ..photos.clone() }), before);
        let classes = Some(ClassSubset::parse("ant,bee"));
        assert_ne!(fingerprint(&DataSpec { classes, ..photos.clone() }), before);
        let place = folder.path().join("photos");
        fs::rename(place.join("ant/3.png"), place.join("bee/3.png")).unwrap();
        assert_ne!(fingerprint(&photos), before);
    }

    #[test]
    fn the_splits_of_packed_and_drawn_data_never_change() {
        let folder = tempfile::tempdir().unwrap();
        write_mnist(folder.path());
        write_cifar(folder.path());
        let fingerprint = |name: &str| {
            let spec = DataSpec { limit_train: Some(37), val_fraction: 0.2, ..spec(name, folder.path()) };
            loaded(&spec, Wanted::TrainAndValidation).unwrap().1.fingerprint[..16].to_string()
        };
        // From the commit before folders were split by content.
        assert_eq!(
            ["digits", "mnist", "cifar10"].map(fingerprint),
            ["d69660717457cd74", "8aa6e8c68e986ba8", "e6c727dbe9d02807"]
        );
    }

    #[test]
    fn progress_ends_at_the_number_of_images() {
        let folder = tempfile::tempdir().unwrap();
        write_mnist(folder.path());
        write_cifar(folder.path());
        write_photos(folder.path());
        for (name, total) in [("mnist", 53), ("cifar10", 55), ("photos", 60)] {
            let spec = spec(name, folder.path());
            let last = Mutex::new((0, 0));
            let report = |done, total| {
                let mut last = last.lock().unwrap();
                *last = (last.0.max(done), total);
            };
            load(&spec, &inspect(&spec).unwrap(), Wanted::TrainAndValidation, 2, &report).unwrap();
            assert_eq!(*last.lock().unwrap(), (total, total), "{name}");
        }
    }

    #[test]
    fn a_summary_counts_every_class_and_opens_no_test_image() {
        let folder = tempfile::tempdir().unwrap();
        for (class, count) in [("train/ant", 7), ("train/bee", 5), ("val/ant", 3), ("test/bee", 2)] {
            write_class(&folder.path().join("photos").join(class), count, 0);
        }
        write(&folder.path().join("photos/test/bee/0.png"), b"not opened");
        let photos = spec("photos", folder.path());
        let (facts, loaded) = loaded(&photos, Wanted::TrainAndValidation).unwrap();
        let normalization = Normalization::new(&photos, loaded.train.as_ref().unwrap());
        let summary = describe(&facts, &loaded, &normalization);
        let counts: Vec<_> = summary.classes.iter().map(|class| (class.train, class.validation, class.test)).collect();
        assert_eq!(counts, [(7, 3, Some(0)), (5, 0, Some(2))]);
        assert_eq!((summary.train, summary.validation, summary.test), (12, 3, Some(2)));
        assert_eq!(summary.memory_bytes, 15 * 3 * 64 * 64);
    }
}
