//! The images of an epoch in its own order, changed at random on the threads that are about to use them.

use std::sync::{Mutex, PoisonError};

use vitreous_engine::Examples;

use crate::data::Split;
use crate::data::augment::{Augment, Scratch};
use crate::random::Key;

/// The images of a step.
pub struct StepExamples<'a> {
    /// Where the images are.
    pub split: &'a Split,
    /// What is done to them.
    pub augment: &'a Augment,
    /// Where it is done.
    pub rooms: &'a Rooms,
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
        let image = self.order[place] as usize;
        match input {
            0 => self.rooms.with(self.augment, |scratch| {
                self.augment.apply(self.split.pixels(image), self.key.with(place as u64), scratch, values);
            }),
            _ => values[0] = self.split.label(image) as f32,
        }
    }
}

/// Room to work on images: as many as threads have worked at once, made when first needed and kept.
#[derive(Default)]
pub struct Rooms {
    free: Mutex<Vec<Scratch>>,
}

impl Rooms {
    fn with(&self, augment: &Augment, work: impl FnOnce(&mut Scratch)) {
        // The lock is held for one push or pop an image. What a panic left is a list of rooms like any other.
        let taken = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut scratch = taken.unwrap_or_else(|| augment.scratch());
        work(&mut scratch);
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
    }
}
