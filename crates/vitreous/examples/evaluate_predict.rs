//! Evaluates a run and names the class of an image: `cargo run --example evaluate_predict -- RUN IMAGE`

use std::path::{Path, PathBuf};

use vitreous::Classifier;
use vitreous::experiment::{EvaluateOptions, evaluate};
use vitreous::predict::Guess;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

pub fn evaluate_and_predict(run: &Path, image: &Path) -> Result<(f64, Guess)> {
    let evaluated = evaluate(run, &EvaluateOptions::default(), &|_| ())?;
    let mut answer = Classifier::load(run)?.predict(&[image]).remove(0)?;
    Ok((evaluated.report.reached.accuracy(), answer.value.remove(0)))
}

pub fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [run, image] = &arguments[..] else { return Err("usage: evaluate_predict RUN IMAGE".into()) };
    let (accuracy, Guess { class, probability }) = evaluate_and_predict(run, image)?;
    println!("accuracy {accuracy}; {} is {class} (probability {probability})", image.display());
    Ok(())
}
