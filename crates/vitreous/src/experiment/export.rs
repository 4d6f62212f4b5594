//! Event files for TensorBoard from what run folders hold.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::{ExperimentError, load_weights};
use crate::config::difference::{FlatConfig, differing, flat_config};
use crate::data::SplitName;
use crate::evaluate::{Reached, Report};
use crate::record::{Folder, RecordError, Run, Status, seconds_of};
use crate::tensorboard::{
    Event, Stamp, Subject, TimedHistory, VALIDATION_MATRIX, encoded, end, graph, has_events, hyperparameters,
    hyperparameters_event, image, key, read, replace, scalars, tags,
};
use crate::train::{confusion, graph_nodes, weights};

/// Hyperparameters that TensorBoard's table shows without a click.
const FIRST_MAX: usize = 5;

/// An event file that was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// The folder of the run.
    pub run: PathBuf,
    /// The file.
    pub file: PathBuf,
    /// What it lacks, because it is known only during a training, or because a file of the run cannot be read.
    pub missing: Vec<String>,
}

/// Writes event files for TensorBoard: into the run folders, or into folders of the runs' names inside `output`. What a
/// training has written into its event file is kept; scalars of all steps, the final weights, evaluations and
/// hyperparameters are added. The table of runs shows the settings first in which these runs differ.
///
/// Each folder has a result of its own: an error in one run does not concern the others.
pub fn export_tensorboard(
    folders: &[PathBuf],
    output: Option<&Path>,
) -> Vec<(PathBuf, Result<Exported, ExperimentError>)> {
    let settings = |folder: &PathBuf| settings(&Run::open(folder).ok()?).ok();
    let settings: Vec<FlatConfig> = folders.iter().filter_map(settings).collect();
    let mut first = differing(&settings.iter().collect::<Vec<_>>());
    if first.iter().any(|key| key.starts_with("model.")) {
        first.push("model".to_string());
    }
    // Of more, the page would show the first five in the order of the alphabet.
    let first = Some(first.as_slice()).filter(|first| (1..=FIRST_MAX).contains(&first.len()));
    folders.iter().map(|folder| (folder.clone(), export(folder, output, first))).collect()
}

fn settings(run: &Run) -> Result<FlatConfig, ExperimentError> {
    Ok(flat_config(&run.config()?, "config.toml")?)
}

fn export(folder: &Path, output: Option<&Path>, first: Option<&[String]>) -> Result<Exported, ExperimentError> {
    // Into a folder in which a training writes its own event file, no other process may write one.
    let run = if output.is_some() { Run::open(folder)? } else { Run::open_to_train(folder)? };
    let (into, to) = match output {
        Some(output) => {
            let path = output.join(run.name());
            let failed = |error| RecordError::write(&path, &error);
            std::fs::create_dir_all(&path).map_err(failed)?;
            (path.clone(), Folder::open(&path).map_err(failed)?)
        }
        None => (folder.to_path_buf(), run.files().clone()),
    };
    let manifest = run.manifest();
    let started = seconds_of(&manifest.started).unwrap_or(0) as f64;
    let history = TimedHistory::read(run.files(), started);
    let mut missing = Vec::new();
    let mut head = Vec::new();
    match settings(&run) {
        Ok(settings) => {
            let model = manifest.model.as_deref().unwrap_or("-");
            head.push(hyperparameters_event(started, &hyperparameters(&settings, model, first)));
        }
        Err(error) => missing.push(format!("the hyperparameters ({error})")),
    }
    let classifier = run.find_weights(None).map_err(ExperimentError::from);
    let classifier = classifier.and_then(|(_, path)| load_weights(&path, 1));
    match &classifier {
        Ok(classifier) => head.push(graph(started, &graph_nodes(classifier.graph()))),
        Err(error) => missing.push(format!("the model's graph and its weights ({error})")),
    }
    let mut kept = Kept::default();
    let source = if has_events(run.files()) { run.files() } else { &to };
    // A file that cannot be read is written anew.
    let _ = read(source, |bytes, event| {
        kept.take(bytes, &event, &history);
        Ok(())
    });
    if !kept.has("weight_gradient_norm/") {
        missing.push("the norms of the layers' gradients and weights".to_string());
    }
    if !kept.has("samples/") {
        missing.push("sample images".to_string());
    }
    let has_all =
        kept.series.iter().filter(|(series, _)| series == "weights/").count() > 1 || history.history.epochs.len() < 2;
    if !has_all {
        missing.push("the histograms of the weights before the last epoch".to_string());
    }
    // In the order in which a later export finds them.
    let mut events = history.events_without(&kept.steps);
    if let Ok(classifier) = &classifier {
        let step = classifier.metadata().step;
        if !kept.series.contains(&("weights/".to_string(), step)) {
            events.push(weights(history.stamp(step), classifier.graph(), classifier.parameters()));
        }
    }
    events.extend(evaluations(&run, &history, &kept));
    let steps = manifest.results.as_ref().map_or(0, |results| results.steps);
    let is_success = match manifest.status {
        status if status.is_finished() => Some(true),
        Status::Failed => Some(false),
        _ => None,
    };
    let time = manifest.finished.as_deref().and_then(seconds_of).map(|seconds| seconds as f64);
    events.extend(is_success.map(|is_success| end(Stamp { step: steps, time: time.unwrap_or(started) }, is_success)));
    let name = replace(&to, started, |add| {
        head.iter().try_for_each(|event| add(&encoded(event)))?;
        kept.records.iter().try_for_each(|record| add(record))?;
        events.iter().try_for_each(|event| add(&encoded(event)))
    })?;
    Ok(Exported { run: folder.to_path_buf(), file: into.join(name), missing })
}

/// What is kept of a run's event file.
#[derive(Default)]
struct Kept {
    records: Vec<Vec<u8>>,
    /// Steps and epochs whose scalars are among it.
    steps: HashSet<(Subject, u64)>,
    /// Other series, up to the slash, and their steps.
    series: HashSet<(String, u64)>,
}

impl Kept {
    fn take(&mut self, record: Vec<u8>, event: &Event, history: &TimedHistory) {
        let subject = Subject::of(event);
        if !matches!(subject, Subject::Data | Subject::Line | Subject::Epoch) || !history.has(event) {
            return;
        }
        self.steps.extend(key(event));
        let step = event.step.unsigned_abs();
        for tag in tags(event) {
            let series = if tag == VALIDATION_MATRIX { tag } else { &tag[..tag.find('/').map_or(0, |at| at + 1)] };
            self.series.insert((series.to_string(), step));
        }
        self.records.push(record);
    }

    fn has(&self, series: &str) -> bool {
        self.series.iter().any(|(known, _)| known == series)
    }
}

/// Accuracy, loss and confusion matrix of the run's evaluations.
fn evaluations(run: &Run, history: &TimedHistory, kept: &Kept) -> Vec<Event> {
    let mut events = Vec::new();
    let names = [(SplitName::Validation, "val"), (SplitName::Test, "test"), (SplitName::Train, "train")];
    for (split, name) in names {
        let mut steps = HashSet::new();
        for (_, report) in Report::kept(run.folder(), split) {
            let stamp = history.stamp(report.step);
            // One point for each step, also where both weights are of one.
            if !steps.insert(report.step) {
                continue;
            }
            if split == SplitName::Test {
                let values = [("test_acc", report.reached.accuracy()), ("test_loss", report.reached.loss())];
                events.push(scalars(stamp, values));
            }
            let tag = format!("confusion_matrix/{name}");
            if let Reached::Classes(scores) = &report.reached
                && !kept.series.contains(&(tag.clone(), report.step))
                && let Some(picture) = confusion(&scores.confusion, &split.to_string(), &report.data)
            {
                events.push(image(stamp, &tag, &picture));
            }
        }
    }
    events
}
