//! Images decode to the pixels that other programs read, or are refused with an error.
//!
//! `corpus.tar.gz` holds small images of every kind that the four formats have, made by several encoders, and
//! the pixels that an independent decoder makes of each; `corpus.tsv` says how far ours may be from them.
//! `make_corpus.py` made both. `pixels.tsv` has a hash of our pixels of each image, so that no new
//! version of a decoder changes one unseen.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};
use vitreous::config::data::Resize;
use vitreous::data::{DataError, ImageShape, decode_picture, decoding_bytes};

const CORPUS: &[u8] = include_bytes!("corpus.tar.gz");
const TABLE: &str = include_str!("corpus.tsv");
const HASHES: &str = include_str!("pixels.tsv");

/// An image and what has to become of it.
struct Case {
    name: &'static str,
    file: Vec<u8>,
    expected: Expected,
}

enum Expected {
    Pixels { reference: Reference, most: u8, mean: f64 },
    Refused(&'static str),
}

/// Pixels as another decoder finds them, `[height, width, 3]`.
struct Reference {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

fn cases() -> Vec<Case> {
    let files = unpacked();
    let case = |line: &'static str| {
        let cells: Vec<&str> = line.split('\t').collect();
        let expected = match cells[1..] {
            ["refused", reason] => Expected::Refused(reason),
            [reference, most, mean] => Expected::Pixels {
                reference: Reference::parse(&files[reference]),
                most: most.parse().expect("a number"),
                mean: mean.parse().expect("a number"),
            },
            _ => panic!("{line}"),
        };
        Case { name: cells[0], file: files[&format!("images/{}", cells[0])].clone(), expected }
    };
    TABLE.lines().map(case).collect()
}

/// The files of the corpus by name.
fn unpacked() -> BTreeMap<String, Vec<u8>> {
    let mut archive = Vec::new();
    flate2::read::GzDecoder::new(CORPUS).read_to_end(&mut archive).expect("the corpus can be unpacked");
    let mut files = BTreeMap::new();
    let mut rest = &archive[..];
    // A header is a block of 512 bytes, with the name first and the size as an octal number at 124.
    while rest[0] != 0 {
        let text = |bytes: &[u8]| String::from_utf8(bytes.split(|b| *b == 0).next().unwrap().to_vec()).expect("ASCII");
        let size = usize::from_str_radix(text(&rest[124..136]).trim(), 8).expect("a size");
        files.insert(text(&rest[..100]), rest[512..512 + size].to_vec());
        rest = &rest[512 + size.next_multiple_of(512)..];
    }
    files
}

impl Reference {
    fn parse(ppm: &[u8]) -> Reference {
        let mut lines = ppm.splitn(4, |byte| *byte == b'\n');
        assert_eq!(lines.next(), Some(&b"P6"[..]));
        let size = std::str::from_utf8(lines.next().expect("a size")).expect("ASCII");
        let (width, height) = size.split_once(' ').expect("two numbers");
        let [width, height] = [width, height].map(|side| side.parse().expect("a number"));
        Reference { width, height, pixels: lines.nth(1).expect("pixels").to_vec() }
    }

    /// Compares with an image `[3, height, width]`: the largest and the mean difference.
    fn differences(&self, image: &[u8]) -> (u8, f64) {
        let plane = self.width * self.height;
        let ours = (0..3 * plane).map(|place| image[place % 3 * plane + place / 3]);
        let differences: Vec<u8> = ours.zip(&self.pixels).map(|(ours, theirs)| ours.abs_diff(*theirs)).collect();
        let sum: f64 = differences.iter().map(|difference| f64::from(*difference)).sum();
        (differences.iter().copied().max().expect("pixels"), sum / differences.len() as f64)
    }
}

/// Decodes without scaling where the size is known.
fn decode(folder: &Path, case: &Case) -> Result<Vec<u8>, String> {
    let path = folder.join(case.name);
    fs::write(&path, &case.file).expect("the image is written");
    let (width, height) = match &case.expected {
        Expected::Pixels { reference, .. } => (reference.width, reference.height),
        Expected::Refused(_) => (8, 8),
    };
    let shape = ImageShape { channels: 3, height, width };
    match std::panic::catch_unwind(|| decode_picture(&path, shape, Resize::Squash)) {
        Ok(Ok(decoded)) => {
            // What is counted for it before is read from its header alone.
            assert!(decoding_bytes([&path], 1) > 3 * (width * height) as u64, "{}", case.name);
            Ok(decoded.pixels)
        }
        Ok(Err(DataError::Picture { reason, .. })) => Err(reason),
        Ok(Err(error)) => panic!("{}: {error}", case.name),
        Err(_) => Err("the decoder panicked".to_string()),
    }
}

#[test]
fn every_kind_of_image_is_decoded_as_elsewhere_or_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let cases = cases();
    assert!(cases.len() > 500, "{} images", cases.len());
    let mut wrong = String::new();
    for case in &cases {
        let name = case.name;
        match (decode(folder.path(), case), &case.expected) {
            (Ok(image), Expected::Pixels { reference, most, mean }) => {
                let (largest, average) = reference.differences(&image);
                if largest > *most || average > *mean {
                    writeln!(wrong, "{name}: differs by up to {largest}, {average:.2} in the mean").unwrap();
                }
            }
            (Err(said), Expected::Refused(reason)) if said == *reason => {}
            (Ok(_), Expected::Refused(reason)) => writeln!(wrong, "{name}: decoded, where `{reason}`").unwrap(),
            (Err(said), _) => writeln!(wrong, "{name}: refused, `{said}`").unwrap(),
        }
    }
    assert!(wrong.is_empty(), "{} of {} images\n{wrong}", wrong.lines().count(), cases.len());
}

#[test]
fn a_new_version_of_a_decoder_changes_no_pixel() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut hashes = String::new();
    for case in cases() {
        if let Ok(image) = decode(folder.path(), &case) {
            let hash = Sha256::digest(&image);
            let hash: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(hashes, "{}\t{hash}", case.name).unwrap();
        }
    }
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pixels.tsv");
    fs::write(&place, &hashes).expect("the hashes are written");
    let changed: Vec<&str> = hashes.lines().filter(|line| !HASHES.lines().any(|known| known == *line)).collect();
    assert!(
        hashes == HASHES,
        "the pixels of these images changed, and with them what runs compute; if that is meant, take {} as \
         crates/vitreous/tests/integration/decoding/pixels.tsv\n{}",
        place.display(),
        changed.join("\n")
    );
}
