//! `vitreous evaluate`: what a run's weights reach on images they were not trained on.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use vitreous_engine::Memory;

use super::class_scores;
use super::reading::{evaluating, reading};
use super::settings::dir_of_environment;
use super::strips;
use super::train::passed_over;
use super::{CliError, json, show};
use crate::config::classes::{ClassSubset, spelling};
use crate::config::data::DataSpec;
use crate::config::layers::Layers;
use crate::config::train::THREADS_MAX;
use crate::data::strips::check_digits;
use crate::data::{self, ContentHashes, DataError, Facts, ImageSet, Loaded, Split, SplitName, Wanted};
use crate::evaluate::{Answers, BATCH, ClassMap, Classifier, Reached, Report};
use crate::numbers;
use crate::record::{RecordError, Run, Weights};
use crate::train::{available_memory, check_decoding, check_memory, threads};

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
            SplitName::Train => Some(SplitArg::Train),
            SplitName::Validation => Some(SplitArg::Val),
            SplitName::Test => Some(SplitArg::Test),
            SplitName::All => None,
        };
        Args {
            run: Some(run.to_path_buf()),
            named: None,
            split,
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
    let is_own_name = args.data.as_ref().is_none_or(|name| is_same_place(name, &run.manifest().data.name));
    let (spec, mut facts) =
        if is_own_name { own_data(args, &run, &classifier) } else { other_data(args, &run, &classifier) }?;
    if !is_own_name {
        passed_over(&facts).for_each(|note| say!("note: {note}"));
        facts.passed_over.problems().for_each(|problem| say!("note: {}; {}", problem.what, problem.fix));
    }
    let classes = ClassMap::new(classifier.class_names(), &facts.class_names)?;
    let only_readers = [("--beam", args.beam.is_some()), ("--examples", args.examples.is_some())];
    if classifier.is_reader() {
        check_digits(&facts.name, &facts.class_names)?;
    } else if let Some((flag, _)) = only_readers.iter().find(|(_, is_given)| *is_given) {
        return Err(strips::no_reader(flag));
    }
    let is_test = args.split.map_or(facts.has_test(), |split| split == SplitArg::Test);
    if is_own_name && !is_test {
        reading(|progress| facts.divide(&spec, threads, progress));
    }
    let split = if is_own_name { own_split(args.split, &facts)? } else { other_split(args.split, &facts)? };
    // Only all that training loaded has a fingerprint to compare with.
    let wanted = if split == SplitName::Test { Wanted::Test } else { Wanted::TrainAndValidation };
    let images = facts.image_bytes(wanted);
    let asked = images / facts.shape.len() as u64;
    let answers = Answers::bytes(asked, classifier.class_names());
    let held = images + classifier.memory(BATCH).parameters;
    check_decoding(held, facts.decoding_bytes(wanted, threads), available_memory())?;
    check_memory("evaluating", (classifier.memory(BATCH), images + answers), facts.is_folder(), available_memory())?;
    let mut loaded = reading(|progress| data::load(&spec, &facts, wanted, threads, progress))?;
    let images = match split {
        SplitName::Train | SplitName::All => loaded.train.take(),
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
    let fingerprint = data::fingerprint(&facts.class_names, [(split, &images)]);
    let is_own =
        is_own_name || Report::kept(run.folder(), split).any(|(_, earlier)| earlier.fingerprint == fingerprint);
    let other = (!is_own).then_some((facts.name.as_str(), loaded.fingerprint.as_str()));
    let mut kept = Ok(());
    if split == SplitName::Test && other.is_none() {
        kept = run.update(|manifest| manifest.test_evaluations += 1);
    }
    let is_beside_best = weights == Weights::Last && run.find_weights(Some(Weights::Best)).is_ok();
    let folder = Report::folder(run.folder(), split, other, is_beside_best);
    let note = if is_own {
        note_of_own(&run, &folder, split, (&loaded, images.len()), facts.test)
    } else {
        Some(note_of_other(&run, &facts.name, &loaded))
    };
    note.iter().for_each(|note| say!("note: {note}"));
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
        note,
        reached,
    };
    // Work that cannot be written can still be printed.
    let kept = kept
        .and_then(|()| report.save(&run, &folder, &answers))
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

/// The data of the run as its config has it.
fn spec_of(args: &Args, run: &Run) -> Result<DataSpec, CliError> {
    let mut layers = Layers::new();
    layers.add_file(&run.config_path())?;
    let mut spec = layers.finish()?.config().data.clone();
    spec.name = args.data.clone().unwrap_or(spec.name);
    spec.dir = args.data_dir.clone().or(spec.dir).or_else(dir_of_environment);
    spec.skip_bad_images |= args.skip_bad_images;
    Ok(spec)
}

/// The run's own images, split as they were for the training.
fn own_data(args: &Args, run: &Run, classifier: &Classifier) -> Result<(DataSpec, Facts), CliError> {
    let mut spec = spec_of(args, run)?;
    if spec.classes.is_some() {
        // By name: the files may have been found in another order.
        spec.classes = Some(ClassSubset::Listed(classifier.class_names().to_vec()));
    }
    let facts = data::inspect(&spec).map_err(|error| elsewhere(args, error))?;
    Ok((spec, facts))
}

/// Other images than the run's, all of them: what part of its own a run trained on says nothing of these.
fn other_data(args: &Args, run: &Run, classifier: &Classifier) -> Result<(DataSpec, Facts), CliError> {
    let own = spec_of(args, run)?;
    let shape = classifier.shape();
    let is_folder = !own.is_known_data_set();
    let mut spec = DataSpec {
        image_size: is_folder.then_some(shape.height),
        channels: is_folder.then_some(shape.channels),
        classes: None,
        val_fraction: 0.0,
        limit_train: None,
        // Images are normalised as the model's own were.
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
        let error = format!("no class of {} is one that {} was trained on", spec.name, run.name());
        return Err(CliError::user(error, Some(format!("its classes are {}", known.join(", ")))));
    }
    spec.classes = Some(ClassSubset::Listed(chosen));
    let facts = data::inspect_other(&spec)?;
    Ok((spec, facts))
}

fn own_split(asked: Option<SplitArg>, facts: &Facts) -> Result<SplitName, CliError> {
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

fn other_split(asked: Option<SplitArg>, facts: &Facts) -> Result<SplitName, CliError> {
    let has = |split| match split {
        SplitArg::Test => facts.has_test(),
        SplitArg::Val => facts.validation > 0,
        SplitArg::Train => facts.train > 0,
    };
    let all = [SplitArg::Test, SplitArg::Val, SplitArg::Train];
    match asked {
        Some(split) if has(split) => Ok(split.into()),
        Some(split) => {
            let flag = |split: SplitArg| match split {
                SplitArg::Test => "--split test",
                SplitArg::Val => "--split val",
                SplitArg::Train => "--split train",
            };
            let there: Vec<&str> = all.into_iter().filter(|split| has(*split)).map(flag).collect();
            let hint = if facts.is_unsplit() {
                "it has no splits: leave --split out to evaluate all of it".to_string()
            } else {
                format!("use {}", there.join(" or "))
            };
            Err(CliError::user(format!("{} has no {} split", facts.name, SplitName::from(split)), Some(hint)))
        }
        None if facts.is_unsplit() => Ok(SplitName::All),
        None => Ok(all.into_iter().find(|split| has(*split)).map_or(SplitName::Test, SplitName::from)),
    }
}

/// Says which of `images` images of the run's own data may have been used for training, when the data has changed since.
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

/// Says which images of other data may have been used for training.
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

fn text(report: &Report) -> String {
    match &report.reached {
        Reached::Classes(scores) => class_scores::text(report, scores),
        Reached::Reading(scores) => strips::text(report, scores),
    }
}
