//! Progress of a training on stderr: a bar on a terminal, plain lines elsewhere.

use std::time::{Duration, Instant};

use super::flags::Flags;
use super::screen;
use super::settings::SettingsArgs;
use super::status::StatusLine;
use super::verbosity::{Verbosity, verbosity};
use crate::record::{EpochRow, Validation};
use crate::train::{Event, Job, ROLLBACKS, Rehearsal, StepEvent};
use crate::{durations, numbers};

/// Time between two plain lines within an epoch.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Time over which images per second are counted.
const RATE_OVER: Duration = Duration::from_millis(500);

/// Time of a training step per image, relative to that of validation.
const PASSES_OF_A_STEP: f64 = 3.0;

/// The progress display of a training.
pub struct TrainProgress {
    status: Option<StatusLine>,
    epochs: usize,
    steps_per_epoch: u64,
    /// Steps taken before the run was resumed.
    before: u64,
    /// Steps between two printed lines, if set.
    line_steps: Option<u64>,
    pace: Pace,
    /// Time of the last event of a step or an epoch.
    last: Instant,
    epoch_start: Instant,
    line: Instant,
    rate: Rate,
    /// Whether the last epoch was cut short.
    is_cut: bool,
    is_read: bool,
}

/// Recent images per second.
struct Rate {
    since: Instant,
    images: usize,
    value: Option<f64>,
}

/// Time of the steps and validations so far, to estimate the remaining time.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    /// Steps of the whole training.
    steps: u64,
    /// Validations of the whole training: one after each epoch, whole or not.
    validations: u64,
    /// Images of one validation.
    validation_images: usize,
    steps_s: f64,
    steps_done: u64,
    images_done: usize,
    validations_s: f64,
    validations_done: u64,
}

/// Steps between two printed lines, if the command line sets log_interval.
pub fn line_steps(settings: &SettingsArgs, flags: &Flags, job: &Job) -> Option<u64> {
    const KEY: &str = "train.log_interval";
    let set = settings.set.iter().any(|assignment| assignment.split('=').next().map(str::trim) == Some(KEY));
    (set || flags.values().any(|(key, ..)| key == KEY)).then(|| job.config().train.log_interval)
}

/// Estimates the time of a whole training from a few of its steps, in seconds.
pub fn seconds_in_all(job: &Job, timed: &Rehearsal) -> f64 {
    let pace = Pace { steps_s: timed.seconds, steps_done: timed.steps, images_done: timed.images, ..Pace::of(job, 0) };
    pace.steps_s + pace.seconds_left()
}

impl Pace {
    /// A training that has taken `before` steps before it was resumed.
    fn of(job: &Job, before: u64) -> Pace {
        let per_epoch = job.steps_per_epoch().max(1);
        let validations = job.steps().div_ceil(per_epoch).saturating_sub(before / per_epoch);
        let steps = job.steps().saturating_sub(before);
        Pace { steps, validations, validation_images: job.data().validation, ..Pace::default() }
    }

    /// Estimates the seconds until the end: remaining steps and validations, each at their pace so far.
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
    /// Starts the clock of a training that has already taken `before` steps. With `line_steps`, every step that is a
    /// multiple of it prints a line; without, lines within an epoch are printed only where stderr is not a terminal.
    pub fn start(job: &Job, before: u64, line_steps: Option<u64>) -> Self {
        let now = Instant::now();
        TrainProgress {
            status: StatusLine::on_terminal(),
            epochs: job.config().train.epochs,
            steps_per_epoch: job.steps_per_epoch().max(1),
            before,
            line_steps,
            pace: Pace::of(job, before),
            last: now,
            epoch_start: now,
            line: now,
            rate: Rate { since: now, images: 0, value: None },
            is_cut: false,
            is_read: true,
        }
    }

    /// Shows an event.
    pub fn show(&mut self, event: Event) {
        match event {
            Event::Step(step) => self.step(&step),
            Event::Validated { done, total } => {
                if let Some(status) = &self.status {
                    let part = done as f64 / total.max(1) as f64;
                    let [done, total] = [done, total].map(|images| numbers::count(images as u64));
                    let left = self.pace.seconds_left() - self.last.elapsed().as_secs_f64();
                    let left = format!("{} left", durations::time_left(left.max(0.0)));
                    status.show(part, &[(0, format!("validating {done}/{total} images")), (1, left)]);
                }
            }
            Event::Epoch { row, best, is_cut, times } => {
                let mark = match (best, is_cut) {
                    (true, _) => " best",
                    (false, true) => " incomplete",
                    (false, false) => "",
                };
                self.epoch(row, mark);
                self.is_cut = is_cut;
                if verbosity() == Verbosity::Verbose {
                    let [train, validation, save] =
                        [times.train_s, times.validation_s, times.save_s].map(durations::duration);
                    self.say(&format!("  training {train}, validation {validation}, copying weights {save}"));
                }
            }
            Event::Skipped(step) => self.say(&format!("warning: {step}; this step is skipped")),
            Event::RolledBack { step, rollbacks, lr_factor } => self.say(&format!(
                "warning: {step}; rolled back to the start of the epoch with learning rates times {lr_factor} \
                 ({rollbacks} of {ROLLBACKS})"
            )),
            Event::CannotWrite(error) => {
                self.say(&format!("warning: {error}; the training continues, and the write is tried again"))
            }
            Event::WritesRecovered => self.say("all waiting writes are done"),
            Event::NoPlots(error) => self.say(&format!("warning: {error}; some plots of the run are missing or old")),
            Event::CannotWriteEvents(error) => self.say(&format!(
                "warning: {error}; TensorBoard may not show the whole run, but the training continues \
                 (`vitreous export tensorboard RUN` adds what is missing, when it has ended)"
            )),
        }
    }

    fn say(&mut self, line: &str) {
        match &self.status {
            Some(status) => status.say(line),
            None if verbosity() == Verbosity::Quiet => {}
            None => self.is_read &= screen::write_to_stderr(line),
        }
    }

    /// Whether stderr is still read: a closed pipe (`2>&1 | head`) shows no progress.
    pub fn is_read(&self) -> bool {
        self.is_read
    }

    /// Whether the last epoch was cut short after others, so that its weights cannot be the best.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Erases the bar.
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
        let is_asked_for = self.line_steps.is_some_and(|every| step.step.is_multiple_of(every));
        let is_due = self.status.is_none() && self.line_steps.is_none() && self.line.elapsed() >= LINE_EVERY;
        if is_asked_for || is_due {
            self.line = Instant::now();
            self.say(&self.line_of(step));
        }
        if let Some(status) = &self.status {
            status.show(self.step_in_epoch(step) as f64 / self.steps_per_epoch as f64, &self.parts(step));
        }
    }

    /// Seconds since the last event; resets the clock.
    fn since_last(&mut self) -> f64 {
        let now = Instant::now();
        now.duration_since(std::mem::replace(&mut self.last, now)).as_secs_f64()
    }

    /// The number of a step within its epoch, from 1.
    fn step_in_epoch(&self, step: &StepEvent) -> u64 {
        step.step.saturating_sub(1) % self.steps_per_epoch + 1
    }

    /// The parts of the status line; those with the highest numbers are dropped first.
    fn parts(&self, step: &StepEvent) -> [(usize, String); 6] {
        [
            (0, format!("epoch {}/{}", step.epoch, self.epochs)),
            (1, format!("step {}/{}", self.step_in_epoch(step), self.steps_per_epoch)),
            (3, format!("loss {}", loss(step.train_loss))),
            (4, format!("acc {}", percent(step.train_acc))),
            (5, format!("{} img/s", numbers::count(self.rate.value.unwrap_or(0.0).round() as u64))),
            (2, format!("{} left", durations::time_left(self.pace.seconds_left()))),
        ]
    }

    /// The line of a step: `epoch 1 step 200/429 loss 2.016 acc 31.65 %, 4 min 05 s left`.
    fn line_of(&self, step: &StepEvent) -> String {
        let (number, steps) = (self.step_in_epoch(step), self.steps_per_epoch);
        let (loss, acc) = (loss(step.train_loss), percent(step.train_acc));
        let left = durations::time_left(self.pace.seconds_left());
        format!("epoch {} step {number}/{steps} loss {loss} acc {acc}, {left} left", step.epoch)
    }

    /// Prints the line of an epoch; `mark` is printed at its end.
    fn epoch(&mut self, row: &EpochRow, mark: &str) {
        self.pace.validations_s += self.since_last();
        self.pace.validations_done += 1;
        self.say(&epoch_line(row, self.epochs, self.epoch_start.elapsed(), mark));
        let now = Instant::now();
        (self.epoch_start, self.line, self.rate.since, self.rate.images) = (now, now, now, 0);
    }
}

/// The line of an epoch, in at most 80 columns: `epoch  3/10  loss 1.2345 acc 61.65 %  val loss 1.1870 acc 63.20 %  65 s best`.
pub fn epoch_line(row: &EpochRow, epochs: usize, time: Duration, mark: &str) -> String {
    let validation = row.validation.map_or_else(String::new, |Validation { loss: value, accuracy, .. }| {
        format!("  val loss {} acc {}", loss(value), percent(accuracy))
    });
    format!(
        "epoch {:width$}/{epochs}  loss {} acc {}{validation}  {}{mark}",
        row.epoch,
        loss(row.train_loss),
        percent(row.train_acc),
        short_duration(time),
        width = epochs.to_string().len(),
    )
}

/// A loss in six characters, with four decimals unless it is large: `12.346`, `2.0160`, `0.0421`.
fn loss(value: f64) -> String {
    match format!("{value:.4}") {
        text if text.len() <= 6 || !value.is_finite() => text,
        _ if value.abs() >= 99_999.5 => format!("{value:.0e}"),
        text => text[..6].trim_end_matches('.').to_string(),
    }
}

/// An accuracy in seven characters.
fn percent(fraction: f64) -> String {
    if fraction >= 0.99995 { "100.0 %".to_string() } else { numbers::percent(fraction) }
}

/// A time in at most seven characters: `42 s`, `245 s`, `62 min`, `11 h`.
fn short_duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds.round() as u64 {
        seconds @ 0..600 => format!("{seconds} s"),
        600..36_000 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.0} h", seconds / 3600.0),
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
    #[test]
    fn the_line_of_an_epoch_fits_into_80_columns() {
        let row = |epoch, train_loss, train_acc, validation: Option<(f64, f64)>| {
            let validation = validation.map(|(loss, accuracy)| Validation { loss, accuracy, top5: None });
            EpochRow { epoch, step: 7, train_loss, train_acc, validation, lr: 0.5 }
        };
        let line = |row: &EpochRow, epochs, seconds, mark| epoch_line(row, epochs, Duration::from_secs(seconds), mark);
        let plain = line(&row(3, 1.2345, 0.6165, Some((0.0421, 0.9725))), 10, 65, " best");
        assert_eq!(plain, "epoch  3/10  loss 1.2345 acc 61.65 %  val loss 0.0421 acc 97.25 %  65 s best");
        assert_eq!(line(&row(1, 12.345, 1.0, None), 5, 3723, ""), "epoch 1/5  loss 12.345 acc 100.0 %  62 min");
        for value in [0.0, 0.00012, 0.99999, 2.345_67, 99.999, 12_345.6, 1e9, f64::NAN, f64::INFINITY] {
            let longest = line(&row(100, value, 1.0, Some((value, 0.99999))), 100, 3599, " best");
            assert!(longest.len() <= 80, "{}: {longest}", longest.len());
        }
    }
}
