//! Small data sets for the tests of this module, written to a temporary folder.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use image::{ImageFormat, RgbImage};
use tempfile::TempDir;

use super::folder::Listing;
use super::{DataError, Facts, Loaded, Wanted, inspect, load};
use crate::advice::Explain;
use crate::config::data::DataSpec;

/// An IDX file of images; every byte is its index.
pub fn idx_images(count: u32, height: u32, width: u32) -> Vec<u8> {
    let header = [0x0803, count, height, width].map(u32::to_be_bytes).concat();
    let pixels = (0..count * height * width).map(|i| (i * 7 % 251) as u8);
    header.into_iter().chain(pixels).collect()
}

/// An IDX file of the labels 0, 1, ..., 9, 0, 1, ...
pub fn idx_labels(count: u32) -> Vec<u8> {
    let header = [0x0801, count].map(u32::to_be_bytes).concat();
    header.into_iter().chain((0..count).map(|i| (i % 10) as u8)).collect()
}

/// Compresses as `gzip` does.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Writes a file and the folders above it.
pub fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Writes 53 training and 23 test images of 7x5 pixels as MNIST's files, the train set compressed.
pub fn write_mnist(folder: &Path) {
    write(&folder.join("train-images-idx3-ubyte.gz"), &gzip(&idx_images(53, 7, 5)));
    write(&folder.join("train-labels-idx1-ubyte.gz"), &gzip(&idx_labels(53)));
    write(&folder.join("t10k-images-idx3-ubyte"), &idx_images(23, 7, 5));
    write(&folder.join("t10k-labels-idx1-ubyte"), &idx_labels(23));
}

/// CIFAR records of the labels `first`, `first` + 1, ... modulo 10; each image is filled with its index.
pub fn cifar(first: usize, count: usize) -> Vec<u8> {
    let record = |i: usize| std::iter::once((i % 10) as u8).chain(std::iter::repeat_n(i as u8, 3072));
    (first..first + count).flat_map(record).collect()
}

/// CIFAR-100 records: image i is filled with i, is of the coarse class i modulo 20 and of the fine class 99 - i.
pub fn cifar100(count: usize) -> Vec<u8> {
    let record = |i: usize| [(i % 20) as u8, (99 - i) as u8].into_iter().chain(std::iter::repeat_n(i as u8, 3072));
    (0..count).flat_map(record).collect()
}

/// Writes a train file of 55 images and a test file of 11.
pub fn write_cifar100(folder: &Path) {
    write(&folder.join("train.bin"), &cifar100(55));
    write(&folder.join("test.bin"), &cifar100(11));
}

/// Writes five train files of 11 images and a test file of 7.
pub fn write_cifar(folder: &Path) {
    for file in 0..5 {
        write(&folder.join(format!("data_batch_{}.bin", file + 1)), &cifar(11 * file, 11));
    }
    write(&folder.join("test_batch.bin"), &cifar(0, 11));
}

/// An image file of one color.
pub fn picture(format: ImageFormat, width: u32, height: u32, color: [u8; 3]) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    RgbImage::from_pixel(width, height, image::Rgb(color)).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Writes `count` PNG images `0.png`, `1.png`, ... whose red value is their number and whose green value is `green`.
pub fn write_class(folder: &Path, count: u8, green: u8) {
    for number in 0..count {
        write(&folder.join(format!("{number}.png")), &picture(ImageFormat::Png, 13, 11, [number, green, 0]));
    }
}

/// A folder with two images in each of the given class folders.
pub fn class_folders(classes: &[&str]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    classes.iter().for_each(|class| write_class(&root.path().join(class), 2, 0));
    root
}

/// Error and hint of listing a folder, which is shown as `photos`.
pub fn listing_refused(root: &TempDir) -> (String, String) {
    let error = Listing::of(root.path(), None).expect_err("the folder is bad");
    let as_photos = |text: String| text.replace(root.path().to_str().unwrap(), "photos").replace('\\', "/");
    (as_photos(error.to_string()), as_photos(error.hint().unwrap()))
}

/// A spec of a data set in a folder.
pub fn spec(name: &str, dir: &Path) -> DataSpec {
    DataSpec { name: name.to_string(), dir: Some(dir.to_path_buf()), ..DataSpec::default() }
}

/// Inspects, then loads on three threads.
pub fn loaded(spec: &DataSpec, wanted: Wanted) -> Result<(Facts, Loaded), DataError> {
    let mut facts = inspect(spec)?;
    facts.divide(spec, 3, &|_, _| ());
    let loaded = load(spec, &facts, wanted, 3, &|_, _| ())?;
    Ok((facts, loaded))
}
