//! Facts about the data set of a `[data]` table, from listings and file headers, before an image is decoded.

use std::path::{Path, PathBuf};

use super::cifar::{self, CifarFiles};
use super::content_split::Division;
use super::digits;
use super::folder::{Listing, has_pictures};
use super::idx::IdxPair;
use super::places::{Places, idx_spellings, known_files, whose_labels};
use super::split::{Numbers, validation_count};
use super::walk::{Ignored, subfolders};
use super::{DataError, ImageShape};
use crate::config::classes::ClassSubset;
use crate::config::data::DataSpec;
use crate::config::presets;
use crate::data_sets::{self, CifarFormat, DataSet, Format};
use crate::spelling;

/// Size of a folder's images where the config gives none, in pixels.
pub const FOLDER_IMAGE_SIZE: usize = 64;

/// Facts about a data set, known before an image is decoded.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The data set's name or folder, as in the config.
    pub name: String,
    /// Names of the classes in use; a label is a place in this table.
    pub class_names: Vec<String>,
    /// Shape of every image.
    pub shape: ImageShape,
    /// Number of training images, after the split and `limit_train`. For a folder split by its files' bytes, an estimate
    /// from `val_fraction` until [`Facts::divide`] has read them.
    pub train: usize,
    /// Number of validation images; 0 without a validation split. As `train`.
    pub validation: usize,
    /// Number of test images; absent without a test split, and if only some classes of a packed file are in use,
    /// because its labels are not read.
    pub test: Option<usize>,
    /// Ignored files in class folders.
    pub ignored: Ignored,
    /// Folders next to `train/` whose names are not those of splits.
    pub ignored_folders: Vec<PathBuf>,
    /// Folders that contain runs of this program.
    pub run_folders: Vec<PathBuf>,
    /// Number of images outside class folders.
    pub loose_pictures: usize,
    /// Labels of the classes in use, for packed files and built-in digits; absent if all are in use.
    pub(super) places: Option<Vec<usize>>,
    /// Number of all classes, in use or not.
    pub(super) all_classes: usize,
    pub(super) source: Source,
    /// The training and validation images of a folder, once divided.
    pub(super) division: Option<Division>,
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
    /// Whether the data set is an image folder, of which only the images in use are loaded.
    pub fn is_folder(&self) -> bool {
        matches!(self.source, Source::Folder(_))
    }

    /// Whether there is a test split.
    pub fn has_test(&self) -> bool {
        match &self.source {
            Source::Idx { test, .. } => test.is_some(),
            Source::Cifar { test, .. } => test.is_some(),
            Source::Folder(listing) => listing.test.as_ref().is_some_and(|test| !test.is_empty()),
            Source::Digits => true,
        }
    }

    /// New labels of a packed file's classes, if only some are in use.
    pub(super) fn numbers(&self) -> Option<Numbers> {
        self.places.as_ref().map(|places| Numbers::new(places, self.all_classes))
    }

    /// Number of images of each class in the test split, if the listing shows it.
    pub fn test_class_counts(&self) -> Option<Vec<usize>> {
        let Source::Folder(Listing { test: Some(test), .. }) = &self.source else { return None };
        let mut counts = vec![0; self.class_names.len()];
        test.iter().for_each(|picture| counts[usize::from(picture.label)] += 1);
        Some(counts)
    }
}

/// Returns the number of classes of a known data set that a spec uses, without opening it; absent for a folder.
///
/// # Errors
/// When the spec's subset of classes does not fit.
pub fn class_count(spec: &DataSpec) -> Result<Option<usize>, DataError> {
    let Some(set) = data_sets::data_set(&spec.name) else { return Ok(None) };
    let places = chosen_places(spec, &official_names(set))?;
    Ok(Some(places.map_or(set.class_names.len(), |places| places.len())))
}

/// Shape of the images of a known data set; absent for a folder. IDX files may have another shape.
pub fn known_shape(name: &str) -> Option<ImageShape> {
    data_sets::data_set(name).map(|set| set.shape)
}

fn official_names(set: &DataSet) -> Vec<String> {
    set.class_names.iter().map(|name| name.to_string()).collect()
}

/// Reads listings and file headers.
///
/// # Errors
/// When the data set does not exist, its files are damaged or inconsistent, its classes differ between splits, or `mean`
/// or `std` does not have one value per channel.
pub fn inspect(spec: &DataSpec) -> Result<Facts, DataError> {
    inspect_with(spec, Listing::of)
}

/// As [`inspect`], for data that a model was not trained on: a folder may have any splits and any classes.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_other(spec: &DataSpec) -> Result<Facts, DataError> {
    inspect_with(spec, Listing::of_other)
}

/// How an image folder is listed.
type ListFolder = fn(&Path, Option<&ClassSubset>) -> Result<Listing, DataError>;

fn inspect_with(spec: &DataSpec, list: ListFolder) -> Result<Facts, DataError> {
    let facts = match data_sets::data_set(&spec.name) {
        None => inspect_folder(spec, list)?,
        Some(set) => match &set.format {
            Format::Drawn => inspect_digits(spec, set)?,
            Format::Idx => inspect_idx(spec, set).map_err(|error| of_known_name(spec, error))?,
            Format::Cifar(format) => inspect_cifar(spec, set, format).map_err(|error| of_known_name(spec, error))?,
        },
    };
    for (key, values) in [("mean", &spec.mean), ("std", &spec.std)] {
        if let Some(values) = values.as_ref().filter(|values| values.len() != facts.shape.channels) {
            let (name, channels) = (facts.name, facts.shape.channels);
            return Err(DataError::ChannelValues { key, values: values.len(), name, channels });
        }
    }
    Ok(facts)
}

fn inspect_digits(spec: &DataSpec, set: &DataSet) -> Result<Facts, DataError> {
    let class_names = official_names(set);
    let places = chosen_places(spec, &class_names)?;
    // Ten consecutive images contain each class once.
    let classes = class_names.len();
    let part = places.as_ref().map_or(classes, Vec::len);
    let [count, test] = [digits::TRAIN_IMAGES, digits::TEST_IMAGES].map(|all| all / classes * part);
    Ok(packed_facts(spec, class_names, places, digits::SHAPE, count, Some(test), Source::Digits))
}

/// Labels of the classes in use, if not all are.
fn chosen_places(spec: &DataSpec, names: &[String]) -> Result<Option<Vec<usize>>, DataError> {
    let places = spec.classes.as_ref().map(|classes| classes.places(names)).transpose();
    places.map_err(|error| DataError::Classes { name: spec.name.clone(), error })
}

/// Number of labels whose class is in use.
fn count_of(labels: &[u16], places: &[usize]) -> usize {
    labels.iter().filter(|label| places.contains(&usize::from(**label))).count()
}

fn inspect_idx(spec: &DataSpec, set: &'static DataSet) -> Result<Facts, DataError> {
    let class_names = official_names(set);
    let places = chosen_places(spec, &class_names)?;
    let train_images = Places::new(spec, set).find(&idx_spellings("train-images-idx3-ubyte"))?;
    let here = Places::same_folder(set, &train_images);
    let train = IdxPair::open(&train_images, &here.find(&idx_spellings("train-labels-idx1-ubyte"))?)?;
    if let Some(found) = whose_labels(train.labels_path()).filter(|found| *found != spec.name) {
        return Err(DataError::OtherKnownFiles { name: spec.name.clone(), found, path: train_images });
    }
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
    let test_file = train_images.with_file_name("t10k-images-idx3-ubyte.gz");
    let (count, test_count) = match &places {
        // The labels of the test split are not read here.
        Some(places) => (count_of(&train.read_labels(class_names.len())?, places), None),
        None => (train.count(), test.as_ref().map(IdxPair::count)),
    };
    let shape = train.shape();
    Ok(packed_facts(spec, class_names, places, shape, count, test_count, Source::Idx { train, test, test_file }))
}

fn inspect_cifar(spec: &DataSpec, set: &'static DataSet, format: &'static CifarFormat) -> Result<Facts, DataError> {
    let first = Places::new(spec, set).find(&[format.train_files[0].to_string()])?;
    let names = cifar::class_names(&first, format, set.class_names)?;
    let places = chosen_places(spec, &names)?;
    let here = Places::same_folder(set, &first);
    let paths = format.train_files.iter().map(|file| here.find(&[file.to_string()])).collect::<Result<_, _>>()?;
    let train = CifarFiles::open(paths, format)?;
    let test = match here.find(&[format.test_file.to_string()]) {
        Ok(path) => {
            let test = CifarFiles::open(vec![path], format)?;
            train.check_test(&test)?;
            Some(test)
        }
        Err(_) => None,
    };
    let test_file = first.with_file_name(format.test_file);
    let (count, test_count) = match &places {
        Some(places) => (count_of(&train.read_labels()?, places), None),
        None => (train.count(), test.as_ref().map(CifarFiles::count)),
    };
    Ok(packed_facts(spec, names, places, cifar::SHAPE, count, test_count, Source::Cifar { train, test, test_file }))
}

fn packed_facts(
    spec: &DataSpec,
    class_names: Vec<String>,
    places: Option<Vec<usize>>,
    shape: ImageShape,
    count: usize,
    test: Option<usize>,
    source: Source,
) -> Facts {
    let all_classes = class_names.len();
    let class_names = match &places {
        Some(places) => places.iter().map(|&place| class_names[place].clone()).collect(),
        None => class_names,
    };
    let validation = validation_count(count, class_names.len(), spec.val_fraction);
    let train = (count - validation).min(spec.limit_train.unwrap_or(usize::MAX));
    Facts {
        name: spec.name.clone(),
        class_names,
        shape,
        train,
        validation,
        test,
        ignored: Ignored::default(),
        ignored_folders: Vec::new(),
        run_folders: Vec::new(),
        loose_pictures: 0,
        places,
        all_classes,
        source,
        division: None,
    }
}

/// If the files of a known data set are missing, a user's folder of its name may be meant.
fn of_known_name(spec: &DataSpec, error: DataError) -> DataError {
    let folders = [spec.dir.as_ref().map(|dir| dir.join(&spec.name)), Some(PathBuf::from(&spec.name))];
    let mut folders = folders.into_iter().flatten();
    match (&error, folders.find(|folder| Listing::of(folder, None).is_ok())) {
        (DataError::MissingFile { found_others: false, .. }, Some(path)) => {
            DataError::FolderOfKnownName { name: spec.name.clone(), path }
        }
        _ => error,
    }
}

fn inspect_folder(spec: &DataSpec, list: ListFolder) -> Result<Facts, DataError> {
    let name = PathBuf::from(&spec.name);
    let inside = spec.dir.as_ref().map(|dir| dir.join(&name));
    let root = inside.filter(|inside| inside.exists()).unwrap_or(name);
    if !root.exists() {
        if let Some(path) = spec.dir.clone().filter(|dir| !dir.exists()) {
            return Err(DataError::NoDataFolder { path, name: None });
        }
        let is_path = spec.name.contains(std::path::is_separator) || spec.name.starts_with(['.', '~']);
        return Err(match is_path {
            true => DataError::NoFolder { nearest: nearest_folder(&root), path: root },
            false => {
                let known = data_sets::meant(&spec.name).map(str::to_string);
                // A preset that is called like a folder is meant itself.
                let is_preset = presets::text(&spec.name).is_some();
                let folder = nearest_folder(&root).filter(|_| !is_preset).map(|folder| folder.display().to_string());
                DataError::UnknownName { name: spec.name.clone(), nearest: known.or(folder) }
            }
        });
    }
    if !root.is_dir() {
        return Err(DataError::NotAFolder { path: root });
    }
    if let Some(name) = known_files(&root) {
        return Err(DataError::KnownFiles { name, path: root });
    }
    let listing = list(&root, spec.classes.as_ref()).map_err(|error| misplaced(&root, error))?;
    let side = spec.image_size.unwrap_or(FOLDER_IMAGE_SIZE);
    let shape = ImageShape { channels: spec.channels.unwrap_or(3), height: side, width: side };
    let class_names = listing.class_names.clone();
    let (count, test) = (listing.train.len(), listing.test.as_ref().map(Vec::len));
    let own_validation = listing.validation.as_ref().map(Vec::len);
    let (ignored, loose_pictures) = (listing.ignored.clone(), listing.loose_pictures);
    let (ignored_folders, run_folders) = (listing.ignored_folders.clone(), listing.run_folders.clone());
    let facts = packed_facts(spec, class_names, None, shape, count, test, Source::Folder(listing));
    let facts = Facts { ignored, ignored_folders, run_folders, loose_pictures, ..facts };
    Ok(match own_validation {
        Some(validation) => Facts { train: count.min(spec.limit_train.unwrap_or(usize::MAX)), validation, ..facts },
        None => facts,
    })
}

/// The folder in the same place whose name is spelled alike.
fn nearest_folder(path: &Path) -> Option<PathBuf> {
    let (parent, name) = (path.parent()?, path.file_name()?.to_str()?);
    let here = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    // A split that a data set does not have.
    if ["train", "val", "test"].contains(&name) && Listing::of(here, None).is_ok() {
        return Some(here.to_path_buf());
    }
    let folders: Vec<String> = subfolders(here).ok()?.into_iter().map(|folder| folder.name).collect();
    Some(parent.join(spelling::nearest(name, folders.iter().map(String::as_str))?))
}

/// Suggests the right folder if the class folders are one folder higher or deeper.
fn misplaced(root: &Path, error: DataError) -> DataError {
    if !matches!(error, DataError::ClassFolders { .. } | DataError::EmptyClass { .. }) {
        return error;
    }
    let inside: Vec<PathBuf> = subfolders(root).unwrap_or_default().into_iter().map(|folder| folder.path).collect();
    let is_class = inside.is_empty() && has_pictures(root);
    // Without a name of its own, as `.` is, it has no parent here either.
    if let (true, Some(parent), Some(_)) = (is_class, root.parent(), root.file_name()) {
        let parent = if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_path_buf() };
        if Listing::of(&parent, None).is_ok() {
            return DataError::IsClass { path: root.to_path_buf(), parent };
        }
    }
    if let Some((name, path)) = inside.iter().find_map(|folder| Some((known_files(folder)?, folder.clone()))) {
        return DataError::KnownFiles { name, path };
    }
    match &inside[..] {
        [only] if Listing::of(only, None).is_ok() => {
            DataError::Wrapped { path: root.to_path_buf(), inside: only.clone() }
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use crate::advice::Explain;
    use std::fs;

    use super::super::Wanted;
    use super::super::samples::{
        self, gzip, idx_images, idx_labels, spec, write, write_cifar, write_cifar100, write_class, write_mnist,
    };
    use super::*;

    fn refused(spec: &DataSpec) -> String {
        let error = inspect(spec).expect_err("the data is bad");
        assert!(error.hint().is_some());
        error.to_string()
    }

    #[test]
    fn facts_come_from_headers_and_listings_alone() {
        let folder = tempfile::tempdir().unwrap();
        write_mnist(&folder.path().join("mnist"));
        write_cifar(&folder.path().join("cifar-10-batches-bin"));
        for class in ["photos/cat", "photos/dog"] {
            write_class(&folder.path().join(class), 20, 0);
            write(&folder.path().join(class).join("broken.png"), b"not opened");
        }
        let mnist = inspect(&spec("mnist", folder.path())).unwrap();
        assert_eq!(mnist.shape, ImageShape { channels: 1, height: 7, width: 5 });
        assert_eq!((mnist.train, mnist.validation, mnist.test), (48, 5, Some(23)));
        let cifar = inspect(&spec("cifar10", folder.path())).unwrap();
        assert_eq!((cifar.train, cifar.validation, cifar.test), (49, 6, Some(11)));
        assert_eq!(cifar.class_names[9], "truck");
        let photos = inspect(&DataSpec { limit_train: Some(11), ..spec("photos", folder.path()) }).unwrap();
        assert_eq!((photos.train, photos.validation, photos.test), (11, 4, None));
        assert_eq!(photos.shape, ImageShape { channels: 3, height: 64, width: 64 });
    }

    #[test]
    fn kmnist_is_read_from_its_own_folder() {
        let folder = tempfile::tempdir().unwrap();
        write_mnist(&folder.path().join("kmnist"));
        let facts = inspect(&spec("kmnist", folder.path())).unwrap();
        assert_eq!((&*facts.class_names[9], facts.class_names.len(), facts.test), ("wo", 10, Some(23)));
        assert!(inspect(&spec("kmnist", &folder.path().join("kmnist"))).is_ok());
        let error = refused(&spec("mnist", &folder.path().join("kmnist")));
        assert!(error.starts_with("mnist needs the file train-images-idx3-ubyte.gz (looked in "), "{error}");
    }

    #[test]
    fn cifar_100_has_fine_or_coarse_classes_and_one_folder() {
        let folder = tempfile::tempdir().unwrap();
        write_cifar100(&folder.path().join("cifar-100-binary"));
        for (name, classes, last) in [("cifar100", 100, "worm"), ("cifar100-coarse", 20, "vehicles_2")] {
            for dir in [folder.path().to_path_buf(), folder.path().join("cifar-100-binary")] {
                let facts = inspect(&spec(name, &dir)).unwrap();
                assert_eq!((facts.class_names.len(), &*facts.class_names[classes - 1]), (classes, last));
                assert_eq!((facts.shape, facts.test), (ImageShape { channels: 3, height: 32, width: 32 }, Some(11)));
            }
        }
        let names: String = (0..100).map(|i| format!("name {i}\n")).collect();
        write(&folder.path().join("cifar-100-binary/fine_label_names.txt"), names.as_bytes());
        assert_eq!(inspect(&spec("cifar100", folder.path())).unwrap().class_names[7], "name 7");
        let moved = folder.path().join("cifar100");
        fs::rename(folder.path().join("cifar-100-binary"), &moved).unwrap();
        assert!(inspect(&spec("cifar100-coarse", &moved)).is_ok());
        let error = refused(&spec(moved.to_str().unwrap(), folder.path()));
        assert!(error.starts_with("this folder contains the files of cifar100, not class folders ("), "{error}");
        write(&folder.path().join("python/cifar-100-python/train"), b"pickled");
        let error = refused(&spec("cifar100", &folder.path().join("python")));
        assert!(error.starts_with("these are the files of cifar100's Python version, "), "{error}");
    }

    #[test]
    fn a_data_set_is_found_in_its_own_folder_or_the_one_above() {
        let folder = tempfile::tempdir().unwrap();
        write_mnist(&folder.path().join("mnist"));
        assert!(inspect(&spec("mnist", folder.path())).is_ok());
        assert!(inspect(&spec("mnist", &folder.path().join("mnist"))).is_ok());
        // The files of Fashion-MNIST have the same names.
        let error = refused(&spec("fashion-mnist", &folder.path().join("mnist")));
        assert!(error.starts_with("fashion-mnist needs the file train-images-idx3-ubyte.gz (looked in "), "{error}");
    }

    #[test]
    fn some_classes_are_counted_without_opening_an_image_or_the_test_split() {
        let folder = tempfile::tempdir().unwrap();
        write_mnist(&folder.path().join("mnist"));
        write_cifar(&folder.path().join("cifar-10-batches-bin"));
        // Valid headers, invalid labels: an error only if the labels are read.
        let bad_labels = [&[0, 0, 8, 1, 0, 0, 0, 23][..], &[99; 23]].concat();
        write(&folder.path().join("mnist/t10k-labels-idx1-ubyte"), &bad_labels);
        let of = |name: &str, classes: &str| {
            let classes = Some(ClassSubset::parse(classes));
            inspect(&DataSpec { classes, ..spec(name, folder.path()) }).unwrap()
        };
        // 53 images of the classes 0, 1, ..., 9, 0, ...: six of 0 and of 2.
        let mnist = of("mnist", "0,2,7");
        assert_eq!(mnist.class_names, ["0", "2", "7"]);
        assert_eq!((mnist.train, mnist.validation, mnist.test, mnist.has_test()), (15, 2, None, true));
        let cifar = of("cifar10", "even");
        assert_eq!(cifar.class_names, ["airplane", "bird", "deer", "frog", "ship"]);
        assert_eq!((cifar.train, cifar.validation, cifar.test, cifar.has_test()), (25, 3, None, true));
        let digits = of("digits", "odd");
        assert_eq!((digits.train, digits.validation, digits.test), (7200, 800, Some(2000)));
        for (name, expected) in [("digits", 5), ("mnist", 5), ("fashion-mnist", 5), ("cifar10", 5)] {
            let spec = DataSpec { classes: Some(ClassSubset::Odd), ..spec(name, folder.path()) };
            assert_eq!(class_count(&spec).unwrap(), Some(expected));
        }
    }

    #[test]
    fn missing_classes_are_refused_before_missing_files() {
        let nowhere = std::path::Path::new("no/such/folder");
        let classes = Some(ClassSubset::parse("Coat,Trousers"));
        let error = inspect(&DataSpec { classes, ..spec("fashion-mnist", nowhere) }).unwrap_err();
        let expected = "classes lists `Trousers`, which is not a class of the data (fashion-mnist, [data])";
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.hint().unwrap(), "did you mean `Trouser`?");
    }

    #[test]
    fn missing_files_are_named_and_a_missing_test_set_is_valid() {
        let folder = tempfile::tempdir().unwrap();
        write_mnist(folder.path());
        fs::remove_file(folder.path().join("t10k-images-idx3-ubyte")).unwrap();
        let place = folder.path().display();
        let expected = format!("mnist needs the file t10k-images-idx3-ubyte.gz (looked in {place})");
        assert_eq!(refused(&spec("mnist", folder.path())), expected);
        fs::remove_file(folder.path().join("t10k-labels-idx1-ubyte")).unwrap();
        assert_eq!(inspect(&spec("mnist", folder.path())).unwrap().test, None);
        fs::remove_file(folder.path().join("train-labels-idx1-ubyte.gz")).unwrap();
        let expected = format!("mnist needs the file train-labels-idx1-ubyte.gz (looked in {place})");
        assert_eq!(refused(&spec("mnist", folder.path())), expected);

        write_cifar(folder.path());
        fs::remove_file(folder.path().join("data_batch_3.bin")).unwrap();
        let expected = format!("cifar10 needs the file data_batch_3.bin (looked in {place})");
        assert_eq!(refused(&spec("cifar10", folder.path())), expected);
    }

    #[test]
    fn test_images_of_another_shape_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        write_mnist(folder.path());
        write(&folder.path().join("t10k-images-idx3-ubyte"), &idx_images(23, 5, 7));
        let error = refused(&spec("mnist", folder.path()));
        assert!(error.starts_with("test images are 1x5x7, but training images are 1x7x5 ("), "{error}");
    }

    #[test]
    fn a_folder_in_the_data_folder_comes_before_one_of_the_same_name_here() {
        // The tests run in the folder of the crate, which has one called `src`.
        let folder = tempfile::tempdir().unwrap();
        for class in ["src/cat", "src/dog"] {
            write_class(&folder.path().join(class), 3, 0);
        }
        assert_eq!(inspect(&spec("src", folder.path())).unwrap().class_names, ["cat", "dog"]);
    }

    #[test]
    fn packed_files_are_loaded_whole_and_folders_as_far_as_they_are_used() {
        let folder = tempfile::tempdir().unwrap();
        write_mnist(folder.path());
        for class in ["photos/cat", "photos/dog"] {
            write_class(&folder.path().join(class), 20, 0);
        }
        let limited = |name| DataSpec { limit_train: Some(11), ..spec(name, folder.path()) };
        let mnist = inspect(&limited("mnist")).unwrap();
        assert_eq!(mnist.image_bytes(Wanted::TrainAndValidation), 53 * 35);
        assert_eq!(mnist.image_bytes(Wanted::Test), 23 * 35);
        let photos = inspect(&limited("photos")).unwrap();
        assert_eq!(photos.image_bytes(Wanted::TrainAndValidation), (11 + 4) * 3 * 64 * 64);
    }

    #[test]
    fn an_unknown_name_suggests_the_nearest_one() {
        let folder = tempfile::tempdir().unwrap();
        let error = inspect(&spec("fashion_mnist", folder.path())).unwrap_err();
        assert_eq!(error.to_string(), "no data set or folder has the name `fashion_mnist`");
        assert_eq!(error.hint().unwrap(), "did you mean fashion-mnist?");
        let error = inspect(&spec("scr", folder.path())).unwrap_err();
        assert_eq!(error.hint().unwrap(), "did you mean src?", "a folder in the folder of the tests");
        let error = inspect(&spec("mnist-vit", folder.path())).unwrap_err();
        assert_eq!(error.hint().unwrap(), "this is a preset: preset = \"mnist-vit\"");
        let error = inspect(&spec("zebras", folder.path())).unwrap_err();
        let hint = format!("use {}, or the path of a folder with one folder of images per class", data_sets::listed());
        assert_eq!(error.hint().unwrap(), hint);
        for (name, start) in
            [("photos.zip", "unpack it, and"), ("table.csv", "give a folder with one folder of images")]
        {
            write(&folder.path().join(name), b"");
            let error = inspect(&spec(name, folder.path())).unwrap_err();
            assert!(error.to_string().starts_with("a data set is a folder, but this is a file ("), "{error}");
            assert!(error.hint().unwrap().starts_with(start), "{name}");
        }
    }

    #[test]
    fn a_folder_may_have_the_name_of_a_known_data_set() {
        let folder = tempfile::tempdir().unwrap();
        for class in ["kmnist/cat", "kmnist/dog"] {
            write_class(&folder.path().join(class), 3, 0);
        }
        let error = inspect(&spec("kmnist", folder.path())).unwrap_err();
        let path = folder.path().join("kmnist").display().to_string();
        let expected = format!("kmnist is a known data set, but the folder of that name has class folders ({path})");
        assert_eq!(error.to_string(), expected);
        let hint = "use data.name = \"./kmnist\" for the folder, or download the data set: data fetch \"kmnist\"";
        assert_eq!(error.hint().unwrap(), hint);
        assert_eq!(inspect(&spec("./kmnist", folder.path())).unwrap().class_names, ["cat", "dog"]);
        // Where its files are, they are used.
        write_mnist(&folder.path().join("mnist"));
        write_class(&folder.path().join("mnist/cat"), 3, 0);
        assert_eq!(inspect(&spec("mnist", folder.path())).unwrap().class_names.len(), 10);
    }

    #[test]
    fn a_path_to_the_wrong_folder_finds_the_right_one() {
        let folder = tempfile::tempdir().unwrap();
        for class in ["photos/cat", "photos/dog"] {
            write_class(&folder.path().join(class), 3, 0);
        }
        let at = |name: &str| folder.path().join(name).display().to_string();
        let told = |name: &str| {
            let error = inspect(&spec(&at(name), folder.path())).unwrap_err();
            [error.to_string(), error.hint().unwrap()]
        };
        let absent = format!("no such folder ({})", at("photo/"));
        assert_eq!(told("photo/"), [absent, format!("did you mean {}?", at("photos"))]);
        assert_eq!(told("photos/train")[1], format!("did you mean {}?", at("photos")));
        let [error, hint] = told("no/such/photos");
        assert_eq!(error, format!("no such folder ({})", at("no/such/photos")));
        assert!(hint.starts_with("check the path: ") && hint.ends_with(" or from data.dir"), "{hint}");
        let class = format!("this folder has images, not class folders ({})", at("photos/cat"));
        assert_eq!(told("photos/cat"), [class, format!("use data.name = {}", at("photos"))]);
    }

    #[test]
    fn normalization_must_have_a_value_for_each_channel() {
        let given = DataSpec { mean: Some(vec![0.5; 3]), ..DataSpec::default() };
        assert_eq!(refused(&given), "3 values in mean do not fit images of digits, which need 1 ([data])");
    }

    #[test]
    fn dotted_spellings_of_the_files_are_found() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("train-images.idx3-ubyte"), &idx_images(13, 7, 5));
        write(&folder.path().join("train-labels.idx1-ubyte.gz"), &gzip(&idx_labels(13)));
        assert_eq!(inspect(&samples::spec("mnist", folder.path())).unwrap().validation, 1);
    }
}
