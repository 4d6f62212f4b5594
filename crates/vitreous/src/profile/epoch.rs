//! Where the time of an epoch goes: measured steps times their number, a whole validation, and copies of the weights.

use std::time::Instant;

use serde::Serialize;

use super::measure::OTHER;
use super::{Profile, Row};
use crate::evaluate::for_each_logits;
use crate::train::Job;

/// The time of an epoch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EpochProfile {
    /// Images that are trained on.
    pub images: usize,
    /// Steps.
    pub steps: u64,
    /// Whether the last step has fewer images than the others.
    pub has_short_step: bool,
    /// Images of the validation split.
    pub validation_images: usize,
    /// Reading the images, once in a run.
    pub read_s: f64,
    /// Augmentation in the steps.
    pub augmentation_s: f64,
    /// The rest of the steps.
    pub steps_s: f64,
    /// Validation.
    pub validation_s: f64,
    /// Copying weights and moments; a thread of its own writes them meanwhile.
    pub saving_s: f64,
}

impl EpochProfile {
    /// Measures what a profile of a step does not have; `read_s` is the time that reading the images took.
    pub fn of(job: &Job, read_s: f64, profile: &Profile) -> EpochProfile {
        let steps = job.steps_per_epoch();
        // A step may take several batches of the profiled size.
        let recipe = &job.config().train;
        let step_s = profile.step.median / 1e3 * recipe.step_images() as f64 / recipe.batch_size as f64;
        let is_augmentation = |row: &&Row| row.names.first().is_some_and(|name| name == OTHER[0]);
        let share = profile.layers.iter().find(is_augmentation).map_or(0.0, |row| row.share);
        let all_s = step_s * job.epoch_images() as f64 / recipe.step_images() as f64;
        let (mut session, augment) = (job.session(), job.augment());
        let begin = Instant::now();
        if let Some(set) = job.validation_set() {
            for_each_logits(&mut session.inference(), job.model(), set, &augment, &mut |_, logits| {
                std::hint::black_box(logits);
            });
        }
        let validation_s = begin.elapsed().as_secs_f64();
        let begin = Instant::now();
        std::hint::black_box((session.parameters().clone(), session.optimizer_state()));
        EpochProfile {
            images: job.epoch_images(),
            steps,
            has_short_step: !job.epoch_images().is_multiple_of(recipe.step_images()),
            validation_images: job.validation_set().map_or(0, |set| set.len()),
            read_s,
            augmentation_s: all_s * share,
            steps_s: all_s * (1.0 - share),
            validation_s,
            saving_s: begin.elapsed().as_secs_f64(),
        }
    }

    /// An epoch without reading.
    pub fn total_s(&self) -> f64 {
        self.augmentation_s + self.steps_s + self.validation_s + self.saving_s
    }
}
