//! Runs that go on: `train --resume`, and a sweep that meets one that did not end.
//!
//! A run is claimed before anything of it is read for good, so that no other process changes it meanwhile.

use std::path::Path;
use std::time::Instant;

use vitreous_engine::Isa;

use super::CliError;
use crate::checkpoint::{Found, SavedState, find_state, state_folder};
use crate::compare::{became, changes, settings_of, shown};
use crate::config::Config;
use crate::record::{DataRecord, Piece, Place, Run, Status, now_utc, remove_leftovers};
use crate::train::{About, Event, Job, Limits, Outcome, TrainError, Training};
use crate::units;

/// Keys that may be changed when a run goes on: they say where it ends, and what happens when it goes astray.
const CHANGEABLE: [&str; 3] = ["train.epochs", "train.max_steps", "train.on_nonfinite"];

/// A run that was begun before, claimed for this process.
pub struct Begun {
    pub run: Run,
    saved: Option<SavedState>,
    about: Option<About>,
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
        let run = place.create(&job.config().to_toml(), job.manifest(command))?;
        Ok(Ready { run, training: Training::new(job) })
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
        remove_leftovers(folder, &state_folder(folder))?;
        let Found { state, refused } = find_state(folder);
        let step = |state: &SavedState| units::count(state.step());
        let mut notes: Vec<String> = match &state {
            Some(saved) => {
                refused.iter().map(|error| format!("{error}; the one of step {} is used", step(saved))).collect()
            }
            None => match refused.into_iter().next() {
                Some(error) => return Err(CliError::user(error.to_string(), error.hint())),
                None => Vec::new(),
            },
        };
        let before = run.manifest().results.as_ref().map_or(0, |results| results.steps);
        if state.is_none() && before > 0 {
            let steps = units::count(before);
            let error =
                format!("the run has no state to go on from, though it had taken {steps} steps ({})", folder.display());
            return Err(CliError::user(error, Some("train anew under another --name".to_string())));
        }
        let about = state.as_ref().map(About::of).transpose()?;
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
        let path = self.run.config_path();
        let text = match &self.about {
            Some(about) => about.config.clone(),
            None => std::fs::read_to_string(&path).map_err(|error| {
                CliError::user(format!("{} ({})", units::system_error(&error), path.display()), None)
            })?,
        };
        let (before, now) = (settings_of(&text, "config.toml")?, settings_of(config_toml, "config.toml")?);
        let results = self.about.as_ref().map(About::results);
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
            let can_go_back = self.about.as_ref().is_none_or(About::can_go_back);
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
            Some(saved) => Training::goes_on(job, saved)?,
            None => Training::new(job),
        };
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
            "an earlier version began the run and split the folder by the places of its files, not by their content: \
             other images would validate ({})",
            found.name
        );
        return Err(CliError::user(error, Some(format!("{anew}, or go on with the version that began it"))));
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
