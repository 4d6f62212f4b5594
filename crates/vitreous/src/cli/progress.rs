//! What is seen of a training while it runs, on stderr: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::record::{EpochRow, Validation};
use crate::train::{Event, StepEvent};
use crate::units;

/// Time between two plain lines within an epoch.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Time over which images per second are counted.
const RATE_OVER: Duration = Duration::from_millis(500);

/// Shows a training.
pub struct TrainProgress {
    bar: Option<ProgressBar>,
    epochs: usize,
    steps: u64,
    start: Instant,
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

impl TrainProgress {
    /// Starts the clock of a training of so many epochs and steps.
    pub fn start(epochs: usize, steps: u64) -> Self {
        let now = Instant::now();
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr_with_hz(10));
            let style = ProgressStyle::with_template("{bar:24} {msg}").expect("the template is well-formed");
            bar.set_style(style.progress_chars("=> "));
            bar
        });
        let rate = Rate { since: now, images: 0, value: None };
        TrainProgress { bar, epochs, steps, start: now, epoch_start: now, line: now, rate }
    }

    /// Shows what happened.
    pub fn show(&mut self, event: Event) {
        match event {
            Event::Step(step) => self.step(&step),
            Event::Validated { done, total } => {
                if let Some(bar) = &self.bar {
                    bar.set_message(format!("validating {}/{}", units::count(done as u64), units::count(total as u64)));
                }
            }
            Event::Epoch { row, best } => self.epoch(row, best),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn step(&mut self, step: &StepEvent) {
        self.rate.images += step.images;
        let elapsed = self.rate.since.elapsed();
        if elapsed >= RATE_OVER || self.rate.value.is_none() {
            self.rate.value = Some(self.rate.images as f64 / elapsed.as_secs_f64().max(1e-9));
            (self.rate.since, self.rate.images) = (Instant::now(), 0);
        }
        if let Some(bar) = &self.bar {
            bar.set_position(step.step);
            bar.set_message(self.text(step));
        } else if self.line.elapsed() >= LINE_EVERY {
            self.line = Instant::now();
            say!("step {}/{}  {}", step.step, self.steps, self.text(step));
        }
    }

    fn text(&self, step: &StepEvent) -> String {
        let left = self.start.elapsed().as_secs_f64() / step.step as f64 * (self.steps - step.step) as f64;
        format!(
            "epoch {}/{}  loss {:.4}  acc {}  {} images/s  {} left",
            step.epoch,
            self.epochs,
            step.train_loss,
            units::percent(step.train_acc),
            units::count(self.rate.value.unwrap_or(0.0).round() as u64),
            units::duration(left.ceil())
        )
    }

    fn epoch(&mut self, row: &EpochRow, best: bool) {
        let validation = row.validation.map_or_else(String::new, |Validation { loss, accuracy, .. }| {
            format!("  val loss {loss:.4}  val acc {}{}", units::percent(accuracy), if best { " (best)" } else { "" })
        });
        let width = self.epochs.to_string().len();
        let line = format!(
            "epoch {:width$}/{}  loss {:.4}  acc {}{validation}  {}",
            row.epoch,
            self.epochs,
            row.train_loss,
            units::percent(row.train_acc),
            units::duration(self.epoch_start.elapsed().as_secs_f64()),
        );
        match &self.bar {
            Some(bar) => bar.println(line),
            None => say!("{line}"),
        }
        let now = Instant::now();
        (self.epoch_start, self.line, self.rate.since, self.rate.images) = (now, now, now, 0);
    }
}
