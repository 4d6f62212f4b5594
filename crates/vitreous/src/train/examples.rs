//! The images of an epoch in its own order, changed at random on the threads that are about to use them.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use vitreous_engine::{Examples, Step};

use crate::config::train::{OnNonfinite, TrainConfig};
use crate::data::ImageSet;
use crate::data::augment::{Augment, Scratch};
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
    use crate::config::augment::AugmentSpec;
    use crate::config::data::DataSpec;
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
}
