//! `vitreous evaluate`: the accuracy of a run's weights on images they were not trained on.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Serialize;

use super::class_scores;
use super::plots::{PlotArgs, plots_of};
use super::reading::watched;
use super::runs::{RUNS, run_folder};
use super::screen::{Align, table};
use super::settings::{dir_of_environment, shell_word};
use super::strips;
use super::{CliError, json, show};
use crate::config::train::THREADS_MAX;
use crate::data::SplitName;
use crate::evaluate::{Reached, Report};
use crate::experiment::{EvaluateOptions, Evaluated, evaluate};
use crate::numbers;
use crate::record::{RecordError, Weights};

/// Evaluates a trained model on splits of its data
#[derive(clap::Args)]
pub struct Args {
    /// The run: its folder, or its name under runs/
    #[arg(value_name = "RUN", required_unless_present = "named")]
    pub run: Option<PathBuf>,
    /// The same as RUN
    #[arg(long = "run", id = "named", value_name = "RUN", conflicts_with = "run")]
    pub named: Option<PathBuf>,
    /// Splits, such as train,val,test [default: test, or val where there is no test split]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    split: Vec<SplitArg>,
    /// Weights [default: best, or last where there are no best]
    #[arg(long, value_name = "NAME")]
    weights: Option<WeightsArg>,
    /// Evaluate other data: a data set's name, or a folder with one folder of images per class
    #[arg(long, value_name = "NAME|FOLDER")]
    data: Option<String>,
    /// Folder with the data sets [default: the run's, else $VITREOUS_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Skip images that cannot be decoded, and count them
    #[arg(long)]
    skip_bad_images: bool,
    /// Beam width of a reader [default: 1, greedy decoding]
    #[arg(long, value_name = "N", value_parser = strips::beam)]
    beam: Option<usize>,
    /// Strips of a reader to print with their readings [default: 3]
    #[arg(long, value_name = "N")]
    examples: Option<usize>,
    /// Threads [default: one per processor]
    #[arg(
        short = 'j', long, value_name = "N", default_value_t = 0, hide_default_value = true,
        value_parser = up_to_threads_max
    )]
    threads: usize,
    #[command(flatten)]
    plots: PlotArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Parses a number of threads.
fn up_to_threads_max(text: &str) -> Result<usize, String> {
    let number = text.parse::<usize>().ok().filter(|number| *number <= THREADS_MAX);
    number.ok_or_else(|| format!("invalid number: use 0 to {THREADS_MAX}"))
}

/// A split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SplitArg {
    /// Images that training never uses
    Test,
    /// Images that selected the best weights
    #[value(alias = "validation")]
    Val,
    /// Training images
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

/// Weights of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WeightsArg {
    /// The best: by the validation split, or by the lowest training loss
    Best,
    /// After the last step
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

/// Runs the command.
pub fn run(args: Args) -> Result<(), CliError> {
    let folder = args.run.as_ref().or(args.named.as_ref()).expect("clap asks for one of them");
    let folder = run_folder(folder, Path::new(RUNS))?;
    let only_readers = [("--beam", args.beam.is_some()), ("--examples", args.examples.is_some())];
    let options = EvaluateOptions {
        split: None,
        further: Vec::new(),
        weights: args.weights.map(Weights::from),
        data: args.data.clone(),
        data_dir: args.data_dir.clone(),
        default_data_dir: dir_of_environment(),
        skip_bad_images: args.skip_bad_images,
        beam: args.beam,
        reader_option: only_readers.into_iter().find(|(_, is_given)| *is_given).map(|(flag, _)| flag),
        threads: args.threads,
        plots: args.plots.choice(),
    };
    let mut splits: Vec<SplitName> = Vec::new();
    for split in args.split.iter().map(|&split| split.into()) {
        if !splits.contains(&split) {
            splits.push(split);
        }
    }
    // One split shows some strips unasked; a table of several does not.
    let examples = args.examples.unwrap_or(if splits.len() > 1 { 0 } else { strips::EXAMPLES });
    let evaluate = |at: usize| -> Result<Done, CliError> {
        let further = splits.iter().skip(at + 1).copied().collect();
        let options = EvaluateOptions { split: splits.get(at).copied(), further, ..options.clone() };
        let evaluated = watched(|listener| evaluate(&folder, &options, listener))?;
        // The images end here: those of all splits need not fit into memory together.
        let strips = strips::examples(&*evaluated.images, &evaluated.answers, examples);
        let Evaluated { report, is_own, written, folder, .. } = evaluated;
        Ok(Done { report, strips, is_own, written, folder })
    };
    let done = (0..splits.len().max(1)).map(evaluate).collect::<Result<Vec<_>, _>>()?;
    show(&match &done[..] {
        [one] if args.json => json(&one.report),
        [one] => text(one),
        all if args.json => json(&AllReports { splits: all.iter().map(|one| &one.report).collect() }),
        all => summary(all),
    })?;
    let own_folder = folder;
    for Done { report, is_own, written, folder, .. } in done {
        if let Err(error) = written {
            let hint = "the printed result was not saved: make the run folder writable, or evaluate a copy of it";
            return Err(CliError::user(error.to_string(), Some(hint.to_string())));
        }
        say!("written to {}", folder.display());
        let ending = format!("-{}", folder.file_name().unwrap_or_default().to_string_lossy());
        plots_of(&own_folder, |name| name.ends_with(&ending)).iter().for_each(|plots| say!("{plots}"));
        if report.split == SplitName::Test && is_own && report.test_evaluations > 1 {
            let times = report.test_evaluations;
            say!(
                "note: the test split was evaluated {times} times, each time with other weights, images or options: an \
                 accuracy that guided a choice between them is too high on average"
            );
        }
    }
    say!("next: vitreous report {}", shell_word(&own_folder));
    Ok(())
}

/// A split that is evaluated, without its images.
struct Done {
    report: Report,
    /// Some strips with their readings.
    strips: String,
    is_own: bool,
    written: Result<(), RecordError>,
    folder: PathBuf,
}

/// The reports of several splits, as JSON.
#[derive(Serialize)]
struct AllReports<'a> {
    splits: Vec<&'a Report>,
}

/// All scores of one split; for a reader, also some strips with their readings.
fn text(Done { report, strips, .. }: &Done) -> String {
    let scores = match &report.reached {
        Reached::Classes(scores) => class_scores::text(report, scores),
        Reached::Reading(scores) => strips::text(report, scores),
    };
    format!("{strips}{scores}")
}

/// Several splits, a line for each; before them the strips that were asked for.
fn summary(all: &[Done]) -> String {
    let Report { weights, run, step, data, reached, .. } = &all[0].report;
    let columns = match reached {
        Reached::Classes(_) => ["split", "images", "top-1", "95 % interval", "top-5", "loss"],
        Reached::Reading(_) => ["split", "strips", "exact match", "95 % interval", "digit accuracy", "loss"],
    };
    let mut rows = vec![columns.map(str::to_string)];
    for Done { report, .. } in all {
        let (images, interval, third) = match &report.reached {
            Reached::Classes(scores) => (scores.images, scores.top1_interval, scores.top5),
            Reached::Reading(scores) => (scores.strips, scores.exact_match_interval, scores.digit_accuracy),
        };
        let [low, high] = interval.map(numbers::percent);
        rows.push([
            report.split.to_string(),
            numbers::count(images),
            numbers::percent(report.reached.accuracy()),
            format!("{low} to {high}"),
            numbers::percent(third),
            format!("{:.4}", report.reached.loss()),
        ]);
    }
    let shown = all.iter().filter(|done| !done.strips.is_empty());
    let strips: String = shown.map(|done| format!("{}:\n{}", done.report.split, done.strips)).collect();
    let title = line!("{data}; weights {weights} of {run} (step {})", numbers::count(*step));
    let right = Align::Right;
    strips + &title + "\n" + &table(&rows, &[Align::Left, right, right, right, right, right])
}
