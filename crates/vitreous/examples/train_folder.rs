//! Trains a model on a folder with one folder of images per class: `cargo run --example train_folder -- FOLDER`

use std::path::Path;

use vitreous::experiment::{Event, ExperimentError, Trained};
use vitreous::{Experiment, train};

pub fn train_folder(folder: &Path, runs: &Path) -> Result<Trained, ExperimentError> {
    Experiment::preset("photos")?
        .data(&folder.to_string_lossy())?
        .set("data.image_size", 16)?
        .set("model.depth", 2)?
        .set("train.epochs", 3)?
        .out(runs)
        .train(&|event| match event {
            Event::Note(note) => eprintln!("note: {note}"),
            Event::Training(train::Event::Epoch { row, .. }) => eprintln!("{row:?}"),
            _ => {}
        })
}

pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: train_folder FOLDER")?;
    let run = train_folder(Path::new(&folder), Path::new("runs"))?;
    println!("{}: {:?}", run.folder().display(), run.outcome().results.val_acc);
    Ok(())
}
