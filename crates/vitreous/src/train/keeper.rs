//! Everything that a training writes, on a thread of its own: steps do not wait for the disk, and a disk that takes
//! nothing for a while is no reason to stop.
//!
//! What is handed in is written in its order. What cannot be written waits and is tried again; newer weights and states
//! take the place of older ones that wait. A state is written last, so that whatever it builds upon is there.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use vitreous_engine::{Graph, Parameters};

use super::TrainError;
use crate::checkpoint::{State, TensorFile};
use crate::record::{EpochRow, Journal, JournalLengths, RecordError, Run, Weights, WeightsHashes};
use crate::units;

/// Time until something that could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Times before the last attempts, at the end of a run.
const LAST_ATTEMPTS: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(50), Duration::from_millis(500), Duration::from_secs(1)];

/// Writes what it is given.
pub struct Keeper {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<Result<(), RecordError>>>,
}

struct Shared {
    desk: Mutex<Desk>,
    changed: Condvar,
}

/// Where things are put down and taken from.
#[derive(Default)]
struct Desk {
    items: Vec<Item>,
    /// Whether a state is here or being written.
    has_state: bool,
    is_over: bool,
    news: Option<News>,
}

/// How writing goes, when that has changed.
pub enum News {
    /// Something cannot be written, and is tried again.
    Trouble(RecordError),
    /// All that waited is written.
    Recovered,
}

enum Item {
    Epoch(Box<EpochRow>, WeightsHashes),
    Metrics(Box<RawValue>),
    Timing(Box<RawValue>),
    Weights(Weights, TensorFile),
    State(StateParts),
}

/// What a state is made of, but for the lengths of the files that grow.
pub struct StateParts {
    /// The model.
    pub graph: Arc<Graph>,
    /// Steps that were taken.
    pub step: u64,
    /// What the training says of itself.
    pub about: serde_json::Value,
    /// Weights and moments, each set with its name.
    pub sets: Vec<(String, Arc<Parameters>)>,
}

impl Keeper {
    /// Starts to write into a run's folder, after what lies there, or, without lengths, from the start.
    ///
    /// # Errors
    /// When the files that grow cannot be opened, or the thread cannot be started.
    pub fn start(run: &Run, lengths: Option<&JournalLengths>) -> Result<Keeper, TrainError> {
        let journal = match lengths {
            Some(lengths) => Journal::goes_on(run.folder(), lengths)?,
            None => Journal::start(run.folder())?,
        };
        let shared = Arc::new(Shared { desk: Mutex::default(), changed: Condvar::new() });
        let paths = [Weights::Best, Weights::Last].map(|weights| run.weights_path(weights));
        let writer = Writer { run: run.folder().to_path_buf(), paths, journal, weights: [None, None], state: None };
        let theirs = shared.clone();
        let writer = thread::Builder::new().name("writer".to_string()).spawn(move || writer.work(&theirs));
        let writer = writer.map_err(|error| TrainError::Thread { reason: units::system_error(&error) })?;
        Ok(Keeper { shared, writer: Some(writer) })
    }

    /// Hands in the row of an epoch and the hashes of its last weights.
    pub fn epoch(&self, row: &EpochRow, hashes: WeightsHashes) {
        self.put(Item::Epoch(Box::new(*row), hashes));
    }

    /// Hands in a line for `metrics.jsonl`.
    pub fn metrics(&self, line: &impl Serialize) {
        self.put(Item::Metrics(to_raw_value(line).expect("a line is plain numbers and texts")));
    }

    /// Hands in a line for `timing.jsonl`.
    pub fn timing(&self, line: &impl Serialize) {
        self.put(Item::Timing(to_raw_value(line).expect("a line is plain numbers and texts")));
    }

    /// Hands in weights.
    pub fn weights(&self, which: Weights, file: TensorFile) {
        self.put(Item::Weights(which, file));
    }

    /// Hands in a state. What was handed in before is part of the run that goes on from it, what comes later is not.
    pub fn state(&self, state: StateParts) {
        let mut desk = self.shared.desk();
        desk.has_state = true;
        desk.items.push(Item::State(state));
        self.shared.changed.notify_all();
    }

    /// Whether a state was handed in that was not tried to be written yet; another copy of all weights would be too much.
    pub fn has_state(&self) -> bool {
        self.shared.desk().has_state
    }

    /// Waits until the last state was written, or could not be.
    pub fn wait_for_state(&self) {
        let desk = self.shared.desk();
        drop(self.shared.changed.wait_while(desk, |desk| desk.has_state));
    }

    /// Returns how writing goes, when that has changed since this was asked.
    pub fn news(&self) -> Option<News> {
        self.shared.desk().news.take()
    }

    /// Waits until all is written and ends the thread.
    ///
    /// # Errors
    /// When something could not be written, after several attempts.
    pub fn finish(mut self) -> Result<(), RecordError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), RecordError> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        self.shared.desk().is_over = true;
        self.shared.changed.notify_all();
        writer.join().expect("the writer does not panic")
    }

    fn put(&self, item: Item) {
        self.shared.desk().items.push(item);
        self.shared.changed.notify_all();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Who drops it without asking has an error of his own to tell.
        let _ = self.end();
    }
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().expect("nobody panics at the desk")
    }
}

/// The thread's own: what is to be written.
struct Writer {
    run: PathBuf,
    /// Of the best weights and the last.
    paths: [PathBuf; 2],
    journal: Journal,
    weights: [Option<TensorFile>; 2],
    state: Option<(StateParts, JournalLengths)>,
}

impl Writer {
    fn work(mut self, shared: &Shared) -> Result<(), RecordError> {
        // When something that could not be written is tried again.
        let mut again: Option<Instant> = None;
        loop {
            let idle = |desk: &mut Desk| desk.items.is_empty() && !desk.is_over;
            let desk = shared.desk();
            let mut desk = match again {
                Some(time) => {
                    let left = time.saturating_duration_since(Instant::now());
                    shared.changed.wait_timeout_while(desk, left, idle).expect("nobody panics at the desk").0
                }
                None => shared.changed.wait_while(desk, idle).expect("nobody panics at the desk"),
            };
            let (items, is_over) = (std::mem::take(&mut desk.items), desk.is_over);
            drop(desk);
            items.into_iter().for_each(|item| self.take(item));
            if is_over {
                return self.finish();
            }
            let is_time = again.is_none_or(|time| Instant::now() >= time);
            let written = is_time.then(|| self.write(false));
            let mut desk = shared.desk();
            // A state may have come in the meantime.
            desk.has_state = desk.items.iter().any(|item| matches!(item, Item::State(_)));
            match written {
                Some(Err(error)) => {
                    if again.is_none() {
                        desk.news = Some(News::Trouble(error));
                    }
                    again = Some(Instant::now() + AGAIN);
                }
                Some(Ok(())) if again.take().is_some() => desk.news = Some(News::Recovered),
                _ => {}
            }
            drop(desk);
            shared.changed.notify_all();
        }
    }

    fn take(&mut self, item: Item) {
        match item {
            Item::Epoch(row, hashes) => self.journal.epoch(&row, &hashes),
            Item::Metrics(line) => self.journal.metrics(&line),
            Item::Timing(line) => self.journal.timing(&line),
            Item::Weights(Weights::Best, file) => self.weights[0] = Some(file),
            Item::Weights(Weights::Last, file) => self.weights[1] = Some(file),
            Item::State(state) => self.state = Some((state, self.journal.lengths())),
        }
    }

    /// Writes what there is; what was written is forgotten.
    fn write(&mut self, is_end: bool) -> Result<(), RecordError> {
        let mut matters = is_end || self.state.is_some();
        // Lines are short, and may fit where weights do not.
        let lines = self.journal.write();
        for (waiting, path) in self.weights.iter_mut().zip(&self.paths) {
            if let Some(file) = waiting {
                file.save(path)?;
                *waiting = None;
                matters = true;
            }
        }
        lines?;
        if matters {
            self.journal.sync()?;
        }
        if let Some((parts, lengths)) = &self.state {
            let StateParts { graph, step, about, sets } = parts;
            State::new(graph, *step, *lengths, about.clone(), sets).save(&self.run)?;
            self.state = None;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), RecordError> {
        persist(|| self.write(true))
    }
}

/// Does what a run needs at its end, with several attempts.
///
/// # Errors
/// When the last one fails.
pub fn persist(mut attempt: impl FnMut() -> Result<(), RecordError>) -> Result<(), RecordError> {
    let mut done = Ok(());
    for pause in LAST_ATTEMPTS {
        thread::sleep(pause);
        done = attempt();
        if done.is_ok() {
            break;
        }
    }
    done
}
