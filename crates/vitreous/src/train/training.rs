//! The loop: epochs of steps, validation, the best and the last weights, and how a run ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::Serialize;
use vitreous_engine::{Parameters, Session, Step, StepReport};

use super::examples::{Rooms, StepExamples};
use super::{Event, Job, StepEvent, TrainError, optimizer};
use crate::checkpoint::{self, Metadata};
use crate::config::train::Keep;
use crate::data::ImageSet;
use crate::data::augment::Augment;
use crate::evaluate::{BATCH, Totals, for_each_logits};
use crate::random::{Purpose, stream};
use crate::record::{EpochRow, Journal, MetricsLine, Results, Run, Status, Validation, Weights, now_utc, sha256_of};

/// A model that is being trained.
pub struct Training {
    job: Job,
    session: Session,
    augment: Augment,
    rooms: Rooms,
    metadata: Metadata,
    results: Results,
    best: Option<Best>,
    /// Weights of the lowest training loss that are not on disk yet.
    lowest: Option<Kept>,
    /// Since the last line of `metrics.jsonl`.
    since_line: Mean,
}

/// How a run ended, and what it reached.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Finished, stopped at the limit of steps, or interrupted.
    pub status: Status,
    /// What was reached.
    pub results: Results,
}

/// What the best weights reached on the validation split.
#[derive(Clone, Copy)]
struct Best {
    accuracy: f64,
    loss: f64,
}

/// Weights that are kept in memory.
struct Kept {
    parameters: Parameters,
    epoch: u64,
    step: u64,
}

/// A mean of loss, over targets, and accuracy, over images, step by step. An image is one target, a strip several.
#[derive(Clone, Copy, Default)]
struct Mean {
    images: f64,
    targets: f64,
    loss: f64,
    accuracy: f64,
}

impl Mean {
    fn add(&mut self, [images, targets]: [usize; 2], loss: f64, accuracy: f64) {
        self.images += images as f64;
        self.targets += targets as f64;
        self.loss += targets as f64 * loss;
        self.accuracy += images as f64 * accuracy;
    }

    fn values(&self) -> [f64; 2] {
        [self.loss / self.targets, self.accuracy / self.images]
    }
}

/// Where a run is recorded, who may end it, and who watches.
struct Surroundings<'a> {
    run: &'a Run,
    journal: Journal,
    started: Instant,
    /// When the last line of `timing.jsonl` about steps was written.
    line: Instant,
    stop: &'a AtomicBool,
    listen: &'a mut dyn FnMut(Event),
}

/// What a clock says of some steps; a line of `timing.jsonl`.
#[derive(Serialize)]
struct StepTiming {
    step: u64,
    epoch: u64,
    /// Since the start of the program.
    seconds: f64,
    images_per_s: f64,
}

/// What a clock says of an epoch; a line of `timing.jsonl`.
#[derive(Serialize)]
struct EpochTiming {
    epoch: u64,
    step: u64,
    train_s: f64,
    validation_s: f64,
    save_s: f64,
}

impl Training {
    /// Gives a job its first weights.
    pub fn new(job: Job) -> Self {
        let (config, normalization) = (&job.config, &job.data().normalization);
        let shape = job.train.shape();
        let augment = Augment::new(
            config.augment.clone(),
            shape.channels,
            shape.height,
            shape.width,
            &normalization.mean,
            &normalization.std,
        );
        let parameters = Parameters::initialise(&job.model.graph, stream(config.train.seed, Purpose::Initialise));
        let mut session = Session::new(job.model.graph.clone(), parameters, job.threads);
        session.start_training(job.model.loss, &[job.model.correct], optimizer(&config.train));
        let results = Results {
            epochs: 0,
            steps: 0,
            train_loss: None,
            train_acc: None,
            val_acc: None,
            best_val_acc: None,
            best_epoch: None,
            lowest_train_loss: None,
            lowest_step: None,
            last_sha256: None,
            seconds: 0.0,
        };
        let metadata = job.metadata();
        Training {
            job,
            session,
            augment,
            rooms: Rooms::default(),
            metadata,
            results,
            best: None,
            lowest: None,
            since_line: Mean::default(),
        }
    }

    /// Trains until all is done, or the limit of steps is reached, or `stop` is set: then the step under way is the
    /// last. `started` is the time from which `timing.jsonl` counts.
    ///
    /// # Errors
    /// When the loss is no number any more, or a record cannot be written. The run's manifest says so.
    pub fn run(
        &mut self,
        run: &mut Run,
        started: Instant,
        stop: &AtomicBool,
        listen: &mut dyn FnMut(Event),
    ) -> Result<Outcome, TrainError> {
        let clock = Instant::now();
        let ended = self.train(run, started, stop, listen);
        self.results.seconds = clock.elapsed().as_secs_f64();
        let recorded = run.update(|manifest| {
            manifest.status = *ended.as_ref().unwrap_or(&Status::Failed);
            manifest.finished = Some(now_utc());
            manifest.results = Some(self.results.clone());
        });
        let status = ended?;
        recorded?;
        Ok(Outcome { status, results: self.results.clone() })
    }

    fn train(
        &mut self,
        run: &Run,
        started: Instant,
        stop: &AtomicBool,
        listen: &mut dyn FnMut(Event),
    ) -> Result<Status, TrainError> {
        let journal = Journal::start(run.folder())?;
        let mut around = Surroundings { run, journal, started, line: Instant::now(), stop, listen };
        let mut status = Status::Running;
        let mut epoch = 0;
        while status == Status::Running {
            status = self.epoch(epoch, &mut around)?;
            epoch += 1;
        }
        self.results.last_sha256 = Some(sha256_of(&run.weights_path(Weights::Last))?);
        Ok(status)
    }

    /// Takes the steps of an epoch, then looks at the validation split and saves. Returns whether to go on
    /// ([`Status::Running`]) or how the run ended.
    fn epoch(&mut self, epoch: u64, around: &mut Surroundings) -> Result<Status, TrainError> {
        let clock = Instant::now();
        let seed = self.job.config.train.seed;
        let order = stream(seed, Purpose::Shuffle).with(epoch).permutation(self.job.train.len());
        let steps = self.job.steps_per_epoch();
        let (mut mean, mut lr) = (Mean::default(), 0.0);
        let mut limited = false;
        for index in 0..steps {
            let first = index as usize * self.job.config.train.step_images();
            lr = self.job.config.train.learning_rate(self.results.steps, steps);
            self.step(epoch, &order, first, lr, &mut mean, around)?;
            limited = self.results.steps >= self.job.steps();
            let whole = index + 1 == steps;
            if around.stop.load(Ordering::Relaxed) && !whole {
                self.check_weights(lr)?;
                self.save_lowest(true, around)?;
                self.save(Weights::Last, around)?;
                return Ok(Status::Interrupted);
            }
            self.results.epochs += u64::from(whole);
            if limited {
                break;
            }
        }
        let train_s = clock.elapsed().as_secs_f64();
        let (clock, pause) = (Instant::now(), Instant::now());
        let validation = self.validate(around);
        if let Some(Validation { loss, .. }) = validation.filter(|found| !found.loss.is_finite()) {
            return Err(TrainError::ValidationNotFinite { loss, step: self.results.steps, epoch: epoch + 1, lr });
        }
        self.check_weights(lr)?;
        let validation_s = clock.elapsed().as_secs_f64();
        let clock = Instant::now();
        let [train_loss, train_acc] = mean.values();
        let row = EpochRow { epoch: epoch + 1, step: self.results.steps, train_loss, train_acc, validation, lr };
        let best = self.note(&row);
        if best {
            self.save(Weights::Best, around)?;
        }
        self.save_lowest(limited || around.stop.load(Ordering::Relaxed) || self.is_last_epoch(), around)?;
        self.save(Weights::Last, around)?;
        let save_s = clock.elapsed().as_secs_f64();
        let timing = EpochTiming { epoch: row.epoch, step: row.step, train_s, validation_s, save_s };
        around.journal.timing(&timing)?;
        around.journal.epoch(&row)?;
        (around.listen)(Event::Epoch { row: &row, best });
        // A line that goes on in the next epoch counts the time of steps only.
        around.line += pause.elapsed();
        Ok(if self.is_last_epoch() {
            Status::Finished
        } else if limited {
            Status::MaxSteps
        } else if around.stop.load(Ordering::Relaxed) {
            Status::Interrupted
        } else {
            Status::Running
        })
    }

    fn step(
        &mut self,
        epoch: u64,
        order: &[u32],
        first: usize,
        lr: f64,
        mean: &mut Mean,
        around: &mut Surroundings,
    ) -> Result<(), TrainError> {
        let Job { config, train: set, .. } = &self.job;
        let images = config.train.step_images().min(order.len() - first);
        let key = stream(config.train.seed, Purpose::Augment).with(epoch);
        let (augment, rooms) = (&self.augment, &self.rooms);
        let examples = StepExamples { set, augment, rooms, epoch, order, first, key };
        let targets = examples.targets(images);
        let StepReport { loss, gradient_norm } = self.session.train_step(&Step {
            dropout: stream(config.train.seed, Purpose::Dropout).with(epoch),
            first: first as u64,
            targets: Some(targets as f64),
            micro_batches: images.div_ceil(config.train.batch_size),
            ..Step::new(images, &examples, lr)
        });
        self.results.steps += 1;
        let (step, epoch) = (self.results.steps, epoch + 1);
        if !loss.is_finite() {
            return Err(TrainError::NotFinite { loss, step, epoch, lr });
        }
        if !gradient_norm.is_finite() {
            return Err(TrainError::GradientNotFinite { norm: gradient_norm, step, epoch, lr });
        }
        let accuracy = self.session.metric_mean(0, images);
        mean.add([images, targets], loss, accuracy);
        self.since_line.add([images, targets], loss, accuracy);
        let logged = step.is_multiple_of(config.train.log_interval);
        if step == 1 || logged {
            let seconds = around.started.elapsed().as_secs_f64();
            let images_per_s = self.since_line.images / around.line.elapsed().as_secs_f64();
            around.journal.timing(&StepTiming { step, epoch, seconds, images_per_s })?;
        }
        if logged {
            let [loss, accuracy] = self.since_line.values();
            around.journal.metrics(&MetricsLine { step, epoch, loss, accuracy, gradient_norm, lr })?;
            self.note_line(loss);
            (self.since_line, around.line) = (Mean::default(), Instant::now());
        }
        let [train_loss, train_acc] = mean.values();
        (around.listen)(Event::Step(StepEvent { step, epoch, images, train_loss, train_acc }));
        Ok(())
    }

    /// Looks at the validation split, where there is one.
    fn validate(&mut self, around: &mut Surroundings) -> Option<Validation> {
        let set = self.job.validation.as_ref()?;
        let mut totals = Totals::default();
        for_each_logits(&mut self.session, &self.job.model, set, &self.augment, &mut |i, logits| {
            match set {
                ImageSet::Classified(split) => _ = totals.add(logits, split.label(i)),
                ImageSet::Strips(strips) => totals.add_words(logits, &strips.digits(i)),
            }
            if (i + 1) % BATCH == 0 {
                (around.listen)(Event::Validated { done: i + 1, total: set.len() });
            }
        });
        let top5 = matches!(set, ImageSet::Classified(_)).then(|| totals.top5());
        Some(Validation { loss: totals.loss(), accuracy: totals.top1(), top5 })
    }

    /// Notes what an epoch came to, and returns whether no earlier one was as good.
    fn note(&mut self, row: &EpochRow) -> bool {
        self.results.train_loss = Some(row.train_loss);
        self.results.train_acc = Some(row.train_acc);
        let Some(Validation { loss, accuracy, .. }) = row.validation else { return false };
        self.results.val_acc = Some(accuracy);
        if self.job.config.train.keep != Keep::Best {
            return false;
        }
        let better = |best: &Best| accuracy > best.accuracy || (accuracy == best.accuracy && loss < best.loss);
        let is_best = self.best.as_ref().is_none_or(better);
        if is_best {
            self.best = Some(Best { accuracy, loss });
            self.results.best_val_acc = Some(accuracy);
            self.results.best_epoch = Some(row.epoch);
        }
        is_best
    }

    /// Checks that the last step, of this learning rate, left weights that can be used; its loss was the one before.
    fn check_weights(&self, lr: f64) -> Result<(), TrainError> {
        let (graph, parameters) = (self.session.graph(), self.session.parameters());
        for param in graph.parameters() {
            let id = graph.find_parameter(&param.name).expect("the parameter is the graph's");
            if parameters.get(id).iter().any(|value| !value.is_finite()) {
                return Err(TrainError::WeightsNotFinite { tensor: param.name.clone(), step: self.results.steps, lr });
            }
        }
        Ok(())
    }

    /// Keeps the weights as they are when the training loss since the last line is the lowest so far.
    fn note_line(&mut self, loss: f64) {
        let lowest = self.results.lowest_train_loss.is_none_or(|lowest| loss < lowest);
        if self.job.config.train.keep != Keep::LowestTrainLoss || !lowest {
            return;
        }
        let step = self.results.steps;
        (self.results.lowest_train_loss, self.results.lowest_step) = (Some(loss), Some(step));
        // Before the copy, or there would be three.
        self.lowest = None;
        let epoch = step / self.job.steps_per_epoch();
        self.lowest = Some(Kept { parameters: self.session.parameters().clone(), epoch, step });
    }

    fn is_last_epoch(&self) -> bool {
        self.results.epochs == self.job.config.train.epochs as u64
    }

    /// Saves the weights of the lowest training loss, when they are not on disk yet. A run that ends before its first
    /// line counts what it has of it.
    fn save_lowest(&mut self, is_end: bool, around: &Surroundings) -> Result<(), TrainError> {
        if is_end && self.results.lowest_train_loss.is_none() && self.since_line.images > 0.0 {
            self.note_line(self.since_line.values()[0]);
        }
        let Some(Kept { parameters, epoch, step }) = self.lowest.take() else { return Ok(()) };
        (self.metadata.epoch, self.metadata.step) = (epoch, step);
        let path = around.run.weights_path(Weights::Best);
        checkpoint::save(&path, self.session.graph(), &parameters, &self.metadata)?;
        Ok(())
    }

    fn save(&mut self, weights: Weights, around: &Surroundings) -> Result<(), TrainError> {
        self.metadata.epoch = self.results.epochs;
        self.metadata.step = self.results.steps;
        let path = around.run.weights_path(weights);
        checkpoint::save(&path, self.session.graph(), self.session.parameters(), &self.metadata)?;
        Ok(())
    }
}
