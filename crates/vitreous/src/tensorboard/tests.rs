//! Event files, read back as strictly as TensorBoard reads them.

use std::fs;
use std::path::Path;

use prost::Message;
use tempfile::TempDir;

use super::messages::{SessionLog, What};
use super::*;
use crate::record::{EpochRow, Folder, MetricsLine, Validation};

/// All events of the only event file in a folder, whose records are whole up to its last byte.
pub fn strictly(folder: &Path) -> Vec<Event> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: Vec<String> = names.filter(|name| name.contains("tfevents")).collect();
    let [name] = names.as_slice() else { panic!("not one event file: {names:?}") };
    let bytes = fs::read(folder.join(name)).unwrap();
    let (mut rest, mut events) = (bytes.as_slice(), Vec::new());
    while !rest.is_empty() {
        let record = records::next(&mut rest).unwrap().expect("a whole record");
        events.push(Event::decode(&*record).unwrap());
    }
    assert_eq!(events[0].what, Some(What::FileVersion("brain.Event:2".to_string())));
    assert_eq!(events[1].what, Some(What::SessionLog(SessionLog { status: SessionLog::START })));
    assert!(events.iter().all(|event| event.wall_time > 0.0));
    events
}

/// Series and steps of a folder's event file, in its order.
pub fn points(folder: &Path) -> Vec<(String, i64)> {
    let events = strictly(folder);
    events.iter().flat_map(|event| tags(event).map(|tag| (tag.to_string(), event.step))).collect()
}

fn line(step: u64) -> MetricsLine {
    let (epoch, accuracy, spikes, skipped) = (step / 10 + 1, step as f64 / 1000.0, Vec::new(), Vec::new());
    MetricsLine { step, epoch, loss: 1.0 - accuracy, accuracy, lr: 0.1, gradient_norm: 2.0, spikes, skipped }
}

fn row(step: u64) -> EpochRow {
    let validation = Some(Validation { loss: 0.75, accuracy: 0.125, top5: None });
    EpochRow { epoch: step / 10, step, train_loss: 0.5, train_acc: 0.25, validation, lr: 0.1 }
}

fn stamp(step: u64) -> Stamp {
    Stamp { step, time: 1e9 + step as f64 }
}

fn head() -> Vec<Event> {
    let node = |name: &str, inputs: &[&str]| GraphNode {
        name: name.to_string(),
        op: "linear".to_string(),
        inputs: inputs.iter().map(|input| input.to_string()).collect(),
        shape: vec![7, 3],
        parameters: String::new(),
    };
    let picture = enlarged(&[9; 6], [1, 2, 3]);
    vec![graph(1e9, &[node("a", &[]), node("b.c", &["a"])]), image(stamp(0), "samples/<img src=x>\u{202e}", &picture)]
}

/// A folder with records of lines at these steps and epochs at those.
fn records_of(lines: &[u64], rows: &[u64]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let line = |step: &u64| serde_json::to_string(&line(*step)).unwrap() + "\n";
    let row = |step: &u64| format!("{},{step},0.5,0.25,0.75,0.125,,0.1\n", step / 10);
    let titles = "epoch,step,train_loss,train_acc,val_loss,val_acc,val_top5,lr\n".to_string();
    fs::write(folder.path().join("metrics.jsonl"), lines.iter().map(line).collect::<String>()).unwrap();
    fs::write(folder.path().join("results.csv"), titles + &rows.iter().map(row).collect::<String>()).unwrap();
    folder
}

/// Writes what a training does: lines at 5, 10, ... with norms, epochs at 10, 20, ... with histograms.
fn train(file: &mut EventFile, steps: std::ops::RangeInclusive<u64>) {
    for step in steps.filter(|step| step % 5 == 0) {
        file.add(&line_event(&line(step), stamp(step)));
        file.add(&scalars(stamp(step), [("weight_gradient_norm/head", 0.5)]));
        if step % 10 == 0 {
            file.add(&epoch_event(&row(step), stamp(step)));
            file.add(&histograms(stamp(step), [("weights/head".to_string(), [0.25_f32, 0.5].as_slice())]));
        }
    }
    file.write().unwrap();
}

/// The events without the start of the file.
fn content(folder: &Path) -> Vec<Event> {
    strictly(folder).split_off(2)
}

#[test]
fn a_resumed_file_has_the_events_of_one_that_never_stopped() {
    let whole = records_of(&[], &[]);
    train(&mut EventFile::start(&Folder::open(whole.path()).unwrap(), 1e9, &head()).unwrap(), 1..=40);
    let expected = content(whole.path());
    // The records are cut to the checkpoint; the event file has later events too, and its last record may be incomplete.
    for (lines, rows, from) in
        [(&[5, 10, 15][..], &[10][..], 16), (&[5, 10], &[10], 11), (&[5, 10], &[], 11), (&[], &[], 1)]
    {
        let run = records_of(lines, rows);
        let folder = Folder::open(run.path()).unwrap();
        let mut file = EventFile::start(&folder, 1e9, &head()).unwrap();
        train(&mut file, 1..=30);
        let name = run.path().join("events.out.tfevents.000001.vitreous");
        let bytes = fs::read(&name).unwrap();
        fs::write(&name, &bytes[..bytes.len() - 3]).unwrap();
        let mut file = EventFile::resume(&folder, 2e9, &head(), &TimedHistory::read(&folder, 1e9)).unwrap();
        let at = points(run.path()).iter().map(|(_, step)| *step).max().unwrap();
        assert_eq!(at, lines.iter().chain(rows).max().copied().unwrap_or(0) as i64, "from {from}");
        // Of the epoch that ended with the checkpoint's step, but after it, nothing is left.
        if lines.contains(&10) && rows.is_empty() {
            file.add(&epoch_event(&row(10), stamp(10)));
            file.add(&histograms(stamp(10), [("weights/head".to_string(), [0.25_f32, 0.5].as_slice())]));
        }
        train(&mut file, from..=40);
        assert!(content(run.path()) == expected, "from {from}: {:?}", points(run.path()));
        assert!(run.path().join("events.out.tfevents.000002.vitreous").exists());
    }
}

#[test]
fn a_resumed_file_has_the_new_settings_and_a_damaged_one_its_samples_again() {
    let run = records_of(&[5, 10], &[10]);
    let folder = Folder::open(run.path()).unwrap();
    let with = |epochs: i64| {
        let settings = std::collections::BTreeMap::from([("train.epochs".to_string(), toml::Value::Integer(epochs))]);
        [vec![hyperparameters_event(1e9, &hyperparameters(&settings, "vit", None))], head()].concat()
    };
    train(&mut EventFile::start(&folder, 1e9, &with(2)).unwrap(), 1..=10);
    let resume = || EventFile::resume(&folder, 2e9, &with(4), &TimedHistory::read(&folder, 1e9)).map(drop).unwrap();
    let counted = || {
        let events = content(run.path());
        let settings: Vec<Event> =
            events.iter().filter(|event| tags(event).any(|tag| tag.starts_with("_hparams_"))).cloned().collect();
        assert_eq!(settings, with(4)[..1]);
        events.iter().filter(|event| tags(event).any(|tag| tag.starts_with("samples/"))).count()
    };
    resume();
    assert_eq!(counted(), 1);
    let name = run.path().join("events.out.tfevents.000002.vitreous");
    let mut bytes = fs::read(&name).unwrap();
    bytes[3] ^= 1;
    fs::write(&name, bytes).unwrap();
    resume();
    assert_eq!((counted(), points(run.path()).iter().filter(|(tag, _)| tag == "train_loss").count()), (1, 2));
}

#[test]
fn a_file_that_starts_in_the_middle_of_a_run_has_the_scalars_before_it() {
    let run = records_of(&[5, 10, 15], &[10]);
    let folder = Folder::open(run.path()).unwrap();
    let mut file = EventFile::resume(&folder, 2e9, &head(), &TimedHistory::read(&folder, 1e9)).unwrap();
    train(&mut file, 16..=20);
    let found = points(run.path());
    let steps = |tag: &str| found.iter().filter(|(found, _)| found == tag).map(|(_, step)| *step).collect::<Vec<_>>();
    assert_eq!((steps("train_loss"), steps("val_acc")), (vec![5, 10, 15, 20], vec![10, 20]));
    assert_eq!((steps("gradient_norm"), steps("weight_gradient_norm/head")), (vec![5, 10, 15, 20], vec![20]));
    assert_eq!(found.iter().filter(|(tag, _)| tag.starts_with("samples/")).count(), 1);
}

#[test]
fn a_rollback_removes_what_it_makes_void() {
    let run = records_of(&[], &[]);
    let folder = Folder::open(run.path()).unwrap();
    let mut file = EventFile::start(&folder, 1e9, &head()).unwrap();
    train(&mut file, 1..=15);
    file.go_back(2e9, 10).unwrap();
    train(&mut file, 11..=20);
    file.sync().unwrap();
    let whole = records_of(&[], &[]);
    train(&mut EventFile::start(&Folder::open(whole.path()).unwrap(), 1e9, &head()).unwrap(), 1..=20);
    assert!(content(run.path()) == content(whole.path()));
}

#[test]
fn steps_have_the_times_at_which_they_were_taken() {
    let run = tempfile::tempdir().unwrap();
    let folder = Folder::open(run.path()).unwrap();
    assert_eq!(TimedHistory::read(&folder, 7.0).stamp(3), Stamp { step: 3, time: 7.0 });
    let times = "{\"step\":1,\"seconds\":2.5}\n{\"step\":10,\"train_s\":1}\n{\"step\":15,\"seconds\":4}\n";
    fs::write(run.path().join("timing.jsonl"), times).unwrap();
    let history = TimedHistory::read(&folder, 1000.0);
    assert_eq!([0, 1, 14, 99].map(|step| history.stamp(step).time), [1000.0, 1002.5, 1002.5, 1004.0]);
}

#[test]
fn levels_of_a_name_become_folders_and_edges_have_shapes() {
    let Some(What::GraphDef(bytes)) = head().remove(0).what else { panic!("no graph") };
    let graph = messages::GraphDef::decode(&*bytes).unwrap();
    let [a, c] = graph.node.as_slice() else { panic!("{graph:?}") };
    assert_eq!((a.name.as_str(), c.name.as_str(), c.input.as_slice()), ("a", "b/c", ["a".to_string()].as_slice()));
    let Some(messages::AttributeValue::List(shapes)) = &a.attr["_output_shapes"].value else { panic!("{a:?}") };
    assert_eq!(shapes.shape[0].dim.iter().map(|dim| dim.size).collect::<Vec<_>>(), [-1, 7, 3]);
}
