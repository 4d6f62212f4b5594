//! Runs the programs of `examples/`.

use vitreous::Classifier;

use crate::common::{COLORS, pictures};

#[path = "../../../engine/examples/custom_network.rs"]
mod custom_network;
#[allow(dead_code, reason = "its `main` reads arguments")]
#[path = "../../examples/evaluate_predict.rs"]
mod evaluate_predict;
#[allow(dead_code, reason = "its `main` reads arguments")]
#[path = "../../examples/train_folder.rs"]
mod train_folder;
#[path = "../../examples/transformer.rs"]
mod transformer;

#[test]
fn a_folder_is_trained_on_and_its_run_evaluated_and_used() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    pictures(folder.path(), "colors/train", &COLORS, 20);
    pictures(folder.path(), "colors/val", &COLORS, 3);
    pictures(folder.path(), "colors/test", &COLORS, 5);
    let run = train_folder::train_folder(&folder.path().join("colors"), &folder.path().join("runs")).unwrap();
    assert_eq!(run.folder(), folder.path().join("runs/colors"));
    assert_eq!(run.outcome().results.epochs, 3);
    let image = folder.path().join("colors/test/red/0.png");
    let (accuracy, guess) = evaluate_predict::evaluate_and_predict(run.folder(), &image).unwrap();
    assert_eq!((accuracy, guess.class.as_str()), (1.0, "red"), "{guess:?}");
    assert!(run.folder().join("evaluation/test/report.json").is_file());

    // Every class, most probable first; an error in the place of a file that is not there; the run's pixels are known.
    let noise = folder.path().join("noise.png");
    image::RgbImage::from_fn(16, 16, |x, y| image::Rgb([if (x + y) % 2 == 0 { 255 } else { 0 }; 3]))
        .save(&noise)
        .unwrap();
    let paths = [image, folder.path().join("none.png"), noise];
    let mut answers = Classifier::load(run.folder()).unwrap().predict(&paths);
    let unusual = answers.pop().unwrap().unwrap();
    assert!(unusual.warning.is_some_and(|warning| warning.starts_with("unlike the training images: ")));
    assert!(answers[1].is_err());
    let usual = answers[0].as_ref().unwrap();
    assert_eq!((usual.value[0].class == guess.class, &usual.warning), (true, &None));
    let probabilities: Vec<f64> = usual.value.iter().map(|guess| guess.probability).collect();
    assert_eq!(probabilities.len(), COLORS.len());
    assert!(probabilities.is_sorted_by(|a, b| a >= b) && (probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-6);
}

#[test]
fn the_transformer_of_parts_learns_to_copy() {
    transformer::main().unwrap();
}

#[test]
fn a_custom_network_learns_exclusive_or() {
    custom_network::main().unwrap();
}
