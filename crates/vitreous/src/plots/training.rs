//! The plots of a training, drawn after its epochs by a thread of their own.

use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::images::{patches, samples};
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
use crate::plot::pictures::grid;
use crate::plot::tokens;
use crate::plot::{Figure, Theme};
use crate::record::{EpochRow, History, MetricsLine, RecordError, Run, Weights};

/// Figures are drawn again only after so many times the time that drawing took: so they take under 1 % of a run's time.
const REST: u32 = 100;

/// Largest weights file whose learned positions are drawn after an epoch, in bytes; of larger ones they are drawn at
/// the end.
const WEIGHTS_MAX: u64 = 32 << 20;

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
    rows: Vec<EpochRow>,
}

impl TrainingPlots {
    /// Draws what does not change in a training (images, fixed positions) on a new thread, and waits there for epochs.
    pub fn start(choice: PlotChoice, run: &Run, config: &ResolvedConfig, set: &dyn ImageSet) -> TrainingPlots {
        let class_names = &run.manifest().data.class_names;
        let facts = Facts { model: Some(config.model.clone()), keep: config.train.keep };
        let pictures = samples(set, &config.data, class_names);
        let cuts = patches(set, &config.model, class_names);
        let (sender, receiver) = mpsc::channel::<Vec<EpochRow>>();
        let own = (facts.clone(), run.clone(), choice.clone());
        let work = move || {
            let (facts, run, choice) = own;
            let mut files = Files::open(&run, &choice)?;
            let begun = files.write("samples", |style| grid(&pictures, style)).and_then(|()| {
                let Some((cuts, columns, below)) = &cuts else { return Ok(()) };
                files.write("patches", |style| tokens::patches(cuts, *columns, below, style))
            });
            drop((pictures, cuts));
            let begun = begun.and_then(|()| draw_positions(&mut files, &facts, 0));
            let mut rest = Instant::now();
            while let Ok(first) = receiver.recv() {
                // Only the newest matter.
                let rows = receiver.try_iter().last().unwrap_or(first);
                if Instant::now() >= rest {
                    let clock = Instant::now();
                    let drawn = draw_curves(&mut files, &facts, &rows);
                    if facts.has_learned_positions() {
                        drawn.and_then(|()| draw_positions(&mut files, &facts, WEIGHTS_MAX)).ok();
                    }
                    // What could not be written is written after a later epoch, or at the end.
                    rest = Instant::now() + REST * clock.elapsed().max(Duration::from_micros(1));
                }
            }
            // The training has ended, and all its records are written.
            begun.and(draw_end(&mut files, &facts))
        };
        // Where the system starts no thread, all is drawn at the end.
        let handle = thread::Builder::new().name("plots".to_string()).spawn(work).ok();
        let thread = handle.map(|handle| (sender, handle));
        TrainingPlots { facts, run: run.clone(), choice, thread, rows: Vec::new() }
    }

    /// Notes an epoch, and has its plots drawn.
    pub fn epoch(&mut self, row: &EpochRow) {
        self.rows.push(*row);
        // The file may still wait to be written, so the last rows go with it.
        let recent = self.rows[self.rows.len().saturating_sub(100)..].to_vec();
        if let Some((sender, _)) = &self.thread {
            // A thread that has ended has an error for the end.
            let _ = sender.send(recent);
        }
    }

    /// Draws the plots of the end, when everything is written.
    ///
    /// # Errors
    /// When they cannot be written, now or before.
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
    let record = record_of(&History::read(run.files())?);
    let marks = marks(run, &record, keep);
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
    Marks { name: run.name(), steps_per_epoch, best, resumed }
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
        ModelConfig::Stack(_) => return None,
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
