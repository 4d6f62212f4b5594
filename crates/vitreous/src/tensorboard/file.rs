//! The event file of a run, `events.out.tfevents.000001.vitreous`.
//!
//! A TensorBoard that is running has read a file up to some place, so a file only ever grows. Where steps are taken again
//! (a run was resumed from a checkpoint, or rolled back), a new file takes its place, with the next number and with all
//! events that still hold. A reader that has the old file takes the new one for a later file of the run; its start
//! voids what was read before.

use std::collections::HashSet;
use std::io::{self, BufReader, Write};

use prost::Message;

use super::events::{encoded, file_start, tags};
use super::history::{TimedHistory, epoch_event, line_event};
use super::messages::{Event, What};
use super::records;
use crate::record::{Folder, History, Lines, RecordError};

/// How the names start: TensorBoard looks for `tfevents`.
const START: &str = "events.out.tfevents.";
const END: &str = ".vitreous";

/// Bytes that may wait for a disk; beyond them events are given up.
const WAITING_MAX: usize = 64 << 20;

/// The event file of a run that is being trained.
pub struct EventFile {
    folder: Folder,
    lines: Lines,
    /// Whether events were given up, so that later ones would leave a gap.
    is_given_up: bool,
}

/// Numbers and names of a folder's event files, the newest last.
fn own_files(folder: &Folder) -> Vec<(u64, String)> {
    let names = folder.names("").unwrap_or_default().into_iter();
    let number = |name: &str| name.strip_prefix(START)?.strip_suffix(END)?.parse().ok();
    let mut files: Vec<(u64, String)> = names.filter_map(|name| Some((number(&name)?, name))).collect();
    files.sort_unstable();
    files
}

/// Passes each event of a folder's newest event file on, with its bytes, up to where the file is damaged.
///
/// # Errors
/// When the file cannot be read, or `take` gives up.
pub fn read(folder: &Folder, mut take: impl FnMut(Vec<u8>, Event) -> io::Result<()>) -> io::Result<()> {
    let Some((_, name)) = own_files(folder).pop() else { return Ok(()) };
    let mut file = BufReader::new(folder.open_file(&name)?);
    while let Some(bytes) = records::next(&mut file)? {
        let Ok(event) = Event::decode(&*bytes) else { break };
        take(bytes, event)?;
    }
    Ok(())
}

/// Whether a folder has an event file of this program.
pub fn has_events(folder: &Folder) -> bool {
    !own_files(folder).is_empty()
}

/// Writes a new event file, and removes the older ones. Returns its name.
///
/// # Errors
/// When the folder cannot be written, or `write` gives up.
pub fn replace(
    folder: &Folder,
    time: f64,
    write: impl FnOnce(&mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>,
) -> Result<String, RecordError> {
    let old = own_files(folder);
    let name = format!("{START}{:06}{END}", old.last().map_or(1, |(number, _)| number + 1));
    folder.replace(&name, |output| {
        let mut add = |record: &[u8]| {
            let mut bytes = Vec::new();
            records::add(&mut bytes, record);
            output.write_all(&bytes)
        };
        file_start(time).iter().try_for_each(|event| add(&encoded(event)))?;
        write(&mut add)
    })?;
    for (_, name) in old {
        // A file that stays is only read in vain.
        let _ = folder.remove(&name);
    }
    Ok(name)
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The file itself.
    File,
    /// The whole run: its model, its settings, how it ended.
    Run,
    /// The data of the run.
    Data,
    /// Some steps: a line of `metrics.jsonl`.
    Line,
    /// An epoch: a row of `results.csv`.
    Epoch,
    /// An evaluation after the training.
    Evaluation,
}

impl Subject {
    /// Tells it from the first series of an event.
    pub fn of(event: &Event) -> Subject {
        if !matches!(event.what, Some(What::Summary(_))) {
            return if matches!(event.what, Some(What::GraphDef(_))) { Subject::Run } else { Subject::File };
        }
        let tag = tags(event).next().unwrap_or_default();
        match tag.split('/').next().unwrap_or_default() {
            "_hparams_" => Subject::Run,
            "samples" => Subject::Data,
            "train_loss" | "weight_gradient_norm" => Subject::Line,
            "confusion_matrix" if tag == super::VALIDATION_MATRIX => Subject::Epoch,
            "confusion_matrix" | "test_acc" | "test_loss" => Subject::Evaluation,
            _ => Subject::Epoch,
        }
    }
}

impl TimedHistory {
    /// Whether an event is of a step, or an epoch, that the records have.
    pub fn has(&self, event: &Event) -> bool {
        let step = u64::try_from(event.step).unwrap_or(0);
        match Subject::of(event) {
            Subject::File => false,
            Subject::Run | Subject::Data => event.step == 0,
            Subject::Line => self.has_line(step),
            Subject::Epoch => self.has_epoch(step),
            Subject::Evaluation => {
                let History { lines, epochs, .. } = &self.history;
                lines.last().map(|line| line.step).max(epochs.last().map(|row| row.step)) >= Some(step)
            }
        }
    }

    /// The events of lines and epochs of which none is in `present`.
    pub fn events_without(&self, present: &HashSet<(Subject, u64)>) -> Vec<Event> {
        let is_missing = |subject, step| !present.contains(&(subject, step));
        let lines = self.history.lines.iter().filter(|line| is_missing(Subject::Line, line.step));
        let rows = self.history.epochs.iter().filter(|row| is_missing(Subject::Epoch, row.step));
        let lines = lines.map(|line| line_event(line, self.stamp(line.step)));
        lines.chain(rows.map(|row| epoch_event(row, self.stamp(row.step)))).collect()
    }
}

/// What tells which steps an event file has scalars of.
pub fn key(event: &Event) -> Option<(Subject, u64)> {
    let is_scalar = tags(event).next().is_some_and(|tag| ["train_loss", "train_loss_epoch"].contains(&tag));
    Some((Subject::of(event), u64::try_from(event.step).ok()?)).filter(|_| is_scalar)
}

impl EventFile {
    /// Starts the event file of a run with what is known before the first step.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn start(folder: &Folder, time: f64, head: &[Event]) -> Result<EventFile, RecordError> {
        let name = replace(folder, time, |add| head.iter().try_for_each(|event| add(&encoded(event))))?;
        EventFile::open(folder, &name)
    }

    /// Continues the event file of a run whose records were cut to a checkpoint: events of later steps vanish. What the
    /// file lacks of the records is added, so that a file may start in the middle of a run.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn resume(
        folder: &Folder,
        time: f64,
        head: &[Event],
        history: &TimedHistory,
    ) -> Result<EventFile, RecordError> {
        let mut has_samples = false;
        // A file that cannot be read is written anew.
        let _ = read(folder, |_, event| {
            has_samples |= Subject::of(&event) == Subject::Data;
            Ok(())
        });
        let name = replace(folder, time, |add| {
            // What is said of the whole run is new: it may be resumed with other settings.
            let is_new = |event: &&Event| Subject::of(event) != Subject::Data || !has_samples;
            head.iter().filter(is_new).try_for_each(|event| add(&encoded(event)))?;
            let mut present = HashSet::new();
            read(folder, |bytes, event| {
                if !history.has(&event) || Subject::of(&event) == Subject::Run {
                    return Ok(());
                }
                present.extend(key(&event));
                add(&bytes)
            })?;
            history.events_without(&present).iter().try_for_each(|event| add(&encoded(event)))
        })?;
        EventFile::open(folder, &name)
    }

    /// Continues after a step whose later ones are void.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn go_back(&mut self, time: f64, step: u64) -> Result<(), RecordError> {
        self.write()?;
        let folder = self.folder.clone();
        let name = replace(&folder, time, |add| {
            read(&folder, |bytes, event| match Subject::of(&event) {
                Subject::File => Ok(()),
                _ if event.step > step as i64 => Ok(()),
                _ => add(&bytes),
            })
        })?;
        self.lines = Lines::open(&folder, &name, length(&folder, &name)?)?;
        Ok(())
    }

    fn open(folder: &Folder, name: &str) -> Result<EventFile, RecordError> {
        let lines = Lines::open(folder, name, length(folder, name)?)?;
        Ok(EventFile { folder: folder.clone(), lines, is_given_up: false })
    }

    /// Adds an event, which waits until [`EventFile::write`].
    pub fn add(&mut self, event: &Event) {
        let mut bytes = Vec::new();
        records::add(&mut bytes, &encoded(event));
        self.is_given_up |= self.lines.waiting() + bytes.len() > WAITING_MAX;
        if !self.is_given_up {
            self.lines.add_bytes(&bytes);
        }
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// When it cannot be written; it waits for the next time.
    pub fn write(&mut self) -> Result<(), RecordError> {
        self.lines.write().map_err(|error| self.lines.error(&error))
    }

    /// Writes what waits, and brings the file to the disk.
    ///
    /// # Errors
    /// As [`EventFile::write`].
    pub fn sync(&mut self) -> Result<(), RecordError> {
        self.write()?;
        self.lines.sync().map_err(|error| self.lines.error(&error))
    }
}

fn length(folder: &Folder, name: &str) -> Result<u64, RecordError> {
    let file = folder.open_file(name).and_then(|file| file.metadata());
    Ok(file.map_err(|error| folder.error(name, &error))?.len())
}
