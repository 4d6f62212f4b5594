//! CIFAR-10 in its binary version: records of one label byte and a 32x32 RGB image, already planar.
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
use crate::regular;

/// Shape of every image.
pub const SHAPE: ImageShape = ImageShape { channels: 3, height: 32, width: 32 };

/// Files of the train set, in order.
pub const TRAIN_FILES: [&str; 5] =
    ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];
/// File of the test set.
pub const TEST_FILE: &str = "test_batch.bin";

const NAMES_FILE: &str = "batches.meta.txt";
/// Names of the classes where no file has others, by label.
pub const CLASS_NAMES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
const RECORD_LEN: u64 = 1 + SHAPE.channels as u64 * SHAPE.height as u64 * SHAPE.width as u64;

/// Files of one split, of which the sizes were found good.
#[derive(Clone, Debug, PartialEq)]
pub struct CifarFiles {
    paths: Vec<PathBuf>,
    count: usize,
}

impl CifarFiles {
    /// Looks at the files' sizes.
    ///
    /// # Errors
    /// When a file does not hold whole records, or not as many as its sisters.
    pub fn open(paths: Vec<PathBuf>) -> Result<CifarFiles, DataError> {
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
            if !bytes.is_multiple_of(RECORD_LEN) {
                return Err(DataError::CifarSize { path, bytes, record: RECORD_LEN });
            }
            sizes.push(bytes / RECORD_LEN);
        }
        let Some(whole) = (0..sizes.len()).max_by_key(|place| sizes[*place]) else {
            return Ok(CifarFiles { paths, count: 0 });
        };
        match sizes.iter().position(|size| *size != sizes[whole]) {
            Some(place) => Err(cut_off((&paths[place], sizes[place]), (&paths[whole], sizes[whole]))),
            None => Ok(CifarFiles { count: sizes[whole] as usize * paths.len(), paths }),
        }
    }

    /// Checks that the test file has as many images as each train file.
    ///
    /// # Errors
    /// When it has fewer or more.
    pub fn check_test(&self, test: &CifarFiles) -> Result<(), DataError> {
        let [here, there] = [self, test].map(|files| (&files.paths[0], (files.count / files.paths.len()) as u64));
        match here.1.cmp(&there.1) {
            Ordering::Equal => Ok(()),
            Ordering::Greater => Err(cut_off(there, here)),
            Ordering::Less => Err(cut_off(here, there)),
        }
    }

    /// Number of images.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Reads all images and labels.
    ///
    /// # Errors
    /// When a file has become shorter, or holds a label that is no class.
    pub fn load(&self, prefix: &'static str, progress: Progress) -> Result<Packed, DataError> {
        let mut pixels = zeros(self.count * SHAPE.len())?;
        let mut labels = Vec::with_capacity(self.count);
        let mut images = pixels.chunks_exact_mut(SHAPE.len());
        let per_file = self.count / self.paths.len();
        for path in &self.paths {
            let read_error = |error: io::Error| read_error(path, &error);
            let mut file = BufReader::with_capacity(1 << 16, regular::open(path).map_err(read_error)?);
            for (index, image) in images.by_ref().take(per_file).enumerate() {
                labels.push(read_label(&mut file, path, index)?);
                file.read_exact(image).map_err(read_error)?;
                if labels.len().is_multiple_of(1000) || labels.len() == self.count {
                    progress(labels.len(), self.count);
                }
            }
        }
        Ok(Packed { shape: SHAPE, pixels, labels, names: Names::Numbered(prefix), small: Vec::new() })
    }

    /// Reads all labels and passes over the images.
    ///
    /// # Errors
    /// When a file has become shorter, or holds a label that is no class.
    pub fn read_labels(&self) -> Result<Vec<u16>, DataError> {
        let mut labels = Vec::with_capacity(self.count);
        let per_file = self.count / self.paths.len();
        for path in &self.paths {
            let mut file = regular::open(path).map_err(|error| read_error(path, &error))?;
            for index in 0..per_file {
                let at = SeekFrom::Start(index as u64 * RECORD_LEN);
                file.seek(at).map_err(|error| read_error(path, &error))?;
                labels.push(read_label(&mut file, path, index)?);
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

/// Reads the label of an image, `index` in its file.
fn read_label(file: &mut impl Read, path: &Path, index: usize) -> Result<u16, DataError> {
    let mut label = [0];
    file.read_exact(&mut label).map_err(|error| read_error(path, &error))?;
    if usize::from(label[0]) >= CLASS_NAMES.len() {
        let (label, classes) = (label[0], CLASS_NAMES.len());
        return Err(DataError::Label { path: path.to_path_buf(), index, label, classes });
    }
    Ok(u16::from(label[0]))
}

/// Reads the class names beside a file; without such a file they are the official ones.
///
/// # Errors
/// When the file names more or fewer than ten classes, or a class twice.
pub fn class_names(beside: &Path) -> Result<Vec<String>, DataError> {
    let path = beside.with_file_name(NAMES_FILE);
    let mut text = Vec::new();
    // Ten names are short; whatever is longer is cut off and then found wrong.
    match regular::open(&path).and_then(|file| file.take(1 << 16).read_to_end(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(CLASS_NAMES.map(str::to_string).to_vec()),
        Err(error) => return Err(DataError::read(&path, &error)),
    }
    let mut names: Vec<String> = Vec::new();
    for name in String::from_utf8_lossy(&text).lines().map(str::trim).filter(|name| !name.is_empty()) {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_string());
        }
    }
    if names.len() != CLASS_NAMES.len() {
        return Err(DataError::ClassNames { path, found: names.len(), expected: CLASS_NAMES.len() });
    }
    Ok(names)
}

/// A file cut off between two records gives itself away only beside another: the greater number is the true one.
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

    fn files(contents: &[Vec<u8>]) -> (TempDir, Vec<PathBuf>) {
        let folder = tempfile::tempdir().unwrap();
        let paths = TRAIN_FILES.iter().zip(contents).map(|(name, bytes)| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        });
        let paths = paths.collect();
        (folder, paths)
    }

    fn refused(contents: &[Vec<u8>]) -> DataError {
        let (_folder, paths) = files(contents);
        let error = CifarFiles::open(paths).and_then(|files| files.load("train", &|_, _| ())).err();
        error.expect("the files are bad")
    }

    #[test]
    fn records_of_all_files_follow_each_other() {
        let (_folder, paths) = files(&[samples::cifar(0, 7), samples::cifar(7, 7)]);
        let packed = CifarFiles::open(paths).unwrap().load("train", &|_, _| ()).unwrap();
        assert_eq!(packed.labels, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3]);
        assert_eq!(packed.pixels.len(), 14 * 3072);
        assert!(packed.pixels.chunks(3072).enumerate().all(|(i, image)| image.iter().all(|p| *p == i as u8)));
    }

    #[test]
    fn cut_off_files_are_refused_even_between_two_records() {
        let mut bytes = samples::cifar(0, 7);
        bytes.pop();
        let text = refused(&[bytes]).to_string();
        assert!(text.starts_with("21510 bytes are not a whole number of records of 3073 bytes ("), "{text}");
        let text = refused(&[samples::cifar(0, 7), samples::cifar(0, 5)]).to_string();
        assert!(text.starts_with("the file has 5 images, but data_batch_1.bin has 7 ("), "{text}");
        // The first file may be the bad one.
        let text = refused(&[samples::cifar(0, 5), samples::cifar(0, 7), samples::cifar(0, 7)]).to_string();
        assert!(text.starts_with("the file has 5 images, but data_batch_3.bin has 7 ("), "{text}");
        assert!(text.ends_with("data_batch_1.bin)"), "{text}");
        let (_folder, paths) = files(&[samples::cifar(0, 7), samples::cifar(0, 5)]);
        let [train, test] = [0, 1].map(|place: usize| CifarFiles::open(vec![paths[place].clone()]).unwrap());
        assert_eq!(train.check_test(&train), Ok(()));
        let text = train.check_test(&test).unwrap_err().to_string();
        assert!(text.starts_with("the file has 5 images, but data_batch_1.bin has 7 ("), "{text}");
        assert!(matches!(refused(&[vec![]]), DataError::Empty { .. }));
    }

    #[test]
    fn a_label_that_is_no_class_is_refused() {
        let mut bytes = samples::cifar(0, 7);
        bytes[2 * 3073] = 10;
        assert!(matches!(refused(&[bytes]), DataError::Label { index: 2, label: 10, classes: 10, .. }));
    }

    #[test]
    fn class_names_are_those_of_the_file_if_there_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let beside = folder.path().join("data_batch_1.bin");
        assert_eq!(class_names(&beside).unwrap(), CLASS_NAMES);
        let names = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n";
        fs::write(folder.path().join(NAMES_FILE), names).unwrap();
        assert_eq!(class_names(&beside).unwrap()[9], "j");
        fs::write(folder.path().join(NAMES_FILE), "cat\ncat\n\ndog\n").unwrap();
        let text = class_names(&beside).unwrap_err().to_string();
        assert!(text.starts_with("2 class names for 10 classes ("), "{text}");
    }
}
