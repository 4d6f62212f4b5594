//! How much memory loading a data set needs, known before an image is decoded.

use super::cifar::CifarFiles;
use super::idx::IdxPair;
use super::source::Source;
use super::{Facts, Wanted, decoding_bytes};

impl Facts {
    /// Bytes of the images in memory when these splits are loaded; packed files are loaded whole.
    pub fn image_bytes(&self, wanted: Wanted) -> u64 {
        let is_test = wanted == Wanted::Test;
        let images = match &self.source {
            Source::Idx { test, .. } if is_test => test.as_ref().map_or(0, IdxPair::count),
            Source::Idx { train, .. } => train.count(),
            Source::Cifar { test, .. } if is_test => test.as_ref().map_or(0, CifarFiles::count),
            Source::Cifar { train, .. } => train.count(),
            Source::Folder(_) | Source::Digits if is_test => self.test.unwrap_or(0),
            Source::Folder(_) | Source::Digits => self.train + self.validation,
        };
        images as u64 * self.shape.len() as u64
    }

    /// Bytes needed in addition to the images while image files of these splits are decoded on `threads` threads: the sum
    /// over the largest files.
    pub fn decoding_bytes(&self, wanted: Wanted, threads: usize) -> u64 {
        let Source::Folder(listing) = &self.source else { return 0 };
        let [first, second] = match wanted {
            Wanted::TrainAndValidation => [Some(&listing.train), listing.validation.as_ref()],
            Wanted::Test => [None, listing.test.as_ref()],
        };
        let pictures = first.into_iter().chain(second).flatten();
        decoding_bytes(pictures.map(|picture| picture.path(&listing.root)), threads)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::super::inspect;
    use super::super::samples::{class_folders, spec};
    use super::*;

    #[test]
    fn images_with_names_that_are_not_unicode_are_counted() {
        let root = class_folders(&["cat", "dog"]);
        let bytes = || {
            let spec = spec(root.path().to_str().unwrap(), root.path());
            inspect(&spec).unwrap().decoding_bytes(Wanted::TrainAndValidation, 97)
        };
        let before = bytes();
        assert!(before > 0);
        std::fs::rename(root.path().join("cat"), root.path().join(OsStr::from_bytes(b"caf\xE9"))).unwrap();
        assert_eq!(bytes(), before);
    }
}
