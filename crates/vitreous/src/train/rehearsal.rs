//! Runs the first steps of a training to measure their time. Their results are discarded.

use std::time::Instant;

use serde::Serialize;

use super::Job;
use super::examples::{BufferPool, StepExamples, changes_of_epoch, order_of_epoch};

/// Most steps that are taken.
const STEPS_MAX: u64 = 20;

/// Time after which no further one begins, in seconds.
const SECONDS_MAX: f64 = 5.0;

/// The time of some steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rehearsal {
    /// Steps that were timed.
    pub steps: u64,
    /// Images in them.
    pub images: usize,
    /// Time of all of them, in seconds.
    pub seconds: f64,
}

impl Rehearsal {
    /// Runs the first steps of a training, on its own augmented images.
    pub fn of(job: &Job) -> Rehearsal {
        let (recipe, mut session, augment) = (&job.config.train, job.session(), job.augment());
        let buffers = BufferPool::default();
        let mut order = order_of_epoch(recipe.seed, 0, job.train.len());
        order.truncate(job.epoch_images());
        let key = changes_of_epoch(recipe.seed, 0);
        let mut times: Vec<(usize, f64)> = Vec::new();
        let clock = Instant::now();
        for index in 0..STEPS_MAX.min(job.steps_per_epoch()).min(job.steps()) {
            if index > 0 && clock.elapsed().as_secs_f64() >= SECONDS_MAX {
                break;
            }
            let begin = Instant::now();
            let first = index as usize * recipe.step_images();
            let images = recipe.step_images().min(order.len() - first);
            let examples = StepExamples {
                set: &*job.train,
                augment: &augment,
                buffers: &buffers,
                epoch: 0,
                order: &order,
                first,
                key,
            };
            session.train_step(&examples.step(recipe, images, recipe.learning_rate(index, job.steps_per_epoch())));
            times.push((images, begin.elapsed().as_secs_f64()));
        }
        // The first step is slower, because its memory was never touched before.
        let timed = if times.len() > 1 { &times[1..] } else { &times[..] };
        Rehearsal {
            steps: timed.len() as u64,
            images: timed.iter().map(|(images, _)| images).sum(),
            seconds: timed.iter().map(|(_, seconds)| seconds).sum(),
        }
    }
}
