//! Errors of a user's data, with the facts and what to do about them.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::{ImageShape, SplitName};
use crate::advice::{Argument, Command, Explain, Place, Suggestion, Verb};
use crate::config::classes::ClassSubsetError;
use crate::config::presets;
use crate::data_sets;
use crate::text::some_of;
use crate::{numbers, system_errors};

/// Maximum number of classes that a hint lists.
const CLASSES_LISTED: usize = 8;

/// An error of the data.
#[derive(Clone, Debug, PartialEq, Error)]
#[allow(missing_docs, reason = "the messages describe the fields")]
pub enum DataError {
    /// The name is neither a known data set nor a folder.
    #[error("no data set or folder has the name `{name}`")]
    UnknownName { name: String, nearest: Option<String> },
    /// The files of a known data set are missing, and a folder of that name is one of images.
    #[error("{name} is a known data set, but the folder of that name has class folders ({})", path.display())]
    FolderOfKnownName { name: String, path: PathBuf },
    /// The path leads to nothing.
    #[error("no such folder ({})", path.display())]
    NoFolder { path: PathBuf, nearest: Option<PathBuf> },
    /// The name is that of a file.
    #[error("a data set is a folder, but this is a file ({})", path.display())]
    NotAFolder { path: PathBuf },
    /// A reader of digits cannot know which of these is which digit.
    #[error("a reader needs the classes 0 to 9, but {name} has {}", some_of(found, CLASSES_LISTED))]
    NotDigits { name: String, found: Vec<String> },
    /// A file of a known data set is missing.
    #[error("{name} needs the file {file} (looked in {})", list(folders))]
    MissingFile { name: String, file: String, folders: Vec<PathBuf>, dir: Option<PathBuf>, found_others: bool },
    /// The folder in which data sets are said to be is not there; a data set with a name could be fetched into it.
    #[error("no such folder ({})", path.display())]
    NoDataFolder { path: PathBuf, name: Option<String> },
    /// CIFAR comes in several versions.
    #[error("these are the files of {name}'s Python version, not of its binary version ({})", path.display())]
    PythonCifar { name: &'static str, path: PathBuf },
    /// A folder that was named as one of pictures holds a known data set.
    #[error("this folder contains the files of {name}, not class folders ({})", path.display())]
    KnownFiles { name: &'static str, path: PathBuf },
    /// The files are those of another known data set.
    #[error("these are the files of {found}, not of {name} ({})", path.display())]
    OtherKnownFiles { name: String, found: &'static str, path: PathBuf },
    /// The operating system reports an error.
    #[error("{reason} ({})", path.display())]
    Read { path: PathBuf, reason: String },

    /// The file does not start as an IDX file of its kind does.
    #[error("the file starts with {found:#010x}, but IDX {holds} start with {expected:#010x} ({})", path.display())]
    IdxMagic { path: PathBuf, holds: &'static str, found: u32, expected: u32 },
    /// An IDX file has values other than bytes, or other dimensions.
    #[error("the file contains {found}, but IDX {holds} are {expected} ({})", path.display())]
    IdxKind { path: PathBuf, holds: &'static str, found: String, expected: String },
    /// A header states absurd sizes.
    #[error("the header states {count} images of {width}x{height} ({})", path.display())]
    IdxShape { path: PathBuf, count: u32, height: u32, width: u32 },
    /// A header states more bytes than the file can contain.
    #[error("the header states {stated} bytes, but {found} ({})", path.display())]
    StatedSize { path: PathBuf, stated: u64, found: String },
    /// A file is larger than the program takes.
    #[error("{bytes} bytes of images are more than the limit of {limit} bytes ({})", path.display())]
    TooLarge { path: PathBuf, bytes: u64, limit: u64 },
    /// Compressed data is damaged.
    #[error("the gzip data is damaged: {reason} ({})", path.display())]
    Gzip { path: PathBuf, reason: String },
    /// Images and labels do not belong together.
    #[error("{images} images in {}, but {labels} labels ({})", images_path.display(), labels_path.display())]
    Counts { images: usize, images_path: PathBuf, labels: usize, labels_path: PathBuf },
    /// A label is invalid.
    #[error("label {label} of image {index} is not one of the {classes} classes ({})", path.display())]
    Label { path: PathBuf, index: usize, label: u8, classes: usize },
    /// Training and test images differ in shape.
    #[error("test images are {test}, but training images are {train} ({})", path.display())]
    TestShape { path: PathBuf, train: ImageShape, test: ImageShape },
    /// A CIFAR file is cut off or has another format.
    #[error("{bytes} bytes are not a multiple of the record size of {record} bytes ({})", path.display())]
    CifarSize { path: PathBuf, bytes: u64, record: u64 },
    /// A CIFAR file does not have as many images as the others.
    #[error("the file has {found} images, but {expected} are expected from {other} ({})", path.display())]
    CifarCount { path: PathBuf, found: u64, other: String, expected: u64 },
    /// The class name file does not name every class.
    #[error("{found} class names for {expected} classes ({})", path.display())]
    ClassNames { path: PathBuf, found: usize, expected: usize },
    /// A file is empty.
    #[error("the file is empty ({})", path.display())]
    Empty { path: PathBuf },
    /// A file has no images.
    #[error("the file has no images ({})", path.display())]
    NoImages { path: PathBuf },
    /// The file is not the one whose header was read a moment ago.
    #[error("the file changed while it was read ({})", path.display())]
    Changed { path: PathBuf },

    /// No class folder at all, or only one.
    #[error("a data set needs at least 2 class folders, not {found} ({})", path.display())]
    ClassFolders { path: PathBuf, found: usize },
    /// The folder is that of a class; `parent` has the class folders.
    #[error("this folder has images, not class folders ({})", path.display())]
    IsClass { path: PathBuf, parent: PathBuf },
    /// The class folders lie in a folder that lies alone in the one that was named.
    #[error("a data set needs at least 2 class folders, and they are one folder deeper ({})", path.display())]
    Wrapped { path: PathBuf, inside: PathBuf },
    /// More classes than the program takes.
    #[error("{found} class folders are more than the limit of {limit} ({})", path.display())]
    TooManyClasses { path: PathBuf, found: usize, limit: usize },
    /// A link makes a folder part of two classes.
    #[error("class `{first}` and class `{second}` share a folder: {} links to {}", path.display(), other.display())]
    SharedFolder { first: String, second: String, path: PathBuf, other: PathBuf },
    /// The names of two class folders look equal.
    #[error("two class folders are named `{class}`, in different Unicode forms ({}, {})", first.display(), path.display())]
    TwoSpellings { class: String, first: PathBuf, path: PathBuf },
    /// A class folder has no pictures.
    #[error("class `{class}` has no images ({})", path.display())]
    EmptyClass { class: String, path: PathBuf },
    /// None of a class's pictures can be decoded.
    #[error("no image of class `{class}` can be decoded ({})", path.display())]
    BrokenClass { class: String, path: PathBuf },
    /// None of a split's pictures can be decoded.
    #[error("no image of the {split} split can be decoded ({})", path.display())]
    BrokenSplit { split: SplitName, path: PathBuf },
    /// A class has no training images.
    #[error("class `{class}` is in {split}/ but not in train/ ({})", path.display())]
    ClassNotInTrain { class: String, split: String, path: PathBuf, train: PathBuf, known: Vec<String> },
    /// `val/` or `test/` without `train/`.
    #[error("{split}/ exists, but train/ does not ({})", path.display())]
    NoTrainFolder { split: String, path: PathBuf },
    /// Folders that look like splits but have other names.
    #[error("{first}/ and {second}/ contain folders with the same names: splits, not classes ({})", path.display())]
    SplitsAsClasses { first: String, second: String, path: PathBuf },
    /// A folder that looks like a train split but has another name.
    #[error("{folder}/ contains folders: a split, not a class ({})", path.display())]
    SplitAsClass { folder: String, path: PathBuf },
    /// Two folders for the same split.
    #[error("{first}/ and {second}/ are both a {split} split ({})", path.display())]
    TwoFolders { first: String, second: String, split: SplitName, path: PathBuf },
    /// A picture is broken.
    #[error("the image cannot be decoded: {reason} ({})", path.display())]
    Picture { path: PathBuf, reason: String },

    /// The subset of classes does not fit the data set.
    #[error("{error} ({name}, [data])")]
    Classes { name: String, error: ClassSubsetError },
    /// The data set has no test split.
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
    fn key(&self) -> Option<String> {
        match self {
            DataError::UnknownName { .. }
            | DataError::FolderOfKnownName { .. }
            | DataError::NoFolder { .. }
            | DataError::NotDigits { .. } => Some("data.name".to_string()),
            DataError::Classes { .. } => Some("data.classes".to_string()),
            DataError::ChannelValues { key, .. } => Some(format!("data.{key}")),
            _ => None,
        }
    }

    fn place(&self) -> Option<Place> {
        match self {
            DataError::NotAFolder { path }
            | DataError::FolderOfKnownName { path, .. }
            | DataError::NoFolder { path, .. }
            | DataError::IsClass { path, .. }
            | DataError::NoDataFolder { path, .. }
            | DataError::PythonCifar { path, .. }
            | DataError::KnownFiles { path, .. }
            | DataError::OtherKnownFiles { path, .. }
            | DataError::Read { path, .. }
            | DataError::IdxMagic { path, .. }
            | DataError::IdxKind { path, .. }
            | DataError::IdxShape { path, .. }
            | DataError::StatedSize { path, .. }
            | DataError::TooLarge { path, .. }
            | DataError::Gzip { path, .. }
            | DataError::Label { path, .. }
            | DataError::TestShape { path, .. }
            | DataError::CifarSize { path, .. }
            | DataError::CifarCount { path, .. }
            | DataError::ClassNames { path, .. }
            | DataError::Empty { path }
            | DataError::NoImages { path }
            | DataError::Changed { path }
            | DataError::ClassFolders { path, .. }
            | DataError::Wrapped { path, .. }
            | DataError::TooManyClasses { path, .. }
            | DataError::SharedFolder { path, .. }
            | DataError::TwoSpellings { path, .. }
            | DataError::EmptyClass { path, .. }
            | DataError::BrokenClass { path, .. }
            | DataError::BrokenSplit { path, .. }
            | DataError::ClassNotInTrain { path, .. }
            | DataError::NoTrainFolder { path, .. }
            | DataError::SplitsAsClasses { path, .. }
            | DataError::SplitAsClass { path, .. }
            | DataError::TwoFolders { path, .. }
            | DataError::Picture { path, .. }
            | DataError::Counts { labels_path: path, .. }
            | DataError::NoTestSplit { file: path, .. } => Some(Place::Path(path.clone())),
            DataError::UnknownName { .. }
            | DataError::NotDigits { .. }
            | DataError::MissingFile { .. }
            | DataError::Classes { .. }
            | DataError::ChannelValues { .. }
            | DataError::Memory { .. } => None,
        }
    }

    fn suggestion(&self) -> Option<Suggestion> {
        let new = Suggestion::new;
        // A data set that can be fetched, and the folder for it.
        let fetch = |name: &str, dir: Option<&Path>| {
            let fetch = Command::new(Verb::Fetch).operand(name);
            let fetch = dir.map_or(fetch.clone(), |dir| fetch.set("data.dir", dir));
            let other = if dir.is_some() { new().text("name another") } else { new().text("name its folder with") };
            other.key("data.dir").or().text("download it:").run(fetch)
        };
        Some(match self {
            DataError::UnknownName { nearest: Some(nearest), .. } => new().text(format!("did you mean {nearest}?")),
            DataError::UnknownName { nearest: None, name } if presets::text(name).is_some() => {
                new().text("this is a preset:").with(Argument::Preset, name.as_str())
            }
            DataError::UnknownName { nearest: None, name } => {
                let known = data_sets::listed();
                let not_known =
                    if data_sets::is_other_data_set(name) { "this data set is not built in: use" } else { "use" };
                new().text(format!("{not_known} {known}, or the path of a folder with one folder of images per class"))
            }
            DataError::FolderOfKnownName { name, .. } => {
                let folder = new().set("data.name", format!("./{name}")).text("for the folder").or();
                folder.text("download the data set:").run(Command::new(Verb::Fetch).operand(name.as_str()))
            }
            DataError::NoFolder { nearest: Some(nearest), .. } => new().text("did you mean").path(nearest).text("?"),
            DataError::NoFolder { nearest: None, .. } => new().text(
                "check the path: it leads to a folder with one folder of images per class, from the current folder or from",
            ).key("data.dir"),
            DataError::IsClass { parent, .. } => new().set("data.name", parent),
            DataError::NotAFolder { path } if is_archive(path) => {
                new().text("unpack it, and give the folder with one folder per class")
            }
            DataError::NotAFolder { .. } => {
                new().text("give a folder with one folder of images per class; tables and arrays are not supported")
            }
            DataError::NotDigits { .. } => {
                new().set("data.name", "mnist").or().set("data.name", "digits").text(", with all classes")
            }
            DataError::MissingFile { found_others: true, .. } => new().text("put it there, next to the other files"),
            DataError::MissingFile { name, dir, .. } => fetch(name, dir.as_deref()),
            DataError::NoDataFolder { path, name: Some(name) } => fetch(name, Some(path)),
            DataError::NoDataFolder { .. } => new().text("name the folder with the data sets with").key("data.dir"),
            DataError::PythonCifar { name, .. } => {
                new().text("download the binary version:").run(Command::new(Verb::Fetch).operand(*name))
            }
            DataError::KnownFiles { name, path } => new().set("data.name", *name).set("data.dir", path),
            DataError::Wrapped { inside, .. } => new().text("did you mean").path(inside).text("?"),
            DataError::IdxMagic { .. }
            | DataError::IdxShape { .. }
            | DataError::StatedSize { .. }
            | DataError::TooLarge { .. }
            | DataError::Gzip { .. }
            | DataError::Label { .. }
            | DataError::CifarSize { .. }
            | DataError::CifarCount { .. }
            | DataError::Empty { .. }
            | DataError::NoImages { .. } => new().text("the file is damaged or another one: download it again"),
            DataError::Counts { .. } | DataError::TestShape { .. } => {
                new().text("the files are not of one data set: download them again")
            }
            DataError::ClassNames { expected, .. } => new().text(format!("write {expected} names, one on each line")),
            DataError::Changed { .. } => new().text("start again when no other program writes to it"),
            DataError::ClassFolders { .. } => {
                new().text("put the images of each class into a folder of its own: cat/1.jpg, dog/1.jpg")
            }
            DataError::EmptyClass { path, .. } => {
                let put = new().text(format!("put images ({}) into", super::walk::EXTENSIONS.join(", "))).path(path);
                put.or().text("remove it")
            }
            DataError::BrokenSplit { path, .. } => new().text("check the images in").path(path),
            DataError::BrokenClass { path, .. } => {
                new().text("replace the images in").path(path).or().text("remove it")
            }
            DataError::ClassNotInTrain { class, path, train, known, .. } => {
                let add = new().add_file(train.join(class)).or();
                match known.len() > CLASSES_LISTED {
                    true => add.remove_file(path),
                    false => add.text("leave it out with").set("data.classes", known.join(",")),
                }
            }
            DataError::NoTrainFolder { path, .. } => {
                let add = new().add_file(path.with_file_name("train")).or();
                add.text("rename").path(path).text("if it is a class")
            }
            DataError::SplitsAsClasses { .. } | DataError::SplitAsClass { .. } => {
                new().text("rename the folders to train/, val/ and test/")
            }
            DataError::TwoFolders { second, .. } => new().text(format!("remove {second}/")),
            DataError::SharedFolder { path, .. } => {
                new().text("remove the link").path(path).text(": each image belongs to one class")
            }
            DataError::TwoSpellings { path, first, .. } => {
                let moved = new().text("move the images of").path(path).text("into").path(first);
                moved.or().text("rename one of them")
            }
            DataError::OtherKnownFiles { found, path, .. } => {
                let folder = path.parent().unwrap_or(path);
                let found = new().set("data.name", *found).set("data.dir", folder);
                found.or().text("name another").key("data.dir")
            }
            DataError::IdxKind { expected, .. } => new().text(format!("convert the file to {expected}")),
            DataError::Picture { .. } => {
                let replace = new().text("replace or remove it").or().text("skip such images with");
                replace.set("data.skip_bad_images", true)
            }
            DataError::NoTestSplit { file, .. } => new().add_file(file),
            DataError::ChannelValues { key, channels, .. } => {
                let key = format!("data.{key}");
                new().set(&key, vec![0.5; *channels]).or().unset(&key).text("to measure it")
            }
            DataError::Classes { error, .. } => return error.hint().map(|hint| new().text(hint)),
            DataError::Memory { .. } => {
                let smaller = new().text("end other programs").or().using("a smaller").key("data.image_size");
                smaller.or().key("data.limit_train")
            }
            DataError::Read { .. } | DataError::TooManyClasses { .. } => return None,
        })
    }
}

impl DataError {
    /// Makes the error of a read that the system refused.
    pub(super) fn read(path: &Path, error: &io::Error) -> DataError {
        DataError::Read { path: path.to_path_buf(), reason: system_errors::system_error(error) }
    }
}

/// Extensions of archives.
const ARCHIVES: [&str; 12] = ["zip", "tar", "gz", "tgz", "bz2", "tbz2", "xz", "txz", "zst", "7z", "rar", "lz4"];

fn is_archive(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ARCHIVES.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

fn list(folders: &[PathBuf]) -> String {
    folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
}
