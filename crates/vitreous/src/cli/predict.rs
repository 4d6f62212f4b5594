//! `vitreous predict`: the classes of image files, or the digits on them.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::ValueEnum;
use serde::Serialize;

use super::advice::Context;
use super::evaluate::WeightsArg;
use super::runs::{RUNS, run_folder};
use super::settings::shell_word;
use super::strips;
use super::{CliError, json, show};
use crate::advice::Verb;
use crate::config::model::Task;
use crate::data::digits_text;
use crate::data::{DataError, PixelRanges, decoding_bytes};
use crate::evaluate::reading::Reading;
use crate::evaluate::{BATCH, Classifier};
use crate::experiment::{load_weights, machine};
use crate::predict::{Answer, Guess};
use crate::record::{self, Run, Weights};
use crate::train::{Work, available_memory, check_memory, threads};
use crate::{durations, numbers, spelling};

/// Number of classes shown by default.
const TOP: usize = 5;

/// Predicts the classes of images, or reads the digits on them
#[derive(clap::Args)]
pub struct Args {
    /// JPEG, PNG, WebP or BMP files that look like the training images: MNIST, Fashion-MNIST and built-in digits are light
    /// on black
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
    /// The run: its folder, or its name under runs/; may also be given before the images
    #[arg(long, value_name = "RUN")]
    run: Option<PathBuf>,
    /// best or last of the run; without a run, a weights file [default: best, or last where there are no best]
    #[arg(long, value_name = "NAME|FILE")]
    weights: Option<String>,
    /// How many classes to show [default: 5]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    top: Option<usize>,
    /// Beam width of a reader [default: 1, greedy decoding]
    #[arg(long, value_name = "N", value_parser = strips::beam)]
    beam: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Parses a positive integer.
fn at_least_one(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "not a whole number of at least 1".to_string())
}

/// The JSON output.
#[derive(Serialize)]
struct Predictions {
    weights: String,
    predictions: Vec<ImageAnswer>,
    /// Images without a prediction.
    failed: Vec<Failure>,
}

#[derive(Serialize)]
struct Failure {
    image: String,
    error: String,
}

#[derive(Serialize)]
struct ImageAnswer {
    image: String,
    #[serde(flatten)]
    prediction: Prediction,
    /// How the image differs from the training images.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
}

/// The prediction for an image.
#[derive(Serialize)]
#[serde(untagged)]
enum Prediction {
    /// A classifier.
    Classes { top: Vec<Guess> },
    /// A reader.
    Digits { digits: String, probability: f64 },
}

/// Runs the command.
pub fn run(mut args: Args) -> Result<(), CliError> {
    find_model(&mut args)?;
    detail!("computes on {}", machine(threads(0)));
    let (path, training_pixels) = weights_of(&args)?;
    let (threads, batch) = (threads(0).min(args.images.len()), BATCH.min(args.images.len()));
    let clock = Instant::now();
    let mut classifier = load_weights(&path, threads)?;
    detail!("{}: read in {}", path.display(), durations::duration(clock.elapsed().as_secs_f64()));
    classifier.set_training_pixels(training_pixels);
    let images = (batch * classifier.shape().len()) as u64;
    let held = images + decoding_bytes(&args.images, threads);
    check_memory(Work::Evaluating, (classifier.memory(batch), held), false, available_memory(threads))?;
    match (classifier.task(), args.top, args.beam) {
        (Task::ReadStrips, Some(_), _) => {
            let error = "--top is only for classifiers, but this model is a reader";
            return Err(CliError::user(error, Some("remove --top".to_string())));
        }
        (Task::Classify, _, Some(_)) => return Err(strips::not_a_reader("--beam")),
        _ => {}
    }
    let mut predictions = Vec::new();
    let context = Context::of(Verb::Predict, args.json);
    let (mut errors, mut failed) = (Vec::new(), Vec::new());
    let answers = args.images.chunks(BATCH).flat_map(|images| ask(&mut classifier, images, &args));
    for (image, answer) in args.images.iter().zip(answers) {
        match answer {
            Ok(Answer { value: prediction, warning }) => {
                let answer = ImageAnswer { image: image.display().to_string(), prediction, warning };
                answer.warning.iter().for_each(|warning| say!("warning: {}: {warning}", answer.image));
                if args.json {
                    predictions.push(answer);
                } else {
                    show(&text(&answer))?;
                }
            }
            Err(error) => {
                failed.push(Failure { image: image.display().to_string(), error: error.to_string() });
                let error = image_error(&error, image);
                // With a single image, this error is the result of the command and is printed at its end.
                if args.images.len() > 1 && !args.json {
                    error.report(&context);
                }
                errors.push((image.display().to_string(), error));
            }
        }
    }
    if args.json {
        show(&json(&Predictions { weights: path.display().to_string(), predictions, failed }))?;
    }
    match (errors.len(), args.images.len()) {
        (0, _) => Ok(()),
        (1, 1) => Err(errors.swap_remove(0).1),
        (bad, all) => Err(CliError::user(format!("{bad} of {all} images have no prediction"), None).because_of(errors)),
    }
}

fn ask(classifier: &mut Classifier, images: &[PathBuf], args: &Args) -> Vec<Result<Answer<Prediction>, DataError>> {
    if classifier.task() == Task::ReadStrips {
        let readings = classifier.read_strips(images, args.beam.unwrap_or(strips::BEAM)).into_iter();
        let prediction = |reading: Reading| Prediction::Digits {
            digits: digits_text(&reading.digits),
            probability: reading.probability,
        };
        return readings.map(|answer| answer.map(|answer| answer.map(prediction))).collect();
    }
    let first = |mut top: Vec<Guess>| {
        top.truncate(args.top.unwrap_or(TOP));
        Prediction::Classes { top }
    };
    classifier.predict(images).into_iter().map(|answer| answer.map(|answer| answer.map(first))).collect()
}

/// Finds the run: that of --run, else the first operand that is one.
fn find_model(args: &mut Args) -> Result<(), CliError> {
    let out = Path::new(RUNS);
    args.run = args.run.as_ref().map(|run| run_folder(run, out)).transpose()?;
    let given = args.run.clone();
    // A folder of images may have the name of the run that --run gives.
    let is_of_run = |operand: &PathBuf| {
        let found = record::find_run(operand, out).ok().map(|found| found.folder);
        found.is_some_and(|folder| record::is_run(&folder) && given.as_ref() != Some(&folder))
    };
    let file = args.weights.as_deref().map(PathBuf::from).filter(|weights| weights.is_file());
    if let Some(place) = args.images.iter().position(is_of_run) {
        let second = args.images.remove(place);
        if let Some(first) = args.run.as_ref().or(file.as_ref()) {
            let error = format!("two models are given: {} and {}", second.display(), first.display());
            return Err(CliError::user(error, Some("leave one of them out".to_string())));
        }
        args.run = Some(run_folder(&second, out)?);
    }
    let (error, hint) = match (&args.run, &args.weights, args.images.is_empty()) {
        (None, None, _) => ("no run given", "use vitreous predict IMAGE --run RUN"),
        (.., true) => ("no image given", "use vitreous predict RUN IMAGE"),
        _ => return Ok(()),
    };
    Err(CliError::user(error, Some(hint.to_string())))
}

/// The weights file, and the pixel ranges of the training images if the run has recorded them.
fn weights_of(args: &Args) -> Result<(PathBuf, Option<PixelRanges>), CliError> {
    let name = args.weights.as_deref();
    let Some(folder) = &args.run else {
        return Ok((PathBuf::from(name.unwrap_or_default()), None));
    };
    let weights = match name {
        None => None,
        Some(name) => Some(WeightsArg::from_str(name, false).map_err(|_| {
            let known = WeightsArg::value_variants().iter().map(|&known| Weights::from(known).to_string());
            let known: Vec<String> = known.collect();
            let hint = match spelling::nearest(name, known.iter().map(String::as_str)) {
                Some(nearest) => format!("did you mean {nearest}?"),
                None => format!("use {}, or a weights file without --run", known.join(" or ")),
            };
            CliError::user(format!("a run has no weights `{name}` (--weights)"), Some(hint))
        })?),
    };
    let run = Run::open(folder)?;
    let path = run.find_weights(weights.map(Weights::from))?.1;
    Ok((path, run.manifest().data.pixels.clone()))
}

/// The hint for an image of a data set does not apply to a single file.
fn image_error(error: &DataError, image: &Path) -> CliError {
    let hint = match error {
        DataError::Read { .. } if image.is_dir() => {
            format!("name the images in it, such as {}", shell_word(&image.join("1.jpg")))
        }
        DataError::Picture { .. } => "use complete JPEG, PNG, WebP or BMP files".to_string(),
        other => return other.clone().into(),
    };
    CliError::user(error.to_string(), Some(hint))
}

fn text(answer: &ImageAnswer) -> String {
    let line = |probability: f64, what: &str| line!("  {:>8}  {what}", numbers::percent(probability));
    let lines = match &answer.prediction {
        Prediction::Classes { top } => {
            top.iter().map(|guess| line(guess.probability, &guess.class)).collect::<String>()
        }
        Prediction::Digits { digits, probability } => {
            line(*probability, if digits.is_empty() { "nothing" } else { digits })
        }
    };
    line!("{}", answer.image) + &lines
}
