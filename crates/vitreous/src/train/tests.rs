//! Trainings whose disk fails them: whichever write it is, what they end with is what they would have ended with.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::*;
use crate::advice::Source;
use crate::checkpoint::{BestWeights, Found, find_state};
use crate::config::layers::Layers;
use crate::config::model::ImageFacts;
use crate::data::{Wanted, inspect, load};
use crate::models;
use crate::record::{Faults, Place, RecordError, Run, Status, Weights};
use crate::tensorboard;

/// What equal runs have in common.
const FILES: [&str; 5] =
    ["results.csv", "ledger.csv", "metrics.jsonl", "weights/last.safetensors", "weights/best.safetensors"];

fn job(keep: &str) -> Job {
    job_of_steps(keep, 8)
}

/// A training of so many steps, 8 at most. Two classes: drawing their confusion matrices takes little time.
fn job_of_steps(keep: &str, steps: u64) -> Job {
    let mut layers = Layers::preset("digits").unwrap();
    let settings = [
        "data.limit_train=43",
        "data.val_fraction=0.01",
        "data.classes=[\"0\", \"1\"]",
        "model.embed_dim=8",
        "model.depth=1",
        "train.batch_size=13",
    ];
    let keep = format!("train.keep={keep}");
    // With an event file for TensorBoard, and without.
    let events = if keep.ends_with("best") { "train.tensorboard=true" } else { "train.tensorboard=" };
    for setting in settings.iter().chain(&[
        "train.epochs=2",
        "train.warmup_epochs=1",
        "train.log_interval=3",
        keep.as_str(),
        events,
    ]) {
        layers.set(setting, Source::Default).unwrap();
    }
    layers
        .set(&format!("train.max_steps={}", if steps < 8 { steps.to_string() } else { String::new() }), Source::Default)
        .unwrap();
    let checked = layers.finish().unwrap();
    let facts = inspect(&checked.config().data).unwrap();
    let config = checked.resolve(ImageFacts { image_size: 28, channels: 1, num_classes: 2 }).unwrap();
    let loaded = load(&config.data, &facts, Wanted::TrainAndValidation, 1, &|_, _| ()).unwrap();
    let model = models::build_for_training(&config).unwrap();
    Job::new(config, model, &facts, loaded).unwrap()
}

/// Trains in a run's folder, from its state or from the start. Returns how it ended, and what was said of the disk.
fn train(run: &mut Run, job: Job) -> (Result<Outcome, TrainError>, u32) {
    let state = find_state(run.files()).state;
    BestWeights::go_back(run.files(), state.as_ref()).unwrap();
    let mut training = match state {
        Some(saved) => Training::resume(job, &saved).unwrap(),
        None => Training::new(job).unwrap(),
    };
    let stop = AtomicBool::new(false);
    // Checkpoints in the middle and at the end of each epoch.
    let limits = Limits { stop: &stop, until: None, save_every: SaveEvery::Steps(3) };
    let mut warnings = 0;
    let mut listen = |event: Event| warnings += u32::from(matches!(event, Event::CannotWrite(_)));
    let outcome = training.run(run, Instant::now(), &limits, &mut listen);
    (outcome, warnings)
}

fn start(out: &Path, name: &str, job: &Job) -> Run {
    let place = Place::choose(out, Some(name), name).unwrap();
    place.create(&job.config().to_toml(), job.manifest(Vec::new())).unwrap()
}

fn files(run: &Run) -> Vec<Option<Vec<u8>>> {
    FILES.iter().map(|file| fs::read(run.folder().join(file)).ok()).collect()
}

/// What the event file has, if there is one: series and steps.
fn points(run: &Run) -> Vec<(String, i64)> {
    let mut points = Vec::new();
    tensorboard::read(run.files(), |_, event| {
        points.extend(tensorboard::tags(&event).map(|tag| (tag.to_string(), event.step)));
        Ok(())
    })
    .unwrap();
    // Confusion matrices come when they are drawn.
    points.sort();
    points
}

/// Lets each write of a run fail once, in a run of its own.
fn check_each_write(keep: &str) {
    let out = tempfile::tempdir().unwrap();
    let first = job(keep);
    let mut whole = start(out.path(), "whole", &first);
    train(&mut whole, first).0.unwrap();
    let (mut number, mut warned) = (0, 0);
    loop {
        let job = job(keep);
        let mut run = start(out.path(), &number.to_string(), &job);
        let faults = Faults::new(run.folder(), number..number + 1);
        let (outcome, warnings) = train(&mut run, job);
        assert_eq!(outcome.map(|outcome| outcome.status), Ok(Status::Finished), "write {number} fails");
        assert!(files(&run) == files(&whole), "write {number} fails");
        assert_eq!(points(&run), points(&whole), "write {number} fails");
        let Found { state, refused } = find_state(run.files());
        assert_eq!((state.map(|state| state.step()), refused), (Some(8), Vec::new()), "write {number} fails");
        assert_eq!(run.manifest().status, Status::Finished);
        warned += warnings;
        number += 1;
        if number > faults.seen() {
            break;
        }
    }
    println!("keep {keep}: each of {} writes failed once", number - 1);
    assert!(number > 50 && warned > 10, "{number} writes, {warned} warnings");
}

#[test]
fn whichever_write_fails_the_run_ends_as_if_it_had_not() {
    check_each_write("best");
}

#[test]
fn whichever_write_fails_the_weights_of_the_lowest_loss_are_kept() {
    check_each_write("lowest-train-loss");
}

#[test]
fn a_disk_that_stays_full_ends_in_an_error_and_the_last_state_goes_on() {
    let out = tempfile::tempdir().unwrap();
    let first = job("best");
    let mut whole = start(out.path(), "whole", &first);
    train(&mut whole, first).0.unwrap();
    for number in [0, 23, 60] {
        let broken = job("best");
        let mut run = start(out.path(), &format!("full-from-{number}"), &broken);
        let faults = Faults::new(run.folder(), number..u64::MAX);
        let (outcome, _) = train(&mut run, broken);
        drop(faults);
        let error = outcome.unwrap_err();
        assert!(matches!(error, TrainError::InRun { .. }), "{error}");
        assert!(error.to_string().starts_with("cannot write: no space is left ("), "{error}");
        assert_eq!(find_state(run.files()).refused, Vec::new(), "from write {number} on");
        // There is room again.
        assert_eq!(train(&mut run, job("best")).0.map(|outcome| outcome.status), Ok(Status::Finished));
        assert!(files(&run) == files(&whole), "from write {number} on");
        // A confusion matrix that was drawn while the disk was full is lost.
        let [found, expected] = [&run, &whole].map(|run| {
            let points = points(run).into_iter().filter(|(tag, _)| tag != tensorboard::VALIDATION_MATRIX);
            points.collect::<Vec<_>>()
        });
        assert_eq!(found, expected, "from write {number} on");
    }
}

#[test]
fn best_weights_from_after_the_last_state_do_not_stay_in_a_run_that_ends_before_them() {
    for keep in ["best", "lowest-train-loss"] {
        let out = tempfile::tempdir().unwrap();
        let mut ahead = 0;
        // There is room for weights, but not for the first state, of step 3, for that of step 4, or for one that comes later.
        for number in 1..=3 {
            let first = job(keep);
            let mut run = start(out.path(), &format!("run-{number}"), &first);
            let faults = Faults::new(&run.folder().join(format!("state/{number}.json")), 0..u64::MAX);
            train(&mut run, first).0.unwrap_err();
            drop(faults);
            let last_state = find_state(run.files()).state.map_or(0, |state| state.step());
            assert_eq!(last_state, [0, 3, 4][number - 1]);
            let best = |run: &Run| fs::read(run.weights_path(Weights::Best)).ok();
            let early = best(&run);
            let steps = last_state + 1;
            let whole_job = job_of_steps(keep, steps);
            let mut whole = start(out.path(), &format!("whole-{number}"), &whole_job);
            train(&mut whole, whole_job).0.unwrap();
            train(&mut run, job_of_steps(keep, steps)).0.unwrap();
            assert!(files(&run) == files(&whole), "{keep}: a run of {steps} steps");
            ahead += u32::from(early != best(&run));
        }
        assert!(ahead > 0, "{keep}: the best weights never ran ahead");
    }
}

#[test]
fn a_training_whose_folder_is_gone_ends_at_once() {
    let out = tempfile::tempdir().unwrap();
    let first = job("best");
    let mut run = start(out.path(), "run", &first);
    fs::rename(run.folder(), out.path().join("elsewhere")).unwrap();
    let (outcome, warnings) = train(&mut run, first);
    let expected = RecordError::Gone { path: run.folder().to_path_buf() };
    assert_eq!((outcome, warnings), (Err(TrainError::Record(expected)), 0));
    assert!(!run.folder().exists(), "nothing is made anew");
}
