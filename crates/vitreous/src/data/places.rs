//! Where a known data set's files may be, and which known data set's files a folder contains.

use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::DataError;
use super::idx::labels_content;
use crate::config::data::DataSpec;
use crate::data_sets::{Content, DATA_SETS, DataSet, Format};
use crate::numbers::hexadecimal;
use crate::regular;

/// Bytes of an IDX file of 60,000 labels.
const TRAIN_LABELS_BYTES: usize = 60_008;

/// The folders in which a known data set's files may be.
pub struct Places {
    set: &'static DataSet,
    /// The folder given by the user, if any.
    dir: Option<PathBuf>,
    folders: Vec<PathBuf>,
    /// Whether other files of the data set were found there.
    found_others: bool,
}

impl Places {
    /// The folders of a data set in the data folder, and the data folder itself.
    pub fn new(spec: &DataSpec, set: &'static DataSet) -> Places {
        let dir = spec.dir.clone().unwrap_or_else(|| PathBuf::from("."));
        let mut places: Vec<PathBuf> = set.folders.iter().map(|folder| dir.join(folder)).collect();
        // IDX data sets have equal file names: a folder named after one is not searched for another.
        let of_another = DATA_SETS.iter().any(|other| !set.folders.contains(&other.name) && dir.ends_with(other.name));
        if !of_another {
            places.push(dir);
        }
        Places { set, dir: spec.dir.clone(), folders: places, found_others: false }
    }

    /// The folder of a file already found: a data set's files are in the same folder.
    pub fn same_folder(set: &'static DataSet, file: &Path) -> Places {
        let folders = vec![file.parent().unwrap_or(Path::new(".")).to_path_buf()];
        Places { set, dir: None, folders, found_others: true }
    }

    /// Finds a file by the first of its spellings that exists.
    ///
    /// # Errors
    /// When none of them exists in any of the folders.
    pub fn find(&self, spellings: &[String]) -> Result<PathBuf, DataError> {
        for folder in &self.folders {
            for spelling in spellings {
                let path = folder.join(spelling);
                if path.is_file() {
                    return Ok(path);
                }
            }
        }
        if let Some(path) = self.dir.clone().filter(|dir| !dir.exists()) {
            return Err(DataError::NoDataFolder { path, name: Some(self.set.name.to_string()) });
        }
        let name = self.set.name;
        if let Some(path) = self.folders.iter().find_map(|folder| python_cifar(self.set, folder)) {
            return Err(DataError::PythonCifar { name, path });
        }
        let (name, folders, dir) = (name.to_string(), self.folders.clone(), self.dir.clone());
        Err(DataError::MissingFile { name, file: spellings[0].clone(), folders, dir, found_others: self.found_others })
    }
}

/// Common spellings of the name of an IDX file.
pub fn idx_spellings(official: &str) -> [String; 4] {
    let dotted = official.replace("-idx", ".idx");
    [format!("{official}.gz"), official.to_string(), format!("{dotted}.gz"), dotted]
}

/// The known data set whose files a folder contains. IDX data sets are identified by the checksum of their labels, otherwise
/// by the folder's path.
pub fn known_files(folder: &Path) -> Option<&'static str> {
    let file =
        |official: &str| idx_spellings(official).map(|name| folder.join(name)).into_iter().find(|file| file.is_file());
    let is_cifar = |set: &&DataSet| match &set.format {
        // Both: other programs name files `train.bin` too.
        Format::Cifar(format) => {
            [format.train_files[0], format.test_file].iter().all(|file| folder.join(file).is_file())
        }
        Format::Drawn | Format::Idx => false,
    };
    if let Some(set) = DATA_SETS.iter().find(is_cifar) {
        return Some(set.name);
    }
    file("train-images-idx3-ubyte")?;
    let labels = file("train-labels-idx1-ubyte");
    labels.and_then(|labels| whose_labels(&labels)).or_else(|| named_after(folder)).or(Some("mnist"))
}

/// The IDX data set other than MNIST whose name or alias is in one of the last two parts of a path.
fn named_after(folder: &Path) -> Option<&'static str> {
    let parts: Vec<String> = folder
        .components()
        .rev()
        .take(2)
        .map(|part| part.as_os_str().to_string_lossy().to_lowercase().replace(['-', '_', ' '], ""))
        .collect();
    let others = DATA_SETS.iter().filter(|set| matches!(set.format, Format::Idx) && set.name != "mnist");
    let names = others.flat_map(|set| set.aliases.iter().copied().chain([set.name]).map(move |name| (name, set.name)));
    names.into_iter().find(|(name, _)| parts.iter().any(|part| part.contains(name))).map(|(_, set)| set)
}

/// The known data set of a training label file. Labels are enough: the file is small, and no two data sets have the
/// same labels.
pub fn whose_labels(labels: &Path) -> Option<&'static str> {
    let content = hexadecimal(&Sha256::digest(labels_content(labels, TRAIN_LABELS_BYTES)?));
    let file = regular::open(labels).ok().and_then(|file| {
        let mut bytes = Vec::new();
        file.take(2 * TRAIN_LABELS_BYTES as u64).read_to_end(&mut bytes).ok()?;
        Some(hexadecimal(&Sha256::digest(bytes)))
    });
    let is_of = |set: &&DataSet| match set.train_labels() {
        Some(Content::Gzip { sha256, .. }) => sha256 == content,
        Some(Content::File { sha256, .. }) => file.as_deref() == Some(sha256),
        Some(Content::Archive { .. }) | None => false,
    };
    DATA_SETS.iter().find(is_of).map(|set| set.name)
}

/// The file that identifies CIFAR's Python version, in a folder or in the archive's folder below.
fn python_cifar(set: &DataSet, folder: &Path) -> Option<PathBuf> {
    let Format::Cifar(format) = &set.format else { return None };
    let (inside, file) = format.python_file;
    [folder.join(file), folder.join(inside).join(file)].into_iter().find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use crate::advice::Explain;
    use std::fs;

    use super::super::samples::{spec, write, write_cifar, write_class, write_mnist};
    use super::super::{DataError, inspect};
    use super::*;

    /// Error and hint of a data set in a folder that is shown as `here`.
    fn refused(name: &str, dir: Option<&Path>, here: &Path) -> [String; 2] {
        let error = inspect(&DataSpec { dir: dir.map(Path::to_path_buf), ..spec(name, here) }).expect_err("bad data");
        let shown = |text: String| text.replace(here.to_str().unwrap(), "here");
        [shown(error.to_string()), shown(error.hint().unwrap())]
    }

    #[test]
    fn a_missing_data_folder_and_missing_files_are_different_errors() {
        let here = tempfile::tempdir().unwrap();
        let there = here.path().join("none");
        for name in ["mnist", "cifar10", "my-photos"] {
            let [text, hint] = refused(name, Some(&there), here.path());
            assert_eq!(text, "no such folder (here/none)", "{name}");
            let offer = format!("name another data.dir, or download it: data fetch \"{name}\" data.dir = here/none");
            let expected =
                if name == "my-photos" { "name the folder with the data sets with data.dir" } else { &offer };
            assert_eq!(hint, expected, "{name}");
        }
        let [text, hint] = refused("mnist", Some(here.path()), here.path());
        assert!(text.starts_with("mnist needs the file train-images-idx3-ubyte.gz (looked in here/mnist, "), "{text}");
        assert_eq!(hint, "name another data.dir, or download it: data fetch \"mnist\" data.dir = here");
        let error = DataError::MissingFile {
            name: "mnist".to_string(),
            file: String::new(),
            folders: Vec::new(),
            dir: None,
            found_others: false,
        };
        let expected = "name its folder with data.dir, or download it: data fetch \"mnist\"";
        assert_eq!(error.hint().as_deref(), Some(expected));
    }

    #[test]
    fn a_single_missing_file_is_to_be_added_to_the_others() {
        let here = tempfile::tempdir().unwrap();
        write_cifar(&here.path().join("cifar10"));
        fs::remove_file(here.path().join("cifar10/data_batch_4.bin")).unwrap();
        let [text, hint] = refused("cifar10", Some(here.path()), here.path());
        assert_eq!(text, "cifar10 needs the file data_batch_4.bin (looked in here/cifar10)");
        assert_eq!(hint, "put it there, next to the other files");
    }

    #[test]
    fn known_files_are_not_an_image_folder() {
        let here = tempfile::tempdir().unwrap();
        write_mnist(&here.path().join("sets/mnist"));
        write_mnist(&here.path().join("sets/fashion-mnist"));
        write_cifar(&here.path().join("other/cifar"));
        let of = |folder: &str| refused(here.path().join(folder).to_str().unwrap(), None, here.path());
        let expected = |name: &str, folder: &str| {
            let hint = format!("use data.name = \"{name}\" data.dir = here/{folder}");
            [format!("this folder contains the files of {name}, not class folders (here/{folder})"), hint]
        };
        assert_eq!(of("sets/mnist"), expected("mnist", "sets/mnist"));
        assert_eq!(of("sets/fashion-mnist"), expected("fashion-mnist", "sets/fashion-mnist"));
        write_mnist(&here.path().join("more/KMNIST/raw"));
        assert_eq!(of("more/KMNIST/raw"), expected("kmnist", "more/KMNIST/raw"));
        // A folder of data sets: the first is named.
        assert_eq!(of("sets"), expected("fashion-mnist", "sets/fashion-mnist"));
        assert_eq!(of("other"), expected("cifar10", "other/cifar"));
    }

    #[test]
    fn class_folders_one_level_deeper_are_suggested() {
        let here = tempfile::tempdir().unwrap();
        for class in ["wrap/p1/cat", "wrap/p1/dog"] {
            write_class(&here.path().join(class), 2, 0);
        }
        let of = |folder: &str| refused(here.path().join(folder).to_str().unwrap(), None, here.path());
        let error = "a data set needs at least 2 class folders, and they are one folder deeper (here/wrap)";
        assert_eq!(of("wrap"), [error, "did you mean here/wrap/p1?"]);
        fs::remove_dir_all(here.path().join("wrap/p1/dog")).unwrap();
        assert_eq!(of("wrap")[0], "a data set needs at least 2 class folders, not 1 (here/wrap)");
    }

    #[test]
    fn the_python_version_of_cifar_is_recognized() {
        let here = tempfile::tempdir().unwrap();
        write(&here.path().join("cifar-10-batches-py/data_batch_1"), b"pickled");
        let [text, hint] = refused("cifar10", Some(here.path()), here.path());
        let place = "here/cifar-10-batches-py/data_batch_1";
        assert_eq!(
            text,
            format!("these are the files of cifar10's Python version, not of its binary version ({place})")
        );
        assert_eq!(hint, "download the binary version: data fetch \"cifar10\"");
        assert_eq!(refused("cifar10", Some(&here.path().join("cifar-10-batches-py")), here.path())[0], text);
        let other = inspect(&spec("mnist", here.path())).unwrap_err();
        assert!(matches!(other, DataError::MissingFile { .. }), "{other}");
    }
}
