//! Trains and evaluates the runs of a sweep, several side by side.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::plan::check_no_run;
use super::{PlannedRun, State, Sweep, SweepError};
use crate::data::SplitName;
use crate::experiment::{self, EarlierRun, EvaluateOptions, ExperimentError, Prepared, TrainingRun, evaluate};
use crate::parallel::on_threads;
use crate::record::{Claim, Folder, Place, RecordError, Run, Status};
use crate::train::{Job, Limits, Outcome, SaveEvery};

/// How often a run saves a checkpoint.
const SAVE_EVERY: SaveEvery = SaveEvery::Time(Duration::from_secs(300));

/// Something that happens in a sweep.
pub enum SweepEvent<'a> {
    /// A run starts or is resumed.
    Started {
        /// Its place, from 0.
        index: usize,
        /// Its name.
        run: &'a str,
    },
    /// Its images are loaded, and it starts after so many steps.
    Loaded {
        /// Its name.
        run: &'a str,
        /// Its training.
        job: &'a Job,
        /// Steps before.
        step: u64,
        /// From where it is resumed.
        resumed: Option<String>,
    },
    /// Something happens in a run.
    Run {
        /// Its name.
        run: &'a str,
        /// What happens.
        event: experiment::Event<'a>,
    },
    /// A run was trained.
    Trained {
        /// Its name.
        run: &'a str,
    },
    /// A run was evaluated.
    Evaluated {
        /// Its name.
        run: &'a str,
        /// The accuracies that were not known before.
        accuracies: &'a [(SplitName, f64)],
        /// What the run and its evaluation took now, where it is known.
        seconds: Option<f64>,
    },
    /// A run failed; the others are still trained.
    Failed {
        /// Its name.
        run: &'a str,
    },
    /// The winner is about to be evaluated on the test split.
    TestsWinner {
        /// Its setting.
        setting: &'a str,
        /// Whether the sweep reproduces a published table.
        reproduces: bool,
        /// Other settings that were evaluated on the test split before.
        tested: &'a [String],
    },
}

/// Receives the events of a sweep, from several threads.
pub type SweepListener<'a> = &'a (dyn Fn(SweepEvent) + Sync);

/// A sweep whose runs this process may train: all of them, or in turns with other processes.
pub struct ClaimedSweep<'a> {
    pub(super) sweep: &'a Sweep,
    /// The claim on the folder; absent where other processes train here too, and each claims its run alone.
    claim: Option<Claim>,
    pub(super) stop: &'a AtomicBool,
    pub(super) listener: SweepListener<'a>,
}

/// A run that failed, and why.
pub type FailedRun = (String, ExperimentError);

impl Sweep {
    /// Locks the folder of the sweep, and finds out again how far its runs are.
    ///
    /// # Errors
    /// When another process trains in it, or it cannot be written.
    pub fn claim<'a, E: From<ExperimentError> + From<SweepError>>(
        &'a mut self,
        stop: &'a AtomicBool,
        listener: SweepListener<'a>,
    ) -> Result<ClaimedSweep<'a>, E> {
        let made = std::fs::create_dir_all(&self.folder).map_err(|error| RecordError::write(&self.folder, &error));
        made.map_err(ExperimentError::from)?;
        let claim = Claim::of(&self.folder).map_err(ExperimentError::from)?;
        // Again: another process may have trained here until now, or have made a run of its name.
        check_no_run(&self.folder)?;
        self.runs.iter_mut().try_for_each(PlannedRun::look::<E>)?;
        Ok(ClaimedSweep { sweep: self, claim: Some(claim), stop, listener })
    }

    /// Joins other processes that train runs of the sweep, such as the tasks of a job array.
    pub fn join<'a>(&'a self, stop: &'a AtomicBool, listener: SweepListener<'a>) -> ClaimedSweep<'a> {
        ClaimedSweep { sweep: self, claim: None, stop, listener }
    }
}

impl ClaimedSweep<'_> {
    /// The sweep.
    pub fn sweep(&self) -> &Sweep {
        self.sweep
    }

    /// Trains and evaluates all runs, until none is left or the sweep is to stop. Returns those that failed.
    pub fn train(&self) -> Vec<FailedRun> {
        let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        on_threads(self.sweep.options.jobs, || self.take_turns(&next, &failed));
        failed.into_inner().expect("no thread panics with the lock")
    }

    /// Whether the sweep is to stop.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Checks that the folder of the sweep is still there.
    ///
    /// # Errors
    /// When it was moved or deleted.
    pub fn check(&self) -> Result<(), ExperimentError> {
        Ok(self.claim.as_ref().map_or(Ok(()), Claim::check)?)
    }

    /// Trains and evaluates one run: the one at the place `first`, or the next that is open. A run is open if it is not
    /// done and no other process trains it; one that failed is tried again only as the first. Returns the run's name, if
    /// there was one.
    ///
    /// # Errors
    /// When the run fails, or a run's folder holds something else.
    pub fn train_next<E: From<ExperimentError> + From<SweepError>>(&self, first: usize) -> Result<Option<&str>, E> {
        let runs = &self.sweep.runs;
        for index in (first..runs.len()).chain(0..first.min(runs.len())) {
            let run = &runs[index];
            let state = run.state_now::<E>()?;
            let has_failed = index != first && run.has_failed();
            if self.is_stopped() || has_failed || (state == State::Done && self.is_evaluated(run)) {
                continue;
            }
            match self.take(index, run, state) {
                Err(error) if is_taken(&error) => {}
                Err(error) => {
                    (self.listener)(SweepEvent::Failed { run: &run.name });
                    return Err(error.into());
                }
                Ok(()) => return Ok(Some(&run.name)),
            }
        }
        Ok(None)
    }

    /// As [`ClaimedSweep::finish`], but one process at a time evaluates a run.
    fn take(&self, index: usize, run: &PlannedRun, state: State) -> Result<(), ExperimentError> {
        let started = Instant::now();
        if !self.train_open(index, run, state, started)? {
            return Ok(());
        }
        match Claim::of(&run.folder) {
            Ok(_evaluating) => self.evaluate_all(run, started),
            // A process that has found it trained evaluates it.
            Err(RecordError::Busy { .. }) if state != State::Done => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a run that is done was evaluated on all its splits. One that has lost its weights cannot be any more, which
    /// must not keep others from being trained.
    fn is_evaluated(&self, run: &PlannedRun) -> bool {
        let Ok(found) = Run::open(&run.folder) else { return true };
        let Ok((weights, _)) = found.find_weights(None) else { return true };
        run.splits.iter().all(|&split| found.manifest().evaluation_of(split, weights).is_some())
    }

    /// The folder of the sweep, to write into.
    pub(super) fn folder(&self) -> Result<Folder, ExperimentError> {
        match &self.claim {
            Some(claim) => Ok(claim.folder().clone()),
            None => {
                Ok(Folder::open(&self.sweep.folder).map_err(|error| RecordError::write(&self.sweep.folder, &error))?)
            }
        }
    }

    fn take_turns(&self, next: &AtomicUsize, failed: &Mutex<Vec<FailedRun>>) {
        while !self.is_stopped() {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(run) = self.sweep.runs.get(index) else { break };
            // If the sweep's folder was moved, runs would be created in a new one.
            if let Err(error) = self.check().and_then(|()| self.finish(index, run, run.state)) {
                (self.listener)(SweepEvent::Failed { run: &run.name });
                failed.lock().expect("no thread panics with the lock").push((run.name.clone(), error));
            }
        }
    }

    /// Trains and evaluates a run, as far as that is not done.
    fn finish(&self, index: usize, run: &PlannedRun, state: State) -> Result<(), ExperimentError> {
        let started = Instant::now();
        if self.train_open(index, run, state, started)? { self.evaluate_all(run, started) } else { Ok(()) }
    }

    /// Trains a run that is not done; returns whether it is done then.
    fn train_open(
        &self,
        index: usize,
        run: &PlannedRun,
        state: State,
        started: Instant,
    ) -> Result<bool, ExperimentError> {
        if state == State::Done {
            return Ok(true);
        }
        let earlier = (state == State::Begun).then(|| EarlierRun::open(&run.folder)).transpose()?;
        (self.listener)(SweepEvent::Started { index, run: &run.name });
        Ok(self.train_run(run, earlier, started)?.status != Status::Interrupted)
    }

    /// Evaluates a run on the splits on which it was not evaluated before.
    fn evaluate_all(&self, run: &PlannedRun, started: Instant) -> Result<(), ExperimentError> {
        let mut accuracies = Vec::new();
        for &split in &run.splits {
            if self.is_stopped() {
                return Ok(());
            }
            accuracies.extend(self.evaluate(run, split)?.map(|accuracy| (split, accuracy)));
        }
        let seconds = Some(started.elapsed().as_secs_f64());
        (self.listener)(SweepEvent::Evaluated { run: &run.name, accuracies: &accuracies, seconds });
        Ok(())
    }

    /// Evaluates a run on a split, unless that was done before.
    pub(super) fn evaluate(&self, run: &PlannedRun, split: SplitName) -> Result<Option<f64>, ExperimentError> {
        let earlier = Run::open(&run.folder)?;
        let (weights, _) = earlier.find_weights(None)?;
        if earlier.manifest().evaluation_of(split, weights).is_some() {
            return Ok(None);
        }
        let options = EvaluateOptions {
            split: Some(split),
            threads: self.sweep.threads,
            default_data_dir: run.checked.config().data.dir.clone(),
            plots: self.sweep.options.plots.clone(),
            ..EvaluateOptions::default()
        };
        let evaluated = evaluate(&run.folder, &options, &|event| self.tell(run, event))?;
        evaluated.written?;
        Ok(Some(evaluated.report.reached.accuracy()))
    }

    fn tell(&self, run: &PlannedRun, event: experiment::Event) {
        (self.listener)(SweepEvent::Run { run: &run.name, event });
    }

    /// Trains a run from its start, or from its last checkpoint.
    fn train_run(
        &self,
        run: &PlannedRun,
        earlier: Option<EarlierRun>,
        started: Instant,
    ) -> Result<Outcome, ExperimentError> {
        let out = run.folder.parent().unwrap_or(Path::new("."));
        let listener = |event: experiment::Event| self.tell(run, event);
        let note = |text: &str| self.tell(run, experiment::Event::Note(text));
        let job = Prepared::new(&run.checked, &listener)?.load(&listener)?;
        (self.listener)(SweepEvent::Loaded {
            run: &run.name,
            job: &job,
            step: earlier.as_ref().map_or(0, EarlierRun::step),
            resumed: earlier.as_ref().map(EarlierRun::resume_point),
        });
        job.dropped_batch().iter().for_each(|problem| note(&format!("{}; {}", problem.what, problem.fix)));
        let command = self.sweep.options.command.clone();
        let mut training = match earlier {
            Some(earlier) => {
                earlier.notes().iter().for_each(|text| note(text));
                let (training, notes) = earlier.resume(job, command)?;
                notes.iter().for_each(|text| note(text));
                training
            }
            None => TrainingRun::start(Place::choose(out, Some(&run.name), &run.name)?, job, command)?,
        };
        if let Some(choice) = self.sweep.options.plots.clone() {
            training.draw(choice);
        }
        let limits = Limits { stop: self.stop, until: None, save_every: SAVE_EVERY };
        let outcome = training.train(started, &limits, &mut |event| self.tell(run, experiment::Event::Training(event)));
        (self.listener)(SweepEvent::Trained { run: &run.name });
        Ok(outcome?)
    }
}

/// Whether an error says that another process has a run.
fn is_taken(error: &ExperimentError) -> bool {
    let ExperimentError::Record(error) = error else { return false };
    matches!(error, RecordError::Busy { .. } | RecordError::Changing { .. } | RecordError::Exists { .. })
}
