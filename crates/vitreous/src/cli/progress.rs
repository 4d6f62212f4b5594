//! What is seen of a training while it runs, on stderr: a bar on a terminal, plain lines elsewhere.

use std::time::{Duration, Instant};

use super::status::StatusLine;
use crate::record::{EpochRow, Validation};
use crate::train::{Event, Job, ROLLBACKS, Rehearsal, StepEvent};
use crate::{durations, numbers};

/// Time between two plain lines within an epoch.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Time over which images per second are counted.
const RATE_OVER: Duration = Duration::from_millis(500);

/// Passes over images that a training step is worth, where one is an image that is validated.
const PASSES_OF_A_STEP: f64 = 3.0;

/// Shows a training.
pub struct TrainProgress {
    status: Option<StatusLine>,
    epochs: usize,
    steps: u64,
    /// Steps that were taken before this piece of the run.
    before: u64,
    pace: Pace,
    /// When the last event of a step or an epoch was.
    last: Instant,
    epoch_start: Instant,
    line: Instant,
    rate: Rate,
}

/// Images per second, lately.
struct Rate {
    since: Instant,
    images: usize,
    value: Option<f64>,
}

/// How long steps and validations have taken, which says how long a training will still take.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    /// Steps of the whole training.
    steps: u64,
    /// Validations of the whole training: one after each epoch, whole or not.
    validations: u64,
    /// Images that one of them looks at.
    validation_images: usize,
    steps_s: f64,
    steps_done: u64,
    images_done: usize,
    validations_s: f64,
    validations_done: u64,
}

/// Estimates the time of a whole training from a few of its steps, in seconds.
pub fn seconds_in_all(job: &Job, timed: &Rehearsal) -> f64 {
    let pace = Pace { steps_s: timed.seconds, steps_done: timed.steps, images_done: timed.images, ..Pace::of(job, 0) };
    pace.steps_s + pace.seconds_left()
}

impl Pace {
    /// Nothing is done yet but so many steps in an earlier piece of the run.
    fn of(job: &Job, before: u64) -> Pace {
        let per_epoch = job.steps_per_epoch().max(1);
        let validations = job.steps().div_ceil(per_epoch).saturating_sub(before / per_epoch);
        let steps = job.steps().saturating_sub(before);
        Pace { steps, validations, validation_images: job.data().validation, ..Pace::default() }
    }

    /// Estimates the seconds until the end: what is left of steps and of validations, each at its pace so far.
    fn seconds_left(&self) -> f64 {
        let validation_s = match self.validations_done {
            0 => self.steps_s / self.images_done.max(1) as f64 * self.validation_images as f64 / PASSES_OF_A_STEP,
            done => self.validations_s / done as f64,
        };
        let step_s = self.steps_s / self.steps_done.max(1) as f64;
        step_s * self.steps.saturating_sub(self.steps_done) as f64
            + validation_s * self.validations.saturating_sub(self.validations_done) as f64
    }
}

impl TrainProgress {
    /// Starts the clock of a training that has taken so many steps before.
    pub fn start(job: &Job, before: u64) -> Self {
        let now = Instant::now();
        let (epochs, steps) = (job.config().train.epochs, job.steps());
        let status = StatusLine::on_terminal();
        let pace = Pace::of(job, before);
        let rate = Rate { since: now, images: 0, value: None };
        TrainProgress { status, epochs, steps, before, pace, last: now, epoch_start: now, line: now, rate }
    }

    /// Shows what happened.
    pub fn show(&mut self, event: Event) {
        match event {
            Event::Step(step) => self.step(&step),
            Event::Validated { done, total } => {
                if let Some(status) = &self.status {
                    let [done, total] = [done, total].map(|images| numbers::count(images as u64));
                    let left = self.pace.seconds_left() - self.last.elapsed().as_secs_f64();
                    let left = format!("{} left", durations::time_left(left.max(0.0)));
                    status.show(self.part(), &[(0, format!("validating {done}/{total}")), (1, left)]);
                }
            }
            Event::Epoch { row, best, is_cut } => self.epoch(
                row,
                if best {
                    " (best)"
                } else if is_cut {
                    " (cut short: cannot be the best)"
                } else {
                    ""
                },
            ),
            Event::Skipped(step) => self.say(&format!("warning: {step}; the step is left out")),
            Event::RolledBack { step, rollbacks, lr_factor } => self.say(&format!(
                "warning: {step}; back to the start of the epoch with learning rates times {lr_factor} \
                 ({rollbacks} of {ROLLBACKS})"
            )),
            Event::CannotWrite(error) => {
                self.say(&format!("warning: {error}; the training goes on, and it is tried again"))
            }
            Event::WritesRecovered => self.say("all that waited is written"),
        }
    }

    fn say(&self, line: &str) {
        match &self.status {
            Some(status) => status.say(line),
            None => say!("{line}"),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.status.iter().for_each(StatusLine::clear);
    }

    fn step(&mut self, step: &StepEvent) {
        self.pace.steps_s += self.since_last();
        self.pace.steps_done = step.step.saturating_sub(self.before);
        self.pace.images_done += step.images;
        self.rate.images += step.images;
        let elapsed = self.rate.since.elapsed();
        if elapsed >= RATE_OVER || self.rate.value.is_none() {
            self.rate.value = Some(self.rate.images as f64 / elapsed.as_secs_f64().max(1e-9));
            (self.rate.since, self.rate.images) = (Instant::now(), 0);
        }
        if let Some(status) = &self.status {
            status.show(self.part(), &self.parts(step));
        } else if self.line.elapsed() >= LINE_EVERY {
            self.line = Instant::now();
            let parts = self.parts(step).map(|(_, part)| part);
            say!("step {}/{}  {}", step.step, self.steps, parts.join("  "));
        }
    }

    /// Seconds since the last event, which this one is from now on.
    fn since_last(&mut self) -> f64 {
        let now = Instant::now();
        now.duration_since(std::mem::replace(&mut self.last, now)).as_secs_f64()
    }

    /// How much of the training is done, from 0 to 1.
    fn part(&self) -> f64 {
        (self.before + self.pace.steps_done) as f64 / self.steps.max(1) as f64
    }

    /// What is said of a step; the higher the number, the sooner a part is left out.
    fn parts(&self, step: &StepEvent) -> [(usize, String); 5] {
        [
            (0, format!("epoch {}/{}", step.epoch, self.epochs)),
            (1, format!("loss {:.4}", step.train_loss)),
            (3, format!("acc {}", numbers::percent(step.train_acc))),
            (4, format!("{} img/s", numbers::count(self.rate.value.unwrap_or(0.0).round() as u64))),
            (2, format!("{} left", durations::time_left(self.pace.seconds_left()))),
        ]
    }

    /// Prints the line of an epoch; `mark` says how it stands among the others.
    fn epoch(&mut self, row: &EpochRow, mark: &str) {
        self.pace.validations_s += self.since_last();
        self.pace.validations_done += 1;
        let validation = row.validation.map_or_else(String::new, |Validation { loss, accuracy, .. }| {
            format!("  val loss {loss:.4}  val acc {}{}", numbers::percent(accuracy), mark)
        });
        let width = self.epochs.to_string().len();
        let line = format!(
            "epoch {:width$}/{}  loss {:.4}  acc {}{validation}  {}",
            row.epoch,
            self.epochs,
            row.train_loss,
            numbers::percent(row.train_acc),
            durations::duration(self.epoch_start.elapsed().as_secs_f64()),
        );
        self.say(&line);
        let now = Instant::now();
        (self.epoch_start, self.line, self.rate.since, self.rate.images) = (now, now, now, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_counts_validation() {
        let half = Pace {
            steps: 20,
            validations: 2,
            validation_images: 300,
            steps_s: 10.0,
            steps_done: 10,
            images_done: 100,
            ..Pace::default()
        };
        // Ten steps of a second; an image takes 0.1 s to train on, a third of that to look at.
        assert!((half.seconds_left() - (10.0 + 2.0 * 10.0)).abs() < 1e-9, "{half:?}");
        let validated = Pace { validations_s: 3.0, validations_done: 1, ..half };
        assert!((validated.seconds_left() - 13.0).abs() < 1e-9, "{validated:?}");
        let over = Pace { steps_done: 20, validations_done: 2, ..validated };
        assert_eq!(over.seconds_left(), 0.0);
    }
}
