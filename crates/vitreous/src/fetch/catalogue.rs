//! The data sets that can be fetched: their files, what is in them, and who has copies.
//!
//! Sources: <https://github.com/cvdfoundation/mnist>, <https://github.com/zalandoresearch/fashion-mnist>,
//! <https://www.cs.toronto.edu/~kriz/cifar.html>.

use crate::data::known;

/// A data set that can be fetched.
#[derive(Clone, Copy, Debug)]
pub struct DataSet<'a> {
    /// As in `--data`.
    pub name: &'a str,
    /// Its folder in the folder of data sets.
    pub folder: &'a str,
    /// Addresses below which its files are, the one to be asked first in front.
    pub mirrors: &'a [&'a str],
    /// Its files.
    pub files: &'a [RemoteFile<'a>],
}

/// A file at a mirror.
#[derive(Clone, Copy, Debug)]
pub struct RemoteFile<'a> {
    /// Its name there, and here if it is kept.
    pub name: &'a str,
    /// What is in it.
    pub content: Content<'a>,
}

/// What a file has to hold. The same content may be compressed in more than one way, so sums are of the content.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// One file, compressed with gzip: its bytes, and their SHA-256, once decompressed.
    Gzip {
        /// Number of bytes.
        bytes: u64,
        /// The SHA-256 of the content.
        sha256: &'a str,
    },
    /// A gzipped tar archive of known bytes, from which these files are taken.
    Archive {
        /// Number of bytes.
        bytes: u64,
        /// The MD5 of the archive.
        md5: &'a str,
        /// The files inside.
        members: &'a [Member<'a>],
    },
}

/// A file in an archive.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// Its path in the archive; its last part is its name here.
    pub path: &'a str,
    /// Its size.
    pub bytes: u64,
}

impl Content<'_> {
    /// Most bytes that a download can have. What cannot be compressed grows by five bytes in 16 kB, and a header.
    pub fn download_bytes_max(&self) -> u64 {
        match self {
            Content::Gzip { bytes, .. } => bytes + bytes / 1000 + 4096,
            Content::Archive { bytes, .. } => *bytes,
        }
    }
}

impl Member<'_> {
    /// Its name without the folders of the archive.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }
}

const fn gzip<'a>(name: &'a str, bytes: u64, sha256: &'a str) -> RemoteFile<'a> {
    RemoteFile { name, content: Content::Gzip { bytes, sha256 } }
}

const fn batch(path: &str) -> Member<'_> {
    Member { path, bytes: 10_000 * 3073 }
}

/// The data sets, by the names that `--data` knows.
pub const DATA_SETS: [DataSet<'static>; 3] = [
    DataSet {
        name: "mnist",
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
            gzip("train-labels-idx1-ubyte.gz", known::TRAIN_LABELS_BYTES as u64, known::MNIST_TRAIN_LABELS),
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
    },
    DataSet {
        name: "fashion-mnist",
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
            gzip("train-labels-idx1-ubyte.gz", known::TRAIN_LABELS_BYTES as u64, known::FASHION_MNIST_TRAIN_LABELS),
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
    },
    DataSet {
        name: "cifar10",
        folder: "cifar-10-batches-bin",
        mirrors: &["https://www.cs.toronto.edu/~kriz/"],
        files: &[RemoteFile {
            name: "cifar-10-binary.tar.gz",
            // The authors state no other sum than this of the archive. MD5 is no defence against its own authors, who
            // could make two archives of one sum, but nobody can make another archive for the sum of this one.
            content: Content::Archive {
                bytes: 170_052_171,
                md5: "c32a1d4ab5d03f1284b67883e8d87530",
                members: &[
                    batch("cifar-10-batches-bin/data_batch_1.bin"),
                    batch("cifar-10-batches-bin/data_batch_2.bin"),
                    batch("cifar-10-batches-bin/data_batch_3.bin"),
                    batch("cifar-10-batches-bin/data_batch_4.bin"),
                    batch("cifar-10-batches-bin/data_batch_5.bin"),
                    batch("cifar-10-batches-bin/test_batch.bin"),
                ],
            },
        }],
    },
];

/// Returns the data set of a name.
pub fn data_set(name: &str) -> Option<&'static DataSet<'static>> {
    const SETS: &[DataSet<'static>] = &DATA_SETS;
    SETS.iter().find(|set| set.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::data::KNOWN_DATA_SETS;

    #[test]
    fn every_known_data_set_that_is_not_drawn_can_be_fetched() {
        let names: Vec<&str> = KNOWN_DATA_SETS.into_iter().filter(|name| *name != "digits").collect();
        assert_eq!(DATA_SETS.map(|set| set.name).to_vec(), names);
        assert!(names.iter().all(|name| data_set(name).is_some_and(|set| set.name == *name)));
    }

    #[test]
    fn sums_are_spelled_as_they_are_computed() {
        let is_hex = |sum: &str| sum.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c));
        for file in DATA_SETS.iter().flat_map(|set| set.files) {
            match file.content {
                Content::Gzip { sha256, .. } => assert!(sha256.len() == 64 && is_hex(sha256), "{}", file.name),
                Content::Archive { md5, .. } => assert!(md5.len() == 32 && is_hex(md5), "{}", file.name),
            }
        }
        assert!(DATA_SETS.iter().flat_map(|set| set.mirrors).all(|mirror| mirror.ends_with('/')));
    }
}
