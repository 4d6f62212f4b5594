//! Starts and resumes runs.
//!
//! A run folder is claimed before its files are read, so that no other process changes them meanwhile.

use std::path::Path;
use std::time::Instant;

use vitreous_engine::Isa;

use super::{ExperimentError, Prepared};
use crate::advice::{Note, Suggestion};
use crate::checkpoint::{BestWeights, Found, SavedState, find_state, remove_leftovers};
use crate::config::ResolvedConfig;
use crate::config::difference::{became, changes, flat_config, shown};
use crate::numbers;
use crate::plots::{PlotChoice, TrainingPlots};
use crate::record::{DataRecord, Manifest, Piece, Place, Run, Status, is_name, now_utc, was_begun};
use crate::train::{CheckpointInfo, Event, Job, Limits, Outcome, TrainError, Training};

/// Keys that may change when a run is resumed: where it ends, and what to do on a NaN or infinite loss.
const CHANGEABLE: [&str; 3] = ["train.epochs", "train.max_steps", "train.on_nonfinite"];

/// A run and its training, between two steps.
pub struct TrainingRun {
    run: Run,
    training: Training,
    plots: Option<PlotChoice>,
}

/// An earlier run, claimed for this process.
pub struct EarlierRun {
    run: Run,
    saved: Option<SavedState>,
    info: Option<CheckpointInfo>,
    /// Checkpoints that cannot be used, another processor or version.
    notes: Vec<String>,
}

impl TrainingRun {
    /// Creates a run folder and initializes the training.
    ///
    /// # Errors
    /// When the folder cannot be made, or a thread cannot be started.
    pub fn start(place: Place, job: Job, command: Vec<String>) -> Result<TrainingRun, ExperimentError> {
        let (toml, manifest) = (job.config().to_toml(), job.manifest(command));
        // Before the folder is made: a training that cannot start leaves none.
        let training = Training::new(job)?;
        Ok(TrainingRun { run: place.create(&toml, manifest)?, training, plots: None })
    }

    /// Has the plots of the training drawn after its epochs; without this call there are none.
    pub fn draw(&mut self, choice: PlotChoice) {
        self.plots = Some(choice);
    }

    /// Trains the run to its end, or to a limit.
    ///
    /// # Errors
    /// When the loss becomes NaN or infinite, or results cannot be written.
    pub fn train(
        &mut self,
        started: Instant,
        limits: &Limits,
        listen: &mut dyn FnMut(Event),
    ) -> Result<Outcome, TrainError> {
        let TrainingRun { run, training, plots } = self;
        let Some(choice) = plots.take() else { return training.run(run, started, limits, listen) };
        let job = training.job();
        let mut plots = TrainingPlots::start(choice, run, job.config(), job.train_set());
        let outcome = training.run(run, started, limits, &mut |event| {
            if let Event::Epoch { row, .. } = event {
                plots.epoch(row);
            }
            listen(event);
        });
        if let Err(error) = plots.finish() {
            listen(Event::NoPlots(&error));
        }
        outcome
    }

    /// The run.
    pub fn run(&self) -> &Run {
        &self.run
    }
}

/// Refuses a run that has no checkpoint any more.
fn check_no_steps(run: &Run) -> Result<(), ExperimentError> {
    let path = run.folder().to_path_buf();
    match steps_with_state(run.manifest()) {
        // Its last checkpoint was written before its status.
        Some(_) if run.manifest().status.is_finished() => Err(ExperimentError::Cleaned { path }),
        Some(steps) => Err(ExperimentError::NoCheckpoint { steps, path }),
        None => Ok(()),
    }
}

impl EarlierRun {
    /// Locks a run and finds its last checkpoint; a run that was killed before its first one starts again.
    ///
    /// # Errors
    /// When it is not a run, another process trains in it, or its checkpoints are damaged or gone.
    pub fn open(folder: &Path) -> Result<EarlierRun, ExperimentError> {
        let run = Run::open_to_train(folder)?;
        remove_leftovers(&run);
        let Found { state, refused } = find_state(run.files());
        let step = |state: &SavedState| numbers::count(state.step());
        let mut notes: Vec<String> = match &state {
            Some(saved) => {
                refused.iter().map(|error| format!("{error}; the one of step {} is used", step(saved))).collect()
            }
            None => match refused.into_iter().next() {
                Some(error) => return Err(error.into()),
                None => Vec::new(),
            },
        };
        // A finished run whose checkpoints were removed (`runs clean`) has nothing left to train.
        if state.is_none() && !run.manifest().status.is_finished() {
            check_no_steps(&run)?;
        }
        let info = state.as_ref().map(CheckpointInfo::of).transpose()?;
        let here = Isa::best().name();
        let before = info.as_ref().map_or(&run.manifest().machine.instruction_set, |info| &info.instruction_set);
        if before != here {
            notes.push(format!(
                "the run was computed with {before}, this processor has {here}: its numbers will not be the same bits"
            ));
        }
        let (version, own) = (&run.manifest().version, env!("CARGO_PKG_VERSION"));
        if version != own {
            notes.push(format!("the run was started by version {version}, this is {own}: numbers may differ"));
        }
        Ok(EarlierRun { run, saved: state, info, notes })
    }

    /// Opens the run of this name in a folder of runs, if there is one. The folder of a run that was killed before its
    /// manifest was written does not count: it is replaced when the run is created.
    ///
    /// # Errors
    /// As [`EarlierRun::open`].
    pub fn find(out: &Path, name: &str) -> Result<Option<EarlierRun>, ExperimentError> {
        let folder = out.join(name);
        let is_there = folder.exists() && is_name(name) && !was_begun(&folder);
        is_there.then(|| EarlierRun::open(&folder)).transpose()
    }

    /// The run.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// Checkpoints that cannot be used, and another processor or version than before.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Whether it has a checkpoint; without one it starts again.
    pub fn has_checkpoint(&self) -> bool {
        self.saved.is_some()
    }

    /// Whether it was killed before its first checkpoint, and starts again.
    pub fn starts_again(&self) -> bool {
        self.saved.is_none() && !self.run.manifest().status.is_finished()
    }

    /// Steps up to the checkpoint.
    pub fn step(&self) -> u64 {
        self.saved.as_ref().map_or(0, SavedState::step)
    }

    /// The note that states where the run resumes.
    pub fn resume_point(&self) -> String {
        match &self.saved {
            Some(saved) => format!("resumes after step {}", numbers::count(saved.step())),
            None => "starts again from the beginning, with the same results: it has no checkpoint".to_string(),
        }
    }

    /// Checks that a config can resume the run, before an image is loaded. Returns a note if the run has reached the end
    /// that the config gives it, so that nothing is left to train.
    ///
    /// # Errors
    /// When something changes that may not, or the run has no checkpoint any more.
    pub fn check(&self, prepared: &Prepared) -> Result<Option<Note>, ExperimentError> {
        let config = prepared.config_of(&self.run);
        let end = self.end(&config);
        if end.is_none() {
            self.check_checkpoint()?;
        }
        self.changes(&config.to_toml())?;
        Ok(end)
    }

    /// How the run ended, if it has reached the end that a config gives it, and how it can be continued.
    fn end(&self, config: &ResolvedConfig) -> Option<Note> {
        let manifest = self.run.manifest();
        let results = manifest.results.as_ref()?;
        let (epochs, limit) = (config.train.epochs, config.train.max_steps);
        let (end, key) = match manifest.status {
            Status::Finished if results.epochs >= epochs as u64 => {
                (format!("all epochs are done ({epochs})"), "train.epochs")
            }
            Status::MaxSteps if limit.is_some_and(|limit| results.steps >= limit) => {
                (format!("its step limit is reached (max_steps {})", results.steps), "train.max_steps")
            }
            _ => return None,
        };
        let note = Note::new(format!("{}: nothing is left to train, {end}", self.run.folder().display()));
        let more = Suggestion::new().text("to train the run further, use a larger").key(key);
        Some(if self.check_checkpoint().is_ok() { note.suggest(more) } else { note })
    }

    /// Refuses to train a run further that has taken steps, and has no checkpoint any more.
    fn check_checkpoint(&self) -> Result<(), ExperimentError> {
        if self.info.is_none() { check_no_steps(&self.run) } else { Ok(()) }
    }

    /// Compares a config with that of the run, and returns the permitted changes.
    fn changes(&self, config_toml: &str) -> Result<Vec<String>, ExperimentError> {
        let text = match &self.info {
            Some(info) => info.config.clone(),
            None => self.run.config()?,
        };
        let (before, now) = (flat_config(&text, "config.toml")?, flat_config(config_toml, "config.toml")?);
        let results = self.info.as_ref().map(CheckpointInfo::results);
        let mut allowed = Vec::new();
        for (key, from, to) in changes(&before, &now) {
            let change = became(key, from, to);
            let path = self.run.folder().to_path_buf();
            let last = |value: Option<&toml::Value>| Path::new(value?.as_str()?).file_name().map(ToOwned::to_owned);
            // The same folder from elsewhere: whether it contains the same images is checked later.
            let is_elsewhere = key == "data.name" && last(from).is_some() && last(from) == last(to);
            if !CHANGEABLE.contains(&key) && !is_elsewhere {
                if key == "train.warmup_epochs" && before.get("train.epochs") != now.get("train.epochs") {
                    let epochs = became("train.epochs", before.get("train.epochs"), now.get("train.epochs"));
                    let own = from.cloned().unwrap_or(toml::Value::Integer(0));
                    return Err(ExperimentError::OtherWarmup { epochs, change, own, path });
                }
                return Err(ExperimentError::OtherConfig { change, path });
            }
            let epochs = |value: Option<&toml::Value>| value.and_then(toml::Value::as_integer).unwrap_or(0);
            if key == "train.epochs" && epochs(to) < epochs(from) {
                return Err(ExperimentError::Shorter { change, path });
            }
            let is_whole = self.run.manifest().results.as_ref().map(|results| results.steps)
                == results.map(|results| results.steps);
            if key == "train.epochs" && !is_whole {
                return Err(ExperimentError::NotEnded { change, path });
            }
            let can_go_back = self.info.as_ref().is_none_or(CheckpointInfo::can_go_back);
            if key == "train.on_nonfinite" && shown(to) == "rollback" && !can_go_back {
                return Err(ExperimentError::NoEpochStart { change, path });
            }
            allowed.push(change);
        }
        // These do not change a run, but they are noted.
        for key in ["data.dir", "train.log_interval", "train.tensorboard"] {
            if before.get(key) != now.get(key) {
                allowed.push(became(key, before.get(key), now.get(key)));
            }
        }
        // Which weights are kept hangs on the lines of the metrics there, and on nothing else.
        let keeps = now.get("train.keep").and_then(toml::Value::as_str) == Some("lowest-train-loss");
        if keeps && before.get("train.log_interval") != now.get("train.log_interval") {
            return Err(ExperimentError::LogInterval);
        }
        Ok(allowed)
    }

    /// Resumes the run with a job of the same images and the same config, in which only what is permitted may have changed:
    /// the manifest records it. Returns notes on these changes, and on renamed files.
    ///
    /// # Errors
    /// When something else has changed, the images are not those of the run, or its files cannot be read or written.
    pub fn resume(mut self, job: Job, command: Vec<String>) -> Result<(TrainingRun, Vec<String>), ExperimentError> {
        self.check_checkpoint()?;
        let toml = job.config().to_toml();
        let changes = self.changes(&toml)?;
        let renamed = check_data(&self.run, job.data())?;
        let piece = Piece {
            started: now_utc(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            command,
            from_step: self.step(),
            machine: job.machine(),
            changes: changes.clone(),
        };
        let training = match &self.saved {
            Some(saved) => Training::resume(job, saved)?,
            None => Training::new(job)?,
        };
        BestWeights::go_back(self.run.files(), self.saved.as_ref()).map_err(TrainError::from)?;
        if !changes.is_empty() {
            self.run.replace_config(&toml)?;
        }
        self.run.update(|manifest| {
            manifest.status = Status::Running;
            manifest.finished = None;
            manifest.resumed.push(piece);
        })?;
        Ok((TrainingRun { run: self.run, training, plots: None }, changes.into_iter().chain(renamed).collect()))
    }
}

/// Steps of a run that must have had a checkpoint: it was resumed from one, or ended in order. A run whose disk never took
/// a checkpoint, or that failed before the first, had none, and nothing is lost by starting it again.
fn steps_with_state(manifest: &Manifest) -> Option<u64> {
    let ended = matches!(manifest.status, Status::Finished | Status::MaxSteps | Status::MaxTime | Status::Interrupted);
    let reached = manifest.results.as_ref().map(|results| results.steps).filter(|_| ended);
    let resumed = manifest.resumed.iter().map(|piece| piece.from_step).max().filter(|step| *step > 0);
    reached.or(resumed)
}

/// Rejects images that are not those of the run; renamed files are allowed, with a note.
fn check_data(run: &Run, found: &DataRecord) -> Result<Option<String>, ExperimentError> {
    let before = &run.manifest().data;
    let has_classes = before.class_names == found.class_names;
    if before.fingerprint == found.fingerprint && has_classes {
        return Ok(None);
    }
    if before.are_same_images(&found.fingerprint, found.content.as_ref()) && has_classes {
        return Ok(Some("files have other names than before, but hold the same images in the same order".to_string()));
    }
    if before.content.is_none() && before.forced.is_none() && found.forced.is_some() {
        return Err(ExperimentError::OldSplit { name: found.name.clone() });
    }
    let in_any_order = |data: &DataRecord| data.content.as_ref().map(|content| content.in_any_order.clone());
    let counted = |name: &str, before: usize, now: usize| format!("{name} {}, now {}", before, now);
    let what = if !has_classes {
        format!("classes {}, now {}", before.class_names.join(","), found.class_names.join(","))
    } else if before.train != found.train {
        counted("training images", before.train, found.train)
    } else if before.validation != found.validation {
        counted("validation images", before.validation, found.validation)
    } else if before.skipped.len() != found.skipped.len() {
        counted("images that cannot be decoded", before.skipped.len(), found.skipped.len())
    } else if before.content.is_some() && in_any_order(before) == in_any_order(found) {
        "files have other names, so that the same images come in another order".to_string()
    } else {
        "the images or their labels are not the same, though there are as many".to_string()
    };
    Err(ExperimentError::DataChanged { what, name: found.name.clone() })
}
