//! `vitreous predict`: the classes of single pictures.

use std::path::PathBuf;

use serde::Serialize;

use super::{CliError, json, show};
use crate::data::DataError;
use crate::evaluate::Classifier;
use crate::predict::{Guess, predict};
use crate::record::{Run, Weights};
use crate::train::threads;
use crate::units;

/// Names the classes of pictures
#[derive(clap::Args)]
pub struct Args {
    /// Picture files: JPEG, PNG, WebP or BMP
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
    /// The folder of a run, such as runs/digits
    #[arg(long, value_name = "FOLDER", required_unless_present = "weights")]
    run: Option<PathBuf>,
    /// best or last of the run; without a run, a file of weights [default: best, or last where there are no best]
    #[arg(long, value_name = "NAME|FILE")]
    weights: Option<String>,
    /// How many classes to show
    #[arg(long, value_name = "N", default_value_t = 5)]
    top: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Answer {
    weights: String,
    predictions: Vec<PictureAnswer>,
}

#[derive(Serialize)]
struct PictureAnswer {
    image: String,
    top: Vec<Guess>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), CliError> {
    let path = weights_path(&args)?;
    let mut classifier = Classifier::load(&path, threads(0).min(args.images.len()))?;
    let mut predictions = Vec::new();
    let mut errors = Vec::new();
    for image in &args.images {
        match predict(&mut classifier, image, args.top) {
            Ok(guesses) if args.json => {
                predictions.push(PictureAnswer { image: image.display().to_string(), top: guesses });
            }
            Ok(guesses) => show(&text(&image.display().to_string(), &guesses))?,
            Err(error) => {
                let error = picture_error(&error);
                // The last word of the command is its status: with one picture that is this error.
                if args.images.len() > 1 {
                    error.report();
                }
                errors.push(error);
            }
        }
    }
    if args.json {
        show(&json(&Answer { weights: path.display().to_string(), predictions }))?;
    }
    match (errors.len(), args.images.len()) {
        (0, _) => Ok(()),
        (1, 1) => Err(errors.swap_remove(0)),
        (bad, all) => Err(CliError::user(format!("{bad} of {all} pictures have no prediction"), None)),
    }
}

fn weights_path(args: &Args) -> Result<PathBuf, CliError> {
    let name = args.weights.as_deref();
    let Some(folder) = &args.run else {
        return Ok(PathBuf::from(name.unwrap_or_default()));
    };
    let weights = match name {
        None => None,
        Some("best") => Some(Weights::Best),
        Some("last") => Some(Weights::Last),
        Some(other) => {
            let hint = match units::nearest(other, ["best", "last"]) {
                Some(nearest) => format!("did you mean {nearest}?"),
                None => "use best or last, or a file of weights without --run".to_string(),
            };
            return Err(CliError::user(format!("a run has no weights `{other}` (--weights)"), Some(hint)));
        }
    };
    Ok(Run::open(folder)?.find_weights(weights)?.1)
}

/// The hint of a bad picture in a data set does not help with a single one.
fn picture_error(error: &DataError) -> CliError {
    let hint = match error {
        DataError::Picture { .. } => Some("give whole JPEG, PNG, WebP or BMP files".to_string()),
        other => other.hint(),
    };
    CliError::user(error.to_string(), hint)
}

fn text(image: &str, guesses: &[Guess]) -> String {
    let mut text = format!("{image}\n");
    for guess in guesses {
        text.push_str(&format!("  {:>8}  {}\n", units::percent(guess.probability), guess.class));
    }
    text
}
