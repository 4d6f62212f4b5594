//! The images of a split as a task has them: each with a class, or strips that are composed of its digits. The trait has
//! one implementation per task; nothing else in training knows the task.

use std::fmt::Debug;

use super::strips::Strips;
use super::{ImageShape, Split, SplitName};
use crate::config::data::DataSpec;
use crate::config::model::Task;
use crate::random::{Purpose, stream};

/// The images of a split, with their correct answers.
pub trait ImageSet: Debug + Send + Sync {
    /// Number of images in an epoch.
    fn len(&self) -> usize;

    /// Whether the program draws or composes the images.
    fn is_drawn(&self) -> bool {
        self.split().is_none_or(Split::is_drawn)
    }

    /// Whether there are no images.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shape of each image.
    fn shape(&self) -> ImageShape;

    /// The index of an epoch's `i`-th image. By default the images are the same in each epoch.
    fn index(&self, _epoch: u64, i: usize) -> usize {
        i
    }

    /// Bytes of an image, `[channels, height, width]`; `canvas` is memory for one that has to be drawn.
    fn pixels<'a>(&'a self, index: usize, canvas: &'a mut Vec<u8>) -> &'a [u8];

    /// The correct answer for an image.
    fn answer(&self, index: usize) -> Answer;

    /// Writes the model's input number `input`, of those after the image (input 0): what the loss compares with.
    fn label(&self, input: usize, index: usize, values: &mut [f32]);

    /// The split itself, where its images are used as they are.
    fn split(&self) -> Option<&Split> {
        None
    }
}

/// The correct answer for an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Its class.
    Class(usize),
    /// The digits on a strip, from left to right.
    Digits(Vec<u8>),
}

impl Answer {
    /// The class's name, or the digits.
    pub fn name(&self, class_names: &[String]) -> String {
        match self {
            Answer::Class(class) => class_names[*class].clone(),
            Answer::Digits(digits) => digits_text(digits),
        }
    }

    /// The number of targets in the loss: the class, or each digit and the end.
    pub fn targets(&self) -> usize {
        match self {
            Answer::Class(_) => 1,
            Answer::Digits(digits) => digits.len() + 1,
        }
    }
}

/// Digits as text.
pub fn digits_text(digits: &[u8]) -> String {
    digits.iter().map(|digit| char::from(b'0' + digit)).collect()
}

/// The first images of a set, at most `most`: one of each class, then another one of each, equally many of all; of strips
/// the first ones.
pub fn first_of_each_class(set: &dyn ImageSet, classes: usize, most: usize) -> Vec<usize> {
    let quota = (most / classes.max(1)).max(1);
    let mut found: Vec<Vec<usize>> = vec![Vec::new(); classes];
    let mut missing = quota * classes;
    for index in 0..set.len() {
        match set.answer(index) {
            Answer::Digits(_) => return (0..set.len().min(most)).collect(),
            Answer::Class(class) if found[class].len() < quota => {
                found[class].push(index);
                missing -= 1;
            }
            Answer::Class(_) => {}
        }
        if missing == 0 {
            break;
        }
    }
    let rounds = (0..quota).flat_map(|round| found.iter().filter_map(move |images| images.get(round)));
    rounds.copied().take(most).collect()
}

/// Makes the image set of a split for a task.
///
/// Training strips depend on the run's `seed`, others on the seed of the splits, so that all runs are measured on the
/// same strips.
///
/// # Panics
/// When strips are to be composed of other images than digits; a checked config excludes this.
pub fn image_set(split: Split, name: SplitName, task: Task, data: &DataSpec, seed: u64) -> Box<dyn ImageSet> {
    match task {
        Task::Classify => Box::new(split),
        Task::ReadStrips => {
            let key = match name {
                SplitName::Train => stream(seed, Purpose::Strips).with(0),
                SplitName::Validation => stream(data.split_seed, Purpose::Strips).with(1),
                SplitName::Test | SplitName::All => stream(data.split_seed, Purpose::Strips).with(2),
            };
            Box::new(Strips::new(split, key))
        }
    }
}

impl ImageSet for Split {
    fn len(&self) -> usize {
        Split::len(self)
    }

    fn shape(&self) -> ImageShape {
        Split::shape(self)
    }

    fn pixels<'a>(&'a self, index: usize, _canvas: &'a mut Vec<u8>) -> &'a [u8] {
        Split::pixels(self, index)
    }

    fn answer(&self, index: usize) -> Answer {
        Answer::Class(Split::label(self, index))
    }

    /// The only input after the image is the class.
    fn label(&self, _input: usize, index: usize, values: &mut [f32]) {
        values[0] = Split::label(self, index) as f32;
    }

    fn split(&self) -> Option<&Split> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::layers::Layers;
    use crate::config::model::ImageFacts;
    use crate::data::{Wanted, inspect, load};

    #[test]
    fn each_split_has_its_own_strips_and_only_training_strips_depend_on_the_seed() {
        let facts = ImageFacts { image_size: 28, channels: 1, num_classes: 10 };
        let model = Layers::preset("read-digits").unwrap().finish().unwrap().resolve(facts).unwrap().model;
        let data = DataSpec { limit_train: Some(223), ..DataSpec::default() };
        let loaded = load(&data, &inspect(&data).unwrap(), Wanted::TrainAndValidation, 1, &|_, _| ()).unwrap();
        let digits = loaded.train.unwrap();
        // The same digits each time, so that only the drawing of strips differs.
        let drawn = |name: SplitName, seed: u64| {
            let set = image_set(digits.clone(), name, model.task(), &data, seed);
            (0..7).flat_map(|index| set.pixels(index, &mut Vec::new()).to_vec()).collect::<Vec<u8>>()
        };
        let [train, validation, test] =
            [SplitName::Train, SplitName::Validation, SplitName::Test].map(|name| [1, 2].map(|seed| drawn(name, seed)));
        assert!(train[0] != train[1], "each run has its own training strips");
        assert!(validation[0] == validation[1] && test[0] == test[1], "all runs are measured on the same strips");
        assert!(train[0] != validation[0] && validation[0] != test[0] && test[0] != train[0]);
    }

    #[test]
    fn first_images_are_of_all_classes_and_first_strips_any() {
        let data = DataSpec { limit_train: Some(223), ..DataSpec::default() };
        let loaded = load(&data, &inspect(&data).unwrap(), Wanted::TrainAndValidation, 1, &|_, _| ()).unwrap();
        let digits = loaded.train.unwrap();
        let label = |image: &usize| Split::label(&digits, *image);
        // Two of each of ten classes are 20.
        let first = first_of_each_class(&digits, 10, 24);
        assert_eq!(first[..10].iter().map(label).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        assert_eq!((first.len(), first[10..].iter().map(label).max()), (20, Some(9)));
        assert!((0..10).all(|class| first[class] < first[class + 10]));
        assert_eq!(first_of_each_class(&digits, 10, 4).iter().map(label).collect::<Vec<_>>(), [0, 1, 2, 3]);
        let strips = image_set(digits.clone(), SplitName::Train, Task::ReadStrips, &data, 1);
        assert_eq!(first_of_each_class(&*strips, 10, 4), [0, 1, 2, 3]);
    }
}
