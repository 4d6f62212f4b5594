//! CIFAR in its binary versions: records of label bytes and a 32x32 RGB image, already planar.
//! Source: <https://www.cs.toronto.edu/~kriz/cifar.html>, "Binary version".
//!
//! The files carry neither header nor checksum: their sizes are compared with the record's and with each other.

use std::cmp::Ordering;
use std::fs;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::idx::{BYTES_MAX, zeros};
use super::split::{Names, Packed};
use super::{DataError, ImageShape, Progress};
use crate::data_sets::CifarFormat;
use crate::regular;

/// Shape of every image.
pub const SHAPE: ImageShape = ImageShape { channels: 3, height: 32, width: 32 };

/// Training images for each test image.
const TRAIN_PER_TEST: u64 = 5;

/// Files of one split, with valid sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct CifarFiles {
    paths: Vec<PathBuf>,
    count: usize,
    format: &'static CifarFormat,
}

impl CifarFiles {
    /// Checks the files' sizes.
    ///
    /// # Errors
    /// When a file does not hold whole records, or not as many as the other files.
    pub fn open(paths: Vec<PathBuf>, format: &'static CifarFormat) -> Result<CifarFiles, DataError> {
        let record = record_len(format);
        let mut sizes = Vec::new();
        for path in &paths {
            let bytes = fs::metadata(path).map_err(|error| DataError::read(path, &error))?.len();
            let path = path.clone();
            if bytes > BYTES_MAX {
                return Err(DataError::TooLarge { path, bytes, limit: BYTES_MAX });
            }
            if bytes == 0 {
                return Err(DataError::Empty { path });
            }
            if !bytes.is_multiple_of(record) {
                return Err(DataError::CifarSize { path, bytes, record });
            }
            sizes.push(bytes / record);
        }
        let Some(whole) = (0..sizes.len()).max_by_key(|place| sizes[*place]) else {
            return Ok(CifarFiles { paths, count: 0, format });
        };
        match sizes.iter().position(|size| *size != sizes[whole]) {
            Some(place) => Err(cut_off((&paths[place], sizes[place]), (&paths[whole], sizes[whole]))),
            None => Ok(CifarFiles { count: sizes[whole] as usize * paths.len(), paths, format }),
        }
    }

    /// Checks that there are five training images for each test image.
    ///
    /// # Errors
    /// When there are fewer or more.
    pub fn check_test(&self, test: &CifarFiles) -> Result<(), DataError> {
        let files = self.paths.len() as u64;
        let (found, tested) = (self.count as u64 / files, test.count as u64);
        let expected = TRAIN_PER_TEST * tested / files;
        match found.cmp(&expected) {
            Ordering::Equal => Ok(()),
            Ordering::Less => Err(cut_off((&self.paths[0], found), (&test.paths[0], expected))),
            Ordering::Greater => {
                let expected = (found * files).div_ceil(TRAIN_PER_TEST);
                Err(cut_off((&test.paths[0], tested), (&self.paths[0], expected)))
            }
        }
    }

    /// Number of images.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Reads all images and labels.
    ///
    /// # Errors
    /// When a file has become shorter or contains an invalid label.
    pub fn load(&self, prefix: &'static str, progress: Progress) -> Result<Packed, DataError> {
        let mut pixels = zeros(self.count * SHAPE.len())?;
        let mut labels = Vec::with_capacity(self.count);
        let mut images = pixels.chunks_exact_mut(SHAPE.len());
        let per_file = self.count / self.paths.len();
        for path in &self.paths {
            let read_error = |error: io::Error| read_error(path, &error);
            let mut file = BufReader::with_capacity(1 << 16, regular::open(path).map_err(read_error)?);
            for (index, image) in images.by_ref().take(per_file).enumerate() {
                labels.push(read_label(&mut file, self.format, path, index)?);
                file.read_exact(image).map_err(read_error)?;
                if labels.len().is_multiple_of(1000) || labels.len() == self.count {
                    progress(labels.len(), self.count);
                }
            }
        }
        Ok(Packed { shape: SHAPE, pixels, labels, names: Names::Numbered(prefix), small: Vec::new() })
    }

    /// Reads all labels and skips the images.
    ///
    /// # Errors
    /// When a file has become shorter or contains an invalid label.
    pub fn read_labels(&self) -> Result<Vec<u16>, DataError> {
        let mut labels = Vec::with_capacity(self.count);
        let per_file = self.count / self.paths.len();
        for path in &self.paths {
            let mut file = regular::open(path).map_err(|error| read_error(path, &error))?;
            for index in 0..per_file {
                let at = SeekFrom::Start(index as u64 * record_len(self.format));
                file.seek(at).map_err(|error| read_error(path, &error))?;
                labels.push(read_label(&mut file, self.format, path, index)?);
            }
        }
        Ok(labels)
    }
}

fn read_error(path: &Path, error: &io::Error) -> DataError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => DataError::Changed { path: path.to_path_buf() },
        _ => DataError::read(path, error),
    }
}

fn record_len(format: &CifarFormat) -> u64 {
    (format.label_bytes.len() + SHAPE.len()) as u64
}

/// Reads the label bytes of image `index` in a file and returns the one that is the class. All are checked, because any of
/// them can show that records are shifted.
fn read_label(file: &mut impl Read, format: &CifarFormat, path: &Path, index: usize) -> Result<u16, DataError> {
    let mut class = 0;
    for (place, &classes) in format.label_bytes.iter().enumerate() {
        let mut label = [0];
        file.read_exact(&mut label).map_err(|error| read_error(path, &error))?;
        let [label] = label;
        if label >= classes {
            return Err(DataError::Label { path: path.to_path_buf(), index, label, classes: classes.into() });
        }
        if place == format.label {
            class = label;
        }
    }
    Ok(u16::from(class))
}

/// Reads the class names from the file in a data file's folder; without such a file they are the `official` ones.
///
/// # Errors
/// When the file names more or fewer classes, or a class twice.
pub fn class_names(data_file: &Path, format: &CifarFormat, official: &[&str]) -> Result<Vec<String>, DataError> {
    let path = data_file.with_file_name(format.names_file);
    let mut text = Vec::new();
    // Class names are short: a file that is cut off here is invalid anyway.
    match regular::open(&path).and_then(|file| file.take(1 << 16).read_to_end(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(official.iter().map(|name| name.to_string()).collect());
        }
        Err(error) => return Err(DataError::read(&path, &error)),
    }
    let mut names: Vec<String> = Vec::new();
    for name in String::from_utf8_lossy(&text).lines().map(str::trim).filter(|name| !name.is_empty()) {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_string());
        }
    }
    if names.len() != official.len() {
        return Err(DataError::ClassNames { path, found: names.len(), expected: official.len() });
    }
    Ok(names)
}

/// A file cut off between two records is detected by comparison with another: the larger number is correct.
fn cut_off((path, found): (&PathBuf, u64), (other, expected): (&PathBuf, u64)) -> DataError {
    let other = other.file_name().unwrap_or_default().to_string_lossy().into_owned();
    DataError::CifarCount { path: path.clone(), found, other, expected }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::super::samples;
    use super::*;
    use crate::data_sets::{DataSet, Format, data_set};

    fn layout(name: &str) -> (&'static DataSet, &'static CifarFormat) {
        let set = data_set(name).unwrap();
        let Format::Cifar(format) = &set.format else { panic!("{name} is in CIFAR's format") };
        (set, format)
    }

    fn open(paths: Vec<PathBuf>) -> Result<CifarFiles, DataError> {
        CifarFiles::open(paths, layout("cifar10").1)
    }

    fn files(contents: &[Vec<u8>]) -> (TempDir, Vec<PathBuf>) {
        let folder = tempfile::tempdir().unwrap();
        let paths = layout("cifar10").1.train_files.iter().zip(contents).map(|(name, bytes)| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        });
        let paths = paths.collect();
        (folder, paths)
    }

    fn refused(contents: &[Vec<u8>]) -> DataError {
        let (_folder, paths) = files(contents);
        let error = open(paths).and_then(|files| files.load("train", &|_, _| ())).err();
        error.expect("the files are bad")
    }

    #[test]
    fn the_records_of_all_files_are_concatenated() {
        let (_folder, paths) = files(&[samples::cifar(0, 7), samples::cifar(7, 7)]);
        let packed = open(paths).unwrap().load("train", &|_, _| ()).unwrap();
        assert_eq!(packed.labels, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3]);
        assert_eq!(packed.pixels.len(), 14 * 3072);
        assert!(packed.pixels.chunks(3072).enumerate().all(|(i, image)| image.iter().all(|p| *p == i as u8)));
    }

    #[test]
    fn cut_off_files_are_refused_even_between_two_records() {
        let mut bytes = samples::cifar(0, 7);
        bytes.pop();
        let text = refused(&[bytes]).to_string();
        assert!(text.starts_with("21510 bytes are not a multiple of the record size of 3073 bytes ("), "{text}");
        let text = refused(&[samples::cifar(0, 7), samples::cifar(0, 5)]).to_string();
        let expected = |other: &str| format!("the file has 5 images, but 7 are expected from {other} (");
        assert!(text.starts_with(&expected("data_batch_1.bin")), "{text}");
        // The first file may be the bad one.
        let text = refused(&[samples::cifar(0, 5), samples::cifar(0, 7), samples::cifar(0, 7)]).to_string();
        assert!(
            text.starts_with(&expected("data_batch_2.bin")) || text.starts_with(&expected("data_batch_3.bin")),
            "{text}"
        );
        assert!(text.ends_with("data_batch_1.bin)"), "{text}");
        // Seven images in each of five files, for seven test images.
        let (folder, paths) = files(&[7; 5].map(|count| samples::cifar(0, count)));
        let train = open(paths).unwrap();
        let check = |count| {
            let path = folder.path().join("test_batch.bin");
            fs::write(&path, samples::cifar(0, count)).unwrap();
            train.check_test(&open(vec![path]).unwrap())
        };
        assert_eq!(check(7), Ok(()));
        let text = check(5).unwrap_err().to_string();
        assert!(text.starts_with(&expected("data_batch_1.bin")) && text.ends_with("test_batch.bin)"), "{text}");
        let text = check(9).unwrap_err().to_string();
        assert!(text.starts_with("the file has 7 images, but 9 are expected from test_batch.bin ("), "{text}");
        assert!(text.ends_with("data_batch_1.bin)"), "{text}");
        assert!(matches!(refused(&[vec![]]), DataError::Empty { .. }));
    }

    #[test]
    fn an_invalid_label_is_refused() {
        let mut bytes = samples::cifar(0, 7);
        bytes[2 * 3073] = 10;
        assert!(matches!(refused(&[bytes]), DataError::Label { index: 2, label: 10, classes: 10, .. }));
    }

    #[test]
    fn the_requested_label_byte_is_the_class() {
        let folder = tempfile::tempdir().unwrap();
        samples::write_cifar100(folder.path());
        for (name, class) in [("cifar100", 99 - 23), ("cifar100-coarse", 3)] {
            let open = |file: &str| CifarFiles::open(vec![folder.path().join(file)], layout(name).1).unwrap();
            let (train, test) = (open("train.bin"), open("test.bin"));
            assert_eq!((train.count(), train.check_test(&test)), (55, Ok(())));
            let packed = train.load("train", &|_, _| ()).unwrap();
            assert_eq!((packed.labels[23], packed.labels.len()), (class, 55), "{name}");
            assert_eq!(packed.labels, train.read_labels().unwrap());
            assert!(packed.pixels.chunks(3072).enumerate().all(|(i, image)| image.iter().all(|p| *p == i as u8)));
        }
    }

    #[test]
    fn an_invalid_cifar_100_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let [train, test] = ["train.bin", "test.bin"].map(|name| folder.path().join(name));
        let format = layout("cifar100").1;
        let open = |path: &Path| CifarFiles::open(vec![path.to_path_buf()], format);
        let refused = |bytes: &[u8]| {
            fs::write(&train, bytes).unwrap();
            open(&train).and_then(|files| files.load("train", &|_, _| ())).err().expect("the file is bad").to_string()
        };
        let good = samples::cifar100(7);
        let changed = |at: usize, label: u8| {
            let mut bytes = good.clone();
            bytes[2 * 3074 + at] = label;
            refused(&bytes)
        };
        let size = |bytes: usize| format!("{bytes} bytes are not a multiple of the record size of 3074 bytes (");
        assert!(refused(&good[..good.len() - 1]).starts_with(&size(7 * 3074 - 1)));
        assert!(refused(&[&good[..], &[0]].concat()).starts_with(&size(7 * 3074 + 1)));
        assert!(changed(1, 100).starts_with("label 100 of image 2 is not one of the 100 classes ("));
        // The other label is not used, but an invalid one shows that the file is damaged.
        assert!(changed(0, 20).starts_with("label 20 of image 2 is not one of the 20 classes ("));
        // Whole records, but too few or too many for the other file.
        for (images, expected) in [
            (54, "the file has 54 images, but 55 are expected from test.bin ("),
            (56, "the file has 11 images, but 12 are expected from train.bin ("),
        ] {
            fs::write(&train, samples::cifar100(images)).unwrap();
            fs::write(&test, samples::cifar100(11)).unwrap();
            let error = open(&train).unwrap().check_test(&open(&test).unwrap()).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn class_names_come_from_the_file_if_it_exists() {
        let folder = tempfile::tempdir().unwrap();
        let data_file = folder.path().join("data_batch_1.bin");
        let (set, format) = layout("cifar10");
        let class_names = |data_file: &Path| class_names(data_file, format, set.class_names);
        assert_eq!(class_names(&data_file).unwrap(), set.class_names);
        let names = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n";
        fs::write(folder.path().join(format.names_file), names).unwrap();
        assert_eq!(class_names(&data_file).unwrap()[9], "j");
        fs::write(folder.path().join(format.names_file), "cat\ncat\n\ndog\n").unwrap();
        let text = class_names(&data_file).unwrap_err().to_string();
        assert!(text.starts_with("2 class names for 10 classes ("), "{text}");
    }
}
