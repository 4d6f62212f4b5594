//! IDX files, raw or gzipped: a header of big-endian numbers, then bytes. MNIST and Fashion-MNIST use this format.
//! Source: <http://yann.lecun.com/exdb/mnist/>, "The IDX file format".
//!
//! A header is checked against the file's size before memory is allocated.

use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::split::{Names, Packed};
use super::{DataError, ImageShape, Progress};
use crate::config::data::IMAGE_SIZE_MAX;
use crate::numbers::counted;
use crate::regular;

/// Maximum number of image bytes in one file.
pub const BYTES_MAX: u64 = 1 << 33;
/// Maximum expansion of a byte by Deflate (zlib, "Technical Details", maximum compression factor).
const INFLATION_MAX: u64 = 1032;

const IMAGES_MAGIC: u32 = 0x0803; // unsigned bytes, three dimensions
const LABELS_MAGIC: u32 = 0x0801; // unsigned bytes, one dimension
const IMAGES_HEADER: usize = 16;
const LABELS_HEADER: usize = 8;

/// An image file and its label file, with valid headers.
#[derive(Clone, Debug, PartialEq)]
pub struct IdxPair {
    images: PathBuf,
    labels: PathBuf,
    count: usize,
    height: usize,
    width: usize,
}

impl IdxPair {
    /// Reads the two headers.
    ///
    /// # Errors
    /// When a header is invalid, states more than its file can contain, or the two disagree.
    pub fn open(images: &Path, labels: &Path) -> Result<IdxPair, DataError> {
        let mut pair =
            IdxPair { images: images.to_path_buf(), labels: labels.to_path_buf(), count: 0, height: 0, width: 0 };
        let (_, [count, height, width]) = pair.images()?;
        let (_, label_count) = pair.labels()?;
        if count != label_count {
            return Err(DataError::Counts {
                images: count as usize,
                images_path: pair.images,
                labels: label_count as usize,
                labels_path: pair.labels,
            });
        }
        (pair.count, pair.height, pair.width) = (count as usize, height as usize, width as usize);
        Ok(pair)
    }

    /// Number of images.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Shape of every image.
    pub fn shape(&self) -> ImageShape {
        ImageShape { channels: 1, height: self.height, width: self.width }
    }

    /// Path of the label file.
    pub fn labels_path(&self) -> &Path {
        &self.labels
    }

    /// Path of the image file.
    pub fn images_path(&self) -> &Path {
        &self.images
    }

    /// Reads all images and labels.
    ///
    /// # Errors
    /// When a file is damaged, does not have the size that its header states, or contains an invalid label.
    pub fn load(&self, prefix: &'static str, classes: usize, progress: Progress) -> Result<Packed, DataError> {
        let labels = self.read_labels(classes)?;
        let (images_file, [count, height, width]) = self.images()?;
        if [count, height, width].map(|n| n as usize) != [self.count, self.height, self.width] {
            return Err(DataError::Changed { path: self.images.clone() });
        }
        let image_len = self.shape().len();
        let pixels = images_file.read_all(self.count * image_len, |bytes| progress(bytes / image_len, self.count))?;
        Ok(Packed { shape: self.shape(), pixels, labels, names: Names::Numbered(prefix), small: Vec::new() })
    }

    /// Reads all labels.
    ///
    /// # Errors
    /// When the file is damaged, does not have the size that its header states, or contains an invalid label.
    pub fn read_labels(&self, classes: usize) -> Result<Vec<u16>, DataError> {
        let (labels_file, label_count) = self.labels()?;
        if label_count as usize != self.count {
            return Err(DataError::Changed { path: self.images.clone() });
        }
        let labels = labels_file.read_all(self.count, |_| ())?;
        if let Some((index, &label)) = labels.iter().enumerate().find(|(_, label)| usize::from(**label) >= classes) {
            return Err(DataError::Label { path: self.labels.clone(), index, label, classes });
        }
        Ok(labels.into_iter().map(u16::from).collect())
    }

    fn images(&self) -> Result<(IdxFile, [u32; 3]), DataError> {
        let mut file = IdxFile::open(&self.images)?;
        let header: [u8; IMAGES_HEADER] = file.header()?;
        let sizes = images_header(&header, &self.images)?;
        file.check_size(IMAGES_HEADER, sizes.iter().map(|n| u64::from(*n)).product())?;
        Ok((file, sizes))
    }

    fn labels(&self) -> Result<(IdxFile, u32), DataError> {
        let mut file = IdxFile::open(&self.labels)?;
        let header: [u8; LABELS_HEADER] = file.header()?;
        let [magic, count] = [0, 4].map(|at| number(&header, at));
        check_magic(magic, LABELS_MAGIC, "labels", &self.labels)?;
        file.check_size(LABELS_HEADER, u64::from(count))?;
        Ok((file, count))
    }
}

fn images_header(header: &[u8; IMAGES_HEADER], path: &Path) -> Result<[u32; 3], DataError> {
    let [magic, count, height, width] = [0, 4, 8, 12].map(|at| number(header, at));
    check_magic(magic, IMAGES_MAGIC, "images", path)?;
    if count == 0 {
        return Err(DataError::NoImages { path: path.to_path_buf() });
    }
    if [height, width].iter().any(|side| !(1..=IMAGE_SIZE_MAX as u32).contains(side)) {
        return Err(DataError::IdxShape { path: path.to_path_buf(), count, height, width });
    }
    Ok([count, height, width])
}

fn number(header: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

/// The content of a label file, if it is valid and has this size.
pub fn labels_content(path: &Path, bytes: usize) -> Option<Vec<u8>> {
    let mut file = IdxFile::open(path).ok()?;
    let header: [u8; LABELS_HEADER] = file.header().ok()?;
    let data = bytes.checked_sub(LABELS_HEADER)?;
    (number(&header, 4) as usize == data && file.check_size(LABELS_HEADER, data as u64).is_ok()).then_some(())?;
    Some([&header[..], &file.read_all(data, |_| ()).ok()?].concat())
}

/// Describes the first four bytes of an IDX file: two zeros, the value type, the number of dimensions.
fn described(magic: u32) -> Option<String> {
    let [0, 0, kind, dimensions @ 1..=4] = magic.to_be_bytes() else { return None };
    let kind = match kind {
        0x08 => "unsigned bytes",
        0x09 => "signed bytes",
        0x0B => "16-bit integers",
        0x0C => "32-bit integers",
        0x0D => "32-bit floats",
        0x0E => "64-bit floats",
        _ => return None,
    };
    Some(format!("{kind} in {}", counted(dimensions.into(), "dimension")))
}

fn check_magic(found: u32, expected: u32, holds: &'static str, path: &Path) -> Result<(), DataError> {
    // Swapped image and label files are reported as such; any other valid start is another value type.
    let is_swapped = [IMAGES_MAGIC, LABELS_MAGIC].contains(&found);
    if let (Some(other), Some(expected), false) = (described(found), described(expected), is_swapped) {
        return Err(DataError::IdxKind { path: path.to_path_buf(), holds, found: other, expected });
    }
    if found != expected {
        return Err(DataError::IdxMagic { path: path.to_path_buf(), holds, found, expected });
    }
    Ok(())
}

/// An open file, raw or gzipped (recognized by its first bytes), and the read position.
struct IdxFile {
    path: PathBuf,
    reader: Box<dyn Read>,
    file_len: u64,
    gzipped: bool,
    header_len: usize,
}

impl IdxFile {
    fn open(path: &Path) -> Result<IdxFile, DataError> {
        let read_error = |error: io::Error| DataError::read(path, &error);
        let mut file = regular::open(path).map_err(read_error)?;
        let file_len = file.metadata().map_err(read_error)?.len();
        let mut start = [0; 2];
        let gzipped = fill(&mut file, &mut start).map_err(read_error)? == 2 && start == [0x1F, 0x8B];
        file.seek(SeekFrom::Start(0)).map_err(read_error)?;
        let file = BufReader::with_capacity(1 << 16, file);
        let reader: Box<dyn Read> = if gzipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        Ok(IdxFile { path: path.to_path_buf(), reader, file_len, gzipped, header_len: 0 })
    }

    fn header<const N: usize>(&mut self) -> Result<[u8; N], DataError> {
        let mut header = [0; N];
        let found = self.fill(&mut header)?;
        if found == 0 {
            return Err(DataError::Empty { path: self.path.clone() });
        }
        if found < N {
            let found = format!("it ends after {found}");
            return Err(DataError::StatedSize { path: self.path.clone(), stated: N as u64, found });
        }
        self.header_len = N;
        Ok(header)
    }

    /// Refuses a header that states more than the file can contain, before any allocation.
    fn check_size(&self, header_len: usize, data_len: u64) -> Result<(), DataError> {
        if data_len > BYTES_MAX {
            return Err(DataError::TooLarge { path: self.path.clone(), bytes: data_len, limit: BYTES_MAX });
        }
        let stated = header_len as u64 + data_len;
        let found = match self.gzipped {
            false if stated != self.file_len => format!("the file has {}", self.file_len),
            true if stated > self.file_len.saturating_mul(INFLATION_MAX) => {
                format!("a gzip file of {} cannot contain so many", self.file_len)
            }
            _ => return Ok(()),
        };
        Err(DataError::StatedSize { path: self.path.clone(), stated, found })
    }

    /// Reads the `len` bytes that the header states, and checks that the file ends there; `report` is called with the number of
    /// bytes read.
    fn read_all(mut self, len: usize, report: impl Fn(usize)) -> Result<Vec<u8>, DataError> {
        let mut bytes = room_for(len)?;
        let stated = (self.header_len + len) as u64;
        let wrong_size =
            |file: &IdxFile, found: String| DataError::StatedSize { path: file.path.clone(), stated, found };
        let mut at = 0;
        while at < len {
            let end = len.min(at + (1 << 20));
            bytes.resize(end, 0); // Touches memory only when data has arrived.
            let found = self.fill(&mut bytes[at..end])?;
            if found < end - at {
                return Err(wrong_size(&self, format!("it ends after {}", self.header_len + at + found)));
            }
            at = end;
            report(at);
        }
        // Reading to the end also verifies the gzip checksum.
        if self.fill(&mut [0])? > 0 {
            return Err(wrong_size(&self, "more follow".to_string()));
        }
        Ok(bytes)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, DataError> {
        fill(&mut self.reader, buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof if self.gzipped => {
                DataError::Gzip { path: self.path.clone(), reason: "it is cut off".to_string() }
            }
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData if self.gzipped => {
                DataError::Gzip { path: self.path.clone(), reason: error.to_string() }
            }
            _ => DataError::read(&self.path, &error),
        })
    }
}

/// Reads until the buffer is full or the file ends, and returns the number of bytes.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut at = 0;
    while at < buffer.len() {
        match reader.read(&mut buffer[at..]) {
            Ok(0) => break,
            Ok(n) => at += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(at)
}

/// Allocates, or returns an error if memory is insufficient.
fn room_for(len: usize) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| DataError::Memory { bytes: len as u64 })?;
    Ok(bytes)
}

/// Allocates zeros, or returns an error if memory is insufficient.
pub fn zeros(len: usize) -> Result<Vec<u8>, DataError> {
    let mut bytes = room_for(len)?;
    bytes.resize(len, 0);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use crate::advice::Explain;
    use std::fs;

    use proptest::prelude::*;

    use super::super::samples::{gzip, idx_images, idx_labels};
    use super::*;

    /// Opens and loads a pair of files with the given contents.
    fn read(images: &[u8], labels: &[u8]) -> Result<Packed, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let (images_path, labels_path) = (folder.path().join("images"), folder.path().join("labels"));
        fs::write(&images_path, images).unwrap();
        fs::write(&labels_path, labels).unwrap();
        IdxPair::open(&images_path, &labels_path)?.load("train", 10, &|_, _| ())
    }

    /// The error of a pair of files, without their folder.
    fn refused(images: &[u8], labels: &[u8]) -> String {
        let error = read(images, labels).err().expect("the files are bad");
        assert!(error.hint().is_some());
        let text = error.to_string();
        let (text, place) = text.rsplit_once(" (").unwrap();
        format!("{text} ({}", place.rsplit(std::path::MAIN_SEPARATOR).next().unwrap())
    }

    #[test]
    fn raw_and_gzipped_files_give_the_same_images() {
        let (images, labels) = (idx_images(13, 7, 5), idx_labels(13));
        for (images_file, labels_file) in [(images.clone(), gzip(&labels)), (gzip(&images), labels.clone())] {
            let packed = read(&images_file, &labels_file).unwrap();
            assert_eq!(packed.shape, ImageShape { channels: 1, height: 7, width: 5 });
            assert_eq!(packed.pixels, images[IMAGES_HEADER..]);
            assert_eq!(packed.labels, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2]);
        }
    }

    #[test]
    fn a_file_of_another_kind_is_refused() {
        let (images, labels) = (idx_images(13, 7, 5), idx_labels(13));
        assert_eq!(
            refused(&labels, &images),
            "the file starts with 0x00000801, but IDX images start with 0x00000803 (images)"
        );
        assert_eq!(
            refused(&images, &images),
            "the file starts with 0x00000803, but IDX labels start with 0x00000801 (labels)"
        );
        assert_eq!(refused(&images[..9], &labels), "the header states 16 bytes, but it ends after 9 (images)");
    }

    #[test]
    fn other_numbers_and_dimensions_are_named() {
        let (images, labels) = (idx_images(13, 7, 5), idx_labels(13));
        let with = |kind: u8, dimensions: u8, of: &[u8]| [&[0, 0, kind, dimensions], &of[4..]].concat();
        assert_eq!(
            refused(&with(0x0D, 3, &images), &labels),
            "the file contains 32-bit floats in 3 dimensions, but IDX images are unsigned bytes in 3 dimensions (images)"
        );
        assert_eq!(
            refused(&with(0x08, 4, &images), &labels),
            "the file contains unsigned bytes in 4 dimensions, but IDX images are unsigned bytes in 3 dimensions (images)"
        );
        assert_eq!(
            refused(&images, &with(0x0C, 1, &labels)),
            "the file contains 32-bit integers in 1 dimension, but IDX labels are unsigned bytes in 1 dimension (labels)"
        );
        assert!(refused(&with(0x0F, 3, &images), &labels).starts_with("the file starts with 0x00000f03, but IDX"));
    }

    #[test]
    fn a_file_with_another_size_than_its_header_states_is_refused() {
        let (images, labels) = (idx_images(13, 7, 5), idx_labels(13));
        let longer = [&images[..], &[0]].concat();
        let whole = images.len();
        assert_eq!(
            refused(&images[..whole - 1], &labels),
            "the header states 471 bytes, but the file has 470 (images)"
        );
        assert_eq!(refused(&longer, &labels), "the header states 471 bytes, but the file has 472 (images)");
        let short = gzip(&images[..whole - 1]);
        assert_eq!(refused(&short, &labels), "the header states 471 bytes, but it ends after 470 (images)");
        assert_eq!(refused(&gzip(&longer), &labels), "the header states 471 bytes, but more follow (images)");
        assert_eq!(refused(&[], &labels), "the file is empty (images)");
        assert_eq!(refused(&gzip(&[]), &labels), "the file is empty (images)");
        assert_eq!(refused(&images, &labels[..20]), "the header states 21 bytes, but the file has 20 (labels)");
    }

    #[test]
    fn damaged_gzip_data_is_refused() {
        let labels = idx_labels(13);
        let whole = gzip(&idx_images(13, 7, 5));
        let cut_off = &whole[..whole.len() - 3];
        assert_eq!(refused(cut_off, &labels), "the gzip data is damaged: it is cut off (images)");
        let mut checksum = whole.clone();
        checksum[whole.len() - 6] ^= 1;
        assert_eq!(
            refused(&checksum, &labels),
            "the gzip data is damaged: corrupt gzip stream does not have a matching checksum (images)"
        );
        // A flipped bit is detected, at least by the checksum, or is padding. The first ten bytes contain times.
        let good = read(&whole, &labels).unwrap().pixels;
        for bit in 8 * 10..8 * whole.len() {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&flipped, &labels).map_or(true, |packed| packed.pixels == good), "bit {bit}");
        }
    }

    #[test]
    fn numbers_of_images_and_labels_must_be_equal() {
        let error = read(&idx_images(13, 7, 5), &idx_labels(11)).err().unwrap().to_string();
        assert!(error.starts_with("13 images in ") && error.contains(", but 11 labels ("), "{error}");
    }

    #[test]
    fn an_invalid_label_is_refused() {
        let mut labels = idx_labels(13);
        labels[LABELS_HEADER + 4] = 10;
        assert_eq!(
            refused(&idx_images(13, 7, 5), &labels),
            "label 10 of image 4 is not one of the 10 classes (labels)"
        );
    }

    #[test]
    fn absurd_sizes_are_refused_before_anything_is_allocated() {
        let labels = idx_labels(13);
        let stating =
            |sizes: [u32; 3]| [&[0x0803], &sizes[..]].concat().into_iter().flat_map(u32::to_be_bytes).collect();
        let header: Vec<u8> = stating([60_000, 28, 28]);
        assert_eq!(refused(&header, &labels), "the header states 47040016 bytes, but the file has 16 (images)");
        let small = gzip(&header);
        let expected =
            format!("the header states 47040016 bytes, but a gzip file of {} cannot contain so many", small.len());
        assert_eq!(refused(&small, &labels), format!("{expected} (images)"));
        let header: Vec<u8> = stating([u32::MAX, 4096, 4096]);
        assert_eq!(
            refused(&header, &labels),
            "72057594021150720 bytes of images are more than the limit of 8589934592 bytes (images)"
        );
        let header: Vec<u8> = stating([1, 5000, 0]);
        assert_eq!(refused(&header, &labels), "the header states 1 images of 0x5000 (images)");
        let header: Vec<u8> = stating([0, 7, 5]);
        assert_eq!(refused(&header, &labels), "the file has no images (images)");
    }

    proptest! {
        #[test]
        fn no_header_causes_a_panic_or_an_allocation_larger_than_the_file(
            magic in prop_oneof![Just(0x0803u32), any::<u32>()],
            sizes in prop::array::uniform3(prop_oneof![0u32..9, any::<u32>()]),
            tail in prop::collection::vec(any::<u8>(), 0..200),
            compressed: bool,
        ) {
            let plain = [[magic].as_slice(), &sizes].concat().into_iter().flat_map(u32::to_be_bytes);
            let plain: Vec<u8> = plain.chain(tail).collect();
            let bytes = if compressed { gzip(&plain) } else { plain };
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("images");
            fs::write(&path, &bytes).unwrap();
            let pair = IdxPair { images: path.clone(), labels: path, count: 0, height: 0, width: 0 };
            // All allocations for images have sizes that passed this check.
            if let Ok((file, sizes)) = pair.images() {
                let len: u64 = sizes.iter().map(|n| u64::from(*n)).product();
                prop_assert!(len <= INFLATION_MAX * bytes.len() as u64);
                let _ = file.read_all(len as usize, |_| ());
            }
        }
    }
}
