//! What a `[data]` table points at: facts from listings and file headers, before a picture is decoded.

use std::path::{Path, PathBuf};

use super::cifar::{self, CifarFiles};
use super::digits;
use super::folder::Listing;
use super::idx::IdxPair;
use super::split::validation_count;
use super::{DataError, ImageShape};
use crate::config::data::{DataSpec, KNOWN_DATA_SETS};
use crate::units;

/// Size of a folder's images where the config gives none, in pixels.
const FOLDER_IMAGE_SIZE: usize = 64;

const GARMENTS: [&str; 10] =
    ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];

/// What is known of a data set before a picture is decoded.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The data set's name or folder, as in the config.
    pub name: String,
    /// Names of the classes; a label is a place in this table.
    pub class_names: Vec<String>,
    /// Shape of every image.
    pub shape: ImageShape,
    /// Number of images that train, after the split and `limit_train`.
    pub train: usize,
    /// Number of images that validate; 0 without a validation split.
    pub validation: usize,
    /// Number of images of the test split; absent without one.
    pub test: Option<usize>,
    /// Files in class folders that are no pictures by their ending.
    pub ignored_files: usize,
    pub(super) source: Source,
}

/// Where the images are.
#[derive(Clone, Debug)]
pub enum Source {
    Idx { train: IdxPair, test: Option<IdxPair>, test_file: PathBuf },
    Cifar { train: CifarFiles, test: Option<CifarFiles>, test_file: PathBuf },
    Folder(Listing),
    Digits,
}

impl Facts {
    /// Number of images of each class in the test split, where the listing tells it.
    pub fn test_class_counts(&self) -> Option<Vec<usize>> {
        let Source::Folder(Listing { test: Some(test), .. }) = &self.source else { return None };
        let mut counts = vec![0; self.class_names.len()];
        test.iter().for_each(|picture| counts[usize::from(picture.label)] += 1);
        Some(counts)
    }
}

/// Reads listings and file headers.
///
/// # Errors
/// When the data set is not there, its files are damaged or lie, its classes do not fit together, or `mean` and `std`
/// have not one value for each channel.
pub fn inspect(spec: &DataSpec) -> Result<Facts, DataError> {
    let facts = match spec.name.as_str() {
        "digits" => inspect_digits(spec),
        "mnist" => inspect_idx(spec, digits::CLASS_NAMES, &["mnist", "MNIST/raw"])?,
        "fashion-mnist" => inspect_idx(spec, GARMENTS, &["fashion-mnist", "FashionMNIST/raw"])?,
        "cifar10" => inspect_cifar(spec)?,
        _ => inspect_folder(spec)?,
    };
    for (key, values) in [("mean", &spec.mean), ("std", &spec.std)] {
        if let Some(values) = values.as_ref().filter(|values| values.len() != facts.shape.channels) {
            let (name, channels) = (facts.name, facts.shape.channels);
            return Err(DataError::ChannelValues { key, values: values.len(), name, channels });
        }
    }
    Ok(facts)
}

fn inspect_digits(spec: &DataSpec) -> Facts {
    let class_names = digits::CLASS_NAMES.map(str::to_string).to_vec();
    let shape = ImageShape { channels: 1, height: digits::SIDE, width: digits::SIDE };
    packed_facts(spec, class_names, shape, digits::TRAIN_IMAGES, Some(digits::TEST_IMAGES), Source::Digits)
}

fn inspect_idx(spec: &DataSpec, names: [&str; 10], folders: &[&str]) -> Result<Facts, DataError> {
    let train_images = Places::new(spec, folders).find(&idx_spellings("train-images-idx3-ubyte"))?;
    let here = Places::beside(spec, &train_images);
    let train = IdxPair::open(&train_images, &here.find(&idx_spellings("train-labels-idx1-ubyte"))?)?;
    let test_images = here.find(&idx_spellings("t10k-images-idx3-ubyte"));
    let test_labels = here.find(&idx_spellings("t10k-labels-idx1-ubyte"));
    let test = match (test_images, test_labels) {
        (Err(_), Err(_)) => None,
        (images, labels) => Some(IdxPair::open(&images?, &labels?)?),
    };
    if let Some(test) = test.as_ref().filter(|test| test.shape() != train.shape()) {
        let path = test.images_path().to_path_buf();
        return Err(DataError::TestShape { path, train: train.shape(), test: test.shape() });
    }
    let class_names = names.map(str::to_string).to_vec();
    let test_file = train_images.with_file_name("t10k-images-idx3-ubyte.gz");
    let (shape, count, test_count) = (train.shape(), train.count(), test.as_ref().map(IdxPair::count));
    Ok(packed_facts(spec, class_names, shape, count, test_count, Source::Idx { train, test, test_file }))
}

/// The spellings under which an IDX file is found in the wild.
fn idx_spellings(official: &str) -> [String; 4] {
    let dotted = official.replace("-idx", ".idx");
    [format!("{official}.gz"), official.to_string(), format!("{dotted}.gz"), dotted]
}

fn inspect_cifar(spec: &DataSpec) -> Result<Facts, DataError> {
    let places = Places::new(spec, &["cifar10", "cifar-10-batches-bin", "cifar10/cifar-10-batches-bin"]);
    let first = places.find(&[cifar::TRAIN_FILES[0].to_string()])?;
    let here = Places::beside(spec, &first);
    let paths = cifar::TRAIN_FILES.iter().map(|file| here.find(&[file.to_string()])).collect::<Result<_, _>>()?;
    let train = CifarFiles::open(paths)?;
    let test = match here.find(&[cifar::TEST_FILE.to_string()]) {
        Ok(path) => Some(CifarFiles::open(vec![path])?),
        Err(_) => None,
    };
    let names = cifar::class_names(&first)?;
    let test_file = first.with_file_name(cifar::TEST_FILE);
    let (count, test_count) = (train.count(), test.as_ref().map(CifarFiles::count));
    Ok(packed_facts(spec, names, cifar::SHAPE, count, test_count, Source::Cifar { train, test, test_file }))
}

fn packed_facts(
    spec: &DataSpec,
    class_names: Vec<String>,
    shape: ImageShape,
    count: usize,
    test: Option<usize>,
    source: Source,
) -> Facts {
    let validation = validation_count(count, class_names.len(), spec.val_fraction);
    let train = (count - validation).min(spec.limit_train.unwrap_or(usize::MAX));
    Facts { name: spec.name.clone(), class_names, shape, train, validation, test, ignored_files: 0, source }
}

fn inspect_folder(spec: &DataSpec) -> Result<Facts, DataError> {
    let mut root = PathBuf::from(&spec.name);
    if let (false, Some(dir)) = (root.exists(), &spec.dir) {
        root = dir.join(root);
    }
    if !root.exists() {
        let nearest = units::nearest(&spec.name, KNOWN_DATA_SETS).map(str::to_string);
        return Err(DataError::UnknownName { name: spec.name.clone(), nearest });
    }
    if !root.is_dir() {
        return Err(DataError::NotAFolder { path: root });
    }
    let listing = Listing::of(&root)?;
    let side = spec.image_size.unwrap_or(FOLDER_IMAGE_SIZE);
    let shape = ImageShape { channels: spec.channels.unwrap_or(3), height: side, width: side };
    let class_names = listing.class_names.clone();
    let (count, test) = (listing.train.len(), listing.test.as_ref().map(Vec::len));
    let own_validation = listing.validation.as_ref().map(Vec::len);
    let ignored_files = listing.ignored_files;
    let facts = packed_facts(spec, class_names, shape, count, test, Source::Folder(listing));
    Ok(match own_validation {
        Some(validation) => {
            let train = count.min(spec.limit_train.unwrap_or(usize::MAX));
            Facts { train, validation, ignored_files, ..facts }
        }
        None => Facts { ignored_files, ..facts },
    })
}

/// The folders in which a known data set's files may lie.
struct Places {
    name: String,
    folders: Vec<PathBuf>,
}

impl Places {
    fn new(spec: &DataSpec, folders: &[&str]) -> Places {
        let dir = spec.dir.clone().unwrap_or_else(|| PathBuf::from("."));
        let mut places: Vec<PathBuf> = folders.iter().map(|folder| dir.join(folder)).collect();
        // MNIST and Fashion-MNIST have files of the same names: a folder called after one is not the other's.
        let of_another = KNOWN_DATA_SETS.iter().any(|name| *name != spec.name && dir.ends_with(name));
        if !of_another {
            places.push(dir);
        }
        Places { name: spec.name.clone(), folders: places }
    }

    /// The folder of a file already found: a data set's files lie together.
    fn beside(spec: &DataSpec, file: &Path) -> Places {
        Places { name: spec.name.clone(), folders: vec![file.parent().unwrap_or(Path::new(".")).to_path_buf()] }
    }

    /// Finds a file, under the first of its spellings that is there.
    fn find(&self, spellings: &[String]) -> Result<PathBuf, DataError> {
        for folder in &self.folders {
            for spelling in spellings {
                let path = folder.join(spelling);
                if path.is_file() {
                    return Ok(path);
                }
            }
        }
        let (name, folders) = (self.name.clone(), self.folders.clone());
        Err(DataError::MissingFile { name, file: spellings[0].clone(), folders })
    }
}
