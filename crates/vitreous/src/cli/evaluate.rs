//! `vitreous evaluate`: what a run's weights reach on images they were not trained on.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use vitreous_engine::Memory;

use super::reading::{evaluating, reading};
use super::settings::dir_of_environment;
use super::strips;
use super::table::{Align, table};
use super::{CliError, json, show};
use crate::config::classes::ClassSubset;
use crate::config::data::DataSpec;
use crate::config::layers::Layers;
use crate::config::train::THREADS_MAX;
use crate::data::strips::check_digits;
use crate::data::{self, DataError, Facts, ImageSet, Split, SplitName, Wanted};
use crate::evaluate::{Answers, BATCH, ClassMap, Classifier, Reached, Report, Scores, shortened};
use crate::record::{RecordError, Run, Weights};
use crate::train::{available_memory, check_memory, threads};
use crate::units;

/// Most classes whose whole confusion matrix is shown on the screen.
const MATRIX_CLASSES_MAX: usize = 20;

/// Confusions that are shown instead of a larger matrix.
const CONFUSIONS_SHOWN: usize = 10;

/// Longest class name in the table of classes, in characters.
const NAME_MAX: usize = 40;

/// Measures a trained model on a split of its data
#[derive(clap::Args)]
pub struct Args {
    /// The run's folder, such as runs/digits
    #[arg(value_name = "RUN", required_unless_present = "named")]
    run: Option<PathBuf>,
    /// The same, as other commands have it
    #[arg(long = "run", id = "named", value_name = "FOLDER", conflicts_with = "run")]
    named: Option<PathBuf>,
    /// Which images [default: test, or val where there is no test split]
    #[arg(long, value_name = "NAME")]
    split: Option<SplitArg>,
    /// Which weights [default: best, or last where there are no best]
    #[arg(long, value_name = "NAME")]
    weights: Option<WeightsArg>,
    /// Other images than the run's: a data set's name, or a folder with a folder of pictures for each class
    #[arg(long, value_name = "NAME|FOLDER")]
    data: Option<String>,
    /// The folder in which data sets are [default: the run's, else $VITREOUS_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Go on without pictures that cannot be decoded, and count them
    #[arg(long)]
    skip_bad_images: bool,
    /// Of a reader: beginnings that are followed at a time [default: 1, the likeliest word each time]
    #[arg(long, value_name = "N", value_parser = strips::beam)]
    beam: Option<usize>,
    /// Of a reader: strips that are shown with what was read [default: 3]
    #[arg(long, value_name = "N")]
    examples: Option<usize>,
    /// Threads [default: one for each processor]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = up_to_threads_max)]
    threads: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Reads a number of threads that a system may have.
fn up_to_threads_max(text: &str) -> Result<usize, String> {
    let number = text.parse::<usize>().ok().filter(|number| *number <= THREADS_MAX);
    number.ok_or_else(|| format!("it is no whole number between 0 and {THREADS_MAX}"))
}

/// Which images of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SplitArg {
    /// Images that training never sees
    Test,
    /// Images by which the best weights were chosen
    #[value(alias = "validation")]
    Val,
    /// Images that were trained on
    Train,
}

impl From<SplitArg> for SplitName {
    fn from(split: SplitArg) -> SplitName {
        match split {
            SplitArg::Test => SplitName::Test,
            SplitArg::Val => SplitName::Validation,
            SplitArg::Train => SplitName::Train,
        }
    }
}

/// Which weights of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WeightsArg {
    /// Those that were kept as the best: by the validation split, or by the lowest training loss
    Best,
    /// Those at the end
    Last,
}

impl From<WeightsArg> for Weights {
    fn from(weights: WeightsArg) -> Weights {
        match weights {
            WeightsArg::Best => Weights::Best,
            WeightsArg::Last => Weights::Last,
        }
    }
}

/// What came of an evaluation.
pub struct Measured {
    /// What was reached.
    pub report: Report,
    /// Where it was written.
    pub folder: PathBuf,
    /// Whether the images were the run's own.
    pub is_own: bool,
    /// Of a reader, some strips with what was read, as text.
    examples: String,
    /// Whether it could be written.
    pub kept: Result<(), RecordError>,
}

impl Args {
    /// Asks for a split of a run's own images.
    pub fn of(run: &Path, split: SplitName, threads: usize) -> Args {
        let split = match split {
            SplitName::Train => SplitArg::Train,
            SplitName::Validation => SplitArg::Val,
            SplitName::Test => SplitArg::Test,
        };
        Args {
            run: Some(run.to_path_buf()),
            named: None,
            split: Some(split),
            weights: None,
            data: None,
            data_dir: None,
            skip_bad_images: false,
            beam: None,
            examples: None,
            threads,
            json: false,
        }
    }
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), CliError> {
    let Measured { report, folder, is_own, examples, kept } = measure(&args, true)?;
    if args.json {
        show(&json(&report))?;
    } else {
        show(&format!("{examples}{}", text(&report)))?;
    }
    if let Err(error) = kept {
        let hint = "what is printed is all there is: make the run's folder writable, or evaluate a copy of it";
        return Err(CliError::user(error.to_string(), Some(hint.to_string())));
    }
    say!("written to {}", folder.display());
    if report.split == SplitName::Test && is_own && report.test_evaluations > 1 {
        let times = report.test_evaluations;
        say!("note: the test split was looked at {times} times: what is chosen by it is no longer tested by it");
    }
    Ok(())
}

/// Measures and records; with a bar on stderr where one is wanted.
pub fn measure(args: &Args, bar: bool) -> Result<Measured, CliError> {
    let folder = args.run.as_ref().or(args.named.as_ref()).expect("clap asks for one of them");
    let mut run = Run::open(folder)?;
    let (weights, path) = run.find_weights(args.weights.map(Weights::from))?;
    let threads = threads(args.threads);
    let mut classifier = load(&path, threads)?;
    let spec = data_spec(args, &run, &classifier)?;
    let facts = data::inspect(&spec).map_err(|error| elsewhere(args, error))?;
    let classes = ClassMap::new(classifier.class_names(), &facts.class_names)?;
    let only_readers = [("--beam", args.beam.is_some()), ("--examples", args.examples.is_some())];
    if classifier.is_reader() {
        check_digits(&facts.name, &facts.class_names)?;
    } else if let Some((flag, _)) = only_readers.iter().find(|(_, is_given)| *is_given) {
        return Err(strips::no_reader(flag));
    }
    let split = choose_split(args.split, &facts)?;
    // Only all that training loaded has a fingerprint to compare with.
    let wanted = if split == SplitName::Test { Wanted::Test } else { Wanted::TrainAndValidation };
    let images = facts.image_bytes(wanted);
    check_memory("evaluating", (classifier.memory(BATCH), images), facts.is_folder(), available_memory())?;
    let mut loaded = reading(|progress| data::load(&spec, &facts, wanted, threads, progress))?;
    let images = match split {
        SplitName::Train => loaded.train.take(),
        SplitName::Validation => loaded.validation.take(),
        SplitName::Test => loaded.test.take(),
    };
    let Some(images) = images else {
        // Nothing but the validation split may be missing without an error.
        let hint = Some("use --split train, or --split test".to_string());
        return Err(CliError::user(format!("{} has no {split} split", facts.name), hint));
    };
    classifier.check(&images)?;
    // What others than the run's own images say chooses nothing for the run; those of an earlier look at this split are
    // its own under another name too.
    let is_own = is_same_place(&facts.name, &run.manifest().data.name)
        || Report::kept(run.folder(), split).any(|(_, earlier)| earlier.fingerprint == loaded.fingerprint);
    let other = (!is_own).then_some(facts.name.as_str());
    let mut kept = Ok(());
    if split == SplitName::Test && other.is_none() {
        kept = run.update(|manifest| manifest.test_evaluations += 1);
    }
    let fingerprint = loaded.fingerprint.clone();
    let is_beside_best = weights == Weights::Last && run.find_weights(Some(Weights::Best)).is_ok();
    let folder = Report::folder(run.folder(), split, other, is_beside_best);
    if other.is_none() || split == SplitName::Test {
        note_other_data(&run, &folder, split, &fingerprint);
    }
    if !loaded.skipped.is_empty() {
        say!("note: {} pictures that cannot be decoded were left out", loaded.skipped.len());
    }
    let mut ask = |progress: &mut dyn FnMut(usize)| ask(args, split, &images, &mut classifier, &classes, progress);
    let (reached, answers, examples) = if bar { evaluating(images.len(), ask)? } else { ask(&mut |_| ())? };
    if !reached.loss().is_finite() {
        say!("note: the loss is no finite number: the model has diverged");
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
        reached,
    };
    // Work that cannot be written can still be printed.
    let kept = kept
        .and_then(|()| report.save(&folder, &answers))
        .and_then(|()| run.update(|manifest| manifest.note_evaluation(report.record())));
    Ok(Measured { report, folder, is_own, examples, kept })
}

/// Whether two names are of the same data: equal, or ways to the same folder.
fn is_same_place(one: &str, other: &str) -> bool {
    let folder = |name: &str| Path::new(name).canonicalize().ok();
    Path::new(one) == Path::new(other) || folder(one).is_some_and(|one| Some(one) == folder(other))
}

/// Asks the model about all images; of a reader, some strips come as text.
fn ask(
    args: &Args,
    split: SplitName,
    images: &Split,
    classifier: &mut Classifier,
    classes: &ClassMap,
    progress: &mut dyn FnMut(usize),
) -> Result<(Reached, Answers, String), CliError> {
    let (model, data, seed) = (&classifier.config().model, &classifier.config().data, classifier.config().train.seed);
    match ImageSet::new(images.clone(), split, model, data, seed) {
        ImageSet::Classified(split) => {
            let (scores, predictions) = classifier.evaluate(&split, classes, progress)?;
            Ok((Reached::Classes(scores), Answers::Classes(predictions), String::new()))
        }
        ImageSet::Strips(strips) => {
            let (scores, readings) = classifier.read(&strips, args.beam.unwrap_or(strips::BEAM), progress);
            let examples = strips::examples(&strips, &readings, args.examples.unwrap_or(strips::EXAMPLES));
            let truths = (0..strips.len()).map(|i| strips.digits(i)).collect();
            Ok((Reached::Reading(scores), Answers::Readings { truths, readings }, examples))
        }
    }
}

/// Reads a file of weights where there is memory for it.
pub fn load(path: &Path, threads: usize) -> Result<Classifier, CliError> {
    // What is in the file, and the parameters that it becomes; one that is not there is told in a moment.
    let bytes = std::fs::metadata(path).map_or(0, |file| file.len());
    let memory = Memory { parameters: bytes.saturating_mul(2), ..Memory::default() };
    check_memory("reading the weights", (memory, 0), false, available_memory())?;
    Ok(Classifier::load(path, threads)?)
}

/// A run knows its pictures by the name that they were given, which may mean nothing in another folder.
fn elsewhere(args: &Args, error: DataError) -> CliError {
    match error {
        DataError::UnknownName { name, .. } if args.data.is_none() => {
            let hint = "say in which folder it lies with --data-dir, or name other pictures with --data FOLDER";
            CliError::user(format!("the run was trained on `{name}`, which is not here"), Some(hint.to_string()))
        }
        error => error.into(),
    }
}

/// The run's own images, unless others are asked for.
fn data_spec(args: &Args, run: &Run, classifier: &Classifier) -> Result<DataSpec, CliError> {
    let mut layers = Layers::new();
    layers.add_file(&run.config_path())?;
    let mut spec = layers.finish()?.config().data.clone();
    if let Some(name) = &args.data {
        spec.name = name.clone();
        // Images are normalised as the model's own were.
        (spec.mean, spec.std) = (None, None);
        let shape = classifier.shape();
        let folder = !spec.is_known_data_set();
        spec.image_size = folder.then_some(shape.height);
        spec.channels = folder.then_some(shape.channels);
    }
    spec.dir = args.data_dir.clone().or(spec.dir).or_else(dir_of_environment);
    spec.skip_bad_images |= args.skip_bad_images;
    if spec.classes.take().is_some() {
        // By name: other data may number its classes otherwise, or lack some.
        let known = classifier.class_names();
        let of_others = args.data.is_some().then(|| data::inspect(&spec)).transpose()?;
        let found = of_others.map_or_else(|| known.to_vec(), |facts| facts.class_names);
        let chosen: Vec<String> = found.into_iter().filter(|name| known.contains(name)).collect();
        if chosen.is_empty() {
            let error = format!("no class of {} is one that {} was trained on", spec.name, run.name());
            return Err(CliError::user(error, Some(format!("its classes are {}", known.join(", ")))));
        }
        spec.classes = Some(ClassSubset::Listed(chosen));
    }
    Ok(spec)
}

fn choose_split(asked: Option<SplitArg>, facts: &Facts) -> Result<SplitName, CliError> {
    match asked {
        Some(split) => Ok(split.into()),
        None if facts.has_test() => Ok(SplitName::Test),
        None if facts.validation > 0 => {
            say!("note: {} has no test split: evaluated on the validation split", facts.name);
            Ok(SplitName::Validation)
        }
        None => {
            let error = format!("{} has neither a test split nor a validation split", facts.name);
            Err(CliError::user(error, Some("use --split train".to_string())))
        }
    }
}

/// Says so when the images are not those of the training, or of the last evaluation.
fn note_other_data(run: &Run, folder: &Path, split: SplitName, fingerprint: &str) {
    let earlier = Report::earlier(folder);
    if split == SplitName::Test {
        if earlier.is_some_and(|earlier| earlier.fingerprint != fingerprint) {
            say!("note: these images are not those of the last evaluation");
        }
    } else if run.manifest().data.fingerprint != fingerprint {
        say!("note: these images are not those of the training: other files, or other settings of [data]");
    }
}

fn text(report: &Report) -> String {
    match &report.reached {
        Reached::Classes(scores) => classes_text(report, scores),
        Reached::Reading(scores) => strips::text(report, scores),
    }
}

fn classes_text(report: &Report, scores: &Scores) -> String {
    let mut text = class_table(scores);
    text.push('\n');
    if scores.classes.len() <= MATRIX_CLASSES_MAX {
        text.push_str(&scores.confusion.text());
    } else {
        text.push_str("most often taken for another class\n");
        let mut rows = vec![["images", "true class", "taken for"].map(str::to_string)];
        let confused = scores.confusion.most_confused(CONFUSIONS_SHOWN);
        let name = |name: &str| shortened(name, NAME_MAX);
        rows.extend(confused.iter().map(|c| [units::count(c.images), name(c.label), name(c.prediction)]));
        text.push_str(&table(&rows, &[Align::Right, Align::Left, Align::Left]));
    }
    let [low, high] = scores.top1_interval.map(units::percent);
    text.push_str(&format!(
        "\n{} of {}, {} images; weights {} of {} (step {})\nloss {:.4}, top-1 {} (95 % interval {low} to {high}), \
         top-5 {}\n",
        report.split,
        report.data,
        units::count(scores.images),
        report.weights,
        report.run,
        units::count(report.step),
        scores.loss,
        units::percent(scores.top1),
        units::percent(scores.top5),
    ));
    text
}

fn class_table(scores: &Scores) -> String {
    let row = |name: &str, values: [f64; 3], images: u64| {
        let [precision, recall, f1] = values.map(units::percent);
        [shortened(name, NAME_MAX), precision, recall, f1, units::count(images)]
    };
    let mut rows = vec![["class", "precision", "recall", "F1", "images"].map(str::to_string)];
    rows.extend(scores.classes.iter().map(|c| row(&c.name, [c.precision, c.recall, c.f1], c.support)));
    rows.push(row("mean", [scores.precision_mean, scores.recall_mean, scores.f1_mean], scores.images));
    let right = Align::Right;
    table(&rows, &[Align::Left, right, right, right, right])
}
