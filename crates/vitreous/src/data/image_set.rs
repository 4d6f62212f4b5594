//! What a model is given of a split: its images, each with a class, or strips that are made of its digits.

use super::strips::Strips;
use super::{ImageShape, Split, SplitName};
use crate::config::data::DataSpec;
use crate::config::model::ModelConfig;
use crate::config::strips::words;
use crate::random::{Purpose, stream};

/// The images of a split as one kind of model sees them.
#[derive(Clone, Debug)]
pub enum ImageSet {
    /// Each is of a class.
    Classified(Split),
    /// On each are digits, to be read.
    Strips(Strips),
}

impl ImageSet {
    /// Makes what a model is given of a split.
    ///
    /// Strips to train on are drawn by the run's `seed`; others by that of the splits, so that all runs are measured
    /// by the same.
    ///
    /// # Panics
    /// When a reader is given other images than digits; a checked config is not.
    pub fn new(split: Split, name: SplitName, model: &ModelConfig, data: &DataSpec, seed: u64) -> ImageSet {
        if !matches!(model, ModelConfig::Reader(_)) {
            return ImageSet::Classified(split);
        }
        let key = match name {
            SplitName::Train => stream(seed, Purpose::Strips).with(0),
            SplitName::Validation => stream(data.split_seed, Purpose::Strips).with(1),
            SplitName::Test | SplitName::All => stream(data.split_seed, Purpose::Strips).with(2),
        };
        ImageSet::Strips(Strips::new(split, key))
    }

    /// Number of images of an epoch.
    pub fn len(&self) -> usize {
        match self {
            ImageSet::Classified(split) => split.len(),
            ImageSet::Strips(strips) => strips.len(),
        }
    }

    /// Whether the program draws or composes the images.
    pub(super) fn is_drawn(&self) -> bool {
        match self {
            ImageSet::Classified(split) => split.is_drawn(),
            ImageSet::Strips(_) => true,
        }
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shape of every image.
    pub fn shape(&self) -> ImageShape {
        match self {
            ImageSet::Classified(split) => split.shape(),
            ImageSet::Strips(_) => Strips::shape(),
        }
    }

    /// The index of an epoch's `i`-th image: images come again in each epoch, strips are new.
    pub fn index(&self, epoch: u64, i: usize) -> usize {
        match self {
            ImageSet::Classified(_) => i,
            ImageSet::Strips(strips) => epoch as usize * strips.len() + i,
        }
    }

    /// Bytes of an image, `[channels, height, width]`; where it must be drawn, on `canvas`, which has as many.
    pub fn pixels<'a>(&'a self, index: usize, canvas: &'a mut Vec<u8>) -> &'a [u8] {
        match self {
            ImageSet::Classified(split) => split.pixels(index),
            ImageSet::Strips(strips) => {
                canvas.resize(Strips::shape().len(), 0);
                strips.compose(index, canvas);
                canvas
            }
        }
    }

    /// Writes what a model's input after the image is given: the class; of a strip, the words to write (input 1, -1
    /// where there is none), then the words before them.
    pub fn label(&self, input: usize, index: usize, values: &mut [f32]) {
        match self {
            ImageSet::Classified(split) => values[0] = split.label(index) as f32,
            ImageSet::Strips(strips) if input == 1 => {
                let targets = words::targets(&strips.digits(index));
                values.iter_mut().zip(targets).for_each(|(to, word)| *to = word.map_or(-1.0, f32::from));
            }
            ImageSet::Strips(strips) => {
                let given = words::given(&strips.digits(index));
                values.iter_mut().zip(given).for_each(|(to, word)| *to = f32::from(word));
            }
        }
    }

    /// How many answers are asked for of an image: its class, or every digit and the end.
    pub fn targets(&self, index: usize) -> usize {
        match self {
            ImageSet::Classified(_) => 1,
            ImageSet::Strips(strips) => strips.digits(index).len() + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::layers::Layers;
    use crate::config::model::ImageFacts;
    use crate::data::{Wanted, inspect, load};

    #[test]
    fn splits_have_other_strips_and_only_those_to_train_on_are_of_the_seed() {
        let facts = ImageFacts { image_size: 28, channels: 1, num_classes: 10 };
        let model = Layers::preset("read-digits").unwrap().finish().unwrap().resolve(facts).unwrap().model;
        let data = DataSpec { limit_train: Some(223), ..DataSpec::default() };
        let loaded = load(&data, &inspect(&data).unwrap(), Wanted::TrainAndValidation, 1, &|_, _| ()).unwrap();
        let digits = loaded.train.unwrap();
        // Of the same digits, so that nothing but the way in which strips are drawn tells them apart.
        let drawn = |name: SplitName, seed: u64| {
            let set = ImageSet::new(digits.clone(), name, &model, &data, seed);
            (0..7).flat_map(|index| set.pixels(index, &mut Vec::new()).to_vec()).collect::<Vec<u8>>()
        };
        let [train, validation, test] =
            [SplitName::Train, SplitName::Validation, SplitName::Test].map(|name| [1, 2].map(|seed| drawn(name, seed)));
        assert!(train[0] != train[1], "each run has strips of its own");
        assert!(validation[0] == validation[1] && test[0] == test[1], "all runs are measured by the same");
        assert!(train[0] != validation[0] && validation[0] != test[0] && test[0] != train[0]);
    }
}
