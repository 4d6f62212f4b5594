//! Writes everything that a training records, on a thread of its own: steps do not wait for the disk, and training
//! continues while the disk is full.
//!
//! Items are written in order. What cannot be written waits and is tried again; newer weights and checkpoints replace
//! older ones that wait. A checkpoint is written last, after the files that it refers to.

use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use vitreous_engine::{Graph, Parameters};

use super::TrainError;
use crate::checkpoint::{BestWeights, State, TensorFile};
use crate::record::{EpochRow, Folder, Journal, JournalLengths, RecordError, Run, Weights, WeightsHashes, seconds_of};
use crate::system_errors;
use crate::tensorboard::{Event, EventFile, Stamp, TimedHistory};

/// Time until a failed write is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Events that may wait for a disk that does not take the start of their file.
const EARLY_MAX: usize = 10_000;

/// Pauses before the last attempts, at the end of a run.
const LAST_ATTEMPTS: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(50), Duration::from_millis(500), Duration::from_secs(1)];

/// Writes the files of a run.
pub struct CheckpointWriter {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<Result<(), RecordError>>>,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// What waits to be written.
#[derive(Default)]
struct Queue {
    items: Vec<Item>,
    /// Whether a checkpoint waits or is being written.
    has_state: bool,
    is_over: bool,
    status: Option<WriteStatus>,
    /// Why the event file cannot be written, the first time.
    events_error: Option<RecordError>,
}

/// Whether writing works, when that has changed.
pub enum WriteStatus {
    /// Something cannot be written and will be tried again.
    Failing(RecordError),
    /// Everything that waited is written.
    Recovered,
}

enum Item {
    Epoch(Box<EpochRow>, WeightsHashes),
    Metrics(Box<RawValue>),
    Timing(Box<RawValue>),
    Weights(Weights, TensorFile),
    State(StateParts),
    /// Makes events for TensorBoard.
    Events(Box<dyn FnOnce() -> Vec<Event> + Send>),
    /// Events of later steps are void.
    EventsGoBack(u64),
}

/// The content of a checkpoint, without the lengths of growing files.
pub struct StateParts {
    /// The model.
    pub graph: Arc<Graph>,
    /// Steps that were taken.
    pub step: u64,
    /// Position and config of the training.
    pub about: serde_json::Value,
    /// Sets of tensors (weights, moments) with their names.
    pub sets: Vec<(String, Arc<Parameters>)>,
}

/// The thread of a writer. It is started before the run is created, because a run without it could write nothing.
pub struct WriterThread {
    begin: Sender<(FileWriter, Arc<Shared>)>,
    handle: JoinHandle<Result<(), RecordError>>,
}

impl WriterThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system cannot start a thread.
    pub fn start() -> Result<WriterThread, TrainError> {
        let (begin, begun) = mpsc::channel::<(FileWriter, Arc<Shared>)>();
        // Without a run there is nothing to write.
        let work = move || begun.recv().map_or(Ok(()), |(writer, shared)| writer.work(&shared));
        let handle = thread::Builder::new().name("writer".to_string()).spawn(work);
        let handle = handle.map_err(|error| TrainError::Thread { reason: system_errors::system_error(&error) })?;
        Ok(WriterThread { begin, handle })
    }
}

impl CheckpointWriter {
    /// Starts to write into a run folder: after the given lengths, or from the start. With the events that an event file
    /// starts with, one is written for TensorBoard.
    ///
    /// # Errors
    /// When the growing files cannot be opened.
    pub fn start(
        thread: WriterThread,
        run: &Run,
        lengths: Option<&JournalLengths>,
        events: Option<Vec<Event>>,
    ) -> Result<CheckpointWriter, RecordError> {
        let journal = match lengths {
            Some(lengths) => Journal::goes_on(run.files(), lengths)?,
            None => Journal::start(run.files())?,
        };
        let shared = Arc::new(Shared { queue: Mutex::default(), changed: Condvar::new() });
        let on_disk = BestWeights::of(run.files())?;
        let events = events.map(|head| Events::new(run, head, lengths.is_some()));
        let writer = FileWriter { run: run.clone(), journal, on_disk, best: None, last: None, state: None, events };
        thread.begin.send((writer, shared.clone())).expect("the thread waits for it");
        Ok(CheckpointWriter { shared, writer: Some(thread.handle) })
    }

    /// Queues the row of an epoch and the hashes of its last weights.
    pub fn epoch(&self, row: &EpochRow, hashes: WeightsHashes) {
        self.put(Item::Epoch(Box::new(*row), hashes));
    }

    /// Queues a line for `metrics.jsonl`.
    pub fn metrics(&self, line: &impl Serialize) {
        self.put(Item::Metrics(to_raw_value(line).expect("a line is plain numbers and texts")));
    }

    /// Queues a line for `timing.jsonl`.
    pub fn timing(&self, line: &impl Serialize) {
        self.put(Item::Timing(to_raw_value(line).expect("a line is plain numbers and texts")));
    }

    /// Queues events for TensorBoard, which the writer makes.
    pub fn events(&self, make: impl FnOnce() -> Vec<Event> + Send + 'static) {
        self.event_queue().put(make);
    }

    /// Where another thread can queue events too.
    pub fn event_queue(&self) -> EventQueue {
        EventQueue(self.shared.clone())
    }

    /// Queues that the events of steps after this one are void.
    pub fn events_go_back(&self, step: u64) {
        self.put(Item::EventsGoBack(step));
    }

    /// Returns why the event file cannot be written, once.
    pub fn take_events_error(&self) -> Option<RecordError> {
        self.shared.queue().events_error.take()
    }

    /// Queues weights.
    pub fn weights(&self, which: Weights, file: TensorFile) {
        self.put(Item::Weights(which, file));
    }

    /// Queues a checkpoint. Items queued before it are part of a run resumed from it, later ones are not.
    pub fn state(&self, state: StateParts) {
        let mut queue = self.shared.queue();
        queue.has_state = true;
        queue.items.push(Item::State(state));
        self.shared.changed.notify_all();
    }

    /// Whether a queued checkpoint has not been tried yet; another copy of all weights would take too much memory.
    pub fn has_state(&self) -> bool {
        self.shared.queue().has_state
    }

    /// Waits until the last checkpoint was written or failed.
    pub fn wait_for_state(&self) {
        let queue = self.shared.queue();
        drop(self.shared.changed.wait_while(queue, |queue| queue.has_state));
    }

    /// Returns whether writing works, if that has changed since the last call.
    pub fn take_status(&self) -> Option<WriteStatus> {
        self.shared.queue().status.take()
    }

    /// Waits until everything is written and ends the thread.
    ///
    /// # Errors
    /// When something could not be written, after several attempts.
    pub fn finish(&mut self) -> Result<(), RecordError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), RecordError> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        self.shared.queue().is_over = true;
        self.shared.changed.notify_all();
        writer.join().expect("the writer does not panic")
    }

    fn put(&self, item: Item) {
        self.shared.put(item);
    }
}

/// Queues events for TensorBoard.
pub struct EventQueue(Arc<Shared>);

impl EventQueue {
    /// Queues events, which the writer makes.
    pub fn put(&self, make: impl FnOnce() -> Vec<Event> + Send + 'static) {
        self.0.put(Item::Events(Box::new(make)));
    }
}

impl Drop for CheckpointWriter {
    fn drop(&mut self) {
        // It is dropped without `finish` after another error, which is the one to report.
        let _ = self.end();
    }
}

impl Shared {
    fn put(&self, item: Item) {
        self.queue().items.push(item);
        self.changed.notify_all();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no thread panics with the lock")
    }
}

/// The state of the thread: what it still has to write.
struct FileWriter {
    run: Run,
    journal: Journal,
    /// The best weights on disk.
    on_disk: BestWeights,
    /// Best weights queued after the waiting checkpoint.
    best: Option<TensorFile>,
    last: Option<TensorFile>,
    state: Option<WaitingState>,
    events: Option<Events>,
}

/// The event file for TensorBoard. Nothing depends on it: an error is a warning.
struct Events {
    /// Absent until its start could be written, and after an error that leaves no file to add to.
    file: Option<EventFile>,
    /// How the file starts, until it has: with these events, and after these records of a run that is resumed.
    start: Option<(Vec<Event>, Option<TimedHistory>)>,
    /// Events that wait for the start.
    early: Vec<Event>,
    /// The first error, until it is reported.
    error: Option<RecordError>,
    has_failed: bool,
}

impl Events {
    fn new(run: &Run, head: Vec<Event>, is_resumed: bool) -> Events {
        let started = || seconds_of(&run.manifest().started).map_or(0.0, |seconds| seconds as f64);
        let history = is_resumed.then(|| TimedHistory::read(run.files(), started()));
        Events { file: None, start: Some((head, history)), early: Vec::new(), error: None, has_failed: false }
    }

    fn fail(&mut self, error: RecordError) {
        if !std::mem::replace(&mut self.has_failed, true) {
            self.error = Some(error);
        }
    }

    fn add(&mut self, events: Vec<Event>) {
        match &mut self.file {
            Some(file) => events.iter().for_each(|event| file.add(event)),
            None if self.start.is_some() && self.early.len() < EARLY_MAX => self.early.extend(events),
            None => {}
        }
    }

    /// Makes the events of steps after this one void.
    fn go_back(&mut self, step: u64) {
        self.early.retain(|event| event.step <= step as i64);
        if let Some(Err(error)) = self.file.as_mut().map(|file| file.go_back(Stamp::now(step).time, step)) {
            self.file = None;
            self.fail(error);
        }
    }

    /// Writes what waits; with `lasts` it is on the disk before the checkpoint that comes after it.
    fn write(&mut self, folder: &Folder, lasts: bool) {
        if let Some((head, history)) = &self.start {
            let Stamp { time, .. } = Stamp::now(0);
            let file = match history {
                Some(history) => EventFile::resume(folder, time, head, history),
                None => EventFile::start(folder, time, head),
            };
            match file {
                Ok(mut file) => {
                    std::mem::take(&mut self.early).iter().for_each(|event| file.add(event));
                    (self.file, self.start) = (Some(file), None);
                }
                Err(error) => self.fail(error),
            }
        }
        let written = self.file.as_mut().map(|file| if lasts { file.sync() } else { file.write() });
        if let Some(Err(error)) = written {
            self.fail(error);
        }
    }
}

/// A checkpoint that waits to be written.
struct WaitingState {
    parts: StateParts,
    lengths: JournalLengths,
    /// Best weights that were queued before it and are not on disk yet.
    best: Option<TensorFile>,
}

impl FileWriter {
    fn work(mut self, shared: &Shared) -> Result<(), RecordError> {
        // When a failed write is tried again.
        let mut again: Option<Instant> = None;
        loop {
            let idle = |queue: &mut Queue| queue.items.is_empty() && !queue.is_over;
            let queue = shared.queue();
            let mut queue = match again {
                Some(time) => {
                    let left = time.saturating_duration_since(Instant::now());
                    shared.changed.wait_timeout_while(queue, left, idle).expect("no thread panics with the lock").0
                }
                None => shared.changed.wait_while(queue, idle).expect("no thread panics with the lock"),
            };
            let (items, is_over) = (std::mem::take(&mut queue.items), queue.is_over);
            drop(queue);
            items.into_iter().for_each(|item| self.take(item));
            if is_over {
                let finished = self.finish();
                shared.queue().events_error = self.events.and_then(|events| events.error);
                return finished;
            }
            let is_time = again.is_none_or(|time| Instant::now() >= time);
            let written = is_time.then(|| self.write(false));
            let mut queue = shared.queue();
            if let Some(error) = self.events.as_mut().and_then(|events| events.error.take()) {
                queue.events_error = Some(error);
            }
            // A checkpoint may have been queued meanwhile.
            queue.has_state = queue.items.iter().any(|item| matches!(item, Item::State(_)));
            match written {
                Some(Err(error)) => {
                    if again.is_none() || error.is_final() {
                        queue.status = Some(WriteStatus::Failing(error));
                    }
                    again = Some(Instant::now() + AGAIN);
                }
                Some(Ok(())) if again.take().is_some() => queue.status = Some(WriteStatus::Recovered),
                _ => {}
            }
            drop(queue);
            shared.changed.notify_all();
        }
    }

    fn take(&mut self, item: Item) {
        match item {
            Item::Epoch(row, hashes) => self.journal.epoch(&row, &hashes),
            Item::Metrics(line) => self.journal.metrics(&line),
            Item::Timing(line) => self.journal.timing(&line),
            Item::Events(make) => {
                if let Some(events) = &mut self.events {
                    events.add(make());
                }
            }
            Item::EventsGoBack(step) => self.events.iter_mut().for_each(|events| events.go_back(step)),
            Item::Weights(Weights::Best, file) => self.best = Some(file),
            Item::Weights(Weights::Last, file) => self.last = Some(file),
            Item::State(parts) => {
                // Best weights that wait with the previous checkpoint belong to this one too, unless newer ones came between.
                let before = self.state.take().and_then(|state| state.best);
                let best = self.best.take().or(before);
                self.state = Some(WaitingState { parts, lengths: self.journal.lengths(), best });
            }
        }
    }

    /// Writes what waits, and removes it from the list.
    fn write(&mut self, is_end: bool) -> Result<(), RecordError> {
        self.run.check()?;
        let matters = is_end || self.state.is_some() || self.best.is_some() || self.last.is_some();
        // Lines are short: they may fit on the disk where weights do not.
        let lines = self.journal.write();
        if let Some(waiting) = &mut self.state {
            save_best(&self.run, &mut self.on_disk, &mut waiting.best)?;
        }
        if let Some(file) = &self.last {
            file.save_in(self.run.files(), &Run::weights_file(Weights::Last))?;
            self.last = None;
        }
        if let Some(events) = &mut self.events {
            events.write(self.run.files(), matters);
        }
        lines?;
        if matters {
            self.journal.sync()?;
        }
        if let Some(WaitingState { parts, lengths, .. }) = &self.state {
            let StateParts { graph, step, about, sets } = parts;
            let state = State::new(graph, *step, *lengths, about.clone(), self.on_disk.clone(), sets);
            state.save(self.run.files())?;
            self.state = None;
        }
        // Not before the checkpoint, which would name them.
        save_best(&self.run, &mut self.on_disk, &mut self.best)
    }

    fn finish(&mut self) -> Result<(), RecordError> {
        let written = persist(|| self.write(true));
        // Once more what could not be written, if anything.
        if let Some(events) = &mut self.events {
            events.write(self.run.files(), false);
        }
        written
    }
}

/// Writes waiting best weights, if any; the replaced ones are kept while a checkpoint refers to them.
fn save_best(run: &Run, on_disk: &mut BestWeights, waiting: &mut Option<TensorFile>) -> Result<(), RecordError> {
    let Some(file) = waiting else { return Ok(()) };
    on_disk.set_aside(run.files())?;
    *on_disk = BestWeights::Sha256(file.save_in(run.files(), &Run::weights_file(Weights::Best))?);
    *waiting = None;
    Ok(())
}

/// Writes something at the end of a run, with several attempts.
///
/// # Errors
/// When the last one fails.
pub fn persist(mut attempt: impl FnMut() -> Result<(), RecordError>) -> Result<(), RecordError> {
    let mut done = Ok(());
    for pause in LAST_ATTEMPTS {
        thread::sleep(pause);
        done = attempt();
        if done.as_ref().map_or_else(RecordError::is_final, |()| true) {
            break;
        }
    }
    done
}
