//! The data sets that the program knows, one entry for each: adding a data set means adding an entry.
//!
//! Everything else about them follows from this table: names in configs, help and hints, classes and shapes, the files
//! that are read, and what `data fetch` downloads.
//!
//! Sources: <https://github.com/cvdfoundation/mnist>, <https://github.com/zalandoresearch/fashion-mnist>,
//! <https://www.cs.toronto.edu/~kriz/cifar.html>.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::spelling::nearest;

/// Sizes of every image of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageShape {
    /// 1 (gray) or 3 (RGB).
    pub channels: usize,
    /// In pixels.
    pub height: usize,
    /// In pixels.
    pub width: usize,
}

impl ImageShape {
    /// Bytes of one image.
    #[allow(clippy::len_without_is_empty)] // No image is empty.
    pub fn len(&self) -> usize {
        self.channels * self.height * self.width
    }
}

impl fmt::Display for ImageShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.channels, self.height, self.width)
    }
}

/// A data set that the program knows.
#[derive(Debug)]
pub struct DataSet {
    /// Its name in `--data` and `data.name`.
    pub name: &'static str,
    /// Other names, in lower case without `-`, `_` and spaces. They are suggested, not accepted: an image folder may have
    /// such a name.
    pub aliases: &'static [&'static str],
    /// Short description, at most 29 characters, so that `data list` fits 80 columns.
    pub title: &'static str,
    /// Its official page; empty for images that the program draws.
    pub page: &'static str,
    /// Names of the classes, by label.
    pub class_names: &'static [&'static str],
    /// Shape of every image. IDX files of another shape are accepted.
    pub shape: ImageShape,
    /// Number of training images, including those for validation.
    pub train: usize,
    /// Number of test images.
    pub test: usize,
    /// How its files are laid out.
    pub format: Format,
    /// Folders of its files in the data folder; `data fetch` uses the first.
    pub folders: &'static [&'static str],
    /// What `data fetch` downloads.
    pub download: Option<Download<'static>>,
}

/// How a data set's files are laid out.
#[derive(Debug)]
pub enum Format {
    /// No files: the program draws the images.
    Drawn,
    /// The four IDX files of MNIST, under MNIST's names.
    Idx,
    /// Records of label bytes and a planar RGB image.
    Cifar(CifarFormat),
}

/// Layout of a CIFAR binary version.
#[derive(Debug, PartialEq)]
pub struct CifarFormat {
    /// Files of the train set, in order, all with the same number of images.
    pub train_files: &'static [&'static str],
    /// File of the test set, with a fifth as many images as the train set.
    pub test_file: &'static str,
    /// File of the class names, one on each line. It may be absent.
    pub names_file: &'static str,
    /// Number of classes of each label byte in front of an image.
    pub label_bytes: &'static [u8],
    /// Which label byte is the class.
    pub label: usize,
    /// A file that identifies the Python version: its folder in the archive, and its name.
    pub python_file: (&'static str, &'static str),
}

/// The download of a data set.
#[derive(Clone, Copy, Debug)]
pub struct Download<'a> {
    /// The folder of the files, in the data folder.
    pub folder: &'a str,
    /// Base URLs of the files, in the order in which they are tried.
    pub mirrors: &'a [&'a str],
    /// The files.
    pub files: &'a [RemoteFile<'a>],
}

/// A file at a mirror.
#[derive(Clone, Copy, Debug)]
pub struct RemoteFile<'a> {
    /// Its name at the mirror, and in the data folder if it is kept.
    pub name: &'a str,
    /// Its content.
    pub content: Content<'a>,
}

/// The expected content of a file.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// A gzip file, with the checksum of its content: mirrors compress the same content differently.
    Gzip {
        /// Number of bytes, decompressed.
        bytes: u64,
        /// The SHA-256 of the decompressed bytes.
        sha256: &'a str,
    },
    /// A file with the checksum of its bytes, if no checksum of the decompressed content is published.
    File {
        /// Number of bytes.
        bytes: u64,
        /// The SHA-256 of the file.
        sha256: &'a str,
    },
    /// A gzipped tar archive with a checksum, from which these files are extracted.
    Archive {
        /// Number of bytes.
        bytes: u64,
        /// The MD5 of the archive. MD5 allows its author to make two archives with the same checksum, but no attack
        /// finds another archive for a given checksum.
        md5: &'a str,
        /// The files inside.
        members: &'a [Member<'a>],
    },
}

/// A file in an archive.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// Its path in the archive; the last part is its name in the data folder.
    pub path: &'a str,
    /// Its size.
    pub bytes: u64,
}

impl Content<'_> {
    /// Maximum size of a download. Incompressible data grows by five bytes per 16 kB, plus a header.
    pub fn download_bytes_max(&self) -> u64 {
        match self {
            Content::Gzip { bytes, .. } => bytes + bytes / 1000 + 4096,
            Content::File { bytes, .. } | Content::Archive { bytes, .. } => *bytes,
        }
    }
}

impl Member<'_> {
    /// Its name without the folders of the archive.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }
}

impl DataSet {
    /// The checksum that identifies the training labels of an IDX data set.
    pub fn train_labels(&self) -> Option<Content<'static>> {
        let files = self.download.filter(|_| matches!(self.format, Format::Idx))?.files;
        files.iter().find(|file| file.name.starts_with("train-labels")).map(|file| file.content)
    }
}

const fn gzip(name: &'static str, bytes: u64, sha256: &'static str) -> RemoteFile<'static> {
    RemoteFile { name, content: Content::Gzip { bytes, sha256 } }
}

/// The classes of digits, by label.
pub const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
const GRAY_28: ImageShape = ImageShape { channels: 1, height: 28, width: 28 };
const RGB_32: ImageShape = ImageShape { channels: 3, height: 32, width: 32 };

/// The known data sets, in the order in which they are listed.
pub static DATA_SETS: &[DataSet] = &[
    DataSet {
        name: "digits",
        aliases: &["builtindigits"],
        title: "digits, drawn by the program",
        page: "",
        class_names: &DIGITS,
        shape: GRAY_28,
        train: 16_000,
        test: 4_000,
        format: Format::Drawn,
        folders: &[],
        download: None,
    },
    DataSet {
        name: "mnist",
        aliases: &[],
        title: "MNIST: handwritten digits",
        page: "https://github.com/cvdfoundation/mnist",
        class_names: &DIGITS,
        shape: GRAY_28,
        train: 60_000,
        test: 10_000,
        format: Format::Idx,
        folders: &["mnist", "MNIST/raw"],
        download: Some(Download {
            folder: "mnist",
            mirrors: &[
                "https://ossci-datasets.s3.amazonaws.com/mnist/",
                "https://storage.googleapis.com/cvdf-datasets/mnist/",
            ],
            files: &[
                gzip(
                    "train-images-idx3-ubyte.gz",
                    47_040_016,
                    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                ),
                gzip(
                    "train-labels-idx1-ubyte.gz",
                    60_008,
                    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                ),
                gzip(
                    "t10k-images-idx3-ubyte.gz",
                    7_840_016,
                    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                ),
                gzip(
                    "t10k-labels-idx1-ubyte.gz",
                    10_008,
                    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
                ),
            ],
        }),
    },
    DataSet {
        name: "fashion-mnist",
        aliases: &["fashion"],
        title: "Fashion-MNIST: garments",
        page: "https://github.com/zalandoresearch/fashion-mnist",
        class_names: &[
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ],
        shape: GRAY_28,
        train: 60_000,
        test: 10_000,
        format: Format::Idx,
        folders: &["fashion-mnist", "FashionMNIST/raw"],
        download: Some(Download {
            folder: "fashion-mnist",
            mirrors: &[
                "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            ],
            files: &[
                gzip(
                    "train-images-idx3-ubyte.gz",
                    47_040_016,
                    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                ),
                gzip(
                    "train-labels-idx1-ubyte.gz",
                    60_008,
                    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                ),
                gzip(
                    "t10k-images-idx3-ubyte.gz",
                    7_840_016,
                    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                ),
                gzip(
                    "t10k-labels-idx1-ubyte.gz",
                    10_008,
                    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
                ),
            ],
        }),
    },
    DataSet {
        name: "kmnist",
        aliases: &["kuzushiji", "kuzushijimnist"],
        title: "KMNIST: cursive hiragana",
        page: "https://github.com/rois-codh/kmnist",
        class_names: &["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"],
        shape: GRAY_28,
        train: 60_000,
        test: 10_000,
        format: Format::Idx,
        folders: &["kmnist", "KMNIST/raw"],
        // Sizes and sums are of the compressed files, from tensorflow-datasets (`url_checksums/kmnist.txt`).
        download: Some(Download {
            folder: "kmnist",
            mirrors: &["http://codh.rois.ac.jp/kmnist/dataset/kmnist/"],
            files: &[
                RemoteFile {
                    name: "train-images-idx3-ubyte.gz",
                    content: Content::File {
                        bytes: 18_165_135,
                        sha256: "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
                    },
                },
                RemoteFile {
                    name: "train-labels-idx1-ubyte.gz",
                    content: Content::File {
                        bytes: 29_497,
                        sha256: "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
                    },
                },
                RemoteFile {
                    name: "t10k-images-idx3-ubyte.gz",
                    content: Content::File {
                        bytes: 3_041_136,
                        sha256: "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
                    },
                },
                RemoteFile {
                    name: "t10k-labels-idx1-ubyte.gz",
                    content: Content::File {
                        bytes: 5_120,
                        sha256: "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
                    },
                },
            ],
        }),
    },
    DataSet {
        name: "cifar10",
        aliases: &[],
        title: "CIFAR-10: small color photos",
        page: "https://www.cs.toronto.edu/~kriz/cifar.html",
        class_names: &["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
        shape: RGB_32,
        train: 50_000,
        test: 10_000,
        format: Format::Cifar(CifarFormat {
            train_files: &[
                "data_batch_1.bin",
                "data_batch_2.bin",
                "data_batch_3.bin",
                "data_batch_4.bin",
                "data_batch_5.bin",
            ],
            test_file: "test_batch.bin",
            names_file: "batches.meta.txt",
            label_bytes: &[10],
            label: 0,
            python_file: ("cifar-10-batches-py", "data_batch_1"),
        }),
        folders: &["cifar10", "cifar-10-batches-bin", "cifar10/cifar-10-batches-bin"],
        download: Some(Download {
            folder: "cifar-10-batches-bin",
            mirrors: &["https://www.cs.toronto.edu/~kriz/"],
            files: &[RemoteFile {
                name: "cifar-10-binary.tar.gz",
                // The official page publishes only this checksum.
                content: Content::Archive {
                    bytes: 170_052_171,
                    md5: "c32a1d4ab5d03f1284b67883e8d87530",
                    members: &[
                        Member { path: "cifar-10-batches-bin/data_batch_1.bin", bytes: 10_000 * 3073 },
                        Member { path: "cifar-10-batches-bin/data_batch_2.bin", bytes: 10_000 * 3073 },
                        Member { path: "cifar-10-batches-bin/data_batch_3.bin", bytes: 10_000 * 3073 },
                        Member { path: "cifar-10-batches-bin/data_batch_4.bin", bytes: 10_000 * 3073 },
                        Member { path: "cifar-10-batches-bin/data_batch_5.bin", bytes: 10_000 * 3073 },
                        Member { path: "cifar-10-batches-bin/test_batch.bin", bytes: 10_000 * 3073 },
                    ],
                },
            }],
        }),
    },
    DataSet {
        name: "cifar100",
        aliases: &[],
        title: "CIFAR-100: small color photos",
        page: "https://www.cs.toronto.edu/~kriz/cifar.html",
        class_names: &[
            "apple",
            "aquarium_fish",
            "baby",
            "bear",
            "beaver",
            "bed",
            "bee",
            "beetle",
            "bicycle",
            "bottle",
            "bowl",
            "boy",
            "bridge",
            "bus",
            "butterfly",
            "camel",
            "can",
            "castle",
            "caterpillar",
            "cattle",
            "chair",
            "chimpanzee",
            "clock",
            "cloud",
            "cockroach",
            "couch",
            "crab",
            "crocodile",
            "cup",
            "dinosaur",
            "dolphin",
            "elephant",
            "flatfish",
            "forest",
            "fox",
            "girl",
            "hamster",
            "house",
            "kangaroo",
            "keyboard",
            "lamp",
            "lawn_mower",
            "leopard",
            "lion",
            "lizard",
            "lobster",
            "man",
            "maple_tree",
            "motorcycle",
            "mountain",
            "mouse",
            "mushroom",
            "oak_tree",
            "orange",
            "orchid",
            "otter",
            "palm_tree",
            "pear",
            "pickup_truck",
            "pine_tree",
            "plain",
            "plate",
            "poppy",
            "porcupine",
            "possum",
            "rabbit",
            "raccoon",
            "ray",
            "road",
            "rocket",
            "rose",
            "sea",
            "seal",
            "shark",
            "shrew",
            "skunk",
            "skyscraper",
            "snail",
            "snake",
            "spider",
            "squirrel",
            "streetcar",
            "sunflower",
            "sweet_pepper",
            "table",
            "tank",
            "telephone",
            "television",
            "tiger",
            "tractor",
            "train",
            "trout",
            "tulip",
            "turtle",
            "wardrobe",
            "whale",
            "willow_tree",
            "wolf",
            "woman",
            "worm",
        ],
        shape: RGB_32,
        train: 50_000,
        test: 10_000,
        format: Format::Cifar(CifarFormat {
            train_files: &["train.bin"],
            test_file: "test.bin",
            names_file: "fine_label_names.txt",
            label_bytes: &[20, 100],
            label: 1,
            python_file: ("cifar-100-python", "train"),
        }),
        folders: CIFAR_100_FOLDERS,
        download: Some(CIFAR_100),
    },
    DataSet {
        name: "cifar100-coarse",
        aliases: &["cifar20"],
        title: "CIFAR-100, 20 superclasses",
        page: "https://www.cs.toronto.edu/~kriz/cifar.html",
        class_names: &[
            "aquatic_mammals",
            "fish",
            "flowers",
            "food_containers",
            "fruit_and_vegetables",
            "household_electrical_devices",
            "household_furniture",
            "insects",
            "large_carnivores",
            "large_man-made_outdoor_things",
            "large_natural_outdoor_scenes",
            "large_omnivores_and_herbivores",
            "medium_mammals",
            "non-insect_invertebrates",
            "people",
            "reptiles",
            "small_mammals",
            "trees",
            "vehicles_1",
            "vehicles_2",
        ],
        shape: RGB_32,
        train: 50_000,
        test: 10_000,
        format: Format::Cifar(CifarFormat {
            train_files: &["train.bin"],
            test_file: "test.bin",
            names_file: "coarse_label_names.txt",
            label_bytes: &[20, 100],
            label: 0,
            python_file: ("cifar-100-python", "train"),
        }),
        folders: CIFAR_100_FOLDERS,
        download: Some(CIFAR_100),
    },
];

const CIFAR_100_FOLDERS: &[&str] = &["cifar100", "cifar-100-binary", "cifar100/cifar-100-binary"];

/// The size and the MD5 are those of tensorflow-datasets (`url_checksums/cifar100.txt`, which also has the SHA-256
/// `58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec`) and of the official page. The class name files
/// are not extracted, because no source states their sizes.
const CIFAR_100: Download = Download {
    folder: "cifar-100-binary",
    mirrors: &["https://www.cs.toronto.edu/~kriz/"],
    files: &[RemoteFile {
        name: "cifar-100-binary.tar.gz",
        content: Content::Archive {
            bytes: 168_513_733,
            md5: "03b5dce01913d631647c71ecec9e9cb8",
            members: &[
                Member { path: "cifar-100-binary/train.bin", bytes: 50_000 * 3074 },
                Member { path: "cifar-100-binary/test.bin", bytes: 10_000 * 3074 },
            ],
        },
    }],
};

/// Well-known data sets that are not in the table, without `-`, `_` and spaces.
const OTHER_DATA_SETS: &[&str] = &[
    "cinic10",
    "emnist",
    "qmnist",
    "notmnist",
    "medmnist",
    "usps",
    "svhn",
    "stl10",
    "gtsrb",
    "eurosat",
    "imagenet",
    "imagenette",
    "tinyimagenet",
    "caltech101",
];

/// Data sets that older versions did not know: in their runs, these are names of folders.
const NEWER: [&str; 3] = ["kmnist", "cifar100", "cifar100-coarse"];

/// Whether older versions took a name for that of a folder.
pub fn is_newer(name: &str) -> bool {
    NEWER.contains(&name)
}

/// Returns the data set of a name.
pub fn data_set(name: &str) -> Option<&'static DataSet> {
    DATA_SETS.iter().find(|set| set.name == name)
}

/// The names of the known data sets, with commas.
pub fn listed() -> String {
    DATA_SETS.iter().map(|set| set.name).collect::<Vec<_>>().join(", ")
}

/// Whether a name is that of a well-known data set that is not in the table.
pub fn is_other_data_set(name: &str) -> bool {
    OTHER_DATA_SETS.contains(&plain(name).as_str())
}

/// Returns the data set that an unknown name probably means: another spelling of its name, or a misspelling. The name of
/// another well-known data set is not a misspelling, nor is a name with another number.
pub fn meant(name: &str) -> Option<&'static str> {
    let written = plain(name);
    let is_spelling = |set: &&DataSet| plain(set.name) == written || set.aliases.contains(&written.as_str());
    if let Some(set) = DATA_SETS.iter().find(is_spelling) {
        return Some(set.name);
    }
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    let has_its_number = |known: &&str| digits(name).is_empty() || digits(name) == digits(known);
    nearest(name, DATA_SETS.iter().map(|set| set.name)).filter(|_| !is_other_data_set(name)).filter(has_its_number)
}

/// In lower case, without `-`, `_` and spaces.
fn plain(name: &str) -> String {
    name.to_lowercase().chars().filter(|c| !"-_ ".contains(*c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_valid() {
        let is_hex = |sum: &str| sum.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c));
        for set in DATA_SETS {
            let name = set.name;
            assert!(set.aliases.iter().all(|alias| plain(alias) == *alias && *alias != plain(name)), "{name}");
            assert!(set.class_names.len() >= 2 && (1..=29).contains(&set.title.len()), "{name}");
            if let Format::Cifar(format) = &set.format {
                assert_eq!(usize::from(format.label_bytes[format.label]), set.class_names.len(), "{name}");
            }
            let Some(download) = set.download else {
                assert!(matches!(set.format, Format::Drawn), "{name}");
                continue;
            };
            assert!(set.folders.contains(&download.folder) && set.page.starts_with("https://"), "{name}");
            assert!(download.mirrors.iter().all(|mirror| mirror.ends_with('/')), "{name}");
            for file in download.files {
                match file.content {
                    Content::Gzip { sha256, .. } | Content::File { sha256, .. } => {
                        assert!(sha256.len() == 64 && is_hex(sha256), "{}", file.name);
                    }
                    Content::Archive { md5, .. } => assert!(md5.len() == 32 && is_hex(md5), "{}", file.name),
                }
            }
        }
        let mut names: Vec<&str> =
            DATA_SETS.iter().flat_map(|set| set.aliases.iter().chain([&set.name])).copied().collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "two data sets have the same name");
    }

    #[test]
    fn other_spellings_and_misspellings_find_their_data_set_and_other_data_sets_do_not() {
        for (written, expected) in [
            ("cifar-10", Some("cifar10")),
            ("CIFAR_10", Some("cifar10")),
            ("cifar", Some("cifar10")),
            ("Fashion", Some("fashion-mnist")),
            ("fashion_mnist", Some("fashion-mnist")),
            ("mnits", Some("mnist")),
            ("cifar30", None),
            ("CIFAR-100", Some("cifar100")),
            ("emnist", None),
            ("cifar-20", Some("cifar100-coarse")),
            ("Kuzushiji-MNIST", Some("kmnist")),
            ("kuzushiji", Some("kmnist")),
            ("zebras", None),
        ] {
            assert_eq!(meant(written), expected, "{written}");
        }
    }
}
