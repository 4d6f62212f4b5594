//! Duplicate images: those whose input pixels are equal byte for byte.
//!
//! Images are sorted by checksum, and only those with equal checksums are compared. The checksum is FxHash, eight bytes
//! at a time: it need not be cryptographic, because the bytes are compared.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::{Split, SplitName};

/// Images that occur more than once among the training and validation images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Duplicates {
    /// Number of these images, each counted once.
    pub images: usize,
    /// Number of their copies, all counted.
    pub copies: usize,
    /// Number of images whose copies have different classes.
    pub of_several_classes: usize,
    /// Number of images with copies in both train and validation.
    pub in_both_splits: usize,
    /// Where the copies are, image by image.
    pub places: Vec<Vec<ImagePlace>>,
}

/// Where an image is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImagePlace {
    /// Its name.
    pub image: String,
    /// Its class.
    pub class: String,
    /// Its split.
    pub split: SplitName,
}

impl Duplicates {
    /// Finds duplicates. Drawn digits are not compared, because that would draw all of them.
    pub fn find(train: &Split, validation: Option<&Split>, class_names: &[String]) -> Duplicates {
        if train.is_drawn() {
            return Duplicates::default();
        }
        let splits = [(SplitName::Train, Some(train)), (SplitName::Validation, validation)];
        let mut sums: Vec<(u64, &[u8], SplitName, usize)> = Vec::new();
        for (name, split) in splits.iter().filter_map(|(name, split)| Some((*name, (*split)?))) {
            sums.extend((0..split.len()).map(|i| (sum(split.pixels(i)), split.pixels(i), name, i)));
        }
        let order = |(sum, pixels, ..): &(u64, &[u8], _, _), (other_sum, other, ..): &(u64, &[u8], _, _)| -> Ordering {
            sum.cmp(other_sum).then_with(|| pixels.cmp(other))
        };
        // A stable sort keeps copies in the order of the files.
        sums.sort_by(order);
        let mut found = Duplicates::default();
        for copies in sums.chunk_by(|a, b| order(a, b) == Ordering::Equal).filter(|copies| copies.len() > 1) {
            let place = |&(_, _, name, i): &(u64, &[u8], SplitName, usize)| {
                let split = if name == SplitName::Train { train } else { validation.unwrap_or(train) };
                ImagePlace { image: split.image_name(i), class: class_names[split.label(i)].clone(), split: name }
            };
            let places: Vec<ImagePlace> = copies.iter().map(place).collect();
            found.images += 1;
            found.copies += places.len();
            found.of_several_classes += usize::from(places.iter().any(|place| place.class != places[0].class));
            found.in_both_splits += usize::from(places.iter().any(|place| place.split != places[0].split));
            found.places.push(places);
        }
        found.places.sort_by(|a, b| a[0].image.cmp(&b[0].image));
        found
    }
}

fn sum(pixels: &[u8]) -> u64 {
    const FACTOR: u64 = 0x517c_c1b7_2722_0a95;
    let (words, rest) = pixels.as_chunks::<8>();
    let add = |sum: u64, word: u64| (sum.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    let whole = words.iter().fold(pixels.len() as u64, |sum, word| add(sum, u64::from_le_bytes(*word)));
    rest.iter().fold(whole, |sum, &byte| add(sum, u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::split::{Names, Packed, Store};
    use super::super::{ImageShape, Wanted};
    use super::*;
    use crate::config::data::DataSpec;

    /// Images of three bytes, given by a byte pattern and a class; those from `train` on are validation images.
    fn found(images: &[([u8; 3], u16)], train: usize) -> Duplicates {
        let packed = Packed {
            shape: ImageShape { channels: 3, height: 1, width: 1 },
            pixels: images.iter().flat_map(|(pixels, _)| *pixels).collect(),
            labels: images.iter().map(|(_, label)| *label).collect(),
            names: Names::Numbered("train"),
            small: Vec::new(),
        };
        let store = Arc::new(Store::Packed(packed));
        let split = |places: std::ops::Range<usize>| Split::new(store.clone(), places.map(|i| i as u32).collect());
        let names = ["ant", "bee", "cow"].map(str::to_string);
        Duplicates::find(&split(0..train), Some(&split(train..images.len())), &names)
    }

    #[test]
    fn each_image_counts_once_with_its_classes_and_splits() {
        let images = [
            ([7, 7, 7], 0),
            ([1, 2, 3], 0),
            ([1, 2, 4], 0),
            ([1, 2, 3], 1),
            ([5, 5, 5], 2),
            ([5, 5, 5], 2),
            ([7, 7, 7], 0),
            ([1, 2, 3], 0),
            ([2, 1, 3], 1),
        ];
        let found = found(&images, 6);
        assert_eq!((found.images, found.copies, found.of_several_classes, found.in_both_splits), (3, 7, 1, 2));
        let places: Vec<Vec<String>> = found
            .places
            .iter()
            .map(|copies| copies.iter().map(|at| format!("{} {} {}", at.split, at.image, at.class)).collect())
            .collect();
        assert_eq!(
            places,
            [
                vec!["train train/0 ant", "validation train/6 ant"],
                vec!["train train/1 ant", "train train/3 bee", "validation train/7 ant"],
                vec!["train train/4 cow", "train train/5 cow"]
            ]
        );
    }

    #[test]
    fn images_that_all_differ_or_are_drawn_have_no_duplicates() {
        let images: Vec<([u8; 3], u16)> = (0..=255).map(|i| ([i, 0, 255 - i], 1)).collect();
        assert_eq!(found(&images, 97), Duplicates::default());
        let digits = super::super::samples::loaded(&DataSpec::default(), Wanted::TrainAndValidation).unwrap().1;
        let names: Vec<String> = (0..10).map(|digit| digit.to_string()).collect();
        let found = Duplicates::find(&digits.train.unwrap(), digits.validation.as_ref(), &names);
        assert_eq!(found, Duplicates::default());
    }

    #[test]
    fn a_checksum_depends_on_bytes_length_and_order() {
        let base: Vec<u8> = (0..83).collect();
        let mut others: Vec<Vec<u8>> = (0..83).map(|i| [&base[..i], &[99], &base[i + 1..]].concat()).collect();
        others.extend([base[..82].to_vec(), [&base[..], &[0]].concat(), base.iter().rev().copied().collect()]);
        assert!(others.iter().all(|other| sum(other) != sum(&base)));
        assert_eq!(sum(&base), sum(&base.clone()));
    }
}
