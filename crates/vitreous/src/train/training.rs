//! A model that is being trained: how it starts, resumes from a checkpoint, and ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use vitreous_engine::{Graph, Isa, OptimizerState, Parameters, Session};

use super::board::Board;
use super::examples::BufferPool;
use super::nonfinite::first_tensor;
use super::position::{Bounds, Position};
use super::writer::{CheckpointWriter, StateParts, WriteStatus, WriterThread, persist};
use super::{Event, Job, TrainError};
use crate::checkpoint::{Metadata, SavedState, forget_all_but};
use crate::data::augment::Augment;
use crate::record::{JournalLengths, Results, Run, Status, now_utc};

/// A model that is being trained.
pub struct Training {
    pub(super) job: Job,
    pub(super) session: Session,
    pub(super) augment: Augment,
    pub(super) buffers: BufferPool,
    pub(super) metadata: Metadata,
    pub(super) position: Position,
    /// Weights of the lowest training loss that are not queued yet.
    pub(super) lowest: Option<KeptWeights>,
    /// The start of the current epoch, for roll-backs.
    pub(super) start: Option<EpochStart>,
    /// What TensorBoard shows of the run, if it is to.
    pub(super) board: Option<Board>,
    graph: Arc<Graph>,
    /// Lengths of the growing files in the checkpoint that this resumes from.
    journal: Option<JournalLengths>,
    /// Waits for the run folder.
    writer_thread: Option<WriterThread>,
}

/// How a run ended, and what it reached.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Finished, stopped at a limit, or interrupted.
    pub status: Status,
    /// What was reached.
    pub results: Results,
}

/// When a training saves checkpoints and when it stops early. None of it changes what is computed.
pub struct Limits<'a> {
    /// Set from outside: the step under way is the last.
    pub stop: &'a AtomicBool,
    /// When the training must end.
    pub until: Option<Instant>,
    /// How often a checkpoint is saved within an epoch.
    pub save_every: SaveEvery,
}

/// How often a checkpoint is saved within an epoch; one is saved after each epoch too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveEvery {
    /// After so many steps of the run.
    Steps(u64),
    /// After some time.
    Time(Duration),
}

/// Weights that are kept in memory.
pub(super) struct KeptWeights {
    pub parameters: Arc<Parameters>,
    pub epoch: u64,
    pub step: u64,
}

/// The start of an epoch, to which a training can roll back.
pub(super) struct EpochStart {
    pub position: Position,
    pub parameters: Arc<Parameters>,
    pub optimizer: OptimizerState,
}

/// What a checkpoint contains in addition to its tensors.
#[derive(Serialize, Deserialize)]
pub struct CheckpointInfo {
    /// The resolved config as TOML.
    pub config: String,
    /// The kernels' instruction set: with another, bits differ.
    pub instruction_set: String,
    updates: u64,
    position: Position,
    /// Epoch and step of the weights that are kept in memory.
    lowest: Option<[u64; 2]>,
    /// The start of the epoch, and the updates that were made before it.
    start: Option<(Position, u64)>,
}

impl CheckpointInfo {
    /// Reads it from a checkpoint.
    ///
    /// # Errors
    /// When it has another form: another program wrote it.
    pub fn of(saved: &SavedState) -> Result<CheckpointInfo, TrainError> {
        serde_json::from_value(saved.about().clone())
            .map_err(|error| TrainError::State { path: saved.path().to_path_buf(), reason: error.to_string() })
    }

    /// Checks that a training of this job can be at this position.
    fn check(&self, step: u64, job: &Job) -> Result<(), String> {
        let (epochs, images) = (job.config.train.epochs as u64, job.train.len() as u64);
        let bounds = Bounds { epochs, steps_per_epoch: job.steps_per_epoch(), images };
        let Results { steps, epochs, .. } = self.position.results;
        self.position.check(&bounds)?;
        if step != steps || self.updates > steps {
            return Err(format!("{steps} steps and {} updates in the state of step {step}", self.updates));
        }
        if let Some([epoch, step]) = self.lowest.filter(|[epoch, step]| *epoch > epochs || *step > steps) {
            return Err(format!("weights of epoch {epoch} and step {step}"));
        }
        let Some((start, updates)) = &self.start else { return Ok(()) };
        start.check(&bounds)?;
        match start.index == 0 && start.results.epochs == epochs && *updates <= self.updates {
            true => Ok(()),
            false => Err("`start` is not the start of the epoch".to_string()),
        }
    }

    /// Whether a training resumed from here can roll back to the start of the epoch.
    pub fn can_go_back(&self) -> bool {
        self.position.index == 0 || self.start.is_some()
    }

    /// What had been reached.
    pub fn results(&self) -> &Results {
        &self.position.results
    }
}

/// The writer, limits, clocks and listener of a training.
pub(super) struct Context<'a> {
    pub writer: CheckpointWriter,
    pub started: Instant,
    /// When this piece of the run began, and the seconds of those before it.
    pub clock: (Instant, f64),
    /// When the last line of `timing.jsonl` about steps was written.
    pub line: Instant,
    /// Whether the next step is the first since the program started.
    pub is_first_step: bool,
    /// When the last checkpoint was saved, and at which step.
    pub saved: (Instant, u64),
    /// Time of the last step.
    pub step_time: Duration,
    /// Time of the last validation.
    pub validation_time: Option<Duration>,
    /// Estimated time of a validation, in steps, until the first one.
    pub validation_steps: f64,
    pub limits: &'a Limits<'a>,
    pub listen: &'a mut dyn FnMut(Event),
}

impl Context<'_> {
    /// Whether the training must end after this step, and why; `left` steps later, the model is validated.
    pub fn end(&self, left: u64) -> Option<Status> {
        if self.limits.stop.load(Ordering::Relaxed) {
            return Some(Status::Interrupted);
        }
        let validation = || self.validation_time.unwrap_or_else(|| self.step_time.mul_f64(self.validation_steps));
        let margin = margin(self.step_time, left, validation);
        self.limits.until.is_some_and(|until| Instant::now() + margin >= until).then_some(Status::MaxTime)
    }

    /// Seconds of the run so far, over all its pieces.
    pub fn seconds(&self) -> f64 {
        self.clock.1 + self.clock.0.elapsed().as_secs_f64()
    }

    pub fn is_time_to_save(&self, step: u64) -> bool {
        match self.limits.save_every {
            SaveEvery::Steps(steps) => step >= self.saved.1 + steps,
            SaveEvery::Time(time) => self.saved.0.elapsed() >= time,
        }
    }

    /// Reports to the listener whether writing works.
    ///
    /// # Errors
    /// When the run folder is gone: further training would be lost.
    pub fn report_write_status(&mut self) -> Result<(), TrainError> {
        match self.writer.take_status() {
            Some(WriteStatus::Failing(error)) if error.is_final() => return Err(error.into()),
            Some(WriteStatus::Failing(error)) => (self.listen)(Event::CannotWrite(&error)),
            Some(WriteStatus::Recovered) => (self.listen)(Event::WritesRecovered),
            None => {}
        }
        self.report_events();
        Ok(())
    }
}

impl Context<'_> {
    /// Reports to the listener that the event file cannot be written, once.
    fn report_events(&mut self) {
        if let Some(error) = self.writer.take_events_error() {
            (self.listen)(Event::CannotWriteEvents(&error));
        }
    }
}

/// The time that one more step, and validation if it follows, may take.
fn margin(step: Duration, left: u64, validation: impl FnOnce() -> Duration) -> Duration {
    2 * step + if left == 1 { validation() } else { Duration::ZERO }
}

impl Training {
    /// Initializes the weights and starts the writer thread.
    ///
    /// # Errors
    /// When that thread cannot be started.
    pub fn new(job: Job) -> Result<Self, TrainError> {
        let writer_thread = Some(WriterThread::start()?);
        let (session, augment, board) = (job.session(), job.augment(), Board::of(&job));
        Ok(Training {
            metadata: job.metadata(),
            graph: Arc::new(job.model.graph.clone()),
            job,
            session,
            augment,
            buffers: BufferPool::default(),
            position: Position::start(),
            lowest: None,
            start: None,
            board,
            journal: None,
            writer_thread,
        })
    }

    /// Resumes from a checkpoint: every later step equals that of the run that saved it.
    ///
    /// # Errors
    /// When the checkpoint belongs to another model, or the writer thread cannot be started.
    pub fn resume(job: Job, saved: &SavedState) -> Result<Self, TrainError> {
        let mut training = Training::new(job)?;
        let about = CheckpointInfo::of(saved)?;
        about.check(saved.step(), &training.job).map_err(|reason| {
            let path = saved.path().to_path_buf();
            TrainError::State { path, reason }
        })?;
        let CheckpointInfo { updates, position, lowest, start, .. } = about;
        let (graph, tensors) = (training.graph.clone(), saved.tensors()?);
        let like = training.session.optimizer_state().moments;
        let optimizer = |prefix: &str, updates| -> Result<OptimizerState, TrainError> {
            let sets = (1..).zip(&like);
            let sets = sets.map(|(number, like)| tensors.moment(&graph, &format!("{prefix}moment{number}"), like));
            Ok(OptimizerState { updates, moments: sets.collect::<Result<_, _>>()? })
        };
        training.session.restore(&tensors.parameters(&graph, "weights")?, &optimizer("", updates)?);
        training.position = position;
        if let Some([epoch, step]) = lowest {
            let parameters = Arc::new(tensors.parameters(&graph, "lowest.weights")?);
            training.lowest = Some(KeptWeights { parameters, epoch, step });
        }
        if let Some((position, updates)) = start {
            let parameters = Arc::new(tensors.parameters(&graph, "start.weights")?);
            training.start = Some(EpochStart { position, parameters, optimizer: optimizer("start.", updates)? });
        }
        training.journal = Some(*saved.journal());
        Ok(training)
    }

    /// What is trained, and on which images.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// Trains to the end or to a limit. `timing.jsonl` counts from `started`.
    ///
    /// # Errors
    /// When the loss becomes NaN or infinite, or results cannot be written. The run's manifest records it.
    pub fn run(
        &mut self,
        run: &mut Run,
        started: Instant,
        limits: &Limits,
        listen: &mut dyn FnMut(Event),
    ) -> Result<Outcome, TrainError> {
        let ended = self.train(run, started, limits, listen);
        let recorded = persist(|| {
            run.update(|manifest| {
                manifest.status = *ended.as_ref().unwrap_or(&Status::Failed);
                manifest.finished = Some(now_utc());
                manifest.results = Some(self.position.results.clone());
            })
        });
        let status =
            ended.and_then(|status| Ok(recorded.map(|()| status)?)).map_err(|error| error.in_run(run.folder()))?;
        if status == Status::Finished {
            // Everything is on disk; the checkpoint before the last one is not needed any more.
            forget_all_but(run.files(), 1);
        }
        Ok(Outcome { status, results: self.position.results.clone() })
    }

    fn train(
        &mut self,
        run: &Run,
        started: Instant,
        limits: &Limits,
        listen: &mut dyn FnMut(Event),
    ) -> Result<Status, TrainError> {
        let now = Instant::now();
        let thread = self.writer_thread.take().map_or_else(WriterThread::start, Ok)?;
        let head = self.board.as_ref().map(|_| Board::head(&self.job));
        let mut context = Context {
            writer: CheckpointWriter::start(thread, run, self.journal.as_ref(), head)?,
            started,
            clock: (now, self.position.results.seconds),
            line: now,
            is_first_step: true,
            saved: (now, self.position.results.steps),
            step_time: Duration::ZERO,
            validation_time: None,
            validation_steps: self.job.validation_steps(),
            limits,
            listen,
        };
        let ended = self.epochs(&mut context);
        // The steps after the last line, which `hand_in_lowest` has seen. They come after the last checkpoint, so a resumed
        // run cuts them off.
        self.hand_in_line(&context);
        if let Some(board) = &mut self.board {
            let ended = ended.as_ref().map_err(|_| ()).copied();
            board.hand_in_end(ended, self.position.results.steps, &context.writer);
        }
        self.position.results.seconds = context.seconds();
        let reported = context.report_write_status();
        // After an error too: what was handed in before it is right.
        let kept = context.writer.finish();
        context.report_events();
        let status = ended?;
        reported?;
        kept?;
        Ok(status)
    }

    fn epochs(&mut self, context: &mut Context) -> Result<Status, TrainError> {
        let done = self.position.results.steps;
        if done >= self.job.steps() {
            // It was killed after its last checkpoint: the records of its end are still to be written.
            if self.position.index == 0 {
                self.hand_in_lowest(true, context);
                return Ok(if self.is_last_epoch() { Status::Finished } else { Status::MaxSteps });
            }
            let rate = self.job.config.train.learning_rate(done - 1, self.job.steps_per_epoch());
            return self.end_epoch(false, rate * self.position.lr_factor, Some(Status::MaxSteps), context);
        }
        loop {
            match self.epoch(context)? {
                Status::Running => {}
                status => return Ok(status),
            }
        }
    }

    pub(super) fn is_last_epoch(&self) -> bool {
        self.position.results.epochs == self.job.config.train.epochs as u64
    }

    /// Queues a checkpoint, between two steps. `parameters` is a shared copy of the session's.
    pub(super) fn save_state(&mut self, parameters: &Arc<Parameters>, context: &mut Context) {
        if first_tensor(&self.graph, parameters, |_| true).is_some() {
            // Nothing can resume from there; the next step will report the NaN or infinite values.
            return;
        }
        self.position.results.seconds = context.seconds();
        let mut sets = vec![("weights".to_string(), parameters.clone())];
        let optimizer = self.session.optimizer_state();
        let add = |sets: &mut Vec<_>, prefix: &str, moments: Vec<Parameters>| {
            for (number, moment) in (1..).zip(moments) {
                sets.push((format!("{prefix}moment{number}"), Arc::new(moment)));
            }
        };
        add(&mut sets, "", optimizer.moments);
        if let Some(kept) = &self.lowest {
            sets.push(("lowest.weights".to_string(), kept.parameters.clone()));
        }
        if let Some(start) = &self.start {
            sets.push(("start.weights".to_string(), start.parameters.clone()));
            add(&mut sets, "start.", start.optimizer.moments.clone());
        }
        let about = CheckpointInfo {
            config: self.job.config.to_toml(),
            instruction_set: Isa::best().name().to_string(),
            updates: optimizer.updates,
            position: self.position.clone(),
            lowest: self.lowest.as_ref().map(|kept| [kept.epoch, kept.step]),
            start: self.start.as_ref().map(|start| (start.position.clone(), start.optimizer.updates)),
        };
        let step = self.position.results.steps;
        let about = serde_json::to_value(about).expect("a position is plain numbers and texts");
        context.writer.state(StateParts { graph: self.graph.clone(), step, about, sets });
        context.saved = (Instant::now(), step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_margin_includes_validation_when_the_next_step_ends_an_epoch() {
        let (step, look) = (Duration::from_secs(3), Duration::from_secs(50));
        let seconds = |left| margin(step, left, || look).as_secs();
        assert_eq!([0, 1, 2, 700].map(seconds), [6, 56, 6, 6]);
    }
}
