//! Splits into training and validation images. Packed and drawn data sets are split at random class by class, so that the
//! classes keep their proportions; `content_split.rs` splits folders.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::digits::{self, Digits};
use super::{ImageShape, SmallPicture, SplitName};
use crate::config::data::DataSpec;
use crate::random::{Key, Purpose, stream};

/// Drawn images whose bytes enter a fingerprint: few, because they delay the start of a run.
const DRAWN_IN_FINGERPRINT: usize = 20;

/// Images in memory and their labels; several splits may share them.
pub enum Store {
    /// Bytes read from files.
    Packed(Packed),
    /// Built-in digits, drawn on first use.
    Digits(Drawn),
}

/// Built-in digits, all classes or some of them.
pub struct Drawn {
    /// All of them.
    pub digits: Digits,
    /// New labels of the classes in use.
    pub numbers: Numbers,
}

/// New labels, from 0, if only some of a data set's classes are in use.
pub struct Numbers(Vec<Option<u16>>);

impl Numbers {
    /// Numbers the classes at `places` of `classes`.
    pub fn new(places: &[usize], classes: usize) -> Numbers {
        let mut numbers = vec![None; classes];
        (0..).zip(places).for_each(|(number, &place)| numbers[place] = Some(number));
        Numbers(numbers)
    }

    /// Number of all classes, in use or not.
    pub fn classes(&self) -> usize {
        self.0.len()
    }

    /// The new label of a class, if it is in use.
    pub fn of(&self, class: usize) -> Option<u16> {
        self.0[class]
    }
}

/// Images one after the other, each `[channels, height, width]`.
pub struct Packed {
    /// Shape of every image.
    pub shape: ImageShape,
    /// All images' bytes.
    pub pixels: Vec<u8>,
    /// Class of each image.
    pub labels: Vec<u16>,
    /// Names of the images.
    pub names: Names,
    /// Image files that were enlarged.
    pub small: Vec<SmallPicture>,
}

/// Names of images.
pub enum Names {
    /// The split's name in the files and the index in it: `train/123`.
    Numbered(&'static str),
    /// As `Numbered`, with the indices before some images were removed.
    Chosen(&'static str, Vec<u32>),
    /// The file, relative to the data set's folder.
    Files(Vec<String>),
}

/// The images of one split, in the order of the files. Cheap to clone.
#[derive(Clone)]
pub struct Split {
    store: Arc<Store>,
    indices: Vec<u32>,
}

impl Packed {
    /// Keeps the images of some classes with their names, and renumbers the classes.
    pub fn keep(self, numbers: &Numbers) -> Packed {
        let Packed { shape, mut pixels, labels, names, small } = self;
        let len = shape.len();
        let kept: Vec<u32> = (0..)
            .zip(&labels)
            .filter(|(_, label)| numbers.of(usize::from(**label)).is_some())
            .map(|(i, _)| i)
            .collect();
        for (to, &from) in kept.iter().enumerate() {
            pixels.copy_within(from as usize * len..(from as usize + 1) * len, to * len);
        }
        pixels.truncate(kept.len() * len);
        pixels.shrink_to_fit();
        let labels = labels.into_iter().filter_map(|label| numbers.of(usize::from(label))).collect();
        let names = match names {
            Names::Numbered(prefix) => Names::Chosen(prefix, kept),
            Names::Chosen(prefix, places) => {
                Names::Chosen(prefix, kept.iter().map(|&place| places[place as usize]).collect())
            }
            Names::Files(files) => Names::Files(kept.iter().map(|&place| files[place as usize].clone()).collect()),
        };
        Packed { shape, pixels, labels, names, small }
    }
}

impl fmt::Debug for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Split({} images of {})", self.len(), self.shape())
    }
}

impl Split {
    /// Names images of a store as one split.
    pub(super) fn new(store: Arc<Store>, indices: Vec<u32>) -> Split {
        Split { store, indices }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// Shape of every image.
    pub fn shape(&self) -> ImageShape {
        match &*self.store {
            Store::Packed(packed) => packed.shape,
            Store::Digits(_) => ImageShape { channels: 1, height: digits::SIDE, width: digits::SIDE },
        }
    }

    /// Class of an image.
    pub fn label(&self, i: usize) -> usize {
        let index = self.indices[i] as usize;
        match &*self.store {
            Store::Packed(packed) => usize::from(packed.labels[index]),
            Store::Digits(Drawn { digits, numbers }) => {
                usize::from(numbers.of(digits.label(index)).expect("a split has images of the classes in use"))
            }
        }
    }

    /// Bytes of an image.
    ///
    /// # Shapes
    /// - returned: `[channels, height, width]`
    pub fn pixels(&self, i: usize) -> &[u8] {
        let index = self.indices[i] as usize;
        match &*self.store {
            Store::Packed(packed) => {
                let len = packed.shape.len();
                &packed.pixels[index * len..][..len]
            }
            Store::Digits(drawn) => drawn.digits.pixels(index),
        }
    }

    /// Name of an image: its file, relative to the data set's folder, or `train/123` in a packed file.
    pub fn image_name(&self, i: usize) -> String {
        let index = self.indices[i] as usize;
        match &*self.store {
            Store::Packed(Packed { names: Names::Files(files), .. }) => files[index].clone(),
            Store::Packed(Packed { names: Names::Numbered(prefix), .. }) => format!("{prefix}/{index}"),
            Store::Packed(Packed { names: Names::Chosen(prefix, places), .. }) => format!("{prefix}/{}", places[index]),
            Store::Digits(_) => format!("digits/{index}"),
        }
    }

    /// Number of images of each class.
    pub fn class_counts(&self, num_classes: usize) -> Vec<usize> {
        let mut counts = vec![0; num_classes];
        (0..self.len()).for_each(|i| counts[self.label(i)] += 1);
        counts
    }

    /// Enlarged image files of this split, and of splits that were read together with it.
    pub(super) fn small_pictures(&self) -> &[SmallPicture] {
        match &*self.store {
            Store::Packed(packed) => &packed.small,
            Store::Digits(_) => &[],
        }
    }

    /// Whether the program draws the images on first use.
    pub(super) fn is_drawn(&self) -> bool {
        matches!(&*self.store, Store::Digits(_))
    }

    /// Mean and standard deviation of pixels in 0..=1, if they are known without measuring.
    pub(super) fn known_mean_and_std(&self) -> Option<(f32, f32)> {
        match &*self.store {
            Store::Packed(_) => None,
            Store::Digits(_) => Some((digits::MEAN, digits::STD)),
        }
    }

    /// Adds the split to a fingerprint: its name, then name, class and bytes of every image in order. Of drawn
    /// images only a few are hashed, because the program determines the rest.
    pub(super) fn fingerprint(&self, name: SplitName, hash: &mut Sha256) {
        hash.update(format!("{name} {} {}\n", self.len(), self.shape()));
        let with_pixels = match &*self.store {
            Store::Packed(_) => self.len(),
            Store::Digits(_) => DRAWN_IN_FINGERPRINT,
        };
        for i in 0..self.len() {
            hash.update(format!("{} {}\n", self.image_name(i), self.label(i)));
            if i < with_pixels {
                hash.update(self.pixels(i));
            }
        }
    }
}

/// How many of `count` training images become validation images. At least one image per class stays.
pub fn validation_count(count: usize, num_classes: usize, val_fraction: f64) -> usize {
    ((count as f64 * val_fraction).round() as usize).min(count.saturating_sub(num_classes))
}

/// Divides the train set of a packed or drawn data set, given by its labels, into the indices of training and of validation
/// images.
///
/// Both are ascending. Their lengths depend only on the spec and the number of images.
pub fn divide(labels: &[u16], num_classes: usize, spec: &DataSpec) -> (Vec<u32>, Vec<u32>) {
    let held_out = validation_count(labels.len(), num_classes, spec.val_fraction);
    let all: Vec<u32> = (0..labels.len() as u32).collect();
    let key = stream(spec.split_seed, Purpose::Split);
    let (validation, train) = draw(&all, labels, num_classes, held_out, true, key);
    (limit(train, labels, num_classes, spec), validation)
}

/// Draws `limit_train` of the training images.
pub fn limit(train: Vec<u32>, labels: &[u16], num_classes: usize, spec: &DataSpec) -> Vec<u32> {
    match spec.limit_train {
        Some(limit) if limit < train.len() => {
            let key = stream(spec.split_seed, Purpose::Limit);
            draw(&train, labels, num_classes, limit, false, key).0
        }
        _ => train,
    }
}

/// Draws `count` indices in proportion to the classes; returns the drawn ones and the others.
fn draw(
    places: &[u32],
    labels: &[u16],
    num_classes: usize,
    count: usize,
    leave_one: bool,
    key: Key,
) -> (Vec<u32>, Vec<u32>) {
    let mut by_class: Vec<Vec<u32>> = vec![Vec::new(); num_classes];
    places.iter().for_each(|place| by_class[usize::from(labels[*place as usize])].push(*place));
    let sizes: Vec<usize> = by_class.iter().map(Vec::len).collect();
    let mut is_drawn = vec![false; labels.len()];
    for (class, (members, share)) in by_class.iter().zip(shares(&sizes, count, leave_one)).enumerate() {
        for place in &key.with(class as u64).permutation(members.len())[..share] {
            is_drawn[members[*place as usize] as usize] = true;
        }
    }
    places.iter().partition(|place| is_drawn[**place as usize])
}

/// Distributes a total over classes in proportion to their sizes (largest remainder).
fn shares(sizes: &[usize], total: usize, leave_one: bool) -> Vec<usize> {
    let all: usize = sizes.iter().sum();
    let room: Vec<usize> = sizes.iter().map(|size| if leave_one { size.saturating_sub(1) } else { *size }).collect();
    assert!(total <= room.iter().sum(), "{total} of {sizes:?}");
    let exact = |class: usize| sizes[class] as u128 * total as u128;
    let mut shares: Vec<usize> =
        (0..sizes.len()).map(|class| ((exact(class) / all.max(1) as u128) as usize).min(room[class])).collect();
    let mut by_remainder: Vec<usize> = (0..sizes.len()).collect();
    by_remainder.sort_by_key(|class| std::cmp::Reverse(exact(*class) % all.max(1) as u128));
    let mut missing = total - shares.iter().sum::<usize>();
    // Usually one round; more only if a class is smaller than its share.
    while missing > 0 {
        for class in &by_remainder {
            if missing > 0 && shares[*class] < room[*class] {
                shares[*class] += 1;
                missing -= 1;
            }
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spec(val_fraction: f64, limit_train: Option<usize>, split_seed: u64) -> DataSpec {
        DataSpec { val_fraction, limit_train, split_seed, ..DataSpec::default() }
    }

    fn labels_of(sizes: &[usize]) -> Vec<u16> {
        sizes.iter().enumerate().flat_map(|(class, n)| std::iter::repeat_n(class as u16, *n)).collect()
    }

    fn counts(places: &[u32], labels: &[u16], num_classes: usize) -> Vec<usize> {
        let mut counts = vec![0; num_classes];
        places.iter().for_each(|place| counts[usize::from(labels[*place as usize])] += 1);
        counts
    }

    #[test]
    fn classes_keep_their_proportions_and_every_image_is_in_one_split() {
        let labels = labels_of(&[200, 100, 50]);
        let (train, validation) = divide(&labels, 3, &spec(0.1, None, 42));
        assert_eq!(counts(&validation, &labels, 3), [20, 10, 5]);
        let mut all = [train, validation].concat();
        all.sort_unstable();
        assert_eq!(all, (0..350).collect::<Vec<u32>>());
    }

    #[test]
    fn the_split_is_a_function_of_its_seed() {
        let labels = labels_of(&[97, 89]);
        let split = |seed| divide(&labels, 2, &spec(0.2, None, seed));
        assert_eq!(split(1), split(1));
        assert_ne!(split(1).1, split(2).1);
    }

    #[test]
    fn fraction_zero_leaves_the_train_set_whole() {
        let labels = labels_of(&[7, 5]);
        assert!(divide(&labels, 2, &spec(0.0, None, 42)).1.is_empty());
        assert_eq!(divide(&labels, 2, &spec(0.0, None, 42)).0.len(), 12);
    }

    #[test]
    fn limited_training_keeps_the_proportions_and_the_validation_split() {
        let labels = labels_of(&[300, 150]);
        let (train, validation) = divide(&labels, 2, &spec(0.1, Some(30), 42));
        assert_eq!(counts(&train, &labels, 2), [20, 10]);
        assert_eq!(validation, divide(&labels, 2, &spec(0.1, None, 42)).1);
        assert!(train.iter().all(|place| !validation.contains(place)));
        assert_eq!(divide(&labels, 2, &spec(0.1, Some(1000), 42)).0.len(), 405);
    }

    #[test]
    fn mnist_has_55000_training_images() {
        assert_eq!(validation_count(60_000, 10, 0.083_333), 5000);
    }

    proptest! {
        #[test]
        fn the_number_of_validation_images_depends_only_on_the_number_of_images(
            sizes in prop::collection::vec(0usize..40, 1..11),
            fraction in 0.0..1.0f64,
            limit in 1usize..100,
        ) {
            let labels = labels_of(&sizes);
            let num_classes = sizes.len();
            let (train, validation) = divide(&labels, num_classes, &spec(fraction, Some(limit), 3));
            let held_out = validation_count(labels.len(), num_classes, fraction);
            prop_assert_eq!(validation.len(), held_out);
            prop_assert_eq!(train.len(), limit.min(labels.len() - held_out));
            let left = counts(&validation, &labels, num_classes);
            prop_assert!(sizes.iter().zip(&left).all(|(size, gone)| *size == 0 || gone < size));
        }
    }
}
