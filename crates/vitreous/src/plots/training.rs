//! The plots of a training, drawn after its epochs by a thread of their own.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::images::{Patches, patches, samples};
use super::{Files, PlotChoice};
use crate::checkpoint::SavedWeights;
use crate::config::ResolvedConfig;
use crate::config::model::{ModelConfig, Position};
use crate::config::train::Keep;
use crate::data::ImageSet;
use crate::models::layers::embedding::{sine_cosine, sine_cosine_2d};
use crate::models::reader;
use crate::numbers;
use crate::plot::curves::{Epoch, Line, Marks, Record, curves};
use crate::plot::pictures::{Grid, grid};
use crate::plot::tokens;
use crate::plot::{Figure, Theme};
use crate::record::{EpochRow, History, MetricsLine, RecordError, Run, Weights};

/// Figures are drawn again only after so many times the time that drawing took: so they take under 1 % of a run's time.
const REST: u32 = 100;

/// Largest weights file whose learned positions are drawn after an epoch, in bytes; of larger ones they are drawn at
/// the end.
const WEIGHTS_MAX: u64 = 32 << 20;

/// Epochs whose rows may still wait to be written.
const ROWS: usize = 100;

/// What the plots of a training need of its config.
#[derive(Clone)]
struct Facts {
    model: Option<ModelConfig>,
    keep: Keep,
}

/// The thread that draws, and what it ends with.
type Drawing = JoinHandle<Result<(), RecordError>>;

/// Draws the plots of a training while it runs.
pub struct TrainingPlots {
    facts: Facts,
    run: Run,
    choice: PlotChoice,
    thread: Option<(Sender<Vec<EpochRow>>, Drawing)>,
    /// The last rows.
    rows: VecDeque<EpochRow>,
}

/// What that thread has.
struct Painter {
    facts: Facts,
    run: Run,
    choice: PlotChoice,
    /// Samples of the images, and what the model reads of some, until they are drawn.
    images: Option<(Grid, Option<Patches>)>,
}

impl TrainingPlots {
    /// Draws what does not change in a training (images, fixed positions) on a new thread, and waits there for epochs.
    pub fn start(choice: PlotChoice, run: &Run, config: &ResolvedConfig, set: &dyn ImageSet) -> TrainingPlots {
        let class_names = &run.manifest().data.class_names;
        let facts = Facts { model: Some(config.model.clone()), keep: config.train.keep };
        let images = (samples(set, &config.data, class_names), patches(set, &config.model, class_names));
        let painter = Painter { facts: facts.clone(), run: run.clone(), choice: choice.clone(), images: Some(images) };
        let (sender, receiver) = mpsc::channel();
        // Where the system starts no thread, all but the images is drawn at the end.
        let handle = thread::Builder::new().name("plots".to_string()).spawn(move || painter.work(&receiver)).ok();
        let thread = handle.map(|handle| (sender, handle));
        TrainingPlots { facts, run: run.clone(), choice, thread, rows: VecDeque::new() }
    }

    /// Notes an epoch, and has its plots drawn.
    pub fn epoch(&mut self, row: &EpochRow) {
        // The file may still wait to be written, so the last rows go with it.
        if self.rows.len() == ROWS {
            self.rows.pop_front();
        }
        self.rows.push_back(*row);
        if let Some((sender, _)) = &self.thread {
            // A thread that has ended has an error for the end.
            let _ = sender.send(self.rows.iter().copied().collect());
        }
    }

    /// Draws the plots of the end, when everything is written.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn finish(self) -> Result<(), RecordError> {
        match self.thread {
            Some((sender, handle)) => {
                drop(sender);
                // A panic of that thread has printed its message; the training is done all the same.
                handle.join().unwrap_or(Ok(()))
            }
            None => draw_end(&mut Files::open(&self.run, &self.choice)?, &self.facts),
        }
    }
}

impl Painter {
    /// Draws after epochs, and at the end. What could not be written is written after a later epoch, or at the end: only
    /// an error that is still there then counts.
    fn work(mut self, epochs: &Receiver<Vec<EpochRow>>) -> Result<(), RecordError> {
        self.images().ok();
        let mut rest = Instant::now();
        while let Ok(first) = epochs.recv() {
            // Only the newest matter.
            let rows = epochs.try_iter().last().unwrap_or(first);
            if Instant::now() >= rest {
                let clock = Instant::now();
                self.images().ok();
                self.curves(&rows).ok();
                rest = Instant::now() + REST * clock.elapsed().max(Duration::from_micros(1));
            }
        }
        // The training has ended, and all its records are written.
        let images = self.images();
        let end = Files::open(&self.run, &self.choice).and_then(|mut files| draw_end(&mut files, &self.facts));
        images.and(end)
    }

    /// Draws what shows images, and fixed positions, unless that is done.
    fn images(&mut self) -> Result<(), RecordError> {
        let Some((grid_of, cuts)) = &self.images else { return Ok(()) };
        let mut files = Files::open(&self.run, &self.choice)?;
        files.write("samples", |style| grid(grid_of, style))?;
        if let Some((cuts, columns, below)) = cuts {
            files.write("patches", |style| tokens::patches(cuts, *columns, below, style))?;
        }
        draw_positions(&mut files, &self.facts, 0)?;
        self.images = None;
        Ok(())
    }

    /// Draws what changes with each epoch.
    fn curves(&self, rows: &[EpochRow]) -> Result<(), RecordError> {
        let mut files = Files::open(&self.run, &self.choice)?;
        draw_curves(&mut files, &self.facts, rows)?;
        match self.facts.has_learned_positions() {
            true => draw_positions(&mut files, &self.facts, WEIGHTS_MAX),
            false => Ok(()),
        }
    }
}

impl Facts {
    fn has_learned_positions(&self) -> bool {
        match &self.model {
            Some(ModelConfig::Vit(vit)) => vit.spec().position == Position::Learned,
            model => matches!(model, Some(ModelConfig::SequenceVit(_))),
        }
    }
}

/// Draws the plots of a training that can be made of its run folder alone, and returns the names of the files.
///
/// # Errors
/// When the folder cannot be read or written.
pub fn draw_training(
    run: &Run,
    model: Option<ModelConfig>,
    keep: Keep,
    choice: &PlotChoice,
) -> Result<Vec<String>, RecordError> {
    let facts = Facts { model, keep };
    let mut files = Files::open(run, choice)?;
    draw_end(&mut files, &facts).map(|()| files.written)
}

fn draw_end(files: &mut Files, facts: &Facts) -> Result<(), RecordError> {
    draw_curves(files, facts, &[])?;
    draw_positions(files, facts, u64::MAX)
}

/// What a run recorded, and what is marked in its curves; they have this name.
///
/// # Errors
/// When it is not a run.
pub fn record_and_marks(folder: &Path, name: &str) -> Result<(Record, Marks), RecordError> {
    let (record, marks) = recorded(&Run::open(folder)?, Keep::Last)?;
    Ok((record, Marks { name: name.to_string(), ..marks }))
}

/// What a run recorded, and what is marked in its curves: the best epoch only where it keeps the best weights.
///
/// # Errors
/// When its folder cannot be read.
pub fn recorded(run: &Run, keep: Keep) -> Result<(Record, Marks), RecordError> {
    let history = History::read(run.files())?;
    let record = record_of(&history);
    let marks = Marks { damage: damage(run, &history), ..marks(run, &record, keep) };
    Ok((record, marks))
}

fn draw_curves(files: &mut Files, facts: &Facts, rows: &[EpochRow]) -> Result<(), RecordError> {
    let mut history = History::read(files.run.files())?;
    for row in rows {
        if history.epochs.last().is_none_or(|last| last.step < row.step) {
            history.epochs.push(*row);
        }
    }
    let record = record_of(&history);
    let marks = marks(files.run, &record, facts.keep);
    files.write("curves", |style| curves(&record, &marks, style))
}

/// What is drawn of a run's history.
fn record_of(history: &History) -> Record {
    let line = |line: &MetricsLine| Line { step: line.step as f64, loss: line.loss, lr: line.lr };
    Record {
        lines: history.lines.iter().map(line).collect(),
        epochs: history.epochs.iter().map(epoch_of).collect(),
        rollbacks: history.rollbacks.iter().map(|step| *step as f64).collect(),
    }
}

fn epoch_of(row: &EpochRow) -> Epoch {
    let EpochRow { epoch, step, train_loss, train_acc, validation, lr } = *row;
    let [val_loss, val_acc] = validation.map_or([f64::NAN; 2], |found| [found.loss, found.accuracy]);
    // An accuracy that cannot be is that of a damaged record.
    let [train_acc, val_acc] =
        [train_acc, val_acc].map(|part| if (0.0..=1.0).contains(&part) { part } else { f64::NAN });
    Epoch { epoch: epoch as f64, step: step as f64, train_loss, train_acc, val_loss, val_acc, lr }
}

/// What is missing in the records of a run, a sentence for each file.
fn damage(run: &Run, history: &History) -> Vec<String> {
    let [metrics, results] = history.unreadable;
    let unreadable = |lines: usize, file: &str| match lines {
        0 => None,
        lines => Some(format!("{} of {file} cannot be read", numbers::counted(lines, "line"))),
    };
    let ended = run.manifest().results.as_ref().filter(|_| run.manifest().status.is_finished());
    let no_lines = || {
        let is_lost = ended.is_some() && history.lines.is_empty();
        is_lost.then(|| "metrics.jsonl is missing or empty".to_string())
    };
    let few_rows = || {
        let (all, left) = (usize::try_from(ended?.epochs).ok()?, history.epochs.len());
        let of_all = format!("{} of {}", numbers::count(left as u64), numbers::counted(all, "epoch"));
        (left < all).then(|| format!("results.csv has {of_all}"))
    };
    let found =
        [unreadable(metrics, "metrics.jsonl").or_else(no_lines), unreadable(results, "results.csv").or_else(few_rows)];
    found.into_iter().flatten().collect()
}

/// What is marked in a run's curves.
fn marks(run: &Run, record: &Record, keep: Keep) -> Marks {
    let manifest = run.manifest();
    // An earlier version did not note it: where an epoch was completed, the first row is of a whole one.
    let has_whole = manifest.results.as_ref().is_none_or(|results| results.epochs > 0);
    let first = record.epochs.first().filter(|_| has_whole);
    let steps_per_epoch = manifest.steps_per_epoch.map(|steps| steps as f64);
    let steps_per_epoch = steps_per_epoch.or_else(|| first.map(|first| first.step / first.epoch));
    let steps_per_epoch = steps_per_epoch.filter(|steps| *steps > 0.0);
    // As a training chooses it: an epoch that was cut off counts only where there is no other.
    let is_whole = |epoch: &Epoch| steps_per_epoch.is_none_or(|steps| epoch.step % steps == 0.0);
    let is_better = |a: &Epoch, b: &Epoch| a.val_acc > b.val_acc || (a.val_acc == b.val_acc && a.val_loss < b.val_loss);
    let measured = record.epochs.iter().filter(|epoch| epoch.val_acc.is_finite());
    let best = measured.reduce(|best, epoch| if is_whole(epoch) && is_better(epoch, best) { epoch } else { best });
    let best = best.filter(|_| keep == Keep::Best).copied();
    let resumed = manifest.resumed.iter().map(|piece| piece.from_step).filter(|step| *step > 0).collect();
    Marks { name: run.name(), steps_per_epoch, best, resumed, damage: Vec::new() }
}

/// Draws the positions of a model that has any; learned ones from a weights file of at most so many bytes.
fn draw_positions(files: &mut Files, facts: &Facts, most: u64) -> Result<(), RecordError> {
    let Some(figure) = facts.model.as_ref().and_then(|model| positions(files.run, model, most, files.choice.theme))
    else {
        return Ok(());
    };
    files.write("positions", |_| Some(figure))
}

/// The positions of a model that has any, in a theme; learned ones from a weights file of at most so many bytes.
pub fn positions(run: &Run, model: &ModelConfig, most: u64, theme: Theme) -> Option<Figure> {
    let (tokens, width, known) = match model {
        ModelConfig::Vit(vit) => {
            let (tokens, width) = (vit.tokens(), vit.spec().embed_dim);
            let before = usize::from(vit.spec().encodes_class_token());
            match vit.spec().position {
                Position::SineCosine => (tokens, width, Some((sine_cosine(tokens, width), "fixed sine and cosine"))),
                Position::SineCosine2d => {
                    let values = sine_cosine_2d(vit.grid(), width, before);
                    (tokens, width, Some((values, "fixed sine and cosine of column and row")))
                }
                Position::Learned => (tokens, width, None),
                Position::None => return None,
            }
        }
        ModelConfig::Reader(reader) => {
            let (tokens, width) = (reader::tokens(reader), reader.spec().embed_dim);
            (tokens, width, Some((sine_cosine(tokens, width), "fixed sine and cosine")))
        }
        ModelConfig::SequenceVit(vit) => (vit.tokens(), vit.spec().embed_dim, None),
        ModelConfig::Stack(_) | ModelConfig::Convnet(_) => return None,
    };
    let (values, how) = match known {
        Some(known) => known,
        None => (learned_positions(run, most)?, "learned, after the last epoch"),
    };
    // A table may have more rows than there are tokens: those are as they were drawn at the start, and mean nothing.
    let rows = values.len() / width.max(1);
    let unused = if rows > tokens { format!(", {tokens} used") } else { String::new() };
    let below =
        format!("{how}: {}{unused}, {}", numbers::counted(rows, "position"), numbers::counted(width, "dimension"));
    tokens::positions(&values[..values.len().min(tokens * width)], width, &below, theme.style())
}

fn learned_positions(run: &Run, most: u64) -> Option<Vec<f32>> {
    let path = run.weights_path(Weights::Last);
    if std::fs::metadata(&path).ok()?.len() > most {
        return None;
    }
    SavedWeights::read(&path).ok()?.values("pos_embed")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::plot::Format;
    use crate::plot::pictures::{Labelled, Picture};

    #[test]
    fn images_that_could_not_be_drawn_first_are_drawn_later() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = r#"{"format": 1, "version": "1.2.3", "command": [], "status": "running",
            "started": "2025-03-09T17:04:05Z", "finished": null, "seed": 42, "model": null, "parameters": 7,
            "flops": {"forward": 2, "backward": 5}, "data": {"name": "photos", "fingerprint": "ab", "class_names": ["cat"],
            "train": 13, "validation": 5, "test": null, "normalization": {"mean": [0.5], "std": [0.5]}, "skipped": []},
            "machine": {"os": "linux", "arch": "x86_64", "instruction_set": "avx2", "threads": 2, "processors": 2},
            "results": null, "test_evaluations": 0, "evaluations": []}"#;
        fs::write(folder.path().join("manifest.json"), manifest).unwrap();
        fs::write(folder.path().join("config.toml"), "[model]\n").unwrap();
        let picture = Picture { pixels: vec![7], shape: [1, 1, 1] };
        let pictures = vec![Labelled { picture, lines: Vec::new() }];
        let (title, below) = ("t".to_string(), String::new());
        let grid = Grid { title, below, columns: 1, side: 40.0, row_names: Vec::new(), pictures };
        let mut painter = Painter {
            facts: Facts { model: None, keep: Keep::Best },
            run: Run::open(folder.path()).unwrap(),
            choice: PlotChoice { formats: vec![Format::Svg], ..PlotChoice::default() },
            images: Some((grid, None)),
        };
        let plots = folder.path().join("plots");
        fs::write(&plots, "").unwrap();
        assert!(painter.images().is_err() && painter.images.is_some());
        fs::remove_file(&plots).unwrap();
        let (_, epochs) = mpsc::channel();
        painter.work(&epochs).unwrap();
        assert!(plots.join("samples.svg").is_file());
    }
}
