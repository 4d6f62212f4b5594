//! Evaluates a run's weights on a split and keeps the result in the run folder.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use vitreous_engine::{Isa, Memory};

use super::prepare::unused_files;
use super::{Event, ExperimentError, Listener, saved_config};
use crate::checkpoint::Metadata;
use crate::config::classes::{ClassSubset, spelling};
use crate::config::data::DataSpec;
use crate::config::model::Task;
use crate::data::strips::check_digits;
use crate::data::{self, ContentHashes, DataError, Facts, ImageSet, Loaded, Split, SplitName, Wanted, image_set};
use crate::evaluate::{Answers, BATCH, ClassMap, Classifier, Reached, Report};
use crate::plots::{PlotChoice, draw_evaluation, remove_plots};
use crate::record::{EvaluationRecord, RecordError, Run, Weights, sha256_of};
use crate::train::{self, Work, available_memory, check_decoding, check_memory, threads};
use crate::{durations, numbers};

/// What to evaluate, and how.
#[derive(Clone, Debug, Default)]
pub struct EvaluateOptions {
    /// The split; test where it is absent, or validation where the data has no test split.
    pub split: Option<SplitName>,
    /// Splits that are evaluated next: the data must have them too, else nothing is evaluated or counted.
    pub further: Vec<SplitName>,
    /// The weights; best where absent, or last where the run has no best ones.
    pub weights: Option<Weights>,
    /// Other data than the run's: a data set's name or a folder.
    pub data: Option<String>,
    /// The folder with the data sets.
    pub data_dir: Option<PathBuf>,
    /// The same where neither `data_dir` nor the run says it.
    pub default_data_dir: Option<PathBuf>,
    /// Skip image files that cannot be decoded.
    pub skip_bad_images: bool,
    /// Beam width of a reader; greedy decoding where absent.
    pub beam: Option<usize>,
    /// The name of an option that only readers have, for the error if the model is a classifier.
    pub reader_option: Option<&'static str>,
    /// Threads; 0 for one per processor.
    pub threads: usize,
    /// Figures in the run's folder, if any are wanted.
    pub plots: Option<PlotChoice>,
}

/// The result of an evaluation.
pub struct Evaluated {
    /// Accuracies and loss.
    pub report: Report,
    /// The answer for each image.
    pub answers: Answers,
    /// The images.
    pub images: Box<dyn ImageSet>,
    /// Where the report was written.
    pub folder: PathBuf,
    /// Whether the images are the run's own.
    pub is_own: bool,
    /// Whether the report could be written.
    pub written: Result<(), RecordError>,
}

/// Evaluates a run and keeps the report in its folder.
///
/// # Errors
/// When the run, its weights or the data cannot be read, do not match, or there is too little memory.
pub fn evaluate(folder: &Path, options: &EvaluateOptions, listener: Listener) -> Result<Evaluated, ExperimentError> {
    let note = |text: &str| listener(Event::Note(text));
    let progress = |done, total| listener(Event::Reading { done, total });
    let mut run = Run::open(folder)?;
    let detail = |text: &str| listener(Event::Detail(text));
    let (weights, path) = run.find_weights(options.weights)?;
    let threads = threads(options.threads);
    detail(&machine(threads));
    let mut classifier = load_weights(&path, threads)?;
    let Metadata { epoch, step, .. } = classifier.metadata();
    detail(&format!("{}: weights of epoch {epoch}, step {step}", path.display()));
    let is_own_name = options.data.as_ref().is_none_or(|name| is_same_place(name, &run.manifest().data.name));
    let (spec, mut facts) =
        if is_own_name { own_data(options, &run, &classifier) } else { other_data(options, &run, &classifier) }?;
    if !is_own_name {
        unused_files(&facts).for_each(|text| note(&text));
        facts.ignored.problems().for_each(|problem| note(&format!("{}; {}", problem.what, problem.fix)));
    }
    let classes = ClassMap::new(classifier.class_names(), &facts.class_names)?;
    if classifier.task() == Task::ReadStrips {
        check_digits(&facts.name, &facts.class_names)?;
    } else if let Some(option) = options.reader_option {
        return Err(ExperimentError::NotAReader { option });
    }
    let is_test = options.split.map_or(facts.has_test(), |split| split == SplitName::Test);
    if is_own_name && (!is_test || options.further.contains(&SplitName::Validation)) {
        facts.divide(&spec, threads, &progress);
    }
    let split = choose_split(options.split, &facts, is_own_name, listener)?;
    let there = splits_of(&facts);
    if let Some(&split) = options.further.iter().find(|split| !there.contains(split)) {
        return Err(ExperimentError::NoSplit { name: facts.name.clone(), split, available: there, file: None });
    }
    let wanted = wanted_for(split);
    let images = facts.image_bytes(wanted);
    let asked = images / facts.shape.len() as u64;
    let answers = Answers::bytes(asked, classifier.class_names());
    let held = images + classifier.memory(BATCH).parameters;
    check_decoding(held, facts.decoding_bytes(wanted, threads), available_memory(threads))?;
    check_memory(
        Work::Evaluating,
        (classifier.memory(BATCH), images + answers),
        facts.is_folder(),
        available_memory(threads),
    )?;
    let clock = Instant::now();
    let (images, loaded) = load_split(&spec, &mut facts, split, threads, &progress)?;
    let count = numbers::count(images.len() as u64);
    detail(&format!("{}: {count} {split} images loaded in {}", facts.name, took(clock)));
    classifier.check(&images)?;
    // What others than the run's own images say chooses nothing for the run; those of an earlier look at this split are
    // its own under another name too.
    let fingerprint = data::fingerprint(&facts.class_names, [(split, &images)]);
    let is_own =
        is_own_name || Report::kept(run.folder(), split).any(|(_, earlier)| earlier.fingerprint == fingerprint);
    let other = (!is_own).then_some((facts.name.as_str(), loaded.fingerprint.as_str()));
    let weights_sha256 = sha256_of(&path)?;
    let beam = (classifier.task() == Task::ReadStrips).then(|| options.beam.unwrap_or(1) as u64);
    let mut written = Ok(());
    // Counted before the result is known, so that no kill hides it. The same result again tells nothing new.
    if split == SplitName::Test && other.is_none() {
        let images = Some(&fingerprint);
        let is_known = |one: &EvaluationRecord| {
            let is_same = one.weights_sha256.as_ref() == Some(&weights_sha256) && one.fingerprint.as_ref() == images;
            is_same && one.split == split && one.beam == beam
        };
        if !run.manifest().evaluations.iter().any(is_known) {
            written = run.update(|manifest| manifest.test_evaluations += 1);
        }
    }
    let has_best = weights == Weights::Last && run.find_weights(Some(Weights::Best)).is_ok();
    let folder = Report::folder(run.folder(), split, other, has_best);
    let remark = if is_own {
        note_of_own(&run, &folder, split, (&loaded, images.len()), facts.test)
    } else {
        Some(note_of_other(&run, &facts.name, &loaded))
    };
    remark.iter().for_each(|text| note(text));
    if !loaded.skipped.is_empty() {
        note(&format!("{} images that cannot be decoded were skipped", loaded.skipped.len()));
    }
    let total = images.len();
    let clock = Instant::now();
    let mut evaluating = |done| listener(Event::Evaluating { done, total });
    let (reached, answers, images) = ask(options, split, images, &mut classifier, &classes, &mut evaluating)?;
    detail(&format!("evaluated in {}", took(clock)));
    if !reached.loss().is_finite() {
        note("the loss is NaN or infinite: the model has diverged");
    }
    let report = Report {
        run: run.name(),
        weights,
        epoch: classifier.metadata().epoch,
        step: classifier.metadata().step,
        data: if is_own { run.manifest().data.name.clone() } else { facts.name.clone() },
        fingerprint,
        split,
        test_evaluations: run.manifest().test_evaluations,
        note: remark,
        reached,
    };
    let is_same = Report::earlier(&folder).is_some_and(|earlier| earlier.reached == report.reached);
    // The result is returned even if it cannot be written.
    let written = written
        .and_then(|()| report.save(&run, &folder, &answers))
        .and_then(|()| run.update(|manifest| manifest.note_evaluation(report.record(weights_sha256))));
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    match (&written, &options.plots) {
        (Ok(()), Some(choice)) => {
            if let Err(error) = draw_evaluation(&run, &name, &report, Some((&answers, &*images)), choice) {
                note(&format!("{error}; the evaluation has no plots"));
            }
        }
        (Ok(()), None) if !is_same && remove_plots(&run, &name) => {
            note("the plots of an earlier evaluation of this split are removed: they show other results");
        }
        _ => {}
    }
    Ok(Evaluated { report, answers, images, folder, is_own, written })
}

fn took(clock: Instant) -> String {
    durations::duration(clock.elapsed().as_secs_f64())
}

/// What computes, for details.
pub fn machine(threads: usize) -> String {
    let counted = numbers::counted(threads, "thread");
    format!("{counted} on {}, instruction set {}", numbers::counted(train::threads(0), "processor"), Isa::best().name())
}

/// Whether two names are of the same data: equal, or ways to the same folder.
fn is_same_place(one: &str, other: &str) -> bool {
    let folder = |name: &str| Path::new(name).canonicalize().ok();
    Path::new(one) == Path::new(other) || folder(one).is_some_and(|one| Some(one) == folder(other))
}

/// Asks the model about all images.
fn ask(
    options: &EvaluateOptions,
    split: SplitName,
    images: Split,
    classifier: &mut Classifier,
    classes: &ClassMap,
    progress: &mut dyn FnMut(usize),
) -> Result<(Reached, Answers, Box<dyn ImageSet>), ExperimentError> {
    let config = classifier.config();
    let set = image_set(images, split, classifier.task(), &config.data, config.train.seed);
    let (reached, answers) = classifier.evaluate(&*set, classes, options.beam.unwrap_or(1), progress)?;
    Ok((reached, answers, set))
}

impl Classifier {
    /// Loads the weights of a run folder: the best, or the last ones where there are no best.
    ///
    /// # Errors
    /// When it is not a run, or its weights cannot be read.
    pub fn load(run: &Path) -> Result<Classifier, ExperimentError> {
        let run = Run::open(run)?;
        let mut classifier = load_weights(&run.find_weights(None)?.1, threads(0))?;
        classifier.set_training_pixels(run.manifest().data.pixels.clone());
        Ok(classifier)
    }
}

/// Loads a weights file if there is memory for it.
///
/// # Errors
/// When there is not, or the file cannot be read.
pub fn load_weights(path: &Path, threads: usize) -> Result<Classifier, ExperimentError> {
    // The file, and the parameters made of it; a missing file is an error of the next call.
    let bytes = std::fs::metadata(path).map_or(0, |file| file.len());
    let memory = Memory { parameters: bytes.saturating_mul(2), ..Memory::default() };
    check_memory(Work::ReadingWeights, (memory, 0), false, available_memory(threads))?;
    Ok(Classifier::from_file(path, threads)?)
}

/// The run's data may be named by a path that means nothing in another folder.
fn elsewhere(options: &EvaluateOptions, error: DataError) -> ExperimentError {
    match error {
        DataError::UnknownName { name, .. } if options.data.is_none() => ExperimentError::DataElsewhere { name },
        DataError::NoFolder { path, .. } if options.data.is_none() => {
            ExperimentError::DataElsewhere { name: path.display().to_string() }
        }
        error => error.into(),
    }
}

/// The data of the run as its config has it.
fn spec_of(options: &EvaluateOptions, run: &Run) -> Result<DataSpec, ExperimentError> {
    let mut spec = saved_config(run)?.0.config().data.clone();
    spec.name = options.data.clone().unwrap_or(spec.name);
    spec.dir = options.data_dir.clone().or(spec.dir).or_else(|| options.default_data_dir.clone());
    spec.skip_bad_images |= options.skip_bad_images;
    Ok(spec)
}

/// The run's own images, split as they were for the training.
fn own_data(
    options: &EvaluateOptions,
    run: &Run,
    classifier: &Classifier,
) -> Result<(DataSpec, Facts), ExperimentError> {
    let mut spec = spec_of(options, run)?;
    if spec.classes.is_some() {
        // By name: the files may have been found in another order.
        spec.classes = Some(ClassSubset::Listed(classifier.class_names().to_vec()));
    }
    let facts = data::inspect(&spec).map_err(|error| elsewhere(options, error))?;
    Ok((spec, facts))
}

/// Other images than the run's, all of them: what part of its own a run trained on says nothing of these.
fn other_data(
    options: &EvaluateOptions,
    run: &Run,
    classifier: &Classifier,
) -> Result<(DataSpec, Facts), ExperimentError> {
    let own = spec_of(options, run)?;
    let shape = classifier.shape();
    let is_folder = !own.is_known_data_set();
    let mut spec = DataSpec {
        image_size: is_folder.then_some(shape.height),
        channels: is_folder.then_some(shape.channels),
        classes: None,
        val_fraction: 0.0,
        limit_train: None,
        // Images are normalized as the model's own were.
        mean: None,
        std: None,
        ..own.clone()
    };
    let facts = data::inspect_other(&spec)?;
    if own.classes.is_none() {
        return Ok((spec, facts));
    }
    // By name: other data may number its classes otherwise, or lack some.
    let known = classifier.class_names();
    let spelled: HashSet<String> = known.iter().map(|name| spelling(name)).collect();
    let chosen: Vec<String> = facts.class_names.into_iter().filter(|name| spelled.contains(&spelling(name))).collect();
    if chosen.is_empty() {
        let (data, run, known) = (spec.name, run.name(), known.to_vec());
        return Err(ExperimentError::NoCommonClass { data, run, known });
    }
    spec.classes = Some(ClassSubset::Listed(chosen));
    let facts = data::inspect_other(&spec)?;
    Ok((spec, facts))
}

/// Loads a split; what was loaded with it is returned too.
///
/// # Errors
/// When the data has no such split, or cannot be read.
pub(super) fn load_split(
    spec: &DataSpec,
    facts: &mut Facts,
    split: SplitName,
    threads: usize,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<(Split, Loaded), ExperimentError> {
    let none = |facts: &Facts| {
        let available = splits_of(facts);
        ExperimentError::NoSplit { name: facts.name.clone(), split, available, file: None }
    };
    if split == SplitName::Validation && facts.validation == 0 {
        return Err(none(facts));
    }
    let mut loaded = data::load(spec, facts, wanted_for(split), threads, progress).map_err(|error| match error {
        DataError::NoTestSplit { name, file } => {
            facts.divide(spec, threads, progress);
            let (split, available) = (SplitName::Test, splits_of(facts));
            ExperimentError::NoSplit { name, split, available, file: Some(file) }
        }
        error => error.into(),
    })?;
    let images = match split {
        SplitName::Train | SplitName::All => loaded.train.take(),
        SplitName::Validation => loaded.validation.take(),
        SplitName::Test => loaded.test.take(),
    };
    Ok((images.ok_or_else(|| none(facts))?, loaded))
}

/// What is loaded for a split: only all that training loaded has a fingerprint to compare with.
pub(super) fn wanted_for(split: SplitName) -> Wanted {
    if split == SplitName::Test { Wanted::Test } else { Wanted::TrainAndValidation }
}

/// The splits that the data has.
fn splits_of(facts: &Facts) -> Vec<SplitName> {
    let there = [
        (SplitName::Test, facts.has_test()),
        (SplitName::Validation, facts.validation > 0),
        (SplitName::Train, facts.train > 0),
    ];
    there.into_iter().filter(|(_, is_there)| *is_there).map(|(split, _)| split).collect()
}

/// The requested split, or the best available one.
fn choose_split(
    asked: Option<SplitName>,
    facts: &Facts,
    is_own: bool,
    listener: Listener,
) -> Result<SplitName, ExperimentError> {
    let there = splits_of(facts);
    if is_own {
        return match asked {
            // Of a test split that is not there, loading says where it was looked for.
            Some(split) if split == SplitName::Test || there.contains(&split) => Ok(split),
            Some(split) => {
                Err(ExperimentError::NoSplit { name: facts.name.clone(), split, available: there, file: None })
            }
            None if facts.has_test() => Ok(SplitName::Test),
            None if facts.validation > 0 => {
                listener(Event::Note(&format!("{} has no test split: evaluated on the validation split", facts.name)));
                Ok(SplitName::Validation)
            }
            None => Err(ExperimentError::OnlyTraining { name: facts.name.clone() }),
        };
    }
    match asked {
        Some(split) if there.contains(&split) => Ok(split),
        Some(split) => {
            let available = if facts.is_unsplit() { vec![SplitName::All] } else { there };
            Err(ExperimentError::NoSplit { name: facts.name.clone(), split, available, file: None })
        }
        None if facts.is_unsplit() => Ok(SplitName::All),
        None => Ok(there.first().copied().unwrap_or(SplitName::Test)),
    }
}

/// The note on which of `images` images of the run's own data may have been used for training, if the data has changed.
/// `test` is the number of images of the test split now, as the listing has it.
fn note_of_own(
    run: &Run,
    folder: &Path,
    split: SplitName,
    (loaded, images): (&Loaded, usize),
    test: Option<usize>,
) -> Option<String> {
    let before = &run.manifest().data;
    if split == SplitName::Test {
        // Training does not read the test split, so all that is known of it is how many files a folder had.
        if loaded.content.is_some() && before.test != test {
            let [now, then] = [test, before.test].map(|count| numbers::count(count.unwrap_or(0) as u64));
            return Some(format!(
                "the test split had {then} images when the run was trained and has {now} now: whether images of it were \
                 used for training is unknown"
            ));
        }
        let is_other = Report::earlier(folder).is_some_and(|earlier| earlier.fingerprint != loaded.fingerprint);
        return is_other.then(|| "the test split has changed since the last evaluation".to_string());
    }
    if before.are_same_images(&loaded.fingerprint, loaded.content.as_ref()) {
        return None;
    }
    let count = numbers::count(images as u64);
    let these = format!("these {count} {split} images");
    let changed = "the data has changed since the run was trained";
    Some(match (before.forced, loaded.forced, split) {
        (None, Some(_), _) if before.content.is_none() => format!(
            "the run was trained by an earlier version, which split folders by file order instead of file content: any \
             of {these} may have been used for training"
        ),
        (Some(before), Some(now), SplitName::Validation) => match (before.train + now.validation).min(images) {
            0 => format!("{changed}: none of {these} is a file that was used for training"),
            most => {
                let most = numbers::count(most as u64);
                format!("{changed}: up to {most} of {these} may have been used for training")
            }
        },
        _ => format!("{changed}: which of {these} were used for training is unknown"),
    })
}

/// The note on which images of other data may have been used for training.
fn note_of_other(run: &Run, name: &str, loaded: &Loaded) -> String {
    let before = &run.manifest().data;
    let all = |content: &ContentHashes| content.in_any_order.clone();
    if before.content.is_some() && before.content.as_ref().map(all) == loaded.content.as_ref().map(all) {
        let [train, images] =
            [before.train, before.train + before.validation].map(|count| numbers::count(count as u64));
        let own = &before.name;
        return format!("{name} has the same images as {own}: the run was trained on {train} of these {images}");
    }
    format!("{name} is not the data of the training: whether images of it were used for training is unknown")
}
