//! Runs that go on: `train --resume`, and a sweep that meets one that did not end.
//!
//! A run is claimed before anything of it is read for good, so that no other process changes it meanwhile.

use std::path::Path;
use std::time::Instant;

use vitreous_engine::Isa;

use super::CliError;
use crate::checkpoint::{BestWeights, Found, SavedState, find_state, remove_leftovers};
use crate::config::Config;
use crate::config::difference::{became, changes, flat_config, shown};
use crate::numbers;
use crate::record::{DataRecord, Manifest, Piece, Place, Run, Status, now_utc};
use crate::train::{CheckpointInfo, Event, Job, Limits, Outcome, TrainError, Training};

/// Keys that may be changed when a run goes on: they say where it ends, and what happens when it goes astray.
const CHANGEABLE: [&str; 3] = ["train.epochs", "train.max_steps", "train.on_nonfinite"];

/// A run that was begun before, claimed for this process.
pub struct Begun {
    pub run: Run,
    saved: Option<SavedState>,
    about: Option<CheckpointInfo>,
    /// What is to be said: states that cannot be used, and the like.
    pub notes: Vec<String>,
}

/// A run with all that it takes to train it.
pub struct Ready {
    pub run: Run,
    training: Training,
}

impl Ready {
    /// Starts a run in a place of its own.
    pub fn start(place: Place, job: Job, command: Vec<String>) -> Result<Ready, CliError> {
        let (toml, manifest) = (job.config().to_toml(), job.manifest(command));
        // Before the folder is made: a run that cannot begin leaves none.
        let training = Training::new(job)?;
        Ok(Ready { run: place.create(&toml, manifest)?, training })
    }

    /// Trains the run to its end, or to a limit.
    pub fn train(
        &mut self,
        started: Instant,
        limits: &Limits,
        listen: &mut dyn FnMut(Event),
    ) -> Result<Outcome, TrainError> {
        self.training.run(&mut self.run, started, limits, listen)
    }
}

impl Begun {
    /// Claims a run and looks for the state from which it goes on; a run that was killed before its first state starts
    /// again.
    pub fn open(folder: &Path) -> Result<Begun, CliError> {
        let run = Run::open_to_train(folder)?;
        remove_leftovers(&run);
        let Found { state, refused } = find_state(run.files());
        let step = |state: &SavedState| numbers::count(state.step());
        let mut notes: Vec<String> = match &state {
            Some(saved) => {
                refused.iter().map(|error| format!("{error}; the one of step {} is used", step(saved))).collect()
            }
            None => match refused.into_iter().next() {
                Some(error) => return Err(CliError::user(error.to_string(), error.hint())),
                None => Vec::new(),
            },
        };
        if state.is_none()
            && let Some(steps) = steps_with_state(run.manifest())
        {
            let steps = numbers::count(steps);
            let error =
                format!("the run has no state to go on from, though it had taken {steps} steps ({})", folder.display());
            return Err(CliError::user(error, Some("train anew under another --name".to_string())));
        }
        let about = state.as_ref().map(CheckpointInfo::of).transpose()?;
        let here = Isa::best().name();
        let before = about.as_ref().map_or(&run.manifest().machine.instruction_set, |about| &about.instruction_set);
        if before != here {
            notes.push(format!(
                "the run was computed with {before}, this processor has {here}: its numbers will not be the same bits"
            ));
        }
        let (version, own) = (&run.manifest().version, env!("CARGO_PKG_VERSION"));
        if version != own {
            notes.push(format!("the run was begun by version {version}, this is {own}: numbers may differ"));
        }
        Ok(Begun { run, saved: state, about, notes })
    }

    /// Steps that were taken up to the state.
    pub fn step(&self) -> u64 {
        self.saved.as_ref().map_or(0, SavedState::step)
    }

    /// Says from where the run goes on.
    pub fn how_it_goes_on(&self) -> String {
        match &self.saved {
            Some(saved) => format!("goes on after step {}", numbers::count(saved.step())),
            None => "starts again from the beginning, with the same results: no state of it was saved".to_string(),
        }
    }

    /// Whether the run has come to the end that these settings give it: nothing is left to train.
    pub fn is_done(&self, config: &Config) -> bool {
        let Some(results) = &self.run.manifest().results else { return false };
        let is_limit = config.train.max_steps.is_some_and(|steps| results.steps >= steps);
        match self.run.manifest().status {
            Status::Finished => results.epochs >= config.train.epochs as u64,
            Status::MaxSteps => is_limit,
            _ => false,
        }
    }

    /// Compares a config with the one the run was made with, and returns what changes as it may.
    pub fn changes(&self, config_toml: &str) -> Result<Vec<String>, CliError> {
        let text = match &self.about {
            Some(about) => about.config.clone(),
            None => self.run.config()?,
        };
        let (before, now) = (flat_config(&text, "config.toml")?, flat_config(config_toml, "config.toml")?);
        let results = self.about.as_ref().map(CheckpointInfo::results);
        let mut allowed = Vec::new();
        for (key, from, to) in changes(&before, &now) {
            let change = became(key, from, to);
            let last = |value: Option<&toml::Value>| Path::new(value?.as_str()?).file_name().map(ToOwned::to_owned);
            // The same folder from elsewhere: whether it holds the same pictures is seen later.
            let is_elsewhere = key == "data.name" && last(from).is_some() && last(from) == last(to);
            if !CHANGEABLE.contains(&key) && !is_elsewhere {
                let error = format!("the run was made with another {change} ({})", self.run.folder().display());
                let hint = "leave it as it was, or train anew under another --name".to_string();
                return Err(CliError::user(error, Some(hint)));
            }
            let epochs = |value: Option<&toml::Value>| value.and_then(toml::Value::as_integer).unwrap_or(0);
            if key == "train.epochs" && epochs(to) < epochs(from) {
                let error = format!("a run cannot get shorter: {change} ({})", self.run.folder().display());
                return Err(CliError::user(error, Some("use --max-steps to stop it early".to_string())));
            }
            let is_whole = self.run.manifest().results.as_ref().map(|results| results.steps)
                == results.map(|results| results.steps);
            if key == "train.epochs" && !is_whole {
                let folder = self.run.folder().display();
                let error = format!("{change} comes too early: the run did not end in order ({folder})");
                let hint = "resume it as it was first; when it is done, or was interrupted, give it more epochs";
                return Err(CliError::user(error, Some(hint.to_string())));
            }
            let can_go_back = self.about.as_ref().is_none_or(CheckpointInfo::can_go_back);
            if key == "train.on_nonfinite" && shown(to) == "rollback" && !can_go_back {
                let folder = self.run.folder().display();
                let error =
                    format!("{change} comes too late: the state is amid an epoch, whose start is gone ({folder})");
                return Err(CliError::user(error, Some("use --on-nonfinite skip".to_string())));
            }
            allowed.push(change);
        }
        // These are no difference between runs, but are written down.
        for key in ["data.dir", "train.log_interval"] {
            if before.get(key) != now.get(key) {
                allowed.push(became(key, before.get(key), now.get(key)));
            }
        }
        // Which weights are kept hangs on the lines of the metrics there, and on nothing else.
        let keeps = now.get("train.keep").and_then(toml::Value::as_str) == Some("lowest-train-loss");
        if keeps && before.get("train.log_interval") != now.get("train.log_interval") {
            let error = "log_interval cannot change in a run that keeps the weights of its lowest training loss";
            return Err(CliError::user(error, Some("leave it as it was".to_string())));
        }
        Ok(allowed)
    }

    /// Goes on with a job of the same config and the same images.
    pub fn go_on(mut self, job: Job, changes: Vec<String>, command: Vec<String>) -> Result<Ready, CliError> {
        check_data(&self.run, job.data())?.iter().for_each(|note| say!("note: {note}"));
        let toml = job.config().to_toml();
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
        Ok(Ready { run: self.run, training })
    }
}

/// Steps of a run that must have had a state: it went on from one, or ended in order, which it only does with one. One whose
/// disk never took a state, or that went astray before the first, had none, and nothing is lost by starting it again.
fn steps_with_state(manifest: &Manifest) -> Option<u64> {
    let ended = matches!(manifest.status, Status::Finished | Status::MaxSteps | Status::MaxTime | Status::Interrupted);
    let reached = manifest.results.as_ref().map(|results| results.steps).filter(|_| ended);
    let resumed = manifest.resumed.iter().map(|piece| piece.from_step).max().filter(|step| *step > 0);
    reached.or(resumed)
}

/// Refuses images that are not those of the run; files may have got other names, of which a note is returned.
fn check_data(run: &Run, found: &DataRecord) -> Result<Option<String>, CliError> {
    let before = &run.manifest().data;
    let has_classes = before.class_names == found.class_names;
    if before.fingerprint == found.fingerprint && has_classes {
        return Ok(None);
    }
    if before.are_same_images(&found.fingerprint, found.content.as_ref()) && has_classes {
        return Ok(Some("files have other names than before, but hold the same images in the same order".to_string()));
    }
    let anew = "train anew under another --name";
    if before.content.is_none() && before.forced.is_none() && found.forced.is_some() {
        let error = format!(
            "the run was started by an earlier version, which split folders by file order instead of file content: its \
             validation split cannot be drawn again ({})",
            found.name
        );
        return Err(CliError::user(error, Some(format!("{anew}, or resume with the version that started it"))));
    }
    let in_any_order = |data: &DataRecord| data.content.as_ref().map(|content| content.in_any_order.clone());
    let counted = |name: &str, before: usize, now: usize| format!("{name} {}, now {}", before, now);
    let what = if !has_classes {
        format!("classes {}, now {}", before.class_names.join(","), found.class_names.join(","))
    } else if before.train != found.train {
        counted("images that train", before.train, found.train)
    } else if before.validation != found.validation {
        counted("images that validate", before.validation, found.validation)
    } else if before.skipped.len() != found.skipped.len() {
        counted("pictures that cannot be decoded", before.skipped.len(), found.skipped.len())
    } else if before.content.is_some() && in_any_order(before) == in_any_order(found) {
        "files have other names, so that the same images come in another order".to_string()
    } else {
        "the images or their labels are not the same, though there are as many".to_string()
    };
    let error = format!("the data has changed since the run began: {what} ({})", found.name);
    Err(CliError::user(error, Some(format!("bring it back to what it was, or {anew}"))))
}
