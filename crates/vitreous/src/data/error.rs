//! What can be wrong with data a user points at, each with the facts and the way out.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::{ImageShape, SplitName};
use crate::advice::{Explain, Suggestion};
use crate::config::classes::ClassSubsetError;
use crate::data_sets;
use crate::{numbers, system_errors};

/// Most classes that a hint lists.
const CLASSES_LISTED: usize = 8;

/// Says what is wrong with the data, and where.
#[derive(Clone, Debug, PartialEq, Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum DataError {
    /// The name is neither a known data set nor a folder.
    #[error("no data set or folder is called `{name}`")]
    UnknownName { name: String, nearest: Option<&'static str> },
    /// The name is that of a file.
    #[error("a data set is a folder, but this is a file ({})", path.display())]
    NotAFolder { path: PathBuf },
    /// A reader of digits cannot know which of these is which digit.
    #[error("a reader needs the classes 0 to 9, but {name} has {}", some_of(found))]
    NotDigits { name: String, found: Vec<String> },
    /// A known data set's file is in none of the places.
    #[error("{name} needs the file {file} (looked in {})", list(folders))]
    MissingFile { name: String, file: String, folders: Vec<PathBuf>, dir: Option<PathBuf>, is_beside: bool },
    /// The folder in which data sets are said to be is not there; a data set with a name could be fetched into it.
    #[error("there is no such folder ({})", path.display())]
    NoDataFolder { path: PathBuf, name: Option<String> },
    /// CIFAR comes in several versions.
    #[error("these are the files of {name}'s Python version, not of its binary version ({})", path.display())]
    PythonCifar { name: &'static str, path: PathBuf },
    /// A folder that was named as one of pictures holds a known data set.
    #[error("this folder holds the files of {name}, not folders of pictures ({})", path.display())]
    KnownFiles { name: &'static str, path: PathBuf },
    /// The files of a known data set are in the place of another's.
    #[error("these are the files of {found}, not of {name} ({})", path.display())]
    OtherKnownFiles { name: String, found: &'static str, path: PathBuf },
    /// The system refuses to read.
    #[error("{reason} ({})", path.display())]
    Read { path: PathBuf, reason: String },

    /// The file does not start as an IDX file of its kind does.
    #[error("the file starts with {found:#010x}, but IDX {holds} start with {expected:#010x} ({})", path.display())]
    IdxMagic { path: PathBuf, holds: &'static str, found: u32, expected: u32 },
    /// An IDX file holds other numbers than bytes, or has other dimensions.
    #[error("the file holds {found}, but IDX {holds} are {expected} ({})", path.display())]
    IdxKind { path: PathBuf, holds: &'static str, found: String, expected: String },
    /// A header states absurd sizes.
    #[error("the header states {count} images of {width}x{height} ({})", path.display())]
    IdxShape { path: PathBuf, count: u32, height: u32, width: u32 },
    /// A header states more bytes than the file can hold.
    #[error("the header states {stated} bytes, but {found} ({})", path.display())]
    StatedSize { path: PathBuf, stated: u64, found: String },
    /// A file is larger than the program takes.
    #[error("{bytes} bytes of images are more than the greatest size of {limit} bytes ({})", path.display())]
    TooLarge { path: PathBuf, bytes: u64, limit: u64 },
    /// Compressed data is damaged.
    #[error("the gzip data is damaged: {reason} ({})", path.display())]
    Gzip { path: PathBuf, reason: String },
    /// Images and labels do not belong together.
    #[error("{images} images in {}, but {labels} labels ({})", images_path.display(), labels_path.display())]
    Counts { images: usize, images_path: PathBuf, labels: usize, labels_path: PathBuf },
    /// A label is no class.
    #[error("label {label} of image {index} is none of the {classes} classes ({})", path.display())]
    Label { path: PathBuf, index: usize, label: u8, classes: usize },
    /// Train and test images differ in shape.
    #[error("test images are {test}, but train images are {train} ({})", path.display())]
    TestShape { path: PathBuf, train: ImageShape, test: ImageShape },
    /// A CIFAR file is cut off or is something else.
    #[error("{bytes} bytes are not a whole number of records of {record} bytes ({})", path.display())]
    CifarSize { path: PathBuf, bytes: u64, record: u64 },
    /// A CIFAR file has fewer or more images than the others allow.
    #[error("the file has {found} images, but {expected} are expected from {other} ({})", path.display())]
    CifarCount { path: PathBuf, found: u64, other: String, expected: u64 },
    /// The file of class names does not name every class.
    #[error("{found} class names for {expected} classes ({})", path.display())]
    ClassNames { path: PathBuf, found: usize, expected: usize },
    /// A file has nothing in it.
    #[error("the file is empty ({})", path.display())]
    Empty { path: PathBuf },
    /// A file has no image in it.
    #[error("the file has no images ({})", path.display())]
    NoImages { path: PathBuf },
    /// The file is not the one whose header was read a moment ago.
    #[error("the file was changed while it was read ({})", path.display())]
    Changed { path: PathBuf },

    /// No class folder at all, or only one.
    #[error("a data set needs at least 2 class folders, not {found} ({})", path.display())]
    ClassFolders { path: PathBuf, found: usize },
    /// The class folders lie in a folder that lies alone in the one that was named.
    #[error("a data set needs at least 2 class folders, and they lie one folder deeper ({})", path.display())]
    Wrapped { path: PathBuf, inside: PathBuf },
    /// More classes than the program takes.
    #[error("{found} class folders are more than the greatest number of {limit} ({})", path.display())]
    TooManyClasses { path: PathBuf, found: usize, limit: usize },
    /// A link makes a folder part of two classes.
    #[error("class `{first}` and class `{second}` share a folder: {} leads to {}", path.display(), other.display())]
    SharedFolder { first: String, second: String, path: PathBuf, other: PathBuf },
    /// Two class folders have names that look the same.
    #[error("two class folders have the name `{class}`, written with different Unicode characters ({}, {})", first.display(), path.display())]
    TwoSpellings { class: String, first: PathBuf, path: PathBuf },
    /// A class folder has no pictures.
    #[error("class `{class}` has no pictures ({})", path.display())]
    EmptyClass { class: String, path: PathBuf },
    /// None of a class's pictures can be decoded.
    #[error("class `{class}` has no picture that can be decoded ({})", path.display())]
    BrokenClass { class: String, path: PathBuf },
    /// None of a split's pictures can be decoded.
    #[error("the {split} split has no picture that can be decoded ({})", path.display())]
    BrokenSplit { split: SplitName, path: PathBuf },
    /// A class has no pictures to learn from.
    #[error("class `{class}` is in {split}/ but not in train/ ({})", path.display())]
    ClassNotInTrain { class: String, split: String, path: PathBuf, train: PathBuf, known: Vec<String> },
    /// `val/` or `test/` without `train/`.
    #[error("{split}/ is there, but train/ is not ({})", path.display())]
    NoTrainFolder { split: String, path: PathBuf },
    /// Folders that look like splits under names that are none.
    #[error("{first}/ and {second}/ hold folders of the same names: splits, not classes ({})", path.display())]
    SplitsAsClasses { first: String, second: String, path: PathBuf },
    /// A folder that looks like a train split under a name that is none.
    #[error("{folder}/ holds folders: a split, not a class ({})", path.display())]
    SplitAsClass { folder: String, path: PathBuf },
    /// Two folders that both mean the same split.
    #[error("{first}/ and {second}/ both hold a {split} split ({})", path.display())]
    TwoFolders { first: String, second: String, split: SplitName, path: PathBuf },
    /// A picture is broken.
    #[error("the picture cannot be decoded: {reason} ({})", path.display())]
    Picture { path: PathBuf, reason: String },

    /// The subset of classes does not fit the data set.
    #[error("{error} ({name}, [data])")]
    Classes { name: String, error: ClassSubsetError },
    /// The data set lacks the test split that was asked for.
    #[error("{name} has no test split (looked for {})", file.display())]
    NoTestSplit { name: String, file: PathBuf },
    /// `mean` or `std` does not fit the images.
    #[error("{values} values in {key} do not fit images of {name}, which need {channels} ([data])")]
    ChannelValues { key: &'static str, values: usize, name: String, channels: usize },
    /// The images do not fit into memory.
    #[error("{} of images do not fit into memory", numbers::bytes(*bytes))]
    Memory { bytes: u64 },
}

impl Explain for DataError {
    fn suggestion(&self) -> Option<Suggestion> {
        self.hint().map(|hint| Suggestion::new().text(hint))
    }
}

impl DataError {
    /// Says what to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            DataError::UnknownName { nearest: Some(nearest), .. } => format!("did you mean {nearest}?"),
            DataError::UnknownName { nearest: None, name } if data_sets::is_other_data_set(name) => {
                format!(
                    "this data set is not built in: use {}, or a folder with a folder of its pictures for each class",
                    data_sets::listed()
                )
            }
            DataError::UnknownName { nearest: None, .. } => {
                format!("use {}, or the path of a folder with a folder for each class", data_sets::listed())
            }
            DataError::NotAFolder { path } if is_archive(path) => {
                "unpack it, and give the folder with a folder for each class".to_string()
            }
            DataError::NotAFolder { .. } => {
                "give a folder with a folder of pictures for each class; tables and arrays are not read".to_string()
            }
            DataError::NotDigits { .. } => "use --data mnist or --data digits, with all classes".to_string(),
            DataError::MissingFile { is_beside: true, .. } => "put it there, beside the other files".to_string(),
            DataError::MissingFile { name, dir: Some(dir), .. } => {
                format!("name another --data-dir, or get it: vitreous data fetch {name} --data-dir {}", dir.display())
            }
            DataError::MissingFile { name, .. } => {
                format!("say where the data is with --data-dir DIR, or get it: vitreous data fetch {name}")
            }
            DataError::NoDataFolder { path, name: Some(name) } => {
                format!("name another --data-dir, or get it: vitreous data fetch {name} --data-dir {}", path.display())
            }
            DataError::NoDataFolder { .. } => "name the folder in which data sets are with --data-dir".to_string(),
            DataError::PythonCifar { name, .. } => format!("get the binary version: vitreous data fetch {name}"),
            DataError::KnownFiles { name, path } => format!("use --data {name} --data-dir {}", path.display()),
            DataError::Wrapped { inside, .. } => format!("did you mean {}?", inside.display()),
            DataError::IdxMagic { .. }
            | DataError::IdxShape { .. }
            | DataError::StatedSize { .. }
            | DataError::TooLarge { .. }
            | DataError::Gzip { .. }
            | DataError::Label { .. }
            | DataError::CifarSize { .. }
            | DataError::CifarCount { .. }
            | DataError::Empty { .. }
            | DataError::NoImages { .. } => "the file is damaged or another one: get a fresh copy of it".to_string(),
            DataError::Counts { .. } | DataError::TestShape { .. } => {
                "the files are not of one data set: get fresh copies of them".to_string()
            }
            DataError::ClassNames { expected, .. } => format!("write {expected} names, one on each line"),
            DataError::Changed { .. } => "start again when nothing writes to it".to_string(),
            DataError::ClassFolders { .. } => {
                "put the pictures of each class into a folder of its own: cat/1.jpg, dog/1.jpg".to_string()
            }
            DataError::EmptyClass { path, .. } => {
                format!("put pictures ({}) into {}, or remove it", super::walk::EXTENSIONS.join(", "), path.display())
            }
            DataError::BrokenSplit { path, .. } => format!("look at the pictures in {}", path.display()),
            DataError::BrokenClass { path, .. } => format!("replace the pictures in {}, or remove it", path.display()),
            DataError::ClassNotInTrain { class, path, train, known, .. } if known.len() > CLASSES_LISTED => {
                format!("add {}, or remove {}", train.join(class).display(), path.display())
            }
            DataError::ClassNotInTrain { class, train, known, .. } => {
                format!("add {}, or leave it out with --classes {}", train.join(class).display(), known.join(","))
            }
            DataError::NoTrainFolder { path, .. } => {
                format!(
                    "add {}, or name {} otherwise if it is a class",
                    path.with_file_name("train").display(),
                    path.display()
                )
            }
            DataError::SplitsAsClasses { .. } | DataError::SplitAsClass { .. } => {
                "call the folders train/, val/ and test/".to_string()
            }
            DataError::TwoFolders { second, .. } => format!("remove {second}/"),
            DataError::SharedFolder { path, .. } => {
                format!("remove the link {}: each picture belongs to one class", path.display())
            }
            DataError::TwoSpellings { path, first, .. } => {
                format!("move the pictures of {} into {}, or rename one of them", path.display(), first.display())
            }
            DataError::OtherKnownFiles { found, path, .. } => {
                let folder = path.parent().unwrap_or(path);
                format!("use --data {found} --data-dir {}, or name another --data-dir", folder.display())
            }
            DataError::IdxKind { expected, .. } => format!("convert the file to {expected}"),
            DataError::Picture { .. } => {
                "replace or remove it, or go on without such pictures with --skip-bad-images".to_string()
            }
            DataError::NoTestSplit { file, .. } => format!("add {}", file.display()),
            DataError::ChannelValues { key, channels, .. } => {
                let values = vec!["0.5"; *channels].join(", ");
                format!("use {key} = [{values}], or leave it out to measure it")
            }
            DataError::Classes { error, .. } => return error.hint(),
            DataError::Memory { .. } => {
                "end other programs, or, for a folder of pictures, use a smaller --image-size or --limit-train"
                    .to_string()
            }
            DataError::Read { .. } | DataError::TooManyClasses { .. } => return None,
        })
    }

    /// Makes the error of a read that the system refused.
    pub(super) fn read(path: &Path, error: &io::Error) -> DataError {
        DataError::Read { path: path.to_path_buf(), reason: system_errors::system_error(error) }
    }
}

/// Endings of files that hold folders.
const ARCHIVES: [&str; 12] = ["zip", "tar", "gz", "tgz", "bz2", "tbz2", "xz", "txz", "zst", "7z", "rar", "lz4"];

fn is_archive(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ARCHIVES.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

fn some_of(names: &[String]) -> String {
    match names.get(..CLASSES_LISTED) {
        Some(first) if names.len() > CLASSES_LISTED => {
            format!("{} and {} more", first.join(", "), names.len() - CLASSES_LISTED)
        }
        _ => names.join(", "),
    }
}

fn list(folders: &[PathBuf]) -> String {
    folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
}
