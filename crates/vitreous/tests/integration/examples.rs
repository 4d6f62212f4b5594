//! Runs the programs of `examples/`.

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
    assert!((0.0..=1.0).contains(&accuracy) && COLORS.iter().any(|(name, _)| *name == guess.class), "{guess:?}");
    assert!(run.folder().join("evaluation/test/report.json").is_file(), "{accuracy}");
}

#[test]
fn the_transformer_of_parts_learns_to_copy() {
    transformer::main().unwrap();
}

#[test]
fn a_custom_network_learns_exclusive_or() {
    custom_network::main().unwrap();
}
