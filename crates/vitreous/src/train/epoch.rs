//! One epoch: its steps, validation, and the weights, records and checkpoint that it saves.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use vitreous_engine::{Parameters, StepReport};

use super::examples::{StepExamples, changes_of_epoch, order_of_epoch};
use super::nonfinite::{NonfiniteStep, find, first_tensor};
use super::position::{Best, LastStep, Mean};
use super::training::{Context, EpochStart, KeptWeights, Training};
use super::{EpochTimes, Event, Job, StepEvent, TrainError};
use crate::checkpoint::TensorFile;
use crate::config::train::{Keep, OnNonfinite};
use crate::evaluate::{BATCH, Totals, for_each_logits};
use crate::record::{EpochRow, MetricsLine, Status, Validation, Weights, WeightsHashes};

/// The time of some steps; a line of `timing.jsonl`.
#[derive(Serialize)]
struct StepTiming {
    step: u64,
    epoch: u64,
    /// Since the start of the program; of a run that was resumed, of all its pieces.
    seconds: f64,
    images_per_s: f64,
}

/// The time of an epoch; a line of `timing.jsonl`.
#[derive(Serialize)]
struct EpochTiming {
    epoch: u64,
    step: u64,
    train_s: f64,
    validation_s: f64,
    save_s: f64,
}

/// How long steps waited for a state to be copied; a line of `timing.jsonl`.
#[derive(Serialize)]
struct StateTiming {
    step: u64,
    state_s: f64,
}

/// How a training continues after a step.
enum AfterStep {
    /// With the next step.
    Continue,
    /// From the start of the epoch, to which it was rolled back.
    RolledBack,
}

impl Training {
    /// Takes the remaining steps of an epoch, then validates and saves. Returns [`Status::Running`] to continue, or how
    /// the run ended.
    pub(super) fn epoch(&mut self, context: &mut Context) -> Result<Status, TrainError> {
        let (clock, before_s) = (Instant::now(), self.position.epoch_s);
        let (seed, epoch) = (self.job.config.train.seed, self.position.results.epochs);
        let mut order = order_of_epoch(seed, epoch, self.job.train.len());
        order.truncate(self.job.epoch_images());
        let steps = self.job.steps_per_epoch();
        if self.job.config.train.on_nonfinite == OnNonfinite::Rollback && self.position.index == 0 {
            let parameters = Arc::new(self.session.parameters().clone());
            let (position, optimizer) = (self.position.clone(), self.session.optimizer_state());
            self.start = Some(EpochStart { position, parameters, optimizer });
        }
        let mut lr = 0.0;
        let mut end = None;
        let mut copied = None;
        while self.position.index < steps && end.is_none() {
            copied = None;
            let first = self.position.index as usize * self.job.config.train.step_images();
            lr = self.job.config.train.learning_rate(self.position.results.steps, steps) * self.position.lr_factor;
            let step_clock = Instant::now();
            if let AfterStep::RolledBack = self.step(&order, first, lr, context)? {
                return Ok(Status::Running);
            }
            context.step_time = step_clock.elapsed();
            self.position.index += 1;
            self.position.epoch_s = before_s + clock.elapsed().as_secs_f64();
            let is_whole = self.position.index == steps;
            let is_limit = self.position.results.steps >= self.job.steps();
            end = if is_limit { Some(Status::MaxSteps) } else { context.end(self.steps_to_validation()) };
            let is_time = context.is_time_to_save(self.position.results.steps) && !context.writer.has_state();
            // At the end of an epoch the state is saved with all that the epoch came to.
            if !is_whole && (end.is_some() || is_time) {
                let clock = Instant::now();
                context.writer.wait_for_state();
                let parameters = Arc::new(self.session.parameters().clone());
                self.save_state(&parameters, context);
                copied = Some(parameters);
                let (step, state_s) = (self.position.results.steps, clock.elapsed().as_secs_f64());
                context.writer.timing(&StateTiming { step, state_s });
            }
            context.report_write_status()?;
        }
        let is_whole = self.position.index == steps;
        match end {
            Some(status) if !is_whole && status != Status::MaxSteps => {
                self.check_weights(lr)?;
                // A run that may go back to before them keeps them in its state alone.
                if self.job.config.train.on_nonfinite != OnNonfinite::Rollback {
                    self.hand_in_lowest(true, context);
                }
                let weights = self.weights_to_keep(copied.as_ref());
                let last = self.last_weights(&weights);
                self.note_hashes(&last);
                context.writer.weights(Weights::Last, last);
                Ok(status)
            }
            end => self.end_epoch(is_whole, lr, end, context),
        }
    }

    /// Validates, and saves the results of the epoch or of its trained part.
    pub(super) fn end_epoch(
        &mut self,
        is_whole: bool,
        lr: f64,
        end: Option<Status>,
        context: &mut Context,
    ) -> Result<Status, TrainError> {
        let (clock, pause) = (Instant::now(), Instant::now());
        let (epoch, step) = (self.position.results.epochs + 1, self.position.results.steps);
        let mean = self.position.mean;
        if mean.images == 0.0 {
            return Err(TrainError::AllSkipped { epoch, step });
        }
        let validation = self.validate(context);
        if let Some(Validation { loss, .. }) = validation.filter(|found| !found.loss.is_finite()) {
            return Err(TrainError::ValidationNotFinite { loss, step, epoch, lr, base_lr: self.job.config.train.lr });
        }
        self.check_weights(lr)?;
        let validation_time = clock.elapsed();
        context.validation_time = Some(validation_time);
        let validation_s = validation_time.as_secs_f64();
        let clock = Instant::now();
        let [train_loss, train_acc] = mean.values();
        let row = EpochRow { epoch, step, train_loss, train_acc, validation, lr };
        let train_s = self.position.epoch_s;
        if is_whole {
            let position = &mut self.position;
            position.results.epochs += 1;
            (position.index, position.mean, position.epoch_s) = (0, Mean::default(), 0.0);
            self.start = None;
        }
        let best = self.note(&row, is_whole);
        // Another copy of all weights only when the last one is on the disk.
        context.writer.wait_for_state();
        let parameters = Arc::new(self.session.parameters().clone());
        let weights = self.weights_to_keep(Some(&parameters));
        let last = self.last_weights(&weights);
        let hashes = self.note_hashes(&last);
        if best {
            context.writer.weights(Weights::Best, last.clone());
        }
        self.hand_in_lowest(false, context);
        context.writer.weights(Weights::Last, last);
        let save_s = clock.elapsed().as_secs_f64();
        context.writer.timing(&EpochTiming { epoch, step, train_s, validation_s, save_s });
        context.writer.epoch(&row, hashes);
        if let Some(board) = &mut self.board {
            board.hand_in_epoch(&row, &parameters, &context.writer);
        }
        let is_cut = !is_whole && !best && self.job.config.train.keep == Keep::Best;
        let times = EpochTimes { train_s, validation_s, save_s };
        (context.listen)(Event::Epoch { row: &row, best, is_cut, times });
        let status = if self.is_last_epoch() {
            Some(Status::Finished)
        } else {
            end.or_else(|| context.end(self.steps_to_validation()))
        };
        if is_whole {
            // A run resumed from here must equal one that never stopped, so all that an end adds is written afterwards.
            self.save_state(&parameters, context);
        }
        if status.is_some() {
            self.hand_in_lowest(true, context);
        }
        // A line that continues in the next epoch counts only the time of steps.
        context.line += pause.elapsed();
        Ok(status.unwrap_or(Status::Running))
    }

    fn step(&mut self, order: &[u32], first: usize, lr: f64, context: &mut Context) -> Result<AfterStep, TrainError> {
        let epoch = self.position.results.epochs;
        let Job { config, train: set, .. } = &self.job;
        let images = config.train.step_images().min(order.len() - first);
        let key = changes_of_epoch(config.train.seed, epoch);
        let (augment, buffers) = (&self.augment, &self.buffers);
        let set = &**set;
        let examples = StepExamples { set, augment, buffers, epoch, order, first, key };
        let mut what = examples.step(&config.train, images, lr);
        let number = self.position.results.steps + 1;
        // The last step of a run ends a line too.
        let ends_line = number.is_multiple_of(config.train.log_interval) || number == self.job.steps();
        what.gradient_norms = self.board.is_some() && ends_line;
        let targets = what.targets.map_or(images, |targets| targets as usize);
        let StepReport { loss, gradient_norm } = self.session.train_step(&what);
        self.position.results.steps += 1;
        let (step, epoch) = (self.position.results.steps, epoch + 1);
        if !loss.is_finite() || !gradient_norm.is_finite() {
            let find = || find(&self.job, self.session.parameters(), &what, loss.is_finite());
            let base_lr = config.train.lr;
            let bad_step = NonfiniteStep { step, epoch, lr, base_lr, loss, gradient_norm, first: None };
            return match config.train.on_nonfinite {
                OnNonfinite::Stop => Err(TrainError::NotFinite(NonfiniteStep { first: find(), ..bad_step })),
                OnNonfinite::Skip => {
                    // Once for a row of them: the search takes longer than a step.
                    let first = if self.position.skipped.is_empty() { find() } else { None };
                    self.position.skipped.push(step);
                    self.position.results.skipped_steps += 1;
                    (context.listen)(Event::Skipped(&NonfiniteStep { first, ..bad_step }));
                    Ok(AfterStep::Continue)
                }
                OnNonfinite::Rollback => {
                    let bad_step = NonfiniteStep { first: find(), ..bad_step };
                    self.roll_back(bad_step, context).map(|()| AfterStep::RolledBack)
                }
            };
        }
        let accuracy = self.session.metric_mean(0, images);
        let position = &mut self.position;
        position.mean.add([images, targets], loss, accuracy);
        position.since_line.add([images, targets], loss, accuracy);
        position.last = LastStep { step, epoch, lr, gradient_norm };
        if position.usual.stands_out(loss) {
            position.spikes.push(step);
        }
        let logged = step.is_multiple_of(config.train.log_interval);
        if std::mem::take(&mut context.is_first_step) || logged {
            let seconds = context.clock.1 + context.started.elapsed().as_secs_f64();
            let images_per_s = position.since_line.images / context.line.elapsed().as_secs_f64();
            context.writer.timing(&StepTiming { step, epoch, seconds, images_per_s });
        }
        if let Some(board) = self.board.as_mut().filter(|_| what.gradient_norms) {
            board.measure(step, &self.session);
        }
        if logged {
            let [loss, _] = position.since_line.values();
            self.hand_in_line(context);
            context.line = Instant::now();
            self.note_line(loss);
        }
        let [train_loss, train_acc] = self.position.mean.values();
        (context.listen)(Event::Step(StepEvent { step, epoch, images, train_loss, train_acc }));
        Ok(AfterStep::Continue)
    }

    /// Steps until the validation split is looked at: the epoch's, or those that are left of the run.
    fn steps_to_validation(&self) -> u64 {
        let left = self.job.steps().saturating_sub(self.position.results.steps);
        left.min(self.job.steps_per_epoch() - self.position.index)
    }

    /// Validates, if there is a validation split.
    fn validate(&mut self, context: &mut Context) -> Option<Validation> {
        let Training { job, session, augment, board, .. } = self;
        let set = job.validation.as_deref()?;
        let mut totals = Totals::default();
        let mut look = |i: usize, logits: &[f32]| {
            let answer = set.answer(i);
            let class = totals.add(logits, &answer);
            board.iter_mut().for_each(|board| board.count(&answer, class));
            if (i + 1).is_multiple_of(BATCH) {
                (context.listen)(Event::Validated { done: i + 1, total: set.len() });
            }
        };
        session.with_average(|session| for_each_logits(session, &job.model, set, augment, &mut look));
        Some(Validation { loss: totals.loss(), accuracy: totals.top1(), top5: totals.top5() })
    }

    /// Notes what an epoch came to, and returns whether no earlier one was as good.
    fn note(&mut self, row: &EpochRow, is_whole: bool) -> bool {
        let results = &mut self.position.results;
        results.train_loss = Some(row.train_loss);
        results.train_acc = Some(row.train_acc);
        let Some(Validation { loss, accuracy, .. }) = row.validation else { return false };
        results.val_acc = Some(accuracy);
        if self.job.config.train.keep != Keep::Best {
            return false;
        }
        let better = |best: &Best| accuracy > best.accuracy || (accuracy == best.accuracy && loss < best.loss);
        // A partial epoch counts only if there is no best epoch yet: a resumed run would not have validated here.
        let is_best = self.position.best.as_ref().is_none_or(|best| is_whole && better(best));
        if is_best {
            self.position.best = Some(Best { accuracy, loss });
            results.best_val_acc = Some(accuracy);
            (results.best_epoch, results.best_step) = (Some(row.epoch), Some(row.step));
        }
        is_best
    }

    /// Checks that the last step, of this learning rate, left weights that can be used; its loss was the one before.
    fn check_weights(&self, lr: f64) -> Result<(), TrainError> {
        let step = self.position.results.steps;
        match first_tensor(self.session.graph(), self.session.parameters(), |_| true) {
            Some(tensor) => Err(TrainError::WeightsNotFinite { tensor, step, lr, base_lr: self.job.config.train.lr }),
            None => Ok(()),
        }
    }

    /// Keeps the weights as they are when the training loss since the last line is the lowest so far.
    fn note_line(&mut self, loss: f64) {
        let results = &mut self.position.results;
        let lowest = results.lowest_train_loss.is_none_or(|lowest| loss < lowest);
        if self.job.config.train.keep != Keep::LowestTrainLoss || !lowest {
            return;
        }
        let step = results.steps;
        (results.lowest_train_loss, results.lowest_step) = (Some(loss), Some(step));
        // Before the copy, or there would be three.
        self.lowest = None;
        let epoch = step / self.job.steps_per_epoch();
        self.lowest = Some(KeptWeights { parameters: self.weights_to_keep(None), epoch, step });
    }

    /// Hands in a line about the steps since the last one, where any of them counted.
    pub(super) fn hand_in_line(&mut self, context: &Context) {
        let position = &mut self.position;
        let mean = std::mem::take(&mut position.since_line);
        if mean.images == 0.0 {
            return;
        }
        let ([loss, accuracy], LastStep { step, epoch, lr, gradient_norm }) = (mean.values(), position.last);
        let (spikes, skipped) = (std::mem::take(&mut position.spikes), std::mem::take(&mut position.skipped));
        let line = MetricsLine { step, epoch, loss, accuracy, gradient_norm, lr, spikes, skipped };
        context.writer.metrics(&line);
        if let Some(board) = &mut self.board {
            board.hand_in_line(line, &context.writer);
        }
    }

    /// Hands in the weights of the lowest training loss, when they were not yet. A run that ends before its first line
    /// counts what it has of it.
    pub(super) fn hand_in_lowest(&mut self, is_end: bool, context: &Context) {
        if is_end && self.position.results.lowest_train_loss.is_none() && self.position.since_line.images > 0.0 {
            self.note_line(self.position.since_line.values()[0]);
        }
        let Some(KeptWeights { parameters, epoch, step }) = self.lowest.take() else { return };
        (self.metadata.epoch, self.metadata.step) = (epoch, step);
        let file = TensorFile::weights(self.session.graph(), &parameters, &self.metadata);
        context.writer.weights(Weights::Best, file);
    }

    /// A copy of the weights that the run is known by: the parameters, of which there may be a copy already, or their
    /// running average where there is one.
    fn weights_to_keep(&mut self, parameters: Option<&Arc<Parameters>>) -> Arc<Parameters> {
        match parameters {
            Some(parameters) if self.job.config.train.model_ema_decay.is_none() => parameters.clone(),
            _ => Arc::new(self.session.with_average(|session| session.parameters().clone())),
        }
    }

    /// Notes the hashes of the last weights for the manifest.
    fn note_hashes(&mut self, last: &TensorFile) -> WeightsHashes {
        let hashes = last.hashes();
        let results = &mut self.position.results;
        results.last_sha256 = Some(hashes.file.clone());
        results.last_tensors_sha256 = Some(hashes.tensors.clone());
        hashes
    }

    /// Such a copy as a file.
    fn last_weights(&mut self, weights: &Arc<Parameters>) -> TensorFile {
        self.metadata.epoch = self.position.results.epochs;
        self.metadata.step = self.position.results.steps;
        TensorFile::weights(self.session.graph(), weights, &self.metadata)
    }
}
