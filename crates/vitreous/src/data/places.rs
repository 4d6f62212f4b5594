//! The folders in which a known data set's files may lie, and which data set's files a folder holds.

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

/// The folders in which a known data set's files may lie.
pub struct Places {
    set: &'static DataSet,
    /// The folder that was named, if one was.
    dir: Option<PathBuf>,
    folders: Vec<PathBuf>,
    /// Whether another file of the data set was found there.
    is_beside: bool,
}

impl Places {
    /// The folders of a data set in the folder that holds data sets, or that folder itself.
    pub fn new(spec: &DataSpec, set: &'static DataSet) -> Places {
        let dir = spec.dir.clone().unwrap_or_else(|| PathBuf::from("."));
        let mut places: Vec<PathBuf> = set.folders.iter().map(|folder| dir.join(folder)).collect();
        // IDX data sets have files of the same names: a folder called after one is not another's.
        let of_another = DATA_SETS.iter().any(|other| !set.folders.contains(&other.name) && dir.ends_with(other.name));
        if !of_another {
            places.push(dir);
        }
        Places { set, dir: spec.dir.clone(), folders: places, is_beside: false }
    }

    /// The folder of a file already found: a data set's files lie together.
    pub fn beside(set: &'static DataSet, file: &Path) -> Places {
        let folders = vec![file.parent().unwrap_or(Path::new(".")).to_path_buf()];
        Places { set, dir: None, folders, is_beside: true }
    }

    /// Finds a file, under the first of its spellings that is there.
    ///
    /// # Errors
    /// When it is under none in any of the folders.
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
        Err(DataError::MissingFile { name, file: spellings[0].clone(), folders, dir, is_beside: self.is_beside })
    }
}

/// The spellings under which an IDX file is found in the wild.
pub fn idx_spellings(official: &str) -> [String; 4] {
    let dotted = official.replace("-idx", ".idx");
    [format!("{official}.gz"), official.to_string(), format!("{dotted}.gz"), dotted]
}

/// The known data set whose files a folder holds. IDX data sets are told apart by the checksum of their labels, and files
/// with other labels by the folder's path.
pub fn known_files(folder: &Path) -> Option<&'static str> {
    let file =
        |official: &str| idx_spellings(official).map(|name| folder.join(name)).into_iter().find(|file| file.is_file());
    let is_cifar = |set: &&DataSet| match &set.format {
        Format::Cifar(format) => folder.join(format.train_files[0]).is_file(),
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

/// The known data set that a file of train labels belongs to. Labels are enough: the file is small, and no two sets have
/// the same.
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

/// The file by which CIFAR's Python version is recognized, in a folder or where its archive unpacks.
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

    /// The error and the hint of looking at a data set in a folder that is called `here`.
    fn refused(name: &str, dir: Option<&Path>, here: &Path) -> [String; 2] {
        let error = inspect(&DataSpec { dir: dir.map(Path::to_path_buf), ..spec(name, here) }).expect_err("bad data");
        let shown = |text: String| text.replace(here.to_str().unwrap(), "here");
        [shown(error.to_string()), shown(error.hint().unwrap())]
    }

    #[test]
    fn a_data_folder_that_is_not_there_is_told_from_one_without_the_files() {
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
            is_beside: false,
        };
        let expected = "name its folder with data.dir, or download it: data fetch \"mnist\"";
        assert_eq!(error.hint().as_deref(), Some(expected));
    }

    #[test]
    fn a_file_that_is_missing_beside_the_others_is_to_be_put_there() {
        let here = tempfile::tempdir().unwrap();
        write_cifar(&here.path().join("cifar10"));
        fs::remove_file(here.path().join("cifar10/data_batch_4.bin")).unwrap();
        let [text, hint] = refused("cifar10", Some(here.path()), here.path());
        assert_eq!(text, "cifar10 needs the file data_batch_4.bin (looked in here/cifar10)");
        assert_eq!(hint, "put it there, next to the other files");
    }

    #[test]
    fn known_files_are_no_folder_of_pictures() {
        let here = tempfile::tempdir().unwrap();
        write_mnist(&here.path().join("sets/mnist"));
        write_mnist(&here.path().join("sets/fashion-mnist"));
        write_cifar(&here.path().join("other/cifar"));
        let of = |folder: &str| refused(here.path().join(folder).to_str().unwrap(), None, here.path());
        let expected = |name: &str, folder: &str| {
            let hint = format!("use data.name = \"{name}\" data.dir = here/{folder}");
            [format!("this folder holds the files of {name}, not folders of images (here/{folder})"), hint]
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
    fn a_folder_around_the_data_is_seen_through() {
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
