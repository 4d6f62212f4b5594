//! Files that grow during a run: `results.csv`, `ledger.csv`, `metrics.jsonl` and, for all times, `timing.jsonl`.
//!
//! Lines are only appended. Lines that cannot be written stay in memory and are written before the next ones, so a full
//! disk leaves no gap. A resumed run removes the lines that were written after its checkpoint.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Folder, RecordError, faults};

const RESULTS_HEADER: &str = "epoch,step,train_loss,train_acc,val_loss,val_acc,val_top5,lr\n";
const LEDGER_HEADER: &str = "epoch,step,sha256,tensors_sha256\n";
/// As written by earlier versions; a run that was started by one keeps its columns.
const LEDGER_HEADER_OLD: &str = "epoch,step,sha256\n";

/// The growing files of a run.
pub struct Journal {
    results: Lines,
    ledger: Lines,
    metrics: Lines,
    timing: Lines,
    /// Whether `ledger.csv` has the columns of [`LEDGER_HEADER_OLD`].
    has_old_ledger: bool,
    folder: Folder,
    /// Whether the folder was flushed to disk after the files were created.
    has_lasting_names: bool,
}

/// How long the growing files are, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalLengths {
    results: u64,
    ledger: u64,
    metrics: u64,
    timing: u64,
}

/// One row of `results.csv`: what an epoch came to. Accuracies are fractions of 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EpochRow {
    /// Counted from 1.
    pub epoch: u64,
    /// Steps since the start of the run.
    pub step: u64,
    /// Mean over the epoch's images, of a reader over its words, each at its own step.
    pub train_loss: f64,
    /// As `train_loss`.
    pub train_acc: f64,
    /// The results on the validation split, if there is one.
    pub validation: Option<Validation>,
    /// Learning rate of the epoch's last step.
    pub lr: f64,
}

/// SHA-256 hashes of a weights file, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightsHashes {
    /// Of the whole file, header included.
    pub file: String,
    /// Of the names and values of its tensors alone: for each, in the order of the names, the name, a space, the number of
    /// values in decimal and a newline, then the values as little-endian 32-bit floats.
    pub tensors: String,
}

/// What an epoch's weights reached on the validation split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Validation {
    /// Mean cross-entropy, without label smoothing.
    pub loss: f64,
    /// Fraction of images classified correctly, or of strips read correctly.
    pub accuracy: f64,
    /// Part of the images whose class is among the five largest logits; strips have no such thing.
    pub top5: Option<f64>,
}

/// One line of `metrics.jsonl`; the last of a run is about the steps that were left. What it says of one step is said of
/// the last that counted: a step without a finite loss does not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricsLine {
    /// Steps since the start of the run.
    pub step: u64,
    /// Counted from 1.
    pub epoch: u64,
    /// Mean over the images, of a reader over the words, since the last line.
    pub loss: f64,
    /// As `loss`.
    pub accuracy: f64,
    /// Norm of the step's gradient, before clipping.
    pub gradient_norm: f64,
    /// Learning rate of the step.
    pub lr: f64,
    /// Steps since the last line with a loss spike; absent if none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub spikes: Vec<u64>,
    /// Steps since the last line that were skipped because of a NaN or infinite value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<u64>,
}

impl Journal {
    /// Starts the files in a run folder, or, where they are, starts them anew.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn start(folder: &Folder) -> Result<Self, RecordError> {
        let mut journal = Journal::goes_on(folder, &JournalLengths::default())?;
        journal.results.add(RESULTS_HEADER);
        journal.ledger.add(LEDGER_HEADER);
        Ok(journal)
    }

    /// Reopens the files and cuts them to these lengths.
    ///
    /// # Errors
    /// When a file is shorter, or cannot be written.
    pub fn goes_on(folder: &Folder, lengths: &JournalLengths) -> Result<Self, RecordError> {
        let open = |name: &str, length| Lines::open(folder, name, length);
        let mut journal = Journal {
            results: open("results.csv", lengths.results)?,
            ledger: open("ledger.csv", lengths.ledger)?,
            metrics: open("metrics.jsonl", lengths.metrics)?,
            timing: open("timing.jsonl", lengths.timing)?,
            has_old_ledger: lengths.ledger > 0 && starts_with(folder, "ledger.csv", LEDGER_HEADER_OLD),
            folder: folder.clone(),
            has_lasting_names: false,
        };
        // Not before it is known that none is too short.
        journal.each(|lines| lines.file.set_len(lines.len))?;
        Ok(journal)
    }

    /// How long the files are, or will be when all is written.
    pub fn lengths(&self) -> JournalLengths {
        let [results, ledger, metrics, timing] =
            [&self.results, &self.ledger, &self.metrics, &self.timing].map(|lines| lines.end);
        JournalLengths { results, ledger, metrics, timing }
    }

    /// Adds a row to `results.csv`, and one to `ledger.csv` with the hashes of the epoch's last weights.
    pub fn epoch(&mut self, row: &EpochRow, hashes: &WeightsHashes) {
        let EpochRow { epoch, step, train_loss, train_acc, validation, lr } = row;
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        let loss = number(validation.map(|found| found.loss));
        let top1 = number(validation.map(|found| found.accuracy));
        let top5 = number(validation.and_then(|found| found.top5));
        self.results.add(&format!("{epoch},{step},{train_loss},{train_acc},{loss},{top1},{top5},{lr}\n"));
        let WeightsHashes { file, tensors } = hashes;
        match self.has_old_ledger {
            true => self.ledger.add(&format!("{epoch},{step},{file}\n")),
            false => self.ledger.add(&format!("{epoch},{step},{file},{tensors}\n")),
        }
    }

    /// Adds a line to `metrics.jsonl`.
    pub fn metrics(&mut self, line: &impl Serialize) {
        self.metrics.add_json(line);
    }

    /// Adds a line to `timing.jsonl`.
    pub fn timing(&mut self, line: &impl Serialize) {
        self.timing.add_json(line);
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// When a file cannot be written; what is left waits for the next time.
    pub fn write(&mut self) -> Result<(), RecordError> {
        self.each(Lines::write)
    }

    /// Writes what waits, and brings all files to the disk.
    ///
    /// # Errors
    /// As [`Journal::write`].
    pub fn sync(&mut self) -> Result<(), RecordError> {
        self.write()?;
        self.each(Lines::sync)?;
        if !self.has_lasting_names {
            self.folder.sync("").map_err(|error| self.folder.error("", &error))?;
            self.has_lasting_names = true;
        }
        Ok(())
    }

    fn each(&mut self, work: impl Fn(&mut Lines) -> io::Result<()>) -> Result<(), RecordError> {
        let all = [&mut self.results, &mut self.ledger, &mut self.metrics, &mut self.timing];
        let mut first = Ok(());
        // All are tried: if one file cannot be written, the others may still be.
        for lines in all {
            let done = work(lines).map_err(|error| lines.error(&error));
            first = first.and(done);
        }
        first
    }
}

/// Whether a file starts with a text; one that cannot be read does not.
fn starts_with(folder: &Folder, name: &str, text: &str) -> bool {
    let mut start = vec![0; text.len()];
    folder.open_file(name).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == text.as_bytes()
}

/// A file to which lines, or other pieces, are added.
pub(crate) struct Lines {
    path: PathBuf,
    file: File,
    /// Bytes that it has.
    len: u64,
    /// Bytes that it will have.
    end: u64,
    waiting: Vec<u8>,
}

impl Lines {
    /// Opens a file, to add to it after `len` bytes.
    ///
    /// # Errors
    /// When it is shorter, or cannot be opened.
    pub fn open(folder: &Folder, name: &str, len: u64) -> Result<Lines, RecordError> {
        let path = folder.path().join(name);
        let file = folder.open_or_create(name).map_err(|error| RecordError::write(&path, &error))?;
        let found = file.metadata().map_err(|error| RecordError::read(&path, &error))?.len();
        if found < len {
            return Err(RecordError::Short { path, found, expected: len });
        }
        Ok(Lines { path, file, len, end: len, waiting: Vec::new() })
    }

    fn add(&mut self, line: &str) {
        self.add_bytes(line.as_bytes());
    }

    /// Adds a piece, which waits until [`Lines::write`].
    pub fn add_bytes(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
        self.end += bytes.len() as u64;
    }

    /// Bytes that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Returns an error about the file.
    pub fn error(&self, error: &io::Error) -> RecordError {
        RecordError::write(&self.path, error)
    }

    fn add_json(&mut self, line: &impl Serialize) {
        let mut text = serde_json::to_string(line).expect("a line is plain numbers and texts");
        text.push('\n');
        self.add(&text);
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// When it cannot be written; it waits for the next time.
    pub fn write(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        // An attempt that was given up half-way is written over.
        self.file.seek(SeekFrom::Start(self.len))?;
        faults::check(&self.path)?;
        self.file.write_all(&self.waiting)?;
        self.len = self.end;
        self.waiting.clear();
        Ok(())
    }

    /// Brings it to the disk.
    ///
    /// # Errors
    /// When that fails.
    pub fn sync(&mut self) -> io::Result<()> {
        faults::check(&self.path)?;
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(file: &str) -> WeightsHashes {
        WeightsHashes { file: file.to_string(), tensors: format!("{file}-tensors") }
    }

    #[test]
    fn rows_have_the_columns_of_the_header_with_and_without_validation() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        let mut journal = Journal::start(&folder).unwrap();
        let row = EpochRow { epoch: 1, step: 7, train_loss: 2.5, train_acc: 0.25, validation: None, lr: 1e-5 };
        journal.epoch(&row, &hashes("ab"));
        let validation = Some(Validation { loss: 1.5, accuracy: 0.5, top5: Some(0.75) });
        journal.epoch(&EpochRow { epoch: 2, step: 14, validation, ..row }, &hashes("cd"));
        journal.write().unwrap();
        let text = std::fs::read_to_string(folder.path().join("results.csv")).unwrap();
        let expected = "epoch,step,train_loss,train_acc,val_loss,val_acc,val_top5,lr\n\
                        1,7,2.5,0.25,,,,0.00001\n\
                        2,14,2.5,0.25,1.5,0.5,0.75,0.00001\n";
        assert_eq!(text, expected);
        let ledger = std::fs::read_to_string(folder.path().join("ledger.csv")).unwrap();
        assert_eq!(ledger, "epoch,step,sha256,tensors_sha256\n1,7,ab,ab-tensors\n2,14,cd,cd-tensors\n");
    }

    #[test]
    fn a_ledger_of_an_earlier_version_keeps_its_columns() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        let start = "epoch,step,sha256\n1,7,ab\n";
        std::fs::write(folder.path().join("ledger.csv"), start).unwrap();
        let lengths = JournalLengths { ledger: start.len() as u64, ..JournalLengths::default() };
        let mut journal = Journal::goes_on(&folder, &lengths).unwrap();
        let row = EpochRow { epoch: 2, step: 14, train_loss: 2.5, train_acc: 0.25, validation: None, lr: 1e-5 };
        journal.epoch(&row, &hashes("cd"));
        journal.write().unwrap();
        let ledger = std::fs::read_to_string(folder.path().join("ledger.csv")).unwrap();
        assert_eq!(ledger, "epoch,step,sha256\n1,7,ab\n2,14,cd\n");
    }

    #[test]
    fn a_metrics_line_is_one_object() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        let mut journal = Journal::start(&folder).unwrap();
        let line = MetricsLine {
            step: 3,
            epoch: 1,
            loss: 0.5,
            accuracy: 0.75,
            gradient_norm: 1.25,
            lr: 0.001,
            spikes: Vec::new(),
            skipped: Vec::new(),
        };
        journal.metrics(&line);
        journal.metrics(&MetricsLine { step: 6, spikes: vec![4, 5], ..line });
        journal.write().unwrap();
        let text = std::fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((lines.len(), lines[1]["step"].as_u64(), lines[0]["loss"].as_f64()), (2, Some(6), Some(0.5)));
        assert_eq!((lines[0].get("spikes"), &lines[1]["spikes"]), (None, &serde_json::json!([4, 5])));
    }

    #[test]
    fn what_was_written_after_a_state_is_cut_off_and_a_file_that_is_shorter_is_told() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        let read = || std::fs::read_to_string(folder.path().join("timing.jsonl")).unwrap();
        let mut journal = Journal::start(&folder).unwrap();
        journal.timing(&1);
        let lengths = journal.lengths();
        journal.timing(&2);
        journal.sync().unwrap();
        assert_eq!(read(), "1\n2\n");
        let mut journal = Journal::goes_on(&folder, &lengths).unwrap();
        journal.timing(&3);
        journal.write().unwrap();
        assert_eq!(read(), "1\n3\n");
        std::fs::write(folder.path().join("timing.jsonl"), "1").unwrap();
        let error = Journal::goes_on(&folder, &lengths).err().unwrap().to_string();
        assert!(error.starts_with("the file has 1 bytes, but had 2 when the checkpoint was written ("), "{error}");
    }

    #[test]
    fn lines_that_cannot_be_written_wait_and_leave_no_gap() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        let mut journal = Journal::start(&folder).unwrap();
        journal.timing(&"first");
        journal.write().unwrap();
        let faults = faults::Faults::new(folder.path(), 0..2);
        journal.timing(&"second");
        assert_eq!((journal.write().is_err(), journal.write().is_err()), (true, true));
        journal.timing(&"third");
        journal.write().unwrap();
        drop(faults);
        let text = std::fs::read_to_string(folder.path().join("timing.jsonl")).unwrap();
        assert_eq!(text, "\"first\"\n\"second\"\n\"third\"\n");
    }
}
