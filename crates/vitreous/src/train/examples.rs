//! The images of an epoch in its own order, changed at random on the threads that are about to use them.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use vitreous_engine::{Examples, Step};

use crate::config::ResolvedConfig;
use crate::config::train::{OnNonfinite, TrainConfig};
use crate::data::augment::{Augment, Scratch};
use crate::data::{ImageSet, Normalization};
use crate::random::{Key, Purpose, stream};

/// The images of a step.
pub struct StepExamples<'a> {
    /// Where the images are.
    pub set: &'a dyn ImageSet,
    /// What is done to them.
    pub augment: &'a Augment,
    /// Where it is done.
    pub buffers: &'a BufferPool,
    /// Number of the epoch, from 0.
    pub epoch: u64,
    /// Places in the split, in the epoch's order.
    pub order: &'a [u32],
    /// Place of the step's first image in that order.
    pub first: usize,
    /// Key of the epoch's changes.
    pub key: Key,
}

impl Examples for StepExamples<'_> {
    fn fill(&self, input: usize, example: usize, values: &mut [f32]) {
        let place = self.first + example;
        match input {
            0 => self.buffers.with(self.augment, |Buffers { scratch, canvas }| {
                let pixels = self.set.pixels(self.index(example), canvas);
                self.augment.apply(pixels, self.key.with(place as u64), scratch, values);
            }),
            _ => self.set.label(input, self.index(example), values),
        }
    }
}

impl StepExamples<'_> {
    /// The optimizer step of a recipe on this many images.
    pub(super) fn step(&self, recipe: &TrainConfig, images: usize, lr: f64) -> Step<'_> {
        Step {
            dropout: stream(recipe.seed, Purpose::Dropout).with(self.epoch),
            first: self.first as u64,
            targets: Some(self.targets(images) as f64),
            micro_batches: NonZeroUsize::new(images.div_ceil(recipe.batch_size)).expect("a step has images"),
            // Clipping computes the norm before the update in any case.
            only_finite: recipe.on_nonfinite != OnNonfinite::Stop || recipe.clip_grad.is_some(),
            ..Step::new(images, self, lr)
        }
    }

    /// The number of predictions for this many images.
    pub fn targets(&self, images: usize) -> usize {
        (0..images).map(|example| self.set.answer(self.index(example)).targets()).sum()
    }

    fn index(&self, example: usize) -> usize {
        self.set.index(self.epoch, self.order[self.first + example] as usize)
    }
}

/// The order of an epoch's images; epochs count from 0.
pub fn order_of_epoch(seed: u64, epoch: u64, images: usize) -> Vec<u32> {
    stream(seed, Purpose::Shuffle).with(epoch).permutation(images)
}

/// The key of an epoch's changes.
pub fn changes_of_epoch(seed: u64, epoch: u64) -> Key {
    stream(seed, Purpose::Augment).with(epoch)
}

/// The training images as steps get them, but as bytes again.
pub struct Augmented<'a> {
    set: &'a dyn ImageSet,
    seed: u64,
    normalization: &'a Normalization,
    augment: Augment,
    buffers: BufferPool,
}

impl<'a> Augmented<'a> {
    /// Those of a training with this config.
    pub fn new(config: &ResolvedConfig, set: &'a dyn ImageSet, normalization: &'a Normalization) -> Augmented<'a> {
        let (shape, Normalization { mean, std }) = (set.shape(), normalization);
        let augment = Augment::new(config.augment.clone(), shape.channels, shape.height, shape.width, mean, std);
        Augmented { set, seed: config.train.seed, normalization, augment, buffers: BufferPool::default() }
    }

    /// The images at some places of the split, as an epoch of so many images gets them: none where it leaves one out.
    pub fn of_epoch(&self, epoch: u64, images: usize, places: &[usize]) -> Vec<Option<Vec<u8>>> {
        let order = order_of_epoch(self.seed, epoch, self.set.len());
        let (set, augment, buffers) = (self.set, &self.augment, &self.buffers);
        let key = changes_of_epoch(self.seed, epoch);
        let examples = StepExamples { set, augment, buffers, epoch, order: &order, first: 0, key };
        let Normalization { mean, std } = self.normalization;
        let area = set.shape().height * set.shape().width;
        let mut values = vec![0.0; set.shape().len()];
        let mut bytes_of = |place: &usize| {
            let example = order.iter().position(|&other| other as usize == *place).filter(|&at| at < images)?;
            examples.fill(0, example, &mut values);
            let planes = values.chunks_exact(area).zip(mean.iter().zip(std));
            let bytes = planes.flat_map(|(plane, (mean, std))| {
                plane.iter().map(move |value| ((value * std + mean) * 255.0).round().clamp(0.0, 255.0) as u8)
            });
            Some(bytes.collect())
        };
        places.iter().map(&mut bytes_of).collect()
    }
}

/// Room to work on images: as many as threads have worked at once, made when first needed and kept.
#[derive(Default)]
pub struct BufferPool {
    free: Mutex<Vec<Buffers>>,
}

/// Room to work on one image.
struct Buffers {
    scratch: Scratch,
    /// For images that are drawn.
    canvas: Vec<u8>,
}

impl BufferPool {
    fn with(&self, augment: &Augment, work: impl FnOnce(&mut Buffers)) {
        // The lock is held for one push or pop an image. What a panic left is a list of buffers like any other.
        let taken = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffers = taken.unwrap_or_else(|| Buffers { scratch: augment.scratch(), canvas: Vec::new() });
        work(&mut buffers);
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(buffers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::advice::Source;
    use crate::config::augment::AugmentSpec;
    use crate::config::data::DataSpec;
    use crate::config::layers::Layers;
    use crate::config::model::ImageFacts;
    use crate::config::strips::words;
    use crate::data::strips::Strips;
    use crate::data::{Wanted, inspect, load};

    #[test]
    fn an_image_depends_on_its_place_in_the_epoch_and_not_on_the_step() {
        let spec = DataSpec { limit_train: Some(23), ..DataSpec::default() };
        let loaded = load(&spec, &inspect(&spec).unwrap(), Wanted::TrainAndValidation, 1, &|_, _| ()).unwrap();
        let split = loaded.train.unwrap();
        let changes = AugmentSpec { horizontal_flip: 0.5, crop_padding: 4, ..AugmentSpec::default() };
        let augment = Augment::new(changes, 1, 28, 28, &[0.2], &[0.2]);
        let (buffers, order) = (BufferPool::default(), stream(3, Purpose::Shuffle).permutation(split.len()));
        let image = |first: usize, example: usize, epoch: u64| {
            let key = stream(3, Purpose::Augment).with(epoch);
            let step =
                StepExamples { set: &split, augment: &augment, buffers: &buffers, epoch, order: &order, first, key };
            let (mut pixels, mut label) = (vec![f32::NAN; 28 * 28], [f32::NAN]);
            step.fill(0, example, &mut pixels);
            step.fill(1, example, &mut label);
            assert_eq!(label[0] as usize, split.label(order[first + example] as usize));
            pixels
        };
        assert_eq!(image(0, 17, 5), image(13, 4, 5));
        assert_ne!(image(0, 17, 5), image(0, 17, 6), "each epoch changes images anew");
        assert_ne!(image(0, 17, 5), image(0, 16, 5));
    }

    #[test]
    fn each_epoch_has_strips_of_its_own_and_counts_their_words() {
        let spec = DataSpec { limit_train: Some(23), ..DataSpec::default() };
        let loaded = load(&spec, &inspect(&spec).unwrap(), Wanted::TrainAndValidation, 1, &|_, _| ()).unwrap();
        let set = Strips::new(loaded.train.unwrap(), stream(3, Purpose::Strips));
        let shape = set.shape();
        let augment = Augment::new(AugmentSpec::default(), 1, shape.height, shape.width, &[0.2], &[0.2]);
        let (buffers, order) = (BufferPool::default(), stream(3, Purpose::Shuffle).permutation(set.len()));
        let (mut seen, key) = (Vec::new(), stream(3, Purpose::Augment));
        for epoch in 0..3 {
            let step =
                StepExamples { set: &set, augment: &augment, buffers: &buffers, epoch, order: &order, first: 5, key };
            let mut real = 0;
            for example in 0..17 {
                let mut pixels = vec![f32::NAN; shape.len()];
                let (mut targets, mut given) = ([f32::NAN; words::POSITIONS], [f32::NAN; words::POSITIONS]);
                step.fill(0, example, &mut pixels);
                step.fill(1, example, &mut targets);
                step.fill(2, example, &mut given);
                real += targets.iter().filter(|&&word| word >= 0.0).count();
                // The input is the target shifted by one word.
                let behind = targets.iter().zip(&given[1..]).filter(|&(&word, _)| (0.0..10.0).contains(&word));
                assert!(behind.clone().all(|(word, given)| word == given) && behind.count() > 0);
                assert!(!seen.contains(&pixels), "a strip comes again in epoch {epoch}");
                seen.push(pixels);
            }
            assert_eq!(step.targets(17), real);
        }
    }

    #[test]
    fn augmented_images_are_those_that_a_training_gets() {
        let changes = "augment.random_resized_crop={ scale = [0.3, 1.0], ratio = [0.5, 2.0] }";
        let mut layers = Layers::preset("digits").unwrap();
        for set in [changes, "augment.horizontal_flip=0.5", "data.limit_train=23", "train.seed=5", "train.batch_size=7"]
        {
            layers.set(set, Source::Argument("test".to_string())).unwrap();
        }
        let checked = layers.finish().unwrap();
        let facts = ImageFacts { image_size: 28, channels: 1, num_classes: 10 };
        let config = checked.resolve(facts).unwrap();
        let loaded =
            load(&config.data, &inspect(&config.data).unwrap(), Wanted::TrainAndValidation, 1, &|_, _| ()).unwrap();
        let split = loaded.train.unwrap();
        let normalization = Normalization::new(&config.data, &split);
        let shown = Augmented::new(&config, &split, &normalization);
        let places: Vec<usize> = (0..split.len()).collect();
        // What the draws are defined by: the seed, the epoch, and the place in the epoch's order.
        let augment = Augment::new(config.augment.clone(), 1, 28, 28, &[0.0], &[1.0]);
        for epoch in [0, 3] {
            let found = shown.of_epoch(epoch, split.len(), &places);
            let order = stream(5, Purpose::Shuffle).with(epoch).permutation(split.len());
            for (at, &place) in order.iter().enumerate() {
                let key = stream(5, Purpose::Augment).with(epoch).with(at as u64);
                let mut expected = vec![f32::NAN; 28 * 28];
                augment.apply(split.pixels(place as usize), key, &mut augment.scratch(), &mut expected);
                let expected: Vec<u8> = expected.iter().map(|value| (value * 255.0).round() as u8).collect();
                assert_eq!(found[place as usize].as_ref(), Some(&expected), "epoch {epoch}, image {place}");
            }
        }
        // An epoch that leaves its last images out gets none of them.
        assert_eq!(shown.of_epoch(0, 20, &places).iter().filter(|image| image.is_none()).count(), 3);
    }
}
